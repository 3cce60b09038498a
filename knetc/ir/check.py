"""The compiler's check of its own graphs, run after each pass (always, in the tests)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from knetc.ir.control import bodies, may_raise
from knetc.ir.node import Graph, Node, node_key
from knetc.ir.op import OPS, Kind
from knetc.runtime.base.errors import CheckError, KnetcError


class Stage(NamedTuple):
    """Which kinds of operations may occur after a pass: in the graph, and in the graphs of its groups."""

    outside: frozenset[Kind]
    inside: frozenset[Kind]


_PLAIN = frozenset(Kind) - {Kind.GROUP}
STAGES: Mapping[str, Stage] = {
    "trace": Stage(_PLAIN, frozenset()),
    "grad": Stage(_PLAIN, frozenset()),
    "simplify": Stage(_PLAIN, frozenset()),
    "fuse": Stage(frozenset(Kind), _PLAIN - {Kind.EFFECT, Kind.CONTROL, Kind.ITEM}),
}


def check(graph: Graph, stage: str = "trace") -> Graph:
    """The graph itself, if it is in order; raises CheckError, naming the value and the user's lines, if not.

    Types are inferred again by each operation's own rule; sources come before users; inputs are numbered by their
    position; elementwise operations have equal shapes; values are interned; effects are listed; updates fit their
    inputs; only the kinds of operations that belong to the stage (``trace grad simplify fuse``) occur. The graphs of
    loops and branches are checked alike.
    """
    allowed = STAGES[stage]
    graphs = [graph]
    while graphs:  # a graph, and those of its loops and branches
        current = graphs.pop()
        _check(current, allowed.outside)
        for node in current.nodes:
            if node.op.name == "group":
                _check(node["graph"], allowed.inside)
            graphs.extend(bodies(node))
    return graph


def _fail(node: Node, message: str) -> NoReturn:
    lines = ", ".join(map(str, node.lines))
    raise CheckError(f"{node!r}: {message}" + (f"\n  at {lines}" if lines else ""))


def _check(graph: Graph, kinds: frozenset[Kind]) -> None:
    _check_interface(graph)
    inputs = set(graph.inputs)
    effects = set(graph.effects)
    keys: dict[object, Node] = {}
    done: set[Node] = set()
    for node in graph.nodes:
        if any(source not in done for source in node.sources):
            _fail(node, "it is used by one of its own sources")
        done.add(node)
        if OPS.get(node.op.name, node.op) is not node.op:
            _fail(node, "its operation is not the one registered by that name")
        if node.op.kind not in kinds:
            _fail(node, f"an operation of kind {node.op.kind.value} does not occur at this stage")
        if node.op.name == "input" and node not in inputs:
            _fail(node, "it is an input that the graph does not list")
        if may_raise(node) and node not in effects:
            _fail(node, "it is an effect that the graph does not list")
        _check_types(node)
        other = keys.setdefault(node_key(node.op, node.sources, node.attributes, node.type), node)
        if other is not node:
            _fail(node, f"it is the same as {other!r}, and should be that node")


def _check_types(node: Node) -> None:
    op, sources = node.op, node.sources
    if op.kind in (Kind.ELEMENTWISE, Kind.SCAN):
        if op.arity >= 0 and len(sources) != op.arity:
            _fail(node, f"it has {len(sources)} sources instead of {op.arity}")
        if any(source.shape != node.shape for source in sources):
            _fail(node, f"its sources have shapes {', '.join(str(source.shape) for source in sources)}")
    try:
        inferred = op.infer(*[source.type for source in sources], **node.attributes)
    except (KnetcError, TypeError) as error:
        _fail(node, f"its type rule refuses it: {error}")
    if inferred != node.type:
        _fail(node, f"its type rule says {inferred}")


def _check_interface(graph: Graph) -> None:
    for position, node in enumerate(graph.inputs):
        if node.op.name != "input" or node["index"] != position:
            _fail(node, f"input {position} of the graph is not the leaf of that number")
        if node["scalar"] and node.shape != ():
            _fail(node, "an input passed by value has shape ()")
    if len(graph.input_names) not in (0, len(graph.inputs)):
        raise CheckError(f"{len(graph.inputs)} inputs have {len(graph.input_names)} names")
    if len(graph.output_names) not in (0, len(graph.outputs)):
        raise CheckError(f"{len(graph.outputs)} outputs have {len(graph.output_names)} names")
    for position, updated in graph.updates.items():
        if not 0 <= position < len(graph.outputs) or not 0 <= updated < len(graph.inputs):
            raise CheckError(f"the update of input {updated} by output {position} names one that does not exist")
        if graph.outputs[position].type != graph.inputs[updated].type:
            _fail(graph.outputs[position], f"it updates an input of type {graph.inputs[updated].type}")
    if len(set(graph.updates.values())) != len(graph.updates):
        raise CheckError(f"an input is updated twice: {dict(graph.updates)}")
    for node in graph.effects:
        if not may_raise(node):
            _fail(node, "it is listed as an effect, and is none")
