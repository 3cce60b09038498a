"""Kernels that are launched together: which ones, in what order, and that their numbers are those of the CPU."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from knetc.codegen.triton.backend import assembled
from knetc.codegen.triton.model import GpuTarget
from knetc.runtime.program import Program, Step

import knetc as kn
from knetc.compiler import report
from knetc.dump import traced
from knetc.passes.simplify import simplify

TARGET = GpuTarget("cuda", "sm_90")


def mlp(widths: tuple[int, ...], batch: int, optimizer: str, device: str = "cpu") -> Any:
    """A training step, the Params in it, and a batch for it."""
    random = np.random.default_rng(0)
    ws: list[Any] = []
    for inputs, outputs in itertools.pairwise(widths):
        ws.append(kn.param((random.standard_normal((outputs, inputs)) / 8).astype(np.float32), device=device))
        ws.append(kn.param(np.zeros(outputs, np.float32), device=device))
    for w in ws:
        w.opt = getattr(kn, optimizer)(lr=1e-2)

    @kn.compile
    def step(x: Any, labels: Any) -> Any:
        def loss() -> Any:
            h = x
            for k in range(0, len(ws), 2):
                h = (kn.relu(h) if k else h) @ ws[k].T + ws[k + 1]
            return kn.nll(h, labels)

        tape = kn.diff(loss)
        for w in ws:
            kn.update(w, kn.grad(tape, w))
        return kn.value(tape)

    return step, ws, (random.random((batch, widths[0]), np.float32), random.integers(0, widths[-1], batch))


def planned(step: Any, batch: Any) -> Any:
    return assembled(simplify(traced(step, batch)), TARGET)


def launches(program: Program) -> int:
    return sum(1 if step.library else len(step.grids) for step in program.steps)


def compiled(function: Any) -> Program:
    program: Program = function.__knetc_compiled__.variants[-1].executable.program
    return program


LARGE = mlp((784, 1024, 1024, 10), 256, "Adam")
"""Adam steps of this model took 19 launches before independent kernels were launched together."""


def test_all_updates_are_one_launch() -> None:
    step, _, batch = LARGE
    program = planned(step, batch).program
    assert launches(program) == 13
    [updates] = [s for s in program.steps if sum(member.name.startswith("s") for member in s.members) >= 6]
    assert updates is program.steps[-1] and len(updates.grids) == 1
    written = {k for s in program.steps for k, spec in enumerate(program.buffers) if spec.update_of >= 0}
    assert len(written) == 4 * 6
    [numbers] = [s for s in program.steps if len(s.members) > 1 and s is not updates]
    assert sum("divide" in member.name for member in numbers.members) == 6, "each Param's corrections, once"


def test_a_number_that_is_dear_is_worked_out_once() -> None:
    step, _, batch = LARGE
    texts = planned(step, batch).functions
    assert len([text for text in texts.values() if "power" in text]) == 1


def test_the_plan_shows_what_is_launched_together() -> None:
    step, _, batch = LARGE
    program = planned(step, batch).program
    text = report.plan_text(program)
    assert text.startswith("# cuda:sm_90: 12 kernels, 13 launches, ")
    assert "kernel 11: 7 kernels that are launched together\n    # reads 30.4 MiB" in text
    assert text.count("\n    subtract_true_divide_add(out") == 3


def test_equal_work_is_written_once_whatever_the_sizes() -> None:
    def updates(sizes: tuple[int, ...]) -> str:
        ws = [kn.param(np.zeros(n, np.float32)) for n in sizes]

        @kn.compile
        def step() -> None:
            for w in ws:
                w[...] = w * 2 + 1

        [text] = planned(step, ()).functions.values()
        return str(text)

    assert updates((3, 70, 5000, 64)).count("@triton.jit") == 2, "what is done, and the choice of what it is done to"
    assert updates((3, 5)) == updates((3, 5)) != updates((3, 6))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_machine_code(arch: str) -> None:
    """No spills, and whole vectors of numbers at once."""
    pytest.importorskip("triton")
    compiler = importlib.import_module("knetc.codegen.triton.compile")
    step, _, batch = LARGE
    target = GpuTarget("cuda", arch)
    made = assembled(simplify(traced(step, batch)), target)
    used = [grid.function for s in made.program.steps if s.members for grid in s.grids]
    for name in used:
        cubin, _ = compiler.compile_source(name, made.functions[name], target)
        assert cubin.spilled_bytes == 0
    sass = compiler.code_of(made.functions[used[-1]], target, "sass")
    assert sass.count("LDG.E.128") >= 4 and sass.count("STG.E.128") >= 3


# --- numbers


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("widths", [(13, 24, 40, 7), (64, 32, 16)])
def test_numbers(device: Any, widths: tuple[int, ...], optimizer: str) -> None:
    """Sizes that are multiples of what is read at once, and others."""
    here, there = (mlp(widths, 9, optimizer, where) for where in ("cpu", "cuda"))
    for _ in range(3):
        np.testing.assert_allclose(float(there[0](*there[2])), float(here[0](*here[2])), 1e-5)
    for w, v in zip(here[1], there[1]):
        np.testing.assert_allclose(np.asarray(v), np.asarray(w), 2e-4, 1e-5)
    assert any(s.members for s in compiled(there[0]).steps)


def test_blocks_that_are_not_full(device: Any) -> None:
    """Some programs of a launch go over a whole block, others over the end of theirs."""
    sizes = (5000, 1, 2048, 77, 1024)
    ws = [kn.param(np.arange(n, dtype=np.float32), device="cuda") for n in sizes]

    @kn.compile
    def step() -> None:
        for w in ws:
            w[...] = w * 2 + 1

    step()
    [only] = compiled(step).steps
    assert len(only.members) == len(sizes) and len(only.grids) == 1
    for w, n in zip(ws, sizes):
        np.testing.assert_array_equal(np.asarray(w), np.arange(n, dtype=np.float32) * 2 + 1)


def test_functions_of_one_name(device: Any) -> None:
    """A kernel may be called like a function that it, or another one, calls."""
    x, y = np.float32([1, np.nan, 3]), np.float32([2, 2, 2, np.nan])

    @kn.compile(device="cuda")
    def step(x: Any, y: Any) -> Any:
        return kn.maximum(x, 2), kn.maximum(y, x[0]), kn.maximum(kn.exp(x), 1), kn.exp(y)

    made = step(x, y)
    assert compiled(step).steps[0].members
    expected = np.maximum(x, 2), np.maximum(y, x[0]), np.maximum(np.exp(x), 1), np.exp(y)
    for found, wanted in zip(made, expected):
        np.testing.assert_allclose(np.asarray(found), wanted, 1e-6)


def test_a_launch_takes_so_many_parameters(device: Any) -> None:
    ws = [kn.param(np.full(k % 7 + 1, k, np.float32), device="cuda") for k in range(300)]
    vs = [kn.param(np.full(k % 7 + 1, 1, np.float32), device="cuda") for k in range(300)]

    @kn.compile
    def step() -> None:
        for w, v in zip(ws, vs):
            v[...] = v * 0.5 + w
            w[...] = w - v

    step()
    steps = compiled(step).steps
    assert 1 < len(steps) <= 4
    assert all(len(grid.slots) <= 480 for s in steps for grid in s.grids)
    for k, w in enumerate(ws):
        np.testing.assert_array_equal(np.asarray(w), np.full(k % 7 + 1, -0.5, np.float32))


def test_kernels_with_several_launches(device: Any) -> None:
    """Totals of many rows: each program's part, then what combines the parts."""
    xs = [np.random.default_rng(k).random((4000 + k, 3), np.float32) for k in range(3)]

    @kn.compile(device="cuda")
    def totals(*given: Any) -> Any:
        return [kn.sum(x * x) for x in given]

    results = totals(*xs)
    [only] = compiled(totals).steps
    assert len(only.members) == 3 and len(only.grids) == 2
    for result, x in zip(results, xs):
        np.testing.assert_allclose(float(result), np.sum(x.astype(np.float64) ** 2), 1e-5)


