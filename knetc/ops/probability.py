"""What probabilities need: the beta function, products with logarithms, entropies, log-odds, normal distributions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain
from knetc.ops import beta_math, define, vector_log_sums
from knetc.ops.apply import Operand, cast_node, coerce, composite, constant, elementwise
from knetc.ops.arithmetic import absolute, maximum, minimum
from knetc.ops.logic import (
    equal,
    greater,
    greater_equal,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    where,
)
from knetc.ops.special import digamma, erfcinv, gamma, lgamma, lgamma_reference, log_ndtr
from knetc.ops.transcendental import exp, log, log1p, ndtr
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

# --- beta ------------------------------------------------------------------------------------------------------------


def _same_floats(name: str, *operands: Operand) -> list[Node]:
    """Operands of one floating dtype and shape."""
    return coerce(name, operands, accepts="f")


def _wide(name: str, *operands: Operand) -> tuple[list[Node], Any]:
    """Operands as float64 of one shape, and the floating dtype that the result is rounded to."""
    nodes = _same_floats(name, *operands)
    return [cast_node(node, dtypes.f64) for node in nodes], nodes[0].dtype


def _stirling_rest(x: Node) -> Node:
    """``lgamma(x)`` less the beginning of Stirling's series, for x from 10 on."""
    square = 1 / (x * x)
    total: Any = 0.0
    for c in (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        total = total * square + c
    return total / x  # type: ignore[no-any-return]


def _short_betaln(a: Node, b: Node) -> Node:
    """In float64, with digits enough for float32."""
    small, large = minimum(a, b), maximum(a, b)
    usual = lgamma(a) + lgamma(b) - lgamma(a + b)
    far = maximum(large, 10.0)
    near = maximum(small, -9.0)
    both = far + near
    rest = _stirling_rest(far) - _stirling_rest(maximum(both, 10.0))
    apart = lgamma(small) + rest + near * (1 - log(far)) - (both - 0.5) * log1p(near / far)
    return where(logical_and(greater_equal(large, 10), greater(small, 0)), apart, usual)  # type: ignore[no-any-return]


def _short_beta(x: Node, y: Node) -> Any:
    usual = gamma(x) * (gamma(y) / gamma(x + y))
    large = logical_and(greater(x + y, 170), greater(minimum(x, y), 0))
    return where(large, exp(_short_betaln(x, y)), usual)


def _by_lgamma(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b = np.asarray(x, np.longdouble), np.asarray(y, np.longdouble)
    return np.asarray(lgamma_reference(a) + lgamma_reference(b) - lgamma_reference(a + b))


def _slopes(node: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = node.sources
    both = digamma(a + b)
    return dy * (digamma(a) - both), dy * (digamma(b) - both)


_POSITIVE = (Domain(0.3, 5.0, special=(1.0, 30.0)),)

BETALN = define.elementwise(
    "betaln",
    reference=lambda x, y: _by_lgamma(x, y).astype(x.dtype),
    gradient=lambda node, dy: _slopes(node, dy),
    emit=beta_math.betaln,
    arity=2,
    cost=3000,
    domains=_POSITIVE,
    ulp=64,  # of the reference, which is a difference
)
BETA = define.elementwise(
    "beta",
    reference=lambda x, y: np.exp(_by_lgamma(x, y)).astype(x.dtype),
    gradient=lambda node, dy: _slopes(node, dy * node),
    emit=beta_math.beta,
    arity=2,
    cost=3000,
    domains=_POSITIVE,
    ulp=64,
)


def _of_positive(function: Any, a: Node, b: Node, zero: float, next_to_zero: Any, elsewhere: Any) -> Any:
    """A function of positive numbers; ``next_to_zero`` of the smaller and the other, ``elsewhere`` of negatives."""
    first = less(absolute(a), absolute(b))
    small, other = where(first, a, b), where(first, b, a)
    positive = logical_and(greater(a, 0), greater(b, 0))
    tiny, endless = less(absolute(small), 1e-200), logical_and(positive, isinf(other))
    usual = logical_and(positive, logical_not(logical_or(tiny, endless)))
    value = function(where(usual, a, 1.0), where(usual, b, 1.0))
    others = where(tiny, next_to_zero(small, other), elsewhere(where(usual, 1.0, a), where(usual, 1.0, b)))
    return where(usual, value, where(endless, zero, others))


@composite(2)
def betaln(a: Operand, b: Operand) -> Any:
    """The logarithm of the absolute value of the beta function, also where that is nearly 1 or out of range.

    >>> betaln(kn.array([2.0]), 3.0)  # [-2.4849067]
    """
    nodes, dtype = _wide("betaln", a, b)

    def next_to_zero(small: Node, other: Node) -> Any:
        return where(less(absolute(other), 1e-200), log1p(absolute(small / other)), 0.0) - log(absolute(small))

    function = partial(elementwise, BETALN) if dtype == dtypes.f64 else _short_betaln
    result = _of_positive(
        function, nodes[0], nodes[1], -math.inf, next_to_zero, lambda a, b: lgamma(a) + lgamma(b) - lgamma(a + b)
    )
    return cast_node(result, dtype)


@composite(2)
def beta(a: Operand, b: Operand) -> Any:
    """The beta function, ``gamma(a) * gamma(b) / gamma(a + b)``, also where these overflow.

    >>> beta(kn.array([2.0]), 3.0)  # [0.083333336]
    """
    nodes, dtype = _wide("beta", a, b)

    def next_to_zero(small: Node, other: Node) -> Any:
        return 1 / small + where(less(absolute(other), 1e-200), 1 / other, 0.0)

    function = partial(elementwise, BETA) if dtype == dtypes.f64 else _short_beta
    result = _of_positive(
        function, nodes[0], nodes[1], 0.0, next_to_zero, lambda a, b: gamma(a) * (gamma(b) / gamma(a + b))
    )
    return cast_node(result, dtype)


@composite()
def multigammaln(a: Operand, d: int) -> Any:
    """The logarithm of the gamma function of ``d`` dimensions, for ``a`` above ``(d - 1) / 2``.

    >>> multigammaln(kn.array([3.0]), 2)  # [1.5501949]
    """
    if d < 1:
        raise ShapeError(f"multigammaln: the dimension is an int of at least 1, not {d}")
    [x], dtype = _wide("multigammaln", a)
    total: Any = d * (d - 1) / 4 * math.log(math.pi)
    for place in range(d):
        total = total + lgamma(x - place / 2)
    return cast_node(total, dtype)


# --- products with logarithms ----------------------------------------------------------------------------------------


def _times_log(x: Node, y: Node, function: Any, low: float) -> Node:
    """``x * function(y)``, 0 where x is 0 and the function is not finite, unless y is NaN."""
    inside = logical_and(greater(y, low), less(y, math.inf))
    nothing = equal(x, 0) & logical_not(inside) & logical_not(isnan(y))
    return where(nothing, 0.0, x * function(where(nothing, 1.0, y)))  # type: ignore[no-any-return]


@composite(2)
def xlogy(x: Operand, y: Operand) -> Any:
    """``x * log(y)``, 0 where x is 0, also for y = 0.

    >>> xlogy(kn.array([0.0, 2.0]), kn.array([0.0, 1.0]))  # [0, 0]
    """
    a, b = _same_floats("xlogy", x, y)
    return _times_log(a, b, log, 0.0)


@composite(2)
def xlog1py(x: Operand, y: Operand) -> Any:
    """``x * log1p(y)``, 0 where x is 0, also for y = -1.

    >>> xlog1py(kn.array([0.0, 2.0]), kn.array([-1.0, 0.0]))  # [0, 0]
    """
    a, b = _same_floats("xlog1py", x, y)
    return _times_log(a, b, log1p, -1.0)


@composite()
def entr(x: Operand) -> Any:
    """``-x * log(x)``, what an outcome adds to an entropy: 0 at 0, minus infinity below.

    >>> entr(kn.array([0.0, 0.5]))  # [0, 0.3465736]
    """
    [a] = _same_floats("entr", x)
    known = greater(a, 0)
    inside = where(known, a, 1.0)
    return where(less(a, 0), -math.inf, where(known, -(inside * log(inside)), where(isnan(a), a, 0.0)))


def _log_quotient(p: Node, q: Node) -> Any:
    """log(p / q) of positive float64, also where the quotient is nearly 1 or out of range."""
    ratio = p / q
    close = logical_and(greater(ratio, 0.5), less(ratio, 2.0))  # the difference is exact
    far = logical_or(less(ratio, 1e-300), greater(ratio, 1e300))
    return where(close, log1p((p - q) / q), where(far, log(p) - log(q), log(where(far, 1.0, ratio))))


def _rel_entr(p: Node, q: Node, value: Any) -> Any:
    """``value`` of positive numbers, and what it is of others."""
    inside = logical_and(greater(p, 0), greater(q, 0))
    unknown = where(isnan(p) | isnan(q), constant(math.nan, p.dtype), math.inf)
    outside = where(logical_and(equal(p, 0), greater_equal(q, 0)), 0.0, unknown)
    return where(inside, value(where(inside, p, 1.0), where(inside, q, 1.0)), outside)


@composite(2)
def rel_entr(x: Operand, y: Operand) -> Any:
    """``x * log(x / y)``, what an outcome adds to a relative entropy: 0 for x = 0, infinite for y <= 0 or x < 0.

    >>> rel_entr(kn.array([0.0, 0.5]), kn.array([0.5, 0.25]))  # [0, 0.3465736]
    """
    (a, b), dtype = _wide("rel_entr", x, y)
    return cast_node(_rel_entr(a, b, lambda p, q: p * _log_quotient(p, q)), dtype)


_KL_TERMS = 28
"""Of the series in a square of at most 1/4."""


def _kl(p: Node, q: Node) -> Any:
    """p log(p / q) - p + q of positive float64; of numbers that are alike by series in s = (p - q) / (p + q)."""
    scale = where(greater(maximum(p, q), 1e300), 0.25, 1.0)
    difference = p - q
    s = difference * scale / (p * scale + q * scale)
    close = less_equal(absolute(s), 1 / 2)
    s, difference = where(close, s, 0.0), where(close, difference, 0.0)
    square = s * s
    # the inverse hyperbolic tangent of s is s + s³ tail = s whole
    tail: Any = 0.0
    for k in reversed(range(1, _KL_TERMS)):
        tail = tail * square + 1 / (2 * k + 1)
    whole = tail * square + 1
    return where(close, difference * s * (whole + s * tail), p * _log_quotient(p, q) - p + q)


@composite(2)
def kl_div(x: Operand, y: Operand) -> Any:
    """``x * log(x / y) - x + y``, which is nowhere negative: ``y`` for x = 0, infinite for y <= 0 < x or below 0.

    >>> kl_div(kn.array([0.5]), kn.array([0.25]))  # [0.09657359]
    """
    (a, b), dtype = _wide("kl_div", x, y)
    nothing = logical_and(equal(a, 0), greater_equal(b, 0))
    return cast_node(where(nothing, b, _rel_entr(a, b, _kl)), dtype)


# --- log-odds --------------------------------------------------------------------------------------------------------


def _log_odds(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        p = np.asarray(x, np.longdouble)
        found = np.where(abs(p - 0.5) < 0.25, 2 * np.arctanh(2 * p - 1), np.log(p) - np.log1p(-p))
        return np.asarray(found, x.dtype)


LOG_ODDS = define.elementwise(
    "log_odds",
    reference=_log_odds,
    gradient=lambda node, dy: (dy / (node.sources[0] * (1 - node.sources[0])),),
    emit=vector_log_sums.log_odds,
    cost=15,
    domains=(Domain(0.05, 0.95, (0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 1e-42, -1e-42, math.inf, -math.inf, math.nan)),),
)


def logit(x: Operand) -> Any:
    """``log(x / (1 - x))``, whose inverse is ``sigmoid``: accurate also near 1/2, infinite at 0 and 1, NaN outside.

    >>> logit(kn.array([0.5, 0.75]))  # [0, 1.0986123]
    """
    return elementwise(LOG_ODDS, x)


# --- the normal distribution -----------------------------------------------------------------------------------------


@composite()
def ndtri(p: Operand) -> Any:
    """The number whose ``ndtr`` is ``p``: infinite at 0 and 1, NaN outside.

    >>> ndtri(kn.array([0.5, 0.8413447]))  # [0, 1]
    """
    [node], dtype = _wide("ndtri", p)
    return cast_node(erfcinv(2 * node) * -math.sqrt(2), dtype)


__all__ = [
    "beta", "betaln", "entr", "kl_div", "log_ndtr", "logit", "multigammaln", "ndtr", "ndtri", "rel_entr", "xlog1py",
    "xlogy",
]  # fmt: skip
