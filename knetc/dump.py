"""``knetc dump-ir``: what the compiler makes of a function, stage by stage."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from knetc.compiler import pipeline, report
from knetc.compiler.function import Compiled
from knetc.ir.node import Graph
from knetc.ir.op import MARKS
from knetc.ir.types import TensorType
from knetc.lazy import check_dtype
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import KnetcError
from knetc.transforms import diff


class UsageError(Exception):
    """The command was given something that it cannot use; the text says what and how to write it."""


def load_target(target: str) -> Any:
    """The function that ``file.py:function`` or ``package.module:function`` names; dots lead to attributes.

    Raises UsageError if there is none.
    """
    place, colon, path = target.rpartition(":")
    if not colon or not place or not path:
        raise UsageError(f"{target!r} is no target: write file.py:function or package.module:function")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            known = ", ".join(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
            raise UsageError(f"{place} has no {path!r}; it has {known or 'no functions'}")
        found = getattr(found, name)
    if not callable(found):
        raise UsageError(f"{target} is a {type(found).__name__}, which cannot be called")
    return found


def _load_file(file: Path) -> Any:
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def _load_module(name: str) -> Any:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise UsageError(f"there is no module {name!r} (a file is written with .py)") from None
    finally:
        sys.path.pop(0)


_ARRAY = re.compile(r"([a-z]+[0-9]*)\[([0-9, ]*)\]")


def parse_input(text: str) -> tuple[str | None, Any]:
    """An ``--input``: an array such as ``f32[100,784]`` or a Python number, maybe with the argument's name before it.

    Raises UsageError for anything else.

    >>> parse_input("x=i64[3]")
    ('x', array([0, 0, 0]))
    """
    name, equals, rest = text.partition("=")
    if not equals:
        name, rest = "", text
    elif not name.strip().isidentifier():
        raise UsageError(f"--input {text!r}: {name!r} is no argument's name")
    return name.strip() or None, _parse_value(rest.strip(), text)


def _parse_value(value: str, text: str) -> Any:
    array = _ARRAY.fullmatch(value)
    if array is None:
        try:
            number = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            number = None
        if type(number) in (bool, int, float, str):
            return number
        raise UsageError(f"--input {text!r} is neither an array such as 'f32[100,784]' nor a number, True or 'text'")
    try:
        dtype = dtypes.from_short_name(array[1])
        check_dtype(dtype)
        shape = tuple(int(extent) for extent in array[2].split(",")) if array[2].strip() else ()
        return np.zeros(TensorType(dtype, shape).shape, dtype)
    except KeyError:
        known = ", ".join(sorted(dtypes.SHORT_NAMES))
        raise UsageError(f"--input {text!r}: there is no dtype {array[1]!r}; there are {known}") from None
    except (KnetcError, ValueError) as error:
        raise UsageError(f"--input {text!r}: {error}") from None


def bind_inputs(function: Callable[..., Any], inputs: Sequence[str]) -> tuple[Any, ...]:
    """The values of a function's parameters, in order, from ``--input`` texts or from its own ``example_inputs``.

    Raises UsageError if they do not fit.
    """
    signature = inspect.signature(function)
    values = [parse_input(text) for text in inputs]
    if not values and hasattr(function, "example_inputs"):
        examples = function.example_inputs
        values = [(None, value) for value in (examples() if callable(examples) else examples)]
    positional = [value for name, value in values if name is None]
    try:
        bound = signature.bind(*positional, **{name: value for name, value in values if name is not None})
    except TypeError as error:
        name = getattr(function, "__name__", "the function")
        raise UsageError(
            f"{name}{signature} cannot be called with {len(values)} inputs: {error}; give one --input for each "
            f"argument, such as --input 'f32[100,784]', or set {name}.example_inputs"
        ) from None
    bound.apply_defaults()
    return tuple(bound.arguments.values())


def traced(function: Callable[..., Any], values: Sequence[Any]) -> Graph:
    """The graph of one call."""
    known = getattr(function, "__knetc_compiled__", None)
    state: Compiled = known if known is not None else Compiled(function, None, (), "compile", 1)
    return state.trace(values)[1].graph


def with_gradients(function: Callable[..., Any], values: Sequence[Any]) -> Graph:
    """The graph of one call with the gradients for its Params, or if it has none, for its arguments.

    A function that differentiates or assigns inside (a training step) is shown as it is. Raises UsageError if the
    function is neither a step nor a loss.
    """
    plain = traced(function, values)
    if plain.updates or any(node.op.name in MARKS for node in plain.nodes):
        return plain
    original = getattr(function, "__knetc_original__", function)

    def differentiated(*arguments: Any) -> Any:
        tape = diff(original, *arguments)
        return tape.value, [tape.gradient(x) for x in tape.params or arguments]

    try:
        return traced(differentiated, [tuple(values)])
    except KnetcError as error:
        raise UsageError(f"--stage grad needs a function with a scalar floating-point result: {error}") from None


def dump(target: str, inputs: Sequence[str], stages: Sequence[str], form: str, device: str = "cpu") -> dict[str, str]:
    """The text of each stage of a target, by name.

    ``grad``, when asked for, is what the stages after it are made from. ``device`` is ``cpu``, or what
    code for a GPU is made for: ``cuda:sm_90``. Raises UsageError for what cannot be used.
    """
    function = load_target(target)
    values = bind_inputs(function, inputs)
    graph = traced(function, values)
    found: dict[str, Any] = {"trace": graph}
    if "grad" in stages:
        found["grad"] = graph = with_gradients(function, values)
    if set(stages) - {"trace", "grad"}:
        found = {**pipeline.stages(graph, device), **found}
    try:
        return {stage: report.shown(stage, report.opened(found[stage]), form) for stage in stages}
    except ValueError as error:
        raise UsageError(str(error)) from None
