"""Cases for every operation, made from its record, and the checks that any way of running a graph must pass.

An executor is a function ``(graph, inputs) -> outputs``: the interpreter, compiled code, anything. ``cases(op)`` gives
what to run, ``check(case, executor)`` compares with NumPy, ``check_gradient(case, order)`` compares the gradient pass
with differences of the operation's own values.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from knetc.runtime.base import dtypes

from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Node
from knetc.ir.op import Attributes, Domain, Kind, Op
from knetc.ir.record import record
from knetc.ir.types import Shape, TensorType
from knetc.ops.apply import broadcast_node, constant, record_sum
from knetc.ops.arithmetic import add, multiply
from knetc.passes.differentiate import gradients

_ANYWHERE = Domain()
"""Of operations that name no domain: integers are also sampled at the ends of their range."""

Executor = Callable[[Graph, Sequence[np.ndarray]], Sequence[np.ndarray]]

_DTYPES = {"f": (dtypes.f32, dtypes.f64), "i": (dtypes.i32, dtypes.i64), "b": (dtypes.boolean,)}
_OTHERS = {
    "f": (dtypes.f16, dtypes.bfloat16()),
    "i": (dtypes.i8, dtypes.i16, dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64),
    "b": (),
}
"""Dtypes of which each operation is tried in one shape."""
ALL = tuple(dtype for table in (_DTYPES, _OTHERS) for kind in "fib" for dtype in table[kind])
_SHAPES: tuple[Shape, ...] = ((), (0,), (1,), (67,), (3, 5))


@dataclass(frozen=True)
class Case:
    """One use of an operation: the types of what comes in, and the shape that all is broadcast to (if it is)."""

    op: Op
    types: tuple[TensorType, ...]
    attributes: Attributes = field(default_factory=dict)
    domains: tuple[Domain, ...] = ()
    spread: Shape | None = None

    def __str__(self) -> str:
        attributes = "".join(f",{name}={value}" for name, value in self.attributes.items())
        spread = "" if self.spread is None else f"->{list(self.spread)}"
        return f"{self.op.name}({','.join(map(str, self.types))}{attributes}){spread}"

    def apply(self, *sources: Node) -> Node:
        """The operation as a node."""
        if self.spread is not None:
            sources = tuple(broadcast_node(source, self.spread) for source in sources)
        return record(self.op, sources, self.attributes)

    def graph(self) -> Graph:
        return trace_function(self.apply, *self.types)

    def reference(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The operation's meaning in NumPy."""
        if self.spread is not None:
            arrays = [np.broadcast_to(a, self.spread) for a in arrays]
        with np.errstate(all="ignore"):
            return np.asarray(self.op.evaluate(*arrays, **self.attributes))

    def inputs(self, *, special: bool = True) -> list[np.ndarray]:
        """Arrays to try it with: random within the domains, and the special values if they are asked for."""
        random = np.random.default_rng(zlib.crc32(str(self).encode()))
        domains = self.domains or self.op.domains or (_ANYWHERE,)
        chosen = [domains[min(k, len(domains) - 1)] for k in range(len(self.types))]
        return [_sample(random, type, domain, special) for type, domain in zip(self.types, chosen)]


def _sample(random: np.random.Generator, type: TensorType, domain: Domain, special: bool) -> np.ndarray:
    if type.dtype.kind == "b":
        return random.random(type.shape) < 0.5
    if dtypes.is_integer(type.dtype):
        bounds = np.iinfo(type.dtype)
        low, high = max(int(domain.low), bounds.min), min(int(domain.high), bounds.max)
        values = random.integers(low, high, type.shape, type.dtype, endpoint=True)
        if special and domain is _ANYWHERE:
            extremes = np.array([bounds.min, bounds.max, 0, 1], type.dtype)
            values = np.where(random.random(type.shape) < 0.3, random.choice(extremes, type.shape), values)
        return values
    values = random.uniform(domain.low, domain.high, type.shape).astype(type.dtype)
    if special and domain.special and values.size > 1:
        places = random.random(type.shape) < 0.4
        with np.errstate(over="ignore"):
            extra = np.array(domain.special).astype(type.dtype)
        values = np.where(places, random.choice(extra, type.shape), values)
    return values


