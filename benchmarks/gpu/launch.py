"""What a call costs the host on a GPU, and what a training step's first call takes with nothing in the cache."""

from __future__ import annotations

import argparse
import importlib
import time
from typing import Any

import measure
import numpy as np
import training
from knetc.runtime.base.config import config

import knetc as kn


def small(count: int, size: int = 1024) -> Any:
    """A program of ``count`` kernels: sums end a kernel."""

    def function(x: Any) -> Any:
        for _ in range(count):
            x = x - kn.sum(x) / size
        return x

    return kn.compile(function)


def calls(table: measure.Table) -> None:
    """The host's time for a call of programs that are launched again and again."""
    x = kn.zeros(1024)
    for name, function in {
        "x + 1 (one launch)": kn.compile(lambda x: x + 1),
        "10 sums (a graph)": small(10),
        "100 sums (a graph)": small(100),
    }.items():
        with table.trying(name):
            function(x), function(x), function(x)
            kernels = len(function.__knetc_compiled__.variants[0].executable.program.steps)
            table.row(name, kernels, f"{measure.host_us(lambda: function(x)):.1f}")  # noqa: B023
            kept: list[Any] = []
            again = measure.host_us(lambda: kept.append(function(x)), calls=50, rounds=5)  # noqa: B023
            table.row(f"{name}, each result kept", kernels, f"{again:.1f}")
            assert np.isfinite(np.asarray(kept[-1])).all()
    model = next(iter(training.MODELS.values()))
    with table.trying("training step, mlp_small"):
        step = training.bound(*training.ours(model, "float32"))
        step(), step(), step()
        table.row("training step, mlp_small (checks its labels)", "", f"{measure.host_us(step, 20):.1f}")


def builds(table: measure.Table) -> None:
    """First calls: tracing, passes, generating and compiling all kernels, loading them."""
    importlib.import_module("triton")
    for name, model in list(training.MODELS.items())[:2]:
        with table.trying(f"first call of {name}"):
            step = training.bound(*training.ours(model, "float32"))
            measure.gpu.synchronize()
            start = time.perf_counter()
            float(step())
            table.row(f"first call of {name}, nothing in the cache", "", f"{1e6 * (time.perf_counter() - start):,.0f}")


def copies(table: measure.Table, rows: int = 8192) -> None:
    """Batches from the host's memory: whether the next one is on its way while a step runs."""
    x = np.ones((rows, 1024), np.float32)
    step = small(20, x.size)
    there = kn.array(x)

    def uploaded() -> None:
        kn.array(x)[:1].numpy()

    ways = {"a step of 20 sums": lambda: step(there), "its batch": uploaded, "both in turn": lambda: step(kn.array(x))}
    for name, work in ways.items():
        with table.trying(name):
            work(), work(), work()
            table.row(
                f"{name}, {x.nbytes / 1e6:.0f} MB, with the device", "", f"{measure.host_us(work, 10, 5, True):.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="begin nothing after this time")
    options = parser.parse_args()
    print(f"{measure.use()}\n")
    kn.set_default(device="cuda")
    config.cache = False
    table = measure.Table("what", "kernels", "host µs", seconds=options.seconds)
    builds(table)
    calls(table)
    copies(table)
    table.close()


if __name__ == "__main__":
    main()
