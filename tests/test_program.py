"""Programs as JSON: round trips, and values that are not programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from knetc.runtime.base.errors import CacheError
from knetc.runtime.program import (
    ArgumentRef,
    BufferSpec,
    Check,
    Cubin,
    GridLaunch,
    Launch,
    Program,
    Slot,
    Step,
    from_json,
    to_json,
)
from native_code import add_program

names = st.text(max_size=8)
numbers = st.integers(-(2**63), 2**63)
slots = st.builds(Slot, st.sampled_from(["argument", "workspace", "value"]), numbers)
launches = st.builds(Launch, names, numbers, numbers, st.lists(slots, max_size=3).map(tuple))
grids = st.builds(GridLaunch, names, st.lists(numbers, max_size=3).map(tuple), st.lists(slots, max_size=3).map(tuple))
arguments = st.builds(ArgumentRef, st.sampled_from(["buffer", "scalar"]), numbers)
lines = st.lists(names, max_size=2).map(tuple)
steps = st.builds(
    Step, names, st.lists(arguments, max_size=2).map(tuple), st.lists(launches, max_size=2).map(tuple), lines=lines,
    grids=st.lists(grids, max_size=2).map(tuple),
)  # fmt: skip
specs = st.builds(
    BufferSpec, st.sampled_from(["input", "output", "arena"]), names, st.lists(numbers, max_size=3).map(tuple), numbers
)
programs = st.builds(
    Program,
    names,
    st.lists(specs, max_size=3).map(tuple),
    lines,
    st.lists(steps, max_size=2).map(tuple),
    st.lists(st.builds(Check, names, names, lines), max_size=2).map(tuple),
    numbers,
    lines,
    cubins=st.lists(st.from_type(Cubin), max_size=1).map(tuple),
)


@given(programs)
def test_round_trip(program: Program) -> None:
    assert from_json(json.loads(json.dumps(to_json(program)))) == program


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    pending, found = [value], []
    while pending:
        container = pending.pop()
        for key in container if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                pending.append(container[key])
    return found


@given(st.data())
def test_a_value_of_another_type_is_refused(data: st.DataObject) -> None:
    values = to_json(add_program(3, 4))
    container, key = data.draw(st.sampled_from(places(values)))
    wrong: list[Any] = [None, 1.5, True, {"a": 1}, {}]
    container[key] = data.draw(st.sampled_from([w for w in wrong if type(w) is not type(container[key])]))
    with pytest.raises(CacheError):
        from_json(values)


def test_the_message_says_where() -> None:
    values = to_json(add_program(3, 4))
    values["steps"][0]["launches"][0]["grain"] = "4"
    with pytest.raises(CacheError, match=r"program.steps.launches.grain: expected int, got str"):
        from_json(values)
    del values["scalars"]
    with pytest.raises(CacheError, match="the fields of a Program"):
        from_json(values)
