"""Data sets in pieces: ``minibatch``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from knetc import lazy
from knetc.arrays import ArrayLike, of_buffer
from knetc.ir.ambient import ambient
from knetc.ir.types import TensorType
from knetc.lazy import Storage
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError
from knetc.runtime.buffers import allocate


class Data:
    """The iterable that ``minibatch`` returns: batches of one or two arrays; each iteration starts anew."""

    def __init__(self, arrays: list[_Source], batch_size: int, shuffle: bool, partial: bool) -> None:
        self.arrays = arrays
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.partial = partial
        self.length: int = arrays[0].length

    def __len__(self) -> int:
        return -(-self.length // self.batch_size) if self.partial else self.length // self.batch_size

    def __iter__(self) -> Iterator[Any]:
        order = None
        if self.shuffle:
            order = np.random.default_rng(lazy.stream.reserve(1) & _MASK).permutation(self.length)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._batch(start, min(start + self.batch_size, self.length), order)

    def random(self) -> Any:
        """One batch of consecutive instances from a random place (full batches only)."""
        if self.length < self.batch_size:
            raise ValueError(f"there are {self.length} instances, fewer than a batch of {self.batch_size}")
        places = np.random.default_rng(lazy.stream.reserve(1) & _MASK)
        start = int(places.integers(0, self.length - self.batch_size + 1))
        return self._batch(start, start + self.batch_size, None)

    def _batch(self, start: int, stop: int, order: np.ndarray[Any, Any] | None) -> Any:
        batch = tuple(source.cut(start, stop, order) for source in self.arrays)
        for array in batch:
            lazy.context().place(array)
        return batch if len(batch) > 1 else batch[0]


_MASK = (1 << 64) - 1


class _Source:
    """One array of a data set: converted once, and cut without computing anything."""

    def __init__(self, data: Any, dtype: Any, shape: Sequence[int] | None) -> None:
        found = data.numpy() if isinstance(data, ArrayLike) else np.asarray(data)
        if not found.ndim:
            raise ShapeError("minibatch takes arrays whose first axis counts the instances, not a number")
        wanted = (
            dtypes.as_dtype(dtype)
            if dtype is not None
            else ambient().dtype
            if dtypes.is_float(found.dtype)
            else found.dtype
        )
        self.length: int = found.shape[0]
        self.item = found.shape[1:] if shape is None else tuple(shape)[1:]
        if shape is not None and np.prod(self.item, dtype=int) * self.length != found.size:
            raise ShapeError(f"minibatch: instances of shape {found.shape[1:]} do not fit into {self.item}")
        found = found.reshape(self.length, *self.item)
        self.type, self.storage = lazy.copy_in(found.astype(wanted, copy=False))

    def cut(self, start: int, stop: int, order: np.ndarray[Any, Any] | None) -> Any:
        batch = TensorType(self.type.dtype, (stop - start, *self.item))
        if order is None:
            row = self.type.size_bytes // self.length if self.length else 0
            return of_buffer(batch, self.storage.buffer, self.storage.offset + start * row)
        buffer = allocate(batch.size_bytes)
        into = lazy.numpy_view(Storage(buffer), batch, writeable=True)
        np.take(lazy.numpy_view(self.storage, self.type), order[start:stop], axis=0, out=into, mode="clip")
        return of_buffer(batch, buffer)


def minibatch(
    x: Any,
    y: Any = None,
    batchsize: int | None = None,
    *,
    shuffle: bool = False,
    partial: bool = False,
    xtype: Any = None,
    ytype: Any = None,
    xsize: Sequence[int] | None = None,
    ysize: Sequence[int] | None = None,
) -> Data:
    """Batches of a data set: ``minibatch(x, y, batchsize)`` gives pairs, ``minibatch(x, batchsize)`` arrays.

    The first axis counts the instances. Float data become arrays of the default dtype (``xtype``, ``ytype`` ask for
    others), integers keep theirs. ``shuffle`` draws a new order at each start of an iteration; ``partial`` keeps a
    last, smaller batch, which is dropped otherwise. ``xsize`` and ``ysize`` reshape the instances: their first extent
    is replaced by the batch size. The data stay in the CPU's memory; batches are made on the default device. Raises
    ShapeError if x and y differ in the number of instances.

    >>> for x, y in kn.minibatch(images, labels, 100, shuffle=True):
    ...     kn.nll(model(x), y)
    """
    if batchsize is None:
        y, batchsize = None, y
    if not isinstance(batchsize, (int, np.integer)) or batchsize < 1:
        raise ValueError(f"minibatch: the batch size is a positive int, not {batchsize!r}")
    sources = [_Source(x, xtype, xsize)]
    if y is not None:
        sources.append(_Source(y, ytype, ysize))
        if sources[0].length != sources[1].length:
            raise ShapeError(f"minibatch: x has {sources[0].length} instances and y has {sources[1].length}")
    return Data(sources, int(batchsize), shuffle, partial)


__all__ = ["minibatch"]
