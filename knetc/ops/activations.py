"""Activation functions and normalisers, written with other operations so that they differentiate and fuse as they are.

Each is arranged so that its gradient, after equal values are merged, costs few operations and stays finite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.ir.op import Domain
from knetc.ops import define, vector_activations
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    cast_node,
    composite,
    constant,
    elementwise,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.arithmetic import absolute, clip, minimum, reciprocal, square
from knetc.ops.identities import iota, stop_gradient
from knetc.ops.logic import equal, greater, isfinite, isnan, less, less_equal, where
from knetc.ops.movement import cut_node, normalize_axes, normalize_axis, reshape
from knetc.ops.reduction import Axis, max, mean, sum, to_float
from knetc.ops.transcendental import (
    bell,
    exp,
    expm1,
    hypot,
    log,
    log1p,
    ndtr,
    ndtr_reference,
    rsqrt,
    sigmoid,
    softplus,
)
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543778


RELU = define.elementwise(
    "relu",
    reference=lambda x: np.where(x <= 0, np.zeros_like(x), x),
    # told from the result, so that the backward pass needs the result alone
    gradient=lambda node, dy: (where(less_equal(node, 0), 0, dy),),
    exact=True,
    emit=lambda e, x: e.select(e.compare("le", x, e.constant(0, x.dtype)), e.constant(0, x.dtype), x),
    accepts="fi",
    domains=(Domain(special=(0.0, -0.0, float("inf"), float("-inf"), float("nan"))),),
)


def relu(x: Operand) -> Any:
    """``x`` where it is above 0, else 0; the derivative at 0 is 0, and NaN stays NaN.

    >>> relu(kn.array([-1.0, 0.0, 2.0]))  # [0, 0, 2]
    """
    return elementwise(RELU, x)


@composite(wide=True)
def leaky_relu(x: Operand, slope: float = 0.01) -> Any:
    """``x`` where it is above 0, else ``slope * x``.

    >>> leaky_relu(kn.array([-1.0, 2.0]), 0.1)  # [-0.1, 2]
    """
    x = to_float(x)
    return x * where(greater(x, 0), constant(1, x.dtype), slope)


@composite(wide=True)
def elu(x: Operand, alpha: float = 1.0) -> Any:
    """``x`` where it is above 0, else ``alpha * (exp(x) - 1)``; the derivative at 0 is ``alpha``.

    >>> elu(kn.array([-1.0, 2.0]))  # [-0.63212055, 2]
    """
    x = to_float(x)
    above = greater(x, 0)
    below = expm1(where(above, 0, x))  # the unused branch must not overflow: inf * 0 would reach the gradient
    return where(above, x, below if alpha == 1 else below * alpha)


@composite(wide=True)
def selu(x: Operand) -> Any:
    """The self-normalising activation: 1.0507 times ``elu(x, 1.67326)``.

    >>> selu(kn.array([-1.0, 2.0]))  # [-1.1113307, 2.101402]
    """
    x = to_float(x)
    above = greater(x, 0)
    below = expm1(where(above, 0, x))
    return where(above, x * SELU_SCALE, below * (SELU_SCALE * SELU_ALPHA))


def _silu_slope(x: Node) -> Any:
    s = sigmoid(x)
    return s + clip(x, -800, 800) * (s - s * s)  # infinity times 0 would be NaN


def _silu_reference(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(np.asarray(x, np.longdouble)))
    near = np.maximum(x, -800).astype(np.longdouble)
    return np.asarray(np.where(x >= 0, near / (1 + small), near * small / (1 + small)), x.dtype)


def _gelu_reference(x: np.ndarray) -> np.ndarray:
    near = np.maximum(x, -50).astype(np.float64)
    return np.asarray(near * ndtr_reference(near), x.dtype)


_WIDELY = (Domain(special=(0.0, -0.0, -1.0, 100.0, -100.0, float("inf"), float("-inf"), float("nan"))),)

SILU = define.elementwise(
    "silu",
    reference=_silu_reference,
    gradient=lambda node, dy: (dy * _silu_slope(node.sources[0]),),
    emit=vector_activations.silu,
    cost=14,
    domains=_WIDELY,
)
GELU = define.elementwise(
    "gelu",
    reference=_gelu_reference,
    gradient=lambda node, dy: (dy * _gelu_slope(node.sources[0]),),
    emit=vector_activations.gelu,
    cost=18,
    domains=_WIDELY,
)


def _gelu_slope(x: Node) -> Any:
    near = where(less(absolute(x), 50), x, 0)  # where the density is 0
    return ndtr(x) + near * (bell(x) * (1 / math.sqrt(2 * math.pi)))


def gelu(x: Operand, approximate: str = "none") -> Any:
    """``x`` times the normal distribution's probability of less than ``x``.

    ``approximate="tanh"`` takes the common formula with tanh, which is cheaper and differs by at most 0.0005. Raises
    ValueError for another name.

    >>> gelu(kn.array([-1.0, 2.0]))  # [-0.15865526, 1.9544997]
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    return elementwise(GELU, x) if approximate == "none" else _gelu_tanh(x)


