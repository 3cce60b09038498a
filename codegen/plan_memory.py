"""Memory planning: places in one arena for values that live only while a program runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    offsets = [0] * len(wanted)
    by_step: dict[int, list[int]] = {}
    total = 0
    for k in sorted(range(len(wanted)), key=lambda k: (-wanted[k].size_bytes, wanted[k].first, k)):
        life = wanted[k]
        size = aligned(life.size_bytes)
        near = {j for step in range(life.first, life.last + 1) for j in by_step.get(step, ())}
        start = 0
        for j in sorted(near, key=lambda j: offsets[j]):
            if offsets[j] - start >= size:
                break
            start = max(start, offsets[j] + aligned(wanted[j].size_bytes))
        offsets[k] = start
        total = max(total, start + size)
        for step in range(life.first, life.last + 1):
            by_step.setdefault(step, []).append(k)
    return offsets, total
