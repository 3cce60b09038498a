"""The worker pool and the device's lock as LLVM IR: parallel loops at a tenth of a microsecond to one a launch.

``kn_parfor(pool, function, table, count, grain, brief)`` calls ``function(table, lo, hi, thread)`` on the pieces
``[k * grain, min((k + 1) * grain, count))``, each exactly once, and returns when all are done. The pieces never depend
on the number of threads, so neither do results.

The indexes are dealt in equal parts, one a thread; who is done with its own takes pieces of the others'. The caller
never waits for a worker that has not come: a worker joins a job by raising the number in the job's state while that is
open, and the caller, when no piece is left, closes it and waits only for those inside. Idle workers spin for a moment
(letting others have the processor), then sleep on a futex. Waking them takes some microseconds, as long as a ``brief``
job: that is shared with workers that are awake, and wakes them only if another such job was here a moment ago, as when
a program's steps or a user's loop follow one another. At most one job runs at a time: the caller holds the device's
lock.

A sleeping worker is woken off the caller's processor: where the scheduler would put it there, as it likes to, it would
not run before the caller's work is done, while another processor is idle.

The lock is a word: 0 free, 1 held, 2 held and somebody sleeps on it.
"""

from __future__ import annotations

from knetc.runtime.cpu import pool as layout


def _field(name: str, base: str, offset: int) -> str:
    return f"  %{name} = getelementptr i8, ptr %{base}, i64 {offset}\n"


_FUTEX, _WAIT_PRIVATE, _WAKE_PRIVATE = 202, 128, 129
_OPEN = 1 << 16
_MOMENT_CYCLES = 1 << 18
"""Some 100 microseconds: about as long as idle workers spin."""

_DECLARATIONS = """
declare void @llvm.x86.sse2.pause()
declare i64 @syscall(i64, ...)
declare i64 @llvm.readcyclecounter()
declare i32 @sched_yield()
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @pthread_setaffinity_np(ptr, i64, ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(ptr, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
"""

_DRAIN = f"""
; Takes pieces, first of the thread's own part, then of the others', until none is left.
define internal void @drain(ptr %pool, i32 %thread) #0 {{
entry:
{_field("function.at", "pool", layout.FUNCTION)}{_field("table.at", "pool", layout.TABLE)}\
{_field("count.at", "pool", layout.COUNT)}{_field("grain.at", "pool", layout.GRAIN)}\
{_field("share.at", "pool", layout.SHARE)}{_field("parts.at", "pool", layout.PARTS)}\
  %function = load ptr, ptr %function.at
  %table = load ptr, ptr %table.at
  %count = load i64, ptr %count.at
  %grain = load i64, ptr %grain.at
  %share = load i64, ptr %share.at
  %parts = load i64, ptr %parts.at
  %thread.wide = zext i32 %thread to i64
  %own = urem i64 %thread.wide, %parts
  br label %part
part:
  %turn = phi i64 [ 0, %entry ], [ %turn.next, %part.done ]
  %which = phi i64 [ %own, %entry ], [ %which.next, %part.done ]
  %begin = mul i64 %which, %share
  %end.full = add i64 %begin, %share
  %end = call i64 @llvm.smin.i64(i64 %end.full, i64 %count)
  %line = mul i64 %which, {layout.PART_BYTES}
  %line.offset = add i64 %line, {layout.PARTS_BEGIN + layout.PART_NEXT}
  %next = getelementptr i8, ptr %pool, i64 %line.offset
  br label %look
look:                                             ; reading first leaves the line of a finished part shared
  %seen = load atomic i64, ptr %next monotonic, align 8
  %seen.at = add i64 %seen, %begin
  %some = icmp slt i64 %seen.at, %end
  br i1 %some, label %take, label %part.done
take:
  %taken = atomicrmw add ptr %next, i64 %grain monotonic
  %lo = add i64 %taken, %begin
  %got = icmp slt i64 %lo, %end
  br i1 %got, label %work, label %part.done
work:
  %hi.full = add i64 %lo, %grain
  %hi = call i64 @llvm.smin.i64(i64 %hi.full, i64 %end)
  call void %function(ptr %table, i64 %lo, i64 %hi, i32 %thread)
  br label %look
part.done:
  %turn.next = add i64 %turn, 1
  %which.up = add i64 %which, 1
  %wraps = icmp eq i64 %which.up, %parts
  %which.next = select i1 %wraps, i64 0, i64 %which.up
  %more = icmp ult i64 %turn.next, %parts
  br i1 %more, label %part, label %done
done:
  ret void
}}
declare i64 @llvm.smin.i64(i64, i64)
"""

