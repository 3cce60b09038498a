"""The places of the largest elements of rows on the CPU, and of the first extreme one.

Elements are compared as unsigned numbers in their order where it matters which of several come first.
"""

from __future__ import annotations

from math import prod

import numpy as np
from knetc.codegen.cpu.code import NO_UNROLL, Code, Table
from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar
from knetc.codegen.cpu.native import Target
from knetc.codegen.cpu.sorts import I32, PIECE, Lowering, call_sort, copy, has_sort
from knetc.codegen.kernel import Kernel
from knetc.runtime.base import dtypes
from knetc.runtime.program import Slot

from knetc.ir.types import TensorType

CHUNK = 64
"""Elements that are looked at together for large ones."""

AREAS = 64
"""Pieces of rows that have an area each for what may be among the largest."""

BLOCK = 1 << 9
"""Elements of which it is asked at once whether one goes beyond the extreme so far."""

SHORT = 1 << 10
"""Rows in whose loops one vector is taken at a time: of several the last elements would be left over, one by one."""

NO_INTERLEAVE = ('!{!"llvm.loop.interleave.count", i32 1}',)

BRIEF = 1 << 17
"""Elements up to which that takes less than it takes to wake another thread."""

SHARE = 1 << 15
"""Elements of a row that are looked through together; their extremes are compared at the end."""


def largest_kernel(x: TensorType, k: int, target: Target) -> Kernel | None:
    """A kernel for ``sorting.largest``: arguments are the array and the places of the largest elements of rows."""
    if not has_sort(rank_dtype(x.dtype)):
        return None
    lowering = _Largest(x.dtype, target)
    rows = prod(x.shape[:-1])
    if rows * k:
        lowering.largest(rows, x.shape[-1], k)
    return lowering.kernel()


def extreme_kernel(x: TensorType, largest: bool, target: Target) -> Kernel:
    """A kernel for the place of the first largest (or smallest) element of each row; NaN goes beyond all."""
    lowering = _Largest(x.dtype, target)
    rows = prod(x.shape[:-1])
    if rows:
        lowering.extremes(rows, x.shape[-1], largest)
    return lowering.kernel()


