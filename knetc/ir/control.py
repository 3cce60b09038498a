"""Loops and branches: nodes that hold graphs, whose results ``item`` nodes take apart.

=========== =========================== ============================================ ==========================
operation   sources                     the graphs' inputs                           the graphs' outputs
=========== =========================== ============================================ ==========================
scan        carries, arrays, constants  counter, carries, slices, constants          carries, slices of results
while_loop  carries, constants          counter, carries, constants (of both graphs) carries; one bool
branch      an int64, operands          operands (of all graphs)                     results
=========== =========================== ============================================ ==========================

Carries are values that each iteration hands to the next one. A scan takes slice ``counter`` of each of its arrays along
their first axis, and its results after the carries are arrays of such slices. The counter is an int64, passed by value:
of a reversed scan it runs down to 0, of a ``while_loop`` it is the number of iterations before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from knetc.ir.node import Graph, Node
from knetc.ir.op import Kind, Op, register
from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CheckError

COUNTER = TensorType(dtypes.i64, ())
"""The type of a loop's counter, and of what a branch chooses by."""

_TEST = TensorType(dtypes.boolean, ())

Types = tuple[TensorType, ...]


def _expect(what: str, found: Sequence[TensorType], expected: Sequence[TensorType]) -> None:
    if tuple(found) != tuple(expected):
        shown, wanted = (", ".join(map(str, types)) for types in (found, expected))
        raise CheckError(f"{what} ({shown}) where ({wanted}) was expected")


def _inputs(graph: Graph) -> Types:
    return tuple(node.type for node in graph.inputs)


def _outputs(graph: Graph) -> Types:
    return tuple(node.type for node in graph.outputs)


def _expect_inputs(what: str, graph: Graph, expected: Sequence[TensorType], *, counted: bool = True) -> None:
    _expect(what, _inputs(graph), expected)
    if any(leaf["scalar"] != (counted and leaf is graph.inputs[0]) for leaf in graph.inputs):
        raise CheckError(f"{what} a counter by value, and arrays")


def _infer_scan(*types: TensorType, body: Graph, length: int, reverse: bool, carries: int, arrays: int) -> Types:
    init, whole, constants = types[:carries], types[carries : carries + arrays], types[carries + arrays :]
    if any(type.shape[:1] != (length,) for type in whole):
        raise CheckError(f"a scan of length {length} over ({', '.join(map(str, whole))})")
    slices = [type.with_shape(type.shape[1:]) for type in whole]
    _expect_inputs("a scan's body takes", body, (COUNTER, *init, *slices, *constants))
    results = _outputs(body)
    _expect("a scan's body gives carries", results[:carries], init)
    return (*init, *(type.with_shape((length, *type.shape)) for type in results[carries:]))


SCAN = register(Op("scan", Kind.CONTROL, _infer_scan, arity=-1))
"""``length`` iterations of ``body``; the first ``carries`` sources are carries, the next ``arrays`` are sliced."""


def _infer_while(*types: TensorType, condition: Graph, body: Graph, carries: int) -> Types:
    init = types[:carries]
    for graph in (condition, body):
        _expect_inputs("a loop's graph takes", graph, (COUNTER, *types))
    _expect("a loop's body gives carries", _outputs(body), init)
    _expect("a loop's condition gives", _outputs(condition), (_TEST,))
    return init


WHILE = register(Op("while_loop", Kind.CONTROL, _infer_while, arity=-1))
"""Iterations of ``body`` as long as ``condition`` holds before it; the first ``carries`` sources are carries."""


def _infer_branch(index: TensorType, *operands: TensorType, branches: tuple[Graph, ...]) -> Types:
    _expect("a branch is chosen by", (index,), (COUNTER,))
    for graph in branches:
        _expect_inputs("a branch takes", graph, operands, counted=False)
        _expect("a branch gives", _outputs(graph), _outputs(branches[0]))
    return _outputs(branches[0])


BRANCH = register(Op("branch", Kind.CONTROL, _infer_branch, arity=-1))
"""The results of one of ``branches`` for the operands: the one of the number that the first source is."""


# --- what is common to all of them -----------------------------------------------------------------------------------


def bodies(node: Node) -> list[Graph]:
    """The graphs that a node holds, in the order of its attributes; none of an ordinary operation's."""
    if node.op.kind is not Kind.CONTROL:
        return []
    values: list[Any] = []
    for value in node.attributes.values():
        values.extend(value if isinstance(value, tuple) else (value,))
    return [value for value in values if isinstance(value, Graph)]


def with_bodies(node: Node, change: Callable[[Graph], Hashable]) -> Mapping[str, Hashable]:
    """The attributes of a node with each graph that it holds changed."""

    def changed(value: Hashable) -> Hashable:
        if isinstance(value, Graph):
            return change(value)
        return tuple(map(changed, value)) if isinstance(value, tuple) else value

    if node.op.kind is not Kind.CONTROL:
        return node.attributes
    return {key: changed(value) for key, value in node.attributes.items()}


def may_raise(node: Node) -> bool:
    """Whether a value is kept although nothing uses it: a check, or a loop or branch with checks inside."""
    return node.op.kind is Kind.EFFECT or any(graph.effects for graph in bodies(node))


Values = list[np.ndarray[Any, Any]]
Run = Callable[[Graph, Sequence[Any]], Values]


def evaluate(node: Node, sources: Sequence[Any], run: Run) -> tuple[Any, ...]:
    """The results of a loop or a branch in NumPy; ``run`` gives the outputs of a graph."""
    if node.op is BRANCH:
        return tuple(run(node["branches"][int(sources[0])], sources[1:]))
    count = node["carries"]
    carries, rest = list(sources[:count]), list(sources[count:])
    if node.op is WHILE:
        counter = 0
        while run(node["condition"], [counter, *carries, *rest])[0]:
            carries = run(node["body"], [counter, *carries, *rest])
            counter += 1
        return tuple(carries)
    arrays, constants = rest[: node["arrays"]], rest[node["arrays"] :]
    results = [np.zeros(type.shape, type.dtype) for type in node.type[count:]]
    for counter in range(node["length"])[:: -1 if node["reverse"] else 1]:
        outputs = run(node["body"], [counter, *carries, *(array[counter] for array in arrays), *constants])
        carries = outputs[:count]
        for result, value in zip(results, outputs[count:]):
            result[counter] = value
    return (*carries, *results)
