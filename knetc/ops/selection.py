"""What data select and count: places of what is not zero, distinct elements, histograms.

Shapes are known while tracing, so these functions are told how many places or values there will be (``size``,
``length``). ``knetc.selection`` finds that out where values can be computed.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from knetc.ir.node import Node
from knetc.ir.types import Shape
from knetc.ops.apply import (
    Operand,
    at_once,
    broadcast_node,
    cast_node,
    composite,
    constant,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.arithmetic import floor, minimum
from knetc.ops.identities import check_range, iota
from knetc.ops.indexed import gather, scatter_add
from knetc.ops.logic import equal, greater_equal, less, less_equal, logical_and, not_equal, to_bool, where
from knetc.ops.movement import concat_node, cut_node
from knetc.ops.reduction import max as largest
from knetc.ops.reduction import min as smallest
from knetc.ops.reduction import sum, to_float
from knetc.ops.scan import cumsum
from knetc.ops.sorting import argsort, searchsorted
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError

# --- places ----------------------------------------------------------------------------------------------------------


def _count(mask: Node) -> Node:
    """How many elements are true, as int64."""
    result: Node = sum(cast_node(mask, dtypes.i64))
    return result


def true_places(mask: Node, size: int, fill: int = 0) -> Node:
    """The places of the first ``size`` elements of a flat mask that are true; ``fill`` where there are fewer."""
    n = mask.type.size
    if not n or not size:
        return constant(fill, dtypes.i64, (size,))
    rank = cumsum(mask, 0) - 1
    chosen = logical_and(mask, less(rank, size))
    target = where(chosen, rank, size)  # the rest goes to a place beyond
    found = cut_node(scatter_add(where(chosen, iota(dtypes.i64, (n,), 0), 0), [target], (size + 1,)), 0, 0, size)
    return where(less(iota(dtypes.i64, (size,), 0), _count(mask)), found, fill)  # type: ignore[no-any-return]


def unravel(places: Node, shape: Shape) -> tuple[Node, ...]:
    """Indices along each axis of places in C order."""
    found: list[Node] = []
    for extent in reversed(shape):
        found.append(places % extent)
        places = places // extent
    return tuple(reversed(found))


def nonzero_sized(x: Node, size: int, fill_value: Any = None) -> tuple[Node, ...]:
    """Indices of the first ``size`` elements that are not 0; ``fill_value`` (0; one for all axes, or each) for more."""
    size = index(size)
    fills = [fill_value] * x.ndim if fill_value is None or np.ndim(fill_value) == 0 else list(fill_value)
    if len(fills) != x.ndim:
        raise ShapeError(f"nonzero: {len(fills)} fill values for {x.ndim} dimensions")
    flat = to_bool(reshape_node(x, (x.type.size,)))
    places = true_places(flat, size)
    known = less(iota(dtypes.i64, (size,), 0), _count(flat))
    return tuple(where(known, place, fill or 0) for place, fill in zip(unravel(places, x.shape), fills))


def rows_of(places: Sequence[Node], size: int) -> Node:
    """Indices side by side, a row for each place."""
    if not places:
        return constant(0, dtypes.i64, (index(size), 0))
    return concat_node([reshape_node(place, (index(size), 1)) for place in places], 1)


def unravel_index(indices: Operand, shape: Shape) -> tuple[Any, ...]:
    """The indices along each axis of an array of ``shape``, of places in C order.

    >>> unravel_index(kn.array([5]), (2, 3))  # ([1], [2])
    """
    [places] = to_nodes(indices)
    return tuple(wrap_like((indices,), found) for found in unravel(cast_node(places, dtypes.i64), tuple(shape)))


def ravel_multi_index(multi_index: Sequence[Operand], dims: Shape) -> Any:
    """The places in C order, in an array of the shape ``dims``, of indices along each axis.

    >>> ravel_multi_index((kn.array([1]), kn.array([2])), (2, 3))  # [5]
    """
    if len(multi_index) != len(dims):
        raise ShapeError(f"ravel_multi_index: {len(multi_index)} indices for {len(dims)} axes")
    total: Any = constant(0, dtypes.i64)
    for places, extent in zip(multi_index, dims):
        total = total * extent + cast_node(to_nodes(places)[0], dtypes.i64)
    return wrap_like(tuple(multi_index), total)


# --- distinct elements -----------------------------------------------------------------------------------------------


class Distinct(NamedTuple):
    """The distinct elements, each one's first place, for each element which of them it is, and how many there are."""

    values: Node
    indices: Node
    inverse: Node
    counts: Node


