"""Loops and branches as areas of steps: where the values that their bodies see lie, and what is copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from knetc.codegen.nests import copy_nest
from knetc.codegen.parts import Area, Bound, Part

from knetc.ir.control import BRANCH, WHILE
from knetc.ir.group import ITEM
from knetc.ir.node import Graph, Node

if TYPE_CHECKING:
    from knetc.codegen.assemble import Assembler


@dataclass
class Scopes:
    """What all graphs of a program know of each other: whose memory each value inside of loops and branches has."""

    bound: dict[Node, Bound] = field(default_factory=dict)
    counters: dict[Node, int] = field(default_factory=dict)
    """Loops' counters, with the depths of the loops."""
    in_place: dict[Node, Node] = field(default_factory=dict)
    """New value -> the value whose memory it really takes."""
    parts: dict[Node, list[Node]] = field(default_factory=dict)
    """The values that lie side by side in the memory of a value that is all of them."""
    count: int = 0
    """Loops and branches so far."""

    def memory(self, node: Node) -> list[Node]:
        """The values that had the memory first in which ``node`` lies: an input, what was stored there first, or all
        that were stored side by side."""
        while (node in self.bound and self.bound[node].scope) or node in self.in_place:
            node = self.bound[node].node if node in self.bound else self.in_place[node]
        found = [node]
        for k in found:  # grows
            found += self.parts.get(k, ())
        return found


class ControlLowering:
    """The steps of one loop or branch.

    A loop's carries lie in the memory of its results: what they begin with is copied there, bodies read them there and
    overwrite them, in place where all readers come first. Slices of arrays are addresses that move with the counter.
    """

    def __init__(
        self,
        outside: Assembler,
        node: Node,
        stored: Mapping[Node, str],
        inside: Callable[[Graph, int], Assembler],
    ) -> None:
        self.outside = outside
        self.node = node
        self.scopes = outside.scopes
        self.inside = inside
        found = {item["index"]: item for item in stored}
        self.results = [
            found.get(k) or Node(ITEM, (node,), {"index": k}, type, node.lines) for k, type in enumerate(node.type)
        ]
        self.sources = [outside.memory(source) for source in node.sources]
        self.carries = 0 if node.op is BRANCH else int(node["carries"])
        self.assemblers: list[Assembler] = []

    def lower(self) -> list[Part | Area]:
        if self.node.op is BRANCH:
            return [self.case(k, graph) for k, graph in enumerate(self.node["branches"])]
        parts: list[Part | Area] = [
            self.copy(source, result)
            for source, result in zip(self.sources, self.results[: self.carries])
            if self.scopes.in_place.get(result) is not source
        ]
        scope = self.new_scope()
        if self.node.op is WHILE:
            test = self.loop_graph(self.node["condition"], scope)
            body = self.loop_graph(self.node["body"], scope)
            condition = test.memory(test.graph.outputs[0])
            return [*parts, Area("while", scope, body.parts, test=test.parts, condition=condition)]
        if self.node["length"]:
            body = self.loop_graph(self.node["body"], scope)
            parts.append(Area("loop", scope, body.parts, self.node["length"], self.node["reverse"]))
        return parts

    def new_scope(self) -> int:
        self.scopes.count += 1
        return self.scopes.count

    def case(self, number: int, graph: Graph) -> Area:
        scope, depth = self.new_scope(), self.outside.depth
        body = self.inside(graph, depth)
        self.assemblers.append(body)
        bound = self.scopes.bound
        bound.update((leaf, Bound(at, 0, depth, scope)) for leaf, at in zip(body.graph.inputs, self.sources[1:]))
        for output, result in zip(body.graph.outputs, self.results):
            bound[body.memory(output)] = Bound(result, 0, depth, scope)
        body.run()
        return Area("case", scope, body.parts, condition=self.sources[0], case=number)

    def loop_graph(self, graph: Graph, scope: int) -> Assembler:
        """The steps of a loop's body or condition."""
        depth, carries = self.outside.depth, self.carries
        is_test = graph is not self.node["body"]
        arrays = 0 if self.node.op is WHILE else int(self.node["arrays"])
        updates = {} if is_test or self.outside.nan_check else {k: 1 + k for k in range(carries)}
        body = self.inside(replace(graph, updates=updates), depth + 1)
        self.assemblers.append(body)
        counter, *leaves = body.graph.inputs
        self.scopes.counters[counter] = depth
        for k, (leaf, at) in enumerate(zip(leaves, [*self.results[:carries], *self.sources[carries:]])):
            sliced = carries <= k < carries + arrays
            self.scopes.bound[leaf] = Bound(at, leaf.type.size_bytes if sliced else 0, depth, scope)
        outputs = [body.memory(output) for output in body.graph.outputs]
        if not is_test:
            for output, result in zip(outputs[carries:], self.results[carries:]):
                self.scopes.bound[output] = Bound(result, output.type.size_bytes, depth, scope)
        body.run()
        if not is_test:
            for output, leaf in zip(outputs, leaves[:carries]):
                if self.scopes.in_place.get(output) is not leaf:
                    body.parts.append(self.copy(output, leaf))
        return body

    def copy(self, source: Node, target: Node) -> Part:
        """A step that copies a value."""
        nest = copy_nest(source.dtype, source.type.size, self.node.lines)
        kernel = self.outside.backend.nest(nest)
        return Part("copy", kernel, (target, source), nest, lines=nest.lines, reason="a loop's value is carried on")
