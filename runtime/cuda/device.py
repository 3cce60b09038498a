"""A GPU of this process: its context, its streams of work, memory and transfers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from knetc.runtime import devices
from knetc.runtime.base.errors import CudaError, DeviceError, OutOfMemoryError
from knetc.runtime.buffers import Buffer, MemoryStats, address_of
from knetc.runtime.cuda.allocator import Allocator
from knetc.runtime.cuda.driver import CudaDriver, Driver
from knetc.runtime.cuda.transfers import BESIDE_BYTES, SMALL_STAGING_BYTES, Later, Marks, Staging, Uploads
from knetc.runtime.program import Cubin

LEAST_ARCH = 80
"""The oldest GPUs that code is generated for."""

Made = TypeVar("Made")


class GpuDevice:
    """One GPU, used by one thread at a time. Kernels go into one stream; ``transfers`` tells what goes beside them."""

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self.driver = driver
        self.ordinal = ordinal
        self.name = f"cuda:{ordinal}"
        self.properties = driver.open(ordinal)
        if self.properties.arch < LEAST_ARCH:
            raise DeviceError(
                f"{self.name} is a {self.properties.name} of compute capability {self.properties.arch / 10:.1f}; "
                f"generated code needs {LEAST_ARCH / 10:.1f} or newer: use another device, or device='cpu'"
            )
        self.lock = threading.RLock()
        self._alive = True
        self.marks = Marks(driver)
        with self.entered():
            self.stream = self.marks.stream = driver.stream()
        self._later = Later(driver, self.stream)
        self.memory = Allocator(self.name, self._allocate_region, self._free_region, self._memory, self.lock)
        self.memory.reclaimers.append(self._trim)
        self.allocate = self.memory.allocate
        self._arena = self.memory.wrap(0, 0, [])
        self._staging: Staging | None = None
        self._uploads: Uploads | None = None
        self._reading = 0
        """The stream of results that were ready before the work that was asked for last; 0 until there are any."""
        self._modules: dict[str, int] = {}
        self.blas: object | None = None
        """The matrix library on this device once it was asked for, or why it does not work there."""
        self._functions: dict[tuple[str, str, int], int] = {}

    @property
    def target(self) -> str:
        return f"cuda:sm_{self.properties.arch}"

    @contextmanager
    def entered(self) -> Iterator[Driver]:
        """Holds the device's lock, with the device current in this thread."""
        with self.lock:
            before = self.enter()
            try:
                yield self.driver
            finally:
                self.leave(before)

    def enter(self) -> int | None:
        """Makes the device current in this thread, whose caller holds its lock; ``leave`` wants what this returns."""
        if not self._alive:
            raise DeviceError(
                f"{self.name} was in use when this process was forked, and a GPU cannot be used on both sides of a "
                "fork: start processes with multiprocessing's 'spawn' method, or use the device in the child alone"
            )
        return self.driver.enter(self.ordinal)

    def leave(self, before: int | None) -> None:
        """The end of what ``enter`` began: what was asked for since is one entry more."""
        self.marks.entries += 1
        if before is not None:
            self.driver.leave(before)

    def after_fork(self) -> None:
        """In a child, which does not have the device."""
        self._alive = False
        self.lock = threading.RLock()
        self.memory.forget(self.lock)

    # --- memory

    def _allocate_region(self, size_bytes: int) -> int:
        with self.entered() as driver:
            return driver.allocate(size_bytes)

    def _free_region(self, address: int) -> None:
        with self.entered() as driver:
            driver.synchronize(self.stream)  # which waits for uploads
            driver.free(address)

    def make(self, what: str, call: Callable[[], Made]) -> Made:
        """What a call of the driver gives; when there is no memory for it, unused memory is given back first.

        Raises OutOfMemoryError, which says what was asked for.
        """
        try:
            return call()
        except MemoryError:
            self.gc()
        try:
            return call()
        except MemoryError as error:
            raise self.memory.out_of_memory(what) from error

    def _memory(self) -> tuple[int, int]:
        with self.entered() as driver:
            return driver.memory()

    def free_bytes(self) -> int:
        return self._memory()[0]

    @property
    def description(self) -> str:
        found = self.properties
        return (
            f"{found.name}, sm_{found.arch}, {found.memory_bytes / 1e9:.0f} GB, driver for CUDA "
            f"{found.driver_version // 1000}.{found.driver_version % 1000 // 10}"
        )

    def stats(self) -> MemoryStats:
        return self.memory.stats()

    def gc(self) -> int:
        self._settle()
        return self.memory.gc()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call something once the work that was asked for up to now is done; not at once, and without waiting."""
        self._settle()
        with self.entered():
            self._later.add(call)

    def _settle(self) -> None:
        """Do what waited for work that is done by now."""
        if self._later:
            with self.entered():
                due = self._later.due()
            for call in due:
                call()

    def arena(self, size_bytes: int) -> Buffer:
        """The memory for intermediate values that all programs share, at least of this size.

        It may be another buffer at the next call: programs look.
        """
        if size_bytes > self._arena.size_bytes:
            self._arena = self.allocate(size_bytes)
        return self._arena

    def _trim(self) -> None:
        """Lets the arena go; the next program that needs it gets another."""
        with self.lock:
            if self._alive:
                self._arena = self.memory.wrap(0, 0, [])

    def function(self, cubin: Cubin, code: bytes) -> int:
        """A kernel of a cubin, loaded at its first use; it stays loaded while the process lives."""
        key = (cubin.object, cubin.entry, cubin.shared_bytes)
        found = self._functions.get(key)
        if found is None:
            if cubin.shared_bytes > self.properties.shared_bytes:
                raise CudaError(
                    f"kernel {cubin.entry} wants {cubin.shared_bytes:,} bytes of shared memory; {self.name} "
                    f"({self.properties.name}) gives a block {self.properties.shared_bytes:,}"
                )
            with self.entered() as driver:
                module = self._modules.get(cubin.object)
                if module is None:
                    what = f"the {len(code):,} bytes of kernel {cubin.entry}"
                    module = self._modules[cubin.object] = self.make(what, lambda: driver.load(code))
                found = self._functions[key] = driver.function(module, cubin.entry, cubin.shared_bytes)
        return found

    # --- transfers

    def upload(self, array: np.ndarray[Any, Any]) -> Buffer:
        return self._from_host(address_of(array), array.nbytes) if array.nbytes else self.allocate(0)

    def _from_host(self, host: int, size_bytes: int) -> Buffer:
        """A buffer with a copy of the host's memory, which may be changed when this returns."""
        with self.entered() as driver:
            if size_bytes >= BESIDE_BYTES:
                if self._uploads is None:
                    what = partial(Uploads, driver, self.memory, self.marks)
                    self._uploads = self.make("pinned memory of the host", what)
                return self._uploads.upload(host, size_bytes)
            if self._staging is None:
                pinned = partial(Staging, driver, self.stream, SMALL_STAGING_BYTES)
                self._staging = self.make("pinned memory of the host", pinned)
            buffer = self.allocate(size_bytes)
            self._staging.write(driver, buffer.at, host, size_bytes)
            return buffer

    def read(self, buffer: Buffer, offset: int, into: np.ndarray[Any, Any]) -> None:
        """Waits for what the contents need, if that is known, else for all that was asked for."""
        self._settle()
        with self.entered() as driver:
            stream = self.stream
            if 0 <= buffer.ready < self.marks.entries:
                stream = self._reading = self._reading or driver.stream()
                driver.wait_event(stream, self.marks.behind(buffer.ready))
            if into.nbytes:
                driver.to_host(address_of(into), buffer.at + offset, into.nbytes, stream)
            driver.synchronize(stream)

    def copy(self, buffer: Buffer, offset: int, size_bytes: int) -> Buffer:
        if buffer.device == devices.CPU and size_bytes:
            return self._from_host(buffer.address + offset, size_bytes)
        result = self.allocate(size_bytes)
        if not size_bytes:
            return result
        if buffer.device == self.name:
            with self.entered() as driver:
                driver.copy(result.at, buffer.at + offset, size_bytes, self.stream)
            return result
        other = device(int(buffer.device.removeprefix("cuda:")))
        with other.entered() as driver:  # what is to be copied must be there; nobody updates in place what is held here
            there = driver.event()
            driver.record(there, other.stream)
        with self.entered() as driver:
            driver.wait_event(self.stream, there)
            driver.copy_from(result.at, self.ordinal, buffer.at + offset, other.ordinal, size_bytes, self.stream)
            copied = driver.event()
            driver.record(copied, self.stream)
        with other.entered() as driver:  # and stay there
            driver.wait_event(other.stream, copied)
            driver.free_event(copied)
            driver.free_event(there)
        return result

    def zeros(self, size_bytes: int) -> Buffer:
        buffer = self.allocate(size_bytes)
        if size_bytes:
            with self.entered() as driver:
                driver.fill(buffer.at, 0, size_bytes, self.stream)
        return buffer

    @contextmanager
    def in_stream(self, stream: int) -> Iterator[None]:
        """What is asked for inside comes behind the work that another library has put into a stream of this device, and
        before what it puts there afterwards."""
        with self.entered() as driver:
            driver.wait(self.stream, stream)
        try:
            yield
        finally:
            with self.entered() as driver:
                driver.wait(stream, self.stream)

    def synchronize(self) -> None:
        with self.entered() as driver:
            driver.synchronize(self.stream)
        self._settle()


