"""The benchmarks for GPUs at small sizes on a simulated one: each of them must run to its end where a GPU is lent."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import knetc as kn

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"


@pytest.fixture
def part(simulated: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a part with these options, and returns what it printed."""
    monkeypatch.syspath_prepend(FOLDER)
    modules = {name: importlib.import_module(name) for name in ("measure", "training", "products", "kernels", "launch")}
    simulated.cost = lambda source, grid: 30.0
    measure, training = modules["measure"], modules["training"]
    models = {"small": training.Model((6, 4, 3), 5, "SGD"), "norm": training.Model((8, 8, 3), 5, "Adam", True)}
    monkeypatch.setattr(training, "MODELS", models)
    monkeypatch.setattr(modules["products"], "CASES", (modules["products"].Case(16, 32, 16, True),))
    small = modules["launch"].small
    copies = modules["launch"].copies
    monkeypatch.setattr(modules["launch"], "small", lambda count, size=1024: small(min(count, 3), size))
    monkeypatch.setattr(modules["launch"], "copies", lambda table: copies(table, 1))
    monkeypatch.setattr(measure, "milliseconds", lambda work: measure._measured(work, 1) or 1.0)
    monkeypatch.setattr(measure, "host_us", lambda work, *_, **__: (work(), 1.0)[1])

    def run(name: str, *options: str) -> None:
        monkeypatch.setattr(sys, "argv", [name, *options])
        modules[name].main()

    yield run
    kn.set_default(precision="highest")  # a benchmark of products leaves the other one
    for name in modules:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("kernels", ("--rows", "4", "--columns", "32", "--rounds", "1", "--dtypes", "float32"), 8),
        ("products", ("--rounds", "1", "--dtypes", "bfloat16", "float32 as tf32"), 2),
        ("training", ("--rounds", "1", "--dtypes", "bfloat16", "--modes"), 2),
        ("launch", (), 12),
    ],
)
def test_a_part(part: Any, capsys: pytest.CaptureFixture[str], name: str, options: tuple[str, ...], rows: int) -> None:
    part(name, *options)
    said = capsys.readouterr().out
    assert "failed" not in said and "no time left" not in said, said
    assert said.count("\n| ") == 2 + rows, said
