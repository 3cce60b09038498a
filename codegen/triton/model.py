"""A small model of the hardware: how large blocks are, how many warps work on one, and how many programs share a sum.

The numbers fit NVIDIA's processors from sm_80 on. A warp's thread can read 16 bytes at once, a block should keep
enough loads under way to hide memory's latency, and what it holds must fit its registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from knetc.runtime.base.errors import CompileError

ARCHITECTURES = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_101", "sm_103", "sm_120", "sm_121")
"""What every supported Triton knows: its compiler ends the whole process where it meets another name."""


@dataclass(frozen=True)
class GpuTarget:
    """What code is generated for: ``GpuTarget("cuda", "sm_90")``. Raises CompileError for what is not known."""

    kind: str
    arch: str

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise CompileError(f"there is no code generator for {self.arch}, but for {', '.join(ARCHITECTURES)}")

    @property
    def key(self) -> str:
        """The target's name in ``Program.target``."""
        return f"{self.kind}:{self.arch}"

    @property
    def capability(self) -> int:
        """90 of ``sm_90`` and of ``sm_90a``."""
        return int(self.arch.removeprefix("sm_").rstrip("af"))


PROGRAMS = 512
"""Programs that share a sum over rows: some for each of a device's 100 to 150 multiprocessors."""

MULTIPROCESSORS = 128
"""About how many a large device has."""

BLOCK = 1024
"""Points of a block of an elementwise kernel."""

IN_REGISTERS = 16384
"""Longest row that is kept in registers, if few values of it are needed at once."""

VALUES = 3 << 14
"""Numbers of 32 bits that a program may hold, elements of a block times values alive at once: what 16 warps can."""

HELD = 96
"""Numbers of 32 bits that a thread may hold: the rest of its registers is for what is computed from them."""

THREADS = 32
"""Threads of a warp."""

POINTWISE = 32
"""The same in elementwise kernels: with twice as many a multiprocessor cannot have all its threads."""

CHUNK = 4096
"""Elements of a block when a row is walked in pieces."""

SERIAL = 4
"""Blocks that one program walks rather than leaving partial sums to a second kernel."""


@dataclass(frozen=True)
class Choice:
    """How blocks differ from what the model says, in powers of two."""

    blocks: int = 0
    warps: int = 0

    def scaled(self, extent: int, most: int = 1 << 16) -> int:
        """An extent of a block: a power of two between 1 and ``most``, or the model's own.

        >>> Choice(blocks=1).scaled(512), Choice(blocks=-1).scaled(1), Choice(blocks=1).scaled(64, 64)
        (1024, 1, 64)
        """
        found = extent << self.blocks if self.blocks > 0 else extent >> -self.blocks
        return found if 1 <= found <= most else extent

    def shared(self, warps: int) -> int:
        """Warps for a block, between 1 and 32."""
        return min(max(warps << self.warps if self.warps > 0 else warps >> -self.warps, 1), 32)


MODEL = Choice()
"""What the model says."""

CHOICES = (MODEL, Choice(1, 0), Choice(-1, 0), Choice(0, 1), Choice(0, -1), Choice(1, 1))
"""What is measured where choices are measured."""

TUNED_BYTES = 1 << 20
"""Kernels that work on less are not measured: most of their time is the launch."""


def power(n: int) -> int:
    """The least power of 2 that is at least ``n`` (and 1).

    >>> power(0), power(5), power(64)
    (1, 8, 64)
    """
    return 1 << max(n - 1, 0).bit_length()


def warps(elements: int, values: int = 2) -> int:
    """Warps for a block of which each element needs so many values at once: 8 to 32 elements a thread, or fewer.

    >>> warps(256), warps(1024), warps(16384), warps(4096, 6)
    (2, 4, 16, 8)
    """
    few = min(max(power(elements) // 256, 2), 4) if elements <= 2048 else min(power(elements) // 1024 or 4, 16)
    return min(max(few, power(elements * values // (32 * HELD))), 16)


def line_warps(points: int, values: int) -> int:
    """Warps for a block of a line of points: as few as hold them without making a multiprocessor run fewer threads.

    >>> line_warps(1024, 4), line_warps(1024, 5), line_warps(128, 5)
    (4, 8, 2)
    """
    return min(max(warps(points), power(points * values // (THREADS * POINTWISE))), 16)


def row_warps(elements: int, values: int) -> int:
    """Warps for rows in registers: 16 elements a thread at least, since folding over threads costs as much as many.

    >>> row_warps(1024, 2), row_warps(2048, 2), row_warps(16384, 2)
    (2, 4, 16)
    """
    return 2 if elements <= 1024 and values <= 8 else warps(elements, values)


AHEAD_BYTES = 96 << 10
"""Most shared memory for what is asked for ahead: every device from sm_80 on has it for one program."""


def turns(warps: int, loaded_bytes: int) -> int:
    """Blocks of rows that a program has under way in its loop: 2 (one is fetched while one is computed) where it is so
    large that no other program's reads go on while it computes, and what it loads fits into shared memory.

    >>> turns(16, 3 * 4 * 8192), turns(4, 3 * 4 * 1024)
    (2, 1)
    """
    return 2 if warps >= 16 and loaded_bytes <= AHEAD_BYTES else 1


def flat_block(points: int) -> int:
    """Points of a block when a nest is walked as one line: small nests are spread over more programs."""
    return min(BLOCK, max(power(points // 128), 128))


@dataclass(frozen=True)
class Tile:
    """A block of rows and columns."""

    rows: int
    columns: int
    deep: int = 1
    """In how many lines the columns lie, one below the other, if there is one row."""

    @property
    def elements(self) -> int:
        return self.rows * self.columns


def row_tile(rows: int, columns: int, values: int, along_rows: bool) -> Tile | None:
    """The block for rows that stay in registers; None when they do not fit.

    ``values`` are alive at once for each element; ``along_rows`` tells that neighbours in memory lie in one column.
    """
    width = power(columns)
    height = 1
    if along_rows:
        height = min(power(rows), 32)
    elif width < 1024:
        height = min(power(rows), 1024 // width)
    while height > 1 and rows // height < 64 and not along_rows:
        height //= 2  # small work is spread over more programs
    if width > IN_REGISTERS or width * height * max(values, 2) > VALUES:
        return None
    return Tile(height, width)


def long_tile(rows: int, columns: int, along_rows: bool, itemsize: int, in_order: bool) -> tuple[Tile, int]:
    """The block for rows that are walked in pieces, and its warps; ``in_order`` tells that the rows are scanned."""
    if along_rows:
        tile = Tile(min(power(rows), 32), min(power(columns), CHUNK // 32))
        return tile, warps(tile.elements)
    width = min(power(columns), CHUNK)
    if in_order:
        return Tile(1, width), warps(width)
    count = 4 if width >= 2048 else 2
    line = min(width, THREADS * count * max(16 // itemsize, 1))  # what all threads read at once, 16 bytes each
    return Tile(1, width, width // line), count


def column_tile(rows: int, columns: int, transposed: bool) -> Tile:
    """The block for work that is independent between columns: sums over rows, or exchanged axes."""
    if transposed:
        return Tile(min(power(rows), 32), min(power(columns), 32))
    width = min(power(columns), 128)
    return Tile(min(power(rows), max(2048 // width, 1)), width)


def split_rows(rows: int, steps: int) -> int:
    """Into how many pieces each of a few long rows of ``steps`` blocks is cut: 1 if there are rows enough."""
    if rows >= PROGRAMS // 4 or steps <= SERIAL:
        return 1
    return min(steps, max(PROGRAMS // max(rows, 1), 1))
