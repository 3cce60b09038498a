"""Writing one GPU kernel of a nest: its parameters, its body, and the sums over rows that programs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from knetc.codegen.axes import Loops
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Load, LoopNest, Offset, Reduce, Scan, Stage, Statement, Store
from knetc.codegen.triton import model
from knetc.codegen.triton.body import COLUMNS, ROWS, Body, Frame, Known
from knetc.codegen.triton.emitter import Value, pointer_type, register_type
from knetc.codegen.triton.fold import Fold, Running
from knetc.codegen.triton.source import Header, Prelude, render, symbol_of
from knetc.runtime.base import dtypes
from knetc.runtime.program import GRID_ALIGNMENT, GridLaunch, Slot

_SCALARS = {"bool": "i32", "float16": "fp32", "bfloat16": "fp32"}
_NAMES = {"input": "in", "output": "out", "update": "inout", "scalar": "number", "scratch": "none"}


@dataclass
class Launches:
    """The kernels of a nest as they come about, and the workspace that they share."""

    functions: dict[str, str] = field(default_factory=dict)
    grids: list[GridLaunch] = field(default_factory=list)
    workspace: int = 0
    notes: list[str] = field(default_factory=list)

    def space(self, size_bytes: int) -> Slot:
        """A place in the workspace."""
        place = self.workspace
        self.workspace += -(-max(size_bytes, 1) // GRID_ALIGNMENT) * GRID_ALIGNMENT
        return Slot("workspace", place)

    def launch(self, source: str, programs: int, slots: Sequence[Slot]) -> None:
        """One more launch, of ``programs`` programs."""
        symbol = symbol_of(source)
        self.functions[symbol] = source
        self.grids.append(GridLaunch(symbol, (programs,), tuple(slots)))

    def kernel(self) -> Kernel:
        return Kernel(self.functions, (), self.workspace, tuple(self.notes), tuple(self.grids))


@dataclass(frozen=True)
class Job:
    """A nest to be written, and where its arguments are."""

    launches: Launches
    loops: Loops
    slots: tuple[Slot, ...]
    """Of each argument of the nest, those that are scratch included (their slots mean nothing)."""
    choice: model.Choice = model.MODEL

    @property
    def nest(self) -> LoopNest:
        return self.loops.nest


class Writer:
    """One kernel in the making."""

    def __init__(self, job: Job, frame: Frame, body: type[Body] = Body, ballot: Slot | None = None) -> None:
        """``body`` writes the statements; ``ballot`` is where it votes (see ``scatter``)."""
        self.job, self.frame = job, frame
        self.prelude = Prelude()
        self.parameters: dict[str, str] = {}
        self.slots: list[Slot] = []
        names: list[str] = []
        written = {s.argument for s in job.loops.statements if isinstance(s, Store)}
        written |= {s.argument for s in job.loops.reductions("outer", "all")}
        self.written: list[str] = []
        for k, argument in enumerate(job.nest.arguments):
            name = f"{_NAMES[argument.kind]}{k}"
            names.append(name)
            if argument.kind == "scratch":
                continue
            kind = pointer_type(argument.dtype)
            self.parameters[name] = _SCALARS.get(argument.dtype.name, kind[1:]) if argument.kind == "scalar" else kind
            self.slots.append(job.slots[k])
            if k in written:
                self.written.append(name)
        self.body = body(frame, names, self.prelude)
        if ballot is not None:
            self.body.votes = self.partial(ballot, dtypes.i32)

    @property
    def number(self) -> str:
        """The program's number."""
        return "tl.program_id(0).to(tl.int64)" if self.frame.wide else "tl.program_id(0)"

    def partial(self, slot: Slot, dtype: np.dtype) -> str:
        """One more parameter: memory in the workspace."""
        name = f"part{len(self.parameters)}"
        self.parameters[name] = pointer_type(dtype)
        self.slots.append(slot)
        self.written.append(name)
        return name

    def statement(self, statement: Statement, totals: Totals, *, by_row: bool) -> None:
        """Write a statement of a nest whose rows are in registers."""
        if isinstance(statement, Scan):
            self.scan(statement, ())
        elif not isinstance(statement, Reduce):
            self.body.write(statement)
        elif statement.over != "inner":
            totals.add(statement, by_row)
        elif not self.job.nest.inner:
            self.alone(statement)
        else:
            fold = Fold(statement, self.prelude)
            values = []
            for value in self.body.operand(statement, fold, COLUMNS, broadcast=True):
                values.append(value)
            if len(values) > 1 or "(" in values[0]:
                for k, value in enumerate(values):
                    values[k] = f"folded{statement.results[0]}" + ("_at" if k else "")
                    self.body.lines.append(f"{values[k]} = {value}")
            self.body.lines += fold.along(values, 1, self.results(statement, fold))

    def scan(self, scan: Scan, before: Sequence[str]) -> list[str]:
        """Scan a block whose columns are a whole row, or follow on those whose state is ``before``.

        Gives the names of the scanned states.
        """
        if not self.job.nest.inner:
            self.body.values[scan.result] = self.body.values[scan.operands[-1]]
            return []
        running = Running(scan, self.prelude)
        names = [f"{scan.op.name}{scan.result}{'_' * bool(k)}{k or ''}" for k in reversed(range(len(scan.operands)))]
        values = [
            self.body.folded(number, "", ROWS | COLUMNS, broadcast=True, masked=False) for number in scan.operands
        ]
        self.body.lines += running.along(values, names)
        if before:
            self.body.lines += running.after(before, names)
        self.body.values[scan.result] = Known(Value(names[-1], scan.dtype), ROWS | COLUMNS)
        return names

    def alone(self, reduce: Reduce) -> None:
        """A fold of one element."""
        numbers = [reduce.operand, *([reduce.index] if len(reduce.results) > 1 else [])]
        for result, number in zip(reduce.results, numbers):
            self.body.values[result] = self.body.values[number]

    def results(self, reduce: Reduce, fold: Fold) -> list[str]:
        """The names of a fold's results, which are known from now on."""
        names = [f"{reduce.op.name}{number}" for number in reduce.results]
        for number, name, dtype in zip(reduce.results, names, fold.dtypes):
            self.body.values[number] = Known(Value(name, dtype), ROWS)
        return names

    def emit(self, template: str, programs: int, about: str, *, warps: int = 0, stages: int = 1, **values: Any) -> None:
        """Render the kernel and launch it."""
        header = Header(
            self.job.nest.name,
            dict(self.parameters),
            self.job.choice.shared(warps or model.warps(self.frame.rows * self.frame.columns)),
            stages,
            written=tuple(self.written),
        )
        source = render(template, header, self.prelude, frame=self.frame, number=self.number, about=about, **values)
        self.job.launches.launch(source, programs, self.slots)
        self.job.launches.notes.append(about)


