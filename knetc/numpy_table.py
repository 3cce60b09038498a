"""Which function of knetc's each of NumPy's is, and for those that have none what to use instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from knetc import assignments, batching, creation, grids, selection, sets
from knetc import linalg as matrix_names
from knetc.arrays import ArrayLike
from knetc.ops import (
    arithmetic,
    bits,
    calculus,
    choosing,
    contraction,
    division,
    elementary,
    indexed,
    integrals,
    joining,
    linalg,
    linear,
    logic,
    matrices,
    movement,
    norms,
    padding,
    polynomials,
    rearrange,
    reduction,
    scan,
    sorting,
    special,
    statistics,
    transcendental,
)
from knetc.ops import selection as ops_selection
from knetc.ops.apply import cast, common_dtype
from knetc.runtime.base import dtypes

Function = Callable[..., Any]


def _same(module: Any, names: str, of: Any = np) -> dict[Any, Function]:
    """NumPy's functions that have the same name here; older versions lack some."""
    return {getattr(of, name): getattr(module, name) for name in names.split() if hasattr(of, name)}


def _renamed(of: Any = np, **functions: Function) -> dict[Any, Function]:
    """NumPy's functions under the name that NumPy has for them."""
    return {getattr(of, name): function for name, function in functions.items() if hasattr(of, name)}


# --- elementwise functions -------------------------------------------------------------------------------------------

#: NumPy's elementwise functions, and products of matrices and vectors
UFUNCS: dict[Any, Function] = {
    **_same(
        arithmetic,
        "absolute add ceil floor maximum minimum multiply negative positive reciprocal rint sign square subtract "
        "true_divide trunc",
    ),
    **_same(division, "floor_divide mod"),
    **_same(
        logic,
        "bitwise_and bitwise_or bitwise_xor equal greater greater_equal invert isfinite isinf isnan left_shift less "
        "less_equal logical_and logical_not logical_or logical_xor not_equal right_shift",
    ),
    **_same(transcendental, "cbrt cos cosh exp exp2 expm1 hypot log log10 log1p log2 power sin sinh sqrt tan tanh"),
    **_renamed(
        arccos=transcendental.acos,
        arccosh=transcendental.acosh,
        arcsin=transcendental.asin,
        arcsinh=transcendental.asinh,
        arctan=transcendental.atan,
        arctan2=transcendental.atan2,
        arctanh=transcendental.atanh,
        conjugate=arithmetic.positive,
    ),
    **_same(elementary, "copysign deg2rad degrees divmod fabs fmax fmin fmod heaviside rad2deg radians signbit"),
    **_same(bits, "bitwise_count float_power frexp gcd lcm ldexp modf nextafter spacing"),
    **_same(special, "logaddexp logaddexp2"),
    **_same(linear, "matmul matvec vecdot vecmat"),
}

#: what ``ufunc.reduce`` is
REDUCTIONS: dict[Any, Function] = {
    np.add: reduction.sum,
    np.multiply: reduction.prod,
    np.maximum: reduction.max,
    np.minimum: reduction.min,
    np.logical_and: reduction.all,
    np.logical_or: reduction.any,
}

#: what ``ufunc.accumulate`` is
ACCUMULATIONS: dict[Any, Function] = {
    np.add: scan.cumsum,
    np.multiply: scan.cumprod,
    np.maximum: scan.cummax,
    np.minimum: scan.cummin,
    np.logaddexp: scan.logcumsumexp,
}


# --- functions whose parameters differ -------------------------------------------------------------------------------


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return arithmetic.clip(a, min if a_min is None else a_min, max if a_max is None else a_max)


