"""Products that compute a factor while they read it: right in every form, without spills, and only where it pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simulated_gpu
from knetc.codegen.assemble import assemble
from knetc.codegen.triton.backend import TritonBackend
from knetc.codegen.triton.compile import compile_source
from knetc.codegen.triton.model import GpuTarget
from knetc.runtime.base import dtypes

import knetc as kn
from knetc.dump import traced as traced_call
from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph
from knetc.ir.types import TensorType
from knetc.ops.activations import gelu, relu
from knetc.ops.apply import cast
from knetc.ops.indexing import index
from knetc.ops.linear import matmul, swapped
from knetc.ops.logic import where
from knetc.passes.simplify import simplify

rng = np.random.default_rng(5)
U1, I1, F2, F4, F8, B = (np.dtype(name) for name in ("u1", "i1", "f2", "f4", "f8", "?"))
BF = dtypes.bfloat16()
BACKEND = TritonBackend(GpuTarget("cuda", "sm_90"))


def traced(function: Callable[..., Any], *types: tuple[Any, tuple[int, ...]]) -> Graph:
    return simplify(trace_function(function, *(TensorType(np.dtype(d), shape) for d, shape in types)))


def notes(graph: Graph) -> list[str]:
    return [note for part in assemble(graph, BACKEND).parts for note in part.kernel.notes]


COMPUTED = "a factor is computed while it is read"
Array = tuple[Any, tuple[int, ...]]
X, W = (F4, (70, 83)), (F4, (83, 100))
PROLOGUES: dict[str, tuple[Callable[..., Any], list[Array]]] = {
    "scaled bytes": (lambda x, w: matmul(cast(x, F4) / 255.0 - 0.5, w), [(U1, (70, 83)), (F4, (83, 10))]),
    "quotients": (lambda x, w: matmul(1 / (x * x + 1), w), [X, W]),
    "mask": (lambda x, w: matmul(swapped(cast(x, F4)), w), [(B, (83, 70)), W]),
    "right": (lambda x, w: matmul(x, swapped(relu(w) * 2)), [X, (F4, (10, 83))]),
    "both": (lambda x, w: matmul(relu(x), relu(w)), [X, W]),
    "narrow": (lambda x, w: matmul(relu(x + 1), w), [(BF, (70, 83)), (BF, (83, 50))]),
    "half": (lambda x, w: matmul(x, w * 2), [(F2, (35, 83)), (F2, (83, 50))]),
    "double": (lambda x, w: matmul(cast(x, F8) + 1, w), [(F4, (20, 43)), (F8, (43, 10))]),
    "integers": (lambda x, w: matmul(cast(x, np.dtype("i4")) - 3, w), [(I1, (20, 43)), (np.dtype("i4"), (43, 10))]),
    "pieces": (lambda x, w: matmul(1 - x, w), [(F4, (20, 1800)), (F4, (1800, 10))]),
    "rows and columns": (
        lambda x, w, s, m, c: matmul((x - m) * s + c, w), [X, W, (F4, (70, 1)), (F4, (70, 1)), (F4, (83,))],
    ),
    "dequantised": (
        lambda x, w, s: matmul(x, cast(w, BF) * s), [(BF, (33, 83)), (I1, (83, 50)), (BF, (50,))],
    ),
    "dequantised, transposed": (
        lambda x, w, s: matmul(x, swapped(cast(w, BF) * s)), [(BF, (33, 83)), (I1, (50, 83)), (BF, (50, 1))],
    ),
    "two arrays": (lambda x, y, w: matmul(x * y, w), [X, X, W]),
    "a mask given": (lambda x, m, w: matmul(where(m, x * 2, 0), w), [X, (B, (70, 83)), W]),
    "two arrays, one of them transposed": (lambda x, y, w: matmul(x + swapped(y), w), [X, (F4, (83, 70)), W]),
    "batches": (lambda x, w, s: matmul(x * s, w), [(F4, (3, 21, 37)), (F4, (3, 37, 20)), (F4, (3, 1, 37))]),
    "batches of one": (lambda x, w: matmul(relu(x), w), [(F4, (2, 21, 37)), (F4, (37, 20))]),
    "outer products": (lambda u, v, w: matmul(u * v, w), [(F4, (70, 1)), (F4, (83,)), W]),
    "Gram": (lambda x: matmul(swapped(relu(x)), relu(x)), [X]),
    "a number": (lambda x, w, s: matmul(x * s, w), [X, W, (F4, ())]),
    "shared": (lambda x, w, v: (matmul(relu(x), w), matmul(swapped(relu(x)), v)), [X, W, (F4, (70, 20))]),
    "slice": (lambda x, w: matmul(relu(index(x, np.s_[2:, ::2])), w), [(F4, (72, 166)), W]),
    "gelu": (lambda x, w: matmul(gelu(x, approximate="tanh"), w), [X, (F4, (83, 10))]),
    "epilogue too": (lambda x, w, b: relu(matmul(relu(x), w) + b), [X, W, (F4, (100,))]),
}  # fmt: skip


@pytest.mark.parametrize("name", PROLOGUES)
def test_factors_are_computed_as_they_are_read(name: str) -> None:
    function, kinds = PROLOGUES[name]
    arrays = [
        np.asarray(rng.integers(0, 2 if d is B else 100, s) / (1 if d in (U1, I1, B) else 50), d) for d, s in kinds
    ]
    graph = traced(function, *kinds)
    products = assemble(graph, BACKEND).parts
    assert all(part.name.startswith("matmul") and COMPUTED in part.kernel.notes[-1] for part in products)
    found, expected = simulated_gpu.run(graph, arrays), interpret(graph, arrays)
    for f, e in zip(found, expected):
        f, e = f.astype(float), e.astype(float)
        narrow = kinds[0][0] in (F2, BF)
        np.testing.assert_allclose(f, e, 0.02 if narrow else 1e-4, (0.02 if narrow else 1e-5) * np.abs(e).max())


def test_dropout_is_drawn_where_it_is_read() -> None:
    """The forward product and the gradient for weights draw the same numbers, which nobody stores."""
    w = kn.Param(np.full((83, 10), 0.5, np.float32))

    @kn.compile
    def step(x: Any) -> Any:
        tape = kn.diff(lambda: kn.sum(kn.square(kn.dropout(x, 0.25) @ w)))
        return kn.value(tape), kn.grad(tape, w)

    graph = simplify(traced_call(step, [kn.ones((70, 83))]))
    assert sum(COMPUTED in note for note in notes(graph)) == 2
    given = {(): np.array(77, "u8"), (83, 10): np.full((83, 10), 0.5, np.float32), (70, 83): np.ones((70, 83), "f4")}
    arrays = [given[node.shape].astype(node.dtype) for node in graph.inputs]
    for found, expected in zip(simulated_gpu.run(graph, arrays), interpret(graph, arrays)):
        np.testing.assert_allclose(found, expected, 1e-4)


@pytest.mark.parametrize(
    "function, types",
    [
        (lambda x, w: matmul(relu(x), w), [(F4, (8192, 4096)), (F4, (4096, 4096))]),
        (lambda x, w: matmul(relu(x), w), [(BF, (8192, 4096)), (BF, (4096, 4096))]),
        (lambda x, w: (matmul(relu(x), w), relu(x)), [(F4, (500, 300)), (F4, (300, 10))]),
        (lambda x, w: matmul(relu(matmul(x, w)), swapped(w)), [(F4, (500, 300)), (F4, (300, 10))]),
        (lambda x, w: matmul(gelu(x), w), [(BF, (16384, 1024)), (BF, (1024, 1024))]),
    ],
    ids=["large", "large and narrow", "used twice", "epilogue", "dear"],
)
def test_what_is_better_stored_is_stored(function: Callable[..., Any], types: list[Array]) -> None:
    """Large products are left to the matrix units and the library; what is in memory anyway is read."""
    assert not any(COMPUTED in note for note in notes(traced(function, *types)))


def test_a_product_does_not_write_where_it_reads() -> None:
    """The result may not take the memory of what its own factor is computed from."""
    graph = traced(lambda x, w: x - matmul(relu(x), w), (F4, (64, 64)), (F4, (64, 64)))
    graph = Graph(graph.inputs, graph.outputs, graph.effects, {0: 0}, graph.input_names, graph.output_names)
    arrays = [rng.integers(-8, 8, (64, 64)).astype(np.float32) for _ in range(2)]
    assert any(COMPUTED in note for note in notes(graph))
    [found] = simulated_gpu.run(graph, arrays)
    x, w = arrays
    np.testing.assert_array_equal(found, x - np.maximum(x, 0) @ w)


SPILLS: dict[str, tuple[Callable[..., Any], list[Array]]] = {
    "scaled bytes": (
        lambda x, w, b: relu(matmul(cast(x, F4) / 255.0, w) + b), [(U1, (8192, 784)), (F4, (784, 10)), (F4, (10,))],
    ),
    "dequantised": (lambda x, w, s: matmul(x, cast(w, BF) * s), [(BF, (256, 4096)), (I1, (4096, 4096)), (BF, (4096,))]),
    "narrow": (lambda x, w, s: matmul(relu(x * s), w), [(BF, (16384, 1024)), (BF, (1024, 256)), (BF, (1024,))]),
    "both": (lambda x, w, s: matmul(x * s, relu(w)), [(F4, (256, 1024)), (F4, (1024, 1024)), (F4, (256, 1))]),
}  # fmt: skip


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", SPILLS)
def test_computing_a_factor_does_not_spill(name: str, arch: str) -> None:
    function, types = SPILLS[name]
    target = GpuTarget("cuda", arch)
    assembly = assemble(traced(function, *types), TritonBackend(target))
    assert COMPUTED in assembly.parts[-1].kernel.notes[-1]
    for source in assembly.functions.values():
        cubin, _ = compile_source("k", source, target)
        assert cubin.spilled_bytes == 0 and cubin.registers <= 255
        assert cubin.shared_bytes <= (163 if arch == "sm_80" else 227) << 10
