"""Running CPU programs: the device's context, its lock and arena, and programs as Python callables.

One program runs at a time, under one lock: a word in the context that generated code takes with one instruction when it
is free, and waits for (with the interpreter's lock released) when it is not. The lock covers the arena, the pool and
the failure record, which all programs share.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn
from weakref import WeakSet

from knetc.runtime import buffers
from knetc.runtime.base import errors
from knetc.runtime.base.errors import CacheError, KnetcError, OutOfMemoryError
from knetc.runtime.base.threads import thread_count
from knetc.runtime.cpu import numpy_sorts
from knetc.runtime.cpu.host import runs_here
from knetc.runtime.cpu.host_calls import HostCalls, host_entry_address
from knetc.runtime.cpu.loader import Module
from knetc.runtime.cpu.pool import Pool
from knetc.runtime.program import Program

# Layout of the context, in bytes. Generated code knows it.
POOL = 0
"""ptr: the pool's memory."""
FAILED, VALUE = 8, 16
"""The failure record, i64 each: whether a check failed, and the offending value."""
ARENA = 24
"""ptr: memory for intermediate values, as much as the greediest loaded program needs."""
HOST = 32
"""ptr: the function that steps call Python through, ``i32 (i64 program, i64 call, ptr addresses)``."""
LOCK = 64
"""i32: 0 free, 1 held, 2 held and awaited; on a cache line of its own."""
CONTEXT_BYTES = 128


class _MethodDef(ctypes.Structure):
    """CPython's description of a builtin function."""

    _fields_ = (("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


_FASTCALL = 0x80


class _Code:
    """What a builtin must keep alive: its code and its description. It is the builtin's ``__self__``."""

    def __init__(self, module: Module, arena_bytes: int, calls: HostCalls | None, times: object) -> None:
        self.module = module
        self.times = times
        self.calls = calls
        self.arena_bytes = arena_bytes
        self.definition = _MethodDef(b"call", module["call"], _FASTCALL, None)


class Device:
    """What all CPU programs of this process share."""

    def __init__(self) -> None:
        self._memory = buffers.allocate(CONTEXT_BYTES)
        self.address = self._memory.address
        ctypes.memset(self.address, 0, CONTEXT_BYTES)
        self._word(HOST).value = host_entry_address()
        self._arena = buffers.allocate(0)
        self._word(ARENA).value = self._arena.address
        self._pool: Pool | None = None
        self._code: Module | None = None
        self._loaded: WeakSet[_Code] = WeakSet()
        self._changing = threading.Lock()

    def prepare(self, code: _Code) -> None:
        """Makes room for a program's intermediate values, and has the pool's workers run its copy of the pool's code.

        Raises OutOfMemoryError when there is no room.
        """
        with self._changing:
            self._prepare(code.module, code.arena_bytes)
            self._loaded.add(code)

    def _prepare(self, module: Module, arena_bytes: int) -> None:
        if self._pool is None:
            # Stays loaded until the process ends: workers run it.
            self._code = module
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))
            pool = Pool(thread_count())
            pool.set_worker(module["kn_worker"])
            self._word(POOL).value = pool.address
            self._pool = pool
        if arena_bytes > self._arena.size_bytes:
            self._replace_arena(arena_bytes)

    def trim(self) -> None:
        """Lets go what no loaded program needs of the arena."""
        # Not while it is being changed; that may even be what asks for memory, further up on this thread.
        if self._code is not None and self._changing.acquire(blocking=False):
            try:
                needed = max((code.arena_bytes for code in self._loaded), default=0)
                if buffers.class_bytes(needed) < buffers.class_bytes(self._arena.size_bytes):
                    with suppress(OutOfMemoryError):
                        self._replace_arena(needed)
            finally:
                self._changing.release()

    def _replace_arena(self, size_bytes: int) -> None:
        arena = buffers.allocate(size_bytes)
        with self.locked():
            self._arena, arena = arena, self._arena
            self._word(ARENA).value = self._arena.address

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the device's lock: no program runs meanwhile."""
        assert self._code is not None
        word = ctypes.c_int32.from_address(self.address + LOCK)
        self._code.function("kn_lock_wait", None, ctypes.c_void_p)(self.address + LOCK)
        try:
            yield
        finally:
            word.value = 0
            self._code.function("kn_lock_wake", None, ctypes.c_void_p)(self.address + LOCK)

    def stop(self) -> None:
        """Ends the workers; the next parallel loop starts new ones."""
        if self._pool is not None and self._code is not None and self._pool.started:
            with self.locked():
                self._code.function("kn_stop", None, ctypes.c_void_p)(self._pool.address)

    def after_fork(self) -> None:
        """In a child: there are no workers, and whoever held the lock is not here."""
        ctypes.c_int32.from_address(self.address + LOCK).value = 0
        self._changing = threading.Lock()
        if self._pool is not None and self._code is not None:
            self._pool.reset()
            self._pool.set_worker(self._code["kn_worker"])

    def _word(self, offset: int) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self.address + offset)


