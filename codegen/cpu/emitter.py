"""Scalar LLVM IR as text: what the CPU side of every operation is written with, and what loops are built around.

An emitter collects the instructions of one function body. It knows nothing of targets: the same text is compiled for
every CPU, and LLVM's loop vectoriser widens it. All of it therefore stays within instructions that vectorise and that
need no library: no calls into libm, no traps, no branches.

Floating arithmetic is IEEE: NaN, infinities and signed zeros come out as NumPy has them. The one liberty is that a
product which feeds a sum may be fused with it (``contract``); accumulators of reductions may also be reordered.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from knetc.codegen.cpu import narrow, powers, rare, roots
from knetc.runtime.base import dtypes

_TYPES = {
    "float16": "float", "bfloat16": "float", "float32": "float", "float64": "double",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "i8", "uint16": "i16", "uint32": "i32", "uint64": "i64",
    "bool": "i1",
}  # fmt: skip

_SUFFIXES = {"float": "f32", "double": "f64"}

_FLOAT_PREDICATES = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "uno": "uno"}


@cache  # a dtype's name is computed anew each time that it is asked for
def register_type(dtype: np.dtype) -> str:
    """LLVM's type of a value in a register: ``float`` (of float16 and bfloat16 too), ``i64``; ``i1`` for bool."""
    return _TYPES[dtype.name]


@cache
def memory_type(dtype: np.dtype) -> str:
    """LLVM's type of a value in memory: that in a register, but ``i8`` for bool and ``i16`` for narrow floats."""
    return "i8" if dtype.kind == "b" else "i16" if dtypes.is_narrow(dtype) else _TYPES[dtype.name]


def constant_text(value: bool | int | float, dtype: np.dtype) -> str:
    """A constant as LLVM reads it; floats by their bits, so that nothing is lost, not even a NaN's or a zero's sign."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if not dtypes.is_float(dtype):
        return str(int(value))
    with np.errstate(over="ignore"):
        exact = float(np.asarray(value, dtype))
    return f"0x{struct.unpack('<Q', struct.pack('<d', exact))[0]:016X}"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value in a kernel that is being emitted: the text that names it (or a constant) and its dtype."""

    text: str
    dtype: np.dtype

    @property
    def typed(self) -> str:
        """With LLVM's type in front, as an operand of most instructions: ``float %v3``."""
        return f"{register_type(self.dtype)} {self.text}"


