"""Training: parameters' first values, optimizers, iterators over data, progress."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.errors import ShapeError
from knetc.runtime.buffers import Buffer

import knetc as kn
from knetc import lazy
from knetc.cut import Cut
from knetc.ir.node import Graph
from knetc.train.progress import Progress, bar


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    graphs: list[Graph] = []
    real = lazy.executor.run

    def run(cut: Cut) -> list[Buffer]:
        graphs.append(cut.graph())
        return real(cut)

    monkeypatch.setattr(lazy.executor, "run", run)
    return graphs


# --- optimizers

TABLE: list[tuple[Any, list[list[float]], list[float]]] = [
    (kn.SGD, [[0.9, 1.8, 2.7], [0.81, 1.62, 2.43], [0.729, 1.458, 2.187]], [-0.1, -0.2, -0.3, -0.4, -0.5]),
    (
        kn.Momentum,
        [[0.95, 1.9, 2.85], [0.855, 1.71, 2.565], [0.722, 1.444, 2.166]],
        [-0.05, -0.1475, -0.290125, -0.47561875, -0.7018378125],
    ),
    (
        kn.Nesterov,
        [
            [0.9025, 1.805, 2.7075],
            [0.76938125, 1.5387625, 2.30814375],
            [0.6107725156, 1.2215450312, 1.8323175469],
        ],
        [-0.0975, -0.240125, -0.42561875, -0.6518378125, -0.9167459219],
    ),
    (
        kn.Adagrad,
        [
            [0.950000025, 1.9500000062, 2.9500000028],
            [0.9155625605, 1.9150950016, 2.9149430062],
            [0.8879107957, 1.8868216746, 2.8864686147],
        ],
        [-0.049999975, -0.0853553052, -0.1142228139, -0.1392228107, -0.1615834883],
    ),
    (
        kn.Rmsprop,
        [
            [0.9683773815, 1.9683772629, 2.968377241],
            [0.9457882425, 1.9456096912, 2.9455511819],
            [0.9270533505, 1.9266337452, 2.9264965676],
        ],
        [-0.0316226185, -0.0545641315, -0.0737735648, -0.0908258772, -0.1064525751],
    ),
    (
        kn.Adadelta,
        [
            [0.9968377382, 1.9968377263, 2.9968377241],
            [0.9935981984, 1.993595735, 2.9935949188],
            [0.9903090828, 1.9903007617, 2.9902979986],
        ],
        [-0.0031622618, -0.0064066736, -0.0097074623, -0.0130520078, -0.0164328620],
    ),
    (
        kn.Adam,
        [
            [0.999, 1.999, 2.999],
            [0.9980000262, 1.9980000131, 2.9980000087],
            [0.9970000961, 1.9970000479, 2.9970000319],
        ],
        [-0.00099999999, -0.00199999998, -0.00299999997],
    ),
]


@pytest.mark.parametrize(("kind", "shrinking", "constant"), TABLE)
def test_optimizers_move_as_knets(kind: Any, shrinking: list[list[float]], constant: list[float]) -> None:
    w = kn.Param(np.array([1.0, 2.0, 3.0]), kind())
    for expected in shrinking:
        kn.update(w, w.value)
        np.testing.assert_allclose(w, expected, rtol=0, atol=6e-11)
    w = kn.Param(np.zeros(()), kind())
    for number in constant:
        kn.update(w, 1.0)
        assert float(w) == pytest.approx(number, abs=6e-11)


def test_an_update_is_one_program_and_recompiles_for_nothing(runs: list[Graph]) -> None:
    w = kn.Param([1.0, 2.0], kn.Adam())
    g = kn.array([0.5, 0.25])
    kn.update(w, g)
    w.opt.lr, w.opt.beta1 = 0.3, 0.7
    kn.update(w, g)
    assert len(runs) == 2
    assert len(runs[0].nodes) == len(runs[1].nodes) and len(runs[0].inputs) == len(runs[1].inputs)
    assert w.opt.step.item() == 2


def test_clipping_decay_and_schedules() -> None:
    for limit, expected in ((1, [-0.6, -0.8]), (5, [-3, -4]), (0, [-3, -4])):
        w = kn.Param([0.0, 0.0])
        kn.update(w, [3.0, 4.0], lr=1, gclip=limit)
        np.testing.assert_allclose(w, expected, rtol=1e-6)
    w = kn.Param([1.0], kn.SGD(lr=0.5, weight_decay=0.1))
    np.testing.assert_allclose(kn.update(w, [0.0]), [0.95])
    w = kn.Param([1.0], kn.AdamW(lr=0.5, weight_decay=0.1))
    np.testing.assert_allclose(kn.update(w, [0.0]), [0.95])
    w = kn.Param([0.0], kn.SGD(lr=lambda t: 1.0 / t))
    for expected in (-1, -1.5, -1.5 - 1 / 3):
        kn.update(w, [1.0])
        np.testing.assert_allclose(w, [expected], rtol=1e-6)


def test_update_takes_containers_tapes_and_arrays() -> None:
    a, b = kn.array([1.0]), kn.array([2.0])
    kn.update([a, b], [[1.0], None])
    kn.update({"a": a}, {"a": [1.0]}, kn.SGD(lr=1))
    assert a.item() == pytest.approx(-0.1) and b.item() == 2
    with pytest.raises(ValueError, match="same length"):
        kn.update([a], [])
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        kn.update(a, [1.0, 2.0])
    with pytest.raises(TypeError, match="ndarray"):
        kn.update(np.zeros(2), np.zeros(2))
    with pytest.raises(TypeError, match="no hyper-parameter 'beta'"):
        kn.update(a, [1.0], beta=1)
    v, w = kn.Param([1.0]), kn.Param([2.0])
    kn.update([v, w], kn.diff(lambda: kn.sum(v * v)), lr=1)
    assert v.item() == -1 and w.item() == 2


def test_what_somebody_holds_is_not_overwritten() -> None:
    w = kn.Param([1.0, 2.0])
    before, view = w.value, np.asarray(w)
    kn.update(w, [1.0, 1.0])
    assert before.tolist() == [1, 2] and view.tolist() == [1, 2]
    np.testing.assert_allclose(w, [0.9, 1.9])


# --- minimize


@pytest.mark.parametrize("compile", [False, True])
def test_minimize_gives_losses_before_the_updates(compile: bool) -> None:
    w = kn.Param(np.array([1.0, 2.0, 3.0]))
    losses = kn.sgd(lambda x: kn.sum(w * w), [(0.0,)] * 5, compile=compile)
    assert len(losses) == 5
    np.testing.assert_allclose([float(v) for v in losses], [14, 8.96, 5.7344, 3.670016, 2.34881024])
    np.testing.assert_allclose(w, [0.32768, 0.65536, 0.98304])


def test_an_opt_is_kept_changed_or_replaced() -> None:
    w = kn.Param([1.0])
    loss = lambda: kn.sum(w * w)  # noqa: E731
    kn.adam_(loss, [()], compile=False)
    first = w.opt
    kn.sgd_(loss, [()], compile=False)
    assert w.opt is first and isinstance(first, kn.Adam)
    kn.adam_(loss, [()], lr=0.5, compile=False)
    assert w.opt is first and first.lr == 0.5 and first.step.item() == 3
    kn.sgd_(loss, [()], lr=0.5, compile=False)
    assert isinstance(w.opt, kn.SGD)


def test_minimize_with_chosen_params_and_a_common_clip() -> None:
    v, w = kn.Param([3.0]), kn.Param([4.0])
    loss = lambda: kn.sum(v * v + w * w) / 2  # noqa: E731
    kn.sgd_(loss, [()], lr=1, params=[v], compile=False)
    assert v.item() == 0 and w.item() == 4
    v[...] = 3
    kn.sgd_(loss, [()], lr=1, global_clip=1, compile=False)
    np.testing.assert_allclose([v.item(), w.item()], [2.4, 3.2], rtol=1e-6)


def test_converge() -> None:
    assert list(kn.converge([10, 9, 8, 7, 8, 9, 10, 11, 12, 13])) == [10, 9, 8, 7, 8, 9, 10, 11]
    assert list(kn.converge([10, 5, 6, 7, 8, 9], alpha=0.5)) == [10, 5, 6, 7]
    assert list(kn.converge([1, 2])) == [1]


# --- data


def test_minibatch_cuts_the_first_axis() -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    batches = list(kn.minibatch(x, y, 3))
    assert len(batches) == 3 == len(kn.minibatch(x, y, 3))
    assert batches[1][0].tolist() == x[3:6].tolist() and batches[1][1].tolist() == [3, 4, 5]
    assert batches[0][0].dtype == np.float32 and batches[0][1].dtype == np.int64
    assert [b.shape for b in kn.minibatch(x, 4, partial=True)] == [(4, 2), (4, 2), (2, 2)]
    assert len(kn.minibatch(x, 11)) == 0 and len(kn.minibatch(x, 11, partial=True)) == 1
    with pytest.raises(ShapeError, match="10 instances and y has 9"):
        kn.minibatch(x, y[:9], 3)


def test_minibatch_shuffles_anew_and_repeats_with_a_seed() -> None:
    x = np.arange(100)
    kn.seed(3)
    data = kn.minibatch(x, x, 10, shuffle=True)
    first = [b.tolist() for b, _ in data]
    second = [b.tolist() for b, _ in data]
    assert first != second and sorted(number for batch in first for number in batch) == list(range(100))
    kn.seed(3)
    assert [b.tolist() for b, _ in kn.minibatch(x, x, 10, shuffle=True)] == first
    for a, b in data:
        assert a.tolist() == b.tolist()
    a, b = data.random()
    assert a.tolist() == b.tolist() == list(range(a.tolist()[0], a.tolist()[0] + 10))


def test_minibatch_types_and_shapes() -> None:
    x = np.zeros((4, 6), np.uint8)
    [batch, *_] = kn.minibatch(x, 2, xsize=(4, 2, 3))
    assert batch.dtype == np.uint8 and batch.shape == (2, 2, 3)
    [batch, *_] = kn.minibatch(x, 2, xtype=np.float64)
    assert isinstance(batch, kn.Array) and batch.dtype == np.float64
    with pytest.raises(ShapeError):
        kn.minibatch(x, 2, xsize=(4, 5))


# --- losses over data


def test_losses_over_data_count_instances() -> None:
    scores, labels = np.array([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], np.float32), np.array([1, 0, -1])
    data = list(kn.minibatch(scores, labels, 2, partial=True))
    np.testing.assert_allclose(kn.nll(scores, labels), 1.5485873516, rtol=1e-6)
    np.testing.assert_allclose(kn.nll(lambda x: x, data=data), 1.5485873516, rtol=1e-6)
    assert kn.accuracy(lambda x: x, data) == 0.5 and kn.accuracy(lambda x: x, data=data, average=False) == (1, 2)


# --- first values


def test_first_values() -> None:
    kn.seed(1)
    for shape, bound in (((3, 4), 0.92582010), ((20, 1, 5, 5), 0.10690450), ((10,), 0.73854895)):
        values = np.asarray(kn.xavier(*shape))
        assert np.abs(values).max() <= bound and np.abs(values).max() > bound * 0.6
    assert np.std(np.asarray(kn.xavier_normal(300, 400))) == pytest.approx(np.sqrt(2 / 700), rel=0.02)
    values = np.asarray(kn.gaussian(200, 200, mean=1, std=0.1))
    assert values.mean() == pytest.approx(1, abs=0.005) and values.std() == pytest.approx(0.1, rel=0.02)
    assert kn.param(10, 784).shape == (10, 784) and kn.param0(2).tolist() == [0, 0]
    assert kn.param(np.array([1.0, 2.0])).dtype == np.float32 and kn.param([1, 2]).tolist() == [1, 2]


def test_random_numbers_follow_the_seed_and_never_repeat() -> None:
    kn.seed(5)
    a, b = kn.rand(1000), kn.rand(1000)
    assert not np.array_equal(a, b)
    kn.seed(5)
    assert np.array_equal(kn.rand(1000), a) and np.array_equal(kn.rand(1000), b)
    assert np.min(a) >= 0 and np.max(a) < 1 and np.mean(a) == pytest.approx(0.5, abs=0.04)
    normal = np.asarray(kn.randn(50000, dtype="float64"))
    assert normal.mean() == pytest.approx(0, abs=0.02) and normal.std() == pytest.approx(1, abs=0.02)
    assert normal.dtype == np.float64 and (normal**4).mean() == pytest.approx(3, abs=0.2)


# --- progress


def test_the_bar_is_knets() -> None:
    assert bar(903, 1040, 96, "msg") == "┣█████████████████▎  ┫ [86.83%, 903/1040, 01:36/01:50, 9.41i/s] msg"
    assert bar(3, None, 100) == "[3, 01:40, 33.33s/i]"
    assert bar(2, 2, 4000) == "┣████████████████████┫ [100.00%, 2/2, 01:06:40/01:06:40, 2000.00s/i]"


def test_progress_passes_items_and_draws() -> None:
    output = io.StringIO()
    seen: list[Any] = []
    items = kn.progress(lambda p: seen.append((p.curriter, p.currval)), [5, 6, 7, 8, 9], steps=2, io=output)
    assert len(items) == 5 and list(items) == [5, 6, 7, 8, 9]
    assert seen == [(1, 5), (2, 6), (4, 8), (5, 9)]
    lines = output.getvalue().splitlines()
    assert len(lines) == 4 and "100.00%, 5/5" in lines[3] and "\r" not in output.getvalue()
    assert list(kn.progress(lambda p: Progress.stop if p.curriter == 3 else "", range(9), steps=1, io=output)) == [0, 1]
    kn.progress_([], io=output)


@pytest.mark.cpu
def test_updates_take_the_memory_that_nobody_else_holds() -> None:
    w, g = kn.Param(np.ones(1000), kn.Adam()), kn.array(np.ones(1000))
    addresses = [w.buffer.address, w.opt.fstm.buffer.address, w.opt.scndm.buffer.address]
    for k in range(3):
        kn.update(w, g * k)
    assert [w.buffer.address, w.opt.fstm.buffer.address, w.opt.scndm.buffer.address] == addresses
    held = w.value
    kn.update(w, g)
    assert w.buffer.address != addresses[0] and held.buffer.address == addresses[0]
    before = held.tolist()
    address = w.buffer.address
    pending = w * 2  # what is still to be computed from the old value owns it too
    kn.update(w, g)
    assert w.buffer.address != address
    view = np.asarray(w)
    address = w.buffer.address
    kn.update(w, g)
    assert w.buffer.address != address and not np.shares_memory(view, np.asarray(w))
    tape = kn.diff(lambda: kn.sum(w * w))
    gradient = kn.grad(tape, w)
    address = w.buffer.address
    kn.update(w, gradient)
    assert w.buffer.address != address  # the tape may still be asked
    assert held.tolist() == before and pending.tolist() is not None


@pytest.mark.cpu
def test_lazy_training_needs_no_fresh_memory() -> None:
    w = kn.Param(np.ones(1000))
    address = w.buffer.address
    kn.sgd_(lambda: kn.sum(w * w), [()] * 3, lr=0.1, compile=False)
    assert w.buffer.address == address
    np.testing.assert_allclose(w, np.full(1000, 0.8**3))


def test_progress_on_a_terminal_draws_one_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    output = Terminal()
    kn.progress_(range(3), steps=1, io=output)
    text = output.getvalue()
    assert text.count("\r") == 3 and text.count("\n") == 1 and text.endswith("\n")


# --- gcheck


def test_gcheck_accepts_right_gradients_and_catches_wrong_ones(capsys: pytest.CaptureFixture[str]) -> None:
    w = kn.Param(np.linspace(-1, 1, 30).reshape(5, 6))
    x = np.linspace(0.1, 1, 12).reshape(2, 6)
    before = w.tolist()
    assert kn.gcheck(lambda v, k: kn.tanh(v @ w.T) * k, x, kw={"k": 2.0}, atol=1e-6, rtol=1e-6)
    assert w.tolist() == before and not capsys.readouterr().out
    assert not kn.gcheck(lambda v: kn.stop_gradient(v) * v, x)
    assert "FAILED: f64[2,6] at (0, 0)" in capsys.readouterr().out
    assert kn.gcheck(lambda v: kn.stop_gradient(v) * 0 + 1, x, verbose=2)
    assert "passed" in capsys.readouterr().out


def test_the_manuals_losses() -> None:
    scores = np.array([[12.2, 2.0, 0.0], [0.3, 21.5, -21.0]])  # instances are rows here
    for labels, expected in (([0, 1], 2.1100252e-5), ([-1, 1], 6.2080829e-10), ([2, 2], 27.3500211), ([-1, -1], 0.0)):
        assert float(kn.nll(scores, np.array(labels))) == pytest.approx(expected, rel=1e-6)
    gradient = kn.grad(kn.nll)(scores, np.array([0, -1]))
    np.testing.assert_allclose(gradient[1], np.zeros(3), atol=0)
    with pytest.raises(IndexError, match="label 3 is out of range for 3 classes"):
        float(kn.nll(scores, np.array([0, 3])))


def test_a_label_out_of_range_changes_no_param() -> None:
    w = kn.Param(np.ones((3, 2)))
    data = [(np.ones((2, 2)), np.array([0, 1])), (np.ones((2, 2)), np.array([0, 3]))]
    for compile in (False, True):
        iterator = iter(kn.adam(lambda x, y: kn.nll(x @ w.T, y), data, compile=compile))
        next(iterator)
        before, steps = w.tolist(), w.opt.step.item()
        with pytest.raises(IndexError, match="label 3"):
            next(iterator)
        assert w.tolist() == before and w.opt.step.item() == steps


@pytest.mark.parametrize(
    "kind", [kn.SGD, kn.Momentum, kn.Nesterov, kn.Adagrad, kn.Rmsprop, kn.Adadelta, kn.Adam, kn.AdamW]
)
def test_compiled_steps_are_the_uncompiled_ones(kind: Any) -> None:
    rng = np.random.default_rng(0)
    data = [(rng.standard_normal((4, 3)), rng.integers(0, 2, 4)) for _ in range(4)]
    start = rng.standard_normal((2, 3))

    def train(compile: bool) -> tuple[list[float], Any, Any]:
        w, b = kn.Param(start), kn.Param(np.zeros(2))
        opt = kind(lr=lambda t: 0.1 / t, gclip=0.5, weight_decay=0.01)
        steps = kn.minimize(lambda x, y: kn.nll(x @ w.T + b, y), data, opt, global_clip=0.3, compile=compile)
        losses = [float(loss) for loss in steps]
        w.opt.lr, w.opt.gclip = 0.02, 0.1
        losses += [float(loss) for loss in steps]
        return losses, w.tolist(), b.tolist()

    for compiled, plain in zip(train(True), train(False)):
        np.testing.assert_allclose(compiled, plain, rtol=1e-12)
