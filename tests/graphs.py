"""Random graphs for hypothesis: what passes, printers and generated code must all take."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from hypothesis import strategies as st
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

from knetc.ir.build import graph_of, input_node
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS
from knetc.ir.record import Recorder, record, recording
from knetc.ir.types import Shape, TensorType
from knetc.ops.apply import broadcast_node, cast_node, constant, reshape_node, widened
from knetc.ops.define import kind_of
from knetc.ops.identities import iota, stop_gradient
from knetc.ops.indexed import gather, scatter_add
from knetc.ops.linear import matmul
from knetc.ops.movement import cut_node, flip_node, pad_node, permute_node

Draw = Callable[[st.SearchStrategy[Any]], Any]

DTYPES = (dtypes.f32, dtypes.f64, dtypes.i32, dtypes.i64, dtypes.boolean)
OTHERS = (
    dtypes.f16, dtypes.bfloat16(), dtypes.i8, dtypes.i16, dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64, dtypes.i64,
    dtypes.boolean,
)  # fmt: skip
"""The dtypes of graphs without float32 and float64: nothing in them rounds in more than one way."""
NARROW_UNARY = ("negative", "absolute", "floor", "sqrt")
FLOAT_UNARY = ("exp", "tanh", "sin", "negative", "absolute", "sign", "floor", "sqrt")
FLOAT_BINARY = ("add", "subtract", "multiply", "true_divide", "maximum", "minimum")
INTEGER_BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "bitwise_and", "bitwise_xor")
BOOL_BINARY = ("bitwise_and", "bitwise_or", "bitwise_xor")
COMPARISONS = ("less", "equal", "not_equal", "greater_equal")
SCANS = ("cumsum", "cumprod", "cummax", "cummin", "linear_recurrence")
REDUCTIONS = ("sum", "max", "min", "prod", "argmax")
CONSTANTS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 4.0, 0.3)
MAX_SIZE = 512

shapes = st.lists(st.sampled_from((1, 1, 2, 3, 4, 5)), max_size=3).map(tuple)
shapes_or_empty = st.lists(st.sampled_from((1, 1, 2, 3, 4, 5, 0)), max_size=3).map(tuple)


@st.composite
def random_graph(
    draw: Draw,
    *,
    max_nodes: int = 14,
    floats_only: bool = False,
    exact: bool = False,
    empty: bool = False,
    others: bool = False,
) -> Graph:
    """A graph of one to three inputs over small shapes, with elementwise operations of all dtypes, reductions,
    scans, movements, gathers, scatters and matrix products.

    ``floats_only`` starts from f32 and f64 inputs only; ``exact`` leaves out the operations whose result depends on
    the order or the precision in which it is computed: with it, passes must keep every bit. ``empty`` allows arrays
    without elements. ``others``, with ``exact``, gives graphs of ``OTHERS``, of which even programs keep every bit.
    """
    with recording(Recorder()) as builder:
        kinds = OTHERS[:8] if others else (dtypes.f32, dtypes.f64) if floats_only else DTYPES
        types = draw(
            st.lists(
                st.builds(TensorType, st.sampled_from(kinds), shapes_or_empty if empty else shapes),
                min_size=1,
                max_size=3,
            )
        )
        inputs = [input_node(builder, index, type) for index, type in enumerate(types)]
        values = list(inputs)
        for _ in range(draw(st.integers(1, max_nodes))):
            step = draw(st.sampled_from(EXACT_STEPS if exact else STEPS))
            x = draw(st.sampled_from(values))
            with suppress(ShapeError):  # the largest of no elements, for one
                new = step(draw, x, values)
                if new is not None and new.type.size <= MAX_SIZE:
                    values.append(new)
        outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    return graph_of(inputs, [values[-1], *outputs])


def random_values(graph: Graph, seed: int = 0, *, special: bool = False) -> list[np.ndarray]:
    """Inputs for a graph: small numbers, some of them equal, and zeros, infinities and NaN if ``special``."""
    generator = np.random.default_rng(seed)
    values = []
    for node in graph.inputs:
        if node.dtype == dtypes.boolean:
            values.append(generator.integers(0, 2, node.shape).astype(bool))
            continue
        whole = generator.integers(-4, 5, node.shape)
        value = whole.astype(node.dtype) if dtypes.is_integer(node.dtype) else (whole / 2 + 0.25).astype(node.dtype)
        if special and dtypes.is_float(node.dtype):
            odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30], node.dtype)
            value = np.where(generator.random(node.shape) < 0.3, generator.choice(odd, node.shape), value)
        values.append(value.astype(node.dtype).reshape(node.shape))
    return values


# --- one step each: a new value from one that there is, or None -------------------------------------------------------


def _fitting(draw: Draw, x: Node, values: list[Node]) -> Node:
    """Another value brought to the type of ``x``: one that broadcasts, or a constant."""
    fits = [v for v in values if _broadcasts(v.shape, x.shape)]
    choice = draw(st.integers(0, len(fits)))
    if choice == len(fits):
        number = draw(st.sampled_from(CONSTANTS))
        return constant(dtypes.wrapped(number, x.dtype), x.dtype, x.shape)
    return broadcast_node(cast_node(fits[choice], x.dtype), x.shape)


def _broadcasts(small: Shape, large: Shape) -> bool:
    return len(small) <= len(large) and all(a in (1, b) for a, b in zip(small[::-1], large[::-1]))


def _unary(draw: Draw, x: Node, values: list[Node]) -> Node:
    if dtypes.is_float(x.dtype):
        return record(OPS[draw(st.sampled_from(NARROW_UNARY if dtypes.is_narrow(x.dtype) else FLOAT_UNARY))], (x,))
    return record(OPS["invert" if x.dtype == dtypes.boolean else draw(st.sampled_from(("negative", "invert")))], (x,))


def _binary(draw: Draw, x: Node, values: list[Node]) -> Node:
    names = {"f": FLOAT_BINARY, "i": INTEGER_BINARY, "b": BOOL_BINARY}[kind_of(x.dtype)]
    operands = [x, _fitting(draw, x, values)]
    if draw(st.booleans()):
        operands.reverse()
    return record(OPS[draw(st.sampled_from(names))], tuple(operands))


def _compare(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if x.dtype == dtypes.boolean:
        return None
    return record(OPS[draw(st.sampled_from(COMPARISONS))], (x, _fitting(draw, x, values)))


def _where(draw: Draw, x: Node, values: list[Node]) -> Node:
    condition = _fitting(draw, broadcast_node(constant(True, dtypes.boolean), x.shape), values)
    return record(OPS["where"], (condition, x, _fitting(draw, x, values)))


def _cast(draw: Draw, x: Node, values: list[Node]) -> Node:
    return cast_node(x, draw(st.sampled_from(_kinds(values))))


def _kinds(values: list[Node]) -> tuple[np.dtype, ...]:
    """The dtypes of graphs of the kind that this one is."""
    return OTHERS if any(v.dtype in OTHERS[:8] for v in values) else DTYPES


def _identity(draw: Draw, x: Node, values: list[Node]) -> Node:
    return stop_gradient(x)  # type: ignore[no-any-return]


def _ramp(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if not x.ndim:
        return None
    return iota(draw(st.sampled_from(_kinds(values)[:4])), x.shape, draw(st.integers(0, x.ndim - 1)))


def _reduce(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if not x.ndim or x.dtype == dtypes.boolean:
        return None
    name = draw(st.sampled_from(REDUCTIONS))
    axes = draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))
    result = record(OPS[name], (widened(x),), {"axes": tuple(sorted(axes))[: 1 if name == "argmax" else None]})
    return cast_node(result, x.dtype) if dtypes.is_narrow(x.dtype) and name != "argmax" else result


def _exact_reduce(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    node = _reduce(draw, x, values)
    return node if node is not None and _bottom(node).op.name in ("max", "min", "argmax") else None


def _scan(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if not x.ndim or x.dtype == dtypes.boolean:
        return None
    name = draw(st.sampled_from(SCANS[:5] if dtypes.is_float(x.dtype) else SCANS[:4]))
    attributes = {"axis": draw(st.integers(0, x.ndim - 1)), "reverse": draw(st.booleans())}
    sources = (x, _fitting(draw, x, values))[: OPS[name].arity]
    return cast_node(record(OPS[name], tuple(map(widened, sources)), attributes), x.dtype)


def _exact_scan(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    node = _scan(draw, x, values)
    return node if node is not None and _bottom(node).op.name in ("cummax", "cummin") else None


def _bottom(node: Node) -> Node:
    return node.sources[0] if node.op.name == "cast" else node


def _spread(draw: Draw, x: Node, values: list[Node]) -> Node:
    kept = tuple(draw(st.integers(1, 4)) if n == 1 else n for n in x.shape)
    return broadcast_node(x, (*draw(st.lists(st.integers(1, 3), max_size=1)), *kept))


def _insert(draw: Draw, x: Node, values: list[Node]) -> Node:
    axis = draw(st.integers(0, x.ndim))
    return reshape_node(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _reshape(draw: Draw, x: Node, values: list[Node]) -> Node:
    if not x.type.size:
        return reshape_node(x, (0, 3))
    rows = draw(st.sampled_from([d for d in range(1, x.type.size + 1) if x.type.size % d == 0]))
    return reshape_node(x, draw(st.sampled_from([(x.type.size,), (rows, x.type.size // rows)])))


def _permute(draw: Draw, x: Node, values: list[Node]) -> Node:
    return permute_node(x, tuple(draw(st.permutations(range(x.ndim)))))


def _cut(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if not x.ndim:
        return None
    axis = draw(st.integers(0, x.ndim - 1))
    if draw(st.booleans()):
        return flip_node(x, (axis,))
    start = draw(st.integers(0, max(x.shape[axis] - 1, 0)))
    return cut_node(x, axis, start, draw(st.integers(min(start + 1, x.shape[axis]), x.shape[axis])))


def _pad(draw: Draw, x: Node, values: list[Node]) -> Node:
    widths = st.lists(st.integers(0, 2), min_size=x.ndim, max_size=x.ndim).map(tuple)
    return pad_node(x, draw(widths), draw(widths), draw(st.sampled_from((0, 1))))


def _concat(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if not x.ndim:
        return None
    return record(OPS["concat"], (x, _fitting(draw, x, values)), {"axis": draw(st.integers(0, x.ndim - 1))})


def _gather(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if not x.ndim or not x.shape[0]:
        return None
    indices = iota(dtypes.i64, (draw(st.integers(1, 3)),), 0)
    last = constant(x.shape[0] - 1, dtypes.i64, indices.shape)
    return gather(x, (record(OPS["minimum"], (indices, last)),))


def _scatter(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    """Sums into few places, which are computed, as is (perhaps) what is added."""
    if not x.ndim or x.dtype == dtypes.boolean or not x.type.size:
        return None
    count = draw(st.integers(1, 3))
    ramp = iota(dtypes.i64, x.shape[:1], 0)
    places = record(OPS["minimum"], (ramp, constant(count - 1, dtypes.i64, ramp.shape)))
    return scatter_add(record(OPS["add"], (x, _fitting(draw, x, values))), (places,), (count, *x.shape[1:]))


def _matmul(draw: Draw, x: Node, values: list[Node]) -> Node | None:
    if not dtypes.is_float(x.dtype) or x.ndim != 2:
        return None
    return matmul(x, permute_node(_fitting(draw, x, values), (1, 0)))  # type: ignore[no-any-return]


_ELEMENTWISE = (_unary, _binary, _binary, _binary, _compare, _where, _cast, _identity)
_MOVEMENTS = (_spread, _spread, _insert, _reshape, _permute, _cut, _pad, _concat)
EXACT_STEPS = (*_ELEMENTWISE, *_MOVEMENTS, _ramp, _gather, _exact_reduce, _exact_scan)
STEPS = (*_ELEMENTWISE, *_MOVEMENTS, _ramp, _gather, _reduce, _reduce, _scan, _scatter, _matmul)


def count(graph: Graph) -> int:
    """Number of elements that operations compute, movements aside."""
    return sum(math.prod(node.shape) for node in graph.nodes if node.op.kind.value not in ("leaf", "movement"))
