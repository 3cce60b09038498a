"""A library, built from C, that stands for a GPU's driver: what the real one would be told can be counted and read."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from knetc.runtime.cuda import device
from knetc.runtime.cuda.driver import CudaDriver

SOURCE = Path(__file__).parent / "cuda" / "fakecuda.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")

LAUNCHES, ALLOCS, FREES, GRAPHS, UPDATES, GRAPH_LAUNCHES, SYNCS, NODES, LOADS, DESTROYED = range(10)
"""What the library counts."""


@cache
def library(source: Path = SOURCE) -> Path:
    """The compiled library; the system's compiler makes it once a machine."""
    assert COMPILER is not None
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    made = Path(tempfile.gettempdir()) / f"knetc-{source.stem}-{digest}.so"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            fresh = Path(folder) / made.name
            subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-pthread", "-o", fresh, source], check=True)
            fresh.rename(made)
    return made


class Fake:
    """The library with its counters; ``driver`` is the runtime's, on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.driver = CudaDriver(str(path))
        self.library: Any = ctypes.CDLL(str(path))
        self.library.fake_count.restype = ctypes.c_long
        self.library.fake_live.restype = ctypes.c_long
        self.library.fake_limit.argtypes = [ctypes.c_long]
        self.library.fake_log.restype = ctypes.c_char_p
        self.library.fake_wrong.restype = ctypes.c_char_p
        self.library.fake_events.restype = ctypes.c_long
        self.library.fake_stream.restype = ctypes.c_void_p
        self.library.fake_copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        self.library.fake_clear()

    def count(self, which: int) -> int:
        return int(self.library.fake_count(which))

    @property
    def launched(self) -> list[str]:
        """Kernels that ran, with grid, threads and shared memory."""
        return self.library.fake_log().decode().split()  # type: ignore[no-any-return]

    @property
    def live_blocks(self) -> int:
        return int(self.library.fake_live())

    def clear(self) -> None:
        self.library.fake_clear()

    def fail(self, name: str, code: int, after: int = 0) -> None:
        """Let the call of this name after the next ``after`` ones fail."""
        self.library.fake_fail(name.encode(), code, after)

    @property
    def wrong(self) -> str:
        """What was done against the driver's rules, a line each."""
        return self.library.fake_wrong().decode()  # type: ignore[no-any-return]

    def eager(self, *streams: int) -> None:
        """Let the streams of these numbers, counted as they are created, work as early as they may; others as late."""
        self.library.fake_eager(sum(1 << number for number in streams))

    def limit(self, size_bytes: int) -> None:
        self.library.fake_limit(size_bytes)

    def devices(self, count: int) -> None:
        self.library.fake_devices(count)

    def arch(self, arch: int) -> None:
        """Let the devices be of this compute capability, times ten."""
        self.library.fake_arch(arch)


@contextmanager
def fake() -> Iterator[Fake]:
    """A fresh copy of the library as the driver of this process."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "libcuda.so.1"
        shutil.copy(library(), copy)
        made = Fake(copy)
        device.replace_driver(made.driver)
        try:
            yield made
            assert not made.wrong, made.wrong
        finally:
            device.replace_driver(None)
