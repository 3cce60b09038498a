"""Forward-mode differentiation: new nodes that compute how values change along given directions.

No operation has a rule of its own for this: its gradient says how it changes. An elementwise operation's gradient maps
dy to dy times the derivative, and maps a direction alike; a movement, and whatever else is linear in its source, does
to the direction what it does to the value. For the rest the gradient is a linear function of dy, and the transpose of
that function, which reverse mode gives, maps directions. So the tangents are as short as rules written by hand would
make them, and every operation that has a gradient has them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import count

from knetc.ir.node import Node, topological
from knetc.ir.op import Kind
from knetc.ir.record import record
from knetc.ops.apply import cast_node, constant
from knetc.ops.arithmetic import add
from knetc.ops.identities import identity_variable
from knetc.passes import control_forward
from knetc.passes.differentiate import contributions, derivative_lines, gradients
from knetc.runtime.base import dtypes

_SAME = frozenset({"variable", "copy", "kept", "recomputed", "after"})
"""The value itself, for other purposes."""

_LINEAR = frozenset({"sum", "cumsum"})
"""Operations that are linear in all their floating-point sources, beside those that move and place values."""

_transposed = count(1)


def tangents(outputs: Sequence[Node], directions: Mapping[Node, Node]) -> list[Node | None]:
    """The derivative of each output along ``directions``, which say for some values how they change (of their types).

    None where an output does not depend on any of them in a differentiable way.

    >>> [dy] = tangents([sin(x)], {x: dx})  # cos(x) * dx
    """
    known: dict[Node, Node] = dict(directions)
    parts: dict[Node, list[Node | None]] = {}
    """The tangents of the results of loops and branches."""
    with derivative_lines() as current:
        for node in topological(outputs, directions):
            if node in known:
                continue
            if node.op.kind is Kind.ITEM:
                tangent = parts[node.sources[0]][node["index"]] if node.sources[0] in parts else None
            elif not any(source in known for source in node.sources):
                continue
            elif node.op.kind is Kind.CONTROL:
                current(node)
                moving = [known.get(source) for source in node.sources]
                parts[node] = control_forward.tangents_of(node, moving, tangents)
                continue
            elif not dtypes.is_float(node.dtype):
                continue
            else:
                current(node)
                tangent = _tangent(node, [known.get(source) for source in node.sources])
            if tangent is not None:
                known[node] = tangent
    return [known.get(output) for output in outputs]


def _tangent(node: Node, moving: Sequence[Node | None]) -> Node | None:
    """How a value changes when its sources change by ``moving``; None of those that do not."""
    op, first = node.op, moving[0]
    if op.kind is Kind.EFFECT or op.name in _SAME:
        return first
    if op.gradient is None:
        return None
    if op.name == "cast":
        assert first is not None
        return cast_node(first, node.dtype)
    if op.name in _LINEAR or (op.kind in (Kind.MOVEMENT, Kind.INDEXED) and op.name != "by_rule"):
        sources = [_still(source) if t is None else t for source, t in zip(node.sources, moving)]
        attributes = {**node.attributes, "value": 0.0} if "value" in node.attributes else node.attributes
        return record(op, tuple(sources), attributes)
    parts = [
        _elementwise(node, k, t) if op.kind is Kind.ELEMENTWISE else _transpose(node, k, t)
        for k, t in enumerate(moving)
        if t is not None
    ]
    known = [part for part in parts if part is not None]
    return functools.reduce(add, known) if known else None


def _still(source: Node) -> Node:
    """What is moved for a source that does not change; places stay what they are."""
    return constant(0, source.dtype, source.shape) if dtypes.is_float(source.dtype) else source


def _elementwise(node: Node, place: int, tangent: Node) -> Node | None:
    """The derivative by one source, times its direction: what the gradient does to dy."""
    contribution = contributions(node, tangent)[place]
    return contribution() if callable(contribution) else contribution


def _transpose(node: Node, place: int, tangent: Node) -> Node | None:
    """The gradient by one source as a linear function of dy, transposed and applied to the source's direction."""
    dy = identity_variable(constant(0.0, node.dtype, node.shape), -next(_transposed))
    contribution = contributions(node, dy)[place]
    if callable(contribution):
        contribution = contribution()
    return None if contribution is None else gradients(contribution, [dy], tangent)[0]
