"""Running programs: results, checks, scalars, workspaces, the pool, threads, fork and exit."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from knetc.codegen.cpu import driver
from knetc.runtime import buffers
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CacheError, LabelError
from knetc.runtime.base.threads import thread_count
from knetc.runtime.cpu import machine
from knetc.runtime.program import Check, Launch, Slot, Step
from native_code import (
    ADD,
    CHECK,
    COUNT_VISITS,
    FILL,
    add_program,
    array,
    buffer,
    complete,
    load,
    program,
    scalar,
    slots,
    visits_program,
)


def run_add(executable: machine.Executable, x: np.ndarray, scalar_value: float) -> np.ndarray:
    y = np.full_like(x, -1)
    executable.run([x.ctypes.data], [y.ctypes.data], [scalar_value])
    return y


def run_visits(executable: machine.Executable, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    visits, begins, ends = np.zeros(count, np.int32), np.zeros(count, np.int64), np.zeros(count, np.int64)
    executable.run([], [visits.ctypes.data, begins.ctypes.data, ends.ctypes.data])
    return visits, begins, ends


def check_pieces(executable: machine.Executable, count: int, grain: int) -> None:
    visits, begins, ends = run_visits(executable, count)
    index = np.arange(count)
    assert (visits == 1).all()
    assert (begins == index // grain * grain).all()
    assert (ends == np.minimum(begins + grain, count)).all()


@pytest.mark.parametrize("count,grain", [(1, 1), (100, 1000), (100_003, 1000)])
def test_a_program_computes(count: int, grain: int) -> None:
    executable = load(add_program(count, grain), ADD)
    x = np.arange(count, dtype=np.float32)
    for value in (0.5, -1.0, -3):
        assert (run_add(executable, x, value) == x + np.float32(value)).all()


@given(st.integers(0, 5000), st.integers(1, 700))
@example(4096, 512)
@example(2, 1)
def test_every_index_is_in_exactly_one_piece_of_the_grid(count: int, grain: int) -> None:
    check_pieces(load(visits_program(count, grain), COUNT_VISITS), count, grain)


@pytest.mark.parametrize("pause", [0.0, 0.002], ids=["busy", "asleep"])
def test_brief_loops_are_shared_by_who_is_awake(pause: float) -> None:
    executable = load(visits_program(1000, 30, brief=True), COUNT_VISITS)
    for _ in range(30):
        time.sleep(pause)
        check_pieces(executable, 1000, 30)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2 or thread_count() < 2, reason="there is nowhere else to run")
def test_woken_workers_keep_off_the_callers_processor() -> None:
    allowed = os.sched_getaffinity(0)
    executable = load(visits_program(2000, 10), COUNT_VISITS)
    machine.device.stop()
    before = {int(thread) for thread in os.listdir("/proc/self/task")}
    for _ in range(2):
        check_pieces(executable, 2000, 10)
        time.sleep(0.05)  # they fall asleep
    workers = {int(thread) for thread in os.listdir("/proc/self/task")} - before
    places = [os.sched_getaffinity(thread) for thread in workers]
    assert places and all(len(place) == len(allowed) - 1 and place < allowed for place in places)
    assert os.sched_getaffinity(0) == allowed


def test_many_launches() -> None:
    executable = load(visits_program(64, 8), COUNT_VISITS)
    for _ in range(2000):
        check_pieces(executable, 64, 8)


def test_wrong_arguments() -> None:
    executable = load(add_program(4, 100), ADD)
    x = np.zeros(4, np.float32)
    with pytest.raises(TypeError, match="2 addresses and 1 scalars"):
        executable.entry(x.ctypes.data, 1.0)
    with pytest.raises(TypeError):
        executable.entry(x.ctypes.data, "y", 1.0)
    with pytest.raises(TypeError):
        executable.entry(x.ctypes.data, x.ctypes.data, "1.0")
    assert executable.entry(x.ctypes.data, x.ctypes.data, 1) is None
    assert (x == 1).all()


@pytest.mark.parametrize("dtype,value", [("i64", -1), ("i64", -(2**63)), ("i32", 7), ("bool", True)])
def test_integer_scalars(dtype: str, value: int) -> None:
    step = Step("fill", (buffer(0), scalar(0)), (Launch("k_fill", 5, 100, slots(2)),))
    executable = load(program((array("output", "i64", 5),), (step,), (dtype,)), FILL)
    y = np.zeros(5, np.int64)
    executable.run([], [y.ctypes.data], [value])
    assert (y == value).all()
    with pytest.raises(OverflowError):
        executable.run([], [y.ctypes.data], [2**63])
    with pytest.raises(TypeError):
        executable.run([], [y.ctypes.data], [0.5])


def test_arena_workspace_and_values() -> None:
    """Fills a workspace by a number, then adds twice through an intermediate buffer."""
    fill = Step(
        "fill",
        (),
        (Launch("k_fill", 4, 100, (Slot("workspace", 64), Slot("value", -7))),),
        workspace_bytes=128,
        workspace_offset=256,
    )
    first = Step("add", (buffer(0), buffer(2), scalar(0)), (Launch("k_add", 10, 100, slots(3)),))
    second = Step("add", (buffer(2), buffer(1), scalar(0)), (Launch("k_add", 10, 3, slots(3)),))
    specs = (array("input", "f32", 10), array("output", "f32", 10), array("arena", "f32", 10, 64))
    executable = load(program(specs, (fill, first, second), ("f32",), arena_bytes=512), ADD, FILL)
    assert (run_add(executable, np.zeros(10, np.float32), 1.5) == 3).all()
    arena = machine.device._arena.as_numpy(np.int64, (64,))
    assert (arena[(256 + 64) // 8 :][:4] == -7).all()


def checked(count: int, grain: int) -> machine.Executable:
    """y = x + s, after a check that x and another input are not negative."""
    steps = (
        Step("check", (buffer(0),), (Launch("k_check", count, grain, slots(1)),), check=1),
        Step("check", (buffer(1),), (Launch("k_check", count, grain, slots(1)),), check=0),
        Step("add", (buffer(0), buffer(2), scalar(0)), (Launch("k_add", count, grain, slots(3)),)),
    )
    checks = (Check("other holds {value}", "NoSuchError"), Check("label {value} {odd}", "LabelError", ("model.py:7",)))
    specs = (array("input", "f32", count), array("input", "f32", count), array("output", "f32", count))
    return load(program(specs, steps, ("f32",), checks), ADD, CHECK)


@pytest.mark.parametrize("grain", [100, 4])
def test_checks_come_before_writes(grain: int) -> None:
    executable = checked(40, grain)
    x, other, y = np.ones(40, np.float32), np.ones(40, np.float32), np.zeros(40, np.float32)
    addresses = [x.ctypes.data, other.ctypes.data]
    x[17] = -5
    with pytest.raises(LabelError, match=r"label -5 \{odd\}\n  at model.py:7"):
        executable.run(addresses, [y.ctypes.data], [1.0])
    assert executable.entry(*addresses, y.ctypes.data, 1.0) == (2, -5)
    assert (y == 0).all()
    x[17], other[39] = 1, -(2.0**40)
    with pytest.raises(Exception, match=f"other holds {-(2**40)}"):
        executable.run(addresses, [y.ctypes.data], [1.0])
    assert (y == 0).all()
    other[39] = 0
    executable.run(addresses, [y.ctypes.data], [1.0])
    assert (y == 2).all()


def test_programs_that_cannot_be_loaded() -> None:
    plain = add_program(4, 4)
    with pytest.raises(CacheError, match="k1 are missing"):
        machine.Executable(complete(plain, ("k1",)), {})
    foreign = type(plain)(**{**vars(plain), "target": "cpu:x86_64:native:elsewhere"})
    with pytest.raises(CacheError, match="elsewhere"):
        machine.Executable(foreign, {})


def test_entry_outlives_the_executable() -> None:
    executable = load(add_program(8, 100), ADD)
    entry = executable.entry
    del executable
    gc.collect()
    x = np.zeros(8, np.float32)
    assert entry(x.ctypes.data, x.ctypes.data, 2.0) is None
    assert (x == 2).all()


def test_long_programs_release_the_interpreter() -> None:
    assert not driver.is_long(add_program(8, 100))
    assert driver.is_long(add_program(8, 100, operations=10**9))


@pytest.mark.parametrize("operations", [0, 10**9])
def test_many_python_threads(operations: int) -> None:
    """Several programs, long and short, share pool, arena and context without mixing."""
    failures: list[object] = []
    pieces = load(visits_program(500, 10), COUNT_VISITS)
    add = load(add_program(500, 50, operations), ADD)
    faulty = checked(200, 20)

    def work(number: int) -> None:
        try:
            x = np.full(500, number, np.float32)
            y = np.zeros(200, np.float32)
            for _ in range(150):
                check_pieces(pieces, 500, 10)
                assert (run_add(add, x, 1.0) == number + 1).all()
                x[3] = -number - 1
                found = faulty.entry(x.ctypes.data, x.ctypes.data, y.ctypes.data, 1.0)
                assert found == (2, -number - 1)
                x[3] = number
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_caller_waits_for_pieces_that_others_run() -> None:
    executable = load(visits_program(400_000, 200_000), COUNT_VISITS)
    visits, begins, ends = np.zeros(400_000, np.int32), np.zeros(400_000, np.int64), np.zeros(400_000, np.int64)
    for k in range(50):
        executable.entry(visits.ctypes.data, begins.ctypes.data, ends.ctypes.data)
        assert (visits[199_999], visits[-1]) == (k + 1, k + 1)


def test_one_program_runs_at_a_time() -> None:
    executable = load(visits_program(100_000, 1000), COUNT_VISITS)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                check_pieces(executable, 100_000, 1000)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def limit_child() -> None:
    """Ends a hanging child; what handles alarms in the parent cannot run while native code waits."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(10)


