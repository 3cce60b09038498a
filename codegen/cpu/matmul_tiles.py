"""Tile functions: a tile of a matrix product in vector registers, for a piece of K.

Two kinds with the same arguments. The usual one has vectors along the columns. For a product with one column, where
the rows of A are contiguous along k, there is one with vectors along k, whose lanes are summed at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from knetc.codegen.cpu.code import NO_UNROLL, Code
from knetc.codegen.cpu.native import Target, attributes_text
from knetc.codegen.cpu.vectors import VectorType, prefetch

AHEAD = 16
"""How many rows of B ahead of their use are fetched from the second-level cache."""

TILE_ARGUMENTS = (
    "ptr noalias %a, i64 %a_row, i64 %a_k, ptr noalias %b, i64 %b_k, ptr noalias %c, i64 %c_row, "
    "i64 %count, i1 %first, i64 %last, i64 %valid, ptr %ahead, i64 %ahead_step"
)


@dataclass(frozen=True)
class Tile:
    """The shape of a register tile: ``rows`` times ``vectors`` vectors of ``lanes`` elements."""

    rows: int
    vectors: int
    lanes: int
    masked: bool
    """Whether columns past the end are masked (cheap on AVX-512); else B is packed with padding wherever needed."""
    dot: int = 0
    """Lanes along k, of tiles that are one column wide; 0 for all others."""

    def function(
        self, rows: int, vectors: int, masked: bool, dtype: np.dtype, target: Target, fetches: bool = False
    ) -> tuple[str, str]:
        """Symbol and text of the tile function for this many rows and vectors, the last of which may be masked."""
        if self.dot:
            return dot_function(rows, self.dot, dtype, target)
        return tile_function(rows, vectors, masked, self.lanes, dtype, target, fetches)


def tile_for(target: Target, dtype: np.dtype) -> Tile:
    """The tile that suits a target's registers: 32 wide ones with AVX-512, else 16."""
    lanes = target.vector_bytes // dtype.itemsize
    if target.vector_bytes >= 64:
        return Tile(8, 3, lanes, masked=True)
    return Tile(6 if target.vector_bytes == 32 else 4, 2, lanes, masked=False)


@cache
def tile_function(
    rows: int, vectors: int, masked: bool, lanes: int, dtype: np.dtype, target: Target, fetches: bool
) -> tuple[str, str]:
    """Symbol and text of the function for a tile: c = a @ b over ``count`` of k if ``first``, else c += a @ b.

    Strides are in bytes; ``last`` is the number of the last row that exists, ``valid`` how many lanes of the last
    vector do. One that ``fetches`` meanwhile brings memory from ``ahead`` on into the second-level cache, a step of
    ``ahead_step`` bytes with each k: slowly, for a processor that waits for many lines at once can do nothing else.
    """
    code = Code()
    unit = VectorType(dtype, lanes)
    width = lanes * unit.size
    grid = [(r, v) for r in range(rows) for v in range(vectors)]
    mask = unit.mask(code, "%valid") if masked else ""
    masks = [""] * (vectors - 1) + [mask]
    row_numbers = ["0", *(code.min(str(r), "%last") for r in range(1, rows))]
    a_rows = [code.at("%a", code.mul(r, "%a_row")) for r in row_numbers]
    c_rows = [code.at("%c", code.mul(r, "%c_row")) for r in row_numbers]
    places = {(r, v): code.at(c_rows[r], str(v * width)) for r, v in grid}
    ahead_b = code.name(f"mul nsw i64 %b_k, {AHEAD}")
    for place in places.values():  # the result's lines come while the products are summed
        prefetch(code, place, write=True)
    code.branch(code.test("sgt", "%count", "0"), "loop", "write")

    code.begin("loop")
    phis = len(code.emitter.lines)  # they need the names of what the body computes
    b_vectors = [unit.load(code, code.at("%bp", str(v * width)), masks[v]) for v in range(vectors)]
    sums = {}
    for r in range(rows):
        factor = unit.broadcast(code, code.at(a_rows[r], "%ao"))
        for v in range(vectors):
            sums[r, v] = unit.multiply_add(code, factor, b_vectors[v], f"%s{r}_{v}")
    b_ahead = code.at("%bp", ahead_b)
    for v in range(vectors):
        prefetch(code, code.at(b_ahead, str(v * width)))
    if fetches:
        prefetch(code, "%ahead_at", level=2)
        ahead_next = code.at("%ahead_at", "%ahead_step")
    a_next, b_next = code.name("add i64 %ao, %a_k"), code.at("%bp", "%b_k")
    k_next = code.name("add nsw i64 %k, -1")
    more = code.test("sgt", k_next, "0")
    code.line(f"br i1 {more}, label %loop, label %write, !llvm.loop {code.loop_metadata(NO_UNROLL)}")
    zero = f"{unit.vector} [ zeroinitializer, %start ]"
    code.emitter.lines[phis:phis] = [
        *(f"  %s{r}_{v} = phi {zero}, [ {sums[r, v]}, %loop ]" for r, v in grid),
        f"  %k = phi i64 [ %count, %start ], [ {k_next}, %loop ]",
        f"  %ao = phi i64 [ 0, %start ], [ {a_next}, %loop ]",
        f"  %bp = phi ptr [ %b, %start ], [ {b_next}, %loop ]",
        *([f"  %ahead_at = phi ptr [ %ahead, %start ], [ {ahead_next}, %loop ]"] if fetches else []),
    ]

    code.begin("write")
    result = {place: code.name(f"phi {zero}, [ {sums[place]}, %loop ]") for place in grid}
    code.branch("%first", "store", "accumulate")
    code.begin("accumulate")
    total = {(r, v): unit.add(code, unit.load(code, places[r, v], masks[v]), result[r, v]) for r, v in grid}
    code.jump("store")
    code.begin("store")
    final = {p: code.name(f"phi {unit.vector} [ {result[p]}, %write ], [ {total[p]}, %accumulate ]") for p in grid}
    for r, v in grid:
        unit.store(code, final[r, v], places[r, v], masks[v])
    return code.finish(attributes_text(target), TILE_ARGUMENTS, passes=0)


