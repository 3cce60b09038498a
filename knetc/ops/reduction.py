"""Reductions: sum, prod, max, min, argmax, argmin, and what is made of them alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.ir.op import Combine, Domain, Kind, Op, Sample, register
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops import define
from knetc.ops.apply import (
    Operand,
    at_once,
    broadcast_node,
    cast,
    cast_node,
    composite,
    constant,
    reshape_node,
    to_nodes,
    widened,
    wrap_like,
)
from knetc.ops.arithmetic import add, maximum, minimum, multiply, square, subtract
from knetc.ops.host import host_call
from knetc.ops.identities import iota
from knetc.ops.logic import bitwise_and, bitwise_or, equal, invert, isnan, to_bool
from knetc.ops.logic import where as choose
from knetc.ops.movement import Ints, cut_node, normalize_axes, normalize_axis, pad_node, permute_node
from knetc.ops.transcendental import sqrt
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError

Axis = int | Sequence[int] | None

# --- the records -----------------------------------------------------------------------------------------------------


def spread_back(node: Node, y: Node) -> Node:
    """A reduction's result (or its gradient) broadcast back to the shape of the reduction's source."""
    source = node.sources[0]
    kept = tuple(1 if k in node["axes"] else n for k, n in enumerate(source.shape))
    return broadcast_node(reshape_node(y, kept), source.shape)


def _drop_axes(name: str, accepts: str, *, empty: bool, result: np.dtype | None = None) -> Callable[..., TensorType]:
    """Type rule of a reduction: the axes are gone. ``empty`` tells whether it may fold no elements at all."""

    def infer(x: TensorType, *, axes: Ints) -> TensorType:
        define.check_kind(name, x.dtype, accepts)
        define.check_accumulates(name, x.dtype)
        if not axes or list(axes) != sorted(set(axes)) or not 0 <= axes[0] <= axes[-1] < x.ndim:
            raise ShapeError(f"{name}: {axes} are not axes of shape {x.shape}, in order")
        if not empty and 0 in [x.shape[a] for a in axes]:
            raise ShapeError(f"{name} of no elements: shape {x.shape} is empty along axes {axes}")
        shape = tuple(n for k, n in enumerate(x.shape) if k not in axes)
        return TensorType(x.dtype if result is None else result, shape)

    return infer


def _samples(accepts: str, *, empty: bool) -> list[Sample]:
    cases = [
        define.case("f32[7]", axes=(0,)),
        define.case("f64[3,5]", axes=(1,)),
        define.case("f64[3,5]", axes=(0,)),
        define.case("f64[2,3,4]", axes=(0, 2)),
        define.case("f32[2,3,4]", axes=(0, 1, 2)),
        define.case("f32[0,3]", axes=(1,)),
        define.case("i32[4,3]", axes=(1,)),
        define.case("i64[4,3]", axes=(0, 1)),
        # long, and all of one sign: shows folds that begin with a zero
        define.case("f32[2,300]", axes=(1,), domains=(Domain(-1.5, -0.7),)),
        define.case("f32[300,2]", axes=(0,), domains=(Domain(0.7, 1.5),)),
        *(define.case(f"{dtype}[4,33]", axes=(1,)) for dtype in ("i8", "i16", "u8", "u16", "u32", "u64")),
    ]
    return cases + ([define.case("f64[3,0]", axes=(1,))] if empty else [])


def _reduction(
    name: str,
    *,
    reference: Callable[..., Any],
    combine: Combine,
    gradient: define.Gradient | None = None,
    empty: bool = False,
    result: np.dtype | None = None,
    domains: tuple[Domain, ...] = (),
) -> Op:
    bad: list[tuple[Sample, type[Exception]]] = [
        (define.case("f32[3]", axes=(1,)), ShapeError),
        (define.case("bool[3]", axes=(0,)), DtypeError),
        (define.case("f16[3]", axes=(0,)), DtypeError),
    ]
    if not empty:
        bad.append((define.case("f32[3,0]", axes=(1,)), ShapeError))
    return register(
        Op(
            name,
            Kind.REDUCTION,
            _drop_axes(name, "fi", empty=empty, result=result),
            reference=reference,
            gradient=gradient,
            combine=combine,
            domains=domains,
            samples=_samples("fi", empty=empty),
            dtypes="fi",
            differentiable_order=0 if gradient is None else 2,
            bad=bad,
        )
    )


SUM = _reduction(
    "sum",
    reference=lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
    gradient=lambda node, dy: (spread_back(node, dy),),
    combine=Combine(
        identity=lambda dtype: (dtype.type(0).item(),),
        merge=lambda e, a, b: (e.add(a[0], b[0]),),
        reassociable="add",
    ),
    empty=True,
)


def _others(x: Node, axis: int) -> Node:
    """For each element the product of all others along an axis, by doubling; exact where elements are 0."""

    def shifted(y: Node, by: int) -> Node:
        low = tuple(by if k == axis else 0 for k in range(y.ndim))
        none = (0,) * y.ndim
        n = y.shape[axis]
        if by > 0:
            return pad_node(cut_node(y, axis, 0, n - by), low, none, 1)
        return pad_node(cut_node(y, axis, -by, n), none, tuple(-b if b else 0 for b in low), 1)

    before: Node = shifted(x, 1)
    after: Node = shifted(x, -1)
    step = 1
    while step < x.shape[axis]:
        before = before * shifted(before, step)
        after = after * shifted(after, -step)
        step *= 2
    return before * after


def _prod_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    [x], axes = node.sources, node["axes"]
    if not x.type.size:
        return (constant(0, x.dtype, x.shape),)
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    order = (*kept, *axes)
    last = permute_node(x, order)
    flat = reshape_node(last, (*node.shape, math.prod(x.shape[a] for a in axes)))
    others = reshape_node(_others(flat, flat.ndim - 1), last.shape)
    back = permute_node(others, tuple(int(k) for k in np.argsort(order)))
    return (multiply(spread_back(node, dy), back),)


PROD = _reduction(
    "prod",
    reference=lambda x, *, axes: np.prod(x, axis=axes, dtype=x.dtype),
    gradient=_prod_gradient,
    combine=Combine(
        identity=lambda dtype: (dtype.type(1).item(),),
        merge=lambda e, a, b: (e.mul(a[0], b[0]),),
        reassociable="mul",
    ),
    empty=True,
)


def lowest(dtype: np.dtype) -> int | float:
    """What every value of a dtype is at least."""
    return float("-inf") if dtypes.is_float(dtype) else int(np.iinfo(dtype).min)


def highest(dtype: np.dtype) -> int | float:
    """What every value of a dtype is at most."""
    return float("inf") if dtypes.is_float(dtype) else int(np.iinfo(dtype).max)


def _extreme_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    """Those that equal the extreme share dy equally."""
    [x] = node.sources
    ties = equal(x, spread_back(node, node))
    share = dy / record(SUM, (cast_node(ties, dy.dtype),), {"axes": node["axes"]})
    return (choose(ties, spread_back(node, share), 0),)


def _merge_extreme(predicate: str) -> Callable[..., tuple[Any, ...]]:
    def merge(e: Any, a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
        [x], [y] = a, b
        first = e.compare(predicate, x, y)
        if dtypes.is_float(x.dtype):
            first = e.or_(first, e.compare("uno", x, x))
        return (e.select(first, x, y),)

    return merge


MAX = _reduction(
    "max",
    reference=lambda x, *, axes: np.max(x, axis=axes),
    gradient=_extreme_gradient,
    combine=Combine(identity=lambda dtype: (lowest(dtype),), merge=_merge_extreme("gt"), reassociable="max"),
)

MIN = _reduction(
    "min",
    reference=lambda x, *, axes: np.min(x, axis=axes),
    gradient=_extreme_gradient,
    combine=Combine(identity=lambda dtype: (highest(dtype),), merge=_merge_extreme("lt"), reassociable="min"),
)


def _merge_place(predicate: str) -> Callable[..., tuple[Any, ...]]:
    """The right state wins only if it is better, or the first NaN: ties stay with the smaller index."""

    def merge(e: Any, a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
        better = e.compare(predicate, b[0], a[0])
        if dtypes.is_float(a[0].dtype):
            first_nan = e.and_(e.compare("uno", b[0], b[0]), e.not_(e.compare("uno", a[0], a[0])))
            better = e.or_(better, first_nan)
        return e.select(better, b[0], a[0]), e.select(better, b[1], a[1])

    return merge


def _place_reference(function: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: np.ndarray, *, axes: Ints) -> Any:
        kept = [k for k in range(x.ndim) if k not in axes]
        moved = np.transpose(x, (*kept, *axes))
        shape = moved.shape[: len(kept)]
        width = int(np.prod(moved.shape[len(kept) :]))
        return np.asarray(function(moved.reshape((*shape, width)), axis=-1), np.int64)

    return reference


ARGMAX = _reduction(
    "argmax",
    reference=_place_reference(np.argmax),
    combine=Combine(
        identity=lambda dtype: (lowest(dtype), 0),
        merge=_merge_place("gt"),
        with_index=True,
    ),
    result=dtypes.i64,
)

ARGMIN = _reduction(
    "argmin",
    reference=_place_reference(np.argmin),
    combine=Combine(
        identity=lambda dtype: (highest(dtype), 0),
        merge=_merge_place("lt"),
        with_index=True,
    ),
    result=dtypes.i64,
)

# --- plain functions -------------------------------------------------------------------------------------------------


def reduce_node(op: Op, x: Node, axis: Axis, keepdims: bool) -> Node:
    """A reduction applied as users ask for it; over no axes it is the value itself.

    Elements are folded in the accumulator's dtype (float32 for narrow floats); the result is of the array's.
    """
    axes = normalize_axes(op.name, axis, x.ndim)
    result = cast_node(record(op, (widened(x),), {"axes": axes}), x.dtype) if axes else x
    return keep(result, x, axes) if keepdims else result


def keep(result: Node, x: Node, axes: Ints) -> Node:
    """A reduction's result with the reduced axes kept, of extent 1."""
    return reshape_node(result, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))


