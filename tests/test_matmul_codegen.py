"""Generated matrix products compute what NumPy does, touch no memory but their own, and do not depend on threads."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.codegen.cpu import native
from knetc.codegen.cpu.matmul import MatmulSpec, lower_matmul
from knetc.codegen.cpu.matmul_spec import flattened
from knetc.codegen.cpu.matmul_tiles import tile_for
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, Axis, Compute, Constant, Load, LoopNest, Offset, Stage, Statement, Store
from knetc.runtime.base.errors import CompileError
from knetc.runtime.cpu import host
from knetc.runtime.cpu.loader import Module

from knetc.ir.op import Kind, Op
from knetc.ops.arithmetic import ADD, MULTIPLY

LEVELS = [level for level in host.LEVELS if host.runs_here(host.target_key(level))]
DTYPES = [np.dtype(name) for name in ("float32", "float64", "int32", "int64")]
RELU = Op("relu", Kind.ELEMENTWISE, lambda x: x, emit=lambda e, x, zero: e.select(e.compare("gt", x, zero), x, zero))
WIDEN = Op("widen", Kind.ELEMENTWISE, lambda x: x, emit=lambda e, x: e.convert(x, np.dtype("float64")))
ZONE = 64
"""Elements of a red zone on each side of every buffer."""


@cache
def compiled(text: str, level: str) -> bytes:
    return native.compile_ir(text, native.target(level))


def run(kernel: Kernel, addresses: Sequence[int], level: str, pieces: str = "whole") -> None:
    """Run a kernel's launches: each as one ``whole``, or grain by grain ``forward`` or ``backward``."""
    workspace = np.full(kernel.workspace_bytes + 64, 0xFF, np.uint8)
    base = workspace.ctypes.data + -workspace.ctypes.data % 64
    module = Module([compiled(text, level) for text in kernel.functions.values()])
    for launch in kernel.launches:
        function = module.function(
            launch.function, None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32
        )
        meanings = {"argument": lambda v: addresses[v], "workspace": lambda v: base + v, "value": lambda v: v}
        table = (ctypes.c_int64 * len(launch.slots))(*(meanings[slot.kind](slot.value) for slot in launch.slots))
        step = launch.count if pieces == "whole" else launch.grain
        starts = list(range(0, launch.count, step))
        for low in reversed(starts) if pieces == "backward" else starts:
            function(ctypes.addressof(table), low, min(low + step, launch.count), 0)


