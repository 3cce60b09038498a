"""The Python code in front of a program: checks, inputs, outputs, the call. Written as text for each variant.

A call of a compiled function must cost less than a microsecond, so nothing general runs there: each variant gets a
body of straight-line Python that checks just what its signature says, reads its inputs by their ways, makes its result
buffers, and calls the native entry.

A body for the CPU does not ask where the memory is that it is given: reading the address of another device's raises,
and the call goes to another variant.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import types
from collections.abc import Callable, Mapping
from sys import getrefcount
from typing import Any, NoReturn, Protocol

import numpy as np

from knetc import lazy
from knetc.arrays import Array
from knetc.compiler.captures import Atom, Edge, Place, Walk
from knetc.compiler.signature import Statics, relevant, touched_places
from knetc.compiler.trace import Leaf, Traced
from knetc.compiler.values import Given, Output, Rebuilt, rebuild
from knetc.ir import ambient
from knetc.ir.types import TensorType
from knetc.lazy import Box
from knetc.runtime import devices
from knetc.runtime.base.errors import RangeError
from knetc.runtime.buffers import Buffer, ElsewhereError, allocate, home_of
from knetc.runtime.devices import CPU
from knetc.runtime.program import Program


class Executable(Protocol):
    """A program that can run: ``entry(addresses of inputs…, addresses of outputs…, scalars…)``, and its plan.

    The entry returns None, or, when a check failed, what ``fail`` turns into the exception.
    """

    @property
    def entry(self) -> Callable[..., Any]: ...
    @property
    def program(self) -> Program: ...
    def fail(self, failure: Any) -> NoReturn: ...


UPDATES = threading.RLock()
"""Held from reading an updated array's memory to storing what replaces it, so that no update is lost."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=UPDATES.acquire, after_in_parent=UPDATES.release, after_in_child=UPDATES.release)

MISS: Any = object()
"""What a variant's body returns when the call is not its."""


def same_type(box: Box, type: TensorType) -> bool:
    """Whether an array is of this type; from then on it shares the type object, which is quick to compare."""
    if box.type == type:
        box.type = type
        return True
    return False


def memory(box: Box) -> Buffer:
    """The buffer of an array that is not in memory yet."""
    lazy.realize(box)
    buffer = box.buffer
    assert buffer is not None
    return buffer


def copy(buffer: Buffer, offset: int, size_bytes: int) -> Buffer:
    """A buffer of its own for a value that is going to be updated, while others hold the memory that it lies in."""
    result = allocate(size_bytes)
    ctypes.memmove(result.address, buffer.address + offset, size_bytes)
    return result


def dense(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array's elements as generated code reads them: C-contiguous, aligned, in native byte order."""
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])


class _ArrayHead(ctypes.Structure):
    """How NumPy's arrays begin in memory (``PyArrayObject_fields``): Python's header, then the data's address."""

    _fields_ = (("header", ctypes.c_char * object.__basicsize__), ("data", ctypes.c_ssize_t))


def address(array: np.ndarray[Any, Any]) -> int:
    """Where a NumPy array's elements begin; a tenth of the time that ``__array_interface__`` takes."""
    return _ArrayHead.from_address(id(array)).data  # type: ignore[no-any-return]


def slow_address(array: np.ndarray[Any, Any]) -> int:
    """The same by the documented way."""
    return array.__array_interface__["data"][0]  # type: ignore[no-any-return]


if address(_probe := np.zeros(3)) != slow_address(_probe):
    address = slow_address  # another Python or NumPy