def cases(op: Op) -> Iterator[Case]:
    """All cases of an operation; elementwise ones without samples get dtypes, shapes and broadcasts of their own."""
    for sample in op.samples:
        yield Case(op, sample.types, sample.attributes, sample.domains)
        if any(t.dtype == dtypes.f16 for t in sample.types):  # records name no bfloat16, which is a package of its own
            types = tuple(t.with_dtype(dtypes.bfloat16()) if t.dtype == dtypes.f16 else t for t in sample.types)
            yield Case(op, types, sample.attributes, sample.domains)
    if op.kind is not Kind.ELEMENTWISE or op.samples:
        return
    attributes: Attributes = {"dtype": dtypes.f32} if op.name == "cast" else {}
    for kind in op.dtypes:
        for dtype in _DTYPES[kind]:
            for shape in _SHAPES:
                yield Case(op, (TensorType(dtype, shape),) * op.arity, attributes)
            spreads = [(4,), (3, 1), ()]
            types = tuple(TensorType(dtype, spreads[k % 3]) for k in range(op.arity))
            yield Case(op, types, attributes, spread=(3, 4))
        for dtype in _OTHERS[kind]:
            yield Case(op, (TensorType(dtype, (67,)),) * op.arity, attributes)
    if op.name == "cast":
        for dtype in ALL:
            for source in ALL:
                yield Case(op, (TensorType(source, (37,)),), {"dtype": dtype})


# --- values ----------------------------------------------------------------------------------------------------------


def check(tried: Sequence[Case], executor: Executor) -> None:
    """Run cases, all in one graph, and compare with the reference; the AssertionError tells case and first element."""
    inputs = [case.inputs() for case in tried]

    def everything(*nodes: Node) -> list[Node]:
        rest = iter(nodes)
        return [case.apply(*[next(rest) for _ in case.types]) for case in tried]

    graph = trace_function(everything, *(t for case in tried for t in case.types))
    results = executor(graph, [a for arrays in inputs for a in arrays])
    for case, arrays, result in zip(tried, inputs, results, strict=True):
        compare(case, arrays, np.asarray(result))


def compare(case: Case, inputs: Sequence[np.ndarray], result: np.ndarray) -> None:
    """Raise AssertionError unless a result is the reference's.

    Integers and bools are equal. Floats are within ``op.ulp`` units of the last place of the largest intermediate, or
    four times the error that NumPy itself makes in this dtype, whichever is more.
    """
    expected = case.reference(inputs)
    assert result.dtype == expected.dtype, f"{case}: {result.dtype} instead of {expected.dtype}"
    assert result.shape == expected.shape, f"{case}: shape {result.shape} instead of {expected.shape}"
    if not dtypes.is_float(expected.dtype):
        np.testing.assert_array_equal(result, expected, err_msg=str(case))
        return
    with np.errstate(all="ignore"):
        exact = expected
        if expected.dtype != dtypes.f64 and "dtype" not in case.attributes:
            wide = [a.astype(np.float64) if dtypes.is_float(a.dtype) else a for a in inputs]
            exact = case.reference(wide).astype(expected.dtype)
        narrow = dtypes.is_narrow(expected.dtype)
        if narrow:
            unit = 2.0 ** -dtypes.mantissa_bits(expected.dtype)
            smallest = 2.0 ** dtypes.min_exponent(expected.dtype)
            result, expected, exact = (y.astype(np.float64) for y in (result, expected, exact))
        scale = np.abs(exact)
        if case.op.kind in (Kind.REDUCTION, Kind.SCAN, Kind.LIBRARY, Kind.INDEXED):
            scale = np.abs(case.reference([np.abs(a) if dtypes.is_float(a.dtype) else a for a in inputs]))
        finite = np.isfinite(exact)
        own = np.where(finite, np.abs(expected - exact), 0)
        spacing = np.spacing(scale)
        if narrow:  # computed in float32 and rounded once, so NumPy's own error is no measure
            own = np.zeros(1)
            spacing = np.maximum(2.0 ** np.floor(np.log2(np.where(scale > 0, scale, 1))), smallest) * unit
        ulp = 1 if narrow else case.op.ulp
        allowed = np.maximum(4 * (own.max() if own.size else 0), ulp * spacing)
        wrong = np.where(finite, ~(np.abs(result - exact) <= allowed), ~((result == exact) | (result != result)))
        wrong |= np.isnan(result) != np.isnan(exact)
    if wrong.any():
        place = tuple(int(k) for k in np.argwhere(wrong)[0])
        shown = (
            [np.broadcast_to(a, case.spread)[place] if case.spread else a[place] for a in inputs if a.ndim]
            if (case.op.kind is Kind.ELEMENTWISE)
            else "…"
        )
        raise AssertionError(
            f"{case}: {int(wrong.sum())} of {wrong.size} elements are wrong; the first at {place}, for {shown}: "
            f"{result[place]!r} instead of {exact[place]!r}"
        )


