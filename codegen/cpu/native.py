"""From LLVM IR text to native objects: the one place where llvmlite is imported, and only when something is compiled.

An object holds x86-64 or aarch64 code that is position independent and near (``small``): the runtime's loader places
all objects of a program into one region. Nothing here runs code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import llvmlite.binding as llvm  # type: ignore[import-untyped]
from knetc.codegen.cpu.rare import SEPARATOR
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CompileError
from knetc.runtime.cpu.host import LEVELS, architecture, target_key, vector_bytes

VERSION = f"llvmlite {llvmlite.__version__}"
"""Who makes the objects; part of their key in the cache."""

_NAMES = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "generic": "x86-64"}


@dataclass(frozen=True)
class Target:
    """A processor to make code for."""

    level: str
    """``native``, ``avx512``, ``avx2`` or ``generic``."""
    cpu: str
    """LLVM's name of the processor."""
    features: str
    """LLVM's list of extensions (``+avx2,-sse4a``); empty when the name says it all."""
    triple: str
    key: str
    """Name of the target in cache keys and in ``Program.target``; the runtime can tell it without LLVM."""
    vector_bytes: int
    """Width of the vectors that code should use."""

    @property
    def half(self) -> bool:
        """Whether the processor converts between float16 and float32."""
        if "x86_64" not in self.triple:
            return True  # every 64-bit ARM does
        return self._has("f16c")

    @property
    def fused(self) -> bool:
        """Whether the processor multiplies and adds with one rounding."""
        return "x86_64" not in self.triple or self._has("fma")

    @property
    def estimates(self) -> bool:
        """Whether the processor estimates inverse roots, and has products with powers of two, as AVX-512 does."""
        return "x86_64" in self.triple and self.vector_bytes == 64

    def _has(self, extension: str) -> bool:
        """Whether an x86 processor has an extension that came with AVX2 or before."""
        return f"+{extension}" in self.features.split(",") if self.level == "native" else self.level != "generic"


def target(level: str | None = None) -> Target:
    """The target for an instruction-set level, by default the configured one (``KNETC_CPU_LEVEL``).

    Raises ValueError for an unknown level, CompileError for a level of another processor family.

    >>> target("avx2").vector_bytes
    32
    """
    return _target(config.cpu_level if level is None else level)


@cache
def _target(level: str) -> Target:
    if level not in LEVELS:
        raise ValueError(f"cpu_level {level!r} is none of {', '.join(LEVELS)}")
    if architecture() != "x86_64" and level in ("avx512", "avx2"):
        raise CompileError(
            f"cpu_level {level!r} is for x86-64, this machine is {architecture()}; use native or generic"
        )
    _initialize()
    if level == "native":
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    else:
        cpu, features = (_NAMES[level] if architecture() == "x86_64" else "generic"), ""
    return Target(level, cpu, features, llvm.get_process_triple(), target_key(level), vector_bytes(level))


def attributes_text(target: Target) -> str:
    """The line ``attributes #0 = {…}`` that every function's text ends with.

    LLVM by itself prefers 32-byte vectors on many processors that have 64-byte ones; the attribute decides.
    """
    return (
        f'attributes #0 = {{ nounwind "prefer-vector-width"="{8 * target.vector_bytes}" '
        '"min-legal-vector-width"="0" "no-trapping-math"="true" }\n'
    )


def compile_ir(text: str, target: Target, level: int = 2) -> bytes:
    """The relocatable object for LLVM IR text, optimised at ``level``.

    2 is for kernels (loops are vectorised), 1 for code without hot loops, 0 for long straight-line code such as
    drivers: translated as it stands, ten times faster. A text may ask for less in its first line: ``; level 0``, or
    ``; passes 0`` when it is written as it should be, but instructions and registers are to be chosen with care.

    Raises CompileError with LLVM's message and the offending line when the text is not valid.
    """
    module, machine = _optimized(text, target, level)
    return bytes(machine.emit_object(module))


def optimized_ir(text: str, target: Target, level: int = 2) -> str:
    """LLVM IR text after optimisation, for people; raises as ``compile_ir``."""
    return str(_optimized(text, target, level)[0])


def assembly(text: str, target: Target, level: int = 2) -> str:
    """Assembler text for LLVM IR text, for people; raises as ``compile_ir``."""
    module, machine = _optimized(text, target, level)
    return str(machine.emit_assembly(module))


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@cache
def _machine(target: Target, optimise: bool) -> Any:
    _initialize()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3 if optimise else 0, reloc="pic", codemodel="small"
    )


def _optimized(text: str, target: Target, level: int) -> tuple[Any, Any]:
    passes = level
    if declared := re.match(r"; (level|passes) (\d)\n", text):
        passes = min(level, int(declared.group(2)))
        level = passes if declared.group(1) == "level" else level
    machine = _machine(target, level > 0)
    # a context of its own for each module: types and constants of finished modules are not kept
    context = llvm.create_context()
    text, _, late = text.partition(SEPARATOR)
    module = _parsed(text, context, target, machine)
    if not passes:
        return module, machine
    options = llvm.create_pipeline_tuning_options(speed_level=passes)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = passes >= 2
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    if late:
        module = _with_late_code(module, _parsed(late, context, target, machine), context, builder)
    return module, machine


def _parsed(text: str, context: Any, target: Target, machine: Any) -> Any:
    try:
        module = llvm.parse_assembly(text, context)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise CompileError(_explain(str(error), text)) from error
    return module


def _with_late_code(module: Any, late: Any, context: Any, builder: Any) -> Any:
    """An optimised module with the functions put in that its loops were widened around (see ``rare``)."""
    # the list that kept their declarations would now keep all definitions
    text = re.sub(r"^@llvm\.compiler\.used = .*\n", "", str(module), flags=re.MULTILINE)
    module = llvm.parse_assembly(text, context)
    module.link_in(late)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.run(module, builder)
    return module


def _explain(message: str, text: str) -> str:
    """LLVM's message with the function that the text defines; parse errors quote the line themselves."""
    function = re.search(r"^define[^@\n]*@([^\s(]+)", text, re.MULTILINE)
    name = function.group(1) if function else "the module"
    return f"LLVM does not accept the IR of {name}:\n{message.strip()}"
