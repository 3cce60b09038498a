"""Reciprocals of the trigonometric functions, their inverses, functions of degrees, and angles within one turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from knetc.ir.node import Node
from knetc.ops.apply import Operand, cast_node, composite, constant, to_nodes
from knetc.ops.arithmetic import absolute, reciprocal, rint
from knetc.ops.elementary import copysign, degrees, fmod
from knetc.ops.logic import equal, less, less_equal, where
from knetc.ops.reduction import to_float
from knetc.ops.transcendental import (
    acos,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    exp,
    log,
    log1p,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import UnsupportedError


def _wide(function: Callable[[Node], Any], x: Operand) -> Any:
    """A function computed in float64 and rounded to the dtype of ``x`` once."""
    node = to_float(to_nodes(x)[0])
    return cast_node(function(cast_node(node, dtypes.f64)), node.dtype)


# --- reciprocals and their inverses ----------------------------------------------------------------------------------


def _outside(x: Node, far: Node, near: Callable[[Node, Node], Any]) -> Any:
    """``far``, but next to 1 and -1, where 1/x has lost digits, ``near`` of |x| and of the leg sqrt(x² - 1)."""
    size = absolute(x)
    close = less(size, 2) & less_equal(1, size)
    size = where(close, size, 2.0)
    return where(close, near(size, sqrt((size - 1) * (size + 1))), far)


def _arc_secant(x: Node) -> Any:
    return _outside(x, acos(reciprocal(x)), lambda size, leg: atan2(leg, copysign(constant(1.0, x.dtype, x.shape), x)))


def _arc_cosecant(x: Node) -> Any:
    return _outside(x, asin(reciprocal(x)), lambda size, leg: copysign(atan(reciprocal(leg)), x))


def _after(x: Node, limit: float, far: Callable[[Node], Any], near: Callable[[Node], Any]) -> Any:
    """An odd or even function's ``far`` of |x| from a limit on, where ``near`` would overflow; the sign is left out."""
    size = absolute(x)
    beyond = less(limit, size)
    return where(beyond, far(where(beyond, size, limit)), near(where(beyond, limit, size)))


@composite()
def sec(x: Operand) -> Any:
    """The secant, ``1 / cos(x)``.

    >>> sec(kn.array([0.0]))  # [1]
    """
    return _wide(lambda x: reciprocal(cos(x)), x)


@composite()
def csc(x: Operand) -> Any:
    """The cosecant, ``1 / sin(x)``.

    >>> csc(kn.array([1.5707964]))  # [1]
    """
    return _wide(lambda x: reciprocal(sin(x)), x)


@composite()
def cot(x: Operand) -> Any:
    """The cotangent, ``1 / tan(x)``.

    >>> cot(kn.array([0.7853982]))  # [1]
    """
    return _wide(lambda x: reciprocal(tan(x)), x)


@composite()
def asec(x: Operand) -> Any:
    """The angle whose secant is ``x``; NaN between -1 and 1.

    >>> asec(kn.array([2.0]))  # [1.0471976]
    """
    return _wide(_arc_secant, x)


@composite()
def acsc(x: Operand) -> Any:
    """The angle whose cosecant is ``x``; NaN between -1 and 1.

    >>> acsc(kn.array([2.0]))  # [0.5235988]
    """
    return _wide(_arc_cosecant, x)


@composite()
def acot(x: Operand) -> Any:
    """The angle between minus and plus a quarter turn whose cotangent is ``x``.

    >>> acot(kn.array([1.0]))  # [0.7853982]
    """
    return _wide(lambda x: atan(reciprocal(x)), x)


def _twice_exp_of_minus(x: Node) -> Any:
    """What 1/cosh and 1/sinh are far out."""
    return exp(-x) * 2


@composite()
def sech(x: Operand) -> Any:
    """The hyperbolic secant, ``1 / cosh(x)``.

    >>> sech(kn.array([0.0]))  # [1]
    """
    return _wide(lambda x: _after(x, 40.0, _twice_exp_of_minus, lambda x: reciprocal(cosh(x))), x)