def wide_enough(x: Node, dtype: Any) -> Node:
    """What sums and products are of: the dtype asked for, else 64 bits for integers and bools, the dtype of floats."""
    if dtype is not None:
        return cast_node(x, dtypes.as_dtype(dtype))
    if dtypes.is_float(x.dtype):
        return x
    return cast_node(x, dtypes.u64 if x.dtype.kind == "u" else dtypes.i64)


def chosen(x: Node, where: Operand, neutral: int | float) -> Node:
    """``x``, with what changes nothing in place of the elements where ``where`` does not hold."""
    if where is None or where is True:
        return x
    result: Node = choose(_mask(where), x, constant(neutral, x.dtype))
    return result


def _mask(where: Operand) -> Node:
    [mask] = to_nodes(where)
    if mask.dtype != dtypes.boolean:
        raise DtypeError(f"where= is an array of bools that says which elements count, not of {mask.dtype}")
    return mask


def _begun(result: Node, initial: Operand, merge: Callable[[Any, Any], Any]) -> Node:
    """A reduction's result joined with the value that users want it to begin with."""
    if initial is None:
        return result
    joined: Node = cast_node(merge(result, initial), result.dtype)
    return joined


@composite()
def sum(
    x: Operand,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    dtype: Any = None,
    initial: Operand = None,
    where: Operand = None,
) -> Any:
    """The sum over axes (all of them by default); integers and bools are added up as int64, unsigned ones as uint64.

    float16 and bfloat16 are added up in float32, and the sum is rounded to them. ``where`` (bools that broadcast
    against ``x``) says which elements count, ``initial`` what is added to them.

    >>> sum(kn.array([[1, 2], [3, 4]]), axis=0)  # [4, 6]
    """
    node = chosen(wide_enough(to_nodes(x)[0], dtype), where, 0)
    return _begun(reduce_node(SUM, node, axis, keepdims), initial, add)


