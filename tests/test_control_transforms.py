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


def test_checks_of_loops_that_elements_end_for_themselves() -> None:
    table = kn.arange(5)

    def walk(x: Any) -> Any:
        return kn.while_loop(lambda c: c[1] < x, lambda c: (kn.take(table, c[0]), c[1] + 1), (0, 0))[0]

    with pytest.raises(kn.UnsupportedError, match="goes on for all until the last has ended"):
        kn.vmap(walk)(kn.array([1, 2]))

    def choose(x: Any) -> Any:
        return kn.cond(x > 1, lambda: kn.take(table, x), lambda: x * 0)

    with pytest.raises(kn.UnsupportedError, match="all branches are computed for all"):
        kn.vmap(choose)(kn.array([1, 2]))
    checked = kn.vmap(lambda x: kn.scan(lambda c, v: (c, kn.take(table, v)), 0, x)[1])
    assert numbers(checked(kn.array([[1, 2], [3, 4]]))) == [[1, 2], [3, 4]]
    with pytest.raises(kn.LabelError, match="index 7"):
        np.asarray(checked(kn.array([[1, 2], [3, 7]])))
