"""In which order elements are: what argsort and its kin are made of.

What is sorted are unsigned numbers of 64 bits that hold an element's rank above and its place below: these are
distinct, so equal elements keep their order, and the numbers tell the places.
"""

from __future__ import annotations

import math

import numpy as np

from knetc.ir.node import Node
from knetc.ops.apply import broadcast_node, cast_node, reshape_node, widened
from knetc.ops.arithmetic import clip
from knetc.ops.bits import bitcast
from knetc.ops.host import host_call
from knetc.ops.identities import iota
from knetc.ops.logic import bitwise_and, bitwise_or, bitwise_xor, equal, invert, isnan, left_shift, right_shift, where
from knetc.ops.reduction import max as largest
from knetc.ops.reduction import min as smallest
from knetc.runtime.base import dtypes


def sortable(x: Node) -> Node:
    """``x`` in a dtype that is sorted: what orders alike."""
    return cast_node(x, dtypes.u8) if x.dtype == dtypes.boolean else widened(x)


def sorted_rows(x: Node) -> Node:
    """``x``, of a dtype that is sorted, in order along its last axis."""
    [result] = host_call("sorting.sort", [x], [x.type])
    return result


def ranks(x: Node) -> Node:
    """Unsigned numbers of 32 or 64 bits in the order of ``x``: equal ones for equals, the largest for NaN."""
    x = sortable(x)
    signed, unsigned = (dtypes.i32, dtypes.u32) if x.dtype.itemsize <= 4 else (dtypes.i64, dtypes.u64)
    lowest = -(1 << (8 * signed.itemsize - 1))
    if x.dtype.kind == "u":
        return cast_node(x, unsigned)
    if x.dtype.kind == "i":
        return bitcast(bitwise_xor(cast_node(x, signed), lowest), unsigned)  # type: ignore[no-any-return]
    plain = where(isnan(x), math.nan, where(equal(x, 0), 0.0, x))  # one zero, one NaN
    bits = bitcast(plain, signed)
    turned = bitwise_or(right_shift(bits, 8 * signed.itemsize - 1), lowest)  # all bits of what is negative
    return bitcast(bitwise_xor(bits, turned), unsigned)  # type: ignore[no-any-return]


def order(x: Node, *, falling: bool = False) -> Node:
    """The places (int64) of the elements along the last axis in order, or in falling order; equal ones as they came."""
    n = x.shape[-1]
    found = invert(ranks(x)) if falling else ranks(x)
    places = iota(dtypes.u64, x.shape, x.ndim - 1)
    if found.dtype == dtypes.u64 and n > 1:
        return _order_of_wide(found, places)
    keys = _joined(cast_node(found, dtypes.u64), 32, places)
    return cast_node(bitwise_and(sorted_rows(keys), (1 << 32) - 1), dtypes.i64)


def _joined(above: Node, bits: int, below: Node) -> Node:
    """Numbers put above others of so many bits."""
    return bitwise_or(left_shift(above, bits), below)  # type: ignore[no-any-return]


def _order_of_wide(found: Node, places: Node) -> Node:
    """The order of ranks of 64 bits.

    A row's ranks are counted from the smallest one. If they and the places need more than 64 bits, the ranks' lowest
    bits are left out, and where ranks agree in all others, ``settled`` sorts once more by these.
    """
    n, axis = found.shape[-1], found.ndim - 1
    bits = (n - 1).bit_length()
    low = smallest(found, axis, keepdims=True)
    span = largest(found, axis, keepdims=True) - low
    needed = right_shift(bitcast(cast_node(span, dtypes.f64), dtypes.i64), 52) - 1022  # as many bits, or one more
    shift = cast_node(clip(needed + (bits - 64), 0, 63), dtypes.u64)
    above = found - broadcast_node(low, found.shape)
    spread = broadcast_node(shift, found.shape)
    rest = bitwise_and(above, left_shift(np.uint64(1), spread) - 1)
    keys = sorted_rows(_joined(right_shift(above, spread), bits, places))
    sources = [keys, _joined(rest, bits, places), reshape_node(shift, shift.shape[:-1])]
    [result] = host_call("sorting.settled", sources, [found.type.with_dtype(dtypes.i64)])
    return result
