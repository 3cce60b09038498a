"""The array API standard, version 2024.12: what ``x.__array_namespace__()`` gives.

Names, parameters and meaning are the standard's. There are no complex numbers, so no functions for them alone, and the
default floating dtype is float32 unless ``kn.set_default`` says otherwise.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from knetc import arrays, creation, linalg, selection
from knetc.arrays import Array, array, protocol
from knetc.dtypes import (
    KINDS,
    astype,
    can_cast,
    e,
    finfo,
    float16,
    float32,
    float64,
    iinfo,
    inf,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    nan,
    newaxis,
    pi,
    result_type,
    uint8,
    uint16,
    uint32,
    uint64,
)
from knetc.dtypes import bool_ as bool
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
from knetc.runtime.base.errors import ShapeError
from knetc.selection import unique_all, unique_counts, unique_inverse, unique_values

__array_api_version__ = "2024.12"

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
        known = [dtype for name in ("bool", "integral", "real floating") for dtype in KINDS[name]]
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
