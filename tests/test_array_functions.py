"""Functions that NumPy has too, on arrays: the same values through NumPy's own names, and gradients by differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optable import check_gradient

import knetc as kn
from knetc.ops import (
    bits,
    calculus,
    choosing,
    elementary,
    joining,
    padding,
    rearrange,
    special,
    statistics,
    transcendental,
)

A = np.array([[1.5, -2.0, 3.25], [-0.5, 4.0, -6.75]])
B = np.array([[2.0, 0.5, -1.5], [3.0, -4.0, 0.25]])
HOLES = np.array([[1.0, math.nan, 3.0], [math.nan, math.nan, math.nan], [-math.inf, 2.0, math.inf]])
SQUARE = np.arange(12.0).reshape(3, 4) - 5

#: each is called with NumPy's arrays and with ours; np's own protocol finds our function
SAME: dict[str, Callable[[Callable[[np.ndarray], Any]], Any]] = {
    "copysign": lambda v: np.copysign(v(A), v(B)),
    "signbit": lambda v: np.signbit(v(np.array([-1.0, -0.0, 0.0, 2.0]))),
    "heaviside": lambda v: np.heaviside(v(np.array([-1.0, 0.0, 2.0, math.nan])), 0.5),
    "fmod": lambda v: np.fmod(v(A), v(B)),
    "fmod of integers": lambda v: np.fmod(v(np.array([7, -7, 5])), 3),
    "divmod": lambda v: np.divmod(v(A), v(B))[1],
    "fmax": lambda v: np.fmax(v(HOLES), 0.0),
    "fmin": lambda v: np.fmin(v(HOLES), 0.0),
    "degrees": lambda v: np.degrees(v(A)),
    "radians": lambda v: np.radians(v(A)),
    "sinc": lambda v: np.sinc(v(np.array([0.0, 0.5, -1.25, 2.5]))),
    "nan_to_num": lambda v: np.nan_to_num(v(HOLES)),
    "nan_to_num with values": lambda v: np.nan_to_num(v(HOLES), nan=1.0, posinf=2.0, neginf=3.0),
    "isposinf": lambda v: np.isposinf(v(HOLES)),
    "isneginf": lambda v: np.isneginf(v(HOLES)),
    "logaddexp": lambda v: np.logaddexp(v(A), v(B)),
    "tile": lambda v: np.tile(v(A), 2),
    "tile in three": lambda v: np.tile(v(A), (2, 1, 3)),
    "tile none": lambda v: np.tile(v(A), (0, 2)),
    "repeat": lambda v: np.repeat(v(A), 3),
    "repeat rows": lambda v: np.repeat(v(A), [2, 0], axis=0),
    "repeat columns": lambda v: np.repeat(v(A), 2, axis=-1),
    "roll": lambda v: np.roll(v(A), 4),
    "roll axes": lambda v: np.roll(v(A), (1, -2), (0, 1)),
    "roll far": lambda v: np.roll(v(A), -7, 1),
    "diagonal": lambda v: np.diagonal(v(SQUARE), 1),
    "diagonal below": lambda v: np.diagonal(v(SQUARE), -2),
    "diagonal beyond": lambda v: np.diagonal(v(SQUARE), 9),
    "diagonals": lambda v: np.diagonal(v(np.arange(24).reshape(2, 3, 4)), 1, 2, 0),
    "diag": lambda v: np.diag(v(np.array([1, 2, 3])), -2),
    "diag of a matrix": lambda v: np.diag(v(SQUARE), 2),
    "tril": lambda v: np.tril(v(SQUARE), -1),
    "triu": lambda v: np.triu(v(SQUARE), 1),
    "triu of bools": lambda v: np.triu(v(SQUARE > 0)),
    "vander": lambda v: np.vander(v(A[0])),
    "vander increasing": lambda v: np.vander(v(A[0]), 5, increasing=True),
    "meshgrid": lambda v: np.meshgrid(v(A[0]), v(B[0, :2]))[0],
    "meshgrid ij": lambda v: np.meshgrid(v(A[0]), v(B[0, :2]), v(A[1]), indexing="ij")[1],
    "average": lambda v: np.average(v(A), axis=1),
    "average weighted": lambda v: np.average(v(A), axis=1, weights=v(np.array([1.0, 2.0, 5.0]))),
    "average of all": lambda v: np.average(v(A), weights=v(B * B)),
    "ptp": lambda v: np.ptp(v(A), axis=0),
    "nansum": lambda v: np.nansum(v(HOLES[:2]), axis=1),
    "nanprod": lambda v: np.nanprod(v(HOLES[:2]), axis=0),
    "nanmean": lambda v: np.nanmean(v(HOLES[:1]), axis=1),
    "nanmax": lambda v: np.nanmax(v(HOLES), axis=0),
    "nanmin": lambda v: np.nanmin(v(HOLES)),
    "nanvar": lambda v: np.nanvar(v(HOLES[:1]), axis=1, ddof=1),
    "nanstd": lambda v: np.nanstd(v(HOLES[0])),
    "diff": lambda v: np.diff(v(A)),
    "diff twice": lambda v: np.diff(v(SQUARE), n=2, axis=0),
    "trapezoid": lambda v: np.trapezoid(v(SQUARE), axis=0),
    "trapezoid at places": lambda v: np.trapezoid(v(SQUARE), v(np.array([0.0, 1.0, 3.0, 7.0]))),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_as_numpy(name: str) -> None:
    call = SAME[name]
    with np.errstate(all="ignore"):
        expected = call(lambda a: a)
    found = call(kn.array)
    assert isinstance(found, kn.Array)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)


def _floats(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).uniform(0.3, 2.7, shape)


GRADIENTS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "tile": (lambda x: rearrange.tile(x, (2, 3)), ((2, 3),)),
    "repeat": (lambda x: rearrange.repeat(x, [2, 0, 3], 1), ((2, 3),)),
    "roll": (lambda x: rearrange.roll(x, 2, 1), ((2, 3),)),
    "diagonal": (lambda x: rearrange.diagonal(x, -1), ((4, 3),)),
    "diag": (lambda x: rearrange.diag(x, 1), ((3,),)),
    "tril": (lambda x: rearrange.tril(x, 1), ((2, 3, 4),)),
    "triu": (rearrange.triu, ((3, 3),)),
    "vander": (lambda x: rearrange.vander(x, 4), ((3,),)),
    "varm": (lambda x, m: statistics.varm(x, m, 1), ((2, 3), (2, 1))),
    "stdm": (lambda x, m: statistics.stdm(x, m), ((4,), ())),
    "average": (lambda x, w: statistics.average(x, 0, w), ((3, 2), (3,))),
    "nanmean": (lambda x: statistics.nanmean(x, 0), ((3, 2),)),
    "difference": (lambda x: calculus.difference(x, 2), ((5,),)),
    "trapezoid": (calculus.trapezoid, ((4,), (4,))),
    "diff with ends": (lambda x, y: calculus.difference(x, 1, 0, y, x), ((5,), (2,))),
    "gradient": (lambda x: calculus.gradient(x, 0.5, edge_order=2), ((5,),)),
    "gradient at places": (lambda x, y: calculus.gradient(x, calculus.trapezoid(y) * x * x), ((4,), (3,))),
    "convolve": (calculus.convolve, ((5,), (3,))),
    "correlate": (lambda x, y: calculus.correlate(x, y, "same"), ((4,), (3,))),
    "polyval": (calculus.polyval, ((3,), (2, 2))),
    "cross": (calculus.cross, ((2, 3), (3,))),
    "cov": (statistics.cov, ((2, 4),)),
    "corrcoef": (statistics.corrcoef, ((2, 4),)),
    "pad": (lambda x: padding.pad(padding.pad(x, 2, "reflect"), 1, "mean") ** 2, ((4,),)),
    "pad odd": (lambda x: padding.pad(x, 2, "symmetric", reflect_type="odd") ** 2, ((2, 3),)),
    "pad by a ramp": (lambda x: padding.pad(x, (2, 1), "linear_ramp", end_values=1) ** 2, ((3,),)),
    "rot90": (lambda x: rearrange.rot90(x) ** 2, ((2, 3),)),
    "delete and insert": (lambda x, y: joining.insert(joining.delete(x, [1]), 2, y) ** 2, ((5,), ())),
    "cat in two axes": (lambda x, y: joining.cat([x, y], (0, 1)) ** 2, ((2, 1), (1, 2))),
    "block": (lambda x, y: joining.block([[x, y], [y, x]]) ** 2, ((2, 2), (2, 2))),
    "ldexp": (lambda x: bits.ldexp(x, 3) ** 2, ((3,),)),
    "frexp": (lambda x: bits.frexp(x)[0] ** 2, ((3,),)),
    "logaddexp2": (special.logaddexp2, ((3,), (3,))),
    "select": (lambda x, y: choosing.select([x > y, x > 1], [x * x, y * x]), ((5,), (5,))),
    "piecewise": (lambda x: choosing.piecewise(x, [x > 1.5], [lambda v: v**3, lambda v: v**2]), ((5,),)),
    "findmax": (lambda x: statistics.findmax(x, 1)[0], ((2, 3),)),
    "sinc": (elementary.sinc, ((4,),)),
    "fmod": (elementary.fmod, ((5,), ())),
    "loggamma": (special.loggamma, ((5,),)),
    "polygamma": (lambda x: special.polygamma(3, x), ((4,),)),
    "log to a base": (lambda x, b: transcendental.log(x, b + 1), ((4,), (4,))),
}


#: functions whose first gradient is constant, so that there is no second one to check
LINEAR = {"tile", "repeat", "roll", "diagonal", "diag", "tril", "triu", "difference", "nanmean", "findmax", "fmod"}


@pytest.mark.parametrize(
    ("name", "order"), [(name, order) for name in GRADIENTS for order in (1, 2) if order == 1 or name not in LINEAR]
)
def test_gradients(name: str, order: int) -> None:
    function, shapes = GRADIENTS[name]
    check_gradient(function, [_floats(shape) + k / 8 for k, shape in enumerate(shapes)], order, name)


def test_values_of_the_manual() -> None:
    x = kn.array([0.5], "float64")
    expected = {
        "cospi": 0.0, "digamma": -1.963510026, "erfcinv": 0.4769362762, "erfcx": 0.6156903442,
        "erfinv": 0.4769362762, "exp10": 3.16227766, "gamma": 1.772453851, "lgamma": 0.5723649429,
        "loggamma": 0.5723649429, "sinpi": 1.0, "trigamma": 4.934802201,
    }  # fmt: skip
    slopes = {
        "cospi": -3.141592654, "digamma": 4.934802201, "erfcinv": -1.112584819, "erfcx": -0.5126888229,
        "erfinv": 1.112584819, "exp10": 7.2814134, "gamma": -3.480230907, "lgamma": -1.963510026,
        "loggamma": -1.963510026, "sinpi": 0.0, "trigamma": -16.82879664,
    }  # fmt: skip
    for name, value in expected.items():
        function = getattr(kn, name)
        assert float(function(x)[0]) == pytest.approx(value, rel=1e-9, abs=1e-15)
        slope = kn.grad(lambda v, f=function: kn.sum(f(v)))(x)
        assert float(slope[0]) == pytest.approx(slopes[name], rel=1e-9, abs=1e-15)


def test_loggamma_is_nan_where_gamma_is_negative() -> None:
    x = kn.array([-0.5, -1.5, 2.0, -3.25], "float64")
    found = np.asarray(kn.loggamma(x))
    assert np.isnan(found).tolist() == [True, False, False, False]
    assert found[1] == pytest.approx(math.lgamma(-1.5))


def test_combinations_in_place() -> None:
    y = kn.ones(3)
    assert kn.axpy_(2, kn.array([1.0, 2.0, 3.0]), y) is y
    assert np.asarray(y).tolist() == [3, 5, 7]
    kn.lmul_(2, y)
    kn.rmul_(y, 0.5)
    assert np.asarray(y).tolist() == [3, 5, 7]


def test_moments_around_a_given_mean() -> None:
    x = kn.array([1.0, 2.0, 3.0, 4.0], "float64")
    assert float(kn.varm(x, 2.5)) == pytest.approx(5 / 3)
    assert float(kn.stdm(x, 2.5)) == pytest.approx(math.sqrt(5 / 3))


def test_findmax_and_findmin() -> None:
    value, place = kn.findmax(kn.array([[1.0, 3.0], [5.0, 2.0]]), 1)
    assert np.asarray(value).tolist() == [3, 5] and np.asarray(place).tolist() == [1, 0]
    value, place = kn.findmin(kn.array([2.0, 1.0, 1.0]))
    assert (float(value), int(place)) == (1, 1)


def test_clip_passes_the_gradient_on_its_bounds_and_gives_them_none() -> None:
    x, low = kn.Param(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])), kn.Param(np.zeros(5))
    tape = kn.diff(lambda: kn.sum(kn.clip(x, low, 1.0)))
    assert np.asarray(kn.grad(tape, x)).tolist() == [0, 1, 1, 1, 0]
    assert kn.grad(tape, low) is None


@pytest.mark.parametrize("equal_nan", [False, True])
def test_closeness(equal_nan: bool) -> None:
    a = np.array([1.0, 1.0, math.inf, math.nan, 0.0, -math.inf])
    b = np.array([1.0 + 1e-6, 1.1, math.inf, math.nan, 1e-9, math.inf])
    x, y = kn.array(a), kn.array(b)
    found = kn.isclose(x, y, equal_nan=equal_nan)
    assert np.asarray(found).tolist() == np.isclose(a, b, equal_nan=equal_nan).tolist()
    assert not bool(kn.allclose(x, y)) and bool(kn.allclose(x[:1], y[:1]))
    assert bool(kn.array_equal(x[:3], x[:3])) and not bool(kn.array_equal(x, x)) and not bool(kn.array_equal(x, y[:2]))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(-6, 6),
    st.sampled_from(["diag", "diagonal", "tril", "triu"]),
)
def test_diagonals_as_numpy(rows: int, columns: int, k: int, name: str) -> None:
    a = np.arange(float(rows * columns)).reshape(rows, columns) + 1
    function = getattr(np, name)
    np.testing.assert_array_equal(np.asarray(function(kn.array(a), k)), function(a, k))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: kn.roll(x, (1, 2), 0), kn.ShapeError, "2 shifts for 1 axes"),
        (lambda x: kn.repeat(x, [1, 2, 3, 4]), kn.ShapeError, "neither an int nor 3 ints"),
        (lambda x: kn.tile(x, -1), kn.ShapeError, "cannot be negative"),
        (lambda x: kn.tril(x), kn.ShapeError, "at least 2 dimensions"),
        (lambda x: kn.polygamma(-1, x), ValueError, "at least 0"),
        (lambda x: kn.meshgrid(x, indexing="no"), kn.UnsupportedError, '"xy" or "ij"'),
    ],
)
def test_errors_teach(call: Callable[[Any], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(kn.ones(3))


def test_numbers_at_equal_ratios() -> None:
    np.testing.assert_allclose(np.asarray(kn.logspace(-1, 2, 7, "float64", base=2)), np.logspace(-1, 2, 7, base=2))
    found = kn.geomspace(1, 1000, 4)
    assert found.dtype == np.float32 and np.asarray(found).tolist() == [1, 10, 100, 1000]


def test_methods_and_operators() -> None:
    x = kn.array(A)
    np.testing.assert_array_equal(np.asarray(x.repeat(2, 0)), A.repeat(2, 0))
    np.testing.assert_array_equal(np.asarray(x.diagonal(1)), A.diagonal(1))
    for found, expected in zip((*divmod(x, 2), *divmod(2, x)), (*divmod(A, 2), *divmod(2, A)), strict=True):
        np.testing.assert_allclose(np.asarray(found), expected)
