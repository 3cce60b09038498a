"""Matrix products by a library: which ones it is asked for, how, and what happens where it is missing or refuses."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_gpu
import numpy as np
import pytest
from fake_gpu import GRAPH_LAUNCHES, GRAPHS, UPDATES, Fake
from knetc.runtime.cuda import device as devices
from knetc.runtime.cuda import libraries
from knetc.runtime.cuda.execute import Executable
from knetc.runtime.program import ArgumentRef, BufferSpec, Factor, LibraryCall, Program, Step

from knetc.ir.build import trace_function
from knetc.ir.types import TensorType
from knetc.ops import activations, movement
from knetc.ops.indexing import index
from knetc.ops.linear import swapped

F4, F8, F2 = np.dtype("f4"), np.dtype("f8"), np.dtype("f2")


@pytest.fixture
def blas(gpu: Fake, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library that stands for cuBLASLt."""
    made: Any = ctypes.CDLL(str(fake_gpu.library(Path(__file__).parent / "fakecublaslt.c")))
    made.fake_driver(gpu.library.fake_call)
    made.fake_refuse(0)
    monkeypatch.setattr(libraries, "load", lambda names: made)
    return made


def product_program(*calls: LibraryCall, kind: str = "f32") -> Program:
    """``A @ B`` (and the bias), once for each call, from inputs A, B, bias to one output."""
    size = 1 << 14
    specs = [*(BufferSpec("input", kind, (size,), size) for _ in range(3)), BufferSpec("output", kind, (size,), size)]
    arguments = (*(ArgumentRef("buffer", k) for k in (0, 1, 3, 2)),)
    steps = [Step("matmul", arguments, (), library=(call,)) for call in calls]
    return Program("cuda:sm_90", tuple(specs), (), tuple(steps), (), 0, ())


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_products(gpu: Fake, blas: Any, kind: str, left: bool, right: bool, bias: bool) -> None:
    m, k, n, batch = 3, 5, 4, 2
    dtype = np.dtype(kind.replace("f32", "f4").replace("f64", "f8"))
    random = np.random.default_rng(0)
    a, b, add = random.normal(size=(batch, m, k)), random.normal(size=(batch, k, n)), random.normal(size=n)
    call = LibraryCall(
        "cublaslt", m, n, k, batch,
        Factor(0, 2 * dtype.itemsize, kind, left, m if left else k, m * k),
        Factor(1, 0, kind, right, k if right else n, k * n),
        2, kind, 3 if bias else -1, bias, scale=0.5 if bias else 1.0, more=0 if bias else -1, share=2.0 * bias,
    )  # fmt: skip
    executable = Executable(product_program(call, call, call, kind=kind), {}, devices.device(0))

    def put(x: np.ndarray, offset: int = 0) -> Any:
        room = np.zeros(1 << 11, dtype)
        room[offset : offset + x.size] = x.reshape(-1)
        return devices.device(0).upload(room)

    for factor in (1, 2, 3):
        inputs = [
            put((factor * a).swapaxes(1, 2).copy() if left else factor * a, 2),
            put(b.swapaxes(1, 2).copy() if right else b),
            put(add),
        ]
        result = devices.device(0).allocate(1 << 14)
        executable.run([x.at for x in inputs], [result.at])
        back = np.empty((batch, m, n), dtype)
        devices.device(0).read(result, 0, back)
        expected = (0.5 if bias else 1) * factor * a @ b
        if bias:  # the values in memory from A's beginning serve as what is added
            held = np.zeros(1 << 11, dtype)
            held[2 : 2 + a.size] = (factor * (a.swapaxes(1, 2) if left else a)).reshape(-1)
            expected = expected + 2 * held[: batch * m * n].reshape(batch, m, n) + add
        np.testing.assert_allclose(back, np.maximum(expected, 0) if bias else expected, 1e-5, 1e-6)
    assert blas.fake_chosen() >= 1
    assert (gpu.count(GRAPHS), gpu.count(GRAPH_LAUNCHES), gpu.count(UPDATES)) == (1, 2, 3)


