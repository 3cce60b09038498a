"""Explicit vectors in LLVM IR, for the few loops whose shape is worth more than what the vectoriser finds."""

from __future__ import annotations

import numpy as np
from knetc.codegen.cpu.code import Code
from knetc.codegen.cpu.emitter import memory_type
from knetc.runtime.base import dtypes


class VectorType:
    """Instructions on vectors of an element type; strides and sizes are in bytes."""

    def __init__(self, dtype: np.dtype, lanes: int) -> None:
        self.scalar = memory_type(dtype)
        self.vector = f"<{lanes} x {self.scalar}>"
        self.size = dtype.itemsize
        self.lanes = lanes
        self.is_float = dtypes.is_float(dtype)
        self.zero = "0.0" if self.is_float else "0"
        self.suffix = f"v{lanes}{'f' if self.is_float else 'i'}{8 * self.size}"

    def multiply_add(self, code: Code, a: str, b: str, c: str) -> str:
        if self.is_float:
            args = ", ".join(f"{self.vector} {x}" for x in (a, b, c))
            code.declare(f"{self.vector} @llvm.fmuladd.{self.suffix}({self.vector}, {self.vector}, {self.vector})")
            return code.name(f"call {self.vector} @llvm.fmuladd.{self.suffix}({args})")
        return code.name(f"add {self.vector} {c}, {code.name(f'mul {self.vector} {a}, {b}')}")

    def add(self, code: Code, a: str, b: str) -> str:
        return code.name(f"{'fadd' if self.is_float else 'add'} {self.vector} {a}, {b}")

    def load(self, code: Code, pointer: str, mask: str = "") -> str:
        if not mask:
            return code.name(f"load {self.vector}, ptr {pointer}, align {self.size}")
        kind = f"<{self.lanes} x i1> {mask}, {self.vector} zeroinitializer"
        code.declare(f"{self.vector} @llvm.masked.load.{self.suffix}.p0(ptr, <{self.lanes} x i1>, {self.vector})")
        return code.name(
            f"call {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr align {self.size} {pointer}, {kind})"
        )

    def store(self, code: Code, value: str, pointer: str, mask: str = "") -> None:
        if not mask:
            return code.line(f"store {self.vector} {value}, ptr {pointer}, align {self.size}")
        code.declare(f"void @llvm.masked.store.{self.suffix}.p0({self.vector}, ptr, <{self.lanes} x i1>)")
        arguments = f"{self.vector} {value}, ptr align {self.size} {pointer}, <{self.lanes} x i1> {mask}"
        code.line(f"call void @llvm.masked.store.{self.suffix}.p0({arguments})")

    def broadcast(self, code: Code, pointer: str) -> str:
        one = code.name(f"load {self.scalar}, ptr {pointer}, align {self.size}")
        first = self.single(code, one)
        return code.name(
            f"shufflevector {self.vector} {first}, {self.vector} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def mask(self, code: Code, valid: str) -> str:
        """The mask whose first ``valid`` lanes are set."""
        lanes, kind = self.lanes, f"<{self.lanes} x i32>"
        count = code.name(f"trunc i64 {valid} to i32")
        first = code.name(f"insertelement {kind} poison, i32 {count}, i32 0")
        splat = code.name(f"shufflevector {kind} {first}, {kind} poison, {kind} zeroinitializer")
        numbers = ", ".join(f"i32 {lane}" for lane in range(lanes))
        return code.name(f"icmp ult {kind} <{numbers}>, {splat}")

    def single(self, code: Code, value: str) -> str:
        """A vector whose first lane is a value; the others are undefined."""
        return code.name(f"insertelement {self.vector} poison, {self.scalar} {value}, i32 0")

    def sum(self, code: Code, start: str, vector: str) -> str:
        """``start`` and all lanes added up, in an order that is fixed for a target."""
        if not self.is_float:
            code.declare(f"{self.scalar} @llvm.vector.reduce.add.{self.suffix}({self.vector})")
            lanes = code.name(f"call {self.scalar} @llvm.vector.reduce.add.{self.suffix}({self.vector} {vector})")
            return code.name(f"add {self.scalar} {start}, {lanes}")
        function = f"{self.scalar} @llvm.vector.reduce.fadd.{self.suffix}"
        code.declare(f"{function}({self.scalar}, {self.vector})")
        return code.name(f"call reassoc {function}({self.scalar} {start}, {self.vector} {vector})")

    def shuffle(self, code: Code, a: str, b: str, places: list[int]) -> str:
        """A vector of chosen elements: place i of ``a`` is number i, of ``b`` number ``lanes`` + i."""
        numbers = ", ".join(f"i32 {place}" for place in places)
        return code.name(f"shufflevector {self.vector} {a}, {self.vector} {b}, <{self.lanes} x i32> <{numbers}>")


def prefetch(code: Code, pointer: str, write: bool = False, level: int = 1) -> None:
    """Ask for a cache line to be brought into a level of cache; any address may be given."""
    code.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    code.line(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {int(write)}, i32 {4 - level}, i32 1)")
