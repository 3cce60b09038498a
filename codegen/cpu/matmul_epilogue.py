"""What happens to a block of a matrix product before it is stored: elementwise code from a loop nest.

The sums of a block lie in a buffer that is still in the near caches; a loop over the block's rows and columns, which
LLVM widens, applies the nest's statements; other arrays are so touched in long pieces of rows. All strides but that of
the columns are numbers in the launch's table, so that equal epilogues of different shapes are one function.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from knetc.codegen.axes import Loops, independent
from knetc.codegen.cpu.code import Code, Table
from knetc.codegen.cpu.emitter import Scalar
from knetc.codegen.cpu.frame import PLAIN
from knetc.codegen.cpu.matmul_spec import statement_offsets
from knetc.codegen.cpu.scope import Scope, State
from knetc.codegen.loopnest import Load, LoopNest, Offset, Reduce, Statement, Store
from knetc.runtime.base.errors import CompileError

_Key = tuple[int, tuple[tuple[int, int], ...]]


def _key(offset: Offset) -> _Key:
    return offset.base, tuple(sorted((axis, stride) for axis, stride in offset.axes.items() if stride))


class Epilogue:
    """The statements of a nest with axes (batch…, row, column), and the offsets in them, each of which has slots."""

    def __init__(self, nest: LoopNest, dtype: np.dtype) -> None:
        self.nest = nest
        self.dtype = dtype
        """Of the sums."""
        self.statements: tuple[Statement, ...] = tuple(s for stage in nest.stages for s in stage.body)
        self.offsets: dict[_Key, int] = {}
        """The offsets' numbers; equal ones have one."""
        for statement in self.statements:
            for offset in statement_offsets(statement):
                self.offsets.setdefault(_key(offset), len(self.offsets))

    def numbers(self) -> dict[str, int]:
        """What the slots of the offsets hold."""
        numbers: dict[str, int] = {}
        for (base, axes), number in self.offsets.items():
            numbers[f"offset{number}.base"] = base
            numbers |= {f"offset{number}.axis{axis}": stride for axis, stride in axes}
        return numbers

    def begin(self, code: Code, table: Table) -> dict[int, Scalar]:
        """Emit what is the same at all points (a step's number to a power, say), for ``emit`` to use."""
        point = self._point(code, table, {}, {})
        point.emit(self._steady(range(len(self.nest.axes)), ()), _no_fold)
        return point.values

    def streams(self, row_axis: int) -> int:
        """How many arrays are touched row by row."""
        places = (s for s in self.statements if isinstance(s, Load | Store) and s.offset.axes.get(row_axis))
        return len({s.argument for s in places})

    def element_loads(self, row_axis: int) -> list[Load]:
        """The loads of arrays like the product, which are contiguous along its rows; of equal ones the last."""
        loads = (s for s in self.statements if isinstance(s, Load) and not s.where and not s.offset.indirect)
        places = {(s.argument, _key(s.offset)): s for s in loads if s.offset.axes.get(row_axis)}
        return [s for s in places.values() if s.offset.axes.get(row_axis + 1) == 1]

    def starts(self, code: Code, table: Table, batch: Sequence[str], row: str) -> list[str]:
        """Where in memory what those loads read begins in a row."""
        point = self._point(code, table, dict(enumerate((*batch, row, "0"))), {})
        starts = []
        for load in self.element_loads(len(batch)):
            pointer, index = point.address(load.argument, load.offset)
            starts.append(code.at(pointer, code.mul(index, str(point.argument(load.argument).dtype.itemsize))))
        return starts

    def emit(
        self, code: Code, table: Table, known: dict[int, Scalar], batch: Sequence[str], block: Block, lanes: int
    ) -> None:
        """Emit the loops over a block: one vector of columns at a time, the last one masked."""
        column = len(batch) + 1
        hints: tuple[str, ...] = (
            '!{!"llvm.loop.vectorize.predicate.enable", i1 true}',
            f'!{{!"llvm.loop.vectorize.width", i32 {lanes}}}',
            '!{!"llvm.loop.interleave.count", i32 1}',
        )
        # a single column is stored at one place, which LLVM cannot widen, and would say so to the user
        if not all(s.offset.axes.get(column) for s in self.statements if isinstance(s, Store)):
            hints = PLAIN
        with code.loop("0", block.rows) as r:
            sums = code.at(block.sums, code.mul(r, block.sums_row))
            place = dict(enumerate((*batch, code.add(block.row, r))))
            point = self._point(code, table, place, known)
            point.emit(self._steady((column,), known), _no_fold)
            with code.loop("0", block.columns, parallel=True, hints=hints) as j:
                point.axes[column] = code.add(block.column, j)
                point.product = (sums, j)
                point.emit(self.statements, _no_fold)

    def _point(self, code: Code, table: Table, axes: dict[int, str], known: Mapping[int, Scalar]) -> _Point:
        """Where statements are emitted: at a point of a block, or before the loops over some of its axes."""
        slots = {
            number: table.place(f"argument{number}")
            for number, argument in enumerate(self.nest.arguments)
            if number > 0 and argument.kind != "scratch"
        }
        point = _Point(code, Loops(self.nest, -1), slots, -1, axes=axes, values=dict(known))
        point.epilogue, point.table = self, table
        return point

    def _steady(self, axes: Container[int], known: Iterable[int]) -> list[Statement]:
        """The statements that give the same along some axes, but for those whose values are known."""
        others = [s for s in self.statements if not (isinstance(s, Load) and s.argument == 0)]
        early = independent(Loops(self.nest, -1), others, axes, known)
        return [s for s in others if not isinstance(s, Store | Reduce) and s.result in early]


@dataclass(frozen=True)
class Block:
    """Where a block is in the product, its extents, and where its sums lie; ``sums_row`` is in bytes."""

    row: str
    column: str
    rows: str
    columns: str
    sums: str
    sums_row: str


class _Point(Scope):
    """Statements at a point of a block: strides come from the table, and argument 0 is the product."""

    epilogue: Epilogue
    table: Table
    product: tuple[str, str]
    """The row of sums, and the element there."""

    def place(self, offset: Offset) -> str:
        frame = self.frame
        number = self.epilogue.offsets[_key(offset)]
        total = self.table.number(f"offset{number}.base")
        column = len(self.axes) - 1
        for value, stride in offset.indirect.items():
            total = frame.add(total, frame.mul(self.values[value].text, str(stride)))
        for axis, stride in _key(offset)[1]:
            # what is contiguous is in the code, for LLVM to see
            step = "1" if axis == column and stride == 1 else self.table.number(f"offset{number}.axis{axis}")
            total = frame.add(total, frame.mul(self.axes[axis], step))
        return total

    def _load(self, s: Load) -> Scalar:
        if s.argument == 0:
            return self.frame.emitter.load(*self.product, self.epilogue.dtype)
        return super()._load(s)


def _no_fold(reduce: Reduce, state: State) -> None:
    raise CompileError(f"an epilogue of a matrix product folds nothing, not even by {reduce.op.name}")
