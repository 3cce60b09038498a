"""Broadcasting as NumPy's: shapes at random, values and gradients, and what does not broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import knetc as kn

FUNCTIONS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (lambda a, b, c: a * b + c, lambda a, b, c: a * b + c),
    (lambda a, b, c: kn.where(a > b, b, c * a), lambda a, b, c: np.where(a > b, b, c * a)),
    (lambda a, b, c: kn.maximum(a, kn.minimum(b, c)), lambda a, b, c: np.maximum(a, np.minimum(b, c))),
    (lambda a, b, c: kn.clip(a, b, c), lambda a, b, c: np.minimum(np.maximum(a, b), c)),
    (lambda a, b, c: (a - b) / (1 + c * c), lambda a, b, c: (a - b) / (1 + c * c)),
    (lambda a, b, c: kn.hypot(a, b) ** 2 - c, lambda a, b, c: np.hypot(a, b) ** 2 - c),
    (lambda a, b, c: kn.broadcast_arrays(a, b, c)[0], lambda a, b, c: np.broadcast_arrays(a, b, c)[0]),
]

Case = tuple[int, list[np.ndarray]]
_random = np.random.default_rng(5)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    number = draw(st.integers(0, len(FUNCTIONS) - 1))
    shapes = draw(mutually_broadcastable_shapes(num_shapes=3, max_dims=4, min_side=0, max_side=4)).input_shapes
    return number, [_random.uniform(-2, 2, shape) for shape in shapes]


@settings(max_examples=6)
@given(st.lists(cases(), min_size=80, max_size=80))
def test_values_and_gradients(batch: list[Case]) -> None:
    arrays = [[kn.array(a) for a in group] for _, group in batch]

    def values(groups: Any) -> Any:
        return [FUNCTIONS[number][0](*group) for (number, _), group in zip(batch, groups)]

    def loss(groups: Any) -> Any:
        total: Any = 0.0
        for first, second in groups:
            total = total + kn.sum((first - 2 * second) * first)
        return total

    found = kn.compile(values)(arrays)
    pairs = [group[:2] for group in arrays]
    slopes = kn.compile(kn.grad(loss))(pairs)
    for (number, inputs), y, slope in zip(batch, found, slopes):
        expected = FUNCTIONS[number][1](*inputs)
        assert y.shape == expected.shape
        np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-12, atol=1e-12)
        a, b = inputs[:2]
        for one, whole, of in zip(slope, (2 * a - 2 * b, -2 * a + 0 * b), (a, b)):
            np.testing.assert_allclose(np.asarray(one), summed(whole, of.shape), rtol=1e-12, atol=1e-11)


def summed(whole: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What broadcasting spread, added up again."""
    total = whole.sum(axis=tuple(range(whole.ndim - len(shape))))
    return total.sum(axis=tuple(k for k, n in enumerate(shape) if n == 1), keepdims=True)


def test_what_does_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"add: shapes \(2, 3\) and \(2,\) do not broadcast"):
        kn.ones((2, 3)) + kn.ones(2)
    with pytest.raises(ValueError, match="cannot broadcast"):
        kn.broadcast_to(kn.ones((2, 3)), (3, 3))


def test_what_would_be_too_large() -> None:
    wide = 2**40
    with pytest.raises(ValueError, match="too large"):
        kn.zeros((wide, 1)) + kn.zeros((1, wide))
    with pytest.raises(ValueError, match="too large"):
        kn.zeros((wide, wide))