_WORKER = f"""
; A worker's life: watch the epoch, join the job if it is still open, sleep when nothing comes.
define ptr @kn_worker(ptr %line) #0 {{
entry:
{_field("pool.at", "line", layout.PART_POOL)}{_field("thread.at", "line", layout.PART_THREAD)}\
  %pool = load ptr, ptr %pool.at
  %thread = load i32, ptr %thread.at
{_field("state", "pool", layout.STATE)}{_field("sleepers", "pool", layout.SLEEPERS)}\
{_field("spin.at", "pool", layout.SPIN)}{_field("stop.at", "pool", layout.STOP)}\
  %turns = load i32, ptr %spin.at
  br label %idle
idle:
  %last = phi i32 [ 0, %entry ], [ %last, %sleep ], [ %epoch, %closed ], [ %epoch, %inside ]
  br label %watch
watch:
  %turn = phi i32 [ 0, %idle ], [ %turn.next, %again ]
  %epoch = load atomic i32, ptr %pool acquire, align 4
  %news = icmp ne i32 %epoch, %last
  br i1 %news, label %wake, label %spin
spin:
  call void @llvm.x86.sse2.pause()
  %turn.next = add i32 %turn, 1
  %low = and i32 %turn.next, 31
  %polite = icmp eq i32 %low, 0
  br i1 %polite, label %yield, label %again
yield:                                            ; the calling thread may be waiting for this processor
  %yielded = call i32 @sched_yield()
  br label %again
again:
  %patient = icmp slt i32 %turn.next, %turns
  br i1 %patient, label %watch, label %sleep
sleep:                                            ; the caller reads sleepers after it has changed the epoch
  %up = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %slept = call i64 (i64, ...) @syscall(i64 {_FUTEX}, ptr %pool, i32 {_WAIT_PRIVATE}, i32 %last, ptr null)
  %down = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %idle
wake:
  %stop = load atomic i32, ptr %stop.at monotonic, align 4
  %stops = icmp ne i32 %stop, 0
  br i1 %stops, label %quit, label %join
join:
  %job = load atomic i64, ptr %state seq_cst, align 8
  %open.bit = and i64 %job, {_OPEN}
  %open = icmp ne i64 %open.bit, 0
  br i1 %open, label %enter, label %closed
enter:
  %joined = add i64 %job, 1
  %swap = cmpxchg ptr %state, i64 %job, i64 %joined seq_cst seq_cst
  %success = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %success, label %inside, label %join
inside:
  call void @drain(ptr %pool, i32 %thread)
  %left = atomicrmw sub ptr %state, i64 1 seq_cst
  br label %idle
closed:
  br label %idle
quit:
  ret ptr null
}}
"""

