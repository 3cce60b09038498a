"""Every elementwise function and reduction against NumPy, PyTorch and JAX, and against our own copy of the same bytes.

    python benchmarks/elementwise.py [--peers PYTHON] [--only exp,sin] [--dtypes float32] [--sizes 10000,1000000]

``--peers`` is a Python that has torch and jax. Each contender runs in a process of its own and they take turns, so that
a machine whose speed drifts slows all alike. NumPy and PyTorch write into memory that they are given. ``ratio`` is the
time of the fastest peer that is at least as accurate (by the largest error over the arguments of the benchmark, in ulp,
with half an ulp of grace) to ours, the median over rounds: over 1, knetc is faster. ``copy`` is our rate in bytes
beside that of our own copy.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Make = Callable[[str, list[np.ndarray]], Callable[[], Any]]

#: name -> where its arguments lie; two intervals for functions of two arguments
FUNCTIONS: dict[str, tuple[tuple[float, float], ...]] = {
    **dict.fromkeys(
        ("negative", "abs", "square", "sign", "floor", "rint", "trunc", "exp", "exp2", "expm1", "sin", "cos", "tan"),
        ((-4.0, 4.0),),
    ),
    **dict.fromkeys(
        ("sinh", "cosh", "tanh", "atan", "asinh", "erf", "erfc", "sigmoid", "softplus", "relu", "gelu", "silu"),
        ((-4.0, 4.0),),
    ),
    **dict.fromkeys(
        ["sqrt", "rsqrt", "reciprocal", "cbrt", "log", "log2", "log10", "log1p", "lgamma", "digamma"], ((0.1, 9.0),)
    ),
    **dict.fromkeys(["asin", "acos", "atanh", "erfinv"], ((-0.99, 0.99),)),
    "acosh": ((1.0, 9.0),),
    **dict.fromkeys(
        ["add", "subtract", "multiply", "maximum", "copysign", "less", "atan2", "hypot", "logaddexp"],
        ((-4.0, 4.0), (-4.0, 4.0)),
    ),
    **dict.fromkeys(["true_divide", "mod", "fmod", "floor_divide"], ((-40.0, 40.0), (0.5, 4.0))),
    "power": ((0.1, 4.0), (-3.0, 3.0)),
    **dict.fromkeys(["sum", "prod", "max", "argmax", "mean", "var", "any"], ((0.9, 1.1),)),
    "dot": ((0.9, 1.1), (0.9, 1.1)),
}
REDUCTIONS = ("sum", "prod", "max", "argmax", "mean", "var", "dot", "any")


def arguments(name: str, dtype: str, size: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    found = [random.uniform(low, high, size).astype(dtype) for low, high in FUNCTIONS[name]]
    return [np.zeros_like(found[0])] if name == "any" else found


# --- the contenders --------------------------------------------------------------------------------------------------


def knetc() -> Make:
    import knetc as kn

    special = {"copy": lambda x, *_: -x}

    def make(name: str, arrays: list[np.ndarray]) -> Callable[[], Any]:
        function = kn.compile(special.get(name) or getattr(kn, name))
        given = [kn.array(a) for a in arrays]
        return lambda: function(*given)

    return make


def numpy() -> Make:
    special = {
        "abs": np.absolute, "atan": np.arctan, "asinh": np.arcsinh, "asin": np.arcsin, "acos": np.arccos,
        "atanh": np.arctanh, "acosh": np.arccosh, "atan2": np.arctan2, "any": np.any,
    }  # fmt: skip

    def make(name: str, arrays: list[np.ndarray]) -> Callable[[], Any]:
        function = special.get(name) or getattr(np, name)
        if name in REDUCTIONS:
            return lambda: function(*arrays)
        out = np.asarray(function(*arrays))
        return lambda: function(*arrays, out=out)

    return make


def torch() -> Make:
    import torch as t

    t.set_num_threads(len(os.sched_getaffinity(0)))
    f, s = t.nn.functional, t.special
    special: dict[str, Any] = {
        "cbrt": None, "rint": t.round, "max": t.amax, "power": t.pow, "mod": t.remainder, "less": t.lt,
        "softplus": f.softplus, "relu": t.relu, "gelu": f.gelu, "silu": f.silu,
        "lgamma": t.lgamma, "erfinv": s.erfinv, "subtract": t.sub, "var": lambda x: t.var(x, correction=0),
    }  # fmt: skip

    def make(name: str, arrays: list[np.ndarray]) -> Callable[[], Any]:
        function = special.get(name) or getattr(t, name)
        given = [t.from_numpy(a.copy()) for a in arrays]
        try:
            out = function(*given)
            function(*given, out=out)
        except TypeError:
            return lambda: function(*given)
        return (lambda: function(*given)) if name in REDUCTIONS else (lambda: function(*given, out=out))

    return make


def jax() -> Make:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax as j
    import jax.numpy as jnp

    j.config.update("jax_enable_x64", True)
    special = {
        "rsqrt": j.lax.rsqrt, "erf": j.lax.erf, "erfc": j.lax.erfc, "erfinv": j.lax.erf_inv, "lgamma": j.lax.lgamma,
        "digamma": j.lax.digamma, "sigmoid": j.nn.sigmoid, "softplus": j.nn.softplus, "relu": j.nn.relu,
        "gelu": lambda x: j.nn.gelu(x, approximate=False), "silu": j.nn.silu,
        "atan": jnp.arctan, "asin": jnp.arcsin, "acos": jnp.arccos, "asinh": jnp.arcsinh, "acosh": jnp.arccosh,
        "atanh": jnp.arctanh, "atan2": jnp.arctan2,
    }  # fmt: skip

    def make(name: str, arrays: list[np.ndarray]) -> Callable[[], Any]:
        function, given = j.jit(special.get(name) or getattr(jnp, name)), [jnp.asarray(a) for a in arrays]
        return lambda: function(*given).block_until_ready()

    return make


CONTENDERS = {"knetc": knetc, "numpy": numpy, "torch": torch, "jax": jax}


def serve(contender: str) -> None:
    """Read commands, one JSON object a line, and answer each with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not disturb the answers
    make, step = CONTENDERS[contender](), None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "load":
                step = make(command["name"], arguments(*command["of"]))
                result = np.asarray(step()).ravel()
                reply: dict[str, Any] = {"sample": result[:2000].astype(np.float64).tolist()}
            else:
                assert step is not None
                times, end = [], time.perf_counter() + command["seconds"]
                while not times or times[-1] < end:
                    times.append(time.perf_counter())
                    for _ in range(command["count"]):
                        step()
                    times.append(time.perf_counter())
                reply = {"time": statistics.median(b - a for a, b in zip(times[::2], times[1::2])) / command["count"]}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:200]}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


