"""Gradients of loops and branches, to second order, against differences and against the same in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import DifferentiationError, LabelError

import knetc as kn


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape) * 0.7


def scanned(f: Any, init: Any, xs: Any, reverse: bool = False) -> Any:
    """``kn.scan`` by a Python loop, over one array."""
    results = []
    places = range(xs.shape[0])
    for i in reversed(places) if reverse else places:
        init, y = f(init, xs[i])
        results.append(y)
    return init, results[::-1] if reverse else results


def rnn(scan: Any, reverse: bool = False) -> Callable[..., Any]:
    def loss(h: Any, xs: Any, w: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = kn.tanh(h @ w + x)
            return h, h * x

        h, ys = scan(step, h, xs, reverse=reverse)
        return kn.sum(h * h) + sum(kn.sum(kn.sin(ys[i])) for i in range(xs.shape[0]))

    return loss


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-9, atol=1e-11)


@given(length=st.integers(0, 4), reverse=st.booleans())
@settings(max_examples=8)
def test_gradients_are_those_of_the_loop(length: int, reverse: bool) -> None:
    given_ = [kn.array(a) for a in (numbers(3), numbers(length, 3, seed=1), numbers(3, 3, seed=2))]
    found, expected = (kn.diff(rnn(scan, reverse), *given_) for scan in (kn.scan, scanned))
    close(found.value, expected.value)
    for x in given_:
        a, b = (np.zeros(x.shape) if slope is None else slope for slope in (kn.grad(found, x), kn.grad(expected, x)))
        close(a, b)


@pytest.mark.parametrize("reverse", [False, True])
def test_second_order(reverse: bool) -> None:
    given_ = [numbers(2), numbers(3, 2, seed=1), numbers(2, 2, seed=2)]
    for place in range(3):

        def slope(*args: Any, scan: Any, place: int = place) -> Any:
            return kn.sum(kn.sin(kn.grad(rnn(scan, reverse), place)(*args)))

        arrays = [kn.array(a) for a in given_]
        found, expected = (kn.diff(slope, *arrays, scan=scan) for scan in (kn.scan, scanned))
        for x in arrays:
            close(kn.grad(found, x), kn.grad(expected, x))
    assert kn.gcheck(lambda *a: kn.grad(rnn(kn.scan), 2)(*a), *given_, atol=1e-5, rtol=1e-5)


def test_third_order() -> None:
    def f(x: Any) -> Any:
        return kn.fori_loop(0, 3, lambda i, c: c * x, x)

    third = kn.grad(kn.grad(kn.grad(f)))
    close(third(kn.array(np.array(2.0))), 48)


CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray[Any, Any]]]] = {}


def case(*arrays: np.ndarray[Any, Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES[function.__name__] = function, list(arrays)
        return function

    return add


@case(numbers(2, 3, 2), numbers(2, seed=1))
def scan_in_scan(xs: Any, h: Any) -> Any:
    def row(c: Any, x: Any) -> Any:
        return kn.tanh(c * x), kn.exp(c)

    def step(c: Any, rows: Any) -> Any:
        last, ys = kn.scan(row, c, rows, reverse=True)
        return last + c, kn.sum(ys)

    last, ys = kn.scan(step, h, xs)
    return kn.sum(last) + kn.sum(ys * ys)


@case(numbers(5), numbers(seed=1))
def cond_in_scan(xs: Any, h: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        c = kn.cond(x > 0, lambda: kn.sin(c) * x, lambda: c * c)
        return c, c

    last, ys = kn.scan(step, h, xs)
    return last + kn.sum(ys)


@case(numbers(3), numbers(3, seed=1))
def branches_with_closures(x: Any, y: Any) -> Any:
    chosen = kn.switch(kn.array(1), [lambda: x, lambda: kn.exp(x) * y, lambda: y])
    return kn.sum(chosen * kn.cond(kn.array(False), lambda: y, lambda: kn.sin(y)))


@case(numbers(3, seed=1))
def a_scan_in_a_branch(x: Any) -> Any:
    def product() -> Any:
        return kn.scan(lambda c, e: (c * e, c), 1.0, x)

    last, parts = kn.cond(kn.array(True), product, lambda: (kn.sum(x), x))
    return last + kn.sum(parts * parts)


@case(numbers(2, 2), numbers(4, 2, seed=1))
def containers(w: Any, xs: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        state = kn.tanh(c["h"] @ w + x["a"])
        return {"h": state, "n": c["n"] + 1}, (state * c["n"], None)

    start = {"h": kn.zeros(2, dtype="float64"), "n": 0}
    last, (ys, _) = kn.scan(step, start, {"a": xs, "b": [kn.arange(4)]})
    return kn.sum(last["h"]) * last["n"] + kn.sum(ys)


@case(numbers(4, seed=1))
def a_fold_in_the_body(xs: Any) -> Any:
    def step(c: Any, x: Any) -> Any:
        return kn.softmax(c * x, axis=-1), kn.logsumexp(c, axis=-1)

    last, ys = kn.scan(step, xs, xs)
    return kn.sum(last * xs) + kn.sum(ys)


@case(numbers(3, seed=4))
def an_index_in_the_body(table: Any) -> Any:
    def step(c: Any, i: Any) -> Any:
        return c * table[i], table[i] + c

    last, ys = kn.scan(step, 1.0, kn.array([0, 2, 0]))
    return last + kn.sum(ys * ys)


@case(numbers(3, seed=5))
def counted(x: Any) -> Any:
    return kn.sum(kn.fori_loop(2, 5, lambda i, c: kn.sin(c) * x + i, x))


@case(numbers(3, seed=6))
def a_rule_of_its_own(x: Any) -> Any:
    @kn.primitive(lambda dy, y, x: dy * y.sum() / y.sum() * 2 * x)
    def square(x: Any) -> Any:
        return x * x

    return kn.sum(kn.scan(lambda c, e: (square(c) * e, None), x, x)[0])


@pytest.mark.parametrize("name", CASES)
def test_against_differences(name: str) -> None:
    function, arrays = CASES[name]
    assert kn.gcheck(function, *arrays, atol=1e-6, rtol=1e-6)
    slopes = [kn.grad(function, k) for k in range(len(arrays))]
    weights = [kn.array(np.arange(1.0, 1.0 + a.size).reshape(a.shape)) for a in arrays]

    def directional(*args: Any) -> Any:
        return sum(kn.sum(slope(*args) * w) for slope, w in zip(slopes, weights))

    assert kn.gcheck(directional, *arrays, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_compiled_gradients_are_the_same(name: str) -> None:
    function, arrays = CASES[name]

    def slopes(*args: Any) -> Any:
        tape = kn.diff(function, *args)
        return tape.value, [kn.grad(tape, x) for x in args]

    given_ = [kn.array(a) for a in arrays]
    plain = slopes(*given_)
    value, found = kn.compile(slopes)(*given_)
    close(value, plain[0])
    for a, b in zip(found, plain[1]):
        close(a, b)


@pytest.mark.parametrize("name", CASES)
def test_forward_mode(name: str) -> None:
    function, arrays = CASES[name]
    given_ = [kn.array(a) for a in arrays]
    directions = [kn.array(np.arange(1.0, 1.0 + a.size).reshape(a.shape)) for a in arrays]
    value, change = kn.jvp(function, given_, directions)
    tape = kn.diff(function, *given_)
    close(value, tape.value)
    close(change, sum(float(kn.sum(kn.grad(tape, x) * d)) for x, d in zip(given_, directions)))


def test_params_are_learned_through_a_loop() -> None:
    w = kn.Param(numbers(2, 2))
    xs, goal = numbers(6, 2, seed=1), np.array([0.3, -0.2])

    def loss(xs: Any, goal: Any) -> Any:
        last = kn.scan(lambda h, x: (kn.tanh(h @ w + x), None), np.zeros(2), xs)[0]
        return kn.sum((last - goal) ** 2)

    losses = list(kn.sgd(loss, [(xs, goal)] * 60, lr=0.2))
    assert float(losses[-1]) < 0.1 * float(losses[0])


def test_dropout_drops_the_same_in_both_directions() -> None:
    x = kn.array(np.ones(1000))

    def loss(x: Any) -> Any:
        return kn.sum(kn.scan(lambda c, e: (kn.dropout(c, 0.5), None), x, kn.arange(3))[0])

    kn.seed(1)
    tape = kn.diff(loss, x)
    slopes = kn.grad(tape, x).numpy()
    assert set(slopes.tolist()) == {0.0, 8.0}
    close(slopes.sum(), tape.value)  # the loss is linear in x


def test_nothing_flows_where_nothing_depends() -> None:
    x, y = kn.array(np.ones(2)), kn.array(np.ones(2))
    tape = kn.diff(lambda x, y: kn.sum(kn.scan(lambda c, e: (c, y), x, kn.arange(2))[0]), x, y)
    close(kn.grad(tape, x), [1, 1])
    assert kn.grad(tape, y) is None


def test_checks_are_made_once() -> None:
    table = kn.array(np.array([1.0, 2.0, 3.0]))

    def loss(table: Any, places: Any) -> Any:
        return kn.scan(lambda c, i: (c * table[i], None), 1.0, places)[0]

    step = kn.compile(lambda table, places: kn.grad(loss)(table, places))
    close(step(table, kn.array([0, 2, 2])), [9, 0, 6])
    with pytest.raises(LabelError, match="5"):
        step(table, kn.array([0, 2, 5]))
    checks = [s for v in step.__knetc_compiled__.variants for s in v.executable.program.steps if s.check >= 0]
    assert len(checks) == 1


def test_checks_of_loops_in_loops() -> None:
    table = kn.array(np.array([1.0, 2.0, 3.0]))

    def loss(table: Any, places: Any) -> Any:
        def inner(c: Any, i: Any) -> Any:
            return c * kn.cond(kn.sum(table) > 0, lambda: table[i], lambda: table[0]), None

        return kn.scan(lambda c, i: (kn.scan(inner, c, places)[0] + table[i], None), table[0], places)[0]

    def by_hand(table: Any, places: Any) -> Any:
        c = table[0]
        for i in range(len(places)):
            for j in range(len(places)):
                c = c * table[places[j]]
            c = c + table[places[i]]
        return c

    places = kn.array([0, 2, 2])
    for how in (kn.grad(loss), kn.compile(kn.grad(loss)), kn.grad(kn.checkpoint(loss))):
        close(how(table, places), kn.grad(by_hand)(table, places))
        with pytest.raises(LabelError, match="5"):
            np.asarray(how(table, kn.array([0, 2, 5])))


def test_equal_values_of_a_loop_and_its_gradient_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the forward loop stores was recorded apart; it may be there already."""
    monkeypatch.setattr(config, "check", True)

    def loss(x: Any) -> Any:
        last, lows = kn.scan(lambda c, v: (kn.tanh(v * c), kn.min(c, axis=0, keepdims=True)), x, x)
        return kn.sum(last) + kn.sum(lows) + kn.sum(kn.fori_loop(0, 1, lambda i, c: kn.logaddexp(c, 2.0), x))

    x = kn.array(numbers(3))
    exact = [(loss(x + 1e-6 * e) - loss(x - 1e-6 * e)).item() / 2e-6 for e in np.eye(3)]
    np.testing.assert_allclose(np.asarray(kn.grad(loss)(x)), exact, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(kn.hessian(loss)(x)), np.asarray(kn.hessian(loss)(x)).T, rtol=1e-10)


