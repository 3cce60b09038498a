"""Arrays from nothing: filled, counted, and the settings that say of which dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from knetc import lazy
from knetc.arrays import Array, ArrayLike, array, placed, to_device
from knetc.ir.ambient import ambient, set_process
from knetc.ir.types import Shape
from knetc.ops.apply import cast_node, constant
from knetc.ops.identities import iota
from knetc.ops.logic import equal, less_equal
from knetc.ops.movement import concat_node
from knetc.ops.random import as_shape
from knetc.ops.rearrange import past_diagonal
from knetc.runtime import devices
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError
from knetc.runtime.devices import CPU, canonical

PRECISIONS = ("highest", "high", "default")
"""How exactly a GPU multiplies matrices of float32."""


def _dtype(dtype: Any, otherwise: np.dtype[Any]) -> np.dtype[Any]:
    wanted = otherwise if dtype is None else dtypes.as_dtype(dtype)
    lazy.check_dtype(wanted)
    return wanted


def _device(device: str | None) -> str | None:
    """A device's full name, if one is given."""
    return None if device is None else canonical(device)


def full(shape: int | Sequence[int], value: Any, dtype: Any = None, *, device: str | None = None) -> Array:
    """An array of ``shape`` with ``value`` everywhere; Python floats give the default dtype, ints int64.

    As all functions that make arrays it takes a ``device`` ("cpu", "cuda", "cuda:1" …); without it the default one.

    >>> kn.full((2, 3), 0.5)
    """
    wide = as_shape((shape,))
    if isinstance(value, (bool, int, float)):
        kind = dtypes.boolean if isinstance(value, bool) else dtypes.i64 if isinstance(value, int) else ambient().dtype
        return placed(constant(value, _dtype(dtype, kind), wide), _device(device))
    from_array = array(value, dtype, device=device)
    result = np.broadcast_shapes(from_array.shape, wide)
    if result != wide:
        raise ValueError(f"full: a value of shape {from_array.shape} does not fill shape {wide}")
    return from_array + zeros(wide, dtype=from_array.dtype, device=_where(from_array))  # type: ignore[no-any-return]


def zeros(*shape: Any, dtype: Any = None, device: str | None = None) -> Array:
    """Zeros of the default dtype: ``zeros(2, 3)`` or ``zeros((2, 3))``.

    >>> kn.zeros(2, 3)
    """
    wide, dtype = _shape_and_dtype(shape, dtype)
    return placed(constant(0, _dtype(dtype, ambient().dtype), wide), _device(device))


def ones(*shape: Any, dtype: Any = None, device: str | None = None) -> Array:
    """Ones of the default dtype: ``ones(2, 3)`` or ``ones((2, 3))``.

    >>> kn.ones(2, 3)
    """
    wide, dtype = _shape_and_dtype(shape, dtype)
    return placed(constant(1, _dtype(dtype, ambient().dtype), wide), _device(device))


def _shape_and_dtype(shape: tuple[Any, ...], dtype: Any) -> tuple[Shape, Any]:
    """NumPy's ``zeros(shape, dtype)`` as well as ``zeros(2, 3)``."""
    if dtype is None and len(shape) == 2 and isinstance(shape[1], (type, str, np.dtype)):
        return as_shape(shape[:1]), shape[1]
    return as_shape(shape), dtype


def _where(x: Any) -> str | None:
    """The device of an array that has one; what is traced says nothing."""
    return x.device if isinstance(x, ArrayLike) and x.owner is None else None


def full_like(x: Any, value: Any, dtype: Any = None, *, device: str | None = None) -> Array:
    """An array of the shape and dtype of ``x`` with ``value`` everywhere, where ``x`` is."""
    like = x if isinstance(x, ArrayLike) else np.asarray(x)
    return full(like.shape, value, _dtype(dtype, like.dtype), device=device or _where(x))


def zeros_like(x: Any, dtype: Any = None, *, device: str | None = None) -> Array:
    """Zeros of the shape and dtype of ``x``, where ``x`` is."""
    return full_like(x, 0, dtype, device=device)


def ones_like(x: Any, dtype: Any = None, *, device: str | None = None) -> Array:
    """Ones of the shape and dtype of ``x``, where ``x`` is."""
    return full_like(x, 1, dtype, device=device)


zero, one = zeros_like, ones_like


def empty(*shape: Any, dtype: Any = None, device: str | None = None) -> Array:
    """An array of ``shape`` to be filled later: zeros, as no memory is ever seen that was not written.

    >>> kn.empty(2, 3)  # shape (2, 3)
    """
    return zeros(*shape, dtype=dtype, device=device)


