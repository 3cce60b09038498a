"""The driver's binding, a device's memory and its transfers, on a library that stands for the driver's."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import fake_gpu
import numpy as np
import pytest
from fake_gpu import Fake
from knetc.runtime.base.errors import CudaError, DeviceError, OutOfMemoryError
from knetc.runtime.cuda import device as devices
from knetc.runtime.cuda.allocator import SLAB_BYTES
from knetc.runtime.cuda.driver import CudaDriver
from knetc.runtime.cuda.transfers import STAGING_BYTES

import knetc as kn
from knetc.devices import found_devices


def test_what_a_device_is(gpu: Fake) -> None:
    found = devices.device(0)
    assert (found.name, found.target, found.properties.name) == ("cuda:0", "cuda:sm_90", "Fake GPU 0")
    assert devices.device(0) is found


@pytest.mark.parametrize("size", [0, 1, 1000, STAGING_BYTES // 4, STAGING_BYTES])
def test_there_and_back(gpu: Fake, size: int) -> None:
    array = np.random.default_rng(size).integers(0, 255, size, np.uint8)
    found = devices.device(0)
    buffer = found.upload(array)
    expected = array.copy()
    array[...] = 7  # what was uploaded is a copy
    back = np.empty_like(array)
    found.read(buffer, 0, back)
    assert np.array_equal(back, expected)
    assert buffer.at % 256 == 0


def test_pinned_memory_is_not_overwritten_while_it_is_read(gpu: Fake) -> None:
    found = devices.device(0)
    arrays = [np.full(STAGING_BYTES // 10, k, np.uint8) for k in range(40)]
    buffers = [found.upload(array) for array in arrays]
    for buffer, array in zip(buffers, arrays):
        back = np.empty_like(array)
        found.read(buffer, 0, back)
        assert np.array_equal(back, array)


def test_copies_and_zeros(gpu: Fake) -> None:
    gpu.devices(2)
    one, other = devices.device(0), devices.device(1)
    buffer = one.upload(np.arange(10, dtype=np.int32))
    for copy, where in ((one.copy(buffer, 8, 16), one), (other.copy(buffer, 8, 16), other)):
        back = np.empty(4, np.int32)
        where.read(copy, 0, back)
        assert copy.device == where.name and back.tolist() == [2, 3, 4, 5]
    back = np.ones(4, np.int32)
    other.read(other.zeros(16), 0, back)
    assert not back.any()


def test_blocks_are_used_again_and_given_back(gpu: Fake) -> None:
    found = devices.device(0)
    at_rest = gpu.live_blocks
    first = found.allocate(3 * SLAB_BYTES)
    address = first.at
    del first
    second = found.allocate(3 * SLAB_BYTES)
    assert second.at == address and gpu.live_blocks == at_rest + 1
    small = [found.allocate(1000) for _ in range(100)]
    assert gpu.live_blocks == at_rest + 2 and len({b.at for b in small}) == 100
    used = found.stats().in_use_bytes
    assert used >= 3 * SLAB_BYTES + 100 * 1000
    del small[1:], second
    assert found.gc() == 3 * SLAB_BYTES
    del small
    assert found.gc() >= 100 * 1000
    assert found.stats().in_use_bytes == found.stats().held_bytes == 0 == gpu.live_blocks


def test_out_of_memory_says_what_is_held_and_leaves_all_usable(gpu: Fake) -> None:
    found = devices.device(0)
    kept = found.upload(np.arange(4, dtype=np.int64))
    found.allocate(5 << 20)  # dies at once: is given back when memory is short
    gpu.limit(8 << 20)
    fits = found.allocate(5 << 20)
    with pytest.raises(OutOfMemoryError, match=r"no memory on cuda:0 for a buffer of 6,291,456 bytes.*in use.*free"):
        found.allocate(6 << 20)
    back = np.empty(4, np.int64)
    found.read(kept, 0, back)
    assert back.tolist() == [0, 1, 2, 3]
    del fits
    assert found.allocate(6 << 20).size_bytes == 6 << 20


def test_unreachable_cycles_are_collected_when_memory_is_short(gpu: Fake) -> None:
    found = devices.device(0)
    gpu.limit(8 << 20)
    cycle: list[object] = [found.allocate(5 << 20)]
    cycle.append(cycle)
    gc.disable()
    try:
        del cycle
        found.allocate(5 << 20)
    finally:
        gc.enable()


def test_no_driver_and_no_device(gpu: Fake) -> None:
    with pytest.raises(DeviceError, match=r"no CUDA driver here.*use device='cpu'"):
        CudaDriver("libno-such-driver.so.1")
    with pytest.raises(DeviceError, match="no device cuda:3: there is cuda:0 alone"):
        devices.device(3)
    gpu.devices(0)
    with pytest.raises(DeviceError, match="there is no GPU"):
        devices.device(1)
    gpu.fail("cuInit", 100)
    with pytest.raises(DeviceError, match=r"CUDA_ERROR_NO_DEVICE \(100\).*CUDA_VISIBLE_DEVICES"):
        CudaDriver(str(gpu.path))


def test_an_old_driver(tmp_path: Path, gpu: Fake) -> None:
    old = tmp_path / "old.c"
    old.write_text("int cuInit(unsigned f) { return 0; }\n")
    compiler = fake_gpu.COMPILER
    assert compiler is not None
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "old.so", old], check=True)
    with pytest.raises(DeviceError, match="too old"):
        CudaDriver(str(tmp_path / "old.so"))


def test_refusals_say_what_was_asked(gpu: Fake) -> None:
    found = devices.device(0)
    with pytest.raises(CudaError, match=r"cuMemcpyDtoDAsync_v2\(1, 2, 3, .*\): CUDA_ERROR_FAKE \(1\): as the test"):
        gpu.driver.copy(1, 2, 3, found.stream)
    gpu.fail("cuStreamSynchronize", 700)
    for _ in range(2):
        with pytest.raises(CudaError, match=r"ILLEGAL_ADDRESS \(700\).*start it again"):
            found.synchronize()


def test_threads_have_the_device(gpu: Fake) -> None:
    found = devices.device(0)
    wrong: list[object] = []

    def work(k: int) -> None:
        for _ in range(50):
            array = np.full(1000, k, np.int64)
            back = np.empty_like(array)
            found.read(found.upload(array), 0, back)
            if not np.array_equal(array, back):
                wrong.append(back)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def in_a_child(work: Callable[[], str]) -> str:
    """What a forked child answers."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as answer:
        return answer.read().decode()


