"""What each public function of numbers is, by mpmath, for tests and ``benchmarks/accuracy.py``.

A function's arguments are from all over its dtype, more of them where most functions have their lives, and densely
about its hard points: zeros, poles, the ends of its domain, where one formula follows another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
from mpmath import mp
from vector_math_cases import errors

import knetc as kn

mp.dps = 60
INF, NAN, PI = math.inf, math.nan, math.pi
Number = Any  # of mpmath


@dataclass(frozen=True)
class Exact:
    """A public function, what it is exactly, and where to look at it."""

    function: Callable[..., Any]
    """Of knetc's arrays."""
    value: Callable[..., Any]
    """Of mpmath's finite numbers; what is complex there is NaN here."""
    ends: tuple[float, ...] = ()
    """Of one argument: the values at 0, -0, inf and -inf."""
    hard: tuple[float, ...] = ()
    """Arguments that others are dense about."""
    within: tuple[float, float] = (-INF, INF)
    """Where arguments are."""
    within2: tuple[float, float] = (-INF, INF)
    """Where second arguments are."""
    arity: int = 1
    like: Callable[[Any, Any], Any] | None = None
    """Of two arguments: the function by NumPy, for special values."""
    most: tuple[float, float] = (2.0, 4.0)
    """The greatest errors allowed in float32 and float64."""
    angle: bool = False
    """Whether it has as many digits as the argument has in front of its point."""


EIGHT = (8.0, 8.0)


def _real_root(x: Number) -> Number:
    return mp.sign(x) * mp.cbrt(abs(x))


def _lgamma(x: Number) -> Number:
    if x > 0:
        return mp.loggamma(x)
    if x == mp.floor(x):
        return mp.inf
    with mp.workprec(mp.prec + 2 * max(0, mp.mag(x))):
        return mp.log(mp.pi / abs(x * mp.sinpi(x))) - mp.loggamma(-x)


def _poly(order: int) -> Callable[[Number], Number]:
    def value(x: Number) -> Number:
        if x < 0 and x == mp.floor(x):
            return mp.inf if order % 2 else mp.nan
        with mp.workprec(mp.prec + 2 * max(0, mp.mag(x))):
            return mp.re(mp.psi(order, x))

    return value


def _gamma(x: Number) -> Number:
    if x < 0 and x == mp.floor(x):
        return mp.nan
    return mp.inf if x > 300 else mp.mpf(0) if x < -300 else mp.gamma(x)


def _erfcx(x: Number) -> Number:
    if x < -40:
        return mp.inf
    if x < 1000:
        return mp.exp(x * x) * mp.erfc(x)
    z = 1 / (2 * x * x)
    return (1 - z + 3 * z * z - 15 * z**3 + 105 * z**4 - 945 * z**5) / (x * mp.sqrt(mp.pi))


def _log_ndtr(x: Number) -> Number:
    if x > 0:
        return mp.log1p(-_ndtr(-x))
    if x > -1000:
        return mp.log(mp.erfc(-x / mp.sqrt(2)) / 2)
    return -x * x / 2 + mp.log(_erfcx(-x / mp.sqrt(2)) / 2)


def _ndtr(x: Number) -> Number:
    return mp.erfc(-x / mp.sqrt(2)) / 2 if x > -60 else mp.mpf(0)


def _erfcinv(q: Number) -> Number:
    """By Newton's method on the logarithm, as 1 - q has too few digits."""
    if not 0 < q < 2:
        return mp.mpf({0: INF, 2: -INF}.get(float(q), NAN))
    if q >= 0.1:
        return mp.erfinv(1 - q) if q != 1 else mp.mpf(0)
    y = mp.sqrt(-mp.log(q))
    for _ in range(60):
        value = mp.erfc(y)
        step = mp.log(value / q) * value * mp.exp(y * y) * mp.sqrt(mp.pi) / 2
        y += step
        if abs(step) < mp.mpf(10) ** -50:
            break
    return y


def _erfinv(x: Number) -> Number:
    return mp.erfinv(x) if abs(x) < 1 else mp.inf * x if abs(x) == 1 else mp.nan


def _sigmoid(x: Number) -> Number:
    return 1 / (1 + mp.exp(-x))


