"""Sorting, order statistics and binary search give what NumPy gives, with gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from knetc.runtime.base import dtypes, sorting
from knetc.runtime.cpu import numpy_sorts

import knetc as kn

rng = np.random.default_rng(5)
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Few different ones, with zeros of both signs, infinities, and NaN of both signs."""
    whole = rng.integers(0, 6, shape)
    if dtype[0] != "f":
        return (whole.astype(dtype) - np.asarray(dtype[0] == "i", dtype) * 3).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1.5, -2.5], dtype)
    return rng.choice(special, shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [((37,), 0), ((5, 7, 3), 1), ((4, 6), None), ((3, 0), 1)])
def test_every_dtype_is_sorted_as_numpy_does(dtype: str, shape: tuple[int, ...], axis: int | None) -> None:
    x = values(dtype, shape)
    a = kn.array(x)
    np.testing.assert_array_equal(kn.sort(a, axis), np.sort(x, axis))
    np.testing.assert_array_equal(kn.argsort(a, axis), np.argsort(x, axis, kind="stable"))
    assert kn.sort(a, axis).dtype == x.dtype and kn.argsort(a, axis).dtype == np.int64
    falling, ordered = kn.argsort(a, axis, descending=True), kn.sort(a, axis, descending=True)
    if axis is None:
        x, axis = x.reshape(-1), 0
    expected = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    np.testing.assert_array_equal(falling, expected)
    np.testing.assert_array_equal(ordered, np.take_along_axis(x, expected, axis))


def test_bfloat16_is_sorted_as_float32() -> None:
    x = rng.standard_normal((4, 9)).astype(dtypes.bfloat16())
    np.testing.assert_array_equal(kn.sort(kn.array(x)).numpy().astype("f4"), np.sort(x.astype("f4")))
    np.testing.assert_array_equal(kn.argsort(kn.array(x)), np.argsort(x.astype("f4"), kind="stable"))


def check_all(x: np.ndarray) -> None:
    """Sorting, the order both ways and the largest elements of rows, against NumPy."""
    a, n = kn.array(x), x.shape[-1]
    np.testing.assert_array_equal(kn.sort(a), np.sort(x))
    np.testing.assert_array_equal(kn.argsort(a), np.argsort(x, kind="stable"))
    falling = n - 1 - np.flip(np.argsort(np.flip(x, -1), -1, kind="stable"), -1)
    np.testing.assert_array_equal(kn.argsort(a, descending=True), falling)
    for k in (3, n // 3):
        found, places = kn.topk(a, k)
        np.testing.assert_array_equal(places, falling[..., :k])
        np.testing.assert_array_equal(found, np.take_along_axis(x, falling[..., :k], -1))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "u4"])
@pytest.mark.parametrize("shape", [(20, 100), (3, 9000), (70_001,)])
def test_rows_and_parts_of_rows(dtype: str, shape: tuple[int, ...]) -> None:
    """Rows that are sorted each by itself, and such as are dealt to buckets: with few values, with many, and equal."""
    check_all(values(dtype, shape))
    check_all((rng.standard_normal(shape) * 1000).astype(dtype))
    check_all(np.ones(shape, dtype))


@pytest.mark.parametrize("dtype", ["f8", "i8", "u8"])
def test_order_of_what_differs_in_its_last_bits(dtype: str) -> None:
    """Elements of 64 bits side by side, and one far away."""
    x = rng.integers(0, 40, 5000)
    near = (1 + x * 2.0**-52 if dtype == "f8" else x).astype(dtype)
    check_all(near)
    near[7] = np.finfo(dtype).max if dtype == "f8" else np.iinfo(dtype).max
    check_all(near)
    check_all(np.stack([near, near[::-1]]))


