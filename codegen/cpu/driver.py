"""The driver of a program as LLVM IR: one function that runs its steps in order, and the builtin that Python calls.

``int32 run(context, buffers, scalars, arena)`` fills each launch's table of slots on its stack and calls the kernel:
directly when there is one piece, else through the pool. After a step that checks, it looks at the failure record in
the context and returns 1 + the check's index if something was found. A step that is a host call writes
its arguments' addresses to the table of ``kn_program`` and calls Python through the context, which takes the
interpreter's lock (again, if the program let it go).

``call`` has the C signature of a CPython function (METH_FASTCALL). It reads addresses and scalars from Python numbers,
takes the device's lock and runs the program; with the interpreter's lock released if the program is long enough.
"""

from __future__ import annotations

from collections.abc import Iterator

from knetc.runtime.base.dtypes import from_short_name, is_float
from knetc.runtime.cpu import machine as context
from knetc.runtime.program import ArgumentRef, Launch, Program, Region, Slot, Step, repeats

_LONG_NANOSECONDS = 20_000
"""Programs that are estimated to take longer release the interpreter's lock, which costs some 30 ns."""
_BYTES_PER_NANOSECOND, _OPERATIONS_PER_NANOSECOND, _NANOSECONDS_PER_LAUNCH = 10, 5, 50

_MANY_STEPS = 100
"""Drivers of so many steps are not worth optimising."""


def is_long(program: Program) -> bool:
    """Whether other Python threads should run while the program does: it takes more than some 20 microseconds."""
    times = repeats(program)
    estimate = sum(
        count
        * (
            (step.read_bytes + step.written_bytes) / _BYTES_PER_NANOSECOND
            + step.operations / _OPERATIONS_PER_NANOSECOND
            + len(step.launches) * _NANOSECONDS_PER_LAUNCH
        )
        for step, count in zip(program.steps, times)
    )
    return -1 in times or estimate > _LONG_NANOSECONDS


def emit_driver(program: Program) -> str:
    """LLVM IR that defines ``run`` (or ``program.entry``) and ``call`` for a program.

    It refers to the kernels' functions, to the pool's (``kn_parfor``, ``kn_lock_wait``, ``kn_lock_wake``) and to the
    symbol ``kn_context``, so it goes with their objects into one region. It is straight-line code, and a program may
    have thousands of steps: a long one asks to be translated as it stands, which takes linear time.
    """
    functions = sorted({launch.function for step in program.steps for launch in step.launches})
    parts = [
        "; level 0\n" if len(program.steps) > _MANY_STEPS else "",
        *(f"declare void @{name}(ptr, i64, i64, i32)\n" for name in functions),
        _DECLARATIONS,
        "@kn_program = external global i64\n" if program.hosts else "",
        _CLOCK if program.timed else "",
        _INTERRUPTED if any(region.kind == "while" for region in program.regions) else "",
        *_run(program),
        _call(program),
        "attributes #0 = { nounwind }\nattributes #1 = { nounwind nonlazybind }\n",
        '!0 = !{!"branch_weights", i32 1000, i32 1}\n',
    ]
    return "".join(parts)


_DECLARATIONS = """
declare void @kn_parfor(ptr, ptr, ptr, i64, i64, i1)
declare void @kn_lock_wait(ptr)
declare void @kn_lock_wake(ptr)
@kn_context = external global i8
@PyExc_TypeError = external global ptr
@_Py_NoneStruct = external global i8
declare ptr @PyLong_AsVoidPtr(ptr) #1
declare i64 @PyLong_AsLongLong(ptr) #1
declare i64 @PyLong_AsUnsignedLongLongMask(ptr) #1
declare double @PyFloat_AsDouble(ptr) #1
declare ptr @PyErr_Occurred() #1
declare void @PyErr_SetString(ptr, ptr) #1
declare ptr @PyEval_SaveThread() #1
declare void @PyEval_RestoreThread(ptr) #1
declare void @Py_IncRef(ptr) #1
declare ptr @Py_BuildValue(ptr, ...) #1
"""

