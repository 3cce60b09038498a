"""What the GPU runtime's tests share."""

from __future__ import annotations

import gc as python_gc
import importlib
from collections.abc import Iterator
from typing import Any

import fake_gpu
import pytest

import knetc as kn


@pytest.fixture
def gpu() -> Iterator[fake_gpu.Fake]:
    """A driver library that stands for a GPU's."""
    if fake_gpu.COMPILER is None:
        pytest.skip("there is no C compiler to build a stand-in for the driver's library")
    with fake_gpu.fake() as made:
        yield made


@pytest.fixture
def device() -> Iterator[Any]:
    """A simulated GPU, ``cuda:0``, and ``cuda:1`` beside it; the default device is the CPU afterwards."""
    pytest.importorskip("triton")
    driver = importlib.import_module("simulated_driver")
    with driver.simulated(devices=2) as made:
        yield made
        kn.set_default(device="cpu")
        python_gc.collect()