def empty_like(x: Any, dtype: Any = None, *, device: str | None = None) -> Array:
    """An array of the shape and dtype of ``x`` to be filled later: zeros. Knet's ``similar``.

    >>> kn.empty_like(kn.ones(3))  # shape (3,)
    """
    return full_like(x, 0, dtype, device=device)


similar = empty_like


def arange(
    start: float, stop: float | None = None, step: float = 1, dtype: Any = None, *, device: str | None = None
) -> Array:
    """Numbers from ``start`` (0 by default) up to, without, ``stop``: int64 for ints, else the default dtype.

    >>> kn.arange(3)  # [0, 1, 2]
    """
    if stop is None:
        start, stop = 0, start
    if not step:
        raise ValueError("arange: a step cannot be 0")
    whole = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
    wanted = _dtype(dtype, dtypes.i64 if whole else ambient().dtype)
    count = max(0, math.ceil((stop - start) / step))
    return placed(iota(wanted, (count,), 0), _device(device)) * step + start  # type: ignore[no-any-return]


def linspace(
    start: float,
    stop: float,
    num: int = 50,
    dtype: Any = None,
    *,
    endpoint: bool = True,
    device: str | None = None,
) -> Array:
    """``num`` numbers at equal distances from ``start`` to ``stop``, both included unless ``endpoint`` is False.

    >>> kn.linspace(0, 1, 5)  # [0, 0.25, 0.5, 0.75, 1]
    """
    wanted = _dtype(dtype, ambient().dtype)
    places = np.linspace(start, stop, num, endpoint=endpoint)  # in double precision, then rounded once
    return array(places.astype(wanted), device=device)


def logspace(
    start: float,
    stop: float,
    num: int = 50,
    dtype: Any = None,
    *,
    endpoint: bool = True,
    base: float = 10,
    device: str | None = None,
) -> Array:
    """``num`` powers of ``base`` whose exponents go at equal distances from ``start`` to ``stop``.

    >>> kn.logspace(0, 2, 3)  # [1, 10, 100]
    """
    wanted = _dtype(dtype, ambient().dtype)
    return array(np.logspace(start, stop, num, endpoint=endpoint, base=base).astype(wanted), device=device)


def geomspace(
    start: float,
    stop: float,
    num: int = 50,
    dtype: Any = None,
    *,
    endpoint: bool = True,
    device: str | None = None,
) -> Array:
    """``num`` numbers from ``start`` to ``stop``, each the same multiple of the one before.

    >>> kn.geomspace(1, 8, 4)  # [1, 2, 4, 8]
    """
    wanted = _dtype(dtype, ambient().dtype)
    return array(np.geomspace(start, stop, num, endpoint=endpoint).astype(wanted), device=device)


def eye(rows: int, columns: int | None = None, k: int = 0, dtype: Any = None, *, device: str | None = None) -> Array:
    """Ones on the ``k``-th diagonal, zeros elsewhere.

    >>> kn.eye(2)  # [[1, 0], [0, 1]]
    """
    shape = (rows, rows if columns is None else columns)
    return placed(cast_node(equal(past_diagonal(shape, k), 0), _dtype(dtype, ambient().dtype)), _device(device))


def identity(n: int, dtype: Any = None, *, device: str | None = None) -> Array:
    """The square matrix with ones on the diagonal and zeros elsewhere.

    >>> kn.identity(2)  # [[1, 0], [0, 1]]
    """
    return eye(n, dtype=dtype, device=device)


def tri(rows: int, columns: int | None = None, k: int = 0, dtype: Any = None, *, device: str | None = None) -> Array:
    """Ones on the ``k``-th diagonal and below, zeros above.

    >>> kn.tri(2, 3)  # [[1, 0, 0], [1, 1, 0]]
    """
    shape = (rows, rows if columns is None else columns)
    return placed(cast_node(less_equal(past_diagonal(shape, k), 0), _dtype(dtype, ambient().dtype)), _device(device))


def indices(dimensions: Sequence[int], dtype: Any = None, sparse: bool = False) -> Any:
    """The indices of every element of an array of a shape, one array for each axis, stacked; int64 by default.

    With ``sparse`` a tuple of arrays that broadcast to the grid.

    >>> kn.indices((2, 3))  # shape (2, 2, 3)
    """
    shape = as_shape((tuple(dimensions),))
    wanted = _dtype(dtype, dtypes.i64)
    if sparse:
        thin = [tuple(n if a == k else 1 for a in range(len(shape))) for k, n in enumerate(shape)]
        return tuple(placed(iota(wanted, extents, k)) for k, extents in enumerate(thin))
    if not shape:
        return zeros(0, dtype=wanted)
    return placed(concat_node([iota(wanted, (1, *shape), k + 1) for k in range(len(shape))], 0))


