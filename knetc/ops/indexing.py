"""``x[key]`` and ``x[key] = value`` as functions, by NumPy's rules: slices, integers, None, Ellipsis, index arrays."""

from __future__ import annotations

import builtins
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
from knetc.ops.identities import check_range
from knetc.ops.indexed import gather, normalize_index, scatter
from knetc.ops.logic import where
from knetc.ops.movement import Ints, flip_node, pad_node, permute_node, slice_node, spaced_node
from knetc.ops.reduction import sum as total
from knetc.ops.scan import cumsum
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


def is_mask(item: Any) -> bool:
    """Whether an index is an array of bools."""
    return getattr(item, "dtype", None) == dtypes.boolean and item.ndim > 0


def _consumes(item: Any) -> int:
    """How many axes an item of a key stands for."""
    if item is None or isinstance(item, (EllipsisType, bool, np.bool_)):
        return 0
    return int(item.ndim) if is_mask(item) else 1


def items_of(key: Any, ndim: int) -> list[Any]:
    """The key's items, one for each axis but for masks, None and bools; what is left out is filled with slices.

    An Ellipsis that stands for no axis is kept: index arrays on both sides of it are apart.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    ellipses = [k for k, item in enumerate(items) if isinstance(item, EllipsisType)]
    if len(ellipses) > 1:
        raise LabelError("an index can have only one Ellipsis (...)")
    used = sum(map(_consumes, items))
    if used > ndim:
        raise LabelError(f"{used} indices for an array of {ndim} dimensions")
    place = ellipses[0] if ellipses else len(items)
    left: list[Any] = [builtins.slice(None)] * (ndim - used)
    return [*items[:place], *(left or items[place : place + 1]), *items[place + 1 :]]


def check_mask(shape: Shape, axis: int, mask: Any) -> None:
    """Raise LabelError unless a mask has the extents of the axes that it stands for, or 0 in place of them."""
    there = shape[axis : axis + mask.ndim]
    if any(own not in (extent, 0) for own, extent in zip(mask.shape, there)):
        raise LabelError(
            f"a mask of shape {tuple(mask.shape)} does not fit axes {axis} to {axis + mask.ndim - 1} of shape {shape}, "
            f"whose extents are {there}"
        )


def _is_index(item: Any) -> bool:
    """Whether an item names one position: an int, NumPy's included, but no bool."""
    return isinstance(item, (int, np.integer)) and not isinstance(item, (bool, np.bool_))


def _is_basic(item: Any) -> bool:
    """Whether an item is neither an index array nor a mask, nor a bool."""
    return item is None or isinstance(item, (builtins.slice, EllipsisType)) or _is_index(item)


def _index_array(item: Any) -> Node:
    """An item that is no slice, int or None, as a node of integers."""
    if isinstance(item, (str, bytes, float, complex, dict, set)):
        raise LabelError(f"an index is an int, a slice, None, ..., or an array of ints or bools, not {item!r}")
    if isinstance(item, (list, range)):
        item = np.asarray(item, np.int64 if not len(item) else None)
    node = to_node(item)
    if dtypes.is_float(node.dtype):
        raise LabelError(f"an index array holds integers, not {node.dtype}; convert it with astype('int64')")
    if node.dtype == dtypes.boolean:
        raise UnsupportedError(
            "indexing with a boolean mask gives a shape that depends on the data; use where(mask, x, 0) and a "
            "reduction, or nonzero(mask, size=n)"
        )
    return node


