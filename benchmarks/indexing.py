"""Sorting, scans, gathers, scatter-adds and counts against NumPy, at 10^4, 10^6 and 10^7 elements.

    python benchmarks/indexing.py                  # all; a minute or two
    python benchmarks/indexing.py --only cumsum --sizes 1000000
    KNETC_THREADS=1 python benchmarks/indexing.py --processor

Both take turns in one process (NumPy's functions use no threads); the median of the ratios 'NumPy / knetc' of a few
rounds is printed, over 1 where knetc is faster. knetc's functions are compiled ones, on arrays that are there already,
and give arrays. With --processor, processor time is measured, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import knetc as kn

ROUNDS, SECONDS = 7, 0.1


class Work(NamedTuple):
    """A piece of work: NumPy's function, ours, and what both are given for a number of elements."""

    numpy: Callable[..., Any]
    knetc: Callable[..., Any]
    given: Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]


def row(dtype: str) -> Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]:
    return lambda rng, n: ((rng.standard_normal(n) * 1000).astype(dtype),)


def square(dtype: str) -> Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]:
    return lambda rng, n: ((rng.standard_normal((side(n), n // side(n))) * 1000).astype(dtype),)


def side(n: int) -> int:
    return 10 ** (len(str(n)) // 2)


def places(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Values, places among them, and places among a thousand."""
    return rng.standard_normal(n).astype("f4"), rng.integers(0, n, n), rng.integers(0, 1000, n)


def table(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Rows of 64, places of as many rows, and rows to be added there."""
    rows = max(n // 64, 1)
    return (
        rng.standard_normal((rows, 64)).astype("f4"),
        rng.integers(0, rows, rows),
        rng.standard_normal((rows, 64)).astype("f4"),
    )


def single(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Zeros, places among them, and values for these."""
    return np.zeros(n, "f4"), rng.integers(0, n, n), rng.standard_normal(n).astype("f4")


def write(x: Any, where: Any, values: Any) -> None:
    x[where] = values


def added(zeros: np.ndarray, where: np.ndarray, values: np.ndarray) -> np.ndarray:
    result = np.zeros_like(zeros)
    np.add.at(result, where, values)
    return result


def summed(count: int, where: Any, values: Any) -> Any:
    """The gradient of a gather: sums into places."""
    return kn.grad(lambda table: kn.sum(table[where] * values))(kn.zeros((count, *values.shape[1:])))


WORKS: dict[str, Work] = {
    "cumsum f4": Work(np.cumsum, lambda x: kn.cumsum(x), row("f4")),
    "cumsum f8": Work(np.cumsum, lambda x: kn.cumsum(x), row("f8")),
    "cumsum i8": Work(np.cumsum, lambda x: kn.cumsum(x), row("i8")),
    "cumsum f4 rows": Work(lambda x: np.cumsum(x, 1), lambda x: kn.cumsum(x, 1), square("f4")),
    "cumsum f4 columns": Work(lambda x: np.cumsum(x, 0), lambda x: kn.cumsum(x, 0), square("f4")),
    "cumprod f4": Work(np.cumprod, lambda x: kn.cumprod(x), row("f4")),
    "cummax f4": Work(np.maximum.accumulate, lambda x: kn.cummax(x), row("f4")),
    "sort f4": Work(np.sort, kn.sort, row("f4")),
    "sort f8": Work(np.sort, kn.sort, row("f8")),
    "sort i8": Work(np.sort, kn.sort, row("i8")),
    "sort f4 rows": Work(lambda x: np.sort(x, 1), lambda x: kn.sort(x, 1), square("f4")),
    "sort f4 columns": Work(lambda x: np.sort(x, 0), lambda x: kn.sort(x, 0), square("f4")),
    "argsort f4": Work(np.argsort, lambda x: kn.argsort(x, stable=False), row("f4")),
    "argsort f4 stable": Work(lambda x: np.argsort(x, kind="stable"), kn.argsort, row("f4")),
    "argsort f8": Work(np.argsort, lambda x: kn.argsort(x, stable=False), row("f8")),
    "argsort f8 stable": Work(lambda x: np.argsort(x, kind="stable"), kn.argsort, row("f8")),
    "topk 10 f4": Work(lambda x: np.argpartition(x, -10)[-10:], lambda x: kn.topk(x, 10).indices, row("f4")),
    "median f4": Work(np.median, lambda x: kn.median(x), row("f4")),
    "searchsorted f4": Work(
        lambda x, i, j: np.searchsorted(x[:1000], x), lambda x, i, j: kn.searchsorted(x[:1000], x), places
    ),
    "x[i]": Work(lambda x, i, j: x[i], lambda x, i, j: x[i], places),
    "x[i] rows": Work(lambda x, i, y: x[i], lambda x, i, y: x[i], table),
    "x[i] = y": Work(write, write, single),
    "x[i] = y rows": Work(write, write, table),
    "add.at": Work(lambda x, i, j: added(x, i, x), lambda x, i, j: summed(x.size, i, x), places),
    "add.at 1000 places": Work(
        lambda x, i, j: added(x[:1000], j, x), lambda x, i, j: summed(1000, j, x), places
    ),
    "add.at rows": Work(added, lambda x, i, y: summed(x.shape[0], i, y), table),
    "bincount": Work(
        lambda x, i, j: np.bincount(j, minlength=1000), lambda x, i, j: kn.bincount(j, length=1000), places
    ),
    "bincount weights": Work(
        lambda x, i, j: np.bincount(j, x, 1000), lambda x, i, j: kn.bincount(j, x, length=1000), places
    ),
    "histogram f4": Work(lambda x: np.histogram(x, 100)[0], lambda x: kn.histogram(x, 100).hist, row("f4")),
}  # fmt: skip


def once(function: Callable[..., Any], given: tuple[Any, ...], clock: Callable[[], float]) -> float:
    begin = clock()
    function(*given)
    return clock() - begin


def ratio(work: Work, n: int, clock: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds of NumPy's and ours, the best of all rounds; and the median of the rounds' ratios."""
    given = work.given(np.random.default_rng(0), n)
    arrays = tuple(kn.array(x) for x in given)
    ours = kn.compile(work.knetc)
    ours(*arrays)
    estimate = max(once(ours, arrays, time.perf_counter), once(work.numpy, given, time.perf_counter))
    count = max(1, min(1000, int(SECONDS / ROUNDS / estimate / 2)))
    best, ratios = [np.inf, np.inf], []
    for _ in range(ROUNDS):
        times = []
        for k, (function, inputs) in enumerate(((work.numpy, given), (ours, arrays))):
            times.append(min(once(function, inputs, clock) for _ in range(count)))
            best[k] = min(best[k], times[-1])
        ratios.append(times[0] / times[1])
    return best[0], best[1], statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="works whose names contain this")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**4, 10**6, 10**7])
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    options = parser.parse_args()
    clock = time.process_time if options.processor else time.perf_counter
    print("| work | elements | NumPy ms | knetc ms | ratio |\n|---|---|---|---|---|")
    for name, work in WORKS.items():
        if options.only in name:
            for n in options.sizes:
                theirs, ours, factor = ratio(work, n, clock)
                print(f"| {name} | {n:,} | {theirs * 1e3:.3f} | {ours * 1e3:.3f} | {factor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
