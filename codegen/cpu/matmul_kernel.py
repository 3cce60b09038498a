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

import numpy as np
from knetc.codegen.cpu.code import Code, Table
from knetc.codegen.cpu.matmul_epilogue import Block, Epilogue
from knetc.codegen.cpu.matmul_pack import ARGUMENTS as PACK_ARGUMENTS
from knetc.codegen.cpu.matmul_pack import pack_code
from knetc.codegen.cpu.matmul_tiles import Tile
from knetc.codegen.cpu.native import Target, attributes_text

BUFFER_BYTES = 96 * 1024
"""Room on the stack for a block of sums that an epilogue will take."""


@dataclass(frozen=True)
class Function:
    """A kernel function: its symbol, what its launch's table must hold, and the texts of it and of what it calls."""

    symbol: str
    slots: tuple[str, ...]
    texts: dict[str, str]


def main_function(
    dtype: np.dtype,
    tile: Tile,
    tiles: tuple[tuple[int, int, bool], ...],
    batch_axes: int,
    epilogue: Epilogue | None,
    target: Target,
    turned: bool = False,
) -> Function:
    """The function that computes blocks of the product; its items are (batch, block of columns, block of rows).

    ``tiles`` are the (rows, vectors, masked) of the tile functions it calls. With an epilogue a block's sums lie in a
    buffer until they are complete; ``turned`` says that they are those of the transposed product.
    """
    code = Code(half=target.half)
    table = Table(code)
    size = dtype.itemsize
    fetches = turned or (epilogue is not None and bool(epilogue.element_loads(batch_axes)))
    functions = {shape: tile.function(*shape, dtype, target, fetches) for shape in tiles}
    texts = dict(functions.values())
    for symbol in texts:
        code.declare(f"void @{symbol}(ptr, i64, i64, ptr, i64, ptr, i64, i64, i1, i64, i64, ptr, i64)")
    a, b = table.array("a"), table.array("b")
    c = table.array("c") if epilogue is None else code.array(np.dtype("bool"), BUFFER_BYTES)
    m, n, k = table.number("m"), table.number("n"), table.number("k")
    row_blocks, column_blocks = table.number("row_blocks"), table.number("column_blocks")
    block_rows, block_panels = table.number("block_rows"), table.number("block_panels")
    down_first = code.test("ne", table.number("down_first"), "0")
    fast_blocks = code.choose(down_first, row_blocks, column_blocks)
    piece, a_row, a_k = table.number("piece"), table.number("a.row"), table.number("a.k")
    # from one row of A to the next: between tiles, and (above) inside of one
    a_step = table.number("a.step")
    # a row of a packed panel is as long as the panel is wide; else rows of B have their own stride
    b_row, b_width = table.number("b.row"), table.number("b.row_vector")
    b_vector, c_row = table.number("b.vector"), table.number("c.row")
    known = epilogue.begin(code, table) if epilogue is not None else {}
    with code.loop("%lo", "%hi") as item:
        fast, slow, batch = code.name(f"urem i64 {item}, {fast_blocks}"), code.div(item, fast_blocks), []
        if batch_axes:
            blocks = code.mul(row_blocks, column_blocks)
            slow = code.div(code.name(f"urem i64 {item}, {blocks}"), fast_blocks)
            batch = _batch_indices(code, table, code.div(item, blocks), batch_axes, "main")
        i_begin = code.mul(code.choose(down_first, fast, slow), block_rows)
        i_end = code.min(code.add(i_begin, block_rows), m)
        p_begin = code.mul(code.choose(down_first, slow, fast), block_panels)
        p_end = code.min(code.add(p_begin, block_panels), table.number("panels"))
        panels_here = code.sub(p_end, p_begin)
        block_column = code.mul(_panel(code, table, tile, p_begin)[0], str(tile.lanes))
        a_batch, b_batch = _moved(code, table, a, "a", batch), _moved(code, table, b, "b", batch)
        # the row and column at which C begins: the whole of it, or the block in the buffer
        c_batch, c_top, c_left = c, i_begin, block_column
        if epilogue is None:
            c_batch, c_top, c_left = _moved(code, table, c, "c", batch), "0", "0"
        fetched = _Fetched(code, [], "0", "0")
        if turned:  # A is the large operand, read once: the rows of the next block, an equal part for each panel
            row_bytes = code.choose(code.test("slt", i_end, m), table.number("a.fetched"), "0")
            fetched = _Fetched(code, [code.at(a_batch, code.mul(i_end, a_step))], row_bytes, table.number("panels"))
        elif epilogue is not None and fetches:
            row_bytes = code.choose(code.test("eq", panels_here, table.number("panels")), code.mul(n, str(size)), "0")
            fetched = _Fetched(code, epilogue.starts(code, table, batch, i_begin), row_bytes, panels_here)
        ahead_step = code.div(code.mul(fetched.row_bytes, str(tile.rows)), piece)
        with code.loop("0", table.number("k_end"), step=piece) as k0:
            count = code.min(piece, code.sub(k, k0))
            is_first = code.test("eq", k0, "0")
            a_piece = code.at(a_batch, code.mul(k0, a_k))
            with code.loop(p_begin, p_end) as panel:
                start, width = _panel(code, table, tile, panel)
                column = code.mul(start, str(tile.lanes))
                columns = code.min(code.sub(n, column), code.mul(width, str(tile.lanes)))
                valid = code.sub(columns, code.mul(code.sub(width, "1"), str(tile.lanes)))
                b_stride = code.add(b_row, code.mul(width, b_width))
                b_tile = code.at(code.at(b_batch, code.mul(start, b_vector)), code.mul(k0, b_stride))
                c_panel = code.at(c_batch, code.mul(code.sub(column, c_left), str(size)))
                ahead = fetched.start(panel if turned else code.sub(panel, p_begin), code.sub(i_end, i_begin), c_panel)
                with code.loop(i_begin, i_end, step=str(tile.rows)) as i:
                    rows = code.min(code.sub(i_end, i), str(tile.rows))
                    a_tile = code.at(a_piece, code.mul(i, a_step))
                    c_tile = code.at(c_panel, code.mul(code.sub(i, c_top), c_row))
                    ahead_tile = code.at(ahead, code.mul(code.sub(i, i_begin), fetched.row_bytes))
                    is_whole = code.test("eq", valid, str(tile.lanes))
                    function = _chosen_tile(code, functions, rows, width, is_whole)
                    code.line(
                        f"call void {function}(ptr {a_tile}, i64 {a_row}, i64 {a_k}, ptr {b_tile}, i64 {b_stride}, "
                        f"ptr {c_tile}, i64 {c_row}, i64 {count}, i1 {is_first}, i64 {code.sub(rows, '1')}, "
                        f"i64 {valid}, ptr {ahead_tile}, i64 {ahead_step})"
                    )
        if epilogue is not None:
            end = code.min(n, code.mul(_panel(code, table, tile, p_end)[0], str(tile.lanes)))
            block = Block(i_begin, block_column, code.sub(i_end, i_begin), code.sub(end, block_column), c, c_row)
            if turned:
                block = _turned(code, table, block, dtype, tile.lanes, texts, target)
            epilogue.emit(code, table, known, batch, block, tile.lanes)
    symbol, text = code.finish(attributes_text(target), passes=0 if epilogue is None else 2)
    return Function(symbol, tuple(table.names), {symbol: text, **texts})


