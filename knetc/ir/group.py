"""Fused groups: a node that holds a graph, and the nodes that take its results apart."""

from __future__ import annotations

from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind, Op, register
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.runtime.base.errors import CheckError


def _infer_group(*sources: TensorType, graph: Graph) -> tuple[TensorType, ...]:
    expected = tuple(node.type for node in graph.inputs)
    if sources != expected:
        raise CheckError(
            f"a group whose graph takes ({', '.join(map(str, expected))}) got ({', '.join(map(str, sources))})"
        )
    return tuple(node.type for node in graph.outputs)


GROUP = register(Op("group", Kind.GROUP, _infer_group, arity=-1))
"""The results of attribute ``graph`` for the sources as inputs: a tuple, even of one; ``item`` nodes take it apart."""


def _infer_item(results: tuple[TensorType, ...], *, index: int) -> TensorType:
    if not isinstance(results, tuple) or not 0 <= index < len(results):
        raise CheckError(f"item {index} of {results}, which is no tuple that long")
    return results[index]


ITEM = register(Op("item", Kind.ITEM, _infer_item))
"""One result of a group, a loop or a branch: attribute ``index`` says which."""


def group(graph: Graph, sources: tuple[Node, ...]) -> tuple[Node, ...]:
    """Apply a graph to values as one node; gives its results, each an ``item`` node."""
    return items(record(GROUP, sources, {"graph": graph}))


def items(node: Node) -> tuple[Node, ...]:
    """The results of a group, a loop or a branch, each an ``item`` node."""
    return tuple(record(ITEM, (node,), {"index": index}) for index in range(len(node.type)))
