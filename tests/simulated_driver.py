"""A driver whose device is simulated: memory that the interpreter's process shares, kernels run by the interpreter.

Whole programs run on it from the very bytes that a GPU would be given: addresses, packed parameters, graphs. Work is
put into queues, and done as late as it may: when it, or an event behind it, is waited for.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import simulated_gpu
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CudaError
from knetc.runtime.cuda import allocator, device
from knetc.runtime.cuda.driver import Driver, Launch, Properties

from knetc.compiler import pipeline, realize


@dataclass
class _Node:
    """A launch as a graph keeps it: its parameters are a copy."""

    function: int
    grid: tuple[int, ...]
    packed: bytes


@dataclass
class _Event:
    stream: int = 0
    recorded: int = 0
    """How often, and how many of these times the queue has come to it."""
    done: int = 0
    time: float = 0.0


@dataclass
class SimulatedDriver(Driver):
    """Devices that share their memory; what is asked for is done when it is waited for."""

    devices: int = 1
    launches: int = 0
    graph_launches: int = 0
    numbers: Any = field(default_factory=lambda: count(1))
    modules: dict[int, str] = field(default_factory=dict)
    functions: dict[int, str] = field(default_factory=dict)
    graphs: dict[int, list[_Node]] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)
    clock: float = 0.0
    """Milliseconds: only launches take time, as much as ``cost`` says for a kernel's source and grid."""
    cost: Callable[[str, tuple[int, ...]], float] = lambda source, grid: 0.0
    sources: dict[int, str] = field(default_factory=dict)
    events: dict[int, _Event] = field(default_factory=dict)
    queues: dict[int, deque[tuple[Callable[[], Any], _Event | None, int]]] = field(
        default_factory=lambda: defaultdict(deque)
    )
    """By stream: what is to be done, and which event must have come how often before."""

    def count(self) -> int:
        return self.devices

    def open(self, ordinal: int) -> Properties:
        return Properties("simulated", 90, 1 << 30, 4, 1 << 20, 13000)

    def enter(self, ordinal: int) -> None: ...
    def leave(self, before: int) -> None: ...
    def memory(self) -> tuple[int, int]:
        return 1 << 29, 1 << 30

    def allocate(self, size_bytes: int) -> int:
        return simulated_gpu.worker().allocate(size_bytes)

    def free(self, address: int) -> None:
        simulated_gpu.worker().release(address)

    def allocate_host(self, size_bytes: int) -> int:
        address = simulated_gpu.worker().allocate(size_bytes)
        self.pinned.add(address)
        return address

    def free_host(self, address: int) -> None:
        if address in self.pinned:  # not after the end
            self.pinned.remove(address)
            simulated_gpu.worker().release(address)

    def stream(self) -> int:
        return next(self.numbers)  # type: ignore[no-any-return]

    def _put(self, stream: int, work: Callable[[], Any], event: _Event | None = None) -> None:
        self.queues[stream].append((work, event, event.recorded if event is not None else 0))

    def _step(self, stream: int) -> None:
        work, event, times = self.queues[stream][0]
        while event is not None and event.done < times:
            self._step(event.stream)
        self.queues[stream].popleft()
        work()

    def synchronize(self, stream: int) -> None:
        while self.queues[stream]:
            self._step(stream)

    def wait(self, stream: int, other: int) -> None:
        event = self.event()
        self.record(event, other)
        self.wait_event(stream, event)
        self.free_event(event)

    def capturing(self, stream: int) -> bool:
        return False

    def event(self, timed: bool = False) -> int:
        number = next(self.numbers)
        self.events[number] = _Event()
        return number  # type: ignore[no-any-return]

    def record(self, event: int, stream: int) -> None:
        found = self.events[event]
        found.stream, found.recorded = stream, found.recorded + 1
        times = found.recorded

        def come() -> None:
            found.done, found.time = times, self.clock

        self._put(stream, come)

    def wait_event(self, stream: int, event: int) -> None:
        self._put(stream, lambda: None, self.events[event])

    def is_done(self, event: int) -> bool:
        found = self.events[event]
        return found.done == found.recorded

    def await_event(self, event: int) -> None:
        found = self.events[event]
        while found.done < found.recorded:
            self._step(found.stream)

    def milliseconds(self, start: int, end: int) -> float:
        return self.events[end].time - self.events[start].time

    def free_event(self, event: int) -> None:
        del self.events[event]

    def _inside(self, address: int, size_bytes: int) -> None:
        sizes = simulated_gpu.worker().sizes
        if not any(start <= address and address + size_bytes <= start + size for start, size in sizes.items()):
            raise CudaError(f"{size_bytes} bytes at {address:#x} are not memory of the device")

    def to_device(self, address: int, host: int, size_bytes: int, stream: int) -> None:
        given = None if host in self.staged(size_bytes) else ctypes.string_at(host, size_bytes)
        self._move(address, host, size_bytes, stream, (address,), given)

    def staged(self, size_bytes: int) -> Any:
        """Addresses of pinned memory, which is read when the copy is made; other memory is read at once."""
        sizes = simulated_gpu.worker().sizes
        return _Ranges([(start, start + sizes[start] - size_bytes) for start in self.pinned])

    def _move(
        self, to: int, source: int, size_bytes: int, stream: int, inside: tuple[int, ...], given: bytes | None = None
    ) -> None:
        for address in inside:
            self._inside(address, size_bytes)

        def move() -> None:
            for address in inside:
                self._inside(address, size_bytes)
            ctypes.memmove(to, source if given is None else given, size_bytes)

        self._put(stream, move)

    def to_host(self, host: int, address: int, size_bytes: int, stream: int) -> None:
        self._move(host, address, size_bytes, stream, (address,))

    def copy(self, to: int, address: int, size_bytes: int, stream: int) -> None:
        self._move(to, address, size_bytes, stream, (to, address))

    def copy_from(self, to: int, ordinal: int, address: int, source: int, size_bytes: int, stream: int) -> None:
        self.copy(to, address, size_bytes, stream)

    def fill(self, address: int, byte: int, size_bytes: int, stream: int) -> None:
        self._inside(address, size_bytes)
        self._put(stream, lambda: ctypes.memset(address, byte, size_bytes))

    def load(self, code: bytes) -> int:
        number = next(self.numbers)
        self.modules[number] = code.decode()
        return number

    def unload(self, module: int) -> None:
        del self.modules[module]

    def function(self, module: int, name: str, shared_bytes: int) -> int:
        source = self.modules[module]
        number = next(self.numbers)
        self.sources[number] = source
        self.functions[number] = key = f"{module} {number} {hash(source)}"
        simulated_gpu.worker().load(key, source)
        return number

    def _run(self, node: _Node) -> None:
        self.clock += self.cost(self.sources[node.function], node.grid)
        simulated_gpu.worker().launch(self.functions[node.function], node.grid, node.packed)

    def launch(self, launch: Launch, stream: int) -> None:
        self._put(stream, partial(self._run, _node(launch)))
        self.launches += 1

    def graph(self) -> int:
        number = next(self.numbers)
        self.graphs[number] = []
        return number

    def free_graph(self, graph: int) -> None:
        del self.graphs[graph]

    def add_kernel(self, graph: int, after: int, launch: Launch) -> int:
        assert after == len(self.graphs[graph]), "nodes come one behind the other"
        self.graphs[graph].append(_node(launch))
        return len(self.graphs[graph])

    def add_graph(self, graph: int, after: int, inner: int) -> int:
        raise NotImplementedError

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        raise NotImplementedError

    def instantiate(self, graph: int) -> int:
        number = next(self.numbers)
        self.graphs[number] = list(self.graphs[graph])
        return number

    def update_kernel(self, ready: int, node: int, launch: Launch) -> None:
        self.graphs[ready][node - 1] = _node(launch)

    def update_graph(self, ready: int, node: int, inner: int) -> None:
        raise NotImplementedError

    def launch_graph(self, ready: int, stream: int) -> None:
        self.graph_launches += 1
        for node in self.graphs[ready]:
            self._put(stream, partial(self._run, node))
            self.launches += 1

    def free_ready(self, ready: int) -> None:
        del self.graphs[ready]


