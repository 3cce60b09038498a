"""A small linker and loader: relocatable ELF objects become callable code in this process.

All objects of a program go into one region, so that near calls between them reach. The region is filled while it is
writable and then made executable and read-only; only ``.data`` and ``.bss`` stay writable. What the objects do not
define themselves (``memcpy``, ``expf``, ``PyLong_AsVoidPtr`` …) is looked up by name. The bytes may come from a
damaged file: every number in them is checked before it is used, and CacheError says what is wrong.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from knetc.runtime.base.errors import CacheError, CompileError
from knetc.runtime.cpu.host import architecture

_PAGE = mmap.PAGESIZE
_LIMIT = 1 << 30
"""No region is larger, so that every near reference within one reaches."""

_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")

# kinds and flags of sections
_SYMTAB, _STRTAB, _RELA, _NOBITS, _UNWIND = 2, 3, 4, 8, 0x70000001
_WRITE, _ALLOC, _TLS = 1, 2, 0x400
# special section numbers of symbols
_UNDEFINED, _RESERVED, _ABSOLUTE = 0, 0xFF00, 0xFFF1
_LOCAL, _WEAK = 0, 2

# x86-64 relocations: S symbol, A addend, P place, G slot that holds the symbol's address
_ABS64, _PC32, _PLT32, _GOTPCREL, _ABS32, _ABS32S, _PC64 = 1, 2, 4, 9, 10, 11, 24
_GOTPCRELX, _REX_GOTPCRELX = 41, 42
_NEAR = frozenset((_PC32, _PLT32))
_GOT = frozenset((_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX))
_SLOT_BYTES = 16
"""Of each symbol from outside: its address, and ``jmp *address``, for calls that cannot reach it."""

_I32, _U32, _I64, _U64 = struct.Struct("<i"), struct.Struct("<I"), struct.Struct("<q"), struct.Struct("<Q")


@dataclass(slots=True)
class _Section:
    kind: int
    flags: int
    offset: int
    size: int
    align: int
    link: int
    info: int
    place: int = -1
    """Offset in the region; -1 when the section is not loaded."""


@dataclass(frozen=True, slots=True)
class ParsedObject:
    """The parts of an object file that loading needs, checked against the file's bounds."""

    data: bytes
    sections: list[_Section]
    symbols: list[tuple[str, int, int, int]]
    """Name, binding, section number and value."""
    relocations: list[tuple[_Section, list[tuple[int, int, int, int]]]]
    """For each loaded section: offset, kind, symbol number and addend."""


def parse(data: bytes) -> ParsedObject:
    """The sections, symbols and relocations of a relocatable x86-64 ELF object; raises CacheError for anything else."""
    try:
        return _parse(data)
    except struct.error as error:
        raise CacheError(f"damaged object: {error}") from error


def _parse(data: bytes) -> ParsedObject:
    (identity, kind, machine, _, _, _, table, _, _, _, _, entry_size, count, _) = _FILE_HEADER.unpack_from(data)
    if identity[:7] != b"\x7fELF\x02\x01\x01" or kind != 1 or machine != 62 or entry_size != _SECTION.size:
        raise CacheError("damaged object: not a relocatable x86-64 ELF file")
    if table + count * _SECTION.size > len(data):
        raise CacheError("damaged object: the section table is cut off")
    sections = []
    for _, kind, flags, _, offset, size, link, info, align, _ in _SECTION.iter_unpack(
        memoryview(data)[table : table + count * _SECTION.size]
    ):
        if kind == _NOBITS:
            if size > _LIMIT:
                raise CacheError(f"damaged object: a section of {size} bytes")
        elif offset + size > len(data):
            raise CacheError("damaged object: a section ends behind the file's end")
        if flags & _TLS:
            raise CacheError("the object has thread-local data, which cannot be loaded")
        if align & (align - 1) or align > _PAGE:
            raise CacheError(f"damaged object: alignment {align}")
        sections.append(_Section(kind, flags, offset, size, max(align, 1), link, info))
    tables = [k for k, section in enumerate(sections) if section.kind == _SYMTAB]
    if len(tables) != 1:
        raise CacheError(f"damaged object: {len(tables)} symbol tables")
    symbols = _symbols(data, sections, tables[0])
    relocations = []
    for section in sections:
        if section.kind == _RELA:
            if section.info >= count or section.link != tables[0] or section.size % _RELOCATION.size:
                raise CacheError("damaged object: relocations for no section")
            changed = sections[section.info]
            if not _is_loaded(changed):
                continue
            # r_info holds the kind in its low and the symbol in its high half
            entries = list(_RELOCATION.iter_unpack(_bytes(data, section)))
            for offset, kind, symbol, _ in entries:
                width = 8 if kind in (_ABS64, _PC64) else 4
                if symbol >= len(symbols) or offset + width > changed.size or changed.kind == _NOBITS:
                    raise CacheError("damaged object: a relocation outside its section")
            relocations.append((changed, entries))
    return ParsedObject(data, sections, symbols, relocations)