_START = f"""
; Makes the workers. They take no signals: those are for Python's threads.
define internal void @start(ptr %pool) #0 {{
entry:
  %all = alloca [16 x i64], align 16
  %old = alloca [16 x i64], align 16
{_field("threads.at", "pool", layout.THREADS)}{_field("started.at", "pool", layout.STARTED)}\
{_field("worker.at", "pool", layout.WORKER)}{_field("avoided.at", "pool", layout.AVOIDED)}\
  store i32 1, ptr %started.at
  store i32 0, ptr %avoided.at
  %threads = load i32, ptr %threads.at
  %worker = load ptr, ptr %worker.at
  %filled = call i32 @sigfillset(ptr %all)
  %blocked = call i32 @pthread_sigmask(i32 2, ptr %all, ptr %old)
  br label %check
check:
  %k = phi i32 [ 1, %entry ], [ %k.next, %made ]
  %more = icmp slt i32 %k, %threads
  br i1 %more, label %make, label %done
make:
  %k.wide = zext i32 %k to i64
  %line.offset = mul i64 %k.wide, {layout.PART_BYTES}
  %line.at = add i64 %line.offset, {layout.PARTS_BEGIN}
  %line = getelementptr i8, ptr %pool, i64 %line.at
{_field("pool.at", "line", layout.PART_POOL)}{_field("thread.at", "line", layout.PART_THREAD)}\
{_field("handle", "line", layout.PART_HANDLE)}\
  store ptr %pool, ptr %pool.at
  store i32 %k, ptr %thread.at
  %error = call i32 @pthread_create(ptr %handle, ptr null, ptr %worker, ptr %line)
  %ok = icmp eq i32 %error, 0
  %k.next = add i32 %k, 1
  br i1 %ok, label %made, label %done
made:
  br label %check
done:                                             ; as many as could be had
  %have = phi i32 [ %threads, %check ], [ %k, %make ]
  store i32 %have, ptr %threads.at
  %restored = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  ret void
}}
"""

_STOP = f"""
; Ends the workers and waits until they are gone.
define void @kn_stop(ptr %pool) #0 {{
entry:
{_field("threads.at", "pool", layout.THREADS)}{_field("started.at", "pool", layout.STARTED)}\
{_field("stop.at", "pool", layout.STOP)}\
  %started = load i32, ptr %started.at
  %running = icmp ne i32 %started, 0
  br i1 %running, label %tell, label %done
tell:
  %threads = load i32, ptr %threads.at
  store atomic i32 1, ptr %stop.at monotonic, align 4
  %epoch = atomicrmw add ptr %pool, i32 1 seq_cst
  %woken = call i64 (i64, ...) @syscall(i64 {_FUTEX}, ptr %pool, i32 {_WAKE_PRIVATE}, i32 2147483647)
  br label %check
check:
  %k = phi i32 [ 1, %tell ], [ %k.next, %join ]
  %more = icmp slt i32 %k, %threads
  br i1 %more, label %join, label %gone
join:
  %k.wide = zext i32 %k to i64
  %line.offset = mul i64 %k.wide, {layout.PART_BYTES}
  %handle.at = add i64 %line.offset, {layout.PARTS_BEGIN + layout.PART_HANDLE}
  %handle.ptr = getelementptr i8, ptr %pool, i64 %handle.at
  %handle = load ptr, ptr %handle.ptr
  %joined = call i32 @pthread_join(ptr %handle, ptr null)
  %k.next = add i32 %k, 1
  br label %check
gone:
  store i32 0, ptr %started.at
  store i32 0, ptr %stop.at
  br label %done
done:
  ret void
}}
"""

