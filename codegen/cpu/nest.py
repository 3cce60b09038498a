"""Loop nests on the CPU: from a LoopNest to functions of scalar LLVM IR and the launches that run them.

A nest becomes one parallel loop over its outer points, and a second one where folds over outer axes leave partial
states to combine. How the points are walked is chosen in ``plan``, the code for that is in ``walk`` (loops) and
``scope`` (what happens at a point), the function around it in ``frame``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from knetc.codegen.axes import Loops, exchanged, simplified
from knetc.codegen.cpu.blocks import Blocks
from knetc.codegen.cpu.combine import combination
from knetc.codegen.cpu.extremes import searched
from knetc.codegen.cpu.frame import Frame
from knetc.codegen.cpu.native import Target, attributes_text
from knetc.codegen.cpu.plan import Plan, make_plan, point_cost
from knetc.codegen.cpu.scan import Chunks, chunk_size
from knetc.codegen.cpu.scope import Cell, Scope, Total, state_dtypes
from knetc.codegen.cpu.stream import Streams, piece_length
from knetc.codegen.cpu.stream import finish as finish_streams
from knetc.codegen.cpu.walk import BLOCK, Lanes, Rows, Walk
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import LoopNest, Offset, Store
from knetc.runtime.base.errors import CompileError
from knetc.runtime.program import ALIGNMENT, Launch, Slot

CHUNKS = 64
"""Folds over outer axes are cut into at most so many chunks: by shape, never by threads."""

PIECE_NS = 5_000.0
"""Work that is worth handing to another thread."""

SERIAL_NS = 20_000.0
"""Folds of less work than this run on the calling thread, and other loops are brief (see ``Launch``)."""

BRIEF_NS, BRIEF_PIECE_NS = 2_500.0, 1_000.0
"""Brief loops of less work than this run on the calling thread, and what is worth handing to one that is awake."""

MAX_SCRATCH_BYTES = 1 << 20
"""Most that the scratch rows of one point may take: they lie on the threads' stacks."""

ROWS_PER_CHUNK = 16
"""Rows that share a state of column sums at least: writing and reading the states must not cost like the rows."""

EXCHANGE = 1 << 14
"""Column sums over so many columns are not cut into chunks of rows: there are columns enough for all threads."""


STREAM_BYTES = 1 << 24
"""Results of so many bytes go past the caches by default: they would not stay there until they are read."""


def lower(nest: LoopNest, target: Target, streaming: frozenset[int] | None = None) -> Kernel:
    """Functions and launches that compute a loop nest.

    The step's argument k is the k-th argument of the nest that is not scratch. ``streaming`` lists arguments (by their
    place in ``nest.arguments``) that are only written and should not pass through the caches; by default these are
    the outputs of at least STREAM_BYTES. Otherwise the extent of the first outer axis does not occur in the
    functions: it and all that follows from it are values in the launches' slots.

    Raises CompileError for an operation without code for the CPU and for scratch rows that no cache would hold.

    >>> kernel = lower(nest, target())  # doctest: +SKIP
    >>> kernel.launches[0].count  # doctest: +SKIP
    4096
    """
    scratch = sum(a.size * a.dtype.itemsize for a in nest.arguments if a.kind == "scratch")
    if scratch > MAX_SCRATCH_BYTES:
        raise CompileError(
            f"the nest {nest.name} keeps {scratch} bytes of scratch rows on the stack, more than {MAX_SCRATCH_BYTES}: "
            "such rows must be computed twice, or stored by a kernel of their own"
        )
    if streaming is None:
        large = (k for k, a in enumerate(nest.arguments) if a.size * a.dtype.itemsize >= STREAM_BYTES)
        streaming = frozenset(k for k in large if nest.arguments[k].kind == "output")
    if "x86_64" not in target.triple:  # the fence is this family's, and so are the gains that were measured
        streaming = frozenset()
    lowering = _Lowering(target)
    places = [k for k, a in enumerate(nest.arguments) if a.kind != "scratch"]
    sources = {k: Slot("argument", place) for place, k in enumerate(places)}
    lowering.nest(Loops(nest, 0 if nest.outer else -1), sources, streaming)
    return Kernel(lowering.functions, tuple(lowering.launches), lowering.workspace, tuple(lowering.notes))