@composite(wide=True)
def _gelu_tanh(x: Operand) -> Any:
    x = to_float(x)
    scale = 2 * math.sqrt(2 / math.pi)  # (1 + tanh(u)) / 2 is sigmoid(2 u)
    return x * sigmoid(x * (square(x) * (scale * 0.044715) + scale))


def silu(x: Operand) -> Any:
    """``x * sigmoid(x)``, also called swish.

    >>> silu(kn.array([-1.0, 2.0]))  # [-0.26894143, 1.7615942]
    """
    return elementwise(SILU, x)


swish = silu


@composite(wide=True)
def mish(x: Operand) -> Any:
    """``x * tanh(softplus(x))``.

    >>> mish(kn.array([-1.0, 2.0]))  # [-0.3034015, 1.9439590]
    """
    given = to_float(x)
    x = cast_node(given, dtypes.f64)  # float32 is rounded once
    power = exp(clip(x, -40, 40))  # from where on it is silu, and x
    rising = power * (power + 2)  # tanh(log(1 + power)) is this over 2 more
    return cast_node(where(less(x, -40), silu(x), x * (rising / (rising + 2))), given.dtype)


@composite(wide=True)
def celu(x: Operand, alpha: float = 1.0) -> Any:
    """``x`` where it is above 0, else ``alpha * (exp(x / alpha) - 1)``, whose derivative at 0 is always 1.

    >>> celu(kn.array([-1.0, 2.0]))  # [-0.63212055, 2]
    """
    x = to_float(x)
    above = greater(x, 0)
    return where(above, x, expm1(where(above, 0, x) / alpha) * alpha)


@composite(wide=True)
def squareplus(x: Operand, b: float = 4.0) -> Any:
    """``(x + sqrt(x * x + b)) / 2``, a ``relu`` with a rounded corner.

    >>> squareplus(kn.array([0.0, 1.5]))  # [1, 2]
    """
    given = to_float(x)
    x = cast_node(given, dtypes.f64)  # float32 is rounded once
    size, leg = absolute(x), math.sqrt(b)
    rising = (size + hypot(size, leg)) * 0.5  # to the left it is b / 4 over that, where the formula is a difference
    return cast_node(where(less(x, 0), b * 0.25 / rising, rising), given.dtype)


@composite(wide=True)
def log_sigmoid(x: Operand) -> Any:
    """The logarithm of ``sigmoid``, also where that underflows.

    >>> log_sigmoid(kn.array([0.0, -1000.0]))  # [-0.6931472, -1000]
    """
    return -softplus(-to_float(x))


@composite(wide=True)
def soft_sign(x: Operand) -> Any:
    """``x / (1 + abs(x))``.

    >>> soft_sign(kn.array([-1.0, 3.0]))  # [-0.5, 0.75]
    """
    x = clip(to_float(x), -1e30, 1e30)  # where it is 1
    return x / (absolute(x) + 1)


@composite()
def relu6(x: Operand) -> Any:
    """``x`` between 0 and 6, else the nearer of them; the derivative at both is 0.

    >>> relu6(kn.array([-1.0, 2.0, 9.0]))  # [0, 2, 6]
    """
    y = relu(x)
    return where(less(y, 6), y, where(isnan(y), y, 6)) if dtypes.is_float(y.dtype) else minimum(y, 6)


@composite()
def hard_tanh(x: Operand) -> Any:
    """``x`` between -1 and 1, else the nearer of them.

    >>> hard_tanh(kn.array([-3.0, 0.5, 3.0]))  # [-1, 0.5, 1]
    """
    return clip(x, -1, 1)