@composite()
def prod(
    x: Operand,
    axis: Axis = None,
    *,
    keepdims: bool = False,
    dtype: Any = None,
    initial: Operand = None,
    where: Operand = None,
) -> Any:
    """The product over axes; integers and bools are multiplied as int64 or uint64. The gradient is exact at zeros.

    ``where`` (bools that broadcast against ``x``) says which elements count, ``initial`` what they are multiplied with.

    >>> prod(kn.array([1.0, 2.0, 3.0]))  # 6
    """
    node = chosen(wide_enough(to_nodes(x)[0], dtype), where, 1)
    return _begun(reduce_node(PROD, node, axis, keepdims), initial, multiply)


def _extreme(op: Op, x: Operand, axis: Axis, keepdims: bool, initial: Operand, where: Operand) -> Any:
    largest = op is MAX
    [node] = to_nodes(x)
    if where is not None and where is not True and initial is None:
        raise ShapeError(f"{op.name} with where= takes initial=, which is the result where nothing is chosen")
    if node.dtype == dtypes.boolean:
        found = (any if largest else all)(node, axis, keepdims=keepdims, where=where)
        return _begun(found, initial, bitwise_or if largest else bitwise_and)
    node = chosen(node, where, lowest(node.dtype) if largest else highest(node.dtype))
    if initial is not None and not count_along(node, axis):
        empty = reduce_node(SUM, wide_enough(node, None), axis, keepdims)
        return broadcast_node(cast_node(to_nodes(initial)[0], node.dtype), empty.shape)
    return _begun(reduce_node(op, node, axis, keepdims), initial, maximum if largest else minimum)


