"""Every knob of knetc, typed, in one place: the only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "knetc"


@dataclass
class Config:
    """The settings of this process; a field's environment variable is ``KNETC_`` and its name in capitals."""

    debug: int = 0
    """1 kernels and times, 2 also fused groups and plan, 3 also graphs, 4 also LLVM IR, 5 also assembly."""
    cache: bool = True
    """Whether compiled programs and kernels are kept on disk."""
    cache_dir: Path = Path()
    """Where they are kept."""
    threads: int = 0
    """Threads for generated code; 0 means as many as this process may use."""
    cpu_level: str = "native"
    """Instruction set of generated code: native, avx512, avx2 or generic."""
    cuda_graphs: bool = True
    """Whether GPU programs are launched as graphs; without it kernel by kernel."""
    cublas: bool = True
    """Whether matrix products on a GPU are made by cuBLASLt where it takes them."""
    check: bool = False
    """Check the graph after each pass (always on in the tests)."""
    lazy_limit: int = 2000
    """A pending graph of this many nodes realizes itself."""
    fuse: bool = True
    """Whether groups are fused; without it each operation is a kernel (for finding faults)."""


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "bool": lambda text: text.strip().lower() not in ("", "0", "false", "no", "off"),
    "int": int,
    "str": str,
    "Path": Path,
}


def read_environment(environment: Mapping[str, str]) -> Config:
    """The configuration that an environment asks for; raises ValueError naming the variable that cannot be read."""
    config = Config(cache_dir=_default_cache())
    for name, kind in Config.__annotations__.items():
        variable = f"KNETC_{name.upper()}"
        if variable in environment:
            try:
                setattr(config, name, _PARSERS[kind](environment[variable]))
            except ValueError as error:
                raise ValueError(f"{variable}={environment[variable]!r} is not a valid {kind}") from error
    return config


config = read_environment(os.environ)
