"""The memory of a training step: what the plan says, and nothing more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_SLAB_BYTES = 1 << 18

_TRAINING = """
import json
import sys
import numpy as np
import knetc as kn
from knetc.compiler.report import peak_bytes
from knetc.runtime import buffers

make = {"adam": kn.adam, "sgd": kn.sgd}[sys.argv[1]]
random = np.random.default_rng(0)

def normal(*shape):
    return (0.03 * random.normal(size=shape)).astype(np.float32)

weights = [kn.Param(normal(512, 1024)), kn.Param(normal(512, 512)), kn.Param(normal(64, 512))]
x, y = kn.array(normal(256, 1024)), kn.array(random.integers(0, 64, 256))

def loss(x, y):
    a, b, c = weights
    return kn.nll(kn.relu(kn.relu(x @ a.T) @ b.T) @ c.T, y)

training = make(loss, [(x, y)] * 5)
for last in training:
    last = float(last)
[variant] = training.step.__knetc_compiled__.variants
program = variant.executable.program
memory = buffers.stats()
planned = [b.size_bytes for b in program.buffers if b.kind == "input" or (b.kind == "output" and b.update_of < 0)]
print(json.dumps({
    "in_use": memory.in_use_bytes,
    "peak": memory.peak_bytes,
    "blocks": sum(map(buffers.class_bytes, planned)) + buffers.class_bytes(program.arena_bytes),
    "plan": peak_bytes(program),
    "arena": program.arena_bytes,
    "params": sum(4 * w.size for w in weights),
    "counts": 8 * sum(b.shape == () and b.kind == "input" for b in program.buffers),
    "data": x.nbytes + y.nbytes,
}))
"""


@pytest.mark.parametrize(("optimizer", "moments"), [("adam", 2), ("sgd", 0)])
def test_peak_is_what_the_plan_says(optimizer: str, moments: int, tmp_path: Path) -> None:
    file = tmp_path / "training.py"
    file.write_text(_TRAINING)
    environment = {**os.environ, "KNETC_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, file, optimizer], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # parameters, optimizer state, inputs, the loss, and the arena
    loss = 4
    assert found["plan"] == (1 + moments) * found["params"] + found["counts"] + found["data"] + loss + found["arena"]
    # what is in use is those blocks; the loss of the last step may still be alive beside the one that replaced it
    assert abs(found["in_use"] - found["blocks"]) <= 1024
    # and never more was had from the system, but for the slabs of small arrays
    assert found["in_use"] <= found["peak"] <= found["in_use"] + 4 * _SLAB_BYTES
