"""``converge``: iterate until the values stop going down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class Converge:
    """The iterator that ``converge`` returns."""

    def __init__(self, items: Iterable[Any], alpha: float) -> None:
        self.items = items
        self.alpha = alpha

    def __iter__(self) -> Iterator[Any]:
        average_x, average_p = None, 0.0
        for item in self.items:
            x = float(item)
            p = 0.0 if average_x is None else x - average_x
            average_x = x if average_x is None else self.alpha * x + (1 - self.alpha) * average_x
            average_p = self.alpha * p + (1 - self.alpha) * average_p
            if average_p > 0:
                return
            yield item


def converge(items: Iterable[Any], alpha: float = 0.1) -> Converge:
    """Give the items of an iterable of numbers until they stop decreasing.

    That is when the moving average of ``x - (moving average of x)`` becomes positive; ``alpha`` is the weight of the
    newest value in both. The item that ends it has been taken but is not given.

    >>> list(converge([10, 9, 8, 7, 8, 9, 10, 11, 12, 13]))
    [10, 9, 8, 7, 8, 9, 10, 11]
    """
    return Converge(items, alpha)


def converge_(items: Iterable[Any], alpha: float = 0.1) -> None:
    """Iterate ``converge(...)`` to its end."""
    for _ in converge(items, alpha):
        pass


__all__ = ["converge", "converge_"]
