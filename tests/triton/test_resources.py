"""The benchmark's kernels as machine code: nothing spills, and neighbours are read and written together."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from knetc.codegen.triton.compile import compile_source
from knetc.codegen.triton.model import GpuTarget

triton = pytest.importorskip("triton")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")

NEWER = not triton.__version__.startswith("3.6.")


def known_to_spill(source: str, arch: str) -> int:
    """Bytes of a thread that are known to spill: in one kernel, cross-entropy of rows of 8192 float32, as newer Triton
    compiles it for sm_90 and sm_100; registers are few around the calls that quotients are."""
    header = source.split("\n", 1)[0]
    this = '"sum_max_where"' in header and '"in4":"*fp32"' in header and "1024 rows of 8192," in source
    return 8 if NEWER and arch != "sm_80" and this else 0


@pytest.fixture(scope="module")
def resources() -> Iterator[Any]:
    """The module that makes the table of kernels."""
    folder = str(Path(__file__).parents[2] / "benchmarks" / "gpu")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("resources")
    finally:
        sys.path.remove(folder)


def checked(sources: list[str], arch: str) -> None:
    for source in dict.fromkeys(sources):
        cubin, _ = compile_source("k", source, GpuTarget("cuda", arch))
        assert cubin.spilled_bytes <= known_to_spill(source, arch) and cubin.registers <= 255, source


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_updates_do_not_spill(resources: Any, dtype: str, arch: str) -> None:
    """Adam of one large Param, of numbers that blocks do not divide too, and of several Params."""
    adam, many = (resources.MAKERS[title] for title in ("Adam", "Adam, 48 Params"))
    works = [(adam, 1 << 24, 1), (adam, 9_999_997, 1), *([(many, 2048, 100)] if dtype == "float32" else [])]
    for make, rows, columns in works:
        checked(resources.sources(resources.traced_piece(make, rows, columns, dtype)), arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_do_not_spill(resources: Any, dtype: str, arch: str) -> None:
    """What is benchmarked, of rows in registers and of longer ones."""
    sources: list[str] = []
    for title, make in resources.MAKERS.items():
        if "Adam" not in title:
            for columns in (8192, 40_000) if "norm" in title or "entropy" in title else (8192,):
                sources += resources.sources(resources.traced_piece(make, 1024, columns, dtype))
    checked(sources, arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_training_steps_do_not_spill(resources: Any, arch: str) -> None:
    """The kernels of a step but its products, which are looked at elsewhere in all sizes."""
    [model] = [model for title, model in resources.training.MODELS.items() if title.startswith("mlp_large")]
    sources = resources.sources(resources.traced_step(model, "float32"))
    checked([source for source in sources if "tl.dot" not in source], arch)
