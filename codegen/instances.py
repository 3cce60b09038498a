"""Instances: the values of a fused unit at the places where they are needed, down to what is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from knetc.codegen.places import (
    Conditions,
    Place,
    Places,
    broadcast_places,
    concat_places,
    flat,
    numbers_of,
    pad_places,
    permute_places,
    placed_places,
    reduced_places,
    reshape_places,
    slice_places,
    window_places,
)

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.passes.domain import Split, is_inlined, is_number, reads_memory
from knetc.passes.fuse import Unit


@dataclass(eq=False)
class Instance:
    """A value at a place: what is emitted once for each stage that needs it."""

    node: Node
    places: Places
    conditions: Conditions
    kind: Literal["load", "constant", "index", "compute", "fold", "scan", "select", "scalar", "accumulator"]
    operands: tuple[Instance, ...] = ()
    place: Place = field(default_factory=Place)
    indirect: tuple[tuple[Instance, int], ...] = ()
    when: tuple[Conditions, ...] = ()
    """Of a choice: the conditions under which each operand is the one."""
    axes: frozenset[int] = frozenset()
    depth: int = 0
    """How many folds lie behind it: it can be computed from stage pair ``depth`` on."""

    @cached_property
    def needs(self) -> tuple[Instance, ...]:
        """The instances whose values it is made of, or which say where it is."""
        conditions = [*(c for choice in self.when for c in choice), *(self.conditions if self.kind == "load" else ())]
        numbers = numbers_of([self.place, *(place for place, _, _ in conditions)])
        return (*self.operands, *(i for i, _ in self.indirect), *numbers)


class Instances:
    """Makes the instances of a unit's values, each once, and notes what they load."""

    def __init__(self, unit: Unit, split: Split, memory: Callable[[Node], Node]) -> None:
        self.unit, self.domain, self.split, self.memory = unit, unit.domain, split, memory
        self.extents = list(unit.domain.extents)
        self.scanned = dict(unit.domain.scans())
        self.outer, self.inner = self._ordered_axes()
        self.loads: dict[Node, set[tuple[Place, bool]]] = {}
        """For each value in memory, the places that are read, and whether only under a condition."""
        self._known: dict[Any, Instance] = {}

    def _ordered_axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Outer and inner axes in the order of memory: of what is stored, else of what is folded, else as they came."""
        if self.unit.special is not None:  # a matmul's epilogue: every dimension has its axis, the last one is inner
            wide_axes = iter(self.domain.axes[self.unit.special] or ())
            every = []
            for extent in self.unit.special.shape:
                if extent == 1:
                    self.extents.append(1)
                every.append(len(self.extents) - 1 if extent == 1 else next(wide_axes))
            return tuple(every[:-1]), tuple(every[-1:])
        everything = self.domain.all_axes
        orders = [self.domain.axes[n] for n in self.unit.stored]
        for node, folded in self.domain.reduced.items():
            kept, rest = iter(self.domain.axes[node] or ()), iter(folded)
            source = node.sources[0].shape
            orders.append(tuple(next(rest if k in node["axes"] else kept) for k, n in enumerate(source) if n != 1))
        orders += list(self.domain.axes.values())
        order = next((o for o in orders if o is not None and set(o) == everything), tuple(sorted(everything)))
        return tuple(a for a in order if a in self.split.outer), tuple(a for a in order if a in self.split.inner)

    def at(self, node: Node, places: Places, conditions: Conditions = ()) -> Instance:
        """The instance of a value at a place; units are bounded, so this may recurse."""
        key = (node, places, conditions)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._make(node, places, conditions)
            reach = set(found.axes)
            for operand in found.needs:
                reach |= operand.axes
                found.depth = max(found.depth, operand.depth)
            if found.kind == "fold":
                reach -= self.split.inner
                found.depth += 1
            found.axes = frozenset(reach)
        return found

    def _make(self, node: Node, places: Places, conditions: Conditions) -> Instance:
        def instance(kind: Any, *operands: Instance, **more: Any) -> Instance:
            return Instance(node, places, conditions, kind, operands, **more)

        if node is self.unit.special:
            return instance("accumulator", axes=frozenset((*self.outer, *self.inner)))
        if is_inlined(node) and node not in self.domain.axes:
            if node.op.name == "constant":
                return instance("constant")
            place = places[node["axis"]]
            return instance("index", place=place, axes=frozenset(a for a, _ in place.terms))
        if node not in self.domain.axes:
            if is_number(node):
                return instance("scalar")
            return self._load(node, flat(places, node.shape), conditions, instance)
        name, sources = node.op.name, node.sources
        if node.op.kind is Kind.LEAF:  # an index ramp or a constant that must lie in memory
            place = places[node["axis"]] if name == "iota" else Place()
            return instance(
                "index" if name == "iota" else "constant", place=place, axes=frozenset(a for a, _ in place.terms)
            )
        if node.op.kind is Kind.REDUCTION:
            reduced = self.domain.reduced[node]
            operand = self.at(sources[0], reduced_places(node, places, reduced), conditions)
            if not reduced:
                if node.op.combine is not None and node.op.combine.with_index:
                    return Instance(node, places, conditions, "constant")
                return operand
            return instance("fold", operand)
        if node.op.kind is Kind.SCAN:
            operands = [self.at(s, places, conditions) for s in sources]
            if node not in self.scanned:
                return operands[-1]
            return instance("scan", *operands, axes=frozenset({self.scanned[node]}))
        if name == "gather":
            return self._gather(node, places, conditions, instance)
        in_memory = not is_inlined(sources[0]) or reads_memory(node, sources[0])
        if name == "reshape" and in_memory and sources[0] not in self.domain.axes and not is_number(sources[0]):
            return self._load(sources[0], flat(places, node.shape), conditions, instance)
        if name == "pad":
            moved, when = pad_places(node, places)
            return self._select([(sources[0], moved, when)], conditions, instance)
        if name == "placed":
            moved, when = placed_places(node, places, [self.at(start, ()) for start in sources[1:]])
            return self._select([(sources[0], moved, when)], conditions, instance)
        if name == "window":
            starts = [self.at(start, ()) for start in sources[1:]]
            return self.at(sources[0], window_places(places, starts), conditions)
        if name == "concat":
            parts = [(source, *part) for source, part in zip(sources, concat_places(node, places))]
            return self._select(parts, conditions, instance)
        moves = {
            "broadcast": broadcast_places,
            "permute": permute_places,
            "slice": slice_places,
            "reshape": reshape_places,
        }
        if name in moves:
            return self.at(sources[0], moves[name](node, places), conditions)
        return instance("compute", *[self.at(s, places, conditions) for s in sources])

    def _select(
        self,
        parts: list[tuple[Node, Places, Conditions]],
        conditions: Conditions,
        instance: Callable[..., Instance],
    ) -> Instance:
        choices = [self.at(source, places, (*conditions, *when)) for source, places, when in parts]
        whens = tuple(when for _, _, when in parts)
        return instance("select", *choices, when=whens, axes=frozenset().union(*map(_axes_of, whens)))

    def _load(self, node: Node, place: Place, conditions: Conditions, instance: Callable[..., Instance]) -> Instance:
        self.loads.setdefault(self.memory(node), set()).add((place, bool(conditions)))
        axes = {a for a, _ in place.terms} | {a for p, _, _ in conditions for a, _ in p.terms}
        return instance("load", place=place, axes=frozenset(axes))

    def _gather(
        self, node: Node, places: Places, conditions: Conditions, instance: Callable[..., Instance]
    ) -> Instance:
        source, indexes = node.sources[0], node.sources[1:]
        lead = indexes[0].ndim
        rows = [self.at(i, places[:lead], conditions) for i in indexes]
        dense = [math.prod(source.shape[k + 1 :]) for k in range(source.ndim)]
        rest = places[lead:]
        place = flat((*(Place() for _ in indexes), *rest), source.shape)
        self.loads.setdefault(self.memory(source), set()).add((place, True))
        axes = {a for a, _ in place.terms} | {a for p, _, _ in conditions for a, _ in p.terms}
        return instance("load", place=place, indirect=tuple(zip(rows, dense)), axes=frozenset(axes))


def _axes_of(conditions: Conditions) -> frozenset[int]:
    """The axes on which conditions depend."""
    return frozenset(axis for place, _, _ in conditions for axis, _ in place.terms)
