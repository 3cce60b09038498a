"""Sums, means, variances and products of vectors are no less exact than NumPy's pairwise sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

import knetc as kn

SHAPES = [((300_000,), 0), ((1000, 300), 0), ((1000, 300), 1), ((3, 100_001), 1), ((100_001, 3), 0)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_sums(shape, axis, dtype):
    x = (np.random.default_rng(1).random(shape) + 0.5).astype(dtype)
    rows = np.moveaxis(x, axis, -1).reshape(-1, shape[axis]).astype(np.float64)
    exact = np.array([math.fsum(row) for row in rows])
    pairwise = np.array([row.astype(dtype).sum() for row in rows])  # of contiguous rows NumPy's sums are pairwise
    error = abs(np.asarray(kn.sum(kn.array(x), axis=axis)).ravel() / exact - 1).max()
    assert error <= 2 * abs(pairwise / exact - 1).max() + 2 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_product_of_vectors_that_cancels(dtype):
    rng = np.random.default_rng(2)
    x, y = (rng.standard_normal(200_000).astype(dtype) for _ in range(2))
    terms = x.astype(np.longdouble) * y
    scale = float(abs(terms).sum())
    for product in (kn.dot, lambda a, b: kn.sum(a * b), lambda a, b: a @ b):
        error = abs(float(np.asarray(product(kn.array(x), kn.array(y)))) - float(terms.sum()))
        assert error <= 4 * np.finfo(dtype).eps * scale


def test_variance_beside_a_large_mean():
    x = (1e4 + np.random.default_rng(3).standard_normal((1000, 300))).astype(np.float32)
    exact = x.astype(np.float64)
    for axis in (0, 1, None):
        ours = abs(np.asarray(kn.var(kn.array(x), axis=axis)) / exact.var(axis) - 1).max()
        # a mean that is wrong by three units in its last place, 3e-3, is seen as its square
        assert ours <= 2 * abs(x.var(axis) / exact.var(axis) - 1).max() + 1e-5
