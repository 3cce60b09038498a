"""Batching: the values that a recorded computation has for many elements at once, along a new first axis.

One rule for each kind of operation, and for the few whose attributes name axes or shapes; each makes the nodes for all
elements from nodes that hold all elements (the axis is always the first) or one value for all. Composites follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from knetc.inner import Inner
from knetc.ir.build import copy_node
from knetc.ir.node import Graph, Node, topological
from knetc.ir.op import Kind
from knetc.ir.record import Recorder, record, recorder, recording
from knetc.ir.types import TensorType
from knetc.lazy import Context
from knetc.ops.apply import INPUT, broadcast_node, constant, record_sum, reshape_node
from knetc.ops.arithmetic import add, multiply
from knetc.ops.host import HOST, by_rule
from knetc.ops.identities import CHECK_RANGE, fresh_region, iota
from knetc.ops.indexed import gather, scatter, scatter_add
from knetc.ops.linear import MATMUL, swapped
from knetc.ops.logic import logical_and
from knetc.ops.movement import permute_node
from knetc.ops.reduction import any as any_of
from knetc.passes import batch_control
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import UnsupportedError
from knetc.runtime.base.host_functions import for_each, lookup


class Value(NamedTuple):
    """What stands for a recorded value: a node, which holds all elements along its first axis or one for all."""

    node: Node
    batched: bool


@dataclass
class Batch:
    """A computation recorded by ``inner``, to be recorded anew for ``size`` elements."""

    inner: Recorder
    size: int
    known: dict[Node, Value]
    """What stands for stand-ins, and for what has been recorded anew."""
    regions: dict[int, int] = field(default_factory=dict)
    """The numbers of marks, and what they become."""
    parts: dict[Node, list[Value]] = field(default_factory=dict)
    """What stands for the results of loops and branches."""
    made: Set[Node] = field(default_factory=frozenset)
    """The values of the computation; all others are from outside. None given: all that ``inner`` has made."""
    active: Node | None = None
    """In what only some elements have chosen, which ones: the others compute it too, but are not checked, and no Python
    function is called for them. None: all."""

    def __post_init__(self) -> None:
        self.made = set(self.inner.interned.values()) | self.made

    def values(self, outputs: Sequence[Node], effects: Sequence[Node] = ()) -> list[Value]:
        """What stands for each output; recorded with the lines of the original, and with the checks ``effects``."""
        outside = {s for node in self.made for s in node.sources if s not in self.made}
        outside.update(node for node in outputs if node not in self.made)
        current = recorder()
        lines = current.lines
        try:
            for node in topological((*outputs, *effects), (*outside, *self.known)):
                if node in self.known:
                    continue
                current.lines = node.lines
                self.known[node] = Value(node, False) if node in outside else self.again(node)
        finally:
            current.lines = lines
        return [self.known[node] for node in outputs]

    def again(self, node: Node) -> Value:
        """A value of the computation, from what stands for its sources."""
        sources = [self.known[source] for source in node.sources]
        if node.op.name == "by_rule":
            return self.by_rule(node, sources)
        if node.op.name in _FIRST:
            return self.first(node, sources)
        if node.op.kind is Kind.ITEM and node.sources[0] in self.parts:
            return self.parts[node.sources[0]][int(node["index"])]
        batched = any(source.batched for source in sources)
        if node.op.kind is Kind.CONTROL and (batched or self.active is not None):
            results = batch_control.batched(node, sources, self.size, self.graph, self.active)
            self.parts[node] = [Value(*pair) for pair in results]
            return Value(node, True)  # whose results are all that is asked for
        sorts = node.op is HOST and lookup(str(node["function"])).fills  # which any numbers do for
        if self.active is not None and node.op in (CHECK_RANGE, HOST) and not sorts:
            return self.where_chosen(node, sources, self.active)
        if not batched:
            return Value(copy_node(recorder(), node, tuple(s.node for s in sources)), False)
        rule = _rule_of(node)
        if rule is None:
            raise unsupported(node.op.name)
        return Value(rule(node, sources, self.size), True)

    def graph(
        self, graph: Graph, inputs: Sequence[tuple[Node, bool]], active: Node | None = None
    ) -> list[tuple[Node, bool]]:
        """What stands for the outputs of a graph, and whether each is batched, from that for its inputs.

        With ``active``, a bool for each element, for those that are active here too.
        """
        known = {leaf: Value(*pair) for leaf, pair in zip(graph.inputs, inputs)}
        if active is None or self.active is None:
            both = active or self.active
        else:
            both = logical_and(self.active, active)
        batch = Batch(Recorder(), self.size, known, self.regions, made=set(graph.nodes), active=both)
        return [(value.node, value.batched) for value in batch.values(graph.outputs, graph.effects)]

    def where_chosen(self, node: Node, sources: Sequence[Value], active: Node) -> Value:
        """A check or a call of a Python function, for the active elements; one for all is made if any is active."""
        batched = any(source.batched for source in sources)
        size = self.size if batched else 1
        if not batched:
            active = reshape_node(any_of(active), (1,))
            sources = [Value(reshape_node(s.node, (1, *s.node.shape)), True) for s in sources]
        every = _all(node, sources, size)
        if node.op is HOST:
            function = for_each(str(node["function"]), chosen=True)
            attributes = {**node.attributes, "function": function, "shape": (size, *node.shape)}
            value = record(HOST, (active, *every), attributes)
        else:
            if node["low"] >= node["high"]:  # no number is good, also none to stand for those that are not active
                raise unsupported("what reads from an array without elements, where each element chooses for itself")
            low = constant(node["low"], node.dtype, every[0].shape)
            value = record(CHECK_RANGE, (batch_control.chosen(active, every[0], low),), node.attributes)
        return Value(value if batched else reshape_node(value, node.shape), batched)

    def first(self, node: Node, sources: Sequence[Value]) -> Value:
        """A value that is its first source; the others stay as they are."""
        attributes = node.attributes
        if "region" in attributes:
            attributes = {"region": self.regions.setdefault(node["region"], fresh_region())}
        return Value(record(node.op, tuple(source.node for source in sources), attributes), sources[0].batched)

    def spread(self, node: Node, value: Value) -> Node:
        """What stands for ``node``, for each element."""
        return spread(node, value, self.size)

    def by_rule(self, node: Node, sources: Sequence[Value]) -> Value:
        """A value with a gradient of its own: the rule makes what it makes for one element, and that is batched."""
        flags = [source.batched for source in sources]
        batched, size = any(flags), self.size
        value, *others = sources

        def rule(new: Node, dy: Node) -> Sequence[Any]:  # looks at the nodes that it is given, as loops record anew
            def contribution(place: int) -> Node | None:
                inner = _inner()
                with recording(inner):
                    one = inner.make(INPUT, (), {"index": -1, "type": node.type, "scalar": False})
                    part = node["rule"](node, one)[place]
                    part = part() if callable(part) else part
                if part is None:
                    return None
                known = {old: Value(it, flag) for old, it, flag in zip(node.sources[1:], new.sources[1:], flags[1:])}
                known |= {node: Value(new, batched), one: Value(dy, batched)}
                if isinstance(inner, Inner):
                    known |= draws(inner.draws, size)
                [found] = Batch(inner, size, known).values([part])
                if flags[1 + place]:
                    return spread(part, found, size)
                return record_sum(found.node, (0,)) if found.batched else found.node

            return [lambda place=place: contribution(place) for place in range(len(others))]

        first = self.spread(node.sources[0], value) if batched else value.node
        return Value(by_rule(first, [other.node for other in others], rule), batched)


def _inner() -> Recorder:
    """A recorder for what a rule makes for one element."""
    return Inner("vmap") if isinstance(recorder(), Context) else Recorder()


def spread(node: Node, value: Value, size: int) -> Node:
    """What stands for ``node``, for each of ``size`` elements."""
    return value.node if value.batched else broadcast_node(value.node, (size, *node.shape))


def unsupported(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"vmap has no rule for {what}: apply it to all elements outside of the function under vmap, or to each in a "
        "Python loop and join the results with kn.stack"
    )


# --- rules -----------------------------------------------------------------------------------------------------------

Rule = Callable[[Node, Sequence[Value], int], Node]
"""``rule(node, sources, size)``: the node for all elements; at least one of the sources is batched."""


def _all_of(nodes: Sequence[Node], values: Sequence[Value], size: int) -> list[Node]:
    return [spread(node, value, size) for node, value in zip(nodes, values)]


def _all(node: Node, sources: Sequence[Value], size: int) -> tuple[Node, ...]:
    return tuple(_all_of(node.sources, sources, size))


def _same(node: Node, sources: Sequence[Value], size: int) -> Node:
    """Element by element: the same operation."""
    return record(node.op, _all(node, sources, size), node.attributes)


def _with(**changes: Callable[[Any, int], Any]) -> Rule:
    """The same operation with some attributes changed, each by a function of its value and the number of elements."""

    def rule(node: Node, sources: Sequence[Value], size: int) -> Node:
        new: Mapping[str, Any] = {name: change(node[name], size) for name, change in changes.items()}
        return record(node.op, _all(node, sources, size), {**node.attributes, **new})

    return rule


def _moved(axis: int, size: int) -> int:
    return axis + 1


def _next(axes: tuple[int, ...], size: int) -> tuple[int, ...]:
    return tuple(axis + 1 for axis in axes)


def _first(value: int) -> Callable[[tuple[int, ...], int], tuple[int, ...]]:
    return lambda values, size: (value, *values)


def _size_first(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    return (size, *shape)


def _broadcast(node: Node, sources: Sequence[Value], size: int) -> Node:
    [source], [value] = node.sources, sources
    missing = (1,) * (node.ndim - source.ndim)
    return broadcast_node(reshape_node(value.node, (size, *missing, *source.shape)), (size, *node.shape))


def _element(places: tuple[int, ...], size: int) -> Node:
    """Each element's number, at every one of its places."""
    return iota(dtypes.i64, (size, *places), 0)


