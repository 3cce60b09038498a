"""Lazy arrays, Params, differentiation: what users see, whatever runs the graphs."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import DifferentiationError, DtypeError, ShapeError, TraceError
from knetc.runtime.buffers import Buffer

import knetc as kn
from knetc import lazy
from knetc.arrays import Array, array, node_of
from knetc.compiler.function import compile
from knetc.cut import Cut
from knetc.ir.node import Graph
from knetc.ir.record import recording
from knetc.lazy import Context, Storage
from knetc.ops import apply
from knetc.ops.arithmetic import maximum
from knetc.ops.reduction import sum as total
from knetc.ops.transcendental import exp, sin, sqrt
from knetc.params import Param, params, value
from knetc.random import dropout, rand, randn, seed
from knetc.train.optimizers import Adam
from knetc.train.update import update
from knetc.transforms import Tape, diff, grad, gradloss, training


class Runs:
    """Counts what is run."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.real = lazy.executor.run

    def run(self, cut: Cut) -> list[Buffer]:
        self.graphs.append(cut.graph())
        return self.real(cut)

    def __len__(self) -> int:
        return len(self.graphs)


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    counting = Runs()
    monkeypatch.setattr(lazy.executor, "run", counting.run)
    return counting


def numbers(x: Any) -> Any:
    return np.asarray(x)


# --- lazy evaluation


def test_nothing_runs_until_a_value_is_needed(runs: Runs) -> None:
    x = array([1.0, 2.0, 3.0])
    y = x * 2 + 1
    assert len(runs) == 0 and y.shape == (3,) and y.dtype == np.float32
    assert y.tolist() == [3, 5, 7]
    assert y.tolist() == [3, 5, 7]
    assert len(runs) == 1


def test_one_read_computes_every_live_value_of_the_graph_and_no_other(runs: Runs) -> None:
    x = array([1.0, 2.0])
    a = x + 1
    b = a * a
    c = b - 3
    del b
    other = x * 5  # shares only the leaf
    float(total(a))
    assert len(runs) == 1 and len(runs.graphs[0].outputs) == 2 + 1  # a, c and the sum
    assert c.tolist() == [1, 6] and len(runs) == 1
    assert other.tolist() == [5, 10] and len(runs) == 2


def test_realized_values_let_go_of_what_they_were_made_from() -> None:
    x = array([1.0, 2.0])
    for _ in range(50):
        x = x + 1
        x.numpy()
    gc.collect()
    assert x.node is None or not x.node.sources


def test_another_number_is_no_other_graph(runs: Runs) -> None:
    x = array([1.0, 2.0])
    (x * 0.3).numpy(), (x * 0.7).numpy()
    first, second = runs.graphs
    assert [n.op.name for n in first.nodes] == [n.op.name for n in second.nodes]
    assert not any(n.op.name == "constant" for n in second.nodes)


def test_a_long_pending_graph_realizes_itself(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "lazy_limit", 20)
    x = array([0.0])
    for _ in range(100):
        x = x + 1
    assert 2 <= len(runs) <= 15
    assert x.item() == 100


def test_reshaping_memory_computes_nothing(runs: Runs) -> None:
    x = array([[1.0, 2.0], [3.0, 4.0]])
    y = x.reshape(4)
    assert y.tolist() == [1, 2, 3, 4] and x.reshape(-1, 1).shape == (4, 1)
    assert len(runs) == 0


