"""The gamma family, scaled and inverse error functions, functions of half turns, and sums of logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Op
from knetc.ops import define, special_math, vector_activations, vector_log_sums
from knetc.ops.apply import Operand, composite, elementwise
from knetc.ops.arithmetic import floor, square
from knetc.ops.division import mod
from knetc.ops.logic import equal, less, where
from knetc.ops.transcendental import LN10, bell, exp, ndtr, ndtr_reference, sigmoid
from knetc.runtime.base import dtypes

INFINITY = float("inf")
_EVERYWHERE = (0.0, -0.0, INFINITY, -INFINITY, float("nan"))
_ROOT_PI = math.sqrt(math.pi)


def _function(
    name: str,
    reference: Any,
    gradient: Any,
    *,
    low: float = -3.0,
    high: float = 3.0,
    special: tuple[float, ...] = (),
    cost: int = 30,
    ulp: float = 4.0,
) -> Op:
    """A function of one float; ``gradient(x, y, dy)`` is written with the source, the result and its gradient."""
    return define.elementwise(
        name,
        reference=reference,
        gradient=lambda node, dy: (gradient(node.sources[0], node, dy),),
        emit=getattr(special_math, name),
        cost=cost,
        domains=(Domain(low, high, (*_EVERYWHERE, *special)),),
        ulp=ulp,
    )


# --- the meaning of what NumPy has not, in extended precision --------------------------------------------------------


def _extended(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Compute in long doubles, round once."""

    def reference(x: np.ndarray, **attributes: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(function(np.asarray(x, np.longdouble), **attributes), x.dtype)

    return reference


def _each(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of Python's ``math`` on arrays."""

    def reference(x: np.ndarray) -> np.ndarray:
        values = [function(float(v)) for v in np.ravel(x)]
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).reshape(np.shape(x)).astype(x.dtype)

    return reference


_PI = np.longdouble("3.14159265358979323846264338327950288")


def _sin_cos_pi(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    quarters = np.rint(2 * np.fmod(x, 2))
    angle = (np.fmod(x, 2) - quarters / 2) * _PI
    s, c = np.sin(angle), np.cos(angle)
    turn = np.mod(quarters, 4)
    sine = np.select([turn == 0, turn == 1, turn == 2, turn == 3], [s, c, -s, -c], np.nan)
    cosine = np.select([turn == 0, turn == 1, turn == 2, turn == 3], [c, -s, -c, s], np.nan)
    return np.where(sine == 0, np.copysign(0, x), sine), cosine + 0.0


def _erfcx(x: np.ndarray) -> np.ndarray:
    a = np.maximum(np.abs(x), 2)
    fraction = a
    for k in range(200, 0, -1):
        fraction = a + k / (2 * fraction)
    far = 1 / (fraction * np.sqrt(_PI))
    near = np.exp(x * x) * _each(math.erfc)(x)
    return np.where(np.isnan(x), x, np.where(np.abs(x) < 2, near, np.where(x < 0, 2 * np.exp(x * x) - far, far)))


def _erfcinv(q: np.ndarray) -> np.ndarray:
    """By bisection on what floats there are: slow and sure."""

    def one(v: float) -> float:
        if not 0 <= v <= 2:
            return math.nan
        low, high = -30.0, 30.0
        for _ in range(1100):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (middle, high) if math.erfc(middle) > v else (low, middle)
        return INFINITY if v == 0 else -INFINITY if v == 2 else high

    middle = abs(q - 1) <= 0.5  # where the digits are those of 1 - q
    return np.where(middle, _erfinv(np.where(middle, 1 - q, 0).astype(q.dtype)), _each(one)(q))


def _erfinv(x: np.ndarray) -> np.ndarray:
    def one(v: float) -> float:
        if not -1 < v < 1:
            return v * INFINITY if abs(v) == 1 else math.nan
        low, high = 0.0, 6.0
        for _ in range(1100):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (middle, high) if math.erf(middle) < abs(v) else (low, middle)
        return math.copysign(high if v else 0.0, v)

    return _each(one)(x)


def _gamma(x: float) -> float:
    if x == 0:
        return math.copysign(INFINITY, x)
    try:
        return math.gamma(x)
    except OverflowError:
        return INFINITY
    except ValueError:
        return math.nan


def lgamma_reference(x: np.ndarray) -> np.ndarray:
    reflected = x < 0
    y = np.abs(x)
    product = np.ones_like(y)
    for k in range(16):
        product = product * np.where(y < 16, y + k, 1)
    far = np.where(y < 16, y + 16, y)
    bernoulli = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730)
    series = sum(b / (2 * j * (2 * j - 1) * far ** (2 * j - 1)) for j, b in enumerate(bernoulli, 1))
    value = (far - 0.5) * np.log(far) - far + np.log(2 * _PI) / 2 + series - np.log(product)
    value = np.where((y == 1) | (y == 2), 0, np.where(y == INFINITY, y, value))
    sine = _sin_cos_pi(y)[0]
    mirrored = np.where((sine == 0) | (y == INFINITY), INFINITY, np.log(_PI / (y * np.abs(sine))) - value)
    return np.where(reflected, mirrored, value)


def _digamma(x: np.ndarray) -> np.ndarray:
    reflected = x < 0
    y = np.where(reflected, -x, x)
    total = np.zeros_like(y)
    for k in range(40):
        total += 1 / (y + k)
    far = y + 40
    series = sum(b / (2 * j * far ** (2 * j)) for j, b in enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66), 1))
    value = np.log(far) - 1 / (2 * far) - series - total
    sine, cosine = _sin_cos_pi(y)
    mirrored = np.where(sine == 0, np.nan, value + 1 / y + _PI * cosine / sine)
    result = np.where(reflected, mirrored, value)
    return np.where(x == 0, np.copysign(INFINITY, -x), np.where(x == INFINITY, x, result))


