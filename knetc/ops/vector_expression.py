"""Arithmetic over an emitter, written with Python's operators: the notation that ``vector_math`` is written in."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any

import numpy as np

from knetc.ir.op import Emitter
from knetc.runtime.base import dtypes


@dataclass(frozen=True)
class Format:
    """What the functions need to know of a floating format."""

    mantissa_bits: int
    bias: int
    integer: np.dtype
    """The integer dtype of the same width."""
    magic: float
    """1.5 * 2**mantissa_bits: adding it rounds to an integer, which then stands in the low bits."""
    smallest_normal: float


FORMATS = {
    dtypes.f32: Format(23, 127, dtypes.i32, 1.5 * 2.0**23, 2.0**-126),
    dtypes.f64: Format(52, 1023, dtypes.i64, 1.5 * 2.0**52, 2.0**-1022),
}


def bits_of(value: float, dtype: np.dtype) -> int:
    """The bits of a float constant as a signed integer."""
    code = "fi" if dtype == dtypes.f32 else "dq"
    return int(struct.unpack(f"<{code[1]}", struct.pack(f"<{code[0]}", value))[0])


@dataclass(frozen=True)
class Number:
    """A scalar of a kernel with operators; Python numbers beside it are constants of its dtype."""

    e: Emitter
    value: Any

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype  # type: ignore[no-any-return]

    @cached_property
    def format(self) -> Format:
        return FORMATS[self.dtype]

    def _operand(self, other: Number | bool | int | float) -> Any:
        return other.value if isinstance(other, Number) else self.e.constant(other, self.dtype)

    def _with(self, value: Any) -> Number:
        return Number(self.e, value)

    def constant(self, value: bool | int | float) -> Number:
        """A constant of this number's dtype."""
        return self._with(self.e.constant(value, self.dtype))

    def __add__(self, other: Number | float) -> Number:
        return self._with(self.e.add(self.value, self._operand(other)))

    def __radd__(self, other: float) -> Number:
        return self._with(self.e.add(self._operand(other), self.value))

    def __sub__(self, other: Number | float) -> Number:
        return self._with(self.e.sub(self.value, self._operand(other)))

    def __rsub__(self, other: float) -> Number:
        return self._with(self.e.sub(self._operand(other), self.value))

    def __mul__(self, other: Number | float) -> Number:
        return self._with(self.e.mul(self.value, self._operand(other)))

    def __rmul__(self, other: float) -> Number:
        return self._with(self.e.mul(self._operand(other), self.value))

    def __truediv__(self, other: Number | float) -> Number:
        return self._with(self.e.div(self.value, self._operand(other)))

    def __rtruediv__(self, other: float) -> Number:
        return self._with(self.e.div(self._operand(other), self.value))

    def __neg__(self) -> Number:
        return self._with(self.e.neg(self.value))

    def __abs__(self) -> Number:
        return self._with(self.e.abs(self.value))

    def fma(self, factor: Number | float, addend: Number | float) -> Number:
        """``self * factor + addend``."""
        return self._with(self.e.fma(self.value, self._operand(factor), self._operand(addend)))

    def ratio(self, divisor: Number) -> Number:
        """``self / divisor`` to two ulp, for magnitudes of the divisor from 1 to 2**126."""
        return self._with(self.e.ratio(self.value, divisor.value))

    def exp2(self) -> Number | None:
        """``2**self`` if the processor has an instruction for it, else None."""
        power = self.e.power_of_two(self.value)
        return None if power is None else self._with(power)

    def scaled(self, n: Number) -> Number | None:
        """``self * 2**n``, for a float ``n`` that is whole, if the processor has an instruction for it, else None."""
        product = self.e.scaled(self.value, n.value)
        return None if product is None else self._with(product)

    def rounded_product(self, factor: Number | float) -> Number:
        """``self * factor``, never fused with a sum that it feeds."""
        before, self.e.contract = self.e.contract, False
        product = self * factor
        self.e.contract = before
        return product

    def sqrt(self, *, beside: bool = False) -> Number:
        return self._with(self.e.sqrt(self.value, beside=beside))

    def trunc(self) -> Number:
        return self._with(self.e.trunc(self.value))

    def rint(self) -> Number:
        """The nearest integer, ties to even."""
        return self._with(self.e.rint(self.value))

    def floor(self) -> Number:
        return self._with(self.e.floor(self.value))

    def copysign(self, sign: Number) -> Number:
        return self._with(self.e.copysign(self.value, sign.value))

    def _compare(self, predicate: str, other: Number | float) -> Number:
        return self._with(self.e.compare(predicate, self.value, self._operand(other)))

    def __lt__(self, other: Number | float) -> Number:
        return self._compare("lt", other)

    def __le__(self, other: Number | float) -> Number:
        return self._compare("le", other)

    def __gt__(self, other: Number | float) -> Number:
        return self._compare("gt", other)

    def __ge__(self, other: Number | float) -> Number:
        return self._compare("ge", other)

    def equals(self, other: Number | float) -> Number:
        return self._compare("eq", other)

    def differs(self, other: Number | float) -> Number:
        return self._compare("ne", other)

    def unordered(self, other: Number | float) -> Number:
        """Whether either is NaN."""
        return self._compare("uno", other)

    def __and__(self, other: Number | int) -> Number:
        return self._with(self.e.and_(self.value, self._operand(other)))

    def __or__(self, other: Number | int) -> Number:
        return self._with(self.e.or_(self.value, self._operand(other)))

    def __xor__(self, other: Number | int) -> Number:
        return self._with(self.e.xor(self.value, self._operand(other)))

    def __invert__(self) -> Number:
        return self._with(self.e.not_(self.value))

    def __lshift__(self, count: Number | int) -> Number:
        return self._with(self.e.shl(self.value, self._operand(count)))

    def __rshift__(self, count: int) -> Number:
        """Shift right, filling with the sign."""
        return self._with(self.e.ashr(self.value, self._operand(count)))

    def logically_shifted(self, count: Number | int) -> Number:
        """Shift right, filling with zeros."""
        return self._with(self.e.lshr(self.value, self._operand(count)))

    def quotient(self, divisor: Number | int) -> Number:
        """Of integers, rounded toward zero."""
        return self._with(self.e.div(self.value, self._operand(divisor)))

    def remainder(self, divisor: Number | int) -> Number:
        """Of integers: what ``quotient`` leaves."""
        return self._with(self.e.rem(self.value, self._operand(divisor)))

    def unsigned(self) -> Number:
        """The bits of an int64 as a uint64."""
        return self._with(self.e.bitcast(self.value, dtypes.u64))

    def to(self, dtype: np.dtype) -> Number:
        """Converted by value."""
        return self._with(self.e.convert(self.value, dtype))

    def bits(self) -> Number:
        """The bits of a float as an integer."""
        return self._with(self.e.bitcast(self.value, self.format.integer))

    def as_float(self) -> Number:
        """The float that has this integer's bits."""
        return self._with(self.e.bitcast(self.value, dtypes.f32 if self.dtype == dtypes.i32 else dtypes.f64))

    def at_most(self, bound: float) -> Number:
        """The smaller of the number and a constant; NaN stays."""
        return select(self > bound, bound, self)

    def at_least(self, bound: float) -> Number:
        """The larger of the number and a constant; NaN stays."""
        return select(self < bound, bound, self)


