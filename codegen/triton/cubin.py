"""Reading a cubin: a kernel's parameter table, the block size that it requires, its registers and its stack.

A cubin is an ELF file. What the driver must know of a kernel lies in its section ``.nv.info.NAME`` (and in ``.nv.info``
what concerns all): a list of attributes, each with a format, a number and a value or a length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from knetc.runtime.base.errors import CompileError

_PARAMETER, _PARAMETER_V2, _BLOCK, _FRAME, _REGISTERS = 0x17, 0x45, 0x10, 0x11, 0x2F
_WITH_LENGTH = 4


@dataclass(frozen=True)
class CubinInfo:
    """What a cubin says of its kernel."""

    parameters: tuple[tuple[int, int], ...]
    """Offset and size of each parameter in bytes, in order."""
    threads: int
    """Of a block; 0 where any number will do."""
    registers: int
    stack_bytes: int
    """Memory of each thread for what found no register."""


def read_cubin(code: bytes, entry: str) -> CubinInfo:
    """What there is to know of the kernel ``entry``; raises CompileError for anything but a cubin that has it."""
    try:
        return _read(code, entry)
    except (struct.error, ValueError, IndexError) as error:
        raise CompileError(f"this is no cubin with a kernel {entry}: {error}") from None


def _read(code: bytes, entry: str) -> CubinInfo:
    if code[:5] != b"\x7fELF\x02":
        raise ValueError("it is no 64-bit ELF file")
    (start,) = struct.unpack_from("<Q", code, 0x28)
    size, count, names = struct.unpack_from("<HHH", code, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, start + k * size) for k in range(count)]

    def name(section: tuple[int, ...]) -> str:
        begin = sections[names][4] + section[0]
        return code[begin : code.index(b"\0", begin)].decode()

    parameters: dict[int, tuple[int, int]] = {}
    threads = registers = stack = 0
    found = False
    for section in sections:
        title = name(section)
        if title == f".text.{entry}":
            registers, found = registers or section[7] >> 24, True
        elif title in (".nv.info", f".nv.info.{entry}"):
            for number, data in _attributes(code[section[4] : section[4] + section[5]]):
                if number in (_PARAMETER, _PARAMETER_V2):
                    _, ordinal, offset, flags = struct.unpack_from("<IHHI", data)
                    parameters[ordinal] = offset, flags >> 18
                elif number == _BLOCK:
                    x, y, z = struct.unpack_from("<3I", data)
                    threads = x * y * z
                elif number == _REGISTERS:
                    registers = max(registers, struct.unpack_from("<2I", data)[1])
                elif number == _FRAME:
                    stack = max(stack, struct.unpack_from("<2I", data)[1])
    if not found:
        raise ValueError("it has no code of that name")
    return CubinInfo(tuple(parameters[k] for k in sorted(parameters)), threads, registers, stack)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        form, number, value = struct.unpack_from("<BBH", data, place)
        place += 4
        if form == _WITH_LENGTH:
            yield number, data[place : place + value]
            place += value