@cache
def dot_function(rows: int, lanes: int, dtype: np.dtype, target: Target) -> tuple[str, str]:
    """Symbol and text of the function for a tile of one column, where k is contiguous in both operands.

    The arguments are those of ``tile_function``; the strides along k, and ``valid``, are not used.
    """
    code = Code()
    unit, one = VectorType(dtype, lanes), VectorType(dtype, 1)
    row_numbers = ["0", *(code.min(str(r), "%last") for r in range(1, rows))]
    a_rows = [code.at("%a", code.mul(r, "%a_row")) for r in row_numbers]
    whole = code.sub("%count", code.name(f"urem i64 %count, {lanes}"))
    sums = {kind: [code.array(dtype, kind.lanes) for _ in range(rows)] for kind in (unit, one)}
    for kind, low, high in ((unit, "0", whole), (one, whole, "%count")):
        for cell in sums[kind]:
            kind.store(code, "zeroinitializer", cell)
        with code.loop(low, high, step=str(kind.lanes), hints=NO_UNROLL) as k:
            offset = code.mul(k, str(unit.size))
            b = kind.load(code, code.at("%b", offset))
            for row, cell in zip(a_rows, sums[kind]):
                a = kind.load(code, code.at(row, offset))
                kind.store(code, kind.multiply_add(code, a, b, kind.load(code, cell)), cell)
    places = [code.at("%c", code.mul(r, "%c_row")) for r in row_numbers]
    totals = []
    for vector, single in zip(sums[unit], sums[one]):
        rest = code.name(f"extractelement {one.vector} {one.load(code, single)}, i32 0")
        totals.append(unit.sum(code, rest, unit.load(code, vector)))
    with code.when(code.name("xor i1 %first, true")):
        old = [one.load(code, place) for place in places]
        for vector, total, cell in zip(old, totals, sums[one]):
            one.store(code, one.add(code, vector, one.single(code, total)), cell)
    with code.when("%first"):
        for total, cell in zip(totals, sums[one]):
            one.store(code, one.single(code, total), cell)
    for value, place in zip([one.load(code, cell) for cell in sums[one]], places):
        one.store(code, value, place)
    return code.finish(attributes_text(target), TILE_ARGUMENTS, passes=1)
