"""Loops and branches under vmap, in forward mode and computed again, against Python's own loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn

RANDOM = np.random.default_rng(7)
X = RANDOM.uniform(0.3, 0.9, (3, 4))
W = RANDOM.normal(size=(2, 2)) / 2


def numbers(x: Any) -> Any:
    return np.asarray(x).tolist()


def scanned(x: Any) -> Any:
    w = kn.array(W)
    last, all_of_them = kn.scan(lambda c, v: (kn.tanh(w @ c) * v, kn.sum(c) * v), kn.array(np.ones(2)), x)
    return kn.concat([last, all_of_them])


def backwards(x: Any) -> Any:
    def step(c: Any, v: Any) -> Any:
        return {"a": c["a"] * v + x[0], "k": c["k"] + 1}, (c["a"], c["k"])

    last, (values, counts) = kn.scan(step, {"a": x[1], "k": 0}, x, reverse=True)
    return last["a"] * kn.sum(values * counts)


def counted(x: Any) -> Any:
    return kn.fori_loop(1, 4, lambda i, c: c * x + i, x * 2)


def until(x: Any) -> Any:
    return kn.while_loop(lambda c: kn.sum(c) < 50, lambda c: c * (1 + x), x * 3)


def up_to(x: Any) -> Any:
    return kn.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * x), (0, kn.sin(x)))[1]


def chosen(x: Any) -> Any:
    return kn.cond(kn.sum(x) > 2.2, lambda y: kn.sin(y) * x[0], lambda y: kn.ones_like(y) * 3, x)


def switched(x: Any) -> Any:
    places = (x[0] * 10).astype("int64") % 3
    return kn.switch(places, [lambda y: y * y, lambda y: y[::-1] * x[1], kn.cos], x)


def nested(x: Any) -> Any:
    def step(c: Any, v: Any) -> Any:
        inner = kn.fori_loop(0, 2, lambda i, d: d * v + x[i], c)
        return kn.cond(v > 0.6, lambda d: kn.sin(d), lambda d: d, inner), inner

    return kn.scan(step, x[0], x)[1]


EVERY = {f.__name__: f for f in (scanned, backwards, counted, until, up_to, chosen, switched, nested)}
LOOPS_OF_UNKNOWN_LENGTH = {"until", "up_to"}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_many_elements_at_once(name: str, how: str) -> None:
    function = EVERY[name]
    whole = kn.compile(lambda x: kn.vmap(function)(x)) if how == "compiled" else kn.vmap(function)
    expected = np.stack([np.asarray(function(kn.array(row))) for row in X])
    np.testing.assert_allclose(np.asarray(whole(kn.array(X))), expected, rtol=1e-12)
    twice = kn.vmap(kn.vmap(function))(kn.array(np.stack([X, X[::-1]])))
    np.testing.assert_allclose(np.asarray(twice)[1], expected[::-1], rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_tangents(name: str, how: str) -> None:
    function, x, direction = EVERY[name], X[0], RANDOM.normal(size=4)

    def both(x: Any) -> Any:
        return kn.jvp(function, (x,), (direction,))

    value, tangent = (kn.compile(both) if how == "compiled" else both)(kn.array(x))
    np.testing.assert_allclose(value, np.asarray(function(kn.array(x))))
    h = 1e-6
    high, low = (np.asarray(function(kn.array(x + s * direction))) for s in (h, -h))
    np.testing.assert_allclose(np.asarray(tangent), (high - low) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", sorted(set(EVERY) - LOOPS_OF_UNKNOWN_LENGTH))
def test_forward_and_reverse_mode_agree_to_second_order(name: str) -> None:
    function, x = EVERY[name], kn.array(X[0])

    def total(x: Any) -> Any:
        return kn.sum(kn.sin(function(x)))

    forward = [float(kn.jvp(total, (x,), (row,))[1]) for row in np.eye(4)]
    gradient = kn.grad(total)
    np.testing.assert_allclose(forward, gradient(x), rtol=1e-10, atol=1e-12)
    h = 1e-6
    exact = np.stack(
        [(np.asarray(gradient(x + h * row)) - np.asarray(gradient(x - h * row))) / (2 * h) for row in np.eye(4)]
    )
    np.testing.assert_allclose(np.asarray(kn.hessian(total)(x)), exact, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(np.asarray(kn.vmap(gradient)(kn.array(X)))[0], gradient(x), rtol=1e-10, atol=1e-12)
    each = kn.grad(lambda x: kn.sum(kn.sin(kn.vmap(function)(x))))(kn.array(X))
    np.testing.assert_allclose(np.asarray(each)[0], gradient(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["scanned", "chosen", "nested"])
def test_computed_again(name: str) -> None:
    function: Callable[..., Any] = EVERY[name]
    plain = kn.grad(lambda x: kn.sum(kn.sin(function(x))))(kn.array(X[0]))
    again = kn.grad(lambda x: kn.sum(kn.sin(kn.checkpoint(function)(x))))(kn.array(X[0]))
    np.testing.assert_allclose(np.asarray(again), plain, rtol=1e-10)
    w = kn.array(W)

    def step(c: Any, v: Any) -> Any:
        return kn.tanh(w @ c) * v, kn.sum(c)

    def loss(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x: kn.sum(kn.scan(f, kn.array(np.ones(2)), x)[1])

    inside = kn.grad(loss(kn.checkpoint(step)))(kn.array(X[0]))
    np.testing.assert_allclose(np.asarray(inside), kn.grad(loss(step))(kn.array(X[0])), rtol=1e-10)


def test_each_element_draws_in_each_iteration() -> None:
    def f(x: Any) -> Any:
        return kn.scan(lambda c, v: (c, kn.rand() + v * 0), 0.0, x)[1]

    drawn = np.asarray(kn.vmap(f)(kn.zeros((5, 6))))
    assert len(set(drawn.ravel().tolist())) == 30


def test_checks_of_what_elements_choose_for_themselves() -> None:
    table = kn.arange(5)

    def walk(x: Any) -> Any:
        return kn.while_loop(lambda c: c[1] < x, lambda c: (kn.take(table, c[0] + 2), c[1] + 1), (0, 0))[0]

    assert numbers(kn.vmap(walk)(kn.array([0, 1, 2]))) == [0, 2, 4]  # the first would fail in its third iteration
    with pytest.raises(kn.LabelError, match="index 6 is out of range"):
        np.asarray(kn.vmap(walk)(kn.array([0, 3])))

    def choose(x: Any) -> Any:
        return kn.cond(x < 5, lambda: kn.take(table, x), lambda: x * 0)

    for how in (kn.vmap(choose), kn.compile(lambda x: kn.vmap(choose)(x))):
        assert numbers(how(kn.array([1, 7, 4]))) == [1, 0, 4]
        with pytest.raises(kn.LabelError, match="index -9"):
            np.asarray(how(kn.array([1, -9, 7])))
    for shared, expected in ((7, [0, 0]), (2, [0, 2])):  # one check for all, made if any element asks for it
        either = kn.vmap(lambda x, k: kn.cond(x > 0, lambda: kn.take(table, k), lambda: x * 0), in_axes=(0, None))
        assert numbers(either(kn.array([0, 0 if shared == 7 else 1]), kn.array(shared))) == expected
    with pytest.raises(kn.LabelError, match="index 7"):
        np.asarray(kn.vmap(lambda x: kn.cond(x > 0, lambda: kn.take(table, kn.array(7)), lambda: x))(kn.array([0, 1])))
    checked = kn.vmap(lambda x: kn.scan(lambda c, v: (c, kn.take(table, v)), 0, x)[1])
    assert numbers(checked(kn.array([[1, 2], [3, 4]]))) == [[1, 2], [3, 4]]
    with pytest.raises(kn.LabelError, match="index 7"):
        np.asarray(checked(kn.array([[1, 2], [3, 7]])))


def test_checks_of_choices_in_choices() -> None:
    table = kn.arange(3)

    def inner(x: Any) -> Any:
        def step(c: Any, v: Any) -> Any:
            return kn.cond(v < 3, lambda: c + kn.take(table, v), lambda: c), None

        return kn.scan(step, 0, kn.stack([x, x + 1]))[0]

    def choose(x: Any) -> Any:
        return kn.cond(x >= 0, inner, lambda x: x, x)

    assert numbers(kn.vmap(choose)(kn.array([-7, 0, 1, 2, 9]))) == [-7, 1, 3, 2, 0]
    with pytest.raises(kn.LabelError, match="index -7"):
        np.asarray(kn.vmap(inner)(kn.array([-7, 0])))


def test_loops_end_for_elements_that_have_not_chosen_them() -> None:
    def grow(x: Any) -> Any:
        return kn.cond(x > 0, lambda: kn.while_loop(lambda c: c < 100, lambda c: c * 2, x), lambda: -x)

    assert numbers(kn.vmap(grow)(kn.array([3.0, -2.0, 50.0]))) == [192, 2, 100]
    assert numbers(kn.vmap(grow)(kn.array([-1.0, -2.0]))) == [1, 2]

    def shared(x: Any) -> Any:  # the loop is the same for all, and would have no end
        return kn.cond(x > 0, lambda: kn.while_loop(lambda c: c < 100, lambda c: c * 2, 0.0) + x, lambda: x)

    assert numbers(kn.vmap(shared)(kn.array([-1.0, -2.0]))) == [-1, -2]


def test_loops_that_have_ended_do_not_begin_again() -> None:
    """Conditions may draw random numbers: an element's loop ends with the first one that says so."""

    def lasts(x: Any) -> Any:
        return kn.while_loop(lambda c: (kn.rand() < 0.5) & (c < 20), lambda c: c + 1, x)

    lengths = np.asarray(kn.vmap(lasts)(kn.zeros(2000, dtype="int64")))
    assert 0.9 < lengths.mean() < 1.1  # 1/2 + 1/4 + 1/8 ...


