"""``checkpoint``: values that a gradient needs are computed again instead of kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from knetc import tapes
from knetc.arrays import node_of, of_node
from knetc.ir.node import Node, next_serial, topological
from knetc.ir.record import record, recorder
from knetc.lazy import Box
from knetc.ops.identities import KEPT, RECOMPUTED, fresh_region
from knetc.runtime.base import dtypes
from knetc.structure import leaves, rebuilt

F = TypeVar("F", bound=Callable[..., Any])


def checkpoint(function: F) -> F:
    """The same function, whose values a gradient computes again instead of keeping them: less memory for more work.

    While a gradient is taken through it, only what the function is given (arguments, Params and other arrays from
    outside) is kept in memory, not what it computes; before its own gradient is computed, the function is computed a
    second time. Results, gradients and random numbers are the same. Where no gradient is taken, nothing changes. Of a
    deep model wrap each block: then the memory is that of the blocks' boundaries and of one block.

    >>> block = kn.checkpoint(lambda w, x: kn.tanh(x @ w))
    >>> kn.grad(lambda w: kn.sum(block(w, kn.ones((2, 3)))))(kn.ones((3, 3)))  # shape (3, 3)
    """

    @functools.wraps(function, updated=())
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = next_serial()
        result = function(*args, **kwargs)
        if tapes.innermost() is None:
            return result
        found = leaves(result)
        places = [k for k, leaf in enumerate(found) if isinstance(leaf, Box) and dtypes.is_float(leaf.type.dtype)]
        for place, node in zip(places, _marked([node_of(found[place]) for place in places], start)):
            found[place] = of_node(node)
        return rebuilt(result, found)

    return wrapper  # type: ignore[return-value]


def _marked(values: list[Node], start: int) -> list[Node]:
    """The values recorded anew between marks: what they start from, and they themselves."""
    borders = _borders(values, start)
    region, current = fresh_region(), recorder()
    new = {node: record(KEPT, (node,), {"region": region}) for node in borders}
    marks = tuple(new.values())
    lines = current.lines
    for node in topological(values, borders):
        if node not in new:
            current.lines = node.lines
            new[node] = current.make(node.op, tuple([new[source] for source in node.sources]), node.attributes)
    current.lines = lines
    return [record(RECOMPUTED, (new[node], *marks), {"region": region}) for node in values]


def _borders(values: list[Node], start: int) -> list[Node]:
    """What a computation that began at ``start`` starts from: values that were there before, memory and numbers."""
    found: dict[Node, None] = {}
    seen: set[Node] = set(values)
    stack = list(values)
    while stack:
        node = stack.pop()
        if not _inside(node, start):
            found[node] = None
            continue
        for source in node.sources:
            if source not in seen:
                seen.add(source)
                stack.append(source)
    return list(found)


def _inside(node: Node, start: int) -> bool:
    """Whether a value was computed since ``start``; a Param's variable was not, also where it was read only then."""
    while node.op.name == "variable":
        node = node.sources[0]
    return node.serial > start and node.op.name != "input"


__all__ = ["checkpoint"]
