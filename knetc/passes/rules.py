"""What simplification knows: rules as data, each with its sentence.

A rule keeps every bit of the result, NaN, infinities and signed zeros included (that is why ``x * 0``, ``x - x`` and
``x + 0`` of floats stay), but for three kinds, which round otherwise, as any order of adding up does: powers with small
exponents, sums of equal elements, and folds taken in another order. ``movement_rules`` has those about movements.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import OPS, Kind
from knetc.ir.record import record
from knetc.ir.rewrite import Pattern, Rule, constant_named, operation, variable
from knetc.ops.apply import broadcast_node, cast_node, constant, reshape_node
from knetc.ops.arithmetic import multiply
from knetc.ops.logic import equal, where
from knetc.ops.movement import permute_node
from knetc.runtime.base import dtypes

a, b, x, y, z = (variable(name) for name in "abxyz")
c = constant_named("c")


def after(outer: str, inner: str) -> Pattern:
    """The pattern of one operation after another: ``x``, then ``y = inner(x)``, then ``node = outer(y)``."""
    return operation(outer, operation(inner, x, name="y"))


def like(node: Node, value: float) -> Node:
    """A constant of a node's dtype and shape."""
    return constant(dtypes.wrapped(value, node.dtype), node.dtype, node.shape)


def is_constant(node: Node) -> bool:
    return node.op.name == "constant"


# --- constants -------------------------------------------------------------------------------------------------------


def _fold(node: Node) -> Node | None:
    """The reference of the operation decides, for one element."""
    if not node.sources or not all(map(is_constant, node.sources)) or node.op.reference is None:
        return None
    values = [np.full((), source["value"], source.dtype) for source in node.sources]
    with np.errstate(all="ignore"):
        return constant(np.asarray(node.op.evaluate(*values, **node.attributes)).item(), node.dtype, node.shape)


def _fold_sum(node: Node, x: Node) -> Node | None:
    count = x.type.size // max(node.type.size, 1)
    return None if not is_constant(x) or not x.type.size else _times(like(node, x["value"]), count)


def _times(node: Node, count: int) -> Node:
    return multiply(node, like(node, count)) if count != 1 else node


def _nothing(node: Node) -> Node | None:
    return like(node, 0) if node.sources and node.op.kind not in _KEPT_EMPTY and not node.type.size else None


_KEPT_EMPTY = (Kind.EFFECT, Kind.GROUP, Kind.CONTROL)

FOLDING = [
    Rule("A value without elements needs no computing.", Pattern(), _nothing),
    Rule("An elementwise operation on constants is a constant.", Kind.ELEMENTWISE, _fold),
    Rule("The sum of equal constants is a multiple of them.", operation("sum", x), _fold_sum),
    Rule("The sum of nothing is zero.", operation("sum", x), lambda node, x: None if x.type.size else like(node, 0)),
    Rule(
        "The product of nothing is one.", operation("prod", x), lambda node, x: None if x.type.size else like(node, 1)
    ),
    Rule(
        "A matrix product over no elements is zero.",
        operation("matmul", x, y),
        lambda node, x: None if x.type.size else like(node, 0),
    ),
]

# --- arithmetic ------------------------------------------------------------------------------------------------------


def _divide_exactly(x: Node, c: Node) -> Node | None:
    """Only the reciprocal of a power of two is exact."""
    mantissa, exponent = math.frexp(c["value"])
    lowest = dtypes.min_exponent(c.dtype)
    return x * like(c, 1 / c["value"]) if abs(mantissa) == 0.5 and lowest < 1 - exponent < -lowest else None


_POWERS: dict[float, Callable[[Node], Node]] = {
    0.0: lambda x: like(x, 1),
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    4.0: lambda x: (x * x) * (x * x),
    -1.0: lambda x: 1 / x,
    -2.0: lambda x: 1 / (x * x),
    0.5: lambda x: _root(x),
    -0.5: lambda x: 1 / _root(x),
}


def _root(x: Node) -> Node:
    """A power of one half: unlike a square root it is infinite at minus infinity, and 0.0 at -0.0."""
    return where(equal(x, -math.inf), math.inf, record(OPS["sqrt"], (x + 0.0,)))  # type: ignore[no-any-return]


def _power(x: Node, c: Node) -> Node | None:
    form = _POWERS.get(c["value"])
    return form(x) if form is not None and (dtypes.is_float(x.dtype) or c["value"] >= 0) else None


