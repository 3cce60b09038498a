"""knetc: Python functions over arrays and parameters, differentiated, fused and run as a few native kernels."""

# NumPy first: imported from deep inside of our own modules, it took 48 ms longer under CPython 3.11 (measured; the
# time went into NumPy's typing modules, and why is not known for certain).
import numpy as _numpy

from knetc import array_api, linalg
from knetc import numpy_protocol as _protocol  # noqa: F401 (NumPy functions on arrays)
from knetc.array_api import (
    astype,
    can_cast,
    e,
    finfo,
    float16,
    float32,
    float64,
    iinfo,
    imag,
    inf,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    nan,
    newaxis,
    pi,
    result_type,
    uint8,
    uint16,
    uint32,
    uint64,
)
from knetc.array_api import bool as bool_
from knetc.arrays import Array, array, from_dlpack, to_device
from knetc.assignments import (
    axpy_,
    copyto,
    fill,
    fill_diagonal,
    lmul_,
    place,
    put,
    put_along_axis,
    putmask,
    rand_,
    randn_,
    rmul_,
)
from knetc.batching import vmap
from knetc.compiler import realize as _realize  # noqa: F401 (how pending arrays are computed)
from knetc.compiler.function import compile
from knetc.compiler.report import summary
from knetc.control import cond, fori_loop, scan, switch, while_loop
from knetc.creation import (
    arange,
    asarray,
    atype,
    empty,
    empty_like,
    eye,
    fromfunction,
    full,
    full_like,
    geomspace,
    identity,
    indices,
    linspace,
    logspace,
    one,
    ones,
    ones_like,
    set_default,
    similar,
    tri,
    zero,
    zeros,
    zeros_like,
)
from knetc.debugging import debug
from knetc.derivatives import hessian, jacobian, jvp, vjp
from knetc.devices import cpucopy, gc, gpu, gpucopy, memory_stats, synchronize
from knetc.gradient_check import gcheck
from knetc.nn import accuracy, gaussian, nll, param, param0, xavier, xavier_normal, xavier_uniform
from knetc.ops.activations import (
    elu,
    gelu,
    layernorm,
    leaky_relu,
    logp,
    logsoftmax,
    logsumexp,
    relu,
    rmsnorm,
    selu,
    silu,
    softmax,
)
from knetc.ops.angles import (
    acosd,
    acot,
    acotd,
    acoth,
    acsc,
    acscd,
    acsch,
    asec,
    asecd,
    asech,
    asind,
    atand,
    cosd,
    cot,
    cotd,
    coth,
    csc,
    cscd,
    csch,
    mod2pi,
    rem2pi,
    sec,
    secd,
    sech,
    sind,
    tand,
)
from knetc.ops.arithmetic import (
    abs,
    abs2,
    absolute,
    add,
    ceil,
    clip,
    divide,
    floor,
    maximum,
    minimum,
    multiply,
    negative,
    positive,
    reciprocal,
    rint,
    round,
    sign,
    square,
    subtract,
    true_divide,
    trunc,
)
from knetc.ops.arithmetic import (
    absolute as fabs,
)
from knetc.ops.arithmetic import (
    positive as conj,
)
from knetc.ops.arithmetic import (
    positive as conjugate,
)
from knetc.ops.arithmetic import (
    positive as real,
)
from knetc.ops.arithmetic import (
    round as around,
)
from knetc.ops.arithmetic import (
    trunc as fix,
)
from knetc.ops.bits import (
    bitcast,
    bitwise_count,
    float_power,
    frexp,
    gcd,
    lcm,
    ldexp,
    modf,
    nextafter,
    spacing,
)
from knetc.ops.calculus import (
    convolve,
    correlate,
    cross,
    difference,
    ediff1d,
    gradient,
    interp,
    polyval,
    trapezoid,
    unwrap,
)
from knetc.ops.choosing import (
    array_equiv,
    choose,
    isapprox,
    isin,
    piecewise,
    select,
)
from knetc.ops.contraction import (
    einsum,
    tensordot,
)
from knetc.ops.division import floor_divide, mod, remainder
from knetc.ops.elementary import (
    clamp,
    copysign,
    deg2rad,
    degrees,
    divmod,
    fmax,
    fmin,
    fmod,
    heaviside,
    isneginf,
    isposinf,
    nan_to_num,
    rad2deg,
    radians,
    signbit,
    sinc,
)
from knetc.ops.identities import stop_gradient
from knetc.ops.indexed import embedding, take, take_along_axis
from knetc.ops.joining import (
    append,
    array_split,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    block,
    cat,
    cat1d,
    column_stack,
    concat,
    concatenate,
    delete,
    dsplit,
    dstack,
    hcat,
    hsplit,
    hstack,
    insert,
    split,
    stack,
    unstack,
    vcat,
    vsplit,
    vstack,
)
from knetc.ops.linalg import (
    cholesky,
    det,
    eigh,
    eigvalsh,
    inv,
    kron,
    logdet,
    pinv,
    qr,
    slogdet,
    solve,
    svd,
    svdvals,
    trace,
)
from knetc.ops.linear import (
    dot,
    inner,
    matmul,
    matvec,
    outer,
    vdot,
    vecdot,
    vecmat,
)
from knetc.ops.logic import (
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    invert,
    isfinite,
    isinf,
    isnan,
    left_shift,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    right_shift,
    where,
)
from knetc.ops.logic import (
    invert as bitwise_invert,
)
from knetc.ops.logic import (
    left_shift as bitwise_left_shift,
)
from knetc.ops.logic import (
    right_shift as bitwise_right_shift,
)
from knetc.ops.losses import bce, logistic
from knetc.ops.matrices import (
    eig,
    eigvals,
    lstsq,
    matrix_power,
    matrix_rank,
    multi_dot,
    tensorinv,
    tensorsolve,
)
from knetc.ops.movement import (
    adjoint,
    broadcast_arrays,
    broadcast_to,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    permute_dims,
    permutedims,
    ravel,
    reshape,
    squeeze,
    swapaxes,
    transpose,
    vec,
)
from knetc.ops.norms import matrix_norm, norm, vector_norm
from knetc.ops.padding import (
    pad,
)
from knetc.ops.polynomials import poly, polyadd, polyder, polyfit, polyint, polymul, polysub
from knetc.ops.probability import (
    beta,
    betaln,
    entr,
    kl_div,
    log_ndtr,
    logit,
    multigammaln,
    ndtr,
    ndtri,
    rel_entr,
    xlog1py,
    xlogy,
)
from knetc.ops.rearrange import (
    diag,
    diagflat,
    diagonal,
    fliplr,
    flipud,
    meshgrid,
    repeat,
    resize,
    roll,
    rollaxis,
    rot90,
    tile,
    tril,
    triu,
    vander,
)
from knetc.ops.reduction import all, any, argmax, argmin, count_nonzero, max, mean, min, prod, std, sum, var
from knetc.ops.reduction import max as amax
from knetc.ops.reduction import min as amin
from knetc.ops.scan import (
    cummax,
    cummin,
    cumprod,
    cumsum,
    cumulative_prod,
    cumulative_sum,
    linear_recurrence,
    logcumsumexp,
)
from knetc.ops.selection import histogram, histogram_bin_edges, ravel_multi_index, unravel_index
from knetc.ops.sorting import (
    argpartition,
    argsort,
    digitize,
    lexsort,
    median,
    nanmedian,
    nanpercentile,
    nanquantile,
    partition,
    percentile,
    quantile,
    searchsorted,
    sort,
    topk,
)
from knetc.ops.special import (
    cospi,
    digamma,
    erfcinv,
    erfcx,
    erfinv,
    exp10,
    gamma,
    lgamma,
    logaddexp,
    logaddexp2,
    loggamma,
    polygamma,
    sinpi,
    trigamma,
)
from knetc.ops.statistics import (
    allclose,
    array_equal,
    average,
    corrcoef,
    cov,
    findmax,
    findmin,
    isclose,
    nanargmax,
    nanargmin,
    nancumprod,
    nancumsum,
    nanmax,
    nanmean,
    nanmin,
    nanprod,
    nanstd,
    nansum,
    nanvar,
    ptp,
    stdm,
    varm,
)
from knetc.ops.transcendental import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cbrt,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    hypot,
    log,
    log1p,
    log2,
    log10,
    pow,
    power,
    rsqrt,
    sigm,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    tan,
    tanh,
)
from knetc.ops.transcendental import (
    acos as arccos,
)
from knetc.ops.transcendental import (
    acosh as arccosh,
)
from knetc.ops.transcendental import (
    asin as arcsin,
)
from knetc.ops.transcendental import (
    asinh as arcsinh,
)
from knetc.ops.transcendental import (
    atan as arctan,
)
from knetc.ops.transcendental import (
    atan2 as arctan2,
)
from knetc.ops.transcendental import (
    atanh as arctanh,
)
from knetc.ops.transcendental import (
    sigmoid as expit,
)
from knetc.params import Param, params, value
from knetc.primitives import primitive, unbroadcast, zerograd
from knetc.random import dropout, rand, randint, randn, seed
from knetc.rematerialize import checkpoint
from knetc.runtime.base.errors import (
    AxisError,
    CaptureError,
    DifferentiationError,
    DtypeError,
    HostCallError,
    KnetcError,
    LabelError,
    LinearAlgebraError,
    NanError,
    OutOfMemoryError,
    ShapeError,
    TraceError,
    UnsupportedError,
    VariantsError,
)
from knetc.selection import (
    argwhere,
    bincount,
    compress,
    extract,
    flatnonzero,
    nonzero,
    trim_zeros,
    unique,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)
