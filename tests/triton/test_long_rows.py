"""Rows too long for registers: how often they are read, and what the folds of one walk are where that is delicate."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simulated_gpu
from knetc.codegen.assemble import assemble
from knetc.codegen.triton import model
from knetc.codegen.triton.backend import TritonBackend
from knetc.codegen.triton.compile import compiled
from knetc.codegen.triton.model import GpuTarget
from knetc.runtime.base import dtypes

from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph
from knetc.ir.types import TensorType
from knetc.ops import activations, reduction
from knetc.ops.transcendental import exp, exp2
from knetc.passes.differentiate import gradients
from knetc.passes.simplify import simplify

rng = np.random.default_rng(7)


def traced(function: Callable[..., Any], *types: tuple[Any, tuple[int, ...]]) -> Graph:
    return simplify(trace_function(function, *(TensorType(np.dtype(d), shape) for d, shape in types)))


def reads(function: Callable[..., Any], *shapes: tuple[int, ...]) -> list[dict[str, int]]:
    """For each kernel how often it reads each of its parameters."""
    graph = traced(function, *((np.float32, shape) for shape in shapes))
    found = []
    for source in assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90"))).functions.values():
        names = re.findall(r"tl\.load\((\w+)", source)
        found.append({name: names.count(name) for name in names})
    return found


def softmax(x: Any) -> Any:
    return activations.softmax(x, axis=-1)


def own_softmax(x: Any) -> Any:
    """Without a guard for rows of infinities."""
    e = exp(x - reduction.max(x, axis=1, keepdims=True))
    return e / reduction.sum(e, axis=1, keepdims=True)


def cross_entropy(x: Any) -> Any:
    loss = reduction.sum(activations.logsoftmax(x, axis=-1)[:, 3])
    return [loss, *gradients(loss, [x])]


LONG = (640, 25 * 4096)
ONCE = {
    "logsumexp": lambda x: activations.logsumexp(x, axis=1),
    "maximum, its place and sum": lambda x: [reduction.max(x, axis=1), reduction.argmax(x, axis=1), own_sum(x)],
    "variance": lambda x: reduction.var(x, axis=1),
    "powers of two": lambda x: reduction.sum(exp2(x - reduction.max(x, axis=1, keepdims=True)), axis=1),
}


def own_sum(x: Any) -> Any:
    return reduction.sum(exp(x - reduction.max(x, axis=1, keepdims=True)) * x * 3, axis=1)


@pytest.mark.parametrize("name", ONCE)
def test_folds_read_their_rows_once(name: str) -> None:
    assert [list(kernel.values()) for kernel in reads(ONCE[name], LONG)] == [[1]]


@pytest.mark.parametrize("function", [softmax, own_softmax, activations.logsoftmax, activations.layernorm])
def test_rows_are_read_once_for_their_folds_and_once_for_the_result(function: Callable[..., Any]) -> None:
    [kernel] = reads(lambda x: function(x) if function is not activations.logsoftmax else function(x, axis=1), LONG)
    assert list(kernel.values()) == [2]


def test_what_does_not_follow_is_read_again() -> None:
    # a sum of exponentials relative to a mean could overflow on the way
    [kernel] = reads(lambda x: reduction.sum(exp(x - reduction.mean(x, axis=1, keepdims=True)), axis=1), LONG)
    assert list(kernel.values()) == [2]
    # another array than that of the maximum
    [kernel] = reads(lambda x, y: reduction.sum(exp(y - reduction.max(x, axis=1, keepdims=True)), axis=1), LONG, LONG)
    assert list(kernel.values()) == [1, 1]


def test_few_rows_are_shared_by_many_programs() -> None:
    for function in (softmax, activations.layernorm):
        graph = traced(function, (np.float32, (4, 1 << 20)))
        assembly = assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90")))
        launches = [grid.grid[0] for step in assembly.program.steps for grid in step.grids]
        assert max(launches) >= 256 and sum(n >= 128 for n in launches) == 2, launches


def test_blocks_are_read_before_they_are_folded() -> None:
    """A thread asks for its whole part of a block, 16 bytes at a time, and folds it without the other threads."""
    for dtype in (np.float32, dtypes.bfloat16()):
        graph = traced(lambda x: activations.logsumexp(x, axis=1), (dtype, LONG))
        [source] = assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90"))).functions.values()
        code = compiled(source, GpuTarget("cuda", "sm_90")).asm["ptx"]
        loop = code.split("$L__BB0_1:")[1].split("bra \t$L__BB0_1")[0]
        count = 8 if dtype == np.float32 else 4
        assert loop.count("ld.global.v4") == count and "shfl" not in loop and "bar.sync" not in loop


@pytest.fixture(params=["usual", "shared"])
def short_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a few hundred are long, and walked in blocks of 16 lines; ``shared``: by several programs."""
    shared = request.param == "shared"
    chosen = {"CHUNK": 32, "IN_REGISTERS": 8, "THREADS": 1, "SERIAL": 1, "PROGRAMS": 64 if shared else 1}
    for name, value in chosen.items():
        monkeypatch.setattr(model, name, value)


def delicate(dtype: Any) -> np.ndarray:
    """Rows with infinities, NaN, large and far apart numbers, at their beginnings and elsewhere."""
    x = rng.standard_normal((12, 149)) * 3
    x[0, :] = -np.inf
    x[1, :80] = -np.inf
    x[2, 70] = np.inf
    x[3, 70] = np.nan
    x[4, 20:] = -np.inf
    x[5] -= 200
    x[6] += 200
    x[7] = np.linspace(-300, 300, 149)
    x[8] = np.linspace(300, -300, 149)
    x[9, ::2] = -np.inf
    x[10, 5], x[10, 90] = np.inf, -np.inf
    return np.asarray(x.astype(dtype))


@pytest.mark.filterwarnings("ignore:.*encountered")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, dtypes.bfloat16()], ids=str)
@pytest.mark.parametrize("function", [softmax, own_softmax, ONCE["logsumexp"], ONCE["variance"]])
def test_infinities_and_far_numbers(function: Callable[..., Any], dtype: Any, short_blocks: None) -> None:
    x = delicate(dtype)
    graph = traced(function, (dtype, x.shape))
    [found], [expected] = simulated_gpu.run(graph, [x]), interpret(graph, [x])
    assert found.dtype == expected.dtype
    accuracy = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3, "bfloat16": 2e-2}[expected.dtype.name]
    np.testing.assert_allclose(
        found.astype(np.float64), expected.astype(np.float64), rtol=accuracy, atol=accuracy * 1e-3
    )


def test_variances_of_numbers_far_from_zero(short_blocks: None) -> None:
    x = (rng.standard_normal((5, 301)) + np.array([[0], [1e3], [-1e4], [1e5], [0]])).astype(np.float32)
    x[4, 0] = 1e6  # far from all others
    graph = traced(lambda x: reduction.var(x, axis=1), (np.float32, x.shape))
    [found] = simulated_gpu.run(graph, [x])
    np.testing.assert_allclose(found, x.astype(np.float64).var(axis=1), rtol=5e-5)
