"""Programs of a few kernels that the stand-in driver's library knows, made by hand, and memory for them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from knetc.runtime.buffers import Buffer
from knetc.runtime.cuda import device as devices
from knetc.runtime.cuda.execute import Executable
from knetc.runtime.program import ArgumentRef, BufferSpec, Check, Cubin, GridLaunch, Program, Slot, Step

N = 8
CODE = b"FAKE\nscale @QQqdQQ\nnegative @QqQQQ\n"
CUBIN = Cubin("k_scale", "code", "scale", "sm_90a", 4, 1, 0, "@QQqdQQ", 2, 0, 0, 32, 0, "source")
NEGATIVE = replace(CUBIN, function="k_negative", entry="negative", parameters="@QqQQQ")


def argument(index: int) -> ArgumentRef:
    return ArgumentRef("buffer", index)


def scale(source: int, result: int, scalar: int = 0, **more: Any) -> Step:
    """``result = scalar * source``."""
    slots = (Slot("argument", 0), Slot("argument", 1), Slot("value", N), Slot("argument", 2))
    launch = GridLaunch("k_scale", (2, 3), slots)
    return Step(
        "scale", (argument(source), argument(result), ArgumentRef("scalar", scalar)), (), grids=(launch,), **more
    )


def chain(length: int, *, update: bool = False, check: bool = False) -> Program:
    """``x * a ** length`` through places in the arena; with ``check``, only of numbers that are not negative."""
    specs = [
        BufferSpec("input", "f64", (N,), 8 * N),
        BufferSpec("output", "f64", (N,), 8 * N, -1, 0 if update else -1),
        BufferSpec("arena", "f64", (N,), 8 * N, 0),
        BufferSpec("arena", "f64", (N,), 8 * N, 256),
    ]
    places = [0, *(2 + k % 2 for k in range(length - 1)), 1]
    steps = [scale(a, b) for a, b in pairwise(places)]
    checks = ()
    if check:
        slots = (Slot("argument", 0), Slot("value", N))
        steps.insert(0, Step("check", (argument(0),), (), check=0, grids=(GridLaunch("k_negative", (1,), slots),)))
        checks = (Check("{value} is negative", "LabelError", ("model.py:7",)),)
    return Program("cuda:sm_90", tuple(specs), ("f64",), tuple(steps), checks, 512, ("code",), cubins=(CUBIN, NEGATIVE))


def load(program: Program) -> Executable:
    return Executable(program, {"code": CODE}, devices.device(0))


def put(*numbers: float) -> Buffer:
    return devices.device(0).upload(np.resize(np.array(numbers, np.float64), N))


def get(buffer: Buffer) -> list[float]:
    back = np.empty(N)
    devices.device(0).read(buffer, 0, back)
    return back.tolist()  # type: ignore[no-any-return]


def new() -> Buffer:
    return devices.device(0).allocate(8 * N)
