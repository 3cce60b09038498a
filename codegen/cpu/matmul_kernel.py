"""The functions of a matrix product as LLVM IR: register tiles, the loops around them, and packing.

``main`` computes blocks of the product. Inside a block, for each piece of K, each panel of columns and each tile of
rows, it calls a *tile function*, which keeps a tile of the result in vector registers for the length of the piece:
for each k it loads the panel's row of B as vectors and multiplies it by one broadcast element of A for each row. Rows
past the end repeat the last row (the same values are computed and stored again), columns past the end are masked or
lie in padding, so nothing is read or written out of bounds.

Extents, strides and block sizes are numbers in the launch's table, so one compiled function serves all shapes; what
is compiled in is the element type, the number of batch axes and the epilogue. Tile functions are objects of their
own, which all products of an element type share. Numbers measured in bytes are so named.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from knetc.codegen.cpu.code import NO_UNROLL, Code, Table
from knetc.codegen.cpu.matmul_epilogue import Epilogue, TilePlace
from knetc.codegen.cpu.matmul_pack import ARGUMENTS as PACK_ARGUMENTS
from knetc.codegen.cpu.matmul_pack import pack_code
from knetc.codegen.cpu.native import Target, attributes_text
from knetc.codegen.cpu.vectors import VectorType, prefetch

BUFFER_BYTES = 96 * 1024
"""Room on the stack for a block of sums that an epilogue will take."""

AHEAD = 16
"""How many rows of B ahead of their use are fetched from the second-level cache."""

TILE_ARGUMENTS = (
    "ptr noalias %a, i64 %a_row, i64 %a_k, ptr noalias %b, i64 %b_k, ptr noalias %c, i64 %c_row, "
    "i64 %count, i1 %first, i64 %last, i64 %valid"
)


@dataclass(frozen=True)
class Tile:
    """The shape of a register tile: ``rows`` times ``vectors`` vectors of ``lanes`` elements."""

    rows: int
    vectors: int
    lanes: int
    masked: bool
    """Whether columns past the end are masked (cheap on AVX-512); else B is packed with padding wherever needed."""


def tile_for(target: Target, dtype: np.dtype) -> Tile:
    """The tile that suits a target's registers: 32 wide ones with AVX-512, else 16."""
    lanes = target.vector_bytes // dtype.itemsize
    if target.vector_bytes >= 64:
        return Tile(8, 3, lanes, masked=True)
    return Tile(6 if target.vector_bytes == 32 else 4, 2, lanes, masked=False)


@dataclass(frozen=True)
class Function:
    """A kernel function: its symbol, what its launch's table must hold, and the texts of it and of what it calls."""

    symbol: str
    slots: tuple[str, ...]
    texts: dict[str, str]


@cache
def tile_function(rows: int, vectors: int, tile: Tile, dtype: np.dtype, target: Target) -> tuple[str, str]:
    """Symbol and text of the function for a tile: c = a @ b over ``count`` of k if ``first``, else c += a @ b.

    Strides are in bytes; ``last`` is the number of the last row that exists, ``valid`` how many lanes of the last
    vector do.
    """
    code = Code()
    unit = VectorType(dtype, tile.lanes)
    width = tile.lanes * unit.size
    grid = [(r, v) for r in range(rows) for v in range(vectors)]
    mask = unit.mask(code, "%valid") if tile.masked else ""
    masks = [""] * (vectors - 1) + [mask]
    row_numbers = ["0", *(code.min(str(r), "%last") for r in range(1, rows))]
    a_rows = [code.at("%a", code.mul(r, "%a_row")) for r in row_numbers]
    c_rows = [code.at("%c", code.mul(r, "%c_row")) for r in row_numbers]
    places = {(r, v): code.at(c_rows[r], str(v * width)) for r, v in grid}
    ahead = code.name(f"mul nsw i64 %b_k, {AHEAD}")
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
    b_ahead = code.at("%bp", ahead)
    for v in range(vectors):
        prefetch(code, code.at(b_ahead, str(v * width)))
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
    return code.finish(attributes_text(target), TILE_ARGUMENTS, level=0)


