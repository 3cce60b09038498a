"""The functions of a matrix product as LLVM IR: register tiles, the loops around them, and packing.

``main`` computes blocks of the product. Inside a block, for each piece of K, each panel of columns and each tile of
rows, it calls a *tile function*, which keeps a tile of the result in vector registers for the length of the piece:
for each k it loads the panel's row of B as vectors and multiplies it by one broadcast element of A for each row. Rows
past the end repeat the last row (the same values are computed and stored again), columns past the end are masked or
lie in padding, so nothing is read or written out of bounds.

Extents, strides and block sizes are numbers in the launch's table, so one compiled function serves all shapes; what
is compiled in is the element type, the number of batch axes and the epilogue. Numbers measured in bytes are so named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from knetc.codegen.cpu.code import Code, Table
from knetc.codegen.cpu.matmul_epilogue import Epilogue
from knetc.codegen.cpu.matmul_pack import pack_source
from knetc.codegen.cpu.native import Target
from knetc.codegen.cpu.vectors import VectorType


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


AHEAD = 16
"""How many rows of B ahead of their use are fetched from the second-level cache."""

TILE_ARGUMENTS = (
    "ptr noalias %a, i64 %a_row, i64 %a_k, ptr noalias %b, i64 %b_k, ptr noalias %c, i64 %c_row, "
    "i64 %count, i1 %first, i64 %last, i64 %valid"
)


def tile_function(name: str, rows: int, vectors: int, tile: Tile, dtype: np.dtype) -> str:
    """The function for a tile: c = a @ b over ``count`` of k if ``first``, else c += a @ b.

    Strides are in bytes; ``last`` is the number of the last row that exists, ``valid`` how many lanes of the last
    vector do.
    """
    code = Code()
    unit = VectorType(dtype, tile.lanes)
    width = tile.lanes * unit.size
    grid = [(r, v) for r in range(rows) for v in range(vectors)]
    mask = unit.mask(code, "%valid") if tile.masked else ""
    masks = [""] * (vectors - 1) + [mask]
    row_numbers = ["0", *(code.smaller(str(r), "%last") for r in range(1, rows))]
    a_rows = [code.at("%a", "0" if r == "0" else code.times(r, "%a_row")) for r in row_numbers]
    c_rows = [code.at("%c", "0" if r == "0" else code.times(r, "%c_row")) for r in row_numbers]
    code.line(f"%ahead = mul nsw i64 %b_k, {AHEAD}")
    for r, v in grid:  # the result's lines come while the products are summed
        code.line(f"call void @llvm.prefetch.p0(ptr {code.at(c_rows[r], str(v * width))}, i32 1, i32 3, i32 1)")
    code.line(f"br i1 {code.test('sgt', '%count', '0')}, label %loop, label %write")
    code.label("loop")
    body = Code()
    body._count, body.lines = 100_000, []
    a_offset, b_pointer, k = "%ao", "%bp", "%k"
    sums = {}
    b_vectors = [unit.load(body, body.at(b_pointer, str(v * width)), masks[v]) for v in range(vectors)]
    for r in range(rows):
        factor = unit.broadcast(body, body.at(a_rows[r], a_offset))
        for v in range(vectors):
            sums[r, v] = unit.multiply_add(body, factor, b_vectors[v], f"%s{r}_{v}")
    for r, v in grid:
        code.line(f"%s{r}_{v} = phi {unit.vector} [ zeroinitializer, %entry ], [ {sums[r, v]}, %loop ]")
    code.line(f"{k} = phi i64 [ %count, %entry ], [ %k_next, %loop ]")
    code.line(f"{a_offset} = phi i64 [ 0, %entry ], [ %a_next, %loop ]")
    code.line(f"{b_pointer} = phi ptr [ %b, %entry ], [ %b_next, %loop ]")
    code.lines += body.lines
    ahead = code.at(b_pointer, "%ahead")
    for v in range(vectors):
        code.line(f"call void @llvm.prefetch.p0(ptr {code.at(ahead, str(v * width))}, i32 0, i32 3, i32 1)")
    code.line(f"%a_next = add i64 {a_offset}, %a_k")
    code.line(f"%b_next = getelementptr i8, ptr {b_pointer}, i64 %b_k")
    code.line(f"%k_next = add nsw i64 {k}, -1")
    code.line(f"br i1 {code.test('sgt', '%k_next', '0')}, label %loop, label %write, !llvm.loop !0")
    code.label("write")
    result = {
        (r, v): code.name(f"phi {unit.vector} [ zeroinitializer, %entry ], [ {sums[r, v]}, %loop ]") for r, v in grid
    }
    code.line("br i1 %first, label %store, label %add")
    code.label("add")
    total = {
        (r, v): unit.add(code, result[r, v], unit.load(code, code.at(c_rows[r], str(v * width)), masks[v]))
        for r, v in grid
    }
    code.line("br label %store")
    code.label("store")
    for r, v in grid:
        value = code.name(f"phi {unit.vector} [ {result[r, v]}, %write ], [ {total[r, v]}, %add ]")
        total[r, v] = value
    for r, v in grid:
        unit.store(code, total[r, v], code.at(c_rows[r], str(v * width)), masks[v])
    code.line("ret void")
    lines = "\n".join(code.lines)
    return f"define internal void @{name}({TILE_ARGUMENTS}) noinline #0 {{\n{lines}\n}}\n"


@dataclass(frozen=True)
class Function:
    """A kernel function's text, without its name (``@KERNEL``), and what its launch's table must hold."""

    text: str
    slots: tuple[str, ...]


def _batch_indices(code: Code, table: Table, item: str, axes: int, which: str) -> list[str]:
    """Split ``item`` into the indices of the batch axes, the last axis fastest."""
    indices = []
    for axis in reversed(range(1, axes)):
        extent = table.number(f"{which}.extent{axis}")
        indices.append(code.name(f"urem i64 {item}, {extent}"))
        item = code.name(f"udiv i64 {item}, {extent}")
    return [item, *reversed(indices)] if axes else []


def _moved(code: Code, table: Table, pointer: str, name: str, indices: list[str]) -> str:
    """``pointer`` advanced to a batch element: slots ``name.batch0`` … are strides in bytes."""
    for axis, index in enumerate(indices):
        pointer = code.at(pointer, code.times(index, table.number(f"{name}.batch{axis}")))
    return pointer


def _panel(code: Code, table: Table, tile: Tile, panel: str) -> tuple[str, str]:
    """A panel's first vector of columns, and how many vectors it has.

    Panels are as wide as the tile, but the last ones may be one vector narrower, so that the work is even; the last
    panel has what is left.
    """
    wide, total = table.number("wide_panels"), table.number("vectors")
    beyond = code.minus(panel, wide)
    is_wide = code.test("slt", beyond, "0")
    narrow = max(tile.vectors - 1, 1)
    start = code.choose(
        is_wide,
        code.times(panel, str(tile.vectors)),
        code.plus(code.times(wide, str(tile.vectors)), code.times(beyond, str(narrow))),
    )
    width = code.choose(is_wide, str(tile.vectors), str(narrow))
    return start, code.smaller(width, code.minus(total, start))


def main_function(
    dtype: np.dtype,
    tile: Tile,
    tiles: tuple[tuple[int, int], ...],
    batch_axes: int,
    epilogue: Epilogue | None,
) -> Function:
    """The function that computes blocks of the product; its items are (batch, block of columns, block of rows).

    ``tiles`` are the (rows, vectors) for which tile functions are compiled in.
    """
    code = Code()
    table = Table(code)
    unit = VectorType(dtype, tile.lanes)
    size = unit.size
    a, b = table.array("a"), table.array("b")
    c = table.array("c") if epilogue is None else "%buffer"
    if epilogue is not None:
        code.line(f"%buffer = alloca [{BUFFER_BYTES} x i8], align 64")
    m, n, k = table.number("m"), table.number("n"), table.number("k")
    row_blocks, column_blocks = table.number("row_blocks"), table.number("column_blocks")
    block_rows, block_panels = table.number("block_rows"), table.number("block_panels")
    piece, a_row, a_k = table.number("piece"), table.number("a.row"), table.number("a.k")
    # from one row of A to the next: between tiles, and (above) inside of one
    a_step = table.number("a.step")
    # a row of a packed panel is as long as the panel is wide; else rows of B have their own stride
    b_row, b_width = table.number("b.row"), table.number("b.row_vector")
    b_vector = table.number("b.vector")
    c_row = table.number("c.row")
    with code.loop("%lo", "%hi") as item:
        row_block = code.name(f"urem i64 {item}, {row_blocks}")
        rest = code.name(f"udiv i64 {item}, {row_blocks}")
        column_block, batch = rest, []
        if batch_axes:
            column_block = code.name(f"urem i64 {rest}, {column_blocks}")
            batch = _batch_indices(code, table, code.name(f"udiv i64 {rest}, {column_blocks}"), batch_axes, "main")
        i_begin = code.times(row_block, block_rows)
        i_end = code.smaller(code.plus(i_begin, block_rows), m)
        p_begin = code.times(column_block, block_panels)
        p_end = code.smaller(code.plus(p_begin, block_panels), table.number("panels"))
        first_vector = _panel(code, table, tile, p_begin)[0]
        a_batch, b_batch = _moved(code, table, a, "a", batch), _moved(code, table, b, "b", batch)
        c_batch = c if epilogue is not None else _moved(code, table, c, "c", batch)
        with code.loop("0", table.number("k_end"), piece) as k0:
            count = code.smaller(piece, code.minus(k, k0))
            is_first = code.test("eq", k0, "0")
            is_last = code.test("sge", code.plus(k0, piece), k)
            a_piece = code.at(a_batch, code.times(k0, a_k))
            with code.loop(p_begin, p_end) as panel:
                start, width = _panel(code, table, tile, panel)
                column = code.times(start, str(tile.lanes))
                columns = code.smaller(code.minus(n, column), code.times(width, str(tile.lanes)))
                valid = code.minus(columns, code.times(code.minus(width, "1"), str(tile.lanes)))
                b_stride = code.plus(b_row, code.times(width, b_width))
                b_tile = code.at(code.at(b_batch, code.times(start, b_vector)), code.times(k0, b_stride))
                if epilogue is None:
                    c_panel = code.at(c_batch, code.times(column, str(size)))
                else:
                    offset = code.times(code.minus(start, first_vector), table.number("buffer.vector"))
                    c_panel = code.at(c_batch, offset)
                with code.loop(i_begin, i_end, str(tile.rows)) as i:
                    rows = code.smaller(code.minus(i_end, i), str(tile.rows))
                    a_tile = code.at(a_piece, code.times(i, a_step))
                    if epilogue is None:
                        c_tile = code.at(c_panel, code.times(i, c_row))
                    else:
                        c_tile = code.at(c_panel, code.times(code.minus(i, i_begin), table.number("buffer.row")))
                    function = _chosen_tile(code, tiles, rows, width)
                    last = code.minus(rows, "1")
                    code.line(
                        f"call void {function}(ptr {a_tile}, i64 {a_row}, i64 {a_k}, ptr {b_tile}, "
                        f"i64 {b_stride}, ptr {c_tile}, i64 {c_row}, i64 {count}, i1 {is_first}, i64 {last}, "
                        f"i64 {valid})"
                    )
                    if epilogue is not None:
                        with code.when(is_last):
                            epilogue.emit(code, table, batch, i, rows, column, columns, c_tile, c_row)
    code.line("ret void")
    functions = "".join(tile_function(f"tile{r}x{v}", r, v, tile, dtype) for r, v in tiles)
    metadata = LOOP_METADATA + (epilogue.metadata(tile.lanes) if epilogue is not None else "")
    declarations = dict.fromkeys([*unit.declarations, *code.declarations])
    return Function(
        _function_text(code, table) + functions + "".join(f"{d}\n" for d in declarations) + metadata, tuple(table.names)
    )


BUFFER_BYTES = 96 * 1024
"""Room on the stack for a block of sums that an epilogue will take."""

LOOP_METADATA = '!0 = distinct !{!0, !1}\n!1 = !{!"llvm.loop.unroll.disable"}\n'


def _function_text(code: Code, table: Table) -> str:
    lines = "\n".join([code.lines[0], *table.loads, *code.lines[1:]])
    return f"define void @KERNEL(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {{\n{lines}\n}}\n"


def _chosen_tile(code: Code, tiles: tuple[tuple[int, int], ...], rows: str, width: str) -> str:
    """The tile function with the fewest rows that suffice, for a panel's width."""
    by_width: dict[int, list[int]] = {}
    for r, v in tiles:
        by_width.setdefault(v, []).append(r)
    chosen = ""
    for v, heights in sorted(by_width.items()):
        name = ""
        for r in sorted(heights, reverse=True):
            this = f"@tile{r}x{v}"
            name = code.choose(code.test("sle", rows, str(r)), this, name, "ptr") if name else this
        chosen = code.choose(code.test("eq", width, str(v)), name, chosen, "ptr") if chosen else name
    return chosen


