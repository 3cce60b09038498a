"""Logarithms of sums of exponentials and of odds, as scalar code over an emitter (see ``vector_math``).

Where a sum is near 1, digits of its logarithm are lost, and it is computed with more of them. That is rare.
"""

from __future__ import annotations

import math

from knetc.ops import double_word as dw
from knetc.ops import vector_coefficients as fitted
from knetc.ops import vector_math as vm
from knetc.ops.double_word import two_sum, wide
from knetc.ops.vector_expression import Number, in_double, on_numbers, polynomial, power_of_two, rarely, select
from knetc.runtime.base import dtypes

#: log2 e to 26 bits, so that products with half a float64's digits are exact
LOG2_E_UPPER = round(vm.LOG2_E * 2**25) / 2**25


def _near_one(p: Number, p_less_one: dw.Wide, q: Number, q_less_one: dw.Wide) -> Number:
    """log(p + p times the one + q + q times the other) for powers of two p and q, where that is within a half of 1."""
    total = wide(p - 1.0) + p_less_one.scaled(p) + (wide(q) + q_less_one.scaled(q))
    return vm._log1p(total.high) + total.low / (total.high + 1.0)


def _logaddexp_close_to_zero(x: Number, y: Number) -> Number:
    """For sums of exponentials within a half of 1, from their differences to 1: right to 63 bits of these."""
    larger, smaller = select(x > y, x, y), select(x > y, y, x).at_least(-700.0)
    return _near_one(*dw.short_exp(larger), *dw.short_exp(smaller))


@in_double
def _logaddexp_near_zero(x: Number, y: Number) -> Number:
    larger, smaller = select(x > y, x, y), select(x > y, y, x)
    distance = two_sum(smaller, -larger)
    first = vm._log1p(vm._exp(distance.high))
    # one Newton step for log(1 + exp(distance)), and then the sum
    return (two_sum(larger, first) + ((dw.exp(distance) + 1.0) * dw.exp(-wide(first)) - 1.0)).rounded()


def _logaddexp_simple(x: Number, y: Number) -> Number:
    """Exact to an error of the larger one, which is all that a running total needs."""
    larger = select(x > y, x, y)
    # equal ones may be infinite, and then have no difference
    distance = select(x.equals(y), 0.0, abs(x - y))
    return select(x.unordered(y), math.nan, larger + vm._log1p(vm._exp(-distance)))


def _logaddexp_f32(x: Number, y: Number) -> Number:
    """In double, which has digits enough but next to zeros, with a short series."""
    a, b = x.to(dtypes.f64), y.to(dtypes.f64)
    larger = select(a > b, a, b)
    # equal ones may be infinite, and then have no difference; the exponential of -150 is 0 in float32
    distance = select(a.equals(b), 0.0, -abs(a - b)).at_least(-150.0)
    n, r = vm._reduce(distance)
    t = vm._exp_reduced(r) * power_of_two(n)
    s = t / (t + 2.0)
    z = s * s
    usual = larger + s * z.fma(polynomial(z, fitted.LOG1P_QUOTIENT[dtypes.f32]), 2.0)
    result = rarely(abs(usual) < larger * -(2.0**-8), usual.to(dtypes.f32), _logaddexp_near_zero, x, y)
    return select(x.unordered(y), math.nan, result)


def _logaddexp(x: Number, y: Number) -> Number:
    if x.dtype == dtypes.f32:
        return _logaddexp_f32(x, y)
    larger = select(x > y, x, y)
    distance = two_sum(select(x > y, y, x), -larger)
    n, whole, r = vm._reduced(select(x.equals(y), 0.0, distance.high).at_least(-746.0))
    # what rounding takes from the difference of infinite ones is not a number
    r = r + select(abs(distance.low) < 1.0, distance.low, 0.0)
    power = vm._scale(r.constant(1.0), n, whole)
    more = power * vm._exp_without_one(r)
    t = power + more
    lost = more - (t - power)
    # log(1 + t) = t - s (t - …): the sum with t is made first, and keeps what it is rounded by
    s = t / (t + 2.0)
    z = s * s
    rest = s * (t - z * polynomial(z, fitted.LOG1P_QUOTIENT[dtypes.f64]))
    total = larger + t
    inverse = 1.0 - s  # about: its square is less than an eighth from 1 / (1 + t)
    usual = total + ((lost * inverse).fma(inverse, t - (total - larger)) - rest)
    # dearer with the digits that are lost: the closest are hundreds of times slower, and a few in a thousand
    usual = rarely(abs(usual) < (larger * -0.625).at_most(0.25), usual, _logaddexp_close_to_zero, x, y)
    usual = rarely(abs(usual) < larger * -(2.0**-8), usual, _logaddexp_near_zero, x, y)
    return select(x.unordered(y), math.nan, select(abs(larger).equals(math.inf), larger, usual))


