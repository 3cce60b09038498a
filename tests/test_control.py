"""Loops and branches as values, against the same in plain Python."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.runtime.base.errors import DtypeError, LabelError, NanError, ShapeError, TraceError

import knetc as kn
from knetc.compiler import pipeline
from knetc.compiler.report import plan_text
from knetc.ir import canonical
from knetc.ir.ambient import setting
from knetc.ir.check import check
from knetc.ir.interpret import interpret
from knetc.ir.printer import to_text
from knetc.ir.reader import from_text

MODES = [pytest.param(lambda f: f, id="lazy"), pytest.param(kn.compile, id="compiled")]
Mode = Callable[[Callable[..., Any]], Callable[..., Any]]


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape)


def python_scan(f: Callable[[Any, Any], Any], carry: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """What ``scan`` computes, over one array."""
    results = []
    for x in xs[::-1] if reverse else xs:
        carry, y = f(carry, x)
        results.append(y)
    return carry, results[::-1] if reverse else results


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=12)
@given(length=st.integers(0, 4), rows=st.integers(0, 3), columns=st.integers(1, 3), reverse=st.booleans())
def test_scan_is_a_loop(mode: Mode, length: int, rows: int, columns: int, reverse: bool) -> None:
    init, xs, w = numbers(rows, columns), numbers(length, rows, columns, seed=1), numbers(columns, columns, seed=2)

    def step(carry: Any, x: Any) -> Any:
        state, total = carry
        state = np.tanh(state @ w + x)
        return (state, total + state.sum()), (state, x * 2)

    @mode
    def run(init: Any, xs: Any) -> Any:
        return kn.scan(step, (init, 0.0), xs, reverse=reverse)

    (state, total), (states, doubled) = run(init, xs)
    (last, sum), results = python_scan(step, (init, 0.0), xs, reverse)
    close(state, last)
    close(total, sum)
    close(states, np.array([y for y, _ in results]).reshape(xs.shape))
    close(doubled, xs * 2)


@pytest.mark.parametrize("mode", MODES)
@given(n=st.integers(-1, 5), first=st.integers(-2, 2))
@settings(max_examples=10)
def test_fori_loop_is_a_loop(mode: Mode, n: int, first: int) -> None:
    expected = 1.0
    for i in range(first, n):
        expected = expected * 0.5 + i

    @mode
    def fixed(x: Any) -> Any:
        return kn.fori_loop(first, n, lambda i, c: c * 0.5 + i, x)

    @mode
    def counted(x: Any, first: Any, n: Any) -> Any:
        return kn.fori_loop(first, n, lambda i, c: c * 0.5 + i, x)

    close(fixed(np.ones(2)), np.full(2, expected))
    close(counted(np.ones(2), np.array(first), np.array(n)), np.full(2, expected))
    close(counted(np.ones(2), first, n), np.full(2, expected))


def test_run_time_bounds_are_one_program() -> None:
    @kn.compile(on_miss="error")
    def power(x: Any, n: int) -> Any:
        return kn.fori_loop(0, n, lambda i, c: c * x, 1.0)

    assert [float(power(2.0, n)) for n in (0, 1, 5, 9)] == [1, 2, 32, 512]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", [1.0, 99.0, 100.0])
def test_while_loop_ends_when_the_data_say(mode: Mode, start: float) -> None:
    @mode
    def run(x: Any) -> Any:
        return kn.while_loop(lambda s: s["x"] < 100, lambda s: {"x": s["x"] * 2, "n": s["n"] + 1}, {"x": x, "n": 0})

    x, n = start, 0
    while x < 100:
        x, n = x * 2, n + 1
    found = run(np.array(start))
    assert (float(found["x"]), int(found["n"])) == (x, n)


@pytest.mark.parametrize("mode", MODES)
def test_cond_runs_the_chosen_branch(mode: Mode) -> None:
    scale = kn.array([10.0, 20.0], dtype="float64")

    @mode
    def choose(p: Any, x: Any) -> Any:
        return kn.cond(p, lambda x: (x * scale, 1), lambda x: (x - 1, x.sum()), x)

    for p in (True, False):
        found, number = choose(np.array(p), np.array([1.0, 2.0]))
        close(found, [10, 40] if p else [0, 1])
        assert float(number) == (1 if p else 3)
    assert kn.cond(True, lambda: "yes", lambda: "no") == "yes"


@pytest.mark.parametrize("mode", MODES)
def test_switch_takes_the_nearest(mode: Mode) -> None:
    @mode
    def choose(i: Any, x: Any) -> Any:
        return kn.switch(i, [lambda x: x, lambda x: x * 10, lambda x: x * 100], x)

    assert [float(choose(np.array(i), np.array(2.0))) for i in (-5, 0, 1, 2, 7)] == [2, 2, 20, 200, 200]
    assert [float(choose(i, np.array(2.0))) for i in (-5, 1, 7)] == [2, 20, 200]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reverse", [False, True])
def test_nested_loops_and_branches(mode: Mode, reverse: bool) -> None:
    xs = numbers(3, 4, 2)

    def row(total: Any, x: Any) -> Any:
        return total + x, total * x

    @mode
    def run(xs: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            last, products = kn.scan(row, carry, rows, reverse=reverse)
            last = kn.cond(last.sum() > 0, lambda: last, lambda: last * 0.5)
            halved = kn.while_loop(lambda v: kn.sum(v * v) > 1, lambda v: v / 2, last)
            return halved, products

        return kn.scan(step, np.zeros(2), xs)

    carry, products = np.zeros(2), []
    for rows in xs:
        carry, ys = python_scan(row, carry, rows, reverse)
        carry = carry if carry.sum() > 0 else carry * 0.5
        while np.sum(carry * carry) > 1:
            carry = carry / 2
        products.append(ys)
    found, made = run(xs)
    close(found, carry)
    close(made, products)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reverse", [False, True])
def test_random_numbers_are_those_of_the_loop(mode: Mode, reverse: bool) -> None:
    def draw() -> Any:
        return kn.randn(2) + kn.rand(2)

    @mode
    def looped() -> Any:
        return kn.scan(lambda c, _: (c, draw()), None, length=3, reverse=reverse)[1], kn.rand(2)

    kn.seed(3)
    expected = [draw().numpy() for _ in range(3)]
    after = kn.rand(2).numpy()
    kn.seed(3)
    found, rest = looped()
    np.testing.assert_array_equal(found.numpy(), expected[::-1] if reverse else expected)
    np.testing.assert_array_equal(rest.numpy(), after)


def test_random_numbers_of_endless_loops_differ() -> None:
    kn.seed(0)
    pile = kn.while_loop(
        lambda s: s[0] < 4, lambda s: (s[0] + 1, kn.where(kn.arange(4) == s[0], kn.rand(), s[1])), (0, kn.zeros(4))
    )[1]
    assert len(set(pile.tolist())) == 4
    assert not set(kn.rand(16).tolist()) & set(pile.tolist())


@pytest.mark.parametrize("mode", MODES)
def test_carries_may_trade_places(mode: Mode) -> None:
    @mode
    def run(a: Any, b: Any) -> Any:
        return kn.scan(lambda c, _: ((c[1], c[0]), c), (a, b), length=3)

    (a, b), (first, second) = run(np.array(1.0), np.array(2.0))
    assert (float(a), float(b)) == (2, 1)
    assert (first.tolist(), second.tolist()) == ([1, 2, 1], [2, 1, 2])


@pytest.mark.parametrize("mode", MODES)
def test_checks_inside_raise(mode: Mode) -> None:
    table = kn.array([1.0, 2.0, 3.0])
    w = kn.Param([1.0, 1.0])

    @mode
    def run(indexes: Any) -> Any:
        w[...] = w * 2
        return kn.scan(lambda c, i: (c + table[i], None), 0.0, indexes)[0]

    assert float(run(np.array([0, 2]))) == 4
    before = w.numpy().copy()
    with pytest.raises(LabelError, match="7"):
        float(run(np.array([0, 7, 1])))
    if mode is kn.compile:
        np.testing.assert_array_equal(w.numpy(), before)


def test_checks_of_a_loop_that_nothing_uses_are_made() -> None:
    table = kn.array([1.0, 2.0, 3.0])

    @kn.compile
    def run(indexes: Any) -> Any:
        kn.scan(lambda c, i: (c + table[i], None), 0.0, indexes)
        return indexes * 2

    assert run(np.array([0, 2])).tolist() == [0, 4]
    with pytest.raises(LabelError, match="7"):
        run(np.array([0, 7]))


def test_params_are_updated_by_what_a_loop_finds() -> None:
    w = kn.Param(np.ones(3))
    other = kn.array(np.array([1.0, 2.0, 3.0]))

    @kn.compile
    def step() -> None:
        w[...] = kn.fori_loop(0, 3, lambda i, c: c * 2 + other, w)

    step()
    step()
    expected = np.ones(3)
    for _ in range(6):
        expected = expected * 2 + other.numpy()
    close(w, expected)


def test_closures_are_read_at_each_call() -> None:
    w = kn.Param(np.ones(2))

    @kn.compile
    def run(xs: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            return c + w * x, None

        return kn.scan(step, np.zeros(2), xs)[0]

    close(run(np.ones((3, 2))), [3, 3])
    w[...] = np.array([1.0, 2.0])
    close(run(np.ones((3, 2))), [3, 6])


def test_host_calls_inside() -> None:
    matrices = numbers(3, 2, 2)
    found = kn.scan(lambda c, m: (c + kn.det(m), kn.inv(m)), 0.0, kn.array(matrices))
    close(found[0], np.linalg.det(matrices).sum())
    close(found[1], np.linalg.inv(matrices))


def _changed(shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    return lambda: kn.scan(lambda c, _: ({"h": kn.zeros(shape, dtype=dtype)}, None), {"h": kn.zeros(2)}, length=2)


def _not_shared(kind: Any) -> Callable[[], Any]:
    return lambda: kn.cond(kn.array(True), lambda: kn.zeros(2), lambda: kind)


MISTAKES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (_changed((3,), "float32"), ShapeError, r"carry\['h'\] is f32\[2\] before an iteration and f32\[3\] after"),
    (_changed((2,), "float64"), DtypeError, r"carry\['h'\] .* cast .*astype\('float32'\)"),
    (lambda: kn.scan(lambda c, _: ((c, c), None), kn.zeros(2), length=2), TypeError, r"\(\*, \*\), where \* was"),
    (lambda: kn.scan(lambda c, _: c, kn.zeros(2), length=2), TypeError, "returns a pair"),
    (lambda: kn.scan(lambda c, _: (c, None), kn.zeros(2)), ValueError, "length= says how many"),
    (lambda: kn.scan(lambda c, _: (c, None), kn.zeros(2), length=-1), ValueError, "not -1"),
    (lambda: kn.scan(lambda c, _: (c, None), 0.0, kn.zeros(2), length=3), ShapeError, "2 slices, but length= 3"),
    (lambda: kn.scan(lambda c, _: (c, None), 0.0, (kn.zeros(2), kn.zeros(3))), ShapeError, r"xs\[1\] .* xs\[0\] has 2"),
    (lambda: kn.scan(lambda c, _: (c, None), 0.0, kn.zeros(())), ShapeError, "no axis to go along"),
    (lambda: kn.scan(lambda c, _: (c, None), "text", length=1), TypeError, "holds 'text'"),
    (lambda: kn.while_loop(lambda x: x, lambda x: x, 1.0), TypeError, r"f32\[\]; it is a bool of shape \(\)"),
    (lambda: kn.while_loop(lambda x: x > 0, lambda x: x, kn.ones(2)), TypeError, "kn.any or kn.all"),
    (lambda: kn.cond(kn.ones(2) > 0, lambda: 1, lambda: 2), TypeError, "the predicate is bool"),
    (_not_shared(kn.zeros(3)), ShapeError, r"f32\[3\] by false_fun and f32\[2\] by true_fun"),
    (_not_shared(kn.zeros(2, dtype="float64")), DtypeError, "the same shapes and dtypes"),
    (_not_shared((kn.zeros(2),)), TypeError, r"\* where \(\*,\)|is \*, where \(\*,\) was expected"),
    (lambda: kn.switch(kn.array(0), []), ValueError, "no branch"),
    (lambda: kn.switch(kn.array(0.5), [kn.sin]), TypeError, "an integer of shape"),
    (lambda: kn.fori_loop(kn.zeros(2), 3, lambda i, c: c, 0), TypeError, "an integer of shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_told(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_branching_in_a_body_is_told() -> None:
    with pytest.raises(TraceError, match=r"kn\.cond .*kn\.scan"):
        kn.scan(lambda c, x: (c if x > 0 else -c, None), 0.0, kn.ones(3))

    @kn.compile
    def branches(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    with pytest.raises(TraceError, match=r"kn\.where .*kn\.cond .*kn\.scan, kn\.fori_loop or kn\.while_loop"):
        branches(np.ones(2))


def test_assignments_in_a_body_are_told() -> None:
    w = kn.Param([1.0])

    def step(c: Any, _: Any) -> Any:
        w[...] = c
        return c, None

    with pytest.raises(TraceError, match="carry the value"):
        kn.scan(step, kn.zeros(1), length=2)


def test_values_of_a_body_stay_there() -> None:
    kept = []

    def step(c: Any, _: Any) -> Any:
        kept.append(c)
        return c, None

    kn.scan(step, kn.zeros(1), length=2)
    with pytest.raises(TraceError, match="has ended"):
        kept[0].numpy()


def test_numbers_take_the_dtype_that_the_body_makes() -> None:
    total = kn.scan(lambda c, x: (c + x, None), 0, kn.array(np.ones(3, np.float64)))[0]
    assert total.dtype == np.float64
    assert kn.scan(lambda c, x: (c + 1, None), 0, kn.ones(3))[0].dtype == np.int64


def test_plans_show_loops_and_cases() -> None:
    @kn.compile
    def run(x: Any, n: Any) -> Any:
        def step(c: Any, row: Any) -> Any:
            c = kn.cond(c.sum() > 0, lambda: c + row, lambda: c - row)
            return kn.while_loop(lambda v: v.sum() < n, lambda v: v * 2, c), c

        return kn.scan(step, np.ones(2), x, reverse=True)

    run(np.ones((3, 2)), np.array(1.0))
    variant = run.__knetc_compiled__.variants[0]
    plan = plan_text(variant.executable.program)
    lines = [line for line in plan.splitlines() if line.strip().endswith(":")]
    loop, *inner = lines
    assert loop == "3 times, backwards, counted by i0:"
    assert [line.split(" t")[0] for line in inner] == ["    if", "    if", "    while"]
    assert "[i0]" in plan and "counted by i1" in plan
    assert "3 times" in kn.summary(run) and "many times" in kn.summary(run)


def test_nan_is_found_inside() -> None:
    def run() -> Any:
        return kn.scan(lambda c, x: (kn.log(c) + x, c), 1.0, kn.array([0.0, -1.0, 0.0]))[0].item()

    assert np.isnan(run())
    with setting(nan_check=True), pytest.raises(NanError, match="log"):
        run()


def test_the_same_loop_compiles_once() -> None:
    def run() -> Any:
        return kn.scan(lambda c, x: (c * 3.0 + x, c), kn.zeros(3), kn.ones((4, 3)))[0].numpy()

    run()
    before = len(pipeline._executables)
    run()
    assert len(pipeline._executables) == before


@pytest.mark.parametrize("gradient", [False, True])
def test_another_number_in_a_body_is_no_other_program(gradient: bool) -> None:
    def run(rate: float) -> Any:
        def step(c: Any, x: Any) -> Any:
            inner = kn.fori_loop(0, 2, lambda i, v: kn.sin(v * rate) + rate, c)
            return kn.cond(x > 0, lambda: inner * rate, lambda: inner), c**3.7

        last, ys = kn.scan(step, kn.ones(3), kn.array(np.array([0.5, -1.0])))
        return kn.sum(last + kn.sum(ys, 0))

    def found(rate: float) -> float:
        return float(kn.grad(lambda x: run(rate) * x)(kn.array(0.9)) if gradient else run(rate))

    found(0.3)
    before = len(pipeline._executables)
    numbers = [found(rate) for rate in (0.7, 1.3)]
    assert len(pipeline._executables) == before
    v, powers = np.ones(3), np.zeros(3)
    for x in (0.5, -1.0):
        w = v
        for _ in range(2):
            w = np.sin(w * 1.3) + 1.3
        powers += v**3.7
        v = w * 1.3 if x > 0 else w
    np.testing.assert_allclose(numbers[-1], (v + powers).sum(), rtol=1e-5)
    assert numbers[0] != numbers[1]


def test_graphs_with_loops_read_back() -> None:
    @kn.compile
    def run(x: Any, n: Any, start: Any) -> Any:
        def step(c: Any, row: Any) -> Any:
            c = kn.switch(n, [lambda: c + row, lambda: c - row])
            return kn.while_loop(lambda v: v.sum() < 5, lambda v: v * 2 + 1, c), c

        return kn.scan(step, start, x)

    given_ = [np.ones((3, 2)), np.array(1), np.ones(2)]
    expected = run(*given_)
    stages = pipeline.stages(run.__knetc_compiled__.variants[0].graph)
    for name in ("trace", "simplify", "fuse"):
        graph = stages[name]
        check(graph, name)
        again = from_text(to_text(graph))
        assert canonical.equal(again, graph)
        for found, wanted in zip(interpret(again, given_), (expected[0], expected[1])):
            close(found, wanted)


@pytest.mark.parametrize("mode", MODES)
def test_loops_under_vmap(mode: Mode) -> None:
    def one(x: Any, n: Any, shared: Any) -> Any:
        def step(c: Any, row: Any) -> Any:
            c = kn.cond(row.sum() > 0, lambda: c + row * shared, lambda: c * 0.5)
            return c, (c * 2, shared)

        last, (ys, same) = kn.scan(step, np.zeros(2), x, reverse=True)
        grown, _ = kn.while_loop(lambda s: s[0].sum() < n, lambda s: (s[0] + 1, s[1] + 1), (last, 0))
        return grown, ys, same, kn.fori_loop(0, 3, lambda i, c: c * n + i, 1.0)

    xs, ns, shared = numbers(4, 3, 2), np.array([1.0, 9.0, -50.0, 4.0]), np.array([1.0, 2.0])
    found = mode(lambda *a: kn.vmap(one, in_axes=(0, 0, None))(*a))(xs, ns, shared)
    for k in range(4):
        for all_of, alone in zip(found, one(kn.array(xs[k]), kn.array(ns[k]), kn.array(shared))):
            close(all_of[k], alone)


def test_random_numbers_in_loops_under_vmap() -> None:
    found = kn.vmap(lambda x: kn.scan(lambda c, _: (c, kn.rand()), x, length=3)[1])(kn.zeros(4))
    assert len(set(found.numpy().ravel().tolist())) == 12


def test_a_loop_without_end_can_be_interrupted() -> None:
    w = kn.Param(np.ones(3, np.float32))

    @kn.compile
    def endless(x: Any) -> Any:
        result = kn.while_loop(lambda s: s.sum() >= 0, lambda s: s + 1, x)
        w[...] = w * 2
        return result

    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background may not have
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            endless(np.ones(3, np.float32))
    finally:
        signal.signal(signal.SIGINT, before)
    np.testing.assert_array_equal(np.asarray(w), np.ones(3))  # what the loop comes before has not been done
    assert kn.while_loop(lambda s: s < 100, lambda s: s * 2, kn.array(1.0)).tolist() == 128
