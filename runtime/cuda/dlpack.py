"""A GPU's memory through DLPack, both ways and without copies: PyTorch, CuPy, JAX and others exchange arrays so.

A capsule points to a C structure that says where the memory is and of what type, and has a function that whoever takes
the capsule calls when it is done. Each side works in streams of its own: the giver lets the taker's stream wait for its
work, and memory that comes back waits for the taker's.
"""

from __future__ import annotations

import contextlib
import ctypes
from functools import partial
from itertools import count
from math import prod
from typing import Any

import numpy as np
from knetc.runtime.base.dtypes import bfloat16, is_bfloat16
from knetc.runtime.base.errors import DeviceError, KnetcError
from knetc.runtime.buffers import Buffer, Foreign
from knetc.runtime.cuda.device import GpuDevice, device

CUDA, MANAGED = 2, 13
"""DLPack's codes of devices: memory of a GPU, and memory that moves by itself between it and the host."""

LEGACY = 1
"""The number of the stream that the other side uses if it does not say."""

_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}
_BFLOAT = 4


class _Tensor(ctypes.Structure):
    """``DLTensor``, and behind it what makes it a ``DLManagedTensor``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_NAME, _USED = b"dltensor", b"used_dltensor"


def _capsule_function(name: str, result: Any, *arguments: Any) -> Any:
    """A function object of our own: attributes of ``ctypes.pythonapi`` are shared by the whole process."""
    return ctypes.PYFUNCTYPE(result, *arguments)((f"PyCapsule_{name}", ctypes.pythonapi))


_new = _capsule_function("New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_pointer = _capsule_function("GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_is_valid = _capsule_function("IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_set_name = _capsule_function("SetName", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)

_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_exports: dict[int, tuple[Any, ...]] = {}
"""What was given out, by number: the structure and its arrays, the buffer, its device, the taker's stream."""
_numbers = count(1)


def _release(address: int) -> None:
    """The other side is done: its work must be over before the memory is used again."""
    _, _, buffer, owner, stream = _exports.pop(_Tensor.from_address(address).context)
    if stream is not None:
        with contextlib.suppress(KnetcError), owner.entered() as driver:
            if not driver.capturing(stream):  # who makes a graph of it keeps the memory as long as the graph
                driver.wait(owner.stream, stream)
    del buffer


_release_function = _Deleter(_release)


def _discard(capsule: int) -> None:
    """A capsule that nobody took goes."""
    if _is_valid(capsule, _NAME):
        _release(_pointer(capsule, _NAME))


_discard_function = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_discard)
for _kept in (_release_function, _discard_function, _release, _discard, _exports, _Tensor):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_kept))  # the other side may call them while the process ends


def export(buffer: Buffer, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], stream: int | None) -> Any:
    """A capsule of a GPU's memory; ``stream`` is the taker's as DLPack counts them (None: the legacy one, -1: none).

    Raises BufferError for a number that names no stream, and for a stream of which a graph is being made: what the
    memory waits for is no part of it.
    """
    if stream == 0 or (stream is not None and stream < -1):
        raise BufferError(
            f"stream {stream} names none: 1 is the legacy default stream, 2 the thread's default stream, other streams "
            "are given by their handles, and -1 asks for no waiting"
        )
    owner = device(int(buffer.device.removeprefix("cuda:")))
    taker = LEGACY if stream is None else None if stream == -1 else stream
    if taker is not None:
        with owner.entered() as driver:
            if driver.capturing(taker):
                raise BufferError("a graph is being made of the stream that asks for this memory: ask for it before")
            driver.wait(taker, owner.stream)
    number = next(_numbers)
    extents = (ctypes.c_int64 * max(len(shape), 1))(*shape)
    code = _BFLOAT if is_bfloat16(dtype) else _KINDS[dtype.kind]
    tensor = _Tensor(
        buffer.at + offset,
        CUDA,
        owner.ordinal,
        len(shape),
        code,
        8 * dtype.itemsize,
        1,
        extents,
        None,
        0,
        number,
        ctypes.cast(_release_function, ctypes.c_void_p),
    )
    _exports[number] = (tensor, extents, buffer, owner, taker)
    return _new(ctypes.addressof(tensor), _NAME, ctypes.cast(_discard_function, ctypes.c_void_p))


class _Taken:
    """Memory of another library: given back when nothing of ours uses it any more."""

    def __init__(self, address: int, user: GpuDevice) -> None:
        self.address, self.user = address, user

    def __del__(self) -> None:
        give_back = partial(_give_back, self.address)
        try:
            self.user.when_done(give_back)  # the other side does not know our stream
        except KnetcError:
            give_back()


def _give_back(address: int) -> None:
    """Call the other side's deleter, if it has one."""
    deleter = _Tensor.from_address(address).deleter
    if deleter:
        _Deleter(deleter)(address)


def take(array: Any) -> tuple[Buffer, np.dtype[Any], tuple[int, ...]]:
    """A buffer on the memory of another library's array on a GPU, with dtype and shape; the elements lie in C order.

    Raises DeviceError for an array whose elements are not side by side, or of a type that there is no name for.
    """
    user = device(array.__dlpack_device__()[1])
    held = array.__dlpack__(stream=user.stream)
    capsule = id(held)
    address = _pointer(capsule, _NAME)
    _set_name(capsule, _USED)
    taken = _Taken(address, user)
    tensor = _Tensor.from_address(address)
    shape = tuple(tensor.shape[: tensor.ndim])
    dense = [prod(shape[k + 1 :]) for k in range(len(shape))]
    if tensor.strides and 0 not in shape:
        strides = tensor.strides[: tensor.ndim]
        if any(have != want and extent > 1 for have, want, extent in zip(strides, dense, shape)):
            raise DeviceError(
                f"an array of shape {shape} and strides {tuple(strides)} on {user.name} cannot be used in place: its "
                "elements must lie side by side in C order; copy it where it comes from (PyTorch: x.contiguous())"
            )
    dtype = _dtype(tensor)
    size_bytes = prod(shape) * dtype.itemsize
    home = Foreign(taken, False)
    return user.memory.wrap((tensor.data or 0) + tensor.byte_offset, size_bytes, home), dtype, shape


def _dtype(tensor: _Tensor) -> np.dtype[Any]:
    """The dtype of a tensor."""
    kind = {code: name for name, code in _KINDS.items()}.get(tensor.code)
    if tensor.lanes == 1 and tensor.code == _BFLOAT and tensor.bits == 16:
        return bfloat16()
    if tensor.lanes != 1 or kind is None:
        raise DeviceError(f"an array of DLPack's type {tensor.code} with {tensor.bits} bits has no dtype here")
    return np.dtype(bool) if kind == "b" else np.dtype(f"{kind}{tensor.bits // 8}")
