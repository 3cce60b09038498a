"""Linear algebra through LAPACK: decompositions, solutions and norms of matrices and stacks of them, with gradients.

Values come from host calls over NumPy; gradients are formulas of matrix calculus in knetc's own operations, so that
they can be differentiated again. A rule calls its function anew for what it needs of the results: equal calls are
one call of the program.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.ir.types import TensorType
from knetc.ops import logic, movement, reduction
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    broadcast_shapes,
    cast_node,
    common_dtype,
    composite,
    constant,
    is_scalar,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.host import by_rule, host_call
from knetc.ops.identities import iota, stop_gradient
from knetc.ops.linear import swapped
from knetc.ops.movement import cut_node
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DifferentiationError, DtypeError, ShapeError, UnsupportedError


class SlogdetResult(NamedTuple):
    """Of ``slogdet``."""

    sign: Any
    logabsdet: Any


class QRResult(NamedTuple):
    """Of ``qr``."""

    Q: Any
    R: Any


class EighResult(NamedTuple):
    """Of ``eigh``."""

    eigenvalues: Any
    eigenvectors: Any


class SVDResult(NamedTuple):
    """Of ``svd``."""

    U: Any
    S: Any
    Vh: Any


# --- operands --------------------------------------------------------------------------------------------------------


def matrix(name: str, x: Operand) -> Node:
    """A stack of matrices of float32 or float64."""
    [node] = to_nodes(x)
    if node.ndim < 2:
        raise ShapeError(f"{name} takes matrices, of shape [..., M, N], not {node.type}; reshape it")
    return precise(name, node)


def precise(name: str, node: Node) -> Node:
    if not dtypes.is_float(node.dtype):
        return cast_node(node, ambient().dtype)
    if node.dtype.itemsize < 4:
        raise DtypeError(f"{name} works in float32 and float64, not {node.dtype}; cast first, with x.astype('float32')")
    return node


def square(name: str, x: Operand) -> Node:
    node = matrix(name, x)
    if node.shape[-1] != node.shape[-2]:
        raise ShapeError(f"{name} takes square matrices, of shape [..., N, N], not {node.type}")
    return node


def filled(name: str, node: Node) -> Node:
    """A stack, maybe empty, of matrices that have elements."""
    if not (node.shape[-1] and node.shape[-2]):
        raise ShapeError(f"{name} takes matrices with elements, not {node.type}")
    return node


def sized(x: Node, *last: int) -> TensorType:
    """The type of a stack of other things, as many as ``x`` has matrices."""
    return TensorType(x.dtype, (*x.shape[:-2], *last))


def _places(x: Node) -> tuple[Node, Node]:
    """The row and the column of each element."""
    return iota(dtypes.i64, x.shape, x.ndim - 2), iota(dtypes.i64, x.shape, x.ndim - 1)


def eye_like(x: Node) -> Node:
    row, column = _places(x)
    return cast_node(logic.equal(row, column), x.dtype)


def as_column(x: Node) -> Node:
    """[..., N] as [..., N, 1]."""
    return reshape_node(x, (*x.shape, 1))


def as_row(x: Node) -> Node:
    """[..., N] as [..., 1, N]."""
    return reshape_node(x, (*x.shape[:-1], 1, x.shape[-1]))


def _spread(x: Node) -> Node:
    """[...] as [..., 1, 1]."""
    return reshape_node(x, (*x.shape, 1, 1))


def gaps(values: Node) -> Node:
    """1 / (values[j] - values[i]) in row i and column j; 0 where they are equal."""
    gap = as_row(values) - as_column(values)
    equal = logic.equal(gap, 0)
    return logic.where(equal, 0, 1 / logic.where(equal, 1, gap))  # type: ignore[no-any-return]


# --- triangles, diagonals --------------------------------------------------------------------------------------------


def _lower(x: Node, k: int = 0) -> Node:
    row, column = _places(x)
    return logic.where(column <= row + k, x, 0)  # type: ignore[no-any-return]


@composite()
def trace(x: Operand, offset: int = 0) -> Any:
    """The sum of each matrix's diagonal, or of the one ``offset`` places to the right of it.

    Takes arrays of shape [..., M, N] and returns [...]. Raises ShapeError for fewer than two axes.

    >>> trace(kn.array([[4.0, 1.0], [2.0, 3.0]]))  # 7
    """
    [node] = to_nodes(x)
    if node.ndim < 2:
        raise ShapeError(f"trace takes matrices, of shape [..., M, N], not {node.type}")
    row, column = _places(node)
    return reduction.sum(logic.where(logic.equal(column, row + offset), node, 0), (-2, -1))


def numpy_trace(a: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """NumPy's ``trace``: of the matrices in two axes, the first two by default.

    >>> kn.ones((2, 2, 3)).trace().shape  # (3,)
    """
    return trace(movement.moveaxis(a, (axis1, axis2), (-2, -1)), offset)


@composite(2)
def kron(a: Operand, b: Operand) -> Any:
    """The Kronecker product: each element of ``a`` times the whole of ``b``, side by side.

    The one with fewer axes gets axes of 1 in front; extents are multiplied.

    >>> kron(kn.array([1.0, 2.0]), kn.array([1.0, 10.0]))  # [1, 10, 2, 20]
    """
    left, right = to_nodes(a, b)
    ndim = max(left.ndim, right.ndim)
    rows = (1,) * (ndim - left.ndim) + left.shape
    columns = (1,) * (ndim - right.ndim) + right.shape
    first = reshape_node(left, tuple(n for extent in rows for n in (extent, 1)))
    second = reshape_node(right, tuple(n for extent in columns for n in (1, extent)))
    return reshape_node(first * second, tuple(n * m for n, m in zip(rows, columns)))


# --- determinants, inverses, solutions -------------------------------------------------------------------------------


@composite()
def inv(a: Operand) -> Any:
    """The inverse of each square matrix, of shape [..., N, N].

    Raises ShapeError for other shapes, and LinearAlgebraError, when the program runs, for a singular matrix.

    >>> inv(kn.array([[4.0, 1.0], [2.0, 3.0]]))  # [[0.3, -0.1], [-0.2, 0.4]]
    """
    x = square("inv", a)
    [y] = host_call("lapack.inv", [x], [x.type])

    def rule(node: Node, dy: Node) -> list[Any]:
        turned = swapped(node)
        return [-(turned @ dy @ turned)]

    return by_rule(y, [x], rule)


@composite()
def det(a: Operand) -> Any:
    """The determinant of each square matrix: [..., N, N] gives [...].

    Its gradient needs the inverse: LinearAlgebraError for a singular matrix.

    >>> det(kn.array([[4.0, 1.0], [2.0, 3.0]]))  # 10
    """
    x = square("det", a)
    [y] = host_call("lapack.det", [x], [sized(x)])
    return by_rule(y, [x], lambda node, dy: [_spread(dy * node) * swapped(inv(node.sources[1]))])


def _slogdet(x: Node) -> tuple[Node, Node]:
    sign, value = host_call("lapack.slogdet", [x], [sized(x), sized(x)])
    return sign, by_rule(value, [x], lambda node, dy: [_spread(dy) * swapped(inv(node.sources[1]))])


def slogdet(a: Operand) -> SlogdetResult:
    """The sign of each square matrix's determinant and the logarithm of its absolute value: (0, -inf) if singular.

    >>> slogdet(kn.array([[4.0, 1.0], [2.0, 3.0]]))  # (1, 2.302585)
    """
    return SlogdetResult(*(wrap_like((a,), part) for part in _slogdet(square("slogdet", a))))


@composite()
def logdet(a: Operand) -> Any:
    """The logarithm of each square matrix's determinant; NaN where that is negative.

    >>> logdet(kn.array([[4.0, 1.0], [2.0, 3.0]]))  # 2.302585
    """
    sign, value = _slogdet(square("logdet", a))
    return logic.where(sign < 0, math.nan, value)


def _solve(a: Node, b: Node) -> Node:
    [y] = host_call("lapack.solve", [a, b], [b.type])

    def rule(node: Node, dy: Node) -> list[Any]:
        db = _solve(swapped(node.sources[1]), dy)
        return [lambda: -(db @ swapped(node)), db]

    return by_rule(y, [a, b], rule)


@composite(2)
def solve(a: Operand, b: Operand) -> Any:
    """The x with ``a @ x = b``, for square matrices ``a`` of shape [..., N, N].

    ``b`` is a vector of shape [N] or a stack of matrices [..., N, K]; leading axes broadcast. Raises ShapeError for
    shapes that do not fit, and LinearAlgebraError, when the program runs, for a singular matrix.

    >>> solve(kn.array([[4.0, 1.0], [2.0, 3.0]]), kn.array([1.0, 2.0]))  # [0.1, 0.6]
    """
    left, [right] = square("solve", a), to_nodes(b)
    dtype = common_dtype(left, precise("solve", right))
    left, right = cast_node(left, dtype), cast_node(right, dtype)
    single = right.ndim == 1
    columns = as_column(right) if single else right
    if columns.ndim < 2 or columns.shape[-2] != left.shape[-1]:
        raise ShapeError(f"solve: {left.type} and {right.type}: needs [..., N, N] and [N] or [..., N, K]")
    batch = broadcast_shapes("solve", left.shape[:-2], columns.shape[:-2])
    left = broadcast_node(left, (*batch, *left.shape[-2:]))
    result = _solve(left, broadcast_node(columns, (*batch, *columns.shape[-2:])))
    return reshape_node(result, result.shape[:-1]) if single else result


@composite()
def pinv(a: Operand, rtol: Operand = None) -> Any:
    """The pseudo-inverse of each matrix: [..., M, N] gives [..., N, M]. Its gradient is that at constant rank.

    Singular values up to ``rtol`` times the largest count as 0: max(M, N) times the dtype's precision by default.

    >>> pinv(kn.array([[1.0], [1.0]]))  # [[0.5, 0.5]]
    """
    x = matrix("pinv", a)
    if not x.type.size:
        return swapped(x)
    least: Any = max(x.shape[-2:]) * 2.0 ** -dtypes.mantissa_bits(x.dtype) if rtol is None else rtol
    bound = constant(least, x.dtype) if is_scalar(least) else cast_node(to_nodes(least)[0], x.dtype)
    [y] = host_call("lapack.pinv", [x, stop_gradient(bound)], [sized(x, x.shape[-1], x.shape[-2])])

    def rule(p: Node, dy: Node) -> list[Any]:
        source = p.sources[1]
        pt, dyt = swapped(p), swapped(dy)
        left, right = source @ p, p @ source
        rows, columns = dyt - left @ dyt, dyt - dyt @ right
        return [rows @ p @ pt + pt @ p @ columns - pt @ dy @ pt]

    return by_rule(y, [x], rule)


# --- decompositions --------------------------------------------------------------------------------------------------


@composite()
def cholesky(a: Operand, *, upper: bool = False) -> Any:
    """The lower triangular L with ``L @ L.T = a``, of symmetric positive definite matrices [..., N, N].

    With ``upper`` it is transposed. Only the lower triangle is read; the gradient is symmetric. Raises
    LinearAlgebraError, when the program runs, for a matrix that is not positive definite.

    >>> cholesky(kn.array([[4.0, 2.0], [2.0, 5.0]]))  # [[2, 0], [1, 2]]
    """
    x = square("cholesky", a)
    [y] = host_call("lapack.cholesky", [x], [x.type])

    def rule(node: Node, dy: Node) -> list[Any]:
        inner = swapped(node) @ dy
        row, column = _places(inner)
        half = logic.where(logic.equal(row, column), 0.5 * inner, _lower(inner, -1))
        inverse = inv(node)
        whole = swapped(inverse) @ half @ inverse
        return [0.5 * (whole + swapped(whole))]

    factor = by_rule(y, [x], rule)
    return swapped(factor) if upper else factor


def _qr(x: Node) -> tuple[Node, Node]:
    rows, columns = x.shape[-2:]
    if columns > rows:  # the first columns decide Q
        q, r = _qr(cut_node(x, x.ndim - 1, 0, rows))
        rest = swapped(q) @ cut_node(x, x.ndim - 1, rows, columns)
        return q, movement.concat_node([r, rest], x.ndim - 1)
    q, r = host_call("lapack.qr", [x], [x.type, sized(x, columns, columns)])

    def back(q: Node, r: Node, inner: Node, dq: Node | None) -> list[Any]:
        whole = q @ (_lower(inner) + swapped(_lower(inner, -1)))
        return [swapped(_solve(r, swapped(whole if dq is None else whole + dq)))]

    def rule_q(node: Node, dy: Node) -> list[Any]:
        q, r = _qr(node.sources[1])
        return back(q, r, -(swapped(dy) @ q), dy)

    def rule_r(node: Node, dy: Node) -> list[Any]:
        q, r = _qr(node.sources[1])
        return back(q, r, r @ swapped(dy), None)

    return by_rule(q, [x], rule_q), by_rule(r, [x], rule_r)


def qr(a: Operand, mode: str = "reduced") -> QRResult:
    """Q with orthonormal columns and R upper triangular, ``Q @ R = a``: of [..., M, N], K = min(M, N) columns of Q.

    Differentiable where the first K columns of ``a`` are independent. In the ``mode`` "complete" Q is [..., M, M] and
    R [..., M, N], and they raise DifferentiationError when they are differentiated.

    >>> Q, R = qr(kn.array([[3.0, 1.0], [4.0, 2.0]]))  # abs(R[0, 0]) = 5
    """
    x = matrix("qr", a)
    rows, columns = x.shape[-2:]
    if mode not in ("reduced", "complete"):
        raise UnsupportedError(f"qr: the mode is 'reduced' or 'complete', not {mode!r}")
    if mode == "reduced" or rows <= columns:
        return QRResult(*(wrap_like((a,), part) for part in _qr(x)))
    kinds = [sized(x, rows, rows), x.type]
    parts = host_call("lapack.qr_complete", [stop_gradient(x)], kinds)
    return QRResult(*(wrap_like((a,), by_rule(part, [x], _no_gradient)) for part in parts))


def _eigh(x: Node) -> tuple[Node, Node]:
    values, vectors = host_call("lapack.eigh", [x], [sized(x, x.shape[-1]), x.type])

    def rule_values(node: Node, dy: Node) -> list[Any]:
        _, v = _eigh(node.sources[1])
        return [(v * as_row(dy)) @ swapped(v)]

    def rule_vectors(node: Node, dy: Node) -> list[Any]:
        w, v = _eigh(node.sources[1])
        inner = gaps(w) * (swapped(v) @ dy)
        whole = v @ inner @ swapped(v)
        return [0.5 * (whole + swapped(whole))]

    return by_rule(values, [x], rule_values), by_rule(vectors, [x], rule_vectors)


def eigh(a: Operand) -> EighResult:
    """Eigenvalues, ascending, and eigenvectors, as columns, of symmetric matrices [..., N, N].

    Only the lower triangle is read; gradients are symmetric. That of eigenvectors is defined where eigenvalues differ;
    vectors of equal ones are taken not to turn into each other.

    >>> w, V = eigh(kn.array([[2.0, 1.0], [1.0, 2.0]]))  # w = [1, 3]
    """
    return EighResult(*(wrap_like((a,), part) for part in _eigh(square("eigh", a))))


@composite()
def eigvalsh(a: Operand) -> Any:
    """The eigenvalues of symmetric matrices, ascending: [..., N, N] gives [..., N].

    >>> eigvalsh(kn.array([[2.0, 1.0], [1.0, 2.0]]))  # [1, 3]
    """
    return _eigh(square("eigvalsh", a))[0]


def _svd(x: Node) -> tuple[Node, Node, Node]:
    rows, columns = x.shape[-2:]
    count = min(rows, columns)
    u, s, vh = host_call("lapack.svd", [x], [sized(x, rows, count), sized(x, count), sized(x, count, columns)])

    def rule_s(node: Node, dy: Node) -> list[Any]:
        u, _, vh = _svd(node.sources[1])
        return [(u * as_row(dy)) @ vh]

    def rule_u(node: Node, dy: Node) -> list[Any]:
        u, s, vh = _svd(node.sources[1])
        product = swapped(u) @ dy
        inner = u @ ((gaps(s * s) * (product - swapped(product))) * as_row(s))
        outer = (dy - u @ product) / as_row(s) if rows > count else None
        return [(inner if outer is None else inner + outer) @ vh]

    def rule_vh(node: Node, dy: Node) -> list[Any]:
        u, s, vh = _svd(node.sources[1])
        product = dy @ swapped(vh)  # the transpose of V.T @ dV
        inner = (as_column(s) * (gaps(s * s) * (swapped(product) - product))) @ vh
        outer = (dy - product @ vh) / as_column(s) if columns > count else None
        return [u @ (inner if outer is None else inner + outer)]

    return by_rule(u, [x], rule_u), by_rule(s, [x], rule_s), by_rule(vh, [x], rule_vh)


def _no_gradient(node: Node, dy: Node) -> list[Any]:
    def refuse() -> Node:
        raise DifferentiationError(
            "svd, qr: the square factors of full_matrices=True and mode='complete' are not differentiable: their "
            "further vectors are any orthogonal completion; use full_matrices=False, mode='reduced'"
        )

    return [refuse]


def svd(a: Operand, full_matrices: bool = False, compute_uv: bool = True) -> Any:
    """Singular values S, descending, with ``U @ diag(S) @ Vh = a``: of [..., M, N], K = min(M, N) of them.

    U is [..., M, K] and Vh [..., K, N]; with ``full_matrices`` they are square, and raise DifferentiationError when
    they are differentiated. Without ``compute_uv`` only S is returned. Gradients of U and Vh are defined where the
    singular values differ.

    >>> svd(kn.array([[3.0, 0.0], [0.0, 4.0]]), compute_uv=False)  # [4, 3]
    """
    x = matrix("svd", a)
    rows, columns = x.shape[-2:]
    parts = _svd(x)
    if not compute_uv:
        return wrap_like((a,), parts[1])
    if full_matrices and rows != columns:
        kinds = [sized(x, rows, rows), sized(x, min(rows, columns)), sized(x, columns, columns)]
        u, _, vh = host_call("lapack.svd_full", [stop_gradient(x)], kinds)
        parts = by_rule(u, [x], _no_gradient), parts[1], by_rule(vh, [x], _no_gradient)
    return SVDResult(*(wrap_like((a,), part) for part in parts))


@composite()
def svdvals(a: Operand) -> Any:
    """The singular values of each matrix, descending: [..., M, N] gives [..., min(M, N)].

    >>> svdvals(kn.array([[3.0, 0.0], [0.0, 4.0]]))  # [4, 3]
    """
    return _svd(matrix("svdvals", a))[1]


__all__ = [
    "cholesky", "det", "eigh", "eigvalsh", "inv", "kron", "logdet", "pinv", "qr", "slogdet", "solve", "svd",
    "svdvals", "trace",
]  # fmt: skip
