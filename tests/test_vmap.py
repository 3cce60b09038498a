"""vmap: every operation for many elements at once, against the same operation on each of them."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
import pytest
from optable import Case, cases
from test_ops import _OPS as OPS

import knetc as kn
from knetc.arrays import node_of
from knetc.ir.build import input_node, trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Node, topological
from knetc.ir.op import Kind, Op
from knetc.ir.record import Recorder, recording
from knetc.ir.types import TensorType
from knetc.passes.batch import Batch, Value

SIZE = 3


def numbers(x: Any) -> Any:
    return np.asarray(x).tolist()


# --- every operation -------------------------------------------------------------------------------------------------


def batched_graph(case: Case, chosen: tuple[bool, ...]) -> Callable[..., Node]:
    """The case for several elements; ``chosen`` tells which sources hold one for each."""

    def function(*nodes: Node) -> Node:
        with recording(Recorder()) as inner:
            ones = [input_node(inner, k, t) for k, t in enumerate(case.types)]
            result = case.apply(*ones)
        known = {one: Value(node, c) for one, node, c in zip(ones, nodes, chosen)}
        batch = Batch(inner, SIZE, known)
        [value] = batch.values([result])
        return batch.spread(result, value)

    return function


def check_case(case: Case) -> None:
    count = len(case.types)
    several = [chosen for chosen in itertools.product((False, True), repeat=count) if any(chosen)]
    if case.op.name == "after":  # what comes before has no elements
        several = [(True, *[False] * (count - 1))]
    first = case.inputs()
    rows = [[np.roll(a, k) for a in first] for k in range(SIZE)]
    for chosen in several:
        inputs = [np.stack([row[k] for row in rows]) if c else first[k] for k, c in enumerate(chosen)]
        types = [TensorType(a.dtype, a.shape) for a in inputs]
        [found] = interpret(trace_function(batched_graph(case, chosen), *types), inputs)
        each = [[a[i] if c else a for a, c in zip(inputs, chosen)] for i in range(SIZE)]
        expected = np.stack([case.reference(arrays) for arrays in each])
        assert found.dtype == expected.dtype
        compare = [a.astype(np.float64) for a in (found, expected)]
        np.testing.assert_allclose(*compare, rtol=1e-5, atol=1e-6, err_msg=f"{case} {chosen}")


WRITTEN_LATER = ("window", "placed")
"""What programs for several places of a slice are written with, after all transformations."""

RECORDED = [op for op in OPS if op.kind not in (Kind.LEAF, Kind.GROUP) and op.name not in WRITTEN_LATER]


@pytest.mark.parametrize("op", RECORDED, ids=lambda op: op.name)
def test_each_operation(op: Op) -> None:
    tried = [case for case in cases(op) if case.spread is None]
    for case in tried[:: 1 if op.kind is not Kind.ELEMENTWISE else 5]:
        check_case(case)


# --- functions -------------------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(5)
A, B, M = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(2, 3))

FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "softmax": (lambda x: kn.softmax(x), 1),
    "loops of Python": (lambda x: kn.stack([x[k] * k for k in range(3)] + [kn.sum(x)]), 1),
    "matrices from outside": (lambda x: kn.array(M) @ x, 1),
    "vectors": (lambda x, y: x @ y, 2),
    "outer": (lambda x, y: kn.outer(x, y) @ kn.array(M).T, 2),
    "indices": (lambda x, y: x[kn.argmax(y)] + x[::-1][1:].sum() + x[[0, 0, 2]], 2),
    "labels": (lambda x: kn.nll(kn.expand_dims(x, 0), kn.array([1])), 1),
    "einsum": (lambda x, y: kn.einsum("i,j,i->j", x, y, x), 2),
    "linear algebra": (lambda x: kn.solve(kn.outer(x, x) + kn.eye(3, dtype="float64"), x), 1),
    "factors": (lambda x: kn.abs(kn.qr(kn.outer(x, x) + kn.eye(3, dtype="float64")).R), 1),
    "gradients": (kn.grad(lambda x: kn.prod(x) + kn.logdet(kn.outer(x, x) + kn.eye(3, dtype="float64"))), 1),
    "constants": (lambda x: kn.arange(3) * 2.0, 1),
    "numbers": (lambda x: 3.0, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_functions(name: str, how: str) -> None:
    function, count = FUNCTIONS[name]
    args = [kn.array(a) for a in (A, B)[:count]]
    whole = kn.compile(lambda *args: kn.vmap(function)(*args)) if how == "compiled" else kn.vmap(function)
    expected = np.stack([np.asarray(function(*(a[k] for a in args))) for k in range(4)])
    np.testing.assert_allclose(np.asarray(whole(*args)), expected, rtol=1e-10, atol=1e-12)


def test_axes() -> None:
    x, y = kn.array(A), kn.array(M)
    first = kn.vmap(lambda a, b: {"s": a + b, "p": (a * b, kn.sum(b))}, in_axes=(1, 1), out_axes={"s": 1, "p": (0, 0)})
    found = first(x[:2], y)
    np.testing.assert_allclose(found["s"], A[:2] + M)
    np.testing.assert_allclose(found["p"][0], (A[:2] * M).T)
    np.testing.assert_allclose(found["p"][1], M.sum(0))
    assert kn.vmap(lambda a, b: (a, b), (None, 0), (None, -1))(x, y)[0].shape == (4, 3)
    assert kn.vmap(lambda a, b: (a, b), (None, 0), (None, -1))(x, y)[1].shape == (3, 2)
    nested = kn.vmap(kn.vmap(lambda a, b: a * b, (0, None)), (None, 0))
    np.testing.assert_allclose(nested(x[0], y[:, 0]), np.outer(M[:, 0], A[0]))
    shared = kn.vmap(lambda p, k, a: p["w"] @ a + p["b"] * k, in_axes=({"w": None, "b": 0}, None, 0))
    np.testing.assert_allclose(shared({"w": y, "b": kn.ones(4)}, 2, x), A @ M.T + 2)
    assert kn.vmap(lambda a, scale=1: a * scale)(np.ones(3), scale=3).tolist() == [3, 3, 3]


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Record:
    x: Any
    name: str


def test_containers() -> None:
    def f(pair: Pair, record: Record) -> Any:
        assert record.name == "n" and pair.a.shape == ()
        return Pair(pair.a + record.x, None), dataclasses.replace(record, x=record.x * 2)

    pair, record = kn.vmap(f, in_axes=(0, 0))(Pair(kn.arange(3), "text"), Record(np.arange(3), "n"))
    assert numbers(pair.a) == [0, 2, 4] and pair.b is None
    assert numbers(record.x) == [0, 2, 4] and record.name == "n"


def test_params_and_gradients() -> None:
    w = kn.Param(M)
    tape = kn.diff(lambda: kn.sum(kn.vmap(lambda a: kn.tanh(w @ a) ** 2)(kn.array(A))))
    y = np.tanh(A @ M.T)
    expected = (2 * y * (1 - y**2)).T @ A
    np.testing.assert_allclose(np.asarray(kn.grad(tape, w)), expected)
    each = kn.vmap(lambda a: kn.grad(kn.diff(lambda: kn.sum(kn.tanh(w @ a) ** 2)), w))(kn.array(A))
    np.testing.assert_allclose(np.asarray(each).sum(0), expected)
    per_row = kn.vmap(lambda row: kn.sum(row) * 2)(w)
    np.testing.assert_allclose(np.asarray(per_row), M.sum(1) * 2)

    @kn.compile
    def step(x: Any) -> Any:
        tape = kn.diff(lambda: kn.sum(kn.vmap(lambda a: kn.sum(w @ a))(x)))
        w[...] = w - 0.1 * kn.grad(tape, w)
        return kn.value(tape)

    assert float(step(kn.array(A))) == pytest.approx((A @ M.T).sum())
    np.testing.assert_allclose(np.asarray(w), M - 0.1 * A.sum(0))


def test_random_numbers_differ_for_each_element() -> None:
    def draw(x: Any) -> Any:
        return kn.rand(3) + x, kn.dropout(kn.ones(50), 0.5, training=True)

    kn.seed(3)
    a, mask = kn.vmap(draw)(kn.zeros(4))
    assert len({tuple(row) for row in numbers(a)}) == 4
    assert len({tuple(row) for row in numbers(mask)}) == 4
    assert 0.3 < np.mean(np.asarray(mask) > 0) < 0.7
    after = numbers(kn.rand(3))
    kn.seed(3)
    again, _ = kn.compile(lambda x: kn.vmap(draw)(x))(kn.zeros(4))
    assert numbers(again) == numbers(a)
    assert numbers(kn.rand(3)) == after
    two = kn.vmap(lambda x: kn.vmap(lambda y: kn.rand())(kn.zeros(5)))(kn.zeros(6))
    assert len(set(np.asarray(two).ravel().tolist())) == 30


def test_primitives_and_host_functions() -> None:
    @kn.primitive(lambda dy, y, x, p: dy * p * x, lambda dy, y, x, p: kn.sum(dy * y), host=True)
    def scaled(x: np.ndarray, p: np.ndarray) -> np.ndarray:
        assert x.ndim == 1
        return np.asarray(x * p)

    p = kn.Param(np.array(2.0))
    x = kn.array(A)
    tape = kn.diff(lambda x: kn.sum(kn.vmap(lambda row: scaled(row, p))(x)), x)
    assert float(kn.value(tape)) == pytest.approx(2 * A.sum())
    np.testing.assert_allclose(np.asarray(kn.grad(tape, x)), 2 * A)
    assert float(kn.grad(tape, p)) == pytest.approx(2 * A.sum())
    np.testing.assert_allclose(np.asarray(kn.vmap(kn.grad(lambda row: kn.sum(scaled(row, p))))(x)), 2 * A)

    @kn.primitive(lambda dy, y, x: dy[0] * y[1] + dy[1], host=True)
    def both(x: np.ndarray) -> Any:
        return np.sin(x), np.cos(x)

    gradient = kn.grad(lambda x: kn.sum(kn.vmap(lambda row: both(row)[0] + both(row)[1])(x)))(x)
    np.testing.assert_allclose(np.asarray(gradient), np.cos(A) + 1)
    np.testing.assert_allclose(
        np.asarray(kn.grad(lambda x: kn.sum(kn.vmap(kn.vmap(lambda v: both(v)[0]))(x)))(x)), np.cos(A)
    )


def test_checks_are_kept() -> None:
    table = kn.array(A)
    with pytest.raises(kn.LabelError, match="index 9"):
        np.asarray(kn.vmap(lambda i: kn.take(table, i, axis=0))(kn.array([0, 9])))
    with pytest.raises(kn.LabelError, match="index 9"):
        kn.compile(lambda i: kn.vmap(lambda i: kn.take(table, i, axis=0))(i))(kn.array([0, 9]))


def test_one_matrix_for_all_is_one_product() -> None:
    graphs = []

    def look(x: Any) -> Any:
        y = kn.vmap(lambda a: kn.array(M) @ a)(x)
        graphs.append([n.op.name for n in topological([node_of(y)])])
        return y

    kn.compile(look)(kn.array(A))
    assert graphs[-1].count("matmul") == 1 and "broadcast" not in graphs[-1]


def test_errors_teach() -> None:
    x = kn.array(A)
    with pytest.raises(kn.ShapeError, match="argument 0 has 4 elements along its axis, argument 1 has 2"):
        kn.vmap(lambda a, b: a)(x, kn.array(M))
    with pytest.raises(TypeError, match=r"in_axes has 1 items, but .* 2 arguments"):
        kn.vmap(lambda a, b: a, in_axes=(0,))(x, x)
    with pytest.raises(kn.ShapeError, match="in_axes is None if all share it"):
        kn.vmap(lambda a, b: a)(x, kn.array(1.0))
    with pytest.raises(kn.ShapeError, match="no argument has an axis"):
        kn.vmap(lambda a: a)(3.0)
    with pytest.raises(kn.ShapeError, match="there is no axis 5"):
        kn.vmap(lambda a: a, in_axes=5)(x)
    with pytest.raises(TypeError, match="give it an axis"):
        kn.vmap(lambda a: a, out_axes=None)(x)
    with pytest.raises(TypeError, match="they must be of one form"):
        kn.vmap(lambda a: a, in_axes=([0, 0],))((x, x))
    with pytest.raises(kn.TraceError, match=r"(?s)a branch.*test_vmap.*under vmap.*kn.where"):
        kn.vmap(lambda a: a if a.sum() > 0 else -a)(x)
    w = kn.Param([1.0])

    def assigns(a: Any) -> Any:
        w[...] = a[:1]
        return a

    with pytest.raises(kn.TraceError, match=r"assigns to an array or Param .* from outside"):
        kn.vmap(assigns)(x)
    kept = []
    kn.vmap(lambda a: kept.append(a) or a)(x)
    with pytest.raises(kn.TraceError):
        np.asarray(kept[0])
    with pytest.raises(kn.TraceError):
        kept[0] + 1


def test_nothing_of_a_call_is_kept() -> None:
    eyes = kn.array(np.stack([np.eye(3)] * 2))
    gc.collect()
    gc.disable()
    try:
        for function in (kn.vmap(kn.inv), kn.vmap(lambda a: kn.qr(a).R), kn.jacobian(lambda a: kn.inv(a)[0])):
            made = function(eyes)
            kept = ref(node_of(made))
            float(kn.sum(made))
            del made
            assert kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("transform", [kn.vmap, kn.jacobian, kn.checkpoint], ids=lambda t: t.__name__)
def test_compiled_functions_inside_and_outside(transform: Callable[..., Any]) -> None:
    w = kn.Param(M)

    def f(x: Any) -> Any:
        return kn.tanh(w @ x)

    x = kn.array(A if transform is kn.vmap else A[0])
    whole, part, both = kn.compile(transform(f)), transform(kn.compile(f)), kn.compile(transform(kn.compile(f)))
    assert whole.__name__ == part.__name__ == "f"
    for scale in (1.0, 2.0):
        w[...] = w * scale  # read at each call
        expected = np.asarray(transform(f)(x))
        for function in (whole, part, both):
            np.testing.assert_allclose(np.asarray(function(x)), expected, rtol=1e-12)
