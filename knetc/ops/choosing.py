"""Choosing among arrays: by conditions, by numbers, by membership."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knetc.ir.node import Node
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    broadcast_shapes,
    cast_node,
    common_dtype,
    composite,
    constant,
    is_scalar,
    reshape_node,
    scalar_node,
    to_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.arithmetic import maximum, minimum
from knetc.ops.identities import check_range
from knetc.ops.indexed import bounded, gather
from knetc.ops.logic import equal, less_equal, logical_not, where
from knetc.ops.norms import norm
from knetc.ops.reduction import all, any
from knetc.ops.sorting import searchsorted, sort
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError

_FEW = 16
"""Values that each element is compared with; more are sorted, and searched."""


def select(conditions: Sequence[Operand], choices: Sequence[Operand], default: Operand = 0) -> Any:
    """For each element the choice of the first condition that holds there; ``default`` where none does.

    Conditions, choices and the default broadcast. Raises ShapeError unless there are as many choices as conditions.

    >>> select([x < 0, x > 1], [0.0, 1.0], x)  # [[0.5, 1, 1, 0]]
    """
    if len(conditions) != len(choices) or not conditions:
        raise ShapeError(f"select: {len(conditions)} conditions need as many choices, not {len(choices)}")
    result = default
    for condition, choice in zip(reversed(conditions), reversed(choices)):
        result = where(condition, choice, result)
    return result


def piecewise(x: Operand, conditions: Sequence[Operand], functions: Sequence[Any], *args: Any, **keywords: Any) -> Any:
    """Functions of ``x``, each where its condition holds: numbers, or callables given ``x`` (all of it) and the rest.

    Of several conditions that hold the last counts. One function more than there are conditions is for where none
    holds, which is otherwise 0. Every function is computed everywhere; where it is not chosen its value is dropped.

    >>> piecewise(x, [x < 0, x >= 0], [lambda v: -v, lambda v: v])  # [[0.5, 2, 1, 1]]
    """
    [node] = to_nodes(x)
    given = conditions if isinstance(conditions, (list, tuple)) else [conditions]
    if len(functions) not in (len(given), len(given) + 1):
        raise ShapeError(f"piecewise: {len(given)} conditions need as many functions or one more, not {len(functions)}")

    def value(function: Any) -> Any:
        return function(x, *args, **keywords) if callable(function) else function

    chosen = _as(value(functions[-1]) if len(functions) > len(given) else 0, node)
    for condition, function in zip(given, functions):
        chosen = where(to_nodes(condition)[0], _as(value(function), node), chosen)
    return wrap_like((x,), chosen)


def _as(value: Operand, like: Node) -> Node:
    """A value of the dtype and shape of ``like``."""
    if is_scalar(value):
        return scalar_node(value, like.dtype, like.shape)
    return broadcast_node(cast_node(to_node(value), like.dtype), like.shape)


def choose(index: Operand, choices: Sequence[Operand], *, mode: str = "raise") -> Any:
    """For each element the choice that its integer index names; all broadcast.

    Raises LabelError (an IndexError) for an index out of range when the value is computed, unless ``mode`` says "clip"
    (to the ends) or "wrap" (around).

    >>> choose(kn.array([0, 1, 1]), [kn.array([1, 2, 3]), 0])  # [1, 0, 0]
    """
    [places] = to_nodes(index)
    if not dtypes.is_integer(places.dtype):
        raise DtypeError(f"choose: the index is of integers, not {places.dtype}")
    dtype = common_dtype(*choices)
    nodes = [scalar_node(c, dtype) if is_scalar(c) else cast_node(to_node(c), dtype) for c in choices]
    shape = broadcast_shapes("choose", places.shape, *[n.shape for n in nodes])
    message = f"choose: index {{value}} is out of range for {len(nodes)} choices"
    places = bounded("choose", places, len(nodes), mode)
    checked = broadcast_node(check_range(places, 0, len(nodes), message), shape)
    result = broadcast_node(nodes[-1], shape)
    for number in range(len(nodes) - 2, -1, -1):
        result = where(equal(checked, number), nodes[number], result)
    return wrap_like((index, *choices), result)


@composite(2)
def isin(x: Operand, values: Operand, *, invert: bool = False) -> Any:
    """Whether elements of ``x`` are among ``values`` (of any shape); with ``invert`` whether they are not.

    >>> isin(kn.array([1, 2, 3]), kn.array([1, 3]))  # [True, False, True]
    """
    left, right = to_nodes(x, values)
    row = reshape_node(right, (right.type.size,))
    if right.type.size > _FEW:
        dtype = common_dtype(left, right)
        ordered: Node = sort(cast_node(row, dtype))
        place = minimum(searchsorted(ordered, left), right.type.size - 1)
        found = equal(gather(ordered, [place]), left)
        return logical_not(found) if invert else found
    found = any(equal(reshape_node(left, (*left.shape, 1)), row), -1)
    return logical_not(found) if invert else found


@composite(2)
def array_equiv(a: Operand, b: Operand) -> Any:
    """Whether two arrays broadcast to each other and are equal then: a bool of no dimensions.

    >>> array_equiv(kn.array([1, 1]), kn.array([[1, 1], [1, 1]]))  # True
    """
    left, right = to_nodes(a, b)
    try:
        broadcast_shapes("array_equiv", left.shape, right.shape)
    except ShapeError:
        return constant(False, dtypes.boolean)
    same = equal(left, right)
    return all(same)


@composite(2)
def isapprox(a: Operand, b: Operand, *, rtol: float | None = None, atol: float = 0.0) -> Any:
    """Whether two arrays are near each other as a whole, Knet's test: ``norm(a - b) <= atol + rtol * max(norms)``.

    ``rtol`` is the root of the dtype's precision by default (3.45e-4 for float32, 1.49e-8 for float64). Gives a bool
    of no dimensions; False for other shapes.

    >>> isapprox(kn.array([1.0, 2.0]), kn.array([1.0, 2.0001]))  # True
    """
    left, right = to_nodes(a, b)
    if left.shape != right.shape:
        return constant(False, dtypes.boolean)
    from_dtype = common_dtype(left, right)
    if rtol is None:
        rtol = 2.0 ** (-dtypes.mantissa_bits(from_dtype) / 2) if dtypes.is_float(from_dtype) else 0.0
    apart = norm(cast_node(left, from_dtype) - right)
    return less_equal(apart, maximum(norm(left), norm(right)) * rtol + atol)


__all__ = ["array_equiv", "choose", "isapprox", "isin", "piecewise", "select"]
