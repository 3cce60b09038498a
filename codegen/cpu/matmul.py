"""Matrix products on the CPU: what to compute (``MatmulSpec``), and the plan that makes kernels of it.

``lower_matmul`` decides, from the shape alone: which operand is read in place and which is packed into panels, how the
result is cut into blocks (the items that threads share out), and how K is cut into pieces. No decision depends on the
number of threads, and every element is summed in the order of k, so results do not either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from knetc.codegen.cpu.matmul_epilogue import Access, Epilogue, access
from knetc.codegen.cpu.matmul_kernel import BUFFER_BYTES, Function, Tile, main_function, pack_function, tile_for
from knetc.codegen.cpu.native import Target, attributes_text
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Load, LoopNest, Offset, Stage, Store
from knetc.runtime.base.errors import CompileError
from knetc.runtime.program import ALIGNMENT, Launch, Slot

_DTYPES = ("float32", "float64", "int32", "int64")

PIECE = 256
"""Most of K that one pass over a block takes: a panel of B of this depth stays in the nearer caches."""

TASK = 250_000
"""Fewest multiplications for which it pays to give a thread work of its own (some microseconds)."""

TASKS = 128
"""Blocks into which large products are cut: enough to keep 64 cores busy."""

BLOCK_ROWS, BLOCK_VECTORS = 64, 12
"""Largest block of the result: 64 rows by 192 (float32, AVX-512) columns."""


@dataclass(frozen=True)
class MatmulSpec:
    """A product C[…, M, N] = A[…, M, K] @ B[…, K, N] of arrays with any strides, and what to do with it.

    Strides count elements, in the order (batch axes…, row, column); 0 repeats an operand along a batch axis, and a
    transposed operand has its strides exchanged. The step's arguments are A, B, then C; or, with an epilogue, A, B,
    then the epilogue's arguments 1, 2, ….

    An epilogue is a nest with outer axes (batch…, M), the inner axis (N) and one element stage, in which a load of
    argument 0 means the product at this point (in ``dtype``); ``c_strides`` is then not used. Its other arguments may
    be loaded and stored anywhere at affine places; an ``update`` element is read only by the point that writes it.

    >>> MatmulSpec(np.dtype("float32"), (), 2, 3, 4, (4, 1), (3, 1), (3, 1)).multiplications
    24
    """

    dtype: np.dtype
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a_strides: tuple[int, ...]
    b_strides: tuple[int, ...]
    c_strides: tuple[int, ...] = ()
    epilogue: LoopNest | None = None
    a_offset: int = 0
    b_offset: int = 0
    c_offset: int = 0

    @property
    def multiplications(self) -> int:
        return prod(self.batch) * self.m * self.n * self.k


def lower_matmul(spec: MatmulSpec, target: Target) -> Kernel:
    """Kernels for a matrix product: f32, f64, i32 and i64, any extents (0 too) and strides.

    Raises CompileError for other dtypes, and for epilogues with more than one stage or with indirect places.
    """
    _check(spec)
    if not prod(spec.batch) * spec.m * spec.n:
        return Kernel({}, ())
    tile = tile_for(target, spec.dtype)
    exchange = _stored_by_columns(spec)
    if exchange:
        spec = _exchanged(spec)
    ragged = spec.n % tile.lanes != 0
    if spec.epilogue is None and ((ragged and not tile.masked) or (spec.c_strides[-1] != 1 and spec.n > 1)):
        spec = replace(spec, epilogue=_identity(spec))
    plan = _Plan(spec, tile, _packs(spec, tile, ragged), exchange)
    functions: dict[str, str] = {}
    launches = []
    if plan.packed:
        function = pack_function(spec.dtype, tile, plan.batch_axes, spec.b_strides[-1] == 1)
        count = plan.pack_batches * plan.panels * plan.pieces
        grain = max(1, TASK // 4 * count // max(1, plan.packed_elements))
        launches.append(_launch(function, plan.pack_numbers(), count, grain, target, functions))
    main = main_function(spec.dtype, tile, plan.tiles, plan.batch_axes, plan.epilogue)
    count = prod(spec.batch) * plan.row_blocks * plan.column_blocks
    grain = max(1, TASK * count // max(1, spec.multiplications))
    launches.append(_launch(main, plan.main_numbers(), count, grain, target, functions))
    notes = (
        f"tile {tile.rows}x{tile.vectors * tile.lanes}, block {plan.block_rows}x{plan.block_panels} panels, "
        f"K pieces of {plan.piece}, B {'packed' if plan.packed else 'in place'}",
    )
    return Kernel(functions, tuple(launches), plan.workspace_bytes, notes)


def _check(spec: MatmulSpec) -> None:
    if spec.dtype.name not in _DTYPES:
        raise CompileError(f"matmul of {spec.dtype}: the CPU multiplies {', '.join(_DTYPES)}; convert the operands")
    if spec.epilogue is not None and (len(spec.epilogue.stages) != 1 or spec.epilogue.stages[0].level != "element"):
        raise CompileError("an epilogue of a matrix product has one element stage and no other")


def _places(spec: MatmulSpec) -> dict[int, Access]:
    """Where the epilogue's statements go, by their numbers; loads of the product are left out."""
    if spec.epilogue is None:
        return {}
    return {
        number: access(statement, len(spec.batch))
        for number, statement in enumerate(spec.epilogue.stages[0].body)
        if isinstance(statement, Load | Store) and not (isinstance(statement, Load) and statement.argument == 0)
    }


