"""Program: a compiled graph as plain data. Buffers, kernels, their order; everything that running it needs.

Nothing here refers to the compiler. A Program has a JSON form (``to_json``/``from_json``) beside which the native
objects lie as bytes, by digest.

The native entry of a CPU program is ``int32 run(context*, void** buffers, int64* scalars, char* arena)``. ``buffers``
holds the addresses of the inputs, then of the outputs; ``scalars`` one eight-byte slot each (an int64, or a double's
bits); ``arena`` is ``arena_bytes`` of memory aligned to 64. The result is 0, or 1 + the index of the failed check.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from knetc.runtime.base.errors import CacheError

ALIGNMENT = 64
"""Every output and every place in an arena begins at a multiple of this many bytes; an input, which may be a NumPy
array's memory, only at one of its item size."""


@dataclass(frozen=True)
class BufferSpec:
    """Memory that a program works on."""

    kind: Literal["input", "output", "arena"]
    dtype: str
    """Short name (``f32``)."""
    shape: tuple[int, ...]
    size_bytes: int
    offset: int = -1
    """Place in the arena, of ``arena`` buffers."""
    update_of: int = -1
    """Of outputs: the index of the input whose memory it may take (both pointers may be equal); else -1."""


@dataclass(frozen=True)
class ArgumentRef:
    """What a step's argument is: a buffer of the program, by index, or a scalar, by index."""

    kind: Literal["buffer", "scalar"]
    index: int


@dataclass(frozen=True)
class Slot:
    """One eight-byte value in the table that a kernel function is given: the address of the step's argument (or the
    scalar itself), the address of a place in the step's workspace, or a number."""

    kind: Literal["argument", "workspace", "value"]
    value: int


@dataclass(frozen=True)
class Launch:
    """One parallel loop: ``function(table*, lo, hi, thread)`` over disjoint pieces of [0, count) in steps of ``grain``.

    A piece begins at a multiple of ``grain``; a loop of at most ``grain`` runs on the calling thread. When it
    returns, all is done.
    """

    function: str
    """Symbol of the native function; it begins with ``k_`` and its object's digest."""
    count: int
    grain: int
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Check:
    """A condition on values, tested before anything is written; tells what to raise."""

    message: str
    """Text with ``{value}`` for the offending number."""
    error: str
    """Name of the exception class in ``runtime.base.errors``."""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A kernel of the program: its launches in order, what it works on, and what is known about it."""

    name: str
    arguments: tuple[ArgumentRef, ...]
    launches: tuple[Launch, ...]
    workspace_bytes: int = 0
    workspace_offset: int = -1
    """Place of the workspace in the arena."""
    check: int = -1
    """Index of the check that this step makes; -1 for ordinary steps.

    The tables of its launches have one slot more than ``slots`` says: the address of the program's failure record, two
    int64 ``{failed, value}``. A kernel that meets an offending value stores it and sets ``failed`` to 1 (plain
    or monotonic stores; any offending value will do); the program then ends with this check's code."""
    lines: tuple[str, ...] = ()
    read_bytes: int = 0
    written_bytes: int = 0
    operations: int = 0
    reason: str = ""
    """Why the kernel ends where it does."""


@dataclass(frozen=True)
class Program:
    """A compiled graph: what goes in and out, the steps, the memory plan, and which objects hold the native code."""

    target: str
    """Such as ``cpu:sapphirerapids:…`` or ``cuda:sm_90``."""
    buffers: tuple[BufferSpec, ...]
    """Inputs first, then outputs, then the places in the arena."""
    scalars: tuple[str, ...]
    """Short dtype names."""
    steps: tuple[Step, ...]
    checks: tuple[Check, ...]
    arena_bytes: int
    objects: tuple[str, ...]
    """Digests of the native objects, the one with ``run`` last."""
    entry: str = "run"
    random_count: int = 0
    """How many random numbers a run consumes."""

    @property
    def inputs(self) -> tuple[BufferSpec, ...]:
        return tuple(b for b in self.buffers if b.kind == "input")

    @property
    def outputs(self) -> tuple[BufferSpec, ...]:
        return tuple(b for b in self.buffers if b.kind == "output")


def to_json(program: Program) -> dict[str, Any]:
    """The program as JSON values."""
    return _encode(program)  # type: ignore[no-any-return]


def from_json(data: object) -> Program:
    """A program from JSON values; raises CacheError for anything that is not one."""
    return _decode(Program, data, "program")  # type: ignore[no-any-return]


def _encode(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
    return value


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)


def _decode(kind: Any, data: object, where: str) -> Any:
    """``data`` as the annotated type ``kind``, checked field by field: it may come from a damaged or foreign file."""
    if is_dataclass(kind):
        if not isinstance(data, dict) or set(data) != {f.name for f in fields(kind)}:
            raise CacheError(f"{where}: expected the fields of a {getattr(kind, '__name__', kind)}")
        hints = _hints(kind)  # type: ignore[arg-type]
        return kind(**{name: _decode(hints[name], value, f"{where}.{name}") for name, value in data.items()})
    if get_origin(kind) is tuple:
        if not isinstance(data, list):
            raise CacheError(f"{where}: expected a list")
        item = get_args(kind)[0]
        return tuple(_decode(item, value, f"{where}[{k}]") for k, value in enumerate(data))
    if get_origin(kind) is Literal:
        if data not in get_args(kind):
            raise CacheError(f"{where}: {data!r} is none of {get_args(kind)}")
        return data
    if type(data) is not kind:
        raise CacheError(f"{where}: expected {kind.__name__}, got {type(data).__name__}")
    return data
