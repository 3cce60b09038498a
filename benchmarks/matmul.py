"""Speed of generated matrix products, alone or in turn with torch.

    python benchmarks/matmul.py                          # GFLOP/s of each size
    python benchmarks/matmul.py --peer /path/to/python   # and of torch under another interpreter
    python benchmarks/matmul.py --threads 1 --dtype float64 --only 1024

Each contender runs in a process of its own, so that their threads do not meet, and they take turns; the best of a
few rounds counts. With one thread, processor time is measured, which other processes on the machine disturb less.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROUNDS, BLOCKS, BLOCK_SECONDS = 2, 5, 0.02

SIZES = {  # (M, K, N), then which operands are stored transposed
    "digits": [
        (100, 784, 64, ""), (100, 64, 10, ""), (784, 100, 64, "a"), (64, 100, 10, "a"), (100, 10, 64, "b"),
        (10, 100, 64, ""), (64, 100, 784, ""),
    ],
    "wide": [
        (256, 784, 1024, ""), (256, 1024, 1024, ""), (256, 1024, 10, ""), (784, 256, 1024, "a"),
        (1024, 256, 1024, "a"), (1024, 256, 10, "a"), (256, 1024, 1024, "b"), (256, 10, 1024, "b"),
    ],
    "square": [(n, n, n, "") for n in (64, 256, 512, 1024, 2048)] + [(1024, 1024, 1024, t) for t in ("a", "b")],
    "thin": [(1, 1024, 1024, ""), (1024, 1024, 1, ""), (1, 1024, 1024, "b"), (64, 100_000, 64, "a")],
}  # fmt: skip


def label(size: tuple[int, int, int, str]) -> str:
    m, k, n, transposed = size
    return f"{m}x{k}x{n}" + (f" {transposed}T" if transposed else "")


def seconds(repeat: Callable[[int], object], one_thread: bool) -> float:
    """The shortest time of one product, over blocks of many."""
    clock = time.process_time if one_thread else time.perf_counter
    repeat(1)
    begin = clock()
    repeat(1)
    count = max(1, int(BLOCK_SECONDS / max(clock() - begin, 1e-7)))
    times = []
    for _ in range(BLOCKS):
        begin = clock()
        repeat(count)
        times.append((clock() - begin) / count)
    return min(times)


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy whose memory begins at a multiple of 64 bytes, as the runtime's does."""
    memory = np.empty(values.nbytes + 64, np.uint8)
    begin = -memory.ctypes.data % 64
    result = memory[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    result[...] = values
    return result


def operands(size: tuple[int, int, int, str], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    m, k, n, transposed = size
    rng = np.random.default_rng(0)
    a = aligned(rng.standard_normal((k, m) if "a" in transposed else (m, k)).astype(dtype))
    b = aligned(rng.standard_normal((n, k) if "b" in transposed else (k, n)).astype(dtype))
    return (a.T if "a" in transposed else a), (b.T if "b" in transposed else b)


def measure_knetc(sizes: list[tuple[int, int, int, str]], dtype: str, threads: int) -> dict[str, float]:
    from knetc.codegen.cpu import native
    from knetc.codegen.cpu.matmul import MatmulSpec, lower_matmul
    from knetc.codegen.cpu.pool import emit_pool
    from knetc.runtime.cpu.loader import Module
    from knetc.runtime.cpu.pool import Pool

    target = native.target()
    pool = Pool(threads)
    results = {}
    pool_object = native.compile_ir(emit_pool(), target)
    modules = []
    for size in sizes:
        a, b = operands(size, dtype)
        c = aligned(np.zeros((size[0], size[2]), dtype))
        strides = [tuple(stride // x.itemsize for stride in x.strides) for x in (a, b, c)]
        kernel = lower_matmul(MatmulSpec(a.dtype, (), size[0], size[2], size[1], *strides), target)
        workspace = aligned(np.zeros(kernel.workspace_bytes, np.uint8))
        lines, tables = [], []
        for launch in kernel.launches:
            meanings = {"argument": [x.ctypes.data for x in (a, b, c)].__getitem__, "value": lambda v: v}
            meanings["workspace"] = lambda v, base=workspace.ctypes.data: base + v
            table = np.array([meanings[slot.kind](slot.value) for slot in launch.slots], np.int64)
            tables.append(table)
            lines.append(f"  %t{len(lines)} = inttoptr i64 {table.ctypes.data} to ptr")
            lines.append(
                f"  call void @kn_parfor(ptr %pool, ptr @{launch.function}, ptr %t{len(lines) - 1}, "
                f"i64 {launch.count}, i64 {launch.grain}, i1 false)"
            )
        names = sorted({launch.function for launch in kernel.launches})
        text = "\n".join(
            [
                "declare void @kn_parfor(ptr, ptr, ptr, i64, i64, i1)",
                *(f"declare void @{name}(ptr, i64, i64, i32)" for name in names),
                "define void @repeat(ptr %pool, i64 %count) {\nentry:\n  br label %loop\nloop:",
                "  %i = phi i64 [ 0, %entry ], [ %next, %loop ]",
                *lines,
                "  %next = add i64 %i, 1\n  %more = icmp slt i64 %next, %count",
                "  br i1 %more, label %loop, label %done\ndone:\n  ret void\n}\n",
            ]
        )
        objects = [native.compile_ir(one, target) for one in (*kernel.functions.values(), text)]
        modules.append(Module([pool_object, *objects]))
        if not pool.started:
            pool.set_worker(modules[0]["kn_worker"])
        repeat = modules[-1].function("repeat", None, ctypes.c_void_p, ctypes.c_int64)
        results[label(size)] = seconds(lambda n, run=repeat: run(pool.address, n), threads == 1)
        np.testing.assert_allclose(c, a @ b, rtol=1e-3, atol=1e-2)
    if modules:
        modules[0].function("kn_stop", None, ctypes.c_void_p)(pool.address)  # before its code is unloaded
    return results


def measure_torch(sizes: list[tuple[int, int, int, str]], dtype: str, threads: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(threads)
    results = {}
    for size in sizes:
        a, b = (torch.from_numpy(x) for x in operands(size, dtype))
        c = torch.empty(size[0], size[2], dtype=a.dtype)

        def repeat(count: int, a: Any = a, b: Any = b, c: Any = c) -> None:
            for _ in range(count):
                torch.mm(a, b, out=c)

        results[label(size)] = seconds(repeat, threads == 1)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python interpreter that has torch")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--only", default="", help="measure the sizes whose name contains this")
    parser.add_argument("--contender", choices=("knetc", "torch"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [size for group in SIZES.values() for size in group if options.only in label(size)]
    if options.contender:
        measure = {"knetc": measure_knetc, "torch": measure_torch}[options.contender]
        print(json.dumps(measure(sizes, options.dtype, options.threads)))
        return
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for name, python in (("knetc", sys.executable), ("torch", options.peer)):
            if python is None:
                continue
            arguments = [python, __file__, "--contender", name, "--threads", str(options.threads)]
            arguments += ["--dtype", options.dtype, "--only", options.only]
            output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
            times = best.setdefault(name, {})
            for key, value in json.loads(output.splitlines()[-1]).items():
                times[key] = min(value, times.get(key, value))
    for size in sizes:
        operations = 2e-9 * size[0] * size[1] * size[2]
        line = f"{label(size):20}"
        for name, times in best.items():
            line += f"  {name} {1e6 * times[label(size)]:10.1f} us {operations / times[label(size)]:6.0f} GFLOP/s"
        if "torch" in best:
            line += f"  torch/knetc {best['torch'][label(size)] / best['knetc'][label(size)]:5.2f}"
        print(line)


if __name__ == "__main__":
    main()
