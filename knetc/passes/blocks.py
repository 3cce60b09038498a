"""Blocks of arrays: what assigning to ``x[2]`` or ``x[1:3, 4:]`` chooses, and what reading them receives."""

from __future__ import annotations

from knetc.ir.node import Node
from knetc.ops.apply import constant
from knetc.ops.arithmetic import add
from knetc.ops.logic import where
from knetc.ops.movement import pad_node, slice_node
from knetc.runtime.base import dtypes

Block = tuple[tuple[int, ...], tuple[int, ...]]
"""From which element to which, along each axis."""


def block_of(mask: Node) -> Block | None:
    """Where a truth holds that does so in one block of an array and nowhere else."""
    if mask.op.name != "pad" or mask["value"] or mask.sources[0].op.name != "constant":
        return None
    stops = tuple([low + n for low, n in zip(mask["low"], mask.sources[0].shape)])
    return (mask["low"], stops) if mask.sources[0]["value"] else None


def is_cleared(node: Node) -> bool:
    """Whether a value is another one with a block of zeros: what an array receives that was assigned to."""
    if node.op.name != "where" or node.sources[1].op.name != "constant" or node.sources[1]["value"] != 0:
        return False
    return block_of(node.sources[0]) is not None


def added_to_block(x: Node, padded: Node) -> Node:
    """``x + padded`` where ``padded`` is padded with zeros, as an assignment of what is there and the value."""
    [value] = padded.sources
    low, high = padded["low"], padded["high"]
    mask = pad_node(constant(True, dtypes.boolean, value.shape), low, high, False)
    stops = tuple([k + n for k, n in zip(low, value.shape)])
    there = slice_node(x, low, stops, (1,) * x.ndim)
    return where(mask, pad_node(add(there, value), low, high, 0), x)  # type: ignore[no-any-return]
