"""Fusion: which values are computed together in one kernel, and which are stored.

Values are visited from the outputs back. Each is asked whether it can be computed inside the kernels of its users:
it can when it runs over the same loops (``domain``), when no cycle between kernels would arise, and when doing so
saves more memory traffic than it repeats work. What cannot join is stored by a kernel of its own, and the reason is
kept for people to read. Groups that read the same memory over the same loops are joined afterwards.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.ops.indexed import SCATTERS
from knetc.passes.domain import CHEAP, Axes, Domain, Link, is_inlined, is_number, reads_memory
from knetc.passes.memory_order import MemoryOrder, is_side_by_side

MAX_GROUP = 192
"""Values in one kernel; keeps the compile time of long elementwise chains linear."""

MAX_COST = 320
"""Work for one element in one kernel. Beyond it storing what was computed so far costs next to nothing beside the
computing, and chains of dear functions become kernels that are equal, of which each is compiled once."""

MAX_FOLDS = 16
"""Folds in units that are joined because they read the same memory: more do not fit into registers."""

MAX_SHIFTED = 16
"""Places at which one value may be computed for one point. A value under slices and paddings is computed at each place
where it is needed, and under a layer of them at twice as many, or three times."""

MAX_SIBLINGS = 32
"""How many of the readers of one value are tried against each other."""

EPILOGUE_STREAMS = 3
"""Arrays of the product's size that a matmul's epilogue may touch, where these are small. A kernel of its own goes
through small arrays, which are in the caches, as fast; storing a large product and reading it back costs more."""

LARGE_BYTES = 1 << 20
"""From this size on an array is not expected to stay in the cache between two kernels."""

KERNEL_BYTES = 1 << 14
"""What one more kernel costs to compile and to launch, counted as memory traffic."""

DEAR_NUMBER = 64
"""Work from which a single number, with all that it is computed from, is worked out once and read from memory, where a
kernel would else do it again in each of its many programs."""

WIDE_WORK = 8
"""How much more a 64-bit operation costs than one of 32 bits, where numbers are worked out again."""


_ALIASED = {
    "reshape": "it is found under another shape",
    "after": "what is computed from it is computed again for the gradient",
}


@dataclass(eq=False)
class Unit:
    """A kernel in the making: a fused group, or one operation that has a kernel of its own."""

    domain: Domain
    special: Node | None = None
    """What this unit is built around: a matmul (with its epilogue in ``domain``), a check, a loop or branch …"""
    stored: dict[Node, str] = field(default_factory=dict)
    """Values written to memory, with the reason."""
    successors: set[Unit] = field(default_factory=set)
    first: int = 0
    last: int = 0


@dataclass
class Fusion:
    """The outcome: units in no particular order, and how values that nobody computes are found in memory."""

    order: MemoryOrder
    units: list[Unit]
    aliases: dict[Node, Node]
    """A reshape (or check) of a value in memory -> that value."""


def fuse(order: MemoryOrder, *, enabled: bool = True, together: bool = False) -> Fusion:
    """Decide the kernels of a simplified graph; with ``enabled`` off each operation has its own.

    ``together`` tells that kernels that do not need each other are launched together, each as many programs: one more
    small kernel then costs next to nothing, and what each program works out again costs more.
    """
    fusion = _Fuser(order, enabled, together).run()
    return _Fuser(order, enabled, together, thorough=True).run() if is_circular(fusion.units) else fusion


def is_circular(units: list[Unit]) -> bool:
    """Whether some units wait for each other."""
    waiting = Counter(follower for unit in units for follower in unit.successors)
    ready = [unit for unit in units if not waiting[unit]]
    for unit in ready:  # grows
        for follower in unit.successors:
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return len(ready) < len(units)


def is_plain(node: Node) -> bool:
    """Whether a value can be computed in a matmul's epilogue: from elements at the same or at broadcast places."""
    return node.op.kind not in (Kind.REDUCTION, Kind.SCAN) and node.op.name != "gather"


