"""Cuts of what is pending: numbers are inputs, and equal forms have equal graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import knetc as kn
from knetc import lazy
from knetc.cut import Cut, walk
from knetc.ir.canonical import equal
from knetc.ir.check import check
from knetc.ir.interpret import interpret

ROW = np.arange(3, dtype=np.float32)


def cut_of(function: Callable[[Any], Any]) -> Cut:
    result = function(kn.array(ROW))
    return Cut(walk([result.node]), [result.node], {}, "cpu")


def numbers(cut: Cut) -> list[Any]:
    return [a for a in cut.arguments if not isinstance(a, lazy.Storage)]


def test_numbers_are_inputs_but_those_that_simplify() -> None:
    def f(factor: float) -> Callable[[Any], Any]:
        return lambda x: x * factor * 2.0 + factor

    first, second = cut_of(f(0.3)), cut_of(f(7.0))
    assert numbers(first) == [np.float32(0.3)] and numbers(second) == [7.0]
    assert numbers(cut_of(f(2.0))) == numbers(cut_of(f(float("inf")))) == []
    assert first.form == second.form and equal(check(first.graph()), check(second.graph()))
    assert first.form != cut_of(f(2.0)).form
    found = interpret(first.graph(), [ROW, *numbers(first)])[0]
    np.testing.assert_array_equal(found, np.asarray(f(0.3)(kn.array(ROW))))


def test_exponents_stay() -> None:
    assert numbers(cut_of(lambda x: x**2.5)) == []
    assert cut_of(lambda x: x**2.5).form != cut_of(lambda x: x**3.5).form


def test_forms_tell_signs_of_zero_and_which_numbers_are_the_same() -> None:
    assert cut_of(lambda x: x + 0.0).form != cut_of(lambda x: x + -0.0).form
    same, other = cut_of(lambda x: x * 3.0 + 3.0), cut_of(lambda x: x * 3.0 + 4.0)
    assert same.form != other.form and numbers(same) == [3.0] and numbers(other) == [3.0, 4.0]


def test_host_calls_that_come_again_have_equal_forms() -> None:
    def f(x: Any) -> Any:
        return kn.linalg.inv(kn.eye(3) * x)

    assert cut_of(f).form == cut_of(f).form


def test_what_comes_again_makes_no_graph(monkeypatch: Any) -> None:
    def result(factor: float) -> Any:
        return (kn.tanh(kn.array(ROW) * factor) + 1).tolist()

    result(0.3)
    made: list[Cut] = []
    graph = Cut.graph
    monkeypatch.setattr(Cut, "graph", lambda self: made.append(self) or graph(self))
    np.testing.assert_allclose(result(0.7), np.tanh(ROW * np.float32(0.7)) + 1, rtol=1e-6)
    assert not made
