"""Choosing among kernels by measuring them (``compile(tune=True)``); what was found is kept in the disk cache."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from knetc.codegen.kernel import Kernel
from knetc.runtime import cache as disk
from knetc.runtime import devices
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import KnetcError
from knetc.runtime.cuda import timing
from knetc.runtime.cuda.device import GpuDevice
from knetc.runtime.program import ArgumentRef, BufferSpec, Cubin, Program, Step

log = logging.getLogger("knetc")

MARGIN = 0.98
"""What takes a larger share of the time of the model's choice is not taken instead."""

COMPILERS = 4

_known: dict[str, tuple[int, str]] = {}


class Tuner:
    """Measures kernels on a device, each set of them once."""

    def __init__(self, device: GpuDevice, compiler: Callable[[str, str], tuple[Cubin, bytes]], version: str) -> None:
        """``version`` is the compiler's."""
        self.device, self.compiler, self.version = device, compiler, version

    def __call__(self, kernels: Sequence[Kernel], arguments: Sequence[BufferSpec | str]) -> tuple[int, str]:
        """The number of the fastest of several kernels that do the same, and how that is known."""
        key = self._key(kernels)
        found = _known.get(key) or (disk.load_choice(key) if config.cache else None)
        if found is None or found[0] >= len(kernels):
            found = self._measured(kernels, arguments)
            if config.cache:
                disk.store_choice(key, *found)
        _known[key] = found
        return found

    def _key(self, kernels: Sequence[Kernel]) -> str:
        what = repr([(tuple(kernel.functions), kernel.grids, kernel.library) for kernel in kernels])
        library = devices.library_file() if config.cublas and any(kernel.library for kernel in kernels) else ""
        return disk.key("choice", self.device.target, self.device.properties.name, self.version, library, what)

    def _measured(self, kernels: Sequence[Kernel], arguments: Sequence[BufferSpec | str]) -> tuple[int, str]:
        with ThreadPoolExecutor(COMPILERS) as pool:
            programs = list(pool.map(lambda kernel: self._program(kernel, arguments), kernels))
        times = [self._time(program) for program in programs]
        best = min(range(len(times)), key=times.__getitem__)
        best = best if times[best] < MARGIN * times[0] else 0
        name = self.device.properties.name
        if math.isinf(times[best]):
            return 0, f"none of {len(times)} could be measured on {name}: this is the model's choice"
        first = f", the model's choice {_microseconds(times[0])}" if best else ", the model's choice"
        return best, f"the best of {len(times)} on {name}: {_microseconds(times[best])}{first}"

    def _program(
        self, kernel: Kernel, arguments: Sequence[BufferSpec | str]
    ) -> tuple[Program, dict[str, bytes]] | None:
        """A program of one kernel; None if it cannot be compiled."""
        try:
            made = [self.compiler(name, source) for name, source in kernel.functions.items()]
        except KnetcError as error:
            log.info("a kernel is not measured: %s", str(error).partition("\n")[0])
            return None
        buffers = tuple(argument for argument in arguments if isinstance(argument, BufferSpec))
        scalars = tuple(argument for argument in arguments if isinstance(argument, str))
        references, counts = [], {"buffer": 0, "scalar": 0}
        for argument in arguments:
            kind: Literal["buffer", "scalar"] = "buffer" if isinstance(argument, BufferSpec) else "scalar"
            references.append(ArgumentRef(kind, counts[kind]))
            counts[kind] += 1
        space = kernel.workspace_bytes
        step = Step(
            "measured", tuple(references), (), space, 0 if space else -1, grids=kernel.grids, library=kernel.library
        )
        objects = {cubin.object: code for cubin, code in made}
        cubins = tuple(cubin for cubin, _ in made)
        program = Program(
            self.device.target, buffers, scalars, (step,), (), space, tuple(objects), entry="", cubins=cubins
        )
        return program, objects

    def _time(self, made: tuple[Program, dict[str, bytes]] | None) -> float:
        """Milliseconds; infinity for what cannot run."""
        if made is None:
            return math.inf
        try:
            return timing.milliseconds(*made, self.device)
        except KnetcError as error:
            log.info("a kernel is not measured on %s: %s", self.device.name, str(error).partition("\n")[0])
            return math.inf


def _microseconds(milliseconds: float) -> str:
    return f"{1000 * milliseconds:.1f} µs"
