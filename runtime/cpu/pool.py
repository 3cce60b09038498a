"""The worker pool's memory, and how many threads it has. Its code is generated (``codegen.cpu.pool``).

One pool serves the process. The workers start when a parallel loop first asks for them, and again in the child of a
fork, whose memory says that none have been started; they are stopped at exit.
"""

from __future__ import annotations

import ctypes
import mmap

# Layout of the pool's memory, in bytes. What different threads write is kept on cache lines of its own.
EPOCH = 0
"""i32: counts jobs; what idle workers watch and sleep on."""
STATE = 64
"""i64: epoch << 32 | open << 16 | workers in the job."""
SLEEPERS = 128
"""i32: workers that sleep, or are about to."""
FUNCTION, TABLE, COUNT, GRAIN, SHARE, PARTS = 192, 200, 208, 216, 224, 232
"""The job: what to call, with which table, how many in which pieces; indexes in a part, and parts."""
THREADS, SPIN, STOP, STARTED = 256, 260, 264, 268
"""i32 each: threads including the caller, turns to wait before sleeping, whether to end, whether workers exist."""
WORKER = 272
"""ptr: the workers' main function."""
LAST_BRIEF = 280
"""i64: the cycle counter when a brief job last found workers asleep."""
AVOIDED = 288
"""i32: the processor that workers keep off, which is the caller's, plus one; 0 while there is none."""
PARTS_BEGIN, PART_BYTES = 320, 64
"""One line for each thread."""
PART_NEXT, PART_POOL, PART_THREAD, PART_HANDLE = 0, 8, 16, 24
"""i64 first index of its part not yet taken; ptr to the pool and i32 number, for the thread to find; pthread_t."""

_SPIN_TURNS = 2000
"""Some 50 to 100 microseconds: the gap between two launches of one program is shorter, a user's think time longer."""


class Pool:
    """Memory of a pool for ``threads`` threads, the calling one included; no worker runs yet."""

    def __init__(self, threads: int) -> None:
        # private memory: the child of a fork gets its own copy
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, PARTS_BEGIN + PART_BYTES * threads, flags=flags)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._memory))  # stays mapped: workers look at it until the end
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._threads = threads
        self.reset()

    def reset(self) -> None:
        """Forgets the workers: for the child of a fork, in which there are none."""
        self._memory[:PARTS_BEGIN] = bytes(PARTS_BEGIN)
        self._set(THREADS, self._threads)
        self._set(SPIN, _SPIN_TURNS)

    def set_worker(self, address: int) -> None:
        """Says what workers run; that code must stay loaded as long as there are workers."""
        ctypes.c_int64.from_address(self.address + WORKER).value = address

    @property
    def started(self) -> bool:
        """Whether there are workers."""
        return bool(ctypes.c_int32.from_address(self.address + STARTED).value)

    def _set(self, offset: int, value: int) -> None:
        ctypes.c_int32.from_address(self.address + offset).value = value
