"""Reciprocals of the trigonometric functions, their inverses, functions of degrees, and angles within one turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from knetc.ir.node import Node
from knetc.ops.apply import Operand, cast_node, composite, to_nodes
from knetc.ops.arithmetic import absolute, reciprocal, rint
from knetc.ops.elementary import degrees, fmod
from knetc.ops.logic import equal, less, less_equal, where
from knetc.ops.reduction import to_float
from knetc.ops.transcendental import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    sin,
    sinh,
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
    return _wide(lambda x: acos(reciprocal(x)), x)


@composite()
def acsc(x: Operand) -> Any:
    """The angle whose cosecant is ``x``; NaN between -1 and 1.

    >>> acsc(kn.array([2.0]))  # [0.5235988]
    """
    return _wide(lambda x: asin(reciprocal(x)), x)


@composite()
def acot(x: Operand) -> Any:
    """The angle between minus and plus a quarter turn whose cotangent is ``x``.

    >>> acot(kn.array([1.0]))  # [0.7853982]
    """
    return _wide(lambda x: atan(reciprocal(x)), x)


@composite()
def sech(x: Operand) -> Any:
    """The hyperbolic secant, ``1 / cosh(x)``.

    >>> sech(kn.array([0.0]))  # [1]
    """
    return _wide(lambda x: reciprocal(cosh(x)), x)


@composite()
def csch(x: Operand) -> Any:
    """The hyperbolic cosecant, ``1 / sinh(x)``.

    >>> csch(kn.array([1.0]))  # [0.8509181]
    """
    return _wide(lambda x: reciprocal(sinh(x)), x)


@composite()
def coth(x: Operand) -> Any:
    """The hyperbolic cotangent, ``1 / tanh(x)``.

    >>> coth(kn.array([1.0]))  # [1.3130353]
    """
    return _wide(lambda x: reciprocal(tanh(x)), x)


@composite()
def asech(x: Operand) -> Any:
    """The number from 0 on whose ``sech`` is ``x``; NaN outside of 0 to 1.

    >>> asech(kn.array([0.5]))  # [1.3169579]
    """
    return _wide(lambda x: acosh(reciprocal(x)), x)


@composite()
def acsch(x: Operand) -> Any:
    """The number whose ``csch`` is ``x``.

    >>> acsch(kn.array([1.0]))  # [0.8813736]
    """
    return _wide(lambda x: asinh(reciprocal(x)), x)


@composite()
def acoth(x: Operand) -> Any:
    """The number whose ``coth`` is ``x``; NaN between -1 and 1.

    >>> acoth(kn.array([2.0]))  # [0.5493061]
    """
    return _wide(lambda x: atanh(reciprocal(x)), x)


# --- degrees ---------------------------------------------------------------------------------------------------------


def _in_degrees(x: Node) -> tuple[Node, Node]:
    """Sine and cosine of degrees: of what is left of a quarter turn, exchanged and turned with the quarters."""
    within = fmod(x, 360.0)
    quarters = rint(within / 90.0)
    rest = (within - quarters * 90.0) * (math.pi / 180)
    s, c = sin(rest), cos(rest)
    turned = equal(absolute(fmod(quarters, 2.0)), 1)
    s, c = where(turned, c, s), where(turned, s, c)
    quarter = where(less(quarters, 0), quarters + 4, quarters)
    sine = where(less(quarter, 2) | equal(quarter, 4), s, -s)
    cosine = where(equal(quarter, 1) | equal(quarter, 2), -c, c)
    return sine, cosine + 0.0  # a zero without a sign


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
    return _wide(lambda x: reciprocal(_quotient_in_degrees(x)), x)


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
    return _wide(lambda x: degrees(acos(reciprocal(x))), x)


@composite()
def acscd(x: Operand) -> Any:
    """The degrees whose cosecant is ``x``, from -90 to 90.

    >>> acscd(kn.array([2.0]))  # [30]
    """
    return _wide(lambda x: degrees(asin(reciprocal(x))), x)


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
