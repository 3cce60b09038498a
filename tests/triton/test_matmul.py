"""Matrix products on a GPU: tiles that do not fit, batches, transposed factors, narrow factors, epilogues."""

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
from knetc.codegen.triton.compile import compile_source, compiled
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.tiles import Form, matmul_plans
from knetc.runtime.base import dtypes

from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph
from knetc.ir.types import TensorType
from knetc.ops.activations import relu
from knetc.ops.linear import matmul, swapped
from knetc.passes.simplify import simplify

rng = np.random.default_rng(3)
F32, BF16 = np.dtype("f4"), dtypes.bfloat16()


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


def weight_gradient(dy: Any, x: Any) -> Any:
    return matmul(swapped(dy), x)


@pytest.mark.parametrize(
    "k, dtype",
    [(1024, np.float32), (1777, np.float32), (3001, dtypes.bfloat16()), (333, np.float64), (256, np.int32)],
    ids=str,
)
def test_few_tiles_with_a_long_inner_dimension_are_shared(k: int, dtype: Any) -> None:
    """The pieces' sums are added in order by a second kernel, which goes on with the epilogue."""

    def gradient(dy: Any, x: Any, w: Any) -> Any:
        return w - matmul(swapped(dy), x)

    random = rng.integers(-8, 8, k * 50 + 19 * 31).astype(dtype)  # sums without rounding
    arrays = [
        random[: k * 19].reshape(k, 19),
        random[k * 19 : k * 50].reshape(k, 31),
        random[-19 * 31 :].reshape(19, 31),
    ]
    graph = traced(gradient, *arrays)
    [part] = assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90"))).parts
    assert any("pieces of" in note for note in part.kernel.notes)
    [found], [expected] = simulated_gpu.run(graph, arrays), interpret(graph, arrays)
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, BF16], ids=str)
def test_whatever_plan_is_measured_as_the_fastest(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "TUNED_BYTES", 0)
    arrays = [rng.integers(-8, 8, shape).astype(dtype) for shape in ((75, 530), (90, 530), (90,))]
    graph = traced(layer, *arrays)
    [expected] = interpret(graph, arrays)
    seen: set[int] = set()

    def taken(number: int) -> Callable[..., tuple[int, str]]:
        def tuner(kernels: Any, arguments: Any) -> tuple[int, str]:
            seen.update(range(len(kernels)))
            return min(number, len(kernels) - 1), "as told"

        return tuner

    for number in range(7):
        [found] = simulated_gpu.run(graph, arrays, tuner=taken(number))
        np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))
    assert len(seen) == 7, "six plans, and the library's"


def test_batches_are_shared_too() -> None:
    a, b = (rng.integers(-8, 8, shape).astype(np.float32) for shape in ((2, 3, 5, 1900), (3, 1900, 7)))
    graph = traced(matmul, a, b)
    np.testing.assert_array_equal(simulated_gpu.run(graph, [a, b])[0], a @ b)


