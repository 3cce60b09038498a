"""Slices and paddings whose place is a run-time number: one program serves them wherever they are.

Graphs get them from ``ir.canonical.lift_offsets``. Places are in range: who makes these operations sees to that.
"""

from __future__ import annotations

import builtins

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Kind
from knetc.ir.record import record
from knetc.ir.types import Shape, TensorType
from knetc.ops import define
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError


def _check_starts(name: str, ndim: int, starts: tuple[TensorType, ...]) -> None:
    if len(starts) != ndim:
        raise ShapeError(f"{name}: {len(starts)} places for {ndim} axes")
    for start in starts:
        if start.shape or start.dtype != dtypes.i64:
            raise DtypeError(f"{name}: a place is an i64 scalar, not {start}")


def _infer_window(x: TensorType, *starts: TensorType, shape: Shape) -> TensorType:
    _check_starts("window", x.ndim, starts)
    if len(shape) != x.ndim or any(n > m for n, m in zip(shape, x.shape)):
        raise ShapeError(f"window: {shape} does not fit into {x.shape}")
    return x.with_shape(shape)


def _ranges(starts: tuple[np.ndarray, ...], shape: Shape) -> tuple[builtins.slice, ...]:
    return tuple(builtins.slice(int(start), int(start) + n) for start, n in zip(starts, shape))


def _window_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    x, *starts = node.sources
    attributes = {"shape": x.shape, "value": dtypes.wrapped(0, dy.dtype)}
    return (record(PLACED, (dy, *starts), attributes), *[None] * len(starts))


_PLACES = (Domain(), Domain(0, 1))

WINDOW = define.structural(
    "window",
    Kind.MOVEMENT,
    _infer_window,
    reference=lambda x, *starts, shape: x[_ranges(starts, shape)].copy(),
    gradient=_window_gradient,
    samples=[
        define.case("f32[5]", "i64[]", domains=_PLACES, shape=(4,)),
        define.case("f64[4,6]", "i64[]", "i64[]", domains=_PLACES, shape=(3, 2)),
        define.case("bool[4,3]", "i64[]", "i64[]", domains=_PLACES, shape=(1, 2)),
    ],
    bad=[
        (define.case("f32[5]", "i64[]", shape=(6,)), ShapeError),
        (define.case("f32[5]", "i32[]", shape=(2,)), DtypeError),
        (define.case("f32[5]", shape=(2,)), ShapeError),
    ],
)


def _infer_placed(x: TensorType, *starts: TensorType, shape: Shape, value: bool | int | float) -> TensorType:
    _check_starts("placed", x.ndim, starts)
    if len(shape) != x.ndim or any(n > m for n, m in zip(x.shape, shape)):
        raise ShapeError(f"placed: {x.shape} does not fit into {shape}")
    return x.with_shape(shape)


def _placed_reference(x: np.ndarray, *starts: np.ndarray, shape: Shape, value: bool | int | float) -> np.ndarray:
    result = np.full(shape, value, x.dtype)
    result[_ranges(starts, x.shape)] = x
    return result


def _placed_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    x, *starts = node.sources
    return (record(WINDOW, (dy, *starts), {"shape": x.shape}), *[None] * len(starts))


PLACED = define.structural(
    "placed",
    Kind.MOVEMENT,
    _infer_placed,
    reference=_placed_reference,
    gradient=_placed_gradient,
    samples=[
        define.case("f32[4]", "i64[]", domains=_PLACES, shape=(5,), value=0.0),
        define.case("f64[3,2]", "i64[]", "i64[]", domains=_PLACES, shape=(4, 6), value=1.5),
        define.case("i32[0,3]", "i64[]", "i64[]", domains=_PLACES, shape=(2, 4), value=7),
    ],
    bad=[
        (define.case("f32[5]", "i64[]", shape=(4,), value=0.0), ShapeError),
        (define.case("f32[5]", "f32[]", shape=(6,), value=0.0), DtypeError),
    ],
)
