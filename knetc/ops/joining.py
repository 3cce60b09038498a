"""Arrays joined, stacked and cut apart: plain functions over the movement operations."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    cast_node,
    common_dtype,
    composite,
    is_scalar,
    reshape_node,
    scalar_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.movement import Ints, concat_node, cut_node, normalize_axes, normalize_axis, pad_node
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import LabelError, ShapeError

# --- at least so many axes -------------------------------------------------------------------------------------------


def _each(arrays: tuple[Operand, ...], shape: Any) -> Any:
    """Every operand reshaped; a single one is not put into a list, as with NumPy."""
    made = [wrap_like((a,), reshape_node(n, shape(n.shape))) for a, n in zip(arrays, to_nodes(*arrays))]
    return made[0] if len(made) == 1 else tuple(made)


def atleast_1d(*arrays: Operand) -> Any:
    """Arrays with one axis at least: a scalar becomes a row of one. Several arrays give a tuple.

    >>> atleast_1d(kn.array(3.0))  # [3]
    """
    return _each(arrays, lambda shape: shape or (1,))


def atleast_2d(*arrays: Operand) -> Any:
    """Arrays with two axes at least: a vector becomes a matrix of one row. Several arrays give a tuple.

    >>> atleast_2d(kn.ones(3))  # shape (1, 3)
    """
    return _each(arrays, lambda shape: (1,) * (2 - len(shape)) + shape)


def atleast_3d(*arrays: Operand) -> Any:
    """Arrays with three axes at least: (N,) becomes (1, N, 1), (M, N) becomes (M, N, 1). Several give a tuple.

    >>> atleast_3d(kn.ones((2, 3)))  # shape (2, 3, 1)
    """

    def shape(of: Ints) -> Ints:
        return of if len(of) > 2 else (*of, 1) if len(of) == 2 else (1, *(of or (1,)), 1)

    return _each(arrays, shape)


# --- joining ---------------------------------------------------------------------------------------------------------


def _joined(name: str, arrays: Sequence[Operand], wanted: Any = None) -> list[Node]:
    if not len(arrays):
        raise ShapeError(f"{name} needs at least one array")
    dtype = common_dtype(*arrays) if wanted is None else dtypes.as_dtype(wanted)
    return [scalar_node(a, dtype) if is_scalar(a) else cast_node(n, dtype) for a, n in zip(arrays, to_nodes(*arrays))]


def concat(arrays: Sequence[Operand], axis: int | None = 0, *, dtype: Any = None) -> Any:
    """Arrays joined along an axis that they have; ``axis=None`` joins all their elements. Dtypes are promoted.

    Raises ShapeError if the other extents differ.

    >>> concat([kn.ones((2, 3)), kn.zeros((1, 3))])  # shape (3, 3)
    """
    nodes = _joined("concat", arrays, dtype)
    if axis is None:
        nodes, axis = [reshape_node(n, (n.type.size,)) for n in nodes], 0
    axis = normalize_axis("concat", axis, nodes[0].ndim)
    return wrap_like(tuple(arrays), concat_node(nodes, axis))


concatenate = concat


def cat1d(*arrays: Operand) -> Any:
    """All elements of all arrays in one row, in C order.

    >>> cat1d(kn.ones((2, 2)), kn.zeros(3))  # shape (7,)
    """
    return concat(arrays, None)


def stack(arrays: Sequence[Operand], axis: int = 0, *, dtype: Any = None) -> Any:
    """Arrays of one shape joined along a new axis; raises ShapeError if their shapes differ.

    >>> stack([kn.ones(3), kn.zeros(3)])  # shape (2, 3)
    """
    nodes = _joined("stack", arrays, dtype)
    shape = nodes[0].shape
    if any(n.shape != shape for n in nodes):
        raise ShapeError(f"stack takes arrays of one shape, not {' and '.join(str(n.shape) for n in nodes)}")
    place = normalize_axis("stack", axis, len(shape) + 1)
    parts = [reshape_node(n, (*shape[:place], 1, *shape[place:])) for n in nodes]
    return wrap_like(tuple(arrays), concat_node(parts, place))


def cat(arrays: Sequence[Operand], axis: int | Sequence[int] = 0) -> Any:
    """Arrays joined along an axis; along several axes at once they stand as blocks on the diagonal, zeros elsewhere.

    Knet's ``cat``, whose ``dims`` it calls ``axis``.

    >>> cat([kn.ones((1, 1)), kn.ones((1, 1))], axis=(0, 1))  # [[1, 0], [0, 1]]
    """
    if isinstance(axis, (int, np.integer)):
        return concat(arrays, int(axis))
    nodes = _joined("cat", arrays)
    axes = normalize_axes("cat", axis, nodes[0].ndim)
    total = [builtins.sum(n.shape[k] for n in nodes) if k in axes else None for k in range(nodes[0].ndim)]
    before = [0] * nodes[0].ndim
    result: Node | None = None
    for node in nodes:
        if node.ndim != len(before):
            raise ShapeError(f"cat takes arrays of as many axes each, not {' and '.join(str(n.shape) for n in nodes)}")
        high = tuple(0 if t is None else t - b - n for t, b, n in zip(total, before, node.shape))
        placed = pad_node(node, tuple(before), high)
        if result is not None and result.shape != placed.shape:
            raise ShapeError(f"cat: shapes {' and '.join(str(n.shape) for n in nodes)} may differ along {axes} only")
        result = placed if result is None else result + placed
        before = [b if t is None else b + n for t, b, n in zip(total, before, node.shape)]
    return wrap_like(tuple(arrays), result)  # type: ignore[arg-type]


def vstack(arrays: Sequence[Operand]) -> Any:
    """Arrays on top of each other: joined along the first axis, vectors as rows.

    >>> vstack([kn.ones(3), kn.zeros(3)])  # shape (2, 3)
    """
    return concat(_several(atleast_2d, arrays), 0)


def hstack(arrays: Sequence[Operand]) -> Any:
    """Arrays side by side: joined along the second axis, vectors along their only one.

    >>> hstack([kn.ones((2, 1)), kn.zeros((2, 3))])  # shape (2, 4)
    """
    wide = _several(atleast_1d, arrays)
    return concat(wide, 0 if wide and wide[0].ndim == 1 else 1)


def dstack(arrays: Sequence[Operand]) -> Any:
    """Arrays behind each other: joined along the third axis.

    >>> dstack([kn.ones((2, 3)), kn.zeros((2, 3))])  # shape (2, 3, 2)
    """
    return concat(_several(atleast_3d, arrays), 2)


def column_stack(arrays: Sequence[Operand]) -> Any:
    """Vectors as the columns of a matrix; matrices are joined along their second axis. Knet's ``hcat``.

    >>> column_stack([kn.array([1, 2]), kn.array([3, 4])])  # [[1, 3], [2, 4]]
    """

    def column(a: Operand) -> Any:
        [node] = to_nodes(a)
        return wrap_like((a,), reshape_node(node, (node.type.size, 1)) if node.ndim < 2 else node)

    return concat([column(a) for a in arrays], 1)


hcat = column_stack


def vcat(*arrays: Operand) -> Any:
    """Arrays joined along their first axis, Knet's ``vcat``: vectors stay vectors.

    >>> vcat(kn.array([1, 2]), kn.array([3]))  # [1, 2, 3]
    """
    return concat(_several(atleast_1d, arrays), 0)


def _several(function: Any, arrays: Sequence[Operand]) -> list[Any]:
    return [function(a) for a in arrays]


def block(arrays: Any) -> Any:
    """A matrix put together from nested lists of blocks: the innermost lists are joined along the last axis.

    >>> block([[kn.ones((2, 2)), kn.zeros((2, 1))], [kn.zeros((1, 2)), 5.0]])  # shape (3, 3)
    """
    depth, here = 0, arrays
    while isinstance(here, list):
        if not here:
            raise ShapeError("block: a list of blocks cannot be empty")
        depth, here = depth + 1, here[0]
    leaves = list(_leaves(arrays, depth))
    dtype = common_dtype(*leaves)
    width = builtins.max(depth, *(0 if is_scalar(a) else to_nodes(a)[0].ndim for a in leaves), 0)

    def joined(value: Any, level: int) -> Node:
        if level < depth:
            return concat_node([joined(item, level + 1) for item in value], width - depth + level)
        node = scalar_node(value, dtype) if is_scalar(value) else cast_node(to_nodes(value)[0], dtype)
        return reshape_node(node, (1,) * (width - node.ndim) + node.shape)

    return wrap_like(tuple(leaves), joined(arrays, 0))


def _leaves(arrays: Any, depth: int) -> Any:
    """The blocks in nested lists; raises ShapeError unless all lie equally deep."""
    if isinstance(arrays, list) != (depth > 0):
        raise ShapeError("block: all blocks lie in as many nested lists")
    if not depth:
        yield arrays
        return
    for item in arrays:
        yield from _leaves(item, depth - 1)


def append(x: Operand, values: Operand, axis: int | None = None) -> Any:
    """``x`` with ``values`` after it along an axis; all elements of both in a row by default.

    >>> append(kn.array([1, 2]), 3)  # [1, 2, 3]
    """
    return concat([x, values], axis)


# --- cutting apart ---------------------------------------------------------------------------------------------------


def _counted(sections: Any) -> Any:
    """A number of sections as Python's int; indices stay what they are."""
    several = isinstance(sections, Sequence) or np.ndim(sections) > 0
    return sections if several else int(sections)


