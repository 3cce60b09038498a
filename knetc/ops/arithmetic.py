"""Elementwise arithmetic: the operations behind ``+ - * /`` and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Op
from knetc.ops import define
from knetc.ops.apply import Operand, cast, common_dtype, common_kind, elementwise, is_scalar, to_nodes, wrap_like
from knetc.ops.identities import stop_gradient
from knetc.ops.logic import bitwise_and, bitwise_or, equal, greater, less, where
from knetc.runtime.base import dtypes

INFINITY = float("inf")
NAN = float("nan")

# --- sum, difference, product, quotient ------------------------------------------------------------------------------

ADD = define.elementwise(
    "add",
    reference=np.add,
    gradient=lambda node, dy: (dy, dy),
    emit=lambda e, a, b: e.add(a, b),
    symbol="+",
    accepts="fi",
    arity=2,
    commutative=True,
    domains=(Domain(special=(0.0, -0.0, INFINITY, NAN)),),
)

SUBTRACT = define.elementwise(
    "subtract",
    reference=np.subtract,
    gradient=lambda node, dy: (dy, -dy),
    emit=lambda e, a, b: e.sub(a, b),
    symbol="-",
    accepts="fi",
    arity=2,
    domains=(Domain(special=(0.0, -0.0, INFINITY, NAN)),),
)

MULTIPLY = define.elementwise(
    "multiply",
    reference=np.multiply,
    gradient=lambda node, dy: (dy * node.sources[1], dy * node.sources[0]),
    emit=lambda e, a, b: e.mul(a, b),
    symbol="*",
    accepts="fi",
    arity=2,
    commutative=True,
    domains=(Domain(special=(0.0, -0.0, INFINITY, NAN)),),
)


def _divide_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    da = dy / node.sources[1]
    return da, -(da * node)


TRUE_DIVIDE = define.elementwise(
    "true_divide",
    reference=np.true_divide,
    gradient=_divide_gradient,
    emit=lambda e, a, b: e.div(a, b),
    symbol="/",
    arity=2,
    cost=4,
    domains=(Domain(special=(0.0, INFINITY)), Domain(0.5, 3.0, special=(0.0, -2.0, INFINITY))),
)

NEGATIVE = define.elementwise(
    "negative",
    reference=np.negative,
    gradient=lambda node, dy: (-dy,),
    emit=lambda e, x: e.neg(x),
    exact=True,
    symbol="-",
    accepts="fi",
    domains=(Domain(special=(0.0, -0.0, INFINITY, NAN)),),
)


SQUARE = define.elementwise(
    "square",
    reference=np.square,
    gradient=lambda node, dy: (dy * 2 * node.sources[0],),
    emit=lambda e, x: e.mul(x, x),
    accepts="fi",
    domains=(Domain(special=(0.0, -0.0, INFINITY, NAN)),),
)


def add(a: Operand, b: Operand) -> Any:
    """Sum, element by element; ``or`` of bools.

    Dtypes are promoted as in NumPy with weak Python scalars; shapes broadcast. Raises ShapeError if they cannot.

    >>> add(kn.array([1.0, 2.0]), 1)  # [2, 3]
    """
    return bitwise_or(a, b) if common_kind(a, b) == "b" else elementwise(ADD, a, b)


def subtract(a: Operand, b: Operand) -> Any:
    """Difference, element by element; raises DtypeError for two bools.

    >>> subtract(kn.array([1.0, 2.0]), 1)  # [0, 1]
    """
    return elementwise(SUBTRACT, a, b)


def multiply(a: Operand, b: Operand) -> Any:
    """Product, element by element; ``and`` of bools.

    >>> multiply(kn.array([1.0, 2.0]), 3)  # [3, 6]
    """
    return bitwise_and(a, b) if common_kind(a, b) == "b" else elementwise(MULTIPLY, a, b)


def true_divide(a: Operand, b: Operand) -> Any:
    """Quotient, element by element, always floating: integers are taken as the default floating dtype.

    >>> true_divide(kn.array([1, 2]), 2)  # [0.5, 1.0]
    """
    return elementwise(TRUE_DIVIDE, a, b)


divide = true_divide


def negative(x: Operand) -> Any:
    """``-x``; raises DtypeError for bools (see ``logical_not``).

    >>> negative(kn.array([1.0, -2.0]))  # [-1, 2]
    """
    return elementwise(NEGATIVE, x)


def positive(x: Operand) -> Any:
    """``+x``: a copy of the value.

    >>> positive(kn.array([1.0, -2.0]))  # [1, -2]
    """
    [node] = to_nodes(x)
    return wrap_like((x,), node)


def reciprocal(x: Operand) -> Any:
    """``1 / x``, always floating.

    >>> reciprocal(kn.array([2.0, 4.0]))  # [0.5, 0.25]
    """
    return true_divide(1, x)


def square(x: Operand) -> Any:
    """``x * x``; bools give int8, as in NumPy.

    >>> square(kn.array([2.0, -3.0]))  # [4, 9]
    """
    return elementwise(SQUARE, cast(x, dtypes.i8) if common_kind(x) == "b" else x)


def abs2(x: Operand) -> Any:
    """The square of the absolute value, Knet's name for ``square``.

    >>> abs2(kn.array([2.0, -3.0]))  # [4, 9]
    """
    return square(x)


# --- magnitude and sign ----------------------------------------------------------------------------------------------


def _emit_absolute(e: Any, x: Any) -> Any:
    if dtypes.is_float(x.dtype):
        return e.abs(x)
    return e.select(e.compare("lt", x, e.constant(0, x.dtype)), e.neg(x), x)


ABSOLUTE = define.elementwise(
    "absolute",
    reference=np.absolute,
    gradient=lambda node, dy: (dy * sign(node.sources[0]),),
    emit=_emit_absolute,
    exact=True,
    accepts="fi",
    domains=(Domain(special=(0.0, -0.0, -INFINITY, NAN)),),
)


def _emit_sign(e: Any, x: Any) -> Any:
    zero, one, minus = (e.constant(v, x.dtype) for v in (0, 1, -1))  # what is unsigned is never below 0
    neither = e.select(e.compare("eq", x, zero), zero, x)  # a positive zero, or NaN
    return e.select(e.compare("gt", x, zero), one, e.select(e.compare("lt", x, zero), minus, neither))


SIGN = define.elementwise(
    "sign",
    reference=np.sign,
    emit=_emit_sign,
    exact=True,
    accepts="fi",
    cost=2,
    domains=(Domain(special=(0.0, -0.0, -INFINITY, NAN)),),
)


def absolute(x: Operand) -> Any:
    """The absolute value; its derivative at 0 is 0.

    >>> absolute(kn.array([-1.5, 2.0]))  # [1.5, 2]
    """
    return positive(x) if common_kind(x) == "b" else elementwise(ABSOLUTE, x)


abs = absolute


def sign(x: Operand) -> Any:
    """-1, 0 (of -0.0 too) or 1; NaN for NaN. Its gradient is zero.

    >>> sign(kn.array([-2.0, 0.0, 3.0]))  # [-1, 0, 1]
    """
    return elementwise(SIGN, x)


# --- the larger and the smaller --------------------------------------------------------------------------------------


def _emit_extreme(predicate: str) -> Any:
    def emit(e: Any, a: Any, b: Any) -> Any:
        first = e.compare(predicate, a, b)
        if dtypes.is_float(a.dtype):
            first = e.or_(first, e.compare("uno", a, a))  # NaN wins, from either side
        return e.select(first, a, b)

    return emit


def _extreme_gradient(wins: Any) -> define.Gradient:
    """The winner takes dy; a tie is shared equally. A NaN has no winner."""

    def gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
        a, b = node.sources
        tied = where(equal(a, b), dy * 0.5, 0)
        return where(wins(a, b), dy, tied), where(wins(b, a), dy, tied)

    return gradient


MAXIMUM = define.elementwise(
    "maximum",
    reference=np.maximum,
    gradient=_extreme_gradient(greater),
    emit=_emit_extreme("gt"),
    exact=True,
    triton="tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    accepts="fi",
    arity=2,
    cost=2,
    domains=(Domain(special=(1.0, INFINITY, NAN)),),
)

MINIMUM = define.elementwise(
    "minimum",
    reference=np.minimum,
    gradient=_extreme_gradient(less),
    emit=_emit_extreme("lt"),
    exact=True,
    triton="tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)",
    accepts="fi",
    arity=2,
    cost=2,
    domains=(Domain(special=(1.0, INFINITY, NAN)),),
)


def maximum(a: Operand, b: Operand) -> Any:
    """The larger, element by element; NaN if either is NaN. Ties share the gradient equally.

    >>> maximum(kn.array([1.0, 5.0]), 3)  # [3, 5]
    """
    return bitwise_or(a, b) if common_kind(a, b) == "b" else elementwise(MAXIMUM, a, b)


def minimum(a: Operand, b: Operand) -> Any:
    """The smaller, element by element; NaN if either is NaN. Ties share the gradient equally.

    >>> minimum(kn.array([1.0, 5.0]), 3)  # [1, 3]
    """
    return bitwise_and(a, b) if common_kind(a, b) == "b" else elementwise(MINIMUM, a, b)


def clip(x: Operand, low: Operand = None, high: Operand = None) -> Any:
    """``x`` kept between two bounds, either of which may be None.

    The gradient passes where x is within the bounds or on them; the bounds have none.

    >>> clip(kn.array([-1.0, 0.5, 2.0]), 0, 1)  # [0, 0.5, 1]
    """
    low, high = (None if _beyond(x, bound, side) else bound for bound, side in ((low, -1), (high, 1)))
    if low is not None:
        low = low if is_scalar(low) else stop_gradient(low)
        x = where(less(x, low), low, x)
    if high is not None:
        high = high if is_scalar(high) else stop_gradient(high)
        x = where(greater(x, high), high, x)
    return x


def _beyond(x: Operand, bound: Operand, side: int) -> bool:
    """Whether a bound is a Python int that no element of an integer array can be past."""
    dtype = common_dtype(x)
    if type(bound) is not int or not dtypes.is_integer(dtype) or is_scalar(x):
        return False
    return bound > np.iinfo(dtype).max if side > 0 else bound < np.iinfo(dtype).min


# --- rounding to integers --------------------------------------------------------------------------------------------

_ROUNDING = (Domain(-3.0, 3.0, special=(0.5, 1.5, -0.5, -1.5, 2.5, -0.0, INFINITY, NAN, 1e10)),)


def _rounding(name: str, reference: Any) -> Op:
    return define.elementwise(
        name,
        reference=reference,
        emit=lambda e, x: getattr(e, name)(x),
        exact=True,
        domains=_ROUNDING,
    )


FLOOR, CEIL = _rounding("floor", np.floor), _rounding("ceil", np.ceil)
TRUNC, RINT = _rounding("trunc", np.trunc), _rounding("rint", np.rint)


def _unless_integer(op: Op, x: Operand) -> Any:
    return elementwise(op, x) if common_kind(x) == "f" else positive(x)


def floor(x: Operand) -> Any:
    """Rounded down; integers stay what they are. Its gradient is zero.

    >>> floor(kn.array([-1.5, 1.5]))  # [-2, 1]
    """
    return _unless_integer(FLOOR, x)


def ceil(x: Operand) -> Any:
    """Rounded up; integers stay what they are. Its gradient is zero.

    >>> ceil(kn.array([-1.5, 1.5]))  # [-1, 2]
    """
    return _unless_integer(CEIL, x)


def trunc(x: Operand) -> Any:
    """Rounded toward zero; integers stay what they are. Its gradient is zero.

    >>> trunc(kn.array([-1.5, 1.5]))  # [-1, 1]
    """
    return _unless_integer(TRUNC, x)


def rint(x: Operand) -> Any:
    """Rounded to the nearest integer, ties to the even one; always floating. Its gradient is zero.

    >>> rint(kn.array([0.5, 1.5, 2.7]))  # [0, 2, 3]
    """
    return elementwise(RINT, x)


def round(x: Operand, decimals: int = 0) -> Any:
    """Rounded to ``decimals`` digits after the point, ties to the even digit. Its gradient is zero.

    Integers keep their dtype; a negative number of digits rounds to tens, hundreds …

    >>> round(kn.array([0.5, 1.5, 2.25]), 1)  # [0.5, 1.5, 2.2]
    """
    if common_kind(x) != "f":
        if decimals >= 0:
            return positive(x)
        return cast(round(cast(x, dtypes.f64), decimals), common_dtype(x))
    if decimals == 0:
        return rint(x)
    power = 10.0 ** (decimals if decimals > 0 else -decimals)
    return rint(x * power) / power if decimals > 0 else rint(x / power) * power


__all__ = [
    "abs", "abs2", "absolute", "add", "ceil", "clip", "divide", "floor", "maximum", "minimum", "multiply",
    "negative", "positive", "reciprocal", "rint", "round", "sign", "square", "subtract", "true_divide", "trunc",
]  # fmt: skip
