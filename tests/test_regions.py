"""Loops and cases between the steps of a program: the driver runs them as the records say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from knetc.codegen.cpu.driver import is_long
from knetc.runtime.program import ArgumentRef, Launch, Program, Region, Step, repeats
from native_code import array, buffer, load, program, slots

NOTE = """; table: i64 log[] (the first element counts), i64 step, i64 counters 0 to 2
define void @k_note(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
entry:
  %log = load ptr, ptr %table
  %count = load i64, ptr %log
  %next = add i64 %count, 4
  store i64 %next, ptr %log
  br label %copy
copy:
  %k = phi i64 [ 1, %entry ], [ %more, %copy ]
  %from = getelementptr i64, ptr %table, i64 %k
  %value = load i64, ptr %from
  %place = add i64 %count, %k
  %to = getelementptr i64, ptr %log, i64 %place
  store i64 %value, ptr %to
  %more = add i64 %k, 1
  %end = icmp eq i64 %more, 5
  br i1 %end, label %done, label %copy
done:
  ret void
}
"""

BELOW = """; table: i8 flag[], i64 counter, i64 limit: flag = counter < limit
define void @k_below(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
  %flag = load ptr, ptr %table
  %counter.at = getelementptr i64, ptr %table, i64 1
  %counter = load i64, ptr %counter.at
  %limit.at = getelementptr i64, ptr %table, i64 2
  %limit = load i64, ptr %limit.at
  %less = icmp slt i64 %counter, %limit
  %byte = zext i1 %less to i8
  store i8 %byte, ptr %flag
  ret void
}
"""

TIMES = 3
"""How often the loops that only end at run time go on."""


class Tree:
    """A random program: regions within regions, three deep, around steps that note their counters."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.steps: list[Step] = []
        self.regions: list[Region] = []

    def grow(self, depth: int, nesting: int) -> None:
        for _ in range(self.data.draw(st.integers(1, 2))):
            kinds = ["step", "loop", "while", "case"] if nesting < 3 else ["step"]
            kind = self.data.draw(st.sampled_from(kinds))
            begin, place = len(self.steps), len(self.regions)
            if kind == "step":
                self.note(depth)
            elif kind == "while":
                self.regions.append(Region("while", begin, 0))
                self.grow(depth + 1, nesting + 1)
                below = (buffer(1), ArgumentRef("counter", depth))
                launch = Launch("k_below", 1, 1, (*slots(2), replace(slots(1)[0], kind="value", value=TIMES)))
                self.steps.append(Step("below", below, (launch,)))
                test_end = len(self.steps)
                if self.data.draw(st.booleans()):
                    self.grow(depth + 1, nesting + 1)
                self.regions[place] = Region(
                    "while", begin, len(self.steps), test_end=test_end, condition=buffer(1)
                )  # fmt: skip
            elif kind == "loop":
                count, reverse = self.data.draw(st.integers(0, 3)), self.data.draw(st.booleans())
                self.regions.append(Region("loop", begin, 0))
                self.grow(depth + 1, nesting + 1)
                self.regions[place] = Region("loop", begin, len(self.steps), count, reverse)
            else:
                self.regions.append(Region("case", begin, 0))
                self.grow(depth, nesting + 1)
                case = self.data.draw(st.integers(6, 8))
                self.regions[place] = Region("case", begin, len(self.steps), condition=buffer(2), case=case)

    def note(self, depth: int) -> None:
        counters = tuple(ArgumentRef("counter", k) for k in range(depth))
        number = replace(slots(1)[0], kind="value", value=len(self.steps))
        nothing = replace(number, value=-1)
        table = (slots(1)[0], number, *slots(depth + 1)[1:], *[nothing] * (3 - depth))
        self.steps.append(Step("note", (buffer(0), *counters), (Launch("k_note", 1, 1, table),)))


def expected(program: Program, choice: int) -> list[list[int]]:
    """What the steps note, by the description of programs."""
    found: list[list[int]] = []
    flag = False

    def run(begin: int, end: int, counters: tuple[int, ...], entered: frozenset[int]) -> None:
        nonlocal flag
        while begin < end:
            number = next((n for n, r in enumerate(program.regions) if r.begin == begin and n not in entered), None)
            if number is None:
                if program.steps[begin].name == "below":
                    flag = counters[program.steps[begin].arguments[1].index] < TIMES
                else:
                    found.append([begin, *counters, *[-1] * (3 - len(counters))])
                begin += 1
                continue
            region, inside = program.regions[number], entered | {number}
            if region.kind == "loop":
                for k in range(region.count):
                    run(region.begin, region.end, (*counters, region.count - 1 - k if region.reverse else k), inside)
            elif region.kind == "while":
                k = 0
                while True:
                    run(region.begin, region.test_end, (*counters, k), inside)
                    if not flag:
                        break
                    run(region.test_end, region.end, (*counters, k), inside)
                    k += 1
            elif region.case == choice:
                run(region.begin, region.end, counters, inside)
            begin = region.end

    run(0, len(program.steps), (), frozenset())
    return found


@given(st.data())
@settings(max_examples=25)
def test_regions_run_as_described(data: st.DataObject) -> None:
    tree = Tree(data)
    tree.grow(0, 0)
    size = 1 << 16
    buffers = (array("input", "i64", size), array("input", "i64", 1), array("input", "i64", 1))
    made = replace(program(buffers, tuple(tree.steps)), regions=tuple(tree.regions))
    log, flag, choice = np.zeros(size, np.int64), np.zeros(1, np.int64), np.array([7])
    wanted = expected(made, 7)
    load(made, NOTE, BELOW).run([log.ctypes.data, flag.ctypes.data, choice.ctypes.data], [])
    assert log[1 : log[0] + 1].reshape(-1, 4).tolist() == wanted


SCALED = """; table: i64 x, i64 y, i64 factor: y = x * factor
define void @k_scaled(ptr %table, i64 %lo, i64 %hi, i32 %thread) #0 {
  %x.at = load ptr, ptr %table
  %x = load i64, ptr %x.at
  %slot = getelementptr i64, ptr %table, i64 1
  %y = load ptr, ptr %slot
  %factor.at = getelementptr i64, ptr %table, i64 2
  %factor = load i64, ptr %factor.at
  %product = mul i64 %x, %factor
  store i64 %product, ptr %y
  ret void
}
"""


def test_addresses_move_with_the_counters() -> None:
    source = ArgumentRef("buffer", 0, (24, 8))
    step = Step(
        "scaled", (source, ArgumentRef("buffer", 1, (8, 16)), ArgumentRef("counter", 1)),
        (Launch("k_scaled", 1, 1, slots(3)),),
    )  # fmt: skip
    regions = (Region("loop", 0, 1, 2), Region("loop", 0, 1, 3, reverse=True))
    made = replace(program((array("input", "i64", 6), array("output", "i64", 6)), (step,)), regions=regions)
    x, y = np.arange(1, 7).reshape(2, 3), np.zeros((3, 2), np.int64)
    load(made, SCALED).run([x.ctypes.data], [y.ctypes.data])
    assert y.tolist() == (x * np.arange(3)).T.tolist()


def test_repeated_steps_count_often() -> None:
    steps = tuple(Step("s", (), (), operations=200) for _ in range(4))
    regions = (Region("loop", 0, 3, 1000), Region("while", 1, 2, test_end=2), Region("case", 3, 4))
    made = replace(program((), steps), regions=regions)
    assert repeats(made) == [1000, -1, 1000, 1]
    assert is_long(made)
    assert is_long(replace(made, regions=regions[:1]))
    assert not is_long(replace(made, regions=()))
