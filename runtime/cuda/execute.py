"""Running GPU programs: parameters are packed once, and a call writes only what differs from the call before.

A program is a list of sections (``sections.py``). A section ends where Python must see memory: before and behind a host
call, and at loops and cases. Programs without any of these have one section, and a call returns without waiting for the
device.

Checks write what they find into memory of the host. A call goes on behind them without waiting: kernels follow no index
that is out of range. It waits, until the last check is done and no longer, before the first step that updates anything
in place, and before it returns: a call that fails changes nothing, and the device has work while the host looks.
"""

from __future__ import annotations

import ctypes
import operator
import struct
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, NoReturn

from knetc.runtime.base import errors
from knetc.runtime.base.errors import CacheError, KnetcError
from knetc.runtime.buffers import Buffer, allocate
from knetc.runtime.cpu.host_calls import HostCalls
from knetc.runtime.cuda import blas
from knetc.runtime.cuda.clock import Clock
from knetc.runtime.cuda.device import GpuDevice
from knetc.runtime.cuda.driver import Launch
from knetc.runtime.cuda.findings import Findings
from knetc.runtime.cuda.sections import GRAPH_FROM, KernelOperation, Moving, Operation, Place, Section, bounce_bytes
from knetc.runtime.program import GRID_ALIGNMENT, ArgumentRef, GridLaunch, LibraryCall, Program, Region, Slot, Step


@dataclass(frozen=True)
class HostStep:
    """A call of a Python function between sections."""

    number: int
    """Of the step."""
    step: Step


class Mark:
    """The end of some checks."""


class Look:
    """The place where what was found up to the last mark is read."""


@dataclass(frozen=True)
class Repeat:
    """A region: its test (of a ``while``), then its body."""

    region: Region
    test: list[Work]
    body: list[Work]


