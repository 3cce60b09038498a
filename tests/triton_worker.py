"""A process in which Triton source runs on NumPy: one process has one mode, so the interpreter has one of its own.

It shares memory with the process that started it, takes messages from its standard input, and runs the programs of a
launch one after the other in random order. Triton's interpreter is used as it is but for what it lacks: rounding to
bfloat16, products of bfloat16 and of rounded factors, fused multiplications, and folds and scans at a reasonable speed.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import itertools
import json
import linecache
import mmap
import pickle
import random
import struct
import sys
import traceback
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from triton.runtime import interpreter

FORMATS = {
    "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q",
    "fp32": "f", "fp64": "d",
}  # fmt: skip
_BRAIN = np.dtype(ml_dtypes.bfloat16)


def wide(data: np.ndarray, kind: Any) -> np.ndarray:
    """bfloat16, which the interpreter has as uint16, as float32."""
    return (data.astype(np.uint32) << 16).view(np.float32) if kind == tl.bfloat16 else data


def cast(builder: Any, source: Any, kind: Any, *_: Any) -> Any:
    """A conversion; to bfloat16 it rounds to the nearest, ties to even."""
    given, wanted = source.dtype.scalar, kind.scalar
    with np.errstate(all="ignore"):
        if wanted == tl.bfloat16 and given != tl.bfloat16:
            data = source.data.astype(np.float32).astype(_BRAIN).view(np.uint16)
        else:
            data = wide(source.data, given)
            if wanted != tl.bfloat16:
                data = data.astype(interpreter._get_np_dtype(wanted))
            elif given == tl.bfloat16:
                data = source.data
    return interpreter.TensorHandle(data, wanted)


def dot(builder: Any, a: Any, b: Any, total: Any, precision: Any, _: Any) -> Any:
    """A matrix product added to ``total``; factors of float32 are rounded as the units for tf32 do."""
    factors = []
    for x in (a, b):
        data = wide(x.data, x.dtype.scalar)
        if x.dtype.scalar == tl.float32 and "TF32" in str(precision) and "x3" not in str(precision):
            bits = np.ascontiguousarray(data).view(np.uint32)
            data = ((bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)
        factors.append(data.astype(total.data.dtype))
    return interpreter.TensorHandle(np.matmul(*factors) + total.data, total.dtype.scalar)


def fused(_: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z`` with more digits between, as devices have them."""
    dtype = z.data.dtype
    if dtype.kind != "f":
        return interpreter.TensorHandle(x.data * y.data + z.data, z.dtype.scalar)
    more = np.longdouble if dtype == np.float64 else np.float64
    result = np.asarray(x.data, more) * np.asarray(y.data, more) + np.asarray(z.data, more)
    return interpreter.TensorHandle(result.astype(dtype), z.dtype.scalar)


def merged(operation: Any, left: list[np.ndarray], right: list[np.ndarray], kinds: list[Any]) -> list[np.ndarray]:
    """The combining function applied to whole arrays of states."""
    given = [operation.to_tensor(data, kind) for data, kind in zip([*left, *right], [*kinds, *kinds])]
    result = operation.combine_fn.fn(*given)
    parts = result if isinstance(result, tuple) else (result,)
    return [np.asarray(part.handle.data).astype(x.dtype).reshape(x.shape) for part, x in zip(parts, left)]


def fold(operation: Any, values: Any) -> Any:
    """A fold of neighbours, of pairs of them and so on, as a GPU does it."""
    kinds = [value.dtype for value in values]
    axis = operation.axis
    states = [
        value.handle.data.reshape(-1) if axis is None else np.moveaxis(value.handle.data, axis, 0) for value in values
    ]
    while len(states[0]) > 1:
        states = merged(operation, [x[::2] for x in states], [x[1::2] for x in states], kinds)
    if operation.keep_dims:
        states = [
            np.moveaxis(x, 0, axis or 0) if axis is not None else x.reshape((1,) * values[0].handle.data.ndim)
            for x in states
        ]
    else:
        states = [x[0] for x in states]
    return [operation.to_tensor(x if np.ndim(x) else np.asarray(x).item(), kind) for x, kind in zip(states, kinds)]


def scan(operation: Any, values: Any) -> Any:
    """A scan by doubling."""
    assert not operation.reverse
    kinds = [value.dtype for value in values]
    states = [np.moveaxis(value.handle.data, operation.axis, 0).copy() for value in values]
    step = 1
    while step < len(states[0]):
        later = merged(operation, [np.roll(x, step, 0) for x in states], states, kinds)
        states = [np.concatenate([x[:step], y[step:]]) for x, y in zip(states, later)]
        step *= 2
    return [operation.to_tensor(np.moveaxis(x, 0, operation.axis), kind) for x, kind in zip(states, kinds)]


_patch = interpreter._patch_lang_tensor