def _identity(spec: MatmulSpec) -> LoopNest:
    """The epilogue that stores the product as it is, at C's strides."""
    axes = len(spec.batch) + 2
    place = Offset(spec.c_offset, {axis: spec.c_strides[axis] for axis in range(axes)})
    body = (Load(0, 0, Offset()), Store(1, place, 0))
    outer = tuple(Axis(f"b{axis}", extent) for axis, extent in enumerate((*spec.batch, spec.m)))
    arguments = (Argument("product", spec.dtype, "input"), Argument("c", spec.dtype, "output"))
    return LoopNest("matmul", outer, (Axis("n", spec.n),), arguments, (Stage("element", body),))


def _stored_by_columns(spec: MatmulSpec) -> bool:
    """Whether the transposed product is the one to compute, for its rows are contiguous in C."""
    return spec.epilogue is None and spec.n > 1 and spec.c_strides[-1] != 1 and (spec.c_strides[-2] == 1 or spec.m == 1)


def _exchanged(spec: MatmulSpec) -> MatmulSpec:
    """The transposed product, B^T A^T."""

    def turned(strides: tuple[int, ...]) -> tuple[int, ...]:
        return (*strides[:-2], strides[-1], strides[-2])

    return replace(
        spec, m=spec.n, n=spec.m, a_strides=turned(spec.b_strides), b_strides=turned(spec.a_strides),
        c_strides=turned(spec.c_strides), a_offset=spec.b_offset, b_offset=spec.a_offset,
    )  # fmt: skip


def _packs(spec: MatmulSpec, tile: Tile, ragged: bool) -> bool:
    """Whether B is copied into panels first."""
    if spec.k == 0:
        return False
    if (spec.b_strides[-1] != 1 and spec.n > 1) or (ragged and not tile.masked):
        return True
    return spec.m >= 8 * tile.rows and spec.k * spec.n * spec.dtype.itemsize > 1 << 18


