"""The record of an operation: everything there is to say about it, in one place."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes

if TYPE_CHECKING:
    from knetc.ir.node import Node

Attributes = Mapping[str, Hashable]


class Kind(Enum):
    """What an operation does to index space: all that fusion looks at."""

    LEAF = "leaf"
    """Inputs and constants: no sources."""
    ELEMENTWISE = "elementwise"
    """Output element i depends on element i of each source; all shapes are equal."""
    REDUCTION = "reduction"
    """Folds the axes in attribute ``axes``; the result keeps the other axes (no ``keepdims`` in the IR)."""
    SCAN = "scan"
    """Keeps what a fold along attribute ``axis`` is so far (or, with ``reverse``, from there on); shapes are equal."""
    MOVEMENT = "movement"
    """The result's elements are elements of the source (or a fill value), elsewhere."""
    INDEXED = "indexed"
    """Reads or writes at places that other values name: gather and scatter-add."""
    LIBRARY = "library"
    """Computed by a whole kernel of its own: matmul, sort …"""
    EFFECT = "effect"
    """Checks and host calls: kept, ordered, never merged."""
    GROUP = "group"
    """A fused group: a node that holds a graph."""
    CONTROL = "control"
    """Loops and branches: a node that holds the graphs which run again and again, or not at all."""
    ITEM = "item"
    """One of the results of a group, a loop or a branch."""


class Value(Protocol):
    """A scalar in a kernel that is being emitted."""

    dtype: np.dtype


class Emitter(Protocol):
    """What an operation's code is written with: scalar code, which the backends widen.

    Values are typed; bool is one bit. Values of float16 and bfloat16 lie in registers as float32: they can be compared,
    chosen, negated, rounded to whole numbers and converted, but for arithmetic they are converted to float32 first
    (``Op.code`` does that). Floating arithmetic is IEEE (contraction to fma allowed where ``fma`` is
    written or, while ``contract`` is set, a product feeds a sum); comparisons with NaN are false except ``une`` and
    ``uno``.
    """

    contract: bool
    fused: bool
    """Whether ``fma`` rounds once."""
    tables: bool
    """Whether there are tables of constants, from which ``lookup`` takes."""

    def constant(self, value: bool | int | float, dtype: np.dtype) -> Any: ...
    def add(self, a: Any, b: Any) -> Any: ...
    def sub(self, a: Any, b: Any) -> Any: ...
    def mul(self, a: Any, b: Any) -> Any: ...
    def div(self, a: Any, b: Any) -> Any:
        """Quotient; of integers, rounded toward zero, with no trap: x/0 is 0 and MIN/-1 is MIN."""

    def ratio(self, a: Any, b: Any) -> Any:
        """Quotient of float32 or float64 to two ulp, for |b| from 1 to 2**126, where that is faster than ``div``."""

    def power_of_two(self, a: Any) -> Any | None:
        """``2**a`` to two ulp if the processor has that for values like ``a`` (GPUs do in float32), else None."""

    def scaled(self, a: Any, n: Any) -> Any | None:
        """``a * 2**n`` rounded once, for a float ``n`` that is whole, if the processor has an instruction for it."""

    def rem(self, a: Any, b: Any) -> Any:
        """Remainder of ``div``; x rem 0 is 0."""

    def neg(self, a: Any) -> Any: ...
    def fma(self, a: Any, b: Any, c: Any) -> Any: ...
    def sqrt(self, a: Any, *, beside: bool = False) -> Any:
        """The root, rounded to the nearest; ``beside`` tells that there is more arithmetic than the root takes."""

    def abs(self, a: Any) -> Any: ...
    def floor(self, a: Any) -> Any: ...
    def ceil(self, a: Any) -> Any: ...
    def trunc(self, a: Any) -> Any: ...
    def rint(self, a: Any) -> Any:
        """Nearest integer, ties to even."""

    def copysign(self, a: Any, b: Any) -> Any: ...
    def compare(self, predicate: str, a: Any, b: Any) -> Any:
        """Bool from ``eq ne lt le gt ge``, plus ``uno`` (either is NaN) for floats; ``ne`` is true for NaN."""

    def select(self, condition: Any, a: Any, b: Any) -> Any: ...
    def and_(self, a: Any, b: Any) -> Any: ...
    def or_(self, a: Any, b: Any) -> Any: ...
    def xor(self, a: Any, b: Any) -> Any: ...
    def not_(self, a: Any) -> Any: ...
    def shl(self, a: Any, b: Any) -> Any: ...
    def lshr(self, a: Any, b: Any) -> Any:
        """Shift right, filling with zeros."""

    def ashr(self, a: Any, b: Any) -> Any:
        """Shift right, filling with the sign."""

    def bitcast(self, a: Any, dtype: np.dtype) -> Any:
        """The same bits as another type of the same width."""

    def convert(self, a: Any, dtype: np.dtype) -> Any:
        """NumPy's ``astype``: float to int rounds toward zero and saturates (NaN gives 0), to bool is ``!= 0``.

        To float16 and bfloat16 it rounds to the nearest, ties to even, and keeps subnormal numbers; what is not
        float32 is rounded to that first, but for float64 to float16, which is rounded once (as NumPy does).
        """

    def mulhi_u32(self, a: Any, b: Any) -> Any:
        """Upper half of the product of two i32 values taken as unsigned."""

    def rarely(self, name: str, flag: Any, usual: Any, function: Callable[..., Any], *operands: Any) -> Any:
        """``usual``, but where ``flag`` is set, which is rare, ``function(emitter, *operands)``, by a branch.

        ``name`` stands for the function among all that a kernel calls so.
        """

    def repeat(self, count: Any, step: Callable[[Any], Any], state: Any) -> Any:
        """``step`` applied ``count`` (an i64) times to ``state``: only for what is rare."""

    def lookup(self, table: Sequence[int | float], index: Any, dtype: np.dtype) -> Any:
        """The number at place ``index`` (an i64) of a table of constants; only where ``tables`` is set."""


