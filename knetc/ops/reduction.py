"""Reductions: sum, prod, max, min, argmax, argmin."""

from __future__ import annotations

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Combine, Kind, Op, register
from knetc.ir.types import TensorType
from knetc.ops.apply import broadcast_node, reshape_node


def drop_axes(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    """Type rule of a reduction: the axes are gone, the dtype stays."""
    return x.with_shape(tuple(n for k, n in enumerate(x.shape) if k not in axes))


def spread_back(node: Node, y: Node) -> Node:
    """A reduction's result (or its gradient) broadcast back to the shape of the reduction's source."""
    source = node.sources[0]
    kept = tuple(1 if k in node["axes"] else n for k, n in enumerate(source.shape))
    return broadcast_node(reshape_node(y, kept), source.shape)


SUM = register(
    Op(
        "sum",
        Kind.REDUCTION,
        drop_axes,
        reference=lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
        gradient=lambda node, dy: (spread_back(node, dy),),
        combine=Combine(
            identity=lambda dtype: (dtype.type(0).item(),),
            merge=lambda e, a, b: (e.add(a[0], b[0]),),
            reassociable="add",
        ),
        triton="tl.sum({0}, {axis})",
        dtypes="fi",
    )
)
