"""From a loop nest to GPU kernels: the form that fits it, its blocks, and what follows to combine programs' parts.

There are four forms, each with a template: ``pointwise`` (all points in one line), ``columns`` (blocks of rows and
columns, independent between columns: exchanged axes, sums over rows), ``rows`` (whole rows in registers) and
``long_rows`` (rows walked in blocks, as seldom as can be). Sums over rows are 'partial, then combine': each
program leaves its part in the workspace, and a second nest, lowered as any other, folds the parts in order. So the
result does not depend on the order in which programs run.
"""

from __future__ import annotations

from dataclasses import replace

from knetc.codegen.axes import Loops, merged, offsets, rebuild, results, used_values, value_dtypes
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Load, LoopNest, Offset, Reduce, Scan, Stage, Store
from knetc.codegen.triton import long_rows, model
from knetc.codegen.triton.body import COLUMNS, ROWS, Body, Frame
from knetc.codegen.triton.scatter import Elected, Vote, in_wide_memory, scattered, votes
from knetc.codegen.triton.writer import Job, Launches, Totals, Writer
from knetc.runtime.program import Slot


def lower(nest: LoopNest, choice: model.Choice = model.MODEL) -> Kernel:
    """The kernels that compute a nest, in order; ``choice`` is for the blocks of the first one."""
    launches = Launches()
    visible = {k: n for n, k in enumerate(k for k, a in enumerate(nest.arguments) if a.kind != "scratch")}
    lower_into(launches, nest, tuple(Slot("argument", visible.get(k, 0)) for k in range(len(nest.arguments))), choice)
    return launches.kernel()


def lower_into(launches: Launches, nest: LoopNest, slots: tuple[Slot, ...], choice: model.Choice = model.MODEL) -> None:
    """The kernels of a nest whose arguments are at ``slots``."""
    job = Job(launches, merged(Loops(nest, -1)), slots, choice)
    loops = job.loops
    if not loops.rows and not loops.reductions("outer", "all"):
        return
    store = scattered(job)
    if store is not None:
        _scatter(job, store)
    elif not loops.nest.inner:
        turned = _turned(loops)
        if turned is None:
            _pointwise(job)
        else:
            _columns(replace(job, loops=turned), exchanged=True)
    elif not _whole_rows(loops):
        _columns(job)
    else:
        tile = model.row_tile(loops.rows, loops.columns, _alive(loops), _along_rows(loops))
        if tile is not None:
            _rows(job, replace(tile, rows=job.choice.scaled(tile.rows, model.power(loops.rows))))
        else:
            _long_rows(job)


# --- what a nest is like ---------------------------------------------------------------------------------------------


def _whole_rows(loops: Loops) -> bool:
    """Whether something is done for each row as a whole."""
    rows = (s for stage in loops.nest.stages if stage.level == "row" for s in stage.body)
    scans = any(isinstance(s, Scan) for s in loops.statements)
    return scans or bool(loops.reductions("inner")) or any(isinstance(s, (Store, Reduce)) for s in rows)


def _alive(loops: Loops) -> int:
    """About how many numbers of 32 bits a program holds at once for each element."""
    loads = {
        (s.argument, tuple(sorted(s.offset.axes.items())), s.offset.base)
        for s in loops.statements
        if isinstance(s, Load) and any(a in loops.inner for a in s.offset.axes)
    }
    wide = any(a.dtype.itemsize == 8 for a in loops.nest.arguments)
    return (len(loads) + len(loops.reductions("outer")) + 1) * (2 if wide else 1)


