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
    adjoints: dict[Node, Node] = {}
    results: dict[Node, Node] = {}

    def receive(node: Node, contribution: Node) -> None:
        before = adjoints.get(node)
        adjoints[node] = contribution if before is None else add(before, contribution)

    for output, seed in zip(outputs, seeds):
        if output in active:
            receive(output, seed)
    with derivative_lines() as current:
        for node in reversed(order):
            dy = adjoints.pop(node, None)
            if dy is None:
                continue
            if node in targets:
                results[node] = dy
            if not any(source in active for source in node.sources):
                continue
            current(node)
            for source, contribution in zip(node.sources, contributions(node, dy)):
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
        if on_path and dtypes.is_float(node.dtype):
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
