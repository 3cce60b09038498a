"""Movement: permuting, cutting, padding and joining, and the plain functions made of them.

``slice``, ``pad``, ``permute``, ``concat``, ``reshape`` and ``broadcast`` are closed under differentiation.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops import define
from knetc.ops.apply import (
    Operand,
    Scalar,
    broadcast_node,
    broadcast_shapes,
    constant,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import AxisError, DtypeError, ShapeError

Ints = tuple[int, ...]

# --- axes ------------------------------------------------------------------------------------------------------------


def normalize_axis(name: str, axis: int, ndim: int) -> int:
    """An axis counted from 0; raises AxisError if there is no such axis."""
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
        raise ShapeError(f"{name}: an axis is an int, not {axis!r}")
    if not -ndim <= axis < ndim:
        raise AxisError(
            f"{name}: there is no axis {axis} in an array of {ndim} dimensions"
            + (f"; axes run from {-ndim} to {ndim - 1}" if ndim else " (a scalar)")
        )
    return int(axis) % ndim


def normalize_axes(name: str, axis: int | Sequence[int] | None, ndim: int) -> Ints:
    """Axes as users give them (None for all, an int, several), counted from 0, in order; raises for repeated ones."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    axes = tuple(sorted(normalize_axis(name, a, ndim) for a in given))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: axes {given} name an axis twice")
    return axes


# --- permute ---------------------------------------------------------------------------------------------------------


def _infer_permute(x: TensorType, *, axes: Ints) -> TensorType:
    if sorted(axes) != list(range(x.ndim)):
        raise ShapeError(f"permute: {axes} is no permutation of the {x.ndim} axes of shape {x.shape}")
    return x.with_shape(tuple(x.shape[a] for a in axes))


def _inverse(axes: Ints) -> Ints:
    return tuple(int(k) for k in np.argsort(axes))


PERMUTE = define.structural(
    "permute",
    Kind.MOVEMENT,
    _infer_permute,
    reference=lambda x, *, axes: np.transpose(x, axes).copy(),
    gradient=lambda node, dy: (permute_node(dy, _inverse(node["axes"])),),
    samples=[
        define.case("f32[3,4]", axes=(1, 0)),
        define.case("f64[2,3,4]", axes=(2, 0, 1)),
        define.case("i32[2,0,3]", axes=(1, 2, 0)),
        define.case("bool[2,3,4,5]", axes=(0, 2, 1, 3)),
    ],
    bad=[
        (define.case("f32[3,4]", axes=(0, 0)), ShapeError),
        (define.case("f32[3,4]", axes=(0,)), ShapeError),
    ],
)


def permute_node(x: Node, axes: Ints) -> Node:
    """``x`` with its axes in another order; ``x`` itself when the order is the same."""
    return x if axes == tuple(range(x.ndim)) else record(PERMUTE, (x,), {"axes": axes})


# --- slice -----------------------------------------------------------------------------------------------------------


def _infer_slice(x: TensorType, *, starts: Ints, stops: Ints, steps: Ints) -> TensorType:
    if not len(starts) == len(stops) == len(steps) == x.ndim:
        raise ShapeError(f"slice: shape {x.shape} needs {x.ndim} ranges, got {starts}, {stops}, {steps}")
    if 0 in steps:
        raise ShapeError("slice: a step cannot be 0")
    extents = []
    for n, start, stop, step in zip(x.shape, starts, stops, steps):
        places = range(start, stop, step)
        if places and not (0 <= places[0] < n and 0 <= places[-1] < n):
            raise ShapeError(f"slice: {start}:{stop}:{step} leaves an axis of extent {n}")
        extents.append(len(places))
    return x.with_shape(tuple(extents))


def _slice_reference(x: np.ndarray, *, starts: Ints, stops: Ints, steps: Ints) -> np.ndarray:
    return x[tuple(builtins.slice(a, None if b < 0 else b, c) for a, b, c in zip(starts, stops, steps))].copy()


def _slice_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    """The slice's places filled with dy, zeros elsewhere."""
    shape = node.sources[0].shape
    if not dy.type.size:
        return (constant(0, dy.dtype, shape),)
    low, high = [], []
    for axis, (start, stop, step) in enumerate(zip(node["starts"], node["stops"], node["steps"])):
        if step < 0:
            dy = flip_node(dy, (axis,))
        dy = spaced_node(dy, axis, builtins.abs(step))
        first = range(start, stop, step)[0 if step > 0 else -1]
        low.append(first)
        high.append(shape[axis] - first - dy.shape[axis])
    return (pad_node(dy, tuple(low), tuple(high)),)


