"""Polynomials as vectors of coefficients, that of the highest power first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from knetc.ir.node import Node
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    cast_node,
    common_dtype,
    composite,
    constant,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.calculus import convolve
from knetc.ops.identities import iota
from knetc.ops.logic import equal, where
from knetc.ops.matrices import eigvals, lstsq
from knetc.ops.movement import concat_node, cut_node, pad_node
from knetc.ops.rearrange import vander
from knetc.ops.reduction import sum, to_float
from knetc.ops.transcendental import sqrt
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError


def _coefficients(name: str, p: Operand) -> Node:
    [node] = to_nodes(p)
    if node.ndim > 1 or not node.type.size:
        raise ShapeError(f"{name}: a polynomial is a vector of coefficients, not {node.type}")
    return reshape_node(node, (node.type.size,))


def _aligned(name: str, a: Operand, b: Operand) -> list[Node]:
    """Two polynomials of one dtype and length."""
    nodes = [_coefficients(name, p) for p in (a, b)]
    dtype, length = common_dtype(*nodes), max(n.shape[0] for n in nodes)
    return [pad_node(cast_node(n, dtype), (length - n.shape[0],), (0,)) for n in nodes]


@composite(2)
def polyadd(a: Operand, b: Operand) -> Any:
    """The sum of two polynomials.

    >>> polyadd(kn.array([1, 2]), kn.array([5, 0, 0]))  # [5, 1, 2]
    """
    left, right = _aligned("polyadd", a, b)
    return left + right


@composite(2)
def polysub(a: Operand, b: Operand) -> Any:
    """The difference of two polynomials.

    >>> polysub(kn.array([1, 2]), kn.array([5, 0, 0]))  # [-5, 1, 2]
    """
    left, right = _aligned("polysub", a, b)
    return left - right


@composite(2)
def polymul(a: Operand, b: Operand) -> Any:
    """The product of two polynomials.

    >>> polymul(kn.array([1, 2]), kn.array([1, 3]))  # [1, 5, 6]
    """
    return convolve(_coefficients("polymul", a), _coefficients("polymul", b))


def _falling(length: int, like: Node) -> Node:
    """``length``, ``length`` - 1 … 1."""
    return cast_node(length - iota(dtypes.i64, (length,), 0), like.dtype)


@composite()
def polyder(p: Operand, m: int = 1) -> Any:
    """The derivative of a polynomial of order ``m``.

    >>> polyder(kn.array([1.0, 1.0, 1.0]))  # [2, 1]
    """
    node = _coefficients("polyder", p)
    if m < 0:
        raise ShapeError(f"polyder: the order is an int of at least 0, not {m}")
    for _ in range(m):
        degree = node.shape[0] - 1
        node = cut_node(node, 0, 0, degree) * _falling(degree, node)
    return node


@composite()
def polyint(p: Operand, m: int = 1, k: float | Sequence[float] | None = None) -> Any:
    """The antiderivative of a polynomial of order ``m``; ``k`` are the constants, one for all or one for each order.

    >>> polyint(kn.array([2.0, 1.0]))  # [1, 1, 0]
    """
    node = to_float(_coefficients("polyint", p))
    if m < 0:
        raise ShapeError(f"polyint: the order is an int of at least 0, not {m}")
    constants = [k or 0.0] * m if k is None or isinstance(k, (int, float)) else list(k)
    if len(constants) != m:
        raise ShapeError(f"polyint: {len(constants)} constants for {m} orders")
    for value in constants:
        node = concat_node([node / _falling(node.shape[0], node), constant(float(value), node.dtype, (1,))], 0)
    return node


@composite()
def poly(roots: Operand) -> Any:
    """The polynomial that has the elements of a vector as its roots, and 1 as its first coefficient.

    >>> poly(kn.array([1.0, 2.0]))  # [1, -3, 2]
    """
    [node] = to_nodes(roots)
    if node.ndim != 1:
        raise ShapeError(f"poly takes a vector of roots, not {node.type}; of a matrix give kn.eigvals(a)")
    node = to_float(node)
    result = constant(1.0, node.dtype, (1,))
    for place in range(node.shape[0]):
        root = cut_node(node, 0, place, place + 1)
        result = pad_node(result, (0,), (1,)) - pad_node(result * broadcast_node(root, result.shape), (1,), (0,))
    return result


class PolydivResult(NamedTuple):
    """Of ``polydiv``."""

    quotient: Any
    remainder: Any


def polydiv(u: Operand, v: Operand) -> PolydivResult:
    """The quotient and the remainder of two polynomials; the first coefficient of ``v`` is not 0.

    The remainder has one coefficient fewer than ``v`` (one at least), also where the first ones are 0.

    >>> polydiv(kn.array([3.0, 5.0, 2.0]), kn.array([2.0, 1.0])).quotient  # [1.5, 1.75]
    """
    quotient, rest = _divided(*(to_float(_coefficients("polydiv", p)) for p in (u, v)))
    return PolydivResult(wrap_like((u, v), quotient), wrap_like((u, v), rest))


def _divided(rest: Node, divisor: Node) -> tuple[Node, Node]:
    dtype = common_dtype(rest, divisor)
    rest, divisor = cast_node(rest, dtype), cast_node(divisor, dtype)
    length = divisor.shape[0]
    if rest.shape[0] < length:
        return constant(0.0, dtype, (1,)), rest
    first, lower = cut_node(divisor, 0, 0, 1), cut_node(divisor, 0, 1, length)
    quotient = []
    while (count := rest.shape[0]) >= length:
        factor = cut_node(rest, 0, 0, 1) / first
        quotient.append(factor)
        product = pad_node(broadcast_node(factor, lower.shape) * lower, (0,), (count - length,))
        rest = cut_node(rest, 0, 1, count) - product
    return concat_node(quotient, 0), rest if length > 1 else constant(0.0, dtype, (1,))


@composite()
def roots(p: Operand) -> Any:
    """Where a polynomial with real roots alone is 0: one root fewer than it has coefficients, in no order.

    The first coefficient is not 0. Raises LinearAlgebraError if a root is complex, for there are no complex numbers;
    ``numpy.roots(numpy.asarray(p))`` gives such roots as NumPy's numbers. Differentiable where no root is repeated.

    >>> kn.sort(roots(kn.array([1.0, -3.0, 2.0])))  # [1, 2]
    """
    node = to_float(_coefficients("roots", p))
    degree = node.shape[0] - 1
    if degree < 1:
        return constant(0.0, node.dtype, (0,))
    top = -cut_node(node, 0, 1, degree + 1) / broadcast_node(cut_node(node, 0, 0, 1), (degree,))
    rows = iota(dtypes.i64, (degree, degree), 0)
    below = cast_node(equal(rows - 1, iota(dtypes.i64, (degree, degree), 1)), node.dtype)
    return eigvals(where(equal(rows, 0), broadcast_node(top, (degree, degree)), below))


@composite(2)
def polyfit(x: Operand, y: Operand, deg: int, w: Operand = None) -> Any:
    """The polynomial of degree ``deg`` with the least squares at ``x``: [M] and ``y`` [M] or [M, K] give [deg + 1] or
    [deg + 1, K].

    ``w`` are weights of the differences (not of their squares). Raises ShapeError for other shapes.

    >>> polyfit(kn.array([0.0, 1.0, 2.0]), kn.array([1.0, 3.0, 5.0]), 1)  # [2, 1]
    """
    places, values = (to_float(n) for n in to_nodes(x, y))
    if places.ndim != 1 or values.ndim not in (1, 2) or values.shape[0] != places.shape[0] or deg < 0:
        raise ShapeError(f"polyfit: {places.type} and {values.type}, degree {deg}: needs [M] and [M] or [M, K]")
    powers: Node = vander(places, deg + 1)
    if w is not None:
        weights = cast_node(to_nodes(w)[0], powers.dtype)
        column = reshape_node(weights, (weights.shape[0], 1))
        powers, values = powers * column, values * (column if values.ndim == 2 else weights)
    scale = sqrt(sum(powers * powers, 0))  # columns of length 1 lose fewer digits
    found: Node = lstsq(powers / scale, values).x
    return found / (reshape_node(scale, (deg + 1, 1)) if values.ndim == 2 else scale)


__all__ = ["poly", "polyadd", "polyder", "polydiv", "polyfit", "polyint", "polymul", "polysub", "roots"]
