"""Small programs whose results NumPy gives too: lazy, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn

X = np.arange(12.0).reshape(3, 4)


def assigned(x: Any, key: Any, value: Any) -> Any:
    y = kn.array(x)
    y[key] = value
    return y


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda: kn.full((4, 4), 3.5) @ kn.ones((4, 4)), np.full((4, 4), 14.0)),
        (lambda: kn.array(3.5).reshape(1, 1) @ kn.ones((1, 3)), np.full((1, 3), 3.5)),
        (lambda: kn.array(X)[kn.array(-3)], X[-3]),
        (lambda: kn.array(X)[kn.array(2), kn.array(3)], X[2, 3]),
        (lambda: kn.take(kn.array(X), kn.array(3), axis=1), X[:, 3]),
        (lambda: kn.full((3,), 7)[np.array([1, 2])], [7, 7]),
        (lambda: kn.array(7).reshape(1)[np.array([0, 0])], [7, 7]),
        (lambda: assigned(X[0], kn.array(3), kn.array(3.5)), [0, 1, 2, 3.5]),
        (lambda: assigned(X[0], np.array([3]), 3.5), [0, 1, 2, 3.5]),
    ],
)  # fmt: skip
def test_numbers_that_kernels_read_as_memory(program: Callable[[], Any], expected: Any) -> None:
    """Ordinary numbers are given to programs by value; products, checks and gathers read memory."""
    np.testing.assert_array_equal(program().numpy(), expected)


def test_a_number_that_is_no_index_raises() -> None:
    with pytest.raises(IndexError, match="index 9 is out of range"):
        kn.array(X)[kn.array(9)].numpy()


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5])
def test_powers_of_bools_are_integers(exponent: int) -> None:
    base = np.array([True, False])
    result = kn.array(base) ** exponent
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result.numpy(), base.astype(np.int64) ** exponent)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i4", ">i8"])
@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_arrays_of_foreign_byte_order(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.full(shape, 3, dtype)
    for result in (kn.array(x) + 1, kn.array([1], x.dtype.newbyteorder("=")) + x, kn.compile(lambda x: x + 1)(x)):
        assert result.dtype == x.dtype.newbyteorder("=")
        np.testing.assert_array_equal(np.squeeze(result.numpy()), np.squeeze(np.broadcast_to(x + 1, result.shape)))


def test_mistakes_are_told_with_their_line() -> None:
    x = kn.array(X)
    for mistake in (
        lambda: x[7],
        lambda: x[0, 0, 0],
        lambda: kn.grad(lambda y: y * 2)(x),
        lambda: kn.compile(lambda y: float(y[0, 0]))(x),
    ):
        with pytest.raises((IndexError, RuntimeError), match=r"test_against_numpy\.py:"):
            mistake()
    with pytest.raises(ValueError, match=r"kn\.where"):
        bool(x > 2)
