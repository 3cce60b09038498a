"""What Python and other libraries expect of an array: numbers, text, copies, NumPy's functions, memory."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import knetc as kn

# --- Python ----------------------------------------------------------------------------------------------------------


def test_python_numbers_from_arrays() -> None:
    assert (
        float(kn.array(1.5)) == 1.5
        and int(kn.array([3])) == 3
        and bool(kn.array(0)) is False
        and [10, 20][kn.array(1)] == 20
    )
    assert len(kn.array([1, 2])) == 2 and f"{kn.array(1.5):.2f}" == "1.50"
    with pytest.raises(ValueError, match="any"):
        bool(kn.array([1, 2]))
    with pytest.raises(TypeError):
        len(kn.array(1))
    with pytest.raises(TypeError):
        [1, 2][kn.array(1.0)]  # type: ignore[call-overload]


def test_identity_hash_repr_pickle_copy() -> None:
    x = kn.array([[1.0, 2.0]])
    assert {x: 1}[x] == 1
    assert repr(x) == "Array([[1., 2.]], dtype=float32)"
    for twin in (pickle.loads(pickle.dumps(x)), copy.copy(x), copy.deepcopy(x)):
        assert isinstance(twin, kn.Array) and twin is not x and twin.tolist() == [[1, 2]]


def test_text() -> None:
    x = kn.array([[1.0, 2.5], [3.25, 4.0]])
    assert str(x) == "[[1.  , 2.5 ],\n [3.25, 4.  ]]" and repr(x).endswith("dtype=float32)")
    assert f"{x:.1f}" == "[[1.0, 2.5],\n [3.2, 4.0]]" and f"{kn.array(7):03d}" == "007"
    assert f"{kn.array([1, 2]):>8}" == "  [1, 2]"
    assert repr(kn.zeros((0, 3))) == "Array([], shape=(0, 3), dtype=float32)"
    assert "..." in repr(kn.zeros((100, 100))) and repr(kn.Param([1.0])) == "P([1.])"
    assert kn.compile(lambda v: f"{v} {v:.2f} {v + 1!r}")(x) == (
        "<traced f32[2,2]> <traced f32[2,2]> Array(<traced f32[2,2]>, dtype=float32)"
    )


def test_rounding() -> None:
    x = kn.array([1.26, -2.55], "float64")
    assert round(x, 1).tolist() == [1.3, -2.5] or round(x, 1).tolist() == np.round([1.26, -2.55], 1).tolist()
    assert round(x).tolist() == [1, -3] and round(kn.array(2.6)) == 3 and isinstance(round(kn.array(2.6)), int)
    assert (math.trunc(kn.array(-2.6)), math.floor(kn.array(-2.6)), math.ceil(kn.array(2.1))) == (-2, -3, 3)


def test_iteration_and_membership() -> None:
    x = kn.array([[1.0, 2.0], [3.0, 4.0]])
    assert [v.tolist() for v in x] == [[1, 2], [3, 4]] and [v.tolist() for v in reversed(x)] == [[3, 4], [1, 2]]
    a, b = x
    assert a.tolist() == [1, 2] and b.tolist() == [3, 4]
    assert 4 in x and 5 not in x and 3.0 in kn.Param([3.0])
    assert sum(x).tolist() == [4, 6] and max(kn.array([1.0, 3.0])).item() == 3  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        iter(kn.array(1.0))


def test_names_are_bound_anew_by_operators_in_place() -> None:
    x = before = kn.array([1.0, 2.0])
    x += 1
    x @= kn.ones((2, 2))
    assert x.tolist() == [5, 5] and before.tolist() == [1, 2]
    w = held = kn.Param([1.0, 2.0])
    w *= 3
    assert w is held and w.tolist() == [3, 6]


def test_comparison_with_what_is_no_number() -> None:
    x = kn.array([1.0])
    assert (x == None) is False and (x != None) is True and (x == "a") is False  # noqa: E711
    for mistake in (lambda: x < "a", lambda: x + None, lambda: x + 1j, lambda: x @ "a"):
        with pytest.raises(TypeError):
            mistake()


def test_copies_and_pickles() -> None:
    x, w = kn.array([1, 2], "int16"), kn.Param([1.0, 2.0], kn.Adam(lr=0.5))
    kn.update(w, [1.0, 1.0])
    pair = copy.deepcopy([x, x, w, w])
    assert pair[0] is pair[1] and pair[2] is pair[3] and pair[2] is not w and pair[2].opt.lr == 0.5
    pair[0][0] = 9
    assert x.tolist() == [1, 2]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        y, v = pickle.loads(pickle.dumps((x, w), protocol))
        assert y.dtype == np.int16 and y.tolist() == [1, 2] and v.tolist() == w.tolist() and v.opt.lr == 0.5
    half = kn.array([1.5], "bfloat16")
    assert pickle.loads(pickle.dumps(half)).dtype == half.dtype


def test_methods_are_numpys() -> None:
    n = np.array([[3.0, 0.0, 1.0], [-2.0, 5.0, 4.0]])
    x = kn.array(n)
    assert x.strides == n.strides and kn.ones((2, 3, 4), dtype="int8").strides == (12, 4, 1)
    assert x.tobytes() == n.tobytes() and x.real is x and x.conj().tolist() == n.tolist()
    assert x.trace().item() == n.trace() and [v.tolist() for v in x.nonzero()] == [v.tolist() for v in n.nonzero()]
    assert x.view("int64").tolist() == n.view(np.int64).tolist()
    assert x.argsort(0).tolist() == n.argsort(0).tolist() and x.cumsum().tolist() == n.cumsum().tolist()
    x.fill(2.0)
    assert x.tolist() == np.full((2, 3), 2.0).tolist()


# --- what arrays are made of -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "Python objects"),
        ([2**70], "beyond 64 bits"),
        ("text", "text is no number"),
        ([b"a"], "bytes as integers"),
        (np.array(["2020-01-01"], "M8[D]"), "dates"),
        ([1j], "no complex numbers"),
        (np.zeros(2, [("a", "f4")]), "each field"),
        (np.ones(2, np.longdouble), "convert them"),
    ],
)  # fmt: skip
def test_what_is_no_array(value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        kn.array(value)
    if isinstance(value, np.ndarray):
        with pytest.raises(TypeError, match=text):
            kn.compile(lambda v: v)(value)


def test_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        kn.array([[1, 2], [3]])


def test_indices_that_are_none() -> None:
    for key in ("a", 1.5, 2j, {}):
        with pytest.raises(IndexError, match="an index is an int"):
            kn.ones(3)[key]


@pytest.mark.parametrize("make", [kn.array, lambda a: a], ids=["copied", "given to a compiled function"])
def test_numpy_arrays_of_all_kinds(make: Any) -> None:
    """Strided, backwards, broadcast, read-only, of foreign byte order, without elements, without axes."""
    base = np.arange(24.0).reshape(4, 6)
    frozen = base.copy()
    frozen.flags.writeable = False
    kinds = [
        base[::2, ::-3], base.T, base[:0], base[1, 2:3].reshape(()), np.broadcast_to(base[0], (3, 6)), frozen,
        base.astype(">f8"), base.astype(">i2"), np.asfortranarray(base), base[:, :0], base[1:, 1:],
    ]  # fmt: skip
    double = kn.compile(lambda *arrays: [a * 2 for a in arrays])
    for kind, found in zip(kinds, double(*map(make, kinds))):
        assert found.dtype == kind.dtype.newbyteorder("=") and found.shape == kind.shape
        np.testing.assert_array_equal(np.asarray(found), kind * 2)


# --- NumPy -----------------------------------------------------------------------------------------------------------


def test_numpy_functions_and_operators_give_arrays() -> None:
    n, m = np.array([[0.5, 1.5], [2.5, 3.5]], np.float32), np.array([1.0, 2.0], np.float32)
    a, w = kn.array(n), kn.Param(n)
    cases: list[Any] = [
        lambda x: np.tanh(x), lambda x: np.add(x, m), lambda x: m @ x, lambda x: m * x, lambda x: np.sum(x, axis=0),
        lambda x: np.mean(x), lambda x: np.max(x, axis=1, keepdims=True), lambda x: np.var(x, ddof=1),
        lambda x: np.where(x > 1, x, m), lambda x: np.concatenate([x, m[None]]), lambda x: np.stack([x, n], axis=1),
        lambda x: np.reshape(x, (4,)), lambda x: np.transpose(x), lambda x: np.maximum.reduce(x, axis=None),
        lambda x: np.add.reduce(x), lambda x: np.arctan2(x, 2), lambda x: np.clip(x, 1, 2),
        lambda x: np.expand_dims(x, 0), lambda x: np.einsum("ij,j->i", x, m),
        lambda x: np.pad(x, 1), lambda x: np.zeros_like(x), lambda x: np.power(x, 2), lambda x: np.float32(2) * x,
        lambda x: np.broadcast_to(x, (3, 2, 2)), lambda x: np.squeeze(x[None]), lambda x: np.argmax(x, axis=-1),
        lambda x: np.sum(a=x), lambda x: np.swapaxes(x, 0, 1), lambda x: np.vstack([x, x]), lambda x: np.logical_not(x),
    ]  # fmt: skip
    for f in cases:
        for x in (a, w):
            result, expected = f(x), f(n)
            assert isinstance(result, kn.Array)
            np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)
            assert result.dtype == expected.dtype
    assert kn.grad(kn.diff(lambda: np.sum(np.square(w))), w).tolist() == (2 * n).tolist()
    assert np.array_equal(a, n) and np.allclose(a, w) and np.shape(a) == (2, 2)


def test_numpy_functions_that_there_are_not() -> None:
    x = kn.array([1.0, 2.0])
    for call, message in (
        (lambda: np.add(x, 1, out=np.zeros(2, np.int64)), r"same_kind"),
        (lambda: np.add(x, 1, where=np.array([True, False])), r"where="),
        (lambda: np.multiply.at(x, 0, 1), r"numpy\.multiply\.at"),
        (lambda: np.linalg.eigh(x, UPLO="U"), r"UPLO="),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    data = np.zeros(2, np.float32)
    data += x
    assert data.tolist() == [1.0, 2.0]


def test_memory_that_must_not_be_written_is_exported() -> None:
    """JAX's arrays are such memory, and it asks for them as libraries did that knew of no flag for it: a copy."""
    n = np.arange(4.0)
    n.flags.writeable = False
    x = kn.from_dlpack(n)
    assert x.numpy().ctypes.data == n.ctypes.data
    assert "dltensor" in str(x.__dlpack__()) and "dltensor_versioned" in str(x.__dlpack__(max_version=(1, 0)))
    seen = np.from_dlpack(x)
    assert seen.ctypes.data == n.ctypes.data and not seen.flags.writeable
    with pytest.raises(BufferError):
        x.__dlpack__(copy=False)