def dear_numbers(order: MemoryOrder) -> frozenset[Node]:
    """The single numbers that take ``DEAR_NUMBER`` or more to work out."""
    work: dict[Node, int] = {}
    for node in order.nodes:
        if node.op.kind in (Kind.ELEMENTWISE, Kind.MOVEMENT) and node.type.size == 1:
            own = node.op.cost * (WIDE_WORK if node.dtype.itemsize > 4 else 1)
            work[node] = min(own + sum(work.get(source, 0) for source in node.sources), DEAR_NUMBER)
    return frozenset(n for n, cost in work.items() if cost == DEAR_NUMBER and n.op.kind is Kind.ELEMENTWISE)


def is_large_column_sum(node: Node) -> bool:
    """Whether a value is folded from a large array, but not along its last axis."""
    if node.op.kind is not Kind.REDUCTION:
        return False
    [source] = node.sources
    return source.ndim - 1 not in node["axes"] and source.type.size_bytes >= LARGE_BYTES


def is_narrowing(node: Node) -> bool:
    """Whether a value is its source in fewer bytes."""
    return node.op.name == "cast" and node.dtype.itemsize < node.sources[0].dtype.itemsize


def is_full(*domains: Domain) -> bool:
    """Whether one kernel has no room for all these and one more value."""
    return sum(len(d.axes) for d in domains) >= MAX_GROUP or sum(d.cost() for d in domains) >= MAX_COST


