"""Every operation of knetc: one record each, a file a family; composites are plain functions over them.

Importing this package fills the table of operations and gives graph values their Python operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from knetc.ir.node import Node
from knetc.ops import (
    activations,
    apply,
    arithmetic,
    bits,
    calculus,
    choosing,
    contraction,
    division,
    elementary,
    host,
    identities,
    indexed,
    indexing,
    joining,
    linalg,
    linear,
    logic,
    losses,
    matrices,
    movement,
    norms,
    padding,
    random,
    rearrange,
    reduction,
    scan,
    selection,
    sorting,
    special,
    statistics,
    transcendental,
    windows,
)


def _swapped(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: function(other, self)


def install_operators(kind: type) -> None:
    """Give a class of values Python's arithmetic and ordering; ``==`` and ``!=`` are left to the class."""
    binary = {
        "add": arithmetic.add,
        "sub": arithmetic.subtract,
        "mul": arithmetic.multiply,
        "truediv": arithmetic.true_divide,
        "floordiv": division.floor_divide,
        "mod": division.mod,
        "divmod": elementary.divmod,
        "pow": transcendental.power,
        "matmul": linear.matmul,
        "and": logic.bitwise_and,
        "or": logic.bitwise_or,
        "xor": logic.bitwise_xor,
        "lshift": logic.left_shift,
        "rshift": logic.right_shift,
    }
    for name, function in binary.items():
        setattr(kind, f"__{name}__", function)
        setattr(kind, f"__r{name}__", _swapped(function))
    others = {
        "lt": logic.less,
        "le": logic.less_equal,
        "gt": logic.greater,
        "ge": logic.greater_equal,
        "neg": arithmetic.negative,
        "pos": arithmetic.positive,
        "abs": arithmetic.absolute,
        "invert": logic.invert,
    }
    for name, other in others.items():
        setattr(kind, f"__{name}__", other)


install_operators(Node)

__all__ = [
    "activations",
    "apply",
    "arithmetic",
    "bits",
    "calculus",
    "choosing",
    "contraction",
    "elementary",
    "host",
    "identities",
    "indexed",
    "indexing",
    "install_operators",
    "joining",
    "linalg",
    "linear",
    "logic",
    "losses",
    "matrices",
    "movement",
    "norms",
    "padding",
    "random",
    "rearrange",
    "reduction",
    "scan",
    "selection",
    "sorting",
    "special",
    "statistics",
    "transcendental",
    "windows",
]
