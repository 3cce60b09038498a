"""Iteration domains: which loop axes each value of a group runs over, and which values may share loops.

A group has numbered axes. A value is *aligned* when each of its dimensions (those of extent 1 aside) runs over one
axis; then its axes are a tuple with one entry a dimension. A value under a slice, a padding or a concatenation is
*unaligned*: it is computed where it is needed, at shifted places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.ir.types import Shape

Axes = tuple[int, ...]

CHEAP = 4
"""Work (in additions) that may be repeated rather than stored."""

SERIAL_SIZE = 1 << 17
"""Elements above which a group must have several rows to share out."""

FEW_ROWS = 4

SMALL = 32
"""Elements of a single row that may be folded and used again in one kernel; a longer one is a fold of its own, which
can ride on the kernel that computes what it folds."""


def wide(shape: Shape) -> tuple[int, ...]:
    """The dimensions of a shape that are not 1: only these need loops."""
    return tuple(k for k, n in enumerate(shape) if n != 1)


def wide_extents(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def is_inlined(node: Node) -> bool:
    """Whether a value is always computed where it is used: constants and index ramps."""
    return node.op.kind is Kind.LEAF and node.op.name != "input"


def reads_memory(user: Node, source: Node) -> bool:
    """Whether a user must find even an inlined source in memory: what it gathers from, a ramp whose axes it merges."""
    if user.op.name == "gather":
        return user.sources[0] is source
    if user.op.name != "reshape" or source.op.name != "iota":
        return False
    return wide_extents(source.shape) != wide_extents(user.shape) and not splits(user.shape, source.shape)


def is_number(node: Node) -> bool:
    """Whether a value is an input that kernels are given by value: it lies in no memory."""
    return node.op.name == "input" and bool(node["scalar"])


def splits(fine: Shape, coarse: Shape) -> bool:
    """Whether each extent of ``coarse`` is a product of neighbouring extents of ``fine``."""
    k = 0
    for extent in wide_extents(coarse):
        product = 1
        while product < extent and k < len(fine):
            product *= fine[k]
            k += 1
        if product != extent:
            return False
    return all(n == 1 for n in fine[k:])


@dataclass(frozen=True)
class Link:
    """How a user sees one of its sources."""

    how: str
    """``aligned`` (``axes`` says where), ``unaligned``, or ``stored`` (it must lie in memory)."""
    axes: Axes = ()
    why: str = ""


STORED_FOR_GATHER = Link("stored", why="it is read at places that other values name")


def link(user: Node, position: int, axes: Axes | None, reduced: Axes) -> Link:
    """How ``user``, running over ``axes`` (None: unaligned), sees its source number ``position``.

    ``reduced`` are the axes that a reduction folds.
    """
    name, source = user.op.name, user.sources[position]
    if name == "gather" and position == 0:
        return STORED_FOR_GATHER
    if name == "reshape":
        if wide_extents(source.shape) == wide_extents(user.shape):
            return Link("unaligned") if axes is None else Link("aligned", axes)
        if splits(user.shape, source.shape):
            return Link("unaligned")
        return Link("stored", why=f"reshaping {source.shape} to {user.shape} does not split its axes")
    if axes is None or name in ("slice", "pad", "concat") or (name in ("window", "placed") and position == 0):
        return Link("unaligned")
    if name in ("window", "placed"):
        return Link("aligned")
    if name == "gather":
        return Link("aligned", axes[: len(wide(source.shape))])
    if user.op.kind in (Kind.ELEMENTWISE, Kind.SCAN):
        return Link("aligned", axes)
    if user.op.kind is Kind.REDUCTION:
        kept, folded = iter(axes), iter(reduced)
        return Link("aligned", tuple(next(folded if k in user["axes"] else kept) for k in wide(source.shape)))
    if name == "broadcast":
        lead = user.ndim - source.ndim
        position_of = dict(zip(wide(user.shape), axes))
        return Link("aligned", tuple(position_of[lead + k] for k in wide(source.shape)))
    if name == "permute":
        position_of = dict(zip(wide(user.shape), axes))
        back = {p: k for k, p in enumerate(user["axes"])}
        return Link("aligned", tuple(position_of[back[k]] for k in wide(source.shape)))
    return Link("stored", why=f"{name} needs it in memory")


@dataclass(frozen=True)
class Split:
    """A group's axes divided into outer ("rows") and inner ("columns")."""

    outer: frozenset[int]
    inner: frozenset[int]


