"""Padding in all ways that NumPy knows: plain functions over slices, joins and reductions, axis after axis."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ops.apply import Operand, Scalar, broadcast_node, cast_node, composite, to_nodes
from knetc.ops.arithmetic import floor, rint
from knetc.ops.identities import iota
from knetc.ops.movement import concat_node, cut_node, pad_node, slice_node
from knetc.ops.reduction import max, mean, min
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError, UnsupportedError

_BY_PLACE = ("edge", "reflect", "symmetric", "wrap")
_STATISTICS: dict[str, Callable[..., Any]] = {"maximum": max, "minimum": min, "mean": mean}
_MODES = ("constant", "empty", "linear_ramp", *_BY_PLACE, *_STATISTICS)


@composite()
def pad(
    x: Operand,
    pad_width: Any,
    mode: str = "constant",
    *,
    constant_values: Any = 0,
    end_values: Any = 0,
    stat_length: Any = None,
    reflect_type: str = "even",
) -> Any:
    """``x`` with more elements around: one width for all, one pair for all, a pair for each axis, or a dict of them.

    ``mode`` is "constant" (``constant_values``), "edge", "reflect", "symmetric", "wrap", "linear_ramp" (down to
    ``end_values``), "maximum", "minimum", "mean" (of the ``stat_length`` elements at the edge) or "empty" (zeros).
    Raises ShapeError for widths that do not fit or where there is nothing to repeat.

    >>> pad(kn.array([1, 2, 3]), (2, 1), "reflect")  # [3, 2, 1, 2, 3, 2]
    """
    [node] = to_nodes(x)
    if mode not in _MODES:
        raise UnsupportedError(f"pad: mode {mode!r} is none of {', '.join(_MODES)}")
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(k, pad_width.get(k - node.ndim, (0, 0))) for k in range(node.ndim)]
    widths = _pairs("pad_width", pad_width, node.ndim)
    if any(n < 0 for pair in widths for n in pair):
        raise ShapeError(f"pad: widths cannot be negative: {pad_width}; cut with a slice")
    if mode == "empty":
        mode, constant_values = "constant", 0
    if mode == "constant":
        return _constant(node, widths, constant_values)
    ends = _pairs("end_values", end_values, node.ndim, float)
    lengths = [(None, None)] * node.ndim if stat_length is None else _pairs("stat_length", stat_length, node.ndim)
    for axis, (low, high) in enumerate(widths):
        if not low and not high:
            continue
        if not node.shape[axis]:
            raise ShapeError(f"pad: axis {axis} of shape {node.shape} has no elements, mode {mode!r} needs one")
        if mode in _BY_PLACE:
            odd = reflect_type == "odd" and mode in ("reflect", "symmetric")
            node = _odd(node, axis, low, high, mode) if odd else _by_place(node, axis, low, high, mode)
        else:
            sides = [(low, 0), (high, node.shape[axis] - 1)]
            pieces = [
                _ramp(cut_node(node, axis, edge, edge + 1), axis, width, ends[axis][side], side)
                if mode == "linear_ramp"
                else _statistic(node, axis, width, lengths[axis][side], side, mode)
                for side, (width, edge) in enumerate(sides)
            ]
            node = concat_node([pieces[0], node, pieces[1]], axis)
    return node


def _pairs(name: str, given: Any, ndim: int, kind: Callable[[Any], Any] = int) -> list[tuple[Any, Any]]:
    """One value for all, one pair for all, or a pair (or a single value) for each axis."""
    try:
        pairs = np.broadcast_to(np.asarray(given, dtype=object), (ndim, 2))
        return [(kind(a), kind(b)) for a, b in pairs.tolist()]
    except (ValueError, TypeError):
        raise ShapeError(f"pad: {name} {given!r} does not fit an array of {ndim} dimensions") from None


def _constant(node: Node, widths: Sequence[tuple[int, int]], values: Any) -> Node:
    numbers = _pairs("constant_values", values, node.ndim, lambda v: v.item() if hasattr(v, "item") else v)
    known: set[Scalar] = {n for pair in numbers for n in pair}
    if len(known) < 2:
        low, high = (tuple(pair[side] for pair in widths) for side in (0, 1))
        return pad_node(node, low, high, known.pop() if known else 0)
    for axis, (width, value) in enumerate(zip(widths, numbers)):
        for side in (0, 1):
            low = tuple(width[0] if k == axis and side == 0 else 0 for k in range(node.ndim))
            high = tuple(width[1] if k == axis and side == 1 else 0 for k in range(node.ndim))
            node = pad_node(node, low, high, value[side])
    return node


def _by_place(node: Node, axis: int, low: int, high: int, mode: str) -> Node:
    """The elements at places that NumPy's own padding of the places names: as few slices as there are runs."""
    kind: Any = mode
    places = np.pad(np.arange(node.shape[axis]), (low, high), mode=kind).tolist()
    pieces = []
    begin = 0
    while begin < len(places):
        end = begin + 1
        step = places[end] - places[begin] if end < len(places) else 1
        if abs(step) > 1:
            step = 1
        while end < len(places) and places[end] - places[end - 1] == step:
            end += 1
        pieces.append(_run(node, axis, places[begin], end - begin, step))
        begin = end
    return concat_node(pieces, axis)


