"""The meaning of graphs: each operation's NumPy reference, one node after the other.

This is the oracle for passes, generated code and gradients. It never computes users' results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from knetc.ir import control
from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind
from knetc.ir.types import TensorType
from knetc.runtime.base.errors import CheckError

Value = np.ndarray[Any, Any]


def interpret(graph: Graph, inputs: Sequence[Any]) -> list[Value]:
    """The graph's outputs for these inputs, as NumPy arrays.

    Inputs are arrays of just the declared dtype and shape, or Python scalars for inputs of shape (). Values are
    dropped after their last use. Raises CheckError for an input that does not fit, or when a reference disagrees with
    its operation's type rule; checks within the graph raise their own errors.

    >>> interpret(trace_function(lambda x: x + x, TensorType(f32, (2,))), [np.ones(2, np.float32)])
    [array([2., 2.], dtype=float32)]
    """
    if len(inputs) != len(graph.inputs):
        raise CheckError(f"the graph takes {len(graph.inputs)} inputs, not {len(inputs)}")
    values: dict[Node, Any] = {}
    for index, (node, value) in enumerate(zip(graph.inputs, inputs)):
        array = np.asarray(value, node.dtype) if isinstance(value, (bool, int, float)) else np.asarray(value)
        values[node] = _checked(array, node.type, f"input {index}")
    remaining = Counter(source for node in graph.nodes for source in node.sources)
    remaining.update((*graph.inputs, *graph.outputs))
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in values:
                values[node] = _apply(node, [values[source] for source in node.sources])
            for source in node.sources:
                remaining[source] -= 1
                if not remaining[source]:
                    del values[source]
    return [values[node] for node in graph.outputs]


def _apply(node: Node, sources: list[Any]) -> Any:
    """One operation's result."""
    if node.op.name == "group":
        return tuple(interpret(node["graph"], sources))
    if node.op.name == "item":
        return sources[0][node["index"]]
    if node.op.kind is Kind.CONTROL:
        results = control.evaluate(node, sources, interpret)
        return tuple(_checked(value, type, f"a result of {node!r}") for value, type in zip(results, node.type))
    if node.op.reference is None:
        raise CheckError(f"{node.op.name} has no reference in NumPy")
    return _checked(np.asarray(node.op.evaluate(*sources, **node.attributes)), node.type, f"the reference of {node!r}")


def _checked(value: Value, type: TensorType, name: str) -> Value:
    if value.dtype != type.dtype or value.shape != type.shape:
        raise CheckError(f"{name} is {TensorType(value.dtype, value.shape)} where {type} was expected")
    return value
