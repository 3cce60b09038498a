"""A GPU as a target: how nests, products and checks become kernels, and a program becomes cubins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from knetc.codegen.assemble import Assembly, assemble
from knetc.codegen.kernel import Kernel
from knetc.codegen.loopnest import LoopNest
from knetc.codegen.products import Product
from knetc.codegen.together import Joiner
from knetc.codegen.triton import nest, search
from knetc.codegen.triton.library import library_call
from knetc.codegen.triton.matmul import lower_matmul, plans
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.source import Header
from knetc.codegen.triton.together import Together
from knetc.runtime.program import Cubin, Program

from knetc.ir.node import Graph

COMPILERS = 4
"""Threads that ask for compiled kernels at once; those that must be made are made in processes."""

_CODES = {"i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"}
_CODES |= {"fp32": "f", "fp64": "d"}


def parameter_format(header: Header) -> str:
    """The ``struct`` format of a kernel's parameters and its two hidden ones.

    >>> parameter_format(Header("k", {"in0": "*fp32", "number1": "i32"}, 4))
    '@QiQQ'
    """
    codes = ["Q" if kind[0] == "*" else _CODES[kind] for kind in header.parameters.values()]
    return "@" + "".join(codes) + "QQ"


@dataclass(frozen=True)
class TritonBackend:
    """Kernels for one kind of GPU."""

    target: GpuTarget
    keep_rows: bool = False
    """What a block has computed stays in its registers; long rows are computed again."""
    narrow_products: bool = True
    precision: str = "highest"
    """In which products of float32 are made: ``highest``, ``high`` or ``default`` (TF32)."""
    joiner: Joiner = field(default=Together(), init=False)

    @property
    def key(self) -> str:
        return self.target.key

    def nest(self, loops: LoopNest) -> Kernel:
        return nest.lower(loops)

    def matmul(self, product: Product, epilogue: LoopNest | None) -> Kernel:
        plan = plans(product, self.precision, self.target)[0]
        kernel = lower_matmul(product, epilogue, self.precision, plan)
        call = library_call(product, epilogue, self.precision)
        if isinstance(call, str):
            return replace(kernel, notes=(*kernel.notes, f"not made by cuBLASLt: {call}"))
        return replace(kernel, library=(call,))

    def check(self, dtype: np.dtype, size: int, low: int, high: int) -> Kernel:
        return search.outside(dtype, size, low, high)

    def check_nan(self, dtype: np.dtype, size: int) -> Kernel:
        return search.nan(dtype, size)


def assembled(
    graph: Graph, target: GpuTarget, *, fused: bool = True, nan_check: bool = False, precision: str = "highest"
) -> Assembly:
    """The program of a simplified graph but for its machine code."""
    return assemble(graph, TritonBackend(target, precision=precision), fused=fused, nan_check=nan_check)


def build(
    graph: Graph,
    target: GpuTarget,
    compile_function: Callable[[str, str], tuple[Cubin, bytes]],
    *,
    fused: bool = True,
    nan_check: bool = False,
    precision: str = "highest",
    timed: bool = False,
) -> tuple[Assembly, Program, dict[str, bytes]]:
    """Everything that running a simplified graph on a GPU needs.

    ``compile_function(name, source)`` gives what is to be known of a kernel and its bytes, from a cache or made with
    ``compile_source``; it is called from several threads.
    """
    assembly = assembled(graph, target, fused=fused, nan_check=nan_check, precision=precision)
    with ThreadPoolExecutor(COMPILERS) as pool:
        made = list(pool.map(lambda item: compile_function(*item), assembly.functions.items()))
    objects = {cubin.object: code for cubin, code in made}
    program = replace(
        assembly.program, objects=tuple(objects), cubins=tuple(cubin for cubin, _ in made), entry="", timed=timed
    )
    return assembly, program, objects
