"""What the compiler made, as text for people, JSON for programs, and graphs for Graphviz.

``knetc dump-ir`` and ``KNETC_DEBUG`` show the same.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from knetc.ir import printer
from knetc.ir.node import Graph
from knetc.ir.op import Kind
from knetc.runtime.program import ArgumentRef, BufferSpec, Member, Program, Region, Step, repeats, to_json

STAGES = ("trace", "grad", "simplify", "fuse", "plan", "llvm", "asm")
"""What may be asked for, in the order in which it comes about."""

GPU_STAGES = ("trace", "grad", "simplify", "fuse", "plan", "triton", "ttir", "ttgir", "ptx", "sass")
"""The same where the code is for a GPU."""

FORMATS = {"text": "py", "json": "json", "dot": "dot"}
"""The forms, and the endings of their files."""

ENDINGS = {"plan": "txt", "llvm": "ll", "asm": "s", "ttir": "mlir", "ttgir": "mlir", "ptx": "ptx", "sass": "sass"}
"""The endings of stages that are not Python, as text."""

_COMMENTS = {"llvm": ";", "asm": "#", "triton": "#"}

_LEVELS = {2: ("fuse", "plan"), 3: ("trace", "simplify"), 4: ("llvm", "triton"), 5: ("asm", "ptx")}


def text_of(stage: str, value: Any) -> str:
    """A stage as text: a graph as Python, a plan as a table, code as code."""
    if isinstance(value, Graph):
        return printer.to_text(value, stage)
    if isinstance(value, Program):
        return plan_text(value)
    return "\n".join(f"{_COMMENTS.get(stage, '//')} {name}\n{code}" for name, code in value.items())


def json_of(value: Any) -> str:
    """A stage as JSON."""
    if isinstance(value, Graph):
        value = printer.to_json(value)
    elif isinstance(value, Program):
        value = {**to_json(value), "peak_bytes": peak_bytes(value)}
    return json.dumps(value, indent=1, default=str) + "\n"


def shown(stage: str, value: Any, form: str) -> str:
    """A stage in one of the ``FORMATS``; raises ValueError for code or a plan as a graph."""
    if form == "json":
        return json_of(value)
    if form == "text":
        return text_of(stage, value)
    if not isinstance(value, Graph):
        raise ValueError(f"--format dot draws graphs; stage {stage} has none (use text or json)")
    return printer.to_dot(value)


def size_text(count: int) -> str:
    """Bytes as people read them.

    >>> size_text(1536)
    '1.5 KiB'
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def peak_bytes(program: Program) -> int:
    """Memory that a run needs: inputs, outputs that do not take an input's memory, and the arena."""
    return program.arena_bytes + sum(
        spec.size_bytes
        for spec in program.buffers
        if spec.kind == "input" or (spec.kind == "output" and spec.update_of < 0)
    )


def plan_text(program: Program) -> str:
    """A program as a table: memory first, then the kernels in order, with the reason why each one ends."""
    names = buffer_names(program)
    launches = sum(1 if step.library else len(step.grids) for step in program.steps)
    counted = f"{launches} launches, " if launches else ""
    lines = [
        f"# {program.target}: {len(program.steps)} kernels, {counted}arena {size_text(program.arena_bytes)}, "
        f"peak {size_text(peak_bytes(program))} with inputs and outputs"
    ]
    for name, spec in zip(names, program.buffers):
        place = f" at {spec.offset}" if spec.kind == "arena" else ""
        update = f", takes the memory of {names[spec.update_of]}" if spec.update_of >= 0 else ""
        lines.append(f"{name}: {_type(spec)}  # {spec.kind}{place}, {size_text(spec.size_bytes)}{update}")
    lines += [f"s{k}: {dtype}  # scalar" for k, dtype in enumerate(program.scalars)]
    for number, step in enumerate(program.steps):
        around = [region for region in program.regions if region.begin <= number < region.end]
        heads = [
            f"{'    ' * depth}{_head(region, around[:depth], names)}"
            for depth, region in enumerate(around)
            if region.begin == number
        ]
        indent = "    " * len(around)
        lines += ["", *heads, *(f"{indent}{line}" for line in _step(number, step, names))]
    for check in program.checks:
        lines += ["", f"# check: {check.error}: {check.message}"]
    return "\n".join(lines) + "\n"


def buffer_names(program: Program) -> list[str]:
    """Short names: ``in0``, ``out0``, ``t0``."""
    counts = {"input": 0, "output": 0, "arena": 0}
    names = []
    for spec in program.buffers:
        prefix = {"input": "in", "output": "out", "arena": "t"}[spec.kind]
        names.append(f"{prefix}{counts[spec.kind]}")
        counts[spec.kind] += 1
    return names


def _type(spec: BufferSpec) -> str:
    return f"{spec.dtype}[{','.join(map(str, spec.shape))}]"


def _argument(ref: ArgumentRef, names: list[str]) -> str:
    if ref.kind != "buffer":
        return f"{'i' if ref.kind == 'counter' else 's'}{ref.index}"
    places = ", ".join(
        [f"i{depth}" for depth, stride in enumerate(ref.strides) if stride] + [f"+{ref.offset} B"] * bool(ref.offset)
    )
    return f"{names[ref.index]}[{places}]" if places else names[ref.index]


def _head(region: Region, around: Sequence[Region], names: list[str]) -> str:
    """The line in front of the kernels of a loop or a case, which lies in those ``around``."""
    counter = f"i{sum(outer.kind != 'case' for outer in around)}"
    if region.kind == "case":
        return f"if {_argument(region.condition, names)} == {region.case}:"
    if region.kind == "while":
        return (
            f"while {_argument(region.condition, names)} (found before kernel {region.test_end}), counted by {counter}:"
        )
    backwards = ", backwards" if region.reverse else ""
    return f"{region.count:,} times{backwards}, counted by {counter}:"