class _Largest(Lowering):
    # --- the largest elements ----------------------------------------------------------------------------------------

    def largest(self, rows: int, n: int, k: int) -> None:
        """Goes through each row and keeps what may be among its ``k`` largest elements.

        When there is no more room for these, all but the largest are dropped, and from then on only what is larger than
        the least of them is kept.
        """
        rank = rank_dtype(self.dtype)
        code = Code()
        e, table = code.emitter, Table(code)
        x, out = (code.slot(table.place(name), "ptr") for name in ("x", "out"))
        length, wanted, room = (table.number(name) for name in ("n", "k", "room"))
        piece = code.mul(code.div("%lo", table.number("grain")), room)
        ranks, ordered = (e.address(code.slot(table.place(name), "ptr"), piece, rank) for name in ("ranks", "sorted"))
        places = e.address(code.slot(table.place("places"), "ptr"), piece, dtypes.i64)
        kept = _Kept(code, rank, wanted, ranks, ordered, places)
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as row:
            source = e.address(x, code.mul(row, length), self.dtype)
            kept.clear()
            with code.advance("0", length) as (begin, by):
                end = code.min(code.add(begin, str(CHUNK)), length)
                with code.when(code.test("sgt", code.add(kept.count(), str(CHUNK)), room)):
                    kept.drop()
                least, hits = kept.least(), code.variable(I32)
                e.store(e.constant(0, I32), hits, 0)
                with code.loop(begin, end, parallel=True) as j:
                    self.note(code, hits, e.compare("ge", _rank(e, e.load(source, j, self.dtype)), least))
                some = e.compare("ne", e.load(hits, 0, I32), e.constant(0, I32))
                with code.when(some.text), code.loop(begin, end, hints=NO_UNROLL) as j:
                    found = _rank(e, e.load(source, j, self.dtype))
                    kept.add(found, j, e.compare("ge", found, least))
                by(str(CHUNK))
            kept.drop()
            target = e.address(out, code.mul(row, wanted), dtypes.i64)
            copy(code, target, kept.places, code.mul(wanted, "8"))
        grain = max(PIECE // n, -(-rows // AREAS))
        self.brief = rows * n <= BRIEF
        areas = -(-rows // grain)
        size = max(4 * k, 4 * CHUNK) + CHUNK
        slots = {"x": Slot("argument", 0), "out": Slot("argument", 1)}
        numbers = {"n": n, "k": k, "grain": grain, "room": size}
        slots |= {name: Slot("value", number) for name, number in numbers.items()}
        slots |= {name: self.room(areas * size * rank.itemsize) for name in ("ranks", "sorted")}
        slots["places"] = self.room(areas * size * 8)
        self.launch(code, table, slots, rows, grain)

    # --- the first extreme element -----------------------------------------------------------------------------------

    def extremes(self, rows: int, n: int, largest: bool) -> None:
        """For each share of a row the place of its extreme, then the best of these."""
        shares = -(-n // SHARE)
        self.brief = rows * n <= BRIEF
        slots = {"x": Slot("argument", 0), "out": Slot("argument", 1), "found": Slot("argument", 1)}
        numbers = {"n": n, "shares": shares, "share": -(-n // shares)}
        slots |= {name: Slot("value", number) for name, number in numbers.items()}
        if shares > 1:
            slots["found"] = self.room(rows * shares * 8)
        self.launch(*self.share_extremes(largest, n), slots, rows * shares, max(1, 2 * PIECE // n))
        if shares > 1:
            self.launch(*self.best_share(largest), slots, rows, max(1, PIECE // shares))

    def share_extremes(self, largest: bool, n: int) -> tuple[Code, Table]:
        code = Code()
        hints = NO_INTERLEAVE if n < SHORT else ()
        e, table = code.emitter, Table(code)
        x, found = code.slot(table.place("x"), "ptr"), code.slot(table.place("found"), "ptr")
        length, shares, share = (table.number(name) for name in ("n", "shares", "share"))
        best, place, hits = code.variable(self.dtype), code.variable(dtypes.i64), code.variable(I32)
        top, first = code.variable(self.dtype), code.variable(dtypes.i64)
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as number:
            row = code.div(number, shares)
            begin = code.mul(code.sub(number, code.mul(row, shares)), share)
            end = code.min(code.add(begin, share), length)
            source = e.address(x, code.mul(row, length), self.dtype)
            e.store(e.load(source, begin, self.dtype), best, 0)
            e.store(Scalar(begin, dtypes.i64), place, 0)
            with code.loop(begin, end, step=str(BLOCK), hints=NO_UNROLL) as block:
                stop = code.min(code.add(block, str(BLOCK)), end)
                bound = e.load(best, 0, self.dtype)
                opening = code.test("eq", block, begin)
                e.store(e.convert(Scalar(opening, dtypes.boolean), I32), hits, 0)
                later = e.not_(Scalar(opening, dtypes.boolean))
                with code.when(later.text), code.loop(block, stop, parallel=True, hints=hints) as k:
                    self.note(code, hits, _beyond(e, e.load(source, k, self.dtype), bound, largest))
                known = e.compare("eq", bound, bound)  # nothing goes beyond NaN
                some = e.and_(known, e.compare("ne", e.load(hits, 0, I32), e.constant(0, I32)))
                with code.when(some.text):
                    e.store(bound, top, 0)
                    with code.loop(block, stop, parallel=True, hints=hints) as k:
                        self.fold(code, "max" if largest else "min", top, e.load(source, k, self.dtype))
                    extreme = e.load(top, 0, self.dtype)
                    e.store(Scalar(stop, dtypes.i64), first, 0)
                    with code.loop(block, stop, parallel=True, hints=hints) as k:
                        value = e.load(source, k, self.dtype)
                        same = e.compare("eq", value, extreme)
                        if dtypes.is_float(self.dtype):
                            same = e.or_(same, e.compare("uno", value, value))
                        late = Scalar(stop, dtypes.i64)
                        self.fold(code, "min", first, e.select(same, Scalar(k, dtypes.i64), late))
                    e.store(extreme, best, 0)
                    e.store(e.load(first, 0, dtypes.i64), place, 0)
            e.store(e.load(place, 0, dtypes.i64), found, number)
        return code, table

    def best_share(self, largest: bool) -> tuple[Code, Table]:
        code = Code()
        e, table = code.emitter, Table(code)
        x, found, out = (code.slot(table.place(name), "ptr") for name in ("x", "found", "out"))
        n, shares = table.number("n"), table.number("shares")
        best, place = code.variable(self.dtype), code.variable(dtypes.i64)
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as row:
            source = e.address(x, code.mul(row, n), self.dtype)
            places = e.address(found, code.mul(row, shares), dtypes.i64)
            first = e.load(places, 0, dtypes.i64)
            e.store(first, place, 0)
            e.store(e.load(source, first, self.dtype), best, 0)
            with code.loop("1", shares, hints=NO_UNROLL) as k:
                where, bound = e.load(places, k, dtypes.i64), e.load(best, 0, self.dtype)
                value = e.load(source, where, self.dtype)
                better = e.and_(e.compare("eq", bound, bound), _beyond(e, value, bound, largest))
                with code.when(better.text):
                    e.store(value, best, 0)
                    e.store(where, place, 0)
            e.store(e.load(place, 0, dtypes.i64), out, row)
        return code, table

    @staticmethod
    def note(code: Code, hits: str, hit: Scalar) -> None:
        """Set a variable to 1 if something is hit."""
        e = code.emitter
        access, e.access = e.access, ""
        e.store(e.select(hit, e.constant(1, I32), e.load(hits, 0, I32)), hits, 0)
        e.access = access

    @staticmethod
    def fold(code: Code, kind: str, state: str, value: Scalar) -> None:
        """One step of a fold into a variable, which no other iteration is said to leave alone."""
        e = code.emitter
        access, e.access = e.access, ""
        e.store(e.accumulate(kind, e.load(state, 0, value.dtype), value), state, 0)
        e.access = access


def _beyond(e: LlvmEmitter, value: Scalar, bound: Scalar, largest: bool) -> Scalar:
    """Whether a value is larger (or smaller) than a bound, or either is NaN."""
    return e.not_(e.compare("le" if largest else "ge", value, bound))


def rank_dtype(dtype: np.dtype) -> np.dtype:
    """That of numbers in the order of elements (see ``knetc.ops.ranking.ranks``)."""
    return dtypes.u32 if dtype.itemsize <= 4 else dtypes.u64


def _rank(e: LlvmEmitter, x: Scalar) -> Scalar:
    """An unsigned number in the order of ``x``: the same for both zeros, the largest for NaN."""
    unsigned = rank_dtype(x.dtype)
    signed = dtypes.i32 if unsigned == dtypes.u32 else dtypes.i64
    lowest = e.constant(-(1 << (8 * signed.itemsize - 1)), signed)
    if x.dtype.kind == "u":
        return x if x.dtype == unsigned else e.convert(x, unsigned)
    if x.dtype.kind == "i":
        return e.bitcast(e.xor(x if x.dtype == signed else e.convert(x, signed), lowest), unsigned)
    zero, nan = e.constant(0.0, x.dtype), e.constant(float("nan"), x.dtype)
    plain = e.select(e.compare("uno", x, x), nan, e.select(e.compare("eq", x, zero), zero, x))
    bits = e.bitcast(plain, signed)
    turned = e.or_(e.ashr(bits, e.constant(8 * signed.itemsize - 1, signed)), lowest)
    return e.bitcast(e.xor(bits, turned), unsigned)


class _Kept:
    """The ranks and places of elements that may be among the largest of a row, in the order of their places."""

    def __init__(self, code: Code, dtype: np.dtype, wanted: str, ranks: str, ordered: str, places: str) -> None:
        self.code = code
        self.dtype = dtype
        self.wanted = wanted
        self.ranks, self.ordered, self.places = ranks, ordered, places
        self._count, self._least = code.variable(dtypes.i64), code.variable(dtype)

    def clear(self) -> None:
        e = self.code.emitter
        e.store(e.constant(0, dtypes.i64), self._count, 0)
        e.store(e.constant(0, self.dtype), self._least, 0)

    def count(self) -> str:
        return self.code.emitter.load(self._count, 0, dtypes.i64).text

    def least(self) -> Scalar:
        """The least rank that is worth keeping."""
        return self.code.emitter.load(self._least, 0, self.dtype)

    def add(self, rank: Scalar, place: str, keep: Scalar) -> None:
        """Keep an element, or let the next one overwrite it."""
        e, count = self.code.emitter, self.count()
        e.store(rank, self.ranks, count)
        e.store(Scalar(place, dtypes.i64), self.places, count)
        e.store(Scalar(self.code.add(count, e.convert(keep, dtypes.i64).text), dtypes.i64), self._count, 0)

    def drop(self) -> None:
        """Keep only the largest; of those that are equal to the least of them as many as there is room for."""
        code, e, count = self.code, self.code.emitter, self.count()
        one = e.constant(1, dtypes.i64)
        copy(code, self.ordered, self.ranks, code.mul(count, str(self.dtype.itemsize)))
        call_sort(code, self.dtype, self.ordered, count)
        first = code.sub(count, self.wanted)
        bound = e.load(self.ordered, first, self.dtype)
        left = code.variable(dtypes.i64)
        e.store(e.constant(0, dtypes.i64), left, 0)
        with code.loop(first, count, hints=NO_UNROLL) as k:
            equal = e.compare("eq", e.load(self.ordered, k, self.dtype), bound)
            e.store(e.add(e.load(left, 0, dtypes.i64), e.convert(equal, dtypes.i64)), left, 0)
        e.store(e.constant(0, dtypes.i64), self._count, 0)
        with code.loop("0", count, hints=NO_UNROLL) as k:
            rank, place, room = (
                e.load(self.ranks, k, self.dtype),
                e.load(self.places, k, dtypes.i64),
                e.load(left, 0, dtypes.i64),
            )
            equal = e.and_(e.compare("eq", rank, bound), e.compare("ge", room, one))
            self.add(rank, place.text, e.or_(equal, e.compare("gt", rank, bound)))
            e.store(e.sub(room, e.convert(equal, dtypes.i64)), left, 0)
        highest = e.constant(int(np.iinfo(self.dtype).max), self.dtype)
        above = e.select(e.compare("eq", bound, highest), highest, e.add(bound, e.constant(1, self.dtype)))
        e.store(above, self._least, 0)