def test_what_is_asked_for_fails_and_stays_pending(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    y = array([1.0]) + 1

    def broken(cut: Cut) -> list[Buffer]:
        raise IndexError("label")

    with monkeypatch.context() as patched:
        patched.setattr(lazy.executor, "run", broken)
        with pytest.raises(IndexError):
            y.numpy()
    assert y.tolist() == [2]


def test_numpy_data_is_copied() -> None:
    data = np.ones(3, np.float32)
    x = array(data)
    y = x + data
    data[:] = 7
    assert x.tolist() == [1, 1, 1] and y.tolist() == [2, 2, 2]


def test_handles_work_from_several_threads() -> None:
    x = array(np.arange(5.0))
    results: list[float] = []

    def work(k: int) -> None:
        for _ in range(20):
            results.append(float(total(x * k)) - 10 * k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0.0] * 80


# --- arrays


def test_dtypes_follow_numpy_with_weak_scalars() -> None:
    assert array(1).dtype == np.int64 and array(1.0).dtype == np.float32 and array(True).dtype == np.bool_
    assert array(np.zeros(2)).dtype == np.float64
    assert (array([1.0]) + np.float64(1)).dtype == np.float64
    assert (array([1]) + 1.5).dtype == np.float32
    assert array([1, 2], dtype="float64").dtype == np.float64
    with pytest.raises(DtypeError, match="no complex numbers"):
        array(np.zeros(2, np.complex64))


def test_operators_and_their_reflections() -> None:
    x, n = array([1.0, -2.0, 3.0]), np.array([1.0, -2.0, 3.0], np.float32)
    pairs = [
        (2 - x, 2 - n), (x - 2, n - 2), (1 / x, 1 / n), (2**x, 2**n), (x**2, n**2), (x // 2, n // 2), (x % 2, n % 2),
        (-x, -n), (abs(x), abs(n)), (x < 2, n < 2), (x > 2, n > 2), (x >= 1, n >= 1), (x == 3, n == 3),
        (x != 3, n != 3), (x @ x, n @ n), (x * [1, 2, 3], n * np.array([1, 2, 3], np.float32)), (~(x > 0), ~(n > 0)),
    ]  # fmt: skip
    for got, expected in pairs:
        np.testing.assert_allclose(numbers(got), expected)
    with pytest.raises(TypeError):
        x + "a"  # type: ignore[operator]


@pytest.mark.cpu
def test_numpy_sees_the_memory_read_only() -> None:
    x = array([1.0, 2.0])
    view = np.asarray(x)
    with pytest.raises(ValueError):
        view[0] = 5
    assert np.shares_memory(view, np.asarray(x))
    x[...] = 9
    assert view.tolist() == [1, 2] and x.tolist() == [9, 9]


def test_assignment_changes_one_handle_only() -> None:
    x = array([1.0, 2.0])
    y, z = x.copy(), x.reshape(2, 1)
    x[...] = [5, 6]
    assert (x.tolist(), y.tolist(), z.tolist()) == ([5, 6], [1, 2], [[1], [2]])
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        x[...] = [1, 2, 3]


def test_empty_arrays() -> None:
    x = array(np.zeros((0, 3), np.float32))
    assert (x + 1).tolist() == [] and total(x, axis=0).tolist() == [0, 0, 0]


# --- Params


def test_param_is_a_box_with_a_value() -> None:
    w = Param([1, 2, 3])
    assert repr(w) == "P([1., 2., 3.])" and not isinstance(w, Array)
    before = w.value
    w[...] = 0
    assert before.tolist() == [1, 2, 3] and w.tolist() == [0, 0, 0]
    w.value = np.array([4.0, 5.0])
    assert w.shape == (2,) and w.dtype == np.float32 and value(w).tolist() == [4, 5]
    with pytest.raises(TypeError, match="wrap another Param"):
        Param(w)
    twin = pickle.loads(pickle.dumps(w))
    assert isinstance(twin, Param) and twin.tolist() == [4, 5]


def test_params_change_in_place_and_are_copied_with_their_state() -> None:
    w = Param([1.0, 2.0], Adam())
    same, held = w, w.value
    w -= 0.5
    w *= held
    assert w is same and w.tolist() == [0.5, 3] and held.tolist() == [1, 2]
    update(w, [1.0, 1.0])
    twin = copy.deepcopy({"a": w, "b": [w]})
    assert twin["a"] is twin["b"][0] is not w and isinstance(twin["a"], Param) and twin["a"].tolist() == w.tolist()
    assert twin["a"].opt.step.item() == 1 and twin["a"].opt is not w.opt
    update(w, [1.0, 1.0])
    assert twin["a"].opt.step.item() == 1 and twin["a"].tolist() != w.tolist()
    again = pickle.loads(pickle.dumps(w))
    assert again.opt.step.item() == 2 and again.opt.fstm.tolist() == w.opt.fstm.tolist()


def test_random_numbers_are_the_same_compiled() -> None:
    def draw(x: Any) -> Any:
        return rand(3) + x * 0, randn(2, dtype="float64"), dropout(x, 0.5, training=True)

    x = array(np.ones(3, np.float32))
    seed(7)
    expected = [r.tolist() for r in draw(x)]
    again = [r.tolist() for r in draw(x)]
    seed(7)
    compiled = compile(draw)
    assert [r.tolist() for r in compiled(x)] == expected != again
    assert [r.tolist() for r in compiled(x)] == again


def test_params_finds_each_once_in_order() -> None:
    a, b, c, d = (Param([float(k)]) for k in range(4))

    class Layer:
        def __init__(self) -> None:
            self.w = c
            self.again = a

        def __call__(self, x: Any) -> Any:
            return x * self.w

    layer = Layer()
    found = params([a, {"b": b}, partial(lambda k, x: k * d, layer), layer.__call__])
    assert [id(p) for p in found] == [id(p) for p in (a, b, d, c)] or {id(p) for p in found} == {
        id(p) for p in (a, b, c, d)
    }
    assert len(found) == 4


# --- differentiation


def test_the_manuals_example() -> None:
    x = Param([1, 2, 3])
    assert total(x * x).item() == 14
    y = diff(lambda: total(x * x))
    assert repr(y) == "T(14)" and value(y).item() == 14
    assert params(y) == [x]
    assert grad(y, x).tolist() == [2, 4, 6]
    assert grad(y, Param([1, 2, 3])) is None


def test_a_tape_is_one_unit(runs: Runs) -> None:
    w, b = Param([1.0, 2.0]), Param([0.5])
    tape = diff(lambda: total(w * w) + total(b * 3))
    float(value(tape))
    assert len(runs) == 1
    assert grad(tape, w).tolist() == [2, 4] and grad(tape, b).tolist() == [3]
    assert len(runs) == 1


def test_gradients_of_handles_made_inside_and_of_values_read_inside() -> None:
    w = Param([1.0, 2.0])
    made: list[Any] = []

    def loss() -> Any:
        h = w * 3
        made.append(h)
        assert h.tolist() == [3, 6]  # realized while it is being differentiated
        result = total(h * h)
        assert result.item() == 45
        return result

    tape = diff(loss)
    assert grad(tape, made[0]).tolist() == [6, 12] and grad(tape, w).tolist() == [18, 36]
    assert made[0].tolist() == [3, 6] and grad(tape, made[0]).tolist() == [6, 12]
    assert grad(tape, array([1.0])) is None


def test_any_order() -> None:
    f: Any = sin
    expected = [np.sin(1), np.cos(1), -np.sin(1), -np.cos(1), np.sin(1), np.cos(1)]
    for answer in expected:
        assert float(f(np.float64(1))) == pytest.approx(answer, abs=1e-12)
        f = grad(f)
    g = grad(lambda x: total(sin(sqrt(x))))
    assert float(g(np.float64(1))) == pytest.approx(0.27015115293406987, abs=1e-14)
    h = lambda x: exp(x * x)  # noqa: E731
    assert float(grad(h)(np.float64(1))) == pytest.approx(5.43656365691809)
    assert float(grad(grad(h))(np.float64(1))) == pytest.approx(16.30969097075427)


def test_no_perturbation_confusion() -> None:
    assert grad(lambda x: x * grad(lambda y: x + y)(x))(5.0).item() == 1
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(5.0).item() == 10
    w = Param([2.0])

    def outer() -> Any:
        inner = diff(lambda: total(w * w * w))
        return total(grad(inner, w) * w)  # 3 w^3

    assert grad(diff(outer), w).tolist() == [36]


def test_containers_and_gradloss() -> None:
    def f(model: dict[str, Any], k: float) -> Any:
        return total(model["a"] * model["b"][0]) * k

    model = {"a": np.array([1.0, 2.0]), "b": [np.array([3.0, 4.0]), np.ones(2)], "n": 3}
    g, loss = gradloss(f)(model, 2)
    assert loss.item() == 22 and g["a"].tolist() == [6, 8] and g["b"][0].tolist() == [2, 4]
    assert g["b"][1] is None and g["n"] is None
    assert grad(f, 1)(model, 2.0).item() == 11
    x = np.array([1.0, 2.0])
    assert grad(diff(lambda v: total(v * v), x), x).tolist() == [2, 4]
    with pytest.raises(TypeError, match="argument 2"):
        grad(f, 2)(model, 2)


def test_what_cannot_be_differentiated() -> None:
    w = Param([1.0, 2.0])
    with pytest.raises(DifferentiationError, match=r"Only scalar valued.*f32\[2\]"):
        diff(lambda: w * 2)
    with pytest.raises(DifferentiationError, match="floating-point"):
        diff(lambda: total(array([1, 2])))
    with pytest.raises(DifferentiationError, match="NoneType"):
        diff(lambda: None)
    with pytest.raises(DifferentiationError, match="overwriting"):
        diff(lambda: w.__setitem__(..., 0))
    assert w.tolist() == [1, 2]
    assert isinstance(diff(lambda: 3.0), Tape) and grad(diff(lambda: 3.0), w) is None


def test_training_is_true_inside() -> None:
    seen: list[bool] = []

    def loss() -> Any:
        seen.append(training())
        return total(Param([1.0]))

    assert not training()
    diff(loss)
    assert seen == [True] and not training()
    with pytest.raises(ZeroDivisionError):
        diff(lambda: 1 / 0)
    assert not training() and not lazy.tapes.active


def test_param_alone_and_ties() -> None:
    w = Param(2.0)
    assert grad(diff(lambda: w), w).item() == 1
    x = array([1.0, 1.0, 0.0])
    assert grad(lambda v: total(maximum(v, 1.0)))(x).tolist() == [0.5, 0.5, 0]


# --- traces: the protocol


class _Trace(Context):
    """A trace as small as can be."""

    def read(self, box: Any) -> Any:
        assert box.buffer is not None
        return lazy.leaf_node(box.type, Storage(box.buffer))


def test_a_traced_value_has_no_numbers_and_outlives_nothing() -> None:
    x = array([1.0, 2.0])
    trace = _Trace()
    with recording(trace):
        y = x * 2
        assert y.owner is trace and y.shape == (2,)
        for what in (float, bool, int, lambda v: v.tolist(), np.asarray, lambda v: [1][v]):
            with pytest.raises((TraceError, TypeError, ValueError)):
                what(y)
        with pytest.raises(TraceError, match=r"kn\.where.*static argument"):
            bool(total(y) > 0)
        with pytest.raises(TraceError, match="numbers"):
            x.numpy()
        assert repr(y) == "Array(<traced f32[2]>, dtype=float32)"
        assert node_of(y) is y.node
    trace.active = False
    with pytest.raises(TraceError, match=r"test_arrays\.py:\d+.*has ended"):
        y + 1
    with pytest.raises(TraceError, match="has ended"):
        y.numpy()


# --- indexing


def test_dense_slices_of_memory_compute_nothing(runs: Runs) -> None:
    x = array(np.arange(24.0).reshape(2, 3, 4))
    parts = [x[0], x[1, 2], x[1, 1:3], x[:, :][0, 0, 0], x[1][2][3], x[1:], x[:1, 2:, 1:3]]
    assert [p.size for p in parts] == [12, 4, 8, 1, 1, 12, 2]
    assert parts[4].item() == 23 and parts[6].tolist() == [[[9, 10]]] and parts[2].tolist()[0] == [16, 17, 18, 19]
    assert len(runs) == 0
    assert x[:, 1].tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]] and len(runs) == 1


