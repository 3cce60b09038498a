"""``x[key]`` and ``x[key] = value`` as functions, by NumPy's rules: slices, integers, None, Ellipsis, index arrays."""

from __future__ import annotations

import builtins
import math
import operator
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.types import Shape
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    broadcast_shapes,
    cast_node,
    constant,
    is_scalar,
    reshape_node,
    scalar_node,
    to_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.identities import iota
from knetc.ops.indexed import gather, normalize_index
from knetc.ops.logic import equal, greater_equal, where
from knetc.ops.movement import Ints, flip_node, pad_node, permute_node, slice_node, spaced_node
from knetc.ops.reduction import max as largest
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import LabelError, ShapeError, UnsupportedError


@dataclass(frozen=True)
class _Plan:
    """A key resolved against a shape: first a slice of every axis, then a reshape, then index arrays, if any.

    ``reshaped`` is the slice without the axes of single integers and with new axes. ``arrays`` maps its axes to index
    arrays; their axes stand at ``place`` in the result.
    """

    starts: Ints
    stops: Ints
    steps: Ints
    reshaped: Shape
    arrays: dict[int, Node]
    place: int

    @property
    def rest(self) -> Ints:
        """The axes of the reshaped slice that no array indexes."""
        return tuple(k for k in range(len(self.reshaped)) if k not in self.arrays)


def _items(key: Any, ndim: int) -> list[Any]:
    """The key's items, with an Ellipsis at which as many slices are needed as axes are left."""
    items = list(key) if isinstance(key, tuple) else [key]
    ellipses = [k for k, item in enumerate(items) if isinstance(item, EllipsisType)]
    if len(ellipses) > 1:
        raise LabelError("an index can have only one Ellipsis (...)")
    used = len([item for item in items if item is not None and not isinstance(item, EllipsisType)])
    if used > ndim:
        raise LabelError(f"{used} indices for an array of {ndim} dimensions")
    if not ellipses:
        items.append(Ellipsis)
    return items


def _is_index(item: Any) -> bool:
    """Whether an item names one position: an int, NumPy's included, but no bool."""
    return isinstance(item, (int, np.integer)) and not isinstance(item, (bool, np.bool_))


def _index_array(item: Any) -> Node:
    """An item that is no slice, int or None, as a node of integers."""
    if isinstance(item, (bool, np.bool_)):
        raise UnsupportedError("a bool is no index; use where(condition, …)")
    if isinstance(item, (list, range)):
        item = np.asarray(item, np.int64 if not len(item) else None)
    node = to_node(item)
    if node.dtype == dtypes.boolean:
        raise UnsupportedError(
            "indexing with a boolean mask gives a shape that depends on the data; use where(mask, x, 0) and a "
            "reduction, or numpy.nonzero on concrete arrays"
        )
    return node


def _plan(shape: Shape, key: Any) -> _Plan:
    items = _items(key, len(shape))
    consumed = len([item for item in items if item is not None and not isinstance(item, EllipsisType)])
    advanced = any(
        not (item is None or isinstance(item, (builtins.slice, EllipsisType)) or _is_index(item)) for item in items
    )
    ranges: list[range] = []
    reshaped: list[int] = []
    arrays: dict[int, Node] = {}
    runs: list[int] = []  # where in the key index arrays stand: side by side or apart
    for position, item in enumerate(items):
        axis = len(ranges)
        if item is None:
            reshaped.append(1)
        elif isinstance(item, EllipsisType):
            for n in shape[axis : len(shape) - (consumed - _consumed(items[:position]))]:
                ranges.append(range(n))
                reshaped.append(n)
        elif isinstance(item, builtins.slice):
            ranges.append(range(*item.indices(shape[axis])))
            reshaped.append(len(ranges[-1]))
        elif _is_index(item):
            n, given = shape[axis], operator.index(item)
            if not -n <= given < n:
                raise LabelError(f"index {given} is out of range for axis {axis} of extent {n}")
            ranges.append(range(given % n, given % n + 1))
            if advanced:  # beside arrays an int is one of them
                runs.append(position)
                arrays[len(reshaped)] = constant(0, dtypes.i64)
                reshaped.append(1)
        else:
            runs.append(position)
            arrays[len(reshaped)] = normalize_index("index", _index_array(item), shape[axis], axis)
            ranges.append(range(shape[axis]))
            reshaped.append(shape[axis])
    together = not runs or runs == list(range(runs[0], runs[0] + len(runs)))
    first = min(arrays) if arrays and together else 0
    common = broadcast_shapes("index", *(a.shape for a in arrays.values())) if arrays else ()
    return _Plan(
        starts=tuple(r.start for r in ranges),
        stops=tuple(r.stop for r in ranges),
        steps=tuple(r.step for r in ranges),
        reshaped=tuple(reshaped),
        arrays={axis: broadcast_node(a, common) for axis, a in arrays.items()},
        place=first,
    )


