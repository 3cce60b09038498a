"""Choosing kernels by measuring them, on a simulated device whose clock tells what the test says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")

from knetc.codegen.triton import model
from knetc.codegen.triton.source import header_of
from knetc.runtime import cache, devices
from knetc.runtime.base.config import config
from knetc.runtime.cuda import timing
from knetc.runtime.cuda.driver import Properties

import knetc as kn
from knetc.compiler import pipeline, tuning


@pytest.fixture
def measured(simulated: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The simulated driver, with a cache of its own, and kernels of any size measured."""
    monkeypatch.setattr(model, "TUNED_BYTES", 0)
    monkeypatch.setattr(timing, "FLUSH_BYTES", 1 << 10)
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(config, "cache", True)
    monkeypatch.setattr(config, "cache_dir", tmp_path)
    monkeypatch.setattr(tuning, "_known", {})
    kn.set_default(device="cuda")
    yield simulated


def plan_of(function: Any) -> Any:
    """The program of a compiled function's first signature."""
    return function.__knetc_compiled__.variants[0].executable.program


def warps(program: Any) -> list[int]:
    return [cubin.num_warps for cubin in program.cubins]


def forget() -> None:
    """As in a new process, for which there are choices alone."""
    tuning._known.clear()
    pipeline._executables.clear()
    for entry in cache.entries():
        if entry.kind == "program":
            entry.path.unlink()


X = np.arange(1000, dtype=np.float32).reshape(20, 50)


@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_the_fastest_is_taken(measured: Any, wanted: int) -> None:
    measured.cost = lambda source, grid: 1.0 + abs(header_of(source).warps - wanted)
    f = kn.compile(lambda x: kn.exp(x) * 2, tune=True)
    np.testing.assert_allclose(np.asarray(f(kn.array(X / 1000))), np.exp(X / 1000) * 2, 1e-6)
    assert warps(plan_of(f)) == [wanted]
    assert "the best of " in plan_of(f).steps[0].notes[-1] and "on simulated" in plan_of(f).steps[0].notes[-1]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: kn.softmax(x, axis=-1),
        lambda x: kn.sum(x * x, axis=0),
        lambda x: kn.cumsum(x, axis=1),
        lambda x: x.T * 1.5,
        lambda x: x / kn.sum(x),
        lambda x: kn.sort(x, axis=-1)[:, :3],
    ],
    ids=["rows", "columns", "scan", "turned", "total", "sort"],
)
def test_results_are_the_same_whatever_is_taken(measured: Any, function: Any) -> None:
    x = kn.array(X)
    expected = np.asarray(kn.compile(function)(x))
    for sign in (1, -1):
        measured.cost = lambda source, grid, sign=sign: 10.0 + sign * (header_of(source).warps + grid[0] / 1000)
        cache.clear()
        forget()
        np.testing.assert_allclose(np.asarray(kn.compile(function, tune=True)(x)), expected, 1e-5)


def test_tiles_of_products(measured: Any) -> None:
    measured.cost = lambda source, grid: 1.0 if "tiles of 16 by 16." in source else 3.0
    f = kn.compile(lambda x, w: x @ w, tune=True)
    w = np.ones((50, 40), np.float32)
    np.testing.assert_allclose(np.asarray(f(kn.array(X), kn.array(w))), X @ w, 1e-5)
    assert any("tiles of 16 by 16." in note for note in plan_of(f).steps[0].notes)


def tanh(x: Any) -> Any:
    return kn.tanh(x) + 1


def test_choices_are_kept_for_each_kernel_and_device(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured.cost = lambda source, grid: 9.0 - header_of(source).warps
    first = kn.compile(tanh, tune=True)
    first(kn.array(X))
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(timing, "milliseconds", lambda *_: pytest.fail("it is known which kernel is the fastest"))
        again = kn.compile(tanh, tune=True)
        again(kn.array(X))
    assert warps(plan_of(again)) == warps(plan_of(first)) != warps(plan_of(untuned(tanh)))
    [entry] = [entry for entry in cache.entries() if entry.kind == "choice"]
    assert cache.verify() == [] and cache.load_choice(entry.key) is not None
    forget()
    monkeypatch.setattr(type(measured), "open", lambda *_: Properties("another", 90, 1 << 30, 4, 1 << 20, 13000))
    monkeypatch.setattr(devices.device("cuda:0"), "properties", measured.open(0))
    kn.compile(tanh, tune=True)(kn.array(X))
    assert len([entry for entry in cache.entries() if entry.kind == "choice"]) == 2


def untuned(function: Any) -> Any:
    made = kn.compile(function)
    made(kn.array(X))
    return made


@pytest.mark.parametrize("damage", [b"[1]", b"{", b'{"number": -1, "how": ""}', b'{"number": 99, "how": "x"}'])
def test_damaged_choices_are_made_again(measured: Any, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    measured.cost = lambda source, grid: 9.0 - header_of(source).warps
    kn.compile(tanh, tune=True)(kn.array(X))
    [entry] = [entry for entry in cache.entries() if entry.kind == "choice"]
    cache._write("choice", entry.key, damage)
    forget()
    measured.cost = lambda source, grid: 1.0 + header_of(source).warps
    again = kn.compile(tanh, tune=True)
    again(kn.array(X))
    assert warps(plan_of(again)) < warps(plan_of(untuned(tanh)))
    found = cache.load_choice(entry.key)
    assert found is not None and found[1].startswith("the best of")


def test_old_choices_go(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHOICES", 10)
    for k in range(150):
        cache.store_choice(f"{k:040x}", k, "some")
    assert len([e for e in cache.entries() if e.kind == "choice"]) <= 10 + 64


def test_what_cannot_be_measured_leaves_the_model_s_choice(
    measured: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> float:
        raise kn.OutOfMemoryError("no memory on cuda:0")

    monkeypatch.setattr(timing, "milliseconds", full)
    f = kn.compile(lambda x: x * 4 + 1, tune=True)
    with caplog.at_level(logging.INFO, "knetc"):
        np.testing.assert_array_equal(np.asarray(f(kn.array(X))), X * 4 + 1)
    assert "no memory on cuda:0" in caplog.text
    assert "none of " in plan_of(f).steps[0].notes[-1]


def test_on_the_cpu_it_is_said_that_nothing_is_measured(caplog: pytest.LogCaptureFixture) -> None:
    f = kn.compile(lambda x: x + 2, tune=True)
    with caplog.at_level(logging.INFO, "knetc"):
        assert f(np.float32([1])).tolist() == [3]
    assert "tune=True measures nothing on the CPU" in caplog.text