def unique_sized(x: Node, size: int, fill_value: Any = None, *, equal_nan: bool = True) -> Distinct:
    """The first ``size`` distinct elements in order; for more, ``fill_value`` (the smallest) that occurs 0 times."""
    n, size = x.type.size, index(size)
    if not n:
        raise ShapeError("unique of no elements, of a given size")
    flat = reshape_node(x, (n,))
    order: Node = argsort(flat)
    ordered = gather(flat, [order])
    after, before = cut_node(ordered, 0, 1, n), cut_node(ordered, 0, 0, n - 1)
    new: Node = not_equal(after, before)
    if equal_nan and dtypes.is_float(x.dtype):
        new = new & (equal(after, after) | equal(before, before))
    first = concat_node([constant(True, dtypes.boolean, (1,)), new], 0)
    rank: Node = cumsum(first, 0) - 1
    places = true_places(first, size)
    known = less(iota(dtypes.i64, (size,), 0), _count(first))
    values = gather(ordered, [places])
    if fill_value is not None:
        values = where(known, values, fill_value)
    inverse = reshape_node(scatter_add(rank, [order], (n,)), x.shape)
    target = minimum(rank, size)
    counts = cut_node(scatter_add(constant(1, dtypes.i64, (n,)), [target], (size + 1,)), 0, 0, size)
    return Distinct(values, gather(order, [places]), inverse, counts)


# --- counts ----------------------------------------------------------------------------------------------------------


@at_once
@composite(2)
def counted(x: Operand, weights: Operand, length: int) -> Any:
    """How often each of the numbers from 0 to ``length`` - 1 occurs in ``x``, or the sum of its weights.

    Numbers beyond raise LabelError when the value is computed.
    """
    [node] = to_nodes(x)
    if not dtypes.is_integer(node.dtype):
        raise DtypeError(f"bincount counts integers, not {node.dtype}; use histogram, or cast with x.astype('int64')")
    if node.ndim != 1:
        raise ShapeError(f"bincount takes one dimension, not shape {node.shape}; use x.ravel()")
    length = index(length)
    message = f"bincount: the number {{value}} is not among the {length} that are counted"
    places = check_range(node, 0, length, message)
    if weights is None:
        return scatter_add(constant(1, dtypes.i64, node.shape), [places], (length,))
    [shares] = to_nodes(weights)
    if shares.shape != node.shape:
        raise ShapeError(f"bincount: weights of shape {shares.shape} for numbers of shape {node.shape}")
    return scatter_add(to_float(shares), [places], (length,))


class HistogramResult(NamedTuple):
    """Of ``histogram``."""

    hist: Any
    bin_edges: Any


def _edges(low: Node, high: Node, bins: int) -> Node:
    """The bounds of bins of equal width from ``low`` to ``high``; of width 1 in all where these are the same."""
    same = equal(low, high)
    low, high = (broadcast_node(where(same, a, b), (bins + 1,)) for a, b in ((low - 0.5, low), (high + 0.5, high)))
    steps = iota(low.dtype, (bins + 1,), 0)
    return where(equal(steps, bins), high, low + steps * ((high - low) / bins))  # type: ignore[no-any-return]


