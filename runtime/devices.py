"""Devices by name: what a device other than the CPU does with memory, and the door to those that there are.

The CPU's memory is reached directly (``runtime.buffers``); ``buffer.device`` says whose a buffer is.
"""

from __future__ import annotations

import importlib
import re
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from knetc.runtime.base.errors import CudaError, UnsupportedError
from knetc.runtime.buffers import Buffer, MemoryStats

CPU = "cpu"


class Device(Protocol):
    """A device that has its own memory."""

    @property
    def name(self) -> str:
        """Such as ``cuda:0``."""

    @property
    def target(self) -> str:
        """What programs for it are made for, such as ``cuda:sm_90``."""

    @property
    def description(self) -> str:
        """What it is, for people."""

    @property
    def marks(self) -> Any:
        """How many entries into the device are complete (``marks.entries``): what ``Buffer.ready`` counts."""

    def free_bytes(self) -> int:
        """Memory that nobody has taken."""

    def allocate(self, size_bytes: int) -> Buffer:
        """A buffer of undefined contents; raises OutOfMemoryError."""

    def read(self, buffer: Buffer, offset: int, into: np.ndarray[Any, Any]) -> None:
        """Copy from a buffer into a C-contiguous array, once all work on it is done."""

    def upload(self, array: np.ndarray[Any, Any]) -> Buffer:
        """A buffer with a copy of a C-contiguous array's elements; the array may be changed afterwards."""

    def copy(self, buffer: Buffer, offset: int, size_bytes: int) -> Buffer:
        """A buffer with a copy of a part of another one, of this device or another."""

    def zeros(self, size_bytes: int) -> Buffer:
        """A buffer of zeros."""

    def in_stream(self, stream: int) -> AbstractContextManager[None]:
        """Work inside takes its turn in a stream of another library."""

    def synchronize(self) -> None:
        """Wait until all work of this device is done."""

    def stats(self) -> MemoryStats: ...
    def gc(self) -> int:
        """Give unused memory back; returns how many bytes."""


_NAME = re.compile(r"cuda(?::(\d{1,4}))?")


def canonical(name: object) -> str:
    """The full name of a device: ``cuda`` is ``cuda:0``. Raises UnsupportedError for what names none.

    >>> canonical("cuda"), canonical("cuda:1"), canonical("cpu")
    ('cuda:0', 'cuda:1', 'cpu')
    """
    if name == CPU:
        return CPU
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise UnsupportedError(f"there is no device {name!r}; devices are 'cpu', 'cuda' and 'cuda:1' …")
    return f"cuda:{int(found[1] or 0)}"


def device(name: str) -> Device:
    """The device of a full name other than ``cpu``; raises DeviceError, with the reason, when it is not there."""
    return importlib.import_module("knetc.runtime.cuda.device").device(int(name.removeprefix("cuda:")))  # type: ignore[no-any-return]


def count() -> int:
    """How many GPUs there are; raises DeviceError, with what is missing, where there is no driver."""
    return importlib.import_module("knetc.runtime.cuda.device").driver().count()  # type: ignore[no-any-return]


def library_file() -> str:
    """The file that the library of matrix products is loaded from; empty where it cannot be loaded."""
    libraries = importlib.import_module("knetc.runtime.cuda.libraries")
    try:
        return str(libraries.load(libraries.CUBLASLT)._name)
    except CudaError:
        return ""


def opened() -> list[Device]:
    """The devices that this process has used so far."""
    return list(_opened.values())


_opened: dict[str, Device] = {}


def remember(found: Device) -> None:
    """Count a device among those that were used."""
    _opened[found.name] = found
