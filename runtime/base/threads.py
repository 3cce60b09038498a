"""How many threads this process should use."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

from knetc.runtime.base.config import config


def thread_count() -> int:
    """Threads for generated code: ``KNETC_THREADS``, or the processors that this process may use.

    >>> thread_count() >= 1
    True
    """
    return config.threads if config.threads > 0 else _available()


@cache
def _available() -> int:
    """Processors that this process may use, by its mask and its control group."""
    available = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError, IndexError):  # no control groups, or no limit ("max")
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        available = min(available, int(quota) // int(period))
    with suppress(OSError, ValueError):
        quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text()
        if int(quota) > 0:
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()
            available = min(available, int(quota) // int(period))
    return max(1, available)
