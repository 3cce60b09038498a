"""What is written for people is true: code on pages, examples, and the examples of docstrings run.

On a page, the ``python`` blocks run in order in one namespace; a block that begins with ``# name.py`` is also written
to that file. ``sh`` blocks of ``knetc`` commands run beside it. A ``text`` block that follows is what they print, where
``...`` stands for anything; ``--refresh-goldens`` writes those anew that have no ``...``.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from knetc.runtime.base.config import config

import knetc as kn
from knetc.ir.op import OPS

_ROOT = Path(__file__).parent.parent
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A block of code on a page: its language, text, where it begins, and in which line."""

    language: str
    text: str
    start: int
    line: int


def blocks(page: str) -> Iterator[Block]:
    for match in _BLOCK.finditer(page):
        yield Block(match[1], match[2], match.start(2), page[: match.start(2)].count("\n"))


def matches(expected: str, printed: str) -> bool:
    return doctest.OutputChecker().check_output(expected, printed, _SAME)


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in, with a cache of its own; settings and the table of operations are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "cache_dir", tmp_path / "cache")
    known, dtype = set(OPS), kn.arange(1.0).dtype
    yield tmp_path
    for name in set(OPS) - known:
        del OPS[name]
    kn.set_default(dtype=str(dtype))


def run_python(block: Block, page: Path, namespace: dict[str, Any]) -> str:
    """What the block prints; errors name the line of the page."""
    first = block.text.partition("\n")[0]
    if name := re.fullmatch(r"# (\w+\.py)", first):
        Path(name[1]).write_text(block.text)
    printed = io.StringIO()
    code = compile("\n" * block.line + block.text, page.name, "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    return printed.getvalue()


def run_commands(block: Block) -> str:
    """What the ``knetc`` commands of a block print; blocks of other commands do not run."""
    commands = [shlex.split(line) for line in block.text.splitlines()]
    if any(command[0] != "knetc" for command in commands):
        return ""
    environment = {**os.environ, "KNETC_CACHE_DIR": str(config.cache_dir)}
    printed = ""
    for _, *arguments in commands:
        command = [sys.executable, "-m", "knetc", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    return printed


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_pages(page: Path, clean: Path, request: pytest.FixtureRequest) -> None:
    content = page.read_text()
    namespace: dict[str, Any] = {"__name__": "page"}
    printed, outputs = "", []
    for block in blocks(content):
        if block.language == "python":
            printed = run_python(block, page, namespace)
        elif block.language == "sh":
            printed = run_commands(block)
        elif block.language == "text":
            if request.config.getoption("--refresh-goldens") and "..." not in block.text:
                outputs.append((block, printed))
            else:
                assert matches(block.text, printed), f"{page.name}:{block.line} prints\n{printed}"
    for block, printed in reversed(outputs):
        content = content[: block.start] + printed + content[block.start + len(block.text) :]
    if outputs:
        page.write_text(content)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", page.read_text())
    for target in re.findall(r"\]\(([^)#:]+)\)", prose):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_a_wrong_page_is_caught() -> None:
    assert matches("a ... c\n", "a b c\n")
    assert not matches("a b\n", "a c\n")


@pytest.mark.parametrize(
    "arguments", [("digits_mlp.py", "--epochs", "2", "--runs", "1")], ids=lambda arguments: arguments[0]
)
def test_examples(arguments: tuple[str, ...], tmp_path: Path) -> None:
    name, *options = arguments
    command = [sys.executable, "-W", "error", str(_ROOT / "examples" / name), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_every_example_is_run() -> None:
    assert {file.name for file in (_ROOT / "examples").glob("*.py")} == {"digits_mlp.py"}


# --- docstrings ------------------------------------------------------------------------------------------------------


def namespace_of_examples() -> dict[str, Any]:
    """What the examples of docstrings may use without saying where it comes from."""
    images, labels = np.ones((20, 4), np.float32), np.arange(20) % 3
    w = kn.param(3, 4)

    def model(x: Any) -> Any:
        return x @ w.T

    def loss(x: Any, y: Any) -> Any:
        return kn.nll(model(x), y)

    x, y = kn.array([[0.5, 2.0, 1.0, -1.0]]), kn.array([1])
    given = {
        "kn": kn, "np": np, "images": images, "labels": kn.array(labels), "model": model, "loss": loss, "x": x, "y": y,
        "data": kn.minibatch(images, labels, 5), "scores": kn.ones((20, 3)), "compile": kn.compile,
    }  # fmt: skip
    return {**{name: getattr(kn, name) for name in kn.__all__}, **given}


def promised(source: str) -> str:
    """The comment of an example, which tells its value: ``exp(x)  # [1, 2.7]``."""
    comments = [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
    return comments[-1].lstrip("# ") if comments else ""


def check_value(comment: str, value: Any) -> None:
    """Compare with a shape (``shape (2, 3)``), a printed form (``P([1])``) or a value; other comments are prose."""
    if shape := re.fullmatch(r"(?:\w+, )?shape (\([\d, ]*\))", comment):
        assert value.shape == ast.literal_eval(shape[1])
        return
    if re.match(r"[TP]\(|\[P\(", comment):
        assert repr(value) == comment
        return
    try:
        expected = ast.literal_eval(comment)
    except (SyntaxError, ValueError):
        return
    if isinstance(expected, tuple):
        assert len(expected) == len(value)
    else:
        expected, value = [expected], [value]
    digits = max(map(len, re.findall(r"(?<=\.)\d+", comment)), default=0)
    rounding = 0.51 * 10.0**-digits if digits > 2 else 0.0  # a value is told to so many places
    for one, other in zip(expected, value):
        np.testing.assert_allclose(np.asarray(other), one, rtol=2e-6, atol=rounding)


_DOCUMENTED = {
    f"{thing.__module__}.{getattr(thing, '__qualname__', name)}": thing
    for name, thing in ((name, getattr(kn, name)) for name in sorted(kn.__all__))
    if ">>>" in (thing.__doc__ or "")
}


@pytest.mark.parametrize("name", _DOCUMENTED)
def test_docstrings(name: str, clean: Path) -> None:
    namespace = namespace_of_examples()
    if "torch" in (_DOCUMENTED[name].__doc__ or ""):
        pytest.importorskip("torch")
    for example in doctest.DocTestParser().get_examples(_DOCUMENTED[name].__doc__):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            tree = ast.parse(example.source)
            if isinstance(tree.body[-1], ast.Expr) and len(tree.body) == 1:
                value = eval(example.source, namespace)
                if example.want and value is not None:
                    print(repr(value))
                check_value(promised(example.source), value)
            else:
                exec(example.source, namespace)
                if isinstance(tree.body[-1], ast.Assign):
                    check_value(promised(example.source), eval(ast.unparse(tree.body[-1].targets[0]), namespace))
        if example.want:
            assert matches(example.want, printed.getvalue()), f"{example.source}prints {printed.getvalue()}"


def test_a_wrong_docstring_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_value("[1, 2]", kn.array([1.0, 2.001]))
    with pytest.raises(AssertionError):
        check_value("shape (2,)", kn.array([1.0, 2.0, 3.0]))


def test_the_reference_names_everything_as_it_is() -> None:
    script = runpy.run_path(str(_ROOT / "docs" / "make_reference.py"))
    assert script["PAGE"].read_text() == script["page"](), "run: python docs/make_reference.py"
    assert script["NAMES_PAGE"].read_text() == script["names_page"](), "run: python docs/make_reference.py"
