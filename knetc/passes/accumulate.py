"""What a value receives from all its users, added up; contributions to different places of it are joined instead.

Reading ``x[0]``, ``x[1]``, … gives a derivative for each row, which is zero elsewhere. To add them up would go through
all of x for every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from knetc.ir.node import Node
from knetc.ir.types import Shape
from knetc.ops.apply import constant
from knetc.ops.arithmetic import add
from knetc.ops.movement import concat_node, pad_node
from knetc.passes.blocks import added_to_block, is_cleared


def total(contributions: Sequence[Node]) -> Node:
    """The sum of values of one type."""
    padded = [node for node in contributions if node.op.name == "pad" and node["value"] == 0]
    others = [node for node in contributions if node.op.name != "pad" or node["value"] != 0]
    if len(others) == 1 and is_cleared(others[0]):  # of an array that was read, then assigned to
        return reduce(added_to_block, padded, others[0])
    if len(padded) < 2:
        return _sum(contributions)
    joined = _placed([_Block(node.sources[0], node["low"]) for node in padded], padded[0].shape, 0)
    return _sum([*others, joined])


def _sum(values: Sequence[Node]) -> Node:
    return reduce(add, values)


@dataclass(frozen=True)
class _Block:
    """A value and the place where its first element belongs."""

    value: Node
    low: tuple[int, ...]


def _placed(blocks: Sequence[_Block], shape: Shape, axis: int) -> Node:
    """The sum of blocks, each at its place in zeros of this shape; along axes before this one they are as long."""
    if axis == len(shape):
        return _sum([block.value for block in blocks])
    groups: dict[tuple[int, int], list[_Block]] = {}
    for block in blocks:
        groups.setdefault((block.low[axis], block.value.shape[axis]), []).append(block)
    rows: list[tuple[int, Node]] = []
    for (low, extent), group in sorted(groups.items(), key=lambda item: item[0]):
        rows.append((low, _placed(group, (*shape[:axis], extent, *shape[axis + 1 :]), axis + 1)))
    layers: list[list[tuple[int, Node]]] = []
    ends: list[int] = []
    for low, value in rows:
        k = next((k for k, end in enumerate(ends) if end <= low), len(layers))
        if k == len(layers):
            layers.append([])
            ends.append(0)
        layers[k].append((low, value))
        ends[k] = low + value.shape[axis]
    return _sum([_joined(layer, shape, axis) for layer in layers])


def _joined(rows: Sequence[tuple[int, Node]], shape: Shape, axis: int) -> Node:
    """Values one behind the other along an axis, with zeros between them."""
    if len(rows) == 1:
        [(low, value)] = rows
        before = tuple([low if k == axis else 0 for k in range(len(shape))])
        return pad_node(value, before, tuple([n - m - k for n, m, k in zip(shape, value.shape, before)]), 0)
    parts: list[Node] = []

    def fill(begin: int, end: int) -> None:
        if end > begin:
            parts.append(constant(0, rows[0][1].dtype, (*shape[:axis], end - begin, *shape[axis + 1 :])))

    end = 0
    for low, value in rows:
        fill(end, low)
        parts.append(value)
        end = low + value.shape[axis]
    fill(end, shape[axis])
    return concat_node(parts, axis)