_AVOID = f"""
; Lets the workers run where the caller may, but not on its processor; of one that is alone nothing comes.
define internal void @avoid(ptr %pool, i32 %cpu) #0 noinline {{
entry:
  %mask = alloca [128 x i8], align 8
{_field("threads.at", "pool", layout.THREADS)}{_field("avoided.at", "pool", layout.AVOIDED)}\
  %next = add i32 %cpu, 1
  store i32 %next, ptr %avoided.at
  %error = call i32 @sched_getaffinity(i32 0, i64 128, ptr %mask)
  %failed = icmp ne i32 %error, 0
  %far = icmp uge i32 %cpu, 1024
  %unknown = or i1 %failed, %far
  br i1 %unknown, label %done, label %known
known:
  %byte = lshr i32 %cpu, 3
  %byte.wide = zext i32 %byte to i64
  %place = getelementptr i8, ptr %mask, i64 %byte.wide
  %bits = load i8, ptr %place
  %cpu.narrow = trunc i32 %cpu to i8
  %bit = and i8 %cpu.narrow, 7
  %one = shl i8 1, %bit
  %others = xor i8 %one, -1
  %less = and i8 %bits, %others
  store i8 %less, ptr %place
  %threads = load i32, ptr %threads.at
  br label %check
check:
  %k = phi i32 [ 1, %known ], [ %k.next, %move ]
  %more = icmp slt i32 %k, %threads
  br i1 %more, label %move, label %done
move:
  %k.wide = zext i32 %k to i64
  %line.offset = mul i64 %k.wide, {layout.PART_BYTES}
  %handle.at = add i64 %line.offset, {layout.PARTS_BEGIN + layout.PART_HANDLE}
  %handle.ptr = getelementptr i8, ptr %pool, i64 %handle.at
  %handle = load ptr, ptr %handle.ptr
  %moved = call i32 @pthread_setaffinity_np(ptr %handle, i64 128, ptr %mask)
  %k.next = add i32 %k, 1
  br label %check
done:
  ret void
}}
"""

