"""Places of extremes in rows (argmax): the extreme first, then the smallest index where it stands.

A fold that carries an index along must take its elements in order, or many folds side by side. The extreme alone and
the smallest of some indices are folds of any order, which LLVM widens well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from knetc.codegen.axes import Loops, results, used_values, value_dtypes
from knetc.codegen.loopnest import Compute, Constant, Load, Reduce, Scan, Stage, Statement, Store
from knetc.runtime.base import dtypes

from knetc.ir.op import OPS

_WORK = 40
"""What each element's computation may cost at most, an addition being 1: it is done twice."""

_EXTREMES = {"argmax": "max", "argmin": "min"}


def searched(loops: Loops) -> Loops | None:
    """The nest with each place of a row's extreme found in a second loop over the row; None if there are none."""
    stages: list[Stage] = []
    for stage in loops.nest.stages:
        stages += _in_two(loops, stage) if stage.level == "element" else [stage]
    if len(stages) == len(loops.nest.stages):
        return None
    return replace(loops, nest=replace(loops.nest, stages=tuple(stages)))


def _in_two(loops: Loops, stage: Stage) -> list[Stage]:
    places = [s for s in stage.body if isinstance(s, Reduce) and s.over == "inner" and s.op.name in _EXTREMES]
    if not places or any(isinstance(s, Scan) for s in stage.body):
        return [stage]
    again = _needed(stage, places)
    stored = {s.argument for s in stage.body if isinstance(s, Store)}
    if any(isinstance(s, Load) and s.argument in stored for s in again):
        return [stage]
    if sum(s.op.cost for s in again if isinstance(s, Compute)) > _WORK:
        return [stage]
    types = value_dtypes(loops)
    free = 1 + max(r for s in loops.statements for r in results(s))
    index_type = dtypes.i32 if loops.columns < 2**31 else dtypes.i64
    last = free
    after: list[Statement] = [Constant(last, index_type, int(np.iinfo(index_type).max))]
    free += 1
    first = [s for s in stage.body if s not in places]
    second: list[Statement] = [*again]
    final: list[Statement] = []

    def compute(op: str, dtype: np.dtype, *operands: int) -> int:
        nonlocal free
        second.append(Compute(free, OPS[op], dtype, operands, {"dtype": dtype} if op == "cast" else {}))
        free += 1
        return free - 1

    for s in places:
        extreme, place = s.results
        first.append(replace(s, op=OPS[_EXTREMES[s.op.name]], results=(extreme,), index=-1))
        value = s.operand if types[s.operand] == s.dtype else compute("cast", s.dtype, s.operand)
        here = compute("equal", dtypes.boolean, value, extreme)
        if dtypes.is_float(s.dtype):  # the extreme is NaN if any element is
            here = compute("bitwise_or", dtypes.boolean, here, compute("not_equal", dtypes.boolean, value, value))
        index = s.index if index_type == dtypes.i64 else compute("cast", index_type, s.index)
        candidate = compute("where", index_type, here, index, last)
        second.append(Reduce(OPS["min"], candidate, index_type, "inner", (free,)))
        final.append(Compute(place, OPS["cast"], dtypes.i64, (free,), {"dtype": dtypes.i64}))
        free += 1
    return [
        Stage("element", tuple(first)), Stage("row", tuple(after)), Stage("element", tuple(second)),
        Stage("row", tuple(final)),
    ]  # fmt: skip


def _needed(stage: Stage, places: list[Reduce]) -> list[Statement]:
    """The statements that operands and indices of some folds are computed by."""
    wanted = {v for s in places for v in (s.operand, s.index)}
    found: list[Statement] = []
    for s in reversed(stage.body):
        if not isinstance(s, (Store, Reduce)) and wanted & set(results(s)):
            wanted |= used_values(s)
            found.append(s)
    return found[::-1]
