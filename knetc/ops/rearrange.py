"""Arrays repeated, rolled, cut along diagonals and spread over grids: plain functions over the movement operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.types import Shape
from knetc.ops.apply import Operand, broadcast_node, composite, constant, reshape_node, to_nodes, wrap_like
from knetc.ops.identities import iota
from knetc.ops.logic import equal, greater_equal, less_equal, where
from knetc.ops.movement import (
    concat_node,
    cut_node,
    flip,
    flip_node,
    moveaxis,
    normalize_axis,
    permute_node,
    ravel,
    slice_node,
    swapaxes,
)
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError, UnsupportedError

# --- repetition ------------------------------------------------------------------------------------------------------


@composite()
def tile(x: Operand, reps: int | Sequence[int]) -> Any:
    """``x`` laid side by side so many times along each axis; missing axes are put in front.

    >>> tile(kn.array([1, 2]), 2)  # [1, 2, 1, 2]
    """
    [node] = to_nodes(x)
    each = (int(reps),) if isinstance(reps, (int, np.integer)) else tuple(int(n) for n in reps)
    if any(n < 0 for n in each):
        raise ShapeError(f"tile: reps cannot be negative: {each}")
    each = (1,) * (node.ndim - len(each)) + each
    shape = (1,) * (len(each) - node.ndim) + node.shape
    apart = [k for n in shape for k in (1, n)]
    wide = [k for r, n in zip(each, shape) for k in (r, n)]
    spread = broadcast_node(reshape_node(node, tuple(apart)), tuple(wide))
    return reshape_node(spread, tuple(r * n for r, n in zip(each, shape)))


@composite()
def repeat(x: Operand, repeats: int | Sequence[int], axis: int | None = None) -> Any:
    """Each element of an axis so many times in a row; without ``axis``, each element of ``x`` in C order.

    ``repeats`` is one number for all or a number for each, known when the function is traced.

    >>> repeat(kn.array([1, 2]), 2)  # [1, 1, 2, 2]
    """
    [node] = to_nodes(x)
    if axis is None:
        node, axis = reshape_node(node, (node.type.size,)), 0
    axis = normalize_axis("repeat", axis, node.ndim)
    extent = node.shape[axis]
    try:
        each = np.broadcast_to(np.asarray(repeats, np.int64), (extent,))
    except (TypeError, ValueError):
        raise ShapeError(f"repeat: counts {repeats!r} are neither an int nor {extent} ints") from None
    if (each < 0).any():
        raise ShapeError(f"repeat: counts cannot be negative: {repeats!r}")
    if extent and (each == each[0]).all():
        count = int(each[0])
        shape = (*node.shape[: axis + 1], 1, *node.shape[axis + 1 :])
        wide = (*node.shape[: axis + 1], count, *node.shape[axis + 1 :])
        spread = broadcast_node(reshape_node(node, shape), wide)
        return reshape_node(spread, (*node.shape[:axis], extent * count, *node.shape[axis + 1 :]))
    pieces = [cut_node(node, axis, k, k + 1) for k in np.repeat(np.arange(extent), each).tolist()]
    return concat_node(pieces, axis) if pieces else cut_node(node, axis, 0, 0)


@composite()
def roll(x: Operand, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """Elements moved on by ``shift`` places along axes; those that leave come in again at the other end.

    Without ``axis``, all elements move on in C order.

    >>> roll(kn.array([1, 2, 3]), 1)  # [3, 1, 2]
    """
    [node] = to_nodes(x)
    if axis is None:
        flat = reshape_node(node, (node.type.size,))
        return reshape_node(roll(flat, shift, 0), node.shape)
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, (int, np.integer)) else tuple(shift)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for by, a in zip(shifts, axes):
        a = normalize_axis("roll", a, node.ndim)
        extent = node.shape[a]
        place = -int(by) % extent if extent else 0
        if place:
            node = cut_node(concat_node([node, node], a), a, place, place + extent)  # one program for all shifts
    return node


# --- flips and turns -------------------------------------------------------------------------------------------------


def fliplr(x: Operand) -> Any:
    """``x`` backwards along its second axis. Raises ShapeError for fewer than two axes.

    >>> fliplr(kn.array([[1, 2], [3, 4]]))  # [[2, 1], [4, 3]]
    """
    return flip(x, 1)


def flipud(x: Operand) -> Any:
    """``x`` backwards along its first axis. Raises ShapeError for a scalar.

    >>> flipud(kn.array([[1, 2], [3, 4]]))  # [[3, 4], [1, 2]]
    """
    return flip(x, 0)


@composite()
def rot90(x: Operand, k: int = 1, axes: Sequence[int] = (0, 1)) -> Any:
    """``x`` turned by ``k`` right angles in the plane of two axes, from the first towards the second.

    >>> rot90(kn.array([[1, 2], [3, 4]]))  # [[2, 4], [1, 3]]
    """
    [node] = to_nodes(x)
    if len(axes) != 2:
        raise ShapeError(f"rot90 turns in the plane of two axes, not of {tuple(axes)}")
    a, b = (normalize_axis("rot90", n, node.ndim) for n in axes)
    if a == b:
        raise ShapeError(f"rot90: axes {tuple(axes)} are the same")
    match k % 4:
        case 0:
            return node
        case 1:
            return swapaxes(flip_node(node, (b,)), a, b)
        case 2:
            return flip_node(node, (a, b))
        case _:
            return flip_node(swapaxes(node, a, b), (b,))


def rollaxis(x: Operand, axis: int, start: int = 0) -> Any:
    """``x`` with an axis put before the one that is at ``start`` now: see ``moveaxis``.

    >>> rollaxis(kn.ones((2, 3, 4)), 2)  # shape (4, 2, 3)
    """
    [node] = to_nodes(x)
    source = normalize_axis("rollaxis", axis, node.ndim)
    place = node.ndim if start == node.ndim else normalize_axis("rollaxis", start, node.ndim)
    return moveaxis(x, source, place - 1 if place > source else place)


# --- diagonals and triangles -----------------------------------------------------------------------------------------


@composite()
def diagonal(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The elements whose second index is the first plus ``offset``; they become the last axis.

    >>> diagonal(kn.array([[1, 2], [3, 4]]))  # [1, 4]
    """
    [node] = to_nodes(x)
    if node.ndim < 2:
        raise ShapeError(f"diagonal: an array of at least 2 dimensions is needed, not {node.type}")
    pair = (normalize_axis("diagonal", axis1, node.ndim), normalize_axis("diagonal", axis2, node.ndim))
    if pair[0] == pair[1]:
        raise ShapeError(f"diagonal: axes {axis1} and {axis2} are the same")
    node = permute_node(node, (*(k for k in range(node.ndim) if k not in pair), *pair))
    rows, columns = node.shape[-2:]
    count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    lead = node.shape[:-2]
    if not count:
        return constant(0, node.dtype, (*lead, 0))
    first = offset if offset >= 0 else -offset * columns
    flat = reshape_node(node, (*lead, rows * columns))
    starts, steps = (*[0] * len(lead), first), (*[1] * len(lead), columns + 1)
    return slice_node(flat, starts, (*lead, first + (count - 1) * (columns + 1) + 1), steps)


