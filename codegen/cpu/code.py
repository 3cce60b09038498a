"""Functions around matrix products: addresses in bytes, conditions, and slots of the table by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from knetc.codegen.cpu.frame import Frame
from knetc.runtime.base import dtypes

NO_UNROLL = ('!{!"llvm.loop.unroll.disable"}',)
"""Hints for loops that are short, or as wide as they should be."""


class Code(Frame):
    """A function that is being written, with explicit instructions."""

    def name(self, instruction: str) -> str:
        """Append an instruction; the name of its result."""
        return self.emitter.value(instruction, dtypes.i64).text

    def line(self, text: str) -> None:
        """Append an instruction that gives no value."""
        self.emitter.line(text)

    def declare(self, function: str) -> None:
        """Declare a function that is called: ``void @f(ptr)``."""
        self.emitter.declarations[f"declare {function}"] = None

    def test(self, predicate: str, a: str, b: str) -> str:
        """Compare two i64 values."""
        return self.name(f"icmp {predicate} i64 {a}, {b}")

    def choose(self, condition: str, a: str, b: str, kind: str = "i64") -> str:
        return self.name(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def at(self, pointer: str, offset_bytes: str) -> str:
        """A pointer moved by bytes."""
        return pointer if offset_bytes == "0" else self.name(f"getelementptr i8, ptr {pointer}, i64 {offset_bytes}")

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """``if condition:``"""
        then, done = self.label(), self.label()
        self.branch(condition, then, done)
        self.begin(then)
        yield
        self.jump(done)
        self.begin(done)


class Table:
    """The numbers and addresses that a function takes from its launch's table, by name, in order of first use."""

    def __init__(self, code: Code) -> None:
        self.names: list[str] = []
        self._code = code

    def place(self, name: str) -> int:
        """The position of slot ``name``."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def number(self, name: str) -> str:
        """The number in slot ``name``, loaded where the function begins."""
        return self._code.slot(self.place(name), "i64")

    def array(self, name: str) -> str:
        """The address in slot ``name``, moved by the bytes in slot ``name.offset``."""
        return self._code.at(self._code.slot(self.place(name), "ptr"), self.number(f"{name}.offset"))
