"""knetc: Python functions over arrays and parameters, differentiated, fused and run as a few native kernels.

What a module of many functions has for users stands in its own ``__all__``; from there the names come here.
"""

import typing as _typing

# NumPy first: imported from deep inside of our own modules, it took 48 ms longer under CPython 3.11 (measured; the
# time went into NumPy's typing modules, and why is not known for certain).
import numpy as _numpy

from knetc import absent as _absent
from knetc import array_api as array_api
from knetc import linalg as linalg
from knetc import numpy_protocol as _protocol  # noqa: F401 (NumPy functions on arrays)
from knetc import random as random
from knetc.arrays import *
from knetc.assignments import *
from knetc.batching import *
from knetc.compiler import at_once as _at_once  # noqa: F401 (how small arrays are computed)
from knetc.compiler import realize as _realize  # noqa: F401 (how pending arrays are computed)
from knetc.compiler.function import *
from knetc.compiler.report import *
from knetc.control import *
from knetc.creation import *
from knetc.debugging import *
from knetc.derivatives import *
from knetc.devices import *
from knetc.dtypes import *
from knetc.gradient_check import *
from knetc.grids import *
from knetc.nn import *
from knetc.numpy_table import ELSEWHERE as _ELSEWHERE
from knetc.ops.activations import *
from knetc.ops.angles import *
from knetc.ops.arithmetic import *
from knetc.ops.bits import *
from knetc.ops.calculus import *
from knetc.ops.choosing import *
from knetc.ops.contraction import *
from knetc.ops.division import *
from knetc.ops.elementary import *
from knetc.ops.identities import *
from knetc.ops.incomplete import *
from knetc.ops.indexed import *
from knetc.ops.integrals import *
from knetc.ops.joining import *
from knetc.ops.linalg import *
from knetc.ops.linear import *
from knetc.ops.logic import *
from knetc.ops.losses import *
from knetc.ops.matrices import *
from knetc.ops.movement import *
from knetc.ops.norms import *
from knetc.ops.padding import *
from knetc.ops.polynomials import *
from knetc.ops.probability import *
from knetc.ops.rearrange import *
from knetc.ops.reduction import *
from knetc.ops.scan import *
from knetc.ops.selection import *
from knetc.ops.sorting import *
from knetc.ops.special import *
from knetc.ops.statistics import *
from knetc.ops.transcendental import *
from knetc.params import *
from knetc.primitives import *
from knetc.rematerialize import *
from knetc.runtime.base.errors import *
from knetc.selection import *
from knetc.sets import *
from knetc.train.converge import *
from knetc.train.data import *
from knetc.train.minimize import *
from knetc.train.optimizers import *
from knetc.train.progress import *
from knetc.train.update import *
from knetc.transforms import *

dropout, rand, randint, randn, seed = random.dropout, random.rand, random.randint, random.randn, random.seed
imag = array_api.imag

# what has several names in NumPy
amax, amin, around, fix = max, min, round, trunc
arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh = acos, acosh, asin, asinh, atan, atan2, atanh
bitwise_invert, bitwise_left_shift, bitwise_right_shift = invert, left_shift, right_shift
conj = conjugate = real = positive
expit = sigmoid

__all__ = sorted(  # all but the modules that are no part of what users call
    name
    for name, thing in globals().items()
    if not name.startswith("_") and (name in ("array_api", "linalg", "random") or type(thing) is not type(_numpy))
)

if not _typing.TYPE_CHECKING:  # type checkers know what there is

    def __getattr__(name: str) -> _typing.NoReturn:
        raise AttributeError(_absent.message("kn", name, __all__, {**_ELSEWHERE, **_absent.NAMES}))
