"""Functions whose kernels take each of the forms, with blocks so small that small arrays fill several of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simulated_gpu
from knetc.codegen.assemble import assemble
from knetc.codegen.triton import model
from knetc.codegen.triton.backend import TritonBackend
from knetc.codegen.triton.model import GpuTarget
from knetc.runtime.base import dtypes

from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph
from knetc.ir.types import TensorType
from knetc.ops import activations, reduction, scan
from knetc.ops.arithmetic import add
from knetc.ops.indexed import gather
from knetc.ops.movement import concat_node, permute_dims
from knetc.ops.transcendental import exp
from knetc.passes import fuse
from knetc.passes.differentiate import gradients
from knetc.passes.simplify import simplify

rng = np.random.default_rng(5)


def traced(function: Callable[..., Any], *arrays: np.ndarray) -> Graph:
    return simplify(trace_function(function, *(TensorType(a.dtype, a.shape) for a in arrays)))


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function's value and its gradients, with weights that differ."""

    def both(*nodes: Any) -> Any:
        *sources, weights = nodes
        value = function(*sources)
        total = reduction.sum(value * weights)
        return [value, *gradients(total, sources)]

    return both


def normalised(x: Any, w: Any, b: Any) -> Any:
    return activations.layernorm(x, w, b)


FUNCTIONS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "elementwise": (lambda x, y: activations.gelu(x) * y + 1, [(7, 33), (7, 33)]),
    "odd lines": (lambda x, y: x * y + 1, [(333,), (333,)]),
    "broadcast": (lambda x, y: x * y, [(5, 9, 11), (9, 1)]),
    "transposed": (lambda x: permute_dims(x, (1, 0)) * 2, [(70, 90)]),
    "transposed of three": (lambda x: permute_dims(x, (2, 0, 1)) + 1, [(17, 19, 33)]),
    "joined": (lambda x, y: concat_node([x, y * 2], 1), [(6, 9), (6, 14)]),
    "softmax": (with_gradients(lambda x: activations.softmax(x, axis=-1)), [(13, 37), (13, 37)]),
    "softmax of columns": (with_gradients(lambda x: activations.softmax(x, axis=0)), [(45, 23), (45, 23)]),
    "softmax of one row": (lambda x: activations.softmax(x, axis=-1), [(1, 29)]),
    "layernorm": (with_gradients(normalised), [(50, 41), (41,), (41,), (50, 41)]),
    "layernorm of three": (with_gradients(normalised), [(3, 7, 20), (20,), (20,), (3, 7, 20)]),
    "total": (lambda x: reduction.sum(x * x), [(31, 47)]),
    "totals": (lambda x: (reduction.max(x), reduction.argmax(x), reduction.sum(x)), [(31, 47)]),
    "column sums": (lambda x: (reduction.sum(x, axis=0), reduction.max(x * 2, axis=0)), [(300, 21)]),
    "column places": (lambda x: reduction.argmin(x, axis=0), [(90, 21)]),
    "row sums": (lambda x: (reduction.sum(x, axis=1), reduction.prod(x, axis=1)), [(19, 53)]),
    "row places": (lambda x: reduction.argmax(x, axis=1), [(19, 530)]),
    "softmax of few rows": (lambda x: activations.softmax(x, axis=-1), [(3, 1000)]),
    "layernorm of few rows": (normalised, [(3, 1000), (1000,), (1000,)]),
    "maximum, its place and logsumexp": (
        lambda x: (reduction.max(x, axis=1), reduction.argmax(x, axis=1), activations.logsumexp(x, axis=1)),
        [(9, 301)],
    ),
    "weighted exponentials": (
        lambda x, y: reduction.sum(y * exp(x - reduction.max(x, axis=1, keepdims=True)), axis=1),
        [(5, 333), (5, 333)],
    ),
    "variances of few rows": (lambda x: reduction.var(x + 100, axis=1), [(2, 1500)]),
    "variances of columns": (lambda x: reduction.var(x, axis=0), [(700, 5)]),
    "few long rows": (lambda x: reduction.sum(activations.relu(x), axis=1) * 2, [(3, 2000)]),
    "middle": (lambda x: reduction.sum(x, axis=1), [(6, 40, 15)]),
    "outer and inner": (lambda x: reduction.sum(x, axis=(0, 2)), [(6, 21, 15)]),
    "scans": (lambda x: (scan.cumsum(x, 1), scan.cummax(x * 2, 1)), [(9, 70)]),
    "scans of columns": (lambda x: scan.cumprod(x, 0), [(70, 9)]),
    "scan from the end": (lambda x: scan.cumsum(x, 1, reverse=True) + reduction.sum(x), [(5, 41)]),
    "recurrence": (lambda a, b: scan.linear_recurrence(a, b, 1), [(4, 67), (4, 67)]),
    "loss": (lambda x: reduction.sum(activations.logsoftmax(x, axis=-1) * x), [(33, 10)]),
}


