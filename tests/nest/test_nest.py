"""Loop nests give what NumPy gives."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from knetc.codegen.cpu.native import optimized_ir, target
from knetc.codegen.cpu.nest import lower
from knetc.runtime.base.errors import CompileError

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
        b.store(
            y, b.do("multiply", b.do("add", b.load(x, {0: c, 1: 1}), b.load(bias, {1: 1})), b.load(s)), {0: c, 1: 1}
        )
    data, row, out = normal(n, c), normal(c), np.full((n, c), 9, "f4")
    b.run(data, row, 2.5, out, pieces=3)
    np.testing.assert_allclose(out, (data + row) * np.float32(2.5), rtol=1e-6)


@pytest.mark.parametrize("level", [None, "avx2", "generic"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (7, 1001), (3, 20000)])
def test_streaming(build: Any, shape: tuple[int, int], level: str | None) -> None:
    """Results that go past the caches, to places with any alignment, and nothing beside them is touched."""
    n, c = shape
    data = normal(n, c)
    for shift in (0, 1, 15):
        room = np.full(n * c + 40, 9, "f4")
        out = room[shift : shift + n * c].reshape(n, c)
        softmax(build, n, c).run(data, out, pieces=2, level=level, streaming=frozenset({1}))
        e = np.exp(data.astype("f8") - data.max(1, keepdims=True))
        np.testing.assert_allclose(out, e / e.sum(1, keepdims=True), rtol=2e-5, atol=1e-9)
        assert (room[:shift] == 9).all() and (room[shift + n * c :] == 9).all()
        b = build((n, c))
        x, y = b.argument("input", n * c), b.argument("output", n * c)
        with b.stage("row"):
            v = b.load(x, {0: c, 1: 1})
            b.store(y, b.do("add", v, v), {0: c, 1: 1})
        b.run(data, out, pieces=3, level=level, streaming=frozenset({1}))
        np.testing.assert_array_equal(out, data + data)
        assert (room[:shift] == 9).all() and (room[shift + n * c :] == 9).all()


def softmax(build: Any, n: int, c: int, strides: dict[int, int] | None = None) -> Any:
    at = strides or {0: c, 1: 1}
    b = build((n,), (c,))
    x, y = b.argument("input", n * c), b.argument("output", n * c)
    t = b.argument("scratch", c)
    with b.stage("element"):
        m = b.fold("max", b.load(x, at))
    with b.stage("element"):
        e = b.do("exp", b.do("subtract", b.load(x, at), m))
        b.store(t, e, {1: 1})
        s = b.fold("sum", e)
    with b.stage("row"):
        r = b.do("true_divide", b.constant(1.0), s)
    with b.stage("element"):
        b.store(y, b.do("multiply", b.load(t, {1: 1}), r), at)
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


def layernorm_backward(build: Any, n: int, c: int) -> Any:
    """dx of each row, and the column sums dw and db."""
    b = build((n,), (c,))
    at, row = {0: c, 1: 1}, {0: 1}
    x, w, dy = b.argument("input", n * c), b.argument("input", c), b.argument("input", n * c)
    mean, scale = b.argument("input", n), b.argument("input", n)
    dx, dw, db = b.argument("output", n * c), b.argument("output", c), b.argument("output", c)

    def pieces() -> tuple[int, int, int]:
        d = b.load(dy, at)
        hat = b.do("multiply", b.do("subtract", b.load(x, at), m), s)
        return d, hat, b.do("multiply", d, b.load(w, {1: 1}))

    with b.stage("row"):
        m, s = b.load(mean, row), b.load(scale, row)
    with b.stage("element"):
        d, hat, g = pieces()
        b.fold_into("sum", b.do("multiply", d, hat), "outer", dw, {1: 1})
        b.fold_into("sum", d, "outer", db, {1: 1})
        first, second = b.fold("sum", g), b.fold("sum", b.do("multiply", g, hat))
    with b.stage("row"):
        part = b.constant(1 / max(c, 1))
        first, second = b.do("multiply", first, part), b.do("multiply", second, part)
    with b.stage("element"):
        d, hat, g = pieces()
        b.store(
            dx, b.do("multiply", s, b.do("subtract", b.do("subtract", g, first), b.do("multiply", hat, second))), at
        )
    return b


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (700, 10), (300, 256), (33, 1001), (0, 4), (4, 0)])
def test_layernorm_backward(build: Any, shape: tuple[int, int]) -> None:
    n, c = shape
    x, dy, w = normal(n, c), normal(n, c), normal(c)
    mean, scale = normal(n), normal(n)
    dx, dw, db = np.full((n, c), 9, "f4"), np.full(c, 9, "f4"), np.full(c, 9, "f4")
    layernorm_backward(build, n, c).run(x, w, dy, mean, scale, dx, dw, db, pieces=3)
    hat = (x.astype("f8") - mean[:, None]) * scale[:, None]
    g = dy * w.astype("f8")
    if c:
        expected = scale[:, None] * (g - g.mean(1, keepdims=True) - hat * (g * hat).mean(1, keepdims=True))
        np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dw, (dy * hat).sum(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(db, dy.sum(0, dtype="f8"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (10, 4), (500, 10), (300, 77), (64, 5000)])
def test_cross_entropy(build: Any, shape: tuple[int, int]) -> None:
    """Loss and gradient in one kernel: labels are compared with the columns' numbers."""
    n, c = shape
    b = build((n,), (c,))
    at = {0: c, 1: 1}
    x, labels = b.argument("input", n * c), b.argument("input", n, "i4")
    loss, dx = b.argument("output"), b.argument("output", n * c)
    with b.stage("row"):
        label = b.load(labels, {0: 1})
    with b.stage("element"):
        m = b.fold("max", b.load(x, at))
    with b.stage("element"):
        z = b.do("subtract", b.load(x, at), m)
        hit = b.do("equal", b.cast(b.index({1: 1}), "i4"), label)
        s = b.fold("sum", b.do("exp", z))
        picked = b.fold("sum", b.do("where", hit, z, b.constant(0.0)))
    with b.stage("row"):
        b.fold_into("sum", b.do("subtract", s, picked), "all", loss)
        inverse = b.do("true_divide", b.constant(1.0), s)
    with b.stage("element"):
        e = b.do("multiply", b.do("exp", b.do("subtract", b.load(x, at), m)), inverse)
        hit = b.do("equal", b.cast(b.index({1: 1}), "i4"), label)
        b.store(dx, b.do("subtract", e, b.do("where", hit, b.constant(1.0), b.constant(0.0))), at)
    data, target = normal(n, c), rng.integers(0, c, n).astype("i4")
    out, grad = np.zeros((), "f4"), np.empty((n, c), "f4")
    b.run(data, target, out, grad, pieces=5)
    z = data.astype("f8") - data.max(1, keepdims=True)
    e, hot = np.exp(z), np.arange(c) == target[:, None]
    np.testing.assert_allclose(out, (e.sum(1) - (z * hot).sum(1)).sum(), rtol=1e-5)
    np.testing.assert_allclose(grad, e / e.sum(1, keepdims=True) - hot, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
@pytest.mark.parametrize("size", [0, 1, 100, 5000, 300_001])
def test_fold_all(build: Any, dtype: str, size: int) -> None:
    b = build((size,))
    x = b.argument("input", size, dtype)
    total, largest = b.argument("output", 1, dtype), b.argument("output", 1, dtype)
    with b.stage("row"):
        v = b.load(x, {0: 1})
        b.fold_into("sum", v, "all", total)
        b.fold_into("max", v, "all", largest)
    data = (rng.standard_normal(size) * 100).astype(dtype)
    s, m = np.zeros((), dtype), np.zeros((), dtype)
    b.run(data, s, m, pieces=7)
    scale = max(float(np.abs(data).astype("f8").sum()), 1)
    eps = np.finfo(dtype).eps if dtype[0] == "f" else 0
    assert abs(float(s) - float(data.astype("f8").sum())) <= 20 * eps * scale**0.5 + 4 * eps * abs(float(s))
    if size:
        assert m == data.max()


@pytest.mark.parametrize("way", ["rows", "columns", "lanes"])
@pytest.mark.parametrize("shape", [(1000, 30), (20, 20000), (3, 7), (2000, 3)])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "argmax"])
def test_fold_leading_axis(build: Any, way: str, shape: tuple[int, int], name: str) -> None:
    """Column results as a fold over outer axes, over inner axes, and of a transposed matrix."""
    n, c = shape
    dtype = "i8" if name == "argmax" else "f4"
    data = (1 + rng.random((n, c)) * 1e-3).astype("f4") if name == "prod" else normal(n, c).round(1)
    out = np.full(c, 9, dtype)
    if way == "columns":
        b = build((c,), (n,))
        x, y = b.argument("input", n * c), b.argument("output", c, dtype)
        with b.stage("element"):
            r = b.fold(name, b.load(x, {0: 1, 1: c}), b.index({1: 1}) if name == "argmax" else -1)
        with b.stage("row"):
            b.store(y, r, {0: 1})
    else:
        b = build((n,), (c,))
        x, y = b.argument("input", n * c), b.argument("output", c, dtype)
        with b.stage("element"):
            at = {0: c, 1: 1} if way == "rows" else {0: 1, 1: n}
            v = b.load(x, at)
            b.fold_into(name, v, "outer", y, {1: 1}, b.index({0: 1}) if name == "argmax" else -1)
    b.run(data if way != "lanes" else np.ascontiguousarray(data.T), out, pieces=3)
    np.testing.assert_allclose(out, getattr(np, name)(data, 0), rtol=1e-4, atol=1e-4)


