"""Matrix products as GPU kernels: a tile for each program, walked along the inner dimension, then its epilogue.

Products of float32 and narrower floats are made by ``tl.dot``: by the matrix units for float16 and bfloat16, and for
float32 if its precision may be less. Triton has none for float64 and integers: they are multiplied and summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from knetc.codegen.axes import Loops
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Load, LoopNest, Offset, Reduce, Stage, Store
from knetc.codegen.products import Product
from knetc.codegen.triton.body import COLUMNS, ROWS, Body, Frame, Known
from knetc.codegen.triton.code import operation
from knetc.codegen.triton.emitter import Value, literal_text, memory_type, register_type
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.nest import lower_into
from knetc.codegen.triton.source import Prelude
from knetc.codegen.triton.tiles import GROUP, MatmulPlan, matmul_plans
from knetc.codegen.triton.writer import Job, Launches, Totals, Writer, dense
from knetc.runtime.base import dtypes
from knetc.runtime.program import Slot

from knetc.ir.node import Node
from knetc.ir.op import OPS
from knetc.passes.views import VIEWS, View

PRECISIONS = {"highest": "ieee", "high": "tf32x3", "default": "tf32"}
"""What the precision of float32 products is called by users and by Triton."""


class _Body(Body):
    """Statements at the points of a tile; batches are numbered apart from rows."""

    def _axis(self, axis: int) -> str:
        last = len(self.loops.nest.outer) - 1
        return f"batch{axis}" if axis < last else "row" if axis == last else "column"

    def _bits(self, axis: int) -> int:
        last = len(self.loops.nest.outer) - 1
        return 0 if axis < last else ROWS if axis == last else COLUMNS

    def placed(self, text: str, bits: int) -> str:
        """An offset as a tile, even where there is one row or column, whose number is 0."""
        missing = [] if bits & ROWS else ["row"]
        missing += [] if bits & COLUMNS else ["column"]
        return " + ".join([*([text] if text != "0" else []), *missing])

    def _load(self, load: Load) -> None:
        if load.argument != 0:
            super()._load(load)
            return
        self.values[load.result] = Known(Value("product", self.loops.nest.arguments[0].dtype), ROWS | COLUMNS)


def plans(product: Product, precision: str, target: GpuTarget) -> list[MatmulPlan]:
    """Ways to cut a product into tiles, the one first that is taken for the fastest."""
    batches = math.prod(product.batch)
    return matmul_plans(product.m, product.n, product.k, batches, *_how(product, precision), target.capability)


def _how(product: Product, precision: str) -> tuple[str, int]:
    """How factors are multiplied (see ``matmul_plans``), and the size of one."""
    kinds = [view.dtype for view in (product.a, product.b)]
    if kinds[0] == kinds[1] and dtypes.is_narrow(kinds[0]):
        return "narrow", 2
    return (PRECISIONS[precision] if product.dtype == dtypes.f32 else ""), product.dtype.itemsize


def lower_matmul(product: Product, epilogue: LoopNest | None, precision: str, plan: MatmulPlan) -> Kernel:
    """The kernels of a product; their arguments are both operands, then those of the epilogue but the first.

    ``precision`` is one of ``PRECISIONS``, ``plan`` one of ``plans``.
    """
    launches = Launches()
    if not math.prod(product.batch) * product.m * product.n:
        return launches.kernel()
    nest = epilogue or plain(product)
    visible = [k for k, a in enumerate(nest.arguments) if k and a.kind != "scratch"]
    places = {k: Slot("argument", n + 2) for n, k in enumerate(visible)}
    slots = [places.get(k, Slot("value", 0)) for k in range(len(nest.arguments))]
    if plan.splits == 1:
        _tiles(launches, product, nest, slots, precision, plan)
    else:
        pieces = replace(product, batch=(plan.splits, *product.batch))
        size = math.prod((*pieces.batch, product.m, product.n))
        part = launches.space(size * product.dtype.itemsize)
        _tiles(launches, pieces, plain(pieces), [slots[0], part], precision, plan)
        lower_into(launches, _summed(nest, pieces), (part, *slots[1:]))
    return launches.kernel()


def _tiles(
    launches: Launches, product: Product, nest: LoopNest, slots: Sequence[Slot], precision: str, plan: MatmulPlan
) -> None:
    """The kernel that makes tiles. If the plan has splits, the pieces of the inner dimension are the first batch axis,
    along which the factors' views have no stride yet."""
    batches = math.prod(product.batch)
    kinds = [view.dtype for view in (product.a, product.b)]
    narrow = _how(product, precision)[0] == "narrow"
    dot = product.dtype == dtypes.f32
    tile, piece = plan.tile, plan.piece(product.k)
    down, across = -(-product.m // tile.rows), -(-product.n // tile.columns)
    operands = [Argument("factor", v.base.dtype, "input", v.base.type.size) for v in (product.a, product.b)]
    first = replace(nest.arguments[0], kind="scratch", size=1)
    nest = replace(nest, name=nest.name or "matmul", arguments=(first, *nest.arguments[1:], *operands))
    frame = Frame(
        Loops(nest, -1), tile.rows, tile.columns, row_mask=product.m % tile.rows != 0,
        column_mask=product.n % tile.columns != 0, wide=any(a.size >= 1 << 31 for a in nest.arguments),
    )  # fmt: skip
    job = Job(launches, frame.loops, (*slots, Slot("argument", 0), Slot("argument", 1)))
    writer = Writer(job, frame, _Body)
    totals = Totals(writer, 1)
    for stage in nest.stages:
        for statement in stage.body:
            writer.statement(statement, totals, by_row=False)
    limit, a, b = str(product.k), product.a, product.b
    if plan.splits > 1:
        limit += f" - batch0 * {piece}"
        a, b = (
            replace(v, strides=(piece * v.strides[inner], *v.strides))
            for v, inner in ((product.a, -1), (product.b, -2))
        )
    cut = f"(inner{{}} < {limit})" if product.k % (piece if plan.splits > 1 else plan.depth) else ""
    convert = "" if narrow or kinds[0] == kinds[1] == product.dtype else f".to({register_type(product.dtype)})"
    left, right = writer.body.parameters[-2:]
    left_mask = _masks("rows" if frame.row_mask else "", cut.format("[None, :]"))
    right_mask = _masks(cut.format("[:, None]"), "columns" if frame.column_mask else "")
    about = f"[{product.m}, {product.k}] times [{product.k}, {product.n}], in tiles of {tile.rows} by {tile.columns}"
    about += f", each in {plan.splits} pieces of {piece}." if plan.splits > 1 else "."
    writer.emit(
        "matmul", batches * down * across, about, warps=plan.warps, stages=plan.stages, GROUP=GROUP, batches=batches,
        down=down, across=across, m=product.m, n=product.n, batch_axes=_batch_axes(product),
        left=_origin(left, a, "row", -2), right=_origin(right, b, "column", -1),
        left_step=_times("inner[None, :]", product.a.strides[-1]),
        right_step=_times("inner[:, None]", product.b.strides[-2]),
        left_mask=f", {left_mask}, 0.0" if left_mask else "", right_mask=f", {right_mask}, 0.0" if right_mask else "",
        left_lines=_prologue("a", a, left_mask, writer.prelude, narrow),
        right_lines=_prologue("b", b, right_mask, writer.prelude, narrow),
        steps=-(-min(piece, product.k) // plan.depth), depth=plan.depth, convert=convert, dot=dot,
        precision=PRECISIONS[precision], total=register_type(product.dtype), body=writer.body.take(),
    )  # fmt: skip


def _summed(nest: LoopNest, pieces: Product) -> LoopNest:
    """The nest that adds the pieces' sums, its first argument, and goes on with an epilogue."""
    axes = (*nest.outer, *nest.inner)
    size = math.prod(axis.extent for axis in axes)
    splits = pieces.batch[0]
    body = [statement for stage in nest.stages for statement in stage.body]
    (sums,) = {s.result for s in body if isinstance(s, Load) and s.argument == 0}
    rest = tuple(s for s in body if not (isinstance(s, Load) and s.argument == 0))
    part = 1 + max(s.result for s in body if not isinstance(s, (Store, Reduce)))
    element = (
        Load(part, 0, Offset(0, {**dense(axes), len(axes): size})),
        Reduce(OPS["sum"], part, pieces.dtype, "inner", (sums,)),
    )
    first = Argument("part", pieces.dtype, "input", splits * size)
    return replace(
        nest, outer=axes, inner=(Axis("piece", splits),), arguments=(first, *nest.arguments[1:]),
        stages=(Stage("element", element), Stage("row", rest)),
    )  # fmt: skip


def plain(product: Product) -> LoopNest:
    """The epilogue that only stores."""
    extents = (*product.batch, product.m, product.n)
    axes = tuple(Axis(f"i{k}", n) for k, n in enumerate(extents))
    size = math.prod(extents)
    arguments = (Argument("sums", product.dtype, "input", 1), Argument("result", product.dtype, "output", size))
    body = (Load(0, 0, Offset()), Store(1, Offset(0, dense(axes)), 0))
    return LoopNest("matmul", axes[:-1], axes[-1:], arguments, (Stage("element", body),))


def _batch_axes(product: Product) -> list[str]:
    lines, stride = [], 1
    for k in reversed(range(len(product.batch))):
        text = f"batch // {stride}" if stride > 1 else "batch"
        if k:
            text += f" % {product.batch[k]}"
        lines.append(f"batch{k} = {text}" if math.prod(product.batch) > 1 else f"batch{k} = 0")
        stride *= product.batch[k]
    return lines[::-1]


def _origin(pointer: str, view: View, name: str, position: int) -> str:
    """Where a program's rows of the left factor, or columns of the right one, begin."""
    terms = [_times(f"batch{k}", s) for k, s in enumerate(view.strides[:-2]) if s]
    terms += [_times(name, view.strides[position])] if view.strides[position] else []
    terms += [str(view.offset)] if view.offset else []
    return " + ".join([pointer, *terms])


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"


def _masks(*masks: str) -> str:
    return " & ".join(m for m in masks if m)


def _prologue(name: str, view: View, mask: str, prelude: Prelude, narrow: bool) -> list[str]:
    """What makes the values of a factor of the block ``name`` that was read; zeros where nothing was read."""
    if not view.prologue:
        return []
    kind = view.base.dtype
    lines = [f"{name}_read = {name} != 0" if kind.kind == "b" else f"{name}_read = {name}.to({register_type(kind)})"]
    values: dict[Node, Value] = {view.base: Value(f"{name}_read", kind)}
    for number, node in enumerate(view.prologue):
        if node.op.name in VIEWS:  # of a number
            values[node] = values[node.sources[0]]
        elif node.op.name == "constant":
            values[node] = Value(literal_text(node["value"], node.dtype), node.dtype, literal=True)
        else:
            operands = [values[source] for source in node.sources]
            made = f"{name}_{node.op.name}{number}"
            more, values[node] = operation(node.op, operands, node.dtype, node.attributes, prelude, made)
            lines += more
    value = values[view.prologue[-1]].text
    stored = memory_type(view.dtype) if narrow else register_type(view.dtype)
    lines.append(f"{name} = tl.where({mask}, {value}, 0).to({stored})" if mask else f"{name} = {value}.to({stored})")
    return lines
