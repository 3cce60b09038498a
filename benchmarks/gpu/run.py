"""Everything that wants a GPU with one command, as one report: ``python benchmarks/gpu/run.py [--save FILE]``.

Needs no installation of knetc and no network: a checkout, and a Python with numpy, ml_dtypes, networkx, jinja2 and
triton; pytest and hypothesis for the tests, PyTorch for what training steps are compared with. What is missing is told,
with what to do about it, and the parts that need it are left out. Each part has its time; what it has printed when that
is over, or when it fails, stays in the report, which is written after each part.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent

LANGUAGE = ("numpy_functions", "control", "indexing", "sorting", "linalg", "autograd", "vmap", "checkpoint", "train")
"""Tests of the language, made on the GPU."""


NEEDED = {
    "everything": ("numpy", "ml_dtypes", "networkx", "jinja2", "triton"),
    "the tests": ("pytest", "hypothesis"),
    "the comparison of training steps with PyTorch": ("torch",),
    "tests that compare with the CPU": ("llvmlite",),
}
"""Modules of others, by what needs them."""


def missing() -> dict[str, list[str]]:
    """The modules that cannot be found, by what needs them."""
    return {what: lacking for what, names in NEEDED.items() if (lacking := [n for n in names if not found(n)])}


def found(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def advice(lacking: dict[str, list[str]]) -> str:
    """What to do about missing modules."""
    lines = [f"- {', '.join(names)}, which {what} would need" for what, names in lacking.items()]
    names = " ".join(name for names in lacking.values() for name in names if name != "torch")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    cure = (
        "Where there is a network, "
        f"`pip install --target FOLDER --only-binary :all: --python-version {version} {names}` "
        "brings them; then `PYTHONPATH=FOLDER` in front of this command, on a machine without one too."
    )
    return "\n".join(["\nMissing here:", "", *lines, *(["", cure] if names else [])]) + "\n"


@dataclass(frozen=True)
class Part:
    """A piece of the report: a command, and how many of the seconds it may take."""

    name: str
    title: str
    command: tuple[str, ...]
    seconds: float
    code: bool = False
    """Whether its output is text to be shown as it is."""
    needs: str = "everything"


def parts(seconds: float) -> list[Part]:
    """The parts in order; ``seconds`` is the time for all of them."""
    python, share = sys.executable, seconds / 540
    tests = (python, "-m", "pytest", "-q", "-rfE", "--no-header", "--tb=short", "-p", "no:cacheprovider")
    tests += ("--continue-on-collection-errors", "-W", "ignore::pytest.PytestConfigWarning")
    if found("pytest_timeout"):
        tests += ("--timeout=120",)
    if found("xdist"):  # most of the time is the compiler's
        tests += ("-n", str(min(8, os.cpu_count() or 1)))
    language = [f"tests/test_{name}.py" for name in LANGUAGE]

    def script(name: str, limit: float) -> tuple[str, ...]:
        return python, "-u", str(FOLDER / name), "--seconds", str(int(limit))

    return [
        Part("launch", "Launches and builds", script("launch.py", 40 * share), 50 * share),
        Part("kernels", "Kernels", script("kernels.py", 80 * share), 100 * share),
        Part("products", "Matrix products", script("products.py", 50 * share), 60 * share),
        Part(
            "tests",
            "Tests that need a GPU",
            (*tests, "-m", "gpu", "tests/gpu", "tests/cuda"),
            100 * share,
            True,
            "the tests",
        ),
        Part(
            "language",
            "Tests of the language, on the GPU",
            (*tests, "--on", "cuda", *language),
            60 * share,
            True,
            "the tests",
        ),
        Part("training", "Training steps", script("training.py", 150 * share), 170 * share),
    ]


def package(folder: Path) -> Path:
    """A folder in which this checkout's parts are the package ``knetc``, as an installation puts them together."""
    made = folder / "knetc"
    made.mkdir()
    for found in (ROOT / "knetc").iterdir():
        (made / found.name).symlink_to(found)
    for name in ("runtime", "codegen", "templates"):
        (made / name).symlink_to(ROOT / name)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The environment of the parts: this checkout's package, and a cache of its own, which is empty."""
    known = [str(package(folder)), str(FOLDER), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, known))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "KNETC_CACHE_DIR": str(folder / "cache")}


def machine() -> str:
    """Versions of what matters, and what the driver says of the GPU."""
    found = [f"Python {sys.version.split()[0]}"]
    for name in ("triton", "torch", "numpy", "nvidia-cublas", "nvidia-cublas-cu12", "llvmlite"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    commands = {
        "GPU": ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.mem", "--format=csv,noheader"),
        "commit": ("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
    }
    for what, command in commands.items():
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        found.append(f"{what}: {said or 'unknown'}")
    return ", ".join(found)


def run(part: Part, environment: dict[str, str]) -> str:
    """What a part prints, shown at once; its errors' end if it fails or has to be stopped."""
    start = time.monotonic()
    lines: list[str] = []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        late = threading.Timer(part.seconds, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        code = process.wait()
        late.cancel()
        errors.seek(0)
        said = errors.read()[-3000:].strip()
    text = "".join(lines).strip()
    if part.code:
        text = f"```\n{text[-6000:]}\n```"
    took = time.monotonic() - start
    end = f"\n\n({took:.0f} s)\n"
    if code:
        why = "was stopped" if code == -signal.SIGKILL else f"ended with {code}"
        end = f"\n\nThis part {why} after {took:.0f} s." + (f"\n\n```\n{said}\n```" if said else "") + end
    print(end, flush=True)
    return text + end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the report to a file too")
    parser.add_argument("--only", nargs="*", metavar="PART", help="some of them, by name (products, training …)")
    parser.add_argument("--seconds", type=float, default=540, help="the time for all parts together")
    options = parser.parse_args()
    chosen = [part for part in parts(options.seconds) if not options.only or part.name in options.only]
    lacking = missing()
    report = f"# {datetime.date.today().isoformat()}: on a GPU\n\n{machine()}\n{advice(lacking) if lacking else ''}"
    print(report, flush=True)
    if options.save:
        options.save.write_text(report)
    if "everything" in lacking:
        sys.exit(1)
    with tempfile.TemporaryDirectory(prefix="knetc-gpu-") as folder:
        where = environment(Path(folder))
        for part in chosen:
            print(f"\n## {part.title}\n", flush=True)
            left_out = f"left out: {', '.join(lacking[part.needs])} missing\n" if part.needs in lacking else ""
            if left_out:
                print(left_out, flush=True)
            report += f"\n## {part.title}\n\n{left_out or run(part, where)}"
            if options.save:
                options.save.write_text(report)


if __name__ == "__main__":
    main()