def test_python_functions_are_called_for_those_that_have_chosen() -> None:
    @kn.primitive(lambda dy, y, x: dy * 2 * x, host=True, result=lambda x: x)
    def positive_square(x: Any) -> Any:
        if x < 0:
            raise ValueError("negative")
        return x * x

    def choose(x: Any) -> Any:
        return kn.cond(x >= 0, positive_square, lambda x: x, x)

    x = kn.array([2.0, -1.0, 3.0])
    assert numbers(kn.vmap(choose)(x)) == [4, -1, 9]
    assert numbers(kn.grad(lambda x: kn.sum(kn.vmap(choose)(x)))(x)) == [4, 1, 6]
    with pytest.raises(ValueError, match="negative"):
        np.asarray(kn.vmap(positive_square)(x))
    matrices = kn.array(np.stack([np.eye(2) * 4, -np.eye(2)]))
    factors = kn.vmap(lambda a: kn.cond(a[0, 0] > 0, kn.cholesky, lambda a: a, a))(matrices)
    assert numbers(factors) == [[[2, 0], [0, 2]], [[-1, 0], [0, -1]]]
    parts = kn.vmap(lambda a: kn.cond(a[0, 0] > 0, lambda: kn.qr(a).R, lambda: a))(matrices)
    np.testing.assert_allclose(np.abs(parts), np.abs(matrices))
    one = kn.array(-np.eye(2))  # the same for all, and not for Cholesky
    kept = kn.vmap(lambda x: kn.cond(x > 0, lambda: kn.cholesky(one) * x, lambda: one))(kn.array([-1.0, -2.0]))
    assert numbers(kept)[0] == [[-1, 0], [0, -1]]


def test_nothing_flows_back_from_what_was_not_chosen() -> None:
    def root(x: Any) -> Any:
        return kn.cond(x > 0, kn.sqrt, lambda x: x * 0, x)

    x = kn.array([0.0, 4.0, -1.0])
    assert numbers(kn.grad(lambda x: kn.sum(kn.vmap(root)(x)))(x)) == [0, 0.25, 0]
    assert numbers(kn.vmap(kn.grad(root))(x)) == [0, 0.25, 0]
    assert numbers(kn.jvp(kn.vmap(root), (x,), (kn.ones(3),))[1]) == [0, 0.25, 0]


def test_sorting_in_what_elements_choose_for_themselves() -> None:
    def order(a: Any) -> Any:
        return kn.cond(a > 0.2, lambda: kn.argsort(kn.stack([a, a / 2, -a])), lambda: kn.arange(3))

    assert numbers(kn.vmap(order)(kn.array([0.5, 0.1]))) == [[2, 1, 0], [0, 1, 2]]
