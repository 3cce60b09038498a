"""Square roots of eight float64 by multiplication, where AVX-512 estimates inverse roots.

The processor's own instruction takes 19 cycles or more, in which it does not divide either, but may multiply; this
takes half of that, all of it multiplication. The result is the same to the last bit. Let u be 2**-53 and s the exact
root of x.

1. An estimate of 1/s to 2**-14 and one step give g = s (1 + a) and h = (1 + a) / 2s, with a between -1.54 * 2**-28
   and -2**-34. The upper end is due to a constant that is a little below 1/2.
2. The next g is s (1 - 1.5 a²), less than s by at most 0.45 u s, and rounded: one of the two float64 around s, or s
   itself if it is one. The rest x - g² is then exact.
3. The next h is 1/2g to 1.3 u, so that g + (x - g²) h is exact enough to be rounded as s is. For scale s so that g is
   m or m + 1, with a whole number m of 53 bits, and s lies between. Then x is m (m + 1) + j with a whole number j, and
   s is above the tie m + 1/2 if j is positive. Where g is m, the sum is m + 1/2 + j/2m but for the error of h, which
   counts for less than 1.3/2m; where it is m + 1, alike. As m (m + 1) and x are even, so is j, and only j = 0 is left.
   x has 53 bits; thus m is 2**52 or 2**53 - 1. There s is just below the tie, and g, which step 2 made too small, is m.
   The same constant keeps h of 2**53 - 1 from being rounded upward, so that the sum is below the tie; at 2**52 it may
   be the tie, but m is even.

Zeros pass: their estimate is replaced by zero. Where the rest could be too small to be exact, and for what is infinite,
negative or no number, all eight roots are taken with the instruction.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from knetc.codegen.cpu import rare

if TYPE_CHECKING:
    from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar

_SYMBOL = "root_float64"
_EIGHT = "<8 x double>"
_LOWEST = 2.0**-900
"""From here on the rest x - g², some 2**-106 x, is exact."""


def call(e: LlvmEmitter, x: Scalar) -> Scalar:
    """The root of a float64, rounded to the nearest, for targets with ``estimates``.

    >>> import numpy as np
    >>> from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar
    >>> call(LlvmEmitter(estimates=True), Scalar("%x", np.dtype("float64"))).dtype
    dtype('float64')
    """
    return rare.call_late(e, _SYMBOL, _definitions, x.dtype, (x,))


def _definitions() -> str:
    """The function for one value and for vectors, of which those longer than eight are halved."""
    lines = [_by_instruction(""), *(_by_instruction(f"<{n} x double>") for n in rare.LANES if n < 8), _of_eight()]
    return "\n".join([*lines, *(_of_halves(n) for n in rare.LANES if n > 8), ""])


def _by_instruction(vector: str) -> str:
    lanes = vector[1:].split(" ")[0]
    kind, suffix, name = (vector, f"v{lanes}f64", f"{_SYMBOL}_{lanes}") if vector else ("double", "f64", _SYMBOL)
    return f"""\
declare {kind} @llvm.sqrt.{suffix}({kind})
define linkonce_odr hidden {kind} @{name}({kind} %x) alwaysinline #0 {{
  %root = call {kind} @llvm.sqrt.{suffix}({kind} %x)
  ret {kind} %root
}}"""


def _of_halves(lanes: int) -> str:
    half = lanes // 2
    places = [f"i32 {k}" for k in range(lanes)]
    whole, part = f"<{lanes} x double>", f"<{half} x double>"
    return f"""\
define linkonce_odr hidden {whole} @{_SYMBOL}_{lanes}({whole} %x) alwaysinline #0 {{
  %x0 = shufflevector {whole} %x, {whole} poison, <{half} x i32> <{", ".join(places[:half])}>
  %x1 = shufflevector {whole} %x, {whole} poison, <{half} x i32> <{", ".join(places[half:])}>
  %r0 = call {part} @{_SYMBOL}_{half}({part} %x0)
  %r1 = call {part} @{_SYMBOL}_{half}({part} %x1)
  %root = shufflevector {part} %r0, {part} %r1, <{lanes} x i32> <{", ".join(places)}>
  ret {whole} %root
}}"""


def _of_eight() -> str:
    v, fma = _EIGHT, f"call {_EIGHT} @llvm.fma.v8f64"
    lowest, infinity = (_bits(value) for value in (_LOWEST, float("inf")))
    half, less = (f"{v} splat (double 0x{_bits(value):016X})" for value in (0.5, 0.5 - 2.0**-33))
    return f"""\
declare {v} @llvm.x86.avx512.rsqrt14.pd.512({v}, {v}, i8)
declare {v} @llvm.fma.v8f64({v}, {v}, {v})
declare {v} @llvm.sqrt.v8f64({v})
define linkonce_odr hidden {v} @{_SYMBOL}_8({v} %given) alwaysinline #0 {{
  %x = freeze {v} %given
  %bits = bitcast {v} %x to <8 x i64>
  %above = sub <8 x i64> %bits, splat (i64 {lowest})
  %outside = icmp uge <8 x i64> %above, splat (i64 {infinity - lowest})
  %nonzero = fcmp une {v} %x, zeroinitializer
  %unusual = and <8 x i1> %outside, %nonzero
  %flags = bitcast <8 x i1> %unusual to i8
  %any = icmp ne i8 %flags, 0
  br i1 %any, label %rare, label %usual, !prof !1
usual:
  %mask = bitcast <8 x i1> %nonzero to i8
  %y0 = call {v} @llvm.x86.avx512.rsqrt14.pd.512({v} %x, {v} zeroinitializer, i8 %mask)
  %g0 = fmul {v} %x, %y0
  %h0 = fmul {v} %y0, {half.partition("> ")[2]}
  %minus0 = fneg {v} %g0
  %r0 = {fma}({v} %minus0, {v} %h0, {less})
  %g1 = {fma}({v} %g0, {v} %r0, {v} %g0)
  %h1 = {fma}({v} %h0, {v} %r0, {v} %h0)
  %minus1 = fneg {v} %g1
  %d1 = {fma}({v} %minus1, {v} %g1, {v} %x)
  %g2 = {fma}({v} %d1, {v} %h1, {v} %g1)
  %minus2 = fneg {v} %g2
  %r2 = {fma}({v} %minus2, {v} %h1, {half})
  %twice = fadd {v} %h1, %h1
  %h2 = {fma}({v} %twice, {v} %r2, {v} %h1)
  %d2 = {fma}({v} %minus2, {v} %g2, {v} %x)
  %made = {fma}({v} %d2, {v} %h2, {v} %g2)
  br label %done
rare:
  %taken = call {v} @llvm.sqrt.v8f64({v} %x)
  br label %done
done:
  %root = phi {v} [ %made, %usual ], [ %taken, %rare ]
  ret {v} %root
}}"""


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])
