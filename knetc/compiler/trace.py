"""The recorder that collects one function call as a graph.

Values of arrays and Params live here while the function is traced, never on the objects: nothing has changed if the
function raises. What the graph needs from outside becomes a ``Leaf``, which says where each call reads it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import numpy as np

from knetc.compiler.captures import Place, Walk
from knetc.ir.ambient import ambient
from knetc.ir.build import graph_of
from knetc.ir.control import may_raise
from knetc.ir.node import Graph, Line, Node
from knetc.ir.op import Kind, Op
from knetc.ir.record import user_line
from knetc.ir.types import TensorType
from knetc.lazy import Box, Context, check_dtype, device_of
from knetc.ops.apply import INPUT, constant
from knetc.ops.arithmetic import ADD
from knetc.ops.scalars import RuntimeScalar
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DeviceError, TraceError

LeafKind = Literal["box", "ndarray", "generic", "scalar", "attribute", "fixed", "random"]


@dataclass(eq=False)
class Leaf:
    """An input of the graph, and where a call finds it.

    ``box`` and ``ndarray``: at ``place``. ``scalar``: the number that the atom ``source`` (of the walk) leads to;
    ``generic``: a NumPy scalar, likewise.
    ``attribute``: attribute ``name`` of the object ``source``, read at each call (an optimizer's lr). ``fixed``: the
    NumPy array ``source``, which the function itself made. ``random``: the first of the random numbers that a run uses.
    """

    kind: LeafKind
    node: Node
    place: Place | None = None
    source: Any = None
    name: str = ""


class Restart(BaseException):
    """The trace must begin again with some scalars static (not an Exception: users' handlers shall not see it)."""

    def __init__(self, scalars: frozenset[int], use: str, line: Line | None) -> None:
        self.scalars = scalars
        self.use = use
        self.line = line


@dataclass(eq=False)
class _Write:
    """A Param or array from outside and its new value."""

    box: Box
    leaf: Leaf
    node: Node


@dataclass
class Traced:
    """What a trace gave: the graph, where its inputs come from, what its outputs are."""

    graph: Graph
    leaves: list[Leaf]
    """One for each input of the graph."""
    result: Any
    """What the function returned, with ``Output`` in place of traced arrays."""
    written: list[Leaf]
    """Whose new values the last outputs are, in order."""
    random_count: int = 0
    device: str = "cpu"
    boxes: list[Box] = field(default_factory=list)


class Trace(Context):
    """Collects what a function does with its arguments and captures, as one graph."""

    def __init__(self, walk: Walk, name: str, device: str | None = None) -> None:
        """``device`` is where the program shall run; without it, where what it reads is, or on the default device."""
        super().__init__()
        self.name = name
        self.device = device
        self.first: str = "the function is compiled for it"
        self.walk = walk
        self.leaves: list[Leaf] = []
        self.values: dict[int, Node] = {}
        """The value that each array or Param from outside has now, by identity (``walk`` keeps them alive)."""
        self.outside: dict[int, tuple[Box, Leaf]] = {}
        self.writes: dict[int, _Write] = {}
        self.scalars: dict[tuple[int, str], RuntimeScalar] = {}
        self.data_leaves: dict[int, Leaf] = {}
        self.missing: list[tuple[Box, Line | None]] = []
        """Arrays that the walk before the trace did not find, and where they were used: the trace cannot be kept."""
        self.effects: list[Node] = []
        self.read_only: list[tuple[Box, Node | None, str]] = []
        """Handles on NumPy arrays that were given: the value that each must still have at the end, and its name."""
        self.random: Node | None = None
        self.random_count = 0

    # --- making nodes

    def note(self) -> tuple[Line, ...]:
        if self.lines:
            return self.lines
        line = user_line(4)
        return () if line is None else (line,)

    def make(self, op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable]) -> Node:
        if op.kind is not Kind.EFFECT:
            made = super().make(op, sources, attributes)
            if op.kind is Kind.CONTROL and may_raise(made):
                self.effects.append(made)
            return made
        # checks are numbered, not merged
        node = Node(op, sources, attributes, op.infer(*[s.type for s in sources], **attributes), self.note())
        self.effects.append(node)
        return node

    def _leaf(self, kind: LeafKind, type: TensorType, *, scalar: bool = False, **where: Any) -> Leaf:
        attributes = {"index": len(self.leaves), "type": type, "scalar": scalar}
        leaf = Leaf(kind, self.make(INPUT, (), attributes), **where)
        self.leaves.append(leaf)
        return leaf

    # --- arrays and Params

    def read(self, box: Box) -> Node:
        node = self.values.get(id(box))
        return self._bind(box).node if node is None else node

    def _bind(self, box: Box) -> Leaf:
        """The input of an array or Param from outside."""
        known = self.outside.get(id(box))
        if known is not None:
            return known[1]
        if box.owner is not None and box.owner is not self:
            raise TraceError(f"this value ({box.type}) belongs to another function's trace, in another thread")
        place = self.walk.find(box)
        if place is None:
            self.missing.append((box, user_line()))
        self.settle_device(device_of(box), "a captured array" if place is None else place.text)
        leaf = self._leaf("box", box.type, place=place)
        self.outside[id(box)] = (box, leaf)
        self.values[id(box)] = leaf.node
        return leaf

    def settle_device(self, device: str, name: str) -> None:
        """Note that something is on a device; raises DeviceError if something else is on another one."""
        if self.device is None:
            self.device, self.first = device, f"{name} is there"
        elif self.device != device:
            raise DeviceError(
                f"{self.name} runs on {self.device} ({self.first}), but {name} is on {device}, and a program runs on "
                f"one device: copy with kn.to_device(x, {self.device!r}), or a whole model with kn.gpucopy or "
                "kn.cpucopy"
            )

    def place(self, box: Box, device: str | None = None) -> None:
        if device is not None:
            self.settle_device(device, "an array that is made in it")

    def adopt(self, box: Box, node: Node) -> None:
        super().adopt(box, node)
        box.buffer, box.offset = None, 0

    def write(self, box: Box, node: Node) -> None:
        if box.owner is self:
            box.node, box.type = node, node.type
            return
        leaf = self._bind(box)
        self.values[id(box)] = node
        self.writes[id(box)] = _Write(box, leaf, node)

    def data(self, array: np.ndarray[Any, Any]) -> Node:
        leaf = self.data_leaves.get(id(array))
        if leaf is None:
            type = TensorType(array.dtype.newbyteorder("="), array.shape)
            check_dtype(type.dtype)
            place = self.walk.find(array)
            if place is not None:
                leaf = self._leaf("ndarray", type, place=place, source=array)
            elif not array.shape:
                return constant(array.item(), type.dtype)
            else:
                # ``source`` keeps the array alive too, so that its identity stays its own
                leaf = self._leaf("fixed", type, source=array)
            self.data_leaves[id(array)] = leaf
        return leaf.node

    def generic(self, value: np.generic, source: object) -> Node:
        """The node of a NumPy scalar that the function was given."""
        leaf = self.data_leaves.get(id(source))
        if leaf is None:
            array = np.asarray(value)
            check_dtype(array.dtype)
            leaf = self.data_leaves[id(source)] = self._leaf("generic", TensorType(array.dtype, ()), source=source)
        return leaf.node

    # --- numbers

    def scalar(self, owner: object, name: str) -> Any:
        """The number in an object's attribute as a run-time value: each call reads it again."""
        value = getattr(owner, name)
        if type(value) not in (int, float) or self.walk.find(owner) is None:
            return value
        return self._scalar((id(owner), name), value, "attribute", source=owner, name=name)

    def argument(self, key: int, value: int | float, source: object) -> RuntimeScalar:
        """A number that the function was given, as a run-time value."""
        return self._scalar((key, ""), value, "scalar", source=source)

    def _scalar(self, key: tuple[int, str], value: int | float, kind: LeafKind, **where: Any) -> RuntimeScalar:
        known = self.scalars.get(key)
        if known is None:
            type = TensorType(dtypes.f64 if isinstance(value, float) else dtypes.i64, ())
            leaf = self._leaf(kind, type, scalar=True, **where)
            roots = frozenset((len(self.leaves) - 1,))
            known = self.scalars[key] = RuntimeScalar(value.__class__, leaf.node, roots, self._needs)
        return known

    def _needs(self, scalars: frozenset[int], use: str) -> NoReturn:
        raise Restart(scalars, use, user_line())

    def random_base(self, count: int) -> Node:
        if self.random is None:
            self.random = self._leaf("random", TensorType(dtypes.i64, ()), scalar=True).node
        offset = self.random_count
        self.random_count += count
        return self.make(ADD, (self.random, constant(offset, dtypes.i64)), {}) if offset else self.random

    # --- the end

    def finish(self, result: Any, outputs: list[Node]) -> Traced:
        """The graph of all that was recorded and is needed: the outputs, then the new values of what was written."""
        for handle, node, name in self.read_only:
            if handle.node is not node:
                line = handle.node.lines[0] if handle.node is not None and handle.node.lines else "an unknown line"
                raise TraceError(
                    f"{self.name} assigns to {name}, which is a NumPy array: a compiled function writes none; pass "
                    f"kn.array({name}), or return the new value\n  at {line}"
                )
        written: list[_Write] = [w for w in self.writes.values() if w.node is not w.leaf.node]
        updates = {
            len(outputs) + k: w.leaf.node["index"] for k, w in enumerate(written) if w.node.type == w.leaf.node.type
        }
        graph = graph_of(
            [leaf.node for leaf in self.leaves],
            [*outputs, *(w.node for w in written)],
            effects=self.effects,
            updates=updates,
            input_names=self.names(),
        )
        return Traced(
            graph,
            self.leaves,
            result,
            [w.leaf for w in written],
            self.random_count,
            self.device or ambient().device,
            [w.box for w in written],
        )

    def names(self) -> list[str]:
        """What the user would call each input."""
        return [self._name(leaf) for leaf in self.leaves]

    def _name(self, leaf: Leaf) -> str:
        if leaf.place is not None:
            return leaf.place.text
        match leaf.kind:
            case "scalar" | "generic":
                return str(leaf.source.edge.text)
            case "attribute":
                place = self.walk.find(leaf.source)
                return f"{place.text if place else '?'}.{leaf.name}"
            case _:
                return leaf.kind
