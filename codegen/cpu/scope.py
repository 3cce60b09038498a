"""The straight-line code of a loop nest's stages, statement by statement, at a point whose axes are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from knetc.codegen.axes import Loops
from knetc.codegen.cpu.emitter import Scalar
from knetc.codegen.cpu.frame import Frame
from knetc.codegen.loopnest import (
    Argument,
    Compute,
    Constant,
    Index,
    Inside,
    Load,
    Offset,
    Range,
    Reduce,
    Scan,
    Statement,
    Store,
)
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CompileError

from knetc.ir.op import Combine

State = tuple[Scalar, ...]
"""The state of a fold: one value for a sum, a value and an index for an argmax."""

Fold = Reduce | Scan
"""What has a state that elements are merged into."""


@dataclass
class Scope:
    """What code at a point may use: the axes' indices, the values so far, where arguments and scratch memory are."""

    frame: Frame
    loops: Loops
    slots: Mapping[int, int]
    """Argument -> its slot in the table."""
    extent_slot: int
    """Slot of the extent of the dynamic axis."""
    axes: dict[int, str] = field(default_factory=dict)
    values: dict[int, Scalar] = field(default_factory=dict)
    scratch: dict[int, str] = field(default_factory=dict)
    """Scratch argument -> its address."""
    staged: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Loads, by identity, whose value was brought to an array on the stack: its address and the element there."""
    streamed: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Stores, by identity, that go to an array on the stack first: its address and the element there."""
    scans: dict[int, tuple[Cell, str]] = field(default_factory=dict)
    """Scans, by identity: where their state is, and which of the cells there."""
    scanned: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Scans, by identity, whose results were brought to an array on the stack: its address and the element there."""
    lane: str = ""
    """Index in the tile of a point that is processed beside others; '' where rows are processed one by one."""
    tile: int = 1
    """How many points share scratch memory, each element of which is then ``tile`` values."""

    # --- places ------------------------------------------------------------------------------------------------------

    def extent(self, axis: int) -> str:
        """The extent of an axis: a constant, or the content of its slot."""
        if axis == self.loops.dynamic:
            return self.frame.slot(self.extent_slot, "i64")
        return str(self.loops.extent(axis))

    def place(self, offset: Offset) -> str:
        """An offset at this point. The terms of slow axes come first, so that they can leave inner loops."""
        frame = self.frame
        total = str(offset.base)
        for value, stride in offset.indirect.items():
            total = frame.add(total, frame.mul(self.values[value].text, str(stride)))
        for axis in self.axes:
            if stride := offset.axes.get(axis, 0):
                total = frame.add(total, frame.mul(self.axes[axis], str(stride)))
        return total

    def address(self, argument: int, offset: Offset) -> tuple[str, str]:
        """The base address of an argument and an element offset from it."""
        place = self.place(offset)
        if argument in self.scratch:
            if self.tile > 1:
                place = self.frame.add(self.frame.mul(place, str(self.tile)), self.lane)
            return self.scratch[argument], place
        return self.frame.slot(self.slots[argument], "ptr"), place

    def argument(self, number: int) -> Argument:
        return self.loops.nest.arguments[number]

    # --- statements --------------------------------------------------------------------------------------------------

    def emit(self, statements: Iterable[Statement], fold: Callable[[Reduce, State], None]) -> None:
        """Code for statements; ``fold`` says what to do with an element's state at a reduction."""
        for s in statements:
            if isinstance(s, Store):
                self._store(s)
            elif isinstance(s, Reduce):
                fold(s, self.element(s))
            elif s.result not in self.values:
                self.values[s.result] = self._scan(s) if isinstance(s, Scan) else self._value(s)

    def _scan(self, s: Scan) -> Scalar:
        if id(s) in self.scanned:
            return self.frame.emitter.load(*self.scanned[id(s)], s.dtype)
        cell, index = self.scans[id(s)]
        state = self.merge(s, cell.read(index), self.element(s))
        cell.write(state, index)
        return state[-1]

    def _value(self, s: Load | Index | Constant | Inside | Compute) -> Scalar:
        e = self.frame.emitter
        if isinstance(s, Constant):
            return e.constant(s.value, s.dtype)
        if isinstance(s, Index):
            return Scalar(self.place(s.offset), dtypes.i64)
        if isinstance(s, Inside):
            return self._inside(s.where)
        if isinstance(s, Compute):
            if s.op.emit is None:
                raise CompileError(f"the operation {s.op.name} has no code for the CPU (the record's emit)")
            value = s.op.code(e, *(self.values[v] for v in s.operands), **s.attributes)
            assert isinstance(value, Scalar)
            return value
        return self._load(s)

    def _load(self, s: Load) -> Scalar:
        frame, e = self.frame, self.frame.emitter
        argument = self.argument(s.argument)
        if argument.kind == "scalar":
            return self._scalar(self.slots[s.argument], argument.dtype)
        if id(s) in self.staged:
            array, place = self.staged[id(s)]
            return e.load(array, place, argument.dtype)
        if not s.where:
            pointer, place = self.address(s.argument, s.offset)
            return e.load(pointer, place, argument.dtype)
        inside = self._inside(s.where)
        otherwise = e.constant(s.otherwise, argument.dtype)
        read, done, before = frame.label(), frame.label(), frame.block
        frame.branch(inside.text, read, done)
        frame.begin(read)
        pointer, place = self.address(s.argument, s.offset)
        loaded = e.load(pointer, place, argument.dtype)
        frame.jump(done)
        frame.begin(done)
        # in one block with the load, the vectoriser makes a masked load of it
        return e.value(
            f"phi {loaded.typed.split()[0]} [ {otherwise.text}, %{before} ], [ {loaded.text}, %{read} ]", argument.dtype
        )

    def _scalar(self, slot: int, dtype: np.dtype) -> Scalar:
        """A scalar argument from its slot: an int64, or a double's bits."""
        e = self.frame.emitter
        if dtypes.is_float(dtype):
            return e.convert(Scalar(self.frame.slot(slot, "double"), dtypes.f64), dtype)
        return e.convert(Scalar(self.frame.slot(slot, "i64"), dtypes.i64), dtype)

    def _inside(self, where: tuple[Range, ...]) -> Scalar:
        e = self.frame.emitter
        inside = e.constant(True, dtypes.boolean)
        for k, condition in enumerate(where):
            # low <= x < high in one comparison, as unsigned numbers
            distance = self.frame.sub(self.place(condition.offset), str(condition.low))
            width = max(condition.high - condition.low, 0)
            one = e.value(f"icmp ult i64 {distance}, {width}", dtypes.boolean)
            inside = e.and_(inside, one) if k else one
        return inside

    def _store(self, s: Store) -> None:
        e = self.frame.emitter
        value = self.values[s.value]
        if id(s) in self.streamed:
            e.store(value, *self.streamed[id(s)])
            return
        pointer, place = self.address(s.argument, s.offset)
        if s.accumulate and not s.replace:
            value = e.add(e.load(pointer, place, value.dtype), value)
        e.store(value, pointer, place)

    # --- folds -------------------------------------------------------------------------------------------------------

    def element(self, reduce: Fold) -> State:
        """An element as the state of a fold of it alone."""
        if isinstance(reduce, Scan):
            return tuple(self.frame.emitter.convert(self.values[v], reduce.dtype) for v in reduce.operands)
        value = self.frame.emitter.convert(self.values[reduce.operand], reduce.dtype)
        return (value, self.values[reduce.index]) if reduce.index >= 0 else (value,)

    def merge(self, reduce: Fold, left: State, right: State) -> State:
        """The state of two folds together; ``left`` is of the elements that come first."""
        combine = combine_of(reduce)
        if combine.reassociable and isinstance(reduce, Reduce):
            return (self.frame.emitter.accumulate(combine.reassociable, left[0], right[0]),)
        return tuple(combine.merge(self.frame.emitter, left, right))