_CLOCK = """@kn_times = external global i64
declare i32 @clock_gettime(i32, ptr)
define internal i64 @now() #0 {
  %time = alloca [2 x i64]
  %code = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}
"""
"""Nanoseconds of the monotonic clock. ``kn_times`` is the number of runs, then the nanoseconds of each step."""

_PATIENCE_CYCLES = 1 << 28
"""A loop that nothing bounds asks this often, some ten times a second, whether the user wants to end it."""

_INTERRUPTED = """declare i64 @llvm.readcyclecounter()
declare i32 @PyGILState_Ensure() #1
declare void @PyGILState_Release(i32) #1
declare i32 @PyErr_CheckSignals() #1
define internal i32 @interrupted() #0 {
  %state = call i32 @PyGILState_Ensure()
  %raised = call i32 @PyErr_CheckSignals()
  call void @PyGILState_Release(i32 %state)
  ret i32 %raised
}
"""
"""Whether a signal's handler has raised an exception (KeyboardInterrupt); the program's result is then -1."""


def _run(program: Program) -> Iterator[str]:
    counts = [_slot_count(step, launch) for step in program.steps for launch in step.launches]
    slots = max(counts, default=0)
    yield f"\ndefine i32 @{program.entry}(ptr %context, ptr %buffers, ptr %scalars, ptr %arena) #0 {{\n"
    yield f"  %table = alloca [{max(slots, 1)} x i64], align 16\n"
    for k in range(slots):
        yield f"  %slot{k} = getelementptr i64, ptr %table, i64 {k}\n"
    yield f"  %pool.at = getelementptr i8, ptr %context, i64 {context.POOL}\n"
    yield "  %pool = load ptr, ptr %pool.at\n"
    yield f"  %record = getelementptr i8, ptr %context, i64 {context.FAILED}\n"
    if any(step.check >= 0 for step in program.steps):
        yield "  store i64 0, ptr %record\n"
    loops = _Loops(program)
    yield from loops.counters()
    if any(region.kind == "while" for region in program.regions):
        yield "  %asked = alloca i64\n  %entered = call i64 @llvm.readcyclecounter()\n"
        yield "  store i64 %entered, ptr %asked\n"
    if program.timed:
        yield "  %then = alloca i64\n"
        yield from _add("runs", 0, "1")
        yield "  %begin = call i64 @now()\n  store i64 %begin, ptr %then\n"
    for k, step in enumerate(program.steps):
        yield from loops.before(k)
        for j, launch in enumerate(step.launches):
            yield from _launch(program, step, launch, f"{k}.{j}")
        if step.host >= 0:
            yield from _host_call(program, step, k)
        if step.check >= 0:
            yield f"""  %failed.{k} = load i64, ptr %record
  %fine.{k} = icmp eq i64 %failed.{k}, 0
  br i1 %fine.{k}, label %step.{k + 1}, label %fail.{k}, !prof !0
fail.{k}:
  ret i32 {1 + step.check}
step.{k + 1}:
"""
        if program.timed:
            yield f"  %now{k} = call i64 @now()\n  %then{k} = load i64, ptr %then\n  store i64 %now{k}, ptr %then\n"
            yield f"  %took{k} = sub i64 %now{k}, %then{k}\n"
            yield from _add(str(k), k + 1, f"%took{k}")
    yield from loops.before(len(program.steps))
    yield "  ret i32 0\n}\n"


def _add(mark: str, place: int, amount: str) -> Iterator[str]:
    """Add to one of the program's times."""
    yield f"  %times.{mark} = getelementptr i64, ptr @kn_times, i64 {place}\n"
    yield f"  %before.{mark} = load i64, ptr %times.{mark}\n"
    yield f"  %after.{mark} = add i64 %before.{mark}, {amount}\n  store i64 %after.{mark}, ptr %times.{mark}\n"


