"""What simplification knows about movements: two in a row are often one, and some are none."""

from __future__ import annotations

from collections.abc import Sequence

from knetc.ir.node import Node
from knetc.ir.op import Kind
from knetc.ir.record import record
from knetc.ir.rewrite import Rule, constant_named, operation, variable
from knetc.ir.types import Shape
from knetc.ops.apply import broadcast_node, constant, reshape_node
from knetc.ops.identities import iota
from knetc.ops.linear import swapped
from knetc.ops.movement import concat_node, pad_node, permute_node, slice_node
from knetc.passes.blocks import block_of
from knetc.passes.rules import after

a, x, y = variable("a"), variable("x"), variable("y")
c = constant_named("c")


# --- reshape, broadcast, permute -------------------------------------------------------------------------------------


def _move_constant(node: Node) -> Node | None:
    """All movements but padding only rearrange; padding brings in its own value."""
    values = {source["value"] for source in node.sources if source.op.name == "constant"}
    if len(values) != 1 or any(source.op.name != "constant" for source in node.sources):
        return None
    [first, *rest] = [source["value"] for source in node.sources]
    if node.op.name == "pad":
        rest.append(node["value"])
    if any(repr(value) != repr(first) for value in rest):  # 0.0 is not -0.0
        return None
    return constant(first, node.dtype, node.shape)


def without_leading_ones(shape: Shape) -> Shape:
    """A shape from its first extent that is not 1 on."""
    k = 0
    while k < len(shape) and shape[k] == 1:
        k += 1
    return shape[k:]


def _broadcast_reshape(node: Node, x: Node, y: Node) -> Node | None:
    same = without_leading_ones(x.shape) == without_leading_ones(y.shape)
    return broadcast_node(x, node.shape) if same and x.ndim <= node.ndim else None


def _broadcast_ones(node: Node, x: Node) -> Node | None:
    """A broadcast that repeats nothing only adds axes."""
    return reshape_node(x, node.shape) if x.type.size == node.type.size and node.type.size else None


def _permute_permute(node: Node, x: Node, y: Node) -> Node:
    return permute_node(x, tuple(y["axes"][k] for k in node["axes"]))


def _transposed_product(node: Node, product: Node, x: Node, y: Node) -> Node | None:
    """Transposes in front of a product cost nothing, one behind it costs a pass over memory."""
    last = product.ndim - 2
    if node["axes"] != (*range(last), last + 1, last):
        return None
    return record(product.op, (swapped(y), swapped(x)), product.attributes)


def _permute_ones(node: Node, x: Node) -> Node | None:
    """Axes of extent 1 may move freely: the elements stay where they are."""
    wide = [k for k in node["axes"] if x.shape[k] != 1]
    return reshape_node(x, node.shape) if wide == sorted(wide) else None


REARRANGING = [
    Rule("Moving equal constants gives that constant.", Kind.MOVEMENT, _move_constant),
    Rule(
        "A reshape to a value's own shape changes nothing.",
        operation("reshape", x),
        lambda node, x: x if x.shape == node.shape else None,
    ),
    Rule(
        "The last of two reshapes decides.",
        after("reshape", "reshape"),
        lambda node, x, y: reshape_node(x, node.shape),
    ),
    Rule(
        "The last of two broadcasts decides.",
        after("broadcast", "broadcast"),
        lambda node, x, y: broadcast_node(x, node.shape),
    ),
    Rule("A broadcast that repeats nothing is a reshape.", operation("broadcast", x), _broadcast_ones),
    Rule("A broadcast adds leading axes of its own.", after("broadcast", "reshape"), _broadcast_reshape),
    Rule("Two permutations are one.", after("permute", "permute"), _permute_permute),
    Rule(
        "A transposed product is the product of the transposed factors, exchanged.",
        operation("permute", operation("matmul", x, y, name="product")),
        _transposed_product,
        alone="product",
    ),
    Rule("Permuting axes of extent 1 is a reshape.", operation("permute", x), _permute_ones),
    Rule(
        "Converted indices are indices of that dtype.",
        operation("cast", operation("iota", name="y")),
        lambda node, y: iota(node.dtype, y.shape, y["axis"]) if node.dtype.kind != "b" else None,
    ),
]

# --- slice, pad, concat ----------------------------------------------------------------------------------------------


def ranges(node: Node) -> list[range]:
    """The places that a slice takes, axis by axis."""
    return [range(a, b, c) for a, b, c in zip(node["starts"], node["stops"], node["steps"])]


def sliced(x: Node, places: list[range]) -> Node:
    """The elements of x at these places."""
    return slice_node(x, tuple(r.start for r in places), tuple(r.stop for r in places), tuple(r.step for r in places))


def _compose(inner: range, outer: range) -> range:
    """The places of ``inner`` at the places ``outer``."""
    if not outer:
        return range(0)
    step = inner.step * outer.step
    first, last = inner[outer[0]], inner[outer[-1]]
    return range(first, last + (1 if step > 0 else -1), step)


def _slice_broadcast(node: Node, x: Node, y: Node) -> Node:
    own = ranges(node)[y.ndim - x.ndim :]
    return broadcast_node(sliced(x, [range(1) if n == 1 else places for n, places in zip(x.shape, own)]), node.shape)


def _slice_pad(node: Node, x: Node, y: Node) -> Node | None:
    """Only what lies within the padded value, or besides it."""
    places = []
    for place, low, n in zip(ranges(node), y["low"], x.shape):
        if not place or max(place) < low or min(place) >= low + n:
            return constant(y["value"], node.dtype, node.shape)
        places.append(range(place.start - low, place.stop - low, place.step))
    inside = all(min(place) >= 0 and max(place) < n for place, n in zip(places, x.shape))
    return sliced(x, places) if inside else None


