"""NumPy's functions on arrays, by subject: the values, dtypes and shapes that NumPy gives, lazily and compiled.

Each case is called with NumPy's arrays and with ours, under NumPy's own names: NumPy's protocols find our functions.
All cases of a subject are one program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn

A = np.array([[1.5, -2.0, 3.25], [-0.5, 4.0, -6.75]])
B = np.array([[2.0, 0.5, -1.5], [3.0, -4.0, 0.25]])
N = np.arange(24.0).reshape(2, 3, 4) - 7.5
I = np.array([[3, -7, 0], [12, 18, -5]])
J = np.array([[6, 21, 0], [-8, 27, 10]])
V = np.array([1.0, 4.0, 9.0, 7.0, -2.0])
W = np.array([0.5, -1.0, 2.0])
HOLES = np.array([[1.0, np.nan, 3.0], [-np.inf, 2.0, np.inf]])
TINY = np.array([0.0, -0.0, 1.0, -1.5, 5e-324, 2.2e-308, -1e300, 1e-310, np.inf, -np.inf, np.nan])
SPD = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]])
MASK = N > 0

Case = Callable[[Callable[[Any], Any]], Any]

JOINING: dict[str, Case] = {
    "atleast_1d": lambda v: np.atleast_1d(v(np.array(3.0))),
    "atleast_2d": lambda v: np.atleast_2d(v(V)),
    "atleast_3d": lambda v: list(np.atleast_3d(v(np.array(1.0)), v(V), v(A), v(N))),
    "vstack": lambda v: np.vstack([v(V), v(V) * 2]),
    "vstack matrices": lambda v: np.vstack((v(A), B)),
    "hstack": lambda v: np.hstack([v(V), v(W)]),
    "hstack matrices": lambda v: np.hstack([v(A), v(B)]),
    "dstack": lambda v: np.dstack([v(A), v(B)]),
    "dstack vectors": lambda v: np.dstack([v(W), v(W)]),
    "column_stack": lambda v: np.column_stack([v(W), v(A.T)]),
    "block": lambda v: np.block([[v(A), v(B)], [np.zeros((1, 3)), v(W)]]),
    "block of a row": lambda v: np.block([v(W), 1.0, v(V)]),
    "append": lambda v: np.append(v(A), v(B), axis=0),
    "append in a row": lambda v: np.append(v(A), [[7.0]]),
    "array_split": lambda v: np.array_split(v(V), 3),
    "array_split at": lambda v: np.array_split(v(N), [1, 5], axis=2),
    "hsplit": lambda v: np.hsplit(v(N), 3),
    "hsplit a vector": lambda v: np.hsplit(v(V), [2]),
    "vsplit": lambda v: np.vsplit(v(A), 2),
    "dsplit": lambda v: np.dsplit(v(N), 2),
    "split": lambda v: np.split(v(N), 2, axis=-1),
    "unstack": lambda v: np.unstack(v(N), axis=1),
    "delete": lambda v: np.delete(v(V), [0, 2]),
    "delete a row": lambda v: np.delete(v(A), -1, axis=0),
    "delete a slice": lambda v: np.delete(v(N), slice(0, 3, 2), axis=2),
    "delete everything": lambda v: np.delete(v(W), [0, 1, 2]),
    "insert": lambda v: np.insert(v(V), 2, 5.0),
    "insert several": lambda v: np.insert(v(V), -1, v(W)),
    "insert a column": lambda v: np.insert(v(A), 1, 9.0, axis=1),
    "insert a given column": lambda v: np.insert(v(A), 3, v(np.array([1.0, 2.0])), axis=1),
    "insert a row": lambda v: np.insert(v(A), 1, v(W), axis=0),
    "stack": lambda v: np.stack([v(A), v(B)], axis=-1),
    "concatenate": lambda v: np.concatenate([v(A), v(I)], axis=None),
    "broadcast_arrays": lambda v: np.broadcast_arrays(v(W), v(np.ones((2, 1)))),
}

ARRANGING: dict[str, Case] = {
    "fliplr": lambda v: np.fliplr(v(A)),
    "flipud": lambda v: np.flipud(v(N)),
    "flip axes": lambda v: np.flip(v(N), (0, 2)),
    **{f"rot90 {k}": lambda v, k=k: np.rot90(v(N), k, (0, 2)) for k in range(-1, 4)},  # type: ignore[misc]
    "rollaxis": lambda v: np.rollaxis(v(N), 2, 1),
    "rollaxis back": lambda v: np.rollaxis(v(N), 0, 3),
    "diagflat": lambda v: np.diagflat(v(A), 1),
    "moveaxis": lambda v: np.moveaxis(v(N), [0, 1], [-1, -2]),
    "swapaxes": lambda v: np.swapaxes(v(N), 0, 2),
    "squeeze": lambda v: np.squeeze(v(N[:1, :, :1])),
    "matrix_transpose": lambda v: np.matrix_transpose(v(N)),
    "permute_dims": lambda v: np.permute_dims(v(N), (1, 2, 0)),
    "transpose": lambda v: np.transpose(v(N), axes=(1, 2, 0)),
    "reshape": lambda v: np.reshape(v(N), (4, -1)),
    "ravel": lambda v: np.ravel(v(N)),
    "expand_dims": lambda v: np.expand_dims(v(A), (0, -1)),
    "take": lambda v: np.take(v(N), [[0, -1]], axis=1),
    "take_along_axis": lambda v: np.take_along_axis(v(A), np.array([[0, 2], [1, 1]]), 1),
    "copy": lambda v: np.copy(v(A)),
    "astype": lambda v: np.astype(v(A), np.dtype("float32")),
}

CALCULUS: dict[str, Case] = {
    "diff prepend": lambda v: np.diff(v(A), prepend=0.0),
    "diff append": lambda v: np.diff(v(A), axis=0, append=v(B)),
    "diff of bools": lambda v: np.diff(v(MASK)),
    "diff of one": lambda v: np.diff(v(V[:1])),
    "ediff1d": lambda v: np.ediff1d(v(A), to_end=[1.0, 2.0], to_begin=0.0),
    "gradient": lambda v: np.gradient(v(V)),
    "gradient steps": lambda v: np.gradient(v(N), 2.0),
    "gradient two axes": lambda v: np.gradient(v(N), 2.0, 0.5, axis=(1, 2)),
    "gradient places": lambda v: np.gradient(v(V), v(np.array([0.0, 1.0, 1.5, 3.5, 4.0]))),
    "gradient edges": lambda v: np.gradient(v(V), 2.0, edge_order=2),
    "gradient places and edges": lambda v: np.gradient(v(V), np.array([0.0, 1.0, 1.5, 3.5, 4.0]), edge_order=2),
    **{f"convolve {mode}": lambda v, mode=mode: np.convolve(v(V), v(W), mode) for mode in ("full", "same", "valid")},
    **{f"correlate {mode}": lambda v, mode=mode: np.correlate(v(V), v(W), mode) for mode in ("full", "same", "valid")},
    "convolve the longer": lambda v: np.convolve(v(W[:2]), v(V), "same"),
    "correlate the longer": lambda v: np.correlate(v(W), v(V), "full"),
    "convolve integers": lambda v: np.convolve(v(I[0]), v(J[0])),
    "interp": lambda v: np.interp(v(np.linspace(-3, 10, 14)), v(np.array([0.0, 1.0, 4.0, 8.0, 9.0])), v(V)),
    "interp ends": lambda v: np.interp(v(A), v(np.array([-1.0, 0.5, 1.0])), v(W), left=-9.0, right=np.nan),
    "interp one point": lambda v: np.interp(v(A), v(W[:1]), v(V[:1]), 1.0, 2.0),
    "interp periodic": lambda v: np.interp(v(A), v(np.array([190.0, -190.0, 350.0]) / 60), v(W), period=6.0),
    "nancumsum": lambda v: [np.nancumsum(v(HOLES), axis=1), np.nancumprod(v(HOLES))],
    "meshgrid sparse": lambda v: np.meshgrid(v(V), v(W), sparse=True),
    "like": lambda v: [np.zeros_like(v(A), shape=(2,)), np.full_like(v(A), 3, dtype="int32"), np.ones_like(v(I))],
    "polyval": lambda v: np.polyval(v(W), v(A)),
    "cross": lambda v: np.cross(v(A), v(B)),
    "cross axes": lambda v: np.cross(v(A.T), v(B), axisa=0),
    "trapezoid": lambda v: np.trapezoid(v(A), dx=0.5),
}  # type: ignore[misc]

CHOOSING: dict[str, Case] = {
    "select": lambda v: np.select([v(A) > 2, v(A) > 0], [v(A), v(B)], 9.0),
    "select default": lambda v: np.select([v(A) > 2], [v(I)], v(B)),
    "piecewise": lambda v: np.piecewise(v(A), [v(A) < 0, v(A) > 3], [lambda x: -x, 3.0]),
    "piecewise otherwise": lambda v: np.piecewise(v(A), [v(A) < 0], [lambda x: -x, lambda x: x * x]),
    "choose": lambda v: np.choose(v(np.array([0, 1, 1])), [v(A), 7.0]),
    "isin": lambda v: np.isin(v(I), v(np.array([0, 18, 3]))),
    "isin inverted": lambda v: np.isin(v(I), [12], invert=True),
    "isin nothing": lambda v: np.isin(v(I), np.zeros(0, np.int64)),
    "where": lambda v: np.where(v(A) > 0, v(A), 0.0),
    "clip": lambda v: np.clip(v(A), -1.0, v(np.abs(B))),
    "clip by keyword": lambda v: np.clip(v(A), min=-1, max=2),
    "clip above": lambda v: np.clip(v(A), None, 1.0),
    "nan_to_num": lambda v: np.nan_to_num(v(HOLES)),
    "isclose": lambda v: np.isclose(v(HOLES), v(HOLES + 1e-9), equal_nan=True),
    "nanargmax": lambda v: np.nanargmax(v(HOLES), axis=1),
    "nanargmin": lambda v: np.nanargmin(v(HOLES)),
    "nanargmax of integers": lambda v: np.nanargmax(v(I), axis=0),
    "average returned": lambda v: np.average(v(A), axis=1, weights=v(W), returned=True),
    "cov": lambda v: np.cov(v(A)),
    "cov of two": lambda v: np.cov(v(A), v(B), ddof=0),
    "cov of columns": lambda v: np.cov(v(SPD), rowvar=False, bias=True),
    "cov of a vector": lambda v: np.cov(v(V)),
    "corrcoef": lambda v: np.corrcoef(v(SPD)),
    "count_nonzero": lambda v: np.count_nonzero(v(I), axis=1),
    "real": lambda v: [np.real(v(A)), np.imag(v(A)), np.isreal(v(A)), np.iscomplex(v(A)), np.real_if_close(v(A))],
    "fix": lambda v: np.fix(v(A)),
}

BITS: dict[str, Case] = {
    "frexp": lambda v: np.frexp(v(TINY)),
    "frexp float32": lambda v: np.frexp(v(np.array([1e-42, 3.0, -0.1, 0.0], np.float32))),
    "ldexp": lambda v: np.ldexp(v(TINY), 7),
    "ldexp down": lambda v: np.ldexp(v(np.array([1.5, -1e300, 1.0, 3e-5])), v(np.array([-1074, -2050, -1075, 900]))),
    "modf": lambda v: np.modf(v(np.array([1.5, -2.25, -0.0, np.inf, -np.inf, np.nan]))),
    "nextafter": lambda v: np.nextafter(v(TINY), 1.0),
    "nextafter down": lambda v: np.nextafter(v(TINY), v(-np.ones(11) * np.inf)),
    "nextafter float32": lambda v: np.nextafter(v(np.array([0, 1, -1, 1e-45], np.float32)), np.float32(0.5)),
    "spacing": lambda v: np.spacing(v(np.array([1.0, -3.0, 1e-310, 0.0]))),
    "gcd": lambda v: np.gcd(v(I), v(J)),
    "gcd of uint8": lambda v: np.gcd(v(np.arange(250, dtype=np.uint8)), np.uint8(233)),
    "gcd of Fibonacci": lambda v: np.gcd(v(np.array([7540113804746346429])), 4660046610375530309),
    "lcm": lambda v: np.lcm(v(I), v(J)),
    "bitwise_count": lambda v: [np.bitwise_count(v(I.astype(t))) for t in ("int8", "int16", "int32", "int64")],
    "bitwise_count of uint64": lambda v: np.bitwise_count(v(np.array([2**64 - 1, 5, 0], np.uint64))),
    "float_power": lambda v: np.float_power(v(np.array([2, 3])), 0.5),
    "logaddexp2": lambda v: np.logaddexp2(v(A), v(B)),
    "logaddexp2 of infinities": lambda v: np.logaddexp2(v(np.array([np.inf, -np.inf, 1.0])), -np.inf),
}

PADDING: dict[str, Case] = {
    **{
        f"{mode} {width}": lambda v, mode=mode, width=width: np.pad(v(A), width, mode)  # type: ignore[misc]
        for mode in ("edge", "reflect", "symmetric", "wrap", "linear_ramp", "maximum", "minimum", "mean", "constant")
        for width in (1, ((0, 1), (2, 1)))
    },
    "far": lambda v: [np.pad(v(W), (7, 5), mode) for mode in ("reflect", "symmetric", "wrap", "edge")],
    "of one": lambda v: [np.pad(v(W[:1]), (2, 1), mode) for mode in ("symmetric", "wrap", "edge", "reflect")],
    "constants": lambda v: np.pad(v(A), ((1, 0), (0, 2)), "constant", constant_values=((1, 2), (3, 4))),
    "odd": lambda v: [np.pad(v(A), 1, mode, reflect_type="odd") for mode in ("reflect", "symmetric")],
    "ramp": lambda v: np.pad(v(V), (2, 3), "linear_ramp", end_values=(5, -4)),
    "ramp of integers": lambda v: np.pad(v(I), 3, "linear_ramp"),
    "statistics": lambda v: [np.pad(v(N), 1, mode, stat_length=2) for mode in ("maximum", "minimum", "mean")],
    "mean of integers": lambda v: np.pad(v(I), 1, "mean"),
    "axes by name": lambda v: np.pad(v(N), {-1: (1, 2), 0: (3, 0)}),
}

LINEAR: dict[str, Case] = {
    "inner": lambda v: np.inner(v(N), v(N[0])),
    "inner of scalars": lambda v: np.inner(v(A), 2.0),
    "vdot": lambda v: np.vdot(v(A), v(B)),
    "matvec": lambda v: np.matvec(v(N), v(np.arange(4.0))),
    "vecmat": lambda v: np.vecmat(v(np.arange(3.0)), v(N)),
    "vecdot": lambda v: np.vecdot(v(A), v(B)),
    "vecdot axis": lambda v: np.linalg.vecdot(v(A), v(B), axis=0),
    "tensordot": lambda v: np.tensordot(v(N), v(A), axes=([1, 0], [1, 0])),
    "tensordot once": lambda v: np.linalg.tensordot(v(A), v(SPD), axes=1),
    "outer": lambda v: np.linalg.outer(v(V), v(W)),
    "multiply.outer": lambda v: np.multiply.outer(v(A), v(W)),
    "subtract.outer": lambda v: np.subtract.outer(v(V), 1.0),
    "cond": lambda v: [np.linalg.cond(v(SPD), p) for p in (None, 1, -2, np.inf, "fro")],
    "matrix_rank": lambda v: np.linalg.matrix_rank(v(np.stack([SPD, np.ones((3, 3)), np.zeros((3, 3))]))),
    "multi_dot": lambda v: np.linalg.multi_dot([v(W), v(A.T), v(A), v(SPD), v(W)]),
    "multi_dot of matrices": lambda v: np.linalg.multi_dot([v(A), v(B.T), v(A), v(SPD)]),
    "matrix_power": lambda v: np.linalg.matrix_power(v(SPD), -3),
    "lstsq": lambda v: np.linalg.lstsq(v(N[0].T), v(np.array([1.0, 2.0, 0.0, -1.0])), None)[0],
    "lstsq residuals": lambda v: np.linalg.lstsq(v(np.vander(V, 3)), v(np.stack([V, V * V], 1) ** 2))[1],
    "tensorinv": lambda v: np.linalg.tensorinv(v(np.eye(6).reshape(2, 3, 6) + 0.1)),
    "tensorsolve": lambda v: np.linalg.tensorsolve(v(np.eye(6).reshape(2, 3, 6) + 0.1), v(A)),
    "eigvals": lambda v: np.linalg.eigvals(v(SPD)),
    "linalg.cross": lambda v: np.linalg.cross(v(A), v(B)),
    "linalg.diagonal": lambda v: np.linalg.diagonal(v(N), offset=1),
    "linalg.trace": lambda v: np.linalg.trace(v(N), offset=-1),
    "trace": lambda v: np.trace(v(N), axis1=0, axis2=2),
    "svdvals": lambda v: np.linalg.svdvals(v(A)),
    "eigvalsh": lambda v: np.linalg.eigvalsh(v(SPD)),
    "pinv": lambda v: np.linalg.pinv(v(A)),
    "kron": lambda v: np.kron(v(A), v(W)),
}

SUBJECTS = {
    "joining": JOINING, "arranging": ARRANGING, "calculus": CALCULUS, "choosing": CHOOSING, "bits": BITS,
    "padding": PADDING, "linear": LINEAR,
}  # fmt: skip


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def compare(name: str, found: Any, expected: Any) -> None:
    results, wanted = listed(found), listed(expected)
    assert len(results) == len(wanted), name
    for one, other in zip(results, wanted):
        other = np.asarray(other)
        assert isinstance(one, kn.Array), f"{name} gives {type(one)}"
        assert (one.dtype, one.shape) == (other.dtype, other.shape), f"{name}: {one.type} instead of {other.dtype}"
        np.testing.assert_allclose(
            np.asarray(one), other, rtol=1e-12, atol=1e-12 if name in LINEAR else 0, err_msg=name
        )


@pytest.mark.parametrize("subject", SUBJECTS)
def test_values_are_numpys_compiled(subject: str) -> None:
    cases = SUBJECTS[subject]
    with np.errstate(all="ignore"):
        expected = {name: case(lambda a: a) for name, case in cases.items()}
    found = kn.compile(lambda: {name: listed(case(kn.array)) for name, case in cases.items()})()
    for name in cases:
        compare(name, found[name], expected[name])


@pytest.mark.parametrize(
    ("subject", "name"), [(subject, list(cases)[k]) for subject, cases in SUBJECTS.items() for k in (0, -1)]
)
def test_values_are_numpys_lazily(subject: str, name: str) -> None:
    case = SUBJECTS[subject][name]
    with np.errstate(all="ignore"):
        compare(name, case(kn.array), case(lambda a: a))
