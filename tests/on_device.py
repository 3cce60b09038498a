"""Running a graph on a GPU, real or simulated, through the runtime: an executor for the table of operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from knetc.runtime import devices

from knetc.compiler import pipeline
from knetc.ir.node import Graph


def on_device(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A graph's outputs, computed by the GPU from copies of the inputs."""
    device = devices.device("cuda:0")
    program = pipeline.build(graph, device)
    pairs = list(zip(graph.inputs, arrays))
    inputs = [device.upload(np.array(x, order="C", copy=True)) for node, x in pairs if not node["scalar"]]
    scalars = [np.asarray(x).item() for node, x in pairs if node["scalar"]]
    specs = program.program.outputs
    outputs = [inputs[s.update_of] if s.update_of >= 0 else device.allocate(s.size_bytes) for s in specs]
    program.run([x.at for x in inputs], [y.at for y in outputs], scalars)
    results = [np.empty(node.shape, node.dtype) for node in graph.outputs]
    for buffer, result in zip(outputs, results):
        device.read(buffer, 0, result)
    return results