@dataclass(frozen=True)
class Domain:
    """Where a float source may be sampled in generated tests: an interval and points that deserve a look."""

    low: float = -3.0
    high: float = 3.0
    special: tuple[float, ...] = ()
    """Values checked against the reference too (infinities, zeros, ties); not used for gradient checks."""


@dataclass(frozen=True)
class Sample:
    """One case for the generated tests: the types of the sources and the attributes."""

    types: tuple[TensorType, ...]
    attributes: Attributes = field(default_factory=dict)
    domains: tuple[Domain, ...] = ()
    """Overrides the op's domains, source by source."""


@dataclass(frozen=True)
class Combine:
    """How a reduction or a scan folds: an identity and an associative function, shared by the oracle and all backends.

    A state is a tuple of scalars (one for sum, two for argmax: the value and its index). Each source of a scan is a
    part of its elements' states.
    """

    identity: Callable[[np.dtype], tuple[bool | int | float, ...]]
    """State of the empty fold, by source dtype."""
    merge: Callable[..., tuple[Any, ...]]
    """``merge(emitter, left state, right state)``; ``left`` is of smaller indices."""
    reassociable: str = ""
    """``add``, ``mul``, ``max`` or ``min`` when the backend may reorder and widen the fold freely; else ''."""
    with_index: bool = False
    """True when the state also carries the element's index along the folded axes (argmax)."""
    accumulator: Callable[[np.dtype], np.dtype] = dtypes.accumulator
    """What elements of a dtype are folded in. A reduction takes sources of such dtypes only: the graph shows a cast
    before it (and after it, if the result is to be narrow), so that all who run it fold alike."""


