"""Recording: how an operation on values becomes a node.

``record`` is the only maker of nodes. Which recorder is in force says what happens: the lazy one (the default) keeps
pending work, a trace collects a function's graph, a builder serves a pass.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from knetc.ir.ambient import special
from knetc.ir.node import Line, Node, node_key
from knetc.ir.op import Op
from knetc.runtime.base.errors import KnetcError, tell_where

#: a value that was written in many places remembers about this many of them
MAX_LINES = 8

#: folders whose frames are not the user's: this package's (wherever its parts are mapped from) and NumPy's dispatcher
_OWN = tuple(
    f"{folder}/"
    for folder in {
        str(Path(__file__).resolve().parents[1]),
        *(str(Path(sys.modules[name].__file__ or "").resolve().parent) for name in ("knetc.runtime", "numpy")),
    }
)


@cache
def own_file(file: str) -> bool:
    """Whether a source file belongs to knetc or NumPy, by whatever links its name leads there."""
    return not file.startswith("<") and os.path.realpath(file).startswith(_OWN)


def user_line(depth: int = 2) -> Line | None:
    """The innermost line of the running code that belongs to neither knetc nor NumPy."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<") and not own_file(file):
            return Line(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None


tell_where(user_line)


class Recorder:
    """Makes nodes; the base class interns them, which is what passes want (a ``Builder``)."""

    def __init__(self) -> None:
        self.interned: dict[Hashable, Node] = {}
        self.lines: tuple[Line, ...] = ()

    def make(self, op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable]) -> Node:
        """The node for an operation: the one that exists, or a new one with its type inferred."""
        type = op.infer(*[s.type for s in sources], **attributes)
        key = node_key(op, sources, attributes, type)
        node = self.interned.get(key)
        if node is None:
            node = self.interned[key] = Node(op, sources, attributes, type, self.note())
        elif self.lines and sources and len(node.lines) < MAX_LINES:
            node.lines = tuple(dict.fromkeys((*node.lines, *self.lines)))
        return node

    def random_base(self, count: int) -> Node:
        """An i64 scalar: the first of ``count`` places in the stream of random numbers that nothing else gets."""
        raise NotImplementedError("random numbers cannot be drawn inside a pass")

    def note(self) -> tuple[Line, ...]:
        """The lines to write on a new node: a pass sets those of the node that it replaces."""
        return self.lines


R = TypeVar("R", bound="Recorder")


class _State(threading.local):
    def __init__(self) -> None:
        self.stack: list[Recorder] = []


_state = _State()
_default: list[Recorder] = [Recorder()]


def set_default_recorder(recorder: Recorder) -> None:
    """Name the recorder that serves when no other is in force (the lazy one, set by ``knetc.arrays``)."""
    _default[0] = recorder


def recorder() -> Recorder:
    """The recorder in force in this thread."""
    stack = _state.stack
    return stack[-1] if stack else _default[0]


def recorders() -> list[Recorder]:
    """All recorders in force in this thread, outermost first, without the default one."""
    return _state.stack


@contextmanager
def recording(new: R) -> Iterator[R]:
    """Put a recorder in force within a ``with`` block."""
    with special():
        _state.stack.append(new)
        try:
            yield new
        finally:
            _state.stack.pop()


def record(op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable] | None = None) -> Node:
    """Apply an operation to values; a shape or dtype error names the operation, the operands and the user's line."""
    try:
        return recorder().make(op, sources, attributes or {})
    except KnetcError as error:
        line = user_line()
        if line is not None and not getattr(error, "located", False):
            operands = ", ".join(str(s.type) for s in sources)
            text = str(error).partition("\n  at ")[0]
            located: Any = type(error)(f"{op.name}({operands}): {text}\n  at {line}")
            located.located = True
            raise located from None
        raise