class Domain:
    """The axes of a group and the values that run over them."""

    def __init__(self) -> None:
        self.extents: list[int] = []
        self.axes: dict[Node, Axes | None] = {}
        self.reduced: dict[Node, Axes] = {}
        self.shifted: dict[Node, frozenset[int]] = {}
        """For each unaligned value, the different places at which it is computed for one point, as numbers."""
        self._counted, self._cost = 0, 0

    def copy(self) -> Domain:
        new = Domain()
        new.extents, new.axes, new.reduced = list(self.extents), dict(self.axes), dict(self.reduced)
        new.shifted = dict(self.shifted)
        new._counted, new._cost = self._counted, self._cost
        return new

    def cost(self) -> int:
        """The work of all values for one element, an addition being 1."""
        if self._counted < len(self.axes):  # values are only ever added
            self._cost += sum(node.op.cost for node in islice(self.axes, self._counted, None))
            self._counted = len(self.axes)
        return self._cost

    def new_axes(self, extents: Iterable[int]) -> Axes:
        first = len(self.extents)
        self.extents.extend(extents)
        return tuple(range(first, len(self.extents)))

    @property
    def all_axes(self) -> frozenset[int]:
        return frozenset(range(len(self.extents)))

    def start(self, node: Node) -> None:
        """Make ``node`` the first value of the group."""
        if node.op.kind is Kind.REDUCTION:
            source = node.sources[0]
            axes = self.new_axes(wide_extents(source.shape))
            of = dict(zip(wide(source.shape), axes))
            self.reduced[node] = tuple(a for k, a in of.items() if k in node["axes"])
            self.axes[node] = tuple(a for k, a in of.items() if k not in node["axes"])
        else:
            self.axes[node] = self.new_axes(wide_extents(node.shape))

    def add(self, node: Node, axes: Axes | None) -> bool:
        """Let ``node`` join, running over ``axes``; False when a reduction finds no axes to fold."""
        if node.op.kind is Kind.REDUCTION:
            if axes is None:
                return False
            wanted = [node.sources[0].shape[k] for k in wide(node.sources[0].shape) if k in node["axes"]]
            rest = [a for a in range(len(self.extents)) if a not in axes]
            if not rest:
                folded: Axes | None = self.new_axes(wanted)
            else:
                folded = tuple(rest) if [self.extents[a] for a in rest] == wanted else None
            if folded is None:
                return False
            self.reduced[node] = folded
        self.axes[node] = axes
        return True

    def merge(self, other: Domain, mapping: dict[int, int]) -> bool:
        """Take over another group's values; ``mapping`` sends its axes to ours (missing ones are matched or added).

        False when a value of both groups would run over different axes.
        """
        mapping = dict(mapping)
        free_theirs = [a for a in range(len(other.extents)) if a not in mapping]
        free_ours = [a for a in range(len(self.extents)) if a not in mapping.values()]
        if free_theirs and free_ours:
            if [other.extents[a] for a in free_theirs] != [self.extents[a] for a in free_ours]:
                return False
            mapping.update(zip(free_theirs, free_ours))
        else:
            mapping.update(zip(free_theirs, self.new_axes(other.extents[a] for a in free_theirs)))
        if any(other.extents[a] != self.extents[b] for a, b in mapping.items()):
            return False
        for node, axes in other.axes.items():
            moved = None if axes is None else tuple(mapping[a] for a in axes)
            if self.axes.setdefault(node, moved) != moved:
                return False
        for node, axes in other.reduced.items():
            moved = tuple(mapping[a] for a in axes)
            if self.reduced.setdefault(node, moved) != moved:
                return False
        for node, places in other.shifted.items():
            self.shifted[node] = self.shifted.get(node, frozenset()) | places
        return True

    def links(self, node: Node, users: Iterable[Node]) -> list[Link]:
        """How the group's members among ``users`` see ``node``."""
        return [
            link(user, k, self.axes[user], self.reduced.get(user, ()))
            for user in dict.fromkeys(users)
            if user in self.axes
            for k, source in enumerate(user.sources)
            if source is node
        ]

    def places(self, node: Node, users: Iterable[Node]) -> frozenset[int]:
        """The places at which the group's members among ``users`` need ``node``: each movement has places of its own
        for each place that it is needed at, so a few layers of them can ask for very many."""
        found: set[int] = set()
        for user in users:
            if user in self.axes:
                there = self.shifted.get(user) or (hash(self.axes[user]),)
                if user.op.kind is Kind.ELEMENTWISE:
                    found.update(there)
                else:
                    moves = [k for k, source in enumerate(user.sources) if source is node]
                    found.update(hash((user.serial, k, place)) for k in moves for place in there)
        return frozenset(found)

    def scans(self) -> list[tuple[Node, int]]:
        """The scans of the group, and the axis that each one goes along; those of one element are none."""
        return [
            (node, axes[wide(node.shape).index(node["axis"])])
            for node, axes in self.axes.items()
            if node.op.kind is Kind.SCAN and axes is not None and node.shape[node["axis"]] != 1
        ]

    def split(self, stored: set[Node]) -> Split | None:
        """A division into outer and inner axes under which every value can be computed; None when there is none."""
        reductions = [(set(self.reduced[n]), set(self.axes[n] or ()), n) for n in self.reduced if self.reduced[n]]
        inside = {s for n in self.axes for s in n.sources}
        fixed = {frozenset(folded) for folded, _, n in reductions if n in inside}
        if len(fixed) > 1:
            return None
        everything = self.all_axes
        scans = self.scans()
        if scans:
            if not self._may_scan(scans, reductions):
                return None
            candidates = [frozenset({scans[0][1]})]
            if fixed - set(candidates):
                return None
        elif fixed:
            candidates = list(fixed)
        else:
            candidates = self._candidates(reductions)
        size = math.prod(self.extents)
        for inner in candidates:
            rows = math.prod(self.extents[a] for a in everything - inner)
            if fixed and size > (SERIAL_SIZE if rows > 1 else SMALL) and rows < FEW_ROWS:
                continue  # a handful of long rows would leave most threads idle
            if self._allows(frozenset(inner), everything, reductions, stored, inside):
                return Split(everything - inner, frozenset(inner))
        return None

    def _may_scan(self, scans: list[tuple[Node, int]], reductions: list[tuple[set[int], set[int], Node]]) -> bool:
        """Whether one walk along one axis does for all scans, and for the folds beside them."""
        backward = scans[0][0]["reverse"]
        if len({(axis, node["reverse"]) for node, axis in scans}) > 1:
            return False
        if any(set(self.axes[node] or ()) != self.all_axes for node, _ in scans):
            return False  # it would be done again for each point of the other axes
        if backward and any(n.op.combine is not None and n.op.combine.with_index for _, _, n in reductions):
            return False
        size = math.prod(self.extents)
        few = size < FEW_ROWS * self.extents[scans[0][1]]
        return not (reductions and few and size > SERIAL_SIZE)  # a scan alone can share out a long row

    def _candidates(self, reductions: list[tuple[set[int], set[int], Node]]) -> list[frozenset[int]]:
        """Inner axes worth trying where nothing fixes them, best first."""
        everything = self.all_axes
        found: dict[frozenset[int], None] = {}
        for folded, kept, _ in reductions:
            if kept and folded | kept == everything:
                many = math.prod(self.extents[a] for a in folded)
                few = math.prod(self.extents[a] for a in kept)
                last = max(everything) in folded
                # A sum over leading axes rides on rows ("outer") when there are many of them; else each result folds.
                by_row, by_column = frozenset(folded), frozenset(kept)
                order = (by_row, by_column) if last or many < 64 or few > 1 << 14 else (by_column, by_row)
                found.update(dict.fromkeys(order))
        if not reductions:
            partial = [frozenset(a) for n, a in self.axes.items() if a and set(a) != everything and n.op.cost > CHEAP]
            found.update(dict.fromkeys(everything - p for p in partial))
            if len(everything) > 1:
                found[frozenset((max(everything),))] = None
        found[frozenset()] = None
        return list(found)

    def _allows(
        self,
        inner: frozenset[int],
        everything: frozenset[int],
        reductions: list[tuple[set[int], set[int], Node]],
        stored: set[Node],
        inside: set[Node],
    ) -> bool:
        outer = everything - inner
        for folded, kept, node in reductions:
            if folded == inner and kept == outer:
                continue  # an inner reduction: a row value
            if folded == inner and kept <= outer and node not in stored:
                continue
            if node in inside:
                return False
            if folded == outer and kept == inner:
                continue  # column sums
            if not kept and folded in (everything, outer):
                continue  # a total
            return False
        for node, axes in self.axes.items():
            if axes is None or (self.reduced.get(node) and node not in inside):
                continue
            runs = set(axes)
            if node in stored and runs not in (everything, outer):
                return False
            if inner and runs <= outer:
                continue
            if runs != everything and node.op.cost > CHEAP and node.op.kind is Kind.ELEMENTWISE:
                return False
        return True
