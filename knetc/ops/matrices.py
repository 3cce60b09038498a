"""Functions of matrices made of the decompositions: powers, ranks, condition, least squares, chains of products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from knetc.ir.node import Node
from knetc.ops import linalg, norms, reduction
from knetc.ops.apply import (
    Operand,
    cast_node,
    common_dtype,
    composite,
    constant,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.arithmetic import multiply
from knetc.ops.host import by_rule, host_call
from knetc.ops.linalg import as_row, eye_like, filled, gaps, inv, matrix, sized, square
from knetc.ops.linear import matmul, swapped
from knetc.ops.logic import equal, greater, where
from knetc.ops.movement import cut_node, permute_dims
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError


class EigResult(NamedTuple):
    """Of ``eig``."""

    eigenvalues: Any
    eigenvectors: Any


class LstsqResult(NamedTuple):
    """Of ``lstsq``."""

    x: Any
    residuals: Any
    rank: Any
    singular_values: Any


# --- powers and products ---------------------------------------------------------------------------------------------


@composite()
def matrix_power(a: Operand, n: int) -> Any:
    """Each square matrix times itself, ``n`` factors; of the inverse for negative ``n``.

    >>> matrix_power(kn.array([[1.0, 1.0], [0.0, 1.0]]), 3)  # [[1, 3], [0, 1]]
    """
    if not isinstance(n, int):
        raise TypeError(f"matrix_power takes an integer exponent, not {n!r}")
    x = square("matrix_power", a)
    factor = inv(x) if n < 0 else x
    result: Node | None = None
    for bit in reversed(f"{abs(n):b}"):
        if bit == "1":
            result = factor if result is None else result @ factor
        factor = factor @ factor
    return eye_like(x) if result is None else result


def multi_dot(arrays: Sequence[Operand]) -> Any:
    """The product of two or more matrices, multiplied in the order that needs the fewest multiplications.

    The first and the last may be vectors. Raises ShapeError for other shapes.

    >>> multi_dot([kn.ones((2, 9)), kn.ones((9, 9)), kn.ones(9)])  # [81, 81]
    """
    nodes = to_nodes(*arrays)
    if len(nodes) < 2:
        raise ShapeError("multi_dot takes two matrices at least")
    if any(n.ndim != 2 for n in nodes[1:-1]) or not all(n.ndim in (1, 2) for n in (nodes[0], nodes[-1])):
        raise ShapeError(
            f"multi_dot takes matrices, and vectors at the ends, not {', '.join(str(n.type) for n in nodes)}"
        )
    first, last = nodes[0].ndim == 1, nodes[-1].ndim == 1
    rows = [reshape_node(nodes[0], (1, *nodes[0].shape)) if first else nodes[0], *nodes[1:]]
    rows[-1] = reshape_node(rows[-1], (*rows[-1].shape, 1)) if last else rows[-1]
    result = _chain(rows, _cuts([rows[0].shape[0], *(n.shape[1] for n in rows)]), 0, len(rows) - 1)
    shape = (*(() if first else result.shape[:1]), *(() if last else result.shape[1:]))
    return wrap_like(tuple(arrays), reshape_node(result, shape))


def _cuts(extents: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to cut each stretch of a chain in two, so that the fewest numbers are multiplied."""
    count = len(extents) - 1
    cost = {(k, k): 0 for k in range(count)}
    cuts: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for begin in range(count - length):
            end = begin + length
            ways = {
                k: cost[begin, k] + cost[k + 1, end] + extents[begin] * extents[k + 1] * extents[end + 1]
                for k in range(begin, end)
            }
            cuts[begin, end] = min(ways, key=ways.__getitem__)
            cost[begin, end] = ways[cuts[begin, end]]
    return cuts


def _chain(nodes: Sequence[Node], cuts: dict[tuple[int, int], int], begin: int, end: int) -> Node:
    """The product of a stretch of a chain; as deep as the chain is long, which users write out."""
    if begin == end:
        return nodes[begin]
    cut = cuts[begin, end]
    result: Node = matmul(_chain(nodes, cuts, begin, cut), _chain(nodes, cuts, cut + 1, end))
    return result


# --- rank, condition, least squares ----------------------------------------------------------------------------------


def _tolerance(x: Node) -> float:
    """How small, beside the largest, a singular value counts as 0."""
    return max(x.shape[-2:]) * 2.0 ** -dtypes.mantissa_bits(x.dtype)


@composite(2)
def matrix_rank(a: Operand, *, rtol: Operand = None) -> Any:
    """How many singular values of each matrix are not negligible, as int64: [..., M, N] gives [...].

    Negligible is what is at most ``rtol`` times the largest: by default max(M, N) times the dtype's precision. It is a
    number, or an array with one for each matrix.

    >>> matrix_rank(kn.array([[1.0, 2.0], [2.0, 4.0]]))  # 1
    """
    x = matrix("matrix_rank", a)
    values = linalg.svdvals(x)
    if not values.shape[-1]:
        return constant(0, dtypes.i64, x.shape[:-2])
    share: Any = _tolerance(x) if rtol is None else rtol
    if isinstance(share, Node):
        share = reshape_node(share, (*share.shape, 1))
    return reduction.count_nonzero(greater(values, reduction.max(values, -1, keepdims=True) * share), -1)


