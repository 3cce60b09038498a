"""Incomplete gamma and beta functions, zeta, exponential integrals, Dawson, Spence, Bessel: against mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import knetc as kn

mp = mpmath.mp.clone()
mp.dps = 50
Exact = Callable[..., Any]

GAMMAS = (
    (0.001, 0.5), (0.01, 1e-6), (0.3, 0.2), (0.3, 0.9), (0.7, 1.05), (0.9, 3.0), (1.5, 1.4), (2.5, 0.01), (9.0, 14.0),
    (19.5, 8.0), (30.0, 31.0), (160.0, 120.0), (400.0, 410.0), (1e5, 1.003e5),
)  # fmt: skip
BETAS = (
    (0.5, 0.5, 0.25), (0.05, 0.3, 0.9), (2.0, 3.0, 0.5), (3.0, 0.4, 0.999), (8.0, 9.0, 0.2), (40.0, 3.0, 0.95),
    (0.2, 50.0, 1e-4), (30.0, 20.0, 0.55), (1.0, 1.0, 0.125),
)  # fmt: skip
LINE = (-300.0, -20.0, -3.0, -0.9, -1e-4, 1e-4, 0.2, 0.8, 1.0, 2.5, 9.0, 39.0, 45.0, 300.0)
POSITIVE = tuple(x for x in LINE if x > 0)

FUNCTIONS: dict[str, tuple[Callable[..., Any], Exact, tuple[Any, ...]]] = {
    "gammainc": (kn.gammainc, lambda a, x: mp.gammainc(a, 0, x, regularized=True), GAMMAS),
    "gammaincc": (kn.gammaincc, lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True), GAMMAS),
    "betainc": (kn.betainc, lambda a, b, x: mp.betainc(a, b, 0, x, regularized=True), BETAS),
    "zeta": (kn.zeta, lambda s, q: mp.zeta(s, q), ((1.01, 1.0), (2.0, 0.25), (3.5, 7.0), (12.0, 1.0), (30.0, 0.5))),
    "exp1": (kn.exp1, mp.e1, POSITIVE),
    "expn": (lambda x: kn.expn(4, x), lambda x: mp.expint(4, x), POSITIVE),
    "expi": (kn.expi, mp.ei, LINE),
    "dawsn": (kn.dawsn, lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x), LINE[2:-2]),
    "spence": (kn.spence, lambda x: mp.re(mp.polylog(2, 1 - x)), (*POSITIVE, 1 + 1e-6, 1 - 1e-6, 0.5, 2.0)),
    "i0": (kn.i0, lambda x: mp.besseli(0, x), LINE),
    "i1": (kn.i1, lambda x: mp.besseli(1, x), LINE),
    "i0e": (kn.i0e, lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), LINE),
    "i1e": (kn.i1e, lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), LINE),
}


def slope(exact: Exact, point: tuple[float, ...], place: int) -> float:
    step = abs(mp.mpf(point[place])) * mp.mpf(10) ** -14
    ends = []
    for sign in (1, -1):
        moved = [mp.mpf(v) for v in point]
        moved[place] += sign * step
        ends.append(exact(*moved))
    return float((ends[0] - ends[1]) / (2 * step))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name: str) -> None:
    function, exact, points = FUNCTIONS[name]
    rows = [p if isinstance(p, tuple) else (p,) for p in points]
    columns = [np.array(column) for column in zip(*rows)]
    truth = [float(exact(*map(mp.mpf, row))) for row in rows]
    rtol = 2e-13 if name == "betainc" else 1e-13 if name == "gammainc" else 4e-14
    np.testing.assert_allclose(function(*map(kn.array, columns)), truth, rtol=rtol, atol=1e-300)
    narrow = function(*(kn.array(c.astype(np.float32)) for c in columns))
    assert narrow.dtype == "float32"
    rounded = [tuple(float(np.float32(v)) for v in row) for row in rows]
    with np.errstate(over="ignore", under="ignore"):
        expected = np.array([float(exact(*map(mp.mpf, row))) for row in rounded]).astype(np.float32)
    np.testing.assert_allclose(narrow, expected, rtol=2.4e-7, atol=1e-44)
    slopes = kn.grad(lambda c: kn.sum(function(*c)))(tuple(map(kn.array, columns)))
    for place, found in enumerate(slopes):
        wanted = np.array([slope(exact, row, place) for row in rows])
        kept = np.abs(wanted) > 1e-290
        np.testing.assert_allclose(np.asarray(found)[kept], wanted[kept], rtol=1e-10)


@settings(max_examples=8)
@given(st.integers(0, 1 << 30))
def test_halves_are_complements(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = 10.0 ** random.uniform(-3, 4, (2, 32))
    x, t = 10.0 ** random.uniform(-3, 4, 32), random.random(32)
    both = kn.gammainc(kn.array(a), kn.array(x)) + kn.gammaincc(kn.array(a), kn.array(x))
    np.testing.assert_allclose(both, np.ones(32), rtol=1e-13)
    both = kn.betainc(kn.array(a), kn.array(b), kn.array(t)) + kn.betainc(kn.array(b), kn.array(a), kn.array(1 - t))
    np.testing.assert_allclose(both, np.ones(32), rtol=1e-11)


def test_the_ends(caplog: pytest.LogCaptureFixture) -> None:
    inf, nan = np.inf, np.nan
    a, x = kn.array([0.0, 1, inf, 2, -1, 0, 2, inf]), kn.array([1.0, 0, 1, inf, 1, 0, nan, inf])
    np.testing.assert_array_equal(kn.gammainc(a, x), [1, 0, 0, 1, nan, nan, nan, nan])
    np.testing.assert_array_equal(kn.gammaincc(a, x), [0, 1, 1, 0, nan, nan, nan, nan])
    np.testing.assert_array_equal(kn.betainc(kn.array([1.0, 1, 1, -1]), 2, [0.0, 1, nan, 0.5]), [0, 1, nan, nan])
    np.testing.assert_array_equal(kn.zeta(kn.array([1.0, 0.5, 2, 2]), [1.0, 1, -1, nan]), [inf, nan, nan, nan])
    ends = kn.array([0.0, inf, -inf, nan], dtype="float64")
    np.testing.assert_array_equal(kn.exp1(ends), [inf, 0, nan, nan])
    np.testing.assert_array_equal(kn.expn(4, ends), [1 / 3, 0, nan, nan])
    np.testing.assert_array_equal(kn.expi(ends), [-inf, inf, 0, nan])
    np.testing.assert_array_equal(kn.dawsn(ends), [0, 0, 0, nan])
    np.testing.assert_array_equal(kn.spence(ends), [np.pi**2 / 6, -inf, nan, nan])
    np.testing.assert_array_equal(kn.i0(ends), [1, inf, inf, nan])
    np.testing.assert_array_equal(kn.i1(ends), [0, inf, -inf, nan])
    np.testing.assert_array_equal(kn.i0e(ends), [1, 0, 0, nan])
    np.testing.assert_array_equal(np.i0(kn.array([0.0])), [1])
    with pytest.raises(ValueError, match="order"):
        kn.expn(-1, ends)


def test_second_derivatives_and_compiled_functions() -> None:
    density = kn.grad(lambda x: kn.sum(kn.gammainc(2.5, x)))
    x = kn.array([0.5, 2.0, 9.0], dtype="float64")
    v = np.asarray(x)
    expected = v**1.5 * np.exp(-v) / 1.329340388179137
    np.testing.assert_allclose(kn.compile(density)(x), expected, rtol=1e-12)
