"""Loops and branches without what nothing needs: carries, results, slices and constants; and two scans made one.

Differentiation records a scan once more with what it stores as further results, and sums up gradients that may turn
out not to be asked for. Here the scans over the same values become one, and of each loop and branch only that is left
which reaches a result that is used, or a check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from knetc.ir.build import copy_node, input_node, with_values
from knetc.ir.canonical import digest
from knetc.ir.control import BRANCH, COUNTER, SCAN, bodies
from knetc.ir.group import items
from knetc.ir.node import Graph, Node, topological
from knetc.ir.op import Kind
from knetc.ir.record import Recorder, record, recording
from knetc.ir.types import TensorType
from knetc.ops.apply import constant
from knetc.passes.domain import is_inlined


def has_control(graph: Graph) -> bool:
    """Whether a graph has loops or branches."""
    return any(node.op.kind is Kind.CONTROL for node in graph.nodes)


# --- two scans over the same values ----------------------------------------------------------------------------------


def merged(graph: Graph) -> Graph:
    """The graph with scans over the same values that have the same carries made one, which has the results of all."""
    groups: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.nodes:
        if node.op is SCAN:
            fixed, constants = node.sources[: _fixed(node)], node.sources[_fixed(node) :]
            made = (source.serial for source in (*fixed, *constants) if source.op.kind is not Kind.LEAF)
            settings = (node["length"], node["reverse"], node["carries"], node["arrays"])
            groups.setdefault((*(s.serial for s in fixed), *settings, "constants", *made), []).append(node)
    same: dict[Node, _Union] = {}
    for scans in groups.values():
        alike: dict[str, list[tuple[Node, Graph]]] = {}
        every = list(dict.fromkeys(s for node in scans for s in node.sources[_fixed(node) :]))
        for node in scans if len(scans) > 1 else ():
            body = _with_constants(node, every)
            carried = Graph(body.inputs, body.outputs[: node["carries"]])
            alike.setdefault(digest(carried), []).append((node, body))
        for group in alike.values():
            if len(group) > 1:
                union = _Union([body for _, body in group], every, int(group[0][0]["carries"]))
                same.update((node, union) for node, _ in group)
                union.places.update({node: places for (node, _), places in zip(group, union.found)})
    if not same:
        return graph
    with recording(Recorder()) as builder:
        new: dict[Node, Node] = {}
        made_once: dict[int, Node] = {}
        for node in topological((*graph.inputs, *(s for u in same.values() for s in u.constants), *graph.nodes)):
            sources = tuple([new[source] for source in node.sources])
            builder.lines = node.lines
            if node in same:
                union = same[node]
                if id(union) not in made_once:
                    given = (*sources[: _fixed(node)], *(new[s] for s in union.constants))
                    made_once[id(union)] = record(SCAN, given, {**node.attributes, "body": union.body})
                new[node] = made_once[id(union)]
            elif node.op.kind is Kind.ITEM and node.sources[0] in same:
                index = same[node.sources[0]].places[node.sources[0]][node["index"]]
                new[node] = record(node.op, sources, {"index": index})
            else:
                new[node] = copy_node(builder, node, sources)
    return with_values(graph, new)


def _fixed(node: Node) -> int:
    """How many of a scan's sources are no constants."""
    return int(node["carries"]) + int(node["arrays"])


def _with_constants(node: Node, constants: Sequence[Node]) -> Graph:
    """A scan's body as one that is given all of ``constants``."""
    body: Graph = node["body"]
    first = 1 + _fixed(node)
    with recording(Recorder()) as builder:
        types = [*(leaf.type for leaf in body.inputs[:first]), *(source.type for source in constants)]
        leaves = [input_node(builder, k, type, scalar=k == 0) for k, type in enumerate(types)]
        known = dict(zip(body.inputs[:first], leaves))
        places = dict(zip(constants, leaves[first:]))
        known.update((leaf, places[s]) for leaf, s in zip(body.inputs[first:], node.sources[_fixed(node) :]))
        new = _copied(builder, body, known)
    effects = tuple([new[effect] for effect in body.effects])
    return Graph(tuple(leaves), tuple([new[output] for output in body.outputs]), effects)


