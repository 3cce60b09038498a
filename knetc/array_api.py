"""The array API standard, version 2024.12: what ``x.__array_namespace__()`` gives.

Names, parameters and meaning are the standard's. There are no complex numbers, so no functions for them alone, and the
default floating dtype is float32 unless ``kn.set_default`` says otherwise.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from knetc import arrays, creation, linalg, selection
from knetc.arrays import Array, ArrayLike, array, protocol
from knetc.ir.ambient import ambient
from knetc.ops import apply, calculus, sorting
from knetc.ops.arithmetic import (
    abs,
    add,
    ceil,
    divide,
    floor,
    maximum,
    minimum,
    multiply,
    negative,
    positive,
    reciprocal,
    round,
    sign,
    square,
    subtract,
    trunc,
)
from knetc.ops.bits import nextafter
from knetc.ops.contraction import tensordot
from knetc.ops.division import floor_divide, remainder
from knetc.ops.elementary import clamp, copysign, signbit
from knetc.ops.indexed import take, take_along_axis
from knetc.ops.joining import concat, stack, unstack
from knetc.ops.linear import matmul, vecdot
from knetc.ops.logic import (
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    where,
)
from knetc.ops.logic import invert as bitwise_invert
from knetc.ops.logic import left_shift as bitwise_left_shift
from knetc.ops.logic import right_shift as bitwise_right_shift
from knetc.ops.movement import (
    broadcast_arrays,
    broadcast_to,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    permute_dims,
    squeeze,
)
from knetc.ops.rearrange import meshgrid, repeat, roll, tile, tril, triu
from knetc.ops.reduction import all, any, argmax, argmin, count_nonzero, max, mean, min, prod, std, sum, var
from knetc.ops.scan import cumulative_prod, cumulative_sum
from knetc.ops.sorting import argsort, sort
from knetc.ops.special import logaddexp
from knetc.ops.transcendental import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    exp,
    expm1,
    hypot,
    log,
    log1p,
    log2,
    log10,
    pow,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
)
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError
from knetc.selection import unique_all, unique_counts, unique_inverse, unique_values

__array_api_version__ = "2024.12"

# --- constants and dtypes --------------------------------------------------------------------------------------------

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None

bool = dtypes.boolean
int8, int16, int32, int64 = dtypes.i8, dtypes.i16, dtypes.i32, dtypes.i64
uint8, uint16, uint32, uint64 = dtypes.u8, dtypes.u16, dtypes.u32, dtypes.u64
float16, float32, float64 = dtypes.f16, dtypes.f32, dtypes.f64

_KINDS: dict[str, tuple[np.dtype[Any], ...]] = {
    "bool": (bool,),
    "signed integer": (int8, int16, int32, int64),
    "unsigned integer": (uint8, uint16, uint32, uint64),
    "real floating": (float32, float64),
    "complex floating": (),
}
_KINDS["integral"] = _KINDS["signed integer"] + _KINDS["unsigned integer"]
_KINDS["numeric"] = _KINDS["integral"] + _KINDS["real floating"]


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


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether a dtype is of a kind: another dtype, a name such as "real floating", or one of a tuple of these."""
    if isinstance(kind, tuple):
        return builtins.any(isdtype(dtype, one) for one in kind)
    own = dtypes.as_dtype(dtype)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"isdtype: {kind!r} is none of {', '.join(_KINDS)}")
        return own in _KINDS[kind] or (kind in ("real floating", "numeric") and dtypes.is_narrow(own))
    return own == dtypes.as_dtype(kind)


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Whether promotion leads from one dtype (or an array's) to another."""
    source, target = _dtype_of(from_), _dtype_of(to)
    return dtypes.promote(source, target) == target


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype that arrays, dtypes and Python's numbers are promoted to together."""
    operands = [
        a if isinstance(a, ArrayLike) or apply.is_scalar(a) else creation.zeros(0, dtype=a) for a in arrays_and_dtypes
    ]
    if builtins.all(map(apply.is_scalar, operands)):
        raise ValueError("result_type takes an array or a dtype at least")
    return apply.common_dtype(*operands)


def astype(x: Any, dtype: Any, /, *, copy: builtins.bool = True, device: Any = None) -> Any:
    """``x`` with another dtype; ``x`` itself if it has it and no copy is asked for."""
    if not copy and x.dtype == dtypes.as_dtype(dtype):
        return x
    moved = x if device is None else arrays.to_device(x, device)
    return apply.cast(moved, dtype)


# --- creation --------------------------------------------------------------------------------------------------------


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: builtins.bool | None = None) -> Array:
    """An Array of numbers, nested lists or another array; a copy unless it is an Array of the dtype already."""
    same = isinstance(obj, Array) and (dtype is None or obj.dtype == dtypes.as_dtype(dtype))
    same = same and device in (None, obj.device)
    if copy is False and not same:
        raise ValueError("asarray: an Array cannot be made of this without a copy; see from_dlpack")
    return obj if same and not copy else array(obj, dtype, device=device)