class LlvmEmitter:
    """Collects instructions (``lines``) and what they call (``declarations``) for one function.

    Names made here are ``%v0, %v1 …``; the caller's own names and labels must differ. ``access`` is put behind each
    load and store, for metadata such as ``, !llvm.access.group !1``. ``half`` tells that the CPU converts float16; else
    that is done with integers, as it always is for bfloat16. ``fused`` tells that its ``fma`` rounds once,
    ``estimates`` that it estimates inverse roots, and has products with powers of two, as AVX-512 does.

    >>> e = LlvmEmitter()
    >>> x = Scalar("%x", np.dtype("float32"))
    >>> y = e.mul(x, e.constant(2.0, x.dtype))
    >>> e.lines
    ['  %v0 = fmul contract float %x, 0x4000000000000000']
    """

    def __init__(self, access: str = "", *, half: bool = False, fused: bool = False, estimates: bool = False) -> None:
        self.lines: list[str] = []
        self.declarations: dict[str, None] = {}
        self.rare: dict[str, str] = {}
        self.access = access
        self.half = half
        self.fused = fused
        self.estimates = estimates
        self.contract = True
        self.tables = True
        self._count = 0

    # --- the text ----------------------------------------------------------------------------------------------------

    def fresh(self) -> str:
        """A new name: ``%v7``."""
        self._count += 1
        return f"%v{self._count - 1}"

    def line(self, text: str) -> None:
        """Append an instruction that gives no value."""
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Begin a block."""
        self.lines.append(f"{name}:")

    def value(self, instruction: str, dtype: np.dtype) -> Scalar:
        """Append an instruction; its result as a value of ``dtype``."""
        name = self.fresh()
        self.lines.append(f"  {name} = {instruction}")
        return Scalar(name, dtype)

    def call(self, function: str, result: np.dtype, *arguments: Scalar, extra: str = "", flags: str = "") -> Scalar:
        """Call a function, which is declared; ``extra`` are further arguments as text (``i1 false``)."""
        returned = register_type(result)
        types = [register_type(a.dtype) for a in arguments]
        if extra:
            types.append(extra.split()[0])
        self.declarations[f"declare {returned} @{function}({', '.join(types)})"] = None
        passed = ", ".join([*(a.typed for a in arguments), *([extra] if extra else [])])
        return self.value(f"call {flags + ' ' if flags else ''}{returned} @{function}({passed})", result)

    # --- memory ------------------------------------------------------------------------------------------------------

    def address(self, pointer: str, index: Scalar | str | int, dtype: np.dtype) -> str:
        """The address of element ``index`` (an i64) of the array of ``dtype`` at ``pointer``."""
        index = index.text if isinstance(index, Scalar) else str(index)
        if index == "0":
            return pointer
        name = self.fresh()
        self.line(f"{name} = getelementptr inbounds {memory_type(dtype)}, ptr {pointer}, i64 {index}")
        return name

    def load(self, pointer: str, index: Scalar | str | int, dtype: np.dtype) -> Scalar:
        """Element ``index`` of the array of ``dtype`` at ``pointer``."""
        address = self.address(pointer, index, dtype)
        loaded = self.value(f"load {memory_type(dtype)}, ptr {address}, align {dtype.itemsize}{self.access}", dtype)
        if dtype.kind == "b":
            return self.value(f"icmp ne i8 {loaded.text}, 0", dtype)
        return narrow.decoded(self, loaded) if dtypes.is_narrow(dtype) else loaded

    def store(self, value: Scalar, pointer: str, index: Scalar | str | int) -> None:
        """Write element ``index`` of the array of the value's dtype at ``pointer``."""
        dtype = value.dtype
        address = self.address(pointer, index, dtype)
        text = value.text
        if dtype.kind == "b":
            text = self.fresh()
            self.line(f"{text} = zext i1 {value.text} to i8")
        elif dtypes.is_narrow(dtype):
            text = narrow.encoded(self, value)
        self.line(f"store {memory_type(dtype)} {text}, ptr {address}, align {dtype.itemsize}{self.access}")

    # --- arithmetic --------------------------------------------------------------------------------------------------

    def constant(self, value: bool | int | float, dtype: np.dtype) -> Scalar:
        return Scalar(constant_text(value, dtype), dtype)

    def add(self, a: Scalar, b: Scalar) -> Scalar:
        return self._arithmetic("add", a, b)

    def sub(self, a: Scalar, b: Scalar) -> Scalar:
        return self._arithmetic("sub", a, b)

    def mul(self, a: Scalar, b: Scalar) -> Scalar:
        return self._arithmetic("mul", a, b)

    def div(self, a: Scalar, b: Scalar) -> Scalar:
        """Quotient; of integers, rounded toward zero, with no trap: x/0 is 0 and MIN/-1 is MIN."""
        if dtypes.is_float(a.dtype):
            return self._binary("fdiv", a, b)
        quotient = self._binary("udiv" if a.dtype.kind == "u" else "sdiv", a, self._safe_divisor(a, b))
        return self.select(self._is_zero(b), self.constant(0, a.dtype), quotient)

    def ratio(self, a: Scalar, b: Scalar) -> Scalar:
        return self.div(a, b)

    def power_of_two(self, a: Scalar) -> None:
        """No CPU has an instruction for it."""

    def scaled(self, a: Scalar, n: Scalar) -> Scalar | None:
        return powers.call(self, a, n) if self.estimates else None

    def rem(self, a: Scalar, b: Scalar) -> Scalar:
        """Remainder of the integer ``div``; x rem 0 is 0."""
        if dtypes.is_float(a.dtype):
            raise TypeError(f"rem takes integers, not {a.dtype}: write a float's remainder with div, trunc and fma")
        # the safe divisor is 1 where b is 0, which leaves the remainder 0
        return self._binary("urem" if a.dtype.kind == "u" else "srem", a, self._safe_divisor(a, b))

    def neg(self, a: Scalar) -> Scalar:
        if dtypes.is_float(a.dtype):
            return self.value(f"fneg {a.typed}", a.dtype)
        return self.sub(self.constant(0, a.dtype), a)

    def fma(self, a: Scalar, b: Scalar, c: Scalar) -> Scalar:
        """``a * b + c``, rounded once where the CPU has such an instruction, else twice."""
        if not dtypes.is_float(a.dtype):
            return self.add(self.mul(a, b), c)
        return self._intrinsic("fmuladd", a, b, c)

    def sqrt(self, a: Scalar, *, beside: bool = False) -> Scalar:
        """The root, rounded to the nearest; ``beside`` much arithmetic by the instruction, which leaves that alone."""
        if self.estimates and a.dtype == dtypes.f64 and not beside:
            return roots.call(self, a)
        return self._intrinsic("sqrt", a)

    def abs(self, a: Scalar) -> Scalar:
        if dtypes.is_float(a.dtype):
            return self._intrinsic("fabs", a)
        if a.dtype.kind == "i":
            return self.call(f"llvm.abs.{register_type(a.dtype)}", a.dtype, a, extra="i1 false")
        return a

    def floor(self, a: Scalar) -> Scalar:
        return self._intrinsic("floor", a) if dtypes.is_float(a.dtype) else a

    def ceil(self, a: Scalar) -> Scalar:
        return self._intrinsic("ceil", a) if dtypes.is_float(a.dtype) else a

    def trunc(self, a: Scalar) -> Scalar:
        return self._intrinsic("trunc", a) if dtypes.is_float(a.dtype) else a

    def rint(self, a: Scalar) -> Scalar:
        """Nearest integer, ties to even."""
        return self._intrinsic("rint", a) if dtypes.is_float(a.dtype) else a

    def copysign(self, a: Scalar, b: Scalar) -> Scalar:
        return self._intrinsic("copysign", a, b)

    # --- comparisons and bits ----------------------------------------------------------------------------------------

    def compare(self, predicate: str, a: Scalar, b: Scalar) -> Scalar:
        """Bool from ``eq ne lt le gt ge``, plus ``uno`` (either is NaN) for floats; ``ne`` is true for NaN."""
        if dtypes.is_float(a.dtype):
            instruction = f"fcmp {_FLOAT_PREDICATES[predicate]}"
        elif predicate in ("eq", "ne"):
            instruction = f"icmp {predicate}"
        else:
            instruction = f"icmp {'s' if a.dtype.kind == 'i' else 'u'}{predicate}"
        self._require_equal(instruction, a, b)
        return self.value(f"{instruction} {a.typed}, {b.text}", dtypes.boolean)

    def select(self, condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
        self._require_equal("select", a, b)
        return self.value(f"select {condition.typed}, {a.typed}, {b.typed}", a.dtype)

    def and_(self, a: Scalar, b: Scalar) -> Scalar:
        return self._binary("and", a, b)

    def or_(self, a: Scalar, b: Scalar) -> Scalar:
        return self._binary("or", a, b)

    def xor(self, a: Scalar, b: Scalar) -> Scalar:
        return self._binary("xor", a, b)

    def not_(self, a: Scalar) -> Scalar:
        return self._binary("xor", a, self.constant(True if a.dtype.kind == "b" else -1, a.dtype))

    def shl(self, a: Scalar, b: Scalar) -> Scalar:
        return self._binary("shl", a, b)

    def lshr(self, a: Scalar, b: Scalar) -> Scalar:
        """Shift right, filling with zeros."""
        return self._binary("lshr", a, b)

    def ashr(self, a: Scalar, b: Scalar) -> Scalar:
        """Shift right, filling with the sign."""
        return self._binary("ashr", a, b)

    def mulhi_u32(self, a: Scalar, b: Scalar) -> Scalar:
        """Upper half of the product of two i32 values taken as unsigned."""
        wide = [self.value(f"zext {x.typed} to i64", dtypes.u64) for x in (a, b)]
        product = self.mul(*wide)
        upper = self.lshr(product, self.constant(32, dtypes.u64))
        return self.value(f"trunc {upper.typed} to i32", a.dtype)

    def lookup(self, table: Sequence[int | float], index: Scalar, dtype: np.dtype) -> Scalar:
        """The number at place ``index`` (an i64, within bounds) of a table of constants."""
        kind = register_type(dtype)
        values = ", ".join(f"{kind} {constant_text(value, dtype)}" for value in table)
        name = f"@table_{hashlib.sha256(values.encode()).hexdigest()[:16]}"
        self.declarations[f"{name} = internal unnamed_addr constant [{len(table)} x {kind}] [{values}]"] = None
        address = self.address(name, index, dtype)
        return self.value(f"load {kind}, ptr {address}, align {dtype.itemsize}{self.access}", dtype)

    def repeat(self, count: Scalar, step: Callable[[Scalar], Scalar], state: Scalar) -> Scalar:
        """``step`` applied ``count`` times to ``state``: a loop, so only in code that no loop is widened around."""
        name, kind = self.fresh()[1:], register_type(state.dtype)
        self.line(f"br label %before_{name}")
        self.label(f"before_{name}")
        self.line(f"br label %again_{name}")
        self.label(f"again_{name}")
        phis = len(self.lines)
        self.line(f"%more_{name} = icmp slt i64 %k_{name}, {count.text}")
        self.line(f"br i1 %more_{name}, label %step_{name}, label %done_{name}")
        self.label(f"step_{name}")
        following = step(Scalar(f"%state_{name}", state.dtype))
        self.line(f"%next_{name} = add i64 %k_{name}, 1")
        self.line(f"br label %again_{name}")
        self.label(f"done_{name}")
        self.lines[phis:phis] = [
            f"  %k_{name} = phi i64 [ 0, %before_{name} ], [ %next_{name}, %step_{name} ]",
            f"  %state_{name} = phi {kind} [ {state.text}, %before_{name} ], [ {following.text}, %step_{name} ]",
        ]
        return Scalar(f"%state_{name}", state.dtype)

    def rarely(
        self, name: str, flag: Scalar, usual: Scalar, function: Callable[..., Scalar], *operands: Scalar
    ) -> Scalar:
        """``usual``, but where ``flag`` is set, which is rare, ``function(emitter, *operands)``, by a branch.

        ``name`` stands for the function among all that a kernel calls so.
        """
        return rare.call(self, name, flag, usual, function, *operands)

    # --- conversions -------------------------------------------------------------------------------------------------

    def bitcast(self, a: Scalar, dtype: np.dtype) -> Scalar:
        """The same bits as another type of the same width."""
        if register_type(a.dtype) == register_type(dtype):
            return Scalar(a.text, dtype)
        return self.value(f"bitcast {a.typed} to {register_type(dtype)}", dtype)

    def convert(self, a: Scalar, dtype: np.dtype) -> Scalar:
        """NumPy's ``astype``, but float to int saturates (NaN gives 0); anything to bool is ``!= 0``."""
        if a.dtype == dtype:
            return a
        if dtype.kind == "b":
            return self.compare("ne", a, self.constant(0, a.dtype))
        if dtypes.is_narrow(a.dtype):
            return self.convert(Scalar(a.text, dtypes.f32), dtype)
        if dtypes.is_narrow(dtype):
            if a.dtype == dtypes.f64 and dtype == dtypes.f16:
                return narrow.rounded(self, narrow.rounded_to_odd(self, a), dtype)
            return narrow.rounded(self, self.convert(a, dtypes.f32), dtype)
        source, target = register_type(a.dtype), register_type(dtype)
        signed = a.dtype.kind == "i"
        if dtypes.is_float(a.dtype) and not dtypes.is_float(dtype):
            return self._saturated(a, dtype)
        if dtypes.is_float(a.dtype):
            name = "fpext" if a.dtype.itemsize < dtype.itemsize else "fptrunc"
        elif dtypes.is_float(dtype):
            name = "sitofp" if signed else "uitofp"
        elif source == target:
            return Scalar(a.text, dtype)
        elif a.dtype.kind != "b" and a.dtype.itemsize > dtype.itemsize:
            name = "trunc"
        else:
            name = "sext" if signed else "zext"
        return self.value(f"{name} {source} {a.text} to {target}", dtype)

    # --- reductions --------------------------------------------------------------------------------------------------

    def accumulate(self, kind: str, accumulator: Scalar, value: Scalar) -> Scalar:
        """One step of a fold that may be reordered: ``kind`` is ``add``, ``mul``, ``max`` or ``min``.

        The vectoriser recognises these forms as reductions. Maximum and minimum of floats are NaN if any value is,
        as NumPy's are.
        """
        dtype = accumulator.dtype
        if kind in ("add", "mul"):
            if not dtypes.is_float(dtype):
                return self._binary(kind, accumulator, value)
            return self._binary(f"f{kind} reassoc nsz contract", accumulator, value)
        if dtypes.is_float(dtype):
            name = f"llvm.{kind}imum.{_SUFFIXES[register_type(dtype)]}"
            return self.call(name, dtype, accumulator, value, flags="nsz")
        if dtype.kind == "b":
            return self.or_(accumulator, value) if kind == "max" else self.and_(accumulator, value)
        name = f"llvm.{'s' if dtype.kind == 'i' else 'u'}{kind}.{register_type(dtype)}"
        return self.call(name, dtype, accumulator, value)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _require_equal(self, what: str, a: Scalar, b: Scalar) -> None:
        if a.dtype != b.dtype:
            raise TypeError(f"{what} takes operands of one dtype, not {a.dtype} ({a.text}) and {b.dtype} ({b.text})")

    def _binary(self, instruction: str, a: Scalar, b: Scalar) -> Scalar:
        self._require_equal(instruction, a, b)
        return self.value(f"{instruction} {a.typed}, {b.text}", a.dtype)

    def _arithmetic(self, name: str, a: Scalar, b: Scalar) -> Scalar:
        if dtypes.is_narrow(a.dtype):
            raise TypeError(f"{name} of {a.dtype}: arithmetic is done in float32, so convert first (Op.code does)")
        if not dtypes.is_float(a.dtype):
            return self._binary(name, a, b)
        return self._binary(f"f{name} contract" if self.contract else f"f{name}", a, b)

    def _intrinsic(self, name: str, *operands: Scalar) -> Scalar:
        """A float intrinsic whose operands and result have one type; all of these vectorise."""
        for other in operands[1:]:
            self._require_equal(name, operands[0], other)
        dtype = operands[0].dtype
        return self.call(f"llvm.{name}.{_SUFFIXES[register_type(dtype)]}", dtype, *operands)

    def _saturated(self, a: Scalar, dtype: np.dtype) -> Scalar:
        """A float32 or float64 as the nearest integer toward zero that there is; of NaN 0.

        LLVM has an intrinsic for it, but widens bounds, a conversion and choices far better.
        """
        limits = np.iinfo(dtype)
        low, high = (float(np.asarray(bound, a.dtype)) for bound in (limits.min, limits.max))
        beyond = high > limits.max  # rounded up, when the largest integer is no float
        last = float(np.nextafter(np.asarray(high, a.dtype), np.asarray(0, a.dtype))) if beyond else high
        number = self.select(self.compare("uno", a, a), self.constant(0, a.dtype), a)
        for predicate, bound in (("lt", low), ("gt", last)):
            limit = self.constant(bound, a.dtype)
            number = self.select(self.compare(predicate, number, limit), limit, number)
        # through int32 where that holds all values, since that is what vectors of floats become
        wide = dtypes.i32 if dtype.itemsize < 4 else dtype
        kind = "fptoui" if wide.kind == "u" else "fptosi"
        whole = self.value(f"{kind} {number.typed} to {register_type(wide)}", wide)
        if beyond:
            over = self.compare("ge", a, self.constant(high, a.dtype))
            whole = self.select(over, self.constant(int(limits.max), dtype), whole)
        return self.convert(whole, dtype)

    def _is_zero(self, a: Scalar) -> Scalar:
        return self.compare("eq", a, self.constant(0, a.dtype))

    def _safe_divisor(self, a: Scalar, b: Scalar) -> Scalar:
        """``b``, or 1 where dividing by it would trap: 0, and -1 under the smallest integer (whose quotient it is)."""
        unsafe = self._is_zero(b)
        if a.dtype.kind == "i":
            smallest = self.compare("eq", a, self.constant(int(np.iinfo(a.dtype).min), a.dtype))
            minus_one = self.compare("eq", b, self.constant(-1, b.dtype))
            unsafe = self.or_(unsafe, self.and_(smallest, minus_one))
        return self.select(unsafe, self.constant(1, b.dtype), b)


def declare(emitters: Iterable[LlvmEmitter]) -> list[str]:
    """The declarations that the code of some emitters needs, each once, in order."""
    return list(dict.fromkeys(line for e in emitters for line in e.declarations))
