"""Reverse-mode differentiation: new nodes that compute the gradients of a scalar.

The results are ordinary nodes, so they can be simplified, fused and differentiated again. Which recorder is in force
decides where they go: the lazy one, a trace, or a pass's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from knetc.ir.node import Line, Node, topological
from knetc.ir.op import Kind
from knetc.ir.record import recorder
from knetc.ops.apply import constant
from knetc.ops.arithmetic import add
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DifferentiationError


def gradients(loss: Node, wrt: Sequence[Node], seed: Node | None = None) -> list[Node | None]:
    """For each value of ``wrt``, the derivative of ``loss`` with respect to it: of its shape and dtype.

    None where the loss does not depend on it in a differentiable way (through floating-point values and operations
    that have a gradient). ``seed`` is the derivative with respect to the loss itself, 1 if it is not given; with a seed
    the loss may have any shape. Raises DifferentiationError if the loss is no floating-point scalar.

    >>> x = ...  # a node of shape (3,)
    >>> [dx] = gradients(record_sum(x * x, (0,)), [x])  # 2 x
    """
    if not dtypes.is_float(loss.dtype):
        raise DifferentiationError(
            f"cannot differentiate a value of type {loss.type}: only floating-point values have gradients; "
            "compute the loss from float arrays, or cast them"
        )
    if seed is None:
        if loss.shape != ():
            raise DifferentiationError(
                f"cannot differentiate a value of shape {loss.shape}: a loss must be a scalar (shape ()); "
                "reduce it first, with sum or mean"
            )
        seed = constant(1.0, loss.dtype)
    elif seed.type != loss.type:
        raise DifferentiationError(f"the seed's type is {seed.type}, the loss's is {loss.type}; they must be the same")

    targets = set(wrt)
    order = _on_paths(loss, targets)
    active = set(order)
    adjoints: dict[Node, Node] = {loss: seed} if loss in active else {}
    results: dict[Node, Node] = {}
    current = recorder()
    lines = current.lines
    try:
        for node in reversed(order):
            dy = adjoints.pop(node, None)
            if dy is None:
                continue
            if node in targets:
                results[node] = dy
            if not any(source in active for source in node.sources):
                continue
            current.lines = tuple(Line(line.file, line.number, line.function, True) for line in node.lines)
            for source, contribution in zip(node.sources, _contributions(node, dy)):
                if contribution is None or source not in active:
                    continue
                if callable(contribution):
                    contribution = contribution()
                    if contribution is None:
                        continue
                if contribution.type != source.type:
                    raise DifferentiationError(
                        f"the gradient of {node.op.name} gave {contribution.type} for a source of type {source.type}; "
                        "a gradient has the shape and dtype of its source"
                    )
                before = adjoints.get(source)
                adjoints[source] = contribution if before is None else add(before, contribution)
    finally:
        current.lines = lines
    return [results.get(node) for node in wrt]


def _on_paths(loss: Node, targets: set[Node]) -> list[Node]:
    """The floating-point values on paths from the targets to the loss, sources first."""
    found: list[Node] = []
    active: set[Node] = set()
    for node in topological([loss]):
        on_path = node in targets or any(source in active for source in node.sources)
        if on_path and dtypes.is_float(node.dtype):
            active.add(node)
            found.append(node)
    return found


def _contributions(node: Node, dy: Node) -> tuple[Node | Callable[[], Node | None] | None, ...]:
    """What each source of a node receives when the node receives ``dy``; or a function that makes it, if needed."""
    if node.op.gradient is not None:
        return node.op.gradient(node, dy)
    if node.op.kind is Kind.EFFECT:  # a check passes its first source through
        return (dy, *[None] * (len(node.sources) - 1))
    return (None,) * len(node.sources)