def test_numpys_sorts_are_found() -> None:
    """The addresses that generated code calls; where a NumPy has none, programs call Python."""
    assert set(numpy_sorts.addresses()) == {numpy_sorts.name_of(dtype) for dtype in numpy_sorts.SORTED}


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u8"])
def test_sorting_without_numpys_functions(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_sorts, "addresses", dict)
    monkeypatch.setattr(sorting, "thread_count", lambda: 3)
    monkeypatch.setattr(sorting, "_LONG_ROW", 100)
    monkeypatch.setattr(sorting, "_SHARED", 1000)
    for shape in ((2500,), (500, 20)):
        check_all(values(dtype, shape))
        check_all((rng.standard_normal(shape) * 2.0**40).astype(dtype) if dtype == "f8" else values(dtype, shape))


@pytest.mark.parametrize("kth", [0, 3, -1, (2, 5)])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_partition(kth: Any, axis: int | None) -> None:
    x = values("f4", (7, 8))
    found, places = kn.partition(kn.array(x), kth, axis), kn.argpartition(kn.array(x), kth, axis)
    expected = np.sort(x, axis)
    flat = x.reshape(-1) if axis is None else x
    for k in np.atleast_1d(kth):
        np.testing.assert_array_equal(np.take(found, k, axis or 0), np.take(expected, k, axis or 0))
    np.testing.assert_array_equal(np.sort(found, axis or 0), expected)
    chosen = np.take_along_axis(flat, np.asarray(places), axis or 0)
    for k in np.atleast_1d(kth):
        np.testing.assert_array_equal(np.take(chosen, k, axis or 0), np.take(expected, k, axis or 0))
    with pytest.raises(kn.ShapeError, match="no element 99"):
        kn.partition(kn.array(x), 99)


def test_a_scalar_has_no_axis() -> None:
    x = kn.array(2.0)
    for function in (kn.sort, lambda x: kn.partition(x, 0)):
        with pytest.raises(kn.AxisError, match="no axis -1"):
            function(x)
    assert kn.sort(x, None).tolist() == [2.0] and kn.argsort(x).tolist() == [0]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1"])
@pytest.mark.parametrize(("columns", "k"), [(9, 0), (9, 4), (9, 9), (3000, 5), (3000, 1000)])
def test_topk(dtype: str, columns: int, k: int) -> None:
    """The first of equal elements count, and NaN is the largest."""
    x = values(dtype, (4, columns))
    found, places = kn.topk(kn.array(x), k)
    order = columns - 1 - np.flip(np.argsort(np.flip(x, 1), 1, kind="stable"), 1)[:, :k]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(found, np.take_along_axis(x, order, 1))
    with pytest.raises(kn.ShapeError, match="no 10 elements"):
        kn.topk(kn.array([1, 2]), 10)


METHODS = [
    "linear", "lower", "higher", "nearest", "midpoint", "hazen", "weibull", "median_unbiased", "normal_unbiased",
    "interpolated_inverted_cdf",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_quantiles(method: Any) -> None:
    x = rng.standard_normal((5, 7))
    for axis, q in ((None, 0.3), (1, [0.0, 0.1, 0.77, 1.0])):
        result = kn.quantile(kn.array(x), q, axis, method=method, keepdims=True)
        np.testing.assert_allclose(result, np.quantile(x, q, axis, method=method, keepdims=True), rtol=1e-12)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    unknown=st.booleans(),
    data=st.data(),
)
@settings(max_examples=20, deadline=None)
def test_medians_and_percentiles(shape: tuple[int, ...], unknown: bool, data: Any) -> None:
    axes = data.draw(st.one_of(st.none(), st.sets(st.integers(0, len(shape) - 1), min_size=1).map(tuple)))
    x = rng.standard_normal(shape)
    if unknown:
        x[rng.random(shape) < 0.2] = np.nan
    a = kn.array(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        np.testing.assert_allclose(kn.median(a, axes), np.median(x, axes))
        np.testing.assert_allclose(kn.nanmedian(a, axes), np.nanmedian(x, axes))
        np.testing.assert_allclose(kn.percentile(a, [5, 50], axes), np.percentile(x, [5, 50], axes))
        np.testing.assert_allclose(kn.nanpercentile(a, 40, axes), np.nanpercentile(x, 40, axes))
        np.testing.assert_allclose(kn.nanquantile(a, 0.6, axes), np.nanquantile(x, 0.6, axes))


def test_quantiles_are_floating_and_say_what_they_cannot() -> None:
    assert kn.median(kn.array([1, 2])).item() == 1.5
    assert kn.median(kn.array([1.0, 3.0], "float16")).dtype == np.float16
    with pytest.raises(kn.UnsupportedError, match="'bogus'; there are linear"):
        kn.quantile(kn.array([1.0]), 0.5, method="bogus")
    with pytest.raises(ValueError, match="from 0 to 100, not 101"):
        kn.percentile(kn.array([1.0]), 101)
    traced = kn.compile(lambda x, q: kn.quantile(x, q))(kn.arange(5.0), kn.array([0.25, 0.5]))
    assert traced.tolist() == [1, 2]
    with pytest.raises(kn.ShapeError, match="no elements"):
        kn.median(kn.zeros((0, 3)), 0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 1000])