@dataclass(frozen=True, eq=False)
class Op:
    """An operation: name, kind, meaning, gradient, code for each backend, and how to test it."""

    name: str
    kind: Kind
    infer: Callable[..., TensorType | tuple[TensorType, ...]]
    """Type rule: ``infer(*source_types, **attributes)``; raises ShapeError or DtypeError with a message for users."""
    reference: Callable[..., Any] | None = None
    """NumPy's meaning: ``reference(*arrays, **attributes)``; exactly the inferred dtype and shape."""
    gradient: Callable[..., tuple[Node | None, ...]] | None = None
    """``gradient(node, dy)`` gives one graph value (or None) for each source; None: its gradient is zero."""
    emit: Callable[..., Any] | None = None
    """Code of an elementwise op: ``emit(emitter, *operands, **attributes)``; operands and result are scalars. The
    emitter writes LLVM IR for the CPU, Triton source for a GPU."""
    triton: str = ""
    """Triton source with ``{0} {1} …`` for the operands, in place of ``emit``, where a GPU has something better."""
    combine: Combine | None = None
    """Of reductions and scans."""
    symbol: str = ""
    """Python operator to print it with, such as ``+``; '' prints a call."""
    cost: int = 1
    """Work for one element, one addition being 1: what recomputing it would cost."""
    domains: tuple[Domain, ...] = ()
    """Where to sample each float source in tests; the last one serves for all that follow."""
    samples: Sequence[Sample] = ()
    """Cases for the generated tests; elementwise ops get theirs from their number of sources and ``dtypes``."""
    dtypes: str = "fib"
    """Kinds of source dtypes that it takes: f floats, i integers, b bool."""
    arity: int = 1
    """Number of sources; -1 where it varies."""
    commutative: bool = False
    """Whether exchanging its two sources gives the same bits, so that ``a + b`` and ``b + a`` become one value."""
    differentiable_order: int = 2
    """To which order the generated tests check gradients (0 where the gradient is zero or not defined)."""
    ulp: float = 4.0
    """Tolerance of the generated tests against the reference: ulp of the largest intermediate."""
    bad: Sequence[tuple[Sample, type[Exception]]] = ()
    """Inputs that must be refused, with the error's class."""
    exact: bool = False
    """Whether it rounds nothing (choosing, comparing, negating …), or does so itself (cast): ``reference`` and
    ``emit`` then take float16 and bfloat16 as they are. All others are given float32, and their result is rounded."""
    sums_to_products: bool = False
    """Whether f(a + b) = f(a) f(b), but for rounding: sums of f(x - m) can be taken while m is still changing."""

    def evaluate(self, *arrays: Any, **attributes: Any) -> Any:
        """The operation in NumPy, by its reference; float16 and bfloat16 are computed in float32, then rounded."""
        assert self.reference is not None, f"{self.name} has no reference"
        narrow = None if self.exact else _narrow_among(arrays)
        if narrow is None:
            return self.reference(*arrays, **attributes)
        wide = [a.astype(dtypes.f32) if a.dtype == narrow else a for a in arrays]
        result = np.asarray(self.reference(*wide, **attributes))
        with np.errstate(over="ignore"):
            return result.astype(narrow) if result.dtype == dtypes.f32 else result

    def code(self, e: Any, *operands: Any, **attributes: Any) -> Any:
        """Emit an elementwise operation by its ``emit``; float16 and bfloat16 as in ``evaluate``."""
        assert self.emit is not None, f"{self.name} has no code"
        narrow = None if self.exact else _narrow_among(operands)
        if narrow is None:
            return self.emit(e, *operands, **attributes)
        wide = [e.convert(x, dtypes.f32) if x.dtype == narrow else x for x in operands]
        before, e.contract = e.contract, False  # a fused product would not have been rounded
        result = self.emit(e, *wide, **attributes)
        e.contract = before
        return e.convert(result, narrow) if result.dtype == dtypes.f32 else result

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def _narrow_among(values: Sequence[Any]) -> np.dtype | None:
    """The dtype of the values that are float16 or bfloat16, if any are; an operation's float sources have one dtype."""
    for value in values:
        if dtypes.is_narrow(value.dtype):
            return value.dtype  # type: ignore[no-any-return]
    return None


#: name -> record of every operation there is
OPS: dict[str, Op] = {}


MARKS = frozenset({"variable", "by_rule", "kept", "recomputed"})
"""Operations that only differentiation sees: a graph has their first source in their place."""


def register(op: Op) -> Op:
    """Put an operation into the table; its name must be new."""
    if op.name in OPS:
        raise ValueError(f"the operation {op.name!r} exists already")
    OPS[op.name] = op
    return op