def _bin_places(node: Node, bounds: Node, even: bool) -> tuple[Node, Node]:
    """In which bin each element lies, and whether it lies in one; the last one contains its upper bound."""
    bins = bounds.shape[0] - 1
    first, last = (reshape_node(cut_node(bounds, 0, k, k + 1), ()) for k in (0, bins))
    inside = logical_and(greater_equal(node, first), less_equal(node, last))
    if even:
        guess = floor((node - first) * (bins / (last - first)))
        place = cast_node(where(inside, minimum(guess, bins - 1), 0), dtypes.i64)
        place = place - cast_node(less(node, gather(bounds, [place])) & greater_equal(place, 1), dtypes.i64)
        place = place + cast_node(greater_equal(node, gather(bounds, [place + 1])) & less(place, bins - 1), dtypes.i64)
    else:
        place = minimum(searchsorted(bounds, node, "right") - 1, bins - 1)
    return where(inside, place, 0), inside


def _counts(places: list[Node], inside: Node, weights: Node | None, shape: Shape) -> Node:
    """How many elements each bin of a grid has, or the sum of their weights."""
    if weights is None:
        return scatter_add(cast_node(inside, dtypes.i64), places, shape)
    return scatter_add(where(inside, reshape_node(to_float(weights), inside.shape), 0), places, shape)


def _bounds(name: str, flat: Node, bins: Any, range: tuple[float, float] | None) -> tuple[Node, bool]:
    """The bounds of the bins that a vector is counted in, and whether these are of equal width."""
    if isinstance(bins, (int, np.integer)):
        if bins < 1:
            raise ShapeError(f"{name}: {bins} bins; there is at least one")
        if range is not None or not flat.type.size:
            low, high = (constant(float(bound), flat.dtype) for bound in range or (0, 1))
        else:
            low, high = smallest(flat), largest(flat)
        return _edges(low, high, int(bins)), True
    [given] = to_nodes(np.asarray(bins, np.float64) if isinstance(bins, (list, tuple)) else bins)
    if given.ndim != 1 or given.shape[0] < 2:
        raise ShapeError(f"{name}: bounds of bins have one dimension and two elements or more, not {given.type}")
    return cast_node(to_float(given), flat.dtype), False


def _widths(edges: Node) -> Node:
    return cut_node(edges, 0, 1, edges.shape[0]) - cut_node(edges, 0, 0, edges.shape[0] - 1)


def histogram_bin_edges(x: Operand, bins: int | Operand = 10, range: tuple[float, float] | None = None) -> Any:
    """The bounds of the bins that ``histogram`` would count in.

    >>> histogram_bin_edges(kn.array([1.0, 3.0]), bins=2)  # [1, 2, 3]
    """
    return histogram(x, bins, range).bin_edges


@at_once
def histogram(
    x: Operand,
    bins: int | Operand = 10,
    range: tuple[float, float] | None = None,
    weights: Operand = None,
    *,
    density: bool = False,
) -> HistogramResult:
    """How many elements lie in each bin (int64, or the sum of their weights), and the bounds of the bins.

    ``bins`` is a number of bins of equal width over ``range`` (from the smallest element to the largest by default),
    or an array of sorted bounds. A bin contains its lower bound, the last one also its upper. With ``density`` the
    result is a density: its integral over the bins is 1. Elements outside, and NaN, are not counted.

    >>> histogram(kn.array([1.0, 2.0, 1.0]), bins=2).hist  # [2, 1]
    """
    [node] = to_nodes(x)
    flat = to_float(reshape_node(node, (node.type.size,)))
    edges, even = _bounds("histogram", flat, bins, range)
    place, inside = _bin_places(flat, edges, even)
    hist = _counts([place], inside, None if weights is None else to_nodes(weights)[0], (edges.shape[0] - 1,))
    if density:
        shares = cast_node(hist, edges.dtype)
        hist = shares / _widths(edges) / sum(shares)
    return HistogramResult(wrap_like((x, weights), hist), wrap_like((x, weights), edges))


class HistogramddResult(NamedTuple):
    """Of ``histogramdd``."""

    hist: Any
    edges: Any


class Histogram2dResult(NamedTuple):
    """Of ``histogram2d``."""

    hist: Any
    x_edges: Any
    y_edges: Any


