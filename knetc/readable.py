"""What Python reads out of an array: its type, its numbers, and what they look like."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from knetc import lazy
from knetc.ir.types import Shape
from knetc.lazy import Box, Storage
from knetc.ops import arithmetic
from knetc.runtime.base import dtypes


class Readable(Box):
    """A handle that answers for its value; asking for numbers computes them."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError

    def _storage(self, what: str) -> Storage:
        """The memory of this value, computed if need be; ``what`` says who wants it."""
        current = lazy.context()
        return (self.owner or current).concrete(self, what)

    # --- type ---

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def size(self) -> int:
        return self.type.size

    @property
    def nbytes(self) -> int:
        return self.type.size_bytes

    @property
    def itemsize(self) -> int:
        return self.type.dtype.itemsize

    @property
    def device(self) -> str:
        """The device that the value is on, or will be computed on: "cpu", "cuda:0" …"""
        return lazy.device_of(self)

    @property
    def strides(self) -> tuple[int, ...]:
        """How many bytes apart neighbours along each axis are: memory is dense, in C order."""
        steps = accumulate(reversed(self.type.shape[1:]), operator.mul, initial=self.type.dtype.itemsize)
        return tuple(steps)[::-1] if self.type.shape else ()

    def __len__(self) -> int:
        if not self.type.shape:
            raise TypeError("len() of an array without dimensions")
        return self.type.shape[0]

    # --- numbers ---

    def numpy(self) -> np.ndarray[Any, Any]:
        """The numbers as a NumPy array: read-only, sharing the memory, which stays as it is from then on.

        Of an array on a GPU it is a copy.
        """
        return lazy.numpy_view(self._storage("a NumPy array of it"), self.type)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        view = self.numpy()
        if dtype is not None and dtypes.as_dtype(dtype) != view.dtype:
            if copy is False:
                raise ValueError(f"an array of {view.dtype} cannot be seen as {dtypes.as_dtype(dtype)} without a copy")
            return view.astype(dtype)
        return view.copy() if copy else view

    def item(self, *place: Any) -> bool | int | float:
        """The number in an array of one element, or at a place, as a Python bool, int or float.

        A place is an index for each axis, or one among all elements in C order.
        """
        if place:
            return self.numpy().item(*place)  # type: ignore[no-any-return]
        number: bool | int | float = self._number("item()")
        return number

    def _number(self, what: str) -> Any:
        if self.type.size != 1:
            raise TypeError(f"{what} takes an array of one element, not one of shape {self.type.shape}")
        return lazy.numpy_view(self._storage(what), self.type).item()

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        return self.numpy().tolist()

    def tobytes(self) -> bytes:
        """The bytes of the elements, in C order."""
        return self.numpy().tobytes()

    def __bool__(self) -> bool:
        if self.type.size != 1:
            raise ValueError(
                f"whether an array of shape {self.type.shape} is true is not defined: use kn.where to choose for "
                "each element, kn.any or kn.all for a single answer"
            )
        return bool(self._number("a branch or bool()"))

    def __float__(self) -> float:
        return float(self._number("float()"))

    def __complex__(self) -> complex:
        return complex(self._number("complex()"))

    def __int__(self) -> int:
        return int(self._number("int()"))

    def __index__(self) -> int:
        if not dtypes.is_integer(self.type.dtype):
            raise TypeError(f"only integer arrays can be an index, not {self.type}")
        return int(self._number("an index"))

    def __format__(self, spec: str) -> str:
        """The number, or all numbers, in a format such as ``.2f``; other formats are the printed array's."""
        if is_traced(self):
            return str(self)
        if spec and (self.type.size == 1 or spec[-1] in "bcdeEfFgGnoxX%"):
            if self.type.size == 1:
                return format(self._number("formatting"), spec)
            each: Any = {"all": lambda number: format(number.item(), spec)}
            return np.array2string(self.numpy(), separator=", ", threshold=100, formatter=each)
        return format(str(self), spec)

    def __round__(self, digits: int | None = None) -> Any:
        if digits is None and self.type.size == 1:
            return round(self._number("round()"))
        return arithmetic.round(self, digits or 0)

    def __trunc__(self) -> int:
        return int(self._number("math.trunc()"))

    def __iter__(self) -> Iterator[Any]:
        if not self.type.shape:
            raise TypeError("iteration over an array without dimensions")
        return (self[k] for k in range(self.type.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self.numpy() == np.asarray(value)))

    def __reversed__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self) - 1, -1, -1))


def is_traced(box: Box) -> bool:
    """Whether a handle stands for a value of a trace: its own, or, while a function is traced, one from outside."""
    return box.owner is not None or lazy.context().is_trace


def shown(box: Readable, prefix: str = "") -> str:
    """An array's numbers for people, or its type while it has none."""
    if is_traced(box):
        return f"<traced {box.type}>"
    return np.array2string(box.numpy(), separator=", ", prefix=prefix, threshold=100)
