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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kernels
import training
from knetc.codegen.assemble import assemble
from knetc.codegen.triton.backend import TritonBackend
from knetc.codegen.triton.compile import compiled
from knetc.codegen.triton.cubin import read_cubin
from knetc.codegen.triton.model import GpuTarget
from knetc.codegen.triton.source import header_of

import knetc as kn
from knetc.dump import traced
from knetc.ir.node import Graph
from knetc.passes.simplify import simplify

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
REGISTERS, THREADS = 65536, 2048
"""Of a multiprocessor."""


def zeros(dtype: str, *shape: int) -> Any:
    return kn.zeros(shape, dtype=dtype)


def column_sums(fill: kernels.Fill, rows: int, columns: int, dtype: str) -> kernels.Piece:
    x = fill(dtype, rows, columns)
    return kernels.Piece(kn.compile(lambda x: kn.sum(x, axis=0)), (x,), x.nbytes)


def places(fill: kernels.Fill, rows: int, columns: int, dtype: str) -> kernels.Piece:
    x = fill(dtype, rows, columns)
    return kernels.Piece(kn.compile(lambda x: kn.argmax(x, axis=-1)), (x,), x.nbytes)


MAKERS = kernels.KERNELS | {"sums of columns": column_sums, "places of row maxima": places}

CONTEST = (
    ("gelu(x * w + b)", 4096, 4096),
    ("gelu(x * w + b), gradients", 4096, 2048),
    ("cross-entropy and gradient", 4096, 5000),
    ("layernorm, gradients", 8192, 1024),
    ("Adam", 10_000_000, 1),
)
"""What libraries are compared by on processors too, in its shapes."""

MOST = 1 << 27
"""Elements of an array here; of longer rows there are fewer."""


def works(rows: int, columns: Sequence[int], dtypes: Sequence[str]) -> Iterator[tuple[str, str, Callable[[], Graph]]]:
    """What is benchmarked: a title, the dtype, and what traces it."""
    for dtype in dtypes:
        for count in columns:
            for title, make in MAKERS.items():
                if dtype == "float16" and "Adam" not in title:
                    continue  # the rest is what it is for bfloat16
                yield title, dtype, partial(traced_piece, make, min(rows, MOST // count), count, dtype)
        for title, height, width in CONTEST if dtype != "float16" else ():
            yield title, dtype, partial(traced_piece, MAKERS[title], height, width, dtype)
        for title, model in training.MODELS.items():
            if dtype != "float16":
                yield title.partition(" (")[0], dtype, partial(traced_step, model, dtype)


def traced_piece(make: kernels.Maker, rows: int, columns: int, dtype: str) -> Graph:
    """The graph of a kernel's work."""
    piece = make(zeros, rows, columns, dtype)
    return simplify(traced(piece.run, piece.arguments))


def traced_step(model: training.Model, dtype: str) -> Graph:
    """The graph of a training step."""
    return simplify(traced(*training.ours(model, dtype)))


def sources(graph: Graph, precision: str = "highest") -> list[str]:
    """The kernels of a graph."""
    backend = TritonBackend(GpuTarget("cuda", "sm_90"), precision=precision)
    return list(assemble(graph, backend).functions.values())


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
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16", "float16"])
    parser.add_argument("--only", default="", help="a part of the names of what is to be looked at")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the report to a file too")
    options = parser.parse_args(arguments)
    head = ("kernel", "dtype", "form", "warps", "reads and writes (sm_90)")
    head = (*head, *(f"{arch}: registers, instructions/byte, KiB in flight" for arch in ARCHITECTURES))
    named: dict[str, tuple[str, str]] = {}
    known: set[str] = set()
    for title, dtype, trace in works(options.rows, options.columns, options.dtypes):
        for number, source in enumerate(sources(trace())) if options.only in title else ():
            form = re.sub(r"\d+", "", source.partition("def ")[2]) + str(header_of(source).warps)
            if form not in known:  # others differ in extents alone
                known.add(form)
                named[source] = title if number == 0 else f"{title} ({number + 1})", dtype
    with ThreadPoolExecutor() as pool:
        asked = [(source, arch) for source in named for arch in ARCHITECTURES]
        found = dict(zip(asked, pool.map(lambda pair: resources(*pair), asked)))
    rows: list[tuple[str, ...]] = []
    for source, (title, dtype) in named.items():
        each = [found[source, arch] for arch in ARCHITECTURES]
        cells = [
            f"{r.registers}{f' ({r.spilled} bytes spilled)' if r.spilled else ''}, "
            f"{r.instructions:.1f}, {r.in_flight / 1024:.0f}"
            for r in each
        ]
        about = source.split('"""')[1]
        rows.append((title, dtype, about, str(header_of(source).warps), each[1].widths, *cells))
    spills = sum(r.spilled for r in found.values())
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
