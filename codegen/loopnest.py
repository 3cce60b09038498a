"""LoopNest: what a fused group computes, as loops over scalars; the contract between fusion and every backend.

A nest runs over *outer* axes, which are independent of each other ("rows"), and within each outer point over *inner*
axes ("columns"). Its stages run in order for each outer point. A ``row`` stage runs once for each outer point; an
``element`` stage runs once for each inner point. Stages are straight-line scalar code in single assignment form:
values are numbered through the whole nest. Values of row stages, and the results of inner reductions, may be used in
every later stage of the same outer point; other values only in their own stage.

A reduction folds

- ``inner``: over all inner axes, giving a row value (softmax's maximum);
- ``outer``: over all outer axes, keeping the inner ones: column sums, stored to an argument as [inner extents];
- ``all``: over every axis, stored to an argument as one scalar (a loss).

The last two are 'partial, then combine': the backend cuts the outer axes into chunks that depend on the shape alone,
folds each chunk into its own partial state, and combines the partials in order, so results do not depend on threads.

A scan keeps what a fold over the inner axis is so far, at each inner point (cumulative sums). Nests that scan have one
inner axis, and walk it forward: a scan from the end is one over offsets with negative strides.

There is no tile, vector width, mask or thread count here: those are the backend's. Offsets count elements of the
argument, which is dense memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from knetc.ir.node import Line
from knetc.ir.op import Op


@dataclass(frozen=True)
class Axis:
    """A loop. Of the first outer axis, the extent is a kernel argument; all other extents are in the code."""

    name: str
    extent: int


@dataclass(frozen=True)
class Argument:
    """A buffer or a scalar that the kernel is given.

    ``input`` is read, ``output`` is written (every element, by exactly one point, unless ``accumulate`` says else),
    ``update`` is both: element i is read only by the point that writes element i. ``scalar`` is passed by value.
    ``scratch`` is private to one outer point at a time: [product of inner extents] values that live between stages
    (a row of exponentials), in cache, never in main memory. The same buffer may be given for an input and an output
    only if the nest says so by ``update``.
    """

    name: str
    dtype: np.dtype
    kind: Literal["input", "output", "update", "scalar", "scratch"]
    size: int = 1
    """Elements; of arrays whose size follows the first outer axis, the size at this extent."""


@dataclass(frozen=True)
class Offset:
    """An element offset: ``base + sum(axis value * stride) + sum(value * stride)``.

    ``axes`` maps an axis's position (outer axes first, then inner) to its stride; ``indirect`` maps a value's number
    (an i64 computed before: gather, scatter) to its stride.
    """

    base: int = 0
    axes: Mapping[int, int] = field(default_factory=dict)
    indirect: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Range:
    """A condition on the point: ``low <= base + sum(axis * stride) < high`` (padding, concatenation)."""

    offset: Offset
    low: int
    high: int


@dataclass(frozen=True)
class Load:
    """Read an argument; where a condition in ``where`` fails, nothing is read and the value is ``otherwise``."""

    result: int
    argument: int
    offset: Offset
    where: tuple[Range, ...] = ()
    otherwise: bool | int | float = 0


@dataclass(frozen=True)
class Index:
    """An i64 made from the point's axes: ``offset`` without indirect terms (iota, argmax's candidates)."""

    result: int
    offset: Offset


@dataclass(frozen=True)
class Constant:
    result: int
    dtype: np.dtype
    value: bool | int | float


@dataclass(frozen=True)
class Inside:
    """A bool: whether the point satisfies all conditions."""

    result: int
    where: tuple[Range, ...]


@dataclass(frozen=True)
class Compute:
    """An elementwise operation on scalars: ``op.emit`` or ``op.triton`` gives the code."""

    result: int
    op: Op
    dtype: np.dtype
    operands: tuple[int, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """Write a value. ``accumulate`` adds to what is there (scatter-add; the argument was zeroed before), in order of
    the points, so that the result is the same in every run. With ``replace`` the later value takes the place of what
    is there instead (scatter; the argument was filled before)."""

    argument: int
    offset: Offset
    value: int
    accumulate: bool = False
    replace: bool = False


@dataclass(frozen=True)
class Reduce:
    """Fold ``operand`` with ``op.combine`` in ``dtype`` (the accumulator's, part of the op's record).

    ``over`` 'inner': ``results`` are new row values (one for each part of the state). 'outer' and 'all': the folded
    value (the state's last part: the index of an argmax) is stored in ``argument`` at ``offset`` (whose axes are the
    inner ones for 'outer', none for 'all'). Where ``op.combine.with_index``, ``index`` is the value that numbers the
    element along the folded axes.
    """

    op: Op
    operand: int
    dtype: np.dtype
    over: Literal["inner", "outer", "all"]
    results: tuple[int, ...] = ()
    argument: int = -1
    offset: Offset = Offset()
    index: int = -1


@dataclass(frozen=True)
class Scan:
    """Fold the elements of this outer point from the first to this one inclusive, with ``op.combine`` in ``dtype``.

    ``operands`` are an element's state, one value for each part of it (one for a cumulative sum; coefficient and
    addend for a linear recurrence); ``result``, a value of this stage like that of a ``Compute``, is the last part of
    the folded state. It stands in element stages of nests with one inner axis. A stage may hold several scans, also of
    each other's results, and a later stage that needs the values again scans again.

    ``op.combine.merge`` is associative, so a backend may fold in another order, as long as it depends on the shape
    alone: in vectors, or long rows in chunks (the fold of each chunk, a scan of these, then each chunk from there).
    """

    result: int
    op: Op
    operands: tuple[int, ...]
    dtype: np.dtype


Statement = Load | Index | Constant | Inside | Compute | Store | Reduce | Scan


@dataclass(frozen=True)
class Stage:
    """Straight-line scalar code, run once for each outer point (``row``) or each inner point of it (``element``)."""

    level: Literal["row", "element"]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class LoopNest:
    """A fused group as loops; see the module's text."""

    name: str
    outer: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    arguments: tuple[Argument, ...]
    stages: tuple[Stage, ...]
    lines: tuple[Line, ...] = ()
    """The user's lines that it holds."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (*self.outer, *self.inner)