class _Fetched:
    """What is fetched while a block is computed: arrays that its epilogue will read, or A's rows of the next block.

    Rows of these arrays lie one behind the other, and all of them are fetched: an equal part for each row of a panel.
    """

    def __init__(self, code: Code, starts: list[str], row_bytes: str, panels: str) -> None:
        """``starts``: where the arrays begin, ``row_bytes``: of each; 0 to fetch nothing."""
        self.code, self.starts, self.whole_row, self.panels = code, starts, row_bytes, panels
        self.row_bytes = code.div(code.mul(row_bytes, str(len(starts))), panels) if starts else "0"
        """What is fetched for a row of one panel."""

    def start(self, panel: str, rows: str, otherwise: str) -> str:
        """Where it begins for a panel: the arrays follow one another."""
        code, count = self.code, len(self.starts)
        if not count:
            return otherwise
        turn = code.mul(panel, str(count))
        which = code.div(turn, self.panels)
        chosen = self.starts[-1]
        for number in reversed(range(count - 1)):
            chosen = code.choose(code.test("eq", which, str(number)), self.starts[number], chosen, "ptr")
        part = code.sub(turn, code.mul(which, self.panels))
        return code.at(chosen, code.div(code.mul(code.mul(part, rows), self.whole_row), self.panels))