Work = Section | HostStep | Mark | Look | Repeat
"""What a program is made of."""


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
        self._updated = {k for k, spec in enumerate(program.buffers) if spec.update_of >= 0}
        self._values: list[Any] = [0] * (self._buffers + len(program.scalars))
        self._last: tuple[Any, ...] = ()
        """What the last call was given."""
        self._places: list[list[Place]] = [[] for _ in self._values]
        self._arena_places: list[tuple[Place, int]] = []
        self._arena = 0
        self._counters: list[int] = []
        self._owned: list[Buffer] = []
        self._clock = Clock([step.name for step in program.steps]) if program.timed else None
        self._findings: Findings | None = None
        self._long = sum(len(step.grids) for step in program.steps) >= GRAPH_FROM
        """Whether a mark behind it is worth its while, for who reads its results later."""
        with device.entered():
            if program.checks:
                self._findings = Findings(device, len(program.checks))
            self._work = self._arranged(objects, 0, len(program.steps), list(program.regions))
        self.entry = self._run
        weakref.finalize(self, _release, device, self._work, self._findings).atexit = False

    # --- making it ready

    def _arranged(self, objects: Mapping[str, bytes], begin: int, end: int, regions: list[Region]) -> list[Work]:
        """The steps from ``begin`` to ``end`` as sections and what stands between them; takes what it enters from
        ``regions``, which are in the order of their beginnings, outer ones first."""
        steps = self.program.steps
        work: list[Work] = [Section()]
        marked = False
        k = begin
        while k < end:
            region = regions[0] if regions and regions[0].begin == k else None
            step = steps[k]
            if marked and (region is not None or step.host >= 0 or self._updates(step)):
                work += [Look(), Section()]
                marked = False
            if region is not None:
                del regions[0]
                middle = region.test_end if region.kind == "while" else k
                test = self._arranged(objects, k, middle, regions)
                work += [Repeat(region, test, self._arranged(objects, middle, region.end, regions)), Section()]
                k = region.end
                continue
            k += 1
            if step.host >= 0:
                work += [HostStep(k - 1, step), Section()]
                continue
            section = work[-1]
            assert isinstance(section, Section)
            product = blas.operation(step.library[0], self.device) if step.library else None
            if product is not None:
                self._product(step, step.library[0], product, section)
            else:
                for grid in step.grids:
                    section.operations.append(self._kernel(step, grid, objects, section))
            section.steps += [k - 1] * (len(section.operations) - len(section.steps))
            if step.check >= 0 and (k == end or steps[k].check < 0):
                work += [Mark(), Section()]
                marked = True
        if marked:
            work.append(Look())
        return [part for part in work if not isinstance(part, Section) or part.operations]

    def _updates(self, step: Step) -> bool:
        """Whether a step works on memory that is updated in place."""
        return any(argument.kind == "buffer" and argument.index in self._updated for argument in step.arguments)

    def _kernel(self, step: Step, grid: GridLaunch, objects: Mapping[str, bytes], section: Section) -> Operation:
        cubin = self._cubins[grid.function]
        values: list[Any] = [0] * (len(cubin.parameters) - 1)
        for k, slot in enumerate(grid.slots):
            if slot.kind == "value":
                values[k] = slot.value
        place = len(grid.slots)
        if step.check >= 0:
            assert self._findings is not None
            values[place] = self._findings.address + 16 * step.check
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
            self._note(step, slot, Place(pack, launch.packed, launch.offsets[k], section, number))
        return KernelOperation(launch)

    def _product(self, step: Step, call: LibraryCall, product: blas.ProductOperation, section: Section) -> None:
        """A library's product in place of the step's kernels."""
        number = len(section.operations)
        section.operations.append(product)
        pack = struct.Struct("@Q").pack_into
        for k, argument in enumerate((call.a.argument, call.b.argument, call.c, call.bias, call.more)):
            if argument >= 0:
                self._note(step, Slot("argument", argument), Place(pack, product.packed, 8 * k, section, number))

    def _note(self, step: Step, slot: Slot, place: Place) -> None:
        """Remember where a slot's value must be written when it changes."""
        if slot.kind == "workspace":
            self._arena_places.append((place, step.workspace_offset + slot.value))
        elif slot.kind == "argument":
            argument = step.arguments[slot.value]
            if any(argument.strides) or argument.kind == "counter":
                size_bytes = bounce_bytes(argument.strides)
                known = (moving.bounce for moving in place.section.moving if moving.argument == argument)
                bounce = next(known, None) or (self.device.allocate(size_bytes) if size_bytes else None)
                place.section.moving.append(Moving(argument, place, bounce))
            elif argument.kind == "scalar":
                self._places[self._buffers + argument.index].append(place)
            elif argument.index < self._buffers:
                if argument.offset:
                    place = place._replace(pack=_behind(place.pack, argument.offset))
                self._places[argument.index].append(place)
            else:
                self._arena_places.append((place, self.program.buffers[argument.index].offset + argument.offset))

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
            before = device.enter()
            kept = None
            try:
                if values != self._last or 0 in values[self._buffers :]:  # 0.0 equals -0.0
                    kept = self._take(values)
                if self.program.arena_bytes:
                    self._settle_in(device.arena(self.program.arena_bytes).at)
                self._counters.clear()
                failure = self._perform(self._work)
                if self._clock is not None:
                    self._clock.runs += 1
                if self._long:
                    device.marks.mark(1)
            except BaseException as error:
                if self._findings is not None:  # checks may still be under way
                    self._findings.forget(device)
                if isinstance(error, MemoryError) and not isinstance(error, KnetcError):
                    raise device.memory.out_of_memory("launching a program") from error
                raise
            finally:
                device.marks.programs += 1
                device.leave(before)
            del kept
        return failure

    def _settle_in(self, arena: int) -> None:
        """Write where the intermediate values are, if that has changed."""
        if arena != self._arena:
            self._arena = arena
            for place, offset in self._arena_places:
                place.write(arena + offset)

    def _take(self, values: tuple[Any, ...]) -> Sequence[Buffer]:
        """Write what is given into the parameters where it differs from before; returns memory to hold for the call."""
        self._last = ()
        kept: list[Buffer] = []
        known, places = self._values, self._places
        for k, value in enumerate(values):
            if value != known[k] or not value:
                if k < self._buffers and value % GRID_ALIGNMENT:
                    kept.append(self._aligned(value, self.program.buffers[k].size_bytes))
                    value = kept[-1].at
                known[k] = None  # until it is written
                try:
                    for place in places[k]:
                        place.write(value)
                except struct.error as error:
                    raise OverflowError(f"{value} does not fit") from error
                known[k] = value
        if not kept:
            self._last = values
        return kept

    def _perform(self, work: Sequence[Work]) -> tuple[int, int] | None:
        """Do one thing after the other; returns what failed, and then the rest is not done."""
        driver, stream, clock = self.device.driver, self.device.stream, self._clock
        for part in work:
            if isinstance(part, Section):
                if part.moving:
                    part.run_at(driver, stream, self._argument, clock)
                else:
                    part.run(driver, stream, clock)
                continue
            if isinstance(part, Repeat):
                failure = self._case(part) if part.region.kind == "case" else self._loop(part)
            elif isinstance(part, HostStep):
                failure = self._call(part)
            else:
                assert self._findings is not None
                if isinstance(part, Mark):
                    self._findings.mark(driver, stream)
                    continue
                failure = self._findings.look(driver)
            if failure is not None:
                return failure
        return None

    def _case(self, part: Repeat) -> tuple[int, int] | None:
        chosen = self._read(part.region.condition, ctypes.c_int64()) == part.region.case
        return self._perform(part.body) if chosen else None

    def _loop(self, part: Repeat) -> tuple[int, int] | None:
        region, depth = part.region, len(self._counters)
        self._counters.append(0)
        for k in range(region.count) if region.kind == "loop" else count():
            self._counters[depth] = region.count - 1 - k if region.reverse else k
            failure = self._perform(part.test)
            if failure is None and region.kind == "while" and not self._read(region.condition, ctypes.c_bool()):
                break
            failure = self._perform(part.body) if failure is None else failure
            if failure is not None:
                return failure
        self._counters.pop()
        return None

    def _argument(self, argument: ArgumentRef) -> int:
        """Where an argument is now, among loops; or a counter's number."""
        counters = self._counters
        if argument.kind == "counter":
            return counters[argument.index]
        moved: int = sum(map(operator.mul, argument.strides, counters))
        return self._place(argument.index) + argument.offset + moved

    def _read(self, argument: ArgumentRef, into: Any) -> Any:
        """A number in the device's memory."""
        driver, stream = self.device.driver, self.device.stream
        driver.to_host(ctypes.addressof(into), self._argument(argument), ctypes.sizeof(into), stream)
        driver.synchronize(stream)
        return into.value

    def _aligned(self, address: int, size_bytes: int) -> Buffer:
        """A copy of an input at an odd place, where kernels can read it (nobody updates such a one)."""
        copy = self.device.allocate(size_bytes)
        if size_bytes:
            self.device.driver.copy(copy.at, address, size_bytes, self.device.stream)
        return copy

    def _call(self, part: HostStep) -> tuple[int, int] | None:
        """Bring a host call's arguments, call, and take its result back."""
        assert self._calls is not None
        index = part.step.host
        start = time.perf_counter()
        device, driver, stream = self.device, self.device.driver, self.device.stream
        places = [self._argument(reference) for reference in part.step.arguments]
        sizes = self.program.hosts[index].sizes_bytes()
        hosts = [allocate(size) for size in sizes]
        for host, place, size in list(zip(hosts, places, sizes))[:-1]:
            if size:
                driver.to_host(host.address, place, size, stream)
        driver.synchronize(stream)
        try:
            self._calls.run(index, [host.address for host in hosts])
        except BaseException as error:
            self._calls.raised[index] = error
            return 1 + len(self.program.checks) + index, 0
        device.enter()  # the function may have used another device
        if sizes[-1]:
            driver.to_device(places[-1], hosts[-1].address, sizes[-1], stream)
            driver.synchronize(stream)
        if self._clock is not None:
            self._clock.milliseconds[part.number] += 1e3 * (time.perf_counter() - start)
        return None

    def times(self) -> tuple[int, list[float]]:
        """How often the program has run, and the time of each step in all those runs in microseconds.

        Raises ValueError for a program that is not ``timed``.
        """
        if self._clock is None:
            raise ValueError("this program does not measure its time: it was built without KNETC_DEBUG")
        return self._clock.runs, [1e3 * found for found in self._clock.milliseconds]

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


def _behind(pack: Callable[..., None], offset: int) -> Callable[..., None]:
    """``pack`` for addresses so many bytes behind those that it is given."""
    return lambda memory, at, address: pack(memory, at, address + offset)


def _release(device: GpuDevice, work: Sequence[Work], findings: Findings | None) -> None:
    """Give back what a program that goes had from the driver."""
    left = list(work)
    with suppress(KnetcError), device.entered() as driver:
        if findings is not None:
            findings.release(device)
        while left:
            part = left.pop()
            if isinstance(part, Repeat):
                left += [*part.test, *part.body]
            elif isinstance(part, Section):
                part.free(driver)


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
