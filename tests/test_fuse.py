"""Fusion, lowering and the memory plan: by random graphs, and by what must come out for known ones."""

from __future__ import annotations

import dataclasses
import warnings

import graphs
import networkx as nx
import numpy as np
import pytest
from compiled import executable, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from knetc.codegen.assemble import Assembly, assemble
from knetc.codegen.cpu.backend import CpuBackend
from knetc.codegen.cpu.native import target
from knetc.codegen.kernel import Kernel
from knetc.codegen.plan_memory import Lifetime, aligned, place
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import LabelError, NanError

from knetc.ir.build import trace_function
from knetc.ir.check import check
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Node
from knetc.ir.printer import to_text
from knetc.ir.types import TensorType
from knetc.ops import activations, logic, losses, reduction, scan, transcendental
from knetc.ops.identities import iota
from knetc.ops.indexed import gather, scatter_add
from knetc.ops.movement import permute_dims
from knetc.passes.differentiate import gradients
from knetc.passes.fuse import LARGE_BYTES
from knetc.passes.groups import grouped
from knetc.passes.simplify import simplify


def examples(count: int) -> settings:
    """So many examples, each of which may take its time: compiling is slow."""
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


class NoCode:
    """A target that makes no code: enough to see what fusion and planning decide."""

    key = "none"
    alignment_bytes = 1
    keep_rows = True
    narrow_products = False
    computes = None
    joiner = None

    def nest(self, *_: object) -> Kernel:
        return Kernel({}, ())

    matmul = check = check_nan = nest


def decided(graph: Graph, *, fused: bool = True) -> Assembly:
    return assemble(simplify(graph), NoCode(), fused=fused)  # type: ignore[arg-type]


def names(graph: Graph) -> list[str]:
    return [part.name for part in decided(graph).parts]


def f32(*shape: int) -> TensorType:
    return TensorType(dtypes.f32, shape)


def close(got: np.ndarray, want: np.ndarray) -> bool:
    """Equal but for rounding, where the wanted value is finite; integers may differ where they count rounded values."""
    assert got.shape == want.shape and got.dtype == want.dtype
    if want.dtype.kind != "f":
        return bool(np.mean(got != want) < 0.5) if want.size > 1 else True
    with np.errstate(all="ignore"):
        finite = np.isfinite(want)
        scale = np.max(np.abs(want[finite]), initial=1e-3)
        tolerance = (1e-3 if want.dtype == dtypes.f32 else 1e-6) * scale
        return bool(np.all((np.abs(got - want) <= tolerance) | ~finite))


def assert_same(graph: Graph, got: list[np.ndarray], want: list[np.ndarray]) -> None:
    for a, b in zip(got, want, strict=True):
        assert close(np.asarray(a), np.asarray(b)), f"{to_text(graph)}\n{a}\n{b}"


