"""Matrix products that cuBLASLt can make: the record of the call, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from knetc.codegen.loopnest import Compute, Constant, Load, LoopNest, Offset, Store
from knetc.codegen.products import Product
from knetc.runtime.base import dtypes
from knetc.runtime.program import Factor, LibraryCall

from knetc.passes.views import View, dense_strides

_RESULTS = {"f32": ("f32", "f16", "bf16"), "f64": ("f64",)}
"""What the dtype of a product's sums may be stored as."""


@dataclass(frozen=True)
class Epilogue:
    """What is done with the sums before they are stored, as far as the library knows it:
    ``relu(scale * sums + share * more + bias)``."""

    dtype: np.dtype
    """Of the result."""
    result: int
    """The nest's argument that is stored to."""
    bias: int = -1
    """The nest's argument that is added to each row; -1 for none."""
    relu: bool = False
    scale: float = 1.0
    more: int = -1
    """The nest's argument with an element for each one of the result; -1 for none."""
    share: float = 0.0


def library_call(product: Product, nest: LoopNest | None, precision: str) -> LibraryCall | str:
    """The library call for a product and its epilogue, or why there is none.

    The call's arguments are those of the generated kernel: both operands, then the epilogue's but the first.
    """
    if product.a.prologue or product.b.prologue:
        return "a factor is computed while it is read"
    kinds = tuple(dtypes.short_name(v.base.dtype) for v in (product.a, product.b))
    sums = dtypes.short_name(product.dtype)
    if kinds[0] != kinds[1] or kinds[0] not in ("f32", "f64", "f16", "bf16") or sums not in _RESULTS:
        return f"products of {kinds[0]} and {kinds[1]} as {sums} are not in the library"
    found: Epilogue | str = Epilogue(product.dtype, 1)
    if nest is not None:
        extents = tuple(axis.extent for axis in (*nest.outer, *nest.inner))
        same = math.prod(extents[:-1]) == math.prod(product.batch) * product.m and extents[-1] == product.n
        found = epilogue_of(nest, dense_strides(extents)) if same else "its epilogue runs over another shape"
    if isinstance(found, str):
        return found
    result = dtypes.short_name(found.dtype)
    if result not in _RESULTS[sums] or (result != sums and result != kinds[0]):
        return f"a product of {kinds[0]} is not stored as {result}"
    if 0 in (*product.batch, product.m, product.n, product.k):
        return "an empty product"
    m, batch = product.m, math.prod(product.batch)
    a = _factor(product.a, (*product.batch, product.m, product.k), 0)
    b = _factor(product.b, (*product.batch, product.k, product.n), 1)
    if a is None or b is None:
        return "a factor is stored with other strides than a matrix's rows or columns"
    if not b.batch_stride and not a.transposed and a.batch_stride == m * a.leading:
        m, batch = m * batch, 1  # rows of all matrices one behind the other, times the same matrix
    visible = {-1: -1}
    if nest is not None:
        places = [k for k, argument in enumerate(nest.arguments) if k and argument.kind != "scratch"]
        visible |= {k: n + 2 for n, k in enumerate(places)}
    return LibraryCall(
        "cublaslt", m, product.n, product.k, batch, a, b, visible.get(found.result, 2), result, visible[found.bias],
        found.relu, precision, found.scale, visible[found.more], found.share,
    )  # fmt: skip


def described(call: LibraryCall) -> str:
    """What a call computes, for people."""
    text = "A B" if call.scale == 1 else f"{call.scale:g} A B"
    if call.more >= 0:
        text += " + D" if call.share == 1 else f" + {call.share:g} D"
    text += " + bias" if call.bias >= 0 else ""
    text = f"relu({text})" if call.relu else text
    count = f"{call.batch} times " if call.batch > 1 else ""
    return f"{text}, {count}[{call.m}, {call.k}] by [{call.k}, {call.n}] of {call.a.dtype} to {call.dtype}"


def _factor(view: View, shape: tuple[int, ...], argument: int) -> Factor | None:
    """A factor as the library sees it: stored by rows or by columns, one matrix after the other."""
    *batch, m, n = shape
    *outer, rows, columns = view.strides
    rows, columns = rows if m > 1 else n, columns if n > 1 else 1  # of one row, where the next begins is all the same
    step, inner = 0, 1
    for extent, stride in zip(reversed(batch), reversed(outer)):
        if extent > 1:
            step = stride if inner == 1 else step
            if stride != step * inner:
                return None
            inner *= extent
    kind = view.base.dtype
    offset, name = view.offset * kind.itemsize, dtypes.short_name(kind)
    if columns == 1 and rows >= n:
        return Factor(argument, offset, name, False, rows, step)
    if (rows == 1 or m == 1) and columns >= m:
        return Factor(argument, offset, name, True, columns, step)
    return None


