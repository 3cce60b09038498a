"""Scans along rows give what NumPy gives, whichever way the rows lie and are walked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

rng = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype("f4")


@pytest.mark.parametrize("shape", [(1, 1), (3, 0), (5, 3), (70, 16), (4, 17), (3, 1001), (2, 5000), (300, 40)])
@pytest.mark.parametrize("order", ["rows", "columns", "backward"])
def test_cumulative_sums(build: Any, shape: tuple[int, int], order: str) -> None:
    """Of computed values, with something computed from them and a fold beside them."""
    n, c = shape
    axes, base = ({0: 1, 1: n}, 0) if order == "columns" else ({0: c, 1: 1}, 0)
    if order == "backward":
        axes, base = {0: c, 1: -1}, c - 1
    b = build((n,), (c,))
    x, y, t = b.argument("input", n * c), b.argument("output", n * c), b.argument("output", n)
    with b.stage("element"):
        v = b.load(x, axes, base)
        total = b.scan("sum", b.do("multiply", v, v))
        b.store(y, b.do("add", total, v), axes, base)
        folded = b.fold("max", total)
    with b.stage("row"):
        b.store(t, folded, {0: 1})
    data = normal(n, c)
    flat = np.ascontiguousarray(data.T) if order == "columns" else data
    out, most = np.empty_like(flat), np.empty(n, "f4")
    b.run(flat, out, most, pieces=3)
    forward = data[:, ::-1] if order == "backward" else data
    expected = np.cumsum(forward.astype("f8") ** 2, axis=1) + forward
    result = out.T if order == "columns" else out
    np.testing.assert_allclose(result[:, ::-1] if order == "backward" else result, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(most, (forward.astype("f8") ** 2).sum(1) if c else -np.inf, rtol=1e-5)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u2", "i8"])
@pytest.mark.parametrize("columns", [7, 300])
def test_every_fold(build: Any, name: str, dtype: str, columns: int) -> None:
    b = build((5,), (columns,))
    x, y = b.argument("input", 5 * columns, dtype), b.argument("output", 5 * columns, dtype)
    with b.stage("element"):
        b.store(y, b.scan(name, b.load(x, {0: columns, 1: 1})), {0: columns, 1: 1})
    data = rng.integers(1, 4, (5, columns)).astype(dtype)
    if dtype[0] == "f":
        data = (data * 0.5).astype(dtype)
    ufunc = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[name]
    out = np.empty_like(data)
    b.run(data, out)
    np.testing.assert_allclose(out, ufunc.accumulate(data, axis=1, dtype=dtype), rtol=1e-5)


def test_scans_of_scans(build: Any) -> None:
    """Two scans in one stage, and again in a later stage that needs the first one's total."""
    n, c = 3, 700
    at = {0: c, 1: 1}
    b = build((n,), (c,))
    x, y = b.argument("input", n * c), b.argument("output", n * c)
    with b.stage("element"):
        total = b.fold("sum", b.scan("sum", b.load(x, at)))
    with b.stage("element"):
        once = b.scan("sum", b.load(x, at))
        b.store(y, b.do("true_divide", b.scan("sum", once), total), at)
    data, out = abs(normal(n, c)), np.empty((n, c), "f4")
    b.run(data, out)
    once = np.cumsum(data.astype("f8"), axis=1)
    np.testing.assert_allclose(out, np.cumsum(once, axis=1) / once.sum(1, keepdims=True), rtol=1e-5)
