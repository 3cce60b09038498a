"""Program: a compiled graph as plain data. Buffers, kernels, their order; everything that running it needs.

Nothing here refers to the compiler. A Program has a JSON form (``to_json``/``from_json``) beside which the native
objects lie as bytes, by digest.

The native entry of a CPU program is ``int32 run(context*, void** buffers, int64* scalars, char* arena)``. ``buffers``
holds the addresses of the inputs, then of the outputs; ``scalars`` one eight-byte slot each (an int64, or a double's
bits); ``arena`` is ``arena_bytes`` of memory aligned to 64. The result is 0, or 1 + the index of
the failed check (or of the failed host call, counted after the checks); -1 when a signal's handler raised an exception
while an unbounded loop ran.

A GPU program has no entry: the runtime launches the kernels of its steps (``Step.grids``) itself, in order.

Steps run one after the other, but for those in a ``Region``, which run many times or not at all. Regions are ranges of
the list of steps, nested or apart. Loops have counters, by which the addresses of arguments may move. In full, with
``run_step`` for what a step does::

    def run(begin, end, counters):
        while begin < end:
            region = the outermost one not entered yet with region.begin == begin, or None
            if region is None:
                run_step(steps[begin], counters)
                begin += 1
                continue
            if region.kind == "loop":
                for k in range(region.count):
                    run(region.begin, region.end, (*counters, region.count - 1 - k if region.reverse else k))
            elif region.kind == "while":
                k = 0
                while True:
                    run(region.begin, region.test_end, (*counters, k))
                    if not the bool in region.condition: break
                    run(region.test_end, region.end, (*counters, k))
                    k += 1
            elif the int64 in region.condition == region.case:
                run(region.begin, region.end, counters)
            begin = region.end
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from math import prod
from typing import Any, Literal, get_args, get_origin, get_type_hints

from knetc.runtime.base.dtypes import from_short_name
from knetc.runtime.base.errors import CacheError

ALIGNMENT = 64
"""Every output and every place in an arena begins at a multiple of this many bytes; an input, which may be a NumPy
array's memory, only at one of its item size."""

GRID_ALIGNMENT = 16
"""Every address that a GPU kernel is given is a multiple of this many bytes: it is compiled for that."""


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
    """What a step's argument is: a buffer of the program or a scalar, by index, or a loop's counter.

    A counter is an int64 that is passed as scalars are; its index is the loop's depth, 0 being the outermost loop
    around the step (cases do not count).
    """

    kind: Literal["buffer", "scalar", "counter"]
    index: int
    strides: tuple[int, ...] = ()
    """Of a buffer: for each loop around the step, outermost first, how many bytes the address moves with its counter:
    ``address of the buffer + sum(stride * counter)``. Loops further in have none; () stays where it is. All that is
    certain of the alignment of a moved address is the item size."""
    offset: int = 0
    """Of a buffer: how many bytes behind its beginning the address is; with ``GridLaunch``, a multiple of
    ``GRID_ALIGNMENT``."""


@dataclass(frozen=True)
class Slot:
    """One eight-byte value in the table that a kernel function is given: the address of the step's argument (or the
    scalar itself), the address of a place in the step's workspace, or a number."""

    kind: Literal["argument", "workspace", "value"]
    value: int


@dataclass(frozen=True)
class Launch:
    """One parallel loop: ``function(table*, lo, hi, thread)`` over [0, count) in pieces of exactly ``grain``.

    The pieces are ``[k * grain, min((k + 1) * grain, count))``, each run once, whatever the number of threads; a loop
    of at most ``grain`` runs on the calling thread. When it returns, all is done.
    """

    function: str
    """Symbol of the native function; it begins with ``k_`` and its object's digest."""
    count: int
    grain: int
    slots: tuple[Slot, ...]
    brief: bool = False
    """Whether it is so short that sleeping threads are not worth waking for it alone."""


