"""Kernels bound by memory on a GPU, against a copy of as many bytes in the same run.

The bytes of a piece of work are those that it must move at least: each input once, each result once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import measure

import knetc as kn

Maker = Callable[[int, int, str], tuple[Callable[[], Any], int]]
"""Rows, columns, dtype -> the work, and how many bytes it moves."""


def normal(dtype: str, *shape: int) -> Any:
    return kn.randn(*shape).astype(dtype)


def elementwise(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    x, w, b = normal(dtype, rows, columns), normal(dtype, columns), normal(dtype, columns)
    run = kn.compile(lambda x, w, b: kn.gelu(x * w + b, approximate="tanh"))
    return lambda: run(x, w, b), 2 * x.nbytes


def elementwise_grad(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    x, g = kn.Param(normal(dtype, rows, columns)), normal(dtype, rows, columns)
    w, b = kn.Param(normal(dtype, columns)), kn.Param(normal(dtype, columns))

    @kn.compile
    def run(g: Any) -> Any:
        tape = kn.diff(lambda: kn.sum(kn.gelu(x * w + b, approximate="tanh") * g))
        return [kn.grad(tape, p) for p in (x, w, b)]

    return lambda: run(g), 3 * g.nbytes


def softmax(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    x = normal(dtype, rows, columns)
    run = kn.compile(lambda x: kn.softmax(x, axis=-1))
    return lambda: run(x), 2 * x.nbytes


def layernorm(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    x, w, b = normal(dtype, rows, columns), normal(dtype, columns), normal(dtype, columns)
    run = kn.compile(lambda x, w, b: kn.layernorm(x, w, b))
    return lambda: run(x, w, b), 2 * x.nbytes


def layernorm_grad(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    x, g = kn.Param(normal(dtype, rows, columns)), normal(dtype, rows, columns)
    w, b = kn.Param(normal(dtype, columns)), kn.Param(normal(dtype, columns))

    @kn.compile
    def run(g: Any) -> Any:
        tape = kn.diff(lambda: kn.sum(kn.layernorm(x, w, b) * g))
        return [kn.grad(tape, p) for p in (x, w, b)]

    return lambda: run(g), 3 * g.nbytes


def cross_entropy(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    scores = kn.Param(normal(dtype, rows, columns))
    labels = kn.randint(0, columns, (rows,))

    @kn.compile
    def run(labels: Any) -> Any:
        tape = kn.diff(lambda: kn.nll(scores, labels))
        return kn.value(tape), kn.grad(tape, scores)

    return lambda: run(labels), 2 * scores.nbytes


def adam(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    w, g = kn.Param(normal(dtype, rows * columns), kn.Adam()), normal(dtype, rows * columns)

    @kn.compile
    def run(g: Any) -> None:
        kn.update(w, g)

    state = sum(box.nbytes for box in w.opt.boxes())
    return lambda: run(g), 2 * w.nbytes + g.nbytes + 2 * state


def adam_of_many(rows: int, columns: int, dtype: str) -> tuple[Callable[[], Any], int]:
    """Updates of 48 Params of different sizes, odd ones too, in few launches."""
    sizes = [max(rows * columns // 48 - 13 * k, 1) for k in range(48)]
    ws = [kn.Param(normal(dtype, n), kn.Adam()) for n in sizes]
    gs = [normal(dtype, n) for n in sizes]

    @kn.compile
    def run(gs: Any) -> None:
        for w, g in zip(ws, gs):
            kn.update(w, g)

    state = sum(box.nbytes for w in ws for box in w.opt.boxes())
    return lambda: run(gs), sum(2 * w.nbytes + g.nbytes for w, g in zip(ws, gs)) + 2 * state


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
                    work, size_bytes = make(options.rows, columns, dtype)
                    found = measure.in_turn({"ours": work, "copy": measure.copying(size_bytes)}, options.rounds)
                    ours, copy = (f"{size_bytes / t / 1e6:.0f}" for t in found.values())
                    share = f"{100 * found['copy'] / found['ours']:.0f} %"
                    table.row(*cells, f"{1e3 * found['ours']:.0f}", ours, copy, share)
                work = found = None  # type: ignore[assignment]
                kn.gc()
    table.close()


if __name__ == "__main__":
    main()