def test_nothing_is_launched_with_what_it_waits_for() -> None:
    """Not even where only an old value must be read before it is overwritten."""
    a, b = kn.param(np.ones(100, np.float32)), kn.param(np.ones(100, np.float32))

    @kn.compile
    def step() -> Any:
        total = kn.sum(a * b)
        a[...] = a + 1
        return total

    program = planned(step, ()).program
    assert [bool(s.members) for s in program.steps] == [False] * len(program.steps)


def test_recomputation_stays_where_it_is(device: Any) -> None:
    w = kn.param(np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8), device="cuda")

    @kn.compile
    def step(x: Any) -> Any:
        def layer(h: Any) -> Any:
            return kn.softmax(kn.tanh(h @ w), axis=-1)

        tape = kn.diff(lambda: kn.sum(kn.checkpoint(layer)(x) ** 2))
        return kn.grad(tape, w)

    x = np.random.default_rng(0).random((4, 8), np.float32)
    step(x)
    names = [s.name for s in compiled(step).steps]
    assert not any(name.count("softmax") > 1 for name in names)


statements = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(("add", "total", "cumulate", "swap"))),
    min_size=2,
    max_size=6,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(statements)
def test_updates_that_read_each_other(simulated: Any, program: list[tuple[int, int, str]]) -> None:
    """Whatever order the steps take, each reads what the program says that it reads."""
    sizes = (6, 6, 300, 1)
    ws = [kn.param(np.arange(n, dtype=np.float64) + k, device="cuda") for k, n in enumerate(sizes)]
    expected = [np.asarray(w).copy() for w in ws]

    def run(values: Any, total: Any, cumulate: Any) -> None:
        for i, j, what in program:
            if what == "total":
                values[i][...] = values[i] + total(values[j])
            elif what == "cumulate":
                values[i][...] = cumulate(values[i]) * 0.5
            elif what == "swap" and sizes[i] == sizes[j]:
                old = values[i] * 1
                values[i][...] = values[j] * 2
                values[j][...] = old
            elif sizes[i] == sizes[j]:
                values[i][...] = values[i] * 0.5 + values[j]

    step = kn.compile(lambda: run(ws, kn.sum, lambda x: kn.cumsum(x, 0)))
    for _ in range(2):
        step()
        run(expected, np.sum, lambda x: np.cumsum(x, 0))
    for w, value in zip(ws, expected):
        np.testing.assert_allclose(np.asarray(w), value, 1e-12)


def test_checks_come_before_all_updates() -> None:
    step, _, batch = mlp((8, 4, 3), 5, "SGD")
    program = planned(step, batch).program

    def writes(s: Step) -> bool:
        return any(program.buffers[ref.index].update_of >= 0 for ref in s.arguments if ref.kind == "buffer")

    checks = [k for k, s in enumerate(program.steps) if s.check >= 0]
    updates = [k for k, s in enumerate(program.steps) if writes(s)]
    assert checks and updates and max(checks) < min(updates)