def main_function(
    dtype: np.dtype,
    tile: Tile,
    tiles: tuple[tuple[int, int], ...],
    batch_axes: int,
    epilogue: Epilogue | None,
    target: Target,
) -> Function:
    """The function that computes blocks of the product; its items are (batch, block of columns, block of rows).

    ``tiles`` are the (rows, vectors) of the tile functions that it calls.
    """
    code = Code()
    table = Table(code)
    size = dtype.itemsize
    functions = {shape: tile_function(*shape, tile, dtype, target) for shape in tiles}
    for symbol, _ in functions.values():
        code.declare(f"void @{symbol}(ptr, i64, i64, ptr, i64, ptr, i64, i64, i1, i64, i64)")
    a, b = table.array("a"), table.array("b")
    c = table.array("c") if epilogue is None else code.array(np.dtype("bool"), BUFFER_BYTES)
    m, n, k = table.number("m"), table.number("n"), table.number("k")
    row_blocks, column_blocks = table.number("row_blocks"), table.number("column_blocks")
    block_rows, block_panels = table.number("block_rows"), table.number("block_panels")
    piece, a_row, a_k = table.number("piece"), table.number("a.row"), table.number("a.k")
    # from one row of A to the next: between tiles, and (above) inside of one
    a_step = table.number("a.step")
    # a row of a packed panel is as long as the panel is wide; else rows of B have their own stride
    b_row, b_width = table.number("b.row"), table.number("b.row_vector")
    b_vector, c_row = table.number("b.vector"), table.number("c.row")
    with code.loop("%lo", "%hi") as item:
        row_block = code.name(f"urem i64 {item}, {row_blocks}")
        rest = code.div(item, row_blocks)
        column_block, batch = rest, []
        if batch_axes:
            column_block = code.name(f"urem i64 {rest}, {column_blocks}")
            batch = _batch_indices(code, table, code.div(rest, column_blocks), batch_axes, "main")
        i_begin = code.mul(row_block, block_rows)
        i_end = code.min(code.add(i_begin, block_rows), m)
        p_begin = code.mul(column_block, block_panels)
        p_end = code.min(code.add(p_begin, block_panels), table.number("panels"))
        first_vector = _panel(code, table, tile, p_begin)[0]
        a_batch, b_batch = _moved(code, table, a, "a", batch), _moved(code, table, b, "b", batch)
        c_batch = c if epilogue is not None else _moved(code, table, c, "c", batch)
        with code.loop("0", table.number("k_end"), step=piece) as k0:
            count = code.min(piece, code.sub(k, k0))
            is_first = code.test("eq", k0, "0")
            is_last = code.test("sge", code.add(k0, piece), k)
            a_piece = code.at(a_batch, code.mul(k0, a_k))
            with code.loop(p_begin, p_end) as panel:
                start, width = _panel(code, table, tile, panel)
                column = code.mul(start, str(tile.lanes))
                columns = code.min(code.sub(n, column), code.mul(width, str(tile.lanes)))
                valid = code.sub(columns, code.mul(code.sub(width, "1"), str(tile.lanes)))
                b_stride = code.add(b_row, code.mul(width, b_width))
                b_tile = code.at(code.at(b_batch, code.mul(start, b_vector)), code.mul(k0, b_stride))
                if epilogue is None:
                    c_panel = code.at(c_batch, code.mul(column, str(size)))
                else:
                    offset = code.mul(code.sub(start, first_vector), table.number("buffer.vector"))
                    c_panel = code.at(c_batch, offset)
                with code.loop(i_begin, i_end, step=str(tile.rows)) as i:
                    rows = code.min(code.sub(i_end, i), str(tile.rows))
                    a_tile = code.at(a_piece, code.mul(i, a_step))
                    if epilogue is None:
                        c_tile = code.at(c_panel, code.mul(i, c_row))
                    else:
                        c_tile = code.at(c_panel, code.mul(code.sub(i, i_begin), table.number("buffer.row")))
                    function = _chosen_tile(code, functions, rows, width)
                    code.line(
                        f"call void {function}(ptr {a_tile}, i64 {a_row}, i64 {a_k}, ptr {b_tile}, i64 {b_stride}, "
                        f"ptr {c_tile}, i64 {c_row}, i64 {count}, i1 {is_first}, i64 {code.sub(rows, '1')}, "
                        f"i64 {valid})"
                    )
                    if epilogue is not None:
                        with code.when(is_last):
                            place = TilePlace(i, column, rows, columns, c_tile, c_row)
                            epilogue.emit(code, table, batch, place, tile.lanes)
    symbol, text = code.finish(attributes_text(target), level=0 if epilogue is None else 2)
    return Function(symbol, tuple(table.names), {symbol: text, **dict(functions.values())})


