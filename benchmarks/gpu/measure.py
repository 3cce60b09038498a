"""Measuring on a GPU: times by the device's own events, kernels against copies of as many bytes in the same minutes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from knetc.runtime import devices

Work = Callable[[], Any]

gpu: Any = None
"""The device that everything here runs on; ``use`` opens it."""


def use(name: str = "cuda:0") -> str:
    """Open a device; returns what it is."""
    global gpu
    gpu = devices.device(name)
    return str(gpu.description)


def milliseconds(work: Work, *, at_least: float = 20.0) -> float:
    """How long a piece of work takes, when it is asked for again and again: by the device's events, so that what the
    host does meanwhile counts only where the device waits for it."""
    for _ in range(3):
        work()
    runs = 1
    while True:
        found = _measured(work, runs)
        if found >= at_least or runs >= 4096:
            return found / runs
        runs = min(4096, max(2 * runs, int(1.2 * runs * at_least / max(found, 0.01))))


def _measured(work: Work, runs: int) -> float:
    with gpu.entered() as driver:
        start, end = driver.event(), driver.event()
        gpu.synchronize()
        driver.record(start, gpu.stream)
    for _ in range(runs):
        work()
    with gpu.entered() as driver:
        driver.record(end, gpu.stream)
        driver.await_event(end)
        elapsed = driver.milliseconds(start, end)
        driver.free_event(start)
        driver.free_event(end)
    return float(elapsed)


def in_turn(works: Mapping[str, Work], rounds: int = 5) -> dict[str, float]:
    """The median time of each, measured A B A B …, so that what drifts meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(milliseconds(work))
    return {name: statistics.median(times) for name, times in found.items()}


def copying(size_bytes: int) -> Work:
    """A copy on the device that reads and writes ``size_bytes`` altogether."""
    half = max(size_bytes // 2, 1)
    source, target = gpu.zeros(half), gpu.allocate(half)

    def copy() -> None:
        with gpu.entered() as driver:
            driver.copy(target.at, source.at, half, gpu.stream)

    return copy


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