@dataclass(frozen=True)
class GridLaunch:
    """One launch of a GPU kernel: ``grid`` programs, each of which runs ``function`` with the same parameters.

    The parameters are what ``slots`` says, in order: the address of the step's argument (a scalar argument by value),
    an address in the step's workspace, or a number. Sizes are in the code. Each address is a multiple of
    ``GRID_ALIGNMENT``. Launches run one after the other, each seeing what those before it have written.
    """

    function: str
    """Symbol of the kernel: the ``function`` of one of the program's ``cubins``."""
    grid: tuple[int, ...]
    """One to three extents, each at least 1; the last two are at most 65535."""
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Cubin:
    """What is to be known about a compiled GPU kernel in order to load and to launch it."""

    function: str
    """Symbol by which launches name it: ``k_`` and the digest of its source."""
    object: str
    """Key of its bytes in ``Program.objects``."""
    entry: str
    """Name of the kernel inside its bytes."""
    arch: str
    """The architecture it runs on: ``sm_80`` (and later ones of the same generation) or ``sm_90a`` (that one alone)."""
    num_warps: int
    """A block has 32 times as many threads."""
    num_ctas: int
    """Blocks of a cluster, by which the grid's first extent is multiplied."""
    shared_bytes: int
    """Dynamic shared memory of a block."""
    parameters: str
    """``struct`` format of the launch's parameters, beginning with ``@``; addresses are ``Q``. Those of a step with a
    check have the failure record's address as one more, after the slots."""
    hidden_parameters: int
    """Eight-byte addresses that follow the parameters: of global scratch memory, then of others, which are 0."""
    global_scratch_bytes: int
    """Memory for each block of the grid, to whose beginning the first hidden parameter points; mostly 0."""
    global_scratch_align: int
    registers: int
    """Of each thread."""
    spilled_bytes: int
    """Of each thread, for values that found no register."""
    source: str
    """Digest of what it was compiled from."""


@dataclass(frozen=True)
class Factor:
    """A factor of a library's matrix product: one matrix after the other in memory."""

    argument: int
    """Of the step."""
    offset: int
    """Where it begins in the argument, in bytes."""
    dtype: str
    transposed: bool
    """Whether it is stored by columns."""
    leading: int
    """Elements from one row (or column) to the next."""
    batch_stride: int
    """Elements from one matrix to the next; 0 if all are the same one."""


@dataclass(frozen=True)
class LibraryCall:
    """A matrix product that a library can make in place of a step's ``grids``, if it is there and takes it:
    ``C[batch, m, n] = relu(scale * (A[batch, m, k] @ B[batch, k, n]) + share * D + bias)``, C and D dense."""

    library: Literal["cublaslt"]
    m: int
    n: int
    k: int
    batch: int
    a: Factor
    b: Factor
    c: int
    """Argument of the step that is the result."""
    dtype: str
    """Of the result."""
    bias: int = -1
    """Argument of the step with n numbers of the result's dtype, added to each row; -1 for none."""
    relu: bool = False
    precision: str = "highest"
    """``highest``, ``high`` or ``default``: only the last one lets products of float32 be made of TF32."""
    scale: float = 1.0
    more: int = -1
    """Argument of the step that is D, of the result's dtype and shape, maybe the result itself; -1 for none."""
    share: float = 0.0


@dataclass(frozen=True)
class Check:
    """A condition on values, tested before anything is written; tells what to raise."""

    message: str
    """Text with ``{value}`` for the offending number."""
    error: str
    """Name of the exception class in ``runtime.base.errors``."""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostCall:
    """A call of a Python function over NumPy arrays, made by a step of the program.

    The step's arguments are the function's, then the result. A function with several results, of one dtype, leaves
    them one after the other in one array.
    """

    function: str
    """Its name in ``runtime.base.host_functions``."""
    shapes: tuple[tuple[int, ...], ...]
    """Of each argument, then of the result."""
    dtypes: tuple[str, ...]

    def sizes_bytes(self) -> list[int]:
        """How much memory each argument, then the result, takes."""
        return [prod(shape) * from_short_name(name).itemsize for shape, name in zip(self.shapes, self.dtypes)]


@dataclass(frozen=True)
class Member:
    """One of several kernels that a step launches together: what is known of it, as of a ``Step``."""

    name: str
    arguments: tuple[ArgumentRef, ...]
    lines: tuple[str, ...]
    read_bytes: int
    written_bytes: int
    operations: int
    reason: str


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
    host: int = -1
    """Index of the host call that this step is; -1 for steps of native code. It has no launches."""
    lines: tuple[str, ...] = ()
    read_bytes: int = 0
    written_bytes: int = 0
    operations: int = 0
    reason: str = ""
    """Why the kernel ends where it does."""
    grids: tuple[GridLaunch, ...] = ()
    """What the step is on a GPU, in place of ``launches``."""
    library: tuple[LibraryCall, ...] = ()
    """At most one: what may be called in place of ``grids``."""
    members: tuple[Member, ...] = ()
    """The kernels that the step is, where its launches have the programs of several; they do not need each other."""
    notes: tuple[str, ...] = ()
    """What the code generator decided, for people."""


