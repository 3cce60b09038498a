"""Running GPU programs on a library that stands for the driver's: what is launched with which parameters, graphs and
their updates, checks before updates, host calls."""

from __future__ import annotations

import gc as python_gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_gpu import DESTROYED, GRAPH_LAUNCHES, GRAPHS, LAUNCHES, LOADS, SYNCS, UPDATES, Fake
from hand_made import CUBIN, N, argument, chain, get, load, new, put, scale
from knetc.runtime.base import host_functions
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CacheError, CudaError, LabelError
from knetc.runtime.cuda import device as devices
from knetc.runtime.cuda.execute import Executable, runs_on
from knetc.runtime.program import HostCall, Step

from knetc.compiler import report


def test_a_launch(gpu: Fake) -> None:
    executable = load(chain(1))
    x, y = put(1, 2, 3), new()
    executable.run([x.at], [y.at], [0.5])
    assert gpu.count(LAUNCHES) == gpu.count(SYNCS) == 0, "calls do not wait"
    assert get(y)[:3] == [0.5, 1.0, 1.5]
    assert gpu.launched == ["scale(2,3,1)x128+0"]


@pytest.mark.parametrize("graphs", [True, False])
def test_graphs_follow_changed_addresses_and_numbers(gpu: Fake, monkeypatch: pytest.MonkeyPatch, graphs: bool) -> None:
    monkeypatch.setattr(config, "cuda_graphs", graphs)
    executable = load(chain(4))
    results = []
    for k in range(5):
        x, y = put(*range(k, k + N)), new()
        executable.run([x.at], [y.at], [2.0])
        results.append((k, x, y))
    for k, _x, y in results:  # no result is overwritten by a later call
        assert get(y) == [16.0 * (k + i) for i in range(N)]
    assert gpu.count(GRAPHS) == graphs
    assert gpu.count(GRAPH_LAUNCHES) == 4 * graphs
    if graphs:
        assert gpu.count(UPDATES) == 2 * 3, "the first node has the input's address, the last the output's"
    _, x, y = results[-1]
    gpu.clear()
    executable.run([x.at], [y.at], [2.0])
    assert gpu.count(UPDATES) == 0
    executable.run([x.at], [y.at], [3.0])
    assert gpu.count(UPDATES) == 4 * graphs
    assert get(y)[0] == 81 * 4


def test_graphs_go_with_their_program(gpu: Fake) -> None:
    executable = load(chain(4))
    x, y = put(1), new()
    for _ in range(3):
        executable.run([x.at], [y.at], [2.0])
    assert (gpu.count(GRAPHS), gpu.count(DESTROYED)) == (1, 0)
    del executable
    python_gc.collect()
    assert gpu.count(DESTROYED) == 1
    assert get(y)[0] == 16.0


def test_zero_is_not_minus_zero(gpu: Fake) -> None:
    executable = load(chain(3))
    x, y = put(1), new()
    for number in (0.0, -0.0, 0.0, -0.0):
        executable.run([x.at], [y.at], [number])
        assert str(get(y)[0]) == str(number)


def test_in_place(gpu: Fake) -> None:
    executable = load(chain(3, update=True))
    x = put(1)
    for _ in range(3):
        executable.run([x.at], [x.at], [2.0])
    assert get(x)[0] == 8.0**3


def test_odd_addresses_are_copied(gpu: Fake) -> None:
    executable = load(chain(3))
    x, y = devices.device(0).upload(np.arange(N + 1.0)), new()
    executable.run([x.at + 8], [y.at], [1.0])
    assert get(y) == list(np.arange(1.0, N + 1))


def test_a_larger_arena_moves_the_places_in_it(gpu: Fake) -> None:
    small = load(chain(4))
    x, y = put(1), new()
    for _ in range(3):
        small.run([x.at], [y.at], [2.0])
    large = load(replace(chain(4), arena_bytes=1 << 22))
    large.run([x.at], [y.at], [2.0])
    assert devices.device(0).gc() >= 0  # the arena goes too
    for _ in range(2):
        small.run([x.at], [y.at], [3.0])
        assert get(y)[0] == 81.0


def test_a_failed_check_leaves_what_it_would_have_updated(gpu: Fake) -> None:
    executable = load(chain(3, update=True, check=True))
    good, bad = put(1), put(1, -7)
    for _ in range(3):
        executable.run([good.at], [good.at], [2.0])
        with pytest.raises(LabelError, match=r"-7 is negative\n  at model\.py:7"):
            executable.run([bad.at], [bad.at], [2.0])
    assert get(good)[0] == 8.0**3 and get(bad)[:2] == [1.0, -7.0]


def test_a_check_is_awaited_alone(gpu: Fake) -> None:
    executable = load(chain(4, update=True, check=True))
    good, bad = put(1), put(-7)
    executable.run([good.at], [good.at], [2.0])
    assert gpu.launched == ["negative(1,1,1)x128+0"], "three kernels are waiting, and one may go behind them"
    with pytest.raises(LabelError):
        executable.run([bad.at], [bad.at], [2.0])
    assert get(bad)[0] == -7 and get(good)[0] == 16 and gpu.count(LAUNCHES) == 5 + 4
    fresh = load(chain(4, check=True))
    y = new()
    for number in (2.0, 3.0):
        fresh.run([good.at], [y.at], [number])
    assert gpu.count(LAUNCHES) == 9 + 1 + 5, "what updates nothing waits at its end, for the check"
    with pytest.raises(LabelError):
        fresh.run([bad.at], [y.at], [1.0])


