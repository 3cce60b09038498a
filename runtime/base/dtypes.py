"""Element types: NumPy dtypes, their short names in the IR, and the promotion rules.

``float16`` and ``bfloat16`` are called *narrow*: they are what memory holds, while arithmetic on them is done in
float32 and each operation's result is rounded to them, as NumPy does.
"""

from __future__ import annotations

from functools import cache
from typing import Any

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

#: the dtypes that there is code for, but for bfloat16: see ``is_supported``
SUPPORTED: frozenset[np.dtype] = frozenset((f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64, boolean))


@cache
def bfloat16() -> np.dtype:
    """NumPy's dtype for bfloat16, which the ml_dtypes package brings (imported when first asked for)."""
    import ml_dtypes

    kind: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return kind


def as_dtype(given: Any) -> np.dtype:
    """What ``np.dtype`` makes of a name, a type or a dtype; it also knows the name ``bfloat16``.

    >>> as_dtype("float16"), as_dtype(int)
    (dtype('float16'), dtype('int64'))
    """
    return bfloat16() if isinstance(given, str) and given == "bfloat16" else np.dtype(given)


def is_supported(dtype: np.dtype) -> bool:
    """Whether arrays may have this dtype."""
    return dtype in SUPPORTED or is_bfloat16(dtype)


def supported_names() -> str:
    """The dtypes that arrays may have, for messages."""
    return ", ".join(sorted([*map(str, SUPPORTED), "bfloat16"]))


def is_bfloat16(dtype: np.dtype) -> bool:
    return dtype.kind == "V" and dtype.name == "bfloat16"


def is_narrow(dtype: np.dtype) -> bool:
    """Whether a dtype is float16 or bfloat16, on which arithmetic is done in float32."""
    return dtype == f16 or is_bfloat16(dtype)


def accumulator(dtype: np.dtype) -> np.dtype:
    """What elements of a dtype are folded in: narrow floats in float32, all others in their own dtype."""
    return f32 if is_narrow(dtype) else dtype


def short_name(dtype: np.dtype) -> str:
    """The name of a dtype in the IR: ``f32``, ``i64``, ``bool`` …"""
    name = _SHORT.get(dtype)
    return name if name is not None else {"bfloat16": "bf16"}.get(dtype.name, dtype.name)


def from_short_name(name: str) -> np.dtype:
    """The dtype that the IR calls ``name``; raises KeyError for an unknown name."""
    return bfloat16() if name == "bf16" else np.dtype(_NAMES[name])


def is_float(dtype: np.dtype) -> bool:
    """True for the real floating-point types, bfloat16 included."""
    return dtype.kind == "f" or is_bfloat16(dtype)


def is_integer(dtype: np.dtype) -> bool:
    """True for signed and unsigned integers; bool is not one."""
    return dtype.kind in "iu"


def mantissa_bits(dtype: np.dtype) -> int:
    """The bits of a float's mantissa, without the one before the point."""
    return 7 if is_bfloat16(dtype) else int(np.finfo(dtype).nmant)


def min_exponent(dtype: np.dtype) -> int:
    """The exponent of a float dtype's smallest normal number."""
    return -126 if is_bfloat16(dtype) else int(np.finfo(dtype).minexp)


def largest(dtype: np.dtype) -> float:
    """The largest finite number of a float dtype."""
    exponent = 1 - min_exponent(dtype)
    return (2.0 - 2.0 ** -mantissa_bits(dtype)) * 2.0**exponent


def holds_all(wide: np.dtype, narrow: np.dtype) -> bool:
    """Whether each value of one dtype is a value of the other, ``wide``."""
    if narrow in (wide, boolean):
        return True
    if is_float(wide):
        bits = mantissa_bits(narrow) if is_float(narrow) else narrow.itemsize * 8 - 1
        return mantissa_bits(wide) >= bits and (not is_float(narrow) or min_exponent(wide) <= min_exponent(narrow))
    return is_integer(narrow) and np.can_cast(narrow, wide)


def wrapped(value: bool | int | float, dtype: np.dtype) -> bool | int | float:
    """A Python number as a dtype holds it: integers wrap around, floats are rounded.

    >>> wrapped(300, u8), wrapped(-1, u16), wrapped(2049.0, f16)
    (44, 65535, 2048.0)
    """
    if is_integer(dtype):
        bits = 8 * dtype.itemsize
        low = int(value) & ((1 << bits) - 1)
        return low - (1 << bits) if dtype.kind == "i" and low >> (bits - 1) else low
    with np.errstate(over="ignore"):
        return np.asarray(value, dtype).item()  # type: ignore[no-any-return]


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of an operation on arrays of two dtypes: NumPy's rule, and where NumPy has none, this one.

    bfloat16 beside integers or bools stays bfloat16, beside float16 gives float32 (neither holds the other), beside
    float32 and float64 gives those.

    >>> promote(f16, i32), promote(u8, i8)
    (dtype('float64'), dtype('int16'))
    """
    if a == b:
        return a
    if is_bfloat16(a) or is_bfloat16(b):
        brain, other = (a, b) if is_bfloat16(a) else (b, a)
        return f32 if other == f16 else other if is_float(other) else brain
    return np.promote_types(a, b)


def promote_weak(dtype: np.dtype, scalar: bool | int | float, default_float: np.dtype) -> np.dtype:
    """The dtype of an array of ``dtype`` combined with a Python scalar, which is weak.

    The array's dtype wins, unless the scalar is of a higher kind: a bool array with an int gives int64, a bool or
    integer array with a float gives the default float dtype. Whether the dtype holds an int's value is not asked here.
    """
    if isinstance(scalar, bool):
        return dtype
    if isinstance(scalar, int):
        return i64 if dtype == boolean else dtype
    return dtype if is_float(dtype) else default_float
