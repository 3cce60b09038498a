"""``@compile``: a Python function whose calls run as one program.

The first call with a signature traces the function, compiles the graph and writes a body of Python code for the
signature (``knetc.compiler.dispatch``). The newest body stands in the compiled function itself; the others are tried
when its checks fail.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import itertools
import logging
import os
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload
from weakref import WeakSet

import numpy as np

from knetc import tapes
from knetc.arrays import ArrayLike
from knetc.compiler import pipeline
from knetc.compiler.captures import Walk, capture_error, walk
from knetc.compiler.dispatch import BASE, MISS, Writer
from knetc.compiler.signature import Statics, describe, difference
from knetc.compiler.trace import Restart, Trace, Traced
from knetc.compiler.values import Arguments, Results
from knetc.ir import canonical
from knetc.ir.ambient import Ambient, ambient, process, setting
from knetc.ir.node import Graph, Line
from knetc.ir.record import recorders, recording, user_line
from knetc.lazy import Box
from knetc.runtime import devices
from knetc.runtime.base.errors import TraceError, UnsupportedError, VariantsError
from knetc.runtime.devices import CPU

log = logging.getLogger("knetc")

F = TypeVar("F", bound=Callable[..., Any])

MAX_VARIANTS = 64
OTHERS = 3
"""So many variants are tried after the one that stands in the function, before all are looked through."""
LONG = 20_000
"""Characters of a body that is not put into the function itself."""
ATTEMPTS = 3
"""So often a function is traced again when its own Python code has changed what it reaches."""


@overload
def compile(function: F, /) -> F: ...
@overload
def compile(
    *,
    device: str | None = None,
    static: Sequence[str] = (),
    on_miss: Literal["compile", "error"] = "compile",
    max_variants: int = MAX_VARIANTS,
    tune: bool = False,
) -> Callable[[F], F]: ...
def compile(
    function: Any = None,
    /,
    *,
    device: str | None = None,
    static: Sequence[str] = (),
    on_miss: Literal["compile", "error"] = "compile",
    max_variants: int = MAX_VARIANTS,
    tune: bool = False,
) -> Any:
    """Make each call of a function run as one compiled program.

    The function's Python code runs once for each signature (dtypes and shapes of arrays, static values, structure of
    containers, settings); later calls run the program that was traced. Arguments may be Arrays, Params, NumPy arrays,
    Python scalars, nested tuples, lists, dicts and dataclasses of these, and objects holding Params. Arrays, Params and
    flags that the function reaches by closure, globals or attributes are read at each call. Ints and floats are
    run-time values, unless named in ``static`` or used as an index, a shape or a branch. Assigning to a Param or array
    in the function is part of the program.

    The program runs where the Arrays and Params are that it uses, and where there are none on the default device;
    ``device`` says another ("cpu", "cuda", "cuda:1" …), and then only NumPy arrays come from elsewhere.

    With ``tune=True`` block sizes and the like of kernels for a GPU, and whether cuBLASLt makes a product, are chosen
    by measuring a handful of candidates there when a signature is compiled. That takes some seconds; what was found is
    kept in the cache for each kernel and kind of device. On the CPU nothing is measured: its caches decide.

    Each new signature logs a line to the logger ``knetc``. With ``on_miss="error"`` only the first one is accepted;
    more than ``max_variants`` are refused in any case. Raises VariantsError for these, TraceError for branching on
    traced values, CaptureError for an array that the function cannot be seen to reach.

    >>> @compile
    ... def scaled(x, factor):
    ...     return x * factor
    """
    if function is None:
        return lambda f: compile_function(f, device, tuple(static), on_miss, max_variants, tune)
    return compile_function(function, device, tuple(static), on_miss, max_variants, tune)


def compile_function(
    target: Callable[..., Any],
    device: str | None,
    static: tuple[str, ...],
    on_miss: str,
    max_variants: int,
    tune: bool = False,
) -> Callable[..., Any]:
    """The compiled function for any callable that ends in Python code."""
    if on_miss not in ("compile", "error"):
        raise ValueError(f"on_miss is 'compile' or 'error', not {on_miss!r}")
    if max_variants < 1:
        raise ValueError(f"max_variants must be at least 1, not {max_variants}")
    if hasattr(target, "__knetc_original__"):
        target = target.__knetc_original__
    public: Callable[..., Any] = Compiled(target, device, static, on_miss, max_variants, tune).public
    return public


def kinds_of(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shapes and dtypes of the arrays among a call's arguments, those in containers not counted."""
    every = [value for given in values for value in (given if type(given) is tuple else (given,))]
    return tuple([(value.shape, value.dtype) for value in every if isinstance(value, (ArrayLike, np.ndarray))])


