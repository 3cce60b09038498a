"""Random arrays: numbers from one 64-bit counter, so that a seed gives the same ones on every device, fused or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knetc import lazy
from knetc.arrays import Array
from knetc.ops import random
from knetc.ops.random import dropout
from knetc.runtime.devices import canonical

__all__ = ["dropout", "rand", "randint", "randn", "seed"]


def _placed(made: Array, device: str | None) -> Array:
    lazy.context().place(made, None if device is None else canonical(device))
    return made


def rand(*shape: int | Sequence[int], dtype: Any = None, device: str | None = None) -> Array:
    """Uniform random numbers in [0, 1), of the default floating dtype or another, on the default device or another.

    >>> kn.rand(2, 3)  # shape (2, 3)
    """
    return _placed(random.rand(*shape, dtype=dtype), device)


def randn(*shape: int | Sequence[int], dtype: Any = None, device: str | None = None) -> Array:
    """Random numbers of the standard normal distribution, of the default floating dtype or another.

    >>> kn.randn(2, 3)  # shape (2, 3)
    """
    return _placed(random.randn(*shape, dtype=dtype), device)


def randint(low: int, high: int, shape: int | Sequence[int] = (), *, device: str | None = None) -> Array:
    """Random int64 numbers in ``low <= n < high``; raises ValueError for an empty range or one of 2**31 or more.

    >>> kn.randint(0, 10, (2, 3))  # shape (2, 3)
    """
    return _placed(random.randint(low, high, shape), device)


def seed(n: int) -> None:
    """Start the stream of random numbers at the place that belongs to ``n``: what follows repeats for equal seeds.

    >>> kn.seed(1)
    """
    lazy.stream.seed(int(n))
