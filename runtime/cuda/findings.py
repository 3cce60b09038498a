"""What the checks of a program found, in memory that the kernels and the host share."""

from __future__ import annotations

import ctypes
from contextlib import suppress

from knetc.runtime.base.errors import KnetcError
from knetc.runtime.cuda.device import GpuDevice
from knetc.runtime.cuda.driver import Driver


class Findings:
    """What a program's checks found: for each one two int64, whether it failed and the offending value. They are in
    memory of the host, which kernels reach by themselves."""

    def __init__(self, device: GpuDevice, checks: int) -> None:
        self.size_bytes = 16 * checks
        self.address = device.driver.allocate_host(self.size_bytes)
        ctypes.memset(self.address, 0, self.size_bytes)
        self.found = (ctypes.c_int64 * (2 * checks)).from_address(self.address)
        self.event = device.driver.event()

    def mark(self, driver: Driver, stream: int) -> None:
        """Some checks have been put into the stream."""
        driver.record(self.event, stream)

    def look(self, driver: Driver) -> tuple[int, int] | None:
        """Wait until the checks before the last mark are done; returns 1 + the first that failed, and the value."""
        driver.await_event(self.event)
        found = self.found[:]
        if not any(found[::2]):
            return None
        ctypes.memset(self.address, 0, self.size_bytes)
        first = next(k for k, failed in enumerate(found[::2]) if failed)
        return first + 1, found[2 * first + 1]

    def forget(self, device: GpuDevice) -> None:
        """Nobody will look at what checks find that are under way."""
        with suppress(KnetcError):
            device.synchronize()
        ctypes.memset(self.address, 0, self.size_bytes)

    def release(self, device: GpuDevice) -> None:
        """Give the memory back, once no check can write to it."""
        device.synchronize()
        device.driver.free_event(self.event)
        device.driver.free_host(self.address)