@composite(wide=True)
def hard_sigmoid(x: Operand) -> Any:
    """``relu6(x + 3) / 6``, a line in place of ``sigmoid``.

    >>> hard_sigmoid(kn.array([-3.0, 0.0, 6.0]))  # [0, 0.5, 1]
    """
    return relu6(to_float(x) + 3) * (1 / 6)


@composite(wide=True)
def hard_silu(x: Operand) -> Any:
    """``x * hard_sigmoid(x)``, also called hard swish.

    >>> hard_silu(kn.array([-3.0, 1.5]))  # [0, 1.125]
    """
    x = to_float(x)
    return clip(x, -3, None) * (relu6(x + 3) / 6)


hard_swish = hard_silu


@composite(wide=True)
def sparse_plus(x: Operand) -> Any:
    """0 up to -1, ``x`` from 1 on, and a parabola between: ``(x + 1)**2 / 4``.

    >>> sparse_plus(kn.array([-2.0, 0.0, 3.0]))  # [0, 0.25, 3]
    """
    x = to_float(x)
    return where(less_equal(x, -1), 0, where(greater(x, 1), x, square(x + 1) * 0.25))


@composite(wide=True)
def sparse_sigmoid(x: Operand) -> Any:
    """The derivative of ``sparse_plus``: 0 up to -1, 1 from 1 on, and a line between.

    >>> sparse_sigmoid(kn.array([-2.0, 0.0, 3.0]))  # [0, 0.5, 1]
    """
    return clip((to_float(x) + 1) * 0.5, 0.0, 1.0)


@composite(wide=True)
def log1mexp(x: Operand) -> Any:
    """``log(1 - exp(-x))`` for positive ``x``, accurate for small and large ones; NaN below 0.

    >>> log1mexp(kn.array([1.0]))  # [-0.45867515]
    """
    x = to_float(x)
    small = less_equal(x, math.log(2))
    return where(small, log(-expm1(-where(small, x, 1))), log1p(-exp(-where(small, 1, x))))


# --- over axes -------------------------------------------------------------------------------------------------------


def _shifted_exp(x: Any, axis: Axis) -> tuple[Any, Any, Any]:
    """exp(x - m), its sum with the axes kept, and the shift m: the maximum, or 0 where that is not finite."""
    top = stop_gradient(max(x, axis, keepdims=True))
    shift = where(isfinite(top), top, 0)
    exponentials = exp(x - shift)
    return exponentials, sum(exponentials, axis, keepdims=True), shift


@composite(wide=True)
def softmax(x: Operand, axis: Axis = None) -> Any:
    """``exp(x)`` divided by its sum over axes, by default over the whole array; never overflows.

    >>> softmax(kn.array([1.0, 2.0, 3.0]))  # [0.09003057, 0.24472848, 0.66524094]
    """
    x = to_float(x)
    if not x.type.size:
        return x
    exponentials, total, _ = _shifted_exp(x, axis)
    return exponentials * reciprocal(total)


def log_total(x: Node, axis: Axis) -> Any:
    """``logsumexp`` of numbers of which some are above minus infinity; axes stay, with extent 1."""
    _, total, shift = _shifted_exp(x, axis)
    return log(total) + shift


@composite(wide=True)
def logsoftmax(x: Operand, axis: Axis = None) -> Any:
    """The logarithm of ``softmax``, accurate where that is tiny.

    >>> logsoftmax(kn.array([1.0, 2.0, 3.0]))  # [-2.4076059, -1.4076059, -0.4076059]
    """
    x = to_float(x)
    if not x.type.size:
        return x
    return x - log_total(x, axis)


logp = logsoftmax


