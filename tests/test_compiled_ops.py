"""Compiled code once more: on older processors, after simplification, of composites, and when records are wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import compiled
import numpy as np
import pytest
from optable import cases, check

from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS
from knetc.ir.types import TensorType
from knetc.ops import activations, contraction, indexed, joining, losses, movement, padding, reduction
from knetc.ops.indexing import index
from knetc.ops.linear import swapped as transposed
from knetc.ops.logic import where
from knetc.passes.differentiate import gradients
from knetc.passes.simplify import simplify

_SAMPLE = ("exp", "tanh", "floor_divide", "mod", "power", "cast", "where", "sum", "argmax", "gather", "matmul", "pad")


def simplified(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """An executor: the graph is simplified first, as it is for users."""
    return compiled.run(simplify(graph), inputs)


@pytest.mark.parametrize("level", ["avx2", "generic"])
@pytest.mark.parametrize("name", _SAMPLE)
def test_other_processors(name: str, level: str) -> None:
    check(list(cases(OPS[name])), lambda graph, inputs: compiled.run(graph, inputs, level=level))


@pytest.mark.parametrize("name", _SAMPLE)
def test_simplified(name: str) -> None:
    check(list(cases(OPS[name])), simplified)


# --- functions written with the operations: their values and gradients fuse into few kernels -------------------------

_ROWS, _COLUMNS = 7, 37
_COMPOSITES: dict[str, Callable[..., Any]] = {
    "softmax": lambda x, y, k: activations.softmax(x, axis=-1),
    "logsoftmax": lambda x, y, k: activations.logsoftmax(x, axis=0),
    "logsumexp": lambda x, y, k: activations.logsumexp(x, axis=None),
    "layernorm": lambda x, y, k: activations.layernorm(x, index(y, 0), index(y, 1)),
    "rmsnorm": lambda x, y, k: activations.rmsnorm(x, index(y, 0)),
    "gelu": lambda x, y, k: activations.gelu(x * index(y, 0) + index(y, 1)),
    "selu": lambda x, y, k: activations.selu(x),
    "silu": lambda x, y, k: activations.silu(x),
    "leaky_relu": lambda x, y, k: activations.leaky_relu(x),
    "nll": lambda x, y, k: losses.nll(x, k),
    "logistic": lambda x, y, k: losses.logistic(index(x, (slice(None), 0)), where(k > 3, 1, -1)),
    "mean": lambda x, y, k: reduction.mean(x, axis=0, keepdims=True),
    "var": lambda x, y, k: reduction.var(x, axis=1),
    "std": lambda x, y, k: reduction.std(x),
    "einsum": lambda x, y, k: contraction.einsum("ij,kj->ik", x, y),
    "take": lambda x, y, k: indexed.take(y, k, axis=0),
    "flip": lambda x, y, k: movement.flip(x, axis=1) * x,
    "stack": lambda x, y, k: joining.stack([x, padding.pad(y, ((0, 0), (0, 0)))], axis=1),
    "split": lambda x, y, k: joining.split(x, [10, 20], axis=1)[1] @ transposed(joining.split(y, [10, 20], axis=1)[1]),
    "slices": lambda x, y, k: index(x, np.s_[1:, ::2]) * index(x, np.s_[:-1, 1:2]) - index(x, np.s_[-1:, :1]),
    "mlp": lambda x, y, k: losses.nll(
        activations.relu(x @ transposed(y) + index(y, np.s_[:, 0])) @ index(y, np.s_[:, :9]), k
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", _COMPOSITES)
def test_composites_and_their_gradients(name: str, dtype: type) -> None:
    function = _COMPOSITES[name]
    random = np.random.default_rng(1)
    x = random.normal(size=(_ROWS, _COLUMNS)).astype(dtype)
    y = random.normal(size=(_ROWS, _COLUMNS)).astype(dtype)
    labels = random.integers(0, 7, _ROWS).astype(np.int32)
    arrays = [x, y, labels]

    def value_and_slopes(*nodes: Node) -> list[Node]:
        value = function(*nodes)
        weights = movement.broadcast_to(
            index(nodes[0], np.s_[0, : value.shape[-1]] if value.shape else (0, 0)), value.shape
        )
        found = gradients(reduction.sum(value * weights), nodes[:2])
        return [value, *(g for g in found if g is not None)]

    types = [TensorType(a.dtype, a.shape) for a in arrays]
    graph = simplify(trace_function(value_and_slopes, *types))
    wide = simplify(
        trace_function(value_and_slopes, *(TensorType(np.dtype(np.float64), t.shape) for t in types[:2]), types[2])
    )
    exact = interpret(wide, [x.astype(np.float64), y.astype(np.float64), labels])
    own = interpret(graph, arrays)
    for result, expected, numpys in zip(compiled.run(graph, arrays), exact, own):
        assert result.dtype == dtype and result.shape == np.shape(expected)
        scale = np.abs(expected).max()
        allowed = 4 * np.abs(numpys - expected).max() + 16 * np.finfo(dtype).eps * scale
        assert np.abs(result - expected).max() <= allowed, name


# --- tests of the tests ----------------------------------------------------------------------------------------------


def test_wrong_code_is_caught() -> None:
    op = replace(OPS["sign"], emit=_sign_without_zero)
    with pytest.raises(AssertionError, match=r"elements are wrong|not equal"):
        check(list(cases(op)), compiled.run)


def _sign_without_zero(e: Any, x: Any) -> Any:
    return e.select(e.compare("lt", x, e.constant(0, x.dtype)), e.constant(-1, x.dtype), e.constant(1, x.dtype))


def test_inexact_code_is_caught() -> None:
    exp = OPS["exp"].emit
    assert exp is not None
    op = replace(OPS["exp"], emit=lambda e, x: e.mul(exp(e, x), e.constant(1 + 2.0**-20, x.dtype)))
    with pytest.raises(AssertionError, match="elements are wrong"):
        check(list(cases(op)), compiled.run)


def test_a_wrong_fold_is_caught() -> None:
    combine = OPS["max"].combine
    assert combine is not None
    op = replace(OPS["max"], combine=replace(combine, identity=lambda dtype: (0,)))
    with pytest.raises(AssertionError, match=r"elements are wrong|not equal"):
        check(list(cases(op)), compiled.run)
