"""Element types: NumPy dtypes, their short names in the IR, and the promotion rules."""

from __future__ import annotations

from functools import cache

import numpy as np

#: short name (as the IR prints it) -> NumPy's name
_NAMES = {
    "f16": "float16", "f32": "float32", "f64": "float64",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "bool": "bool",
}  # fmt: skip

f16, f32, f64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
i8, i16, i32, i64 = np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64")
u8, u16, u32, u64 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("uint32"), np.dtype("uint64")
boolean = np.dtype("bool")

#: all short names
SHORT_NAMES = frozenset((*_NAMES, "bf16"))

_SHORT = {np.dtype(long): short for short, long in _NAMES.items()}

#: the dtypes that the compiler generates code for today
SUPPORTED: frozenset[np.dtype] = frozenset((f32, f64, i32, i64, boolean))


@cache
def bfloat16() -> np.dtype:
    """NumPy's dtype for bfloat16, which the ml_dtypes package brings (imported when first asked for)."""
    import ml_dtypes

    kind: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return kind


def short_name(dtype: np.dtype) -> str:
    """The name of a dtype in the IR: ``f32``, ``i64``, ``bool`` …"""
    name = _SHORT.get(dtype)
    return name if name is not None else {"bfloat16": "bf16"}.get(dtype.name, dtype.name)


def from_short_name(name: str) -> np.dtype:
    """The dtype that the IR calls ``name``; raises KeyError for an unknown name."""
    return bfloat16() if name == "bf16" else np.dtype(_NAMES[name])


def is_float(dtype: np.dtype) -> bool:
    """True for the real floating-point types, bfloat16 included."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_integer(dtype: np.dtype) -> bool:
    """True for signed and unsigned integers; bool is not one."""
    return dtype.kind in "iu"


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """NumPy's promotion of two array dtypes."""
    return a if a == b else np.promote_types(a, b)


def promote_weak(dtype: np.dtype, scalar: bool | int | float, default_float: np.dtype) -> np.dtype:
    """The dtype of an array of ``dtype`` combined with a Python scalar, which is weak.

    The array's dtype wins, unless the scalar is of a higher kind: a bool array with an int gives int64, a bool or
    integer array with a float gives the default float dtype.
    """
    if isinstance(scalar, bool):
        return dtype
    if isinstance(scalar, int):
        return i64 if dtype == boolean else dtype
    return dtype if is_float(dtype) else default_float