# --- the contest -----------------------------------------------------------------------------------------------------


class Contender:
    """A process that runs the functions."""

    def __init__(self, name: str, python: str, log: Any) -> None:
        command = [python, str(Path(__file__).resolve()), "--serve", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}


def largest_error(name: str, dtype: str, arrays: list[np.ndarray], sample: list[float]) -> float:
    """In ulp; NaN where no exact values are known."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from vector_math_cases import REFERENCES, errors

    exact = {
        "power": "pow", "true_divide": np.true_divide, "hypot": np.hypot, "softplus": lambda x: np.log1p(np.exp(x)),
        "sqrt": np.sqrt, "reciprocal": np.reciprocal,
    }.get(name, name)  # fmt: skip
    reference = REFERENCES.get(exact) if isinstance(exact, str) else exact
    if reference is None:
        return float("nan")
    count = len(sample)
    truth = reference(*(a[:count].astype(np.longdouble) for a in arrays))
    found = errors(np.array(sample).astype(dtype), truth)
    return float(np.where(abs(truth) < 0.1, 0, found).max() if name == "logaddexp" else found.max())


def compare(name: str, dtype: str, size: int, contenders: dict[str, Contender], options: argparse.Namespace) -> str:
    """A line of the table."""
    arrays = arguments(name, dtype, size)
    error, taking_part, counts = {}, {}, {}
    for who, contender in contenders.items():
        reply = contender.ask(do="load", name="copy" if who == "copy" else name, of=[name, dtype, size])
        if "error" in reply:
            continue
        taking_part[who] = contender
        if who != "copy" and name not in REDUCTIONS:
            error[who] = largest_error(name, dtype, arrays, reply["sample"])
        first = contender.ask(do="time", count=3, seconds=0)["time"]
        counts[who] = max(1, int(0.002 / max(first, 1e-7)))
    times: dict[str, list[float]] = {who: [] for who in taking_part}
    for _ in range(options.rounds):
        for who, contender in taking_part.items():
            times[who].append(contender.ask(do="time", count=counts[who], seconds=options.seconds)["time"])
    ours, itself = times["knetc"], np.dtype(dtype).itemsize
    accurate = [
        who
        for who in times
        if who not in ("knetc", "copy") and not error.get(who, 0) > max(error.get("knetc", 0), 1.0) + 0.5
    ]
    ratios = [min(times[who][k] for who in accurate) / t for k, t in enumerate(ours)] if accurate else []
    moved = len(arrays) * itself + (0 if name in REDUCTIONS else 1 if name == "less" else itself)
    share = statistics.median(c / t for c, t in zip(times["copy"], ours)) * moved / (2 * itself)
    columns = [
        f"{1e6 * statistics.median(times[who]):.4g}{'' if who in accurate or who == 'knetc' else '*'}"
        if who in times
        else "–"
        for who in CONTENDERS
    ]
    ulp = f"{error['knetc']:.2f}" if error.get("knetc", math.nan) >= 0 else "–"
    ratio = f"{statistics.median(ratios):.2f}" if ratios else "–"
    return f"| {name} | {dtype} | {size:,} | {' | '.join(columns)} | {ratio} | {share:.0%} | {ulp} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", metavar="PYTHON")
    parser.add_argument("--only", default=",".join(FUNCTIONS))
    parser.add_argument("--dtypes", default="float32,float64")
    parser.add_argument("--sizes", default="10000,1000000,10000000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.01, help="time of a contender in a round")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with open(Path(tempfile.mkdtemp(prefix="elementwise-")) / "log.txt", "w") as log:
        print(f"what the contenders say: {log.name}", file=sys.stderr)
        contenders = {"knetc": Contender("knetc", sys.executable, log), "copy": Contender("knetc", sys.executable, log)}
        contenders["numpy"] = Contender("numpy", sys.executable, log)
        if options.peers:
            contenders |= {who: Contender(who, options.peers, log) for who in ("torch", "jax")}
        print("| function | dtype | elements | knetc µs | NumPy | PyTorch | JAX | ratio | copy | ulp |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for name in options.only.split(","):
            for dtype in options.dtypes.split(","):
                for size in map(int, options.sizes.split(",")):
                    print(compare(name, dtype, size, contenders, options), flush=True)


if __name__ == "__main__":
    main()