@composite()
def max(
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: Operand = None, where: Operand = None
) -> Any:
    """The largest element over axes; NaN if there is one. Ties share the gradient equally.

    It is at least ``initial``, and of the elements where ``where`` (bools) holds. Raises ShapeError for no elements
    without ``initial``.

    >>> max(kn.array([[1, 2], [3, 4]]), axis=1)  # [2, 4]
    """
    return _extreme(MAX, x, axis, keepdims, initial, where)


@composite()
def min(
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: Operand = None, where: Operand = None
) -> Any:
    """The smallest element over axes; NaN if there is one. Ties share the gradient equally.

    It is at most ``initial``, and of the elements where ``where`` (bools) holds. Raises ShapeError for no elements
    without ``initial``.

    >>> min(kn.array([[1, 2], [3, 4]]), axis=1)  # [1, 3]
    """
    return _extreme(MIN, x, axis, keepdims, initial, where)


def _place(op: Op, x: Operand, axis: int | None, keepdims: bool) -> Any:
    [node] = to_nodes(x)
    source = cast_node(node, dtypes.u8) if node.dtype == dtypes.boolean else widened(node)
    if node.ndim == 0:
        source = reshape_node(source, (1,))
    axes = normalize_axes(op.name, None if axis is None else normalize_axis(op.name, axis, source.ndim), source.ndim)
    whole = len(axes) == source.ndim
    if source.op.name == "input" and source.shape[axes[0] :] and axes[-1] == source.ndim - 1 and source.type.size:
        result = _place_in_rows(op, source, len(axes))
    elif whole and source.type.size >= _LONG:
        result = place_in_all(op, reshape_node(source, (source.type.size,)))
    else:
        result = record(op, (source,), {"axes": axes})
    return wrap_like((x,), keep(result, node, axes) if keepdims else result)


_LONG = 1 << 7
"""Elements among which a place is found faster in two passes, which both run in vectors, than in one that does not."""


def _place_in_rows(op: Op, x: Node, axes: int) -> Node:
    """The place of the first extreme over the last axes of an array in memory, by code that goes through it once."""
    lead = x.shape[: x.ndim - axes]
    rows = reshape_node(x, (*lead, math.prod(x.shape[x.ndim - axes :])))
    [result] = host_call(f"sorting.{op.name}", [rows], [TensorType(dtypes.i64, lead)])
    return result


def place_in_all(op: Op, flat: Node) -> Node:
    """The place of the first extreme among all elements: the extreme, then the least index where it is."""
    extreme = record(MAX if op is ARGMAX else MIN, (flat,), {"axes": (0,)})
    hit = equal(flat, broadcast_node(extreme, flat.shape))
    if dtypes.is_float(flat.dtype):
        hit = bitwise_or(hit, isnan(flat))  # the extreme is then NaN, and equals nothing
    places = iota(dtypes.i32 if flat.type.size < 1 << 31 else dtypes.i64, flat.shape, 0)
    return cast_node(record(MIN, (choose(hit, places, flat.type.size - 1),), {"axes": (0,)}), dtypes.i64)