from knetc.sets import intersect1d, setdiff1d, setxor1d, union1d
from knetc.train.converge import converge, converge_
from knetc.train.data import minibatch
from knetc.train.minimize import (
    adadelta,
    adadelta_,
    adagrad,
    adagrad_,
    adam,
    adam_,
    adamw,
    adamw_,
    minimize,
    minimize_,
    momentum,
    momentum_,
    nesterov,
    nesterov_,
    rmsprop,
    rmsprop_,
    sgd,
    sgd_,
)
from knetc.train.optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Momentum, Nesterov, Optimizer, Rmsprop
from knetc.train.progress import progress, progress_
from knetc.train.update import update
from knetc.transforms import Tape, diff, grad, gradloss, training

euler_gamma = _numpy.euler_gamma

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Array", "AxisError", "CaptureError", "DifferentiationError",
    "DtypeError", "HostCallError", "KnetcError", "LabelError", "LinearAlgebraError", "Momentum", "NanError", "Nesterov",
    "Optimizer", "OutOfMemoryError", "Param", "Rmsprop", "ShapeError", "Tape", "TraceError", "UnsupportedError",
    "VariantsError", "abs", "abs2", "absolute", "accuracy", "acos", "acosd", "acosh", "acot", "acotd", "acoth", "acsc",
    "acscd", "acsch", "adadelta", "adadelta_", "adagrad", "adagrad_", "adam", "adam_", "adamw", "adamw_", "add",
    "adjoint", "all", "allclose", "amax", "amin", "any", "append", "arange", "arccos", "arccosh", "arcsin", "arcsinh",
    "arctan", "arctan2", "arctanh", "argmax", "argmin", "argpartition", "argsort", "argwhere", "around", "array",
    "array_api", "array_equal", "array_equiv", "array_split", "asarray", "asec", "asecd", "asech", "asin", "asind",
    "asinh", "astype", "atan", "atan2", "atand", "atanh", "atleast_1d", "atleast_2d", "atleast_3d", "atype", "average",
    "axpy_", "bce", "beta", "betaln", "bincount", "bitcast", "bitwise_and", "bitwise_count", "bitwise_invert",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "block", "bool_",
    "broadcast_arrays", "broadcast_to", "can_cast", "cat", "cat1d", "cbrt", "ceil", "checkpoint", "cholesky", "choose",
    "clamp", "clip", "column_stack", "compile", "compress", "concat", "concatenate", "cond", "conj", "conjugate",
    "converge", "converge_", "convolve", "copysign", "copyto", "corrcoef", "correlate", "cos", "cosd", "cosh", "cospi",
    "cot", "cotd", "coth", "count_nonzero", "cov", "cpucopy", "cross", "csc", "cscd", "csch", "cummax", "cummin",
    "cumprod", "cumsum", "cumulative_prod", "cumulative_sum", "debug", "deg2rad", "degrees", "delete", "det", "diag",
    "diagflat", "diagonal", "diff", "difference", "digamma", "digitize", "divide", "divmod", "dot", "dropout", "dsplit",
    "dstack", "e", "ediff1d", "eig", "eigh", "eigvals", "eigvalsh", "einsum", "elu", "embedding", "empty", "empty_like",
    "entr", "equal", "erf", "erfc", "erfcinv", "erfcx", "erfinv", "euler_gamma", "exp", "exp2", "exp10", "expand_dims",
    "expit", "expm1", "extract", "eye", "fabs", "fill", "fill_diagonal", "findmax", "findmin", "finfo", "fix",
    "flatnonzero", "flip", "fliplr", "flipud", "float16", "float32", "float64", "float_power", "floor", "floor_divide",
    "fmax", "fmin", "fmod", "fori_loop", "frexp", "from_dlpack", "fromfunction", "full", "full_like", "gamma",
    "gaussian", "gc", "gcd", "gcheck", "gelu", "geomspace", "gpu", "gpucopy", "grad", "gradient", "gradloss", "greater",
    "greater_equal", "hcat", "heaviside", "hessian", "histogram", "histogram_bin_edges", "hsplit", "hstack", "hypot",
    "identity", "iinfo", "imag", "indices", "inf", "inner", "insert", "int8", "int16", "int32", "int64", "interp",
    "intersect1d", "inv", "invert", "isapprox", "isclose", "isdtype", "isfinite", "isin", "isinf", "isnan", "isneginf",
    "isposinf", "jacobian", "jvp", "kl_div", "kron", "layernorm", "lcm", "ldexp", "leaky_relu", "left_shift", "less",
    "less_equal", "lexsort", "lgamma", "linalg", "linear_recurrence", "linspace", "lmul_", "log", "log1p", "log2",
    "log10", "log_ndtr", "logaddexp", "logaddexp2", "logcumsumexp", "logdet", "loggamma", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logistic", "logit", "logp", "logsoftmax", "logspace", "logsumexp", "lstsq", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "matrix_transpose", "matvec", "max", "maximum", "mean", "median",
    "memory_stats", "meshgrid", "min", "minibatch", "minimize", "minimize_", "minimum", "mod", "mod2pi", "modf",
    "momentum", "momentum_", "moveaxis", "multi_dot", "multigammaln", "multiply", "nan", "nan_to_num", "nanargmax",
    "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmean", "nanmedian", "nanmin", "nanpercentile", "nanprod",
    "nanquantile", "nanstd", "nansum", "nanvar", "ndtr", "ndtri", "negative", "nesterov", "nesterov_", "newaxis",
    "nextafter", "nll", "nonzero", "norm", "not_equal", "one", "ones", "ones_like", "outer", "pad", "param", "param0",
    "params", "partition", "percentile", "permute_dims", "permutedims", "pi", "piecewise", "pinv", "place", "poly",
    "polyadd", "polyder", "polyfit", "polygamma", "polyint", "polymul", "polysub", "polyval", "positive", "pow",
    "power", "primitive", "prod", "progress", "progress_", "ptp", "put", "put_along_axis", "putmask", "qr", "quantile",
    "rad2deg", "radians", "rand", "rand_", "randint", "randn", "randn_", "ravel", "ravel_multi_index", "real",
    "reciprocal", "rel_entr", "relu", "rem2pi", "remainder", "repeat", "reshape", "resize", "result_type",
    "right_shift", "rint", "rmsnorm", "rmsprop", "rmsprop_", "rmul_", "roll", "rollaxis", "rot90", "round", "rsqrt",
    "scan", "searchsorted", "sec", "secd", "sech", "seed", "select", "selu", "set_default", "setdiff1d", "setxor1d",
    "sgd", "sgd_", "sigm", "sigmoid", "sign", "signbit", "silu", "similar", "sin", "sinc", "sind", "sinh", "sinpi",
    "slogdet", "softmax", "softplus", "solve", "sort", "spacing", "split", "sqrt", "square", "squeeze", "stack", "std",
    "stdm", "stop_gradient", "subtract", "sum", "summary", "svd", "svdvals", "swapaxes", "switch", "synchronize",
    "take", "take_along_axis", "tan", "tand", "tanh", "tensordot", "tensorinv", "tensorsolve", "tile", "to_device",
    "topk", "trace", "training", "transpose", "trapezoid", "tri", "trigamma", "tril", "trim_zeros", "triu",
    "true_divide", "trunc", "uint8", "uint16", "uint32", "uint64", "unbroadcast", "union1d", "unique", "unique_all",
    "unique_counts", "unique_inverse", "unique_values", "unravel_index", "unstack", "unwrap", "update", "value",
    "vander", "var", "varm", "vcat", "vdot", "vec", "vecdot", "vecmat", "vector_norm", "vjp", "vmap", "vsplit",
    "vstack", "where", "while_loop", "xavier", "xavier_normal", "xavier_uniform", "xlog1py", "xlogy", "zero",
    "zerograd", "zeros", "zeros_like",
]  # fmt: skip
