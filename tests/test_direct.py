"""Assignments that are done at once: what NumPy has after them, and who does not see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn
from knetc import direct

KEYS: list[Any] = [0, -1, 2, slice(1, 3), slice(None, None, -2), ..., (0, 1), (slice(None), 1), (-1, ...), (..., 0)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int8", "bool"])
def test_numbers_and_known_values(dtype: str) -> None:
    for key in KEYS:
        x = kn.ones((4, 3), dtype=dtype)
        expected = np.asarray(x).copy()
        value: Any
        for value in (2, 0.5, True, kn.zeros((), dtype=dtype), x[key] + x[key], np.asarray(x)[key]):
            if isinstance(value, kn.Array):
                np.asarray(value)
            x[key] = value
            expected[key] = np.asarray(value).astype(expected.dtype)
            np.testing.assert_array_equal(np.asarray(x).astype("float32"), expected.astype("float32"))


def test_what_is_done_at_once() -> None:
    x = kn.zeros((3, 4))
    assert direct.assign(x, (0, 1), 5.0) and direct.assign(x, slice(1, 3), 2.0) and direct.assign(x, 0, np.float32(1))
    assert x.tolist() == [[1.0] * 4, [2.0] * 4, [2.0] * 4]
    others = [(True, 1.0), (None, 1.0), ([0, 1], 1.0), (0, np.float64(1)), (0, x + 1), (0, np.ones((1, 4), "f"))]
    for key, value in others:
        assert not direct.assign(x, key, value)
    assert not direct.assign(kn.zeros(5000), ..., 1.0) and not direct.assign(x + 1, 0, 1.0)


def views(x: kn.Array) -> list[tuple[Any, Callable[[Any], Any]]]:
    """Those who hold the same memory, and how their numbers are read."""
    return [
        (x.copy(), np.asarray), (x[1:3], np.asarray), (np.asarray(x), np.copy), (np.from_dlpack(x), np.copy),
        (x * 2, lambda y: np.asarray(y) / 2), (kn.Param(x), np.asarray), (x.reshape((2, 2)), np.asarray),
    ]  # fmt: skip


def test_others_do_not_see_it() -> None:
    for which in range(len(views(kn.ones(4)))):
        x = kn.array([1.0, 2.0, 3.0, 4.0])
        np.asarray(x)
        other, read = views(x)[which]
        before = np.array([2.0, 3.0]) if which == 1 else np.arange(1.0, 5.0)
        x[1] = 7.0
        x[2] = 8.0
        np.testing.assert_array_equal(np.ravel(read(other)), before)
        assert x.tolist() == [1.0, 7.0, 8.0, 4.0]


def test_what_was_known_of_the_value_is_forgotten() -> None:
    x = kn.zeros(3)
    x[0] = 1.0
    assert (x + 1).tolist() == [2.0, 1.0, 1.0] and kn.compile(lambda x: x * 2)(x).tolist() == [2.0, 0.0, 0.0]
    w = kn.Param(kn.zeros(2))
    w[0] = 3.0
    step = kn.compile(lambda: kn.sum(w * w))
    assert float(step()) == 9.0
    w[0] = 4.0
    assert float(step()) == 16.0
    tape = kn.diff(lambda: kn.sum(w * w))
    w[1] = 1.0
    assert kn.grad(tape, w).tolist() == [8.0, 0.0]


def test_mistakes_are_told_as_ever() -> None:
    x = kn.zeros(3, dtype="int8")
    with pytest.raises(IndexError, match="out of range"):
        x[3] = 1
    with pytest.raises(kn.KnetcError, match="300 does not fit"):
        x[0] = 300
    with pytest.raises(kn.ShapeError):
        x[:] = kn.zeros(2, dtype="int8")
    assert x.tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(6,), (6, 4)])
def test_index_arrays_and_masks(shape: tuple[int, ...]) -> None:
    """At once for small ones in memory, recorded for others: the same numbers."""
    rng = np.random.default_rng(1)
    places, mask = np.array([4, 0, 4, -2]), np.array([True, False, True, True, False, False])
    rows = rng.standard_normal((4, *shape[1:])).astype("f")
    for key, value in [(places, rows), (places, 2.0), (mask, rows[:3]), (mask, 1.5), (places[:1], rows[:1])]:
        for own in (kn.array(key), key):
            x, expected = kn.array(np.ones(shape, "f")), np.ones(shape, "f")
            np.asarray(x)
            given = kn.array(value) if isinstance(value, np.ndarray) else value
            assert direct.assign(x, own, given)
            expected[key] = value
            np.testing.assert_array_equal(x, expected)
            y = kn.array(np.ones(shape, "f")) + 0
            y[own] = given
            np.testing.assert_array_equal(y, expected)
            np.testing.assert_array_equal(x[own], expected[key])
            np.testing.assert_array_equal((x + 0)[own], expected[key])
    x = kn.array(np.ones(shape, "f"))
    with pytest.raises(IndexError, match="6"):
        x[kn.array([0, 6])] = 1.0
        np.asarray(x)
    with pytest.raises(kn.ShapeError):
        x[kn.array([0, 1])] = kn.ones((5, 7))
    with pytest.raises(IndexError):
        x[np.ones(7, bool)]