class Guarded:
    """An array of a given shape and order of axes in memory, with guarded space around and between its rows."""

    def __init__(self, values: np.ndarray, order: Sequence[int], gap: int = 0) -> None:
        shape = [values.shape[axis] for axis in order]
        if shape:
            shape[-1] += gap
        self.memory = np.zeros(int(np.prod(shape)) + 2 * ZONE, values.dtype)
        self.memory.view(np.uint8)[:] = 0xA5
        inner = self.memory[ZONE : len(self.memory) - ZONE].reshape(shape)[..., : values.shape[order[-1]]]
        self.array = inner.transpose(np.argsort(order))
        self.array[...] = values
        self.outside = self.memory.copy()

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(stride // self.array.itemsize for stride in self.array.strides)

    def intact(self) -> bool:
        """Whether nothing outside the array was written."""
        first = (self.address - self.memory.ctypes.data) // self.array.itemsize
        before = np.lib.stride_tricks.as_strided(self.outside[first:], self.array.shape, self.array.strides)
        before[...] = self.array
        return self.memory.tobytes() == self.outside.tobytes()


def sample(rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(-100, 100, shape).astype(dtype)


def check(result: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Compare with the product in twice the precision; the bound is that of a sum in any order."""
    if a.dtype.kind == "i":
        np.testing.assert_array_equal(result, a @ b)
        return
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    exact = a.astype(wide) @ b.astype(wide)
    bound = (a.shape[-1] + 1) * np.finfo(a.dtype).eps * (abs(a.astype(wide)) @ abs(b.astype(wide)))
    assert (abs(result - exact) <= bound).all()


extents = st.one_of(st.integers(1, 70), st.sampled_from((0, 1, 8, 16, 48, 64)))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_products_of_any_layout(data: st.DataObject) -> None:
    level = data.draw(st.sampled_from(LEVELS))
    dtype = data.draw(st.sampled_from(DTYPES))
    batch = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    m, n, k = (data.draw(extents) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    orders = [data.draw(st.permutations(range(len(batch) + 2))) for _ in range(3)]
    gaps = [data.draw(st.integers(0, 3)) for _ in range(3)]
    shapes = [(*batch, m, k), (*batch, k, n), (*batch, m, n)]
    arrays = [Guarded(sample(rng, shape, dtype), order, gap) for shape, order, gap in zip(shapes, orders, gaps)]
    a, b, c = arrays
    spec = MatmulSpec(dtype, batch, m, n, k, a.strides, b.strides, c.strides)
    run(lower_matmul(spec, native.target(level)), [x.address for x in arrays], level)
    check(c.array, a.array, b.array)
    assert c.intact()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operands_repeated_along_the_batch(level: str, dtype: np.dtype) -> None:
    rng = np.random.default_rng(0)
    a, b = sample(rng, (5, 9, 40), dtype), sample(rng, (40, 21), dtype)
    for transposed in (False, True):
        memory = np.ascontiguousarray(b.T if transposed else b)
        c = np.zeros((5, 9, 21), dtype)
        strides = (0, 1, 40) if transposed else (0, 21, 1)
        spec = MatmulSpec(dtype, (5,), 9, 21, 40, (360, 40, 1), strides, (189, 21, 1))
        run(lower_matmul(spec, native.target(level)), [x.ctypes.data for x in (a, memory, c)], level)
        check(c, a, np.broadcast_to(b, (5, 40, 21)))


@pytest.mark.parametrize("level", LEVELS)
def test_offsets(level: str) -> None:
    rng = np.random.default_rng(0)
    memory = [sample(rng, (300,), np.dtype("float32")) for _ in range(3)]
    a, b = memory[0][7:].reshape(-1)[:60].reshape(6, 10), memory[1][11:81].reshape(10, 7)
    spec = MatmulSpec(np.dtype("float32"), (), 6, 7, 10, (10, 1), (7, 1), (7, 1), a_offset=7, b_offset=11, c_offset=5)
    run(lower_matmul(spec, native.target(level)), [x.ctypes.data for x in memory], level)
    check(memory[2][5:47].reshape(6, 7), a, b)


@pytest.mark.parametrize("transposed", [False, True])
def test_large_products_do_not_depend_on_how_they_are_shared_out(transposed: bool) -> None:
    rng = np.random.default_rng(0)
    m, n, k = 203, 331, 700
    a, b = sample(rng, (m, k), np.dtype("float32")), sample(rng, (k, n), np.dtype("float32"))
    memory = np.ascontiguousarray(b.T) if transposed else b
    results = []
    spec = MatmulSpec(a.dtype, (), m, n, k, (k, 1), (1, k) if transposed else (n, 1), (n, 1))
    kernel = lower_matmul(spec, native.target())
    assert kernel.launches[-1].count > 4
    for pieces in ("whole", "forward", "backward"):
        c = np.zeros((m, n), np.float32)
        run(kernel, [x.ctypes.data for x in (a, memory, c)], "native", pieces)
        results.append(c)
    check(results[0], a, b)
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


def bias_relu(dtype: np.dtype, m: int, n: int, residual: bool = False) -> LoopNest:
    """max(product + bias by column [+ residual], 0); the residual's buffer gets the sum before the maximum."""
    place = Offset(0, {0: n, 1: 1})
    body: list[Statement] = [Load(0, 0, Offset()), Load(1, 1, Offset(0, {1: 1})), Compute(2, ADD, dtype, (0, 1))]
    arguments = [Argument("product", dtype, "input"), Argument("bias", dtype, "input", n)]
    arguments.append(Argument("c", dtype, "output", m * n))
    total = 2
    if residual:
        arguments.append(Argument("r", dtype, "update", m * n))
        body += [Load(3, 3, place), Compute(4, ADD, dtype, (2, 3)), Store(3, place, 4)]
        total = 4
    body += [Constant(5, dtype, 0), Compute(6, RELU, dtype, (total, 5)), Store(2, place, 6)]
    stage = Stage("element", tuple(body))
    return LoopNest("linear", (Axis("m", m),), (Axis("n", n),), tuple(arguments), (stage,))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(5, 1, 133), (1, 37, 133), (70, 1, 1000), (1, 1, 64), (300, 10, 40)], ids=str)
def test_narrow_products(level: str, dtype: np.dtype, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    for a_order, b_order in [((0, 1), (0, 1)), ((1, 0), (0, 1)), ((0, 1), (1, 0))]:
        a, b = Guarded(sample(rng, (m, k), dtype), a_order), Guarded(sample(rng, (k, n), dtype), b_order)
        plain, bias, c = (Guarded(np.zeros(x, dtype), range(len(x))) for x in ((m, n), (n,), (m, n)))
        spec = MatmulSpec(dtype, (), m, n, k, a.strides, b.strides, (n, 1))
        run(lower_matmul(spec, native.target(level)), [a.address, b.address, plain.address], level)
        check(plain.array, a.array, b.array)
        spec = replace(spec, epilogue=bias_relu(dtype, m, n))
        run(lower_matmul(spec, native.target(level)), [a.address, b.address, bias.address, c.address], level)
        np.testing.assert_array_equal(c.array, np.maximum(plain.array, 0))
        assert plain.intact() and c.intact()


@pytest.mark.parametrize("k", [7001, 8192])
@pytest.mark.parametrize("with_epilogue", [False, True])
def test_long_products_do_not_depend_on_how_they_are_shared_out(k: int, with_epilogue: bool) -> None:
    rng = np.random.default_rng(0)
    f64 = np.dtype("float64")
    m, n = 20, 33
    a, b = Guarded(sample(rng, (m, k), f64), (1, 0)), Guarded(sample(rng, (k, n), f64), (0, 1))
    bias, c = Guarded(np.zeros(n), (0,)), Guarded(np.zeros((m, n)), (0, 1))
    spec = MatmulSpec(f64, (), m, n, k, a.strides, b.strides, (n, 1))
    if with_epilogue:
        spec = replace(spec, epilogue=bias_relu(f64, m, n))
    kernel = lower_matmul(spec, native.target())
    assert any("parts" in note for note in kernel.notes)
    addresses = [a.address, b.address, *([bias.address] if with_epilogue else []), c.address]
    results = []
    for pieces in ("whole", "forward", "backward"):
        run(kernel, addresses, "native", pieces)
        results.append(c.array.tobytes())
        assert c.intact()
    expected = a.array @ b.array
    np.testing.assert_allclose(c.array, np.maximum(expected, 0) if with_epilogue else expected, atol=1e-10)
    assert results[0] == results[1] == results[2]


def test_rows_of_a_batch_are_rows_of_one_matrix() -> None:
    f32 = np.dtype("float32")
    rng = np.random.default_rng(0)
    a, b, c = sample(rng, (2, 3, 7, 20), f32), sample(rng, (20, 9), f32), np.zeros((2, 3, 7, 9), f32)
    strides = (0, 0, 9, 1), (189, 63, 9, 1)
    place = Offset(0, dict(enumerate(strides[1])))
    stage = Stage("element", (Load(0, 0, Offset()), Compute(1, ADD, f32, (0, 0)), Store(1, place, 1)))
    arguments = (Argument("product", f32, "input"), Argument("c", f32, "output", c.size))
    nest = LoopNest("twice", (Axis("b", 2), Axis("d", 3), Axis("m", 7)), (Axis("n", 9),), arguments, (stage,))
    spec = MatmulSpec(f32, (2, 3), 7, 9, 20, (420, 140, 20, 1), strides[0], strides[1])
    for factor, epilogue in ((1, None), (2, nest)):
        assert flattened(replace(spec, epilogue=epilogue)).batch == ()
        kernel = lower_matmul(replace(spec, epilogue=epilogue), native.target())
        run(kernel, [a.ctypes.data, b.ctypes.data, c.ctypes.data], "native")
        np.testing.assert_allclose(c, factor * (a @ b), rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_epilogues(data: st.DataObject) -> None:
    level = data.draw(st.sampled_from(LEVELS))
    dtype = data.draw(st.sampled_from(DTYPES))
    m, n, k = data.draw(extents), data.draw(extents), data.draw(st.sampled_from((0, 1, 5, 64, 300, 600)))
    residual = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a, b = sample(rng, (m, k), dtype), sample(rng, (k, n), dtype)
    if by_columns := data.draw(st.booleans()):
        b = np.ascontiguousarray(b.T).T
    bias, rest = Guarded(sample(rng, (n,), dtype), (0,)), Guarded(sample(rng, (m, n), dtype), (0, 1))
    c = Guarded(np.zeros((m, n), dtype), (0, 1))
    before = rest.array.copy() if residual else 0
    b_strides = (1, k) if by_columns else (n, 1)
    spec = MatmulSpec(dtype, (), m, n, k, (k, 1), b_strides, epilogue=bias_relu(dtype, m, n, residual))
    addresses = [a.ctypes.data, b.ctypes.data, bias.address, c.address, rest.address]
    run(lower_matmul(spec, native.target(level)), addresses, level)
    expected = a @ b + bias.array + before
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(c.array, np.maximum(expected, 0), rtol=tolerance, atol=tolerance)
    if residual:
        np.testing.assert_allclose(rest.array, expected, rtol=tolerance, atol=tolerance)
    assert bias.intact() and c.intact() and rest.intact()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_few_rows_times_many_stored_by_columns(level: str, dtype: np.dtype) -> None:
    rng = np.random.default_rng(0)
    for batch, m, n, k in [((), 33, 150, 70), ((2,), 21, 67, 600), ((), 50, 400, 3)]:
        a = Guarded(sample(rng, (*batch, m, k), dtype), range(len(batch) + 2))
        b = Guarded(sample(rng, (*batch, k, n), dtype), (*range(len(batch)), len(batch) + 1, len(batch)))
        c = Guarded(np.zeros((*batch, m, n), dtype), range(len(batch) + 2), gap=5)
        kernel = lower_matmul(MatmulSpec(dtype, batch, m, n, k, a.strides, b.strides, c.strides), native.target(level))
        assert any("transposed" in note for note in kernel.notes) == (k > 3)
        run(kernel, [x.address for x in (a, b, c)], level, "backward")
        check(c.array, a.array, b.array)
        assert c.intact()


@pytest.mark.parametrize("level", LEVELS)
def test_epilogue_in_another_dtype_with_a_batch_and_a_transposed_result(level: str) -> None:
    f32, f64 = np.dtype("float32"), np.dtype("float64")
    rng = np.random.default_rng(0)
    a, b = sample(rng, (3, 11, 30), f32), sample(rng, (3, 30, 19), f32)
    c = np.zeros((3, 19, 11), f64)
    scale = np.array(2.5).view(np.int64)
    body = (
        Load(0, 0, Offset()), Compute(1, WIDEN, f64, (0,)), Load(2, 1, Offset()),
        Compute(3, MULTIPLY, f64, (1, 2)), Store(2, Offset(0, {0: 209, 1: 1, 2: 11}), 3),
    )  # fmt: skip
    arguments = (Argument("p", f32, "input"), Argument("scale", f64, "scalar"), Argument("c", f64, "output", 627))
    nest = LoopNest("scaled", (Axis("b", 3), Axis("m", 11)), (Axis("n", 19),), arguments, (Stage("element", body),))
    spec = MatmulSpec(f32, (3,), 11, 19, 30, (330, 30, 1), (570, 19, 1), epilogue=nest)
    run(lower_matmul(spec, native.target(level)), [a.ctypes.data, b.ctypes.data, int(scale), c.ctypes.data], level)
    np.testing.assert_allclose(c.transpose(0, 2, 1), 2.5 * (a @ b).astype(np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("transposed", [False, True])
def test_epilogue_with_values_of_rows_and_of_the_whole(level: str, transposed: bool) -> None:
    f32 = np.dtype("float32")
    rng = np.random.default_rng(0)
    m, n, k = 45, 130, 200
    a, b, rows = sample(rng, (m, k), f32), sample(rng, (k, n), f32), sample(rng, (m,), f32)
    whole, c = sample(rng, (1,), f32), np.zeros((m, n), f32)
    memory = np.ascontiguousarray(b.T) if transposed else b
    body = (
        Load(0, 1, Offset()), Compute(1, MULTIPLY, f32, (0, 0)), Load(2, 2, Offset(0, {0: 1})),
        Compute(3, MULTIPLY, f32, (1, 2)), Load(4, 0, Offset()), Compute(5, ADD, f32, (4, 3)),
        Store(3, Offset(0, {0: n, 1: 1}), 5),
    )  # fmt: skip
    arguments = (
        Argument("p", f32, "input"), Argument("whole", f32, "input", 1), Argument("rows", f32, "input", m),
        Argument("c", f32, "output", m * n),
    )  # fmt: skip
    nest = LoopNest("scaled", (Axis("m", m),), (Axis("n", n),), arguments, (Stage("element", body),))
    spec = MatmulSpec(f32, (), m, n, k, (k, 1), (1, k) if transposed else (n, 1), epilogue=nest)
    kernel = lower_matmul(spec, native.target(level))
    assert any("transposed" in note for note in kernel.notes) == transposed
    run(kernel, [x.ctypes.data for x in (a, memory, whole, rows, c)], level, "backward")
    np.testing.assert_allclose(c, a @ b + whole * whole * rows[:, None], rtol=1e-4, atol=1e-3)


def test_shapes_share_functions() -> None:
    target = native.target()
    f32 = np.dtype("float32")
    texts: dict[str, str] = {}
    for m, n, k in [(100, 64, 784), (256, 64, 300), (33, 64, 7), (1000, 64, 1000)]:
        spec = MatmulSpec(f32, (), m, n, k, (k, 1), (n, 1), (n, 1))
        texts |= lower_matmul(spec, target).functions
        transposed = replace(spec, a_strides=(1, m))
        texts |= lower_matmul(transposed, target).functions
        with_epilogue = replace(spec, epilogue=bias_relu(f32, m, n))
        texts |= lower_matmul(with_epilogue, target).functions
    mains = [name for name in texts if "ptr %table" in texts[name]]
    assert len(mains) <= 2  # with and without the epilogue
    assert len(texts) <= 4  # and tiles of all and of half the rows


@pytest.mark.parametrize("level", LEVELS)
def test_a_tile_stays_in_registers(level: str) -> None:
    target = native.target(level)
    tile = tile_for(target, np.dtype("float32"))
    _, text = tile.function(tile.rows, tile.vectors, tile.masked, np.dtype("float32"), target)
    blocks = re.split(r"^\.L\S*:", native.assembly(text, target), flags=re.MULTILINE)
    loop = max(blocks, key=lambda block: len(re.findall(r"v?mul|fmadd", block)))
    assert len(re.findall(r"fmadd|mulps", loop)) == tile.rows * tile.vectors
    assert "rsp" not in loop.split("jg")[0] or level == "generic"


def test_what_cannot_be_multiplied() -> None:
    target = native.target()
    spec = MatmulSpec(np.dtype("bool"), (), 2, 2, 2, (2, 1), (2, 1), (2, 1))
    with pytest.raises(CompileError, match=r"matmul of bool.*float32"):
        lower_matmul(spec, target)
