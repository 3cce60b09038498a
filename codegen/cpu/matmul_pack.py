"""Packing: copying pieces of an operand into the order in which tiles read them, for each k a short dense row.

The functions write ``to[k][w] = from[k][w]`` for ``w < width`` and ``k < count``; they differ in which of the two is
contiguous in the source, if any. Where a row of the target is longer than the width, the caller fills what is left.
"""

from __future__ import annotations

import numpy as np
from knetc.codegen.cpu.code import Code
from knetc.codegen.cpu.vectors import VectorType

ARGUMENTS = (
    "ptr noalias %from, i64 %from_k, i64 %from_w, ptr noalias %to, i64 %to_row, i64 %width, i64 %count"  # in bytes
)


def pack_source(how: str, dtype: np.dtype, lanes: int) -> str:
    """The text of function ``how``: ``copy``, ``transpose`` or ``collect``, of ``lanes`` elements at a time."""
    return {"copy": _copy, "transpose": _transpose, "collect": _collect}[how](how, dtype, lanes)


def packing(k_stride: int, w_stride: int) -> str:
    """Which function suits a source with these strides, in elements."""
    return "copy" if w_stride == 1 else "transpose" if k_stride == 1 else "collect"


def _collect(name: str, dtype: np.dtype, lanes: int) -> str:
    """For a source with no contiguous axis: one by one."""
    code = Code()
    unit = VectorType(dtype, lanes)
    with code.loop("0", "%width") as w:
        source = code.at("%from", code.times(w, "%from_w"))
        with code.loop("0", "%count", metadata=", !llvm.loop !0") as k:
            place = code.at(source, code.times(k, "%from_k"))
            _copy_one(code, unit, place, code.at("%to", code.times(k, "%to_row")), w)
    return _function(name, code)


def _copy(name: str, dtype: np.dtype, lanes: int) -> str:
    """For a source whose columns are contiguous: ``lanes`` elements at a time, then one by one."""
    code = Code()
    unit = VectorType(dtype, lanes)
    whole = code.minus("%width", code.name(f"urem i64 %width, {lanes}"))
    with code.loop("0", "%count") as k:
        source, target = code.at("%from", code.times(k, "%from_k")), code.at("%to", code.times(k, "%to_row"))
        with code.loop("0", whole, str(lanes)) as w:
            offset = code.times(w, str(unit.size))
            unit.store(code, unit.load(code, code.at(source, offset)), code.at(target, offset))
        with code.loop(whole, "%width", metadata=", !llvm.loop !0") as w:
            _copy_one(code, unit, code.at(source, code.times(w, str(unit.size))), target, w)
    return _function(name, code)


def _transpose(name: str, dtype: np.dtype, lanes: int) -> str:
    """For a source that is contiguous along k: squares of ``lanes`` turned in registers, edges singly."""
    code = Code()
    unit = VectorType(dtype, lanes)
    size = str(unit.size)
    whole_k = code.minus("%count", code.name(f"urem i64 %count, {lanes}"))
    whole_w = code.minus("%width", code.name(f"urem i64 %width, {lanes}"))

    def singly(w: str, k_begin: str) -> None:
        source = code.at("%from", code.times(w, "%from_w"))
        with code.loop(k_begin, "%count", metadata=", !llvm.loop !0") as k:
            _copy_one(code, unit, code.at(source, code.times(k, size)), code.at("%to", code.times(k, "%to_row")), w)

    with code.loop("0", whole_w, str(lanes)) as w:
        first = code.at("%from", code.times(w, "%from_w"))
        sources = [code.at(first, code.times(str(row), "%from_w")) for row in range(lanes)]
        target = code.at("%to", code.times(w, size))
        with code.loop("0", whole_k, str(lanes)) as k:
            offset = code.times(k, size)
            rows = [unit.load(code, code.at(source, offset)) for source in sources]
            for row, vector in enumerate(_transposed(code, unit, rows)):
                unit.store(code, vector, code.at(target, code.times(code.plus(k, str(row)), "%to_row")))
        with code.loop("0", str(lanes), metadata=", !llvm.loop !0") as row:
            singly(code.plus(w, row), whole_k)
    with code.loop(whole_w, "%width", metadata=", !llvm.loop !0") as w:
        singly(w, "0")
    return _function(name, code)


def _transposed(code: Code, unit: VectorType, rows: list[str]) -> list[str]:
    """A square of vectors turned: in step d, rows i and i + d exchange their elements whose number has bit d."""
    distance = 1
    while distance < unit.lanes:
        turned = list(rows)
        for i in range(unit.lanes):
            if not i & distance:
                low = [c if not c & distance else unit.lanes + c - distance for c in range(unit.lanes)]
                high = [c + distance if not c & distance else unit.lanes + c for c in range(unit.lanes)]
                turned[i] = unit.shuffle(code, rows[i], rows[i + distance], low)
                turned[i + distance] = unit.shuffle(code, rows[i], rows[i + distance], high)
        rows, distance = turned, 2 * distance
    return rows


def _copy_one(code: Code, unit: VectorType, source: str, target: str, w: str) -> None:
    value = code.name(f"load {unit.scalar}, ptr {source}, align {unit.size}")
    code.line(f"store {unit.scalar} {value}, ptr {code.at(target, code.times(w, str(unit.size)))}, align {unit.size}")


def _function(name: str, code: Code) -> str:
    lines = "\n".join([*code.lines, "  ret void"])
    return f"define internal void @{name}({ARGUMENTS}) noinline #0 {{\n{lines}\n}}\n"
