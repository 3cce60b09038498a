"""The incomplete gamma and beta functions, and zeta.

All is computed in float64: of two complements the smaller, as its greatest density times an integral, for parameters of
any size. It is made of other operations, so gradients by all arguments and to any order come from those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from knetc.ir.node import Node
from knetc.ops import special_math
from knetc.ops.apply import Operand, cast_node, composite
from knetc.ops.arithmetic import absolute, maximum, minimum
from knetc.ops.gamma_zeros import even_bernoulli
from knetc.ops.identities import stop_gradient
from knetc.ops.logic import equal, greater, greater_equal, isnan, less, logical_and, logical_not, logical_or, where
from knetc.ops.probability import beta
from knetc.ops.quadrature import DEPTH, EULER, exp_rest, integral, log_rest, pick, polynomial, stirling_rest, wide
from knetc.ops.special import gamma, lgamma
from knetc.ops.transcendental import exp, expm1, log, log1p, power, sqrt


def _all(*conditions: Any) -> Any:
    result = conditions[0]
    for condition in conditions[1:]:
        result = logical_and(result, condition)
    return result


# --- the incomplete gamma functions ----------------------------------------------------------------------------------


_RAISED = 4
"""By so much the first parameter of a lower integral is raised, for then it falls as fast as ``exp(-4 v)``."""


def _gamma_density(a: Node, x: Node) -> Node:
    """``x**a exp(-x) / gamma(a)``."""
    small = less(a, 170)
    below = where(small, a, 1.0)
    bounded = minimum(x, 3000.0)  # it is 0 from there on
    root = power(bounded, below * 0.5) * exp(bounded * -0.5)
    near = root / gamma(below) * root
    above = where(small, 170.0, a)
    offset = where(small, 0.0, (x - a) / above)
    far = sqrt(above * (0.5 / math.pi)) * exp(-(above * log_rest(offset)) - stirling_rest(above))
    return where(small, near, far)  # type: ignore[no-any-return]


def gamma_tail(a: Node, x: Node) -> Node:
    """The integral of the smaller side by the density at x: for x < a the lower, else the upper one."""
    sign = pick(less(x, a), -1.0, 1.0)
    slope = absolute(a - x)
    curved = 2 * DEPTH / (slope + sqrt(slope * slope + x * (4 / 3 * DEPTH)))
    low = where(less(curved, 1), curved, (x + DEPTH) / a)
    high = minimum(2 * DEPTH / (slope + sqrt(slope * slope + x * (2 * DEPTH))), maximum(2.0, log(68 / x)))
    end = where(less(x, a), low, high)
    for _ in range(4):
        y = sign * end
        rise = expm1(y)
        end = end - (a * y - x * rise + DEPTH) / (sign * (a - x - x * rise))

    def exponent(v: Node, spread: Callable[[Node], Node]) -> Node:
        y = spread(sign) * v
        return spread(a - x) * y - spread(x) * exp_rest(y)

    return integral(exponent, stop_gradient(end))


def _zeta_of(k: int) -> float:
    """Riemann's zeta at a whole number from 2 on."""
    total = math.fsum(n**-k for n in range(1, 20))
    tail = [c * 20.0 ** -(k - 1 + 2 * j) for j, c in enumerate(special_math.tail_coefficients(k - 1, 8), 1)]
    return math.fsum([total, 20.0 ** (1 - k) / (k - 1), 0.5 * 20.0**-k, *(t / 1 for t in tail)])


def _lgamma1p(a: Node) -> Node:
    """``lgamma(1 + a)`` for a from 0 to 1."""
    small = less(a, 0.25)
    near = where(small, a, 0.0)
    coefficients = [(-1) ** k * _zeta_of(k) / k for k in range(2, 27)]
    return where(small, near * (near * polynomial(near, coefficients) - EULER), lgamma(where(small, 1.0, a) + 1))  # type: ignore[no-any-return]


def _upper_gamma_near_zero(a: Node, x: Node) -> Node:
    """The regularized upper function for a < 1 and x up to 1.1, by its series; both are not 0."""
    exponent = a * log(x) - _lgamma1p(a)
    power_of_x: Any = x * -1
    total: Any = 0.0
    for n in range(1, 21):
        total = total + power_of_x / (a + n)
        power_of_x = power_of_x * x * (-1 / (n + 1))
    return -expm1(exponent) - exp(exponent) * a * total  # type: ignore[no-any-return]


