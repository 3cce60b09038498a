"""Functions over NumPy arrays that programs call while they run, by name.

A program's host step names its function; whoever loads the program finds it here. A function that is here in every
process from the start (LAPACK's) may be named in programs that are kept on disk, one that a user brought may not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from knetc.runtime.base.errors import CacheError


@dataclass(frozen=True)
class HostFunction:
    """A function from arrays to an array, or to a tuple of arrays of one dtype; or one that fills an array."""

    name: str
    call: Callable[..., Any]
    everywhere: bool
    """Whether every process has it under this name, so that programs which call it can be kept on disk."""
    copies: bool
    """Whether it is given copies of the program's memory: a function that might hold on to what it was given."""
    stacks: bool = False
    """Whether it takes stacks of its arguments, and gives stacks of its results."""
    fills: bool = False
    """Whether it is given the result as its last argument, to write it there."""


_functions: dict[str, HostFunction] = {}

_EACH = "each:"
_CHOSEN = "chosen:"


def register(
    name: str,
    call: Callable[..., Any],
    *,
    everywhere: bool = False,
    copies: bool = True,
    stacks: bool = False,
    fills: bool = False,
) -> str:
    """Make a function known under a name, which must be new; returns the name. It stays known."""
    if name in _functions:
        raise ValueError(f"there is a host function {name!r} already")
    _functions[name] = HostFunction(name, call, everywhere, copies, stacks, fills)
    return name


def for_each(name: str, *, chosen: bool = False) -> str:
    """The name of the function that calls another one for each element of its arguments' first axis.

    Its result is one array: what the other one returns for each element, several arrays side by side. With ``chosen``
    its first argument is a bool for each element, and its last one the result; it is zero for those that are False, and
    the function is not called for these.
    """
    new = (_CHOSEN if chosen else _EACH) + name
    if new not in _functions:
        one = lookup(name)
        if chosen:
            _functions[new] = HostFunction(new, _for_chosen(one), one.everywhere, one.copies, fills=True)
        elif one.fills and one.stacks:
            _functions[new] = replace(one, name=new)
        else:
            _functions[new] = HostFunction(new, lambda *arrays: _for_all(one, arrays), one.everywhere, one.copies)
    return new


def _for_all(one: HostFunction, arrays: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    size = len(arrays[0])
    if one.stacks:
        value = one.call(*arrays)
        if not isinstance(value, tuple):
            return np.asarray(value)
        return np.concatenate([np.reshape(part, (size, -1)) for part in value], axis=1)
    return np.stack([_joined(one.call(*(array[k] for array in arrays))) for k in range(size)])


def _for_chosen(one: HostFunction) -> Callable[..., None]:
    def call(which: np.ndarray[Any, Any], *arrays: np.ndarray[Any, Any]) -> None:
        *given, result = arrays
        result[...] = 0
        for k in np.flatnonzero(which):
            if one.fills:
                one.call(*(array[k] for array in given), result[k, ...])
            else:
                result[k] = _joined(one.call(*(array[k] for array in given)))

    return call


def _joined(value: Any) -> np.ndarray[Any, Any]:
    """A result as one array: the parts of a tuple side by side."""
    if not isinstance(value, tuple):
        return np.asarray(value)
    return np.concatenate([np.ravel(np.asarray(part)) for part in value])


def lookup(name: str) -> HostFunction:
    """The function of a name; raises CacheError when this process does not have it."""
    for prefix in (_EACH, _CHOSEN):
        if name.startswith(prefix):
            for_each(name.removeprefix(prefix), chosen=prefix == _CHOSEN)
    found = _functions.get(name)
    if found is None:
        raise CacheError(f"the program calls the Python function {name!r}, which this process does not have")
    return found
