"""What a function can reach: the arrays, flags and functions behind its arguments, closure and globals.

A trace must not bake in what may change between calls. So before tracing, everything that the function's code can name
is walked: its arguments, closure cells, the globals that the code mentions, attributes, the elements of containers,
and the same for the functions found there. Each thing found is a ``Place`` with the ways that lead to it; each call
reads the arrays by these ways again and compares the numbers and flags.

A way is *named* when the code mentions it (``self.scale`` is, if some walked function says ``.scale``). Only named
flags are compared, or an unrelated counter on a model would cause traces.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from knetc.ir.record import own_file
from knetc.lazy import Box
from knetc.runtime.base.errors import CaptureError

PlaceKind = Literal["box", "ndarray", "container", "object", "function", "module", "class", "opaque"]

#: what is compared by value, not walked
ATOMS = (bool, int, float, complex, str, bytes, type(None), Enum, np.dtype, np.generic, slice, range, type(...))

#: special methods that run when an object is made, copied or shown, not when it is used
_NOT_CALLED = frozenset(
    f"__{name}__"
    for name in ("init", "new", "post_init", "init_subclass", "repr", "str", "format", "reduce", "reduce_ex",
                 "getstate", "setstate", "copy", "deepcopy", "del", "sizeof", "dir", "set_name", "class_getitem")
)  # fmt: skip

#: more things than this are not walked
MAX_PLACES = 100_000


class Step(NamedTuple):
    """One step of a way: an argument's name, a global, a closure cell, an attribute or an element."""

    kind: Literal["argument", "global", "cell", "attribute", "item"]
    key: Hashable
    base: Any = None
    """Of globals the namespace, of cells the cell."""


class Edge(NamedTuple):
    """A way from one place (None: from the function itself) to the next."""

    parent: Place | None
    step: Step
    named: bool

    @property
    def text(self) -> str:
        """The way as the user would write it."""
        steps: list[str] = []
        edge: Edge | None = self
        while edge is not None:
            kind, key, _ = edge.step
            above = edge.parent.edges[0] if edge.parent is not None else None
            if above is not None and above.step.key in ("__defaults__", "__kwdefaults__"):
                steps.append(_default_name(above, key))
                break
            if kind == "attribute":  # a Param keeps what its properties show under names with an underscore
                hidden = edge.parent is not None and edge.parent.kind == "box"
                steps.append(f".{str(key).removeprefix('_') if hidden else key}")
            elif kind == "item":
                steps.append(f"[{key!r}]")
            else:
                steps.append(str(key))
            edge = above
        return "".join(reversed(steps))


def _default_name(edge: Edge, key: Any) -> str:
    """The name of the parameter whose default is found under ``key`` at the end of a way."""
    if isinstance(key, str) or edge.parent is None:
        return str(key)
    function = edge.parent.value
    code = function.__code__
    return str(code.co_varnames[code.co_argcount - len(function.__defaults__) + key])


@dataclass(eq=False)
class Place:
    """Something that the function reaches, and the ways to it; the first one is the way that it was found by."""

    value: Any
    kind: PlaceKind
    edges: list[Edge] = field(default_factory=list)
    given: bool = False
    """Whether it is an argument or inside one, with only containers on the way: its numbers are run-time values."""
    methods: set[str] = field(default_factory=set)
    """Names of the class's methods that the code may call; an attribute of the object itself would hide them."""

    @property
    def text(self) -> str:
        return self.edges[0].text


@dataclass(eq=False)
class Atom:
    """A number, flag or other plain value and the way to it."""

    value: Any
    edge: Edge
    given: bool = False


@dataclass
class Walk:
    """All that a function reaches."""

    places: dict[int, Place] = field(default_factory=dict)
    atoms: list[Atom] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    complete: bool = True

    def find(self, value: object) -> Place | None:
        """The place of an object, by identity."""
        place = self.places.get(id(value))
        return place if place is not None and place.value is value else None


def walk(function: types.FunctionType, arguments: Mapping[str, Any], roots: dict[str, Any]) -> Walk:
    """Walk everything that ``function`` reaches when it is called with ``arguments``.

    ``roots`` are the objects that it is bound to: a method's ``self``. Arguments that are not given are the defaults.

    The names that the code mentions are found on the way, so the walk is repeated until it finds no new ones.
    """
    names: set[str] = set()
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    defaults = dict(zip(reversed(positional), reversed(function.__defaults__ or ())))
    arguments = {**defaults, **(function.__kwdefaults__ or {}), **arguments}
    while True:
        known = len(names)
        result = _Walker(names).run(function, arguments, roots)
        if len(names) == known:
            return result


