"""Numbers inside of loops and branches as further constants of these, so that other numbers are no other program."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from knetc.ir.build import input_node, plain_copy
from knetc.ir.canonical import is_lifted
from knetc.ir.control import bodies, may_raise, with_bodies
from knetc.ir.node import Graph, Node, constant_key
from knetc.ir.op import MARKS, OPS, Kind
from knetc.ir.record import Recorder
from knetc.ir.types import TensorType


class Number(NamedTuple):
    """A number of a dtype."""

    value: bool | int | float
    dtype: np.dtype

    @property
    def key(self) -> Hashable:
        return constant_key(self.value), self.dtype


def lifted(node: Node) -> tuple[list[Graph], list[Number]]:
    """The graphs of a loop or branch with further inputs, at the end, for their ordinary numbers; and these numbers.

    The marks of differentiation are gone.
    """
    graphs = [_lift_inner(graph) for graph in bodies(node)]
    numbers: dict[Hashable, Number] = {}
    for graph in graphs:
        for constant in _ordinary(graph):
            number = Number(constant["value"], constant.dtype)
            numbers.setdefault(number.key, number)
    found = list(numbers.values())
    return [_with_inputs(graph, found) for graph in graphs], found


def with_graphs(node: Node, graphs: Iterable[Hashable]) -> Mapping[str, Hashable]:
    """The attributes of a loop or branch with others in place of its graphs, in their order."""
    rest = iter(graphs)
    return with_bodies(node, lambda _: next(rest))


def _ordinary(graph: Graph) -> list[Node]:
    """The constants that a program is better given when it runs."""
    exponents = {s for node in graph.nodes if node.op.name == "power" for s in node.sources[1:]}
    return [node for node in graph.nodes if node not in exponents and is_lifted(node)]


def _with_inputs(graph: Graph, numbers: Sequence[Number]) -> Graph:
    """The graph with an input for each number, in place of the constant."""
    if not numbers:
        return graph
    builder = Recorder()
    new: dict[Node, Node] = {}
    for k, leaf in enumerate(graph.inputs):
        new[leaf] = input_node(builder, k, leaf.type, scalar=leaf["scalar"])
    count = len(graph.inputs)
    leaves = [input_node(builder, count + k, TensorType(n.dtype, ())) for k, n in enumerate(numbers)]
    places = {number.key: leaf for number, leaf in zip(numbers, leaves)}
    ordinary = set(_ordinary(graph))
    for node in graph.nodes:
        builder.lines = node.lines
        if node in ordinary:
            leaf = places[Number(node["value"], node.dtype).key]
            new[node] = builder.make(OPS["broadcast"], (leaf,), {"shape": node.shape}) if node.shape else leaf
        elif node not in new:
            new[node] = builder.make(node.op, tuple([new[source] for source in node.sources]), node.attributes)
    inputs = (*(new[leaf] for leaf in graph.inputs), *leaves)
    return Graph(inputs, tuple([new[n] for n in graph.outputs]), tuple([new[n] for n in graph.effects]))


def _lift_inner(graph: Graph) -> Graph:
    """The graph with the numbers of the loops and branches in it as constants of its own."""
    if not any(node.op.kind is Kind.CONTROL or node.op.name in MARKS for node in graph.nodes):
        return graph
    builder = Recorder()
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        sources = tuple([new[source] for source in node.sources])
        if node.op.kind is not Kind.CONTROL:
            new[node] = plain_copy(builder, node, sources)
            continue
        builder.lines = node.lines
        graphs, numbers = lifted(node)
        values = [{"value": number.value, "dtype": number.dtype, "shape": ()} for number in numbers]
        constants = [builder.make(OPS["constant"], (), value) for value in values]
        new[node] = builder.make(node.op, (*sources, *constants), with_graphs(node, graphs))
    effects = tuple(dict.fromkeys(made for made in new.values() if may_raise(made)))
    return Graph(tuple([new[n] for n in graph.inputs]), tuple([new[n] for n in graph.outputs]), effects, graph.updates)