def from_dlpack(x: Any, /, *, device: Any = None, copy: builtins.bool | None = None) -> Array:
    """An Array on the memory of another library's array; see ``kn.from_dlpack``."""
    found = arrays.from_dlpack(x)
    found = found if device is None else arrays.to_device(found, device)
    return array(found.numpy().copy()) if copy else found


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None
) -> Array:
    """Numbers from ``start`` up to, without, ``stop``; see ``kn.arange``."""
    return creation.arange(start, stop, step, dtype, device=device)


def linspace(
    start: float,
    stop: float,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: builtins.bool = True,
) -> Array:
    """``num`` numbers at equal distances; see ``kn.linspace``."""
    return creation.linspace(start, stop, num, dtype, endpoint=endpoint, device=device)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Array:
    """Ones on the ``k``-th diagonal, zeros elsewhere."""
    return creation.eye(n_rows, n_cols, k, dtype, device=device)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """An array of ``shape`` with one value everywhere."""
    return creation.full(shape, fill_value, dtype, device=device)


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Zeros."""
    return creation.zeros(shape, dtype=dtype, device=device)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Ones."""
    return creation.ones(shape, dtype=dtype, device=device)


empty = zeros


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """An array of the shape and dtype of ``x`` with one value everywhere."""
    return creation.full_like(x, fill_value, dtype, device=device)


def zeros_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Zeros of the shape and dtype of ``x``."""
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Ones of the shape and dtype of ``x``."""
    return full_like(x, 1, dtype=dtype, device=device)


empty_like = zeros_like

# --- where the standard's parameters differ --------------------------------------------------------------------------


def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    """``x`` kept between two bounds, either of which may be None; it keeps its dtype."""
    bounds = [b if b is None or apply.is_scalar(b) else apply.cast(b, x.dtype) for b in (min, max)]
    return clamp(x, *bounds)


def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Any:
    """Each element along an axis less the one before it, ``n`` times over."""
    return calculus.difference(x, n, axis, prepend, append)


def nonzero(x: Any, /) -> tuple[Any, ...]:
    """The indices of the elements that are not 0, an array for each axis. Raises ShapeError for a number."""
    if not x.ndim:
        raise ShapeError("nonzero takes an array of one dimension at least")
    return selection.nonzero(x)


def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
    """Where each element of ``x2`` belongs in the sorted vector ``x1``."""
    return sorting.searchsorted(x1, x2, side, sorter)


def reshape(x: Any, /, shape: Sequence[int], *, copy: builtins.bool | None = None) -> Any:
    """``x`` in another shape, in C order; one extent may be -1."""
    return x.reshape(shape)


conj = real = positive


def imag(x: Any, /) -> Any:
    """Zeros: there are no complex numbers."""
    return zeros_like(x)


# --- what there is ---------------------------------------------------------------------------------------------------


class _Info:
    """What this namespace can do, as the standard asks for it."""

    def capabilities(self) -> dict[str, Any]:
        """Masks and shapes that depend on data are there outside of compiled functions."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        return ambient().device

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype[Any]]:
        return {"real floating": ambient().dtype, "integral": int64, "indexing": int64}

    def devices(self) -> list[str]:
        return list(dict.fromkeys(("cpu", ambient().device)))

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, np.dtype[Any]]:
        """The standard's dtypes, of a kind or of several if asked for."""
        known = [dtype for name in ("bool", "integral", "real floating") for dtype in _KINDS[name]]
        return {str(dtype): dtype for dtype in known if kind is None or isdtype(dtype, kind)}


def __array_namespace_info__() -> _Info:
    """What this namespace can do: dtypes, devices, capabilities."""
    return _Info()


protocol.namespace = sys.modules[__name__]

__all__ = [
    "__array_api_version__",
    "__array_namespace_info__",
    "abs",
    "acos",
    "acosh",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "bool",
    "broadcast_arrays",
    "broadcast_to",
    "can_cast",
    "ceil",
    "clip",
    "concat",
    "conj",
    "copysign",
    "cos",
    "cosh",
    "count_nonzero",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "divide",
    "e",
    "empty",
    "empty_like",
    "equal",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "finfo",
    "flip",
    "float16",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "from_dlpack",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "hypot",
    "iinfo",
    "imag",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "linalg",
    "linspace",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "meshgrid",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "nan",
    "negative",
    "newaxis",
    "nextafter",
    "nonzero",
    "not_equal",
    "ones",
    "ones_like",
    "permute_dims",
    "pi",
    "positive",
    "pow",
    "prod",
    "real",
    "reciprocal",
    "remainder",
    "repeat",
    "reshape",
    "result_type",
    "roll",
    "round",
    "searchsorted",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sort",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "tril",
    "triu",
    "trunc",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "unstack",
    "var",
    "vecdot",
    "where",
    "zeros",
    "zeros_like",
]
