"""The logarithm of the beta function as scalar code, in twice the digits of float64 (see ``double_word``).

It is a sum of large terms that cancel, and the beta function itself has as many digits as that sum has behind its
point.
"""

from __future__ import annotations

from fractions import Fraction

from knetc.ops import double_word as dw
from knetc.ops import vector_math as vm
from knetc.ops.double_word import Wide, two_sum, wide
from knetc.ops.gamma_zeros import even_bernoulli
from knetc.ops.vector_expression import Number, in_double, on_numbers, rarely, select

#: up to where the asymptotic series are exact to 100 bits, and terms of these
STEPS, TERMS = 20, 14


def _chosen(condition: Number, a: Wide, b: Wide) -> Wide:
    return Wide(select(condition, a.high, b.high), select(condition, a.low, b.low))


def _rest_of_stirling(x: Wide) -> Wide:
    """What Stirling's formula lacks: 1/(12 x) …"""
    inverse = 1.0 / x
    terms = [Fraction(b, 2 * j * (2 * j - 1)) for j, b in even_bernoulli(TERMS)]
    return inverse * dw.series(inverse * inverse, terms)


def _log(x: Wide) -> Wide:
    """Also of numbers whose inverse is subnormal."""
    huge = x.high > 2.0**600
    scaled = x.scaled(select(huge, 2.0**-600, x.high.constant(1.0)))
    return dw.log(scaled) + _chosen(huge, wide(x.high.constant(600.0)) * dw.LN2, wide(x.high.constant(0.0)))


def _log1p(x: Wide) -> Wide:
    small = x.high < 1e-9
    near = x - x * x.scaled(0.5) + x * x * x * Fraction(1, 3)
    return _chosen(small, near, dw.log(x + 1.0))


def _sum(a: Number, b: Number) -> Wide:
    """log B(a, b), for positive numbers that are neither next to 0 nor infinite."""
    large, small = select(a > b, a, b), select(a > b, b, a)
    # of gamma(large + STEPS) / gamma(large + small + STEPS), and gamma(small + STEPS)
    asymptotic = small > 1e9
    shift = select(asymptotic, 0.0, small.constant(float(STEPS)))
    far, low = two_sum(large, shift), two_sum(small, shift)
    both = far + small
    quotient = wide(small.constant(1.0))
    for k in range(STEPS):
        # (large + small + k) / ((large + k) (small + k))
        first, second = two_sum(large, large.constant(float(k))), two_sum(small, small.constant(float(k)))
        factor = (first + small) / first / second
        quotient = _chosen(asymptotic, quotient, quotient * factor)
    apart = wide(small) - (both - 0.5) * _log1p(wide(small) / far) - _log(far) * small
    alone = (low - 0.5) * _log(low) - low + dw.HALF_LOG_2PI
    rests = _rest_of_stirling(far) - _rest_of_stirling(both) + _rest_of_stirling(low)
    return apart + alone + rests + _log(quotient)


def _betaln_of(a: Number, b: Number) -> Number:
    beside_one = -vm._log(select(a.equals(1.0), b, a))  # exact at (1, 1), where it is 0
    return select(a.equals(1.0) | b.equals(1.0), beside_one, _sum(a, b).rounded())


def _beta_of(a: Number, b: Number) -> Number:
    total = _sum(a, b)
    bounded = total.high.at_most(720.0).at_least(-760.0)
    n, whole = vm._nearest_integer(bounded * vm.LOG2_E)
    rest = total - wide(whole) * dw.LN2
    outside = abs(rest.high) > 1.0  # of the range of float64
    factor = dw.exp(_chosen(outside, wide(a.constant(-1.0)), rest)).rounded()
    return vm._scale(factor, n)


@in_double
def _betaln(a: Number, b: Number) -> Number:
    return rarely(a.equals(a), a, _betaln_of, a, b)


@in_double
def _beta(a: Number, b: Number) -> Number:
    return rarely(a.equals(a), a, _beta_of, a, b)


beta, betaln = on_numbers(_beta), on_numbers(_betaln)