def _consumed(items: list[Any]) -> int:
    return len([item for item in items if item is not None and not isinstance(item, EllipsisType)])


def index(x: Operand, key: Any) -> Any:
    """``x[key]``: a new value, by NumPy's rules for slices, integers, None, Ellipsis and integer arrays.

    Integers out of range raise LabelError (an IndexError) at once; elements of index arrays raise it when the value is
    computed. Masks raise UnsupportedError. Repeated indices add up their gradients.

    >>> index(kn.array([[1, 2], [3, 4]]), (slice(None), -1))  # [2, 4]
    """
    [node] = to_nodes(x)
    plan = _plan(node.shape, key)
    result = reshape_node(slice_node(node, plan.starts, plan.stops, plan.steps), plan.reshaped)
    if plan.arrays:
        front = permute_node(result, (*plan.arrays, *plan.rest))
        result = _place_arrays(gather(front, list(plan.arrays.values())), plan)
    return wrap_like((x,), result)


def _order(plan: _Plan, ndim: int) -> Ints:
    """Where in the gathered value (the arrays' axes first) each axis of the result is."""
    count = ndim - len(plan.rest)
    return (*range(count, count + plan.place), *range(count), *range(count + plan.place, ndim))


def _place_arrays(found: Node, plan: _Plan) -> Node:
    return permute_node(found, _order(plan, found.ndim))


# --- x[key] = value --------------------------------------------------------------------------------------------------


def index_update(x: Operand, key: Any, value: Operand) -> Any:
    """``x`` with ``value`` at ``key``: what ``x`` is after ``x[key] = value``.

    ``value`` is cast to the dtype of ``x`` and broadcast to the shape of ``x[key]``. Where index arrays name a place
    several times the last one counts. A mask (bools of the shape of ``x`` or of its first axes) takes a value that
    does not depend on how many elements it selects. Gradients go to the value where it is read, and to ``x``
    elsewhere. Raises what ``index`` raises, and ShapeError for a value that does not fit.

    >>> index_update(kn.zeros((2, 2)), 0, 1.0)  # [[1, 1], [0, 0]]
    """
    [node] = to_nodes(x)
    if getattr(key, "dtype", None) == dtypes.boolean:
        return wrap_like((x, value), _masked(node, to_node(key), value))
    plan = _plan(node.shape, key)
    cut = tuple(len(range(a, b, c)) for a, b, c in zip(plan.starts, plan.stops, plan.steps))
    if not plan.arrays:
        given = reshape_node(_fitted(value, node.dtype, plan.reshaped), cut)
        everywhere = cut == node.shape and min(plan.steps, default=1) > 0
        result = given if everywhere else _overlay(node, given, plan)
        return wrap_like((x, value), result)
    before = reshape_node(slice_node(node, plan.starts, plan.stops, plan.steps), plan.reshaped)
    written = reshape_node(_scattered(before, value, plan), cut)
    return wrap_like((x, value), written if cut == node.shape else _overlay(node, written, plan))