class _Fuser:
    def __init__(self, order: MemoryOrder, enabled: bool, together: bool, *, thorough: bool = False) -> None:
        self.order = order
        self.enabled = enabled
        self.together = together
        self.thorough = thorough
        """Follow every chain of units. Most graphs need not: one that leads back to an earlier value must pass a unit
        that was joined of distant values, and to look for those too takes time that grows with the square."""
        self.index = {node: k for k, node in enumerate(order.nodes)}
        self.must_store: dict[Node, str] = dict.fromkeys(order.graph.outputs, "it is a result")
        self.read_whole: set[Node] = set()
        """Operands of matmuls: their kernel had better be the one that makes them than one that folds them."""
        self.member: dict[Node, list[Unit]] = {}
        self.producer: dict[Node, Unit] = {}
        self.aliases: dict[Node, Node] = {}
        self.alias_consumers: dict[Node, set[Unit]] = {}
        self.merged: dict[Unit, Unit] = {}
        self.units: list[Unit] = []
        self.dear = dear_numbers(order) if together else frozenset()

    # --- bookkeeping --------------------------------------------------------------------------------------------------

    def find(self, unit: Unit) -> Unit:
        while unit in self.merged:
            unit = self.merged[unit]
        return unit

    def units_of(self, node: Node) -> list[Unit]:
        return list(dict.fromkeys(self.find(u) for u in self.member.get(node, ())))

    def consumers(self, node: Node) -> set[Unit]:
        """The units that read ``node``, also through aliases."""
        found: set[Unit] = set()
        for user in self.order.users[node]:
            found.update(self.units_of(user))
            found.update(self.find(u) for u in self.alias_consumers.get(user, ()))
        return found

    def new_unit(self, node: Node, *, special: bool) -> Unit:
        unit = Unit(Domain(), node if special else None, first=self.index[node], last=self.index[node])
        if not special:
            unit.domain.start(node)
        self.units.append(unit)
        self.note_member(node, unit)
        return unit

    def note_member(self, node: Node, unit: Unit) -> None:
        self.member.setdefault(node, []).append(unit)
        unit.first = min(unit.first, self.index[node])
        unit.last = max(unit.last, self.index[node])
        for written in self.order.overwritten_by(node):  # who reads a Param's old value goes before its update
            writer = self.producer.get(written)
            if writer is not None and self.find(writer) is not unit:
                unit.successors.add(self.find(writer))

    def store(self, node: Node, unit: Unit, why: str) -> None:
        unit.stored[node] = why
        self.producer[node] = unit
        unit.successors.update(u for u in self.consumers(node) if u is not unit)

    def reaches(self, starts: Iterable[Unit], goal: Unit) -> bool:
        """Whether a chain of units leads from one of ``starts`` to ``goal``."""
        seen: set[int] = set()
        stack = [self.find(u) for u in starts]
        while stack:
            unit = stack.pop()
            if unit is goal:
                return True
            if id(unit) in seen or (unit.first > goal.last and not self.thorough):
                continue
            seen.add(id(unit))
            stack.extend(self.find(u) for u in unit.successors)
        return False

    def demand(self, source: Node, why: str) -> None:
        """Note that a value must lie in memory."""
        self.must_store.setdefault(source, why)

    # --- the walk -----------------------------------------------------------------------------------------------------

    def run(self) -> Fusion:
        for node in reversed(self.order.nodes):
            if (
                node.op.name == "input"
                or node.op.kind is Kind.ITEM
                or (is_inlined(node) and not self.needs_memory(node))
            ):
                continue
            alone = node.op.kind in (Kind.LIBRARY, Kind.EFFECT, Kind.CONTROL) or node.op.name in SCATTERS
            if alone or is_side_by_side(node):
                self.place_special(node)
            elif node.op.name == "after":
                self.alias(node)
                for source in node.sources[1:]:
                    self.demand(source, "a computation is done again after it")
            else:
                self.place(node)
        if self.enabled:
            self.join_siblings()
        units = list(dict.fromkeys(self.find(u) for u in self.units))
        for unit in units:
            unit.successors = {self.find(u) for u in unit.successors} - {unit}
        return Fusion(self.order, units, self.aliases)

    def needs_memory(self, node: Node) -> bool:
        """Whether a constant or an index ramp must be written out after all."""
        return node in self.must_store or any(reads_memory(user, node) for user in self.order.users[node])

    def place_special(self, node: Node) -> None:
        unit: Unit | None = None
        if node.op.name == "matmul" and self.enabled:
            unit = self.as_epilogue(node)
        if node.op.kind is Kind.EFFECT:  # its value is its source; only the checking is work
            unit = self.new_unit(node, special=True)
            self.alias(node)
            self.alias_consumers[node].add(unit)
            unit.successors.update(u for u in self.consumers(node) if u is not unit)
            return
        if node.op.kind is Kind.CONTROL:
            unit = self.new_unit(node, special=True)
            for item in self.order.users[node]:
                self.store(item, unit, self.must_store.get(item) or f"it is a result of {node.op.name}")
        elif unit is None:
            unit = self.new_unit(node, special=True)
            self.store(node, unit, self.must_store.get(node) or f"{node.op.name} is a kernel of its own")
        if is_side_by_side(node):
            for source in node.sources:
                self.demand(source, f"it is one of the {len(node.sources)} that {node.op.name} joins")
            return
        for source in self.order.sources[node]:
            self.demand(source, f"{node.op.name} reads it whole")
            self.read_whole.add(source)

    def alias(self, node: Node) -> None:
        self.aliases[node] = node.sources[0]
        self.alias_consumers[node] = self.consumers(node)
        self.demand(node.sources[0], _ALIASED.get(node.op.name, "it is checked"))

    def as_epilogue(self, node: Node) -> Unit | None:
        """The elementwise unit that can take the product as it is computed, if all its users are in one."""
        users = self.order.users[node]
        if any(len(self.units_of(u)) != 1 for u in users):
            return None
        units = self.consumers(node)
        if len(units) != 1:
            return None
        (unit,) = units
        domain = unit.domain
        if unit.special is not None or any(domain.reduced.values()) or is_full(domain):
            return None
        links = domain.links(node, users)
        full = set(range(len(domain.extents)))
        if any(l.how != "aligned" or set(l.axes) != full for l in links) or len({l.axes for l in links}) != 1:
            return None
        if any(set(domain.axes[n] or ()) != full for n in unit.stored):
            return None
        if not all(axes is not None and is_plain(n) for n, axes in domain.axes.items()):
            return None
        if self.streams(unit) > EPILOGUE_STREAMS and (self.together or node.type.size_bytes < LARGE_BYTES):
            return None
        domain.axes[node] = links[0].axes
        unit.special = node
        self.note_member(node, unit)
        if node in self.must_store:
            self.store(node, unit, self.must_store[node])
        return unit

    def streams(self, unit: Unit) -> int:
        """How many arrays of its full size a unit reads or writes."""
        size = math.prod(unit.domain.extents)
        read = {s for n in unit.domain.axes for s in n.sources if s not in unit.domain.axes and not is_inlined(s)}
        return sum(n.type.size == size for n in (*read, *unit.stored))

    def place(self, node: Node) -> None:
        """Put a fusible value where it costs least."""
        why = self.must_store.get(node, "")
        groups: dict[Unit, list[Link]] = {}
        whole: set[Unit] = set()
        for user in self.order.users[node]:
            whole.update(self.find(u) for u in self.alias_consumers.get(user, ()))
            for unit in self.units_of(user):
                if user in self.aliases:
                    continue
                if unit.special is user:
                    whole.add(unit)
                    continue
                if node in self.dear and unit.domain.extents:
                    why = why or "each program of its user would work it out again"
                    whole.add(unit)
                    continue
                links = unit.domain.links(node, [user])
                needs = next((l.why for l in links if l.how == "stored"), "")
                why = why or needs
                if needs:
                    whole.add(unit)
                else:
                    groups.setdefault(unit, []).extend(links)
        for unit in whole:  # who needs it in memory cannot be the one who puts it there
            groups.pop(unit, None)
        if not self.enabled:
            why = why or "fusion is off"
        if self.together and is_large_column_sum(node) and all(is_narrowing(u) for u in self.order.users[node]):
            self.store_alone(node, why or "what rounds it would keep it from the kernel that goes through its rows")
            return
        if why and node.op.name == "reshape" and not is_number(node.sources[0]):
            self.alias(node)
            return
        if not self.enabled or not groups:
            self.store_alone(node, why)
            return
        if len(groups) == 1 and not why:
            (unit,) = groups
            if self.join(node, unit, groups[unit]):
                return
        elif not self.is_better_apart(node, groups) and self.join_all(node, groups, why):
            return
        if self.is_repeatable(node, bool(why)):
            rest = [unit for unit, links in groups.items() if not self.join(node, unit, links)]
            if not rest and not why:
                return
            why = why or self.why_apart(node, rest)
            self.store_alone(node, why)
            return
        why = why or self.why_apart(node, list(groups))
        everyone = self.consumers(node) if len(groups) < MAX_SIBLINGS else set()
        for unit, links in groups.items() if everyone else ():
            # To be stored by one of its users, the others must come later anyway: else an order would be imposed that
            # keeps kernels apart which belong together.
            others = everyone - {unit}
            forced = all(self.reaches([unit], u) for u in others) and not self.reaches(others, unit)
            if forced and self.join(node, unit, links, why):
                return
        self.store_alone(node, why)

    def is_better_apart(self, node: Node, groups: Iterable[Unit]) -> bool:
        """Whether a matmul's operand had better be stored by the kernel that makes it than by one that folds it."""
        return node in self.read_whole and any(u.domain.reduced for u in groups)

    def store_alone(self, node: Node, why: str) -> None:
        self.store(node, self.new_unit(node, special=False), why)

    def is_repeatable(self, node: Node, stored: bool) -> bool:
        """Whether computing a value in each of its users costs less than storing it and reading it back."""
        if node.op.kind is Kind.MOVEMENT:
            return True
        if node.op.kind is not Kind.ELEMENTWISE or bool(node.op.cost > CHEAP) or stored:
            return False
        if node.type.size == 1:
            return True
        there = [s.type.size_bytes for s in node.sources if s.op.name == "input"]
        made = [2 * s.type.size_bytes for s in node.sources if s.op.name != "input" and not is_inlined(s)]
        return bool(sum(there) + sum(made) <= max(node.type.size_bytes, KERNEL_BYTES))

    def join(self, node: Node, unit: Unit, links: list[Link], why: str = "") -> bool:
        """Compute ``node`` inside ``unit`` (and store it if there is a reason); False when that is not possible."""
        domain = unit.domain
        if is_full(domain) or node in domain.axes:
            return node in domain.axes
        aligned = {l.axes for l in links if l.how == "aligned"}
        shifted = any(l.how == "unaligned" for l in links) or len(aligned) > 1
        axes: Axes | None = None if shifted else next(iter(aligned))
        ordered = node.op.kind in (Kind.REDUCTION, Kind.SCAN)
        if shifted and (why or ordered or (node.op.cost > CHEAP and len(links) > 1)):
            return False
        if unit.special is not None and (shifted or not self.fits_epilogue(node, unit, axes, why)):
            return False
        if shifted:
            places = domain.places(node, self.order.users[node])
            if len(places) > MAX_SHIFTED:
                return False
            domain.axes[node], domain.shifted[node] = axes, places
        elif axes is not None and set(axes) == domain.all_axes and not why and not ordered:
            domain.axes[node] = axes
        else:
            trial = domain.copy()
            if not trial.add(node, axes):
                return False
            if trial.split({*unit.stored, node} if why else set(unit.stored)) is None:
                return False
            unit.domain = trial
        self.note_member(node, unit)
        if why:
            self.store(node, unit, why)
        return True

    def fits_epilogue(self, node: Node, unit: Unit, axes: Axes | None, why: str) -> bool:
        """Whether a value can be computed in a matmul's epilogue: element by element, nothing folded."""
        if axes is None or not is_plain(node):
            return False
        if set(axes) == unit.domain.all_axes:
            return True
        return not why and bool(node.op.cost <= CHEAP or node.op.kind is Kind.MOVEMENT)

    def join_all(self, node: Node, groups: dict[Unit, list[Link]], why: str) -> bool:
        """Merge all units that use ``node`` into one and compute it there."""
        units = list(groups)
        base = units[0]
        if any(l.how != "aligned" for links in groups.values() for l in links):
            return False
        if len({l.axes for l in groups[base]}) != 1 or any(u.special is not None for u in units[1:]):
            return False
        if len(units) > 1 and base.special is not None:
            return False
        if is_full(*(u.domain for u in units)):
            return False
        outside = self.consumers(node) - set(units)
        if any(self.reaches(outside, u) for u in units):
            return False
        trial = base.domain.copy()
        stored = dict(base.stored)
        for unit in units[1:]:
            (axes, *more) = {l.axes for l in groups[unit]}
            if more or not trial.merge(unit.domain, dict(zip(axes, groups[base][0].axes))):
                return False
            stored.update(unit.stored)
        if base.special is not None and not self.fits_epilogue(node, base, groups[base][0].axes, why):
            return False
        if not trial.add(node, groups[base][0].axes) or trial.split({*stored, node} if why else set(stored)) is None:
            return False
        if len(units) > 1 and not self.may_merge(units, trial):
            return False
        self.merge_into(base, units[1:], trial)
        self.note_member(node, base)
        if why:
            self.store(node, base, why)
        return True

    # --- merging units ------------------------------------------------------------------------------------------------

    def may_merge(self, units: list[Unit], merged: Domain) -> bool:
        """Whether units can become one: no other unit between them, and what one stores for the other is in reach."""
        together = set(units)
        for unit in units:
            beyond = {self.find(u) for u in unit.successors} - together
            if any(self.reaches(beyond, other) for other in together):
                return False
        stored = {n for u in units for n in u.stored}
        for node in merged.axes:
            for source in node.sources:
                if source in stored:
                    axes = merged.axes[node]
                    if axes is None or source not in merged.axes:
                        return False
                    seen = merged.links(source, [node])
                    if any(l.how != "aligned" or l.axes != merged.axes[source] for l in seen):
                        return False
                elif not stored.isdisjoint(self.needs(source)):
                    return False
        return True

    def needs(self, node: Node) -> Iterator[Node]:
        """What must lie in memory before a kernel begins that reads ``node`` by another name: the value itself, and
        what a computation waits for that is done again."""
        while node in self.aliases:
            if node.op.name == "after":
                yield from map(self.base, node.sources[1:])
            node = self.aliases[node]
            yield node

    def base(self, node: Node) -> Node:
        while node in self.aliases:
            node = self.aliases[node]
        return node

    def merge_into(self, base: Unit, others: list[Unit], domain: Domain) -> None:
        base.domain = domain
        for unit in others:
            base.stored.update(unit.stored)
            base.successors |= unit.successors
            base.first = min(base.first, unit.first)
            base.last = max(base.last, unit.last)
            self.merged[unit] = base
            for node in unit.stored:
                self.producer[node] = base
        base.successors = {self.find(u) for u in base.successors} - {base}

    def join_siblings(self) -> None:
        """Join units that read the same memory over the same loops: one pass over the memory instead of two."""
        readers: dict[Node, dict[Unit, Node]] = {}
        for unit in list(dict.fromkeys(self.find(u) for u in self.units)):
            if unit.special is not None:
                continue
            for node in unit.domain.axes:
                for source in node.sources:
                    if source in unit.domain.axes or is_inlined(source):
                        continue
                    links = unit.domain.links(source, [node])
                    if links and all(l.how == "aligned" for l in links):
                        readers.setdefault(source, {}).setdefault(unit, node)
        shared = [source for source, units in readers.items() if len(units) > 1 and source.type.size > 1]
        for source in sorted(shared, key=lambda s: (-s.type.size_bytes, self.index.get(s, 0))):
            found = list({self.find(u): node for u, node in readers[source].items()}.items())
            for k, (base, ours) in enumerate(found):
                for other, theirs in found[k + 1 : k + MAX_SIBLINGS]:
                    self.join_pair(source, (self.find(base), ours), (self.find(other), theirs))
        if not self.together:
            self.join_scalars()

    def join_scalars(self) -> None:
        """Join units that compute numbers only: step counts, learning rates, means of losses."""
        numbers = [u for u in dict.fromkeys(self.find(u) for u in self.units) if not u.domain.extents]
        numbers = sorted((u for u in numbers if u.special is None), key=lambda u: u.first)
        for k, base in enumerate(numbers):
            for other in numbers[k + 1 : k + MAX_SIBLINGS]:
                self.join_domains(self.find(base), self.find(other), {})

    def has_room(self, base: Unit, other: Unit) -> bool:
        """Whether two units make one that is not too large."""
        folds = len(base.domain.reduced) + len(other.domain.reduced)
        return base is not other and folds <= MAX_FOLDS and not is_full(base.domain, other.domain)

    def join_pair(self, source: Node, base: tuple[Unit, Node], other: tuple[Unit, Node]) -> bool:
        """Join two units that read ``source``, each by one of its values, if both go through all of it."""
        ours, theirs = (unit.domain.links(source, [node])[0].axes for unit, node in (base, other))
        if len(ours) < max(len(base[0].domain.extents), len(other[0].domain.extents)):
            return False
        return self.join_domains(base[0], other[0], dict(zip(theirs, ours)))

    def join_domains(self, base: Unit, other: Unit, mapping: dict[int, int]) -> bool:
        """Make two units one, in which the axes of ``other`` are those of ``base`` that ``mapping`` says."""
        if not self.has_room(base, other):
            return False
        trial = base.domain.copy()
        if not trial.merge(other.domain, mapping):
            return False
        if trial.split({*base.stored, *other.stored}) is None or not self.may_merge([base, other], trial):
            return False
        self.merge_into(base, [other], trial)
        return True

    # --- reasons ------------------------------------------------------------------------------------------------------

    def why_apart(self, node: Node, groups: list[Unit]) -> str:
        """In a user's words: why a value is stored although kernels follow that could have computed it."""
        if not groups:
            return "nothing fusible follows"
        if any(is_full(u.domain) for u in groups):
            return f"the kernel is full ({MAX_GROUP} values, or as much work as {MAX_COST} additions)"
        if any(u.special is not None for u in groups) and node.op.kind is Kind.REDUCTION:
            return "a matmul's epilogue folds nothing"
        if node.op.kind is Kind.SCAN:
            return "its user runs over other loops, or needs other elements of it than the one it is at"
        if node.op.kind is Kind.REDUCTION:
            return f"its user needs all of {node.op.name}'s rows first, or runs over other loops"
        if len(groups) > 1:
            return f"{len(groups)} kernels use it, over different loops or in an order that forbids one kernel"
        return "its user runs over other loops"