def _softplus(x: Number) -> Number:
    return max(x, mp.mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def _gelu(x: Number) -> Number:
    return x * _ndtr(x)


def _expm1_below(scale: Number, alpha: Number) -> Callable[[Number], Number]:
    return lambda x: scale * (x if x > 0 else alpha * mp.expm1(x))


def _degrees(function: Callable[[Number], Number]) -> Callable[[Number], Number]:
    """Of degrees, by what is left of a turn, so that multiples of 90 are exact."""
    return lambda x: function(mp.sign(x) * (mp.fmod(abs(x), 360) or 360) / 180)


def _quotient(above: Callable[[Number], Number], below: Callable[[Number], Number]) -> Callable[[Number], Number]:
    """Of functions that are odd or even; a zero below has the sign of an odd function, or none."""

    def value(x: Number) -> Number:
        divisor = below(x)
        if divisor:
            return above(x) / divisor
        return mp.inf * above(x) * (mp.sign(x) if below(mp.mpf("0.1")) != below(mp.mpf("-0.1")) else 1)

    return value


def _one(x: Number) -> Number:
    return mp.mpf(1)


def _power(x: Number, y: Number) -> Number:
    if y == 0 or x == 1:
        return mp.mpf(1)
    whole, odd = y == mp.floor(y), y == mp.floor(y) and mp.floor(y / 2) * 2 != y
    if x < 0 and not whole:
        return mp.nan
    sign = -1 if x < 0 and odd else 1
    if x == 0:
        return mp.inf if y < 0 else mp.mpf(0)
    exponent = y * mp.log(abs(x))
    return sign * (mp.inf if exponent > 1e4 else mp.mpf(0) if exponent < -1e4 else mp.exp(exponent))


def _logaddexp(x: Number, y: Number, unit: Number = 1) -> Number:
    large, small = max(x, y) * unit, min(x, y) * unit
    if large - small > 3000:
        return max(x, y)
    with mp.workprec(mp.prec + 200):
        return (large + mp.log1p(mp.exp(small - large))) / unit


def _betaln(a: Number, b: Number) -> Number:
    with mp.workprec(mp.prec + 2 * max(0, mp.mag(a), mp.mag(b))):
        return _lgamma(a) + _lgamma(b) - _lgamma(a + b)


def _beta(a: Number, b: Number) -> Number:
    value = _betaln(a, b)
    if value < -2000:
        return mp.mpf(0)
    sign = 1
    for x in (a, b, a + b):
        if x < 0 and int(mp.floor(x)) % 2:
            sign = -sign
    return sign * mp.exp(value)


def _multigammaln(x: Number) -> Number:
    return mp.mpf(3) / 2 * mp.log(mp.pi) + sum(_lgamma(x - mp.mpf(k) / 2) for k in range(3)) if x > 1 else mp.inf


def _mod2pi(x: Number) -> Number:
    turn = 2 * mp.pi
    return x - turn * mp.floor(x / turn)


def _rem2pi(x: Number) -> Number:
    turn = 2 * mp.pi
    return x - turn * mp.nint(x / turn)


def _log_or_nan(x: Number) -> Number:
    return mp.log(x) if x > 0 else mp.mpf(-INF) if x == 0 else mp.nan


def _xlogy(x: Number, y: Number) -> Number:
    return mp.mpf(0) if x == 0 else x * _log_or_nan(y)


def _xlog1py(x: Number, y: Number) -> Number:
    return mp.mpf(0) if x == 0 else x * (mp.log1p(y) if y > -1 else mp.mpf(-INF) if y == -1 else mp.nan)


def _entr(x: Number) -> Number:
    return -x * mp.log(x) if x > 0 else mp.mpf(-INF) if x < 0 else mp.mpf(0)


def _rel_entr(x: Number, y: Number) -> Number:
    if x > 0 and y > 0:
        return x * mp.log(x / y)
    return mp.mpf(0) if x == 0 and y >= 0 else mp.inf


def _kl_div(x: Number, y: Number) -> Number:
    value = _rel_entr(x, y)
    with mp.workprec(mp.prec + 200):
        return _rel_entr(x, y) - x + y if mp.isfinite(value) else value


def _mod(x: Number, y: Number) -> Number:
    return _exact_mod(x, y) if y else mp.nan


def _exact_mod(x: Number, y: Number) -> Number:
    with mp.workprec(4500):
        return x - y * mp.floor(x / y)


def _fmod(x: Number, y: Number) -> Number:
    return mp.sign(x) * _exact_mod(abs(x), abs(y)) if y else mp.nan


def _floor_divide(x: Number, y: Number) -> Number:
    if not y:
        return mp.nan
    with mp.workprec(4500):
        return mp.floor(x / y)


_ODD = (0.0, -0.0, INF, -INF)
_TURNS = tuple(PI / 2 * k for k in (1, 2, 3, 4, 7, 100, 12345))

# fmt: off
# ruff: noqa: E501
UNARY: dict[str, Exact] = {
    "negative": Exact(lambda x: -x, lambda x: -x, (-0.0, 0.0, -INF, INF)),
    "abs": Exact(kn.abs, abs, (0.0, 0.0, INF, INF)),
    "square": Exact(kn.square, lambda x: x * x, (0.0, 0.0, INF, INF)),
    "reciprocal": Exact(kn.reciprocal, lambda x: 1 / x, (INF, -INF, 0.0, -0.0)),
    "sqrt": Exact(kn.sqrt, mp.sqrt, (0.0, -0.0, INF, NAN)),
    "rsqrt": Exact(kn.rsqrt, lambda x: 1 / mp.sqrt(x), (INF, -INF, 0.0, NAN)),
    "cbrt": Exact(kn.cbrt, _real_root, _ODD),
    "exp": Exact(kn.exp, mp.exp, (1.0, 1.0, INF, 0.0), (88.7, -87.3, -103.9, 709.7, -708.3, -745.1)),
    "exp2": Exact(
        kn.exp2, lambda x: mp.power(2, x), (1.0, 1.0, INF, 0.0), (128.0, -126.0, -149.0, 1024.0, -1022.0, -1074.0)
    ),
    "exp10": Exact(
        kn.exp10, lambda x: mp.power(10, x), (1.0, 1.0, INF, 0.0), (38.5, -37.9, -45.0, 308.2, -307.6, -323.5)
    ),
    "expm1": Exact(kn.expm1, mp.expm1, (0.0, -0.0, INF, -1.0), (0.0, 88.7, 709.7, -17.0, -37.0)),
    "log": Exact(kn.log, mp.log, (-INF, -INF, INF, NAN), (1.0,)),
    "log2": Exact(kn.log2, lambda x: mp.log(x, 2), (-INF, -INF, INF, NAN), (1.0,)),
    "log10": Exact(kn.log10, mp.log10, (-INF, -INF, INF, NAN), (1.0,)),
    "log1p": Exact(kn.log1p, mp.log1p, (0.0, -0.0, INF, NAN), (0.0, -1.0)),
    "sin": Exact(kn.sin, mp.sin, (0.0, -0.0, NAN, NAN), _TURNS, angle=True),
    "cos": Exact(kn.cos, mp.cos, (1.0, 1.0, NAN, NAN), _TURNS, angle=True),
    "tan": Exact(kn.tan, mp.tan, (0.0, -0.0, NAN, NAN), _TURNS, angle=True),
    "sec": Exact(kn.sec, mp.sec, (1.0, 1.0, NAN, NAN), _TURNS, angle=True),
    "csc": Exact(kn.csc, mp.csc, (INF, -INF, NAN, NAN), _TURNS, angle=True),
    "cot": Exact(kn.cot, mp.cot, (INF, -INF, NAN, NAN), _TURNS, angle=True),
    "asin": Exact(kn.asin, mp.asin, (0.0, -0.0, NAN, NAN), (1.0, -1.0, 0.5)),
    "acos": Exact(kn.acos, mp.acos, (PI / 2, PI / 2, NAN, NAN), (1.0, -1.0, 0.5)),
    "atan": Exact(kn.atan, mp.atan, (0.0, -0.0, PI / 2, -PI / 2), (1.0,)),
    "asec": Exact(kn.asec, mp.asec, (NAN, NAN, PI / 2, PI / 2), (1.0, -1.0)),
    "acsc": Exact(kn.acsc, mp.acsc, (NAN, NAN, 0.0, -0.0), (1.0, -1.0)),
    "acot": Exact(kn.acot, mp.acot, (PI / 2, -PI / 2, 0.0, -0.0), (1.0, -1.0)),
    "sinh": Exact(kn.sinh, mp.sinh, _ODD, (0.0, 89.4, 710.4)),
    "cosh": Exact(kn.cosh, mp.cosh, (1.0, 1.0, INF, INF), (0.0, 89.4, 710.4)),
    "tanh": Exact(kn.tanh, mp.tanh, (0.0, -0.0, 1.0, -1.0), (0.0, 9.0, 19.0)),
    "sech": Exact(kn.sech, mp.sech, (1.0, 1.0, 0.0, 0.0), (0.0, 89.4, 104.0, 710.4, 745.0)),
    "csch": Exact(kn.csch, mp.csch, (INF, -INF, 0.0, -0.0), (0.0, 89.4, 104.0, 710.4, 745.0)),
    "coth": Exact(kn.coth, mp.coth, (INF, -INF, 1.0, -1.0), (0.0, 9.0, 19.0)),
    "asinh": Exact(kn.asinh, mp.asinh, _ODD, (0.0, 1.0)),
    "acosh": Exact(kn.acosh, mp.acosh, (NAN, NAN, INF, NAN), (1.0,)),
    "atanh": Exact(kn.atanh, mp.atanh, (0.0, -0.0, NAN, NAN), (0.0, 1.0, -1.0)),
    "asech": Exact(kn.asech, mp.asech, (INF, INF, NAN, NAN), (1.0,)),
    "acsch": Exact(kn.acsch, mp.acsch, (INF, -INF, 0.0, -0.0), (1.0,)),
    "acoth": Exact(kn.acoth, mp.acoth, (NAN, NAN, 0.0, -0.0), (1.0, -1.0)),
    "sinpi": Exact(kn.sinpi, mp.sinpi, (0.0, -0.0, NAN, NAN), (0.25, 0.5, 1.0, 2.0, 101.0)),
    "cospi": Exact(kn.cospi, mp.cospi, (1.0, 1.0, NAN, NAN), (0.25, 0.5, 1.5, 1.0, 100.5)),
    "sinc": Exact(kn.sinc, lambda x: mp.sinpi(x) / (mp.pi * x), (1.0, 1.0, 0.0, 0.0), (1.0, 2.0, 101.0)),
    "sind": Exact(kn.sind, _degrees(mp.sinpi), (0.0, -0.0, NAN, NAN), (30.0, 45.0, 90.0, 180.0, 360.0, 36000.0)),
    "cosd": Exact(kn.cosd, _degrees(mp.cospi), (1.0, 1.0, NAN, NAN), (30.0, 45.0, 90.0, 270.0, 180.0, 36090.0)),
    "tand": Exact(
        kn.tand, _degrees(_quotient(mp.sinpi, mp.cospi)), (0.0, -0.0, NAN, NAN), (45.0, 90.0, 180.0, 270.0, 36090.0)
    ),
    "secd": Exact(kn.secd, _degrees(_quotient(_one, mp.cospi)), (1.0, 1.0, NAN, NAN), (90.0, 180.0)),
    "cscd": Exact(kn.cscd, _degrees(_quotient(_one, mp.sinpi)), (INF, -INF, NAN, NAN), (90.0, 180.0)),
    "cotd": Exact(kn.cotd, _degrees(_quotient(mp.cospi, mp.sinpi)), (INF, -INF, NAN, NAN), (90.0, 180.0)),
    "asind": Exact(kn.asind, lambda x: mp.degrees(mp.asin(x)), (0.0, -0.0, NAN, NAN), (1.0, -1.0, 0.5)),
    "acosd": Exact(kn.acosd, lambda x: mp.degrees(mp.acos(x)), (90.0, 90.0, NAN, NAN), (1.0, -1.0, 0.5)),
    "atand": Exact(kn.atand, lambda x: mp.degrees(mp.atan(x)), (0.0, -0.0, 90.0, -90.0), (1.0,)),
    "asecd": Exact(kn.asecd, lambda x: mp.degrees(mp.asec(x)), (NAN, NAN, 90.0, 90.0), (1.0, -1.0)),
    "acscd": Exact(kn.acscd, lambda x: mp.degrees(mp.acsc(x)), (NAN, NAN, 0.0, -0.0), (1.0, -1.0)),
    "acotd": Exact(kn.acotd, lambda x: mp.degrees(mp.acot(x)), (90.0, -90.0, 0.0, -0.0), (1.0,)),
    "degrees": Exact(kn.degrees, mp.degrees, _ODD),
    "radians": Exact(kn.radians, mp.radians, _ODD),
    "mod2pi": Exact(kn.mod2pi, _mod2pi, (0.0, -0.0, NAN, NAN), (2 * PI, 4 * PI, PI), angle=True),
    "rem2pi": Exact(kn.rem2pi, _rem2pi, (0.0, -0.0, NAN, NAN), (2 * PI, 4 * PI, 3 * PI, PI), angle=True),
    "erf": Exact(kn.erf, mp.erf, (0.0, -0.0, 1.0, -1.0), (0.0, 3.8, 5.9)),
    "erfc": Exact(kn.erfc, lambda x: mp.erfc(min(x, 40)), (1.0, 1.0, 0.0, 2.0), (9.2, 10.0, 26.5, 27.2)),
    "erfcx": Exact(kn.erfcx, _erfcx, (1.0, 1.0, 0.0, INF), (-9.3, -26.6)),
    "erfinv": Exact(kn.erfinv, _erfinv, (0.0, -0.0, NAN, NAN), (1.0, -1.0, 0.0), most=EIGHT),
    "erfcinv": Exact(kn.erfcinv, _erfcinv, (INF, INF, NAN, NAN), (0.0, 1.0, 2.0, 0.5), (0.0, 2.5), most=EIGHT),
    "sigmoid": Exact(kn.sigmoid, _sigmoid, (0.5, 0.5, 1.0, 0.0), (-87.3, -103.9, -708.3, -745.1, 0.0)),
    "softplus": Exact(kn.softplus, _softplus, (math.log(2), math.log(2), INF, 0.0), (-87.3, -103.9, -708.3, -745.1)),
    "relu": Exact(kn.relu, lambda x: max(x, mp.mpf(0)), (0.0, 0.0, INF, 0.0)),
    "leaky_relu": Exact(lambda x: kn.leaky_relu(x, 0.25), lambda x: x if x > 0 else x / 4, _ODD),
    "elu": Exact(kn.elu, _expm1_below(1, 1), (0.0, -0.0, INF, -1.0), (0.0, -17.0)),
    "selu": Exact(
        kn.selu,
        _expm1_below(mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717")),
        (0.0, -0.0, INF, -1.7580993408473766),
        (0.0, -17.0),
    ),
    "gelu": Exact(kn.gelu, _gelu, (0.0, -0.0, INF, -0.0), (0.0, -1.0, -5.5, -13.0, -13.2, -14.3, -37.5, -38.6)),
    "silu": Exact(kn.silu, lambda x: x * _sigmoid(x), (0.0, -0.0, INF, -0.0), (0.0, -91.0, -108.0, -714.0, -751.0)),
    "log_sigmoid": Exact(kn.log_sigmoid, lambda x: -_softplus(-x), (-math.log(2), -math.log(2), -0.0, -INF), (0.0, 87.3, 708.3)),
    "soft_sign": Exact(kn.soft_sign, lambda x: x / (1 + abs(x)), (0.0, -0.0, 1.0, -1.0)),
    "mish": Exact(kn.mish, lambda x: x * mp.tanh(_softplus(x)), (0.0, -0.0, INF, -0.0), (0.0, -40.0, -91.0, -714.0)),
    "celu": Exact(kn.celu, _expm1_below(1, 1), (0.0, -0.0, INF, -1.0), (0.0, -17.0)),
    "hard_silu": Exact(kn.hard_silu, lambda x: x * min(max(x + 3, 0), 6) / 6, (0.0, -0.0, INF, -0.0), (-3.0, 3.0)),
    "logit": Exact(
        kn.logit,
        lambda x: mp.log(x) - mp.log1p(-x) if 0 < x < 1 else mp.inf if x == 1 else mp.nan,
        (-INF, -INF, NAN, NAN),
        (0.0, 1.0, 0.5, 0.25, 0.75),
    ),
    "entr": Exact(kn.entr, _entr, (0.0, 0.0, -INF, -INF), (1.0, 0.0)),
    "ndtr": Exact(kn.ndtr, _ndtr, (0.5, 0.5, 1.0, 0.0), (0.0, -1.0, -13.0, -14.0, -37.5, -38.4)),
    "log_ndtr": Exact(
        kn.log_ndtr, _log_ndtr, (-math.log(2), -math.log(2), -0.0, -INF), (0.0, -1.0, 5.0, 13.0, 37.5, 38.4)
    ),
    "ndtri": Exact(
        kn.ndtri,
        lambda p: -mp.sqrt(2) * _erfcinv(2 * p),
        (-INF, -INF, NAN, NAN),
        (0.0, 0.5, 1.0, 0.25),
        (0.0, 1.25),
        most=EIGHT,
    ),
    "gamma": Exact(
        kn.gamma, _gamma, (INF, -INF, INF, NAN), (35.0, 171.6, -1.0, -2.0, -33.5, -170.5, -184.0), most=EIGHT
    ),
    "lgamma": Exact(
        kn.lgamma, _lgamma, (INF, INF, INF, INF), (1.0, 2.0, -0.5, 8.5, -2.457, -2.7477, -3.1436, -3.9553), most=EIGHT
    ),
    "digamma": Exact(
        kn.digamma, _poly(0), (-INF, INF, INF, NAN), (1.4616321449683623, -0.504, -1.573, -2.61, -10.7), most=EIGHT
    ),
    "trigamma": Exact(kn.trigamma, _poly(1), (INF, INF, 0.0, NAN), (1.0, -0.25, -1.0), most=EIGHT),
    "polygamma2": Exact(
        lambda x: kn.polygamma(2, x), _poly(2), (-INF, INF, -0.0, NAN), (1.0, -0.25, -1.0, -0.4, -1.45), most=EIGHT
    ),
    "polygamma3": Exact(lambda x: kn.polygamma(3, x), _poly(3), (INF, INF, 0.0, NAN), (1.0, -0.25, -1.0), most=EIGHT),
    "polygamma4": Exact(
        lambda x: kn.polygamma(4, x), _poly(4), (-INF, INF, -0.0, NAN), (1.0, -0.25, -1.0, -0.4, -1.45), most=EIGHT
    ),
    "multigammaln": Exact(
        lambda x: kn.multigammaln(x, 3), _multigammaln, (), (1.0, 1.3, 2.4, 3.0), (1.0, INF), most=EIGHT
    ),
}

BINARY: dict[str, Exact] = {
    "add": Exact(kn.add, lambda x, y: x + y, arity=2, like=np.add),
    "subtract": Exact(kn.subtract, lambda x, y: x - y, arity=2, like=np.subtract),
    "multiply": Exact(kn.multiply, lambda x, y: x * y, arity=2, like=np.multiply),
    "divide": Exact(kn.divide, lambda x, y: x / y if y else mp.inf, arity=2, like=np.divide),
    "power": Exact(kn.power, _power, arity=2, like=np.power),
    "atan2": Exact(kn.atan2, mp.atan2, arity=2, like=np.arctan2),
    "hypot": Exact(kn.hypot, mp.hypot, arity=2, like=np.hypot),
    "logaddexp": Exact(kn.logaddexp, _logaddexp, arity=2, like=np.logaddexp),
    "logaddexp2": Exact(kn.logaddexp2, lambda x, y: _logaddexp(x, y, mp.log(2)), arity=2, like=np.logaddexp2),
    "mod": Exact(kn.mod, _mod, arity=2, like=np.mod),
    "fmod": Exact(kn.fmod, _fmod, arity=2, like=np.fmod),
    "floor_divide": Exact(kn.floor_divide, _floor_divide, arity=2, like=np.floor_divide),
    "log_base": Exact(
        kn.log,
        lambda x, y: mp.log(x) / mp.log(y),
        within=(0.0, INF),
        within2=(0.0, INF),
        arity=2, like=lambda x, y: np.log(x) / np.log(y),
    ),
    "xlogy": Exact(
        kn.xlogy, _xlogy, within2=(0.0, INF), arity=2, like=lambda x, y: np.where((x == 0) & ~np.isnan(y), 0, x * np.log(y))
    ),
    "xlog1py": Exact(
        kn.xlog1py,
        _xlog1py,
        within2=(-1.0, INF),
        arity=2, like=lambda x, y: np.where((x == 0) & ~np.isnan(y), 0, x * np.log1p(y)),
    ),
    "rel_entr": Exact(kn.rel_entr, _rel_entr, within=(0.0, INF), within2=(0.0, INF), arity=2),
    "kl_div": Exact(kn.kl_div, _kl_div, within=(0.0, INF), within2=(0.0, INF), arity=2),
    "beta": Exact(kn.beta, _beta, within=(0.0, INF), within2=(0.0, INF), arity=2, most=EIGHT),
    "betaln": Exact(kn.betaln, _betaln, within=(0.0, INF), within2=(0.0, INF), arity=2, most=EIGHT),
}

# fmt: on

_INTERVALS = ((-1.0, 1.0), (-10.0, 10.0), (-100.0, 100.0), (0.7, 1.42), (-800.0, 800.0), (0.0, 30.0))


def _anywhere(rng: np.random.Generator, dtype: np.dtype, count: int) -> np.ndarray:
    integer = np.dtype(f"i{dtype.itemsize}")
    info = np.iinfo(integer)
    return rng.integers(info.min, info.max, count, integer, endpoint=True).view(dtype)


def _about(rng: np.random.Generator, dtype: np.dtype, points: Sequence[float], count: int) -> np.ndarray:
    """From next to the points to a tenth of them away, evenly in the logarithm."""
    found = []
    for point in points:
        steps = np.exp2(rng.uniform(-60, -3, count)) * rng.choice([-1.0, 1.0], count) * (abs(point) or 1.0)
        found += [(point + steps).astype(dtype), np.array([point], dtype)]
    return np.concatenate([*found, np.zeros(0, dtype)])


def _draw(
    rng: np.random.Generator, dtype: np.dtype, count: int, hard: Sequence[float], within: tuple[float, float]
) -> np.ndarray:
    tiny = rng.integers(1, 2 ** np.finfo(dtype).nmant, count // 4, np.dtype(f"i{dtype.itemsize}")).view(dtype)
    parts = [_anywhere(rng, dtype, count), tiny, -tiny, _about(rng, dtype, hard, count // 2)]
    x = np.concatenate([*parts, *(rng.uniform(low, high, count).astype(dtype) for low, high in _INTERVALS)])
    return x[np.isfinite(x) & (x >= within[0]) & (x <= within[1])]


def arguments(exact: Exact, dtype: np.dtype, count: int, seed: int = 7) -> list[np.ndarray]:
    """Finite arguments, dense where it matters."""
    rng = np.random.default_rng(seed)
    x = _draw(rng, dtype, count, exact.hard, exact.within)
    if exact.arity == 1:
        return [x]
    y = _draw(rng, dtype, count, (), exact.within2)
    size = min(x.size, y.size)
    y = rng.permutation(y)[:size]
    x = x[:size]
    with np.errstate(all="ignore"):  # pairs that are alike, of which functions are nearly 0 or 1
        alike = (x * (1 + np.exp2(rng.uniform(-50, -1, size)) * rng.choice([-1, 1], size))).astype(dtype)
    alike = np.where(np.isfinite(alike) & (alike >= exact.within2[0]), alike, y)
    return [np.concatenate([x, x]), np.concatenate([y, alike])]


def to_long_double(value: Any) -> np.longdouble:
    """A number of mpmath with 64 binary digits."""
    if isinstance(value, mpmath.mpc):
        value = value.real if value.imag == 0 else mp.nan
    value = mp.mpf(value)
    if not mp.isfinite(value) or not value:
        return np.longdouble(float(value))
    sign, mantissa, exponent, bits = value._mpf_
    shift = bits - 64
    mantissa = (int(mantissa) >> shift) if shift > 0 else int(mantissa) << -shift
    exponent = int(exponent) + shift
    if abs(exponent) > 15000:
        return np.longdouble((-1) ** sign * (INF if exponent > 0 else 0.0))
    high, low = divmod(mantissa, 1 << 32)
    whole = np.ldexp(np.longdouble(high), exponent + 32) + np.ldexp(np.longdouble(low), exponent)
    return -whole if sign else whole


def exactly(exact: Exact, *arrays: np.ndarray) -> np.ndarray:
    """The exact values as long doubles."""

    def one(*values: float) -> np.longdouble:
        given = [mp.mpf(v) for v in values]
        try:
            if exact.angle:
                with mp.workprec(max(0, mp.mag(given[0]) if given[0] else 0) + 250):
                    return to_long_double(exact.value(*given))
            return to_long_double(exact.value(*given))
        except (ZeroDivisionError, ValueError):
            return np.longdouble(np.nan)

    return np.array([one(*v) for v in zip(*(a.tolist() for a in arrays))], np.longdouble)


ALL = {**UNARY, **BINARY}


@cache
def known(name: str, dtype: np.dtype, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Arguments of a function and its exact values."""
    exact = ALL[name]
    given = arguments(exact, dtype, count)
    if exact.arity == 1 and exact.ends:
        given[0] = given[0][given[0] != 0]
    return given, exactly(exact, *given)


def worst(name: str, dtype: np.dtype, count: int) -> tuple[float, tuple[float, ...]]:
    """The greatest error of a function in ulp, and the arguments where it occurs."""
    given, exact = known(name, dtype, count)
    actual = np.asarray(ALL[name].function(*map(kn.array, given)))
    assert actual.dtype == dtype, (name, actual.dtype)
    found = errors(actual, exact)
    at = int(np.argmax(found))
    return float(found[at]), tuple(float(a[at]) for a in given)


# --- derivatives -----------------------------------------------------------------------------------------------------

_PLACES = (1e-20, 1e-8, 1e-3, 0.1, 0.3, 0.49, 0.51, 0.9, 0.99, 0.99999, 1.00001, 1.01, 1.5, 2.0, 2.9, 5.0, 9.0, 12.0)
_TAILS = (18.0, 25.0, 36.0, 80.0, 500.0, 1e4, 1e10)

DERIVATIVES: dict[str, tuple[float, float]] = dict.fromkeys(
    [
        "square",
        "reciprocal",
        "sqrt",
        "rsqrt",
        "cbrt",
        "exp",
        "exp2",
        "exp10",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "asinh",
        "acosh",
        "atanh",
        "sec",
        "csc",
        "cot",
        "asec",
        "acsc",
        "acot",
        "sech",
        "csch",
        "acsch",
        "sinpi",
        "sinc",
        "erf",
        "erfc",
        "softplus",
        "elu",
        "selu",
        "silu",
        "logit",
        "entr",
        "ndtr",
        "log_ndtr",
        "gamma",
        "lgamma",
        "degrees",
        "radians",
    ],
    (16.0, 32.0),
) | {"erfcx": (64.0, 2000.0), "erfinv": (16.0, 64.0), "ndtri": (16.0, 64.0), "gelu": (32.0, 64.0)}
"""Functions of one argument whose derivatives are continuous, and the greatest errors allowed in these. Those of tanh,
coth and sigmoid are made of their results, and have no digits left where these are 1."""


@cache
def derivative(name: str, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Arguments, and the exact derivatives there; where the function is NaN it has none."""
    case = UNARY[name]
    x = np.array([*_PLACES, *_TAILS, *(-p for p in (*_PLACES, *_TAILS))], dtype)
    x = x[(x >= case.within[0]) & (x <= case.within[1])]
    found = []
    for v in x.tolist():
        with mp.workprec(800):
            at = mp.mpf(v)
            step = max(abs(at), mp.mpf(10) ** -20) * mp.mpf(2) ** -160
            try:
                ends = [case.value(at + s) for s in (step, -step, 0)]
                smooth = all(not isinstance(e, mpmath.mpc) and mp.isfinite(e) for e in ends)
                found.append(to_long_double((ends[0] - ends[1]) / (2 * step)) if smooth else np.longdouble(NAN))
            except (ZeroDivisionError, ValueError):
                found.append(np.longdouble(NAN))
    exact = np.array(found)
    clear = ~np.isnan(exact) & (abs(exact) < np.finfo(dtype).max) & (abs(exact) > np.finfo(dtype).smallest_normal)
    return x[clear], exact[clear]
