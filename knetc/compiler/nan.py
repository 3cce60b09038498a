"""``kn.debug(nan_check=True)``: finding the operation that made a NaN.

After each run the outputs are looked at. If one has a NaN, the graph is run again by the interpreter, operation by
operation, up to the first value that has one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Node
from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import NanError
from knetc.runtime.buffers import Buffer
from knetc.runtime.program import Program


def check(
    graph: Graph, program: Program, inputs: Sequence[int], outputs: Sequence[Buffer], scalars: Sequence[Any]
) -> None:
    """Raise NanError, naming operation, line and kernel, if an output has a NaN.

    ``inputs`` are the addresses of the program's inputs, which the run must not have overwritten.
    """
    if not any(has_nan(view(buffer.address, node.type)) for buffer, node in zip(outputs, graph.outputs)):
        return
    addresses, numbers = iter(inputs), iter(scalars)
    values = [next(numbers) if node["scalar"] else view(next(addresses), node.type) for node in graph.inputs]
    for index, value in enumerate(values):
        if has_nan(np.asarray(value)):
            name = graph.input_names[index] if graph.input_names else f"number {index}"
            raise NanError(f"the result has NaN because the input {name} ({graph.inputs[index].type}) has")
    node = culprit(graph, values)
    if node is None:  # the kernels' rounding made it, the interpreter's did not
        raise NanError(f"the result of {program.entry} has NaN; its operations, run one by one, do not make it")
    line = str(node.lines[0]) if node.lines else "an unknown line"
    kernel = next((step.name for step in program.steps if line in step.lines), "")
    sources = ", ".join(str(source.type) for source in node.sources)
    raise NanError(
        f"{node.op.name}({sources}) made NaN from numbers{f', in kernel {kernel}' if kernel else ''}\n  at {line}"
    )


def culprit(graph: Graph, values: Sequence[Any]) -> Node | None:
    """The first value, in the graph's order, that has a NaN."""
    floats = [n for n in graph.nodes if n.op.name != "input" and not isinstance(n.type, tuple) and has_float(n.type)]
    low, high = 0, len(floats)
    while low < high:  # whether one of the first values has a NaN can only turn from no to yes
        middle = (low + high) // 2
        part = Graph(graph.inputs, tuple(floats[low : middle + 1]))
        if any(map(has_nan, interpret(part, values))):
            high = middle
        else:
            low = middle + 1
    return floats[low] if low < len(floats) else None


def has_float(type: TensorType) -> bool:
    return dtypes.is_float(type.dtype)


def has_nan(array: np.ndarray[Any, Any]) -> bool:
    """Whether a floating array has a NaN."""
    return dtypes.is_float(array.dtype) and bool(np.isnan(array).any())


def view(address: int, type: TensorType) -> np.ndarray[Any, Any]:
    """Memory as a NumPy array, which does not keep it alive."""
    if not type.size:
        return np.empty(type.shape, type.dtype)
    memory = (ctypes.c_char * type.size_bytes).from_address(address)
    return np.frombuffer(memory, type.dtype).reshape(type.shape)
