"""Matrix products with strides: what is left of a matmul and the movements in front of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from knetc.ir.node import Node
from knetc.passes.memory_order import MemoryOrder
from knetc.passes.views import View, dense_strides


@dataclass(frozen=True)
class Product:
    """``C[…, M, N] = A[…, M, K] @ B[…, K, N]`` over views of memory; C is dense."""

    dtype: np.dtype
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: View
    b: View
    c_strides: tuple[int, ...]

    @property
    def operands(self) -> tuple[Node, ...]:
        """What a kernel is given for it: the arrays of both views, then the further ones of their prologues."""
        first = (self.a.base, self.b.base)
        more = dict.fromkeys(n for n in (*self.a.arguments, *self.b.arguments) if n not in first)
        return (*first, *more)

    @property
    def multiplications(self) -> int:
        return math.prod(self.batch) * self.m * self.n * self.k


def product_of(node: Node, order: MemoryOrder) -> Product:
    """The product that a ``matmul`` node stands for."""
    *batch, m, n = node.shape
    a, b = order.views[node, 0], order.views[node, 1]
    return Product(node.dtype, tuple(batch), m, n, node.sources[0].shape[-1], a, b, dense_strides(node.shape))
