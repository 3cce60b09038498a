"""What starting costs: importing knetc, and the first call of a small training step, with and without a warm cache.

    python benchmarks/startup.py [--rounds 5]

Every figure is the median over fresh processes, in seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

IMPORT = """
import time
before = time.perf_counter()
import knetc
print(time.perf_counter() - before)
"""

FIRST_CALL = """
import sys, time
import numpy as np
import knetc as kn

rng = np.random.default_rng(0)
x, labels = rng.random((100, 784), dtype=np.float32), rng.integers(0, 10, 100).astype(np.int32)
w1, b1, w2, b2 = kn.param(64, 784), kn.param0(64), kn.param(10, 64), kn.param0(10)
weights = (w1, b1, w2, b2)

@kn.compile
def train(x, labels):
    tape = kn.diff(lambda: kn.nll(kn.relu(x @ w1.T + b1) @ w2.T + b2, labels))
    for w in weights:
        kn.update(w, kn.grad(tape, w), kn.SGD(lr=0.1))
    return kn.value(tape)

x, labels = kn.array(x), kn.array(labels)
for w in weights:
    w.value.shape, np.asarray(w)
before = time.perf_counter()
float(train(x, labels))
print(time.perf_counter() - before, *(name for name in ("llvmlite", "networkx") if name in sys.modules))
"""


def fresh(code: str, cache: str) -> tuple[float, list[str]]:
    environment = {**os.environ, "KNETC_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    return float(seconds), modules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as warm:
        fresh(FIRST_CALL, warm)
        imports, cold, warmed, found = [], [], [], set[str]()
        for _ in range(rounds):
            imports.append(fresh(IMPORT, warm)[0])
            with tempfile.TemporaryDirectory() as empty:
                cold.append(fresh(FIRST_CALL, empty)[0])
            seconds, modules = fresh(FIRST_CALL, warm)
            warmed.append(seconds)
            found.update(modules)
    print(f"import knetc                          {statistics.median(imports):.3f}")
    print(f"first call of mlp_small, empty cache  {statistics.median(cold):.3f}")
    print(f"first call of mlp_small, warm cache   {statistics.median(warmed):.3f}")
    print(f"modules of the compiler imported with a warm cache: {', '.join(sorted(found)) or 'none'}")


if __name__ == "__main__":
    main()
