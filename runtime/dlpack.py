"""bfloat16 through DLPack, which NumPy exchanges other dtypes by: as uint16, whose label in the capsule is changed.

A capsule holds a pointer to a C structure that says what the memory is. Whoever takes the capsule owns the structure,
so it may be changed before that.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from knetc.runtime.base.dtypes import bfloat16, is_bfloat16

_UNSIGNED, _BFLOAT = 1, 4
"""DLPack's codes of element types."""

_TYPE_CODES = {b"dltensor": 20, b"dltensor_versioned": 52}
"""Where the code of the element type lies in the structure that a capsule of a name points to."""

_name = ctypes.pythonapi.PyCapsule_GetName
_name.restype, _name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _type_code(capsule: object) -> ctypes.c_uint8:
    """The code in a capsule, to be read and changed."""
    name = _name(capsule)
    return ctypes.c_uint8.from_address(_pointer(capsule, name) + _TYPE_CODES[name])


def export(array: np.ndarray[Any, Any], **options: Any) -> Any:
    """A capsule of an array's memory for another library, as ``array.__dlpack__`` makes it, for bfloat16 too."""
    if not is_bfloat16(array.dtype):
        return array.__dlpack__(**options)
    capsule = array.view(np.uint16).__dlpack__(**options)
    _type_code(capsule).value = _BFLOAT
    return capsule


class _Producer:
    """Another library's array, which gives bfloat16 as uint16 and remembers that it did."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.relabelled = False

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self.array.__dlpack__(**options)
        code = _type_code(capsule)
        if code.value == _BFLOAT:
            code.value, self.relabelled = _UNSIGNED, True
        return capsule

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def take(array: Any) -> np.ndarray[Any, Any]:
    """A NumPy array on the memory of another library's array, as ``np.from_dlpack`` makes it, for bfloat16 too."""
    producer = _Producer(array)
    found: np.ndarray[Any, Any] = np.from_dlpack(producer)
    return found.view(bfloat16()) if producer.relabelled else found
