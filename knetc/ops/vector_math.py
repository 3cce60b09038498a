"""Elementary functions as straight-line scalar code over an emitter, which backends inline, fuse and widen.

Each function takes ``(emitter, x)`` or ``(emitter, x, y)`` with float32 or float64 values and returns a value of the
same dtype; it is what the ``emit`` field of an operation's record calls. None of them branches, and none needs a fused
multiply-add to be right, so the loop vectoriser takes them at any instruction-set level, and a vector body and its
scalar tail give the same bits.

Special values are as in C's annex F: signed zeros, infinities, NaN and subnormal numbers, in and out. Errors are below
2.3 ulp in float32 (most below 1.5) and below 4 ulp in float64 over the whole domain, as ``benchmarks/accuracy.py``
measures them. Sine, cosine and tangent are in ``vector_angles``, arc functions in ``vector_arcs``, error
functions in ``vector_errors``.

>>> from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar
>>> exp(LlvmEmitter(), Scalar("%x", dtypes.f32)).dtype
dtype('float32')
"""

from __future__ import annotations

import math

import numpy as np

from knetc.ops import vector_coefficients as fitted
from knetc.ops.philox import philox as philox
from knetc.ops.philox import philox_reference as philox_reference
from knetc.ops.vector_expression import (
    FORMATS,
    Number,
    bits_of,
    by_horner,
    in_double,
    on_numbers,
    polynomial,
    power_of_two,
    rarely,
    select,
)
from knetc.runtime.base import dtypes

LOG2_E = 1 / math.log(2)

#: ln 2 and log10 2 as a head, whose products with an exponent are exact, and the rest
LN2 = {
    dtypes.f32: (0.693145751953125, 1.428606765330187e-06),
    dtypes.f64: (0.693147180369123816490, 1.90821492927058770002e-10),
}
LOG10_2 = {
    dtypes.f32: (0.301025390625, 4.605038981195214e-06),
    dtypes.f64: (3.01029995663611771306e-01, 3.69423907715893078616e-13),
}

# --- exponentials ----------------------------------------------------------------------------------------------------


def _upper_half(x: Number) -> Number:
    """A float64 without its lower 27 bits: products of two such numbers are exact."""
    return (x.bits() & -(1 << 27)).as_float()


def _nearest_integer(x: Number) -> tuple[Number, Number]:
    """The integer nearest to ``x``, as an integer and as a float; right for magnitudes below 2**(mantissa bits - 1)."""
    magic = x.format.magic
    shifted = x + magic
    return shifted.bits() - bits_of(magic, x.dtype), shifted - magic


def _reduce(x: Number) -> tuple[Number, Number]:
    """``n`` and ``r`` with x = n ln 2 + r and |r| <= ln 2 / 2."""
    n, _, r = _reduced(x)
    return n, r


def _reduced(x: Number) -> tuple[Number, Number, Number]:
    """The same, with ``n`` as an integer and as a float."""
    n, whole = _nearest_integer(x * LOG2_E)
    head, rest = LN2[x.dtype]
    return n, whole, whole.fma(-rest, whole.fma(-head, x))


def _exp_without_one(r: Number) -> Number:
    """exp(r) - 1 for |r| <= ln 2 / 2, as exact as it must be for 1 to be added."""
    return polynomial(r, fitted.EXP[r.dtype]).fma(r * r, r)


def _exp_reduced(r: Number) -> Number:
    """exp(r) for |r| <= ln 2 / 2."""
    return _exp_without_one(r) + 1.0


def _expm1_reduced(r: Number) -> Number:
    """exp(r) - 1 for |r| <= ln 2 / 2."""
    return polynomial(r, fitted.EXPM1[r.dtype]).fma(r * r, r)


def _scale(x: Number, n: Number, whole: Number | None = None) -> Number:
    """``x * 2**n`` for x near 1, in two steps, so that the result may be subnormal or infinite.

    ``whole`` is ``n`` as a float, for processors that have an instruction which takes that.
    """
    if whole is not None and (scaled := x.scaled(whole)) is not None:
        return scaled
    biased = n + 2 * x.format.bias  # one addition (which may be folded into n) instead of one in each power
    half = biased >> 1
    width = x.format.mantissa_bits
    return x * (half << width).as_float() * ((biased - half) << width).as_float()


