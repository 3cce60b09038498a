"""Writing the loops around scalar code: integer arithmetic on names, structured loops, and the launch's table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from knetc.codegen.cpu.emitter import LlvmEmitter


class Code(LlvmEmitter):
    """An emitter with integer arithmetic on names and structured loops."""

    def __init__(self) -> None:
        super().__init__()
        self.block = "entry"
        self.label("entry")
        self._labels = 0

    def label(self, name: str) -> None:
        super().label(name)
        self.block = name

    def name(self, instruction: str) -> str:
        """Append an instruction; the name of its result."""
        name = self.fresh()
        self.line(f"{name} = {instruction}")
        return name

    def plus(self, a: str, b: str) -> str:
        return a if b == "0" else b if a == "0" else self.name(f"add nsw i64 {a}, {b}")

    def minus(self, a: str, b: str) -> str:
        return self.name(f"sub nsw i64 {a}, {b}")

    def times(self, a: str, b: str) -> str:
        return a if b == "1" else b if a == "1" else self.name(f"mul nsw i64 {a}, {b}")

    def smaller(self, a: str, b: str) -> str:
        return self.choose(self.test("slt", a, b), a, b)

    def test(self, predicate: str, a: str, b: str) -> str:
        return self.name(f"icmp {predicate} i64 {a}, {b}")

    def choose(self, condition: str, a: str, b: str, kind: str = "i64") -> str:
        return self.name(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def at(self, pointer: str, offset_bytes: str) -> str:
        return pointer if offset_bytes == "0" else self.name(f"getelementptr i8, ptr {pointer}, i64 {offset_bytes}")

    def new_label(self, name: str) -> str:
        self._labels += 1
        return f"{name}{self._labels}"

    @contextmanager
    def loop(self, start: str, stop: str, step: str = "1", metadata: str = "") -> Iterator[str]:
        """``for i in range(start, stop, step)``; yields i's name."""
        head, body, end = (self.new_label(part) for part in ("head", "body", "end"))
        before = self.block
        index, following = self.fresh(), self.fresh()
        latch = self.new_label("latch")
        self.line(f"br label %{head}")
        self.label(head)
        self.line(f"{index} = phi i64 [ {start}, %{before} ], [ {following}, %{latch} ]")
        self.line(f"br i1 {self.test('slt', index, stop)}, label %{body}, label %{end}")
        self.label(body)
        yield index
        self.line(f"br label %{latch}")
        self.label(latch)
        self.line(f"{following} = add nuw nsw i64 {index}, {step}")
        self.line(f"br label %{head}{metadata}")
        self.label(end)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """``if condition:``"""
        then, end = self.new_label("then"), self.new_label("end")
        self.line(f"br i1 {condition}, label %{then}, label %{end}")
        self.label(then)
        yield
        self.line(f"br label %{end}")
        self.label(end)


class Table:
    """The numbers and addresses that a function takes from its launch's table, by name, in order of first use."""

    def __init__(self, code: Code) -> None:
        self.names: list[str] = []
        self.loads: list[str] = []
        self._code = code
        self._values: dict[str, str] = {}

    def number(self, name: str, kind: str = "i64") -> str:
        """The value of slot ``name``, loaded where the function begins."""
        if name not in self._values:
            slot, value = self._code.fresh(), self._code.fresh()
            self.loads.append(f"  {slot} = getelementptr i64, ptr %table, i64 {len(self.names)}")
            self.loads.append(f"  {value} = load {kind}, ptr {slot}, align 8")
            self.names.append(name)
            self._values[name] = value
        return self._values[name]

    def address(self, name: str) -> str:
        return self.number(name, "ptr")

    def array(self, name: str) -> str:
        """The address in slot ``name``, moved by the bytes in slot ``name.offset``."""
        return self._code.at(self.address(name), self.number(f"{name}.offset"))