class Writer:
    """Writes the body of one variant."""

    def __init__(self, number: int, walk: Walk, traced: Traced, statics: Statics) -> None:
        self.number = number
        self.walk = walk
        self.traced = traced
        self.statics = statics
        self.space: dict[str, Any] = {}
        self.names: dict[int, str] = {}
        self.conditions: list[str] = []
        self.ways: list[str] = []
        self.lines: list[str] = []
        self.variables: dict[int, str] = {}
        self.atoms: dict[int, str] = {}
        self.leaves = {
            (id(leaf.source), leaf.name): leaf
            for leaf in traced.leaves
            if leaf.kind in ("scalar", "generic", "attribute")
        }
        self.touched = touched_places(walk, traced)
        self.device = None if traced.device == CPU else devices.device(traced.device)
        self.copy = "_copy" if self.device is None else self.constant(self.device.copy)
        self.check()

    def checks(self) -> str:
        """The text, indented by four, that sets ``_hit``: whether a call is the variant's."""
        conditions = "\n            and ".join(self.conditions) or "True"
        return (
            "    try:\n"
            f"        _hit = (\n            {conditions}\n        )\n"
            "    except _READING:\n"
            "        _hit = False\n"
        )

    def body(self, executable: Executable) -> str:
        """The text, indented by four; it ends with ``return`` if the call is the variant's."""
        self.run(executable)
        inner = "".join(f"            {line}\n" for line in self.lines)
        if self.traced.written:
            inner = "            with _UPDATES:\n" + "".join(f"                {line}\n" for line in self.lines)
        return f"{self.checks()}    if _hit:\n        try:\n{inner}        except _Elsewhere: pass\n"

    # --- names

    def constant(self, value: Any, prefix: str = "_K") -> str:
        """The name of an object in the generated code's globals."""
        name = self.names.get(id(value))
        if name is None:
            name = self.names[id(value)] = f"{prefix}{self.number}_{len(self.names)}"
            self.space[name] = value
        return name

    def way(self, edge: Edge) -> str:
        """The expression that reads a way's end."""
        kind, key, base = edge.step
        parent = "" if edge.parent is None else self.variables[id(edge.parent)]
        match kind:
            case "argument":
                return str(key)
            case "global":
                return f"{self.constant(base, '_G')}[{key!r}]"
            case "cell":
                return f"{self.constant(base, '_C')}.cell_contents"
            case "attribute":
                return f"{parent}.{key}" if str(key).isidentifier() else f"getattr({parent}, {key!r})"
            case "item":
                plain = type(key) in (int, str)
                return f"{parent}[{key!r}]" if plain else f"{parent}[{self.constant(key)}]"

    # --- checks

    def require(self, condition: str, way: str) -> None:
        """Add a condition on what ``way`` leads to."""
        self.conditions.append(condition)
        self.ways.append(way)

    def probe(self) -> str:
        """The body of a function that returns the number of the first condition that fails."""
        places = [leaf.place for leaf in self.traced.leaves if leaf.kind == "box" and leaf.place in self.chosen]
        for place in places:  # a body finds this out when it reads an address
            self.ways.append(place.text)
        devices = [f"_device({self.variables[id(place)]}) == {self.traced.device!r}" for place in places]
        conditions = enumerate([*self.conditions, *devices])
        tests = "".join(f"        _k = {k}\n        if not ({c}): return _k\n" for k, c in conditions)
        return f"    _k = 0\n    try:\n{tests}        pass\n    except _READING:\n        return _k\n    return -1\n"

    def check(self) -> None:
        chosen = self.chosen = relevant(self.walk, self.traced)
        for place, edge in chosen.items():
            expression = self.way(edge)
            if edge.step.kind == "argument":
                variable = bound = expression
            else:
                variable = f"_v{len(self.variables)}"
                bound = f"({variable} := {expression})"
            self.variables[id(place)] = variable
            self.check_place(place, bound)
        for place, way in chosen.items():
            if place.kind == "opaque" and isinstance(place.value, types.ModuleType):
                continue  # libraries are not rebound
            for edge in place.edges:
                if edge is not way and edge.named and (edge.parent is None or edge.parent in chosen):
                    self.require(f"{self.way(edge)} is {self.variables[id(place)]}", edge.text)
        for atom in self.walk.atoms:
            if atom.edge.parent is None or atom.edge.parent in chosen:
                self.check_atom(atom)
        if self.traced.written:
            boxes = [p for p in chosen if p.kind == "box" and (p.given or p in self.touched)]
            if len(boxes) > 1:
                variables = ", ".join(self.variables[id(p)] for p in boxes)
                self.require(f"len({{{variables}}}) == {len(boxes)}", "two arrays that were different ones")

    def check_place(self, place: Place, bound: str) -> None:
        """The conditions on one place; the first of them binds its variable."""
        value, variable = place.value, self.variables[id(place)]
        match place.kind:
            case "box":
                type_name = self.constant(value.type, "_S")
                self.require(f"type({bound}) is {self.constant(type(value), '_T')}", place.text)
                self.require(f"({variable}.type is {type_name} or _same({variable}, {type_name}))", place.text)
            case "ndarray" if place.given or place in self.touched:
                dtype = self.constant(value.dtype, "_D")
                self.require(f"type({bound}) is {self.constant(type(value), '_T')}", place.text)
                self.require(f"({variable}.dtype is {dtype} or {variable}.dtype == {dtype})", place.text)
                self.require(f"{variable}.shape == {value.shape!r}", place.text)
            case "container":
                self.require(f"type({bound}) is {self.constant(type(value), '_T')}", place.text)
                self.require(f"len({variable}) == {len(value)}", place.text)
            case "object":
                self.require(f"type({bound}) is {self.constant(type(value), '_T')}", place.text)
                if place.methods and type(value).__dictoffset__:
                    methods = self.constant(frozenset(place.methods))
                    self.require(f"{methods}.isdisjoint({variable}.__dict__)", f"a method of {place.text}")
            case "function" if hasattr(value, "__self__") or hasattr(value, "func"):  # made anew at each look
                self.require(f"type({bound}) is {self.constant(type(value), '_T')}", place.text)
            case "opaque" if isinstance(value, (set, bytearray)):  # these change without being rebound
                self.require(f"_equal({bound}, {self.constant(value.copy())})", place.text)
            case "opaque" if place.given:
                self.require(f"_equal({bound}, {self.constant(value)})", place.text)
            case _:
                self.require(f"{bound} is {self.constant(value)}", place.text)

    def check_atom(self, atom: Atom) -> None:
        """The condition on a number or flag; numbers that a run is given are only read."""
        value, expression = atom.value, self.way(atom.edge)
        leaf = self.leaf_of(atom)
        if leaf is not None or (atom.given and not self.statics.holds(atom)):
            variable = expression if atom.edge.step.kind == "argument" else f"_v{len(self.variables)}"
            self.variables[id(leaf if leaf is not None and leaf.kind == "attribute" else atom)] = variable
            bound = variable if variable == expression else f"({variable} := {expression})"
            self.require(f"type({bound}) is {self.constant(type(value), '_T')}", atom.edge.text)
            if leaf is not None and leaf.kind == "attribute":  # code may also ask whether it is zero
                self.require(variable if value else f"not {variable}", atom.edge.text)
        elif value is None or isinstance(value, bool) or value is ...:
            self.require(f"{expression} is {value!r}", atom.edge.text)
        elif type(value) is float:
            self.require(f"_bits({expression}, {self.constant(value)})", atom.edge.text)
        else:
            variable = f"_v{len(self.variables)}"
            self.variables[id(atom)] = variable
            self.require(f"type({variable} := {expression}) is {self.constant(type(value), '_T')}", atom.edge.text)
            self.require(f"{variable} == {self.constant(value)}", atom.edge.text)

    def leaf_of(self, atom: Atom) -> Leaf | None:
        """The input that reads an atom, if one does."""
        parent = atom.edge.parent
        leaf = self.leaves.get((id(atom), ""))
        return leaf if leaf or parent is None else self.leaves.get((id(parent.value), str(atom.edge.step.key)))

    # --- running

    def run(self, executable: Executable) -> None:
        program = executable.program
        at = "address" if self.device is None else "at"
        inputs: list[str] = []
        scalars: list[str] = []
        given: dict[str, str] = {}
        buffers: dict[int, str] = {}
        positions: dict[int, int] = {}
        for index, leaf in enumerate(self.traced.leaves):
            match leaf.kind:
                case "box":
                    assert leaf.place is not None
                    variable = self.variables[id(leaf.place)]
                    buffer = buffers[index] = f"_b{index}"
                    self.lines += [
                        f"{buffer} = {variable}.buffer",
                        f"if {buffer} is None: {buffer} = _memory({variable})",
                    ]
                    if self.device is not None:
                        self.lines.append(f"if {buffer}.device != {self.device.name!r}: raise _Elsewhere")
                    positions[index] = len(inputs)
                    inputs.append(f"{buffer}.{at} + {variable}.offset")
                case "ndarray":
                    assert leaf.place is not None
                    variable = self.variables[id(leaf.place)]
                    flags = f"_f{index}"
                    self.lines.append(f"{flags} = {variable}.flags")
                    native = "" if leaf.place.value.dtype.isnative else "False and "
                    array = f"_n{index}"
                    ready = f"{native}{flags}.c_contiguous and {flags}.aligned"
                    self.lines.append(f"{array} = {variable} if {ready} else _dense({variable})")
                    inputs.append(self.host_data(index))
                case "fixed":
                    inputs.append(repr(self.fixed(leaf)))
                case "generic":
                    array = f"_n{index}"
                    self.lines.append(f"{array} = _asarray({self.variables[id(leaf.source)]})")
                    inputs.append(self.host_data(index))
                case "scalar":
                    scalars.append(self.variables[id(leaf.source)])
                    given[leaf.source.edge.text] = scalars[-1]
                case "attribute":
                    owner = self.walk.find(leaf.source)
                    assert owner is not None
                    scalars.append(self.variables.get(id(leaf), f"{self.variables[id(owner)]}.{leaf.name}"))
                    given[f"attribute {leaf.name}"] = scalars[-1]
                case "random":
                    scalars.append(f"_reserve({self.traced.random_count})")
        specs = program.outputs
        outputs: list[str] = []
        results = len(specs) - len(self.traced.written)
        commits: list[str] = []
        for number, spec in enumerate(specs):
            buffer = f"_o{number}"
            if number < results:
                self.new_buffer(buffer, spec.size_bytes)
                outputs.append(f"{buffer}.{at}")
                continue
            leaf = self.traced.written[number - results]
            assert leaf.place is not None
            box = self.variables[id(leaf.place)]
            if spec.update_of >= 0:
                index = leaf.node["index"]
                buffer = buffers[index]
                # the handle's attribute, the variable and the call make three references
                sole = f"_references({buffer}) == 3 and not {box}.offset and type({buffer}.home) is list"
                self.lines += [
                    f"{box}.node = None",  # a cached leaf is no owner; one in a pending graph is still counted
                    f"if not ({sole}): {buffer} = {self.copy}({buffer}, {box}.offset, {spec.size_bytes})",
                ]
                if self.device is not None:
                    self.lines.append(f"{buffer}.ready = -1")
                inputs[positions[index]] = f"{buffer}.{at}"
            else:
                self.new_buffer(buffer, spec.size_bytes)
            outputs.append(f"{buffer}.{at}")
            commits += [f"{box}.buffer = {buffer}", f"{box}.offset = 0", f"{box}.node = {box}.origin = None"]
            if spec.update_of < 0:
                commits.append(f"{box}.type = {self.constant(self.traced.graph.outputs[number].type, '_S')}")
        entry, fail = self.constant(executable.entry, "_entry"), self.constant(executable, "_program")
        call = f"_failure = {entry}({', '.join([*inputs, *outputs, *scalars])})"
        numbers = "".join(f"{text!r}: {variable}, " for text, variable in given.items())
        if numbers:
            self.lines += ["try:", f"    {call}", f"except OverflowError: _too_large({{{numbers}}})"]
        else:
            self.lines.append(call)
        self.lines += [
            f"if _failure is not None: {fail}.fail(_failure)",
        ]
        if self.device is not None and results:
            targets = " = ".join(f"_o{number}.ready" for number in range(results))
            self.lines.append(f"{targets} = {self.constant(self.device.marks)}.entries")
        self.lines += commits
        for number in range(results):
            self.new_array(number)
        self.lines.append(f"return {self.result(self.traced.result)}")

    def fixed(self, leaf: Leaf) -> int:
        """The address of a copy of an array that the function made, for as long as the variant lives."""
        name = self.constant(leaf)
        if self.space[name] is leaf:
            copied = dense(leaf.source.copy())
            self.space[name] = copied if self.device is None else self.device.upload(copied)
        kept = self.space[name]
        return address(kept) if self.device is None else int(kept.at)

    def host_data(self, index: int) -> str:
        """The expression for the address of a NumPy array's elements; other devices get a copy."""
        if self.device is None:
            return f"_address(_n{index})"
        self.lines.append(f"_n{index} = {self.constant(self.device.upload, '_upload')}(_n{index})")
        return f"_n{index}.at"

    def new_buffer(self, name: str, size_bytes: int) -> None:
        """``allocate(size_bytes)``, written out for the CPU: half its cost."""
        if self.device is not None:
            self.lines.append(f"{name} = {self.constant(self.device.allocate, '_allocate')}({size_bytes})")
            return
        home = self.constant(home_of(size_bytes), "_H")
        self.lines += [
            "try:",
            f"    _at = {home}.pop()",
            "except IndexError:",
            f"    {name} = _allocate({size_bytes})",
            "else:",
            f"    {name} = _new(_Buffer)",
            f"    {name}.address = _at",
            f"    {name}.size_bytes = {size_bytes}",
            f"    {name}.home = {home}",
        ]

    def new_array(self, number: int) -> None:
        name = f"_r{number}"
        type_name = self.constant(self.traced.graph.outputs[number].type, "_S")
        self.lines += [
            f"{name} = _new(_Array)",
            f"{name}.type = {type_name}",
            f"{name}.buffer = _o{number}",
            f"{name}.offset = 0",
            f"{name}.node = {name}.owner = {name}.origin = None",
        ]

    def result(self, value: Any) -> str:
        """The expression that builds the function's result."""
        if type(value) is Output:
            return f"_r{value.index}"
        if type(value) is Given:
            known = self.variables.get(id(value.place))
            return self.constant(value.place.value) if known is None else known
        if type(value) is Rebuilt:
            template = value.template
            items = [self.result(item) for item in value.items]
            listed = "".join(f"{item}, " for item in items)
            if type(template) is tuple:
                return f"({listed})"
            if type(template) is list:
                return f"[{listed}]"
            if type(template) is dict:
                keys = [self.constant(key) for key in template]
                return f"{{{', '.join(f'{k}: {v}' for k, v in zip(keys, items))}}}"
            if isinstance(template, tuple):
                return f"{self.constant(type(template), '_T')}({listed})"
            return f"_rebuild({self.constant(template)}, ({listed}))"
        return repr(value) if value is None or isinstance(value, bool) else self.constant(value)