class _Loops:
    """The branches between steps that make loops and cases of regions."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.waiting = list(enumerate(program.regions))[::-1]
        self.open: list[tuple[int, Region]] = []

    def counters(self) -> Iterator[str]:
        """A place on the stack for the counter of each depth."""
        for depth in range(len(self.program.regions)):
            yield f"  %counter{depth} = alloca i64, align 8\n"

    def before(self, k: int) -> Iterator[str]:
        """What stands between steps ``k - 1`` and ``k``: ends and tests of regions, then their beginnings."""
        while self.open:
            number, region = self.open[-1]
            if region.kind == "while" and region.test_end == k:
                yield from self.test(number, region)
            if region.end != k:
                break
            yield from self.finish(number, region)
            self.open.pop()
        while self.waiting and self.waiting[-1][1].begin == k:
            self.open.append(self.waiting.pop())
            yield from self.begin(*self.open[-1])

    def counter(self) -> str:
        """Where the counter of the innermost open loop is."""
        return f"%counter{sum(region.kind != 'case' for _, region in self.open) - 1}"

    def begin(self, number: int, region: Region) -> Iterator[str]:
        if region.kind == "case":
            yield from _value(self.program, region.condition, f"case{number}")
            yield f"  %case{number} = load i64, ptr %vcase{number}\n"
            yield f"  %is{number} = icmp eq i64 %case{number}, {region.case}\n"
            yield f"  br i1 %is{number}, label %body{number}, label %after{number}\nbody{number}:\n"
            return
        first = region.count - 1 if region.reverse else 0
        yield f"  store i64 {first}, ptr {self.counter()}\n"
        if region.kind == "loop" and region.count < 1:
            yield f"  br label %after{number}\nnever{number}:\n"
        yield f"  br label %body{number}\nbody{number}:\n"

    def test(self, number: int, region: Region) -> Iterator[str]:
        yield from _value(self.program, region.condition, f"test{number}")
        yield f"  %test{number} = load i8, ptr %vtest{number}\n"
        yield f"  %goes{number} = icmp ne i8 %test{number}, 0\n"
        yield f"  br i1 %goes{number}, label %goon{number}, label %after{number}\ngoon{number}:\n"
        yield f"""  %cycles{number} = call i64 @llvm.readcyclecounter()
  %asked{number} = load i64, ptr %asked
  %since{number} = sub i64 %cycles{number}, %asked{number}
  %long{number} = icmp ugt i64 %since{number}, {_PATIENCE_CYCLES}
  br i1 %long{number}, label %ask{number}, label %calm{number}, !prof !1
ask{number}:
  store i64 %cycles{number}, ptr %asked
  %interrupted{number} = call i32 @interrupted()
  %stop{number} = icmp ne i32 %interrupted{number}, 0
  br i1 %stop{number}, label %leave{number}, label %calm{number}
leave{number}:
  ret i32 -1
calm{number}:
"""

    def finish(self, number: int, region: Region) -> Iterator[str]:
        if region.kind == "case":
            yield f"  br label %after{number}\nafter{number}:\n"
            return
        step, last = (-1, 0) if region.reverse else (1, region.count - 1)
        yield f"  %counted{number} = load i64, ptr {self.counter()}\n"
        yield f"  %next{number} = add i64 %counted{number}, {step}\n"
        yield f"  store i64 %next{number}, ptr {self.counter()}\n"
        if region.kind == "while":
            yield f"  br label %body{number}\nafter{number}:\n"
        else:
            yield f"  %last{number} = icmp eq i64 %counted{number}, {last}\n"
            yield f"  br i1 %last{number}, label %after{number}, label %body{number}\nafter{number}:\n"


def _slot_count(step: Step, launch: Launch) -> int:
    return len(launch.slots) + (step.check >= 0)


def _launch(program: Program, step: Step, launch: Launch, mark: str) -> Iterator[str]:
    if launch.count <= 0:
        return
    for k, slot in enumerate(launch.slots):
        yield from _slot(program, step, slot, f"{mark}.{k}", f"%slot{k}")
    if step.check >= 0:
        yield f"  store ptr %record, ptr %slot{len(launch.slots)}\n"
    if launch.count <= launch.grain:
        yield f"  call void @{launch.function}(ptr %table, i64 0, i64 {launch.count}, i32 0)\n"
    else:
        yield f"  call void @kn_parfor(ptr %pool, ptr @{launch.function}, ptr %table, i64 {launch.count}, "
        yield f"i64 {launch.grain}, i1 {int(launch.brief)})\n"


def _host_call(program: Program, step: Step, k: int) -> Iterator[str]:
    for j in range(len(step.arguments)):  # behind the program's number
        yield f"  %host.slot.{k}.{j} = getelementptr i64, ptr @kn_program, i64 {1 + j}\n"
        yield from _slot(program, step, Slot("argument", j), f"{k}.h.{j}", f"%host.slot.{k}.{j}")
    yield f"""  %host.at.{k} = getelementptr i8, ptr %context, i64 {context.HOST}
  %host.{k} = load ptr, ptr %host.at.{k}
  %program.{k} = load i64, ptr @kn_program
  %code.{k} = call i32 %host.{k}(i64 %program.{k}, i64 {step.host})
  %fine.{k} = icmp eq i32 %code.{k}, 0
  br i1 %fine.{k}, label %step.{k + 1}, label %fail.{k}, !prof !0
