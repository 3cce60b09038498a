"""Functions with gradients of their own, of knetc operations and over NumPy arrays, and host calls in programs."""

from __future__ import annotations

import gc
import threading
from typing import Any
from weakref import ref

import numpy as np
import pytest
from knetc.runtime import cache as disk
from knetc.runtime.base.config import config

import knetc as kn
from knetc.arrays import node_of
from knetc.compiler import pipeline
from knetc.ir.ambient import setting


def numbers(x: Any) -> Any:
    return np.asarray(x).tolist()


@kn.primitive(lambda dy, y, x: dy * kn.cos(x), host=True)
def host_sine(x: np.ndarray) -> np.ndarray:
    assert type(x) is np.ndarray
    return np.sin(x)


@kn.primitive(lambda dy, y, x, y2: dy * x / y, lambda dy, y, x, y2: dy * y2 / y)
def length(x: Any, y: Any) -> Any:
    return kn.sqrt(x * x + y * y)


# --- gradients -------------------------------------------------------------------------------------------------------


def test_the_gradient_given_is_used() -> None:
    @kn.primitive(lambda dy, y, x: dy * 100)
    def twice(x: Any) -> Any:
        return x * 2

    x = kn.Param([1.0, 2.0])
    tape = kn.diff(lambda: kn.sum(twice(x) * x))
    assert numbers(kn.value(tape)) == 10
    assert numbers(kn.grad(tape, x)) == [102, 204]
    assert numbers(twice(np.ones(2, np.float32))) == [2, 2]
    assert twice(3) == 6
    assert twice.__name__ == "twice"


def test_knets_hypot() -> None:
    x, y = kn.Param([3.0]), kn.Param([4.0])
    tape = kn.diff(lambda: kn.sum(length(x, y)))
    assert (kn.value(tape).item(), numbers(kn.grad(tape, x)), numbers(kn.grad(tape, y))) == (
        5, pytest.approx([0.6]), pytest.approx([0.8]),
    )  # fmt: skip


def test_broadcast_arguments_get_sums() -> None:
    x, b = kn.Param(np.full((2, 3), 3.0)), kn.Param(np.full(3, 4.0))
    tape = kn.diff(lambda: kn.sum(length(x, b)))
    assert numbers(kn.grad(tape, b)) == pytest.approx([1.6] * 3)
    assert kn.grad(tape, x).shape == (2, 3)
    assert numbers(kn.unbroadcast(b, kn.ones((2, 3)))) == [2, 2, 2]


def test_none_is_zero_and_a_missing_gradient_is_an_error() -> None:
    @kn.primitive(lambda dy, y, a, b, c: dy * b, None)
    def product(a: Any, b: Any, c: Any) -> Any:
        return a * b + c * 0

    a, b, c = (kn.Param([float(k)]) for k in (2, 3, 4))
    constant = kn.array([1.0])
    tape = kn.diff(lambda: kn.sum(product(a, b, constant)))
    assert numbers(kn.grad(tape, a)) == [3]
    assert kn.grad(tape, b) is None
    with pytest.raises(kn.DifferentiationError, match=r"product has no gradient for its argument 2.*None where"):
        kn.diff(lambda: kn.sum(product(a, b, c)))


def test_keywords_and_numbers_reach_the_gradient() -> None:
    @kn.primitive(lambda dy, y, x, n, *, scale=1.0: dy * n * scale)
    def scaled(x: Any, n: int, *, scale: float = 1.0) -> Any:
        return x * n * scale

    gradient = kn.grad(lambda x: kn.sum(scaled(x, 3, scale=2.0)))
    assert numbers(gradient(kn.array([1.0, 1.0]))) == [6, 6]


@pytest.mark.parametrize("function", [host_sine, kn.primitive(lambda dy, y, x: dy * kn.cos(x))(kn.sin)])
def test_higher_orders(function: Any) -> None:
    derivative, x = function, np.float64(0.7)
    for order in range(4):
        expected = [np.sin, np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)][order](x)
        assert float(derivative(kn.array(x))) == pytest.approx(expected)
        derivative = kn.grad(derivative)

    @kn.primitive(lambda dy, y, x: dy * host_sine(x))
    def opaque_gradient(x: Any) -> Any:
        return -kn.cos(x)

    assert float(kn.grad(kn.grad(opaque_gradient))(kn.array(x))) == pytest.approx(np.cos(x))


