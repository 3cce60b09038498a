"""What a compiled function may be given, and when that is a new signature."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from values import f32, numbers

from knetc.arrays import array
from knetc.compiler.function import compile
from knetc.params import Param


def test_python_runs_once_for_a_signature(lines: list[str]) -> None:
    calls = []

    @compile
    def double(x: Any) -> Any:
        calls.append(1)
        return x * 2

    for k in range(3):
        assert numbers(double(array(f32(1, 2, 3 + k)))).tolist() == [2, 4, 6 + 2 * k]
    assert len(calls) == 1
    assert len(lines) == 1


def test_a_new_signature_logs_one_line_with_argument_change_and_place(lines: list[str]) -> None:
    @compile
    def double(x: Any) -> Any:
        return x * 2

    double(array(f32(1, 2)))
    double(array(f32(1, 2, 3)))
    assert "double" in lines[1] and "test_arguments.py" in lines[1]
    assert "x was Array f32[2], is Array f32[3]" in lines[1]
    double(np.zeros(3))
    assert "x was Array f32[3], is NumPy f64[3]" in lines[2]
    double(array(f32(5, 6)))
    double(array(f32(5, 6, 7)))
    assert len(lines) == 3


def test_numpy_arrays_are_read_in_place_at_each_call_and_never_written() -> None:
    @compile
    def plus(x: Any, y: Any) -> Any:
        return x + y

    data, other = np.arange(4.0), np.ones(4)
    assert numbers(plus(data, other)).tolist() == [1, 2, 3, 4]
    data[0] = 10
    data.flags.writeable = False
    assert numbers(plus(data, other)).tolist() == [11, 2, 3, 4]
    assert data.tolist() == [10, 1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        np.arange(12.0)[::2],
        np.arange(12.0).reshape(3, 4).T,
        np.arange(6, dtype=">f4"),
        np.frombuffer(b"\0" + np.arange(6, dtype=np.float32).tobytes(), np.float32, offset=1),
        np.zeros((0, 3)),
        np.array(2.5),
        np.broadcast_to(np.float32(3), (2, 2)),
    ],
    ids=["strided", "transposed", "big-endian", "unaligned", "empty", "0-d", "broadcast"],
)
def test_any_layout_of_numpy_arrays(data: Any) -> None:
    @compile
    def plus(x: Any) -> Any:
        return x + 1

    for _ in range(2):
        result = numbers(plus(data))
        assert result.dtype == data.dtype.newbyteorder("=")
        np.testing.assert_array_equal(result, data + 1)


def test_numbers_are_run_time_values_and_weak(lines: list[str]) -> None:
    @compile
    def scale(x: Any, by: float, n: int) -> Any:
        return x * (by * 2 - 1) + n

    for by, n in ((0.5, 1), (2.5, 3), (-1.0, 2)):
        result = numbers(scale(array(f32(1, 2)), by, n))
        assert result.dtype == np.float32
        assert result.tolist() == [1 * (by * 2 - 1) + n, 2 * (by * 2 - 1) + n]
    assert len(lines) == 1
    scale(array(f32(1, 2)), 1, 1)
    assert "by was a run-time float, is a run-time int" in lines[1]


def test_numpy_scalars_are_run_time_values_and_strong(lines: list[str]) -> None:
    @compile
    def scale(x: Any, by: Any) -> Any:
        return x * by

    for by in (np.float64(2), np.float64(3)):
        result = numbers(scale(array(f32(1, 2)), by))
        assert result.dtype == np.float64
        assert result.tolist() == [by, 2 * by]
    assert len(lines) == 1


def test_a_number_used_as_a_shape_or_a_branch_becomes_static(
    lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    @compile
    def repeat(x: Any, n: int, flip: float) -> Any:
        for _ in range(n):
            x = x + x
        return -x if flip > 0 else x

    x = array(f32(1))
    assert numbers(repeat(x, 2, 1.0)).tolist() == [-4]
    assert numbers(repeat(x, 3, 1.0)).tolist() == [-8]
    assert numbers(repeat(x, 3, -1.0)).tolist() == [8]
    assert numbers(repeat(x, 3, 1.0)).tolist() == [-8]
    assert "n was 2, is 3" in lines[1]
    static = [r.getMessage() for r in caplog.records if "static" in r.getMessage()]
    assert any("n is used for" in line and "test_arguments.py" in line for line in static)
    assert any("flip is used for a branch" in line for line in static)


def test_declared_static_numbers_are_python_numbers_inside() -> None:
    seen: list[Any] = []

    @compile(static=("n",))
    def repeat(x: Any, n: int) -> Any:
        seen.append(n)
        return x * n

    repeat(array(f32(1)), 2)
    repeat(array(f32(1)), 3)
    assert seen == [2, 3]
    with pytest.raises(ValueError, match="no such argument"):
        compile(static=("m",))(lambda n: n)


def test_minus_zero_one_and_true_are_different_static_values() -> None:
    @compile(static=("n",))
    def over(x: Any, n: Any) -> Any:
        return x * 0 + (type(n) is float and str(n) == "-0.0") + 2 * (n is True)

    x = array(f32(1))
    results = [numbers(over(x, n)).tolist() for n in (0.0, -0.0, 1, True, 1.0, float("nan"), float("nan"))]
    assert results == [[0], [1], [0], [2], [0], [0], [0]]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize("a,b", [(True, False), ("up", "down"), (None, 1.0), (Colour.RED, Colour.BLUE)])
def test_flags_strings_and_enums_are_static(a: Any, b: Any) -> None:
    @compile
    def choose(x: Any, mode: Any) -> Any:
        return x + 1 if mode == a else x - 1

    x = array(f32(1))
    for mode, expected in ((a, 2), (b, 0), (a, 2)):
        assert numbers(choose(x, mode)).tolist() == [expected]


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Batch:
    x: Any
    y: Any
    weight: float = 1.0


def test_containers_go_in_and_out(lines: list[str]) -> None:
    @compile
    def mix(t: Any, d: Any, p: Pair, b: Batch) -> Any:
        s = t[0] + t[1][0] + d["a"] + p.left * p.right + b.x * b.weight
        return {"sum": s, "parts": [s, (t[0], None, "text")], "pair": Pair(s, 1), "batch": Batch(s, b.y)}

    for k in (1.0, 2.0):
        x = array(f32(k))
        given = (x, [f32(1)]), {"a": x}, Pair(x, 3.0), Batch(x, x, k)
        result = mix(*given)
        expected = k + 1 + k + 3 * k + k * k
        assert numbers(result["sum"]).tolist() == [expected]
        assert numbers(result["parts"][0]).tolist() == [expected]
        assert result["parts"][1][0] is x and result["parts"][1][1:] == (None, "text")
        assert type(result["pair"]) is Pair and result["pair"].right == 1
        assert type(result["batch"]) is Batch and result["batch"].y is x
    assert len(lines) == 1
    mix((x, [f32(1), f32(2)]), {"a": x}, Pair(x, 3.0), Batch(x, x, k))
    assert "t[1] was a list of 1, is a list of 2" in lines[1]


def test_defaults_keywords_and_starred_parameters() -> None:
    @compile
    def mix(a: Any, /, b: Any = 2.0, *rest: Any, scale: Any = 1.0, **named: Any) -> Any:
        result = a * b * scale
        for item in (*rest, *named.values()):
            result = result + item
        return result

    x = array(f32(1))
    assert numbers(mix(x)).tolist() == [2]
    assert numbers(mix(x, scale=3.0)).tolist() == [6]
    assert numbers(mix(x, 3.0, x, x, scale=2.0, extra=x)).tolist() == [9]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        mix()
    assert mix.__name__ == "mix"


def test_the_same_array_twice_and_two_arrays() -> None:
    @compile
    def assign(x: Any, y: Any) -> Any:
        x[...] = x + 1
        return x + y

    x, y = Param(f32(1)), Param(f32(10))
    assert numbers(assign(x, y)).tolist() == [12]
    assert numbers(assign(x, x)).tolist() == [6]
    assert numbers(assign(x, y)).tolist() == [14]


def test_pending_arrays_are_computed_first() -> None:
    @compile
    def double(x: Any) -> Any:
        return x * 2

    x = array(f32(1, 2))
    double(x)
    assert numbers(double(x + x)).tolist() == [4, 8]
