"""Sorting along the last axis as host functions, over NumPy's vectorised sorts. NaN comes last, as in NumPy.

On the CPU generated code takes their place where it can. Each writes into memory that it is given. Rows are shared out
among threads, which run at the same time because NumPy lets the interpreter go while it sorts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from knetc.runtime.base.host_functions import register
from knetc.runtime.base.threads import thread_count

Array = np.ndarray[Any, Any]

_SHARED = 1 << 19
"""Elements from which more threads are worth starting."""

_LONG_ROW = 1 << 21
"""Elements of 64 bits from which one row is sorted by several threads; partitioning narrower ones takes too long."""


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


def _settled(keys: Array, rests: Array, shifts: Array, out: Array) -> None:
    """The places in sorted keys, in the order of what the keys have no room for where they are equal in their ranks.

    A key is a rank above and below it, in as many bits as the last place needs, the place that it had. Of a row whose
    ranks lost bits (``shifts`` of them), ``rests`` hold at each place those bits and the place.
    """
    bits = np.uint64((out.shape[-1] - 1).bit_length())
    np.bitwise_and(keys, (np.uint64(1) << bits) - np.uint64(1), out=out.view(np.uint64))
    for row in np.argwhere(shifts):
        places, heads = out[tuple(row)], keys[tuple(row)] >> bits
        if (heads[1:] == heads[:-1]).any():
            places[...] = places[np.lexsort((rests[tuple(row)][places], heads))]


def _partition(x: Array, places: Array, out: Array) -> None:
    """Rows with the elements at some places where sorting puts them."""
    out[...] = x
    if out.size:
        out.partition(places.reshape(-1, places.shape[-1])[0].tolist())


def _argpartition(x: Array, places: Array, out: Array) -> None:
    """The permutations that do that."""
    if out.size:
        out[...] = x.argpartition(places.reshape(-1, places.shape[-1])[0].tolist())


def _largest(x: Array, out: Array) -> None:
    """The places of the largest elements of each row, in order; of equal ones the first ones count."""
    count, n = out.shape[-1], x.shape[-1]
    for row, places in zip(x.reshape(-1, n), out.reshape(-1, count)):
        bound = np.partition(row, n - count)[n - count]
        if bound != bound:  # NaN is the largest
            places[...] = np.flatnonzero(row != row)[:count]
            continue
        beyond = np.flatnonzero(~(row <= bound))
        places[...] = np.sort([*beyond, *np.flatnonzero(row == bound)[: count - len(beyond)]])


def _argmax(x: Array, out: Array) -> None:
    """The place of the first largest element of each row, of NaN if there is one."""
    out[...] = x.argmax(-1)


def _argmin(x: Array, out: Array) -> None:
    """The place of the first smallest element of each row, of NaN if there is one."""
    out[...] = x.argmin(-1)


for _name, _function in (
    ("sort", _in_parts(_sort)),
    ("settled", _settled),
    ("largest", _in_parts(_largest)),
    ("partition", _partition),
    ("argpartition", _argpartition),
    ("argmax", _argmax),
    ("argmin", _argmin),
):
    register(f"sorting.{_name}", _function, everywhere=True, copies=False, stacks=True, fills=True)
