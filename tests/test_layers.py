"""Imports point one way, heavy packages load behind one door, and the environment has one reader."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

_ROOT = Path(__file__).parent.parent
_FOLDERS = {"knetc": "knetc", "codegen": "knetc.codegen", "templates": "knetc.templates", "runtime": "knetc.runtime"}

#: Lower layers first; a module imports only from its own layer and those before it.
_LAYERS = (
    ("knetc.runtime.base",),
    ("knetc.ir",),
    ("knetc.ops",),
    (
        "knetc.arrays", "knetc.params", "knetc.lazy", "knetc.cut", "knetc.memory", "knetc.stream", "knetc.tapes",
        "knetc.direct", "knetc.structure", "knetc.creation", "knetc.random", "knetc.debugging",
        "knetc.host_guard", "knetc.primitives", "knetc.inner", "knetc.assignments",
        "knetc.bodies", "knetc.control", "knetc.selection", "knetc.sets", "knetc.array_api", "knetc.linalg",
        "knetc.readable", "knetc.dtypes", "knetc.grids", "knetc.absent",
    ),
    ("knetc.passes",),
    (
        "knetc.transforms", "knetc.gradient_check", "knetc.derivatives", "knetc.batching", "knetc.rematerialize",
        "knetc.numpy_protocol", "knetc.numpy_table", "knetc.ufunc_methods",
    ),
    ("knetc.codegen", "knetc.templates"),
    ("knetc.compiler",),
    (),  # what users build with, and whatever is not named here: nn, train …
    ("knetc.cli", "knetc.dump"),
    ("knetc.__main__",),
)  # fmt: skip
_USERS = _LAYERS.index(())

#: Who may import what runs programs (all of ``runtime`` but its base); it imports nothing but itself.
_USES_RUNTIME = (
    "knetc.runtime", "knetc.memory", "knetc.cut", "knetc.lazy", "knetc.arrays", "knetc.creation", "knetc.random",
    "knetc.direct", "knetc.codegen", "knetc.compiler", "knetc.devices", "knetc.nn", "knetc.train.data", "knetc.cli",
    "knetc.dump",
)  # fmt: skip

#: Packages that are slow to import (or optional), and the modules that import them.
_HEAVY = {
    "llvmlite": {"knetc.codegen.cpu.native"},
    "networkx": {"knetc.codegen.assemble"},
    "jinja2": {"knetc.codegen.triton.source"},
    "triton": {"knetc.codegen.triton.compile"},
    "sklearn": set[str](),
    "scipy": set[str](),
    "ml_dtypes": {"knetc.runtime.base.dtypes"},
}

#: Imports inside functions, each for a package or a part that a warm start does not need.
_INSIDE = {("knetc.runtime.base.dtypes", "bfloat16")}

#: Calls of ``importlib.import_module``: the doors to the compiler and to the GPU, and modules that users name.
_BY_NAME = {"knetc.compiler.pipeline", "knetc.dump", "knetc.runtime.devices", "knetc.runtime.dlpack"}


class Import(NamedTuple):
    """An import of a module, written in ``function`` (or at the top: '')."""

    name: str
    function: str


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its name."""
    found = {}
    for folder, package in _FOLDERS.items():
        for file in (_ROOT / folder).rglob("*.py"):
            parts = file.relative_to(_ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = ast.parse(file.read_text())
    return found


def imports(tree: ast.Module) -> Iterator[Import]:
    """What a module imports; what only type checkers read is left out."""
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, function = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the layer"
            yield from (Import(f"{node.module}.{alias.name}", function) for alias in node.names)
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        stack.extend((child, inner) for child in ast.iter_child_nodes(node))


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def layer(name: str) -> int:
    """The place of a module in the order of layers; what runs programs is taken as of the base."""
    if name == "knetc":
        return len(_LAYERS)
    for place, packages in enumerate(_LAYERS):
        if within(name, packages):
            return place
    return 0 if within(name, ("knetc.runtime",)) else _USERS


def own(name: str) -> str:
    """The module that an imported name belongs to."""
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_one_way(module: str) -> None:
    in_runtime = within(module, ("knetc.runtime",))
    for found in imports(modules()[module]):
        if found.name.partition(".")[0] != "knetc":
            continue
        target = own(found.name)
        assert layer(target) <= layer(module), f"{module} imports {target}, which is of a higher layer"
        if within(target, ("knetc.runtime",)) and not within(target, ("knetc.runtime.base",)):
            assert within(module, _USES_RUNTIME), f"{module} imports {target}"
            assert not within(module, ("knetc.runtime.base",)), f"{module} imports {target}"
        if in_runtime:
            assert within(target, ("knetc.runtime",)), f"{module} imports {target}: runtime stands alone"


def test_heavy_packages_are_imported_in_few_places() -> None:
    for package, allowed in _HEAVY.items():
        users = {m for m, tree in modules().items() if any(i.name.split(".")[0] == package for i in imports(tree))}
        assert users <= allowed, f"{package} is imported by {users - allowed}"


def test_imports_inside_functions_are_few() -> None:
    inside = {(m, i.function) for m, tree in modules().items() for i in imports(tree) if i.function}
    assert inside <= _INSIDE
    by_name = {m for m, tree in modules().items() if "import_module(" in ast.unparse(tree)}
    assert by_name <= _BY_NAME


def test_the_environment_has_one_reader() -> None:
    readers = {
        m
        for m, tree in modules().items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
    }
    assert readers == {"knetc.runtime.base.config"}


@pytest.mark.parametrize("name", ["runtime", "codegen", "templates"])
def test_no_other_top_level_package(name: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import importlib.util as u; print(u.find_spec({name!r}))"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == "None"
    assert importlib.util.find_spec(f"knetc.{name}") is not None


# --- what a process loads --------------------------------------------------------------------------------------------

_PROGRAM = """
import sys
import numpy as np
import knetc as kn

@kn.compile
def scaled(x, y):
    return kn.softmax(x * 2.0 + y, axis=-1)

if "run" in sys.argv:
    x = np.ones((3, 4), np.float32)
    assert np.allclose(np.asarray(scaled(x, x)), 0.25)
    w = kn.param(3, 4)
    def loss(x): return kn.sum((w - x) ** 2)
    list(kn.sgd(loss, [(x,), (x,)], lr=0.1))
print(*sorted({name.partition(".")[0] for name in sys.modules} | {n for n in sys.modules if n.startswith("knetc.")}))
"""


def loaded(cache_folder: Path, *arguments: str) -> set[str]:
    """The modules of a fresh process after it ran the program."""
    file = cache_folder / "program.py"
    file.write_text(_PROGRAM)
    environment = {**os.environ, "KNETC_CACHE_DIR": str(cache_folder / "cache")}
    done = subprocess.run([sys.executable, file, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_needs_no_compiler(tmp_path: Path) -> None:
    names = loaded(tmp_path)
    assert "knetc.compiler.function" in names
    assert not names & set(_HEAVY)
    assert not any(name.startswith("knetc.codegen") for name in names)


def test_a_warm_process_needs_no_compiler(tmp_path: Path) -> None:
    assert {"llvmlite", "networkx"} <= loaded(tmp_path, "run")
    names = loaded(tmp_path, "run")
    assert not names & set(_HEAVY)
    assert not any(name.startswith("knetc.codegen") for name in names)
