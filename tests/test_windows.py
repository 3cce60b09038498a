"""Slices elsewhere need no other program: a loop over places compiles twice at most."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.runtime.base import dtypes

import knetc as kn
from knetc.compiler import pipeline
from knetc.ir.canonical import lift_offsets
from knetc.ir.check import check
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph
from knetc.ir.op import OPS
from knetc.ir.record import Recorder, recording
from knetc.ir.types import TensorType
from knetc.ops.apply import INPUT
from knetc.ops.movement import pad_node, slice_node


def built(function: Callable[[int], Any], places: range, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many programs are made when a function is called with each of several places."""
    made = []
    original = pipeline._load
    monkeypatch.setattr(pipeline, "_load", lambda key, *rest: made.append(key) or original(key, *rest))
    for place in places:
        function(place)
    return len(made)


DATA = np.arange(60, dtype=np.float32).reshape(6, 10) + 0.125


def column(i: int) -> None:
    x = kn.array(DATA)
    np.testing.assert_array_equal(np.asarray(x[:, i : i + 3]), DATA[:, i : i + 3])


def backwards(i: int) -> None:
    x = kn.array(DATA)
    np.testing.assert_array_equal(np.asarray(x[::-2, i + 5 : i : -2]), DATA[::-2, i + 5 : i : -2])


def row_of_pending(i: int) -> None:
    x = kn.array(DATA)
    np.testing.assert_array_equal(np.asarray((x * 2)[i % 6]), (DATA * 2)[i % 6])


def assigned(i: int) -> None:
    x, expected = kn.array(DATA), DATA.copy()
    x[1:3, i : i + 4] = 7
    expected[1:3, i : i + 4] = 7
    np.testing.assert_array_equal(np.asarray(x), expected)


def rolled(i: int) -> None:
    x = kn.array(DATA)
    np.testing.assert_array_equal(np.asarray(kn.roll(x, i + 1, 1)), np.roll(DATA, i + 1, 1))


def differentiated(i: int) -> None:
    p = kn.Param(kn.array(DATA))
    tape = kn.diff(lambda: (p[:, i : i + 2] ** 2).sum())
    expected = np.zeros_like(DATA)
    expected[:, i : i + 2] = 2 * DATA[:, i : i + 2]
    np.testing.assert_array_equal(np.asarray(kn.grad(tape, p)), expected)


@pytest.mark.parametrize(
    ("function", "programs"),
    [(column, 2), (backwards, 2), (row_of_pending, 2), (assigned, 2), (rolled, 2), (differentiated, 3)],
)
def test_a_loop_over_places_compiles_few_programs(
    function: Callable[[int], None], programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert built(function, range(5), monkeypatch) <= programs


@given(st.data())
def test_lifted_places_change_nothing(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3), label="shape"))
    keys = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        stop = data.draw(st.integers(start + 1, n))
        step = data.draw(st.sampled_from([1, 2]))
        keys.append((start, stop, step) if data.draw(st.booleans()) else (stop - 1, start - 1, -step))
    widths = [data.draw(st.integers(0, 2)) for _ in range(2 * len(shape))]
    with recording(Recorder()) as recorder:
        type = TensorType(dtypes.f64, shape)
        x = recorder.make(INPUT, (), {"index": 0, "type": type, "scalar": False})
        cut = slice_node(x, *(tuple(part) for part in zip(*keys)))
        y = pad_node(cut, tuple(widths[: len(shape)]), tuple(widths[len(shape) :]), 3.5)
        graph = Graph((x,), (y,))
    moved, places = lift_offsets(graph)
    check(moved)
    value = np.random.default_rng(0).random(shape)
    [expected] = interpret(graph, [value])
    [found] = interpret(moved, [value, *(np.asarray(p, np.int64) for p in places)])
    np.testing.assert_array_equal(found, expected)
    assert not any(node.op is OPS["pad"] for node in moved.nodes)
