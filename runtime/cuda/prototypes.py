"""The driver's functions that are used: name to the types of their arguments. Each returns an int, 0 for success.

Names are those of the library's symbols (``_v2`` where the header's macros put it), so they say what is called whatever
header a driver was built with.
"""

from __future__ import annotations

import ctypes

POINTER = ctypes.c_void_p
"""Any pointer or handle."""
INT = ctypes.c_int
UNSIGNED = ctypes.c_uint
SIZE = ctypes.c_size_t
ADDRESS = ctypes.c_uint64
"""``CUdeviceptr``."""
BYTE = ctypes.c_ubyte
FLAGS = ctypes.c_ulonglong


class KernelNodeParams(ctypes.Structure):
    """``CUDA_KERNEL_NODE_PARAMS_v2``: a launch as a node of a graph."""

    _fields_ = (
        ("function", POINTER),
        ("grid_x", UNSIGNED),
        ("grid_y", UNSIGNED),
        ("grid_z", UNSIGNED),
        ("block_x", UNSIGNED),
        ("block_y", UNSIGNED),
        ("block_z", UNSIGNED),
        ("shared_bytes", UNSIGNED),
        ("parameters", POINTER),
        ("extra", POINTER),
        ("kernel", POINTER),
        ("context", POINTER),
    )


DRIVER: dict[str, tuple[type, ...]] = {
    "cuInit": (UNSIGNED,),
    "cuDriverGetVersion": (POINTER,),
    "cuGetErrorName": (INT, POINTER),
    "cuGetErrorString": (INT, POINTER),
    "cuDeviceGetCount": (POINTER,),
    "cuDeviceGet": (POINTER, INT),
    "cuDeviceGetName": (POINTER, INT, INT),
    "cuDeviceTotalMem_v2": (POINTER, INT),
    "cuDeviceGetAttribute": (POINTER, INT, INT),
    "cuDevicePrimaryCtxRetain": (POINTER, INT),
    "cuCtxSetCurrent": (POINTER,),
    "cuCtxGetCurrent": (POINTER,),
    "cuMemGetInfo_v2": (POINTER, POINTER),
    "cuMemAlloc_v2": (POINTER, SIZE),
    "cuMemFree_v2": (ADDRESS,),
    "cuMemHostAlloc": (POINTER, SIZE, UNSIGNED),
    "cuMemFreeHost": (POINTER,),
    "cuMemcpyHtoDAsync_v2": (ADDRESS, POINTER, SIZE, POINTER),
    "cuMemcpyDtoHAsync_v2": (POINTER, ADDRESS, SIZE, POINTER),
    "cuMemcpyDtoDAsync_v2": (ADDRESS, ADDRESS, SIZE, POINTER),
    "cuMemcpyPeerAsync": (ADDRESS, POINTER, ADDRESS, POINTER, SIZE, POINTER),
    "cuMemsetD8Async": (ADDRESS, BYTE, SIZE, POINTER),
    "cuStreamCreate": (POINTER, UNSIGNED),
    "cuStreamSynchronize": (POINTER,),
    "cuStreamWaitEvent": (POINTER, POINTER, UNSIGNED),
    "cuStreamIsCapturing": (POINTER, POINTER),
    "cuStreamBeginCapture_v2": (POINTER, INT),
    "cuStreamEndCapture": (POINTER, POINTER),
    "cuEventCreate": (POINTER, UNSIGNED),
    "cuEventDestroy_v2": (POINTER,),
    "cuEventRecord": (POINTER, POINTER),
    "cuEventSynchronize": (POINTER,),
    "cuEventQuery": (POINTER,),
    "cuEventElapsedTime": (POINTER, POINTER, POINTER),
    "cuModuleLoadData": (POINTER, POINTER),
    "cuModuleUnload": (POINTER,),
    "cuModuleGetFunction": (POINTER, POINTER, ctypes.c_char_p),
    "cuFuncSetAttribute": (POINTER, INT, INT),
    "cuLaunchKernel": (
        POINTER, UNSIGNED, UNSIGNED, UNSIGNED, UNSIGNED, UNSIGNED, UNSIGNED, UNSIGNED, POINTER, POINTER, POINTER,
    ),
    "cuGraphCreate": (POINTER, UNSIGNED),
    "cuGraphDestroy": (POINTER,),
    "cuGraphAddKernelNode_v2": (POINTER, POINTER, POINTER, SIZE, POINTER),
    "cuGraphAddChildGraphNode": (POINTER, POINTER, POINTER, SIZE, POINTER),
    "cuGraphInstantiateWithFlags": (POINTER, POINTER, FLAGS),
    "cuGraphExecKernelNodeSetParams_v2": (POINTER, POINTER, POINTER),
    "cuGraphExecChildGraphNodeSetParams": (POINTER, POINTER, POINTER),
    "cuGraphExecDestroy": (POINTER,),
    "cuGraphLaunch": (POINTER, POINTER),
}  # fmt: skip

# Numbers from cuda.h.
OUT_OF_MEMORY = 2
NOT_READY = 600
LOST = frozenset((214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721))
"""Errors after which a context answers nothing else: a kernel that read or wrote where nothing is, and the like."""

FILES = ("libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1", "/run/opengl-driver/lib/libcuda.so.1")
"""Where the driver's library is: where the linker looks, and where it does not (WSL in containers, NixOS)."""

ADVICE = {
    3: "this process was forked from one that had used the GPU, perhaps by another library: start processes with "
    "multiprocessing's 'spawn' method",
    4: "the process is ending, and the driver has been shut down",
    34: "this is the toolkit's stub of the driver: take its folder out of LD_LIBRARY_PATH",
    46: "another process has the GPU for itself, or it is being reset",
    200: "the machine code is damaged, or newer than this driver knows: clear the cache with 'knetc cache clear', "
    "install a newer driver, or an older Triton",
    209: "the machine code is for another architecture than this GPU's; clear the cache with 'knetc cache clear'",
    218: "the driver cannot compile this code: it may be older than the compiler",
    222: "the driver is older than the compiler of this kernel: install a newer driver, or an older Triton",
    802: "the system is not ready yet: on machines with NVSwitch its fabric manager must run",
    803: "the driver's library and the kernel's module are of different versions: restart the machine",
    804: "the compatibility package does not support this GPU: use the driver's own libcuda",
}
"""What to do about an error, by its number."""

MULTIPROCESSORS = 16
MAJOR, MINOR = 75, 76
SHARED_OPTIN = 97
"""Device attributes."""

FUNCTION_MAX_DYNAMIC_SHARED = 8
"""Function attribute."""

NON_BLOCKING = 1
DISABLE_TIMING = 2
CAPTURE_RELAXED = 2