def test_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= thread_count() <= len(os.sched_getaffinity(0))
    monkeypatch.setattr(config, "threads", 7)
    assert thread_count() == 7


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_starts_new_workers() -> None:
    executable = load(visits_program(2000, 10), COUNT_VISITS)
    check_pieces(executable, 2000, 10)
    for _ in range(3):
        child = os.fork()
        if not child:
            try:
                limit_child()
                assert machine.device._pool is not None
                assert not machine.device._pool.started
                for _ in range(50):
                    check_pieces(executable, 2000, 10)
                assert machine.device._pool.started
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        check_pieces(executable, 2000, 10)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_another_thread_runs() -> None:
    executable = load(visits_program(50_000, 10), COUNT_VISITS)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            run_visits(executable, 50_000)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:
                try:
                    limit_child()
                    check_pieces(executable, 50_000, 10)
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()


def test_stopped_workers_start_again() -> None:
    executable = load(visits_program(2000, 10), COUNT_VISITS)
    for _ in range(20):
        check_pieces(executable, 2000, 10)
        assert machine.device._pool is not None
        assert machine.device._pool.started
        machine.device.stop()
        assert not machine.device._pool.started


SCRIPT = """
import sys, threading
sys.path.insert(0, {tests!r})
import numpy as np
from native_code import COUNT_VISITS, load, visits_program
executable = load(visits_program(20000, 10), COUNT_VISITS)
a, b, c = np.zeros(20000, np.int32), np.zeros(20000, np.int64), np.zeros(20000, np.int64)
def work():
    while True:
        executable.run([], [a.ctypes.data, b.ctypes.data, c.ctypes.data])
if {daemon}:
    threading.Thread(target=work, daemon=True).start()
    import time; time.sleep(0.1)
for k in range(20):
    executable.run([], [a.ctypes.data, b.ctypes.data, c.ctypes.data])
print("done")
"""


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_clean_exit(daemon: bool, threads: int) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).parent), daemon=daemon)
    environment = {**os.environ, "KNETC_THREADS": str(threads)}
    run = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


