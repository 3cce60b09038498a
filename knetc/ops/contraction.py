"""Sums of products over named axes, made of matrix products: ``einsum`` and ``tensordot``."""

from __future__ import annotations

import math
from string import ascii_letters
from typing import Any

import numpy as np

from knetc.ir.node import Node
from knetc.ir.record import record
from knetc.ops import reduction
from knetc.ops.apply import (
    Operand,
    broadcast_node,
    cast_node,
    common_dtype,
    composite,
    reshape_node,
    to_nodes,
    wrap_like,
)
from knetc.ops.identities import iota
from knetc.ops.linear import MATMUL, product_dtype
from knetc.ops.logic import equal, where
from knetc.ops.movement import normalize_axis, permute_node
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError


def _parse(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """The labels of each operand and of the result; the axes of an ellipsis get labels of their own."""
    text = subscripts.replace(" ", "")
    given, arrow, result = text.partition("->")
    operands = given.split(",")
    if len(operands) != len(ndims):
        raise ShapeError(f"einsum {subscripts!r} names {len(operands)} operands, but {len(ndims)} were given")
    spare = [c for c in ascii_letters if c not in text]
    named = [len(labels.replace("...", "")) for labels in operands]
    most = max([n - k for labels, n, k in zip(operands, ndims, named) if "..." in labels], default=0)
    dots = "".join(spare[: max(most, 0)])
    labelled = []
    for labels, n, k in zip(operands, ndims, named):
        if n < k or (n != k and "..." not in labels) or "." in labels.replace("...", "", 1):
            raise ShapeError(f"einsum {subscripts!r}: {labels!r} does not name the {n} axes of its operand")
        labelled.append(labels.replace("...", dots[len(dots) - (n - k) :]))
    if not arrow:
        every = "".join(labelled)
        result = dots + "".join(sorted(c for c in set(every) - set(dots) if every.count(c) == 1))
    result = result.replace("...", dots)
    if len(set(result)) != len(result) or not set(result) <= set("".join(labelled)):
        raise ShapeError(f"einsum {subscripts!r}: the result names an axis twice, or one that no operand has")
    return labelled, result


def _diagonal(x: Node, labels: str) -> tuple[Node, str]:
    """A label that an operand has twice: only elements with equal indices count."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first, second = labels.index(label), labels.rindex(label)
            same = equal(iota(dtypes.i64, x.shape, first), iota(dtypes.i64, x.shape, second))
            x = reduction.sum(where(same, x, 0), second, dtype=x.dtype)
            labels = labels[:second] + labels[second + 1 :]
    return x, labels


def _summed(x: Node, labels: str, needed: str) -> tuple[Node, str]:
    """Without the axes that nothing else needs."""
    gone = tuple(k for k, c in enumerate(labels) if c not in needed)
    return (reduction.sum(x, gone, dtype=x.dtype) if gone else x), "".join(c for c in labels if c in needed)


def _arranged(x: Node, labels: str, wanted: str) -> Node:
    return permute_node(x, tuple(labels.index(c) for c in wanted))


def _contract(a: Node, a_labels: str, b: Node, b_labels: str, needed: str) -> tuple[Node, str]:
    """Two operands as one, by a product of (stacks of) matrices; axes not ``needed`` are summed."""
    a, a_labels = _summed(a, a_labels, b_labels + needed)
    b, b_labels = _summed(b, b_labels, a_labels + needed)
    extents: dict[str, int] = {}
    for labels, x in ((a_labels, a), (b_labels, b)):
        for c, n in zip(labels, x.shape):
            extents[c] = n if extents.get(c, 1) == 1 else extents[c]
    batch = "".join(c for c in a_labels if c in b_labels and c in needed)
    inner = "".join(c for c in a_labels if c in b_labels and c not in needed)
    rows = "".join(c for c in a_labels if c not in b_labels)
    columns = "".join(c for c in b_labels if c not in a_labels)

    def sizes(labels: str) -> tuple[int, ...]:
        return tuple(extents[c] for c in labels)

    def matrices(x: Node, labels: str, first: str, second: str) -> Node:
        whole = broadcast_node(_arranged(x, labels, batch + first + second), sizes(batch + first + second))
        return reshape_node(whole, (*sizes(batch), math.prod(sizes(first)), math.prod(sizes(second))))

    left, right = matrices(a, a_labels, rows, inner), matrices(b, b_labels, inner, columns)
    product = record(MATMUL, (left, right)) if inner else left * right
    return reshape_node(product, sizes(batch + rows + columns)), batch + rows + columns


def einsum(subscripts: Any, *operands: Any) -> Any:
    """Products summed over named axes, as in NumPy: ``"ij,jk->ik"`` is the matrix product.

    Takes repeated labels (diagonals), an ellipsis, broadcasting of extents 1 and an implicit result. Operands are
    combined two by two, in the order that costs least by a greedy estimate. Raises ShapeError for subscripts that do
    not fit them. NumPy's other form is taken too: each operand followed by a list of its axes' numbers.

    >>> einsum("bij,bj->bi", kn.ones((2, 3, 4)), kn.ones((2, 4)))  # shape (2, 3)
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _spelled(subscripts, *operands)
    dtype = common_dtype(*operands)
    within = dtype if dtype == dtypes.boolean else product_dtype(dtype)
    nodes = [cast_node(cast_node(node, dtype), within) for node in to_nodes(*operands)]
    labelled, result = _parse(subscripts, [node.ndim for node in nodes])
    extents: dict[str, int] = {}
    for labels, node in zip(labelled, nodes):
        for c, n in zip(labels, node.shape):
            if extents.setdefault(c, n) != n and 1 not in (n, extents[c]):
                raise ShapeError(f"einsum {subscripts!r}: axis {c!r} is of extent {extents[c]} and of extent {n}")
            extents[c] = max(n, extents[c]) if 0 not in (n, extents[c]) else 0
    parts = [_diagonal(node, labels) for node, labels in zip(nodes, labelled)]
    for pair in _order(parts, result):
        (a, a_labels), (b, b_labels) = (parts[k] for k in pair)
        parts = [part for k, part in enumerate(parts) if k not in pair]
        needed = result + "".join(labels for _, labels in parts)
        parts.append(_contract(a, a_labels, b, b_labels, needed))
    [(total, labels)] = parts
    total, labels = _summed(total, labels, result)
    return wrap_like(operands, cast_node(_arranged(total, labels, result), dtype))


def _spelled(*given: Any) -> tuple[str, tuple[Any, ...]]:
    """Operands and lists of axes' numbers in turn as letters and operands."""

    def letters(axes: Any) -> str:
        return "".join("..." if axis is Ellipsis else ascii_letters[axis] for axis in axes)

    whole = len(given) - len(given) % 2
    result = f"->{letters(given[-1])}" if len(given) % 2 else ""
    return ",".join(map(letters, given[1:whole:2])) + result, given[:whole:2]


def _order(parts: list[tuple[Node, str]], result: str) -> list[tuple[int, int]]:
    """Which two operands to combine, one pair after the other; what comes out goes to the end of the list."""
    if len(parts) < 3:
        return [(0, 1)] * (len(parts) - 1)
    text = ",".join(labels for _, labels in parts) + "->" + result
    steps = np.einsum_path(text, *(np.broadcast_to(0.0, x.shape) for x, _ in parts), optimize="greedy")[0][1:]
    pairs = []
    for step in steps:
        first, *others = sorted(step)
        pairs.append((first, others[0]))
        # a step of more than two (a last product of all) goes pair by pair, each result being last of the list
        remaining = len(step) - 2
        pairs.extend([(0, 1)] * remaining if remaining else [])
    return pairs


@composite(2)
def tensordot(a: Operand, b: Operand, axes: int | tuple[Any, Any] = 2) -> Any:
    """The sum of products over axes of ``a`` paired with axes of ``b``: the last and first ones, or those named.

    >>> tensordot(kn.ones((2, 3, 4)), kn.ones((4, 3)), axes=([2, 1], [0, 1]))  # shape (2,)
    """
    left, right = to_nodes(a, b)
    if isinstance(axes, int):
        pairs = [(left.ndim - axes + k, k) for k in range(axes)]
    else:
        firsts, seconds = ((n,) if isinstance(n, int) else tuple(n) for n in axes)
        if len(firsts) != len(seconds):
            raise ShapeError(f"tensordot: {len(firsts)} axes of the first cannot be paired with {len(seconds)}")
        pairs = list(zip(firsts, seconds))
    labels_a = list(ascii_letters[: left.ndim])
    labels_b = list(ascii_letters[left.ndim : left.ndim + right.ndim])
    for first, second in pairs:
        i, j = normalize_axis("tensordot", first, left.ndim), normalize_axis("tensordot", second, right.ndim)
        if left.shape[i] != right.shape[j]:
            raise ShapeError(f"tensordot: axis {i} of {left.type} and axis {j} of {right.type} differ in extent")
        labels_b[j] = labels_a[i]
    result = "".join(c for c in labels_a if c not in labels_b) + "".join(c for c in labels_b if c not in labels_a)
    return einsum(f"{''.join(labels_a)},{''.join(labels_b)}->{result}", left, right)


__all__ = ["einsum", "tensordot"]
