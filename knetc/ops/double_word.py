"""Arithmetic with sums of two float64, some 105 bits, for values next to zeros that are differences of larger numbers.

Only for code that is rare (see ``vector_expression.rarely``): a product takes a score of instructions, a logarithm
hundreds. Products must not be fused with sums here, and in rare code they are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from knetc.ops import vector_math as vm
from knetc.ops.vector_expression import Number, polynomial, power_of_two

PI = (3.141592653589793, 1.2246467991473532e-16)
LN2 = (0.6931471805599453, 2.3190468138462996e-17)
HALF_LOG_2PI = (0.9189385332046728, -3.878294158067242e-17)


@dataclass(frozen=True)
class Wide:
    """The sum of two float64, of which the second is at most half a unit in the first's last place."""

    high: Number
    low: Number

    def _operand(self, other: Wide | Number | float | tuple[float, float] | Fraction) -> Wide:
        if isinstance(other, Wide):
            return other
        if isinstance(other, Number):
            return Wide(other, other.constant(0.0))
        high, low = other if isinstance(other, tuple) else _in_two(Fraction(other))
        return Wide(self.high.constant(high), self.high.constant(low))

    def __add__(self, other: Wide | Number | float | tuple[float, float] | Fraction) -> Wide:
        other = self._operand(other)
        total = two_sum(self.high, other.high)
        return _normal(total.high, total.low + (self.low + other.low))

    def __neg__(self) -> Wide:
        return Wide(-self.high, -self.low)

    def __sub__(self, other: Wide | Number | float | tuple[float, float] | Fraction) -> Wide:
        return self + -self._operand(other)

    def __mul__(self, other: Wide | Number | float | tuple[float, float] | Fraction) -> Wide:
        other = self._operand(other)
        product = self.high * other.high
        a, b = vm._upper_half(self.high), vm._upper_half(other.high)
        a_low, b_low = self.high - a, other.high - b
        lost = (a * b - product) + a * b_low + a_low * b + a_low * b_low
        return _normal(product, lost + (self.high * other.low + self.low * other.high))

    def __truediv__(self, other: Wide | Number | float | tuple[float, float] | Fraction) -> Wide:
        other = self._operand(other)
        quotient = self.high / other.high
        rest = self - other * quotient
        return _normal(quotient, rest.high / other.high)

    def __rtruediv__(self, other: float) -> Wide:
        return self._operand(other) / self

    def scaled(self, factor: Number | float) -> Wide:
        """Times a power of two."""
        return Wide(self.high * factor, self.low * factor)

    def rounded(self) -> Number:
        return self.high + self.low


def _in_two(value: Fraction) -> tuple[float, float]:
    high = float(value)
    return high, float(value - Fraction(high))


def wide(x: Number) -> Wide:
    return Wide(x, x.constant(0.0))


def two_sum(a: Number, b: Number) -> Wide:
    """The sum and what rounding it takes."""
    total = a + b
    part = total - a
    return Wide(total, (a - (total - part)) + (b - part))


def _normal(high: Number, low: Number) -> Wide:
    total = high + low
    return Wide(total, low - (total - high))


def series(x: Wide, coefficients: Sequence[Fraction]) -> Wide:
    """``c0 + c1 x + c2 x² …``"""
    result = x._operand(coefficients[-1])
    for c in coefficients[-2::-1]:
        result = result * x + c
    return result


def exp(x: Wide) -> Wide:
    """For arguments whose exponential is a normal number."""
    n, whole = vm._nearest_integer(x.high * vm.LOG2_E)
    r = (x - wide(whole) * LN2).scaled(2.0**-9)
    less_one = r * series(r, [Fraction(1, math.factorial(k)) for k in range(1, 10)])
    for _ in range(9):
        less_one = less_one.scaled(2.0) + less_one * less_one
    result = less_one + 1.0
    return Wide(vm._scale(result.high, n), vm._scale(result.low, n))


#: of exp(x) after x + x²/2, in x³
_EXP_REST = [1 / math.factorial(k) for k in range(3, 13)]


def short_exp(x: Number) -> tuple[Number, Wide]:
    """``p`` and ``q`` with exp(x) = p + p q, p a power of two and q right to some 63 bits; for -700 < x < 700."""
    n, whole = vm._nearest_integer(x * vm.LOG2_E)
    head, rest = vm.LN2[x.dtype]
    return power_of_two(n), _short_less_one(_normal(x - whole * head, -(whole * rest)))  # the head's product is exact


def short_exp2(x: Number) -> tuple[Number, Wide]:
    """The same of 2**x, for -1000 < x < 1000."""
    n, whole = vm._nearest_integer(x)
    return power_of_two(n), _short_less_one(wide(x - whole) * LN2)


def _short_less_one(x: Wide) -> Wide:
    """exp(x) - 1 to some 63 bits for |x| <= ln 2 / 2."""
    r = x.scaled(0.25)
    upper = vm._upper_half(r.high)
    square = r.high * r.high
    smaller = (r.high - upper) * (r.high + upper) * 0.5 + r.low * (r.high + 1.0)
    less_one = two_sum(r.high, upper * upper * 0.5)
    less_one = _normal(less_one.high, less_one.low + (smaller + square * r.high * polynomial(r.high, _EXP_REST)))
    for _ in range(2):
        less_one = less_one.scaled(2.0) + less_one * less_one
    return less_one


def log(x: Wide) -> Wide:
    """Of a positive normal number: by one Newton step from the logarithm in float64."""
    first = vm._log(x.high)
    return wide(first) + (x * exp(-wide(first)) - 1.0)


def sin_cos_pi(x: Number) -> tuple[Wide, Wide]:
    """Sine and cosine of x half turns, but for one sign that both have, where x turns more than once."""
    angle = wide(x - x.rint()) * PI  # the difference is exact
    square = angle * angle
    sine = angle * series(square, [Fraction((-1) ** k, math.factorial(2 * k + 1)) for k in range(18)])
    cosine = series(square, [Fraction((-1) ** k, math.factorial(2 * k)) for k in range(18)])
    return sine, cosine
