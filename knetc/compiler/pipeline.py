"""The pipeline: from a traced graph to a program that can run, by way of memory, the disk cache or the compiler."""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.util
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from knetc.compiler import report
from knetc.ir import canonical
from knetc.ir.ambient import ambient
from knetc.ir.check import check
from knetc.ir.node import Graph
from knetc.runtime import cache as disk
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CompileError
from knetc.runtime.base.host_functions import lookup
from knetc.runtime.cpu import numpy_sorts
from knetc.runtime.cpu.host import target_key
from knetc.runtime.cpu.machine import Executable
from knetc.runtime.devices import CPU, Device
from knetc.runtime.program import Cubin, Program, cubin_from_json, to_json


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

_executables: dict[tuple[str, str], Any] = {}
"""By key and device."""
_objects: dict[str, tuple[str, bytes]] = {}
_kernels: dict[str, tuple[Cubin, bytes]] = {}
_lock = threading.RLock()


def build(graph: Graph, device: Device | None = None, tune: bool = False) -> Any:
    """The executable of a traced graph, for a device (None: the CPU): from memory, from disk, or compiled now.

    With ``tune`` kernels for a GPU are chosen by measuring.
    """
    key = program_key(graph, device, tune)
    place = (key, CPU if device is None else device.name)
    found = _executables.get(place)
    if found is None:
        with _lock:
            found = _executables.get(place)
            if found is None:
                if len(_executables) >= KEPT:
                    del _executables[next(iter(_executables))]
                found = _executables[place] = _load(key, graph, device, tune)
    return found


def program_key(graph: Graph, device: Device | None = None, tune: bool = False) -> str:
    """What a program depends on: the graph, the processor or GPU, the settings, and this version of knetc."""
    measured = device.description if tune and device is not None else ""
    return disk.key("program", canonical.digest(graph), measured, *settings(device))


def settings(device: Device | None = None) -> tuple[str, str]:
    """What programs depend on beside their graphs: the target, and how they are to be made."""
    how = f"fuse={config.fuse} nan_check={ambient().nan_check} timed={config.debug > 0}"
    if device is None:
        return target_key(config.cpu_level), f"{how} sorts={bool(numpy_sorts.addresses())}"
    return device.target, f"{how} precision={ambient().precision} triton={triton_version()} cublas={config.cublas}"


def optimised(graph: Graph) -> Graph:
    """The graph after all graph passes, checked after each one where the configuration asks for it."""
    if config.check:
        check(graph, "trace")
    for step in PASSES:
        graph = step.run(graph)
        if config.check:
            check(graph, step.name)
    return graph


def _load(key: str, graph: Graph, device: Device | None, tune: bool) -> Any:
    name = "cpu" if device is None else device.target
    if config.cache:
        stored = disk.load_program(key)
        if stored is not None:
            if config.debug:
                report.tell(stored[0], "in the cache", lambda: stages(graph, name), config.debug)
            return _loaded(*stored, device)
    before = time.perf_counter()
    compiler: Callable[[str, str], Any]
    more: dict[str, Any] = {}
    if device is None:
        maker, where, compiler = backend(), target(), compile_function
    else:
        maker, where = gpu_backend(), gpu_target(device.target)
        compiler = gpu_compiler(where)
        more["precision"] = ambient().precision
        if tune:
            tuning = importlib.import_module("knetc.compiler.tuning")
            more["tuner"] = tuning.Tuner(device, compiler, triton_version())
    _assembly, program, objects = maker.build(
        optimised(graph),
        where,
        compiler,
        fused=config.fuse,
        nan_check=ambient().nan_check,
        timed=config.debug > 0,
        **more,
    )
    if config.cache and all(lookup(call.function).everywhere for call in program.hosts):
        disk.store_program(key, program, objects)
    if config.debug:
        milliseconds = 1e3 * (time.perf_counter() - before)
        report.tell(program, f"compiled in {milliseconds:.0f} ms", lambda: stages(graph, name), config.debug)
    return _loaded(program, objects, device)