def test_results_in_a_tuple() -> None:
    @kn.primitive(lambda dy, y, x: dy[0] * y[1] - dy[1] * y[0])
    def both(x: Any) -> Any:
        return kn.sin(x), kn.cos(x)

    @kn.primitive(lambda dy, y, x: dy[0] * y[1] - dy[1] * y[0], host=True)
    def host_both(x: Any) -> Any:
        return np.sin(x), np.cos(x)

    for function in (both, host_both):

        def f(x: Any, function: Any = function) -> Any:
            s, c = function(x)
            return s * 2 + c * 3

        x = kn.array(np.float64(0.4))
        assert float(kn.grad(f)(x)) == pytest.approx(2 * np.cos(0.4) - 3 * np.sin(0.4))
        assert float(kn.grad(kn.grad(f))(x)) == pytest.approx(-2 * np.sin(0.4) - 3 * np.cos(0.4))


def test_nothing_of_a_call_is_kept() -> None:
    gc.collect()
    gc.disable()
    try:
        for function in (host_sine, kn.linalg.inv, lambda x: length(x, x), lambda x: kn.qr(x).Q):
            made = function(kn.array(np.eye(3)))
            kept = ref(node_of(made))
            float(kn.sum(made))
            del made
            assert kept() is None
    finally:
        gc.enable()


def test_a_gradient_of_another_shape_is_an_error() -> None:
    wrong = kn.primitive(lambda dy, y, x: kn.ones(5))(lambda x: x * 1)
    with pytest.raises(kn.DifferentiationError, match=r"argument 0 gave f32\[5\] where the argument is f32\[2\]"):
        kn.grad(lambda x: kn.sum(wrong(x)))(kn.ones(2))


def test_zerograd() -> None:
    @kn.zerograd
    def steps(x: Any) -> Any:
        return {"a": x * x, "b": 1}

    @kn.zerograd(host=True)
    def host_steps(x: Any, n: int) -> Any:
        return np.floor(x) * n

    x = kn.Param([1.5])
    tape = kn.diff(lambda: kn.sum(x * steps(x)["a"] * host_steps(x, 2)))
    assert numbers(kn.grad(tape, x)) == [4.5]
    assert kn.grad(kn.diff(lambda: kn.sum(host_steps(x, 2))), x) is None


# --- functions over NumPy arrays -------------------------------------------------------------------------------------


def test_in_a_compiled_step() -> None:
    w = kn.Param(np.array([0.3, 0.6]))

    @kn.compile
    def step(x: Any, rate: float) -> Any:
        tape = kn.diff(lambda: kn.sum(host_sine(w * x) ** 2))
        w[...] = w - rate * kn.grad(tape, w)
        return kn.value(tape)

    v = np.array([0.3, 0.6])
    for rate in (0.1, 0.2):
        assert float(step(kn.array(np.array([1.0, 2.0])), rate)) == pytest.approx(np.sum(np.sin(v * [1, 2]) ** 2))
        v = v - rate * 2 * np.sin(v * [1, 2]) * np.cos(v * [1, 2]) * [1, 2]
        np.testing.assert_allclose(np.asarray(w), v)


def test_calls_are_not_merged_and_run_when_needed() -> None:
    calls = []

    @kn.primitive(host=True, result=lambda x: x)
    def noted(x: np.ndarray) -> np.ndarray:
        calls.append(x)
        return x + len(calls)

    @kn.compile
    def f(x: Any) -> Any:
        noted(x)  # nothing needs it
        return noted(x), noted(x)

    found = sorted(float(y) for y in f(kn.array(0.0)))
    assert (found, len(calls)) == ([1, 2], 2)
    f(kn.array(0.0))
    assert len(calls) == 4
    assert [float(c) for c in calls] == [0] * 4  # copies: they may be kept
    lazy = noted(kn.array(0.0))
    assert len(calls) == 4
    assert float(lazy) == 5


def test_lazy_calls_share_a_program() -> None:
    def work(x: Any) -> float:
        return float(kn.sum(host_sine(x) * 3))

    work(kn.array(np.ones(7)))
    before = len(pipeline._executables)
    assert work(kn.array(np.zeros(7))) == 0
    assert len(pipeline._executables) == before


