"""Linear algebra: the product of matrices, and what is written with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops import define
from knetc.ops.apply import (
    Operand,
    at_once,
    broadcast_node,
    broadcast_shapes,
    cast_node,
    common_dtype,
    composite,
    reshape_node,
    to_nodes,
)
from knetc.ops.movement import permute_node
from knetc.ops.reduction import sum
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError


def product_dtype(dtype: np.dtype) -> np.dtype:
    """What products of matrices are computed in: narrow floats in float32, integers in int32 or int64.

    Sums of products that wrap around keep their lower bits in any wider integer, so the result is cast back.
    """
    if dtypes.is_integer(dtype):
        return dtypes.i64 if dtype.itemsize == 8 else dtypes.i32
    return dtypes.accumulator(dtype)


def _infer_matmul(a: TensorType, b: TensorType) -> TensorType:
    if a.dtype != b.dtype:
        raise DtypeError(f"matmul takes sources of one dtype, not {a} and {b}")
    define.check_kind("matmul", a.dtype, "fi")
    if product_dtype(a.dtype) != a.dtype:
        raise DtypeError(f"matmul multiplies {a.dtype} as {product_dtype(a.dtype)}: cast to that first")
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"matmul: {a} @ {b}: needs [..., M, K] @ [..., K, N] with equal leading axes")
    return a.with_shape((*a.shape[:-1], b.shape[-1]))


def swapped(x: Node) -> Node:
    """Each matrix transposed."""
    return permute_node(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _matmul_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = node.sources
    return record(MATMUL, (dy, swapped(b))), record(MATMUL, (swapped(a), dy))


MATMUL = define.structural(
    "matmul",
    Kind.LIBRARY,
    _infer_matmul,
    reference=lambda a, b: np.matmul(a, b),
    gradient=_matmul_gradient,
    symbol="@",
    arity=2,
    cost=1,
    ulp=16.0,
    accepts="fi",
    samples=[
        define.case("f32[3,4]", "f32[4,5]"),
        define.case("f64[7,5]", "f64[5,1]"),
        define.case("f64[2,3,4]", "f64[2,4,3]"),
        define.case("f32[17,33]", "f32[33,18]"),
        define.case("f64[3,0]", "f64[0,4]"),
        define.case("f32[0,3]", "f32[3,4]"),
        define.case("i64[3,4]", "i64[4,2]"),
    ],
    bad=[
        (define.case("f32[3,4]", "f32[3,4]"), ShapeError),
        (define.case("f32[3,4]", "f64[4,5]"), DtypeError),
        (define.case("bool[3,4]", "bool[4,5]"), DtypeError),
        (define.case("f32[4]", "f32[4]"), ShapeError),
        (define.case("f16[3,4]", "f16[4,5]"), DtypeError),
    ],
)


@composite(2)
def matmul(a: Operand, b: Operand) -> Any:
    """The product of matrices, or of stacks of matrices whose leading axes broadcast; a 1-D operand is a vector.

    Dtypes are promoted; float16 and bfloat16 are multiplied and added up in float32. Raises ShapeError unless the last
    extent of ``a`` is the last but one of ``b`` (the only one of a vector), or for scalars.

    >>> matmul(kn.ones((3, 4)), kn.ones((4, 5)))  # shape (3, 5)
    """
    left, right = to_nodes(a, b)
    if not left.ndim or not right.ndim:
        raise ShapeError(f"matmul: {left.type} @ {right.type}: a scalar is no matrix; multiply with *")
    dtype = common_dtype(left, right)
    if dtype == dtypes.boolean:
        raise DtypeError("matmul takes floating-point or integer arrays, not bool; cast first")
    within = product_dtype(dtype)
    left, right = cast_node(cast_node(left, dtype), within), cast_node(cast_node(right, dtype), within)
    if left.ndim == right.ndim == 1 and left.shape == right.shape:
        return cast_node(sum(left * right, dtype=within), dtype)
    rows = left if left.ndim > 1 else reshape_node(left, (1, *left.shape))
    columns = right if right.ndim > 1 else reshape_node(right, (*right.shape, 1))
    if rows.shape[-1] != columns.shape[-2]:
        raise ShapeError(
            f"matmul: {left.type} @ {right.type}: the last extent of the first, {rows.shape[-1]}, is not the "
            f"{'last but one' if right.ndim > 1 else 'extent'} of the second, {columns.shape[-2]}; "
            "transpose one of them (x.T) if its axes are the other way round"
        )
    result = _batched(rows, columns)
    shape = (
        *result.shape[:-2],
        *(result.shape[-2:-1] if left.ndim > 1 else ()),
        *(result.shape[-1:] if right.ndim > 1 else ()),
    )
    return cast_node(reshape_node(result, shape), dtype)


def _batched(rows: Node, columns: Node) -> Node:
    """[..., M, K] @ [..., K, N]: a stack times one matrix is one product of all rows; otherwise stacks broadcast."""
    if columns.ndim == 2 and rows.ndim > 2:
        flat = reshape_node(rows, (rows.type.size // rows.shape[-1] if rows.shape[-1] else 0, rows.shape[-1]))
        if rows.shape[-1]:
            product = record(MATMUL, (flat, columns))
            return reshape_node(product, (*rows.shape[:-1], columns.shape[-1]))
    batch = broadcast_shapes("matmul", rows.shape[:-2], columns.shape[:-2])
    left = broadcast_node(rows, (*batch, *rows.shape[-2:]))
    return record(MATMUL, (left, broadcast_node(columns, (*batch, *columns.shape[-2:]))))


@at_once
@composite(2)
def dot(a: Operand, b: Operand) -> Any:
    """NumPy's ``dot``: the scalar, inner or matrix product; of more dimensions, sums along the last axis of ``a`` and
    the last but one of ``b``, with all other axes of both in the result.

    >>> dot(kn.array([1.0, 2.0]), kn.array([3.0, 4.0]))  # 11
    """
    left, right = to_nodes(a, b)
    if not left.ndim or not right.ndim:
        return left * right
    if right.ndim == 1 or (left.ndim <= 2 and right.ndim == 2):
        return matmul(left, right)
    last = right.ndim - 2
    if left.shape[-1] != right.shape[last]:
        raise ShapeError(f"dot: the last axis of {left.type} is not of the extent of the last but one of {right.type}")
    front = permute_node(right, (last, *(k for k in range(right.ndim) if k != last)))
    shape = (*left.shape[:-1], *front.shape[1:])
    rows = reshape_node(left, (math.prod(left.shape[:-1]), left.shape[-1]))
    return reshape_node(matmul(rows, reshape_node(front, (front.shape[0], math.prod(front.shape[1:])))), shape)


@composite(2, wide=True)
def vecdot(a: Operand, b: Operand, axis: int = -1) -> Any:
    """The sum of products along an axis, of one extent in both; the others broadcast. Integers keep their dtype.

    >>> vecdot(kn.ones((2, 3)), kn.ones(3))  # [3, 3]
    """
    left, right = to_nodes(a, b)
    if not left.ndim or not right.ndim or left.shape[axis] != right.shape[axis]:
        raise ShapeError(f"vecdot: axis {axis} of {left.type} and {right.type} must be of one extent")
    return sum(left * right, axis, dtype=common_dtype(left, right))


@composite(2)
def outer(a: Operand, b: Operand) -> Any:
    """All products of an element of ``a`` and one of ``b``: shape (a.size, b.size).

    >>> outer(kn.array([1.0, 2.0]), kn.array([3.0, 4.0]))  # [[3, 4], [6, 8]]
    """
    left, right = to_nodes(a, b)
    return reshape_node(left, (left.type.size, 1)) * reshape_node(right, (1, right.type.size))


@composite(2)
def inner(a: Operand, b: Operand) -> Any:
    """Sums of products along the last axes of both, for all combinations of the others.

    >>> inner(kn.ones((2, 3)), kn.ones((4, 3)))  # shape (2, 4)
    """
    left, right = to_nodes(a, b)
    if not left.ndim or not right.ndim:
        return left * right
    if left.shape[-1] != right.shape[-1]:
        raise ShapeError(f"inner: the last extents of {left.type} and {right.type} differ")
    rows = reshape_node(right, (math.prod(right.shape[:-1]), right.shape[-1]))
    found = matmul(left, swapped(rows))
    return reshape_node(found, (*left.shape[:-1], *right.shape[:-1]))


@composite(2)
def vdot(a: Operand, b: Operand) -> Any:
    """The sum of the products of all elements, in C order.

    >>> vdot(kn.ones((2, 2)), kn.ones((2, 2)))  # 4
    """
    left, right = to_nodes(a, b)
    return dot(reshape_node(left, (left.type.size,)), reshape_node(right, (right.type.size,)))


@composite(2)
def matvec(a: Operand, x: Operand) -> Any:
    """Matrices [..., M, N] times vectors [..., N]: [..., M]; leading axes broadcast.

    >>> matvec(kn.ones((2, 3)), kn.ones((5, 3)))  # shape (5, 2)
    """
    left, right = to_nodes(a, x)
    _check_vector("matvec", right)
    found = matmul(left, reshape_node(right, (*right.shape, 1)))
    return reshape_node(found, found.shape[:-1])


@composite(2)
def vecmat(x: Operand, a: Operand) -> Any:
    """Vectors [..., M] times matrices [..., M, N]: [..., N]; leading axes broadcast.

    >>> vecmat(kn.ones((5, 2)), kn.ones((2, 3)))  # shape (5, 3)
    """
    left, right = to_nodes(x, a)
    _check_vector("vecmat", left)
    found = matmul(reshape_node(left, (*left.shape[:-1], 1, left.shape[-1])), right)
    return reshape_node(found, (*found.shape[:-2], found.shape[-1]))


def _check_vector(name: str, x: Node) -> None:
    if not x.ndim:
        raise ShapeError(f"{name} takes a vector, not {x.type}")


__all__ = ["dot", "inner", "matmul", "matvec", "outer", "vdot", "vecdot", "vecmat"]
