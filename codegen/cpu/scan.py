"""Scans along rows, piece by piece, in vectors; and of few long rows by all threads.

LLVM does not widen a loop that carries a running sum. So a piece of a row goes through small arrays, which never leave
the first-level cache: what is scanned is computed into one (a loop that is widened), the scan is done there, and what
follows from it is computed from there (widened again).

The scan of a piece is done in windows: after steps of distance 1, 2, 4 … each element holds the fold of the WINDOW
elements that end at it, and then one step of distance WINDOW adds what lies before. All loops but the last have
independent iterations, and the last one goes on a whole window at a time. So the order in which a row is folded depends
on its length alone.

Few long rows are cut into chunks. First each chunk is folded by itself, then each is scanned from the fold of those
before it. What is read is read twice, but by all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knetc.codegen.axes import Loops, is_free, results, used_values
from knetc.codegen.cpu.scope import Cell, Scope, State, combine_of, identity, state_dtypes
from knetc.codegen.loopnest import Reduce, Scan, Stage, Statement, Store
from knetc.runtime.base import dtypes

if TYPE_CHECKING:
    from knetc.codegen.cpu.walk import Rows

SHORT = 64
"""Rows of fewer elements are scanned one element after the other."""

FEW_ROWS, LONG = 8, 1 << 18
"""Fewer rows than these, of at least so many elements, are cut into chunks."""

MAX_CHUNKS = 64

PIECE = 1024
"""Elements of a row that are scanned at a time."""

WINDOW_BYTES = 64
"""Bytes of a window, of elements of 32 bits or more; narrower ones have windows of as many elements as these."""


def scans_of(statements: Iterable[Statement]) -> list[Scan]:
    """The scans among statements."""
    return [s for s in statements if isinstance(s, Scan)]


def start_scans(scope: Scope, statements: Iterable[Statement]) -> None:
    """Give scans a state in registers: that of no elements."""
    for s in scans_of(statements):
        cell = Cell.variable(scope, s)
        cell.clear()
        scope.scans[id(s)] = cell, "0"


def window(scan: Scan) -> int:
    """How many elements a window has; 1 where elements must be folded one after the other.

    Products of floats are: what overflows or vanishes on the way depends on the order.
    """
    combine = combine_of(scan)
    if not is_free(scan) or (combine.reassociable == "mul" and dtypes.is_float(scan.dtype)):
        return 1
    return WINDOW_BYTES // max(scan.dtype.itemsize, 4)


def behind(body: Sequence[Statement], values: set[int]) -> list[Statement]:
    """The statements that compute values, those that they use included."""
    needed = set(values)
    found: list[Statement] = []
    for s in reversed(body):
        if not isinstance(s, (Store, Reduce)) and not needed.isdisjoint(results(s)):
            needed |= used_values(s)
            found.append(s)
    return found[::-1]


def chunk_size(loops: Loops) -> int:
    """How many elements of its rows a nest that scans hands to a thread at once; 0 for whole rows.

    Chunks are for few long rows of which only the folds of earlier chunks must be known: one element stage at the end,
    scans in windows that do not need each other, no other folds.
    """
    stages = [stage for stage in loops.nest.stages if stage.body]
    scans = scans_of(loops.statements)
    if not scans or loops.rows >= FEW_ROWS or loops.columns < LONG:
        return 0
    if [stage.level for stage in stages].count("element") != 1 or stages[-1].level != "element":
        return 0
    if loops.reductions("inner", "outer", "all") or any(window(s) == 1 for s in scans):
        return 0
    if any(isinstance(s, Store) and (s.accumulate or stage is not stages[-1]) for stage in stages for s in stage.body):
        return 0
    if any(scans_of(behind(stages[-1].body, set(scan.operands))) for scan in scans):
        return 0
    return -(-max(LONG // 8, -(-loops.columns // MAX_CHUNKS)) // PIECE) * PIECE


@dataclass
class Chunk:
    """A part of a row: its number among all, the row, its number in the row, and its bounds."""

    number: str
    row: str
    place: str
    low: str
    high: str


class Chunks:
    """The chunks of few long rows, in two functions: the one folds them, the other scans them."""

    def __init__(self, loops: Loops, size: int) -> None:
        self.loops, self.size = loops, size
        self.each = -(-loops.columns // size)
        """Chunks of a row."""
        self.scans = scans_of(loops.statements)

    @property
    def count(self) -> int:
        return self.loops.rows * self.each

    @contextmanager
    def _all(self, walk: Rows) -> Iterator[Chunk]:
        """A loop over the function's chunks, with what row stages compute at hand."""
        scope, frame = walk.scope, walk.scope.frame
        with frame.loop("%lo", "%hi") as number:
            row = frame.div(number, str(self.each))
            place = frame.sub(number, frame.mul(row, str(self.each)))
            low = frame.mul(place, str(self.size))
            high = frame.min(frame.add(low, str(self.size)), str(self.loops.columns))
            shared = dict(scope.values)
            walk.decode(row, walk.plan.order)
            for stage in self.loops.nest.stages:
                if stage.level == "row":
                    scope.emit(stage.body, _no_fold)
            yield Chunk(number, row, place, low, high)
            scope.values = shared
            scope.axes.clear()

    def fold(self, walk: Rows, partials: Sequence[str]) -> None:
        """Code that folds each chunk; the results go to arrays, one for each scan."""
        scope, frame = walk.scope, walk.scope.frame
        e, [axis] = frame.emitter, self.loops.inner
        body = self.loops.nest.stages[-1].body
        with self._all(walk) as chunk:
            cells = [Cell.variable(scope, s) for s in self.scans]
            for cell in cells:
                cell.clear()
            with frame.advance(chunk.low, chunk.high) as (first, by):
                count = frame.min(frame.sub(chunk.high, first), str(PIECE))
                by(count)
                pieces = [Cell.variable(scope, s) for s in self.scans]
                for piece in pieces:
                    piece.clear()
                shared = dict(scope.values)
                with frame.loop("0", count, parallel=True) as k:
                    scope.axes[axis] = frame.add(first, k)
                    for s, piece in zip(self.scans, pieces):
                        scope.emit(behind(body, set(s.operands)), _no_fold)
                        kind = combine_of(s).reassociable
                        piece.write((e.accumulate(kind, piece.read()[0], scope.element(s)[0]),))
                scope.values = shared
                for cell, piece in zip(cells, pieces):
                    cell.merge(piece.read())
            for cell, partial in zip(cells, partials):
                e.store(cell.read()[0], partial, chunk.number)

    def scan(self, walk: Rows, partials: Sequence[str]) -> None:
        """Code that scans each chunk, from the fold of those before it in its row."""
        scope, frame = walk.scope, walk.scope.frame
        [axis], stage = self.loops.inner, self.loops.nest.stages[-1]
        with self._all(walk) as chunk:
            start_scans(scope, stage.body)
            first = frame.mul(chunk.row, str(self.each))
            with frame.loop("0", chunk.place) as k:
                for s, partial in zip(self.scans, partials):
                    cell, _ = scope.scans[id(s)]
                    cell.merge((frame.emitter.load(partial, frame.add(first, k), s.dtype),))
            streamed = walk.streams.of(stage.body, axis) if walk.streams else []
            Pieces(walk, stage, axis).run(chunk.low, chunk.high, streamed, _no_fold)


