"""Functions whose shapes depend on data: at once as NumPy's, in traces with a size that is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import knetc as kn

rng = np.random.default_rng(6)


@pytest.mark.parametrize("shape", [(), (7,), (4, 5, 6), (0, 3)])
def test_places_of_what_is_not_zero(shape: tuple[int, ...]) -> None:
    x = np.asarray(rng.integers(0, 3, shape))
    a = kn.array(x)
    if shape:
        for ours, theirs in zip(kn.nonzero(a), np.nonzero(x), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == np.int64
    np.testing.assert_array_equal(kn.flatnonzero(a), np.flatnonzero(x))
    np.testing.assert_array_equal(kn.argwhere(a), np.argwhere(x))


@pytest.mark.parametrize("more", [-100, -3, 0, 4])
def test_a_given_number_of_places(more: int) -> None:
    x = rng.integers(0, 3, (4, 5, 6)) * 1.5
    count = np.count_nonzero(x)
    size = max(count + more, 0)
    found = kn.compile(lambda x: (*kn.nonzero(x, size=size, fill_value=(7, 8, 9)), kn.argwhere(x, size=size)))(x)
    for ours, theirs, fill in zip(found, np.nonzero(x), (7, 8, 9)):
        np.testing.assert_array_equal(ours, np.pad(theirs[:size], (0, max(more, 0)), constant_values=fill))
    rows = np.argwhere(x)[:size]
    np.testing.assert_array_equal(found[-1], np.pad(rows, ((0, max(more, 0)), (0, 0))))


SAMPLES = [
    np.array([3.0, np.nan, 1, -np.nan, 3, 2, -0.0, 0.0]),
    rng.integers(-5, 5, (6, 4)),
    rng.random((3, 30)) < 0.5,
    np.array([], "f4"),
]


@pytest.mark.parametrize("x", SAMPLES)
@pytest.mark.parametrize("equal_nan", [True, False])
def test_distinct_elements(x: np.ndarray, equal_nan: bool) -> None:
    expected = np.unique(x, True, True, True, equal_nan=equal_nan)
    for ours, theirs in zip(kn.unique(kn.array(x), True, True, True, equal_nan=equal_nan), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs.reshape(ours.shape))
    np.testing.assert_array_equal(kn.unique(kn.array(x), equal_nan=equal_nan), expected[0])


@pytest.mark.parametrize("more", [-1, 0, 3])
@pytest.mark.parametrize("equal_nan", [True, False])
def test_a_given_number_of_distinct_elements(more: int, equal_nan: bool) -> None:
    x = SAMPLES[0]
    values, indices, inverse, counts = np.unique(x, True, True, True, equal_nan=equal_nan)
    size, count = len(values) + more, min(len(values), len(values) + more)

    @kn.compile
    def distinct(x: Any) -> Any:
        return kn.unique(x, True, True, True, equal_nan=equal_nan, size=size, fill_value=-5)

    found = distinct(x)
    np.testing.assert_array_equal(found[0][:count], values[:count])
    np.testing.assert_array_equal(found[1][:count], indices[:count])
    np.testing.assert_array_equal(found[2], inverse)
    np.testing.assert_array_equal(found[3][:count], counts[:count])
    assert (found[0].numpy()[count:] == -5).all() and not found[3].numpy()[count:].any()


def test_names_of_the_array_standard() -> None:
    x = np.array([[3, 1], [3, 2]])
    a = kn.array(x)
    assert kn.unique_values(a).tolist() == [1, 2, 3]
    assert kn.unique_counts(a).counts.tolist() == [1, 1, 2]
    assert kn.unique_inverse(a).inverse_indices.tolist() == [[2, 0], [2, 1]]
    assert kn.unique_all(a).indices.tolist() == [1, 3, 0]
    assert kn.isin(a, [1, 2]).tolist() == [[False, True], [False, True]]
    assert kn.isin(a, [], invert=True).tolist() == [[True, True], [True, True]]


def test_traces_are_told_what_to_do() -> None:
    x = kn.array([1, 2, 0])
    for function in (kn.nonzero, kn.flatnonzero, kn.argwhere, kn.unique, kn.unique_all):
        with pytest.raises(kn.UnsupportedError, match=r"size=.*kn\.where"):
            kn.compile(lambda x, function=function: function(x))(x)
    with pytest.raises(kn.UnsupportedError, match=r"length=.*kn\.where"):
        kn.compile(lambda x: kn.bincount(x))(x)


def test_counts() -> None:
    x, w = rng.integers(0, 9, 50), rng.standard_normal(50)
    np.testing.assert_array_equal(kn.bincount(kn.array(x)), np.bincount(x))
    np.testing.assert_array_equal(kn.bincount(kn.array(x), minlength=20), np.bincount(x, minlength=20))
    np.testing.assert_allclose(kn.bincount(kn.array(x), kn.array(w)), np.bincount(x, w))
    counted = kn.compile(lambda x: kn.bincount(x, length=12))(kn.array(x))
    np.testing.assert_array_equal(counted, np.bincount(x, minlength=12))
    assert kn.bincount(kn.array([], "int64")).shape == (0,)
    with pytest.raises(kn.LabelError, match="-2 is not among"):
        kn.bincount(kn.array([1, -2])).numpy()
    with pytest.raises(kn.DtypeError, match="float32"):
        kn.bincount(kn.array([1.0]))


@pytest.mark.parametrize(
    "options",
    [
        {"bins": 7}, {"bins": 5, "range": (-1, 1)}, {"bins": [-1, 0, 0.5, 3]}, {"bins": 4, "density": True},
        {"bins": np.array([-1.0, 0.0, 0.5, 3.0]), "density": True},
    ],
)  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_histograms(options: Any, weighted: bool) -> None:
    x, w = rng.standard_normal(60), rng.random(60)
    x[:3] = [-1, 0, 1]
    more = {"weights": w} if weighted else {}
    (ours, bounds), (theirs, edges) = kn.histogram(kn.array(x), **options, **more), np.histogram(x, **options, **more)
    np.testing.assert_allclose(ours, theirs)
    np.testing.assert_allclose(bounds, edges, atol=1e-15)
    assert ours.dtype == theirs.dtype


def test_histograms_of_whole_numbers_and_equal_ones() -> None:
    x = rng.integers(0, 9, 50)
    np.testing.assert_array_equal(kn.histogram(kn.array(x), 4)[0], np.histogram(x, 4)[0])
    np.testing.assert_array_equal(kn.histogram(kn.ones(5), 4)[0], np.histogram(np.ones(5), 4)[0])
    assert kn.histogram(kn.zeros(0), 3)[0].tolist() == [0, 0, 0]


def test_gradients_go_to_the_first_of_equal_elements() -> None:
    found = kn.grad(lambda x: kn.sum(kn.unique(x) ** 2))(kn.array([1.0, 2.0, 1.0, 3.0]))
    np.testing.assert_array_equal(found, [2, 4, 0, 6])
    x, w = rng.integers(0, 3, 9), rng.standard_normal(9)
    found = kn.grad(lambda w: kn.sum(kn.bincount(x, w) ** 2))(kn.array(w))
    np.testing.assert_allclose(found, 2 * np.bincount(x, w)[x])
