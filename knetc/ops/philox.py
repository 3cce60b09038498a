"""Random bits that are a function of a counter and a key: as scalar code, and in NumPy.

The generator is Philox 2x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"). Its counter words are
the lower half of the counter, and the counter's upper half XOR the key's upper half; its key is the lower half of the
key; the result is its first output word.
"""

from __future__ import annotations

import numpy as np

from knetc.ops.vector_expression import Number, on_numbers
from knetc.runtime.base import dtypes

PHILOX_MULTIPLIER, PHILOX_WEYL, PHILOX_ROUNDS = 0xD256D193, 0x9E3779B9, 10


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def _philox(counter: Number, key: Number) -> Number:
    e = counter.e

    def halves(x: Number) -> tuple[Number, Number]:
        return x.to(dtypes.i32), (x >> 32).to(dtypes.i32)

    left, right = halves(counter)
    k, stream = halves(key)
    right = right ^ stream
    for step in range(PHILOX_ROUNDS):
        if step:
            k = k + _signed(PHILOX_WEYL)
        multiplier = left.constant(_signed(PHILOX_MULTIPLIER))
        upper = Number(e, e.mulhi_u32(multiplier.value, left.value))
        left, right = upper ^ k ^ right, multiplier * left
    return left


def philox_reference(counter: np.ndarray, key: int | np.ndarray) -> np.ndarray:
    """32 random bits for each int64 counter under an int64 key, as int32: what ``philox`` computes, in NumPy.

    >>> hex(philox_reference(np.zeros(1, np.int64), 0).view(np.uint32)[0])
    '0xff1dae59'
    """
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    counters, keys = np.asarray(counter, np.int64).view(np.uint64), np.asarray(key, np.int64).view(np.uint64)
    left, right, k = counters & mask, (counters ^ keys) >> shift, keys & mask
    for step in range(PHILOX_ROUNDS):
        if step:
            k = (k + np.uint64(PHILOX_WEYL)) & mask
        product = left * np.uint64(PHILOX_MULTIPLIER)
        left, right = (product >> shift) ^ k ^ right, product & mask
    return left.astype(np.uint32).view(np.int32)


philox = on_numbers(_philox)
"""``philox(emitter, counter i64, key i64)``: 32 random bits as i32."""
