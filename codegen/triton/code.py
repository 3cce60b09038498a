"""Elementwise operations in Triton source: an expression in the kernel's body, or a function of the prelude."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from knetc.codegen.triton.emitter import TritonEmitter, Value, memory_type, register_type
from knetc.codegen.triton.source import Prelude
from knetc.runtime.base import dtypes

from knetc.ir.op import Op

INLINE = 2
"""Statements up to which an operation is written where it is used, not as a function."""


def operation(
    op: Op, operands: Sequence[Value], dtype: np.dtype, attributes: Mapping[str, object], prelude: Prelude, name: str
) -> tuple[list[str], Value]:
    """Statements that apply an operation, the last of which names its result ``name``; and the result."""
    sources = tuple(v.dtype for v in operands)
    rounded = None
    if not op.exact and any(dtypes.is_narrow(d) for d in sources):  # computed in float32, then rounded
        rounded = dtype if dtypes.is_narrow(dtype) else None
        operands = [Value(v.text, dtypes.f32, v.literal) if dtypes.is_narrow(v.dtype) else v for v in operands]
        sources = tuple(v.dtype for v in operands)
    if op.triton:
        blocks = [f"tl.full((), {v.text}, {register_type(v.dtype)})" if v.literal else v.text for v in operands]
        lines = [f"{name} = {op.triton.format(*blocks)}"]
        if rounded is not None:
            lines.append(f"{name} = {name}.to({memory_type(rounded)}).to(tl.float32)")
        return lines, Value(name, dtype)
    emitter = TritonEmitter(f"{name}_")
    assert op.emit is not None, f"{op.name} has no code"
    result = op.emit(emitter, *operands, **attributes)
    if rounded is not None:
        result = emitter.convert(result, rounded)
    if not emitter.lines:
        return [], Value(result.text, dtype, result.literal)
    if len(emitter.lines) <= INLINE and emitter.lines[-1].startswith(f"{result.text} = "):
        *before, last = emitter.lines
        return [*before, f"{name} = {last.partition(' = ')[2]}"], Value(name, dtype)
    function = _function(op, sources, tuple(sorted(attributes.items())), prelude)
    blocks = [f"tl.full((), {v.text}, {register_type(v.dtype)})" if v.literal else v.text for v in operands]
    lines = [f"{name} = {function}({', '.join(blocks)})"]
    if rounded is not None:
        lines.append(f"{name} = {name}.to({memory_type(rounded)}).to(tl.float32)")
    return lines, Value(name, dtype)


def _function(
    op: Op, sources: tuple[np.dtype, ...], attributes: tuple[tuple[str, object], ...], prelude: Prelude
) -> str:
    parameters = "abcd"[: len(sources)]
    lines, called = _body(op, sources, attributes)
    for name, (names, body) in called.items():
        prelude.add(name, names, list(body))
    tags = [dtypes.short_name(d) for d in dict.fromkeys(sources)]
    tags += [dtypes.short_name(v) if isinstance(v, np.dtype) else re.sub(r"\W", "_", str(v)) for _, v in attributes]
    return prelude.add("_".join([op.name, *tags]), ", ".join(parameters), list(lines))


@cache
def _body(
    op: Op, sources: tuple[np.dtype, ...], attributes: tuple[tuple[str, object], ...]
) -> tuple[tuple[str, ...], dict[str, tuple[str, tuple[str, ...]]]]:
    emitter = TritonEmitter()
    values = [Value(p, d) for p, d in zip("abcd", sources)]
    assert op.emit is not None
    result = op.emit(emitter, *values, **dict(attributes))
    return (*emitter.lines, f"return {result.text}"), emitter.functions


def full(value: Value) -> str:
    """A value as a block: numbers get their dtype in memory."""
    text = str(int(value.text == "True")) if value.dtype.kind == "b" else value.text
    return f"tl.full((), {text}, {memory_type(value.dtype)})" if value.literal else value.text
