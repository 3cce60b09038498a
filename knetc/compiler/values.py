"""What goes into a trace in place of a function's arguments, and what comes out in place of its results."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from knetc.arrays import of_node
from knetc.compiler.captures import ATOMS, Place, is_record
from knetc.compiler.signature import Statics
from knetc.compiler.trace import Trace
from knetc.ir.node import Node
from knetc.lazy import Box
from knetc.ops.scalars import RuntimeScalar
from knetc.runtime.base.errors import TraceError


@dataclass(frozen=True)
class Output:
    """In a result: the array that is the program's output of this number."""

    index: int


@dataclass(frozen=True)
class Given:
    """In a result: something that the function was given or reached, returned as it is."""

    place: Place


@dataclass(frozen=True)
class Rebuilt:
    """In a result: a container with arrays in it."""

    template: Any
    items: tuple[Any, ...]


class Arguments:
    """What the Python function is given while it is traced: numbers and NumPy arrays are replaced by traced values."""

    def __init__(self, trace: Trace, statics: Statics) -> None:
        self.trace = trace
        self.statics = statics
        self.atoms = {(atom.edge.parent, atom.edge.step.key): atom for atom in trace.walk.atoms if atom.given}
        self.places = {(e.parent, e.step.key): p for p in trace.walk.places.values() if p.given for e in p.edges}
        self.done: dict[Place, Any] = {}

    def values(self, parameters: Sequence[inspect.Parameter], values: Sequence[Any]) -> list[Any]:
        return [self.value(value, None, p.name) for p, value in zip(parameters, values)]

    def value(self, value: Any, parent: Place | None, key: Any) -> Any:
        """The replacement of what ``key`` leads to."""
        atom = self.atoms.get((parent, key))
        if atom is not None:
            if self.statics.holds(atom):
                return value
            if isinstance(value, np.generic):
                return of_node(self.trace.generic(value, atom))
            return self.trace.argument(id(atom), value, atom)
        place = self.places.get((parent, key))
        if place is None:
            return value
        if place not in self.done:
            self.done[place] = value  # in case it holds itself
            self.done[place] = self.replacement(place, value)
        return self.done[place]

    def replacement(self, place: Place, value: Any) -> Any:
        if place.kind == "ndarray":
            handle = of_node(self.trace.data(value))
            self.trace.read_only.append((handle, handle.node, place.text))
            return handle
        if place.kind == "container":
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            items = [self.value(value[k], place, k) for k in keys]
            return container_like(value, items) if any(n is not value[k] for k, n in zip(keys, items)) else value
        if place.kind == "object" and is_record(value):
            names = list(value.__dataclass_fields__)
            items = [self.value(getattr(value, n), place, n) for n in names]
            return (
                rebuild(value, tuple(items)) if any(n is not getattr(value, k) for k, n in zip(names, items)) else value
            )
        return value


def container_like(container: Any, items: list[Any]) -> Any:
    """A tuple, named tuple, list or dict with other elements."""
    if isinstance(container, dict):
        return dict(zip(container, items))
    return type(container)(*items) if hasattr(container, "_fields") else type(container)(items)


class Results:
    """What a traced function returned, as a template for the results of later calls."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.nodes: list[Node] = []
        self.numbers: dict[Node, int] = {}

    def output(self, node: Node) -> Output:
        number = self.numbers.setdefault(node, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
        return Output(number)

    def template(self, value: Any) -> Any:
        """``value`` with its arrays replaced by what they are in a later call."""
        if isinstance(value, Box):
            if value.owner is self.trace:
                assert value.node is not None
                return self.output(value.node)
            place = self.trace.walk.find(value)
            if place is None:
                self.trace.read(value)  # raises, with the reason
            return value if place is None else Given(place)
        if isinstance(value, RuntimeScalar):
            return self.output(value.node)
        if type(value) in (list, tuple, dict) or hasattr(value, "_fields"):
            items = list(value.values()) if isinstance(value, dict) else list(value)
            return Rebuilt(value, tuple(self.template(item) for item in items))
        place = self.trace.walk.find(value)
        if is_record(value) and not isinstance(value, type):
            items = [self.template(getattr(value, name)) for name in value.__dataclass_fields__]
            if place is None or any(type(item) in (Output, Rebuilt) for item in items):
                return Rebuilt(value, tuple(items))
        if place is not None:
            return Given(place)
        if isinstance(value, (*ATOMS, ModuleType, np.ndarray)) or callable(value):
            return value
        raise TraceError(
            f"{self.trace.name} returns a {type(value).__name__} that it made: a compiled function returns arrays, "
            "numbers and strings, and tuples, lists, dicts and dataclasses of them"
        )


def rebuild(template: Any, items: tuple[Any, ...]) -> Any:
    """A dataclass like ``template`` with other values in its fields."""
    result = object.__new__(type(template))
    for name, value in zip(template.__dataclass_fields__, items):
        object.__setattr__(result, name, value)
    return result
