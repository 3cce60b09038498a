"""Sorting, searching, scans, gathers, scatter-adds and counts against NumPy, by dtype, at 10^3 to 10^7 elements.

    python benchmarks/indexing.py                  # all; some minutes
    python benchmarks/indexing.py --only cumsum sort --sizes 1000000 --dtypes float32
    KNETC_THREADS=1 python benchmarks/indexing.py --processor

Both take turns in one process (NumPy's functions use no threads; its dot does). For each dtype the median over a few
rounds of the ratios 'NumPy / knetc' is printed, over 1 where knetc is faster: of compiled functions, and in brackets of
eager calls whose result is then asked for. Arrays are there already, and results are arrays. With --times microseconds
of NumPy, compiled and eager calls are printed instead, the best of all rounds. With --processor, processor time is
measured, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import knetc as kn

ROUNDS, SECONDS = 5, 0.04
DTYPES = ["float32", "float64", "int32", "int64"]
FLOATS = ("float32", "float64")

Given = Callable[[np.random.Generator, int, str], tuple[np.ndarray, ...]]


class Work(NamedTuple):
    """A piece of work: NumPy's function, ours, and what both are given for a number of elements and a dtype."""

    numpy: Callable[..., Any]
    knetc: Callable[..., Any]
    given: Given
    selects: bool = False
    """Whether the result's shape depends on data, so that there are only eager calls."""
    kinds: tuple[str, ...] = ("float32", "float64", "int32", "int64")


def numbers(rng: np.random.Generator, shape: int | tuple[int, ...], dtype: str) -> np.ndarray:
    """Of many different values; sums of integers stay small."""
    return (rng.standard_normal(shape) * 1000).astype(dtype)


