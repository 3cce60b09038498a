"""Many values joined: each is written into its place by its own kernel, and kernels that differ in places are one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.runtime.program import Program

import knetc as kn

N = 12
Function = Callable[[Any, Any], Any]


def chain(xp: Any, x: Any) -> Any:
    rows, h = [], x[0] * 0
    for k in range(N):
        h = xp.tanh(x[k] + h)
        rows.append(h)
    return xp.stack(rows)


def columns(xp: Any, x: Any) -> Any:
    return xp.concat([xp.exp(x[:, k : k + 1]) for k in reversed(range(N))], axis=1)


def numbers(xp: Any, x: Any) -> Any:
    return xp.stack([xp.sum(x[k]) * k for k in range(N)])


def mixed(xp: Any, x: Any) -> Any:
    """Inputs, constants, one value twice, a result that is read elsewhere, a product, a whole inside of a whole."""
    row = xp.tanh(x[3])
    inner = xp.stack([x[k] * 2 for k in range(N)])
    parts = [
        x,
        x,
        xp.zeros((1, N), dtype="float64"),
        row[None],
        row[None],
        inner,
        x @ x,
        x[:2],
        x[1:3],
        x.T,
        inner[2:4] + 1,
        x[::-1],
    ]
    whole = xp.concat(parts)
    return [whole, row, inner + 1, whole * 2, xp.concat([whole] * 9)[5:9]]


def in_a_loop(xp: Any, x: Any) -> Any:
    def step(h: Any, row: Any) -> Any:
        many = xp.stack([xp.sin(h * k * 0.1 + row) for k in range(N)])
        return xp.sum(many, 0) / N, many

    if xp is kn:
        return kn.scan(step, x[0], x)
    h, all_of_them = x[0], []
    for row in x:
        h, many = step(h, row)
        all_of_them.append(many)
    return h, xp.stack(all_of_them)


def sorted_parts(xp: Any, x: Any) -> Any:
    return xp.stack([xp.sort(x[k]) for k in range(N)])


CASES: list[Function] = [chain, columns, numbers, mixed, in_a_loop, sorted_parts]
X = np.random.default_rng(3).standard_normal((N, N))


def flat(value: Any) -> list[Any]:
    return [a for v in value for a in flat(v)] if isinstance(value, (list, tuple)) else [value]


def assert_same(function: Function, x: np.ndarray) -> None:
    """Compiled and lazily, what NumPy computes."""
    wanted = flat(function(np, x))
    for found in (kn.compile(lambda x: function(kn, x))(kn.array(x)), function(kn, kn.array(x))):
        for mine, right in zip(flat(found), wanted, strict=True):
            np.testing.assert_allclose(np.asarray(mine), right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", CASES)
def test_joined_values_are_those_that_were_joined(function: Function) -> None:
    assert_same(function, X)


@pytest.mark.parametrize("function", [chain, columns, numbers, mixed])
def test_gradients_of_joined_values(function: Function) -> None:
    assert kn.gcheck(lambda x: sum(kn.sum(part**2) for part in flat(function(kn, x))), kn.array(X))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_values_joined_in_any_order(data: st.DataObject) -> None:
    """Parts of one kernel or of several, of inputs, of each other, for results and for kernels that follow."""
    axis = data.draw(st.integers(0, 1))
    kinds = data.draw(st.lists(st.integers(0, 6), min_size=9, max_size=14))
    cuts = data.draw(st.lists(st.integers(0, 4), min_size=9, max_size=14))

    def joined(xp: Any, x: Any) -> Any:
        made: list[Any] = [x]
        for kind, cut in zip(kinds, cuts):
            last = made[-1]
            made.append(
                [
                    lambda: x,
                    lambda last=last: xp.sin(last),
                    lambda cut=cut: x[cut:] if axis == 0 else x[:, cut:],
                    lambda last=last: last * last,
                    lambda: xp.ones((5, 5), dtype="float64"),
                    lambda cut=cut: x[cut : cut + 1] * 3 if axis == 0 else x[:, cut : cut + 1] * 3,
                    lambda last=last: last[:1] + 1 if axis == 0 else last[:, :1] + 1,
                ][kind]()
            )
        whole = xp.concat(made, axis=axis)
        return [whole, *([made[2]] if kinds[0] % 2 else []), xp.sum(whole * 2, axis=1 - axis), xp.cos(whole)]

    assert_same(joined, X[:5, :5])


def program_of(function: Callable[[Any], Any], x: np.ndarray) -> Program:
    made = kn.compile(function)
    made(kn.array(x))
    [variant] = made.__knetc_compiled__.variants
    return variant.executable.program


def test_steps_of_a_python_loop_share_their_code() -> None:
    program = program_of(lambda x: kn.stack([kn.tanh(x[63 - k]) for k in range(64)]), np.ones((64, 100)))
    assert len(program.steps) == 64
    assert len({launch.function for step in program.steps for launch in step.launches}) == 1


def test_a_join_of_many_copies_nothing() -> None:
    def rows(x: Any) -> Any:
        made = [kn.tanh(x[0])]
        for k in range(1, 64):
            made.append(kn.tanh(x[k] + made[-1]))
        return kn.stack(made)

    program = program_of(rows, np.ones((64, 100)))
    assert 64 * 800 <= sum(step.written_bytes for step in program.steps) <= 66 * 800
    assert program.arena_bytes <= 2 * 832


def test_parts_and_whole_updated_in_place() -> None:
    w = kn.Param(X.copy(), kn.SGD(lr=0.1))
    expected = X.copy()
    for _ in range(3):
        tape = kn.diff(lambda: kn.sum(kn.stack([kn.sin(w[k]) for k in range(N)])))
        kn.update(w, kn.grad(tape, w))
        expected -= 0.1 * np.cos(expected)
    np.testing.assert_allclose(np.asarray(w.value), expected, rtol=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 4, st.booleans()), min_size=1, max_size=12))
def test_derivatives_of_blocks_that_are_read_and_assigned(blocks: list[tuple[int, int, int, int, bool]]) -> None:
    """Against the derivative of the linear function that reading and assigning is, found by its values."""

    def f(xp: Any, x: Any) -> Any:
        total = 0.0
        for number, (a, b, c, d, assigns) in enumerate(blocks):
            rows, columns = slice(min(a, b), max(a, b) + 1), slice(min(c, d), max(c, d) + 1)
            total = total + (number + 1) * xp.sum(x[rows, columns])
            if assigns:
                x[rows] = x[rows] * (0.5 + number) if d % 2 else number * 1.0
        return total + xp.sum(x * 0.25)

    x = X[:6, :6].copy()
    zero = f(np, np.zeros_like(x))
    units = np.eye(36).reshape(36, 6, 6)
    wanted = np.array([f(np, unit.copy()) - zero for unit in units]).reshape(6, 6)
    for found in (kn.compile(kn.grad(lambda x: f(kn, x.copy()))), kn.grad(lambda x: f(kn, x.copy()))):
        np.testing.assert_allclose(np.asarray(found(kn.array(x))), wanted, rtol=1e-9, atol=1e-9)


def test_a_python_loop_of_assignments_has_one_kernel_for_all_steps() -> None:
    def loss(x: Any) -> Any:
        y = kn.zeros((60, 8), dtype="float64")
        y[0] = kn.tanh(x[0])
        for k in range(1, 60):
            y[k] = kn.tanh(x[k] + y[k - 1])
        return kn.sum(y**2)

    program = program_of(kn.grad(loss), np.ones((60, 8)))
    assert len({launch.function for step in program.steps for launch in step.launches}) <= 8
    assert sum(step.written_bytes for step in program.steps) <= 3 * 60 * 8 * 8
