"""Functions that assign to the array they are given: NumPy's that do, and Knet's that end in ``!``.

Arrays are values: nobody else who holds the same numbers sees the assignment. In compiled functions they are part of
the program.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from knetc.arrays import ArrayLike
from knetc.creation import arange
from knetc.ops import random
from knetc.ops.apply import Operand, is_scalar, reshape_node, to_nodes, wrap_like
from knetc.ops.indexed import gather
from knetc.ops.logic import to_bool
from knetc.ops.logic import where as choose
from knetc.ops.movement import normalize_axis
from knetc.ops.scan import cumsum
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError, UnsupportedError


def _target(name: str, x: Any) -> ArrayLike:
    if not isinstance(x, ArrayLike):
        raise UnsupportedError(
            f"{name} assigns to an Array or Param, not to a {type(x).__name__}; for a NumPy array write "
            "target[...] = numpy.asarray(value)"
        )
    return x


def copyto(x: Any, value: Operand, where: Operand = True) -> None:
    """``x[...] = value``, where ``where`` holds; ``value`` is cast to the dtype of ``x`` and broadcast to its shape.

    >>> y = kn.zeros(2); kn.copyto(y, kn.array([1.0, 2.0]))
    """
    target = _target("copyto", x)
    target[...] = value if where is True else choose(where, _like(target, value), target)


def _like(x: ArrayLike, value: Operand) -> Any:
    """A value of the dtype of ``x``."""
    if is_scalar(value):
        return value
    return value.astype(x.dtype) if isinstance(value, ArrayLike) else np.asarray(value).astype(x.dtype)


def fill(x: Any, value: Operand) -> Any:
    """``x[...] = value``, Knet's ``fill!``; returns ``x``.

    >>> fill(kn.zeros(2), 3.0)  # [3, 3]
    """
    _target("fill", x)[...] = value
    return x


def place(x: Any, mask: Operand, values: Operand) -> None:
    """``x[mask] = values``, one after another in C order, from the front again where they are too few.

    >>> y = kn.zeros(3); kn.place(y, kn.array([True, False, True]), kn.array([1.0, 2.0]))
    """
    target = _target("place", x)
    [chosen], [row] = to_nodes(mask), to_nodes(values)
    if chosen.shape != target.shape or not row.type.size:
        raise ShapeError(f"place: a mask {chosen.type} and values {row.type} for an array of shape {target.shape}")
    flat = reshape_node(chosen, (chosen.type.size,))
    rank = (cumsum(to_bool(flat), 0) - 1) % row.type.size
    found = reshape_node(gather(reshape_node(row, (row.type.size,)), [rank]), chosen.shape)
    target[...] = choose(mask, _like(target, wrap_like((target, mask, values), found)), target)


def fill_diagonal(x: Any, value: Operand, wrap: bool = False) -> None:
    """Assign to the diagonal of a matrix, or to the elements whose indices are all equal: a number, or one for each.

    With ``wrap``, the diagonal of a tall matrix begins again below. Raises ShapeError for a vector, and for more than
    two axes of different extents.

    >>> y = kn.zeros((2, 2)); kn.fill_diagonal(y, 1.0)
    """
    target = _target("fill_diagonal", x)
    if target.ndim < 2:
        raise ShapeError(f"fill_diagonal: an array of at least 2 dimensions is needed, not {target.type}")
    if target.ndim > 2 and len(set(target.shape)) > 1:
        raise ShapeError(f"fill_diagonal: more than 2 axes must be of one extent, not {target.shape}")
    step = target.shape[1] + 1 if target.ndim == 2 else sum(target.shape[0] ** k for k in range(target.ndim))
    end = None if wrap or target.ndim > 2 else target.shape[1] * target.shape[1]
    flat = target.reshape(-1) if target.size else target.reshape(0)
    count = len(range(flat.size)[:end:step])
    if not is_scalar(value) and (given := to_nodes(value)[0]).ndim:  # repeated, or as much as there is room for
        row = np.arange(count) % given.type.size
        value = _flat(value)[row]
    flat[:end:step] = value
    target[...] = flat.reshape(target.shape)


def _flat(value: Any) -> Any:
    return value.reshape(-1) if isinstance(value, ArrayLike) else np.asarray(value).reshape(-1)


def put_along_axis(x: Any, indices: Operand, values: Operand, axis: int | None = -1) -> None:
    """Assign to the places that ``take_along_axis`` reads: for each of ``indices`` the one along the axis it names.

    ``indices`` has as many axes as ``x`` (one, if ``axis`` is None: then ``x`` is taken in C order), and both
    broadcast but for the axis. Of equal places the last one counts. Raises LabelError for indices out of range.

    >>> y = kn.zeros((2, 2)); kn.put_along_axis(y, kn.array([[1], [0]]), 5.0, 1)
    """
    target = _target("put_along_axis", x)
    if axis is None:
        flat = target.reshape(-1)
        flat[indices] = values
        target[...] = flat.reshape(target.shape)
        return
    [places] = to_nodes(indices)
    place = normalize_axis("put_along_axis", axis, target.ndim)
    if places.ndim != target.ndim:
        raise ShapeError(f"put_along_axis: {places.type} indices for {target.type}; give both as many dimensions")
    key: list[Any] = []
    for k, extent in enumerate(target.shape):
        along = [1] * target.ndim
        along[k] = extent
        key.append(indices if k == place else arange(extent, device=target.device).reshape(along))
    target[tuple(key)] = values


def put(x: Any, indices: Operand, values: Operand) -> None:
    """Assign to places of ``x`` in C order; ``values`` broadcast to the shape of ``indices``.

    >>> y = kn.zeros((2, 2)); kn.put(y, [0, 3], 1.0)
    """
    target = _target("put", x)
    flat = target.reshape(-1)
    flat[indices] = values
    target[...] = flat.reshape(target.shape)


def putmask(x: Any, mask: Operand, values: Operand) -> None:
    """Assign ``values``, which broadcast to the shape of ``x``, where a mask of that shape holds.

    >>> y = kn.arange(3); kn.putmask(y, y > 0, 9)
    """
    target = _target("putmask", x)
    given = mask if hasattr(mask, "dtype") else np.asarray(mask)
    if given.dtype != dtypes.boolean:
        raise DtypeError(f"putmask: the mask is of bools, not {given.dtype}")
    copyto(target, values, given)


def rand_(x: Any) -> Any:
    """Fill ``x`` with uniform random numbers in [0, 1), Knet's ``rand!``; returns ``x``.

    >>> rand_(kn.zeros(3))  # shape (3,)
    """
    return fill(x, random.rand(_target("rand_", x).shape, dtype=x.dtype))


def randn_(x: Any) -> Any:
    """Fill ``x`` with random numbers of the standard normal distribution, Knet's ``randn!``; returns ``x``.

    >>> randn_(kn.zeros(3))  # shape (3,)
    """
    return fill(x, random.randn(_target("randn_", x).shape, dtype=x.dtype))


def axpy_(a: Operand, x: Operand, y: Any) -> Any:
    """``y += a * x`` in place, Knet's ``axpy!``; returns ``y``.

    >>> y = kn.ones(2); axpy_(2, kn.ones(2), y)  # [3, 3]
    """
    y[...] = y + x * a
    return y


def lmul_(a: Operand, x: Any) -> Any:
    """``x = a * x`` in place, Knet's ``lmul!``; returns ``x``.

    >>> x = kn.ones(2); lmul_(3, x)  # [3, 3]
    """
    x[...] = x * a
    return x


def rmul_(x: Any, a: Operand) -> Any:
    """``x = x * a`` in place, Knet's ``rmul!``; returns ``x``.

    >>> x = kn.ones(2); rmul_(x, 3)  # [3, 3]
    """
    return lmul_(a, x)


__all__ = [
    "axpy_", "copyto", "fill", "fill_diagonal", "lmul_", "place", "put", "put_along_axis", "putmask", "rand_",
    "randn_", "rmul_",
]  # fmt: skip