def test_a_while_loop_is_told() -> None:
    def loss(x: Any) -> Any:
        return kn.while_loop(lambda v: v < 10, lambda v: v * 2, x)

    with pytest.raises(DifferentiationError, match=r"kn\.scan, or kn\.fori_loop between Python ints"):
        kn.diff(loss, kn.array(1.0))
    assert kn.grad(kn.diff(lambda x: x * kn.stop_gradient(loss(x)), x := kn.array(1.0)), x).item() == 16

    @kn.compile
    def counted(x: Any, n: int) -> Any:
        return kn.grad(lambda x: kn.fori_loop(0, n, lambda i, c: c * x, x))(x)

    with pytest.raises(DifferentiationError, match="static="):
        counted(kn.array(2.0), 3)
    assert kn.compile(static=("n",))(counted)(kn.array(2.0), 3).item() == 32


def test_low_precision_sums_in_float32() -> None:
    w = kn.array(np.ones(1), dtype="float16")
    xs = kn.array(np.full((4096, 1), 1.0), dtype="float16")
    tape = kn.diff(lambda w: kn.sum(kn.scan(lambda c, x: (c, x * w), 0.0, xs)[1].astype("float32")), w)
    assert kn.grad(tape, w).item() == 4096


def test_the_forward_loop_runs_once() -> None:
    @kn.compile
    def step(h: Any, xs: Any, w: Any) -> Any:
        tape = kn.diff(rnn(kn.scan), h, xs, w)
        return tape.value, kn.grad(tape, w)

    step(numbers(3), numbers(4, 3), numbers(3, 3))
    program = step.__knetc_compiled__.variants[0].executable.program
    assert [(region.count, region.reverse) for region in program.regions] == [(4, False), (4, True)]


def test_hessian_of_a_loop() -> None:
    function, [xs, h] = CASES["scan_in_scan"]
    found = kn.hessian(lambda h: function(kn.array(xs), h))(kn.array(h))
    slope = kn.grad(function, 1)
    rows = [kn.grad(lambda h, k=k: slope(kn.array(xs), h)[k])(kn.array(h)) for k in range(2)]
    close(found, np.array(rows))
