"""Scans: what a fold along an axis is so far. Cumulative sums, products and extremes, and linear recurrences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Combine, Domain, Kind, Op, Sample, register
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops import define, vector_log_sums
from knetc.ops.apply import (
    Operand,
    at_once,
    cast_node,
    coerce,
    composite,
    constant,
    reshape_node,
    to_nodes,
    widened,
    wrap_like,
)
from knetc.ops.arithmetic import multiply
from knetc.ops.identities import iota
from knetc.ops.indexed import scatter_add
from knetc.ops.logic import equal, isnan, where
from knetc.ops.movement import cut_node, normalize_axis, pad_node
from knetc.ops.reduction import MAX, MIN, PROD, SUM, to_float, wide_enough
from knetc.ops.transcendental import exp
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

# --- the records -----------------------------------------------------------------------------------------------------


def _infer(name: str, accepts: str) -> Callable[..., TensorType]:
    def infer(*sources: TensorType, axis: int, reverse: bool) -> TensorType:
        define.check_same(name, sources)
        x = sources[0]
        define.check_kind(name, x.dtype, accepts)
        define.check_accumulates(name, x.dtype)
        if not 0 <= axis < x.ndim:
            raise ShapeError(f"{name}: there is no axis {axis} in shape {x.shape}")
        return x

    return infer


def _samples(accepts: str, arity: int) -> list[Sample]:
    def sample(type: str, axis: int, reverse: bool = False) -> Sample:
        return define.case(*[type] * arity, axis=axis, reverse=reverse)

    cases = [
        sample("f32[7]", 0),
        sample("f64[5]", 0, reverse=True),
        sample("f64[3,5]", 1),
        sample("f64[3,5]", 0, reverse=True),
        sample("f64[2,3,4]", 1),
        sample("f32[0,3]", 0),
        sample("f32[2,1,3]", 1),
        sample("f32[3,1300]", 1),
        sample("f64[2,1300]", 1, reverse=True),
        sample("f32[40,70]", 0),
    ]
    if "i" in accepts:
        cases += [sample(f"{dtype}[4,33]", 1) for dtype in ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")]
    return cases


def _scan(
    name: str,
    *,
    reference: Callable[..., Any],
    combine: Combine | None,
    gradient: define.Gradient,
    accepts: str = "fi",
    arity: int = 1,
    domains: tuple[Domain, ...] = (),
    ulp: float = 4.0,
) -> Op:
    """Declare a scan. ``reference(axis, *arrays)`` goes forward; from the end it is applied to what is turned round."""

    def turned(*arrays: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        if not reverse:
            return np.asarray(reference(axis, *arrays))
        return np.array(np.flip(reference(axis, *(np.flip(a, axis) for a in arrays)), axis))

    bad: list[tuple[Sample, type[Exception]]] = [(define.case(*["f32[3]"] * arity, axis=1, reverse=False), ShapeError)]
    return register(
        Op(
            name,
            Kind.SCAN,
            _infer(name, accepts),
            reference=turned,
            gradient=gradient,
            combine=combine,
            cost=8,
            domains=domains,
            samples=_samples(accepts, arity),
            dtypes=accepts,
            arity=arity,
            ulp=ulp,
            bad=bad,
        )
    )


def _along(op: Op, *sources: Node, like: Node, reverse: bool | None = None) -> Node:
    """A scan of other values along the axis of ``like``, in its direction unless ``reverse`` says otherwise."""
    return record(op, sources, {"axis": like["axis"], "reverse": like["reverse"] if reverse is None else reverse})


def _before(x: Node, axis: int, reverse: bool, first: float) -> Node:
    """For each element the one before it in the direction of a scan; ``first`` where there is none."""
    n, low, high = x.shape[axis], [0] * x.ndim, [0] * x.ndim
    (high if reverse else low)[axis] = 1
    return pad_node(cut_node(x, axis, 1, n) if reverse else cut_node(x, axis, 0, n - 1), tuple(low), tuple(high), first)


def _empty(*nodes: Node) -> tuple[Node, ...]:
    return tuple(constant(0, n.dtype, n.shape) for n in nodes)


def _cumsum_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    return (_along(CUMSUM, dy, like=node, reverse=not node["reverse"]),)


CUMSUM = _scan(
    "cumsum",
    reference=lambda axis, x: np.cumsum(x, axis, dtype=x.dtype),
    gradient=_cumsum_gradient,
    combine=SUM.combine,
)


def _recurrence_reference(axis: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result = b.copy()
    values, factors = np.moveaxis(result, axis, 0), np.moveaxis(a, axis, 0)
    for k in range(1, len(values)):
        values[k] += factors[k] * values[k - 1]
    return result


def _recurrence_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    a, b = node.sources
    if not node.type.size:
        return _empty(a, b)
    axis, reverse = node["axis"], node["reverse"]
    following = _before(a, axis, not reverse, 0)
    db = _along(LINEAR_RECURRENCE, following, dy, like=node, reverse=not reverse)
    return multiply(db, _before(node, axis, reverse, 0)), db


LINEAR_RECURRENCE = _scan(
    "linear_recurrence",
    reference=_recurrence_reference,
    gradient=_recurrence_gradient,
    combine=Combine(
        identity=lambda dtype: (dtype.type(1).item(), dtype.type(0).item()),
        merge=lambda e, x, y: (e.mul(x[0], y[0]), e.add(e.mul(x[1], y[0]), y[1])),
    ),
    accepts="f",
    arity=2,
    domains=(Domain(-1.1, 1.1), Domain()),
    ulp=8,
)


def _cumprod_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    """The product before an element, times what the products from it on would be without it: exact at zeros."""
    [x] = node.sources
    if not node.type.size:
        return _empty(x)
    axis, reverse = node["axis"], node["reverse"]
    after = _along(LINEAR_RECURRENCE, _before(x, axis, not reverse, 0), dy, like=node, reverse=not reverse)
    return (multiply(_before(node, axis, reverse, 1), after),)


CUMPROD = _scan(
    "cumprod",
    reference=lambda axis, x: np.cumprod(x, axis, dtype=x.dtype),
    gradient=_cumprod_gradient,
    combine=PROD.combine,
    domains=(Domain(-1.1, 1.1),),
    ulp=72,  # twice the root of the number of factors: each device, and NumPy, multiplies in an order of its own
)


def _extreme_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    """Each result's gradient goes to the element that it is; of equal ones, to the latest that it has met."""
    [x] = node.sources
    axis, reverse, n = node["axis"], node["reverse"], node.shape[node["axis"]]
    if not node.type.size:
        return _empty(x)
    here = iota(dtypes.i64, x.shape, axis)
    met = where(equal(x, node) | isnan(x), here, n - 1 if reverse else 0)
    places = _along(CUMMIN if reverse else CUMMAX, met, like=node)
    grid = [places if k == axis else iota(dtypes.i64, x.shape, k) for k in range(x.ndim)]
    return (scatter_add(dy, grid, x.shape),)


