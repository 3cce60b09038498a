"""Functions over NumPy arrays that programs call while they run, by name.

A program's host step names its function; whoever loads the program finds it here. A function that is here in every
process from the start (LAPACK's) may be named in programs that are kept on disk, one that a user brought may not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from knetc.runtime.base.errors import CacheError


@dataclass(frozen=True)
class HostFunction:
    """A function from arrays to an array, or to a tuple of arrays of one dtype."""

    name: str
    call: Callable[..., Any]
    everywhere: bool
    """Whether every process has it under this name, so that programs which call it can be kept on disk."""
    copies: bool
    """Whether it is given copies of the program's memory: a function that might hold on to what it was given."""


_functions: dict[str, HostFunction] = {}


def register(name: str, call: Callable[..., Any], *, everywhere: bool = False, copies: bool = True) -> str:
    """Make a function known under a name, which must be new; returns the name. It stays known."""
    if name in _functions:
        raise ValueError(f"there is a host function {name!r} already")
    _functions[name] = HostFunction(name, call, everywhere, copies)
    return name


def lookup(name: str) -> HostFunction:
    """The function of a name; raises CacheError when this process does not have it."""
    found = _functions.get(name)
    if found is None:
        raise CacheError(f"the program calls the Python function {name!r}, which this process does not have")
    return found
