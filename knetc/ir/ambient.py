"""Settings that surround the code being traced and are part of every signature."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from knetc.runtime.base import dtypes


@dataclass(frozen=True)
class Ambient:
    """Defaults and modes; a traced function's signature includes them all."""

    dtype: np.dtype = dtypes.f32
    """Default floating dtype: of Python floats, ``zeros``, ``rand``, ``param``."""
    device: str = "cpu"
    precision: str = "highest"
    training: bool = False
    nan_check: bool = False
    check_trace: bool = False


class _State(threading.local):
    def __init__(self) -> None:
        self.local: Ambient | None = None
        self.special = 0


_process = Ambient()
_state = _State()
_special = 0
_lock = threading.Lock()

plain: Ambient | None = _process
"""The process's settings while no thread has settings of its own and none is recording, else None: one comparison
tells a compiled function's fast path that it may run."""


@contextmanager
def special() -> Iterator[None]:
    """Mark that a thread is in a state that calls of compiled functions must look at (``plain`` is None meanwhile)."""
    global _special, plain
    with _lock:
        _special += 1
        _state.special += 1
        plain = None
    try:
        yield
    finally:
        with _lock:
            _special -= 1
            _state.special -= 1
            plain = None if _special else _process


def _after_fork() -> None:
    """In a child only the thread that forked goes on."""
    global _special, plain
    _special = _state.special
    plain = None if _special else _process
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


def ambient() -> Ambient:
    """The settings in force in this thread."""
    local = _state.local
    return _process if local is None else local


def process() -> Ambient:
    """The settings of the process, which are in force where a thread has none of its own."""
    return _process


def set_process(**changes: object) -> None:
    """Change settings for the whole process."""
    global _process, plain
    with _lock:
        _process = replace(_process, **changes)  # type: ignore[arg-type]
        plain = None if _special else _process


@contextmanager
def setting(**changes: object) -> Iterator[None]:
    """Change settings within a ``with`` block, in this thread."""
    before = _state.local
    with special():
        _state.local = replace(ambient(), **changes)  # type: ignore[arg-type]
        try:
            yield
        finally:
            _state.local = before
