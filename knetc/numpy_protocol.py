"""NumPy's functions on Arrays and Params: which of knetc's each one is, and what to say where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from knetc import creation
from knetc.arrays import ArrayLike, operand, protocol, to_numpy
from knetc.lazy import tracing
from knetc.ops import (
    arithmetic,
    contraction,
    elementary,
    indexed,
    linalg,
    linear,
    logic,
    movement,
    rearrange,
    reduction,
    scan,
    special,
    statistics,
    transcendental,
)
from knetc.runtime.base.errors import UnsupportedError

Function = Callable[..., Any]


def _same(module: Any, names: str) -> dict[Any, Function]:
    """NumPy's functions that have the same name here."""
    return {getattr(np, name): getattr(module, name) for name in names.split() if hasattr(np, name)}


#: NumPy's elementwise functions, and matmul
UFUNCS: dict[Any, Function] = {
    **_same(
        arithmetic,
        "absolute add ceil floor floor_divide maximum minimum mod multiply negative positive reciprocal rint sign "
        "square subtract true_divide trunc",
    ),
    **_same(
        logic,
        "bitwise_and bitwise_or bitwise_xor equal greater greater_equal invert isfinite isinf isnan left_shift less "
        "less_equal logical_and logical_not logical_or logical_xor not_equal right_shift",
    ),
    **_same(
        transcendental,
        "cbrt cos cosh exp exp2 expm1 hypot log log10 log1p log2 power sin sinh sqrt tan tanh",
    ),
    np.arccos: transcendental.acos,
    np.arccosh: transcendental.acosh,
    np.arcsin: transcendental.asin,
    np.arcsinh: transcendental.asinh,
    np.arctan: transcendental.atan,
    np.arctan2: transcendental.atan2,
    np.arctanh: transcendental.atanh,
    **_same(
        elementary,
        "copysign deg2rad degrees divmod fmax fmin fmod heaviside rad2deg radians signbit",
    ),
    np.fabs: arithmetic.absolute,
    np.logaddexp: special.logaddexp,
    np.matmul: linear.matmul,
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


def _moment(function: Function) -> Function:
    """``var`` and ``std``, whose correction NumPy also calls ``ddof``."""

    def moment(x: Any, axis: Any = None, *, ddof: float = 0, correction: float = 0, keepdims: bool = False) -> Any:
        return function(x, axis, correction=ddof or correction, keepdims=keepdims)

    return moment


def _pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    if mode != "constant":
        raise UnsupportedError(f"numpy.pad: mode {mode!r} is not supported for knetc arrays; there is 'constant'")
    return movement.pad(x, pad_width, constant_values)


def _where(condition: Any, *choices: Any) -> Any:
    if not choices:
        raise UnsupportedError(
            "numpy.where(condition) gives a shape that depends on the data; use kn.where(condition, a, b)"
        )
    return logic.where(condition, *choices)


def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return linalg.trace(movement.moveaxis(a, (axis1, axis2), (-2, -1)), offset)


def _qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "r"):
        raise UnsupportedError(
            f"numpy.linalg.qr: mode {mode!r} is not supported for knetc arrays; use 'reduced' or 'r'"
        )
    result = linalg.qr(a)
    return result if mode == "reduced" else result.R


def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    return linalg.svd(a, full_matrices, compute_uv)


_SAME_IN_LINALG = "cholesky det eigh eigvalsh inv matrix_norm matrix_power pinv slogdet solve svdvals trace vector_norm"

#: NumPy's other functions
FUNCTIONS: dict[Any, Function] = {
    **_same(reduction, "all any argmax argmin count_nonzero max mean min prod sum"),
    **_same(
        movement,
        "broadcast_arrays broadcast_to concatenate expand_dims flip moveaxis ravel reshape split squeeze stack "
        "swapaxes",
    ),
    **_same(scan, "cumsum cumprod cumulative_sum cumulative_prod"),
    **_same(linear, "dot outer"),
    **_same(contraction, "einsum"),
    **_same(linalg, "kron"),
    **{
        getattr(np.linalg, name): getattr(linalg, name)
        for name in _SAME_IN_LINALG.split(" ")
        if hasattr(np.linalg, name)  # some are of NumPy 2.0
    },
    np.linalg.norm: linalg.numpy_norm,
    np.trace: _trace,
    np.linalg.qr: _qr,
    np.linalg.svd: _svd,
    **_same(indexed, "take take_along_axis"),
    **_same(arithmetic, "clip round"),
    **_same(creation, "full_like ones_like zeros_like"),
    **_same(elementary, "isneginf isposinf nan_to_num sinc"),
    **_same(rearrange, "diag diagonal meshgrid repeat roll tile tril triu vander"),
    **_same(statistics, "allclose array_equal average isclose nanmax nanmean nanmin nanprod nansum ptp trapezoid"),
    np.diff: statistics.difference,
    np.nanvar: _moment(statistics.nanvar),
    np.nanstd: _moment(statistics.nanstd),
    np.amax: reduction.max,
    np.amin: reduction.min,
    np.var: _moment(reduction.var),
    np.std: _moment(reduction.std),
    np.transpose: movement.permute_dims,
    np.where: _where,
    np.pad: _pad,
    np.copy: lambda x: x.copy(),
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: x.size if axis is None else x.shape[axis],
    np.vstack: lambda arrays: movement.concat([_at_least_2d(a) for a in arrays], 0),
    np.hstack: lambda arrays: movement.concat(list(arrays), 0 if arrays[0].ndim == 1 else 1),
}

