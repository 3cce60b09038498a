"""NumPy's functions on Arrays and Params: how a call of NumPy's becomes one of knetc's (``numpy_table`` says which).

A function of NumPy's is called with NumPy's parameters. Those that ours has too, by name or else by place, are handed
on; what is left must have the value that means nothing, or the call is refused: nothing is silently ignored.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from knetc import assignments, ufunc_methods
from knetc.arrays import ArrayLike, operand, protocol, to_numpy
from knetc.lazy import tracing
from knetc.numpy_table import ELSEWHERE, FUNCTIONS, READERS, UFUNCS
from knetc.ops.apply import cast, is_scalar
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, UnsupportedError

#: values of parameters that mean nothing, whatever the function's own default is
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "where": (True, np._NoValue),
    "initial": (np._NoValue, None),
    "keepdims": (np._NoValue, False),
    "casting": ("same_kind",),
    "order": ("K", "C", "A", None),
    "subok": (True, False),
    "dtype": (None,),
    "mode": ("raise",),
    "like": (None,),
    "device": (None, "cpu"),
    "copy": (None, True),
}

#: parameters that only say how to go about it: the result is the same
_HINTS = frozenset(("assume_unique", "hermitian", "kind", "optimize", "overwrite_input", "sorted"))

_CURES: Mapping[str, str] = {
    "where": "use kn.where(condition, a, b)",
    "initial": "combine it with the result, or use kn.maximum / kn.minimum",
    "dtype": "convert with astype",
    "order": "results are always in C order",
}


def name_of(function: Any) -> str:
    """What users call a function of NumPy's: ``numpy.linalg.inv``."""
    module = getattr(function, "__module__", None) or "numpy"
    return f"{'numpy' if isinstance(function, np.ufunc) else module}.{function.__name__}"


def _neutral(key: str, value: Any, default: Any = inspect.Parameter.empty) -> bool:
    """Whether a parameter that we do not have was given a value that asks for nothing."""
    if key in _HINTS:
        return True
    for known in (*_NEUTRAL.get(key, ()), default):
        if value is known or (isinstance(value, (str, int)) and type(value) is type(known) and value == known):
            return True
    return False


def _refuse(name: str, key: str) -> UnsupportedError:
    cure = _CURES.get(key, "leave it out")
    return UnsupportedError(f"{name}: {key}= is not supported for knetc arrays; {cure}")


# --- elementwise functions -------------------------------------------------------------------------------------------


def call_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """``__array_ufunc__`` of Arrays and Params."""
    name = name_of(ufunc) if method == "__call__" else f"{name_of(ufunc)}.{method}"
    function = UFUNCS.get(ufunc)
    if function is None:
        raise UnsupportedError(unknown(name_of(ufunc)))
    into = Targets(name, keywords.pop("out", None), keywords.pop("casting", "same_kind"))
    if method == "at":
        return ufunc_methods.at(name, ufunc, *inputs)
    if method == "reduceat":
        inputs = (inputs[0], np.asarray(_host(inputs[1])))
    converted = [operand(value) for value in inputs]
    if any(value is None for value in converted):
        return NotImplemented
    if method in ("__call__", "outer"):
        mask = keywords.pop("where", True)
        dtype = keywords.pop("dtype", None)
        arguments = _arguments(name, keywords, ("axis",))
        if dtype is not None and dtypes.as_dtype(dtype) != dtypes.boolean:  # which comparisons give anyway
            converted = [into.cast(value, dtype) for value in converted]
        if method == "outer":
            converted = ufunc_methods.crossed(*converted)
        return into.take(function(*converted, **arguments), mask)
    given = _arguments(name, keywords, ("axis", "dtype", "keepdims", "initial", "where"))
    return into.take(getattr(ufunc_methods, method)(name, ufunc, function, *converted, **given))


@dataclass(frozen=True)
class Targets:
    """Where a function's results are written to: what ``out=`` names, or nothing."""

    name: str
    out: Any
    casting: Any

    def cast(self, value: Any, dtype: Any) -> Any:
        """An operand in the dtype that ``dtype=`` asks for."""
        if is_scalar(value):
            return value
        self.check(value.dtype, dtypes.as_dtype(dtype))
        return cast(value, dtype)

    def check(self, source: Any, to: Any) -> None:
        """Raise DtypeError unless numbers may be converted, as NumPy's ``casting`` has it."""
        if source != to and not np.can_cast(source, to, self.casting):
            raise DtypeError(
                f"{self.name}: {source} is not converted to {to} with casting={self.casting!r}; use astype"
            )

    def take(self, result: Any, where: Any = True) -> Any:
        """Write a result, where ``where`` holds, and give what users get."""
        targets = self.out if isinstance(self.out, tuple) else (self.out,)
        if all(target is None for target in targets):
            if where is not True:
                raise UnsupportedError(
                    f"{self.name}: where= without out= leaves the other elements undefined; "
                    "use kn.where(condition, a, b)"
                )
            return result
        results = result if isinstance(result, tuple) else (result,)
        taken = tuple(self._write(t, r, where) for t, r in zip(targets, results))
        return taken if isinstance(result, tuple) else taken[0]

    def _write(self, target: Any, result: Any, where: Any) -> Any:
        if target is None:
            return result
        self.check(result.dtype, target.dtype)
        if isinstance(target, ArrayLike):
            assignments.copyto(target, result, where)
        else:
            np.copyto(target, to_numpy(result), casting="unsafe", where=to_numpy(where))
        return target