def test_nan_and_infinity(build: Any) -> None:
    b = build((4,), (100,))
    x, y, k = b.argument("input", 400), b.argument("output", 4), b.argument("output", 4, "i8")
    with b.stage("element"):
        v = b.load(x, {0: 100, 1: 1})
        m, i = b.fold("max", v), b.fold("argmax", v, b.index({1: 1}))
    with b.stage("row"):
        b.store(y, m, {0: 1})
        b.store(k, i, {0: 1})
    data = normal(4, 100)
    data[0, 37] = data[0, 90] = np.nan
    data[1, 5] = np.inf
    data[2] = -np.inf
    out, places = np.zeros(4, "f4"), np.zeros(4, "i8")
    b.run(data, out, places)
    np.testing.assert_array_equal(out, data.max(1))
    np.testing.assert_array_equal(places, data.argmax(1))


def test_bools(build: Any) -> None:
    b = build((6,), (50,))
    x, y, n = b.argument("input", 300, "?"), b.argument("output", 300, "?"), b.argument("output", 6, "i8")
    at = {0: 50, 1: 1}
    with b.stage("element"):
        count = b.fold("sum", b.cast(b.load(x, at), "i8"))
    with b.stage("row"):
        b.store(n, count, {0: 1})
    with b.stage("element"):
        b.store(y, b.do("equal", b.cast(b.load(x, at), "i8"), count), at)
    data = rng.random((6, 50)) < 0.02
    data[2] = False
    out, counts = np.ones((6, 50), "?"), np.zeros(6, "i8")
    b.run(data, out, counts)
    np.testing.assert_array_equal(counts, data.sum(1))
    np.testing.assert_array_equal(out, data == data.sum(1)[:, None])