class _Plan:
    """How a product is cut, and the numbers that the functions' tables hold."""

    def __init__(self, spec: MatmulSpec, tile: Tile, packed: bool, exchanged: bool) -> None:
        self.spec, self.tile, self.packed = spec, tile, packed
        self.operands = (Slot("argument", int(exchanged)), Slot("argument", int(not exchanged)))
        self.size = spec.dtype.itemsize
        self.batch_axes = len(spec.batch)
        places = _places(spec)
        self.epilogue = Epilogue(spec.epilogue, places, spec.dtype) if spec.epilogue is not None else None
        self.vectors = -(-spec.n // tile.lanes)
        self.wide_panels = self.vectors // tile.vectors
        if self.vectors % tile.vectors == 1 and self.wide_panels and tile.vectors > 2:
            self.wide_panels -= 1  # two panels of 2 rather than one of 3 and one of 1
        rest = self.vectors - self.wide_panels * tile.vectors
        self.panels = self.wide_panels + -(-rest // max(tile.vectors - 1, 1))
        self.tiles = self._tiles(rest)
        self.pieces = max(1, -(-spec.k // PIECE))
        self.piece = max(1, -(-spec.k // self.pieces))
        self._cut()
        extents = [1 if stride == 0 else extent for extent, stride in zip(spec.batch, spec.b_strides)]
        self.pack_extents = extents
        self.pack_batches = prod(extents)
        self.packed_row = self.vectors * tile.lanes * self.size
        self.packed_elements = self.pack_batches * spec.k * self.vectors * tile.lanes
        total = self.packed_elements * self.size
        self.workspace_bytes = -(-total // ALIGNMENT) * ALIGNMENT if packed else 0

    def _tiles(self, rest: int) -> tuple[tuple[int, int], ...]:
        """The tiles that are needed: few functions of few kinds, so that most shapes share them."""
        tile = self.tile
        widths = {tile.vectors} if self.wide_panels else set()
        narrow = max(tile.vectors - 1, 1)
        widths |= {w for w in ([narrow] * (rest // narrow) + [rest % narrow]) if w}
        heights = (tile.rows, tile.rows // 2) if self.spec.m > tile.rows // 2 else (tile.rows // 2,)
        return tuple((rows, vectors) for rows in heights for vectors in sorted(widths))

    def _cut(self) -> None:
        """Choose the blocks: large ones reuse more of what is in cache, small ones keep all threads busy."""
        spec, tile = self.spec, self.tile
        batches = prod(spec.batch)
        wanted = min(TASKS, max(1, spec.multiplications // TASK))
        rows = min(BLOCK_ROWS // tile.rows, -(-spec.m // tile.rows))
        panels = min(BLOCK_VECTORS // tile.vectors, self.panels)

        def blocks() -> tuple[int, int]:
            return -(-spec.m // (rows * tile.rows)), -(-self.panels // panels)

        while batches * prod(blocks()) < wanted and (rows > 1 or panels > 1):
            if rows > 1 and (rows * tile.rows >= panels * tile.vectors * tile.lanes // 4 or panels == 1):
                rows = -(-rows // 2)
            else:
                panels = -(-panels // 2)
        self.block_rows, self.block_panels = rows * tile.rows, panels
        self.row_blocks, self.column_blocks = blocks()

    def _common(self) -> dict[str, int]:
        return {
            "n": self.spec.n, "k": self.spec.k, "vectors": self.vectors, "wide_panels": self.wide_panels,
            "panels": self.panels, "piece": self.piece, "pieces": self.pieces,
        }  # fmt: skip

    def pack_numbers(self) -> dict[str, Slot]:
        """The table of the packing function."""
        spec, size = self.spec, self.size
        numbers = self._common()
        numbers |= {"b.row": spec.b_strides[-2] * size, "b.column": spec.b_strides[-1] * size}
        numbers["b.offset"] = spec.b_offset * size
        numbers["packed.vector"] = spec.k * self.tile.lanes * size
        numbers |= self._batch("pack.extent", self.pack_extents)
        numbers |= self._batch("b.batch", [s * size for s in spec.b_strides])
        numbers |= self._batch("packed.batch", self._packed_strides())
        return {**_values(numbers), "b": self.operands[1], "packed": Slot("workspace", 0)}

    def _packed_strides(self) -> list[int]:
        strides, step = [], self.spec.k * self.packed_row
        for extent in reversed(self.pack_extents):
            strides.append(step if extent > 1 else 0)
            step *= extent
        return strides[::-1]

    def main_numbers(self) -> dict[str, Slot]:
        """The table of the function that multiplies."""
        spec, size, tile = self.spec, self.size, self.tile
        width = tile.lanes * size
        numbers = self._common()
        numbers |= {"m": spec.m, "k_end": max(spec.k, 1), "block_rows": self.block_rows}
        numbers |= {"block_panels": self.block_panels, "row_blocks": self.row_blocks}
        numbers |= {"column_blocks": self.column_blocks}
        numbers |= {"a.row": spec.a_strides[-2] * size, "a.k": spec.a_strides[-1] * size}
        numbers |= self._batch("main.extent", spec.batch) | self._batch("a.batch", [s * size for s in spec.a_strides])
        numbers |= {"a.offset": spec.a_offset * size, "b.offset": 0 if self.packed else spec.b_offset * size}
        numbers["c.offset"] = spec.c_offset * size
        if self.packed:
            numbers |= {"b.row": 0, "b.row_vector": width, "b.vector": spec.k * width}
            numbers |= self._batch("b.batch", self._packed_strides())
        else:
            numbers |= {"b.row": spec.b_strides[-2] * size, "b.row_vector": 0, "b.vector": width}
            numbers |= self._batch("b.batch", [s * size for s in spec.b_strides])
        if self.epilogue is None:
            numbers["c.row"] = spec.c_strides[-2] * size
            numbers |= self._batch("c.batch", [s * size for s in spec.c_strides])
        elif self.pieces == 1:
            # each tile is finished at once: all use the same few lines of the buffer
            numbers |= {"c.row": tile.vectors * width, "buffer.row": 0, "buffer.vector": 0}
        else:
            row = self.block_panels * tile.vectors * width
            if self.block_rows * row > BUFFER_BYTES:
                raise AssertionError("a block of sums must fit the buffer")
            numbers |= {"c.row": row, "buffer.row": row, "buffer.vector": width}
        for number, place in (self.epilogue.places if self.epilogue else {}).items():
            numbers |= {f"s{number}.base": place.base, f"s{number}.row": place.row, f"s{number}.column": place.column}
            numbers |= self._batch(f"s{number}.batch", place.batch)
        slots = _values(numbers) | {"a": self.operands[0]}
        slots["b"] = Slot("workspace", 0) if self.packed else self.operands[1]
        slots["c"] = Slot("argument", 2)
        extra = len(spec.epilogue.arguments) if spec.epilogue else 0
        return slots | {f"argument{i}": Slot("argument", i + 1) for i in range(1, extra)}

    def _batch(self, name: str, values: tuple[int, ...] | list[int]) -> dict[str, int]:
        return {f"{name}{axis}": values[axis] for axis in range(self.batch_axes)}


def _values(numbers: Mapping[str, int]) -> dict[str, Slot]:
    return {name: Slot("value", value) for name, value in numbers.items()}


def _launch(
    function: Function, slots: Mapping[str, Slot], count: int, grain: int, target: Target, functions: dict[str, str]
) -> Launch:
    """The launch of a function, which is added to ``functions`` under the digest of its text."""
    text = function.text + attributes_text(target)
    symbol = "k_" + hashlib.sha256(text.encode()).hexdigest()[:24]
    functions[symbol] = text.replace("@KERNEL", f"@{symbol}")
    return Launch(symbol, count, grain, tuple(slots[name] for name in function.slots))
