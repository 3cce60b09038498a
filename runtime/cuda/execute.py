"""Running GPU programs: parameters are packed once, and a call writes only what differs from the call before.

A program is a list of sections. A section is work that is put into the stream without looking at any result; the first
time launch by launch, afterwards as one graph whose nodes are given new parameters where an address or a number has
changed. A section ends where Python must see memory: before and behind a host call, and behind the last check. What the
checks found is read there, before anything is updated in place, so that a call that fails changes nothing. Programs
without checks and host calls have one section, and a call returns without waiting for the device.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from knetc.runtime.base import errors
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CacheError, KnetcError
from knetc.runtime.buffers import Buffer, allocate
from knetc.runtime.cpu.host_calls import HostCalls
from knetc.runtime.cuda.device import GpuDevice
from knetc.runtime.cuda.driver import Driver, Launch
from knetc.runtime.program import GRID_ALIGNMENT, GridLaunch, Program, Slot, Step

GRAPH_FROM = 3
"""A section of fewer operations is launched one by one: a graph would cost more than it saves."""


class Operation(Protocol):
    """One thing that a section puts into the stream; its parameters are written before."""

    def launch(self, driver: Driver, stream: int) -> None: ...
    def add(self, driver: Driver, graph: int, after: int) -> int:
        """Become a node of a graph; returns the node."""

    def update(self, driver: Driver, ready: int, node: int) -> None:
        """Give the node of a ready graph the parameters of now."""


class KernelOperation:
    """A launch of a generated kernel."""

    __slots__ = ("kernel",)

    def __init__(self, kernel: Launch) -> None:
        self.kernel = kernel

    def launch(self, driver: Driver, stream: int) -> None:
        driver.launch(self.kernel, stream)

    def add(self, driver: Driver, graph: int, after: int) -> int:
        return driver.add_kernel(graph, after, self.kernel)

    def update(self, driver: Driver, ready: int, node: int) -> None:
        driver.update_kernel(ready, node, self.kernel)


@dataclass
class Section:
    """Operations that are put into the stream one behind the other."""

    operations: list[Operation] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    """Operations whose parameters differ from those of their nodes."""
    nodes: list[int] = field(default_factory=list)
    ready: int = 0
    """The graph; 0 while there is none."""
    runs: int = 0

    def run(self, driver: Driver, stream: int) -> None:
        self.runs += 1
        if self.ready:
            for number in self.changed:
                self.operations[number].update(driver, self.ready, self.nodes[number])
        elif self.runs > 1 and config.cuda_graphs and len(self.operations) >= GRAPH_FROM:
            self.build(driver)
        self.changed.clear()
        if self.ready:
            driver.launch_graph(self.ready, stream)
        else:
            for operation in self.operations:
                operation.launch(driver, stream)

    def build(self, driver: Driver) -> None:
        """Make one graph of the operations, each behind the one before it."""
        graph = driver.graph()
        try:
            node = 0
            nodes = []
            for operation in self.operations:
                node = operation.add(driver, graph, node)
                nodes.append(node)
            self.ready, self.nodes = driver.instantiate(graph), nodes
        finally:
            driver.free_graph(graph)


@dataclass(frozen=True)
class HostStep:
    """A call of a Python function between sections."""

    index: int
    step: Step


class Pause:
    """The place where the checks' findings are read."""


Patch = tuple[Callable[..., None], Any, int, int, Section, int]
"""How a value gets into parameters: the packer, the memory, the place, what is added, and whose operation it is."""


