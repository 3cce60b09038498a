"""The disk cache: programs by the hash of the traced graph, and native objects by the hash of their source text.

An entry is one file: a magic word, the SHA-256 of what follows, and that. It is checked when read; a damaged one counts
as absent and is removed, so that it is made again. Files are written beside their place and renamed into it, so any
number of processes can share a cache. A cache that cannot be written is one log line, never an error.

Keys come from ``key``, which mixes in all that decides what the compiler would make: its own sources, and LLVM's
version, both found without importing a compiler. Entries hold JSON and machine code, nothing that is executed by being
read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CacheError
from knetc.runtime.program import Program, from_json, to_json

_log = logging.getLogger("knetc")

CHOICES = 4096
"""Choices among kernels that are kept."""

_MAGIC = b"knetc 1\n"
_DIGEST_BYTES = 32
_KINDS = ("program", "object", "choice")
_numbers = itertools.count()
_stored = itertools.count()
_told: set[str] = set()


@dataclass(frozen=True)
class Entry:
    """A file of the cache."""

    kind: Literal["program", "object", "choice"]
    key: str
    path: Path
    size_bytes: int
    modified: float
    """Seconds since the epoch."""


def path() -> Path:
    """The folder of the cache: ``KNETC_CACHE_DIR``, by default ``~/.cache/knetc``.

    >>> path() == config.cache_dir
    True
    """
    return config.cache_dir


def key(*parts: str | bytes) -> str:
    """The key for an entry that is determined by ``parts``, this version of knetc and LLVM; 40 hexadecimal digits.

    >>> key("program", "a") == key("program", "a"), key("ab", "c") == key("a", "bc")
    (True, False)
    """
    state = hashlib.sha256(_environment())
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:40]


def load_object(key: str) -> bytes | None:
    """The native object kept under ``key``; None when there is none, or only a damaged one."""
    return _read("object", key)


def store_object(key: str, data: bytes) -> None:
    """Keeps a native object under ``key``; does nothing when the cache is off or cannot be written."""
    _write("object", key, data)


def load_program(key: str) -> tuple[Program, dict[str, bytes]] | None:
    """The program kept under ``key``, and its native objects by the keys in ``Program.objects``.

    None when the program or one of its objects is absent or damaged.
    """
    data = _read("program", key)
    if data is None:
        return None
    try:
        program = from_json(json.loads(data))
    except (CacheError, ValueError) as error:
        _discard("program", key, str(error))
        return None
    # all of them are read: each damaged one must go, or it stands in the way of the one that is made again
    found = {name: load_object(name) for name in program.objects}
    objects = {name: data for name, data in found.items() if data is not None}
    return (program, objects) if len(objects) == len(found) else None


def store_program(key: str, program: Program, objects: Mapping[str, bytes]) -> None:
    """Keeps a program under ``key``, and those of its objects that are not yet kept under theirs.

    ``objects`` holds the bytes for each key in ``program.objects``. Does nothing when the cache is off or cannot be
    written.
    """
    for name in dict.fromkeys(program.objects):
        if not _file("object", name).exists():
            store_object(name, objects[name])
    _write("program", key, json.dumps(to_json(program), separators=(",", ":")).encode())


def load_choice(key: str) -> tuple[int, str] | None:
    """Which of several kernels was the fastest, and how that is known; None when it is not known."""
    data = _read("choice", key)
    return None if data is None else _choice(key, data)


def store_choice(key: str, number: int, how: str) -> None:
    """Keeps which of several kernels was the fastest; the oldest choices go when there are too many."""
    _write("choice", key, json.dumps({"number": number, "how": how}).encode())
    if next(_stored) % 64 == 0:
        found = sorted((e for e in entries() if e.kind == "choice"), key=lambda e: e.modified)
        for entry in found[: max(len(found) - CHOICES, 0)]:
            with suppress(OSError):
                entry.path.unlink()


def _choice(key: str, data: bytes) -> tuple[int, str] | None:
    try:
        match json.loads(data):
            case {"number": int(number), "how": str(how), **rest} if not rest and number >= 0 and len(how) <= 1000:
                return number, how
        reason = "it is no choice"
    except ValueError as error:
        reason = str(error)
    _discard("choice", key, reason)
    return None


def entries() -> list[Entry]:
    """All entries, those of programs first.

    >>> all(entry.size_bytes >= 0 for entry in entries())
    True
    """
    found = []
    for kind in _KINDS:
        for file in sorted(_files(kind)):
            try:
                status = file.stat()
            except OSError:  # another process removed it
                continue
            found.append(Entry(kind, file.name, file, status.st_size, status.st_mtime))  # type: ignore[arg-type]
    return found


def verify() -> list[Entry]:
    """Checks every entry and removes the damaged ones; returns those.

    >>> verify()
    []
    """
    damaged = []
    for entry in entries():
        data = _read(entry.kind, entry.key)
        if data is not None and entry.kind == "choice" and _choice(entry.key, data) is None:
            data = None
        if data is not None and entry.kind == "program":
            try:
                from_json(json.loads(data))
            except (CacheError, ValueError) as error:
                _discard("program", entry.key, str(error))
                data = None
        if data is None:
            damaged.append(entry)
    return damaged


def clear() -> int:
    """Removes all entries; returns how many there were."""
    count = 0
    for kind in _KINDS:
        for file in (path() / f"{kind}s").glob("*/*"):  # with what killed writers left
            with suppress(OSError):
                file.unlink()
                count += not file.name.startswith(".")
    return count


def _file(kind: str, key: str) -> Path:
    return path() / f"{kind}s" / key[:2] / key


def _files(kind: str) -> Iterator[Path]:
    return (file for file in (path() / f"{kind}s").glob("*/*") if not file.name.startswith("."))


def _read(kind: str, key: str) -> bytes | None:
    if not config.cache or not _is_trusted():
        return None
    try:
        data = _file(kind, key).read_bytes()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _tell("read", error)
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    payload = data[start:]
    if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(payload).digest() != data[len(_MAGIC) : start]:
        _discard(kind, key, "its digest does not match")
        return None
    return payload


def _write(kind: str, key: str, payload: bytes) -> None:
    if not config.cache or not _is_trusted():
        return
    file = _file(kind, key)
    # unique among the threads and processes of all machines that may share the folder
    temporary = file.with_name(f".{key}.{os.uname().nodename}.{os.getpid()}.{next(_numbers)}")
    try:
        try:
            # only the owner may write: what lies here is run
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(temporary, "xb") as stream:
                stream.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        _tell("write", error)


def _discard(kind: str, key: str, reason: str) -> None:
    _log.warning("knetc: a damaged cache entry is made again (%s %s: %s)", kind, key, reason)
    try:
        _file(kind, key).unlink(missing_ok=True)
    except OSError as error:
        _tell("write", error)


def _tell(what: str, error: OSError) -> None:
    """One line a process for each way in which the cache does not work."""
    if what not in _told:
        _told.add(what)
        _log.warning("knetc: cannot %s the cache in %s (%s); going on without", what, path(), error.strerror or error)


def _is_trusted() -> bool:
    """Whether the folder is ours (or the system's): its entries are run as code."""
    return _owner_is_trusted(path())


@cache
def _owner_is_trusted(folder: Path) -> bool:
    try:
        owner = folder.stat().st_uid
    except OSError:  # it is made when first written
        return True
    if owner in (os.geteuid(), 0):
        return True
    _log.warning("knetc: the cache in %s belongs to another user; going on without", folder)
    return False


@cache
def _environment() -> bytes:
    """Digest of what makes the code: knetc's own sources and LLVM's version."""
    state = hashlib.sha256(_MAGIC)
    package = importlib.util.find_spec("knetc")
    roots = list(package.submodule_search_locations or ()) if package else []
    for name in ("codegen", "runtime", "templates"):
        part = importlib.util.find_spec(f"knetc.{name}")
        roots += list(part.submodule_search_locations or ()) if part else []
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for file in sorted(files):
                if not file.endswith(".pyc"):
                    with open(os.path.join(folder, file), "rb") as stream:
                        state.update(stream.read())
    llvmlite = importlib.util.find_spec("llvmlite")
    if llvmlite and llvmlite.origin:
        # Importing the package would load LLVM (40 ms); the metadata of packages takes 10 ms to find.
        state.update(Path(llvmlite.origin).with_name("_version.py").read_bytes())
    return state.digest()
