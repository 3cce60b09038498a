"""The methods of NumPy's elementwise functions: ``reduce``, ``accumulate``, ``reduceat``, ``outer`` and ``at``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from knetc.arrays import ArrayLike, node_of, normal_key, of_node, with_places
from knetc.control import scan
from knetc.numpy_table import ACCUMULATIONS, REDUCTIONS
from knetc.ops import indexing, joining, movement
from knetc.ops.apply import broadcast_node, cast, cast_node, common_dtype, is_scalar, reshape_node
from knetc.ops.identities import iota
from knetc.ops.indexed import scatter_add
from knetc.ops.movement import normalize_axes, normalize_axis
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError, UnsupportedError

Binary = Callable[[Any, Any], Any]

#: those of which any two neighbours may be taken together first
_ASSOCIATIVE = frozenset(
    (
        np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.fmax, np.fmin, np.gcd, np.hypot, np.lcm, np.logaddexp,
        np.logaddexp2, np.logical_xor,
    )
)  # fmt: skip

#: what begins the reduction of no elements
_IDENTITIES = {
    np.bitwise_and: -1, np.bitwise_or: 0, np.bitwise_xor: 0, np.gcd: 0, np.hypot: 0.0, np.logaddexp: -np.inf,
    np.logaddexp2: -np.inf, np.logical_xor: False,
}  # fmt: skip


def crossed(a: Any, b: Any) -> list[Any]:
    """Operands of ``outer``: each element of the first meets all of the second."""
    if is_scalar(a) or is_scalar(b):
        return [a, b]
    return [movement.reshape(a, (*a.shape, *(1,) * b.ndim)), b]


def reduce(
    name: str,
    ufunc: Any,
    function: Binary,
    x: Any,
    axis: Any = 0,
    dtype: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """All elements along axes taken together, from the first to the last."""
    initial = None if initial is np._NoValue else initial
    known = REDUCTIONS.get(ufunc)
    if known is not None:
        given = {"dtype": dtype, "initial": initial, "where": None if where is True else where}
        return known(x, axis, keepdims=keepdims, **{key: value for key, value in given.items() if value is not None})
    _binary(name, ufunc)
    if where is not True:
        raise UnsupportedError(f"{name}: where= is not supported for knetc arrays; use kn.where(condition, x, neutral)")
    x = x if dtype is None else cast(x, dtype)
    axes = normalize_axes(name, axis, x.ndim)
    if len(axes) > 1 and ufunc not in _ASSOCIATIVE:
        raise ShapeError(f"{name} goes along one axis: the order of its elements counts")
    rest = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    rows = movement.reshape(movement.moveaxis(x, axes, range(len(axes))), (-1 if x.size else 0, *rest))
    if initial is not None or not len(rows):
        first = _IDENTITIES.get(ufunc) if initial is None else initial
        if first is None:
            raise ShapeError(f"{name}: no elements have no result; shape {x.shape} is empty along axes {axes}")
        begin = movement.broadcast_to(cast(first, function(rows[:0], rows[:0]).dtype), (1, *rest))
        rows = joining.concat([begin, rows])
    result = _together(function, rows) if ufunc in _ASSOCIATIVE else _in_turn(function, rows)[0]
    if not keepdims:
        return result
    return movement.reshape(result, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))


def _binary(name: str, ufunc: Any) -> None:
    if (ufunc.nin, ufunc.nout) != (2, 1):
        raise UnsupportedError(f"{name}: only functions of two arrays with one result have this method")


def _together(function: Binary, rows: Any) -> Any:
    """Neighbours taken together, then what they give: as few steps as can be."""
    rows = cast(rows, function(rows[:1], rows[:1]).dtype)
    while len(rows) > 1:
        half = len(rows) // 2
        pairs = function(rows[0 : 2 * half : 2], rows[1 : 2 * half : 2])
        rows = joining.concat([pairs, rows[2 * half :]]) if len(rows) % 2 else pairs
    return rows[0]


def _in_turn(function: Binary, rows: Any) -> tuple[Any, Any]:
    """The last result and all results of taking one row after the other: a loop."""
    first = cast(rows[0], function(rows[0], rows[0]).dtype)
    if len(rows) == 1:
        return first, movement.expand_dims(first, 0)

    def step(carry: Any, row: Any) -> Any:
        result = cast(function(carry, row), first.dtype)
        return result, result

    last, others = scan(step, first, rows[1:])
    return last, joining.concat([movement.expand_dims(first, 0), others])


def accumulate(name: str, ufunc: Any, function: Binary, x: Any, axis: int = 0, dtype: Any = None) -> Any:
    """What ``reduce`` gives up to each element along an axis."""
    known = ACCUMULATIONS.get(ufunc)
    if known is not None:
        return known(x, axis) if dtype is None else known(x, axis, dtype=dtype)
    _binary(name, ufunc)
    rows = movement.moveaxis(x if dtype is None else cast(x, dtype), axis, 0)
    return movement.moveaxis(_in_turn(function, rows)[1], 0, axis) if len(rows) else cast(x, function(x, x).dtype)


def reduceat(name: str, ufunc: Any, function: Binary, x: Any, places: Any, axis: int = 0, dtype: Any = None) -> Any:
    """What ``reduce`` gives of the pieces that begin at places; of one that does not end after it begins, its first."""
    axis = normalize_axis(name, axis, x.ndim)
    extent = x.shape[axis]
    wanted = [int(p) for p in np.asarray(places).tolist()]
    if any(not 0 <= place < extent for place in wanted):
        raise IndexError(f"{name}: the places {wanted} are not all within the extent {extent} of axis {axis}")
    pieces = [
        reduce(name, ufunc, function, x[(slice(None),) * axis + (slice(a, b if b > a else a + 1),)], axis, dtype)
        for a, b in pairwise([*wanted, extent])
    ]
    return joining.stack(pieces, axis)


def at(name: str, ufunc: Any, x: Any, key: Any, value: Any = None) -> None:
    """``x[key] += value`` and the like, in which a place that is named several times takes every value."""
    if not isinstance(x, ArrayLike):
        raise UnsupportedError(f"{name} assigns to an Array or Param, not to a {type(x).__name__}")
    if ufunc not in (np.add, np.subtract):
        raise UnsupportedError(
            f"{name} is not supported for knetc arrays; numpy.add.at and numpy.subtract.at are, "
            "and x[key] = f(x[key], y) for places that are named once"
        )
    now = node_of(x)
    if common_dtype(now, value) != now.dtype or now.dtype == dtypes.boolean:
        raise DtypeError(f"{name}: {value!r} is not added to an array of {x.dtype}; convert one of them with astype")
    key = with_places(normal_key(key), x.shape)
    wide = dtypes.accumulator(now.dtype)
    numbers = reshape_node(iota(dtypes.i64, (now.type.size,), 0), now.shape)
    places = indexing.index(numbers, key)
    values = broadcast_node(cast_node(node_of(value), wide), places.shape)
    flat = reshape_node(values, (values.type.size,))
    added = reshape_node(scatter_add(flat, [reshape_node(places, flat.shape)], (now.type.size,)), now.shape)
    before = cast_node(now, wide)
    x[...] = of_node(cast_node(before + added if ufunc is np.add else before - added, now.dtype))
