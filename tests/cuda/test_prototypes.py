"""The ctypes prototypes of the driver and of cuBLASLt against their headers, by the system's C++ compiler: number, size
and kind of each argument, the places of structures' fields, the values of enumerations."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from knetc.runtime.base.errors import CudaError
from knetc.runtime.cuda import cublaslt, libraries
from knetc.runtime.cuda.prototypes import DRIVER, KernelNodeParams

_CHECK = """
#include <type_traits>
struct Kinds { int n; unsigned size[32]; char kind[32]; };
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

_NUMBERS = """
#define __CUDA_FP16_H__
#define __CUDA_BF16_H__
struct __half { unsigned short x; };
struct __nv_bfloat16 { unsigned short x; };
"""
"""In place of two headers that need a whole toolkit around them."""

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


def cublaslt_folder() -> Path | None:
    """Where cublasLt.h is: NVIDIA's packages bring it, in the same folder as the library."""
    found = (header for folder in sys.path for header in Path(folder, "nvidia").glob("*/include/cublasLt.h"))
    return next((header.parent for header in found), None)


def mismatches(
    header: str, prototypes: Mapping[str, Sequence[type]], more: Sequence[str] = (), folders: Sequence[Path] = ()
) -> list[str]:
    """The functions whose prototypes differ from the header's, and what else does not hold."""
    compiler, folder = shutil.which("g++") or shutil.which("c++"), header_folder()
    if compiler is None or folder is None:
        pytest.skip("needs a C++ compiler, and cuda.h, which Triton's package brings")
    lines = [_NUMBERS, f"#include <{header}>", _CHECK]
    for name, types in prototypes.items():
        sizes = ", ".join(str(ctypes.sizeof(t)) for t in types)
        kinds = "".join("p" if t in (ctypes.c_void_p, ctypes.c_char_p) else "i" for t in types)
        declared = name.removesuffix("_v2")  # the header's macros add it
        lines.append(f'static_assert(same(of(&{declared}), Kinds{{{len(types)}, {{{sizes}}}, "{kinds}"}}), "{name}");')
    folders = [*folders, folder]
    done = subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", "-w", *(f"-I{f}" for f in folders), "-x", "c++", "-"],
        input="\n".join([*lines, *more]), capture_output=True, text=True,
    )  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert bool(errors) == bool(done.returncode)
    return errors


def layout(theirs: str, ours: type[ctypes.Structure], fields: Sequence[str]) -> list[str]:
    """Assertions that a structure is laid out as the header's."""
    lines = [f'static_assert(sizeof({theirs}) == {ctypes.sizeof(ours)}, "size of {theirs}");']
    for field, name in zip(ours._fields_, fields, strict=True):
        place = getattr(ours, field[0]).offset
        lines.append(f'static_assert(__builtin_offsetof({theirs}, {name}) == {place}, "{name}");')
    return lines


def test_prototypes_are_the_header_s() -> None:
    assert mismatches("cuda.h", DRIVER, layout("CUDA_KERNEL_NODE_PARAMS", KernelNodeParams, _FIELDS)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"cuMemFree_v2": (ctypes.c_int,)},
        {"cuCtxSetCurrent": (ctypes.c_uint64,)},
        {"cuStreamCreate": (ctypes.c_void_p,)},
    ],
)
def test_wrong_prototypes_are_found(wrong: dict[str, tuple[type, ...]]) -> None:
    (error,) = mismatches("cuda.h", wrong)
    assert next(iter(wrong)) in error


def cublaslt_mismatches(functions: Mapping[str, Sequence[type]], numbers: Mapping[str, int]) -> list[str]:
    folder = cublaslt_folder()
    if folder is None:
        pytest.skip("needs cublasLt.h, which NVIDIA's package of cuBLAS brings")
    checks = [f'static_assert(int({name}) == {value}, "{name}");' for name, value in numbers.items()]
    for theirs, ours in (("Algo", cublaslt.Algorithm), ("HeuristicResult", cublaslt.Heuristic)):
        checks += layout(f"cublasLtMatmul{theirs}_t", ours, [field[0] for field in ours._fields_])
    checks += [f'static_assert(same(of(&{cublaslt.STATUS_NAME}), Kinds{{1, {{4}}, "i"}}), "status");']
    return mismatches("cublasLt.h", functions, checks, [folder])


def test_cublaslt_is_the_header_s() -> None:
    assert cublaslt_mismatches(cublaslt.FUNCTIONS, cublaslt.NUMBERS) == []


@pytest.mark.parametrize(
    ("functions", "numbers"),
    [
        ({"cublasLtCreate": (ctypes.c_int,)}, {}),
        ({"cublasLtMatrixLayoutCreate": (ctypes.c_void_p, ctypes.c_int, *(ctypes.c_int,) * 3)}, {}),
        ({}, {"CUBLASLT_EPILOGUE_RELU": 4}),
    ],
)
def test_what_differs_from_cublaslt_is_found(functions: dict[str, tuple[type, ...]], numbers: dict[str, int]) -> None:
    (error,) = cublaslt_mismatches(functions, numbers)
    assert next(iter({**functions, **numbers})) in error


@pytest.mark.parametrize(
    ("what", "attribute", "kind"),
    [
        ("MatmulDesc", "CUBLASLT_MATMUL_DESC_TRANSA", ctypes.c_int32),
        ("MatmulDesc", "CUBLASLT_MATMUL_DESC_EPILOGUE", ctypes.c_uint32),
        ("MatmulDesc", "CUBLASLT_MATMUL_DESC_BIAS_POINTER", ctypes.c_uint64),
        ("MatmulDesc", "CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE", ctypes.c_int32),
        ("MatrixLayout", "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT", ctypes.c_int32),
        ("MatrixLayout", "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET", ctypes.c_int64),
        ("MatmulPreference", "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES", ctypes.c_uint64),
        ("MatmulPreference", "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES", ctypes.c_uint32),
    ],
)
def test_cublaslt_takes_attributes_of_these_sizes(what: str, attribute: str, kind: type) -> None:
    """The library compares sizes; this needs no GPU."""
    try:
        library = libraries.load(libraries.CUBLASLT)
    except CudaError as error:
        pytest.skip(str(error))
    for name, types in cublaslt.FUNCTIONS.items():
        getattr(library, name).argtypes = types
    made = ctypes.c_void_p()
    given = {"MatmulDesc": (68, 0), "MatrixLayout": (0, 8, 8, 8), "MatmulPreference": ()}[what]
    assert getattr(library, f"cublasLt{what}Create")(ctypes.byref(made), *given) == 0
    put, number, value = getattr(library, f"cublasLt{what}SetAttribute"), cublaslt.NUMBERS[attribute], kind()
    try:
        assert put(made, number, ctypes.byref(value), ctypes.sizeof(kind)) == 0
        assert put(made, number, ctypes.byref(value), 2) != 0
    finally:
        getattr(library, f"cublasLt{what}Destroy")(made)