def _bytes(data: bytes, section: _Section) -> bytes:
    return b"" if section.kind == _NOBITS else data[section.offset : section.offset + section.size]


def _is_loaded(section: _Section) -> bool:
    return bool(section.flags & _ALLOC) and section.kind != _UNWIND and section.size > 0


def _symbols(data: bytes, sections: list[_Section], index: int) -> list[tuple[str, int, int, int]]:
    table = sections[index]
    if table.link >= len(sections) or sections[table.link].kind != _STRTAB or table.size % _SYMBOL.size:
        raise CacheError("damaged object: the symbol table has no names")
    names = _bytes(data, sections[table.link])
    symbols = []
    for name, info, _, section, value, _ in _SYMBOL.iter_unpack(_bytes(data, table)):
        end = names.find(b"\0", name)
        if end < 0:
            raise CacheError("damaged object: a symbol's name is cut off")
        if section >= _RESERVED:
            # the file's own name (binding local, absolute) is the only one that compilers emit for us
            if section != _ABSOLUTE:
                raise CacheError(f"damaged object: a symbol in section {section}")
        elif section >= len(sections) or value > sections[section].size:
            raise CacheError("damaged object: a symbol outside its section")
        symbols.append((names[name:end].decode("utf-8", "replace"), info >> 4, section, value))
    return symbols


class Module:
    """Loaded code: addresses by symbol, valid while this object lives.

    ``objects`` are the bytes of ELF objects, ``imports`` addresses by name that go before the C library's, libm's and
    CPython's. Raises CacheError when an object is damaged or lacks a symbol, CompileError when the system refuses
    executable memory.

    >>> module = Module([object_bytes])                                               # doctest: +SKIP
    >>> module.function("k_add", ctypes.c_int, ctypes.c_int)(4)                       # doctest: +SKIP
    """

    __slots__ = ("__weakref__", "_region", "size_bytes", "symbols")

    symbols: dict[str, int]
    """Address of each global symbol that the objects define."""
    size_bytes: int
    """Memory that the code takes."""
    _region: mmap.mmap

    def __init__(self, objects: Sequence[bytes], imports: Mapping[str, int] | None = None) -> None:
        parsed = [parse(data) for data in objects]
        _Link(self, parsed, imports or {})

    def __getitem__(self, name: str) -> int:
        """Address of a symbol; raises CacheError when no object defines it."""
        try:
            return self.symbols[name]
        except KeyError:
            raise CacheError(f"the native objects do not define {name}") from None

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """A symbol as a ctypes function (which releases the GIL) that keeps the code loaded."""
        function = ctypes.CFUNCTYPE(result, *arguments)(self[name])
        function.module = self  # type: ignore[attr-defined]
        return function


