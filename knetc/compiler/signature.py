"""Signatures: what must be the same for a traced program to serve another call, and how a difference is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from knetc.compiler.captures import Atom, Edge, Place, Walk
from knetc.compiler.trace import Traced
from knetc.ir.ambient import Ambient
from knetc.ir.types import TensorType
from knetc.lazy import device_of
from knetc.runtime.devices import CPU


@dataclass
class Statics:
    """Which numbers among the arguments are constants of the trace."""

    arguments: frozenset[str]
    """Arguments that the user declared static, with all that is in them."""
    found: dict[str, str]
    """Ways to numbers that Python itself needed, and for what; learned by traces."""

    def holds(self, atom: Atom) -> bool:
        """Whether a number is part of the signature."""
        return not is_number(atom.value) or atom.edge.text in self.found or root_name(atom.edge) in self.arguments


def is_number(value: object) -> bool:
    """Whether a value in an argument is a run-time number."""
    return type(value) in (int, float) or isinstance(value, np.generic)


def root_name(edge: Edge) -> str:
    """The argument, global or cell that a way begins with."""
    while edge.parent is not None and edge.parent.edges:
        edge = edge.parent.edges[0]
    return str(edge.step.key)


def relevant(walk: Walk, traced: Traced) -> dict[Place, Edge]:
    """The places that the signature speaks of, with the way that each is read by; parents come first.

    They are all that the code names, and what else the trace touched. Of arrays in containers that no argument holds,
    only those that the trace touched: a list of a thousand batches costs nothing.
    """
    touched = touched_places(walk, traced)
    ways: dict[Place, list[tuple[Place, Edge]]] = {}
    chosen: dict[Place, Edge] = {}
    for place in walk.places.values():
        for edge in place.edges:
            if not edge.named:
                continue
            if edge.parent is None:
                chosen.setdefault(place, edge)
            else:
                ways.setdefault(edge.parent, []).append((place, edge))
    queue = list(chosen)
    for place in queue:  # grows
        for inner, edge in ways.get(place, ()):
            element = not inner.given and edge.step.kind == "item" and inner.kind in ("box", "ndarray")
            if inner not in chosen and not (element and inner not in touched):
                chosen[inner] = edge
                queue.append(inner)
    for place in touched:
        chain: list[Place] = []
        above: Place | None = place
        while above is not None and above not in chosen:
            chain.append(above)
            above = above.edges[0].parent
        chosen.update((found, found.edges[0]) for found in reversed(chain))
    return chosen


def touched_places(walk: Walk, traced: Traced) -> dict[Place, None]:
    """Where the graph's inputs come from."""
    touched: dict[Place, None] = {}
    for leaf in traced.leaves:
        place = leaf.place
        if leaf.kind in ("scalar", "generic"):
            place = leaf.source.edge.parent
        elif leaf.kind == "attribute":
            place = walk.find(leaf.source)
        if place is not None:
            touched[place] = None
    return touched


def tensor_type(array: np.ndarray[Any, Any]) -> TensorType:
    """A NumPy array's dtype, in native byte order, and shape."""
    return TensorType(array.dtype.newbyteorder("="), array.shape)


def describe(walk: Walk, statics: Statics, settings: Ambient) -> dict[str, str]:
    """A signature for people: what each argument, captured array and flag is."""
    return dict(_describe(walk, statics, settings))


def _describe(walk: Walk, statics: Statics, settings: Ambient) -> Iterator[tuple[str, str]]:
    for place in walk.places.values():
        if not any(edge.named for edge in place.edges):
            continue
        match place.kind:
            case "box":
                device = device_of(place.value)
                where = "" if device == CPU else f" on {device}"
                yield place.text, f"{type(place.value).__name__} {place.value.type}{where}"
            case "ndarray":
                yield place.text, f"NumPy {tensor_type(place.value)}"
            case "container":
                yield place.text, f"a {type(place.value).__name__} of {len(place.value)}"
            case "function":
                name = getattr(place.value, "__qualname__", type(place.value).__name__)
                yield place.text, f"function {name} #{id(place.value):x}"
            case "object":
                yield place.text, f"a {type(place.value).__name__}"
            case _:
                pass
        for edge in place.edges[1:]:
            if edge.named:
                yield edge.text, f"the same as {place.text}"
    for atom in walk.atoms:
        if atom.given and not statics.holds(atom):
            yield atom.edge.text, f"a run-time {type(atom.value).__name__}"
        else:
            yield atom.edge.text, repr(atom.value)
    for setting in fields(settings):
        yield setting.name, str(getattr(settings, setting.name))


def difference(new: Mapping[str, str], known: list[Mapping[str, str]]) -> str:
    """What a new signature differs in from the most similar known one."""
    best: list[str] = []
    for old in reversed(known):  # of equally similar ones the latest
        names = [name for name in (*new, *(n for n in old if n not in new)) if new.get(name) != old.get(name)]
        if not best or len(names) < len(best):
            best = [f"{name} was {old.get(name, 'not there')}, is {new.get(name, 'not there')}" for name in names]
    shown = "; ".join(best[:3])
    return f"{shown}; and {len(best) - 3} more" if len(best) > 3 else shown or "what the function reaches has changed"
