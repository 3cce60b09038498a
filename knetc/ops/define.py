"""How operations are declared: one constructor for each kind, and the type rules that records share.

The constructor that an operation uses is all that fusion looks at; everything else is in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import Domain, Kind, Op, Sample, register
from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError

Gradient = Callable[[Node, Node], tuple[Node | None, ...]]

_KINDS = {"f": "floating-point", "i": "integer", "b": "bool"}


def kind_of(dtype: np.dtype) -> str:
    """The letter by which records say which dtypes they take: f, i or b."""
    return "f" if dtypes.is_float(dtype) else "b" if dtype.kind == "b" else "i"


def check_kind(name: str, dtype: np.dtype, accepts: str) -> None:
    """Raise DtypeError unless an operation takes arrays of this dtype."""
    if kind_of(dtype) not in accepts:
        taken = " or ".join(_KINDS[k] for k in accepts)
        raise DtypeError(
            f"{name} takes {taken} arrays, not {dtype}; cast first, for example with x.astype({_example(accepts)!r})"
        )


def _example(accepts: str) -> str:
    return "float32" if "f" in accepts else "int64" if "i" in accepts else "bool"


def check_same(name: str, types: Sequence[TensorType]) -> None:
    """Raise unless all types are equal: in the IR promotion and broadcasting are operations of their own."""
    for other in types[1:]:
        if other.dtype != types[0].dtype:
            raise DtypeError(f"{name} takes sources of one dtype, not {' and '.join(str(t) for t in types)}")
        if other.shape != types[0].shape:
            raise ShapeError(f"{name} takes sources of one shape, not {' and '.join(str(t) for t in types)}")


def check_accumulates(name: str, dtype: np.dtype) -> None:
    """Raise DtypeError for the narrow floats, in which nothing is added up."""
    if dtypes.accumulator(dtype) != dtype:
        raise DtypeError(f"{name} adds up {dtype} in float32: cast to float32 first, and the result back")


def like_sources(name: str, accepts: str, result: np.dtype | None = None) -> Callable[..., TensorType]:
    """The type rule of most elementwise operations: sources of one type, which the result has too (or its shape)."""

    def infer(*types: TensorType, **_: object) -> TensorType:
        check_same(name, types)
        check_kind(name, types[0].dtype, accepts)
        return types[0] if result is None else types[0].with_dtype(result)

    return infer


def elementwise(
    name: str,
    *,
    reference: Callable[..., Any],
    emit: Callable[..., Any],
    triton: str = "",
    gradient: Gradient | None = None,
    accepts: str = "f",
    result: np.dtype | None = None,
    infer: Callable[..., TensorType] | None = None,
    arity: int = 1,
    symbol: str = "",
    cost: int = 1,
    domains: tuple[Domain, ...] = (),
    samples: Sequence[Sample] = (),
    ulp: float = 4.0,
    bad: Sequence[tuple[Sample, type[Exception]]] = (),
    order: int = 2,
    commutative: bool = False,
    exact: bool = False,
    sums_to_products: bool = False,
) -> Op:
    """Declare an operation on elements.

    ``accepts`` lists the dtype kinds that it takes; ``result`` is the result's dtype where it is not the sources'.
    ``emit`` writes its code for every device; ``triton`` is needed only where GPUs have something better.
    ``exact`` tells that it rounds nothing.
    """
    return register(
        Op(
            name,
            Kind.ELEMENTWISE,
            infer or like_sources(name, accepts, result),
            reference=reference,
            gradient=gradient,
            emit=emit,
            triton=triton,
            symbol=symbol,
            cost=cost,
            domains=domains,
            samples=samples,
            dtypes=accepts,
            arity=arity,
            commutative=commutative,
            differentiable_order=0 if gradient is None else order,
            ulp=ulp,
            bad=bad,
            exact=exact,
            sums_to_products=sums_to_products,
        )
    )


def structural(
    name: str,
    kind: Kind,
    infer: Callable[..., TensorType],
    *,
    reference: Callable[..., Any],
    gradient: Gradient | None = None,
    samples: Sequence[Sample] = (),
    bad: Sequence[tuple[Sample, type[Exception]]] = (),
    arity: int = 1,
    cost: int = 1,
    ulp: float = 4.0,
    symbol: str = "",
    accepts: str = "fib",
) -> Op:
    """Declare an operation whose result is arranged otherwise than its sources: movement, indexed, library, leaf."""
    return register(
        Op(
            name,
            kind,
            infer,
            reference=reference,
            gradient=gradient,
            samples=samples,
            bad=bad,
            arity=arity,
            cost=cost,
            ulp=ulp,
            symbol=symbol,
            dtypes=accepts,
            differentiable_order=0 if gradient is None else 2,
        )
    )


def type_of(text: str) -> TensorType:
    """A type from its printed form: ``f32[8,10]``."""
    name, _, extents = text.partition("[")
    return TensorType(dtypes.from_short_name(name), tuple(int(n) for n in extents.rstrip("]").split(",") if n))


def case(*types: str, domains: tuple[Domain, ...] = (), **attributes: Hashable) -> Sample:
    """A sample for a record: ``case("f32[8,10]", axes=(1,))``."""
    return Sample(tuple(map(type_of, types)), attributes, domains)
