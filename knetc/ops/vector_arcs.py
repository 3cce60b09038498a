"""Arc functions, of angles and of hyperbolic ones, as scalar code over an emitter (see ``vector_math``)."""

from __future__ import annotations

import math

from knetc.ops import vector_coefficients as fitted
from knetc.ops import vector_math as vm
from knetc.ops.vector_expression import (
    Number,
    by_horner,
    in_double,
    on_numbers,
    polynomial,
    power_of_two,
    rarely,
    select,
)
from knetc.runtime.base import dtypes

#: pi and pi/2, and what they lack of it where that matters
PI = {dtypes.f32: (3.1415927410125732, -8.742277657347586e-08), dtypes.f64: (math.pi, 0.0)}
HALF_PI = {dtypes.f32: (1.5707963705062866, -4.371138828673793e-08), dtypes.f64: (math.pi / 2, 0.0)}

# --- hyperbolic ------------------------------------------------------------------------------------------------------


#: magnitudes from which on a square is not far from overflow: such arguments go to float64, and there to logarithms
HUGE = {dtypes.f32: 1e18, dtypes.f64: 1e100}


def _log1p_of_sum(v: Number, rest: Number) -> Number:
    """log(1 + v + rest) of float32, ``v`` positive and below 2**60, ``rest`` a few of its last places at most."""
    u = v + 1.0
    e, f = vm._split_normal(u)
    lost = select(u < 2.0**24, v - (u - 1.0), 0.0) + rest
    lost = lost * power_of_two(-e)
    lost = lost.fma(-f, lost)  # over 1 + f
    exponent = e.to(v.dtype)
    return exponent.fma(math.log(2), vm._log_near_one(f, lost))


def _asinh_of_magnitude(a: Number) -> Number:
    huge = a > HUGE[a.dtype]
    inner = a + a * a / ((a.fma(a, 1.0)).sqrt(beside=True) + 1.0)
    return vm._log1p(select(huge, a, inner)) + select(huge, math.log(2), a.constant(0.0))


@in_double
def _huge_asinh(x: Number) -> Number:
    return _asinh_of_magnitude(abs(x)).copysign(x)


def _asinh(x: Number) -> Number:
    a = abs(x)
    if x.dtype == dtypes.f64:
        return _asinh_of_magnitude(a).copysign(x)
    more = a * a / (a.fma(a, 1.0).sqrt(beside=True) + 1.0)
    v = a + more
    usual = _log1p_of_sum(v, more - (v - a)).copysign(x)
    return rarely(a > HUGE[x.dtype], usual, _huge_asinh, x)


def _acosh_of_magnitude(x: Number) -> Number:
    t = x - 1.0
    huge = x > HUGE[x.dtype]
    inner = t + (t * (t + 2.0)).sqrt(beside=True)
    return vm._log1p(select(huge, x, inner)) + select(huge, math.log(2), x.constant(0.0))


@in_double
def _huge_acosh(x: Number) -> Number:
    return _acosh_of_magnitude(x)


def _acosh(x: Number) -> Number:
    if x.dtype == dtypes.f64:
        return select(x < 1.0, math.nan, _acosh_of_magnitude(x))
    t = x - 1.0
    square = t.fma(t, t + t)
    root = square.sqrt(beside=True)
    v = root + t
    usual = select(x < 1.0, math.nan, _log1p_of_sum(v, t - (v - root)))
    return rarely(x > HUGE[x.dtype], usual, _huge_acosh, x)


def _atanh(x: Number) -> Number:
    a = abs(x)
    if x.dtype == dtypes.f64:
        return (vm._log1p((a + a) / (1.0 - a)) * 0.5).copysign(x)
    twice, d = a + a, 1.0 - a
    inverse = 1.0 / d
    quotient = twice * inverse
    rest = (quotient.fma(-d, twice) - quotient * ((1.0 - d) - a)) * inverse
    result = _log1p_of_sum(quotient, rest) * 0.5
    result = select(a < 1.0, result, select(a.equals(1.0), math.inf, x.constant(math.nan)))
    return result.copysign(x)


