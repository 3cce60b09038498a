"""float16 and bfloat16 on the CPU: between memory, where they are 16 bits, and registers, where they are float32.

A value in a register is always one that its dtype has: ``rounded`` makes it so after each operation, and ``encoded``
has nothing to round. All of it is straight-line code that vectorises. float16 has instructions on most CPUs; without
them, and for bfloat16, integers do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from knetc.runtime.base import dtypes

if TYPE_CHECKING:
    from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar


def _bits(e: LlvmEmitter, x: Scalar) -> Scalar:
    return e.value(f"bitcast float {x.text} to i32", dtypes.i32)


def _float(e: LlvmEmitter, bits: Scalar, dtype: np.dtype) -> Scalar:
    return e.value(f"bitcast i32 {bits.text} to float", dtype)


def _and(e: LlvmEmitter, x: Scalar, mask: int) -> Scalar:
    return e.and_(x, e.constant(mask, dtypes.i32))


# --- memory to register ----------------------------------------------------------------------------------------------


def decoded(e: LlvmEmitter, stored: Scalar) -> Scalar:
    """The value whose 16 bits were loaded."""
    if dtypes.is_bfloat16(stored.dtype):
        wide = e.value(f"zext i16 {stored.text} to i32", dtypes.i32)
        return _float(e, e.shl(wide, e.constant(16, dtypes.i32)), stored.dtype)
    if e.half:
        half = e.value(f"bitcast i16 {stored.text} to half", stored.dtype)
        return e.value(f"fpext half {half.text} to float", stored.dtype)
    wide = e.value(f"zext i16 {stored.text} to i32", dtypes.i32)
    sign = e.shl(_and(e, wide, 0x8000), e.constant(16, dtypes.i32))
    magnitude = e.shl(_and(e, wide, 0x7FFF), e.constant(13, dtypes.i32))
    # read as a float32 this is 2**112 too small; that factor also makes subnormal numbers normal
    scaled = e.mul(_float(e, magnitude, dtypes.f32), e.constant(2.0**112, dtypes.f32))
    finite = e.compare("lt", magnitude, e.constant(0x7C00 << 13, dtypes.i32))
    special = e.or_(magnitude, e.constant(0x7F800000, dtypes.i32))
    return _float(e, e.or_(e.select(finite, _bits(e, scaled), special), sign), stored.dtype)


# --- register to memory ----------------------------------------------------------------------------------------------


def encoded(e: LlvmEmitter, x: Scalar) -> str:
    """The 16 bits of a value, as the text that names them."""
    if dtypes.is_bfloat16(x.dtype):
        upper = e.lshr(_bits(e, x), e.constant(16, dtypes.i32))
        return e.value(f"trunc i32 {upper.text} to i16", x.dtype).text
    if e.half:
        half = e.value(f"fptrunc float {x.text} to half", x.dtype)
        return e.value(f"bitcast half {half.text} to i16", x.dtype).text
    bits = _bits(e, x)
    sign = e.lshr(_and(e, bits, -0x80000000), e.constant(16, dtypes.i32))
    magnitude = _and(e, bits, 0x7FFFFFFF)
    scaled = e.mul(_float(e, magnitude, dtypes.f32), e.constant(2.0**-112, dtypes.f32))
    finite = e.lshr(_bits(e, scaled), e.constant(13, dtypes.i32))
    # of a NaN the upper bits of the mantissa are kept, and the one that makes it quiet
    mantissa = e.and_(e.lshr(magnitude, e.constant(13, dtypes.i32)), e.constant(0x3FF, dtypes.i32))
    nan = e.or_(mantissa, e.constant(0x7E00, dtypes.i32))
    is_nan = e.compare("gt", magnitude, e.constant(0x7F800000, dtypes.i32))
    is_infinite = e.compare("eq", magnitude, e.constant(0x7F800000, dtypes.i32))
    special = e.select(is_infinite, e.constant(0x7C00, dtypes.i32), finite)
    chosen = e.or_(e.select(is_nan, nan, special), sign)
    return e.value(f"trunc i32 {chosen.text} to i16", x.dtype).text


# --- rounding --------------------------------------------------------------------------------------------------------


def rounded(e: LlvmEmitter, x: Scalar, dtype: np.dtype) -> Scalar:
    """A float32 rounded to a narrow dtype, to the nearest, ties to even."""
    if dtypes.is_bfloat16(dtype):
        bits = _bits(e, x)
        nearest = _rounded_bits(e, bits, 16)
        nan = _and(e, e.or_(bits, e.constant(0x400000, dtypes.i32)), -1 << 16)
        return _float(e, e.select(e.compare("uno", x, x), nan, nearest), dtype)
    if e.half:
        half = e.value(f"fptrunc float {x.text} to half", dtype)
        return e.value(f"fpext half {half.text} to float", dtype)
    magnitude = e.abs(x)
    nearest = _float(e, _rounded_bits(e, _bits(e, magnitude), 13), dtypes.f32)
    overflows = e.compare("ge", nearest, e.constant(65536.0, dtypes.f32))
    normal = e.select(overflows, e.constant(float("inf"), dtypes.f32), nearest)
    # below the normal numbers the distance is always 2**-24, which is that of float32 between 1/2 and 1
    up = e.value(f"fadd float {magnitude.text}, {e.constant(0.5, dtypes.f32).text}", dtypes.f32)
    subnormal = e.value(f"fsub float {up.text}, {e.constant(0.5, dtypes.f32).text}", dtypes.f32)
    small = e.compare("lt", magnitude, e.constant(2.0**-14, dtypes.f32))
    result = e.copysign(e.select(small, subnormal, normal), x)
    result = e.select(e.compare("uno", x, x), x, result)
    return type(x)(result.text, dtype)


def _rounded_bits(e: LlvmEmitter, bits: Scalar, count: int) -> Scalar:
    """The bits of a float32 with the last ``count`` rounded away; an overflow runs into the exponent, as it should."""
    odd = _and(e, e.lshr(bits, e.constant(count, dtypes.i32)), 1)
    half = e.add(odd, e.constant((1 << (count - 1)) - 1, dtypes.i32))
    return _and(e, e.add(bits, half), -1 << count)


def rounded_to_odd(e: LlvmEmitter, x: Scalar) -> Scalar:
    """A float64 as a float32: itself if it is one, else that neighbour whose last bit is 1.

    Rounding that again, to half as many bits, gives what rounding the float64 once would have given.
    """
    near = e.value(f"fptrunc double {x.text} to float", dtypes.f32)
    back = e.convert(near, dtypes.f64)
    bits = _bits(e, near)
    beyond = e.compare("gt", e.abs(back), e.abs(x))
    toward_zero = e.select(beyond, e.sub(bits, e.constant(1, dtypes.i32)), bits)
    odd = e.or_(toward_zero, e.constant(1, dtypes.i32))
    return _float(e, e.select(e.compare("ne", back, x), odd, bits), dtypes.f32)