def _incomplete_gamma(name: str, a: Operand, x: Operand, upper: bool) -> Node:
    (given, bound), dtype = wide(name, a, x)
    inside = _all(greater(given, 0), less(given, math.inf), greater(bound, 0), less(bound, math.inf))
    a, x = where(inside, given, 2.0), where(inside, bound, 1.0)
    lower_side = less(x, a)
    near_zero = logical_and(less(a, 1), less(x, 1.1))
    # next to 0 the upper function has a series of its own; elsewhere its tail begins at 1.1 at least
    away = where(logical_and(near_zero, logical_not(lower_side)), 1.1, x)
    density, first = _gamma_density(a, away), away * 0
    for k in range(_RAISED):
        first = first + density / (a + k)
        density = where(lower_side, density * away / (a + k), density)
    tail = density * gamma_tail(where(lower_side, a + _RAISED, a), away)
    lower = first + tail
    series = _upper_gamma_near_zero(where(near_zero, a, 0.5), where(near_zero, x, 0.5))
    if upper:
        value = where(near_zero, series, where(lower_side, 1 - lower, tail))
    else:
        value = where(lower_side, lower, 1 - where(near_zero, series, tail))
    known = logical_or(isnan(given), isnan(bound)) | less(given, 0) | less(bound, 0)
    nothing = logical_or(equal(given, 0) & equal(bound, 0), equal(given, math.inf) & equal(bound, math.inf))
    full = logical_or(equal(bound, math.inf), equal(given, 0))
    outside = where(logical_or(known, nothing), math.nan, pick(full, 0.0 if upper else 1.0, 1.0 if upper else 0.0))
    return cast_node(where(inside, value, outside), dtype)


@composite(2)
def gammainc(a: Operand, x: Operand) -> Any:
    """The regularized lower incomplete gamma function: how much of ``t**(a - 1) exp(-t)`` lies from 0 to ``x``.

    Differentiable by both arguments. NaN for negative arguments.

    >>> gammainc(kn.array([2.0]), 1.0)  # [0.26424112]
    """
    return _incomplete_gamma("gammainc", a, x, upper=False)


@composite(2)
def gammaincc(a: Operand, x: Operand) -> Any:
    """The regularized upper incomplete gamma function, ``1 - gammainc(a, x)``, also where that is tiny.

    Differentiable by both arguments. NaN for negative arguments.

    >>> gammaincc(kn.array([2.0]), 1.0)  # [0.73575888]
    """
    return _incomplete_gamma("gammaincc", a, x, upper=True)


# --- the incomplete beta function ------------------------------------------------------------------------------------


def _beta_density(a: Node, b: Node, x: Node, y: Node) -> Node:
    """``x**a y**b / beta(a, b)``, for y = 1 - x: by Stirling's series of what is 10 or more."""
    few, many = minimum(a, b), maximum(a, b)
    share = where(less(a, b), x, y)  # of the smaller parameter
    small, large = less(many, 10), greater_equal(few, 10)
    p, q = where(small, a, 1.0), where(small, b, 1.0)
    near = power(x, p) * power(y, q) / beta(p, q)
    p, q = where(large, a, 10.0), where(large, b, 10.0)
    away = where(large, b * x - a * y, 0.0)
    rests = stirling_rest(p + q) - stirling_rest(p) - stirling_rest(q)
    far = sqrt(p / (p + q) * q * (0.5 / math.pi)) * exp(rests - p * log_rest(away / p) - q * log_rest(-away / q))
    uneven = logical_not(logical_or(small, large))
    p, q = where(uneven, few, 1.0), where(uneven, many, 10.0)
    rests = stirling_rest(p + q) - stirling_rest(q)
    left = q * log1p(-share) + ((p + q - 0.5) * log1p(p / q) - p) + rests
    other = power(share * q, p) / gamma(p) * exp(left)
    return where(small, near, where(large, far, other))  # type: ignore[no-any-return]


