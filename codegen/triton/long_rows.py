"""Rows too long for registers: walked in blocks, as seldom as can be, by one program or in pieces by several.

A block's columns lie as ``deep`` lines one below the other, so that a thread has elements of each line: what is folded
keeps one line of accumulators ("lanes"), and a block is folded into it within threads. When the walk has ended, lanes
are folded across threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from knetc.codegen.axes import Loops, results, used_values, value_dtypes
from knetc.codegen.loopnest import (
    Argument,
    Axis,
    Constant,
    Index,
    Inside,
    Load,
    Offset,
    Reduce,
    Scan,
    Stage,
    Statement,
    Store,
)
from knetc.codegen.triton import model
from knetc.codegen.triton.apart import Nest, taken_apart
from knetc.codegen.triton.body import COLUMNS, ROWS, Frame, Known
from knetc.codegen.triton.emitter import Value, register_type
from knetc.codegen.triton.fold import Fold, Running
from knetc.codegen.triton.following import Centre, Moves, Walk, walks
from knetc.codegen.triton.writer import Job, Totals, Writer, dense
from knetc.runtime.base import dtypes


@dataclass
class Part:
    """A stage of a kernel that walks its rows: straight code, or a loop with what comes before and after it."""

    body: list[str]
    loop: bool = False
    start: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)
    """The loop's body for the last block, if only that needs masks."""
    finish: list[str] = field(default_factory=list)


