"""Functions whose results' shapes depend on data: they compute at once, or are told how much there will be.

While a function is being traced nothing can be computed, so there they take ``size`` (or ``length``), and a result
that has room for more is filled up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from knetc import lazy, tapes
from knetc.arrays import Array, ArrayLike, array, computed, to_numpy
from knetc.ops import selection, sorting
from knetc.ops.apply import Operand, to_nodes, wrap_like
from knetc.ops.indexed import take
from knetc.ops.movement import cut_node, normalize_axis, reshape
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, UnsupportedError


def need_values(name: str, option: str = "size") -> None:
    """Raise UnsupportedError while tracing, when no value is known."""
    if lazy.tracing():
        raise UnsupportedError(
            f"{name}: the result's shape depends on the data, which is not known while a function is traced. Say how "
            f"large it is at most with {option}=, or keep the shape: kn.where(condition, x, 0)"
        )


# --- places ----------------------------------------------------------------------------------------------------------


def nonzero(x: Operand, *, size: int | None = None, fill_value: Any = None) -> tuple[Array, ...]:
    """The indices (int64) of the elements that are not 0: for each axis an array, in C order.

    With ``size`` there are so many, also while tracing: the first ones, and ``fill_value`` (0 by default; one for all
    axes or a tuple) where there are fewer. Without it the indices are computed at once; while a function is traced
    that raises UnsupportedError.

    >>> nonzero(kn.array([0, 3, 0, 5]))  # (array([1, 3]),)
    """
    if size is not None:
        [node] = to_nodes(x)
        return tuple(wrap_like((x,), places) for places in selection.nonzero_sized(node, size, fill_value))
    need_values("nonzero")
    return tuple(computed(places) for places in np.nonzero(to_numpy(x)))


def flatnonzero(x: Operand, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The places in C order of the elements that are not 0: ``nonzero(ravel(x))[0]``, with the same options.

    >>> flatnonzero(kn.array([[0, 3], [4, 0]]))  # [1, 2]
    """
    [places] = nonzero(reshape(x, (-1,)), size=size, fill_value=fill_value)
    return places


