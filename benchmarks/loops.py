"""The cost of loops: a scan of 1,000 iterations of small work, against the same unrolled, and against ``jax.lax.scan``.

    python benchmarks/loops.py                          # knetc alone
    python benchmarks/loops.py --peer /path/to/python   # and JAX under another interpreter

Microseconds an iteration, the best of several runs. ``rnn`` is ``h = tanh(h @ w + x)`` with matrices of 64x64; ``tiny``
is ``c = c * 0.5 + x`` on 16 numbers, which shows what an iteration costs beside its kernels. Contenders run in
processes of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LENGTH, UNROLLED, SIZE, RUNS = 1000, 100, 64, 12


def arrays(length: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    return (
        np.zeros((SIZE, SIZE), np.float32),
        rng.standard_normal((length, SIZE, SIZE)).astype(np.float32),
        (rng.standard_normal((SIZE, SIZE)) / SIZE).astype(np.float32),
    )


def best(run: Callable[[], Any], iterations: int) -> tuple[float, float]:
    """Microseconds an iteration, and seconds of the first call."""
    begin = time.perf_counter()
    run()
    first = time.perf_counter() - begin
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1e6 * min(times) / iterations, first


def programs(np_like: Any, scan: Any, gradient: Any) -> dict[str, Callable[..., Any]]:
    """The work, written once for both libraries."""

    def rnn(h: Any, xs: Any, w: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            return np_like.tanh(h @ w + x), None

        return scan(step, h, xs)[0]

    def states(h: Any, xs: Any, w: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = np_like.tanh(h @ w + x)
            return h, h

        return scan(step, h, xs)

    def loss(w: Any, h: Any, xs: Any) -> Any:
        return np_like.sum(states(h, xs, w)[1] ** 2)

    def tiny(c: Any, xs: Any) -> Any:
        return scan(lambda c, x: (c * 0.5 + x, None), c, xs)[0]

    return {"rnn": rnn, "rnn states": states, "rnn gradient": gradient(loss), "tiny": tiny}


def measured(make: dict[str, Callable[..., Any]], compile: Any, convert: Any, wait: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    h, xs, w = map(convert, arrays(LENGTH))
    small = [convert(np.ones(16, np.float32)), convert(np.ones((LENGTH, 16), np.float32))]
    given = {"rnn": [h, xs, w], "rnn states": [h, xs, w], "rnn gradient": [w, h, xs], "tiny": small}
    for name, function in make.items():
        compiled = compile(function)
        found[name] = best(lambda f=compiled, a=given[name]: wait(f(*a)), LENGTH)  # type: ignore[misc]
    return found


def ours() -> dict[str, Any]:
    import knetc as kn

    def unrolled(step: Any, carry: Any, xs: Any) -> Any:
        ys = []
        for k in range(xs.shape[0]):
            carry, y = step(carry, xs[k])
            ys.append(y)
        return carry, None if ys[0] is None else kn.stack(ys)

    def no_wait(value: Any) -> Any:
        return value

    found = measured(programs(kn, kn.scan, kn.grad), kn.compile, kn.array, no_wait)
    h, xs, w = map(kn.array, arrays(UNROLLED))
    small = [kn.ones(16), kn.ones((UNROLLED, 16))]
    plain = programs(kn, unrolled, kn.grad)
    for name, given in {"rnn": [h, xs, w], "rnn gradient": [w, h, xs], "tiny": small}.items():
        compiled = kn.compile(plain[name])
        found[f"{name}, unrolled"] = best(lambda f=compiled, a=given: f(*a), UNROLLED)  # type: ignore[misc]
    return found


def peer() -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    return measured(programs(jnp, jax.lax.scan, jax.grad), jax.jit, jnp.asarray, jax.block_until_ready)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", help="an interpreter that has JAX")
    parser.add_argument("--contender", choices=("knetc", "jax"), help="measure one and print JSON")
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(ours() if options.contender == "knetc" else peer()))
        return
    contenders = [("knetc", sys.executable), *([("jax", options.peer)] if options.peer else [])]
    for name, python in contenders:
        text = subprocess.run(
            [python, __file__, "--contender", name], check=True, capture_output=True, text=True
        ).stdout
        for work, (microseconds, first) in json.loads(text).items():
            print(f"{name:6} {work:24} {microseconds:8.3f} us an iteration, first call {first:.2f} s")


if __name__ == "__main__":
    main()
