"""The process's stream of random numbers."""

from __future__ import annotations

import threading

_LOCK = threading.Lock()
_WORD = (1 << 64) - 1


class Stream:
    """The process's stream of random numbers: a 64-bit counter of which each drawing reserves a range."""

    def __init__(self) -> None:
        self.position = 0

    def seed(self, value: int) -> None:
        """Go to the place that belongs to a seed (a mix of its bits, so that near seeds lie far apart)."""
        x = (value + 0x9E3779B97F4A7C15) & _WORD
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
        with _LOCK:
            self.position = x ^ (x >> 31)

    def reserve(self, count: int) -> int:
        """Take the next ``count`` numbers; returns the first one's place as a signed 64-bit integer."""
        with _LOCK:
            first = self.position
            self.position = (first + count) & _WORD
        return first - (1 << 64) if first >> 63 else first


stream = Stream()
