"""The second half of folds over outer axes: a nest of its own that combines the partial states of all chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from knetc.codegen.axes import Loops
from knetc.codegen.cpu.scope import state_dtypes
from knetc.codegen.loopnest import (
    Argument,
    Axis,
    Compute,
    Index,
    Load,
    LoopNest,
    Offset,
    Reduce,
    Stage,
    Statement,
    Store,
)
from knetc.runtime.base import dtypes
from knetc.runtime.program import Slot

from knetc.ir.op import OPS


def combination(
    loops: Loops,
    reductions: Sequence[Reduce],
    chunks: int,
    partials: Mapping[int, Sequence[Slot]],
    sources: Mapping[int, Slot],
) -> tuple[Loops, dict[int, Slot]]:
    """A nest that folds the states of ``chunks`` chunks, in order, and stores the results; and its arguments' slots.

    ``reductions`` of ``loops`` are all over 'outer' or all over 'all'. ``partials`` says where the parts of each
    one's states lie, by identity: [chunks, inner points]. ``sources`` are the slots of the arguments of ``loops``.
    """
    columns = loops.nest.inner if reductions[0].over == "outer" else ()
    chunk, shift = len(columns), len(loops.nest.outer)
    strides = {k: math.prod(axis.extent for axis in columns[k + 1 :]) for k in range(len(columns))}
    each = math.prod(axis.extent for axis in columns)
    arguments: list[Argument] = []
    slots: dict[int, Slot] = {}
    body: list[Statement] = []
    after: list[Statement] = []
    values = 0

    def argument(slot: Slot, new: Argument) -> int:
        slots[len(arguments)] = slot
        arguments.append(new)
        return len(arguments) - 1

    def number() -> int:
        nonlocal values
        values += 1
        return values - 1

    where = Offset(axes={chunk: 1})
    if columns:
        # the distance of the chunks' states is a value, so that folds of any number of columns share the code
        distance = Load(number(), argument(Slot("value", each), Argument("distance", dtypes.i64, "scalar")), Offset())
        index = Index(number(), where)
        place = Compute(number(), OPS["multiply"], dtypes.i64, (distance.result, index.result))
        body += [distance, index, place]
        where = Offset(axes=strides, indirect={place.result: 1})
    for reduce in reductions:
        loads = []
        for slot, dtype in zip(partials[id(reduce)], state_dtypes(reduce), strict=True):
            loads.append(Load(number(), argument(slot, Argument("partial", dtype, "input", chunks * each)), where))
        folded = tuple(number() for _ in loads)
        places = loads[1].result if len(loads) > 1 else -1
        body += [*loads, Reduce(reduce.op, loads[0].result, reduce.dtype, "inner", folded, index=places)]
        result = argument(sources[reduce.argument], loops.nest.arguments[reduce.argument])
        axes = {axis - shift: stride for axis, stride in reduce.offset.axes.items() if axis >= shift}
        after.append(Store(result, Offset(reduce.offset.base, axes), folded[-1]))
    stages = (Stage("element", tuple(body)), Stage("row", tuple(after)))
    nest = LoopNest("combine", columns, (Axis("chunk", chunks),), tuple(arguments), stages)
    return Loops(nest, chunk), slots
