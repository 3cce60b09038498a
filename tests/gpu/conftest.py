"""Tests of this folder need a GPU; where there is none they are skipped, never passed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import knetc as kn
from knetc.devices import found_devices


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/gpu/" in str(item.path):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    """The machine's GPU; arrays are made on it."""
    pytest.importorskip("triton")
    found = found_devices()
    if "cuda" in found:
        pytest.skip(found["cuda"])
    kn.set_default(device="cuda")
    yield
    kn.set_default(device="cpu", precision="highest")
