"""Exponential integrals, Dawson's and Spence's functions, and the modified Bessel functions: by one rule for integrals.

All is computed in float64 and made of other operations, so gradients to any order come from those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from knetc.ir.node import Node
from knetc.ops.apply import Operand, cast_node, composite
from knetc.ops.arithmetic import absolute, maximum, minimum, square
from knetc.ops.host import by_rule
from knetc.ops.identities import stop_gradient
from knetc.ops.incomplete import gamma_tail
from knetc.ops.logic import equal, greater, isnan, less, logical_and, where
from knetc.ops.quadrature import DEPTH, EULER, integral, pick, wide
from knetc.ops.transcendental import acos, exp, expm1, log, log1p, sin, sqrt

Spread = Callable[[Node], Node]

# --- exponential integrals -------------------------------------------------------------------------------------------


def _exp1(x: Node) -> Node:
    """For positive x: by its series up to 1, from there on as an integral."""
    small = less(x, 1)
    near = where(small, x, 0.5)
    power_of_x: Any = near
    total: Any = 0.0
    for n in range(1, 20):
        total = total + power_of_x * (1 / n)
        power_of_x = power_of_x * near * (-1 / (n + 1))
    series = total - log(near) - EULER
    far = where(small, 1.0, x)
    return where(small, series, exp(-far) * gamma_tail(far * 0, far))  # type: ignore[no-any-return]


@composite()
def exp1(x: Operand) -> Any:
    """The exponential integral: of ``exp(-t) / t`` from ``x`` on; infinite at 0, NaN below.

    >>> exp1(kn.array([1.0]))  # [0.21938393]
    """
    [node], dtype = wide("exp1", x)
    inside = logical_and(greater(node, 0), less(node, math.inf))
    outside = where(equal(node, 0), math.inf, pick(equal(node, math.inf), 0.0, math.nan))
    return cast_node(where(inside, _exp1(where(inside, node, 1.0)), outside), dtype)


@composite()
def _expn(x: Operand, n: int) -> Any:
    [node], dtype = wide("expn", x)
    inside = logical_and(greater(node, 0), less(node, math.inf))
    given = where(inside, node, 1.0)
    if n == 0:
        value = exp(-given) / given
    else:
        value = _exp1(given)
        if n > 1:
            small = less(given, 1)
            near, far = where(small, given, 0.5), where(small, 1.0, given)
            value = _exp1(near)
            for k in range(1, n):
                value = (exp(-near) - near * value) * (1 / k)
            value = where(small, value, exp(-far) * gamma_tail(far * 0 - (n - 1), far))
    at_zero = 1 / (n - 1) if n > 1 else math.inf
    outside = where(equal(node, 0), at_zero, pick(equal(node, math.inf), 0.0, math.nan))
    return cast_node(where(inside, value, outside), dtype)


def expn(n: int, x: Operand) -> Any:
    """The generalized exponential integral: of ``exp(-x t) / t**n`` for t from 1 on, n being a Python int; NaN below 0.

    Raises ValueError for a negative ``n``.

    >>> expn(2, kn.array([1.0]))  # [0.14849551]
    """
    if n < 0:
        raise ValueError(f"expn: the order is an int of at least 0, not {n}")
    return _expn(x, int(n))


@composite()
def expi(x: Operand) -> Any:
    """The exponential integral: of ``exp(t) / t`` from minus infinity to ``x``; minus infinity at 0.

    >>> expi(kn.array([1.0, -1.0]))  # [1.8951178, -0.21938393]
    """
    [node], dtype = wide("expi", x)
    below, above = less(node, 0), logical_and(greater(node, 0), less(node, math.inf))
    left = _exp1(where(logical_and(below, greater(node, -math.inf)), -node, 1.0))
    right = where(above, node, 1.0)

    # of (exp(t) - 1) / t from 0 to x, where exp(x) is taken out and what is 40 below x does not count
    def logarithm(v: Node, spread: Spread) -> Node:
        t = spread(right) - v
        some = greater(t, 0)
        return where(some, log(-expm1(-where(some, t, 1.0)) / where(some, t, 1.0)), 0.0) - v  # type: ignore[no-any-return]

    body = exp(right) * integral(logarithm, minimum(right, DEPTH))
    value = where(above, body + log(right) + EULER, -left)
    known = where(equal(node, math.inf), math.inf, where(equal(node, -math.inf), 0.0, value))
    return cast_node(where(equal(node, 0), -math.inf, where(isnan(node), math.nan, known)), dtype)


# --- Dawson and Spence -----------------------------------------------------------------------------------------------


@composite()
def dawsn(x: Operand) -> Any:
    """Dawson's function: ``exp(-x * x)`` times the integral of ``exp(t * t)`` from 0 to ``x``.

    >>> dawsn(kn.array([1.0]))  # [0.5380795]
    """
    [node], dtype = wide("dawsn", x)
    far = greater(absolute(node), 1e150)  # where its square overflows
    given = where(far, 1.0, node)
    end = 1 - sqrt(1 - minimum(DEPTH / maximum(square(given), 1.0), 1.0))
    value = given * integral(lambda v, spread: -(square(spread(given)) * v * (2 - v)), stop_gradient(end))
    return cast_node(where(far, 0.5 / where(far, node, 1.0), value), dtype)


def _dilogarithm(z: Node) -> Node:
    """For z from 0 to 1/2: the integral of ``-log(1 - t) / t`` from 0."""
    some = greater(z, 0)
    end = where(some, z, 0.25)

    def logarithm(v: Node, spread: Spread) -> Node:
        t = spread(end) * v
        near = less(t, 1e-17)
        usual = where(near, 0.5, t)
        return where(near, 0.0, log(-log1p(-usual) / usual))  # type: ignore[no-any-return]

    return where(some, end * integral(logarithm, stop_gradient(end * 0 + 1)), z)  # type: ignore[no-any-return]


@composite()
def spence(x: Operand) -> Any:
    """Spence's function, the dilogarithm of ``1 - x``: the integral of ``log(t) / (1 - t)`` from 1; NaN below 0.

    >>> spence(kn.array([0.0, 1.0, 2.0]))  # [1.6449341, 0, -0.8224670]
    """
    [node], dtype = wide("spence", x)
    inside = logical_and(greater(node, 0), less(node, math.inf))
    given = where(inside, node, 1.0)
    large = greater(given, 1)
    y = where(large, 1 / given, given)  # spence(x) + spence(1 / x) = -log(x)**2 / 2
    low = less(y, 0.5)  # spence(y) + spence(1 - y) = pi**2 / 6 - log(y) log(1 - y)
    part = _dilogarithm(where(low, y, where(large, (given - 1) / given, 1 - given)))
    middle = where(low, y, 0.25)
    value = where(low, math.pi**2 / 6 - log(middle) * log1p(-middle) - part, part)
    value = where(large, -0.5 * square(log(given)) - value, value)
    outside = where(equal(node, 0), math.pi**2 / 6, pick(equal(node, math.inf), -math.inf, math.nan))
    return cast_node(where(inside, value, outside), dtype)


# --- modified Bessel functions ---------------------------------------------------------------------------------------


def _bessel(x: Node, order: int) -> Node:
    """``exp(-abs(x))`` times the modified Bessel function of the first kind of order 0 or 1, for finite x."""
    a = absolute(x)
    narrow = greater(a, DEPTH / 2)
    end = where(narrow, acos(1 - DEPTH / where(narrow, a, DEPTH)), math.pi)

    def logarithm(v: Node, spread: Spread) -> Node:
        return -(spread(a) * 2 * square(sin(v * 0.5)))  # type: ignore[no-any-return]

    if order == 0:
        return integral(logarithm, stop_gradient(end)) * (1 / math.pi)
    factor = integral(logarithm, stop_gradient(end), lambda v: square(sin(v)))
    return x * factor * (1 / math.pi)


def _finite(x: Node) -> Node:
    return where(less(absolute(x), math.inf), x, 1.0)  # type: ignore[no-any-return]


@composite()
def i0e(x: Operand) -> Any:
    """``exp(-abs(x)) * i0(x)``, which does not overflow.

    >>> i0e(kn.array([0.0, 1.0]))  # [1, 0.4657596]
    """
    [node], dtype = wide("i0e", x)
    outside = pick(equal(absolute(node), math.inf), 0.0, math.nan)
    return cast_node(where(less(absolute(node), math.inf), _bessel(_finite(node), 0), outside), dtype)


@composite()
def i1e(x: Operand) -> Any:
    """``exp(-abs(x)) * i1(x)``, which does not overflow.

    >>> i1e(kn.array([0.0, 1.0]))  # [0, 0.2079104]
    """
    [node], dtype = wide("i1e", x)
    outside = pick(equal(absolute(node), math.inf), 0.0, math.nan)
    return cast_node(where(less(absolute(node), math.inf), _bessel(_finite(node), 1), outside), dtype)


def _unscaled(node: Node, order: int) -> Node:
    half = exp(absolute(node) * 0.5)
    finite = less(absolute(node), math.inf)
    outside = where(equal(node, math.inf), math.inf, pick(equal(node, -math.inf), (-1) ** order * math.inf, math.nan))
    return where(finite, half * _bessel(_finite(node), order) * half, outside)  # type: ignore[no-any-return]


@composite()
def i0(x: Operand) -> Any:
    """The modified Bessel function of the first kind of order 0; its derivative is ``i1``.

    >>> i0(kn.array([0.0, 1.0]))  # [1, 1.2660658]
    """
    [node], dtype = wide("i0", x)
    return cast_node(by_rule(_unscaled(node, 0), [node], lambda made, dy: [dy * i1(made.sources[1])]), dtype)


@composite()
def i1(x: Operand) -> Any:
    """The modified Bessel function of the first kind of order 1.

    >>> i1(kn.array([0.0, 1.0]))  # [0, 0.5651591]
    """
    [node], dtype = wide("i1", x)
    return cast_node(_unscaled(node, 1), dtype)


__all__ = ["dawsn", "exp1", "expi", "expn", "i0", "i0e", "i1", "i1e", "spence"]
