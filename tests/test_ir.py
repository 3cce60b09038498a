"""Graphs: building, printing, reading, checking, hashing, interpreting."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CheckError, GraphTextError, LabelError

import knetc.ops  # noqa: F401
from knetc.ir.build import graph_of, input_node, rebuild, trace_function
from knetc.ir.canonical import digest, equal
from knetc.ir.check import check
from knetc.ir.group import group
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Line, Node
from knetc.ir.op import OPS, Kind, Op, register
from knetc.ir.printer import input_names, to_dot, to_json, to_text
from knetc.ir.reader import MAX_CHARACTERS, from_text, type_from_text
from knetc.ir.record import Recorder, record, recording
from knetc.ir.types import TensorType
from knetc.ops.apply import broadcast_node, cast_node, constant, record_sum, reshape_node
from knetc.ops.arithmetic import add, multiply

MATRIX = TensorType(dtypes.f32, (2, 3))
ROW = TensorType(dtypes.f32, (3,))
NUMBER = TensorType(dtypes.f32, ())


def small_model(x: Node, w: Node, lr: Node) -> list[Node]:
    y = record_sum(multiply(multiply(x, broadcast_node(w, x.shape)), 0.1), (0,))
    return [record_sum(y, (0,)), add(w, multiply(y, broadcast_node(lr, w.shape)))]


def model() -> Graph:
    with recording(Recorder()) as builder:
        x, w = input_node(builder, 0, MATRIX), input_node(builder, 1, ROW)
        lr = input_node(builder, 2, NUMBER, scalar=True)
        builder.lines = (Line("/home/me/model.py", 7, "loss"),)
        outputs = small_model(x, w, lr)
        outputs[1].lines = (Line("/home/me/model.py", 7, "loss", True),)
    return graph_of(
        [x, w, lr], outputs, updates={1: 1}, input_names=["x", "self.w", "lr"], output_names=["loss", "self.w"]
    )


def grouped() -> Graph:
    inner = trace_function(lambda a, b: [add(a, b), multiply(a, 3.0)], ROW, ROW)

    def f(a: Node, b: Node) -> list[Node]:
        first = group(inner, (a, b))
        second = group(inner, (first[0], b))
        return [second[1], multiply(second[1], first[1])]

    return trace_function(f, ROW, ROW, names=["a", "b"])


def chain(length: int) -> Graph:
    def f(x: Node) -> Node:
        y = x
        for _ in range(length // 2):
            y = add(multiply(y, 0.5), x)
        return y

    return trace_function(f, ROW)


CASES: list[Callable[[], Graph]] = [model, grouped, lambda: chain(20)]


def test_text_of_a_model(golden: Callable[[str, str], None]) -> None:
    golden("ir/model.py.txt", to_text(model()))
    golden("ir/groups.py.txt", to_text(grouped()))
    golden("ir/model.dot", to_dot(model()))
    golden("ir/model.json", json.dumps(to_json(model()), indent=1) + "\n")


@pytest.mark.parametrize("case", CASES)
def test_text_reads_back(case: Callable[[], Graph]) -> None:
    graph = case()
    again = check(from_text(to_text(graph)), "fuse")
    assert equal(graph, again) and digest(graph) == digest(again)
    assert to_text(again) == re.sub(" +# .*", "", to_text(graph))
    json.dumps(to_json(graph), allow_nan=False)


@pytest.mark.parametrize("case", CASES)
def test_text_means_the_same(case: Callable[[], Graph]) -> None:
    graph = case()
    values = [np.full(node.shape, 1.5 + k, node.dtype) for k, node in enumerate(graph.inputs)]
    for a, b in zip(interpret(graph, values), interpret(from_text(to_text(graph)), values)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 0.1, -1e-45, 3.4e38, float("inf"), float("-inf"), float("nan"), 16777217.0]
)
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64])
def test_constants_read_back_to_the_bit(value: float, dtype: np.dtype) -> None:
    graph = trace_function(lambda x: [multiply(x, value), constant(value, dtype, (2,))], TensorType(dtype, (3,)))
    assert equal(graph, from_text(to_text(graph)))


def test_constants_of_other_dtypes_read_back() -> None:
    def f(i: Node, b: Node) -> list[Node]:
        return [add(i, -7), multiply(b, True), constant(2**62, dtypes.i64), constant(False, dtypes.boolean)]

    graph = trace_function(f, TensorType(dtypes.i32, (0, 2)), TensorType(dtypes.boolean, (1,)))
    assert equal(graph, from_text(to_text(graph)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "one function"),
        ("def f(x: f32[3]):\n    return y\n", "line 2: y is not defined"),
        ("def f(x: f32[3]):\n    t: f32[4] = x + x\n    return t", r"t is declared f32\[4\], but it is f32\[3\]"),
        ("def f(x: f32[3]):\n    t: f32[3] = launch(x)\n    return t", "there is no operation launch"),
        ("def f(x: f32[3]):\n    t: f32[3] = x @@ x\n    return t", "not a graph"),
        ("def f(x: f32[3]):\n    t: f32[3] = __import__('os')\n    return t", "no operation __import__"),
        ("def f(x: f32[3]):\n    t: f32 = sum(x, axes=[0])\n    return t", "an attribute is"),
        ("def f(x: f32[3]):\n    t: f32 = sum(x, axis=(0,))\n    return t", "sum: TypeError"),
        ("def f(x: f32[3]):\n    t: f32[3] = 2.0 + 3.0\n    return t", "type of this number"),
        ("def f(x: f32[3]):\n    x: f32[3] = x + x\n    return x", "x is defined twice"),
        ("def f(x: i32[3]):\n    t: i32[3] = x + 0.5\n    return t", r"0.5 is no value of type i32\[3\]"),
        ("def f(x: i32[3]):\n    t: i32[3] = x + 4294967296\n    return t", "no value of type i32"),
        ("def f(x: f32[3]):\n    t: f32[3] = x + x\n", "ends with return"),
        ("def f(x: f32[3]):\n    t: f32[3] = x + x\n    return (t := x)", "t is no input"),
        ("def f(x: f32[3]):\n    a, b = g(x)\n    return a", "function defined above"),
        ("def f(x):\n    return x", "input x has no type"),
        ("def f(x: f32[-1]):\n    return x", "negative extent"),
        ("def f(*x: f32[1]):\n    return x", "plain arguments"),
        ("def f(x: f32[3]):\n    t: f32[3] = exp(" + "(" * 5000, "not a graph"),
        ("def f(x: f32[3]):\n    t: f32[3] = " + "-" * 100_000 + "x\n    return t", "not a graph|operation"),
    ],
)
def test_refused_text(text: str, message: str) -> None:
    with pytest.raises((GraphTextError, ValueError), match=message):
        from_text(text)


def test_refuses_endless_text() -> None:
    with pytest.raises(GraphTextError, match="at most"):
        from_text("#" * (MAX_CHARACTERS + 1))


def test_a_number_whose_type_cannot_be_told_has_its_own_line() -> None:
    def f(c: Node) -> Node:
        return record(OPS["where"], (c, constant(1.5, dtypes.f32, (3,)), constant(0.0, dtypes.f32, (3,))))

    graph = trace_function(f, TensorType(dtypes.boolean, (3,)))
    assert "where(x0, t0, t1)" in to_text(graph) and equal(graph, from_text(to_text(graph)))


def test_types_read_back() -> None:
    for type in (MATRIX, ROW, NUMBER, TensorType(dtypes.boolean, (0,))):
        assert type_from_text(str(type)) == type
    with pytest.raises(GraphTextError):
        type_from_text("f33[2]")


def test_input_names_are_identifiers_and_differ() -> None:
    names = ["w", "w", "lambda", "1st", "model.layers[0].w", "", "t3", "f32"]
    graph = trace_function(lambda *xs: list(xs), *[ROW] * len(names), names=names)
    assert input_names(graph) == ["w", "w_2", "x_lambda", "x_1st", "model_layers_0__w", "x5", "x_t3", "x_f32"]


def test_digest_depends_on_what_is_computed_alone() -> None:
    graph = model()
    other = replace(model(), input_names=("a", "b", "c"))
    for node in other.nodes:
        node.lines = ()
    assert digest(graph) == digest(other) == digest(rebuild(graph, lambda node, sources: None))
    different = [replace(graph, updates={}), replace(graph, outputs=graph.outputs[::-1]), chain(4), chain(6)]
    assert len({digest(g) for g in (graph, *different)}) == 5


def test_digest_tells_constants_apart_by_bits() -> None:
    def f(value: float, dtype: np.dtype) -> Graph:
        return trace_function(lambda x: multiply(x, value), TensorType(dtype, ()))

    cases: list[tuple[float, np.dtype]] = [
        (0.0, dtypes.f32),
        (-0.0, dtypes.f32),
        (1, dtypes.i32),
        (1, dtypes.i64),
        (True, dtypes.boolean),
    ]
    graphs = [f(value, dtype) for value, dtype in cases]
    assert len({digest(graph) for graph in graphs}) == len(graphs)


def test_digest_is_the_same_in_another_process() -> None:
    code = (
        "import knetc.ops\nfrom knetc.ir.reader import from_text\n"
        "from knetc.ir.canonical import digest\n"
        f"print(digest(from_text({to_text(grouped())!r})))"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == digest(grouped())


def test_rebuild_replaces_keeps_names_lines_and_updates() -> None:
    def without_halves(node: Node, sources: tuple[Node, ...]) -> Node | None:
        return add(sources[0], sources[0]) if node.op.name == "multiply" else None

    graph = model()
    changed = check(rebuild(graph, without_halves))
    assert "multiply" not in {node.op.name for node in changed.nodes}
    assert changed.updates == {1: 1} and changed.input_names == graph.input_names
    assert changed.outputs[0].lines == graph.outputs[0].lines


def test_graph_of_cuts_at_its_inputs_and_keeps_effects() -> None:
    look = Op("look", Kind.EFFECT, lambda x: x, reference=lambda x: x)
    with recording(Recorder()) as builder:
        x = input_node(builder, 0, ROW)
        middle = multiply(x, x)
        outside = input_node(builder, 1, ROW)
        result = add(record(look, (middle,)), middle)
    graph = check(graph_of([middle], [result]))
    assert [node.op.name for node in graph.nodes] == ["input", "look", "add"] and len(graph.effects) == 1
    assert interpret(graph, [np.ones(3, np.float32)])[0].tolist() == [2, 2, 2]
    with pytest.raises(CheckError, match="no input of the graph"):
        graph_of([middle], [add(result, outside)])


def wrong_type(graph: Graph) -> None:
    graph.outputs[0].type = ROW


def wrong_number(graph: Graph) -> None:
    graph.inputs[0].attributes = {**graph.inputs[0].attributes, "index": 1}


def cycle(graph: Graph) -> None:
    node = graph.outputs[1]
    node.sources[1].sources = (node, node)


def wrong_shapes(graph: Graph) -> None:
    graph.outputs[1].sources = (graph.outputs[1].sources[0], graph.inputs[0])


def twice(graph: Graph) -> None:
    node = graph.outputs[1]
    node.sources = (node.sources[0], Node(node.sources[1].op, node.sources[1].sources, {}, ROW))
    graph.outputs[0].sources = (graph.outputs[0].sources[0],)


def unlisted(graph: Graph) -> None:
    node = graph.outputs[1]
    node.sources = (node.sources[0], Node(OPS["input"], (), {"index": 3, "type": ROW, "scalar": False}, ROW))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (wrong_type, r"type rule says f32\[\].*\n  at /home/me/model.py:7"),
        (wrong_number, "not the leaf of that number"),
        (cycle, "own sources"),
        (wrong_shapes, "its sources have shapes"),
        (unlisted, "does not list"),
    ],
)
def test_check_refuses(harm: Callable[[Graph], None], message: str) -> None:
    graph = model()
    harm(graph)
    with pytest.raises(CheckError, match=message):
        check(graph)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": {0: 1}}, r"it updates an input of type f32\[3\]"),
        ({"updates": {5: 1}}, "does not exist"),
        ({"input_names": ("x",)}, "3 inputs have 1 names"),
        ({"output_names": ("x",)}, "2 outputs have 1 names"),
    ],
)
def test_check_refuses_interfaces(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CheckError, match=message):
        check(replace(model(), **changes))  # type: ignore[arg-type]


def test_check_refuses_duplicates_and_kinds_of_other_stages() -> None:
    x = model().inputs[0]
    twins = [Node(OPS["add"], (x, x), {}, MATRIX) for _ in range(2)]
    with pytest.raises(CheckError, match="is the same as"):
        check(Graph((x,), tuple(twins)))
    check(grouped(), "fuse")
    with pytest.raises(CheckError, match="kind group does not occur"):
        check(grouped(), "simplify")


def test_interpreter_checks_inputs_and_references() -> None:
    with pytest.raises(CheckError, match="takes 3 inputs, not 1"):
        interpret(model(), [1.0])
    with pytest.raises(CheckError, match=r"input 0 is f64\[2,3\] where f32\[2,3\]"):
        interpret(model(), [np.zeros((2, 3)), np.zeros(3, np.float32), 0.1])
    liar = Op("liar", Kind.ELEMENTWISE, lambda x: x, reference=lambda x: x.astype(np.float64))
    with pytest.raises(CheckError, match="reference of <liar"):
        interpret(trace_function(lambda x: record(liar, (x,)), ROW), [np.zeros(3, np.float32)])


def test_interpreter_lets_checks_raise_and_is_silent_about_ieee() -> None:
    def refuse(x: np.ndarray) -> np.ndarray:
        raise LabelError("label 7 is out of range")

    op = Op("refuse", Kind.EFFECT, lambda x: x, reference=refuse)
    with pytest.raises(LabelError, match="label 7"):
        interpret(trace_function(lambda x: record(op, (x,)), ROW), [np.zeros(3, np.float32)])
    huge = interpret(trace_function(lambda x: multiply(x, 3e38), ROW), [np.full(3, 10, np.float32)])
    assert np.isinf(huge[0]).all()


def test_movement_and_cast() -> None:
    def f(x: Node) -> Node:
        return cast_node(reshape_node(x, (3, 2)), dtypes.i32)

    assert interpret(trace_function(f, MATRIX), [np.full((2, 3), 2.7, np.float32)])[0].tolist() == [[2, 2]] * 3


def test_registering_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="exists already"):
        register(OPS["add"])


def test_long_chain() -> None:
    graph = chain(10_000)
    text = to_text(graph)
    again = check(from_text(text))
    assert len(graph.nodes) == 10_002 and digest(again) == digest(graph)
    assert equal(rebuild(graph, lambda node, sources: None), graph)
    np.testing.assert_allclose(interpret(again, [np.ones(3, np.float32)])[0], 2.0)
    assert len(to_json(graph)["nodes"]) == 10_002 and to_dot(graph).count("->") == 20_000