@dataclass
class _Ranges:
    parts: list[tuple[int, int]]

    def __contains__(self, address: int) -> bool:
        return any(start <= address <= end for start, end in self.parts)


def _node(launch: Launch) -> _Node:
    return _Node(launch.function, launch.grid, bytes(launch.packed))


@contextmanager
def simulated(devices: int = 1) -> Iterator[SimulatedDriver]:
    """A simulated GPU as ``cuda:0`` of this process; what wrote beside its memory is told at the end."""
    driver = SimulatedDriver(devices)
    device.replace_driver(driver)
    slab, allocator.SLAB_BYTES = allocator.SLAB_BYTES, 0  # red zones around each block
    kept = config.cache, config.cublas
    config.cache = config.cublas = False
    compiler = pipeline.gpu_compiler
    pipeline.gpu_compiler = lambda target: simulated_gpu.interpreted  # type: ignore[assignment]
    programs, forms = dict(pipeline._executables), dict(realize._known)
    try:
        yield driver
        for found in [device.device(k) for k in range(devices)]:
            found.gc()
    finally:
        for address in list(driver.pinned):
            driver.free_host(address)
        for known, before in ((pipeline._executables, programs), (realize._known, forms)):
            known.clear()  # type: ignore[attr-defined]
            known.update(before)  # type: ignore[attr-defined]
        pipeline.gpu_compiler = compiler
        allocator.SLAB_BYTES, (config.cache, config.cublas) = slab, kept
        device.replace_driver(None)


def numbers(x: Any) -> np.ndarray:
    """An array's numbers, wherever they are."""
    return np.array(x)
