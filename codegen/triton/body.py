"""The statements of a loop nest as Triton source, for one block of its points.

A block is two-dimensional: outer points ("rows") down, inner points ("columns") across; values of rows have the shape
[ROWS, 1], those of columns alone [1, COLUMNS]. A nest that is walked as one long line of points has blocks of one
dimension, all of them "rows".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from knetc.codegen.axes import Loops
from knetc.codegen.loopnest import (
    Compute,
    Constant,
    Index,
    Inside,
    Load,
    Offset,
    Range,
    Reduce,
    Statement,
    Store,
)
from knetc.codegen.triton.code import full, operation
from knetc.codegen.triton.emitter import Value, literal_text, register_type
from knetc.codegen.triton.fold import Fold
from knetc.codegen.triton.source import Prelude
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CompileError

ROWS, COLUMNS = 1, 2
"""What a value varies along, as bits."""


@dataclass(frozen=True)
class Frame:
    """How blocks lie over a nest's points: their extents, and which masks they need."""

    loops: Loops
    rows: int
    columns: int
    flat: bool = False
    row_mask: bool = False
    column_mask: bool = False
    wide: bool = False
    """Whether offsets need 64 bits."""
    deep: int = 1
    """In how many lines the columns of a block lie, one below the other; of blocks of one row."""

    @property
    def shape(self) -> str:
        return f"[{self.rows}]" if self.flat else f"[{self.rows * self.deep}, {self.columns // self.deep}]"

    @property
    def row(self) -> str:
        return "point" if self.flat else "row"

    def mask(self, bits: int) -> list[str]:
        """The masks of what varies along ``bits``."""
        inside = ["points" if self.flat else "rows"] if self.row_mask and bits & ROWS else []
        return inside + (["columns"] if self.column_mask and bits & COLUMNS else [])


@dataclass(frozen=True)
class Known:
    """A value of the nest in the kernel, and what it varies along."""

    value: Value
    bits: int