def _beta_tail(a: Node, b: Node, x: Node, y: Node) -> Node:
    """The integral of ``t**a (1 - t)**b`` by the logarithm of t / (1 - t), from x down, by its value there."""
    left = less(x, 0.5)
    sign, part = pick(left, -1.0, 1.0), where(left, x, y)
    slope = a * y - b * x

    def exponent(v: Node, spread: Callable[[Node], Node]) -> Node:
        one, share, total = spread(sign), spread(part), spread(a + b)
        near = less(v, 1.0)
        u = one * where(near, v, 0.5)
        careful = -(spread(slope) * v) - total * (share * exp_rest(u) - log_rest(share * expm1(u)))
        plain = where(spread(left), -spread(a), spread(b)) * v - total * log1p(share * expm1(one * where(near, 1.0, v)))
        return where(near, careful, plain)  # type: ignore[no-any-return]

    curvature = (a + b) * x * y
    curved = 2 * DEPTH / (slope + sqrt(slope * slope + curvature * (4 / 3 * DEPTH)))
    end = where(less(curved, 1), curved, (DEPTH - (a + b) * log(y)) / a)
    for _ in range(5):
        fall = expm1(-end)
        fallen = a * end + (a + b) * log1p(x * fall)
        end = end + (DEPTH - fallen) / (a - (a + b) * x * (fall + 1) / (x * fall + 1))
    return integral(exponent, stop_gradient(end))


@composite(3)
def betainc(a: Operand, b: Operand, x: Operand) -> Any:
    """The regularized incomplete beta function: how much of ``t**(a - 1) (1 - t)**(b - 1)`` lies from 0 to ``x``.

    Differentiable by all arguments. NaN unless ``a`` and ``b`` are positive and ``x`` is from 0 to 1.

    >>> betainc(kn.array([2.0]), 3.0, 0.5)  # [0.6875]
    """
    (p, q, bound), dtype = wide("betainc", a, b, x)
    known = _all(greater(p, 0), less(p, math.inf), greater(q, 0), less(q, math.inf))
    inside = _all(known, greater(bound, 0), less(bound, 1))
    p, q, t = where(inside, p, 2.0), where(inside, q, 2.0), where(inside, bound, 0.5)
    rest = 1 - t
    far = _all(less(q, 1), greater(t, 0.5), less(rest * (p + q + 1), q + 1))
    swapped = logical_or(greater(t * (p + q), p), far)
    a, b = where(swapped, q, p), where(swapped, p, q)
    x, y = where(swapped, rest, t), where(swapped, t, rest)
    density, tail = _beta_density(a, b, x, y), a * 0
    for k in range(_RAISED):
        tail = tail + density / (a + k)
        density = density * x * ((a + b + k) / (a + k))
    tail = tail + density * _beta_tail(a + _RAISED, b, x, y)
    value = where(swapped, 1 - tail, tail)
    ends = where(equal(bound, 0), 0.0, pick(equal(bound, 1), 1.0, math.nan))
    return cast_node(where(inside, value, where(known, ends, math.nan)), dtype)


# --- zeta ------------------------------------------------------------------------------------------------------------

_TERMS, _CORRECTIONS = 12, 12


@composite(2)
def zeta(s: Operand, q: Operand = 1.0) -> Any:
    """Hurwitz' zeta function: the sum of ``(q + k)**-s`` over k = 0, 1, 2 …; with ``q`` 1 it is Riemann's.

    Differentiable by both arguments. Infinite for s = 1, NaN for s < 1 or q <= 0.

    >>> zeta(kn.array([2.0]))  # [1.6449341]
    """
    (exponent, start), dtype = wide("zeta", s, q)
    inside = _all(greater(exponent, 1), greater(start, 0), less(start, math.inf))
    s, q = where(inside, minimum(exponent, 1e4), 2.0), where(inside, start, 1.0)
    far = q + _TERMS
    inverse = 1 / far
    factor: Any = s * inverse
    total: Any = 0.0
    for j, bernoulli in even_bernoulli(_CORRECTIONS):
        total = total + factor * float(bernoulli / math.factorial(2 * j))
        factor = factor * ((s + (2 * j - 1)) * inverse) * ((s + 2 * j) * inverse)
    tail = power(far, -s) * (far / (s - 1) + 0.5 + total)
    for k in reversed(range(_TERMS)):
        tail = tail + power(q + k, -s)
    pole = pick(equal(exponent, 1) & greater(start, 0), math.inf, math.nan)
    return cast_node(where(inside, tail, pole), dtype)


__all__ = ["betainc", "gammainc", "gammaincc", "zeta"]
