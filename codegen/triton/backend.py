"""A GPU as a target: how nests, products and checks become kernels, and a program becomes cubins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from knetc.codegen.assemble import Assembly, assemble
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import Argument, LoopNest, Store
from knetc.codegen.products import Product
from knetc.codegen.together import Joiner
from knetc.codegen.triton import model, nest, search
from knetc.codegen.triton.library import described, library_call
from knetc.codegen.triton.matmul import computes, factor_arguments, lower_matmul, plain, plans
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.source import Header
from knetc.codegen.triton.together import Together
from knetc.runtime.base import dtypes
from knetc.runtime.program import GRID_ALIGNMENT, BufferSpec, Cubin, Program

from knetc.ir.build import rebuild
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops.reduction import place_in_all
from knetc.passes.prologue import Chooser

PLANS = 6
"""Ways to cut a product into tiles that are measured where a device is measured."""

COMPILERS = 4
"""Threads that compile kernels at once: Triton's compilers work mostly outside of Python's lock."""

_CODES = {"i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"}
_CODES |= {"fp32": "f", "fp64": "d"}


def parameter_format(header: Header) -> str:
    """The ``struct`` format of a kernel's parameters and its two hidden ones.

    >>> parameter_format(Header("k", {"in0": "*fp32", "number1": "i32"}, 4))
    '@QiQQ'
    """
    codes = ["Q" if kind[0] == "*" else _CODES[kind] for kind in header.parameters.values()]
    return "@" + "".join(codes) + "QQ"


class Tuner(Protocol):
    """What measures kernels on a device."""

    def __call__(self, kernels: Sequence[Kernel], arguments: Sequence[BufferSpec | str]) -> tuple[int, str]:
        """The number of the fastest of several kernels that do the same, and how that is known.

        ``arguments`` are those of a step: memory, or the short name of a scalar's dtype.
        """


@dataclass(frozen=True)
class TritonBackend:
    """Kernels for one kind of GPU."""

    target: GpuTarget
    alignment_bytes: int = GRID_ALIGNMENT
    keep_rows: bool = False
    """What a block has computed stays in its registers; long rows are computed again."""
    narrow_products: bool = True
    precision: str = "highest"
    """In which products of float32 are made: ``highest``, ``high`` or ``default`` (TF32)."""
    tuner: Tuner | None = None
    """Measures what the model only estimates."""
    joiner: Joiner = field(default=Together(), init=False)

    @property
    def key(self) -> str:
        return self.target.key

    @property
    def computes(self) -> Chooser:
        return partial(computes, precision=self.precision)

    def nest(self, loops: LoopNest) -> Kernel:
        scatters = any(isinstance(s, Store) and s.offset.indirect for stage in loops.stages for s in stage.body)
        choices = (model.MODEL,) if self.tuner is None or scatters else model.CHOICES
        return self._fastest([nest.lower(loops, choice) for choice in choices], loops.arguments)

    def matmul(self, product: Product, epilogue: LoopNest | None) -> Kernel:
        found = plans(product, self.precision, self.target)[: 1 if self.tuner is None else PLANS]
        kernels = [lower_matmul(product, epilogue, self.precision, plan) for plan in found]
        call = library_call(product, epilogue, self.precision)
        if isinstance(call, str):
            kernels = [replace(kernel, notes=(*kernel.notes, f"not made by cuBLASLt: {call}")) for kernel in kernels]
        else:
            notes = (f"made by cuBLASLt where it is installed: {described(call)}", *kernels[0].notes)
            kernels.insert(0, replace(kernels[0], library=(call,), notes=notes))
        rest = plain(product) if epilogue is None else epilogue
        return self._fastest(kernels, (*factor_arguments(product), *rest.arguments[1:]))

    def _fastest(self, kernels: Sequence[Kernel], arguments: Sequence[Argument]) -> Kernel:
        """The first of several kernels that do the same, or where they are measured the fastest."""
        found: dict[object, Kernel] = {}
        for kernel in kernels:
            found.setdefault((tuple(kernel.functions), kernel.grids, kernel.library), kernel)
        different = list(found.values())
        given: list[BufferSpec | str] = []
        for argument in arguments:
            kind, size = dtypes.short_name(argument.dtype), argument.size
            if argument.kind == "scalar":
                given.append(kind)
            elif argument.kind != "scratch":
                given.append(BufferSpec("input", kind, (size,), size * argument.dtype.itemsize))
        sizes = sum(spec.size_bytes for spec in given if isinstance(spec, BufferSpec))
        if self.tuner is None or len(different) < 2 or sizes < model.TUNED_BYTES:
            return kernels[0]
        chosen, how = self.tuner(different, given)
        return replace(different[chosen], notes=(*different[chosen].notes, how))

    def check(self, dtype: np.dtype, size: int, low: int, high: int) -> Kernel:
        return search.outside(dtype, size, low, high)

    def check_nan(self, dtype: np.dtype, size: int) -> Kernel:
        return search.nan(dtype, size)

    def host(self, function: str, arguments: Sequence[TensorType], result: TensorType) -> None:
        """Functions of the host run there."""


def assembled(
    graph: Graph,
    target: GpuTarget,
    *,
    fused: bool = True,
    nan_check: bool = False,
    precision: str = "highest",
    tuner: Tuner | None = None,
) -> Assembly:
    """The program of a simplified graph but for its machine code."""
    backend = TritonBackend(target, precision=precision, tuner=tuner)
    return assemble(graph, backend, fused=fused, nan_check=nan_check)


def _on_the_device(node: Node, sources: tuple[Node, ...]) -> Node | None:
    """What the host need not be asked for."""
    name = str(node["function"]).rpartition(".")[2] if node.op.name == "host" else ""
    if name not in ("argmax", "argmin"):
        return None
    op, [x] = OPS[name], sources
    return place_in_all(op, x) if x.ndim == 1 else record(op, (x,), {"axes": (x.ndim - 1,)})


def build(
    graph: Graph,
    target: GpuTarget,
    compile_function: Callable[[str, str], tuple[Cubin, bytes]],
    *,
    fused: bool = True,
    nan_check: bool = False,
    precision: str = "highest",
    tuner: Tuner | None = None,
    timed: bool = False,
) -> tuple[Assembly, Program, dict[str, bytes]]:
    """Everything that running a simplified graph on a GPU needs.

    ``compile_function(name, source)`` gives what is to be known of a kernel and its bytes, from a cache or made with
    ``compile_source``; it is called from several threads.
    """
    graph = rebuild(graph, _on_the_device)
    assembly = assembled(graph, target, fused=fused, nan_check=nan_check, precision=precision, tuner=tuner)
    with ThreadPoolExecutor(COMPILERS) as pool:
        made = list(pool.map(lambda item: compile_function(*item), assembly.functions.items()))
    objects = {cubin.object: code for cubin, code in made}
    program = replace(
        assembly.program, objects=tuple(objects), cubins=tuple(cubin for cubin, _ in made), entry="", timed=timed
    )
    return assembly, program, objects
