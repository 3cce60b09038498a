"""Rewriting the axes of a loop nest before it becomes code: merging, dropping, exchanging outer and inner ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from knetc.codegen.loopnest import (
    Axis,
    Compute,
    Constant,
    Index,
    Inside,
    Load,
    LoopNest,
    Offset,
    Range,
    Reduce,
    Scan,
    Stage,
    Statement,
    Store,
)
from knetc.runtime.base import dtypes


@dataclass(frozen=True)
class Loops:
    """A loop nest and the position of the axis whose extent is a kernel argument (-1: there is none)."""

    nest: LoopNest
    dynamic: int

    @property
    def outer(self) -> range:
        """Positions of the outer axes."""
        return range(len(self.nest.outer))

    @property
    def inner(self) -> range:
        """Positions of the inner axes."""
        return range(len(self.nest.outer), len(self.nest.axes))

    def extent(self, axis: int) -> int:
        return self.nest.axes[axis].extent

    @property
    def rows(self) -> int:
        """Number of outer points."""
        return math.prod(axis.extent for axis in self.nest.outer)

    @property
    def columns(self) -> int:
        """Number of inner points."""
        return math.prod(axis.extent for axis in self.nest.inner)

    @property
    def statements(self) -> Iterator[Statement]:
        return (statement for stage in self.nest.stages for statement in stage.body)

    def reductions(self, *over: str) -> list[Reduce]:
        return [s for s in self.statements if isinstance(s, Reduce) and s.over in over]


def offsets(statement: Statement) -> Iterator[Offset]:
    """All offsets in a statement, those of conditions included."""
    if isinstance(statement, (Load, Store, Index)):
        yield statement.offset
    if isinstance(statement, Reduce) and statement.over != "inner":
        yield statement.offset
    if isinstance(statement, (Load, Inside)):
        yield from (condition.offset for condition in statement.where)


def map_offsets(statement: Statement, change: Callable[[Offset], Offset]) -> Statement:
    """The statement with each of its offsets changed."""

    def conditions(where: tuple[Range, ...]) -> tuple[Range, ...]:
        return tuple(replace(r, offset=change(r.offset)) for r in where)

    if isinstance(statement, Load):
        return replace(statement, offset=change(statement.offset), where=conditions(statement.where))
    if isinstance(statement, Inside):
        return replace(statement, where=conditions(statement.where))
    if isinstance(statement, (Store, Index, Reduce)):
        return replace(statement, offset=change(statement.offset))
    return statement


def rebuild(loops: Loops, outer: Sequence[int], inner: Sequence[int], extents: dict[int, int] | None = None) -> Loops:
    """The nest with its axes chosen anew: ``outer`` and ``inner`` list old positions in their new order.

    Axes that are not listed are gone; their stride is forgotten. ``extents`` gives axes other extents.
    """
    extents = extents or {}
    place = {old: new for new, old in enumerate((*outer, *inner))}

    def change(offset: Offset) -> Offset:
        return replace(offset, axes={place[a]: s for a, s in offset.axes.items() if a in place and s})

    def axis(old: int) -> Axis:
        return Axis(loops.nest.axes[old].name, extents.get(old, loops.extent(old)))

    stages = tuple(Stage(s.level, tuple(map_offsets(x, change) for x in s.body)) for s in loops.nest.stages)
    nest = replace(loops.nest, outer=tuple(axis(a) for a in outer), inner=tuple(axis(a) for a in inner), stages=stages)
    return Loops(nest, place.get(loops.dynamic, -1))


def simplified(loops: Loops) -> Loops:
    """The same nest with as few axes as can be, as the CPU walks it."""
    return _narrowed(merged(loops))


def merged(loops: Loops) -> Loops:
    """The same nest with as few axes as can be.

    Axes of extent 1 are dropped, neighbours that every offset walks through as one are merged, and in a nest that
    does nothing but an elementwise stage all axes become outer ones. The axis whose extent is an argument stays
    whatever its extent is: code must not depend on it.
    """
    keep = [a for a in range(len(loops.nest.axes)) if loops.extent(a) != 1 or a == loops.dynamic]
    loops = rebuild(loops, [a for a in loops.outer if a in keep], [a for a in loops.inner if a in keep])
    loops = _flattened(_lifted(loops))
    every = [offset for statement in loops.statements for offset in offsets(statement)]
    outer: list[int] = []
    inner: list[int] = []
    extents: dict[int, int] = {}
    dynamic = loops.dynamic
    for axes, kept in ((loops.outer, outer), (loops.inner, inner)):
        for axis in axes:
            if kept and axis != dynamic:
                slow, extent = kept[-1], loops.extent(axis)
                if all(o.axes.get(slow, 0) == o.axes.get(axis, 0) * extent for o in every):
                    # the merged axis keeps the place of the faster one, whose stride it has
                    extents[axis] = extents.get(slow, loops.extent(slow)) * extent
                    kept[-1] = axis
                    if slow == dynamic:
                        dynamic = axis
                    continue
            kept.append(axis)
    return rebuild(Loops(loops.nest, dynamic), outer, inner, extents)


NARROW = 12
"""Elementwise nests whose last axis is at most so long are walked along another axis, the last one unrolled."""


def _narrowed(loops: Loops) -> Loops:
    """An elementwise nest of short rows that did not merge into one axis: the last axis becomes an inner one."""
    nest = loops.nest
    last = len(nest.outer) - 1
    if nest.inner or last < 1 or last == loops.dynamic or nest.outer[last].extent > NARROW:
        return loops
    if any(not is_free(reduce) for reduce in loops.reductions("all")) or loops.reductions("inner", "outer"):
        return loops
    if any(isinstance(s, Store) and s.accumulate for s in loops.statements):
        return loops
    body = tuple(s for stage in nest.stages for s in stage.body)
    narrow = replace(nest, outer=nest.outer[:-1], inner=nest.outer[-1:], stages=(Stage("element", body),))
    return Loops(narrow, loops.dynamic)


def is_free(reduce: Reduce | Scan) -> bool:
    """Whether a fold may take its elements in any order."""
    return reduce.op.combine is not None and bool(reduce.op.combine.reassociable)


def independent(loops: Loops, statements: Iterable[Statement], axes: Container[int], known: Iterable[int]) -> set[int]:
    """The values among ``statements`` that are the same along ``axes`` and cost nothing to compute early.

    ``known`` are values from before the statements that do not change along the axes.
    """
    found = set(known)

    def steady(offset: Offset) -> bool:
        return all(v in found for v in offset.indirect) and not any(s and a in axes for a, s in offset.axes.items())

    for s in statements:
        if isinstance(s, (Store, Reduce, Scan)):
            continue
        if isinstance(s, Load) and loops.nest.arguments[s.argument].kind not in ("input", "scalar"):
            continue
        if all(steady(offset) for offset in offsets(s)) and used_values(s) <= found:
            found.add(s.result)
    return found - set(known)


def _lifted(loops: Loops) -> Loops:
    """What element stages compute from the row alone, in row stages before them."""
    if not loops.nest.inner:
        return loops
    stages: list[Stage] = []
    known: set[int] = set()
    for stage in loops.nest.stages:
        if stage.level == "row":
            known |= {r for s in stage.body for r in results(s)}
            stages.append(stage)
            continue
        early = independent(loops, stage.body, loops.inner, known)
        before = tuple(s for s in stage.body if not early.isdisjoint(results(s)))
        if any(not isinstance(s, Constant) for s in before):
            stages.append(Stage("row", before))
            known |= early
            stage = Stage("element", tuple(s for s in stage.body if early.isdisjoint(results(s))))
        known |= {r for s in stage.body if isinstance(s, Reduce) for r in s.results}
        stages.append(stage)
    return replace(loops, nest=replace(loops.nest, stages=tuple(stages)))


def _joined(loops: Loops) -> tuple[Statement, ...] | None:
    """All statements of a nest that does nothing for whole rows but prepare values for its one element stage.

    None for other nests, and where order or memory ties elements to their rows (folds and scans of rows, sums into one
    place).
    """
    stages = [stage for stage in loops.nest.stages if stage.body]
    levels = [stage.level for stage in stages]
    if not loops.nest.inner or levels.count("element") != 1 or levels[-1] != "element":
        return None
    if loops.reductions("inner") or any(argument.kind == "scratch" for argument in loops.nest.arguments):
        return None
    if any(isinstance(s, Scan) for s in loops.statements):
        return None
    if any(isinstance(s, (Store, Reduce)) for stage in stages[:-1] for s in stage.body):
        return None
    if any(isinstance(s, Store) and s.accumulate for s in stages[-1].body):
        return None
    return tuple(s for stage in stages for s in stage.body)


def _flattened(loops: Loops) -> Loops:
    """An elementwise nest: its inner axes become outer ones."""
    body = _joined(loops)
    if body is None or loops.reductions("outer"):
        return loops
    nest = replace(loops.nest, outer=loops.nest.axes, inner=(), stages=(Stage("row", body),))
    return Loops(nest, loops.dynamic)


def exchanged(loops: Loops) -> Loops | None:
    """The nest with outer and inner axes exchanged, where its folds over outer axes become folds of each row.

    Column sums then need no partial states. Possible when nothing else ties the nest to its rows: no folds over inner
    axes or over all, no stores or values of whole rows. None where that is not so.
    """
    joined = _joined(loops)
    if joined is None or not loops.reductions("outer") or loops.reductions("all"):
        return None
    body: list[Statement] = []
    after: list[Statement] = []
    number = 1 + max((r for s in loops.statements for r in results(s)), default=0)
    for statement in joined:
        if isinstance(statement, Reduce):
            parts = len(statement.op.combine.identity(statement.dtype)) if statement.op.combine else 1
            folded = tuple(range(number, number + parts))
            number += parts
            after.append(Store(statement.argument, statement.offset, folded[-1]))
            statement = replace(statement, over="inner", results=folded, argument=-1, offset=Offset())
        body.append(statement)
    nest = replace(loops.nest, stages=(Stage("element", tuple(body)), Stage("row", tuple(after))))
    return rebuild(Loops(nest, loops.dynamic), list(loops.inner), list(loops.outer))


def results(statement: Statement) -> tuple[int, ...]:
    """The numbers of the values that a statement defines."""
    if isinstance(statement, Reduce):
        return statement.results
    return () if isinstance(statement, Store) else (statement.result,)


def used_values(statement: Statement) -> set[int]:
    """The numbers of the values that a statement uses."""
    used = {value for offset in offsets(statement) for value in offset.indirect}
    if isinstance(statement, (Compute, Scan)):
        used |= set(statement.operands)
    elif isinstance(statement, Store):
        used.add(statement.value)
    elif isinstance(statement, Reduce):
        used |= {statement.operand, statement.index} - {-1}
    return used


def value_dtypes(loops: Loops) -> dict[int, np.dtype]:
    """The dtype of every value of a nest."""
    types: dict[int, np.dtype] = {}
    for s in loops.statements:
        if isinstance(s, (Compute, Constant, Scan)):
            types[s.result] = s.dtype
        elif isinstance(s, Load):
            types[s.result] = loops.nest.arguments[s.argument].dtype
        elif isinstance(s, Index):
            types[s.result] = dtypes.i64
        elif isinstance(s, Inside):
            types[s.result] = dtypes.boolean
        elif isinstance(s, Reduce):
            types.update(zip(s.results, (s.dtype, dtypes.i64)))
    return types