@pytest.mark.parametrize("width", [1, 8, 65])
def test_gather_rows(build: Any, width: int) -> None:
    b = build((50,), (width,))
    x, i, y = b.argument("input", 30 * width), b.argument("input", 50, "i4"), b.argument("output", 50 * width)
    with b.stage("row"):
        k = b.cast(b.load(i, {0: 1}), "i8")
    with b.stage("element"):
        b.store(y, b.load(x, {1: 1}, indirect={k: width}), {0: width, 1: 1})
    data, places, out = normal(30, width), rng.integers(0, 30, 50).astype("i4"), np.empty((50, width), "f4")
    b.run(data, places, out, pieces=2)
    np.testing.assert_array_equal(out, data[places])


@pytest.mark.parametrize("shape", [(100, 1), (100, 8), (2000, 64), (5000, 100)])
def test_scatter_add(build: Any, shape: tuple[int, int]) -> None:
    n, width = shape
    b = build((n,), (width,))
    dy, i, y = b.argument("input", n * width), b.argument("input", n, "i8"), b.argument("update", 30 * width)
    with b.stage("row"):
        k = b.load(i, {0: 1})
    with b.stage("element"):
        b.store(y, b.load(dy, {0: width, 1: 1}), {1: 1}, indirect={k: width}, accumulate=True)
    data, places = normal(n, width), rng.integers(0, 30, n)
    expected = np.zeros((30, width), "f4")
    for row, place in zip(data, places):
        expected[place] += row
    for pieces in (1, 4):
        out = np.zeros((30, width), "f4")
        b.run(data, places, out, pieces=pieces)
        np.testing.assert_array_equal(out, expected)


