"""From a loop nest to GPU kernels: the form that fits it, its blocks, and what follows to combine programs' parts.

There are four forms, each with a template: ``pointwise`` (all points in one line), ``columns`` (blocks of rows and
columns, independent between columns: exchanged axes, sums over rows), ``rows`` (whole rows in registers) and
``long_rows`` (rows walked in blocks, once for each element stage). Sums over rows are 'partial, then combine': each
program leaves its part in the workspace, and a second nest, lowered as any other, folds the parts in order. So the
result does not depend on the order in which programs run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from knetc.codegen.axes import Loops, merged, rebuild
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Load, LoopNest, Offset, Reduce, Scan, Stage, Statement, Store
from knetc.codegen.triton import model
from knetc.codegen.triton.apart import taken_apart
from knetc.codegen.triton.body import COLUMNS, ROWS, Body, Frame
from knetc.codegen.triton.emitter import register_type
from knetc.codegen.triton.fold import Fold, Running
from knetc.codegen.triton.scatter import Elected, Vote, in_wide_memory, scattered, votes
from knetc.codegen.triton.writer import Job, Launches, Totals, Writer, dense
from knetc.runtime.base import dtypes
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
    writer = Writer(job, Frame(loops, block, 1, flat=True, row_mask=mask, wide=_wide(job)), body, ballot)
    totals = Totals(writer, programs)
    for stage in loops.nest.stages:
        for statement in stage.body:
            writer.statement(statement, totals, by_row=True)
    lines = writer.body.take()
    finish = totals.finish()
    writer.emit(
        "pointwise", programs, f"{loops.rows} points, {block} at a time.", points=loops.rows, steps=steps,
        start=totals.start, axes=writer.body.axis_lines(ROWS), body=lines, finish=finish,
    )  # fmt: skip
    _combine(job, totals)


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
    writer.emit(
        "rows", programs, f"{loops.rows} rows of {loops.columns}, {tile.rows} at a time in registers.",
        warps=model.warps(tile.elements, _alive(loops)),
        rows=loops.rows, columns=loops.columns, steps=steps, start=totals.start,
        row_axes=writer.body.axis_lines(ROWS), column_axes=writer.body.axis_lines(COLUMNS), body=body, finish=finish,
    )  # fmt: skip
    _combine(job, totals)


def _write(writer: Writer, totals: Totals) -> None:
    for stage in writer.job.nest.stages:
        for statement in stage.body:
            writer.statement(statement, totals, by_row=stage.level == "row")


@dataclass
class Part:
    """A stage of a kernel that walks its rows: straight code, or a loop with what comes before and after it."""

    body: list[str]
    loop: bool = False
    start: list[str] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)


def _long_rows(job: Job) -> None:
    """Rows that are walked in blocks."""
    loops = job.loops
    if loops.reductions("outer"):
        for nest, slots in taken_apart(job):
            lower_into(job.launches, nest, slots)
        return
    tile = model.long_tile(loops.rows, loops.columns, _along_rows(loops))
    tile = replace(tile, columns=job.choice.scaled(tile.columns, model.power(loops.columns)))
    blocks, programs = _count(loops.columns, tile.columns), _count(loops.rows, tile.rows)
    pieces = model.split_rows(programs, blocks) if _splittable(loops.nest) else 1
    steps = _count(blocks, pieces)
    pieces = _count(blocks, steps)
    frame = Frame(
        loops, tile.rows, tile.columns, row_mask=loops.rows % tile.rows != 0,
        column_mask=loops.columns != pieces * steps * tile.columns, wide=_wide(job),
    )  # fmt: skip
    writer = Writer(job, frame)
    totals = Totals(writer, programs)
    parts: list[Part] = []
    rest: tuple[LoopNest, tuple[Slot, ...]] | None = None
    for number, stage in enumerate(loops.nest.stages):
        if stage.level == "element":
            parts.append(_walk(writer, totals, stage))
            if pieces > 1:
                lines, nest, slots = _pieces(writer, number, pieces)
                parts.append(Part(lines))
                rest = nest, slots
                break
        else:
            for statement in stage.body:
                if pieces == 1 or not isinstance(statement, Store):  # the second kernel stores
                    writer.statement(statement, totals, by_row=True)
            parts.append(Part(writer.body.take()))
    finish = totals.finish()
    how = f"each in {pieces} pieces" if pieces > 1 else f"{tile.rows} at a time"
    writer.emit(
        "long_rows", programs * pieces, f"{loops.rows} rows of {loops.columns}, {how}, in blocks of {tile.columns}.",
        warps=model.warps(tile.elements, _alive(loops)),
        rows=loops.rows, columns=loops.columns, steps=steps, pieces=pieces, start=totals.start,
        row_axes=writer.body.axis_lines(ROWS), column_axes=writer.body.axis_lines(COLUMNS), parts=parts, finish=finish,
    )  # fmt: skip
    _combine(job, totals)
    if rest is not None:
        lower_into(job.launches, *rest)


def _walk(writer: Writer, totals: Totals, stage: Stage) -> Part:
    """An element stage as a loop over a row's blocks; its folds become accumulators."""
    body, start, finish = writer.body, [], []
    folds: list[tuple[Reduce, Fold, list[str]]] = []
    for statement in stage.body:
        if isinstance(statement, Scan):
            start += _follow(writer, statement)
            continue
        if not (isinstance(statement, Reduce) and statement.over == "inner"):
            writer.statement(statement, totals, by_row=False)
            continue
        fold = Fold(statement, writer.prelude)
        names = [f"row{number}" for number in statement.results]
        for name, identity, dtype in zip(names, fold.identity, fold.dtypes):
            start.append(f"{name} = tl.full({writer.frame.shape}, {identity}, {register_type(dtype)})")
        body.lines += fold.step(names, body.operand(statement, fold, COLUMNS, broadcast=False), f"{names[0]}_")
        folds.append((statement, fold, names))
    lines = body.take()
    body.forget(COLUMNS)
    for statement, fold, names in folds:
        finish += fold.along(names, 1, writer.results(statement, fold))
    return Part(lines, True, start, finish)


