"""Making graphs: from recorded nodes, from functions (in tests), and from other graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from knetc.ir.control import may_raise, with_bodies
from knetc.ir.node import Graph, Node, topological
from knetc.ir.op import MARKS, OPS, Kind
from knetc.ir.record import Recorder, recorder, recording
from knetc.ir.types import TensorType
from knetc.runtime.base.errors import CheckError


def copy_node(builder: Recorder, node: Node, sources: tuple[Node, ...]) -> Node:
    """The same operation over other sources, in ``builder``, with the lines of ``node``."""
    builder.lines = node.lines
    return builder.make(node.op, sources, node.attributes)


def plain_copy(builder: Recorder, node: Node, sources: tuple[Node, ...]) -> Node:
    """A value without the marks of differentiation, neither its own nor those in the graphs that it holds."""
    if node.op.name in MARKS:
        return sources[0]
    builder.lines = node.lines
    return builder.make(node.op, sources, with_bodies(node, without_marks))


def without_marks(graph: Graph) -> Graph:
    """A graph without ``variable`` and ``by_rule`` nodes, which serve to take derivatives."""
    return rebuild(graph, lambda node, sources: plain_copy(recorder(), node, sources))


def input_node(builder: Recorder, index: int, type: TensorType, *, scalar: bool = False) -> Node:
    """The ``index``-th input of a graph that is being built."""
    return builder.make(OPS["input"], (), {"index": index, "type": type, "scalar": scalar})


def rebuild(
    graph: Graph,
    replace: Callable[[Node, tuple[Node, ...]], Node | None] = lambda node, sources: None,
    builder: Recorder | None = None,
) -> Graph:
    """A copy of ``graph`` in which some values are computed otherwise; inputs, updates, names and lines are kept.

    ``replace(node, sources)`` is called for each value that is no input, sources first, with its new sources. It
    returns a value of the same type made from them with the usual operators and functions, or None for the plain copy.
    Equal values become one node and what nothing uses is gone. ``builder`` is the recorder that makes the new nodes.
    """
    with recording(builder or Recorder()) as builder:
        new: dict[Node, Node] = {}
        for node in graph.nodes:
            sources = tuple([new[source] for source in node.sources])
            builder.lines = node.lines
            other = replace(node, sources) if node.op.name != "input" else None
            new[node] = copy_node(builder, node, sources) if other is None else other
    return with_values(graph, new)


def with_values(graph: Graph, new: Mapping[Node, Node]) -> Graph:
    """The graph with the same interface whose inputs, outputs and effects are what ``new`` gives for the old ones."""
    return Graph(
        inputs=tuple(new[node] for node in graph.inputs),
        outputs=tuple(new[node] for node in graph.outputs),
        effects=tuple(dict.fromkeys(new[node] for node in graph.effects)),
        updates=graph.updates,
        input_names=graph.input_names,
        output_names=graph.output_names,
    )


def graph_of(
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    *,
    effects: Iterable[Node] = (),
    updates: Mapping[int, int] | None = None,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
) -> Graph:
    """The graph that computes ``outputs`` from ``inputs``, cut out of recorded values.

    ``inputs`` may be any values; each becomes the ``input`` leaf of its position, and nothing behind it is looked at.
    Effects on the way to the outputs are kept even if they are not listed. ``variable`` and ``by_rule`` nodes,
    which serve to take derivatives, are left out. Raises CheckError if the outputs need a leaf from outside that is no
    input.
    """
    with recording(Recorder()) as builder:
        new: dict[Node, Node] = {}
        leaves = []
        for index, node in enumerate(inputs):
            scalar = node.op.name == "input" and bool(node["scalar"])
            leaf = input_node(builder, index, node.type, scalar=scalar)
            leaf.lines = node.lines
            leaves.append(leaf)
            new.setdefault(node, leaf)
        found = list(effects)
        for node in topological((*found, *outputs), inputs):
            if node in new:
                continue
            if node.op.kind is Kind.LEAF and node.op.reference is None:
                raise CheckError(f"{node!r} is needed, but is no input of the graph")
            if may_raise(node):
                found.append(node)
            new[node] = plain_copy(builder, node, tuple([new[source] for source in node.sources]))
    ordered = sorted(dict.fromkeys(found), key=lambda node: node.serial)
    return Graph(
        inputs=tuple(leaves),
        outputs=tuple(new[node] for node in outputs),
        effects=tuple(dict.fromkeys(new[node] for node in ordered)),
        updates=dict(updates or {}),
        input_names=tuple(input_names),
        output_names=tuple(output_names),
    )


def trace_function(f: Callable[..., Node | Sequence[Node]], *types: TensorType, names: Sequence[str] = ()) -> Graph:
    """The graph of a function over nodes, called once on fresh inputs of the given types.

    >>> graph = trace_function(lambda x, y: x + y, TensorType(f32, (3,)), TensorType(f32, (3,)))
    """
    with recording(Recorder()) as builder:
        inputs = [input_node(builder, index, type) for index, type in enumerate(types)]
        result = f(*inputs)
    outputs = [result] if isinstance(result, Node) else list(result)
    return graph_of(inputs, outputs, input_names=names)
