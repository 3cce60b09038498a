"""Element types: conversions among all of them, promotion, narrow floats, the ends of integers' ranges."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import compiled
import numpy as np
import pytest
from graphs import random_graph, random_values
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.codegen.assemble import assemble
from knetc.codegen.cpu.backend import CpuBackend
from knetc.codegen.cpu.native import target
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, LabelError, RangeError
from optable import ALL
from scalar_kernels import LEVELS, Elementwise

import knetc as kn
from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Node
from knetc.ir.types import TensorType
from knetc.ops.apply import CAST, cast_node
from knetc.passes.simplify import simplify

BF16 = dtypes.bfloat16()
NARROW = (dtypes.f16, BF16)
FLOATS = (*NARROW, dtypes.f32, dtypes.f64)
INTEGERS = tuple(d for d in ALL if dtypes.is_integer(d))


def bits(array: np.ndarray) -> np.ndarray:
    """The bits of floats, in which all NaNs are one."""
    with np.errstate(all="ignore"):
        same = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array).astype(array.dtype)
    return same.view(f"u{array.dtype.itemsize}")


def identical(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype
    if dtypes.is_float(expected.dtype):
        actual, expected = bits(actual), bits(expected)
    np.testing.assert_array_equal(actual, expected)


# --- conversions -----------------------------------------------------------------------------------------------------


def telling(dtype: np.dtype, random: np.random.Generator, count: int = 400) -> np.ndarray:
    """Values of a dtype that conversions may get wrong: random bits, ends of ranges, ties, subnormal numbers."""
    if dtype.kind == "b":
        return random.random(count) < 0.5
    if dtypes.is_integer(dtype):
        info = np.iinfo(dtype)
        ends = [info.min, info.max, 0, 1, info.max - 1, info.max // 2, (1 << 24) + 1, 65519, 65520, 257]
        fitting = [n for n in ends if info.min <= n <= info.max]
        return np.concatenate(
            [np.array(fitting, dtype), random.integers(info.min, info.max, count, dtype, endpoint=True)]
        )
    raw = random.integers(0, 1 << 8 * dtype.itemsize, count, f"u{dtype.itemsize}").view(dtype)
    points = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.996, 65520, -65520, 2**-24, 2**-25, 1.5 * 2**-25]
    points += [
        2**-14,
        2**-14 - 2**-25,
        3e38,
        -3e38,
        2**-126,
        2**-133,
        2**-134,
        1.5 * 2**-134,
        1 + 2**-11,
        1 + 3 * 2**-11,
    ]
    points += [1 + 2**-11 + 2**-40, 1 - 2**-12 - 2**-40, 1 + 2**-8, 1 + 3 * 2**-8, 127.5, 128, -128.5, 255.5, -0.9, 3e9]
    points += [1 + 3 * 2**-11, 2.0**63, 2.0**64, -(2.0**63), 2.0**63 - 2.0**39, 2.0**64 - 2.0**40, 1e300]
    points += [
        s * (2.0**bits + d) for bits in (7, 8, 15, 16, 31, 32) for d in (-129, -1, -0.5, 0, 0.5, 1) for s in (1, -1)
    ]
    with np.errstate(all="ignore"):
        spread = (random.standard_normal(count) * 2.0 ** random.integers(-26, 34, count)).astype(dtype)
        return np.concatenate([np.array(points).astype(dtype), spread, raw])


def converted(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``astype``, with the bounds of integers for floats beyond them."""
    with np.errstate(all="ignore"):
        if not dtypes.is_float(x.dtype) or not dtypes.is_integer(dtype):
            return x.astype(dtype)
        info, wide = np.iinfo(dtype), x.astype(np.float64)
        exact = [
            0 if v != v else info.max if v > info.max else info.min if v < info.min else int(v) for v in wide.tolist()
        ]
        return np.array(exact, dtype)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("source", ALL, ids=str)