def test_a_function_is_called_on_zeros_once_for_each_type() -> None:
    seen = []

    @kn.primitive(host=True)
    def summed(x: np.ndarray, axis: int = 0, *, keepdims: bool = False) -> np.ndarray:
        seen.append(x.shape)
        return x.sum(axis, keepdims=keepdims)

    assert summed(kn.ones((2, 3))).shape == (3,)
    assert summed(kn.ones((2, 3)), 1).shape == (2,)
    assert summed(kn.ones((2, 3)), 1, keepdims=True).shape == (2, 1)
    assert summed(kn.ones((2, 3)), 1, keepdims=True).shape == (2, 1)
    assert len(seen) == 3
    assert numbers(summed(kn.ones((2, 3)), 1)) == [3, 3]
    with pytest.raises(TypeError, match="hashable"):
        summed(kn.ones((2, 3)), [1])
    with pytest.raises(ValueError, match="axis") as caught:
        summed(kn.ones((2, 3)), 5)
    assert "result=" in caught.value.__notes__[0]


def test_numbers_are_fixed() -> None:
    @kn.zerograd(host=True)
    def summed(x: np.ndarray, axis: int, scale: float = 1.0) -> np.ndarray:
        assert type(axis) is int and type(scale) is float
        return (x * scale).sum(axis)

    @kn.compile
    def f(x: Any, axis: int, scale: float) -> Any:
        return summed(x, axis, scale=scale)

    x = np.arange(6.0).reshape(2, 3)
    for axis, scale in ((0, 1.0), (1, 1.0), (1, 2.0)):
        assert numbers(f(x, axis, scale)) == numbers((x * scale).sum(axis))
    with pytest.raises(TypeError, match="by position"):
        summed(x, 0, scale=kn.ones(()))


def test_a_wrong_result_is_told() -> None:
    @kn.zerograd(host=True)
    def chosen(x: np.ndarray) -> np.ndarray:
        return x[: 1 + np.count_nonzero(x)]

    with pytest.raises(kn.HostCallError, match=r"returned float32\[2\], but .* float32\[1\].*\n.*test_primitives"):
        np.asarray(chosen(kn.array([0.0, 1.0])))
    with pytest.raises(kn.HostCallError, match="several dtypes"):
        kn.zerograd(host=True)(lambda x: (x, x > 0))(kn.ones(2))


def test_what_it_raises_comes_out_and_changes_nothing() -> None:
    w, v = kn.Param([1.0]), kn.Param([1.0])

    @kn.primitive(host=True, result=lambda x: x)
    def failing(x: np.ndarray) -> np.ndarray:
        if x.sum() > 2:
            raise KeyError("too much")
        return x

    @kn.compile
    def step(x: Any) -> None:
        w[...] = w + x
        v[...] = failing(w) * 10

    step(1.0)
    for _ in range(2):
        with pytest.raises(KeyError, match="too much") as caught:
            step(1.0)
        assert "test_primitives.py" in caught.value.__notes__[0]
        assert (numbers(w), numbers(v)) == ([2], [20])
    lazy = failing(kn.array([5.0]))
    for _ in range(2):
        with pytest.raises(KeyError):
            np.asarray(lazy)


def test_knetc_arrays_are_refused_inside() -> None:
    outside, pending = kn.ones(3), kn.ones(3) * 2

    @kn.compile
    def compiled(x: Any) -> Any:
        return x + 1

    compiled(outside)
    bodies: list[Any] = [
        lambda x: np.asarray(kn.sin(x)),
        lambda x: x + outside,
        lambda x: np.asarray(pending),
        lambda x: np.asarray(compiled(outside)),
        lambda x: np.asarray(kn.zeros(3)),
    ]
    for body in bodies:
        function = kn.zerograd(host=True, result=lambda x: x)(body)
        with pytest.raises(kn.HostCallError, match="NumPy arrays: it cannot use knetc"):
            np.asarray(function(np.ones(3, np.float32)))
    assert numbers(pending) == [2, 2, 2]


