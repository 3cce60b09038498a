"""Differences, slopes, sums of products along an axis, polynomials: what is done with numbers in a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from knetc.ir.node import Node
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    cast_node,
    common_dtype,
    composite,
    constant,
    is_scalar,
    reshape_node,
    scalar_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.arithmetic import absolute, clip
from knetc.ops.division import mod
from knetc.ops.identities import iota
from knetc.ops.indexed import gather
from knetc.ops.linear import product_dtype
from knetc.ops.logic import equal, greater, greater_equal, less, not_equal, where
from knetc.ops.movement import concat_node, cut_node, flip_node, normalize_axes, normalize_axis, pad_node
from knetc.ops.reduction import sum, to_float
from knetc.ops.scan import cumsum
from knetc.ops.sorting import argsort, searchsorted
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError, UnsupportedError

# --- differences and sums --------------------------------------------------------------------------------------------


def difference(x: Operand, n: int = 1, axis: int = -1, prepend: Operand = None, append: Operand = None) -> Any:
    """Each element along an axis less the one before it, ``n`` times over: NumPy's ``diff``.

    ``prepend`` and ``append`` are put before and after ``x`` first; numbers stand for one element each.

    >>> difference(kn.array([1.0, 4.0, 9.0]))  # [3, 5]
    """
    [node] = to_nodes(x)
    axis = normalize_axis("difference", axis, node.ndim)
    if n < 0:
        raise ShapeError(f"difference: n is an int of at least 0, not {n}")
    dtype = common_dtype(*[o for o in (node, prepend, append) if o is not None])
    thin = tuple(1 if k == axis else extent for k, extent in enumerate(node.shape))
    pieces = []
    for piece in (prepend, node, append):
        if piece is None:
            continue
        part = scalar_node(piece, dtype) if is_scalar(piece) else cast_node(to_nodes(piece)[0], dtype)
        pieces.append(part if part.ndim else broadcast_node(part, thin))
    node = concat_node(pieces, axis)
    for _ in range(n):
        extent = node.shape[axis]
        if not extent:
            break
        after, before = cut_node(node, axis, 1, extent), cut_node(node, axis, 0, extent - 1)
        node = not_equal(after, before) if node.dtype == dtypes.boolean else after - before
    return wrap_like(tuple(o for o in (x, prepend, append) if o is not None), node)


def ediff1d(x: Operand, to_end: Operand = None, to_begin: Operand = None) -> Any:
    """Differences of all elements in a row, with ``to_begin`` before them and ``to_end`` after.

    >>> ediff1d(kn.array([1, 4, 9]), to_end=0)  # [3, 5, 0]
    """
    [node] = to_nodes(x)
    steps = difference(reshape_node(node, (node.type.size,)))
    pieces = []
    for piece in (to_begin, steps, to_end):
        if piece is not None:
            part = scalar_node(piece, node.dtype) if is_scalar(piece) else cast_node(to_nodes(piece)[0], node.dtype)
            pieces.append(reshape_node(part, (part.type.size,)))
    return wrap_like(tuple(o for o in (x, to_end, to_begin) if o is not None), concat_node(pieces, 0))


@composite(2, wide=True)
def trapezoid(y: Operand, x: Operand = None, dx: float = 1.0, axis: int = -1) -> Any:
    """The integral along an axis by trapezoids, of values ``y`` at ``x`` or at distances ``dx``.

    >>> trapezoid(kn.array([1.0, 2.0, 3.0]))  # 4
    """
    values = to_float(to_nodes(y)[0])
    axis = normalize_axis("trapezoid", axis, values.ndim)
    extent = values.shape[axis]
    middle = cut_node(values, axis, 1, extent) + cut_node(values, axis, 0, extent - 1)
    if x is None:
        return sum(middle, axis) * (dx / 2)
    [places] = to_nodes(x)
    if places.ndim == 1:
        places = _along(places, axis, values.ndim)
    return sum(difference(places, 1, axis) * middle, axis) * 0.5


def _along(vector: Node, axis: int, ndim: int) -> Node:
    """A vector along an axis of an array of ``ndim`` axes."""
    return reshape_node(vector, tuple(vector.shape[0] if k == axis else 1 for k in range(ndim)))


def gradient(f: Operand, *spacing: Any, axis: int | Sequence[int] | None = None, edge_order: int = 1) -> Any:
    """Slopes along each axis (or those named) by central differences, at the edges by one-sided ones.

    ``spacing`` is one distance for all axes, or for each a distance or the places themselves (a vector). Of several
    axes it gives a tuple, one array for each; ``edge_order`` is 1 or 2. Raises ShapeError for too few elements.

    >>> gradient(kn.array([1.0, 2.0, 4.0, 7.0]))  # [1, 1.5, 2.5, 3]
    """
    [node] = to_nodes(f)
    values = to_float(node)
    axes = (
        [normalize_axis("gradient", axis, values.ndim)]
        if isinstance(axis, int)
        else (list(range(values.ndim)) if axis is None else [normalize_axis("gradient", a, values.ndim) for a in axis])
    )
    if edge_order not in (1, 2):
        raise UnsupportedError(f"gradient: edge_order is 1 or 2, not {edge_order!r}")
    steps = list(spacing) * len(axes) if len(spacing) == 1 else list(spacing) or [1.0] * len(axes)
    if len(steps) != len(axes):
        raise ShapeError(f"gradient: {len(axes)} axes take one spacing or as many, not {len(spacing)}")
    found = [_slope(values, a, step, edge_order) for a, step in zip(axes, steps)]
    made = [wrap_like((f, *(s for s in spacing if not is_scalar(s))), slope) for slope in found]
    return made[0] if len(made) == 1 else tuple(made)


def _slope(f: Node, axis: int, spacing: Any, edge_order: int) -> Node:
    """The slope along one axis: a weighted sum of neighbours, with weights for distances that differ."""
    extent = f.shape[axis]
    if extent < edge_order + 1:
        raise ShapeError(f"gradient: axis {axis} of extent {extent} needs at least {edge_order + 1} elements")

    def part(begin: int, end: int) -> Node:
        return cut_node(f, axis, begin, end)

    if is_scalar(spacing) or not to_nodes(spacing)[0].ndim:
        step: Any = spacing if is_scalar(spacing) else cast_node(to_nodes(spacing)[0], f.dtype)
        middle = (part(2, extent) - part(0, extent - 2)) / (2 * step)
        first, last = (part(1, 2) - part(0, 1)) / step, (part(extent - 1, extent) - part(extent - 2, extent - 1)) / step
        if edge_order == 2:
            first = (part(0, 1) * -1.5 + part(1, 2) * 2.0 - part(2, 3) * 0.5) / step
            a, b, c = (part(extent - k, extent - k + 1) for k in (1, 2, 3))
            last = (a * 1.5 - b * 2.0 + c * 0.5) / step
        return concat_node([first, middle, last], axis)
    [places] = to_nodes(spacing)
    if places.shape != (extent,):
        raise ShapeError(f"gradient: the places along axis {axis} are of shape ({extent},), not {places.shape}")
    gaps = _along(difference(cast_node(places, f.dtype)), axis, f.ndim)

    def gap(begin: int, end: int) -> Node:
        return cut_node(gaps, axis, begin, end)

    before, after = gap(0, extent - 2), gap(1, extent - 1)
    middle = (
        part(2, extent) * (before / (after * (before + after)))
        + part(1, extent - 1) * ((after - before) / (before * after))
        - part(0, extent - 2) * (after / (before * (before + after)))
    )
    last_gap = gap(extent - 2, extent - 1)
    first = (part(1, 2) - part(0, 1)) / gap(0, 1)
    last = (part(extent - 1, extent) - part(extent - 2, extent - 1)) / last_gap
    if edge_order == 2:
        p, q = gap(0, 1), gap(1, 2)
        first = (
            part(1, 2) * ((p + q) / (p * q))
            - part(0, 1) * ((2 * p + q) / (p * (p + q)))
            - part(2, 3) * (p / (q * (p + q)))
        )
        p, q = gap(extent - 3, extent - 2), last_gap
        a, b, c = (part(extent - k, extent - k + 1) for k in (1, 2, 3))
        last = a * ((2 * q + p) / (q * (p + q))) - b * ((p + q) / (p * q)) + c * (q / (p * (p + q)))
    return concat_node([first, middle, last], axis)


@composite()
def unwrap(p: Operand, discont: float | None = None, axis: int = -1, *, period: float = 2 * math.pi) -> Any:
    """Angles along an axis without jumps: where one is more than half a period, multiples of the period are taken off.

    Jumps smaller than ``discont`` stay. Integers stay integers if the period is one.

    >>> unwrap(kn.array([0.0, 3.0, 6.0, 2.0]))  # [0, 3, 6, 8.283185]
    """
    [node] = to_nodes(p)
    if not (dtypes.is_integer(node.dtype) and isinstance(period, int)):
        node = to_float(node)
    axis = normalize_axis("unwrap", axis, node.ndim)
    steps = difference(node, 1, axis)
    half = period / 2 if dtypes.is_float(node.dtype) else period // 2
    within = mod(steps + half, period) - half
    if dtypes.is_float(node.dtype) or period % 2 == 0:  # a step of half a period keeps its sign
        within = where(equal(within, -half) & greater(steps, 0), half, within)
    bound = period / 2 if discont is None else discont
    taken = where(less(cast_node(absolute(steps), dtypes.f64), bound), 0, within - steps)
    extent = node.shape[axis]
    later = cut_node(node, axis, 1, extent) + cumsum(taken, axis)
    return concat_node([cut_node(node, axis, 0, min(extent, 1)), cast_node(later, node.dtype)], axis)


# --- sliding sums of products ----------------------------------------------------------------------------------------


@composite(2)
def convolve(a: Operand, v: Operand, mode: str = "full") -> Any:
    """The convolution of two vectors: sums of products, one of them backwards and sliding along the other.

    ``mode`` is "full" (every overlap, of length N + M - 1), "same" (of length max(N, M)) or "valid" (complete overlaps
    alone). Raises ShapeError for what is no vector, or empty.

    >>> convolve(kn.array([1.0, 2.0, 3.0]), kn.array([0.0, 1.0, 0.5]))  # [0, 1, 2.5, 4, 1.5]
    """
    left, right = _vectors("convolve", a, v)
    if right.shape[0] > left.shape[0]:
        left, right = right, left
    return _sliding(left, flip_node(right, (0,)), mode)


@composite(2)
def correlate(a: Operand, v: Operand, mode: str = "valid") -> Any:
    """The cross-correlation of two vectors: sums of products, ``v`` sliding along ``a``. For ``mode`` see ``convolve``.

    >>> correlate(kn.array([1.0, 2.0, 3.0]), kn.array([0.0, 1.0, 0.5]))  # 3.5
    """
    left, right = _vectors("correlate", a, v)
    if right.shape[0] > left.shape[0]:
        return flip_node(_sliding(right, left, mode), (0,))
    return _sliding(left, right, mode)


def _vectors(name: str, a: Operand, v: Operand) -> list[Node]:
    left, right = to_nodes(a, v)
    if left.ndim > 1 or right.ndim > 1 or not left.type.size or not right.type.size:
        raise ShapeError(f"{name} takes two vectors with elements, not {left.type} and {right.type}")
    dtype = common_dtype(left, right)
    return [reshape_node(cast_node(n, dtype), (n.type.size,)) for n in (left, right)]


def _sliding(a: Node, v: Node, mode: str) -> Node:
    """Sums of products of ``v`` with each stretch of ``a``, which is the longer one."""
    count = v.shape[0]
    widths = {"full": (count - 1, count - 1), "same": (count // 2, (count - 1) // 2), "valid": (0, 0)}
    if mode not in widths:
        raise UnsupportedError(f'the mode is "full", "same" or "valid", not {mode!r}')
    low, high = widths[mode]
    dtype = a.dtype
    within = dtype if dtype == dtypes.boolean else product_dtype(dtype)
    a, v = cast_node(a, within), cast_node(v, within)
    padded = pad_node(a, (low,), (high,))
    shape = (padded.shape[0] - count + 1, count)
    stretches = gather(padded, [iota(dtypes.i64, shape, 0) + iota(dtypes.i64, shape, 1)])
    return cast_node(sum(stretches * v, 1), dtype)


# --- between places -------------------------------------------------------------------------------------------------


@composite(3)
def interp(
    x: Operand, xp: Operand, fp: Operand, left: Operand = None, right: Operand = None, period: float | None = None
) -> Any:
    """Values at ``x`` on the lines between the points (``xp``, ``fp``), vectors whose places ascend.

    Before the first and after the last point it is the value there, or ``left`` and ``right``. With a ``period``
    places count modulo it, and need not ascend. Computes in float64 for float64, else in the default floating dtype.

    >>> interp(kn.array([0.5, 2.5]), kn.array([0.0, 1.0, 2.0]), kn.array([0.0, 10.0, 20.0]))  # [5, 20]
    """
    nodes = [to_float(n) for n in to_nodes(x, xp, fp)]
    dtype = common_dtype(*nodes)
    at, places, values = (cast_node(n, dtype) for n in nodes)
    if places.ndim != 1 or places.shape != values.shape or not places.shape[0]:
        raise ShapeError(f"interp: the points are two vectors of one length, not {places.type} and {values.type}")
    if period is not None:
        at, places = mod(at, period), mod(places, period)
        order = argsort(places)
        places, values = gather(places, [order]), gather(values, [order])
        ends = [cut_node(n, 0, k, k + 1) for n in (places, values) for k in (places.shape[0] - 1, 0)]
        places = concat_node([ends[0] - period, places, ends[1] + period], 0)
        values = concat_node([ends[2], values, ends[3]], 0)
    count = places.shape[0]
    first, last = (reshape_node(cut_node(values, 0, k, k + 1), ()) for k in (0, count - 1))
    low, high = (reshape_node(cut_node(places, 0, k, k + 1), ()) for k in (0, count - 1))
    inside = broadcast_node(first, at.shape)
    if count > 1:
        before = clip(searchsorted(places, at, "right") - 1, 0, count - 2)
        begin, value = gather(places, [before]), gather(values, [before])
        slope = (gather(values, [before + 1]) - value) / (gather(places, [before + 1]) - begin)
        inside = value + slope * (at - begin)
    inside = where(greater_equal(at, high), last, inside)
    inside = where(less(at, low), first if left is None else left, inside)
    return where(greater(at, high), last if right is None else right, inside)


# --- polynomials -----------------------------------------------------------------------------------------------------


@composite(2)
def polyval(coefficients: Operand, x: Operand) -> Any:
    """A polynomial at ``x``, by Horner's rule; its coefficients are a vector, that of the highest power first.

    >>> polyval(kn.array([1.0, 0.0, -2.0]), kn.array([3.0]))  # 7
    """
    row, node = to_nodes(coefficients, x)
    if row.ndim != 1:
        raise ShapeError(f"polyval: coefficients are a vector, not {row.type}")
    dtype = common_dtype(row, node)
    row, node = cast_node(row, dtype), cast_node(node, dtype)
    result = constant(0, dtype, node.shape)
    for k in range(row.shape[0]):
        result = result * node + reshape_node(cut_node(row, 0, k, k + 1), ())
    return result


@composite(2)
def cross(a: Operand, b: Operand, axis: int = -1) -> Any:
    """The vector product along an axis of extent 3; the other axes broadcast.

    >>> cross(kn.array([1.0, 0.0, 0.0]), kn.array([0.0, 1.0, 0.0]))  # [0, 0, 1]
    """
    left, right = to_nodes(a, b)
    nodes = []
    for node in (left, right):
        place = normalize_axis("cross", axis, node.ndim)
        if node.shape[place] != 3:
            raise ShapeError(f"cross: axis {axis} of {left.type} and {right.type} must be of extent 3 in both")
        nodes.append([cut_node(node, place, k, k + 1) for k in range(3)])
    (x, y, z), (u, v, w) = nodes
    parts = [y * w - z * v, z * u - x * w, x * v - y * u]
    return concat_node(parts, normalize_axes("cross", axis, parts[0].ndim)[0])


__all__ = [
    "convolve", "correlate", "cross", "difference", "ediff1d", "gradient", "interp", "polyval", "trapezoid",
    "unwrap",
]  # fmt: skip
