"""Norms of vectors and matrices, plain functions; those of matrices by singular values where they are asked for."""

from __future__ import annotations

import math
from typing import Any

from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.ir.types import Shape
from knetc.ops import arithmetic, logic, movement, reduction, transcendental
from knetc.ops.apply import Operand, cast_node, composite, reshape_node, to_nodes
from knetc.ops.linalg import filled, matrix, svdvals
from knetc.ops.movement import normalize_axes
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError


def _power_norm(x: Node, p: float, axes: tuple[int, ...]) -> Node:
    """The vector norm of order ``p`` over axes, which are dropped; its gradient at zero is zero."""
    if p == 0:
        return reduction.sum(cast_node(logic.not_equal(x, 0), x.dtype), axes)  # type: ignore[no-any-return]
    size = arithmetic.absolute(x)
    if p == 1:
        return reduction.sum(size, axes)  # type: ignore[no-any-return]
    if math.isinf(p):
        fold = reduction.max if p > 0 else reduction.min
        empty = p > 0 and math.prod(x.shape[a] for a in axes) == 0
        return reduction.sum(size, axes) if empty else fold(size, axes)  # type: ignore[no-any-return]
    total = reduction.sum(x * x if p == 2 else transcendental.power(size, float(p)), axes)
    nothing = logic.equal(total, 0)
    some = logic.where(nothing, 1, total)
    root = transcendental.sqrt(some) if p == 2 else transcendental.power(some, 1 / p)
    return logic.where(nothing, 0 if p > 0 else total, root)  # type: ignore[no-any-return]


@composite()
def norm(x: Operand, p: float = 2) -> Any:
    """The norm of order ``p`` of all elements: 2 Euclid's, 1 the sum of sizes, inf the largest, -inf the smallest,
    0 how many are not zero. The gradient at zero is zero. For norms of matrices see ``kn.linalg.norm``.

    >>> norm(kn.array([3.0, 4.0]))  # 5
    """
    [node] = to_nodes(x)
    node = node if dtypes.is_float(node.dtype) else cast_node(node, ambient().dtype)
    return _power_norm(node, p, tuple(range(node.ndim)))


@composite()
def vector_norm(x: Operand, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
    """The norm of order ``ord`` of the vectors along axes (all of them, by default).

    >>> vector_norm(kn.array([[3.0, 4.0], [6.0, 8.0]]), axis=1)  # [5, 10]
    """
    [node] = to_nodes(x)
    node = node if dtypes.is_float(node.dtype) else cast_node(node, ambient().dtype)
    axes = tuple(range(node.ndim)) if axis is None else normalize_axes("vector_norm", axis, node.ndim)
    return _kept(_power_norm(node, ord, axes), node.shape, axes, keepdims)


def _kept(result: Node, shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Node:
    full = tuple(1 if k in axes else n for k, n in enumerate(shape))
    return reshape_node(result, full) if keepdims else result


_MATRIX_ORDERS = ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)


@composite()
def matrix_norm(x: Operand, keepdims: bool = False, ord: Any = "fro") -> Any:
    """The norm of each matrix of shape [..., M, N]: Frobenius' by default.

    ``ord`` is "fro", "nuc" (sum of singular values), 2 or -2 (largest and smallest singular value), 1 or -1 (largest
    and smallest sum of a column's sizes), inf or -inf (of a row's). Raises ValueError for another.

    >>> matrix_norm(kn.array([[3.0, 0.0], [0.0, 4.0]]), ord=2)  # 4
    """
    node = matrix("matrix_norm", x)
    last = (node.ndim - 2, node.ndim - 1)
    if ord not in _MATRIX_ORDERS:
        raise ValueError(f"matrix_norm: ord={ord!r} is none of {', '.join(map(repr, _MATRIX_ORDERS))}")
    if ord == "fro":
        result = _power_norm(node, 2, last)
    elif ord in ("nuc", 2, -2):
        fold = {"nuc": reduction.sum, 2: reduction.max, -2: reduction.min}[ord]
        result = fold(svdvals(filled("matrix_norm", node)), -1)
    else:
        sums = reduction.sum(arithmetic.absolute(node), last[0] if abs(ord) == 1 else last[1])
        result = (reduction.max if ord > 0 else reduction.min)(sums, -1)
    return _kept(result, node.shape, last, keepdims)


@composite()
def numpy_norm(x: Operand, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """NumPy's ``linalg.norm``: of all elements, of vectors along an axis, or of matrices in two axes.

    Without ``ord`` it is the root of the sum of squares. With ``ord``, an array of two axes (or ``axis`` a pair) is a
    matrix, as for ``matrix_norm``, and one axis holds vectors, as for ``vector_norm``.

    >>> kn.linalg.norm(kn.array([[3.0, 0.0], [0.0, 4.0]]), 2)  # 4
    """
    [node] = to_nodes(x)
    if axis is None and (ord is None or node.ndim == 1):
        axes: tuple[int, ...] = tuple(range(node.ndim))
    else:
        axes = tuple(range(node.ndim)) if axis is None else normalize_axes("norm", axis, node.ndim)
        if len(axes) > 2:
            raise ShapeError(f"norm: {node.type} is no vector and no matrix; name one or two axes with axis=")
    if ord is None or len(axes) == 1:
        return vector_norm(node, axes, keepdims, 2 if ord is None else ord)
    rest = tuple(k for k in range(node.ndim) if k not in axes)
    result = matrix_norm(movement.permute_node(node, (*rest, *axes)), False, ord)
    return _kept(result, node.shape, axes, keepdims)


__all__ = ["matrix_norm", "norm", "vector_norm"]