@examples(150)
@given(graphs.random_graph(max_nodes=20))
def test_fused_graphs_mean_the_same(graph: Graph) -> None:
    inputs = graphs.random_values(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = interpret(graph, inputs)
        assembly = assemble(graph, NoCode())  # type: ignore[arg-type]
        fused = grouped(assembly)
        check(fused, "fuse")
        assert_same(graph, interpret(fused, inputs), want)


@examples(60)
@given(graphs.random_graph(max_nodes=16))
def test_compiled_graphs_mean_the_same(graph: Graph) -> None:
    inputs = graphs.random_values(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = interpret(graph, inputs)
        assert_same(graph, run(graph, inputs), want)
        simplified = simplify(graph)
        assert_same(simplified, run(simplified, inputs), want)


@pytest.mark.parametrize("level", ["avx2", "generic"])
@examples(15)
@given(graph=graphs.random_graph(max_nodes=12))
def test_other_processors_compute_the_same(level: str, graph: Graph) -> None:
    inputs = graphs.random_values(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(graph, run(graph, inputs, level=level), interpret(graph, inputs))


@examples(15)
@given(graphs.random_graph(max_nodes=12))
def test_without_fusion_each_operation_is_a_kernel(graph: Graph) -> None:
    inputs = graphs.random_values(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(graph, run(graph, inputs, fused=False), interpret(graph, inputs))


# --- what must be one kernel -----------------------------------------------------------------------------------------


def test_elementwise_code_with_broadcasts_is_one_kernel() -> None:
    def gelu_bias(x: Node, w: Node, b: Node) -> Node:
        return activations.gelu(x * w + b, approximate="tanh")  # type: ignore[no-any-return]

    assert len(names(trace_function(gelu_bias, f32(64, 48), f32(48), f32(48)))) == 1


def test_scans_are_computed_with_their_operands_and_users() -> None:
    def shares(x: Node) -> Node:
        e = transcendental.exp(x - reduction.max(x, 1, keepdims=True))
        return scan.cumsum(e / reduction.sum(e, 1, keepdims=True), 1) * 2  # type: ignore[no-any-return]

    assert len(names(trace_function(shares, f32(64, 48)))) == 1

    def apart(x: Node) -> list[Node]:
        return [scan.cumsum(x, 0), scan.cumsum(x, 1), scan.cumsum(x, 1, reverse=True), scan.cumprod(x * 2, 1)]

    assert sorted(names(trace_function(apart, f32(64, 48)))) == ["cumprod_cumsum_multiply", "cumsum", "cumsum"]


def test_a_scatter_computes_what_is_cheap_for_itself() -> None:
    def gradient(x: Node, places: Node, dy: Node) -> Node:
        there = logic.where(logic.less(places, 0), places + 50, places)
        return scatter_add(dy * 2, [there], x.shape)

    types = (f32(50), TensorType(dtypes.i64, (9,)), f32(9))
    assert names(trace_function(gradient, *types)) == ["zeros", "scatter_add"]


def test_a_loss_and_its_gradient_read_the_scores_once() -> None:
    def step(scores: Node, labels: Node) -> list[Node]:
        loss = losses.nll(scores, labels)
        return [loss, *gradients(loss, [scores])]  # type: ignore[list-item]

    assembly = decided(trace_function(step, f32(64, 48), TensorType(dtypes.i32, (64,))))
    readers = [p for p in assembly.parts if any(n.op.name == "input" and n.shape == (64, 48) for n in p.arguments)]
    assert len(readers) == 1
    written = sum(step.written_bytes for step in assembly.program.steps)
    assert written < 64 * 48 * 4 + 4096  # the gradient, and little more: no probabilities


def test_layer_normalisation_backward_is_one_kernel_with_its_column_sums() -> None:
    def step(x: Node, scale: Node, bias: Node, g: Node) -> list[Node | None]:
        loss = reduction.sum(activations.layernorm(x, scale, bias) * g)
        return gradients(loss, [x, scale, bias])

    graph = trace_function(step, f32(64, 48), f32(48), f32(48), f32(64, 48))  # type: ignore[arg-type]
    assert len(names(graph)) == 1


def mlp_step(x: Node, labels: Node, w1: Node, b1: Node, w2: Node, b2: Node) -> list[Node]:
    hidden = activations.relu(x @ permute_dims(w1) + b1)
    loss = losses.nll(hidden @ permute_dims(w2) + b2, labels)
    weights = [w1, b1, w2, b2]
    return [loss, *[w - 0.1 * g for w, g in zip(weights, gradients(loss, weights))]]  # type: ignore[operator]


MLP_TYPES = (f32(20, 30), TensorType(dtypes.i64, (20,)), f32(16, 30), f32(16), f32(10, 16), f32(10))
MLP = dataclasses.replace(trace_function(mlp_step, *MLP_TYPES), updates={1: 2, 2: 3, 3: 4, 4: 5})


def mlp_inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 10, t.shape) if t.dtype == dtypes.i64 else rng.standard_normal(t.shape).astype(t.dtype)
        for t in MLP_TYPES
    ]


def test_weights_are_updated_in_place_by_the_kernel_that_makes_the_gradient() -> None:
    program = decided(MLP).program
    assert [b.update_of for b in program.outputs] == [-1, 1 + 1, 2 + 1, 3 + 1, 4 + 1]
    kernels = [s.name for s in program.steps]
    assert sum(name.startswith("matmul") and "subtract" in name for name in kernels) == 2
    assert any(name.startswith("matmul") and "relu" in name for name in kernels)


def test_a_training_step_computes_what_the_interpreter_does() -> None:
    inputs = mlp_inputs()
    want = interpret(MLP, inputs)
    assert_same(MLP, run(simplify(MLP), inputs), want)
    assert_same(MLP, run(MLP, inputs, level="generic"), want)


def test_a_label_out_of_range_leaves_the_weights_alone() -> None:
    program = executable(simplify(MLP))
    inputs = mlp_inputs()
    inputs[1][7] = 10
    before = [x.copy() for x in inputs]
    loss = np.zeros((), np.float32)
    addresses = [x.ctypes.data for x in inputs]
    with pytest.raises(LabelError, match="10"):
        program.run(addresses, [loss.ctypes.data, *addresses[2:]])
    for x, old in zip(inputs, before):
        np.testing.assert_array_equal(x, old)


def test_readers_of_an_old_value_come_before_its_update() -> None:
    def step(w: Node, x: Node) -> list[Node]:
        return [w - x, reduction.sum(transcendental.exp(w), axis=0), permute_dims(w) * 2.0]

    graph = dataclasses.replace(trace_function(step, f32(7, 7), f32(7, 7)), updates={0: 0})
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal((7, 7)).astype(np.float32) for _ in range(2)]
    assert_same(graph, run(graph, inputs), interpret(graph, inputs))


def test_params_that_exchange_their_values_are_not_updated_in_place() -> None:
    graph = trace_function(lambda a, b: [b * 1.5, a * 2.5], f32(5), f32(5))
    graph = dataclasses.replace(graph, updates={0: 0, 1: 1})
    inputs = [np.arange(5, dtype=np.float32), np.ones(5, np.float32)]
    assert_same(graph, run(graph, inputs), interpret(graph, inputs))


def test_a_row_is_not_read_after_its_place_was_taken() -> None:
    def step(x: Node) -> Node:
        return x / reduction.sum(transcendental.exp(x), axis=1, keepdims=True)  # type: ignore[no-any-return]

    graph = dataclasses.replace(trace_function(step, f32(6, 9)), updates={0: 0})
    inputs = [np.random.default_rng(2).standard_normal((6, 9)).astype(np.float32)]
    assert_same(graph, run(graph, inputs), interpret(graph, inputs))


def test_what_is_gathered_from_lies_in_memory_before() -> None:
    def lookup(x: Node) -> list[Node]:
        ramp = iota(dtypes.f32, (5,), 0)
        y = transcendental.exp(x)
        return [gather(ramp, [iota(dtypes.i64, (3,), 0)]), y + gather(y, [iota(dtypes.i64, (5,), 0)])]

    graph = trace_function(lookup, f32(5))
    inputs = [np.full(5, 7, np.float32)]
    assert_same(graph, run(graph, inputs), interpret(graph, inputs))


def test_what_a_kernel_reads_whole_is_stored_by_another() -> None:
    """A value used element by element and also in another way by the same kernel: as a matrix, or under a new shape."""

    def product(x: Node) -> list[Node]:
        y = transcendental.exp(x)
        return [y @ y + y]

    def reshaped(x: Node) -> list[Node]:
        total = reduction.sum(x, axis=(0, 1), keepdims=True)
        return [total, logic.where(total > 0.0, total, x)]

    for function in (product, reshaped):
        graph = trace_function(function, f32(8, 8))
        inputs = [np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)]
        simple = simplify(graph)
        assert_same(graph, run(simple, inputs), interpret(graph, inputs))


