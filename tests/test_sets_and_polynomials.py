"""Sets, polynomials, unwrapping, selecting and placing: what NumPy does, at once and in compiled functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn

random = np.random.default_rng(5)
A, B = random.integers(0, 9, 12), random.integers(4, 14, (3, 5))
X, Y = np.sort(random.normal(size=9)), random.normal(size=9)
SETS = ("union1d", "intersect1d", "setdiff1d", "setxor1d")


def same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            same(a, b)
        return
    found = np.asarray(ours)
    assert found.shape == np.shape(theirs) and found.dtype == np.asarray(theirs).dtype
    np.testing.assert_allclose(found, theirs, rtol=1e-9, atol=1e-12)


CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "unwrap": (lambda x: np.unwrap(x), (X.cumsum() * 3,)),
    "unwrap far": (lambda x: np.unwrap(x, 4.0, axis=0, period=5.5), (random.normal(size=(7, 2)) * 9,)),
    "unwrap int": (lambda x: np.unwrap(x, period=5), (A,)),
    "unwrap even": (lambda x: np.unwrap(x, period=4), (A,)),
    "polyadd": (lambda x, y: np.polyadd(x, y), (X[:3], Y[:5])),
    "polysub": (lambda x, y: np.polysub(x, y), (X[:4], Y[:2])),
    "polymul": (lambda x, y: np.polymul(x, y), (X[:3], Y[:5])),
    "polyder": (lambda x: np.polyder(x, 2), (Y,)),
    "polyint": (lambda x: np.polyint(x, 2, [1.5, 2.0]), (Y,)),
    "poly": (lambda x: np.poly(x), (Y[:4],)),
    "polyfit": (lambda x, y: np.polyfit(x, y, 3), (X, Y)),
    "polyfit weighted": (lambda x, y: np.polyfit(x, y, 2, w=np.arange(1.0, 10)), (X, np.stack([Y, X], 1))),
    "polydiv": (lambda x, y: np.polydiv(x, y), (Y, X[:3])),
    "polydiv by a number": (lambda x, y: np.polydiv(x, y), (Y, X[:1])),
    "polydiv by more": (lambda x, y: np.polydiv(x, y), (Y[:2], X)),
    "roots": (lambda x: np.sort(np.roots(np.poly(x))), (X,)),
    "roots of a number": (lambda x: np.roots(x), (X[:1],)),
    "packbits": (lambda x: np.packbits(x), (B,)),
    "packbits along": (lambda x: np.packbits(x, axis=0, bitorder="little"), (A.reshape(6, 2),)),
    "unpackbits": (lambda x: np.unpackbits(x, axis=1, count=-3), (B.astype(np.uint8),)),
    "unpackbits more": (lambda x: np.unpackbits(x, count=200, bitorder="little"), (B.astype(np.uint8),)),
    "histogram2d": (lambda x, y: np.histogram2d(x, y, [3, 4], density=True), (X, Y)),
    "histogram2d bounds": (lambda x, y: np.histogram2d(x, y, [-1.0, 0.0, 2.0], weights=y), (X, Y)),
    "histogramdd": (lambda x: tuple(np.histogramdd(x, (2, 3), [(-1, 1), (0, 2)])), (np.stack([X, Y], 1),)),
    "apply_along_axis": (lambda x: np.apply_along_axis(np.outer, 0, x, [1, 2, 3]), (B,)),
    "apply_over_axes": (lambda x: np.apply_over_axes(np.sum, x, (0, 1)), (B,)),
    "ix_": (lambda x: x[np.ix_([2, 0], x[0, :2] * 0 + [4, 1])], (B,)),
    "triangles": (lambda x: x[np.tril_indices_from(x, 1)] + x[np.triu_indices_from(x, -1)].sum(), (B,)),
    "diagonals": (lambda x: x[np.diag_indices_from(x)], (B[:, :3],)),
    "quantile nearest": (lambda x: np.quantile(x, np.linspace(0, 1, 19), method="closest_observation"), (Y,)),
    "resize": (lambda x: np.resize(x, (7, 3)), (A,)),
    "resize smaller": (lambda x: np.resize(x, 4), (B,)),
    "histogram_bin_edges": (lambda x: np.histogram_bin_edges(x, 4), (Y,)),
    "unravel_index": (lambda x: np.unravel_index(x, (4, 4)), (A,)),
    "ravel_multi_index": (lambda x: np.ravel_multi_index((x, x), (9, 9)), (A,)),
    "quantile steps": (lambda x: np.quantile(x, np.linspace(0, 1, 19), method="inverted_cdf"), (Y,)),
    "quantile means": (lambda x: np.quantile(x, np.linspace(0, 1, 19), method="averaged_inverted_cdf"), (Y,)),
}


@pytest.mark.parametrize("name", CASES)
def test_as_numpy(name: str) -> None:
    function, inputs = CASES[name]
    expected = function(*inputs)
    arrays = [kn.array(x) for x in inputs]
    same(function(*arrays), expected)
    same(kn.compile(function)(*arrays), expected)


@pytest.mark.parametrize("name", SETS)
def test_sets(name: str) -> None:
    expected = getattr(np, name)(A, B)
    ours = getattr(kn, name)
    same(getattr(np, name)(kn.array(A), kn.array(B)), expected)
    sized = kn.compile(lambda a, b: ours(a, b, size=20, fill_value=-1))(kn.array(A), kn.array(B))
    assert sized.tolist() == [*expected, *[-1] * (20 - len(expected))]
    assert ours(kn.zeros(0), kn.zeros(0)).tolist() == []
    with pytest.raises(kn.UnsupportedError, match="size="):
        kn.compile(lambda a, b: ours(a, b))(kn.array(A), kn.array(B))


def test_short_forms() -> None:
    x = kn.array(X)
    same(kn.mgrid[0:2, 0:6:2], np.mgrid[0:2, 0:6:2])
    same(kn.ogrid[0:2, 3:1:-1], np.ogrid[0:2, 3:1:-1])
    assert kn.mgrid[0:1:5j].dtype == "float32" and kn.mgrid[0:1:5j].tolist() == [0, 0.25, 0.5, 0.75, 1]
    same(kn.r_[1:4, 0, x], np.r_[1:4, 0, X])
    same(kn.c_[x, x * 2], np.c_[X, X * 2])
    same(kn.c_[kn.array(B), x[:3]], np.c_[B, X[:3]])
    assert kn.grad(lambda v: kn.sum(kn.r_[v, v[:1]] ** 2))(x)[0] == pytest.approx(4 * X[0])
    same(kn.mask_indices(4, kn.triu, 1), np.mask_indices(4, np.triu, 1))
    same(kn.tril_indices(3, -1, 5), np.tril_indices(3, -1, 5))
    same(kn.diag_indices(3, 3), np.diag_indices(3, 3))
    assert kn.broadcast_shapes((3, 1), 4) == (3, 4)
    for call, error in ((lambda: kn.r_["r", 1], kn.UnsupportedError), (lambda: kn.ix_([[1]]), kn.ShapeError)):
        with pytest.raises(error):
            call()


@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hanning"])
def test_windows(name: str) -> None:
    for n in (0, 1, 2, 7, 32):
        same(getattr(kn, name)(n, "float64"), getattr(np, name)(n))
    same(kn.kaiser(9, 4.5, "float64"), np.kaiser(9, 4.5))
    assert getattr(kn, name)(4).dtype == "float32"


def test_functions_of_one_element() -> None:
    scaled = kn.vectorize(lambda a, b: (kn.where(a > b, a, -b), a))
    both = scaled(kn.array(X), kn.array(Y[:4, None]))
    same(both, (np.where(Y[:4, None] < X, X, -Y[:4, None]), np.broadcast_to(X, (4, 9))))
    assert kn.grad(lambda v: kn.sum(kn.vectorize(kn.sin)(v)))(kn.zeros(3)).tolist() == [1, 1, 1]


def test_complex_roots_are_refused() -> None:
    with pytest.raises(kn.LinearAlgebraError, match="complex"):
        kn.roots(kn.array([1.0, 0.0, 1.0])).tolist()


def test_places_of_what_is_common_and_gradients() -> None:
    same(kn.intersect1d(kn.array(A), kn.array(B), return_indices=True), np.intersect1d(A, B, return_indices=True))
    slope = kn.grad(lambda x: kn.sum(kn.setdiff1d(x, [2.0], size=2) * kn.array([1.0, 3.0])))
    assert slope(kn.array([5.0, 2.0, 1.0])).tolist() == [3.0, 0.0, 1.0]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_distinct_parts_along_an_axis(axis: int) -> None:
    x = random.integers(0, 2, (6, 2, 2)).astype(float)
    same(np.unique(kn.array(x), True, True, True, axis=axis), np.unique(x, True, True, True, axis=axis))
    same(np.unique(kn.array(x), axis=axis), np.unique(x, axis=axis))
    for call in (kn.compile(lambda x: kn.unique(x, axis=0)), lambda x: kn.unique(x, axis=0, size=3)):
        with pytest.raises(kn.UnsupportedError, match="along an axis"):
            call(kn.array(x))


def test_selecting_and_placing() -> None:
    x = kn.array(B)
    same(np.extract(x > 7, x), np.extract(B > 7, B))
    same(np.compress([True, False, True], x, axis=0), np.compress([True, False, True], B, axis=0))
    same(np.trim_zeros(kn.array([0, 0, 1, 0, 2, 0])), np.array([1, 0, 2]))
    same(np.trim_zeros(kn.array([0, 1, 0]), "f"), np.array([1, 0]))
    assert kn.compile(lambda x: kn.extract(x > 7, x, size=2))(x).tolist() == B[B > 7][:2].tolist()
    expected = B.copy()
    np.place(expected, B > 7, [1, 2])
    np.place(x, x > 7, kn.array([1, 2]))
    same(x, expected)


def test_mistakes() -> None:
    x = kn.ones((2, 2))
    for call in (
        lambda: kn.polyadd(x, 1.0), lambda: kn.polyder(kn.ones(2), -1), lambda: kn.polyint(kn.ones(2), 2, [1.0]),
        lambda: kn.poly(x), lambda: kn.polyfit(kn.ones(2), kn.ones(3), 1), lambda: kn.place(kn.ones(2), x, 1.0),
        lambda: kn.ravel_multi_index((kn.array(1),), (2, 2)), lambda: kn.histogramdd(x, bins=[2]),
        lambda: kn.histogram2d(kn.ones(2), kn.ones(3)), lambda: kn.diag_indices_from(kn.ones(3)),
        lambda: kn.tril_indices_from(kn.ones(3)), lambda: kn.broadcast_shapes((2,), (3,)),
        lambda: kn.apply_over_axes(lambda v, axis: kn.sum(v), x, (0, 1)),
    ):  # fmt: skip
        with pytest.raises(kn.ShapeError):
            call()
