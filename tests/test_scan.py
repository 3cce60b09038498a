"""Cumulative sums, products and extremes give what NumPy gives, fused with what stands around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from knetc.runtime.base import dtypes

import knetc as kn

rng = np.random.default_rng(3)


@given(
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(["f4", "f8", "i4", "u1", "?"]),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_any_shape_axis_and_dtype(shape: tuple[int, ...], dtype: str, data: Any) -> None:
    axis = data.draw(st.one_of(st.none(), st.integers(-len(shape), len(shape) - 1)))
    x = (rng.uniform(-1.5, 1.5, shape) * (1 if dtype[0] == "f" else 3)).astype(dtype)
    for ours, theirs in ((kn.cumsum, np.cumsum), (kn.cumprod, np.cumprod)):
        result, expected = ours(kn.array(x), axis), theirs(x, axis)
        assert result.dtype == expected.dtype and result.shape == expected.shape
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_added_up_wide(dtype: str) -> None:
    x = kn.ones((3000,), dtype)
    result = kn.cumsum(x)
    assert result.dtype == dtypes.as_dtype(dtype)
    np.testing.assert_array_equal(result.numpy(), np.arange(1, 3001).astype(result.dtype))


def test_names_of_numpy_and_the_array_standard() -> None:
    x = rng.standard_normal((3, 4))
    a = kn.array(x)
    np.testing.assert_allclose(np.cumsum(a, axis=1), np.cumsum(x, 1))
    np.testing.assert_allclose(np.cumprod(a, 0), np.cumprod(x, 0))
    np.testing.assert_allclose(a.cumsum(0, dtype="float32"), np.cumsum(x, 0, dtype="f4"), rtol=1e-6)
    np.testing.assert_allclose(np.maximum.accumulate(a, axis=1), np.maximum.accumulate(x, 1))
    np.testing.assert_allclose(np.minimum.accumulate(a), np.minimum.accumulate(x))
    np.testing.assert_allclose(np.logaddexp.accumulate(a), np.logaddexp.accumulate(x))
    padded = np.pad(np.cumsum(x, 1), [(0, 0), (1, 0)])
    np.testing.assert_allclose(kn.cumulative_sum(a, axis=1, include_initial=True), padded)
    padded = np.pad(np.cumprod(x, 0), [(1, 0), (0, 0)], constant_values=1)
    np.testing.assert_allclose(kn.cumulative_prod(a, axis=0, include_initial=True), padded)
    with pytest.raises(kn.ShapeError, match="axis=-1"):
        kn.cumulative_sum(a)


@pytest.mark.parametrize("reverse", [False, True])
def test_extremes_keep_nan_once_there_is_one(reverse: bool) -> None:
    x = np.array([[1, 3, np.nan, 9], [4, 2, 2, 5]])
    for ours, theirs in ((kn.cummax, np.maximum), (kn.cummin, np.minimum)):
        turned = np.flip(x, 1) if reverse else x
        expected = theirs.accumulate(turned, 1)
        np.testing.assert_array_equal(
            ours(kn.array(x), 1, reverse=reverse), np.flip(expected, 1) if reverse else expected
        )
    assert kn.cummax(kn.array([False, True, False])).tolist() == [False, True, True]


def test_small_exponentials_are_not_lost() -> None:
    x = np.array([-1000.0, -1000.0, 0.0, 1000.0, -np.inf])
    np.testing.assert_allclose(kn.logcumsumexp(kn.array(x)), np.logaddexp.accumulate(x))
    np.testing.assert_array_equal(kn.logcumsumexp(kn.array([-np.inf, 1.0])), [-np.inf, 1])


FUNCTIONS: list[Callable[[Any], Any]] = [
    lambda x: kn.cumsum(x, 1),
    lambda x: kn.cumprod(x, 0, reverse=True),
    lambda x: kn.cummax(x, 1),
    lambda x: kn.cummin(x, 1, reverse=True),
    lambda x: kn.logcumsumexp(x, 1, reverse=True),
    lambda x: kn.linear_recurrence(x, x * x, 1),
    lambda x: kn.cumulative_prod(x, axis=1, include_initial=True),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients(function: Callable[[Any], Any]) -> None:
    assert kn.gcheck(lambda x: kn.sum(kn.sin(function(x))), kn.param(kn.array(rng.standard_normal((3, 5)))))


def test_products_have_exact_gradients_at_zeros() -> None:
    x = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    weights = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])

    def loss(x: Any) -> Any:
        return kn.sum(kn.cumprod(x) * kn.array(weights))

    expected = [1.0, 2 * 10 + 6 * 100, 0.0, 0.0, 0.0]  # at the second zero: what stands before it is 0
    np.testing.assert_allclose(kn.grad(loss)(kn.array(x)), expected)
    second = kn.grad(lambda x: kn.grad(loss)(x)[1])(kn.array(x))
    np.testing.assert_allclose(second, [10 + 300, 0, 200, 6000 + 300000, 0])


def test_a_tie_gives_its_gradient_to_the_latest() -> None:
    found = kn.grad(lambda x: kn.sum(kn.cummax(x)))(kn.array([1.0, 1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(found, [1, 2, 0, 1])


def test_scans_are_fused_with_what_they_read_and_what_reads_them() -> None:
    x = kn.array(rng.standard_normal((6, 50)).astype("f4"))
    data = x.numpy().astype("f8")

    def normalized(x: Any) -> Any:
        shares = kn.exp(x - kn.max(x, 1, keepdims=True))
        return kn.cumsum(shares / kn.sum(shares, 1, keepdims=True), 1) * 2

    shares = np.exp(data - data.max(1, keepdims=True))
    expected = np.cumsum(shares / shares.sum(1, keepdims=True), 1) * 2
    np.testing.assert_allclose(kn.compile(normalized)(x), expected, rtol=1e-5)
    both = kn.compile(lambda x: (kn.cumsum(x, 1), kn.cumsum(x, 1, reverse=True), kn.cumsum(x, 0)))(x)
    for result, wanted in zip(
        both, (np.cumsum(data, 1), np.cumsum(data[:, ::-1], 1)[:, ::-1], np.cumsum(data, 0)), strict=True
    ):
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [200_001, 1_000_000])
def test_one_long_row(count: int) -> None:
    x = rng.standard_normal(count).astype("f4")
    np.testing.assert_allclose(kn.cumsum(kn.array(x)), np.cumsum(x.astype("f8")), rtol=1e-5, atol=2e-3)
    np.testing.assert_allclose(
        kn.cumsum(kn.array(x), reverse=True), np.cumsum(x[::-1].astype("f8"))[::-1], rtol=1e-5, atol=2e-3
    )
    np.testing.assert_array_equal(kn.cummax(kn.array(x)), np.maximum.accumulate(x))
    whole = rng.integers(-9, 9, count)
    np.testing.assert_array_equal(kn.cumsum(kn.array(whole)), np.cumsum(whole))
