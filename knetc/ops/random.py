"""Random numbers by counting: each draw takes its own stretch of one stream, and element i is a function of its place.

So the numbers depend on the seed and on the order of the draws, not on threads, fusion or devices.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.ir.record import record, recorder
from knetc.ir.types import Shape, TensorType
from knetc.ops import define, vector_math
from knetc.ops.apply import Operand, broadcast_node, cast_node, composite, constant, reshape_node, slots, to_nodes
from knetc.ops.identities import iota
from knetc.ops.logic import bitwise_and, greater_equal, right_shift, where
from knetc.ops.transcendental import cos, log, sqrt
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError


def _infer_philox(counter: TensorType, key: TensorType) -> TensorType:
    define.check_same("philox", (counter, key, counter.with_dtype(dtypes.i64)))
    return counter.with_dtype(dtypes.i32)


PHILOX = define.elementwise(
    "philox",
    infer=_infer_philox,
    reference=vector_math.philox_reference,
    emit=vector_math.philox,
    accepts="i",
    arity=2,
    cost=40,
    samples=[define.case("i64[67]", "i64[67]"), define.case("i64[]", "i64[]"), define.case("i64[0]", "i64[0]")],
    bad=[(define.case("i32[3]", "i64[3]"), DtypeError)],
)


def random_bits(count: int) -> Node:
    """``count`` fresh i32 values of 32 random bits each."""
    base = broadcast_node(recorder().random_base(count), (count,))
    return record(PHILOX, (base + iota(dtypes.i64, (count,), 0), constant(0, dtypes.i64, (count,))))


def _upper(bits: Node, count: int, dtype: np.dtype) -> Node:
    """The upper ``count`` bits as a number that is not negative."""
    return cast_node(bitwise_and(right_shift(bits, 32 - count), (1 << count) - 1), dtype)


def uniform_node(shape: Shape, dtype: np.dtype) -> Node:
    """Uniform numbers in [0, 1): multiples of 2**-24, of 2**-53 for float64, 2**-11 for float16, 2**-8 for bfloat16."""
    if not dtypes.is_float(dtype):
        raise DtypeError(f"uniform random numbers are floating-point, not {dtype}")
    count = math.prod(shape)
    if dtype == dtypes.f64:
        upper, lower = _upper(random_bits(count), 27, dtype), _upper(random_bits(count), 26, dtype)
        flat = (upper * 2.0**26 + lower) * 2.0**-53
    else:
        bits = dtypes.mantissa_bits(dtype) + 1
        flat = _upper(random_bits(count), bits, dtype) * 2.0**-bits
    return reshape_node(flat, shape)


def normal_node(shape: Shape, dtype: np.dtype) -> Node:
    """Numbers of the standard normal distribution, each from two uniform ones (Box and Muller)."""
    if dtypes.is_narrow(dtype):
        return cast_node(normal_node(shape, dtypes.f32), dtype)
    radius = sqrt(log(1 - uniform_node(shape, dtype)) * -2)
    result: Node = radius * cos(uniform_node(shape, dtype) * (2 * math.pi))
    return result


def as_shape(given: tuple[Any, ...]) -> Shape:
    """A shape given as several integers, or as one tuple or list of them; raises TypeError for other numbers."""
    extents: Sequence[Any] = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    try:
        return tuple(operator.index(n) for n in extents)
    except TypeError:
        raise TypeError(f"a shape consists of integers, not {tuple(extents)}") from None


def rand(*shape: int | Sequence[int], dtype: Any = None) -> Any:
    """Uniform random numbers in [0, 1), of the default floating dtype or another.

    >>> rand(2, 3)  # shape (2, 3)
    """
    return slots.to_array(uniform_node(as_shape(shape), ambient().dtype if dtype is None else dtypes.as_dtype(dtype)))


def randn(*shape: int | Sequence[int], dtype: Any = None) -> Any:
    """Random numbers of the standard normal distribution, of the default floating dtype or another.

    >>> randn(2, 3)  # shape (2, 3)
    """
    return slots.to_array(normal_node(as_shape(shape), ambient().dtype if dtype is None else dtypes.as_dtype(dtype)))


def randint(low: int, high: int, shape: int | Sequence[int] = ()) -> Any:
    """Random int64 numbers in ``low <= n < high``; raises ValueError for an empty range or one of 2**31 or more.

    >>> randint(0, 10, (2, 3))  # shape (2, 3)
    """
    if not 0 < high - low < 1 << 31:
        raise ValueError(f"randint: there must be 1 to 2**31 - 1 numbers in {low} <= n < {high}")
    extents = (shape,) if isinstance(shape, int) else tuple(shape)
    bits = bitwise_and(cast_node(random_bits(math.prod(extents)), dtypes.i64), 0xFFFFFFFF)
    numbers = right_shift(bits * (high - low), 32) + low
    return slots.to_array(reshape_node(numbers, extents))


@composite()
def dropout(x: Operand, p: float, *, training: bool | None = None) -> Any:
    """``x`` with each element replaced by 0 with probability ``p`` and the others divided by ``1 - p``.

    Only while training (inside ``diff``), unless ``training`` says otherwise; else ``x`` itself. Raises ValueError
    unless ``0 <= p < 1``.

    >>> dropout(kn.ones(1000), 0.5, training=True)
    """
    [node] = to_nodes(x)
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p is a probability below 1, not {p}")
    if p == 0 or not (ambient().training if training is None else training):
        return node
    kept = greater_equal(uniform_node(node.shape, dtypes.f32), p)
    return where(kept, node * (1 / (1 - p)), 0)
