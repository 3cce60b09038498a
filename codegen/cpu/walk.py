"""How a nest's points are walked: row by row, or many points of an outer axis side by side ('lanes')."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from knetc.codegen.axes import Loops, independent, is_free, results, used_values, value_dtypes
from knetc.codegen.cpu.plan import Plan
from knetc.codegen.cpu.scan import SHORT, Pieces, scans_of, start_scans
from knetc.codegen.cpu.scope import Cell, Scope, State, Total, combine_of, identity, state_dtypes
from knetc.codegen.cpu.stream import Streams
from knetc.codegen.loopnest import Load, Offset, Reduce, Scan, Stage, Statement, Store

STRIP = 64
"""How many folds with an index (argmax) run side by side along a long row."""

BLOCK = 4096
"""Elements after which a sum begins anew; the sums of blocks are then added, so that errors stay small."""


@dataclass
class Walk(ABC):
    """Code for all points of a piece of the outer axes. ``folds`` are the states that outlive a point."""

    scope: Scope
    plan: Plan
    folds: Mapping[int, Cell] = field(default_factory=dict)
    """Folds over outer axes (cells in memory, one for each inner point) and over all axes, by identity."""
    streams: Streams | None = None

    @property
    def loops(self) -> Loops:
        return self.scope.loops

    @abstractmethod
    def points(self, low: str, high: str) -> None:
        """Code for the points ``low`` to ``high`` of those that ``plan.points`` counts."""

    def decode(self, point: str, axes: Sequence[int]) -> None:
        """Set the indices of some axes from the number of their point."""
        frame = self.scope.frame
        found: dict[int, str] = {}
        for k in reversed(range(len(axes))):
            if k == 0:
                found[axes[k]] = point
            else:
                extent = self.scope.extent(axes[k])
                rest = frame.div(point, extent)
                found[axes[k]] = frame.sub(point, frame.mul(rest, extent))
                point = rest
        for axis in axes:
            self.scope.axes[axis] = found[axis]

    def column(self) -> str:
        """The number of the inner point, row-major."""
        strides: dict[int, int] = {}
        stride = 1
        for axis in reversed(self.loops.inner):
            strides[axis] = stride
            stride *= self.loops.extent(axis)
        return self.scope.place(Offset(axes=strides))

    def hoist(self) -> None:
        """Compute what is the same at all points once: constants, scalar arguments, and what follows from them."""
        arguments = self.loops.nest.arguments
        # a load that every point makes is safe here if there is something to load
        safe = [s for s in self.loops.statements if not isinstance(s, Load) or arguments[s.argument].size > 0]
        self.prepare(independent(self.loops, safe, range(len(self.loops.nest.axes)), ()))

    def prepare(self, values: Container[int]) -> None:
        """Compute some values where the code stands; they are not computed again where they are used."""
        self.scope.emit(
            [s for s in self.loops.statements if not isinstance(s, (Store, Reduce, Scan)) and s.result in values],
            _no_fold,
        )


def _no_fold(reduce: Reduce, state: State) -> None:
    raise AssertionError("a fold is not the same at all points")


@dataclass
class Rows(Walk):
    """One outer point after the other; element stages loop over the inner axes, the contiguous one innermost."""

    bounds: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Inner axes of which only a part is walked."""

    def points(self, low: str, high: str) -> None:
        """Code for the outer points ``low`` to ``high``, in order."""
        scope = self.scope
        with scope.frame.loop(low, high) as row:
            shared = dict(scope.values)
            self.decode(row, self.plan.order)
            for stage in self.loops.nest.stages:
                if stage.level == "row" or not self.loops.nest.inner:
                    start_scans(scope, stage.body)
                    scope.emit(stage.body, self._row_fold)
                else:
                    self._elements(stage)
            scope.values = shared
            scope.axes.clear()

    def _row_fold(self, reduce: Reduce, state: State) -> None:
        if reduce.over == "inner":
            self.scope.values.update(zip(reduce.results, state))
        else:
            self.folds[id(reduce)].merge(state)

    def _elements(self, stage: Stage) -> None:
        scope = self.scope
        shared = dict(scope.values)
        folds = [s for s in stage.body if isinstance(s, Reduce) and s.over != "outer"]
        axes = self.plan.inner_order(stage)
        kind = Total if self._in_blocks(folds, axes) else Cell
        totals = {id(r): kind.variable(scope, r) for r in folds}
        for cell in totals.values():
            cell.clear()
        start_scans(scope, stage.body)
        self._nested(stage, axes, totals)
        scope.values = shared
        for reduce in folds:
            state = totals[id(reduce)].read()
            if reduce.over == "inner":
                scope.values.update(zip(reduce.results, state))
            else:
                self.folds[id(reduce)].merge(state)
        for axis in self.loops.inner:
            scope.axes.pop(axis, None)

    def _nested(self, stage: Stage, axes: Sequence[int], totals: Mapping[int, Cell]) -> None:
        scope, frame = self.scope, self.scope.frame
        axis = axes[0]
        start, extent = self.bounds.get(axis, ("0", scope.extent(axis)))
        if len(axes) > 1:
            with frame.loop(start, extent) as index:
                scope.axes[axis] = index
                self._nested(stage, axes[1:], totals)
            return
        streamed = self.streams.of(stage.body, axis) if self.streams else []
        if self._in_pieces(stage, axis):
            fold = self._folder(totals)
            Pieces(self, stage, axis).run(start, extent, streamed, fold)
            return
        if self._in_strips(stage, axis, totals):
            self._strips(stage, axis, extent, totals)
        elif streamed:
            self._streamed(stage, axis, (start, extent), totals, streamed)
        elif not any(isinstance(total, Total) for total in totals.values()):
            self._block(stage, axis, start, extent, totals)
        elif axis != self.loops.dynamic and self.loops.extent(axis) <= 2 * BLOCK:
            self._block(stage, axis, "0", extent, totals)
        else:
            blocks = frame.div(frame.add(extent, str(BLOCK - 1)), str(BLOCK))
            with frame.loop("0", blocks) as block:
                low = frame.mul(block, str(BLOCK))
                self._block(stage, axis, low, frame.min(frame.add(low, str(BLOCK)), extent), totals)

    def _in_pieces(self, stage: Stage, axis: int) -> bool:
        """Whether a stage scans rows that are long enough to do it in vectors."""
        return bool(scans_of(stage.body)) and self.loops.extent(axis) >= SHORT and not collides(stage.body, axis)

    def _folder(self, cells: Mapping[int, Cell]) -> Callable[[Reduce, State], None]:
        """What happens at a reduction: its state is merged into a cell, of its column or of the row."""

        def fold(reduce: Reduce, state: State) -> None:
            if reduce.over == "outer":
                self.folds[id(reduce)].merge(state, self.column())
            else:
                cells[id(reduce)].merge(state)

        return fold

    def _streamed(
        self, stage: Stage, axis: int, bounds: tuple[str, str], totals: Mapping[int, Cell], stores: list[Store]
    ) -> None:
        """The loop in pieces, each of which is computed first and then written past the caches."""
        frame = self.scope.frame
        assert self.streams is not None
        with frame.advance(*bounds) as (low, by):
            count = frame.min(frame.sub(bounds[1], low), str(self.streams.length))
            by(count)
            high = frame.add(low, count)
            with self.streams.piece(stores, axis, low, count) as at:
                self._block(stage, axis, low, high, totals, lambda index: at(frame.sub(index, low)))

    def _in_strips(self, stage: Stage, axis: int, totals: Mapping[int, Cell]) -> bool:
        """Whether a long loop has folds that must see their elements in order, but tell by an index what order was."""
        ranked = [cell.reduce for cell in totals.values() if not is_free(cell.reduce)]
        long = axis != self.loops.dynamic and self.loops.extent(axis) >= 4 * STRIP
        free = axis not in self.bounds and not collides(stage.body, axis) and not scans_of(stage.body)
        return bool(ranked) and long and free and all(combine_of(reduce).with_index for reduce in ranked)

    def _strips(self, stage: Stage, axis: int, extent: str, totals: Mapping[int, Cell]) -> None:
        """STRIP folds side by side, each of every STRIP-th element, and then the fold of these."""
        scope, frame = self.scope, self.scope.frame
        cells = {key: Cell.array(scope, total.reduce, STRIP) for key, total in totals.items()}
        with frame.loop("0", str(STRIP), parallel=True) as lane:
            for cell in cells.values():
                cell.clear(lane)
        whole = frame.mul(frame.div(extent, str(STRIP)), str(STRIP))
        shared = dict(scope.values)
        with frame.loop("0", frame.div(extent, str(STRIP))) as strip:
            with frame.loop("0", str(STRIP), parallel=True) as lane:
                scope.axes[axis] = frame.add(frame.mul(strip, str(STRIP)), lane)

                def fold(reduce: Reduce, state: State) -> None:
                    if reduce.over == "outer":
                        self.folds[id(reduce)].merge(state, self.column())
                    else:
                        cells[id(reduce)].merge(state, lane)

                scope.emit(stage.body, fold)
            scope.values = shared
        with frame.loop("0", str(STRIP)) as lane:
            for key, cell in cells.items():
                totals[key].merge_unordered(cell.read(lane))
        self._innermost(stage, axis, whole, extent, totals)

    def _in_blocks(self, folds: Sequence[Reduce], axes: Sequence[int]) -> bool:
        """Whether folds are made of the folds of blocks: in long rows, where order is free."""
        if not all(is_free(reduce) for reduce in folds):
            return False
        return self.loops.dynamic in axes or self.loops.columns > 2 * BLOCK

    def _block(
        self,
        stage: Stage,
        axis: int,
        low: str,
        high: str,
        totals: Mapping[int, Cell],
        at: Callable[[str], None] | None = None,
    ) -> None:
        """Elements folded by themselves first, then added to the totals."""
        if not any(isinstance(total, Total) for total in totals.values()):
            self._innermost(stage, axis, low, high, totals, at)
            return
        cells = {key: Cell.variable(self.scope, total.reduce) for key, total in totals.items()}
        for cell in cells.values():
            cell.clear()
        self._innermost(stage, axis, low, high, cells, at)
        for key, cell in cells.items():
            totals[key].merge(cell.read())

    def _innermost(
        self,
        stage: Stage,
        axis: int,
        low: str,
        high: str,
        cells: Mapping[int, Cell],
        at: Callable[[str], None] | None = None,
    ) -> None:
        scope, fold = self.scope, self._folder(cells)
        shared = dict(scope.values)
        with scope.frame.loop(low, high, parallel=not collides(stage.body, axis)) as index:
            scope.axes[axis] = index
            if at is not None:
                at(index)
            scope.emit(stage.body, fold)
        scope.values = shared


