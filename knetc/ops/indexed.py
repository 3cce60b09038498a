"""Reading and adding at places that other values name: gather and scatter-add, each the other's gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Kind
from knetc.ir.record import record
from knetc.ir.types import Shape, TensorType
from knetc.ops import define
from knetc.ops.apply import (
    Operand,
    at_once,
    broadcast_node,
    broadcast_shapes,
    cast_node,
    composite,
    constant,
    reshape_node,
    to_nodes,
    widened,
)
from knetc.ops.arithmetic import add, clip
from knetc.ops.division import mod
from knetc.ops.identities import check_range, iota
from knetc.ops.logic import equal, less, where
from knetc.ops.movement import normalize_axis, permute_node
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError

# --- the records -----------------------------------------------------------------------------------------------------


def _check_indices(name: str, indices: Sequence[TensorType]) -> Shape:
    """The common shape of index arrays."""
    if not indices:
        raise ShapeError(f"{name} needs at least one index array")
    for index in indices:
        if not dtypes.is_integer(index.dtype):
            raise DtypeError(f"{name}: indices are integers, not {index.dtype}")
        if index.shape != indices[0].shape:
            raise ShapeError(f"{name}: index arrays have one shape, not {' and '.join(map(str, indices))}")
    return indices[0].shape


def _infer_gather(x: TensorType, *indices: TensorType) -> TensorType:
    shape = _check_indices("gather", indices)
    if len(indices) > x.ndim:
        raise ShapeError(f"gather: {len(indices)} index arrays for shape {x.shape}, which has {x.ndim} axes")
    return x.with_shape((*shape, *x.shape[len(indices) :]))


def _gather_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    x, *indices = node.sources
    return (scatter_add(dy, indices, x.shape), *[None] * len(indices))


_PLACES = (Domain(), Domain(0, 3))  # indices of the samples stay within extents of at least 4

GATHER = define.structural(
    "gather",
    Kind.INDEXED,
    _infer_gather,
    reference=lambda x, *indices: np.asarray(x[tuple(indices)]).copy(),
    gradient=_gather_gradient,
    arity=2,
    cost=2,
    samples=[
        define.case("f32[4,3]", "i64[5]", domains=_PLACES),
        define.case("f64[4,5]", "i64[2,3]", "i64[2,3]", domains=_PLACES),
        define.case("f64[4]", "i32[]", domains=_PLACES),
        define.case("i32[4,3]", "i64[0]", domains=_PLACES),
        define.case("f16[4,3]", "u8[5]", domains=_PLACES),
        define.case("f16[4,3]", "i16[5]", domains=_PLACES),
        define.case("i8[4,3]", "u64[5]", domains=_PLACES),
        define.case("u16[4,5]", "u32[3]", "u32[3]", domains=_PLACES),
    ],
    bad=[
        (define.case("f32[4]", "f32[2]"), DtypeError),
        (define.case("f32[4]", "i64[2]", "i64[2]"), ShapeError),
        (define.case("f32[4,4]", "i64[2]", "i64[3]"), ShapeError),
    ],
)


def _infer_scatter_add(dy: TensorType, *indices: TensorType, shape: Shape) -> TensorType:
    places = _check_indices("scatter_add", indices)
    define.check_accumulates("scatter_add", dy.dtype)
    if dy.shape != (*places, *shape[len(indices) :]) or len(indices) > len(shape):
        raise ShapeError(f"scatter_add: {dy} at {len(indices)} index arrays of shape {places} does not fit {shape}")
    return dy.with_shape(shape)


def _scatter_add_reference(dy: np.ndarray, *indices: np.ndarray, shape: Shape) -> np.ndarray:
    result = np.zeros(shape, dy.dtype)
    np.add.at(result, tuple(indices), dy)
    return result


def _scatter_add_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    _, *indices = node.sources
    return (gather(dy, indices), *[None] * len(indices))


SCATTER_ADD = define.structural(
    "scatter_add",
    Kind.INDEXED,
    _infer_scatter_add,
    reference=_scatter_add_reference,
    gradient=_scatter_add_gradient,
    arity=2,
    cost=2,
    accepts="fi",
    samples=[
        define.case("f32[5,3]", "i64[5]", shape=(4, 3), domains=_PLACES),
        define.case("f64[2,3]", "i64[2,3]", "i64[2,3]", shape=(4, 5), domains=_PLACES),
        define.case("f64[]", "i32[]", shape=(4,), domains=_PLACES),
        define.case("i64[0,3]", "i64[0]", shape=(4, 3), domains=_PLACES),
        define.case("u8[5,3]", "u16[5]", shape=(4, 3), domains=_PLACES),
    ],
    bad=[
        (define.case("f32[5]", "i64[4]", shape=(4,)), ShapeError),
        (define.case("f32[5]", "f32[5]", shape=(4,)), DtypeError),
        (define.case("f16[5]", "i64[5]", shape=(4,)), DtypeError),
    ],
)


def _infer_scatter(x: TensorType, values: TensorType, *indices: TensorType) -> TensorType:
    places = _check_indices("scatter", indices)
    if x.dtype != values.dtype:
        raise DtypeError(f"scatter takes values of the array's dtype, not {x} and {values}")
    if len(indices) > x.ndim or values.shape != (*places, *x.shape[len(indices) :]):
        raise ShapeError(f"scatter: {values} at {len(indices)} index arrays of shape {places} does not fit {x}")
    return x


def _scatter_reference(x: np.ndarray, values: np.ndarray, *indices: np.ndarray) -> np.ndarray:
    result = x.copy()
    rows = values.reshape((-1, *x.shape[len(indices) :]))
    for place, row in zip(zip(*(i.ravel() for i in indices)), rows):  # in order: NumPy promises none for repeated ones
        result[place] = row
    return result


def _scatter_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    """What was overwritten gets none, neither of ``x`` nor, where a place is named again later, of the values."""
    _, values, *indices = node.sources
    places = indices[0].shape
    number = reshape_node(iota(dtypes.i64, (math.prod(places),), 0), places)
    leading = node.shape[: len(indices)]
    last = gather(scatter(constant(-1, dtypes.i64, leading), number, indices), indices)
    kept = reshape_node(equal(last, number), (*places, *(1,) * (node.ndim - len(indices))))
    nothing = constant(0, dy.dtype, values.shape)
    return scatter(dy, nothing, indices), where(kept, gather(dy, indices), nothing), *[None] * len(indices)


_TWO_PLACES = (Domain(), Domain(), Domain(0, 3))

SCATTER = define.structural(
    "scatter",
    Kind.INDEXED,
    _infer_scatter,
    reference=_scatter_reference,
    gradient=_scatter_gradient,
    arity=3,
    cost=2,
    samples=[
        define.case("f32[4,3]", "f32[5,3]", "i64[5]", domains=_TWO_PLACES),
        define.case("f64[4,5]", "f64[2,3]", "i64[2,3]", "i64[2,3]", domains=_TWO_PLACES),
        define.case("f64[4]", "f64[]", "i32[]", domains=_TWO_PLACES),
        define.case("i64[4,3]", "i64[0,3]", "i64[0]", domains=_TWO_PLACES),
        define.case("bool[5]", "bool[7]", "u8[7]", domains=_TWO_PLACES),
        define.case("f16[4,3]", "f16[5,3]", "u16[5]", domains=_TWO_PLACES),
    ],
    bad=[
        (define.case("f32[4]", "f32[5]", "i64[4]"), ShapeError),
        (define.case("f32[4]", "f64[4]", "i64[4]"), DtypeError),
        (define.case("f32[4]", "f32[4]", "f32[4]"), DtypeError),
    ],
)
"""``x`` with values at the places that index arrays name; of several for one place the last in C order counts."""


SCATTERS = ("scatter_add", "scatter")
"""Operations that write to places which other values name: loops of their own, whose points have an order."""


def gather(x: Node, indices: Sequence[Node]) -> Node:
    """``x[i0, …, ik-1]`` for nodes: leading axes indexed by integer arrays of one shape, which are in range."""
    return record(GATHER, (x, *indices))


def scatter_add(values: Node, indices: Sequence[Node], shape: Shape) -> Node:
    """Zeros of ``shape`` to which ``values`` are added at ``[i0, …, ik-1]``; repeated places add up.

    Narrow floats are added up in float32.
    """
    return cast_node(record(SCATTER_ADD, (widened(values), *indices), {"shape": shape}), values.dtype)


def scatter(x: Node, values: Node, indices: Sequence[Node]) -> Node:
    """``x`` with ``values`` at ``[i0, …, ik-1]``, which are in range; of several for one place the last counts."""
    return record(SCATTER, (x, values, *indices))


# --- indices as users give them --------------------------------------------------------------------------------------


def normalize_index(name: str, index: Node, extent: int, axis: int) -> Node:
    """An index array with negative indices counted from the end, checked to be within the axis while running."""
    if not dtypes.is_integer(index.dtype):
        raise DtypeError(
            f"{name}: an index array holds integers, not {index.dtype}"
            + ("; use where(mask, …) for a mask" if index.dtype == dtypes.boolean else "")
        )
    message = f"{name}: index {{value}} is out of range for axis {axis} of extent {extent}"
    if index.dtype.kind == "u":
        return cast_node(check_range(index, 0, extent, message), dtypes.i64)
    checked = cast_node(check_range(index, -extent, extent, message), dtypes.i64)
    return where(less(checked, 0), add(checked, extent), checked)  # type: ignore[no-any-return]


def bounded(name: str, index: Node, extent: int, mode: str) -> Node:
    """Indices as ``mode`` says: "raise" leaves those out of range, "clip" and "wrap" bring them inside."""
    if mode == "raise":
        return index
    if mode not in ("clip", "wrap") or not dtypes.is_integer(index.dtype) or not extent:
        raise DtypeError(f"{name}: the mode is raise, clip or wrap, and the index of integers: {mode!r}, {index.type}")
    wide = cast_node(index, dtypes.i64)
    inside: Node = clip(wide, 0, extent - 1) if mode == "clip" else mod(wide, extent)
    return inside


@at_once
@composite(2)
def take(x: Operand, indices: Operand, axis: int | None = None, *, mode: str = "raise") -> Any:
    """The elements of ``x`` at integer indices along an axis (of ``x.ravel()`` by default).

    The result has the shape of ``indices`` in place of the axis. Negative indices count from the end. Indices out of
    range raise LabelError (an IndexError) when the value is computed, unless ``mode`` says "clip" (to the ends) or
    "wrap" (around). Repeated indices add up their gradients.

    >>> take(kn.array([[1, 2], [3, 4]]), kn.array([1, 0, 1]), axis=0)  # shape (3, 2)
    """
    node, places = to_nodes(x, indices)
    if axis is None:
        node, axis = reshape_node(node, (node.type.size,)), 0
    axis = normalize_axis("take", axis, node.ndim)
    places = normalize_index("take", bounded("take", places, node.shape[axis], mode), node.shape[axis], axis)
    front = permute_node(node, (axis, *(k for k in range(node.ndim) if k != axis)))
    found = gather(front, [places])
    # the axes of the indices go from the front to the axis's place
    count = places.ndim
    order = (*range(count, count + axis), *range(count), *range(count + axis, found.ndim))
    return permute_node(found, order)


def embedding(table: Operand, indices: Operand) -> Any:
    """The rows of ``table`` (N, D) that integer ``indices`` of any shape S name: shape S + (D,).

    Indices out of range raise LabelError (an IndexError) when the value is computed.

    >>> embedding(kn.param(1000, 64), kn.array([[1, 2], [3, 3]]))  # shape (2, 2, 64)
    """
    return take(table, indices, axis=0)


@at_once
@composite(2)
def take_along_axis(x: Operand, indices: Operand, axis: int = -1) -> Any:
    """For each place of ``indices`` the element of ``x`` whose index along the axis it names.

    ``x`` and ``indices`` have as many dimensions, and broadcast but for the axis. Raises ShapeError if they do not,
    LabelError (an IndexError) for indices out of range.

    >>> take_along_axis(scores, expand_dims(labels, -1))  # shape (N, 1)
    """
    node, places = to_nodes(x, indices)
    if node.ndim != places.ndim:
        raise ShapeError(f"take_along_axis: {places.type} indices for {node.type}; give both as many dimensions")
    axis = normalize_axis("take_along_axis", axis, node.ndim)
    places = normalize_index("take_along_axis", places, node.shape[axis], axis)
    shape = broadcast_shapes(
        "take_along_axis", *[(*t.shape[:axis], 1, *t.shape[axis + 1 :]) for t in (node.type, places.type)]
    )
    node = broadcast_node(node, (*shape[:axis], node.shape[axis], *shape[axis + 1 :]))
    places = broadcast_node(places, (*shape[:axis], places.shape[axis], *shape[axis + 1 :]))
    grid = [places if k == axis else iota(dtypes.i64, places.shape, k) for k in range(node.ndim)]
    return gather(node, grid)


__all__ = ["embedding", "take", "take_along_axis"]