def mentioned(code: types.CodeType) -> Iterator[str]:
    """Every name that code, or code defined in it, mentions: globals, attributes, and strings in quotes.

    A string may be an attribute's name (``getattr(self, "w")``).
    """
    stack = [code]
    while stack:
        code = stack.pop()
        yield from code.co_names
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                stack.append(constant)
            elif isinstance(constant, str) and constant.isidentifier():
                yield f"'{constant}'"


def _is_user_code(name: str) -> bool:
    return _is_user_module(name) and not name.startswith("knetc.")


@functools.cache
def _is_user_module(name: str) -> bool:
    """Whether a module's classes and functions are walked: users' own, and knetc's layers and optimizers.

    Python's library, NumPy and installed packages that know nothing of knetc hold no arrays of ours.
    """
    if name.startswith(("knetc.nn", "knetc.train")):
        return True
    if name in sys.builtin_module_names or name.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return False
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None or file is None:  # typed in, or made by a program
        return True
    if own_file(file):
        return False
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return not installed or any(_is_ours(value) for value in list(vars(module).values()))


def _is_ours(value: object) -> bool:
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return isinstance(module, str) and (module == "knetc" or module.startswith("knetc."))


def _is_library(value: object, name: str) -> bool:
    """Whether a global is a module of a package that is not walked, or a function or class imported from one."""
    if isinstance(value, types.ModuleType):
        return not _is_user_code(value.__name__)
    module = getattr(value, "__module__", None)
    if getattr(value, "__closure__", None):  # made by a library around something of the user's
        return False
    return getattr(value, "__name__", None) == name and isinstance(module, str) and not _is_user_code(module)


def _is_walked_code(function: types.FunctionType) -> bool:
    file = function.__code__.co_filename
    return not file.startswith("<knetc") and _is_user_module(str(function.__module__))


def original(function: types.FunctionType) -> types.FunctionType:
    """The user's function behind a compiled one."""
    return getattr(function, "__knetc_original__", function)