device = Device()
"""The CPU of this process."""

atexit.register(device.stop)
buffers.reclaimers.append(device.trim)
os.register_at_fork(after_in_child=device.after_fork)


class Executable:
    """A program that is loaded and can be run.

    ``objects`` holds the bytes of its native objects by digest. Raises CacheError when one is missing, damaged or made
    for another processor, OutOfMemoryError when there is no memory for its intermediate values.

    ``entry`` is the fast way to run it, for generated code: a builtin function that is called with the addresses
    of all inputs, then of all outputs (integers), then with the scalars (numbers; integers for integer and bool
    scalars), positionally. It returns None, or, when a check failed and nothing was written, a tuple that
    ``fail`` turns into the exception::

        failure = executable.entry(x.address, w.address, y.address, 0.1)
        if failure is not None:
            executable.fail(failure)

    The caller keeps the buffers alive during the call and has the sizes and dtypes right; nothing is checked here but
    the number of arguments and that they are numbers. ``entry`` keeps the code loaded. It may be called from
    several threads; programs then run one after another. A program that takes long releases the interpreter's lock
    while it runs, a short one keeps it.
    """

    def __init__(self, program: Program, objects: Mapping[str, bytes]) -> None:
        if not runs_here(program.target):
            raise CacheError(f"the program is made for {program.target}, which this machine is not")
        missing = [digest for digest in program.objects if digest not in objects]
        if missing:
            raise CacheError(f"the program's native objects {', '.join(missing)} are missing")
        self.program = program
        self._calls = HostCalls(program) if program.hosts else None
        symbols = {"kn_context": device.address, **numpy_sorts.addresses()}
        if self._calls is not None:
            symbols["kn_program"] = self._calls.address
        self._times = (ctypes.c_int64 * (1 + len(program.steps)))() if program.timed else None
        if self._times is not None:
            symbols["kn_times"] = ctypes.addressof(self._times)
        self.module = Module([objects[d] for d in dict.fromkeys(program.objects)], symbols)
        code = _Code(self.module, program.arena_bytes, self._calls, self._times)
        device.prepare(code)
        self.entry = _builtin(code)

    def run(
        self,
        input_addresses: Sequence[int],
        output_addresses: Sequence[int],
        scalars: Sequence[int | float] = (),
    ) -> None:
        """Runs the program once; raises the error of the first check that fails, before anything is written.

        >>> executable.run([x.address], [y.address], [0.5])                           # doctest: +SKIP
        """
        failure = self.entry(*input_addresses, *output_addresses, *scalars)
        if failure is not None:
            self.fail(failure)

    def times(self) -> tuple[int, list[float]]:
        """How often the program has run, and the time of each step in all those runs in microseconds.

        Raises ValueError for a program that is not ``timed``.
        """
        if self._times is None:
            raise ValueError("this program does not measure its time: it was built without KNETC_DEBUG")
        runs, *nanoseconds = self._times
        return runs, [1e-3 * n for n in nanoseconds]

    def fail(self, failure: tuple[int, int]) -> NoReturn:
        """Raises the error that ``entry`` told of."""
        code, value = failure
        if self._calls is not None and code > len(self.program.checks):
            self._calls.fail(code - 1 - len(self.program.checks))
        check = self.program.checks[code - 1]
        kind = getattr(errors, check.error, None)
        message = check.message.replace("{value}", str(value)) + "".join(f"\n  at {line}" for line in check.lines)
        raise kind(message) if isinstance(kind, type) and issubclass(kind, KnetcError) else KnetcError(message)


def _builtin(code: _Code) -> Any:
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(code.definition), code, None)
