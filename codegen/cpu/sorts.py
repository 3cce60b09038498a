"""Sorting on the CPU: kernels around NumPy's own sorts, which they call as native functions (``numpy_sorts``).

Many rows, and short ones, are sorted each by itself. A long row is first dealt to buckets: a sample of it tells the
bounds between them; each block of the row notes to which bucket each element goes, and how many go to each; when these
are added up, each block writes its elements to their places. Then each bucket is sorted where it lies. All but the
sample and the sums is shared out among threads, in pieces that do not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod

import numpy as np
from knetc.codegen.cpu.code import NO_UNROLL, Code, Table
from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar
from knetc.codegen.cpu.native import Target, attributes_text
from knetc.codegen.kernel import Kernel
from knetc.runtime.base import dtypes
from knetc.runtime.cpu import numpy_sorts
from knetc.runtime.program import ALIGNMENT, Launch, Slot

from knetc.ir.types import TensorType

LONG_BYTES = 1 << 16
"""Rows of so many bytes are sorted by several threads."""

FEW_ROWS = 16
"""So many rows are enough for the threads."""

BLOCK = 1 << 13
"""Elements that are dealt to buckets together, at least."""

BLOCKS = 256
"""At most so many blocks a row: each has a count for each bucket, which one thread adds up."""

PIECE = 1 << 11
"""Elements of short rows that are worth handing to another thread."""

SAMPLES = 32
"""Elements that are looked at for each bucket."""


def sort_kernel(x: TensorType, target: Target) -> Kernel | None:
    """A kernel that sorts along the last axis: arguments are the array and the result. None where it cannot."""
    if not has_sort(x.dtype):
        return None
    lowering = Lowering(x.dtype, target)
    n, rows = x.shape[-1], prod(x.shape[:-1])
    if n * x.dtype.itemsize >= LONG_BYTES and 0 < rows < FEW_ROWS:
        lowering.long_rows(rows, n)
    elif rows * n:
        lowering.rows(rows, n)
    return lowering.kernel()


def settle_kernel(keys: TensorType, target: Target) -> Kernel | None:
    """A kernel for ``sorting.settled``: arguments are sorted keys, rests, shifts, and the places."""
    if not has_sort(dtypes.u64):
        return None
    lowering = Lowering(dtypes.u64, target)
    n, rows = keys.shape[-1], prod(keys.shape[:-1])
    if rows * n:
        lowering.settled(rows, n)
    return lowering.kernel()


def has_sort(dtype: np.dtype) -> bool:
    return numpy_sorts.name_of(dtype) in numpy_sorts.addresses()


def bucket_count(n: int) -> int:
    """Into how many buckets a row of ``n`` elements is dealt."""
    return 4 if n < 1 << 16 else 8 if n < 1 << 19 else 16


class Lowering:
    """A kernel around sorts that is being put together: of ``dtype`` are the arrays ``x`` and ``out``."""

    def __init__(self, dtype: np.dtype, target: Target) -> None:
        self.dtype = dtype
        self.target = target
        self.functions: dict[str, str] = {}
        self.launches: list[Launch] = []
        self.notes: list[str] = []
        self.workspace = 0
        self.brief = False
        """Whether sleeping threads are not worth waking for it."""

    def kernel(self) -> Kernel:
        return Kernel(self.functions, tuple(self.launches), self.workspace, tuple(self.notes))

    def room(self, size_bytes: int) -> Slot:
        """A place in the workspace."""
        place = self.workspace
        self.workspace += -(-size_bytes // ALIGNMENT) * ALIGNMENT
        return Slot("workspace", place)

    def launch(self, code: Code, table: Table, slots: Mapping[str, Slot], count: int, grain: int = 1) -> None:
        symbol, text = code.finish(attributes_text(self.target))
        self.functions[symbol] = text
        self.launches.append(Launch(symbol, count, grain, tuple(slots[name] for name in table.names), self.brief))

    def rows(self, rows: int, n: int) -> None:
        self.brief = rows * n <= 4 * PIECE
        code = Code()
        table = Table(code)
        x, out, length = (code.slot(table.place(name), kind) for name, kind in _ROWS)
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as row:
            begin = code.mul(row, length)
            place = code.emitter.address(out, begin, self.dtype)
            copy(code, place, code.emitter.address(x, begin, self.dtype), code.mul(length, str(self.dtype.itemsize)))
            call_sort(code, self.dtype, place, length)
        slots = {"x": Slot("argument", 0), "out": Slot("argument", 1), "n": Slot("value", n)}
        self.launch(code, table, slots, rows, max(1, PIECE // n))

    def long_rows(self, rows: int, n: int) -> None:
        buckets = bucket_count(n)
        block, blocks = blocks_of(n)
        slots = {
            "x": Slot("argument", 0),
            "out": Slot("argument", 1),
            "n": Slot("value", n),
            "block": Slot("value", block),
            "blocks": Slot("value", blocks),
            "stride": Slot("value", n // (buckets * SAMPLES)),
            "sample": self.room(rows * buckets * SAMPLES * self.dtype.itemsize),
            "buckets": self.room(rows * n),
            "counts": self.room(rows * blocks * buckets * 8),
            "bounds": self.room(rows * (buckets + 1) * 8),
        }
        self.launch(*self.sample(buckets), slots, rows, rows)
        self.launch(*self.choose(buckets), slots, rows * blocks)
        self.launch(*self.add_up(buckets), slots, rows, rows)
        self.launch(*self.deal(buckets), slots, rows * blocks)
        self.launch(*self.sort(buckets), slots, rows * buckets)
        self.notes.append(f"{buckets} buckets, {blocks} blocks")

    def sample(self, buckets: int) -> tuple[Code, Table]:
        """Sorts some elements of each row, taken at irregular distances."""
        code = Code()
        e, table = code.emitter, Table(code)
        x, sample = code.slot(table.place("x"), "ptr"), code.slot(table.place("sample"), "ptr")
        n, stride = table.number("n"), table.number("stride")
        count = str(buckets * SAMPLES)
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as row:
            source = e.address(x, code.mul(row, n), self.dtype)
            place = e.address(sample, code.mul(row, count), self.dtype)
            with code.loop("0", count, hints=NO_UNROLL) as k:
                mixed = code.name(f"lshr i64 {code.name(f'mul i64 {k}, -7046029254386353131')}, 33")
                shift = code.name(f"urem i64 {mixed}, {stride}")
                e.store(e.load(source, code.add(code.mul(k, stride), shift), self.dtype), place, k)
            call_sort(code, self.dtype, place, count)
        return code, table

    def choose(self, buckets: int) -> tuple[Code, Table]:
        """For each element of a block its bucket, the number of bounds that it is not below; and how many are in each.

        NaN is below none.
        """
        code = Code()
        e, table = code.emitter, Table(code)
        with self.blocks(code, table) as (number, row, begin, end):
            source, chosen = row["x"], row["buckets"]
            first = code.mul(row["number"], str(buckets * SAMPLES))
            sample = e.address(code.slot(table.place("sample"), "ptr"), first, self.dtype)
            bounds = [_known(e, e.load(sample, k * SAMPLES, self.dtype)) for k in range(1, buckets)]
            counts = [code.variable(I32) for _ in bounds]
            for count in counts:
                e.store(e.constant(0, I32), count, 0)
            with code.loop(begin, end, parallel=True) as k:
                value, access = e.load(source, k, self.dtype), e.access
                bucket, e.access = e.constant(0, I32), ""
                for bound, count in zip(bounds, counts):
                    beyond = e.convert(e.not_(e.compare("lt", value, bound)), I32)
                    bucket = e.add(bucket, beyond)
                    e.store(e.add(e.load(count, 0, I32), beyond), count, 0)
                e.access = access
                e.store(e.convert(bucket, _U8), chosen, k)
            target = e.address(code.slot(table.place("counts"), "ptr"), code.mul(number, str(buckets)), dtypes.i64)
            above = Scalar(code.sub(end, begin), dtypes.i64)
            for b, count in enumerate(counts):
                further = e.convert(e.load(count, 0, I32), dtypes.i64)
                e.store(e.sub(above, further), target, b)
                above = further
            e.store(above, target, buckets - 1)
        return code, table

    def add_up(self, buckets: int) -> tuple[Code, Table]:
        """Where each block's elements of each bucket begin, in place of their number, and where each bucket does."""
        code = Code()
        e, table = code.emitter, Table(code)
        counts, bounds = (code.slot(table.place(name), "ptr") for name in ("counts", "bounds"))
        blocks = table.number("blocks")
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as row:
            begun = code.variable(dtypes.i64)
            code.line(f"store i64 0, ptr {begun}")
            ends = e.address(bounds, code.mul(row, str(buckets + 1)), dtypes.i64)
            first = code.mul(row, blocks)
            with code.loop("0", str(buckets), hints=NO_UNROLL) as bucket:
                e.store(e.load(begun, 0, dtypes.i64), ends, bucket)
                with code.loop("0", blocks, hints=NO_UNROLL) as block:
                    place = code.add(code.mul(code.add(first, block), str(buckets)), bucket)
                    before, count = e.load(begun, 0, dtypes.i64), e.load(counts, place, dtypes.i64)
                    e.store(before, counts, place)
                    e.store(e.add(before, count), begun, 0)
            e.store(e.load(begun, 0, dtypes.i64), ends, buckets)
        return code, table

    def deal(self, buckets: int) -> tuple[Code, Table]:
        """Writes a block's elements to their buckets."""
        code = Code()
        e, table = code.emitter, Table(code)
        with self.blocks(code, table) as (number, row, begin, end):
            starts = e.address(code.slot(table.place("counts"), "ptr"), code.mul(number, str(buckets)), dtypes.i64)
            places = code.array(dtypes.i64, buckets)
            for b in range(buckets):
                e.store(e.load(starts, b, dtypes.i64), places, b)
            with code.loop(begin, end) as k:
                bucket = e.convert(e.load(row["buckets"], k, _U8), dtypes.i64)
                place = e.load(places, bucket, dtypes.i64)
                e.store(e.load(row["x"], k, self.dtype), row["out"], place)
                e.store(e.add(place, e.constant(1, dtypes.i64)), places, bucket)
        return code, table

    def sort(self, buckets: int) -> tuple[Code, Table]:
        """Sorts each bucket."""
        code = Code()
        e, table = code.emitter, Table(code)
        bounds, out = (code.slot(table.place(name), "ptr") for name in ("bounds", "out"))
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as number:
            row = code.div(number, str(buckets))
            place = code.add(number, row)  # in each row there is one bound more than buckets
            begin, end = e.load(bounds, place, dtypes.i64).text, e.load(bounds, code.add(place, "1"), dtypes.i64).text
            first = e.address(out, code.add(code.mul(row, table.number("n")), begin), self.dtype)
            call_sort(code, self.dtype, first, code.sub(end, begin))
        return code, table

    # --- places of equal heads ---------------------------------------------------------------------------------------

    def settled(self, rows: int, n: int) -> None:
        code = Code()
        e, table = code.emitter, Table(code)
        names = ("x", "rests", "out")
        with self.blocks(code, table, names) as (_, row, begin, end):
            shift = e.load(code.slot(table.place("shifts"), "ptr"), row["number"], dtypes.u64)
            exact = e.compare("eq", shift, e.constant(0, dtypes.u64))
            mask, bits = (Scalar(table.number(name), dtypes.u64) for name in ("mask", "bits"))
            keys, rests, out = (row[name] for name in names)
            with code.when(exact.text), code.loop(begin, end, parallel=True) as k:
                e.store(e.and_(e.load(keys, k, dtypes.u64), mask), out, k)
            with code.when(e.not_(exact).text), code.advance(begin, end) as (k, by):
                stop = self.run_end(code, keys, bits, k, table.number("n"))
                # a run that an earlier block begins is that block's
                before = e.load(keys, code.max(code.sub(k, "1"), "0"), dtypes.u64)
                heads = [e.lshr(key, bits) for key in (before, e.load(keys, k, dtypes.u64))]
                own = e.or_(e.compare("ne", *heads), Scalar(code.test("eq", k, "0"), dtypes.boolean))
                with code.when(own.text):
                    count = code.sub(stop, k)
                    alone = code.test("eq", count, "1")
                    with code.when(alone):
                        e.store(e.and_(e.load(keys, k, dtypes.u64), mask), out, k)
                    with code.when(e.not_(Scalar(alone, dtypes.boolean)).text):
                        with code.loop(k, stop, hints=NO_UNROLL) as j:
                            place = e.and_(e.load(keys, j, dtypes.u64), mask)
                            e.store(e.load(rests, place, dtypes.u64), out, j)
                        call_sort(code, dtypes.u64, e.address(out, k, dtypes.u64), count)
                        with code.loop(k, stop, hints=NO_UNROLL) as j:
                            e.store(e.and_(e.load(out, j, dtypes.u64), mask), out, j)
                by(code.sub(stop, k))
        bits_needed = (n - 1).bit_length()
        block, blocks = blocks_of(n)
        slots = {name: Slot("argument", place) for place, name in enumerate(("x", "rests", "shifts", "out"))}
        numbers = {"n": n, "block": block, "blocks": blocks, "bits": bits_needed, "mask": (1 << bits_needed) - 1}
        slots |= {name: Slot("value", number) for name, number in numbers.items()}
        self.launch(code, table, slots, rows * blocks, max(1, PIECE // n))

    def run_end(self, code: Code, keys: str, bits: Scalar, k: str, n: str) -> str:
        """The first place behind ``k`` whose key has another head."""
        e = code.emitter
        head = e.lshr(e.load(keys, k, dtypes.u64), bits)
        place = code.variable(dtypes.i64)
        e.store(Scalar(code.add(k, "1"), dtypes.i64), place, 0)
        ask, look, on, done = (code.label() for _ in range(4))
        code.jump(ask)
        code.begin(ask)
        stop = e.load(place, 0, dtypes.i64)
        code.branch(code.test("slt", stop.text, n), look, done)
        code.begin(look)
        code.branch(e.compare("eq", e.lshr(e.load(keys, stop, dtypes.u64), bits), head).text, on, done)
        code.begin(on)
        e.store(Scalar(code.add(stop.text, "1"), dtypes.i64), place, 0)
        code.jump(ask)
        code.begin(done)
        return e.load(place, 0, dtypes.i64).text

    @contextmanager
    def blocks(
        self, code: Code, table: Table, names: tuple[str, ...] = ("x", "out", "buckets")
    ) -> Iterator[tuple[str, dict[str, str], str, str]]:
        """A loop over blocks: the block's number, where its row is in each array, its first place and its end."""
        e = code.emitter
        n, block, blocks = (table.number(name) for name in ("n", "block", "blocks"))
        with code.loop("%lo", "%hi", hints=NO_UNROLL) as number:
            row = code.div(number, blocks)
            begin = code.mul(code.sub(number, code.mul(row, blocks)), block)
            where = {"number": row}
            for name in names:
                dtype = _U8 if name == "buckets" else self.dtype
                where[name] = e.address(code.slot(table.place(name), "ptr"), code.mul(row, n), dtype)
            yield number, where, begin, code.min(code.add(begin, block), n)


_ROWS = (("x", "ptr"), ("out", "ptr"), ("n", "i64"))
I32, _U8 = np.dtype("i4"), np.dtype("u1")


def blocks_of(n: int) -> tuple[int, int]:
    """The size of blocks of a row, and how many there are."""
    block = max(BLOCK // 2 if n < 1 << 16 else BLOCK, -(-n // BLOCKS))
    return block, -(-n // block)


def _known(e: LlvmEmitter, bound: Scalar) -> Scalar:
    """A bound, but infinity if it is NaN: what is beyond one bound must be beyond those before."""
    if not dtypes.is_float(bound.dtype):
        return bound
    return e.select(e.compare("uno", bound, bound), e.constant(float("inf"), bound.dtype), bound)


def call_sort(code: Code, dtype: np.dtype, place: str, count: str) -> None:
    name = numpy_sorts.name_of(dtype)
    code.declare(f"i32 @{name}(ptr, i64, ptr)")
    code.name(f"call i32 @{name}(ptr {place}, i64 {count}, ptr null)")


def copy(code: Code, target: str, source: str, size_bytes: str) -> None:
    code.declare("void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    code.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size_bytes}, i1 false)")
