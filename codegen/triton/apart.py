"""Sums of columns of rows too long for registers: taken out of their nest, into one that has whole columns.

The second nest computes again what the sums are of. What it needs of each row as a whole (a mean, a norm) the first
nest leaves in the workspace.
"""

from __future__ import annotations

from dataclasses import replace

from knetc.codegen.axes import Loops, results, used_values, value_dtypes
from knetc.codegen.loopnest import (
    Argument,
    Constant,
    Index,
    Inside,
    Load,
    LoopNest,
    Offset,
    Reduce,
    Stage,
    Statement,
    Store,
)
from knetc.codegen.triton.writer import Job, dense
from knetc.runtime.program import Slot

Nest = tuple[LoopNest, tuple[Slot, ...]]


def taken_apart(job: Job) -> tuple[Nest, Nest]:
    """A nest without its sums of columns, and these."""
    nest, loops = job.nest, job.loops
    kinds = value_dtypes(loops)
    sums = [s for s in loops.statements if _is_sum(s)]
    row_values, element = _parts(loops)
    needed: list[Statement] = []
    wanted = [v for s in sums for v in sorted(used_values(s))]
    seen: set[int] = set()
    of_rows: list[int] = []
    cheap: list[Statement] = []
    while wanted:
        value = wanted.pop()
        if value in seen:
            continue
        seen.add(value)
        statement = element.get(value, row_values.get(value))
        assert statement is not None
        if value in element:
            needed.append(statement)
            wanted += used_values(statement)
        elif isinstance(statement, (Load, Constant, Index, Inside)) and not used_values(statement):
            cheap.append(statement)
        else:
            of_rows.append(value)
    order = {id(s): k for k, s in enumerate(loops.statements)}
    needed.sort(key=lambda s: order[id(s)])
    arguments, slots = list(nest.arguments), list(job.slots)
    place = Offset(0, dense(nest.outer))
    stores: list[Statement] = []
    loads: list[Statement] = []
    for value in sorted(of_rows):
        number = len(arguments)
        arguments.append(Argument("rows", kinds[value], "output", loops.rows))
        slots.append(job.launches.space(loops.rows * kinds[value].itemsize))
        stores.append(Store(number, place, value))
        loads.append(Load(value, number, place))
    stages = [Stage(s.level, tuple(x for x in s.body if not _is_sum(x))) for s in nest.stages]
    first = replace(
        nest,
        arguments=tuple(arguments),
        stages=(*(s for s in stages if s.body), Stage("row", tuple(stores))) if stores else tuple(stages),
    )
    read = tuple(replace(a, kind="input") if k >= len(nest.arguments) else a for k, a in enumerate(arguments))
    body = (Stage("row", (*cheap, *loads)), Stage("element", (*needed, *sums)))
    second = replace(nest, name=f"{nest.name}_columns", arguments=read, stages=body)
    return (first, tuple(slots)), (second, tuple(slots))


def _is_sum(statement: Statement) -> bool:
    return isinstance(statement, Reduce) and statement.over == "outer"


def _parts(loops: Loops) -> tuple[dict[int, Statement], dict[int, Statement]]:
    """Which statements give the values of rows, and which those of elements."""
    rows: dict[int, Statement] = {}
    element: dict[int, Statement] = {}
    for stage in loops.nest.stages:
        for statement in stage.body:
            found = rows if stage.level == "row" or isinstance(statement, Reduce) else element
            found.update(dict.fromkeys(results(statement), statement))
    return rows, element
