"""Updates inside compiled functions, and results that later calls leave alone."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.errors import (
    LabelError,
    ShapeError,
)
from values import f32, numbers

from knetc.arrays import array
from knetc.compiler.function import compile
from knetc.ops.losses import nll
from knetc.ops.reduction import sum as total
from knetc.params import Param
from knetc.transforms import diff, grad


def test_a_training_step_is_one_program_and_updates_in_place() -> None:
    w, b = Param(f32(1, 2, 3)), Param(f32(0))

    def loss(x: Any, y: Any) -> Any:
        error = total(x * w) + total(b) - y
        return error * error

    @compile
    def step(x: Any, y: Any, lr: float) -> Any:
        tape = diff(loss, x, y)
        for p in (w, b):
            p[...] = p - lr * grad(tape, p)
        return tape.value

    x, y = f32(1, 0, 2), np.float32(1)
    expected = [np.array([1.0, 2, 3]), np.array([0.0])]
    for lr in (0.1, 0.01, 0.01):
        memory = w.buffer.address
        error = float(x @ expected[0] + expected[1][0] - 1)
        value = step(x, y, lr)
        assert numbers(value) == pytest.approx(error**2, rel=1e-5)
        expected = [expected[0] - lr * 2 * error * x, expected[1] - lr * 2 * error]
        np.testing.assert_allclose(numbers(w), expected[0], rtol=1e-5)
        np.testing.assert_allclose(numbers(b), expected[1], rtol=1e-5)
    del value
    gc.collect()
    memory = w.buffer.address
    step(x, y, 0.01)
    assert w.buffer.address == memory


def test_views_and_handles_keep_their_values() -> None:
    w = Param(f32(1, 2))

    @compile
    def step() -> Any:
        w[...] = w * 2

    view, held = np.asarray(w), w.value
    pending = w.value + 1
    step()
    step()
    assert numbers(w).tolist() == [4, 8]
    assert view.tolist() == [1, 2] and numbers(held).tolist() == [1, 2]
    assert numbers(pending).tolist() == [2, 3]


def test_results_are_never_overwritten_by_later_calls() -> None:
    @compile
    def double(x: Any) -> Any:
        return x * 2, x

    results = [double(array(f32(k)))[0] for k in range(20)]
    assert [numbers(r).tolist() for r in results] == [[2 * k] for k in range(20)]


def test_an_exception_while_tracing_changes_nothing() -> None:
    w = Param(f32(1, 2))
    state = {"broken": True}

    @compile
    def step(x: Any) -> Any:
        w[...] = w + x
        if state["broken"]:
            raise RuntimeError("in the middle")
        return w * 1

    with pytest.raises(RuntimeError, match="in the middle"):
        step(f32(1, 1))
    assert numbers(w).tolist() == [1, 2]
    with pytest.raises(ShapeError, match="broadcast"):
        step(f32(1, 1, 1))
    assert numbers(w).tolist() == [1, 2]
    state["broken"] = False
    assert numbers(step(f32(1, 1))).tolist() == [2, 3]
    assert numbers(w + 0).tolist() == [2, 3]


def test_a_label_out_of_range_raises_before_anything_is_written() -> None:
    w = Param(f32(1, 2, 3))

    @compile
    def step(labels: Any) -> Any:
        tape = diff(lambda: nll(w.reshape((1, 3)), labels))
        w[...] = w - grad(tape, w)
        return tape.value

    step(np.array([1]))
    before = numbers(w).copy()
    with pytest.raises(LabelError, match="7"):
        step(np.array([7]))
    assert numbers(w).tolist() == before.tolist()
    step(np.array([2]))


def test_a_value_read_after_it_was_written_is_the_new_one() -> None:
    w = Param(f32(1))

    @compile
    def step(x: Any) -> Any:
        before = w * 1
        w[...] = w + x
        after = w * 1
        w[...] = w * 10
        return before, after, w

    before, after, same = step(f32(2))
    assert [numbers(v).tolist() for v in (before, after, w)] == [[1], [3], [30]]
    assert same is w


def test_a_new_value_of_another_shape() -> None:
    w = Param(f32(1))

    @compile
    def grow() -> Any:
        w.value = (w + np.zeros(2, np.float32)).reshape((1, 2))

    grow()
    assert w.shape == (1, 2) and numbers(w).tolist() == [[1, 1]]
