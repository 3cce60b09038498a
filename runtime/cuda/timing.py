"""How long a program takes on a device, whatever its inputs hold: for choosing among programs that do the same."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from knetc.runtime.cuda.device import GpuDevice
from knetc.runtime.cuda.execute import Executable
from knetc.runtime.program import Program

ROUNDS = 5
"""Runs, of which the median counts; one more goes before them."""

FLUSH_BYTES = 256 << 20
"""Memory that is written before each run: more than a cache holds, and for so long that the run is in the queue before
it begins."""


def milliseconds(program: Program, objects: Mapping[str, bytes], device: GpuDevice) -> float:
    """The time of a run that finds nothing in the cache, its inputs being zeros and its scalars ones.

    Raises what making the program ready raises, OutOfMemoryError too.
    """
    executable = Executable(program, objects, device)
    buffers = [device.zeros(spec.size_bytes) for spec in (*program.inputs, *program.outputs)]
    inputs = [buffer.at for buffer in buffers[: len(program.inputs)]]
    outputs = [buffer.at for buffer in buffers[len(program.inputs) :]]
    flush = device.allocate(min(FLUSH_BYTES, device.free_bytes() // 4))
    found = []
    with device.entered() as driver:
        start, end = driver.event(timed=True), driver.event(timed=True)
        try:
            for _ in range(ROUNDS + 1):
                driver.fill(flush.at, 0, flush.size_bytes, device.stream)
                driver.record(start, device.stream)
                executable.run(inputs, outputs, [1] * len(program.scalars))
                driver.record(end, device.stream)
                driver.await_event(end)
                found.append(driver.milliseconds(start, end))
        finally:
            driver.free_event(start)
            driver.free_event(end)
    return statistics.median(found[1:])
