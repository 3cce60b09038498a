"""The scalar emitter: each instruction against NumPy, at every instruction-set level."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.codegen.cpu.emitter import LlvmEmitter, constant_text
from knetc.runtime.base import dtypes

sys.path.insert(0, str(Path(__file__).parent))
from scalar_kernels import ALL, LEVELS, Elementwise, fold

FLOATS = (dtypes.f32, dtypes.f64)
INTS = (dtypes.i32, dtypes.i64)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, 3e38, np.inf, -np.inf, np.nan, 1e10, -1e10, 7.75]


def pairs(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of special values of a dtype, as two arrays of odd length."""
    if dtype.kind == "b":
        values = np.array([False, True])
    elif dtype.kind == "i":
        info = np.iinfo(dtype)
        values = np.array([0, 1, -1, 2, -2, 3, 7, -13, 1000, info.min, info.min + 1, info.max], dtype)
    else:
        with np.errstate(over="ignore"):
            values = np.array(SPECIAL, dtype)
    a, b = np.meshgrid(values, values)
    return np.append(a.ravel(), values[:1]), np.append(b.ravel(), values[:1])


def same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal values, equal signs of zero, NaN where NaN."""
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)
    if actual.dtype.kind == "f":
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=str)
def test_arithmetic(dtype, level):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        for name, expected in [("add", a + b), ("sub", a - b), ("mul", a * b)]:
            same(Elementwise(lambda e, x, y, f=name: getattr(e, f)(x, y), dtype, dtype, level=level)(a, b), expected)
        same(Elementwise(lambda e, x: e.neg(x), dtype, level=level)(a), -a)
        same(Elementwise(lambda e, x: e.abs(x), dtype, level=level)(a), np.abs(a))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_functions(dtype, level):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        same(Elementwise(lambda e, x, y: e.div(x, y), dtype, dtype, level=level)(a, b), a / b)
        for name in ("sqrt", "floor", "ceil", "trunc", "rint"):
            same(Elementwise(lambda e, x, f=name: getattr(e, f)(x), dtype, level=level)(a), getattr(np, name)(a))
        same(Elementwise(lambda e, x, y: e.copysign(x, y), dtype, dtype, level=level)(a, b), np.copysign(a, b))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", INTS, ids=str)
def test_integer_division_never_traps(dtype, level):
    a, b = pairs(dtype)
    quotient = Elementwise(lambda e, x, y: e.div(x, y), dtype, dtype, level=level)(a, b)
    remainder = Elementwise(lambda e, x, y: e.rem(x, y), dtype, dtype, level=level)(a, b)
    smallest = np.iinfo(dtype).min
    for x, y, q, r in zip(a.tolist(), b.tolist(), quotient.tolist(), remainder.tolist()):
        if y == 0:
            assert (q, r) == (0, 0)
        elif (x, y) == (smallest, -1):
            assert (q, r) == (smallest, 0)
        else:
            assert q == abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) and r == x - q * y


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_comparisons_and_select(dtype, level):
    a, b = pairs(dtype)
    functions = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater}
    for predicate, function in (functions | {"ge": np.greater_equal}).items():
        kernel = Elementwise(lambda e, x, y, p=predicate: e.compare(p, x, y), dtype, dtype, level=level)
        same(kernel(a, b), function(a, b))
    kernel = Elementwise(lambda e, x, y: e.select(e.compare("lt", x, y), y, x), dtype, dtype, level=level)
    same(kernel(a, b), np.where(a < b, b, a))
    if dtype.kind == "f":
        kernel = Elementwise(lambda e, x, y: e.compare("uno", x, y), dtype, dtype, level=level)
        same(kernel(a, b), np.isnan(a) | np.isnan(b))


@pytest.mark.parametrize("dtype", [dtypes.i32, dtypes.i64, dtypes.boolean], ids=str)
def test_bits(dtype):
    a, b = pairs(dtype)
    for name, function in [("and_", np.bitwise_and), ("or_", np.bitwise_or), ("xor", np.bitwise_xor)]:
        same(Elementwise(lambda e, x, y, f=name: getattr(e, f)(x, y), dtype, dtype)(a, b), function(a, b))
    same(Elementwise(lambda e, x: e.not_(x), dtype)(a), np.invert(a))
    if dtype.kind == "b":
        return
    count = b & (8 * dtype.itemsize - 1)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    same(Elementwise(lambda e, x, y: e.shl(x, y), dtype, dtype)(a, count), a << count)
    same(Elementwise(lambda e, x, y: e.ashr(x, y), dtype, dtype)(a, count), a >> count)
    logical = (a.view(unsigned) >> count.view(unsigned)).view(dtype)
    same(Elementwise(lambda e, x, y: e.lshr(x, y), dtype, dtype)(a, count), logical)


@pytest.mark.parametrize("level", LEVELS)
def test_upper_half_of_product(level):
    a, b = pairs(dtypes.i32)
    expected = (a.view(np.uint32).astype(np.uint64) * b.view(np.uint32)) >> np.uint64(32)
    kernel = Elementwise(lambda e, x, y: e.mulhi_u32(x, y), dtypes.i32, dtypes.i32, level=level)
    same(kernel(a, b), expected.astype(np.uint32).view(np.int32))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("source", ALL, ids=str)
@pytest.mark.parametrize("target", ALL, ids=str)
def test_conversions(source, target, level):
    a, _ = pairs(source)
    kernel = Elementwise(lambda e, x: e.convert(x, target), source, level=level)
    if source.kind == "f" and target.kind == "i":
        info = np.iinfo(target)
        expected = [0 if x != x else info.min if x < info.min else info.max if x >= info.max else int(x) for x in a]
        same(kernel(a), np.array(expected, target))
        return
    with np.errstate(over="ignore"):
        same(kernel(a), a.astype(target))


def test_bitcasts():
    a = pairs(dtypes.f32)[0]
    same(Elementwise(lambda e, x: e.bitcast(x, dtypes.i32), dtypes.f32)(a), a.view(np.int32))
    b = pairs(dtypes.i64)[0]
    same(Elementwise(lambda e, x: e.bitcast(x, dtypes.f64), dtypes.i64)(b), b.view(np.float64))


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(FLOATS))
def test_constants_keep_their_bits(value, dtype):
    with np.errstate(over="ignore"):
        expected = np.asarray(value, dtype)
    text = constant_text(value, dtype)
    assert (
        text.startswith("0x")
        and np.uint64(int(text, 16)).view(np.float64).astype(dtype).tobytes() == expected.tobytes()
    )


def test_constants_reach_the_kernel():
    x = np.zeros(3, np.float32)
    for value in (0.1, -0.0, np.inf, 1e-45):
        same(Elementwise(lambda e, _, v=value: e.constant(v, dtypes.f32), dtypes.f32)(x), np.full(3, value, np.float32))
    expected = np.full(3, -(2**63))
    same(Elementwise(lambda e, _: e.constant(-(2**63), dtypes.i64), dtypes.f32)(x), expected)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=str)
def test_folds(dtype, level):
    rng = np.random.default_rng(0)
    x = rng.integers(-100, 100, 1003).astype(dtype)
    assert fold("add", dtype, 0, level)(x) == x.sum()
    low, high = (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    largest, smallest = fold("max", dtype, low, level), fold("min", dtype, high, level)
    assert largest(x) == x.max() and smallest(x) == x.min()
    if dtype.kind == "f":
        for place in (0, 500, 1002):
            y = x.copy()
            y[place] = np.nan
            assert np.isnan(largest(y)) and np.isnan(smallest(y))
        assert largest(np.full(7, -np.inf, dtype)) == -np.inf


def test_folds_of_bools():
    x = np.array([False, True, False])
    assert fold("max", dtypes.boolean, False, "native")(x)
    assert not fold("min", dtypes.boolean, True, "native")(x)


def test_operands_must_have_one_dtype():
    e = LlvmEmitter()
    with pytest.raises(TypeError, match=r"one dtype, not float32 .* and float64"):
        e.add(e.constant(1, dtypes.f32), e.constant(1, dtypes.f64))
