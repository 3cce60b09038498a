"""Memory: buffers, and the caching allocator behind them.

Fresh memory is dear (the system clears each page at its first touch: five to fifteen times the cost of the kernel that
fills it), so a buffer's block goes back to a list of its size class when the buffer dies, and the next buffer of that
class takes it, still warm.

Who owns a buffer is decided by counting references to the Buffer object: every handle, every pending graph, every NumPy
view and every export holds the Buffer itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc as python_gc
import mmap
import os
import sys
import threading
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from knetc.runtime.base.errors import OutOfMemoryError
from knetc.runtime.program import ALIGNMENT

_SLAB_BYTES = 1 << 18
"""Blocks smaller than a quarter of this are cut from slabs of this size; larger ones are mapped each by itself."""
_SMALL_BYTES = _SLAB_BYTES // 4
_HUGE_PAGE = 1 << 21
_SPARE_BYTES = 1 << 28
"""This much, and as much as is in use, may lie unused before it is given back to the system."""


class _Home(Protocol):
    """Where a buffer's memory goes when the buffer dies."""

    def append(self, address: int, /) -> None: ...


class ElsewhereError(Exception):
    """An address was asked for that is on another device: code for one device was given memory of another."""


class Foreign:
    """Home of memory that is not ours: keeps its owner alive, and forgets it together with the buffer."""

    __slots__ = ("owner", "readonly")

    def __init__(self, owner: object, readonly: bool) -> None:
        self.owner = owner
        self.readonly = readonly

    def append(self, address: int, /) -> None:
        """Nothing comes back to us: the owner frees it."""


class Buffer:
    """A piece of memory, without dtype or shape; made by ``allocate`` and ``Buffer.from_numpy``.

    ``address`` is a multiple of 64, but of a NumPy array's memory only one of its item size. The contents of a new
    buffer are undefined.

    >>> buffer = allocate(24)
    >>> buffer.as_numpy(np.float32, (2, 3)).shape
    (2, 3)
    """

    __slots__ = ("__weakref__", "address", "home", "size_bytes")

    address: int
    size_bytes: int
    home: _Home
    ready: int
    """Of another device's memory: how many entries into the device were complete when its contents had been asked for,
    once and for all; -1 if that is not known, or they may change."""
    device: ClassVar[str] = "cpu"
    """Whose memory it is; each other device has a class of its own, so that it costs nothing."""

    # No __init__: allocate() sets the fields itself, which halves the cost of making one.

    def __del__(self) -> None:
        self.home.append(self.address)

    @staticmethod
    def from_numpy(array: np.ndarray[Any, Any]) -> Buffer:
        """A buffer on an array's own memory, which it keeps alive; read-only if the array is.

        Raises ValueError for an array that is not C-contiguous, aligned and in native byte order.

        >>> Buffer.from_numpy(np.zeros(3)).size_bytes
        24
        """
        address = address_of(array)
        buffer = Buffer()
        buffer.address = address
        buffer.home = Foreign(array, not array.flags.writeable)
        buffer.size_bytes = array.nbytes
        return buffer

    @property
    def owner(self) -> object | None:
        """The NumPy array whose memory this is; None for memory of our own."""
        return self.home.owner if isinstance(self.home, Foreign) else None

    @property
    def readonly(self) -> bool:
        """Whether the memory may not be written, by anyone."""
        return isinstance(self.home, Foreign) and self.home.readonly

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's view of the bytes; arrays made from it keep this Buffer alive."""
        return {"data": (self.address, self.readonly), "shape": (self.size_bytes,), "typestr": "|u1", "version": 3}

    @property
    def at(self) -> int:
        """Where memory of another device than the CPU begins, for that device."""
        raise ElsewhereError

    def as_numpy(self, dtype: Any, shape: tuple[int, ...], offset_bytes: int = 0) -> np.ndarray[Any, Any]:
        """The memory as a C-contiguous NumPy array that keeps this Buffer alive.

        Raises TypeError when dtype and shape do not fit within the buffer.

        >>> buffer = Buffer.from_numpy(np.arange(6, dtype=np.int32))
        >>> buffer.as_numpy(np.int32, (2, 2), offset_bytes=8)
        array([[2, 3],
               [4, 5]], dtype=int32)
        """
        return np.ndarray(shape, dtype, np.asarray(self), offset_bytes)

    def __repr__(self) -> str:
        return f"<Buffer of {self.size_bytes} bytes at {self.address:#x}>"


