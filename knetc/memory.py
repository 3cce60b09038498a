"""Memory behind values: where a value lies, NumPy's view of it, and whether it may be written."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError
from knetc.runtime.buffers import Buffer, allocate
from knetc.runtime.devices import CPU, device


class Storage:
    """Memory that a value lies in, dense: a buffer and the place where it begins, in bytes."""

    __slots__ = ("buffer", "offset")

    def __init__(self, buffer: Buffer, offset: int = 0) -> None:
        self.buffer = buffer
        self.offset = offset

    @property
    def address(self) -> int:
        """Where it begins, in the CPU's memory."""
        return self.buffer.address + self.offset

    @property
    def at(self) -> int:
        """Where it begins, in the memory of another device."""
        return self.buffer.at + self.offset

    @property
    def device(self) -> str | None:
        """Which device the value is on; None for data from NumPy, which go where they are used."""
        return self.buffer.device


class HostData(Storage):
    """Memory of the CPU with data from NumPy, or a Python number's array: it belongs to no device."""

    __slots__ = ()

    @property
    def device(self) -> str | None:
        return None


def numpy_view(storage: Storage, type: TensorType, *, writeable: bool = False) -> np.ndarray[Any, Any]:
    """The memory as a NumPy array that shares it and keeps it alive; read-only unless asked otherwise.

    Of another device's memory it is a copy, made when all work on it is done.
    """
    if storage.buffer.device != CPU:
        copy = np.empty(type.shape, type.dtype)
        device(storage.buffer.device).read(storage.buffer, storage.offset, copy)
        copy.flags.writeable = writeable
        return copy
    view = storage.buffer.as_numpy(type.dtype, type.shape, storage.offset)
    if not writeable:
        view.flags.writeable = False
    return view


_CURES = {
    "O": "Python objects, None and integers beyond 64 bits are no numbers that kernels know",
    "U": "text is no number: give its tokens or characters as integers",
    "S": "text is no number: give its bytes as integers, with numpy.frombuffer",
    "M": "dates are no numbers: give them as integers, with view('int64')",
    "m": "times are no numbers: give them as integers, with view('int64')",
    "c": "there are no complex numbers: give the real and the imaginary part",
    "V": "give each field as an array of its own",
}
"""By kind of dtype, what to do about one that there is no code for."""


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise DtypeError for an element type that there is no code for."""
    if not dtypes.is_supported(dtype):
        cure = _CURES.get(dtype.kind, f"convert them (astype) to one of {dtypes.supported_names()}")
        raise DtypeError(f"arrays of dtype {dtype} are not supported; {cure}")


def copy_in(array: np.ndarray[Any, Any]) -> tuple[TensorType, Storage]:
    """A NumPy array's type, and fresh memory with a copy of its elements, dense in C order."""
    check_dtype(array.dtype)
    type = TensorType(array.dtype.newbyteorder("="), array.shape)
    storage = HostData(allocate(type.size_bytes))
    if type.size:
        np.copyto(numpy_view(storage, type, writeable=True), array)
    return type, storage


def moved(storage: Storage, type: TensorType, to: str) -> Storage:
    """Memory on the device ``to`` with a copy of a value that lies elsewhere."""
    if to != CPU:
        return Storage(device(to).copy(storage.buffer, storage.offset, type.size_bytes))
    buffer = allocate(type.size_bytes)
    device(storage.buffer.device).read(storage.buffer, storage.offset, buffer.as_numpy(np.uint8, (type.size_bytes,)))
    return Storage(buffer)


# --- ownership -------------------------------------------------------------------------------------------------------

CALL = sys.getrefcount(object()) + 1
"""What counting the references to an object adds: the variable and the argument of the call."""


def overwritable(walked: Sequence[Node], known: Mapping[int, int], leaves: Iterable[Node]) -> set[int]:
    """The serials of those of ``leaves`` whose memory nobody will look at once ``walked`` has been computed.

    ``walked`` are the nodes of a pending graph, sources first; ``known`` says by serial how many references to a node
    the caller knows of, which will be gone (handles that will hold the result, its own lists). Whatever else refers to
    a node keeps all that the node is made from; whatever else refers to a leaf, or to its buffer, owns the memory too.
    """
    uses = Counter(source.serial for node in walked for source in node.sources)
    pinned: set[int] = set()
    for node in reversed(walked):
        if node.serial not in pinned:
            held = sys.getrefcount(node) - CALL - 1 - uses[node.serial] - known.get(node.serial, 0)  # 1: ``walked``
            if held <= 0:
                continue
        pinned.add(node.serial)
        pinned.update(source.serial for source in node.sources)
    return {leaf.serial for leaf in leaves if leaf.serial not in pinned and _is_own(leaf.payload)}


def _is_own(storage: Storage) -> bool:
    """Whether this is the only record of a whole buffer of our own memory."""
    buffer = storage.buffer
    sole = sys.getrefcount(storage) <= CALL + 1 and sys.getrefcount(buffer) <= CALL + 1
    return sole and buffer.owner is None and not storage.offset