def _masked(x: Node, mask: Node, value: Operand) -> Node:
    """``x`` with one value (or row of values) wherever a mask of its first axes holds."""
    if not mask.ndim or mask.shape != x.shape[: mask.ndim]:
        raise ShapeError(f"a mask of shape {mask.shape} does not fit the first axes of shape {x.shape}")
    row = x.shape[mask.ndim :]
    given = _fitted(value, x.dtype, (1, *row))
    spread = broadcast_node(reshape_node(given, (1,) * mask.ndim + row), x.shape)
    everywhere = broadcast_node(reshape_node(mask, mask.shape + (1,) * len(row)), x.shape)
    result: Node = where(everywhere, spread, x)
    return result


def _fitted(value: Operand, dtype: np.dtype, shape: Shape) -> Node:
    """A value to be written, with the dtype and shape of the place."""
    if is_scalar(value):
        return scalar_node(value, dtype, shape)
    node = cast_node(to_node(value), dtype)
    while node.ndim > len(shape) and node.shape[0] == 1:
        node = reshape_node(node, node.shape[1:])
    tail = shape[len(shape) - node.ndim :]
    if node.ndim > len(shape) or any(n not in (1, m) for n, m in zip(node.shape, tail)):
        raise ShapeError(f"a value of shape {node.shape} cannot be written to a place of shape {shape}")
    return broadcast_node(node, shape)


def _spread(value: Node, shape: Shape, plan: _Plan) -> Node:
    """A value put at the places that slices name, zeros (or False) elsewhere."""
    low, high = [], []
    for axis, (start, stop, step) in enumerate(zip(plan.starts, plan.stops, plan.steps)):
        if step < 0:
            value = flip_node(value, (axis,))
        value = spaced_node(value, axis, abs(step))
        low.append(range(start, stop, step)[0 if step > 0 else -1])
        high.append(shape[axis] - low[-1] - value.shape[axis])
    return pad_node(value, tuple(low), tuple(high))


def _overlay(x: Node, value: Node, plan: _Plan) -> Node:
    """``x`` where the slices are not, ``value`` where they are."""
    if not value.type.size:
        return x
    mask = _spread(constant(True, dtypes.boolean, value.shape), x.shape, plan)
    result: Node = where(mask, _spread(value, x.shape, plan), x)
    return result


def _scattered(x: Node, value: Operand, plan: _Plan) -> Node:
    """``x`` with a value at the places that index arrays name, the last of several counting.

    For each element the last of the places that name it is found by comparing with all of them, which costs their
    number for each element but needs no order among writers.
    """
    axes, indices, rest = tuple(plan.arrays), list(plan.arrays.values()), plan.rest
    common = indices[0].shape
    places = math.prod(common)
    front = permute_node(x, (*axes, *rest))
    extents, trailing = front.shape[: len(axes)], front.shape[len(axes) :]
    order = _order(plan, len(common) + len(rest))
    shape = (*common, *trailing)
    given = _fitted(value, x.dtype, tuple(shape[k] for k in order))
    flat = reshape_node(permute_node(given, tuple(int(k) for k in np.argsort(order))), (places, *trailing))
    if not places or not x.type.size:
        return x
    linear = constant(0, dtypes.i64, common)
    for place, extent in zip(indices, extents):
        linear = linear * extent + place
    count = math.prod(extents)
    named = broadcast_node(reshape_node(linear, (1, places)), (count, places))
    hits = equal(named, iota(dtypes.i64, (count, places), 0))
    last = largest(where(hits, iota(dtypes.i64, (count, places), 1), -1), 1)
    written = greater_equal(last, 0)
    chosen = gather(flat, [where(written, last, 0)])
    mask = reshape_node(written, (count,) + (1,) * len(trailing))
    result = where(mask, chosen, reshape_node(front, (count, *trailing)))
    back = tuple(int(k) for k in np.argsort((*axes, *rest)))
    return permute_node(reshape_node(result, front.shape), back)
