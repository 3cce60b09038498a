"""Methods and keywords of NumPy's elementwise functions and reductions, on arrays as on NumPy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import knetc as kn

random = np.random.default_rng(5)
NUMBERS = {
    "A": random.integers(-5, 9, (3, 4)).astype(float),
    "B": random.integers(1, 9, (3, 4)).astype(float),
    "V": np.array([3.0, 1, 2, 2, 5, -1]),
    "I": random.integers(0, 9, (3, 4)),
    "U": np.arange(6, dtype=np.uint8),
    "N": np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]]),
}
NUMBERS["M"] = NUMBERS["A"] > 1
ARRAYS = ("A", "B", "V", "I", "U", "N", "M")

#: programs that assign to r, or to arrays; v makes an array
PROGRAMS = """
np.add.at(V, [0, 0, 1], 2.0)
np.add.at(V, v(np.array([0, 0, 1])), [1.0, 2, 3])
np.subtract.at(A, (slice(None), [0, 0]), 1)
np.add.at(A, M, 5)
np.add.at(I, (0, 1), 5)
np.add.at(U, [0], 200)
np.add.at(A, (..., [0, 0, 3]), B[:, :3])
np.add(A, B, out=A)
np.add(A, 1, out=A, where=M)
np.sqrt(B, out=B, where=M)
np.add(I, 1.5, out=I, casting="unsafe")
r = np.add(V, 1, out=v(np.zeros((2, 6))))
np.divmod(A, B, out=(A, B))
x = v(np.zeros(4)); np.sum(A, axis=0, out=x); r = x
x = v(np.zeros(4)); np.mean(A, 0, None, x); r = x
np.clip(A, 0, 1, out=A)
n = np.ones(6); n += V; n *= V; r = n
n = np.ones(6); np.multiply(V, 2, out=n); r = n
np.cumsum(A, axis=0, out=A)
x = v(np.zeros((3, 4), np.float32)); np.add(A, B, out=x); r = x
r = np.add(A, B, where=True)
r = np.add(A, B, dtype=np.float32)
r = np.less(A, B, dtype=bool)
r = np.multiply(U, U, dtype=np.int64)
r = np.add.reduce(A, axis=(0, 1), keepdims=True)
r = np.add.reduce(A, where=M, initial=1)
r = np.add.reduce(U, dtype=np.uint8)
r = np.maximum.reduce(A, axis=1, initial=7)
r = np.gcd.reduce(I, axis=None, keepdims=True)
r = np.lcm.reduce(I, axis=0)
r = np.bitwise_and.reduce(I[:0])
r = np.logaddexp.reduce(A[:0])
r = np.bitwise_xor.reduce(I, axis=(0, 1))
r = np.subtract.reduce(A)
r = np.subtract.reduce(A, axis=1, initial=3)
r = np.divide.reduce(B)
r = np.power.reduce(B[:, :1])
r = np.hypot.reduce(A)
r = np.fmax.reduce(N, axis=0)
r = np.logical_xor.reduce(A, axis=1)
r = np.equal.reduce(M, axis=1)
r = np.equal.accumulate(M)
r = np.subtract.accumulate(V)
r = np.bitwise_or.accumulate(I, axis=1)
r = np.divide.accumulate(B)
r = np.hypot.accumulate(A)
r = np.add.reduceat(V, [0, 2, 4])
r = np.add.reduceat(A, [0, 3, 1], axis=1)
r = np.maximum.reduceat(V, [0, 3])
r = np.less.outer(V, V)
r = np.add.outer([1.0, 2], A)
r = np.sum(A, axis=0, where=M, initial=2.0)
r = np.sum(A, where=M[0])
r = np.sum(M, where=M)
r = np.prod(A, axis=0, initial=2, dtype=np.float32)
r = np.prod(A, where=M)
r = np.max(A, where=M, initial=-9)
r = np.min(A, initial=0, where=M, axis=1, keepdims=True)
r = np.max(M, axis=0, initial=True, where=M)
r = np.max(A[:0], axis=0, initial=3)
r = np.mean(A, axis=1, where=M[:, :1] | True)
r = np.mean(U, dtype=np.float32)
r = np.mean(A.astype(np.float16), dtype=np.float32)
r = np.var(A, where=M)
r = np.var(A, axis=0, ddof=1, keepdims=True)
r = np.std(A, axis=0, mean=np.mean(A, axis=0, keepdims=True))
r = A.std(axis=1, ddof=1, where=M | True)
r = np.any(A, where=M)
r = np.all(A, axis=0, where=M)
r = A.sum(where=M), A.max(initial=9), A.mean(dtype=np.float32)
r = np.nansum(N, axis=0, initial=4), np.nanprod(N, axis=1), np.nanmean(N[:1], where=np.array([True, True, False]))
r = np.nanmax(N, initial=-4), np.nanmin(N[:, :1], axis=0), np.nanvar(N, axis=0, ddof=0), np.nanstd(N[:1], ddof=1)
""".strip().splitlines()

MISTAKES = """
np.add(I, 1.5, out=I)
np.sum(A, axis=0, out=V[:3])
np.add(A, B, out=v(np.zeros(3)))
np.add(A, B, dtype=np.int64)
np.subtract.reduce(A, axis=(0, 1))
np.subtract.reduce(V[:0])
np.negative.reduce(A)
np.max(A, where=M)
np.sum(A, where=I)
np.max(V[:0])
np.add.reduceat(V, [9])
np.add.at(V, [9], 1.0); V.tolist()
""".strip().splitlines()


FUNCTIONS = (
    "add",
    "multiply",
    "subtract",
    "maximum",
    "logaddexp",
    "fmin",
    "hypot",
    "bitwise_xor",
    "gcd",
    "logical_xor",
)


def outcome(program: str, v: Any) -> list[Any]:
    """What a program leaves behind."""
    space: dict[str, Any] = {"np": np, "v": v, **{name: v(x.copy()) for name, x in NUMBERS.items()}}
    with np.errstate(all="ignore"):
        exec(program, space)
    result = space.get("r", ())
    return [*(result if isinstance(result, tuple) else (result,)), *(space[name] for name in ARRAYS)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("program", PROGRAMS)
def test_as_numpy(program: str) -> None:
    ours, numpys = outcome(program, kn.array), outcome(program, lambda x: x)
    for mine, theirs in zip(ours, numpys, strict=True):
        theirs = np.asarray(theirs)
        assert np.asarray(mine).dtype == theirs.dtype
        assert np.shape(mine) == theirs.shape
        np.testing.assert_allclose(np.asarray(mine), theirs, rtol=1e-6 if theirs.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("program", MISTAKES)
def test_mistakes_as_numpy(program: str) -> None:
    for v in (lambda x: x, kn.array):
        with pytest.raises((TypeError, ValueError, IndexError)):
            outcome(program, v)


@settings(max_examples=40)
@given(
    st.sampled_from(
        ["add", "multiply", "subtract", "maximum", "logaddexp", "fmin", "hypot", "bitwise_xor", "gcd", "logical_xor"]
    ),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.data(),
)
def test_methods_of_any_function(name: str, shape: list[int], data: st.DataObject) -> None:
    function, axis = getattr(np, name), data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.random.default_rng(len(shape)).integers(0, 9, shape)
    x = x if name in ("bitwise_xor", "gcd") else x.astype(float)
    for method in ("reduce", "accumulate"):
        try:
            theirs = getattr(function, method)(x, axis)
        except ValueError:  # of no elements
            with pytest.raises(ValueError):
                getattr(function, method)(kn.array(x), axis)
            continue
        ours = np.asarray(getattr(function, method)(kn.array(x), axis))
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, strict=True)


def test_numbers_that_an_array_does_not_hold_are_not_added_to_it() -> None:
    for x in (kn.array([1, 2]), kn.array([True, False])):
        with pytest.raises(TypeError, match=r"numpy\.add\.at: 1\.5 is not added"):
            np.add.at(x, [0], 1.5)


def test_compiled_and_differentiated() -> None:
    x, mask = kn.array(NUMBERS["B"]), NUMBERS["M"]

    @kn.compile
    def changed(x: Any) -> Any:
        np.add.at(x, ([0, 0], [1, 1]), 2.0)
        np.multiply(x, 3, out=x, where=mask)
        return np.subtract.accumulate(x, axis=1)

    expected = NUMBERS["B"].copy()
    expected[0, 1] += 4
    expected[mask] *= 3
    np.testing.assert_array_equal(changed(kn.array(NUMBERS["B"])), np.subtract.accumulate(expected, axis=1))
    slope = kn.grad(lambda v: np.var(v, where=mask))(x)
    chosen = NUMBERS["B"][mask]
    expected = np.zeros((3, 4))
    expected[mask] = 2 * (chosen - chosen.mean()) / chosen.size
    np.testing.assert_allclose(slope, expected, atol=1e-12)
    assert kn.grad(lambda v: np.divide.reduce(v, axis=0).sum())(x).shape == (3, 4)
    holes = kn.array([1.0, np.nan, 3.0])
    assert kn.grad(lambda v: kn.nanvar(v))(holes).tolist() == [-1.0, 0.0, 1.0]
