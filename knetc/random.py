"""Random arrays: numbers from one 64-bit counter, so that a seed gives the same ones on every device, fused or not."""

from __future__ import annotations

from knetc import lazy
from knetc.ops.random import dropout, rand, randint, randn

__all__ = ["dropout", "rand", "randint", "randn", "seed"]


def seed(n: int) -> None:
    """Start the stream of random numbers at the place that belongs to ``n``: what follows repeats for equal seeds.

    >>> kn.seed(1)
    """
    lazy.stream.seed(int(n))
