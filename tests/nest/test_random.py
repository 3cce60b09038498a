"""Random nests of integers give exactly what whole-array NumPy gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

extents = st.sampled_from([0, 1, 2, 3, 5, 16, 17, 40])


def layout(draw: Any, shape: tuple[int, ...], axes: tuple[int, ...]) -> dict[int, int]:
    """Strides of a dense array over some axes, in a random order of them."""
    strides, stride = {}, 1
    for axis in draw(st.permutations(axes)):
        strides[axis] = stride
        stride *= shape[axis]
    return strides


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_nests(build: Any, data: st.DataObject) -> None:
    draw = data.draw
    outer = tuple(draw(st.lists(extents, max_size=3)))
    inner = tuple(draw(st.lists(extents, max_size=2)))
    shape = (*outer, *inner)
    every, rows = tuple(range(len(shape))), tuple(range(len(outer)))
    columns = tuple(a for a in every if a not in rows)
    b = build(outer, inner)
    arrays: list[np.ndarray] = []
    checks: list[tuple[str, np.ndarray, np.ndarray]] = []
    rng = np.random.default_rng(draw(st.integers(0, 99)))

    def view(flat: np.ndarray, strides: dict[int, int]) -> np.ndarray:
        """A flat array's elements over all axes of the nest; those without a stride have extent 1."""
        order = sorted(strides, key=lambda a: -strides[a])
        dense = flat.reshape([shape[a] for a in order]).transpose([order.index(a) for a in sorted(order)])
        return dense.reshape([shape[a] if a in strides else 1 for a in every])

    def source(axes: tuple[int, ...]) -> tuple[int, dict[int, int], np.ndarray]:
        strides = layout(draw, shape, axes)
        flat = rng.integers(-50, 50, math.prod(shape[a] for a in axes)).astype("i8")
        arrays.append(flat)
        return b.argument("input", flat.size, "i8"), strides, view(flat, strides)

    def result(axes: tuple[int, ...], expected: np.ndarray, name: str) -> tuple[int, dict[int, int]]:
        strides = layout(draw, shape, axes)
        flat = np.full(math.prod(shape[a] for a in axes), -99, "i8")
        arrays.append(flat)
        whole = [shape[a] if a in axes else 1 for a in every]
        checks.append((name, view(flat, strides), np.broadcast_to(expected, whole)))
        return b.argument("output", flat.size, "i8"), strides

    subset = st.lists(st.sampled_from(every), unique=True).map(tuple) if every else st.just(())
    some_rows = st.lists(st.sampled_from(rows), unique=True).map(tuple) if rows else st.just(())
    known: list[tuple[int, np.ndarray]] = []
    with b.stage("row"):
        for _ in range(draw(st.integers(0, 2))):
            x, strides, value = source(draw(some_rows))
            known.append((b.load(x, strides), value))
    for turn in range(draw(st.integers(1, 2))):
        local = list(known)
        with b.stage("element"):
            for _ in range(draw(st.integers(1, 2))):
                x, strides, value = source(draw(st.one_of(st.just(every), subset)))
                local.append((b.load(x, strides), value))
            (p, first), (q, second) = draw(st.sampled_from(local)), local[-1]
            v, value = b.do("add", p, q), np.asarray(first + second)
            full = np.broadcast_to(value, shape)
            choice = draw(
                st.lists(st.sampled_from(["store", "inner", "argmax", "outer", "all"]), min_size=1, unique=True)
            )
            if "store" in choice:
                y, strides = result(every, full, "store")
                b.store(y, v, strides)
            if "inner" in choice:
                known.append((b.fold("sum", v), full.sum(columns, keepdims=True)))
            if "outer" in choice:
                y, strides = result(columns, full.sum(rows, keepdims=True), "outer")
                b.fold_into("sum", v, "outer", y, strides)
            if "all" in choice:
                y, strides = result((), np.asarray(full.sum()), "all")
                b.fold_into("sum", v, "all", y)
            if "argmax" in choice and math.prod(inner):
                number = b.index({a: math.prod(shape[a + 1 :]) for a in columns})
                where = full.reshape(*outer, math.prod(inner)).argmax(-1)
                known.append((b.fold("argmax", v, number), np.reshape(where, [*outer, *(1 for _ in inner)])))
        if len(known) and turn == 0:
            v, value = known[-1]
            with b.stage("row"):
                y, strides = result(rows, value, "row")
                b.store(y, v, strides)
    b.run(*arrays, pieces=draw(st.integers(1, 3)))
    for name, got, expected in checks:
        np.testing.assert_array_equal(got, expected, err_msg=name)