def test_scatter_add_beside_a_total(build: Any) -> None:
    b = build((500,), (4,))
    dy, i, y = b.argument("input", 2000), b.argument("input", 500, "i8"), b.argument("update", 40)
    t = b.argument("output", 1)
    with b.stage("element"):
        v = b.load(dy, {0: 4, 1: 1})
        b.store(y, v, {1: 1}, indirect={b.load(i, {0: 1}): 4}, accumulate=True)
        b.fold_into("sum", v, "all", t)
    data, places, out, total = normal(500, 4), rng.integers(0, 10, 500), np.zeros((10, 4), "f4"), np.zeros((), "f4")
    expected = np.zeros((10, 4), "f4")
    np.add.at(expected, places, data)
    b.run(data, places, out, total, pieces=4)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_allclose(total, data.sum(), rtol=1e-4)


def test_scatter_elements(build: Any) -> None:
    """Elements along one axis that add to the same places."""
    b = build((3000,))
    dy, i, y = b.argument("input", 3000), b.argument("input", 3000, "i8"), b.argument("update", 5)
    with b.stage("row"):
        b.store(y, b.load(dy, {0: 1}), indirect={b.load(i, {0: 1}): 1}, accumulate=True)
    data, places, out = normal(3000), rng.integers(0, 5, 3000), np.zeros(5, "f4")
    expected = np.zeros(5, "f4")
    np.add.at(expected, places, data)
    b.run(data, places, out, pieces=4)
    np.testing.assert_array_equal(out, expected)


def test_concatenation_and_padding(build: Any) -> None:
    """[a, b] along the last axis, with a border of ones; nothing outside of a and b is read."""
    n, p, q = 37, 20, 33
    w = p + q + 2
    b = build((n, w))
    first, second, y = b.argument("input", n * p), b.argument("input", n * q), b.argument("output", n * w)
    edge = b.argument("output", n * w, "?")
    with b.stage("row"):
        in_first, in_second = b.range({1: 1}, 1, 1 + p), b.range({1: 1}, 1 + p, 1 + p + q)
        u = b.load(first, {0: p, 1: 1}, -1, where=(in_first,))
        v = b.load(second, {0: q, 1: 1}, -1 - p, where=(in_second, in_second), otherwise=1)
        b.store(y, b.do("where", b.inside(in_first), u, v), {0: w, 1: 1})
        b.store(edge, b.inside(b.range({1: 1}, 1, w - 1)), {0: w, 1: 1})
    x, z = normal(n, p), normal(n, q)
    out, flags = np.empty((n, w), "f4"), np.empty((n, w), "?")
    b.run(x, z, out, flags, pieces=2)
    np.testing.assert_array_equal(out, np.pad(np.concatenate([x, z], 1), ((0, 0), (1, 1)), constant_values=1))
    assert flags[:, 1:-1].all() and not flags[:, [0, -1]].any()


def test_iota(build: Any) -> None:
    b = build((5, 4, 3))
    y = b.argument("output", 60, "i8")
    with b.stage("row"):
        b.store(y, b.index({1: 10, 2: -1}, 7), {0: 12, 1: 3, 2: 1})
    out = np.empty((5, 4, 3), "i8")
    b.run(out)
    np.testing.assert_array_equal(out, np.broadcast_to(7 + 10 * np.arange(4)[:, None] - np.arange(3), (5, 4, 3)))