CUMMAX = _scan(
    "cummax",
    reference=lambda axis, x: np.maximum.accumulate(x, axis),
    gradient=_extreme_gradient,
    combine=MAX.combine,
)

CUMMIN = _scan(
    "cummin",
    reference=lambda axis, x: np.minimum.accumulate(x, axis),
    gradient=_extreme_gradient,
    combine=MIN.combine,
)


def _logcumsumexp_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    """exp(x) times the sum of dy * exp(-y) from each element on, written so that no exponent is positive."""
    [x] = node.sources
    if not node.type.size:
        return _empty(x)
    axis, reverse = node["axis"], node["reverse"]

    def share(part: Node, whole: Node) -> Node:
        """exp(part - whole); of nothing (-inf), nothing."""
        return exp(where(equal(part, -math.inf), part, part - whole))  # type: ignore[no-any-return]

    steps = _before(share(_before(node, axis, reverse, -math.inf), node), axis, not reverse, 0)
    return (multiply(share(x, node), _along(LINEAR_RECURRENCE, steps, dy, like=node, reverse=not reverse)),)


LOGCUMSUMEXP = _scan(
    "logcumsumexp",
    reference=lambda axis, x: np.logaddexp.accumulate(x, axis),
    gradient=_logcumsumexp_gradient,
    combine=Combine(
        identity=lambda dtype: (-math.inf,),
        merge=lambda e, a, b: (vector_log_sums.logaddexp_simple(e, a[0], b[0]),),
    ),
    accepts="f",
    domains=(Domain(0.0, 3.0),),
    ulp=16,
)

# --- plain functions -------------------------------------------------------------------------------------------------


def _cumulated(op: Op, x: Node, axis: int | None, reverse: bool) -> Node:
    """A scan as users ask for it: along one axis, or over all elements in C order; accumulated wide enough."""
    if axis is None:
        x, axis = reshape_node(x, (x.type.size,)), 0
    axis = normalize_axis(op.name, axis, x.ndim)
    return cast_node(record(op, (widened(x),), {"axis": axis, "reverse": reverse}), x.dtype)


@at_once
def cumsum(x: Operand, axis: int | None = None, *, dtype: Any = None, reverse: bool = False) -> Any:
    """The sums along an axis of all elements up to each one, or from each one on with ``reverse``.

    Without an axis all elements are added up, in C order, and the result has one dimension. Integers and bools are
    added up as int64, unsigned ones as uint64; float16 and bfloat16 in float32, each sum rounded to them.

    >>> cumsum(kn.array([[1, 2], [3, 4]]), axis=1)  # [[1, 3], [3, 7]]
    """
    [node] = to_nodes(x)
    return wrap_like((x,), _cumulated(CUMSUM, wide_enough(node, dtype), axis, reverse))