def _slice_choice(node: Node, a: Node, x: Node, y: Node) -> Node | None:
    """What was assigned to a block is read from what was assigned; what lies besides it, from what was there before."""
    block = block_of(a)
    places = ranges(node)
    if block is None or not all(places):
        return None
    if all(low <= min(r) and max(r) < stop for r, low, stop in zip(places, *block)):
        return sliced(x, places)
    besides = any(max(r) < low or min(r) >= stop for r, low, stop in zip(places, *block))
    return sliced(y, places) if besides else None


MAX_ASSIGNED = 8
"""Assignments to blocks of an array that stay choices, each at its place, so that the array may be changed in place."""


def _assigned_before(node: Node, a: Node, x: Node, y: Node) -> Node | None:
    """Blocks assigned one after the other, all of them across the same axis, are values joined along it."""
    axis = _across(a)
    if axis is None:
        return None
    assigned, base = [node], y
    while base.op.name == "where" and _across(base.sources[0]) == axis and len(assigned) < MAX_ASSIGNED:
        assigned.append(base)
        base = base.sources[2]
    parts: Sequence[Node] = [base]
    if base.op.name == "concat" and base["axis"] == axis:
        parts = base.sources
    elif base.op.name == "pad" and _extents(base, axis) == _extents(base.sources[0], axis):
        first, last = (constant(base["value"], y.dtype, _with(y.shape, axis, base[k][axis])) for k in ("low", "high"))
        parts = (first, base.sources[0], last)
    elif len(assigned) < MAX_ASSIGNED:
        return None
    for choice in reversed(assigned):
        mask, value, _ = choice.sources
        block = block_of(mask)
        assert block is not None
        new = sliced(value, [range(*pair) for pair in zip(*block)])
        low, stop = block[0][axis], block[1][axis]
        parts = [*_cut(parts, axis, 0, low), new, *_cut(parts, axis, stop, node.shape[axis])]
    return concat_node(parts, axis)


def _across(mask: Node) -> int | None:
    """The only axis along which a block is not as long as the array."""
    block = block_of(mask)
    axes = [k for k, (low, stop, n) in enumerate(zip(*block, mask.shape)) if stop - low != n] if block else []
    return axes[0] if len(axes) == 1 else None


def _extents(x: Node, but: int) -> list[int]:
    return [n for k, n in enumerate(x.shape) if k != but]


def _with(shape: Shape, axis: int, extent: int) -> Shape:
    return (*shape[:axis], extent, *shape[axis + 1 :])


def _cut(parts: Sequence[Node], axis: int, begin: int, end: int) -> list[Node]:
    """The elements from ``begin`` to ``end`` of values joined along an axis."""
    found = []
    start = 0
    for part in parts:
        n = part.shape[axis]
        low, stop = max(begin - start, 0), min(end - start, n)
        if low < stop:
            whole = [range(m) for m in part.shape]
            found.append(
                part if stop - low == n else sliced(part, [*whole[:axis], range(low, stop), *whole[axis + 1 :]])
            )
        start += n
    return found


def _padded_constant(node: Node, a: Node, x: Node, c: Node) -> Node | None:
    """``x`` is a value padded as the truth is."""
    same = x.op.name == "pad" and a.op.name == "pad" and (x["low"], x["high"]) == (a["low"], a["high"])
    return pad_node(x.sources[0], x["low"], x["high"], c["value"]) if same and block_of(a) is not None else None


def _slice_concat(node: Node) -> Node | None:
    """Only what lies within one of the joined values."""
    joined = node.sources[0]
    places = ranges(node)
    if joined.op.name != "concat" or not places[joined["axis"]]:
        return None
    axis, start = joined["axis"], 0
    along = places[axis]
    for part in joined.sources:
        stop = start + part.shape[axis]
        if start <= min(along) and max(along) < stop:
            places[axis] = range(along.start - start, along.stop - start, along.step)
            return sliced(part, places)
        start = stop
    return None


def _pad_pad(node: Node, x: Node, y: Node) -> Node | None:
    if repr(node["value"]) != repr(y["value"]):
        return None
    low = tuple(a + b for a, b in zip(node["low"], y["low"]))
    return pad_node(x, low, tuple(a + b for a, b in zip(node["high"], y["high"])), node["value"])


CUTTING = [
    Rule(
        "A slice of everything changes nothing.",
        operation("slice", x),
        lambda node, x: x if all(r == range(n) for r, n in zip(ranges(node), x.shape)) else None,
    ),
    Rule(
        "A slice of a slice is one slice.",
        after("slice", "slice"),
        lambda node, x, y: sliced(x, [_compose(inner, outer) for inner, outer in zip(ranges(y), ranges(node))]),
    ),
    Rule("A slice of repeated elements repeats a slice.", after("slice", "broadcast"), _slice_broadcast),
    Rule("A slice beside or within a padded value is not padded.", after("slice", "pad"), _slice_pad),
    Rule("A slice sees one side of an assignment.", operation("slice", operation("where", a, x, y)), _slice_choice),
    Rule("What is assigned to a block of a constant is that, padded.", operation("where", a, x, c), _padded_constant),
    Rule("Assignments to blocks across one axis are a join.", operation("where", a, x, y), _assigned_before),
    Rule("A slice of one of several joined values is a slice of it.", operation("slice", y), _slice_concat),
    Rule(
        "Padding by nothing changes nothing.",
        operation("pad", x),
        lambda node, x: None if any(node["low"]) or any(node["high"]) else x,
    ),
    Rule("Padding twice with the same value is padding once.", after("pad", "pad"), _pad_pad),
    Rule(
        "A single value joined with nothing is itself.",
        operation("concat", x),
        lambda x: x,
    ),
]