def test_a_forked_child_is_told(gpu: Fake) -> None:
    found = devices.device(0)
    buffer = found.upload(np.arange(3))

    def answer() -> str:
        with pytest.raises(DeviceError) as caught:
            found.read(buffer, 0, np.empty(3, np.int64))
        return str(caught.value)

    assert "spawn" in in_a_child(answer)
    back = np.empty(3, np.int64)
    found.read(buffer, 0, back)
    assert back.tolist() == [0, 1, 2]


def test_events_tell_time(gpu: Fake) -> None:
    found = devices.device(0)
    with found.entered() as driver:
        start, end = driver.event(timed=True), driver.event(timed=True)
        driver.record(start, found.stream)
        found.zeros(100)
        driver.record(end, found.stream)
        driver.await_event(end)
        assert driver.milliseconds(start, end) > 0
        driver.free_event(start)
        driver.free_event(end)


def test_importing_needs_no_driver() -> None:
    code = "import knetc.runtime.cuda.execute, sys; assert 'torch' not in sys.modules and 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# --- what goes wrong


def test_no_memory_for_what_the_driver_keeps(gpu: Fake) -> None:
    found = devices.device(0)
    gpu.limit(8 << 20)
    found.allocate(5 << 20)  # dies at once
    asked: list[int] = []

    def call() -> int:
        asked.append(found.stats().held_bytes)
        if found.stats().held_bytes:
            raise MemoryError
        return 7

    assert found.make("something", call) == 7 and asked == [5 << 20, 0]
    kept = found.allocate(5 << 20)
    with pytest.raises(OutOfMemoryError, match="no memory on cuda:0 for something: this process has 5,242,880 bytes"):
        found.make("something", call)
    del kept


def test_an_old_gpu(gpu: Fake) -> None:
    gpu.arch(75)
    with pytest.raises(DeviceError, match=r"Fake GPU 0 of compute capability 7\.5; .* needs 8\.0"):
        devices.device(0)
    assert "cannot be used" in found_devices()["cuda:0"] and kn.gpu(True) == -1


def test_advice(gpu: Fake) -> None:
    for code, advice in ((3, "spawn"), (34, "LD_LIBRARY_PATH"), (803, "restart the machine")):
        gpu.fail("cuInit", code)
        with pytest.raises(DeviceError, match=advice):
            CudaDriver(str(gpu.path))
    gpu.fail("cuModuleLoadData", 222)
    with pytest.raises(CudaError, match="newer driver, or an older Triton"):
        gpu.driver.load(b"FAKE\n")


def test_a_full_gpu(gpu: Fake) -> None:
    gpu.fail("cuDevicePrimaryCtxRetain", 2)
    with pytest.raises(OutOfMemoryError, match="nvidia-smi"):
        devices.device(0)
    assert devices.device(0).name == "cuda:0", "it may have memory later"


def test_a_forked_child_of_who_asked_for_devices(gpu: Fake) -> None:
    assert devices.driver().count() == 1  # none was opened

    def answer() -> str:
        with pytest.raises(DeviceError) as caught:
            devices.device(0)
        return str(caught.value)

    assert "spawn" in in_a_child(answer)


def test_threads_that_ask_for_memory_do_not_wait_for_each_other_forever(gpu: Fake) -> None:
    gpu.devices(2)
    both = devices.device(0), devices.device(1)
    failed: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for n in range(200):
                found = both[(k + n) % 2]
                buffer = found.zeros(((n % 7) + 1) << 20)
                both[n % 2].copy(buffer, 0, 100)
                with found.entered():  # as a program does that asks for more memory
                    found.arena((n % 5) << 20)
                if n % 11 == k:
                    found.gc()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)


_ENDING = """
import sys, gc
sys.path[:0] = {folders!r}
import hand_made as t
import numpy as np
import knetc as kn
from knetc.runtime.cuda import device as devices
from knetc.runtime.cuda.driver import CudaDriver

devices.replace_driver(CudaDriver({library!r}))
executable = t.load(t.chain(4, update=True, check=True))
x, y = t.put(1), t.put(1)
for _ in range(3):
    executable.run([x.at], [x.at], [2.0])
array = kn.array(np.arange(5.0), device="cuda")
other = kn.from_dlpack(array)

class Late:  # goes when almost nothing is left
    def __init__(self):
        self.held = [array.__dlpack__(stream=-1), executable, x, other]
        self.cycle = self

late = sys.late = Late()
print("done")
"""


def test_a_process_ends_in_peace(gpu: Fake) -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    code = _ENDING.format(folders=folders, library=str(gpu.path))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
