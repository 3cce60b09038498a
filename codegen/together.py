"""Which kernels a GPU launches together: small ones that do not need each other, such as the updates of all Params.

A launch takes longer than most of what small kernels do, and one that keeps few of the device's processors busy leaves
the others idle. So steps that neither read what another one writes nor overwrite what it reads become one step, whose
launches have the programs of all. What they read must then lie in memory until the last of them can run; for that
reason, and because large kernels gain nothing, a launch takes no more steps than move ``MOVED_BYTES`` together.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import LoopNest
from knetc.codegen.parts import Area, Part, kinds, leaves, traffic

from knetc.ir.node import Node

MOVED_BYTES = 1 << 28
"""Memory traffic from which a launch is long enough to be one of its own: some fifty microseconds."""

TRIED = 16
"""How many others a kernel is tried with."""


class Joiner(Protocol):
    """How a target launches several kernels at once."""

    def piece(self, kernel: Kernel, nest: LoopNest | None) -> Any:
        """What is to be known of a kernel in order to launch it with others; None where that is not possible."""

    def work(self, piece: Any) -> Hashable:
        """What it does, whichever memory it does it with: equal for kernels that are launched together with ease."""

    def fits(self, pieces: Sequence[Any]) -> bool:
        """Whether these may be one kernel."""

    def joined(self, pieces: Sequence[Any], places: Sequence[Sequence[int]]) -> Kernel:
        """One kernel for all; ``places`` says for each one which arguments of the whole its own ones are."""


def launched_together(
    parts: Sequence[Part | Area], joiner: Joiner, memory: Callable[[Node], Sequence[Node]]
) -> list[Part | Area]:
    """The same steps, in an order that is as right as theirs, with those made one that can be launched together.

    ``memory`` gives the values in whose memory a value lies.
    """
    inside: list[Part | Area] = []
    for part in parts:
        if isinstance(part, Area):
            test = launched_together(part.test, joiner, memory)
            part = replace(part, parts=launched_together(part.parts, joiner, memory), test=test)
        inside.append(part)
    order = _Order(inside, memory)
    moved = {k: sum(traffic(p)) for k, p in enumerate(inside) if isinstance(p, Part) and _may_join(p)}
    pieces = {k: joiner.piece(p.kernel, p.nest) for k, p in enumerate(inside) if isinstance(p, Part) and k in moved}
    pieces = {k: piece for k, piece in pieces.items() if piece is not None and moved[k] <= MOVED_BYTES}
    groups = _groups(pieces, moved, joiner, order)
    first = {group[0]: group for group in groups if len(group) > 1}
    return [_joined(inside, first[k], pieces, joiner) if k in first else inside[k] for k in order.steps(first.values())]


def _may_join(part: Part) -> bool:
    """Whether a step only makes values of values, and is no matrix product, which wants a processor for itself."""
    return part.check is None and part.host is None and not part.name.startswith("matmul")


def _groups(pieces: Mapping[int, Any], moved: Mapping[int, int], joiner: Joiner, order: _Order) -> list[list[int]]:
    """The steps that are launched together: those that are alike, then with what else can run at their time."""

    def traffic_of(group: Sequence[int]) -> int:
        return sum(moved[k] for k in group)

    def fit(group: Sequence[int], other: Sequence[int]) -> bool:
        whole = [*other, *group]
        return traffic_of(whole) <= MOVED_BYTES and joiner.fits([pieces[k] for k in whole])

    alike: dict[Hashable, list[list[int]]] = {}
    for k, piece in pieces.items():
        known = alike.setdefault(joiner.work(piece), [])
        match = next((g for g in known[-TRIED:] if order.independent(g[0], k) and fit([k], g)), None)
        if match is None:
            known.append([k])
        else:
            order.merge(match, [k])
            match.append(k)
    groups = {group[0]: group for group in itertools.chain(*alike.values())}
    left = set(groups)
    while left:  # who could run with few others is the first to choose, and takes what is as quick as itself
        among = sum(1 << k for k in groups)
        k = min(left, key=lambda k: (order.independent_of(k, among).bit_count(), traffic_of(groups[k]), k))
        left.discard(k)
        others = sorted(_bits(order.independent_of(k, among)), key=lambda other: traffic_of(groups[other]))
        match_at = next((other for other in others[:TRIED] if fit(groups[k], groups[other])), None)
        if match_at is not None:
            order.merge(groups[match_at], groups[k])
            groups[match_at].extend(groups.pop(k))
    return [sorted(group) for group in groups.values()]


def _joined(inside: Sequence[Part | Area], group: Sequence[int], pieces: Mapping[int, Any], joiner: Joiner) -> Part:
    """One step for several."""
    parts = [part for part in (inside[k] for k in group) if isinstance(part, Part)]
    arguments = list(dict.fromkeys(place for part in parts for place in part.places()))
    at = {place: k for k, place in enumerate(arguments)}
    places = [[at[place] for place in part.places()] for part in parts]
    names = Counter(part.name for part in parts)
    title = " + ".join(f"{count} {name}" if count > 1 else name for name, count in names.items())
    return Part(
        title if len(names) <= 3 else f"{len(parts)} kernels",
        joiner.joined([pieces[k] for k in group], places),
        tuple([node for node, _ in arguments]),
        offsets=tuple([offset for _, offset in arguments]),
        lines=tuple(dict.fromkeys(line for part in parts for line in part.lines)),
        operations=sum(part.operations for part in parts),
        reason="they do not need each other, and are launched together",
        members=tuple(parts),
    )


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Order:
    """Which steps must come before which: by the memory that they read and write, and by what checks guard."""

    def __init__(self, parts: Sequence[Part | Area], memory: Callable[[Node], Sequence[Node]]) -> None:
        self.count = len(parts)
        self.direct: list[int] = []
        """For each step, those right before it, as bits."""
        self.before: list[int] = []
        """For each step, all before it."""
        self.after: list[int] = []
        writer: dict[Node, int] = {}
        readers: dict[Node, int] = {}
        guard = -1
        for k, part in enumerate(parts):
            read, written = _uses(part, memory)
            needed = 0
            for node in read:
                needed |= 1 << writer[node] if node in writer else 0
            for node in written:
                needed |= readers.get(node, 0) | (1 << writer[node] if node in writer else 0)
            guards = isinstance(part, Area) or part.check is not None or part.host is not None
            if guard >= 0 and (guards or any(node.op.name == "input" for node in written)):
                needed |= 1 << guard  # nothing is updated before what may fail, and that comes in its order
            for node in read:
                readers[node] = readers.get(node, 0) | 1 << k
            for node in written:
                writer[node], readers[node] = k, 0
            guard = k if guards else guard
            self.direct.append(needed)
            self.before.append(needed)
            for other in _bits(needed):
                self.before[k] |= self.before[other]
            self.after.append(0)
            for other in _bits(self.before[k]):
                self.after[other] |= 1 << k

    def independent(self, a: int, b: int) -> bool:
        """Whether neither of two steps must come before the other."""
        return not (self.before[b] >> a & 1 or self.before[a] >> b & 1)

    def independent_of(self, k: int, among: int) -> int:
        """Those of a set of steps, as bits, that need not come before or after step ``k``."""
        return among & ~(self.before[k] | self.after[k] | 1 << k)

    def merge(self, group: Sequence[int], other: Sequence[int]) -> None:
        """Let two groups of steps that do not need each other run at the same time."""
        together = sum(1 << k for k in (*group, *other))
        before = self.before[group[0]] | self.before[other[0]]
        after = self.after[group[0]] | self.after[other[0]]
        for k in _bits(together):
            self.before[k], self.after[k] = before, after
        for k in _bits(before):
            self.after[k] |= together | after
        for k in _bits(after):
            self.before[k] |= together | before

    def steps(self, groups: Iterable[Sequence[int]]) -> Iterator[int]:
        """The steps, of each group only the first one; as late as the last one of it, and else as they were."""
        first = list(range(self.count))
        rank = list(range(self.count))
        for group in groups:
            for member in group:
                first[member] = group[0]
            rank[group[0]] = max(group)
        waiting: dict[int, set[int]] = {k: set() for k in dict.fromkeys(first)}
        for k, needed in enumerate(self.direct):
            waiting[first[k]] |= {first[other] for other in _bits(needed)} - {first[k]}
        followers: dict[int, list[int]] = {k: [] for k in waiting}
        for k, needed_by in waiting.items():
            for other in needed_by:
                followers[other].append(k)
        ready = [(rank[k], k) for k, needed_by in waiting.items() if not needed_by]
        heapq.heapify(ready)
        while ready:
            _, k = heapq.heappop(ready)
            yield k
            for follower in followers[k]:
                waiting[follower].discard(k)
                if not waiting[follower]:
                    heapq.heappush(ready, (rank[follower], follower))


def _uses(part: Part | Area, memory: Callable[[Node], Sequence[Node]]) -> tuple[set[Node], set[Node]]:
    """The memory that a step, or what is inside of a loop or branch, reads and writes."""
    read: set[Node] = set()
    written: set[Node] = set()
    for leaf in leaves([part]):
        read.update(owner for node in leaf.awaits for owner in memory(node))
        for member in leaf.members or (leaf,):
            for node, kind in zip(member.arguments, kinds(member)):
                if kind != "scalar":
                    (written if kind in ("output", "update") else read).update(memory(node))
    if isinstance(part, Area):
        conditions = [area.condition for area in _areas(part) if area.condition is not None]
        read.update(owner for condition in conditions for owner in memory(condition))
    return read, written


def _areas(area: Area) -> Iterator[Area]:
    yield area
    for part in (*area.test, *area.parts):
        if isinstance(part, Area):
            yield from _areas(part)
