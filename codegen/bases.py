"""Where a nest begins in its arguments: taken out of its code, so that nests that differ in nothing else are one.

The rows of an array in turn, or the steps of a loop that Python ran, are so computed by the same function, given other
addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from knetc.codegen.loopnest import Load, LoopNest, Reduce, Statement, Store


def rebased(nest: LoopNest, alignment_bytes: int) -> tuple[LoopNest, tuple[int, ...]]:
    """The same nest with offsets that begin near 0, and how many bytes later the addresses are that it must be given.

    These are multiples of ``alignment_bytes``; one for each argument that is not scratch.
    """
    lowest: dict[int, int] = {}
    for statement in _touching(nest):
        known = lowest.get(statement.argument, statement.offset.base)
        lowest[statement.argument] = min(known, statement.offset.base)
    moved: dict[int, int] = {}
    for k, argument in enumerate(nest.arguments):
        if argument.kind not in ("scalar", "scratch"):
            step = max(1, alignment_bytes // argument.dtype.itemsize)
            moved[k] = lowest.get(k, 0) // step * step
    offsets = tuple([moved.get(k, 0) * a.dtype.itemsize for k, a in enumerate(nest.arguments) if a.kind != "scratch"])
    if not any(offsets):
        return nest, ()

    def based(statement: Statement) -> Statement:
        if not isinstance(statement, (Load, Store, Reduce)) or not moved.get(statement.argument):
            return statement
        base = statement.offset.base - moved[statement.argument]
        return replace(statement, offset=replace(statement.offset, base=base))

    stages = tuple([replace(stage, body=tuple(map(based, stage.body))) for stage in nest.stages])
    return replace(nest, stages=stages), offsets


def _touching(nest: LoopNest) -> Iterator[Load | Store | Reduce]:
    """The statements that read or write an argument."""
    for stage in nest.stages:
        for statement in stage.body:
            if isinstance(statement, (Load, Store)) or (isinstance(statement, Reduce) and statement.argument >= 0):
                yield statement
