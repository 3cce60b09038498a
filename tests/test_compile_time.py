"""Compile time grows linearly with the number of values."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest
from knetc.codegen.assemble import assemble
from knetc.codegen.cpu.backend import CpuBackend
from knetc.codegen.cpu.native import target

from knetc.passes.simplify import simplify


def benchmark() -> Any:
    file = Path(__file__).parent.parent / "benchmarks" / "compile_time.py"
    spec = importlib.util.spec_from_file_location("compile_time", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["chain", "network", "independent", "siblings"])
def test_work_for_a_value_does_not_grow(kind: str) -> None:
    make = benchmark().KINDS[kind]

    def seconds_per_value(size: int) -> float:
        graph = make(size)
        before = time.process_time()
        assemble(simplify(graph), CpuBackend(target()))
        return (time.process_time() - before) / len(graph.nodes)

    seconds_per_value(100)  # imports and caches
    small = min(seconds_per_value(300) for _ in range(3))
    # a quadratic step would make it ten times; another process may disturb one measurement, not three
    assert any(seconds_per_value(3000) < 3 * small for _ in range(3))
