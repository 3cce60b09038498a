"""What a graph is, apart from how it was made: a digest, equality, and constants lifted out of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from enum import Enum

import numpy as np

from knetc.ir.build import copy_node, input_node, with_values
from knetc.ir.node import Graph, Node, float_text
from knetc.ir.op import OPS
from knetc.ir.record import Recorder, recording
from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CheckError

DIGEST_BYTES = 20


def digest(graph: Graph) -> str:
    """A name for what the graph computes, as hexadecimal digits: the same in every process.

    It depends on operations, attributes, types, inputs, outputs, effects and updates, by position in the graph; not
    on names, lines, or on when the graph was made.
    """
    return hashlib.blake2b(_serialised(graph).encode(), digest_size=DIGEST_BYTES).hexdigest()


def equal(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same but for names and lines."""
    return _serialised(a) == _serialised(b)


def _serialised(graph: Graph) -> str:
    ids = {node: position for position, node in enumerate(graph.nodes)}
    lines = []
    calls: dict[Hashable, int] = {}  # host calls are numbered; which ones are the same counts, not the numbers
    for node in graph.nodes:
        given = dict(node.attributes)
        if node.op.name == "host":
            given["number"] = calls.setdefault(given["number"], len(calls))
        attributes = ",".join(f"{key}={_attribute(given[key])}" for key in sorted(given))
        sources = ",".join([str(ids[source]) for source in node.sources])
        types = "+".join(map(str, node.type)) if isinstance(node.type, tuple) else str(node.type)
        lines.append(f"{node.op.name}({sources};{attributes}):{types}")
    for name, nodes in (("inputs", graph.inputs), ("outputs", graph.outputs), ("effects", graph.effects)):
        lines.append(f"{name} {','.join(str(ids[node]) for node in nodes)}")
    lines.append(f"updates {sorted(graph.updates.items())}")
    return "\n".join(lines)


def _attribute(value: Hashable) -> str:
    """A text that tells the value from all others, whatever its type."""
    if isinstance(value, float):
        return f"f:{float_text(value)}"
    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    if isinstance(value, np.dtype):
        return f"d:{dtypes.short_name(value)}"
    if isinstance(value, TensorType):
        return f"t:{value}"
    if isinstance(value, tuple):
        return f"({','.join(map(_attribute, value))})"
    if isinstance(value, Enum):
        return f"e:{value.name}"
    if isinstance(value, Graph):
        return f"g:{digest(value)}"
    raise CheckError(f"an attribute of type {type(value).__name__} has no canonical form: {value!r}")


# --- numbers as inputs -----------------------------------------------------------------------------------------------

#: values for which there is better code than for a number in general
_KEPT = frozenset({0.0, 1.0, -1.0, 2.0, 0.5})


def is_lifted(node: Node) -> bool:
    """Whether a program is better given a constant when it runs, so that graphs with other numbers share it.

    What stays: 0, ±1, 2 and ½, which simplify; bools; NaN and infinities. The caller keeps exponents of ``power``,
    which decide what code it is.
    """
    value = node["value"] if node.op.name == "constant" else None
    return type(value) in (int, float) and math.isfinite(value) and value not in _KEPT  # type: ignore[arg-type]


def lift_offsets(graph: Graph) -> tuple[Graph, list[int]]:
    """The graph with the places of its slices and paddings as further scalar inputs, and those places.

    Graphs that differ only in such places become equal. Slices become windows, paddings become values that are placed
    in larger ones; extents and steps stay in the graph.
    """
    values: list[int] = []
    inputs = list(graph.inputs)
    new: dict[Node, Node] = {}
    with recording(Recorder()) as builder:

        def number(value: int, free: bool) -> Node:
            if not free:
                return builder.make(OPS["constant"], (), {"value": value, "dtype": dtypes.i64, "shape": ()})
            leaf = input_node(builder, len(inputs), TensorType(dtypes.i64, ()), scalar=True)
            new[leaf] = leaf
            inputs.append(leaf)
            values.append(value)
            return leaf

        for node in graph.nodes:
            sources = tuple([new[source] for source in node.sources])
            builder.lines = node.lines
            if node.op.name == "slice" and node.type.size:
                places = [range(a, b, c) for a, b, c in zip(node["starts"], node["stops"], node["steps"])]
                lows = [min(r) for r in places]
                shape = tuple(max(r) + 1 - low for r, low in zip(places, lows))
                numbers = [number(low, n != m) for low, n, m in zip(lows, shape, sources[0].shape)]
                new[node] = builder.make(OPS["window"], (*sources, *numbers), {"shape": shape})
                if any(r.step != 1 for r in places):
                    attributes = {
                        "starts": tuple([r.start - low for r, low in zip(places, lows)]),
                        "stops": tuple([r.stop - low for r, low in zip(places, lows)]),
                        "steps": node["steps"],
                    }
                    new[node] = builder.make(OPS["slice"], (new[node],), attributes)
            elif node.op.name == "pad":
                numbers = [number(low, n != m) for low, n, m in zip(node["low"], node.shape, sources[0].shape)]
                attributes = {"shape": node.shape, "value": node["value"]}
                new[node] = builder.make(OPS["placed"], (*sources, *numbers), attributes)
            else:
                new[node] = copy_node(builder, node, sources)
    lifted = with_values(graph, new)
    names = graph.input_names and (*graph.input_names, *(f"place{index}" for index in range(len(values))))
    return Graph(
        tuple(new[node] for node in inputs), lifted.outputs, lifted.effects, graph.updates, names, graph.output_names
    ), values
