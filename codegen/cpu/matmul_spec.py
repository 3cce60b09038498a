"""What a matrix product is to compute, and equal products that are better to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from knetc.codegen.loopnest import (
    Argument,
    Axis,
    Index,
    Inside,
    Load,
    LoopNest,
    Offset,
    Range,
    Stage,
    Statement,
    Store,
)


@dataclass(frozen=True)
class MatmulSpec:
    """A product C[…, M, N] = A[…, M, K] @ B[…, K, N] of arrays with any strides, and what to do with it.

    Strides count elements, in the order (batch axes…, row, column); 0 repeats an operand along a batch axis, and a
    transposed operand has its strides exchanged. The step's arguments are A, B, then C; or, with an epilogue, A, B,
    then the epilogue's arguments 1, 2, ….

    An epilogue is a nest with outer axes (batch…, M), the inner axis (N) and one element stage, in which a load of
    argument 0 means the product at this point (in ``dtype``); ``c_strides`` is then not used. Its other arguments may
    be loaded and stored anywhere at affine places; an ``update`` element is read only by the point that writes it.

    >>> MatmulSpec(np.dtype("float32"), (), 2, 3, 4, (4, 1), (3, 1), (3, 1)).multiplications
    24
    """

    dtype: np.dtype
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a_strides: tuple[int, ...]
    b_strides: tuple[int, ...]
    c_strides: tuple[int, ...] = ()
    epilogue: LoopNest | None = None
    a_offset: int = 0
    b_offset: int = 0
    c_offset: int = 0

    @property
    def multiplications(self) -> int:
        return prod(self.batch) * self.m * self.n * self.k


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a dense array."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def identity(spec: MatmulSpec) -> LoopNest:
    """The epilogue that stores the product as it is, at C's strides."""
    axes = len(spec.batch) + 2
    place = Offset(spec.c_offset, {axis: spec.c_strides[axis] for axis in range(axes)})
    body = (Load(0, 0, Offset()), Store(1, place, 0))
    outer = tuple(Axis(f"b{axis}", extent) for axis, extent in enumerate((*spec.batch, spec.m)))
    arguments = (Argument("product", spec.dtype, "input"), Argument("c", spec.dtype, "output"))
    return LoopNest("matmul", outer, (Axis("n", spec.n),), arguments, (Stage("element", body),))


def stored_by_columns(spec: MatmulSpec) -> bool:
    """Whether the transposed product is the one to compute, for its rows are contiguous in C."""
    return spec.epilogue is None and spec.n > 1 and spec.c_strides[-1] != 1 and (spec.c_strides[-2] == 1 or spec.m == 1)


def is_row_times_matrix(spec: MatmulSpec) -> bool:
    """Whether this is one row times a matrix whose columns are contiguous along k: better the other way round."""
    return spec.m == 1 and spec.n > 1 and spec.b_strides[-2] == 1 and spec.a_strides[-1] == 1


def is_columns_times_narrow(spec: MatmulSpec) -> bool:
    """Whether A is long and stored by columns, and B narrow.

    It is better the other way round, with vectors along A's columns, although C is then written with strides.
    """
    return spec.n <= 16 and spec.m >= 256 and spec.a_strides[-2] == 1 and spec.a_strides[-1] != 1


def exchanged(spec: MatmulSpec) -> MatmulSpec:
    """The transposed product, B^T A^T."""
    row = len(spec.batch)

    def turned(strides: tuple[int, ...]) -> tuple[int, ...]:
        return (*strides[:-2], *strides[:-3:-1])

    swap = {row: row + 1, row + 1: row}
    epilogue = spec.epilogue
    if epilogue is not None:
        epilogue = with_axes(epilogue, lambda axis: swap.get(axis, axis))
    return replace(
        spec, m=spec.n, n=spec.m, a_strides=turned(spec.b_strides), b_strides=turned(spec.a_strides),
        c_strides=turned(spec.c_strides), a_offset=spec.b_offset, b_offset=spec.a_offset, epilogue=epilogue,
    )  # fmt: skip


def flattened(spec: MatmulSpec) -> MatmulSpec:
    """The same product with fewer batch axes.

    Those of extent 1 are dropped, and rows of several matrices that are multiplied with one become rows of one.
    """
    for axis in reversed(range(len(spec.batch))):
        if spec.batch[axis] == 1:
            spec = _without(spec, axis)
        elif axis == len(spec.batch) - 1 and _is_more_rows(spec, axis):
            spec = _without(replace(spec, m=spec.m * spec.batch[axis]), axis)
    return spec


def _is_more_rows(spec: MatmulSpec, axis: int) -> bool:
    """Whether going on along the last batch axis is going on along the rows."""
    places = [spec.a_strides[-3:-1]]
    if spec.epilogue is None:
        places.append(spec.c_strides[-3:-1])
    else:
        places += [(o.axes.get(axis, 0), o.axes.get(axis + 1, 0)) for o in offsets(spec.epilogue)]
    return spec.b_strides[axis] == 0 and all(batch == spec.m * row for batch, row in places)


def _without(spec: MatmulSpec, axis: int) -> MatmulSpec:
    """The product without a batch axis."""

    def cut(numbers: tuple[int, ...]) -> tuple[int, ...]:
        return (*numbers[:axis], *numbers[axis + 1 :])

    epilogue = spec.epilogue
    if epilogue is not None:
        epilogue = with_axes(epilogue, lambda a: -1 if a == axis else a - (a > axis))
    return replace(
        spec, batch=cut(spec.batch), a_strides=cut(spec.a_strides), b_strides=cut(spec.b_strides),
        c_strides=cut(spec.c_strides), epilogue=epilogue,
    )  # fmt: skip


def offsets(nest: LoopNest) -> Iterator[Offset]:
    """The offsets in the statements of an epilogue."""
    for stage in nest.stages:
        for statement in stage.body:
            yield from statement_offsets(statement)


def statement_offsets(statement: Statement) -> Iterator[Offset]:
    """The offsets in a statement of an epilogue; the product's own place is none."""
    if isinstance(statement, Load | Index | Store) and not (isinstance(statement, Load) and statement.argument == 0):
        yield statement.offset
    if isinstance(statement, Load | Inside):
        for condition in statement.where:
            yield condition.offset


def with_axes(nest: LoopNest, place: Callable[[int], int]) -> LoopNest:
    """An epilogue whose axes are numbered anew; those whose number becomes -1 are left out.

    Its ``outer`` and ``inner`` stay as they were: the extents that count are the product's.
    """

    def moved(offset: Offset) -> Offset:
        return replace(offset, axes={place(a): stride for a, stride in offset.axes.items() if place(a) >= 0})

    def ranges(where: tuple[Range, ...]) -> tuple[Range, ...]:
        return tuple(replace(condition, offset=moved(condition.offset)) for condition in where)

    def changed(s: Statement) -> Statement:
        if isinstance(s, Load):
            return replace(s, offset=moved(s.offset), where=ranges(s.where))
        if isinstance(s, Inside):
            return replace(s, where=ranges(s.where))
        return replace(s, offset=moved(s.offset)) if isinstance(s, Index | Store) else s

    stages = tuple(replace(stage, body=tuple(changed(s) for s in stage.body)) for stage in nest.stages)
    return replace(nest, stages=stages)
