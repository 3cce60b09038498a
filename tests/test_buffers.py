"""Buffers: alignment, reuse of warm memory, ownership by reference count, views, exhaustion, threads and fork."""

from __future__ import annotations

import gc as python_gc
import itertools
import os
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.runtime import buffers
from knetc.runtime.base.errors import OutOfMemoryError


@given(st.integers(0, 1 << 40))
def test_size_classes_waste_at_most_a_quarter(size: int) -> None:
    block = buffers.class_bytes(size)
    assert block % 64 == 0
    assert block >= size
    assert block <= max(64, size * (1.25 if size <= 1 << 20 else 1.0625) + 64)
    assert buffers.class_bytes(block) == block


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=20))
def test_living_buffers_do_not_overlap(sizes: list[int]) -> None:
    living = [buffers.allocate(size) for size in sizes]
    spans = sorted((b.address, b.address + b.size_bytes) for b in living)
    assert all(b.address % 64 == 0 for b in living)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for value, buffer in enumerate(living):
        buffer.as_numpy(np.uint8, (buffer.size_bytes,))[:] = value
    for value, buffer in enumerate(living):
        assert (buffer.as_numpy(np.uint8, (buffer.size_bytes,)) == value).all()


@pytest.mark.parametrize("size", [100, 5 << 20])
def test_a_dead_buffers_memory_is_taken_again(size: int) -> None:
    buffer = buffers.allocate(size)
    address = buffer.address
    del buffer
    assert buffers.allocate(size).address == address


def test_stats_and_gc() -> None:
    buffers.gc()
    before = buffers.stats()
    buffer = buffers.allocate(8 << 20)
    during = buffers.stats()
    assert during.in_use_bytes - before.in_use_bytes == 8 << 20
    assert during.peak_bytes >= during.held_bytes >= during.in_use_bytes
    assert buffers.gc() == 0
    del buffer
    assert buffers.stats().held_bytes == during.held_bytes
    assert buffers.stats().in_use_bytes == before.in_use_bytes
    assert buffers.gc() == 8 << 20
    assert buffers.stats().held_bytes == before.held_bytes


def test_peak() -> None:
    kept = buffers.allocate(5 << 20)
    buffers.reset_peak()
    before = buffers.stats().peak_bytes
    assert before >= kept.size_bytes
    for _ in range(3):
        buffers.allocate(9 << 20)
    assert buffers.stats().peak_bytes == before + (9 << 20)
    buffers.reset_peak()
    assert buffers.stats().peak_bytes == before


def test_gc_keeps_regions_with_a_living_block() -> None:
    buffers.gc()
    kept, dropped = buffers.allocate(3000), buffers.allocate(3000)
    kept.as_numpy(np.uint8, (3000,))[:] = 7
    address = dropped.address
    del dropped
    assert buffers.gc() == 0
    assert (kept.as_numpy(np.uint8, (3000,)) == 7).all()
    others = [buffers.allocate(3000) for _ in range(100)]
    assert address in {b.address for b in others}
    assert kept.address not in {b.address for b in others}


def test_what_lies_unused_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_SPARE_BYTES", 4 << 20)
    buffers.gc()
    for megabytes in range(4, 40):
        buffers.allocate(megabytes << 20)
    assert buffers.stats().held_bytes - buffers.stats().in_use_bytes < 2 * 40 << 20


def test_ownership() -> None:
    buffer = buffers.allocate(64)
    assert buffers.is_sole(buffer)
    view = buffer.as_numpy(np.float32, (4, 4))[1:, ::2]
    assert not buffers.is_sole(buffer)
    del view
    assert buffers.is_sole(buffer)
    handles = [buffer, buffer]
    assert buffers.is_sole(buffer, 3)
    assert not buffers.is_sole(buffer, 2)
    del handles
    assert buffers.is_sole(buffer, 1)


def test_a_view_keeps_the_memory() -> None:
    buffer = buffers.allocate(4096)
    view = buffer.as_numpy(np.int32, (4, 4), 64).T
    view[...] = 5
    address = buffer.address
    del buffer
    assert buffers.allocate(4096).address != address
    assert (view == 5).all()


@pytest.mark.parametrize("arguments", [(np.float32, (17,)), (np.float32, (16,), 4), (np.uint8, (1,), 64)])
def test_views_stay_inside(arguments: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        buffers.allocate(64).as_numpy(*arguments)  # type: ignore[arg-type]


def test_numpy_memory_in_place() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    before = sys.getrefcount(array)
    buffer = buffers.Buffer.from_numpy(array)
    assert (buffer.address, buffer.size_bytes, buffer.owner, buffer.readonly) == (array.ctypes.data, 48, array, False)
    assert sys.getrefcount(array) == before + 1
    buffer.as_numpy(np.float32, (12,))[0] = 9
    assert array[0, 0] == 9
    del buffer
    assert sys.getrefcount(array) == before


def test_readonly_numpy_memory() -> None:
    array = np.zeros(4)
    array.flags.writeable = False
    buffer = buffers.Buffer.from_numpy(array)
    assert buffer.readonly
    assert not buffer.as_numpy(np.float64, (4,)).flags.writeable
    assert not buffers.allocate(8).readonly
    assert buffers.allocate(8).owner is None


@pytest.mark.parametrize("array", [np.zeros((4, 4)).T[1:], np.zeros(8)[::2], np.zeros(4, ">f8")])
def test_numpy_memory_that_does_not_fit(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="ascontiguousarray"):
        buffers.Buffer.from_numpy(array)


def test_out_of_memory_leaves_all_usable() -> None:
    kept = buffers.allocate(1000)
    kept.as_numpy(np.uint8, (1000,))[:] = 3
    with pytest.raises(OutOfMemoryError, match=r"1,125,899,906,842,624 bytes.*in use"):
        buffers.allocate(1 << 50)
    assert (kept.as_numpy(np.uint8, (1000,)) == 3).all()
    assert buffers.allocate(1 << 20).size_bytes == 1 << 20


def test_exhaustion_first_frees_what_only_cycles_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    python_gc.collect()
    buffers.gc()
    monkeypatch.setattr(buffers, "_limit_bytes", buffers.stats().held_bytes + (10 << 20))
    cycle: list[object] = [buffers.allocate(8 << 20)]
    cycle.append(cycle)
    del cycle
    assert buffers.allocate(8 << 20).size_bytes == 8 << 20
    with pytest.raises(OutOfMemoryError):
        buffers.allocate(16 << 20)


def test_many_threads() -> None:
    failures: list[str] = []

    def work(mark: int) -> None:
        for k in range(300):
            some = [buffers.allocate(64 * (1 + (k + j) % 7)) for j in range(5)]
            for b in some:
                b.as_numpy(np.uint8, (b.size_bytes,))[:] = mark
            if k % 100 == 0:
                buffers.gc()
            for b in some:
                if not (b.as_numpy(np.uint8, (b.size_bytes,)) == mark).all():
                    failures.append("overlap")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork() -> None:
    buffer = buffers.allocate(1000)
    view = buffer.as_numpy(np.uint8, (1000,))
    view[:] = 1
    child = os.fork()
    if not child:
        view[:] = 2
        fresh = [buffers.allocate(1000) for _ in range(500)]
        buffers.gc()
        os._exit(0 if all(b.address != buffer.address for b in fresh) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (view == 1).all()
