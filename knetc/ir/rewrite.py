"""Rewriting: rules that say what may be computed otherwise, and the recorder that applies them.

A rule is data: a pattern, written with operators over variables, and what to compute instead, written with operators
over the values that the variables stand for::

    x, y = variable("x"), variable("y")
    Rule("A product with one is the other factor.", x * 1, lambda x: x)
    Rule("Adding a negated value subtracts it.", x + -y, lambda x, y: x - y)

``Rewriter`` is a recorder whose ``make`` looks for a rule before it gives a node out. Recording a graph anew with it,
sources first, rewrites all of it in one walk: sources are in their final form when a node is made, and what a rule
makes is made by the same recorder.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from knetc.ir.build import rebuild
from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind, Op
from knetc.ir.record import Recorder
from knetc.runtime.base.errors import CheckError

MAX_CHAIN = 16
"""How deep rules may build on each other's results; the nodes beyond that stay as the rules wrote them."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """What a value looks like: an operation over patterns, a constant, or anything at all; optionally with a name."""

    op: str = ""
    """Name of the operation; '' matches any."""
    sources: tuple[Pattern, ...] | None = None
    """Patterns of the sources; None does not look at them."""
    name: str = ""
    """Name under which the rule's result gets the value; a name that occurs twice means the same value twice."""
    number: float | None = None
    """Matches constants of this value; 0.0 is not -0.0."""

    def __add__(self, other: Pattern | float) -> Pattern:
        return operation("add", self, other)

    def __sub__(self, other: Pattern | float) -> Pattern:
        return operation("subtract", self, other)

    def __mul__(self, other: Pattern | float) -> Pattern:
        return operation("multiply", self, other)

    def __truediv__(self, other: Pattern | float) -> Pattern:
        return operation("true_divide", self, other)

    def __pow__(self, other: Pattern | float) -> Pattern:
        return operation("power", self, other)

    def __and__(self, other: Pattern | float) -> Pattern:
        return operation("bitwise_and", self, other)

    def __or__(self, other: Pattern | float) -> Pattern:
        return operation("bitwise_or", self, other)

    def __neg__(self) -> Pattern:
        return operation("negative", self)

    def __invert__(self) -> Pattern:
        return operation("invert", self)

    def fits(self, node: Node) -> bool:
        """Whether a value has the operation that this asks for."""
        op = "constant" if self.number is not None else self.op
        return op in ("", node.op.name)

    def match(self, node: Node, found: dict[str, Node]) -> bool:
        """Whether a value looks like this; fills in the values of the names."""
        if self.name and found.setdefault(self.name, node) is not node:
            return False
        if self.number is not None:
            return node.op.name == "constant" and _same_number(node["value"], self.number)
        if self.op and node.op.name != self.op:
            return False
        if self.sources is None:
            return True
        if len(self.sources) != len(node.sources):
            return False
        return all(pattern.match(source, found) for pattern, source in zip(self.sources, node.sources))


def _same_number(value: float, number: float) -> bool:
    return value == number and str(float(value)) == str(float(number))


def variable(name: str) -> Pattern:
    """Any value, which the rule's result gets by this name."""
    return Pattern(name=name)


def constant_named(name: str) -> Pattern:
    """A constant, which the rule's result gets by this name."""
    return Pattern(op="constant", name=name)


def operation(op: str, *sources: Pattern | float, name: str = "") -> Pattern:
    """An operation over patterns, of whatever attributes; numbers match constants."""
    return Pattern(op, tuple(s if isinstance(s, Pattern) else Pattern(number=s) for s in sources), name)


@dataclass(frozen=True, eq=False)
class Rule:
    """A pattern and what to compute instead of a value that matches it."""

    sentence: str
    """What is true, in one sentence."""
    pattern: Pattern | Kind
    """What the value looks like; a kind stands for all operations of that kind."""
    result: Callable[..., Node | None]
    """The other value, of the same type, from the values named by the parameters; ``node`` is the value itself. None:
    the rule does not apply here after all."""
    alone: str = ""
    """Name of a value that must have no other user: otherwise it would be computed all the same."""

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.result).parameters)

    def apply(self, node: Node, shared: Container[Node] = ()) -> Node | None:
        """What to compute instead of ``node``; None if the rule does not apply."""
        found: dict[str, Node] = {}
        if isinstance(self.pattern, Pattern) and not self.pattern.match(node, found):
            return None
        if self.alone and found[self.alone] in shared:
            return None
        found["node"] = node
        return self.result(*[found[name] for name in self.parameters])


class Rewriter(Recorder):
    """A recorder that gives out, for each value asked for, the simplest form that the rules know.

    ``shared`` are the values that are known to have several users.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__()
        self.rules = rules
        self.by_names: dict[tuple[str, ...], tuple[Rule, ...]] = {}
        self.simplest: dict[Node, Node] = {}
        self.shared: set[Node] = set()
        self.depth = 0

    def make(self, op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable]) -> Node:
        if op.commutative and _rank(sources[1]) < _rank(sources[0]):
            sources = sources[::-1]
        node = super().make(op, sources, attributes)
        simplest = self.simplest.get(node)
        if simplest is None:
            simplest = self.simplest[node] = self.rewritten(node)
        return simplest

    def rewritten(self, node: Node) -> Node:
        if self.depth == MAX_CHAIN:
            return node
        self.depth += 1
        try:
            for rule in self.rules_for(node):
                result = rule.apply(node, self.shared)
                if result is None:
                    continue
                if result.type != node.type:
                    raise CheckError(f"rule {rule.sentence!r} made {result!r} of {node!r}: the types differ")
                return result
            return node
        finally:
            self.depth -= 1

    def rules_for(self, node: Node) -> tuple[Rule, ...]:
        """The rules that a value may match, in their order, by its operation and those of its first sources."""
        key = (node.op.name, *[source.op.name for source in node.sources[:3]])
        rules = self.by_names.get(key)
        if rules is None:
            rules = self.by_names[key] = tuple(rule for rule in self.rules if _concerns(rule.pattern, node))
        return rules


def _concerns(pattern: Pattern | Kind, node: Node) -> bool:
    """Whether the names of operations in a pattern fit, down to the sources."""
    if isinstance(pattern, Kind):
        return node.op.kind is pattern
    return pattern.fits(node) and all(p.fits(source) for p, source in zip(pattern.sources or (), node.sources[:3]))


def _rank(node: Node) -> tuple[bool, int]:
    """The order of the operands of commutative operations: constants last, else as they were made."""
    return node.op.name == "constant", node.serial


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph recorded anew by the rules, sources first; inputs, updates, effects and names stay."""
    rewriter = Rewriter(rules)

    def note(node: Node, sources: tuple[Node, ...]) -> None:
        for old, new in zip(node.sources, sources):
            if len(graph.users[old]) > 1 or old in outputs:
                rewriter.shared.add(new)

    outputs = set(graph.outputs)
    return rebuild(graph, note, rewriter)
