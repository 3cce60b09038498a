"""What happens to a tile of a matrix product before it is stored: elementwise code from a loop nest.

The sums of a tile lie in a small buffer that is still in the first-level cache; a loop over the tile's rows and
columns, which LLVM widens, applies the nest's element stage. All strides but that of the columns are numbers in the
launch's table, so that equal epilogues of different shapes are one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from knetc.codegen.cpu.code import Code, Table
from knetc.codegen.cpu.emitter import Scalar
from knetc.codegen.loopnest import Compute, Constant, Load, LoopNest, Offset, Store
from knetc.runtime.base.errors import CompileError


@dataclass(frozen=True)
class Access:
    """Where a load or store goes, in elements: ``base + batch indices * batch + row * row + column * column``."""

    argument: int
    base: int
    batch: tuple[int, ...]
    row: int
    column: int


def access(statement: Load | Store, batch_axes: int) -> Access:
    """The place of a statement of an epilogue, whose axes are (batch…, row, column)."""
    offset: Offset = statement.offset
    if offset.indirect:
        raise CompileError("an epilogue of a matrix product cannot load or store at places that other values name")
    strides = [offset.axes.get(axis, 0) for axis in range(batch_axes + 2)]
    return Access(statement.argument, offset.base, tuple(strides[:batch_axes]), strides[-2], strides[-1])


@dataclass(frozen=True)
class Epilogue:
    """The element stage of a nest, and where its loads and stores go (by number of the statement)."""

    nest: LoopNest
    places: Mapping[int, Access]
    dtype: np.dtype
    """Of the sums."""

    def emit(
        self, code: Code, table: Table, batch: list[str], row: str, rows: str, column: str, columns: str,
        sums: str, sums_row: str,
    ) -> None:  # fmt: skip
        """Emit the loops over a tile of ``rows`` times ``columns``, whose ``sums`` lie ``sums_row`` bytes apart."""
        arguments = self.nest.arguments
        bases: dict[int, str] = {}
        for number, place in self.places.items():
            argument = arguments[place.argument]
            if argument.kind == "scalar":
                continue
            offset = code.plus(table.number(f"s{number}.base"), code.times(row, table.number(f"s{number}.row")))
            for axis, index in enumerate(batch):
                offset = code.plus(offset, code.times(index, table.number(f"s{number}.batch{axis}")))
            offset = code.plus(offset, code.times(column, self._column(table, number)))
            bases[number] = code.address(table.address(f"argument{place.argument}"), offset, argument.dtype)
        with code.loop("0", rows) as r:
            pointers = {
                number: code.address(
                    base, code.times(r, table.number(f"s{number}.row")), arguments[self.places[number].argument].dtype
                )
                for number, base in bases.items()
            }
            sums_at = code.at(sums, code.times(r, sums_row))
            with code.loop("0", columns, metadata=", !llvm.loop !2") as j:
                code.access = ", !llvm.access.group !3"
                self._stage(code, table, pointers, sums_at, j)
                code.access = ""

    def _column(self, table: Table, number: int) -> str:
        """The stride of the columns: 0 and 1 are in the code, so that LLVM sees what is contiguous."""
        stride = self.places[number].column
        return str(stride) if stride in (0, 1) else table.number(f"s{number}.column")

    def _stage(self, code: Code, table: Table, pointers: Mapping[int, str], sums: str, j: str) -> None:
        values: dict[int, Scalar] = {}
        for number, statement in enumerate(self.nest.stages[0].body):
            if isinstance(statement, Load) and statement.argument == 0:
                values[statement.result] = code.load(sums, j, self.dtype)
            elif isinstance(statement, Load):
                argument = self.nest.arguments[statement.argument]
                if argument.kind == "scalar":
                    values[statement.result] = _scalar(code, table, statement.argument, argument.dtype)
                else:
                    place = code.times(j, self._column(table, number)) if self.places[number].column else "0"
                    values[statement.result] = code.load(pointers[number], place, argument.dtype)
            elif isinstance(statement, Constant):
                values[statement.result] = code.constant(statement.value, statement.dtype)
            elif isinstance(statement, Compute):
                if statement.op.emit is None:
                    raise CompileError(f"{statement.op.name} has no code for a CPU")
                operands = [values[v] for v in statement.operands]
                values[statement.result] = statement.op.emit(code, *operands, **statement.attributes)
            elif isinstance(statement, Store):
                place = code.times(j, self._column(table, number)) if self.places[number].column else "0"
                code.store(values[statement.value], pointers[number], place)
            else:
                raise CompileError(f"an epilogue of a matrix product cannot hold {type(statement).__name__}")

    def metadata(self, lanes: int) -> str:
        """The loop over columns: points are independent; one vector at a time, the last one masked."""
        return (
            "!2 = distinct !{!2, !4, !5, !6, !7}\n!3 = distinct !{}\n"
            '!4 = !{!"llvm.loop.parallel_accesses", !3}\n'
            '!5 = !{!"llvm.loop.vectorize.predicate.enable", i1 true}\n'
            f'!6 = !{{!"llvm.loop.vectorize.width", i32 {lanes}}}\n'
            '!7 = !{!"llvm.loop.interleave.count", i32 1}\n'
        )


def _scalar(code: Code, table: Table, argument: int, dtype: np.dtype) -> Scalar:
    """A scalar argument: the slot holds an int64 or a double's bits."""
    bits = table.number(f"argument{argument}")
    if dtype.kind == "f":
        double = code.value(f"bitcast i64 {bits} to double", np.dtype(np.float64))
        return code.convert(double, dtype)
    return code.convert(Scalar(bits, np.dtype(np.int64)), dtype)
