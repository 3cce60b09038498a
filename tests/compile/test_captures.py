"""What a compiled function reads without being given it: closures, globals, attributes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.errors import (
    CaptureError,
    RangeError,
)
from values import f32, numbers

from knetc.arrays import array
from knetc.compiler.function import compile
from knetc.ops.reduction import sum as total
from knetc.params import Param
from knetc.transforms import grad, gradloss

w_global = Param(f32(1, 2))
factor_global = 2.0


def helper(x: Any) -> Any:
    return x * w_global * factor_global


def test_globals_of_named_functions_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    @compile
    def use(x: Any) -> Any:
        return helper(x)

    x = array(f32(1, 1))
    assert numbers(use(x)).tolist() == [2, 4]
    monkeypatch.setitem(globals(), "w_global", Param(f32(5, 6)))
    assert numbers(use(x)).tolist() == [10, 12]
    assert len(lines) == 1
    monkeypatch.setitem(globals(), "factor_global", 3.0)
    assert numbers(use(x)).tolist() == [15, 18]
    assert "factor_global was 2.0, is 3.0" in lines[1]
    monkeypatch.setitem(globals(), "helper", lambda x: x)
    assert numbers(use(x)).tolist() == [1, 1]


def test_what_a_gradient_function_differentiates_is_reached() -> None:
    factor, weights = 2.0, array(f32(1, 2))

    def loss(x: Any) -> Any:
        return total(x * weights * factor)

    gradient, both = grad(loss), gradloss(loss)
    first, second = compile(lambda x: gradient(x)), compile(lambda x: both(x)[0])
    assert numbers(first(f32(1, 1))).tolist() == numbers(second(f32(1, 1))).tolist() == [2, 4]
    factor, weights = 3.0, array(f32(5, 5))
    assert numbers(first(f32(1, 1))).tolist() == numbers(second(f32(1, 1))).tolist() == [15, 15]


def test_closure_cells_are_read_at_each_call(lines: list[str]) -> None:
    w = Param(f32(1))
    scale = 1.0

    @compile
    def use(x: Any) -> Any:
        return x * w * scale

    x = array(f32(3))
    assert numbers(use(x)).tolist() == [3]
    w = Param(f32(2))
    assert numbers(use(x)).tolist() == [6]
    w[...] = f32(4)
    assert numbers(use(x)).tolist() == [12]
    scale = 2.0
    assert numbers(use(x)).tolist() == [24]
    assert len(lines) == 2
    w = Param(f32(1, 2))
    assert numbers(use(x)).tolist() == [6, 12]


class Layer:
    def __init__(self, n: float) -> None:
        self.w = Param(f32(n))
        self.b: Any = None
        self.unrelated = 0

    def __call__(self, x: Any) -> Any:
        y = x * self.w
        return y if self.b is None else y + self.b


class Model:
    def __init__(self) -> None:
        self.layers = [Layer(2), Layer(3)]
        self.training = True
        self.names = {"scale": 1.0}

    @compile
    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x * self.names["scale"] if self.training else -x


def test_model_objects(lines: list[str]) -> None:
    model, x = Model(), array(f32(1))
    assert numbers(model(x)).tolist() == [6]
    model.layers[0].w = Param(f32(4))
    assert numbers(model(x)).tolist() == [12]
    model.layers[1].unrelated += 1
    other = Model()
    assert numbers(other(x)).tolist() == [6]
    assert len(lines) == 1
    model.training = False
    assert numbers(model(x)).tolist() == [-12]
    assert "self.training was True, is False" in lines[1]
    model.layers[0].b = Param(f32(1))
    assert numbers(model(x)).tolist() == [-15]
    model.layers.append(Layer(10))
    assert numbers(model(x)).tolist() == [-150]
    other.names["scale"] = 2.0
    assert numbers(other(x)).tolist() == [12]
    assert numbers(other(x)).tolist() == [12]


def test_methods_and_properties_that_are_replaced() -> None:
    class Model:
        def scaled(self, x: Any) -> Any:
            return x * 2

        @property
        def shift(self) -> float:
            return 1.0

        def __call__(self, x: Any) -> Any:
            return self.scaled(x) + self.shift

    model = Model()
    compiled = compile(model)
    assert numbers(compiled(f32(1, 2))).tolist() == [3, 5]
    Model.scaled = lambda self, x: x * 10  # type: ignore[method-assign]
    assert numbers(compiled(f32(1, 2))).tolist() == [11, 21]
    Model.shift = property(lambda self: 3.0)  # type: ignore[assignment,method-assign]
    assert numbers(compiled(f32(1, 2))).tolist() == [13, 23]


def test_a_method_that_an_attribute_of_the_object_hides() -> None:
    class Model:
        def scaled(self, x: Any) -> Any:
            return x * 2

        def __call__(self, x: Any) -> Any:
            return self.scaled(x)

    model = Model()
    compiled = compile(model)
    assert numbers(compiled(f32(1, 2))).tolist() == [2, 4]
    model.seen = True  # type: ignore[attr-defined]
    model.scaled = lambda x: x * 10  # type: ignore[method-assign]
    assert numbers(compiled(f32(1, 2))).tolist() == [10, 20]
    del model.scaled
    assert numbers(compiled(f32(1, 2))).tolist() == [2, 4]


def test_integers_beyond_64_bits_are_refused_by_name() -> None:
    compiled = compile(lambda x, n: x * n)
    assert numbers(compiled(f32(1, 2), 3)).tolist() == [3, 6]
    with pytest.raises(RangeError, match=r"n is 1180591620717411303424, which does not fit into int64"):
        compiled(f32(1, 2), 2**70)


def test_callables_of_all_kinds() -> None:
    x = array(f32(1))
    layer = Layer(2)
    compiled_object = compile(layer)
    assert numbers(compiled_object(x)).tolist() == [2]
    layer.w = Param(f32(3))
    assert numbers(compiled_object(x)).tolist() == [3]
    assert numbers(compile(layer.__call__)(x)).tolist() == [3]
    partial = functools.partial(lambda a, b, k: a * b * k, layer.w, k=2.0)
    assert numbers(compile(partial)(x)).tolist() == [6]
    with pytest.raises(TypeError, match="compile takes"):
        compile(len)


def test_tied_parameters_that_come_apart() -> None:
    first, second = Layer(2), Layer(3)
    second.w = first.w

    @compile
    def use(x: Any) -> Any:
        return x * first.w + second.w

    x = array(f32(1))
    assert numbers(use(x)).tolist() == [4]
    second.w = Param(f32(10))
    assert numbers(use(x)).tolist() == [12]


def test_an_array_that_the_function_cannot_be_seen_to_reach() -> None:
    hidden = {id(compile): array(f32(1))}

    class Opaque:
        __slots__ = ()

        def __getattr__(self, name: str) -> Any:
            return found()

    def found() -> Any:
        return registry()[0]

    registry = iter([[hidden[id(compile)]]]).__next__
    opaque = Opaque()

    @compile
    def use(x: Any) -> Any:
        return x + opaque.anything

    with pytest.raises(CaptureError, match=r"pass it as an argument\n  at .*test_captures.py"):
        use(array(f32(1)))


def test_cycles_and_shared_objects_are_walked() -> None:
    class Node:
        def __init__(self) -> None:
            self.w = Param(f32(2))
            self.me = self
            self.peers: list[Any] = [self]
            self.peers.append(self.peers)

    node = Node()

    @compile
    def use(x: Any) -> Any:
        return x * node.me.peers[0].w

    assert numbers(use(array(f32(3)))).tolist() == [6]
    node.w = Param(f32(5))
    assert numbers(use(array(f32(3)))).tolist() == [15]


def test_arrays_made_inside_are_constants() -> None:
    @compile
    def use(x: Any) -> Any:
        return x * np.array([1.0, 2.0], np.float32) + np.float32(1)

    for _ in range(2):
        assert numbers(use(array(f32(1, 1)))).tolist() == [2, 3]


def test_captured_numpy_arrays_are_read_at_each_call() -> None:
    table = f32(1, 2)

    @compile
    def use(x: Any) -> Any:
        return x + table

    x = array(f32(0, 0))
    assert numbers(use(x)).tolist() == [1, 2]
    table[0] = 7
    assert numbers(use(x)).tolist() == [7, 2]
    table = f32(3, 4)
    assert numbers(use(x)).tolist() == [3, 4]
