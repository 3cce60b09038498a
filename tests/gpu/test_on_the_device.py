"""What only a GPU can tell: results of the machine's own code, libraries, streams, memory, other libraries' arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import OutOfMemoryError
from on_device import on_device
from optable import cases, check

import knetc as kn
from knetc.ir.op import OPS, Op

_OPS = [op for op in OPS.values() if op.reference is not None and op.name not in ("group", "item")]


@pytest.mark.parametrize("op", _OPS, ids=lambda op: op.name)
def test_operations_agree_with_the_reference(op: Op) -> None:
    check(list(cases(op)), on_device)


# --- products


def product_error(dtype: str, library: bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """The largest error of a layer's results, relative to their size."""
    monkeypatch.setattr(config, "cublas", library)
    random = np.random.default_rng(0)
    a, b, bias = (random.normal(size=s).astype(np.float32) for s in ((300, 500), (200, 500), (200,)))
    x, w, c = (kn.array(v).astype(dtype) for v in (a, b, bias))
    found = kn.compile(lambda x, w, c: kn.relu(x @ w.T + c))(x, w, c)
    exact = np.maximum(*np.broadcast_arrays(np.float64(x) @ np.float64(w).T + np.float64(c), 0.0))
    return float(np.abs(np.float64(found) - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize(
    ("dtype", "most"), [("float32", 2e-6), ("float64", 1e-14), ("float16", 2e-3), ("bfloat16", 1e-2)]
)
def test_products(dtype: str, most: float, library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert product_error(dtype, library, monkeypatch) < most


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_factor_a_matrix_and_a_bias(dtype: str, library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "cublas", library)
    random = np.random.default_rng(0)
    x, w, r, c = (
        kn.array(random.normal(size=s).astype(np.float32)).astype(dtype)
        for s in ((3, 40, 64), (3, 64, 72), (3, 40, 72), (72,))
    )
    found = kn.compile(lambda x, w, r, c: kn.relu((x @ w) / 8 - r + c))(x, w, r, c)
    exact = np.maximum(np.float64(x) @ np.float64(w) / 8 - np.float64(r) + np.float64(c), 0)
    np.testing.assert_allclose(np.float64(found), exact, atol=1e-5 if dtype == "float32" else 0.05, rtol=0.01)


@pytest.mark.parametrize("library", [True, False])
def test_gradients_for_weights_share_a_long_inner_dimension(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "cublas", library)
    random = np.random.default_rng(0)
    dy, x = (random.integers(-4, 5, (30_000, n)).astype(np.float32) for n in (24, 40))
    found = kn.compile(lambda dy, x: dy.T @ x)(kn.array(dy), kn.array(x))
    np.testing.assert_array_equal(np.asarray(found), dy.T @ x)


@pytest.mark.parametrize("library", [True, False])
def test_nan_goes_through_the_relu_of_an_epilogue(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "cublas", library)
    x = np.ones((64, 64), np.float32)
    x[3, 5] = np.nan
    found = np.asarray(kn.compile(lambda x, w: kn.relu(x @ w))(kn.array(x), kn.ones((64, 64))))
    assert np.isnan(found[3]).all() and np.isfinite(np.delete(found, 3, 0)).all()


def test_choices_are_measured() -> None:
    x, w = kn.rand(4096, 512), kn.rand(512, 768)

    def f(x: Any, w: Any) -> Any:
        return kn.softmax(kn.tanh(x @ w), axis=-1), kn.sum(w * w, axis=0)

    tuned = kn.compile(f, tune=True)
    for found, expected in zip(tuned(x, w), f(x, w)):
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), 1e-4, 1e-7)
    steps = tuned.__knetc_compiled__.variants[0].executable.program.steps  # type: ignore[attr-defined]
    assert any("the best of" in note for step in steps for note in step.notes)


@pytest.mark.parametrize("library", [True, False])
def test_tf32_only_when_asked_for(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kn.set_default(precision="default")
    assert 2e-5 < product_error("float32", library, monkeypatch) < 2e-3
    kn.set_default(precision="highest")
    assert product_error("float32", library, monkeypatch) < 2e-6


# --- memory, streams, graphs


def test_out_of_memory() -> None:
    x = kn.arange(10)
    with pytest.raises(OutOfMemoryError, match="no memory on cuda:0"):
        kn.zeros(1 << 38).numpy()
    assert x.tolist() == list(range(10))


def test_graphs_and_single_launches_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(graphs: bool) -> np.ndarray:
        monkeypatch.setattr(config, "cuda_graphs", graphs)
        kn.seed(1)
        w, v = kn.param(64, 64), kn.param(64, 64)

        def loss(x: Any) -> Any:
            return kn.mean((kn.tanh(kn.layernorm(x @ w.T, kn.ones(64), kn.zeros(64))) @ v.T - x) ** 2)

        data = [(np.random.default_rng(k).normal(size=(50, 64)).astype(np.float32),) for k in range(6)]
        list(kn.adam(loss, data))
        return np.concatenate([np.ravel(w), np.ravel(v)])

    assert np.array_equal(trained(True), trained(False))


def test_batches_come_while_steps_run() -> None:
    w = kn.param(np.zeros(1 << 20, np.float32))

    @kn.compile
    def step(x: Any) -> Any:
        y = x
        for _ in range(10):
            y = y + kn.sum(y) * 0
        w[...] = w + y
        return kn.sum(y[:4]), kn.max(y), kn.min(y)

    x = np.empty(1 << 20, np.float32)
    results = []
    for k in range(50):
        x[...] = k  # it may be changed at once
        results.append(step(kn.array(x)))
    assert [tuple(map(float, result)) for result in results] == [(4.0 * k, k, k) for k in range(50)]
    assert float(kn.max(w)) == float(kn.min(w)) == 49 * 50 / 2


# --- other libraries, without copies


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "bool"])
def test_torch(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6, device="cuda").reshape(2, 3).to(getattr(torch, dtype))
    ours = kn.from_dlpack(theirs)
    assert ours.device == "cuda:0" and ours.buffer is not None and ours.buffer.at == theirs.data_ptr()
    assert (ours.astype("float32") * 2).tolist() == (theirs.float() * 2).tolist()
    back = torch.from_dlpack(ours)
    assert back.data_ptr() == theirs.data_ptr() and back.dtype == theirs.dtype
    fresh = torch.from_dlpack(kn.arange(100000) * 3)
    assert int((fresh + 1).sum()) == 3 * 100000 * 99999 // 2 + 100000


