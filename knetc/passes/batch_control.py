"""Batching of loops and branches: the same loop over bodies that work on all elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from knetc.bodies import Body, Constants, finished
from knetc.ir.control import BRANCH, COUNTER, SCAN, WHILE
from knetc.ir.group import items
from knetc.ir.node import Graph, Node
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops.apply import broadcast_node, constant, reshape_node
from knetc.ops.arithmetic import add
from knetc.ops.identities import stop_gradient
from knetc.ops.logic import equal, logical_and, where
from knetc.ops.movement import permute_node
from knetc.ops.reduction import any as any_of
from knetc.runtime.base import dtypes


class Value(Protocol):
    """What stands for a recorded value: a node, which holds all elements along its first axis or one for all."""

    @property
    def node(self) -> Node: ...
    @property
    def batched(self) -> bool: ...


class Again(Protocol):
    """Records a graph anew: what stands for its outputs, given that for its inputs; each with whether it is batched.

    With ``active``, a bool for each element, it is for those that are active: others are not checked.
    """

    def __call__(
        self, graph: Graph, inputs: Sequence[tuple[Node, bool]], active: Node | None = None
    ) -> list[tuple[Node, bool]]: ...


def batched(
    node: Node, sources: Sequence[Value], size: int, again: Again, active: Node | None
) -> list[tuple[Node, bool]]:
    """What stands for each result of a loop or branch; with ``active``, in what only these elements have chosen."""
    given = [(source.node, source.batched) for source in sources]
    if node.op is BRANCH:
        return _branch(node, given, size, again)
    return _loop(node, given, size, again, active)


def _spread(pair: tuple[Node, bool], size: int) -> Node:
    """A value for each element."""
    node, is_batched = pair
    return node if is_batched else broadcast_node(node, (size, *node.shape))


def _of_all(type: TensorType, size: int) -> TensorType:
    return type.with_shape((size, *type.shape))


def _swapped(node: Node) -> Node:
    """The axes of elements and of iterations exchanged."""
    return permute_node(node, (1, 0, *range(2, node.ndim)))


def chosen(which: Node, yes: Node, no: Node) -> Node:
    """For each element, one of two values."""
    spread = broadcast_node(reshape_node(which, (*which.shape, *(1,) * (yes.ndim - 1))), yes.shape)
    result: Node = where(spread, yes, no)
    return result


def _guarded(operand: tuple[Node, bool], active: Node) -> tuple[Node, bool]:
    """An operand of a branch, to which nothing flows back from elements that have not chosen it, be it infinite."""
    node, each = operand
    if not each or not dtypes.is_float(node.dtype):
        return operand
    return chosen(active, node, stop_gradient(node)), True


def _branch(node: Node, given: Sequence[tuple[Node, bool]], size: int, again: Again) -> list[tuple[Node, bool]]:
    (index, each), *operands = given
    graphs: Sequence[Graph] = node["branches"]
    if each:  # elements choose for themselves: all is computed, and checked for those that have chosen it
        result: list[Node] = []
        for number, graph in enumerate(graphs):
            here = equal(index, constant(number, index.dtype, index.shape))
            made = again(graph, [_guarded(operand, here) for operand in operands], here)
            new = [_spread(pair, size) for pair in made]
            result = [chosen(here, one, other) for one, other in zip(new, result)] if number else new
        return [(one, True) for one in result]
    constants = Constants()
    bodies, columns = [], []
    for graph in graphs:
        body = Body("branch", (), constants, counted=False)
        with body.recorded():
            columns.append(again(graph, [(body.inside(operand), flag) for operand, flag in operands]))
        bodies.append(body)
    flags = [any(flag for _, flag in row) for row in zip(*columns)]
    outputs = []
    for body, column in zip(bodies, columns):
        with body.recorded():
            outputs.append([_spread(pair, size) if flag else pair[0] for pair, flag in zip(column, flags)])
    parts = items(record(BRANCH, (index, *constants.sources), {"branches": finished(bodies, outputs)}))
    return list(zip(parts, flags))


def _loop(
    node: Node, given: Sequence[tuple[Node, bool]], size: int, again: Again, active: Node | None
) -> list[tuple[Node, bool]]:
    if node.op is WHILE and active is not None:
        return _each_its_own(node, given, size, again, active)
    count = int(node["carries"])
    arrays = int(node["arrays"]) if node.op is SCAN else 0
    flags = [flag for _, flag in given[:count]]
    while True:  # what is one for all at first may differ after an iteration
        constants = Constants()
        made = [
            _body(graph, flags, given, arrays, size, constants, again)
            for graph in ([node["body"]] if node.op is SCAN else [node["condition"], node["body"]])
        ]
        if node.op is WHILE and made[0][1][0][1]:
            return _each_its_own(node, given, size, again, active)
        after = [flag for _, flag in made[-1][1][:count]]
        grown = [a or b for a, b in zip(flags, after)]
        if grown == flags:
            break
        flags = grown
    sources = [_spread(pair, size) if flag else pair[0] for pair, flag in zip(given[:count], flags)]
    sources += [_swapped(array) if flag else array for array, flag in given[count : count + arrays]]
    body, outputs = made[-1]
    with body.recorded():
        results = [_spread(pair, size) if flag else pair[0] for pair, flag in zip(outputs[:count], flags)]
        results += [value for value, _ in outputs[count:]]
    if node.op is SCAN:
        [graph] = finished([body], [results])
        new = items(record(SCAN, (*sources, *constants.sources), {**node.attributes, "body": graph}))
        ends = [(_swapped(y) if flag else y, flag) for y, (_, flag) in zip(new[count:], outputs[count:])]
        return [*zip(new[:count], flags), *ends]
    test, [(going, _)] = made[0]
    condition, repeated = finished([test, body], [[going], results])
    attributes = {**node.attributes, "condition": condition, "body": repeated}
    return list(zip(items(record(node.op, (*sources, *constants.sources), attributes)), flags))


def _each_its_own(
    node: Node, given: Sequence[tuple[Node, bool]], size: int, again: Again, active: Node | None
) -> list[tuple[Node, bool]]:
    """A while_loop that each element ends for itself: as long as any goes on; those that have ended stay as they are.

    Which ones go on is carried too, so that an element whose condition draws random numbers does not begin again.
    """
    count = int(node["carries"])
    begin = [_spread(pair, size) for pair in given[:count]]
    fixed = given[count:]

    def goes_on(counter: Node, carries: Sequence[Node], fixed: Sequence[tuple[Node, bool]], of: Node | None) -> Node:
        [test] = again(node["condition"], [(counter, False), *((value, True) for value in carries), *fixed], of)
        going = _spread(test, size)
        return going if of is None else logical_and(of, going)

    begin.append(goes_on(constant(0, COUNTER.dtype), begin, fixed, active))
    constants = Constants()
    test, body = (Body(node.op.name, [value.type for value in begin], constants) for _ in range(2))
    with test.recorded():
        any_goes_on = any_of(test.arguments[-1])
    with body.recorded():
        assert body.counter is not None
        *before, alive = body.arguments
        inside = [(body.inside(value), flag) for value, flag in fixed]
        made = again(node["body"], [(body.counter, False), *((value, True) for value in before), *inside], alive)
        after = [chosen(alive, _spread(pair, size), old) for pair, old in zip(made, before)]
        following = add(body.counter, constant(1, COUNTER.dtype))
        after.append(goes_on(following, after, inside, alive))
    condition, repeated = finished([test, body], [[any_goes_on], after])
    attributes = {"condition": condition, "body": repeated, "carries": count + 1}
    return [(value, True) for value in items(record(WHILE, (*begin, *constants.sources), attributes))[:count]]


def _inputs(
    body: Body, flags: Sequence[bool], given: Sequence[tuple[Node, bool]], arrays: int
) -> list[tuple[Node, bool]]:
    """What stands for the inputs of a loop's graph."""
    count = len(flags)
    assert body.counter is not None
    every = [*flags, *(flag for _, flag in given[count : count + arrays])]
    whole = [(body.inside(constant), flag) for constant, flag in given[count + arrays :]]
    return [(body.counter, False), *zip(body.arguments, every), *whole]


def _body(
    graph: Graph,
    flags: Sequence[bool],
    given: Sequence[tuple[Node, bool]],
    arrays: int,
    size: int,
    constants: Constants,
    again: Again,
) -> tuple[Body, list[tuple[Node, bool]]]:
    """A loop's graph for all elements, where ``flags`` says which carries are batched; and its outputs."""
    every = [*flags, *(flag for _, flag in given[len(flags) : len(flags) + arrays])]
    types = [_of_all(leaf.type, size) if flag else leaf.type for leaf, flag in zip(graph.inputs[1:], every)]
    body = Body("loop", types, constants)
    with body.recorded():
        return body, again(graph, _inputs(body, flags, given, arrays))
