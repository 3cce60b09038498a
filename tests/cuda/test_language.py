"""The language on a GPU, which is simulated: where arrays are, what moves them, programs, updates, ownership."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.errors import DeviceError, LabelError, RangeError, TraceError, UnsupportedError
from knetc.runtime.cuda import sections
from on_device import on_device
from optable import cases, check

import knetc as kn
from knetc.ir.op import OPS, Op

GPU = "cuda:0"
_OPS = [op for op in OPS.values() if op.reference is not None and op.name not in ("group", "item")]


def same(x: Any, y: Any, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), tolerance, tolerance)


# --- where arrays are


@pytest.mark.parametrize(
    "make",
    [
        lambda **d: kn.array([[1.0, 2.0]], **d),
        lambda **d: kn.array(np.arange(6).reshape(2, 3), **d),
        lambda **d: kn.array(3.0, **d),
        lambda **d: kn.array([kn.array([1.0], **d), kn.array([2.0], **d)], **d),
        lambda **d: kn.zeros(2, 3, **d),
        lambda **d: kn.ones((2, 3), **d),
        lambda **d: kn.full((2,), 7, **d),
        lambda **d: kn.full((2, 2), np.array([1.0, 2.0]), **d),
        lambda **d: kn.arange(5, **d),
        lambda **d: kn.linspace(0, 1, 5, **d),
        lambda **d: kn.eye(3, **d),
        lambda **d: kn.rand(3, **d),
        lambda **d: kn.randn(3, **d),
        lambda **d: kn.randint(0, 9, (3,), **d),
        lambda **d: kn.param(3, 4, **d),
        lambda **d: kn.param0(3, **d),
        lambda **d: kn.param(np.ones(3), **d),
    ],
)
def test_makers_take_a_device(device: Any, make: Any) -> None:
    kn.seed(1)
    there = make(device="cuda")
    kn.seed(1)
    here = make()
    assert (there.device, here.device) == (GPU, "cpu")
    same(there, here)
    kn.set_default(device="cuda")
    kn.seed(1)
    default = make()
    assert default.device == GPU
    same(default, here)


def test_results_are_where_their_operands_are(device: Any) -> None:
    x = kn.array([1.0, 2.0, 3.0], device="cuda")
    for result in (x + 1, np.float32(2) * x, x + np.ones(3, np.float32), x[1:], x[0], x > 1, kn.zeros_like(x) + x):
        assert result.device == GPU
    same(x + np.ones(3, np.float32), [2, 3, 4])
    same(kn.ones_like(x[1:]), [1, 1])
    assert kn.exp(np.ones(2)).device == "cpu"


def test_slices_of_memory_are_views(simulated: Any) -> None:
    x = kn.array(np.arange(12.0).reshape(4, 3), device="cuda")
    launches = simulated.launches
    same(x[1:3], [[3, 4, 5], [6, 7, 8]])
    assert x[3, 2].item() == 11.0 and simulated.launches == launches
    same(x[1:] * 2, np.arange(12.0).reshape(4, 3)[1:] * 2)


def test_devices_do_not_mix(simulated: Any) -> None:
    x, y = kn.ones(3, device="cuda"), kn.ones(3)
    with pytest.raises(DeviceError, match=r"(?s)add.*cuda:0.*cpu.*kn\.to_device\(x, 'cuda:0'\).*test_language"):
        x + y
    with pytest.raises(DeviceError, match="cuda:1"):
        x * kn.ones(3, device="cuda:1")
    with pytest.raises(DeviceError, match="cpu"):
        x[...] = y
    with pytest.raises(DeviceError, match="cpu"):
        x[...] = y + 1
    same(x, np.ones(3))
    x[...] = np.full(3, 5, np.float32)  # NumPy's data go where they are used
    assert x.device == GPU
    same(x, [5, 5, 5])
    x[1] = 0
    x[...] = 2.0 * x
    assert x.device == GPU
    same(x, [10, 0, 10])


def test_moving(simulated: Any) -> None:
    x = kn.array([[1.0, 2.0]]) * 3
    there = kn.to_device(x, "cuda")
    assert there.device == GPU and kn.to_device(there, "cuda:0") is there
    other = kn.to_device(there + 1, "cuda:1")
    assert other.device == "cuda:1"
    back = kn.to_device(other, "cpu")
    assert back.device == "cpu"
    same(back, [[4, 7]])
    assert kn.asarray(x, device="cuda").device == kn.array(x, device="cuda").device == GPU


def test_names_of_devices(simulated: Any) -> None:
    for wrong in ("gpu", "cuda:-1", "cuda:x", 0):
        with pytest.raises(UnsupportedError, match=r"devices are 'cpu', 'cuda'"):
            kn.zeros(3, device=wrong)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="no device cuda:7: there are cuda:0 to cuda:1"):
        kn.set_default(device="cuda:7")
    assert kn.gpu() == -1 and kn.gpu(True) in (0, 1) and kn.gpu(1) == 1
    assert kn.zeros(1).device == "cuda:1" and kn.gpu(False) == -1


class Model:
    def __init__(self) -> None:
        self.w = kn.param(4, 3)
        self.layers = [self.w, kn.param0(3)]
        self.mean = kn.zeros(3)
        self.table = np.arange(3)


def test_copies_of_models(device: Any) -> None:
    model = Model()
    model.w.opt = kn.Adam()
    kn.update(model.w, np.ones((4, 3), np.float32))
    there = kn.gpucopy(model)
    assert there.w.device == there.layers[1].device == there.mean.device == there.table.device == GPU
    assert there.layers[0] is there.w and there.w.opt is not model.w.opt
    assert {box.device for box in there.w.opt.boxes()} == {GPU}
    kn.update(there.w, np.ones((4, 3), np.float32))
    kn.update(model.w, np.ones((4, 3), np.float32))
    same(there.w, model.w)
    back = kn.cpucopy(there)
    assert back.w.device == "cpu" and {box.device for box in back.w.opt.boxes()} == {"cpu"}
    same(back.w, model.w)
    assert copy.deepcopy(there).w.device == GPU


def test_copies_from_one_gpu_to_another(simulated: Any) -> None:
    there = kn.gpucopy(Model())
    other = kn.gpucopy(there, "cuda:1")
    assert {x.device for x in (other.w, other.mean, other.table, *other.layers)} == {"cuda:1"}
    same(other.w, there.w)
    assert there.w.device == GPU


# --- programs


def test_compiled_functions_follow_their_arguments(simulated: Any) -> None:
    w = kn.param(np.arange(3.0))

    @kn.compile
    def double(x: Any) -> Any:
        return x * 2 + 1

    @kn.compile
    def weighted(x: Any) -> Any:
        return x * w

    for _ in range(3):
        for where in ("cpu", "cuda", "cuda:1"):
            result = double(kn.ones(4, device=where))
            assert result.device.startswith(where)
            same(result, np.full(4, 3))
    assert len(double.__knetc_compiled__.variants) == 3
    same(weighted(kn.ones(3)), [0, 1, 2])
    with pytest.raises(DeviceError, match=r"(?s)weighted runs on cuda:0 \(x is there\), but w is on cpu.*kn\.gpucopy"):
        weighted(kn.ones(3, device="cuda"))
    with pytest.raises(TraceError, match="a copy to another device"):
        kn.compile(lambda x: kn.to_device(x, "cuda"))(kn.ones(2))


def test_compile_for_a_device(device: Any) -> None:
    @kn.compile(device="cuda")
    def f(x: Any, y: float) -> Any:
        return kn.sum(x * y) + kn.zeros(1) + np.arange(2.0, dtype=np.float32)

    for k in range(4):
        result = f(np.full((3, 2), k, np.float32), 0.5)
        assert result.device == GPU
        same(result, [3 * k, 3 * k + 1])
    with pytest.raises(DeviceError, match="compiled for it"):
        f(kn.ones(3), 1.0)


def test_results_are_never_overwritten(device: Any) -> None:
    @kn.compile
    def chain(x: Any) -> Any:
        y = kn.sum(x * 2, axis=1)
        return y / kn.max(x), y

    results = [chain(kn.full((3, 40), k + 1.0, device="cuda")) for k in range(5)]
    for k, (first, second) in enumerate(results):
        same(second, np.full(3, 80.0 * (k + 1)))
        same(first, np.full(3, 80.0))


def test_graphs_replay_steps(simulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "GRAPH_FROM", 1)
    w = kn.param(np.ones((5, 70)), device="cuda")

    @kn.compile
    def step(x: Any) -> Any:
        norm = kn.sum((w - x) ** 2, axis=1, keepdims=True)
        w[...] = w - 0.1 * (w - x) / (1 + norm)
        return kn.sum(norm)

    expected = np.ones((5, 70))
    for k in range(4):
        x = np.full((5, 70), k, np.float32)
        norm = ((expected - x) ** 2).sum(1, keepdims=True)
        same(step(x), norm.sum(), 1e-5)
        expected = expected - 0.1 * (expected - x) / (1 + norm)
    same(w, expected, 1e-5)
    assert simulated.graph_launches == 3


def test_random_numbers_are_the_cpu_s(device: Any) -> None:
    def draw(where: str) -> list[Any]:
        kn.seed(3)
        x = kn.ones(50, device=where)
        return [kn.rand(7, device=where), kn.randn(7, device=where), kn.dropout(x, 0.5, training=True)]

    for here, there in zip(draw("cpu"), draw("cuda")):
        same(here, there)


# --- updates and ownership


def test_updates_in_place(device: Any) -> None:
    w = kn.param(np.arange(6.0), device="cuda")
    same(w, np.arange(6.0))
    assert w.buffer is not None
    at = w.buffer.at

    @kn.compile
    def step() -> None:
        w[...] = w + 1

    step()
    assert w.buffer.at == at
    before = w.value
    step()
    assert w.buffer.at != at, "an owner keeps the old numbers"
    same(before, np.arange(6.0) + 1)
    same(w, np.arange(6.0) + 2)
    host = w.numpy()
    step()
    same(host, np.arange(6.0) + 2)
    w[...] = w * 2
    same(w, 2 * (np.arange(6.0) + 3))


def test_a_failed_check_changes_nothing(device: Any) -> None:
    w = kn.param(np.zeros((2, 3)), device="cuda")

    @kn.compile
    def run(labels: Any) -> Any:
        loss = kn.nll(w, labels)
        w[...] = w + 1
        return loss

    same(run(np.array([0, 2])), np.log(3), 1e-5)
    same(w, np.ones((2, 3)))
    with pytest.raises(LabelError, match="3"):
        np.asarray(run(np.array([0, 3])))
    same(w, np.ones((2, 3)))
    run(np.array([0, 1]))
    same(w, np.full((2, 3), 2))


def test_assigning_to_a_part(device: Any) -> None:
    x = kn.array([1.0, 2.0, 3.0], device="cuda")
    x[1:2] = kn.array([7.0], device="cuda") * 2  # one place, read under a condition that varies
    same(x + 1, [2, 15, 4])


@pytest.mark.parametrize("optimizer", ["SGD", "Momentum", "Nesterov", "Adagrad", "Rmsprop", "Adadelta", "Adam"])
def test_optimizers(device: Any, optimizer: str) -> None:
    def trained(where: str) -> Any:
        w = kn.param(np.linspace(-1, 1, 12).reshape(3, 4), device=where)
        data = [(np.full((3, 4), k, np.float32),) for k in range(3)]
        losses = list(kn.minimize(lambda x: kn.sum((w - x) ** 2), data, getattr(kn, optimizer)(lr=0.05)))
        return [np.asarray(loss) for loss in losses], np.asarray(w)

    for here, there in zip(trained("cpu"), trained("cuda")):
        np.testing.assert_allclose(here, there, 1e-5, 1e-6)


def test_batches_are_on_the_default_device(device: Any) -> None:
    kn.set_default(device="cuda")
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    batches = list(kn.minibatch(x, y, 5))
    assert {part.device for batch in batches for part in batch} == {GPU}
    same(batches[1][0], x[5:])


# --- memory


def test_memory_is_counted_and_given_back(device: Any) -> None:
    before = kn.memory_stats("cuda").in_use_bytes
    x = kn.ones(1000, device="cuda")
    x.numpy()
    assert kn.memory_stats("cuda").in_use_bytes >= before + 4000
    del x
    assert kn.memory_stats("cuda").in_use_bytes == before
    assert kn.gc() >= 4000
    kn.synchronize("cuda")


def test_host_calls(device: Any) -> None:
    matrix = np.array([[2.0, 1.0], [0.0, 4.0]])
    x = kn.array(matrix, device="cuda")
    found = kn.inv(x) * 2
    assert found.device == GPU
    same(found, 2 * np.linalg.inv(matrix))


# --- other libraries


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "uint8", "bool"])
def test_dlpack_shares_memory(simulated: Any, dtype: str) -> None:
    x = kn.array(np.arange(6).reshape(2, 3), dtype, device="cuda:1")
    assert x.__dlpack_device__() == (2, 1)
    y = kn.from_dlpack(x)
    assert (y.device, y.dtype, y.shape) == ("cuda:1", x.dtype, (2, 3))
    assert x.buffer is not None and y.buffer is not None and x.buffer is not y.buffer
    assert x.buffer.at == y.buffer.at
    same(y.astype("float32") + 1, x.astype("float32") + 1)
    at = x.buffer.at
    x[...] = x
    x[0, 0] = 1
    same(y.astype("int64"), np.asarray(np.arange(6).reshape(2, 3), y.dtype).astype("int64"))
    assert x.buffer is None or x.buffer.at != at, "assignments take fresh memory while others hold it"


def test_what_dlpack_holds_lives_until_it_is_given_back(device: Any) -> None:
    def used() -> int:
        kn.synchronize("cuda")  # what is given back is behind what was to be done with it
        return kn.memory_stats("cuda").in_use_bytes

    start = used()
    x = kn.ones(5000, device="cuda")
    x.numpy()
    held = used()
    y = kn.from_dlpack(x)
    capsule = x.__dlpack__(stream=-1)
    del x
    assert used() == held
    del y
    assert used() == held
    del capsule  # nobody took it
    assert used() == start


def test_what_dlpack_does_not_do(device: Any) -> None:
    x = kn.ones(3, device="cuda")
    with pytest.raises(BufferError, match="to_device"):
        x.__dlpack__(stream=None, dl_device=(1, 0))
    with pytest.raises(BufferError, match=r"on cuda:0.*np\.asarray"):
        np.from_dlpack(x)

    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (10, 0)

    with pytest.raises(DeviceError, match="device"):
        kn.from_dlpack(Elsewhere())


# --- operations


@pytest.mark.parametrize("op", _OPS, ids=lambda op: op.name)
def test_operations(simulated: Any, op: Op) -> None:
    """Every operation as programs in shared memory, as users run them; kernel by kernel they are tried elsewhere."""
    check(list(cases(op)), on_device)


# --- loops and branches


@pytest.mark.parametrize("width", [3, 4])  # rows of 12 bytes begin at odd addresses
@pytest.mark.parametrize("reverse", [False, True])
def test_scans(device: Any, width: int, reverse: bool) -> None:
    xs = np.arange(5 * width, dtype=np.float32).reshape(5, width)

    @kn.compile
    def run(xs: Any, start: Any) -> Any:
        def step(total: Any, x: Any) -> Any:
            total = total * 0.5 + x
            return total, kn.exp(-total) + x

        return kn.scan(step, start, xs, reverse=reverse)

    for _ in range(3):
        here = run(kn.array(xs), kn.zeros(width))
        there = run(kn.array(xs, device="cuda"), kn.zeros(width, device="cuda"))
        assert there[0].device == GPU
        for one, other in zip(here, there):
            same(one, other)


def test_loops_and_branches(device: Any) -> None:
    @kn.compile
    def run(x: Any, n: Any) -> Any:
        grown = kn.while_loop(lambda v: kn.sum(v) < n, lambda v: v * 2, x)
        chosen = kn.cond(kn.sum(grown) > 20, lambda v: v + 1, lambda v: v - 1, grown)
        return kn.fori_loop(0, 3, lambda i, v: v + i.astype("float32"), chosen)

    for n in (1.0, 10.0, 40.0):
        expected = np.ones(4)
        while expected.sum() < n:
            expected = expected * 2
        expected = expected + 3 + (1 if expected.sum() > 20 else -1)
        same(run(kn.ones(4, device="cuda"), kn.array(n, device="cuda")), expected)


def test_threads(device: Any) -> None:
    @kn.compile(device="cuda")
    def f(x: Any) -> Any:
        return kn.sum(kn.exp(x)) * 2

    wrong: list[object] = []

    def work(k: int) -> None:
        for n in range(10):
            x = np.full(1000, (k + n) % 5, np.float32)
            if not np.isclose(float(f(x)), 2000 * np.exp(x[0]), 1e-4):
                wrong.append((k, n))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_integers_beyond_64_bits(device: Any) -> None:
    f = kn.compile(lambda x, n: x + n)
    x = kn.arange(3, device="cuda")
    assert f(x, 5).tolist() == [5, 6, 7]
    for _ in range(2):
        with pytest.raises(RangeError, match="does not fit into int64"):
            f(x, 1 << 70)
        assert f(x, 6).tolist() == [6, 7, 8]


# --- a model


def test_a_training_step(device: Any) -> None:
    random = np.random.default_rng(0)
    data = [(random.normal(size=(7, 20)).astype(np.float32), random.integers(0, 5, 7)) for _ in range(4)]

    def trained(where: str) -> tuple[list[Any], list[Any]]:
        kn.seed(2)
        w1, b1, w2, b2 = (
            p for s in ((6, 20), (5, 6)) for p in (kn.param(*s, device=where), kn.param0(s[0], device=where))
        )

        def loss(x: Any, y: Any) -> Any:
            hidden = kn.dropout(kn.relu(x @ w1.T + b1), 0.2)
            return kn.nll(hidden @ w2.T + b2, y)

        losses = [float(value) for value in kn.adam(loss, data * 2, lr=0.01)]
        return losses, [np.asarray(p) for p in (w1, b1, w2, b2)]

    here, there = trained("cpu"), trained("cuda")
    same(here[0], there[0], 1e-5)
    for one, other in zip(here[1], there[1]):
        same(one, other, 1e-5)
