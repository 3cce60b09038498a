"""Writing at places that other values name, in parallel and with the same result in every run where that is possible.

What is added is added atomically: sums of integers do not depend on the order, those of floats do in their last bits.
What replaces is decided by a vote: first the points that want a place leave the largest of their numbers there, then
the one whose number it is writes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from knetc.codegen.loopnest import Argument, Axis, Compute, Constant, Load, LoopNest, Offset, Stage, Statement, Store
from knetc.codegen.triton.body import Body
from knetc.codegen.triton.writer import Job
from knetc.runtime.base import dtypes
from knetc.runtime.program import Slot

from knetc.ir.op import OPS

Nest = tuple[LoopNest, tuple[Slot, ...]]


class Vote(Body):
    """Points leave their numbers at the places where they want to write."""

    def _write(self, store: Store, text: str, value: str, masks: list[str]) -> None:
        number = f"{self.frame.row}.to(tl.int32) + tl.zeros({self.frame.shape}, tl.int32)"
        self.lines.append(f'tl.atomic_max({self.votes} + {text}, {number}, {" & ".join(masks)}, sem="relaxed")')


class Elected(Body):
    """Points write where the number is theirs."""

    def _write(self, store: Store, text: str, value: str, masks: list[str]) -> None:
        mask = " & ".join(masks)
        self.lines.append(f"last = tl.load({self.votes} + {text}, {mask}) == {self.frame.row}")
        self.lines.append(f"tl.store({self.parameters[store.argument]} + {text}, {value}, {mask} & last)")


def scattered(job: Job) -> Store | None:
    """The store of a nest that writes at places named by values, in the order of its points."""
    stores = [s for s in job.loops.statements if isinstance(s, Store) and s.accumulate]
    return stores[0] if stores else None


def votes(job: Job, store: Store) -> tuple[Nest, Slot]:
    """Memory for the votes, one for each element of what is written, and the nest that empties it."""
    size = job.nest.arguments[store.argument].size
    slot = job.launches.space(4 * size)
    return (_filled(size, dtypes.i32, -1), (slot,)), slot


def in_wide_memory(job: Job, store: Store) -> tuple[Nest, Nest, Nest] | None:
    """Three nests in place of one that adds integers for which there are no atomic additions; None for others.

    They empty memory for wider sums, add there, and add the sums to what is written.
    """
    nest = job.nest
    argument = nest.arguments[store.argument]
    if argument.dtype.itemsize >= 4:
        return None
    slot = job.launches.space(4 * argument.size)
    body: list[Statement] = []
    number = 1 + max((s.result for s in job.loops.statements if hasattr(s, "result")), default=0)
    for statement in (s for stage in nest.stages for s in stage.body):
        if statement is store:
            body.append(_cast(number, store.value, dtypes.i32))
            statement = replace(store, value=number)
        body.append(statement)
    wide = replace(argument, dtype=dtypes.i32)
    arguments = tuple(wide if k == store.argument else a for k, a in enumerate(nest.arguments))
    slots = tuple(slot if k == store.argument else s for k, s in enumerate(job.slots))
    adding = replace(nest, arguments=arguments, stages=(Stage("element", tuple(body)),))
    place, dtype = Offset(0, {0: 1}), argument.dtype
    last = (
        Load(0, 0, place), Load(1, 1, place), _cast(2, 1, dtype), Compute(3, OPS["add"], dtype, (0, 2)),
        Store(0, place, 3),
    )  # fmt: skip
    sums = LoopNest(
        "add", (Axis("i0", argument.size),), (), (replace(argument, kind="update"), replace(wide, kind="input")),
        (Stage("element", last),),
    )  # fmt: skip
    filled = _filled(argument.size, dtypes.i32, 0)
    return (filled, (slot,)), (adding, slots), (sums, (job.slots[store.argument], slot))


def _cast(result: int, value: int, dtype: np.dtype) -> Compute:
    return Compute(result, OPS["cast"], dtype, (value,), {"dtype": dtype})


def _filled(size: int, dtype: np.dtype, value: int) -> LoopNest:
    body = (Constant(0, dtype, value), Store(0, Offset(0, {0: 1}), 0))
    return LoopNest("fill", (Axis("i0", size),), (), (Argument("o", dtype, "output", size),), (Stage("element", body),))
