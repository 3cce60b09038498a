"""Steps before memory is planned: what they do, on which values, and which of them run again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import LoopNest
from knetc.runtime.program import Check, HostCall

from knetc.ir.node import Line, Node
from knetc.passes.domain import is_number


@dataclass(frozen=True)
class Part:
    """A step before memory is planned."""

    name: str
    kernel: Kernel
    arguments: tuple[Node, ...]
    """Whose memory each argument is (or which scalar input)."""
    nest: LoopNest | None = None
    check: Check | None = None
    host: HostCall | None = None
    lines: tuple[Line, ...] = ()
    operations: int = 0
    reason: str = ""
    in_place: Mapping[Node, Node] | None = None
    awaits: tuple[Node, ...] = ()
    """What must have been stored before, beside what the step reads."""
    members: tuple[Part, ...] = ()
    """The steps that this one is in one launch; none for ordinary steps."""
    offsets: tuple[int, ...] = ()
    """For each argument, how many bytes behind its beginning the step is given it; () for none of them."""

    def places(self) -> list[tuple[Node, int]]:
        """The arguments, each with its offset in bytes."""
        return list(zip(self.arguments, self.offsets or (0,) * len(self.arguments)))


@dataclass(frozen=True, eq=False)
class Area:
    """Steps that run many times or maybe not at all: a ``Region`` before memory is planned."""

    kind: Literal["loop", "while", "case"]
    scope: int
    """A number of its own."""
    parts: Sequence[Part | Area]
    count: int = 0
    reverse: bool = False
    test: Sequence[Part | Area] = ()
    """Of ``while``: the steps that run before the others, and find ``condition``."""
    condition: Node | None = None
    case: int = 0


@dataclass(frozen=True)
class Bound:
    """Where a value lies that has no memory of its own: inside a loop or a branch in the memory of a value outside, or
    beside others in the memory of what they are joined to."""

    node: Node
    """The value outside, or the whole."""
    stride: int = 0
    """How many bytes further it lies with each count of the loop; 0 if it stays where it is."""
    depth: int = 0
    """The loop's depth, the outermost one having 0."""
    scope: int = 0
    """The number of the loop or branch that lies between inside and outside; 0 if none does."""
    offset: int = 0
    """How many bytes behind the beginning it lies."""


def leaves(parts: Sequence[Part | Area]) -> Iterator[Part]:
    """All steps, those inside of areas too, in the order of the program."""
    for part in parts:
        if isinstance(part, Area):
            yield from leaves(part.test)
            yield from leaves(part.parts)
        else:
            yield part


def kinds(part: Part) -> list[str]:
    """What a step does with each of its arguments: ``input``, ``output``, ``update``, or ``scalar`` for numbers."""
    found: list[str] = ["scalar" if is_number(node) else "input" for node in part.arguments]
    if part.nest is not None:
        own: list[str] = [a.kind for a in part.nest.arguments if a.kind != "scratch"]
        if part.name.startswith("matmul"):
            own = own[1:]
        found[len(found) - len(own) :] = own
    elif part.check is None:
        found[-1] = "output"
    return found


def traffic(part: Part) -> tuple[int, int]:
    """Bytes that a step reads and writes, each element of each argument counted once."""
    if part.members:
        moved = [traffic(member) for member in part.members]
        return sum(read for read, _ in moved), sum(written for _, written in moved)
    read = written = 0
    for node, kind in zip(part.arguments, kinds(part)):
        if kind in ("input", "update"):
            read += node.type.size_bytes
        if kind in ("output", "update"):
            written += node.type.size_bytes
    return read, written
