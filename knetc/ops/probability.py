"""What probabilities need: the beta function, products with logarithms, entropies, log-odds, normal distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain
from knetc.ops import define, vector_log_sums
from knetc.ops.apply import Operand, cast_node, coerce, composite, elementwise
from knetc.ops.arithmetic import maximum, minimum
from knetc.ops.logic import equal, greater, greater_equal, isnan, less, logical_and, logical_not, where
from knetc.ops.special import erfcinv, erfcx, gamma, lgamma
from knetc.ops.transcendental import erfc, exp, log, log1p
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

_ROOT_HALF = math.sqrt(0.5)

# --- beta ------------------------------------------------------------------------------------------------------------


def _same_floats(name: str, *operands: Operand) -> list[Node]:
    """Operands of one floating dtype and shape."""
    return coerce(name, operands, accepts="f")


def _wide(name: str, *operands: Operand) -> tuple[list[Node], Any]:
    """Operands as float64 of one shape, and the floating dtype that the result is rounded to."""
    nodes = _same_floats(name, *operands)
    return [cast_node(node, dtypes.f64) for node in nodes], nodes[0].dtype


def _stirling_rest(x: Node) -> Node:
    """``lgamma(x)`` less the beginning of Stirling's series, for x from 10 on."""
    square = 1 / (x * x)
    total: Any = 0.0
    for c in (-691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12):
        total = total * square + c
    return total / x  # type: ignore[no-any-return]


def _betaln(a: Node, b: Node) -> Node:
    small, large = minimum(a, b), maximum(a, b)
    usual = lgamma(a) + lgamma(b) - lgamma(a + b)
    far = maximum(large, 10.0)
    near = maximum(small, -9.0)
    both = far + near
    rest = _stirling_rest(far) - _stirling_rest(maximum(both, 10.0))
    apart = lgamma(small) + rest + near * (1 - log(far)) - (both - 0.5) * log1p(near / far)
    return where(logical_and(greater_equal(large, 10), greater(small, 0)), apart, usual)  # type: ignore[no-any-return]


@composite(2)
def betaln(a: Operand, b: Operand) -> Any:
    """The logarithm of the absolute value of the beta function; it does not lose digits where ``a`` or ``b`` is large.

    >>> betaln(kn.array([2.0]), 3.0)  # [-2.4849067]
    """
    nodes, dtype = _wide("betaln", a, b)
    return cast_node(_betaln(*nodes), dtype)


@composite(2)
def beta(a: Operand, b: Operand) -> Any:
    """The beta function, ``gamma(a) * gamma(b) / gamma(a + b)``, also where these overflow.

    >>> beta(kn.array([2.0]), 3.0)  # [0.083333336]
    """
    (x, y), dtype = _wide("beta", a, b)
    usual = gamma(x) * (gamma(y) / gamma(x + y))
    large = logical_and(greater(x + y, 170), greater(minimum(x, y), 0))
    return cast_node(where(large, exp(_betaln(x, y)), usual), dtype)


@composite()
def multigammaln(a: Operand, d: int) -> Any:
    """The logarithm of the gamma function of ``d`` dimensions, for ``a`` above ``(d - 1) / 2``.

    >>> multigammaln(kn.array([3.0]), 2)  # [1.5501949]
    """
    if d < 1:
        raise ShapeError(f"multigammaln: the dimension is an int of at least 1, not {d}")
    [x], dtype = _wide("multigammaln", a)
    total: Any = d * (d - 1) / 4 * math.log(math.pi)
    for place in range(d):
        total = total + lgamma(x - place / 2)
    return cast_node(total, dtype)


# --- products with logarithms ----------------------------------------------------------------------------------------


def _times_log(x: Node, y: Node, function: Any, low: float) -> Node:
    """``x * function(y)``, 0 where x is 0 and the function is not finite, unless y is NaN."""
    inside = logical_and(greater(y, low), less(y, math.inf))
    nothing = equal(x, 0) & logical_not(inside) & logical_not(isnan(y))
    return where(nothing, 0.0, x * function(where(nothing, 1.0, y)))  # type: ignore[no-any-return]


@composite(2)
def xlogy(x: Operand, y: Operand) -> Any:
    """``x * log(y)``, 0 where x is 0, also for y = 0.

    >>> xlogy(kn.array([0.0, 2.0]), kn.array([0.0, 1.0]))  # [0, 0]
    """
    a, b = _same_floats("xlogy", x, y)
    return _times_log(a, b, log, 0.0)


