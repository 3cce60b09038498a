"""Each simplification rule, as a graph and as numbers; random graphs; what must not be simplified."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import pytest
from graphs import count, random_graph, random_values
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.runtime.base import dtypes

from knetc.ir.build import graph_of, input_node, rebuild, trace_function
from knetc.ir.canonical import digest, equal
from knetc.ir.check import check
from knetc.ir.interpret import interpret
from knetc.ir.node import Graph, Line, Node
from knetc.ir.op import OPS
from knetc.ir.printer import to_text
from knetc.ir.reader import from_text
from knetc.ir.record import Recorder, record, recording
from knetc.ir.rewrite import rewrite
from knetc.ir.types import TensorType
from knetc.ops.apply import broadcast_node, cast_node, constant, reshape_node
from knetc.ops.define import type_of
from knetc.ops.identities import check_range, identity_variable, iota, stop_gradient
from knetc.ops.losses import nll
from knetc.passes.differentiate import gradients
from knetc.passes.simplify import RULES, simplify

Build = Callable[..., Node | Sequence[Node]]


def op(name: str, *sources: Node, **attributes: Hashable) -> Node:
    return record(OPS[name], sources, attributes)


def sum_(x: Node, *axes: int) -> Node:
    return op("sum", x, axes=axes)


def fixed(value: float, like: Node) -> Node:
    return constant(value, like.dtype, like.shape)


def spread(x: Node, *shape: int) -> Node:
    return broadcast_node(x, shape)


def slice_(x: Node, *ranges: tuple[int, int, int]) -> Node:
    starts, stops, steps = zip(*ranges)
    return op("slice", x, starts=starts, stops=stops, steps=steps)


def pad(x: Node, low: Sequence[int], high: Sequence[int], value: float = 0.0) -> Node:
    return op("pad", x, low=tuple(low), high=tuple(high), value=value)


def where(c: Node, x: Node, y: Node) -> Node:
    return op("where", c, x, y)


def root(x: Node) -> Node:
    return where(op("equal", x, fixed(-math.inf, x)), fixed(math.inf, x), op("sqrt", x + 0.0))


def block(x: Node, begin: int, end: int) -> Node:
    """True from element ``begin`` to ``end`` of the first axis."""
    return op(
        "pad", constant(True, dtypes.boolean, (end - begin,)), low=(begin,), high=(x.shape[0] - end,), value=False
    )


def assigned(x: Node, y: Node, count: int) -> Node:
    """``x[k] = y[k]`` for the first elements."""
    for k in range(count):
        x = where(block(x, k, k + 1), y, x)
    return x


FOLDS = ("sum", "prod", "max", "min")
V, I, B, M = "f32[3]", "i32[3]", "bool[3]", "f32[2,3]"

Case = tuple[str, Build, Build]


def stays(types: str, f: Build) -> Case:
    """A case in which the rule does not apply."""
    return types, f, f


#: rule -> cases: types of the inputs, before, after
CASES: dict[str, list[Case]] = {
    "An elementwise operation on constants is a constant.": [
        (V, lambda x: x + op("exp", fixed(0.0, x)), lambda x: x + 1.0),
        (I, lambda x: x - (fixed(2**31 - 1, x) + fixed(1, x)), lambda x: x - -(2**31)),
        (V, lambda x: where(op("less", fixed(1, x), fixed(2, x)), x, x * x), lambda x: x),
    ],
    "The sum of equal constants is a multiple of them.": [
        (V, lambda x: x + sum_(constant(0.5, x.dtype, (4, 3)), 0), lambda x: x + 2.0),
        ("f64[]", lambda x: x + sum_(constant(1, x.dtype, (4, 3)), 0, 1), lambda x: x + 12.0),
    ],
    "A value without elements needs no computing.": [
        ("f32[0,3] f32[0,3]", lambda x, y: x * y, lambda x, y: fixed(0.0, x)),
        (V, lambda x: slice_(x, (0, 0, 1)), lambda x: constant(0.0, x.dtype, (0,))),
    ],
    "The sum of nothing is zero.": [("f32[0,3]", lambda x: sum_(x, 0), lambda x: constant(0.0, x.dtype, (3,)))],
    "The product of nothing is one.": [
        ("i64[3,0]", lambda x: op("prod", x, axes=(1,)), lambda x: constant(1, x.dtype, (3,)))
    ],
    "A matrix product over no elements is zero.": [
        ("f32[2,0] f32[0,3]", lambda x, y: x @ y, lambda x, y: constant(0.0, x.dtype, (2, 3)))
    ],
    "A product with one is the other factor.": [
        (V, lambda x: 1 * (x * 1), lambda x: x),
        (I, lambda x: x * 1, lambda x: x),
    ],
    "A product with minus one is the negative.": [
        (V, lambda x: x * -1, lambda x: -x),
        (I, lambda x: -1 * x, lambda x: -x),
    ],
    "A product of integers with zero is zero.": [(I, lambda x: x * 0, lambda x: fixed(0, x))],
    "Adding zero to an integer changes nothing.": [(I, lambda x: 0 + x + 0, lambda x: x)],
    "Adding minus zero changes nothing.": [(V, lambda x: x + -0.0, lambda x: x)],
    "Subtracting zero changes nothing.": [(V, lambda x: x - 0, lambda x: x), (I, lambda x: x - 0, lambda x: x)],
    "A quotient by a power of two is a product with its reciprocal.": [
        (V, lambda x: x / 8, lambda x: x * 0.125),
        (V, lambda x: x / 1 / -1, lambda x: -x),
        ("f64[3]", lambda x: x / -(2.0**-600), lambda x: x * -(2.0**600)),
    ],
    "The negative of a negative is the value.": [(V, lambda x: op("negative", -x), lambda x: x)],
    "Adding a negative subtracts.": [(f"{V} {V}", lambda x, y: x + -y, lambda x, y: x - y)],
    "Adding to a negative subtracts.": [(f"{V} {V}", lambda x, y: -x + y * y, lambda x, y: y * y - x)],
    "Subtracting a negative adds.": [(f"{V} {V}", lambda x, y: x - -y, lambda x, y: x + y)],
    "A product of negatives is the product.": [(f"{V} {V}", lambda x, y: -x * -y, lambda x, y: x * y)],
    "A quotient of negatives is the quotient.": [(f"{V} {V}", lambda x, y: -x / -y, lambda x, y: x / y)],
    "A constant factor takes in a sign.": [(V, lambda x: 3 * -x, lambda x: x * -3.0)],
    "A constant divisor takes in a sign.": [(V, lambda x: -x / 3, lambda x: x / -3.0)],
    "The negative of a constant multiple is a multiple.": [(V, lambda x: -(x * 3), lambda x: x * -3.0)],
    "A power with a small constant exponent is products, a root, or a quotient.": [
        (V, lambda x, k=k: op("power", x, fixed(k, x)), after)
        for k, after in [
            (0, lambda x: fixed(1, x)),
            (1, lambda x: x),
            (2, lambda x: x * x),
            (3, lambda x: x * (x * x)),
            (4, lambda x: (x * x) * (x * x)),
            (-1, lambda x: 1 / x),
            (-2, lambda x: 1 / (x * x)),
            (0.5, lambda x: root(x)),
            (-0.5, lambda x: 1 / root(x)),
            (2.5, lambda x: op("power", x, fixed(2.5, x))),
        ]
    ],
    "The absolute value has no sign to take away.": [(V, lambda x: abs(abs(x)), lambda x: abs(x))],
    "The absolute value does not see a sign.": [(V, lambda x: abs(-x), lambda x: abs(x))],
    "The larger of a value and itself is the value.": [(V, lambda x: op("maximum", x, x), lambda x: x)],
    "The smaller of a value and itself is the value.": [(V, lambda x: op("minimum", x, x), lambda x: x)],
    "A choice between equals is that value.": [(f"{B} {V}", lambda c, x: where(c, x, x), lambda c, x: x)],
    "A choice by a constant is made.": [
        (f"{V} {V}", lambda x, y: where(constant(True, dtypes.boolean, (3,)), x, y), lambda x, y: x),
        (f"{V} {V}", lambda x, y: where(constant(False, dtypes.boolean, (3,)), x, y), lambda x, y: y),
    ],
    "A choice by a negation is the opposite choice.": [
        (f"{B} {V} {V}", lambda c, x, y: where(~c, x, y), lambda c, x, y: where(c, y, x))
    ],
    "The same choice a second time is made already, where it holds.": [
        (f"{B} {V} {V} {V}", lambda c, x, y, z: where(c, where(c, x, y), z), lambda c, x, y, z: where(c, x, z))
    ],
    "The same choice a second time is made already, where it does not hold.": [
        (f"{B} {V} {V} {V}", lambda c, x, y, z: where(c, x, where(c, y, z)), lambda c, x, y, z: where(c, x, z))
    ],
    "Turning bits over twice changes nothing.": [
        (B, lambda x: op("invert", ~x), lambda x: x),
        (I, lambda x: op("invert", ~x), lambda x: x),
    ],
    "A value and itself is the value.": [(B, lambda x: x & x, lambda x: x)],
    "A value or itself is the value.": [(I, lambda x: x | x, lambda x: x)],
    "A truth and true is the truth.": [(B, lambda x: x & True, lambda x: x), (I, lambda x: x & 1, lambda x: x & 1)],
    "What is and-ed with zero is zero.": [(B, lambda x: x & False, lambda x: fixed(False, x))],
    "What is or-ed with zero is unchanged.": [(I, lambda x: x | 0, lambda x: x)],
    "A truth or true is true.": [(B, lambda x: x | True, lambda x: fixed(True, x))],
    "A conversion to a value's own dtype changes nothing.": [(V, lambda x: op("cast", x, dtype=x.dtype), lambda x: x)],
    "A conversion by way of a dtype that holds all values is direct.": [
        (V, lambda x: cast_node(cast_node(x, dtypes.f64), dtypes.f32), lambda x: x),
        (B, lambda x: cast_node(cast_node(x, dtypes.i32), dtypes.f32), lambda x: cast_node(x, dtypes.f32)),
        stays("i64[3]", lambda x: cast_node(cast_node(x, dtypes.f64), dtypes.i64)),
        stays(V, lambda x: cast_node(cast_node(x, dtypes.i32), dtypes.f32)),
    ],
    "Once differentiation is done, stop_gradient is its source.": [
        (V, lambda x: stop_gradient(x) + x, lambda x: x + x)
    ],
    "Moving equal constants gives that constant.": [
        (M, lambda x: x + spread(constant(3, x.dtype), 2, 3), lambda x: x + 3.0),
        (M, lambda x: x + op("permute", constant(3, x.dtype, (3, 2)), axes=(1, 0)), lambda x: x + 3.0),
        (V, lambda x: x + pad(constant(3, x.dtype, (1,)), (1,), (1,), 3.0), lambda x: x + 3.0),
        stays(V, lambda x: x + pad(constant(0, x.dtype, (1,)), (1,), (1,), -0.0)),
    ],
    "A reshape to a value's own shape changes nothing.": [(M, lambda x: op("reshape", x, shape=(2, 3)), lambda x: x)],
    "The last of two reshapes decides.": [
        (M, lambda x: reshape_node(reshape_node(x, (6,)), (3, 2)), lambda x: reshape_node(x, (3, 2))),
        (M, lambda x: reshape_node(reshape_node(x, (6,)), (2, 3)), lambda x: x),
    ],
    "The last of two broadcasts decides.": [
        (V, lambda x: spread(spread(x, 2, 3), 4, 2, 3), lambda x: spread(x, 4, 2, 3))
    ],
    "A broadcast that repeats nothing is a reshape.": [
        (V, lambda x: spread(x, 1, 3), lambda x: reshape_node(x, (1, 3)))
    ],
    "A broadcast adds leading axes of its own.": [
        (V, lambda x: spread(reshape_node(x, (1, 3)), 2, 3), lambda x: spread(x, 2, 3)),
        stays(V, lambda x: spread(reshape_node(x, (3, 1)), 3, 2)),
    ],
    "A transposed product is the product of the transposed factors, exchanged.": [
        (
            "f32[2,3] f32[3,4]",
            lambda x, y: op("permute", op("matmul", x, y), axes=(1, 0)),
            lambda x, y: op("matmul", op("permute", y, axes=(1, 0)), op("permute", x, axes=(1, 0))),
        ),
        (
            "f32[5,2,3] f32[5,3,4]",
            lambda x, y: op("permute", op("matmul", x, y), axes=(0, 2, 1)),
            lambda x, y: op("matmul", op("permute", y, axes=(0, 2, 1)), op("permute", x, axes=(0, 2, 1))),
        ),
        stays("f32[5,2,3] f32[5,3,4]", lambda x, y: op("permute", op("matmul", x, y), axes=(1, 0, 2))),
    ],
    "Two permutations are one.": [
        (
            "f32[2,3,4]",
            lambda x: op("permute", op("permute", x, axes=(1, 2, 0)), axes=(2, 1, 0)),
            lambda x: op("permute", x, axes=(0, 2, 1)),
        )
    ],
    "Permuting axes of extent 1 is a reshape.": [
        (M, lambda x: op("permute", x, axes=(0, 1)), lambda x: x),
        ("f32[2,1,3]", lambda x: op("permute", x, axes=(0, 2, 1)), lambda x: reshape_node(x, (2, 3, 1))),
    ],
    "Converted indices are indices of that dtype.": [
        (
            "f32[2,3]",
            lambda x: x + cast_node(iota(dtypes.i64, (2, 3), 1), dtypes.f32),
            lambda x: x + iota(dtypes.f32, (2, 3), 1),
        )
    ],
    "A slice of everything changes nothing.": [(M, lambda x: slice_(x, (0, 2, 1), (0, 3, 1)), lambda x: x)],
    "A slice of a slice is one slice.": [
        ("f32[20]", lambda x: slice_(slice_(x, (1, 19, 2)), (1, 7, 3)), lambda x: slice_(x, (3, 10, 6))),
        ("f32[20]", lambda x: slice_(slice_(x, (19, -1, -1)), (19, -1, -1)), lambda x: x),
        ("f32[20]", lambda x: slice_(slice_(x, (19, 3, -3)), (1, 4, 1)), lambda x: slice_(x, (16, 9, -3))),
    ],
    "A slice of repeated elements repeats a slice.": [
        (
            "f32[4,1]",
            lambda x: slice_(spread(x, 5, 4, 3), (1, 3, 1), (1, 4, 2), (2, 0, -1)),
            lambda x: spread(slice_(x, (1, 4, 2), (0, 1, 1)), 2, 2, 2),
        ),
    ],
    "A slice sees one side of an assignment.": [
        (
            f"{V} {V}",
            lambda x, y: slice_(where(block(x, 1, 3), x * x, y), (2, 0, -1)),
            lambda x, y: slice_(x * x, (2, 0, -1)),
        ),
        (
            f"{V} {V}",
            lambda x, y: slice_(where(block(x, 1, 3), x * x, y), (0, 1, 1)),
            lambda x, y: slice_(y, (0, 1, 1)),
        ),
        stays(f"{V} {V}", lambda x, y: slice_(where(block(x, 1, 3), x * x, y), (0, 2, 1))),
    ],
    "What is assigned to a block of a constant is that, padded.": [
        (
            "f32[1]",
            lambda x: where(
                block(fixed(1.0, pad(x, (1,), (1,))), 1, 2), pad(x, (1,), (1,)), constant(2.0, x.dtype, (3,))
            ),
            lambda x: pad(x, (1,), (1,), 2.0),
        ),
    ],
    "Assignments to blocks across one axis are a join.": [
        (
            "f32[1] f32[3]",
            lambda x, y: where(block(y, 0, 1), y, pad(x, (1,), (1,))),
            lambda x, y: op("concat", slice_(y, (0, 1, 1)), x, constant(0.0, x.dtype, (1,)), axis=0),
        ),
        (
            f"{V} {V}",
            lambda x, y: where(
                block(op("concat", x, y, axis=0), 2, 4), op("concat", y, y, axis=0), op("concat", x, y, axis=0)
            ),
            lambda x, y: op(
                "concat",
                slice_(x, (0, 2, 1)),
                slice_(op("concat", y, y, axis=0), (2, 4, 1)),
                slice_(y, (1, 3, 1)),
                axis=0,
            ),
        ),
        (
            "f32[9] f32[9]",
            lambda x, y: assigned(x, y, 8),
            lambda x, y: op("concat", *[slice_(y, (k, k + 1, 1)) for k in range(8)], slice_(x, (8, 9, 1)), axis=0),
        ),
        stays("f32[9] f32[9]", lambda x, y: assigned(x, y, 7)),
    ],
    "A slice beside or within a padded value is not padded.": [
        ("f32[4]", lambda x: slice_(pad(x, (2,), (1,)), (0, 2, 1)), lambda x: constant(0.0, x.dtype, (2,))),
        ("f32[4]", lambda x: slice_(pad(x, (2,), (1,)), (2, 6, 1)), lambda x: x),
        ("f32[4]", lambda x: slice_(pad(x, (2,), (1,)), (5, 1, -2)), lambda x: slice_(x, (3, -1, -2))),
        stays("f32[4]", lambda x: slice_(pad(x, (2,), (1,)), (1, 6, 1))),
    ],
    "A slice of one of several joined values is a slice of it.": [
        (f"{V} {V}", lambda x, y: slice_(op("concat", x, y, axis=0), (3, 6, 1)), lambda x, y: y),
        (f"{V} {V}", lambda x, y: slice_(op("concat", x, y, axis=0), (2, 0, -1)), lambda x, y: slice_(x, (2, 0, -1))),
        stays(f"{V} {V}", lambda x, y: slice_(op("concat", x, y, axis=0), (2, 4, 1))),
    ],
    "Padding by nothing changes nothing.": [(V, lambda x: pad(x, (0,), (0,)), lambda x: x)],
    "Padding twice with the same value is padding once.": [
        (V, lambda x: pad(pad(x, (1,), (0,)), (1,), (2,)), lambda x: pad(x, (2,), (2,))),
        stays(V, lambda x: pad(pad(x, (1,), (0,)), (1,), (2,), 1.0)),
    ],
    "A single value joined with nothing is itself.": [(V, lambda x: op("concat", x, axis=0), lambda x: x)],
    "What is computed from repeated elements alone is computed once, then repeated.": [
        (f"{V} {V}", lambda x, y: spread(x, 4, 3) * spread(y, 4, 3), lambda x, y: spread(x * y, 4, 3)),
        (
            "f32[] f32[3,1]",
            lambda x, y: spread(x, 3, 5) - spread(y, 3, 5),
            lambda x, y: spread(spread(x, 3, 1) - y, 3, 5),
        ),
        (V, lambda x: op("exp", spread(x, 4, 3)) + 2, lambda x: spread(op("exp", x) + 2, 4, 3)),
        stays("f32[3,1] f32[4]", lambda x, y: spread(x, 3, 4) + spread(y, 3, 4)),
    ],
    "The sum of an element repeated is a multiple.": [
        (V, lambda x: sum_(spread(x, 4, 3), 0), lambda x: x * 4.0),
        ("f32[3,1]", lambda x: sum_(spread(x, 2, 3, 4), 0, 1), lambda x: spread(sum_(x, 0) * 2.0, 4)),
    ],
    "The max of an element repeated is the element itself.": [
        ("f32[3,1]", lambda x: op("max", spread(x, 3, 4), axes=(1,)), lambda x: reshape_node(x, (3,))),
        stays(V, lambda x: op("argmax", spread(x, 4, 3), axes=(0,))),
    ],
    "The min of an element repeated is the element itself.": [
        ("i32[]", lambda x: op("min", spread(x, 3, 4), axes=(0, 1)), lambda x: x),
    ],
    **{
        f"The {fold} of one element is that element.": [
            ("f32[3,1]", lambda x, f=fold: op(f, x, axes=(1,)), lambda x: reshape_node(x, (3,))),
            stays("f32[3,1]", lambda x: op("argmax", x, axes=(1,))),
        ]
        for fold in FOLDS
    },
    **{
        f"A {fold} sees no axes of extent 1, and no shape where it folds all.": [
            (
                M,
                lambda x, f=fold: op(f, reshape_node(x, (2, 1, 3)), axes=(2,)),
                lambda x, f=fold: reshape_node(op(f, x, axes=(1,)), (2, 1)),
            ),
            (
                M,
                lambda x, f=fold: op(f, reshape_node(x, (3, 1, 2)), axes=(0, 1, 2)),
                lambda x, f=fold: op(f, x, axes=(0, 1)),
            ),
            stays(M, lambda x, f=fold: op(f, reshape_node(x, (3, 2)), axes=(1,))),
        ]
        for fold in FOLDS
    },
    **{
        f"A {fold} of permuted axes folds them where they are.": [
            (
                "f32[2,3,4]",
                lambda x, f=fold: op(f, op("permute", x, axes=(2, 0, 1)), axes=(1,)),
                lambda x, f=fold: op("permute", op(f, x, axes=(0,)), axes=(1, 0)),
            ),
            (
                M,
                lambda x, f=fold: op(f, op("permute", x, axes=(1, 0)), axes=(0,)),
                lambda x, f=fold: op(f, x, axes=(1,)),
            ),
        ]
        for fold in FOLDS
    },
    **{
        f"The {fold} of a {fold} is one {fold}.": [
            (
                "f32[2,3,4]",
                lambda x, f=fold: op(f, op(f, x, axes=(1,)), axes=(1,)),
                lambda x, f=fold: op(f, x, axes=(1, 2)),
            ),
            stays("f32[2,3,4]", lambda x, f=fold: op(f, op("argmax", x, axes=(0,)), axes=(0,))),
            stays(M, lambda x, f=fold: [op(f, x, axes=(1,)), op(f, op(f, x, axes=(1,)), axes=(0,))]),
        ]
        for fold in FOLDS
    },
}


def types(text: str) -> list[TensorType]:
    return [type_of(part) for part in text.split()]


@pytest.mark.parametrize("sentence", [rule.sentence for rule in RULES])
def test_rule(sentence: str) -> None:
    """The simplified graph is the expected one, it means the same, and without the rule it is another."""
    for text, before, after in CASES[sentence]:
        graph = trace_function(before, *types(text))
        simple = check(simplify(graph), "simplify")
        expected = trace_function(after, *types(text))
        assert to_text(simple) == to_text(expected)
        positive = [np.abs(value) if value.dtype.kind == "f" else value for value in random_values(graph)]
        same_numbers(graph, simple, positive, rtol=1e-6)
    text, before, after = CASES[sentence][0]
    others = [rule for rule in RULES if rule.sentence != sentence]
    assert not equal(rewrite(trace_function(before, *types(text)), others), trace_function(after, *types(text)))


def same_numbers(before: Graph, after: Graph, values: list[np.ndarray], rtol: float = 0.0) -> None:
    for a, b in zip(interpret(before, values), interpret(after, values)):
        if rtol and a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=rtol)
        else:
            np.testing.assert_array_equal(a, b)


def test_every_rule_has_a_case() -> None:
    assert len({rule.sentence for rule in RULES}) == len(RULES) and set(CASES) == {rule.sentence for rule in RULES}


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 0,
        lambda x: x - x,
        lambda x: x + 0,
        lambda x: x / x,
        lambda x: x / 3,
        lambda x: 0 - x,
        lambda x: x / fixed(2.0**-130, x),
        lambda x: op("log", op("exp", x)),
        lambda x: op("equal", x, x),
        lambda x: ~(x < 1),
        lambda x: x / 0,
    ],
)
def test_what_would_change_nan_infinity_or_a_signed_zero_stays(f: Build) -> None:
    graph = trace_function(f, type_of(V))
    assert equal(simplify(graph), graph)


def test_operands_of_commutative_operations_take_one_order() -> None:
    graph = trace_function(lambda x, y: [x * y, y * x, op("maximum", x, y), op("maximum", y, x)], *types(f"{V} {V}"))
    simple = simplify(graph)
    assert simple.outputs[0] is simple.outputs[1] and simple.outputs[2] is not simple.outputs[3]


def test_unused_values_go_and_effects_and_interface_stay() -> None:
    with recording(Recorder()):
        base = trace_function(lambda i, x: [check_range(i, 0, 3, "{value}"), x, op("exp", x)], *types(f"{I} {V}"))
    graph = Graph(base.inputs, (base.outputs[1] * 1,), base.effects, {0: 1}, ("i", "x"), ("y",))
    simple = check(simplify(graph))
    assert [node.op.name for node in simple.nodes] == ["input", "input", "check_range"]
    assert (simple.updates, simple.input_names, simple.output_names) == ({0: 1}, ("i", "x"), ("y",))


def test_variables_do_not_outlive_tracing() -> None:
    numbers = iter((3, 7))

    def f(x: Node) -> list[Node]:
        y = identity_variable(x, next(numbers))
        return [dy for dy in gradients(op("sum", y * y, axes=(0,)), [y]) if dy is not None]

    first, second = trace_function(f, type_of(V)), trace_function(f, type_of(V))
    assert digest(first) == digest(second)


def test_lines_stay_with_what_replaces_a_value() -> None:
    with recording(Recorder()) as builder:
        x = trace_function(lambda x: x, type_of(V)).inputs[0]
        builder.lines = (Line("model.py", 3),)
        y = x + -op("exp", x)
    assert all(node.lines == (Line("model.py", 3),) for node in simplify(graph_of([x], [y])).nodes[1:])


def test_long_chain_takes_linear_time() -> None:
    def f(x: Node) -> Node:
        y = x
        for k in range(2500):
            y = (y * 1 + -x) / 2 + (k % 3)
        return y

    graph = trace_function(f, type_of(V))
    simple = check(simplify(graph))
    assert len(graph.nodes) >= 10_000 and len(simple.nodes) <= 7_510
    same_numbers(graph, simple, [np.ones(3, np.float32)], rtol=1e-6)


def test_chain_of_movements_collapses() -> None:
    def f(x: Node) -> Node:
        y = x
        for k in range(5000):
            y = op("permute", reshape_node(y, (3, 2) if k % 2 else (2, 3)), axes=(0, 1))
        return reshape_node(y, (2, 3))

    assert len(simplify(trace_function(f, type_of(M))).nodes) == 1


@settings(max_examples=150)
@given(random_graph(exact=True, empty=True), st.integers(0, 3))
def test_random_graphs_keep_every_bit(graph: Graph, seed: int) -> None:
    simple = check(simplify(graph), "simplify")
    assert count(simple) <= count(graph)
    same_numbers(graph, simple, random_values(graph, seed, special=True))


@settings(max_examples=100)
@given(random_graph(exact=True, floats_only=True))
def test_gradients_of_random_graphs_stay_the_same(graph: Graph) -> None:
    with recording(Recorder()):
        loss = constant(0.0, dtypes.f64)
        for node in [output for output in graph.outputs if output.dtype.kind == "f"]:
            loss = loss + cast_node(op("sum", reshape_node(node, (node.type.size,)), axes=(0,)), dtypes.f64)
        slopes = [dx for dx in gradients(loss, graph.inputs) if dx is not None]
    backward = check(graph_of(graph.inputs, [loss, *slopes]), "grad")
    simple = check(simplify(backward), "simplify")
    values = random_values(graph)
    for a, b in zip(interpret(backward, values), interpret(simple, values)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@settings(max_examples=100)
@given(random_graph(empty=True))
def test_random_graphs_read_back_and_rebuild(graph: Graph) -> None:
    check(graph)
    assert equal(from_text(to_text(graph)), graph)
    assert digest(rebuild(graph)) == digest(graph)
    simple = simplify(graph)
    assert len(simplify(simple).nodes) <= len(simple.nodes)


def test_loss_before_and_after(golden: Callable[[str, str], None]) -> None:
    def f(x: Node, labels: Node) -> list[Node]:
        loss = nll(x, labels)
        return [loss, *[dx for dx in gradients(loss, [x]) if dx is not None]]

    with recording(Recorder()) as builder:
        x, labels = input_node(builder, 0, type_of("f32[64,10]")), input_node(builder, 1, type_of("i64[64]"))
        builder.lines = (Line("model.py", 5),)
        outputs = f(x, labels)
    graph = check(graph_of([x, labels], outputs, input_names=["x", "labels"], output_names=["loss", "dx"]))
    golden("simplify/nll_before.py.txt", to_text(graph))
    golden("simplify/nll_after.py.txt", to_text(simplify(graph)))
    generator = np.random.default_rng(0)
    scores: np.ndarray = generator.normal(size=(64, 10)).astype(np.float32)
    values = [scores, generator.integers(0, 10, 64)]
    same_numbers(graph, simplify(graph), values, rtol=1e-5)