def test_conversions_are_numpys(source: np.dtype, level: str) -> None:
    values = telling(source, np.random.default_rng(0))
    all_ = level == "native" or dtypes.is_float(source)
    wanted = ALL if all_ else NARROW
    for dtype in wanted:
        kernel = Elementwise(lambda e, x, to=dtype: e.convert(x, to), source, level=level)
        identical(kernel(values), converted(values, dtype))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_every_narrow_float_survives_a_register(dtype: np.dtype, level: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    identical(Elementwise(lambda e, x: x, dtype, level=level)(every), every)
    identical(Elementwise(lambda e, x: e.convert(x, dtypes.f32), dtype, level=level)(every), every.astype(np.float32))


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_the_interpreter_converts_as_programs_do(dtype: np.dtype) -> None:
    types = [TensorType(source, telling(source, np.random.default_rng(1), 60).shape) for source in ALL]
    inputs = [telling(source, np.random.default_rng(1), 60) for source in ALL]
    graph = trace_function(lambda *nodes: [cast_node(node, dtype) for node in nodes], *types)
    for source, ours, theirs in zip(inputs, compiled.run(graph, inputs), interpret(graph, inputs)):
        identical(ours, theirs)
        identical(theirs, converted(source, dtype))


@given(st.sampled_from(ALL), st.sampled_from(ALL), st.sampled_from(ALL), st.integers(0, 1000))
@settings(max_examples=300)
def test_conversions_one_after_the_other_are_what_simplification_makes_of_them(
    first: np.dtype, second: np.dtype, third: np.dtype, seed: int
) -> None:
    x = telling(first, np.random.default_rng(seed), 20)
    graph = trace_function(lambda n: cast_node(cast_node(n, second), third), TensorType(first, x.shape))
    [before], [after] = interpret(graph, [x]), interpret(simplify(graph), [x])
    identical(before, after)


# --- promotion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a, b", [*itertools.product(ALL, ALL)], ids=str)
def test_promotion(a: np.dtype, b: np.dtype) -> None:
    found = (kn.ones(2, dtype=a) * kn.ones(2, dtype=b)).dtype
    assert found == dtypes.promote(b, a)
    if BF16 not in (a, b):
        assert found == np.promote_types(a, b)
    elif a == b:
        assert found == BF16
    else:
        other = a if b == BF16 else b
        assert found == (dtypes.f32 if other == dtypes.f16 else other if dtypes.is_float(other) else BF16)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_python_numbers_are_weak(dtype: np.dtype) -> None:
    x = kn.ones(2, dtype=dtype)
    assert (x * True).dtype == dtype
    assert (x * 3).dtype == (dtypes.i64 if dtype == dtypes.boolean else dtype)
    assert (x * 0.5).dtype == (dtype if dtypes.is_float(dtype) else dtypes.f32)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_an_int_that_does_not_fit_is_an_error(dtype: np.dtype) -> None:
    x = kn.ones(2, dtype=dtype)
    info = np.iinfo(dtype)
    assert (x * info.max).tolist() == [info.max] * 2
    for beyond in (info.max + 1, info.min - 1):
        with pytest.raises(RangeError, match=str(dtype)):
            x + beyond
        with pytest.raises(OverflowError):
            x.numpy() + beyond


def test_an_int_argument_that_does_not_fit_is_an_error_when_the_function_runs() -> None:
    @kn.compile
    def scaled(x: Any, n: int) -> Any:
        return x * n

    for dtype in (np.uint8, np.int16, np.uint64):
        x = kn.array(np.array([1, 2], dtype))
        assert scaled(x, 100).tolist() == [100, 200]
        with pytest.raises(RangeError, match="-32769 does not fit"):
            scaled(x, -32769)
        assert scaled(x, 3).tolist() == [3, 6]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_an_int_that_does_not_fit_compares_as_in_numpy(dtype: np.dtype) -> None:
    x = telling(dtype, np.random.default_rng(0), 5)
    info = np.iinfo(dtype)
    for number in (int(info.max) + 1, int(info.min) - 1, int(info.max), 1):
        for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
            np.testing.assert_array_equal(compare(kn.array(x), number).numpy(), compare(x, number))
            np.testing.assert_array_equal(compare(number, kn.array(x)).numpy(), compare(number, x))


# --- narrow floats ---------------------------------------------------------------------------------------------------

BINARY = (operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_narrow_arithmetic_rounds_each_operation_as_numpy_does(dtype: np.dtype, level: str) -> None:
    random = np.random.default_rng(3)
    a = (random.standard_normal(500) * 2.0 ** random.integers(-16, 15, 500)).astype(dtype)
    b = (random.standard_normal(500) * 2.0 ** random.integers(-16, 15, 500)).astype(dtype)
    type = TensorType(dtype, a.shape)
    graph = trace_function(lambda x, y: [x * y + x, x - y * y, x / y, (x + y) * (x - y)], type, type)
    with np.errstate(all="ignore"):
        expected = [a * b + a, a - b * b, a / b, (a + b) * (a - b)]
    for fused in (True, False):
        for ours, theirs in zip(compiled.run(graph, [a, b], level=level, fused=fused), expected):
            identical(ours, theirs)
    for ours, theirs in zip(interpret(graph, [a, b]), expected):
        identical(ours, theirs)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_narrow_floats_are_added_up_in_float32(dtype: np.dtype) -> None:
    ones = kn.ones(10_000, dtype=dtype)
    assert kn.sum(ones).item() == float(np.asarray(10_000, dtype))
    assert kn.sum(ones.reshape(100, 100), 0).tolist() == [100.0] * 100
    assert kn.mean(kn.full(70_000, 3.0, dtype)).item() == 3.0
    assert kn.var(kn.array(np.tile([0.0, 400.0], 50), dtype)).item() == float(np.asarray(40_000.0, dtype))
    assert kn.prod(kn.array([300.0, 300.0, 0.001], dtype)).dtype == dtype
    assert (ones @ ones).item() == float(np.asarray(10_000, dtype))
    rows = kn.softmax(kn.zeros(3, 4000, dtype=dtype), axis=1)
    assert rows.dtype == dtype and rows.tolist() == [[float(np.asarray(1 / 4000, dtype))] * 4000] * 3
    assert kn.logsumexp(kn.zeros(100_000, dtype=dtype)).item() == float(np.asarray(np.log(1e5), dtype))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_a_matrix_product_is_rounded_once(dtype: np.dtype) -> None:
    random = np.random.default_rng(5)
    a, b = random.standard_normal((33, 70)).astype(dtype), random.standard_normal((70, 20)).astype(dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    unit = 2.0 ** -dtypes.mantissa_bits(dtype)
    found = (kn.array(a) @ kn.array(b)).numpy()
    assert found.dtype == dtype
    assert np.abs(found.astype(np.float64) - exact).max() <= 0.51 * unit * 2 ** np.ceil(np.log2(np.abs(exact).max()))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_gradients_are_narrow_too(dtype: np.dtype) -> None:
    random = np.random.default_rng(7)
    w = kn.Param(kn.array(random.standard_normal((20, 5)) * 0.3, dtype))
    table = kn.Param(kn.array(random.standard_normal((10, 20)), dtype))
    rows, labels = kn.array(np.array([1, 3, 3, 9], np.uint8)), kn.array(np.array([0, 4, 2, 1], np.int8))

    def loss(w: Any, table: Any) -> Any:
        return kn.nll(kn.gelu(kn.layernorm(kn.embedding(table, rows))) @ w, labels)

    tape = kn.diff(lambda: loss(w, table))
    found = [kn.grad(tape, w), kn.grad(tape, table)]
    wide = [kn.Param(kn.array(p, "float64")) for p in (w, table)]
    exact = kn.diff(lambda: loss(*wide))
    for ours, p in zip(found, wide):
        theirs = kn.grad(exact, p).numpy()
        assert ours.dtype == dtype and ours.shape == theirs.shape
        error = np.abs(ours.numpy().astype(np.float64) - theirs).max()
        assert error <= 30 * 2.0 ** -dtypes.mantissa_bits(dtype) * np.abs(theirs).max()


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_optimizers_keep_their_state_in_float32(dtype: np.dtype) -> None:
    w = kn.Param(kn.array([1.0, -2.0], dtype))
    w.opt = kn.Adam(lr=0.25)
    for _ in range(3):
        kn.update(w, kn.array([1e-4, -1e-4], dtype))  # whose squares float16 does not have
    assert w.dtype == dtype and w.opt.scndm.dtype == dtypes.f32
    np.testing.assert_allclose(w.numpy().astype(np.float64), [0.25, -1.25], rtol=0.01)


def test_the_largest_and_the_first_place_of_it() -> None:
    for dtype in ALL:
        x = np.array([[3, 1, 7], [7, 0, 2]]).astype(dtype)
        array = kn.array(x)
        assert kn.max(array, 1).tolist() == x.max(1).tolist() and kn.max(array).dtype == dtype
        assert kn.argmax(array).item() == int(np.argmax(x)) and kn.argmin(array, 1).tolist() == x.argmin(1).tolist()


@pytest.mark.parametrize("level", LEVELS)
@given(graph=random_graph(exact=True, others=True), seed=st.integers(0, 3))
@settings(max_examples=25)
def test_random_graphs_of_small_types_keep_every_bit(level: str, graph: Graph, seed: int) -> None:
    inputs = random_values(graph, seed, special=True)
    simple, expected = simplify(graph), interpret(graph, inputs)
    for found in (
        interpret(simple, inputs),
        compiled.run(simple, inputs, level=level),
        compiled.run(graph, inputs, level=level, fused=seed > 0),
    ):
        for ours, theirs in zip(found, expected, strict=True):
            identical(ours, theirs)


# --- integers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_wrap_divide_and_shift_as_numpys(dtype: np.dtype) -> None:
    x = telling(dtype, np.random.default_rng(2), 60)
    y = np.roll(x, 7)
    a, b = kn.array(x), kn.array(y)
    with np.errstate(all="ignore"):
        for function in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod):
            identical(function(a, b).numpy(), function(x, y))
        identical((-a).numpy(), -x)
        identical(abs(a).numpy(), np.abs(x))
        counts = (y % np.asarray(8 * dtype.itemsize).astype(dtype)).astype(dtype)
        identical((a >> kn.array(counts)).numpy(), x >> counts)
        identical((a << kn.array(counts)).numpy(), x << counts)
        for compare in (operator.lt, operator.le, operator.eq, operator.ge):
            np.testing.assert_array_equal(compare(a, b).numpy(), compare(x, y))
    assert ((a << 70) if dtype.itemsize > 1 else a * 0).tolist() == [0] * len(x)
    assert (a // 0).tolist() == (a % 0).tolist() == [0] * len(x)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_sums_of_integers_are_of_64_bits(dtype: np.dtype) -> None:
    x = telling(dtype, np.random.default_rng(4), 300)
    for function, theirs in ((kn.sum, np.sum), (kn.prod, np.prod)):
        identical(function(kn.array(x)).numpy(), np.asarray(theirs(x)))
    matrix = x[:300].reshape(10, 30)
    identical((kn.array(matrix) @ kn.array(matrix.T)).numpy(), matrix @ matrix.T)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_labels_and_indices_of_any_integer_type(dtype: np.dtype) -> None:
    scores = kn.array(np.random.default_rng(0).standard_normal((3, 5)))
    labels = np.array([4, 0, 2])
    expected = kn.nll(scores, kn.array(labels)).item()
    assert kn.nll(scores, kn.array(labels.astype(dtype))).item() == expected
    assert kn.take(scores, kn.array(labels.astype(dtype)), axis=1)[0].tolist() == scores.numpy()[0, labels].tolist()
    for wrong in (5, 127):
        with pytest.raises(LabelError, match=str(wrong)):
            kn.nll(scores, kn.array(np.array([0, wrong, 1], dtype))).item()
        with pytest.raises(LabelError, match=str(wrong)):
            kn.take(scores, kn.array(np.array([wrong], dtype)), axis=1).tolist()
    if dtype.kind == "i":
        skipped = kn.nll(scores, kn.array(np.array([4, -1, 2], dtype)), average=False)
        assert skipped[1].item() == 2
        assert kn.take(scores, kn.array(np.array([-1], dtype)), axis=1).tolist() == scores.numpy()[:, -1:].tolist()


def test_labels_are_checked_where_they_lie() -> None:
    """No kernel converts them first."""

    def loss(scores: Node, labels: Node) -> Node:
        result: Node = kn.nll(scores, labels)
        return result

    graph = trace_function(loss, TensorType(dtypes.f32, (8, 10)), TensorType(dtypes.u8, (8,)))
    parts = assemble(simplify(graph), CpuBackend(target())).parts
    assert parts[0].name == "check"
    assert [argument.op.name for argument in parts[0].arguments] == ["input"]


# --- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_arrays_come_and_go(dtype: np.dtype) -> None:
    x = np.arange(6).reshape(2, 3).astype(dtype)
    array = kn.array(x)
    assert array.dtype == dtype and array.itemsize == dtype.itemsize
    identical(np.asarray(array), x)
    identical(kn.array([[0, 1, 2], [3, 4, 5]], dtype).numpy(), x)
    identical(kn.array(x.astype(np.float64)).astype(dtype).numpy(), x)
    identical(kn.array(array.tolist(), dtype).numpy(), x)
    identical(kn.array(x[1, 1]).numpy(), x[1, 1].reshape(()))
    assert str(dtype) in repr(array)
    assert (array[1, 2] == x[1, 2]).item()
    assert kn.zeros(2, dtype=dtype).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_memory_is_exchanged(dtype: np.dtype) -> None:
    array = kn.array(np.arange(6).reshape(2, 3).astype(dtype))
    back = kn.from_dlpack(array)
    identical(back.numpy(), array.numpy())
    assert back.numpy().ctypes.data == array.numpy().ctypes.data
    if dtype != BF16:
        assert np.from_dlpack(array).ctypes.data == array.numpy().ctypes.data
        assert memoryview(array.numpy()).nbytes == array.nbytes


def test_torch_sees_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    array = kn.array([1.0, 2.5, -3.0], "bfloat16")
    theirs = torch.from_dlpack(array)
    assert theirs.dtype == torch.bfloat16 and theirs.tolist() == [1.0, 2.5, -3.0]
    assert kn.from_dlpack(theirs * 2).tolist() == [2.0, 5.0, -6.0]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_default_dtype_may_be_any_float(dtype: np.dtype) -> None:
    try:
        kn.set_default(dtype=str(dtype))
        assert kn.array([1.0, 2.0]).dtype == kn.zeros(2).dtype == kn.rand(3).dtype == kn.exp(1.0).dtype == dtype
        assert (kn.array([1, 2]) / 2).dtype == dtype and kn.mean(kn.array([1, 2])).item() == 1.5
        drawn = kn.rand(1000).numpy().astype(np.float64)
        assert drawn.min() >= 0 and drawn.max() < 1 and 0.4 < drawn.mean() < 0.6
        normal = kn.randn(1000).numpy().astype(np.float64)
        assert np.isfinite(normal).all() and 0.8 < normal.std() < 1.2
    finally:
        kn.set_default(dtype="float32")
    with pytest.raises(DtypeError, match="bfloat16"):
        kn.set_default(dtype="int32")


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS, ids=str)
def test_compiled_functions_take_every_dtype(dtype: np.dtype) -> None:
    @kn.compile
    def twice(x: Any, n: int) -> Any:
        return kn.where(x > n, x, 0)

    x = np.arange(5).astype(dtype)
    identical(twice(kn.array(x), 2).numpy(), np.where(x > 2, x, np.zeros_like(x)))
    identical(twice(x, 3).numpy(), np.where(x > 3, x, np.zeros_like(x)))


def test_nan_is_found_in_narrow_floats() -> None:
    for dtype in NARROW:
        x = np.array([1.0, np.inf, -1.0], dtype)
        graph = trace_function(lambda n: kn.sqrt(n), TensorType(dtype, x.shape))
        compiled.run(graph, [np.abs(x)], nan_check=True)
        with pytest.raises(FloatingPointError, match="element 2"):
            compiled.run(graph, [x], nan_check=True)


def test_dtypes_that_are_not_supported_are_named() -> None:
    with pytest.raises(DtypeError, match=r"complex64 are not supported.*real and the imaginary part"):
        kn.array(np.zeros(3, np.complex64))
    assert CAST.exact
