"""A model of how long a matrix product takes on a GPU, by which its tiles are chosen.

Times are in clocks of a multiprocessor. The numbers fit large GPUs from sm_80 on to within a factor of two; what counts
is which of several plans is the shortest, and where two are close, ``tune`` measures them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from knetc.codegen.triton.model import MULTIPROCESSORS, Tile, power

GROUP = 8
"""Tiles in a column of those that run at the same time."""

RATES = {"narrow": 2048, "tf32": 1024, "tf32x3": 340, "ieee": 128}
"""Multiplications in a clock by one multiprocessor: of two bytes on the matrix units, of float32 there, of float32."""

SLOW = 32
"""The same of numbers that are multiplied and summed."""

FROM_CACHE, FROM_MEMORY = 40, 15
"""Bytes in a clock that a multiprocessor gets from the cache that all share, and from memory."""

STEP, START, LAUNCH = 200, 2000, 5000
"""Clocks that a step along the inner dimension takes at least, that a program takes beside its steps, and that one more
kernel takes."""

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


def matmul_plans(m: int, n: int, k: int, batches: int, how: str, size: int, capability: int = 90) -> list[MatmulPlan]:
    """Plans for a product, the one first that the model takes for the shortest.

    ``how`` is ``narrow`` (two bytes a factor, on the matrix units), a precision of float32 (``tf32`` and ``tf32x3`` on
    the matrix units, ``ieee`` not), or empty for numbers of ``size`` bytes that are multiplied and summed.
    """
    most = FEWER if capability < 90 or how == "ieee" else ACCUMULATORS
    if capability < 90 and how == "tf32x3":
        most //= 2  # each factor is three there
    deepest = (
        64 if how == "narrow" else 16 if how == "tf32" and capability < 90 else 32
    )  # more takes too many registers
    possible = _possible(m, n, k, batches, how, size, most, deepest)
    found = {plan: _clocks(plan, m, n, k, batches, how, size) for plan in possible}
    return sorted(found, key=lambda plan: (found[plan], -plan.tile.elements, plan.tile.rows + plan.tile.columns))


def _possible(
    m: int, n: int, k: int, batches: int, how: str, size: int, most: int, deepest: int
) -> Iterator[MatmulPlan]:
    if not how:
        tile = Tile(min(max(power(m), 8), 32), min(max(power(n), 8), 16))
        yield from _split(MatmulPlan(tile, 8, 4, 2), m, n, k, batches)
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
                yield from _split(MatmulPlan(Tile(rows, columns), depth, warps, stages), m, n, k, batches)


def _split(plan: MatmulPlan, m: int, n: int, k: int, batches: int) -> Iterator[MatmulPlan]:
    """The plan, and where its tiles are too few for the device and the inner dimension is long, with splits."""
    yield plan
    tiles = batches * _count(m, plan.tile.rows) * _count(n, plan.tile.columns)
    splits = 2
    while tiles * splits <= 2 * MULTIPROCESSORS and splits * 8 * plan.depth <= k:
        whole = MatmulPlan(plan.tile, plan.depth, plan.warps, plan.stages, splits)
        yield MatmulPlan(plan.tile, plan.depth, plan.warps, plan.stages, _count(k, whole.piece(k)))
        splits *= 2


def _clocks(plan: MatmulPlan, m: int, n: int, k: int, batches: int, how: str, size: int) -> float:
    """About how long a product takes."""
    rows, columns = plan.tile.rows, plan.tile.columns
    programs = batches * _count(m, rows) * _count(n, columns) * plan.splits
    steps = _count(plan.piece(k), plan.depth)
    sums = rows * columns / (32 * plan.warps)
    rate = RATES.get(how, SLOW) / (1 + 8 / sums)  # each factor that is read into a register serves many sums
    if how == "narrow" and rows < 64:
        rate /= 2  # the newer matrix units take 64 rows
    step = max(rows * columns * plan.depth / rate, (rows + columns) * plan.depth * size / FROM_CACHE, STEP)
    found = _count(programs, MULTIPROCESSORS) * steps * step + _count(programs, 2 * MULTIPROCESSORS) * START
    if plan.splits > 1:
        found += LAUNCH + (2 * plan.splits + 1) * batches * m * n * max(size, 4) / (MULTIPROCESSORS * FROM_MEMORY)
    return found


def _count(extent: int, block: int) -> int:
    return max(-(-extent // block), 1)