def combine_of(reduce: Fold) -> Combine:
    """How a reduction or a scan folds."""
    if reduce.op.combine is None:
        raise CompileError(f"the operation {reduce.op.name} has no fold (the record's combine)")
    return reduce.op.combine


def state_dtypes(reduce: Fold) -> tuple[np.dtype, ...]:
    """The dtypes of the parts of a fold's state."""
    if isinstance(reduce, Scan):
        return (reduce.dtype,) * len(reduce.operands)
    return (reduce.dtype, dtypes.i64) if combine_of(reduce).with_index else (reduce.dtype,)


def identity(scope: Scope, reduce: Fold) -> State:
    """The state of the empty fold."""
    values = combine_of(reduce).identity(reduce.dtype)
    return tuple(scope.frame.emitter.constant(v, d) for v, d in zip(values, state_dtypes(reduce), strict=True))


class Cell:
    """The state of a fold in memory: one variable (or array) a part."""

    def __init__(self, scope: Scope, reduce: Fold, pointers: tuple[str, ...]) -> None:
        self.scope, self.reduce, self.pointers = scope, reduce, pointers

    @classmethod
    def variable(cls, scope: Scope, reduce: Fold) -> Self:
        """A cell of registers."""
        return cls(scope, reduce, tuple(scope.frame.variable(d) for d in state_dtypes(reduce)))

    @classmethod
    def array(cls, scope: Scope, reduce: Fold, count: int) -> Self:
        """``count`` cells on the stack."""
        return cls(scope, reduce, tuple(scope.frame.array(d, count) for d in state_dtypes(reduce)))

    def read(self, index: str = "0") -> State:
        e = self.scope.frame.emitter
        return tuple(e.load(p, index, d) for p, d in zip(self.pointers, state_dtypes(self.reduce), strict=True))

    def write(self, state: State, index: str = "0") -> None:
        for pointer, part in zip(self.pointers, state, strict=True):
            self.scope.frame.emitter.store(part, pointer, index)

    def clear(self, index: str = "0") -> None:
        self.write(identity(self.scope, self.reduce), index)

    def merge(self, state: State, index: str = "0") -> None:
        self.write(self.scope.merge(self.reduce, self.read(index), state), index)

    def merge_unordered(self, state: State) -> None:
        """Merge a state of elements that may come before: where both could win, the smaller index does."""
        here, e = self.read(), self.scope.frame.emitter
        one = self.scope.merge(self.reduce, here, state)
        if len(one) > 1:
            other = self.scope.merge(self.reduce, state, here)
            first = e.compare("le", one[1], other[1])
            one = tuple(e.select(first, a, b) for a, b in zip(one, other))
        self.write(one)