def lower(job: Job, tile: model.Tile, warps: int, *, wide: bool) -> list[Nest]:
    """Write the kernel, or none; the nests that are to be lowered after it."""
    loops = job.loops
    if loops.reductions("outer"):
        return list(taken_apart(job))
    stages = walks(loops)
    blocks, programs = -(-loops.columns // tile.columns), -(-loops.rows // tile.rows)
    pieces = model.split_rows(programs, blocks) if tile.columns > 1 else 1
    if pieces > 1 and not _splittable(loops, stages):
        pieces = 1
        if parts := _cut(job, stages):
            return list(parts)
    steps = -(-blocks // pieces)
    pieces = -(-blocks // steps)
    full = loops.columns // tile.columns if pieces == 1 else pieces * steps
    frame = Frame(
        loops, tile.rows, tile.columns, deep=tile.deep, row_mask=loops.rows % tile.rows != 0,
        column_mask=loops.columns != full * tile.columns, wide=wide,
    )  # fmt: skip
    writer = Writer(job, frame)
    kernel = _Kernel(writer, Totals(writer, programs), pieces, steps)
    rest = kernel.write(stages)
    finish = kernel.totals.finish()
    how = f"each in {pieces} pieces" if pieces > 1 else f"{tile.rows} at a time"
    writer.emit(
        "long_rows", programs * pieces, f"{loops.rows} rows of {loops.columns}, {how}, in blocks of {tile.columns}.",
        warps=warps, rows=loops.rows, columns=loops.columns, width=tile.columns // tile.deep, steps=steps,
        pieces=pieces, start=kernel.totals.start, row_axes=writer.body.axis_lines(ROWS),
        column_axes=writer.body.axis_lines(COLUMNS), lanes=kernel.lanes, parts=kernel.parts, finish=finish,
    )  # fmt: skip
    return [*kernel.totals.combined(), *rest]


class _Kernel:
    """The parts of a kernel in the making."""

    def __init__(self, writer: Writer, totals: Totals, pieces: int, steps: int) -> None:
        self.writer, self.totals, self.pieces, self.steps = writer, totals, pieces, steps
        self.body, self.loops = writer.body, writer.job.loops
        self.parts: list[Part] = []
        self.folds: list[tuple[Reduce, Fold]] = []
        """The folds of the present walk, but for those that follow."""
        self.lanes: list[str] = []
        """What is known of lanes before any walk."""
        self.moves = Moves(1 + max((r for s in self.loops.statements for r in results(s)), default=0))

    def write(self, stages: list[Stage | Walk]) -> list[Nest]:
        for number, stage in enumerate(stages):
            if isinstance(stage, Stage):
                self._rows(stage)
                continue
            self.parts.append(self._walk(stage))
            if self.pieces > 1:
                lines, nest = self._pieces(stage, stages[:number], stages[number + 1 :])
                self.parts.append(Part(lines))
                return [nest]
            for between in stage.between:
                self._rows(between)
            if stage.followers:
                self.parts.append(Part(self._settle(stage)))
        return []

    def _rows(self, stage: Stage) -> None:
        for statement in stage.body:
            if self.pieces == 1 or not isinstance(statement, Store):  # the second kernel stores
                self.writer.statement(statement, self.totals, by_row=True)
        self.parts.append(Part(self.body.take()))

    # --- one walk ----------------------------------------------------------------------------------------------------

    def _walk(self, walk: Walk) -> Part:
        """A loop over a row's blocks; its folds become accumulators."""
        start: list[str] = []
        self.folds = [(reduce, Fold(reduce, self.writer.prelude)) for reduce in walk.folds]
        for reduce, fold in self.folds:
            for name, identity, dtype in zip(_names(reduce), fold.identity, fold.dtypes):
                start.append(f"{name} = tl.full({self._lane_shape}, {identity}, {register_type(dtype)})")
        for follower in walk.followers:
            kind = register_type(follower.reduce.dtype)
            start.append(f"{_names(follower.reduce)[0]} = tl.full({self._lane_shape}, 0.0, {kind})")
        for centre in walk.centres:
            kind = register_type(centre.source.dtype)
            names = [f"centre{centre.value}", *([f"apart{centre.value}"] if centre.mean else [])]
            start += [f"{name} = tl.full({self._lane_shape}, 0.0, {kind})" for name in names]
        scanned = [line for s in walk.first.body if isinstance(s, Scan) for line in self._state(s)]
        frame = self.body.frame
        whole = not any(isinstance(s, Scan) or (isinstance(s, Reduce) and s.over != "inner") for s in walk.first.body)
        tail: list[str] = []
        if frame.column_mask and self.pieces == 1 and whole and self.loops.columns > frame.columns:
            self.body.frame = replace(frame, column_mask=False)
            lines = self._step(walk)
            self.body.frame = frame
            tail = self._step(walk)
        else:
            lines = self._step(walk)
        self._finish(walk)
        finish = self.body.take()
        self.body.forget(COLUMNS)
        return Part(lines, True, [*start, *scanned], tail, finish)

    @property
    def _lane_shape(self) -> str:
        frame = self.writer.frame
        return f"[{frame.rows}, {frame.columns // frame.deep}]"

    def _step(self, walk: Walk) -> list[str]:
        """The body of the loop."""
        body = self.body
        for statement in walk.first.body:
            if isinstance(statement, Scan):
                self._follow(statement)
            elif isinstance(statement, Reduce) and statement.over == "inner":
                self._fold(statement)
            else:
                self.writer.statement(statement, self.totals, by_row=False)
        if walk.followers:
            self._move(walk)
            assert walk.then is not None
            for statement in walk.then.body:
                if isinstance(statement, Reduce):
                    self._fold(statement)
                else:
                    self.writer.statement(statement, self.totals, by_row=False)
        lines = body.take()
        body.forget(COLUMNS)
        return lines

    def _fold(self, reduce: Reduce) -> None:
        """Fold a block into lanes."""
        body, names, fold = self.body, _names(reduce), Fold(reduce, self.writer.prelude)
        values = body.operand(reduce, fold, COLUMNS, broadcast=body.frame.deep > 1)
        if body.frame.deep > 1:
            if len(values) > 1:
                for name, value in zip(names, values):
                    body.lines.append(f"{name}_each = {value}")
                values = [f"{name}_each" for name in names]
            folded = [f"{name}_block" for name in names]
            body.lines += fold.along(values, 0, folded)
            values = folded
        body.lines += fold.step(names, values, f"{names[0]}_")

    def _move(self, walk: Walk) -> None:
        """Move the centres of lanes to where the elements so far have them, and what follows them."""
        body = self.body
        before = after = -1
        if any(centre.mean for centre in walk.centres):
            before, after = (self.count(walk, text) for text in ("step", "(step + 1)"))
        for centre in walk.centres:
            old = self._lane(f"centre{centre.value}", centre.source.dtype)
            kind = centre.source.dtype
            new = self.moves.centre(centre, self._lane(_names(centre.source)[0], kind), after)
            apart = self._lane(f"apart{centre.value}", kind) if centre.mean else -1
            self._write()
            for follower in walk.followers:
                if follower.centre.value == centre.value:
                    [name] = _names(follower.reduce)
                    lane = self._lane(name, follower.reduce.dtype)
                    moved = self.moves.moved(follower, lane, old, new, before, apart)
                    self._write()
                    body.lines.append(f"{name} = {body.values[moved].value.text}")
            body.values[centre.value] = body.values[new]
            if centre.mean:
                moved = self.moves.moved_apart(kind, apart, old, new, before)
                each = self.moves.apart(centre.source, new)
                self._write()
                text = body.folded(each, "0.0", COLUMNS, broadcast=body.frame.deep > 1)
                text = f"tl.sum({text}, 0, keep_dims=True)" if body.frame.deep > 1 else text
                body.lines.append(f"apart{centre.value} = {body.values[moved].value.text} + {text}")
            body.lines.append(f"centre{centre.value} = {body.values[new].value.text}")

    def _finish(self, walk: Walk) -> None:
        """Fold the lanes of all folds but those that follow."""
        for reduce, fold in self.folds:
            self.body.lines += fold.along(_names(reduce), 1, self.writer.results(reduce, fold))

    def _settle(self, walk: Walk) -> list[str]:
        """Fold what follows, moved to the row's centres."""
        totals = self.settled(walk, {centre.value: centre.value for centre in walk.centres})
        for follower, total in zip(walk.followers, totals):
            self.moves.settled(follower, total)
            self._write()
        self.body.forget(COLUMNS)
        return self.body.take()

    def settled(self, walk: Walk, centres: Mapping[int, int]) -> list[int]:
        """Fold the lanes of what follows, moved to the centre of all of them; the sums, as values."""
        count = self.count(walk, f"{self.steps}") if any(centre.mean for centre in walk.centres) else -1
        totals = []
        for follower in walk.followers:
            reduce, centre = follower.reduce, follower.centre
            old = self._lane(f"centre{centre.value}", centre.source.dtype)
            lane = self._lane(_names(reduce)[0], reduce.dtype)
            apart = self._lane(f"apart{centre.value}", reduce.dtype) if centre.mean else -1
            moved = self.moves.moved(follower, lane, old, centres[centre.value], count, apart)
            totals.append(self._across(moved, reduce))
        return totals

    def apart(self, centre: Centre, new: int, count: int) -> int:
        """By how much all elements are apart from a centre in sum, as a value."""
        dtype = centre.source.dtype
        lane, old = (self._lane(f"{name}{centre.value}", dtype) for name in ("apart", "centre"))
        return self._across(self.moves.moved_apart(dtype, lane, old, new, count), centre.source)

    def _across(self, lanes: int, reduce: Reduce) -> int:
        """The sum of lanes, as a value."""
        self._write()
        total = self.moves.fresh()
        text = self.body.values[lanes].value.text
        self.body.lines += Fold(reduce, self.writer.prelude).along([text], 1, [f"all{total}"])
        self.body.values[total] = Known(Value(f"all{total}", reduce.dtype), ROWS)
        return total

    def _write(self) -> None:
        for statement in self.moves.take():
            self.body.write(statement)

    def _lane(self, name: str, dtype: np.dtype) -> int:
        """Lanes as a value."""
        number = self.moves.fresh()
        self.body.values[number] = Known(Value(name, dtype), ROWS | COLUMNS)
        return number

    def mean_dtype(self, walk: Walk) -> np.dtype:
        """In which dtype elements are counted."""
        return next(centre.source.dtype for centre in walk.centres if centre.mean)

    def count(self, walk: Walk, steps: str) -> int:
        """How many elements lanes have after so many steps, as a value."""
        frame, dtype = self.body.frame, self.mean_dtype(walk)
        width = frame.columns // frame.deep
        if not frame.column_mask:
            return self._number(f"tl.full((), {steps} * {frame.deep}, {register_type(dtype)})", dtype, 0)
        if not self.lanes:
            first = f" - piece * {self.steps * frame.columns}" if self.pieces > 1 else ""
            held = f"({self.loops.columns + width - 1}{first} - tl.arange(0, {width})[None, :]) // {width}"
            self.lanes.append(f"held = tl.maximum({held}, 0)")
        text = f"tl.minimum({steps} * {frame.deep}, held)"
        return self._number(f"{text}.to({register_type(dtype)})", dtype, ROWS | COLUMNS)

    def _number(self, text: str, dtype: np.dtype, bits: int) -> int:
        """A new value."""
        number = self.moves.fresh()
        self.body.lines.append(f"count{number} = {text}")
        self.body.values[number] = Known(Value(f"count{number}", dtype), bits)
        return number

    # --- scans -------------------------------------------------------------------------------------------------------

    def _state(self, scan: Scan) -> list[str]:
        """What sets the state before the first block."""
        running = Running(scan, self.writer.prelude)
        kind = register_type(scan.dtype)
        return [
            f"{name} = tl.full([{self.writer.frame.rows}, 1], {value}, {kind})"
            for name, value in zip(_before(scan), running.identity)
        ]

    def _follow(self, scan: Scan) -> None:
        """A scan of a block that goes on from the block before."""
        state = _before(scan)
        names = self.writer.scan(scan, state)
        columns = self.writer.frame.columns
        last = f"tl.arange(0, {columns})[None, :] == {columns - 1}"
        for name, value in zip(state, names):
            line = f"{name} = tl.sum(tl.where({last}, {value}, 0), 1, keep_dims=True)"
            if dtypes.is_integer(scan.dtype) and scan.dtype.itemsize < 4:
                line += f".to({register_type(scan.dtype)})"
            self.body.lines.append(line)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _pieces(self, walk: Walk, before: list[Stage | Walk], after: list[Stage | Walk]) -> tuple[list[str], Nest]:
        """What stores the folds of a piece, and the nest that folds the pieces and goes on from there."""
        pieces = _Pieces(self)
        for reduce, fold in self.folds:
            pieces.fold(reduce, fold)
        if walk.followers:
            pieces.follow(walk)
        stages = [
            *(s for s in before if isinstance(s, Stage)),
            Stage("element", tuple(pieces.folded)),
            *walk.between,
            Stage("element", tuple(pieces.followed)),
            Stage("row", tuple(pieces.settled)),
            *(s for s in after if isinstance(s, Stage)),
        ]
        nest = replace(
            self.writer.job.nest,
            inner=(Axis("piece", self.pieces),),
            arguments=tuple(pieces.arguments),
            stages=tuple(stage for stage in stages if stage.body),
        )
        return pieces.lines, (nest, tuple(pieces.slots))

    def piece_centre(self, walk: Walk) -> dict[int, int]:
        """The centres of a piece, from its own folds, and under -1 the number of its elements, all as values."""
        found = {-1: -1}
        if any(centre.mean for centre in walk.centres):
            most = self.steps * self.writer.frame.columns
            dtype = self.mean_dtype(walk)
            text = f"tl.minimum({most}, {self.loops.columns} - piece * {most} + row * 0)"
            found[-1] = self._number(f"{text}.to({register_type(dtype)})", dtype, ROWS)
        for centre in walk.centres:
            found[centre.value] = self.moves.centre(centre, centre.source.results[0], found[-1])
            self._write()
        return found


class _Pieces:
    """Rows that several programs share: what each stores of its piece, and how that is combined."""

    def __init__(self, kernel: _Kernel) -> None:
        self.kernel = kernel
        self.arguments = list(kernel.writer.job.nest.arguments)
        self.slots = list(kernel.writer.job.slots)
        self.lines: list[str] = []
        self.folded: list[Statement] = []
        self.followed: list[Statement] = []
        self.settled: list[Statement] = []
        self.places: dict[int, int] = {}
        """Results of folds -> the arguments in which they are, of each piece."""

    def _stored(self, text: str, dtype: np.dtype) -> int:
        """Store a number of each piece; the argument that it can be loaded from."""
        kernel = self.kernel
        rows = kernel.loops.rows
        masks = kernel.writer.frame.mask(ROWS)
        slot = kernel.writer.job.launches.space(rows * kernel.pieces * dtype.itemsize)
        name = kernel.writer.partial(slot, dtype)
        passed = f", {masks[0]}" if masks else ""
        self.lines.append(f"tl.store({name} + piece * {rows} + row, {text}{passed})")
        self.arguments.append(Argument("part", dtype, "input", rows * kernel.pieces))
        self.slots.append(slot)
        return len(self.arguments) - 1

    def _load(self, argument: int) -> Load:
        outer = self.kernel.writer.job.nest.outer
        places = {**dense(outer), len(outer): self.kernel.loops.rows}
        return Load(self.kernel.moves.fresh(), argument, Offset(0, places))

    def fold(self, reduce: Reduce, fold: Fold) -> None:
        """A fold that needs no centre."""
        numbers = []
        for result, dtype in zip(reduce.results, fold.dtypes):
            self.places[result] = self._stored(self.kernel.body.values[result].value.text, dtype)
            load = self._load(self.places[result])
            self.folded.append(load)
            numbers.append(load.result)
        index = numbers[1] if len(numbers) > 1 else -1
        self.folded.append(replace(reduce, operand=numbers[0], index=index))

    def follow(self, walk: Walk) -> None:
        """Folds that follow: each piece's relative to its own centre, moved to the row's where they are combined."""
        kernel = self.kernel
        centres = kernel.piece_centre(walk)
        totals = kernel.settled(walk, centres)
        moves = kernel.moves
        lanes = kernel.count(walk, f"{kernel.steps}") if any(centre.mean for centre in walk.centres) else -1
        apart = {c.value: kernel.apart(c, centres[c.value], lanes) for c in walk.centres if c.mean}
        count = centres[-1]
        if count >= 0:
            load = self._load(self._stored(kernel.body.values[count].value.text, kernel.mean_dtype(walk)))
            self.followed.append(load)
            count = load.result
        self.lines = [*kernel.body.take(), *self.lines]
        moved = {}
        for centre in walk.centres:
            load = self._load(self.places[centre.source.results[0]])
            self.followed.append(load)
            moved[centre.value] = moves.centre(centre, load.result, count)
            if centre.mean:
                text = kernel.body.values[apart[centre.value]].value.text
                load = self._load(self._stored(text, centre.source.dtype))
                self.followed.append(load)
                apart[centre.value] = load.result
        for follower, total in zip(walk.followers, totals):
            reduce = follower.reduce
            load = self._load(self._stored(kernel.body.values[total].value.text, reduce.dtype))
            self.followed.append(load)
            centre = follower.centre
            rest = apart.get(centre.value, -1)
            value = moves.moved(follower, load.result, moved[centre.value], centre.value, count, rest)
            self.followed += moves.take()
            whole = moves.fresh()
            self.followed.append(replace(reduce, operand=value, results=(whole,)))
            moves.settled(follower, whole)
            self.settled += moves.take()


def _names(reduce: Reduce) -> list[str]:
    """The accumulators of a fold."""
    return [f"row{number}" for number in reduce.results]


def _before(scan: Scan) -> list[str]:
    """The state of a scan before a block."""
    return [f"before{scan.result}_{k}" for k in range(len(scan.operands))]


def _splittable(loops: Loops, stages: list[Stage | Walk]) -> bool:
    """Whether a nest goes over its rows once, to fold them: then a row may be shared by several programs."""
    element = [s for stage in loops.nest.stages if stage.level == "element" for s in stage.body]
    one = sum(isinstance(stage, Walk) for stage in stages) == 1
    return one and not loops.reductions("all") and not any(isinstance(s, (Store, Scan)) for s in element)


def _cut(job: Job, stages: list[Stage | Walk]) -> tuple[Nest, Nest] | None:
    """A nest that walks its rows several times as two: the first walk alone, and what comes after it.

    The row values that the second one needs are left in the workspace. None where the first walk cannot be shared by
    several programs, or where rows are scanned.
    """
    nest, loops = job.nest, job.loops
    place = next((k for k, stage in enumerate(stages) if isinstance(stage, Walk)), -1)
    count = sum(isinstance(stage, Walk) for stage in stages)
    first = [s for stage in stages[: place + 1] for s in (stage.stages if isinstance(stage, Walk) else [stage])]
    rest = [s for stage in stages[place + 1 :] for s in (stage.stages if isinstance(stage, Walk) else [stage])]
    if count < 2 or any(isinstance(s, (Store, Scan)) for stage in first for s in stage.body):
        return None
    if any(isinstance(s, Reduce) and s.over != "inner" for stage in first for s in stage.body):
        return None
    while rest and rest[0].level == "row" and not any(isinstance(s, (Store, Reduce)) for s in rest[0].body):
        first.append(rest.pop(0))
    kinds = value_dtypes(loops)
    rows: dict[int, Statement] = {}
    for stage in first:
        for s in stage.body:
            if stage.level == "row" or isinstance(s, Reduce):
                rows.update(dict.fromkeys(results(s), s))
    used = {value for stage in rest for s in stage.body for value in used_values(s)}
    arguments, slots = list(nest.arguments), list(job.slots)
    offset = Offset(0, dense(nest.outer))
    stores: list[Statement] = []
    loads: list[Statement] = []
    for value, made in rows.items():
        if value not in used:
            continue
        if isinstance(made, (Load, Constant, Index, Inside)) and not used_values(made):
            loads.append(made)
            continue
        stores.append(Store(len(arguments), offset, value))
        loads.append(Load(value, len(arguments), offset))
        arguments.append(Argument("rows", kinds[value], "output", loops.rows))
        slots.append(job.launches.space(loops.rows * kinds[value].itemsize))
    read = tuple(replace(a, kind="input") if k >= len(nest.arguments) else a for k, a in enumerate(arguments))
    one = replace(nest, arguments=tuple(arguments), stages=(*first, Stage("row", tuple(stores))))
    two = replace(nest, name=f"{nest.name}_rest", arguments=read, stages=(Stage("row", tuple(loads)), *rest))
    return (one, tuple(slots)), (two, tuple(slots))
