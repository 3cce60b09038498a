"""Where the vendor's libraries are: in NVIDIA's Python packages, or where the system's linker finds them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from knetc.runtime.base.errors import CudaError

CUBLASLT = ("libcublasLt.so.13", "libcublasLt.so.12")
"""Versions whose functions are those of the prototypes, newest first."""


def for_driver(major: int) -> tuple[str, ...]:
    """The names of versions that a driver runs which knows CUDA up to this major version; all of them if it knows none.

    >>> for_driver(12), for_driver(14) == CUBLASLT
    (('libcublasLt.so.12',), True)
    """
    versions = {name: name.rpartition(".so.")[2] for name in CUBLASLT}
    fitting = (name for name, version in versions.items() if not version.isdigit() or int(version) <= major)
    return tuple(fitting) or CUBLASLT


def candidates(names: tuple[str, ...]) -> Iterator[str]:
    """Files that a library may be in: packages of the running Python, then the linker's names.

    Packages put it into ``nvidia/cublas/lib`` (CUDA 12) or ``nvidia/cu13/lib``.
    """
    for name in names:
        for folder in sys.path:
            for found in sorted(Path(folder, "nvidia").glob(f"*/lib/{name}")):
                yield str(found)
    yield from names


@cache
def load(names: tuple[str, ...]) -> ctypes.CDLL:
    """The first of a library's versions that can be loaded; raises CudaError, with what was tried, if none can."""
    refused: list[str] = []
    for file in candidates(names):
        try:
            return ctypes.CDLL(file)
        except OSError as error:
            refused.append(str(error))
    raise CudaError(f"no library {' or '.join(names)}: {'; '.join(refused)}")
