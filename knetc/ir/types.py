"""The type of a graph value: a dtype and a logical shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError

Shape = tuple[int, ...]

#: Arrays larger than this (in bytes) are refused when they are described, before anything is allocated.
MAX_SIZE_BYTES = 1 << 46


@dataclass(frozen=True)
class TensorType:
    """The dtype and shape of a value; prints as ``f32[8,10]``."""

    dtype: np.dtype
    shape: Shape

    def __post_init__(self) -> None:
        if any(extent < 0 for extent in self.shape):
            raise ShapeError(f"a shape cannot have a negative extent: {self.shape}")
        if math.prod(self.shape) * self.dtype.itemsize > MAX_SIZE_BYTES:
            raise ShapeError(
                f"an array of shape {self.shape} and {self.dtype} is too large: it would take more than "
                f"{MAX_SIZE_BYTES >> 40} TiB"
            )

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.size * self.dtype.itemsize

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: np.dtype) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{dtypes.short_name(self.dtype)}[{','.join(map(str, self.shape))}]"