def with_mask(name: str, place: int) -> None:
    """Let an operation on memory take masks that a number took part in, which newer versions give as integers."""
    original = getattr(interpreter.InterpreterBuilder, name)

    def operation(builder: Any, *arguments: Any) -> Any:
        given = list(arguments)
        if given[place] is not None:
            given[place] = interpreter.TensorHandle(np.asarray(given[place].data, bool), tl.int1)
        return original(builder, *given)

    setattr(interpreter.InterpreterBuilder, name, operation)


def comparing(name: str) -> None:
    """Let a comparison of single numbers give a bool, as one of blocks does."""
    original = getattr(interpreter.InterpreterBuilder, name)

    def operation(builder: Any, left: Any, right: Any) -> Any:
        return interpreter.TensorHandle(np.asarray(original(builder, left, right).data, bool), tl.int1)

    setattr(interpreter.InterpreterBuilder, name, operation)


def number(tensor: Any) -> int:
    return int(np.asarray(tensor.handle.data).item())


def patch_tensor(tensor: Any, scope: Any) -> None:
    _patch(tensor, scope)
    scope.set_attr(tensor, "__index__", number)


for name in ("cast_impl", "create_fp_to_fp"):
    setattr(interpreter.InterpreterBuilder, name, cast)
interpreter.InterpreterBuilder.create_dot = dot
interpreter.InterpreterBuilder.create_fma = fused
interpreter.InterpreterBuilder.get_bf16 = lambda self, value: interpreter.TensorHandle(
    np.array([value], _BRAIN).view(np.uint16), tl.bfloat16
)
for name, place in (("create_masked_load", 1), ("create_masked_store", 2), ("create_atomic_rmw", 3)):
    with_mask(name, place)
for name in dir(interpreter.InterpreterBuilder):
    if name.startswith(("create_fcmp", "create_icmp")):
        comparing(name)
interpreter.ReduceOps.generic_reduce = fold
interpreter.ScanOps.generic_scan = scan
interpreter._patch_lang_tensor = patch_tensor
interpreter.InterpretedFunction.__call__ = lambda self, *args, **kwargs: self.rewrite()(*args, **kwargs)
interpreter._patch_lang(tl.sum.fn)  # once: functions of kernels would do it at every call


class Kernel:
    """A source that can be run."""

    def __init__(self, key: str, source: str) -> None:
        header = json.loads(source.split("\n", 1)[0].removeprefix("# "))
        file = f"<{key}>"
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        names: dict[str, Any] = {"__name__": key, "__file__": file}
        exec(compile(source, file, "exec"), names)
        self.types: dict[str, str] = header["parameters"]
        codes = ["Q" if kind[0] == "*" else FORMATS[kind] for kind in self.types.values()]
        self.format = "@" + "".join(codes) + "QQ"
        self.function = names[header["entry"]].rewrite()
        interpreter._patch_lang(self.function)

    def run(self, grid: tuple[int, ...], packed: bytes, shift: int, seed: int) -> None:
        """Run all programs of a launch; addresses in the parameters are moved by ``shift``."""
        values = struct.unpack(self.format, packed)
        assert values[-2:] == (0, 0), "two hidden parameters are zero"
        arguments = {}
        for (name, kind), value in zip(self.types.items(), values):
            if kind[0] == "*":
                assert value % 16 == 0, f"{name} is given an address that is no multiple of 16"
                made = tl.pointer_type(tl.str_to_ty(kind[1:], None))
                data = np.array([value + shift], np.uint64)
            else:
                made = tl.str_to_ty(kind, None)
                data = np.array([value], interpreter._get_np_dtype(made))
            arguments[name] = tl.tensor(interpreter.TensorHandle(data, made), made)
        grid = (*grid, 1, 1)[:3]
        interpreter.interpreter_builder.set_grid_dim(*grid)
        programs = list(itertools.product(*(range(n) for n in grid)))
        random.Random(seed).shuffle(programs)
        with np.errstate(all="ignore"):
            for program in programs:
                interpreter.interpreter_builder.set_grid_idx(*program)
                self.function(**arguments)


def main() -> None:
    kernels: dict[str, Kernel] = {}
    shared: list[mmap.mmap] = []
    shift = 0
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what kernels print must not stand among the replies
    while True:
        try:
            message = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            match message:
                case ("share", path, size, address):
                    with open(path, "r+b") as file:
                        shared.append(mmap.mmap(file.fileno(), size))
                    shift = np.frombuffer(shared[0], np.uint8).ctypes.data - address
                case ("load", key, source):
                    if key not in kernels:
                        kernels[key] = Kernel(key, source)
                case ("run", key, grid, packed, seed):
                    kernels[key].run(grid, packed, shift, seed)
            answer = ""
        except BaseException:
            answer = traceback.format_exc()
        pickle.dump(answer, replies)
        replies.flush()


if __name__ == "__main__":
    main()