class _Link:
    """The work of loading: lay out, fill, relocate, protect."""

    def __init__(self, module: Module, objects: list[ParsedObject], imports: Mapping[str, int]) -> None:
        self.imports = imports
        fixed, writable = self._lay_out(objects)
        self.region = mmap.mmap(-1, max(writable, _PAGE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.region))
        symbols = self._define(objects)
        for parsed in objects:
            for section in parsed.sections:
                if section.place >= 0 and section.kind != _NOBITS:
                    self.region[section.place : section.place + section.size] = _bytes(parsed.data, section)
        for parsed in objects:
            self._relocate(parsed, symbols)
        if fixed:
            _protect(self.base, fixed)
        module.symbols = symbols
        module.size_bytes = writable
        module._region = self.region

    def _lay_out(self, objects: list[ParsedObject]) -> tuple[int, int]:
        """Places for all sections: code and constants, slots for names from outside, then writable data."""
        end = 0
        writable: list[_Section] = []
        slots: dict[object, int] = {}
        for parsed in objects:
            for section in parsed.sections:
                if not _is_loaded(section):
                    continue
                if section.flags & _WRITE:
                    writable.append(section)
                else:
                    section.place = end = -(-end // section.align) * section.align
                    end += section.size
            for name, binding, section_number, _ in parsed.symbols:
                if section_number == _UNDEFINED and binding != _LOCAL:
                    slots[name] = 0
            for _, entries in parsed.relocations:
                for _, kind, symbol, _ in entries:
                    if kind in _GOT and parsed.symbols[symbol][2] != _UNDEFINED:
                        slots[id(parsed), symbol] = 0
        end = -(-end // _SLOT_BYTES) * _SLOT_BYTES
        for key in slots:
            slots[key] = end
            end += _SLOT_BYTES
        self.slots = slots
        fixed = end = -(-end // _PAGE) * _PAGE
        for section in writable:
            section.place = end = -(-end // section.align) * section.align
            end += section.size
        if end > _LIMIT:
            raise CacheError(f"native code of {end} bytes; at most {_LIMIT} can be loaded together")
        return fixed, -(-end // _PAGE) * _PAGE

    def _define(self, objects: list[ParsedObject]) -> dict[str, int]:
        symbols: dict[str, int] = {}
        for parsed in objects:
            for name, binding, number, value in parsed.symbols:
                if binding == _LOCAL or number == _UNDEFINED:
                    continue
                if number == _ABSOLUTE or parsed.sections[number].place < 0:
                    raise CacheError(f"damaged object: {name} is in no loaded section")
                if name in symbols:
                    raise CacheError(f"two native objects define {name}")
                symbols[name] = self.base + parsed.sections[number].place + value
        return symbols

    def _resolve(self, name: str, binding: int, symbols: dict[str, int]) -> int:
        """Address of a name that an object leaves open; also fills its slot."""
        address = symbols.get(name) or self.imports.get(name) or process_symbol(name)
        if not address and binding != _WEAK:
            raise CacheError(f"the native objects need {name}, which nothing defines")
        self._fill(self.slots[name], address)
        return address

    def _fill(self, slot: int, address: int) -> None:
        # <address>; jmp *address(%rip), which is 8 + 6 bytes before the instruction's end
        _U64.pack_into(self.region, slot, address)
        self.region[slot + 8 : slot + 14] = b"\xff\x25" + _I32.pack(-14)

    def _relocate(self, parsed: ParsedObject, symbols: dict[str, int]) -> None:
        base, region, slots = self.base, self.region, self.slots
        addresses = []
        for name, binding, number, value in parsed.symbols:
            if number == _UNDEFINED:
                addresses.append(self._resolve(name, binding, symbols) if binding != _LOCAL else 0)
            elif number == _ABSOLUTE or (place := parsed.sections[number].place) < 0:
                addresses.append(-1)
            else:
                addresses.append(base + place + value)
        for section, entries in parsed.relocations:
            for offset, kind, number, addend in entries:
                address = addresses[number]
                if address < 0:
                    raise CacheError("damaged object: a relocation to a section that is not loaded")
                place = section.place + offset
                try:
                    if kind in _NEAR:
                        distance = address + addend - base - place
                        if kind == _PLT32 and not -(1 << 31) <= distance < 1 << 31:
                            distance = slots[parsed.symbols[number][0]] + 8 + addend - place
                        _I32.pack_into(region, place, distance)
                    elif kind in _GOT:
                        name = parsed.symbols[number][0]
                        slot = slots[name] if parsed.symbols[number][2] == _UNDEFINED else slots[id(parsed), number]
                        _U64.pack_into(region, slot, address)
                        _I32.pack_into(region, place, slot + addend - place)
                    elif kind == _ABS64:
                        _U64.pack_into(region, place, (address + addend) % (1 << 64))
                    elif kind == _PC64:
                        _I64.pack_into(region, place, address + addend - base - place)
                    elif kind == _ABS32:
                        _U32.pack_into(region, place, address + addend)
                    elif kind == _ABS32S:
                        _I32.pack_into(region, place, address + addend)
                    else:
                        raise CacheError(f"the object has a relocation of kind {kind}, which cannot be loaded")
                except (struct.error, KeyError) as error:
                    raise CacheError(f"a reference to {parsed.symbols[number][0]} does not reach") from error


@cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    libraries = [ctypes.CDLL(None)]
    with contextlib.suppress(OSError):  # of a C library that has libm's functions within
        libraries.append(ctypes.CDLL("libm.so.6"))
    return tuple(libraries)


@cache
def process_symbol(name: str) -> int:
    """Address of a function of the C library, libm or CPython in this process; 0 when there is none of that name."""
    for library in _libraries():
        try:
            return ctypes.cast(library[name], ctypes.c_void_p).value or 0
        except AttributeError:
            continue
    return 0


@cache
def _mprotect() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def _protect(address: int, size: int) -> None:
    if architecture() != "x86_64":
        raise CompileError(f"native code runs on x86-64 only; this machine is {architecture()}")
    if _mprotect()(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise CompileError(
            f"the system refuses executable memory (errno {ctypes.get_errno()}): "
            "a security policy of this machine forbids code made at run time"
        )
