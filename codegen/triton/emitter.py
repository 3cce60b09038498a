"""Triton source for scalar code: what operations' ``emit`` functions are given where kernels are for a GPU.

The same functions write the CPU's code, so an operation means the same on every device, needs no library of functions
there, and has the CPU's accuracy. A value stands for a block of numbers of one dtype: Triton broadcasts blocks of
different shapes. Values of float16 and bfloat16 lie in registers as float32, rounded after each operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CompileError

_NAMES = {
    "float16": "float16", "float32": "float32", "float64": "float64",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
    "bool": "int1", "bfloat16": "bfloat16",
}  # fmt: skip

_POINTERS = {
    "float16": "fp16", "float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "bool": "u8",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip

_SYMBOLS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def memory_type(dtype: np.dtype) -> str:
    """Triton's type of a dtype in memory: ``tl.bfloat16``; ``tl.uint8`` for bool."""
    return "tl.uint8" if dtype.kind == "b" else f"tl.{_NAMES[dtype.name]}"


def register_type(dtype: np.dtype) -> str:
    """Triton's type of a dtype in registers: ``tl.float32`` for float16 and bfloat16 too, ``tl.int1`` for bool."""
    return "tl.float32" if dtypes.is_narrow(dtype) else f"tl.{_NAMES[dtype.name]}"


def pointer_type(dtype: np.dtype) -> str:
    """A pointer parameter's type in a signature: ``*fp32``; bools are bytes."""
    return f"*{_POINTERS[dtype.name]}"


def literal_text(value: bool | int | float, dtype: np.dtype) -> str:
    """A number as Triton source; floats as their dtype rounds them."""
    if dtype.kind == "b":
        return str(bool(value))
    if not dtypes.is_float(dtype):
        return str(dtypes.wrapped(int(value), dtype))
    with np.errstate(over="ignore"):
        exact = float(np.asarray(value, dtype))
    if math.isfinite(exact):
        return repr(exact)
    return 'float("nan")' if exact != exact else f'{"-" if exact < 0 else ""}float("inf")'


@dataclass(frozen=True, slots=True)
class Value:
    """A block of numbers in a kernel: the text that names it, or a Python number (``literal``), and its dtype."""

    text: str
    dtype: np.dtype
    literal: bool = False