@dataclass(eq=False)
class Variant:
    """A program for one signature and the code in front of it."""

    settings: Ambient
    description: Mapping[str, str]
    graph: Graph
    executable: Any
    body: str
    probe: Callable[..., int]
    """Gives the number of the first condition that a call fails; -1 if it fits."""
    call: Callable[..., Any]


class Compiled:
    """What a compiled function knows: its Python code, and the variants that were made."""

    def __init__(
        self,
        target: Callable[..., Any],
        device: str | None,
        static: tuple[str, ...],
        on_miss: str,
        max_variants: int,
        tune: bool = False,
    ) -> None:
        self.target = target
        self.tune = tune
        self.device = None if device is None else devices.canonical(device)
        self.python, self.roots = python_function(target)
        self.on_miss = on_miss
        self.max_variants = max_variants
        signature = inspect.signature(target)
        self.parameters = list(signature.parameters.values())
        names = [p.name for p in self.parameters]
        for name in static:
            if name not in names:
                raise ValueError(
                    f"static={name!r}: {self.python.__qualname__} has no such argument ({', '.join(names)})"
                )
        self.statics = Statics(frozenset(static), {})
        code = self.python.__code__
        self.name = f"{code.co_filename}:{code.co_firstlineno} {self.python.__qualname__}"
        self.variants: list[Variant] = []
        self.likely: dict[tuple[Any, ...], Variant] = {}
        """For arguments of these shapes and dtypes the variant that served last."""
        self.lock = threading.RLock()
        _all.add(self)
        self.hits = 0
        self.patience = 16
        self.numbers = itertools.count()
        self.space: dict[str, Any] = {**BASE, "_miss": self.miss, "_MISS": MISS}
        self.public = self.define("")
        functools.update_wrapper(self.public, target if hasattr(target, "__name__") else self.python)
        self.public.__dict__.pop("__wrapped__", None)
        vars(self.public).update(__wrapped__=target, __knetc_original__=target, __knetc_compiled__=self)

    # --- the generated function

    def define(self, body: str) -> Any:
        """The public function: the user's parameters, a variant's body, and what to do when it does not fit."""
        parts: list[str] = []
        starred = False
        for p, following in zip(self.parameters, [*self.parameters[1:], None]):
            default = "" if p.default is p.empty else "=None"
            if p.kind is p.VAR_POSITIONAL:
                parts.append(f"*{p.name}")
            elif p.kind is p.VAR_KEYWORD:
                parts.append(f"**{p.name}")
            elif p.kind is p.KEYWORD_ONLY:
                parts += [p.name + default] if starred else ["*", p.name + default]
            else:
                parts.append(p.name + default)
            starred = starred or p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY)
            if p.kind is p.POSITIONAL_ONLY and (following is None or following.kind is not p.POSITIONAL_ONLY):
                parts.append("/")
        names = ", ".join(p.name for p in self.parameters)
        text = f"def _public({', '.join(parts)}):\n{body}    return _miss({names})\n"
        function = self.execute("_public", text)
        defaults = {p.name: p.default for p in self.parameters if p.default is not p.empty}
        keywords = {
            p.name: defaults.pop(p.name) for p in self.parameters if p.kind is p.KEYWORD_ONLY and p.name in defaults
        }
        function.__defaults__ = tuple(defaults.values()) or None
        function.__kwdefaults__ = keywords or None
        return function

    def execute(self, name: str, text: str, space: dict[str, Any] | None = None) -> Any:
        """The function that ``text`` defines; its globals are this function's names, if not told otherwise."""
        space = self.space if space is None else space
        exec(builtins.compile(text, f"<knetc {self.name}>", "exec"), space)
        return space.pop(name)

    def install(self, variant: Variant) -> None:
        """Put a variant's body into the public function, if it is for the settings of the process.

        The latest of the other variants follow behind it.
        """
        settings = process()
        if variant.settings != settings or settings.check_trace:
            return
        number = next(self.numbers)  # new names, for another thread may be running the code that stands there now
        plain, rest = f"_plain{number}", f"_others{number}"
        self.space[plain] = variant.settings = settings
        others = [v.call for v in reversed(self.variants) if v is not variant and v.settings == settings][:OTHERS]
        inner = "".join(f"    {line}\n" for line in variant.body.splitlines())
        if len(inner) > LONG:  # a call more is nothing here, and the text need not be compiled again
            inner, others = "", [variant.call, *others]
        self.space[rest] = tuple(others)
        if others:
            names = ", ".join(p.name for p in self.parameters)
            inner += f"        for _call in {rest}:\n            _result = _call({names})\n"
            inner += "            if _result is not _MISS: return _result\n"
        self.public.__code__ = self.define(f"    if _ambient.plain is {plain}:\n{inner}").__code__

    # --- calls that the fast path does not know

    def miss(self, *values: Any) -> Any:
        """Serve a call: by another variant, by a new one, or inside of a trace by the Python function itself."""
        if inlines():
            return self.call_python(values)
        settings = ambient()
        for _ in range(ATTEMPTS):  # another thread may rebind what the function reaches while a variant is made
            result = self.try_variants(values, settings)
            if result is not MISS:
                return result
            with self.lock:
                if not any(v.settings == settings and v.probe(*values) < 0 for v in self.variants):
                    self.add(values, settings)
        raise TraceError(f"{self.name}: what the function reaches changes faster than it can be compiled for")

    def try_variants(self, values: tuple[Any, ...], settings: Ambient) -> Any:
        kinds = kinds_of(values)
        likely = self.likely.get(kinds)
        for variant in reversed(self.variants) if likely is None else (likely, *reversed(self.variants)):
            if variant.settings == settings:
                if settings.check_trace and variant.probe(*values) < 0:
                    self.check(variant, values)
                result = variant.call(*values)
                if result is not MISS:
                    self.likely[kinds] = variant
                    self.hit(variant)
                    return result
        return MISS

    def hit(self, variant: Variant) -> None:
        """A variant served that does not stand in the public function: after some times it comes to stand there.

        Each time it takes twice as many, so that shapes in turn do not cost a new function again and again.
        """
        self.hits += 1
        if self.hits >= self.patience:
            with self.lock:
                self.hits = 0
                self.patience *= 2
                if variant in self.variants:
                    self.variants.remove(variant)
                    self.variants.append(variant)
                self.install(variant)

    def call_python(self, values: Sequence[Any]) -> Any:
        """Call the user's function with the values of its parameters, in order."""
        arguments: list[Any] = []
        keywords: dict[str, Any] = {}
        for p, value in zip(self.parameters, values):
            match p.kind:
                case p.VAR_POSITIONAL:
                    arguments += value
                case p.KEYWORD_ONLY:
                    keywords[p.name] = value
                case p.VAR_KEYWORD:
                    keywords.update(value)
                case _:
                    arguments.append(value)
        return self.target(*arguments, **keywords)

    # --- new variants

    def add(self, values: tuple[Any, ...], settings: Ambient) -> None:
        """Trace and compile for a signature that no variant has."""
        line = user_line()
        self.admit(values, settings, line)
        reached, traced, writer, probe = self.settled(values)
        device = None if traced.device == CPU else devices.device(traced.device)
        if self.tune and device is None:
            log.info("%s: tune=True measures nothing on the CPU, where blocks follow from the caches' sizes", self.name)
        executable = pipeline.build(traced.graph, device, self.tune)
        body = writer.body(executable)
        self.space.update(writer.space)
        names = ", ".join(p.name for p in self.parameters)
        call = self.execute("_variant", f"def _variant({names}):\n{body}    return _MISS\n")
        description = describe(reached, self.statics, settings)
        variant = Variant(settings, description, traced.graph, executable, body, probe, call)
        known = [v.description for v in self.variants]
        reason = (
            f"new signature: {difference(description, known)}" if known else f"first signature: {first(description)}"
        )
        log.info("%s: %s (called at %s)", self.name, reason, line)
        self.variants.append(variant)
        self.install(variant)

    def settled(self, values: tuple[Any, ...]) -> tuple[Walk, Traced, Writer, Callable[..., int]]:
        """A trace, and its checks, which the call passes that it was made for.

        Python code may set up what is missing when it first runs (an optimizer's state); another trace then sees it.
        """
        names = ", ".join(p.name for p in self.parameters)
        for _ in range(ATTEMPTS):
            reached, traced = self.trace(values)
            writer = Writer(next(self.numbers), reached, traced, self.statics)
            text = f"def _probe({names}):\n{writer.probe()}"
            probe = self.execute("_probe", text, {**BASE, **writer.space})
            failing = probe(*values)
            if failing < 0:
                return reached, traced, writer, probe
        raise TraceError(
            f"{self.name}: {writer.ways[failing]} changes whenever the function is traced, so that no program fits its "
            "own call; do not rebind inside of a compiled function what it reaches from outside: return new values, "
            "or assign with x[...] = value"
        )

    def admit(self, values: tuple[Any, ...], settings: Ambient, line: Line | None) -> None:
        """Raise VariantsError if there may be no further variant."""
        limit = 1 if self.on_miss == "error" else self.max_variants
        if len(self.variants) < limit:
            return
        description = describe(self.walk(values), self.statics, settings)
        change = difference(description, [v.description for v in self.variants])
        rule = "on_miss='error'" if self.on_miss == "error" else f"max_variants={self.max_variants}"
        raise VariantsError(
            f"{self.name}: a call has a signature that is not compiled, and {rule} allows no other: {change} (called "
            f"at {line}); pad inputs to fewer shapes, pass what changes as a run-time number, or raise max_variants"
        )

    def walk(self, values: Sequence[Any]) -> Walk:
        arguments = {p.name: value for p, value in zip(self.parameters, values)}
        return walk(self.python, arguments, self.roots)

    def trace(self, values: Sequence[Any]) -> tuple[Walk, Traced]:
        """Run the Python function once, recording; again, when it turns out that some numbers must be static."""
        missing: list[tuple[Box, Line | None]] = []
        attempts = 0
        while True:
            reached = self.walk(values)
            for box, line in missing:  # maybe it was made by the last trace, and can be reached from now on
                if attempts == ATTEMPTS or reached.find(box) is None:
                    raise capture_error(box, line)
            trace = Trace(reached, self.name, self.device)
            try:
                with recording(trace):
                    given = Arguments(trace, self.statics).values(self.parameters, values)
                    result = self.call_python(given)
                    outputs = Results(trace)
                    template = outputs.template(result)
                    missing = trace.missing
                    attempts += 1
                    if not missing:
                        return reached, trace.finish(template, outputs.nodes)
            except Restart as restart:
                for index in sorted(restart.scalars):
                    way = trace.names()[index]
                    self.statics.found[way] = restart.use
                    told = "%s: %s is used for %s at %s, so it is static from now on"
                    log.info(told, self.name, way, restart.use, restart.line)
            finally:
                trace.active = False

    def check(self, variant: Variant, values: tuple[Any, ...]) -> None:
        """Trace again, and compare with what the variant was made from."""
        with setting(check_trace=False):
            _, traced = self.trace(values)
        new, old = traced.graph, variant.graph
        if canonical.equal(new, old):
            return
        lines = (
            a.lines
            for a, b in zip(new.nodes, old.nodes)
            if (a.op, a.type, a.attributes) != (b.op, b.type, b.attributes)
        )
        place = next((found[0] for found in lines if found), "its end")
        raise TraceError(
            f"{self.name}: another trace for the same signature gave another graph ({len(new.nodes)} values instead of "
            f"{len(old.nodes)}; the first difference is at {place}): the function depends on something that its "
            "signature does not hold; pass it as an argument"
        )