def address_of(array: np.ndarray[Any, Any]) -> int:
    """Where an array's data begin.

    Raises ValueError for an array that is not C-contiguous, aligned and in native byte order.

    >>> address_of(np.zeros(3)) > 0
    True
    """
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned and array.dtype.isnative):
        raise ValueError(
            f"cannot use a NumPy array of shape {array.shape}, strides {array.strides} and dtype {array.dtype.str} "
            "in place: it must be C-contiguous, aligned and in native byte order; copy it with np.ascontiguousarray"
        )
    if flags.writeable and array.size and array.dtype.kind != "V":  # bfloat16, which has no buffer protocol
        # a quarter of the cost of the general way
        return _address(_first_byte(array))
    address: int = array.__array_interface__["data"][0]
    return address


_address = ctypes.addressof
_first_byte: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer


@dataclass(frozen=True)
class MemoryStats:
    """Bytes of buffer memory of this process."""

    held_bytes: int
    """Had from the system."""
    in_use_bytes: int
    """Of living buffers, rounded up to their size classes."""
    peak_bytes: int
    """The most that was held, ever or since ``reset_peak``."""


reclaimers: list[Callable[[], None]] = []
"""Called before memory is given back: those who hold buffers for later use let go what they can."""

_lock = threading.RLock()
"""Guards everything below but taking from and adding to the free lists, which the interpreter does in one piece."""
_free: dict[int, list[int]] = {}
"""Addresses of free blocks, by their size in bytes."""
_homes: dict[int, list[int]] = {}
"""The same lists by the size that was asked for: one look-up instead of arithmetic."""
_regions: dict[int, tuple[mmap.mmap, int, int]] = {}
"""What was had from the system: address -> mapping, its bytes, size of the blocks in it."""
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_regions))  # stays mapped while the process ends: threads may still run
_held_bytes = 0
_peak_bytes = 0


