"""Knet's arrays, entry by entry: every name of the manual's KnetArray section, by the numbers of its behaviour.

Examples are Knet's matrices read row by row; ``dims=1`` and ``dims=2`` of a matrix are ``axis=0`` and ``axis=1`` here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn

X = kn.array([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]], "float64")


def close(found: Any, expected: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=rtol, atol=1e-12)


def slope(function: Callable[..., Any], *inputs: Any, of: int = 0) -> Any:
    """The gradient of the sum of what a function gives."""
    return kn.grad(lambda *values: kn.sum(function(*values)), of)(*[kn.array(x, "float64") for x in inputs])


# --- array operations ------------------------------------------------------------------------------------------------


def test_comparing_whole_arrays() -> None:
    assert bool(kn.array_equal(X, X)) and not bool(kn.array_equal(X, X + 1)) and not bool(kn.array_equal(X, X.T))
    assert bool(kn.isapprox(X, X * (1 + 1e-9))) and not bool(kn.isapprox(X, X * 1.01))
    assert bool(kn.isapprox(X, X * 1.01, rtol=0.02)) and not bool(kn.isapprox(X, X.T))
    single = X.astype("float32")
    assert bool(kn.isapprox(single, single * 1.0003)) and not bool(kn.isapprox(single, single * 1.0004))


def test_transposing() -> None:
    close(kn.adjoint(kn.array([[1, 2], [3, 4]])), [[1, 3], [2, 4]])
    close(kn.adjoint(kn.array([1, 2])), [[1, 2]])
    assert kn.permutedims(kn.ones(2, 3, 4), (2, 0, 1)).shape == (4, 2, 3) and kn.transpose(X).shape == (3, 2)


def test_places_of_extremes() -> None:
    assert kn.argmax(kn.array([1, 3, 3])).item() == 1 and kn.argmin(kn.array([2, 1, 1])).item() == 1
    assert [v.item() for v in kn.findmax(kn.array([1, 3, 3]))] == [3, 1]
    assert [v.item() for v in kn.findmin(kn.array([2, 1, 1]))] == [1, 1]
    assert kn.argmax(kn.array([1.0, math.nan, 3.0])).item() == 1


def test_joining() -> None:
    close(kn.cat([kn.array([[1], [2]]), kn.array([[3], [4]])], 1), [[1, 3], [2, 4]])
    close(kn.cat([kn.ones(1, 1), kn.ones(1, 1) * 2], (0, 1)), [[1, 0], [0, 2]])
    close(kn.hcat([kn.array([1, 2]), kn.array([3, 4])]), [[1, 3], [2, 4]])
    close(kn.vcat(kn.array([1, 2]), kn.array([3])), [1, 2, 3])
    close(kn.vcat(kn.array([[1, 2]]), kn.array([[3, 4]])), [[1, 2], [3, 4]])
    close(kn.cat1d(kn.array([[1, 2], [3, 4]]), kn.array([5, 6])), [1, 2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match="may differ along axis 1 only"):
        kn.hcat([kn.array([1, 2]), kn.array([1, 2, 3])])


def test_conversions_and_copies() -> None:
    assert kn.array(X, "float32").dtype == np.float32 and X.astype("float64").dtype == np.float64
    for twin in (X.copy(), copy.copy(X), copy.deepcopy(X)):
        assert twin is not X and bool(kn.array_equal(twin, X))
    y = kn.zeros((2, 3))
    kn.copyto(y, X)
    assert y.dtype == np.float32 and y.tolist() == X.tolist()


def test_shape_and_type() -> None:
    assert (X.size, X.ndim, X.shape, X.dtype, len(X)) == (6, 2, (2, 3), np.float64, 2)
    assert kn.ones((4, 3, 2), dtype="int8").strides == (6, 2, 1)  # Knet's, of (2, 3, 4), are 1, 2, 6
    assert X[-1, -1].item() == 6 and X.ravel()[0].item() == 1 and kn.vec(X).shape == (6,)
    assert kn.reshape(kn.arange(1, 7), (2, 3)).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match=r"do not fit|cannot reshape"):
        kn.reshape(X, (4,))


def test_arrays_like_others() -> None:
    assert kn.one(X).tolist() == [[1, 1, 1], [1, 1, 1]] and kn.zero(X).tolist() == [[0, 0, 0], [0, 0, 0]]
    like = kn.similar(X)
    assert like.shape == X.shape and like.dtype == X.dtype and kn.ones_like(X, "int32").dtype == np.int32


def test_filling() -> None:
    y = kn.zeros((2, 3))
    assert kn.fill(y, 7) is y and y.tolist() == [[7, 7, 7], [7, 7, 7]]
    kn.seed(3)
    first = kn.rand_(y).tolist()
    assert np.all((np.asarray(y) >= 0) & (np.asarray(y) < 1)) and len({v for row in first for v in row}) == 6
    kn.seed(3)
    assert kn.rand_(y).tolist() == first and kn.randn_(y).tolist() != first


# --- unary functions -------------------------------------------------------------------------------------------------

#: value and derivative at 0.5 (of acosh at 1.5)
UNARY: dict[str, tuple[float, float]] = {
    "negative": (-0.5, -1), "abs": (0.5, 1), "abs2": (0.25, 1), "acos": (1.047197551, -1.154700538),
    "acosh": (0.9624236501, 0.894427191), "asin": (0.5235987756, 1.154700538), "asinh": (0.4812118251, 0.894427191),
    "atan": (0.463647609, 0.8), "atanh": (0.5493061443, 1.333333333), "cbrt": (0.793700526, 0.529133684),
    "ceil": (1, 0), "cos": (0.8775825619, -0.4794255386), "cosh": (1.127625965, 0.5210953055),
    "cospi": (0, -3.141592654), "digamma": (-1.963510026, 4.934802201), "erf": (0.5204998778, 0.8787825789),
    "erfc": (0.4795001222, -0.8787825789), "erfcinv": (0.4769362762, -1.112584819),
    "erfcx": (0.6156903442, -0.5126888229), "erfinv": (0.4769362762, 1.112584819), "exp": (1.648721271, 1.648721271),
    "exp10": (3.16227766, 7.2814134), "exp2": (1.414213562, 0.9802581435), "expm1": (0.6487212707, 1.648721271),
    "floor": (0, 0), "gamma": (1.772453851, -3.480230907), "lgamma": (0.5723649429, -1.963510026),
    "log": (-0.6931471806, 2), "log10": (-0.3010299957, 0.8685889638), "log1p": (0.4054651081, 0.6666666667),
    "log2": (-1, 2.885390082), "loggamma": (0.5723649429, -1.963510026), "one": (1, 0), "round": (0, 0), "sign": (1, 0),
    "sin": (0.4794255386, 0.8775825619), "sinh": (0.5210953055, 1.127625965), "sinpi": (1, 0),
    "sqrt": (0.7071067812, 0.7071067812), "tan": (0.5463024898, 1.29844641), "tanh": (0.4621171573, 0.786447733),
    "trigamma": (4.934802201, -16.82879664), "trunc": (0, 0), "zero": (0, 0),
}  # fmt: skip


def test_unary_functions() -> None:
    assert len(UNARY) == 44
    at = kn.array(0.5, "float64")
    points = {name: at + 1 if name == "acosh" else at for name in UNARY}

    def derivative(name: str, x: Any) -> Any:
        found = kn.grad(lambda v: getattr(kn, name)(v) + 0 * v)(x)
        return found

    values, slopes = kn.compile(
        lambda xs: ([getattr(kn, n)(x) for n, x in xs.items()], [derivative(n, x) for n, x in xs.items()])
    )(points)
    for (name, (value, expected)), found, slope_found in zip(UNARY.items(), values, slopes):
        assert float(found) == pytest.approx(value, rel=2e-9, abs=1e-12), name
        assert float(slope_found) == pytest.approx(expected, rel=2e-9, abs=1e-9), name


def test_unary_functions_elsewhere() -> None:
    x = kn.array([0.5, 1.5, 2.5, -0.5, -1.5])
    assert kn.round(x).tolist() == [0, 2, 2, 0, -2] and kn.trunc(x).tolist() == [0, 1, 2, 0, -1]
    assert kn.ceil(x).tolist() == [1, 2, 3, 0, -1] and kn.floor(x).tolist() == [0, 1, 2, -1, -2]
    assert float(kn.cbrt(kn.array(-8.0))) == -2 and float(kn.gamma(kn.array(5.0, "float64"))) == pytest.approx(24)
    assert kn.sinpi(kn.array([1.0, 2.0])).tolist() == [0, 0] and kn.sign(kn.array([-2.0, 0.0, 3.0])).tolist() == [
        -1,
        0,
        1,
    ]
    assert slope(kn.abs, [0.0, -0.5]).tolist() == [0, -1]
    assert np.isnan(kn.log(kn.array([-1.0])).numpy()).all() and kn.log(kn.array([0.0])).tolist() == [-math.inf]


# --- binary functions ------------------------------------------------------------------------------------------------


def test_binary_functions() -> None:
    a, b = kn.array([[1, 2], [3, 4]]), kn.array([[5, 6], [7, 8]])
    assert (a @ b).tolist() == [[19, 22], [43, 50]] and (a * b).tolist() == [[5, 12], [21, 32]]
    assert (a + kn.array([[10], [20]])).tolist() == [[11, 12], [23, 24]]
    assert (kn.array([1, 2]) - 3).tolist() == [-2, -1] and (kn.array([1, 2]) / kn.array([4, 8])).tolist() == [
        0.25,
        0.25,
    ]
    v = kn.array([1, 2, 3])
    assert (v < 2).tolist() == [True, False, False] and (v <= 2).tolist() == [True, True, False]
    assert (v == 2).tolist() == [False, True, False] and (v != kn.array([1, 3, 3])).tolist() == [False, True, False]
    assert (v > 2).tolist() == [False, False, True] and (v >= 2).tolist() == [False, True, True]
    assert (kn.array([2, 3]) ** 3).tolist() == [8, 27] and (kn.array([-2.0]) ** 2).tolist() == [4]
    assert kn.maximum(kn.array([1, 3]), kn.array([2, 3])).tolist() == [2, 3]
    assert kn.minimum(kn.array([1, 3]), kn.array([2, 3])).tolist() == [1, 3]
    assert (v == math.nan).sum().item() == 0 and (kn.array([math.nan]) != math.nan).tolist() == [True]


def test_gradients_of_binary_functions() -> None:
    close(slope(kn.divide, [1.0, 2.0], [4.0, 8.0], of=1), [-1 / 16, -2 / 64])
    close(slope(lambda x: x**3, [2.0, 3.0]), [12, 27])
    close(slope(lambda y: 2**y, [3.0]), [5.545177444479562])
    close(slope(lambda x: x**2, [-2.0]), [-4])
    close(slope(kn.maximum, [1.0, 3.0], [2.0, 3.0]), [0, 0.5])  # ties are shared equally
    close(slope(lambda x, b: x + b, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[1.0], [2.0]], of=1), [[3], [3]])
    close(slope(kn.atan2, [1.0], [2.0]), [0.4])
    close(slope(kn.atan2, [1.0], [2.0], of=1), [-0.2])
    close(slope(kn.hypot, [3.0], [4.0], of=1), [0.8])


# --- reductions, statistics, linear algebra --------------------------------------------------------------------------


def test_reductions() -> None:
    assert (kn.max(X).item(), kn.min(X).item(), kn.sum(X).item(), kn.prod(X).item()) == (6, 1, 21, 720)
    assert kn.max(X, 0).tolist() == [2, 4, 6] and kn.max(X, 1, keepdims=True).tolist() == [[5], [6]]
    assert kn.min(X, 0, keepdims=True).tolist() == [[1, 3, 5]] and kn.prod(X, 0).tolist() == [2, 12, 30]
    assert kn.sum(X, 0).tolist() == [3, 7, 11] and kn.sum(X, 1).tolist() == [9, 12] and kn.sum(kn.abs2(X)).item() == 91
    close(slope(kn.max, [1.0, 3.0, 3.0]), [0, 0.5, 0.5])
    close(slope(kn.prod, [1.0, 2.0, 3.0, 4.0]), [24, 12, 8, 6])
    close(slope(kn.prod, [0.0, 2.0, 3.0]), [6, 0, 0])


def test_statistics() -> None:
    v = [1.0, 2.0, 3.0, 4.0]
    x = kn.array(v, "float64")
    assert kn.mean(X).item() == 3.5 and kn.mean(X, 1).tolist() == [3, 4]
    close(kn.std(x, corrected=True), 1.2909944487)
    close(kn.var(x, corrected=True), 5 / 3)
    close(kn.var(x), 1.25)
    close(kn.stdm(x, 2.5), 1.2909944487)
    close(kn.varm(x, 2.5), 5 / 3)
    close(slope(lambda a: kn.var(a, correction=1), v), [-1, -1 / 3, 1 / 3, 1])
    close(slope(lambda a: kn.std(a, correction=1), v), [-0.3872983, -0.1290994, 0.1290994, 0.3872983], 1e-6)


def test_linear_algebra() -> None:
    assert (kn.array([[1, 2], [3, 4]]) @ kn.array([1, 1])).tolist() == [3, 7]
    y = kn.array([1.0, 2.0])
    assert kn.axpy_(2, kn.array([1.0, 1.0]), y) is y and y.tolist() == [3, 4]
    assert kn.lmul_(2, kn.array([1.0, 2.0])).tolist() == [2, 4] and kn.rmul_(kn.array([1.0, 2.0]), 2).tolist() == [2, 4]
    x = kn.array([3.0, 4.0])
    norms = {2: 5, 1: 7, math.inf: 4, 0: 2, -math.inf: 3, 3: 4.497941}
    for p, expected in norms.items():
        close(kn.norm(x, p), expected, 1e-6)
    close(slope(kn.norm, [3.0, 4.0]), [0.6, 0.8])
    close(kn.norm(kn.zeros(0)), 0)
    close(slope(kn.norm, [0.0, 0.0]), [0, 0])


def test_every_name_is_there() -> None:
    """The manual's names as they are here; operators and attributes are tested above."""
    names = """
    adjoint argmax argmin axpy_ bce cat cat1d copyto cpucopy dropout elu fill findmax findmin gpucopy hcat isapprox
    lmul_ logistic logp logsoftmax
    logsumexp maximum mean minimum nll norm one ones permutedims prod rand_ randn_ relu reshape
    rmul_ selu sigm similar softmax std stdm sum transpose var varm vcat vec zero
    """
    assert [name for name in [*names.split(), *UNARY] if name not in kn.__all__] == []
