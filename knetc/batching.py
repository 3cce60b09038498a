"""``vmap``: a function of one element as one of many; and NumPy's ways of saying so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from knetc.arrays import node_of, of_node
from knetc.inner import Inner
from knetc.ir.node import Node
from knetc.ir.record import recording
from knetc.lazy import Box
from knetc.ops.apply import is_scalar, to_nodes
from knetc.ops.movement import broadcast_arrays, expand_dims, moveaxis, normalize_axis, reshape
from knetc.passes.batch import Batch, Value, draws, from_front, stand_in_type, to_front
from knetc.runtime.base.errors import ShapeError
from knetc.structure import leaves, map_leaves, matched, rebuilt


def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """The function for many elements at once of a function that is written for one.

    ``in_axes`` says along which axis each positional argument's elements lie: an int, None for an argument that all
    share, or a tuple with one such for each; within it, containers mirror an argument's containers. Numbers, objects
    and keyword arguments are passed as they are. ``out_axes`` says in the same way where the results' elements go.

    The function is called once, with stand-ins for one element, and what it records is recorded anew for all: so it
    works in compiled functions, can be differentiated, nested, and fuses like code that was written for a batch. Random
    numbers are drawn for each element. Raises ShapeError unless all elements are equally many, TypeError for axes that
    do not fit the arguments, TraceError if Python must know a number inside, UnsupportedError for an operation that
    cannot be batched.

    >>> kn.vmap(lambda a, b: a @ b)(kn.ones((5, 3)), kn.ones((5, 3)))  # shape (5,)
    >>> kn.vmap(kn.grad(lambda x: kn.sum(x**3)), in_axes=1)(kn.ones((2, 4)))  # shape (4, 2)
    """

    @functools.wraps(function, updated=())
    def batched(*args: Any, **kwargs: Any) -> Any:
        axes = in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise TypeError(
                f"vmap: in_axes has {len(axes)} items, but the function was called with {len(args)} arguments"
            )
        given = [item for k, (axis, arg) in enumerate(zip(axes, args)) for item in matched(axis, arg, f"argument {k}")]
        mapped = [_mapped(*item) for item in given]
        size = _common_size([(name, node.shape[0]) for (name, _, _), node in zip(given, mapped) if node is not None])
        inner = Inner("vmap")
        known: dict[Node, Value] = {}
        try:
            with recording(inner):
                elements: list[Any] = []
                for (_, _, leaf), node in zip(given, mapped):
                    if node is not None:
                        one = inner.stand_in(stand_in_type(node, 0))
                        known[one] = Value(node, True)
                        leaf = of_node(one)
                    elements.append(leaf)
                result = function(*rebuilt(args, elements), **kwargs)
                found = leaves(result)
                outputs = {k: to_nodes(leaf)[0] for k, leaf in enumerate(found) if _is_array(leaf)}
        finally:
            inner.active = False
        batch = Batch(inner, size, known | draws(inner.draws, size))
        values = batch.values([*outputs.values()], inner.effects)
        places = matched(out_axes, result, "the result")
        for (k, one), value in zip(outputs.items(), values):
            name, axis, _ = places[k]
            found[k] = of_node(_placed(value if axis is None else Value(batch.spread(one, value), True), axis, name))
        return rebuilt(result, found)

    return batched


def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """What a function of a vector gives for each vector along an axis; its result's axes take that axis' place.

    The function is called once, as ``kn.vmap`` calls it; ``args`` and ``kwargs`` are handed on as they are.

    >>> kn.apply_along_axis(kn.sort, 0, kn.array([[3, 1], [2, 4]]))  # [[2, 1], [3, 4]]
    """
    x = moveaxis(arr, axis, -1)
    rows = reshape(x, (-1, x.shape[-1]))
    found = vmap(lambda row: func1d(row, *args, **kwargs))(rows)
    inner, outer = found.shape[1:], x.shape[:-1]
    place = normalize_axis("apply_along_axis", axis, len(outer) + 1)
    last = range(len(outer), len(outer) + len(inner))
    return moveaxis(reshape(found, (*outer, *inner)), tuple(last), tuple(range(place, place + len(inner))))


def apply_over_axes(func: Callable[..., Any], a: Any, axes: int | Sequence[int]) -> Any:
    """``func(x, axis)`` for one axis after the other; an axis that it takes away is put back with extent 1.

    >>> kn.apply_over_axes(kn.sum, kn.ones((2, 3)), (0, 1))  # [[6]]
    """
    result = a
    for axis in (axes,) if isinstance(axes, int) else axes:
        found = func(result, axis)
        if found.ndim == result.ndim - 1:
            found = expand_dims(found, normalize_axis("apply_over_axes", axis, result.ndim))
        if found.ndim != result.ndim:
            raise ShapeError(f"apply_over_axes: the function made shape {found.shape} of {result.shape}")
        result = found
    return result


def vectorize(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers as one of arrays, which broadcast against each other: ``kn.vmap`` over all of their axes.

    It is called once, with stand-ins for one element of each argument. Most functions need no ``vectorize``, for
    operators and functions of knetc take arrays as they take numbers.

    >>> kn.vectorize(lambda a, b: kn.where(a > b, a - b, 0.0))(kn.ones((2, 1)), kn.zeros(3))  # shape (2, 3)
    """

    @functools.wraps(function, updated=())
    def vectorized(*args: Any, **kwargs: Any) -> Any:
        arrays = broadcast_arrays(*args)
        flat = vmap(lambda *elements: function(*elements, **kwargs))(*(reshape(a, (-1,)) for a in arrays))
        shape = arrays[0].shape
        return map_leaves(lambda leaf: reshape(leaf, (*shape, *leaf.shape[1:])) if _is_array(leaf) else leaf, flat)

    return vectorized


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (Box, np.ndarray, np.generic)) or is_scalar(leaf)


def _mapped(name: str, axis: Any, leaf: Any) -> Node | None:
    """An argument with its elements along the first axis; None for one that all elements share."""
    if axis is None or not isinstance(leaf, (Box, np.ndarray)):
        return None
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise TypeError(f"vmap: in_axes gives {axis!r} for {name}; an axis is an int, or None for what all share")
    node = node_of(leaf)
    if not node.ndim:
        raise ShapeError(
            f"vmap: {name} is {node.type}, which has no axis {axis} of elements; its in_axes is None if all share it"
        )
    return to_front(node, normalize_axis(f"vmap, {name}", axis, node.ndim))


def _common_size(sizes: list[tuple[str, int]]) -> int:
    if not sizes:
        raise ShapeError("vmap: no argument has an axis of elements: give at least one array with an axis in in_axes")
    (first, size) = sizes[0]
    for name, other in sizes:
        if other != size:
            raise ShapeError(
                f"vmap: {first} has {size} elements along its axis, {name} has {other}; they must be as many"
            )
    return size


def _placed(value: Value, axis: Any, name: str) -> Node:
    """A result with its elements along the axis that is wanted."""
    if axis is None:
        if value.batched:
            raise TypeError(f"vmap: out_axes gives None for {name}, but each element has its own; give it an axis")
        return value.node
    return from_front(value.node, normalize_axis(f"vmap, {name}", axis, value.node.ndim))


__all__ = ["apply_along_axis", "apply_over_axes", "vectorize", "vmap"]
