"""Activation functions and normalisers, written with other operations so that they differentiate and fuse as they are.

Each is arranged so that its gradient, after equal values are merged, costs few operations and stays finite.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from knetc.ir.op import Domain
from knetc.ops import define
from knetc.ops.apply import Operand, composite, constant, elementwise
from knetc.ops.arithmetic import reciprocal, square
from knetc.ops.identities import stop_gradient
from knetc.ops.logic import greater, isfinite, less_equal, where
from knetc.ops.movement import normalize_axes, reshape
from knetc.ops.reduction import Axis, max, mean, sum, to_float
from knetc.ops.transcendental import erf, exp, expm1, log, rsqrt, sigmoid

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


@composite(wide=True)
def gelu(x: Operand, approximate: str = "none") -> Any:
    """``x`` times the normal distribution's probability of less than ``x``.

    ``approximate="tanh"`` takes the common formula with tanh, which is cheaper and differs by at most 0.0005. Raises
    ValueError for another name.

    >>> gelu(kn.array([-1.0, 2.0]))  # [-0.15865526, 1.9544997]
    """
    x = to_float(x)
    if approximate == "none":
        return x * (erf(x * math.sqrt(0.5)) * 0.5 + 0.5)
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    scale = 2 * math.sqrt(2 / math.pi)  # (1 + tanh(u)) / 2 is sigmoid(2 u)
    return x * sigmoid(x * (square(x) * (scale * 0.044715) + scale))


@composite(wide=True)
def silu(x: Operand) -> Any:
    """``x * sigmoid(x)``, also called swish.

    >>> silu(kn.array([-1.0, 2.0]))  # [-0.26894143, 1.7615942]
    """
    x = to_float(x)
    return x * sigmoid(x)


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


@composite(wide=True)
def logsoftmax(x: Operand, axis: Axis = None) -> Any:
    """The logarithm of ``softmax``, accurate where that is tiny.

    >>> logsoftmax(kn.array([1.0, 2.0, 3.0]))  # [-2.4076059, -1.4076059, -0.4076059]
    """
    x = to_float(x)
    if not x.type.size:
        return x
    _, total, shift = _shifted_exp(x, axis)
    return x - (log(total) + shift)


logp = logsoftmax


@composite(wide=True)
def logsumexp(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The logarithm of the sum of ``exp(x)`` over axes, by default over the whole array; never overflows.

    >>> logsumexp(kn.array([1.0, 2.0, 3.0]))  # 3.4076059
    """
    x = to_float(x)
    _, total, shift = _shifted_exp(x, axis)
    result = log(total) + shift
    if keepdims:
        return result
    axes = normalize_axes("logsumexp", axis, x.ndim)
    return reshape(result, tuple(n for k, n in enumerate(x.shape) if k not in axes))


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
    "elu", "gelu", "layernorm", "leaky_relu", "logp", "logsoftmax", "logsumexp", "relu", "rmsnorm", "selu", "silu",
    "softmax",
]  # fmt: skip