def pack_function(dtype: np.dtype, tile: Tile, batch_axes: int, how: str) -> Function:
    """The function that copies B into panels; its items are (batch, piece of k, panel).

    A panel holds, for each k, its columns side by side; columns past the end are zero. ``how`` names the function for
    B's strides (see ``packing``). A is packed by it too, as the transposed matrix whose panels are a tile's rows wide.
    """
    code = Code()
    table = Table(code)
    unit = VectorType(dtype, tile.lanes)
    size = unit.size
    zero = "0.0" if unit.is_float else "0"
    b, packed = table.array("b"), table.address("packed")
    n, k, piece = table.number("n"), table.number("k"), table.number("piece")
    panels, pieces = table.number("panels"), table.number("pieces")
    b_row = table.number("b.row")
    b_column = table.number("b.column")
    with code.loop("%lo", "%hi") as item:
        panel = code.name(f"urem i64 {item}, {panels}")
        rest = code.name(f"udiv i64 {item}, {panels}")
        k_piece, batch = rest, []
        if batch_axes:
            k_piece = code.name(f"urem i64 {rest}, {pieces}")
            batch = _batch_indices(code, table, code.name(f"udiv i64 {rest}, {pieces}"), batch_axes, "pack")
        k_begin = code.times(k_piece, piece)
        k_end = code.smaller(code.plus(k_begin, piece), k)
        start, width = _panel(code, table, tile, panel)
        column = code.times(start, str(tile.lanes))
        padded = code.times(width, str(tile.lanes))
        columns = code.smaller(code.minus(n, column), padded)
        source = code.at(_moved(code, table, b, "b", batch), code.times(column, b_column))
        target = code.at(_moved(code, table, packed, "packed", batch), code.times(start, table.number("packed.vector")))
        target_row = code.times(padded, str(size))
        source = code.at(source, code.times(k_begin, b_row))
        target = code.at(target, code.times(k_begin, target_row))
        count = code.minus(k_end, k_begin)
        code.line(
            f"call void @{how}(ptr {source}, i64 {b_row}, i64 {b_column}, ptr {target}, i64 {target_row}, "
            f"i64 {columns}, i64 {count})"
        )
        with code.loop("0", count) as row, code.loop(columns, padded, metadata=", !llvm.loop !0") as j:
            place = code.at(code.at(target, code.times(row, target_row)), code.times(j, str(size)))
            code.line(f"store {unit.scalar} {zero}, ptr {place}, align {size}")
    code.line("ret void")
    text = _function_text(code, table) + pack_source(how, dtype, tile.lanes) + LOOP_METADATA
    return Function(text, tuple(table.names))
