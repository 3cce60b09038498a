"""Containers of arrays: tuples, lists, dicts, dataclasses and objects, walked alike everywhere."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with ``function`` applied to what is in its (nested) tuples, lists, dicts and dataclasses."""
    if isinstance(value, tuple):
        items = [map_leaves(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [map_leaves(function, item) for item in value]
    if isinstance(value, dict):
        return {key: map_leaves(function, item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: map_leaves(function, getattr(value, name)) for name in names})
    return function(value)


_CLOSED = (str, bytes, int, float, complex, type, ModuleType, BuiltinFunctionType, np.ndarray, np.generic, np.dtype)


def parts(value: Any) -> Iterator[Any]:
    """What an object holds: items, attributes, a function's closure and defaults, a partial's arguments."""
    if value is None or isinstance(value, _CLOSED):
        return
    if isinstance(value, (tuple, list, set, frozenset)):
        yield from value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield item
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    else:
        if isinstance(value, FunctionType):
            for cell in value.__closure__ or ():
                try:
                    yield cell.cell_contents
                except ValueError:  # a name that is not bound yet
                    continue
            yield from value.__defaults__ or ()
            yield from (value.__kwdefaults__ or {}).values()
        for base in type(value).__mro__:
            for name in vars(base).get("__slots__", ()):
                if isinstance(name, str) and name not in ("__dict__", "__weakref__") and hasattr(value, name):
                    yield getattr(value, name)
        yield from getattr(value, "__dict__", {}).values()


def find(value: Any, kind: type, closed: tuple[type, ...] = ()) -> list[Any]:
    """All objects of ``kind`` that an object holds, each once, in the order of a depth-first walk."""
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}  # keeps what it has seen alive, so that identities stay distinct
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, kind):
            found[id(item)] = item
        elif not isinstance(item, closed):
            stack.extend(reversed(list(parts(item))))
    return list(found.values())