@pytest.fixture(params=["usual", "small", "looped"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Blocks as they are for users, small ones, and rows that never fit into registers."""
    chosen: dict[str, int] = {}
    if request.param != "usual":
        chosen = {"BLOCK": 64, "CHUNK": 32, "PROGRAMS": 6, "SERIAL": 1, "VALUES": 1 << 12}
    if request.param == "looped":
        chosen |= {"IN_REGISTERS": 8, "THREADS": 2}
        monkeypatch.setattr(model, "turns", lambda warps, loaded_bytes: 2)
    for name, value in chosen.items():
        monkeypatch.setattr(model, name, value)
    return str(request.param)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forms(name: str, blocks: str) -> None:
    function, shapes = FUNCTIONS[name]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    graph = traced(function, *arrays)
    for found, expected in zip(simulated_gpu.run(graph, arrays), interpret(graph, arrays), strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, dtypes.bfloat16()], ids=str)
@pytest.mark.parametrize("name", ["softmax", "layernorm", "total", "column sums"])
def test_dtypes(name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuse, "LARGE_BYTES", 1 << 10)
    function, shapes = FUNCTIONS[name]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    graph = traced(function, *arrays)
    unit = 2.0**-22 if dtype == np.float32 else 2.0**-7
    for found, expected in zip(simulated_gpu.run(graph, arrays), interpret(graph, arrays), strict=True):
        assert found.dtype == expected.dtype
        wide = expected.astype(np.float64)
        assert np.abs(found.astype(np.float64) - wide).max() <= 64 * unit * (1 + np.abs(wide).max())


def test_unfused() -> None:
    function, shapes = FUNCTIONS["softmax"]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    graph = traced(function, *arrays)
    for found, expected in zip(simulated_gpu.run(graph, arrays, fused=False), interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_numbers_beside_a_line_whose_end_is_cut() -> None:
    """What is the same at all points is worked out once, before the last block goes a way of its own."""
    x, s = rng.standard_normal(2051), np.array(0.25)
    graph = traced(lambda x, s: (x * (1 - s), x + s), x, s)
    [source] = assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90"))).functions.values()
    head, _ = source.split("if tl.program_id(0) <")
    assert head.count("tl.load") == 1 and "1.0 - x0" in head
    for found, expected in zip(simulated_gpu.run(graph, [x, s]), (x * 0.75, x + 0.25), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_rows_are_gathered() -> None:
    table, places = rng.standard_normal((11, 6)), rng.integers(0, 11, (4, 5))
    graph = traced(lambda t, i: add(gather(t, (i,)), 1), table, places)
    np.testing.assert_array_equal(simulated_gpu.run(graph, [table, places])[0], table[places] + 1)


def templates(function: Callable[..., Any], *arrays: np.ndarray) -> list[str]:
    """The first words in the kernels of a function."""
    assembly = assemble(traced(function, *arrays), TritonBackend(GpuTarget("cuda", "sm_90")))
    return [s.split('"""')[1] for s in assembly.functions.values()]


def test_the_form_fits_the_shape() -> None:
    def softmax(x: Any) -> Any:
        return activations.softmax(x, axis=-1)

    assert templates(softmax, np.ones((64, 1000), "f4")) == ["64 rows of 1000, 1 at a time in registers."]
    [long] = templates(softmax, np.ones((640, 100_000), "f4"))
    assert "in blocks of 4096" in long
    total = templates(lambda x: reduction.sum(x), np.ones((1 << 20,), "f4"))
    assert len(total) == 2 and "1048576 points" in total[0] and "1 rows of 512" in total[1]