_lock = threading.RLock()
_driver: Driver | None = None
_devices: dict[int, GpuDevice] = {}
_forked = False
"""Whether this process is the child of one that had the driver in use."""


def driver() -> Driver:
    """The driver of this process's GPUs; raises DeviceError, with what is missing, where there is none."""
    global _driver
    with _lock:
        if _forked:
            raise DeviceError(
                "the GPU's driver was in use when this process was forked, and it does not work on both sides of a "
                "fork: start processes with multiprocessing's 'spawn' method, or use the GPU in the child alone"
            )
        if _driver is None:
            _driver = CudaDriver()
        return _driver


def replace_driver(new: Driver | None) -> None:
    """Let another driver (a simulated one) stand for the machine's; None: the machine's own again.

    Devices opened before stay with the driver they have, but are no longer found by name.
    """
    global _driver, _forked
    with _lock:
        _driver, _forked = new, False
        _devices.clear()


def device(ordinal: int) -> GpuDevice:
    """The GPU of a number; raises DeviceError, with the reason, when it is not there."""
    found = _devices.get(ordinal)
    if found is not None:
        return found
    with _lock:
        found = _devices.get(ordinal)
        if found is None:
            count = driver().count()
            if ordinal >= count:
                there = (
                    "there is no GPU"
                    if not count
                    else f"there are cuda:0 to cuda:{count - 1}"
                    if count > 1
                    else ("there is cuda:0 alone")
                )
                raise DeviceError(f"there is no device cuda:{ordinal}: {there}, and 'cpu'")
            try:
                found = _devices[ordinal] = GpuDevice(driver(), ordinal)
            except MemoryError as error:
                raise OutOfMemoryError(
                    f"cuda:{ordinal} has no memory left for this process to begin with: {error}; see with nvidia-smi "
                    "who has it, or use another device"
                ) from error
            devices.remember(found)
        return found


def _after_fork() -> None:
    global _lock, _forked
    _lock = threading.RLock()
    _forked = _driver is not None
    for found in _devices.values():
        found.after_fork()


os.register_at_fork(after_in_child=_after_fork)
