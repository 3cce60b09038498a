"""Activation functions and what probabilities need of erfc, as scalar code over an emitter (see ``vector_math``).

Written by their formulas they would lose digits where they are nearly 0, far to the left: there the relative error of
an exponential is the absolute one of its argument, whose rounding is therefore taken along here.
"""

from __future__ import annotations

import math

import numpy as np

from knetc.ops import vector_math as vm
from knetc.ops.special_math import _erfcx
from knetc.ops.vector_errors import ERFC_SCALE, erfc_of_magnitude, normal_tail
from knetc.ops.vector_expression import Number, in_double, on_numbers, power_of_two, rarely, select
from knetc.runtime.base import dtypes

#: magnitudes of arguments from which on exponentials of their negative are 0, also when multiplied with them
FAR = {dtypes.f32: 110.0, dtypes.f64: 752.0}
#: from its negative on, float32 is computed in float64
TAIL_END = 5.0
#: what sqrt(1/2) lacks in float64
ROOT_HALF_REST = -4.833646656726457e-17


def exact_product(a: Number, b: Number) -> tuple[Number, Number]:
    """The product, and what rounding took from it."""
    if a.dtype == dtypes.f64:
        return vm._exact_product(a, b)
    product = a.rounded_product(b)
    if a.e.fused:
        return product, a.fma(b, -product)
    return product, (a.to(dtypes.f64) * b.to(dtypes.f64) - product.to(dtypes.f64)).to(a.dtype)


def _exp_in_parts(a: Number, lost: Number | None, shift: int) -> tuple[Number, Number]:
    """``p`` and ``m`` with exp(-(a + lost)) 2**shift = p + p m, for a >= 0 so that p is normal; p is a power of two."""
    head, rest = vm.LN2[a.dtype]
    if a.dtype == dtypes.f32:
        magic = a.format.magic + a.format.bias + shift  # which gives the exponent its place when the bits are shifted
        shifted = a.fma(-vm.LOG2_E, magic)
        whole = shifted - magic
        p = (shifted.bits() << a.format.mantissa_bits).as_float()
    else:
        n, whole = vm._nearest_integer(a * -vm.LOG2_E)
        p = power_of_two(n + shift)
    r = whole.fma(-head, -a)
    r = whole.fma(-rest, r) if lost is None else r - whole.fma(rest, lost)
    return p, vm._exp_without_one(r)


# --- products with the logistic function -----------------------------------------------------------------------------


def _silu_with_products(x: Number) -> Number:
    """x / (1 + t) with t = exp(-|x|), to the left x t / (1 + t), for processors whose ``fma`` rounds once."""
    far = FAR[x.dtype]
    negative = x < 0.0
    near = x.at_least(-far)
    p, m = _exp_in_parts(abs(near).at_most(far), None, 64)
    power = p * 2.0**-64
    t = power.fma(m, power)
    total = t + 1.0
    scaled = near * p
    dividend = select(negative, scaled.fma(m, scaled), x)  # x t is not rounded twice
    quotient = dividend / total
    rest = quotient.fma(t - (total - 1.0), quotient.fma(total, -dividend))  # as if the sum had not been rounded
    inverse = t.fma(-0.5, 1.0)  # to an eighth
    result = rest.fma(-inverse, quotient) * select(negative, 2.0**-64, x.constant(1.0))
    return select(x > far, x, result)


@in_double
def _silu_without_products(x: Number) -> Number:
    near = x.at_least(-FAR[dtypes.f64])
    t = vm._exp_of_negative(abs(near) * 0.5)  # which is not subnormal
    total = t.fma(t, 1.0)
    return select(x < 0.0, (near * t) * (t / total), x / total)


def _silu(x: Number) -> Number:
    return _silu_with_products(x) if x.e.fused else _silu_without_products(x)


# --- the normal distribution -----------------------------------------------------------------------------------------


def _tail_f32(x: Number) -> tuple[Number, Number, Number]:
    """erfc(|x| / sqrt 2) = ``value`` + ``slope`` ``d``, all from tables but ``d``, for |x| up to some 5.6."""
    size = abs(x).at_most(6.0)
    head = float(np.float32(math.sqrt(0.5)))
    a = size.rounded_product(head)
    lost = size.fma(math.sqrt(0.5) - head, size.fma(head, -a))
    return normal_tail(a, lost)


def _tail(x: Number) -> Number:
    """Of float64, twice the probability of more than |x|, times 2**128."""
    a = abs(x).at_most(60.0)
    product, lost = vm._exact_product(a, a.constant(math.sqrt(0.5)))
    return erfc_of_magnitude(product, a.fma(ROOT_HALF_REST, lost))


def _gelu_by_erfc(x: Number) -> Number:
    """``x`` less its magnitude times the tail, which is multiplied before it is scaled down."""
    tail = (abs(x).at_most(60.0) * _tail(x)).rounded_product(0.5 / ERFC_SCALE[dtypes.f64])
    return select(x < 0.0, -0.0, x) - tail


def _ndtr_by_erfc(x: Number) -> Number:
    tail = _tail(x) * (0.5 / ERFC_SCALE[dtypes.f64])
    return select(x < 0.0, tail, 1.0 - tail)


@in_double
def _far_gelu(x: Number) -> Number:
    return _gelu_by_erfc(x)


@in_double
def _far_ndtr(x: Number) -> Number:
    return _ndtr_by_erfc(x)


def _gelu(x: Number) -> Number:
    if x.dtype == dtypes.f64:
        return _gelu_by_erfc(x)
    if not (x.e.fused and x.e.tables):
        return _far_gelu(x)
    half, (value, slope, d) = abs(x).at_most(6.0) * 0.5, _tail_f32(x)
    tail = (slope * half).fma(d, value * half)
    return rarely(x < -TAIL_END, select(x < 0.0, 0.0, x) - tail, _far_gelu, x)


def _ndtr(x: Number) -> Number:
    if x.dtype == dtypes.f64:
        return _ndtr_by_erfc(x)
    if not (x.e.fused and x.e.tables):
        return _far_ndtr(x)
    value, slope, d = _tail_f32(x)
    tail = slope.fma(d, value) * 0.5
    return rarely(x < -TAIL_END, select(x < 0.0, tail, 1.0 - tail), _far_ndtr, x)


def _bell(x: Number) -> Number:
    """exp(-x²/2)"""
    a = abs(x).at_most(15.0 if x.dtype == dtypes.f32 else 38.75)
    half_square, lost = exact_product(a * 0.5, a)
    p, m = _exp_in_parts(half_square, lost, 64)
    return p.fma(m, p) * 2.0**-64


@in_double
def _log_ndtr(x: Number) -> Number:
    left = x.at_most(-1.0)
    logarithm = vm._log(_erfcx(left * -math.sqrt(0.5)) * 0.5)
    return select(x < -1.0, logarithm - left * 0.5 * left, vm._log1p(-_ndtr_by_erfc(-x.at_least(-1.0))))


silu, gelu = on_numbers(_silu), on_numbers(_gelu)
ndtr, log_ndtr, bell = on_numbers(_ndtr), on_numbers(_log_ndtr), on_numbers(_bell)
