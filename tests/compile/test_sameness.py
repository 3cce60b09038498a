"""A compiled function gives what the function itself gives, random numbers too; what it refuses and what it keeps."""

from __future__ import annotations

import gc
import os
import threading
import warnings
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.runtime.base.errors import (
    TraceError,
)
from values import f32, numbers

from knetc.arrays import Array, array
from knetc.compiler.function import compile
from knetc.ir.ambient import setting
from knetc.ops.reduction import sum as total
from knetc.params import Param
from knetc.random import dropout, rand, seed
from knetc.train.optimizers import Adam
from knetc.train.update import update
from knetc.transforms import diff, grad, training

# --- the same numbers ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(["+", "*", "-", "index", "write"]), min_size=1, max_size=6),
    st.floats(-2, 2, width=32),
    st.integers(-3, 3),
)
def test_compiled_and_uncompiled_agree(ops: list[str], a: float, n: int) -> None:
    def run(x: Any, w: Param, a: float, n: int) -> Any:
        for op in ops:
            if op == "+":
                x = x + a * n
            elif op == "*":
                x = x * w
            elif op == "-":
                x = n - x
            elif op == "index":
                x = x + w[1]
            else:
                w[...] = x * 0.5
        return x, total(x)

    data = f32(1, -2, 0.5)
    ours, theirs = Param(f32(1, 2, 3)), Param(f32(1, 2, 3))
    compiled = compile(run)
    for _ in range(2):
        left, right = compiled(array(data), ours, a, n), run(array(data), theirs, a, n)
        for x, y in zip(left, right):
            np.testing.assert_allclose(numbers(x), numbers(y), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-5, atol=1e-5)


def test_the_result_is_an_array() -> None:
    result = compile(lambda x: x + 1)(f32(1))
    assert type(result) is Array


# --- optimizers and random numbers -----------------------------------------------------------------------------------


def test_optimizers_made_inside_and_hyper_parameters_changed_between_steps(lines: list[str]) -> None:
    def start() -> Param:
        return Param(f32(1, -2, 3))

    ours, theirs = start(), start()

    def step(w: Param, x: Any) -> Any:
        tape = diff(lambda: total((w * x) * (w * x)))
        if w.opt is None:
            w.opt = Adam(lr=0.1)
        update(w, grad(tape, w))
        return tape.value

    compiled = compile(step)
    x = f32(1, 2, 3)
    for k in range(6):
        left, right = compiled(ours, x), step(theirs, x)
        np.testing.assert_allclose(numbers(left), numbers(right), rtol=1e-5)
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-5)
        for w in (ours, theirs):
            w.opt.lr = 0.1 / (k + 1)
    assert len(lines) == 1
    ours.opt.gclip = theirs.opt.gclip = 0.5
    compiled(ours, x), step(theirs, x)
    np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-5)
    assert "w.opt.gclip was 0, is 0.5" in lines[1]
    ours.opt = theirs.opt = None
    compiled(ours, x), step(theirs, x)
    np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-5)


def test_random_numbers_are_those_of_the_uncompiled_function() -> None:
    def noise(x: Any) -> Any:
        return rand(3) + x, rand(2, 2), dropout(x, 0.5, training=True)

    def draw(function: Any) -> list[Any]:
        seed(7)
        found = []
        for _ in range(3):
            found += [numbers(part).copy() for part in function(array(np.ones(3, np.float32)))]
        return found

    compiled = compile(noise)
    compiled(array(np.ones(3, np.float32)))
    left, right = draw(compiled), draw(noise)
    for a, b in zip(left, right):
        np.testing.assert_array_equal(a, b)
    assert not (left[0] == left[3]).all()


def test_python_state_that_each_trace_changes_is_an_error() -> None:
    class Counting:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, x: Any) -> Any:
            self.calls += 1
            return x + 1

    counting = compile(Counting())
    with pytest.raises(TraceError, match=r"self\.calls changes whenever"):
        counting(array(f32(1)))


# --- what a compiled function may not do silently, and what it does not keep -----------------------------------------


def test_assigning_to_a_numpy_argument_is_refused() -> None:
    @compile
    def assign(x: Any) -> Any:
        x[0] = 5
        return x

    data = f32(1, 2)
    with pytest.raises(TraceError, match=r"assigns to x, which is a NumPy array"):
        assign(data)
    assert data.tolist() == [1, 2]
    held = array(data)
    assert assign(held) is held
    assert numbers(held).tolist() == [5, 2]


def test_results_of_other_kinds_are_refused() -> None:
    for function in (lambda x: (y for y in [x]), lambda x: diff(lambda: total(x * x)), lambda x: iter([x])):
        with pytest.raises(TraceError, match="a compiled function returns arrays"):
            compile(function)(array(f32(1)))


def test_results_without_arrays_and_functions_without_arguments() -> None:
    w = Param(f32(1, 2))
    assert compile(lambda x: None)(array(f32(1))) is None
    assert compile(lambda x: (5, "a", x.shape))(array(f32(1, 2))) == (5, "a", (2,))
    assert numbers(compile(lambda: w * 2)()).tolist() == [2, 4]
    assert compile(lambda: w)() is w


def test_a_set_that_changes_is_noticed() -> None:
    names = {"a"}

    @compile
    def count(x: Any) -> Any:
        return x + len(names)

    x = array(f32(0))
    assert numbers(count(x)).tolist() == [1]
    names.add("b")
    assert numbers(count(x)).tolist() == [2]


def test_arguments_and_results_are_not_kept() -> None:
    @compile
    def double(x: Any, rest: Any) -> Any:
        return x * 2 + rest[0]

    x, y = array(f32(1, 2)), array(f32(3, 4))
    result = double(x, [y])
    kept = [weakref.ref(thing) for thing in (x, y, result)]
    del x, y, result
    gc.collect()
    assert [reference() for reference in kept] == [None, None, None]


def test_a_forked_child_can_call_and_compile() -> None:
    started, go_on = threading.Event(), threading.Event()

    @compile
    def slow(x: Any) -> Any:
        started.set()
        assert go_on.wait(60)
        return x + 1

    @compile
    def quick(x: Any) -> Any:
        return x * 2

    quick(array(f32(1)))
    thread = threading.Thread(target=lambda: slow(array(f32(1))))
    thread.start()
    assert started.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks where there are threads
        child = os.fork()
    if child == 0:
        ok = numbers(quick(array(f32(3)))).tolist() == [6] and numbers(quick(array(f32(3, 4)))).tolist() == [6, 8]
        go_on.set()
        os._exit(0 if ok and numbers(slow(array(f32(1)))).tolist() == [2] else 1)
    go_on.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def test_shapes_in_turn_and_settings_in_turn(lines: list[str]) -> None:
    @compile
    def double(x: Any) -> Any:
        return x * (3 if training() else 2)

    small, large = array(f32(1)), array(f32(1, 2))
    for _ in range(40):
        assert numbers(double(small)).tolist() == [2]
        assert numbers(double(large)).tolist() == [2, 4]
        with setting(training=True):
            assert numbers(double(small)).tolist() == [3]
    assert len(lines) == 3


def test_long_bodies_stand_apart(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr("knetc.compiler.function.LONG", 0)

    @compile
    def double(x: Any) -> Any:
        return x * 2

    for _ in range(3):
        assert numbers(double(array(f32(1)))).tolist() == [2]
        assert numbers(double(array(f32(1, 2)))).tolist() == [2, 4]
    assert len(lines) == 2