@composite()
def csch(x: Operand) -> Any:
    """The hyperbolic cosecant, ``1 / sinh(x)``.

    >>> csch(kn.array([1.0]))  # [0.8509181]
    """
    return _wide(lambda x: copysign(_after(x, 40.0, _twice_exp_of_minus, lambda x: reciprocal(sinh(x))), x), x)


@composite()
def coth(x: Operand) -> Any:
    """The hyperbolic cotangent, ``1 / tanh(x)``.

    >>> coth(kn.array([1.0]))  # [1.3130353]
    """
    return _wide(lambda x: reciprocal(tanh(x)), x)


def _arc_hyperbolic_secant(x: Node) -> Any:
    low = less(x, 0.5)
    near = where(low, 0.5, x)
    far = where(low, x, 0.5)
    # the differences are exact; the far part is a sum of positive numbers
    return where(low, log(sqrt((1 - far) * (1 + far)) + 1) - log(far), 2 * atanh(sqrt((1 - near) / (1 + near))))


def _arc_hyperbolic_cosecant(x: Node) -> Any:
    tiny = less(absolute(x), 1e-300)
    return where(tiny, copysign(math.log(2) - log(absolute(x)), x), asinh(reciprocal(where(tiny, 1.0, x))))


def _arc_hyperbolic_cotangent(x: Node) -> Any:
    return _outside(x, atanh(reciprocal(x)), lambda size, leg: copysign(log1p(2 / (size - 1)) * 0.5, x))


@composite()
def asech(x: Operand) -> Any:
    """The number from 0 on whose ``sech`` is ``x``; NaN outside of 0 to 1.

    >>> asech(kn.array([0.5]))  # [1.3169579]
    """
    return _wide(_arc_hyperbolic_secant, x)


@composite()
def acsch(x: Operand) -> Any:
    """The number whose ``csch`` is ``x``.

    >>> acsch(kn.array([1.0]))  # [0.8813736]
    """
    return _wide(_arc_hyperbolic_cosecant, x)


@composite()
def acoth(x: Operand) -> Any:
    """The number whose ``coth`` is ``x``; NaN between -1 and 1.

    >>> acoth(kn.array([2.0]))  # [0.5493061]
    """
    return _wide(_arc_hyperbolic_cotangent, x)


# --- degrees ---------------------------------------------------------------------------------------------------------


def _in_degrees(x: Node) -> tuple[Node, Node]:
    """Sine and cosine of degrees: of what is left of a quarter turn, exchanged and turned with the quarters.

    The cosine's zeros have no sign, those of the sine that of ``x``.
    """
    within = fmod(absolute(x), 360.0)
    quarters = rint(within / 90.0)
    rest = (within - quarters * 90.0) * (math.pi / 180)
    s, c = sin(rest), cos(rest)
    turned = equal(quarters, 1) | equal(quarters, 3)
    s, c = where(turned, c, s), where(turned, s, c)
    sine = where(equal(quarters, 2) | equal(quarters, 3), -s, s) + 0.0
    cosine = where(equal(quarters, 1) | equal(quarters, 2), -c, c) + 0.0
    return where(less(copysign(constant(1.0, x.dtype, x.shape), x), 0), -sine, sine), cosine


@composite()
def sind(x: Operand) -> Any:
    """The sine of degrees: exactly 0, 1 and -1 at multiples of 90.

    >>> sind(kn.array([30.0, 180.0]))  # [0.5, 0]
    """
    return _wide(lambda x: _in_degrees(x)[0], x)


@composite()
def cosd(x: Operand) -> Any:
    """The cosine of degrees: exactly 0, 1 and -1 at multiples of 90.

    >>> cosd(kn.array([60.0, 90.0]))  # [0.5, 0]
    """
    return _wide(lambda x: _in_degrees(x)[1], x)


def _quotient_in_degrees(x: Node) -> Node:
    sine, cosine = _in_degrees(x)
    return sine / cosine


def _inverse_quotient_in_degrees(x: Node) -> Node:
    sine, cosine = _in_degrees(x)
    return cosine / sine