#: NumPy's functions that only look at numbers: they read the memory
READERS = frozenset(
    (
        np.array2string, np.array_equal, np.array_repr, np.array_str, np.allclose, np.isclose, np.may_share_memory,
        np.save, np.savetxt, np.savez, np.savez_compressed, np.shares_memory, np.nonzero, np.unique,
    )
)  # fmt: skip

#: parameters that NumPy's functions have and these have not, with the values that mean nothing
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "out": (None,),
    "where": (True, np._NoValue),
    "initial": (np._NoValue, None),
    "keepdims": (np._NoValue,),
    "casting": ("same_kind",),
    "order": ("K", "C"),
    "subok": (True, False),
    "dtype": (None,),
    "mode": ("raise",),
}
_WITH_DTYPE = (".sum", ".prod", ".cumsum", ".cumprod", ".cumulative_sum", ".cumulative_prod", "_like")
_CURES: Mapping[str, str] = {
    "out": "use the result, or assign it: x[...] = value",
    "where": "use kn.where(condition, a, b)",
    "initial": "combine it with the result, or use kn.maximum / kn.minimum",
    "dtype": "convert with astype",
}


def _at_least_2d(x: Any) -> Any:
    return x if x.ndim > 1 else movement.reshape(x, (1, -1))


def call_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """``__array_ufunc__`` of Arrays and Params."""
    name = f"numpy.{ufunc.__name__}"
    if method == "reduce" and ufunc in REDUCTIONS:
        axis = keywords.pop("axis", 0)
        arguments = _arguments(f"{name}.reduce", keywords)
        return REDUCTIONS[ufunc](operand(inputs[0]), axis, **arguments)
    if method == "accumulate" and ufunc in ACCUMULATIONS:
        axis = keywords.pop("axis", 0)
        arguments = _arguments(f"{name}.accumulate", keywords)
        return ACCUMULATIONS[ufunc](operand(inputs[0]), axis, **arguments)
    if method != "__call__":
        raise UnsupportedError(f"{name}.{method} is not supported for knetc arrays; call {name} or a kn function")
    function = UFUNCS.get(ufunc)
    if function is None:
        raise UnsupportedError(unknown(name))
    arguments = _arguments(name, keywords)
    converted = [operand(value) for value in inputs]
    if any(value is None for value in converted):
        return NotImplemented
    return function(*converted, **arguments)


def call_function(function: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """``__array_function__`` of Arrays and Params."""
    name = f"{function.__module__}.{function.__name__}"
    if function in READERS and not tracing():
        return function(
            *[_host(value) for value in arguments], **{key: _host(value) for key, value in keywords.items()}
        )
    ours = FUNCTIONS.get(function)
    if ours is None:
        raise UnsupportedError(unknown(name))
    named = _arguments(name, dict(keywords))
    if not arguments and "a" in named:
        arguments = (named.pop("a"),)
    try:
        return ours(*[_converted(value) for value in arguments], **named)
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise UnsupportedError(f"{name} of knetc arrays: {error}; see kn.{ours.__name__}") from None
        raise


def _arguments(name: str, keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords without those that mean nothing; raises UnsupportedError for those that there is no way to heed."""
    kept: dict[str, Any] = {}
    for key, value in keywords.items():
        neutral = _NEUTRAL.get(key, ())
        if any(value is v or (isinstance(v, str) and value == v) for v in neutral):
            continue
        if key in _CURES and not (key == "dtype" and name.endswith(_WITH_DTYPE)):
            raise UnsupportedError(f"{name}: {key}= is not supported for knetc arrays; {_CURES[key]}")
        kept[key] = value
    return kept


def _converted(value: Any) -> Any:
    """NumPy's arrays beside ours become ours, in lists too (what stack and concatenate take)."""
    if isinstance(value, np.ndarray):
        return operand(value)
    if isinstance(value, (list, tuple)) and any(isinstance(item, (ArrayLike, np.ndarray)) for item in value):
        return [operand(item) for item in value]
    return value


def _host(value: Any) -> Any:
    return to_numpy(value) if isinstance(value, ArrayLike) else value


def unknown(name: str) -> str:
    """There is no such function for our arrays; what may be meant."""
    short = name.rpartition(".")[2]
    names = sorted({f.__name__ for f in (*UFUNCS, *FUNCTIONS)})
    near = difflib.get_close_matches(short, names, 2, 0.6)
    cure = f"the nearest are {' and '.join(f'numpy.{n}' for n in near)}" if near else "write it with kn functions"
    return (
        f"{name} is not supported for knetc arrays: {cure}; for a NumPy result outside of compiled functions, convert "
        "the arguments with numpy.asarray"
    )


protocol.ufunc, protocol.function = call_ufunc, call_function
