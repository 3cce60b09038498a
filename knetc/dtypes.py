"""Dtypes and constants by the names that users give them, and what can be asked about dtypes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from knetc.arrays import ArrayLike, to_device
from knetc.creation import zeros
from knetc.ops import apply
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError

e, pi, inf, nan, euler_gamma, newaxis = math.e, math.pi, math.inf, math.nan, float(np.euler_gamma), None

bool_ = dtypes.boolean
int8, int16, int32, int64 = dtypes.i8, dtypes.i16, dtypes.i32, dtypes.i64
uint8, uint16, uint32, uint64 = dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64
float16, float32, float64 = dtypes.f16, dtypes.f32, dtypes.f64

#: of the array API standard
KINDS: dict[str, tuple[np.dtype[Any], ...]] = {
    "bool": (bool_,),
    "signed integer": (int8, int16, int32, int64),
    "unsigned integer": (uint8, uint16, uint32, uint64),
    "real floating": (float32, float64),
    "complex floating": (),
}
KINDS["integral"] = KINDS["signed integer"] + KINDS["unsigned integer"]
KINDS["numeric"] = KINDS["integral"] + KINDS["real floating"]


class finfo_object(NamedTuple):
    """What there is to know about a floating dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]


class iinfo_object(NamedTuple):
    """What there is to know about an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: np.dtype[Any]


def _dtype_of(type: Any) -> np.dtype[Any]:
    return type.dtype if isinstance(type, ArrayLike) else dtypes.as_dtype(type)


def finfo(type: Any, /) -> finfo_object:
    """The bits, precision and bounds of a floating dtype, or of an array's. Raises DtypeError for another."""
    dtype = _dtype_of(type)
    if not dtypes.is_float(dtype):
        raise DtypeError(f"finfo takes a floating-point dtype, not {dtype}; use iinfo for integers")
    precision = 2.0 ** -dtypes.mantissa_bits(dtype)
    largest = (2 - precision) * 2.0 ** (1 - dtypes.min_exponent(dtype))
    smallest = 2.0 ** dtypes.min_exponent(dtype)
    return finfo_object(dtype.itemsize * 8, precision, largest, -largest, smallest, dtype)


def iinfo(type: Any, /) -> iinfo_object:
    """The bits and bounds of an integer dtype, or of an array's. Raises DtypeError for another."""
    dtype = _dtype_of(type)
    if not dtypes.is_integer(dtype):
        raise DtypeError(f"iinfo takes an integer dtype, not {dtype}; use finfo for floats")
    bounds = np.iinfo(dtype)
    return iinfo_object(int(bounds.bits), int(bounds.max), int(bounds.min), dtype)


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: another dtype, a name such as "real floating", or one of a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    own = dtypes.as_dtype(dtype)
    if isinstance(kind, str):
        if kind not in KINDS:
            raise ValueError(f"isdtype: {kind!r} is none of {', '.join(KINDS)}")
        return own in KINDS[kind] or (kind in ("real floating", "numeric") and dtypes.is_narrow(own))
    return own == dtypes.as_dtype(kind)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether promotion leads from one dtype (or an array's) to another."""
    source, target = _dtype_of(from_), _dtype_of(to)
    return dtypes.promote(source, target) == target


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype that arrays, dtypes and Python's numbers are promoted to together."""
    operands = [a if isinstance(a, ArrayLike) or apply.is_scalar(a) else zeros(0, dtype=a) for a in arrays_and_dtypes]
    if all(map(apply.is_scalar, operands)):
        raise ValueError("result_type takes an array or a dtype at least")
    return apply.common_dtype(*operands)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """``x`` with another dtype; ``x`` itself if it has it and no copy is asked for."""
    if not copy and x.dtype == dtypes.as_dtype(dtype):
        return x
    moved = x if device is None else to_device(x, device)
    return apply.cast(moved, dtype)


__all__ = [
    "astype", "bool_", "can_cast", "e", "euler_gamma", "finfo", "float16", "float32", "float64", "iinfo", "inf", "int8",
    "int16", "int32", "int64", "isdtype", "nan", "newaxis", "pi", "result_type", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip
