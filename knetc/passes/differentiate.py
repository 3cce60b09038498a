"""Reverse-mode differentiation: new nodes that compute the gradients of a scalar, or of several values with seeds.

The results are ordinary nodes, so they can be simplified, fused and differentiated again. Which recorder is in force
decides where they go: the lazy one, a trace, or a pass's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from knetc.ir.node import Line, Node, topological
from knetc.ir.op import Kind
from knetc.ir.record import Recorder, recorder
from knetc.ops.apply import constant
from knetc.ops.arithmetic import add
from knetc.ops.identities import after
from knetc.passes import control_gradients
from knetc.passes.accumulate import total
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
    return pullback([loss], [seed], wrt)


def pullback(outputs: Sequence[Node], seeds: Sequence[Node], wrt: Sequence[Node]) -> list[Node | None]:
    """For each value of ``wrt``, the derivative with respect to it of the sum of all products of outputs and seeds.

    ``seeds`` are of the types of ``outputs``. None where no output depends on the value in a differentiable way.
    """
    for output, seed in zip(outputs, seeds, strict=True):
        if seed.type != output.type:
            raise DifferentiationError(
                f"the seed's type is {seed.type}, the loss's is {output.type}; they must be the same"
            )
    targets = set(wrt)
    order = _on_paths(outputs, targets)
    active = set(order)
    adjoints: dict[Node, list[Node]] = {}
    """What each value has received from its users so far."""
    results: dict[Node, Node] = {}

    parts: dict[Node, dict[int, Node]] = {}
    """What the results of loops and branches receive."""

    def receive(node: Node, contribution: Node) -> None:
        adjoints.setdefault(node, []).append(contribution)

    for output, seed in zip(outputs, seeds):
        if output in active:
            receive(output, seed)
    regions = _Regions(order)
    with derivative_lines() as current:
        for node in reversed(order):
            received_by_node = adjoints.pop(node, None)
            dy = total(received_by_node) if received_by_node else None
            if dy is not None and node in targets:
                results[node] = dy
            if node.op.name == "recomputed":
                for mark, received in regions.reached(node, dy):
                    receive(mark, received)
                continue
            if (dy is None and node not in parts) or not any(source in active for source in node.sources):
                continue
            current(node)
            found: Sequence[Contribution]
            if dy is None:
                wanted = [source in active for source in node.sources]
                found = control_gradients.contributions(node, parts.pop(node), wanted, pullback)
            elif node.op.kind is Kind.ITEM:
                of = parts.setdefault(node.sources[0], {})
                of[node["index"]] = add(of[node["index"]], dy) if node["index"] in of else dy
                continue
            else:
                found = contributions(node, dy)
            for source, contribution in zip(node.sources, found):
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
                receive(source, contribution)
    return [results.get(node) for node in wrt]


class _Regions:
    """The computations that are done again: each when the derivatives with respect to all its results are known."""

    def __init__(self, order: Sequence[Node]) -> None:
        self.last: dict[int, Node] = {}
        """By number, the result that reverse mode reaches last."""
        self.waiting: dict[int, list[tuple[Node, Node]]] = {}
        for node in order:
            if node.op.name == "recomputed":
                self.last.setdefault(node["region"], node)

    def reached(self, node: Node, dy: Node | None) -> list[tuple[Node, Node]]:
        """What the kept values receive once all results have been reached; nothing before that."""
        waiting = self.waiting.setdefault(node["region"], [])
        if dy is not None:
            waiting.append((node, dy))
        return _done_again(waiting) if waiting and self.last[node["region"]] is node else []


def _done_again(results: Sequence[tuple[Node, Node]]) -> list[tuple[Node, Node]]:
    """Do a computation again, after the derivatives by its results are known, and pull them back through that."""
    values, seeds = [node.sources[0] for node, _ in results], [dy for _, dy in results]
    marks = list(dict.fromkeys(mark for node, _ in results for mark in node.sources[1:]))
    new = {mark: after(mark.sources[0], seeds) for mark in marks}
    starts = [new[mark] for mark in marks]
    current = recorder()
    with derivative_lines() as lines_of:
        for node in topological(values, marks):
            if node in new:
                continue
            sources = tuple([new[source] for source in node.sources])
            lines_of(node)
            checked = node.op.kind is Kind.EFFECT  # and found good
            new[node] = sources[0] if checked else current.make(node.op, sources, node.attributes)
    found = pullback([new[value] for value in values], seeds, starts)
    return [(mark, gradient) for mark, gradient in zip(marks, found) if gradient is not None]


@contextmanager
def derivative_lines() -> Iterator[Callable[[Node], None]]:
    """Within the block, what is recorded bears the lines of the node that the given function was called with last."""
    current: Recorder = recorder()
    lines = current.lines

    def of(node: Node) -> None:
        current.lines = tuple(Line(line.file, line.number, line.function, True) for line in node.lines)

    try:
        yield of
    finally:
        current.lines = lines


def _on_paths(outputs: Sequence[Node], targets: set[Node]) -> list[Node]:
    """The floating-point values on paths from the targets to the outputs, sources first."""
    found: list[Node] = []
    active: set[Node] = set()
    for node in topological(outputs):
        on_path = node in targets or any(source in active for source in node.sources)
        if on_path and (node.op.kind is Kind.CONTROL or dtypes.is_float(node.dtype)):
            active.add(node)
            found.append(node)
    return found


Contribution = Node | Callable[[], Node | None] | None


def contributions(node: Node, dy: Node) -> tuple[Contribution, ...]:
    """What each source of a node receives when the node receives ``dy``; or a function that makes it, if needed."""
    if node.op.gradient is not None:
        return node.op.gradient(node, dy)
    if node.op.kind is Kind.EFFECT:  # a check passes its first source through
        return (dy, *[None] * (len(node.sources) - 1))
    return (None,) * len(node.sources)