def _exp_shifted(x: Number, shift: int) -> Number:
    """``exp(x) * 2**shift``, rounded once even where exp(x) itself is out of range."""
    low, high = (-104.5, 90.0) if x.dtype == dtypes.f32 else (-746.0, 711.0)
    n, whole, r = _reduced(x.at_most(high).at_least(low))
    if shift:
        n, whole = n + shift, whole + float(shift)
    return _scale(_exp_reduced(r), n, whole)


def _exp_by_instruction(x: Number) -> Number | None:
    """exp(x) where the processor has an instruction for powers of two."""
    product = x * LOG2_E
    power = product.exp2()
    if power is None:
        return None
    # what rounding took from the product, and what float32 took from log2 e
    head = float(np.float32(LOG2_E))
    lost = x.fma(LOG2_E - head, x.fma(head, -product))
    return power * select(abs(product) < 256.0, lost, 0.0).fma(math.log(2), 1.0)


def _exp(x: Number) -> Number:
    power = _exp_by_instruction(x)
    return _exp_shifted(x, 0) if power is None else power


def _exp2(x: Number) -> Number:
    power = x.exp2()
    if power is not None:
        return power
    low, high = (-152.0, 130.0) if x.dtype == dtypes.f32 else (-1077.0, 1026.0)
    x = x.at_most(high).at_least(low)
    n, whole = _nearest_integer(x)
    return _scale(_exp_reduced((x - whole) * math.log(2)), n, whole)


def _half_expm1(x: Number) -> Number:
    """(exp(x) - 1) / 2, which is finite a little longer than expm1."""
    low, high = (-18.0, 89.5) if x.dtype == dtypes.f32 else (-38.0, 710.5)
    n, r = _reduce(x.at_most(high).at_least(low))
    quarter = power_of_two(n - 2)  # a quarter: 2**(n - 1) could be infinite
    result = quarter.fma(_expm1_reduced(r), quarter - 0.25)
    return result + result


def _expm1(x: Number) -> Number:
    half = _half_expm1(x)
    # a number this small is its own result, with its sign and, if it is subnormal, all its bits
    return select(abs(x) < 2.0 ** -(x.format.mantissa_bits + 2), x, half + half)


def _tanh(x: Number) -> Number:
    a = abs(x).at_most(9.5 if x.dtype == dtypes.f32 else 20.0)
    # half = (exp(2a) - 1) / 2 with 2a = n ln 2 + 2r
    n, whole = _nearest_integer(a * (2 * LOG2_E))
    if x.dtype == dtypes.f32:
        r = whole.fma(-math.log(2) / 2, a)
    else:
        r = whole.fma(-LN2[x.dtype][1] / 2, whole.fma(-LN2[x.dtype][0] / 2, a))
    power = power_of_two(n)
    doubled = [c * 2 ** (k + 1) for k, c in enumerate(fitted.EXPM1[x.dtype])]
    half = power.fma(polynomial(r, doubled).fma(r * r, r), power.fma(0.5, -0.5))
    result = half.ratio(half + 1.0)
    # a small one once more as half - half * result, so that what rounding did to the quotient counts for little
    return select(half < 0.5, result.fma(-half, half), result).copysign(x)


