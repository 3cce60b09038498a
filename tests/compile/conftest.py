"""What the tests of compiled functions share: no disk cache, and the lines that were logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from knetc.runtime.base.config import config


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config, "cache", False)
    yield


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The messages that the compiler has logged; read it after the calls."""

    class Lines(list[str]):
        def __iter__(self) -> Iterator[str]:
            return iter([r.getMessage() for r in caplog.records if r.name == "knetc" and "signature" in r.getMessage()])

        def __len__(self) -> int:
            return len(list(iter(self)))

        def __getitem__(self, index: Any) -> Any:
            return list(iter(self))[index]

    caplog.set_level(logging.INFO, "knetc")
    yield Lines()
