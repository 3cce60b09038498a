"""The error function, its complement and its inverse, as scalar code over an emitter (see ``vector_math``).

erf in float32 is 1 - exp(y), where y, the logarithm of erfc(a), is ``a`` times a polynomial. That may be the less
exact, the nearer erf is to 1; where erf is small, so is y.

erf in float64 and erfc are in tables at multiples r of a small step. From the nearest of these to a = r + d it is

    erfc(r) - erfc(a) = s d (F1(v) - d² F3(v) + d⁴/2 F5(v) - d⁶/6 F7(v) …),    v = 2 r d,

where s is 2/sqrt(pi) exp(-r²), also from a table, and Fk(v) is the integral of t**(k-1) exp(-v t) over 0 <= t <= 1:
exp(-2 r t - t²) is integrated with exp(-t²) as its series. All Fk are short polynomials, and there is no quotient.

The inverse y is known, with its derivative y', at 1 - c for c at even steps in each octave. Its further derivatives are
polynomials in y times powers of y', so that from there it is a Taylor series in both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache, reduce

import numpy as np

from knetc.ops import vector_coefficients as fitted
from knetc.ops import vector_math as vm
from knetc.ops.vector_expression import Number, bits_of, by_horner, lookup, on_numbers, polynomial, power_of_two, select
from knetc.runtime.base import dtypes

Tables = tuple[tuple[float, ...], tuple[float, ...]]
Series = tuple[Sequence[float], ...]

#: steps in 1
STEPS = {dtypes.f32: 32, dtypes.f64: 64}
#: from where on erf is 1, and erfc 0
ERF_END = {dtypes.f32: 4.0, dtypes.f64: 6.0}
ERFC_END = {dtypes.f32: 10.25, dtypes.f64: 27.3125}
#: F1, -F3, F5/2 … as polynomials
ERF_SERIES: Series = (fitted.ERF_F64_1, fitted.ERF_F64_3, fitted.ERF_F64_5, fitted.ERF_F64_7)
ERFC_SERIES: Mapping[np.dtype, Series] = {
    dtypes.f32: (fitted.ERFC_F32_1, fitted.ERFC_F32_3),
    dtypes.f64: (fitted.ERFC_F64_1, fitted.ERFC_F64_3, fitted.ERFC_F64_5, fitted.ERFC_F64_7),
}
#: erfinv(x) is in tables for 1 - |x| from 2**-n on, at 2**m places in each octave: n and m, and derivatives from there
ERFINV_PLACES = {dtypes.f32: (24, 5, 4), dtypes.f64: (10, 6, 7)}
#: what erfc is multiplied by in its tables, so that they have no subnormal numbers
ERFC_SCALE = {dtypes.f32: 2.0**64, dtypes.f64: 2.0**128}

_SMALL = Decimal("1e-27")
_ROOT_PI = Decimal("1.77245385090551602729816748334114518")


def _integral(r: Decimal, d: Decimal) -> Decimal:
    """Of exp(-2 r t - t²) over 0 <= t <= d, by its Taylor series."""
    along, square = -2 * r * d, -2 * d * d
    before, term, total = Decimal(0), Decimal(1), Decimal(1)
    for n in range(1, 40):
        before, term = term, (along * term + square * before) / n
        total += term / (n + 1)
        if abs(before) + abs(term) < _SMALL:
            break
    return d * total


def _slope(r: Decimal) -> Decimal:
    """The derivative of erf."""
    return 2 / _ROOT_PI * (-r * r).exp()


@cache
def _exactly(steps: int, end: float) -> list[tuple[Decimal, Decimal]]:
    """erfc and minus its derivative at 0, 1/steps, 2/steps … end, to some 25 digits."""
    with localcontext(prec=32):
        step = 1 / Decimal(steps)
        # far to the right erfc is nearly 0 compared with its value at the end; from there it is summed up
        found, erfc = [], Decimal(0)
        for k in range(round((end + 5) * steps), -1, -1):
            slope = _slope(k * step)
            erfc += slope * _integral(k * step, step)
            found.append((erfc, slope))
    return found[::-1][: round(end * steps) + 1]


@cache
def erf_tables() -> Tables:
    """erf and its derivative at multiples of the step."""
    values = _exactly(STEPS[dtypes.f64], ERF_END[dtypes.f64])
    return tuple(float(round(1 - erfc, 24)) for erfc, _ in values), tuple(float(slope) for _, slope in values)


@cache
def erfc_tables(dtype: np.dtype) -> Tables:
    """erfc and minus its derivative at multiples of the step, scaled."""
    values, scale = _exactly(STEPS[dtype], ERFC_END[dtype]), Decimal(ERFC_SCALE[dtype])
    return tuple(float(erfc * scale) for erfc, _ in values), tuple(float(slope * scale) for _, slope in values)


@cache
def erfinv_tables(dtype: np.dtype) -> Tables:
    """The inverse y of erf and its derivative at 1 - c, for c = 2**-n, 2**-n (1 + 2**-m) … 1."""
    octaves, place_bits, _ = ERFINV_PLACES[dtype]
    steps = STEPS[dtypes.f64]
    known = _exactly(steps, ERF_END[dtypes.f64])
    values, slopes = [], []
    y = 2.0
    for place in range((octaves << place_bits) + 1):
        octave, k = divmod(place, 1 << place_bits)
        c = math.ldexp(1 + k / (1 << place_bits), octave - octaves)
        change = 1.0
        while abs(change) > 1e-9:  # its square is what is left
            change = (math.erfc(y) - c) * math.exp(y * y) * math.sqrt(math.pi) / 2
            y += change
        nearest = round(y * steps)
        with localcontext(prec=32):
            r, exact = Decimal(nearest) / steps, Decimal(y)
            erfc, slope = known[nearest]
            exact += (erfc - slope * _integral(r, exact - r) - Decimal(c)) / _slope(exact)
            values.append(float(round(exact, 24)))
            slopes.append(float(1 / _slope(exact)))
    return tuple(values), tuple(slopes)


def _from_tables(
    a: Number, end: float, tables: Tables, series: Series, sign: float, more: Number | None = None
) -> Number:
    """What the first table is at a >= 0: at the r nearest to it, with ``sign`` times the difference to there.

    ``more`` is added to ``a`` without being rounded with it.
    """
    magic = a.format.magic / STEPS[a.dtype]
    shifted = select(a < end, a, end) + magic  # the place in the tables is one even where a is NaN
    place = (shifted.bits() - bits_of(magic, a.dtype)).to(dtypes.i64)
    r = shifted - magic
    d = a.at_most(end) - r
    d = d if more is None else d + more
    value, slope = (lookup(table, place, a.dtype) for table in tables)
    v, square = (r + r) * d, d * d
    total = polynomial(v, series[-1])
    for coefficients in series[-2::-1]:
        total = square.fma(total, polynomial(v, coefficients))
    return (slope * (d * sign)).fma(total, value)


def _erf_by_power(x: Number) -> Number:
    """Of float32, without tables, whose entries are gathered one by one."""
    a = abs(x).at_most(ERF_END[x.dtype])
    y = a.fma(by_horner(a, fitted.ERF_F32), -a)  # the larger part is exact
    magic = x.format.magic + x.format.bias  # which gives the exponent its place when the bits are shifted
    shifted = y.fma(vm.LOG2_E, magic)
    r = (shifted - magic).fma(-math.log(2), y)
    power = (shifted.bits() << x.format.mantissa_bits).as_float()
    # 1 - power exp(r); where y is nearly 0, power is 1, and no digits are lost
    return (1.0 - power - power * by_horner(r, fitted.EXP[x.dtype]).fma(r * r, r)).copysign(x)


def _erf(x: Number) -> Number:
    if x.dtype == dtypes.f32:
        return _erf_by_power(x)
    return _from_tables(abs(x), ERF_END[x.dtype], erf_tables(), ERF_SERIES, 1.0).copysign(x)


def _erfc(x: Number) -> Number:
    if not x.e.tables:
        return _erfc_by_quotient(x)
    right = _scaled_erfc(abs(x)) * (1 / ERFC_SCALE[x.dtype])
    return select(x < 0.0, 2.0 - right, right)


def _scaled_erfc(a: Number, more: Number | None = None) -> Number:
    """From tables, of a >= 0."""
    return _from_tables(a, ERFC_END[a.dtype], erfc_tables(a.dtype), ERFC_SERIES[a.dtype], -1.0, more)


def erfc_of_magnitude(a: Number, more: Number) -> Number:
    """erfc(a + more) of float64 times ``ERFC_SCALE``, for an ``a`` of at least 0 and a rounding error of it."""
    return _scaled_erfc(a, more) if a.e.tables else _scaled_erfc_by_quotient(a, more)


def normal_tail(a: Number, more: Number) -> tuple[Number, Number, Number]:
    """erfc(a + more) of float32 as ``value + slope * d``, for an ``a`` of at least 0 and its rounding error.

    From finer tables than those of ``erfc``, so that only the last sum is rounded; behind their end it stays.
    """
    steps, end = 128, 4.0
    magic = a.format.magic / steps
    shifted = select(a < end, a, end) + magic  # the place in the tables is one even where a is NaN
    place = (shifted.bits() - bits_of(magic, a.dtype)).to(dtypes.i64)
    value, slope = (lookup(table, place, a.dtype) for table in normal_tables(steps, end))
    r = shifted - magic
    d = a.at_most(end) - r + more
    total = by_horner((r + r) * d, (1.0, -1 / 2, 1 / 6, -1 / 24))
    return value, slope, d * (d * d).fma(1 / 3, -total)


@cache
def normal_tables(steps: int, end: float) -> Tables:
    """erfc and minus its derivative at multiples of the step."""
    values = _exactly(steps, end)
    return tuple(float(erfc) for erfc, _ in values), tuple(float(slope) for _, slope in values)


@cache
def _inverse_derivatives(count: int) -> list[list[float]]:
    """P2, P3 … of the derivatives Pn(y) (y')ⁿ of erfinv, by n!: the coefficients of y, y³ … or 1, y² …"""
    p, found = [Fraction(1)], []
    for n in range(1, count):
        slope = [k * c for k, c in enumerate(p)][1:] + [Fraction(0)] * 2  # P(n + 1) = Pn' + 2 n y Pn
        p = [a + 2 * n * b for a, b in zip(slope, [Fraction(0), *p])]
        found.append([float(c / math.factorial(n + 1)) for c in p[(n % 2) :: 2]])
    return found


def inverse_erf(x: Number) -> Number:
    """erfinv where 1 - |x| is in the tables; elsewhere anything."""
    octaves, place_bits, count = ERFINV_PLACES[x.dtype]
    a = abs(x)
    shift, lowest = x.format.mantissa_bits - place_bits, 2.0**-octaves
    c = 1.0 - a
    nearest = (select(c > lowest, c, lowest).bits() + (1 << shift - 1)) >> shift
    place = (nearest - (bits_of(lowest, x.dtype) >> shift)).to(dtypes.i64)
    y, slope = (lookup(table, place, x.dtype) for table in erfinv_tables(x.dtype))
    step = (a - (1.0 - (nearest << shift).as_float())) * slope
    # y + step + P2 step²/2! + P3 step³/3! …, in y and in step by the parities of their powers
    z, square = y * y, step * step
    terms = [polynomial(z, p) for p in _inverse_derivatives(count)]
    odd, even = ((reduce(lambda sum, p: square.fma(sum, p), terms[k::2][::-1])) for k in (0, 1))
    return (y + square.fma(odd * y + even * step, step)).copysign(x)


# --- where there are no tables ----------------------------------------------------------------------------------------


def _erfc_by_quotient_f32(x: Number) -> Number:
    """In double by the short series, but for the first approximation of a quotient."""
    magnitude = abs(x).at_most(10.25)
    a = magnitude.to(dtypes.f64)
    inverse = (1.0 / (magnitude + 3.0)).to(dtypes.f64)
    inverse = inverse * (2.0 - inverse * (a + 3.0))
    factor = polynomial((a - 3.0) * inverse, fitted.ERFC_F32)
    n, whole = vm._nearest_integer((a * a) * -vm.LOG2_E)
    r = whole.fma(-math.log(2), -(a * a))
    exponential = (polynomial(r, fitted.EXP[x.dtype]).fma(r * r, r) + 1.0) * power_of_two(n)
    tail = exponential * factor
    return select(x < 0.0, 2.0 - tail, tail).to(x.dtype)


def _tail_by_quotient(a: Number, more: Number | None = None) -> tuple[Number, Number]:
    """erfc(a) for 1/2 <= a <= 28, as a number near 1 and its power of two."""
    # exp(-a²) needs all of a²: the square of a's upper half is exact, and the rest is a small correction
    upper = vm._upper_half(a)
    n, r = vm._reduce(-(upper * upper))
    r = (a - upper).fma(-(a + upper), r)
    r = r if more is None else r - (a + a) * more
    twice = a + a
    divisor = twice + 1.0
    lost = 1.0 - (divisor - twice)  # by rounding the divisor; its inverse is about 0.8 times the fraction
    fraction = polynomial((a - 4.0) / (a + 4.0), fitted.ERFC) / divisor
    r = r - lost * fraction * 0.8
    return vm._exp_without_one(r).fma(fraction, fraction), n


def erfc_centre(x: Number) -> Number:
    """erfc for magnitudes below 1/2."""
    return 1.0 - x.fma(polynomial(x * x, fitted.ERF_SMALL), x)


def _scaled_erfc_by_quotient(a: Number, more: Number) -> Number:
    tail, n = _tail_by_quotient(a.at_most(28.0), more)
    scale = ERFC_SCALE[a.dtype]
    return select(a < 0.5, erfc_centre(a) * scale, vm._scale(tail, n + round(math.log2(scale))))


def _erfc_by_quotient(x: Number) -> Number:
    if x.dtype == dtypes.f32:
        return _erfc_by_quotient_f32(x)
    tail = vm._scale(*_tail_by_quotient(abs(x).at_most(28.0)))
    outer = select(x < 0.0, 2.0 - tail, tail)
    return select(abs(x) < 0.5, erfc_centre(x), outer)


erf, erfc = on_numbers(_erf), on_numbers(_erfc)
