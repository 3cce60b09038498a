"""Measuring on a GPU: times by the device's own events, kernels against copies of as many bytes in the same minutes."""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
        start, end = driver.event(timed=True), driver.event(timed=True)
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


def host_us(work: Work, calls: int = 100, rounds: int = 30, device: bool = False) -> float:
    """How long the host takes for a call, in microseconds: the device, which may be slower, is waited for between
    rounds of calls and not within them. With ``device`` until both are done."""
    found = []
    for _ in range(rounds):
        gpu.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        if device:
            gpu.synchronize()
        found.append((time.perf_counter() - start) / calls)
    gpu.synchronize()
    return 1e6 * statistics.median(found)


def copying(size_bytes: int) -> Work:
    """A copy on the device that reads and writes ``size_bytes`` altogether."""
    half = max(size_bytes // 2, 1)
    source, target = gpu.zeros(half), gpu.allocate(half)

    def copy() -> None:
        with gpu.entered() as driver:
            driver.copy(target.at, source.at, half, gpu.stream)

    return copy


class Table:
    """A table in Markdown whose rows are printed as they come; what fails is told below it."""

    def __init__(self, *head: str, seconds: float = 1e9) -> None:
        """Nothing is begun when ``seconds`` are over."""
        self.end = time.monotonic() + seconds
        self.failures: list[str] = []
        self.row(*head)
        self.row(*("---" for _ in head))

    @property
    def late(self) -> bool:
        return time.monotonic() > self.end

    def row(self, *cells: Any) -> None:
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)

    @contextmanager
    def trying(self, *cells: Any) -> Iterator[None]:
        """What is done inside may fail, or is left out when it is late: the row says so then, and the rest goes on."""
        try:
            yield
        except Exception as error:
            self.row(*cells, f"failed: {type(error).__name__}")
            name = ", ".join(map(str, cells))
            self.failures.append(f"{name}:\n\n```\n{''.join(traceback.format_exception(error))[-2000:].strip()}\n```")

    def close(self) -> None:
        for failure in self.failures:
            print(f"\n{failure}")
        print(flush=True)
