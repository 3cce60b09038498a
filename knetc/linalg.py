"""Linear algebra under the names that NumPy's and the array API's ``linalg`` have, for Arrays and Params."""

from knetc.ops.linalg import (
    cholesky,
    det,
    eigh,
    eigvalsh,
    inv,
    kron,
    logdet,
    matrix_norm,
    matrix_power,
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
from knetc.ops.movement import matrix_transpose

__all__ = [
    "cholesky",
    "det",
    "eigh",
    "eigvalsh",
    "inv",
    "kron",
    "logdet",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "trace",
    "vecdot",
    "vector_norm",
]
