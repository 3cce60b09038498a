"""The elementary functions: exact enough, right at special values, the same bits in vectors and in scalar tails."""

import math
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.codegen.cpu import native, rare
from knetc.runtime.base import dtypes

from knetc.ops import vector_angles, vector_errors, vector_math
from knetc.ops.vector_math import philox_reference

sys.path.insert(0, str(Path(__file__).parent))
from scalar_kernels import LEVELS, Elementwise
from vector_math_cases import (
    BINARY,
    COMPOSITES,
    FLOATS,
    REFERENCES,
    errors,
    kernel,
    samples,
    worst,
    worst_composite,
)
from vector_math_cases import (
    SPECIAL as EIGHT_ULP,
)

BOUNDS = {dtypes.f32: 2.0, dtypes.f64: 4.0}
SPECIAL = [
    0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5,
    1e-42, -1e-42, 1e-310, 100.0, -200.0, 3e38, 1e30, -1e30,
]  # fmt: skip


def bound(name: str, dtype: np.dtype) -> float:
    return 8.0 if name in EIGHT_ULP else BOUNDS[dtype]


def special_values(dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array([*SPECIAL, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal], dtype)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_error_in_ulp(name, dtype, level):
    error, at = worst(name, dtype, level, count=1000)
    assert error <= bound(name, dtype), f"{error} ulp at {at}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", COMPOSITES)
