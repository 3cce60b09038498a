"""Reductions in Triton source: identities, steps of accumulators, and folds of blocks along an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from knetc.codegen.loopnest import Reduce, Scan
from knetc.codegen.triton.emitter import TritonEmitter, Value, literal_text, register_type
from knetc.codegen.triton.source import Prelude
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CompileError

from knetc.ir.op import Op

_STEPS = {
    "mul": ("multiply", "a * b"),
    "max": ("maximum", "tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)"),
    "min": ("minimum", "tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)"),
}


class Running:
    """How a scan is written: its states are folded by the function of the record, in a tree."""

    def __init__(self, scan: Scan, prelude: Prelude) -> None:
        assert scan.op.combine is not None
        self.combine = scan.op.combine
        parts = range(len(scan.operands))
        left, right = ([f"{side}{k}" for k in parts] for side in "ab")
        emitter = TritonEmitter(branches=False)
        states = (tuple(Value(name, scan.dtype) for name in names) for names in (left, right))
        merged = self.combine.merge(emitter, *states)
        result = ", ".join(value.text for value in merged)
        self.function = prelude.add(
            f"{scan.op.name}_{dtypes.short_name(scan.dtype)}", ", ".join([*left, *right]),
            [*emitter.lines, f"return {result}"],
        )  # fmt: skip
        self.dtype = scan.dtype

    @property
    def identity(self) -> tuple[str, ...]:
        """The state of nothing, as literals."""
        return tuple(literal_text(v, self.dtype) for v in self.combine.identity(self.dtype))

    def along(self, values: Sequence[str], results: Sequence[str]) -> list[str]:
        """Statements that scan blocks along the columns."""
        given = values[0] if len(values) == 1 else f"({', '.join(values)})"
        return [f"{', '.join(results)} = tl.associative_scan({given}, 1, {self.function})"]

    def after(self, state: Sequence[str], values: Sequence[str]) -> list[str]:
        """Statements that put what came before a block in front of its scan."""
        return [f"{', '.join(values)} = {self.function}({', '.join([*state, *values])})"]


class Fold:
    """How a reduction is written: its state is one value, or for places (argmax) a value and its index."""

    def __init__(self, reduce: Reduce, prelude: Prelude) -> None:
        combine = reduce.op.combine
        if combine is None or not (combine.reassociable or combine.with_index):
            raise CompileError(f"the reduction {reduce.op.name} has no form for GPUs: its order of folding is fixed")
        self.op, self.combine, self.prelude = reduce.op, combine, prelude
        self.dtypes = (reduce.dtype, dtypes.i64) if combine.with_index else (reduce.dtype,)
        self.kind = combine.reassociable or _extreme(reduce.op, reduce.dtype)

    @property
    def identity(self) -> tuple[str, ...]:
        """The state of nothing, as literals."""
        values = self.combine.identity(self.dtypes[0])
        return tuple(literal_text(v, d) for v, d in zip(values, self.dtypes))

    def step(self, state: Sequence[str], values: Sequence[str], fresh: str) -> list[str]:
        """Statements that fold values into a state, place by place; ``fresh`` begins names for what lies between."""
        if len(state) > 1:
            emitter = TritonEmitter(fresh, branches=False)
            old = tuple(Value(name, dtype) for name, dtype in zip(state, self.dtypes))
            new = tuple(Value(name, dtype) for name, dtype in zip(values, self.dtypes))
            merged = self.combine.merge(emitter, old, new)
            return [*emitter.lines, *(f"{name} = {value.text}" for name, value in zip(state, merged))]
        [old_name], [value] = state, values
        if self.kind == "add":
            return [f"{old_name} = {old_name} + {value}"]
        return [f"{old_name} = {self._function()}({old_name}, {value})"]

    def along(self, values: Sequence[str], axis: int | None, results: Sequence[str]) -> list[str]:
        """Statements that fold blocks along an axis, which stays with extent 1 (None: along all, giving a number)."""
        place = "" if axis is None else f", {axis}, keep_dims=True"
        value = values[0]
        kind = register_type(self.dtypes[0])
        if self.kind == "add":
            narrow = dtypes.is_integer(self.dtypes[0]) and self.dtypes[0].itemsize < 4
            return [f"{results[0]} = tl.sum({value}{place})" + (f".to({kind})" if narrow else "")]
        where = "None" if axis is None else f"{axis}"
        keep = "" if axis is None else ", keep_dims=True"
        lines = [f"{results[0]} = tl.reduce({value}, {where}, {self._function()}{keep})"]
        if len(results) > 1:  # the first of the places that hold the extreme, or of those that hold NaN
            best = f"({value} == {results[0]})"
            if dtypes.is_float(self.dtypes[0]):
                best = f"{best} | ({value} != {value})"
            far = np.iinfo(np.int64).max
            lines.append(f"{results[1]} = tl.min(tl.where({best}, {values[1]}, {far}){place})")
        return lines

    def _function(self) -> str:
        name, body = _STEPS[self.kind]
        return self.prelude.add(name, "a, b", [f"return {body}"])


def _extreme(op: Op, dtype: np.dtype) -> str:
    """Whether a reduction to a place looks for the largest or the smallest value."""
    assert op.combine is not None
    low = op.combine.identity(dtype)[0]
    return "max" if low < 0 or low == 0 else "min"