def class_bytes(size_bytes: int) -> int:
    """The size of the block that holds ``size_bytes``: a multiple of 64, and little more than what is asked for.

    There are four sizes to a doubling, so at most a quarter is wasted; above 1 MiB sixteen.

    >>> class_bytes(1), class_bytes(600), class_bytes(1 << 20), class_bytes(20 << 20)
    (64, 640, 1048576, 20971520)
    """
    bits = (size_bytes - 1).bit_length()
    step = max(ALIGNMENT, 1 << max(0, bits - (3 if bits <= 20 else 5)))
    return max(ALIGNMENT, -(-size_bytes // step) * step)


def home_of(size_bytes: int) -> list[int]:
    """The list of free addresses that ``allocate(size_bytes)`` takes from: the ``home`` of such a buffer."""
    home = _homes.get(size_bytes)
    if home is None:
        home = _homes[size_bytes] = _free.setdefault(class_bytes(size_bytes), [])
    return home


def allocate(size_bytes: int) -> Buffer:
    """A buffer of undefined contents, aligned to 64 bytes.

    Raises OutOfMemoryError when the system has none; what is held stays usable.
    """
    try:
        home = _homes[size_bytes]
        address = home.pop()
    except (KeyError, IndexError):
        home = home_of(size_bytes)
        address = _obtain(size_bytes)
    buffer = Buffer()
    buffer.address = address
    buffer.size_bytes = size_bytes
    buffer.home = home
    return buffer


def is_sole(buffer: Buffer, expected: int = 1) -> bool:
    """Whether nobody refers to ``buffer`` but the ``expected`` references that the caller knows of.

    The caller counts the places where it keeps the buffer (a handle's attribute, a local variable), not the argument of
    this call.

    >>> held = allocate(8)
    >>> is_sole(held, 1), is_sole(held, 2)
    (True, False)
    """
    return sys.getrefcount(buffer) - _CALL_REFERENCES == expected


def _calibrate() -> int:
    """References that a call of a function like ``is_sole`` itself makes, which depends on the Python version."""

    def count(buffer: object) -> int:
        return sys.getrefcount(buffer)

    probe = object()
    return count(probe) - 1


_CALL_REFERENCES = _calibrate()


def stats() -> MemoryStats:
    """How much buffer memory this process holds and uses.

    >>> stats().held_bytes >= stats().in_use_bytes
    True
    """
    with _lock:
        return MemoryStats(_held_bytes, _held_bytes - _free_bytes(), _peak_bytes)


def reset_peak() -> None:
    """Gives unused memory back and counts the peak from here: then it is what the work that follows really takes.

    >>> reset_peak(); stats().peak_bytes == stats().held_bytes
    True
    """
    global _peak_bytes
    with _lock:
        gc()
        _peak_bytes = _held_bytes


def gc() -> int:
    """Gives unused memory back to the system; returns how many bytes.

    >>> gc() >= 0
    True
    """
    global _held_bytes
    for reclaim in reclaimers:
        reclaim()
    with _lock:
        addresses = sorted(_regions)
        # blocks are taken one by one: buffers may die (and add theirs), and other threads may take some, meanwhile
        unused: dict[int, list[int]] = {}
        for free in list(_free.values()):
            for _ in range(len(free)):
                with contextlib.suppress(IndexError):
                    block = free.pop()
                    unused.setdefault(addresses[bisect_right(addresses, block) - 1], []).append(block)
        released = 0
        for region, blocks in unused.items():
            mapping, region_bytes, block_bytes = _regions[region]
            if len(blocks) == region_bytes // block_bytes:
                del _regions[region]
                mapping.close()
                released += region_bytes
            else:
                _free[block_bytes].extend(blocks)
        _held_bytes -= released
        return released


def _free_bytes() -> int:
    return sum(size * len(blocks) for size, blocks in list(_free.items()))


def _obtain(size_bytes: int) -> int:
    """A block from the system, when no warm one is left."""
    block_bytes = class_bytes(size_bytes)
    region_bytes = block_bytes if block_bytes > _SMALL_BYTES else _SLAB_BYTES // block_bytes * block_bytes
    with _lock:
        free_bytes = _free_bytes()
        if free_bytes > _SPARE_BYTES and free_bytes > _held_bytes - free_bytes:
            gc()
        for last_resort in (gc, _collect, None):
            try:
                return _map(region_bytes, block_bytes)
            except (OSError, OverflowError) as error:
                if last_resort is None:
                    raise OutOfMemoryError(
                        f"no memory for a buffer of {size_bytes:,} bytes: {_held_bytes - _free_bytes():,} bytes are in "
                        f"use in buffers, and this process may have {memory_limit():,} bytes; drop arrays that are no "
                        "longer needed, or use a smaller batch"
                    ) from error
                last_resort()
    raise AssertionError("unreachable")


def _collect() -> int:
    """Frees the buffers that only unreachable cycles of Python objects hold, then as ``gc``."""
    python_gc.collect()
    return gc()


def _map(region_bytes: int, block_bytes: int) -> int:
    global _held_bytes, _peak_bytes
    if region_bytes >= _HUGE_PAGE and _held_bytes + region_bytes > memory_limit():
        raise OSError("more than this process may have")
    huge = region_bytes >= _HUGE_PAGE
    mapping = mmap.mmap(-1, region_bytes + (_HUGE_PAGE if huge else 0), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    if huge:
        # pages of 2 MiB need that alignment; untouched pages before and behind cost nothing
        address = -(-address // _HUGE_PAGE) * _HUGE_PAGE
        with contextlib.suppress(OSError, AttributeError):
            mapping.madvise(mmap.MADV_HUGEPAGE)
    _regions[address] = (mapping, region_bytes, block_bytes)
    _held_bytes += region_bytes
    _peak_bytes = max(_peak_bytes, _held_bytes)
    _free[block_bytes].extend(range(address + block_bytes, address + region_bytes, block_bytes))
    return address


_limit_bytes = 0


def memory_limit() -> int:
    """Bytes that this process may use: the machine's memory, or its control group's limit."""
    global _limit_bytes
    if not _limit_bytes:
        _limit_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for name in ("memory.max", "memory/memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                _limit_bytes = min(_limit_bytes, int(Path("/sys/fs/cgroup", name).read_text()))
    return _limit_bytes


# The child of a fork has a copy of the memory and of the lists; nobody is in the middle of changing them.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
