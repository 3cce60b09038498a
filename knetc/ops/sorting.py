"""Sorting, order statistics and binary search, with gradients.

Sorting is a host call over NumPy's vectorised sorts, along the last axis. NaN comes after everything else. Narrow
floats are sorted as float32, bools as integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any, NamedTuple

import numpy as np

from knetc.ir.node import Node
from knetc.ir.types import TensorType
from knetc.ops.apply import (
    Operand,
    at_once,
    broadcast_node,
    cast_node,
    common_dtype,
    composite,
    constant,
    is_scalar,
    reshape_node,
    to_nodes,
    widened,
    wrap_like,
)
from knetc.ops.arithmetic import ceil, clip, floor, rint
from knetc.ops.host import by_rule, host_call
from knetc.ops.identities import iota
from knetc.ops.indexed import gather, scatter_add, take_along_axis
from knetc.ops.logic import equal, greater_equal, isnan, less, less_equal, where
from knetc.ops.movement import concat_node, cut_node, flip_node, normalize_axes, normalize_axis, permute_node
from knetc.ops.ranking import order, sortable, sorted_rows
from knetc.ops.reduction import Axis, any, sum, to_float
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError, UnsupportedError

# --- along the last axis ---------------------------------------------------------------------------------------------


def _last(x: Node, axis: int) -> Node:
    """``x`` with an axis brought to the end."""
    return permute_node(x, (*(k for k in range(x.ndim) if k != axis), axis))


def _back(x: Node, axis: int) -> Node:
    """``x`` with the last axis brought to its place."""
    count = x.ndim
    return permute_node(x, (*range(axis), count - 1, *range(axis, count - 1)))


def _grid(places: Node) -> list[Node]:
    """Indices of the elements at ``places`` along the last axis."""
    return [*(iota(dtypes.i64, places.shape, k) for k in range(places.ndim - 1)), places]


# --- sorting ---------------------------------------------------------------------------------------------------------


@at_once
@composite()
def sort(x: Operand, axis: int | None = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """``x`` sorted along an axis, NaN last (first if ``descending``); with ``axis`` None, all elements in one row.

    Equal elements keep their order either way, so ``stable`` is always so.

    >>> sort(kn.array([3.0, 1.0, 2.0]))  # [1, 2, 3]
    """
    [node] = to_nodes(x)
    if axis is None:
        node, axis = reshape_node(node, (node.type.size,)), 0
    axis = normalize_axis("sort", axis, node.ndim)
    source = _last(node, axis)
    result = cast_node(sorted_rows(sortable(source)), source.dtype)
    if descending:
        result = flip_node(result, (result.ndim - 1,))

    def rule(node: Node, dy: Node) -> Sequence[Any]:
        source = node.sources[1]
        return [scatter_add(dy, _grid(order(source, falling=descending)), source.shape)]

    return _back(by_rule(result, [source], rule), axis)


@at_once
@composite()
def argsort(x: Operand, axis: int | None = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """The indices (int64) that sort ``x`` along an axis, of all elements in C order with ``axis`` None; NaN is last.

    Equal elements keep their order, also if ``descending``, so ``stable`` is always so.

    >>> argsort(kn.array([3.0, 1.0, 2.0]))  # [1, 2, 0]
    """
    [node] = to_nodes(x)
    if axis is None or not node.ndim:
        node, axis = reshape_node(node, (node.type.size,)), 0
    axis = normalize_axis("argsort", axis, node.ndim)
    source = _last(node, axis)
    return _back(order(source, falling=descending), axis)


class TopkResult(NamedTuple):
    """Of ``topk``."""

    values: Any
    indices: Any


@at_once
def topk(x: Operand, k: int, axis: int = -1) -> Any:
    """The ``k`` largest elements along an axis, largest first, and their indices: ``(values, indices)``.

    Of equal elements the first ones count. NaN is the largest. Raises ShapeError if there are not so many elements.

    >>> topk(kn.array([1.0, 4.0, 2.0]), 2)  # values [4, 2], indices [1, 2]
    """
    [node] = to_nodes(x)
    axis = normalize_axis("topk", axis, node.ndim)
    source = _last(node, axis)
    n, k = source.shape[-1], index(k)
    if not 0 <= k <= n:
        raise ShapeError(f"topk: there are no {k} elements along axis {axis} of shape {node.shape}")
    if k > n // 2 or not k:
        places = order(source, falling=True)
        places = cut_node(places, places.ndim - 1, 0, k)
    else:
        kind = TensorType(dtypes.i64, (*source.shape[:-1], k))
        [chosen] = host_call("sorting.largest", [sortable(source)], [kind])
        places = gather(chosen, _grid(order(gather(source, _grid(chosen)), falling=True)))
    values = gather(source, _grid(places))
    return TopkResult(wrap_like((x,), _back(values, axis)), wrap_like((x,), _back(places, axis)))


def _parted(name: str, node: Node, kth: int | Sequence[int], axis: int | None) -> tuple[Node, Node, int]:
    """Rows and the places in them that are asked for, for ``partition`` and ``argpartition``; and the axis."""
    if axis is None:
        node, axis = reshape_node(node, (node.type.size,)), 0
    axis = normalize_axis(name, axis, node.ndim)
    n = node.shape[axis]
    wanted = [index(k) for k in np.atleast_1d(kth)]
    for k in wanted:
        if not -n <= k < n:
            raise ShapeError(f"{name}: there is no element {k} along axis {axis} of shape {node.shape}")
    if not wanted:
        raise ShapeError(f"{name}: kth names no element")
    places = concat_node([constant(k % n, dtypes.i64, (1,)) for k in wanted], 0)
    return _last(node, axis), places, axis


@at_once
@composite()
def partition(x: Operand, kth: int | Sequence[int], axis: int | None = -1) -> Any:
    """``x`` with its ``kth`` elements along an axis where sorting puts them, smaller ones before, larger ones after.

    In which order these are is not said. With ``axis`` None all elements are in one row. Raises ShapeError for a
    ``kth`` that there is not.

    >>> partition(kn.array([3.0, 1.0, 2.0]), 1)  # [1, 2, 3]
    """
    source, places, axis = _parted("partition", to_nodes(x)[0], kth, axis)
    rows = sortable(source)
    [parted] = host_call("sorting.partition", [rows, places], [rows.type])

    def rule(node: Node, dy: Node) -> Sequence[Any]:
        sorting = gather(dy, _grid(order(node.sources[0])))
        return [scatter_add(sorting, _grid(order(node.sources[1])), dy.shape)]

    return _back(by_rule(cast_node(parted, source.dtype), [source], rule), axis)


@at_once
@composite()
def argpartition(x: Operand, kth: int | Sequence[int], axis: int | None = -1) -> Any:
    """The indices (int64) that put the ``kth`` elements along an axis where sorting puts them, as in ``partition``.

    >>> argpartition(kn.array([3.0, 1.0, 2.0]), 1)  # [1, 2, 0]
    """
    [node] = to_nodes(x)
    source, places, axis = _parted("argpartition", node if node.ndim else reshape_node(node, (1,)), kth, axis)
    [found] = host_call("sorting.argpartition", [sortable(source), places], [source.type.with_dtype(dtypes.i64)])
    return _back(found, axis)


def lexsort(keys: Sequence[Operand], axis: int = -1) -> Any:
    """The indices that sort by several keys of one shape: by the last one first, equal ones by the one before it.

    >>> lexsort((kn.array([2, 1, 3]), kn.array([0, 1, 0])))  # [0, 2, 1]
    """
    if not len(keys):
        raise ShapeError("lexsort takes at least one key")
    places = argsort(keys[0], axis)
    for key in keys[1:]:
        places = take_along_axis(places, argsort(take_along_axis(key, places, axis), axis), axis)
    return places


# --- order statistics ------------------------------------------------------------------------------------------------

_BETWEEN = {
    "linear": (1.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
    "interpolated_inverted_cdf": (0.0, 1.0),
}
"""The methods that interpolate: where between the elements a share of them lies (Hyndman and Fan's alpha and beta)."""

_AT = {"lower": floor, "higher": ceil, "nearest": rint}
"""The methods that choose an element beside the place of ``linear``."""

_STEPS = ("inverted_cdf", "averaged_inverted_cdf", "closest_observation")
"""The methods that take the first element below which the share lies; or, where that ends, the mean with the next; or
the one whose number is nearest, of two the even one."""


def _gathered_axes(name: str, x: Node, axis: Axis) -> tuple[Node, tuple[int, ...]]:
    """``x`` with the axes that are looked at merged into one at the front, and which these are."""
    axes = normalize_axes(name, axis, x.ndim) if x.ndim else ()
    rest = tuple(k for k in range(x.ndim) if k not in axes)
    count = math.prod(x.shape[k] for k in axes)
    return reshape_node(permute_node(x, (*rest, *axes)), (*(x.shape[k] for k in rest), count)), axes


def _shares(name: str, q: Operand, percent: float) -> Node:
    """The shares that are asked for, as float64 from 0 to 1; those that are known are checked."""
    if is_known := type(q) in (int, float) or isinstance(q, (list, tuple, np.ndarray)):
        q = np.asarray(q, np.float64)
    if is_known and not ((q >= 0) & (q <= percent)).all():
        raise ValueError(f"{name}: shares are from 0 to {percent}, not {q}")
    if is_known and not q.ndim:
        return constant(float(q) / percent, dtypes.f64)
    [node] = to_nodes(q)
    return cast_node(node, dtypes.f64) / percent


def _quantile(
    name: str,
    x: Operand,
    q: Operand,
    axis: Axis,
    method: str,
    keepdims: bool,
    *,
    percent: float = 1,
    skip: bool = False,
) -> Any:
    """``quantile``; shares are of ``percent``, and with ``skip`` NaN are not counted."""
    [node] = to_nodes(x)
    names = ", ".join((*_BETWEEN, *_AT, *_STEPS, "midpoint"))
    if method not in names.split(", "):
        raise UnsupportedError(f"{name}: there is no method {method!r}; there are {names}")
    node = to_float(node)
    rows, axes = _gathered_axes(name, node, axis)
    n = rows.shape[-1]
    if not n:
        raise ShapeError(f"{name} of no elements: shape {node.shape} is empty along axes {axes}")
    share = _shares(name, q, percent)
    ordered = sort(rows, -1)
    front = permute_node(ordered, (rows.ndim - 1, *range(rows.ndim - 1)))
    others = front.shape[1:]
    shape = (*share.shape, *others)
    share = broadcast_node(reshape_node(share, (*share.shape, *(1 for _ in others))), shape)
    unknown = isnan(rows)
    if skip:
        known = broadcast_node(cast_node(n - sum(unknown, -1), dtypes.f64), shape)
        spoilt = broadcast_node(equal(known, 0), shape)
    else:
        known = constant(float(n), dtypes.f64, shape)
        spoilt = broadcast_node(any(unknown, -1), shape)
    alpha, beta = _BETWEEN.get(method, (1.0, 1.0))
    count = share * (known if method in _STEPS else known + (1 - alpha - beta))
    ends = equal(count, floor(count)) & greater_equal(count, 1)  # where a step ends
    if method == "closest_observation":
        count = rint(count)
    place = clip(ceil(count) - 1 if method in _STEPS else count + (alpha - 1), 0.0, known - 1)
    if method in _AT:
        place = _AT[method](place)
    low = floor(place)
    fraction = place - low
    if method == "midpoint":
        fraction = where(equal(fraction, 0), 0.0, 0.5)
    if method == "averaged_inverted_cdf":
        fraction = where(ends, 0.5, 0.0)
    after = where(fraction > 0, low + 1, low)

    def at(places: Node) -> Node:
        chosen = cast_node(clip(places, 0, n - 1), dtypes.i64)
        grid = [iota(dtypes.i64, shape, len(shape) - len(others) + k) for k in range(len(others))]
        return gather(front, [chosen, *grid])

    a, b, t = at(low), at(after), cast_node(fraction, node.dtype)
    between = where(t < 0.5, a + (b - a) * t, b - (b - a) * (1 - t))
    result = where(spoilt, math.nan, where(equal(a, b), a, between))
    if keepdims:
        lead = result.ndim - len(others)
        kept = tuple(1 if k in axes else size for k, size in enumerate(node.shape))
        result = reshape_node(result, (*result.shape[:lead], *kept))
    return result


@at_once
@composite(wide=True)
def quantile(x: Operand, q: Operand, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Any:
    """The values below which shares ``q`` (from 0 to 1) of the elements over axes lie; NaN if there is one.

    The axes of ``q`` come first in the result's shape. ``method`` says what counts between two elements, as in NumPy:
    ``linear`` (the default), ``lower``, ``higher``, ``nearest``, ``midpoint``, ``hazen``, ``weibull``,
    ``median_unbiased``, ``normal_unbiased``, ``interpolated_inverted_cdf``, ``inverted_cdf``,
    ``averaged_inverted_cdf`` and ``closest_observation``. Raises ShapeError for no elements.

    >>> quantile(kn.array([1.0, 2.0, 3.0, 4.0]), 0.25)  # 1.75
    """
    return _quantile("quantile", x, q, axis, method, keepdims)


@at_once
@composite(wide=True)
def percentile(x: Operand, q: Operand, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Any:
    """``quantile`` with shares in hundredths.

    >>> percentile(kn.array([1.0, 2.0, 3.0, 4.0]), 25)  # 1.75
    """
    return _quantile("percentile", x, q, axis, method, keepdims, percent=100)


@at_once
@composite(wide=True)
def median(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The middle of the sorted elements over axes, or the mean of the two in the middle; NaN if there is one.

    >>> median(kn.array([4.0, 1.0, 2.0, 3.0]))  # 2.5
    """
    return _quantile("median", x, 0.5, axis, "linear", keepdims)


@at_once
@composite(wide=True)
def nanquantile(x: Operand, q: Operand, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Any:
    """``quantile`` of what is not NaN; NaN where all are.

    >>> nanquantile(kn.array([1.0, float("nan"), 3.0]), 0.5)  # 2
    """
    return _quantile("nanquantile", x, q, axis, method, keepdims, skip=True)


@at_once
@composite(wide=True)
def nanpercentile(x: Operand, q: Operand, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Any:
    """``percentile`` of what is not NaN; NaN where all are.

    >>> nanpercentile(kn.array([1.0, float("nan"), 3.0]), 50)  # 2
    """
    return _quantile("nanpercentile", x, q, axis, method, keepdims, percent=100, skip=True)


@at_once
@composite(wide=True)
def nanmedian(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """``median`` of what is not NaN; NaN where all are.

    >>> nanmedian(kn.array([1.0, float("nan"), 3.0]))  # 2
    """
    return _quantile("nanmedian", x, 0.5, axis, "linear", keepdims, skip=True)


# --- binary search ---------------------------------------------------------------------------------------------------


@at_once
@composite(2)
def searchsorted(a: Operand, v: Operand, side: str = "left", sorter: Operand = None) -> Any:
    """Where in the sorted ``a`` (one dimension) to insert each element of ``v`` so that it stays sorted, as int64.

    Before elements that are equal (``side`` 'left') or after them ('right'). ``sorter`` are indices that sort ``a``.

    >>> searchsorted(kn.array([1.0, 3.0, 5.0]), kn.array([3.0, 4.0]))  # [1, 2]
    """
    if side not in ("left", "right"):
        raise UnsupportedError(f"searchsorted: side is 'left' or 'right', not {side!r}")
    row, wanted = to_nodes(a, v)
    if row.ndim != 1:
        raise ShapeError(f"searchsorted: the array to search in has one dimension, not shape {row.shape}")
    if sorter is not None:
        row = take_along_axis(row, sorter, 0)
    dtype = common_dtype(row, v if is_scalar(v) else wanted)
    row, wanted = widened(cast_node(row, dtype)), widened(cast_node(wanted, dtype))
    if dtype == dtypes.boolean:
        row, wanted = cast_node(row, dtypes.u8), cast_node(wanted, dtypes.u8)
    floats = dtypes.is_float(row.dtype)
    unknown = isnan(wanted) if floats else None

    def before(element: Node) -> Node:
        """Whether an element stays before the wanted one."""
        found: Node = less(element, wanted) if side == "left" else less_equal(element, wanted)
        if unknown is None:
            return found
        return where(unknown, True if side == "right" else equal(element, element), found)  # type: ignore[no-any-return]

    place = constant(0, dtypes.i64, wanted.shape)
    left = row.shape[0]
    while left > 1:  # halving, with the same steps for all elements
        half = left // 2
        probe = place + half
        place = where(before(gather(row, [probe - 1])), probe, place)
        left -= half
    if left:
        place = place + cast_node(before(gather(row, [place])), dtypes.i64)
    return place


@composite(2)
def digitize(x: Operand, bins: Operand, right: bool = False) -> Any:
    """The number of the bin that each element is in, as int64: 0 below ``bins[0]``, ``len(bins)`` above the last.

    ``bins`` are sorted, upwards or downwards. A bin contains its lower bound, or its upper one if ``right``.

    >>> digitize(kn.array([0.5, 1.0, 9.0]), kn.array([1.0, 2.0]))  # [0, 1, 2]
    """
    [given], side = to_nodes(bins), "left" if right else "right"
    upwards = searchsorted(given, x, side)
    if given.type.size < 2:
        return upwards
    downwards = given.type.size - searchsorted(flip_node(given, (0,)), x, side)
    first, last = cut_node(given, 0, 0, 1), cut_node(given, 0, given.type.size - 1, given.type.size)
    return where(less(last, first), downwards, upwards)


__all__ = [
    "argpartition", "argsort", "digitize", "lexsort", "median", "nanmedian", "nanpercentile", "nanquantile",
    "partition", "percentile", "quantile", "searchsorted", "sort", "topk",
]  # fmt: skip