def argwhere(x: Operand, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The indices of the elements that are not 0, a row for each: ``nonzero``, as one array of shape (count, ndim).

    >>> argwhere(kn.array([[0, 3], [4, 0]]))  # [[0, 1], [1, 0]]
    """
    [node] = to_nodes(x)
    if size is None:
        need_values("argwhere")
        return computed(np.argwhere(to_numpy(x)))
    places = selection.nonzero_sized(node, size, fill_value)
    return wrap_like((x,), selection.rows_of(places, size))  # type: ignore[no-any-return]


def extract(condition: Operand, x: Operand, *, size: int | None = None) -> Array:
    """The elements of ``x``, in C order, where ``condition`` (as many elements) is not 0.

    With ``size`` there are so many, also while tracing: the first element of ``x`` is put where there are fewer.

    >>> extract(kn.array([True, False, True]), kn.array([1, 2, 3]))  # [1, 3]
    """
    if size is None:
        need_values("extract")
    return take(reshape(x, (-1,)), flatnonzero(condition, size=size))  # type: ignore[no-any-return]


def compress(condition: Operand, x: Operand, axis: int | None = None, *, size: int | None = None) -> Array:
    """The parts of ``x`` along an axis (of all elements in C order without one) where the vector ``condition`` holds.

    ``condition`` may be shorter than the axis. With ``size`` there are so many parts, also while tracing: the first
    part of ``x`` is put where there are fewer.

    >>> compress(kn.array([False, True]), kn.array([[1, 2], [3, 4]]), axis=0)  # [[3, 4]]
    """
    if size is None:
        need_values("compress")
    source = reshape(x, (-1,)) if axis is None else x
    return take(source, flatnonzero(condition, size=size), axis or 0)  # type: ignore[no-any-return]


def trim_zeros(x: Operand, trim: str = "fb") -> Any:
    """A vector without the zeros at its front ("f" in ``trim``) and its back ("b"). It is computed at once.

    >>> trim_zeros(kn.array([0, 1, 0, 2, 0]))  # [1, 0, 2]
    """
    if lazy.tracing():
        raise UnsupportedError("trim_zeros: how many zeros there are is not known while a function is traced")
    places = np.flatnonzero(to_numpy(x))
    if not len(places):
        return take(x, np.zeros(0, np.int64))
    low = int(places[0]) if "f" in trim.lower() else 0
    high = int(places[-1]) + 1 if "b" in trim.lower() else to_numpy(x).size
    [node] = to_nodes(x)
    return wrap_like((x,), cut_node(node, 0, low, high))


# --- distinct elements -----------------------------------------------------------------------------------------------


class UniqueAll(NamedTuple):
    """Of ``unique_all``."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """Of ``unique_counts``."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """Of ``unique_inverse``."""

    values: Any
    inverse_indices: Any


def _distinct(name: str, x: Operand, size: int | None, fill_value: Any, equal_nan: bool) -> UniqueAll:
    """The distinct elements and all that there is to say about them."""
    if size is not None:
        [node] = to_nodes(x)
        found = selection.unique_sized(node, size, fill_value, equal_nan=equal_nan)
        return UniqueAll(*(wrap_like((x,), part) for part in found))
    need_values(name)
    values = to_numpy(x)
    flat = values.reshape(-1)
    order = to_numpy(sorting.argsort(array(flat)))
    ordered = flat[order]
    first = _new(ordered, equal_nan)
    starts = np.flatnonzero(first)
    inverse = np.empty(flat.shape, np.int64)
    inverse[order] = np.cumsum(first) - 1
    counts = np.diff(starts, append=len(flat))
    indices = array(order[starts])
    chosen = array(ordered[starts]) if tapes.innermost() is None else take(x, indices)  # which has a gradient
    return UniqueAll(chosen, indices, array(inverse.reshape(values.shape)), array(counts))


def _new(ordered: np.ndarray[Any, Any], equal_nan: bool) -> np.ndarray[Any, Any]:
    """Which elements of a sorted vector differ from those before them."""
    first = np.ones(ordered.shape, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    if equal_nan and dtypes.is_float(ordered.dtype) and ordered.size and ordered[-1] != ordered[-1]:
        first[1 + np.searchsorted(ordered, np.nan) :] = False  # NaN comes last
    return first


def _distinct_parts(x: Operand, axis: int, size: int | None, equal_nan: bool) -> UniqueAll:
    """The distinct parts along an axis."""
    if lazy.tracing():
        raise UnsupportedError("unique: the distinct parts along an axis are not known while a function is traced")
    if size is not None:
        raise UnsupportedError("unique: size= goes with axis=None; the parts along an axis are computed at once")
    values = to_numpy(x)
    axis = normalize_axis("unique", axis, values.ndim)
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    order = np.lexsort(rows.T[::-1]) if rows.shape[1] else np.arange(len(rows))
    ordered = rows[order]
    after, before = ordered[1:], ordered[:-1]
    same = (after == before) | ((after != after) & (before != before) & equal_nan)
    first = np.concatenate([np.ones(min(len(rows), 1), bool), ~same.all(1)])
    starts = np.flatnonzero(first)
    inverse = np.empty(len(rows), np.int64)
    inverse[order] = np.cumsum(first) - 1
    indices = array(order[starts])
    return UniqueAll(take(x, indices, axis), indices, array(inverse), array(np.diff(starts, append=len(rows))))


def unique(
    x: Operand,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    *,
    equal_nan: bool = True,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The distinct elements of ``x``, sorted; one NaN for all unless ``equal_nan`` is False.

    With ``axis`` the distinct parts along it, as columns are of a matrix for axis 1, in the order of their elements;
    these are computed at once, without ``size``.

    Asked for, also (in a tuple, in this order): each one's first place in C order; for each element of ``x`` which of
    them it is, in the shape of ``x``; and how often each occurs. All are int64. With ``size`` there are so many, also
    while tracing: the first ones, and ``fill_value`` (the smallest by default), which occurs 0 times, where there are
    fewer. Without it they are computed at once; while a function is traced that raises UnsupportedError.

    >>> unique(kn.array([3, 1, 3]), return_counts=True)  # [1, 3], [1, 2]
    """
    if axis is not None:
        found = _distinct_parts(x, axis, size, equal_nan)
    elif size is None and not (return_index or return_inverse or return_counts) and tapes.innermost() is None:
        need_values("unique")
        ordered = to_numpy(sorting.sort(x if isinstance(x, ArrayLike) else array(x), None))
        return computed(ordered[_new(ordered, equal_nan)])
    else:
        found = _distinct("unique", x, size, fill_value, equal_nan)
    chosen = [found.values]
    for part, wanted in zip(found[1:], (return_index, return_inverse, return_counts)):
        if wanted:
            chosen.append(part)
    return chosen[0] if len(chosen) == 1 else tuple(chosen)


def unique_all(x: Operand, *, size: int | None = None, fill_value: Any = None) -> UniqueAll:
    """The distinct elements with their first places, for each element which it is, and their counts; NaN are distinct.

    >>> unique_all(kn.array([3, 1, 3])).counts  # [1, 2]
    """
    return _distinct("unique_all", x, size, fill_value, False)


def unique_counts(x: Operand, *, size: int | None = None, fill_value: Any = None) -> UniqueCounts:
    """The distinct elements, sorted, and how often each occurs; NaN are distinct.

    >>> unique_counts(kn.array([3, 1, 3])).counts  # [1, 2]
    """
    found = _distinct("unique_counts", x, size, fill_value, False)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Operand, *, size: int | None = None, fill_value: Any = None) -> UniqueInverse:
    """The distinct elements, sorted, and for each element of ``x`` which of them it is; NaN are distinct.

    >>> unique_inverse(kn.array([3, 1, 3])).inverse_indices  # [1, 0, 1]
    """
    found = _distinct("unique_inverse", x, size, fill_value, False)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Operand, *, size: int | None = None, fill_value: Any = None) -> Any:
    """The distinct elements, sorted; NaN are distinct.

    >>> unique_values(kn.array([3, 1, 3]))  # [1, 3]
    """
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


# --- counts ----------------------------------------------------------------------------------------------------------


def bincount(x: Operand, weights: Operand = None, minlength: int = 0, *, length: int | None = None) -> Array:
    """How often each of 0, 1, 2 … occurs in ``x`` (int64), or the sum of its ``weights``.

    The result is as long as the largest number asks for, at least ``minlength``; or of ``length``, also while tracing,
    where a larger number raises LabelError (an IndexError) when the value is computed, as a negative one does always.

    >>> bincount(kn.array([0, 2, 2]))  # [1, 0, 2]
    """
    if length is None:
        need_values("bincount", "length")
        numbers = to_numpy(x)
        if numbers.size and not dtypes.is_integer(numbers.dtype):
            raise DtypeError(f"bincount counts integers, not {numbers.dtype}; cast with x.astype('int64')")
        length = max(int(numbers.max()) + 1 if numbers.size else 0, minlength)
    return selection.counted(x, weights, length)  # type: ignore[no-any-return]


__all__ = [
    "argwhere", "bincount", "compress", "extract", "flatnonzero", "nonzero", "trim_zeros", "unique", "unique_all",
    "unique_counts", "unique_inverse", "unique_values",
]  # fmt: skip