def _polygamma(x: np.ndarray, *, order: int) -> np.ndarray:
    reflected = x < 0
    y = np.where(reflected, 1 - x, x)
    count = 60 + 10 * order
    total = sum((y + k) ** (-(order + 1.0)) for k in reversed(range(count)))
    far = y + count
    tail = far ** (-float(order)) * (1 / np.longdouble(order) + 1 / (2 * far))
    for j, c in enumerate(special_math.tail_coefficients(order, 5), 1):
        tail = tail + c * far ** (-float(order + 2 * j))
    sign = 1 if order % 2 else -1
    value = sign * math.factorial(order) * (total + tail)
    sine, cosine = _sin_cos_pi(x)
    slope = sum(c * (cosine / sine) ** k for k, c in enumerate(special_math.cotangent_derivative(order)))
    mirrored = -sign * value - _PI ** (order + 1) * slope
    pole = np.where(sine == 0, np.inf if order % 2 else np.nan, mirrored)
    result = np.where(reflected, pole, value)
    return np.where(x == INFINITY, sign * 0.0, result)


def _log_ndtr(x: np.ndarray) -> np.ndarray:
    low = np.minimum(x, -1)
    tail = np.log(_erfcx(low * -np.sqrt(np.longdouble(0.5))) * 0.5) - low * low * 0.5
    return np.asarray(np.where(x < -1, tail, np.log1p(-ndtr_reference(-np.maximum(x, -1)))))


# --- the records -----------------------------------------------------------------------------------------------------


def _erfcx_slope(x: Node, y: Node) -> Any:
    """2 x y - 2 / sqrt(pi), far to the right, where nothing is left of that, by its asymptotic series."""
    limit = 26.0 if x.dtype == dtypes.f64 else 6.0
    far = less(limit, x)
    inverse = 1 / where(far, x, limit)
    half = inverse * inverse * 0.5
    series: Any = 1.0
    for k in (13, 11, 9, 7, 5, 3):
        series = 1 - half * k * series
    near = where(far, 0, x * y * 2 - 2 / _ROOT_PI)
    return where(far, half * series * (-2 / _ROOT_PI), near)