@dataclass
class Lanes(Walk):
    """Points along the last axis of ``plan.order``, side by side: every load and store along that axis is contiguous.

    Values that are needed in a later loop over the lanes, and the states of folds over inner axes, are arrays on the
    stack with an element for each lane of a tile.
    """

    states: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """The arrays with the states of scans, by identity."""

    def points(self, low: str, high: str) -> None:
        """Code for the outer points ``low`` to ``high``; consecutive points go along the lane axis."""
        scope, frame = self.scope, self.scope.frame
        *slow, lane = self.plan.order
        groups = self._groups()
        steady = independent(self.loops, self.loops.statements, (lane, *self.loops.inner), scope.values)
        arrays = {v: frame.array(dtype, self.plan.tile) for v, dtype in self._saved(groups, steady).items()}
        for s in scans_of(self.loops.statements):
            self.states[id(s)] = tuple(frame.array(dtype, self.plan.tile) for dtype in state_dtypes(s))
        with frame.advance(low, high) as (point, by):
            count = frame.sub(high, point)
            first = point
            if slow:
                extent = scope.extent(lane)
                row = frame.div(point, extent)
                first = frame.sub(point, frame.mul(row, extent))
                self.decode(row, slow)
                count = frame.min(count, frame.sub(extent, first))
            if self.plan.tile > 1:
                count = frame.min(count, str(self.plan.tile))
            by(count)
            tile = _Tile(self, lane, first, count, arrays)
            before = dict(scope.values)
            self.prepare(steady)
            shared = dict(scope.values)
            for group in groups:
                if self._is_loop(group[0]):
                    tile.elements(group[0])
                else:
                    tile.rows(group)
                scope.values = dict(shared)
            scope.values = before
            scope.axes.clear()

    def _is_loop(self, stage: Stage) -> bool:
        """Whether a stage loops over the inner axes."""
        return stage.level == "element" and bool(self.loops.nest.inner) and not self.plan.unroll

    def _groups(self) -> list[list[Stage]]:
        """Stages that share a loop over the lanes."""
        groups: list[list[Stage]] = []
        for stage in self.loops.nest.stages:
            if groups and not self._is_loop(stage) and not self._is_loop(groups[-1][0]):
                groups[-1].append(stage)
            elif stage.body:
                groups.append([stage])
        return groups

    def _saved(self, groups: list[list[Stage]], steady: set[int]) -> dict[int, np.dtype]:
        """The values that need arrays: results of folds, and what later groups use."""
        types = value_dtypes(self.loops)
        saved: dict[int, np.dtype] = {}
        defined = steady | self.scope.values.keys()
        for group in groups:
            body = [s for stage in group for s in stage.body]
            here = {r for s in body for r in results(s)}
            if self._is_loop(group[0]):
                folded = (r for s in body if isinstance(s, Reduce) for r in s.results)
                saved.update({r: types[r] for r in folded})
            used = {v for s in body for v in used_values(s)}
            saved.update({v: types[v] for v in sorted(used - here - defined)})
        return saved


