"""How exact the functions made of integrals are: errors in ulp against mpmath, over the ranges that are named.

Run: ``python benchmarks/accuracy_integrals.py [count]``, count being the points of each range (200).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np

import knetc as kn

mp = mpmath.mp.clone()
mp.dps = 120

Rows = tuple[np.ndarray, ...]


def ranges(random: np.random.Generator, count: int) -> Iterator[tuple[str, str, Callable[..., Any], Any, Rows]]:
    """Name, range, function, exact function, arguments."""

    def powers(low: float, high: float) -> np.ndarray:
        return 10.0 ** random.uniform(low, high, count)

    def near(mean: np.ndarray, spread: np.ndarray, width: float) -> np.ndarray:
        return mean + random.uniform(-width, width, count) * spread

    def upper(a: Any, x: Any) -> Any:
        return mp.gammainc(a, x, mp.inf, regularized=True)

    def lower(a: Any, x: Any) -> Any:
        return mp.gammainc(a, 0, x, regularized=True)

    signs = np.where(random.random(count) < 0.5, -1.0, 1.0)
    small, middle, large = powers(-6, 1.3), powers(1.3, 2.2), powers(2.2, 4)
    for name, function, exact in (("gammainc", kn.gammainc, lower), ("gammaincc", kn.gammaincc, upper)):
        yield name, "a < 20, x/a from 0.01 to 10", function, exact, (small, small * powers(-2, 1))
        yield name, "a < 160, all tails above 1e-300", function, exact, (middle, middle * random.uniform(0.1, 3, count))
        yield name, "a < 10⁴, four deviations", function, exact, (large, near(large, np.sqrt(large), 4))

    def share(a: Any, b: Any, x: Any) -> Any:
        return mp.betainc(a, b, 0, x, regularized=True)

    for low, high, text in ((0, 1, "a, b from 1 to 10"), (1, 3, "from 10 to 1000"), (-2, 0, "from 0.01 to 1")):
        a, b = powers(low, high), powers(low, high)
        deviation = np.sqrt(a * b / (a + b + 1)) / (a + b)
        x = np.clip(near(a / (a + b), deviation, 4), 1e-9, 1 - 1e-7)
        yield "betainc", text, kn.betainc, share, (a, b, x)
    yield "zeta", "s to 20, q to 1000", kn.zeta, lambda s, q: mp.zeta(s, q), (1 + powers(-3, 1.3), powers(-2, 3))
    yield "exp1", "x to 300", kn.exp1, mp.e1, (powers(-8, 2.5),)
    yield "expn", "n = 3, x to 300", lambda x: kn.expn(3, x), lambda x: mp.expint(3, x), (powers(-8, 2.5),)
    away = signs * powers(-8, 2.5)
    yield "expi", "x to 300, not next to its zero", kn.expi, mp.ei, (np.where(abs(away - 0.37) < 0.1, 1.0, away),)
    dawson: Callable[[Any], Any] = lambda x: mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x)  # noqa: E731
    yield "dawsn", "x to 30", kn.dawsn, dawson, (signs * powers(-8, 1.5),)
    yield "spence", "x to 1000", kn.spence, lambda x: mp.re(mp.polylog(2, 1 - x)), (powers(-8, 3),)
    for order, plain, scaled in ((0, kn.i0, kn.i0e), (1, kn.i1, kn.i1e)):
        yield f"i{order}", "x to 500", plain, lambda x, n=order: mp.besseli(n, x), (signs * powers(-6, 2.7),)
        exact = lambda x, n=order: mp.besseli(n, x) * mp.exp(-abs(x))  # noqa: E731
        yield f"i{order}e", "x to 500", scaled, exact, (signs * powers(-6, 2.7),)


def errors(function: Callable[..., Any], exact: Any, rows: Rows, dtype: str) -> list[float]:
    """Of each point in ulp, the greatest last."""
    given = [row.astype(dtype) for row in rows]
    found = np.asarray(function(*map(kn.array, given)))
    result = []
    for value, *point in zip(found, *given):
        truth = exact(*(mp.mpf(float(v)) for v in point))
        if np.finfo(dtype).smallest_normal < abs(truth) < np.finfo(dtype).max:
            ulp = float(np.spacing(np.asarray(abs(float(truth)), dtype)))
            result.append(float(abs(mp.mpf(float(value)) - truth) / ulp))
    return sorted(result)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print("| function | arguments | float64: median | 90 % below | greatest | float32: greatest |")
    print("|---|---|---|---|---|---|")
    for name, text, function, exact, rows in ranges(np.random.default_rng(7), count):
        wide, narrow = (errors(function, exact, rows, dtype) for dtype in ("float64", "float32"))
        shown = f"{wide[len(wide) // 2]:.2f} | {wide[len(wide) * 9 // 10]:.2f} | {wide[-1]:.3g} | {narrow[-1]:.2f}"
        print(f"| `{name}` | {text} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
