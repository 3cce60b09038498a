"""Matrix products on the CPU: from a ``MatmulSpec`` to kernels.

``lower_matmul`` decides, from the shape alone: which operand is read in place and which is packed into panels, how the
result is cut into blocks (the items that threads share out), and how K is cut into pieces. No decision depends on the
number of threads, and every element is summed in the order of k, so results do not either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from knetc.codegen.cpu.matmul_epilogue import Epilogue
from knetc.codegen.cpu.matmul_kernel import BUFFER_BYTES, Function, combine_function, main_function
from knetc.codegen.cpu.matmul_plan import (
    TASK,
    Operand,
    Packing,
    Panels,
    by_axis,
    cut,
    fetches_a,
    is_dot,
    is_turned,
    packs_a,
    packs_b,
    part_depth,
    tile_shapes,
    values,
)
from knetc.codegen.cpu.matmul_spec import (
    MatmulSpec,
    dense_strides,
    exchanged,
    flattened,
    identity,
    is_columns_times_narrow,
    is_row_times_matrix,
    stored_by_columns,
)
from knetc.codegen.cpu.matmul_tiles import Tile, tile_for
from knetc.codegen.cpu.native import Target
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import LoopNest
from knetc.runtime.base.errors import CompileError
from knetc.runtime.program import ALIGNMENT, Launch, Slot

__all__ = ["MatmulSpec", "lower_matmul"]

_DTYPES = ("float32", "float64", "int32", "int64")

PACK_TASK = 30_000
"""Fewest elements of which the same is true when they are packed."""


def lower_matmul(spec: MatmulSpec, target: Target) -> Kernel:
    """Kernels for a matrix product: f32, f64, i32 and i64, any extents (0 too) and strides.

    Raises CompileError for other dtypes, and for epilogues that fold.
    """
    if spec.dtype.name not in _DTYPES:
        raise CompileError(f"matmul of {spec.dtype}: the CPU multiplies {', '.join(_DTYPES)}; convert the operands")
    if not prod(spec.batch) * spec.m * spec.n:
        return Kernel({}, ())
    spec = flattened(spec)
    arguments = Slot("argument", 0), Slot("argument", 1)
    if stored_by_columns(spec) or is_row_times_matrix(spec) or is_columns_times_narrow(spec):
        spec, arguments = exchanged(spec), arguments[::-1]
    lowering = _Lowering(target)
    if depth := part_depth(spec):
        lowering.in_parts(spec, arguments, depth)
    else:
        lowering.product(spec, arguments, Slot("argument", 2))
    return Kernel(lowering.functions, tuple(lowering.launches), lowering.workspace, tuple(lowering.notes))


class _Lowering:
    """A kernel that is being put together: functions, launches and places in the workspace."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.functions: dict[str, str] = {}
        self.launches: list[Launch] = []
        self.notes: list[str] = []
        self.workspace = 0

    def room(self, size_bytes: int) -> int:
        """A place in the workspace."""
        place = self.workspace
        self.workspace += -(-size_bytes // ALIGNMENT) * ALIGNMENT
        return place

    def launch(self, function: Function, slots: Mapping[str, Slot], count: int, pieces: int) -> None:
        """Run a function on ``count`` items, which up to ``pieces`` threads may share."""
        self.functions |= function.texts
        table = tuple(slots[name] for name in function.slots)
        self.launches.append(Launch(function.symbol, count, -(-count // max(1, pieces)), table))

    def in_parts(self, spec: MatmulSpec, arguments: tuple[Slot, Slot], depth: int) -> None:
        """A small product of long rows: products of parts of K side by side, as if of a batch, then their sum."""
        parts, rest = divmod(spec.k, depth)
        c_batch = dense_strides((*spec.batch, spec.m, spec.n))
        part_elements = prod(spec.batch) * spec.m * spec.n
        place = self.room((parts + (rest > 0)) * part_elements * spec.dtype.itemsize)
        whole = replace(
            spec, batch=(parts, *spec.batch), k=depth, a_strides=(depth * spec.a_strides[-1], *spec.a_strides),
            b_strides=(depth * spec.b_strides[-2], *spec.b_strides), c_strides=(part_elements, *c_batch),
            epilogue=None, c_offset=0,
        )  # fmt: skip
        self.product(whole, arguments, Slot("workspace", place))
        if rest:
            begin = parts * depth
            last = replace(
                spec, k=rest, a_offset=spec.a_offset + begin * spec.a_strides[-1],
                b_offset=spec.b_offset + begin * spec.b_strides[-2], c_strides=c_batch, epilogue=None,
                c_offset=parts * part_elements,
            )  # fmt: skip
            self.product(last, arguments, Slot("workspace", place))
        nest = spec.epilogue or identity(spec)
        epilogue = Epilogue(nest, spec.dtype)
        lanes = tile_for(self.target, spec.dtype).lanes
        function = combine_function(epilogue, len(spec.batch), lanes, self.target)
        numbers = {"parts": parts + (rest > 0), "part_bytes": part_elements * spec.dtype.itemsize, "m": spec.m}
        numbers |= {"n": spec.n, "parts_at.offset": 0} | by_axis("main.extent", spec.batch) | epilogue.numbers()
        slots = values(numbers) | {"parts_at": Slot("workspace", place)} | _argument_slots(nest)
        rows = prod(spec.batch) * spec.m
        self.launch(function, slots, rows, rows * spec.n * (parts + 1) // PACK_TASK)
        self.notes.append(f"K in {parts + (rest > 0)} parts")

    def packed(self, operand: Operand, panels: Panels, spec: MatmulSpec) -> Packing:
        """Pack an operand into the workspace."""
        packing = Packing(operand, panels, spec.k, spec.batch, spec.dtype, 0)
        packing = replace(packing, place=self.room(packing.total_bytes))
        elements = packing.total_bytes // spec.dtype.itemsize
        function = packing.function(self.target)
        self.launch(function, packing.slots(), packing.count, elements // PACK_TASK)
        return packing

    def product(self, spec: MatmulSpec, arguments: tuple[Slot, Slot], c: Slot) -> None:
        """The product by tiles; ``c`` is where it goes when there is no epilogue."""
        size = spec.dtype.itemsize
        tile = tile_for(self.target, spec.dtype)
        if is_dot(spec, tile):
            tile = Tile(tile.rows, 1, 1, masked=True, dot=tile.lanes)
        width = tile.lanes * size
        turned = is_turned(spec, tile)
        nest, has_epilogue = spec.epilogue, spec.epilogue is not None
        ragged = (spec.m if turned else spec.n) % tile.lanes != 0 and not tile.masked
        if nest is None and (turned or ragged or (spec.c_strides[-1] != 1 and spec.n > 1)):
            nest = identity(spec)
        if turned:
            spec, arguments = exchanged(replace(spec, epilogue=None)), arguments[::-1]
        a = Operand(arguments[0], spec.a_offset, spec.a_strides[:-2], *spec.a_strides[-2:])
        b = Operand(arguments[1], spec.b_offset, spec.b_strides[:-2], *spec.b_strides[-2:])
        columns = Panels(spec.n, tile.vectors, tile.lanes)
        epilogue = Epilogue(nest, spec.dtype) if nest else None
        streams, buffer = (epilogue.streams(len(spec.batch)), BUFFER_BYTES) if epilogue else (1, 0)
        plan = cut(prod(spec.batch), spec.m, spec.k, columns, tile, size, turned=turned, streams=streams, buffer=buffer)

        numbers = columns.numbers() | plan.numbers() | {"m": spec.m, "k": spec.k, "k_end": max(spec.k, 1)}
        numbers |= by_axis("main.extent", spec.batch)
        slots = {"a": a.slot, "b": b.slot, "c": c}
        notes = ["transposed"] if turned else []
        if packs_b(spec, tile, ragged):
            packing = self.packed(b, columns, spec)
            notes.append(f"B packed ({packing.how})")
            slots["b"] = Slot("workspace", packing.place)
            numbers |= {"b.offset": 0, "b.row": 0, "b.row_vector": width, "b.vector": spec.k * width}
            numbers |= by_axis("b.batch", packing.strides)
        else:
            vector = b.column * size if tile.dot else width
            numbers |= {"b.offset": b.offset * size, "b.row": b.row * size, "b.row_vector": 0, "b.vector": vector}
            numbers |= by_axis("b.batch", [stride * size for stride in b.batch])
        if packs_a(spec, tile):
            packing = self.packed(a.turned, Panels(spec.m, 1, tile.rows), spec)
            notes.append(f"A packed ({packing.how})")
            slots["a"] = Slot("workspace", packing.place)
            numbers |= {"a.offset": 0, "a.row": size, "a.k": tile.rows * size, "a.step": spec.k * size}
            numbers |= by_axis("a.batch", packing.strides)
        else:
            row = a.row * size
            numbers |= {"a.offset": a.offset * size, "a.row": row, "a.k": a.column * size, "a.step": row}
            numbers |= by_axis("a.batch", [stride * size for stride in a.batch])
        if epilogue is None or nest is None:
            *c_batch, c_row, _ = spec.c_strides
            numbers |= {"c.offset": spec.c_offset * size, "c.row": c_row * size}
            numbers |= by_axis("c.batch", [stride * size for stride in c_batch])
        else:
            numbers |= {"c.row": plan.block_panels * tile.vectors * width} | epilogue.numbers()
            numbers["a.fetched"] = spec.k * size if fetches_a(spec, plan) else 0
            numbers["turned.row"] = -(-plan.block_rows // tile.lanes) * width
            slots |= _argument_slots(nest) if has_epilogue else {"argument1": c}
        shapes = tile_shapes(spec.m, columns, tile)
        main = main_function(spec.dtype, tile, shapes, len(spec.batch), epilogue, self.target, turned)
        count = prod(spec.batch) * plan.row_blocks * plan.column_blocks
        self.launch(main, slots | values(numbers), count, spec.multiplications // TASK)
        what = f"dots of {tile.dot} lanes" if tile.dot else f"tile {tile.rows}x{tile.vectors * tile.lanes}"
        blocks = f"blocks of {plan.block_rows} rows and {plan.block_panels} panels, K pieces of {plan.piece}"
        self.notes.append(", ".join([what, blocks, *notes]))


def _argument_slots(nest: LoopNest) -> dict[str, Slot]:
    """The epilogue's arguments but for the product are the step's from number 2 on."""
    return {f"argument{i}": Slot("argument", i + 1) for i in range(1, len(nest.arguments))}