@composite()
def diag(x: Operand, k: int = 0) -> Any:
    """Of a matrix, its ``k``-th diagonal; of a vector, the matrix that has it there and zeros elsewhere.

    >>> diag(kn.array([1, 2]))  # [[1, 0], [0, 2]]
    """
    [node] = to_nodes(x)
    if node.ndim == 2:
        return diagonal(node, k)
    if node.ndim != 1:
        raise ShapeError(f"diag takes a vector or a matrix, not {node.type}; use diagonal")
    n = node.shape[0] + abs(k)
    before = constant(0, node.dtype, (max(-k, 0),))
    after = constant(0, node.dtype, (max(k, 0),))
    rows = concat_node([before, node, after], 0) if k else node
    spread = broadcast_node(reshape_node(rows, (n, 1)), (n, n))
    return where(equal(past_diagonal((n, n), k), 0), spread, 0)


def diagflat(x: Operand, k: int = 0) -> Any:
    """The matrix that has all elements of ``x``, in C order, on its ``k``-th diagonal and zeros elsewhere.

    >>> diagflat(kn.array([[1, 2]]))  # [[1, 0], [0, 2]]
    """
    return diag(ravel(x), k)


def past_diagonal(shape: Shape, k: int) -> Node:
    """How many places each element of matrices is to the right of the ``k``-th diagonal, as int64."""
    rows, columns = shape[-2:]
    k = max(-rows, min(k, columns))  # further out there are no elements
    column, row = (iota(dtypes.i64, shape, len(shape) - place) for place in (1, 2))
    result: Node = column - row - k
    return result


