"""Two ways to bring in what the compiler cannot see into: functions over NumPy arrays, and gradients by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.ir.record import record
from knetc.ir.types import Shape, TensorType
from knetc.ops import define
from knetc.ops.apply import reshape_node
from knetc.ops.movement import cut_node
from knetc.runtime.base import dtypes
from knetc.runtime.base import lapack as _lapack  # noqa: F401 (makes its functions known)
from knetc.runtime.base import sorting as _sorting  # noqa: F401
from knetc.runtime.base.host_functions import lookup

# --- host calls ------------------------------------------------------------------------------------------------------


def _infer_host(*types: TensorType, function: str, number: int, dtype: np.dtype, shape: Shape) -> TensorType:
    return TensorType(dtype, shape)


def _host_reference(*arrays: np.ndarray, function: str, number: int, dtype: np.dtype, shape: Shape) -> np.ndarray:
    found = lookup(function)
    if found.fills:
        result = np.empty(shape, dtype)
        found.call(*arrays, result)
        return result
    value = found.call(*arrays)
    if isinstance(value, tuple):
        value = np.concatenate([np.ravel(np.asarray(part)) for part in value])
    return np.asarray(value).astype(dtype, casting="same_kind", copy=False)


HOST = define.structural(
    "host",
    Kind.LIBRARY,
    _infer_host,
    reference=_host_reference,
    arity=-1,
    accepts="fib",
    samples=[
        define.case("f64[4,4]", function="lapack.inv", number=0, dtype=dtypes.f64, shape=(4, 4)),
        define.case("f32[2,3,3]", function="lapack.det", number=0, dtype=dtypes.f32, shape=(2,)),
        define.case("f64[3,2]", function="lapack.qr", number=0, dtype=dtypes.f64, shape=(10,)),
        define.case("f32[3,7]", function="sorting.sort", number=0, dtype=dtypes.f32, shape=(3, 7)),
        define.case("f64[3,7]", function="sorting.largest", number=0, dtype=dtypes.i64, shape=(3, 2)),
    ],
)
"""A call of a Python function over NumPy arrays, while the program runs. ``function`` is its name in
``runtime.base.host_functions``; calls with different numbers are never merged. Functions with several results have
them side by side, in one array of one axis."""


def host_call(function: str, sources: Sequence[Node], results: Sequence[TensorType], number: int = 0) -> list[Node]:
    """The results of a function over NumPy arrays; several ones are of one dtype."""
    if len(results) == 1:
        attributes = {"function": function, "number": number, "dtype": results[0].dtype, "shape": results[0].shape}
        return [record(HOST, tuple(sources), attributes)]
    places = [0]
    for result in results:
        places.append(places[-1] + result.size)
    attributes = {"function": function, "number": number, "dtype": results[0].dtype, "shape": (places[-1],)}
    packed = record(HOST, tuple(sources), attributes)
    return [
        reshape_node(cut_node(packed, 0, begin, end), result.shape)
        for result, (begin, end) in zip(results, pairwise(places))
    ]


# --- gradients by rule -----------------------------------------------------------------------------------------------

Rule = Callable[[Node, Node], Sequence[Any]]
"""``rule(node, dy)``, of a ``by_rule`` node: for each source but the first what it receives, or a function of no
arguments that makes it, called only where it is needed."""


def _infer_by_rule(value: TensorType, *sources: TensorType, rule: Rule) -> TensorType:
    return value


def _by_rule_gradient(node: Node, dy: Node) -> tuple[Any, ...]:
    return (None, *node["rule"](node, dy))


def _nothing(node: Node, dy: Node) -> Sequence[Any]:
    return ()


BY_RULE = define.structural(
    "by_rule",
    Kind.MOVEMENT,
    _infer_by_rule,
    reference=lambda value, *sources, rule: value.copy(),
    gradient=_by_rule_gradient,
    arity=-1,
    samples=[define.case("f64[3]", rule=_nothing)],
)
"""The first source's value, differentiated by a rule: what it receives goes to the other sources as the rule says, and
not into the computation of the value. Only differentiation sees it; graphs leave it out."""


def by_rule(value: Node, sources: Sequence[Node], rule: Rule) -> Node:
    """``value``, which was computed from ``sources``, with a gradient of its own."""
    return record(BY_RULE, (value, *sources), {"rule": rule})