SLICE = define.structural(
    "slice",
    Kind.MOVEMENT,
    _infer_slice,
    reference=_slice_reference,
    gradient=_slice_gradient,
    samples=[
        define.case("f32[5]", starts=(1,), stops=(4,), steps=(1,)),
        define.case("f64[5,6]", starts=(0, 1), stops=(5, 6), steps=(2, 3)),
        define.case("f64[5,6]", starts=(4, 5), stops=(-1, 0), steps=(-1, -2)),
        define.case("i64[5]", starts=(3,), stops=(3,), steps=(1,)),
        define.case("bool[4,3]", starts=(0, 2), stops=(4, 3), steps=(1, 1)),
    ],
    bad=[
        (define.case("f32[5]", starts=(0,), stops=(6,), steps=(1,)), ShapeError),
        (define.case("f32[5]", starts=(0,), stops=(5,), steps=(0,)), ShapeError),
        (define.case("f32[5]", starts=(), stops=(), steps=()), ShapeError),
    ],
)


def slice_node(x: Node, starts: Ints, stops: Ints, steps: Ints) -> Node:
    """The elements at ``range(start, stop, step)`` of each axis; ``x`` itself when that is all of them, in order.

    A ``stop`` of -1 with a negative step goes down to the first element, as in ``range``.
    """
    if all(range(a, b, c) == range(n) for a, b, c, n in zip(starts, stops, steps, x.shape)):
        return x
    return record(SLICE, (x,), {"starts": starts, "stops": stops, "steps": steps})


def cut_node(x: Node, axis: int, start: int, stop: int) -> Node:
    """``x[start:stop]`` along one axis."""
    starts = tuple(start if k == axis else 0 for k in range(x.ndim))
    stops = tuple(stop if k == axis else n for k, n in enumerate(x.shape))
    return slice_node(x, starts, stops, (1,) * x.ndim)


def flip_node(x: Node, axes: Ints) -> Node:
    """``x`` backwards along axes."""
    starts = tuple(n - 1 if k in axes else 0 for k, n in enumerate(x.shape))
    stops = tuple(-1 if k in axes else n for k, n in enumerate(x.shape))
    return slice_node(x, starts, stops, tuple(-1 if k in axes else 1 for k in range(x.ndim)))


# --- pad -------------------------------------------------------------------------------------------------------------


def _infer_pad(x: TensorType, *, low: Ints, high: Ints, value: Scalar) -> TensorType:
    if not len(low) == len(high) == x.ndim:
        raise ShapeError(f"pad: shape {x.shape} needs {x.ndim} widths on each side, got {low} and {high}")
    if any(n < 0 for n in (*low, *high)):
        raise ShapeError(f"pad: widths cannot be negative: {low} and {high}; cut with a slice")
    return x.with_shape(tuple(a + n + b for a, n, b in zip(low, x.shape, high)))


def _pad_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    low, shape = node["low"], node.sources[0].shape
    return (slice_node(dy, low, tuple(a + n for a, n in zip(low, shape)), (1,) * len(shape)),)


PAD = define.structural(
    "pad",
    Kind.MOVEMENT,
    _infer_pad,
    reference=lambda x, *, low, high, value: (
        np.pad(x, tuple(zip(low, high)), constant_values=value) if x.ndim else x.copy()
    ),
    gradient=_pad_gradient,
    samples=[
        define.case("f32[5]", low=(1,), high=(2,), value=0.0),
        define.case("f64[2,3]", low=(0, 2), high=(1, 0), value=1.5),
        define.case("i32[0,3]", low=(2, 0), high=(1, 0), value=7),
        define.case("bool[2,2]", low=(1, 1), high=(1, 1), value=True),
    ],
    bad=[
        (define.case("f32[5]", low=(-1,), high=(0,), value=0.0), ShapeError),
        (define.case("f32[5]", low=(1, 1), high=(0, 0), value=0.0), ShapeError),
    ],
)


def pad_node(x: Node, low: Ints, high: Ints, value: Scalar = 0) -> Node:
    """``x`` with ``low`` and ``high`` elements of ``value`` before and after; ``x`` itself when there are none."""
    if not any(low) and not any(high):
        return x
    return record(PAD, (x,), {"low": low, "high": high, "value": dtypes.wrapped(value, x.dtype)})


