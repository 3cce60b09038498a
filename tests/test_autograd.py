"""Differentiation as AutoGrad's, entry by entry: tapes, containers, indices, Python's control flow, derivatives."""

from __future__ import annotations

import dataclasses
import math
import types
import zlib
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from optable import check_gradient

import knetc as kn
from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Node
from knetc.ir.types import TensorType


def numbers(x: Any) -> Any:
    return np.asarray(x).tolist()


def f64(*values: float) -> kn.Array:
    return kn.array(np.array(values))


# --- Params and tapes ------------------------------------------------------------------------------------------------


def test_param_is_the_value_outside_of_a_tape() -> None:
    x = kn.Param(np.array([1, 2, 3]))
    assert numbers(kn.sum(x * x)) == 14 and repr(x) == "P([1, 2, 3])"
    assert repr(kn.Param([1, 2, 3])) == "P([1., 2., 3.])" and str(kn.Param(2.5)) == "P(2.5)"
    assert not hasattr(kn.sum(x * x), "opt") and x.opt is None
    with pytest.raises(TypeError, match="cannot wrap another Param"):
        kn.Param(x)
    y = kn.Param([1.0, 2.0, 3.0])
    y[1] = 5
    y -= kn.array([0.5, 0, 0])
    assert numbers(y) == [0.5, 5, 3]

    def assigns(change: Callable[[], Any]) -> None:
        with pytest.raises(kn.DifferentiationError, match="overwriting during gradient calculation not supported"):
            kn.diff(lambda: change() or kn.sum(y))
        assert numbers(y) == [0.5, 5, 3]

    assigns(lambda: y.__setitem__(0, 1))
    assigns(lambda: y.__isub__(1))
    assigns(lambda: setattr(y, "value", kn.zeros(3)))
    assert numbers(y + 1) == [1.5, 6, 4]  # the tape has ended all the same


def filled(x: Any) -> Any:
    y = kn.zeros(4, dtype="float64")
    y[0] = x[0] * x[1]
    y[1:3] = kn.sin(x[:2])
    y[1] *= x[2]
    z = y
    y += 1
    z[3] = 5.0  # of another array by now
    return kn.sum(y**3) + z[1]


def gathered(x: Any) -> Any:
    y = kn.array(x)
    y[y > 1.5] = x[0]
    y[[0, 0]] = x[1:]  # the last one counts
    y[kn.argmax(x)] += x[1]
    return kn.sum(y**2 * x)


def looked_at(x: Any) -> Any:
    y = kn.zeros_like(x)
    y[0] = x[0] * 2
    if float(y[0]) > 0:
        y[1] = x[1] * y[0]
    return kn.sum(y * y)


def carried(x: Any) -> Any:
    def body(i: Any, y: Any) -> Any:
        y[i] = x[i] * y[i - 1]
        return y

    return kn.sum(kn.fori_loop(1, 3, body, kn.array(x)) * x)


