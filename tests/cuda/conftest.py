"""What the GPU runtime's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import fake_gpu
import pytest


@pytest.fixture
def gpu() -> Iterator[fake_gpu.Fake]:
    """A driver library that stands for a GPU's."""
    if fake_gpu.COMPILER is None:
        pytest.skip("there is no C compiler to build a stand-in for the driver's library")
    with fake_gpu.fake() as made:
        yield made
