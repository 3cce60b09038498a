"""Matrix products by cuBLASLt, bound by ctypes: algorithm chosen once for each form, workspace shared by all."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import gcd
from typing import Any, cast

from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CudaError
from knetc.runtime.cuda import libraries
from knetc.runtime.cuda.device import GpuDevice
from knetc.runtime.cuda.driver import Driver
from knetc.runtime.cuda.prototypes import INT, POINTER, SIZE
from knetc.runtime.program import GRID_ALIGNMENT, Factor, LibraryCall

log = logging.getLogger("knetc")

WORKSPACE_BYTES = 32 << 20
"""What the library may use while it computes; NVIDIA recommends this much from sm_90 on."""

CUBLASLT: dict[str, tuple[type, ...]] = {
    "cublasLtCreate": (POINTER,),
    "cublasLtMatmulDescCreate": (POINTER, INT, INT),
    "cublasLtMatmulDescSetAttribute": (POINTER, INT, POINTER, SIZE),
    "cublasLtMatrixLayoutCreate": (POINTER, INT, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64),
    "cublasLtMatrixLayoutSetAttribute": (POINTER, INT, POINTER, SIZE),
    "cublasLtMatmulPreferenceCreate": (POINTER,),
    "cublasLtMatmulPreferenceSetAttribute": (POINTER, INT, POINTER, SIZE),
    "cublasLtMatmulPreferenceDestroy": (POINTER,),
    "cublasLtMatmulAlgoGetHeuristic": (
        POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, INT, POINTER, POINTER,
    ),
    "cublasLtMatmul": (
        POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, POINTER,
        POINTER, POINTER, SIZE, POINTER,
    ),
}  # fmt: skip
"""The library's functions; each returns an int, 0 for success."""

# Numbers from cublasLt.h, cublas_api.h and library_types.h.
_TYPES = {"f32": 0, "f64": 1, "f16": 2, "bf16": 14}
_COMPUTE_F32, _COMPUTE_F64, _COMPUTE_TF32 = 68, 70, 77
_TRANSA, _TRANSB, _EPILOGUE, _BIAS_POINTER, _BIAS_TYPE = 3, 4, 7, 8, 26
_BATCH_COUNT, _BATCH_OFFSET = 5, 6
_MAX_WORKSPACE, _MIN_ALIGNMENT_A = 1, 5
_RELU, _BIAS = 2, 4


class _Algorithm(ctypes.Structure):
    """``cublasLtMatmulAlgo_t``."""

    _fields_ = (("data", ctypes.c_uint64 * 8),)


class _Heuristic(ctypes.Structure):
    """``cublasLtMatmulHeuristicResult_t``."""

    _fields_ = (
        ("algorithm", _Algorithm),
        ("workspace_bytes", SIZE),
        ("state", INT),
        ("waves", ctypes.c_float),
        ("reserved", INT * 4),
    )