def _gather(node: Node, sources: Sequence[Value], size: int) -> Node:
    x, *indices = sources
    if not x.batched:
        return gather(x.node, _all_of(node.sources[1:], indices, size))
    places = node.sources[1].shape
    return gather(x.node, [_element(places, size), *_all_of(node.sources[1:], indices, size)])


def _scatter_add(node: Node, sources: Sequence[Value], size: int) -> Node:
    dy = spread(node.sources[0], sources[0], size)
    places = node.sources[1].shape
    indices = _all_of(node.sources[1:], sources[1:], size)
    return scatter_add(dy, [_element(places, size), *indices], (size, *node.shape))


def _scatter(node: Node, sources: Sequence[Value], size: int) -> Node:
    x, values = (spread(old, new, size) for old, new in zip(node.sources[:2], sources[:2]))
    indices = _all_of(node.sources[2:], sources[2:], size)
    return scatter(x, values, [_element(node.sources[2].shape, size), *indices])


def _matmul(node: Node, sources: Sequence[Value], size: int) -> Node:
    """A stack of products; where one factor is the same matrix for all, one product of all the rows of the other."""
    left, right = sources
    if node.ndim > 2 or (left.batched and right.batched) or 0 in node.sources[0].shape:
        return record(MATMUL, _all(node, sources, size))
    if left.batched:
        return _rows(left.node, right.node)
    return swapped(_rows(swapped(right.node), swapped(left.node)))


