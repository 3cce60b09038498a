"""What NumPy's users expect beside arithmetic: signs, angles in degrees, NaN replaced."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain
from knetc.ops import define
from knetc.ops.apply import Operand, cast_node, coerce, common_kind, composite, constant, elementwise, to_nodes
from knetc.ops.arithmetic import absolute, clip, maximum, minimum, multiply, sign
from knetc.ops.division import INTEGER_FMOD, floor_divide, mod
from knetc.ops.logic import equal, greater, isinf, isnan, less, logical_and, where
from knetc.ops.reduction import to_float
from knetc.ops.special import sinpi
from knetc.runtime.base import dtypes

INFINITY = float("inf")

# --- signs -----------------------------------------------------------------------------------------------------------


def _copysign_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = node.sources
    return dy * sign(a) * copysign(constant(1, b.dtype, b.shape), b), None


COPYSIGN = define.elementwise(
    "copysign",
    reference=np.copysign,
    gradient=_copysign_gradient,
    emit=lambda e, a, b: e.copysign(a, b),
    exact=True,
    arity=2,
    domains=(Domain(special=(0.0, -0.0, -INFINITY)), Domain(special=(0.0, -0.0, -INFINITY))),
)


def copysign(a: Operand, b: Operand) -> Any:
    """The magnitude of ``a`` with the sign of ``b``, which zeros have too.

    >>> copysign(kn.array([1.0, 2.0]), -1)  # [-1, -2]
    """
    return elementwise(COPYSIGN, a, b)


@composite()
def fabs(x: Operand) -> Any:
    """The absolute value, always floating; see ``absolute``.

    >>> fabs(kn.array([-1, 2]))  # [1., 2.]
    """
    return absolute(to_float(to_nodes(x)[0]))


@composite()
def signbit(x: Operand) -> Any:
    """Whether the sign is negative, as that of ``-0.0`` is.

    >>> signbit(kn.array([-1.0, -0.0, 1.0]))  # [True, True, False]
    """
    [node] = to_nodes(x)
    if not dtypes.is_float(node.dtype):
        return less(node, 0)
    return less(copysign(constant(1, node.dtype, node.shape), node), 0)


@composite(2)
def heaviside(x: Operand, half: Operand) -> Any:
    """0 below zero, 1 above, ``half`` at zero; NaN of NaN.

    >>> heaviside(kn.array([-1.0, 0.0, 2.0]), 0.5)  # [0, 0.5, 1]
    """
    x, half = coerce("heaviside", (x, half), accepts="f")
    return where(equal(x, 0), half, where(isnan(x), x, where(less(x, 0), constant(0.0, x.dtype), 1)))


# --- quotients and remainders ----------------------------------------------------------------------------------------


@composite(2)
def fmod(a: Operand, b: Operand) -> Any:
    """The remainder of a division rounded toward zero: it has the sign of ``a``, as C's ``fmod``, and is exact.

    >>> fmod(kn.array([7.0, -7.0]), 3)  # [1, -1]
    """
    if common_kind(a, b) != "f":
        return elementwise(INTEGER_FMOD, a, b)
    a, b = coerce("fmod", (a, b))  # first, as int64 does not hold the magnitude of its smallest number
    return copysign(mod(absolute(a), absolute(b)), a)


@composite(2)
def divmod(a: Operand, b: Operand) -> Any:
    """``(floor_divide(a, b), mod(a, b))``.

    >>> divmod(kn.array([7, -7]), 3)  # ([2, -3], [1, 2])
    """
    return floor_divide(a, b), mod(a, b)


# --- extremes --------------------------------------------------------------------------------------------------------


@composite(2)
def fmax(a: Operand, b: Operand) -> Any:
    """The larger, element by element; of a NaN and a number the number.

    >>> fmax(kn.array([1.0, float("nan")]), 0)  # [1, 0]
    """
    return _known(maximum, a, b)


@composite(2)
def fmin(a: Operand, b: Operand) -> Any:
    """The smaller, element by element; of a NaN and a number the number.

    >>> fmin(kn.array([1.0, float("nan")]), 0)  # [0, 0]
    """
    return _known(minimum, a, b)


def _known(function: Any, a: Operand, b: Operand) -> Any:
    if common_kind(a, b) != "f":
        return function(a, b)
    return where(isnan(a), b, where(isnan(b), a, function(a, b)))


clamp = clip

# --- angles and logarithms -------------------------------------------------------------------------------------------


@composite()
def radians(x: Operand) -> Any:
    """Degrees as radians.

    >>> radians(kn.array([180.0]))  # [3.1415927]
    """
    return multiply(to_float(to_nodes(x)[0]), math.pi / 180)


@composite()
def degrees(x: Operand) -> Any:
    """Radians as degrees.

    >>> degrees(kn.array([3.1415927]))  # [180]
    """
    return multiply(to_float(to_nodes(x)[0]), 180 / math.pi)


deg2rad, rad2deg = radians, degrees


@composite()
def sinc(x: Operand) -> Any:
    """``sin(pi x) / (pi x)``, 1 at 0 and 0 at infinity.

    >>> sinc(kn.array([0.0, 0.5]))  # [1, 0.63661975]
    """
    node = to_float(to_nodes(x)[0])
    x = cast_node(node, dtypes.f64)  # three roundings are more than float32 can do without
    small = less(absolute(x), 0.125)  # a series, as the derivative of the quotient is a difference
    square = where(small, x * x, 0.0)
    series: Any = 1.0
    for k in range(9, 0, -1):
        series = 1 - square * (math.pi**2 / (2 * k * (2 * k + 1))) * series
    flat = small | isinf(x)
    safe = where(flat, 1.0, x)
    return cast_node(where(small, series, where(flat, 0.0, sinpi(safe) / (safe * math.pi))), node.dtype)


# --- what is not finite ----------------------------------------------------------------------------------------------


@composite()
def isposinf(x: Operand) -> Any:
    """Whether elements are positive infinity.

    >>> isposinf(kn.array([float("inf"), 1.0]))  # [True, False]
    """
    return logical_and(isinf(x), greater(x, 0))


@composite()
def isneginf(x: Operand) -> Any:
    """Whether elements are negative infinity.

    >>> isneginf(kn.array([float("-inf"), 1.0]))  # [True, False]
    """
    return logical_and(isinf(x), less(x, 0))


@composite()
def nan_to_num(x: Operand, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """NaN replaced by ``nan``, infinities by the largest and the smallest finite number or what is given.

    >>> nan_to_num(kn.array([float("nan"), 1.0]))  # [0, 1]
    """
    [node] = to_nodes(x)
    if not dtypes.is_float(node.dtype):
        return node
    limit = (2 - 2.0 ** -dtypes.mantissa_bits(node.dtype)) * 2.0 ** (1 - dtypes.min_exponent(node.dtype))
    x = where(isnan(node), nan, node)
    x = where(isposinf(node), limit if posinf is None else posinf, x)
    return where(isneginf(node), -limit if neginf is None else neginf, x)


__all__ = [
    "clamp", "copysign", "deg2rad", "degrees", "divmod", "fabs", "fmax", "fmin", "fmod", "heaviside", "isneginf",
    "isposinf", "nan_to_num", "rad2deg", "radians", "signbit", "sinc",
]  # fmt: skip
