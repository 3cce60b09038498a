"""Copies between the host and a device beside its kernels.

Kernels are put into one queue (stream) of a device, small copies too. Large copies to the device go into a second one:
the next batch is on its way while a step runs. A result that was ready long ago is copied back by a third, without
waiting for what was asked for since.

Queues are ordered by marks (events) in the queue of kernels. Whatever works on a device enters it, one thread at a time
(``GpuDevice.entered``), and the entries that are complete are counted; a mark says how many were when it was put into
the queue. What must wait for the work of the first ``n`` entries waits for the first mark that has ``n`` or more.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable

from knetc.runtime.cuda.allocator import Allocator, DeviceBuffer, block_class
from knetc.runtime.cuda.driver import Driver

BESIDE_BYTES = 128 << 10
"""From this size on copies to the device go into a queue of their own; to order two queues takes longer for less."""

SMALL_STAGING_BYTES = 2 << 20
STAGING_BYTES = 32 << 20
"""Pinned memory of the host that copies to the device go through: of the small ones, and of those beside kernels."""

STAGING_PARTS = 4

MARKS = 16
"""Marks that are remembered; who looks for an older one takes a later one."""


class Marks:
    """Places in the queue of kernels that other queues can wait for."""

    def __init__(self, driver: Driver) -> None:
        self.stream = 0
        """Of the kernels."""
        self.entries = 0
        """How many entries into the device are complete."""
        self.programs = 0
        """How many of them ran a program."""
        self._driver = driver
        self._set: deque[tuple[int, int]] = deque()
        """Entries that were complete, and the event."""

    def mark(self, more: int = 0) -> int:
        """Put a mark into the queue, behind all entries that are complete and so many ``more``; returns its event."""
        event = self._set.popleft()[1] if len(self._set) == MARKS else self._driver.event()
        self._driver.record(event, self.stream)
        self._set.append((self.entries + more, event))
        return event

    def behind(self, entries: int) -> int:
        """The event of a mark that stands behind the work of so many entries; a new one if there is none."""
        for complete, event in self._set:
            if complete >= entries:
                return event
        return self.mark()


class Staging:
    """Pinned memory of the host that copies to the device go through, so that nobody waits for the device."""

    def __init__(self, driver: Driver, stream: int, size_bytes: int) -> None:
        self.stream = stream
        self.address = driver.allocate_host(size_bytes)
        self.part_bytes = size_bytes // STAGING_PARTS
        self.events = [driver.event() for _ in range(STAGING_PARTS)]
        self.part = 0
        self.used = 0

    def write(self, driver: Driver, address: int, host: int, size_bytes: int) -> None:
        """Copy host memory, which may be changed when this returns, to the device, in the staging's stream."""
        done = 0
        while done < size_bytes:
            if self.used == self.part_bytes:
                driver.record(self.events[self.part], self.stream)
                self.part = (self.part + 1) % STAGING_PARTS
                driver.await_event(self.events[self.part])  # at once if it was never recorded
                self.used = 0
            piece = min(size_bytes - done, self.part_bytes - self.used)
            place = self.address + self.part * self.part_bytes + self.used
            ctypes.memmove(place, host + done, piece)
            driver.to_device(address + done, place, piece, self.stream)
            done += piece
            self.used = min(self.part_bytes, -(-(self.used + piece) // 256) * 256)


class Uploads:
    """Large copies to the device, in a queue of their own.

    A block that kernels used may be overwritten only behind them. So blocks of uploads that die rest in lists of their
    own, and an upload takes one that died before the last program was asked for, which may be under way. There are as
    many blocks as two turns of a loop take.
    """

    def __init__(self, driver: Driver, memory: Allocator, marks: Marks) -> None:
        self._driver, self._memory, self._marks = driver, memory, marks
        self.stream = driver.stream()
        self.staging = Staging(driver, self.stream, STAGING_BYTES)
        self._done = driver.event()

    def upload(self, host: int, size_bytes: int) -> DeviceBuffer:
        """A buffer with a copy of the host's memory, which may be changed when this returns. Kernels that are asked for
        afterwards find it there; those that were asked for before do not wait for it."""
        driver, marks, memory = self._driver, self._marks, self._memory
        size = block_class(size_bytes)
        home = memory.uploads.setdefault(size, [])
        resting = memory.resting.setdefault(size, deque())
        if home:
            marks.behind(marks.entries)  # now: later more would stand before it
        while home:
            resting.append((marks.programs, marks.entries, home.pop()))
        if resting and resting[0][0] < marks.programs:
            _, entries, address = resting.popleft()
            buffer = memory.wrap(address, size_bytes, home)
        else:
            entries = marks.entries
            buffer = memory.allocate(size_bytes, home)
        driver.wait_event(self.stream, marks.behind(entries))
        self.staging.write(driver, buffer.at, host, size_bytes)
        driver.record(self._done, self.stream)
        driver.wait_event(marks.stream, self._done)
        return buffer


class Later:
    """What is done when the work that the device has now is over, without waiting for it."""

    def __init__(self, driver: Driver, stream: int) -> None:
        self._driver, self._stream = driver, stream
        self._events: list[int] = []
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, call: Callable[[], None]) -> None:
        event = self._events.pop() if self._events else self._driver.event()
        self._driver.record(event, self._stream)
        self._waiting.append((event, call))

    def due(self) -> list[Callable[[], None]]:
        """What can be done now; the caller does it."""
        found = []
        while self._waiting and self._driver.is_done(self._waiting[0][0]):
            event, call = self._waiting.popleft()
            self._events.append(event)
            found.append(call)
        return found