def _rows(stack: Node, matrix: Node) -> Node:
    """``stack @ matrix`` as one product."""
    size, rows, inner = stack.shape
    product = record(MATMUL, (reshape_node(stack, (size * rows, inner)), matrix))
    return reshape_node(product, (size, rows, matrix.shape[-1]))


def _host(node: Node, sources: Sequence[Value], size: int) -> Node:
    """A call for each element, or one for the whole stack if the function takes stacks."""
    function = for_each(str(node["function"]))
    attributes = {**node.attributes, "function": function, "shape": (size, *node.shape)}
    return record(node.op, _all(node, sources, size), attributes)


_KINDS: Mapping[Kind, Rule] = {
    Kind.ELEMENTWISE: _same,
    Kind.REDUCTION: _with(axes=_next),
    Kind.EFFECT: _same,
}

_RULES: Mapping[str, Rule] = {
    "broadcast": _broadcast,
    "reshape": _with(shape=_size_first),
    "permute": _with(axes=lambda axes, size: (0, *_next(axes, size))),
    "slice": _with(starts=_first(0), stops=_size_first, steps=_first(1)),
    "pad": _with(low=_first(0), high=_first(0)),
    "concat": _with(axis=_moved),
    "gather": _gather,
    "scatter": _scatter,
    "scatter_add": _scatter_add,
    "matmul": _matmul,
    "host": _host,
}


_FIRST = frozenset({"kept", "recomputed", "after"})


def _rule_of(node: Node) -> Rule | None:
    """The rule for a value; None if its operation has none."""
    known = _RULES.get(node.op.name) or _KINDS.get(node.op.kind)
    return _with(axis=_moved) if known is None and "axis" in node.attributes else known


def draws(counts: Mapping[Node, int], size: int) -> dict[Node, Value]:
    """For each place in the stream of random numbers where ``count`` are drawn, places for all elements."""
    found = {}
    for node, number in counts.items():
        base = broadcast_node(recorder().random_base(number * size), (size,))
        step = multiply(iota(dtypes.i64, (size,), 0), constant(number, dtypes.i64, (size,)))
        found[node] = Value(add(base, step), True)
    return found


def stand_in_type(node: Node, axis: int) -> TensorType:
    """The type of one element of a value, along an axis."""
    return TensorType(node.dtype, node.shape[:axis] + node.shape[axis + 1 :])


def to_front(node: Node, axis: int) -> Node:
    """``node`` with an axis in the first place."""
    return permute_node(node, (axis, *(k for k in range(node.ndim) if k != axis)))


def from_front(node: Node, axis: int) -> Node:
    """``node`` with its first axis in another place."""
    order = list(range(1, node.ndim))
    order.insert(axis, 0)
    return permute_node(node, tuple(order))
