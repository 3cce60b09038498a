"""The gamma family, scaled and inverse error functions, and angles in half turns, as straight-line scalar code.

Written as ``vector_math`` is, and as exact in float32, which is computed in float64. Errors in float64 are below 8 ulp
(most below 4) as ``benchmarks/accuracy.py`` measures them. Next to their zeros at negative arguments ``lgamma``,
``digamma`` and ``polygamma`` are differences of larger numbers; there they are computed with twice as many digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from knetc.ops import double_word as dw
from knetc.ops import vector_angles as va
from knetc.ops import vector_coefficients as fitted
from knetc.ops import vector_math as vm
from knetc.ops.double_word import Wide, two_sum, wide
from knetc.ops.gamma_zeros import LGAMMA, even_bernoulli, tail_fractions, zeros
from knetc.ops.vector_errors import erfc_centre, inverse_erf
from knetc.ops.vector_expression import Number, in_double, lookup, on_numbers, polynomial, rarely, select
from knetc.runtime.base import dtypes

LN10 = math.log(10)
_Value = TypeVar("_Value", Number, Wide)


# --- exponentials and angles -----------------------------------------------------------------------------------------


@in_double
def _exp10(x: Number) -> Number:
    x = x.at_most(310.0).at_least(-326.0)
    n, whole = vm._nearest_integer(x * math.log2(10))
    head, rest = vm.LOG10_2[dtypes.f64]
    r = whole.fma(-head, x) - whole * rest
    return vm._scale(vm._exp_reduced(r * LN10), n, whole)


def _sin_cos_pi(x: Number) -> tuple[Number, Number]:
    """Sine and cosine of x half turns; both exact where they are 0, 1 or -1."""
    rest = x - (x * 0.5).rint() * 2.0  # exact, in [-1, 1]
    n, whole = vm._nearest_integer(rest + rest)
    s, c = va._sin_cos(whole.fma(-0.5, rest) * math.pi)
    even = (n & 1).equals(0)
    sine = va._flip_sign(select(even, s, c), n, 1)
    cosine = va._flip_sign(select(even, c, s), n + 1, 1)
    return sine, cosine


@in_double
def _sinpi(x: Number) -> Number:
    sine, _ = _sin_cos_pi(abs(x))
    sine = sine + 0.0  # no negative zero at whole numbers
    return select(x < 0.0, -sine, select(x.equals(0.0), x, sine))


@in_double
def _cospi(x: Number) -> Number:
    _, cosine = _sin_cos_pi(abs(x))
    return cosine + 0.0


# --- error functions -------------------------------------------------------------------------------------------------


@in_double
def _erfcx(x: Number) -> Number:
    a = abs(x)
    bounded = a.at_most(2.0**60)  # where the quotient is 1
    divisor = a + 0.5
    fraction = polynomial((bounded - 4.0) / (bounded + 4.0), fitted.ERFCX) * 0.5 / divisor
    lost = select(a < 2.0**50, a - (divisor - 0.5), 0.0)  # by rounding the divisor
    fraction = fraction - fraction * (lost / divisor)
    # exp(a²) needs all of a²: the square of a's upper half is exact, and the rest is a small correction
    small = a.at_most(27.0)
    upper = vm._upper_half(small)
    n, r = vm._reduce(upper * upper)
    r = (small - upper).fma(small + upper, r)
    left = vm._scale(vm._exp_reduced(r), n + 1) - fraction
    return select(a < 0.5, erfc_centre(x) * vm._exp_reduced(x * x), select(x < 0.0, left, fraction))


def _inverse_erf_centre(x: Number) -> Number:
    """The inverse error function for |x| <= 1/2."""
    return x * polynomial(x * x, fitted.ERFINV_CENTRE)


def _inverse_erfc_tail(q: Number) -> Number:
    """The inverse complementary error function for 0 <= q <= 1/2."""
    s = (-vm._log(q)).sqrt()
    near = polynomial(s - 1.45, fitted.ERFINV_NEAR)
    bounded = s.at_most(28.0)
    far = s * polynomial((bounded - 4.0) / (bounded + 4.0), fitted.ERFINV_FAR)
    return select(s < 2.1, near, far)


def _erfinv_f32(x: Number) -> Number:
    if x.e.tables:
        return select(abs(x) < 1.0, inverse_erf(x), select(abs(x).equals(1.0), x * math.inf, x.constant(math.nan)))
    w = -vm._log((1.0 - x) * (1.0 + x))
    near = polynomial(w - 2.5, fitted.ERFINV_CENTRE_F32)
    far = polynomial(w.at_most(17.0).sqrt() - 3.0, fitted.ERFINV_TAIL_F32)
    result = select(w < 5.0, near, far) * x
    return select(abs(x).equals(1.0), x * math.inf, result)


def _erfinv_by_log(x: Number) -> Number:
    e, f = vm._split_normal((1.0 - x) * (1.0 + x))
    exponent = e.to(x.dtype)
    head, rest = vm.LN2[x.dtype]
    log = exponent.fma(head, vm._log_near_one(f, exponent * rest))
    return x * polynomial(-3.125 - log, fitted.ERFINV_MOST)


def _erfinv(x: Number) -> Number:
    if x.dtype == dtypes.f32:
        return _erfinv_f32(x)
    most = inverse_erf(x) if x.e.tables else _erfinv_by_log(x)
    return rarely(abs(x) > 0.999, most, _erfinv_near_one, x)


def _erfinv_near_one(x: Number) -> Number:
    return _inverse_erfc_tail(1.0 - abs(x)).copysign(x)  # the difference is exact


@in_double
def _erfcinv(q: Number) -> Number:
    left = q > 1.0
    nearer = select(left, 2.0 - q, q)  # exact where it matters: from 1 on
    tail = _inverse_erfc_tail(nearer.at_most(0.5))
    return select(nearer < 0.5, select(left, -tail, tail), _inverse_erf_centre(1.0 - q))


# --- gamma -----------------------------------------------------------------------------------------------------------

#: from where on Stirling's formula is used
FAR = 8.5
#: log2 e: a few bits, and the rest
LOG2_E_HEAD = 1.4426946640014648
LOG2_E_REST = 3.768874985636099e-07


def _steps_to_two(x: Number) -> tuple[Number, Number, Number, Number]:
    """``k``, ``f``, ``up``, ``down`` with gamma(x) = gamma(2 + f) up / down and |f| <= 1/2, for -1/2 <= x <= 8.5."""
    k = x.rint()
    up = select(k > 2.0, x - 1.0, 1.0)
    for j in range(2, 7):
        up = up * select(k > j + 1.0, x - float(j), 1.0)
    down = select(k < 1.0, x * (x + 1.0), select(k < 2.0, x, 1.0))
    return k, x - k, up, down


def _stirling(x: Number) -> tuple[Number, Number]:
    """``m`` and ``n`` with gamma(x) = m 2**n, for x from 8.5 up to some hundreds."""
    e, f = vm._split_normal(x)
    whole, low = vm._log2_in_two(e.to(x.dtype), f)
    high = vm._upper_half(whole)
    head = high - LOG2_E_HEAD  # exact: log2 (x / e) in two pieces
    rest = low + (whole - high) - LOG2_E_REST
    y = x - 0.5
    y_high = vm._upper_half(y)
    product = y_high * head
    small = (y - y_high).fma(head, y * rest)
    n, whole = vm._nearest_integer(product + small)
    inverse = 1.0 / x
    series = inverse * polynomial(inverse * inverse, fitted.STIRLING[dtypes.f64])
    # sqrt(2 pi / e) exp(series) 2**(…)
    power = vm._exp_reduced((product - whole + small) * math.log(2) + series)
    return power * math.sqrt(2 * math.pi / math.e), n


@in_double
def _gamma(x: Number) -> Number:
    a = abs(x)
    reflected = x < -0.5
    y = select(reflected, a, x).at_most(190.0)
    _, f, up, down = _steps_to_two(y.at_most(FAR))
    near = polynomial(f, fitted.GAMMA) * up / down
    far, n = _stirling(y.at_least(FAR))
    is_near = y < FAR
    value, n = select(is_near, near, far), select(is_near, 0, n)
    sine, _ = _sin_cos_pi(a)
    mirrored = -math.pi / (a.at_most(190.0) * sine * value)
    result = vm._scale(select(reflected, mirrored, value), select(reflected, -n, n))
    result = select(is_near & ~reflected, near, result)  # which may be infinite
    return select(x.unordered(x) | (reflected & sine.equals(0.0)), math.nan, result)


#: steps up to where the asymptotic series are exact to 100 bits, and terms of these
WIDE_STEPS, WIDE_TERMS = 24, 16
#: between how many poles the zeros are in tables: of lgamma all that are not poles in float64
ZEROS = {LGAMMA: 16, 0: 64}


def _next_to_zero(order: int, a: Number, elsewhere: Number) -> Number:
    """The function of the family at -a where it is below a thousand millionth, from its slope at the zero there."""
    if not a.e.tables:
        return elsewhere
    table = zeros(order, ZEROS.get(order, 32))
    whole = a.floor()
    place = whole
    if order == LGAMMA:  # two in each interval, of which the first is at -2.457
        place = (whole - 2.0) * 2.0 + select(a - whole > 0.5, 1.0, a.constant(0.0))
    place = place.at_least(0.0).at_most(len(table.head) - 1.0).to(dtypes.i64)
    head, rest, slope, bend = (
        lookup(column, place, a.dtype) for column in (table.head, table.rest, table.slope, table.bend)
    )
    distance = a - head - rest
    result = slope * distance
    return select(abs(result) < 1e-9, result * bend.fma(distance, 1.0), elsewhere)


def _lgamma_near_zero(a: Number) -> Number:
    """lgamma(-a), a > 2, where it is the difference of two logarithms that are nearly equal."""
    sine, _ = dw.sin_cos_pi(a)
    product = wide(a)
    for k in range(1, WIDE_STEPS):
        product = product * two_sum(a, a.constant(float(k)))
    quotient = product * dw.PI / (sine * a)
    quotient = Wide(abs(quotient.high), select(quotient.high < 0.0, -quotient.low, quotient.low))
    y = two_sum(a, a.constant(float(WIDE_STEPS)))
    inverse = 1.0 / y
    terms = [Fraction(b, 2 * j * (2 * j - 1)) for j, b in even_bernoulli(WIDE_TERMS)]
    stirling = (y - 0.5) * dw.log(y) - y + dw.HALF_LOG_2PI + inverse * dw.series(inverse * inverse, terms)
    return _next_to_zero(LGAMMA, a, (dw.log(quotient) - stirling).rounded())


def _lgamma_f32(x: Number) -> Number:
    """In double by short series; as ``_lgamma_f64`` but for the sine, whose sign is not asked for."""
    a = abs(x)
    reflected = x < -0.5
    nearest = select(reflected, a, x)
    is_near = nearest < FAR
    y, inverse = nearest.to(dtypes.f64), (1.0 / nearest).to(dtypes.f64)
    k, f, up, down = _steps_to_two(y.at_most(FAR))
    logarithm = vm._short_log(select(is_near, abs(up * down), y))
    near = f * (f + 1.0) * polynomial(f, fitted.LOG_GAMMA[x.dtype]) + select(k < 2.0, -logarithm, logarithm)
    first, second = fitted.STIRLING[x.dtype]
    series = inverse.fma((inverse * inverse).fma(second, first), 0.5 * math.log(2 * math.pi) - 0.5)
    value = select(is_near, near, (y - 0.5).fma(logarithm - 1.0, series))
    rest = y - y.rint()
    sine = rest * polynomial(rest * rest, fitted.SINPI_F32)
    mirrored = math.log(math.pi) - vm._short_log(y * abs(sine)) - value
    mirrored = rarely(reflected & (abs(mirrored) < abs(value)), mirrored, _lgamma_near_zero, y)
    result = select(reflected, mirrored, value).to(x.dtype)
    pole = select(reflected, rest.equals(0.0), x.equals(0.0)) | a.equals(math.inf)
    return select(pole, math.inf, result)


def _lgamma_f64(x: Number) -> Number:
    a = abs(x)
    reflected = x < -0.5
    y = select(reflected, a, x)
    is_near = y < FAR
    k, f, up, down = _steps_to_two(y.at_most(FAR))
    logarithm = vm._log(select(is_near, abs(up * down), y))
    near = f * (f + 1.0) * polynomial(f, fitted.LOG_GAMMA[dtypes.f64]) + select(k < 2.0, -logarithm, logarithm)
    inverse = 1.0 / y
    series = inverse.fma(polynomial(inverse * inverse, fitted.STIRLING[dtypes.f64]), 0.5 * math.log(2 * math.pi) - 0.5)
    far = (y - 0.5).fma(logarithm - 1.0, series)
    value = select(is_near, near, far)
    sine, _ = _sin_cos_pi(a)
    mirrored = vm._log(math.pi / (a * abs(sine))) - value
    mirrored = rarely(reflected & (abs(mirrored) < abs(value)), mirrored, _lgamma_near_zero, a)
    pole = sine.equals(0.0) | a.equals(math.inf)
    return select(reflected, select(pole, math.inf, mirrored), value)


def _lgamma(x: Number) -> Number:
    return _lgamma_f32(x) if x.dtype == dtypes.f32 else _lgamma_f64(x)


# --- its logarithmic derivatives -------------------------------------------------------------------------------------

DIGAMMA_ROOT = (1.4616321449683622, 9.549995429965697e-17)


def _digamma_near(y: Number) -> Number:
    """For -1/4 <= y < 8: from [1, 2) by adding or subtracting inverses, as one fraction."""
    m = y.floor() - 1.0
    # of the inverses of y - 1, y - 2 … as far as they are needed
    up, down = y.constant(0.0), y.constant(1.0)
    for j in range(1, 7):
        factor, needed = y - float(j), m >= float(j)
        up = select(needed, up.fma(factor, down), up)
        down = select(needed, down * factor, down)
    below_one, below_zero = m < 0.0, m < -1.0
    up = select(below_zero, -(y + y + 1.0), select(below_one, -1.0, up))
    down = select(below_zero, y * (y + 1.0), select(below_one, y, down))
    t = y - m
    head, rest = DIGAMMA_ROOT
    return (t - head - rest).fma(polynomial(t - 1.5, fitted.DIGAMMA), up / down)


def _digamma_near_zero(a: Number) -> Number:
    """digamma(-a), a > 1/4, where it is the difference of two numbers that are nearly equal."""
    sine, cosine = dw.sin_cos_pi(a)
    total = cosine * dw.PI / sine
    for k in range(1, WIDE_STEPS):
        total = total - 1.0 / two_sum(a, a.constant(float(k)))
    y = two_sum(a, a.constant(float(WIDE_STEPS)))
    inverse = 1.0 / y
    square = inverse * inverse
    terms = [Fraction(b, 2 * j) for j, b in even_bernoulli(WIDE_TERMS)]
    result = total + (dw.log(y) - inverse.scaled(0.5) - square * dw.series(square, terms))
    return _next_to_zero(0, a, result.rounded())


@in_double
def _digamma(x: Number) -> Number:
    a = abs(x)
    reflected = x < -0.25  # a zero is at -0.504
    y = select(reflected, a, x)
    near = _digamma_near(y.at_most(8.0))
    inverse = 1.0 / y
    square = inverse * inverse
    far = vm._log(y) - inverse * 0.5 - square * polynomial(square, fitted.DIGAMMA_FAR)
    value = select(y < 8.0, near, far)
    sine, cosine = _sin_cos_pi(a)
    mirrored = value + inverse + math.pi * (cosine / sine)
    mirrored = rarely(reflected & (abs(mirrored) < abs(value)), mirrored, _digamma_near_zero, a)
    return select(reflected, select(sine.equals(0.0), math.nan, mirrored), value)


def tail_coefficients(order: int, count: int) -> list[float]:
    """The same as floats."""
    return [float(c) for c in tail_fractions(order, count)]


def cotangent_derivative(order: int) -> list[int]:
    """The ``order``-th derivative of cot as a polynomial in cot, constant term first."""
    p = [0, 1]
    for _ in range(order):
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [0] * (len(slope) + 2)
        for k, c in enumerate(slope):
            p[k] -= c
            p[k + 2] -= c
    return p


def _to_the(x: _Value, exponent: int) -> _Value:
    result = x
    for _ in range(exponent - 1):
        result = result * x
    return result


def _horner(x: Number, coefficients: Sequence[float]) -> Number:
    result = x.constant(coefficients[-1])
    for c in coefficients[-2::-1]:
        result = result.fma(x, c)
    return result


def _polygamma(order: int) -> Callable[[Number], Number]:
    """The ``order``-th derivative of digamma (order >= 1): a sum of powers of inverses, which has no cancellation."""
    steps = 8 + order
    sign = 1.0 if order % 2 else -1.0

    def polygamma(x: Number) -> Number:
        reflected = x < -0.25
        y = select(reflected, 1.0 - x, x)
        total = y.constant(0.0)
        inverse = 1.0 / (y + float(steps))
        square = inverse * inverse
        tail = square * polynomial(square, tail_coefficients(order, 8)) + (inverse * 0.5 + 1 / order)
        total = tail * _to_the(inverse, order)
        for k in reversed(range(steps)):  # the smallest first
            total = total + _to_the(1.0 / (y + float(k) if k else y), order + 1)
        value = total * (sign * math.factorial(order))
        sine, cosine = _sin_cos_pi(x)
        turned = _horner(cosine / sine, [float(c) for c in cotangent_derivative(order)]) * math.pi ** (order + 1)
        mirrored = -value - turned if order % 2 else value - turned
        pole = select(sine.equals(0.0), math.inf if order % 2 else math.nan, mirrored)
        result = select(reflected, pole, value)
        # the first has no zeros; high powers have many times the error of what is raised, first that of the cotangent
        hard = reflected & (abs(mirrored) < abs(value)) if order == 2 else reflected
        hard = hard if order <= 8 else x.equals(x)
        return rarely(hard & (abs(result) < math.inf), result, in_many_digits, x) if order > 1 else result

    def in_many_digits(x: Number) -> Number:
        reflected = x < -0.25
        sine, cosine = dw.sin_cos_pi(select(reflected, x, 0.25))
        y = two_sum(select(reflected, 1.0, x.constant(0.0)), select(reflected, -x, x))
        far = y + float(WIDE_STEPS)
        inverse = 1.0 / far
        square = inverse * inverse
        tail = square * dw.series(square, tail_fractions(order, WIDE_TERMS))
        tail = tail + (inverse.scaled(0.5) + Fraction(1, order))
        total = tail * _to_the(inverse, order)
        for k in reversed(range(WIDE_STEPS)):
            total = total + _to_the(1.0 / (y + float(k)), order + 1)
        turned = dw.series(cosine / sine, [Fraction(c) for c in cotangent_derivative(order)])
        turned = turned * _to_the(y._operand(dw.PI), order + 1)
        total = total * float(-math.factorial(order))
        left = (total - turned).rounded()
        right = total.rounded() * (-1.0 if order % 2 else 1.0)
        return select(reflected, left if order % 2 else _next_to_zero(order, -x, left), right)

    in_many_digits.__name__ = f"polygamma{order}_in_many_digits"
    return in_double(polygamma)


def polygamma(e: Any, x: Any, *, order: int) -> Any:
    """CPU code of the ``order``-th derivative of digamma."""
    return on_numbers(_polygamma(order))(e, x)


exp10, sinpi, cospi = on_numbers(_exp10), on_numbers(_sinpi), on_numbers(_cospi)
erfcx, erfinv, erfcinv = on_numbers(_erfcx), on_numbers(_erfinv), on_numbers(_erfcinv)
gamma, lgamma, digamma = on_numbers(_gamma), on_numbers(_lgamma), on_numbers(_digamma)