def _loaded(program: Program, objects: Mapping[str, bytes], device: Device | None) -> Any:
    if device is None:
        executable: Any = Executable(program, objects)
    else:
        executable = importlib.import_module("knetc.runtime.cuda.execute").Executable(program, objects, device)
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


def gpu_backend() -> Any:
    """The code generator for GPUs, imported when something must really be compiled."""
    if not triton_version():
        raise CompileError(
            "programs for a GPU are compiled by Triton, which is not installed: pip install 'knetc[cuda13]' (or "
            "knetc[cuda12], for a driver before 580), or use device='cpu'"
        )
    return importlib.import_module("knetc.codegen.triton.backend")


def gpu_target(name: str) -> Any:
    """What is to be known of a GPU in order to generate code for it, by its target's name, such as ``cuda:sm_90``."""
    return importlib.import_module("knetc.codegen.triton.model").GpuTarget(*name.split(":"))


@cache
def triton_version() -> str:
    """The version of the compiler for GPUs; empty where there is none, and programs come from the cache alone."""
    try:
        found: str = importlib.import_module("importlib.metadata").version("triton")  # 10 ms that few programs need
    except ImportError:
        return ""
    return found


def gpu_compiler(target: Any) -> Callable[[str, str], tuple[Cubin, bytes]]:
    """A compiler of kernels for a GPU, which looks into memory and the disk cache first."""

    def compile_kernel(name: str, text: str) -> tuple[Cubin, bytes]:
        key = disk.key("kernel", target.key, triton_version(), text)
        found = _kernels.get(key)
        if found is None:
            stored = disk.load_object(key) if config.cache else None
            if stored is not None:
                size = int.from_bytes(stored[:4], "little")
                found = cubin_from_json(json.loads(stored[4 : 4 + size])), stored[4 + size :]
            else:
                compiler = importlib.import_module("knetc.codegen.triton.compile")
                cubin, code = found = compiler.compile_source(name, text, target)
                if config.cache:
                    head = json.dumps(to_json(cubin)).encode()
                    disk.store_object(key, len(head).to_bytes(4, "little") + head + code)
            _kernels[key] = found
        return found

    return compile_kernel


# --- looking inside --------------------------------------------------------------------------------------------------


def stages(graph: Graph, device: str = "cpu") -> Mapping[str, Any]:
    """What the pipeline makes of a traced graph, stage by stage, for people to look at.

    ``trace``, ``simplify`` and ``fuse`` are graphs; ``plan`` is the Program; ``assembly`` the fused units and their
    nests. The others map function names to text (made when asked for): ``llvm`` and ``asm``, or for a GPU such as
    ``cuda:sm_90``, which need not be there, ``triton``, ``ttir``, ``ttgir``, ``ptx`` and ``sass``.
    """
    simplified = optimised(graph)
    how = {"fused": config.fuse, "nan_check": ambient().nan_check}
    code: dict[str, Any]
    if device == "cpu":
        assembly, program, _ = backend().build(simplified, target(), lambda name, text: (name, b""), **how)
        code = {
            "llvm": lambda: dict(assembly.functions),
            "asm": lambda: {name: native().assembly(text, target()) for name, text in assembly.functions.items()},
        }
    else:
        where = gpu_target(device)
        assembly = gpu_backend().assembled(simplified, where, precision=ambient().precision, **how)
        program = assembly.program

        def made(stage: str) -> dict[str, str]:
            compiler = importlib.import_module("knetc.codegen.triton.compile")
            return {name: compiler.code_of(text, where, stage) for name, text in assembly.functions.items()}

        code = {stage: partial(made, stage) for stage in ("ttir", "ttgir", "ptx", "sass")}
        code["triton"] = lambda: dict(assembly.functions)
    groups = importlib.import_module("knetc.passes.groups")
    return {
        "trace": graph,
        "simplify": simplified,
        "fuse": groups.grouped(assembly),
        "plan": program,
        "assembly": assembly,
        **code,
    }