@pytest.mark.parametrize("how, size", [("narrow", 2), ("ieee", 4), ("tf32", 4), ("double", 8), ("", 4)])
def test_plans(how: str, size: int) -> None:
    """Whatever the shape, plans fit a block's shared memory and cover the product; long ones keep a device busy."""
    for m, n, k in [(1, 1, 1), (10, 64, 50_000), (256, 10, 1024), (4096, 4096, 4096), (300, 7, 3), (64, 64, 1 << 20)]:
        for plan in matmul_plans(Form(m, n, k, 1, how, size)):
            tile = plan.tile
            assert (tile.rows + tile.columns) * plan.depth * plan.stages * size <= 160 << 10
            assert (plan.splits - 1) * plan.piece(k) < k <= plan.splits * plan.piece(k)
    plan = matmul_plans(Form(64, 64, 1 << 20, 1, how, size))[0]
    assert -(-64 // plan.tile.rows) * -(-64 // plan.tile.columns) * plan.splits >= 60
    plan = matmul_plans(Form(8192, 8192, 512, 1, how, size))[0]
    assert plan.splits == 1 and (how in ("double", "") or plan.tile.elements >= 128 * 128)


def test_offsets_beyond_31_bits() -> None:
    graph = traced(matmul, *(np.broadcast_to(np.float32(0), shape) for shape in ((1 << 20, 4096), (4096, 64))))
    [source] = assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90"))).functions.values()
    assert "tile = tl.program_id(0).to(tl.int64)" in source and "tl.arange(0, 32).to(tl.int64)" in source


def compiled_products(
    function: Callable[..., Any], types: list[TensorType], arch: str, precision: str = "highest"
) -> list[tuple[Any, str]]:
    """What is known of the kernels of a function that multiply, and their instructions (for sm_100 those of PTX)."""
    target = GpuTarget("cuda", arch)
    graph = simplify(trace_function(function, *types))
    assembly = assemble(graph, TritonBackend(target, precision=precision))
    found = []
    for source in assembly.functions.values():
        if "product" in source:
            made = compiled(source, target).asm["ptx" if arch == "sm_100" else "sass"]
            found.append((compile_source("k", source, target)[0], str(made)))
    return found


def machine_code(function: Callable[..., Any], arrays: list[np.ndarray], arch: str, precision: str = "highest") -> str:
    """The instructions of the matmul kernel of a function."""
    types = [TensorType(a.dtype, a.shape) for a in arrays]
    [(cubin, code)] = compiled_products(function, types, arch, precision)
    assert cubin.spilled_bytes == 0
    return code


BENCHMARKS: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "mlp_large": (np.float32, (256, 1024, 1024)),
    "mlp_wide in tf32": (np.float32, (8192, 4096, 4096)),
    "mlp_wide in tf32x3": (np.float32, (8192, 4096, 4096)),
    "mlp_wide in bfloat16": (BF16, (8192, 4096, 4096)),
}
"""Dtype, rows, columns and inner dimension of the benchmarks' largest products."""


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_products_of_the_benchmarks(name: str, arch: str) -> None:
    """Forward with its epilogue and the gradient for weights: no spills, little enough shared memory, matrix units."""
    dtype, (m, n, k) = BENCHMARKS[name]
    precision = {"tf32": "default", "tf32x3": "high"}.get(name.partition(" in ")[2], "highest")
    for function, shapes in ((layer, ((m, k), (n, k), (n,))), (weight_gradient, ((m, n), (m, k)))):
        types = [TensorType(np.dtype(dtype), shape) for shape in shapes]
        for cubin, code in compiled_products(function, types, arch, precision):
            assert cubin.spilled_bytes == 0 and cubin.registers <= 255
            assert cubin.shared_bytes <= (163 if arch == "sm_80" else 227) << 10
            assert not re.search(r"\b(LDL|STL)\b", code)
            units = {"sm_80": r"\bHMMA", "sm_90": r"\bHGMMA", "sm_100": r"\btcgen05\.mma"}[arch]
            assert bool(re.search(units, code)) == (" in " in name), function


@pytest.mark.parametrize("arch, instruction", [("sm_80", "HMMA"), ("sm_90", "HGMMA")])
def test_matrix_units_multiply_narrow_factors(arch: str, instruction: str) -> None:
    arrays = [np.zeros(shape, BF16) for shape in ((4096, 256), (2048, 256), (2048,))]
    assert instruction in machine_code(layer, arrays, arch)


def test_float32_is_multiplied_as_it_is_unless_asked() -> None:
    arrays = [normal(512, 256), normal(384, 256), normal(384)]
    exact, less = (machine_code(layer, arrays, "sm_80", precision) for precision in ("highest", "default"))
    assert "FFMA" in exact and "HMMA" not in exact and "HMMA" in less


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_what_has_no_instruction_does_not_spill(dtype: Any) -> None:
    machine_code(matmul, [np.ones((256, 128), dtype), np.ones((128, 256), dtype)], "sm_90")