@composite()
def cond(a: Operand, p: Any = None) -> Any:
    """The condition number of each matrix: its norm of order ``p`` times that of its inverse; infinite if singular.

    By default, and for 2 and -2, it is the quotient of singular values, of any matrix; others need square matrices.

    >>> cond(kn.array([[3.0, 0.0], [0.0, 4.0]]))  # 1.3333334
    """
    x = filled("cond", matrix("cond", a))
    if p in (None, 2, -2):
        values = linalg.svdvals(x)
        count = values.shape[-1]
        large, small = cut_node(values, values.ndim - 1, 0, 1), cut_node(values, values.ndim - 1, count - 1, count)
        return reshape_node(small / large if p == -2 else large / small, x.shape[:-2])
    x = square("cond", x)
    return norms.matrix_norm(x, ord=p) * norms.matrix_norm(inv(x), ord=p)


def lstsq(a: Operand, b: Operand) -> LstsqResult:
    """The x with the least ``norm(a @ x - b)``, and of several the one with the least norm, for a matrix ``a`` [M, N].

    ``b`` is [M] or [M, K]. Gives ``x`` [N] or [N, K], the sums of squared residuals ([] or [K]), the rank (int64) and
    the singular values of ``a``. The gradient of ``x`` is that at constant rank. Raises ShapeError for other shapes.

    >>> x, residuals, rank, values = lstsq(kn.array([[1.0], [1.0]]), kn.array([1.0, 3.0]))
    """
    left, [right] = filled("lstsq", matrix("lstsq", a)), to_nodes(b)
    dtype = common_dtype(left, linalg.precise("lstsq", right))
    left, right = cast_node(left, dtype), cast_node(right, dtype)
    if left.ndim != 2 or right.ndim not in (1, 2) or right.shape[0] != left.shape[0]:
        raise ShapeError(f"lstsq: {left.type} and {right.type}: needs [M, N] and [M] or [M, K]")
    x = linalg.pinv(left) @ right
    apart = left @ x - right
    parts = (x, reduction.sum(multiply(apart, apart), 0), matrix_rank(left), linalg.svdvals(left))
    return LstsqResult(*(wrap_like((a, b), part) for part in parts))


# --- equations of tensors --------------------------------------------------------------------------------------------


@composite()
def tensorinv(a: Operand, ind: int = 2) -> Any:
    """The inverse of ``a`` taken as a matrix from its last axes to its first ``ind``: ``tensordot`` of both is one.

    >>> tensorinv(kn.eye(6).reshape(2, 3, 6), 2)  # shape (6, 2, 3)
    """
    [node] = to_nodes(a)
    if ind < 1:
        raise ShapeError(f"tensorinv: ind is an int of at least 1, not {ind}")
    rows = math.prod(node.shape[:ind])
    flat = reshape_node(node, (rows, node.type.size // rows if rows else 0))
    return reshape_node(inv(flat), (*node.shape[ind:], *node.shape[:ind]))


@composite(2)
def tensorsolve(a: Operand, b: Operand, axes: Sequence[int] | None = None) -> Any:
    """The x with ``tensordot(a, x, x.ndim) = b``; ``axes`` of ``a`` go to its end first.

    >>> tensorsolve(kn.eye(6).reshape(2, 3, 6), kn.ones((2, 3)))  # shape (6,)
    """
    left, right = to_nodes(a, b)
    if axes is not None:
        rest = [k for k in range(left.ndim) if k not in axes]
        left = permute_dims(left, (*rest, *axes))
    shape = left.shape[right.ndim :]
    if math.prod(shape) != right.type.size or left.type.size != right.type.size**2:
        raise ShapeError(f"tensorsolve: {left.type} and {right.type} are not as many equations as unknowns")
    flat = reshape_node(left, (right.type.size, right.type.size))
    return reshape_node(linalg.solve(flat, reshape_node(right, (right.type.size,))), shape)


# --- eigenvalues of matrices that are not symmetric ------------------------------------------------------------------


def _eig(x: Node) -> tuple[Node, Node]:
    values, vectors = host_call("lapack.eig", [x], [sized(x, x.shape[-1]), x.type])

    def rule_values(node: Node, dy: Node) -> list[Any]:
        _, v = _eig(node.sources[1])
        back = inv(swapped(v))
        return [(back * as_row(dy)) @ swapped(v)]

    def rule_vectors(node: Node, dy: Node) -> list[Any]:
        w, v = _eig(node.sources[1])
        product = swapped(v) @ dy
        along = where(equal(eye_like(product), 1), product, 0)
        along = reduction.sum(along, -2, keepdims=True)  # what dy has along each vector, whose length is fixed
        inner = gaps(w) * (product - (swapped(v) @ v) * along)
        return [inv(swapped(v)) @ inner @ swapped(v)]

    return by_rule(values, [x], rule_values), by_rule(vectors, [x], rule_vectors)


def eig(a: Operand) -> EigResult:
    """Eigenvalues and eigenvectors (columns of length 1) of square matrices [..., N, N] whose eigenvalues are real.

    Raises LinearAlgebraError, when the program runs, if some are not. Gradients are defined where eigenvalues differ.

    >>> w, V = eig(kn.array([[2.0, 0.0], [1.0, 3.0]]))  # w = [3, 2]
    """
    return EigResult(*(wrap_like((a,), part) for part in _eig(square("eig", a))))


@composite()
def eigvals(a: Operand) -> Any:
    """The eigenvalues of square matrices [..., N, N] whose eigenvalues are real: [..., N]. See ``eig``.

    >>> eigvals(kn.array([[2.0, 0.0], [0.0, 2.0]]))  # [2, 2]
    """
    return _eig(square("eigvals", a))[0]


__all__ = ["eig", "eigvals", "lstsq", "matrix_power", "matrix_rank", "multi_dot", "tensorinv", "tensorsolve"]
