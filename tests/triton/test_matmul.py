"""Matrix products on a GPU: tiles that do not fit, batches, transposed factors, narrow factors, epilogues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simulated_gpu
from knetc.codegen.assemble import assemble
from knetc.codegen.triton.backend import TritonBackend
from knetc.codegen.triton.compile import compile_source, compiled
from knetc.codegen.triton.model import GpuTarget
from knetc.runtime.base import dtypes

from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph
from knetc.ir.types import TensorType
from knetc.ops.activations import relu
from knetc.ops.linear import matmul, swapped
from knetc.passes.simplify import simplify

rng = np.random.default_rng(3)


def traced(function: Callable[..., Any], *arrays: np.ndarray) -> Graph:
    return simplify(trace_function(function, *(TensorType(a.dtype, a.shape) for a in arrays)))


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def layer(x: Any, w: Any, b: Any) -> Any:
    return relu(matmul(x, swapped(w)) + b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, dtypes.bfloat16(), np.float16], ids=str)
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (3, 130, 17), (70, 33, 65), (129, 10, 100)])
def test_a_layer(m: int, n: int, k: int, dtype: Any) -> None:
    arrays = [normal(m, k, dtype=dtype), normal(n, k, dtype=dtype), normal(n, dtype=dtype)]
    graph = traced(layer, *arrays)
    [found], [expected] = simulated_gpu.run(graph, arrays), interpret(graph, arrays)
    scale = float(np.abs(expected.astype(np.float64)).max()) + 1
    error = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
    unit = 2.0 ** -(7 if dtypes.is_bfloat16(np.dtype(dtype)) else np.finfo(dtype).nmant)
    assert found.dtype == dtype and error <= (2 if unit > 1e-4 else 64) * unit * scale


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int16])
def test_integers(dtype: Any) -> None:
    a, b = (rng.integers(0, 100, shape).astype(dtype) for shape in ((19, 23), (23, 11)))
    graph = traced(matmul, a, b)
    np.testing.assert_array_equal(simulated_gpu.run(graph, [a, b])[0], a @ b)


@pytest.mark.parametrize(
    "shapes", [((3, 17, 5), (3, 5, 9)), ((2, 1, 20, 7), (3, 7, 20)), ((5,), (5, 6)), ((4, 0), (0, 3))]
)
def test_batches(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = (normal(*shape) for shape in shapes)
    graph = traced(matmul, a, b)
    np.testing.assert_allclose(simulated_gpu.run(graph, [a, b])[0], a @ b, rtol=1e-5, atol=1e-5)


def test_less_precision() -> None:
    a, b = normal(20, 64), normal(64, 20)
    graph, exact = traced(matmul, a, b), a.astype(np.float64) @ b
    errors = {}
    for precision in ("highest", "default"):
        [found] = simulated_gpu.run(graph, [a, b], precision=precision)
        errors[precision] = np.abs(found - exact).max()
    assert errors["highest"] < 1e-5 < errors["default"] < 0.05


def machine_code(function: Callable[..., Any], arrays: list[np.ndarray], arch: str, precision: str = "highest") -> str:
    """The instructions of the matmul kernel of a function."""
    target = GpuTarget("cuda", arch)
    assembly = assemble(traced(function, *arrays), TritonBackend(target, precision=precision))
    [source] = [s for s in assembly.functions.values() if "product" in s]
    assert compile_source("k", source, target)[0].spilled_bytes == 0
    return str(compiled(source, target).asm["sass"])


@pytest.mark.parametrize("arch, instruction", [("sm_80", "HMMA"), ("sm_90", "HGMMA")])
def test_matrix_units_multiply_narrow_factors(arch: str, instruction: str) -> None:
    dtype = dtypes.bfloat16()
    arrays = [normal(512, 256, dtype=dtype), normal(384, 256, dtype=dtype), normal(384, dtype=dtype)]
    assert instruction in machine_code(layer, arrays, arch)


def test_float32_is_multiplied_as_it_is_unless_asked() -> None:
    arrays = [normal(512, 256), normal(384, 256), normal(384)]
    exact, less = (machine_code(layer, arrays, "sm_80", precision) for precision in ("highest", "default"))
    assert "FFMA" in exact and "HMMA" not in exact and "HMMA" in less


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_what_has_no_instruction_does_not_spill(dtype: Any) -> None:
    machine_code(matmul, [np.ones((256, 128), dtype), np.ones((128, 256), dtype)], "sm_90")
