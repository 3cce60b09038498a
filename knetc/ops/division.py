"""Quotients rounded down and what they leave: ``//`` and ``%``."""

from __future__ import annotations

from typing import Any

import numpy as np

from knetc.ir.op import Domain, Op
from knetc.ops import define
from knetc.ops import vector_math as vm
from knetc.ops.apply import Operand, common_kind, elementwise
from knetc.ops.vector_expression import Number, in_double, on_numbers, rarely, repeat, select
from knetc.runtime.base import dtypes

INFINITY = float("inf")
NAN = float("nan")

# --- floats ----------------------------------------------------------------------------------------------------------

_LARGE = {dtypes.f32: 2.0**23, dtypes.f64: 2.0**26}
"""Quotients from which on digits of the remainder would be lost, so that it takes a long division."""


def _exact_rest(a: Number, b: Number, quotient: Number) -> Number:
    """``a - quotient * b`` without error on any processor (an fma is rounded twice where there is no instruction).

    float32 goes through float64; float64 through halves of the factors.
    """
    if a.dtype == dtypes.f32:
        a, b, quotient = (x.to(dtypes.f64) for x in (a, b, quotient))
        return (a - quotient * b).to(dtypes.f32)
    for x in (vm._upper_half(quotient), quotient - vm._upper_half(quotient)):
        for y in (vm._upper_half(b), b - vm._upper_half(b)):
            a = a - x * y
    return a


def _has_wrong_sign(rest: Number, b: Number) -> Number:
    return rest.differs(0.0) & ((rest < 0.0) ^ (b < 0.0))


def _usual_division(a: Number, b: Number) -> tuple[Number, Number, Number]:
    """Whether a quotient is too large for this, the quotient rounded down, and what is left, of the divisor's sign.

    A quotient that was rounded up to an integer shows as a remainder of the wrong sign, and is stepped back.
    """
    ratio = a / b
    quotient = ratio.floor()
    rest = select(abs(b).equals(INFINITY), a, _exact_rest(a, b, quotient))
    step = _has_wrong_sign(rest, b)
    rest = select(step, rest + b, rest)
    rest = select(rest.equals(0.0), rest.constant(0.0).copysign(b), rest)
    rest = select(ratio.unordered(ratio), NAN, rest)
    return abs(ratio) >= _LARGE[a.dtype], select(step, quotient - 1.0, quotient), rest


def _parts(x: Number) -> tuple[Number, Number]:
    """The mantissa of a float64, an integer, and its exponent as it is stored, but at least 1."""
    bits = x.bits()
    exponent = (bits >> 52) & 2047
    mantissa = bits & ((1 << 52) - 1)
    subnormal = exponent.equals(0)
    return select(subnormal, mantissa, mantissa | (1 << 52)), select(subnormal, 1, exponent)


def _long_rest(a: Number, b: Number) -> Number:
    """What a division rounded toward zero leaves, with the sign of ``a``: eleven binary digits a step."""
    mantissa, place = _parts(abs(a))
    divisor, last = _parts(abs(b))
    divisor = divisor.unsigned()
    digits = select(place > last, place - last, 0)
    steps = digits.quotient(11)
    rest = mantissa.unsigned().remainder(divisor)
    rest = repeat(steps, lambda r: (r << 11).remainder(divisor), rest)
    rest = (rest << (digits - steps * 11).unsigned()).remainder(divisor)
    result = select(abs(a) < abs(b), abs(a), vm._scale(rest.to(a.dtype), last - 1075)).copysign(a)
    return select(abs(a).equals(INFINITY) | b.equals(0.0), NAN, result)


@in_double
def _long_mod(a: Number, b: Number) -> Number:
    rest = _long_rest(a, b)
    rest = select(_has_wrong_sign(rest, b), rest + b, rest)
    return select(rest.equals(0.0), rest.constant(0.0).copysign(b), rest)


@in_double
def _long_quotient(a: Number, b: Number) -> Number:
    rest = _long_rest(a, b)
    quotient = (a - rest) / b
    quotient = select(_has_wrong_sign(rest, b), quotient - 1.0, quotient).rint()
    return select(b.equals(0.0), a / b, quotient)


@on_numbers
def _emit_mod(a: Number, b: Number) -> Number:
    large, _, rest = _usual_division(a, b)
    return rarely(large, rest, _long_mod, a, b)


@on_numbers
def _emit_floor_divide(a: Number, b: Number) -> Number:
    large, quotient, _ = _usual_division(a, b)
    return rarely(large, quotient, _long_quotient, a, b)


_DOMAINS = (Domain(-20.0, 20.0, special=(0.0, 1.0, 1e30)), Domain(0.5, 3.0, special=(0.1, -2.0, INFINITY)))

FLOOR_DIVIDE = define.elementwise(
    "floor_divide",
    reference=np.floor_divide,
    emit=_emit_floor_divide,
    symbol="//",
    arity=2,
    cost=8,
    domains=_DOMAINS,
)

MOD = define.elementwise(
    "mod",
    reference=np.mod,
    gradient=lambda node, dy: (dy, -(dy * floor_divide(*node.sources))),
    emit=_emit_mod,
    symbol="%",
    arity=2,
    cost=8,
    domains=_DOMAINS,
)

# --- integers --------------------------------------------------------------------------------------------------------


def _emit_integer_division(e: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The quotient rounded down and the remainder that has the divisor's sign."""
    zero, one = e.constant(0, a.dtype), e.constant(1, a.dtype)
    quotient, rest = e.div(a, b), e.rem(a, b)
    signs_differ = e.xor(e.compare("lt", rest, zero), e.compare("lt", b, zero))
    step = e.and_(e.compare("ne", rest, zero), signs_differ)
    return e.select(step, e.sub(quotient, one), quotient), e.select(step, e.add(rest, b), rest)


def _integer_division(name: str, reference: Any, emit: Any) -> Op:
    return define.elementwise(name, reference=reference, emit=emit, accepts="i", arity=2, cost=16)


INTEGER_FLOOR_DIVIDE = _integer_division(
    "integer_floor_divide",
    np.floor_divide,
    lambda e, a, b: _emit_integer_division(e, a, b)[0],
)

INTEGER_MOD = _integer_division(
    "integer_mod",
    np.mod,
    lambda e, a, b: _emit_integer_division(e, a, b)[1],
)

INTEGER_FMOD = _integer_division("integer_fmod", np.fmod, lambda e, a, b: e.rem(a, b))

# --- plain functions -------------------------------------------------------------------------------------------------


def floor_divide(a: Operand, b: Operand) -> Any:
    """The quotient rounded down, of the promoted dtype; an integer divided by 0 gives 0. Its gradient is zero.

    >>> floor_divide(kn.array([7, -7]), 2)  # [3, -4]
    """
    return elementwise(FLOOR_DIVIDE if common_kind(a, b) == "f" else INTEGER_FLOOR_DIVIDE, a, b)


def mod(a: Operand, b: Operand) -> Any:
    """What ``floor_divide`` leaves: the remainder with the sign of the divisor; an integer modulo 0 gives 0.

    Of floats it is exact, however large the quotient.

    >>> mod(kn.array([7, -7]), 3)  # [1, 2]
    """
    return elementwise(MOD if common_kind(a, b) == "f" else INTEGER_MOD, a, b)


remainder = mod


__all__ = ["floor_divide", "mod", "remainder"]