def fromfunction(function: Callable[..., Any], shape: Sequence[int], *, dtype: Any = None) -> Any:
    """What ``function`` gives for the indices of an array of a shape, one array for each axis.

    >>> kn.fromfunction(lambda i, j: i + j, (2, 2))  # [[0, 1], [1, 2]]
    """
    return function(*indices(shape, ambient().dtype if dtype is None else dtype))


def _window(values: np.ndarray[Any, Any], dtype: Any, device: str | None) -> Array:
    return array(values.astype(_dtype(dtype, ambient().dtype)), device=device)


def bartlett(n: int, dtype: Any = None, *, device: str | None = None) -> Array:
    """A window of ``n`` numbers that rise from 0 to 1 in the middle and fall again, in straight lines.

    >>> kn.bartlett(5)  # [0, 0.5, 1, 0.5, 0]
    """
    return _window(np.bartlett(n), dtype, device)


def blackman(n: int, dtype: Any = None, *, device: str | None = None) -> Array:
    """A window of ``n`` numbers made of three cosines: 0.42 - 0.5 cos(a) + 0.08 cos(2 a) over a whole turn.

    >>> kn.blackman(5)[1:4]  # [0.34, 1, 0.34]
    """
    return _window(np.blackman(n), dtype, device)


def hamming(n: int, dtype: Any = None, *, device: str | None = None) -> Array:
    """A window of ``n`` numbers 0.54 - 0.46 cos(a) over a whole turn.

    >>> kn.hamming(3)  # [0.08, 1, 0.08]
    """
    return _window(np.hamming(n), dtype, device)


def hanning(n: int, dtype: Any = None, *, device: str | None = None) -> Array:
    """A window of ``n`` numbers 0.5 - 0.5 cos(a) over a whole turn.

    >>> kn.hanning(5)  # [0, 0.5, 1, 0.5, 0]
    """
    return _window(np.hanning(n), dtype, device)


def kaiser(n: int, beta: float, dtype: Any = None, *, device: str | None = None) -> Array:
    """A window of ``n`` numbers made of the Bessel function ``i0``; the larger ``beta``, the narrower.

    >>> kn.kaiser(3, 0.0)  # [1, 1, 1]
    """
    return _window(np.kaiser(n, beta), dtype, device)


def asarray(value: Any, dtype: Any = None, *, device: str | None = None) -> Array:
    """``value`` as an Array: itself if it is one (of the dtype and device asked for), else ``kn.array(value, …)``."""
    if isinstance(value, Array) and (dtype is None or value.dtype == dtypes.as_dtype(dtype)):
        return value if device is None else to_device(value, device)
    return array(value, dtype, device=device)


def set_default(*, dtype: Any = None, device: str | None = None, precision: str | None = None) -> None:
    """Choose the floating dtype of Python floats, ``zeros``, ``rand`` and ``param``, and the device that arrays are
    made on ("cpu", "cuda", "cuda:1" …).

    ``precision`` says how a GPU multiplies matrices of float32: "highest" (the default) in float32; "high" with almost
    its accuracy on the matrix units, where generated kernels do it; "default" as TF32, with ten bits behind the point.

    Raises DtypeError for a dtype that is not floating-point, DeviceError, with the reason, for a device that is not
    there, UnsupportedError for what is no device's name, ValueError for another precision.

    >>> kn.set_default(dtype="float64")
    """
    changes: dict[str, Any] = {}
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
        if not dtypes.is_float(wanted) or not dtypes.is_supported(wanted):
            raise DtypeError(f"the default dtype is float16, bfloat16, float32 or float64, not {wanted}")
        changes["dtype"] = wanted
    if device is not None:
        changes["device"] = canonical(device)
        if changes["device"] != CPU:
            devices.device(changes["device"])
    if precision is not None:
        if precision not in PRECISIONS:
            raise ValueError(f"the precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        changes["precision"] = precision
    set_process(**changes)


def atype(x: Any = None) -> Any:
    """The default floating dtype; given ``x``, an Array of its numbers in that dtype.

    >>> kn.atype(np.zeros(3)).dtype  # float32
    """
    return ambient().dtype if x is None else array(x, ambient().dtype)


__all__ = [
    "arange",
    "asarray",
    "atype",
    "bartlett",
    "blackman",
    "empty",
    "empty_like",
    "eye",
    "fromfunction",
    "full",
    "full_like",
    "geomspace",
    "hamming",
    "hanning",
    "identity",
    "indices",
    "kaiser",
    "linspace",
    "logspace",
    "one",
    "ones",
    "ones_like",
    "set_default",
    "similar",
    "tri",
    "zero",
    "zeros",
    "zeros_like",
]  # fmt: skip