@pytest.mark.parametrize("dtype", ["f4", "f8", "?"])
@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
@pytest.mark.parametrize("shape", [(20, 33, 70), (1, 300, 64), (3, 5, 2)])
def test_transposes(build: Any, shape: tuple[int, int, int], order: tuple[int, ...], dtype: str) -> None:
    data = rng.standard_normal(shape) > 0 if dtype == "?" else rng.standard_normal(shape).astype(dtype)
    expected = np.ascontiguousarray(data.transpose(order))
    b = build(expected.shape)
    x, y = b.argument("input", data.size, dtype), b.argument("output", data.size, dtype)
    into = {axis: stride // data.itemsize for axis, stride in enumerate(data.transpose(order).strides)}
    with b.stage("row"):
        v = b.load(x, into)
        b.store(y, v, {k: stride // data.itemsize for k, stride in enumerate(expected.strides)})
    for streaming in (frozenset[int](), frozenset({1})):
        out = np.empty_like(expected)
        b.run(data, out, pieces=3, streaming=streaming)
        np.testing.assert_array_equal(out, expected)


def test_transposed_operands_of_a_total(build: Any) -> None:
    n, c = 150, 333
    b = build((n, c))
    x, z, y, t = (b.argument(k, n * c) for k in ("input", "input", "output", "output"))
    with b.stage("row"):
        v = b.do("multiply", b.load(x, {0: 1, 1: n}), b.load(z, {0: c, 1: 1}))
        b.store(y, v, {0: c, 1: 1})
        b.fold_into("sum", v, "all", t)
    data, other, out, total = normal(c, n), normal(n, c), np.empty((n, c), "f4"), np.empty((), "f4")
    b.run(data, other, out, total, pieces=3)
    np.testing.assert_array_equal(out, data.T * other)
    np.testing.assert_allclose(total, (data.T * other).sum(dtype="f8"), rtol=1e-4, atol=1e-3)


def test_several_inner_axes(build: Any) -> None:
    """Mean over the first and last of three axes, from a stage with two inner axes, then a stage that uses it."""
    n, h, c = 12, 9, 40
    b = build((n,), (h, c))
    x, y, m = b.argument("input", n * h * c), b.argument("output", n * h * c), b.argument("output", n)
    at = {0: c, 1: n * c, 2: 1}
    with b.stage("element"):
        s = b.fold("sum", b.load(x, at))
    with b.stage("row"):
        b.store(m, s, {0: 1})
    with b.stage("element"):
        b.store(y, b.do("subtract", b.load(x, at), s), at)
    data = normal(h, n, c)
    out, sums = np.empty_like(data), np.empty(n, "f4")
    b.run(data, out, sums, pieces=2)
    np.testing.assert_allclose(sums, data.sum((0, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out, data - sums[:, None], rtol=1e-6)


def test_updates_in_place(build: Any) -> None:
    b = build((1000,))
    p, g, lr = b.argument("update", 1000, "f8"), b.argument("input", 1000, "f8"), b.argument("scalar", 1, "f8")
    with b.stage("row"):
        b.store(p, b.do("subtract", b.load(p, {0: 1}), b.do("multiply", b.load(lr), b.load(g, {0: 1}))), {0: 1})
    params, grads = rng.standard_normal(1000), rng.standard_normal(1000)
    expected = params - 0.1 * grads
    b.run(params, grads, 0.1, pieces=3)
    np.testing.assert_allclose(params, expected, rtol=1e-12)


@pytest.mark.parametrize("level", ["avx2", "generic"])
def test_levels(build: Any, level: str) -> None:
    data = normal(40, 300)
    out = np.empty_like(data)
    softmax(build, 40, 300).run(data, out, level=level)
    e = np.exp(data.astype("f8") - data.max(1, keepdims=True))
    np.testing.assert_allclose(out, e / e.sum(1, keepdims=True), rtol=2e-5)


def test_long_sums_are_as_exact_as_numpys(build: Any) -> None:
    b = build((2,), (1_000_000,))
    x, y = b.argument("input", 2_000_000), b.argument("output", 2)
    with b.stage("element"):
        s = b.fold("sum", b.load(x, {0: 1_000_000, 1: 1}))
    with b.stage("row"):
        b.store(y, s, {0: 1})
    data, out = rng.random((2, 1_000_000)).astype("f4"), np.empty(2, "f4")
    b.run(data, out)
    exact = data.sum(1, dtype="f8")
    assert np.abs(out - exact).max() <= max(2 * np.abs(data.sum(1) - exact).max(), 0.06)


def test_batch_is_no_part_of_the_code(build: Any) -> None:
    for make in (softmax, layernorm_backward):
        for c in (10, 300):
            assert len({tuple(lower(make(build, n, c).nest, target()).functions) for n in (1, 32, 777, 10_000)}) == 1


def test_large_results_pass_the_caches(build: Any) -> None:
    texts = [" ".join(lower(softmax(build, n, 1000).nest, target()).functions.values()) for n in (100, 10_000)]
    assert [" !nontemporal" in text for text in texts] == [False, True]


def test_scratch_that_fits_no_cache_is_refused(build: Any) -> None:
    with pytest.raises(CompileError, match="2000000 bytes of scratch rows"):
        lower(softmax(build, 3, 500_000).nest, target())


@pytest.mark.parametrize("shape", [(300, 256), (1000, 10)])
def test_threads_do_not_change_bits(build: Any, shape: tuple[int, int]) -> None:
    n, c = shape
    arrays = [normal(n, c), normal(c), normal(n, c), normal(n), normal(n)]
    seen = []
    for pieces in (1, 2, 5):
        outs = [np.empty((n, c), "f4"), np.empty(c, "f4"), np.empty(c, "f4")]
        layernorm_backward(build, n, c).run(*arrays, *outs, pieces=pieces)
        seen.append([out.tobytes() for out in outs])
    assert seen[0] == seen[1] == seen[2]


def test_columns_of_any_number_share_the_combination(build: Any) -> None:
    second = {tuple(lower(layernorm_backward(build, 300, c).nest, target()).functions)[1] for c in (50, 70, 1000)}
    assert len(second) == 1


@pytest.mark.parametrize("columns", [256, 1001])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_places_in_long_rows(build: Any, name: str, columns: int) -> None:
    """The first of equal elements wins, and the first NaN above all."""
    b = build((6,), (columns,))
    x, y, t = b.argument("input", 6 * columns), b.argument("output", 6, "i8"), b.argument("output", 6)
    with b.stage("element"):
        v = b.load(x, {0: columns, 1: 1})
        place, total = b.fold(name, v, b.index({1: 1})), b.fold("sum", v)
    with b.stage("row"):
        b.store(y, place, {0: 1})
        b.store(t, total, {0: 1})
    data = normal(6, columns).round(0)
    data[1, 200:203] = np.nan
    data[2, -1] = np.nan
    data[3] = 0.0
    data[4] = np.inf
    data[5] = -np.inf
    out, sums = np.zeros(6, "i8"), np.zeros(6, "f4")
    b.run(data, out, sums)
    np.testing.assert_array_equal(out, getattr(data, name)(1))
    np.testing.assert_allclose(sums, data.sum(1), rtol=1e-5)


def gelu(build: Any, n: int, c: int) -> Any:
    b = build((n, c))
    x, bias, y = b.argument("input", n * c), b.argument("input", c), b.argument("output", n * c)
    with b.stage("row"):
        v = b.do("add", b.load(x, {0: c, 1: 1}), b.load(bias, {1: 1}))
        half = b.do("multiply", v, b.constant(0.5))
        scaled = b.do("erf", b.do("multiply", v, b.constant(0.5**0.5)))
        b.store(y, b.do("multiply", half, b.do("add", scaled, b.constant(1.0))), {0: c, 1: 1})
    return b


@pytest.mark.parametrize(("level", "vector"), [("avx512", "<16 x float>"), ("avx2", "<8 x float>")])
@pytest.mark.parametrize("make", [softmax, layernorm_backward, gelu])
def test_hot_loops_are_widened(build: Any, make: Any, level: str, vector: str) -> None:
    """Every loop over elements loads or stores whole vectors, also those that store and fold at once."""
    texts = lower(make(build, 64, 1000).nest, target(level)).functions
    ir = optimized_ir(next(iter(texts.values())), target(level))
    assert len(re.findall(f"load {vector}", ir)) >= {softmax: 3, layernorm_backward: 8, gelu: 1}[make]
    assert re.search(f"store {vector}", ir)
    assert "vector.memcheck" not in ir  # no test at run time whether arrays overlap


def test_padding_reads_vectors(build: Any) -> None:
    b = build((30, 102))
    x, y = b.argument("input", 3000), b.argument("output", 3060)
    with b.stage("row"):
        b.store(y, b.load(x, {0: 100, 1: 1}, -1, where=(b.range({1: 1}, 1, 101),)), {0: 102, 1: 1})
    (text,) = lower(b.nest, target("avx512")).functions.values()
    assert "llvm.masked.load" in optimized_ir(text, target("avx512"))
