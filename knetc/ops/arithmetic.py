"""Elementwise arithmetic: the operations behind ``+ - * /`` and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Kind, Op, register
from knetc.ir.types import TensorType
from knetc.ops.apply import Operand, elementwise


def same(x: TensorType, *_: TensorType) -> TensorType:
    """Type rule of an elementwise operation whose result is like its sources."""
    return x


ADD = register(
    Op(
        "add",
        Kind.ELEMENTWISE,
        same,
        reference=np.add,
        gradient=lambda node, dy: (dy, dy),
        emit=lambda e, a, b: e.or_(a, b) if a.dtype.kind == "b" else e.add(a, b),
        triton="{0} + {1}",
        symbol="+",
        arity=2,
    )
)


def add(a: Operand, b: Operand) -> Any:
    """Sum, element by element; ``or`` of bools."""
    return elementwise(ADD, a, b)


def _mul_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = node.sources
    return multiply(dy, b), multiply(dy, a)


MULTIPLY = register(
    Op(
        "multiply",
        Kind.ELEMENTWISE,
        same,
        reference=np.multiply,
        gradient=_mul_gradient,
        emit=lambda e, a, b: e.and_(a, b) if a.dtype.kind == "b" else e.mul(a, b),
        triton="{0} * {1}",
        symbol="*",
        domains=(Domain(special=(0.0, float("inf"))),),
        arity=2,
    )
)


def multiply(a: Operand, b: Operand) -> Any:
    """Product, element by element; ``and`` of bools."""
    return elementwise(MULTIPLY, a, b)
