"""Matrix products by cuBLASLt, bound by ctypes: algorithm chosen once for each form, workspace shared by all."""

from __future__ import annotations

import ctypes
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from math import gcd
from typing import Any, cast

from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CudaError
from knetc.runtime.cuda import libraries
from knetc.runtime.cuda.cublaslt import FUNCTIONS, NUMBERS, STATUS_NAME, Algorithm, Heuristic
from knetc.runtime.cuda.device import GpuDevice
from knetc.runtime.cuda.driver import Driver
from knetc.runtime.cuda.prototypes import INT
from knetc.runtime.program import GRID_ALIGNMENT, Factor, LibraryCall

log = logging.getLogger("knetc")

WORKSPACE_BYTES = 32 << 20
"""What the library may use while it computes; NVIDIA recommends this much from sm_90 on."""

GRAPHS_KEPT = 4
"""Captured products that are kept for each place in a program: batches that come from the host take turns."""

_TYPES = {"f32": "CUDA_R_32F", "f64": "CUDA_R_64F", "f16": "CUDA_R_16F", "bf16": "CUDA_R_16BF"}


_REFUSED = {f"CUBLAS_STATUS_{what}" for what in ("INVALID_VALUE", "ARCH_MISMATCH", "NOT_SUPPORTED")}


class _Refusal(CudaError):
    """The library does not do what it was asked for."""


def _type(name: str) -> int:
    return NUMBERS[_TYPES[name]]


