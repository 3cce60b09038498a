"""What is pending, cut out of the lazy graph: the graph of a program, what to run it on, and a quick name for it.

Memory and numbers become inputs; so do ordinary constants, so that another learning rate is no other program.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from knetc.ir.build import input_node, plain_copy
from knetc.ir.canonical import digest, is_lifted, lift_offsets
from knetc.ir.control import may_raise
from knetc.ir.lift import Number, lifted, with_graphs
from knetc.ir.node import Graph, Node, constant_key, topological
from knetc.ir.op import MARKS, OPS, Kind
from knetc.ir.record import Recorder
from knetc.ir.types import TensorType
from knetc.memory import Storage

Argument = Storage | bool | int | float


class Cut:
    """The part of a pending graph that a program computes.

    ``walked`` are its nodes with the memory and numbers that they start from, sources first (``walk``); ``updates``
    names, for outputs that may take its memory, the leaf; ``device`` is where it runs.

    ``form`` tells all that the graph depends on but lines: equal forms have equal graphs. ``arguments`` are what the
    program is run on, in the order of the graph's inputs.
    """

    def __init__(
        self, walked: Sequence[Node], outputs: Sequence[Node], updates: Mapping[int, Node], device: str
    ) -> None:
        self.walked, self.outputs, self.device = walked, outputs, device
        self.arguments: list[Argument] = []
        exponents = {s.serial for node in walked if node.op.name == "power" for s in node.sources[1:]}
        self.inputs: dict[int, int] = {}
        """For each value that becomes an input, or repeats one, its serial and the input's number."""
        self.lifted: dict[int, tuple[list[Graph], list[tuple[int, TensorType]]]] = {}
        """For each loop or branch, by serial, its graphs, and the inputs that are the numbers in these."""
        numbers: dict[Hashable, int] = {}
        calls: dict[Hashable, int] = {}
        place: dict[int, int] = {}
        form: list[Hashable] = []
        for node in walked:
            place[node.serial] = len(form)
            if is_leaf(node):
                self.inputs[node.serial] = len(self.arguments)
                self.arguments.append(node.payload)
                form.append((node.type, isinstance(node.payload, Storage)))
            elif node.serial not in exponents and is_lifted(node):
                number = self.number(Number(node["value"], node.dtype), numbers)
                self.inputs[node.serial] = number
                form.append((number, node.type))
            elif node.op.name in MARKS:
                place[node.serial] = place[node.sources[0].serial]
            else:
                given = dict(node.attributes)
                if node.op.kind is Kind.CONTROL:
                    graphs, inside = lifted(node)
                    places = [(self.number(number, numbers), TensorType(number.dtype, ())) for number in inside]
                    self.lifted[node.serial] = graphs, places
                    given = {**with_graphs(node, map(digest, graphs)), "numbers": tuple(places)}
                if node.op.name == "host":  # calls are numbered; which ones are the same counts, not the numbers
                    given["number"] = calls.setdefault(given["number"], len(calls))
                values = [constant_key(value) for value in given.values()]
                form.append((node.op, tuple(values), tuple([place[source.serial] for source in node.sources])))
        ends = tuple([place[node.serial] for node in outputs])
        self.updates = {k: self.inputs[leaf.serial] for k, leaf in updates.items() if leaf.serial in self.inputs}
        self.form: Hashable = (tuple(form), ends, tuple(self.updates.items()))

    def number(self, number: Number, numbers: dict[Hashable, int]) -> int:
        """The input that a number becomes: each has one, and ``numbers`` says which."""
        place = numbers.setdefault(number.key, len(self.arguments))
        if place == len(self.arguments):
            self.arguments.append(number.value)
        return place

    def graph(self) -> Graph:
        """The graph whose inputs are ``arguments``."""
        builder = Recorder()
        inputs: list[Node] = []
        new: dict[int, Node] = {}

        def input(number: int, type: TensorType) -> Node:
            if number == len(inputs):
                scalar = not isinstance(self.arguments[number], Storage)
                inputs.append(input_node(builder, number, type, scalar=scalar))
            return inputs[number]

        for node in self.walked:
            number = self.inputs.get(node.serial)
            if number is not None:
                leaf = is_leaf(node)
                value = input(number, node.type if leaf else TensorType(node.dtype, ()))
                if not leaf and node.shape:
                    builder.lines = node.lines
                    value = builder.make(OPS["broadcast"], (value,), {"shape": node.shape})
                new[node.serial] = value
            else:
                sources = tuple([new[source.serial] for source in node.sources])
                if node.serial in self.lifted:
                    graphs, places = self.lifted[node.serial]
                    sources = (*sources, *(input(*place) for place in places))
                    builder.lines = node.lines
                    new[node.serial] = builder.make(node.op, sources, with_graphs(node, graphs))
                else:
                    new[node.serial] = plain_copy(builder, node, sources)
        effects = tuple(dict.fromkeys(node for node in new.values() if may_raise(node)))
        return Graph(tuple(inputs), tuple([new[node.serial] for node in self.outputs]), effects, self.updates)


def walk(outputs: Sequence[Node]) -> list[Node]:
    """What computing pending values needs, sources first, down to the values with memory."""
    stops: list[Node] = []
    seen = {node.serial for node in outputs}
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if isinstance(node.payload, Storage):
            stops.append(node)
            continue
        for source in node.sources:
            if source.serial not in seen:
                seen.add(source.serial)
                stack.append(source)
    return topological(outputs, stops)


def is_leaf(node: Node) -> bool:
    """Whether a value is memory or a number, where a walk through what is pending ends."""
    return isinstance(node.payload, (Storage, bool, int, float))


_FORMS = 4096
_forms: dict[str, str] = {}
"""Graphs with slices, by what they are apart from where the slices begin: the one that was seen, or '' for several."""


def movable(graph: Graph) -> tuple[Graph, list[int]]:
    """The graph; or, if it was met before with slices elsewhere, one that is given the places when it runs.

    A program for fixed places is the faster one, and the only one that most code needs; a loop over places is served
    by its second program.
    """
    if not any(node.op.name in ("slice", "pad") for node in graph.nodes):
        return graph, []
    moved, places = lift_offsets(graph)
    form, here = digest(moved), digest(graph)
    if _forms.setdefault(form, here) == here:
        if len(_forms) > _FORMS:
            del _forms[next(iter(_forms))]
        return graph, []
    _forms[form] = ""
    return moved, places
