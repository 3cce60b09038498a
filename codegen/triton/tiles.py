"""A model of how long a matrix product takes on a GPU, by which its tiles are chosen.

Times are in clocks of a multiprocessor. The numbers fit large GPUs from sm_80 on to within a factor of two; what counts
is which of several plans is the shortest, and where two are close, ``tune`` measures them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from knetc.codegen.triton.model import MULTIPROCESSORS, Tile, power

GROUP = 8
"""Tiles in a column of those that run at the same time."""

RATES = {"narrow": 2048, "tf32": 1024, "tf32x3": 340, "ieee": 128}
"""Multiplications in a clock by one multiprocessor: of two bytes on the matrix units, of float32 there, of float32."""

SLOW = 32
"""The same of numbers that are multiplied and summed."""

FROM_CACHE, FROM_MEMORY = 40, 15
"""Bytes in a clock that a multiprocessor gets from the cache that all share, and from memory."""

CACHE_BYTES = 24 << 20
"""What the cache that all share still holds when the next kernel asks for it."""

STEP, START, LAUNCH = 200, 2000, 5000
"""Clocks that a step along the inner dimension takes at least, that a program takes beside its steps, and that one more
kernel takes."""

COMPUTE = 100
"""Elementwise operations in a clock by one multiprocessor."""

LIBRARY = {"narrow": 0.8, "tf32": 0.8, "ieee": 0.75, "double": 0.2}
"""How long cuBLASLt takes for a large product, as a share of what generated kernels take."""

SHARED_BYTES = 160 << 10
"""Of a block, on the smallest of these GPUs."""

ACCUMULATORS, FEWER = 128, 64
"""Sums that a thread may hold: on the matrix units from sm_90 on, and elsewhere, where factors are in registers too."""


@dataclass(frozen=True)
class MatmulPlan:
    """A product's tile, how much of the inner dimension is in flight, and the warps that share a tile."""

    tile: Tile
    depth: int
    warps: int
    stages: int
    splits: int = 1
    """Programs that share a tile, each with a piece of the inner dimension; a second kernel adds their sums."""

    def piece(self, k: int) -> int:
        """How much of an inner dimension of ``k`` a program walks."""
        steps = -(-k // self.depth)
        return -(-steps // self.splits) * self.depth


@dataclass(frozen=True)
class Form:
    """A product, and how its factors are multiplied."""

    m: int
    n: int
    k: int
    batches: int
    how: str
    """``narrow`` (two bytes a factor, on the matrix units), a precision of float32 (``tf32`` and ``tf32x3`` on the
    matrix units, ``ieee`` not), or for numbers of ``size`` bytes that are multiplied and summed ``double`` or empty."""
    size: int
    work: tuple[int, int] = (0, 0)
    """Operations by which an element of each factor is computed when it is read."""
    read: tuple[int, int] = (0, 0)
    """Bytes that are read for it; 0 for its own."""


def matmul_plans(form: Form, capability: int = 90) -> list[MatmulPlan]:
    """Plans for a product, the one first that the model takes for the shortest."""
    found = {plan: clocks(plan, form) for plan in _possible(form, capability)}
    return sorted(found, key=lambda plan: (found[plan], -plan.tile.elements, plan.tile.rows + plan.tile.columns))


def _possible(form: Form, capability: int) -> Iterator[MatmulPlan]:
    m, n, k, how, size = form.m, form.n, form.k, form.how, form.size
    most = FEWER if capability < 90 or how == "ieee" else ACCUMULATORS
    if capability < 90 and how == "tf32x3":
        most //= 2  # each factor is three there
    deepest = (
        64 if how == "narrow" else 16 if how == "tf32" and capability < 90 else 32
    )  # more takes too many registers
    if how not in RATES:
        tile = Tile(min(max(power(m), 8), 32), min(max(power(n), 8), 16))
        yield from _split(MatmulPlan(tile, 8, 4, 2), form)
        return
    widest = 256 if how == "narrow" else 128
    depth = min(max(power(k), 16), deepest)
    for rows in (16, 32, 64, 128):
        for columns in (16, 32, 64, 128, 256):
            if rows > max(power(m), 16) or columns > max(power(n), 16) or columns > widest:
                continue
            warps = 8 if rows * columns >= 128 * 128 else 4
            for stages in (4, 3, 2):
                if (rows + columns) * depth * size * stages <= SHARED_BYTES:
                    break
            if rows * columns <= 32 * warps * most:
                yield from _split(MatmulPlan(Tile(rows, columns), depth, warps, stages), form)


def _split(plan: MatmulPlan, form: Form) -> Iterator[MatmulPlan]:
    """The plan, and where its tiles are too few for the device and the inner dimension is long, with splits."""
    yield plan
    k = form.k
    tiles = form.batches * _count(form.m, plan.tile.rows) * _count(form.n, plan.tile.columns)
    splits = 2
    while tiles * splits <= 2 * MULTIPROCESSORS and splits * 8 * plan.depth <= k:
        whole = MatmulPlan(plan.tile, plan.depth, plan.warps, plan.stages, splits)
        yield MatmulPlan(plan.tile, plan.depth, plan.warps, plan.stages, _count(k, whole.piece(k)))
        splits *= 2


def clocks(plan: MatmulPlan, form: Form) -> float:
    """About how long a product takes."""
    m, n, batches, how, size = form.m, form.n, form.batches, form.how, form.size
    rows, columns = plan.tile.rows, plan.tile.columns
    programs = batches * _count(m, rows) * _count(n, columns) * plan.splits
    steps = _count(plan.piece(form.k), plan.depth)
    sums = rows * columns / (32 * plan.warps)
    rate = RATES.get(how, SLOW) / (1 + 8 / sums)  # each factor that is read into a register serves many sums
    if how == "narrow" and rows < 64:
        rate /= 2  # the newer matrix units take 64 rows
    read = sum(extent * (own or size) for extent, own in zip((rows, columns), form.read)) * plan.depth
    computed = sum(extent * work for extent, work in zip((rows, columns), form.work)) * plan.depth / COMPUTE
    step = max(rows * columns * plan.depth / rate + computed, read / FROM_CACHE, STEP)
    found = _count(programs, MULTIPROCESSORS) * steps * step + _count(programs, 2 * MULTIPROCESSORS) * START
    if plan.splits > 1:
        found += LAUNCH + (2 * plan.splits + 1) * batches * m * n * max(size, 4) / (MULTIPROCESSORS * FROM_MEMORY)
    return found


def computing_pays(forms: Sequence[Form], size_bytes: int, read_bytes: int, *, alone: bool) -> bool:
    """Whether products had better compute an operand of ``size_bytes``, from ``read_bytes``, than read it.

    The forms are those of the products that compute it. ``alone`` tells that a kernel only for it would store it; else
    another kernel does that beside what it stores anyway.
    """
    rate = MULTIPROCESSORS * (FROM_CACHE if size_bytes + read_bytes <= CACHE_BYTES else FROM_MEMORY)
    saved = LAUNCH + (size_bytes + read_bytes) / rate if alone else size_bytes / rate
    for form in forms:
        plain = replace(form, work=(0, 0), read=(0, 0))
        stored = min(clocks(plan, plain) for plan in _possible(plain, 90))
        own = [read if read else form.size for read in form.read]
        larger = (form.m * (own[0] - form.size) + form.n * (own[1] - form.size)) * form.k * form.batches / rate
        saved -= min(clocks(plan, form) for plan in _possible(form, 90)) + larger
        saved += START + LIBRARY[form.how] * (stored - START) if form.how in LIBRARY else stored
    return saved > 0


def _count(extent: int, block: int) -> int:
    return max(-(-extent // block), 1)