def _sinh(x: Number) -> Number:
    half = _half_expm1(abs(x))
    bounded = half.at_most(2.0**60)  # from where on the quotient is 1/2
    result = (half + bounded / (bounded + bounded + 1.0)).copysign(x)
    return select(abs(x) < 2.0 ** -(x.format.mantissa_bits // 2 + 3), x, result)


def _cosh(x: Number) -> Number:
    half = _exp_shifted(abs(x), -1)
    return half + 0.25 / half


def _exp_of_negative(a: Number) -> Number:
    """exp(-a) for positive ``a``: no power of two is large, so that 2**64 times as much is in range and normal."""
    power = _exp_by_instruction(-a)
    if power is not None:
        return power
    a = a.at_most(104.5 if a.dtype == dtypes.f32 else 746.0)
    magic = a.format.magic + a.format.bias + 64  # which gives the exponent its place when the bits are shifted
    shifted = a.fma(-LOG2_E, magic)
    whole = shifted - magic
    head, rest = LN2[a.dtype]
    r = whole.fma(rest, whole.fma(head, a))
    power = by_horner(r, (1.0, -1.0, *((-1) ** k * c for k, c in enumerate(fitted.EXP[a.dtype]))))
    if (scaled := power.scaled(whole)) is not None:
        return scaled
    return power * (shifted.bits() << a.format.mantissa_bits).as_float() * 2.0**-64


def _sigmoid(x: Number) -> Number:
    # exp of the negative magnitude neither overflows nor loses the small results on the left
    t = _exp_of_negative(abs(x))
    total = t + 1.0
    result = select(x < 0.0, t, t.constant(1.0)).ratio(total)
    # what the sum lost counts twice where the quotient lies just below a power of two
    return (t - (total - 1.0)).fma(-result, result)


# --- logarithms ------------------------------------------------------------------------------------------------------


def _split_normal(x: Number) -> tuple[Number, Number]:
    """As ``_split``, for numbers that are not subnormal; ``e`` is an integer."""
    bits, width = x.bits(), x.format.mantissa_bits
    e = (bits - bits_of(math.sqrt(0.5), x.dtype)) >> width
    return e, (bits - (e << width)).as_float() - 1.0


def _split(x: Number) -> tuple[Number, Number]:
    """``e`` and ``f`` with x = 2**e (1 + f) and sqrt(1/2) <= 1 + f < sqrt 2, for positive finite ``x``; both floats."""
    up = x.format.mantissa_bits + 1
    small = x < x.format.smallest_normal
    e, f = _split_normal(select(small, x * 2.0**up, x))
    return select(small, e - up, e).to(x.dtype), f


def _log_near_one(f: Number, addend: Number | None = None) -> Number:
    """log(1 + f) + addend for the ``f`` of ``_split`` and an addend that is much smaller."""
    if f.dtype == dtypes.f32:
        factor, rest = f * f, f.fma(polynomial(f, fitted.LOG_F32), -0.5)
    else:
        factor = f / (f + 2.0)
        square = factor * factor
        rest = square.fma(polynomial(square, fitted.LOG_F64), -f)
    return factor.fma(rest, f) if addend is None else factor.fma(rest, addend) + f


def _log_special(x: Number, result: Number) -> Number:
    """The values of a logarithm at 0, infinity, NaN and to the left of 0; elsewhere ``result``."""
    result = select(x < math.inf, result, x)
    return select(x < 0.0, math.nan, select(x.equals(0.0), -math.inf, result))


def _log_of_parts(e: Number, f: Number) -> Number:
    """log(2**e (1 + f))."""
    if f.dtype == dtypes.f32:  # the nearest float32 is as exact as it must be
        return e.fma(math.log(2), _log_near_one(f))
    head, rest = LN2[f.dtype]
    return e.fma(head, _log_near_one(f, e * rest))


def _log(x: Number) -> Number:
    return _log_special(x, _log_of_parts(*_split(x)))


def _log1p(x: Number) -> Number:
    u = x + 1.0
    e, f = _split_normal(u)
    # what rounding took from u goes back into f, which becomes x where e is 0; of great numbers it took nothing
    lost = (x - (u - 1.0)) * power_of_two(-e)
    f = f + select(u < 2.0 ** (x.format.mantissa_bits + 3), lost, 0.0)
    return select(x.equals(0.0), x, _log_special(u, _log_of_parts(e.to(x.dtype), f)))


def _log2(x: Number) -> Number:
    e, f = _split(x)
    return _log_special(x, _log_near_one(f).fma(LOG2_E, e))


def _log10(x: Number) -> Number:
    e, f = _split(x)
    head, rest = LOG10_2[x.dtype]
    return _log_special(x, e.fma(head, _log_near_one(f).fma(1 / math.log(10), e * rest)))


def _short_log_parts(x: Number) -> tuple[Number, Number]:
    """Of a float64 that need not be exact beyond float32: the exponent ``e`` and log(1 + f), x = 2**e (1 + f)."""
    e, f = _split_normal(x)
    square = f * f
    return e.to(x.dtype), square.fma((f * polynomial(f, fitted.LOG_F32)) - 0.5, f)


def _short_log(x: Number) -> Number:
    """The logarithm of a positive normal float64, as exact as float32 needs it."""
    e, near = _short_log_parts(x)
    return e.fma(math.log(2), near)


# --- powers and roots ------------------------------------------------------------------------------------------------


def _rsqrt(x: Number) -> Number:
    return 1.0 / x.sqrt()


@in_double
def _cbrt(x: Number) -> Number:
    magnitude = abs(x)
    small = magnitude < FORMATS[dtypes.f64].smallest_normal
    a = select(small, magnitude * 2.0**54, magnitude)
    # the inverse root: a third of the bits taken from a constant is right to 4 %
    two_52, magic = 2.0**52, FORMATS[dtypes.f64].magic
    upper = ((a.bits() >> 32) | bits_of(two_52, a.dtype)).as_float() - two_52
    inverse = ((upper.fma(-1 / 3, 0x553EF0FF + magic)).bits() << 32).as_float()
    for _ in range(2):  # (1 - c) ** (-1/3), to the fourth power of c
        c = 1.0 - a * inverse * (inverse * inverse)
        inverse = (inverse * c).fma(c.fma(c.fma(14 / 81, 2 / 9), 1 / 3), inverse)
    guess = a * inverse * inverse
    # one Newton step; without the cube, which would not be accurate where it is subnormal
    root = guess - (guess - a / (guess * guess)) * (1 / 3)
    root = select(small, root * 2.0**-18, root)
    return select((magnitude > 0.0) & (magnitude < math.inf), root.copysign(x), x)


#: 2 / ln 2 and 1/3 and what they lack
TWO_LOG2_E = (2.8853900817779268, 4.0710547481862066e-17)
THIRD = (0.3333333333333333, 1.850371707708594e-17)


def _exact_product(a: Number, b: Number) -> tuple[Number, Number]:
    """The product of two float64, and what rounding took from it."""
    product = a.rounded_product(b)
    if a.e.fused:
        return product, a.fma(b, -product)
    a_high, b_high = _upper_half(a), _upper_half(b)
    a_low, b_low = a - a_high, b - b_high
    return product, a_high * b_high - product + a_high * b_low + a_low * b_high + a_low * b_low


def _log2_in_two(e: Number, f: Number) -> tuple[Number, Number]:
    """log2(2**e (1 + f)) of float64 and what rounding took from it: together about 64 bits."""
    d = f + 2.0
    inverse = 1.0 / d
    s = f * inverse
    product, lost = _exact_product(s, d)
    s_rest = (f - product - lost - s * (f - (d - 2.0))) * inverse
    # 1/2 log(1 + f) = s + s w, w = z (1/3 + z Q(z)), z = s²
    z, z_rest = _exact_product(s, s)
    more = z * polynomial(z, fitted.POWER_LOG)
    t = more + THIRD[0]
    t_rest = more - (t - THIRD[0]) + THIRD[1]
    w, lost = _exact_product(z, t)
    w_rest = z.fma(t_rest, (s + s).fma(s_rest, z_rest).fma(t, lost))
    small, lost = _exact_product(s, w)
    small_rest = s.fma(w_rest, s_rest.fma(w, lost)) + s_rest
    half = s + small
    half_rest = small - (half - s) + small_rest
    scaled, lost = _exact_product(half, half.constant(TWO_LOG2_E[0]))
    scaled_rest = half.fma(TWO_LOG2_E[1], half_rest.fma(TWO_LOG2_E[0], lost))
    high = e + scaled
    return high, scaled - (high - e) + scaled_rest


def _power_of_parts(e: Number, f: Number, y: Number) -> Number:
    """(2**e (1 + f))**y in float64, for exponents below 2**70."""
    high, low = _log2_in_two(e, f)
    head, lost = _exact_product(y, high)
    inside = abs(head) < 1100.0
    n, whole = _nearest_integer(head.at_most(1100.0).at_least(-1100.0))
    r = select(inside, head - whole + y.fma(low, lost), 0.0)
    return _scale(_exp_reduced(r * math.log(2)), n, whole)


def _power_of_magnitude_f32(a: Number, y: Number) -> Number:
    """a**y of float32 in float64 with short series; ``a`` may be 0, but not subnormal."""
    e, f = _split_normal(a)
    f = f.to(dtypes.f64)
    exponent = select(a.equals(0.0), -1e300, e.to(dtypes.f64))
    logarithm = f.fma(polynomial(f, fitted.POWER_LOG2_F32), exponent)
    exponent = (y.to(dtypes.f64) * logarithm).at_most(200.0).at_least(-200.0)
    magic = exponent.format.magic
    shifted = exponent + magic
    power = polynomial(exponent - (shifted - magic), fitted.POWER_EXP2_F32)
    return (power.bits() + (shifted.bits() << 52)).as_float().to(dtypes.f32)  # times 2**n


def _with_sign_of_power(x: Number, y: Number, result: Number) -> Number:
    """``x**y`` of the power of the magnitude: that of a negative number has a sign or is none."""
    half = y * 0.5
    whole = y.trunc().equals(y)
    odd = whole & half.trunc().differs(half)
    result = select(odd, result.copysign(x), result)
    return select((x < 0.0) & (x > -math.inf) & ~whole, math.nan, result)


def _power_of_magnitude(a: Number, y: Number) -> Number:
    """The same of float64."""
    e, f = _split_normal(a)
    result = _power_of_parts(e.to(a.dtype), f, y)
    return select(a.equals(0.0) & y.differs(0.0), select(y > 0.0, 0.0, y.constant(math.inf)), result)


@in_double
def _unusual_pow(x: Number, y: Number) -> Number:
    """``x**y`` for all operands."""
    a = abs(x)
    result = _power_of_parts(*_split(a), y.at_most(2.0**70).at_least(-(2.0**70)))
    rising = y > 0.0
    result = select(a.equals(0.0), select(rising, 0.0, x.constant(math.inf)), result)
    result = select(a.equals(math.inf), select(rising, math.inf, x.constant(0.0)), result)
    away = select(a > 1.0, rising, ~rising)  # y goes where the power grows
    limit = select(a.equals(1.0), 1.0, select(away, math.inf, x.constant(0.0)))
    result = select(abs(y).equals(math.inf), limit, result)
    result = _with_sign_of_power(x, y, result)
    result = select(x.unordered(y), math.nan, result)
    return select(x.equals(1.0) | y.equals(0.0), 1.0, result)


def _pow(x: Number, y: Number) -> Number:
    a = abs(x)
    usual = a.equals(0.0) | (a >= x.format.smallest_normal) & (a < math.inf)
    short = x.dtype == dtypes.f32
    result = _with_sign_of_power(x, y, (_power_of_magnitude_f32 if short else _power_of_magnitude)(a, y))
    return rarely(~(usual & (abs(y) < (math.inf if short else 2.0**70))), result, _unusual_pow, x, y)


# --- what operations call --------------------------------------------------------------------------------------------

exp, exp2, expm1 = on_numbers(_exp), on_numbers(_exp2), on_numbers(_expm1)
log, log2, log10, log1p = on_numbers(_log), on_numbers(_log2), on_numbers(_log10), on_numbers(_log1p)
sinh, cosh, tanh = on_numbers(_sinh), on_numbers(_cosh), on_numbers(_tanh)
pow, cbrt, rsqrt, sigmoid = on_numbers(_pow), on_numbers(_cbrt), on_numbers(_rsqrt), on_numbers(_sigmoid)