def test_slices_are_values() -> None:
    x = array([1.0, 2.0, 3.0, 4.0])
    v = x[2:4]
    v[0] = 9
    assert v.tolist() == [9, 4] and x.tolist() == [1, 2, 3, 4]
    x[3] = 7
    assert v.tolist() == [9, 4] and x.tolist() == [1, 2, 3, 7]


# --- other libraries, and notices


def test_promotion_to_float64_is_told_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "_promotion_noted", False)
    x = array([1.0])
    assert (x * np.ones(1)).dtype == np.float64
    x + np.ones(1)
    assert len(caplog.records) == 1 and "test_arrays.py:" in caplog.records[0].getMessage()


def test_mistakes_name_the_users_line() -> None:
    x = array([1.0, 2.0])
    for mistake, message in (
        (lambda: x + array([1.0, 2.0, 3.0]), r"add: shapes \(2,\) and \(3,\)"),
        (lambda: x.reshape(3), r"reshape\(f32\[2\]\)"),
        (lambda: ~x, "floa"),
        (lambda: np.fft.fft(x), r"numpy\.fft\.fft"),
    ):
        with pytest.raises((ShapeError, TypeError), match=message) as caught:
            mistake()
        line = mistake.__code__.co_firstlineno
        assert str(caught.value).endswith(f"test_arrays.py:{line}")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_shapes_consist_of_integers() -> None:
    for make in (kn.zeros, kn.rand):
        with pytest.raises(TypeError, match=r"a shape consists of integers, not \(2.0, 2\)"):
            make((2.0, 2))
    assert kn.zeros((np.int64(2), 1)).shape == (2, 1)