fail.{k}:
  ret i32 {1 + len(program.checks) + step.host}
step.{k + 1}:
"""


def _slot(program: Program, step: Step, slot: Slot, mark: str, place: str) -> Iterator[str]:
    if slot.kind == "value":
        yield f"  store i64 {slot.value}, ptr {place}\n"
        return
    if slot.kind == "workspace":
        yield from _arena_address(mark, step.workspace_offset + slot.value, place)
        return
    yield from _value(program, step.arguments[slot.value], mark)
    yield f"  store {_value_type(step.arguments[slot.value])} %v{mark}, ptr {place}\n"


def _value_type(argument: ArgumentRef) -> str:
    return "ptr" if argument.kind == "buffer" else "i64"


def _value(program: Program, argument: ArgumentRef, mark: str) -> Iterator[str]:
    """``%v{mark}``: an argument's address, or the scalar or counter itself."""
    if argument.kind == "counter":
        yield f"  %v{mark} = load i64, ptr %counter{argument.index}\n"
        return
    moves = [(depth, stride) for depth, stride in enumerate(argument.strides) if stride]
    name = f"%v{mark}" if not moves else f"%v{mark}.base"
    if argument.kind == "buffer" and program.buffers[argument.index].kind == "arena":
        offset = program.buffers[argument.index].offset + argument.offset
        yield f"  {name} = getelementptr i8, ptr %arena, i64 {offset}\n"
    else:
        array = "buffers" if argument.kind == "buffer" else "scalars"
        first = f"{name}.first" if argument.offset else name
        yield f"  %a{mark} = getelementptr i64, ptr %{array}, i64 {argument.index}\n"
        yield f"  {first} = load {_value_type(argument)}, ptr %a{mark}\n"
        if argument.offset:
            yield f"  {name} = getelementptr i8, ptr {first}, i64 {argument.offset}\n"
    for position, (depth, stride) in enumerate(moves):
        moved = f"%v{mark}" if position == len(moves) - 1 else f"%v{mark}.{depth}"
        yield f"  %c{mark}.{depth} = load i64, ptr %counter{depth}\n"
        yield f"  %m{mark}.{depth} = mul i64 %c{mark}.{depth}, {stride}\n"
        yield f"  {moved} = getelementptr i8, ptr {name}, i64 %m{mark}.{depth}\n"
        name = moved


def _arena_address(mark: str, offset: int, place: str) -> Iterator[str]:
    yield f"  %a{mark} = getelementptr i8, ptr %arena, i64 {offset}\n"
    yield f"  store ptr %a{mark}, ptr {place}\n"


