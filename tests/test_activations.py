"""Activation functions: their values against their formulas in NumPy, where they end, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import knetc as kn


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "celu": lambda x: np.maximum(x, 0) + np.minimum(np.expm1(x), 0),
    "glu": lambda x: x[..., :3] * sigmoid(x[..., 3:]),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "log1mexp": lambda x: np.log(-np.expm1(-x)),
    "log_sigmoid": lambda x: np.log(sigmoid(x)),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "logmeanexp": lambda x: np.log(np.exp(x).mean()),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "relu6": lambda x: np.clip(x, 0, 6),
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "standardize": lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5),
}


@pytest.mark.parametrize("name", FORMULAS)
@given(seed=st.integers(0, 1 << 20), spread=st.sampled_from([0.1, 1.0, 8.0]))
def test_values_are_those_of_the_formulas(name: str, seed: int, spread: float) -> None:
    x = np.random.default_rng(seed).normal(size=(4, 6)) * spread
    x = np.abs(x) + 1e-3 if name == "log1mexp" else x
    np.testing.assert_allclose(getattr(kn, name)(kn.array(x)), FORMULAS[name](x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_are_finite_and_nan_stays(name: str) -> None:
    function: Any = getattr(kn, name)
    x = kn.array([-1e30, -300.0, -1.0, 0.0, 1.0, 1e30] if name != "log1mexp" else [1e-30, 0.5, 0.7, 1.0, 90.0, 1e30])
    if name not in ("standardize", "squareplus"):  # whose squares overflow
        assert np.isfinite(kn.grad(lambda v: kn.sum(function(v)))(x)).all()
    if name not in ("glu", "log_softmax", "logmeanexp", "standardize"):
        assert np.isnan(function(kn.array([np.nan]))).all()
    narrow = function(kn.ones(6, dtype="float16"))
    assert narrow.dtype == "float16"


def test_parameters() -> None:
    x = kn.array([-2.0, 1.0])
    np.testing.assert_allclose(kn.celu(x, 2.0), [2 * np.expm1(-1.0), 1.0], rtol=1e-6)
    np.testing.assert_allclose(kn.squareplus(x, 0.0), [0, 1])
    np.testing.assert_allclose(kn.glu(kn.ones((4, 3)), 0), np.full((2, 3), sigmoid(np.array(1.0))), rtol=1e-6)
    assert kn.relu6(kn.array([-1, 3, 9])).tolist() == [0, 3, 6]
    assert kn.grad(lambda v: kn.sum(kn.relu6(v)))(kn.array([-1.0, 0.0, 3.0, 6.0, 7.0])).tolist() == [0, 0, 1, 0, 0]
    assert kn.swish is kn.silu and kn.hard_swish is kn.hard_silu
    with pytest.raises(kn.ShapeError, match="halves"):
        kn.glu(kn.ones(3))


@pytest.mark.parametrize("axis", [0, 1, -1, 2])
def test_one_hot(axis: int) -> None:
    labels = np.array([[0, 2, 1], [3, -1, 2]])
    expected = np.moveaxis(np.eye(5)[labels] * ((labels >= 0) & (labels < 5))[..., None], -1, axis)
    found = kn.one_hot(kn.array(labels), 5, axis=axis)
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, expected)
    assert kn.one_hot(kn.array([1]), 2, dtype=bool).tolist() == [[False, True]]
