"""Lazy evaluation's way into the compiler: pending graphs become programs."""

from __future__ import annotations

from collections.abc import Sequence

from knetc import lazy
from knetc.compiler import pipeline
from knetc.ir.node import Graph
from knetc.lazy import Argument, Storage
from knetc.runtime.buffers import Buffer, allocate


def run(graph: Graph, arguments: Sequence[Argument]) -> list[Buffer]:
    """Run a pending graph on memory and numbers, one for each input; a fresh buffer for each output.

    Graphs that compute the same share a program (``pipeline.build`` keeps them by what they compute).
    """
    executable = pipeline.build(graph)
    addresses = [argument.address for argument in arguments if isinstance(argument, Storage)]
    scalars = [argument for argument in arguments if not isinstance(argument, Storage)]
    outputs = [allocate(spec.size_bytes) for spec in executable.program.outputs]
    executable.run(addresses, [buffer.address for buffer in outputs], scalars)
    return outputs


lazy.executor.run = run  # type: ignore[method-assign]
