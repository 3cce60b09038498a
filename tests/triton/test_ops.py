"""Every operation as GPU code: Triton source, interpreted on NumPy, in all dtypes, between red zones."""

from __future__ import annotations

import pytest
import simulated_gpu
from optable import cases, check

import knetc.ops  # fills the table
from knetc.ir.op import OPS, Op

_OPS = [op for op in OPS.values() if op.reference is not None and op.name not in ("group", "item")]

assert knetc.ops


@pytest.mark.parametrize("op", _OPS, ids=lambda op: op.name)
def test_programs_agree_with_the_reference(op: Op) -> None:
    check(list(cases(op)), simulated_gpu.run)