class CublasLt:
    """The library on one device: its handle, its workspace, and what was chosen for each form of product."""

    def __init__(self, device: GpuDevice) -> None:
        """Raises CudaError when the library is not there or does not start."""
        self.device = device
        major = device.properties.driver_version // 1000
        self._library = libraries.load(libraries.for_driver(major))
        for name, types in FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = types, INT
        self._status_name = getattr(self._library, STATUS_NAME)
        self._status_name.argtypes, self._status_name.restype = (INT,), ctypes.c_char_p
        self.handle = self._made("cublasLtCreate")
        self.workspace = device.allocate(WORKSPACE_BYTES)
        self.chosen: dict[LibraryCall, Plan | str] = {}

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            said = (self._status_name(status) or b"a status without a name").decode(errors="replace")
            kind = _Refusal if said in _REFUSED else CudaError
            raise kind(f"{name} answers {said} ({status})")

    def _made(self, name: str, *arguments: Any) -> int:
        made = ctypes.c_void_p()
        self._call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    def _set(self, what: str, of: int, attribute: str, value: Any) -> None:
        """Set an attribute of a ``MatmulDesc``, a ``MatrixLayout`` or a ``MatmulPreference``."""
        number = NUMBERS[attribute]
        self._call(f"cublasLt{what}SetAttribute", of, number, ctypes.byref(value), ctypes.sizeof(value))

    def plan(self, call: LibraryCall) -> Plan | str:
        """How to make a product, or why the library does not; kept for products of the same form."""
        a, b = replace(call.a, argument=0), replace(call.b, argument=0)
        form = replace(call, a=a, b=b, c=0, bias=min(call.bias, 0), more=min(call.more, 0))
        found = self.chosen.get(form)
        if found is None:
            found = self.chosen[form] = self._tried(call)
        return found

    def _tried(self, call: LibraryCall) -> Plan | str:
        """A plan that the library does not refuse when it is asked for the product."""
        made: list[tuple[str, int]] = []
        try:
            plan = self._planned(call, made)
            self._ask(plan, call)
        except CudaError as error:
            for what, handle in made:
                self._call(f"cublasLt{what}Destroy", handle)
            return str(error)
        return plan

    def _ask(self, plan: Plan, call: LibraryCall) -> None:
        """Ask for a product once without making it: what is refused now would be refused in the middle of a program,
        where nothing else can make it. Only a refusal counts: what else may go wrong while a stream is captured (a
        kernel that must be loaded first) says nothing of the product."""
        at, driver, stream = self.workspace.at, self.device.driver, self.device.stream
        addresses = (at + call.a.offset, at + call.b.offset, at, at if call.bias >= 0 else 0, at)
        refusals: list[_Refusal] = []

        def ask() -> None:
            try:
                self.run(plan, addresses, stream)
            except _Refusal as refusal:
                refusals.append(refusal)

        with suppress(CudaError):
            driver.free_graph(driver.capture(stream, ask))
        if refusals:
            raise refusals[0]

    def _planned(self, call: LibraryCall, made: list[tuple[str, int]]) -> Plan:
        """The library counts by columns: C's rows are its columns, so it makes the transpose, ``Bᵀ Aᵀ``.

        ``made`` tells which descriptions were made, so that they can go again.
        """

        def create(what: str, *arguments: Any) -> int:
            handle = self._made(f"cublasLt{what}Create", *arguments)
            made.append((what, handle))
            return handle

        def layout(kind: str, rows: int, columns: int, leading: int, stride: int) -> int:
            described = create("MatrixLayout", _type(kind), rows, columns, leading)
            if call.batch > 1:
                prefix = "CUBLASLT_MATRIX_LAYOUT"
                self._set("MatrixLayout", described, f"{prefix}_BATCH_COUNT", ctypes.c_int32(call.batch))
                self._set("MatrixLayout", described, f"{prefix}_STRIDED_BATCH_OFFSET", ctypes.c_int64(stride))
            return described

        def factor(factor: Factor, rows: int, columns: int) -> int:
            """A factor that is multiplied as a matrix of ``rows`` by ``columns``, counted by columns."""
            stored = (columns, rows) if factor.transposed else (rows, columns)
            return layout(factor.dtype, *stored, factor.leading, factor.batch_stride)

        double = call.a.dtype == "f64"
        less = call.a.dtype == "f32" and call.precision == "default"
        compute = "CUBLAS_COMPUTE_64F" if double else "CUBLAS_COMPUTE_32F_FAST_TF32" if less else "CUBLAS_COMPUTE_32F"
        product = create("MatmulDesc", NUMBERS[compute], _type("f64" if double else "f32"))
        about = "CUBLASLT_MATMUL_DESC"
        self._set("MatmulDesc", product, f"{about}_TRANSA", ctypes.c_int32(call.b.transposed))
        self._set("MatmulDesc", product, f"{about}_TRANSB", ctypes.c_int32(call.a.transposed))
        wanted = "_RELU" * call.relu + "_BIAS" * (call.bias >= 0) or "_DEFAULT"
        epilogue = NUMBERS[f"CUBLASLT_EPILOGUE{wanted}"]
        self._set("MatmulDesc", product, f"{about}_EPILOGUE", ctypes.c_uint32(epilogue))
        if call.bias >= 0:
            self._set("MatmulDesc", product, f"{about}_BIAS_DATA_TYPE", ctypes.c_int32(_type(call.dtype)))
            # an algorithm is chosen for the alignment of the address that stands here: 0 would promise any
            self._set("MatmulDesc", product, f"{about}_BIAS_POINTER", ctypes.c_uint64(GRID_ALIGNMENT))
        left, right = factor(call.b, call.n, call.k), factor(call.a, call.k, call.m)
        result = layout(call.dtype, call.n, call.m, call.n, call.m * call.n)
        wishes = self._made("cublasLtMatmulPreferenceCreate")
        about = "CUBLASLT_MATMUL_PREF"
        size = ctypes.c_uint64(WORKSPACE_BYTES)
        least = [gcd(offset, GRID_ALIGNMENT) for offset in (call.b.offset, call.a.offset, 0, 0)]
        best, count = Heuristic(), ctypes.c_int()
        try:
            self._set("MatmulPreference", wishes, f"{about}_MAX_WORKSPACE_BYTES", size)
            for name, alignment in zip("ABCD", least):
                value = ctypes.c_uint32(alignment)
                self._set("MatmulPreference", wishes, f"{about}_MIN_ALIGNMENT_{name}_BYTES", value)
            self._call(
                "cublasLtMatmulAlgoGetHeuristic", self.handle, product, left, right, result, result, wishes, 1,
                ctypes.byref(best), ctypes.byref(count),
            )  # fmt: skip
        finally:
            self._call("cublasLtMatmulPreferenceDestroy", wishes)
        if not count.value or best.state:
            raise CudaError(f"it has no algorithm (state {best.state})")
        number = ctypes.c_double if double else ctypes.c_float
        return Plan(self, product, left, right, result, best.algo, number(call.scale), number(call.share))

    def run(self, plan: Plan, addresses: Any, stream: int) -> None:
        """Put a product into a stream; ``addresses`` are of A, B, C, the bias (or 0) and D (or 0)."""
        a, b, c, bias, more = addresses
        if bias:
            self._set("MatmulDesc", plan.product, "CUBLASLT_MATMUL_DESC_BIAS_POINTER", ctypes.c_uint64(bias))
        self._call(
            "cublasLtMatmul", self.handle, plan.product, ctypes.byref(plan.scale), b, plan.left, a, plan.right,
            ctypes.byref(plan.share), more or c, plan.result, c, plan.result, ctypes.byref(plan.algorithm),
            self.workspace.at, WORKSPACE_BYTES, stream,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A product as the library describes it; handles are the library's."""

    owner: CublasLt
    product: int
    left: int
    right: int
    result: int
    algorithm: Algorithm
    scale: Any
    """Of the product, as a C number."""
    share: Any
    """Of what is added to it."""


class ProductOperation:
    """A library's product among a section's operations; its addresses are written as a kernel's parameters are."""

    __slots__ = ("graphs", "offsets", "packed", "plan")

    def __init__(self, plan: Plan, call: LibraryCall) -> None:
        self.plan = plan
        self.packed = (ctypes.c_uint64 * 5)()
        self.offsets = (call.a.offset, call.b.offset, 0, 0, 0)
        self.graphs: dict[tuple[int, ...], int] = {}
        """By the addresses, oldest first."""

    def launch(self, driver: Driver, stream: int) -> None:
        self.plan.owner.run(self.plan, self._addresses(), stream)

    def _addresses(self) -> tuple[int, ...]:
        return tuple(address + offset for address, offset in zip(self.packed, self.offsets))

    def _graph(self, driver: Driver) -> int:
        """What the library launches for the addresses of now, which only a capture tells."""
        addresses = self._addresses()
        graph = self.graphs.pop(addresses, 0)
        if not graph:
            if len(self.graphs) == GRAPHS_KEPT:
                driver.free_graph(self.graphs.pop(next(iter(self.graphs))))
            owner = self.plan.owner
            stream = owner.device.stream
            graph = driver.capture(stream, lambda: owner.run(self.plan, addresses, stream))
        self.graphs[addresses] = graph
        return graph

    def free(self, driver: Driver) -> None:
        while self.graphs:
            driver.free_graph(self.graphs.popitem()[1])

    def add(self, driver: Driver, graph: int, after: int) -> int:
        return driver.add_graph(graph, after, self._graph(driver))

    def update(self, driver: Driver, ready: int, node: int) -> None:
        driver.update_graph(ready, node, self._graph(driver))


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
