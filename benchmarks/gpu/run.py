"""Everything that wants a GPU with one command, as one report: ``python benchmarks/gpu/run.py [--save FILE]``.

The tests that need a GPU, then kernels against copies, then training steps against PyTorch if it is installed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def versions() -> str:
    """Versions of what matters."""
    found = []
    for name in ("knetc", "triton", "torch", "numpy"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join((f"Python {sys.version.split()[0]}", *found))


def output(*command: str) -> str:
    """What a command prints, its errors too."""
    done = subprocess.run(command, cwd=FOLDER.parent.parent, capture_output=True, text=True)
    return done.stdout + (done.stderr[-3000:] if done.returncode else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the report to a file too")
    options = parser.parse_args()
    parts = [f"# {datetime.date.today().isoformat()}: on a GPU\n\n{versions()}\n"]
    tests = output(sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rf", "--no-header", "--tb=line")
    parts.append(f"## Tests\n\n```\n{tests[-6000:].strip()}\n```\n")
    for title, script in (("Kernels", "kernels.py"), ("Training steps", "training.py")):
        parts.append(f"## {title}\n\n{output(sys.executable, str(FOLDER / script)).strip()}\n")
        print(parts[-1], flush=True)
    report = "\n".join(parts)
    print(report)
    if options.save:
        options.save.write_text(report)


if __name__ == "__main__":
    main()