def _full_like(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    if shape is None:
        return creation.full_like(a, fill_value, dtype)
    return creation.full(shape, fill_value, a.dtype if dtype is None else dtype)


def _shaped(function: Function) -> Function:
    """``zeros_like`` and its kin, which may be told another shape."""

    def like(a: Any, dtype: Any = None, *, shape: Any = None) -> Any:
        return function(a.shape if shape is None else shape, dtype=a.dtype if dtype is None else dtype)

    return like


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    return selection.nonzero(condition) if x is None and y is None else logic.where(condition, x, y)


def _outer(x1: Any, x2: Any) -> Any:
    """``linalg.outer`` takes vectors alone, unlike ``outer``."""
    return linear.outer(x1, x2)


def _copy(a: Any) -> Any:
    return a.copy()


def _astype(x: Any, dtype: Any, copy: bool = True) -> Any:
    return cast(x, dtype)


def _shape(a: Any) -> Any:
    return a.shape


def _ndim(a: Any) -> int:
    return int(a.ndim)


def _size(a: Any, axis: Any = None) -> Any:
    if isinstance(axis, tuple):
        return math.prod(a.shape[k] for k in axis)
    return a.size if axis is None else a.shape[axis]


def _imag(val: Any) -> Any:
    return creation.zeros_like(val)


def _everywhere(value: bool) -> Function:
    return lambda x: creation.full_like(x, value, bool)


def _real_if_close(a: Any, tol: float = 100) -> Any:
    return arithmetic.positive(a)


def _result_type(*arrays_and_dtypes: Any) -> Any:
    operands = [a if _is_operand(a) else creation.zeros(0, dtype=a) for a in arrays_and_dtypes]
    return common_dtype(*operands)


def _is_operand(value: Any) -> bool:
    return isinstance(value, (ArrayLike, np.ndarray, np.generic, bool, int, float))


def _can_cast(from_: Any, to: Any, casting: str = "safe") -> bool:
    kind: Any = casting
    return bool(np.can_cast(getattr(from_, "dtype", from_), dtypes.as_dtype(to), kind))


def _interchange(function: Function) -> Function:
    """``cross`` of NumPy's top level may name an axis for each operand."""

    def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
        if axis is not None:
            axisa = axisb = axisc = axis
        return movement.moveaxis(function(movement.moveaxis(a, axisa, -1), movement.moveaxis(b, axisb, -1)), -1, axisc)

    return cross


def _kinds(function: Function) -> Function:
    """``sort`` and ``argsort``, whose kinds only say whether equal elements keep their order."""

    def ordered(a: Any, axis: int | None = -1, kind: Any = None, stable: Any = None) -> Any:
        return function(a, axis, stable=bool(stable) or kind in ("stable", "mergesort"))

    return ordered


# --- other functions -------------------------------------------------------------------------------------------------

#: NumPy's other functions
FUNCTIONS: dict[Any, Function] = {
    **_same(assignments, "copyto fill_diagonal place put put_along_axis putmask"),
    **_same(calculus, "convolve correlate ediff1d gradient interp polyval trapezoid unwrap"),
    **_same(choosing, "array_equiv choose isin piecewise select"),
    **_same(contraction, "einsum tensordot"),
    **_same(arithmetic, "round"),
    **_same(elementary, "isneginf isposinf nan_to_num sinc"),
    **_same(indexed, "take take_along_axis"),
    **_same(integrals, "i0"),
    **_same(
        joining,
        "append array_split atleast_1d atleast_2d atleast_3d block column_stack concatenate delete dsplit dstack "
        "hsplit hstack insert split stack unstack vsplit vstack",
    ),
    **_same(linalg, "kron"),
    **_same(linear, "dot inner outer vdot"),
    **_same(
        movement,
        "broadcast_arrays broadcast_to expand_dims flip matrix_transpose moveaxis permute_dims ravel reshape squeeze "
        "swapaxes transpose",
    ),
    **_same(batching, "apply_along_axis apply_over_axes"),
    **_same(bits, "packbits unpackbits"),
    **_same(grids, "diag_indices_from ix_ tril_indices_from triu_indices_from"),
    **_same(padding, "pad"),
    **_same(polynomials, "poly polyadd polyder polydiv polyfit polyint polymul polysub roots"),
    **_same(
        rearrange,
        "diag diagflat diagonal fliplr flipud meshgrid repeat resize roll rollaxis rot90 tile tril triu vander",
    ),
    **_same(reduction, "all any argmax argmin count_nonzero max mean min prod sum"),
    **_same(scan, "cumprod cumsum cumulative_prod cumulative_sum"),
    **_same(selection, "argwhere bincount compress extract flatnonzero nonzero trim_zeros unique"),
    **_same(selection, "unique_all unique_counts unique_inverse unique_values"),
    **_same(ops_selection, "histogram histogram2d histogram_bin_edges histogramdd ravel_multi_index unravel_index"),
    **_same(sets, "intersect1d setdiff1d setxor1d union1d"),
    **_same(
        sorting,
        "argpartition digitize lexsort median nanmedian nanpercentile nanquantile partition percentile quantile "
        "searchsorted",
    ),
    **_same(
        statistics,
        "allclose array_equal average corrcoef cov isclose nanargmax nanargmin nancumprod "
        "nancumsum nanmax nanmean nanmin nanprod nansum ptp",
    ),
    **_renamed(
        amax=reduction.max,
        amin=reduction.min,
        argsort=_kinds(sorting.argsort),
        sort=_kinds(sorting.sort),
        around=arithmetic.round,
        astype=_astype,
        can_cast=_can_cast,
        clip=_clip,
        copy=_copy,
        cross=_interchange(calculus.cross),
        diff=calculus.difference,
        empty_like=_shaped(creation.zeros),
        fix=arithmetic.trunc,
        full_like=_full_like,
        imag=_imag,
        iscomplex=_everywhere(False),
        iscomplexobj=lambda x: False,
        isreal=_everywhere(True),
        isrealobj=lambda x: True,
        nanstd=statistics.nanstd,
        nanvar=statistics.nanvar,
        ndim=_ndim,
        ones_like=_shaped(creation.ones),
        real=arithmetic.positive,
        real_if_close=_real_if_close,
        result_type=_result_type,
        shape=_shape,
        size=_size,
        std=reduction.std,
        trace=linalg.numpy_trace,
        var=reduction.var,
        where=_where,
        zeros_like=_shaped(creation.zeros),
    ),
    **_same(
        linalg,
        "cholesky det eigh eigvalsh inv pinv slogdet solve svdvals",
        np.linalg,
    ),
    **_same(norms, "matrix_norm vector_norm", np.linalg),
    **_same(
        matrices,
        "cond eig eigvals lstsq matrix_power matrix_rank multi_dot tensorinv tensorsolve",
        np.linalg,
    ),
    **_renamed(
        np.linalg,
        cross=calculus.cross,
        diagonal=matrix_names.diagonal,
        matmul=linear.matmul,
        matrix_transpose=movement.matrix_transpose,
        norm=norms.numpy_norm,
        outer=_outer,
        qr=matrix_names.qr,
        svd=matrix_names.svd,
        tensordot=contraction.tensordot,
        trace=matrix_names.trace,
        vecdot=linear.vecdot,
    ),
}


# --- what is no function of ours -------------------------------------------------------------------------------------

#: NumPy's functions that only look at numbers: they read the memory, and give what they give for NumPy's arrays
READERS = frozenset(
    (
        np.allclose, np.array2string, np.array_equal, np.array_equiv, np.array_repr, np.array_str, np.common_type,
        np.may_share_memory, np.min_scalar_type, np.save, np.savetxt, np.savez, np.savez_compressed,
        np.shares_memory,
    )
)  # fmt: skip

_SHAPE = "the shape of its result depends on the data; "
_DATES = "there are no dates among the dtypes"

#: for NumPy's functions that have no counterpart: what is nearest
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("busday_count", "busday_offset", "datetime_as_string", "is_busday", "isnat"), _DATES),
    **dict.fromkeys(("geomspace", "linspace", "logspace"), "use kn.linspace and its kin with numbers as bounds"),
    "angle": "there are no complex numbers; use kn.atan2(y, x)",
    "einsum_path": "numpy.einsum of knetc arrays chooses its own order",
    "printoptions": "it takes no arrays",
    "sort_complex": "there are no complex numbers; use kn.sort",
}
