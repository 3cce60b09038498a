"""Choosing, comparing, and working on bits: ``where``, ``<``, ``logical_and``, ``bitwise_xor``, ``isnan``."""

from __future__ import annotations

from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Op
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops import define
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    broadcast_shapes,
    cast_node,
    coerce,
    common_dtype,
    common_kind,
    composite,
    constant,
    elementwise,
    is_scalar,
    to_nodes,
    wrap_like,
)
from knetc.runtime.base import dtypes

INFINITY = float("inf")
NAN = float("nan")

# --- where -----------------------------------------------------------------------------------------------------------


def _infer_where(condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
    define.check_same("where", (a, b))
    define.check_same("where", (condition, a.with_dtype(dtypes.boolean)))
    return a


def _where_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    condition = node.sources[0]
    return None, where(condition, dy, 0), where(condition, 0, dy)


WHERE = define.elementwise(
    "where",
    infer=_infer_where,
    reference=np.where,
    gradient=_where_gradient,
    emit=lambda e, condition, a, b: e.select(condition, a, b),
    exact=True,
    accepts="fib",
    arity=3,
    samples=[
        define.case("bool[3,4]", f"{dtype}[3,4]", f"{dtype}[3,4]")
        for dtype in ("f32", "f64", "i32", "i64", "bool", "f16", "i8", "u64")
    ]
    + [define.case("bool[]", "f64[]", "f64[]"), define.case("bool[0,2]", "f32[0,2]", "f32[0,2]")],
)


def where(condition: Operand, a: Operand, b: Operand) -> Any:
    """``a`` where the condition holds, else ``b``, element by element; all three broadcast, ``a`` and ``b`` promote.

    The gradient goes to what was chosen, and is 0 elsewhere even if the other value is not finite. A condition that
    is not bool holds where it is not 0.

    >>> where(x > 0, x, 0.1 * x)
    """
    test = to_bool(to_nodes(condition)[0])
    a_node, b_node = coerce("where", (a, b))
    shape = broadcast_shapes("where", test.shape, a_node.shape)
    sources = tuple(broadcast_node(n, shape) for n in (test, a_node, b_node))
    return wrap_like((condition, a, b), record(WHERE, sources))


def to_bool(node: Node) -> Node:
    """Whether elements are not 0."""
    return cast_node(node, dtypes.boolean)


# --- bits and truth --------------------------------------------------------------------------------------------------


def _bitwise(name: str, reference: Any, method: str, symbol: str) -> Op:
    return define.elementwise(
        name,
        reference=reference,
        emit=lambda e, a, b: getattr(e, method)(a, b),
        symbol=symbol,
        accepts="ib",
        arity=2,
        commutative=True,
    )


BITWISE_AND = _bitwise("bitwise_and", np.bitwise_and, "and_", "&")
BITWISE_OR = _bitwise("bitwise_or", np.bitwise_or, "or_", "|")
BITWISE_XOR = _bitwise("bitwise_xor", np.bitwise_xor, "xor", "^")
INVERT = define.elementwise("invert", reference=np.invert, emit=lambda e, x: e.not_(x), symbol="~", accepts="ib")


def bitwise_and(a: Operand, b: Operand) -> Any:
    """Bit by bit ``and`` of integers or bools.

    >>> bitwise_and(kn.array([6, 5]), 3)  # [2, 1]
    """
    return elementwise(BITWISE_AND, a, b)


def bitwise_or(a: Operand, b: Operand) -> Any:
    """Bit by bit ``or`` of integers or bools.

    >>> bitwise_or(kn.array([6, 5]), 3)  # [7, 7]
    """
    return elementwise(BITWISE_OR, a, b)


def bitwise_xor(a: Operand, b: Operand) -> Any:
    """Bit by bit exclusive ``or`` of integers or bools.

    >>> bitwise_xor(kn.array([6, 5]), 3)  # [5, 6]
    """
    return elementwise(BITWISE_XOR, a, b)


def invert(x: Operand) -> Any:
    """All bits of integers turned over; ``not`` of bools.

    >>> invert(kn.array([0, 5]))  # [-1, -6]
    """
    return elementwise(INVERT, x)


bitwise_not = invert


@composite(2)
def logical_and(a: Operand, b: Operand) -> Any:
    """Whether both are true (not 0), element by element.

    >>> logical_and(x > 0, x < 1)
    """
    return bitwise_and(*map(to_bool, to_nodes(a, b)))


@composite(2)
def logical_or(a: Operand, b: Operand) -> Any:
    """Whether either is true (not 0), element by element.

    >>> logical_or(x < 0, x > 1)
    """
    return bitwise_or(*map(to_bool, to_nodes(a, b)))


@composite(2)
def logical_xor(a: Operand, b: Operand) -> Any:
    """Whether just one is true (not 0), element by element.

    >>> logical_xor(x < 0, y < 0)
    """
    return bitwise_xor(*map(to_bool, to_nodes(a, b)))


@composite()
def logical_not(x: Operand) -> Any:
    """Whether elements are 0.

    >>> logical_not(x > 0)
    """
    return invert(to_bool(to_nodes(x)[0]))


# --- shifts ----------------------------------------------------------------------------------------------------------


def _emit_shift(*, left: bool) -> Any:
    """A count outside the width is like shifting by one bit many times (LLVM leaves it undefined)."""

    def emit(e: Any, a: Any, count: Any) -> Any:
        bits = a.dtype.itemsize * 8
        inside = e.compare("lt", count, e.constant(bits, count.dtype))
        inside = e.and_(inside, e.compare("ge", count, e.constant(0, count.dtype)))
        shift = e.shl if left else e.ashr if a.dtype.kind == "i" else e.lshr
        shifted = shift(a, e.select(inside, count, e.constant(0, count.dtype)))
        if left or a.dtype.kind == "u":
            return e.select(inside, shifted, e.constant(0, a.dtype))
        return e.select(inside, shifted, e.ashr(a, e.constant(bits - 1, a.dtype)))

    return emit


def _shift_reference(shift: Any) -> Any:
    """NumPy's shift, of which a count below 0 is also one beyond the width."""

    def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        bits = a.dtype.itemsize * 8
        beyond = np.zeros_like(a) if shift is np.left_shift else np.right_shift(a, a.dtype.type(bits - 1)) >> 1
        return np.where((b >= 0) & (b < bits), shift(a, b), beyond)

    return reference


_SHIFTS = tuple(
    define.case(f"{dtype}[5,7]", f"{dtype}[5,7]", domains=(Domain(-70, 70),))
    for dtype in ("i32", "i64", "i8", "i16", "u8", "u16", "u32", "u64")
)

LEFT_SHIFT = define.elementwise(
    "left_shift",
    reference=_shift_reference(np.left_shift),
    emit=_emit_shift(left=True),
    symbol="<<",
    accepts="i",
    arity=2,
    cost=3,
    samples=_SHIFTS,
)

RIGHT_SHIFT = define.elementwise(
    "right_shift",
    reference=_shift_reference(np.right_shift),
    emit=_emit_shift(left=False),
    symbol=">>",
    accepts="i",
    arity=2,
    cost=3,
    samples=_SHIFTS,
)


def left_shift(a: Operand, b: Operand) -> Any:
    """Integers shifted left by ``b`` bits; a count below 0 or beyond the width gives 0.

    >>> left_shift(kn.array([1, 3]), 2)  # [4, 12]
    """
    return elementwise(LEFT_SHIFT, a, b)


def right_shift(a: Operand, b: Operand) -> Any:
    """Integers shifted right by ``b`` bits, filled with the sign (unsigned ones with 0).

    A count beyond the width gives 0, or -1 for negative numbers.

    >>> right_shift(kn.array([8, -8]), 2)  # [2, -2]
    """
    return elementwise(RIGHT_SHIFT, a, b)


# --- comparisons -----------------------------------------------------------------------------------------------------


def _comparison(name: str, reference: Any, predicate: str, symbol: str) -> Op:
    return define.elementwise(
        name,
        reference=reference,
        emit=lambda e, a, b: e.compare(predicate, a, b),
        symbol=symbol,
        accepts="fi",
        arity=2,
        commutative=symbol in ("==", "!="),
        result=dtypes.boolean,
        exact=True,
        domains=(Domain(special=(0.0, -0.0, 1.0, INFINITY, NAN)),),
    )


EQUAL = _comparison("equal", np.equal, "eq", "==")
NOT_EQUAL = _comparison("not_equal", np.not_equal, "ne", "!=")
LESS = _comparison("less", np.less, "lt", "<")
LESS_EQUAL = _comparison("less_equal", np.less_equal, "le", "<=")
GREATER = _comparison("greater", np.greater, "gt", ">")
GREATER_EQUAL = _comparison("greater_equal", np.greater_equal, "ge", ">=")


def _compare(op: Op, a: Operand, b: Operand) -> Any:
    """A comparison as users ask for it; an int that the other dtype does not hold is above or below all of it."""
    for number, array in ((a, b), (b, a)):
        if type(number) is int and not is_scalar(array) and common_kind(array) == "i":
            bounds = np.iinfo(common_dtype(array))
            if not bounds.min <= number <= bounds.max:
                side = np.array([0, 1 if number > 0 else -1])  # the array's elements, then the number
                result = bool(op.evaluate(*(side[::-1] if number is a else side)))
                return wrap_like((a, b), constant(result, dtypes.boolean, to_nodes(array)[0].shape))
    if not (is_scalar(a) or is_scalar(b)):
        found = to_nodes(a, b)
        if {n.dtype for n in found} == {dtypes.i64, dtypes.u64}:
            return wrap_like((a, b), _compare_all_bits(op, *found))
    return elementwise(op, a, b)


def _compare_all_bits(op: Op, a: Node, b: Node) -> Any:
    """A comparison of int64 with uint64, whose common dtype, float64, would round both."""
    negative = elementwise(LESS, a if a.dtype == dtypes.i64 else b, 0)
    below = op.evaluate(*(np.array([v]) for v in ((0, 1) if a.dtype == dtypes.i64 else (1, 0))))[0]
    return where(negative, bool(below), elementwise(op, cast_node(a, dtypes.u64), cast_node(b, dtypes.u64)))


def equal(a: Operand, b: Operand) -> Any:
    """Whether elements are equal; NaN equals nothing.

    >>> equal(kn.array([1, 2]), 2)  # [False, True]
    """
    return invert(bitwise_xor(a, b)) if common_kind(a, b) == "b" else _compare(EQUAL, a, b)


def not_equal(a: Operand, b: Operand) -> Any:
    """Whether elements differ; NaN differs from everything.

    >>> not_equal(kn.array([1, 2]), 2)  # [True, False]
    """
    return bitwise_xor(a, b) if common_kind(a, b) == "b" else _compare(NOT_EQUAL, a, b)


def less(a: Operand, b: Operand) -> Any:
    """Whether ``a < b``, element by element; False where either is NaN.

    >>> less(kn.array([1, 2]), 2)  # [True, False]
    """
    return bitwise_and(logical_not(a), b) if common_kind(a, b) == "b" else _compare(LESS, a, b)


def less_equal(a: Operand, b: Operand) -> Any:
    """Whether ``a <= b``, element by element; False where either is NaN.

    >>> less_equal(kn.array([1, 3]), 2)  # [True, False]
    """
    return bitwise_or(logical_not(a), b) if common_kind(a, b) == "b" else _compare(LESS_EQUAL, a, b)


def greater(a: Operand, b: Operand) -> Any:
    """Whether ``a > b``, element by element; False where either is NaN.

    >>> greater(kn.array([1, 3]), 2)  # [False, True]
    """
    return less(b, a) if common_kind(a, b) == "b" else _compare(GREATER, a, b)


def greater_equal(a: Operand, b: Operand) -> Any:
    """Whether ``a >= b``, element by element; False where either is NaN.

    >>> greater_equal(kn.array([1, 3]), 2)  # [False, True]
    """
    return less_equal(b, a) if common_kind(a, b) == "b" else _compare(GREATER_EQUAL, a, b)


# --- what floats are like --------------------------------------------------------------------------------------------

ISNAN = define.elementwise(
    "isnan",
    reference=np.isnan,
    emit=lambda e, x: e.compare("uno", x, x),
    exact=True,
    result=dtypes.boolean,
    domains=(Domain(special=(0.0, INFINITY, -INFINITY, NAN)),),
)


def isnan(x: Operand) -> Any:
    """Whether elements are NaN.

    >>> isnan(kn.array([1.0, float("nan")]))  # [False, True]
    """
    return elementwise(ISNAN, x)


@composite()
def isinf(x: Operand) -> Any:
    """Whether elements are infinite, of either sign.

    >>> isinf(kn.array([1.0, float("-inf")]))  # [False, True]
    """
    x = coerce("isinf", (x,), accepts="f")[0]
    return bitwise_or(equal(x, INFINITY), equal(x, -INFINITY))


@composite()
def isfinite(x: Operand) -> Any:
    """Whether elements are neither infinite nor NaN.

    >>> isfinite(kn.array([1.0, float("nan")]))  # [True, False]
    """
    x = coerce("isfinite", (x,), accepts="f")[0]
    return bitwise_and(less(x, INFINITY), greater(x, -INFINITY))


__all__ = [
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "equal", "greater", "greater_equal", "invert",
    "isfinite", "isinf", "isnan", "left_shift", "less", "less_equal", "logical_and", "logical_not", "logical_or",
    "logical_xor", "not_equal", "right_shift", "where",
]  # fmt: skip
