"""What goes beside the kernels of a GPU: copies, reading, other devices' and other libraries' queues. Without the event
that orders two queues the stand-in driver gives wrong numbers, when the one or the other is early."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_gpu import LAUNCHES, Fake
from hand_made import N, chain, get, load, new, put
from knetc.runtime.buffers import Buffer
from knetc.runtime.cuda import device as devices
from knetc.runtime.cuda import dlpack, execute
from knetc.runtime.cuda.driver import CudaDriver
from knetc.runtime.cuda.transfers import BESIDE_BYTES, STAGING_BYTES

import knetc as kn

LARGE = BESIDE_BYTES // 8

QUEUES = [(), (0,), (1,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
"""Which streams are early: 0 has the kernels, the others are made when they are needed first."""


@pytest.fixture(params=QUEUES, ids=str)
def any_order(request: pytest.FixtureRequest, gpu: Fake) -> Iterator[Fake]:
    gpu.eager(*request.param)
    yield gpu


def large(number: float) -> Buffer:
    return devices.device(0).upload(np.full(LARGE, float(number)))


def written(buffer: Buffer) -> float:
    """The first number of a device's memory as it is now, which a GPU would not tell."""
    return ctypes.c_double.from_address(buffer.at).value


def train(steps: int) -> list[float]:
    """Batches on their way to a chain of kernels, and the first number of each result."""
    executable = load(chain(4))
    results = []
    for k in range(steps):
        x = large(k)
        y = new()
        executable.run([x.at], [y.at], [2.0])
        results.append(y)
    return [get(y)[0] for y in results]


def test_uploads_are_there_when_kernels_read_them_and_not_before(any_order: Fake) -> None:
    assert train(9) == [16.0 * k for k in range(9)]


@pytest.mark.parametrize("early", [(), (1,)])
def test_a_missing_event_is_seen(gpu: Fake, monkeypatch: pytest.MonkeyPatch, early: tuple[int, ...]) -> None:
    gpu.eager(*early)
    monkeypatch.setattr(CudaDriver, "wait_event", lambda self, stream, event: None)
    assert train(9) != [16.0 * k for k in range(9)]


def test_the_next_batch_comes_while_a_step_runs(gpu: Fake) -> None:
    gpu.eager(1)
    executable, found = load(chain(4)), devices.device(0)
    places = set()
    for k in range(12):
        x = large(k)
        places.add(x.at)
        if k > 3:
            assert written(x) == k and gpu.count(LAUNCHES) <= 4 * (k - 1), "the step before is still to be done"
        executable.run([x.at], [new().at], [2.0])
        if k:  # as the device does meanwhile
            with found.entered() as driver:
                driver.await_event(found.marks.behind(found.marks.entries - 2))
    assert len(places) <= 3


