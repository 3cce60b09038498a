"""The pipeline: from a traced graph to a program that can run, by way of memory, the disk cache or the compiler."""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.util
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knetc.compiler import report
from knetc.ir import canonical
from knetc.ir.ambient import ambient
from knetc.ir.check import check
from knetc.ir.node import Graph
from knetc.runtime import cache as disk
from knetc.runtime.base.config import config
from knetc.runtime.base.host_functions import lookup
from knetc.runtime.cpu.host import target_key
from knetc.runtime.cpu.machine import Executable
from knetc.runtime.program import Program


@dataclass(frozen=True)
class Pass:
    """A step of the pipeline that makes a graph of a graph: ``function`` names it as ``module:function``."""

    name: str
    function: str
    why: str

    def run(self, graph: Graph) -> Graph:
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(graph)  # type: ignore[no-any-return]


PASSES = (
    Pass("simplify", "knetc.passes.simplify:simplify", "first, so that fusion sees no work that need not be done"),
    # Fusion, scheduling and memory planning follow in knetc.codegen.assemble: they are the target's too.
)
"""The passes over graphs, imported when something must really be compiled."""

KEPT = 1024
"""Programs that stay loaded although nothing but this module holds them."""

_executables: dict[str, Executable] = {}
_objects: dict[str, tuple[str, bytes]] = {}
_lock = threading.RLock()


def build(graph: Graph) -> Executable:
    """The executable of a traced graph, for the device in force: from memory, from disk, or compiled now."""
    key = program_key(graph)
    found = _executables.get(key)
    if found is None:
        with _lock:
            found = _executables.get(key)
            if found is None:
                if len(_executables) >= KEPT:
                    del _executables[next(iter(_executables))]
                found = _executables[key] = _load(key, graph)
    return found


def program_key(graph: Graph) -> str:
    """What a program depends on: the graph, the processor, the settings, and this version of knetc."""
    return disk.key("program", canonical.digest(graph), *settings())


def settings() -> tuple[str, str]:
    """What programs depend on beside their graphs: the target, and how they are to be made."""
    how = f"fuse={config.fuse} nan_check={ambient().nan_check} timed={config.debug > 0}"
    return target_key(config.cpu_level), how


def optimised(graph: Graph) -> Graph:
    """The graph after all graph passes, checked after each one where the configuration asks for it."""
    if config.check:
        check(graph, "trace")
    for step in PASSES:
        graph = step.run(graph)
        if config.check:
            check(graph, step.name)
    return graph


def _load(key: str, graph: Graph) -> Executable:
    if config.cache:
        stored = disk.load_program(key)
        if stored is not None:
            if config.debug:
                report.tell(stored[0], "in the cache", lambda: stages(graph), config.debug)
            return _loaded(*stored)
    before = time.perf_counter()
    _assembly, program, objects = backend().build(
        optimised(graph),
        target(),
        compile_function,
        fused=config.fuse,
        nan_check=ambient().nan_check,
        timed=config.debug > 0,
    )
    if config.cache and all(lookup(call.function).everywhere for call in program.hosts):
        disk.store_program(key, program, objects)
    if config.debug:
        milliseconds = 1e3 * (time.perf_counter() - before)
        report.tell(program, f"compiled in {milliseconds:.0f} ms", lambda: stages(graph), config.debug)
    return _loaded(program, objects)


def _loaded(program: Program, objects: Mapping[str, bytes]) -> Executable:
    executable = Executable(program, objects)
    if program.timed:
        atexit.register(report.tell_times, executable)
    return executable


# --- the door: only behind these functions are llvmlite and networkx imported ----------------------------------------


def backend() -> Any:
    """The CPU's code generator, imported when something must really be compiled."""
    return importlib.import_module("knetc.codegen.cpu.backend")


def native() -> Any:
    return importlib.import_module("knetc.codegen.cpu.native")


def target() -> Any:
    return native().target()


def compile_function(name: str, text: str) -> tuple[str, bytes]:
    """The object for a function's text, and its digest: from memory or disk if it has been compiled before."""
    level = 0 if name == "driver" else 2
    key = disk.key("object", target().key, f"O{level}", text)
    found = _objects.get(key)
    if found is None:
        code = disk.load_object(key) if config.cache else None
        if code is None:
            code = native().compile_ir(text, target(), level)
            if config.cache:
                disk.store_object(key, code)
        found = hashlib.blake2b(code, digest_size=16).hexdigest(), code
        if name != "driver":
            _objects[key] = found
    return found


# --- looking inside --------------------------------------------------------------------------------------------------


def stages(graph: Graph) -> Mapping[str, Any]:
    """What the pipeline makes of a traced graph, stage by stage, for people to look at.

    ``trace``, ``simplify`` and ``fuse`` are graphs; ``plan`` is the Program; ``assembly`` the fused units and their
    nests; ``llvm`` and ``asm`` map function names to text (made when asked for).
    """
    simplified = optimised(graph)
    assembly, program, _ = backend().build(
        simplified, target(), lambda name, text: (name, b""), fused=config.fuse, nan_check=ambient().nan_check
    )
    groups = importlib.import_module("knetc.passes.groups")
    return {
        "trace": graph,
        "simplify": simplified,
        "fuse": groups.grouped(assembly),
        "plan": program,
        "assembly": assembly,
        "llvm": lambda: dict(assembly.functions),
        "asm": lambda: {name: native().assembly(text, target()) for name, text in assembly.functions.items()},
    }