def test_error_in_ulp_of_composites(name, dtype):
    error, at = worst_composite(name, dtype, count=500)
    exact = name in ("frexp", "nextafter")
    assert error <= (0 if exact else BOUNDS[dtype]), f"{error} ulp at {at}"


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", [name for name in REFERENCES if name not in BINARY])
def test_special_values(name, dtype):
    x = special_values(dtype)
    actual = kernel(name, dtype)(x)
    if name in ("erf", "erfc"):
        exact = np.array([getattr(math, name)(v) for v in x.tolist()], np.longdouble)
    else:
        with np.errstate(all="ignore"):
            exact = REFERENCES[name](x.astype(np.longdouble))
    if name == "sigmoid":
        exact = np.where(x == -math.inf, 0, exact)  # the formula has inf/inf there
    found = errors(actual, exact)
    allowed = bound(name, dtype)
    assert (found <= allowed).all(), (x[found > allowed], actual[found > allowed])
    zero = (exact == 0) & ((name != "tetragamma") | np.isfinite(x))  # which rises to a negative zero
    np.testing.assert_array_equal(np.signbit(actual[zero]), np.signbit(exact[zero]))
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(actual[infinite], rounded[infinite])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_special_pairs(name, dtype):
    values = np.append(special_values(dtype), np.array([0.75, -0.75, 5e9, 2.0**53 - 1, -(2.0**24) + 1], dtype))
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        exact = REFERENCES[name](x.astype(np.longdouble), y.astype(np.longdouble))
        rounded = exact.astype(dtype)
    actual = kernel(name, dtype)(x, y)
    found = errors(actual, exact)
    assert (found <= BOUNDS[dtype]).all(), [*zip(x[found > 4], y[found > 4], actual[found > 4], rounded[found > 4])]
    number = ~np.isnan(rounded)
    np.testing.assert_array_equal(np.signbit(actual[number]), np.signbit(rounded[number]))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_vector_and_tail_give_the_same_bits(name, dtype, level):
    arguments = [a[:: max(1, a.size // 300)] for a in samples(name, dtype, 100)]
    function = kernel(name, dtype, level)
    together = function(*arguments)
    alone = np.array([function(*(a[k : k + 1] for a in arguments))[0] for k in range(together.size)], dtype)
    nan = np.isnan(together)
    np.testing.assert_array_equal(np.isnan(alone), nan)
    assert together[~nan].tobytes() == alone[~nan].tobytes()


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "erf", "erfc", "log", "sin", "pow"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_functions_are_widened(name, dtype):
    """No call is left but those that have variants for vectors, so nothing stands in their way."""
    text = kernel(name, dtype).text
    text = text.partition(rare.SEPARATOR)[0]
    calls = {line.split("@")[1].split("(")[0] for line in text.splitlines() if " call " in line}
    assert all(call.startswith(("llvm.", "rare_", "scaled_")) for call in calls)
    optimised = native.optimized_ir(kernel(name, dtype).text, native.target("native"))
    assert f"x {'float' if dtype == dtypes.f32 else 'double'}>" in optimised


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_tables_of_error_functions_are_rounded_once(dtype):
    steps, scale = vector_errors.STEPS[dtype], vector_errors.ERFC_SCALE[dtype]
    erf, erf_slope = vector_errors.erf_tables() if dtype == dtypes.f64 else ((), ())  # float32 has none
    erfc, erfc_slope = vector_errors.erfc_tables(dtype)
    for k in {*range(0, len(erfc), 23), 1, max(len(erf) - 1, 0), len(erfc) - 1}:
        r = mpmath.mpf(k) / steps
        slope = 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-r * r)
        assert (erfc[k], erfc_slope[k]) == (float(mpmath.erfc(r) * scale), float(slope * scale))
        if k < len(erf):
            assert (erf[k], erf_slope[k]) == (float(mpmath.erf(r)), float(slope))
    octaves, place_bits, _ = vector_errors.ERFINV_PLACES[dtype]
    inverse, inverse_slope = vector_errors.erfinv_tables(dtype)
    for k in range(0, len(inverse), 23):
        y = mpmath.erfinv(1 - mpmath.ldexp(1 + (k % 2**place_bits) * 2.0**-place_bits, k // 2**place_bits - octaves))
        slope = mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(y * y)
        assert (inverse[k], inverse_slope[k]) == (float(y), float(slope))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_large_angles(name, dtype, level):
    """Next to multiples of pi/2, where nearly all digits cancel, on both sides of the limit of the usual reduction."""
    limit = dtype.type(vector_angles.ANGLE_LIMITS[dtype])
    with mpmath.workprec(200):
        turns = np.unique(np.geomspace(1, 1e17, 600).astype(np.int64))
        angles = [float(mpmath.mpf(int(n)) * mpmath.pi / 2) for n in turns]
    # the multiple of pi/2 that lies nearest to a number of the dtype, of all
    angles.append(16367173 * 2.0**72 if dtype == dtypes.f32 else 6381956970095103 * 2.0**797)
    x = np.array([*angles, *(-a for a in angles), limit, -limit, np.nextafter(limit, dtype.type(0))], dtype)
    actual = kernel(name, dtype, level)(x)
    assert errors(actual, REFERENCES[name](x)).max() <= BOUNDS[dtype]


@pytest.mark.parametrize("level", LEVELS)
def test_rare_values_do_not_disturb_their_neighbours(level):
    """One large angle in any lane of a vector, or in the tail, changes nothing but its own result."""
    function = kernel("sin", dtypes.f64, level)
    x = np.linspace(-3, 3, 67)
    usual = function(x)
    for k in range(x.size):
        y = x.copy()
        y[k] = 1e22
        expected = usual.copy()
        expected[k] = -0.8522008497671888  # sin(1e22), the classic
        np.testing.assert_array_equal(function(y), expected)


@pytest.mark.parametrize(
    ("counter", "key", "word"),
    [
        (0, 0, 0xFF1DAE59),
        (0xFFFFFFFF_FFFFFFFF, 0xFFFFFFFF, 0x2C3F628B),
        (0x85A308D3_243F6A88, 0x13198A2E, 0xDD7CE038),
    ],
)
def test_philox_known_answers(counter, key, word):
    """The vectors that come with the generator's definition."""
    counters = np.array([counter], np.uint64).view(np.int64)
    assert philox_reference(counters, key).view(np.uint32)[0] == word


_philox = {level: Elementwise(vector_math.philox, dtypes.i64, dtypes.i64, level=level) for level in LEVELS}


@settings(max_examples=30)
@given(st.integers(-(2**63), 2**63 - 1001), st.integers(-(2**63), 2**63 - 1), st.sampled_from(LEVELS))
def test_philox_is_its_reference(base, key, level):
    counters = base + np.arange(67)
    actual = _philox[level](counters, np.full(67, key))
    np.testing.assert_array_equal(actual, philox_reference(counters, key))


def test_philox_looks_random():
    bits = philox_reference(np.arange(100_000), 42).view(np.uint32)
    assert abs(bits.mean() / 2**31 - 1) < 0.01 and np.unique(bits).size > 99_990
    assert (philox_reference(np.arange(1000), 1) != philox_reference(np.arange(1000), 1 + 2**32)).mean() > 0.99
