"""Functions written with the operations of the table: values against NumPy, gradients, Knet's numbers, errors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import compiled
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, LabelError, ShapeError, UnsupportedError
from optable import check_gradient

from knetc.ir.ambient import setting
from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind
from knetc.ir.record import Recorder, recording
from knetc.ir.types import TensorType
from knetc.ops import (
    activations,
    arithmetic,
    contraction,
    identities,
    indexed,
    indexing,
    joining,
    linear,
    logic,
    losses,
    movement,
    padding,
    reduction,
    transcendental,
)
from knetc.ops import random as draws
from knetc.ops.apply import constant
from knetc.passes.differentiate import gradients

Function = Callable[..., Any]


def types_of(arrays: tuple[Any, ...]) -> list[TensorType]:
    return [TensorType(np.asarray(a).dtype, np.asarray(a).shape) for a in arrays]


def run(function: Function, *arrays: Any) -> Any:
    """What a function gives for arrays, by the interpreter and by compiled code, which agree: one value or several."""
    graph, inputs = trace_function(function, *types_of(arrays)), [np.asarray(a) for a in arrays]
    try:
        values = interpret(graph, inputs)
    except LabelError as error:
        with pytest.raises(LabelError, match=re.escape(str(error).splitlines()[0])):  # the user's line follows
            compiled.run(graph, inputs)
        raise
    for value, found in zip(values, compiled.run(graph, inputs), strict=True):
        assert found.dtype == value.dtype
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-11)
    return values[0] if len(values) == 1 else values


def slopes(function: Function, *arrays: Any) -> Any:
    """The gradients of a scalar function."""

    def both(*nodes: Node) -> list[Node]:
        found = gradients(function(*nodes), nodes)
        return [constant(0, n.dtype, n.shape) if g is None else g for g, n in zip(found, nodes)]

    return run(both, *arrays)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# --- values and gradients of smooth functions ------------------------------------------------------------------------


def softmax(x: np.ndarray, axis: Any = None) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def logsumexp(x: np.ndarray, axis: Any = None) -> np.ndarray:
    return np.log(np.exp(x).sum(axis))


def layernorm(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w + b


def rmsnorm(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w


def arithmetic_of(x: Any, y: Any) -> Any:
    return -(x + 2) * (1 - y) / (y * y + 1) - abs(x)


erf = np.vectorize(math.erf)
X, Y = normal(3, 4), normal(3, 4, seed=1)

SMOOTH: dict[str, tuple[Function, Function, tuple[np.ndarray, ...]]] = {
    "relu": (activations.relu, lambda x: np.maximum(x, 0), (X,)),
    "leaky_relu": (lambda x: activations.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x), (X,)),
    "elu": (activations.elu, lambda x: np.where(x > 0, x, np.expm1(x)), (X,)),
    "elu_alpha": (lambda x: activations.elu(x, 0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)), (X,)),
    "silu": (activations.silu, lambda x: x / (1 + np.exp(-x)), (X,)),
    "gelu": (activations.gelu, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2, (X,)),
    "gelu_tanh": (
        lambda x: activations.gelu(x, approximate="tanh"),
        lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        (X,),
    ),
    "softmax": (activations.softmax, softmax, (X,)),
    "softmax_last": (lambda x: activations.softmax(x, -1), lambda x: softmax(x, -1), (X,)),
    "logsoftmax": (lambda x: activations.logsoftmax(x, 0), lambda x: np.log(softmax(x, 0)), (X,)),
    "logsumexp": (lambda x: activations.logsumexp(x, (0,)), lambda x: logsumexp(x, 0), (X,)),
    "layernorm": (activations.layernorm, layernorm, (X, normal(4), normal(4, seed=2))),
    "rmsnorm": (activations.rmsnorm, rmsnorm, (X, normal(4))),
    "mean": (lambda x: reduction.mean(x, 1), lambda x: x.mean(1), (X,)),
    "var": (lambda x: reduction.var(x, 0, correction=1), lambda x: x.var(0, ddof=1), (X,)),
    "std": (lambda x: reduction.std(x, keepdims=True), lambda x: x.std(keepdims=True), (X,)),
    "max_keepdims": (lambda x: reduction.max(x, -1, keepdims=True), lambda x: x.max(-1, keepdims=True), (X,)),
    "prod_axes": (lambda x: reduction.prod(x, (0, 2)), lambda x: x.prod((0, 2)), (normal(2, 3, 4),)),
    "hypot": (transcendental.hypot, np.hypot, (X, Y)),
    "power": (lambda x: transcendental.power(x, 3), lambda x: x**3, (X,)),
    "power_scalar": (lambda x: transcendental.power(x * x, 1.7), lambda x: (x * x) ** 1.7, (X,)),
    "rpower": (lambda x: 2**x, lambda x: 2**x, (X,)),
    "clip": (lambda x: arithmetic.clip(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), (X,)),
    "operators": (arithmetic_of, arithmetic_of, (X, Y)),
    "matmul": (lambda a, b: a @ b, np.matmul, (normal(3, 4), normal(4, 2))),
    "matmul_stack": (linear.matmul, np.matmul, (normal(2, 3, 4), normal(4, 2))),
    "matmul_batch": (linear.matmul, np.matmul, (normal(2, 1, 3, 4), normal(5, 4, 2))),
    "matmul_vector": (linear.matmul, np.matmul, (normal(2, 3, 4), normal(4))),
    "vector_matmul": (linear.matmul, np.matmul, (normal(3), normal(2, 3, 4))),
    "inner": (linear.matmul, np.matmul, (normal(4), normal(4, seed=1))),
    "outer": (linear.outer, np.outer, (normal(3), normal(2))),
    "vecdot": (linear.vecdot, lambda a, b: (a * b).sum(-1), (X, normal(4))),
    "tensordot": (
        lambda a, b: contraction.tensordot(a, b, ([1, 0], [0, 2])),
        lambda a, b: np.tensordot(a, b, ([1, 0], [0, 2])),
        (normal(2, 3, 4), normal(3, 5, 2)),
    ),
    "stack": (lambda x, y: joining.stack([x, y], 1), lambda x, y: np.stack([x, y], 1), (X, Y)),
    "concat": (lambda x, y: joining.concat([x, y], -1), lambda x, y: np.concatenate([x, y], -1), (X, Y)),
    "concat_flat": (lambda x, y: joining.concat([x, y], None), lambda x, y: np.concatenate([x, y], None), (X, Y)),
    "split": (lambda x: joining.split(x, [1, 3], 1)[1], lambda x: np.split(x, [1, 3], 1)[1], (X,)),
    "moveaxis": (lambda x: movement.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), (normal(2, 3, 4),)),
    "transpose": (movement.permute_dims, np.transpose, (normal(2, 3, 4),)),
    "flip": (movement.flip, np.flip, (X,)),
    "pad": (
        lambda x: padding.pad(x, ((1, 0), (0, 2)), constant_values=3),
        lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=3),
        (X,),
    ),
    "expand_squeeze": (
        lambda x: movement.squeeze(movement.expand_dims(x, (0, -1)), 0),
        lambda x: x[..., None],
        (X,),
    ),
    "ravel": (movement.ravel, np.ravel, (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_values_and_gradients(name: str) -> None:
    function, reference, arrays = SMOOTH[name]
    close(run(function, *arrays), reference(*arrays))
    for order in (1, 2):
        check_gradient(function, arrays, order, name)
    slopes(lambda *nodes: reduction.sum(arithmetic.square(function(*nodes))), *arrays)  # interpreted = compiled


@pytest.mark.parametrize(
    "subscripts, shapes",
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]),
        ("bthd,bshd->bhts", [(2, 3, 2, 4), (2, 5, 2, 4)]),
        ("ij->ji", [(2, 3)]),
        ("ii->i", [(3, 3)]),
        ("ii", [(3, 3)]),
        ("ij->", [(2, 3)]),
        ("i,j->ij", [(2,), (3,)]),
        ("i,i", [(3,), (3,)]),
        ("ij,j,k->ik", [(2, 3), (3,), (4,)]),
        ("ij,jk,kl,lm->im", [(2, 3), (3, 4), (4, 5), (5, 2)]),
        ("ijk,k", [(2, 3, 4), (4,)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("a...,a...->...", [(3, 2, 2), (3, 1, 2)]),
    ],
)
def test_einsum(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [normal(*shape, seed=k) for k, shape in enumerate(shapes)]

    def function(*nodes: Node) -> Any:
        return contraction.einsum(subscripts, *nodes)

    close(run(function, *arrays), np.einsum(subscripts, *arrays))
    check_gradient(function, arrays, 1, subscripts)


@pytest.mark.parametrize("subscripts, shapes", [
    ("ij,jk->ik", [(2, 3), (4, 5)]), ("ij", [(2, 3, 4)]), ("ij->ik", [(2, 3)]), ("i,j", [(2,)]), ("ij->ii", [(2, 3)]),
])  # fmt: skip
def test_einsum_refuses(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(ShapeError, match="einsum"):
        run(lambda *nodes: contraction.einsum(subscripts, *nodes), *(np.ones(s) for s in shapes))


# --- numbers from Knet, and edges ------------------------------------------------------------------------------------


def test_activations_at_the_edges() -> None:
    edges = np.array([-np.inf, -1000.0, 0.0, 1000.0, np.inf])
    close(run(activations.relu, [-1.0, 0.0, np.nan]), [0, 0, np.nan])
    close(run(transcendental.sigmoid, edges), [0, 0, 0.5, 1, 1])
    close(run(transcendental.softplus, edges), [0, 0, math.log(2), 1000, np.inf])
    close(run(activations.elu, edges), [-1, -1, 0, 1000, np.inf])
    finite = np.array([-1000.0, 0.0, 1000.0])
    for function, expected in [
        (activations.relu, [0, 0, 1]),
        (activations.elu, [0, 1, 1]),
        (transcendental.softplus, [0, 0.5, 1]),
        (lambda x: activations.gelu(x, approximate="tanh"), [0, 0.5, 1]),
        (activations.gelu, [0, 0.5, 1]),
        (activations.silu, [0, 0.5, 1]),
        (lambda x: arithmetic.maximum(x, 0), [0, 0.5, 1]),
        (lambda x: arithmetic.clip(x, 0, 1000), [0, 1, 1]),
        (arithmetic.absolute, [-1, 0, 1]),
    ]:
        np.testing.assert_allclose(slopes(lambda x, f=function: reduction.sum(f(x)), finite), expected, atol=1e-12)


def test_softmax_family_at_the_edges() -> None:
    rows = np.array([[1000.0, 1000.0], [-np.inf, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]])
    close(run(lambda x: activations.logsumexp(x, 1), rows), [1000 + math.log(2), 0, -np.inf, np.inf])
    close(run(lambda x: activations.softmax(x, 1), rows[:2]), [[0.5, 0.5], [0, 1]])
    assert run(lambda x: activations.softmax(x), np.zeros((0, 3))).shape == (0, 3)


def test_knet_numbers() -> None:
    close(run(activations.logsumexp, [[1.0, 2.0], [3.0, 4.0]]), 4.440189698561196)
    close(run(lambda x: reduction.var(x, correction=1), [1.0, 2.0, 3.0, 4.0]), 5 / 3)
    assert run(lambda x: losses.bce(x, constant(0, dtypes.i64, (4,))), normal(4)).shape == ()
    scores = np.array([-1.0, 0.0, 1.0, 2.0])
    close(run(losses.bce, scores, [0, 1, 1, 0]), 0.8616496416598409)
    close(run(losses.logistic, scores, [-1, 1, 1, -1]), 0.8616496416598409)
    table = np.array([[12.2, 2.0, 0.0], [0.3, 21.5, -21.0]])
    np.testing.assert_allclose(run(losses.nll, table, [0, 1]), 2.1100252e-5, rtol=1e-7)
    total, count = run(lambda s, y: losses.nll(s, y, average=False), table, [-1, 1])
    np.testing.assert_allclose(total, 6.2080829e-10, rtol=1e-6)
    assert count == 1 and count.dtype == np.int64
    close(slopes(lambda x: reduction.prod(x), np.array([1.0, 2.0, 3.0, 4.0])), [24, 12, 8, 6])
    close(slopes(lambda x: reduction.prod(x), np.array([0.0, 2.0, 3.0])), [6, 0, 0])
    close(slopes(lambda x: reduction.max(x), np.array([1.0, 3.0, 3.0])), [0, 0.5, 0.5])


# --- losses ----------------------------------------------------------------------------------------------------------


def nll_reference(scores: np.ndarray, labels: np.ndarray) -> float:
    picked = [-math.log(softmax(row)[k]) for row, k in zip(scores, labels) if k >= 0]
    return sum(picked) / len(picked) if picked else 0.0


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_nll(n: int, classes: int, seed: int) -> None:
    scores = normal(n, classes, seed=seed)
    labels = np.random.default_rng(seed).integers(-2, classes, n)
    close(run(losses.nll, scores, labels), nll_reference(scores, labels))
    close(run(lambda s, y: losses.nll(s, y, axis=0), scores.T, labels), nll_reference(scores, labels))
    check_gradient(lambda s: losses.nll(s, _fixed(labels)), [scores], 1, "nll")
    close(
        run(losses.accuracy, scores, labels),
        ((scores.argmax(1) == labels) & (labels >= 0)).sum() / max((labels >= 0).sum(), 1),
    )


def _fixed(values: np.ndarray) -> Node:
    """An integer vector as a node, element by element."""
    return joining.stack([constant(int(v), dtypes.i64) for v in values])  # type: ignore[no-any-return]


def test_nll_all_skipped() -> None:
    scores = normal(3, 4)
    assert run(losses.nll, scores, [-1, -5, -1]) == 0
    assert not slopes(lambda s: losses.nll(s, _fixed(np.array([-1, -1, -1]))), scores).any()
    assert run(losses.accuracy, scores, [-1, -1, -1]) == 0


def test_nll_errors() -> None:
    scores = normal(3, 4)
    with pytest.raises(LabelError, match="label 4 is out of range for 4 classes"):
        run(losses.nll, scores, [0, 4, 1])
    with pytest.raises(IndexError):
        run(losses.accuracy, scores, [0, 4, 1])
    with pytest.raises(ShapeError, match=r"need labels of shape \(3,\), not \(4,\)"):
        run(losses.nll, scores, [0, 1, 2, 3])
    with pytest.raises(DtypeError, match="labels are integers"):
        run(losses.nll, scores, [0.0, 1.0, 2.0])


# --- indexing --------------------------------------------------------------------------------------------------------

I, J = np.array([2, 0, -1]), np.array([[1], [2]])

KEYS: list[Any] = [
    0, -1, (0, 1), (slice(None), 2), slice(1, None), slice(None, None, -1), (slice(None, None, 2), slice(3, 0, -2)),
    None, (None, 1), (..., 0), (slice(None), None, 1), (0, ..., None), (..., slice(1, 1)), (), Ellipsis,
    I, (I, 1), (slice(None), I), (I, I), (J, I), (0, I), (I, None, I), (slice(1, 3), I, slice(None, None, 2)),
    (0, slice(None), I), (I, slice(None), I), (I, ..., I), (None, J), (slice(None), [1, 0]), (np.int64(1), np.array(2)),
]  # fmt: skip


def _names(key: Any) -> str:
    return repr(key).replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("key", KEYS, ids=_names)
def test_indexing_reads_as_numpy_does(key: Any) -> None:
    x = normal(3, 4, 5)

    def function(node: Node) -> Any:
        return indexing.index(node, _with_nodes(key))

    close(run(function, x), x[key])
    for order in (1, 2):
        check_gradient(function, [x], order, _names(key))


@pytest.mark.parametrize("key", KEYS, ids=_names)
def test_indexing_writes_as_numpy_does(key: Any) -> None:
    x, value = normal(3, 4, 5), normal(*normal(3, 4, 5)[key].shape)
    for new in (value, value[:1] if value.ndim else value):
        expected = x.copy()
        expected[key] = new

        def function(node: Node, v: Node) -> Any:
            return indexing.index_update(node, _with_nodes(key), v)

        close(run(function, x, new), expected)
        check_gradient(function, [x, new], 1, _names(key))
    expected = x.copy()
    expected[key] = 2
    close(run(lambda node: indexing.index_update(node, _with_nodes(key), 2), x), expected)


def _with_nodes(key: Any) -> Any:
    """A key whose arrays are nodes."""
    if isinstance(key, tuple):
        return tuple(map(_with_nodes, key))
    if isinstance(key, list):
        key = np.array(key)
    return movement.reshape(_fixed(key.ravel()), key.shape) if isinstance(key, np.ndarray) else key


@pytest.mark.parametrize("value", [2.0, np.arange(4.0)])
def test_a_mask_takes_one_value(value: Any) -> None:
    x = normal(3, 4)
    for mask in (x > 0, np.array([True, False, True])):
        if mask.ndim < 2 or np.ndim(value) == 0:
            expected = x.copy()
            expected[mask] = value
            close(run(indexing.index_update, x, mask, np.asarray(value)), expected)
    with pytest.raises(IndexError, match="mask"):
        run(lambda a, m: indexing.index_update(a, m, 1), x, np.ones(4, bool))


def test_the_last_of_several_writes_counts_and_takes_the_gradient() -> None:
    x, v = normal(4), np.array([1.0, 2.0, 3.0])
    places = np.array([1, 1, 3])
    close(run(lambda a, b: indexing.index_update(a, _fixed(places), b), x, v), [x[0], 2, x[2], 3])
    dx, dv = slopes(lambda a, b: reduction.sum(indexing.index_update(a, _fixed(places), b)), x, v)
    close(dx, [1, 0, 1, 0])
    close(dv, [0, 1, 1])


def test_repeated_reads_add_up_their_gradients() -> None:
    close(slopes(lambda x: reduction.sum(indexing.index(x, _fixed(np.array([1, 1])))), normal(3)), [0, 2, 0])


def test_indexing_errors() -> None:
    x = normal(3, 4)
    for key in (3, (0, -5), (0, 0, 0), (..., 0, ...)):
        with pytest.raises(IndexError):
            run(lambda n, k=key: indexing.index(n, k), x)
    with pytest.raises(IndexError, match="index 3 is out of range for axis 0 of extent 3"):
        run(indexing.index, x, np.array([0, 3]))
    with pytest.raises(UnsupportedError, match="where"):
        run(indexing.index, x, np.array([True, False, True]))
    with pytest.raises(IndexError, match="holds integers"):
        run(indexing.index, x, np.array([0.0]))
    with pytest.raises(ShapeError, match="cannot be written"):
        run(lambda n, v: indexing.index_update(n, 0, v), x, np.zeros(3))


def test_take_and_embedding() -> None:
    x = normal(3, 4, 5)
    for axis in (0, 1, -1, None):
        close(run(lambda a, i, k=axis: indexed.take(a, i, axis=k), x, J), np.take(x, J, axis))
    close(run(indexed.embedding, normal(7, 2), J), normal(7, 2)[J])
    places = np.argsort(x, axis=1)[:, :2]
    close(run(lambda a, i: indexed.take_along_axis(a, i, 1), x, places), np.take_along_axis(x, places, 1))
    check_gradient(lambda a: indexed.take_along_axis(a, reduction.argmax(a, 1, keepdims=True), 1), [x], 1, "along")


# --- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function, sources, expected", [
    (lambda a: a + 1, "f32", "f32"), (lambda a: a + 1.5, "i32", "f32"), (lambda a: a + True, "i32", "i32"),
    (lambda a: a + 1, "bool", "i64"), (lambda a, b: a + b, "i32 i64", "i64"), (lambda a, b: a * b, "i64 f32", "f64"),
    (lambda a, b: a + b, "bool bool", "bool"), (transcendental.exp, "i64", "f32"), (lambda a: a / 2, "i32", "f32"),
    (reduction.sum, "bool", "i64"), (reduction.sum, "i32", "i64"), (reduction.sum, "f32", "f32"),
    (reduction.mean, "i32", "f32"), (reduction.max, "bool", "bool"), (reduction.argmax, "f64", "i64"),
    (reduction.any, "f32", "bool"), (lambda a: a // 2, "i32", "i32"), (lambda a: a**2, "i32", "i32"),
    (lambda a: a**0.5, "i32", "f32"), (lambda a: logic.where(a, 1.0, 2), "bool", "f32"),
    (lambda a, b: logic.where(a > 0, a, b), "f32 f64", "f64"), (activations.softmax, "i64", "f32"),
    (arithmetic.floor, "i32", "i32"), (lambda a: a < 1, "f32", "bool"), (lambda a: a == a, "f32", None),
])  # fmt: skip
def test_result_dtypes(function: Function, sources: str, expected: str | None) -> None:
    types = [TensorType(dtypes.from_short_name(name), (3,)) for name in sources.split()]
    if expected is None:  # == of graph values is identity
        with recording(Recorder()):
            assert function(constant(1, dtypes.f32)) is True
        return
    [result] = trace_function(function, *types).outputs
    assert result.dtype == dtypes.from_short_name(expected)


def test_the_default_dtype_is_ambient() -> None:
    with setting(dtype=dtypes.f64):
        assert trace_function(transcendental.exp, TensorType(dtypes.i64, ())).outputs[0].dtype == dtypes.f64


@pytest.mark.parametrize("function, sources, error, text", [
    (lambda a: -a, "bool", DtypeError, "negative takes floating-point or integer arrays, not bool"),
    (lambda a: a - a, "bool", DtypeError, "cast first"),
    (lambda a: ~a, "f32", DtypeError, "invert takes integer or bool"),
    (lambda a: a ** -1, "i32", DtypeError, "negative power"),
    (lambda a: a @ a, "bool", DtypeError, "matmul"),
    (lambda a: reduction.sum(a, 1), "f32", ShapeError, "there is no axis 1"),
    (lambda a: reduction.sum(a, (0, -1)), "f32", ShapeError, "twice"),
    (lambda a: movement.reshape(a, (2, -1)), "f32", ShapeError, "do not fit"),
    (lambda a: linear.matmul(a, 2.0), "f32", ShapeError, "multiply with"),
    (lambda a: joining.stack([a, movement.expand_dims(a, 0)]), "f32", ShapeError, "one shape"),
])  # fmt: skip
def test_errors_teach(function: Function, sources: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        trace_function(function, *(TensorType(dtypes.from_short_name(name), (3,)) for name in sources.split()))


def test_shape_errors_name_the_line() -> None:
    with pytest.raises(ShapeError, match=r"matmul: f32\[2,3\] @ f32\[2,3\].*transpose"):
        trace_function(lambda a: a @ a, TensorType(dtypes.f32, (2, 3)))


# --- integers and rounding -------------------------------------------------------------------------------------------


def test_integer_division_and_powers() -> None:
    a, b = np.array([7, -7, 7, -7, 0]), np.array([2, 2, -2, -2, 3])
    np.testing.assert_array_equal(run(lambda x, y: x // y, a, b), a // b)
    np.testing.assert_array_equal(run(lambda x, y: x % y, a, b), a % b)
    np.testing.assert_array_equal(run(lambda x: x // 0, a), np.zeros(5))
    np.testing.assert_array_equal(run(lambda x, y: x**y, np.array([2, -3, 5]), np.array([10, 3, 0])), [1024, -27, 1])
    np.testing.assert_array_equal(run(lambda x: arithmetic.round(x, 1), [0.25, 1.25]), [0.2, 1.2])


# --- random numbers --------------------------------------------------------------------------------------------------


class Counting(Recorder):
    """A recorder whose stream of random numbers begins at 1000."""

    def __init__(self) -> None:
        super().__init__()
        self.place = 1000

    def random_base(self, count: int) -> Node:
        self.place += count
        return constant(self.place - count, dtypes.i64)


def drawn(function: Callable[[], Node]) -> np.ndarray:
    with recording(Counting()):
        result = function()
    graph = Graph((), (result,))
    [values], [found] = interpret(graph, []), compiled.run(graph, [])
    np.testing.assert_allclose(found, values, rtol=2e-5, atol=1e-6)
    return values


def test_uniform_and_normal_numbers() -> None:
    for dtype in (dtypes.f32, dtypes.f64):
        u = drawn(lambda t=dtype: draws.uniform_node((100, 200), t))
        assert u.dtype == dtype and u.min() >= 0 and u.max() < 1
        assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.003
        assert len(np.unique(u)) > 19_900
        z = drawn(lambda t=dtype: draws.normal_node((100, 200), t))
        assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03 and np.isfinite(z).all()


def test_dropout() -> None:
    x = np.ones(10_000)
    with recording(Counting()):
        node = constant(1.0, dtypes.f64, (10_000,))
        y = draws.dropout(node, 0.25, training=True)
        assert draws.dropout(node, 0.25) is node
    values = interpret(Graph((), (y,)), [])[0]
    assert set(np.unique(values)) == {0.0, 1 / 0.75}
    assert abs((values == 0).mean() - 0.25) < 0.02
    with pytest.raises(ValueError, match="probability"):
        run(lambda n: draws.dropout(n, 1.0), x)


# --- cost ------------------------------------------------------------------------------------------------------------


def operations(function: Function, *types: TensorType) -> dict[str, int]:
    """How many elementwise operations and reductions a loss and its gradient take, constants and movement aside."""

    def both(*nodes: Node) -> list[Node]:
        value = function(*nodes)
        return [value, *[g for g in gradients(value, nodes) if g is not None]]

    found: dict[str, int] = {}
    for node in trace_function(both, *types).nodes:
        if node.op.kind in (Kind.ELEMENTWISE, Kind.REDUCTION) and node.type.size > 8:
            found[node.op.name] = found.get(node.op.name, 0) + 1
    return found


def test_the_gradient_of_nll_takes_few_operations() -> None:
    found = operations(lambda s, y: losses.nll(s, y), TensorType(dtypes.f32, (8, 10)), TensorType(dtypes.i64, (8,)))
    assert found["exp"] == 1
    assert sum(found.values()) <= 8, found


def test_stop_gradient_and_variables() -> None:
    close(slopes(lambda x: reduction.sum(x * identities.stop_gradient(x)), X), X)
    with recording(Recorder()):
        x = constant(1.0, dtypes.f64)
        assert identities.identity_variable(x, 0) is not identities.identity_variable(x, 1)