@at_once
def argmax(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index (int64) of the first largest element along an axis, or among all elements in C order; NaN wins.

    >>> argmax(kn.array([1.0, 3.0, 3.0]))  # 1
    """
    return _place(ARGMAX, x, axis, keepdims)


@at_once
def argmin(x: Operand, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index (int64) of the first smallest element along an axis, or among all elements in C order; NaN wins.

    >>> argmin(kn.array([2.0, 1.0, 1.0]))  # 1
    """
    return _place(ARGMIN, x, axis, keepdims)


@composite()
def count_nonzero(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """How many elements over axes are not 0, as int64.

    >>> count_nonzero(kn.array([0, 1, 2]))  # 2
    """
    return sum(to_bool(x), axis, keepdims=keepdims)


@composite()
def any(x: Operand, axis: Axis = None, *, keepdims: bool = False, where: Operand = None) -> Any:
    """Whether some element over axes is true (not 0); False of no elements. ``where`` says which elements count.

    >>> any(kn.array([0, 1, 2]))  # True
    """
    return to_bool(sum(to_bool(x), axis, keepdims=keepdims, where=where))


@composite()
def all(x: Operand, axis: Axis = None, *, keepdims: bool = False, where: Operand = None) -> Any:
    """Whether all elements over axes are true (not 0); True of no elements. ``where`` says which elements count.

    >>> all(kn.array([0, 1, 2]))  # False
    """
    return invert(to_bool(sum(invert(to_bool(x)), axis, keepdims=keepdims, where=where)))


# --- statistics ------------------------------------------------------------------------------------------------------


def to_float(x: Node) -> Node:
    """``x``, or if it holds integers or bools ``x`` in the default floating dtype."""
    return x if dtypes.is_float(x.dtype) else cast_node(x, ambient().dtype)


def count_along(x: Node, axis: Axis) -> int:
    """How many elements a reduction over ``axis`` folds into one."""
    n = 1
    for a in normalize_axes("mean", axis, x.ndim):
        n *= x.shape[a]
    return n


def _counted(x: Node, axis: Axis, keepdims: bool, where: Operand, correction: float, like: Node) -> Node:
    """How many elements a mean is of, less ``correction``, but not below 0."""
    if where is None or where is True:
        return constant(np.maximum(count_along(x, axis) - correction, 0).item(), like.dtype, like.shape)
    count = sum(broadcast_node(_mask(where), x.shape), axis, keepdims=keepdims, dtype=like.dtype)
    left: Node = maximum(count - correction, 0) if correction else count
    return left


def mean(x: Operand, axis: Axis = None, *, keepdims: bool = False, dtype: Any = None, where: Operand = None) -> Any:
    """The mean over axes, always floating; NaN of no elements.

    ``where`` (bools) says which elements count; with a ``dtype`` they are converted first.

    >>> mean(kn.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)  # [2, 3]
    """
    return _mean(x if dtype is None else cast(x, dtype), axis, keepdims, where)


@composite(wide=True)
def _mean(x: Operand, axis: Axis, keepdims: bool, where: Operand) -> Any:
    node = to_float(to_nodes(x)[0])
    total = sum(node, axis, keepdims=keepdims, where=where)
    return total / _counted(node, axis, keepdims, where, 0, total)


def var(
    x: Operand,
    axis: Axis = None,
    *,
    correction: float = 0,
    ddof: float = 0,
    corrected: bool = False,
    keepdims: bool = False,
    dtype: Any = None,
    mean: Operand = None,
    where: Operand = None,
) -> Any:
    """The variance over axes: squared distances from the mean, added up, over the count less ``correction``.

    ``ddof`` is NumPy's other name for the correction, ``corrected`` Knet's way to ask for one of 1. A ``mean`` that is
    known already (with the axes kept) may be given; ``where`` (bools) says which elements count; with a ``dtype`` they
    are converted first.

    >>> var(kn.array([1.0, 2.0, 3.0, 4.0]), correction=1)  # 1.6666666
    """
    x = x if dtype is None else cast(x, dtype)
    return _var(x, axis, correction or ddof or float(corrected), keepdims, mean, where)


@composite(wide=True)
def _var(x: Operand, axis: Axis, correction: float, keepdims: bool, middle: Operand, where: Operand) -> Any:
    node = to_float(to_nodes(x)[0])
    middle = _mean(node, axis, True, where) if middle is None else middle
    apart = subtract(node, middle)
    apart = apart if where is None else chosen(apart, where, 0)  # first, so that no NaN gets into gradients
    total = sum(square(apart), axis, keepdims=keepdims)
    return total / _counted(node, axis, keepdims, where, correction, total)


def std(
    x: Operand,
    axis: Axis = None,
    *,
    correction: float = 0,
    ddof: float = 0,
    corrected: bool = False,
    keepdims: bool = False,
    dtype: Any = None,
    mean: Operand = None,
    where: Operand = None,
) -> Any:
    """The standard deviation over axes: the square root of ``var``, which has the same parameters.

    >>> std(kn.array([1.0, 2.0, 3.0, 4.0]), correction=1)  # 1.2909945
    """
    x = x if dtype is None else cast(x, dtype)
    return _std(x, axis, correction or ddof or float(corrected), keepdims, mean, where)


@composite(wide=True)
def _std(x: Operand, axis: Axis, correction: float, keepdims: bool, middle: Operand, where: Operand) -> Any:
    return sqrt(_var(x, axis, correction, keepdims, middle, where))


__all__ = ["all", "any", "argmax", "argmin", "count_nonzero", "max", "mean", "min", "prod", "std", "sum", "var"]
