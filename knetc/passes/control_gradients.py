"""Gradients of loops and branches: other loops and branches.

The gradient of a scan is a scan in the other direction. What it needs of each iteration, the forward scan stores: the
loop is recorded once more with these values as further results, and ``simplify`` makes one of the two. Values that are
cheap to compute from stored ones are computed again. The gradient of a branch computes what it needs of the chosen
function anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from knetc.bodies import Body, Constants, finished
from knetc.inner import Inner
from knetc.ir.build import copy_node
from knetc.ir.control import BRANCH, SCAN, may_raise
from knetc.ir.group import items
from knetc.ir.node import Graph, Node, topological
from knetc.ir.op import Kind
from knetc.ir.record import Recorder, record, recording
from knetc.ops.apply import cast_node, constant, widened
from knetc.ops.arithmetic import add
from knetc.passes.domain import CHEAP
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DifferentiationError

Pullback = Callable[[Sequence[Node], Sequence[Node], Sequence[Node]], list[Node | None]]
"""``pullback(outputs, seeds, wrt)`` of ``knetc.passes.differentiate``."""


def contributions(node: Node, dys: Mapping[int, Node], wanted: Sequence[bool], pullback: Pullback) -> list[Node | None]:
    """What each source of a loop or branch receives when its results receive ``dys``, for those that are ``wanted``."""
    if node.op is SCAN:
        return _ScanGradient(node, dys, wanted, pullback).run() if node["length"] else _through(node, dys)
    if node.op is BRANCH:
        return _branch_gradient(node, dys, wanted, pullback)
    raise DifferentiationError(
        "a while_loop cannot be differentiated in reverse: how many iterations there are, and so what must be stored, "
        "is known only when it runs. Use kn.scan, or kn.fori_loop between Python ints (in a compiled function, ints "
        'that it is given are static if compile(static=("n",)) says so), with kn.where to stop early; or '
        "kn.stop_gradient"
    )


def _through(node: Node, dys: Mapping[int, Node]) -> list[Node | None]:
    """A loop of no iterations hands on what it begins with."""
    return [dys.get(k) if k < node["carries"] else None for k in range(len(node.sources))]


class _Derivative:
    """The gradients of some outputs of a graph, recorded apart: nodes that use those of the graph and the seeds."""

    def __init__(
        self, what: str, graph: Graph, outputs: Sequence[Node], wrt: Sequence[Node], pullback: Pullback
    ) -> None:
        scratch = Inner(what)
        with recording(scratch):
            self.seeds = [scratch.stand_in(output.type) for output in outputs]
            self.gradients = pullback(outputs, self.seeds, wrt)
        scratch.active = False
        if scratch.draws:
            raise DifferentiationError(f"a gradient inside of a {what} draws random numbers: draw them outside")
        self.own = {*graph.nodes, *scratch.interned.values()}
        self.found = [gradient for gradient in self.gradients if gradient is not None]
        self.outside = {s for node in self.own for s in node.sources if s not in self.own}
        self.outside.update(node for node in self.found if node not in self.own)

    def transplant(self, body: Body, known: Mapping[Node, Node]) -> list[Node | None]:
        """The gradients recorded in ``body``, where ``known`` says what stands for values of the graph and seeds.

        Checks are not made again, and values from outside become constants of the loop.
        """
        new = dict(known)
        for node in topological(self.found, (*known, *self.outside)):
            if node not in self.own:
                new[node] = body.inside(node)
            elif node not in new:
                body.lines = node.lines
                sources = tuple([new[source] for source in node.sources])
                new[node] = sources[0] if node.op.kind is Kind.EFFECT else body.make(node.op, sources, node.attributes)
        body.lines = ()
        return [None if gradient is None else new[gradient] for gradient in self.gradients]


def _reached(graph: Graph, starts: set[Node]) -> set[Node]:
    """The floating-point values of a graph that depend on ``starts`` through others."""
    reached = set(starts)
    for node in graph.nodes:
        if any(source in reached for source in node.sources) and _carries_gradient(node):
            reached.add(node)
    return reached


def _reaching(graph: Graph, ends: set[Node]) -> set[Node]:
    """The floating-point values of a graph that ``ends`` depend on through others."""
    reaching = set(ends)
    for node in reversed(graph.nodes):
        if node in reaching:
            reaching.update(source for source in node.sources if _carries_gradient(source))
    return reaching


def _carries_gradient(node: Node) -> bool:
    return node.op.kind is Kind.CONTROL or bool(dtypes.is_float(node.dtype))


class _ScanGradient:
    def __init__(self, node: Node, dys: Mapping[int, Node], wanted: Sequence[bool], pullback: Pullback) -> None:
        self.node = node
        self.dys = dys
        self.graph: Graph = node["body"]
        self.count, self.arrays = int(node["carries"]), int(node["arrays"])
        _, *self.leaves = self.graph.inputs
        self.choose(wanted)
        outputs = [self.graph.outputs[k] for k in self.seeded]
        self.derivative = _Derivative("scan", self.graph, outputs, [self.leaves[k] for k in self.wrt], pullback)
        self.saved: dict[Node, None] = {}
        """What the forward scan stores of each iteration."""
        self.order = topological(self.derivative.found, self.derivative.outside)

    def choose(self, wanted: Sequence[bool]) -> None:
        """Which results have a seed, and by which of the body's inputs it is differentiated.

        A carry takes part if what is wanted reaches it in some iteration, and it reaches what has a derivative.
        """
        graph, leaves, count = self.graph, self.leaves, self.count
        active = {leaf for leaf, want in zip(leaves, wanted) if want}
        live = {graph.outputs[k] for k in self.dys}
        while True:
            reached, reaching = _reached(graph, active), _reaching(graph, live)
            grown = active | {leaves[k] for k in range(count) if graph.outputs[k] in reached}
            lived = live | {graph.outputs[k] for k in range(count) if leaves[k] in reaching}
            if len(grown) == len(active) and len(lived) == len(live):
                break
            active, live = grown, lived
        self.carried = [k for k in range(count) if leaves[k] in active and graph.outputs[k] in live]
        results = [k for k in sorted(self.dys) if k >= count and graph.outputs[k] in reached]
        self.seeded = [*self.carried, *results]
        others = [k for k in range(count, len(leaves)) if wanted[k] and leaves[k] in reaching]
        self.wrt = [*self.carried, *others]

    # --- what is stored

    def save(self) -> None:
        """Decide for each value that the gradient needs whether it is stored or computed again."""
        derivative = self.derivative
        seeded = set(derivative.seeds)
        foreign: set[Node] = set()
        needed: dict[Node, None] = {}
        for node in self.order:
            if node not in derivative.own:
                foreign.add(node)
            elif any(source in seeded for source in node.sources):
                seeded.add(node)
                needed.update(dict.fromkeys(s for s in node.sources if s not in seeded))
            elif any(source in foreign for source in node.sources):
                foreign.add(node)  # the forward scan does not know what this is made of
        needed.update(dict.fromkeys(g for g in derivative.gradients if g is not None and g not in seeded))
        stack = list(needed)
        frontier: dict[Node, None] = {}
        while stack:  # through what cannot be stored
            node = stack.pop()
            if node in foreign and node in derivative.own:
                stack.extend(node.sources)
            elif node in derivative.own:
                frontier[node] = None
        for node in frontier:
            if not self.is_cheap(node):
                self.store(node)
        for node in frontier:
            if self.is_cheap(node) and node not in self.saved:
                self.compute_or_store(node)

    def store(self, node: Node) -> None:
        if node not in self.graph.inputs or node in self.leaves[: self.count]:
            self.saved[node] = None

    def is_cheap(self, node: Node) -> bool:
        """Whether a value may be computed again: at little cost, or as it depends on nothing that changes."""
        if node.op.name == "input":
            return node not in self.leaves[: self.count]
        return (
            node.op.kind in (Kind.LEAF, Kind.MOVEMENT, Kind.EFFECT)
            or (node.op.kind is Kind.ELEMENTWISE and node.op.cost <= CHEAP)
            or node in self.invariant
        )

    @cached_property
    def invariant(self) -> set[Node]:
        """What is the same in all iterations."""
        found = set(self.leaves[self.count + self.arrays :])
        for node in self.order:
            made = node.op.kind is Kind.LEAF and node.op.name != "input"
            if made or (node.sources and all(source in found for source in node.sources)):
                found.add(node)
        return found

    def compute_or_store(self, node: Node) -> None:
        """Compute a cheap value again, unless storing what that needs takes more memory than storing the value."""
        made: dict[Node, None] = {}
        ends: dict[Node, None] = {}
        stack = [node]
        while stack:
            current = stack.pop()
            if current in made or current in ends or current in self.saved:
                continue
            if self.is_cheap(current):
                made[current] = None
                stack.extend(current.sources)
            else:
                ends[current] = None
        if sum(end.type.size_bytes for end in ends) > node.type.size_bytes and node.op.name != "input":
            self.store(node)
            return
        for end in ends:
            self.store(end)

    # --- the two scans

    def run(self) -> list[Node | None]:
        node, graph, length = self.node, self.graph, self.node["length"]
        found: list[Node | None] = [None] * len(node.sources)
        if not self.wrt:
            return found
        self.save()
        stored = list(self.saved)
        further = (node for node in topological(stored, graph.inputs) if may_raise(node))  # loops with their own stored
        effects = tuple(dict.fromkeys((*graph.effects, *further)))
        body_with_stored = _interned(graph.inputs, (*graph.outputs, *stored), effects)
        forward = record(SCAN, node.sources, {**node.attributes, "body": body_with_stored}) if stored else node
        residuals = items(forward)[len(graph.outputs) :] if stored else ()

        carried, count = self.carried, self.count
        sums = [k for k in self.wrt if k >= count + self.arrays]
        slices = [k for k in self.wrt if count <= k < count + self.arrays]
        dtype_of = {k: dtypes.accumulator(self.leaves[k].dtype) for k in sums}
        begin = [self.dys.get(k) or _zeros(self.leaves[k]) for k in carried]
        begin += [constant(0, dtype_of[k], self.leaves[k].shape) for k in sums]
        results = self.seeded[len(carried) :]
        read = range(count, count + self.arrays)
        arrays = [*(self.dys[k] for k in results), *(node.sources[k] for k in read), *residuals]
        types = [*(n.type for n in begin), *(a.type.with_shape(a.shape[1:]) for a in arrays)]

        body = Body("scan", types, Constants())
        given = iter(body.arguments)
        cotangents = [next(given) for _ in carried]
        totals = [next(given) for _ in sums]
        known: dict[Node, Node] = dict(zip(self.derivative.seeds, [*cotangents, *(next(given) for _ in results)]))
        known.update((self.leaves[k], next(given)) for k in read)
        known.update(zip(stored, given))
        counter = body.counter
        assert counter is not None
        known[graph.inputs[0]] = counter
        for leaf, source in zip(self.leaves[count + self.arrays :], node.sources[count + self.arrays :]):
            known[leaf] = body.inside(source)
        with body.recorded():
            made = dict(zip(self.wrt, self.derivative.transplant(body, known)))
            back = [made[k] or _zeros(self.leaves[k]) for k in carried]
            added = [add(total, widened(made[k] or _zeros(self.leaves[k]))) for k, total in zip(sums, totals)]
            sliced = [made[k] or _zeros(self.leaves[k]) for k in slices]
        [reverse_body] = finished((body,), ([*back, *added, *sliced],))
        attributes = {
            "body": reverse_body,
            "length": length,
            "reverse": not node["reverse"],
            "carries": len(begin),
            "arrays": len(arrays),
        }
        outcome = items(record(SCAN, (*begin, *arrays, *body.constants.sources), attributes))
        for k, value in zip([*carried, *sums, *slices], outcome):
            found[k] = cast_node(value, self.leaves[k].dtype)
        return found


def _interned(inputs: Sequence[Node], outputs: Sequence[Node], effects: Sequence[Node]) -> Graph:
    """A graph of values that were recorded apart, in which equal ones are one."""
    builder = Recorder()
    new = {leaf: leaf for leaf in inputs}
    for node in topological((*outputs, *effects), inputs):
        if node not in new:
            new[node] = copy_node(builder, node, tuple([new[source] for source in node.sources]))
    kept = dict.fromkeys(new[node] for node in effects)
    return Graph(tuple(inputs), tuple([new[node] for node in outputs]), tuple(kept))


def _zeros(node: Node) -> Node:
    return constant(0, node.dtype, node.shape)


def _branch_gradient(
    node: Node, dys: Mapping[int, Node], wanted: Sequence[bool], pullback: Pullback
) -> list[Node | None]:
    branches: Sequence[Graph] = node["branches"]
    places = [k for k, want in enumerate(wanted[1:]) if want]
    chosen = sorted(dys)
    constants = Constants()
    bodies: list[Body] = []
    columns: list[list[Node | None]] = []
    for graph in branches:
        wrt = [graph.inputs[k] for k in places]
        derivative = _Derivative("branch", graph, [graph.outputs[k] for k in chosen], wrt, pullback)
        body = Body("branch", (), constants, counted=False)
        known = dict(zip(graph.inputs, map(body.inside, node.sources[1:])))
        known.update(zip(derivative.seeds, map(body.inside, (dys[k] for k in chosen))))
        with body.recorded():
            columns.append(derivative.transplant(body, known))
        bodies.append(body)
    used = [k for k in range(len(places)) if any(column[k] is not None for column in columns)]
    outputs: list[list[Node]] = []
    for body, column in zip(bodies, columns):
        with body.recorded():
            outputs.append([column[k] or _zeros(node.sources[1 + places[k]]) for k in used])
    found: list[Node | None] = [None] * len(node.sources)
    if used:
        graphs = finished(bodies, outputs)
        made = items(record(BRANCH, (node.sources[0], *constants.sources), {"branches": graphs}))
        for k, value in zip(used, made):
            found[1 + places[k]] = value
    return found
