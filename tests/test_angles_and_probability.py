"""Reciprocal and degree forms of the trigonometric functions, and what probabilities need, against mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import knetc as kn

mp = mpmath.mp.clone()
mp.dps = 40
D = mp.pi / 180


def log_beta(a: Any, b: Any) -> Any:
    return mp.log(abs(mp.beta(a, b)))


def of_degrees(name: str) -> Callable[[Any], Any]:
    return lambda x: getattr(mp, name)(x * D)


def in_degrees(name: str) -> Callable[[Any], Any]:
    return lambda x: getattr(mp, name)(x) / D


HYPERBOLIC = (-3.0, -0.5, 0.25, 1.5)
OUTSIDE = (-7.0, -1.5, 1.25, 3.0)
DEGREES = (-400.5, -90.25, -30.0, 12.0, 45.0, 100.0, 269.0, 720.5)
PROBABILITIES = (1e-6, 0.125, 0.3, 0.4999, 0.7, 0.75, 0.96)
PAIRS = ((2.0, 3.0), (0.5, 0.5), (0.001, 0.25), (12.0, 0.3), (1e10, 2.0), (50.0, 60.0), (9.5, 10.5), (150.0, 40.0))

ONE: dict[str, tuple[Callable[[Any], Any], tuple[float, ...]]] = {
    **{name: (getattr(mp, name), HYPERBOLIC) for name in ("sec", "csc", "cot", "sech", "csch", "coth")},
    **{name: (getattr(mp, name), OUTSIDE) for name in ("asec", "acsc", "acot", "acsch", "acoth")},
    "asech": (mp.asech, (0.125, 0.5, 0.9)),
    **{f"{name}d": (of_degrees(name), DEGREES) for name in ("sin", "cos", "tan", "sec", "csc", "cot")},
    **{f"{name}d": (in_degrees(name), (-0.75, 0.25, 0.9)) for name in ("asin", "acos", "atan")},
    **{f"{name}d": (in_degrees(name), OUTSIDE) for name in ("asec", "acsc", "acot")},
    "mod2pi": (lambda x: mp.fmod(x, 2 * mp.pi), (-7.0, -1.0, 3.0, 6.2, 7.0, 1e5, 1e15)),
    "rem2pi": (lambda x: x - 2 * mp.pi * mp.nint(x / (2 * mp.pi)), (-7.0, -1.0, 3.0, 6.2, 7.0, 1e5, 1e15)),
    "logit": (lambda p: mp.log(p / (1 - p)), PROBABILITIES),
    "ndtri": (lambda p: -mp.sqrt(2) * mp.erfinv(1 - 2 * p), PROBABILITIES),
    "entr": (lambda p: -p * mp.log(p), PROBABILITIES),
    "ndtr": (mp.ncdf, (-5.0, -3.0, -0.5, 0.0, 1.0, 5.0)),
    "log_ndtr": (lambda x: mp.log(mp.ncdf(x)), (-100.0, -5.0, -1.5, -0.5, 0.0, 1.0)),
    "multigammaln": (lambda x: mp.log(mp.pi) / 2 + mp.loggamma(x) + mp.loggamma(x - mp.mpf(1) / 2), (0.75, 3.0, 40.0)),
}

TWO: dict[str, tuple[Callable[[Any, Any], Any], tuple[tuple[float, float], ...]]] = {
    "beta": (mp.beta, (*PAIRS, (-0.5, 0.75))),
    "betaln": (log_beta, (*PAIRS, (1e5, 1e6), (-0.5, 0.75))),
    "xlogy": (lambda x, y: x * mp.log(y), ((0.5, 2.0), (3.0, 0.25))),
    "xlog1py": (lambda x, y: x * mp.log(1 + y), ((0.5, 2.0), (3.0, 1e-9))),
    "rel_entr": (lambda x, y: x * mp.log(x / y), ((0.5, 0.125), (0.2, 0.75))),
    "kl_div": (lambda x, y: x * mp.log(x / y) - x + y, ((0.5, 0.125), (0.2, 0.75))),
}
MORE: dict[str, dict[str, Any]] = {"multigammaln": {"d": 2}}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_values_and_gradients(name: str, dtype: str) -> None:
    exact, points = ONE.get(name) or TWO[name]
    given = np.array(points).reshape(len(points), -1).astype(dtype)
    columns = [kn.array(column) for column in given.T]
    function = getattr(kn, name)
    found = np.asarray(function(*columns, **MORE.get(name, {})))
    truth = np.array([float(exact(*(mp.mpf(float(v)) for v in row))) for row in given])
    assert found.dtype == dtype
    rtol = 4e-7 if dtype == "float32" else 1e-13 if name == "beta" else 4e-15
    np.testing.assert_allclose(found, truth, rtol=rtol, atol=float(np.finfo(dtype).smallest_subnormal))
    if dtype == "float64":
        slopes = kn.grad(lambda *a: kn.sum(function(*a, **MORE.get(name, {}))))(*columns)
        expected = [float(mp.diff(exact, mp.mpf(float(row[0])))) for row in given] if len(columns) == 1 else None
        if expected is not None and name not in ("rem2pi", "mod2pi"):
            np.testing.assert_allclose(slopes, expected, rtol=1e-9)


def test_the_ends() -> None:
    inf, nan = np.inf, np.nan
    x = kn.array
    assert kn.sind(x([180.0, 90.0, 30.0, -30.0, 720.0])).tolist() == [0, 1, 0.5, -0.5, 0]
    assert kn.cosd(x([90.0, 180.0, 60.0, -270.0, 360.0])).tolist() == [0, -1, 0.5, 0, 1]
    assert kn.tand(x([45.0, 90.0, 180.0])).tolist()[:2] == [1, inf]
    assert kn.logit(x([0.0, 0.5, 1.0])).tolist() == [-inf, 0, inf] and kn.expit(x([0.0])).tolist() == [0.5]
    assert kn.ndtri(x([0.0, 0.5, 1.0])).tolist() == [-inf, 0, inf]
    assert kn.entr(x([0.0, -1.0, inf])).tolist() == [0, -inf, -inf]
    assert kn.xlogy(x([0.0, 0.0, 0.0, 1.0]), x([0.0, -1.0, inf, 0.0])).tolist() == [0, 0, 0, -inf]
    assert np.isnan(kn.xlogy(x([0.0]), x([nan]))).all() and np.isnan(kn.entr(x([nan]))).all()
    assert kn.rel_entr(x([0.0, 1.0, -1.0]), x([0.0, 0.0, 1.0])).tolist() == [0, inf, inf]
    assert kn.log_ndtr(x([-inf, inf])).tolist() == [-inf, 0]
    slopes = kn.grad(lambda a, b: kn.sum(kn.xlogy(a, b)))(x([0.0]), x([2.0]))
    assert slopes.tolist() == [pytest.approx(0.6931472)]
    assert kn.grad(lambda a: kn.sum(kn.mod2pi(a)))(x([1.0, 7.0, -1.0])).tolist() == [1, 1, 1]
    assert kn.beta(x([2]), 3).dtype == "float32" and float(kn.beta(x([2]), 3)[0]) == pytest.approx(1 / 12)
    with pytest.raises(kn.UnsupportedError, match="nearest"):
        kn.rem2pi(x([1.0]), "up")
    with pytest.raises(kn.ShapeError):
        kn.multigammaln(x([1.0]), 0)
