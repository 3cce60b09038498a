"""What the runtime asks of a GPU's driver, and the real one: libcuda by ctypes.

``Driver`` is the whole of it; a device can be simulated by another class with these methods. Handles (of functions,
streams, graphs) are integers whose meaning only the driver knows. Every call that the driver refuses raises, and says
what was asked.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from knetc.runtime.base.errors import CudaError, DeviceError
from knetc.runtime.cuda import prototypes
from knetc.runtime.cuda.prototypes import ADVICE, DRIVER, LOST, OUT_OF_MEMORY, POINTER, UNSIGNED, KernelNodeParams


@dataclass(frozen=True)
class Properties:
    """What a device is."""

    name: str
    arch: int
    """Compute capability, major times ten plus minor: 90 for an H200."""
    memory_bytes: int
    multiprocessors: int
    shared_bytes: int
    """The most dynamic shared memory that a block may ask for."""
    driver_version: int
    """1000 times the major version of CUDA that the driver knows, plus ten times the minor one."""


class Launch:
    """A kernel with its grid and its parameters, packed as the driver takes them: launched as it is, or as a graph's
    node. The parameters may be written anew between launches; each launch copies them."""

    __slots__ = (
        "_call",
        "_stream",
        "block",
        "function",
        "grid",
        "node",
        "offsets",
        "packed",
        "pointers",
        "shared_bytes",
    )

    def __init__(
        self, function: int, grid: Sequence[int], block: int, shared_bytes: int, parameters: str, values: Sequence[Any]
    ) -> None:
        """``parameters`` is the ``struct`` format of the values, beginning with ``@`` (the C compiler's alignment)."""
        self.function = function
        self.grid = (*grid, 1, 1)[:3]
        self.block = block
        self.shared_bytes = shared_bytes
        self.offsets = parameter_offsets(parameters)
        self.packed = (ctypes.c_char * max(struct.calcsize(parameters), 1))()
        struct.pack_into(parameters, self.packed, 0, *values)
        base = ctypes.addressof(self.packed)
        self.pointers = (ctypes.c_void_p * max(len(self.offsets), 1))(*(base + offset for offset in self.offsets))
        self.node = KernelNodeParams(
            function, *self.grid, block, 1, 1, shared_bytes, ctypes.addressof(self.pointers), None, None, None
        )
        self._stream = -1
        self._call: tuple[Any, ...] = ()

    def call(self, stream: int) -> tuple[Any, ...]:
        """What ``cuLaunchKernel`` is called with, as ctypes' objects: to make these anew would take longer than the
        call."""
        if stream != self._stream:
            sizes = (*self.grid, self.block, 1, 1, self.shared_bytes)
            handles = POINTER(self.function), POINTER(stream)
            self._call = (handles[0], *map(UNSIGNED, sizes), handles[1], self.pointers, POINTER())
            self._stream = stream
        return self._call


def parameter_offsets(parameters: str) -> list[int]:
    """Where each parameter of a ``struct`` format with native alignment lies.

    >>> parameter_offsets("@QifqQ")
    [0, 8, 12, 16, 24]
    """
    kinds = parameters.removeprefix("@")
    return [struct.calcsize("@" + kinds[: k + 1]) - struct.calcsize("@" + kind) for k, kind in enumerate(kinds)]


class Driver(Protocol):
    """Everything that is asked of a driver. Calls but ``count`` and ``open`` work on the device entered last by the
    calling thread."""

    def count(self) -> int:
        """How many devices there are; raises DeviceError, with what to do, when there is no driver."""

    def open(self, ordinal: int) -> Properties:
        """Make a device ready for use."""

    def enter(self, ordinal: int) -> int | None:
        """Let this thread's calls go to a device that was opened; returns what is to be given to ``leave`` in the end,
        None if nothing is: another library of this thread may be using another device."""

    def leave(self, before: int) -> None:
        """Let this thread's calls go where they went before ``enter``."""

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and bytes that there are, in the device as a whole."""

    def allocate(self, size_bytes: int) -> int:
        """The address of fresh memory, a multiple of 256; raises MemoryError when there is none."""

    def free(self, address: int) -> None:
        """Give memory back, which no work uses any more."""

    def allocate_host(self, size_bytes: int) -> int:
        """The address of host memory that the device reaches by itself."""

    def free_host(self, address: int) -> None: ...

    def stream(self) -> int:
        """A new queue of work, done in order."""

    def synchronize(self, stream: int) -> None:
        """Wait until all work of a stream is done; raises CudaError if some of it failed."""

    def wait(self, stream: int, other: int) -> None:
        """Let later work of ``stream`` wait for the work that ``other`` has now."""

    def capturing(self, stream: int) -> bool:
        """Whether somebody is making a graph of what is put into a stream."""

    def event(self, timed: bool = False) -> int:
        """A new mark that can be put into a stream, with the time if that is asked for."""

    def record(self, event: int, stream: int) -> None: ...
    def wait_event(self, stream: int, event: int) -> None:
        """Let later work of a stream wait until another one has come to where the event was recorded last."""

    def is_done(self, event: int) -> bool:
        """Whether the stream has come to where the event was recorded last."""

    def await_event(self, event: int) -> None:
        """Wait until the stream has come to where the event was recorded last."""

    def milliseconds(self, start: int, end: int) -> float:
        """The time from one recorded event to another."""

    def free_event(self, event: int) -> None: ...
    def to_device(self, address: int, host: int, size_bytes: int, stream: int) -> None: ...
    def to_host(self, host: int, address: int, size_bytes: int, stream: int) -> None: ...
    def copy(self, to: int, address: int, size_bytes: int, stream: int) -> None: ...
    def copy_from(self, to: int, ordinal: int, address: int, source: int, size_bytes: int, stream: int) -> None:
        """Copy to device ``ordinal`` from device ``source``, in a stream of the device that was entered."""

    def fill(self, address: int, byte: int, size_bytes: int, stream: int) -> None: ...
    def load(self, code: bytes) -> int:
        """A module of machine code."""

    def unload(self, module: int) -> None: ...
    def function(self, module: int, name: str, shared_bytes: int) -> int:
        """A kernel of a module, allowed to use this much dynamic shared memory."""

    def launch(self, launch: Launch, stream: int) -> None: ...
    def graph(self) -> int:
        """A new, empty graph."""

    def free_graph(self, graph: int) -> None: ...
    def add_kernel(self, graph: int, after: int, launch: Launch) -> int:
        """Put a launch into a graph behind the node ``after`` (0: none); returns its node."""

    def add_graph(self, graph: int, after: int, inner: int) -> int:
        """Put a copy of another graph into a graph behind a node; returns its node."""

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """A graph of what ``work`` puts into a stream, which is not done now."""

    def instantiate(self, graph: int) -> int:
        """A graph made ready to be launched."""

    def update_kernel(self, ready: int, node: int, launch: Launch) -> None:
        """Give a node of a ready graph a launch's parameters, for the launches to come."""

    def update_graph(self, ready: int, node: int, inner: int) -> None:
        """Give a node that is a graph another graph of the same form."""

    def launch_graph(self, ready: int, stream: int) -> None: ...
    def free_ready(self, ready: int) -> None: ...


class CudaDriver:
    """The driver of the machine's NVIDIA GPUs."""

    def __init__(self, *libraries: str) -> None:
        """The first of the files that can be loaded, where the system has them if none are named. Raises DeviceError,
        with what is missing, where there is no driver or no device."""
        self._library = _loaded(libraries or prototypes.FILES)
        for name, types in DRIVER.items():
            function = getattr(self._library, name, None)
            if function is None:
                raise DeviceError(
                    f"the CUDA driver has no {name}: it is too old; install one for CUDA 12.0 or newer, or use "
                    "device='cpu'"
                )
            function.argtypes, function.restype = types, ctypes.c_int
        code = self._library.cuInit(0)
        if code:
            raise DeviceError(
                f"the CUDA driver does not start: {self._name(code)}: "
                + ADVICE.get(code, "see whether nvidia-smi finds a GPU, and whether CUDA_VISIBLE_DEVICES hides it")
                + "; or use device='cpu'"
            )
        self._launch = self._library["cuLaunchKernel"]  # an object of its own, which converts nothing
        self._graph_launch = self._library.cuGraphLaunch
        self._set_current = self._library["cuCtxSetCurrent"]
        self._get_current = self._library["cuCtxGetCurrent"]
        self._wait_event = self._library.cuStreamWaitEvent
        self._record = self._library.cuEventRecord
        self._set_kernel = self._library.cuGraphExecKernelNodeSetParams_v2
        self._contexts: dict[int, int] = {}
        self._threads = _Threads()

    # --- calls

    def _name(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(code, ctypes.byref(text))
        return f"{text.value.decode() if text.value else 'CUDA error'} ({code})"

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            self._fail(code, name, arguments)

    def _fail(self, code: int, name: str, arguments: Sequence[Any]) -> NoReturn:
        """Raises for what the driver answered."""
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode() if text.value else "no explanation"
        asked = ", ".join(_shown(argument) for argument in arguments)
        message = f"{name}({asked}): {self._name(code)}: {said}"
        if code == OUT_OF_MEMORY:
            raise MemoryError(message)
        if code in ADVICE:
            message += f"; {ADVICE[code]}"
        if code in LOST:
            message += (
                "; the device cannot be used by this process any more: start it again. A kernel that ran before "
                "(launches are asynchronous) reached memory that is not its own, or did not end"
            )
        raise CudaError(message)

    def _handle(self, name: str, *arguments: Any) -> int:
        """Calls a function that gives out a handle by its first argument."""
        made = ctypes.c_void_p()
        self._call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    # --- devices

    def count(self) -> int:
        number = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(number))
        return number.value

    def open(self, ordinal: int) -> Properties:
        found = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(found), ordinal)
        if ordinal not in self._contexts:
            self._contexts[ordinal] = self._handle("cuDevicePrimaryCtxRetain", found.value)
        name = ctypes.create_string_buffer(128)
        self._call("cuDeviceGetName", ctypes.addressof(name), len(name), found.value)
        memory, version = ctypes.c_size_t(), ctypes.c_int()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(memory), found.value)
        self._call("cuDriverGetVersion", ctypes.byref(version))

        def attribute(which: int) -> int:
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), which, found.value)
            return value.value

        return Properties(
            name.value.decode(errors="replace"),
            10 * attribute(prototypes.MAJOR) + attribute(prototypes.MINOR),
            memory.value,
            attribute(prototypes.MULTIPROCESSORS),
            attribute(prototypes.SHARED_OPTIN),
            version.value,
        )

    def enter(self, ordinal: int) -> int | None:
        context, thread = self._contexts[ordinal], self._threads
        self._get_current(thread.found)
        before = thread.context.value
        if before == context:
            return None
        self._enter(context)
        return before or 0 if before or ordinal else None  # who had none gets device 0 from other libraries too

    def leave(self, before: int) -> None:
        self._enter(before)

    def _enter(self, context: int) -> None:
        code = self._set_current(POINTER(context))
        if code:
            self._fail(code, "cuCtxSetCurrent", (context,))

    # --- memory

    def memory(self) -> tuple[int, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size_bytes: int) -> int:
        return self._handle("cuMemAlloc_v2", size_bytes)

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", address)

    def allocate_host(self, size_bytes: int) -> int:
        return self._handle("cuMemHostAlloc", size_bytes, 0)

    def free_host(self, address: int) -> None:
        self._call("cuMemFreeHost", address)

    def to_device(self, address: int, host: int, size_bytes: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync_v2", address, host, size_bytes, stream)

    def to_host(self, host: int, address: int, size_bytes: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync_v2", host, address, size_bytes, stream)

    def copy(self, to: int, address: int, size_bytes: int, stream: int) -> None:
        self._call("cuMemcpyDtoDAsync_v2", to, address, size_bytes, stream)

    def copy_from(self, to: int, ordinal: int, address: int, source: int, size_bytes: int, stream: int) -> None:
        contexts = self._contexts
        self._call("cuMemcpyPeerAsync", to, contexts[ordinal], address, contexts[source], size_bytes, stream)

    def fill(self, address: int, byte: int, size_bytes: int, stream: int) -> None:
        self._call("cuMemsetD8Async", address, byte, size_bytes, stream)

    # --- streams and events

    def stream(self) -> int:
        return self._handle("cuStreamCreate", prototypes.NON_BLOCKING)

    def synchronize(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def wait(self, stream: int, other: int) -> None:
        event = self.event()
        try:
            self.record(event, other)
            self.wait_event(stream, event)
        finally:
            self.free_event(event)

    def capturing(self, stream: int) -> bool:
        status = ctypes.c_int()
        self._call("cuStreamIsCapturing", stream, ctypes.byref(status))
        return bool(status.value)

    def event(self, timed: bool = False) -> int:
        return self._handle("cuEventCreate", 0 if timed else prototypes.DISABLE_TIMING)

    def record(self, event: int, stream: int) -> None:
        code = self._record(event, stream)
        if code:
            self._fail(code, "cuEventRecord", (event, stream))

    def wait_event(self, stream: int, event: int) -> None:
        code = self._wait_event(stream, event, 0)
        if code:
            self._fail(code, "cuStreamWaitEvent", (stream, event))

    def is_done(self, event: int) -> bool:
        code = self._library.cuEventQuery(event)
        if code not in (0, prototypes.NOT_READY):
            self._fail(code, "cuEventQuery", (event,))
        return not code

    def await_event(self, event: int) -> None:
        self._call("cuEventSynchronize", event)

    def milliseconds(self, start: int, end: int) -> float:
        elapsed = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(elapsed), start, end)
        return elapsed.value

    def free_event(self, event: int) -> None:
        self._call("cuEventDestroy_v2", event)

    # --- kernels

    def load(self, code: bytes) -> int:
        module = ctypes.c_void_p()
        answer = self._library.cuModuleLoadData(ctypes.byref(module), code)
        if answer:
            self._fail(answer, "cuModuleLoadData", (f"{len(code)} bytes",))
        return module.value or 0

    def unload(self, module: int) -> None:
        self._call("cuModuleUnload", module)

    def function(self, module: int, name: str, shared_bytes: int) -> int:
        function = self._handle("cuModuleGetFunction", module, name.encode())
        if shared_bytes > 48 << 10:  # more must be asked for
            self._call("cuFuncSetAttribute", function, prototypes.FUNCTION_MAX_DYNAMIC_SHARED, shared_bytes)
        return function

    def launch(self, launch: Launch, stream: int) -> None:
        code = self._launch(*launch.call(stream))
        if code:
            self._fail(code, "cuLaunchKernel", (launch.function, *launch.grid, launch.block, launch.shared_bytes))

    # --- graphs

    def graph(self) -> int:
        return self._handle("cuGraphCreate", 0)

    def free_graph(self, graph: int) -> None:
        self._call("cuGraphDestroy", graph)

    def add_kernel(self, graph: int, after: int, launch: Launch) -> int:
        before = (ctypes.c_void_p * 1)(after)
        return self._handle("cuGraphAddKernelNode_v2", graph, before, int(bool(after)), ctypes.byref(launch.node))

    def add_graph(self, graph: int, after: int, inner: int) -> int:
        before = (ctypes.c_void_p * 1)(after)
        return self._handle("cuGraphAddChildGraphNode", graph, before, int(bool(after)), inner)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        self._call("cuStreamBeginCapture_v2", stream, prototypes.CAPTURE_RELAXED)
        graph = ctypes.c_void_p()
        try:
            work()
        except BaseException:  # what went wrong first is told, not that the graph came to nothing
            if not self._library.cuStreamEndCapture(stream, ctypes.byref(graph)) and graph.value:
                self.free_graph(graph.value)
            raise
        self._call("cuStreamEndCapture", stream, ctypes.byref(graph))
        return graph.value or 0

    def instantiate(self, graph: int) -> int:
        return self._handle("cuGraphInstantiateWithFlags", graph, 0)

    def update_kernel(self, ready: int, node: int, launch: Launch) -> None:
        code = self._set_kernel(ready, node, ctypes.byref(launch.node))
        if code:
            self._fail(code, "cuGraphExecKernelNodeSetParams_v2", (ready, node))

    def update_graph(self, ready: int, node: int, inner: int) -> None:
        self._call("cuGraphExecChildGraphNodeSetParams", ready, node, inner)

    def launch_graph(self, ready: int, stream: int) -> None:
        code = self._graph_launch(ready, stream)
        if code:
            self._fail(code, "cuGraphLaunch", (ready, stream))

    def free_ready(self, ready: int) -> None:
        self._call("cuGraphExecDestroy", ready)


class _Threads(threading.local):
    """A place for the driver's answer in each thread."""

    def __init__(self) -> None:
        self.context = POINTER()
        self.found = ctypes.byref(self.context)


def _loaded(files: Sequence[str]) -> ctypes.CDLL:
    """The first of the files that can be loaded."""
    refused = []
    for file in files:
        try:
            return ctypes.CDLL(file)
        except OSError as error:
            refused.append(str(error))
    raise DeviceError(
        f"there is no CUDA driver here ({refused[0]}); install NVIDIA's display driver (in a container: start it with "
        "the GPUs, as 'docker run --gpus all' does), or use device='cpu'"
    )


def _shown(argument: Any) -> str:
    """An argument of a driver call for people."""
    if isinstance(argument, int):
        return f"{argument:,}" if argument < 1 << 40 else f"{argument:#x}"
    return repr(argument) if isinstance(argument, (bytes, str)) else "…"