# --- gradients -------------------------------------------------------------------------------------------------------


def check_gradient(function: Callable[..., Node], inputs: Sequence[np.ndarray], order: int, name: str) -> None:
    """Compare the gradient pass with central differences, in float64, projected on random directions.

    ``function`` maps nodes to a node. For order 2 the first gradients, projected, are what is differentiated.
    """
    random = np.random.default_rng(zlib.crc32(f"{name}{order}".encode()))
    moving = [k for k, a in enumerate(inputs) if a.dtype == dtypes.f64]
    types = [TensorType(a.dtype, a.shape) for a in inputs]
    [result] = trace_function(function, *types).outputs
    shapes = [result.shape] + (order - 1) * [inputs[k].shape for k in moving]
    weights = [random.uniform(0.5, 1.5, shape) for shape in shapes]
    count = len(inputs)

    def slopes_and_value(*nodes: Node) -> list[Node]:
        wanted, factors = [nodes[k] for k in moving], nodes[count:]
        value = _project([(function(*nodes[:count]), factors[0])])
        if order == 2:
            value = _project([(g, w) for g, w in zip(gradients(value, wanted), factors[1:]) if g is not None])
        found = gradients(value, wanted)
        return [value, *(constant(0.0, n.dtype, n.shape) if g is None else g for g, n in zip(found, wanted))]

    graph = trace_function(slopes_and_value, *types, *(TensorType(w.dtype, w.shape) for w in weights))
    directions = [random.uniform(-1, 1, inputs[k].shape) for k in moving]
    _, *slopes = interpret(graph, [*inputs, *weights])
    assert all(np.isfinite(slope).all() for slope in slopes), f"{name}: the gradient of order {order} is not finite"
    products = [slope * direction for slope, direction in zip(slopes, directions)]
    found = sum(float(p.sum()) for p in products)
    only_value = Graph(graph.inputs, graph.outputs[:1], graph.effects)

    def along(step: float) -> float:
        moved = list(inputs)
        for k, direction in zip(moving, directions):
            moved[k] = inputs[k] + step * direction
        return float(interpret(only_value, [*moved, *weights])[0])

    h = 1e-5
    expected = (along(h) - along(-h)) / (2 * h)
    scale = 1 + sum(float(np.abs(p).sum()) for p in products)
    assert abs(found - expected) <= 2e-7 * scale, (
        f"{name}: the gradient of order {order} along a random direction is {found!r}, by differences {expected!r}"
    )


def _project(values: Sequence[tuple[Node, Node]]) -> Node:
    """The sum of all values, each element weighted."""
    total = constant(0.0, dtypes.f64)
    for node, weights in values:
        total = add(total, record_sum(multiply(node, weights), tuple(range(node.ndim))))
    return total


def gradient_cases(op: Op) -> list[Case]:
    """The cases that gradients are checked with: those whose float sources are float64."""
    found = []
    for case in cases(op):
        floats = [t for t in case.types if dtypes.is_float(t.dtype)]
        if (
            floats
            and all(t.dtype == dtypes.f64 for t in floats)
            and case.attributes.get("dtype", dtypes.f64) == dtypes.f64
        ):
            found.append(case)
    return found


def bad_cases(op: Op) -> Iterator[tuple[Case, type[Exception]]]:
    """What an operation must refuse."""
    for sample, error in op.bad:
        yield Case(op, sample.types, sample.attributes), error
