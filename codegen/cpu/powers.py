"""Products with powers of two by AVX-512's instruction, which takes the exponent as a whole float.

It rounds once, and infinite or subnormal results come out right; with shifts and products that takes two steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from knetc.codegen.cpu import rare
from knetc.runtime.base import dtypes

if TYPE_CHECKING:
    from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar


def call(e: LlvmEmitter, x: Scalar, n: Scalar) -> Scalar:
    """``x * 2**n`` of float32 or float64, for targets with AVX-512.

    >>> from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar
    >>> call(LlvmEmitter(estimates=True), Scalar("%x", dtypes.f32), Scalar("%n", dtypes.f32)).dtype
    dtype('float32')
    """
    symbol = f"scaled_{x.dtype.name}"
    return rare.call_late(e, symbol, lambda: _definitions(symbol, x.dtype), x.dtype, (x, n))


def _definitions(symbol: str, dtype: np.dtype) -> str:
    """The function for one value and for vectors of 16, 32 or 64 bytes; longer ones are halved, shorter ones filled."""
    scalar, letter = ("float", "s") if dtype == dtypes.f32 else ("double", "d")
    least, most = 16 // dtype.itemsize, 64 // dtype.itemsize
    lines = [_of_one(symbol, scalar, least)]
    for n in rare.LANES:
        if n > most:
            lines.append(_of_others(symbol, scalar, n, [range(n // 2), range(n // 2, n)]))
        elif n >= least:
            lines.append(_by_instruction(symbol, scalar, n, f"p{letter}.{8 * n * dtype.itemsize}", n == most))
        else:
            lines.append(_of_others(symbol, scalar, n, [[k % n for k in range(least)]]))
    return "\n".join([*lines, ""])


def _by_instruction(symbol: str, scalar: str, n: int, suffix: str, rounds: bool) -> str:
    kind, mask = f"<{n} x {scalar}>", f"i{max(n, 8)}"
    mode, how = (", i32", ", i32 4") if rounds else ("", "")  # as the processor's settings say
    function = f"{kind} @llvm.x86.avx512.mask.scalef.{suffix}"
    return f"""\
declare {function}({kind}, {kind}, {kind}, {mask}{mode})
define linkonce_odr hidden {kind} @{symbol}_{n}({kind} %x, {kind} %n) alwaysinline #0 {{
  %scaled = call {function}({kind} %x, {kind} %n, {kind} zeroinitializer, {mask} -1{how})
  ret {kind} %scaled
}}"""


def _of_one(symbol: str, scalar: str, least: int) -> str:
    kind = f"<{least} x {scalar}>"
    return f"""\
define linkonce_odr hidden {scalar} @{symbol}({scalar} %x, {scalar} %n) alwaysinline #0 {{
  %x0 = insertelement {kind} zeroinitializer, {scalar} %x, i32 0
  %n0 = insertelement {kind} zeroinitializer, {scalar} %n, i32 0
  %all = call {kind} @{symbol}_{least}({kind} %x0, {kind} %n0)
  %scaled = extractelement {kind} %all, i32 0
  ret {scalar} %scaled
}}"""


def _of_others(symbol: str, scalar: str, n: int, parts: list[list[int]] | list[range]) -> str:
    """By vectors of another length, each made of some places; the first ``n`` results count."""
    kind, width = f"<{n} x {scalar}>", len(parts[0])
    part = f"<{width} x {scalar}>"
    lines = [f"define linkonce_odr hidden {kind} @{symbol}_{n}({kind} %x, {kind} %n) alwaysinline #0 {{"]
    for k, places in enumerate(parts):
        chosen = ", ".join(f"i32 {place}" for place in places)
        for name in "xn":
            lines.append(f"  %{name}{k} = shufflevector {kind} %{name}, {kind} poison, <{width} x i32> <{chosen}>")
        lines.append(f"  %r{k} = call {part} @{symbol}_{width}({part} %x{k}, {part} %n{k})")
    numbers = ", ".join(f"i32 {k}" for k in range(n))
    last = f"%r{len(parts) - 1}"
    lines += [
        f"  %scaled = shufflevector {part} %r0, {part} {last}, <{n} x i32> <{numbers}>",
        f"  ret {kind} %scaled",
        "}",
    ]
    return "\n".join(lines)
