"""A GPU without one: memory shared with a process that interprets kernels, behind the runtime's ``Driver`` protocol.

Also ``run``: a graph as a GPU program, each of its buffers in memory of its own between red zones.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import mmap
import os
import pickle
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from knetc.codegen.triton.backend import build, parameter_format
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.source import header_of
from knetc.runtime.base import dtypes
from knetc.runtime.cpu.host_calls import HostCalls
from knetc.runtime.program import Cubin, Program, Step

from knetc.ir.node import Graph

ZONE = 1 << 12
"""Bytes of 0xFF, which as floats are NaN, before and behind each piece of memory."""

SIZE = 1 << 30


class Worker:
    """The interpreting process, and the memory shared with it."""

    def __init__(self) -> None:
        handle, self.path = tempfile.mkstemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        os.ftruncate(handle, SIZE)
        self.memory = mmap.mmap(handle, SIZE)
        os.close(handle)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        self.address = self.bytes.ctypes.data
        self.used = 0
        self.free: dict[int, list[int]] = {}
        self.sizes: dict[int, int] = {}
        self.known: set[str] = set()
        self.runs = 0
        program = Path(__file__).with_name("triton_worker.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        atexit.register(self.close)
        self.ask("share", self.path, SIZE, self.address)
        os.unlink(self.path)

    def close(self) -> None:
        self.process.kill()  # it holds nothing; and other children may keep the pipe to it open
        self.process.wait(10)

    def ask(self, *message: Any) -> None:
        """Send a message and wait; raises AssertionError with what went wrong there."""
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()
        answer = pickle.load(self.process.stdout)
        if answer:
            raise AssertionError(answer)

    def load(self, key: str, source: str) -> None:
        if key not in self.known:
            self.ask("load", key, source)
            self.known.add(key)

    def launch(self, key: str, grid: Sequence[int], packed: bytes) -> None:
        self.runs += 1
        self.ask("run", key, tuple(grid), packed, self.runs)

    # --- memory ------------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        """Memory between red zones, all of it 0xFF."""
        room = -(-(size + 2 * ZONE) // ZONE) * ZONE
        places = self.free.get(room)
        if places:
            place = places.pop()
        else:
            place, self.used = self.used, self.used + room
            if self.used > SIZE:
                raise MemoryError(f"the simulated device has no {size} bytes")
        self.bytes[place : place + room] = 0xFF
        address = self.address + place + ZONE
        self.sizes[address] = size
        return address

    def release(self, address: int) -> None:
        """Give memory back; raises AssertionError if something wrote beside it."""
        size = self.sizes.pop(address)
        room = -(-(size + 2 * ZONE) // ZONE) * ZONE
        place = address - self.address - ZONE
        whole = self.bytes[place : place + room]
        self.free.setdefault(room, []).append(place)
        assert (whole[:ZONE] == 0xFF).all() and (whole[ZONE + size :] == 0xFF).all(), "a kernel wrote beside its memory"

    def view(self, address: int, size: int) -> np.ndarray:
        place = address - self.address
        return self.bytes[place : place + size]


@functools.cache
def worker() -> Worker:
    return Worker()


def interpreted(name: str, source: str) -> tuple[Cubin, bytes]:
    """What stands for a compiled kernel: its source as the object."""
    header = header_of(source)
    code = source.encode()
    digest = hashlib.blake2b(code, digest_size=16).hexdigest()
    return Cubin(
        name, digest, header.entry, "sm_90", header.warps, 1, 0, parameter_format(header), 2, 0, 0, 0, 0, digest
    ), code


# --- programs step by step -------------------------------------------------------------------------------------------


def run(graph: Graph, inputs: Sequence[np.ndarray], target: str = "sm_90", **options: Any) -> list[np.ndarray]:
    """A graph's results, each of its buffers in memory of its own; scalars are given as arrays too."""
    _, program, objects = build(graph, GpuTarget("cuda", target), interpreted, **options)
    arrays = [a for a, n in zip(inputs, graph.inputs) if not n["scalar"]]
    scalars = [a.item() for a, n in zip(inputs, graph.inputs) if n["scalar"]]
    return execute(program, objects, arrays, scalars)


def execute(
    program: Program, objects: dict[str, bytes], inputs: Sequence[np.ndarray], scalars: Sequence[Any] = ()
) -> list[np.ndarray]:
    """Run a program step by step, each buffer between red zones."""
    device = worker()
    addresses = [device.allocate(spec.size_bytes) for spec in program.buffers]
    for address, array in zip(addresses, inputs):
        device.view(address, array.nbytes)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for address, spec in zip(addresses, program.buffers):
        if spec.update_of >= 0:
            device.view(address, spec.size_bytes)[:] = device.view(addresses[spec.update_of], spec.size_bytes)
    cubins = {cubin.function: cubin for cubin in program.cubins}
    calls = HostCalls(program)
    failure = device.allocate(16)
    device.view(failure, 16)[:] = 0
    for step in program.steps:
        space = device.allocate(step.workspace_bytes)
        if step.host >= 0:
            _host(calls, step, addresses)
        for grid in step.grids:
            cubin = cubins[grid.function]
            device.load(cubin.object, objects[cubin.object].decode())
            values: list[Any] = []
            for slot in grid.slots:
                reference = step.arguments[slot.value] if slot.kind == "argument" else None
                if reference is not None and reference.kind == "buffer":
                    values.append(addresses[reference.index] + reference.offset)
                elif reference is not None:
                    values.append(scalars[reference.index])
                else:
                    values.append(space + slot.value if slot.kind == "workspace" else slot.value)
            if step.check >= 0:
                values.append(failure)
            device.launch(cubin.object, grid.grid, struct.pack(cubin.parameters, *values, 0, 0))
        device.release(space)
        if step.check >= 0:
            failed, value = device.view(failure, 16).view(np.int64)
            if failed:
                raise CheckFailed(program.checks[step.check].message.replace("{value}", str(value)))
    results = []
    first = len(program.inputs)
    for address, spec in zip(addresses[first:], program.outputs):
        kind = dtypes.from_short_name(spec.dtype)
        results.append(device.view(address, spec.size_bytes).copy().view(kind).reshape(spec.shape))
    for address in (*addresses, failure):
        device.release(address)
    return results


class CheckFailed(Exception):
    """A check of a program found something."""


def _host(calls: HostCalls, step: Step, addresses: Sequence[int]) -> None:
    table = [addresses[reference.index] + reference.offset for reference in step.arguments]
    calls.run(step.host, table)
