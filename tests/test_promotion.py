"""Functions of two arrays, or an array and a number, for all pairs of dtypes: the dtypes that NumPy gives, its values
at the ends of ranges, its errors. Where it differs, the page on differences says so."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.runtime.base import dtypes
from optable import ALL

import knetc as kn

BF16 = dtypes.bfloat16()
PLAIN = tuple(d for d in ALL if d != BF16)
EXACT = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "floor_divide",
    "remainder",
    "fmod",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "equal",
    "not_equal",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "left_shift",
    "right_shift",
    "copysign",
    "heaviside",
    "gcd",
    "lcm",
    "nextafter",
    "ldexp",
]
ROUNDED = ["power", "float_power", "hypot", "arctan2", "logaddexp", "logaddexp2"]
NUMBERS = (True, 0, 1, -1, 3, 127, 128, 255, 300, 2**31, 2**63, 2**70, 2.5, -0.0, 1e300, float("inf"), float("nan"))


def ends(dtype: np.dtype) -> np.ndarray:
    """What functions may get wrong: the ends of a dtype's range, zeros, infinities, NaN, small numbers."""
    if dtype == dtypes.boolean:
        return np.array([False, True])
    if dtypes.is_integer(dtype):
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        values = {low, low + 1, 0, 1, 2, 3, 7, 64, 65, high // 2, high - 1, high, -1, -2, -7}
        return np.array(sorted(v for v in values if low <= v <= high), dtype)
    tiny, top = 2.0 ** dtypes.min_exponent(dtype), dtypes.largest(dtype)
    smallest = tiny * 2.0 ** -dtypes.mantissa_bits(dtype)
    values = [0.0, 1.0, 2.0, 0.5, 3.0, 7.5, 1 + 2.0 ** -dtypes.mantissa_bits(dtype), tiny, smallest, top, np.inf]
    return np.array([*values, *(-v for v in values), np.nan], dtype)


def expected_dtype(numpys: np.dtype, *sources: np.dtype) -> np.dtype:
    """NumPy's dtype, but that integers and bools become floats of the default dtype."""
    promoted = np.result_type(*sources)
    return dtypes.f32 if numpys.kind == "f" and promoted.kind != "f" else numpys


def same(ours: np.ndarray, numpys: np.ndarray, loose: bool, zeros: bool) -> np.ndarray:
    """Whether elements are equal, NaN and, unless ``zeros`` says otherwise, the signs of zeros included."""
    if not dtypes.is_float(numpys.dtype):
        return ours == numpys
    a, b = ours.astype(np.float64), numpys.astype(np.float64)
    equal = (a == b) & (zeros | (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))
    if loose:
        last = 2.0 ** -dtypes.mantissa_bits(numpys.dtype)
        least = 2.0 ** (dtypes.min_exponent(numpys.dtype) - dtypes.mantissa_bits(numpys.dtype))
        with np.errstate(all="ignore"):
            equal |= np.abs(a - b) <= 4 * last * np.abs(b) + 4 * least
    return equal


def outcome(function: Any, *operands: Any) -> Any:
    """The result, or the exception."""
    try:
        with np.errstate(all="ignore"):
            return function(*operands)
    except (TypeError, ValueError, OverflowError) as error:
        return error


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_dtypes_of_all_pairs(name: str) -> None:
    function = getattr(np, name)
    for a, b in itertools.product(PLAIN, PLAIN):
        x, y = np.ones(2, a), np.ones(2, b)
        theirs, ours = outcome(function, x, y), outcome(function, kn.array(x), kn.array(y))
        if isinstance(theirs, Exception):
            if name not in ("gcd", "lcm", "ldexp"):  # of bools, and with exponents of any integers
                assert isinstance(ours, TypeError), (a, b, ours)
            continue
        assert not isinstance(ours, Exception), (a, b, ours)
        sources = (a,) if name == "ldexp" else (a, b)
        wanted = theirs.dtype if name == "float_power" else expected_dtype(theirs.dtype, *sources)
        assert ours.dtype == wanted, (a, b)


@pytest.mark.parametrize("name", EXACT)
def test_dtypes_with_bfloat16(name: str) -> None:
    function = getattr(np, name)
    for other in (*PLAIN, BF16):
        for pair in ((BF16, other), (other, BF16)):
            x, y = (np.ones(2, d) for d in pair)
            theirs, ours = outcome(function, x, y), outcome(function, kn.array(x), kn.array(y))
            if isinstance(theirs, Exception):
                continue  # NumPy has no loop for many of them
            assert ours.dtype == (theirs.dtype if theirs.dtype == bool else dtypes.promote(*pair)), pair


@settings(max_examples=40)
@given(st.sampled_from([*EXACT, *ROUNDED]), st.sampled_from(PLAIN), st.sampled_from(PLAIN))
def test_values_at_the_ends_of_ranges(name: str, a: np.dtype, b: np.dtype) -> None:
    """Of floats that integers become only where the dtype is NumPy's."""
    function = getattr(np, name)
    x, y = (np.ascontiguousarray(v).ravel() for v in np.meshgrid(ends(a), ends(b)))
    if name in ("power", "float_power") and not (dtypes.is_float(a) or dtypes.is_float(b)):
        y = np.where(y < 0, 0, y).astype(b)
    theirs, ours = outcome(function, x, y), outcome(function, kn.array(x), kn.array(y))
    if isinstance(theirs, Exception) or ours.dtype != theirs.dtype:
        return
    zeros = theirs.dtype == dtypes.f16 and name in ("maximum", "minimum", "fmax", "fmin", "nextafter")
    good = same(np.asarray(ours), theirs, name in ROUNDED, zeros)
    wrong = [(x[k], y[k], theirs[k], np.asarray(ours)[k]) for k in np.flatnonzero(~good)[:3]]
    assert good.all(), f"{name}({a}, {b}): (x, y, NumPy's, ours): {wrong}"


@settings(max_examples=60)
@given(
    st.sampled_from([n for n in EXACT if n not in ("ldexp", "gcd", "lcm", "nextafter", "heaviside")]),
    st.sampled_from(PLAIN),
    st.sampled_from(NUMBERS),
    st.booleans(),
)
def test_numbers_beside_arrays(name: str, dtype: np.dtype, number: Any, first: bool) -> None:
    """They are weak, and where one does not fit NumPy raises the same kind of error."""
    function, x = getattr(np, name), ends(dtype)
    theirs = outcome(function, *((number, x) if first else (x, number)))
    try:
        ours = function(*((number, kn.array(x)) if first else (kn.array(x), number))).numpy()
    except (TypeError, OverflowError) as error:
        ours = error
    if isinstance(theirs, Exception):
        assert isinstance(ours, type(theirs).__mro__[-4] if isinstance(theirs, TypeError) else type(theirs)), ours
        return
    assert not isinstance(ours, Exception), ours
    wanted = dtypes.f32 if theirs.dtype.kind == "f" and not dtypes.is_float(dtype) else theirs.dtype
    assert ours.dtype == wanted
    if ours.dtype == theirs.dtype:
        zeros = theirs.dtype == dtypes.f16 and name in ("maximum", "minimum", "fmax", "fmin")
        assert same(ours, theirs, False, zeros).all(), (theirs, ours)


@pytest.mark.parametrize("dtype", PLAIN, ids=str)
def test_functions_of_one_array(dtype: np.dtype) -> None:
    names = [
        "absolute",
        "negative",
        "sign",
        "square",
        "fabs",
        "rint",
        "floor",
        "ceil",
        "trunc",
        "signbit",
        "isnan",
        "isfinite",
        "isinf",
        "logical_not",
    ]
    names += ["spacing"] if dtypes.is_float(dtype) else ["invert", "bitwise_count"]
    x = ends(dtype)
    x = np.abs(x) if dtype == dtypes.f16 else x  # NumPy's spacing of float16 has no sign
    for name in names:
        function = getattr(np, name)
        theirs, ours = outcome(function, x), outcome(function, kn.array(x))
        if isinstance(theirs, Exception):
            continue
        wanted = theirs.dtype if theirs.dtype.kind != "f" or dtypes.is_float(dtype) else dtypes.f32
        assert ours.dtype == wanted, name
        if wanted == theirs.dtype:
            assert same(np.asarray(ours), theirs, False, False).all(), (name, x, theirs, ours)


@pytest.mark.parametrize("dtype", [dtypes.f16, BF16], ids=str)
def test_neighbours_of_narrow_numbers(dtype: np.dtype) -> None:
    """All of them, up and down."""
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    for to in (np.inf, -np.inf, 0.0):
        with np.errstate(all="ignore"):
            theirs = np.nextafter(every, np.full_like(every, to)).astype(np.float64)
        ours = np.asarray(kn.nextafter(kn.array(every), kn.array(np.full_like(every, to)))).astype(np.float64)
        np.testing.assert_array_equal(ours, theirs)


def test_integers_are_rounded_to_tens() -> None:
    x = np.array([14, 15, 25, -35, 149])
    for digits in (-2, -1, 0, 1):
        ours = np.round(kn.array(x), digits)
        assert ours.dtype == np.int64
        np.testing.assert_array_equal(ours, np.round(x, digits))