@pytest.mark.parametrize("function", [filled, gathered, looked_at, carried])
def test_assignments_to_what_is_made_inside(function: Callable[[Any], Any]) -> None:
    x, h = kn.array(np.array([1.0, 2.0, 3.0])), 1e-5
    slope = [(float(function(x + h * e)) - float(function(x - h * e))) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(kn.grad(function)(x), slope, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(kn.jvp(function, (x,), (np.ones(3),))[1], sum(slope), rtol=1e-8)
    np.testing.assert_allclose(kn.hessian(function)(x), np.asarray(kn.hessian(function)(x)).T, rtol=1e-10)
    if function is not looked_at:
        np.testing.assert_allclose(kn.compile(kn.grad(function))(x), slope, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(kn.vmap(kn.grad(function))(kn.stack([x, x]))[1], slope, rtol=1e-8, atol=1e-8)
    assert numbers(x) == [1, 2, 3]


def test_assignments_to_what_is_from_outside() -> None:
    x, outside = kn.array([1.0, 2.0]), kn.array([3.0, 4.0])

    def argument(x: Any) -> Any:
        x[0] = 5.0
        return kn.sum(x * x)

    def closure(x: Any) -> Any:
        outside[0] = x[0]
        return kn.sum(outside * x)

    def within(x: Any) -> Any:  # y is from outside of the inner function
        y = x * 2
        return kn.sum(kn.grad(lambda z: y.__setitem__(0, z[0]) or kn.sum(y * z))(x))

    for function in (argument, closure, within):
        for how in (kn.grad(function), lambda x, f=function: kn.jvp(f, (x,), (x,)), kn.compile(kn.grad(function))):
            with pytest.raises(kn.DifferentiationError, match="made in the function"):
                how(x)
    assert numbers(x) == [1, 2] and numbers(outside) == [3, 4]


def test_value() -> None:
    x = kn.Param([1.0, 2.0])
    assert numbers(kn.value(x)) == [1, 2] and type(kn.value(x)) is kn.Array
    assert numbers(kn.value(kn.diff(lambda: kn.sum(x)))) == 3
    plain, container = kn.ones(2), [x]
    assert kn.value(plain) is plain and kn.value(3) == 3 and kn.value("a") == "a" and kn.value(None) is None
    assert kn.value(container) is container and container[0] is x  # not looked into


def test_tapes() -> None:
    x = kn.Param([1.0, 2.0, 3.0])
    tape = kn.diff(lambda: kn.sum(x * x))
    assert (repr(tape), numbers(kn.value(tape)), numbers(kn.grad(tape, x))) == ("T(14)", 14, [2, 4, 6])
    assert kn.params(tape) == [x]
    assert repr(kn.diff(lambda: kn.sum(x) / 4)) == "T(1.5)" and repr(kn.diff(lambda: 2.0)) == "T(2)"
    assert kn.grad(tape, kn.Param([1.0, 2.0, 3.0])) is None  # equal, but another
    with pytest.raises(kn.DifferentiationError, match="Only scalar valued functions supported"):
        kn.diff(lambda: x * x)
    with pytest.raises(kn.DifferentiationError, match="Only scalar valued functions supported"):
        kn.diff(lambda: (kn.sum(x), kn.sum(x)))


def test_nothing_depends_on_what_is_not_used() -> None:
    x, y, z = kn.Param([1.0]), kn.Param([2.0]), kn.Param([3.0])
    for function in (lambda: 3.0, lambda: kn.sum(kn.ones(3)), lambda: np.float64(2), lambda: 7, lambda: kn.array(1.5)):
        tape = kn.diff(function)
        assert kn.params(tape) == [] and kn.grad(tape, x) is None
    tape = kn.diff(lambda: (kn.sum(y * 2), kn.sum(x * z))[1])
    assert kn.params(tape) == [y, x, z] and kn.grad(tape, y) is None
    assert numbers(kn.grad(tape, x)) == [3]
    assert kn.params({"model": [x, y]}) == [x, y]


@pytest.mark.parametrize(
    "constant",
    [
        kn.floor, kn.ceil, kn.sign, kn.rint, kn.round, kn.trunc, kn.argmax, kn.argmin, kn.isnan, kn.isfinite,
        kn.signbit, kn.ones_like, kn.zeros_like, kn.any, kn.all, kn.count_nonzero, kn.stop_gradient, lambda v: v > 0,
        lambda v: v == v, lambda v: v // 2, lambda v: v.astype("int32"), lambda v: v.shape[0], lambda v: len(v),
    ],
)  # fmt: skip
def test_constants(constant: Callable[..., Any]) -> None:
    x = kn.Param([1.5])
    assert kn.grad(kn.diff(lambda: kn.sum(constant(x) * 2.0)), x) is None
    assert numbers(kn.grad(kn.diff(lambda: kn.sum(constant(x) * 2.0) + kn.sum(x)), x)) == [1]


def test_a_param_alone_and_losses_that_are_not_the_last_value() -> None:
    x = kn.Param(np.array(3.0))
    assert numbers(kn.grad(kn.diff(lambda: x), x)) == 1
    kept = []

    def f() -> Any:
        loss = x * x
        kept.append(kn.exp(loss))
        return loss

    tape = kn.diff(f)
    assert numbers(kn.grad(tape, x)) == 6 and kn.grad(tape, kept[0]) is None
    assert float(kept[0]) == pytest.approx(math.exp(9))


def test_gradients_of_what_was_made_inside_and_of_arguments() -> None:
    x, seen = kn.Param([1.0, 2.0]), {}

    def f(a: Any, b: Any = None) -> Any:
        seen["y"] = y = x * a
        seen["z"] = kn.exp(y) * b["k"]
        return kn.sum(seen["z"])

    a, b = f64(0.5, 1.5), {"k": f64(1.0, 2.0), "n": 3}
    tape = kn.diff(f, a, b=b)
    e = np.exp([0.5, 3.0])
    np.testing.assert_allclose(kn.grad(tape, seen["z"]), [1, 1])
    np.testing.assert_allclose(kn.grad(tape, seen["y"]), e * [1, 2])
    np.testing.assert_allclose(kn.grad(tape, a), e * [1, 2] * [1, 2])
    np.testing.assert_allclose(kn.grad(tape, b)["k"], e)
    assert kn.grad(tape, b)["n"] is None
    np.testing.assert_allclose(kn.grad(tape, (x, [a]))[1][0], e * [1, 2] * [1, 2])


def test_tapes_in_tapes() -> None:
    x = kn.Param(np.array(1.0))

    def first() -> Any:
        return kn.grad(kn.diff(lambda: kn.tanh(x)), x)

    tape = kn.diff(first)
    assert float(kn.value(tape)) == pytest.approx(0.41997434161402614)
    assert float(kn.grad(tape, x)) == pytest.approx(-0.6397000084492246)
    third = kn.diff(lambda: kn.grad(kn.diff(first), x))
    assert float(kn.grad(third, x)) == pytest.approx(float(kn.grad(kn.grad(kn.grad(kn.tanh)))(np.float64(1))))


def test_an_exception_ends_the_tape() -> None:
    x = kn.Param([1.0])
    with pytest.raises(ZeroDivisionError):
        kn.diff(lambda: kn.sum(x) * (1 / 0))
    assert not kn.training()
    x[0] = 4
    assert numbers(kn.grad(kn.diff(lambda: kn.sum(x * x)), x)) == [8]


# --- params ----------------------------------------------------------------------------------------------------------


class Slotted:
    __slots__ = ("later", "w")

    def __init__(self, w: Any) -> None:
        self.w = w


@dataclasses.dataclass
class Layer:
    w: Any
    b: Any
    f: Any = kn.tanh

    def __call__(self, x: Any) -> Any:
        return self.f(self.w @ x + self.b)


def test_params_looks_everywhere_once_and_in_order() -> None:
    p = [kn.Param([float(k)]) for k in range(12)]
    layer = Layer(p[0], {"b": p[1]})
    closure = (lambda a, b=p[3]: lambda x, *, c=p[4]: a * b * c * x)(p[2])
    boxed = np.empty(2, object)
    boxed[0] = p[9]
    model = [
        layer, closure, {p[5]: "key", "x": (p[6],)}, Slotted(p[7]), types.SimpleNamespace(a=p[8], b=layer),
        boxed, OrderedDict(a=p[10]), frozenset([p[11]]), "text", 3, None, np.ones(3), kn.tanh,
        p[0],
    ]  # fmt: skip
    found = kn.params(model)
    assert len(found) == len({id(q) for q in found})
    wanted = [q for q in p if q is not p[3] and q is not p[2]]
    assert [q for q in found if q is not p[3] and q is not p[2]] == wanted
    loop: list[Any] = [p[0]]
    loop.append(loop)
    assert kn.params(loop) == [p[0]]
    deep: Any = p[0]
    for _ in range(5000):
        deep = [deep]
    assert kn.params(deep) == [p[0]]
    assert kn.params(p[1]) == [p[1]] and kn.params(np) == [] and kn.params(Layer) == []


# --- functions -------------------------------------------------------------------------------------------------------


def test_grad_and_gradloss_of_functions() -> None:
    square = lambda x: kn.sum(x * x)  # noqa: E731
    assert numbers(kn.grad(square)(kn.array([1.0, 2.0, 3.0]))) == [2, 4, 6]
    g, loss = kn.gradloss(square)([1.0, 2.0, 3.0] and np.array([1.0, 2.0, 3.0]))
    assert (numbers(g), numbers(loss)) == ([2, 4, 6], 14)
    assert float(kn.grad(lambda x: kn.sum(kn.sin(kn.sqrt(x))))(np.float64(1))) == pytest.approx(0.27015115293406987)
    assert float(kn.grad(kn.sin)(1)) == pytest.approx(math.cos(1))
    assert float(kn.grad(lambda a, b: a * b * b, 1)(2.0, 3.0)) == 12
    assert float(kn.grad(lambda a, b: a * b * b, -1)(2.0, 3.0)) == 12
    assert float(kn.grad(lambda a, *, k: a * k)(2.0, k=5.0)) == 5
    assert kn.grad(lambda a, b: a * 2)(2.0, 3.0) is not None and kn.grad(lambda a, b: a * 2, 1)(2.0, 3.0) is None
    assert numbers(kn.grad(lambda x: x.shape[0] * kn.sum(kn.abs2(x)))(np.ones(3))) == [6, 6, 6]
    with pytest.raises(TypeError, match="argument 2 was asked for"):
        kn.grad(square, 2)(1.0)
    with pytest.raises(TypeError, match="takes a tape"):
        kn.grad(3)  # type: ignore[call-overload]


def test_nine_orders() -> None:
    cycle = [np.sin, np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)]
    f: Callable[..., Any] = kn.sin
    for order in range(10):
        assert float(f(np.float64(0.7))) == pytest.approx(cycle[order % 4](0.7))
        f = kn.grad(f)
    g: Callable[..., Any] = lambda x: kn.exp(x**2)  # noqa: E731
    for expected in (2.718281828459045, 5.43656365691809, 16.30969097075427):
        assert float(g(np.float64(1))) == pytest.approx(expected)
        g = kn.grad(g)
    power: Callable[..., Any] = lambda x: x**9  # noqa: E731
    for order in range(10):
        assert float(power(np.float64(1))) == pytest.approx(math.factorial(9) / math.factorial(9 - order))
        power = kn.grad(power)
    assert power(np.float64(1)) is None or float(power(np.float64(1))) == 0


def test_no_perturbation_confusion() -> None:
    assert float(kn.grad(lambda x: x * kn.grad(lambda y: x + y)(x))(5.0)) == 1
    assert float(kn.grad(lambda x: x * kn.grad(lambda y: x * y)(x))(3.0)) == 6


# --- containers ------------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")


def test_gradients_mirror_containers() -> None:
    x, y = f64(1.0, 2.0), f64(3.0)
    g = kn.grad(lambda c: kn.sum(c[0]) * c[1][0][0])((x, [y, y], 7))
    assert (numbers(g[0]), numbers(g[1][0]), g[1][1], g[2]) == ([3, 3], [3], None, None) and type(g[1]) is list
    g = kn.grad(lambda d: kn.sum(d["a"] * 2))({"a": x, "b": y, "s": "text", "n": None})
    assert (numbers(g["a"]), g["b"], g["s"], g["n"]) == ([2, 2], None, None, None)
    g = kn.grad(lambda p: kn.sum(p.a) * kn.sum(p.b))(Pair(x, y))
    assert type(g) is Pair and (numbers(g.a), numbers(g.b)) == ([3, 3], [3])
    g = kn.grad(lambda layer: kn.sum(layer(x)))(Layer(kn.array(np.eye(2)), y))
    assert type(g) is Layer and g.f is None
    np.testing.assert_allclose(g.b, [np.sum(1 - np.tanh([4.0, 5.0]) ** 2)])
    d = kn.grad(lambda d: sum(kn.sum(v) for v in d.values()))(OrderedDict(a=x, b=y))
    assert [numbers(v) for v in d.values()] == [[1, 1], [1]]
    d = kn.grad(lambda d: kn.sum(d["a"]))(defaultdict(list, a=x))
    assert numbers(d["a"]) == [1, 1]
    assert numbers(kn.grad(lambda v: v[0].T @ v[1])([x, x * 3])[1]) == [1, 2]
    one = kn.grad(lambda c: kn.sum(c[0] * c[1]))((x, x))  # one array twice: each place has its own gradient
    assert numbers(one[0]) == numbers(one[1]) == [1, 2]


def test_containers_that_are_made_inside() -> None:
    def f(x: Any) -> Any:
        parts = {"a": x[0], "b": [x[1], (x[2] * 2, x)]}
        parts["c"] = parts["a"] * parts["b"][0]
        total = kn.sum(parts["b"][1][1])
        for key, value in parts.items():
            if key != "b":
                total = total + value
        return total + parts["b"][1][0]

    assert numbers(kn.grad(f)(f64(3.0, 4.0, 5.0))) == [1 + 1 + 4, 1 + 3, 1 + 2]


class Net:
    """A model that is no dataclass, with a way back to itself."""

    def __init__(self, *sizes: int) -> None:
        self.layers = [Layer(kn.Param(np.ones((m, n))), kn.Param(np.zeros(m))) for n, m in pairwise(sizes)]
        self.name, self.parent = "net", self
        self.unused = kn.Param([1.0])

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


def test_gradients_mirror_objects_that_hold_params() -> None:
    net = Net(2, 3, 1)
    tape = kn.diff(lambda: kn.sum(net(f64(0.1, 0.2))))
    g = kn.grad(tape, net)
    assert type(g) is Net and g.parent is g and g.unused is None and g.name is None
    assert g.layers[0].w.shape == (3, 2) and net.layers[0].w.opt is None
    assert numbers(g.layers[1].w) == numbers(kn.grad(tape, net.layers[1].w))
    again = kn.grad(lambda net: kn.sum(net(f64(0.1, 0.2))))(net)
    assert numbers(again.layers[1].w) == numbers(g.layers[1].w)
    assert kn.grad(tape, lambda: net) is None and kn.grad(tape, "text") is None
    slotted = Slotted(kn.Param(2.0))
    assert float(kn.grad(kn.diff(lambda: slotted.w**2), slotted).w) == 4


class Rows(list):  # type: ignore[type-arg]
    """A list of the user's own, as model libraries have them."""

    scale = 2

    def total(self) -> Any:
        return self.scale * sum(kn.sum(row * row) for row in self)


def test_containers_of_other_classes() -> None:
    """Functions are given the class that the caller has; gradients are of it too."""
    x = kn.array([1.0, 2.0])
    rows = Rows([x, x + 1])
    found = kn.grad(lambda rows: rows.total())(rows)
    assert type(found) is Rows and numbers(found[1]) == [8, 12]
    ordered = kn.grad(lambda d: kn.sum(d["a"]) * 3)(OrderedDict(b=x, a=x))
    assert type(ordered) is OrderedDict and list(ordered) == ["b", "a"] and numbers(ordered["a"]) == [3, 3]
    several = kn.grad(lambda d: kn.sum(d["a"][0]))(defaultdict(list, a=[x]))
    assert isinstance(several, defaultdict) and several["b"] == [] and numbers(several["a"][0]) == [1, 1]
    w = kn.Param([1.0])
    assert kn.params(deque([w])) == [w] and kn.params(MappingProxyType({"w": w})) == [w]

    class Unchangeable:
        def __init__(self) -> None:
            object.__setattr__(self, "w", kn.Param([1.0, 2.0]))

        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(name)

    model: Any = Unchangeable()
    assert numbers(kn.grad(kn.diff(lambda: kn.sum(model.w**3)), model).w) == [3, 12]


def test_several_arguments() -> None:
    def f(x: Any, y: Any, z: Any) -> Any:
        return kn.sum(x * y["a"]) + z

    x, y = kn.array([1.0, 2.0]), {"a": kn.array([3.0, 4.0])}
    (by_x, by_y), value = kn.gradloss(f, (0, 1))(x, y, 1.0)
    assert numbers(by_x) == [3, 4] and numbers(by_y["a"]) == [1, 2] and float(value) == 12
    assert numbers(kn.grad(f, (2, -3))(x, y, 1.0)[0]) == 1
    with pytest.raises(TypeError, match="argument 3"):
        kn.grad(f, (0, 3))(x, y, 1.0)


def test_models_that_hold_params() -> None:
    layers = [Layer(kn.Param(np.eye(2) * k), kn.Param(np.ones(2))) for k in (1, 2)]

    def predict(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    tape = kn.diff(lambda: kn.sum(predict(f64(0.1, 0.2))))
    assert kn.params(tape) == kn.params(layers) == [layers[0].w, layers[0].b, layers[1].w, layers[1].b]
    hidden = np.tanh([1.1, 1.2])
    outer = 1 - np.tanh(2 * hidden + 1) ** 2
    np.testing.assert_allclose(kn.grad(tape, layers[1].w), np.outer(outer, hidden))
    np.testing.assert_allclose(kn.grad(tape, layers)[1].b, outer)
    np.testing.assert_allclose(kn.grad(lambda model: kn.sum(model[1](model[0](f64(0.1, 0.2)))))(layers)[1].b, outer)


# --- indexing, iteration, control flow -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (1, [0, 1, 0, 0]),
        (-1, [0, 0, 0, 1]),
        (slice(1, 3), [0, 1, 1, 0]),
        (slice(None, None, -2), [0, 1, 0, 1]),
        ([1, 1, 0], [1, 2, 0, 0]),
        (np.array([[0, 0], [0, 3]]), [3, 0, 0, 1]),
        ([True, False, True, False], [1, 0, 1, 0]),
        ([], [0, 0, 0, 0]),
        (slice(2, 2), [0, 0, 0, 0]),
        (None, [1, 1, 1, 1]),
        (..., [1, 1, 1, 1]),
    ],
)
def test_repeated_indices_add_up(key: Any, expected: list[float]) -> None:
    x = kn.Param(np.arange(4.0))
    key = np.array(key, int) if isinstance(key, list) and not key else key
    tape = kn.diff(lambda: kn.sum(x[key]))
    gradient = kn.grad(tape, x)
    assert type(gradient) is kn.Array and gradient.shape == (4,)  # dense
    assert numbers(gradient) == expected
    second = kn.hessian(lambda v: kn.sum(v[key] ** 3))(kn.array(np.arange(4.0)))
    np.testing.assert_allclose(second, np.diag(6 * np.arange(4) * expected))


def test_iteration_and_stacking() -> None:
    x = f64(1.0, 2.0, 3.0)
    assert numbers(kn.grad(lambda x: sum(v * v for v in x))(x)) == [2, 4, 6]
    assert numbers(kn.grad(lambda x: kn.sum(kn.stack([x[i] * i for i in range(3)]) * x))(x)) == [0, 4, 12]
    assert numbers(kn.grad(lambda x: kn.sum(kn.array([x[i] * i for i in range(3)]) * x))(x)) == [0, 4, 12]
    assert numbers(kn.grad(lambda x: kn.sum(np.stack([x[2], x[0]])))(x)) == [1, 0, 1]
    assert numbers(kn.grad(lambda x: kn.sum(kn.concat([kn.reshape(v, 1) * k for k, v in enumerate(x)])))(x)) == [
        0,
        1,
        2,
    ]
    a, b, c = x
    assert (float(a), float(b), float(c)) == (1, 2, 3)

    def unpacked(x: Any) -> Any:
        a, b, *rest = x
        return a * b * rest[0]

    assert numbers(kn.grad(unpacked)(x)) == [6, 3, 2]
    rows = kn.grad(lambda m: sum(kn.prod(row) for row in m))(kn.array(np.array([[1.0, 2.0], [3.0, 4.0]])))
    assert numbers(rows) == [[2, 1], [4, 3]]
    assert numbers(kn.grad(lambda x: sum(a * b for a, b in zip(x, reversed(list(x)))))(x)) == [6, 4, 2]
    assert numbers(kn.grad(lambda x: x[x.argmax()])(x)) == [0, 0, 1]
    assert numbers(kn.grad(lambda x: kn.sum(x[x > 1.5]))(x)) == [0, 1, 1]


def test_lists_of_traced_numbers_are_arrays() -> None:
    """Also nested ones, beside Python's numbers, and where a function is given the list itself."""
    x = kn.array(np.array([2.0, 3.0]))
    for f, expected in (
        (lambda x: kn.sum(kn.array([[x[0], 0.1], [x[1], x[0]]]) ** 2), [8, 6]),
        (lambda x: kn.sum([[x[0], 2 * x[1]]]), [1, 2]),
        (lambda x: kn.sum(x * [x[1], 5]), [3, 7]),
        (lambda x: np.sum(np.asarray([1.0, 2.0]) * kn.asarray((x[1], x[0] * x[1]))), [6, 5]),
        (lambda x: kn.sum(kn.array([[x, x * 2], [x, x]]) * x), [20, 30]),
    ):
        assert numbers(kn.grad(f)(x)) == expected
        assert numbers(kn.compile(kn.grad(f))(x)) == expected
    assert kn.array([[x[0], 0.1]]).dtype == np.float64 and float(kn.array([[x[0], 0.1]])[0, 1]) == 0.1
    w = kn.Param([1.0, 2.0])
    assert numbers(kn.grad(kn.diff(lambda: kn.sum(kn.array([[w, w * 2]]))), w)) == [3, 3]


def test_control_flow_of_python() -> None:
    def f(x: Any) -> Any:
        y = x
        while float(kn.sum(y)) < 20:  # looks at numbers
            y = y * 2
        if y.max() > 10:
            y = y + x**2
        for k in range(int(y.shape[0])):
            if k % 2:
                continue
            y = y * (1 if y[k] < 0 else 2)
        return kn.sum(y)

    x = f64(1.0, 2.0, 3.0)  # doubled twice: sum 24, max 12
    np.testing.assert_allclose(kn.grad(f)(x), 4 * (4 + 2 * np.array([1.0, 2, 3])))

    def factorial(x: Any, n: int) -> Any:
        return x if n == 0 else x * n * factorial(x, n - 1)

    assert float(kn.grad(lambda x: factorial(x, 3))(2.0)) == 4 * 6 * 2**3

    def tries(x: Any) -> Any:
        try:
            return x[7]
        except IndexError:
            return x[0] * 3

    assert numbers(kn.grad(tries)(x)) == [3, 0, 0]


def test_numpy_functions() -> None:
    x = f64(0.5, 1.5)
    ours = kn.grad(lambda x: kn.sum(kn.tanh(x) * kn.exp(x)))(x)
    np.testing.assert_allclose(kn.grad(lambda x: np.sum(np.tanh(x) * np.exp(x)))(x), ours)
    assert numbers(kn.grad(lambda x: np.dot(x, np.array([2.0, 3.0])))(x)) == [2, 3]
    assert numbers(kn.grad(lambda x: np.linalg.norm(np.concatenate([x, x])))(f64(3.0, 4.0))) == pytest.approx(
        [2 * 3 / math.sqrt(50), 2 * 4 / math.sqrt(50)]
    )


# --- gcheck, primitive, zerograd, unbroadcast, cat1d -----------------------------------------------------------------


def test_gcheck(capsys: pytest.CaptureFixture[str]) -> None:
    w, b = kn.Param(np.array([[0.1, 0.2], [0.3, 0.4]])), kn.Param(np.array([0.5, 0.6]))
    assert kn.gcheck(lambda x: kn.tanh(w @ x + b), np.array([1.0, 2.0]), atol=1e-7, rtol=1e-7)
    assert kn.gcheck(lambda x, *, k: kn.sum(x * k), f64(1.0, 2.0), kw={"k": 3.0})
    wrong = kn.primitive(lambda dy, y, x: dy * 2)(lambda x: x * 3)
    assert not kn.gcheck(lambda: kn.sum(wrong(w)))
    assert "FAILED" in capsys.readouterr().out
    assert not kn.gcheck(lambda: kn.sum(wrong(w)), verbose=0)
    assert capsys.readouterr().out == ""
    assert kn.gcheck(lambda: kn.sum(wrong(w)), atol=10)  # within the tolerance
    assert kn.gcheck(lambda: kn.sum(w * w), verbose=2)
    assert capsys.readouterr().out.count("passed") == 4
    many = kn.Param(np.arange(100.0))
    assert kn.gcheck(lambda: kn.sum(many**2), nsample=7, verbose=2)
    assert capsys.readouterr().out.count("passed") == 7
    assert kn.gcheck(lambda model, x: kn.sum(model(x)), Layer(w, b), f64(1.0, 2.0))
    assert kn.gcheck(lambda d: d["x"] * 2, {"x": np.array([1.0, 2.0])})
    assert kn.gcheck(lambda x: x**2, 3.0)
    assert kn.gcheck(lambda: kn.sum(kn.ones(3)))  # depends on nothing


def test_unbroadcast_and_cat1d() -> None:
    x, b = kn.Param(np.ones((2, 3))), kn.Param(np.ones((2, 1)))
    tape = kn.diff(lambda: kn.sum(x + b))
    assert numbers(kn.grad(tape, b)) == [[3], [3]]
    assert numbers(kn.unbroadcast(kn.zeros(()), kn.ones((2, 3)))) == 6
    assert numbers(kn.unbroadcast(kn.zeros((1, 3)), kn.ones((2, 3)))) == [[2, 2, 2]]
    y = kn.array(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert numbers(kn.cat1d(y, f64(5.0, 6.0))) == [1, 2, 3, 4, 5, 6]
    assert numbers(kn.grad(lambda y: kn.sum(kn.cat1d(y, y * 2) * np.arange(8)))(y)) == [[8, 11], [14, 17]]


# --- the catalogue of derivatives ------------------------------------------------------------------------------------

Q = np.array([[4.0, 1.0], [2.0, 3.0]])
FOUR = np.array([1.0, 2.0, 3.0, 4.0])

CATALOGUE: dict[str, tuple[Callable[..., Any], tuple[Any, ...], tuple[Any, ...]]] = {
    "power of 0": (lambda x: kn.sum(x**0), (FOUR,), (np.zeros(4),)),
    "power of 1": (lambda x: kn.sum(x**1), (FOUR,), (np.ones(4),)),
    "power of 2": (lambda x: kn.sum(x**2), (-FOUR,), (-2 * FOUR,)),
    "power of 3": (lambda x: kn.sum(x**3), (np.array([2.0, 3.0]),), (np.array([12.0, 27.0]),)),
    "exponent": (lambda p: 2.0**p, (3.0,), (5.545177444479562,)),
    "both of a power": (lambda x, p: x**p, (2.0, 3.0), (12.0, 5.545177444479562)),
    "negative base": (lambda x: x ** np.float64(2), (-2.0,), (-4.0,)),
    "divide": (
        lambda a, b: kn.sum(a / b),
        (np.array([1.0, 2.0]), np.array([4.0, 8.0])),
        ([0.25, 0.125], [-1 / 16, -2 / 64]),
    ),
    "abs at 0": (lambda x: kn.sum(kn.abs(x)), (np.array([-1.0, 0.0, 2.0]),), ([-1, 0, 1],)),
    "abs2": (kn.abs2, (0.5,), (1.0,)),
    "sqrt at 0": (kn.sqrt, (0.0,), (np.inf,)),
    "cbrt": (kn.cbrt, (0.5,), (0.529133684,)),
    "log of a base": (lambda b, x: kn.log(x) / kn.log(b), (2.0, 8.0), (-2.16404, 0.180337)),
    "atan2": (kn.atan2, (1.0, 2.0), (0.4, -0.2)),
    "hypot": (kn.hypot, (3.0, 4.0), (0.6, 0.8)),
    "max": (lambda a, b: kn.sum(kn.maximum(a, b)), (np.array([1.0, 4.0]), np.array([2.0, 3.0])), ([0, 1], [1, 0])),
    "ties of max": (lambda a, b: kn.sum(kn.maximum(a, b)), (np.array([3.0]), np.array([3.0])), ([0.5], [0.5])),
    "ties of maximum": (kn.max, (np.array([1.0, 3.0, 3.0]),), ([0, 0.5, 0.5],)),
    "relu at 0": (lambda x: kn.sum(kn.relu(x)), (np.array([-1.0, 0.0, 1.0]),), ([0, 0, 1],)),
    "clamp": (lambda x: kn.sum(kn.clamp(x, 1, 3)), (np.array([0.0, 1.0, 2.0, 3.0, 4.0]),), ([0, 1, 1, 1, 0],)),
    "sum of abs": (lambda x: kn.sum(kn.abs(x)), (np.array([-2.0, 2.0]),), ([-1, 1],)),
    "sum of squares": (lambda x: kn.sum(kn.abs2(x)), (FOUR,), (2 * FOUR,)),
    "prod": (kn.prod, (FOUR,), ([24, 12, 8, 6],)),
    "prod with a 0": (kn.prod, (np.array([0.0, 2.0, 3.0]),), ([6, 0, 0],)),
    "mean": (kn.mean, (FOUR,), ([0.25] * 4,)),
    "var": (lambda x: kn.var(x, corrected=True), (FOUR,), ([-1, -1 / 3, 1 / 3, 1],)),
    "std": (lambda x: kn.std(x, corrected=True), (FOUR,), ([-0.3872983, -0.1290994, 0.1290994, 0.3872983],)),
    "norm": (kn.norm, (np.array([3.0, 4.0]),), ([0.6, 0.8],)),
    "norm 1": (lambda x: kn.norm(x, 1), (np.array([3.0, -4.0]),), ([1, -1],)),
    "norm 3": (lambda x: kn.norm(x, 3), (np.array([3.0, 4.0]),), (np.array([9, 16]) / 91 ** (2 / 3),)),
    "norm inf": (lambda x: kn.norm(x, np.inf), (np.array([3.0, 4.0]),), ([0, 1],)),
    "det": (kn.det, (Q,), ([[3, -2], [-1, 4]],)),
    "logdet": (kn.logdet, (Q,), ([[0.3, -0.2], [-0.1, 0.4]],)),
    "slogdet": (lambda x: kn.slogdet(x)[1], (Q,), ([[0.3, -0.2], [-0.1, 0.4]],)),
    "inv": (lambda x: kn.sum(kn.inv(x)), (Q,), ([[-0.02, -0.02], [-0.06, -0.06]],)),
    "dot": (lambda a, b: kn.dot(a, b), (FOUR, FOUR * 2), (FOUR * 2, FOUR)),
    "kron": (lambda a, b: kn.sum(kn.kron(a, b)), (FOUR[:2], FOUR), ([10, 10], [3] * 4)),
    "trace": (kn.trace, (Q,), (np.eye(2),)),
    "diag": (lambda x: kn.sum(kn.diag(x) * FOUR[:2]), (Q,), (np.diag(FOUR[:2]),)),
    "tril": (lambda x: kn.sum(kn.tril(x)), (Q,), ([[1, 0], [1, 1]],)),
    "triu": (lambda x: kn.sum(kn.triu(x)), (Q,), ([[1, 1], [0, 1]],)),
    "transpose": (lambda x: kn.sum(x.T * np.arange(4.0).reshape(2, 2)), (Q,), ([[0, 2], [1, 3]],)),
    "matmul": (lambda a, b: kn.sum(a @ b), (Q, Q), ([[5, 5], [5, 5]], [[6, 6], [4, 4]])),
    "solve": (
        lambda a, b: kn.sum(kn.solve(a, b)),
        (Q, np.array([1.0, 2.0])),
        ([[-0.01, -0.06], [-0.03, -0.18]], [0.1, 0.3]),
    ),
    "erf": (kn.erf, (0.5,), (0.8787825789,)),
    "gamma": (kn.gamma, (0.5,), (-3.480230907,)),
    "lgamma": (kn.lgamma, (0.5,), (-1.963510026,)),
    "digamma": (kn.digamma, (0.5,), (4.934802201,)),
    "trigamma": (kn.trigamma, (0.5,), (-16.82879664,)),
    "erfinv": (kn.erfinv, (0.5,), (1.112584819,)),
    "erfcinv": (kn.erfcinv, (0.5,), (-1.112584819,)),
    "erfcx": (kn.erfcx, (0.5,), (-0.5126888229,)),
    "sinpi": (kn.sinpi, (0.25,), (math.pi * math.cos(math.pi / 4),)),
    "cospi": (kn.cospi, (0.5,), (-math.pi,)),
    "sinc": (kn.sinc, (0.5,), (-1.2732395447,)),
    "sinc at 0": (kn.sinc, (0.0,), (0.0,)),
    "remainder": (lambda x, y: kn.fmod(x, y), (7.0, 3.0), (1.0, -2.0)),
    "mod": (lambda x, y: kn.mod(x, y), (-7.0, 3.0), (1.0, 3.0)),
    "cumsum": (lambda x: kn.sum(kn.cumsum(x) * FOUR), (FOUR,), ([10, 9, 7, 4],)),
    "cumprod": (lambda x: kn.sum(kn.cumprod(x)), (FOUR,), ([33, 16, 10, 6],)),
    "difference": (lambda x: kn.sum(kn.difference(x) * FOUR[:3]), (FOUR,), ([-1, -1, -1, 3],)),
    "sort": (lambda x: kn.sum(kn.sort(x) * FOUR), (np.array([3.0, 1.0, 4.0, 2.0]),), ([3, 1, 4, 2],)),
    "flip": (lambda x: kn.sum(kn.flip(x) * FOUR), (FOUR,), (FOUR[::-1],)),
    "roll": (lambda x: kn.sum(kn.roll(x, 1) * FOUR), (FOUR,), ([2, 3, 4, 1],)),
    "copysign": (lambda x: kn.copysign(x, -1.0), (2.0,), (-1.0,)),
    "cholesky": (lambda x: kn.sum(kn.cholesky(x @ x.T)), (np.array([[2.0, 0.0], [1.0, 3.0]]),), ([[1, 1], [1, 1]],)),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue(name: str) -> None:
    function, arguments, expected = CATALOGUE[name]
    given = [kn.array(np.asarray(a, np.float64)) for a in arguments]
    for place, gradient in enumerate(expected):
        found = kn.grad(function, place)(*given)
        found = np.zeros_like(gradient) if found is None else found
        np.testing.assert_allclose(found, gradient, rtol=2e-6, atol=1e-9)
        _, tangent = kn.jvp(function, given, [kn.ones_like(a) if k == place else None for k, a in enumerate(given)])
        np.testing.assert_allclose(tangent, np.sum(gradient), rtol=2e-6, atol=1e-9)


def test_half_of_the_unary_functions() -> None:
    """Derivatives at 0.5 (1.5 for acosh)."""
    at_half = {
        "acos": -1.154700538, "acosh": 0.894427191, "asin": 1.154700538, "asinh": 0.894427191, "atan": 0.8,
        "atanh": 1.333333333, "cos": -0.4794255386, "cosh": 0.5210953055, "erfc": -0.8787825789, "exp": 1.648721271,
        "exp10": 7.2814134, "exp2": 0.9802581435, "expm1": 1.648721271, "log": 2, "log10": 0.8685889638,
        "log1p": 0.6666666667, "log2": 2.885390082, "loggamma": -1.963510026, "sin": 0.8775825619,
        "sinh": 1.127625965, "sqrt": 0.7071067812, "tan": 1.29844641, "tanh": 0.786447733, "negative": -1, "abs": 1,
    }  # fmt: skip
    for name, expected in at_half.items():
        x = np.float64(1.5 if name == "acosh" else 0.5)
        assert float(kn.grad(getattr(kn, name))(x)) == pytest.approx(expected, rel=1e-8), name


# --- every public function -------------------------------------------------------------------------------------------

_NONE = {"stop_gradient", "nextafter", "clip", "clamp"}
"""Whose gradient is zero by definition, that of the bounds for the last two."""

_SYMMETRIC = {"cholesky", "eigvalsh", "eigh"}
"""Which take their argument as symmetric: an entry alone cannot change."""

_RANDOM = {"dropout", "rand", "randn", "randint", "gaussian", "param", "xavier", "xavier_uniform", "xavier_normal"}


def one_node(function: Callable[..., Any]) -> Callable[..., Node]:
    """A function whose result is a node, not several or an array of what it made itself."""

    def checked(*nodes: Node) -> Node:
        result = function(*nodes)
        if not isinstance(result, Node):
            raise TypeError
        return result

    return checked


def apart(random: np.random.Generator, low: float, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers from ``low`` on, in any order, no two of which are close: differences of functions are exact there."""
    size = math.prod(shape)
    places = random.permutation(size) + random.uniform(0.2, 0.8, size)
    return (low + 0.6 * places / size).reshape(shape)


def public_functions() -> list[tuple[str, tuple[np.ndarray, ...]]]:
    """The functions of arrays, with arguments that they take: one or two vectors or matrices of float64."""
    shapes: list[tuple[tuple[int, ...], ...]] = [((3,),), ((3,), (3,)), ((3, 3),), ((3, 3), (3, 3)), ((3,), (3,), (3,))]
    found = []
    for name in sorted(set(kn.__all__) - _RANDOM - _NONE - _SYMMETRIC):
        function = getattr(kn, name)
        if not callable(function) or isinstance(function, type) or name.endswith("_"):
            continue
        random = np.random.default_rng(zlib.crc32(name.encode()))  # so that new names change nothing for others
        for shape in shapes:
            for low in (0.2, 1.2):
                arguments = tuple(apart(random, low, s) + (np.eye(3) if len(s) > 1 else 0) for s in shape)
                try:
                    graph = trace_function(one_node(function), *(TensorType(a.dtype, a.shape) for a in arguments))
                    [value] = interpret(graph, arguments)
                except Exception:
                    continue
                if value.dtype == np.float64 and np.abs(value).max(initial=0) < 10:  # no pole is near
                    found.append((name, arguments))
                    break
    return found


_PUBLIC = public_functions()


def test_there_are_many_public_functions() -> None:
    assert len({name for name, _ in _PUBLIC}) > 120


@pytest.mark.parametrize(("name", "arguments"), _PUBLIC, ids=[f"{n}-{len(a)}-{a[0].ndim}" for n, a in _PUBLIC])
def test_every_public_function_to_second_order(name: str, arguments: tuple[np.ndarray, ...]) -> None:
    for order in (1, 2):
        check_gradient(getattr(kn, name), arguments, order, name)
