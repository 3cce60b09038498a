"""@compile: what a compiled function shares with the function that it was made from, and when it is made anew."""

from __future__ import annotations

import enum
import functools
import gc
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CaptureError, LabelError, NanError, ShapeError, TraceError, VariantsError

from knetc.arrays import Array, array
from knetc.compiler import realize
from knetc.compiler.function import compile
from knetc.debugging import debug
from knetc.ir.ambient import setting
from knetc.ops.losses import nll
from knetc.ops.reduction import sum as total
from knetc.ops.transcendental import exp, log
from knetc.params import Param
from knetc.random import dropout, rand, seed
from knetc.train.optimizers import Adam
from knetc.train.update import update
from knetc.transforms import diff, grad, gradloss, training

assert realize  # lazy arrays are computed by the compiler


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config, "cache", False)
    yield


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The messages that the compiler has logged; read it after the calls."""

    class Lines(list[str]):
        def __iter__(self) -> Iterator[str]:
            return iter([r.getMessage() for r in caplog.records if r.name == "knetc" and "signature" in r.getMessage()])

        def __len__(self) -> int:
            return len(list(iter(self)))

        def __getitem__(self, index: Any) -> Any:
            return list(iter(self))[index]

    caplog.set_level(logging.INFO, "knetc")
    yield Lines()


def numbers(x: Any) -> Any:
    return np.asarray(x)


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


class Calls:
    """Counts how often Python code ran."""

    def __init__(self) -> None:
        self.count = 0


# --- arguments -------------------------------------------------------------------------------------------------------


def test_python_runs_once_for_a_signature(lines: list[str]) -> None:
    calls = []

    @compile
    def double(x: Any) -> Any:
        calls.append(1)
        return x * 2

    for k in range(3):
        assert numbers(double(array(f32(1, 2, 3 + k)))).tolist() == [2, 4, 6 + 2 * k]
    assert len(calls) == 1
    assert len(lines) == 1


def test_a_new_signature_logs_one_line_with_argument_change_and_place(lines: list[str]) -> None:
    @compile
    def double(x: Any) -> Any:
        return x * 2

    double(array(f32(1, 2)))
    double(array(f32(1, 2, 3)))
    assert "double" in lines[1] and "test_compile.py" in lines[1]
    assert "x was Array f32[2], is Array f32[3]" in lines[1]
    double(np.zeros(3))
    assert "x was Array f32[3], is NumPy f64[3]" in lines[2]
    double(array(f32(5, 6)))
    double(array(f32(5, 6, 7)))
    assert len(lines) == 3


def test_numpy_arrays_are_read_in_place_at_each_call_and_never_written() -> None:
    @compile
    def plus(x: Any, y: Any) -> Any:
        return x + y

    data, other = np.arange(4.0), np.ones(4)
    assert numbers(plus(data, other)).tolist() == [1, 2, 3, 4]
    data[0] = 10
    data.flags.writeable = False
    assert numbers(plus(data, other)).tolist() == [11, 2, 3, 4]
    assert data.tolist() == [10, 1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        np.arange(12.0)[::2],
        np.arange(12.0).reshape(3, 4).T,
        np.arange(6, dtype=">f4"),
        np.frombuffer(b"\0" + np.arange(6, dtype=np.float32).tobytes(), np.float32, offset=1),
        np.zeros((0, 3)),
        np.array(2.5),
        np.broadcast_to(np.float32(3), (2, 2)),
    ],
    ids=["strided", "transposed", "big-endian", "unaligned", "empty", "0-d", "broadcast"],
)
def test_any_layout_of_numpy_arrays(data: Any) -> None:
    @compile
    def plus(x: Any) -> Any:
        return x + 1

    for _ in range(2):
        result = numbers(plus(data))
        assert result.dtype == data.dtype.newbyteorder("=")
        np.testing.assert_array_equal(result, data + 1)


def test_numbers_are_run_time_values_and_weak(lines: list[str]) -> None:
    @compile
    def scale(x: Any, by: float, n: int) -> Any:
        return x * (by * 2 - 1) + n

    for by, n in ((0.5, 1), (2.5, 3), (-1.0, 2)):
        result = numbers(scale(array(f32(1, 2)), by, n))
        assert result.dtype == np.float32
        assert result.tolist() == [1 * (by * 2 - 1) + n, 2 * (by * 2 - 1) + n]
    assert len(lines) == 1
    scale(array(f32(1, 2)), 1, 1)
    assert "by was a run-time float, is a run-time int" in lines[1]


def test_numpy_scalars_are_run_time_values_and_strong(lines: list[str]) -> None:
    @compile
    def scale(x: Any, by: Any) -> Any:
        return x * by

    for by in (np.float64(2), np.float64(3)):
        result = numbers(scale(array(f32(1, 2)), by))
        assert result.dtype == np.float64
        assert result.tolist() == [by, 2 * by]
    assert len(lines) == 1


def test_a_number_used_as_a_shape_or_a_branch_becomes_static(
    lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    @compile
    def repeat(x: Any, n: int, flip: float) -> Any:
        for _ in range(n):
            x = x + x
        return -x if flip > 0 else x

    x = array(f32(1))
    assert numbers(repeat(x, 2, 1.0)).tolist() == [-4]
    assert numbers(repeat(x, 3, 1.0)).tolist() == [-8]
    assert numbers(repeat(x, 3, -1.0)).tolist() == [8]
    assert numbers(repeat(x, 3, 1.0)).tolist() == [-8]
    assert "n was 2, is 3" in lines[1]
    static = [r.getMessage() for r in caplog.records if "static" in r.getMessage()]
    assert any("n is used for" in line and "test_compile.py" in line for line in static)
    assert any("flip is used for a branch" in line for line in static)


def test_declared_static_numbers_are_python_numbers_inside() -> None:
    seen: list[Any] = []

    @compile(static=("n",))
    def repeat(x: Any, n: int) -> Any:
        seen.append(n)
        return x * n

    repeat(array(f32(1)), 2)
    repeat(array(f32(1)), 3)
    assert seen == [2, 3]
    with pytest.raises(ValueError, match="no such argument"):
        compile(static=("m",))(lambda n: n)


def test_minus_zero_one_and_true_are_different_static_values() -> None:
    @compile(static=("n",))
    def over(x: Any, n: Any) -> Any:
        return x * 0 + (type(n) is float and str(n) == "-0.0") + 2 * (n is True)

    x = array(f32(1))
    results = [numbers(over(x, n)).tolist() for n in (0.0, -0.0, 1, True, 1.0, float("nan"), float("nan"))]
    assert results == [[0], [1], [0], [2], [0], [0], [0]]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize("a,b", [(True, False), ("up", "down"), (None, 1.0), (Colour.RED, Colour.BLUE)])
def test_flags_strings_and_enums_are_static(a: Any, b: Any) -> None:
    @compile
    def choose(x: Any, mode: Any) -> Any:
        return x + 1 if mode == a else x - 1

    x = array(f32(1))
    for mode, expected in ((a, 2), (b, 0), (a, 2)):
        assert numbers(choose(x, mode)).tolist() == [expected]


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Batch:
    x: Any
    y: Any
    weight: float = 1.0


def test_containers_go_in_and_out(lines: list[str]) -> None:
    @compile
    def mix(t: Any, d: Any, p: Pair, b: Batch) -> Any:
        s = t[0] + t[1][0] + d["a"] + p.left * p.right + b.x * b.weight
        return {"sum": s, "parts": [s, (t[0], None, "text")], "pair": Pair(s, 1), "batch": Batch(s, b.y)}

    for k in (1.0, 2.0):
        x = array(f32(k))
        given = (x, [f32(1)]), {"a": x}, Pair(x, 3.0), Batch(x, x, k)
        result = mix(*given)
        expected = k + 1 + k + 3 * k + k * k
        assert numbers(result["sum"]).tolist() == [expected]
        assert numbers(result["parts"][0]).tolist() == [expected]
        assert result["parts"][1][0] is x and result["parts"][1][1:] == (None, "text")
        assert type(result["pair"]) is Pair and result["pair"].right == 1
        assert type(result["batch"]) is Batch and result["batch"].y is x
    assert len(lines) == 1
    mix((x, [f32(1), f32(2)]), {"a": x}, Pair(x, 3.0), Batch(x, x, k))
    assert "t[1] was a list of 1, is a list of 2" in lines[1]


def test_defaults_keywords_and_starred_parameters() -> None:
    @compile
    def mix(a: Any, /, b: Any = 2.0, *rest: Any, scale: Any = 1.0, **named: Any) -> Any:
        result = a * b * scale
        for item in (*rest, *named.values()):
            result = result + item
        return result

    x = array(f32(1))
    assert numbers(mix(x)).tolist() == [2]
    assert numbers(mix(x, scale=3.0)).tolist() == [6]
    assert numbers(mix(x, 3.0, x, x, scale=2.0, extra=x)).tolist() == [9]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        mix()
    assert mix.__name__ == "mix"


def test_the_same_array_twice_and_two_arrays() -> None:
    @compile
    def assign(x: Any, y: Any) -> Any:
        x[...] = x + 1
        return x + y

    x, y = Param(f32(1)), Param(f32(10))
    assert numbers(assign(x, y)).tolist() == [12]
    assert numbers(assign(x, x)).tolist() == [6]
    assert numbers(assign(x, y)).tolist() == [14]


def test_pending_arrays_are_computed_first() -> None:
    @compile
    def double(x: Any) -> Any:
        return x * 2

    x = array(f32(1, 2))
    double(x)
    assert numbers(double(x + x)).tolist() == [4, 8]


# --- captures --------------------------------------------------------------------------------------------------------

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

    with pytest.raises(CaptureError, match=r"pass it as an argument\n  at .*test_compile.py"):
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


# --- writing ---------------------------------------------------------------------------------------------------------


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


# --- what cannot be traced -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x: 1 if x[0] > 0 else 2,
        lambda x: float(x[0]),
        lambda x: [0, 1][int(x[0])],
        lambda x: np.asarray(x),
        lambda x: x.numpy(),
        lambda x: x[0].item(),
        lambda x: f"{float(x[0])}",
    ],
)
def test_asking_for_traced_numbers(use: Any) -> None:
    compiled = compile(lambda x: use(x))
    with pytest.raises((TraceError, TypeError), match=r"where|traced") as caught:
        compiled(array(f32(1, 2)))
    assert "where" in str(caught.value)


def test_handles_that_outlive_their_trace() -> None:
    kept = []

    @compile
    def leak(x: Any) -> Any:
        kept.append(x * 2)
        return x + 1

    leak(array(f32(1)))
    with pytest.raises(TraceError, match=r"test_compile.py:\d+.*trace"):
        kept[0] + 1
    with pytest.raises(TraceError, match="trace"):
        numbers(kept[0])
    other = compile(lambda x: x + kept[0])
    with pytest.raises(TraceError, match="trace"):
        other(array(f32(1)))


def test_variants_are_limited() -> None:
    @compile(on_miss="error")
    def once(x: Any) -> Any:
        return x + 1

    once(array(f32(1)))
    once(array(f32(2)))
    with pytest.raises(VariantsError, match=r"x was Array f32\[1\], is Array f32\[2\]"):
        once(array(f32(1, 2)))

    @compile(max_variants=2)
    def twice(x: Any) -> Any:
        return x + 1

    twice(array(f32(1)))
    twice(array(f32(1, 2)))
    with pytest.raises(VariantsError, match="max_variants=2"):
        twice(array(f32(1, 2, 3)))
    assert numbers(twice(array(f32(5)))).tolist() == [6]


def test_wrong_options() -> None:
    with pytest.raises(TypeError, match="device"):
        compile(device="toaster")(lambda x: x)
    with pytest.raises(ValueError, match="on_miss"):
        compile(on_miss="shrug")(lambda x: x)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_variants"):
        compile(max_variants=0)(lambda x: x)


# --- nesting, settings, checks ---------------------------------------------------------------------------------------


def test_compiled_functions_inside_others_are_part_of_them(lines: list[str]) -> None:
    w = Param(f32(2))

    @compile
    def inner(x: Any) -> Any:
        return x * w

    @compile
    def outer(x: Any) -> Any:
        return inner(x) + inner(x + 1)

    assert numbers(outer(array(f32(1)))).tolist() == [6]
    w = Param(f32(3))
    assert numbers(outer(array(f32(1)))).tolist() == [9]
    assert len(lines) == 1


def test_compiled_functions_can_be_differentiated() -> None:
    w = Param(f32(2))

    @compile
    def loss(x: Any) -> Any:
        return total(exp(x * w))

    x = array(f32(1, 2))
    loss(x)
    tape = diff(loss, x)
    expected = total(x * exp(x * w))
    np.testing.assert_allclose(numbers(grad(tape, w)), numbers(expected), rtol=1e-6)
    assert numbers(loss(x)) == pytest.approx(float(tape.value))


def test_settings_are_part_of_the_signature(lines: list[str]) -> None:
    @compile
    def mode(x: Any) -> Any:
        return x + (1 if training() else 2)

    x = array(f32(0))
    assert numbers(mode(x)).tolist() == [2]
    with setting(training=True):
        assert numbers(mode(x)).tolist() == [1]
        assert numbers(mode(x)).tolist() == [1]
    assert numbers(mode(x)).tolist() == [2]
    assert "training was False, is True" in lines[1] and len(lines) == 2


def test_check_trace_finds_what_the_signature_does_not_hold() -> None:
    values = iter([1.0, 1.0, 2.0, 3.0])

    @compile
    def moody(x: Any) -> Any:
        return x * next(values)

    debug(check_trace=True)
    try:
        moody(array(f32(1)))
        with pytest.raises(TraceError, match=r"test_compile.py.*pass it as an argument"):
            moody(array(f32(1)))
    finally:
        debug(check_trace=False)


def test_nan_check_names_the_line_and_leaves_params_alone() -> None:
    w = Param(f32(1, -1))

    @compile
    def step(x: Any) -> Any:
        w[...] = log(w * x)

    debug(nan_check=True)
    try:
        with pytest.raises(NanError, match=r"test_compile.py:\d+"):
            step(f32(1, 1))
        assert numbers(w).tolist() == [1, -1]
        step(f32(1, -1))
        assert numbers(w).tolist() == [0, 0]
    finally:
        debug(nan_check=False)


# --- threads ---------------------------------------------------------------------------------------------------------


def test_racing_first_calls_and_updates_from_many_threads() -> None:
    w = Param(np.zeros(100, np.float32))
    traces = []

    @compile
    def step(x: Any) -> Any:
        traces.append(threading.get_ident())
        w[...] = w + x
        return x * 2

    start = threading.Barrier(6)
    failures: list[BaseException] = []

    def work(k: int) -> None:
        try:
            start.wait()
            for _ in range(30):
                assert (numbers(step(np.full(100, k, np.float32))) == 2 * k).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(traces) == 1
    assert (numbers(w) == 30 * sum(range(6))).all()


def test_a_trace_in_one_thread_does_not_concern_another() -> None:
    inside, go_on = threading.Event(), threading.Event()

    @compile
    def slow(x: Any) -> Any:
        inside.set()
        assert go_on.wait(30)
        return x + 1

    @compile
    def quick(x: Any) -> Any:
        return x * 2

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(slow(array(f32(1)))))
    thread.start()
    assert inside.wait(30)
    assert numbers(quick(array(f32(3)))).tolist() == [6]
    assert numbers(quick(array(f32(4)))).tolist() == [8]
    assert numbers(array(f32(1)) + 1).tolist() == [2]
    go_on.set()
    thread.join()
    assert numbers(results[0]).tolist() == [2]


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