@composite(2)
def xlog1py(x: Operand, y: Operand) -> Any:
    """``x * log1p(y)``, 0 where x is 0, also for y = -1.

    >>> xlog1py(kn.array([0.0, 2.0]), kn.array([-1.0, 0.0]))  # [0, 0]
    """
    a, b = _same_floats("xlog1py", x, y)
    return _times_log(a, b, log1p, -1.0)


@composite()
def entr(x: Operand) -> Any:
    """``-x * log(x)``, what an outcome adds to an entropy: 0 at 0, minus infinity below.

    >>> entr(kn.array([0.0, 0.5]))  # [0, 0.3465736]
    """
    [a] = _same_floats("entr", x)
    known = greater(a, 0)
    inside = where(known, a, 1.0)
    return where(less(a, 0), -math.inf, where(known, -(inside * log(inside)), a))


@composite(2)
def rel_entr(x: Operand, y: Operand) -> Any:
    """``x * log(x / y)``, what an outcome adds to a relative entropy: 0 for x = 0, infinite for y <= 0 or x < 0.

    >>> rel_entr(kn.array([0.0, 0.5]), kn.array([0.5, 0.25]))  # [0, 0.3465736]
    """
    a, b = _same_floats("rel_entr", x, y)
    inside = logical_and(greater(a, 0), greater(b, 0))
    p, q = where(inside, a, 1.0), where(inside, b, 1.0)
    outside = where(logical_and(equal(a, 0), greater_equal(b, 0)), 0.0, where(isnan(a) | isnan(b), math.nan, math.inf))
    return where(inside, p * log(p / q), outside)


@composite(2)
def kl_div(x: Operand, y: Operand) -> Any:
    """``rel_entr(x, y) - x + y``, which is nowhere negative.

    >>> kl_div(kn.array([0.5]), kn.array([0.25]))  # [0.09657359]
    """
    a, b = _same_floats("kl_div", x, y)
    return rel_entr(a, b) - a + b


# --- log-odds --------------------------------------------------------------------------------------------------------


def _log_odds(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        p = np.asarray(x, np.longdouble)
        found = np.where(abs(p - 0.5) < 0.25, 2 * np.arctanh(2 * p - 1), np.log(p) - np.log1p(-p))
        return np.asarray(found, x.dtype)


LOG_ODDS = define.elementwise(
    "log_odds",
    reference=_log_odds,
    gradient=lambda node, dy: (dy / (node.sources[0] * (1 - node.sources[0])),),
    emit=vector_log_sums.log_odds,
    cost=15,
    domains=(Domain(0.05, 0.95, (0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 1e-42, -1e-42, math.inf, -math.inf, math.nan)),),
)


def logit(x: Operand) -> Any:
    """``log(x / (1 - x))``, whose inverse is ``sigmoid``: accurate also near 1/2, infinite at 0 and 1, NaN outside.

    >>> logit(kn.array([0.5, 0.75]))  # [0, 1.0986123]
    """
    return elementwise(LOG_ODDS, x)


# --- the normal distribution -----------------------------------------------------------------------------------------


@composite()
def ndtr(x: Operand) -> Any:
    """The probability that a normal variable of mean 0 and variance 1 is at most ``x``.

    >>> ndtr(kn.array([0.0, 1.0]))  # [0.5, 0.8413447]
    """
    [node], dtype = _wide("ndtr", x)
    return cast_node(0.5 * erfc(node * -_ROOT_HALF), dtype)


@composite()
def log_ndtr(x: Operand) -> Any:
    """The logarithm of ``ndtr``, also where that underflows.

    >>> log_ndtr(kn.array([0.0, -100.0]))  # [-0.6931472, -5005.524]
    """
    [node], dtype = _wide("log_ndtr", x)
    low = less(node, -1)
    left, right = where(low, node, -1.0), where(low, 0.0, node)
    tail = log(0.5 * erfcx(left * -_ROOT_HALF)) - 0.5 * left * left
    return cast_node(where(low, tail, log1p(-0.5 * erfc(right * _ROOT_HALF))), dtype)


@composite()
def ndtri(p: Operand) -> Any:
    """The number whose ``ndtr`` is ``p``: infinite at 0 and 1, NaN outside.

    >>> ndtri(kn.array([0.5, 0.8413447]))  # [0, 1]
    """
    [node], dtype = _wide("ndtri", p)
    return cast_node(erfcinv(2 * node) * -math.sqrt(2), dtype)


__all__ = [
    "beta", "betaln", "entr", "kl_div", "log_ndtr", "logit", "multigammaln", "ndtr", "ndtri", "rel_entr", "xlog1py",
    "xlogy",
]  # fmt: skip
