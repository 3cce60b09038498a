"""Kernels bound by memory on a GPU, against a copy of as many bytes in the same run.

The bytes of a piece of work are those that it must move at least: each input once, each result once.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import measure

import knetc as kn


class Piece(NamedTuple):
    """A piece of work: a compiled function, what it is called with, and how many bytes it moves."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    size_bytes: int


Fill = Callable[..., Any]
"""Makes an array of a dtype and a shape: ``fill("bfloat16", 3, 4)``."""

Maker = Callable[[Fill, int, int, str], Piece]
"""The piece of work for so many rows and columns of a dtype."""


def normal(dtype: str, *shape: int) -> Any:
    return kn.randn(*shape).astype(dtype)


def elementwise(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    x, w, b = fill(dtype, rows, columns), fill(dtype, columns), fill(dtype, columns)
    return Piece(kn.compile(lambda x, w, b: kn.gelu(x * w + b, approximate="tanh")), (x, w, b), 2 * x.nbytes)


def elementwise_grad(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    x, g = kn.Param(fill(dtype, rows, columns)), fill(dtype, rows, columns)
    w, b = kn.Param(fill(dtype, columns)), kn.Param(fill(dtype, columns))

    @kn.compile
    def run(g: Any) -> Any:
        tape = kn.diff(lambda: kn.sum(kn.gelu(x * w + b, approximate="tanh") * g))
        return [kn.grad(tape, p) for p in (x, w, b)]

    return Piece(run, (g,), 3 * g.nbytes)


def softmax(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    x = fill(dtype, rows, columns)
    return Piece(kn.compile(lambda x: kn.softmax(x, axis=-1)), (x,), 2 * x.nbytes)


def layernorm(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    x, w, b = fill(dtype, rows, columns), fill(dtype, columns), fill(dtype, columns)
    return Piece(kn.compile(lambda x, w, b: kn.layernorm(x, w, b)), (x, w, b), 2 * x.nbytes)


def layernorm_grad(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    x, g = kn.Param(fill(dtype, rows, columns)), fill(dtype, rows, columns)
    w, b = kn.Param(fill(dtype, columns)), kn.Param(fill(dtype, columns))

    @kn.compile
    def run(g: Any) -> Any:
        tape = kn.diff(lambda: kn.sum(kn.layernorm(x, w, b) * g))
        return [kn.grad(tape, p) for p in (x, w, b)]

    return Piece(run, (g,), 3 * g.nbytes)


def cross_entropy(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    scores = kn.Param(fill(dtype, rows, columns))
    labels = kn.randint(0, columns, (rows,))

    @kn.compile
    def run(labels: Any) -> Any:
        tape = kn.diff(lambda: kn.nll(scores, labels))
        return kn.value(tape), kn.grad(tape, scores)

    return Piece(run, (labels,), 2 * scores.nbytes)


def adam(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    w, g = kn.Param(fill(dtype, rows * columns), kn.Adam()), fill(dtype, rows * columns)

    @kn.compile
    def run(g: Any) -> None:
        kn.update(w, g)

    state = sum(box.nbytes for box in w.opt.boxes())
    return Piece(run, (g,), 2 * w.nbytes + g.nbytes + 2 * state)


def adam_of_many(fill: Fill, rows: int, columns: int, dtype: str) -> Piece:
    """Updates of 48 Params of different sizes, odd ones too, in few launches."""
    sizes = [max(rows * columns // 48 - 13 * k, 1) for k in range(48)]
    ws = [kn.Param(fill(dtype, n), kn.Adam()) for n in sizes]
    gs = [fill(dtype, n) for n in sizes]

    @kn.compile
    def run(gs: Any) -> None:
        for w, g in zip(ws, gs):
            kn.update(w, g)

    state = sum(box.nbytes for w in ws for box in w.opt.boxes())
    return Piece(run, (gs,), sum(2 * w.nbytes + g.nbytes for w, g in zip(ws, gs)) + 2 * state)


KERNELS: dict[str, Maker] = {
    "gelu(x * w + b)": elementwise,
    "gelu(x * w + b), gradients": elementwise_grad,
    "softmax": softmax,
    "layernorm": layernorm,
    "layernorm, gradients": layernorm_grad,
    "cross-entropy and gradient": cross_entropy,
    "Adam": adam,
    "Adam, 48 Params": adam_of_many,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--columns", type=int, nargs="*", default=[1024, 8192])
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--only", default="", help="a part of the names of what is to be measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=600, help="begin nothing after this time")
    options = parser.parse_args()
    print(f"{measure.use()}\n")
    kn.set_default(device="cuda")
    head = ("kernel", "dtype", "shape", "µs", "GB/s", "copy GB/s", "of the copy")
    table = measure.Table(*head, seconds=options.seconds)
    chosen = {name: make for name, make in KERNELS.items() if options.only in name}
    for dtype in options.dtypes:
        for columns in options.columns:
            for name, make in chosen.items():
                cells = name, dtype, f"{options.rows} x {columns}"
                if table.late:
                    table.row(*cells, "no time left")
                    continue
                with table.trying(*cells):
                    kn.seed(1)
                    run, arguments, size_bytes = make(normal, options.rows, columns, dtype)
                    works = {"ours": functools.partial(run, *arguments), "copy": measure.copying(size_bytes)}
                    found = measure.in_turn(works, options.rounds)
                    ours, copy = (f"{size_bytes / t / 1e6:.0f}" for t in found.values())
                    share = f"{100 * found['copy'] / found['ours']:.0f} %"
                    table.row(*cells, f"{1e3 * found['ours']:.0f}", ours, copy, share)
                run = arguments = works = found = None  # type: ignore[assignment]
                kn.gc()
    table.close()


if __name__ == "__main__":
    main()