def test_every_boundary_has_a_reason() -> None:
    for part in decided(MLP).parts:
        assert part.reason or part.name == "check", part.name


def test_nan_is_found_in_the_kernel_that_makes_it() -> None:
    graph = trace_function(lambda x: reduction.sum(transcendental.log(x)), f32(8))
    run(graph, [np.ones(8, np.float32)], nan_check=True)
    with pytest.raises(NanError, match="log"):
        run(graph, [-np.ones(8, np.float32)], nan_check=True)


# --- size and memory -------------------------------------------------------------------------------------------------


def test_long_chains_are_cut_into_kernels_of_bounded_size() -> None:
    def chain(x: Node) -> Node:
        for k in range(1000):
            x = x + 1.5 if k % 3 else x * x
        return x

    assembly = assemble(trace_function(chain, f32(16)), NoCode())  # type: ignore[arg-type]
    assert 5 <= len(assembly.parts) <= 12


def test_chains_of_dear_functions_become_equal_kernels() -> None:
    """Sines are cut earlier than sums, and what is cut alike is compiled once."""

    def chain(x: Node) -> Node:
        for _ in range(1000):
            x = transcendental.sin(x)
        return x

    assembly = assemble(trace_function(chain, f32(16)), CpuBackend(target()))
    assert len(assembly.parts) > 30 and len(assembly.functions) <= 4


