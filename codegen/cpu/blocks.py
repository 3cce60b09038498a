"""Elementwise nests that read along one axis and write along another (transposes): walked in blocks of both."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from knetc.codegen.cpu.emitter import memory_type
from knetc.codegen.cpu.frame import PLAIN
from knetc.codegen.cpu.scope import Cell
from knetc.codegen.cpu.walk import Walk
from knetc.codegen.loopnest import Load, Reduce
from knetc.runtime.base import dtypes

LANES = 128
"""How many points along the lane axis a block has."""


@dataclass
class Blocks(Walk):
    """Blocks of ``plan.block`` points along ``plan.across`` and up to LANES along the lane axis.

    What lies along the other axis is first transposed, a register full of rows at a time, into a block on the stack;
    then the points are computed lane by lane as everywhere. So every cache line is read and written once, whole.
    """

    vector_bytes: int = 64

    def points(self, low: str, high: str) -> None:
        """Code for the points ``low`` to ``high`` of (slow axes, blocks of the other axis, lane axis)."""
        scope, frame, plan = self.scope, self.scope.frame, self.plan
        *slow, lane = plan.order
        staged = [s for s in self.loops.statements if isinstance(s, Load) and id(s) in plan.transposed]
        arrays = {id(s): frame.array(scope.argument(s.argument).dtype, plan.block * LANES) for s in staged}
        along = scope.extent(plan.across)
        blocks = frame.div(frame.add(along, str(plan.block - 1)), str(plan.block))
        with frame.advance(low, high) as (point, by):
            shared = dict(scope.values)
            extent = scope.extent(lane)
            row = frame.div(point, extent)
            first = frame.sub(point, frame.mul(row, extent))
            count = frame.min(frame.min(frame.sub(high, point), frame.sub(extent, first)), str(LANES))
            by(count)
            number = row
            if slow:
                rest = frame.div(row, blocks)
                number = frame.sub(row, frame.mul(rest, blocks))
                self.decode(rest, slow)
            start = frame.mul(number, str(plan.block))
            height = frame.min(frame.sub(along, start), str(plan.block))
            for s in staged:
                self._transpose(s, arrays[id(s)], (first, count), (start, height))
            with frame.loop("0", height) as across:
                scope.axes[plan.across] = frame.add(start, across)
                self._lanes(across, first, count, arrays)
            scope.values = shared
            scope.axes.clear()

    def _lanes(self, across: str, first: str, count: str, arrays: Mapping[int, str]) -> None:
        """One row of a block: ``count`` points from ``first`` along the lane axis."""
        scope, frame, lane = self.scope, self.scope.frame, self.plan.order[-1]
        body = list(self.loops.statements)
        parts = {id(s): Cell.variable(scope, s) for s in body if isinstance(s, Reduce)}
        for part in parts.values():
            part.clear()
        streamed = self.streams.of(body, lane) if self.streams else []
        shared = dict(scope.values)
        with ExitStack() as around:
            at = None
            if streamed and self.streams:
                at = around.enter_context(self.streams.piece(streamed, lane, first, count))
            index = around.enter_context(frame.loop("0", count, parallel=True))
            if at is not None:
                at(index)
            scope.axes[lane] = frame.add(first, index)
            place = frame.add(frame.mul(across, str(LANES)), index)
            scope.staged = {key: (array, place) for key, array in arrays.items()}
            scope.emit(body, lambda reduce, state: parts[id(reduce)].merge(state))
        scope.values = shared
        for key, part in parts.items():
            self.folds[key].merge(part.read())

    def _transpose(self, s: Load, array: str, lanes: tuple[str, str], across: tuple[str, str]) -> None:
        """Read a block of an argument, contiguous along ``across``, into ``array``, contiguous along the lanes."""
        scope, frame, plan = self.scope, self.scope.frame, self.plan
        e, dtype = frame.emitter, scope.argument(s.argument).dtype
        (first, count), (start, height) = lanes, across
        lane = plan.order[-1]
        width = min(self.vector_bytes // dtype.itemsize, 16)

        def at(low: str, high: str) -> tuple[str, str]:
            """Address in the argument of the point ``low`` lanes and ``high`` places across into the block."""
            scope.axes[plan.across] = frame.add(start, high)
            scope.axes[lane] = frame.add(first, low)
            return scope.address(s.argument, s.offset)

        full_across, full_lanes = frame.div(height, str(width)), frame.div(count, str(width))
        kind = f"<{width} x {memory_type(dtype)}>"
        with frame.loop("0", full_across) as i, frame.loop("0", full_lanes, hints=PLAIN) as j:
            i, j = frame.mul(i, str(width)), frame.mul(j, str(width))
            rows = []
            for k in range(width):
                pointer, place = at(frame.add(j, str(k)), i)
                address = e.address(pointer, place, dtype)
                rows.append(e.fresh())
                e.line(f"{rows[-1]} = load {kind}, ptr {address}, align {dtype.itemsize}")
            for k, column in enumerate(self._shuffled(rows, kind)):
                place = frame.add(frame.mul(frame.add(i, str(k)), str(LANES)), j)
                e.line(f"store {kind} {column}, ptr {e.address(array, place, dtype)}, align {dtype.itemsize}")
        with frame.loop("0", height) as i:
            whole = e.value(f"icmp slt i64 {i}, {frame.mul(full_across, str(width))}", dtypes.boolean).text
            done = frame.mul(full_lanes, str(width))
            from_ = e.fresh()
            e.line(f"{from_} = select i1 {whole}, i64 {done}, i64 0")
            with frame.loop(from_, count, hints=PLAIN) as j:
                pointer, place = at(j, i)
                value = e.load(pointer, place, dtype)
                e.store(value, array, frame.add(frame.mul(i, str(LANES)), j))

    def _shuffled(self, rows: list[str], kind: str) -> list[str]:
        """The columns of a square of vectors: the two halves of the rows are interleaved log2(width) times."""
        e, width = self.scope.frame.emitter, len(rows)
        half = width // 2
        for _ in range(width.bit_length() - 1):
            mixed = []
            for upper, lower in zip(rows[:half], rows[half:]):
                for begin in (0, half):
                    order = ", ".join(f"i32 {begin + k // 2 + k % 2 * width}" for k in range(width))
                    mixed.append(e.fresh())
                    e.line(f"{mixed[-1]} = shufflevector {kind} {upper}, {kind} {lower}, <{width} x i32> <{order}>")
            rows = mixed
        return rows