def test_several_threads() -> None:
    @kn.compile
    def f(x: Any) -> Any:
        return kn.sum(host_sine(x) + host_sine(x * 2))

    failures: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for n in range(50):
                x = np.full(1000, k + n / 100)
                assert float(f(x)) == pytest.approx(np.sum(np.sin(x) + np.sin(2 * x)))
                assert float(kn.sum(host_sine(kn.array(x)))) == pytest.approx(np.sum(np.sin(x)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_nan_checks_see_results() -> None:
    @kn.primitive(host=True, result=lambda x: x)
    def logarithm(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.log(x)

    @kn.compile
    def f(x: Any) -> Any:
        return logarithm(x) + 1

    with setting(nan_check=True), pytest.raises(kn.NanError, match="host"):
        f(kn.array([1.0, -1.0]))


def test_numbers_that_are_given_lie_in_memory() -> None:
    @kn.zerograd(host=True)
    def doubled(x: np.ndarray) -> np.ndarray:
        return np.asarray(x * 2)

    @kn.compile
    def f(rate: float, count: int) -> Any:
        return doubled(kn.asarray(rate)), doubled(kn.asarray(count))

    for rate, count in ((1.5, 3), (2.5, 4)):
        a, b = f(rate, count)
        assert (float(a), int(b)) == (2 * rate, 2 * count)
    assert float(doubled(kn.array(0.3) * 1.7)) == pytest.approx(1.02)


def test_programs_with_users_functions_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[Any] = []
    monkeypatch.setattr(config, "cache", True)
    monkeypatch.setattr(disk, "load_program", lambda key: None)
    monkeypatch.setattr(disk, "store_program", lambda key, program, objects: stored.append(program.hosts))
    np.asarray(host_sine(kn.ones(11)) * 3)
    assert not stored
    np.asarray(kn.det(kn.ones((11, 11))) * 3)
    assert [calls[0].function for calls in stored] == ["lapack.det"]


def test_bad_declarations() -> None:
    with pytest.raises(TypeError, match="one gradient function"):
        kn.primitive(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="host=True"):
        kn.primitive(result=lambda x: x)


def test_several_results_and_sorting_in_a_loop_to_second_order() -> None:
    @kn.primitive(
        lambda dy, y, a, b: dy[0] * b * kn.cos(a * b) + dy[1] * y[1],
        lambda dy, y, a, b: dy[0] * a * kn.cos(a * b) + dy[1] * 0.5 * y[1],
    )
    def own(a: Any, b: Any) -> Any:
        return kn.sin(a * b), kn.exp(a + 0.5 * b)

    def usual(a: Any, b: Any) -> Any:
        return kn.sin(a * b), kn.exp(a + 0.5 * b)

    def second(function: Any, reorder: Any) -> Any:
        def step(c: Any, v: Any) -> Any:
            p, q = function(reorder(c) * 0.3, v * 0.2)
            return kn.tanh(p + q * 0.1), p * q

        def loss(x: Any) -> Any:
            last, products = kn.scan(step, x, kn.stack([x, 2 * x]))
            return kn.sum(last**2) + kn.sum(products**2)

        return lambda x: kn.grad(lambda x: kn.sum(kn.grad(loss)(x) * np.array([1.0, -0.5])))(x)

    x = np.array([0.3, 0.7])  # in order, and stays so
    expected = np.asarray(second(usual, lambda c: c)(kn.array(x)))
    for function in (second(own, lambda c: c), second(usual, kn.sort)):
        np.testing.assert_allclose(np.asarray(function(kn.array(x))), expected)
        np.testing.assert_allclose(np.asarray(kn.compile(function)(x)), expected)
        np.testing.assert_allclose(np.asarray(kn.vmap(function)(np.stack([x, x / 2])))[0], expected)


def test_gradients_by_rule_under_vmap_in_a_loop_to_second_order() -> None:
    def second(function: Any) -> Any:
        def loss(x: Any) -> Any:
            def step(c: Any, v: Any) -> Any:
                shared = kn.vmap(lambda u: function(c) * 0.5)(x)
                own = kn.vmap(lambda u: function(c * u) * kn.arange(1, 3) * 0.1)(x)
                return kn.tanh(kn.sum(own + shared * v, 0)), None

            return kn.sum(kn.scan(step, x, x)[0] ** 2)

        return lambda x: kn.jvp(kn.grad(loss), (x,), (np.array([1.0, -0.5]),))[1]

    x = np.array([0.3, 0.7])  # in order, and stays so
    expected = np.asarray(second(lambda c: c)(kn.array(x)))
    np.testing.assert_allclose(np.asarray(second(kn.sort)(kn.array(x))), expected)
    np.testing.assert_allclose(np.asarray(kn.compile(second(kn.sort))(x)), expected)
    np.testing.assert_allclose(np.asarray(kn.vmap(second(kn.sort))(np.stack([x, x / 2])))[0], expected)