_all: WeakSet[Compiled] = WeakSet()


def _after_fork() -> None:
    """In a child no other thread is tracing."""
    for compiled in list(_all):
        compiled.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def python_function(target: Callable[..., Any]) -> tuple[types.FunctionType, dict[str, Any]]:
    """The Python function that a callable ends in, and the objects that come before it (a method's self …)."""
    roots: dict[str, Any] = {}
    current: Any = target
    while not isinstance(current, types.FunctionType):
        if isinstance(current, types.MethodType):
            roots.setdefault("self", current.__self__)
            current = current.__func__
        elif isinstance(current, functools.partial):
            roots["partial"] = current
            current = current.func
        elif isinstance(method := getattr(current, "__call__", None), types.MethodType):  # noqa: B004
            current = method
        else:
            raise UnsupportedError(
                f"compile takes a Python function, a method or an object with __call__, not {target!r}"
            )
        if hasattr(current, "__knetc_original__"):
            current = current.__knetc_original__
    return current, roots


def inlines() -> bool:
    """Whether compiled functions run as plain Python in this thread now: inside of a trace, or under a tape."""
    return bool(recorders()) or tapes.innermost() is not None


def first(description: Mapping[str, str]) -> str:
    """The arguments of a function's first signature."""
    shown = [
        f"{name} {text}"
        for name, text in description.items()
        if text.startswith(("Array", "Param", "NumPy", "a run-time"))
    ]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "") or "no arrays"


__all__ = ["compile"]
