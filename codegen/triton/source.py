"""Triton source as text: kernels rendered from templates, with what compiling them needs in their first line.

A source stands for itself: its first line is a comment that holds, as JSON, the entry's name, the types of its
parameters, and the options to compile it with. So equal texts are equal kernels, and a text alone can be compiled,
interpreted, kept in a cache, or read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

_IMPORTS = "import triton\nimport triton.language as tl\n"


@dataclass(frozen=True)
class Header:
    """What a source says of itself."""

    entry: str
    parameters: Mapping[str, str]
    """Name to Triton's type (``*fp32``, ``i64``), in order."""
    warps: int
    stages: int = 1
    written: tuple[str, ...] = ()
    """The parameters through which memory is written."""


@dataclass
class Prelude:
    """The functions that a kernel calls, by name, each once."""

    functions: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, parameters: str, body: list[str]) -> str:
        """Define a function unless it is there; the name by which it is called."""
        lines = "".join(f"    {line}\n" for line in body)
        if self.functions.setdefault(name, text := f"def {name}({parameters}):\n{lines}") != text:
            name = f"{name}_{hashlib.blake2b(text.encode(), digest_size=3).hexdigest()}"
            self.functions[name] = f"def {name}({parameters}):\n{lines}"
        return name

    @property
    def text(self) -> str:
        return "".join(f"\n\n@triton.jit\n{function}" for function in self.functions.values())


@cache
def _environment() -> jinja2.Environment:
    folder = files("knetc.templates")
    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["block"] = _block
    return found


def _block(lines: Sequence[str], indent: int) -> str:
    """Lines as they stand in a function, ``indent`` deep."""
    return "\n".join(" " * indent + line for line in lines)


def render(template: str, header: Header, prelude: Prelude, **values: Any) -> str:
    """The source of a kernel from ``templates/<template>.py.jinja``."""
    kernel = _environment().get_template(f"{template}.py.jinja").render(header=header, **values)
    kernel = "".join(f"{line}\n" for line in kernel.splitlines() if line.strip())
    first = json.dumps(asdict(header), separators=(",", ":"))
    return f"# {first}\n{_IMPORTS}{prelude.text}\n\n@triton.jit\n{kernel}"


def header_of(source: str) -> Header:
    """What the first line of a source says."""
    values = json.loads(source.split("\n", 1)[0].removeprefix("# "))
    return Header(**values | {"written": tuple(values["written"])})


def symbol_of(source: str) -> str:
    """The name by which launches call a kernel: equal sources have equal names."""
    return "k_" + hashlib.blake2b(source.encode(), digest_size=12).hexdigest()
