"""Triton source to cubins: the one module that imports Triton. It needs no GPU and no torch."""

from __future__ import annotations

import atexit
import hashlib
import linecache
import re
import shutil
import tempfile
from functools import cache
from subprocess import CalledProcessError
from typing import Any

import triton
from knetc.codegen.triton.backend import parameter_format
from knetc.codegen.triton.cubin import read_cubin
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.source import header_of, symbol_of
from knetc.runtime.base.errors import CompileError
from knetc.runtime.program import GRID_ALIGNMENT, Cubin
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HIDDEN = 2
"""Addresses that Triton 3.5 to 3.9 passes after a kernel's own parameters: scratch memory, and memory for profiles."""


@cache
def _settings() -> None:
    """Triton's settings: no paths in the code, and files of its own in a folder that goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="knetc-triton-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    knobs.compilation.disable_line_info = True
    knobs.cache.dir = folder


def compile_source(name: str, source: str, target: GpuTarget) -> tuple[Cubin, bytes]:
    """What is to be known of the kernel that launches call ``name``, and its machine code.

    Raises CompileError, with the source, for what Triton refuses, and when the parameters are not those expected.
    """
    header = header_of(source)
    made = compiled(source, target)
    code: bytes = made.asm["cubin"]
    facts = made.metadata
    info = read_cubin(code, facts.name)
    own = parameter_format(header)
    expected = _layout(own)
    if info.parameters != expected or (info.threads and info.threads != 32 * facts.num_warps):
        raise CompileError(
            f"Triton {triton.__version__} made kernel {facts.name} with parameters at {info.parameters} and "
            f"{info.threads} threads; expected were {expected} and {32 * facts.num_warps}"
        )
    digest = hashlib.blake2b(code, digest_size=16).hexdigest()
    return Cubin(
        name,
        digest,
        facts.name,
        _arch(made.asm["ptx"]),
        facts.num_warps,
        facts.num_ctas,
        facts.shared,
        own,
        HIDDEN,
        facts.global_scratch_size,
        max(facts.global_scratch_align, 1),
        info.registers,
        info.stack_bytes,
        hashlib.blake2b(source.encode(), digest_size=16).hexdigest(),
    ), code


def code_of(source: str, target: GpuTarget, stage: str) -> str:
    """What a kernel is at a stage on the way to machine code: ``ttir``, ``ttgir``, ``llir``, ``ptx`` or ``sass``."""
    made = compiled(source, target)
    try:
        return str(made.asm[stage])
    except CalledProcessError as error:
        raise CompileError(f"Triton {triton.__version__} cannot disassemble code for {target.arch}") from error


def compiled(source: str, target: GpuTarget) -> Any:
    """What Triton makes of a source; raises CompileError, with the source, if it refuses."""
    _settings()
    header = header_of(source)
    types = dict(header.parameters)
    aligned = [["tt.divisibility", GRID_ALIGNMENT]]
    attributes = {(k,): aligned for k, kind in enumerate(types.values()) if kind[0] == "*"}
    options = {"num_warps": header.warps, "num_stages": header.stages, "enable_fp_fusion": True}
    try:
        function = _function(source, header.entry)
        described = ASTSource(fn=function, signature=types, constexprs={}, attrs=attributes)
        return triton.compile(described, target=GPUTarget(target.kind, target.capability, 32), options=options)
    except Exception as error:
        raise CompileError(
            f"Triton {triton.__version__} refuses a kernel for {target.arch}: {error}\n{source}"
        ) from error


def _function(source: str, entry: str) -> Any:
    """A kernel as Triton knows it: all it wants is that the text can be found by file and line."""
    file = f"<{symbol_of(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    names: dict[str, Any] = {"__name__": symbol_of(source), "__file__": file}
    exec(compile(source, file, "exec"), names)
    return names[entry]


def _layout(parameters: str) -> tuple[tuple[int, int], ...]:
    """Offset and size of each parameter of a ``struct`` format with native alignment."""
    places, offset = [], 0
    for code in parameters[1:]:
        size = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "f": 4}.get(code, 8)
        offset = -(-offset // size) * size
        places.append((offset, size))
        offset += size
    return tuple(places)


def _arch(ptx: str) -> str:
    """The architecture that PTX names: ``sm_90a``."""
    found = re.search(r"^\.target\s+(sm_\w+)", ptx, re.MULTILINE)
    return found[1] if found else ""
