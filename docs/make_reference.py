"""Write ``reference.md``, what each public name is, and ``names.md``, which there are not, from the code itself.

Run it after adding a public name: ``python docs/make_reference.py``.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import knetc as kn
from knetc import absent

PAGE = Path(__file__).parent / "reference.md"
NAMES_PAGE = Path(__file__).parent / "names.md"

SECTIONS = {
    "Arrays and Params": ("arrays", "dtypes", "array_api", "params", "creation", "grids", "assignments"),
    "Arithmetic and logic": ("ops.arithmetic", "ops.division", "ops.logic", "ops.bits", "ops.choosing"),
    "Elementary and special functions": (
        "ops.transcendental", "ops.elementary", "ops.special", "ops.angles", "ops.probability",
        "ops.incomplete", "ops.integrals",
    ),
    "Reductions, scans and statistics": (
        "ops.reduction", "ops.scan", "ops.statistics", "ops.calculus", "ops.polynomials",
    ),
    "Sorting, searching and indexing": ("ops.sorting", "ops.selection", "selection", "sets", "ops.indexed"),
    "Shapes": ("ops.movement", "ops.joining", "ops.padding", "ops.rearrange"),
    "Linear algebra": ("ops.linear", "ops.contraction", "ops.linalg", "ops.matrices", "ops.norms"),
    "Neural networks": ("nn", "ops.activations", "ops.losses", "ops.random", "random"),
    "Differentiation": (
        "transforms", "derivatives", "batching", "rematerialize", "gradient_check", "primitives", "ops.identities",
    ),
    "Control flow": ("control",),
    "Training": (
        "train.minimize", "train.optimizers", "train.update", "train.data", "train.progress", "train.converge",
    ),
    "The compiler": ("compiler.function", "compiler.report", "debugging"),
    "Devices": ("devices", "runtime.devices"),
    "Errors": ("runtime.base.errors",),
}  # fmt: skip


def module_of(name: str) -> str:
    """Where a public name is defined, without the package's own name."""
    return str(getattr(getattr(kn, name), "__module__", "")).removeprefix("knetc.")


def signature(value: Any) -> str:
    """A signature without annotations."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    text = str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return re.sub(r"<(?:function|class|object)[^>]*>", "...", text)


def sentence(value: Any) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    found = re.match(r"(.*?\.)(?: [A-Z`]|$)", text)
    return (found[1] if found else text).replace("``", "`")


def page() -> str:
    """The whole page."""
    modules: dict[str, list[str]] = {}
    for name in kn.__all__:
        if str(getattr(getattr(kn, name), "__module__", "")).startswith("knetc."):
            modules.setdefault(module_of(name), []).append(name)
    parts = ["# Reference\n\nEvery public name of `knetc`. `help(kn.name)` says all there is to say about it.\n"]
    for title, members in SECTIONS.items():
        names = sorted(name for module in members for name in modules.pop(module, []))
        if names:
            parts.append(f"\n## {title}\n\n")
        for name in names:
            value = getattr(kn, name)
            shown = "" if inspect.isclass(value) and issubclass(value, Exception) else signature(value)
            parts.append(f"- `{name}{shown}`: {sentence(value)}\n")
    if modules:
        raise SystemExit(f"put these modules under a heading of SECTIONS: {modules}")
    return "".join(parts)


def names_page() -> str:
    """What users of other libraries look for, and what to use instead."""
    lines = [
        "# What is not there under its name",
        "",
        "Functions of NumPy, `jax.numpy`, `jax.scipy.special`, `jax.nn` have the same names here; distributions are in",
        "`kn.random`; [the reference](reference.md) lists all. For the rest, also of PyTorch, this page says what to",
        "use; so does the error that `kn.name` raises.",
    ]
    for title, table in (("", absent.NAMES), ("## In kn.random", absent.DISTRIBUTIONS)):
        groups: dict[str, list[str]] = {}
        for name, advice in table.items():
            groups.setdefault(advice, []).append(name)
        lines += ["", title, ""] if title else [""]
        for advice, names in groups.items():
            if len(names) > 4:
                lines.append(f"- {' '.join(f'`{n}`' for n in names)}: {advice}.")
        lines += ["", "| name | instead |", "|---|---|"]
        lines += [
            f"| {', '.join(f'`{n}`' for n in v)} | {k.removeprefix('use ')} |" for k, v in groups.items() if len(v) < 5
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    NAMES_PAGE.write_text(names_page())