@composite(wide=True)
def logsumexp(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The logarithm of the sum of ``exp(x)`` over axes, by default over the whole array; never overflows.

    >>> logsumexp(kn.array([1.0, 2.0, 3.0]))  # 3.4076059
    """
    x = to_float(x)
    _, total, shift = _shifted_exp(x, axis)
    nothing = equal(total, 0)  # of infinitely negative numbers, whose gradients are 0
    result = where(nothing, -math.inf, log(where(nothing, 1, total)) + shift)
    if keepdims:
        return result
    axes = normalize_axes("logsumexp", axis, x.ndim)
    return reshape(result, tuple(n for k, n in enumerate(x.shape) if k not in axes))


@composite(wide=True)
def log_softmax(x: Operand, axis: Axis = -1) -> Any:
    """``logsoftmax`` over the last axis, or those that are named.

    >>> log_softmax(kn.array([[1.0, 2.0, 3.0]]))  # [[-2.4076059, -1.4076059, -0.4076059]]
    """
    return logsoftmax(x, axis)


@composite(wide=True)
def logmeanexp(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The logarithm of the mean of ``exp(x)`` over axes, by default over the whole array; never overflows.

    >>> logmeanexp(kn.array([1.0, 1.0]))  # 1
    """
    x = to_float(x)
    count = math.prod(x.shape[k] for k in normalize_axes("logmeanexp", axis, x.ndim))
    return logsumexp(x, axis, keepdims=keepdims) - (math.log(count) if count else math.nan)


@composite(wide=True)
def glu(x: Operand, axis: int = -1) -> Any:
    """The first half along an axis times the ``sigmoid`` of the second. Raises ShapeError for an odd extent.

    >>> glu(kn.array([1.0, 2.0, 0.0, 0.0]))  # [0.5, 1]
    """
    x = to_float(x)
    axis = normalize_axis("glu", axis, x.ndim)
    extent = x.shape[axis]
    if extent % 2:
        raise ShapeError(f"glu halves an axis, but axis {axis} of {x.type} has {extent} elements")
    half = extent // 2
    return cut_node(x, axis, 0, half) * sigmoid(cut_node(x, axis, half, extent))


@composite(wide=True)
def standardize(x: Operand, axis: Axis = -1, *, epsilon: float = 1e-5) -> Any:
    """``x`` less its mean over axes, divided by its standard deviation: ``layernorm`` without weights.

    >>> standardize(kn.array([1.0, 3.0]), epsilon=0.0)  # [-1, 1]
    """
    return layernorm(x, axis=axis, eps=epsilon)


def one_hot(x: Operand, num_classes: int, *, dtype: Any = None, axis: int = -1) -> Any:
    """For each integer a vector of ``num_classes`` numbers along a new axis: 1 at its place, 0 elsewhere.

    A number out of range gives zeros. The dtype is the default one unless ``dtype`` says otherwise.

    >>> one_hot(kn.array([0, 2]), 3)  # [[1, 0, 0], [0, 0, 1]]
    """
    [node] = to_nodes(x)
    place = normalize_axis("one_hot", axis, node.ndim + 1)
    shape = (*node.shape[:place], num_classes, *node.shape[place:])
    labels = reshape_node(node, (*node.shape[:place], 1, *node.shape[place:]))
    found = equal(broadcast_node(labels, shape), iota(node.dtype, shape, place))
    return wrap_like((x,), cast_node(found, ambient().dtype if dtype is None else dtypes.as_dtype(dtype)))


@composite(3, wide=True)
def layernorm(x: Operand, weight: Operand = None, bias: Operand = None, *, axis: Axis = -1, eps: float = 1e-5) -> Any:
    """``x`` with its mean over axes taken away, divided by its standard deviation, then ``* weight + bias``.

    ``weight`` and ``bias`` broadcast against ``x``; None leaves them out. ``eps`` is added to the variance.

    >>> layernorm(kn.ones((8, 64)), kn.param(64), kn.param0(64))
    """
    x = to_float(x)
    centred = x - mean(x, axis, keepdims=True)
    variance = mean(square(centred), axis, keepdims=True)
    result = centred * rsqrt(variance + eps)
    if weight is not None:
        result = result * weight
    return result if bias is None else result + bias


@composite(2, wide=True)
def rmsnorm(x: Operand, weight: Operand = None, *, axis: Axis = -1, eps: float = 1e-6) -> Any:
    """``x`` divided by the root of its mean square over axes, then ``* weight``; None leaves that out.

    >>> rmsnorm(kn.ones((8, 64)), kn.param(64))
    """
    x = to_float(x)
    result = x * rsqrt(mean(square(x), axis, keepdims=True) + eps)
    return result if weight is None else result * weight


__all__ = [
    "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "layernorm", "leaky_relu",
    "log1mexp", "log_sigmoid", "log_softmax", "logmeanexp", "logp", "logsoftmax", "logsumexp", "mish", "one_hot",
    "relu", "relu6", "rmsnorm", "selu", "silu", "soft_sign", "softmax", "sparse_plus", "sparse_sigmoid", "squareplus",
    "standardize", "swish",
]  # fmt: skip