def test_large_arrays_go_through_pinned_memory_in_pieces(any_order: Fake) -> None:
    found = devices.device(0)
    arrays = [np.random.default_rng(k).random(STAGING_BYTES // 8 // 3 + k) for k in range(5)]
    buffers = [found.upload(array) for array in arrays]
    for array, buffer in zip(arrays, buffers):
        back = np.empty_like(array)
        found.read(buffer, 0, back)
        assert np.array_equal(array, back)


def test_kernels_take_blocks_of_uploads_that_died(any_order: Fake) -> None:
    found = devices.device(0)
    numbers = np.ones(3 << 17)
    x = found.upload(numbers)
    at = x.at
    del x
    fresh = found.zeros(numbers.nbytes)
    assert fresh.at == at and get(fresh) == [0.0] * N
    del fresh
    kept = [found.upload(k * numbers) for k in range(3)]
    assert [get(y)[0] for y in kept] == [0, 1, 2]
    del kept
    found.upload(numbers)
    stats = found.stats()
    assert stats.in_use_bytes == 0 < stats.held_bytes == 4 * numbers.nbytes
    kept = [found.zeros(numbers.nbytes) for _ in range(4)]
    assert found.stats().held_bytes == stats.held_bytes
    del kept
    assert found.gc() == stats.held_bytes


def test_a_result_is_read_before_later_work_is_done(gpu: Fake) -> None:
    executable = load(chain(4))
    x = put(1)
    results = []
    for number in (2.0, 3.0, 4.0):
        y = new()
        executable.run([x.at], [y.at], [number])
        y.ready = devices.device(0).marks.entries
        results.append(y)
    assert get(results[0])[0] == 16.0 and gpu.count(LAUNCHES) == 4
    assert get(results[1])[0] == 81.0 and gpu.count(LAUNCHES) == 8
    assert get(results[2])[0] == 256.0


def test_results_that_are_updated_later_are_read_behind_that(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "GRAPH_FROM", 1)
    w = kn.param(np.ones(6), device="cuda")

    @kn.compile
    def step(x: Any) -> Any:
        w[...] = w + x
        return w * 2

    @kn.compile
    def result(x: Any) -> Any:
        return x + 1

    y = result(kn.zeros(6, device="cuda"))
    assert y.buffer is not None and y.buffer.ready > 0
    results = [step(kn.full(6, k + 1.0, device="cuda")) for k in range(3)]
    assert w.buffer is not None and w.buffer.ready == -1
    y[...] = y * 5  # in place, or not
    y += 1.0
    assert [float(r[0]) for r in results] == [4, 8, 14]
    assert y.tolist() == [6] * 6 and w.tolist() == [7] * 6
    v = kn.Param(result(w))
    assert v.tolist() == [8] * 6

    @kn.compile
    def double() -> None:
        v[...] = v * 2

    double()
    assert v.buffer is not None and v.buffer.ready == -1 and v.tolist() == [16] * 6


def test_copies_between_devices_wait_for_nobody(gpu: Fake) -> None:
    gpu.devices(2)
    one, other = devices.device(0), devices.device(1)
    for early in QUEUES:
        gpu.eager(*early)
        executable = load(chain(4))
        x, y = put(1), new()
        executable.run([x.at], [y.at], [2.0])
        gpu.clear()
        copy = other.copy(y, 0, 8 * N)
        del y
        fresh = [new() for _ in range(3)]
        for z in fresh:
            executable.run([x.at], [z.at], [3.0])
        back = np.empty(N)
        other.read(copy, 0, back)
        assert back[0] == 16.0 and get(fresh[0])[0] == 81.0
        one.synchronize()


# --- other libraries


def test_who_takes_memory_waits_for_it_and_is_waited_for(gpu: Fake) -> None:
    found = devices.device(0)
    executable = load(chain(4))
    with found.entered():
        taker = gpu.library.fake_stream()
    for early in QUEUES:
        gpu.eager(*early)
        x, y, seen = put(1), new(), new()
        executable.run([x.at], [y.at], [2.0])
        for stream in (taker, 1, 2, None):
            capsule = dlpack.export(y, 0, np.dtype(float), (N,), stream)
            with found.entered():
                gpu.library.fake_copy(stream or 1, seen.at, y.at, 8 * N)
            del capsule
        del y
        others = [new() for _ in range(3)]
        for z in others:
            executable.run([x.at], [z.at], [3.0])
        assert get(seen)[0] == 16.0
    with pytest.raises(BufferError, match="stream 0 names none"):
        dlpack.export(x, 0, np.dtype(float), (N,), 0)


def test_no_graph_of_others_is_disturbed(gpu: Fake) -> None:
    found = devices.device(0)
    x = put(1)
    with found.entered() as driver:
        taker = gpu.library.fake_stream()
        capsule = dlpack.export(x, 0, np.dtype(float), (N,), taker)

        def capture() -> None:
            nonlocal capsule
            with pytest.raises(BufferError, match="a graph is being made"):
                dlpack.export(x, 0, np.dtype(float), (N,), taker)
            del capsule

        driver.free_graph(driver.capture(taker, capture))


def test_memory_of_others_is_given_back_when_its_work_is_done(gpu: Fake) -> None:
    executable = load(chain(4))
    x = kn.array(np.full(N, 3.0), device="cuda")
    y = kn.from_dlpack(x)
    assert y.buffer is not None
    count, result = len(dlpack._exports), new()
    executable.run([y.buffer.at], [result.at], [2.0])
    del y
    assert len(dlpack._exports) == count and gpu.count(LAUNCHES) == 0, "nobody waits, and nothing is given back yet"
    assert get(result)[0] == 48.0
    kn.gc()
    assert len(dlpack._exports) == count - 1


def test_calls_take_their_turn_in_a_stream(gpu: Fake) -> None:
    found = devices.device(0)
    executable = load(chain(4))
    with found.entered():
        theirs = gpu.library.fake_stream()
    for early in QUEUES:
        gpu.eager(*early)
        shared, result, x = put(1), new(), put(5)
        found.synchronize()
        with found.entered():
            gpu.library.fake_copy(theirs, shared.at, x.at, 8 * N)
        with kn.in_stream(theirs, "cuda"):
            executable.run([shared.at], [result.at], [2.0])
        with found.entered():
            gpu.library.fake_copy(theirs, shared.at, result.at, 8 * N)
            found.driver.synchronize(theirs)
        assert written(shared) == 80.0
    with pytest.raises(kn.UnsupportedError, match="the CPU has no streams"), kn.in_stream(theirs):
        pass


def test_another_library_s_device_stays_current(gpu: Fake) -> None:
    gpu.devices(2)
    current, both = ctypes.c_void_p(), [devices.device(k) for k in (0, 1)]
    contexts = [gpu.driver._contexts[k] for k in (0, 1)]
    for theirs in (*contexts, None):
        for found in both:
            gpu.library.cuCtxSetCurrent(ctypes.c_void_p(theirs))
            found.synchronize()
            gpu.library.cuCtxGetCurrent(ctypes.byref(current))
            assert current.value == (theirs if theirs or found.ordinal else contexts[0])
