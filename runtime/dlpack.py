"""Arrays through DLPack: the CPU's by NumPy, a GPU's by ``runtime.cuda.dlpack``.

NumPy does not know bfloat16, which goes through it as uint16, whose label in the capsule is changed.

A capsule holds a pointer to a C structure that says what the memory is. Whoever takes the capsule owns the structure,
so it may be changed before that.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np
from knetc.runtime.base.dtypes import bfloat16, is_bfloat16
from knetc.runtime.base.errors import DeviceError
from knetc.runtime.buffers import Buffer

_UNSIGNED, _BFLOAT = 1, 4
"""DLPack's codes of element types."""

_TYPE_CODES = {b"dltensor": 20, b"dltensor_versioned": 52}
"""Where the code of the element type lies in the structure that a capsule of a name points to."""

# Function objects of our own: attributes of ``ctypes.pythonapi`` are shared by the whole process.
_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _type_code(capsule: object) -> ctypes.c_uint8:
    """The code in a capsule, to be read and changed."""
    name = _name(capsule)
    return ctypes.c_uint8.from_address(_pointer(capsule, name) + _TYPE_CODES[name])


def export(array: np.ndarray[Any, Any], **options: Any) -> Any:
    """A capsule of an array's memory for another library, as ``array.__dlpack__`` makes it, for bfloat16 too.

    Memory that must not be written, which older versions of the protocol cannot say, is copied for those.
    """
    if not array.flags.writeable and options.get("copy") is None and (options.get("max_version") or (0,))[0] < 1:
        array = array.copy()
    if not is_bfloat16(array.dtype):
        return array.__dlpack__(**options)
    capsule = array.view(np.uint16).__dlpack__(**options)
    _type_code(capsule).value = _BFLOAT
    return capsule


UNSAID: Any = object()
"""The stream of those who say none."""


def export_gpu(
    buffer: Buffer, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], stream: Any, **options: Any
) -> Any:
    """A capsule of a GPU's memory for another library. Raises BufferError for wishes that are not met, and for those
    who say no stream: libraries that know GPUs say theirs, and NumPy would find out too late that it does not."""
    if stream is UNSAID:
        raise BufferError(
            f"this memory is on {buffer.device}, and who asks for it names no stream: NumPy sees a copy of it with "
            "np.asarray(x); a library for GPUs passes stream= (None for the default stream)"
        )
    wanted = options.get("dl_device")
    if options.get("copy") or wanted not in (None, device_of(buffer.device)):
        raise BufferError(f"memory on {buffer.device} is exported as it is; copy it first, with kn.to_device")
    return _gpu().export(buffer, offset, dtype, shape, stream)


def take_gpu(array: Any) -> tuple[Buffer, np.dtype[Any], tuple[int, ...]] | None:
    """A buffer on the memory of another library's array, with dtype and shape, if that is on a GPU; else None.

    Raises DeviceError for memory of other devices.
    """
    where = getattr(array, "__dlpack_device__", lambda: (_CPU, 0))()
    if where[0] == _CPU:
        return None
    if where[0] not in (_CUDA, _MANAGED):
        raise DeviceError(f"memory of DLPack's device {tuple(map(int, where))} cannot be used: a CPU's and a GPU's can")
    return _gpu().take(array)  # type: ignore[no-any-return]


def device_of(name: str) -> tuple[int, int]:
    """What DLPack calls a device: (2, 1) is ``cuda:1``."""
    return (_CPU, 0) if name == "cpu" else (_CUDA, int(name.removeprefix("cuda:")))


_CPU, _CUDA, _MANAGED = 1, 2, 13


def _gpu() -> Any:
    return importlib.import_module("knetc.runtime.cuda.dlpack")


class _Producer:
    """Another library's array, which gives bfloat16 as uint16 and remembers that it did."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.relabelled = False

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self.array.__dlpack__(**options)
        code = _type_code(capsule)
        if code.value == _BFLOAT:
            code.value, self.relabelled = _UNSIGNED, True
        return capsule

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def take(array: Any) -> np.ndarray[Any, Any]:
    """A NumPy array on the memory of another library's array, as ``np.from_dlpack`` makes it, for bfloat16 too."""
    producer = _Producer(array)
    found: np.ndarray[Any, Any] = np.from_dlpack(producer)
    return found.view(bfloat16()) if producer.relabelled else found