class Executable:
    """A program that is loaded on a device and can be run there.

    ``objects`` holds the bytes of its kernels by digest. Raises CacheError when one is missing or the program is made
    for another device, OutOfMemoryError when there is no memory for it.

    ``entry`` is called as a CPU program's: with the addresses of all inputs, then of all outputs, then with the
    scalars. It returns None, or, when a check failed and nothing was updated, what ``fail`` turns into the exception.
    Work is asynchronous where nothing must be looked at; memory that the caller frees goes to later work of the same
    stream.
    """

    def __init__(self, program: Program, objects: Mapping[str, bytes], device: GpuDevice) -> None:
        if not runs_on(program.target, device.target):
            raise CacheError(f"the program is made for {program.target}; {device.name} is {device.target}")
        missing = [digest for digest in program.objects if digest not in objects]
        if missing:
            raise CacheError(f"the program's kernels {', '.join(missing)} are missing")
        self.program = program
        self.device = device
        self._calls = HostCalls(program) if program.hosts else None
        self._cubins = {cubin.function: cubin for cubin in program.cubins}
        self._buffers = len(program.inputs) + len(program.outputs)
        self._values: list[Any] = [0] * (self._buffers + len(program.scalars))
        self._patches: list[list[Patch]] = [[] for _ in self._values]
        self._arena_patches: list[Patch] = []
        self._arena = 0
        self._owned: list[Buffer] = []
        self._records = device.zeros(16 * len(program.checks)) if program.checks else None
        self._found = (ctypes.c_int64 * (2 * len(program.checks)))()
        with device.entered():
            self._work = self._sections(objects)
        self.entry = self._run

    # --- making it ready

    def _sections(self, objects: Mapping[str, bytes]) -> list[Section | HostStep | Pause]:
        steps = self.program.steps
        last_check = max((k for k, step in enumerate(steps) if step.check >= 0), default=-1)
        work: list[Section | HostStep | Pause] = [Section()]
        for k, step in enumerate(steps):
            if step.host >= 0:
                work += [HostStep(step.host, step), Section()]
                continue
            section = work[-1]
            assert isinstance(section, Section)
            for grid in step.grids:
                section.operations.append(self._kernel(step, grid, objects, section))
            if k == last_check:
                work += [Pause(), Section()]
        return [part for part in work if not isinstance(part, Section) or part.operations]

    def _kernel(self, step: Step, grid: GridLaunch, objects: Mapping[str, bytes], section: Section) -> Operation:
        cubin = self._cubins[grid.function]
        values: list[Any] = [0] * (len(cubin.parameters) - 1)
        for k, slot in enumerate(grid.slots):
            if slot.kind == "value":
                values[k] = slot.value
        place = len(grid.slots)
        if step.check >= 0:
            assert self._records is not None
            values[place] = self._records.at + 16 * step.check
            place += 1
        if place + cubin.hidden_parameters != len(values):
            raise CacheError(
                f"kernel {cubin.entry} takes {len(values)} parameters, but the program has {place} and "
                f"{cubin.hidden_parameters} hidden ones for it"
            )
        extents = (grid.grid[0] * cubin.num_ctas, *grid.grid[1:])
        if cubin.global_scratch_bytes:
            blocks = extents[0] * (extents[1] if len(extents) > 1 else 1) * (extents[2] if len(extents) > 2 else 1)
            scratch = self.device.allocate(blocks * cubin.global_scratch_bytes)
            self._owned.append(scratch)
            values[place] = scratch.at
        function = self.device.function(cubin, objects[cubin.object])
        launch = Launch(function, extents, 32 * cubin.num_warps, cubin.shared_bytes, cubin.parameters, values)
        number = len(section.operations)
        for k, slot in enumerate(grid.slots):
            pack = struct.Struct(f"@{cubin.parameters[k + 1]}").pack_into
            self._patch(step, slot, (pack, launch.packed, launch.offsets[k], section, number))
        return KernelOperation(launch)

    def _patch(self, step: Step, slot: Slot, where: tuple[Any, Any, int, Section, int]) -> None:
        """Note where a slot's value must be written when it changes."""
        pack, memory, offset, section, number = where
        if slot.kind == "workspace":
            self._arena_patches.append((pack, memory, offset, step.workspace_offset + slot.value, section, number))
        elif slot.kind == "argument":
            argument = step.arguments[slot.value]
            if argument.kind == "scalar":
                self._patches[self._buffers + argument.index].append((pack, memory, offset, 0, section, number))
            elif argument.index < self._buffers:
                self._patches[argument.index].append((pack, memory, offset, 0, section, number))
            else:
                place = self.program.buffers[argument.index].offset
                self._arena_patches.append((pack, memory, offset, place, section, number))

    # --- running

    def run(
        self, input_addresses: Sequence[int], output_addresses: Sequence[int], scalars: Sequence[int | float] = ()
    ) -> None:
        """Runs the program once; raises the error of the first check that fails, before anything is updated."""
        failure = self.entry(*input_addresses, *output_addresses, *scalars)
        if failure is not None:
            self.fail(failure)

    def _run(self, *values: Any) -> tuple[int, int] | None:
        device = self.device
        with device.lock:
            device.enter()
            kept = None
            for value in values[: self._buffers]:
                if value % GRID_ALIGNMENT:
                    values, kept = self._aligned(values)
                    break
            if self.program.arena_bytes:
                arena = device.arena(self.program.arena_bytes).at
                if arena != self._arena:
                    self._arena = arena
                    for patch in self._arena_patches:
                        _write(patch, arena)
            known, patches = self._values, self._patches
            for k, value in enumerate(values):
                if value != known[k] or not value:  # 0.0 equals -0.0
                    known[k] = value
                    for patch in patches[k]:
                        _write(patch, value)
            driver, stream = device.driver, device.stream
            for part in self._work:
                if isinstance(part, Section):
                    part.run(driver, stream)
                else:
                    failure = self._look(part)
                    if failure is not None:
                        return failure
            del kept
        return None

    def _aligned(self, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], Sequence[Buffer]]:
        """Inputs at odd places copied to where kernels can read them (nobody updates those)."""
        made = list(values)
        kept = []
        for k, spec in enumerate(self.program.inputs):
            if made[k] % GRID_ALIGNMENT:
                copy = self.device.allocate(spec.size_bytes)
                kept.append(copy)
                if spec.size_bytes:
                    self.device.driver.copy(copy.at, made[k], spec.size_bytes, self.device.stream)
                made[k] = copy.at
        return tuple(made), kept

    def _look(self, part: Section | HostStep | Pause) -> tuple[int, int] | None:
        """What stands between two sections: a host call, or a look at what the checks found."""
        if isinstance(part, HostStep):
            return self._call(part)
        assert self._records is not None
        driver, stream = self.device.driver, self.device.stream
        found = self._found
        driver.to_host(ctypes.addressof(found), self._records.at, ctypes.sizeof(found), stream)
        driver.synchronize(stream)
        if not any(found[::2]):
            return None
        driver.fill(self._records.at, 0, ctypes.sizeof(found), stream)
        first = next(k for k, failed in enumerate(found[::2]) if failed)
        return first + 1, found[2 * first + 1]

    def _call(self, part: HostStep) -> tuple[int, int] | None:
        """Bring a host call's arguments, call, and take its result back."""
        assert self._calls is not None
        device, driver, stream = self.device, self.device.driver, self.device.stream
        places = [self._place(reference.index) for reference in part.step.arguments]
        specs = [self.program.buffers[reference.index] for reference in part.step.arguments]
        hosts = [allocate(spec.size_bytes) for spec in specs]
        for host, place, spec in list(zip(hosts, places, specs))[:-1]:
            if spec.size_bytes:
                driver.to_host(host.address, place, spec.size_bytes, stream)
        driver.synchronize(stream)
        table = (ctypes.c_int64 * len(hosts))(*(host.address for host in hosts))
        try:
            self._calls.run(part.index, table)
        except BaseException as error:
            self._calls.raised[part.index] = error
            return 1 + len(self.program.checks) + part.index, 0
        device.enter()  # the function may have used another device
        if specs[-1].size_bytes:
            driver.to_device(places[-1], hosts[-1].address, specs[-1].size_bytes, stream)
            driver.synchronize(stream)
        return None

    def _place(self, index: int) -> int:
        """Where a buffer of the program lies in this call."""
        if index < self._buffers:
            address: int = self._values[index]
            return address
        return self._arena + self.program.buffers[index].offset

    def fail(self, failure: tuple[int, int]) -> NoReturn:
        """Raises the error that ``entry`` told of."""
        code, value = failure
        if self._calls is not None and code > len(self.program.checks):
            self._calls.fail(code - 1 - len(self.program.checks))
        check = self.program.checks[code - 1]
        kind = getattr(errors, check.error, None)
        message = check.message.replace("{value}", str(value)) + "".join(f"\n  at {line}" for line in check.lines)
        raise kind(message) if isinstance(kind, type) and issubclass(kind, KnetcError) else KnetcError(message)


def _write(patch: Patch, value: Any) -> None:
    pack, memory, offset, addend, section, number = patch
    pack(memory, offset, value + addend if addend else value)
    section.changed.add(number)


def runs_on(target: str, device: str) -> bool:
    """Whether code for a target runs on a device: ``cuda:sm_90`` is for 90, and what is for 80 also runs on 86 and 89.

    >>> runs_on("cuda:sm_80", "cuda:sm_86"), runs_on("cuda:sm_90", "cuda:sm_100")
    (True, False)
    """
    kind, _, arch = target.partition(":sm_")
    other, _, have = device.partition(":sm_")
    if kind != other or not (arch[:2].isdigit() and have.isdigit()):
        return False
    wanted, own = int(arch.rstrip("af")), int(have)
    return wanted == own or (wanted // 10 == own // 10 and wanted < own and wanted < 90)
