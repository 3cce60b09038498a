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


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("order", ["rows", "backward"])
def test_long_rows_in_chunks(build: Any, rows: int, order: str) -> None:
    """Two scans at once, of something that depends on the row, in any number of pieces to the last bit."""
    c = 300_001
    axes, base = ({0: c, 1: -1}, c - 1) if order == "backward" else ({0: c, 1: 1}, 0)
    b = build((rows,), (c,))
    x, f = b.argument("input", rows * c, "f8"), b.argument("input", rows, "f8")
    y, z = b.argument("output", rows * c, "f8"), b.argument("output", rows * c, "f8")
    with b.stage("row"):
        factor = b.load(f, {0: 1})
    with b.stage("element"):
        v = b.do("multiply", b.load(x, axes, base), factor)
        b.store(y, b.do("add", b.scan("sum", v), v), axes, base)
        b.store(z, b.scan("max", v), axes, base)
    data, factors = rng.standard_normal((rows, c)), rng.uniform(1, 2, rows)
    found = []
    for pieces in (1, 5):
        sums, tops = np.full((rows, c), 9.0), np.full((rows, c), 9.0)
        b.run(data, factors, sums, tops, pieces=pieces)
        found.append(sums)
    forward = (data[:, ::-1] if order == "backward" else data) * factors[:, None]
    turned = [a[:, ::-1] if order == "backward" else a for a in (sums, tops)]
    np.testing.assert_allclose(turned[0], np.cumsum(forward, 1) + forward, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(turned[1], np.maximum.accumulate(forward, 1))
    np.testing.assert_array_equal(*found)


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