def test_one_choice_for_each_form(gpu: Fake, blas: Any) -> None:
    before = blas.fake_chosen()
    factor = Factor(0, 0, "f32", False, 4, 16)
    call = LibraryCall("cublaslt", 4, 4, 4, 1, factor, factor, 2, "f32")
    Executable(product_program(call, call), {}, devices.device(0))
    Executable(product_program(call), {}, devices.device(0))
    assert blas.fake_chosen() == before + 1


@pytest.mark.parametrize(
    "refusal",
    [
        (1, r"cuda:0 are made by generated kernels.*answers CUBLAS_STATUS_OTHER \(1\)"),
        (2, r"1 x \[4, 4\].*f32.*sm_90.*no algorithm"),
        (3, r"1 x \[4, 4\].*cublasLtMatmul answers CUBLAS_STATUS_NOT_SUPPORTED \(15\)"),
    ],
)
def test_refusals_are_told(gpu: Fake, blas: Any, caplog: pytest.LogCaptureFixture, refusal: tuple[int, str]) -> None:
    what, message = refusal
    blas.fake_refuse(what)
    left = blas.fake_live()
    factor = Factor(0, 0, "f32", False, 4, 16)
    call = LibraryCall("cublaslt", 4, 4, 4, 1, factor, factor, 2, "f32")
    with caplog.at_level(logging.INFO, "knetc"):
        executable = Executable(product_program(call), {}, devices.device(0))
    assert not executable._work, "the step's own kernels (here none) are launched"
    assert re.search(message, caplog.text)
    assert blas.fake_live() == left, "what was described for a product that is not made goes again"


def test_a_failure_that_is_no_refusal_says_nothing(gpu: Fake, blas: Any) -> None:
    blas.fake_refuse(4)
    factor = Factor(0, 0, "f32", False, 4, 16)
    call = LibraryCall("cublaslt", 4, 4, 4, 1, factor, factor, 2, "f32")
    executable = Executable(product_program(call), {}, devices.device(0))
    assert executable._work, "the library is asked again when the program runs"


def test_no_library(gpu: Fake, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "CUBLASLT", ("libcublasLt-of-no-version.so",))
    factor = Factor(0, 0, "f32", False, 4, 16)
    with caplog.at_level(logging.INFO, "knetc"):
        Executable(
            product_program(LibraryCall("cublaslt", 4, 4, 4, 1, factor, factor, 2, "f32")), {}, devices.device(0)
        )
    assert "libcublasLt-of-no-version.so" in caplog.text


# --- which products the library is asked for

