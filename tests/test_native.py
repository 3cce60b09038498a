"""LLVM IR text becomes objects, for every instruction-set level, and mistakes in it are explained."""

from __future__ import annotations

import pytest
from knetc.codegen.cpu import native
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CompileError
from knetc.runtime.cpu import host

INCREMENT = """define void @k_increment(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
entry:
  %a = load ptr, ptr %table
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %p = getelementptr float, ptr %a, i64 %i
  %v = load float, ptr %p
  %w = fadd float %v, 1.0
  store float %w, ptr %p
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""
LEVELS = host.LEVELS if host.architecture() == "x86_64" else ("native", "generic")


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_uses_its_own_vectors(level: str) -> None:
    target = native.target(level)
    text = INCREMENT + native.attributes_text(target)
    assert native.compile_ir(text, target).startswith(b"\x7fELF")
    if host.architecture() == "x86_64":
        register = {64: "zmm", 32: "ymm", 16: "xmm"}[target.vector_bytes]
        wider = {64: (), 32: ("zmm",), 16: ("zmm", "ymm")}[target.vector_bytes]
        assembly = native.assembly(text, target)
        assert register in assembly
        assert not any(name in assembly for name in wider)


def test_target_key_needs_no_compiler() -> None:
    for level in LEVELS:
        assert native.target(level).key == host.target_key(level)
    assert host.runs_here(host.target_key("native"))
    assert host.runs_here(host.target_key("generic"))
    assert not host.runs_here("cpu:x86_64:native:0")
    assert not host.runs_here("cuda:sm_90")


def test_the_configured_level_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in LEVELS:
        monkeypatch.setattr(config, "cpu_level", level)
        assert native.target() == native.target(level)


def test_unknown_level() -> None:
    with pytest.raises(ValueError, match=r"avx9.*native, avx512, avx2, generic"):
        native.target("avx9")


def test_syntax_errors_show_the_line() -> None:
    target = native.target("generic")
    with pytest.raises(CompileError, match=r"k_increment[\s\S]*fadd i32 %v, 1.0"):
        native.compile_ir(INCREMENT.replace("fadd float", "fadd i32") + native.attributes_text(target), target)


def test_invalid_ir_shows_the_instruction() -> None:
    target = native.target("generic")
    with pytest.raises(CompileError, match=r"k_increment[\s\S]*%w = fadd float %w"):
        native.compile_ir(INCREMENT.replace("%v, 1.0", "%w, 1.0") + native.attributes_text(target), target)


def test_same_text_gives_same_bytes() -> None:
    target = native.target()
    text = INCREMENT + native.attributes_text(target)
    assert native.compile_ir(text, target) == native.compile_ir(text, target)
    assert "vector.body" in native.optimized_ir(text, target)