class Total(Cell):
    """A sum of sums. Of floats it keeps what rounding loses, so that many parts add up as exactly as few."""

    def __init__(self, scope: Scope, reduce: Fold, pointers: tuple[str, ...]) -> None:
        super().__init__(scope, reduce, pointers)
        self.lost = ""
        if dtypes.is_float(reduce.dtype) and combine_of(reduce).reassociable == "add":
            self.lost = scope.frame.variable(reduce.dtype)

    def write(self, state: State, index: str = "0") -> None:
        super().write(state, index)
        if self.lost:
            e = self.scope.frame.emitter
            e.store(e.constant(0.0, self.reduce.dtype), self.lost, "0")

    def read(self, index: str = "0") -> State:
        state = super().read(index)
        if not self.lost:
            return state
        e = self.scope.frame.emitter
        lost = e.load(self.lost, "0", self.reduce.dtype)
        # after an infinity nothing is lost, but the difference that tells so is NaN
        lost = e.select(e.compare("uno", lost, lost), e.constant(0.0, self.reduce.dtype), lost)
        return (e.add(state[0], lost),)

    def merge(self, state: State, index: str = "0") -> None:
        if not self.lost:
            super().merge(state, index)
            return
        e = self.scope.frame.emitter
        (total,), (value,) = super().read(index), state
        both = e.add(total, value)
        added = e.sub(both, total)
        error = e.add(e.sub(total, e.sub(both, added)), e.sub(value, added))
        e.store(e.add(e.load(self.lost, "0", self.reduce.dtype), error), self.lost, "0")
        super().write((both,), index)