def split(x: Operand, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """``x`` cut along an axis into equal parts, or before the given indices.

    Raises ShapeError if the extent cannot be divided into so many equal parts.

    >>> a, b = split(kn.arange(6), 2)  # [0, 1, 2] and [3, 4, 5]
    """
    [node] = to_nodes(x)
    axis = normalize_axis("split", axis, node.ndim)
    extent = node.shape[axis]
    sections = _counted(sections)
    if isinstance(sections, int):
        if sections < 1 or extent % sections:
            raise ShapeError(f"split: an axis of extent {extent} cannot be divided into {sections} equal parts")
        step = extent // sections
        cuts = [step * k for k in range(1, sections)]
    else:
        cuts = [range(extent)[: int(k)].stop for k in sections]
    bounds = [0, *cuts, extent]
    return [wrap_like((x,), cut_node(node, axis, a, max(a, b))) for a, b in pairwise(bounds)]


def array_split(x: Operand, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """``x`` cut along an axis into parts whose extents differ by one at most, the longer ones first, or at indices.

    >>> [part.shape[0] for part in array_split(kn.arange(7), 3)]  # [3, 2, 2]
    """
    sections = _counted(sections)
    if not isinstance(sections, int):
        return split(x, sections, axis)
    [node] = to_nodes(x)
    if sections < 1:
        raise ShapeError(f"array_split: there must be at least 1 part, not {sections}")
    each, more = divmod(node.shape[normalize_axis("array_split", axis, node.ndim)], sections)
    return split(x, [each * k + builtins.min(k, more) for k in range(1, sections)], axis)


def hsplit(x: Operand, sections: int | Sequence[int]) -> list[Any]:
    """``x`` cut along its second axis (of a vector its only one): see ``split``.

    >>> left, right = hsplit(kn.ones((2, 4)), 2)  # both of shape (2, 2)
    """
    return split(x, sections, 0 if to_nodes(x)[0].ndim == 1 else 1)


def vsplit(x: Operand, sections: int | Sequence[int]) -> list[Any]:
    """``x`` cut along its first axis: see ``split``. Raises ShapeError for a vector.

    >>> top, bottom = vsplit(kn.ones((4, 2)), 2)  # both of shape (2, 2)
    """
    return split(_of_axes("vsplit", x, 2), sections, 0)


def dsplit(x: Operand, sections: int | Sequence[int]) -> list[Any]:
    """``x`` cut along its third axis: see ``split``. Raises ShapeError for fewer than three axes.

    >>> a, b = dsplit(kn.ones((2, 2, 4)), 2)  # both of shape (2, 2, 2)
    """
    return split(_of_axes("dsplit", x, 3), sections, 2)


def _of_axes(name: str, x: Operand, count: int) -> Operand:
    [node] = to_nodes(x)
    if node.ndim < count:
        raise ShapeError(f"{name}: an array of at least {count} dimensions is needed, not {node.type}")
    return x


def unstack(x: Operand, axis: int = 0) -> tuple[Any, ...]:
    """The parts of ``x`` along an axis, each without it: what ``stack`` puts together.

    >>> a, b = unstack(kn.array([[1, 2], [3, 4]]))  # [1, 2] and [3, 4]
    """
    [node] = to_nodes(x)
    place = normalize_axis("unstack", axis, node.ndim)
    rest = (*node.shape[:place], *node.shape[place + 1 :])
    return tuple(wrap_like((x,), reshape_node(cut_node(node, place, k, k + 1), rest)) for k in range(node.shape[place]))


# --- elements taken out and put in -----------------------------------------------------------------------------------


@composite()
def delete(x: Operand, places: Any, axis: int | None = None) -> Any:
    """``x`` without the elements at places along an axis (of all in a row, by default): an int, a slice, ints, bools.

    The places are known when the function is traced.

    >>> delete(kn.array([1, 2, 3, 4]), [0, 2])  # [2, 4]
    """
    [node] = to_nodes(x)
    if axis is None:
        node, axis = reshape_node(node, (node.type.size,)), 0
    axis = normalize_axis("delete", axis, node.ndim)
    extent = node.shape[axis]
    if not isinstance(places, (int, builtins.slice)):
        places = np.asarray(places)
        places = places if places.size else places.astype(np.int64)
    kept = np.delete(np.arange(extent), places)
    return _runs(node, axis, kept.tolist())


def _runs(node: Node, axis: int, places: list[int]) -> Node:
    """The elements at ascending places, as slices joined."""
    breaks = [0, *(k for k in range(1, len(places)) if places[k] != places[k - 1] + 1), len(places)]
    runs = [(places[a], places[b - 1] + 1) for a, b in pairwise(breaks) if b > a]
    if not runs:
        return cut_node(node, axis, 0, 0)
    return concat_node([cut_node(node, axis, a, b) for a, b in runs], axis)


@composite()
def insert(x: Operand, place: int | Sequence[int], values: Operand, axis: int | None = None) -> Any:
    """``x`` with ``values`` put in before a place of an axis (of all elements in a row, by default).

    ``values`` broadcast to one element of the axis or to several of them; where there are several places, which are
    counted before anything is put in, to one for each.

    >>> insert(kn.array([1, 2, 3]), 1, 9)  # [1, 9, 2, 3]
    """
    [node] = to_nodes(x)
    if axis is None:
        node, axis = reshape_node(node, (node.type.size,)), 0
    axis = normalize_axis("insert", axis, node.ndim)
    extent = node.shape[axis]
    if not isinstance(place, (int, np.integer)):
        return _insert_each(node, np.asarray(place), values, axis)
    if not -extent <= place <= extent:
        raise LabelError(f"insert: place {place} is out of range for axis {axis} of extent {extent}")
    cut = int(place) + extent if place < 0 else int(place)
    given = scalar_node(values, node.dtype) if is_scalar(values) else cast_node(to_nodes(values)[0], node.dtype)
    if given.ndim < node.ndim:  # one element of the axis, or along a vector's only axis several
        count = given.type.size if node.ndim == 1 else 1
        lead = (1,) * (node.ndim - 1 - given.ndim) + given.shape
        given = reshape_node(given, (count,) if node.ndim == 1 else (*lead[:axis], 1, *lead[axis:]))
    wide = tuple(given.shape[k] if k == axis else n for k, n in enumerate(node.shape))
    given = broadcast_node(given, wide)
    return concat_node([cut_node(node, axis, 0, cut), given, cut_node(node, axis, cut, extent)], axis)


def _insert_each(x: Node, places: np.ndarray[Any, Any], values: Operand, axis: int) -> Node:
    """A value for each place: what is put in is cut out of both, one run after the other."""
    extent, count = x.shape[axis], places.size
    places = np.flatnonzero(places) if places.dtype == bool else places.reshape(-1).astype(np.int64)
    if ((places < -extent) | (places > extent)).any():
        raise LabelError(f"insert: places {places.tolist()} are not all within axis {axis} of extent {extent}")
    given = scalar_node(values, x.dtype) if is_scalar(values) else cast_node(to_nodes(values)[0], x.dtype)
    count = places.size
    given = broadcast_node(given, tuple(count if k == axis else n for k, n in enumerate(x.shape)))
    order = np.insert(np.arange(extent), places, extent + np.arange(count)).tolist()
    breaks = [0, *(k for k in range(1, len(order)) if order[k] != order[k - 1] + 1), len(order)]
    both = concat_node([x, given], axis)
    runs = [cut_node(both, axis, order[a], order[b - 1] + 1) for a, b in pairwise(breaks) if b > a]
    return concat_node(runs, axis) if runs else x


__all__ = [
    "append", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "block", "cat", "cat1d", "column_stack",
    "concat", "concatenate", "delete", "dsplit", "dstack", "hcat", "hsplit", "hstack", "insert", "split", "stack",
    "unstack", "vcat", "vsplit", "vstack",
]  # fmt: skip
