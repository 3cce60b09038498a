"""What the GPU runtime's tests share."""

from __future__ import annotations

import gc as python_gc
import importlib
from collections.abc import Iterator
from typing import Any

import fake_gpu
import pytest

import knetc as kn
from knetc.devices import found_devices


@pytest.fixture
def gpu() -> Iterator[fake_gpu.Fake]:
    """A driver library that stands for a GPU's."""
    if fake_gpu.COMPILER is None:
        pytest.skip("there is no C compiler to build a stand-in for the driver's library")
    with fake_gpu.fake() as made:
        yield made


@pytest.fixture
def simulated() -> Iterator[Any]:
    """Two simulated GPUs, ``cuda:0`` and ``cuda:1``, whose launches are counted."""
    pytest.importorskip("triton")
    driver = importlib.import_module("simulated_driver")
    with driver.simulated(devices=2) as made:
        yield made
        kn.set_default(device="cpu")
        python_gc.collect()


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A GPU as ``cuda:0``: a simulated one, and the machine's own if it has one."""
    if request.param == "simulated":
        yield request.getfixturevalue("simulated")
        return
    pytest.importorskip("triton")
    if "cuda" in found_devices():
        pytest.skip(found_devices()["cuda"])
    yield None
    kn.set_default(device="cpu")
    python_gc.collect()