def _run(node: Node, axis: int, first: int, count: int, step: int) -> Node:
    """``count`` elements from a place on: forwards, backwards, or the same one again and again."""
    if step == 0:
        one = cut_node(node, axis, first, first + 1)
        return broadcast_node(one, tuple(count if k == axis else n for k, n in enumerate(node.shape)))
    starts = tuple(first if k == axis else 0 for k in range(node.ndim))
    stops = tuple(first + step * count if k == axis else n for k, n in enumerate(node.shape))
    return slice_node(node, starts, stops, tuple(step if k == axis else 1 for k in range(node.ndim)))


def _odd(node: Node, axis: int, low: int, high: int, mode: str) -> Node:
    """Reflected in the point at the edge: twice the edge less what is reflected."""
    extent = node.shape[axis]
    most = extent - (mode == "reflect")
    if low > most or high > most:
        raise ShapeError(f"pad: reflect_type='odd' pads an axis of extent {extent} by at most {most}, not {low, high}")
    whole = _by_place(node, axis, low, high, mode)
    first, last = cut_node(node, axis, 0, 1), cut_node(node, axis, extent - 1, extent)

    def turned(edge: Node, begin: int, count: int) -> Node:
        piece = cut_node(whole, axis, begin, begin + count)
        return broadcast_node(edge, piece.shape) * 2 - piece

    return concat_node([turned(first, 0, low), node, turned(last, low + extent, high)], axis)


def _ramp(edge: Node, axis: int, width: int, end: float, side: int) -> Node:
    """Equal steps from the edge to ``end``, which is the outermost element."""
    shape = tuple(width if k == axis else n for k, n in enumerate(edge.shape))
    within = edge.dtype if dtypes.is_float(edge.dtype) else dtypes.f64
    step = iota(within, shape, axis)
    outward: Node = (width - step if side == 0 else step + 1) / builtins.max(width, 1)
    start = broadcast_node(cast_node(edge, within), shape)
    line: Node = start + (end - start) * outward
    return cast_node(line if edge.dtype == within else floor(line), edge.dtype)


def _statistic(node: Node, axis: int, width: int, length: int | None, side: int, mode: str) -> Node:
    extent = node.shape[axis]
    count = extent if length is None else builtins.min(length, extent)
    piece = cut_node(node, axis, 0, count) if side == 0 else cut_node(node, axis, extent - count, extent)
    found: Node = _STATISTICS[mode](piece, axis, keepdims=True)
    if found.dtype != node.dtype:
        found = cast_node(rint(found), node.dtype)
    return broadcast_node(found, tuple(width if k == axis else n for k, n in enumerate(node.shape)))


__all__ = ["pad"]