def test_torch_s_streams() -> None:
    torch = pytest.importorskip("torch")
    size = 1 << 24
    for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            for k in range(10):
                theirs = torch.full((size,), float(k), device="cuda")
                for _ in range(5):
                    theirs = theirs + 1
                ours = kn.exp(kn.from_dlpack(theirs) * 0) + kn.from_dlpack(theirs)
                del theirs  # torch may use the memory again once ours is done
                back = torch.from_dlpack(ours)
                assert float((back - torch.full((size,), k + 6.0, device="cuda")).abs().max()) == 0
            shared = torch.zeros(size, device="cuda")
            array, add = kn.from_dlpack(shared), kn.compile(lambda x: x + 1)
            for k in range(10):
                shared.fill_(k)
                with kn.in_stream(stream):
                    found = add(array)
                shared.fill_(-5)
                assert found[[0, size - 1]].tolist() == [k + 1, k + 1]


def test_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    theirs = cupy.arange(12, dtype=cupy.float32).reshape(3, 4)
    ours = kn.from_dlpack(theirs)
    assert ours.buffer is not None and ours.buffer.at == theirs.data.ptr
    assert float(kn.sum(ours)) == 66
    assert float(cupy.from_dlpack(kn.exp(ours)).sum()) == pytest.approx(np.exp(np.arange(12.0)).sum(), 1e-5)