@pytest.mark.cpu
def test_memory_is_shared_by_dlpack_and_the_buffer_protocol() -> None:
    x = kn.array([1.0, 2.0])
    seen = np.from_dlpack(x)
    assert np.shares_memory(seen, np.asarray(x))
    x[0] = 5
    assert seen.tolist() == [1, 2]
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = kn.from_dlpack(data)
    assert np.shares_memory(data, np.asarray(y)) and (y + 1).tolist() == (data + 1).tolist()
    y[0, 0] = 9
    assert data[0, 0] == 0
    assert kn.from_dlpack(data.T).tolist() == data.T.tolist() and kn.from_dlpack(np.array(3)).shape == ()
    assert x.__buffer__(0).tolist() == [5, 2]


@pytest.mark.cpu
def test_dlpack_of_every_dtype() -> None:
    for dtype in ("float64", "float32", "float16", "int8", "int16", "int32", "int64", "uint8", "uint64", "bool"):
        x = kn.array([[1, 0], [1, 1]], dtype)
        seen = np.from_dlpack(x)
        assert seen.dtype == x.dtype and np.shares_memory(seen, np.asarray(x))
        back = kn.from_dlpack(seen)
        assert back.dtype == x.dtype and back.tolist() == x.tolist()
    brain = kn.array([1.5], "bfloat16")
    assert kn.from_dlpack(brain).tolist() == [1.5] and kn.from_dlpack(brain).dtype == brain.dtype
    assert x.__dlpack_device__() == (1, 0)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    assert kn.from_dlpack(frozen).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
def test_memory_is_shared_with_other_libraries(name: str) -> None:
    other = pytest.importorskip(name)
    x = kn.array([[1.0, 2.0], [3.0, 4.0]])
    seen = other.from_dlpack(x)
    address = seen.data_ptr() if name == "torch" else seen.unsafe_buffer_pointer()
    assert address == np.asarray(x).ctypes.data and np.asarray(seen).tolist() == x.tolist()
    back = kn.from_dlpack(other.ones((2, 3)))
    assert back.tolist() == [[1, 1, 1], [1, 1, 1]] and np.shares_memory(np.asarray(kn.from_dlpack(seen)), np.asarray(x))
