"""A device's memory: blocks of size classes, cut from regions that the driver gives, kept for the next buffer.

Asking the driver for memory waits for the device. A buffer's block therefore goes to the list of its size class when
the buffer dies, and the next buffer of that class takes it. That needs no waiting: all kernels of a device are put into
one stream, so whatever still reads the block was asked for before anything that will write to it. What is copied to the
device beside the kernels has lists of its own (``transfers.py``).
"""

from __future__ import annotations

import contextlib
import gc as python_gc
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

from knetc.runtime.base.errors import OutOfMemoryError
from knetc.runtime.buffers import Buffer, ElsewhereError, MemoryStats, class_bytes

SMALLEST = 256
"""Blocks begin at multiples of this many bytes, which the driver's memory does."""
SLAB_BYTES = 2 << 20
"""Blocks of at most half of this are cut from regions of this size."""


def block_class(size_bytes: int) -> int:
    """The size of the block for ``size_bytes``.

    >>> block_class(0), block_class(600), block_class(1 << 20)
    (256, 768, 1048576)
    """
    return -(-class_bytes(max(size_bytes, 1)) // SMALLEST) * SMALLEST


class DeviceBuffer(Buffer):
    """Memory that the host cannot reach; each device has a subclass that says which one it is on."""

    __slots__ = ("at", "ready")

    at: int

    def __del__(self) -> None:
        self.home.append(self.at)

    @property
    def address(self) -> int:  # type: ignore[override]
        """What code for the CPU reads, which must not be given this memory."""
        raise ElsewhereError

    def __repr__(self) -> str:
        return f"<Buffer of {self.size_bytes} bytes at {self.at:#x} on {self.device}>"

    @property
    def __array_interface__(self) -> dict[str, Any]:
        raise TypeError(f"this memory is on {self.device}, where NumPy cannot see it")


class Allocator:
    """Gives out buffers of one device."""

    def __init__(
        self,
        name: str,
        allocate: Callable[[int], int],
        free: Callable[[int], None],
        memory: Callable[[], tuple[int, int]],
        lock: threading.RLock,
    ) -> None:
        """``allocate`` and ``free`` are the driver's; ``memory`` tells the device's free and total bytes; ``lock`` is
        the device's, which whoever asks for memory may hold already."""
        self.name = name
        self.kind: type[DeviceBuffer] = type("DeviceBuffer", (DeviceBuffer,), {"__slots__": (), "device": name})
        """The class of this device's buffers: which device it is costs them nothing."""
        self._allocate, self._free_region, self._memory = allocate, free, memory
        self._lock = lock
        self._free: dict[int, list[int]] = {}
        """Addresses of free blocks, by their size."""
        self._homes: dict[int, list[int]] = {}
        """The same lists by the size that was asked for."""
        self.uploads: dict[int, list[int]] = {}
        """Blocks, by their size, that were copied to beside the kernels: what copies there next must wait for who uses
        them; kernels may take them at once."""
        self.resting: dict[int, deque[tuple[int, int, int]]] = {}
        """The same once it was noticed that they died: how many programs and entries there were then, and the block."""
        self._regions: dict[int, tuple[int, int]] = {}
        """What the driver gave: address -> its bytes, size of the blocks in it."""
        self._held_bytes = self._peak_bytes = 0
        self.reclaimers: list[Callable[[], None]] = []
        """Called before memory is given back: those who hold buffers for later use let go what they can."""

    def home(self, size_bytes: int) -> list[int]:
        """The list of free addresses that buffers of this size come from and go to."""
        home = self._homes.get(size_bytes)
        if home is None:
            home = self._homes[size_bytes] = self._free.setdefault(block_class(size_bytes), [])
        return home

    def allocate(self, size_bytes: int, to: list[int] | None = None) -> DeviceBuffer:
        """A buffer of undefined contents, aligned to 256 bytes, whose block goes ``to`` another list in the end.

        Raises OutOfMemoryError, which says what was asked and what is held; all buffers stay usable.
        """
        home = self.home(size_bytes)
        try:
            address = home.pop()
        except IndexError:
            address = self._obtain(size_bytes, to is None)
        return self.wrap(address, size_bytes, home if to is None else to)

    def wrap(self, address: int, size_bytes: int, home: object) -> DeviceBuffer:
        """A buffer on memory of this device, which goes to ``home.append(address)`` in the end."""
        buffer = self.kind()
        buffer.at = address
        buffer.ready = -1
        buffer.size_bytes = size_bytes
        buffer.home = home  # type: ignore[assignment]
        return buffer

    def stats(self) -> MemoryStats:
        """How much memory is held and used."""
        with self._lock:
            return MemoryStats(self._held_bytes, self._held_bytes - self._free_bytes(), self._peak_bytes)

    def reset_peak(self) -> None:
        """Gives unused memory back, and counts the peak from here."""
        with self._lock:
            self.gc()
            self._peak_bytes = self._held_bytes

    def gc(self) -> int:
        """Gives unused memory back to the driver; returns how many bytes."""
        for reclaim in self.reclaimers:
            reclaim()
        with self._lock:
            for size, resting in self.resting.items():
                self.uploads[size].extend(block for _, _, block in resting)
                resting.clear()
            addresses = sorted(self._regions)
            unused: dict[int, list[int]] = {}
            for free in [*self._free.values(), *self.uploads.values()]:
                for _ in range(len(free)):
                    with contextlib.suppress(IndexError):  # another thread took it meanwhile
                        block = free.pop()
                        unused.setdefault(addresses[bisect_right(addresses, block) - 1], []).append(block)
            released = 0
            for region, blocks in unused.items():
                region_bytes, block_bytes = self._regions[region]
                if len(blocks) == region_bytes // block_bytes:
                    del self._regions[region]
                    self._free_region(region)
                    released += region_bytes
                else:
                    self._free[block_bytes].extend(blocks)
            self._held_bytes -= released
            return released

    def forget(self, lock: threading.RLock) -> None:
        """In a child process, which does not have the device: nothing is free any more, and nothing is given back."""
        self._lock = lock
        lists: tuple[dict[int, Any], ...] = self._free, self.uploads, self.resting
        for blocks in (blocks for free in lists for blocks in free.values()):
            blocks.clear()
        self._regions.clear()
        self._held_bytes = 0

    def _free_bytes(self) -> int:
        lists: tuple[dict[int, Any], ...] = self._free, self.uploads, self.resting
        return sum(size * len(blocks) for free in lists for size, blocks in list(free.items()))

    def _obtain(self, size_bytes: int, uploads: bool) -> int:
        """A block from the driver, when no free one is left; with ``uploads`` of those if there are any."""
        block_bytes = block_class(size_bytes)
        if uploads:
            with contextlib.suppress(KeyError, IndexError):
                return self.uploads[block_bytes].pop()
            with contextlib.suppress(KeyError, IndexError):
                return self.resting[block_bytes].pop()[2]
        region_bytes = block_bytes if block_bytes > SLAB_BYTES // 2 else SLAB_BYTES // block_bytes * block_bytes
        with self._lock:
            for last_resort in (self.gc, self._collect, None):
                try:
                    address = self._allocate(region_bytes)
                except MemoryError as error:
                    if last_resort is None:
                        raise self.out_of_memory(f"a buffer of {size_bytes:,} bytes") from error
                    last_resort()
                    continue
                self._regions[address] = (region_bytes, block_bytes)
                self._held_bytes += region_bytes
                self._peak_bytes = max(self._peak_bytes, self._held_bytes)
                self._free[block_bytes].extend(range(address + block_bytes, address + region_bytes, block_bytes))
                return address
        raise AssertionError("unreachable")

    def _collect(self) -> int:
        """Frees the buffers that only unreachable cycles of Python objects hold, then as ``gc``."""
        python_gc.collect()
        return self.gc()

    def out_of_memory(self, what: str) -> OutOfMemoryError:
        """What to raise where there is no memory for something."""
        free, total = self._memory()
        used = self._held_bytes - self._free_bytes()
        return OutOfMemoryError(
            f"no memory on {self.name} for {what}: this process has {used:,} bytes in use there and holds "
            f"{self._held_bytes:,}; of the device's {total:,} bytes {free:,} are free (other processes and libraries "
            "have the rest); drop arrays that are no longer needed, or use a smaller batch"
        )