def spaced_node(x: Node, axis: int, step: int) -> Node:
    """``x`` with ``step - 1`` zeros between the elements of an axis: pad each to a block of ``step``, cut the last."""
    n = x.shape[axis]
    if step == 1 or n < 2:
        return x
    blocks = reshape_node(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    high = tuple(step - 1 if k == axis + 1 else 0 for k in range(blocks.ndim))
    padded = pad_node(blocks, (0,) * blocks.ndim, high)
    merged = reshape_node(padded, (*x.shape[:axis], n * step, *x.shape[axis + 1 :]))
    return cut_node(merged, axis, 0, (n - 1) * step + 1)


# --- concat ----------------------------------------------------------------------------------------------------------


def _infer_concat(*types: TensorType, axis: int) -> TensorType:
    if not types:
        raise ShapeError("concat needs at least one array")
    first = types[0]
    for other in types:
        if other.dtype != first.dtype:
            raise DtypeError(f"concat takes arrays of one dtype, not {' and '.join(map(str, types))}")
        if other.ndim != first.ndim or any(
            a != b for k, (a, b) in enumerate(zip(first.shape, other.shape)) if k != axis
        ):
            raise ShapeError(
                f"concat: shapes {' and '.join(str(t.shape) for t in types)} may differ along axis {axis} only"
            )
    if not 0 <= axis < first.ndim:
        raise ShapeError(f"concat: there is no axis {axis} in arrays of {first.ndim} dimensions; use stack for scalars")
    total = sum(t.shape[axis] for t in types)
    return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concat_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    axis, start, parts = node["axis"], 0, []
    for source in node.sources:
        parts.append(cut_node(dy, axis, start, start + source.shape[axis]))
        start += source.shape[axis]
    return tuple(parts)


CONCAT = define.structural(
    "concat",
    Kind.MOVEMENT,
    _infer_concat,
    reference=lambda *arrays, axis: np.concatenate(arrays, axis),
    gradient=_concat_gradient,
    arity=2,
    samples=[
        define.case("f32[2,3]", "f32[1,3]", axis=0),
        define.case("f64[2,3]", "f64[2,1]", "f64[2,0]", axis=1),
        define.case("i64[3]", axis=0),
    ],
    bad=[
        (define.case("f32[2,3]", "f32[2,4]", axis=0), ShapeError),
        (define.case("f32[2]", "f64[2]", axis=0), DtypeError),
        (define.case("f32[]", "f32[]", axis=0), ShapeError),
    ],
)


def concat_node(nodes: Sequence[Node], axis: int) -> Node:
    """Nodes of one dtype joined along an axis; the node itself when there is one."""
    return nodes[0] if len(nodes) == 1 else record(CONCAT, tuple(nodes), {"axis": axis})


# --- plain functions: shape ------------------------------------------------------------------------------------------


def reshape(x: Operand, shape: int | Sequence[int], order: str = "C") -> Any:
    """``x`` with another shape of as many elements, in C order; one extent may be -1 and is worked out.

    With the ``order`` "F" elements are taken and put with the first axis going fastest. Raises ShapeError if the number
    of elements differs.

    >>> reshape(kn.arange(6), (2, -1))  # shape (2, 3)
    """
    [node] = to_nodes(x)
    wanted = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    if wanted.count(-1) > 1:
        raise ShapeError(f"reshape: only one extent can be -1, not {wanted}")
    if -1 in wanted:
        known = math.prod(n for n in wanted if n != -1)
        if known == 0 or node.type.size % known:
            raise ShapeError(f"reshape: {node.type.size} elements of shape {node.shape} do not fit {wanted}")
        wanted = tuple(node.type.size // known if n == -1 else n for n in wanted)
    if order != "F":
        return wrap_like((x,), reshape_node(node, wanted))
    backwards = reshape_node(permute_node(node, _reversed(node.ndim)), wanted[::-1])
    return wrap_like((x,), permute_node(backwards, _reversed(len(wanted))))


def _reversed(count: int) -> Ints:
    return tuple(range(count))[::-1]


def ravel(x: Operand, order: str = "C") -> Any:
    """All elements in a row, in C order; with the ``order`` "F" with the first axis going fastest.

    >>> ravel(kn.ones((2, 3)))  # shape (6,)
    """
    return reshape(x, (-1,) if to_nodes(x)[0].type.size else (0,), order)


vec = ravel


def broadcast_to(x: Operand, shape: int | Sequence[int]) -> Any:
    """``x`` repeated to fill ``shape``, by NumPy's rule; raises ShapeError if it does not fit.

    >>> broadcast_to(kn.arange(3), (2, 3))
    """
    [node] = to_nodes(x)
    wanted = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    return wrap_like((x,), broadcast_node(node, wanted))


def broadcast_arrays(*arrays: Operand) -> list[Any]:
    """Arrays broadcast to their common shape.

    >>> a, b = broadcast_arrays(kn.ones((2, 1)), kn.ones(3))  # both of shape (2, 3)
    """
    nodes = to_nodes(*arrays)
    shape = broadcast_shapes("broadcast_arrays", *[n.shape for n in nodes])
    return [wrap_like(arrays, broadcast_node(n, shape)) for n in nodes]


def expand_dims(x: Operand, axis: int | Sequence[int] = 0) -> Any:
    """``x`` with new axes of extent 1 where ``axis`` says, counted in the result.

    >>> expand_dims(kn.ones(3), 0)  # shape (1, 3)
    """
    [node] = to_nodes(x)
    count = node.ndim + (1 if isinstance(axis, (int, np.integer)) else len(axis))
    new = normalize_axes("expand_dims", axis, count)
    rest = iter(node.shape)
    return wrap_like((x,), reshape_node(node, tuple(1 if k in new else next(rest) for k in range(count))))


def squeeze(x: Operand, axis: int | Sequence[int] | None = None) -> Any:
    """``x`` without axes of extent 1: all of them, or those named; raises ShapeError if a named one is longer.

    >>> squeeze(kn.ones((1, 3, 1)), 0)  # shape (3, 1)
    """
    [node] = to_nodes(x)
    if axis is None:
        gone = tuple(k for k, n in enumerate(node.shape) if n == 1)
    else:
        gone = normalize_axes("squeeze", axis, node.ndim)
    longer = [k for k in gone if node.shape[k] != 1]
    if longer:
        raise ShapeError(f"squeeze: axis {longer[0]} of shape {node.shape} is not of extent 1")
    return wrap_like((x,), reshape_node(node, tuple(n for k, n in enumerate(node.shape) if k not in gone)))


# --- plain functions: order of axes ----------------------------------------------------------------------------------


def permute_dims(x: Operand, axes: Sequence[int] | None = None) -> Any:
    """``x`` with its axes in the given order; reversed by default.

    >>> permute_dims(kn.ones((2, 3, 4)), (2, 0, 1))  # shape (4, 2, 3)
    """
    [node] = to_nodes(x)
    if axes is None:
        order = tuple(reversed(range(node.ndim)))
    else:
        order = tuple(normalize_axis("permute_dims", a, node.ndim) for a in axes)
    return wrap_like((x,), permute_node(node, order))


transpose = permutedims = permute_dims


def adjoint(x: Operand) -> Any:
    """``x`` with its last two axes exchanged, Knet's ``x'``; a vector becomes a matrix of one row.

    >>> adjoint(kn.array([1, 2]))  # [[1, 2]]
    """
    [node] = to_nodes(x)
    if node.ndim == 1:
        return wrap_like((x,), reshape_node(node, (1, *node.shape)))
    return matrix_transpose(x)


def swapaxes(x: Operand, axis1: int, axis2: int) -> Any:
    """``x`` with two axes exchanged.

    >>> swapaxes(kn.ones((2, 3, 4)), 0, -1)  # shape (4, 3, 2)
    """
    [node] = to_nodes(x)
    order = list(range(node.ndim))
    a, b = (normalize_axis("swapaxes", k, node.ndim) for k in (axis1, axis2))
    order[a], order[b] = b, a
    return wrap_like((x,), permute_node(node, tuple(order)))


def matrix_transpose(x: Operand) -> Any:
    """``x`` with its last two axes exchanged.

    >>> matrix_transpose(kn.ones((5, 2, 3)))  # shape (5, 3, 2)
    """
    return swapaxes(x, -2, -1)


def moveaxis(x: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """``x`` with some axes moved to other places, the rest in order.

    >>> moveaxis(kn.ones((2, 3, 4)), 0, -1)  # shape (3, 4, 2)
    """
    [node] = to_nodes(x)
    sources = (source,) if isinstance(source, (int, np.integer)) else tuple(source)
    targets = (destination,) if isinstance(destination, (int, np.integer)) else tuple(destination)
    if len(sources) != len(targets):
        raise ShapeError(f"moveaxis: {len(sources)} axes cannot go to {len(targets)} places")
    moved = [normalize_axis("moveaxis", a, node.ndim) for a in sources]
    places = [normalize_axis("moveaxis", a, node.ndim) for a in targets]
    if len(set(moved)) != len(moved) or len(set(places)) != len(places):
        raise ShapeError(f"moveaxis: an axis is named twice in {sources} -> {targets}")
    order = [k for k in range(node.ndim) if k not in moved]
    for place, axis in sorted(zip(places, moved)):
        order.insert(place, axis)
    return wrap_like((x,), permute_node(node, tuple(order)))


def flip(x: Operand, axis: int | Sequence[int] | None = None) -> Any:
    """``x`` backwards along axes (all of them by default).

    >>> flip(kn.array([1, 2, 3]))  # [3, 2, 1]
    """
    [node] = to_nodes(x)
    return wrap_like((x,), flip_node(node, normalize_axes("flip", axis, node.ndim)))


__all__ = [
    "adjoint", "broadcast_arrays", "broadcast_to", "expand_dims", "flip", "matrix_transpose", "moveaxis",
    "permute_dims", "permutedims", "ravel", "reshape", "squeeze", "swapaxes", "transpose", "vec",
]  # fmt: skip