def alive_at_once(loops: Loops) -> int:
    """About how many numbers of 32 bits an elementwise nest holds for a point, whose loads all come first."""
    kinds = value_dtypes(loops)
    moving: set[int] = set()
    """Values that differ from point to point."""
    for s in loops.statements:
        if used_values(s) & moving or any(any(offset.axes.values()) for offset in offsets(s)):
            moving.update(results(s))
    loads = {(s.argument, repr(s.offset), repr(s.where)): s.result for s in loops.statements if isinstance(s, Load)}
    body = [s for s in loops.statements if not isinstance(s, Load)]
    last = {value: k for k, s in enumerate(body) for value in used_values(s)}
    held = set(loads.values()) & moving & last.keys()
    most = 0
    for k, s in enumerate(body):
        most = max(most, sum(max(kinds[value].itemsize // 4, 1) for value in held))
        held |= set(results(s)) & moving & last.keys()
        held -= {value for value in used_values(s) if last[value] == k}
    return most


def _loaded(loops: Loops, tile: model.Tile) -> int:
    """The bytes that a program loads for a block of rows."""
    loads = {
        (s.argument, repr(s.offset)): loops.nest.arguments[s.argument].dtype.itemsize
        for s in loops.statements
        if isinstance(s, Load) and any(a in loops.inner for a in s.offset.axes)
    }
    return tile.elements * sum(loads.values())


def _along_rows(loops: Loops) -> bool:
    """Whether neighbours in memory mostly lie in one column."""
    votes = 0
    for s in loops.statements:
        if isinstance(s, (Load, Store)) and len(s.offset.axes) > 1:
            votes += sum(1 if axis in loops.outer else -1 for axis in _unit(s.offset))
    return votes > 0


def _unit(offset: Offset) -> set[int]:
    """The axes along which neighbours lie side by side."""
    return {axis for axis, stride in offset.axes.items() if abs(stride) == 1}


def _turned(loops: Loops) -> Loops | None:
    """An elementwise nest that writes along one axis and reads along another, with those as columns and rows.

    Blocks of both read and write whole lines of memory; a line of points would read one number of each.
    """
    stores = [s for s in loops.statements if isinstance(s, Store)]
    if loops.reductions("inner", "outer", "all") or any(s.accumulate for s in stores):
        return None
    written = {axis for s in stores for axis in _unit(s.offset)}
    if len(written) != 1 or loops.rows < model.CHUNK:
        return None
    [column] = written
    for s in loops.statements:
        if isinstance(s, Load) and column in s.offset.axes and not s.offset.indirect:
            others = [a for a in _unit(s.offset) if a != column and loops.extent(a) >= 8]
            if others and abs(s.offset.axes[column]) != 1 and loops.extent(column) >= 8:
                outer = [a for a in loops.outer if a not in (column, others[0])]
                turned = rebuild(loops, [*outer, others[0]], [column])
                body = tuple(s for stage in turned.nest.stages for s in stage.body)
                return replace(turned, nest=replace(turned.nest, stages=(Stage("element", body),)))
    return None


def is_line(job: Job) -> bool:
    """Whether a nest is walked as one line of points, each of which is independent of all others."""
    loops = job.loops
    return (
        loops.rows > 0
        and not loops.nest.inner
        and scattered(job) is None
        and _turned(loops) is None
        and not loops.reductions("inner", "outer", "all")
        and not any(isinstance(s, Scan) for s in loops.statements)
        and not _wide(job)
    )


def _count(extent: int, block: int) -> int:
    return max(-(-extent // block), 1)


def _shared(blocks: int, across: int = 1) -> tuple[int, int]:
    """Programs that share the blocks of rows, and how many blocks each takes."""
    if blocks <= model.SERIAL:
        return 1, blocks
    steps = _count(blocks, max(model.PROGRAMS // across, 1))
    return _count(blocks, steps), steps


def _combine(job: Job, totals: Totals) -> None:
    for nest, slots in totals.combined():
        lower_into(job.launches, nest, slots)


def _scatter(job: Job, store: Store) -> None:
    """Writing at places that values name."""
    form = _columns if job.nest.inner else _pointwise
    if store.replace:
        nest, slot = votes(job, store)
        lower_into(job.launches, *nest)
        form(job, body=Vote, ballot=slot)
        form(job, body=Elected, ballot=slot)
        return
    wide = in_wide_memory(job, store)
    if wide is None:
        form(job)
        return
    for nest in wide:
        lower_into(job.launches, *nest)


# --- the forms -------------------------------------------------------------------------------------------------------


def _pointwise(job: Job, body: type[Body] = Body, ballot: Slot | None = None) -> None:
    """All points in one line."""
    loops = job.loops
    block = job.choice.scaled(model.flat_block(loops.rows))
    blocks = _count(loops.rows, block)
    programs, steps = _shared(blocks) if loops.reductions("outer", "all") else (blocks, 1)
    mask = loops.rows != programs * steps * block
    frame = Frame(loops, block, 1, flat=True, row_mask=mask, wide=_wide(job))
    writer = Writer(job, frame, body, ballot)
    writer.body.head = []
    totals = Totals(writer, programs)
    whole: list[str] = []
    if mask and steps == 1 and blocks > 1 and not loops.reductions("outer", "all") and _masks_are_narrow(loops):
        writer.body.frame = replace(frame, row_mask=False)
        whole = _line(writer, totals)
        writer.body.forget(ROWS)
        writer.body.frame = frame
    lines = _line(writer, totals)
    finish = totals.finish()
    writer.emit(
        "pointwise", programs, f"{loops.rows} points, {block} at a time.",
        warps=model.line_warps(block, alive_at_once(loops)), points=loops.rows, steps=steps,
        start=[*writer.body.head, *totals.start], axes=writer.body.axis_lines(ROWS), body=lines, whole=whole,
        last=programs - 1,
        finish=finish,
    )  # fmt: skip
    _combine(job, totals)


def _line(writer: Writer, totals: Totals) -> list[str]:
    """The statements of a line of points."""
    for stage in writer.job.nest.stages:
        for statement in stage.body:
            writer.statement(statement, totals, by_row=True)
    return writer.body.take()


def _masks_are_narrow(loops: Loops) -> bool:
    """Whether a mask at the end of a line would cut what a thread reads at once: then all would be read singly."""
    sizes = [a.dtype.itemsize for a in loops.nest.arguments if a.kind != "scalar" and a.size > 1]
    return loops.rows % (16 // min(min(sizes, default=16), 16)) != 0


def _columns(job: Job, *, exchanged: bool = False, body: type[Body] = Body, ballot: Slot | None = None) -> None:
    """Blocks of rows and columns."""
    loops = job.loops
    tile = model.column_tile(loops.rows, loops.columns, exchanged)
    tile = replace(tile, rows=job.choice.scaled(tile.rows, model.power(loops.rows)))
    across, blocks = _count(loops.columns, tile.columns), _count(loops.rows, tile.rows)
    programs, steps = _shared(blocks, across) if loops.reductions("outer", "all") else (blocks, 1)
    frame = Frame(
        loops, tile.rows, tile.columns, row_mask=loops.rows != programs * steps * tile.rows,
        column_mask=loops.columns % tile.columns != 0, wide=_wide(job),
    )  # fmt: skip
    writer = Writer(job, frame, body, ballot)
    totals = Totals(writer, programs, across, "piece")
    _write(writer, totals)
    lines = writer.body.take()
    finish = totals.finish()
    about = f"{loops.rows} rows of {loops.columns}, in blocks of {tile.rows} of {tile.columns}."
    writer.emit(
        "columns", programs * across, about,
        rows=loops.rows, columns=loops.columns, steps=steps, across=across, start=totals.start,
        row_axes=writer.body.axis_lines(ROWS), column_axes=writer.body.axis_lines(COLUMNS), body=lines, finish=finish,
    )  # fmt: skip
    _combine(job, totals)


def _rows(job: Job, tile: model.Tile) -> None:
    """Whole rows in registers."""
    loops = job.loops
    blocks = _count(loops.rows, tile.rows)
    programs, steps = _shared(blocks) if loops.reductions("outer", "all") else (blocks, 1)
    frame = Frame(
        loops, tile.rows, tile.columns, row_mask=loops.rows != programs * steps * tile.rows,
        column_mask=loops.columns != tile.columns, wide=_wide(job),
    )  # fmt: skip
    writer = Writer(job, frame)
    totals = Totals(writer, programs)
    _write(writer, totals)
    body = writer.body.take()
    finish = totals.finish()
    warps = model.row_warps(tile.elements, _alive(loops))
    turns = model.turns(warps, _loaded(loops, tile))
    writer.emit(
        "rows", programs, f"{loops.rows} rows of {loops.columns}, {tile.rows} at a time in registers.",
        warps=warps, turns=turns,
        rows=loops.rows, columns=loops.columns, steps=steps, start=totals.start,
        row_axes=writer.body.axis_lines(ROWS), column_axes=writer.body.axis_lines(COLUMNS), body=body, finish=finish,
    )  # fmt: skip
    _combine(job, totals)


def _write(writer: Writer, totals: Totals) -> None:
    for stage in writer.job.nest.stages:
        for statement in stage.body:
            writer.statement(statement, totals, by_row=stage.level == "row")


def _long_rows(job: Job) -> None:
    """Rows that are walked in blocks."""
    loops = job.loops
    scanned = any(isinstance(s, Scan) for s in loops.statements)
    sizes = [a.dtype.itemsize for a in job.nest.arguments if a.size > 1]
    tile, warps = model.long_tile(loops.rows, loops.columns, _along_rows(loops), min(sizes, default=4), scanned)
    columns = job.choice.scaled(tile.columns, model.power(loops.columns))
    tile = replace(tile, columns=columns, deep=max(columns * tile.deep // tile.columns, 1))
    for nest, slots in long_rows.lower(job, tile, warps, wide=_wide(job)):
        lower_into(job.launches, nest, slots)


def _wide(job: Job) -> bool:
    """Whether offsets need 64 bits."""
    return any(a.size >= 1 << 31 for a in job.nest.arguments) or job.loops.rows * job.loops.columns >= 1 << 31
