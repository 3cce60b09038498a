"""Graphs as text: Python that a person reads and ``reader`` reads back; JSON and Graphviz for other tools.

::

    def graph(x: f32[8,10], w: f32[10], lr: scalar[f32]):
        t0: f32[8,10] = broadcast(w, shape=(8, 10))   # model.py:6
        t1: f32[8,10] = x * t0                        # model.py:6
        t2: f32[8] = sum(t1, axes=(1,))               # model.py:7
        return t2

A value is a line: its name, type, operation, and where the user wrote it (``∂``: what differentiation made of that
line). Types of shape () are bare names. Constants stand where they are used as long as their type can be told from
there. A result that overwrites an input's memory is written ``(w := t5)``. A group is a function within the function;
so are the bodies of loops and branches, which ``scan``, ``while_loop`` and ``branch`` are given by name.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from knetc.ir.node import Graph, Line, Node, float_text
from knetc.ir.op import OPS, Kind, Op
from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CheckError

COMMENT_COLUMN = 60
#: names that mean something else in the text
RESERVED = frozenset({"inf", "nan", "scalar", "bool", *dtypes.SHORT_NAMES, *keyword.kwlist})


def operators() -> dict[tuple[str, int], Op]:
    """Which operation an operator with so many operands stands for."""
    found: dict[tuple[str, int], Op] = {}
    for op in OPS.values():
        if op.symbol and op.arity in (1, 2):
            found.setdefault((op.symbol, op.arity), op)
    return found


def to_text(graph: Graph, name: str = "graph") -> str:
    """The graph as the text of a Python function.

    >>> print(to_text(trace_function(lambda x: x * 2, TensorType(f32, (3,)), names=["x"])))
    def graph(x: f32[3]):
        t0: f32[3] = x * 2.0
        return t0
    """
    return "\n".join(_Printer(graph, name, operators()).lines()) + "\n"


def type_text(type: TensorType) -> str:
    """A type as the text has it: ``f32[8,10]``; ``f32`` for shape ()."""
    return str(type) if type.shape else dtypes.short_name(type.dtype)


def number_text(value: bool | int | float, dtype: np.dtype | None = None) -> str:
    """A number as Python writes it, as short as ``dtype`` allows; ``inf`` and ``nan`` are names."""
    if isinstance(value, float) and dtype is not None and dtype != dtypes.f64 and math.isfinite(value):
        short = str(dtype.type(value))
        if float(dtype.type(float(short))).hex() == value.hex():
            return short
    return "-nan" if isinstance(value, float) and float_text(value) == "-nan" else repr(value)


def attribute_text(value: Hashable) -> str:
    """An attribute's value as the text has it; raises CheckError for one that has no text."""
    if value is None or isinstance(value, str):
        return repr(value)
    if isinstance(value, (bool, int, float)):
        return number_text(value)
    if isinstance(value, np.dtype):
        return dtypes.short_name(value)
    if isinstance(value, TensorType):
        return type_text(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(attribute_text, value))}{',' if len(value) == 1 else ''})"
    raise CheckError(f"an attribute of type {type(value).__name__} has no text: {value!r}")