class TritonEmitter:
    """Collects statements (``lines``) of one function's body; see ``knetc.ir.op.Emitter`` for the operations.

    >>> e = TritonEmitter()
    >>> y = e.mul(Value("x", np.dtype("float32")), e.constant(2.0, np.dtype("float32")))
    >>> e.lines
    ['v0 = x * 2.0']
    """

    def __init__(self, prefix: str = "v", first: int = 0, *, branches: bool = True) -> None:
        """``branches`` tells that what is rare may be a branch of its own: not where states are folded one by one."""
        self.branches = branches
        self.lines: list[str] = []
        self.functions: dict[str, tuple[str, tuple[str, ...]]] = {}
        """What the statements call, in order: name to parameters and body."""
        self.contract = self.fused = True
        self.tables = False
        self._prefix = prefix
        self._count = first

    def value(self, expression: str, dtype: np.dtype) -> Value:
        """Name an expression."""
        name = f"{self._prefix}{self._count}"
        self._count += 1
        self.lines.append(f"{name} = {expression}")
        return Value(name, dtype)

    def constant(self, value: bool | int | float, dtype: np.dtype) -> Value:
        return Value(literal_text(value, dtype), dtype, literal=True)

    # --- arithmetic --------------------------------------------------------------------------------------------------

    def add(self, a: Value, b: Value) -> Value:
        return self._binary(a, "+", b)

    def sub(self, a: Value, b: Value) -> Value:
        return self._binary(a, "-", b)

    def mul(self, a: Value, b: Value) -> Value:
        return self._binary(a, "*", b)

    def div(self, a: Value, b: Value) -> Value:
        if a.dtype == dtypes.f32:
            return self.value(f"tl.div_rn({_argument(a)}, {_argument(b)})", a.dtype)
        if dtypes.is_float(a.dtype):
            return self._binary(a, "/", b)
        quotient = self._binary(a, "//", self._safe_divisor(a, b))
        return self.select(self._is_zero(b), self.constant(0, a.dtype), quotient)

    def ratio(self, a: Value, b: Value) -> Value:
        return self._binary(a, "/", b)

    def power_of_two(self, a: Value) -> Value | None:
        return self.value(f"tl.exp2({_block(a)})", a.dtype) if a.dtype == dtypes.f32 else None

    def scaled(self, a: Value, n: Value) -> None:
        """No GPU has an instruction for it."""

    def rem(self, a: Value, b: Value) -> Value:
        return self._binary(a, "%", self._safe_divisor(a, b))

    def neg(self, a: Value) -> Value:
        if dtypes.is_float(a.dtype):  # Triton's minus is a subtraction from zero, which loses the sign of zeros
            return self._binary(a, "*", Value("-1.0", a.dtype, literal=True))
        return self._binary(Value("0", a.dtype, literal=True), "-", a)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        if not dtypes.is_float(a.dtype):
            return self.add(self.mul(a, b), c)
        return self.value(f"tl.fma({_argument(a)}, {_argument(b)}, {_argument(c)})", a.dtype)

    def sqrt(self, a: Value, *, beside: bool = False) -> Value:
        return self.value(f"tl.{'sqrt_rn' if a.dtype == dtypes.f32 else 'sqrt'}({_block(a)})", a.dtype)

    def abs(self, a: Value) -> Value:
        return self.value(f"tl.abs({_block(a)})", a.dtype)

    def floor(self, a: Value) -> Value:
        return self.value(f"tl.floor({_block(a)})", a.dtype) if dtypes.is_float(a.dtype) else a

    def ceil(self, a: Value) -> Value:
        return self.value(f"tl.ceil({_block(a)})", a.dtype) if dtypes.is_float(a.dtype) else a

    def trunc(self, a: Value) -> Value:
        if not dtypes.is_float(a.dtype):
            return a
        return self.select(self.compare("lt", a, self.constant(0, a.dtype)), self.ceil(a), self.floor(a))

    def rint(self, a: Value) -> Value:
        """Nearest integer, ties to even: beyond 2**(mantissa bits) there are no others, below the sum rounds to one."""
        if not dtypes.is_float(a.dtype):
            return a
        if dtypes.is_narrow(a.dtype):
            return Value(self.rint(Value(a.text, dtypes.f32, a.literal)).text, a.dtype)
        bound = self.constant(2.0 ** (52 if a.dtype == dtypes.f64 else 23), a.dtype)
        magnitude = self.abs(a)
        whole = self.sub(self.add(magnitude, bound), bound)
        return self.select(self.compare("lt", magnitude, bound), self.copysign(whole, a), a)

    def copysign(self, a: Value, b: Value) -> Value:
        wide = a.dtype == dtypes.f64
        bits = dtypes.i64 if wide else dtypes.i32
        low = self.constant((1 << (63 if wide else 31)) - 1, bits)
        high = self.constant(-(1 << (63 if wide else 31)), bits)
        magnitude = self.and_(self.bitcast(a, bits), low)
        return self.bitcast(self.or_(magnitude, self.and_(self.bitcast(b, bits), high)), a.dtype)

    # --- comparisons and bits ----------------------------------------------------------------------------------------

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        if predicate == "uno":
            parts = dict.fromkeys(x.text for x in (a, b) if not x.literal)
            return self.value(
                " | ".join(f"({x} != {x})" for x in parts) or "tl.full((), False, tl.int1)", dtypes.boolean
            )
        return self.value(f"{self._left(a, b)} {_SYMBOLS[predicate]} {b.text}", dtypes.boolean)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        return self.value(f"tl.where({_block(condition)}, {self._left(a, b)}, {b.text})", a.dtype)

    def and_(self, a: Value, b: Value) -> Value:
        return self._binary(a, "&", b)

    def or_(self, a: Value, b: Value) -> Value:
        return self._binary(a, "|", b)

    def xor(self, a: Value, b: Value) -> Value:
        return self._binary(a, "^", b)

    def not_(self, a: Value) -> Value:
        if a.dtype.kind == "b":
            return self.value(f"~{_block(a)}", a.dtype)
        return self._binary(a, "^", self.constant(-1, a.dtype))

    def shl(self, a: Value, b: Value) -> Value:
        return self._binary(a, "<<", b)

    def lshr(self, a: Value, b: Value) -> Value:
        """Shift right, filling with zeros."""
        if a.dtype.kind == "u":
            return self._binary(a, ">>", b)
        unsigned = np.dtype(f"u{a.dtype.name}")
        return self.bitcast(self._binary(self.bitcast(a, unsigned), ">>", self._same(b, unsigned)), a.dtype)

    def ashr(self, a: Value, b: Value) -> Value:
        """Shift right, filling with the sign."""
        if a.dtype.kind == "i":
            return self._binary(a, ">>", b)
        signed = np.dtype(a.dtype.name[1:])
        return self.bitcast(self._binary(self.bitcast(a, signed), ">>", self._same(b, signed)), a.dtype)

    def mulhi_u32(self, a: Value, b: Value) -> Value:
        """Upper half of the product of two i32 values taken as unsigned."""
        x, y = (_block(self.bitcast(v, dtypes.u32)) for v in (a, b))
        return self.bitcast(self.value(f"tl.umulhi({x}, {y})", dtypes.u32), a.dtype)

    def rarely(self, name: str, flag: Value, usual: Value, function: Callable[..., Value], *operands: Value) -> Value:
        """``usual``, but where ``flag`` is set ``function(emitter, *operands)``: a branch for the block as a whole."""
        if not self.branches:
            return self.select(flag, function(self, *operands), usual)
        inner = TritonEmitter()
        parameters = [Value(letter, operand.dtype) for letter, operand in zip("abcd", operands)]
        result = function(inner, *parameters)
        name = "_".join([name, *dict.fromkeys(dtypes.short_name(p.dtype) for p in parameters)])
        self.functions |= inner.functions
        self.functions[name] = ", ".join(p.text for p in parameters), (*inner.lines, f"return {result.text}")
        self.functions["some"] = "flags", ("return tl.max(flags.to(tl.int32) + tl.full([1], 0, tl.int32)) > 0",)
        chosen = self.value(usual.text, usual.dtype)
        call = f"{name}({', '.join(_block(o) for o in operands)})"
        self.lines += [f"if some({flag.text}):", f"    {chosen.text} = tl.where({flag.text}, {call}, {chosen.text})"]
        return chosen

    def repeat(self, count: Value, step: Callable[[Value], Value], state: Value) -> Value:
        """``step`` applied ``count`` times to ``state``: a loop for the block as a whole, as long as its longest."""
        most = "most", "counts", ("return tl.max(counts + tl.full([1], 0, tl.int64)).to(tl.int32)",)
        self.functions[most[0]] = most[1:]
        result = self.value(state.text, state.dtype)
        first = len(self.lines)
        following = step(result)
        body = [*self.lines[first:], f"{result.text} = tl.where(turn < {count.text}, {following.text}, {result.text})"]
        self.lines[first:] = [f"for turn in range(most({count.text})):", *(f"    {line}" for line in body)]
        return result

    def lookup(self, table: Sequence[int | float], index: Value, dtype: np.dtype) -> Value:
        raise CompileError("Triton source holds no tables of numbers")

    # --- conversions -------------------------------------------------------------------------------------------------

    def bitcast(self, a: Value, dtype: np.dtype) -> Value:
        """The same bits as another type of the same width."""
        if register_type(a.dtype) == register_type(dtype):
            return Value(a.text, dtype, a.literal)
        return self.value(f"{_block(a)}.to({register_type(dtype)}, bitcast=True)", dtype)

    def convert(self, a: Value, dtype: np.dtype) -> Value:
        """NumPy's ``astype``, but float to int saturates (NaN gives 0); anything to bool is ``!= 0``."""
        if a.dtype == dtype:
            return a
        if dtypes.is_narrow(a.dtype):
            return self.convert(Value(a.text, dtypes.f32, a.literal), dtype)
        if dtype.kind == "b":
            return self.compare("ne", a, self.constant(0, a.dtype))
        if dtypes.is_narrow(dtype):
            if a.dtype != dtypes.f32 and not (a.dtype == dtypes.f64 and dtype == dtypes.f16):
                a = self.convert(a, dtypes.f32)
            return self.value(f"{_block(a)}.to({memory_type(dtype)}).to(tl.float32)", dtype)
        if dtypes.is_float(a.dtype) and not dtypes.is_float(dtype):
            return self._saturated(a, dtype)
        return self.value(f"{_block(a)}.to({register_type(dtype)})", dtype)

    def _saturated(self, a: Value, dtype: np.dtype) -> Value:
        limits = np.iinfo(dtype)
        low, high = self.constant(float(limits.min), a.dtype), self.constant(float(limits.max) + 1, a.dtype)
        above = self.compare("ge", a, high)
        below = self.compare("lt", a, low)
        outside = self.or_(self.or_(above, below), self.compare("uno", a, a))
        body = self.value(
            f"{_block(self.select(outside, self.constant(0, a.dtype), a))}.to({register_type(dtype)})", dtype
        )
        body = self.select(above, self.constant(limits.max, dtype), body)
        return self.select(below, self.constant(limits.min, dtype), body)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _left(self, a: Value, b: Value) -> str:
        """The first of two operands, a block if the other is only a number."""
        return _block(a) if b.literal else a.text

    def _same(self, a: Value, dtype: np.dtype) -> Value:
        return Value(a.text, dtype, True) if a.literal else self.bitcast(a, dtype)

    def _binary(self, a: Value, symbol: str, b: Value) -> Value:
        if a.dtype != b.dtype:
            raise TypeError(f"{symbol} takes operands of one dtype, not {a.dtype} ({a.text}) and {b.dtype} ({b.text})")
        return self.value(f"{self._left(a, b)} {symbol} {b.text}", a.dtype)

    def _is_zero(self, a: Value) -> Value:
        return self.compare("eq", a, self.constant(0, a.dtype))

    def _safe_divisor(self, a: Value, b: Value) -> Value:
        """``b``, or 1 where no quotient is defined: 0, and -1 under the smallest integer (whose quotient it is)."""
        unsafe = self._is_zero(b)
        if a.dtype.kind == "i":
            smallest = self.compare("eq", a, self.constant(int(np.iinfo(a.dtype).min), a.dtype))
            minus_one = self.compare("eq", b, self.constant(-1, b.dtype))
            unsafe = self.or_(unsafe, self.and_(smallest, minus_one))
        return self.select(unsafe, self.constant(1, b.dtype), b)


def _argument(a: Value) -> str:
    """A value as an operand of a function that takes numbers for float32."""
    exact = a.dtype == dtypes.f32 and a.literal and "float" not in a.text and abs(float(a.text)) >= 2.0**-126
    return a.text if exact else _block(a)


def _block(a: Value) -> str:
    """A value as an operand of a method: a number by itself would get a dtype of Triton's choice."""
    return f"tl.full((), {a.text}, {register_type(a.dtype)})" if a.literal else a.text
