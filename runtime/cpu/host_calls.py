"""Python functions that programs call while they run.

Native code reaches them through one C function, whose address is in the device's context. It is given the program's
number, the call's and a table of addresses. It takes the interpreter's lock, makes NumPy arrays of the program's
memory, and calls. What a function raises is kept until the program has ended, and raised then.
"""

from __future__ import annotations

import ctypes
from itertools import count
from math import prod
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import numpy as np

# LAPACK's functions and sorting are known wherever programs run.
from knetc.runtime.base import lapack as _lapack  # noqa: F401
from knetc.runtime.base import sorting as _sorting  # noqa: F401
from knetc.runtime.base.dtypes import from_short_name
from knetc.runtime.base.errors import HostCallError, KnetcError
from knetc.runtime.base.host_functions import HostFunction, lookup
from knetc.runtime.program import HostCall, Program

Array = np.ndarray[Any, Any]

_numbers = count(1)
_programs: WeakValueDictionary[int, HostCalls] = WeakValueDictionary()


class HostCalls:
    """The host calls of one loaded program: their functions, and what the last one that failed raised."""

    def __init__(self, program: Program) -> None:
        """Raises CacheError when this process lacks one of the functions."""
        self.program = program
        self.functions = [lookup(call.function) for call in program.hosts]
        self.kinds = [
            [(shape, from_short_name(name)) for shape, name in zip(call.shapes, call.dtypes)] for call in program.hosts
        ]
        number = next(_numbers)
        self._cell = ctypes.c_int64(number)
        self.address = ctypes.addressof(self._cell)
        """Of the program's number, which native code finds there."""
        self.raised: dict[int, BaseException] = {}
        _programs[number] = self

    def run(self, index: int, addresses: Any) -> None:
        call, function = self.program.hosts[index], self.functions[index]
        arrays = [_view(addresses[k], *kind) for k, kind in enumerate(self.kinds[index])]
        sources, result = arrays[:-1], arrays[-1]
        if function.copies:
            sources = [source.copy() for source in sources]
        else:
            for source in sources:
                source.flags.writeable = False
        if function.fills:
            function.call(*sources, result)
        else:
            _deliver(function, call, function.call(*sources), result)

    def fail(self, index: int) -> NoReturn:
        """Raises what a call raised, with the user's lines."""
        error = self.raised.pop(index)
        lines = next(step.lines for step in self.program.steps if step.host == index)
        if isinstance(error, KnetcError):
            raise type(error)("".join([str(error), *(f"\n  at {line}" for line in lines)])) from error.__cause__
        for line in lines:
            error.add_note(f"  in {self.functions[index].name}, called at {line}")
        raise error


def _view(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size_bytes = prod(shape) * dtype.itemsize
    if not size_bytes:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_char * size_bytes).from_address(address)
    return np.ndarray(shape, dtype, memory)


def _deliver(function: HostFunction, call: HostCall, value: Any, result: Array) -> None:
    """Put what a function returned into the program's memory."""
    if isinstance(value, tuple):
        value = np.concatenate([np.ravel(np.asarray(part)) for part in value])
    found = np.asarray(value)
    if found.shape != result.shape or not np.can_cast(found.dtype, result.dtype, "same_kind"):
        shown = f"{found.dtype}{list(found.shape)}"
        raise HostCallError(
            f"{function.name} returned {shown}, but was said to return {result.dtype}{list(result.shape)} for these "
            "arguments: a function's shapes and dtype may depend on the shapes and dtypes that it is given alone"
        )
    np.copyto(result, found, casting="same_kind")


def _enter(program: int, index: int, addresses: Any) -> int:
    calls = _programs.get(program)
    assert calls is not None, "a program runs that nothing holds"
    try:
        calls.run(index, addresses)
    except BaseException as error:
        calls.raised[index] = error
        return 1
    return 0


_entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))(_enter)


def host_entry_address() -> int:
    """The C function's address."""
    address = ctypes.cast(_entry, ctypes.c_void_p).value
    assert address is not None
    return address
