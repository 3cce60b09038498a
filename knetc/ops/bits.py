"""What numbers are made of: their bits, mantissa and exponent, neighbours, common divisors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.record import record
from knetc.ir.types import Shape, TensorType
from knetc.ops import define
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    cast_node,
    coerce,
    common_dtype,
    common_kind,
    composite,
    constant,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.arithmetic import absolute, clip, negative, trunc
from knetc.ops.division import floor_divide, mod
from knetc.ops.elementary import copysign
from knetc.ops.identities import iota, stop_gradient
from knetc.ops.logic import (
    bitwise_and,
    equal,
    greater,
    invert,
    isfinite,
    isinf,
    isnan,
    left_shift,
    less,
    not_equal,
    right_shift,
    where,
)
from knetc.ops.movement import cut_node, moveaxis, pad_node
from knetc.ops.reduction import sum, to_float
from knetc.ops.transcendental import power
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError

# --- the same bits as another type -----------------------------------------------------------------------------------


def _infer_bitcast(x: TensorType, *, dtype: np.dtype) -> TensorType:
    if x.dtype.itemsize != dtype.itemsize or dtypes.boolean in (x.dtype, dtype):
        raise DtypeError(f"bitcast: {x} cannot be read as {dtype}, which is of another width or kind")
    if dtypes.is_narrow(x.dtype) or dtypes.is_narrow(dtype):
        raise DtypeError(f"bitcast: {x} cannot be read as {dtype}: registers hold 16-bit floats as float32")
    return x.with_dtype(dtype)


BITCAST = define.elementwise(
    "bitcast",
    infer=_infer_bitcast,
    reference=lambda x, *, dtype: x.view(dtype),
    emit=lambda e, x, *, dtype: e.bitcast(x, dtype),
    exact=True,
    accepts="fi",
    samples=[
        define.case("f32[5,7]", dtype=dtypes.i32),
        define.case("f64[5]", dtype=dtypes.u64),
        define.case("i16[3]", dtype=dtypes.u16),
        define.case("i64[]", dtype=dtypes.i64),
    ],
    bad=[
        (define.case("f32[3]", dtype=dtypes.i64), DtypeError),
        (define.case("f16[3]", dtype=dtypes.i16), DtypeError),
        (define.case("bool[3]", dtype=dtypes.i8), DtypeError),
    ],
)


def bitcast(x: Operand, dtype: Any) -> Any:
    """The bits of elements read as another dtype of the same width: NumPy's ``view``. It has no gradient.

    Raises DtypeError for another width, for bool, and for 16-bit floats.

    >>> bitcast(kn.array([1.0]), "int32")  # [1065353216]
    """
    [node] = to_nodes(x)
    wanted = dtypes.as_dtype(dtype)
    return wrap_like((x,), node if wanted == node.dtype else record(BITCAST, (node,), {"dtype": wanted}))


def _integers(x: Node) -> np.dtype:
    """The signed integers as wide as a float."""
    return dtypes.i32 if x.dtype.itemsize == 4 else dtypes.i64


# --- mantissa and exponent -------------------------------------------------------------------------------------------


def _power_of_two(exponent: Node, dtype: np.dtype) -> Node:
    """2**exponent, for exponents of normal numbers."""
    bias = 1 - dtypes.min_exponent(dtype)
    bits = left_shift(exponent + bias, dtypes.mantissa_bits(dtype))
    result: Node = bitcast(bits, dtype)
    return result


@composite(2, wide=True)
def ldexp(x: Operand, exponent: Operand) -> Any:
    """``x * 2**exponent``, for integer exponents, exact but for subnormal results.

    Its gradient with respect to ``x`` is the power.

    >>> ldexp(kn.array([0.75]), 3)  # [6]
    """
    node = to_float(to_nodes(x)[0])
    if common_kind(exponent) == "f":
        raise DtypeError("ldexp: the exponent is of integers; use x * exp2(y)")
    kind = _integers(node)
    given = cast_node(clip(cast_node(to_nodes(exponent)[0], dtypes.i64), -3000, 3000), kind)
    low, high = (
        dtypes.min_exponent(node.dtype) + dtypes.mantissa_bits(node.dtype) + 1,
        1 - dtypes.min_exponent(node.dtype),
    )
    result = node
    for _ in range(3):  # two steps down end above the subnormal numbers, so that only the last one rounds
        step = clip(given, low, high)
        result = result * _power_of_two(step, node.dtype)
        given = given - step
    return result


@composite(wide=True)
def frexp(x: Operand) -> Any:
    """Mantissa and exponent: ``x = mantissa * 2**exponent`` with ``0.5 <= abs(mantissa) < 1``, exponents int32.

    Zeros, infinities and NaN are their own mantissa.

    >>> frexp(kn.array([6.0]))  # ([0.75], [3])
    """
    node = to_float(to_nodes(x)[0])
    bits = dtypes.mantissa_bits(node.dtype)
    still = stop_gradient(node)
    tiny = absolute(still) < 2.0 ** dtypes.min_exponent(node.dtype)
    normal = where(tiny, still * 2.0 ** (bits + 1), still)
    field = bitwise_and(
        right_shift(bitcast(normal, _integers(node)), bits), 2 * (1 - dtypes.min_exponent(node.dtype)) + 1
    )
    exponent = field + (dtypes.min_exponent(node.dtype) - where(tiny, bits + 1, 0))
    exponent = where(isfinite(still) & invert(equal(still, 0)), exponent, 0)
    return ldexp(node, 0 - exponent), cast_node(exponent, dtypes.i32)


@composite(wide=True)
def modf(x: Operand) -> Any:
    """The part after the point and the part before it, both with the sign of ``x``.

    >>> modf(kn.array([-2.5]))  # ([-0.5], [-2])
    """
    node = to_float(to_nodes(x)[0])
    whole = trunc(node)
    rest = where(isinf(node), constant(0, node.dtype, node.shape), node - whole)
    return copysign(rest, node), whole


@composite(2)
def nextafter(x: Operand, y: Operand) -> Any:
    """The number of the dtype next to ``x`` on the way to ``y``: ``y`` where they are equal, NaN if either is.

    Its gradient is none.

    >>> nextafter(kn.array([1.0]), 2)  # [1.0000001]
    """
    a, b = coerce("nextafter", (x, y), accepts="f")
    dtype = a.dtype
    a, b = _widened(a), _widened(b)
    outward = equal(greater(b, a), greater(a, 0))
    result = where(equal(a, b), b, where(equal(a, 0), copysign(_smallest(dtype, a), b), _stepped(a, outward, dtype)))
    return cast_node(where(isnan(a) | isnan(b), math.nan, result), dtype)


def _widened(x: Node) -> Node:
    """16-bit floats in float32, whose bits can be had."""
    return cast_node(x, dtypes.accumulator(x.dtype))


def _smallest(dtype: np.dtype, like: Node) -> Node:
    """The smallest number of a dtype above 0."""
    return constant(2.0 ** (dtypes.min_exponent(dtype) - dtypes.mantissa_bits(dtype)), like.dtype, like.shape)


def _stepped(x: Node, outward: Node, dtype: np.dtype) -> Node:
    """The neighbour, among the numbers of ``dtype``, of a number that is not 0: away from 0, or towards it.

    Numbers of a narrow dtype, held in float32, are as many bits apart as float32 has more of.
    """
    kind = _integers(x)
    step = 1 << (dtypes.mantissa_bits(x.dtype) - dtypes.mantissa_bits(dtype))
    stepped: Node = bitcast(bitcast(x, kind) + where(outward, constant(step, kind), -step), x.dtype)
    if dtype == x.dtype:
        return stepped
    size, smallest, least = absolute(x), _smallest(dtype, x), 2.0 ** dtypes.min_exponent(dtype)
    subnormal = less(size, least) | (equal(size, least) & invert(outward))
    moved = copysign(where(outward, size + smallest, size - smallest), x)
    largest = copysign(constant(dtypes.largest(dtype), x.dtype, x.shape), x)
    inside: Node = where(subnormal, moved, where(isinf(x), largest, stepped))
    return inside


@composite()
def spacing(x: Operand) -> Any:
    """The distance from ``x`` to the next number away from zero, with the sign of ``x``; NaN of infinities.

    >>> spacing(kn.array([1.0]))  # [1.1920929e-07]
    """
    [node] = coerce("spacing", (x,), accepts="f")
    size = stop_gradient(absolute(node))
    distance = nextafter(size, math.inf) - size
    return where(less(node, 0), negative(distance), distance)


# --- integers --------------------------------------------------------------------------------------------------------


def _magnitudes(name: str, a: Operand, b: Operand) -> list[Node]:
    """The absolute values of integers, unsigned, so that the one of the smallest number is there too."""
    nodes = coerce(name, (a, b), accepts="i")
    return [cast_node(absolute(n), np.dtype(f"uint{8 * n.dtype.itemsize}")) for n in nodes]


def _integer_dtype(a: Operand, b: Operand) -> np.dtype:
    dtype = common_dtype(a, b)
    return dtypes.i8 if dtype == dtypes.boolean else dtype


@composite(2)
def gcd(a: Operand, b: Operand) -> Any:
    """The greatest common divisor of integers, never negative; that of 0 and n is ``abs(n)``.

    >>> gcd(kn.array([12, 0]), 18)  # [6, 18]
    """
    large, small = _magnitudes("gcd", a, b)
    steps = int(large.dtype.itemsize * 8 * 1.4405) + 2  # the most that Euclid's algorithm takes, for Fibonacci numbers
    for _ in range(steps):
        large, small = where(equal(small, 0), large, small), mod(large, small)
    return cast_node(large, _integer_dtype(a, b))


@composite(2)
def lcm(a: Operand, b: Operand) -> Any:
    """The least common multiple of integers; 0 if either is. It wraps around where the dtype does not hold it.

    >>> lcm(kn.array([4, 0]), 6)  # [12, 0]
    """
    left, right = _magnitudes("lcm", a, b)
    return cast_node(floor_divide(left, gcd(left, right)) * right, _integer_dtype(a, b))


@composite()
def bitwise_count(x: Operand) -> Any:
    """How many bits are set in the absolute value of integers, as uint8.

    >>> bitwise_count(kn.array([7, -8]))  # [3, 1]
    """
    [node] = coerce("bitwise_count", (x,), accepts="i")
    size = node if node.dtype.kind == "u" else absolute(node)
    unsigned = cast_node(size, np.dtype(f"uint{8 * node.dtype.itemsize}"))
    total = unsigned - bitwise_and(right_shift(unsigned, 1), _every(0x55, unsigned))
    total = bitwise_and(total, _every(0x33, total)) + bitwise_and(right_shift(total, 2), _every(0x33, total))
    total = bitwise_and(total + right_shift(total, 4), _every(0x0F, total))
    for width in (8, 16, 32):
        if width < 8 * node.dtype.itemsize:
            total = total + right_shift(total, width)
    return cast_node(bitwise_and(total, 0x7F), dtypes.u8)


def _every(byte: int, like: Node) -> int:
    """A byte in all bytes of a number."""
    return int.from_bytes(bytes([byte]) * like.dtype.itemsize, "little")


# --- bits in bytes ---------------------------------------------------------------------------------------------------


def _shifts(name: str, bitorder: str, shape: Shape) -> Node:
    """By how much the bits along a last axis of eight are shifted."""
    if bitorder not in ("big", "little"):
        raise ValueError(f"{name}: bitorder is 'big' or 'little', not {bitorder!r}")
    places = iota(dtypes.u8, shape, len(shape) - 1)
    return places if bitorder == "little" else 7 - places


@composite()
def packbits(x: Operand, axis: int | None = None, bitorder: str = "big") -> Any:
    """Each eight elements along an axis (of all in C order without one) as the bits of a byte: 1 where not 0.

    The first is the highest bit, or with ``bitorder="little"`` the lowest; the last byte is filled up with 0. The
    result is uint8. Raises DtypeError for floats, ValueError for another order.

    >>> packbits(kn.array([1, 0, 0, 0, 0, 0, 1, 1]))  # [131]
    """
    [node] = to_nodes(x)
    if dtypes.is_float(node.dtype):
        raise DtypeError(f"packbits takes integers and bools, not {node.dtype}; use packbits(x != 0)")
    bits = reshape_node(node, (node.type.size,)) if axis is None else moveaxis(node, axis, -1)
    *outer, count = bits.shape
    missing = -count % 8
    flags = pad_node(not_equal(bits, 0), (0,) * bits.ndim, (*(0 for _ in outer), missing))
    parts = reshape_node(flags, (*outer, (count + missing) // 8, 8))
    weights = left_shift(constant(1, dtypes.u8, parts.shape), _shifts("packbits", bitorder, parts.shape))
    packed = sum(where(parts, weights, 0), -1, dtype=dtypes.u8)
    return packed if axis is None else moveaxis(packed, -1, axis)


@composite()
def unpackbits(x: Operand, axis: int | None = None, count: int | None = None, bitorder: str = "big") -> Any:
    """The bits of uint8 numbers as numbers 0 and 1, eight along an axis (of all in C order without one) for each.

    ``count`` says how many to keep, a negative one how many to leave out at the end; more are filled up with 0. The
    highest bit comes first, or with ``bitorder="little"`` the lowest. Raises DtypeError for another dtype.

    >>> unpackbits(kn.array([131], dtype="uint8"))  # [1, 0, 0, 0, 0, 0, 1, 1]
    """
    [node] = to_nodes(x)
    if node.dtype != dtypes.u8:
        raise DtypeError(f"unpackbits takes uint8, not {node.dtype}; cast with x.astype('uint8')")
    source = reshape_node(node, (node.type.size,)) if axis is None else moveaxis(node, axis, -1)
    *outer, length = source.shape
    shape = (*outer, length, 8)
    wide = broadcast_node(reshape_node(source, (*outer, length, 1)), shape)
    bits = reshape_node(bitwise_and(right_shift(wide, _shifts("unpackbits", bitorder, shape)), 1), (*outer, length * 8))
    kept = length * 8 if count is None else max(0, length * 8 + count) if count < 0 else count
    bits = cut_node(bits, bits.ndim - 1, 0, min(kept, length * 8))
    bits = pad_node(bits, (0,) * bits.ndim, (*(0 for _ in outer), max(0, kept - length * 8)))
    return bits if axis is None else moveaxis(bits, -1, axis)


# --- powers and logarithms that NumPy has ----------------------------------------------------------------------------


@composite(2)
def float_power(base: Operand, exponent: Operand) -> Any:
    """``base ** exponent`` in float64.

    >>> float_power(kn.array([2, 3]), 0.5)  # [1.41421356, 1.73205081]
    """
    return power(*(cast_node(n, dtypes.f64) for n in to_nodes(base, exponent)))


__all__ = [
    "bitcast", "bitwise_count", "float_power", "frexp", "gcd", "lcm", "ldexp", "modf", "nextafter", "packbits",
    "spacing", "unpackbits",
]  # fmt: skip
