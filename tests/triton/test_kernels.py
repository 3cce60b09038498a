"""A kernel of each template: its text, and what it is as machine code for three generations of GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from knetc.codegen.assemble import assemble
from knetc.codegen.triton import search
from knetc.codegen.triton.backend import TritonBackend, build, parameter_format
from knetc.codegen.triton.compile import compile_source, compiled
from knetc.codegen.triton.cubin import read_cubin
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.source import header_of, symbol_of
from knetc.runtime.base import dtypes
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CompileError
from knetc.runtime.cuda.driver import parameter_offsets

from knetc.compiler import pipeline
from knetc.ir.build import trace_function
from knetc.ir.types import TensorType
from knetc.ops import reduction, scan
from knetc.ops.activations import layernorm, relu, softmax
from knetc.ops.apply import cast
from knetc.ops.linear import matmul
from knetc.passes.differentiate import gradients
from knetc.passes.simplify import simplify


def sources(function: Callable[..., Any], *types: tuple[Any, tuple[int, ...]]) -> list[str]:
    """The kernels of a function of arrays."""
    graph = simplify(trace_function(function, *(TensorType(np.dtype(d), shape) for d, shape in types)))
    return list(assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90"))).functions.values())


F32, BF16 = np.float32, dtypes.bfloat16()
KERNELS: dict[str, Callable[[], str]] = {
    "pointwise": lambda: sources(lambda x, y: relu(x * y) + 1, (F32, (999, 512)), (F32, (999, 512)))[0],
    "pointwise_total": lambda: sources(lambda x: reduction.sum(x * x), (F32, (1 << 20,)))[0],
    "columns": lambda: sources(lambda x: reduction.sum(relu(x), axis=0), (F32, (3000, 70)))[0],
    "rows": lambda: sources(lambda x: x - reduction.max(x, axis=-1, keepdims=True), (F32, (640, 1000)))[0],
    "long_rows": lambda: sources(lambda x: x / reduction.sum(x, axis=-1, keepdims=True), (F32, (640, 100_000)))[0],
    "scan": lambda: sources(lambda x: scan.cumsum(x, 1), (F32, (64, 200)))[0],
    "matmul": lambda: sources(
        lambda x, w, b: relu(matmul(x, w) + b), (BF16, (512, 256)), (BF16, (256, 100)), (BF16, (100,))
    )[0],
    "matmul_prologue": lambda: sources(
        lambda x, s, w: matmul(x, cast(w, BF16) * s), (BF16, (100, 500)), (BF16, (64,)), (np.int8, (500, 64))
    )[0],
    "together": lambda: sources(
        lambda x, y, z: [relu(x) * 2, relu(y) * 2, reduction.sum(z, axis=1)],
        (F32, (5, 1000)),
        (F32, (30,)),
        (F32, (8, 64)),
    )[0],
    "search": lambda: next(iter(search.outside(np.dtype(np.int32), 1000, 0, 10).functions.values())),
}


@pytest.mark.parametrize("name", KERNELS)
def test_sources(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"triton/{name}.txt", KERNELS[name]())


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", KERNELS)
def test_machine_code(name: str, arch: str) -> None:
    source = KERNELS[name]()
    cubin, code = compile_source(symbol_of(source), source, GpuTarget("cuda", arch))
    info = read_cubin(code, cubin.entry)
    assert cubin.arch.rstrip("a") == arch
    assert cubin.parameters == parameter_format(header_of(source))
    assert [offset for offset, _ in info.parameters] == parameter_offsets(cubin.parameters)
    assert info.threads == 32 * cubin.num_warps
    assert cubin.spilled_bytes == 0 and 0 < cubin.registers <= 255
    assert cubin.shared_bytes <= {"sm_80": 163, "sm_90": 227, "sm_100": 227}[arch] << 10


def normalised(x: Any, w: Any, dy: Any) -> Any:
    y = layernorm(x, w)
    return gradients(reduction.sum(y * dy), [x, w])


@pytest.mark.parametrize("length", [4096, 16384])
def test_rows_of_any_length_stay_in_registers(length: int) -> None:
    rows = (F32, ((1 << 22) // length, length))
    for source in (
        *sources(lambda x: softmax(x, axis=-1), rows),
        *sources(normalised, rows, (F32, (length,)), rows),
    ):
        cubin, _ = compile_source("k", source, GpuTarget("cuda", "sm_90"))
        assert cubin.spilled_bytes == 0, source


@pytest.mark.parametrize("dtype, width", [(F32, 128), (BF16, 128), (np.float64, 128)])
def test_neighbours_are_read_together(dtype: Any, width: int) -> None:
    [source] = sources(lambda x, y: x + y, (dtype, (1 << 20,)), (dtype, (1 << 20,)))
    code = compiled(source, GpuTarget("cuda", "sm_90")).asm["sass"]
    assert f"LDG.E.{width}" in code and f"STG.E.{width}" in code


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_gradients_of_a_norm_read_their_rows_once(dtype: Any) -> None:
    """Sums of rows and of columns in one kernel, which asks for the next rows before it is done with these."""
    rows = (dtype, (2048, 8192))
    main, *rest = sources(normalised, rows, (dtype, (8192,)), rows)
    assert main.count("tl.load") == 3 and main.count("tl.store") == 2
    assert len(rest) == (1 if dtype == F32 else 2) and all("2048" not in source for source in rest)
    made = compiled(main, GpuTarget("cuda", "sm_90"))
    assert "cp.async" in made.asm["ptx"] and made.metadata.shared <= 100 << 10
    assert read_cubin(made.asm["cubin"], made.metadata.name).stack_bytes == 0


@pytest.mark.parametrize("points", [1000003, 999 * 513])
@pytest.mark.parametrize("dtype", [F32, BF16, np.float16])
def test_neighbours_are_read_together_whatever_their_number(dtype: Any, points: int) -> None:
    [source] = sources(lambda x, y: x * y + 1, (dtype, (points,)), (dtype, (points,)))
    code = compiled(source, GpuTarget("cuda", "sm_90")).asm["ptx"]
    assert "ld.global.v4" in code and "st.global.v4" in code
    # the last block alone has a mask
    assert source.count("tl.load") == 4 and source.count(", points)") == 3


def test_narrow_floats_are_computed_in_float32() -> None:
    [source] = sources(lambda x, y: relu(x * y + 1), (BF16, (4096,)), (BF16, (4096,)))
    code = compiled(source, GpuTarget("cuda", "sm_90")).asm["ttir"]
    assert not [
        line
        for line in code.splitlines()
        if "arith." in line and "bf16" in line and "ext" not in line and "trunc" not in line
    ]


def test_equal_kernels_are_one() -> None:
    two = sources(lambda x, y: (relu(x), relu(y)), (F32, (100,)), (F32, (100,)))
    assert len(two) == 1


def test_what_triton_refuses_is_shown_with_its_source() -> None:
    source = KERNELS["pointwise"]().replace("tl.load", "tl.lead")
    with pytest.raises(CompileError, match=r"(?s)refuses a kernel for sm_90.*lead.*def "):
        compile_source("k", source, GpuTarget("cuda", "sm_90"))


def test_what_is_no_cubin_is_refused() -> None:
    with pytest.raises(CompileError, match="no cubin with a kernel k"):
        read_cubin(b"nothing", "k")


def test_programs_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way from a graph to a program with its machine code, as on a machine with a GPU."""
    monkeypatch.setattr(config, "cache", False)
    monkeypatch.setattr(pipeline, "_kernels", {})
    target = GpuTarget("cuda", "sm_90")
    graph = pipeline.optimised(trace_function(lambda x: softmax(x, axis=-1), TensorType(np.dtype(F32), (4, 100))))
    _, program, objects = build(graph, target, pipeline.gpu_compiler(target))
    assert {grid.function for step in program.steps for grid in step.grids} == {c.function for c in program.cubins}
    assert set(program.objects) == set(objects) and all(code[:4] == b"\x7fELF" for code in objects.values())
