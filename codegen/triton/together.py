"""Several kernels in one launch: each program finds by its number whose it is, and then does that kernel's work.

Kernels that differ only in what they are given (the updates of Params of different sizes) are one function: a program
chooses the addresses and the number of points, and calls it. So the code does not grow with the number of Params, and
what is compiled depends on the work and on shapes alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from knetc.codegen.axes import Loops, merged
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import LoopNest
from knetc.codegen.triton import model
from knetc.codegen.triton.body import ROWS, Frame
from knetc.codegen.triton.nest import alive_at_once, is_line
from knetc.codegen.triton.source import Header, Prelude, header_of, render
from knetc.codegen.triton.writer import Job, Launches, Writer
from knetc.runtime.program import GRID_ALIGNMENT, Slot

MAX_BODIES = 6
"""Functions that one launch chooses from: more would take long to compile."""

MAX_PARAMETERS = 480
"""Parameters of a launch: 4096 bytes is what every driver takes."""

MAX_WARPS_RATIO = 4
"""How many times as many warps as it wants a kernel may be given."""

Function = tuple[str, str, tuple[str, ...]]
"""Name, parameters and lines of a function."""


@dataclass(frozen=True)
class Code:
    """What a kernel does, whichever memory it does it with."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    """Names and types."""
    written: tuple[str, ...]
    lines: tuple[str, ...]
    """Of a line of points (``warps`` is 0) without masks, else of the program of the number ``program``."""
    masked: tuple[str, ...]
    """Of a line of points: with masks."""
    functions: tuple[Function, ...]
    """Those that it calls."""
    warps: int
    alive: int = 0
    """Of a line of points: the numbers that are held at once for each of them."""


@dataclass(frozen=True)
class Stage:
    """One launch of a kernel."""

    code: Code
    slots: tuple[Slot, ...]
    extent: int
    """Programs, or the points of a line."""
    source: str
    """The kernel that it would be alone."""
    programs: int
    """Those of that kernel."""


@dataclass(frozen=True)
class Piece:
    """A kernel that may be launched with others."""

    stages: tuple[Stage, ...]
    workspace: int


class Together:
    """Makes one launch of several; see ``knetc.codegen.together``."""

    def piece(self, kernel: Kernel, nest: LoopNest | None) -> Piece | None:
        """A kernel as one of several; None for one without launches."""
        if not kernel.grids:
            return None
        sources = [(kernel.functions[grid.function], grid) for grid in kernel.grids]
        line = _line(nest, kernel.grids[0].slots) if nest is not None and len(sources) == 1 else None
        if line is not None:
            code, points = line
            [(source, grid)] = sources
            stages = [Stage(code, grid.slots, points, source, grid.grid[0])]
        else:
            stages = [Stage(_code(source), grid.slots, grid.grid[0], source, grid.grid[0]) for source, grid in sources]
        return Piece(tuple(stages), kernel.workspace_bytes)

    def work(self, piece: Piece) -> tuple[Code, ...]:
        return tuple(stage.code for stage in piece.stages)

    def fits(self, pieces: Sequence[Piece]) -> bool:
        for number in range(max(len(piece.stages) for piece in pieces)):
            stages = [piece.stages[number] for piece in pieces if number < len(piece.stages)]
            warps = [stage.code.warps for stage in stages if stage.code.warps]
            if (
                len({stage.code for stage in stages}) > MAX_BODIES
                or sum(len(stage.slots) for stage in stages) > MAX_PARAMETERS
                or max(warps, default=1) > MAX_WARPS_RATIO * min(warps, default=1)
            ):
                return False
        return True

    def joined(self, pieces: Sequence[Piece], places: Sequence[Sequence[int]]) -> Kernel:
        launches = Launches()
        moved: list[Piece] = []
        for piece, own in zip(pieces, places):
            space = launches.space(piece.workspace).value if piece.workspace else 0
            moved.append(replace(piece, stages=tuple(_moved(stage, own, space) for stage in piece.stages)))
        for number in range(max(len(piece.stages) for piece in moved)):
            stages = [piece.stages[number] for piece in moved if number < len(piece.stages)]
            if len(stages) > 1:
                _launch(launches, stages)
            else:
                launches.launch(stages[0].source, stages[0].programs, stages[0].slots)
        return launches.kernel()


def _moved(stage: Stage, places: Sequence[int], space: int) -> Stage:
    """A stage as part of a whole, that has its arguments at ``places`` and its workspace from ``space`` on."""

    def at(slot: Slot) -> int:
        if slot.kind == "argument":
            return places[slot.value]
        return slot.value + space if slot.kind == "workspace" else slot.value

    return replace(stage, slots=tuple(Slot(slot.kind, at(slot)) for slot in stage.slots))


# --- what kernels do -------------------------------------------------------------------------------------------------


def _line(nest: LoopNest, slots: Sequence[Slot]) -> tuple[Code, int] | None:
    """What an elementwise nest does at each of its points, and their number; None for other nests."""
    job = Job(Launches(), merged(Loops(nest, -1)), tuple(slots))
    if not is_line(job):
        return None
    bodies: list[tuple[str, ...]] = []
    for masked in (False, True):
        writer = Writer(job, Frame(job.loops, model.BLOCK, 1, flat=True, row_mask=masked))
        for stage in job.nest.stages:
            for statement in stage.body:
                writer.body.write(statement)
        lines = writer.body.take()
        bodies.append((*writer.body.axis_lines(ROWS), *lines))
    functions = _functions(writer.prelude.text)
    parameters = tuple(writer.parameters.items())
    whole, masked_lines = bodies
    written, alive = tuple(writer.written), alive_at_once(job.loops)
    return Code(nest.name, parameters, written, whole, masked_lines, functions, 0, alive), job.loops.rows


@cache
def _code(source: str) -> Code:
    """What a kernel's source does, with the program's number under a name."""
    header = header_of(source)
    *functions, (name, _, lines) = _functions(source)
    renamed = tuple(line.replace("tl.program_id(0)", "program") for line in lines)
    parameters = tuple(header.parameters.items())
    return Code(name, parameters, header.written, renamed, (), tuple(functions), header.warps)


def _functions(text: str) -> tuple[Function, ...]:
    """The functions of a source, in order."""
    found: list[Function] = []
    for function in text.split("\n\n@triton.jit\n")[1:]:
        head, _, body = function.partition("\n")
        name, _, parameters = head.removeprefix("def ").removesuffix("):").partition("(")
        found.append((name, parameters, tuple(line[4:] for line in body.splitlines())))
    return tuple(found)


def _defined(prelude: Prelude, code: Code, block: int, split: bool) -> str:
    """Write a code's function and those that it calls; its name."""
    names: dict[str, str] = {}

    def called(lines: Sequence[str]) -> list[str]:
        return [re.sub(r"(?<![.\w])\w+(?=\()", lambda word: names.get(word[0], word[0]), line) for line in lines]

    for name, taken, lines in code.functions:
        names[name] = prelude.add(name, taken, called(lines))
    parameters = [name for name, _ in code.parameters]
    if code.warps:
        return prelude.add(code.name, ", ".join(["program", *parameters]), called(code.lines))
    body = [f"point = program * {block} + tl.arange(0, {block})"]
    masked = ["points = point < count", *called(code.masked)]
    if split:
        body += [f"if program * {block} + {block} <= count:", *(f"    {line}" for line in called(code.lines)), "else:"]
        masked = [f"    {line}" for line in masked]
    return prelude.add(code.name, ", ".join(["program", "count", *parameters]), body + masked)