def pack_function(dtype: np.dtype, tile: Tile, batch_axes: int, how: str, target: Target) -> Function:
    """The function that copies B into panels; its items are (batch, piece of k, panel).

    A panel holds, for each k, its columns side by side; columns past the end are zero. ``how`` names the function for
    B's strides (see ``packing``). A is packed by it too, as the transposed matrix whose panels are a tile's rows wide.
    """
    code = Code()
    table = Table(code)
    size = dtype.itemsize
    inner, inner_text = pack_code(how, dtype, tile.lanes).finish(attributes_text(target), PACK_ARGUMENTS, level=0)
    code.declare(f"void @{inner}(ptr, i64, i64, ptr, i64, i64, i64, i64)")
    b, packed = table.array("b"), table.array("packed")
    n, k, piece = table.number("n"), table.number("k"), table.number("piece")
    panels, pieces = table.number("panels"), table.number("pieces")
    b_row, b_column = table.number("b.row"), table.number("b.column")
    with code.loop("%lo", "%hi") as item:
        panel = code.name(f"urem i64 {item}, {panels}")
        rest = code.div(item, panels)
        k_piece, batch = rest, []
        if batch_axes:
            k_piece = code.name(f"urem i64 {rest}, {pieces}")
            batch = _batch_indices(code, table, code.div(rest, pieces), batch_axes, "pack")
        k_begin = code.mul(k_piece, piece)
        count = code.min(piece, code.sub(k, k_begin))
        start, width = _panel(code, table, tile, panel)
        column = code.mul(start, str(tile.lanes))
        padded = code.mul(width, str(tile.lanes))
        columns = code.min(code.sub(n, column), padded)
        source = code.at(_moved(code, table, b, "b", batch), code.mul(column, b_column))
        place = code.at(_moved(code, table, packed, "packed", batch), code.mul(start, table.number("packed.vector")))
        row_bytes = code.mul(padded, str(size))
        source, place = code.at(source, code.mul(k_begin, b_row)), code.at(place, code.mul(k_begin, row_bytes))
        code.line(
            f"call void @{inner}(ptr {source}, i64 {b_row}, i64 {b_column}, ptr {place}, i64 {row_bytes}, "
            f"i64 {columns}, i64 {padded}, i64 {count})"
        )
    symbol, text = code.finish(attributes_text(target), level=0)
    return Function(symbol, tuple(table.names), {symbol: text, inner: inner_text})


def _batch_indices(code: Code, table: Table, item: str, axes: int, which: str) -> list[str]:
    """Split ``item`` into the indices of the batch axes, the last axis fastest."""
    indices = []
    for axis in reversed(range(1, axes)):
        extent = table.number(f"{which}.extent{axis}")
        indices.append(code.name(f"urem i64 {item}, {extent}"))
        item = code.div(item, extent)
    return [item, *reversed(indices)] if axes else []


def _moved(code: Code, table: Table, pointer: str, name: str, indices: list[str]) -> str:
    """``pointer`` advanced to a batch element: slots ``name.batch0`` … are strides in bytes."""
    for axis, index in enumerate(indices):
        pointer = code.at(pointer, code.mul(index, table.number(f"{name}.batch{axis}")))
    return pointer


def _panel(code: Code, table: Table, tile: Tile, panel: str) -> tuple[str, str]:
    """A panel's first vector of columns, and how many vectors it has.

    Panels are as wide as the tile, but the last ones may be one vector narrower, so that the work is even; the last
    panel has what is left.
    """
    wide, total = table.number("wide_panels"), table.number("vectors")
    beyond = code.sub(panel, wide)
    is_wide = code.test("slt", beyond, "0")
    narrow = str(max(tile.vectors - 1, 1))
    after = code.add(code.mul(wide, str(tile.vectors)), code.mul(beyond, narrow))
    start = code.choose(is_wide, code.mul(panel, str(tile.vectors)), after)
    return start, code.min(code.choose(is_wide, str(tile.vectors), narrow), code.sub(total, start))


def _chosen_tile(code: Code, functions: dict[tuple[int, int], tuple[str, str]], rows: str, width: str) -> str:
    """The tile function with the fewest rows that suffice, for a panel's width."""
    by_width: dict[int, list[int]] = {}
    for r, v in functions:
        by_width.setdefault(v, []).append(r)
    chosen = ""
    for v, heights in sorted(by_width.items()):
        name = ""
        for r in sorted(heights, reverse=True):
            this = f"@{functions[r, v][0]}"
            name = code.choose(code.test("sle", rows, str(r)), this, name, "ptr") if name else this
        chosen = code.choose(code.test("eq", width, str(v)), name, chosen, "ptr") if chosen else name
    return chosen