class CublasLt:
    """The library on one device: its handle, its workspace, and what was chosen for each form of product."""

    def __init__(self, device: GpuDevice) -> None:
        """Raises CudaError when the library is not there or does not start."""
        self.device = device
        self._library = libraries.load(libraries.CUBLASLT)
        for name, types in CUBLASLT.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = types, INT
        self.handle = self._made("cublasLtCreate")
        self.workspace = device.allocate(WORKSPACE_BYTES)
        self.chosen: dict[LibraryCall, Plan | str] = {}

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise CudaError(f"{name} answers {status}")

    def _made(self, name: str, *arguments: Any) -> int:
        made = ctypes.c_void_p()
        self._call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    def _set(self, function: str, of: int, attribute: int, value: Any) -> None:
        self._call(function, of, attribute, ctypes.byref(value), ctypes.sizeof(value))

    def plan(self, call: LibraryCall) -> Plan | str:
        """How to make a product, or why the library does not; kept for products of the same form."""
        form = replace(call, a=replace(call.a, argument=0), b=replace(call.b, argument=0), c=0, bias=min(call.bias, 0))
        found = self.chosen.get(form)
        if found is None:
            try:
                found = self._planned(call)
            except CudaError as error:
                found = str(error)
            self.chosen[form] = found
        return found

    def _planned(self, call: LibraryCall) -> Plan:
        """The library counts by columns: C's rows are its columns, so it makes the transpose, ``Bᵀ Aᵀ``."""
        kind = call.a.dtype
        double = kind == "f64"
        compute = _COMPUTE_F64 if double else _COMPUTE_F32
        if kind == "f32" and call.precision == "default":
            compute = _COMPUTE_TF32
        product = self._made("cublasLtMatmulDescCreate", compute, _TYPES["f64" if double else "f32"])
        set_product = "cublasLtMatmulDescSetAttribute"
        self._set(set_product, product, _TRANSA, ctypes.c_int32(call.b.transposed))
        self._set(set_product, product, _TRANSB, ctypes.c_int32(call.a.transposed))
        epilogue = _RELU * call.relu + _BIAS * (call.bias >= 0) or 1
        self._set(set_product, product, _EPILOGUE, ctypes.c_uint32(epilogue))
        if call.bias >= 0:
            self._set(set_product, product, _BIAS_TYPE, ctypes.c_int32(_TYPES[call.dtype]))
        left = self._layout(call.b, call.n, call.k, call.batch)
        right = self._layout(call.a, call.k, call.m, call.batch)
        result = self._made("cublasLtMatrixLayoutCreate", _TYPES[call.dtype], call.n, call.m, call.n)
        self._batch(result, call.batch, call.m * call.n)
        wishes = self._made("cublasLtMatmulPreferenceCreate")
        set_wish = "cublasLtMatmulPreferenceSetAttribute"
        self._set(set_wish, wishes, _MAX_WORKSPACE, ctypes.c_uint64(WORKSPACE_BYTES))
        alignments = (gcd(call.b.offset, GRID_ALIGNMENT), gcd(call.a.offset, GRID_ALIGNMENT), GRID_ALIGNMENT)
        for k, alignment in enumerate((*alignments, GRID_ALIGNMENT)):
            self._set(set_wish, wishes, _MIN_ALIGNMENT_A + k, ctypes.c_uint32(alignment))
        best, count = _Heuristic(), ctypes.c_int()
        try:
            self._call(
                "cublasLtMatmulAlgoGetHeuristic", self.handle, product, left, right, result, result, wishes, 1,
                ctypes.byref(best), ctypes.byref(count),
            )  # fmt: skip
        finally:
            self._call("cublasLtMatmulPreferenceDestroy", wishes)
        if not count.value or best.state:
            raise CudaError(f"it has no algorithm (state {best.state})")
        return Plan(self, product, left, right, result, best.algorithm, ctypes.c_double if double else ctypes.c_float)

    def _layout(self, factor: Factor, rows: int, columns: int, batch: int) -> int:
        """A factor that the library multiplies as a matrix of ``rows`` by ``columns``, counted by columns."""
        stored = (columns, rows) if factor.transposed else (rows, columns)
        layout = self._made("cublasLtMatrixLayoutCreate", _TYPES[factor.dtype], *stored, factor.leading)
        self._batch(layout, batch, factor.batch_stride)
        return layout

    def _batch(self, layout: int, count: int, stride: int) -> None:
        if count > 1:
            self._set("cublasLtMatrixLayoutSetAttribute", layout, _BATCH_COUNT, ctypes.c_int32(count))
            self._set("cublasLtMatrixLayoutSetAttribute", layout, _BATCH_OFFSET, ctypes.c_int64(stride))

    def run(self, plan: Plan, addresses: Any, stream: int) -> None:
        """Put a product into a stream; ``addresses`` are of A, B, C and the bias (or 0)."""
        a, b, c, bias = addresses
        if bias:
            self._set("cublasLtMatmulDescSetAttribute", plan.product, _BIAS_POINTER, ctypes.c_uint64(bias))
        one, zero = plan.scale(1), plan.scale(0)
        self._call(
            "cublasLtMatmul", self.handle, plan.product, ctypes.byref(one), b, plan.left, a, plan.right,
            ctypes.byref(zero), c, plan.result, c, plan.result, ctypes.byref(plan.algorithm), self.workspace.at,
            WORKSPACE_BYTES, stream,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A product as the library describes it; handles are the library's."""

    owner: CublasLt
    product: int
    left: int
    right: int
    result: int
    algorithm: _Algorithm
    scale: Callable[[float], Any]


class ProductOperation:
    """A library's product among a section's operations; its addresses are written as a kernel's parameters are."""

    __slots__ = ("offsets", "packed", "plan")

    def __init__(self, plan: Plan, call: LibraryCall) -> None:
        self.plan = plan
        self.packed = (ctypes.c_uint64 * 4)()
        self.offsets = (call.a.offset, call.b.offset, 0, 0)

    def _work(self, stream: int) -> Callable[[], None]:
        addresses = [address + offset for address, offset in zip(self.packed, self.offsets)]
        return lambda: self.plan.owner.run(self.plan, addresses, stream)

    def launch(self, driver: Driver, stream: int) -> None:
        self._work(stream)()

    def add(self, driver: Driver, graph: int, after: int) -> int:
        stream = self.plan.owner.device.stream
        inner = driver.capture(stream, self._work(stream))
        try:
            return driver.add_graph(graph, after, inner)
        finally:
            driver.free_graph(inner)

    def update(self, driver: Driver, ready: int, node: int) -> None:
        stream = self.plan.owner.device.stream
        inner = driver.capture(stream, self._work(stream))
        try:
            driver.update_graph(ready, node, inner)
        finally:
            driver.free_graph(inner)


def operation(call: LibraryCall, device: GpuDevice) -> ProductOperation | None:
    """The operation that makes a product by the library; None, with the reason logged, when it cannot."""
    if not config.cublas:
        return None
    if device.blas is None:
        try:
            device.blas = CublasLt(device)
        except CudaError as error:
            device.blas = str(error)
            log.info("matrix products on %s are made by generated kernels: %s", device.name, error)
    if isinstance(device.blas, str):
        return None
    library = cast(CublasLt, device.blas)
    plan = library.plan(call)
    if isinstance(plan, str):
        shape = f"{call.batch} x [{call.m}, {call.k}] @ [{call.k}, {call.n}] of {call.a.dtype} to {call.dtype}"
        log.info("cuBLASLt does not make %s on %s (%s), a generated kernel does", shape, device.target, plan)
        return None
    return ProductOperation(plan, call)