# --- one kernel of several -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """The call of one function in a kernel that chooses between several."""

    end: int
    """The number of the first program behind those that make this call."""
    lines: list[str]


def _launch(launches: Launches, stages: Sequence[Stage]) -> None:
    """One launch with the programs of several."""
    by_code: dict[Code, list[Stage]] = {}
    for stage in sorted(stages, key=lambda stage: not stage.code.warps):  # those that take longest begin first
        by_code.setdefault(stage.code, []).append(stage)
    points = sum(stage.extent for stage in stages if not stage.code.warps)
    block = model.flat_block(points)
    alive = max(code.alive for code in by_code)
    line = model.line_warps(block, alive)
    warps = max([code.warps for code in by_code] + [line])
    if block == model.BLOCK:
        block *= warps // line
    chooser = _Chooser(block)
    for code, alike in by_code.items():
        chooser.add(code, alike)
    names = Counter(stage.code.name for stage in stages)
    about = f"Launched together: {', '.join(f'{count} {name}' for name, count in names.items())}."
    header = Header("together", chooser.parameters, warps, written=tuple(chooser.written))
    source = render("together", header, chooser.prelude, about=about, calls=chooser.calls)
    launches.launch(source, chooser.programs, chooser.slots)
    launches.notes.append(about)


class _Chooser:
    """The kernel in the making that finds for each program what it has to do."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.prelude = Prelude()
        self.parameters: dict[str, str] = {}
        self.slots: list[Slot] = []
        self.written: list[str] = []
        self.calls: list[Call] = []
        self.programs = 0
        self._known: dict[tuple[Slot, str], str] = {}

    def add(self, code: Code, stages: Sequence[Stage]) -> None:
        """The programs of stages that do the same."""
        whole = all(stage.extent % GRID_ALIGNMENT == 0 for stage in stages)
        split = not whole and any(stage.extent >= self.block for stage in stages)
        name = _defined(self.prelude, code, self.block, split)
        number = len(self.calls)
        choices: list[dict[str, str]] = []
        """For each stage, what it gives each name."""
        ends: list[int] = []
        for stage in stages:
            given = {"first": str(self.programs)}
            if not code.warps:
                given["count"] = str(stage.extent)
            for (parameter, kind), slot in zip(code.parameters, stage.slots):
                given[parameter] = self.parameter(parameter, kind, slot, parameter in code.written)
            choices.append(given)
            self.programs += stage.extent if code.warps else -(-stage.extent // self.block)
            ends.append(self.programs)
        same = {key for key in choices[0] if len({given[key] for given in choices}) == 1}
        chosen = {key: choices[0][key] if key in same else f"{key}_of{number}" for key in choices[0]}
        lines: list[str] = []
        for k, (given, end) in enumerate(zip(choices, ends)) if len(stages) > 1 else ():
            head = "else:" if k == len(stages) - 1 else f"{'elif' if k else 'if'} program < {end}:"
            lines += [head, *(f"    {chosen[key]} = {value}" for key, value in given.items() if key not in same)]
        first, *arguments = chosen.values()
        lines.append(f"{name}({', '.join([f'program - {first}', *arguments])})")
        self.calls.append(Call(self.programs, lines))

    def parameter(self, name: str, kind: str, slot: Slot, written: bool) -> str:
        """The kernel's parameter for a slot."""
        found = self._known.get((slot, kind))
        if found is None:
            found = self._known[slot, kind] = f"{name}_{len(self.slots)}"
            self.parameters[found] = kind
            self.slots.append(slot)
        if written and found not in self.written:
            self.written.append(found)
        return found
