"""Matrix products as GPU kernels: a tile for each program, walked along the inner dimension, then its epilogue.

Products of float32 and narrower floats are made by ``tl.dot``: by the matrix units for float16 and bfloat16, and for
float32 if its precision may be less. Triton has none for float64 and integers: they are multiplied and summed.
"""

from __future__ import annotations

import math
from dataclasses import replace

from knetc.codegen.axes import Loops
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Load, LoopNest, Offset, Stage, Store
from knetc.codegen.products import Product
from knetc.codegen.triton import model
from knetc.codegen.triton.body import COLUMNS, ROWS, Body, Frame, Known
from knetc.codegen.triton.emitter import Value, register_type
from knetc.codegen.triton.writer import Job, Launches, Totals, Writer, dense
from knetc.runtime.base import dtypes
from knetc.runtime.program import Slot

from knetc.passes.views import View

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


def lower_matmul(product: Product, epilogue: LoopNest | None, precision: str) -> Kernel:
    """The kernel of a product; its arguments are both operands, then those of the epilogue but the first.

    ``precision`` is one of ``PRECISIONS``.
    """
    launches = Launches()
    batches = math.prod(product.batch)
    if not batches * product.m * product.n:
        return launches.kernel()
    nest = epilogue or _plain(product)
    kinds = [view.base.dtype for view in (product.a, product.b)]
    narrow = kinds[0] == kinds[1] and dtypes.is_narrow(kinds[0])
    dot = product.dtype == dtypes.f32
    plan = model.matmul_plan(
        product.m, product.n, product.k, batches,
        "narrow" if narrow else PRECISIONS[precision] if dot else f"{product.dtype.itemsize}",
    )  # fmt: skip
    tile = plan.tile
    down, across = -(-product.m // tile.rows), -(-product.n // tile.columns)
    visible = [k for k, a in enumerate(nest.arguments) if k and a.kind != "scratch"]
    places = {k: Slot("argument", n + 2) for n, k in enumerate(visible)}
    slots = [places.get(k, Slot("value", 0)) for k in range(len(nest.arguments))]
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
    cut = f"(inner{{}} < {product.k})" if product.k % plan.depth else ""
    convert = "" if narrow or kinds[0] == kinds[1] == product.dtype else f".to({register_type(product.dtype)})"
    left, right = writer.body.parameters[-2:]
    writer.emit(
        "matmul", batches * down * across,
        f"[{product.m}, {product.k}] times [{product.k}, {product.n}], in tiles of {tile.rows} by {tile.columns}.",
        warps=plan.warps, stages=plan.stages, GROUP=model.GROUP, batches=batches, down=down, across=across,
        m=product.m, n=product.n, batch_axes=_batch_axes(product),
        left=_origin(left, product.a, "row", -2), right=_origin(right, product.b, "column", -1),
        left_step=_times("inner[None, :]", product.a.strides[-1]),
        right_step=_times("inner[:, None]", product.b.strides[-2]),
        left_mask=_mask("rows" if frame.row_mask else "", cut.format("[None, :]")),
        right_mask=_mask(cut.format("[:, None]"), "columns" if frame.column_mask else ""),
        steps=max(-(-product.k // plan.depth), 0), depth=plan.depth, convert=convert, dot=dot,
        precision=PRECISIONS[precision], total=register_type(product.dtype), body=writer.body.take(),
    )  # fmt: skip
    return launches.kernel()


def _plain(product: Product) -> LoopNest:
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


def _mask(*masks: str) -> str:
    found = [m for m in masks if m]
    return f", {' & '.join(found)}, 0.0" if found else ""
