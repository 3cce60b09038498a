"""The graphs of loops and branches: recorded by calling a function once, on values that are inputs of the graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

from knetc.inner import Inner
from knetc.ir.control import COUNTER
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS, Kind, Op
from knetc.ir.record import recording
from knetc.ir.types import TensorType
from knetc.lazy import Box, Storage
from knetc.ops.apply import INPUT, constant
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import TraceError


class Constants:
    """The values from outside that the graphs of one loop or branch use: inputs of all of them, in the same order."""

    def __init__(self) -> None:
        self.nodes: list[Node | None] = []
        """None for one that will be known when the graphs are."""
        self.places: dict[int, int] = {}

    def place(self, node: Node) -> int:
        """The number of a value from outside."""
        found = self.places.get(node.serial)
        if found is None:
            found = self.places[node.serial] = len(self.nodes)
            self.nodes.append(node)
        return found

    def promise(self) -> int:
        """The number of a value that is named later."""
        self.nodes.append(None)
        return len(self.nodes) - 1

    @property
    def sources(self) -> tuple[Node, ...]:
        assert None not in self.nodes
        return tuple([node for node in self.nodes if node is not None])


class Body(Inner):
    """Records one graph of a loop or a branch.

    Its first inputs are the loop's counter (if it is a loop's) and what ``types`` says; values from outside that the
    function uses become further inputs, whatever they are: ``constants`` lists them.
    """

    def __init__(self, what: str, types: Sequence[TensorType], constants: Constants, *, counted: bool = True) -> None:
        super().__init__(what)
        self.constants = constants
        self.counter: Node | None = None
        self.inputs: dict[int, Node] = {}
        self.own: set[int] = set()
        if counted:
            self.counter = self.input(0, COUNTER, scalar=True)
        self.arguments = [self.input(counted + k, type) for k, type in enumerate(types)]
        self.fixed = len(self.inputs)
        self.drawn = 0
        self.random: tuple[int, int] | None = None
        """Constants: where this graph's random numbers begin in the stream, and how many an iteration draws."""

    def input(self, place: int, type: TensorType, *, scalar: bool = False) -> Node:
        node = super().make(INPUT, (), {"index": place, "type": type, "scalar": scalar})
        self.inputs[place] = node
        self.own.add(node.serial)
        return node

    def constant(self, place: int, type: TensorType) -> Node:
        """The input for a value from outside."""
        return self.inputs.get(self.fixed + place) or self.input(self.fixed + place, type)

    def inside(self, node: Node) -> Node:
        """A value as this graph knows it: its own, or an input for one from outside."""
        if node.serial in self.own:
            return node
        if node.op.kind is Kind.LEAF and node.op.reference is not None:
            return self.make(node.op, (), node.attributes)
        return self.constant(self.constants.place(node), node.type)

    def make(self, op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable]) -> Node:
        node = super().make(op, tuple([self.inside(source) for source in sources]), attributes)
        self.own.add(node.serial)
        return node

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Within the block, what is recorded goes into this graph."""
        self.active = True
        try:
            with recording(self):
                yield
        finally:
            self.active = False

    # --- random numbers

    def random_base(self, count: int) -> Node:
        if self.random is None:
            self.random = self.constants.promise(), self.constants.promise()
        first, step = (self.constant(place, COUNTER) for place in self.random)
        if self.counter is not None:
            first = self.add(first, self.make(OPS["multiply"], (self.counter, step), {}))
        base = self.add(first, constant(self.drawn, dtypes.i64)) if self.drawn else first
        self.drawn += count
        return base

    def add(self, a: Node, b: Node) -> Node:
        return self.make(OPS["add"], (a, b), {})

    def reserve(self, iterations: int, *, backwards: bool = False) -> None:
        """Take the random numbers for so many iterations, which draw in the order of time."""
        if self.random is None:
            return
        if self.drawn * iterations >> 62:
            raise TraceError(
                f"{self.what} draws random numbers, and so may a loop inside of it, as often as the numbers in the "
                "stream last: draw them outside, or give the loops inside a fixed number of iterations"
            )
        start, step = self.random
        base, count = self.outer.random_base(self.drawn * iterations), self.drawn
        if backwards and iterations > 1:
            base = base + (iterations - 1) * count
        self.constants.nodes[start] = base
        self.constants.nodes[step] = constant(-count if backwards else count, dtypes.i64)

    # --- what cannot be done here

    def read(self, box: Box) -> Node:
        owner = self.outer
        while isinstance(owner, Inner) and box.owner is not owner:
            owner = owner.outer
        if box.owner is owner and box.owner is not None:
            assert box.node is not None
            return box.node
        return self.outer.read(box)

    def write(self, box: Box, node: Node) -> NoReturn:
        raise TraceError(
            f"a function of {self.what} assigns to an array or Param ({box.type}) from outside, which it cannot change "
            "while the loop runs: carry the value from one iteration to the next, return it, and assign it afterwards"
        )

    def concrete(self, box: Box, what: str) -> Storage:
        if box.owner is not self or not self.active:
            return super().concrete(box, what)
        made = box.node.lines[0] if box.node is not None and box.node.lines else None
        raise TraceError(
            f"{what} needs the numbers of a value ({box.type}{f', made at {made}' if made else ''}) in a function of "
            f"{self.what}, which is called once to see what it computes: use kn.where or kn.cond to choose, and "
            "kn.scan, kn.fori_loop or kn.while_loop to repeat"
        )


def finished(bodies: Sequence[Body], outputs: Sequence[Sequence[Node]]) -> tuple[Graph, ...]:
    """The graphs of one loop or branch. Each has inputs for all constants, whichever graph uses them."""
    results = [tuple(map(body.inside, nodes)) for body, nodes in zip(bodies, outputs)]  # maybe further constants
    graphs = []
    for body, nodes in zip(bodies, results):
        for place, node in enumerate(body.constants.nodes):
            body.constant(place, COUNTER if node is None else node.type)
        inputs = tuple([body.inputs[place] for place in range(len(body.inputs))])
        graphs.append(Graph(inputs, nodes, tuple(dict.fromkeys(body.effects))))
    return tuple(graphs)
