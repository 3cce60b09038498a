"""For tests and ``benchmarks/accuracy.py``: what each function of ``vector_math`` is, and where to look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
from knetc.runtime.base import dtypes
from scalar_kernels import Elementwise

from knetc.ops import vector_math

mpmath.mp.dps = 40


def _exactly(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """An mpmath function on arrays; twice as many digits as float64 has, through two float64 parts."""

    def one(x: float) -> np.longdouble:
        value = function(mpmath.mpf(x))
        head = float(value)
        return np.longdouble(head) + np.longdouble(float(value - head)) if np.isfinite(head) else np.longdouble(head)

    return lambda x: np.array([one(float(v)) for v in x], np.longdouble)


#: name -> the function on arrays of long doubles
REFERENCES: dict[str, Callable[..., np.ndarray]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": _exactly(mpmath.erf), "erfc": _exactly(lambda x: mpmath.erfc(mpmath.mpf(min(x, 40)))),
    "sigmoid": lambda x: np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x))),
    "cbrt": np.cbrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "pow": np.power, "atan2": np.arctan2,
}  # fmt: skip

BINARY = ("pow", "atan2")
SLOW = ("erf", "erfc")
"""Whose references are slow."""

LARGEST_ANGLE_EXPONENT = {dtypes.f32: 30, dtypes.f64: 47}
"""Of the trigonometric functions: they are NaN from there on."""

_INTERVALS = ((-1.0, 1.0), (-10.0, 10.0), (-100.0, 100.0), (0.7, 1.42), (-800.0, 800.0), (0.0, 30.0))


def samples(name: str, dtype: np.dtype, count: int) -> tuple[np.ndarray, ...]:
    """Finite arguments from all over the dtype (any bits) and more of them where most functions have their lives."""
    rng = np.random.default_rng(7)
    integer = np.dtype(f"i{dtype.itemsize}")

    def draw() -> np.ndarray:
        anywhere = rng.integers(np.iinfo(integer).min, np.iinfo(integer).max, count, integer, endpoint=True).view(dtype)
        parts = [anywhere] + [rng.uniform(low, high, count).astype(dtype) for low, high in _INTERVALS]
        x = np.concatenate(parts)
        x = np.where(np.isfinite(x), x, dtype.type(1.5))
        if name not in ("sin", "cos", "tan"):
            return x
        mantissa, exponent = np.frexp(x)
        bounded = np.minimum(exponent, LARGEST_ANGLE_EXPONENT[dtype] - exponent % 8)
        return np.asarray(np.ldexp(mantissa, bounded), dtype)

    if name == "pow":  # bases near 1 have large exponents without leaving the range
        x, y = abs(draw()), draw()
        near = np.exp(rng.uniform(-0.05, 0.05, 2 * count)).astype(dtype)
        return np.concatenate([x, near]), np.concatenate([y, rng.uniform(-12000, 12000, 2 * count).astype(dtype)])
    return (draw(), draw()[::-1].copy()) if name == "atan2" else (draw(),)


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


def kernel(name: str, dtype: np.dtype, level: str = "native") -> Elementwise:
    """A function of ``vector_math`` compiled as a loop."""
    return Elementwise(getattr(vector_math, name), *[dtype] * (2 if name in BINARY else 1), level=level)


def worst(name: str, dtype: np.dtype, level: str = "native", count: int = 2000) -> tuple[float, tuple[float, ...]]:
    """The greatest error found, in ulp, and the arguments where it occurs."""
    arguments = samples(name, dtype, count // 10 if name in SLOW else count)
    with np.errstate(all="ignore"):
        exact = REFERENCES[name](*(a.astype(np.longdouble) for a in arguments))
    found = errors(kernel(name, dtype, level)(*arguments), exact)
    at = int(np.argmax(found))
    return float(found[at]), tuple(float(a[at]) for a in arguments)


FLOATS = (dtypes.f32, dtypes.f64)
