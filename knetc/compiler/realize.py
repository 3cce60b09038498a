"""Lazy evaluation's way into the compiler: pending graphs become programs, kept by what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knetc import lazy
from knetc.compiler import nan, pipeline
from knetc.compiler.dispatch import Executable
from knetc.ir import canonical
from knetc.ir.ambient import ambient
from knetc.ir.node import Graph
from knetc.lazy import Argument, Storage
from knetc.runtime.buffers import Buffer, allocate

_programs: dict[str, Executable] = {}
"""Programs by the digest of what they compute; lazy evaluation calls one at a time, under ``lazy.LOCK``."""


def run(graph: Graph, arguments: Sequence[Argument]) -> list[Buffer]:
    """Run a pending graph on memory and numbers, one for each input; a fresh buffer for each output."""
    key = canonical.digest(graph)
    executable = _programs.get(key)
    if executable is None:
        executable = _programs[key] = pipeline.build(graph)
    addresses: list[int] = []
    scalars: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Storage):
            addresses.append(argument.address)
        else:
            scalars.append(argument)
    outputs = [allocate(spec.size_bytes) for spec in executable.program.outputs]
    failure = executable.entry(*addresses, *[buffer.address for buffer in outputs], *scalars)
    if failure is not None:
        executable.fail(failure)
    if ambient().nan_check:
        nan.check(graph, executable.program, addresses, outputs, scalars)
    return outputs


def clear() -> None:
    """Forget all programs of lazy evaluation."""
    _programs.clear()


lazy.executor.run = run  # type: ignore[method-assign]
