"""Assignments of a few numbers into memory that nobody else looks at, and choices by masks: they are done at once.

Anything else is recorded, and becomes part of a program: assignments while a function is traced or differentiated, of
values that are pending, to memory that another handle, a pending graph, a NumPy view or an export shares, or that is on
another device, and those of many numbers, which threads share out.
"""

from __future__ import annotations

import sys
from types import EllipsisType
from typing import Any

import numpy as np

from knetc import lazy
from knetc.lazy import Box, Storage
from knetc.memory import CALL, numpy_view
from knetc.ops.apply import rounded
from knetc.runtime.devices import CPU

_FEW = 4096
"""Elements up to which a program would take longer to find than they take to write."""

_MANY = 1 << 17
"""Index arrays up to which the same is true of them."""

_BASIC = (int, slice, EllipsisType)


def assign(box: Box, key: Any, value: Any) -> bool:
    """``box[key] = value`` if that can be done at once; whether it was. Nothing is raised that recording would not."""
    items = key if type(key) is tuple else (key,)
    if box.owner is not None or lazy.tapes.active or lazy.context().is_trace:
        return False
    places = _places(items[0]) if len(items) == 1 and type(items[0]) not in _BASIC else None
    if places is None and not all(type(item) in _BASIC for item in items):
        return False
    with lazy.LOCK:
        if box.buffer is None and box.node is not None and box.node.op.name == "constant":
            lazy.realize(box)  # it was made to be filled
        if box.buffer is None or box.buffer.device != CPU or not _is_sole(box):
            return False
        numbers = _numbers(value, box.type.dtype)
        if numbers is None:
            return False
        whole = numpy_view(Storage(box.buffer), box.type, writeable=True)
        if places is not None:
            return _write(whole, places, numbers) and _written(box)
        try:
            place = whole[key if Ellipsis in items else (*items, ...)]
        except IndexError:
            return False
        if place.size > _FEW or numbers.shape not in ((), place.shape):
            return False
        place[...] = numbers
        return _written(box)


def _write(whole: np.ndarray[Any, Any], places: np.ndarray[Any, Any], numbers: np.ndarray[Any, Any]) -> bool:
    """``whole[places] = numbers`` if it can be done; of repeated places the last one counts."""
    taken, left = (places.ndim, 1) if places.dtype.kind == "b" else (1, places.ndim)
    if places.size > _MANY or numbers.ndim > left + whole.ndim - taken:
        return False
    try:
        whole[places] = numbers
    except (IndexError, ValueError):
        return False
    return True


def _written(box: Box) -> bool:
    """Forget what is known of the value that a handle had."""
    box.node = box.origin = None
    return True


def chosen(box: Box, key: Any) -> np.ndarray[Any, Any] | None:
    """``box[key]`` for a mask, of numbers that are in memory; None if it is not that."""
    if box.buffer is None or box.owner is not None or lazy.tapes.active or lazy.context().is_trace:
        return None
    mask = _places(key)
    if mask is None or mask.dtype.kind != "b" or not mask.ndim or mask.shape != box.type.shape[: mask.ndim]:
        return None
    if box.buffer.device != CPU:
        return None
    return numpy_view(Storage(box.buffer, box.offset), box.type)[mask]  # type: ignore[no-any-return]


def _places(item: Any) -> np.ndarray[Any, Any] | None:
    """An index array or a mask that is in memory, as NumPy has it."""
    if isinstance(item, np.ndarray):
        found = item
    elif isinstance(item, Box) and item.owner is None and item.buffer is not None and item.buffer.device == CPU:
        found = numpy_view(Storage(item.buffer, item.offset), item.type)
    else:
        return None
    return found if found.dtype.kind in "iub" else None


def _numbers(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    """A value that is known, as NumPy has it; None if it is not, or needs a cast."""
    if type(value) in (bool, int, float):
        return np.asarray(rounded(value, dtype), dtype)
    if isinstance(value, Box):
        if value.owner is not None or value.buffer is None or value.buffer.device != CPU or value.type.dtype != dtype:
            return None
        return numpy_view(Storage(value.buffer, value.offset), value.type)
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype == dtype:
        return np.asarray(value)
    return None


def _is_sole(box: Box) -> bool:
    """Whether a handle is the only one that holds its memory, and it is memory of our own."""
    buffer, node = box.buffer, box.node
    assert buffer is not None
    holders = 1
    if node is not None:
        storage = node.payload
        if not isinstance(storage, Storage) or storage.buffer is not buffer:
            return False
        if sys.getrefcount(node) > CALL + 1 or sys.getrefcount(storage) > CALL + 1:
            return False
        holders = 2
    return sys.getrefcount(buffer) <= CALL + holders and buffer.owner is None and not box.offset