class Body:
    """Writes statements; ``lines`` collects them until they are taken."""

    def __init__(self, frame: Frame, parameters: Sequence[str], prelude: Prelude) -> None:
        self.frame, self.parameters, self.prelude = frame, parameters, prelude
        self.loops = frame.loops
        self.values: dict[int, Known] = {}
        self.lines: list[str] = []
        self.head: list[str] | None = None
        """Where statements go whose values are the same at all points; None: among the others."""
        self.axes: set[int] = set()
        """Axes whose values the kernel needs."""
        self.loads = 0
        self.votes = ""
        """The parameter with the memory for votes, of kernels that vote (see ``scatter``)."""
        self._same: dict[object, Known] = {}

    def take(self) -> list[str]:
        """The lines so far, which are then forgotten."""
        lines, self.lines = self.lines, []
        return lines

    def forget(self, bits: int) -> None:
        """Leave a loop along ``bits``: what varies along them is no longer known."""
        self.values = {k: v for k, v in self.values.items() if not v.bits & bits}
        self._same = {k: v for k, v in self._same.items() if not v.bits & bits}

    def _add(self, bits: int, *lines: str) -> None:
        """Write statements that give a value which varies along ``bits``."""
        (self.lines if bits or self.head is None else self.head).extend(lines)

    # --- places ------------------------------------------------------------------------------------------------------

    def axis_lines(self, bits: int) -> list[str]:
        """The values of the axes along ``bits`` from the number of the row or column."""
        which = self.loops.outer if bits == ROWS else self.loops.inner
        number = self.frame.row if bits == ROWS else "column"
        if len(which) < 2:
            return []
        lines, stride = [], 1
        for axis in reversed(which):
            text = f"{number} // {stride}" if stride > 1 else number
            if axis != which[0]:
                text += f" % {self.loops.extent(axis)}"
            if axis in self.axes:
                lines.append(f"i{axis} = {text}")
            stride *= self.loops.extent(axis)
        return lines[::-1]

    def _bits(self, axis: int) -> int:
        return ROWS if axis in self.loops.outer else COLUMNS

    def _axis(self, axis: int) -> str:
        which = self.loops.outer if axis in self.loops.outer else self.loops.inner
        if len(which) < 2:
            return self.frame.row if axis in self.loops.outer else "column"
        self.axes.add(axis)
        return f"i{axis}"

    def offset(self, offset: Offset) -> tuple[str, int]:
        """An offset as text, and what it varies along."""
        terms, bits = [], 0
        for axis, stride in sorted(offset.axes.items(), key=lambda item: -abs(item[1])):
            if stride:
                bits |= self._bits(axis)
                terms.append(_times(self._axis(axis), stride))
        for number, stride in offset.indirect.items():
            known = self.values[number]
            bits |= known.bits
            place = known.value.text
            if not self.frame.wide:
                place = f"{place}.to(tl.int32)" if not known.value.literal else place
            terms.append(_times(place, stride))
        if offset.base or not terms:
            terms.append(str(offset.base))
        return " + ".join(terms).replace("+ -", "- "), bits

    def conditions(self, where: Sequence[Range]) -> tuple[list[str], int]:
        """Conditions as text, those left out that hold for all points."""
        found, bits = [], 0
        for condition in where:
            text, varies = self.offset(condition.offset)
            least, most = self._span(condition.offset)
            anything = bool(condition.offset.indirect)
            if anything or least < condition.low:
                found.append(f"({text} >= {condition.low})")
                bits |= varies
            if anything or most >= condition.high:
                found.append(f"({text} < {condition.high})")
                bits |= varies
        return list(dict.fromkeys(found)), bits

    def _span(self, offset: Offset) -> tuple[int, int]:
        reach = [s * (self.loops.extent(a) - 1) for a, s in offset.axes.items()]
        return offset.base + sum(min(r, 0) for r in reach), offset.base + sum(max(r, 0) for r in reach)

    # --- statements --------------------------------------------------------------------------------------------------

    def write(self, statement: Statement) -> None:
        """Write anything but a reduction."""
        match statement:
            case Load():
                self._load(statement)
            case Constant(result, dtype, value):
                self.values[result] = Known(Value(literal_text(value, dtype), dtype, literal=True), 0)
            case Index():
                self._index(statement)
            case Inside():
                self._inside(statement)
            case Compute():
                self._compute(statement)
            case Store():
                self._store(statement)
            case _:
                raise CompileError(f"no Triton code for {type(statement).__name__}")

    def _load(self, load: Load) -> None:
        argument = self.loops.nest.arguments[load.argument]
        parameter = self.parameters[load.argument]
        if argument.kind == "scalar":
            self._scalar(load.result, parameter, argument.dtype)
            return
        text, placed = self.offset(load.offset)
        conditions, varies = self.conditions(load.where)
        bits = placed | varies
        if load.offset.indirect:  # an index out of range is an error that is found elsewhere: it must not be followed
            limit = f"({text} >= 0) & ({text} < {argument.size})"
            conditions.append(limit)
        masks = [*self.frame.mask(bits), *conditions]
        if bits != placed:  # one place, read under a condition that varies: Triton wants as many places
            text = _plus(text, f"({' & '.join(masks)}).to(tl.int32) * 0")
        key = (parameter, text, tuple(masks), load.otherwise)
        found = self._same.get(key)
        if found is None:
            passed = f", {' & '.join(masks)}" if masks else ""
            if conditions:
                other = literal_text(load.otherwise, argument.dtype)
                passed += f", {int(bool(load.otherwise)) if argument.dtype.kind == 'b' else other}"
            expression = f"tl.load({_plus(parameter, text)}{passed})"
            if dtypes.is_narrow(argument.dtype):
                expression += ".to(tl.float32)"
            elif argument.dtype.kind == "b":
                expression += " != 0"
            name = f"x{self.loads}"
            self.loads += 1
            self._add(bits, f"{name} = {expression}")
            found = self._same[key] = Known(Value(name, argument.dtype), bits)
        self.values[load.result] = found

    def _scalar(self, result: int, parameter: str, dtype: object) -> None:
        value = Value(parameter, dtype)  # type: ignore[arg-type]
        if value.dtype.kind == "b":
            found = self._same.get(parameter)
            if found is None:
                self._add(0, f"{parameter}_is = {parameter} != 0")
                found = self._same[parameter] = Known(Value(f"{parameter}_is", value.dtype), 0)
            self.values[result] = found
        else:
            self.values[result] = Known(value, 0)

    def _index(self, index: Index) -> None:
        text, bits = self.offset(index.offset)
        if not bits:
            self.values[index.result] = Known(Value(text, dtypes.i64, literal=True), 0)
            return
        found = self._same.get(("index", text))
        if found is None:
            name = f"index{index.result}"
            self.lines.append(f"{name} = ({text}).to(tl.int64)")
            found = self._same["index", text] = Known(Value(name, dtypes.i64), bits)
        self.values[index.result] = found

    def _inside(self, inside: Inside) -> None:
        conditions, bits = self.conditions(inside.where)
        key = ("inside", *conditions)
        found = self._same.get(key)
        if found is None:
            if conditions:
                name = f"inside{inside.result}"
                self.lines.append(f"{name} = {' & '.join(conditions)}")
                found = Known(Value(name, dtypes.boolean), bits)
            else:
                found = Known(Value("True", dtypes.boolean, literal=True), 0)
            self._same[key] = found
        self.values[inside.result] = found

    def _compute(self, compute: Compute) -> None:
        operands = [self.values[number] for number in compute.operands]
        attributes = tuple(sorted(compute.attributes.items()))
        key = (compute.op.name, compute.dtype, attributes, tuple(k.value for k in operands))
        found = self._same.get(key)
        if found is None:
            name = f"{compute.op.name}{compute.result}"
            lines, value = operation(
                compute.op, [k.value for k in operands], compute.dtype, compute.attributes, self.prelude, name
            )
            bits = 0
            for operand in operands:
                bits |= operand.bits
            self._add(bits, *lines)
            found = self._same[key] = Known(value, bits)
        self.values[compute.result] = found

    def _store(self, store: Store) -> None:
        argument = self.loops.nest.arguments[store.argument]
        text, bits = self.offset(store.offset)
        value = self.values[store.value]
        place = self.placed(text, bits)
        masks = self.frame.mask(bits | value.bits or ROWS)
        if store.offset.indirect:
            masks.append(f"({text} >= 0) & ({text} < {argument.size})")
        self._write(store, place, full(value.value), masks)

    def _write(self, store: Store, text: str, value: str, masks: list[str]) -> None:
        passed = f", {' & '.join(masks)}" if masks else ""
        pointer = _plus(self.parameters[store.argument], text)
        if store.accumulate:
            self.lines.append(f'tl.atomic_add({pointer}, {value}{passed}, sem="relaxed")')
        else:
            self.lines.append(f"tl.store({pointer}, {value}{passed})")

    def placed(self, text: str, bits: int) -> str:
        """An offset that varies along nothing, as a block beside the one row or column that there is."""
        if bits:
            return text
        return self.frame.row if text == "0" else f"{self.frame.row} + {text}"

    # --- reductions --------------------------------------------------------------------------------------------------

    def operand(self, reduce: Reduce, fold: Fold, bits: int, *, broadcast: bool) -> list[str]:
        """The values to be folded, what is outside of the nest replaced by the identity."""
        numbers = [reduce.operand, *([reduce.index] if fold.combine.with_index else [])]
        return [
            self.folded(number, identity, bits, broadcast=broadcast) for number, identity in zip(numbers, fold.identity)
        ]

    def folded(self, number: int, identity: str, bits: int, *, broadcast: bool, masked: bool = True) -> str:
        """A value as it is folded along ``bits``: a whole block if ``broadcast``, the identity where ``masked``."""
        known = self.values[number]
        kind = register_type(known.value.dtype)
        text = f"tl.full((), {known.value.text}, {kind})" if known.value.literal else known.value.text
        masks = self.frame.mask(bits) if masked else []
        if broadcast and known.bits & bits != bits:
            text = f"tl.broadcast_to({text}, {self.frame.shape})"
        if not masks:
            return text
        return f"tl.where({' & '.join(masks)}, {text}, {identity})"


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"


def _plus(pointer: str, offset: str) -> str:
    return pointer if offset == "0" else f"{pointer} + {offset}"


def points(loops: Loops) -> int:
    """Number of points of a nest."""
    return math.prod(axis.extent for axis in loops.nest.axes)
