"""One rule for integrals, and differences of elementary functions from the beginnings of their series.

The integrands are positive and their logarithms are smooth. What is left of them after their greatest value is taken
out falls from there on, so that few places give nearly all digits of float64. All is made of other operations, so that
gradients by all parameters, to any order, are those of the same sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from knetc.ir.node import Node
from knetc.ops.apply import Operand, broadcast_node, cast_node, coerce, constant, reshape_node
from knetc.ops.arithmetic import absolute
from knetc.ops.identities import iota
from knetc.ops.logic import equal, less, logical_or, where
from knetc.ops.reduction import sum
from knetc.ops.transcendental import cos, exp, expm1, log1p
from knetc.runtime.base import dtypes

NODES = 48
"""The degree of the rule that integrals are taken by."""

DEPTH = 40.0
"""Where the integrand has fallen to ``exp(-40)``, the integral ends."""


def wide(name: str, *operands: Operand) -> tuple[list[Node], Any]:
    """Operands as float64 of one shape, and the floating dtype that the result is rounded to."""
    nodes = coerce(name, operands, accepts="f")
    return [cast_node(node, dtypes.f64) for node in nodes], nodes[0].dtype


def pick(condition: Node, a: float, b: float) -> Node:
    """One of two numbers of float64, not of the default dtype."""
    return where(condition, constant(a, dtypes.f64), b)  # type: ignore[no-any-return]


EULER = 0.5772156649015329


# --- small differences -----------------------------------------------------------------------------------------------


def polynomial(x: Node, coefficients: Sequence[float]) -> Any:
    """``c0 + c1 x + c2 x² …``"""
    total: Any = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total


def exp_rest(y: Node) -> Node:
    """``exp(y) - 1 - y``."""
    small = less(absolute(y), 0.6)
    near = where(small, y, 0.0)
    series = near * near * polynomial(near, [1 / math.factorial(k) for k in range(2, 19)])
    far = where(small, 1.0, y)
    return where(small, series, expm1(far) - far)  # type: ignore[no-any-return]


def log_rest(d: Node) -> Node:
    """``d - log(1 + d)``."""
    small = less(absolute(d), 0.5)
    near = where(small, d, 0.0)
    r = near / (near + 2)
    square = r * r
    series = near * r - 2 * r * square * polynomial(square, [1 / k for k in range(3, 38, 2)])
    far = where(small, 1.0, d)
    return where(small, series, far - log1p(far))  # type: ignore[no-any-return]


def stirling_rest(x: Node) -> Node:
    """``lgamma(x)`` less the beginning of Stirling's series, for x from 10 on."""
    return polynomial(1 / (x * x), [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360]) / x  # type: ignore[no-any-return]


# --- integrals -------------------------------------------------------------------------------------------------------


def rule() -> tuple[Node, Node]:
    """Places in [0, 1] and their weights, of Clenshaw and Curtis."""
    shape = (NODES + 1, NODES // 2)
    angle = iota(dtypes.f64, shape, 0) * (math.pi / NODES)
    j = iota(dtypes.f64, shape, 1) + 1
    terms = cos(2 * j * angle) * pick(equal(j, NODES // 2), 1.0, 2.0) / (4 * j * j - 1)
    k = iota(dtypes.f64, shape[:1], 0)
    ends = logical_or(equal(k, 0), equal(k, NODES))
    weights = (1 - sum(terms, 1)) * pick(ends, 0.5 / NODES, 1 / NODES)
    return 0.5 - 0.5 * cos(k * (math.pi / NODES)), weights


def integral(
    exponent: Callable[[Node, Callable[[Node], Node]], Node],
    end: Node,
    factor: Callable[[Node], Node] | None = None,
) -> Node:
    """Of ``exp(exponent(v, spread)) * factor(v)`` for v from 0 to ``end``; ``spread`` makes parameters fit the places.

    Where nothing that counts lies behind ``end``, it need not be differentiated.
    """
    places, weights = rule()
    shape = (*end.shape, NODES + 1)

    def spread(node: Node) -> Node:
        return broadcast_node(reshape_node(node, (*node.shape, 1)), shape)

    v = spread(end) * broadcast_node(places, shape)
    values = exp(exponent(v, spread)) * broadcast_node(weights, shape)
    return end * sum(values if factor is None else values * factor(v), -1)  # type: ignore[no-any-return]