EXP10 = _function(
    "exp10",
    lambda x: np.power(x.dtype.type(10), x),
    lambda x, y, dy: dy * (y * LN10),
    special=(2.0, 400.0, -400.0),
    cost=10,
)
SINPI = _function(
    "sinpi",
    _extended(lambda x: _sin_cos_pi(x)[0]),
    lambda x, y, dy: dy * (cospi(x) * math.pi),
    special=(1.0, 2.5, -3.0, 1e30),
    cost=15,
)
COSPI = _function(
    "cospi",
    _extended(lambda x: _sin_cos_pi(x)[1]),
    lambda x, y, dy: -(dy * (sinpi(x) * math.pi)),
    special=(0.5, 1.0, 2.5, -3.0, 1e30),
    cost=15,
)
ERFCX = _function(
    "erfcx",
    _extended(_erfcx),
    lambda x, y, dy: dy * _erfcx_slope(x, y),
    special=(-30.0, 20.0, 1e10),
    ulp=8,
)
ERFINV = _function(
    "erfinv",
    _erfinv,
    lambda x, y, dy: dy * (exp(square(y)) * (_ROOT_PI / 2)),
    low=-0.95,
    high=0.95,
    special=(1.0, -1.0, 2.0, 1e-9),
    ulp=8,
)
ERFCINV = _function(
    "erfcinv",
    _erfcinv,
    lambda x, y, dy: -(dy * (exp(square(y)) * (_ROOT_PI / 2))),
    low=0.05,
    high=1.95,
    special=(2.0, 3.0, 1e-9, 1e-30),
    ulp=16,  # of the reference, which has the error of another erfc
)
LOG_NDTR = define.elementwise(
    "log_ndtr",
    reference=_extended(_log_ndtr),
    gradient=lambda node, dy: (dy * _hazard(node.sources[0]),),
    emit=vector_activations.log_ndtr,
    cost=60,
    domains=(Domain(-4.0, 4.0, (*_EVERYWHERE, -30.0, 9.0)),),
    ulp=8,
)


def _hazard(x: Node) -> Any:
    """The normal distribution's density divided by its probability of less."""
    left = less(x, 0)
    below = math.sqrt(2 / math.pi) / erfcx(where(left, x, 0) * -math.sqrt(0.5))
    return where(left, below, bell(x) * (1 / math.sqrt(2 * math.pi)) / ndtr(where(left, 0, x)))


GAMMA = _function(
    "gamma",
    _each(_gamma),
    lambda x, y, dy: dy * (y * digamma(x)),
    low=0.2,
    high=5.0,
    special=(-1.0, -2.5, 30.0, 200.0),
    cost=60,
    ulp=16,
)
LGAMMA = _function(
    "lgamma",
    _extended(lgamma_reference),
    lambda x, y, dy: dy * digamma(x),
    low=0.2,
    high=5.0,
    special=(1.0, 2.0, -1.0, -0.5, 30.0, 1e10),
    cost=60,
    ulp=16,
)
DIGAMMA = _function(
    "digamma",
    _extended(_digamma),
    lambda x, y, dy: dy * polygamma(1, x),
    low=0.2,
    high=5.0,
    special=(-1.0, -0.5, 30.0, 1e10),
    cost=60,
    ulp=16,
)
POLYGAMMA = define.elementwise(
    "polygamma",
    reference=_extended(_polygamma),
    gradient=lambda node, dy: (dy * polygamma(node["order"] + 1, node.sources[0]),),
    emit=special_math.polygamma,
    cost=60,
    ulp=16,
    samples=[
        define.case(
            f"{dtype}[37]",
            order=order,
            domains=(Domain(0.2, 5.0, (30.0, 1e10, INFINITY, float("nan"), -0.75, -2.25)),),
        )
        for dtype in ("f32", "f64")
        for order in (1, 2, 3)
    ],
)


def _logaddexp_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = node.sources
    difference = where(equal(a, b), 0, a - b)  # of equal infinities too
    return dy * sigmoid(difference), dy * sigmoid(-difference)


LOGADDEXP = define.elementwise(
    "logaddexp",
    reference=np.logaddexp,
    gradient=_logaddexp_gradient,
    emit=vector_log_sums.logaddexp,
    arity=2,
    cost=25,
    domains=(Domain(0.0, 3.0, special=(0.0, 1000.0, INFINITY, -INFINITY, float("nan"))),),
)


def _logaddexp2_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = node.sources
    difference = where(equal(a, b), 0, a - b) * math.log(2)
    return dy * sigmoid(difference), dy * sigmoid(-difference)


LOGADDEXP2 = define.elementwise(
    "logaddexp2",
    reference=np.logaddexp2,
    gradient=_logaddexp2_gradient,
    emit=vector_log_sums.logaddexp2,
    arity=2,
    cost=25,
    domains=(Domain(0.0, 3.0, special=(0.0, 1000.0, INFINITY, -INFINITY, float("nan"))),),
)

# --- plain functions -------------------------------------------------------------------------------------------------


