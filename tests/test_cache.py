"""The disk cache: round trips, keys, damage, folders that do not work, many processes, and warm starts."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.codegen.cpu import driver, native
from knetc.runtime import cache
from knetc.runtime.base.config import config
from knetc.runtime.cpu.machine import Executable
from knetc.runtime.program import Program
from native_code import ADD, add_program, compiled, compiled_pool, complete


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(config, "cache_dir", tmp_path / "cache")
    monkeypatch.setattr(config, "cache", True)
    monkeypatch.setattr(cache, "_told", set())
    yield tmp_path / "cache"
    cache._owner_is_trusted.cache_clear()


def example() -> tuple[Program, dict[str, bytes]]:
    plain = add_program(8, 100)
    objects = {
        cache.key("object", ADD): compiled(ADD),
        cache.key("object", "pool"): compiled_pool(),
        cache.key("object", "driver"): native.compile_ir(driver.emit_driver(plain), native.target(), 0),
    }
    return complete(plain, tuple(objects)), objects


def test_objects() -> None:
    assert cache.load_object("ab12") is None
    cache.store_object("ab12", b"code")
    assert cache.load_object("ab12") == b"code"
    cache.store_object("ab12", b"new")
    assert cache.load_object("ab12") == b"new"


def test_programs_run_after_a_round_trip() -> None:
    program, objects = example()
    key = cache.key("program", "graph")
    assert cache.load_program(key) is None
    cache.store_program(key, program, objects)
    loaded = cache.load_program(key)
    assert loaded == (program, objects)
    x = np.zeros(8, np.float32)
    Executable(*loaded).run([x.ctypes.data], [x.ctypes.data], [3.0])
    assert (x == 3).all()


@given(st.lists(st.text("ab", max_size=3), max_size=4), st.lists(st.text("ab", max_size=3), max_size=4))
def test_keys(a: list[str], b: list[str]) -> None:
    assert (cache.key(*a) == cache.key(*b)) == (a == b)
    assert len(cache.key(*a)) == 40


@pytest.mark.parametrize("at", [0, 9, 20, -1])
def test_damaged_objects_count_as_absent(at: int, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.store_object("ab12", b"some code")
    file = folder / "objects" / "ab" / "ab12"
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert cache.load_object("ab12") is None
    assert "damaged" in caplog.text
    assert not file.exists()
    cache.store_object("ab12", b"some code")
    assert cache.load_object("ab12") == b"some code"


@pytest.mark.parametrize("length", [0, 5, 30, 40, 45])
def test_cut_off_objects_count_as_absent(length: int, folder: Path) -> None:
    cache.store_object("ab12", b"some code")
    file = folder / "objects" / "ab" / "ab12"
    file.write_bytes(file.read_bytes()[:length])
    assert cache.load_object("ab12") is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"target": 1}', b"\xff\xfe", b"null"])
def test_programs_that_are_none(text: bytes) -> None:
    cache._write("program", "ab12", text)
    assert cache.load_program("ab12") is None
    assert cache.entries() == []


def test_a_program_without_one_of_its_objects_is_absent() -> None:
    program, objects = example()
    cache.store_program("ab12", program, objects)
    cache._file("object", program.objects[0]).unlink()
    assert cache.load_program("ab12") is None
    cache.store_program("ab12", program, objects)
    assert cache.load_program("ab12") == (program, objects)


def test_all_damage_of_a_program_is_repaired_at_once(folder: Path) -> None:
    program, objects = example()
    cache.store_program("ab12", program, objects)
    for file in (folder / "objects").glob("*/*"):
        file.write_bytes(b"")
    assert cache.load_program("ab12") is None
    cache.store_program("ab12", program, objects)
    assert cache.load_program("ab12") == (program, objects)


def test_entries_verify_and_clear(folder: Path) -> None:
    assert (cache.entries(), cache.verify(), cache.clear()) == ([], [], 0)
    program, objects = example()
    cache.store_program("ab12", program, objects)
    assert [(e.kind, e.key) for e in cache.entries()] == [
        ("program", "ab12"),
        *(("object", key) for key in sorted(objects)),
    ]
    assert all(e.size_bytes == e.path.stat().st_size > 40 for e in cache.entries())
    assert cache.verify() == []
    broken = cache._file("object", program.objects[1])
    broken.write_bytes(broken.read_bytes() + b"?")
    cache._write("program", "cd34", b"{}")
    assert [e.key for e in cache.verify()] == ["cd34", program.objects[1]]
    assert len(cache.entries()) == 3
    assert cache.verify() == []
    (broken.parent / ".left.by.a.killed.writer").write_bytes(b"")
    assert cache.clear() == 3
    assert [f for f in folder.rglob("*") if f.is_file()] == []
    assert cache.entries() == []
    assert cache.path() == folder


def test_turned_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "cache", False)
    cache.store_object("ab12", b"code")
    assert cache.load_object("ab12") is None
    assert not folder.exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("in the way")
    for k in range(3):
        cache.store_object(f"ab{k}", b"code")
        assert cache.load_object(f"ab{k}") is None
    assert cache.entries() == []
    assert sum("cannot write the cache" in line for line in caplog.messages) == 1


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache.store_object("ab12", b"code")
    cache.store_object("ab13", b"code")
    assert [line for line in caplog.messages if "No space left" in line] == caplog.messages
    assert len(caplog.messages) == 1
    assert [f for f in folder.rglob("*") if f.is_file()] == [], "nothing half-written stays"


def test_a_read_only_folder(folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store_object("ab12", b"code")

    def forbidden(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    cache.store_object("ab13", b"code")
    monkeypatch.undo()
    monkeypatch.setattr(config, "cache_dir", folder)
    assert cache.load_object("ab12") == b"code"
    assert cache.load_object("ab13") is None
    assert len(caplog.messages) == 1


def test_another_users_folder_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    cache.store_object("ab12", b"code")
    owner = os.stat(cache.path()).st_uid
    os.chown(cache.path(), 12345, -1) if owner == 0 else monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    cache._owner_is_trusted.cache_clear()
    assert cache.load_object("ab12") is None
    cache.store_object("ab13", b"code")
    assert "belongs to another user" in caplog.text


def test_only_the_owner_can_write(folder: Path) -> None:
    cache.store_object("ab12", b"code")
    assert (folder / "objects" / "ab").stat().st_mode & 0o077 == 0


WRITER = """
import sys
from knetc.runtime import cache
for k in range(100):
    data = cache.load_object("ab12")
    assert data in (None, b"code" * 5000), "half an entry"
    cache.store_object("ab12", b"code" * 5000)