@at_once
def cumprod(x: Operand, axis: int | None = None, *, dtype: Any = None, reverse: bool = False) -> Any:
    """The products along an axis of all elements up to each one, or from each one on with ``reverse``.

    Shapes and dtypes are as in ``cumsum``. The gradient is exact at zeros.

    >>> cumprod(kn.array([1.0, 2.0, 3.0]))  # [1, 2, 6]
    """
    [node] = to_nodes(x)
    return wrap_like((x,), _cumulated(CUMPROD, wide_enough(node, dtype), axis, reverse))


def _standard(op: Op, name: str, x: Operand, axis: int | None, dtype: Any, initial: bool, first: int) -> Any:
    [node] = to_nodes(x)
    if axis is None:
        if node.ndim != 1:
            raise ShapeError(f"{name} of {node.ndim} dimensions: say along which axis, for example axis=-1")
        axis = 0
    axis = normalize_axis(name, axis, node.ndim)
    node = wide_enough(node, dtype)
    if initial:
        low = tuple(int(k == axis) for k in range(node.ndim))
        node = pad_node(node, low, (0,) * node.ndim, first)
    return wrap_like((x,), _cumulated(op, node, axis, False))


@at_once
def cumulative_sum(x: Operand, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Any:
    """The array API's ``cumsum``: an axis is needed unless ``x`` has one; ``include_initial`` puts a 0 in front.

    >>> cumulative_sum(kn.array([1.0, 2.0, 3.0]), include_initial=True)  # [0, 1, 3, 6]
    """
    return _standard(CUMSUM, "cumulative_sum", x, axis, dtype, include_initial, 0)


@at_once
def cumulative_prod(x: Operand, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Any:
    """The array API's ``cumprod``: an axis is needed unless ``x`` has one; ``include_initial`` puts a 1 in front.

    >>> cumulative_prod(kn.array([1.0, 2.0, 3.0]), include_initial=True)  # [1, 1, 2, 6]
    """
    return _standard(CUMPROD, "cumulative_prod", x, axis, dtype, include_initial, 1)


def _extremes(op: Op, x: Operand, axis: int | None, reverse: bool) -> Any:
    [node] = to_nodes(x)
    if node.dtype == dtypes.boolean:
        return wrap_like((x,), cast_node(_cumulated(op, cast_node(node, dtypes.u8), axis, reverse), node.dtype))
    return wrap_like((x,), _cumulated(op, node, axis, reverse))


@at_once
def cummax(x: Operand, axis: int | None = None, *, reverse: bool = False) -> Any:
    """The largest element along an axis up to each one, or from each one on with ``reverse``; NaN once there is one.

    Without an axis: of all elements in C order. The gradient goes to the element that it is; of equal ones, to the
    latest so far.

    >>> cummax(kn.array([1.0, 3.0, 2.0]))  # [1, 3, 3]
    """
    return _extremes(CUMMAX, x, axis, reverse)


@at_once
def cummin(x: Operand, axis: int | None = None, *, reverse: bool = False) -> Any:
    """The smallest element along an axis up to each one, or from each one on with ``reverse``; NaN once there is one.

    Without an axis: of all elements in C order. The gradient goes to the element that it is; of equal ones, to the
    latest so far.

    >>> cummin(kn.array([3.0, 1.0, 2.0]))  # [3, 1, 1]
    """
    return _extremes(CUMMIN, x, axis, reverse)


@at_once
@composite()
def logcumsumexp(x: Operand, axis: int | None = None, *, reverse: bool = False) -> Any:
    """``log(cumsum(exp(x)))``, which neither overflows nor loses small elements before large ones.

    >>> logcumsumexp(kn.array([0.0, 0.0, 1000.0]))  # [0, 0.6931472, 1000]
    """
    [node] = to_nodes(x)
    return _cumulated(LOGCUMSUMEXP, to_float(node), axis, reverse)


@composite(2, wide=True)
def linear_recurrence(a: Operand, b: Operand, axis: int = -1, *, reverse: bool = False) -> Any:
    """``y[k] = a[k] * y[k-1] + b[k]`` along an axis, from ``y[0] = b[0]``; from the last element with ``reverse``.

    ``a`` and ``b`` broadcast against each other. Exponential averages, decays, and the state of linear recurrent
    networks are such recurrences; their gradients are again.

    >>> linear_recurrence(kn.array([0.5, 0.5, 0.5]), kn.array([1.0, 1.0, 1.0]))  # [1, 1.5, 1.75]
    """
    nodes = coerce("linear_recurrence", (a, b), accepts="f")
    place = normalize_axis("linear_recurrence", axis, nodes[0].ndim)
    return record(LINEAR_RECURRENCE, tuple(nodes), {"axis": place, "reverse": reverse})


__all__ = [
    "cummax", "cummin", "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "linear_recurrence",
    "logcumsumexp",
]  # fmt: skip
