"""Lazy evaluation's way into the compiler: pending graphs become programs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from knetc import lazy
from knetc.compiler import pipeline
from knetc.cut import Argument, Cut, movable
from knetc.lazy import Storage
from knetc.runtime import devices
from knetc.runtime.buffers import Buffer, allocate
from knetc.runtime.devices import CPU, Device

KEPT = 1024

_known: dict[Hashable, Any] = {}
"""Programs by the form of what was pending: for what comes again and again, no graph is even made."""


def run(cut: Cut) -> list[Buffer]:
    """Compute what is pending; a buffer for each output.

    An output that updates an input has the input's buffer, all others fresh ones. Graphs that compute the same share a
    program (``pipeline.build`` keeps them by what they compute).
    """
    device = None if cut.device == CPU else devices.device(cut.device)
    found, places = executable(cut, device)
    arguments = [*cut.arguments, *places]
    return _call(found, arguments) if device is None else _call_elsewhere(found, arguments, device)


def executable(cut: Cut, device: Device | None) -> tuple[Any, list[int]]:
    """The program that computes what is pending, and the places that it is given behind the other arguments."""
    form = (cut.device, pipeline.settings(device), cut.form)
    found = _known.get(form)
    places: list[int] = []
    if found is None:
        graph, places = movable(cut.graph())
        found = pipeline.build(graph, device)
        if not places:
            if len(_known) >= KEPT:
                del _known[next(iter(_known))]
            _known[form] = found
    return found, places


def _call(executable: Any, arguments: Sequence[Argument]) -> list[Buffer]:
    storages = [argument for argument in arguments if isinstance(argument, Storage)]
    scalars = [argument for argument in arguments if not isinstance(argument, Storage)]
    outputs = [
        allocate(spec.size_bytes) if spec.update_of < 0 else storages[spec.update_of].buffer
        for spec in executable.program.outputs
    ]
    executable.run([storage.address for storage in storages], [buffer.address for buffer in outputs], scalars)
    return outputs


def _call_elsewhere(executable: Any, arguments: Sequence[Argument], device: Device) -> list[Buffer]:
    """The same on a device with memory of its own; data from NumPy are copied there."""
    storages = [
        Storage(device.copy(argument.buffer, argument.offset, spec.size_bytes)) if argument.device is None else argument
        for argument, spec in zip((a for a in arguments if isinstance(a, Storage)), executable.program.inputs)
    ]
    scalars = [argument for argument in arguments if not isinstance(argument, Storage)]
    specs = executable.program.outputs
    outputs = [
        device.allocate(spec.size_bytes) if spec.update_of < 0 else storages[spec.update_of].buffer for spec in specs
    ]
    for buffer in outputs:
        buffer.ready = -1
    executable.run([storage.at for storage in storages], [buffer.at for buffer in outputs], scalars)
    for buffer, spec in zip(outputs, specs):
        if spec.update_of < 0:
            buffer.ready = device.marks.entries
    return outputs


lazy.executor.run = run  # type: ignore[method-assign]