def _logaddexp2_close_to_zero(x: Number, y: Number) -> Number:
    """As ``_logaddexp_close_to_zero``."""
    larger, smaller = select(x > y, x, y), select(x > y, y, x).at_least(-1000.0)
    return _near_one(*dw.short_exp2(larger), *dw.short_exp2(smaller)) * vm.LOG2_E


@in_double
def _logaddexp2_near_zero(x: Number, y: Number) -> Number:
    larger, smaller = select(x > y, x, y), select(x > y, y, x).at_least(-1000.0)
    total = dw.exp(wide(larger) * dw.LN2) - 1.0 + dw.exp(wide(smaller) * dw.LN2)
    return (vm._log1p(total.high) + total.low / (total.high + 1.0)) * vm.LOG2_E


def _logaddexp2_f32(x: Number, y: Number) -> Number:
    """As ``_logaddexp_f32``."""
    a, b = x.to(dtypes.f64), y.to(dtypes.f64)
    larger = select(a > b, a, b)
    n, whole = vm._nearest_integer(distance := select(a.equals(b), 0.0, -abs(a - b)).at_least(-160.0))
    t = vm._exp_reduced((distance - whole) * math.log(2)) * power_of_two(n)
    s = t / (t + 2.0)
    z = s * s
    terms = [c * vm.LOG2_E for c in fitted.LOG1P_QUOTIENT[dtypes.f32]]
    usual = larger + s * z.fma(polynomial(z, terms), 2.0 * vm.LOG2_E)
    result = rarely(abs(usual) < larger * -(2.0**-8), usual.to(dtypes.f32), _logaddexp2_near_zero, x, y)
    return select(x.unordered(y), math.nan, result)


def _logaddexp2(x: Number, y: Number) -> Number:
    if x.dtype == dtypes.f32:
        return _logaddexp2_f32(x, y)
    larger = select(x > y, x, y)
    # equal ones may be infinite, and then have no difference; what is lost of others is not a number
    distance = two_sum(select(x > y, y, x), -larger)
    n, whole = vm._nearest_integer(near := select(x.equals(y), 0.0, distance.high).at_least(-1077.0))
    part = (near - whole) + select(abs(distance.low) < 1.0, distance.low, 0.0)
    power = vm._scale(part.constant(1.0), n, whole)
    more = power * vm._exp_without_one(part * math.log(2))
    t = power + more
    lost = more - (t - power)
    # log2(1 + t) = t log2(e) - …, as in ``_logaddexp``; the factor's upper half times t's is exact
    s = t / (t + 2.0)
    z = s * s
    rest = s * (t - z * polynomial(z, fitted.LOG1P_QUOTIENT[dtypes.f64]))
    upper = vm._upper_half(t)
    first = upper.rounded_product(LOG2_E_UPPER)
    second = upper * (vm.LOG2_E - LOG2_E_UPPER) + (t - upper) * vm.LOG2_E
    total = larger + first
    inverse = 1.0 - s
    correction = (lost * inverse).fma(inverse * vm.LOG2_E, second + (first - (total - larger)))
    usual = total + (correction - rest * vm.LOG2_E)
    usual = rarely(abs(usual) < (larger * -0.625).at_most(0.25), usual, _logaddexp2_close_to_zero, x, y)
    usual = rarely(abs(usual) < larger * -(2.0**-8), usual, _logaddexp2_near_zero, x, y)
    return select(x.unordered(y), math.nan, select(abs(larger).equals(math.inf), larger, usual))


def _log_odds(p: Number) -> Number:
    """Of the larger of p and 1 - p to the smaller, which is 1 + |1 - 2p| / smaller: exact also next to 1/2."""
    low = p < 0.5
    tiny = abs(p) < 2.0**-126
    # the inverse of a subnormal number may be infinite, that of -0 is negative
    smaller = select(tiny, p * 2.0**64 + 0.0, select(low, p, 1.0 - p))
    odds = vm._log1p(abs(p + p - 1.0) / smaller) + select(tiny, p.constant(64 * math.log(2)), 0.0)
    return select(low, -odds, odds)


logaddexp, logaddexp2 = on_numbers(_logaddexp), on_numbers(_logaddexp2)
logaddexp_simple = on_numbers(_logaddexp_simple)
log_odds = on_numbers(_log_odds)