class _Union:
    """One body for several with the same inputs and carries; ``found`` says where the results of each are."""

    def __init__(self, graphs: Sequence[Graph], constants: Sequence[Node], carries: int) -> None:
        self.constants = constants
        self.places: dict[Node, dict[int, int]] = {}
        """For each scan the places of its results."""
        self.found: list[dict[int, int]] = []
        with recording(Recorder()) as builder:
            inputs = graphs[0].inputs
            leaves = [input_node(builder, k, leaf.type, scalar=leaf["scalar"]) for k, leaf in enumerate(inputs)]
            outputs: list[Node] = []
            effects: dict[Node, None] = {}
            for graph in graphs:
                new = _copied(builder, graph, dict(zip(graph.inputs, leaves)))
                results = [new[node] for node in graph.outputs]
                outputs = outputs or results[:carries]
                effects.update(dict.fromkeys(new[node] for node in graph.effects))
                found = dict(enumerate(range(carries)))
                for k, node in enumerate(results[carries:], carries):
                    if node not in outputs[carries:]:
                        outputs.append(node)
                    found[k] = outputs.index(node, carries)
                self.found.append(found)
        self.body = Graph(tuple(leaves), tuple(outputs), tuple(effects))


def _copied(builder: Recorder, graph: Graph, known: Mapping[Node, Node]) -> dict[Node, Node]:
    """The values of a graph anew; those that are known stand for themselves."""
    new = dict(known)
    for node in topological((*graph.effects, *graph.outputs), known):
        if node not in new:
            new[node] = copy_node(builder, node, tuple([new[source] for source in node.sources]))
    return new


# --- what is needed --------------------------------------------------------------------------------------------------


@dataclass
class Need:
    """What is needed of a loop or branch: the places of its results, and of its sources."""

    results: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)


def _needs(graph: Graph, outputs: Iterable[Node]) -> tuple[set[Node], dict[Node, Need]]:
    """The values that ``outputs`` and the checks of a graph need, and what they need of loops and branches."""
    live = {*outputs, *graph.effects}
    used: dict[Node, set[int]] = {}
    needs: dict[Node, Need] = {}
    for node in reversed(graph.nodes):
        if node not in live:
            continue
        if node.op.kind is Kind.CONTROL:
            need = needs[node] = _need(node, used.get(node, set()))
            live.update(node.sources[k] for k in need.sources)
            continue
        if node.op.kind is Kind.ITEM:
            used.setdefault(node.sources[0], set()).add(node["index"])
        live.update(node.sources)
    return live, needs


def _need(node: Node, used: set[int]) -> Need:
    if node.op is BRANCH:
        found = {0}
        for graph in node["branches"]:
            live, _ = _needs(graph, [graph.outputs[k] for k in used])
            found.update(k for k, leaf in enumerate(graph.inputs, 1) if leaf in live)
        return Need(sorted(used), sorted(found))
    count = int(node["carries"])
    graphs = bodies(node)
    results = set(used)
    while True:
        needed: set[int] = set()
        for graph in graphs:
            wanted = [graph.outputs[k] for k in results] if graph is node["body"] else graph.outputs
            live, _ = _needs(graph, wanted)
            needed.update(k for k, leaf in enumerate(graph.inputs[1:]) if leaf in live)
        grown = results | {k for k in needed if k < count}
        if grown == results:
            break
        results = grown
    return Need(sorted(results), sorted(needed | {k for k in results if k < count}))


def pruned(graph: Graph, change: Callable[[Graph], Graph] = lambda body: body) -> Graph:
    """The graph with loops and branches that compute only what is needed, and ``change`` applied to their graphs.

    Bodies know constants that are known while compiling, and carries that stay what they are. A constant or an array
    that is given twice is given once.
    """
    live, needs = _needs(graph, graph.outputs)
    with recording(Recorder()) as builder:
        new: dict[Node, Node] = {}
        results: dict[Node, dict[int, Node]] = {}
        for node in graph.nodes:
            builder.lines = node.lines
            if node in needs:
                sources = {k: new[node.sources[k]] for k in needs[node].sources}
                new[node], results[node] = _Pruning(node, needs[node], sources, change).run()
            elif node.op.kind is Kind.ITEM and node in live and node.sources[0] in results:
                new[node] = results[node.sources[0]][node["index"]]
            elif node in live or node.op.name == "input":
                new[node] = copy_node(builder, node, tuple([new[source] for source in node.sources]))
    return with_values(graph, new)


