"""The package as a whole: what importing it costs, what it names, which parts may know which."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import knetc as kn

ROOT = Path(kn.__file__).resolve().parents[1]

#: the floors of the house, lowest first: a module imports from its own floor and those below
FLOORS = (
    ("knetc.runtime.base",),
    ("knetc.ir",),
    ("knetc.ops",),
    (
        "knetc.memory", "knetc.stream", "knetc.lazy", "knetc.structure", "knetc.tapes", "knetc.arrays", "knetc.params",
        "knetc.creation", "knetc.random", "knetc.numpy_protocol", "knetc.debugging",
    ),
    ("knetc.passes",),
    ("knetc.transforms", "knetc.gradient_check"),
    ("knetc.codegen", "knetc.templates"),
    ("knetc.compiler",),
    ("knetc.nn", "knetc.train", "knetc.cli", "knetc.dump"),
)  # fmt: skip
#: who may import the runtime beyond its base: for buffers, and for the Program's records
USES_RUNTIME = ("knetc.memory", "knetc.lazy", "knetc.arrays", "knetc.train.data", "knetc.codegen", "knetc.compiler",
                "knetc.cli", "knetc.dump", "knetc.runtime")  # fmt: skip


def modules() -> dict[str, Path]:
    """Name -> file of every module of the package."""
    found: dict[str, Path] = {}
    for folder, prefix in (("knetc", "knetc"), ("codegen", "knetc.codegen"), ("runtime", "knetc.runtime")):
        for file in (ROOT / folder).rglob("*.py"):
            parts = [*prefix.split("."), *file.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(file: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in known else node.module for name in inner)
    return {name for name in found if name in known}


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def floor(name: str) -> int:
    return next((k for k, places in enumerate(FLOORS) if within(name, places)), len(FLOORS))


def allowed(name: str, other: str) -> bool:
    """Whether module ``name`` may import module ``other``."""
    base, runtime = ("knetc.runtime.base",), ("knetc.runtime",)
    if within(name, runtime):
        return within(other, base if within(name, base) else runtime)
    if within(other, runtime) and not within(other, base):
        return within(name, USES_RUNTIME)
    return floor(other) <= floor(name)


def test_imports_point_one_way() -> None:
    known = modules()
    wrong = [
        (name, other) for name, file in known.items() for other in imports(file, known) if not allowed(name, other)
    ]
    assert not wrong


def in_a_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_importing_is_light_and_takes_no_name_of_the_users() -> None:
    code = "import sys, json, knetc; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(in_a_fresh_process(code)))
    assert not loaded & {
        "llvmlite",
        "networkx",
        "jinja2",
        "triton",
        "torch",
        "ml_dtypes",
        "runtime",
        "codegen",
        "templates",
    }


def test_names_are_what_they_say() -> None:
    assert all(inspect.isroutine(getattr(kn, name)) for name in ("array", "param", "compile", "debug"))
    expected = """
        Param Array diff grad gradloss value params gcheck compile debug relu elu selu sigm tanh gelu silu softplus
        leaky_relu accuracy bce logistic logp logsoftmax logsumexp nll softmax dropout layernorm rmsnorm embedding
        param param0 xavier xavier_uniform xavier_normal gaussian SGD Momentum Nesterov Adagrad Rmsprop Adadelta Adam
        AdamW update minimize sgd momentum nesterov adagrad rmsprop adadelta adam minimize_ sgd_ momentum_ nesterov_
        adagrad_ rmsprop_ adadelta_ adam_ converge converge_ minibatch progress progress_ training seed abs2 acos
        permute_dims concat cat1d
    """
    assert not [name for name in expected.split() if not hasattr(kn, name)]


def test_what_users_call_is_documented() -> None:
    for name in kn.__all__:
        first = (inspect.getdoc(getattr(kn, name)) or "").split("\n\n")[0]
        assert first.endswith("."), name
