"""Tangents of loops and branches: a loop that also carries how its values change, a branch of the tangents."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from knetc.bodies import Body, Constants, finished
from knetc.ir.control import BRANCH, SCAN, WHILE
from knetc.ir.group import items
from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind
from knetc.ir.record import record, recorder
from knetc.ir.types import TensorType
from knetc.ops.apply import constant
from knetc.runtime.base import dtypes

Tangents = Callable[[Sequence[Node], dict[Node, Node]], list[Node | None]]
"""``tangents(outputs, directions)`` of ``knetc.passes.linearize``."""


def inlined(graph: Graph, inputs: Sequence[Node]) -> list[Node]:
    """The results of a graph for other inputs, recorded where code is recorded now; its checks too."""
    current = recorder()
    lines = current.lines
    new = dict(zip(graph.inputs, inputs))
    for node in graph.nodes:
        if node not in new:
            current.lines = node.lines
            new[node] = current.make(node.op, tuple([new[source] for source in node.sources]), node.attributes)
    current.lines = lines
    return [new[output] for output in graph.outputs]


def depending(graph: Graph, starts: set[Node], *, floats: bool) -> set[Node]:
    """The values of a graph that depend on ``starts``; with ``floats`` only through floating-point values."""
    found = set(starts)
    for node in graph.nodes:
        counts = not floats or node.op.kind is Kind.CONTROL or dtypes.is_float(node.dtype)
        if counts and any(source in found for source in node.sources):
            found.add(node)
    return found


def carried(graph: Graph, count: int, starts: set[Node], *, floats: bool) -> tuple[list[int], set[Node]]:
    """Which of a loop's carries depend on ``starts`` (inputs of its body) in some iteration, and all that does."""
    leaves = graph.inputs[1 : 1 + count]
    while True:
        found = depending(graph, starts, floats=floats)
        more = {leaf for leaf, output in zip(leaves, graph.outputs) if output in found} - starts
        if not more:
            return [k for k, leaf in enumerate(leaves) if leaf in starts], found
        starts = starts | more


def tangents_of(node: Node, moving: Sequence[Node | None], tangents: Tangents) -> list[Node | None]:
    """How the results of a loop or branch change when its sources change by ``moving``; None of those that do not."""
    if node.op is BRANCH:
        return _branch_tangents(node, moving, tangents)
    graph: Graph = node["body"]
    count, arrays = int(node["carries"]), int(node["arrays"]) if node.op is SCAN else 0
    leaves = graph.inputs[1:]
    starts = {leaf for leaf, tangent in zip(leaves, moving) if tangent is not None}
    places, reached = carried(graph, count, starts, floats=True)
    sliced = [k for k in range(count, count + arrays) if moving[k] is not None]
    results = [k for k in range(count, len(graph.outputs)) if graph.outputs[k] in reached]
    begin = [*node.sources[:count], *(moving[k] or _zeros(node.sources[k]) for k in places)]
    whole = [*node.sources[count : count + arrays], *(t for k in sliced if (t := moving[k]) is not None)]
    types = [*(n.type for n in begin), *(n.type.with_shape(n.shape[1:]) for n in whole)]
    constants = Constants()
    body = Body(node.op.name, types, constants)
    with body.recorded():
        assert body.counter is not None
        values, slices = body.arguments[:count], body.arguments[len(begin) : len(begin) + arrays]
        fixed = [body.inside(source) for source in node.sources[count + arrays :]]
        inputs = [body.counter, *values, *slices, *fixed]
        outputs = inlined(graph, inputs)
        directions = dict(zip([values[k] for k in places], body.arguments[count:]))
        directions |= dict(zip([slices[k - count] for k in sliced], body.arguments[len(begin) + arrays :]))
        directions |= {
            leaf: body.inside(tangent) for leaf, tangent in zip(fixed, moving[count + arrays :]) if tangent is not None
        }
        wanted = [outputs[k] for k in (*places, *results)]
        found = [tangent or _zeros(value) for value, tangent in zip(wanted, tangents(wanted, directions))]
    after, made = found[: len(places)], found[len(places) :]
    whole_outputs = [*outputs[:count], *after, *outputs[count:], *made]
    changed: dict[str, Hashable] = {"carries": len(begin)}
    if node.op is WHILE:
        test, going = _test(node["condition"], types, node.sources[count:], constants)
        changed["condition"], changed["body"] = finished((test, body), ([going], whole_outputs))
    else:
        [changed["body"]] = finished((body,), (whole_outputs,))
        changed["arrays"] = len(whole)
    parts = items(record(node.op, (*begin, *whole, *constants.sources), {**node.attributes, **changed}))
    answer: list[Node | None] = [None] * len(graph.outputs)
    for k, part in zip(places, parts[count:]):
        answer[k] = part
    for k, part in zip(results, parts[len(begin) + len(graph.outputs) - count :]):
        answer[k] = part
    return answer


def _test(graph: Graph, types: Sequence[TensorType], fixed: Sequence[Node], constants: Constants) -> tuple[Body, Node]:
    """A loop's condition for a loop that carries more: it looks at the first carries, as before."""
    test = Body("while_loop", types, constants)
    with test.recorded():
        assert test.counter is not None
        count = len(graph.inputs) - 1 - len(fixed)
        inputs = [test.counter, *test.arguments[:count], *(test.inside(source) for source in fixed)]
        [going] = inlined(graph, inputs)
    return test, going


def _branch_tangents(node: Node, moving: Sequence[Node | None], tangents: Tangents) -> list[Node | None]:
    """The tangents of the chosen results: another branch, since the first one is computed without them."""
    branches: Sequence[Graph] = node["branches"]
    operands, changes = node.sources[1:], moving[1:]
    constants = Constants()
    bodies: list[Body] = []
    columns: list[tuple[list[Node], list[Node | None]]] = []
    for graph in branches:
        body = Body("branch", (), constants, counted=False)
        with body.recorded():
            inputs = [body.inside(operand) for operand in operands]
            outputs = inlined(graph, inputs)
            directions = {x: body.inside(t) for x, t in zip(inputs, changes) if t is not None}
            columns.append((outputs, tangents(outputs, directions)))
        bodies.append(body)
    used = [k for k in range(len(node.type)) if any(found[k] is not None for _, found in columns)]
    results: list[list[Node]] = []
    for body, (outputs, found) in zip(bodies, columns):
        with body.recorded():
            results.append([found[k] or _zeros(outputs[k]) for k in used])
    answer: list[Node | None] = [None] * len(node.type)
    if used:
        graphs = finished(bodies, results)
        for k, part in zip(used, items(record(BRANCH, (node.sources[0], *constants.sources), {"branches": graphs}))):
            answer[k] = part
    return answer


def _zeros(node: Node) -> Node:
    return constant(0, node.dtype, node.shape)
