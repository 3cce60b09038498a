"""Where lgamma, digamma and polygamma of even order are 0 at negative arguments, in 32 digits and with slopes.

Next to these zeros the functions are differences of larger numbers, of which the floats nearest to one leave nothing.
There they are taken from their slope and the distance to the zero, which is known in twice the digits of a float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

LGAMMA = -1
"""The order of lgamma in the family: digamma is its derivative, of order 0."""
STEPS, TERMS = 32, 20
"""From where on the asymptotic series are exact to 40 digits, and terms of these."""
_TAU = Decimal("6.28318530717958647692528676655900576839433879875")


@dataclass(frozen=True)
class Zeros:
    """Columns of a table: zeros, negated, as sums of two floats, and the first two coefficients of the series there."""

    head: tuple[float, ...]
    rest: tuple[float, ...]
    slope: tuple[float, ...]
    """By the negated argument, as the next column."""
    bend: tuple[float, ...]
    """Half the second derivative, by the slope."""


@cache
def bernoulli(count: int) -> tuple[Fraction, ...]:
    """The first Bernoulli numbers, B0 first."""
    numbers = [Fraction(1)]
    for m in range(1, count):
        numbers.append(-sum((math.comb(m + 1, k) * b for k, b in enumerate(numbers)), Fraction(0)) / (m + 1))
    return tuple(numbers)


@cache
def even_bernoulli(count: int) -> tuple[tuple[int, Fraction], ...]:
    """``(1, B2), (2, B4) …``"""
    return tuple((j, bernoulli(2 * count + 1)[2 * j]) for j in range(1, count + 1))


def tail_fractions(order: int, count: int) -> list[Fraction]:
    """Of 1/y², 1/y⁴ … in y**order times the sum of (y + k)**-(order + 1) over all k >= 0 (Euler and Maclaurin)."""
    return [b * math.prod(range(order + 1, order + 2 * j)) / math.factorial(2 * j) for j, b in even_bernoulli(count)]


@cache
def _decimals(order: int) -> tuple[Decimal, ...]:
    """Coefficients of the asymptotic series."""
    if order > 0:
        exact = tail_fractions(order, TERMS)
    else:
        exact = [b / (2 * j * (2 * j - 1) if order == LGAMMA else 2 * j) for j, b in even_bernoulli(TERMS)]
    return tuple(Decimal(c.numerator) / c.denominator for c in exact)


def _value(order: int, x: Decimal) -> Decimal:
    """The function at a negative ``x`` that is not whole."""
    steps = STEPS - int(x)
    y = x + steps
    square = 1 / (y * y)
    series = Decimal(0)
    for c in reversed(_decimals(order)):
        series = series * square + c
    if order == LGAMMA:
        product = abs(math.prod((x + k for k in range(steps)), start=Decimal(1)))
        return (y - Decimal("0.5")) * y.ln() - y + _TAU.ln() / 2 + series / y - product.ln()
    if order == 0:
        return y.ln() - 1 / (2 * y) - series * square - sum(1 / (x + k) for k in range(steps))
    total = sum((1 / (x + k)) ** (order + 1) for k in range(steps))
    total += (Decimal(1) / order + 1 / (2 * y) + series * square) / y**order
    return total * math.factorial(order) * (1 if order % 2 else -1)


def _guesses(order: int, count: int) -> list[tuple[int, float]]:
    """Of the negated zeros: a whole number, and about how far from it."""
    if order == LGAMMA:  # two between any two poles from -2 on
        beside = [(n, side / math.factorial(n)) for n in range(2, count + 3) for side in (-1, 1)]
        return beside[1:-1]
    if order == 0:
        return [(n, 0.5 + math.atan(math.log(n + 1) / math.pi) / math.pi) for n in range(count)]
    return [(n, 0.45) for n in range(count)]


def _zero(order: int, whole: int, distance: float) -> Decimal:
    """By Newton's method; of lgamma on the logarithm of the distance to the pole."""
    far = Decimal(distance)
    for _ in range(60):
        x = -(whole + far)
        step = _value(order, x) / _value(order + 1, x)
        before = far
        far = far * (step / far).exp() if order == LGAMMA else far + step
        if abs(far - before) <= abs(far) * Decimal("1e-38"):
            break
    return whole + far


@cache
def zeros(order: int, count: int) -> Zeros:
    """Of so many intervals between poles, the first ones."""
    head, rest, slope, bend = [], [], [], []
    with localcontext(prec=50):
        for whole, distance in _guesses(order, count):
            zero = _zero(order, whole, distance)
            first, second = _value(order + 1, -zero), _value(order + 2, -zero)
            head.append(float(zero))
            rest.append(float(zero - Decimal(head[-1])))
            slope.append(-float(first))
            bend.append(-float(second / first / 2))
    return Zeros(tuple(head), tuple(rest), tuple(slope), tuple(bend))
