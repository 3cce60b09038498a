"""The command line: what it shows, and what it says about commands that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from knetc.runtime.base.config import config

from knetc.cli import main

MODEL = """
import numpy as np
import knetc as kn

w, b = kn.Param(np.ones((10, 20), np.float32)), kn.Param(np.zeros(10, np.float32))

def predict(x):
    return x @ w.T + b

def loss(x, y):
    return kn.nll(predict(x), y)

def step(x, y, lr=0.1):
    tape = kn.diff(loss, x, y)
    for p in (w, b):
        p[...] = p - lr * kn.grad(tape, p)
    return kn.value(tape)

@kn.compile
def scaled(x, n):
    return x * n

def own(x):
    return x + 1

own.example_inputs = (np.zeros(3, np.float32),)

def matrix(x):
    return x + 1

class Model:
    def __call__(self, x):
        return x * w[0]

model = Model()
number = 3
"""


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``model.py``, which is the current one, and a cache of its own."""
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "cache_dir", tmp_path / "cache")
    return tmp_path


LOSS = ["--input", "f32[5,20]", "--input", "i64[5]"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_the_trace_shows_types_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "dump-ir", "model.py:loss", *LOSS)
    assert text.startswith("def trace(x: f32[5,20], y: i64[5], w: f32[10,20], b: f32[10]):")
    assert "model.py:8" in text and "model.py:11" in text and "@" in text


@pytest.mark.parametrize("stage", ["trace", "grad", "simplify", "fuse", "plan", "llvm", "asm"])
def test_each_stage_as_text_and_json(capsys: pytest.CaptureFixture[str], stage: str) -> None:
    text = run(capsys, "dump-ir", "model.py:loss", *LOSS, "--stage", stage)
    assert text.strip()
    if stage == "plan":
        assert "kernel 0" in text and "peak" in text and "reads" in text and "model.py:8" in text
    data = json.loads(run(capsys, "dump-ir", "model.py:loss", *LOSS, "--stage", stage, "--format", "json"))
    assert data


