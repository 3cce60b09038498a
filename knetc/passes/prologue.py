"""Operands that a matrix product computes while it reads, from what they are made of, and that nobody stores.

A product reads an element of an operand once for each of its tiles across, and would compute it as often: whether that
is cheaper than a kernel that stores the operand, and reading it again, is for the target to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind
from knetc.passes.domain import CHEAP, is_inlined, is_number
from knetc.passes.views import VIEWS, View, chain_above, dense_strides, through, view_of

DEAR = 64
"""Work of one operation that may be done more than once: random numbers take 40."""

VALUES, ARRAYS = 24, 6
"""Values that an operand is computed from at most, and arrays and numbers among them."""

SMALL = 8
"""Arrays that are so many times smaller than an operand may be stored for its sake: rows' means, say."""

Slot = tuple[Node, int]
"""A matmul, and which of its operands."""


@dataclass(frozen=True)
class Candidate:
    """An operand that could be computed where it is read."""

    value: Node
    views: Mapping[Slot, View]
    """How each product that reads it would see what it is computed from."""
    in_memory: bool
    """Whether its large arrays are inputs: else a kernel that makes one of them might store the operand as well."""


@dataclass(frozen=True)
class _Expression:
    """A value as operations on what is read."""

    inside: tuple[Node, ...]
    """The operations, constants, and movements between them, each after its sources."""
    reads: tuple[Node, ...]
    """Arrays, the largest one first, then index ramps and numbers; or movements of them."""
    moved: Mapping[Node, tuple[Node, ...]]
    """The movements that stand between the value and each of these, the last one first."""
    in_memory: bool


Chooser = Callable[[Candidate], bool]
"""Whether an operand is better computed by its readers."""


def with_prologues(graph: Graph, views: Mapping[Slot, View], choose: Chooser) -> dict[Slot, View]:
    """The views of operands that are computed while they are read."""
    slots: dict[Node, list[Slot]] = {}
    for slot, view in views.items():
        if view.base.op.kind is Kind.ELEMENTWISE:
            slots.setdefault(view.base, []).append(slot)
    if not slots:
        return {}
    users: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        for source in node.sources:
            users.setdefault(source, []).append(node)
    kept = {*graph.outputs, *graph.effects}
    found: dict[Slot, View] = {}
    for value, readers in slots.items():
        above = {value, *chain.from_iterable(chain_above(m.sources[k], value) for m, k in readers)}
        products = {m for m, _ in readers}
        if not kept.isdisjoint(above) or any(u not in above and u not in products for n in above for u in users[n]):
            continue  # it is stored anyway
        for work in (DEAR, CHEAP):
            expression = _expression(value, work, users)
            if expression is None:
                continue
            made = {slot: _seen(expression, views[slot], slot) for slot in readers}
            seen = {slot: view for slot, view in made.items() if view is not None}
            if len(seen) == len(made) and choose(Candidate(value, seen, expression.in_memory)):
                found |= seen
                break
    return found


def _expression(value: Node, work: int, users: Mapping[Node, Sequence[Node]]) -> _Expression | None:
    """How a value is computed, if what it is made of is in memory anyway, or small."""
    found = _made_of(value, work)
    if found is None:
        return None
    inside, reads, moved = found
    bases = {leaf: view_of(leaf).base for leaf in reads}
    own = {*inside, *chain.from_iterable(chain_above(leaf, base) for leaf, base in bases.items())}
    in_memory = True
    for base in bases.values():
        if is_inlined(base) and base.op.name != "iota":
            return None
        if base.op.kind is Kind.LEAF or base.type.size * SMALL <= value.type.size:
            continue
        if all(user in own for user in users[base]):
            return None  # what makes it had better make the operand
        in_memory = False
    arrays = [leaf for leaf in reads if bases[leaf].op.name != "iota" and not is_number(bases[leaf])]
    if not arrays:
        return None
    arrays.sort(key=lambda leaf: -bases[leaf].type.size)
    others = [leaf for leaf in reads if leaf not in arrays]
    return _Expression(tuple(inside), (*arrays, *others), moved, in_memory)


def _made_of(value: Node, work: int) -> tuple[list[Node], list[Node], dict[Node, tuple[Node, ...]]] | None:
    """What a value is computed by, in order, from what, and what moves that; None for what is too much.

    Operations of no more than ``work`` are looked through, and movements of what they make.
    """
    moved: dict[Node, tuple[Node, ...]] = {value: ()}
    inside: dict[Node, None] = {}
    reads: dict[Node, None] = {}
    stack = [value]
    while stack:
        node = stack[-1]
        if node in inside or node in reads:
            stack.pop()
            continue
        if not _is_computed(node, work):
            reads[stack.pop()] = None
        elif missing := [s for s in node.sources if s not in inside and s not in reads]:
            stack.extend(missing)
        else:
            inside[stack.pop()] = None
        way = (*moved[node], node) if node.op.kind is Kind.MOVEMENT else moved[node]
        for source in node.sources if node not in reads else ():
            if moved.setdefault(source, way) != way:
                return None  # of other elements than where it was met first
        if len(inside) > VALUES or len(reads) > ARRAYS:
            return None
    return (list(inside), list(reads), moved) if inside else None


def _is_computed(node: Node, work: int) -> bool:
    """Whether a value is computed where it is used."""
    if node.op.kind is Kind.ELEMENTWISE:
        return bool(node.op.cost <= work) and node.op.name != "copy"
    if node.op.name not in VIEWS:
        return node.op.kind is Kind.LEAF and node.op.name == "constant"
    base = node
    while base.op.name in VIEWS or base.op.name == "cast":
        base = base.sources[0]
    if is_number(base):
        return True
    [source] = node.sources
    return node.op.name != "broadcast" and (source.op.kind is Kind.ELEMENTWISE or source.op.name in VIEWS)


def _growth(ramp: Node) -> tuple[int, ...]:
    return tuple(int(k == ramp["axis"]) for k in range(ramp.ndim))


def _seen(expression: _Expression, view: View, slot: Slot) -> View | None:
    """How a product sees what its operand is computed from; None where strides cannot express it."""
    matmul, position = slot
    above = chain_above(matmul.sources[position], expression.inside[-1])
    reads: list[tuple[Node, View]] = []
    for leaf in expression.reads:
        base = view_of(leaf).base
        found: View | None = View(base, 0, (0,) * len(view.strides))
        if not is_number(base):
            strides = _growth(base) if base.op.name == "iota" else dense_strides(base.shape)
            found = through(base, [*above, *expression.moved[leaf], *chain_above(leaf, base)], strides)
        if found is None:
            return None
        reads.append((leaf, found))
    return replace(reads[0][1], prologue=expression.inside, reads=tuple(reads))
