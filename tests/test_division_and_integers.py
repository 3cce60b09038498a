"""Integers behave as NumPy's at their edges, and remainders of floats are exact however large the quotient."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.runtime.base.errors import DtypeError

import knetc as kn

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
MIXED = (("int8", "uint8"), ("uint32", "int32"), ("int64", "uint64"), ("uint64", "int8"), ("uint16", "int64"))
PAIRS = (*((dtype, dtype) for dtype in INTEGERS), *MIXED)
BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "power": np.power,
    "floor_divide": np.floor_divide, "mod": np.mod, "fmod": np.fmod,
    "left_shift": np.left_shift, "right_shift": np.right_shift,
    "maximum": np.maximum, "bitwise_xor": np.bitwise_xor,
    "less": np.less, "equal": np.equal, "greater_equal": np.greater_equal,
}  # fmt: skip
UNARY = {"abs": np.abs, "negative": np.negative, "sign": np.sign, "invert": np.invert, "square": np.square}


def edges(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    values = [0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 100, 127, info.max - 1, info.max, info.max // 2 + 1]
    values += [-1, -2, -3, -7, -64, info.min, info.min + 1]
    return np.array([v for v in values if info.min <= v <= info.max], dtype)


@cache
def compiled(name: str):
    return kn.compile(getattr(kn, name))


def check(name: str, *arrays: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        expected = (BINARY | UNARY)[name](*arrays)
    actual = np.asarray(compiled(name)(*map(kn.array, arrays)))
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtypes", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", BINARY)
def test_edges_of_pairs(name, dtypes):
    if "shift" in name and "uint64" in dtypes and dtypes != ("uint64", "uint64"):
        return  # NumPy makes float64 of them, which has no shifts
    if name == "bitwise_xor" and np.result_type(*dtypes).kind == "f":
        return
    a, b = (x.ravel() for x in np.meshgrid(*map(edges, dtypes)))
    if name == "power":
        a, b = a[b >= 0], b[b >= 0]
    if name == "power" and np.result_type(*dtypes).kind == "f":
        return
    check(name, a, b)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", UNARY)
def test_edges(name, dtype):
    check(name, edges(dtype))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_integers_as_numpy_has_them(data):
    dtype = data.draw(st.sampled_from(INTEGERS))
    name = data.draw(st.sampled_from([*BINARY, *UNARY]))
    info = np.iinfo(dtype)
    numbers = st.integers(int(info.min), int(info.max)) | st.integers(max(-70, int(info.min)), 70)
    a, b = (np.array(data.draw(st.lists(numbers, min_size=40, max_size=40)), dtype) for _ in range(2))
    check(name, a, abs(b) & info.max if name == "power" else b) if name in BINARY else check(name, a)


def test_negative_powers_of_integers_raise():
    with pytest.raises(DtypeError, match=r"negative power \(-2\).*astype"):
        np.asarray(kn.array([2, 3, 4]) ** kn.array([1, 0, -2]))
    with pytest.raises(DtypeError, match="negative power"):
        kn.array([2, 3]) ** -1


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"])
def test_large_integers_are_compared_exactly(name):
    """Their common dtype would be float64, in which 2**63 - 1 and 2**63 are one number."""
    a = np.array([2**63 - 1, 2**63 - 1, -1, 5, -(2**63)], np.int64)
    b = np.array([2**63, 2**63 - 2, 2**64 - 1, 5, 0], np.uint64)
    function = compiled(name)
    np.testing.assert_array_equal(function(kn.array(a), kn.array(b)), getattr(np, name)(a, b))
    np.testing.assert_array_equal(function(kn.array(b), kn.array(a)), getattr(np, name)(b, a))


def test_sign_of_zeros():
    for dtype in ("float32", "float64"):
        x = np.array([-0.0, 0.0, -3.0, 2.0, np.nan], dtype)
        actual = np.asarray(compiled("sign")(kn.array(x)))
        np.testing.assert_array_equal(actual, np.sign(x))
        assert not np.signbit(actual[:2]).any()


def any_floats(dtype: str, count: int, seed: int) -> np.ndarray:
    """Any bits but those of infinities and NaN."""
    x = np.random.default_rng(seed).integers(0, 256, (count, np.dtype(dtype).itemsize), np.uint8).view(dtype).ravel()
    return np.where(np.isfinite(x), x, np.asarray(1.5, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["mod", "fmod"])
def test_remainders_are_exact(name, dtype):
    info = np.finfo(dtype)
    special = [0, 1, 3, 0.1, 0.5, 1e30, info.max, info.tiny, info.smallest_subnormal, info.tiny * 1.7, np.inf, np.nan]
    special = np.array([*special, *(-v for v in special)], dtype)
    a, b = (x.ravel() for x in np.meshgrid(special, special))
    a = np.concatenate([a, any_floats(dtype, 500, 1), any_floats(dtype, 500, 2) * 0 + 7.5])
    b = np.concatenate([b, any_floats(dtype, 500, 3), any_floats(dtype, 500, 4)])
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
    actual = np.asarray(compiled(name)(kn.array(a), kn.array(b)))
    np.testing.assert_array_equal(actual, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quotients_are_rounded_down(dtype):
    """Those that floats hold are exact, which NumPy's float32 ones are not always."""
    rng = np.random.default_rng(5)
    b = rng.uniform(-3, 3, 1000).astype(dtype)
    a = (b * 2.0 ** rng.uniform(-3, 40, 1000)).astype(dtype)
    a = np.where(rng.random(1000) < 0.3, np.rint(a) * b, a).astype(dtype)
    exact = [Fraction(float(x)) / Fraction(float(y)) for x, y in zip(a, b)]
    expected = np.array([q.numerator // q.denominator for q in exact], dtype)
    np.testing.assert_array_equal(compiled("floor_divide")(kn.array(a), kn.array(b)), expected)
    for x, y in [(-0.0, 3), (5, np.inf), (-5, np.inf), (np.inf, 2), (3, 0), (0, 0), (-3, 0), (1e30, 1e-30)]:
        with np.errstate(all="ignore"):
            one = np.floor_divide(np.array([x], dtype), np.array([y], dtype))
        np.testing.assert_array_equal(
            compiled("floor_divide")(kn.array([x], dtype), kn.array([y], dtype)), one, err_msg=f"{x} // {y}"
        )


def test_hypot_of_nan_and_infinity():
    values = np.array([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan])
    a, b = (x.ravel() for x in np.meshgrid(values, values))
    np.testing.assert_allclose(compiled("hypot")(kn.array(a), kn.array(b)), np.hypot(a, b))