def row(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return (numbers(rng, n, dtype),)


def two(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    return numbers(rng, n, dtype), numbers(rng, n, dtype)


def square(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    side = 10 ** (len(str(n)) // 2)
    return (numbers(rng, (side, n // side), dtype),)


def places(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Values, places among them, and places among a thousand."""
    return numbers(rng, n, dtype), rng.integers(0, n, n), rng.integers(0, 1000, n)


def sorted_row(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    """A thousand sorted values, and others."""
    return np.sort(numbers(rng, 1000, dtype)), numbers(rng, n, dtype)


def mask(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Values, and which of them are meant: half of them."""
    return numbers(rng, n, dtype), rng.random(n) < 0.5


def table(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Rows of 64, places of as many rows, and rows to be added there."""
    rows = max(n // 64, 1)
    return numbers(rng, (rows, 64), dtype), rng.integers(0, rows, rows), numbers(rng, (rows, 64), dtype)


def single(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Zeros, places among them, and values for these."""
    return np.zeros(n, dtype), rng.integers(0, n, n), numbers(rng, n, dtype)


def write(x: Any, where: Any, values: Any) -> None:
    x[where] = values


def added(zeros: np.ndarray, where: np.ndarray, values: np.ndarray) -> np.ndarray:
    result = np.zeros_like(zeros)
    np.add.at(result, where, values)
    return result


def summed(count: int, where: Any, values: Any) -> Any:
    """The gradient of a gather: sums into places."""
    zeros = kn.zeros((count, *values.shape[1:]), dtype=values.dtype)
    return kn.grad(lambda table: kn.sum(table[where] * values))(zeros)


WORKS: dict[str, Work] = {
    "sort": Work(np.sort, lambda x: kn.sort(x), row),
    "sort rows": Work(lambda x: np.sort(x, 1), lambda x: kn.sort(x, 1), square),
    "sort columns": Work(lambda x: np.sort(x, 0), lambda x: kn.sort(x, 0), square),
    "argsort": Work(np.argsort, lambda x: kn.argsort(x), row),
    "argsort stable": Work(lambda x: np.argsort(x, kind="stable"), lambda x: kn.argsort(x), row),
    "argsort rows": Work(lambda x: np.argsort(x, 1), lambda x: kn.argsort(x, 1), square),
    "argsort columns": Work(lambda x: np.argsort(x, 0), lambda x: kn.argsort(x, 0), square),
    "topk 10": Work(lambda x: np.argpartition(x, -10)[-10:], lambda x: kn.topk(x, 10).indices, row),
    "partition": Work(lambda x: np.partition(x, len(x) // 2), lambda x: kn.partition(x, len(x) // 2), row),
    "argpartition": Work(lambda x: np.argpartition(x, len(x) // 2), lambda x: kn.argpartition(x, len(x) // 2), row),
    "median": Work(np.median, lambda x: kn.median(x), row),
    "median rows": Work(lambda x: np.median(x, 1), lambda x: kn.median(x, 1), square),
    "quantile": Work(lambda x: np.quantile(x, 0.3), lambda x: kn.quantile(x, 0.3), row),
    "searchsorted": Work(np.searchsorted, lambda a, v: kn.searchsorted(a, v), sorted_row),
    "unique": Work(np.unique, kn.unique, row, True),
    "nonzero": Work(lambda x, m: np.nonzero(m), lambda x, m: kn.nonzero(m), mask, True),
    "argmax": Work(np.argmax, lambda x: kn.argmax(x), row),
    "argmax rows": Work(lambda x: np.argmax(x, 1), lambda x: kn.argmax(x, 1), square),
    "argmax columns": Work(lambda x: np.argmax(x, 0), lambda x: kn.argmax(x, 0), square),
    "findmax": Work(lambda x: (np.max(x), np.argmax(x)), lambda x: kn.findmax(x), row),
    "dot": Work(np.dot, lambda x, y: kn.dot(x, y), two),
    "cumsum": Work(np.cumsum, lambda x: kn.cumsum(x), row),
    "cumsum rows": Work(lambda x: np.cumsum(x, 1), lambda x: kn.cumsum(x, 1), square),
    "cumsum columns": Work(lambda x: np.cumsum(x, 0), lambda x: kn.cumsum(x, 0), square),
    "cumprod": Work(np.cumprod, lambda x: kn.cumprod(x), row),
    "cummax": Work(np.maximum.accumulate, lambda x: kn.cummax(x), row),
    "x[i]": Work(lambda x, i, j: x[i], lambda x, i, j: x[i], places),
    "x[i] rows": Work(lambda x, i, y: x[i], lambda x, i, y: x[i], table),
    "take": Work(lambda x, i, j: np.take(x, i), lambda x, i, j: kn.take(x, i), places),
    "x[mask]": Work(lambda x, m: x[m], lambda x, m: x[m], mask, True),
    "x[i] = y": Work(write, write, single),
    "x[i] = y rows": Work(write, write, table),
    "add.at": Work(added, lambda x, i, y: summed(x.shape[0], i, y), single, kinds=FLOATS),
    "add.at 1000": Work(
        lambda x, i, j: added(x[:1000], j, x), lambda x, i, j: summed(1000, j, x), places, kinds=FLOATS
    ),
    "add.at rows": Work(added, lambda x, i, y: summed(x.shape[0], i, y), table, kinds=FLOATS),
    "bincount": Work(
        lambda x, i, j: np.bincount(j, minlength=1000), lambda x, i, j: kn.bincount(j, length=1000), places
    ),
    "bincount weights": Work(
        lambda x, i, j: np.bincount(j, x, 1000), lambda x, i, j: kn.bincount(j, x, length=1000), places
    ),
    "histogram": Work(lambda x: np.histogram(x, 100)[0], lambda x: kn.histogram(x, 100).hist, row),
}  # fmt: skip


def asked(function: Callable[..., Any]) -> Callable[..., Any]:
    """An eager function whose result, or the array that it has changed, is asked for."""

    def call(*arrays: Any) -> None:
        result = function(*arrays)
        if result is None:
            result = arrays[0]
        for part in result if isinstance(result, tuple) else (result,):
            part.numpy()

    return call


def once(function: Callable[..., Any], given: tuple[Any, ...], clock: Callable[[], float]) -> float:
    begin = clock()
    function(*given)
    return clock() - begin


def measure(work: Work, n: int, dtype: str, clock: Callable[[], float]) -> list[tuple[float, float]]:
    """Of NumPy, compiled and eager calls: the best of all rounds in seconds, and NumPy's time to it (median)."""
    given = work.given(np.random.default_rng(0), n, dtype)
    arrays = tuple(kn.array(x) for x in given)
    runs = [(work.numpy, given), (asked(work.knetc), arrays)]
    if not work.selects:
        runs.insert(1, (kn.compile(work.knetc), arrays))
    for function, inputs in runs[1:] * 3:
        function(*inputs)
    estimate = max(once(function, inputs, time.perf_counter) for function, inputs in runs)
    count = max(1, min(1000, int(SECONDS / ROUNDS / estimate / len(runs))))
    rounds = [
        [min(once(function, inputs, clock) for _ in range(count)) for function, inputs in runs]
        for _ in range(ROUNDS if estimate < 0.05 else 3)
    ]
    return [
        (min(times[k] for times in rounds), statistics.median(times[0] / times[k] for times in rounds))
        for k in range(len(runs))
    ]


def shown(found: list[tuple[float, float]], times: bool) -> str:
    *others, (eager, ratio) = found[1:]
    if times:
        compiled = f" {others[0][0] * 1e6:.4g}" if others else ""
        return f"{found[0][0] * 1e6:.4g}{compiled} ({eager * 1e6:.4g})"
    return f"{others[0][1]:.2f} ({ratio:.2f})" if others else f"({ratio:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="works whose names contain one of these")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**3, 10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--dtypes", nargs="*", default=DTYPES)
    parser.add_argument("--times", action="store_true", help="print microseconds")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    options = parser.parse_args()
    clock = time.process_time if options.processor else time.perf_counter
    for n in options.sizes:
        print(f"\n## {n:,} elements\n\n| work | {' | '.join(options.dtypes)} |\n|---{'|---' * len(options.dtypes)}|")
        for name, work in WORKS.items():
            if any(part in name for part in options.only):
                with np.errstate(all="ignore"):
                    cells = [
                        shown(measure(work, n, dtype, clock), options.times) if dtype in work.kinds else "–"
                        for dtype in options.dtypes
                    ]
                print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
