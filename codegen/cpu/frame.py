"""A kernel function that is being written: its slots, stack memory, loops and metadata around an emitter's lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from knetc.codegen.cpu import rare
from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar, memory_type
from knetc.runtime.base import dtypes

KERNEL_ARGUMENTS = "ptr %table, i64 %lo, i64 %hi, i32 %thread"

_SYMBOL = "k_SYMBOL"
"""Stands for the function's name until its text, and so its digest, is known."""


PLAIN = ('!{!"llvm.loop.vectorize.enable", i1 false}', '!{!"llvm.loop.unroll.disable"}')
"""Hints for loops of a few iterations: widening them would only make code."""


class Frame:
    """The function ``void (ptr table, i64 lo, i64 hi, i32 thread)`` around an emitter.

    Index arithmetic (``add``, ``mul`` …) works on i64 values as text and folds constants, so that code for one axis or
    a stride of one needs no cases. Registers that change in loops are stack memory (``variable``), which LLVM turns
    into registers; so loops carry nothing but their index. ``half``, ``fused`` and ``estimates`` tell what
    the CPU can do (see ``LlvmEmitter``), ``lanes`` how many float32 its vectors have.
    """

    def __init__(self, *, half: bool = False, fused: bool = False, estimates: bool = False, lanes: int = 0) -> None:
        self.emitter = LlvmEmitter(half=half, fused=fused, estimates=estimates)
        self.lanes = lanes
        self.block = "start"
        self._entry: list[str] = []
        self._slots: dict[tuple[int, str], str] = {}
        self._labels = 0
        self._metadata: list[str] = []
        self._one = ""

    # --- the table, stack memory -------------------------------------------------------------------------------------

    def slot(self, number: int, type: str) -> str:
        """The content of a slot of the table as ``ptr``, ``i64`` or ``double``; loaded at the function's beginning."""
        key = (number, type)
        if key not in self._slots:
            name = f"%s{number}{type[0]}"
            self._entry.append(f"  {name}a = getelementptr i64, ptr %table, i64 {number}")
            self._entry.append(f"  {name} = load {type}, ptr {name}a, align 8, !invariant.load !0")
            self._slots[key] = name
        return self._slots[key]

    def array(self, dtype: np.dtype, count: int) -> str:
        """The address of ``count`` elements on the stack, aligned to 64 bytes."""
        name = f"%a{len(self._entry)}"
        self._entry.append(f"  {name} = alloca [{max(count, 1)} x {memory_type(dtype)}], align 64")
        return name

    def variable(self, dtype: np.dtype) -> str:
        """The address of one value on the stack; LLVM makes a register of it."""
        name = f"%a{len(self._entry)}"
        self._entry.append(f"  {name} = alloca {memory_type(dtype)}, align 8")
        return name

    # --- index arithmetic --------------------------------------------------------------------------------------------

    def add(self, a: str, b: str) -> str:
        if a == "0" or b == "0":
            return b if a == "0" else a
        if _constant(a) and _constant(b):
            return str(int(a) + int(b))
        return self._integer("add nsw", a, b)

    def sub(self, a: str, b: str) -> str:
        if _constant(a) and _constant(b):
            return str(int(a) - int(b))
        return a if b == "0" else self._integer("sub nsw", a, b)

    def mul(self, a: str, b: str) -> str:
        if a == "0" or b == "0":
            return "0"
        if a == "1" or b == "1":
            return b if a == "1" else a
        if _constant(a) and _constant(b):
            return str(int(a) * int(b))
        return self._integer("mul nsw", a, b)

    def div(self, a: str, b: str) -> str:
        """Quotient of values that are not negative."""
        return a if b == "1" else self._integer("udiv", a, b)

    def min(self, a: str, b: str) -> str:
        if _constant(a) and _constant(b):
            return str(min(int(a), int(b)))
        return self.emitter.call("llvm.smin.i64", dtypes.i64, Scalar(a, dtypes.i64), Scalar(b, dtypes.i64)).text

    def max(self, a: str, b: str) -> str:
        return self.emitter.call("llvm.smax.i64", dtypes.i64, Scalar(a, dtypes.i64), Scalar(b, dtypes.i64)).text

    def _integer(self, instruction: str, a: str, b: str) -> str:
        return self.emitter.value(f"{instruction} i64 {a}, {b}", dtypes.i64).text

    # --- control -----------------------------------------------------------------------------------------------------

    def label(self) -> str:
        """A new label."""
        self._labels += 1
        return f"L{self._labels}"

    def begin(self, label: str) -> None:
        """Begin a block."""
        self.emitter.label(label)
        self.block = label

    def jump(self, label: str) -> None:
        self.emitter.line(f"br label %{label}")

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        self.emitter.line(f"br i1 {condition}, label %{then}, label %{otherwise}")

    @contextmanager
    def loop(
        self, low: str, high: str, parallel: bool = False, hints: tuple[str, ...] = (), step: str = "1"
    ) -> Iterator[str]:
        """``for index in range(low, high, step)``; gives the index.

        ``parallel`` states that no iteration reads what another one writes. All loads and stores in the body then
        belong to the loop's access group, so that LLVM widens it without asking whether arrays overlap.
        """
        e = self.emitter
        head, body, next_, done = (self.label() for _ in range(4))
        index, following = e.fresh(), e.fresh()
        before = self.block
        self.jump(head)
        self.begin(head)
        e.line(f"{index} = phi i64 [ {low}, %{before} ], [ {following}, %{next_} ]")
        more = e.value(f"icmp slt i64 {index}, {high}", dtypes.boolean).text
        self.branch(more, body, done)
        self.begin(body)
        access, properties = e.access, list(hints)
        if parallel:
            group = self.metadata("distinct !{}")
            e.access = f", !llvm.access.group {group}"
            properties.append(f'!{{!"llvm.loop.parallel_accesses", {group}}}')
        start = len(e.lines)
        yield index
        e.access = access
        if parallel and self.lanes and not hints and any(" fpext float " in line for line in e.lines[start:]):
            # LLVM would take as many elements as there are float64 in a vector, and leave half of the others empty
            properties.append(f'!{{!"llvm.loop.vectorize.width", i32 {self.lanes}}}')
        self.jump(next_)
        self.begin(next_)
        e.line(f"{following} = add nuw nsw i64 {index}, {step}")
        suffix = ""
        if properties:
            suffix = f", !llvm.loop {self.loop_metadata(properties)}"
        e.line(f"br label %{head}{suffix}")
        self.begin(done)

    @contextmanager
    def advance(self, low: str, high: str) -> Iterator[tuple[str, Callable[[str], None]]]:
        """``while index < high``, whose body says by how much to go on; gives the index and the function to say so."""
        e = self.emitter
        head, body, done = (self.label() for _ in range(3))
        place = self.variable(dtypes.i64)
        e.line(f"store i64 {low}, ptr {place}, align 8")
        self.jump(head)
        self.begin(head)
        index = e.value(f"load i64, ptr {place}, align 8", dtypes.i64).text
        more = e.value(f"icmp slt i64 {index}, {high}", dtypes.boolean).text
        self.branch(more, body, done)
        self.begin(body)

        def by(step: str) -> None:
            e.line(f"store i64 {self.add(index, step)}, ptr {place}, align 8")

        yield index, by
        self.jump(head)
        self.begin(done)

    def one(self) -> str:
        """The metadata node that marks a store as non-temporal."""
        if not self._one:
            self._one = self.metadata("!{i32 1}")
        return self._one

    def loop_metadata(self, properties: Sequence[str]) -> str:
        """A loop's metadata node, which names itself, by its name."""
        name = f"!{len(self._metadata) + 1}"
        return self.metadata(f"distinct !{{{', '.join([name, *properties])}}}")

    def metadata(self, text: str) -> str:
        """A numbered metadata node, by its name."""
        self._metadata.append(f"!{len(self._metadata) + 1} = {text}")
        return f"!{len(self._metadata)}"

    # --- the text ----------------------------------------------------------------------------------------------------

    def finish(self, attributes: str, arguments: str = KERNEL_ARGUMENTS, passes: int = 2) -> tuple[str, str]:
        """The function's symbol, which is a digest of its text, and its text.

        ``arguments`` are those of functions that kernels call; ``passes`` is the level of optimisation that it needs.
        """
        lines = [
            *([f"; passes {passes}"] if passes < 2 else []),
            f"define void @{_SYMBOL}({arguments}) #0 {{",
            "entry:",
            *self._entry,
            "  br label %start",
            "start:",
            *self.emitter.lines,
            "  ret void",
            "}",
            *self.emitter.declarations,
            *rare.kept(self.emitter.rare),
            attributes.rstrip("\n"),
            "!0 = !{}",
            *self._metadata,
            "",
        ]
        text = "\n".join(lines) + rare.late(self.emitter.rare, attributes)
        symbol = "k_" + hashlib.sha256(text.encode()).hexdigest()[:32]
        return symbol, text.replace(_SYMBOL, symbol)


def _constant(text: str) -> bool:
    return not text.startswith("%")
