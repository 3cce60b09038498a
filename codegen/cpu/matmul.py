"""Matrix products on the CPU: what to compute (``MatmulSpec``), and the plan that makes kernels of it.

``lower_matmul`` decides, from the shape alone: which operand is read in place and which is packed into panels, how the
result is cut into blocks (the items that threads share out), and how K is cut into pieces. No decision depends on the
number of threads, and every element is summed in the order of k, so results do not either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from knetc.codegen.cpu.matmul_epilogue import Epilogue
from knetc.codegen.cpu.matmul_kernel import Function, Tile, main_function, tile_for
from knetc.codegen.cpu.matmul_plan import Operand, Packing, Panels, by_axis, cut, values
from knetc.codegen.cpu.native import Target
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Load, LoopNest, Offset, Stage, Store
from knetc.runtime.base.errors import CompileError
from knetc.runtime.program import Launch, Slot

_DTYPES = ("float32", "float64", "int32", "int64")

TASK = 250_000
"""Fewest multiplications for which it pays to give a thread work of its own (some microseconds)."""

PACK_TASK = 30_000
"""Fewest elements of which the same is true when they are packed."""


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

    Raises CompileError for other dtypes, and for epilogues that fold.
    """
    _check(spec)
    if not prod(spec.batch) * spec.m * spec.n:
        return Kernel({}, ())
    spec, exchanged = (_exchanged(spec), True) if _stored_by_columns(spec) else (spec, False)
    tile = tile_for(target, spec.dtype)
    size, width = spec.dtype.itemsize, tile.lanes * spec.dtype.itemsize
    ragged = spec.n % tile.lanes != 0 and not tile.masked
    if spec.epilogue is None and (ragged or (spec.c_strides[-1] != 1 and spec.n > 1)):
        spec = replace(spec, epilogue=_identity(spec))
    batches = prod(spec.batch)
    a = Operand(Slot("argument", int(exchanged)), spec.a_offset, *_parts(spec.a_strides))
    b = Operand(Slot("argument", int(not exchanged)), spec.b_offset, *_parts(spec.b_strides))
    columns = Panels(spec.n, tile.vectors, tile.lanes)
    plan = cut(batches, spec.m, spec.k, columns, tile, size, spec.epilogue is not None)

    numbers = columns.numbers() | plan.numbers() | {"m": spec.m, "k": spec.k, "k_end": max(spec.k, 1)}
    numbers |= by_axis("main.extent", spec.batch)
    slots = {"a": a.slot, "b": b.slot, "c": Slot("argument", 2)}
    packings = []
    workspace = 0
    if _packs_b(spec, tile, ragged):
        packed = Packing(b, columns, spec.k, spec.batch, spec.dtype, workspace)
        packings.append(packed)
        workspace += packed.total_bytes
        slots["b"] = Slot("workspace", packed.place)
        numbers |= {"b.offset": 0, "b.row": 0, "b.row_vector": width, "b.vector": spec.k * width}
        numbers |= by_axis("b.batch", packed.strides)
    else:
        numbers |= {"b.offset": b.offset * size, "b.row": b.row * size, "b.row_vector": 0, "b.vector": width}
        numbers |= by_axis("b.batch", [stride * size for stride in b.batch])
    if _packs_a(spec, tile):
        packed = Packing(a.turned, Panels(spec.m, 1, tile.rows), spec.k, spec.batch, spec.dtype, workspace)
        packings.append(packed)
        workspace += packed.total_bytes
        slots["a"] = Slot("workspace", packed.place)
        numbers |= {"a.offset": 0, "a.row": size, "a.k": tile.rows * size, "a.step": spec.k * size}
        numbers |= by_axis("a.batch", packed.strides)
    else:
        numbers |= {"a.offset": a.offset * size, "a.row": a.row * size, "a.k": a.column * size, "a.step": a.row * size}
        numbers |= by_axis("a.batch", [stride * size for stride in a.batch])
    epilogue = None
    if spec.epilogue is None:
        *c_batch, c_row, _ = spec.c_strides
        numbers |= {"c.offset": spec.c_offset * size, "c.row": c_row * size}
        numbers |= by_axis("c.batch", [stride * size for stride in c_batch])
    else:
        epilogue = Epilogue(spec.epilogue, spec.dtype)
        # where K is one piece each tile is finished at once, and all use the same few lines of the buffer
        reused = plan.piece >= spec.k
        row = (1 if reused else plan.block_panels) * tile.vectors * width
        numbers |= {"c.row": row, "buffer.row": 0 if reused else row, "buffer.vector": 0 if reused else width}
        numbers |= epilogue.numbers()
        slots |= {f"argument{i}": Slot("argument", i + 1) for i in range(1, len(spec.epilogue.arguments))}
    slots |= values(numbers)

    functions: dict[str, str] = {}
    launches = []
    for packed in packings:
        grain = max(1, PACK_TASK * packed.count // (packed.total_bytes // size))
        launches.append(_launch(packed.function(target), packed.slots(), packed.count, grain, functions))
    main = main_function(spec.dtype, tile, _tiles(spec.m, columns, tile), len(spec.batch), epilogue, target)
    count = batches * plan.row_blocks * plan.column_blocks
    grain = max(1, TASK * count // max(1, spec.multiplications))
    launches.append(_launch(main, slots, count, grain, functions))
    notes = (
        f"tile {tile.rows}x{tile.vectors * tile.lanes}, blocks of {plan.block_rows} rows and {plan.block_panels} "
        f"panels, K pieces of {plan.piece}, packed: {', '.join(p.how for p in packings) or 'nothing'}",
    )
    return Kernel(functions, tuple(launches), workspace, notes)


def _parts(strides: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    return strides[:-2], strides[-2], strides[-1]


def _packs_b(spec: MatmulSpec, tile: Tile, ragged: bool) -> bool:
    """Whether B is copied into panels first: where its columns are apart, or it is read often enough."""
    if spec.k == 0:
        return False
    if ragged or (spec.b_strides[-1] != 1 and spec.n > 1):
        return True
    row_bytes = spec.b_strides[-2] * spec.dtype.itemsize
    return spec.m >= 16 * tile.rows and row_bytes >= 1024 and spec.k >= 64


def _packs_a(spec: MatmulSpec, tile: Tile) -> bool:
    """Whether A is copied first: where k is not contiguous and each element is read for many columns."""
    row_bytes = spec.a_strides[-1] * spec.dtype.itemsize
    return spec.a_strides[-2] == 1 and row_bytes >= 1024 and spec.n >= 4 * tile.vectors * tile.lanes and spec.k >= 64


def _tiles(m: int, columns: Panels, tile: Tile) -> tuple[tuple[int, int], ...]:
    """The tiles that are needed: few kinds, so that most shapes share a function."""
    widths = {*columns.widths, *((tile.vectors,) if columns.wide_count else ())}
    heights = (tile.rows, tile.rows // 2) if m > tile.rows // 2 else (tile.rows // 2,)
    return tuple((rows, vectors) for rows in heights for vectors in sorted(widths))


def _check(spec: MatmulSpec) -> None:
    if spec.dtype.name not in _DTYPES:
        raise CompileError(f"matmul of {spec.dtype}: the CPU multiplies {', '.join(_DTYPES)}; convert the operands")


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


def _launch(function: Function, slots: Mapping[str, Slot], count: int, grain: int, functions: dict[str, str]) -> Launch:
    """The launch of a function, whose texts are added to ``functions``."""
    functions |= function.texts
    return Launch(function.symbol, count, grain, tuple(slots[name] for name in function.slots))
