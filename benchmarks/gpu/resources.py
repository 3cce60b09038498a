"""What the benchmark's kernels are as machine code, for GPUs that need not be there: registers, spills, widths, work.

For each kernel and architecture: registers of a thread, bytes that spill, how wide reads and writes of memory are,
bytes that a multiprocessor has asked for at once if as many programs run on it as fit, and instructions for each byte
that is moved. Those are counted in the machine code, in the loops that touch memory (in kernels without such loops: in
all of it); an H200 executes about 6.2 instructions of threads while its memory moves a byte, so a kernel
with more is bound by them. Bytes that lie in caches count too (a vector that all rows are multiplied with).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from knetc.codegen.assemble import assemble
from knetc.codegen.triton.backend import TritonBackend
from knetc.codegen.triton.compile import compiled
from knetc.codegen.triton.cubin import read_cubin
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.source import header_of
from knetc.runtime.base import dtypes

import knetc as kn
from knetc.ir.build import trace_function
from knetc.ir.types import TensorType
from knetc.passes.differentiate import gradients
from knetc.passes.simplify import simplify

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
REGISTERS, THREADS = 65536, 2048
"""Of a multiprocessor."""


def gelu(x: Any, w: Any, b: Any) -> Any:
    return kn.gelu(x * w + b, approximate="tanh")


def layernorm_gradients(x: Any, w: Any, b: Any, g: Any) -> Any:
    return gradients(kn.sum(kn.layernorm(x, w, b) * g), [x, w, b])


def cross_entropy(scores: Any, labels: Any) -> Any:
    loss = kn.nll(scores, labels)
    return [loss, *gradients(loss, [scores])]


def adam(w: Any, g: Any, m: Any, v: Any) -> Any:
    m, v = m * 0.9 + g * 0.1, v * 0.999 + kn.square(g) * 0.001
    return w - m * 0.01 / (kn.sqrt(v) + 1e-8), m, v


def softmax(x: Any) -> Any:
    return kn.softmax(x, axis=-1)


def column_sums(x: Any) -> Any:
    return kn.sum(x, axis=0)


def places(x: Any) -> Any:
    return kn.argmax(x, axis=-1)


@dataclass(frozen=True)
class Work:
    """A function and the shapes of its arrays, of which those in ``whole`` hold integers."""

    title: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    whole: tuple[int, ...] = ()


def works(rows: int, columns: int) -> list[Work]:
    """The pieces of work that are benchmarked, for one shape."""
    x, c = (rows, columns), (columns,)
    return [
        Work("gelu(x * w + b)", gelu, (x, c, c)),
        Work("softmax", softmax, (x,)),
        Work("layernorm", kn.layernorm, (x, c, c)),
        Work("layernorm, gradients", layernorm_gradients, (x, c, c, x)),
        Work("cross-entropy and gradient", cross_entropy, (x, (rows,)), (1,)),
        Work("Adam", adam, ((rows * columns,),) * 4),
        Work("sums of columns", column_sums, (x,)),
        Work("places of row maxima", places, (x,)),
    ]


def kernels(work: Work, dtype: str) -> list[str]:
    """The sources of a piece of work."""
    kinds = [np.dtype(np.int64) if k in work.whole else dtypes.as_dtype(dtype) for k in range(len(work.shapes))]
    types = [TensorType(kind, shape) for kind, shape in zip(kinds, work.shapes)]
    graph = simplify(trace_function(work.function, *types))
    return list(assemble(graph, TritonBackend(GpuTarget("cuda", "sm_90"))).functions.values())


@dataclass(frozen=True)
class Resources:
    """What a kernel takes on one architecture."""

    registers: int
    spilled: int
    widths: str
    """Bits of its reads from and writes to memory, with how many of them there are in the code."""
    in_flight: int
    """Bytes that the reads of all programs on a multiprocessor fetch in one turn of the loop."""
    instructions: float
    """For each byte."""


def resources(source: str, arch: str) -> Resources:
    """Compile a kernel and look at its machine code."""
    made = compiled(source, GpuTarget("cuda", arch))
    info = read_cubin(made.asm["cubin"], made.metadata.name)
    threads = 32 * header_of(source).warps
    lines, labels = _instructions(made.asm["sass"])
    walked = _loops(lines, labels)
    inside = [line for first, last in walked for line in lines[first : last + 1]] or lines
    reads, writes = (_widths(lines, f"{kind}.") for kind in ("LDG", "STG"))
    programs = min(REGISTERS // (threads * max(-(-info.registers // 8) * 8, 16)), THREADS // threads)
    fetched, moved = (
        sum(bits * count for kind in kinds for bits, count in _widths(inside, kind).items()) // 8
        for kinds in (("LDG.",), ("LDG.", "STG."))
    )
    return Resources(
        info.registers,
        info.stack_bytes,
        " ".join(f"{name} {_joined(found)}" for name, found in (("r", reads), ("w", writes)) if found),
        fetched * threads // max(len(walked), 1) * programs,
        len(inside) / max(moved, 1),
    )


def _instructions(code: str) -> tuple[list[str], dict[str, int]]:
    """The instructions of a disassembly, and which of them labels stand before."""
    lines: list[str] = []
    labels: dict[str, int] = {}
    for line in code.splitlines()[1:]:
        if label := re.match(r"^(\w+):\s*$", line.strip()):
            labels[label[1]] = len(lines)
        elif "\t" in line:
            lines.append(line.split("\t", 1)[1])
        if lines and lines[-1].startswith("EXIT"):  # slow paths follow: quotients of numbers near the ends of the range
            break
    return lines, labels


def _loops(lines: list[str], labels: dict[str, int]) -> list[tuple[int, int]]:
    """The innermost loops that touch memory: first and last instruction."""
    found = []
    for last, line in enumerate(lines):
        target = re.search(r"BRA (\w+)", line)
        if target and labels.get(target[1], last + 1) <= last:
            first = labels[target[1]]
            if any("LDG" in x or "LDGSTS" in x for x in lines[first:last]):
                found.append((first, last))
    return [(a, b) for a, b in found if not any(a <= x and y < b for x, y in found if (x, y) != (a, b))]


def _widths(lines: list[str], kind: str) -> Counter[int]:
    found: Counter[int] = Counter()
    for line in lines:
        if kind in line or (kind == "LDG." and "LDGSTS" in line):
            width = re.search(r"\.(?:U|S)?(8|16|64|128)\b", line)
            found[int(width[1]) if width else 32] += 1
    return found


def _joined(found: Counter[int]) -> str:
    return "+".join(f"{count}x{bits}" for bits, count in sorted(found.items(), reverse=True))


def main(arguments: list[str] | None = None) -> str:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--columns", type=int, nargs="*", default=[1000, 8192, 100_000])
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the report to a file too")
    options = parser.parse_args(arguments)
    head = ("kernel", "dtype", "form", "warps", "reads and writes (sm_90)")
    head = (*head, *(f"{arch}: registers, instructions/byte, KiB in flight" for arch in ARCHITECTURES))
    rows: list[tuple[str, ...]] = []
    spills = 0
    known: set[str] = set()
    for columns in options.columns:
        for dtype in options.dtypes:
            for work in works(options.rows, columns):
                for number, source in enumerate(kernels(work, dtype)):
                    if source in known:
                        continue
                    known.add(source)
                    found = [resources(source, arch) for arch in ARCHITECTURES]
                    spills += sum(r.spilled for r in found)
                    cells = [
                        f"{r.registers}{f' ({r.spilled} bytes spilled)' if r.spilled else ''}, "
                        f"{r.instructions:.1f}, {r.in_flight / 1024:.0f}"
                        for r in found
                    ]
                    title = work.title if number == 0 else f"{work.title} ({number + 1})"
                    about = source.split('"""')[1]
                    rows.append((title, dtype, about, str(header_of(source).warps), found[1].widths, *cells))
    lines = [head, tuple("---" for _ in head), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    about = f"knetc {importlib.metadata.version('knetc')}, Triton {importlib.metadata.version('triton')}"
    text = f"# {datetime.date.today().isoformat()}: kernels as machine code\n\n{about}; no GPU was at hand.\n"
    text += f"Bytes spilled, all kernels together: {spills}.\n\n{table}\n"
    if options.save:
        options.save.write_text(text)
    return text


if __name__ == "__main__":
    print(main())