@composite()
def tand(x: Operand) -> Any:
    """The tangent of degrees; infinite at odd multiples of 90.

    >>> tand(kn.array([45.0, 180.0]))  # [1, 0]
    """
    return _wide(_quotient_in_degrees, x)


@composite()
def secd(x: Operand) -> Any:
    """The secant of degrees.

    >>> secd(kn.array([60.0]))  # [2]
    """
    return _wide(lambda x: reciprocal(_in_degrees(x)[1]), x)


@composite()
def cscd(x: Operand) -> Any:
    """The cosecant of degrees.

    >>> cscd(kn.array([30.0]))  # [2]
    """
    return _wide(lambda x: reciprocal(_in_degrees(x)[0]), x)


@composite()
def cotd(x: Operand) -> Any:
    """The cotangent of degrees.

    >>> cotd(kn.array([45.0]))  # [1]
    """
    return _wide(_inverse_quotient_in_degrees, x)


@composite()
def asind(x: Operand) -> Any:
    """The degrees whose sine is ``x``, from -90 to 90.

    >>> asind(kn.array([0.5]))  # [30]
    """
    return _wide(lambda x: degrees(asin(x)), x)


@composite()
def acosd(x: Operand) -> Any:
    """The degrees whose cosine is ``x``, from 0 to 180.

    >>> acosd(kn.array([0.5]))  # [60]
    """
    return _wide(lambda x: degrees(acos(x)), x)


@composite()
def atand(x: Operand) -> Any:
    """The degrees whose tangent is ``x``, from -90 to 90.

    >>> atand(kn.array([1.0]))  # [45]
    """
    return _wide(lambda x: degrees(atan(x)), x)


@composite()
def asecd(x: Operand) -> Any:
    """The degrees whose secant is ``x``, from 0 to 180.

    >>> asecd(kn.array([2.0]))  # [60]
    """
    return _wide(lambda x: degrees(_arc_secant(x)), x)


@composite()
def acscd(x: Operand) -> Any:
    """The degrees whose cosecant is ``x``, from -90 to 90.

    >>> acscd(kn.array([2.0]))  # [30]
    """
    return _wide(lambda x: degrees(_arc_cosecant(x)), x)


@composite()
def acotd(x: Operand) -> Any:
    """The degrees whose cotangent is ``x``, from -90 to 90.

    >>> acotd(kn.array([1.0]))  # [45]
    """
    return _wide(lambda x: degrees(atan(reciprocal(x))), x)


# --- within one turn -------------------------------------------------------------------------------------------------


def _nearest(x: Node) -> Node:
    return where(less_equal(absolute(x), math.pi), x, atan2(sin(x), cos(x)))  # type: ignore[no-any-return]


def _within_turn(x: Node) -> Node:
    near = _nearest(x)
    turned = where(less(near, 0), near + 2 * math.pi, near)
    return where(less(x, 2 * math.pi) & less_equal(0, x), x, turned)  # type: ignore[no-any-return]


@composite()
def mod2pi(x: Operand) -> Any:
    """An angle in radians without its full turns, from 0 to 2 pi; accurate also of many turns.

    >>> mod2pi(kn.array([7.0]))  # [0.7168147]
    """
    return _wide(_within_turn, x)


@composite()
def rem2pi(x: Operand, mode: str = "nearest") -> Any:
    """An angle in radians without its full turns: from -pi to pi, or, in the ``mode`` "down", from 0 to 2 pi.

    >>> rem2pi(kn.array([7.0, 4.0]))  # [0.7168147, -2.2831853]
    """
    if mode not in ("nearest", "down"):
        raise UnsupportedError(f'rem2pi: the mode is "nearest" or "down", not {mode!r}')
    return _wide(_nearest if mode == "nearest" else _within_turn, x)


__all__ = [
    "acosd", "acot", "acotd", "acoth", "acsc", "acscd", "acsch", "asec", "asecd", "asech", "asind", "atand", "cosd",
    "cot", "cotd", "coth", "csc", "cscd", "csch", "mod2pi", "rem2pi", "sec", "secd", "sech", "sind", "tand",
]  # fmt: skip
