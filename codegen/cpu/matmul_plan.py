"""How a matrix product is cut and packed, decided from its shape alone: no number here knows of threads.

Every element is summed in the order of k whatever the cut, so results depend on none of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from knetc.codegen.cpu.matmul_kernel import Function, pack_function
from knetc.codegen.cpu.matmul_pack import packing
from knetc.codegen.cpu.matmul_spec import MatmulSpec
from knetc.codegen.cpu.matmul_tiles import Tile
from knetc.codegen.cpu.native import Target
from knetc.runtime.program import ALIGNMENT, Slot

PIECE = 1024
"""Most of K that one pass over a block takes: rows of A and a panel of B of this depth stay in the nearer caches."""

BLOCK_ROWS, BLOCK_PANELS = 64, 32
"""Most rows, and most panels, of a block of the result."""

NEAREST_BYTES, NEAR_BYTES = 1 << 15, 5 << 18
"""What stays in the first-level cache from one tile to the next, and in the second from one block to the next."""

ROW_CYCLES = 120
"""For going to another row of a large array: what comes next there is not fetched ahead."""

PART_DEPTH, PARTS = 2048, 64
"""Least of K that one part of a long product takes, and most parts."""

PACK_CYCLES = 1
"""For an element that is transposed."""

TASK = 250_000
"""Fewest multiplications for which it pays to give a thread work of its own (some microseconds)."""

WAIT = 0.25
"""For how much of a block the threads that are done first wait for the last."""

THREADS = (1, 2, 8, 48)
"""Numbers of threads for which the cut should be good; it is the same for all."""


@dataclass(frozen=True)
class Operand:
    """A matrix of a product in memory, with a batch; strides and the offset count elements."""

    slot: Slot
    offset: int
    batch: tuple[int, ...]
    row: int
    column: int

    @property
    def turned(self) -> Operand:
        return Operand(self.slot, self.offset, self.batch, self.column, self.row)


@dataclass(frozen=True)
class Panels:
    """Columns (or A's rows) cut into panels of up to ``wide`` vectors of ``lanes``."""

    extent: int
    wide: int
    lanes: int

    @property
    def vectors(self) -> int:
        return -(-self.extent // self.lanes)

    @property
    def wide_count(self) -> int:
        """How many panels are of full width: one less when that makes two panels of 2 of one of 3 and one of 1."""
        whole, rest = divmod(self.vectors, self.wide)
        return whole - 1 if rest == 1 and whole and self.wide > 2 else whole

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the panels after the wide ones."""
        narrow = max(self.wide - 1, 1)
        whole, rest = divmod(self.vectors - self.wide_count * self.wide, narrow)
        return (narrow,) * whole + ((rest,) if rest else ())

    @property
    def count(self) -> int:
        return self.wide_count + len(self.widths)

    def numbers(self) -> dict[str, int]:
        return {"n": self.extent, "vectors": self.vectors, "wide_panels": self.wide_count, "panels": self.count}


@dataclass(frozen=True)
class Packing:
    """Copying an operand, [K, columns], into panels at a place in the workspace."""

    operand: Operand
    panels: Panels
    k: int
    batch: tuple[int, ...]
    dtype: np.dtype
    place: int

    @property
    def how(self) -> str:
        return packing(self.operand.row, self.operand.column)

    @property
    def piece(self) -> int:
        """Of K, for one item: short where rows are contiguous, for neighbours then share their cache lines."""
        return 32 if self.how == "copy" else 256

    @property
    def pieces(self) -> int:
        return -(-self.k // self.piece)

    @property
    def extents(self) -> tuple[int, ...]:
        """Of the batch; an operand that is repeated along an axis is packed once for it."""
        return tuple(1 if stride == 0 else extent for extent, stride in zip(self.batch, self.operand.batch))

    @property
    def matrix_bytes(self) -> int:
        return self.k * self.panels.vectors * self.panels.lanes * self.dtype.itemsize

    @property
    def total_bytes(self) -> int:
        return -(-prod(self.extents) * self.matrix_bytes // ALIGNMENT) * ALIGNMENT

    @property
    def count(self) -> int:
        return prod(self.extents) * self.panels.count * self.pieces

    @property
    def strides(self) -> tuple[int, ...]:
        """From one packed matrix to the next, for each batch axis, in bytes."""
        strides, step = [], self.matrix_bytes
        for extent in reversed(self.extents):
            strides.append(step if extent > 1 else 0)
            step *= extent
        return tuple(reversed(strides))

    def function(self, target: Target) -> Function:
        tile = Tile(0, self.panels.wide, self.panels.lanes, masked=False)
        return pack_function(self.dtype, tile, len(self.batch), self.how, target)

    def slots(self) -> dict[str, Slot]:
        size = self.dtype.itemsize
        numbers = self.panels.numbers() | {"k": self.k, "piece": self.piece, "pieces": self.pieces}
        numbers |= {"b.row": self.operand.row * size, "b.column": self.operand.column * size}
        numbers |= {"b.offset": self.operand.offset * size, "packed.offset": 0}
        numbers["packed.vector"] = self.k * self.panels.lanes * size
        numbers |= by_axis("pack.extent", self.extents) | by_axis("packed.batch", self.strides)
        numbers |= by_axis("b.batch", [stride * size for stride in self.operand.batch])
        return values(numbers) | {"b": self.operand.slot, "packed": Slot("workspace", self.place)}


@dataclass(frozen=True)
class Cut:
    """Blocks of the result, which are the items that threads share out, and pieces of K within a block."""

    block_rows: int
    block_panels: int
    row_blocks: int
    column_blocks: int
    piece: int
    down_first: bool
    """Whether the next item is the block below, not the one to the right: then B is read once, else A is."""

    def numbers(self) -> dict[str, int]:
        return {
            "block_rows": self.block_rows, "block_panels": self.block_panels, "row_blocks": self.row_blocks,
            "column_blocks": self.column_blocks, "piece": self.piece,
            "down_first": int(self.down_first),
        }  # fmt: skip


def cut(
    batches: int, m: int, k: int, columns: Panels, tile: Tile, size: int, *, turned: bool, streams: int, buffer: int
) -> Cut:
    """Choose the blocks: large ones reuse more of what is in cache, small ones keep all threads busy.

    ``turned``: C's rows are the columns here. ``streams``: how many arrays like C are touched. ``buffer``: 0, or the
    bytes that the sums of a block may take.
    """
    pieces = max(1, -(-k // PIECE))
    depth, height = max(k, 1), -(-m // tile.rows)
    width = tile.vectors * tile.lanes
    row_cycles = ROW_CYCLES if batches * m * columns.extent * size > NEAR_BYTES else ROW_CYCLES / 6
    threads = [min(number, max(1, batches * m * columns.extent * k // TASK)) for number in THREADS]

    def cost(rows: int, panels: int) -> float:
        # cycles of one block: two vector multiplications a cycle, and what comes from the outer caches
        count = batches * -(-height // rows) * -(-columns.count // panels)
        arithmetic = depth * rows * panels * tile.rows * tile.vectors / 2 + 60 * rows * panels * pieces
        panel, a_bytes = depth * size * width, depth * size * rows * tile.rows
        # a panel that does not stay in the first-level cache comes from the second for every tile anyway
        b_rate = 1 / 8 if panels * panel > NEAR_BYTES else 1 / 64 if panel <= NEAREST_BYTES else 1 / 128
        a_rate = 1 / 8 if depth * size * m > NEAR_BYTES // 4 else 1 / 64
        memory = a_bytes * a_rate + panels * panel * b_rate
        ideal = batches * height * columns.count * depth * tile.rows * tile.vectors / 2
        # whole rows of C lie one behind the other
        across, along = (rows < height, panels * width) if turned else (panels < columns.count, rows * tile.rows)
        jumps = streams * along if across else 0
        block = arithmetic + memory + jumps * row_cycles + 300
        rounds = ((used, -(-count // used) + (WAIT if used > 1 else 0)) for used in threads)
        return sum(blocks * block / (ideal / used + 3000) for used, blocks in rounds)

    candidates = [
        (rows, panels)
        for rows in range(1, min(height, BLOCK_ROWS // tile.rows) + 1)
        for panels in range(1, min(columns.count, BLOCK_PANELS) + 1)
        if not buffer or _padded(rows * tile.rows, tile.lanes) * panels * width * size <= buffer
    ]
    rows, panels = min(candidates, key=lambda c: (cost(*c), -c[0] * c[1]))
    piece = max(1, -(-k // pieces))
    row_blocks, column_blocks = -(-height // rows), -(-columns.count // panels)
    # B has often just been packed, by other threads; so A must be much larger to be the one that is read once
    return Cut(rows * tile.rows, panels, row_blocks, column_blocks, piece, m < 4 * columns.extent)


def _padded(extent: int, multiple: int) -> int:
    return -(-extent // multiple) * multiple


def is_turned(spec: MatmulSpec, tile: Tile) -> bool:
    """Whether to compute the transposed product and to transpose its blocks: A is packed then, and B read in place.

    This is for a B that is contiguous along k, which had to be transposed else, and larger than A.
    """
    if tile.dot or spec.k == 0 or spec.n == 1 or spec.b_strides[-2] != 1 or spec.b_strides[-1] == 1:
        return False

    def cycles(rows: int, columns: int) -> float:
        padded = _padded(rows, tile.rows) * _padded(columns, tile.lanes)
        return spec.k * (padded / (2 * tile.lanes) + columns * PACK_CYCLES)

    return cycles(spec.n, spec.m) + spec.m * spec.n * PACK_CYCLES < cycles(spec.m, spec.n)


def packs_b(spec: MatmulSpec, tile: Tile, ragged: bool) -> bool:
    """Whether B is copied into panels first: where its columns are apart, or it is read often enough."""
    if spec.k == 0 or tile.dot:
        return False
    if ragged or (spec.b_strides[-1] != 1 and spec.n > 1):
        return True
    row_bytes = spec.b_strides[-2] * spec.dtype.itemsize
    return spec.m >= 16 * tile.rows and row_bytes >= 1024 and spec.k >= 64


def packs_a(spec: MatmulSpec, tile: Tile) -> bool:
    """Whether A is copied first: where k is not contiguous and each element is read for many columns."""
    row_bytes = spec.a_strides[-1] * spec.dtype.itemsize
    return spec.a_strides[-2] == 1 and row_bytes >= 1024 and spec.n >= 4 * tile.vectors * tile.lanes and spec.k >= 64


def fetches_a(spec: MatmulSpec, plan: Cut) -> bool:
    """Whether A's rows for the next block are fetched meanwhile: they are read once, in order, and have room."""
    block_bytes = plan.block_rows * spec.k * spec.dtype.itemsize
    dense = spec.a_strides[-1] == 1 and spec.a_strides[-2] == spec.k
    return dense and not plan.down_first and 4 * block_bytes <= NEAR_BYTES


def is_dot(spec: MatmulSpec, tile: Tile) -> bool:
    """Whether the product has one column and k is contiguous, so that vectors along k are better."""
    return spec.n == 1 and spec.k >= 2 * tile.lanes and spec.a_strides[-1] == 1 and spec.b_strides[-2] == 1


def part_depth(spec: MatmulSpec) -> int:
    """How much of K a part takes, of small products of long rows, whose parts are computed side by side; else 0."""
    blocks = prod(spec.batch) * -(-spec.m // BLOCK_ROWS) * -(-spec.n // BLOCK_ROWS)
    parts = min(PARTS // blocks, spec.k // PART_DEPTH)
    return spec.k // parts if parts > 1 else 0  # what is left over, fewer than there are parts, is a small part more


def tile_shapes(m: int, columns: Panels, tile: Tile) -> tuple[tuple[int, int, bool], ...]:
    """The (rows, vectors, masked) of the tiles that are needed: few kinds, so that most shapes share a function.

    Masked loads take the units that multiply, so only the last panel has them, if its columns are no whole vectors.
    """
    *others, last = ((tile.vectors,) if columns.wide_count else ()) + columns.widths
    if columns.wide_count > 1:
        others.append(tile.vectors)
    widths = {(vectors, False) for vectors in others} | {(last, tile.masked and columns.extent % tile.lanes != 0)}
    half = tile.rows // 2
    heights = (tile.rows, half) if m > half else (half,) if m > 1 else (1,)
    return tuple((rows, *width) for rows in heights for width in sorted(widths))


def by_axis(name: str, numbers: Sequence[int]) -> dict[str, int]:
    return {f"{name}{axis}": number for axis, number in enumerate(numbers)}


def values(numbers: Mapping[str, int]) -> dict[str, Slot]:
    return {name: Slot("value", number) for name, number in numbers.items()}
