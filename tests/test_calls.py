"""Ways to call NumPy's functions and methods that are easily forgotten: each gives what it gives for NumPy's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import knetc as kn

NUMBERS = {
    "A": np.array([[1.5, -2.0, 3.0, 0.5], [4.0, 0.0, -1.0, 2.0], [7.0, 3.5, -4.0, 1.0]]),
    "B": np.array([[2.0, 1.0, 5.0, 3.0], [1.0, 8.0, 2.0, 6.0], [3.0, 4.0, 1.0, 9.0]]),
    "C": np.arange(24.0).reshape(2, 3, 4) - 7,
    "V": np.array([3.0, 1, 2, 2, 5, -1]),
    "I": np.array([[3, 1, 0], [2, 15, 25]]),
    "U": np.arange(6, dtype=np.uint8),
    "Z": np.array(3),
}

EXPRESSIONS = """
np.delete(V, V > 2)
np.delete(V, [])
np.delete(A, v(np.array([0, 2])), axis=0)
np.insert(V, [1, 3], 9)
np.insert(V, [3, 1, 1], [7.0, 8, 9])
np.insert(A, [0, -1], B[:, :2], axis=1)
np.insert(V, [], [])
np.array_split(V, Z)
np.split(V, v(np.array(2)))
np.take(A, [0, 19, -30], mode="clip")
np.take(A, [0, 13, -1], mode="wrap")
A.take([5, 1], axis=1, mode="wrap")
np.choose(v(np.array([0, 5])), [1.0, 2.0], mode="clip")
I.choose([10 + k for k in range(30)])
np.digitize(V, v(np.array([2, 1, 0])), right=True)
np.digitize(V, [4.0, 2.0, 2.0, -1.0])
np.digitize(V, [1.0])
np.einsum(A, [0, 1], B, [0, 1], [0])
np.einsum(A, [0, 1], B, [0, 2])
np.einsum(C, [..., 3], [...])
np.dot(C, B.T)
np.dot(A, C.transpose(0, 2, 1))
np.dot(C, V[:4])
np.dot(V[:3], C)
np.where(A > 1)
np.where(A)
np.clip(U, 1, 300)
np.clip(U, -1, 4)
np.clip(U, -5, 700)
A.clip(min=1, max=2)
A.clip(0)
np.size(C, (0, 2))
np.reshape(A, (4, 3), order="F")
A.reshape(2, 6, order="F")
A.reshape((4, 3), copy=True)
np.ravel(C, order="F")
A.ravel("F")
C.flatten("F")
A.ravel(order="K")
np.concatenate((A, B), dtype=np.float32)
np.stack([A, I[0, 0] + B], axis=1, dtype=np.float32)
A.argsort(kind="stable")
A.argsort(0, kind="mergesort")
A.item(3) + A.item(1, 2) + A.item((0, 1)) + A.item(-1)
V.compress([True, False, True])
A.compress(v(np.array([True, False, True])), axis=0)
A.imag
A.copy(order="C")
np.round(I, -1)
np.fabs(I - 3) + np.rint(A[:2, :3])
x[[1, 0]] if (x := A) is not None else None
""".strip().splitlines()

MISTAKES = """
A[v(np.array([0.5]))]
A[[0, 1, 0], [0, 0]]
V[v(np.array(1.0))]
np.insert(V, [9], 1)
np.split(V, 4)
np.take(V, [9]).tolist()
np.dot(C, A.T[:2])
A.item(99)
""".strip().splitlines()


def value(expression: str, v: Any) -> Any:
    return eval(expression, {"np": np, "v": v, **{name: v(x.copy()) for name, x in NUMBERS.items()}})


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_as_numpy(expression: str) -> None:
    ours, numpys = value(expression, kn.array), value(expression, lambda x: x)
    several = isinstance(numpys, (list, tuple))
    for mine, theirs in zip(ours if several else [ours], numpys if several else [numpys], strict=True):
        floats = np.asarray(theirs).dtype.kind == "f"
        np.testing.assert_allclose(np.asarray(mine), theirs, rtol=1e-6, strict=not floats)
        assert np.shape(mine) == np.shape(theirs)


@pytest.mark.parametrize("expression", MISTAKES)
def test_mistakes_as_numpy(expression: str) -> None:
    with pytest.raises(Exception) as theirs:
        value(expression, lambda x: x)
    with pytest.raises(tuple(c for c in theirs.type.__mro__ if c not in (Exception, BaseException, object))):
        value(expression, kn.array)
