"""The fused graph: each kernel as one node that holds its graph, in the order of running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from knetc.ir.build import copy_node, input_node, with_values
from knetc.ir.control import with_bodies
from knetc.ir.group import group
from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind
from knetc.ir.record import Recorder, recording
from knetc.passes.domain import is_inlined, is_number, reads_memory
from knetc.passes.fuse import Fusion, Unit


class Fused(Protocol):
    """A graph that was fused: what ``grouped`` must know of an assembly, and of the bodies of loops and branches."""

    @property
    def fusion(self) -> Fusion: ...
    @property
    def units(self) -> Sequence[Unit]:
        """In the order of running."""

    @property
    def inner(self) -> Mapping[Node, Sequence[Fused]]:
        """For each loop and branch its bodies, in the order of its attributes."""


def grouped(fused: Fused) -> Graph:
    """The graph in which each unit is a ``group``; aliases, checks and inputs stand between them."""
    fusion, units = fused.fusion, fused.units
    order = fusion.order
    with recording(Recorder()) as builder:
        new: dict[Node, Node] = {}

        def outside(node: Node) -> Node:
            """What stands for a value in memory, seen through aliases."""
            chain = []
            while node not in new:
                chain.append(node)
                if node.op.kind is Kind.LEAF:
                    break
                node = node.sources[0]
            for link in reversed(chain):
                new[link] = copy_node(builder, link, tuple(outside(s) for s in link.sources))
            return new[chain[0] if chain else node]

        for node in order.graph.inputs:
            outside(node)
        for unit in units:
            special = unit.special
            if special is not None and special.op.kind is Kind.EFFECT:
                outside(special)
                continue
            if special is not None and special.op.kind is Kind.CONTROL:
                bodies = iter([grouped(body) for body in fused.inner[special]])
                attributes = with_bodies(special, lambda graph, bodies=bodies: next(bodies))  # type: ignore[misc]
                sources = tuple([outside(source) for source in special.sources])
                builder.lines = special.lines
                new[special] = builder.make(special.op, sources, attributes)
                continue
            inner, reads = group_graph(unit, fusion)
            builder.lines = tuple(dict.fromkeys(line for n in unit.stored for line in n.lines))
            new.update(zip(unit.stored, group(inner, tuple(outside(n) for n in reads))))
        for node in (*order.graph.effects, *order.graph.outputs):
            outside(node)
    return with_values(order.graph, new)


def group_graph(unit: Unit, fusion: Fusion) -> tuple[Graph, list[Node]]:
    """What a unit computes, as a graph of its own, and the values in memory that are its inputs."""
    reads = unit_reads(unit, fusion)
    with recording(Recorder()) as builder:
        new = {node: input_node(builder, k, node.type, scalar=is_number(node)) for k, node in enumerate(reads)}
        stack = list(unit.stored)
        while stack:
            node = stack[-1]
            missing = [s for s in node.sources if s not in new]
            if node in new or not missing:
                stack.pop()
                if node not in new:
                    new[node] = copy_node(builder, node, tuple(new[s] for s in node.sources))
            else:
                stack.extend(missing)
    outputs = tuple(new[n] for n in unit.stored)
    return Graph(tuple(new[n] for n in reads), outputs), reads


def unit_reads(unit: Unit, fusion: Fusion) -> list[Node]:
    """The values that a unit reads from memory."""
    found: dict[Node, None] = {}
    if unit.special is not None:
        found.update(dict.fromkeys(fusion.order.sources[unit.special]))
    for node in unit.domain.axes:
        if node is unit.special:
            continue
        for source in node.sources:
            if source not in unit.domain.axes and (reads_memory(node, source) or not is_inlined(source)):
                found[source] = None
    return list(found)