def test_a_larger_arena_replaces_the_smaller() -> None:
    needed = machine.device._arena.size_bytes + 4096
    step = Step("fill", (), (Launch("k_fill", 4, 100, (Slot("workspace", 0), Slot("value", 1))),), 64, needed - 64)
    executable = load(program((), (step,), arena_bytes=needed), FILL)
    executable.run([], [])
    assert machine.device._arena.size_bytes >= needed


def test_the_arena_shrinks_when_its_program_is_gone() -> None:
    needed = 32 << 20
    step = Step("fill", (), (Launch("k_fill", 4, 100, (Slot("workspace", 0), Slot("value", 1))),), 64, needed - 64)
    small = Step("fill", (), (Launch("k_fill", 4, 100, (Slot("workspace", 0), Slot("value", 2))),), 64, 0)
    large_program = load(program((), (step,), arena_bytes=needed), FILL)
    small_program = load(program((), (small,), arena_bytes=64), FILL)
    gc.collect()
    buffers.gc()
    assert buffers.stats().in_use_bytes >= needed
    large_program.run([], [])
    entry = large_program.entry
    del large_program
    buffers.gc()
    entry()
    assert buffers.stats().in_use_bytes >= needed, "the builtin alone keeps the program"
    before = buffers.stats().held_bytes
    del entry
    assert buffers.gc() >= needed
    assert buffers.stats().held_bytes < before - needed // 2
    small_program.run([], [])
    assert machine.device._arena.as_numpy(np.int64, (4,)).tolist() == [2] * 4
