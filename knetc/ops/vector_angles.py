"""Sine, cosine and tangent of any angle, as scalar code over an emitter (see ``vector_math``).

Angles of usual size are reduced by multiples of pi/2 that are stored in pieces. Of larger ones (``ANGLE_LIMITS``) all
turns are taken away exactly by multiplying with as many digits of 2/pi as they need (Payne and Hanek's method): integer
arithmetic in a branch that is hardly ever taken.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from knetc.ops import vector_coefficients as fitted
from knetc.ops import vector_math as vm
from knetc.ops.vector_expression import (
    Number,
    bits_of,
    by_horner,
    in_double,
    lookup,
    on_numbers,
    polynomial,
    rarely,
    select,
)
from knetc.runtime.base import dtypes

#: pi/2 as the sum of three pieces of 31 bits, whose products with up to 2**22 are exact, and the rest
QUARTER_TURN = (1.5707963267341256, 6.07710050359346e-11, 2.9127320548227e-20, 1.2706558760139879e-29)
#: the same of float32, each the nearest to what those before it leave: with one rounding a product, the first
#: difference is exact
QUARTER_TURN_F32 = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
#: magnitudes from which on the pieces do not suffice
ANGLE_LIMITS = {dtypes.f32: 2.0**17, dtypes.f64: 2.0**22}

#: the first 1280 binary digits of 2/pi
TWO_OVER_PI = (
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561"
    "b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484"
    "e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b"
    "3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d"
)
#: 32 zeros in front of the point, and the digits: 32 in each number
TURN_DIGITS = (0, *(int(TWO_OVER_PI[k : k + 8], 16) for k in range(0, len(TWO_OVER_PI), 8)))
LOW = (1 << 32) - 1
#: pi/2 as an upper half, the double nearest to it, and what either lacks
HALF_PI_UPPER, HALF_PI_LOWER, HALF_PI_REST = 1.5707963109016418, 1.5893254773528196e-08, 6.123233995736766e-17

# --- reduction -------------------------------------------------------------------------------------------------------


def _turns_and_rest(x: Number) -> tuple[Number, Number]:
    """Quarter turns in a float64 below the limit (an integer) and the remaining angle in [-pi/4, pi/4].

    Nothing is lost by cancellation: the products of the turns with all pieces but the last are exact, and so are the
    differences as long as they matter.
    """
    r = x
    n, whole = vm._nearest_integer(r * (2 / math.pi))
    for piece in QUARTER_TURN:
        r = whole.fma(-piece, r)
    return n, r


def _turns_and_rest_f32(x: Number) -> tuple[Number, Number, Number, Number]:
    """The same for float32, twice: rounded, and as the sum of two numbers; of the turns only the last two bits count.

    Where the processor cannot multiply and add with one rounding, by way of float64.
    """
    shifted = x.fma(2 / math.pi, x.format.magic)
    whole = shifted - x.format.magic
    first, second, third = QUARTER_TURN_F32
    if not x.e.fused:
        wide = whole.to(dtypes.f64)
        exact = wide.fma(-(second + third), wide.fma(-first, x.to(dtypes.f64)))
        r = exact.to(x.dtype)
        return shifted.bits(), r, r, (exact - r.to(dtypes.f64)).to(x.dtype)
    most = whole.fma(-first, x)
    product = whole.rounded_product(second)
    head = most - product
    rest = most - head - product - whole.fma(third, whole.fma(second, -product))
    return shifted.bits(), whole.fma(-third, whole.fma(-second, most)), head, rest


def _reduced_large_angle(x: Number) -> tuple[Number, Number, Number]:
    """The same for float64 from 2**22 up: quarter turns, the remaining angle, and what rounding it took from it."""
    bits = x.bits()
    exponent = bits.logically_shifted(52)
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    # digits that make whole turns are left out: the first of the six words of digits has the weight of two turns
    first = exponent - 1075 + 30
    first = select(exponent.equals(2047), 0, first)
    place, shift = first >> 5, first & 31
    digits = [lookup(TURN_DIGITS, place + k, dtypes.i64) for k in range(7)]
    words = [((((a << 32) | b) << shift).logically_shifted(32)) for a, b in pairwise(digits)][::-1]
    # the product modulo four quarter turns, in words of 32 bits, the lowest first
    low, high = mantissa & LOW, mantissa >> 32
    product, carry = [], mantissa.constant(0)
    for k, word in enumerate(words):
        a = low * word
        b = high * words[k - 1] if k else mantissa.constant(0)
        total = (a & LOW) + (b & LOW) + carry
        product.append(total & LOW)
        carry = total.logically_shifted(32) + a.logically_shifted(32) + b.logically_shifted(32)
    top = (product[5] << 32) | product[4]
    n = (top + (1 << 61)).logically_shifted(62)
    rest = top - (n << 62)
    # that many quarter turns, as the sum of two numbers
    head, second = (rest >> 32).to(x.dtype) * 2.0**-30, (rest & LOW).to(x.dtype) * 2.0**-62
    turns = head + second
    more = second - (turns - head) + product[3].to(x.dtype) * 2.0**-94 + product[2].to(x.dtype) * 2.0**-126
    rounded = turns + more
    more = more - (rounded - turns)
    # times pi/2
    upper = vm._upper_half(rounded)
    lower = rounded - upper
    r = rounded * (math.pi / 2)
    error = upper * HALF_PI_UPPER - r + lower * HALF_PI_UPPER + rounded * HALF_PI_LOWER
    return n, r, error + (rounded * HALF_PI_REST + more * (math.pi / 2))


# --- the functions ---------------------------------------------------------------------------------------------------


def _sin_cos(r: Number, dtype: np.dtype | None = None) -> tuple[Number, Number]:
    """Sine and cosine of an angle in [-pi/4, pi/4], as exact as ``dtype`` (by default that of the angle) needs them."""
    dtype = dtype or r.dtype
    z = r * r
    if dtype == dtypes.f32:
        return (r * z).fma(by_horner(z, fitted.SIN[dtype]), r), by_horner(z, (1.0, -0.5, *fitted.COS[dtype]))
    sine = (r * z).fma(polynomial(z, fitted.SIN[dtype]), r)
    return sine, (z * z).fma(polynomial(z, fitted.COS[dtype]), z.fma(-0.5, 1.0))


def _with_sin_cos(x: Number) -> tuple[Number, Number, Number]:
    """Quarter turns in an angle below the limit, and sine and cosine of the angle beside them."""
    n, r, *_ = _turns_and_rest_f32(x) if x.dtype == dtypes.f32 else _turns_and_rest(x)
    return n, *_sin_cos(r)


def _sin_cos_large(x: Number) -> tuple[Number, Number, Number]:
    """Quarter turns, and sine and cosine of the angle beside them, NaN for infinity."""
    n, r, rest = _reduced_large_angle(abs(x))
    sine, cosine = _sin_cos(select(abs(x) < math.inf, r, math.nan))
    return n, sine + rest * cosine, cosine - rest * sine


def _flip_sign(x: Number, flags: Number, bit: int) -> Number:
    """``x``, negated where the given bit of ``flags`` is set."""
    sign = 8 * x.dtype.itemsize - 1
    return (x.bits() ^ ((flags << (sign - bit)) & bits_of(-0.0, x.dtype))).as_float()


def _turned_sine(x: Number, n: Number, sine: Number, cosine: Number) -> Number:
    """The sine of ``x`` from those of the angle beside ``n`` quarter turns in its magnitude."""
    return _with_sign_of(_flip_sign(select((n & 1).equals(0), sine, cosine), n, 1), x)


def _turned_cosine(n: Number, sine: Number, cosine: Number) -> Number:
    return _flip_sign(select((n & 1).equals(0), cosine, sine), n + 1, 1)


def _turned_tangent(n: Number, sine: Number, cosine: Number) -> Number:
    even = (n & 1).equals(0)
    return select(even, sine, -cosine) / select(even, cosine, sine)


@in_double
def _large_sine(x: Number) -> Number:
    return _turned_sine(x, *_sin_cos_large(x))


@in_double
def _large_cosine(x: Number) -> Number:
    return _turned_cosine(*_sin_cos_large(x))


@in_double
def _large_tangent(x: Number) -> Number:
    return _flip_sign(_turned_tangent(*_sin_cos_large(x)), x.bits().logically_shifted(63), 0)


def _tan_f32(x: Number) -> Number:
    n, _, r, rest = _turns_and_rest_f32(abs(x))
    z = r * r
    tangent = (r * z).fma(by_horner(z, fitted.TAN_F32), z.fma(rest, rest)) + r
    return _with_sign_of(select((n & 1).equals(0), tangent, -1.0 / tangent), x)


def _with_sign_of(result: Number, x: Number) -> Number:
    """An odd function's result for the magnitude of ``x``, with the sign for ``x``."""
    return (result.bits() ^ (x.bits() & bits_of(-0.0, x.dtype))).as_float()


def _sin(x: Number) -> Number:
    a = abs(x)
    usual = _turned_sine(x, *_with_sin_cos(a))
    return rarely(a >= ANGLE_LIMITS[x.dtype], usual, _large_sine, x)


def _cos(x: Number) -> Number:
    usual = _turned_cosine(*_with_sin_cos(x))
    return rarely(abs(x) >= ANGLE_LIMITS[x.dtype], usual, _large_cosine, x)


def _tan(x: Number) -> Number:
    if x.dtype == dtypes.f32:
        usual = _tan_f32(x)
    else:
        usual = select(x.equals(0.0), x, _turned_tangent(*_with_sin_cos(x)))
    return rarely(abs(x) >= ANGLE_LIMITS[x.dtype], usual, _large_tangent, x)


sin, cos, tan = on_numbers(_sin), on_numbers(_cos), on_numbers(_tan)
