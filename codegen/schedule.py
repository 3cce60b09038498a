"""The order of kernels: one that keeps little in memory."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from knetc.runtime.base.errors import CheckError

V = TypeVar("V", bound=Hashable)

Rank = tuple[int, int]


def in_order(
    followers: Mapping[int, Collection[int]],
    ranks: Mapping[int, Rank],
    reads: Mapping[int, Collection[V]],
    stores: Mapping[int, Collection[V]],
    size_bytes: Mapping[V, int],
) -> list[int]:
    """Kernels in an order in which each comes before its ``followers``.

    Of those that could come next, one of the lowest first rank does: one that frees at least as much memory as it takes
    if there is one (it reads values that no other kernel still has to read), else the one of the lowest second rank. So
    a product that uses up a value runs when it can, not when its result is wanted. ``size_bytes`` tells the sizes of
    values that memory is planned for; others are there all the time.

    >>> in_order({0: [1, 2], 1: [], 2: []}, {0: (0, 0), 1: (0, 1), 2: (0, 2)}, {1: "a", 2: "b"}, {0: "ab", 1: "c"},
    ...          {"a": 8, "b": 8, "c": 16})
    [0, 2, 1]

    Raises CheckError if there is none.
    """
    waiting = dict.fromkeys(ranks, 0)
    for k in ranks:
        for follower in followers.get(k, ()):
            waiting[follower] += 1
    readers: dict[V, set[int]] = {}
    for k in ranks:
        for value in reads.get(k, ()):
            if value in size_bytes:
                readers.setdefault(value, set()).add(k)
    done: set[int] = set()

    def key(k: int) -> tuple[int, bool, int]:
        freed = sum(size_bytes[value] for value in reads.get(k, ()) if readers.get(value) == {k})
        taken = sum(size_bytes.get(value, 0) for value in stores.get(k, ()))
        return ranks[k][0], freed < taken or not freed, ranks[k][1]

    ready = [(key(k), k) for k in ranks if not waiting[k]]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, k = heapq.heappop(ready)
        if k in done:  # it was put in a second time, when it had become the last to read something
            continue
        done.add(k)
        order.append(k)
        for value in reads.get(k, ()):
            left = readers.get(value, set())
            left.discard(k)
            if len(left) == 1:
                (last,) = left
                if not waiting[last]:
                    heapq.heappush(ready, (key(last), last))
        for follower in followers.get(k, ()):
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, (key(follower), follower))
    if len(order) < len(ranks):
        raise CheckError(f"kernels wait for each other: {sorted(ranks.keys() - done)}")
    return order
