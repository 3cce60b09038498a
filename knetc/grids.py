"""Places and numbers in a grid: index vectors that span one, those of triangles and diagonals, and NumPy's short forms.

How large they are follows from Python numbers and shapes alone, so they can be made anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from knetc import selection
from knetc.arrays import Array, ArrayLike, array
from knetc.ir.ambient import ambient
from knetc.ir.types import Shape
from knetc.ops.apply import Operand, common_dtype
from knetc.ops.joining import concatenate
from knetc.ops.movement import reshape
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError, UnsupportedError


def broadcast_shapes(*shapes: int | Sequence[int]) -> Shape:
    """The shape that arrays of these shapes have together. Raises ShapeError if they do not broadcast.

    >>> kn.broadcast_shapes((3, 1), (4,))
    (3, 4)
    """
    try:
        return np.broadcast_shapes(*(s if isinstance(s, int) else tuple(s) for s in shapes))
    except ValueError as error:
        raise ShapeError(f"broadcast_shapes: {error}") from None


# --- vectors that span a grid ----------------------------------------------------------------------------------------


def _own(values: np.ndarray[Any, Any]) -> Array:
    """Numbers that Python knows, floats in the default dtype."""
    return array(values.astype(ambient().dtype) if values.dtype.kind == "f" else values)


def ix_(*places: Operand) -> tuple[Array, ...]:
    """Vectors of places (or masks) shaped so that ``x[ix_(rows, columns)]`` takes all of their combinations.

    Raises ShapeError for what is no vector; masks are read at once, which raises UnsupportedError while tracing.

    >>> kn.eye(3)[kn.ix_([0, 2], [0, 1])]  # [[1, 0], [0, 0]]
    """
    spread = []
    for axis, given in enumerate(places):
        one = given if isinstance(given, ArrayLike) else array(np.asarray(given) if len(given) else np.zeros(0, int))
        if one.ndim != 1:
            raise ShapeError(f"ix_ takes vectors, not one of shape {one.shape}; use x.ravel()")
        if one.dtype == dtypes.boolean:
            [one] = selection.nonzero(one)
        spread.append(reshape(one, tuple(-1 if k == axis else 1 for k in range(len(places)))))
    return tuple(spread)


class _Grid:
    """What ``mgrid`` and ``ogrid`` are: slices in brackets give the numbers of a grid."""

    def __init__(self, doc: str, made: Callable[[Any], Any]) -> None:
        self.__doc__ = doc
        self._made = made

    def __getitem__(self, key: Any) -> Any:
        return self._made(key)


def _dense(key: Any) -> Array:
    return _own(np.mgrid[key])


def _open(key: Any) -> Any:
    made = np.ogrid[key]
    return tuple(map(_own, made)) if isinstance(made, (tuple, list)) else _own(made)


mgrid = _Grid(
    """The numbers of a grid, one array for each slice in brackets, stacked; a step of ``5j`` asks for five numbers.

    >>> kn.mgrid[0:2, 0:3]  # shape (2, 2, 3)
    """,
    _dense,
)
ogrid = _Grid(
    """The numbers along each axis of a grid, one array for each slice in brackets, in shapes that broadcast to it.

    >>> kn.ogrid[0:2, 0:1:3j][1]  # [[0, 0.5, 1]]
    """,
    _open,
)


# --- pieces in brackets ----------------------------------------------------------------------------------------------


def _piece(item: Any) -> Any:
    """A part of ``r_``: the numbers of a slice, one number, or an array."""
    if isinstance(item, str):
        raise UnsupportedError(
            f"r_ and c_ take slices, numbers and arrays, not {item!r}; use kn.stack or kn.concatenate"
        )
    if isinstance(item, slice):
        return _own(np.r_[item])
    if isinstance(item, (bool, int, float)):
        return array([item])
    made = item if isinstance(item, ArrayLike) else array(item)
    return made if made.ndim else reshape(made, (1,))


def _in_a_row(key: Any) -> Any:
    pieces = [_piece(item) for item in (key if isinstance(key, tuple) else (key,))]
    dtype = common_dtype(*pieces)
    return concatenate([piece.astype(dtype) for piece in pieces], 0)


def _as_columns(key: Any) -> Any:
    pieces = [_piece(item) for item in (key if isinstance(key, tuple) else (key,))]
    dtype = common_dtype(*pieces)
    return concatenate([reshape(p, (-1, 1) if p.ndim == 1 else p.shape).astype(dtype) for p in pieces], -1)


r_ = _Grid(
    """Slices, numbers and arrays in brackets, put together along the first axis.

    >>> kn.r_[1:3, 0, kn.array([7, 8])]  # [1, 2, 0, 7, 8]
    """,
    _in_a_row,
)
c_ = _Grid(
    """Slices, numbers and arrays in brackets, vectors as columns, put together along the last axis.

    >>> kn.c_[1:3, kn.array([7, 8])]  # [[1, 7], [2, 8]]
    """,
    _as_columns,
)
s_, index_exp = np.s_, np.index_exp


# --- triangles and diagonals -----------------------------------------------------------------------------------------


def _arrays(places: tuple[Any, ...]) -> tuple[Array, ...]:
    return tuple(array(one) for one in places)


def _matrix_shape(name: str, x: Operand) -> Shape:
    shape = np.shape(x)
    if len(shape) != 2:
        raise ShapeError(f"{name} takes a matrix, not shape {shape}")
    return shape


def diag_indices(n: int, ndim: int = 2) -> tuple[Array, ...]:
    """The places (int64) on the main diagonal of an array of ``ndim`` axes, ``n`` long each.

    >>> kn.diag_indices(2)[0]  # [0, 1]
    """
    return _arrays(np.diag_indices(n, ndim))


def diag_indices_from(x: Operand) -> tuple[Array, ...]:
    """The places on the main diagonal of ``x``, whose axes (two at least) are equally long, else ShapeError is raised.

    >>> kn.diag_indices_from(kn.eye(2))[0]  # [0, 1]
    """
    shape = np.shape(x)
    if len(shape) < 2 or len(set(shape)) > 1:
        raise ShapeError(f"diag_indices_from takes an array with equally long axes, two at least, not shape {shape}")
    return diag_indices(shape[0], len(shape))


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Array, ...]:
    """The places (int64) on the ``k``-th diagonal and below of a matrix [n, m], m being n by default.

    >>> kn.tril_indices(2)[0]  # [0, 1, 1]
    """
    return _arrays(np.tril_indices(n, k, m))


def tril_indices_from(x: Operand, k: int = 0) -> tuple[Array, ...]:
    """The places on the ``k``-th diagonal and below of a matrix ``x``.

    >>> kn.tril_indices_from(kn.eye(2))[0]  # [0, 1, 1]
    """
    rows, columns = _matrix_shape("tril_indices_from", x)
    return tril_indices(rows, k, columns)


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Array, ...]:
    """The places (int64) on the ``k``-th diagonal and above of a matrix [n, m], m being n by default.

    >>> kn.triu_indices(2)[0]  # [0, 0, 1]
    """
    return _arrays(np.triu_indices(n, k, m))


def triu_indices_from(x: Operand, k: int = 0) -> tuple[Array, ...]:
    """The places on the ``k``-th diagonal and above of a matrix ``x``.

    >>> kn.triu_indices_from(kn.eye(2))[0]  # [0, 0, 1]
    """
    rows, columns = _matrix_shape("triu_indices_from", x)
    return triu_indices(rows, k, columns)


def mask_indices(n: int, mask_func: Callable[..., Any], k: Any = 0) -> tuple[Array, ...]:
    """The places that ``mask_func(ones, k)``, such as ``kn.triu``, leaves in a matrix [n, n]. It is computed at once.

    >>> kn.mask_indices(2, kn.triu)[0]  # [0, 0, 1]
    """
    return selection.nonzero(mask_func(array(np.ones((n, n), np.int64)), k))


__all__ = [
    "broadcast_shapes", "c_", "diag_indices", "diag_indices_from", "index_exp", "ix_", "mask_indices", "mgrid", "ogrid",
    "r_", "s_", "tril_indices", "tril_indices_from", "triu_indices", "triu_indices_from",
]  # fmt: skip
