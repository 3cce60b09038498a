"""Matrix products that cuBLASLt can make: the record of the call, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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
    """What is done with the sums before they are stored, as far as the library knows it."""

    dtype: np.dtype
    """Of the result."""
    result: int
    """The nest's argument that is stored to."""
    bias: int = -1
    """The nest's argument that is added to each row; -1 for none."""
    relu: bool = False


def library_call(product: Product, nest: LoopNest | None, precision: str) -> LibraryCall | str:
    """The library call for a product and its epilogue, or why there is none.

    The call's arguments are those of the generated kernel: both operands, then the epilogue's but the first.
    """
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
    batch = math.prod(product.batch)
    a = _factor(product.a, (*product.batch, product.m, product.k), 0)
    b = _factor(product.b, (*product.batch, product.k, product.n), 1)
    if a is None or b is None:
        return "a factor is stored with other strides than a matrix's rows or columns"
    visible = {}
    if nest is not None:
        places = [k for k, argument in enumerate(nest.arguments) if k and argument.kind != "scratch"]
        visible = {k: n + 2 for n, k in enumerate(places)}
    c = visible.get(found.result, 2)
    bias = visible[found.bias] if found.bias >= 0 else -1
    if batch > 1 and bias >= 0:
        return "a batch with a bias is made in one pass by the generated kernel alone"
    return LibraryCall("cublaslt", product.m, product.n, product.k, batch, a, b, c, result, bias, found.relu, precision)


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


def epilogue_of(nest: LoopNest, dense: tuple[int, ...]) -> Epilogue | str:
    """An epilogue that the library knows (a bias for each column, relu, a last rounding), or why it is none."""
    if len(nest.stages) != 1 or len(nest.inner) != 1:
        return "its epilogue has several stages"
    column, extents = len(nest.outer), [axis.extent for axis in (*nest.outer, *nest.inner)]
    values: dict[int, str] = {}
    bias, relu = -1, False
    for statement in nest.stages[0].body:
        match statement:
            case Load(result, 0):
                values[result] = "sums"
            case Load(result, argument, Offset(0, axes, {}), ()) if _only(axes, column):
                values[result], bias = "bias", argument if bias < 0 else -2
            case Constant(result, _, value) if value == 0:
                values[result] = "zero"
            case Compute(result, op, _, operands):
                seen = sorted(values.get(k, "other") for k in operands)
                if op.name == "add" and seen == ["bias", "sums"] and not relu:
                    values[result] = "sums"
                elif (op.name, seen) in (("relu", ["sums"]), ("maximum", ["sums", "zero"])) and not relu:
                    values[result], relu = "sums", True
                elif op.name == "cast" and seen == ["sums"]:  # the library rounds once, at the end
                    values[result] = "sums"
                elif op.name == "cast" and seen in (["bias"], ["zero"]):
                    values[result] = seen[0]
                else:
                    return f"its epilogue computes {op.name}"
            case Store(argument, Offset(0, axes, {}), value, False, False) if values.get(value) == "sums":
                if any(axes.get(k, 0) != stride for k, stride in enumerate(dense) if extents[k] > 1):
                    return "its result is stored in another order"
                if nest.arguments[argument].kind != "output" or nest.stages[0].body[-1] is not statement:
                    return "its epilogue stores several results, or in place"
                dtype = nest.arguments[argument].dtype
                if bias == -2 or (bias >= 0 and nest.arguments[bias].dtype != dtype):
                    return "its epilogue adds a bias of another dtype"
                return Epilogue(dtype, argument, bias, relu)
            case _:
                return f"its epilogue has a {type(statement).__name__.lower()} that the library has not"
    return "its epilogue stores nothing"


def _only(axes: Mapping[int, int], column: int) -> bool:
    """Whether an offset moves with the column alone, element by element."""
    return {axis: stride for axis, stride in axes.items() if stride} == {column: 1}
