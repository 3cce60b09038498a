"""Forward mode, pulled-back derivatives, Jacobians and Hessians: against reverse mode, and against what they are."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optable import Case, gradient_cases
from test_ops import _DIFFERENTIABLE as DIFFERENTIABLE

import knetc as kn
from knetc.arrays import node_of
from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Node, topological
from knetc.ir.op import Op
from knetc.ir.types import TensorType
from knetc.ops.apply import constant, record_sum
from knetc.ops.arithmetic import multiply
from knetc.passes.differentiate import pullback
from knetc.passes.linearize import tangents
from knetc.passes.simplify import simplify


def numbers(x: Any) -> Any:
    return np.asarray(x).tolist()


# --- every operation -------------------------------------------------------------------------------------------------


def zeros(node: Node) -> Node:
    return constant(0.0, node.dtype, node.shape)


def both_ways(case: Case, moving: list[int], *, twice: bool) -> Callable[..., list[Node]]:
    """``<dy, J dx>`` by forward and by reverse mode; ``twice``: of the derivative along another direction."""

    def function(*nodes: Node) -> list[Node]:
        sources = list(nodes[: len(case.types)])
        rest = iter(nodes[len(case.types) :])
        wanted = [sources[k] for k in moving]
        result = case.apply(*sources)
        if twice:
            [result] = [t or zeros(result) for t in tangents([result], {x: next(rest) for x in wanted})]
        dy = next(rest)
        directions = {x: next(rest) for x in wanted}
        [tangent] = tangents([result], directions)
        forward = record_sum(multiply(dy, tangent or zeros(result)), tuple(range(result.ndim)))
        slopes = pullback([result], [dy], wanted)
        parts = [
            record_sum(multiply(slope or zeros(x), directions[x]), tuple(range(x.ndim)))
            for x, slope in zip(wanted, slopes)
        ]
        return [forward, *parts]

    return function


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_forward_mode_is_the_transpose_of_reverse_mode(op: Op, twice: bool) -> None:
    for case in gradient_cases(op):
        random = np.random.default_rng(zlib.crc32(str(case).encode()))
        inputs = case.inputs(special=False)
        moving = [k for k, a in enumerate(inputs) if a.dtype == np.float64]
        directions = [random.uniform(-1, 1, inputs[k].shape) for k in moving]
        more = [random.uniform(-1, 1, inputs[k].shape) for k in moving] if twice else []
        dy = random.uniform(-1, 1, case.graph().outputs[0].shape)
        given = [*inputs, *more, dy, *directions]
        graph = trace_function(both_ways(case, moving, twice=twice), *(TensorType(a.dtype, a.shape) for a in given))
        forward, *reverse = (float(v) for v in interpret(graph, given))
        scale = 1 + sum(abs(v) for v in reverse)
        assert forward == pytest.approx(sum(reverse), abs=1e-9 * scale), str(case)


# --- jvp -------------------------------------------------------------------------------------------------------------

X = np.array([0.3, -0.7, 1.2])


def test_values_and_tangents() -> None:
    def f(a: Any, b: Any) -> Any:
        return {"y": a * b, "n": kn.argmax(a), "k": b[0] * 0 + 3, "s": "text"}

    value, tangent = kn.jvp(f, (X, 2 * X), (X, None))
    np.testing.assert_allclose(value["y"], 2 * X * X)
    np.testing.assert_allclose(tangent["y"], 2 * X * X)
    assert numbers(tangent["k"]) == 0 and tangent["n"] is None and tangent["s"] is None
    assert numbers(kn.jvp(lambda x: x**2, (3.0,), (1.0,))[1]) == 6
    assert (
        numbers(kn.jvp(lambda p: p["a"] * p["b"][0], ({"a": 2.0, "b": (3.0, 1)},), ({"a": 1.0, "b": (10.0, None)},))[1])
        == 23
    )


def test_tangents_of_params() -> None:
    w = kn.Param(X)
    value, tangent = kn.jvp(lambda p: kn.sum(p * w), (w,), (np.ones(3),))
    assert float(value) == pytest.approx((X * X).sum()) and float(tangent) == pytest.approx(2 * X.sum())


def test_forward_over_reverse_and_others() -> None:
    def f(x: Any) -> Any:
        return kn.sum(kn.sin(x) * kn.prod(x))

    direction = np.array([1.0, 2.0, -1.0])
    exact = np.asarray(kn.hessian(f)(X)) @ direction
    np.testing.assert_allclose(kn.jvp(kn.grad(f), (X,), (direction,))[1], exact)
    np.testing.assert_allclose(kn.grad(lambda x: kn.jvp(f, (x,), (direction,))[1])(kn.array(X)), exact)
    np.testing.assert_allclose(kn.grad(lambda x: kn.sum(kn.grad(f)(x) * direction))(kn.array(X)), exact)
    twice = kn.jvp(lambda x: kn.jvp(f, (x,), (direction,))[1], (X,), (direction,))[1]
    assert float(twice) == pytest.approx(direction @ exact)


def test_no_perturbation_confusion() -> None:
    def along(f: Callable[[Any], Any], x: Any) -> Any:
        return kn.jvp(f, (x,), (1.0,))[1]

    ways: list[Callable[..., Any]] = [along, lambda f, x: kn.grad(f)(x), lambda f, x: kn.jacobian(f)(x)]

    def check(outer: Callable[..., Any], inner: Callable[..., Any]) -> None:
        assert float(outer(lambda x: x * inner(lambda y: x + y, 1.0), 5.0)) == 1
        assert float(outer(lambda x: x * inner(lambda y: x * y, x), 3.0)) == 6
        assert float(outer(lambda x: inner(lambda y: x * y * y, x) * x, 2.0)) == 3 * 2 * 4
        assert float(outer(lambda x: inner(lambda y: inner(lambda z: x * y * z, y), x), 2.0)) == 1
        assert float(outer(lambda x: inner(lambda x: x**3, x), 2.0)) == 12

    for outer in ways:
        for inner in ways:
            check(outer, inner)
    through = kn.vmap(lambda x: along(lambda y: y * along(lambda z: x * z * z, y), x))(kn.array([1.0, 2.0]))
    assert numbers(through) == [4, 16]


def test_orders_to_the_ninth_by_forward_mode() -> None:
    f, x = kn.sin, 0.7
    expected = [np.sin, np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)]
    for order in range(10):
        assert float(f(np.float64(x))) == pytest.approx(expected[order % 4](x))
        f = (lambda g: lambda x: kn.jvp(g, (x,), (1.0,))[1])(f)


def test_graphs_are_short() -> None:
    def work(function: Callable[..., Any], *types: TensorType) -> list[str]:
        def whole(*nodes: Node) -> Any:
            *primals, direction = nodes
            [tangent] = tangents([function(*primals)], {primals[0]: direction})
            return tangent

        return sorted(node.op.name for node in simplify(trace_function(whole, *types, types[0])).nodes if node.sources)

    matrix, vector = TensorType(np.dtype(np.float64), (3, 4)), TensorType(np.dtype(np.float64), (4,))
    other = TensorType(np.dtype(np.float64), (4, 5))
    assert work(lambda a, b: a @ b, matrix, other) == ["matmul"]
    assert work(lambda x: kn.concat([x, kn.flip(x)]), vector) == ["concat", "slice"]
    assert work(lambda x: record_sum(kn.exp(x), (0,)), vector) == ["exp", "multiply", "sum"]
    assert work(lambda x: kn.cumsum(x) if hasattr(kn, "cumsum") else x * 1, vector) in (["cumsum"], [])


def test_wrong_tangents_teach() -> None:
    f = kn.sum
    with pytest.raises(kn.DifferentiationError, match=r"tangent of argument 0 is f64\[2\].*f64\[3\].*broadcast_to"):
        kn.jvp(f, (X,), (np.ones(2),))
    with pytest.raises(kn.DifferentiationError, match="1 arguments and 2 tangents"):
        kn.jvp(f, (X,), (X, X))
    with pytest.raises(kn.DifferentiationError, match="they must be of one form"):
        kn.jvp(lambda p: kn.sum(p[0]), ((X, X),), ([X, X],))
    with pytest.raises(kn.DifferentiationError, match=r"argument 0\['n'\] is given, but that is no float array"):
        kn.jvp(lambda p: p["x"], ({"x": X, "n": np.arange(3)},), ({"x": X, "n": np.arange(3)},))
    with pytest.raises(kn.DifferentiationError, match="an array or a number, not str"):
        kn.jvp(f, (X,), ("a",))
    with pytest.raises(TypeError, match=r"kn.jvp\(f, \(x,\), \(dx,\)\)"):
        kn.jvp(f, X, X)  # type: ignore[arg-type]


# --- vjp -------------------------------------------------------------------------------------------------------------


def test_pulling_back() -> None:
    (y, total), pull = kn.vjp(lambda a, b: (a * b["x"], kn.sum(a)), X, {"x": 2 * X, "n": 3})
    np.testing.assert_allclose(y, 2 * X * X)
    assert float(total) == pytest.approx(X.sum())
    da, db = pull((np.ones(3), 10.0))
    np.testing.assert_allclose(da, 2 * X + 10)
    np.testing.assert_allclose(db["x"], X)
    assert pull((None, 1.0))[1] == {"x": None, "n": None}
    np.testing.assert_allclose(pull((X, None))[0], 2 * X * X)
    with pytest.raises(kn.DifferentiationError, match=r"derivative by the result\[0\] is f64\[2\]"):
        pull((np.ones(2), None))
    with pytest.raises(kn.DifferentiationError, match="of one form"):
        pull([None, None])
    rows = kn.vmap(lambda dy: pull((dy, None))[0])(np.eye(3))
    np.testing.assert_allclose(rows, np.diag(2 * X))


# --- matrices --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Affine:
    w: Any
    b: Any

    def __call__(self, x: Any) -> Any:
        return self.w @ x + self.b


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_jacobians(how: str) -> None:
    def run(function: Callable[..., Any], *args: Any) -> Any:
        return kn.compile(lambda *args: function(*args))(*args) if how == "compiled" else function(*args)

    m = np.arange(6.0).reshape(2, 3)
    x = kn.array(X)
    np.testing.assert_allclose(run(kn.jacobian(lambda x: kn.array(m) @ kn.tanh(x)), x), m * (1 - np.tanh(X) ** 2))
    wide = run(kn.jacobian(lambda x: kn.concat([x, x**2, kn.outer(x, x).ravel()])), x)
    rows = [np.eye(3), np.diag(2 * X), *(np.outer(e, X) + np.outer(X, e) for e in np.eye(3))]
    expected = np.concatenate([*rows[:2], np.stack(rows[2:], -1).reshape(9, 3)])
    np.testing.assert_allclose(wide, expected)
    d = run(
        kn.jacobian(lambda model, x: {"y": model(x), "n": kn.argmax(x)}, (0, 1)), Affine(kn.array(m), kn.ones(2)), x
    )
    assert d["n"] == (Affine(None, None), None)
    by_model, by_x = d["y"]
    np.testing.assert_allclose(by_x, m)
    np.testing.assert_allclose(by_model.b, np.eye(2))
    np.testing.assert_allclose(by_model.w, np.einsum("ij,k->ijk", np.eye(2), X))
    assert run(kn.jacobian(lambda x: kn.zeros((2, 2))), x).tolist() == np.zeros((2, 2, 3)).tolist()
    assert run(kn.jacobian(lambda x: kn.outer(x, x)), kn.array(m[:1].ravel()[:0])).shape == (0, 0, 0)


def test_hessians() -> None:
    def f(x: Any) -> Any:
        return kn.sum(x[0] * kn.sin(x[1]) * x[2]) + kn.sum(x**3)

    h = np.asarray(kn.hessian(f)(kn.array(X)))
    a, b, c = X
    off = np.array([[0, c * np.cos(b), np.sin(b)], [0, 0, a * np.cos(b)], [0, 0, 0]])
    np.testing.assert_allclose(h, off + off.T + np.diag([0, -a * c * np.sin(b), 0]) + np.diag(6 * X))
    np.testing.assert_allclose(kn.compile(lambda x: kn.hessian(f)(x))(kn.array(X)), h)
    assert numbers(kn.hessian(kn.sum)(kn.array(X))) == np.zeros((3, 3)).tolist()
    both = kn.hessian(lambda p, k: kn.sum(p["a"] * p["b"]) * k, (0, 1))({"a": X, "b": 2 * X}, 3.0)
    np.testing.assert_allclose(both[0]["a"][0]["b"], 3 * np.eye(3))
    np.testing.assert_allclose(both[1][0]["a"], 2 * X)
    assert numbers(both[1][1]) == 0
    third = kn.jacobian(kn.hessian(lambda x: kn.sum(x**4)))(kn.array(X))
    np.testing.assert_allclose(np.einsum("iii->i", np.asarray(third)), 24 * X)
    each = kn.vmap(kn.hessian(f))(kn.array(np.stack([X, 2 * X])))
    np.testing.assert_allclose(each[1], kn.hessian(f)(kn.array(2 * X)))
    with pytest.raises(kn.DifferentiationError, match=r"f64\[3\].*mean or sum"):
        kn.hessian(lambda x: x)(kn.array(X))
    with pytest.raises(kn.DifferentiationError, match="one floating-point scalar"):
        kn.hessian(lambda x: (kn.sum(x), kn.sum(x)))(kn.array(X))
    with pytest.raises(TypeError, match="argument 3 was asked for"):
        kn.jacobian(f, 3)(kn.array(X))
    with pytest.raises(TypeError, match="jacobian takes a function"):
        kn.jacobian(f, "x")  # type: ignore[arg-type]


def test_the_smaller_side_is_batched() -> None:
    """One result of many arguments takes one row; many results of one argument one column."""

    def largest(f: Callable[..., Any], x: Any) -> int:
        found = kn.jacobian(f)(kn.array(x))
        return max(node.type.size for node in topological([node_of(found)]))

    assert largest(lambda x: kn.sum(kn.sin(x)), np.ones(50)) <= 50
    assert largest(lambda x: kn.sin(x * kn.ones(50)), np.float64(1)) <= 50


def test_control_flow_of_python_sees_numbers() -> None:
    def f(x: Any) -> Any:
        return x * 2 if x.sum() > 0 else x * 3

    assert numbers(kn.jvp(f, (np.ones(2),), (np.ones(2),))[1]) == [2, 2]
    np.testing.assert_allclose(kn.jacobian(f)(kn.array(-np.ones(2))), 3 * np.eye(2))
    np.testing.assert_allclose(kn.vjp(f, -np.ones(2))[1](np.ones(2))[0], [3, 3])
