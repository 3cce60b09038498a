"""Loop nests give what NumPy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

rng = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype("f4")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 256), (7, 1001), (0, 4), (4, 0)])
def test_broadcast(build: Any, shape: tuple[int, int]) -> None:
    n, c = shape
    b = build((n, c))
    x, bias, s, y = (
        b.argument("input", n * c),
        b.argument("input", c),
        b.argument("scalar"),
        b.argument("output", n * c),
    )
    with b.stage("row"):
        b.store(y, b.do("mul", b.do("add", b.load(x, {0: c, 1: 1}), b.load(bias, {1: 1})), b.load(s)), {0: c, 1: 1})
    data, row, out = normal(n, c), normal(c), np.full((n, c), 9, "f4")
    b.run(data, row, 2.5, out, pieces=3)
    np.testing.assert_allclose(out, (data + row) * np.float32(2.5), rtol=1e-6)


def softmax(build: Any, n: int, c: int, strides: dict[int, int] | None = None) -> Any:
    at = strides or {0: c, 1: 1}
    b = build((n,), (c,))
    x, y = b.argument("input", n * c), b.argument("output", n * c)
    t = b.argument("scratch", c)
    with b.stage("element"):
        m = b.fold("max", b.load(x, at))
    with b.stage("element"):
        e = b.do("exp", b.do("sub", b.load(x, at), m))
        b.store(t, e, {1: 1})
        s = b.fold("sum", e)
    with b.stage("row"):
        r = b.do("div", b.constant(1.0), s)
    with b.stage("element"):
        b.store(y, b.do("mul", b.load(t, {1: 1}), r), at)
    return b


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (100, 10), (64, 256), (7, 1001), (3, 20000)])
@pytest.mark.parametrize("columns", [False, True])
def test_softmax(build: Any, shape: tuple[int, int], columns: bool) -> None:
    n, c = shape
    if columns:  # over the first axis of [c, n]
        b, data = softmax(build, n, c, {0: 1, 1: n}), normal(c, n)
    else:
        b, data = softmax(build, n, c), normal(n, c)
    out = np.empty_like(data)
    b.run(data, out, pieces=4)
    axis = 0 if columns else 1
    e = np.exp(data.astype("f8") - data.max(axis, keepdims=True))
    np.testing.assert_allclose(out, e / e.sum(axis, keepdims=True), rtol=2e-5, atol=1e-9)