def _turned(
    code: Code, table: Table, block: Block, dtype: np.dtype, lanes: int, texts: dict[str, str], target: Target
) -> Block:
    """Transpose a block of sums into a buffer of its own, by a function that is added to ``texts``."""
    symbol, texts[symbol] = _declared_packing(code, "transpose", dtype, lanes, target)
    buffer, row = code.array(np.dtype("bool"), BUFFER_BYTES), table.number("turned.row")
    code.line(
        f"call void @{symbol}(ptr {block.sums}, i64 {dtype.itemsize}, i64 {block.sums_row}, ptr {buffer}, i64 {row}, "
        f"i64 {block.rows}, i64 {block.rows}, i64 {block.columns})"
    )
    return Block(block.column, block.row, block.columns, block.rows, buffer, row)


def combine_function(epilogue: Epilogue, batch_axes: int, lanes: int, target: Target) -> Function:
    """The function that adds up the products of parts of K, in order, and applies the epilogue; its items are rows.

    The parts are dense [part, batch…, M, N] in the workspace.
    """
    code = Code(half=target.half)
    table = Table(code)
    dtype, size = epilogue.dtype, epilogue.dtype.itemsize
    parts, part_bytes, m, n = (table.number(name) for name in ("parts", "part_bytes", "m", "n"))
    first = table.array("parts_at")
    width = BUFFER_BYTES // 16 // size
    buffer = code.array(dtype, width)
    known = epilogue.begin(code, table)
    with code.loop("%lo", "%hi") as item:
        row = code.name(f"urem i64 {item}, {m}")
        batch = _batch_indices(code, table, code.div(item, m), batch_axes, "main")
        row_at = code.at(first, code.mul(code.mul(item, n), str(size)))
        with code.loop("0", n, step=str(width)) as column:
            columns = code.min(str(width), code.sub(n, column))
            source = code.at(row_at, code.mul(column, str(size)))
            with code.loop("0", columns, parallel=True) as j:
                code.emitter.store(code.emitter.load(source, j, dtype), buffer, j)
            with code.loop("1", parts) as part:
                this = code.at(source, code.mul(part, part_bytes))
                with code.loop("0", columns, parallel=True) as j:
                    total = code.emitter.add(code.emitter.load(buffer, j, dtype), code.emitter.load(this, j, dtype))
                    code.emitter.store(total, buffer, j)
            epilogue.emit(code, table, known, batch, Block(row, column, "1", columns, buffer, "0"), lanes)
    symbol, text = code.finish(attributes_text(target))
    return Function(symbol, tuple(table.names), {symbol: text})


def pack_function(dtype: np.dtype, tile: Tile, batch_axes: int, how: str, target: Target) -> Function:
    """The function that copies B into panels; its items are (batch, piece of k, panel).

    A panel holds, for each k, its columns side by side; columns past the end are zero. ``how`` names the function for
    B's strides (see ``packing``). A is packed by it too, as the transposed matrix whose panels are a tile's rows wide.
    """
    code = Code()
    table = Table(code)
    size = dtype.itemsize
    inner, inner_text = _declared_packing(code, how, dtype, tile.lanes, target)
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
    symbol, text = code.finish(attributes_text(target), passes=0)
    return Function(symbol, tuple(table.names), {symbol: text, inner: inner_text})


def _declared_packing(code: Code, how: str, dtype: np.dtype, lanes: int, target: Target) -> tuple[str, str]:
    """Symbol and text of a packing function, which ``code`` may then call."""
    symbol, text = pack_code(how, dtype, lanes).finish(attributes_text(target), PACK_ARGUMENTS, passes=0)
    code.declare(f"void @{symbol}(ptr, i64, i64, ptr, i64, i64, i64, i64)")
    return symbol, text


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


def _chosen_tile(
    code: Code, functions: dict[tuple[int, int, bool], tuple[str, str]], rows: str, width: str, is_whole: str
) -> str:
    """The tile function with the fewest rows that suffice, for a panel's width, and masked if its columns need it."""
    kinds: dict[bool, dict[int, list[int]]] = {}
    for r, v, masked in functions:
        kinds.setdefault(masked, {}).setdefault(v, []).append(r)
    result = ""
    for masked, by_width in sorted(kinds.items()):  # unmasked ones first
        chosen = ""
        for v, heights in sorted(by_width.items()):
            name = ""
            for r in sorted(heights, reverse=True):
                this = f"@{functions[r, v, masked][0]}"
                name = code.choose(code.test("sle", rows, str(r)), this, name, "ptr") if name else this
            chosen = code.choose(code.test("eq", width, str(v)), name, chosen, "ptr") if chosen else name
        result = code.choose(is_whole, result, chosen, "ptr") if result else chosen
    return result