@dataclass
class _Total:
    """A fold over rows: its accumulators, and the memory where programs leave their parts."""

    reduce: Reduce
    fold: Fold
    names: list[str]
    by_row: bool
    slots: list[Slot] = field(default_factory=list)


class Totals:
    """Folds over all rows, or over everything: accumulators of a kernel, and the kernels that combine its programs'.

    ``rows`` programs share the rows, and for each piece of them there are ``across`` programs along the columns.
    """

    def __init__(self, writer: Writer, rows: int, across: int = 1, piece: str = "tl.program_id(0)") -> None:
        self.writer, self.rows, self.across, self.piece = writer, rows, across, piece
        self.items: list[_Total] = []

    def add(self, reduce: Reduce, by_row: bool) -> None:
        """Fold what one block holds into the accumulators."""
        body = self.writer.body
        fold = Fold(reduce, self.writer.prelude)
        name = f"total{len(self.items)}"
        names = [name, f"{name}_at"][: len(fold.dtypes)]
        values = body.operand(reduce, fold, ROWS if by_row else ROWS | COLUMNS, broadcast=False)
        body.lines += fold.step(names, values, f"{name}_")
        self.items.append(_Total(reduce, fold, names, by_row))

    @property
    def start(self) -> list[str]:
        """Statements that set the accumulators."""
        frame, lines = self.writer.frame, []
        for item in self.items:
            shape = f"[{frame.rows}, 1]" if item.by_row and not frame.flat else frame.shape
            for name, identity, dtype in zip(item.names, item.fold.identity, item.fold.dtypes):
                lines.append(f"{name} = tl.full({shape}, {identity}, {register_type(dtype)})")
        return lines

    def _scalar(self, item: _Total) -> bool:
        """Whether a total is one number: a fold over all, or over the rows of a nest without columns."""
        return item.reduce.over == "all" or not self.writer.job.nest.inner

    def _programs(self, item: _Total) -> int:
        """How many programs leave parts of a total."""
        return self.rows * self.across if self._scalar(item) else self.rows

    def finish(self) -> list[str]:
        """Statements that fold the accumulators and store them, where they belong or for another kernel."""
        writer, lines = self.writer, []
        columns = writer.job.loops.columns
        for item in self.items:
            along = None if self._scalar(item) else 0
            results = [f"{name}_all" for name in item.names]
            lines += item.fold.along(item.names, along, results)
            masks = [] if along is None else writer.frame.mask(COLUMNS)
            passed = f", {masks[0]}" if masks else ""
            programs = self._programs(item)
            if programs == 1:
                text, bits = writer.body.offset(item.reduce.offset)
                place = text if along is None else writer.body.placed(text, bits)
                pointer = writer.body.parameters[item.reduce.argument]
                lines.append(f"tl.store({pointer} + {place}, {results[-1]}{passed})")
                continue
            for result, dtype in zip(results, item.fold.dtypes):
                count = programs * (1 if along is None else columns)
                item.slots.append(writer.job.launches.space(count * dtype.itemsize))
                name = writer.partial(item.slots[-1], dtype)
                place = "tl.program_id(0)" if along is None else f"{self.piece} * {columns} + column"
                lines.append(f"tl.store({name} + {place}, {result}{passed})")
        return lines

    def combined(self) -> list[tuple[LoopNest, tuple[Slot, ...]]]:
        """The nests that fold the programs' parts: one for sums of columns, one for single numbers."""
        found = []
        for scalar in (False, True):
            items = [item for item in self.items if item.slots and self._scalar(item) == scalar]
            if items:
                found.append(self._combine(items, scalar))
        return found

    def _combine(self, items: Sequence[_Total], scalar: bool) -> tuple[LoopNest, tuple[Slot, ...]]:
        nest = self.writer.job.nest
        first = len(nest.outer)
        kept = () if scalar else nest.inner
        programs = self._programs(items[0])
        arguments: list[Argument] = []
        slots: list[Slot] = []
        element: list[Statement] = []
        row: list[Statement] = []
        number = 0
        strides = dense(kept)
        columns = 1 if scalar else self.writer.job.loops.columns
        for item in items:
            numbers = []
            for slot, dtype in zip(item.slots, item.fold.dtypes):
                element.append(Load(number, len(arguments), Offset(0, {**strides, len(kept): columns})))
                arguments.append(Argument("part", dtype, "input", programs * columns))
                slots.append(slot)
                numbers.append(number)
                number += 1
            results = tuple(range(number, number + len(numbers)))
            number += len(numbers)
            index = numbers[1] if len(numbers) > 1 else -1
            element.append(Reduce(item.reduce.op, numbers[0], item.reduce.dtype, "inner", results, index=index))
            offset = item.reduce.offset
            moved = replace(offset, axes={a - first: s for a, s in offset.axes.items()})
            row.append(Store(len(arguments), moved, results[-1]))
            arguments.append(replace(nest.arguments[item.reduce.argument], kind="output"))
            slots.append(self.writer.job.slots[item.reduce.argument])
        stages = (Stage("element", tuple(element)), Stage("row", tuple(row)))
        return LoopNest("combine", kept, (Axis("piece", programs),), tuple(arguments), stages), tuple(slots)


def dense(axes: Sequence[Axis]) -> dict[int, int]:
    """The strides of dense memory over axes."""
    strides, stride = {}, 1
    for k in reversed(range(len(axes))):
        strides[k] = stride
        stride *= axes[k].extent
    return strides
