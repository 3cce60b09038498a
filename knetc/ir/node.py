"""Graph values and graphs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from knetc.ir.op import Op
from knetc.ir.types import Shape


class Line(NamedTuple):
    """A place in the user's code."""

    file: str
    number: int
    function: str = ""
    derivative: bool = False
    """True on values that differentiation made from what the user wrote there."""

    def __str__(self) -> str:
        return f"{'∂ ' if self.derivative else ''}{self.file}:{self.number}"


_serial = count()


def next_serial() -> int:
    """A number that all nodes made from now on exceed, and none before."""
    return next(_serial)


class Node:
    """A value of a graph: an operation applied to other values, with its type. Frozen, but for notes.

    ``lines`` (where the user wrote it) is a note, not part of the value's identity. ``payload`` belongs to leaves of
    lazy graphs: the buffer or array that the leaf stands for.
    """

    __slots__ = ("__weakref__", "attributes", "lines", "op", "payload", "serial", "sources", "type")

    op: Op
    sources: tuple[Node, ...]
    attributes: Mapping[str, Hashable]
    type: Any
    lines: tuple[Line, ...]
    serial: int
    payload: Any

    def __init__(
        self,
        op: Op,
        sources: tuple[Node, ...],
        attributes: Mapping[str, Hashable],
        type: Any,
        lines: tuple[Line, ...] = (),
        payload: Any = None,
    ) -> None:
        self.op = op
        self.sources = sources
        self.attributes = attributes
        self.type = type
        self.lines = lines
        self.payload = payload
        self.serial = next(_serial)

    @property
    def shape(self) -> Shape:
        return self.type.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes[attribute]

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.type} #{self.serial}>"

    # Arithmetic operators are installed by knetc.ops, so that gradient rules and composites read as mathematics.
    if TYPE_CHECKING:

        def __add__(self, other: Any) -> Node: ...
        def __radd__(self, other: Any) -> Node: ...
        def __sub__(self, other: Any) -> Node: ...
        def __rsub__(self, other: Any) -> Node: ...
        def __mul__(self, other: Any) -> Node: ...
        def __rmul__(self, other: Any) -> Node: ...
        def __truediv__(self, other: Any) -> Node: ...
        def __rtruediv__(self, other: Any) -> Node: ...
        def __floordiv__(self, other: Any) -> Node: ...
        def __mod__(self, other: Any) -> Node: ...
        def __pow__(self, other: Any) -> Node: ...
        def __rpow__(self, other: Any) -> Node: ...
        def __matmul__(self, other: Any) -> Node: ...
        def __and__(self, other: Any) -> Node: ...
        def __or__(self, other: Any) -> Node: ...
        def __xor__(self, other: Any) -> Node: ...
        def __lt__(self, other: Any) -> Node: ...
        def __le__(self, other: Any) -> Node: ...
        def __gt__(self, other: Any) -> Node: ...
        def __ge__(self, other: Any) -> Node: ...
        def __neg__(self) -> Node: ...
        def __pos__(self) -> Node: ...
        def __abs__(self) -> Node: ...
        def __invert__(self) -> Node: ...


def float_text(value: float) -> str:
    """A number's bits as text, also the sign of a zero and of NaN, which ``float.hex`` leaves out."""
    return value.hex() if value == value else "nan" if math.copysign(1, value) > 0 else "-nan"


def constant_key(value: Hashable) -> Hashable:
    """A constant's identity: by type and bits, so that 0.0 is not -0.0 and 1 is not True; NaN equals itself."""
    return (type(value).__name__, float_text(value) if isinstance(value, float) else value)


def node_key(op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable], type: Any) -> Hashable:
    """What makes two values of one graph the same."""
    values = tuple(constant_key(v) for v in attributes.values())
    return (op.name, values, tuple(s.serial for s in sources), type if not sources else None)


def topological(outputs: Iterable[Node], leaves: Iterable[Node] = ()) -> list[Node]:
    """All values that the outputs need, sources first, in an order that depends on the graph alone. Never recurses.

    The walk does not look behind ``leaves``.
    """
    order: list[Node] = []
    seen: set[int] = set()
    stops = {leaf.serial for leaf in leaves}
    for output in outputs:
        if output.serial in seen:
            continue
        seen.add(output.serial)
        stack: list[tuple[Node, Iterator[Node]]] = [(output, iter(() if output.serial in stops else output.sources))]
        while stack:
            node, sources = stack[-1]
            for source in sources:
                if source.serial not in seen:
                    seen.add(source.serial)
                    stack.append((source, iter(() if source.serial in stops else source.sources)))
                    break
            else:
                stack.pop()
                order.append(node)
    return order


@dataclass(frozen=True, eq=False)
class Graph:
    """A program in the middle of the compiler: typed values from inputs to outputs.

    ``inputs`` are ``input`` leaves, in calling order. ``updates`` maps an output's position to the position of the
    input whose buffer it may overwrite (a Param's new value). ``effects`` are checks and host calls, in order, which
    are kept although nothing uses them. Nodes are interned: two values with the same op, attributes and sources are
    the same node.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    effects: tuple[Node, ...] = ()
    updates: Mapping[int, int] = field(default_factory=dict)
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    @cached_property
    def nodes(self) -> list[Node]:
        """All values, sources first; inputs (used or not) come first of all."""
        order = topological((*self.inputs, *self.effects, *self.outputs))
        return order

    @cached_property
    def users(self) -> dict[Node, list[Node]]:
        """For each value, the values that use it (once for each use)."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for source in node.sources:
                users[source].append(node)
        return users
