"""Hand-written kernels and programs that the tests of the runtime share."""

from __future__ import annotations

from functools import cache

from knetc.codegen.cpu import driver, native, pool
from knetc.runtime.cpu.machine import Executable
from knetc.runtime.program import (
    ArgumentRef,
    BufferSpec,
    Check,
    Launch,
    Program,
    Slot,
    Step,
)

COUNT_VISITS = """; table: i32 visits[count], i64 begins[count], i64 ends[count]
define void @k_visits(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
entry:
  %visits = load ptr, ptr %table
  %begins.at = getelementptr ptr, ptr %table, i64 1
  %begins = load ptr, ptr %begins.at
  %ends.at = getelementptr ptr, ptr %table, i64 2
  %ends = load ptr, ptr %ends.at
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %p = getelementptr i32, ptr %visits, i64 %i
  %old = atomicrmw add ptr %p, i32 1 monotonic
  %b = getelementptr i64, ptr %begins, i64 %i
  store i64 %lo, ptr %b
  %e = getelementptr i64, ptr %ends, i64 %i
  store i64 %hi, ptr %e
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""

ADD = """; table: f32 x[], f32 y[], f64 scalar: y = x + scalar
define void @k_add(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
entry:
  %x = load ptr, ptr %table
  %y.at = getelementptr ptr, ptr %table, i64 1
  %y = load ptr, ptr %y.at
  %s.at = getelementptr ptr, ptr %table, i64 2
  %s = load double, ptr %s.at
  %scalar = fptrunc double %s to float
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %w = fadd float %v, %scalar
  %q = getelementptr float, ptr %y, i64 %i
  store float %w, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""

FILL = """; table: i64 y[], i64 value
define void @k_fill(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
entry:
  %y = load ptr, ptr %table
  %v.at = getelementptr i64, ptr %table, i64 1
  %v = load i64, ptr %v.at
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %q = getelementptr i64, ptr %y, i64 %i
  store i64 %v, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""

CHECK = """; table: f32 x[], failure record: negative elements are failures
define void @k_check(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
entry:
  %x = load ptr, ptr %table
  %r.at = getelementptr ptr, ptr %table, i64 1
  %record = load ptr, ptr %r.at
  %value.at = getelementptr i64, ptr %record, i64 1
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %next, %good ]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %bad = fcmp olt float %v, 0.0
  br i1 %bad, label %failure, label %good
failure:
  %n = fptosi float %v to i64
  store i64 %n, ptr %value.at
  store i64 1, ptr %record
  br label %good
good:
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""


@cache
def compiled(text: str) -> bytes:
    """The object for a kernel's text."""
    target = native.target()
    return native.compile_ir(text + native.attributes_text(target), target)


@cache
def compiled_pool() -> bytes:
    """The pool's object."""
    return native.compile_ir(pool.emit_pool(), native.target())


def load(program: Program, *kernels: str) -> Executable:
    """A program with its driver, its kernels and the pool, loaded."""
    target = native.target()
    objects = {f"kernel{k}": compiled(text) for k, text in enumerate(kernels)}
    objects["pool"] = compiled_pool()
    objects["driver"] = native.compile_ir(driver.emit_driver(program), target, 0)
    return Executable(complete(program, tuple(objects)), objects)


def complete(program: Program, objects: tuple[str, ...]) -> Program:
    """The program with its list of objects."""
    return Program(**{**vars(program), "objects": objects})


def buffer(index: int) -> ArgumentRef:
    """A step's argument that is a buffer."""
    return ArgumentRef("buffer", index)


def scalar(index: int) -> ArgumentRef:
    """A step's argument that is a scalar."""
    return ArgumentRef("scalar", index)


def slots(count: int) -> tuple[Slot, ...]:
    """One slot for each of a step's arguments."""
    return tuple(Slot("argument", k) for k in range(count))


def program(
    buffers: tuple[BufferSpec, ...],
    steps: tuple[Step, ...],
    scalars: tuple[str, ...] = (),
    checks: tuple[Check, ...] = (),
    arena_bytes: int = 0,
) -> Program:
    """A program for this machine, without objects."""
    return Program(native.target().key, buffers, scalars, steps, checks, arena_bytes, ())


def array(kind: str, dtype: str, count: int, offset: int = -1) -> BufferSpec:
    """A one-dimensional buffer."""
    return BufferSpec(kind, dtype, (count,), count * (8 if "64" in dtype else 4), offset)  # type: ignore[arg-type]


def add_program(count: int, grain: int, operations: int = 0) -> Program:
    """y = x + scalar."""
    step = Step(
        "add", (buffer(0), buffer(1), scalar(0)), (Launch("k_add", count, grain, slots(3)),), operations=operations
    )
    return program((array("input", "f32", count), array("output", "f32", count)), (step,), ("f32",))


def visits_program(count: int, grain: int, brief: bool = False) -> Program:
    """Counts how often each index is visited, and in which piece."""
    arguments = (buffer(0), buffer(1), buffer(2))
    step = Step("visits", arguments, (Launch("k_visits", count, grain, slots(3), brief),), operations=1 << 40)
    outputs = (array("output", "i32", count), array("output", "i64", count), array("output", "i64", count))
    return program(outputs, (step,))