ARITHMETIC = [
    Rule("A product with one is the other factor.", x * 1, lambda x: x),
    Rule("A product with minus one is the negative.", x * -1, lambda x: -x),
    Rule(
        "A product of integers with zero is zero.",
        x * 0,
        lambda node: None if dtypes.is_float(node.dtype) else like(node, 0),
    ),
    Rule("Adding zero to an integer changes nothing.", x + 0, lambda x: None if dtypes.is_float(x.dtype) else x),
    Rule("Adding minus zero changes nothing.", x + -0.0, lambda x: x),
    Rule("Subtracting zero changes nothing.", x - 0, lambda x: x),
    Rule("A quotient by a power of two is a product with its reciprocal.", x / c, _divide_exactly),
    Rule("The negative of a negative is the value.", operation("negative", -x), lambda x: x),
    Rule("Adding a negative subtracts.", x + -y, lambda x, y: x - y),
    Rule("Adding to a negative subtracts.", -x + y, lambda x, y: y - x),
    Rule("Subtracting a negative adds.", x - -y, lambda x, y: x + y),
    Rule("A product of negatives is the product.", -x * -y, lambda x, y: x * y),
    Rule("A quotient of negatives is the quotient.", -x / -y, lambda x, y: x / y),
    Rule("A constant factor takes in a sign.", -x * c, lambda x, c: x * like(c, -c["value"])),
    Rule("A constant divisor takes in a sign.", -x / c, lambda x, c: x / like(c, -c["value"])),
    Rule("The negative of a constant multiple is a multiple.", -(x * c), lambda x, c: x * like(c, -c["value"])),
    Rule("A power with a small constant exponent is products, a root, or a quotient.", x**c, _power),
    Rule(
        "The absolute value has no sign to take away.",
        operation("absolute", operation("absolute", x, name="y")),
        lambda y: y,
    ),
    Rule(
        "The absolute value does not see a sign.",
        operation("absolute", -x),
        lambda node, x: record(node.op, (x,)),
    ),
    Rule("The larger of a value and itself is the value.", operation("maximum", x, x), lambda x: x),
    Rule("The smaller of a value and itself is the value.", operation("minimum", x, x), lambda x: x),
]

# --- choices and bits ------------------------------------------------------------------------------------------------

CHOICES = [
    Rule("A choice between equals is that value.", operation("where", a, x, x), lambda x: x),
    Rule(
        "A choice by a constant is made.",
        operation("where", c, x, y),
        lambda c, x, y: x if c["value"] else y,
    ),
    Rule(
        "A choice by a negation is the opposite choice.",
        operation("where", ~a, x, y),
        lambda node, a, x, y: record(node.op, (a, y, x)),
    ),
    Rule(
        "The same choice a second time is made already, where it holds.",
        operation("where", a, operation("where", a, x, y), z),
        lambda node, a, x, z: record(node.op, (a, x, z)),
    ),
    Rule(
        "The same choice a second time is made already, where it does not hold.",
        operation("where", a, x, operation("where", a, y, z)),
        lambda node, a, x, z: record(node.op, (a, x, z)),
    ),
    Rule("Turning bits over twice changes nothing.", ~~x, lambda x: x),
    Rule("A value and itself is the value.", x & x, lambda x: x),
    Rule("A value or itself is the value.", x | x, lambda x: x),
    Rule("A truth and true is the truth.", x & True, lambda x: x if x.dtype == dtypes.boolean else None),
    Rule("What is and-ed with zero is zero.", x & 0, lambda node: like(node, 0)),
    Rule("What is or-ed with zero is unchanged.", x | 0, lambda x: x),
    Rule("A truth or true is true.", x | True, lambda node: like(node, 1) if node.dtype == dtypes.boolean else None),
]

# --- conversions and identities --------------------------------------------------------------------------------------


def _cast_cast(node: Node, x: Node, y: Node) -> Node | None:
    if not dtypes.holds_all(y.dtype, x.dtype):
        return None
    # an integer wraps around on its way to another one, but not by way of a float
    turns = dtypes.is_integer(x.dtype) and dtypes.is_float(y.dtype) and dtypes.is_integer(node.dtype)
    return None if turns and not dtypes.holds_all(node.dtype, x.dtype) else cast_node(x, node.dtype)


