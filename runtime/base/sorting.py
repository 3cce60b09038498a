"""Sorting along the last axis as host functions, over NumPy's vectorised sorts. NaN comes last, as in NumPy.

Each writes into memory that it is given. Rows are shared out among threads, which run at the same time because NumPy
lets the interpreter go while it sorts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from knetc.runtime.base.host_functions import register
from knetc.runtime.base.threads import thread_count

Array = np.ndarray[Any, Any]

_SHARED = 1 << 19
"""Elements from which more threads are worth starting."""

_LONG_ROW = 1 << 21
"""Elements of 64 bits from which one row is sorted by several threads; partitioning narrower ones takes too long."""

_LONG = 1024
"""Rows of so many elements are looked through one by one for their largest elements; shorter ones are sorted."""

_STRIDES = 64
"""Elements of each of the parts whose largest ones tell how large an element must be that is wanted."""


def _in_parts(function: Callable[[Array, Array], None]) -> Callable[[Array, Array], None]:
    """A function of rows (2-dimensional source and result) as one of any shape, with some rows for each thread."""

    def whole(x: Array, out: Array) -> None:
        if not out.size:
            return
        if x.size < _SHARED and x.ndim < 3:
            function(x, out)
            return
        rows, result = x.reshape(-1, x.shape[-1]), out.reshape(-1, out.shape[-1])
        count = min(thread_count(), len(rows)) if x.size >= _SHARED else 1
        if count == 1:
            function(rows, result)
            return
        _each(lambda low, high: function(rows[low:high], result[low:high]), len(rows), count)

    return whole


def _each(function: Callable[[int, int], None], n: int, count: int) -> None:
    """Call a function for ``count`` parts of ``range(n)`` at the same time."""
    places = [n * k // count for k in range(count + 1)]
    with ThreadPoolExecutor(count) as threads:
        for _ in threads.map(function, places, places[1:]):
            pass  # where errors come out


def _sort_in_place(x: Array) -> None:
    """Sort rows. One long row is partitioned first, and its parts are sorted at the same time."""
    n, size_bytes = x.shape[-1], x.itemsize
    if size_bytes <= 2:
        x.sort(kind="stable")  # of short integers that is a radix sort
    elif n < _LONG_ROW or x.size > n or size_bytes < 8 or (count := thread_count()) == 1:
        x.sort()
    else:
        row = x.reshape(n)
        row.partition([n * k // count for k in range(1, count)])
        _each(lambda low, high: row[low:high].sort(), n, count)


def _sort(x: Array, out: Array) -> None:
    out[...] = x  # quicker to call than np.copyto
    _sort_in_place(out)


def _argsort(x: Array, out: Array, *, stable: bool = True) -> None:
    """The permutation that sorts, equal elements in order if ``stable``."""
    if x.dtype.itemsize <= 4 and x.shape[-1] < 1 << 32:
        _sort_places(_ranks(x), out)
        return
    np.copyto(out, np.argsort(x, axis=-1))  # vectorised, but in no order among equals
    if not stable:
        return
    ordered = np.take_along_axis(x, out, -1)
    after, before = ordered[..., 1:], ordered[..., :-1]
    same = (after == before) | ((after != after) & (before != before))
    if same.any():
        runs = np.zeros(x.shape, np.uint64)
        np.cumsum(~same, axis=-1, out=runs[..., 1:])
        _sort_places(runs, out, out.view(np.uint64))


def _ranks(x: Array) -> Array:
    """Unsigned numbers of 32 bits in the order of ``x``; equal ones for equals (both zeros, all NaN)."""
    if x.dtype.kind == "u":
        return x.astype(np.uint32)
    if x.dtype.kind == "i":
        return x.astype(np.int32).view(np.uint32) ^ np.uint32(1 << 31)
    plain = x + np.float32(0)  # -0.0 becomes 0.0
    np.copyto(plain, np.float32("nan"), where=plain != plain)
    bits = plain.view(np.int32)
    return (bits ^ ((bits >> 31) | np.int32(-(1 << 31)))).view(np.uint32)


def _sort_places(ranks: Array, out: Array, places: Array | None = None) -> None:
    """Sort numbers of 64 bits: a rank above, a place below; leaves the places in ``out``."""
    keys = out.view(np.uint64)
    low = np.arange(ranks.shape[-1], dtype=np.uint64) if places is None else places.copy()
    np.copyto(keys, ranks)
    keys <<= np.uint64(32)
    keys |= low
    _sort_in_place(keys)
    keys &= np.uint64((1 << 32) - 1)


def _largest(x: Array, out: Array) -> None:
    """The places of the largest elements of each row, largest first, of equal ones the first place first."""
    count, n = out.shape[-1], x.shape[-1]
    if n < _LONG or count > n // 8:
        order = np.empty(x.shape, np.int64)
        _argsort(x[..., ::-1], order)
        np.copyto(out, n - 1 - order[..., ::-1][..., :count])
        return
    for row, places in zip(x.reshape(-1, n), out.reshape(-1, count)):
        chosen = _candidates(row, count)
        order = np.argsort(row[chosen][::-1], kind="stable")
        places[:] = chosen[len(chosen) - 1 - order[::-1][:count]]


def _candidates(row: Array, count: int) -> Array:
    """Places in order, those of the largest elements among them: few more than wanted, unless many are equal."""
    strides = len(row) // _STRIDES
    if strides >= 4 * count:  # the largest of so many parts are so many elements: what is less is not wanted
        maxima = row[: strides * _STRIDES].reshape(_STRIDES, strides).max(axis=0)
        maxima.partition(strides - count)
        least = maxima[strides - count]
        if least == least:
            return np.flatnonzero(~(row < least))
    parted = np.partition(row, len(row) - count)
    bound = parted[len(row) - count]
    if (parted[len(row) - count :] != parted[len(row) - count :]).any():  # NaN is the largest
        return np.flatnonzero(~(row < bound))
    return np.flatnonzero(row >= bound)


for _name, _function in (
    ("sort", _sort),
    ("argsort", _argsort),
    ("argsort_loose", partial(_argsort, stable=False)),
    ("largest", _largest),
):
    register(f"sorting.{_name}", _in_parts(_function), everywhere=True, copies=False, stacks=True, fills=True)
