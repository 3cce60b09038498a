"""``debug``: checks that cost time and find mistakes."""

from __future__ import annotations

from knetc.ir.ambient import set_process


def debug(*, nan_check: bool | None = None, check_trace: bool | None = None) -> None:
    """Switch checks on or off for the whole process; what is not named stays as it is.

    ``nan_check``: after each run look for NaN; raise NanError that names the operation, the kernel and the user's
    line which made it, with no Param changed. ``check_trace``: trace compiled functions again at each call, and raise
    TraceError when the trace differs from what was compiled: the function then depends on something that its
    signature does not hold. Functions are compiled anew under other checks.

    >>> debug(nan_check=True)
    >>> debug(nan_check=False)
    """
    changes = {"nan_check": nan_check, "check_trace": check_trace}
    set_process(**{name: value for name, value in changes.items() if value is not None})


__all__ = ["debug"]