"""


def test_many_processes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    environment = {**os.environ, "KNETC_CACHE_DIR": str(folder)}
    writers = [
        subprocess.Popen([sys.executable, "-P", "-c", WRITER], env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for writer in writers:
        _, error = writer.communicate(timeout=60)
        assert (writer.returncode, error) == (0, b"")
    assert cache.load_object("ab12") == b"code" * 5000
    assert [f.name for f in folder.rglob("*") if f.is_file()] == ["ab12"]


WARM = """
import sys
import numpy as np
from knetc.runtime import cache
from knetc.runtime.cpu.host import target_key
from knetc.runtime.cpu.machine import Executable
program, objects = cache.load_program(cache.key("program", "graph", target_key("native")))
x = np.zeros(8, np.float32)
Executable(program, objects).run([x.ctypes.data], [x.ctypes.data], [3.0])
assert (x == 3).all()
print(*sorted({"llvmlite", "networkx", "jinja2"} & set(sys.modules)))
"""


def test_a_warm_process_imports_no_compiler(folder: Path) -> None:
    program, objects = example()
    cache.store_program(cache.key("program", "graph", native.target("native").key), program, objects)
    environment = {**os.environ, "KNETC_CACHE_DIR": str(folder)}
    run = subprocess.run(
        [sys.executable, "-P", "-c", WARM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "\n", "")


def test_logging_is_quiet_when_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        program, objects = example()
        cache.store_program("ab12", program, objects)
        cache.load_program("ab12")
    assert [record for record in caplog.records if record.name == "knetc"] == []