def _follow(writer: Writer, scan: Scan) -> list[str]:
    """A scan of a block that goes on from the block before; gives what sets the state before the first one."""
    running = Running(scan, writer.prelude)
    state = [f"before{scan.result}_{k}" for k in range(len(scan.operands))]
    names = writer.scan(scan, state)
    rows, columns = writer.frame.rows, writer.frame.columns
    last = f"tl.arange(0, {columns})[None, :] == {columns - 1}"
    for name, value in zip(state, names):
        writer.body.lines.append(f"{name} = tl.sum(tl.where({last}, {value}, 0), 1, keep_dims=True)")
        if dtypes.is_integer(scan.dtype) and scan.dtype.itemsize < 4:
            writer.body.lines[-1] += f".to({register_type(scan.dtype)})"
    kind = register_type(scan.dtype)
    return [f"{name} = tl.full([{rows}, 1], {value}, {kind})" for name, value in zip(state, running.identity)]


def _splittable(nest: LoopNest) -> bool:
    """Whether a nest goes over its rows once, to fold them: then a row may be shared by several programs."""
    element = [s for stage in nest.stages if stage.level == "element" for s in stage.body]
    passes = [stage for stage in nest.stages if stage.level == "element"]
    totals = any(isinstance(s, Reduce) and s.over != "inner" for stage in nest.stages for s in stage.body)
    return len(passes) == 1 and not totals and not any(isinstance(s, (Store, Scan)) for s in element)


def _pieces(writer: Writer, number: int, pieces: int) -> tuple[list[str], LoopNest, tuple[Slot, ...]]:
    """Rows that several programs share: what stores the folds of a piece, and the nest that goes on from them."""
    job, nest = writer.job, writer.job.nest
    rows = job.loops.rows
    masks = writer.frame.mask(ROWS)
    passed = f", {masks[0]}" if masks else ""
    lines: list[str] = []
    arguments, slots = list(nest.arguments), list(job.slots)
    element: list[Statement] = []
    reduces: list[Statement] = []
    fresh = 1 + max(r for s in job.loops.statements for r in _numbers(s))
    places = {**dense(nest.outer), len(nest.outer): rows}
    for reduce in nest.stages[number].body:
        if not isinstance(reduce, Reduce):
            continue
        fold = Fold(reduce, writer.prelude)
        numbers = list(range(fresh, fresh + len(fold.dtypes)))
        fresh += len(numbers)
        for value, result, dtype in zip(numbers, reduce.results, fold.dtypes):
            slot = job.launches.space(rows * pieces * dtype.itemsize)
            name = writer.partial(slot, dtype)
            lines.append(f"tl.store({name} + piece * {rows} + row, {writer.body.values[result].value.text}{passed})")
            element.append(Load(value, len(arguments), Offset(0, places)))
            arguments.append(Argument("part", dtype, "input", rows * pieces))
            slots.append(slot)
        reduces.append(replace(reduce, operand=numbers[0], index=numbers[1] if len(numbers) > 1 else -1))
    stages = (*nest.stages[:number], Stage("element", (*element, *reduces)), *nest.stages[number + 1 :])
    return lines, replace(nest, inner=(Axis("piece", pieces),), arguments=tuple(arguments), stages=stages), tuple(slots)


def _numbers(statement: Statement) -> tuple[int, ...]:
    if isinstance(statement, Reduce):
        return statement.results or (0,)
    return (0,) if isinstance(statement, Store) else (statement.result,)


def _wide(job: Job) -> bool:
    """Whether offsets need 64 bits."""
    return any(a.size >= 1 << 31 for a in job.nest.arguments) or job.loops.rows * job.loops.columns >= 1 << 31
