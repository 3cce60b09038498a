"""Gradients as graphs: their values, order, lines and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DifferentiationError

import knetc.ops  # noqa: F401
from knetc.ir.build import graph_of, input_node, trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Line, Node
from knetc.ir.op import Kind, Op
from knetc.ir.record import Recorder, record, recording
from knetc.ir.types import TensorType
from knetc.ops.apply import broadcast_node, cast_node, record_sum
from knetc.ops.arithmetic import add, multiply
from knetc.passes.differentiate import gradients

VECTOR = TensorType(dtypes.f64, (3,))
SCALAR = TensorType(dtypes.f64, ())
X = np.array([0.5, -2.0, 3.0])


def derivative(loss: Node, x: Node) -> Node:
    [dx] = gradients(loss, [x])
    assert dx is not None
    return dx


def test_gradient_of_a_sum_of_squares() -> None:
    graph = trace_function(lambda x: derivative(record_sum(multiply(x, x), (0,)), x), VECTOR)
    np.testing.assert_array_equal(interpret(graph, [X])[0], 2 * X)


def test_second_and_third_order() -> None:
    def third(x: Node) -> list[Node]:
        results = [multiply(multiply(x, x), multiply(x, x))]
        for _ in range(3):
            results.append(derivative(results[-1], x))
        return results[1:]

    graph = trace_function(third, SCALAR)
    assert [float(v) for v in interpret(graph, [2.0])] == [32.0, 48.0, 48.0]


def test_a_value_and_what_it_is_made_from_can_both_be_asked_for() -> None:
    def f(x: Node) -> list[Node]:
        y = multiply(x, x)
        dy, dx = gradients(multiply(y, x), [y, x])
        assert dy is not None and dx is not None
        return [dy, dx]

    assert [float(v) for v in interpret(trace_function(f, SCALAR), [3.0])] == [3.0, 27.0]


def test_none_where_nothing_depends() -> None:
    def f(x: Node, y: Node) -> Node:
        whole = cast_node(cast_node(y, dtypes.i64), dtypes.f64)
        dx, dy = gradients(multiply(x, whole), [x, y])
        assert dy is None and dx is not None
        return dx

    assert float(interpret(trace_function(f, SCALAR, SCALAR), [3.0, 2.5])[0]) == 2.0


def test_loss_itself_and_seed() -> None:
    def f(x: Node, seed: Node) -> list[Node]:
        [own] = gradients(x, [x], seed)
        [dx] = gradients(multiply(x, x), [x], seed)
        assert own is seed and dx is not None
        return [own, dx]

    np.testing.assert_array_equal(interpret(trace_function(f, VECTOR, VECTOR), [X, X])[1], 2 * X * X)


def test_broadcast_and_its_gradient() -> None:
    def f(x: Node) -> Node:
        y = broadcast_node(x, (4, 3))
        return derivative(record_sum(multiply(y, y), (0, 1)), x)

    np.testing.assert_array_equal(interpret(trace_function(f, VECTOR), [X])[0], 8 * X)


@pytest.mark.parametrize(
    ("type", "message"),
    [(VECTOR, r"shape \(3,\).*sum or mean"), (TensorType(dtypes.i64, ()), "i64.*floating-point")],
)
def test_refuses_what_is_no_float_scalar(type: TensorType, message: str) -> None:
    with pytest.raises(DifferentiationError, match=message):
        trace_function(lambda x: gradients(x, [x]), type)  # type: ignore[arg-type, return-value]


def test_refuses_a_rule_that_gives_another_shape() -> None:
    wrong = Op("wrong", Kind.ELEMENTWISE, lambda x: x, gradient=lambda node, dy: (record_sum(dy, (0,)),))

    def f(x: Node) -> list[Node | None]:
        return gradients(record_sum(record(wrong, (x,)), (0,)), [x])

    with pytest.raises(DifferentiationError, match=r"gradient of wrong gave f64\[\] for a source of type f64\[3\]"):
        trace_function(f, VECTOR)  # type: ignore[arg-type]


def test_checks_pass_gradients_through() -> None:
    check = Op("looks_at", Kind.EFFECT, lambda x: x, reference=lambda x: x)

    def f(x: Node) -> Node:
        return derivative(multiply(record(check, (x,)), x), x)

    assert float(interpret(trace_function(f, SCALAR), [3.0])[0]) == 6.0


def test_lines_of_derivatives_name_the_forward_line() -> None:
    with recording(Recorder()) as builder:
        x = input_node(builder, 0, SCALAR)
        builder.lines = (Line("model.py", 7),)
        y = multiply(x, multiply(x, x))
        builder.lines = ()
        [dx] = gradients(y, [x])
        assert builder.lines == ()
    assert dx is not None and [str(line) for line in dx.lines] == ["∂ model.py:7"]


def test_long_chain() -> None:
    def f(x: Node) -> Node:
        y = x
        for _ in range(10_000):
            y = add(y, x)
        return derivative(y, x)

    graph = trace_function(f, SCALAR)
    assert float(interpret(graph, [1.0])[0]) == 10_001.0


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12), st.floats(-1, 1))
def test_against_central_differences(choices: list[int], at: float) -> None:
    def f(x: Node) -> Node:
        values = [x, x]
        for choice in choices:
            a, b = values[choice % len(values)], values[choice // 7 % len(values)]
            values.append(multiply(a, b) if choice % 2 else add(a, b))
        result: Node = multiply(values[-1], values[-2])
        return result

    with recording(Recorder()) as builder:
        x = input_node(builder, 0, SCALAR)
        y = f(x)
        graph = graph_of([x], [y, derivative(y, x)])
    h = 1e-5
    low, here, high = (interpret(graph, [at * 0.5 + k * h]) for k in (-1, 0, 1))
    difference = (float(high[0]) - float(low[0])) / (2 * h)
    assert float(here[1]) == pytest.approx(difference, rel=1e-3, abs=1e-3)