_PARFOR = f"""
define void @kn_parfor(ptr %pool, ptr %function, ptr %table, i64 %count, i64 %grain, i1 %brief) #0 {{
entry:
{_field("threads.at", "pool", layout.THREADS)}{_field("started.at", "pool", layout.STARTED)}\
  %started = load i32, ptr %started.at
  %ready = icmp ne i32 %started, 0
  br i1 %ready, label %divide, label %begin, !prof !0
begin:
  call void @start(ptr %pool)
  br label %divide
divide:
  %threads = load i32, ptr %threads.at
  %threads.wide = zext i32 %threads to i64
  %count.up = add i64 %count, %grain
  %count.round = sub i64 %count.up, 1
  %pieces = udiv i64 %count.round, %grain
  %parts = call i64 @llvm.smin.i64(i64 %pieces, i64 %threads.wide)
  %several = icmp sgt i64 %parts, 1
  br i1 %several, label %offer, label %serial
offer:
{_field("state", "pool", layout.STATE)}{_field("sleepers", "pool", layout.SLEEPERS)}\
  br i1 %brief, label %look, label %parallel
look:
  %drowsy = load atomic i32, ptr %sleepers monotonic, align 4
  %awake = icmp eq i32 %drowsy, 0
  br i1 %awake, label %parallel, label %remember
remember:
{_field("last.at", "pool", layout.LAST_BRIEF)}\
  %clock = call i64 @llvm.readcyclecounter()
  %last = load i64, ptr %last.at
  store i64 %clock, ptr %last.at
  %passed = sub i64 %clock, %last
  %dense = icmp ult i64 %passed, {_MOMENT_CYCLES}
  br i1 %dense, label %parallel, label %serial
serial:
  %lo = phi i64 [ 0, %divide ], [ 0, %remember ], [ %hi.full, %piece ]
  %some = icmp slt i64 %lo, %count
  br i1 %some, label %piece, label %out
piece:
  %hi.full = add i64 %lo, %grain
  %hi = call i64 @llvm.smin.i64(i64 %hi.full, i64 %count)
  call void %function(ptr %table, i64 %lo, i64 %hi, i32 0)
  br label %serial
out:
  ret void
parallel:
  %pieces.up = add i64 %pieces, %parts
  %pieces.round = sub i64 %pieces.up, 1
  %each = udiv i64 %pieces.round, %parts
  %share = mul i64 %each, %grain
{_field("function.at", "pool", layout.FUNCTION)}{_field("table.at", "pool", layout.TABLE)}\
{_field("count.at", "pool", layout.COUNT)}{_field("grain.at", "pool", layout.GRAIN)}\
{_field("share.at", "pool", layout.SHARE)}{_field("parts.at", "pool", layout.PARTS)}\
  store ptr %function, ptr %function.at
  store ptr %table, ptr %table.at
  store i64 %count, ptr %count.at
  store i64 %grain, ptr %grain.at
  store i64 %share, ptr %share.at
  store i64 %parts, ptr %parts.at
  br label %clear
clear:
  %k = phi i64 [ 0, %parallel ], [ %k.next, %clear ]
  %line = mul i64 %k, {layout.PART_BYTES}
  %line.offset = add i64 %line, {layout.PARTS_BEGIN + layout.PART_NEXT}
  %next = getelementptr i8, ptr %pool, i64 %line.offset
  store atomic i64 0, ptr %next monotonic, align 8
  %k.next = add i64 %k, 1
  %cleared = icmp eq i64 %k.next, %parts
  br i1 %cleared, label %open, label %clear
open:
  %epoch = load atomic i32, ptr %pool monotonic, align 4
  %epoch.next = add i32 %epoch, 1
  %epoch.wide = zext i32 %epoch.next to i64
  %epoch.high = shl i64 %epoch.wide, 32
  %state.open = or i64 %epoch.high, {_OPEN}
  store atomic i64 %state.open, ptr %state seq_cst, align 8
  store atomic i32 %epoch.next, ptr %pool seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  br i1 %any, label %rouse, label %own
rouse:
{_field("avoided.at", "pool", layout.AVOIDED)}\
  %cpu = call i32 @sched_getcpu()
  %cpu.next = add i32 %cpu, 1
  %avoided = load i32, ptr %avoided.at
  %moved = icmp ne i32 %cpu.next, %avoided
  br i1 %moved, label %avoid, label %call
avoid:
  call void @avoid(ptr %pool, i32 %cpu)
  br label %call
call:
  %helpers = sub i64 %parts, 1
  %helpers.narrow = trunc i64 %helpers to i32
  %woken = call i64 (i64, ...) @syscall(i64 {_FUTEX}, ptr %pool, i32 {_WAKE_PRIVATE}, i32 %helpers.narrow)
  br label %own
own:
  call void @drain(ptr %pool, i32 0)
  %closed = atomicrmw sub ptr %state, i64 {_OPEN} seq_cst
  br label %wait
wait:
  %turn = phi i64 [ 0, %own ], [ %turn.next, %again ]
  %now = load atomic i64, ptr %state acquire, align 8
  %inside = and i64 %now, {_OPEN - 1}
  %alone = icmp eq i64 %inside, 0
  br i1 %alone, label %out, label %spin
spin:
  call void @llvm.x86.sse2.pause()
  %turn.next = add i64 %turn, 1
  %low = and i64 %turn.next, 63
  %polite = icmp eq i64 %low, 0
  br i1 %polite, label %yield, label %again
yield:
  %yielded = call i32 @sched_yield()
  br label %again
again:
  br label %wait
}}
!0 = !{{!"branch_weights", i32 1000, i32 1}}
"""

_LOCK = f"""
define void @kn_lock_wait(ptr %lock) #0 {{
entry:
  br label %try
try:
  %old = atomicrmw xchg ptr %lock, i32 2 acquire
  %free = icmp eq i32 %old, 0
  br i1 %free, label %held, label %sleep
sleep:
  %slept = call i64 (i64, ...) @syscall(i64 {_FUTEX}, ptr %lock, i32 {_WAIT_PRIVATE}, i32 2, ptr null)
  br label %try
held:
  ret void
}}

define void @kn_lock_wake(ptr %lock) #0 {{
  %woken = call i64 (i64, ...) @syscall(i64 {_FUTEX}, ptr %lock, i32 {_WAKE_PRIVATE}, i32 1)
  ret void
}}
"""


def emit_pool() -> str:
    """LLVM IR of ``kn_parfor``, ``kn_worker``, ``kn_stop``, ``kn_lock_wait`` and ``kn_lock_wake``."""
    parts = (_DECLARATIONS, _DRAIN, _WORKER, _START, _STOP, _AVOID, _PARFOR, _LOCK)
    return "".join(parts) + "attributes #0 = { nounwind }\n"
