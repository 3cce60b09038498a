"""Moments, averages and comparisons of whole arrays: plain functions over the operations."""

from __future__ import annotations

import math
from typing import Any

from knetc.ir.node import Node
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
from knetc.ops.arithmetic import absolute, square, subtract
from knetc.ops.linear import matmul
from knetc.ops.logic import equal, isfinite, isnan, less_equal, logical_and
from knetc.ops.logic import where as choose
from knetc.ops.movement import concat_node, matrix_transpose, normalize_axis, squeeze
from knetc.ops.rearrange import diagonal
from knetc.ops.reduction import (
    Axis,
    all,
    argmax,
    argmin,
    count_along,
    highest,
    lowest,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    to_float,
    var,
)
from knetc.ops.scan import cumprod, cumsum
from knetc.ops.transcendental import sqrt
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

# --- extremes and where they are -------------------------------------------------------------------------------------


@at_once
@composite()
def findmax(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The largest element along an axis (of all by default) and its index: ``(max, argmax)``.

    >>> findmax(kn.array([1.0, 3.0, 3.0]))  # (3, 1)
    """
    return max(x, axis, keepdims=keepdims), argmax(x, axis, keepdims=keepdims)


@at_once
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
def average(
    x: Operand, axis: Axis = None, weights: Operand = None, *, returned: bool = False, keepdims: bool = False
) -> Any:
    """The mean over axes, each element counted by its weight; with ``returned`` also the sum of the weights.

    ``weights`` broadcast against ``x``; those in one row may also lie along the one axis.

    >>> average(kn.array([1.0, 3.0]), weights=kn.array([3.0, 1.0]))  # 1.5
    """
    node = to_float(to_nodes(x)[0])
    if weights is None:
        result = mean(node, axis, keepdims=keepdims)
        return (result, constant(count_along(node, axis), node.dtype, result.shape)) if returned else result
    [shares] = to_nodes(weights)
    if shares.ndim == 1 and node.ndim > 1 and isinstance(axis, int):
        place = normalize_axis("average", axis, node.ndim)
        shares = reshape_node(shares, tuple(shares.type.size if k == place else 1 for k in range(node.ndim)))
    shares = broadcast_node(cast_node(shares, node.dtype), node.shape)
    total = sum(shares, axis, keepdims=keepdims)
    result = sum(node * shares, axis, keepdims=keepdims) / total
    return (result, total) if returned else result


# --- without the NaN -------------------------------------------------------------------------------------------------


def _filled(x: Operand, value: bool | int | float) -> Node:
    [node] = to_nodes(x)
    filled: Node = choose(isnan(node), value, node) if dtypes.is_float(node.dtype) else node
    return filled


def _numbers(x: Node, where: Operand) -> Operand:
    """Where elements count and are not NaN; None for everywhere."""
    if not dtypes.is_float(x.dtype):
        return where
    return equal(x, x) if where is None or where is True else logical_and(equal(x, x), where)


@composite()
def nansum(
    x: Operand, axis: Axis = None, *, keepdims: bool = False, dtype: Any = None, initial: Operand = None,
    where: Operand = None,
) -> Any:  # fmt: skip
    """The sum over axes of what is not NaN; 0 where all are. The parameters are those of ``sum``.

    >>> nansum(kn.array([1.0, float("nan"), 2.0]))  # 3
    """
    [node] = to_nodes(x)
    return sum(node, axis, keepdims=keepdims, dtype=dtype, initial=initial, where=_numbers(node, where))


@composite()
def nanprod(
    x: Operand, axis: Axis = None, *, keepdims: bool = False, dtype: Any = None, initial: Operand = None,
    where: Operand = None,
) -> Any:  # fmt: skip
    """The product over axes of what is not NaN; 1 where all are. The parameters are those of ``prod``.

    >>> nanprod(kn.array([2.0, float("nan"), 3.0]))  # 6
    """
    [node] = to_nodes(x)
    return prod(node, axis, keepdims=keepdims, dtype=dtype, initial=initial, where=_numbers(node, where))


@composite()
def nancumsum(x: Operand, axis: int | None = None, *, dtype: Any = None) -> Any:
    """The sums of what is not NaN up to each element along an axis; of all elements in a row by default.

    >>> nancumsum(kn.array([1.0, float("nan"), 2.0]))  # [1, 1, 3]
    """
    return cumsum(_filled(x, 0), axis, dtype=dtype)


@composite()
def nancumprod(x: Operand, axis: int | None = None, *, dtype: Any = None) -> Any:
    """The products of what is not NaN up to each element along an axis; of all elements in a row by default.

    >>> nancumprod(kn.array([2.0, float("nan"), 3.0]))  # [2, 2, 6]
    """
    return cumprod(_filled(x, 1), axis, dtype=dtype)


@composite()
def nanmax(
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: Operand = None, where: Operand = None
) -> Any:
    """The largest over axes of what is not NaN; NaN where all are. The parameters are those of ``max``.

    >>> nanmax(kn.array([1.0, float("nan"), 2.0]))  # 2
    """
    return _nan_extreme(max, lowest, x, axis, keepdims, initial, where)


@composite()
def nanmin(
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: Operand = None, where: Operand = None
) -> Any:
    """The smallest over axes of what is not NaN; NaN where all are. The parameters are those of ``min``.

    >>> nanmin(kn.array([1.0, float("nan"), 2.0]))  # 1
    """
    return _nan_extreme(min, highest, x, axis, keepdims, initial, where)


def _nan_extreme(
    function: Any, worst: Any, x: Operand, axis: Axis, keepdims: bool, initial: Operand, where: Operand
) -> Any:
    [node] = to_nodes(x)
    if not dtypes.is_float(node.dtype) or initial is not None or where is not None:
        where = where if initial is None else _numbers(node, where)
        return function(node, axis, keepdims=keepdims, initial=initial, where=where)
    found = function(_filled(node, worst(node.dtype)), axis, keepdims=keepdims)
    return choose(all(isnan(node), axis, keepdims=keepdims), math.nan, found)


@composite()
def nanargmax(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index (int64) of the first largest element along an axis that is not NaN; 0 where all are.

    >>> nanargmax(kn.array([1.0, float("nan"), 2.0]))  # 2
    """
    [node] = to_nodes(x)
    return argmax(_filled(node, -math.inf), axis, keepdims=keepdims)


@composite()
def nanargmin(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index (int64) of the first smallest element along an axis that is not NaN; 0 where all are.

    >>> nanargmin(kn.array([1.0, float("nan"), 2.0]))  # 0
    """
    [node] = to_nodes(x)
    return argmin(_filled(node, math.inf), axis, keepdims=keepdims)


def nanmean(x: Operand, axis: Axis = None, *, keepdims: bool = False, dtype: Any = None, where: Operand = None) -> Any:
    """The mean over axes of what is not NaN; NaN where all are. The parameters are those of ``mean``.

    >>> nanmean(kn.array([1.0, float("nan"), 3.0]))  # 2
    """
    return _of_numbers(mean, x, dtype, where, axis=axis, keepdims=keepdims)


def nanvar(
    x: Operand, axis: Axis = None, *, correction: float = 0, ddof: float = 0, keepdims: bool = False, dtype: Any = None,
    mean: Operand = None, where: Operand = None,
) -> Any:  # fmt: skip
    """The variance over axes of what is not NaN; NaN where all are. The parameters are those of ``var``.

    >>> nanvar(kn.array([1.0, float("nan"), 3.0]))  # 1
    """
    correction = correction or ddof
    return _of_numbers(var, x, dtype, where, axis=axis, correction=correction, keepdims=keepdims, mean=mean)


def nanstd(
    x: Operand, axis: Axis = None, *, correction: float = 0, ddof: float = 0, keepdims: bool = False, dtype: Any = None,
    mean: Operand = None, where: Operand = None,
) -> Any:  # fmt: skip
    """The standard deviation over axes of what is not NaN: the square root of ``nanvar``.

    >>> nanstd(kn.array([1.0, float("nan"), 3.0]))  # 1
    """
    correction = correction or ddof
    return _of_numbers(std, x, dtype, where, axis=axis, correction=correction, keepdims=keepdims, mean=mean)


def _of_numbers(function: Any, x: Operand, dtype: Any, where: Operand, **options: Any) -> Any:
    """A moment of what is not NaN."""
    [node] = to_nodes(x)
    return wrap_like((x,), function(node, dtype=dtype, where=_numbers(node, where), **options))


# --- how rows vary together ------------------------------------------------------------------------------------------


@composite(wide=True)
def cov(m: Operand, y: Operand = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None) -> Any:
    """The covariances of variables: each row of ``m`` (and of ``y``) is one, each column an observation.

    With ``rowvar`` False it is the other way round. The sums are divided by the count less 1, or less ``ddof``; by the
    count with ``bias``. A vector is one variable and gives a number.

    >>> cov(kn.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))  # [[1, -1], [-1, 1]]
    """
    [first] = to_nodes(m)
    rows = _variables(first, rowvar)
    if y is not None:
        rows = concat_node([rows, cast_node(_variables(to_nodes(y)[0], rowvar), rows.dtype)], 0)
    apart = rows - mean(rows, 1, keepdims=True)
    freedom = rows.shape[1] - (ddof if ddof is not None else 0 if bias else 1)
    found = matmul(apart, matrix_transpose(apart)) / constant(freedom if freedom > 0 else 0, rows.dtype)
    return squeeze(found)


def _variables(node: Node, rowvar: bool) -> Node:
    """One variable in each row."""
    if node.ndim > 2:
        raise ShapeError(f"cov takes vectors and matrices, not {node.type}")
    node = to_float(node)
    if node.ndim < 2:
        return reshape_node(node, (1, node.type.size))
    return node if rowvar else matrix_transpose(node)


@composite(wide=True)
def corrcoef(x: Operand, y: Operand = None, rowvar: bool = True) -> Any:
    """The correlations of variables: their covariances divided by both standard deviations (see ``cov``).

    >>> corrcoef(kn.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))  # [[1, -1], [-1, 1]]
    """
    found = cov(x, y, rowvar)
    if not found.ndim:
        return found / found
    spread = sqrt(diagonal(found))
    return found / reshape_node(spread, (*spread.shape, 1)) / spread


# --- comparisons of whole arrays -------------------------------------------------------------------------------------


@composite(2)
def isclose(a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether elements differ by at most ``atol + rtol * abs(b)``; infinities are close to themselves.

    >>> isclose(kn.array([1.0, 2.0]), kn.array([1.0, 2.1]))  # [True, False]
    """
    left, right = to_nodes(a, b)
    near = less_equal(absolute(subtract(to_float(left), right)), absolute(to_float(right)) * rtol + atol)
    close = equal(left, right) | (near & isfinite(right))
    return close | (isnan(left) & isnan(right)) if equal_nan else close


@composite(2)
def allclose(a: Operand, b: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Whether all elements are close, as ``isclose`` has it: a bool of no dimensions.

    >>> allclose(kn.array([1.0, 2.0]), kn.array([1.0, 2.1]))  # False
    """
    return all(isclose(a, b, rtol, atol, equal_nan=equal_nan))


@composite(2)
def array_equal(a: Operand, b: Operand, equal_nan: bool = False) -> Any:
    """Whether two arrays have the same shape and equal elements: a bool of no dimensions.

    >>> array_equal(kn.array([1, 2]), kn.array([1, 2]))  # True
    """
    left, right = to_nodes(a, b)
    if left.shape != right.shape:
        return constant(False, dtypes.boolean)
    same = equal(left, right)
    return all(same | (isnan(left) & isnan(right)) if equal_nan else same)


__all__ = [
    "allclose", "array_equal", "average", "corrcoef", "cov", "findmax", "findmin", "isclose", "nanargmax",
    "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar",
    "ptp", "stdm", "varm",
]  # fmt: skip
