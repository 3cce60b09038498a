"""The CPU as a target: how nests, products and checks become kernels, and a program becomes objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from knetc.codegen.assemble import Assembly, assemble
from knetc.codegen.cpu import largest, matmul, nest, sorts
from knetc.codegen.cpu.driver import emit_driver
from knetc.codegen.cpu.emitter import memory_type
from knetc.codegen.cpu.native import Target, attributes_text, compile_ir
from knetc.codegen.cpu.pool import emit_pool
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import LoopNest
from knetc.codegen.products import Product
from knetc.runtime.base import dtypes
from knetc.runtime.program import Launch, Program, Slot

from knetc.ir.node import Graph
from knetc.ir.types import TensorType
from knetc.passes.prologue import Chooser

_SEARCH = """define void @SYMBOL(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
entry:
  %array = load ptr, ptr %table, align 8
{parameters}  %any = icmp slt i64 %lo, %hi
  br i1 %any, label %loop, label %done
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %bad = phi i64 [ 0, %entry ], [ %worse, %loop ]
  %found = phi i64 [ 0, %entry ], [ %value, %loop ]
  %place = getelementptr inbounds {type}, ptr %array, i64 %i
  %raw = load {type}, ptr %place, align {align}
{test}  %flag = zext i1 %hit to i64
  %worse = or i64 %bad, %flag
  %value = select i1 %hit, i64 %report, i64 %found
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %end
end:
  %failed = icmp ne i64 %worse, 0
  br i1 %failed, label %fail, label %done
fail:
  %pvalue = getelementptr i64, ptr %record, i64 1
  store i64 %value, ptr %pvalue, align 8
  store i64 1, ptr %record, align 8
  br label %done
done:
  ret void
}
"""
"""A search through an array for an element that fails a test; the failure record is the table's last slot."""

_RANGE = """  %low = load i64, ptr %p1, align 8
  %high = load i64, ptr %p2, align 8
  %record = load ptr, ptr %p3, align 8
  %span = sub i64 %high, %low
"""

STREAMED = 1 << 25
"""Results of so many bytes do not pass through the caches: what reads them next would not find them there."""

_CHECK_GRAIN = 1 << 14


@dataclass(frozen=True)
class CpuBackend:
    """Kernels for one CPU target."""

    target: Target
    alignment_bytes: int = 1
    keep_rows: bool = True
    narrow_products: bool = False
    computes: Chooser | None = None
    joiner: None = None

    @property
    def key(self) -> str:
        return self.target.key

    def nest(self, loops: LoopNest) -> Kernel:
        large = [
            k for k, a in enumerate(loops.arguments) if a.kind == "output" and a.size * a.dtype.itemsize >= STREAMED
        ]
        return nest.lower(loops, self.target, frozenset(large))

    def matmul(self, product: Product, epilogue: LoopNest | None) -> Kernel:
        spec = matmul.MatmulSpec(
            product.dtype,
            product.batch,
            product.m,
            product.n,
            product.k,
            product.a.strides,
            product.b.strides,
            product.c_strides,
            epilogue,
            product.a.offset,
            product.b.offset,
        )
        return matmul.lower_matmul(spec, self.target)

    def check(self, dtype: np.dtype, size: int, low: int, high: int) -> Kernel:
        bits = 8 * dtype.itemsize
        extend = "zext" if dtype.kind == "u" else "sext"
        widen = "add i64 %raw, 0" if bits == 64 else f"{extend} i{bits} %raw to i64"
        test = f"  %report = {widen}\n  %moved = sub i64 %report, %low\n  %hit = icmp uge i64 %moved, %span\n"
        slots = (Slot("argument", 0), Slot("value", low), Slot("value", high))
        return self._search(f"i{bits}", dtype.itemsize, _RANGE, test, size, slots)

    def check_nan(self, dtype: np.dtype, size: int) -> Kernel:
        kind = memory_type(dtype)
        hit = f"fcmp uno {kind} %raw, 0.0"
        if dtypes.is_narrow(dtype):  # beyond infinity, but for the sign
            infinity = 0x7F80 if dtypes.is_bfloat16(dtype) else 0x7C00
            hit = f"icmp ugt i16 %magnitude, {infinity}"
        test = f"  %report = add i64 %i, 0\n  %hit = {hit}\n"
        if dtypes.is_narrow(dtype):
            test = "  %magnitude = and i16 %raw, 32767\n" + test
        record = "  %record = load ptr, ptr %p1, align 8\n"
        return self._search(kind, dtype.itemsize, record, test, size, (Slot("argument", 0),))

    def host(self, function: str, arguments: Sequence[TensorType], result: TensorType) -> Kernel | None:
        name = function.rpartition(":")[2]  # what takes stacks takes one axis more
        if name == "sorting.sort":
            return sorts.sort_kernel(arguments[0], self.target)
        if name == "sorting.settled":
            return sorts.settle_kernel(arguments[0], self.target)
        if name == "sorting.largest":
            return largest.largest_kernel(arguments[0], result.shape[-1], self.target)
        if name in ("sorting.argmax", "sorting.argmin"):
            return largest.extreme_kernel(arguments[0], name == "sorting.argmax", self.target)
        return None

    def _search(self, kind: str, align: int, parameters: str, test: str, size: int, slots: tuple[Slot, ...]) -> Kernel:
        places = "".join(f"  %p{k} = getelementptr i64, ptr %table, i64 {k}\n" for k in range(1, len(slots) + 1))
        text = _SEARCH
        for field, value in (
            ("parameters", places + parameters),
            ("type", kind),
            ("align", str(align)),
            ("test", test),
        ):
            text = text.replace(f"{{{field}}}", value)
        text += attributes_text(self.target)
        symbol = "k_" + hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        launch = Launch(symbol, size, _CHECK_GRAIN, slots)
        return Kernel({symbol: text.replace("@SYMBOL", f"@{symbol}")}, (launch,))


def build(
    graph: Graph,
    target: Target,
    compile_function: Callable[[str, str], tuple[str, bytes]],
    *,
    fused: bool = True,
    nan_check: bool = False,
    timed: bool = False,
) -> tuple[Assembly, Program, dict[str, bytes]]:
    """Everything that running a simplified graph on this CPU needs.

    ``compile_function(name, text)`` gives an object and its digest, from a cache or made with ``compile_ir``. The
    object with the program's entry comes last.
    """
    assembly = assemble(graph, CpuBackend(target), fused=fused, nan_check=nan_check)
    program = replace(assembly.program, timed=timed)
    texts = [*assembly.functions.items(), ("pool", emit_pool()), ("driver", emit_driver(program))]
    objects = dict(compile_function(name, text) for name, text in texts)
    return assembly, replace(program, objects=tuple(objects)), objects


def compile_plain(target: Target) -> Callable[[str, str], tuple[str, bytes]]:
    """A compiler of functions that keeps nothing."""

    def compile_function(name: str, text: str) -> tuple[str, bytes]:
        code = compile_ir(text, target, 1 if name == "driver" else 2)
        return hashlib.blake2b(code, digest_size=16).hexdigest(), code

    return compile_function
