"""For tests and ``benchmarks/accuracy.py``: what each function of ``vector_math`` is, and where to look at it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
from knetc.runtime.base import dtypes
from scalar_kernels import Elementwise

import knetc as kn
from knetc.ops import special_math, vector_angles, vector_arcs, vector_errors, vector_log_sums, vector_math

mpmath.mp.dps = 40


def _exactly(
    function: Callable[[Any], Any], *, odd: bool = False, special: Callable[[float], float | None] = lambda x: None
) -> Callable[[np.ndarray], np.ndarray]:
    """An mpmath function on arrays; twice as many digits as float64 has, through two float64 parts.

    An ``odd`` function gives zeros the sign of their argument; ``special`` gives what mpmath does not know.
    """

    def one(x: float) -> np.longdouble:
        known = special(x)
        if known is not None:
            return np.longdouble(known)
        value = function(mpmath.mpf(x))
        head = float(value)
        if odd and head == 0:
            return np.longdouble(math.copysign(0.0, x))
        return np.longdouble(head) + np.longdouble(float(value - head)) if np.isfinite(head) else np.longdouble(head)

    return lambda x: np.array([one(float(v)) for v in x], np.longdouble)


def _with_poles(
    function: Callable[[Any], Any], positive_zero: float, negative_zero: float, below: float, end: float = math.nan
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that has poles at 0 and at negative whole numbers; ``end`` is its value at minus infinity."""

    def special(x: float) -> float | None:
        if x == 0:
            return positive_zero if math.copysign(1, x) > 0 else negative_zero
        return end if x == -math.inf else below if x < 0 and x == math.floor(x) else None

    return _exactly(lambda x: mpmath.re(function(x)), special=special)


def _of_angle(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of an angle, which may have a thousand binary digits in front of its point."""

    def precisely(x: Any) -> Any:
        if not mpmath.isfinite(x):
            return mpmath.nan
        with mpmath.workprec(max(0, mpmath.mag(x)) + 200):
            return function(x)

    return _exactly(precisely, odd=function is not mpmath.cos)


def _gamma(x: Any) -> Any:
    return mpmath.inf if x > 300 else mpmath.mpf(0) if x < -300 else mpmath.gamma(x)


def _logaddexp(x: np.ndarray, y: np.ndarray, base: int = 0) -> np.ndarray:
    """To base 2 or e; in many digits where the result is nearly 0."""

    def one(a: float, b: float) -> np.longdouble:
        with mpmath.workdps(60):
            unit = mpmath.log(base) if base else mpmath.mpf(1)
            larger, smaller = mpmath.mpf(max(a, b)), mpmath.mpf(min(a, b))
            value = larger + mpmath.log1p(mpmath.exp((smaller - larger) * unit)) / unit
        head = float(value)
        return np.longdouble(head) + np.longdouble(float(value - head))

    result = np.logaddexp2(x, y) if base else np.logaddexp(x, y)
    for k in np.flatnonzero(abs(result) < 0.5):
        result[k] = one(float(x[k]), float(y[k]))
    return result


def _erfcx(x: Any) -> Any:
    if x < -30:
        return mpmath.inf
    if x < 1000:
        return mpmath.exp(x * x) * mpmath.erfc(x)
    z = 1 / (2 * x * x)
    return (1 - z + 3 * z * z) / (x * mpmath.sqrt(mpmath.pi))


def _erfinv(x: Any) -> Any:
    return mpmath.erfinv(x) if abs(x) < 1 else mpmath.inf * x if abs(x) == 1 else mpmath.nan


def _erfcinv(q: Any) -> Any:
    """By Newton's method on the logarithm, as 1 - q has too few digits."""
    if not 0 < q < 2:
        return mpmath.mpf({0: math.inf, 2: -math.inf}.get(float(q), math.nan))
    if q >= 0.1:
        return mpmath.erfinv(1 - q)
    y = mpmath.sqrt(-mpmath.log(q))
    for _ in range(40):
        value = mpmath.erfc(y)
        step = mpmath.log(value / q) * value * mpmath.exp(y * y) * mpmath.sqrt(mpmath.pi) / 2
        y += step
        if abs(step) < 1e-35:
            break
    return y


#: name -> the function on arrays of long doubles
REFERENCES: dict[str, Callable[..., np.ndarray]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": _of_angle(mpmath.sin), "cos": _of_angle(mpmath.cos), "tan": _of_angle(mpmath.tan),
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": _exactly(mpmath.erf), "erfc": _exactly(lambda x: mpmath.erfc(mpmath.mpf(min(x, 40)))),
    "sigmoid": lambda x: np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x))),
    "cbrt": np.cbrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "exp10": _exactly(lambda x: mpmath.mpf(10) ** max(min(x, 400), -400)),
    "sinpi": _exactly(mpmath.sinpi, odd=True), "cospi": _exactly(mpmath.cospi),
    "erfcx": _exactly(_erfcx), "erfinv": _exactly(_erfinv, odd=True), "erfcinv": _exactly(_erfcinv),
    "gamma": _with_poles(_gamma, math.inf, -math.inf, math.nan),
    "lgamma": _with_poles(mpmath.loggamma, math.inf, math.inf, math.inf, math.inf),
    "digamma": _with_poles(mpmath.digamma, -math.inf, math.inf, math.nan),
    "trigamma": _with_poles(lambda x: mpmath.psi(1, x), math.inf, math.inf, math.inf),
    "tetragamma": _with_poles(lambda x: mpmath.psi(2, x), -math.inf, math.inf, math.nan),
    "pow": np.power, "atan2": np.arctan2, "logaddexp": _logaddexp,
    "logaddexp2": partial(_logaddexp, base=2),
}  # fmt: skip