@pytest.mark.parametrize("dtype", ["f4", "i8"])
def test_binary_search(side: Any, count: int, dtype: str) -> None:
    a, v = np.sort(values(dtype, (count,))), values(dtype, (3, 50))
    np.testing.assert_array_equal(kn.searchsorted(kn.array(a), kn.array(v), side), np.searchsorted(a, v, side))
    shuffled = rng.permutation(count)
    found = kn.searchsorted(kn.array(a[shuffled]), kn.array(v), side, np.argsort(shuffled))
    np.testing.assert_array_equal(found, np.searchsorted(a, v, side))


def test_digitize_and_lexsort() -> None:
    x, bins = rng.standard_normal(50), np.array([-1.0, 0.0, 0.5])
    np.testing.assert_array_equal(kn.digitize(x, bins), np.digitize(x, bins))
    np.testing.assert_array_equal(kn.digitize(bins, bins, right=True), np.digitize(bins, bins, right=True))
    z = rng.integers(0, 9, 50)
    np.testing.assert_array_equal(kn.lexsort((z, z % 3)), np.lexsort((z, z % 3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: kn.sort(x, 0) * kn.median(x, 1, keepdims=True),
        lambda x: kn.sort(x, 1, descending=True) * kn.quantile(x, 0.3),
        lambda x: kn.topk(x, 2).values,
        lambda x: kn.partition(x, 2, 0),
        lambda x: kn.percentile(x, [10, 60], axis=0, method="hazen"),
    ],
)
def test_gradients(function: Callable[[Any], Any]) -> None:
    x = kn.param(kn.array(rng.standard_normal((4, 5))))
    assert kn.gcheck(lambda x: kn.sum(kn.sin(function(x))), x)
    slope = kn.grad(lambda x: kn.sum(kn.grad(lambda x: kn.sum(function(x) ** 3))(x)))
    assert np.isfinite(slope(kn.array(x.numpy())).numpy()).all()


def test_in_one_program_with_what_stands_around() -> None:
    @kn.compile
    def spread(x: Any) -> Any:
        ordered = kn.sort(kn.exp(x), axis=1)
        return ordered[:, -1] - ordered[:, 0], kn.argsort(x, axis=0)

    x = rng.standard_normal((6, 40)).astype("f4")
    width, order = spread(kn.array(x))
    np.testing.assert_allclose(width, np.ptp(np.exp(x), axis=1), rtol=1e-5)
    np.testing.assert_array_equal(order, np.argsort(x, 0))


def test_names_of_numpy() -> None:
    x = rng.standard_normal((3, 4))
    a = kn.array(x)
    for f in (
        lambda x: np.sort(x, axis=0), lambda x: np.argsort(x), lambda x: np.median(x, axis=1),
        lambda x: np.quantile(x, 0.2), lambda x: np.percentile(x, 20, axis=0), lambda x: np.nanmedian(x),
        lambda x: np.searchsorted(np.sort(x.ravel()), x), lambda x: np.digitize(x, [0.0, 0.5]),
        lambda x: np.sort(x, axis=None, kind="stable"), lambda x: x.argsort(axis=0),
        lambda x: np.partition(np.sort(x, axis=1), 2)[:, 2],
    ):  # fmt: skip
        result = f(a)
        assert isinstance(result, kn.Array)
        np.testing.assert_allclose(result, f(x))
    a.sort(axis=0)
    np.testing.assert_array_equal(a, np.sort(x, 0))


@pytest.mark.parametrize(
    "function",
    [
        kn.sort, lambda x: kn.sort(x, descending=True), lambda x: kn.cumsum(x, 0), lambda x: kn.cumprod(x, 0),
        lambda x: kn.median(x), lambda x: kn.topk(x, 2).values, lambda x: kn.cummax(x, 0),
        lambda x: kn.searchsorted(x, x[:2]) * x[:2],
    ],
)  # fmt: skip
def test_for_many_and_forward(function: Callable[[Any], Any]) -> None:
    """Under ``vmap`` as for each row, and forward derivatives as backward ones."""
    x = np.sort(rng.standard_normal((3, 6)))
    each = np.stack([np.asarray(function(kn.array(row))) for row in x])
    np.testing.assert_allclose(kn.vmap(function)(kn.array(x)), each)
    direction = rng.standard_normal(6)
    _, change = kn.jvp(function, (kn.array(x[0]),), (kn.array(direction),))
    weights = rng.standard_normal(change.shape)
    slope = kn.grad(lambda x: kn.sum(function(x) * kn.array(weights)))(kn.array(x[0]))
    np.testing.assert_allclose(np.sum(change.numpy() * weights), np.sum(slope.numpy() * direction))


@pytest.mark.parametrize("n", [1024, 5000, 20000])
def test_the_largest_of_long_rows(n: int) -> None:
    """Wherever they lie: spread, side by side, one part's width apart, equal, and with NaN among them."""
    rows = [np.arange(n), -np.arange(n), np.arange(n) * 7919 % 9, np.zeros(n), np.arange(n) % (n // 64)]
    for row in [r.astype(dtype) for r in rows for dtype in ("float32", "int64")]:
        for x in (row, np.where(np.arange(n) % 997 == 3, np.nan, row)) if row.dtype.kind == "f" else (row,):
            values, places = kn.topk(kn.array(x), 7)
            order = np.argsort(-x if row.dtype.kind == "f" else -row, kind="stable")
            unknown = np.flatnonzero(np.isnan(x)) if row.dtype.kind == "f" else np.zeros(0, int)
            wanted = np.concatenate([unknown, order[: n - len(unknown)]])[:7]
            assert np.asarray(places).tolist() == wanted.tolist()
            np.testing.assert_array_equal(values, x[wanted])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u4", "?"])
@pytest.mark.parametrize("shape", [(1,), (5, 40), (3, 1025), (70_001,), (2, 40_000)])
def test_places_of_extremes(dtype: str, shape: tuple[int, ...]) -> None:
    """The first of equal ones, wherever it lies; of NaN the first one."""
    x = np.where(rng.random(shape) < 0.001, values(dtype, shape), np.ones(1, dtype)).astype(dtype)
    rising = (np.arange(np.prod(shape)).reshape(shape) % 30_011).astype(dtype)
    for y in (x, rising, -rising if dtype != "?" else ~rising, np.sort(values(dtype, shape))):
        a = kn.array(y)
        for axis in (None, -1):
            assert np.array_equal(kn.argmax(a, axis), np.argmax(y, axis))
            assert np.array_equal(kn.argmin(a, axis), np.argmin(y, axis))
