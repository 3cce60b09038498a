"""Linear algebra on stacks of matrices as host functions, over NumPy's LAPACK.

They run with one thread of the BLAS library that NumPy brings: its threads would wait, busily, beside knetc's own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
from knetc.runtime.base.errors import LinearAlgebraError
from knetc.runtime.base.host_functions import register

Array = np.ndarray[Any, Any]


@cache
def _threads() -> tuple[Any, Any] | None:
    """How to ask for and to set the number of threads of NumPy's OpenBLAS; None where it brings none."""
    for file in sorted((Path(np.__file__).parent.parent / "numpy.libs").glob("*openblas*")):
        try:
            library = ctypes.CDLL(str(file))
        except OSError:
            continue
        for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
            ask = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
            change = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
            if ask is not None and change is not None:
                return ask, change
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block NumPy's OpenBLAS, if that is what it has, uses only the calling thread."""
    found = _threads()
    if found is None:
        yield
        return
    ask, change = found
    before = ask()
    change(1)
    try:
        yield
    finally:
        change(before)


_REASONS = {
    "Singular matrix": "the matrix is singular: it has no inverse and its equations no single solution; add to its "
    "diagonal (a + eps * eye), or use pinv",
    "Matrix is not positive definite": "the matrix is not positive definite; symmetrise it ((a + a.T) / 2) and add to "
    "its diagonal",
    "complex eigenvalues": "some eigenvalues are complex numbers, which there are none of; a symmetric matrix has real "
    "ones (eigh), and numpy.linalg.eig gives complex ones for numpy.asarray(a)",
}


def _known(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function over NumPy's known as a host function; LAPACK's complaints become errors that teach."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*arrays: Array) -> Any:
            with one_thread():
                try:
                    return function(*arrays)
                except np.linalg.LinAlgError as error:
                    reason = _REASONS.get(str(error), str(error))
                    shapes = ", ".join(f"{a.dtype}{list(a.shape)}" for a in arrays)
                    raise LinearAlgebraError(f"{name}({shapes}): {reason}") from None

        register(f"lapack.{name}", call, everywhere=True, copies=False, stacks=True)
        return call

    return decorate


@_known("inv")
def inv(a: Array) -> Array:
    return np.linalg.inv(a)


@_known("det")
def det(a: Array) -> Array:
    return np.asarray(np.linalg.det(a))


@_known("slogdet")
def slogdet(a: Array) -> tuple[Array, ...]:
    return tuple(np.linalg.slogdet(a))


@_known("solve")
def solve(a: Array, b: Array) -> Array:
    return np.linalg.solve(a, b)


@_known("cholesky")
def cholesky(a: Array) -> Array:
    return np.linalg.cholesky(a)


@_known("qr")
def qr(a: Array) -> tuple[Array, ...]:
    return tuple(np.linalg.qr(a))


@_known("qr_complete")
def qr_complete(a: Array) -> tuple[Array, ...]:
    return tuple(np.linalg.qr(a, mode="complete"))


@_known("svd")
def svd(a: Array) -> tuple[Array, ...]:
    return tuple(np.linalg.svd(a, full_matrices=False))


@_known("svd_full")
def svd_full(a: Array) -> tuple[Array, ...]:
    return tuple(np.linalg.svd(a, full_matrices=True))


@_known("eigh")
def eigh(a: Array) -> tuple[Array, ...]:
    return tuple(np.linalg.eigh(a))


@_known("pinv")
def pinv(a: Array, rtol: Array) -> Array:
    return np.linalg.pinv(a, rtol=rtol)


@_known("eig")
def eig(a: Array) -> tuple[Array, ...]:
    values, vectors = np.linalg.eig(a)
    if np.any(values.imag):
        raise np.linalg.LinAlgError("complex eigenvalues")
    return values.real, vectors.real  # NumPy 2.5 gives complex arrays in any case