def _plan(shape: Shape, key: Any) -> _Plan:
    items = items_of(key, len(shape))
    advanced = not all(map(_is_basic, items))
    ranges: list[range] = []
    reshaped: list[int] = []
    arrays: dict[int, Node] = {}
    runs: list[int] = []  # where in the key index arrays stand: side by side or apart
    for position, item in enumerate(items):
        axis = len(ranges)
        if item is None:
            reshaped.append(1)
        elif isinstance(item, EllipsisType):
            continue
        elif isinstance(item, builtins.slice):
            ranges.append(range(*item.indices(shape[axis])))
            reshaped.append(len(ranges[-1]))
        elif isinstance(item, (bool, np.bool_)):  # a new axis, of one element or of none
            runs.append(position)
            arrays[len(reshaped)] = constant(0, dtypes.i64, (int(item),))
            reshaped.append(1)
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
    try:
        common = broadcast_shapes("index", *(a.shape for a in arrays.values())) if arrays else ()
    except ShapeError as error:
        raise LabelError(str(error)) from None  # an IndexError, as NumPy's
    return _Plan(
        starts=tuple(r.start for r in ranges),
        stops=tuple(r.stop for r in ranges),
        steps=tuple(r.step for r in ranges),
        reshaped=tuple(reshaped),
        arrays={axis: broadcast_node(a, common) for axis, a in arrays.items()},
        place=first,
    )


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
    several times the last one counts. One mask (bools of the shape of the axes that it stands for) takes a number; a
    mask of the first axes also a row for all, or as many rows as it selects (ShapeError, when the value is computed,
    for another number). Gradients go to the value where it is read, and to ``x`` elsewhere. Raises what ``index``
    raises, and ShapeError for a value that does not fit.

    >>> index_update(kn.zeros((2, 2)), 0, 1.0)  # [[1, 1], [0, 0]]
    """
    [node] = to_nodes(x)
    items = items_of(key, node.ndim)
    masks = [k for k, item in enumerate(items) if is_mask(item)]
    if masks:
        return wrap_like((x, value), _masked(node, items, masks[0], value))
    plan = _plan(node.shape, key)
    cut = tuple(len(range(a, b, c)) for a, b, c in zip(plan.starts, plan.stops, plan.steps))
    if plan.arrays:
        before = reshape_node(slice_node(node, plan.starts, plan.stops, plan.steps), plan.reshaped)
        written = _scattered(before, value, plan)
    else:
        written = _fitted(value, node.dtype, plan.reshaped)
    written = reshape_node(written, cut)
    everywhere = cut == node.shape and min(plan.steps, default=1) > 0
    return wrap_like((x, value), written if everywhere else _overlay(node, written, plan))


# --- masks -----------------------------------------------------------------------------------------------------------


def takes_mask(key: Any, ndim: int, value: Operand) -> bool:
    """Whether ``index_update`` can do without knowing how many elements the masks of a key select.

    It can for one mask beside slices, whose value is a number or goes along the mask's elements, and for one beside
    ints and None too if the value is a number.
    """
    items = items_of(key, ndim)
    others = [item for item in items if not is_mask(item)]
    if len(items) - len(others) != 1:
        return False
    if _is_leading(items):
        return True
    return all(map(_is_basic, others)) and (is_scalar(value) or to_node(value).ndim == 0)


def _is_leading(items: list[Any]) -> bool:
    """Whether a key is one mask of the first axes, and all of the others."""
    whole = builtins.slice(None)
    rest = [item for item in items if not isinstance(item, EllipsisType)]
    return is_mask(rest[0]) and all(isinstance(item, builtins.slice) and item == whole for item in rest[1:])


def _masked(x: Node, items: list[Any], place: int, value: Operand) -> Node:
    """``x`` with a value wherever a mask holds, which stands at ``place`` of a key's items."""
    mask = to_node(items[place])
    axis = sum(map(_consumes, items[:place]))
    check_mask(x.shape, axis, mask)
    if mask.shape != x.shape[axis : axis + mask.ndim]:  # without elements: it selects nothing
        mask = constant(False, dtypes.boolean, x.shape[axis : axis + mask.ndim])
    if (
        not place
        and len(items) == 1 + x.ndim - mask.ndim
        and items[1:] == [builtins.slice(None)] * (x.ndim - mask.ndim)
    ):
        return _masked_rows(x, mask, value)
    region = (*items[:place], *[builtins.slice(None)] * mask.ndim, *items[place + 1 :])
    part: Node = index(x, region)
    lead = len([item for item in items[:place] if item is None or isinstance(item, builtins.slice)])
    shape = (1,) * lead + mask.shape + (1,) * (part.ndim - lead - mask.ndim)
    written = where(reshape_node(mask, shape), _fitted(value, x.dtype, part.shape), part)
    result: Node = index_update(x, region, written)
    return result


def _masked_rows(x: Node, mask: Node, value: Operand) -> Node:
    """``x`` with values where a mask of its first axes holds: the same for all, or the next one for each."""
    row = x.shape[mask.ndim :]
    everywhere = broadcast_node(reshape_node(mask, mask.shape + (1,) * len(row)), x.shape)
    if is_scalar(value) or (node := to_node(value)).ndim <= len(row) or node.shape[-len(row) - 1] == 1:
        given = _fitted(value, x.dtype, (1, *row))
        spread = broadcast_node(reshape_node(given, (1,) * mask.ndim + row), x.shape)
        return where(everywhere, spread, x)  # type: ignore[no-any-return]
    count = node.shape[-len(row) - 1]
    rows = _fitted(node, x.dtype, (count, *row))
    flat = reshape_node(mask, (mask.type.size,))
    seen = cumsum(flat, 0)
    message = f"a mask that selects {{value}} elements is given {count} values"
    selected = check_range(total(flat), count, count + 1, message, "ShapeError")
    if not count:
        return where(everywhere & (broadcast_node(selected, x.shape) < 0), x, x)  # type: ignore[no-any-return]
    rank = where(flat, broadcast_node(selected, flat.shape) - (count - seen) - 1, 0)
    chosen = reshape_node(gather(rows, [rank]), x.shape)
    return where(everywhere, chosen, x)  # type: ignore[no-any-return]


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
    """``x`` with a value at the places that index arrays name, the last of several counting."""
    axes, indices, rest = tuple(plan.arrays), list(plan.arrays.values()), plan.rest
    common = indices[0].shape
    front = permute_node(x, (*axes, *rest))
    order = _order(plan, len(common) + len(rest))
    shape = (*common, *front.shape[len(axes) :])
    given = _fitted(value, x.dtype, tuple(shape[k] for k in order))
    values = permute_node(given, tuple(int(k) for k in np.argsort(order)))
    back = tuple(int(k) for k in np.argsort((*axes, *rest)))
    return permute_node(scatter(front, values, indices), back)
