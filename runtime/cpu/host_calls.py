"""Python functions that programs call while they run.

Native code reaches them through one C function, whose address is in the device's context. It is given the program's
number and the call's, and finds the addresses of the arguments in the program's table. It takes the interpreter's lock,
makes NumPy arrays of the program's memory, and calls. What a function raises is kept until the program has ended, and
raised then.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import count
from math import prod
from typing import Any, NoReturn
from weakref import ref

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
_programs: dict[int, ref[HostCalls]] = {}


class HostCalls:
    """The host calls of one loaded program: their functions, and what the last one that failed raised."""

    def __init__(self, program: Program) -> None:
        """Raises CacheError when this process lacks one of the functions."""
        self.program = program
        self.calls = [_Call(call, lookup(call.function)) for call in program.hosts]
        number = next(_numbers)
        longest = max([len(call.shapes) for call in program.hosts], default=0)
        self.table = (ctypes.c_int64 * (1 + longest))(number)
        """The program's number, then the addresses of a call's arguments; native code finds it, and fills it."""
        self.address = ctypes.addressof(self.table)
        self.raised: dict[int, BaseException] = {}
        _programs[number] = ref(self, lambda _: _programs.pop(number, None))

    def run(self, index: int, addresses: Sequence[int]) -> None:
        self.calls[index].run(addresses)

    def fail(self, index: int) -> NoReturn:
        """Raises what a call raised, with the user's lines."""
        error = self.raised.pop(index)
        lines = next(step.lines for step in self.program.steps if step.host == index)
        if isinstance(error, KnetcError):
            raise type(error)("".join([str(error), *(f"\n  at {line}" for line in lines)])) from error.__cause__
        for line in lines:
            error.add_note(f"  in {self.calls[index].function.name}, called at {line}")
        raise error


class _Call:
    """A host call, and the arrays that it was given last: programs run on the same memory again and again."""

    def __init__(self, call: HostCall, function: HostFunction) -> None:
        self.call, self.function, self.count = call, function, len(call.shapes)
        kinds = [(shape, from_short_name(name)) for shape, name in zip(call.shapes, call.dtypes)]
        self.kinds: list[tuple[tuple[int, ...], np.dtype[Any], Any]] = [
            (shape, dtype, ctypes.c_char * (prod(shape) * dtype.itemsize)) for shape, dtype in kinds
        ]
        self.addresses = [0] * self.count
        self.arrays = [np.empty(shape, dtype) for shape, dtype in kinds]
        """Views of memory that may be gone: of use only at the addresses that a call names."""

    def run(self, addresses: Sequence[int]) -> None:
        """Addresses of the sources, then of the result."""
        for k, address in enumerate(addresses):
            if address != self.addresses[k]:
                self.arrays[k], self.addresses[k] = self.view(k, address), address
        *sources, result = self.arrays
        function = self.function
        if function.copies:
            sources = [source.copy() for source in sources]
        if function.fills:
            function.call(*sources, result)
        else:
            _deliver(function, self.call, function.call(*sources), result)

    def view(self, k: int, address: int) -> Array:
        shape, dtype, memory = self.kinds[k]
        array = np.ndarray(shape, dtype, memory.from_address(address)) if prod(shape) else np.empty(shape, dtype)
        if k < self.count - 1:
            array.flags.writeable = False
        return array


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


def _enter(program: int, index: int) -> int:
    calls = _programs[program]()
    assert calls is not None, "a program runs that nothing holds"
    try:
        call = calls.calls[index]
        call.run(calls.table[1 : 1 + call.count])
    except BaseException as error:
        calls.raised[index] = error
        return 1
    return 0


_entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64)(_enter)


def host_entry_address() -> int:
    """The C function's address."""
    address = ctypes.cast(_entry, ctypes.c_void_p).value
    assert address is not None
    return address
