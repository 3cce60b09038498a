"""Every operation of the table: values, generated code, gradients to second order, and what must be refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import compiled
import numpy as np
import pytest
from optable import bad_cases, cases, check, check_gradient, gradient_cases
from scalar_kernels import Elementwise

import knetc.ops  # fills the table
from knetc.ir.build import input_node
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS, Kind, Op
from knetc.ir.record import Recorder, recording

_OPS = [op for op in OPS.values() if op.reference is not None and op.name not in ("group", "item")]
_ELEMENTWISE = [op for op in _OPS if op.kind is Kind.ELEMENTWISE and op.name != "variable"]  # graphs drop variables
_DIFFERENTIABLE = [op for op in _OPS if op.gradient is not None and op.name != "by_rule"]  # whose rules are users'


@cache
def _kernel(op: Op, sources: tuple[np.dtype, ...], attributes: tuple[tuple[str, object], ...]) -> Elementwise:
    return Elementwise(lambda e, *operands: op.code(e, *operands, **dict(attributes)), *sources)  # type: ignore[misc]


def emitted(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """An executor for graphs of one elementwise operation: its ``emit``, compiled in a loop."""
    [output] = graph.outputs
    sources = [np.broadcast_to(a, output.shape) for a in inputs]
    kernel = _kernel(output.op, tuple(a.dtype for a in sources), tuple(output.attributes.items()))
    return [kernel(*sources).reshape(output.shape)]


@pytest.mark.parametrize("op", _OPS, ids=lambda op: op.name)
def test_the_reference_agrees_with_the_type_rule(op: Op) -> None:
    check(list(cases(op)), interpret)


@pytest.mark.parametrize("op", _ELEMENTWISE, ids=lambda op: op.name)
def test_emitted_code_agrees_with_the_reference(op: Op) -> None:
    for case in cases(op):
        check([case], emitted)


@pytest.mark.parametrize("op", _OPS, ids=lambda op: op.name)
def test_compiled_programs_agree_with_the_reference(op: Op) -> None:
    check(list(cases(op)), compiled.run)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    "op", [op for op in _OPS if op.gradient is not None and op.name != "by_rule"], ids=lambda op: op.name
)
def test_gradients(op: Op, order: int) -> None:
    tried = gradient_cases(op)
    assert tried, f"{op} has no float64 case"
    if order <= op.differentiable_order:
        for case in tried:
            check_gradient(case.apply, case.inputs(special=False), order, str(case))


@pytest.mark.parametrize("op", [op for op in _OPS if op.bad], ids=lambda op: op.name)
def test_bad_operands_are_refused(op: Op) -> None:
    for case, error in bad_cases(op):
        with pytest.raises(error), recording(Recorder()) as builder:
            case.apply(*(input_node(builder, k, t) for k, t in enumerate(case.types)))


def test_every_operation_has_cases() -> None:
    without = [op.name for op in _OPS if not any(True for _ in cases(op)) and op.kind is not Kind.LEAF]
    assert not without


# --- tests of the tests ----------------------------------------------------------------------------------------------


def test_a_wrong_gradient_is_caught() -> None:
    def wrong(node: Node, dy: Node) -> tuple[Node | None, ...]:
        [slope] = OPS["sin"].gradient(node, dy)  # type: ignore[misc]
        return (slope * 1.001,)

    op = replace(OPS["sin"], gradient=wrong)
    [case] = [c for c in gradient_cases(op) if c.types[0].shape == (3, 5)]
    with pytest.raises(AssertionError, match="the gradient of order 1"):
        check_gradient(case.apply, case.inputs(special=False), 1, "sin")


def test_a_wrong_second_derivative_is_caught() -> None:
    def wrong(node: Node, dy: Node) -> tuple[Node | None, ...]:
        return (dy * knetc.ops.identities.stop_gradient(OPS["sin"].gradient(node, dy)[0] / dy),)  # type: ignore[index]

    op = replace(OPS["sin"], gradient=wrong)
    [case] = [c for c in gradient_cases(op) if c.types[0].shape == (3, 5)]
    check_gradient(case.apply, case.inputs(special=False), 1, "sin")
    with pytest.raises(AssertionError, match="the gradient of order 2"):
        check_gradient(case.apply, case.inputs(special=False), 2, "sin")


def test_wrong_code_is_caught() -> None:
    op = replace(OPS["maximum"], emit=lambda e, a, b: e.select(e.compare("gt", a, b), a, b))  # a NaN in a is lost
    with pytest.raises(AssertionError, match="elements are wrong"):
        for case in cases(op):
            check([case], emitted)


def test_a_result_off_by_few_units_is_caught() -> None:
    op = OPS["multiply"]

    def inexact(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(y * y.dtype.type(1 + 1e-6)) if y.dtype.kind == "f" else y for y in interpret(graph, inputs)]

    with pytest.raises(AssertionError, match="elements are wrong"):
        check(list(cases(op)), inexact)
