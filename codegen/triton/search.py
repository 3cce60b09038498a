"""Kernels that look for elements that fail a test, and report one of them in the program's failure record."""

from __future__ import annotations

import numpy as np
from knetc.codegen.kernel import Kernel
from knetc.codegen.triton import model
from knetc.codegen.triton.emitter import pointer_type
from knetc.codegen.triton.source import Header, Prelude, render
from knetc.codegen.triton.writer import Launches
from knetc.runtime.base import dtypes
from knetc.runtime.program import Slot

_LEAST = -(1 << 63)


def outside(dtype: np.dtype, size: int, low: int, high: int) -> Kernel:
    """Looks for a number outside of ``low <= x < high``, and reports it."""
    limits = np.iinfo(dtype)
    tests = [f"(x < {low})"] if low > limits.min else []
    tests += [f"(x >= {high})"] if high <= limits.max else []
    return _search(dtype, size, " | ".join(tests), "x.to(tl.int64)") if tests else Kernel({}, ())


def nan(dtype: np.dtype, size: int) -> Kernel:
    """Looks for NaN, and reports its place."""
    wide = "x.to(tl.float32)" if dtypes.is_narrow(dtype) else "x"
    return _search(dtype, size, f"{wide} != {wide}", "point.to(tl.int64)")


def _search(dtype: np.dtype, size: int, test: str, report: str) -> Kernel:
    if not size:
        return Kernel({}, ())
    block = model.flat_block(size)
    header = Header("search", {"in0": pointer_type(dtype), "record": "*i64"}, model.warps(block), written=("record",))
    number = "tl.program_id(0).to(tl.int64)" if size >= 1 << 31 else "tl.program_id(0)"
    source = render(
        "search", header, Prelude(), about=f"{size} elements, {block} at a time.", number=number, block=block,
        size=size, test=test, report=report, least=_LEAST,
    )  # fmt: skip
    launches = Launches()
    launches.launch(source, -(-size // block), (Slot("argument", 0),))
    return launches.kernel()