class Pieces:
    """The scans of an element stage, done piece by piece along a row; what they are so far is in ``scope.scans``."""

    def __init__(self, walk: Rows, stage: Stage, axis: int) -> None:
        self.walk, self.body, self.axis = walk, stage.body, axis
        self.scope, self.frame = walk.scope, walk.scope.frame
        self.done: dict[int, tuple[str, int]] = {}
        """Scans of this piece that are done, by identity: the array with the results, and where in it they begin."""

    def run(self, low: str, high: str, streamed: Sequence[Store], fold: Callable[[Reduce, State], None]) -> None:
        """Code for the elements from ``low`` to ``high``; ``fold`` says what to do at a reduction."""
        scans = scans_of(self.body)
        arrays = [self._arrays(s) for s in scans]
        with self.frame.advance(low, high) as (first, by):
            count = self.frame.min(self.frame.sub(high, first), str(PIECE))
            by(count)
            self.done = {}
            for s, found in zip(scans, arrays):
                self._bring(s, found[0], first, count)
                self._scan(s, found, count)
            with ExitStack() as around:
                at = None
                if streamed and self.walk.streams:
                    at = around.enter_context(self.walk.streams.piece(streamed, self.axis, first, count))
                with self._elements(first, count) as k:
                    if at is not None:
                        at(k)
                    self.scope.emit(self.body, fold)
            self.scope.scanned = {}

    def _arrays(self, scan: Scan) -> list[list[str]]:
        """An array for each part of the state; two sets if there are windows, with room for one in front."""
        size = window(scan)
        count, room = (2, PIECE + size) if size > 1 else (1, PIECE)
        return [[self.frame.array(dtype, room) for dtype in state_dtypes(scan)] for _ in range(count)]

    @contextmanager
    def _elements(self, first: str, count: str) -> Iterator[str]:
        """A loop over the elements of a piece, with the scans that are done at hand."""
        scope, frame = self.scope, self.frame
        shared = dict(scope.values)
        with frame.loop("0", count, parallel=True) as k:
            scope.axes[self.axis] = frame.add(first, k)
            scope.scanned = {key: (array, frame.add(k, str(shift))) for key, (array, shift) in self.done.items()}
            yield k
        scope.values = shared

    def _bring(self, scan: Scan, arrays: Sequence[str], first: str, count: str) -> None:
        """Compute what is scanned into arrays."""
        scope, frame = self.scope, self.frame
        shift = window(scan) if window(scan) > 1 else 0
        with self._elements(first, count) as k:
            scope.emit(behind(self.body, set(scan.operands)), _no_fold)
            place = frame.add(k, str(shift))
            for part, array in zip(scope.element(scan), arrays, strict=True):
                frame.emitter.store(part, array, place)

    def _scan(self, scan: Scan, arrays: Sequence[Sequence[str]], count: str) -> None:
        """Scan arrays, from what the scan is so far on."""
        scope, frame, e = self.scope, self.frame, self.frame.emitter
        cell, _ = scope.scans[id(scan)]
        size, types = window(scan), state_dtypes(scan)
        if size == 1:
            with frame.loop("0", count) as k:
                cell.merge(tuple(e.load(array, k, dtype) for array, dtype in zip(arrays[0], types)))
                e.store(cell.read()[-1], arrays[0][-1], k)
            self.done[id(scan)] = arrays[0][-1], 0
            return
        [here], [there] = arrays
        [dtype], [nothing] = types, identity(scope, scan)
        with frame.loop("0", str(size), parallel=True) as k:
            e.store(nothing, here, k)
            e.store(nothing, there, k)
        distance = 1
        while distance < size:
            with frame.loop("0", count, parallel=True) as k:
                before = e.load(here, frame.add(k, str(size - distance)), dtype)
                place = frame.add(k, str(size))
                e.store(scope.merge(scan, (before,), (e.load(here, place, dtype),))[0], there, place)
            here, there = there, here
            distance *= 2
        with frame.loop("0", str(size), parallel=True) as k:
            e.store(cell.read()[0], there, k)
        with frame.loop("0", count) as k:
            place = frame.add(k, str(size))
            before = e.load(there, k, dtype)
            e.store(scope.merge(scan, (before,), (e.load(here, place, dtype),))[0], there, place)
        cell.write((e.load(there, frame.add(count, str(size - 1)), dtype),))
        self.done[id(scan)] = there, size


def _no_fold(reduce: Reduce, state: State) -> None:
    raise AssertionError("what is scanned does not need a fold of the same stage")