# --- angles ----------------------------------------------------------------------------------------------------------


def _atan_of_magnitude(a: Number) -> Number:
    """atan for positive numbers: turned by an eighth or a quarter of pi times 4 to where the series is short."""
    beyond, middle = a > 1 + math.sqrt(2), a > math.sqrt(2) - 1
    t = select(beyond, -1.0, select(middle, a - 1.0, a)) / select(beyond, a, select(middle, a + 1.0, a.constant(1.0)))
    z = t * t
    series = (t * z).fma(polynomial(z, fitted.ATAN), t)
    return select(beyond, math.pi / 2, select(middle, math.pi / 4, a.constant(0.0))) + series


def _atan(x: Number) -> Number:
    a = abs(x)
    if x.dtype == dtypes.f64:
        return _atan_of_magnitude(a).copysign(x)
    beyond = a > 1.0
    t = select(beyond, -1.0, a) / select(beyond, a, a.constant(1.0))
    z = t * t
    series = (t * z).fma(by_horner(z, fitted.ATAN_F32), t)
    head, rest = HALF_PI[x.dtype]
    return select(beyond, (series + rest) + head, series).copysign(x)


def _atan2(y: Number, x: Number) -> Number:
    return _atan2_f32(y, x) if x.dtype == dtypes.f32 else _atan2_f64(y, x)


def _atan2_f32(y: Number, x: Number) -> Number:
    ay, ax = abs(y), abs(x)
    steep, left = ay > ax, x.bits() < 0
    t = select(steep, ax, ay) / select(steep, ay, ax)
    t = select(ax.equals(ay), select(ax.equals(0.0), ax, 1.0), t)  # 0/0 and infinity/infinity are defined
    z = t * t
    series = (t * z).fma(by_horner(z, fitted.ATAN_F32), t)
    series = select(steep ^ left, -series, series)
    # plus a quarter of a turn, half a turn or nothing
    head, rest = (select(steep, h, select(left, p, x.constant(0.0))) for h, p in zip(HALF_PI[x.dtype], PI[x.dtype]))
    return (series + rest + head).copysign(y)


def _atan2_f64(y: Number, x: Number) -> Number:
    ay, ax = abs(y), abs(x)
    steep = ay > ax
    quotient = select(steep, ax, ay) / select(steep, ay, ax)
    quotient = select(ax.equals(ay), select(ax.equals(0.0), ax, 1.0), quotient)  # 0/0 and infinity/infinity are defined
    angle = _atan_of_magnitude(quotient)
    angle = select(steep, math.pi / 2 - angle, angle)
    angle = select(x.bits() < 0, math.pi - angle, angle)
    return select(x.unordered(y), math.nan, angle.copysign(y))


def _asin_pieces(x: Number) -> tuple[Number, Number]:
    """Whether |x| is large, and the arc sine of |x|, or there of sqrt((1 - |x|) / 2), which is half the arc cosine."""
    limit, coefficients = (0.6, fitted.ASIN_F32) if x.dtype == dtypes.f32 else (0.5, fitted.ASIN)
    a = abs(x)
    large = a > limit
    z = select(large, 0.5 - a * 0.5, a * a)
    t = select(large, z.sqrt(beside=True), a)
    return large, (t * z).fma(polynomial(z, coefficients), t)


def _asin(x: Number) -> Number:
    large, arc = _asin_pieces(x)
    head, rest = HALF_PI[x.dtype]
    return select(large, head - (arc + arc - rest), arc).copysign(x)


def _acos(x: Number) -> Number:
    large, arc = _asin_pieces(x)
    left = x < 0.0
    head, rest = PI[x.dtype]
    near_one = select(left, head - (arc + arc - rest), arc + arc)
    head, rest = HALF_PI[x.dtype]
    return select(large, near_one, head - (select(left, -arc, arc) - rest))


asin, acos, atan, atan2 = on_numbers(_asin), on_numbers(_acos), on_numbers(_atan), on_numbers(_atan2)
asinh, acosh, atanh = on_numbers(_asinh), on_numbers(_acosh), on_numbers(_atanh)
