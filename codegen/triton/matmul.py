"""Matrix products as GPU kernels: a tile for each program, walked along the inner dimension, then its epilogue.

Products of float32 and narrower floats are made by ``tl.dot``: by the matrix units for float16 and bfloat16, and for
float32 if its precision may be less. Triton has none for float64 and integers: they are multiplied and summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from knetc.codegen.axes import Loops
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Load, LoopNest, Offset, Reduce, Stage, Store
from knetc.codegen.products import Product
from knetc.codegen.triton.body import COLUMNS, ROWS, Body, Frame, Known
from knetc.codegen.triton.emitter import Value, register_type
from knetc.codegen.triton.factor import Factor, in_pieces
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.nest import lower_into
from knetc.codegen.triton.tiles import GROUP, Form, MatmulPlan, computing_pays, matmul_plans
from knetc.codegen.triton.writer import Job, Launches, Totals, Writer, dense
from knetc.runtime.base import dtypes
from knetc.runtime.program import Slot

from knetc.ir.op import OPS, Kind
from knetc.passes.domain import is_number
from knetc.passes.prologue import Candidate
from knetc.passes.views import View, view_of

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
    form = _form(
        (math.prod(product.batch), product.m, product.n, product.k), product.dtype, product.a, product.b, precision
    )
    return matmul_plans(form, target.capability)


def computes(candidate: Candidate, precision: str) -> bool:
    """Whether products had better compute an operand than read it."""
    forms = []
    for (matmul, position), seen in candidate.views.items():
        *batch, m, n = matmul.shape
        a, b = (seen if k == position else view_of(s, narrow=True) for k, s in enumerate(matmul.sources))
        extents = math.prod(batch), m, n, matmul.sources[0].shape[-1]
        forms.append(_form(extents, matmul.dtype, a, b, precision))
    arrays = {lies.base for seen in candidate.views.values() for _, lies in seen.reads if lies.base.op.name != "iota"}
    read = sum(base.type.size_bytes for base in arrays)
    return computing_pays(forms, candidate.value.type.size_bytes, read, alone=candidate.in_memory)


def _form(extents: tuple[int, int, int, int], dtype: np.dtype, a: View, b: View, precision: str) -> Form:
    """A product as the model of its time sees it; ``extents`` are batches, rows, columns and the inner dimension."""
    batches, m, n, k = extents
    return Form(m, n, k, batches, *_how(a.dtype, b.dtype, dtype, precision), (_work(a), _work(b)), (_read(a), _read(b)))


def _work(view: View) -> int:
    """Operations by which an element is computed."""
    own = [node for node in view.prologue if node.op.kind is Kind.ELEMENTWISE]
    return sum(node.op.cost * (2 if node.dtype.itemsize > 4 else 1) for node in own)


def _read(view: View) -> int:
    """Bytes that are read for an element of what is computed, without what lies along one dimension only."""
    arrays = [lies for _, lies in view.reads if all(lies.strides[-2:]) and lies.base.op.name != "iota"]
    return sum(lies.base.dtype.itemsize for lies in arrays)


def _how(left: np.dtype, right: np.dtype, sums: np.dtype, precision: str) -> tuple[str, int]:
    """How factors are multiplied (see ``Form``), and the size of one."""
    if left == right and dtypes.is_narrow(left):
        return "narrow", 2
    kind = {"f32": PRECISIONS[precision], "f64": "double"}
    return kind.get(dtypes.short_name(sums), ""), sums.itemsize


def lower_matmul(product: Product, epilogue: LoopNest | None, precision: str, plan: MatmulPlan) -> Kernel:
    """The kernels of a product; their arguments are both operands, then those of the epilogue but the first.

    ``precision`` is one of ``PRECISIONS``, ``plan`` one of ``plans``.
    """
    launches = Launches()
    if not math.prod(product.batch) * product.m * product.n:
        return launches.kernel()
    nest = epilogue or plain(product)
    visible = [k for k, a in enumerate(nest.arguments) if k and a.kind != "scratch"]
    places = {k: Slot("argument", n + len(product.operands)) for n, k in enumerate(visible)}
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
    tile, piece = plan.tile, plan.piece(product.k)
    down, across = -(-product.m // tile.rows), -(-product.n // tile.columns)
    operands = factor_arguments(product)
    first = replace(nest.arguments[0], kind="scratch", size=1)
    nest = replace(nest, name=nest.name or "matmul", arguments=(first, *nest.arguments[1:], *operands))
    frame = Frame(
        Loops(nest, -1), tile.rows, tile.columns, row_mask=product.m % tile.rows != 0,
        column_mask=product.n % tile.columns != 0, wide=any(a.size >= 1 << 31 for a in nest.arguments),
    )  # fmt: skip
    job = Job(launches, frame.loops, (*slots, *(Slot("argument", k) for k in range(len(operands)))))
    writer = Writer(job, frame, _Body)
    totals = Totals(writer, 1)
    for stage in nest.stages:
        for statement in stage.body:
            writer.statement(statement, totals, by_row=False)
    limit, a, b = str(product.k), product.a, product.b
    if plan.splits > 1:
        limit += f" - batch0 * {piece}"
        a, b = in_pieces(a, piece, -1), in_pieces(b, piece, -2)
    cut = f"inner{{}} < {limit}" if product.k % (piece if plan.splits > 1 else plan.depth) else ""
    rows, columns = ("rows" if frame.row_mask else ""), ("columns" if frame.column_mask else "")
    kind = (
        product.a.dtype
        if _how(product.a.dtype, product.b.dtype, product.dtype, precision)[0] == "narrow"
        else product.dtype
    )
    given = dict(zip(product.operands, writer.body.parameters[-len(operands) :]))
    left = Factor("a", a, writer.prelude, given, kind, (tile.rows, plan.depth), (rows, cut.format("[None, :]")))
    right = Factor("b", b, writer.prelude, given, kind, (plan.depth, tile.columns), (cut.format("[:, None]"), columns))
    about = f"[{product.m}, {product.k}] times [{product.k}, {product.n}], in tiles of {tile.rows} by {tile.columns}"
    about += f", each in {plan.splits} pieces of {piece}." if plan.splits > 1 else "."
    writer.emit(
        "matmul", batches * down * across, about, warps=plan.warps, stages=plan.stages, GROUP=GROUP, batches=batches,
        down=down, across=across, m=product.m, n=product.n, batch_axes=_batch_axes(product),
        before=[*left.before, *right.before], loads=[*left.lines, *right.lines],
        steps=-(-min(piece, product.k) // plan.depth), depth=plan.depth, dot=product.dtype == dtypes.f32,
        precision=PRECISIONS[precision], total=register_type(product.dtype), body=writer.body.take(),
    )  # fmt: skip


def factor_arguments(product: Product) -> list[Argument]:
    """What a kernel is given of ``product.operands``."""
    return [Argument("factor", n.dtype, "scalar" if is_number(n) else "input", n.type.size) for n in product.operands]


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