@composite()
def tril(x: Operand, k: int = 0) -> Any:
    """Matrices (the last two axes) with zeros above the ``k``-th diagonal.

    >>> tril(kn.ones((2, 2)))  # [[1, 0], [1, 1]]
    """
    return _triangle("tril", x, k, less_equal)


@composite()
def triu(x: Operand, k: int = 0) -> Any:
    """Matrices (the last two axes) with zeros below the ``k``-th diagonal.

    >>> triu(kn.ones((2, 2)))  # [[1, 1], [0, 1]]
    """
    return _triangle("triu", x, k, greater_equal)


def _triangle(name: str, x: Operand, k: int, side: Any) -> Any:
    [node] = to_nodes(x)
    if node.ndim < 2:
        raise ShapeError(f"{name}: an array of at least 2 dimensions is needed, not {node.type}")
    return where(side(past_diagonal(node.shape, k), 0), node, constant(0, node.dtype))


@composite()
def resize(x: Operand, new_shape: int | Sequence[int]) -> Any:
    """The elements of ``x`` in C order in another shape: repeated where it is larger, cut off where it is smaller.

    >>> resize(kn.array([1, 2]), (2, 3))  # [[1, 2, 1], [2, 1, 2]]
    """
    [node] = to_nodes(x)
    shape = (new_shape,) if isinstance(new_shape, int) else tuple(new_shape)
    size, count = node.type.size, math.prod(shape)
    if not size or not count:
        return constant(0, node.dtype, shape)
    flat = reshape_node(node, (size,))
    times = -(-count // size)
    long = (
        concat_node([flat] * times, 0)
        if times < 8
        else reshape_node(broadcast_node(reshape_node(flat, (1, size)), (times, size)), (times * size,))
    )
    return reshape_node(cut_node(long, 0, 0, count), shape)


# --- powers and grids ----------------------------------------------------------------------------------------------


@composite()
def vander(x: Operand, columns: int | None = None, *, increasing: bool = False) -> Any:
    """The powers of the elements of a vector: column by column, from the highest down to 0 unless ``increasing``.

    >>> vander(kn.array([1.0, 2.0]), 3)  # [[1, 1, 1], [4, 2, 1]]
    """
    [node] = to_nodes(x)
    if node.ndim != 1:
        raise ShapeError(f"vander takes a vector, not {node.type}")
    count = node.shape[0] if columns is None else int(columns)
    power = constant(1, node.dtype, node.shape)
    powers = []
    for _ in range(count):
        powers.append(reshape_node(power, (*node.shape, 1)))
        power = power * node
    if not powers:
        return constant(0, node.dtype, (*node.shape, 0))
    return concat_node(powers if increasing else powers[::-1], 1)


def meshgrid(*vectors: Operand, indexing: str = "xy", sparse: bool = False) -> list[Any]:
    """The coordinates of a grid: each vector spread over its axis of the grid, the first two exchanged for "xy".

    With ``sparse`` they are left to broadcast: the other axes are of extent 1.

    >>> x, y = meshgrid(kn.arange(3), kn.arange(2))  # both of shape (2, 3)
    """
    if indexing not in ("xy", "ij"):
        raise UnsupportedError(f'meshgrid: indexing is "xy" or "ij", not {indexing!r}')
    nodes = [reshape_node(n, (n.type.size,)) for n in to_nodes(*vectors)]
    order = list(range(len(nodes)))
    if indexing == "xy" and len(nodes) > 1:
        order[0], order[1] = 1, 0
    shape = [0] * len(nodes)
    for node, axis in zip(nodes, order):
        shape[axis] = node.type.size
    spread = []
    for node, axis in zip(nodes, order):
        thin = tuple(n if k == axis else 1 for k, n in enumerate(shape))
        placed = reshape_node(node, thin)
        spread.append(wrap_like(vectors, placed if sparse else broadcast_node(placed, tuple(shape))))
    return spread


__all__ = [
    "diag", "diagflat", "diagonal", "fliplr", "flipud", "meshgrid", "repeat", "resize", "roll", "rollaxis", "rot90",
    "tile", "tril", "triu", "vander",
]  # fmt: skip
