"""Which axis of a nest is walked along vectors, in which order, and how large pieces of work are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from knetc.codegen.axes import Loops, is_free, results, value_dtypes
from knetc.codegen.loopnest import Compute, Load, Offset, Reduce, Scan, Stage, Store

UNROLLED = 16
"""Rows of at most so many elements are unrolled, and rows are processed side by side."""

_UNROLLED_WORK = 600
"""Unrolling makes code for at most so much work, an addition being 1: it takes time to compile."""

_TILE_BYTES = 24 * 1024
"""Stack arrays of a tile of lanes should lie in the first-level cache."""

_SCRATCH_BYTES = 1 << 20
"""Scratch memory of a tile of lanes should lie in the second-level cache."""

_BLOCK_BYTES = 512
"""How far blocks of transposes reach along the other axis: far enough that it pays to have visited each page."""


@dataclass(frozen=True)
class Plan:
    """How a nest is walked."""

    loops: Loops
    order: tuple[int, ...]
    """The outer axes, slowest first."""
    lanes: bool
    """Whether points along the last axis of ``order`` are processed side by side; else row by row."""
    unroll: bool = False
    """With ``lanes``: whether the inner axes are unrolled."""
    tile: int = 1
    """With ``lanes``: how many points at most lie side by side; 1 is without bound."""
    across: int = -1
    """The axis along which some arguments lie in memory while others lie along the lanes; -1: there is none."""
    block: int = 0
    """How many points along ``across`` are processed together."""
    transposed: frozenset[int] = frozenset()
    """The loads, by identity, that lie along ``across``."""

    @property
    def points(self) -> int:
        """The number of points that pieces are cut from."""
        if self.across < 0:
            return self.loops.rows
        extent = self.loops.extent(self.across)
        return self.loops.rows // max(extent, 1) * -(-extent // self.block)

    def inner_order(self, stage: Stage) -> tuple[int, ...]:
        """The order of loops over the inner axes in an element stage: the contiguous axis innermost where allowed."""
        inner = list(self.loops.inner)
        if self.lanes or len(inner) < 2 or any(isinstance(s, Reduce) and not is_free(s) for s in stage.body):
            return tuple(inner)
        votes = dict.fromkeys(inner, 0.0)
        for s in stage.body:
            if isinstance(s, (Load, Store)):
                for axis in unit_axes(s.offset):
                    if axis in votes:
                        votes[axis] += _weight(self.loops, axis) * (1.5 if isinstance(s, Store) else 1.0)
        best = max(inner, key=lambda axis: (votes[axis], axis))
        return (*(axis for axis in inner if axis != best), best)


def unit_axes(offset: Offset) -> list[int]:
    """Axes along which neighbours in memory lie."""
    return [axis for axis, stride in offset.axes.items() if abs(stride) == 1]


def make_plan(loops: Loops, piece: int = 1) -> Plan:
    """How to walk a nest whose axes are simplified; ``piece`` bounds the tiles of elementwise nests, if it is not 1."""
    outer = list(loops.outer)
    if not outer:
        return Plan(loops, (), lanes=False)
    lane, lane_votes, row_votes = _votes(loops)
    if any(not is_free(r) for r in loops.reductions("outer", "all")):
        # such a fold must see its elements in order, so the lanes can only be the last axis
        lane_votes, lane = (lane_votes if lane == outer[-1] else 0.0), outer[-1]
    order = (*(axis for axis in outer if axis != lane), lane)
    if loops.nest.inner:
        if _can_unroll(loops):
            return Plan(loops, order, lanes=True, unroll=True, tile=_tile(loops, unroll=True))
        if lane_votes <= row_votes:
            return Plan(loops, tuple(outer), lanes=False)
        return Plan(loops, order, lanes=True, tile=_tile(loops, unroll=False))
    tile = _tile(loops, unroll=False)
    if piece > 1:
        tile = min(tile, piece) if tile > 1 else piece
    return _in_blocks(loops, order) or Plan(loops, order, lanes=True, tile=tile)


def _in_blocks(loops: Loops, order: tuple[int, ...]) -> Plan | None:
    """A plan for an elementwise nest in which some loads lie along another axis than the lanes; None if none do."""
    if loops.reductions("inner", "outer") or any(not is_free(r) for r in loops.reductions("all")):
        return None
    lane = order[-1]
    votes: dict[int, list[Load]] = {}
    for s in loops.statements:
        if isinstance(s, Load) and not s.where and not any(s.offset.indirect.values()):
            for axis, stride in s.offset.axes.items():
                if stride == 1 and axis != lane and abs(s.offset.axes.get(lane, 0)) > 1:
                    votes.setdefault(axis, []).append(s)
    if not votes:
        return None
    across = max(votes, key=lambda axis: (len(votes[axis]), axis))
    if any(axis != loops.dynamic and loops.extent(axis) < 8 for axis in (lane, across)):
        return None
    block = min(_BLOCK_BYTES // loops.nest.arguments[s.argument].dtype.itemsize for s in votes[across])
    slow = tuple(axis for axis in order[:-1] if axis != across)
    transposed = frozenset(id(s) for s in votes[across])
    return Plan(loops, (*slow, lane), lanes=True, across=across, block=block, transposed=transposed)


def _weight(loops: Loops, axis: int) -> float:
    """How much a vector loop along an axis is worth: short axes, whose loops never get going, little."""
    return 1.0 if axis == loops.dynamic else min(loops.extent(axis), 64) / 64


def _share(loops: Loops, offset: Offset) -> float:
    """How much of the nest's points an access sees: what is the same along an axis is read once for all of it."""
    share = 1.0
    for axis in range(len(loops.nest.axes)):
        if not offset.axes.get(axis):
            share /= max(64 if axis == loops.dynamic else min(loops.extent(axis), 64), 1)
    return share


