"""Where things are: copies of models on a device, memory and its statistics, which device is in force."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from knetc import lazy
from knetc.arrays import to_device
from knetc.creation import set_default
from knetc.ir.ambient import ambient
from knetc.lazy import Box
from knetc.params import Param
from knetc.runtime import buffers, devices
from knetc.runtime.base.errors import DeviceError, OutOfMemoryError, UnsupportedError
from knetc.runtime.buffers import MemoryStats
from knetc.runtime.devices import CPU, canonical
from knetc.structure import find


def cpucopy(x: Any) -> Any:
    """A copy of an array, Param, container or model with everything in the CPU's memory, optimizers' state included.

    What was shared in ``x`` is shared in the copy. Functions are not copied: a model is an object, not a closure.

    >>> kn.cpucopy({"w": kn.param(2, 3)})
    """
    return _copied(x, CPU)


def gpucopy(x: Any, device: str | None = None) -> Any:
    """A copy of an array, Param, container or model with everything on a GPU: ``device``, or else the one in use.

    NumPy arrays become Arrays. What was shared in ``x`` is shared in the copy. Raises DeviceError where there is no
    GPU.
    """
    return _copied(x, canonical(device or (ambient().device if ambient().device != CPU else "cuda")))


def _copied(x: Any, device: str) -> Any:
    if device != CPU:
        devices.device(device)  # raises if it is not there
    memo: dict[int, Any] = {}
    boxes = find(x, Box)
    lazy.realize_all(boxes)
    for box in boxes:
        if isinstance(box, Param):
            _copy_param(box, device, memo)
        else:
            memo[id(box)] = to_device(box, device).copy()
    if device != CPU:
        for array in find(x, np.ndarray, (Box,)):
            memo[id(array)] = to_device(array, device)
    return copy.deepcopy(x, memo)


def _copy_param(param: Param, device: str, memo: dict[int, Any]) -> None:
    """A Param with its optimizer's state, on a device."""
    made = memo[id(param)] = Param(to_device(param.value, device))
    for box in find(param.opt, Box):
        if id(box) not in memo:
            memo[id(box)] = to_device(box, device).copy()
    made._opt = copy.deepcopy(param.opt, memo)


def gpu(which: int | bool | None = None) -> int:
    """The number of the GPU that arrays are made on by default, -1 if they are made on the CPU.

    ``gpu(n)`` makes GPU ``n`` the default device, ``gpu(True)`` the one with the most free memory, ``gpu(False)`` the
    CPU. ``gpu(True)`` leaves the CPU where there is no GPU; ``gpu(n)`` raises DeviceError then.

    >>> kn.gpu(False)  # -1
    """
    if which is False:
        set_default(device=CPU)
    elif which is True:
        free = _free_memory()
        set_default(device=f"cuda:{max(free, key=free.__getitem__)}" if free else CPU)
    elif which is not None:
        set_default(device=f"cuda:{which}" if which >= 0 else CPU)
    device = ambient().device
    return -1 if device == CPU else int(device.removeprefix("cuda:"))


def _free_memory() -> dict[int, int]:
    """Bytes that are free on each GPU of this machine."""
    found = {}
    with suppress(DeviceError):
        for number in range(devices.count()):
            with suppress(DeviceError, OutOfMemoryError):  # too old, or full
                found[number] = devices.device(f"cuda:{number}").free_bytes()
    return found


def gc() -> int:
    """Gives memory that no array uses back to the system and to the GPUs; returns how many bytes.

    >>> kn.gc() >= 0
    True
    """
    return buffers.gc() + sum(device.gc() for device in devices.opened())


def memory_stats(device: str | None = None) -> MemoryStats:
    """How much memory this process holds for arrays on a device (the default one), uses, and held at most, in bytes.

    >>> kn.memory_stats("cpu").held_bytes >= kn.memory_stats("cpu").in_use_bytes
    True
    """
    name = ambient().device if device is None else canonical(device)
    return buffers.stats() if name == CPU else devices.device(name).stats()


def synchronize(device: str | None = None) -> None:
    """Waits until all work of a device (the default one) is done; reading an array waits for it by itself.

    >>> kn.synchronize("cpu")
    """
    name = ambient().device if device is None else canonical(device)
    if name != CPU:
        devices.device(name).synchronize()


@contextmanager
def in_stream(stream: Any, device: str | None = None) -> Iterator[None]:
    """Lets the calls inside take their turn in a stream of another library on a GPU (the default device).

    They come behind what that library has put into the stream before, and before what it puts there afterwards: its
    events around them measure them, and memory that both write needs no waiting by the host. ``stream`` is PyTorch's or
    CuPy's stream, or a handle (1: the legacy default stream). What is only recorded inside, and computed when it is
    read, does not count. Raises UnsupportedError on the CPU, which has no streams.

    >>> with kn.in_stream(torch.cuda.current_stream()):
    ...     y = step(x)
    """
    name = ambient().device if device is None else canonical(device)
    if name == CPU:
        raise UnsupportedError("the CPU has no streams: give in_stream the device, such as device='cuda:0'")
    handle = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    with devices.device(name).in_stream(int(handle) or 1):
        yield


def found_devices() -> dict[str, str]:
    """The GPUs of this machine, by name, with what they are; or, under "cuda", why there is none."""
    found = {}
    try:
        for name in [f"cuda:{number}" for number in range(devices.count())]:
            try:
                found[name] = devices.device(name).description
            except (DeviceError, OutOfMemoryError) as error:
                found[name] = f"cannot be used: {_first_line(error)}"
    except DeviceError as error:
        return {"cuda": _first_line(error)}
    return found or {"cuda": "the driver finds no GPU"}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def cublaslt() -> str:
    """Which file NVIDIA's library of matrix products would be loaded from, or what its absence means."""
    return devices.library_file() or "not found: generated kernels multiply matrices on GPUs"


__all__ = ["cpucopy", "gc", "gpu", "gpucopy", "in_stream", "memory_stats", "synchronize"]