@dataclass
class _Tile:
    """Code for some points side by side: ``first`` and ``count`` along the axis ``lane``."""

    walk: Lanes
    lane: int
    first: str
    count: str
    arrays: Mapping[int, str]

    @contextmanager
    def each_lane(self, body: Sequence[Statement]) -> Iterator[str]:
        """A loop over the lanes; values that statements use are at hand, and those that later ones use are saved."""
        scope = self.walk.scope
        frame = scope.frame
        types = value_dtypes(self.walk.loops)
        shared = dict(scope.values)
        with frame.loop("0", self.count, parallel=not collides(body, self.lane)) as lane:
            scope.lane = lane
            scope.axes[self.lane] = frame.add(self.first, lane)
            here = {r for s in body for r in results(s)}
            for value in sorted({v for s in body for v in used_values(s)} - here):
                if value in self.arrays:
                    scope.values[value] = frame.emitter.load(self.arrays[value], lane, types[value])
            yield lane
            for value in sorted(here & self.arrays.keys() & scope.values.keys() - shared.keys()):
                frame.emitter.store(scope.values[value], self.arrays[value], lane)
        del scope.axes[self.lane]
        scope.values = shared

    def rows(self, stages: Sequence[Stage]) -> None:
        """Stages in one loop over the lanes; the inner axes of element stages are unrolled."""
        walk, scope = self.walk, self.walk.scope
        loops = walk.loops
        body = [s for stage in stages for s in stage.body]
        points = list(product(*(range(loops.extent(axis)) for axis in loops.inner)))
        parts: dict[tuple[int, int], Cell] = {}
        for s in body:
            if isinstance(s, Reduce) and s.over != "inner":
                for k in range(len(points) if s.over == "outer" else 1):
                    parts[id(s), k] = Cell.variable(scope, s)
                    parts[id(s), k].clear()
        with ExitStack() as around:
            streamed = walk.streams.of(body, self.lane) if walk.streams and not loops.nest.inner else []
            at = None
            if streamed and walk.streams:
                at = around.enter_context(walk.streams.piece(streamed, self.lane, self.first, self.count))
            lane = around.enter_context(self.each_lane(body))
            if at is not None:
                at(lane)
            for stage in stages:
                if stage.level == "row" or not loops.nest.inner:
                    self._unrolled(stage, [()], parts)
                else:
                    self._unrolled(stage, points, parts)
        for (key, k), part in parts.items():
            walk.folds[key].merge(part.read(), str(k))

    def _unrolled(self, stage: Stage, points: list[tuple[int, ...]], parts: Mapping[tuple[int, int], Cell]) -> None:
        scope, loops = self.walk.scope, self.walk.loops
        states: dict[int, State] = {}
        shared = dict(scope.values)
        start_scans(scope, stage.body)
        for k, point in enumerate(points):

            def fold(reduce: Reduce, state: State, k: int = k) -> None:
                if reduce.over == "inner":
                    left = states.get(id(reduce))
                    states[id(reduce)] = scope.merge(reduce, left, state) if left else state
                else:
                    parts[id(reduce), k if reduce.over == "outer" else 0].merge(state)

            scope.axes.update(zip(loops.inner, map(str, point)))
            scope.emit(stage.body, fold)
            if stage.level == "element" and loops.nest.inner:
                scope.values = dict(shared)
        for axis in loops.inner:
            scope.axes.pop(axis, None)
        for s in stage.body:
            if isinstance(s, Reduce) and s.over == "inner":
                scope.values.update(zip(s.results, states.get(id(s)) or identity(scope, s)))

    def elements(self, stage: Stage) -> None:
        """An element stage: loops over the inner axes around a loop over the lanes."""
        scope = self.walk.scope
        inner = [s for s in stage.body if isinstance(s, Reduce) and s.over == "inner"]
        cells = {id(r): Cell(scope, r, tuple(self.arrays[v] for v in r.results)) for r in inner}
        scans = {id(s): Cell(scope, s, self.walk.states[id(s)]) for s in scans_of(stage.body)}
        if cells or scans:
            with self.each_lane([]) as lane:
                for cell in (*cells.values(), *scans.values()):
                    cell.clear(lane)
        self._nested(stage, self.walk.plan.inner_order(stage), cells)

    def _nested(self, stage: Stage, axes: Sequence[int], cells: Mapping[int, Cell]) -> None:
        scope = self.walk.scope
        if axes:
            with scope.frame.loop("0", scope.extent(axes[0])) as index:
                scope.axes[axes[0]] = index
                self._nested(stage, axes[1:], cells)
            scope.axes.pop(axes[0])
            return
        parts = {id(s): Cell.variable(scope, s) for s in stage.body if isinstance(s, Reduce) and s.over != "inner"}
        for part in parts.values():
            part.clear()
        with self.each_lane(stage.body) as lane:
            for s in scans_of(stage.body):
                scope.scans[id(s)] = Cell(scope, s, self.walk.states[id(s)]), lane

            def fold(reduce: Reduce, state: State) -> None:
                if reduce.over == "inner":
                    cells[id(reduce)].merge(state, lane)
                else:
                    parts[id(reduce)].merge(state)

            scope.emit(stage.body, fold)
        for key, part in parts.items():
            whole = self.walk.folds[key]
            by_column = isinstance(part.reduce, Reduce) and part.reduce.over == "outer"
            whole.merge(part.read(), self.walk.column() if by_column else "0")


def collides(body: Sequence[Statement], axis: int) -> bool:
    """Whether points along an axis may add to the same element, so that their order matters."""
    here = {r for s in body for r in results(s)}
    return any(
        isinstance(s, Store) and s.accumulate and (not s.offset.axes.get(axis) or here & s.offset.indirect.keys())
        for s in body
    )
