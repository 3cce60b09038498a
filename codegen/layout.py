"""From ordered steps to a Program: which memory every value lies in, for how long, and what each step is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import starmap

from knetc.codegen.parts import Area, Bound, Part, leaves, traffic
from knetc.codegen.plan_memory import Lifetime, place
from knetc.runtime.base import dtypes
from knetc.runtime.program import ArgumentRef, BufferSpec, Check, HostCall, Member, Program, Region, Step

from knetc.ir.node import Node


class Layout:
    """The memory of one program.

    ``inputs`` and ``outputs`` are the graph's, those as they lie in memory; ``in_place`` says whose memory a value has
    taken over, ``bound`` and ``counters`` where the values lie that loops and branches see inside.
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        outputs: Sequence[tuple[Node, Node]],
        in_place: Mapping[Node, Node],
        bound: Mapping[Node, Bound],
        counters: Mapping[Node, int],
    ) -> None:
        self.in_place = in_place
        self.bound = bound
        self.counters = counters
        self.scalars = [n for n in inputs if n["scalar"]]
        self.buffers: list[BufferSpec] = []
        self.index: dict[Node, int] = {}
        """Which buffer a value is, of those that have memory of their own."""
        arrays = [n for n in inputs if not n["scalar"]]
        for node in arrays:
            self.add(node, BufferSpec("input", dtypes.short_name(node.dtype), node.shape, node.type.size_bytes))
        for output, node in outputs:
            old = in_place.get(node)
            update_of = arrays.index(old) if old in arrays else -1
            kind = dtypes.short_name(output.dtype)
            self.add(node, BufferSpec("output", kind, output.shape, output.type.size_bytes, -1, update_of))

    def add(self, node: Node, spec: BufferSpec) -> None:
        self.index[node] = len(self.buffers)
        self.buffers.append(spec)

    def owner(self, node: Node) -> tuple[Node, int, tuple[int, ...], list[int]]:
        """The value that has the memory in which ``node`` lies, how many bytes behind its beginning, how the address
        moves with the counters of the loops around, and the loops and branches from the inside of which it is seen."""
        moves: dict[int, int] = {}
        scopes: list[int] = []
        offset = 0
        while node not in self.index:
            if node in self.bound:
                bound = self.bound[node]
                if bound.stride:
                    moves[bound.depth] = bound.stride
                if bound.scope:
                    scopes.append(bound.scope)
                offset += bound.offset
                node = bound.node
            elif node in self.in_place:
                node = self.in_place[node]
            else:
                break
        return node, offset, tuple([moves.get(depth, 0) for depth in range(max(moves, default=-1) + 1)]), scopes

    def reference(self, node: Node, offset: int = 0) -> ArgumentRef:
        """What a step is given for a value, so many bytes behind its beginning."""
        if node in self.counters:
            return ArgumentRef("counter", self.counters[node])
        if node in self.scalars:
            return ArgumentRef("scalar", self.scalars.index(node))
        owner, begin, strides, _ = self.owner(node)
        return ArgumentRef("buffer", self.index[owner], strides, begin + offset)

    def program(self, target: str, parts: Sequence[Part | Area]) -> Program:
        """The program, without its objects."""
        steps = list(leaves(parts))
        areas = list(_areas(parts, 0))
        workspaces, arena_bytes = self.place(steps, areas)
        checks: list[Check] = []
        hosts: list[HostCall] = []
        made = []
        for k, part in enumerate(steps):
            if part.check is not None:
                checks.append(part.check)
            if part.host is not None:
                hosts.append(part.host)
            read, written = traffic(part)
            made.append(
                Step(
                    part.name, tuple(starmap(self.reference, part.places())), part.kernel.launches,
                    part.kernel.workspace_bytes, workspaces.get(k, -1),
                    len(checks) - 1 if part.check is not None else -1,
                    len(hosts) - 1 if part.host is not None else -1,
                    tuple(map(str, part.lines)), read, written, part.operations, part.reason, part.kernel.grids,
                    part.kernel.library, tuple(map(self.member, part.members)), part.kernel.notes,
                )
            )  # fmt: skip
        return Program(
            target,
            tuple(self.buffers),
            tuple(dtypes.short_name(n.dtype) for n in self.scalars),
            tuple(made),
            tuple(checks),
            arena_bytes,
            (),
            hosts=tuple(hosts),
            regions=tuple(self.region(*area) for area in areas),
        )

    def member(self, part: Part) -> Member:
        """A step that is launched with others."""
        lines = tuple(map(str, part.lines))
        return Member(
            part.name,
            tuple(starmap(self.reference, part.places())),
            lines,
            *traffic(part),
            part.operations,
            part.reason,
        )

    def region(self, area: Area, begin: int, test_end: int, end: int) -> Region:
        if area.condition is None:
            return Region("loop", begin, end, area.count, area.reverse)
        condition = self.reference(area.condition)
        if area.kind == "while":
            return Region("while", begin, end, test_end=test_end, condition=condition)
        return Region("case", begin, end, condition=condition, case=area.case)

    def place(self, steps: Sequence[Part], areas: Sequence[tuple[Area, int, int, int]]) -> tuple[dict[int, int], int]:
        """Give every value that has no memory yet a place in the arena; the places of workspaces, by step, and the
        arena's size. What a loop or a branch sees of the values outside lives for as long as it runs."""
        ranges = {area.scope: (begin, end - 1) for area, begin, _, end in areas}
        span: dict[Node, tuple[int, int]] = {}

        def use(node: Node, k: int) -> None:
            owner, _, _, scopes = self.owner(node)
            if owner in self.index or owner.op.name == "input":
                return
            around = [(k, k), *(ranges[scope] for scope in scopes), *([span[owner]] if owner in span else [])]
            span[owner] = min(first for first, _ in around), max(last for _, last in around)

        for k, part in enumerate(steps):
            for node in part.arguments:
                use(node, k)
        for area, begin, test_end, _ in areas:
            if area.condition is not None:
                use(area.condition, test_end - 1 if area.kind == "while" else begin)
        owners = list(span)
        lives = [Lifetime(max(n.type.size_bytes, 1), *span[n]) for n in owners]
        spaces = [k for k, part in enumerate(steps) if part.kernel.workspace_bytes]
        lives += [Lifetime(steps[k].kernel.workspace_bytes, k, k) for k in spaces]
        offsets, arena_bytes = place(lives)
        for owner, life, offset in zip(owners, lives, offsets):
            self.add(owner, BufferSpec("arena", dtypes.short_name(owner.dtype), owner.shape, life.size_bytes, offset))
        return dict(zip(spaces, offsets[len(owners) :])), arena_bytes


def _areas(parts: Sequence[Part | Area], begin: int) -> Iterator[tuple[Area, int, int, int]]:
    """The areas that have steps, outer ones first, each with its first step, the end of its test and its end."""
    for part in parts:
        if isinstance(part, Part):
            begin += 1
            continue
        test_end = begin + sum(1 for _ in leaves(part.test))
        end = test_end + sum(1 for _ in leaves(part.parts))
        if end > begin:
            yield part, begin, test_end, end
            yield from _areas(part.test, begin)
            yield from _areas(part.parts, test_end)
        begin = end
