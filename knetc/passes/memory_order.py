"""Who reads what from memory, and in which order: what fusion and scheduling start from.

Matmuls read their operands through views, so movements that strides can express vanish in front of them. The new
value of a Param may take the old one's memory when all readers of the old value can come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from knetc.ir.build import copy_node
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS, Kind
from knetc.ir.record import Recorder, record, recorder, recording
from knetc.ops.indexed import SCATTERS
from knetc.ops.movement import concat_node, permute_node
from knetc.passes.domain import CHEAP, is_inlined, is_number
from knetc.passes.prologue import Chooser, with_prologues
from knetc.passes.views import VIEWS, View, view_of

_READ_WHOLE = ("matmul", "scatter_add", "scatter", "gather", "host", "after")

MAX_CHOSEN = 8
"""How many values a kernel joins by choosing, at each place, the one that is there. More of them are written side by
side into the memory of the whole, each by its own kernel: one that has the code of all takes long to compile, and to
choose."""


def is_side_by_side(node: Node) -> bool:
    """Whether a value is many others, one after the other in memory."""
    return node.op.name == "concat" and len(node.sources) > MAX_CHOSEN


def with_memory(graph: Graph) -> Graph:
    """Give all that must lie in memory a place there, by copies.

    Every output gets a value of its own: a copy where it is an input, a constant, or another output's memory. A number
    that kernels are given by value is copied where a matmul, a check, a host call or a loop reads it: they know memory
    alone.
    """
    claimed: set[Node] = set()
    with recording(Recorder()) as builder:
        new: dict[Node, Node] = {}
        for node in graph.nodes:
            sources = tuple([new[s] for s in node.sources])
            if is_side_by_side(node) and any(n != 1 for n in node.shape[: node["axis"]]):
                builder.lines = node.lines
                new[node] = _side_by_side(sources, node["axis"])
                continue
            if node.op.kind in (Kind.EFFECT, Kind.CONTROL) or node.op.name in _READ_WHOLE or is_side_by_side(node):
                builder.lines = node.lines
                inlined = len(scattered(node)[1]) if node.op.name in SCATTERS else 0  # numbers spread while it writes
                read = len(sources) - inlined
                sources = (*[_based_on_memory(builder, s) for s in sources[:read]], *sources[read:])
            new[node] = copy_node(builder, node, sources)
        outputs: list[Node] = []
        for old in graph.outputs:
            node = new[old]
            base = node
            while may_alias(base):
                base = base.sources[0]
            if base in claimed or is_inlined(base) or base.op.name == "input":
                builder.lines = old.lines
                node = base = record(OPS["copy"], (node,), {"number": len(outputs)})
            claimed.add(base)
            outputs.append(node)
    return Graph(
        tuple(new[n] for n in graph.inputs),
        tuple(outputs),
        tuple(new[n] for n in graph.effects),
        graph.updates,
        graph.input_names,
        graph.output_names,
    )


def _side_by_side(parts: tuple[Node, ...], axis: int) -> Node:
    """Values joined along an axis that is not the first one: the turned values joined along that, turned back."""
    rest = tuple(k for k in range(parts[0].ndim) if k != axis)
    turned = [permute_node(_based_on_memory(recorder(), part), (axis, *rest)) for part in parts]
    return permute_node(concat_node(turned, 0), (*range(1, axis + 1), 0, *range(axis + 1, parts[0].ndim)))


def may_alias(node: Node) -> bool:
    """Whether a value may be found in the memory of its first source."""
    return node.op.name in ("reshape", "after") or node.op.kind is Kind.EFFECT


def _based_on_memory(builder: Recorder, node: Node) -> Node:
    """A value, or the same movements of a copy where what they move is a number that lies in no memory."""
    chain: list[Node] = []
    base = node
    while base.op.name in VIEWS:
        chain.append(base)
        base = base.sources[0]
    if not is_number(base):
        return node
    copied = record(OPS["copy"], (base,), {"number": -1})
    for movement in reversed(chain):
        copied = copy_node(builder, movement, (copied,))
    return copied


INLINE_VALUES, INLINE_LEAVES = 12, 3
"""What a scatter computes for itself at most, rather than reading it: values, and arrays that they are made of."""


def scattered(node: Node) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """The sources of a scatter: what it starts from (if anything), and its values and indices."""
    return node.sources[: node.op.name == "scatter"], node.sources[node.op.name == "scatter" :]


class Expression(NamedTuple):
    """A value as cheap elementwise operations on ``leaves``, which lie in memory and have its shape, or are numbers."""

    inside: tuple[Node, ...]
    """The operations, constants, index ramps and spread numbers, each after its sources."""
    leaves: tuple[Node, ...]


def expression(root: Node) -> Expression:
    """How a scatter computes one of its operands: element by element, from few arrays."""
    inside: dict[Node, None] = {}
    leaves: dict[Node, None] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        if node in inside or node in leaves:
            stack.pop()
        elif not _is_cheap(node):
            leaves[stack.pop()] = None
        elif missing := [s for s in node.sources if s not in inside and s not in leaves]:
            stack.extend(missing)
        else:
            inside[stack.pop()] = None
        if len(inside) > INLINE_VALUES or len(leaves) > INLINE_LEAVES:
            return Expression((), (root,))
    return Expression(tuple(inside), tuple(leaves))


def _is_cheap(node: Node) -> bool:
    """Whether a value costs less to compute at a place than to read there."""
    if node.op.kind is not Kind.ELEMENTWISE:
        return is_inlined(node) or (node.op.name in VIEWS and _is_spread(node))
    return bool(node.op.cost <= CHEAP) and node.op.name != "copy"


def _is_spread(node: Node) -> bool:
    """Whether all elements are one number that kernels are given by value."""
    while node.op.name in VIEWS or node.op.name == "cast":
        node = node.sources[0]
    return is_number(node)


class MemoryOrder:
    """A graph with its values in an order that respects in-place updates, and what each reads.

    With ``narrow``, matmuls read float16 and bfloat16 operands as they are, and widen them themselves. Operands that
    ``computes`` chooses they compute themselves.
    """

    def __init__(self, graph: Graph, *, narrow: bool = False, computes: Chooser | None = None) -> None:
        self.graph = graph
        self.views: dict[tuple[Node, int], View] = {}
        """How a matmul sees its operands, by node and position."""
        self.sources: dict[Node, tuple[Node, ...]] = {}
        for node in graph.nodes:
            if node.op.name == "matmul":
                self.views.update({(node, k): view_of(s, narrow=narrow) for k, s in enumerate(node.sources)})
        if computes is not None:
            self.views |= with_prologues(graph, self.views, computes)
        for node in graph.nodes:
            if node.op.name == "matmul":
                given = (n for k in range(2) for n in self.views[node, k].arguments)
                self.sources[node] = tuple(n for n in given if not is_number(n))
            elif node.op.name in SCATTERS:
                kept, operands = scattered(node)
                leaves = (leaf for operand in operands for leaf in expression(operand).leaves)
                self.sources[node] = tuple(dict.fromkeys((*kept, *leaves)))
            else:
                self.sources[node] = node.sources
        self.in_place: dict[int, int] = {}
        """Output position -> input position, of updates that overwrite their input."""
        self._hazards: dict[Node, list[Node]] = {}
        self.nodes = self._ordered()
        self.users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for source in self.sources[node]:
                self.users[source].append(node)

    def overwritten_by(self, node: Node) -> list[Node]:
        """The new values that take the memory of something that ``node`` reads."""
        return self._hazards.get(node, [])

    def _ordered(self) -> list[Node]:
        extra: dict[Node, list[Node]] = {}
        roots = (*self.graph.inputs, *self.graph.effects, *self.graph.outputs)
        order = _topological(roots, self.sources, {})
        index = {node: k for k, node in enumerate(order)}
        readers: dict[Node, list[Node]] = {}
        for node in order:
            for source in self.sources[node]:
                while may_alias(source):
                    source = source.sources[0]
                if source.op.name == "input":
                    readers.setdefault(source, []).append(node)
        for output, position in self.graph.updates.items():
            written, old = self.graph.outputs[output], self.graph.inputs[position]
            others = [r for r in readers.get(old, []) if r is not written]
            late = {r for r in others if index[r] > index[written]}
            if written.type == old.type and not (late and self._depend(late, written, order, index)):
                self.in_place[output] = position
                extra.setdefault(written, []).extend(others)
                for reader in others:
                    self._hazards.setdefault(reader, []).append(written)
        if not extra:
            return order
        order = _topological(roots, self.sources, extra)
        index = {node: k for k, node in enumerate(order)}
        if any(index[r] > index[w] for w, rs in extra.items() for r in rs):  # updates that need each other's old values
            self.in_place.clear()
            self._hazards.clear()
            return _topological(roots, self.sources, {})
        return order

    def _depend(self, readers: set[Node], written: Node, order: list[Node], index: dict[Node, int]) -> bool:
        """Whether one of ``readers`` needs ``written``."""
        tainted = {written}
        for node in order[index[written] + 1 :]:
            if any(s in tainted for s in self.sources[node]):
                if node in readers:
                    return True
                tainted.add(node)
        return False


def _topological(
    roots: tuple[Node, ...], sources: Mapping[Node, tuple[Node, ...]], extra: Mapping[Node, list[Node]]
) -> list[Node]:
    """Depth-first order over memory dependences, with extra predecessors. Never recurses."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        stack = [(root, iter((*sources[root], *extra.get(root, ()))))]
        if root in seen:
            continue
        seen.add(root)
        while stack:
            node, rest = stack[-1]
            for source in rest:
                if source not in seen:
                    seen.add(source)
                    stack.append((source, iter((*sources[source], *extra.get(source, ())))))
                    break
            else:
                stack.pop()
                order.append(node)
    return order
