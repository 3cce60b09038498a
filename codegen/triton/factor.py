"""A factor of a matrix product in Triton source: how a block of it is read, and computed where it has a prologue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from knetc.codegen.triton.code import operation
from knetc.codegen.triton.emitter import Value, literal_text, memory_type, register_type
from knetc.codegen.triton.source import Prelude
from knetc.runtime.base import dtypes

from knetc.ir.node import Node
from knetc.passes.domain import is_number
from knetc.passes.views import VIEWS, View


def in_pieces(view: View, piece: int, inner: int) -> View:
    """A factor of which each program walks a piece of the inner dimension, whose number is the first batch axis."""
    reads = tuple((leaf, in_pieces(lies, piece, inner)) for leaf, lies in view.reads)
    return replace(view, strides=(piece * view.strides[inner], *view.strides), reads=reads)


@dataclass
class Factor:
    """The block ``name`` of a product's left (``a``) or right (``b``) factor, as statements."""

    name: str
    view: View
    prelude: Prelude
    parameters: Mapping[Node, str]
    dtype: np.dtype
    """In which its values are multiplied."""
    shape: tuple[int, int]
    masks: tuple[str, str]
    """Where its rows and columns are inside of the matrix; empty where all are."""
    before: list[str] = field(default_factory=list)
    """What is known before the steps along the inner dimension."""
    lines: list[str] = field(default_factory=list)
    """What each step does."""

    def __post_init__(self) -> None:
        self.places = ("row", "inner[None, :]") if self.name == "a" else ("inner[:, None]", "column")
        self.outer, self.inner = (-2, -1) if self.name == "a" else (-1, -2)
        if self.view.prologue:
            self._computed()
        else:
            place = self._place(self.view, self.name, (self.outer, self.inner))
            masks = _all(*self.masks)
            found = f"tl.load({place}{f', {masks}, 0.0' if masks else ''})"
            if self.view.dtype != self.dtype:
                found += f".to({register_type(self.dtype)})"
            self.lines.append(f"{self.name} = {found}")

    def _place(self, view: View, name: str, dimensions: Sequence[int]) -> str:
        """Where the elements of an array lie that go along these dimensions of the block.

        What the steps do not change of it is found before them.
        """
        pointer = self.parameters[view.base]
        terms = _batches(view)
        terms += [_times(self.places[self.outer], view.strides[self.outer])] if self.outer in dimensions else []
        terms += [str(view.offset)] if view.offset else []
        first = " + ".join([pointer, *terms])
        if self.inner not in dimensions:
            return first
        if terms:
            self.before.append(f"{name}_first = {first}")
            first = f"{name}_first"
        return f"{first} + {_times(self.places[self.inner], view.strides[self.inner])}"

    # --- what is computed while it is read ----------------------------------------------------------------------------

    def _computed(self) -> None:
        values = {leaf: self._read(lies, k) for k, (leaf, lies) in enumerate(self.view.reads)}
        for number, node in enumerate(self.view.prologue):
            if node.op.name in VIEWS:  # of a number
                values[node] = values[node.sources[0]]
            elif node.op.name == "constant":
                values[node] = Value(literal_text(node["value"], node.dtype), node.dtype, literal=True)
            else:
                operands = [values[source] for source in node.sources]
                made = f"{self.name}_{node.op.name}{number}"
                more, values[node] = operation(node.op, operands, node.dtype, node.attributes, self.prelude, made)
                self.lines += more
        value = values[self.view.prologue[-1]].text
        cut = self.masks[self.inner]
        if cut:  # what lies behind the end must add nothing
            value = f"tl.where({cut}, {value}, 0)"
        covered = {k for _, lies in self.view.reads for k in (-2, -1) if lies.strides[k]} | (
            {self.inner} if cut else set()
        )
        if len(covered) < 2:
            value = f"tl.broadcast_to({value}, {list(self.shape)})"
        if dtypes.is_narrow(self.dtype):
            value += f".to({memory_type(self.dtype)})"
        elif register_type(self.view.dtype) != register_type(self.dtype):
            value += f".to({register_type(self.dtype)})"
        self.lines.append(f"{self.name} = {value}")

    def _read(self, lies: View, number: int) -> Value:
        """An array, an index ramp or a number that the prologue is computed from."""
        base, name = lies.base, f"{self.name}_x{number}"
        if is_number(base):
            return self._number(base)
        dimensions = [k for k in (-2, -1) if lies.strides[k]]
        if base.op.name == "iota":
            terms = [*_batches(lies), *(_times(self.places[k], lies.strides[k]) for k in dimensions)]
            terms += [str(lies.offset)] if lies.offset or not terms else []
            found = f"({' + '.join(terms)}).to({register_type(base.dtype)})"
        else:
            masks = _all(*(self.masks[k] for k in dimensions))
            found = f"tl.load({self._place(lies, name, dimensions)}{f', {masks}' if masks else ''})"
            if base.dtype.kind == "b":
                found += " != 0"
            elif dtypes.is_narrow(base.dtype):
                found += ".to(tl.float32)"
        (self.lines if self.inner in dimensions else self.before).append(f"{name} = {found}")
        return Value(name, base.dtype)

    def _number(self, base: Node) -> Value:
        name = self.parameters[base]
        if base.dtype.kind == "b":
            self.before.append(f"{name}_is = {name} != 0")
            name = f"{name}_is"
        return Value(name, base.dtype)


def _all(*masks: str) -> str:
    """Where all of some conditions hold."""
    given = [mask for mask in masks if mask]
    return " & ".join(f"({mask})" if " " in mask and len(given) > 1 else mask for mask in given)


def _batches(view: View) -> list[str]:
    return [_times(f"batch{k}", s) for k, s in enumerate(view.strides[:-2]) if s]


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"
