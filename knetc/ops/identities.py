"""Values from nothing, and operations that pass a value through: for what they forbid, check or keep apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.ir.record import record
from knetc.ir.types import Shape, TensorType
from knetc.ops import define
from knetc.ops.apply import Operand, to_nodes, wrap_like
from knetc.runtime.base import dtypes, errors
from knetc.runtime.base.errors import DtypeError, ShapeError

# --- iota ------------------------------------------------------------------------------------------------------------


def _infer_iota(*, dtype: np.dtype, shape: Shape, axis: int) -> TensorType:
    if not 0 <= axis < len(shape):
        raise ShapeError(f"iota: there is no axis {axis} in shape {shape}")
    return TensorType(dtype, shape)


def _iota_reference(*, dtype: np.dtype, shape: Shape, axis: int) -> np.ndarray:
    along = np.arange(shape[axis]).astype(dtype)
    return np.broadcast_to(along.reshape((-1,) + (1,) * (len(shape) - axis - 1)), shape).copy()


IOTA = define.structural(
    "iota",
    Kind.LEAF,
    _infer_iota,
    reference=_iota_reference,
    arity=0,
    samples=[
        define.case(dtype=dtypes.i64, shape=(5,), axis=0),
        define.case(dtype=dtypes.i32, shape=(2, 3, 4), axis=1),
        define.case(dtype=dtypes.f32, shape=(3, 4), axis=1),
        define.case(dtype=dtypes.i64, shape=(0, 2), axis=0),
    ],
    bad=[(define.case(dtype=dtypes.i64, shape=(5,), axis=1), ShapeError)],
)


def iota(dtype: np.dtype, shape: Shape, axis: int) -> Node:
    """Each element's index along an axis: 0, 1, 2 … of any dtype but bool."""
    return record(IOTA, (), {"dtype": dtype, "shape": shape, "axis": axis})


# --- identities ------------------------------------------------------------------------------------------------------

_ANY = [define.case("f32[3,4]"), define.case("i64[]"), define.case("bool[0,2]")]

STOP_GRADIENT = define.elementwise(
    "stop_gradient",
    reference=np.copy,
    emit=lambda e, x: x,
    accepts="fib",
    cost=0,
    samples=_ANY,
    exact=True,
)

VARIABLE = define.elementwise(
    "variable",
    infer=lambda x, *, number: x,
    reference=lambda x, *, number: x.copy(),
    gradient=lambda node, dy: (dy,),
    emit=lambda e, x, *, number: x,
    exact=True,
    accepts="fib",
    cost=0,
    samples=[define.case("f64[3,4]", number=0)],
)


def stop_gradient(x: Operand) -> Any:
    """``x``, taken as a constant by differentiation.

    >>> x - stop_gradient(max(x))
    """
    [node] = to_nodes(x)
    return wrap_like((x,), record(STOP_GRADIENT, (node,)))


def identity_variable(x: Node, number: int) -> Node:
    """``x`` as a value of its own, apart from those with other numbers: what a derivative is taken with respect to."""
    return record(VARIABLE, (x,), {"number": number})


# --- what is computed a second time ----------------------------------------------------------------------------------

_regions = count(1)


def fresh_region() -> int:
    """A number for marks, which no other marks have."""
    return next(_regions)


KEPT = define.structural(
    "kept",
    Kind.MOVEMENT,
    lambda x, *, region: x,
    reference=lambda x, *, region: x.copy(),
    gradient=lambda node, dy: (dy,),
    samples=[define.case("f64[3,4]", region=0)],
)
"""A value that a computation starts from which is to be done again for the gradient: it stays in memory till then. All
marks of one computation have its number. Only differentiation sees them."""

RECOMPUTED = define.structural(
    "recomputed",
    Kind.MOVEMENT,
    lambda value, *kept, region: value,
    reference=lambda value, *kept, region: value.copy(),
    arity=-1,
    samples=[define.case("f64[3,4]", region=0)],
)
"""A result of such a computation, and all the ``kept`` values that it starts from."""

AFTER = define.structural(
    "after",
    Kind.MOVEMENT,
    lambda x, *others: x,
    reference=lambda x, *others: x.copy(),
    gradient=lambda node, dy: (dy, *[None] * (len(node.sources) - 1)),
    arity=-1,
    samples=[
        define.case("f64[3,4]", "f64[5]"),
        define.case("f32[]", "f32[2]", "i64[]"),
        define.case("bool[0,2]", "f32[]"),
    ],
)
"""The first source's value, for work that begins only when the others have been computed."""


def after(x: Node, others: Sequence[Node]) -> Node:
    """``x``, apart from ``x`` itself: what is computed from it is computed after ``others``."""
    return record(AFTER, (x, *others))


# --- checks ----------------------------------------------------------------------------------------------------------


def _infer_check(index: TensorType, *, low: int, high: int, message: str, error: str) -> TensorType:
    if not dtypes.is_integer(index.dtype):
        raise DtypeError(f"an index or label is an integer, not {index.dtype}")
    return index


def _check_reference(index: np.ndarray, *, low: int, high: int, message: str, error: str) -> np.ndarray:
    outside = index[(index < low) | (index >= high)]
    if outside.size:
        raise getattr(errors, error)(message.format(value=int(outside.ravel()[0])))
    return index.copy()


CHECK_RANGE = define.structural(
    "check_range",
    Kind.EFFECT,
    _infer_check,
    reference=_check_reference,
    samples=[define.case("i64[5]", low=-100, high=100, message="{value}", error="LabelError")],
    bad=[(define.case("f32[5]", low=0, high=5, message="{value}", error="LabelError"), DtypeError)],
    accepts="i",
)


def check_range(index: Node, low: int, high: int, message: str, error: str = "LabelError") -> Node:
    """``index`` itself; a run in which an element is not in ``low <= index < high`` raises before it writes anything.

    ``message`` may show the first such element as ``{value}``; ``error`` names a class of ``runtime.base.errors``.
    """
    attributes = {"low": low, "high": high, "message": message, "error": error}
    return record(CHECK_RANGE, (index,), attributes)


__all__ = ["stop_gradient"]