def test_units_form_no_cycle_and_run_after_what_they_read() -> None:
    assembly = decided(MLP)
    written: set[Node] = set()
    for part in assembly.parts:
        for node in part.arguments:
            if node.op.name != "input" and node not in written:
                written.add(node)
    graph = nx.DiGraph()
    for unit in assembly.units:
        for later in unit.successors:
            graph.add_edge(id(unit), id(later))
    assert nx.is_directed_acyclic_graph(graph)


@given(st.lists(st.tuples(*[st.integers(1, 5000)] * 2, st.integers(0, 6)), max_size=30))
def test_what_lives_at_the_same_time_does_not_overlap(wanted: list[tuple[int, int, int]]) -> None:
    lives = [Lifetime(size, first % 20, first % 20 + length) for size, first, length in wanted]
    offsets, total = place(lives)
    for k, (a, at) in enumerate(zip(lives, offsets)):
        assert at % 64 == 0 and at + aligned(a.size_bytes) <= total
        for b, bt in zip(lives[:k], offsets):
            if a.first <= b.last and b.first <= a.last:
                assert at + a.size_bytes <= bt or bt + b.size_bytes <= at


def momentum_step(rows: int, columns: int) -> Graph:
    """An update of weights and two moments by a product of activations and errors."""

    def step(x: Node, d: Node, w: Node, m: Node, v: Node, t: Node) -> list[Node]:
        g = permute_dims(d) @ x
        m1, v1 = m * 0.9 + g * 0.1, v * 0.99 + g * g * 0.01
        return [w - m1 / (1 - 0.9**t) / (transcendental.sqrt(v1 / (1 - 0.99**t)) + 1e-3), m1, v1]

    state = [f32(rows, columns)] * 3
    graph = trace_function(step, f32(30, columns), f32(30, rows), *state, f32())
    return simplify(dataclasses.replace(graph, updates={0: 2, 1: 3, 2: 4}))


@pytest.mark.parametrize("level", ["native", "avx2", "generic"])
@pytest.mark.parametrize(("rows", "columns"), [(70, 33), (600, 500)])
def test_a_large_gradient_is_used_where_it_is_computed(rows: int, columns: int, level: str) -> None:
    graph = momentum_step(rows, columns)
    is_large = 4 * rows * columns >= LARGE_BYTES
    assert any(name.startswith("matmul_") for name in names(graph)) == is_large
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(node.shape).astype(np.float32) for node in graph.inputs]
    values[-2:] = [abs(values[-2]), np.float32(3)]
    for got, want in zip(run(graph, values, level=level), interpret(graph, values), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
