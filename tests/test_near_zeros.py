"""Where results are nearly 0 although what they are made of is not, they keep their digits.

All of them, unless the result is below some 1e-14, as those of one or two numbers next to a zero are: these are right
to 28 digits of what they are made of.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from knetc.runtime.base import dtypes
from scalar_kernels import LEVELS
from vector_math_cases import REFERENCES, errors, kernel


def zeros(function, starts) -> list[float]:
    """The float64 next to zeros, and some beside them."""
    found = []
    for start in starts:
        root = float(mpmath.findroot(function, start))
        found += [root, np.nextafter(root, 0), root * (1 + 1e-12), root * (1 - 1e-9), root * (1 + 1e-5)]
    return found


CASES = {
    "lgamma": zeros(
        lambda x: mpmath.log(abs(mpmath.gamma(x))), [-2.457, -2.7477, -3.1436, -3.95529, -4.0394, -4.99154]
    ),
    "digamma": zeros(mpmath.digamma, [-0.504, -1.573, -2.611, -3.635, -10.7, -100.8]),
    "tetragamma": zeros(lambda x: mpmath.psi(2, x), [-0.4, -1.45, -2.46]),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_gamma_family_next_to_its_zeros(name, level):
    x = np.array(CASES[name])
    actual, exact = kernel(name, dtypes.f64, level)(x), REFERENCES[name](x.astype(np.longdouble))
    wrong = (errors(actual, exact) > 8) & (abs(actual - exact) > 1e-28)
    assert not wrong.any(), (x[wrong], actual[wrong], exact[wrong])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64], ids=str)
@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_logarithms_of_sums_that_are_nearly_one(name, dtype, level):
    rng = np.random.default_rng(3)
    p, unit = rng.uniform(1e-4, 1 - 1e-4, 500), math.log(2) if name == "logaddexp2" else 1
    x, y = (np.log(p) / unit).astype(dtype), (np.log1p(-p) / unit).astype(dtype)
    actual = kernel(name, dtype, level)(x, y)
    with mpmath.workdps(60):
        base = mpmath.mpf(2) if name == "logaddexp2" else mpmath.e
        exact = np.array([float(mpmath.log(base ** float(a) + base ** float(b), base)) for a, b in zip(x, y)])
    found = errors(actual, exact.astype(np.longdouble))
    assert (found[abs(actual - exact) > 1e-29] <= (2 if dtype == dtypes.f32 else 4)).all()


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64], ids=str)
@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_logarithms_of_sums_of_which_some_digits_are_lost(name, dtype):
    unit = np.log(np.longdouble(2)) if name == "logaddexp2" else np.longdouble(1)
    rng = np.random.default_rng(4)
    p = np.concatenate([rng.uniform(1e-3, 1 - 1e-3, 3000), rng.uniform(0.4, 0.6, 20000)])  # the even are the hardest
    shift = rng.normal(0, 0.2, p.size)
    x, y = (((np.log(q) + shift) / unit).astype(dtype) for q in (p, 1 - p))
    actual = kernel(name, dtype, "native")(x, y)
    a, b = np.maximum(x, y) * unit, np.minimum(x, y) * unit
    exact = np.log1p(np.expm1(a) + np.exp(b)) / unit
    clear = abs(exact) > 1e-2  # the reference has eleven more bits than the result
    assert (errors(actual, exact)[clear] <= (1 if dtype == dtypes.f32 else 3 if name == "logaddexp" else 4)).all()
