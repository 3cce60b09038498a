"""Loop nests written by hand, compiled and run piece by piece: what the tests of this folder are made with."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from knetc.codegen.cpu.native import compile_ir, target
from knetc.codegen.cpu.nest import lower
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import (
    Argument,
    Axis,
    Compute,
    Constant,
    Index,
    Inside,
    Load,
    LoopNest,
    Offset,
    Range,
    Reduce,
    Scan,
    Stage,
    Statement,
    Store,
)
from knetc.runtime.base import dtypes
from knetc.runtime.cpu.loader import Module

from knetc.ir.op import OPS
from knetc.ops import activations, reduction, transcendental

Strides = Mapping[int, int]
NONE: Strides = {}

assert activations and reduction and transcendental  # importing them fills the table of operations


@dataclass
class Builder:
    """A nest in the making. Values and arguments are numbers; offsets are given as axis -> stride."""

    outer: tuple[int, ...]
    inner: tuple[int, ...] = ()
    arguments: list[Argument] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    types: list[np.dtype] = field(default_factory=list)
    _body: list[Statement] = field(default_factory=list)

    def argument(self, kind: Any, size: int = 1, dtype: Any = "f4") -> int:
        self.arguments.append(Argument(f"a{len(self.arguments)}", np.dtype(dtype), kind, size))
        return len(self.arguments) - 1

    @contextmanager
    def stage(self, level: Any) -> Iterator[None]:
        self._body = []
        yield
        self.stages.append(Stage(level, tuple(self._body)))

    def _new(self, dtype: Any) -> int:
        self.types.append(np.dtype(dtype))
        return len(self.types) - 1

    def load(
        self,
        argument: int,
        axes: Strides = NONE,
        base: int = 0,
        indirect: Strides = NONE,
        where: tuple[Range, ...] = (),
        otherwise: Any = 0,
    ) -> int:
        v = self._new(self.arguments[argument].dtype)
        self._body.append(Load(v, argument, Offset(base, axes, indirect), where, otherwise))
        return v

    def index(self, axes: Strides, base: int = 0) -> int:
        v = self._new("i8")
        self._body.append(Index(v, Offset(base, axes)))
        return v

    def inside(self, *where: Range) -> int:
        v = self._new("?")
        self._body.append(Inside(v, where))
        return v

    def constant(self, value: Any, dtype: Any = "f4") -> int:
        v = self._new(dtype)
        self._body.append(Constant(v, np.dtype(dtype), value))
        return v

    def do(self, name: str, *operands: int, dtype: Any = None, **attributes: Any) -> int:
        v = self._new("?" if name in ("equal", "less") else dtype or self.types[operands[-1]])
        self._body.append(Compute(v, OPS[name], self.types[v], operands, attributes))
        return v

    def cast(self, value: int, dtype: Any) -> int:
        v = self._new(dtype)
        self._body.append(Compute(v, OPS["cast"], np.dtype(dtype), (value,), {"dtype": np.dtype(dtype)}))
        return v

    @staticmethod
    def range(axes: Strides, low: int, high: int) -> Range:
        return Range(Offset(axes=axes), low, high)

    def store(
        self,
        argument: int,
        value: int,
        axes: Strides = NONE,
        base: int = 0,
        indirect: Strides = NONE,
        accumulate: bool = False,
    ) -> None:
        self._body.append(Store(argument, Offset(base, axes, indirect), value, accumulate))

    def fold(self, name: str, value: int, index: int = -1, dtype: Any = None) -> int:
        """Over the inner axes; the number of the state's last part."""
        dtype = np.dtype(dtype or self.types[value])
        results = [self._new(dtype)]
        if index >= 0:
            results.append(self._new("i8"))
        self._body.append(Reduce(OPS[name], value, dtype, "inner", tuple(results), index=index))
        return results[-1]

    def fold_into(self, name: str, value: int, over: Any, argument: int, axes: Strides = NONE, index: int = -1) -> None:
        dtype = self.types[value]
        self._body.append(Reduce(OPS[name], value, dtype, over, (), argument, Offset(axes=axes), index))

    def scan(self, name: str, *operands: int, dtype: Any = None) -> int:
        """With the fold of an operation, along the inner axis."""
        v = self._new(dtype or self.types[operands[0]])
        self._body.append(Scan(v, OPS[name], operands, self.types[v]))
        return v

    @property
    def nest(self) -> LoopNest:
        outer = tuple(Axis(f"o{k}", n) for k, n in enumerate(self.outer))
        inner = tuple(Axis(f"i{k}", n) for k, n in enumerate(self.inner))
        return LoopNest("nest", outer, inner, tuple(self.arguments), tuple(self.stages))

    def run(
        self, *values: Any, pieces: int = 1, level: str | None = None, streaming: frozenset[int] | None = None
    ) -> Kernel:
        """Run on arrays and numbers for the arguments that are not scratch."""
        kernel = lower(self.nest, target(level), streaming)
        kinds = [a for a in self.arguments if a.kind != "scratch"]
        assert len(kinds) == len(values)
        slots = [_slot(a, v) for a, v in zip(kinds, values)]
        execute(kernel, slots, pieces, level)
        return kernel


def _slot(argument: Argument, value: Any) -> int:
    if argument.kind == "scalar":
        packed = struct.pack("<d", value) if dtypes.is_float(argument.dtype) else struct.pack("<q", value)
        return int.from_bytes(packed, "little")
    assert value.dtype == argument.dtype and value.flags.c_contiguous
    return int(value.ctypes.data)


@cache
def _object(text: str, level: str | None) -> bytes:
    return compile_ir(text, target(level))


def load(kernel: Kernel, level: str | None = None) -> Module:
    return Module([_object(text, level) for text in kernel.functions.values()])


def execute(kernel: Kernel, arguments: list[int], pieces: int = 1, level: str | None = None) -> None:
    """The launches in order; each loop in ``pieces`` parts (in steps of the grain), the last part first."""
    module = load(kernel, level)
    workspace = np.full(kernel.workspace_bytes + 64, 0xFF, np.uint8)
    base = -(-workspace.ctypes.data // 64) * 64
    for launch in kernel.launches:
        table = (ctypes.c_uint64 * len(launch.slots))()
        for k, slot in enumerate(launch.slots):
            table[k] = {
                "argument": lambda n: arguments[n],
                "workspace": lambda n: base + n,
                "value": lambda n: n & (1 << 64) - 1,
            }[slot.kind](slot.value)
        function = module.function(
            launch.function, None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32
        )
        step = max(launch.count, 1) if pieces == 1 else -(-launch.count // launch.grain // pieces) * launch.grain
        for low in reversed(range(0, launch.count, max(step, launch.grain))):
            function(ctypes.addressof(table), low, min(low + max(step, launch.grain), launch.count), 0)


@pytest.fixture
def build() -> type[Builder]:
    return Builder