CONVERSIONS = [
    Rule(
        "A conversion to a value's own dtype changes nothing.",
        operation("cast", x),
        lambda node, x: x if x.dtype == node.dtype else None,
    ),
    Rule(
        "A conversion by way of a dtype that holds all values is direct.",
        operation("cast", operation("cast", x, name="y")),
        _cast_cast,
    ),
    Rule("Once differentiation is done, stop_gradient is its source.", operation("stop_gradient", x), lambda x: x),
]

# --- less work: on smaller shapes ------------------------------------------------------------------------------------


def _below_broadcasts(node: Node) -> Node | None:
    if not node.sources or any(source.op.name not in ("broadcast", "constant") for source in node.sources):
        return None
    shapes = [source.sources[0].shape for source in node.sources if source.op.name == "broadcast"]
    small = np.broadcast_shapes(*shapes)
    if math.prod(small) >= node.type.size:
        return None
    operands = [
        constant(source["value"], source.dtype, small)
        if is_constant(source)
        else broadcast_node(source.sources[0], small)
        for source in node.sources
    ]
    return broadcast_node(record(node.op, tuple(operands), node.attributes), node.shape)


def _fold_repeated(node: Node, x: Node, y: Node) -> Node | None:
    """``y`` is the broadcast of ``x``: axes along which it repeats x need no loop."""
    lead = y.ndim - x.ndim
    repeated = {k for k in node["axes"] if k < lead or x.shape[k - lead] != y.shape[k]}
    if not repeated or not y.type.size:
        return None
    axes = tuple(k - lead for k in node["axes"] if k >= lead)
    folded = record(node.op, (x,), {"axes": axes}) if axes else x
    if node.op.name == "sum":
        folded = _times(folded, math.prod(y.shape[k] for k in repeated))
    return broadcast_node(folded, node.shape)


def _fold_fold(node: Node, x: Node, y: Node) -> Node:
    left = [k for k in range(x.ndim) if k not in y["axes"]]
    return record(node.op, (x,), {"axes": tuple(sorted((*y["axes"], *(left[k] for k in node["axes"]))))})


def _fold_single(node: Node, x: Node) -> Node | None:
    return reshape_node(x, node.shape) if x.type.size == node.type.size and x.type.size else None


def _fold_reshaped(node: Node, x: Node, y: Node) -> Node | None:
    """``y`` is ``x`` with axes of extent 1 put in or taken out, or all of it is folded."""
    if node.type.size == 1 and x.ndim:
        return reshape_node(record(node.op, (x,), {"axes": tuple(range(x.ndim))}), node.shape)
    wide_x = [k for k, n in enumerate(x.shape) if n != 1]
    wide_y = [k for k, n in enumerate(y.shape) if n != 1]
    if [x.shape[k] for k in wide_x] != [y.shape[k] for k in wide_y]:
        return None
    axes = tuple(p for p, q in zip(wide_x, wide_y) if q in node["axes"])
    return reshape_node(record(node.op, (x,), {"axes": axes}), node.shape) if axes else None


def _fold_permuted(node: Node, x: Node, y: Node) -> Node:
    """The axes that stay are put in their order afterwards, where there is less to move."""
    axes = tuple(sorted(y["axes"][k] for k in node["axes"]))
    folded = record(node.op, (x,), {"axes": axes})
    left = [k for k in range(x.ndim) if k not in axes]
    return permute_node(folded, tuple(left.index(k) for k in y["axes"] if k not in axes))


def _folding_rules(fold: str) -> list[Rule]:
    """The rules about one of the reductions that may take elements in any order."""
    repeated = "a multiple" if fold == "sum" else "the element itself"
    rules = [
        Rule(f"The {fold} of one element is that element.", operation(fold, x), lambda node, x: _fold_single(node, x)),
        Rule(
            f"A {fold} sees no axes of extent 1, and no shape where it folds all.",
            after(fold, "reshape"),
            _fold_reshaped,
        ),
        Rule(f"A {fold} of permuted axes folds them where they are.", after(fold, "permute"), _fold_permuted),
        Rule(f"The {fold} of a {fold} is one {fold}.", after(fold, fold), _fold_fold, alone="y"),
    ]
    if fold != "prod":
        rules.insert(
            0, Rule(f"The {fold} of an element repeated is {repeated}.", after(fold, "broadcast"), _fold_repeated)
        )
    return rules


SMALLER = [
    Rule(
        "What is computed from repeated elements alone is computed once, then repeated.",
        Kind.ELEMENTWISE,
        _below_broadcasts,
    ),
    *(rule for fold in ("sum", "prod", "max", "min") for rule in _folding_rules(fold)),
]