_ASKED: dict[str, tuple[Callable[..., Any], list[TensorType], str | None]] = {
    "plain": (lambda x, w: x @ w, [TensorType(F4, (3, 4)), TensorType(F4, (4, 5))], None),
    "transposed": (lambda x, w: x @ swapped(w), [TensorType(F8, (3, 4)), TensorType(F8, (5, 4))], None),
    "bias": (
        lambda x, w, b: x @ w + b, [TensorType(F4, (3, 4)), TensorType(F4, (4, 5)), TensorType(F4, (5,))], None,
    ),
    "relu": (
        lambda x, w, b: activations.relu(x @ w + b),
        [TensorType(F4, (3, 4)), TensorType(F4, (4, 5)), TensorType(F4, (5,))], None,
    ),
    "half": (
        lambda x, w, b: activations.relu(x @ w + b),
        [TensorType(F2, (3, 4)), TensorType(F2, (4, 5)), TensorType(F2, (5,))], None,
    ),
    "batch": (lambda x, w: x @ w, [TensorType(F4, (2, 6, 3, 4)), TensorType(F4, (2, 6, 4, 5))], None),
    "shared": (
        lambda x, w: x @ movement.broadcast_to(w, (6, 4, 5)), [TensorType(F4, (6, 3, 4)), TensorType(F4, (4, 5))], None,
    ),
    "slice": (lambda x, w: index(x, np.s_[1:3, 2:6]) @ w, [TensorType(F4, (4, 8)), TensorType(F4, (4, 5))], None),
    "integers": (lambda x, w: x @ w, [TensorType(np.dtype("i4"), (3, 4)), TensorType(np.dtype("i4"), (4, 5))], "i32"),
    "every second": (
        lambda x, w: index(x, np.s_[:, ::2]) @ w, [TensorType(F4, (3, 8)), TensorType(F4, (4, 5))], "strides",
    ),
    "other epilogue": (
        lambda x, w: activations.gelu(x @ w), [TensorType(F4, (3, 4)), TensorType(F4, (4, 5))], "epilogue",
    ),
    "scaled": (
        lambda x, w, r, b: (x @ w) / 8.0 - r + b,
        [TensorType(F4, (3, 4)), TensorType(F4, (4, 5)), TensorType(F4, (3, 5)), TensorType(F4, (5,))], None,
    ),
    "batch with a bias": (
        lambda x, w, b: activations.relu(x @ w + b),
        [TensorType(F4, (2, 3, 4)), TensorType(F4, (2, 4, 5)), TensorType(F4, (5,))], None,
    ),
    "twice the bias": (
        lambda x, w, b: 2 * (x @ w + b), [TensorType(F4, (3, 4)), TensorType(F4, (4, 5)), TensorType(F4, (5,))],
        "another multiple",
    ),
    "a number of the call": (
        lambda x, w, s: x @ w + s, [TensorType(F4, (3, 4)), TensorType(F4, (4, 5)), TensorType(F4, ())], "epilogue",
    ),
    "rows": (
        lambda x, w, b: x @ w + b, [TensorType(F4, (3, 4)), TensorType(F4, (4, 5)), TensorType(F4, (3, 1))], "epilogue",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _ASKED)
def test_what_the_library_is_asked_for(name: str) -> None:
    pytest.importorskip("triton")
    backend, gpu = pytest.importorskip("knetc.codegen.triton.backend"), pytest.importorskip("simulated_gpu")
    function, types, reason = _ASKED[name]
    target = backend.GpuTarget("cuda", "sm_90")
    assembly, program, _ = backend.build(trace_function(function, *types), target, gpu.interpreted)
    steps = [(part, step) for part, step in zip(assembly.parts, program.steps) if step.name.startswith("matmul")]
    ((part, step),) = steps
    assert step.grids, "the generated kernel is always there"
    assert bool(step.library) == (reason is None), part.kernel.notes
    if reason is not None:
        assert reason in part.kernel.notes[-1]


def test_matrices_times_one_are_one_product() -> None:
    """As many rows as all matrices have are better than many small products."""
    backend, gpu = pytest.importorskip("knetc.codegen.triton.backend"), pytest.importorskip("simulated_gpu")
    function, types, _ = _ASKED["shared"]
    _, program, _ = backend.build(trace_function(function, *types), backend.GpuTarget("cuda", "sm_90"), gpu.interpreted)
    (call,) = [call for step in program.steps for call in step.library]
    assert (call.batch, call.m, call.n, call.k) == (1, 18, 5, 4)


def test_scale_and_what_is_added() -> None:
    backend, gpu = pytest.importorskip("knetc.codegen.triton.backend"), pytest.importorskip("simulated_gpu")
    function, types, _ = _ASKED["scaled"]
    _, program, _ = backend.build(trace_function(function, *types), backend.GpuTarget("cuda", "sm_90"), gpu.interpreted)
    (call,) = [call for step in program.steps for call in step.library]
    assert (call.scale, call.share) == (0.125, -1.0) and len({call.bias, call.more, call.c, 0, 1}) == 5