def _call(program: Program) -> str:
    buffers, scalars = len(program.inputs) + len(program.outputs), len(program.scalars)
    message = f"this program takes {buffers} addresses and {scalars} scalars"
    release, reacquire = "", ""
    if is_long(program):
        release = "  %state = call ptr @PyEval_SaveThread()\n"
        reacquire = "  call void @PyEval_RestoreThread(ptr %state)\n"
    reads = "".join(_read_scalar(k, buffers + k, dtype) for k, dtype in enumerate(program.scalars))
    return f"""
@message = internal constant [{len(message) + 1} x i8] c"{message}\\00"
@failure = internal constant [5 x i8] c"(iL)\\00"

define ptr @call(ptr %self, ptr %arguments, i64 %count) #0 {{
entry:
  %buffers = alloca [{max(buffers, 1)} x ptr], align 16
  %scalars = alloca [{max(scalars, 1)} x i64], align 16
  %right = icmp eq i64 %count, {buffers + scalars}
  br i1 %right, label %next, label %wrong, !prof !0
wrong:
  %type = load ptr, ptr @PyExc_TypeError
  call void @PyErr_SetString(ptr %type, ptr @message)
  br label %error
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %good ]
  %more = icmp ult i64 %k, {buffers}
  br i1 %more, label %read, label %ready
read:
  %from = getelementptr ptr, ptr %arguments, i64 %k
  %number = load ptr, ptr %from
  %address = call ptr @PyLong_AsVoidPtr(ptr %number)
  %to = getelementptr ptr, ptr %buffers, i64 %k
  store ptr %address, ptr %to
  %k.next = add i64 %k, 1
  %null = icmp eq ptr %address, null
  br i1 %null, label %doubt, label %good, !prof !1
doubt:
  %raised = call ptr @PyErr_Occurred()
  %bad = icmp ne ptr %raised, null
  br i1 %bad, label %error, label %good
good:
  br label %next
ready:
{reads}  %lock = getelementptr i8, ptr @kn_context, i64 {context.LOCK}
  %swap = cmpxchg ptr %lock, i32 0, i32 1 acquire monotonic
  %free = extractvalue {{ i32, i1 }} %swap, 1
  br i1 %free, label %held, label %contended, !prof !0
contended:                                        ; another thread runs a program: wait without the interpreter's lock
  %waiting = call ptr @PyEval_SaveThread()
  call void @kn_lock_wait(ptr %lock)
  call void @PyEval_RestoreThread(ptr %waiting)
  br label %held
held:
  %arena.at = getelementptr i8, ptr @kn_context, i64 {context.ARENA}
  %arena = load ptr, ptr %arena.at
{release}  %code = call i32 @{program.entry}(ptr @kn_context, ptr %buffers, ptr %scalars, ptr %arena)
  %value.at = getelementptr i8, ptr @kn_context, i64 {context.VALUE}
  %value = load i64, ptr %value.at
  %old = atomicrmw xchg ptr %lock, i32 0 release
  %awaited = icmp eq i32 %old, 2
  br i1 %awaited, label %wake, label %unlocked, !prof !1
wake:
  call void @kn_lock_wake(ptr %lock)
  br label %unlocked
unlocked:
{reacquire}  %fine = icmp eq i32 %code, 0
  br i1 %fine, label %none, label %failed, !prof !0
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
failed:
  %interrupted = icmp eq i32 %code, -1
  br i1 %interrupted, label %error, label %tell
tell:
  %result = call ptr (ptr, ...) @Py_BuildValue(ptr @failure, i32 %code, i64 %value)
  ret ptr %result
error:
  ret ptr null
}}
!1 = !{{!"branch_weights", i32 1, i32 1000}}
"""


def _read_scalar(index: int, position: int, dtype: str) -> str:
    """Reads a Python number into its slot; -1 may be the number itself or the sign of an error."""
    function, kind, minus_one = (
        ("PyFloat_AsDouble", "double", "fcmp oeq double %s{0}, -1.0")
        if is_float(from_short_name(dtype))
        else ("PyLong_AsUnsignedLongLongMask", "i64", "icmp eq i64 %s{0}, -1")
        if dtype == "u64"
        else ("PyLong_AsLongLong", "i64", "icmp eq i64 %s{0}, -1")
    )
    text = f"""  %sa{{0}} = getelementptr ptr, ptr %arguments, i64 {position}
  %so{{0}} = load ptr, ptr %sa{{0}}
  %s{{0}} = call {kind} @{function}(ptr %so{{0}})
  %st{{0}} = getelementptr i64, ptr %scalars, i64 {{0}}
  store {kind} %s{{0}}, ptr %st{{0}}
  %sm{{0}} = {minus_one}
  br i1 %sm{{0}}, label %scalar.doubt{{0}}, label %scalar{{0}}, !prof !1
scalar.doubt{{0}}:
  %se{{0}} = call ptr @PyErr_Occurred()
  %sb{{0}} = icmp ne ptr %se{{0}}, null
  br i1 %sb{{0}}, label %error, label %scalar{{0}}
scalar{{0}}:
"""
    return text.format(index)
