"""Containers of arrays: tuples, lists, dicts, dataclasses and objects, walked alike everywhere."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with ``function`` applied to what is in its (nested) tuples, lists, dicts and dataclasses."""
    if isinstance(value, tuple):
        items = [map_leaves(function, item) for item in value]
        if type(value) is tuple:
            return tuple(items)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, list):
        items = [map_leaves(function, item) for item in value]
        if type(value) is list:
            return items
        made = copy.copy(value)
        made[:] = items
        return made
    if isinstance(value, dict):
        changed = {key: map_leaves(function, item) for key, item in value.items()}
        if type(value) is dict:
            return changed
        mapping = copy.copy(value)  # an OrderedDict, a defaultdict, a class of the user's
        for key, item in changed.items():
            mapping[key] = item
        return mapping
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: map_leaves(function, getattr(value, name)) for name in names})
    return function(value)


def leaves(value: Any) -> list[Any]:
    """What is in the (nested) containers of ``value``, in the order in which ``map_leaves`` goes through them."""
    found: list[Any] = []
    map_leaves(found.append, value)
    return found


def rebuilt(value: Any, items: Iterable[Any]) -> Any:
    """``value`` with ``items`` in place of its leaves."""
    rest = iter(items)
    return map_leaves(lambda leaf: next(rest), value)


def children(value: Any) -> dict[Any, Any] | None:
    """The items of a container by index, key or field; None for a leaf."""
    if isinstance(value, (tuple, list)):
        return dict(enumerate(value))
    if isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    return None


def matched(pattern: Any, value: Any, name: str) -> list[tuple[str, Any, Any]]:
    """For each leaf of ``value`` its name, what stands at its place in ``pattern``, and the leaf itself.

    ``pattern`` has the containers of ``value``, or ends before them: then one item stands for all below. Raises
    TypeError where they differ.
    """
    below = children(value)
    if below is None:
        return [(name, pattern, value)]
    parts = children(pattern)
    if parts is None:
        parts = dict.fromkeys(below, pattern)
    elif type(pattern) is not type(value) or parts.keys() != below.keys():
        raise TypeError(
            f"{name} is {_outline(value)}, and what is given for it {_outline(pattern)}: they must be of one form"
        )
    field = dataclasses.is_dataclass(value)
    return [
        triple
        for key, item in below.items()
        for triple in matched(parts[key], item, f"{name}.{key}" if field else f"{name}[{key!r}]")
    ]


def _outline(value: Any) -> str:
    """A container's form in a few words."""
    below = children(value)
    if below is None:
        return f"no container but a {type(value).__name__}"
    keys = ", ".join(map(repr, below)) if isinstance(value, dict) else len(below)
    return f"a {type(value).__name__} of {keys}"


_CLOSED = (str, bytes, int, float, complex, type, ModuleType, BuiltinFunctionType, np.ndarray, np.generic, np.dtype)


def parts(value: Any) -> Iterator[Any]:
    """What an object holds: items, attributes, a function's closure and defaults, a partial's arguments."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        yield from value.flat
    if value is None or isinstance(value, _CLOSED):
        return
    if isinstance(value, (tuple, list, set, frozenset, deque)):
        yield from value
        if type(value).__module__ != "builtins":
            yield from (item for _, item in attributes(value))
    elif isinstance(value, Mapping):
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
        yield from (item for _, item in attributes(value))


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """An object's own attributes, in slots and in its dictionary."""
    for base in type(value).__mro__:
        for name in vars(base).get("__slots__", ()):
            if isinstance(name, str) and name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)
    yield from getattr(value, "__dict__", {}).items()


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
