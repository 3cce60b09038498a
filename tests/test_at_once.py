"""Functions on small arrays in memory are computed at once, by programs that are remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn
from knetc.compiler import at_once

rng = np.random.default_rng(3)


def remembered(function: Callable[..., Any]) -> int:
    """How many programs are known for a function."""
    inner = getattr(function, "__wrapped__", function)
    return sum(call.entry is not print for form, call in at_once._known.items() if call and form[0] is inner)


@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (kn.sort, np.sort),
        (lambda x: kn.sort(x, axis=0, descending=True), lambda x: -np.sort(-x, axis=0)),
        (lambda x: kn.topk(x, 2, axis=0).indices, lambda x: np.argsort(-x, axis=0)[:2]),
        (lambda x: kn.quantile(x, 0.3, 1), lambda x: np.quantile(x, 0.3, 1)),
        (lambda x: kn.quantile(x, 0.7, 1), lambda x: np.quantile(x, 0.7, 1)),
        (lambda x: kn.cumsum(x, 1), lambda x: np.cumsum(x, 1)),
        (kn.argmax, np.argmax),
        (lambda x: kn.argmin(x, 1), lambda x: np.argmin(x, 1)),
        (lambda x: x[:, kn.array([2, 0, 2])], lambda x: x[:, [2, 0, 2]]),
        (lambda x: x[kn.array([2, 0]), kn.array([1, 1])], lambda x: x[[2, 0], [1, 1]]),
        (lambda x: kn.take(x, kn.array([3, 1]), 0), lambda x: x[[3, 1]]),
        (lambda x: kn.searchsorted(kn.sort(x, None), x), lambda x: np.searchsorted(np.sort(x, None), x)),
        (lambda x: kn.dot(x[0], x[1]), lambda x: np.dot(x[0], x[1])),
        (lambda x: kn.dot(x[0], x[0]), lambda x: np.dot(x[0], x[0])),
        (lambda x: kn.histogram(x, 4, (-2, 2)).hist, lambda x: np.histogram(x, 4, (-2, 2))[0]),
    ],
)
def test_call_after_call(ours: Callable[[Any], Any], numpys: Callable[[Any], Any]) -> None:
    """The first call records, the second one remembers, others run what is known."""
    for shape in ((5, 8), (5, 8), (6, 4), (5, 8), (5, 8), (6, 4)):
        x = rng.standard_normal(shape)
        np.testing.assert_allclose(ours(kn.array(x)), numpys(x), rtol=1e-12)


def test_the_third_call_records_nothing() -> None:
    x = kn.array(rng.standard_normal((3, 11)))
    before = remembered(kn.sort)
    results = [kn.sort(x) for _ in range(4)]
    assert remembered(kn.sort) == before + 1
    assert results[0].buffer is None and results[3].buffer is not None
    results[3][0, 0] = 9.0
    np.testing.assert_array_equal(results[2], np.sort(x))


def test_numbers_of_different_kinds_are_different_arguments() -> None:
    x = kn.array([[3, 1], [2, 4]])
    for _ in range(3):
        assert kn.cumsum(x, 0).tolist() == [[3, 1], [5, 5]]
        with pytest.raises(kn.ShapeError, match="an axis is an int"):
            kn.cumsum(x, False)


def test_arrays_in_the_same_memory() -> None:
    a, b = np.sort(rng.standard_normal(20)), rng.standard_normal(20)
    x, y = kn.array(a), kn.array(b)
    for _ in range(3):
        np.testing.assert_array_equal(kn.searchsorted(x, x), np.searchsorted(a, a))
        np.testing.assert_array_equal(kn.searchsorted(x, y), np.searchsorted(a, b))
        halves = x[:10], x[10:]
        np.testing.assert_array_equal(kn.searchsorted(*halves), np.searchsorted(a[:10], a[10:]))
        np.testing.assert_array_equal(kn.searchsorted(halves[1], halves[0]), np.searchsorted(a[10:], a[:10]))


def test_what_is_pending_traced_or_differentiated_is_recorded() -> None:
    x = kn.array(rng.standard_normal(7))
    for _ in range(3):
        kn.sort(x)
    assert kn.sort(x + 1).buffer is None
    assert kn.compile(lambda x: kn.sort(x) * 2)(x).tolist() == (np.sort(x) * 2).tolist()
    weights = kn.array(np.arange(7.0))
    slope = kn.grad(lambda x: kn.sum(kn.sort(x) * weights))(x)
    np.testing.assert_array_equal(np.asarray(slope)[np.argsort(x)], weights)
    p = kn.param(x)
    tape = kn.diff(lambda: kn.sum(kn.sort(p) * weights))
    np.testing.assert_array_equal(np.asarray(kn.grad(tape, p))[np.argsort(x)], weights)


def test_checks_are_made() -> None:
    x, places = kn.arange(5.0), kn.array([1, 4])
    for _ in range(3):
        assert kn.take(x, places).tolist() == [1, 4]
    with pytest.raises(kn.LabelError, match="7"):
        kn.take(x, kn.array([1, 7]))
    assert kn.take(x, places).tolist() == [1, 4]


def test_other_settings() -> None:
    x = kn.array([3, 1, 2])
    for _ in range(3):
        assert kn.median(x).dtype == np.float32
    kn.set_default(dtype="float64")
    try:
        for _ in range(3):
            assert kn.median(x).dtype == np.float64
    finally:
        kn.set_default(dtype="float32")
    assert kn.median(x).dtype == np.float32
