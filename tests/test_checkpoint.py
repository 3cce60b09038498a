"""Computing again instead of keeping: the same numbers in less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn
from knetc.compiler import pipeline

RANDOM = np.random.default_rng(1)
DEPTH, WIDTH, ROWS = 6, 32, 96


def numbers(x: Any) -> Any:
    return np.asarray(x).tolist()


def block(w: Any, x: Any) -> Any:
    return kn.tanh(kn.tanh(x @ w) @ w)


class Model:
    def __init__(self, *, saving: bool, block: Callable[..., Any] = block) -> None:
        random = np.random.default_rng(2)
        self.weights = [kn.Param(random.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5) for _ in range(DEPTH)]
        self.block = kn.checkpoint(block) if saving else block

    def __call__(self, x: Any) -> Any:
        for w in self.weights:
            x = self.block(w, x)
        return kn.sum(x * x)


def arena_bytes(function: Callable[..., Any], *args: Any) -> tuple[list[Any], int]:
    """What a compiled function returns, and the memory that its program plans for what it computes on the way."""
    before = set(pipeline._executables)
    results = [np.asarray(part) for part in kn.compile(function)(*args)]
    [new] = set(pipeline._executables) - before
    return results, pipeline._executables[new].program.arena_bytes


X = RANDOM.normal(size=(ROWS, WIDTH))


def gradients(model: Model) -> Callable[[Any], list[Any]]:
    def step(x: Any) -> list[Any]:
        tape = kn.diff(model, x)
        return [kn.value(tape), *(kn.grad(tape, w) for w in model.weights), kn.grad(tape, x)]

    return step


def test_the_numbers_are_equal_and_the_memory_is_less() -> None:
    plain, much = arena_bytes(gradients(Model(saving=False)), X)
    saving, little = arena_bytes(gradients(Model(saving=True)), X)
    for a, b in zip(plain, saving):  # sums of a kernel may be in another order
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    # of two values a block one is kept; the last block's values are there at the same time
    one = X.nbytes
    assert 2 * DEPTH * one <= much <= (2 * DEPTH + 5) * one  # gradients of weights are computed when they can be
    assert little <= (DEPTH + 4) * one


@pytest.mark.cpu
def test_memory_grows_with_the_square_root_of_the_depth() -> None:
    def deep(*, saving: bool) -> Callable[[Any], list[Any]]:
        weights = [kn.Param(RANDOM.normal(size=(WIDTH, WIDTH)) / WIDTH**0.5) for _ in range(16)]

        def four(x: Any, first: int) -> Any:
            for w in weights[first : first + 4]:
                x = kn.tanh(x @ w)
            return x

        def step(x: Any) -> list[Any]:
            def loss() -> Any:
                y = x
                for first in range(0, 16, 4):
                    y = (kn.checkpoint(four) if saving else four)(y, first)
                return kn.sum(y)

            tape = kn.diff(loss)
            return [kn.grad(tape, w) for w in weights]

        return step

    _, much = arena_bytes(deep(saving=False), X)
    _, little = arena_bytes(deep(saving=True), X)
    assert much >= 16 * X.nbytes
    assert little <= 11 * X.nbytes


def test_lazily_too() -> None:
    w, x = kn.array(X[:3, :3]), kn.array(X[:2, :3])
    plain = kn.grad(lambda x: kn.sum(block(w, x)))(x)
    saving = kn.grad(lambda x: kn.sum(kn.checkpoint(block)(w, x)))(x)
    np.testing.assert_allclose(np.asarray(saving), np.asarray(plain), rtol=1e-12)


def test_random_numbers_are_the_same() -> None:
    w = kn.Param(RANDOM.normal(size=(WIDTH, WIDTH)))

    def noisy(x: Any) -> Any:
        return kn.dropout(kn.tanh(x @ w), 0.5) * kn.rand(ROWS, WIDTH, dtype="float64")

    def step(f: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Any) -> Any:
            tape = kn.diff(lambda: kn.sum(f(f(x)) ** 2))
            return kn.value(tape), kn.grad(tape, w)

        return run

    for wrap in (lambda f: f, kn.compile):
        results = []
        for f in (noisy, kn.checkpoint(noisy)):
            kn.seed(5)
            results.append([np.asarray(part) for part in wrap(step(f))(kn.array(X))])
        for a, b in zip(*results):
            np.testing.assert_allclose(a, b, rtol=1e-10)
    assert np.any(results[0][1])


def test_several_results_are_computed_again_together() -> None:
    calls = []

    @kn.primitive(lambda dy, y, x: dy * np.cos(1.0) + x * 0 + dy * y, host=True, result=lambda x: x)
    def noted(x: np.ndarray) -> np.ndarray:
        calls.append(1)
        return x * 2

    def both(x: Any) -> Any:
        y = noted(x)
        return {"a": kn.sin(y), "b": (kn.cos(y), kn.argmax(y)), "n": 3}

    def loss(x: Any, f: Callable[..., Any]) -> Any:
        found = f(x)
        assert found["n"] == 3 and found["b"][1].shape == ()
        return kn.sum(found["a"] * found["b"][0]) + kn.sum(kn.exp(found["b"][0]))

    x = kn.array(X[0])
    expected = numbers(kn.grad(lambda x: loss(x, both))(x))
    assert len(calls) == 1
    assert numbers(kn.grad(lambda x: loss(x, kn.checkpoint(both)))(x)) == expected
    assert len(calls) == 3
    part = kn.grad(lambda x: kn.sum(kn.checkpoint(both)(x)["a"]))
    assert numbers(part(x)) == numbers(kn.grad(lambda x: kn.sum(both(x)["a"]))(x))


def transforms() -> dict[str, Callable[..., Any]]:
    w = kn.Param(RANDOM.normal(size=(3, 3)))

    def inner(x: Any) -> Any:
        return kn.tanh(w @ x) * kn.prod(x)

    def nested(x: Any, f: Callable[..., Any] = inner) -> Any:
        return kn.checkpoint(lambda y: kn.checkpoint(f)(kn.sin(y)) * y)(x) + x

    def plain(x: Any, f: Callable[..., Any] = inner) -> Any:
        return f(kn.sin(x)) * x + x

    def gradient(f: Callable[..., Any]) -> Callable[..., Any]:
        return kn.grad(lambda x: kn.sum(f(x)))

    def of_param(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x: kn.grad(kn.diff(lambda: kn.sum(f(x))), w)

    ways: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
        "value": lambda f: f,
        "gradient": gradient,
        "of a Param": of_param,
        "second": lambda f: gradient(gradient(f)),
        "hessian": lambda f: kn.hessian(lambda x: kn.sum(f(x))),
        "jacobian": kn.jacobian,
        "jvp": lambda f: lambda x: kn.jvp(f, (x,), (x * 2,))[1],
        "jvp of a gradient": lambda f: lambda x: kn.jvp(gradient(f), (x,), (x * 2,))[1],
        "vmap": lambda f: lambda x: kn.vmap(f)(kn.stack([x, x * 2])),
        "vmap of a gradient": lambda f: lambda x: kn.vmap(gradient(f))(kn.stack([x, x * 2])),
        "gradient of vmap": lambda f: gradient(lambda x: kn.vmap(f)(kn.stack([x, x * 2]))),
        "vmap of a Param's": lambda f: lambda x: kn.vmap(of_param(f))(kn.stack([x, x * 2])),
        "gradient inside": lambda f: gradient(kn.checkpoint(gradient(f))),
    }
    return {name: lambda x, way=way: (way(nested)(x), way(plain)(x)) for name, way in ways.items()}


@pytest.mark.parametrize("name", transforms())
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_with_other_transformations(name: str, how: str) -> None:
    function = transforms()[name]
    both = kn.compile(function) if how == "compiled" else function
    found, expected = both(kn.array(X[0, :3]))
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-10)


def test_training_steps_and_checks() -> None:
    table = kn.Param(RANDOM.normal(size=(10, 4)))
    f = kn.checkpoint(lambda i: kn.tanh(kn.embedding(table, i)))

    @kn.compile
    def step(i: Any) -> Any:
        tape = kn.diff(lambda: kn.sum(f(i) ** 2))
        table[...] = table - 0.1 * kn.grad(tape, table)
        return kn.value(tape)

    before = np.array(table)
    loss = float(step(np.array([1, 2, 2])))
    rows = np.tanh(before[[1, 2, 2]])
    assert loss == pytest.approx((rows**2).sum())
    expected = before.copy()
    np.subtract.at(expected, [1, 2, 2], 0.2 * rows * (1 - rows**2))
    np.testing.assert_allclose(np.asarray(table), expected)
    with pytest.raises(kn.LabelError, match="index 10"):
        step(np.array([1, 2, 10]))
    np.testing.assert_allclose(np.asarray(table), expected)


def test_without_a_gradient_nothing_is_marked() -> None:
    f = kn.checkpoint(lambda x: kn.sin(x))
    assert f.__name__ == "<lambda>"
    assert numbers(f(kn.array([0.0]))) == [0]
    assert kn.checkpoint(lambda x: x)(3) == 3
    assert numbers(kn.grad(lambda x: kn.checkpoint(lambda y: y)(x) * 2)(1.0)) == 2
    assert numbers(kn.grad(lambda x: kn.checkpoint(lambda: kn.array(2.0) * 1)() * x)(1.0)) == 2


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_what_is_done_again_is_in_no_kernel_with_what_it_waits_for(how: str) -> None:
    i, j = np.array([1, 2]), np.array([1, 3])

    def gradient(x: Any) -> Any:
        return kn.grad(lambda v: kn.sin(kn.checkpoint(lambda u: kn.sum(u[i] * u[j]))(v)))(x)

    x = X[:5, :1]
    both = kn.compile(gradient) if how == "compiled" else gradient
    expected = np.zeros((5, 1))
    np.add.at(expected, i, x[j])
    np.add.at(expected, j, x[i])
    np.testing.assert_allclose(np.asarray(both(kn.array(x))), expected * np.cos(np.sum(x[i] * x[j])))


def test_kernels_joined_of_distant_values_do_not_wait_for_each_other() -> None:
    def body(u: Any, v: Any) -> Any:
        i = kn.floor(kn.abs(u) * 3.7).astype("int64") % 3
        s = kn.switch(i, [lambda p, q: (p - 0.5) * (q + 0.5), lambda p, q: p * q, lambda p, q: p + q], u, kn.sum(v))
        return kn.hypot(s, 1 + kn.sqrt(s * s + 0.2) ** 2)

    def gradients(function: Any) -> Any:
        def loss(x: Any, y: Any) -> Any:
            m = kn.minimum(y, y * 1.1 - 0.003)
            return kn.sin(function(x, m)) + kn.sum(m)

        return kn.compile(lambda x, y: (kn.grad(loss, 0)(x, y), kn.grad(loss, 1)(x, y)))

    x, y = np.array(0.3), np.array([0.7])
    for found, expected in zip(gradients(kn.checkpoint(body))(x, y), gradients(body)(x, y)):
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected))