class _Pruning:
    """One loop or branch, recorded anew without what nothing needs."""

    def __init__(self, node: Node, need: Need, sources: Mapping[int, Node], change: Callable[[Graph], Graph]) -> None:
        self.node = node
        self.need = need
        self.sources = sources
        """By place, those that are needed."""
        self.change = change
        self.constants: dict[Node, None] = {}
        """Sources that bodies see whole, each once."""

    def run(self) -> tuple[Node, dict[int, Node]]:
        """The new node, and its results by their old places."""
        node, need = self.node, self.need
        if node.op is BRANCH:
            return self.branch()
        count = int(node["carries"])
        body: Graph = node["body"]
        if node.op is SCAN and not node["length"] and not body.effects:
            found = {k: self.sources[k] for k in need.results if k < count}
            empty = {k: constant(0, node.type[k].dtype, node.type[k].shape) for k in need.results if k >= count}
            return next(iter(self.sources.values()), node), found | empty
        kept = [k for k in need.results if k < count and body.outputs[k] is not body.inputs[1 + k]]
        still = [k for k in need.results if k < count and k not in kept]
        results = [k for k in need.results if k >= count]
        last = count + (int(node["arrays"]) if node.op is SCAN else 0)
        arrays = dict.fromkeys(self.sources[k] for k in need.sources if count <= k < last)
        whole = [k for k in need.sources if k in still or k >= last]
        self.constants = dict.fromkeys(self.sources[k] for k in whole if not is_inlined(self.sources[k]))

        places = {k: position for position, k in enumerate(kept)}
        places |= {k: len(kept) + list(arrays).index(self.sources[k]) for k in need.sources if count <= k < last}
        first = len(kept) + len(arrays)
        attributes = dict(node.attributes) | {"carries": len(kept)}
        if node.op is SCAN:
            attributes["arrays"] = len(arrays)
        for key, graph in node.attributes.items():
            if isinstance(graph, Graph):
                wanted = [graph.outputs[k] for k in (*kept, *results)] if graph is body else graph.outputs
                types = [graph.inputs[1 + k].type for k in kept]
                types += [array.type.with_shape(array.shape[1:]) for array in arrays]
                attributes[key] = self.graph(graph, wanted, types, places, whole, first, counted=True)
        new = record(node.op, (*(self.sources[k] for k in kept), *arrays, *self.constants), attributes)
        made = items(new)
        found = dict(zip([*kept, *results], made)) | {k: self.sources[k] for k in still}
        return new, found

    def branch(self) -> tuple[Node, dict[int, Node]]:
        node, need = self.node, self.need
        whole = [k for k in need.sources if k > 0]
        self.constants = dict.fromkeys(self.sources[k] for k in whole if not is_inlined(self.sources[k]))
        inputs = [k - 1 for k in whole]
        moved = {k - 1: self.sources[k] for k in whole}
        self.sources, index = moved, self.sources[0]
        branches = tuple(
            self.graph(graph, [graph.outputs[k] for k in need.results], [], {}, inputs, 0, counted=False)
            for graph in node["branches"]
        )
        new = record(BRANCH, (index, *self.constants), {"branches": branches})
        return new, dict(zip(need.results, items(new)))

    def graph(
        self,
        graph: Graph,
        outputs: Sequence[Node],
        types: Sequence[TensorType],
        places: Mapping[int, int],
        whole: Sequence[int],
        first: int,
        *,
        counted: bool,
    ) -> Graph:
        """A body that gives ``outputs``, with fewer inputs: those at ``places`` and, from ``first`` on, constants."""
        graph = pruned(Graph(graph.inputs, tuple(outputs), graph.effects))
        with recording(Recorder()) as builder:
            every = [*([COUNTER] if counted else []), *types, *(node.type for node in self.constants)]
            leaves = [input_node(builder, k, t, scalar=counted and k == 0) for k, t in enumerate(every)]
            known = dict(zip(graph.inputs[:1], leaves)) if counted else {}
            inputs = graph.inputs[counted:]
            known.update((inputs[k], leaves[counted + place]) for k, place in places.items())
            numbers = {node: counted + first + position for position, node in enumerate(self.constants)}
            for k in whole:
                source = self.sources[k]
                known[inputs[k]] = leaves[numbers[source]] if source in numbers else copy_node(builder, source, ())
            new = _copied(builder, graph, known)
        results = tuple([new[node] for node in graph.outputs])
        return self.change(Graph(tuple(leaves), results, tuple([new[node] for node in graph.effects])))