def _arguments(name: str, keywords: dict[str, Any], taken: tuple[str, ...]) -> dict[str, Any]:
    """The keywords without those that mean nothing; raises UnsupportedError for those that there is no way to heed."""
    kept: dict[str, Any] = {}
    for key, value in keywords.items():
        if key in taken:
            kept[key] = value
        elif not _neutral(key, value):
            raise _refuse(name, key)
    return kept


# --- other functions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bridge:
    """How a call of NumPy's becomes one of ours."""

    theirs: inspect.Signature
    targets: Mapping[str, str | None]
    """For each parameter of NumPy's the name of ours that takes it; None if there is none."""
    rest: bool
    """Whether ours takes any number of arguments, as ``meshgrid`` does."""
    names: frozenset[str]
    """The names of our parameters."""

    def arguments(
        self, name: str, given: Sequence[Any], keywords: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """What ours is called with; raises UnsupportedError for what it cannot heed."""
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for key, value in self.theirs.bind(*given, **keywords).arguments.items():
            if key == "out" and self.targets[key] is None:
                continue
            parameter = self.theirs.parameters[key]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                positional = [*named.values(), *value]  # those before it go by place, in the order of the signature
                named = {}
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                for extra, setting in value.items():
                    if extra in self.names:
                        named[extra] = setting
                    elif not _neutral(extra, setting):
                        raise _refuse(name, extra)
            elif value is np._NoValue:
                continue
            elif (target := self.targets[key]) is not None:
                named[target] = value
            elif not _neutral(key, value, parameter.default):
                raise _refuse(name, key)
        if positional and not self.rest:
            raise UnsupportedError(f"{name} takes no further arguments for knetc arrays")
        return positional, named


@cache
def bridge(function: Any) -> Bridge:
    """The way from a function of NumPy's to ours, worked out once from both signatures."""
    mine = inspect.signature(FUNCTIONS[function]).parameters
    try:
        theirs = inspect.signature(function)
    except ValueError:  # older versions of NumPy do not tell those of functions written in C
        theirs = inspect.Signature(list(mine.values()))
    places = [p.name for p in mine.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    targets: dict[str, str | None] = {}
    for place, key in enumerate(theirs.parameters):
        by_place = places[place] if place < len(places) and places[place] not in theirs.parameters else None
        targets[key] = key if key in mine else by_place
    rest = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in mine.values())
    return Bridge(theirs, targets, rest, frozenset(mine))


def call_function(function: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """``__array_function__`` of Arrays and Params."""
    if function in READERS and not tracing():
        named = {key: _host(value) for key, value in keywords.items()}
        return function(*[_host(value) for value in arguments], **named)
    name = name_of(function)
    ours = FUNCTIONS.get(function)
    if ours is None:
        raise UnsupportedError(unknown(name))
    way = bridge(function)
    positional, named = way.arguments(name, arguments, keywords)
    converted = {key: _converted(value) for key, value in named.items()}
    result = ours(*[_converted(value) for value in positional], **converted)
    if "out" not in way.targets:
        return result
    return Targets(name, way.theirs.bind(*arguments, **keywords).arguments.get("out"), "same_kind").take(result)


def _converted(value: Any) -> Any:
    """NumPy's arrays beside ours become ours, in lists too (what stack and concatenate take)."""
    if isinstance(value, np.ndarray):
        return operand(value) if value.dtype.kind in "fiubV" else value
    if isinstance(value, (list, tuple)) and any(isinstance(item, (ArrayLike, np.ndarray)) for item in value):
        return [_converted(item) for item in value]
    return value


def _host(value: Any) -> Any:
    return to_numpy(value) if isinstance(value, ArrayLike) else value


# --- what there is not -----------------------------------------------------------------------------------------------


def unknown(name: str) -> str:
    """There is no such function for our arrays; what to use instead."""
    short = name.removeprefix("numpy.")
    cure = ELSEWHERE.get(short)
    if short.startswith("fft."):
        cure = "there are no Fourier transforms, for there are no complex numbers"
    if cure is None:
        known = {name_of(f).removeprefix("numpy.") for f in (*UFUNCS, *FUNCTIONS)}
        near = difflib.get_close_matches(short, sorted(known), 1, 0.8)
        cure = f"the nearest is numpy.{near[0]}" if near else "write it with kn functions"
    return (
        f"{name} is not supported for knetc arrays: {cure}; for a NumPy result outside of compiled functions, convert "
        "the arguments with numpy.asarray"
    )


protocol.ufunc, protocol.function = call_ufunc, call_function
