"""Run the array API standard's own test suite on ``kn.array_api``, from a checkout of it.

``python tests/standard/run.py PATH [pytest's options]``; get the suite with
``git clone --recursive --branch 2026.02.26 https://github.com/data-apis/array-api-tests PATH`` and what it needs with
``pip install -r PATH/requirements.txt``. Tests that are expected to fail are in ``expected_failures.txt``, with the
reasons; that one of them passes is a failure too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

EXPECTED = Path(__file__).parent / "expected_failures.txt"


def expected() -> Iterator[tuple[str, str]]:
    """Parts of the names of tests that are expected to fail, each with the reason: the comment above it."""
    for block in EXPECTED.read_text().split("\n\n"):
        lines = block.strip().splitlines()
        reason = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        yield from ((line, reason) for line in lines if not line.startswith("#"))


class Expectations:
    """Marks the tests that are expected to fail."""

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            for part, reason in expected():
                if part in item.nodeid:
                    item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def main(suite: str, *options: str) -> int:
    """The exit status of pytest, run in the suite's folder."""
    os.environ["ARRAY_API_TESTS_MODULE"] = "knetc.array_api"
    os.environ["ARRAY_API_TESTS_SKIP_DTYPES"] = "complex64,complex128"
    os.chdir(suite)
    sys.path.insert(0, os.getcwd())
    arguments = ["array_api_tests", "--disable-deadline", *(options or ("--max-examples=50",))]
    return int(pytest.main(arguments, plugins=[Expectations()]))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    raise SystemExit(main(*sys.argv[1:]))
