"""Matrix products on a GPU: by cuBLASLt, by the generated kernel that the model chooses, and as measuring chooses."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import measure
from knetc.runtime.base.config import config

import knetc as kn


class Case(NamedTuple):
    """``A[m, k] @ B[k, n]``, A stored as its transpose if ``transposed`` (as gradients for weights have it)."""

    m: int
    n: int
    k: int
    transposed: bool = False


CASES = (
    Case(4096, 4096, 4096),
    Case(8192, 4096, 4096),
    Case(16384, 2048, 2048),
    Case(256, 1024, 1024),
    Case(1024, 1024, 256, True),
    Case(1024, 1024, 65536, True),
    Case(256, 256, 65536, True),
    Case(65536, 10, 1024),
)
WAYS = {"cuBLASLt": (True, False), "the model's": (False, False), "measured": (False, True)}
"""Whether the library may make a product, and whether kernels are measured."""


def works(case: Case, dtype: str) -> dict[str, measure.Work]:
    """The ways in which a product is made."""
    m, n, k, transposed = case
    a, b = (kn.randn(*shape).astype(dtype) for shape in ((k, m) if transposed else (m, k), (k, n)))
    found = {}
    for name, (library, tune) in WAYS.items():
        config.cublas = library
        run: Any = kn.compile(lambda a, b: (a.T if transposed else a) @ b, tune=tune)
        run(a, b)
        found[name] = lambda run=run: run(a, b)
    config.cublas = True
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32 as tf32", "float32", "float64"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600, help="begin nothing after this time")
    options = parser.parse_args()
    print(f"{measure.use()}\n")
    kn.set_default(device="cuda")
    table = measure.Table("dtype", "product", *(f"{name}, TFLOP/s" for name in WAYS), seconds=options.seconds)
    for dtype in options.dtypes:
        name, _, less = dtype.partition(" as ")
        kn.set_default(precision="default" if less else "highest")
        for case in CASES:
            cells = dtype, f"[{case.m}, {case.k}] by [{case.k}, {case.n}]{', transposed' * case.transposed}"
            if table.late or (name == "float64" and case.m * case.n * case.k > 1 << 34):
                continue
            with table.trying(*cells):
                times = measure.in_turn(works(case, name), options.rounds)
                table.row(*cells, *(f"{2e-9 * case.m * case.n * case.k / t:.1f}" for t in times.values()))
            kn.gc()
    table.close()


if __name__ == "__main__":
    main()
