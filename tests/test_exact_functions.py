"""Every public function of numbers against mpmath: exact and special values, alone and fused, vectors and tails."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from knetc.runtime.base import dtypes

import knetc as kn
from knetc.ops import vector_activations
from knetc.ops.gamma_zeros import LGAMMA, zeros

sys.path.insert(0, str(Path(__file__).parent))
from exact_functions import ALL, BINARY, DERIVATIVES, UNARY, derivative, exactly, known
from scalar_kernels import LEVELS, Elementwise
from vector_math_cases import errors

FLOATS = (dtypes.f32, dtypes.f64)


@pytest.mark.parametrize("name", ALL)
def test_error_in_ulp(name):
    """Also as part of a larger kernel, and in a scalar tail."""
    case = ALL[name]
    fused = kn.compile(lambda *x: case.function(*x) * 2)
    for dtype, bound in zip(FLOATS, case.most, strict=True):
        given, exact = known(name, dtype, 10)
        actual = np.asarray(case.function(*map(kn.array, given)))
        assert actual.dtype == dtype
        found = errors(actual, exact)
        worst = int(np.argmax(found))
        assert found[worst] <= bound, f"{found[worst]} ulp at {[float(a[worst]) for a in given]} in {dtype}"
        with np.errstate(all="ignore"):
            twice = np.asarray(fused(*map(kn.array, given)))
            assert errors(twice, 2 * exact).max() <= bound
        for size in (1, 3, 17):
            part = np.asarray(fused(*(kn.array(a[:size]) for a in given)))
            np.testing.assert_array_equal(part, twice[:size])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["gelu", "silu", "ndtr", "log_ndtr"])
def test_error_in_ulp_on_older_processors(name, level):
    for dtype, bound in zip(FLOATS, ALL[name].most, strict=True):
        given, exact = known(name, dtype, 30)
        actual = Elementwise(getattr(vector_activations, name), dtype, level=level)(*given)
        assert errors(actual, exact).max() <= bound


@pytest.mark.parametrize("name", [name for name in UNARY if UNARY[name].ends])
def test_zeros_and_infinities(name):
    case = UNARY[name]
    for dtype, bound in zip(FLOATS, case.most, strict=True):
        actual = np.asarray(case.function(kn.array(np.array([0.0, -0.0, math.inf, -math.inf, math.nan], dtype))))
        expected = np.array([*case.ends, math.nan], dtype)
        assert (errors(actual, expected.astype(np.longdouble)) <= bound).all(), (actual, expected)
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("name", [name for name in BINARY if BINARY[name].like is not None])
def test_pairs_of_special_values(name):
    case = BINARY[name]
    values = [0.0, -0.0, 1.0, -1.0, 2.5, -2.0, 1e-42, 1e30, -3e38, math.inf, -math.inf, math.nan]
    for dtype, bound in zip(FLOATS, case.most, strict=True):
        x, y = (a.ravel() for a in np.meshgrid(np.array(values, dtype), np.array(values, dtype)))
        with np.errstate(all="ignore"):
            expected = np.asarray(case.like(x.astype(np.longdouble), y.astype(np.longdouble)))
            actual = np.asarray(case.function(kn.array(x), kn.array(y)))
            wrong = errors(actual, expected) > bound
        assert not wrong.any(), [*zip(x[wrong], y[wrong], actual[wrong], expected[wrong], strict=True)]


@pytest.mark.parametrize(("name", "order"), [("lgamma", LGAMMA), ("digamma", 0), ("polygamma2", 2), ("polygamma4", 4)])
def test_next_to_zeros_of_the_gamma_family(name, order):
    """All floats about them keep all their digits."""
    heads = [head for head in zeros(order, 16).head if head != math.floor(head)]
    steps = np.array([0, 1, -1, 2, -5, 1e3, -1e6, 1e9])
    x = -np.concatenate([head + steps * np.spacing(head) for head in heads])
    x = x[x != np.floor(x)]
    assert errors(np.asarray(ALL[name].function(kn.array(x))), exactly(ALL[name], x)).max() <= 8


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_keep_their_digits(name):
    case = UNARY[name]
    for dtype, bound in zip(FLOATS, DERIVATIVES[name], strict=True):
        x, exact = derivative(name, dtype)
        actual = np.asarray(kn.grad(lambda x: kn.sum(case.function(x)))(kn.array(x)))
        found = errors(actual, exact)
        worst = int(np.argmax(found))
        assert found[worst] <= bound, f"{found[worst]} ulp at {x[worst]} in {dtype}: {actual[worst]}"