class _Printer:
    """Names the values of one graph and writes their lines."""

    def __init__(self, graph: Graph, name: str, symbols: Mapping[tuple[str, int], Op], level: int = 0) -> None:
        self.graph = graph
        self.name = name
        self.symbols = symbols
        self.level = level
        self.indent = "    " * level
        self.names: dict[Node, str] = {}
        self.groups = 0

    def lines(self) -> Iterator[str]:
        graph = self.graph
        self.names.update(zip(graph.inputs, input_names(graph)))
        declared = (f"{self.names[node]}: {_input_type(node)}" for node in graph.inputs)
        yield f"{self.indent}def {self.name}({', '.join(declared)}):"
        alone = self.constants_on_their_own()
        items: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            if node.op.name == "item":
                items.setdefault(node.sources[0], []).append(node)
        for node in graph.nodes:
            if node.op.name in ("input", "item") or (node.op.name == "constant" and node not in alone):
                continue
            if node.op.kind in (Kind.GROUP, Kind.CONTROL):
                yield from self.group_lines(node, items.get(node, []))
            else:
                self.names[node] = f"t{len(self.names) - len(graph.inputs)}"
                yield self.commented(
                    f"{self.names[node]}: {type_text(node.type)} = {self.expression(node)}", node.lines
                )
        yield self.commented(f"return {self.results()}", (), ", ".join(graph.output_names))

    def constants_on_their_own(self) -> set[Node]:
        """Constants that need a line of their own, because not every use tells their type."""
        alone = {node for node in (*self.graph.outputs, *self.graph.effects) if node.op.name == "constant"}
        for node in self.graph.nodes:
            literals = _literal_type(node)
            for source in node.sources:
                if source.op.name == "constant" and source.type != literals:
                    alone.add(source)
        return alone

    def group_lines(self, node: Node, items: list[Node]) -> Iterator[str]:
        """A group, a loop or a branch: the graphs that it holds as functions, then the line that uses them."""
        functions: dict[int, str] = {}
        for key, graph in graphs_of(node):
            prefix = "k" if node.op.name == "group" else key
            name = f"{prefix}{self.groups}" if self.level == 0 else f"{self.name}_{prefix}{self.groups}"
            functions[id(graph)] = name
            self.groups += 1
            yield from _Printer(graph, name, self.symbols, self.level + 1).lines()

        def written(value: Any) -> str:
            if isinstance(value, tuple):
                return f"({', '.join(map(written, value))}{',' if len(value) == 1 else ''})"
            return functions[id(value)] if isinstance(value, Graph) else attribute_text(value)

        names: dict[int, str] = {}
        for item in items:
            self.names[item] = names[item["index"]] = f"t{len(self.names) - len(self.graph.inputs)}"
        targets = [names.get(index, "_") for index in range(len(node.type))]
        arguments = [self.operand(source) for source in node.sources]
        left = ", ".join(targets) if len(targets) > 1 else f"({targets[0]},)" if targets else "()"
        if node.op.name == "group":
            call = f"{functions[id(node['graph'])]}({', '.join(arguments)})"
        else:
            attributes = [f"{key}={written(value)}" for key, value in node.attributes.items()]
            call = f"{node.op.name}({', '.join([*arguments, *attributes])})"
        yield self.commented(f"{left} = {call}", node.lines)

    def expression(self, node: Node) -> str:
        op = node.op
        if op.name == "constant":
            return f"constant({number_text(node['value'], node.dtype)})"
        operands = [self.operand(source) for source in node.sources]
        if self.symbols.get((op.symbol, len(operands))) is op and not node.attributes:
            if len(operands) == 1:
                return f"{op.symbol}{operands[0]}"
            left = f"({operands[0]})" if op.symbol == "**" and operands[0].startswith("-") else operands[0]
            return f"{left} {op.symbol} {operands[1]}"
        arguments = [*operands, *(f"{key}={attribute_text(value)}" for key, value in node.attributes.items())]
        return f"{op.name}({', '.join(arguments)})"

    def operand(self, node: Node) -> str:
        return self.names[node] if node in self.names else number_text(node["value"], node.dtype)

    def results(self) -> str:
        texts = []
        for position, node in enumerate(self.graph.outputs):
            updated = self.graph.updates.get(position)
            name = self.names[node]
            texts.append(name if updated is None else f"({self.names[self.graph.inputs[updated]]} := {name})")
        return ", ".join(texts) or "()"

    def commented(self, text: str, lines: Iterable[Line], note: str = "") -> str:
        comment = note or ", ".join(_place(line) for line in lines)
        text = f"{self.indent}    {text}"
        return f"{text.ljust(COMMENT_COLUMN)}   # {comment}" if comment else text


