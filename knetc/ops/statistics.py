"""Moments, averages and comparisons of whole arrays: plain functions over the operations."""

from __future__ import annotations

import math
from typing import Any

from knetc.ir.node import Node
from knetc.ops.apply import Operand, broadcast_node, cast_node, composite, constant, reshape_node, to_nodes
from knetc.ops.arithmetic import absolute, square, subtract
from knetc.ops.logic import equal, isfinite, isnan, less_equal, not_equal, where
from knetc.ops.movement import cut_node, normalize_axis
from knetc.ops.reduction import (
    Axis,
    all,
    argmax,
    argmin,
    count_along,
    count_nonzero,
    highest,
    lowest,
    max,
    mean,
    min,
    prod,
    sum,
    to_float,
)
from knetc.ops.transcendental import sqrt
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

# --- extremes and where they are -------------------------------------------------------------------------------------


@composite()
def findmax(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The largest element along an axis (of all by default) and its index: ``(max, argmax)``.

    >>> findmax(kn.array([1.0, 3.0, 3.0]))  # (3, 1)
    """
    return max(x, axis, keepdims=keepdims), argmax(x, axis, keepdims=keepdims)


@composite()
def findmin(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The smallest element along an axis (of all by default) and its index: ``(min, argmin)``.

    >>> findmin(kn.array([2.0, 1.0, 1.0]))  # (1, 1)
    """
    return min(x, axis, keepdims=keepdims), argmin(x, axis, keepdims=keepdims)


@composite()
def ptp(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The largest element less the smallest.

    >>> ptp(kn.array([1.0, 5.0, 3.0]))  # 4
    """
    return max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims)


# --- moments ---------------------------------------------------------------------------------------------------------


@composite(2, wide=True)
def varm(x: Operand, m: Operand, axis: Axis = None, *, correction: float = 1, keepdims: bool = False) -> Any:
    """The variance around a mean that is given; ``m`` broadcasts against ``x``.

    As Knet's ``varm``, it divides by the count less one unless ``correction`` says otherwise.

    >>> varm(kn.array([1.0, 2.0, 3.0, 4.0]), 2.5)  # 1.6666666
    """
    [node] = to_nodes(x)
    x = to_float(node)
    total = sum(square(subtract(x, m)), axis, keepdims=keepdims)
    freedom = count_along(node, axis) - correction
    return total / constant(freedom if freedom > 0 else 0, total.dtype, total.shape)


@composite(2, wide=True)
def stdm(x: Operand, m: Operand, axis: Axis = None, *, correction: float = 1, keepdims: bool = False) -> Any:
    """The standard deviation around a mean that is given: the square root of ``varm``.

    >>> stdm(kn.array([1.0, 2.0, 3.0, 4.0]), 2.5)  # 1.2909945
    """
    return sqrt(varm(x, m, axis, correction=correction, keepdims=keepdims))


@composite(wide=True)
def average(x: Operand, axis: Axis = None, weights: Operand = None, *, keepdims: bool = False) -> Any:
    """The mean over axes, each element counted by its weight.

    ``weights`` broadcast against ``x``; those in one row may also lie along the one axis.

    >>> average(kn.array([1.0, 3.0]), weights=kn.array([3.0, 1.0]))  # 1.5
    """
    node = to_float(to_nodes(x)[0])
    if weights is None:
        return mean(node, axis, keepdims=keepdims)
    [shares] = to_nodes(weights)
    if shares.ndim == 1 and node.ndim > 1 and isinstance(axis, int):
        place = normalize_axis("average", axis, node.ndim)
        shares = reshape_node(shares, tuple(shares.type.size if k == place else 1 for k in range(node.ndim)))
    shares = broadcast_node(cast_node(shares, node.dtype), node.shape)
    return sum(node * shares, axis, keepdims=keepdims) / sum(shares, axis, keepdims=keepdims)


# --- without the NaN -------------------------------------------------------------------------------------------------


def _filled(x: Operand, value: bool | int | float) -> Node:
    [node] = to_nodes(x)
    filled: Node = where(isnan(node), value, node) if dtypes.is_float(node.dtype) else node
    return filled


@composite()
def nansum(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The sum over axes of what is not NaN; 0 where all are.

    >>> nansum(kn.array([1.0, float("nan"), 2.0]))  # 3
    """
    return sum(_filled(x, 0), axis, keepdims=keepdims)


@composite()
def nanprod(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The product over axes of what is not NaN; 1 where all are.

    >>> nanprod(kn.array([2.0, float("nan"), 3.0]))  # 6
    """
    return prod(_filled(x, 1), axis, keepdims=keepdims)


@composite()
def nanmax(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The largest over axes of what is not NaN; NaN where all are.

    >>> nanmax(kn.array([1.0, float("nan"), 2.0]))  # 2
    """
    return _nan_extreme(max, lowest, x, axis, keepdims)


@composite()
def nanmin(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The smallest over axes of what is not NaN; NaN where all are.

    >>> nanmin(kn.array([1.0, float("nan"), 2.0]))  # 1
    """
    return _nan_extreme(min, highest, x, axis, keepdims)


def _nan_extreme(function: Any, worst: Any, x: Operand, axis: Axis, keepdims: bool) -> Any:
    [node] = to_nodes(x)
    if not dtypes.is_float(node.dtype):
        return function(node, axis, keepdims=keepdims)
    found = function(_filled(node, worst(node.dtype)), axis, keepdims=keepdims)
    return where(all(isnan(node), axis, keepdims=keepdims), math.nan, found)


def _known(x: Node, axis: Axis, keepdims: bool) -> Node:
    """How many are not NaN, in the dtype of ``x``."""
    return cast_node(count_nonzero(equal(x, x), axis, keepdims=keepdims), x.dtype)


@composite(wide=True)
def nanmean(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The mean over axes of what is not NaN; NaN where all are.

    >>> nanmean(kn.array([1.0, float("nan"), 3.0]))  # 2
    """
    node = to_float(to_nodes(x)[0])
    return nansum(node, axis, keepdims=keepdims) / _known(node, axis, keepdims)


@composite(wide=True)
def nanvar(x: Operand, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Any:
    """The variance over axes of what is not NaN; NaN where all are.

    >>> nanvar(kn.array([1.0, float("nan"), 3.0]))  # 1
    """
    node = to_float(to_nodes(x)[0])
    total = nansum(square(node - nanmean(node, axis, keepdims=True)), axis, keepdims=keepdims)
    freedom = _known(node, axis, keepdims) - correction
    return where(freedom > 0, total, math.nan) / freedom


@composite(wide=True)
def nanstd(x: Operand, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Any:
    """The standard deviation over axes of what is not NaN: the square root of ``nanvar``.

    >>> nanstd(kn.array([1.0, float("nan"), 3.0]))  # 1
    """
    return sqrt(nanvar(x, axis, correction=correction, keepdims=keepdims))


# --- differences -----------------------------------------------------------------------------------------------------


@composite()
def difference(x: Operand, n: int = 1, axis: int = -1) -> Any:
    """Each element along an axis less the one before it, ``n`` times over: NumPy's ``diff``.

    >>> difference(kn.array([1.0, 4.0, 9.0]))  # [3, 5]
    """
    [node] = to_nodes(x)
    axis = normalize_axis("difference", axis, node.ndim)
    if n < 0:
        raise ShapeError(f"difference: n is an int of at least 0, not {n}")
    for _ in range(n):
        extent = node.shape[axis]
        if not extent:
            break
        after, before = cut_node(node, axis, 1, extent), cut_node(node, axis, 0, extent - 1)
        node = not_equal(after, before) if node.dtype == dtypes.boolean else after - before
    return node


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
        shape = tuple(places.shape[0] if k == axis else 1 for k in range(values.ndim))
        places = reshape_node(places, shape)
    return sum(difference(places, 1, axis) * middle, axis) * 0.5


# --- comparisons of whole arrays -------------------------------------------------------------------------------------


@composite(2)
def isclose(a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, *, equal_nan: bool = False) -> Any:
    """Whether elements differ by at most ``atol + rtol * abs(b)``; infinities are close to themselves.

    >>> isclose(kn.array([1.0, 2.0]), kn.array([1.0, 2.1]))  # [True, False]
    """
    left, right = to_nodes(a, b)
    near = less_equal(absolute(subtract(to_float(left), right)), absolute(to_float(right)) * rtol + atol)
    close = equal(left, right) | (near & isfinite(right))
    return close | (isnan(left) & isnan(right)) if equal_nan else close


@composite(2)
def allclose(a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, *, equal_nan: bool = False) -> Any:
    """Whether all elements are close, as ``isclose`` has it: a bool of no dimensions.

    >>> allclose(kn.array([1.0, 2.0]), kn.array([1.0, 2.1]))  # False
    """
    return all(isclose(a, b, rtol, atol, equal_nan=equal_nan))


@composite(2)
def array_equal(a: Operand, b: Operand) -> Any:
    """Whether two arrays have the same shape and equal elements: a bool of no dimensions.

    >>> array_equal(kn.array([1, 2]), kn.array([1, 2]))  # True
    """
    left, right = to_nodes(a, b)
    if left.shape != right.shape:
        return constant(False, dtypes.boolean)
    return all(equal(left, right))


# --- Knet's names of combinations ------------------------------------------------------------------------------------


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
