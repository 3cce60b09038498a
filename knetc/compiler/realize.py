"""Lazy evaluation's way into the compiler: pending graphs become programs."""

from __future__ import annotations

from collections.abc import Sequence

from knetc import lazy
from knetc.compiler import pipeline
from knetc.ir.node import Graph
from knetc.lazy import Argument, Storage
from knetc.runtime.buffers import Buffer, allocate


def run(graph: Graph, arguments: Sequence[Argument]) -> list[Buffer]:
    """Run a pending graph on memory and numbers, one for each input; a buffer for each output.

    An output that updates an input has the input's buffer, all others fresh ones. Graphs that compute the same share a
    program (``pipeline.build`` keeps them by what they compute).
    """
    executable = pipeline.build(graph)
    storages = [argument for argument in arguments if isinstance(argument, Storage)]
    scalars = [argument for argument in arguments if not isinstance(argument, Storage)]
    outputs = [
        allocate(spec.size_bytes) if spec.update_of < 0 else storages[spec.update_of].buffer
        for spec in executable.program.outputs
    ]
    executable.run([storage.address for storage in storages], [buffer.address for buffer in outputs], scalars)
    return outputs


lazy.executor.run = run  # type: ignore[method-assign]