class _Walker:
    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.walk = Walk(names=names)
        self.queue: deque[Place] = deque()
        self.functions: set[int] = set()
        self.edges: set[tuple[Hashable, ...]] = set()
        self.spaces: dict[type, Mapping[str, Any]] = {}

    def run(self, function: types.FunctionType, arguments: Mapping[str, Any], roots: dict[str, Any]) -> Walk:
        for name, value in roots.items():
            self.reach(value, Edge(None, Step("global", name, roots), True))
        for name, value in arguments.items():
            self.reach(value, Edge(None, Step("argument", name), True), given=True)
        self.enter(function)
        while self.queue:
            if len(self.walk.places) > MAX_PLACES:
                self.walk.complete = False
                break
            self.expand(self.queue.popleft())
        return self.walk

    def reach(self, value: Any, edge: Edge, *, given: bool = False) -> None:
        """Note that ``edge`` leads to ``value``."""
        seen = (id(edge.parent), edge.step.kind, edge.step.key, id(edge.step.base))
        if seen in self.edges:
            return
        self.edges.add(seen)
        if isinstance(value, ATOMS):
            if edge.named:
                self.walk.atoms.append(Atom(value, edge, given))
            return
        # tuples are values: that two are one object means nothing, and Python shares equal ones at will
        key = id(value) if not isinstance(value, tuple) else -1 - len(self.walk.places)
        place = self.walk.places.get(key)
        if place is None:
            place = self.walk.places[key] = Place(value, kind_of(value), given=given)
            self.queue.append(place)
        place.edges.append(edge)

    def enter(self, function: types.FunctionType) -> None:
        """Walk a function's closure, the globals that its code mentions, and its defaults."""
        function = original(function)
        if id(function) in self.functions:
            return
        self.functions.add(id(function))
        names = dict.fromkeys(mentioned(function.__code__))
        self.names.update(names)
        self.enter_closure(function)
        space = function.__globals__
        own = str(function.__module__).startswith("knetc.")
        for name in names:
            if name not in space:
                continue
            value = space[name]
            if own or _is_library(value, name):
                self.enter_library(value)
            else:
                self.reach(value, Edge(None, Step("global", name, space), True))

    def enter_closure(self, function: types.FunctionType) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            try:
                value = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            self.reach(value, Edge(None, Step("cell", name, cell), True))

    def enter_library(self, value: object) -> None:
        """Walk the code of knetc's layers and optimizers; what is imported from libraries is not rebound."""
        found = [value]
        if isinstance(value, types.ModuleType) and value.__name__ == "knetc":
            found = [vars(value)[name] for name in self.names if name in vars(value)]
        for member in found:
            if isinstance(member, types.FunctionType) and _is_walked_code(original(member)):
                self.enter(member)

    def expand(self, place: Place) -> None:
        value = place.value
        match place.kind:
            case "container":
                items = value.items() if isinstance(value, dict) else enumerate(value)
                for key, item in items:
                    if isinstance(key, Hashable):
                        self.reach(item, Edge(place, Step("item", key), True), given=place.given)
            case "function":
                self.expand_function(place)
            case "object" | "box":
                self.expand_object(place)
            case "module" | "class":
                for name in [n for n in self.names if n in vars(value) and not n.startswith("__")]:
                    member = vars(value)[name]
                    if place.kind == "class" and isinstance(
                        member, (types.FunctionType, property, staticmethod, classmethod)
                    ):
                        continue
                    self.reach(member, Edge(place, Step("attribute", name), True))
            case _:
                pass

    def expand_function(self, place: Place) -> None:
        value = place.value
        if isinstance(value, types.MethodType):
            self.reach(value.__self__, Edge(place, Step("attribute", "__self__"), True))
            self.reach(value.__func__, Edge(place, Step("attribute", "__func__"), True))
        elif isinstance(value, functools.partial):
            for name in ("func", "args", "keywords"):
                self.reach(getattr(value, name), Edge(place, Step("attribute", name), True))
        elif isinstance(value, types.FunctionType) and not _is_walked_code(original(value)):
            self.enter_closure(value)  # a library's function around the user's: kn.grad(loss)
        elif isinstance(value, types.FunctionType):
            self.enter(value)
            for name in ("__defaults__", "__kwdefaults__"):
                if getattr(value, name):
                    self.reach(getattr(value, name), Edge(place, Step("attribute", name), True))

    def expand_object(self, place: Place) -> None:
        value = place.value
        own = dict(attributes(value))
        for base in type(value).__mro__:
            if _is_user_module(base.__module__):
                for name, member in vars(base).items():
                    self.expand_member(place, base, name, member, own)
        given = place.given and is_record(value)
        for name, member in own.items():
            # an attribute _x is what a property x shows
            named = not self.names.isdisjoint((name, f"'{name}'", name.removeprefix("_")))
            self.reach(member, Edge(place, Step("attribute", name), named), given=given)

    def space_of(self, owner: type) -> Mapping[str, Any]:
        """The names that a class defines, as they are at each look; one object for each class."""
        return self.spaces.setdefault(owner, vars(owner))

    def expand_member(self, place: Place, base: type, name: str, member: Any, own: Mapping[str, Any]) -> None:
        """What a class gives its objects: the methods that the code calls, and values that they share."""
        function = member
        if isinstance(member, property):
            function = member.fget
        elif isinstance(member, (staticmethod, classmethod)):
            function = member.__func__
        if isinstance(function, types.FunctionType):
            if name in self.names or (name.startswith("__") and name not in _NOT_CALLED):
                self.enter(function)
                if not name.startswith("__") and not isinstance(member, property) and name not in own:
                    place.methods.add(name)
                if not base.__module__.startswith("knetc."):
                    self.reach(member, Edge(None, Step("global", name, self.space_of(base)), True))
        elif base.__module__.startswith("knetc."):
            pass  # what knetc's own classes share does not change
        elif name in self.names and name not in own and not hasattr(member, "__get__"):
            self.reach(member, Edge(place, Step("attribute", name), True))


def is_record(value: object) -> bool:
    """Whether an object is a dataclass's: its fields are treated as a container's elements."""
    return hasattr(type(value), "__dataclass_fields__")


def attributes(value: object) -> Iterator[tuple[str, Any]]:
    """The attributes that an object holds itself, in its dictionary or its slots."""
    if type(value).__dictoffset__:
        yield from list(vars(value).items())
    for base in type(value).__mro__:
        if base is Box or base is object:
            break
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)


def kind_of(value: Any) -> PlaceKind:
    """How a value is walked."""
    if isinstance(value, Box):
        return "box"
    if isinstance(value, np.ndarray):
        return "ndarray"
    if type(value) in (list, tuple, dict) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return "container"
    if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
        return "function"
    if isinstance(value, types.ModuleType):
        return "module" if _is_user_module(value.__name__) else "opaque"
    if isinstance(value, type):
        return "class" if _is_user_module(value.__module__) else "opaque"
    return "object" if _is_user_module(type(value).__module__) else "opaque"


def capture_error(box: Box, line: object) -> CaptureError:
    """An array that the function touches but does not name."""
    return CaptureError(
        f"the compiled function uses an array ({box.type}) that is neither an argument nor reachable through its "
        "closure, the globals that it names, or attributes of its arguments: a later change of it would not be "
        f"noticed; pass it as an argument\n  at {line}"
    )
