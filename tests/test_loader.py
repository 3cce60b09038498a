"""The loader: linking several objects, constants, data, names from outside, protection, and damaged files."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import struct
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.codegen.cpu import native
from knetc.runtime.base.errors import CacheError
from knetc.runtime.cpu import loader
from knetc.runtime.cpu.loader import Module, parse
from native_code import ADD, compiled, compiled_pool

CALLER = """
@factors = internal constant [4 x double] [double 1.5, double 2.5, double 3.5, double 4.5]
@calls = internal global i64 40
@empty = internal global [100 x i64] zeroinitializer
@shared = external global i64
declare double @k_callee(double)
declare double @cosh(double)
declare ptr @memset(ptr, i32, i64)
define double @k_caller(ptr %memory, i64 %which) #0 {
  %filled = call ptr @memset(ptr %memory, i32 7, i64 16)
  %old = load i64, ptr @calls
  %new = add i64 %old, 1
  store i64 %new, ptr @calls
  store i64 %new, ptr @shared
  %p = getelementptr double, ptr @factors, i64 %which
  %factor = load double, ptr %p
  %x = call double @k_callee(double %factor)
  %y = call double @cosh(double %x)
  %e = getelementptr i64, ptr @empty, i64 %which
  %zero = load i64, ptr %e
  %z = sitofp i64 %zero to double
  %r = fadd double %y, %z
  ret double %r
}
define i64 @k_calls() #0 {
  %n = load i64, ptr @shared
  ret i64 %n
}
"""
CALLEE = """
@shared = global i64 0
@table = internal constant [2 x ptr] [ptr @half, ptr @double]
define internal double @half(double %x) #1 {
  %y = fmul double %x, 0.5
  ret double %y
}
define internal double @double(double %x) #1 {
  %y = fmul double %x, 2.0
  ret double %y
}
define double @k_callee(double %x) #0 {
  %big = fcmp ogt double %x, 3.0
  %k = zext i1 %big to i64
  %p = getelementptr ptr, ptr @table, i64 %k
  %f = load volatile ptr, ptr %p
  %y = call double %f(double %x)
  ret double %y
}
attributes #1 = { nounwind noinline }
"""


def objects() -> list[bytes]:
    return [compiled(CALLER), compiled(CALLEE)]


@pytest.mark.parametrize("order", [1, -1])
def test_objects_call_each_other_and_libm(order: int) -> None:
    module = Module(objects()[::order])
    call = module.function("k_caller", ctypes.c_double, ctypes.c_void_p, ctypes.c_int64)
    memory = ctypes.create_string_buffer(32)
    for which, factor in enumerate((1.5, 2.5, 3.5, 4.5)):
        assert call(memory, which) == pytest.approx(math.cosh(factor * (2 if factor > 3 else 0.5)), rel=1e-14)
    assert memory.raw == b"\7" * 16 + bytes(16)
    assert module.function("k_calls", ctypes.c_int64)() == 44
    again = Module(objects())
    again.function("k_caller", ctypes.c_double, ctypes.c_void_p, ctypes.c_int64)(memory, 0)
    assert again.function("k_calls", ctypes.c_int64)() == 41, "each module has data of its own"


def test_imports_go_before_the_process() -> None:
    cosh = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: 100 + x)
    module = Module(objects(), {"cosh": ctypes.cast(cosh, ctypes.c_void_p).value or 0})
    call = module.function("k_caller", ctypes.c_double, ctypes.c_void_p, ctypes.c_int64)
    assert call(ctypes.create_string_buffer(32), 3) == 109


def test_what_is_missing_is_named() -> None:
    with pytest.raises(CacheError, match=r"need (shared|k_callee), which nothing"):
        Module([compiled(CALLER)])
    with pytest.raises(CacheError, match="two native objects define k_callee"):
        Module([compiled(CALLEE), compiled(CALLEE)])
    with pytest.raises(CacheError, match="do not define k_other"):
        Module(objects())["k_other"]


def test_code_is_not_writable_and_data_not_executable() -> None:
    module = Module(objects())
    spans = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, mode = line.split()[:2]
            lo, hi = (int(part, 16) for part in span.split("-"))
            spans.append((lo, hi, mode))
    for name, mode in (("k_caller", "r-xp"), ("k_callee", "r-xp"), ("shared", "rw-p")):
        assert [m for lo, hi, m in spans if lo <= module[name] < hi] == [mode]


def test_code_lives_as_long_as_a_function() -> None:
    module = Module(objects())
    call = module.function("k_calls", ctypes.c_int64)
    alive = weakref.ref(module)
    del module
    gc.collect()
    assert call() == 0
    del call
    gc.collect()
    assert alive() is None


def test_empty_module() -> None:
    assert Module([]).symbols == {}


def test_symbols_of_the_process() -> None:
    assert loader.process_symbol("memcpy")
    assert loader.process_symbol("expf")
    assert loader.process_symbol("PyLong_AsVoidPtr")
    assert loader.process_symbol("no_such_function") == 0


@pytest.mark.parametrize("level", ["native", "generic"])
def test_many_objects(level: str) -> None:
    target = native.target(level)
    texts = [ADD.replace("k_add", f"k_{k}") + native.attributes_text(target) for k in range(8)]
    module = Module([native.compile_ir(text, target) for text in texts])
    x, y, scalar = (ctypes.c_float * 20)(*range(20)), (ctypes.c_float * 20)(), ctypes.c_double(0.5)
    table = (ctypes.c_int64 * 3)(ctypes.addressof(x), ctypes.addressof(y), 0)
    ctypes.memmove(ctypes.addressof(table) + 16, ctypes.addressof(scalar), 8)
    for k in range(8):
        arguments = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32)
        module.function(f"k_{k}", None, *arguments)(table, 2 * k, 2 * k + 2, 0)
    assert list(y) == [k + 0.5 if k < 16 else 0 for k in range(20)]


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"not an object" * 20, bytes(200)])
def test_other_files(data: bytes) -> None:
    with pytest.raises(CacheError, match="damaged object"):
        parse(data)


def test_other_processors() -> None:
    data = bytearray(compiled(ADD))
    data[18] = 183  # aarch64
    with pytest.raises(CacheError, match="x86-64"):
        parse(bytes(data))


def patched(section_kind: int, offset: int, value: int) -> bytes:
    """An object with eight bytes changed in the last entry of its first section of a kind."""
    data = bytearray(compiled(CALLER))
    (table,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * k) for k in range(count)]
    begin, size = next((h[4], h[5]) for h in headers if h[1] == section_kind)
    struct.pack_into("<Q", data, begin + size - 24 + offset, value)
    return bytes(data)


SYMBOLS, RELOCATIONS = 2, 4


@pytest.mark.parametrize(
    "change",
    [
        (SYMBOLS, 8, 1 << 40),
        (RELOCATIONS, 0, 1 << 20),
        (RELOCATIONS, 0, (1 << 64) - 1),
        (RELOCATIONS, 8, 1 << 60 | 2),
    ],
)
def test_references_stay_inside_their_section(change: tuple[int, int, int]) -> None:
    with pytest.raises(CacheError, match="outside its section"):
        parse(patched(*change))


def test_unknown_relocations() -> None:
    with pytest.raises(CacheError, match="relocation of kind 99"):
        Module([patched(RELOCATIONS, 8, 3 << 32 | 99), compiled(CALLEE)])


def load_without_running(data: bytes) -> None:
    """Damage is an error or harmless to load; it must never crash the process."""
    with contextlib.suppress(CacheError):
        Module([data])


@given(st.data())
def test_flipped_bytes(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([compiled(ADD), compiled(CALLEE), compiled_pool()])))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    load_without_running(bytes(damaged))


@given(st.data())
def test_damaged_tables(data: st.DataObject) -> None:
    """Eight-byte fields of the section, symbol and relocation tables get numbers that are just wrong."""
    original = compiled(CALLEE)
    damaged = bytearray(original)
    place = data.draw(st.integers(0, len(damaged) // 4 - 2)) * 4
    width = data.draw(st.sampled_from([2, 4, 8]))
    extreme = st.sampled_from([0, 1, 2, 0x7F, 0xFFF1, len(original) - 1, len(original), len(original) + 1])
    wild = st.integers(0, (1 << 8 * width) - 1)
    damaged[place : place + width] = (data.draw(st.one_of(extreme, wild)) % (1 << 8 * width)).to_bytes(width, "little")
    load_without_running(bytes(damaged))


@given(st.integers(0, 3000))
def test_cut_off(length: int) -> None:
    data = compiled_pool()
    if length < len(data):
        load_without_running(data[:length])
