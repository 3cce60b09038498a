"""Vectors as sets: what two of them have together, in common, or apart, sorted and each once.

How many elements there are depends on the data: they compute at once, or are told with ``size`` how many there will
be, as the functions of ``knetc.selection``.
"""

from __future__ import annotations

from typing import Any

from knetc.arrays import Array, ArrayLike, array
from knetc.creation import arange, ones
from knetc.ops.apply import Operand
from knetc.ops.choosing import isin
from knetc.ops.indexed import take
from knetc.ops.joining import concatenate
from knetc.ops.logic import equal, less, not_equal, where
from knetc.ops.movement import reshape
from knetc.ops.reduction import count_nonzero
from knetc.ops.sorting import argsort, searchsorted, sort
from knetc.runtime.base import dtypes
from knetc.selection import flatnonzero, need_values, unique


def _vector(x: Operand) -> Any:
    return reshape(x if isinstance(x, ArrayLike) else array(x), (-1,))


def _firsts(ordered: Any) -> Any:
    """Which elements of a sorted vector differ from those before them; NaN does not differ from NaN."""
    count = ordered.shape[0]
    after, before = ordered[1:], ordered[: max(count - 1, 0)]
    new = not_equal(after, before)
    if dtypes.is_float(ordered.dtype):
        new = new & (equal(after, after) | equal(before, before))
    return concatenate([ones(min(count, 1), dtype=bool), new])


def _chosen(name: str, ordered: Any, mask: Any, size: int | None, fill_value: Any) -> tuple[Any, Any]:
    """The elements of a vector where a mask holds, and their places."""
    if size is None:
        need_values(name)
    places = flatnonzero(mask, size=size)
    values = take(ordered, places)
    if size is not None:
        values = where(less(arange(size), count_nonzero(mask)), values, fill_value)
    return values, places


def union1d(x: Operand, y: Operand, *, size: int | None = None, fill_value: Any = None) -> Array:
    """The elements of two arrays, sorted and each once; see ``unique`` for ``size`` and ``fill_value``.

    >>> union1d(kn.array([3, 1]), kn.array([2, 3]))  # [1, 2, 3]
    """
    if size is None:
        need_values("union1d")
    return unique(concatenate([_vector(x), _vector(y)]), size=size, fill_value=fill_value)  # type: ignore[no-any-return]


def intersect1d(
    x: Operand,
    y: Operand,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = 0,
) -> Any:
    """The elements that two arrays have in common, sorted and each once.

    With ``return_indices`` also their first places in both, in C order. With ``size`` there are so many, also while
    tracing: the first ones, and ``fill_value`` where there are fewer. ``assume_unique`` changes nothing.

    >>> intersect1d(kn.array([3, 1, 3]), kn.array([2, 3]))  # [3]
    """
    left, right = _vector(x), _vector(y)
    order = argsort(left)
    ordered = take(left, order)
    values, places = _chosen("intersect1d", ordered, _firsts(ordered) & isin(ordered, right), size, fill_value)
    if not return_indices:
        return values
    other = argsort(right)
    return values, take(order, places), take(other, searchsorted(take(right, other), take(ordered, places)))


def setdiff1d(
    x: Operand, y: Operand, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = 0
) -> Any:
    """The elements of ``x`` that are not in ``y``, sorted and each once; for the options see ``intersect1d``.

    >>> setdiff1d(kn.array([3, 1, 3, 2]), kn.array([2]))  # [1, 3]
    """
    ordered = sort(_vector(x))
    mask = _firsts(ordered) & isin(ordered, _vector(y), invert=True)
    return _chosen("setdiff1d", ordered, mask, size, fill_value)[0]


def setxor1d(
    x: Operand, y: Operand, assume_unique: bool = False, *, size: int | None = None, fill_value: Any = 0
) -> Any:
    """The elements that are in one of two arrays alone, sorted and each once; for the options see ``intersect1d``.

    >>> setxor1d(kn.array([3, 1]), kn.array([2, 3]))  # [1, 2]
    """
    left, right = _vector(x), _vector(y)
    ordered = sort(concatenate([left, right]))
    mask = _firsts(ordered) & not_equal(isin(ordered, left), isin(ordered, right))
    return _chosen("setxor1d", ordered, mask, size, fill_value)[0]


__all__ = ["intersect1d", "setdiff1d", "setxor1d", "union1d"]
