"""NumPy's sorts as native functions, ``int32 sort(void *first, int64 count, void *unused)``, that kernels call.

They are the very functions behind ``np.sort``, chosen by NumPy for this processor. Its C API gives their addresses: the
entry ``_PyDataType_GetArrFuncs`` of the API's table, whose places are fixed for all of NumPy 2, and in what it returns
``sort``. For numbers they take no array, need no interpreter and put NaN last. Where NumPy is another one,
there are none, and programs call Python to sort.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import numpy as np
from knetc.runtime.base import dtypes
from knetc.runtime.cpu.host import cpu_flags

SORTED = tuple(map(np.dtype, ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")))
"""The dtypes that are sorted as they are."""

_ABI, _API = 0x2000000, 0
_GET_ARRAY_FUNCTIONS = 365
"""Places in the table of the C API."""

_SORT = 21 + 12
"""Where ``sort`` is in ``PyArray_ArrFuncs``, in pointers: behind 21 casts and twelve other functions."""

_QUICK, _STABLE = 0, 2


def name_of(dtype: np.dtype) -> str:
    """The name by which kernels call the sort of a dtype."""
    return f"kn_sort_{dtypes.short_name(dtype)}"


@cache
def addresses() -> dict[str, int]:
    """The address of each sort by its name; empty where this NumPy is not known to have them."""
    table = _table()
    if table is None or ctypes.PYFUNCTYPE(ctypes.c_uint)(table[_API])() != _ABI:
        return {}
    functions_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(table[_GET_ARRAY_FUNCTIONS])
    found = {}
    for dtype in SORTED:
        functions = ctypes.cast(functions_of(dtype), ctypes.POINTER(ctypes.c_void_p))
        address = functions[_SORT + (_STABLE if _by_radix(dtype) else _QUICK)]
        if not address:
            return {}
        found[name_of(dtype)] = address
    return found


def _by_radix(dtype: np.dtype) -> bool:
    """Whether NumPy's stable sort, by digits for integers of up to 16 bits, is the faster one."""
    return dtype.itemsize == 1 or (dtype.itemsize == 2 and "avx512_vbmi2" not in cpu_flags())


def _table() -> ctypes._Pointer[ctypes.c_void_p] | None:
    """The functions of NumPy's C API."""
    capsule = getattr(sys.modules.get("numpy._core._multiarray_umath"), "_ARRAY_API", None)
    if capsule is None:
        return None
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.cast(pointer(capsule, None), ctypes.POINTER(ctypes.c_void_p))