def test_what_a_check_finds_later_is_not_the_next_call_s(gpu: Fake) -> None:
    executable = load(chain(4, update=True, check=True))
    good, bad = put(1), put(-7)
    gpu.fail("cuLaunchKernel", 1, after=2)
    with pytest.raises(CudaError, match="cuLaunchKernel"):
        executable.run([bad.at], [bad.at], [2.0])
    executable.run([good.at], [good.at], [2.0])
    assert get(good)[0] == 16


def test_times_of_kernels(gpu: Fake, capfd: pytest.CaptureFixture[str]) -> None:
    executable = load(replace(chain(3, update=True, check=True), timed=True))
    x = put(1)
    for _ in range(4):
        executable.run([x.at], [x.at], [2.0])
    runs, times_us = executable.times()
    assert runs == 4 and len(times_us) == 4 and min(times_us) > 0
    assert gpu.count(GRAPHS) == 0
    report.tell_times(executable)
    assert "4 runs" in (said := capfd.readouterr().err) and "kernel 3: scale, " in said
    with pytest.raises(ValueError, match="KNETC_DEBUG"):
        load(chain(3)).times()
    gpu.fail("cuLaunchKernel", 1, after=2)
    with pytest.raises(CudaError) as caught:
        executable.run([x.at], [x.at], [2.0])
    assert "in kernel 2 (scale);" in caught.value.__notes__[0]


def test_host_calls(gpu: Fake) -> None:
    seen: list[Any] = []

    def reversed_(x: np.ndarray) -> np.ndarray:
        if x[0] < 0:
            raise ValueError("negative")
        seen.append(x.copy())
        return x[::-1]

    name = host_functions.register(f"test reversed {id(gpu)}", reversed_)
    plain = chain(2)
    program = replace(
        plain,
        steps=(scale(0, 2), Step("host", (argument(2), argument(3)), (), host=0, lines=("model.py:3",)), scale(3, 1)),
        hosts=(HostCall(name, ((N,), (N,)), ("f64", "f64")),),
    )
    executable = load(program)
    x, y = put(*range(1, N + 1)), new()
    for _ in range(3):
        executable.run([x.at], [y.at], [2.0])
        assert get(y) == [4.0 * k for k in range(N, 0, -1)]
    assert seen[0][0] == 2.0
    x = put(-1)
    with pytest.raises(ValueError, match="negative") as caught:
        executable.run([x.at], [y.at], [2.0])
    assert "model.py:3" in caught.value.__notes__[0]


def test_kernels_are_loaded_once(gpu: Fake) -> None:
    load(chain(3)), load(chain(4))
    assert gpu.count(LOADS) == 1


def test_what_cannot_be_loaded(gpu: Fake) -> None:
    with pytest.raises(CacheError, match="made for cuda:sm_100; cuda:0 is cuda:sm_90"):
        load(replace(chain(1), target="cuda:sm_100"))
    with pytest.raises(CacheError, match="kernels code are missing"):
        Executable(chain(1), {}, devices.device(0))
    with pytest.raises(CacheError, match="takes 6 parameters"):
        load(replace(chain(1), cubins=(replace(CUBIN, hidden_parameters=1),)))
    with pytest.raises(
        CudaError, match=r"wants 300,000 bytes of shared memory; cuda:0 \(Fake GPU 0\) gives .* 232,448"
    ):
        load(replace(chain(1), cubins=(replace(CUBIN, shared_bytes=300_000),)))
    with pytest.raises(CudaError, match="cuModuleLoadData"):
        Executable(chain(1), {"code": b"damaged"}, devices.device(0))


def test_scratch_memory(gpu: Fake) -> None:
    executable = load(replace(chain(1), cubins=(replace(CUBIN, global_scratch_bytes=384, num_ctas=2),)))
    (scratch,) = executable._owned
    assert scratch.size_bytes == 384 * (2 * 2) * 3
    x, y = put(1), new()
    executable.run([x.at], [y.at], [1.0])
    get(y)
    assert gpu.launched == ["scale(4,3,1)x128+0"]


def test_a_kernel_that_goes_astray_is_told_when_something_is_read(gpu: Fake) -> None:
    executable = load(chain(1))
    y = new()
    executable.run([1 << 40], [y.at], [1.0])
    with pytest.raises(CudaError, match=r"ILLEGAL_ADDRESS.*launches are asynchronous"):
        get(y)


def test_a_refused_launch_can_be_tried_again(gpu: Fake) -> None:
    executable = load(chain(4))
    x, y = put(1), new()
    for name in ("cuLaunchKernel", "cuGraphInstantiateWithFlags", "cuGraphLaunch"):
        gpu.fail(name, 1)
        with pytest.raises(CudaError, match=name):
            executable.run([x.at], [y.at], [2.0 + len(name)])
        if name != "cuLaunchKernel":  # the second run makes the graph
            executable.run([x.at], [y.at], [2.0])
            assert get(y)[0] == 16.0


def test_a_graph_that_cannot_be_changed_is_made_anew(gpu: Fake) -> None:
    executable = load(chain(4))
    x, y = put(1), new()
    for number in (2.0, 2.0, 3.0):
        gpu.fail("cuGraphExecKernelNodeSetParams_v2", 910)
        executable.run([x.at], [y.at], [number])
        assert get(y)[0] == number**4
    assert (gpu.count(GRAPHS), gpu.count(DESTROYED)) == (2, 1)


def test_targets() -> None:
    assert runs_on("cuda:sm_90", "cuda:sm_90") and runs_on("cuda:sm_80", "cuda:sm_89")
    assert not runs_on("cuda:sm_100", "cuda:sm_103") and not runs_on("cpu:x86_64:avx2", "cuda:sm_90")