def too_large(numbers: Mapping[str, bool | int | float]) -> NoReturn:
    """Say which of the numbers that a program is given does not fit into 64 bits."""
    name, value = next((n, v) for n, v in numbers.items() if isinstance(v, int) and not -(2**63) <= v < 2**63)
    raise RangeError(
        f"{name} is {value}, which does not fit into int64: integers are given to compiled functions in 64 bits; "
        "pass a float, or reduce it first"
    ) from None


def equal_bits(value: object, number: float) -> bool:
    """Whether a value is just this float: 0.0 is not -0.0, and NaN is NaN."""
    if type(value) is not float:
        return False
    return (value == number and math.copysign(1.0, value) == math.copysign(1.0, number)) or (
        value != value and number != number
    )


def equal(value: object, known: object) -> bool:
    """Whether a value may stand for the one that was seen while tracing."""
    return value is known or (type(value) is type(known) and bool(value == known))


BASE: dict[str, Any] = {
    "_Array": Array,
    "_Buffer": Buffer,
    "_Elsewhere": ElsewhereError,
    "_READING": (AttributeError, LookupError, ValueError, TypeError),
    "_address": address,
    "_ambient": ambient,
    "_asarray": np.asarray,
    "_UPDATES": UPDATES,
    "_allocate": allocate,
    "_bits": equal_bits,
    "_copy": copy,
    "_dense": dense,
    "_device": lazy.device_of,
    "_equal": equal,
    "_memory": memory,
    "_new": object.__new__,
    "_rebuild": rebuild,
    "_references": getrefcount,
    "_reserve": lazy.stream.reserve,
    "_same": same_type,
    "_too_large": too_large,
}
"""What every variant's code may use."""
