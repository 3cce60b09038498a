"""Linear algebra under the names that NumPy's and the array API's ``linalg`` have, for Arrays and Params."""

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
    matrix_norm,
    pinv,
    qr,
    slogdet,
    solve,
    svd,
    svdvals,
    trace,
    vector_norm,
)
from knetc.ops.linalg import numpy_norm as norm
from knetc.ops.linear import matmul, outer, vecdot
from knetc.ops.matrices import cond, eig, eigvals, lstsq, matrix_power, matrix_rank, multi_dot, tensorinv, tensorsolve
from knetc.ops.movement import matrix_transpose

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
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
