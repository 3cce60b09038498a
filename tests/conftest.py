"""What all tests share: the check against recorded texts, and quick settings for hypothesis."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
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
        "--refresh-goldens", action="store_true", help="write the texts under tests/golden anew instead of comparing"
    )


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
