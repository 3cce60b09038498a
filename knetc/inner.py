"""Functions called on stand-ins: what they do is recorded apart, to be recorded anew in another form."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NoReturn

import numpy as np

from knetc.ir.ambient import ambient
from knetc.ir.control import may_raise
from knetc.ir.node import Node
from knetc.ir.op import Kind, Op
from knetc.ir.types import TensorType
from knetc.lazy import Box, Context, Storage, context
from knetc.ops.apply import INPUT
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import TraceError


class Inner(Context):
    """Collects what a function does with stand-ins, which have types but no numbers.

    Arrays and Params from outside are what they are in the surrounding context, whose nodes appear as sources of those
    made here. ``what`` is the transformation that the function is under, for messages.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.outer = context()
        self.device = self.outer.device
        self.effects: list[Node] = []
        self.draws: dict[Node, int] = {}
        """Stand-ins for places in the stream of random numbers, and how many numbers are drawn there."""

    def make(self, op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable]) -> Node:
        if op.kind is not Kind.EFFECT:
            node = super().make(op, sources, attributes)
            if op.kind is Kind.CONTROL and may_raise(node) and node not in self.effects:
                self.effects.append(node)
            return node
        node = Node(op, sources, attributes, op.infer(*[s.type for s in sources], **attributes), self.note())
        self.interned["effect", node.serial] = node  # never merged
        self.effects.append(node)
        return node

    def stand_in(self, type: TensorType) -> Node:
        """A value of which only the type is known."""
        return self.make(INPUT, (), {"index": len(self.interned), "type": type, "scalar": False})

    # --- what comes from outside

    def read(self, box: Box) -> Node:
        if box.owner is self.outer:
            assert box.node is not None
            return box.node
        return self.outer.read(box)

    def data(self, array: np.ndarray[Any, Any]) -> Node:
        return self.outer.data(array)

    def scalar(self, owner: object, name: str) -> Any:
        return self.outer.scalar(owner, name)

    def fresh(self) -> int:
        return self.outer.fresh()

    def random_base(self, count: int) -> Node:
        node = self.stand_in(TensorType(dtypes.i64, ()))
        self.draws[node] = count
        return node

    def place(self, box: Box, device: str | None = None) -> None:
        if device is None or device == (self.outer.device or ambient().device):
            return
        if not self.outer.is_trace:
            raise TraceError(
                f"a function under {self.what} makes an array on {device}: make it outside, or make that the default "
                "with kn.set_default"
            )
        self.outer.place(box, device)

    # --- what cannot be done here

    def write(self, box: Box, node: Node) -> NoReturn:
        raise TraceError(
            f"a function under {self.what} assigns to an array or Param ({box.type}) from outside, which has no single "
            "new value there: return the new value, and assign it afterwards"
        )

    def concrete(self, box: Box, what: str) -> Storage:
        if box.owner is not self:
            return self.outer.concrete(box, what)
        if not self.active:
            return super().concrete(box, what)
        made = box.node.lines[0] if box.node is not None and box.node.lines else None
        raise TraceError(
            f"{what} needs the numbers of a value ({box.type}{f', made at {made}' if made else ''}) under {self.what}, "
            "where it stands for many: use kn.where to choose between values, and decide what Python must know outside"
        )
