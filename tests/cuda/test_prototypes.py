"""The ctypes prototypes of the driver against its header, by the system's C++ compiler: number, size and kind of each
argument."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from knetc.runtime.cuda.prototypes import DRIVER, KernelNodeParams

_CHECK = """
#include <cuda.h>
#include <type_traits>
struct Kinds { int n; unsigned size[16]; char kind[16]; };
template <class T> constexpr char kind() {
    return std::is_pointer<T>::value ? 'p' : std::is_floating_point<T>::value ? 'f' : 'i';
}
template <class R, class... A> constexpr Kinds of(R (*)(A...)) {
    return {sizeof...(A), {sizeof(A)...}, {kind<A>()...}};
}
constexpr bool same(Kinds a, Kinds b) {
    if (a.n != b.n) return false;
    for (int i = 0; i < a.n; i++) if (a.size[i] != b.size[i] || a.kind[i] != b.kind[i]) return false;
    return true;
}
"""

_FIELDS = (
    "func", "gridDimX", "gridDimY", "gridDimZ", "blockDimX", "blockDimY", "blockDimZ", "sharedMemBytes", "kernelParams",
    "extra", "kern", "ctx",
)  # fmt: skip


def header_folder() -> Path | None:
    """Where cuda.h is: Triton brings it."""
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "backends" / "nvidia" / "include"
    return folder if (folder / "cuda.h").exists() else None


def mismatches(prototypes: dict[str, tuple[type, ...]]) -> list[str]:
    """The functions whose prototypes differ from the header's."""
    compiler, folder = shutil.which("g++") or shutil.which("c++"), header_folder()
    if compiler is None or folder is None:
        pytest.skip("needs a C++ compiler, and cuda.h, which Triton's package brings")
    lines = [_CHECK]
    for name, types in prototypes.items():
        sizes = ", ".join(str(ctypes.sizeof(t)) for t in types)
        kinds = "".join("p" if t in (ctypes.c_void_p, ctypes.c_char_p) else "i" for t in types)
        declared = name.removesuffix("_v2")  # the header's macros add it
        lines.append(f'static_assert(same(of(&{declared}), Kinds{{{len(types)}, {{{sizes}}}, "{kinds}"}}), "{name}");')
    for field, theirs in zip(KernelNodeParams._fields_, _FIELDS, strict=True):
        place = getattr(KernelNodeParams, field[0]).offset
        lines.append(f'static_assert(__builtin_offsetof(CUDA_KERNEL_NODE_PARAMS, {theirs}) == {place}, "{theirs}");')
    lines.append(f'static_assert(sizeof(CUDA_KERNEL_NODE_PARAMS) == {ctypes.sizeof(KernelNodeParams)}, "size");')
    done = subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", "-w", f"-I{folder}", "-x", "c++", "-"],
        input="\n".join(lines), capture_output=True, text=True,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert bool(errors) == bool(done.returncode)
    return errors


def test_prototypes_are_the_header_s() -> None:
    assert mismatches(DRIVER) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"cuMemFree_v2": (ctypes.c_int,)},
        {"cuCtxSetCurrent": (ctypes.c_uint64,)},
        {"cuStreamCreate": (ctypes.c_void_p,)},
    ],
)
def test_wrong_prototypes_are_found(wrong: dict[str, tuple[type, ...]]) -> None:
    (error,) = mismatches(wrong)
    assert next(iter(wrong)) in error
