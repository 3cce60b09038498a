"""Stores past the caches: large results leave in whole cache lines, without their memory being read first.

The vectoriser does not make such stores of scalar ones, since it cannot know that they are aligned. So a piece of a
row is computed into a small array on the stack, which never leaves the first-level cache, and then copied from there
with aligned vector stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from knetc.codegen.cpu.emitter import memory_type
from knetc.codegen.cpu.frame import PLAIN, Frame
from knetc.codegen.cpu.scope import Scope
from knetc.codegen.loopnest import LoopNest, Statement, Store
from knetc.runtime.base import dtypes

PIECE_BYTES = 4096
"""Of a result that are computed before they are written: as many as lie at different places of the first-level cache's
sets, few enough that writing them and computing the next overlap. With twice as many, functions take twice as long.
"""


def piece_length(nest: LoopNest, arguments: frozenset[int]) -> int:
    """Elements of a piece, for the widest of the arguments that are streamed."""
    return PIECE_BYTES // max((nest.arguments[k].dtype.itemsize for k in arguments), default=PIECE_BYTES)


class Streams:
    """The stores of a nest that go past the caches, and the arrays that they go through."""

    def __init__(self, scope: Scope, arguments: frozenset[int], vector_bytes: int) -> None:
        self.scope, self.arguments, self.vector_bytes = scope, arguments, vector_bytes
        self.length = piece_length(scope.loops.nest, arguments)
        self._arrays: dict[int, str] = {}

    def of(self, body: Sequence[Statement], axis: int) -> list[Store]:
        """The statements that can be streamed when the loop over ``axis`` is the innermost one."""
        return [
            s
            for s in body
            if isinstance(s, Store)
            and s.argument in self.arguments
            and s.offset.axes.get(axis) == 1
            and not s.accumulate
            and not s.offset.indirect
        ]

    @contextmanager
    def piece(self, stores: Sequence[Store], axis: int, low: str, count: str) -> Iterator[Callable[[str], None]]:
        """A loop over ``count`` (at most ``length``) points of an axis from ``low``; tell it each index from 0 on."""
        scope, frame = self.scope, self.scope.frame
        for s in stores:
            if id(s) not in self._arrays:
                self._arrays[id(s)] = frame.array(scope.argument(s.argument).dtype, self.length)

        def at(index: str) -> None:
            scope.streamed = {id(s): (self._arrays[id(s)], index) for s in stores}

        yield at
        scope.streamed = {}
        for s in stores:
            before = scope.axes.get(axis)
            scope.axes[axis] = low
            pointer, place = scope.address(s.argument, s.offset)
            if before is None:
                del scope.axes[axis]
            else:
                scope.axes[axis] = before
            dtype = scope.argument(s.argument).dtype
            self._copy(frame, self._arrays[id(s)], frame.emitter.address(pointer, place, dtype), count, dtype)

    def _copy(self, frame: Frame, source: str, target: str, count: str, dtype: np.dtype) -> None:
        """``count`` elements from ``source`` to ``target``, whole vectors past the caches."""
        e, size = frame.emitter, dtype.itemsize
        width = self.vector_bytes // size
        kind = f"<{width} x {memory_type(dtype)}>"
        number = e.value(f"ptrtoint ptr {target} to i64", dtypes.i64)
        below = e.value(f"sub i64 0, {number.text}", dtypes.i64)
        bytes_ = e.value(f"and i64 {below.text}, {self.vector_bytes - 1}", dtypes.i64)
        head = frame.min(frame.div(bytes_.text, str(size)), count)
        vectors = frame.div(frame.sub(count, head), str(width))
        with frame.loop("0", head, hints=PLAIN) as k:
            e.store(e.load(source, k, dtype), target, k)
        with frame.loop("0", vectors) as k:
            place = frame.add(head, frame.mul(k, str(width)))
            value = e.fresh()
            e.line(f"{value} = load {kind}, ptr {e.address(source, place, dtype)}, align {size}")
            address = e.address(target, place, dtype)
            e.line(f"store {kind} {value}, ptr {address}, align {self.vector_bytes}, !nontemporal {frame.one()}")
        with frame.loop(frame.add(head, frame.mul(vectors, str(width))), count, hints=PLAIN) as k:
            e.store(e.load(source, k, dtype), target, k)


def finish(frame: Frame) -> None:
    """Wait for streamed stores: other threads may read them when the function returns."""
    frame.emitter.declarations["declare void @llvm.x86.sse.sfence()"] = None
    frame.emitter.line("call void @llvm.x86.sse.sfence()")