def test_gradients_of_a_loss_are_for_its_params(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(run(capsys, "dump-ir", "model.py:loss", *LOSS, "--stage", "grad", "--format", "json"))
    types = {node["id"]: node["type"] for node in data["nodes"]}
    assert [types[output] for output in data["outputs"]] == ["f32[]", "f32[10,20]", "f32[10]"]


def test_a_step_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(run(capsys, "dump-ir", "model.py:step", *LOSS, "--stage", "grad", "--format", "json"))
    assert len(data["updates"]) == 2
    text = run(capsys, "dump-ir", "model.py:step", *LOSS, "--input", "lr=0.5", "--stage", "plan")
    assert "takes the memory of" in text


def test_all_stages_into_a_folder(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    run(capsys, "dump-ir", "model.py:loss", *LOSS, "--stage", "all", "--out", "dumped")
    names = {file.name for file in (model / "dumped").iterdir()}
    assert names == {"trace.py", "grad.py", "simplify.py", "fuse.py", "plan.txt", "llvm.ll", "asm.s"}
    assert "∂" in (model / "dumped" / "fuse.py").read_text()


def test_other_targets_and_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "dump-ir", "model:predict", "--input", "x=f32[2,20]").startswith("def trace")
    assert "scalar" in run(capsys, "dump-ir", "model.py:scaled", "--input", "f32[2]", "--input", "n=3")
    assert "f32[3]" in run(capsys, "dump-ir", "model.py:own")
    assert "f32[20]" in run(capsys, "dump-ir", "model.py:model", "--input", "f32[20]")
    assert run(capsys, "dump-ir", "model.py:own", "--format", "dot").startswith("digraph")


def test_code_for_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("triton")
    options = ("dump-ir", "model.py:own", "--device", "cuda:sm_90", "--stage")
    shown = run(capsys, *options, "triton,plan,ttir,ptx,sass")
    for part in ("@triton.jit\ndef add(", "# cuda:sm_90: 1 kernels", "tt.store", ".target sm_90a", "EXIT"):
        assert part in shown
    assert (
        "simplify.py" in run(capsys, *options, "simplify,ptx", "--out", str(tmp_path))
        and (tmp_path / "ptx.ptx").is_file()
    )


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["model.py"], "file.py:function"),
        (["absent.py:loss"], "no file"),
        (["absent:loss"], "no module"),
        (["model.py:absent"], "predict"),
        (["model.py:number"], "cannot be called"),
        (["model.py:loss"], "--input 'f32\\[100,784\\]'"),
        (["model.py:loss", "--input", "f32[5,20]"], "missing a required argument"),
        (["model.py:loss", "--input", "z=f32[5,20]"], "unexpected|missing"),
        (["model.py:loss", "--input", "f99[5]"], "no dtype 'f99'"),
        (["model.py:loss", "--input", "f32[a]"], "neither an array"),
        (["model.py:loss", "--input", "f32[999999999,999999999]"], "too large"),
        (["model.py:loss", "--input", "two words"], "neither an array"),
        (["model.py:loss", "--input", "1x=3"], "no argument's name"),
        (["model.py:own", "--stage", "soup"], "no stage 'soup'"),
        (["model.py:own", "--device", "tpu"], "no code generator"),
        (["model.py:own", "--device", "cuda:sm_90", "--stage", "llvm"], "no stage 'llvm' for cuda:sm_90"),
        (["model.py:own", "--stage", "plan", "--format", "dot"], "draws graphs"),
        (["model.py:matrix", "--input", "f32[2]", "--stage", "grad"], "scalar"),
    ],
)
def test_commands_that_cannot_be_used(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    import re

    assert main(["dump-ir", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("knetc: ") and re.search(message, error), error
    assert "Traceback" not in error


def test_an_architecture_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump-ir", "model.py:own", "--device", "cuda:sm_12", "--stage", "ptx"]) == 1
    assert "no code generator for sm_12, but for sm_80, sm_86" in capsys.readouterr().err


def test_a_mistake_in_the_model_is_told_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump-ir", "model.py:predict", "--input", "f32[5,21]"]) == 1
    assert "ShapeError" in capsys.readouterr().err


def test_the_cache_is_listed_verified_and_cleared(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    import numpy as np

    import knetc as kn

    assert run(capsys, "cache", "path").strip() == str(model / "cache")
    kn.compile(lambda x: x * 1.2345 + 5.4321)(np.zeros(7, np.float32))
    listed = run(capsys, "cache", "list")
    assert "program" in listed and "object" in listed
    assert "good" in run(capsys, "cache", "verify")
    victim = next(file for file in (model / "cache").rglob("*") if file.is_file() and "object" in str(file))
    victim.write_bytes(victim.read_bytes()[:-5])
    assert main(["cache", "verify"]) == 1
    assert str(victim) in capsys.readouterr().out
    run(capsys, "cache", "clear")
    assert "0 entries" in run(capsys, "cache", "list")


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "doctor")
    for word in ("numpy", "llvmlite", "threads", "processor", "cache", "cuda", "triton", "cuBLASLt"):
        assert word in text


def test_as_a_module_and_with_debug_output(model: Path) -> None:
    environment = {**os.environ, "KNETC_CACHE_DIR": str(model / "cache"), "PYTHONPATH": str(model)}
    shown = subprocess.run(
        [sys.executable, "-m", "knetc", "dump-ir", "model.py:own", "--stage", "plan"],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    assert "kernel 0" in shown.stdout
    code = "import numpy as np, knetc as kn, model; np.asarray(kn.compile(model.own)(np.zeros(3, np.float32)))"
    for level, words in (
        (1, ["kernel 0", "1 runs", "us a run"]),
        (3, ["kernel 0", "--- plan", "--- trace"]),
        (5, ["--- llvm", "--- asm"]),
    ):
        told = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, env={**environment, "KNETC_DEBUG": str(level)}, check=True,
        ).stderr  # fmt: skip
        assert all(word in told for word in words), told


def test_a_reader_that_has_enough_ends_it_quietly(model: Path) -> None:
    command = [sys.executable, "-m", "knetc", "dump-ir", "model.py:own", "--stage", "trace,llvm"]
    with subprocess.Popen(command, cwd=model, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 128 + 13
