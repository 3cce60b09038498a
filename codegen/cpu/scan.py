"""Scans along rows, piece by piece, in vectors.

LLVM does not widen a loop that carries a running sum. So a piece of a row goes through small arrays, which never leave
the first-level cache: what is scanned is computed into one (a loop that is widened), the scan is done there, and what
follows from it is computed from there (widened again).

The scan of a piece is done in windows: after steps of distance 1, 2, 4 … each element holds the fold of the WINDOW
elements that end at it, and then one step of distance WINDOW adds what lies before. All loops but the last have
independent iterations, and the last one goes on a whole window at a time. So the order in which a row is folded depends
on its length alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from knetc.codegen.cpu.axes import is_free, results, used_values
from knetc.codegen.cpu.scope import Cell, Scope, State, combine_of, identity, state_dtypes
from knetc.codegen.cpu.stream import PIECE
from knetc.codegen.loopnest import Reduce, Scan, Stage, Statement, Store
from knetc.runtime.base import dtypes

if TYPE_CHECKING:
    from knetc.codegen.cpu.walk import Rows

SHORT = 64
"""Rows of fewer elements are scanned one element after the other."""

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