def select(condition: Number, a: Number | float, b: Number | float) -> Number:
    """``a`` where the condition holds, else ``b``; one of them may be a constant."""
    like = a if isinstance(a, Number) else b
    assert isinstance(like, Number)
    return Number(condition.e, condition.e.select(condition.value, like._operand(a), like._operand(b)))


def rarely(flag: Number, usual: Number, function: Callable[..., Number], *operands: Number) -> Number:
    """``usual``, or where the flag is set, which is rare, ``function(*operands)``: a branch that costs a test."""
    name = function.__name__.strip("_")
    values = [o.value for o in operands]
    return Number(flag.e, flag.e.rarely(name, flag.value, usual.value, on_numbers(function), *values))


def repeat(count: Number, step: Callable[[Number], Number], state: Number) -> Number:
    """``step(step(… state))``, ``count`` times, a number known at run time; for code that is rare."""
    e = count.e
    return Number(e, e.repeat(count.value, lambda value: step(Number(e, value)).value, state.value))


def lookup(table: Sequence[int | float], index: Number, dtype: np.dtype) -> Number:
    """The number of a dtype at a place of a table, an int64."""
    return Number(index.e, index.e.lookup(table, index.value, dtype))


def power_of_two(n: Number) -> Number:
    """``2**n`` as a float of the width of the integer ``n``, which is an exponent of a normal number."""
    fmt = FORMATS[dtypes.f32 if n.dtype == dtypes.i32 else dtypes.f64]
    return ((n + fmt.bias) << fmt.mantissa_bits).as_float()


def polynomial(x: Number, coefficients: Sequence[float]) -> Number:
    """``c0 + c1 x + c2 x² …`` by Estrin's scheme, whose terms do not wait for each other."""
    terms: list[Number | float] = list(coefficients)
    power = x
    while len(terms) > 1:
        pairs: list[Number | float] = [power.fma(terms[k + 1], terms[k]) for k in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[len(terms) & ~1 :]
        if len(terms) > 1:
            power = power * power
    result = terms[0]
    return result if isinstance(result, Number) else x.constant(result)


def by_horner(x: Number, coefficients: Sequence[float]) -> Number:
    """The same by Horner's scheme: fewest operations, each waiting for the one before."""
    *lower, highest = coefficients
    result = x.constant(highest)
    for c in reversed(lower):
        result = x.fma(result, c)
    return result


def on_numbers(function: Callable[..., Number]) -> Callable[..., Any]:
    """Make a function of Numbers one of an emitter and its values, as the ``emit`` field of an operation has it."""

    @wraps(function)
    def emit(e: Emitter, *operands: Any) -> Any:
        return function(*(Number(e, o) for o in operands)).value

    return emit


def in_double(function: Callable[..., Number]) -> Callable[..., Number]:
    """Compute the float32 case in float64: simple and right, where speed is not worth an algorithm of its own."""

    @wraps(function)
    def widened(*operands: Number) -> Number:
        dtype = operands[0].dtype
        return function(*(o.to(dtypes.f64) for o in operands)).to(dtype)

    return widened
