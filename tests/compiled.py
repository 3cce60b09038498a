"""Running a graph as compiled code on NumPy arrays: the executor that tests compare with the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from knetc.codegen.cpu.backend import build, compile_plain
from knetc.codegen.cpu.native import Target, target
from knetc.runtime.base import dtypes
from knetc.runtime.cpu.machine import Executable

from knetc.ir.node import Graph


@cache
def _objects(level: str) -> dict[str, tuple[str, bytes]]:
    return {}


def executable(graph: Graph, *, level: str = "native", fused: bool = True, nan_check: bool = False) -> Executable:
    """The program of a graph as it is: no pass but fusion runs. Equal functions are compiled once a test session."""
    machine: Target = target(level)
    known, compile_function = _objects(level), compile_plain(machine)

    def remembered(name: str, text: str) -> tuple[str, bytes]:
        if text not in known:
            known[text] = compile_function(name, text)
        return known[text]

    _, program, objects = build(graph, machine, remembered, fused=fused, nan_check=nan_check)
    return Executable(program, objects)


def run(
    graph: Graph, arrays: Sequence[np.ndarray], *, level: str = "native", fused: bool = True, nan_check: bool = False
) -> list[np.ndarray]:
    """The graph's outputs, computed by native code from copies of the inputs."""
    program = executable(graph, level=level, fused=fused, nan_check=nan_check)
    pairs = list(zip(graph.inputs, arrays))
    inputs = [np.array(x, order="C", copy=True) for node, x in pairs if not node["scalar"]]
    scalars = [x.item() if isinstance(x, np.ndarray) else x for node, x in pairs if node["scalar"]]
    outputs = []
    for spec in program.program.outputs:
        shape, dtype = spec.shape, dtypes.from_short_name(spec.dtype)
        outputs.append(inputs[spec.update_of] if spec.update_of >= 0 else np.empty(shape, dtype))
    program.run([x.ctypes.data for x in inputs], [y.ctypes.data for y in outputs], scalars)
    return outputs
