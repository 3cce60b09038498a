"""Memory planning: places in one arena for values that live only while a program runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from knetc.runtime.program import ALIGNMENT


@dataclass(frozen=True)
class Lifetime:
    """How much memory something needs, and from which step to which (both included)."""

    size_bytes: int
    first: int
    last: int


def aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def place(lifetimes: Iterable[Lifetime]) -> tuple[list[int], int]:
    """Offsets such that nothing that lives at the same time overlaps, and the bytes needed in all.

    Largest first, each into the lowest gap that fits between those placed before whose lifetimes meet its own.

    >>> place([Lifetime(64, 0, 1), Lifetime(64, 1, 2), Lifetime(64, 2, 3)])
    ([0, 64, 0], 128)
    """
    wanted = list(lifetimes)
    order = sorted(range(len(wanted)), key=lambda k: (-wanted[k].size_bytes, wanted[k].first, k))
    # of those placed already, in their order: NumPy compares with all of them at once
    firsts, lasts, starts, ends = np.empty((4, len(wanted)), np.int64)
    offsets = [0] * len(wanted)
    for placed, k in enumerate(order):
        life, size = wanted[k], aligned(wanted[k].size_bytes)
        near = np.flatnonzero((firsts[:placed] <= life.last) & (lasts[:placed] >= life.first))
        near = near[np.argsort(starts[near], kind="stable")]
        free_from = np.concatenate(([0], np.maximum.accumulate(ends[near])))
        fits = starts[near] - free_from[:-1] >= size
        start = int(free_from[fits.argmax() if fits.any() else -1])
        offsets[k] = start
        firsts[placed], lasts[placed], starts[placed], ends[placed] = life.first, life.last, start, start + size
    return offsets, int(ends.max(initial=0))
