"""Arc functions, of angles and of hyperbolic ones, as scalar code over an emitter (see ``vector_math``)."""

from __future__ import annotations

import math

from knetc.ops import vector_coefficients as fitted
from knetc.ops import vector_math as vm
from knetc.ops.vector_expression import Number, in_double, on_numbers, polynomial, select
from knetc.runtime.base import dtypes

#: pi and pi/2, and what they lack of it where that matters
PI = {dtypes.f32: (3.1415927410125732, -8.742277657347586e-08), dtypes.f64: (math.pi, 0.0)}
HALF_PI = {dtypes.f32: (1.5707963705062866, -4.371138828673793e-08), dtypes.f64: (math.pi / 2, 0.0)}

# --- hyperbolic ------------------------------------------------------------------------------------------------------


def _is_own_result(x: Number) -> Number:
    """Whether a float32 is so small that an odd function of slope 1 returns it, in double precision too."""
    return abs(x) < 2.0**-12


def _asinh_of_magnitude(a: Number) -> Number:
    huge = a > 1e100  # where the square would overflow, and log1p is log
    inner = a + a * a / ((a.fma(a, 1.0)).sqrt() + 1.0)
    return vm._log1p(select(huge, a, inner)) + select(huge, math.log(2), a.constant(0.0))


def _asinh(x: Number) -> Number:
    if x.dtype == dtypes.f64:
        return _asinh_of_magnitude(abs(x)).copysign(x)
    a = abs(x).to(dtypes.f64)
    result = vm._short_log(a + a.fma(a, 1.0).sqrt()).to(x.dtype).copysign(x)
    return select(_is_own_result(x) | ~(abs(x) < math.inf), x, result)


def _acosh(x: Number) -> Number:
    if x.dtype == dtypes.f32:
        y = x.to(dtypes.f64)
        result = vm._short_log(y + ((y - 1.0) * (y + 1.0)).sqrt()).to(x.dtype)
        return select(x < 1.0, math.nan, select(x < math.inf, result, x))
    t = x - 1.0
    huge = x > 1e100
    inner = t + (t * (t + 2.0)).sqrt()
    result = vm._log1p(select(huge, x, inner)) + select(huge, math.log(2), x.constant(0.0))
    return select(x < 1.0, math.nan, result)


def _atanh(x: Number) -> Number:
    a = abs(x)
    if x.dtype == dtypes.f64:
        return (vm._log1p((a + a) / (1.0 - a)) * 0.5).copysign(x)
    y = a.to(dtypes.f64)
    result = (vm._short_log((1.0 + y) / (1.0 - y)) * 0.5).to(x.dtype)
    result = select(a < 1.0, result, select(a.equals(1.0), math.inf, x.constant(math.nan)))
    return select(_is_own_result(x), x, result.copysign(x))


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
    series = (t * z).fma(polynomial(z, fitted.ATAN_F32), t)
    head, rest = HALF_PI[x.dtype]
    return select(beyond, (series + rest) + head, series).copysign(x)


@in_double
def _atan2(y: Number, x: Number) -> Number:
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
    t = select(large, z.sqrt(), a)
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
