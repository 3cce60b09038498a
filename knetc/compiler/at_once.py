"""Calls of some functions on small arrays that are in memory: they are computed at once, by a program that is known.

Recording an operation, cutting out what is pending and finding its program takes tens of microseconds, longer than a
small array is worth. Functions that are marked (``apply.at_once``) remember, for the types of their arrays and their
other arguments, which program computed them; from the second call on that is run, and nothing is recorded. Whatever is
pending, traced, differentiated, large or elsewhere goes the ordinary way, where functions fuse with what is around.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from knetc import lazy
from knetc.arrays import Array, of_buffer
from knetc.compiler import realize
from knetc.cut import Cut, walk
from knetc.ir import ambient
from knetc.ir.types import TensorType
from knetc.lazy import Box, Pending, Storage
from knetc.ops import apply
from knetc.runtime.base.config import config
from knetc.runtime.buffers import allocate
from knetc.runtime.devices import CPU

SMALL = 1 << 20
"""Elements up to which recording costs more than fusing saves."""

KEPT = 1024

_STATIC = frozenset((bool, int, float, str, type(None)))


@dataclass(frozen=True)
class Call:
    """How a function is computed for arguments of some types."""

    executable: Any
    entry: Callable[..., Any]
    addresses: tuple[tuple[int, int], ...]
    """Of the program's inputs: which array, and how many bytes behind its beginning."""
    numbers: tuple[bool | int | float, ...]
    sizes: tuple[int, ...]
    """How many bytes each output takes."""
    results: tuple[tuple[int, TensorType], ...]
    """Which output each result is, and its type."""
    container: Callable[[list[Array]], Any] | None
    """What makes of several results what the function returns."""


_known: dict[Hashable, Call | None] = {}
_settings: list[object] = [None]
"""Those under which the programs were made."""


def run(function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """What a function returns, computed now; None where it must be called."""
    settings = ambient.plain
    if settings is None or lazy.tapes.active:
        return None
    arrays: list[Box] = []
    key: list[Any] = [function, config.fuse, config.debug, config.cpu_level]
    if not _describe((*arguments, *keywords.values()), arrays, key) or not arrays:
        return None
    key += keywords
    if len(arrays) > 1:  # which ones lie in the same memory
        buffers = [box.buffer for box in arrays]
        key.append(tuple([buffers.index(buffer) for buffer in buffers]))
    if settings is not _settings[0]:
        _known.clear()
        _settings[0] = settings
    form = tuple(key)
    call = _known.get(form, _UNSEEN)
    if call is None:
        return None
    if call is _UNSEEN or call is _SEEN:
        return _first(function, arguments, keywords, arrays, form, call is _SEEN)
    return _run(call, arrays)


_UNSEEN = Call(None, print, (), (), (), (), None)
_SEEN = Call(None, print, (), (), (), (), list)


def _describe(values: Sequence[Any], arrays: list[Box], key: list[Any]) -> bool:
    """Add arrays to a list, and what a program depends on to a key; False if they are not all small and in memory."""
    for value in values:
        kind = type(value)
        if isinstance(value, Box):
            buffer, shape = value.buffer, value.type
            if buffer is None or value.owner is not None or buffer.device != CPU or shape.size > SMALL:
                return False
            arrays.append(value)
            key.append(shape.dtype)
            key.append(shape.shape)
        elif kind in _STATIC:
            key.append(kind)
            key.append(value)
        elif kind is tuple:
            key.append(len(value))
            if not _describe(value, arrays, key):
                return False
        else:
            return False
    return True


def _run(call: Call, arrays: list[Box]) -> Any:
    buffers: list[Any] = [box.buffer for box in arrays]  # held until the program has run
    inputs = [buffers[k].address + arrays[k].offset + behind for k, behind in call.addresses]
    outputs = [*map(allocate, call.sizes)]
    failure = call.entry(*inputs, *[buffer.address for buffer in outputs], *call.numbers)
    if failure is not None:
        call.executable.fail(failure)
    if call.container is None:
        return of_buffer(call.results[0][1], outputs[0])
    return call.container([of_buffer(type, outputs[k]) for k, type in call.results])


def _first(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    arrays: list[Box],
    form: Hashable,
    again: bool,
) -> Any:
    """Call a function and, the second time, remember the program that computes what it recorded."""
    if len(_known) >= KEPT:
        del _known[next(iter(_known))]
    if not again:
        _known[form] = _SEEN
        return None
    result = function(*arguments, **keywords)
    with lazy.LOCK:
        _known[form] = call = _call(result, arrays)
    return result if call is None else _run(call, arrays)


def _call(result: Any, arrays: list[Box]) -> Call | None:
    """How pending results are computed from arrays; None if that is not all that they are computed from."""
    parts = list(result) if isinstance(result, tuple) else [result]
    if not parts or not all(type(part) is Array and part.buffer is None for part in parts):
        return None
    nodes = {part.node.serial: part.node for part in parts if part.node is not None}
    if not all(isinstance(node.payload, Pending) for node in nodes.values()):
        return None
    cut = Cut(walk(list(nodes.values())), list(nodes.values()), {}, CPU)
    executable, places = realize.executable(cut, None)
    places_of = {id(box.buffer): k for k, box in reversed([*enumerate(arrays)])}
    if places or any(arrays[places_of[id(box.buffer)]].offset != box.offset for box in arrays):
        return None
    addresses, numbers = [], []
    for argument in cut.arguments:
        if not isinstance(argument, Storage):
            numbers.append(argument)
            continue
        place = places_of.get(id(argument.buffer))
        if place is None:
            return None
        addresses.append((place, argument.offset - arrays[place].offset))
    serials = list(nodes)
    sizes = tuple([spec.size_bytes for spec in executable.program.outputs])
    results = tuple([(serials.index(part.node.serial), part.type) for part in parts])
    container = None if not isinstance(result, tuple) else getattr(type(result), "_make", type(result))
    return Call(executable, executable.entry, tuple(addresses), tuple(numbers), sizes, results, container)


apply.slots.at_once = run
