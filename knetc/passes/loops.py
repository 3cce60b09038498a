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
    """The graph with scans that have the same sources and carries made one, which has the results of all."""
    groups: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.nodes:
        if node.op is SCAN:
            settings = (node["length"], node["reverse"], node["carries"], node["arrays"])
            groups.setdefault((*(source.serial for source in node.sources), *settings), []).append(node)
    same: dict[Node, list[Node]] = {}
    for scans in groups.values():
        alike: dict[str, list[Node]] = {}
        for node in scans if len(scans) > 1 else ():
            body: Graph = node["body"]
            alike.setdefault(digest(Graph(body.inputs, body.outputs[: node["carries"]])), []).append(node)
        same.update((node, group) for group in alike.values() for node in group if len(group) > 1)
    if not same:
        return graph
    with recording(Recorder()) as builder:
        new: dict[Node, Node] = {}
        places: dict[Node, dict[int, int]] = {}
        made: dict[Node, Node] = {}
        for node in graph.nodes:
            sources = tuple([new[source] for source in node.sources])
            builder.lines = node.lines
            if node in same:
                first = same[node][0]
                if first not in made:
                    union, found = _union([scan["body"] for scan in same[node]], int(node["carries"]))
                    places.update(zip(same[node], found))
                    made[first] = record(SCAN, sources, {**node.attributes, "body": union})
                new[node] = made[first]
            elif node.op.kind is Kind.ITEM and node.sources[0] in places:
                index = places[node.sources[0]][node["index"]]
                new[node] = record(node.op, sources, {"index": index})
            else:
                new[node] = copy_node(builder, node, sources)
    return with_values(graph, new)


def _union(graphs: Sequence[Graph], carries: int) -> tuple[Graph, list[dict[int, int]]]:
    """One body for several with the same inputs and carries; and where the results of each are."""
    with recording(Recorder()) as builder:
        leaves = [input_node(builder, k, leaf.type, scalar=leaf["scalar"]) for k, leaf in enumerate(graphs[0].inputs)]
        outputs: list[Node] = []
        effects: dict[Node, None] = {}
        places: list[dict[int, int]] = []
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
            places.append(found)
    return Graph(tuple(leaves), tuple(outputs), tuple(effects)), places


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
