"""The table of NumPy's functions: all that NumPy would hand to us is in it, the page shows it, its advice holds."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import knetc as kn
from knetc.numpy_protocol import bridge, name_of, unknown
from knetc.numpy_table import ELSEWHERE, FUNCTIONS, READERS, UFUNCS

PAGE = Path(__file__).parent.parent / "docs" / "arrays.md"
BEGIN, END = "written by tests/test_numpy_table.py -->\n", "<!-- end -->"


def dispatched() -> Iterator[tuple[str, Any]]:
    """All of NumPy's functions that ask their arguments' classes, with their names."""
    for module in (np, np.linalg, np.fft):
        for name in dir(module):
            function = getattr(module, name)
            if isinstance(function, np.ufunc) or type(function).__name__ == "_ArrayFunctionDispatcher":
                yield name_of(function).removeprefix("numpy."), function


def test_every_function_has_a_place() -> None:
    for name, function in dispatched():
        there = function in UFUNCS or function in FUNCTIONS or function in READERS
        if name.startswith("fft."):
            assert not there
        else:
            assert there != (name in ELSEWHERE), f"numpy.{name} is neither in the table nor in ELSEWHERE, or in both"


def test_advice_names_what_there_is() -> None:
    for name, advice in ELSEWHERE.items():
        for word in re.findall(r"kn\.(\w+)", advice):
            assert hasattr(kn, word), f"{name}: there is no kn.{word}"
    assert "kn.atan2" in unknown("numpy.angle") and "Fourier" in unknown("numpy.fft.rfft")
    assert "the nearest is" not in unknown("numpy.somethingelse")


def test_defaults_are_numpys() -> None:
    for function, ours in FUNCTIONS.items():
        theirs, mine = inspect.signature(function).parameters, inspect.signature(ours).parameters
        for key, target in bridge(function).targets.items():
            if target is None or theirs[key].default in (np._NoValue, inspect.Parameter.empty):
                continue
            default = mine[target].default
            same = default == theirs[key].default or (not default and not theirs[key].default)
            assert same, f"{name_of(function)}: {key} is {theirs[key].default!r} by default, not {default!r}"


def spelled(function: Any) -> str:
    """What a function of ours is called in ``kn`` or ``kn.linalg``; nothing where it is only NumPy's."""
    for module, prefix in ((kn, "kn."), (kn.linalg, "kn.linalg.")):
        for name in sorted(module.__all__, key=len):
            if getattr(module, name) is function:
                return f"{prefix}{name}"
    return ""


def table() -> str:
    """The table as Markdown."""
    same: dict[str, list[str]] = {"Elementwise": [], "Other functions": [], "Linear algebra": []}
    others: dict[str, str] = {}
    for name, function in sorted(dispatched()):
        ours = UFUNCS.get(function) or FUNCTIONS.get(function)
        if ours is None:
            continue
        kind = "Elementwise" if function in UFUNCS else "Linear algebra" if "." in name else "Other functions"
        there = spelled(ours)
        if there and all(getattr(m, name.removeprefix("linalg."), None) is not ours for m in (kn, kn.linalg)):
            others[name] = there
        same[kind].append(name.removeprefix("linalg."))
    lines = ["| Kind | NumPy's functions |", "|---|---|"]
    for kind, names in same.items():
        prefix = "`numpy.linalg`: " if kind == "Linear algebra" else ""
        lines.append(f"| {kind} | {prefix}{' '.join(f'`{n}`' for n in dict.fromkeys(names))} |")
    readers = sorted(f.__name__ for f in READERS)
    lines.append(f"| Read the numbers, as of NumPy's arrays | {' '.join(f'`{n}`' for n in readers)} |")
    lines += ["", "In `kn` they have the same names, but for these:", "", "| NumPy | knetc |", "|---|---|"]
    lines += [f"| `numpy.{name}` | `{there}` |" for name, there in others.items()]
    return "\n".join(lines) + "\n"


def test_the_page_shows_the_table(request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    if request.config.getoption("--refresh-goldens"):
        PAGE.write_text(text[:begin] + table() + text[end:])
    else:
        assert text[begin:end] == table(), "docs/arrays.md is not up to date; run with --refresh-goldens"