def _votes(loops: Loops) -> tuple[int, float, float]:
    """The best axis for lanes, how many accesses are contiguous along it, and how many along inner axes."""
    votes = dict.fromkeys(range(len(loops.nest.axes)), 0.0)
    nearness = dict.fromkeys(loops.outer, 0.0)
    for stage in loops.nest.stages:
        often = stage.level == "element" or not loops.nest.inner
        for s in stage.body:
            if not isinstance(s, (Load, Store)) or loops.nest.arguments[s.argument].kind in ("scratch", "scalar"):
                continue
            share = _share(loops, s.offset) * (1.5 if isinstance(s, Store) else 1.0) * (1.0 if often else 0.01)
            for axis in unit_axes(s.offset):
                votes[axis] += _weight(loops, axis) * share
            for axis, stride in s.offset.axes.items():
                if axis in nearness and stride:
                    nearness[axis] += 1 / abs(stride)
        for s in stage.body:
            if isinstance(s, Reduce) and s.over == "outer" and loops.nest.inner:
                votes[loops.inner[-1]] += 0.5
    lane = max(loops.outer, key=lambda axis: (votes[axis], nearness[axis], axis))
    return lane, votes[lane], sum(votes[axis] for axis in loops.inner)


def _can_unroll(loops: Loops) -> bool:
    if loops.dynamic in loops.inner or loops.columns > UNROLLED:
        return False
    body = [s for stage in loops.nest.stages if stage.level == "element" for s in stage.body]
    size = sum(max(s.op.cost, 1) if isinstance(s, Compute) else 1 for s in body)
    return size * max(loops.columns, 1) <= _UNROLLED_WORK


def _tile(loops: Loops, unroll: bool) -> int:
    """How many points lie side by side: as many as the arrays that they need leave room for."""
    types = value_dtypes(loops)
    scratch = sum(a.size * a.dtype.itemsize for a in loops.nest.arguments if a.kind == "scratch")
    size = scratch
    if not unroll and loops.nest.inner:
        row_values = [r for stage in loops.nest.stages if stage.level == "row" for s in stage.body for r in results(s)]
        folded = [r for reduce in loops.reductions("inner") for r in reduce.results]
        size += sum(types[r].itemsize for r in (*row_values, *folded))
        size += sum(s.dtype.itemsize * len(s.operands) for s in loops.statements if isinstance(s, Scan))
    if size == 0:
        return 4096 if loops.reductions("all") else 1
    budget, most = (_SCRATCH_BYTES, 256) if scratch else (_TILE_BYTES, 512)
    return max(16, min(most, 1 << int(math.log2(max(budget / size, 1)))))


# --- amounts of work -------------------------------------------------------------------------------------------------


def point_cost(loops: Loops) -> float:
    """Nanoseconds that one outer point takes, roughly, on one core at full vector width."""
    total = 1.0 if loops.nest.inner else 0.0
    for stage in loops.nest.stages:
        times = loops.columns if stage.level == "element" else 1
        each = 0.0
        for s in stage.body:
            if isinstance(s, Compute):
                each += 0.005 * max(s.dtype.itemsize, 4) * s.op.cost
            elif isinstance(s, (Load, Store)):
                each += 0.012 * loops.nest.arguments[s.argument].dtype.itemsize
            elif isinstance(s, Reduce):
                each += 0.03
            elif isinstance(s, Scan):
                each += 0.5
        total += each * times
    return max(total, 0.01)
