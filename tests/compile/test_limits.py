"""What cannot be traced, nested functions, settings, checks and threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.errors import (
    NanError,
    TraceError,
    VariantsError,
)
from values import f32, numbers

from knetc.arrays import array
from knetc.compiler.function import compile
from knetc.debugging import debug
from knetc.ir.ambient import setting
from knetc.ops.reduction import sum as total
from knetc.ops.transcendental import exp, log
from knetc.params import Param
from knetc.transforms import diff, grad, training

# --- what cannot be traced -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x: 1 if x[0] > 0 else 2,
        lambda x: float(x[0]),
        lambda x: [0, 1][int(x[0])],
        lambda x: np.asarray(x),
        lambda x: x.numpy(),
        lambda x: x[0].item(),
        lambda x: f"{float(x[0])}",
    ],
)
def test_asking_for_traced_numbers(use: Any) -> None:
    compiled = compile(lambda x: use(x))
    with pytest.raises((TraceError, TypeError), match=r"where|traced") as caught:
        compiled(array(f32(1, 2)))
    assert "where" in str(caught.value)


def test_handles_that_outlive_their_trace() -> None:
    kept = []

    @compile
    def leak(x: Any) -> Any:
        kept.append(x * 2)
        return x + 1

    leak(array(f32(1)))
    with pytest.raises(TraceError, match=r"test_limits.py:\d+.*trace"):
        kept[0] + 1
    with pytest.raises(TraceError, match="trace"):
        numbers(kept[0])
    other = compile(lambda x: x + kept[0])
    with pytest.raises(TraceError, match="trace"):
        other(array(f32(1)))


def test_variants_are_limited() -> None:
    @compile(on_miss="error")
    def once(x: Any) -> Any:
        return x + 1

    once(array(f32(1)))
    once(array(f32(2)))
    with pytest.raises(VariantsError, match=r"x was Array f32\[1\], is Array f32\[2\]"):
        once(array(f32(1, 2)))

    @compile(max_variants=2)
    def twice(x: Any) -> Any:
        return x + 1

    twice(array(f32(1)))
    twice(array(f32(1, 2)))
    with pytest.raises(VariantsError, match="max_variants=2"):
        twice(array(f32(1, 2, 3)))
    assert numbers(twice(array(f32(5)))).tolist() == [6]


def test_wrong_options() -> None:
    with pytest.raises(TypeError, match="device"):
        compile(device="toaster")(lambda x: x)
    with pytest.raises(ValueError, match="on_miss"):
        compile(on_miss="shrug")(lambda x: x)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_variants"):
        compile(max_variants=0)(lambda x: x)


# --- nesting, settings, checks ---------------------------------------------------------------------------------------


def test_compiled_functions_inside_others_are_part_of_them(lines: list[str]) -> None:
    w = Param(f32(2))

    @compile
    def inner(x: Any) -> Any:
        return x * w

    @compile
    def outer(x: Any) -> Any:
        return inner(x) + inner(x + 1)

    assert numbers(outer(array(f32(1)))).tolist() == [6]
    w = Param(f32(3))
    assert numbers(outer(array(f32(1)))).tolist() == [9]
    assert len(lines) == 1


def test_compiled_functions_can_be_differentiated() -> None:
    w = Param(f32(2))

    @compile
    def loss(x: Any) -> Any:
        return total(exp(x * w))

    x = array(f32(1, 2))
    loss(x)
    tape = diff(loss, x)
    expected = total(x * exp(x * w))
    np.testing.assert_allclose(numbers(grad(tape, w)), numbers(expected), rtol=1e-6)
    assert numbers(loss(x)) == pytest.approx(float(tape.value))


def test_settings_are_part_of_the_signature(lines: list[str]) -> None:
    @compile
    def mode(x: Any) -> Any:
        return x + (1 if training() else 2)

    x = array(f32(0))
    assert numbers(mode(x)).tolist() == [2]
    with setting(training=True):
        assert numbers(mode(x)).tolist() == [1]
        assert numbers(mode(x)).tolist() == [1]
    assert numbers(mode(x)).tolist() == [2]
    assert "training was False, is True" in lines[1] and len(lines) == 2


def test_check_trace_finds_what_the_signature_does_not_hold() -> None:
    values = iter([1.0, 1.0, 2.0, 3.0])

    @compile
    def moody(x: Any) -> Any:
        return x * next(values)

    debug(check_trace=True)
    try:
        moody(array(f32(1)))
        with pytest.raises(TraceError, match=r"test_limits.py.*pass it as an argument"):
            moody(array(f32(1)))
    finally:
        debug(check_trace=False)


def test_nan_check_names_the_line_and_leaves_params_alone() -> None:
    w = Param(f32(1, -1))

    @compile
    def step(x: Any) -> Any:
        w[...] = log(w * x)

    debug(nan_check=True)
    try:
        with pytest.raises(NanError, match=r"test_limits.py:\d+"):
            step(f32(1, 1))
        assert numbers(w).tolist() == [1, -1]
        step(f32(1, -1))
        assert numbers(w).tolist() == [0, 0]
    finally:
        debug(nan_check=False)


# --- threads ---------------------------------------------------------------------------------------------------------


def test_racing_first_calls_and_updates_from_many_threads() -> None:
    w = Param(np.zeros(100, np.float32))
    traces = []

    @compile
    def step(x: Any) -> Any:
        traces.append(threading.get_ident())
        w[...] = w + x
        return x * 2

    start = threading.Barrier(6)
    failures: list[BaseException] = []

    def work(k: int) -> None:
        try:
            start.wait()
            for _ in range(30):
                assert (numbers(step(np.full(100, k, np.float32))) == 2 * k).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(traces) == 1
    assert (numbers(w) == 30 * sum(range(6))).all()


def test_a_trace_in_one_thread_does_not_concern_another() -> None:
    inside, go_on = threading.Event(), threading.Event()

    @compile
    def slow(x: Any) -> Any:
        inside.set()
        assert go_on.wait(30)
        return x + 1

    @compile
    def quick(x: Any) -> Any:
        return x * 2

    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(slow(array(f32(1)))))
    thread.start()
    assert inside.wait(30)
    assert numbers(quick(array(f32(3)))).tolist() == [6]
    assert numbers(quick(array(f32(4)))).tolist() == [8]
    assert numbers(array(f32(1)) + 1).tolist() == [2]
    go_on.set()
    thread.join()
    assert numbers(results[0]).tolist() == [2]


def test_many_signatures_in_turn_are_not_tried_one_by_one() -> None:
    double = compile(lambda x, y: x * 2 + y)
    calls = [(f32(*range(n)), kind) for n in range(1, 13) for kind in (f32(1), np.arange(1))]
    for x, y in calls:
        double(x, y)
    tried = [0]
    for variant in double.__knetc_compiled__.variants:

        def counted(*values: Any, call: Any = variant.call) -> Any:
            tried[0] += 1
            return call(*values)

        variant.call = counted
    for x, y in calls:
        assert (numbers(double(x, y)) == x * 2 + y).all()
    tried[0] = 0
    for x, y in calls[::2]:
        double(x, y)
    assert tried[0] < 5 * len(calls)
