"""What this machine's processor is, without the help of a compiler: names for targets, and how many threads to use."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

LEVELS = ("native", "avx512", "avx2", "generic")
"""Instruction sets that code may be made for."""

_NEEDS = {
    "avx512": frozenset(("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "bmi2")),
    "avx2": frozenset(("avx2", "fma", "bmi2", "f16c", "movbe")),
    "generic": frozenset(),
}


@cache
def architecture() -> str:
    """Name of the processor's family: ``x86_64``, ``aarch64`` …"""
    return os.uname().machine


@cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's fields of /proc/cpuinfo; empty where there is none."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction-set extensions of this processor, as the kernel names them (``avx2``, ``avx512f`` …)."""
    fields = _cpuinfo()
    return frozenset((fields.get("flags") or fields.get("Features") or "").split())


@cache
def target_key(level: str) -> str:
    """The name under which code for ``level`` is kept: ``cpu:x86_64:avx2``; a native one also tells the processor.

    Two machines whose processors differ in model or extensions have different native names. Raises ValueError for an
    unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"cpu_level {level!r} is none of {', '.join(LEVELS)}")
    name = f"cpu:{architecture()}:{level}"
    if level != "native":
        return name
    fields = _cpuinfo()
    identity = [fields.get(k, "") for k in ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")]
    text = "|".join([*identity, *sorted(cpu_flags())])
    return f"{name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def runs_here(key: str) -> bool:
    """Whether this machine can run code made for the target named ``key``."""
    kind, _, rest = key.partition(":")
    machine, _, level = rest.partition(":")
    if kind != "cpu" or machine != architecture():
        return False
    if level.startswith("native"):
        return key == target_key("native")
    return level in _NEEDS and (machine != "x86_64" or _NEEDS[level] <= cpu_flags())


@cache
def vector_bytes(level: str) -> int:
    """Width of the vectors that code for ``level`` should use: 64, 32 or 16 bytes."""
    if architecture() != "x86_64":
        return 16
    if level == "native":
        return 64 if _NEEDS["avx512"] <= cpu_flags() else 32 if _NEEDS["avx2"] <= cpu_flags() else 16
    return {"avx512": 64, "avx2": 32}.get(level, 16)
