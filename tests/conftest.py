"""What all tests share: the check against recorded texts, and quick settings for hypothesis."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Processes that tests start find the installed package, never the folder of the same name they are started in.
os.environ["PYTHONSAFEPATH"] = "1"

GOLDEN = Path(__file__).parent / "golden"

settings.register_profile(
    "knetc", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("knetc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--on",
        choices=("cpu", "simulated", "cuda"),
        default="cpu",
        help="the device that arrays are made on: this machine's GPU, or a simulated one, which is slow",
    )
    parser.addoption(
        "--refresh-goldens", action="store_true", help="write the texts under tests/golden anew instead of comparing"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--on") != "cpu":
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="is about the CPU's memory, code or speed"))


@pytest.fixture(scope="session")
def _gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """The GPU that ``--on`` names."""
    if request.config.getoption("--on") == "cuda":
        found = importlib.import_module("knetc.devices").found_devices()
        if "cuda" in found:
            pytest.skip(found["cuda"])
        yield
        return
    with importlib.import_module("simulated_driver").simulated(devices=2):
        yield


@pytest.fixture(autouse=True)
def _on(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lets arrays be made where ``--on`` says."""
    if request.config.getoption("--on") == "cpu":
        yield
        return
    request.getfixturevalue("_gpu")
    kn = importlib.import_module("knetc")
    kn.set_default(device="cuda")
    yield
    kn.set_default(device="cpu")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` compares a text with ``tests/golden/<name>``; ``--refresh-goldens`` writes that file."""

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        if request.config.getoption("--refresh-goldens"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            return
        recorded = file.read_text() if file.exists() else ""
        if text != recorded:
            difference = "\n".join(difflib.unified_diff(recorded.splitlines(), text.splitlines(), "recorded", "now"))
            pytest.fail(f"{name} changed; if that is meant, run with --refresh-goldens\n{difference}", pytrace=False)

    return compare
