"""Memory-bound kernels, at sizes that fit the caches and at large ones, against PyTorch and JAX.

    python benchmarks/kernels/run.py [--peers PYTHON] [--only gelu_bias,adam_update] [--sizes cache,large]

``--peers`` is a Python that has torch or jax (or both). Each contender runs in a process of its own, and they take
turns, round by round, so that a machine whose speed drifts slows all alike. The ratio is that of the fastest peer to
ours, the median over rounds. For large sizes our rate is set beside that of our own best copy of as many bytes, taken
in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from work import PASSES, least_bytes

_HERE = Path(__file__).resolve().parent
_PEERS = {
    "torch": ("torch", "peer_torch.py"),
    "compile": ("torch", "peer_torch.py --compile"),
    "jax": ("jax", "peer_jax.py"),
}


class Contender:
    """A process that runs the workloads."""

    def __init__(self, name: str, python: str, script: str, log: Any) -> None:
        self.name = name
        command = [python, str(_HERE / script.split()[0]), *script.split()[1:]]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def seconds(self, count: int) -> float:
        """The median time of a step."""
        return statistics.median(self.ask(do="time", count=count)["times"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def importable(python: str, package: str) -> bool:
    command = [python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def compare(name: str, size: str, options: argparse.Namespace, log: Any) -> float | None:
    """Print one line; the ratio of the fastest peer to ours."""
    contenders = [Contender("ours", sys.executable, "ours.py", log)]
    for peer, (package, script) in _PEERS.items():
        if options.peers and importable(options.peers, package):
            contenders.append(Contender(peer, options.peers, script, log))
    norms, notes = {}, []
    for contender in list(contenders):
        reply = contender.ask(do="load", name=name, size=size)
        if "error" in reply:
            notes.append(f"{contender.name} failed: {reply['error']}")
            contenders.remove(contender)
            contender.close()
        norms[contender.name] = reply.get("norms", [])
    for other, found in norms.items():
        for a, b in zip(norms["ours"], found):
            if abs(a - b) > 1e-3 * max(a, b):
                notes.append(f"{other} computes something else ({b:.6g}, ours {a:.6g})")
    if size == "large":
        contenders.append(Contender("copy", sys.executable, "ours.py", log))
        contenders[-1].ask(do="copy", bytes=least_bytes(name, size))
    counts = {c.name: max(3, min(1000, int(options.seconds / c.seconds(3)))) for c in contenders}
    times: dict[str, list[float]] = {c.name: [] for c in contenders}
    for _ in range(options.rounds):
        for contender in contenders:
            times[contender.name].append(contender.seconds(counts[contender.name]))
    for contender in contenders:
        contender.close()
    peers = [c for c in times if c not in ("ours", "copy")]
    ratio = None
    if peers:
        ratio = statistics.median(min(times[p][k] for p in peers) / ours for k, ours in enumerate(times["ours"]))
    columns = "".join(f"{c} {1e6 * statistics.median(t):9.1f} us  " for c, t in times.items())
    if size == "large":
        rate = least_bytes(name, size) / statistics.median(times["ours"]) / 1e9
        share = statistics.median(a / b for a, b in zip(times["copy"], times["ours"]))
        notes.insert(0, f"{rate:.1f} GB/s, {share:.0%} of a copy")
    print(f"{name:18} {size:6} {f'{ratio:.2f}x' if ratio else '-':>7}   {columns} {'; '.join(notes)}", flush=True)
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="", metavar="PYTHON")
    parser.add_argument("--only", default=",".join(PASSES))
    parser.add_argument("--sizes", default="cache,large")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="time of a contender in a round")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH", ""))))
    with open(Path(tempfile.mkdtemp(prefix="kernels-")) / "log.txt", "w") as log:
        print(f"what the contenders say: {log.name}", file=sys.stderr)
        ratios = [
            compare(name, size, options, log) for size in options.sizes.split(",") for name in options.only.split(",")
        ]
    found = [ratio for ratio in ratios if ratio]
    if found:
        print(f"geometric mean {statistics.geometric_mean(found):.2f}x, worst {min(found):.2f}x (best peer / ours)")


if __name__ == "__main__":
    main()
