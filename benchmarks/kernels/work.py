"""The memory-bound kernels that all contenders run, and the process side of a contender.

A contender is a script that calls ``serve({name: make})``: ``make(arrays)`` gives ``step()``, which does the whole work
once and returns its results as a tuple. It needs NumPy only, and runs in the contender's own interpreter.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

#: rows and columns, or parameters of adam: "cache" fits the second-level caches, "large" no cache
SIZES = {"cache": (512, 1024), "large": (4096, 4096)}
ADAM_SIZES = {"cache": 500_000, "large": 10_000_000}

#: how many arrays of the size of the first input each has to read and write at least
PASSES = {"gelu_bias": 2, "gelu_bias_grad": 3, "softmax_nll_grad": 2, "layernorm_grad": 3, "adam_update": 7}


def inputs(name: str, size: str) -> Arrays:
    """The arrays of a workload; the first is the large one."""
    random = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    rows, columns = SIZES[size]
    if name == "adam_update":
        return {"w": normal(ADAM_SIZES[size]), "g": normal(ADAM_SIZES[size])}
    if name == "softmax_nll_grad":
        return {"scores": normal(rows, columns), "labels": random.integers(0, columns, rows).astype(np.int32)}
    arrays = {"x": normal(rows, columns), "w": normal(columns), "b": normal(columns)}
    return arrays | ({"g": normal(rows, columns)} if name.endswith("_grad") else {})


def least_bytes(name: str, size: str) -> int:
    """What a run must move between processor and memory: each large array once."""
    first = next(iter(inputs(name, size).values()))
    return PASSES[name] * first.nbytes


def serve(makers: dict[str, Callable[[Arrays], Callable[[], Any]]]) -> None:
    """Read commands, one JSON object a line, and answer each with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not disturb the answers
    steps: list[Callable[[], Any]] = []
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "load":
                steps[:] = [makers[command["name"]](inputs(command["name"], command["size"]))]
                results = [np.asarray(value, np.float64) for value in steps[0]()]
                reply: dict[str, Any] = {"norms": [float(np.linalg.norm(value)) for value in results]}
            elif command["do"] == "copy":
                array = np.zeros(command["bytes"] // 8, np.float32)
                steps[:] = [makers["copy"]({"x": array})]
                reply = {}
            else:
                times = []
                for _ in range(command["count"]):
                    before = time.perf_counter()
                    steps[0]()
                    times.append(time.perf_counter() - before)
                reply = {"times": times}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:200]}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
