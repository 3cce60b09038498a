"""For tests: run scalar code over arrays, as a loop that LLVM widens, at any instruction-set level."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from knetc.codegen.cpu import native, rare
from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar, declare
from knetc.runtime.base import dtypes
from knetc.runtime.cpu.host import cpu_flags
from knetc.runtime.cpu.loader import Module

LEVELS = tuple(
    level
    for level in ("native", "avx2", "generic")
    if level != "avx2" or {"avx2", "fma"} <= cpu_flags()  # another processor has the other levels only
)


def whole_text(e: LlvmEmitter, head: str, level: str) -> str:
    """A module with one function, whose body an emitter holds."""
    attributes = native.attributes_text(native.target(level))
    lines = [*declare([e]), *rare.kept(e.rare), head, *e.lines, "}", attributes]
    return "\n".join(lines) + rare.late(e.rare, attributes)


def link(text: str, level: str, pointers: int) -> Callable[..., None]:
    """The text's function ``kernel``, which takes a count and so many pointers."""
    target = native.target(level)
    code = native.compile_ir(text, target)
    function: Callable[..., None] = Module([code]).function(
        "kernel", None, ctypes.c_int64, *[ctypes.c_void_p] * pointers
    )
    return function


class Elementwise:
    """``emit(emitter, *operands)`` compiled as a loop over dense arrays; call it with NumPy arrays of one size."""

    def __init__(self, emit: Callable[..., Scalar], *sources: np.dtype, level: str = "native") -> None:
        target = native.target(level)
        e = LlvmEmitter(half=target.half, fused=target.fused, estimates=target.estimates)
        arguments = ", ".join(f"ptr noalias %a{k}" for k in range(len(sources)))
        e.label("entry")
        e.line("br label %loop")
        e.label("loop")
        e.line("%i = phi i64 [ 0, %entry ], [ %next, %loop ]")
        result = emit(e, *(e.load(f"%a{k}", "%i", dtype) for k, dtype in enumerate(sources)))
        e.store(result, "%out", "%i")
        e.line("%next = add nuw nsw i64 %i, 1")
        e.line("%more = icmp slt i64 %next, %n")
        e.line("br i1 %more, label %loop, label %done")
        e.label("done")
        e.line("ret void")
        head = f"define void @kernel(i64 %n, ptr noalias %out, {arguments}) #0 {{"
        self.text = whole_text(e, head, level)
        self.dtype = result.dtype
        self.sources = sources
        self._function = link(self.text, level, len(sources) + 1)

    def __call__(self, *arrays: Any) -> np.ndarray:
        dense = [np.ascontiguousarray(a, dtype) for a, dtype in zip(arrays, self.sources, strict=True)]
        out = np.empty(dense[0].shape, self.dtype)
        assert all(a.shape == out.shape for a in dense)
        if out.size:
            self._function(out.size, out.ctypes.data, *(a.ctypes.data for a in dense))
        return out


def fold(kind: str, dtype: np.dtype, start: float, level: str) -> Callable[[np.ndarray], Any]:
    """A whole-array reduction by ``LlvmEmitter.accumulate``."""
    e = LlvmEmitter()
    e.label("entry")
    e.line("br label %loop")
    e.label("loop")
    e.line("%i = phi i64 [ 0, %entry ], [ %next, %loop ]")
    first = e.constant(start, dtype)
    at = len(e.lines)
    total = e.accumulate(kind, Scalar("%acc", dtype), e.load("%a", "%i", dtype))
    e.lines.insert(at, f"  %acc = phi {first.typed.split()[0]} [ {first.text}, %entry ], [ {total.text}, %loop ]")
    e.line("%next = add nuw nsw i64 %i, 1")
    e.line("%more = icmp slt i64 %next, %n")
    e.line("br i1 %more, label %loop, label %done")
    e.label("done")
    e.store(total, "%out", 0)
    e.line("ret void")
    head = "define void @kernel(i64 %n, ptr noalias %out, ptr noalias %a) #0 {"
    function = link(whole_text(e, head, level), level, 2)

    def run(array: np.ndarray) -> Any:
        out = np.empty(1, dtype)
        function(array.size, out.ctypes.data, array.ctypes.data)
        return out[0]

    return run


ALL = (dtypes.f32, dtypes.f64, dtypes.i32, dtypes.i64, dtypes.boolean)