@dataclass
class _Lowering:
    """What a nest has become so far."""

    target: Target
    functions: dict[str, str] = field(default_factory=dict)
    launches: list[Launch] = field(default_factory=list)
    workspace: int = 0
    notes: list[str] = field(default_factory=list)

    def reserve(self, size: int) -> Slot:
        """A place in the workspace."""
        place = self.workspace
        self.workspace += -(-size // ALIGNMENT) * ALIGNMENT
        return Slot("workspace", place)

    def nest(self, loops: Loops, sources: Mapping[int, Slot], streaming: frozenset[int] = frozenset()) -> None:
        """Lower a nest; ``sources`` says where each argument comes from, ``streaming`` which ones pass the caches."""
        loops = simplified(loops)
        if loops.columns >= EXCHANGE and (turned := exchanged(loops)) is not None:
            loops = simplified(turned)
        serial = any(isinstance(s, Store) and s.accumulate for s in loops.statements)
        piece = piece_length(loops.nest, streaming)
        plan = Plan(loops, tuple(loops.outer), lanes=False) if serial else make_plan(loops, piece)
        if not serial and not plan.lanes and (twice := searched(loops)) is not None:
            plan = make_plan(loops := twice, piece)
        function = _Function(loops, plan, sources, self.target, streaming)
        cost = point_cost(loops) * max(plan.block, 1)
        self.notes.append(_describe(plan))
        if loops.reductions("outer", "all"):
            self._chunks(function, cost, serial)
        elif serial:
            self._in_order(function, cost)
        elif not plan.lanes and (size := chunk_size(loops)):
            self._scan_in_chunks(function, Chunks(loops, size))
        else:
            function.begin().points("%lo", "%hi")
            brief = plan.points * cost <= SERIAL_NS
            self._launch(function, plan.points, _grain(plan, plan.points, cost), brief)

    def _launch(self, function: _Function, count: int, grain: int, brief: bool = False) -> None:
        if function.streaming:
            finish_streams(function.frame)
        symbol, text = function.frame.finish(attributes_text(self.target))
        self.functions[symbol] = text
        self.launches.append(Launch(symbol, count, max(grain, 1), tuple(function.slots), brief))

    def _chunks(self, function: _Function, cost: float, serial: bool) -> None:
        """Chunks of points with partial states, and the combination of these; all in one chunk if ``serial``."""
        loops, frame = function.loops, function.frame
        points = function.plan.points
        least = ROWS_PER_CHUNK if loops.reductions("outer") else 1
        size = points if serial else max(-(-points // CHUNKS), math.ceil(PIECE_NS / cost), least)
        if size > BLOCK:
            size = -(-size // BLOCK) * BLOCK
        chunks = max(-(-points // max(size, 1)), 1)
        partials: dict[int, list[Slot]] = {}
        numbers: dict[int, list[int]] = {}
        reductions = loops.reductions("outer", "all")
        for reduce in reductions:
            each = loops.columns if reduce.over == "outer" else 1
            partials[id(reduce)] = [self.reserve(chunks * each * d.itemsize) for d in state_dtypes(reduce)]
            numbers[id(reduce)] = [function.add(slot) for slot in partials[id(reduce)]]
        rows = function.points()
        per_chunk = frame.slot(function.value(size), "i64")
        walk = function.begin()
        cells: dict[int, Cell] = {id(r): Total.variable(walk.scope, r) for r in reductions if r.over == "all"}
        with frame.loop("%lo", "%hi") as chunk:
            low = frame.mul(chunk, per_chunk)
            high = frame.min(frame.add(low, per_chunk), rows)
            for reduce in reductions:
                if reduce.over == "outer":
                    place = frame.mul(chunk, str(loops.columns))
                    pointers = tuple(
                        frame.emitter.address(frame.slot(n, "ptr"), place, d)
                        for n, d in zip(numbers[id(reduce)], state_dtypes(reduce))
                    )
                    cell = cells[id(reduce)] = Cell(walk.scope, reduce, pointers)
                    with frame.loop("0", str(loops.columns), parallel=True) as column:
                        cell.clear(column)
                else:
                    cells[id(reduce)].clear()
            walk.folds = cells
            walk.points(low, high)
            for reduce in reductions:
                if reduce.over == "all":
                    whole = Cell(walk.scope, reduce, tuple(frame.slot(n, "ptr") for n in numbers[id(reduce)]))
                    whole.write(cells[id(reduce)].read(), chunk)
        self._launch(function, chunks, 1 if cost * points > SERIAL_NS else chunks)
        for over in ("outer", "all"):
            same = [r for r in reductions if r.over == over]
            if same:
                self.nest(*combination(loops, same, chunks, partials, function.sources))

    def _scan_in_chunks(self, function: _Function, chunks: Chunks) -> None:
        """Few long rows that are scanned: the fold of each chunk, then each chunk from the folds before it."""
        folding = _Function(function.loops, function.plan, function.sources, self.target)
        places = [self.reserve(chunks.count * s.dtype.itemsize) for s in chunks.scans]
        for each, write in ((folding, chunks.fold), (function, chunks.scan)):
            walk, numbers = each.begin(), [each.add(place) for place in places]
            assert isinstance(walk, Rows)
            write(walk, [each.frame.slot(number, "ptr") for number in numbers])
            self._launch(each, chunks.count, 1)

    def _in_order(self, function: _Function, cost: float) -> None:
        """Additions to places that data name, in the order of the points: on one thread, or split by columns."""
        loops, walk, points = function.loops, function.begin(), function.points()
        axis = _independent(loops)
        if axis is None:
            with function.frame.loop("%lo", "%hi"):
                walk.points("0", points)
            self._launch(function, 1, 1)
            return
        assert isinstance(walk, Rows)
        walk.bounds[axis] = ("%lo", "%hi")
        walk.points("0", points)
        extent = loops.extent(axis)
        grain = max(16, -(-extent // 8 // 16) * 16) if cost * loops.rows > SERIAL_NS else extent
        self._launch(function, extent, grain)


class _Function:
    """A kernel function that is being written, and the slots that it is given."""

    def __init__(
        self,
        loops: Loops,
        plan: Plan,
        sources: Mapping[int, Slot],
        target: Target,
        streaming: frozenset[int] = frozenset(),
    ) -> None:
        self.vector_bytes, self.streaming = target.vector_bytes, streaming
        self.loops, self.plan, self.sources = loops, plan, sources
        self.frame = Frame(
            half=target.half, fused=target.fused, estimates=target.estimates, lanes=target.vector_bytes // 4
        )
        self.slots: list[Slot] = []
        self.places = {argument: self.add(slot) for argument, slot in sources.items()}
        self.extent = self.value(loops.extent(loops.dynamic) if loops.dynamic >= 0 else 0)

    def add(self, slot: Slot) -> int:
        """A new slot; its place in the table."""
        self.slots.append(slot)
        return len(self.slots) - 1

    def value(self, number: int) -> int:
        """A new slot that holds a number."""
        return self.add(Slot("value", number))

    def points(self) -> str:
        """The number of points that pieces are cut from, in a slot of its own."""
        return self.frame.slot(self.value(self.plan.points), "i64")

    def begin(self) -> Walk:
        """The walk over the nest's points; what is the same for all of them is computed here."""
        scope = Scope(self.frame, self.loops, self.places, self.extent)
        if self.plan.lanes:
            scope.tile = self.plan.tile
        for k, argument in enumerate(self.loops.nest.arguments):
            if argument.kind == "scratch":
                scope.scratch[k] = self.frame.array(argument.dtype, argument.size * scope.tile)
        walk: Walk
        if self.plan.across >= 0:
            walk = Blocks(scope, self.plan, vector_bytes=self.vector_bytes)
        else:
            walk = Lanes(scope, self.plan) if self.plan.lanes else Rows(scope, self.plan)
        if self.streaming:
            walk.streams = Streams(scope, self.streaming, self.vector_bytes)
        walk.hoist()
        return walk


def _grain(plan: Plan, count: int, cost: float) -> int:
    """How many points make a piece: enough work for a thread, in whole tiles, or rows of lanes if short."""
    work = count * cost
    if work <= BRIEF_NS:
        return count
    piece = min(max(work / 8, BRIEF_PIECE_NS), PIECE_NS)
    grain = max(math.ceil(piece / cost), -(-count // 256))
    if work <= SERIAL_NS:  # as many for each of some threads: a rest would move from one's cache to another's
        pieces = 1 << math.ceil(math.log2(count / grain))
        grain = -(-count // pieces)
    if plan.lanes:
        lane = plan.order[-1]
        extent = plan.loops.extent(lane)
        unit = extent if len(plan.order) > 1 and extent <= grain else max(plan.tile, 64)
        grain = -(-grain // unit) * unit
    return grain


def _independent(loops: Loops) -> int | None:
    """An inner axis such that points with different indices on it never add to, or store at, the same place."""
    if any(isinstance(s, Store) for stage in loops.nest.stages if stage.level == "row" for s in stage.body):
        return None
    if loops.reductions("inner", "outer", "all"):
        return None
    stores = [s for s in loops.statements if isinstance(s, Store)]
    for axis in loops.inner:
        extent = loops.extent(axis)
        if extent >= 32 and all(_splits(s.offset, axis, extent) for s in stores):
            return axis
    return None


def _splits(offset: Offset, axis: int, extent: int) -> bool:
    others: Iterable[int] = (*(s for a, s in offset.axes.items() if a != axis), *offset.indirect.values())
    return offset.axes.get(axis) == 1 and offset.base % extent == 0 and all(s % extent == 0 for s in others)


def _describe(plan: Plan) -> str:
    axes = plan.loops.nest.axes
    if not plan.lanes:
        return "row by row"
    if plan.across >= 0:
        across, lane = axes[plan.across].name, axes[plan.order[-1]].name
        return f"blocks of {plan.block} along {across}, points along {lane} side by side"
    unrolled = ", rows unrolled" if plan.unroll else ""
    tile = f", {plan.tile} at a time" if plan.tile > 1 else ""
    return f"points along {axes[plan.order[-1]].name} side by side{tile}{unrolled}"
