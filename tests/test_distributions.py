"""Distributions: their shares below some numbers, shapes, dtypes, gradients, and that equal seeds repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn

r, N = kn.random, 20_000

#: a draw of N, and the function that makes it uniform where it is continuous
CONTINUOUS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "uniform": (lambda: r.uniform(-1.0, 3.0, N), lambda x: (x + 1) / 4),
    "normal": (lambda: r.normal(2.0, 3.0, N), lambda x: kn.ndtr((x - 2) / 3)),
    "lognormal": (lambda: r.lognormal(1.0, 0.5, N), lambda x: kn.ndtr((kn.log(x) - 1) / 0.5)),
    "exponential": (lambda: r.exponential(2.0, N), lambda x: -kn.expm1(-x / 2)),
    "laplace": (lambda: r.laplace(1.0, 2.0, N), lambda x: 0.5 - 0.5 * kn.sign(x - 1) * kn.expm1(-abs(x - 1) / 2)),
    "logistic": (lambda: r.logistic(1.0, 2.0, N), lambda x: kn.sigmoid((x - 1) / 2)),
    "gumbel": (lambda: r.gumbel(1.0, 2.0, N), lambda x: kn.exp(-kn.exp((1 - x) / 2))),
    "cauchy": (lambda: r.cauchy(1.0, 2.0, N), lambda x: kn.atan((x - 1) / 2) / np.pi + 0.5),
    "rayleigh": (lambda: r.rayleigh(2.0, N), lambda x: -kn.expm1(-x * x / 8)),
    "weibull": (lambda: r.weibull(1.5, N), lambda x: -kn.expm1(-(x**1.5))),
    "pareto": (lambda: r.pareto(3.0, N), lambda x: 1 - (1 + x) ** -3.0),
    "gamma": (lambda: r.gamma(2.5, 2.0, N), lambda x: kn.gammainc(2.5, x / 2)),
    "small gamma": (lambda: r.gamma(0.4, 1.0, N), lambda x: kn.gammainc(0.4, x)),
    "beta": (lambda: r.beta(2.0, 0.7, N), lambda x: kn.betainc(2.0, 0.7, x)),
    "chisquare": (lambda: r.chisquare(3.0, N), lambda x: kn.gammainc(1.5, x / 2)),
    "standard_t": (lambda: r.standard_t(2.0, N), lambda x: 0.5 + x / (2 * kn.sqrt(x * x + 2))),
}

#: a draw of N, its mean and variance
COUNTS: dict[str, tuple[Callable[[], Any], float, float]] = {
    **{f"poisson {m}": (lambda m=m: r.poisson(m, N), m, m) for m in (0.3, 9.0, 12.0, 500.0)},
    **{f"binomial {n} {p}": (lambda n=n, p=p: r.binomial(n, p, N), n * p, n * p * (1 - p))
       for n, p in ((7, 0.4), (7, 0.8), (1000, 0.3), (1000, 0.999))},
    "geometric": (lambda: r.geometric(0.3, N), 1 / 0.3, 0.7 / 0.09),
    "bernoulli": (lambda: r.bernoulli(0.3, N), 0.3, 0.21),
    "rademacher": (lambda: r.rademacher(N), 0, 1),
    "categorical": (lambda: r.categorical(kn.log(kn.array([0.2, 0.3, 0.5])), size=N), 1.3, 0.61),
    "choice": (lambda: r.choice(kn.array([1, 2, 3]), N, p=[0.2, 0.3, 0.5]), 2.3, 0.61),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTINUOUS)
def test_shares_are_uniform(name: str) -> None:
    kn.seed(5)
    draw, share = CONTINUOUS[name]
    found = np.sort(np.asarray(share(draw())).astype(float))
    places = (np.arange(N) + 0.5) / N
    assert np.abs(found - places).max() < 1.95 / np.sqrt(N)  # Kolmogorov and Smirnov: one draw in 1,000 is beyond


@pytest.mark.parametrize("name", COUNTS)
def test_counts_have_their_means_and_variances(name: str) -> None:
    kn.seed(6)
    draw, mean, variance = COUNTS[name]
    found = np.asarray(draw())
    assert found.dtype == (bool if name == "bernoulli" else np.int64)
    found = found.astype(float)
    assert abs(found.mean() - mean) < 4 * np.sqrt(variance / N)
    assert abs(found.var() / variance - 1) < 0.15


def test_vectors() -> None:
    kn.seed(7)
    shares = np.asarray(r.dirichlet(kn.array([1.0, 2.0, 3.0]), N))
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(shares.mean(0), [1 / 6, 1 / 3, 1 / 2], atol=0.01)
    cov = np.array([[2.0, 1.0], [1.0, 3.0]])
    drawn = np.asarray(r.multivariate_normal(kn.array([1.0, 2.0]), kn.array(cov), N))
    np.testing.assert_allclose(np.cov(drawn.T), cov, atol=0.15)
    np.testing.assert_allclose(drawn.mean(0), [1, 2], atol=0.06)


def test_permutations_and_choices() -> None:
    kn.seed(8)
    x = np.arange(12).reshape(4, 3)
    assert sorted(r.permutation(9).tolist()) == list(range(9))
    assert sorted(map(tuple, r.permutation(kn.array(x)).tolist())) == sorted(map(tuple, x.tolist()))
    assert sorted(r.choice(kn.array(x), 3, replace=False, axis=1)[0].tolist()) == [0, 1, 2]
    assert sorted(r.choice(5, 2, replace=False, p=[0.0, 0.5, 0.0, 0.5, 0.0]).tolist()) == [1, 3]
    assert r.choice(5, (2, 3)).shape == (2, 3) and r.choice(5).shape == ()
    assert r.categorical(kn.zeros((4, 3)), size=(7, 4)).shape == (7, 4) and r.categorical(kn.zeros((4, 3))).shape == (
        4,
    )
    with pytest.raises(kn.ShapeError, match="replace"):
        r.choice(3, 4, replace=False)
    with pytest.raises(kn.ShapeError, match="normal"):
        r.normal(kn.zeros(3), size=(3, 2))


def test_shapes_dtypes_gradients_and_seeds() -> None:
    scale = kn.array([1.0, 2.0], dtype="float64")
    assert r.exponential(scale, (3, 2)).dtype == "float64" and r.exponential().shape == ()
    assert r.gamma(kn.array([[1.0], [2.0]]), scale).shape == (2, 2)
    kn.seed(1)
    first = np.asarray(r.gamma(scale))
    kn.seed(1)
    np.testing.assert_array_equal(kn.compile(lambda s: r.gamma(s))(scale), first)
    kn.seed(1)
    slope = kn.grad(lambda s: kn.sum(r.gamma(2.0, s, 2)))(scale)
    kn.seed(1)
    np.testing.assert_allclose(slope, np.asarray(r.gamma(kn.array([2.0, 2.0], dtype="float64"))))
    assert np.isnan(r.gamma(kn.array([-1.0]))).all() and r.poisson(kn.array([-1.0, np.nan])).tolist() == [-1, -1]