@dataclass(frozen=True)
class _Sum:
    """A value of an epilogue: ``sums * of_sums + more * of_more + bias * of_bias + number``, relu of it if ``relu``."""

    of_sums: float = 0.0
    of_more: float = 0.0
    of_bias: float = 0.0
    number: float = 0.0
    relu: bool = False

    @property
    def is_number(self) -> bool:
        return not (self.of_sums or self.of_more or self.of_bias or self.relu)

    def times(self, factor: float) -> _Sum:
        return self.plus(self, factor, 0)

    def plus(self, other: _Sum, factor: float = 1, own: float = 1) -> _Sum:
        """``own`` times this value and ``factor`` times another."""
        return _Sum(
            own * self.of_sums + factor * other.of_sums,
            own * self.of_more + factor * other.of_more,
            own * self.of_bias + factor * other.of_bias,
            own * self.number + factor * other.number,
        )


def _computed(name: str, sources: Sequence[_Sum]) -> _Sum | None:
    """What an operation makes of such values; None for what is not such a value."""
    first, last = sources[0], sources[-1]
    if name == "cast":  # the library rounds once, at the end
        return first
    if any(x.relu for x in sources):
        return None
    match name:
        case "negative":
            return first.times(-1)
        case "add":
            return first.plus(last)
        case "subtract":
            return first.plus(last, -1)
        case "multiply" if first.is_number or last.is_number:
            return last.times(first.number) if first.is_number else first.times(last.number)
        case "true_divide" if last.is_number and last.number:
            return first.times(1 / last.number)
        case "relu":
            return replace(first, relu=True)
        case "maximum" if _Sum() in sources:
            return replace(first.plus(last), relu=True)
    return None


def epilogue_of(nest: LoopNest, dense: tuple[int, ...]) -> Epilogue | str:
    """An epilogue that the library knows, or why it is none."""
    if len(nest.stages) != 1 or len(nest.inner) != 1:
        return "its epilogue has several stages"
    column, extents = len(nest.outer), [axis.extent for axis in (*nest.outer, *nest.inner)]

    def whole(axes: Mapping[int, int]) -> bool:
        return all(axes.get(k, 0) == stride for k, stride in enumerate(dense) if extents[k] > 1)

    values: dict[int, _Sum] = {}
    more = bias = -1
    for statement in nest.stages[0].body:
        match statement:
            case Load(result, 0):
                values[result] = _Sum(of_sums=1)
            case Load(_, argument) if nest.arguments[argument].kind == "scalar":
                return "its epilogue has a number that is known only at run time"
            case Load(result, argument, Offset(0, axes, {}), ()) if _only(axes, column) and bias in (-1, argument):
                values[result], bias = _Sum(of_bias=1), argument
            case Load(result, argument, Offset(0, axes, {}), ()) if whole(axes) and more in (-1, argument):
                values[result], more = _Sum(of_more=1), argument
            case Constant(result, _, value):
                values[result] = _Sum(number=float(value))
            case Compute(result, op, _, operands):
                made = _computed(op.name, [values[k] for k in operands])
                if made is None:
                    return f"its epilogue computes {op.name}"
                values[result] = made
            case Store(argument, Offset(0, axes, {}), value, False, False) if nest.stages[0].body[-1] is statement:
                made, target = values[value], nest.arguments[argument]
                if not whole(axes):
                    return "its result is stored in another order"
                if target.kind != "output" and argument != more:
                    return "its epilogue stores in place"
                if not made.of_sums or made.of_bias not in (0, 1) or made.number:
                    return "its epilogue adds another multiple of what it adds than the library does"
                if any(nest.arguments[k].dtype != target.dtype for k in (bias, more) if k >= 0):
                    return "its epilogue adds numbers of another dtype"
                return Epilogue(
                    target.dtype, argument, bias if made.of_bias else -1, made.relu, made.of_sums,
                    more if made.of_more else -1, made.of_more,
                )  # fmt: skip
            case Store():
                return "its epilogue stores several results, or with other strides"
            case _:
                return f"its epilogue has a {type(statement).__name__.lower()} that the library has not"
    return "its epilogue stores nothing"


def _only(axes: Mapping[int, int], column: int) -> bool:
    """Whether an offset moves with the column alone, element by element."""
    return {axis: stride for axis, stride in axes.items() if stride} == {column: 1}
