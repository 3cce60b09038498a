"""A checkout that nobody installed, put together by links: what a machine runs on which nothing can be installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

_CODE = """
import knetc as kn

assert "pkg" in kn.__file__ and "pkg" in kn.runtime.__file__
w = kn.param(3, 4)

@kn.compile
def step(x):
    w[...] = w - 0.1 * kn.softmax(w @ x)[:, None]
    return kn.sum(w)

step(kn.ones(4))
try:
    kn.ones(3) + kn.ones(4)
except kn.ShapeError as error:
    print(str(error).rpartition("at ")[2])
"""


def test_links_to_a_checkout_are_a_package(tmp_path: Path) -> None:
    """Frames of knetc's own files are known by whatever name they are reached: errors name the user's line."""
    script = Path(__file__).parents[1] / "benchmarks" / "gpu" / "run.py"
    spec = importlib.util.spec_from_file_location("run_on_gpu", script)
    assert spec is not None and spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = run
    spec.loader.exec_module(run)
    (tmp_path / "pkg").mkdir()
    user = tmp_path / "user.py"
    user.write_text(_CODE)
    environment = {**os.environ, **run.environment(tmp_path / "pkg")}
    done = subprocess.run([sys.executable, "-W", "error", user], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(f"{user}:"), done.stderr
    assert {part.name for part in run.parts(480)} == {"launch", "kernels", "products", "tests", "language", "training"}
    missing = [name for name in run.LANGUAGE if not (script.parents[2] / "tests" / f"test_{name}.py").exists()]
    assert not missing