def graphs_of(node: Node) -> list[tuple[str, Graph]]:
    """The graphs that a node holds, each with its attribute's name."""
    found: list[tuple[str, Graph]] = []
    for key, value in node.attributes.items():
        values: Any = value if isinstance(value, tuple) else (value,)
        found.extend((key, item) for item in values if isinstance(item, Graph))
    return found


def _literal_type(node: Node) -> TensorType | None:
    """The type that a number among the operands has: that of the last operand which is none."""
    if node.op.kind is Kind.ELEMENTWISE:
        for source in reversed(node.sources):
            if source.op.name != "constant":
                return source.type  # type: ignore[no-any-return]
    return None


def _input_type(node: Node) -> str:
    return f"scalar[{type_text(node.type)}]" if node["scalar"] else type_text(node.type)


def _place(line: Line) -> str:
    return f"{'∂ ' if line.derivative else ''}{PurePath(line.file).name}:{line.number}"


def input_names(graph: Graph) -> list[str]:
    """For each input a Python identifier, after its own name where it has one; all different."""
    taken: set[str] = set()
    names = []
    for position, _ in enumerate(graph.inputs):
        given = graph.input_names[position] if position < len(graph.input_names) else ""
        letters = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in given).strip("_")
        if not letters or letters in RESERVED or letters[0].isdigit() or (letters[0] in "tk" and letters[1:].isdigit()):
            letters = f"x_{letters}" if letters else f"x{position}"
        name, count = letters, 1
        while name in taken or name in RESERVED:
            count += 1
            name = f"{letters}_{count}"
        taken.add(name)
        names.append(name)
    return names


# --- other forms -----------------------------------------------------------------------------------------------------


def to_json(graph: Graph) -> dict[str, Any]:
    """The graph as data for ``json.dump``: inputs, values with types and lines, outputs, updates and effects."""
    ids = {node: position for position, node in enumerate(graph.nodes)}
    return {
        "inputs": [
            {"name": name, "id": ids[node], "type": str(node.type), "scalar": node["scalar"]}
            for name, node in zip(input_names(graph), graph.inputs)
        ],
        "nodes": [
            {
                "id": ids[node],
                "op": node.op.name,
                "sources": [ids[source] for source in node.sources],
                "attributes": {key: _json_value(value) for key, value in node.attributes.items()},
                "type": [str(t) for t in node.type] if isinstance(node.type, tuple) else str(node.type),
                "lines": [
                    {
                        "file": line.file,
                        "line": line.number,
                        "function": line.function,
                        "derivative": line.derivative,
                    }
                    for line in node.lines
                ],
            }
            for node in graph.nodes
        ],
        "outputs": [ids[node] for node in graph.outputs],
        "output_names": list(graph.output_names),
        "effects": [ids[node] for node in graph.effects],
        "updates": [[output, source] for output, source in sorted(graph.updates.items())],
    }


def _json_value(value: Any) -> Any:
    """An attribute as JSON has it; what JSON lacks (NaN, infinities, dtypes) is its text."""
    if isinstance(value, Graph):
        return to_json(value)
    if isinstance(value, tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.dtype):
        return dtypes.short_name(value)
    return value.name if isinstance(value, Enum) else str(value)


def to_dot(graph: Graph) -> str:
    """The graph in Graphviz's language: a box a value, an arrow a use."""
    ids = {node: position for position, node in enumerate(graph.nodes)}
    names = dict(zip(graph.inputs, input_names(graph)))
    lines = ["digraph graph_ {", "    node [shape=box, fontname=monospace];"]
    for node, position in ids.items():
        type_ = ", ".join(map(str, node.type)) if isinstance(node.type, tuple) else str(node.type)
        title = names.get(node, node.op.name)
        if node.op.name == "constant":
            title = number_text(node["value"], node.dtype)
        style = ", style=bold" if node in graph.outputs else ""
        lines.append(f'    n{position} [label="{title}\\n{type_}"{style}];')
        lines.extend(f"    n{ids[source]} -> n{position};" for source in node.sources)
    return "\n".join([*lines, "}"]) + "\n"