def _step(number: int, step: Step, names: list[str]) -> list[str]:
    head = f"kernel {number}: "
    if not step.members:
        return _facts(head, step, names)
    lines = [f"{head}{len(step.members)} kernels that are launched together", f"    # {_work(step)}"]
    for member in step.members:
        lines += [f"    {line}" for line in _facts("", member, names)]
    return lines


def _facts(head: str, kernel: Step | Member, names: list[str]) -> list[str]:
    """What is known of a kernel, or of one that is launched with others."""
    arguments = ", ".join(_argument(ref, names) for ref in kernel.arguments)
    lines = [f"{head}{kernel.name}({arguments})", f"    # {_work(kernel)}"]
    notes = kernel.notes if isinstance(kernel, Step) else ()
    lines += [f"    # {text}" for text in (kernel.reason, *notes) if text]
    if kernel.lines:
        lines.append(f"    # {', '.join(kernel.lines)}")
    return lines


def _work(kernel: Step | Member) -> str:
    space = kernel.workspace_bytes if isinstance(kernel, Step) else 0
    return (
        f"reads {size_text(kernel.read_bytes)}, writes {size_text(kernel.written_bytes)}, "
        f"{kernel.operations:,} operations{f', workspace {size_text(space)}' if space else ''}"
    )


def kernels_text(program: Program, *, short: bool = False) -> str:
    """One line for each kernel; ``short`` names files without their folders."""
    return "".join(
        f"kernel {number}: {step.name}, {size_text(step.read_bytes + step.written_bytes)}, "
        f"{step.operations:,} operations{_times(count)}"
        f"{', ' + ', '.join(_named(line, short) for line in step.lines[:3]) if step.lines else ''}\n"
        for number, (step, count) in enumerate(zip(program.steps, repeats(program)))
    )


def _times(count: int) -> str:
    """How often a run makes a step, if not once."""
    return "" if count == 1 else ", many times" if count < 0 else f", {count:,} times"


def _named(line: str, short: bool) -> str:
    return line[: 2 * line.startswith("∂")] + line.rsplit(os.sep, 1)[-1] if short and os.sep in line else line


def summary(function: Any) -> str:
    """What was compiled for a compiled function (or an iterator of ``minimize``): kernels, fusion and memory.

    One paragraph for each signature that was met. Raises TypeError for what is not compiled.

    >>> print(summary(compile(lambda x: x + 1)))
    nothing compiled yet: the function has not been called
    """
    compiled = getattr(getattr(function, "step", function), "__knetc_compiled__", None)
    if compiled is None:
        raise TypeError(
            f"{function!r} is not compiled: give a function made by knetc.compile, or knetc.minimize's result"
        )
    parts = []
    for variant in compiled.variants:
        program: Program = variant.executable.program
        traced = sum(node.op.kind is not Kind.LEAF for node in variant.graph.nodes)
        times = [abs(count) for count in repeats(program)]  # once, where it is not known
        moved = sum(count * (step.read_bytes + step.written_bytes) for step, count in zip(program.steps, times))
        in_place = sum(spec.update_of >= 0 for spec in program.outputs)
        parts.append(
            f"{compiled.python.__qualname__}: {traced} traced operations became {len(program.steps)} kernels; "
            f"{in_place} arrays are updated in place; intermediate values take {size_text(program.arena_bytes)}, "
            f"a call moves {size_text(moved)}\n{kernels_text(program, short=True)}"
        )
    return "\n".join(parts).rstrip() or "nothing compiled yet: the function has not been called"


def tell(program: Program, how: str, stages: Callable[[], Mapping[str, Any]], level: int) -> None:
    """Print to standard error what ``KNETC_DEBUG=level`` asks to see of a program that is about to be run first.

    ``how`` says where it comes from; ``stages`` makes what levels above 1 show.
    """
    parts = [f"knetc: {len(program.steps)} kernels, {how}\n", kernels_text(program)]
    found = stages() if level > 1 else {}
    for at, names in _LEVELS.items():
        if level >= at:
            parts += [f"--- {name}\n{text_of(name, opened(found[name]))}" for name in names if name in found]
    sys.stderr.write("".join(parts))


class Timed(Protocol):
    """A program that counts its runs."""

    @property
    def program(self) -> Program: ...
    def times(self) -> tuple[int, list[float]]:
        """How often it has run, and the time of each step in all those runs in microseconds."""


def tell_times(executable: Timed) -> None:
    """Print to standard error, when the process ends, how long each kernel of a program took."""
    runs, times_us = executable.times()
    if not runs:
        return
    program = executable.program
    lines = [f"knetc: {runs} runs, {sum(times_us) / runs:.1f} us each\n"]
    for number, (step, time_us, count) in enumerate(zip(program.steps, times_us, repeats(program))):
        moved, operations = (abs(count) * work for work in (step.read_bytes + step.written_bytes, step.operations))
        each_us = max(time_us / runs, 1e-3)
        lines.append(
            f"kernel {number}: {step.name}, {each_us:.1f} us a run, {moved / each_us * 1e-3:.1f} GB/s, "
            f"{operations / each_us * 1e-3:.1f} billion operations a second\n"
        )
    sys.stderr.write("".join(lines))


def opened(value: Any) -> Any:
    """A stage's value: code is made when it is asked for."""
    return value() if callable(value) else value


__all__ = ["summary"]
