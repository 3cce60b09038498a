"""Views: movements of a stored value that need no work, because strides can express them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knetc.ir.node import Node
from knetc.ir.types import Shape
from knetc.runtime.base import dtypes

VIEWS = ("permute", "reshape", "broadcast", "slice")
"""The movements that strides may express."""


@dataclass(frozen=True)
class View:
    """How a value lies in the memory of ``base`` (dense, row-major): element offset and stride of each dimension."""

    base: Node
    offset: int
    strides: tuple[int, ...]
    prologue: tuple[Node, ...] = ()
    """What whoever reads it computes for each element, in order; the last one is the value."""
    reads: tuple[tuple[Node, View], ...] = ()
    """What the prologue is computed from: arrays (the first one is ``base``'s), index ramps and numbers."""

    @property
    def arguments(self) -> tuple[Node, ...]:
        """What whoever reads it must be given: ``base``, and the arrays and numbers of its prologue."""
        given = (view.base for _, view in self.reads if view.base.op.name != "iota")
        return tuple(dict.fromkeys((self.base, *given)))

    @property
    def dtype(self) -> np.dtype:
        """Of the values that are seen."""
        found: np.dtype = self.prologue[-1].dtype if self.prologue else self.base.dtype
        return found


def dense_strides(shape: Shape) -> tuple[int, ...]:
    """Element strides of a dense row-major array."""
    strides = [1] * len(shape)
    for k in range(len(shape) - 2, -1, -1):
        strides[k] = strides[k + 1] * shape[k + 1]
    return tuple(strides)


def view_of(node: Node, *, narrow: bool = False) -> View:
    """The furthest value of which ``node`` is a strided view: ``node`` itself if no movement can be seen through.

    With ``narrow``, also one of float16 or bfloat16 of which ``node`` is a view as float32: whoever reads it converts.
    """
    chain = []
    base = node
    while base.op.name in VIEWS or (narrow and widens(base)):
        chain.append(base)
        base = base.sources[0]
    while True:
        view = through(base, chain)
        if view is not None:
            return view
        base = chain.pop()


def chain_above(node: Node, base: Node) -> list[Node]:
    """The movements (and casts) from ``node`` down to what they move, which is left out."""
    chain = []
    while node is not base:
        chain.append(node)
        node = node.sources[0]
    return chain


def widens(node: Node) -> bool:
    """Whether a node is float16 or bfloat16 as float32, which changes no value."""
    return node.op.name == "cast" and node.dtype == dtypes.f32 and dtypes.is_narrow(node.sources[0].dtype)


def through(base: Node, chain: Sequence[Node], strides: tuple[int, ...] | None = None) -> View | None:
    """What movements make of ``base``, the last movement first; None where strides cannot express it.

    ``strides`` are those of ``base`` if it is not dense.
    """
    offset = 0
    strides = dense_strides(base.shape) if strides is None else strides
    for movement in reversed(chain):
        source = movement.sources[0].shape
        match movement.op.name:
            case "permute":
                strides = tuple(strides[axis] for axis in movement["axes"])
            case "broadcast":
                lead = movement.ndim - len(source)
                strides = (0,) * lead + tuple(
                    0 if n == 1 and movement.shape[lead + k] != 1 else s
                    for k, (n, s) in enumerate(zip(source, strides))
                )
            case "slice":
                starts, steps = movement["starts"], movement["steps"]
                offset += sum(start * s for start, s in zip(starts, strides)) if 0 not in movement.shape else 0
                strides = tuple(step * s for step, s in zip(steps, strides))
            case "cast":
                pass
            case _:
                reshaped = reshape_strides(source, strides, movement.shape)
                if reshaped is None:
                    return None
                strides = reshaped
    return View(base, offset, strides)


def reshape_strides(old: Shape, strides: tuple[int, ...], new: Shape) -> tuple[int, ...] | None:
    """Strides that show memory of shape ``old`` as ``new`` without a copy; None when there are none."""
    if 0 in old:
        return dense_strides(new)
    blocks: list[tuple[int, int]] = []  # runs of old dimensions that lie one behind the other: (extent, stride)
    for n, s in zip(old, strides):
        if n == 1:
            continue
        if blocks and blocks[-1][1] == n * s:
            blocks[-1] = (blocks[-1][0] * n, s)
        else:
            blocks.append((n, s))
    result = [0] * len(new)
    rest = 1
    stride = 1
    for k in range(len(new) - 1, -1, -1):
        if new[k] == 1:
            result[k] = 1
            continue
        if rest == 1:
            if not blocks:
                return None
            rest, stride = blocks.pop()
        if rest % new[k]:
            return None
        result[k] = stride
        stride *= new[k]
        rest //= new[k]
    return tuple(result) if rest == 1 and not blocks else None