def exp10(x: Operand) -> Any:
    """Ten to the power of x.

    >>> exp10(kn.array([2.0]))  # [100]
    """
    return elementwise(EXP10, x)


def sinpi(x: Operand) -> Any:
    """The sine of x half turns, ``sin(pi * x)`` without the rounding of pi: exactly 0 at whole numbers.

    >>> sinpi(kn.array([0.5, 1.0]))  # [1, 0]
    """
    return elementwise(SINPI, x)


def cospi(x: Operand) -> Any:
    """The cosine of x half turns, ``cos(pi * x)`` without the rounding of pi: exactly 0 at odd halves.

    >>> cospi(kn.array([0.5, 1.0]))  # [0, -1]
    """
    return elementwise(COSPI, x)


def erfcx(x: Operand) -> Any:
    """The scaled complementary error function ``exp(x * x) * erfc(x)``, which does not underflow.

    >>> erfcx(kn.array([0.5]))  # [0.61569035]
    """
    return elementwise(ERFCX, x)


def erfinv(x: Operand) -> Any:
    """The number whose ``erf`` is x; infinite at -1 and 1, NaN outside.

    >>> erfinv(kn.array([0.5]))  # [0.47693628]
    """
    return elementwise(ERFINV, x)


def erfcinv(x: Operand) -> Any:
    """The number whose ``erfc`` is x, accurate where x is small; NaN outside [0, 2].

    >>> erfcinv(kn.array([0.5]))  # [0.47693628]
    """
    return elementwise(ERFCINV, x)


def log_ndtr(x: Operand) -> Any:
    """The logarithm of ``ndtr``, also where that underflows.

    >>> log_ndtr(kn.array([0.0, -100.0]))  # [-0.6931472, -5005.524]
    """
    return elementwise(LOG_NDTR, x)


def gamma(x: Operand) -> Any:
    """The gamma function, at whole numbers the factorial of ``x - 1``; NaN at negative whole numbers.

    >>> gamma(kn.array([5.0, 0.5]))  # [24, 1.7724539]
    """
    return elementwise(GAMMA, x)


def lgamma(x: Operand) -> Any:
    """The logarithm of the absolute value of the gamma function.

    >>> lgamma(kn.array([0.5]))  # [0.5723649]
    """
    return elementwise(LGAMMA, x)


@composite()
def loggamma(x: Operand) -> Any:
    """The logarithm of the gamma function; NaN where that is negative (``lgamma`` takes its absolute value).

    >>> loggamma(kn.array([0.5, -0.5]))  # [0.5723649, nan]
    """
    return where(less(x, 0) & equal(mod(floor(x), 2), 1), math.nan, lgamma(x))


def digamma(x: Operand) -> Any:
    """The derivative of ``lgamma``; NaN at negative whole numbers.

    >>> digamma(kn.array([0.5]))  # [-1.9635100]
    """
    return elementwise(DIGAMMA, x)


def trigamma(x: Operand) -> Any:
    """The derivative of ``digamma``, which is ``polygamma(1, x)``.

    >>> trigamma(kn.array([0.5]))  # [4.934802]
    """
    return polygamma(1, x)


def polygamma(order: int, x: Operand) -> Any:
    """The derivative of ``digamma`` of an order, a Python int; order 0 is ``digamma`` itself.

    Raises ValueError for a negative order.

    >>> polygamma(2, kn.array([0.5]))  # [-16.828796]
    """
    if order < 0:
        raise ValueError(f"polygamma: the order is an int of at least 0, not {order}")
    return elementwise(POLYGAMMA, x, order=int(order)) if order else digamma(x)


def logaddexp(a: Operand, b: Operand) -> Any:
    """``log(exp(a) + exp(b))``; never overflows.

    >>> logaddexp(kn.array([0.0, 1000.0]), 0)  # [0.6931472, 1000]
    """
    return elementwise(LOGADDEXP, a, b)


def logaddexp2(a: Operand, b: Operand) -> Any:
    """``log2(2**a + 2**b)``; never overflows.

    >>> logaddexp2(kn.array([1.0, 2000.0]), 1)  # [2, 2000]
    """
    return elementwise(LOGADDEXP2, a, b)


__all__ = [
    "cospi", "digamma", "erfcinv", "erfcx", "erfinv", "exp10", "gamma", "lgamma", "logaddexp", "logaddexp2",
    "loggamma", "polygamma", "sinpi", "trigamma",
]  # fmt: skip
