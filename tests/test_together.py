"""The order of steps that are launched together, by random programs over a few places in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, LoopNest
from knetc.codegen.parts import Area, Part, kinds, leaves
from knetc.codegen.together import launched_together
from knetc.runtime.program import Check

from knetc.ir.build import input_node
from knetc.ir.node import Node
from knetc.ir.record import Recorder, recording
from knetc.ir.types import TensorType

F32 = np.dtype(np.float32)
PLACES = 8


class Anything:
    """Launches together whatever it is given, up to four steps."""

    def piece(self, kernel: Kernel, nest: LoopNest | None) -> Any:
        return nest

    def work(self, piece: Any) -> str:
        return str(piece.name)

    def fits(self, pieces: Sequence[Any]) -> bool:
        return len(pieces) <= 4

    def joined(self, pieces: Sequence[Any], places: Sequence[Sequence[int]]) -> Kernel:
        for piece, own in zip(pieces, places):
            assert len(piece.arguments) == len(own)
        return Kernel({}, ())


with recording(Recorder()) as builder:
    MEMORY = [input_node(builder, k, TensorType(F32, (1 << k,))) for k in range(PLACES)]

places = st.sets(st.integers(0, PLACES - 1), max_size=2)
steps = st.tuples(st.sampled_from(("a", "b", "check", "loop")), places, places, places)


def part(number: int, name: str, read: set[int], written: set[int], awaits: set[int]) -> Part | Area:
    """A step; its place in the program is its number of operations."""
    if name == "check":
        owner = MEMORY[min(read, default=0)]
        return Part("check", Kernel({}, ()), (owner,), check=Check("", ""), operations=number)
    arguments = [(k, "update" if k in read else "output") for k in written]
    arguments += [(k, "input") for k in read - written]
    nest = LoopNest(name, (), (), tuple(Argument("x", F32, kind) for _, kind in arguments), ())  # type: ignore[arg-type]
    owners = tuple(MEMORY[k] for k, _ in arguments)
    made = Part(name, Kernel({}, ()), owners, nest, operations=number, awaits=tuple(MEMORY[k] for k in awaits))
    return Area("loop", number, [made], 3) if name == "loop" else made


def seen(parts: Sequence[Part | Area]) -> dict[int, dict[Node, int]]:
    """For each step, whose numbers are at the places that it reads, overwrites or waits for."""
    writer: dict[Node, int] = {}
    found: dict[int, dict[Node, int]] = {}
    for step in leaves(parts):
        members = step.members or (step,)
        for member in members:
            nodes = (*member.arguments, *member.awaits)
            assert member.operations not in found
            found[member.operations] = {node: writer.get(node, -1) for node in nodes}
        for member in members:
            for node, kind in zip(member.arguments, kinds(member)):
                if kind != "input":
                    writer[node] = member.operations
                    assert not any(node in (*m.arguments, *m.awaits) for m in members if m is not member)
    return found | {-1: writer}


@settings(max_examples=300)
@given(st.lists(steps, max_size=12))
def test_every_step_sees_what_it_saw(program: list[tuple[str, set[int], set[int], set[int]]]) -> None:
    before = [part(k, *step) for k, step in enumerate(program)]
    after = launched_together(before, Anything(), lambda node: [node])
    assert seen(after) == seen(before)


@settings(max_examples=300)
@given(st.lists(steps, max_size=12))
def test_nothing_is_updated_before_what_may_fail(program: list[tuple[str, set[int], set[int], set[int]]]) -> None:
    before = [part(k, *step) for k, step in enumerate(program)]
    place = {
        member.operations: k
        for k, step in enumerate(leaves(launched_together(before, Anything(), lambda node: [node])))
        for member in step.members or (step,)
    }
    for k, (name, *_) in enumerate(program):
        for later, (kind, _, written, _) in enumerate(program[k + 1 :], k + 1):
            if name in ("check", "loop") and (kind in ("check", "loop") or written):
                assert place[k] < place[later]


def together(*program: tuple[str, set[int], set[int]], awaits: int = -1) -> list[list[int]]:
    """The steps of each launch; the last one waits for the place ``awaits``."""
    parts = [
        part(k, name, read, written, {awaits} if awaits >= 0 and k == len(program) - 1 else set())
        for k, (name, read, written) in enumerate(program)
    ]
    after = launched_together(parts, Anything(), lambda node: [node])
    return [[member.operations for member in step.members or (step,)] for step in leaves(after)]


def test_what_is_launched_together() -> None:
    assert together(("a", {0}, {1}), ("b", {1}, {2}), ("a", {0}, {3})) == [[0, 2], [1]], "what is alike first"
    assert together(("a", {0}, {1}), ("b", {1}, {2}), ("c", {0}, {3})) == [[0, 2], [1]]
    assert together(("a", {0}, {1}), ("a", {1}, {0})) == [[0], [1]]
    assert together(("a", {0}, {1}), ("a", {2}, {0})) == [[0], [1]], "who reads comes before who overwrites"
    assert together(("a", {0}, {1}), ("a", {0}, {1})) == [[0], [1]]
    assert together(("a", {0}, {1}), ("a", {2}, {3})) == [[0, 1]]
    assert together(("a", {0}, {1}), ("a", {2}, {3}), awaits=1) == [[0], [1]]
    # the check must wait for the launch with the last step, and what it guards waits for the check
    assert together(("a", {0}, {1}), ("check", {1}, set()), ("b", set(), {2}), ("a", {3}, {4})) == [[0], [1], [2, 3]]
    # the third could be launched with any but the last; it is where that saves most
    found = together(("a", {4}, {0}), ("b", {0}, {1}), ("c", {2}, {3}), ("d", {1}, {5}), ("e", {1, 3}, {6}))
    assert len(found) == 3 and [3, 4] in found


def test_large_kernels_are_launched_alone() -> None:
    with recording(Recorder()) as builder:
        large = [input_node(builder, k, TensorType(F32, (1 << 26,))) for k in range(4)]
    nest = LoopNest("a", (), (), (Argument("x", F32, "input"), Argument("y", F32, "output")), ())
    parts = [Part("a", Kernel({}, ()), (large[k], large[k + 1]), nest) for k in (0, 2)]
    assert [step.members for step in leaves(launched_together(parts, Anything(), lambda node: [node]))] == [(), ()]