def histogramdd(
    sample: Operand | Sequence[Operand],
    bins: int | Sequence[Any] = 10,
    range: Sequence[tuple[float, float] | None] | None = None,
    density: bool = False,
    weights: Operand = None,
) -> HistogramddResult:
    """How many points lie in each bin of a grid, and for each axis the bounds of its bins.

    ``sample`` is an array [N, D] of N points, or a list of D vectors. ``bins`` and ``range`` are for each axis what
    they are for ``histogram``; one int counts for all axes. The counts are floats of shape [bins, …], D axes; with
    ``density`` their integral is 1. Raises ShapeError unless there is one of them for each axis.

    >>> histogramdd(kn.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.9]]), bins=2).hist  # [[1, 0], [0, 2]]
    """
    if isinstance(sample, (list, tuple)):
        columns = [to_float(n) for n in to_nodes(*sample)]
        given: tuple[Any, ...] = tuple(sample)
    else:
        [points] = to_nodes(sample)
        points = reshape_node(points, (*points.shape, 1)) if points.ndim == 1 else points
        if points.ndim != 2:
            raise ShapeError(f"histogramdd takes points [N, D] or a list of D vectors, not {points.type}")
        columns = [
            reshape_node(cut_node(to_float(points), 1, k, k + 1), points.shape[:1])
            for k in builtins.range(points.shape[1])
        ]
        given = (sample,)
    count = len(columns)
    if any(c.ndim != 1 or c.shape != columns[0].shape for c in columns):
        raise ShapeError(f"histogramdd: vectors of one length, not {', '.join(str(c.type) for c in columns)}")
    kinds = [bins] * count if isinstance(bins, (int, np.integer)) else list(bins)
    ranges = [None] * count if range is None else list(range)
    if len(kinds) != count or len(ranges) != count:
        raise ShapeError(f"histogramdd: bins for {len(kinds)} and ranges for {len(ranges)} of {count} axes")
    edges, places, inside = [], [], None
    for column, kind, bounds in zip(columns, kinds, ranges):
        own, even = _bounds("histogramdd", column, kind, bounds)
        place, within = _bin_places(column, own, even)
        edges.append(own)
        places.append(place)
        inside = within if inside is None else logical_and(inside, within)
    if inside is None:
        raise ShapeError("histogramdd of no axes")
    shape = tuple(e.shape[0] - 1 for e in edges)
    counts = _counts(places, inside, None if weights is None else to_nodes(weights)[0], shape)
    hist = cast_node(counts, edges[0].dtype)
    if density:
        hist = hist / sum(hist)
        for axis, own in enumerate(edges):
            thin = tuple(n if k == axis else 1 for k, n in enumerate(shape))
            hist = hist / broadcast_node(reshape_node(_widths(own), thin), shape)
    operands = (*given, weights)
    return HistogramddResult(wrap_like(operands, hist), tuple(wrap_like(operands, own) for own in edges))


def histogram2d(
    x: Operand,
    y: Operand,
    bins: Any = 10,
    range: Sequence[tuple[float, float] | None] | None = None,
    density: bool = False,
    weights: Operand = None,
) -> Histogram2dResult:
    """How many of the points (x, y) lie in each bin of a grid, as ``histogramdd``, and the bounds along both axes.

    ``bins`` is a number or an array of bounds for both axes, or a list with one for each.

    >>> histogram2d(kn.array([0.0, 1.0, 1.0]), kn.array([0.0, 1.0, 0.9]), bins=2).hist  # [[1, 0], [0, 2]]
    """
    if not isinstance(bins, (int, np.integer)) and len(bins) != 2:
        bins = [bins, bins]
    hist, (x_edges, y_edges) = histogramdd([x, y], bins, range, density, weights)
    return Histogram2dResult(hist, x_edges, y_edges)


__all__ = [
    "histogram", "histogram2d", "histogram_bin_edges", "histogramdd", "ravel_multi_index", "unravel_index",
]  # fmt: skip
