"""What code generation makes of one step: functions as text, and the launches that call them."""

from __future__ import annotations

from dataclasses import dataclass, field

from knetc.runtime.program import GridLaunch, Launch, LibraryCall


@dataclass(frozen=True)
class Kernel:
    """Code for one step of a program, before it is compiled.

    ``functions`` maps a symbol (``k_`` + digest of the text) to the text that defines it and all that it uses (LLVM IR,
    or Triton source); equal functions of different steps have equal symbols, so each is compiled once. ``launches``
    refer to the step's arguments in the order that the caller gave them.
    """

    functions: dict[str, str]
    launches: tuple[Launch, ...]
    workspace_bytes: int = 0
    notes: tuple[str, ...] = field(default=())
    """What the backend decided, for people (tile, widths)."""
    grids: tuple[GridLaunch, ...] = ()
    """What a GPU launches, in place of ``launches``."""
    library: tuple[LibraryCall, ...] = ()
    """At most one: what may be called in place of ``grids``."""
