"""Nests that no fusion makes: copies, and what scatters values to places that are computed."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
from knetc.codegen.loopnest import (
    Argument,
    Axis,
    Compute,
    Constant,
    Index,
    Load,
    LoopNest,
    Offset,
    Stage,
    Statement,
    Store,
)
from knetc.runtime.base import dtypes

from knetc.ir.node import Line, Node
from knetc.ir.op import OPS
from knetc.passes.domain import is_number
from knetc.passes.memory_order import expression, scattered
from knetc.passes.views import VIEWS, dense_strides


def copy_nest(dtype: np.dtype, size: int, lines: tuple[Line, ...], begin: int = 0) -> LoopNest:
    """Copies argument 1 to argument 0, from its element ``begin`` on."""
    arguments = (Argument("o0", dtype, "output", size), Argument("i0", dtype, "input", size))
    body = (Load(0, 1, Offset(0, {0: 1})), Store(0, Offset(begin, {0: 1}), 0))
    return LoopNest("copy", (Axis("i0", size),), (), arguments, (Stage("element", body),), lines)


def scatter_nest(node: Node) -> tuple[LoopNest, list[Node]]:
    """``output[i0, …] += values``, or ``=``, over all places of the indexes, in their order."""
    _, (values, *indexes) = scattered(node)
    lead, shape = indexes[0].ndim, node.shape
    places, rest = values.shape[:lead], values.shape[lead:]
    outer = tuple(Axis(f"i{k}", n) for k, n in enumerate(places)) or (Axis("i0", 1),)
    inner = tuple(Axis(f"j{k}", n) for k, n in enumerate(rest))
    # the loop of each dimension of the values
    loops = (*range(lead), *(len(outer) + k for k in range(len(rest))))
    arguments: dict[Node, Argument] = {node: Argument("o0", node.dtype, "update", node.type.size)}
    body: list[Statement] = []
    indirect: dict[int, int] = {}
    numbers = itertools.count()

    def dense(extents: tuple[int, ...], axes: tuple[int, ...]) -> dict[int, int]:
        return dict(zip(axes, dense_strides(extents)))

    def computed(operand: Node) -> int:
        """The number of an operand's value at the point."""
        inside, leaves = expression(operand)
        known: dict[Node, int] = {}
        for leaf in leaves:
            kind: Literal["scalar", "input"] = "scalar" if is_number(leaf) else "input"
            arguments.setdefault(leaf, Argument(f"i{len(arguments)}", leaf.dtype, kind, leaf.type.size))
            known[leaf] = next(numbers)
            offset = Offset(0, dense(leaf.shape, loops))
            body.append(Load(known[leaf], list(arguments).index(leaf), offset))
        for part in inside:
            if part.op.name in VIEWS:  # of a number
                known[part] = known[part.sources[0]]
                continue
            known[part] = next(numbers)
            if part.op.name == "constant":
                body.append(Constant(known[part], part.dtype, part["value"]))
            elif part.op.name == "iota":
                body.append(Index(known[part], Offset(0, {loops[part["axis"]]: 1})))
                known[part] = cast(known[part], dtypes.i64, part.dtype)
            else:
                operands = tuple(known[s] for s in part.sources)
                body.append(Compute(known[part], part.op, part.dtype, operands, dict(part.attributes)))
        return known[operand]

    def cast(value: int, dtype: np.dtype, wanted: np.dtype) -> int:
        if dtype == wanted:
            return value
        body.append(Compute(number := next(numbers), OPS["cast"], wanted, (value,), {"dtype": wanted}))
        return number

    for k, index in enumerate(indexes):
        indirect[cast(computed(index), index.dtype, dtypes.i64)] = math.prod(shape[k + 1 :])
    value = computed(values)
    offset = Offset(0, dense(rest, loops[lead:]), indirect)
    body.append(Store(0, offset, value, accumulate=True, replace=node.op.name == "scatter"))
    nest = LoopNest(node.op.name, outer, inner, tuple(arguments.values()), (Stage("element", tuple(body)),), node.lines)
    return nest, list(arguments)
