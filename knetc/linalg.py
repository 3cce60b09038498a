"""Linear algebra under the names that NumPy's and the array API's ``linalg`` have, for Arrays and Params."""

from __future__ import annotations

from typing import Any

from knetc.ops import linalg, rearrange, reduction
from knetc.ops.apply import Operand
from knetc.ops.calculus import cross
from knetc.ops.contraction import tensordot
from knetc.ops.linalg import (
    cholesky,
    det,
    eigh,
    eigvalsh,
    inv,
    kron,
    logdet,
    pinv,
    slogdet,
    solve,
    svdvals,
)
from knetc.ops.linear import matmul, outer, vecdot
from knetc.ops.matrices import cond, eig, eigvals, lstsq, matrix_power, matrix_rank, multi_dot, tensorinv, tensorsolve
from knetc.ops.movement import matrix_transpose
from knetc.ops.norms import matrix_norm, vector_norm
from knetc.ops.norms import numpy_norm as norm


def qr(a: Operand, mode: str = "reduced") -> Any:
    """``kn.qr``; with the ``mode`` "r" R alone.

    >>> kn.linalg.qr(kn.array([[3.0], [4.0]]), "r")  # abs(R[0, 0]) = 5
    """
    return linalg.qr(a).R if mode == "r" else linalg.qr(a, mode)


def svd(a: Operand, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """``kn.svd``, but that U and Vh are square unless ``full_matrices`` says otherwise.

    >>> kn.linalg.svd(kn.array([[3.0, 0.0], [0.0, 4.0]]), compute_uv=False)  # [4, 3]
    """
    return linalg.svd(a, full_matrices, compute_uv)


def diagonal(x: Operand, *, offset: int = 0) -> Any:
    """The diagonals of matrices [..., M, N], ``offset`` places to the right.

    >>> kn.linalg.diagonal(kn.array([[1, 2], [3, 4]]))  # [1, 4]
    """
    return rearrange.diagonal(x, offset, -2, -1)


def trace(x: Operand, *, offset: int = 0, dtype: Any = None) -> Any:
    """The sums of the diagonals of matrices [..., M, N], ``offset`` places to the right; integers as int64.

    >>> kn.linalg.trace(kn.array([[4.0, 1.0], [2.0, 3.0]]))  # 7
    """
    return reduction.sum(diagonal(x, offset=offset), -1, dtype=dtype)


__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "kron",
    "logdet",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]
