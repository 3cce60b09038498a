"""The work of compiling grows linearly with the number of values: counted in calls of functions, not in seconds."""

from __future__ import annotations

import importlib.util
import sys
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


@pytest.mark.parametrize("kind", ["chain", "network", "independent", "siblings", "neighbours"])
def test_work_for_a_value_does_not_grow(kind: str) -> None:
    make = benchmark().KINDS[kind]

    def calls_per_value(size: int) -> float:
        graph = make(size)
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            assemble(simplify(graph), CpuBackend(target()))
        finally:
            sys.setprofile(before)
        return calls / len(graph.nodes)

    calls_per_value(100)  # imports and caches
    assert calls_per_value(2000) < 1.6 * calls_per_value(500)  # a quadratic step would make it four times
