"""Packing: copying pieces of an operand into the order in which tiles read them, for each k a short dense row.

The functions write ``to[k][w] = from[k][w]`` for ``w < width`` and ``k < count``; they differ in which of the two is
contiguous in the source, if any. Zeros fill a row of the target up to ``padded``. Strides are in bytes.
"""

from __future__ import annotations

import numpy as np
from knetc.codegen.cpu.code import NO_UNROLL, Code
from knetc.codegen.cpu.vectors import VectorType

ARGUMENTS = (
    "ptr noalias %from, i64 %from_k, i64 %from_w, ptr noalias %to, i64 %to_row, i64 %width, i64 %padded, i64 %count"
)


def pack_code(how: str, dtype: np.dtype, lanes: int) -> Code:
    """The function ``copy``, ``transpose`` or ``collect``, which takes up to ``lanes`` elements at a time."""
    return {"copy": _copy, "transpose": _transpose, "collect": _collect}[how](dtype, lanes)


def packing(k_stride: int, w_stride: int) -> str:
    """Which function suits a source with these strides, in elements."""
    return "copy" if w_stride == 1 else "transpose" if k_stride == 1 else "collect"


def _collect(dtype: np.dtype, lanes: int) -> Code:
    """For a source with no contiguous axis: one by one."""
    code = Code()
    unit = VectorType(dtype, lanes)
    with code.loop("0", "%width") as w:
        source = code.at("%from", code.mul(w, "%from_w"))
        with code.loop("0", "%count", hints=NO_UNROLL) as k:
            place = code.at(source, code.mul(k, "%from_k"))
            _copy_one(code, unit, place, code.at("%to", code.mul(k, "%to_row")), w)
    return _padded(code, unit)


def _copy(dtype: np.dtype, lanes: int) -> Code:
    """For a source whose columns are contiguous: ``lanes`` elements at a time, then one by one."""
    code = Code()
    unit = VectorType(dtype, lanes)
    whole = code.sub("%width", code.name(f"urem i64 %width, {lanes}"))
    with code.loop("0", "%count") as k:
        source, target = code.at("%from", code.mul(k, "%from_k")), code.at("%to", code.mul(k, "%to_row"))
        with code.loop("0", whole, step=str(lanes)) as w:
            offset = code.mul(w, str(unit.size))
            unit.store(code, unit.load(code, code.at(source, offset)), code.at(target, offset))
        with code.loop(whole, "%width", hints=NO_UNROLL) as w:
            _copy_one(code, unit, code.at(source, code.mul(w, str(unit.size))), target, w)
    return _padded(code, unit)


def _transpose(dtype: np.dtype, lanes: int) -> Code:
    """For a source that is contiguous along k: squares of ``lanes`` turned in registers.

    Columns past the end repeat the last one, in what will be zero; ``padded`` is a multiple of ``lanes``.
    """
    code = Code()
    unit = VectorType(dtype, lanes)
    size = str(unit.size)
    last = code.sub("%width", "1")
    with code.loop("0", "%width", step=str(lanes)) as w:
        sources = []
        for row in range(lanes):
            sources.append(code.at("%from", code.mul(code.min(code.add(w, str(row)), last), "%from_w")))
        target = code.at("%to", code.mul(w, size))
        with code.loop("0", "%count", step=str(lanes)) as k:
            left = code.min(code.sub("%count", k), str(lanes))
            mask = unit.mask(code, left)
            squares = [unit.load(code, code.at(source, code.mul(k, size)), mask) for source in sources]
            place = code.at(target, code.mul(k, "%to_row"))
            for row, vector in enumerate(_transposed(code, unit, squares)):
                with code.when(code.test("slt", str(row), left)):
                    unit.store(code, vector, code.at(place, code.mul(str(row), "%to_row")))
    return _padded(code, unit)


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
    code.line(f"store {unit.scalar} {value}, ptr {code.at(target, code.mul(w, str(unit.size)))}, align {unit.size}")


def _padded(code: Code, unit: VectorType) -> Code:
    """Zeros behind the columns that there are."""
    with code.loop("0", "%count") as k, code.loop("%width", "%padded", hints=NO_UNROLL) as w:
        place = code.at(code.at("%to", code.mul(k, "%to_row")), code.mul(w, str(unit.size)))
        code.line(f"store {unit.scalar} {unit.zero}, ptr {place}, align {unit.size}")
    return code