BINARY = ("pow", "atan2", "logaddexp", "logaddexp2")
SPECIAL = ("erfcx", "erfinv", "erfcinv", "gamma", "lgamma", "digamma", "trigamma", "tetragamma")
"""Whose errors may be 8 ulp."""
SLOW = ("sin", "cos", "tan", "erf", "erfc", "exp10", "sinpi", "cospi", *SPECIAL)
"""Whose references are slow."""

_INTERVALS = ((-1.0, 1.0), (-10.0, 10.0), (-100.0, 100.0), (0.7, 1.42), (-800.0, 800.0), (0.0, 30.0))


def samples(name: str, dtype: np.dtype, count: int) -> tuple[np.ndarray, ...]:
    """Finite arguments from all over the dtype (any bits) and more of them where most functions have their lives."""
    rng = np.random.default_rng(7)
    integer = np.dtype(f"i{dtype.itemsize}")

    def draw() -> np.ndarray:
        anywhere = rng.integers(np.iinfo(integer).min, np.iinfo(integer).max, count, integer, endpoint=True).view(dtype)
        if name == "erfcinv":
            anywhere = abs(anywhere)
        parts = [anywhere] + [rng.uniform(low, high, count).astype(dtype) for low, high in _INTERVALS]
        x = np.concatenate(parts)
        return np.where(np.isfinite(x), x, dtype.type(1.5))

    if name == "pow":  # bases near 1 have large exponents without leaving the range
        x, y = abs(draw()), draw()
        near = np.exp(rng.uniform(-0.05, 0.05, 2 * count)).astype(dtype)
        return np.concatenate([x, near]), np.concatenate([y, rng.uniform(-12000, 12000, 2 * count).astype(dtype)])
    return (draw(), draw()[::-1].copy()) if name in BINARY else (draw(),)


def errors(actual: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units in the last place; infinite where one is NaN and the other is not."""
    info = np.finfo(actual.dtype)
    beyond = np.ldexp(np.longdouble(1), info.maxexp)  # what infinity stands for, when it is right to overflow
    with np.errstate(all="ignore"):
        a = np.clip(actual.astype(np.longdouble), -beyond, beyond)
        b = np.clip(exact, -beyond, beyond)
        exponent = np.maximum(np.frexp(b)[1], info.minexp + 1)
        exponent = np.where(b == 0, info.minexp + 1, np.minimum(exponent, info.maxexp))
        distance = abs(a - b) / np.ldexp(np.longdouble(1), exponent - 1 - info.nmant)
    same = np.isnan(actual) == np.isnan(exact)
    return np.where(same, np.where(np.isnan(exact), 0.0, distance), np.inf).astype(np.float64)


def implementation(name: str) -> Callable[..., Any]:
    """What emits the function's code."""
    if name in ("trigamma", "tetragamma"):
        return partial(special_math.polygamma, order=1 if name == "trigamma" else 2)
    modules = (vector_math, vector_angles, vector_arcs, vector_errors, special_math, vector_log_sums)
    found: Callable[..., Any] = next(getattr(m, name) for m in modules if hasattr(m, name))
    return found


def kernel(name: str, dtype: np.dtype, level: str = "native") -> Elementwise:
    """A function of ``vector_math`` or ``special_math`` compiled as a loop."""
    return Elementwise(implementation(name), *[dtype] * (2 if name in BINARY else 1), level=level)


@cache
def _exact(name: str, dtype: np.dtype, count: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Arguments and the exact results."""
    arguments = samples(name, dtype, count)
    with np.errstate(all="ignore"):
        return arguments, REFERENCES[name](*(a.astype(np.longdouble) for a in arguments))


def worst(name: str, dtype: np.dtype, level: str = "native", count: int = 2000) -> tuple[float, tuple[float, ...]]:
    """The greatest error found, in ulp, and the arguments where it occurs."""
    arguments, exact = _exact(name, dtype, count // 20 if name in SLOW else count)
    found = errors(kernel(name, dtype, level)(*arguments), exact)
    at = int(np.argmax(found))
    return float(found[at]), tuple(float(a[at]) for a in arguments)


def _exponents(dtype: np.dtype, count: int) -> np.ndarray:
    most = 2 * np.finfo(dtype).maxexp
    return np.random.default_rng(8).integers(-most, most, count, np.int32)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


#: functions made of operations: the function of knetc, what it is exactly, and how many floats it takes
COMPOSITES: dict[str, tuple[Callable[..., Any], Callable[..., np.ndarray], int]] = {
    "frexp": (lambda x: kn.frexp(x)[0], lambda x: np.frexp(x)[0], 1),
    "hypot": (kn.hypot, np.hypot, 2),
    "ldexp": (lambda x: kn.ldexp(x, _exponents(x.dtype, x.size)), lambda x: x, 1),
    "nextafter": (kn.nextafter, lambda x, y: np.nextafter(x, y), 2),
    "softplus": (kn.softplus, _softplus, 1),
}


def worst_composite(name: str, dtype: np.dtype, count: int = 2000) -> tuple[float, tuple[float, ...]]:
    """The greatest error of a function made of operations, run by the compiler for this processor."""
    function, reference, arity = COMPOSITES[name]
    arguments = samples("pow" if arity == 2 else name, dtype, count)
    with np.errstate(all="ignore"):
        if name == "nextafter":  # of its own dtype
            exact = reference(*arguments).astype(np.longdouble)
        else:
            exact = reference(*(a.astype(np.longdouble) for a in arguments))
        if name == "ldexp":
            exact = np.ldexp(exact, _exponents(dtype, exact.size))
        found = errors(np.asarray(function(*map(kn.array, arguments))), exact)
    at = int(np.argmax(found))
    return float(found[at]), tuple(float(a[at]) for a in arguments)


FLOATS = (dtypes.f32, dtypes.f64)