@dataclass(frozen=True)
class Region:
    """Steps ``begin <= k < end`` that run many times, or maybe not at all; at least one.

    ``loop``: ``count`` times; the counter runs from 0 up, or from ``count - 1`` down to 0 if ``reverse`` says so.
    ``while``: as long as the steps before ``test_end``, which run before each time, leave True in ``condition``; the
    counter is the number of times before. ``case``: once if ``condition`` holds ``case``, else not.
    """

    kind: Literal["loop", "while", "case"]
    begin: int
    end: int
    count: int = 0
    reverse: bool = False
    test_end: int = 0
    condition: ArgumentRef = ArgumentRef("buffer", 0)
    """Of ``while`` a buffer of one bool, of ``case`` one of one int64."""
    case: int = 0


@dataclass(frozen=True)
class Program:
    """A compiled graph: what goes in and out, the steps, the memory plan, and which objects hold the native code."""

    target: str
    """Such as ``cpu:x86_64:native:…``, ``cpu:x86_64:avx2`` or ``cuda:sm_90``."""
    buffers: tuple[BufferSpec, ...]
    """Inputs first, then outputs, then the places in the arena."""
    scalars: tuple[str, ...]
    """Short dtype names."""
    steps: tuple[Step, ...]
    checks: tuple[Check, ...]
    arena_bytes: int
    objects: tuple[str, ...]
    """Keys of the native objects: of the kernels, the pool, and last the driver with ``run`` and ``call``."""
    entry: str = "run"
    random_count: int = 0
    """How many random numbers a run consumes."""
    timed: bool = False
    """Whether runs are counted and the time of each step is added up; see ``Executable.times``."""
    hosts: tuple[HostCall, ...] = ()
    """Calls of Python functions. The entry's result is 1 + the number of checks + the index of a call that failed."""
    cubins: tuple[Cubin, ...] = ()
    """The kernels of a GPU program, each once; its ``objects`` are theirs."""
    regions: tuple[Region, ...] = ()
    """Loops and cases, by their first step; of those that begin at the same one the outermost first."""

    @property
    def inputs(self) -> tuple[BufferSpec, ...]:
        return tuple(b for b in self.buffers if b.kind == "input")

    @property
    def outputs(self) -> tuple[BufferSpec, ...]:
        return tuple(b for b in self.buffers if b.kind == "output")


def repeats(program: Program) -> list[int]:
    """For each step, how many times a run makes it; -1 where that is known only at run time. Cases count once."""
    found = [1] * len(program.steps)
    for region in program.regions:
        for k in range(region.begin, region.end) if region.kind != "case" else ():
            found[k] = -1 if region.kind == "while" or found[k] < 0 else found[k] * region.count
    return found


def to_json(record: Program | Cubin) -> dict[str, Any]:
    """A program, or what is known of one kernel, as JSON values."""
    return _encode(record)  # type: ignore[no-any-return]


def from_json(data: object) -> Program:
    """A program from JSON values; raises CacheError for anything that is not one."""
    try:
        return _decoder(Program)(data)  # type: ignore[no-any-return]
    except CacheError as error:
        raise CacheError(f"program{error}") from None


def cubin_from_json(data: object) -> Cubin:
    """What is known of a kernel, from JSON values; raises CacheError for anything else."""
    return _decoder(Cubin)(data)  # type: ignore[no-any-return]


def _encode(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if is_dataclass(value):
        return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
    return value


@cache
def _decoder(kind: Any) -> Callable[[object], Any]:
    """What makes a value of the annotated type ``kind`` from JSON, checking it: it may come from a damaged file."""
    if is_dataclass(kind):
        return _record_decoder(kind)  # type: ignore[arg-type]
    if get_origin(kind) is tuple:
        return _tuple_decoder(_decoder(get_args(kind)[0]))
    if get_origin(kind) is Literal:
        choices = get_args(kind)

        def choice(data: object) -> Any:
            if data not in choices:
                raise CacheError(f": {data!r} is none of {choices}")
            return data

        return choice

    def plain(data: object) -> Any:
        if type(data) is not kind:
            raise CacheError(f": expected {kind.__name__}, got {type(data).__name__}")
        return data

    return plain


def _record_decoder(kind: type) -> Callable[[object], Any]:
    hints = get_type_hints(kind)
    decoders = {f.name: _decoder(hints[f.name]) for f in fields(kind)}

    def record(data: object) -> Any:
        if not isinstance(data, dict) or data.keys() != decoders.keys():
            raise CacheError(f": expected the fields of a {kind.__name__}")
        name = ""
        try:
            values = []
            for name, decode in decoders.items():
                values.append(decode(data[name]))
        except CacheError as error:
            raise CacheError(f".{name}{error}") from None
        return kind(*values)

    return record


def _tuple_decoder(decode: Callable[[object], Any]) -> Callable[[object], Any]:
    def items(data: object) -> Any:
        if not isinstance(data, list):
            raise CacheError(": expected a list")
        return tuple([decode(item) for item in data])

    return items
