"""Elementary functions of floats: roots, exponentials, logarithms, powers, trigonometry, erf."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Op
from knetc.ir.record import record
from knetc.ops import define, vector_activations, vector_angles, vector_arcs, vector_errors, vector_math
from knetc.ops.apply import (
    CONSTANT,
    Operand,
    cast_node,
    coerce,
    common_dtype,
    common_kind,
    composite,
    elementwise,
    is_scalar,
    to_nodes,
    wrap_like,
)
from knetc.ops.arithmetic import absolute, multiply, reciprocal, square, true_divide
from knetc.ops.identities import check_range
from knetc.ops.logic import equal, less, where
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError

INFINITY = float("inf")
NAN = float("nan")
_EVERYWHERE = (0.0, -0.0, INFINITY, -INFINITY, NAN)


def _code(name: str) -> Any:
    modules = (vector_math, vector_angles, vector_arcs, vector_errors, vector_activations)
    return next(getattr(m, name) for m in modules if hasattr(m, name))


def _function(
    name: str,
    reference: Any,
    gradient: Any,
    *,
    low: float = -3.0,
    high: float = 3.0,
    special: tuple[float, ...] = (),
    triton: str = "",
    emit: Any = None,
    cost: int = 12,
    ulp: float = 4.0,
    sums_to_products: bool = False,
) -> Op:
    """A function of one float; ``gradient(x, y, dy)`` is written with the source, the result and its gradient."""
    return define.elementwise(
        name,
        reference=reference,
        gradient=lambda node, dy: (gradient(node.sources[0], node, dy),),
        emit=emit or _code(name),
        triton=triton,
        cost=cost,
        domains=(Domain(low, high, (*_EVERYWHERE, *special)),),
        ulp=ulp,
        sums_to_products=sums_to_products,
    )


def _erf(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)
    return result


def _erfc(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.vectorize(math.erfc, otypes=[np.float64])(x).astype(x.dtype)
    return result


def _sigmoid_reference(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small), x.dtype)


# --- roots -----------------------------------------------------------------------------------------------------------

SQRT = _function("sqrt", np.sqrt, lambda x, y, dy: dy * 0.5 / y, low=0.1, emit=lambda e, x: e.sqrt(x), cost=5)
RSQRT = _function(
    "rsqrt",
    lambda x: (1 / np.sqrt(x)).astype(x.dtype),
    lambda x, y, dy: dy * -0.5 * (y * y * y),
    low=0.1,
    triton="tl.rsqrt({0})",
    cost=6,
)
CBRT = _function("cbrt", np.cbrt, lambda x, y, dy: dy / (y * y * 3), low=0.1, special=(-8.0, 27.0))

# --- exponentials and logarithms -------------------------------------------------------------------------------------

LN2, LN10 = math.log(2.0), math.log(10.0)

EXP = _function("exp", np.exp, lambda x, y, dy: dy * y, special=(100.0, -110.0, 1000.0), cost=8, sums_to_products=True)
EXP2 = _function("exp2", np.exp2, lambda x, y, dy: dy * (y * LN2), special=(-160.0, 2000.0), sums_to_products=True)
EXPM1 = _function("expm1", np.expm1, lambda x, y, dy: dy * exp(x), special=(1e-9, 1000.0))
LOG = _function("log", np.log, lambda x, y, dy: dy / x, low=0.1, special=(-1.0, 1.0), cost=10)
LOG2 = _function("log2", np.log2, lambda x, y, dy: dy / (x * LN2), low=0.1, special=(-1.0, 8.0))
LOG10 = _function("log10", np.log10, lambda x, y, dy: dy / (x * LN10), low=0.1, special=(-1.0, 100.0))
LOG1P = _function("log1p", np.log1p, lambda x, y, dy: dy / (x + 1), low=-0.8, special=(-1.0, -2.0, 1e-9))

# --- trigonometry ----------------------------------------------------------------------------------------------------

_UNIT = (1.0, -1.0, 2.0)

SIN = _function("sin", np.sin, lambda x, y, dy: dy * cos(x), triton="tl.sin({0})", special=(100.0,), cost=15)
COS = _function("cos", np.cos, lambda x, y, dy: -(dy * sin(x)), triton="tl.cos({0})", special=(100.0,), cost=15)
TAN = _function(
    "tan",
    np.tan,
    lambda x, y, dy: dy * (y * y + 1),
    low=-1.2,
    high=1.2,
    triton="tl.sin({0}) / tl.cos({0})",
    cost=20,
    ulp=8,
)
ASIN = _function("asin", np.arcsin, lambda x, y, dy: dy * rsqrt((1 - x) * (1 + x)), low=-0.9, high=0.9, special=_UNIT)
ACOS = _function(
    "acos", np.arccos, lambda x, y, dy: -(dy * rsqrt((1 - x) * (1 + x))), low=-0.9, high=0.9, special=_UNIT
)
ATAN = _function("atan", np.arctan, lambda x, y, dy: dy / (x * x + 1))
SINH = _function("sinh", np.sinh, lambda x, y, dy: dy * cosh(x), special=(1e-6, 1000.0))
COSH = _function("cosh", np.cosh, lambda x, y, dy: dy * sinh(x), special=(1000.0,))
# by its result, which is there: in tails that has no digits left, but in a sum of derivatives those do not count
TANH = _function("tanh", np.tanh, lambda x, y, dy: dy * (1 - y * y), special=(1e-6, 1000.0), cost=10)
ASINH = _function("asinh", np.arcsinh, lambda x, y, dy: dy / hypot(x, 1), special=(1e-6, 1e10))
ACOSH = _function(
    "acosh", np.arccosh, lambda x, y, dy: dy * (rsqrt(x - 1) * rsqrt(x + 1)), low=1.2, special=(1.0, 0.5, 1e10)
)
ATANH = _function("atanh", np.arctanh, lambda x, y, dy: dy / ((1 - x) * (1 + x)), low=-0.9, high=0.9, special=_UNIT)

# --- erf and the logistic function -----------------------------------------------------------------------------------

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

ERF = _function(
    "erf",
    _erf,
    lambda x, y, dy: dy * (exp(-square(x)) * _TWO_OVER_ROOT_PI),
    triton="tl.erf({0})",
    special=(1e-6, 10.0),
    cost=12,
)
ERFC = _function(
    "erfc",
    _erfc,
    lambda x, y, dy: dy * (exp(-square(x)) * -_TWO_OVER_ROOT_PI),
    special=(-10.0, 5.0),
    cost=15,
    ulp=8,
)
SIGMOID = _function(
    "sigmoid",
    _sigmoid_reference,
    lambda x, y, dy: dy * (y - y * y),
    special=(1000.0, -1000.0),
)

# --- the normal distribution -----------------------------------------------------------------------------------------

_ROOT_TWO_PI = math.sqrt(2 * math.pi)


def ndtr_reference(x: np.ndarray) -> np.ndarray:
    """By erfc, and what rounding takes from its argument."""
    exact = np.asarray(x, np.longdouble) * -np.sqrt(np.longdouble(0.5))
    rounded = np.asarray(exact, np.float64)
    with np.errstate(all="ignore"):
        lost = np.where(np.isfinite(exact), exact - rounded, 0)
        slope = np.exp(-np.square(rounded)) * (2 / math.sqrt(math.pi))
        return np.asarray((np.vectorize(math.erfc, otypes=[np.float64])(rounded) - slope * lost) * 0.5, x.dtype)


BELL = _function(
    "bell",
    lambda x: np.exp(np.square(x, dtype=np.longdouble) * -0.5).astype(x.dtype),
    lambda x, y, dy: -(dy * y * where(less(absolute(x), 50), x, 0)),  # where y is 0, infinity times it would be NaN
    special=(100.0, -5.0),
)
NDTR = _function(
    "ndtr", ndtr_reference, lambda x, y, dy: dy * (bell(x) * (1 / _ROOT_TWO_PI)), special=(-9.0, 9.0), cost=18
)


def _emit_softplus(e: Any, x: Any) -> Any:
    positive = e.select(e.compare("lt", x, e.constant(0.0, x.dtype)), e.constant(0.0, x.dtype), x)
    return e.add(positive, vector_math.log1p(e, vector_math.exp(e, e.neg(e.abs(x)))))


SOFTPLUS = _function(
    "softplus",
    lambda x: np.logaddexp(x, np.zeros((), x.dtype)),
    lambda x, y, dy: dy * sigmoid(x),
    emit=_emit_softplus,
    special=(1000.0, -1000.0),
    cost=20,
)

# --- functions of two arguments --------------------------------------------------------------------------------------


def _atan2_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    y, x = node.sources
    radius = hypot(y, x)  # its square might be out of range
    part = dy / radius
    return part * (x / radius), -(part * (y / radius))


ATAN2 = define.elementwise(
    "atan2",
    reference=np.arctan2,
    gradient=_atan2_gradient,
    emit=vector_arcs.atan2,
    arity=2,
    cost=25,
    domains=(Domain(0.2, 3.0, special=(0.0, -1.0, INFINITY)),),
)


def _emit_hypot(e: Any, a: Any, b: Any) -> Any:
    """Scaled by the larger side, so that no square overflows."""
    a, b = e.abs(a), e.abs(b)
    a_larger = e.compare("gt", a, b)
    larger, smaller = e.select(a_larger, a, b), e.select(a_larger, b, a)
    zero, one, infinity = (e.constant(v, a.dtype) for v in (0.0, 1.0, INFINITY))
    ratio = e.select(e.compare("eq", larger, zero), smaller, e.div(smaller, larger))  # 0, or NaN
    finite = e.mul(larger, e.sqrt(e.fma(ratio, ratio, one)))
    infinite = e.or_(e.compare("eq", a, infinity), e.compare("eq", b, infinity))
    return e.select(infinite, infinity, finite)


def _hypot_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    nothing = equal(node, 0)
    radius = where(nothing, 1, node)
    return dy * (node.sources[0] / radius), dy * (node.sources[1] / radius)


HYPOT = define.elementwise(
    "hypot",
    reference=np.hypot,
    gradient=_hypot_gradient,
    emit=_emit_hypot,
    arity=2,
    cost=15,
    domains=(Domain(0.2, 3.0, special=(0.0, 1e30, INFINITY)),),
)


def _power_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    base, exponent = node.sources
    if exponent.op is CONSTANT:
        p = exponent["value"]
        return (None if p == 0 else dy * (power(base, p - 1) * p)), None
    # x^0 is flat even at 0, where p x^(p-1) is 0 * inf; 0^p is flat for positive p, where y log x is 0 * -inf
    to_base = where(equal(exponent, 0), 0, exponent * power(base, exponent - 1))
    to_exponent = where(equal(base, 0), 0, node * log(base))
    return dy * to_base, dy * to_exponent


POWER = define.elementwise(
    "power",
    reference=np.power,
    gradient=_power_gradient,
    emit=vector_math.pow,
    symbol="**",
    arity=2,
    cost=30,
    domains=(Domain(0.2, 3.0, special=(0.0, 1.0, -2.0, INFINITY)), Domain(-2.0, 2.0, special=(0.0, 1.0, 2.0, -3.0))),
    ulp=8,
)


_USUAL_POWER_BITS = 6
"""Exponents below 2**6 are multiplied out; larger ones, which leave little of most bases, take a slower way."""


def _integer_power_reference(base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    return np.where(exponent < 0, 0, np.power(base, np.maximum(exponent, 0))).astype(base.dtype)


def _power_by_squaring(e: Any, base: Any, exponent: Any, bits: int) -> Any:
    """Bit after bit of the exponent; wraps as all integer arithmetic does."""
    zero, result, factor = e.constant(0, base.dtype), e.constant(1, base.dtype), base
    for bit in range(bits):
        taken = e.compare("ne", e.and_(exponent, e.constant(1 << bit, base.dtype)), zero)
        result = e.select(taken, e.mul(result, factor), result)
        factor = e.mul(factor, factor)
    return result


def _large_power(e: Any, base: Any, exponent: Any) -> Any:
    return _power_by_squaring(e, base, exponent, 8 * base.dtype.itemsize - (base.dtype.kind == "i"))


def _emit_integer_power(e: Any, base: Any, exponent: Any) -> Any:
    """Negative exponents, which ``power`` keeps away, give 0."""
    zero = e.constant(0, base.dtype)
    result = _power_by_squaring(e, base, exponent, _USUAL_POWER_BITS)
    large = e.compare("ge", exponent, e.constant(1 << _USUAL_POWER_BITS, base.dtype))
    result = e.rarely("large_power", large, result, _large_power, base, exponent)
    return e.select(e.compare("lt", exponent, zero), zero, result)


INTEGER_POWER = define.elementwise(
    "integer_power",
    reference=_integer_power_reference,
    emit=_emit_integer_power,
    accepts="i",
    arity=2,
    cost=20,
    samples=[
        define.case(f"{dtype}[67]", f"{dtype}[67]", domains=(Domain(-4, 4), Domain(-3, 140)))
        for dtype in ("i32", "i64", "i8", "u8", "u16", "u64")
    ],
)


_NEGATIVE = (
    "power: integers cannot be raised to a negative power ({value}); make the base floating, for example with "
    "x.astype('float32')"
)


def power(base: Operand, exponent: Operand) -> Any:
    """``base ** exponent``, element by element; NaN for a negative float with a fraction as its exponent.

    Whole exponents given as Python numbers become products. Integer arrays keep their dtype, wrap around and take no
    negative exponents: they raise DtypeError, for an element of an array when the program runs. The derivative with
    respect to the base is 0 for exponent 0; that with respect to the exponent is 0 for base 0 and NaN for negative
    bases.

    >>> power(kn.array([2.0, 3.0]), 3)  # [8, 27]
    """
    if type(exponent) in (bool, int, float) and not is_scalar(base):
        simple = _simple_power(base, exponent)
        if simple is not None:
            return simple
    if common_kind(base, exponent) == "f":
        return elementwise(POWER, base, exponent)
    if type(exponent) is int and exponent < 0:
        raise DtypeError(_NEGATIVE.format(value=exponent))
    base_node, exponent_node = coerce("power", (base, exponent), accepts="i")
    if exponent_node.dtype.kind == "i" and exponent_node.op is not CONSTANT:
        exponent_node = check_range(
            exponent_node, 0, 1 << 8 * exponent_node.dtype.itemsize - 1, _NEGATIVE, "DtypeError"
        )
    return wrap_like((base, exponent), record(INTEGER_POWER, (base_node, exponent_node)))


pow = power


def _simple_power(base: Operand, exponent: bool | int | float) -> Any:
    """Powers that are cheaper as products or quotients; None for the others."""
    floating = common_kind(base) == "f"
    if isinstance(exponent, float) and not floating:
        [node] = to_nodes(base)
        return power(wrap_like((base,), true_divide(node, 1)), exponent)
    if exponent in (1, 2, 3, 4) or (not floating and exponent >= 1):
        return _product_power(base, exponent)
    if floating and exponent == -1:
        return reciprocal(base)
    return None


def _product_power(base: Operand, exponent: bool | int | float) -> Any:
    """``base`` multiplied with itself, by squaring, bit after bit of a whole exponent of at least 1."""
    [node] = to_nodes(base)
    factor = cast_node(node, common_dtype(base, exponent))
    exponent = int(exponent)
    factors = []
    while exponent:
        if exponent & 1:
            factors.append(factor)
        exponent >>= 1
        factor = square(factor) if exponent else factor
    return wrap_like((base,), reduce(multiply, factors))


# --- plain functions -------------------------------------------------------------------------------------------------


def sqrt(x: Operand) -> Any:
    """The square root; NaN of negative numbers.

    >>> sqrt(kn.array([4.0, 9.0]))  # [2, 3]
    """
    return elementwise(SQRT, x)


def rsqrt(x: Operand) -> Any:
    """One over the square root.

    >>> rsqrt(kn.array([4.0]))  # [0.5]
    """
    return elementwise(RSQRT, x)


def cbrt(x: Operand) -> Any:
    """The cube root, of negative numbers too.

    >>> cbrt(kn.array([-8.0, 27.0]))  # [-2, 3]
    """
    return elementwise(CBRT, x)


def exp(x: Operand) -> Any:
    """The exponential function.

    >>> exp(kn.array([0.0, 1.0]))  # [1, 2.7182817]
    """
    return elementwise(EXP, x)


def exp2(x: Operand) -> Any:
    """Two to the power of x.

    >>> exp2(kn.array([3.0]))  # [8]
    """
    return elementwise(EXP2, x)


def expm1(x: Operand) -> Any:
    """``exp(x) - 1``, accurate where x is small.

    >>> expm1(kn.array([1e-9]))  # [1e-9]
    """
    return elementwise(EXPM1, x)


def log(x: Operand, base: Operand = None) -> Any:
    """The natural logarithm, or that to a base; -inf at 0, NaN below.

    >>> log(kn.array([1.0, 8.0]), 2)  # [0, 3]
    """
    if base is None:
        return elementwise(LOG, x)
    return _log_to_base(x, base)


@composite(2)
def _log_to_base(x: Operand, base: Operand) -> Any:
    """In float64, as the rounding of two logarithms is more than float32 can do without."""
    nodes = coerce("log", (x, base), accepts="f")
    numerator, divisor = (log2(cast_node(node, dtypes.f64)) for node in nodes)
    return cast_node(true_divide(numerator, divisor), nodes[0].dtype)


def log2(x: Operand) -> Any:
    """The logarithm to base 2.

    >>> log2(kn.array([8.0]))  # [3]
    """
    return elementwise(LOG2, x)


def log10(x: Operand) -> Any:
    """The logarithm to base 10.

    >>> log10(kn.array([100.0]))  # [2]
    """
    return elementwise(LOG10, x)


def log1p(x: Operand) -> Any:
    """``log(1 + x)``, accurate where x is small.

    >>> log1p(kn.array([1e-9]))  # [1e-9]
    """
    return elementwise(LOG1P, x)


def sin(x: Operand) -> Any:
    """The sine.

    >>> sin(kn.array([0.5]))  # [0.47942555]
    """
    return elementwise(SIN, x)


def cos(x: Operand) -> Any:
    """The cosine.

    >>> cos(kn.array([0.5]))  # [0.87758255]
    """
    return elementwise(COS, x)


def tan(x: Operand) -> Any:
    """The tangent.

    >>> tan(kn.array([0.5]))  # [0.5463025]
    """
    return elementwise(TAN, x)


def asin(x: Operand) -> Any:
    """The angle in [-pi/2, pi/2] whose sine is x; NaN outside [-1, 1].

    >>> asin(kn.array([0.5]))  # [0.5235988]
    """
    return elementwise(ASIN, x)


def acos(x: Operand) -> Any:
    """The angle in [0, pi] whose cosine is x; NaN outside [-1, 1].

    >>> acos(kn.array([0.5]))  # [1.0471976]
    """
    return elementwise(ACOS, x)


def atan(x: Operand) -> Any:
    """The angle in [-pi/2, pi/2] whose tangent is x.

    >>> atan(kn.array([0.5]))  # [0.4636476]
    """
    return elementwise(ATAN, x)


def sinh(x: Operand) -> Any:
    """The hyperbolic sine.

    >>> sinh(kn.array([0.5]))  # [0.5210953]
    """
    return elementwise(SINH, x)


def cosh(x: Operand) -> Any:
    """The hyperbolic cosine.

    >>> cosh(kn.array([0.5]))  # [1.127626]
    """
    return elementwise(COSH, x)


def tanh(x: Operand) -> Any:
    """The hyperbolic tangent.

    >>> tanh(kn.array([0.5]))  # [0.46211717]
    """
    return elementwise(TANH, x)


def asinh(x: Operand) -> Any:
    """The number whose hyperbolic sine is x.

    >>> asinh(kn.array([0.5]))  # [0.48121184]
    """
    return elementwise(ASINH, x)


def acosh(x: Operand) -> Any:
    """The number at least 0 whose hyperbolic cosine is x; NaN below 1.

    >>> acosh(kn.array([1.5]))  # [0.9624237]
    """
    return elementwise(ACOSH, x)


def atanh(x: Operand) -> Any:
    """The number whose hyperbolic tangent is x; NaN outside [-1, 1].

    >>> atanh(kn.array([0.5]))  # [0.54930615]
    """
    return elementwise(ATANH, x)


def erf(x: Operand) -> Any:
    """The error function.

    >>> erf(kn.array([0.5]))  # [0.5204999]
    """
    return elementwise(ERF, x)


def erfc(x: Operand) -> Any:
    """One less the error function, accurate where it is small.

    >>> erfc(kn.array([0.5]))  # [0.4795001]
    """
    return elementwise(ERFC, x)


def ndtr(x: Operand) -> Any:
    """The probability that a normal variable of mean 0 and variance 1 is at most ``x``.

    >>> ndtr(kn.array([0.0, 1.0]))  # [0.5, 0.8413447]
    """
    return elementwise(NDTR, x)


def bell(x: Operand) -> Any:
    """``exp(-x * x / 2)``, accurate also where it is nearly 0.

    >>> bell(kn.array([0.0, 1.0]))  # [1, 0.60653067]
    """
    return elementwise(BELL, x)


def sigmoid(x: Operand) -> Any:
    """The logistic function ``1 / (1 + exp(-x))``; never overflows.

    >>> sigmoid(kn.array([0.0, 1000.0]))  # [0.5, 1]
    """
    return elementwise(SIGMOID, x)


def softplus(x: Operand) -> Any:
    """``log(1 + exp(x))``; never overflows.

    >>> softplus(kn.array([0.0, 1000.0]))  # [0.6931472, 1000]
    """
    return elementwise(SOFTPLUS, x)


sigm = sigmoid


def atan2(y: Operand, x: Operand) -> Any:
    """The angle of the point (x, y), in [-pi, pi].

    >>> atan2(kn.array([1.0]), kn.array([-1.0]))  # [2.3561945]
    """
    return elementwise(ATAN2, y, x)


def hypot(a: Operand, b: Operand) -> Any:
    """``sqrt(a*a + b*b)`` without overflow; the gradient at (0, 0) is 0.

    >>> hypot(kn.array([3.0]), kn.array([4.0]))  # [5]
    """
    return elementwise(HYPOT, a, b)


__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "erf", "erfc", "exp", "exp2",
    "expm1", "hypot", "log", "log1p", "log2", "log10", "pow", "power", "rsqrt", "sigm", "sigmoid", "sin", "sinh",
    "softplus", "sqrt", "tan", "tanh",
]  # fmt: skip
