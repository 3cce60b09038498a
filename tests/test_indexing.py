"""Indexing as NumPy's: reading, assigning and gradients with every kind of key; what is not known while tracing.

An example is a batch of keys, which one compiled function takes: thousands of keys make few programs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import knetc as kn
from knetc.ops.indexing import index_update

random = np.random.default_rng(11)

SHAPES = [(5,), (3, 4), (2, 3, 4), (2, 1, 3, 2), (3, 1, 2), (1, 3), (1,), (4, 0), (0,)]
COMMON = [(2,), (3, 2), (), (1,), (0,)]
BATCH = 50


class Case(NamedTuple):
    """An array, a key that NumPy takes for it, and a value that fits there: a number, or one that broadcasts to it."""

    x: np.ndarray
    key: Any
    value: Any

    def __repr__(self) -> str:
        return f"x{list(self.x.shape)}[{self.key!r}] = {self.value!r}"


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape)


def steps(extent: int) -> st.SearchStrategy[slice]:
    """Slices with bounds inside and outside of an axis."""
    bound = st.none() | st.integers(-extent - 2, extent + 2)
    return st.builds(slice, bound, bound, st.sampled_from([None, 1, -1, 2, -2, 3, -3]))


@st.composite
def thinned(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to ``shape``."""
    tail = shape[draw(st.integers(0, len(shape))) :]
    return tuple(draw(st.sampled_from([n, n, n, 1])) for n in tail)


@st.composite
def places(draw: st.DrawFn, extent: int, common: tuple[int, ...]) -> Any:
    """Integers in an array that broadcasts to ``common``, or in a list: repeated ones, negative ones, or none."""
    if draw(st.booleans()):
        shape = draw(thinned(common))
    else:
        shape = common[-1:] or (2,)
    count = int(np.prod(shape, dtype=int))
    found = draw(st.lists(st.integers(-extent, extent - 1), min_size=count, max_size=count))
    dtype = draw(st.sampled_from(["list", "int64", "int32", "int8"]))
    if dtype == "list" and len(shape) == 1:
        return found
    return np.array(found, "int64" if dtype == "list" else dtype).reshape(shape)


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Keys of integers, slices, None, an Ellipsis and index arrays, mixed, for an array of a shape."""
    common = draw(st.sampled_from(COMMON))
    items: list[Any] = []
    for extent in shape[: draw(st.sampled_from([len(shape), *range(len(shape))]))]:
        if draw(st.sampled_from([False] * 7 + [True])):
            items.append(None)
        kind = draw(st.sampled_from(["slice", "int", "places"])) if extent else "slice"
        of = {"slice": steps(extent), "int": st.integers(-extent, extent - 1), "places": places(extent, common)}
        items.append(draw(of[kind]))
    if draw(st.sampled_from([False, False, True])):
        first = draw(st.integers(0, len(items)))
        whole = sum(item is not None for item in items) == len(shape)  # else what follows meets other axes
        items[first : draw(st.integers(first, len(items))) if whole else len(items)] = [Ellipsis]
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@st.composite
def masked(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Keys with a mask in it, for an array of at least one axis."""
    first = draw(st.integers(0, len(shape) - 1))
    last = draw(st.integers(first + 1, len(shape)))
    size = int(np.prod(shape[first:last], dtype=int))
    bools = draw(st.sampled_from([st.booleans(), st.booleans(), st.just(False), st.just(True)]))
    mask = np.array(draw(st.lists(bools, min_size=size, max_size=size)), bool).reshape(shape[first:last])
    items = [draw(steps(n) | st.integers(-n, n - 1) if n else steps(n)) for n in shape[:first]]
    after = shape[last:][: draw(st.integers(0, len(shape) - last))]
    items += [mask, *(draw(steps(n) | st.integers(-n, n - 1) if n else steps(n)) for n in after)]
    return items[0] if len(items) == 1 else tuple(items)


@st.composite
def values(draw: st.DrawFn, place: tuple[int, ...]) -> Any:
    """Values that fit into a place."""
    if draw(st.sampled_from([False, False, True])):
        return -1.5
    return -numbers(draw(thinned(place)))


@st.composite
def cases(draw: st.DrawFn, make: Callable[[tuple[int, ...]], st.SearchStrategy[Any]], shapes: Any = SHAPES) -> Case:
    x = numbers(draw(st.sampled_from(shapes)))
    key = draw(make(x.shape))
    return Case(x, key, draw(values(x[key].shape)))


def batches(*given: Any) -> st.SearchStrategy[list[Case]]:
    """Many cases, for one compilation."""
    return st.integers(1, BATCH).flatmap(lambda n: st.lists(cases(*given), min_size=n, max_size=n))


def some(count: int, *given: Any) -> Callable[[Callable[[list[Case]], None]], Callable[[], None]]:
    """Decorate a test of a batch of cases, so that it runs on so many batches.

    Of a batch that fails the cases are tried one by one, and the first that fails alone is what is reported: shrinking
    the batch would compile it for minutes.
    """
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

    def decorate(test: Callable[[list[Case]], None]) -> Callable[[], None]:
        @settings(
            max_examples=count, deadline=None, suppress_health_check=checks, phases=[Phase.explicit, Phase.generate]
        )
        @hypothesis.given(batches(*given))
        @wraps(test)
        def run(batch: list[Case]) -> None:
            try:
                test(batch)
            except Exception:
                for case in batch:
                    test([case])
                raise

        return run

    return decorate


def assigned(x: np.ndarray, k: Any, value: Any) -> np.ndarray:
    """What NumPy has after the assignment; of places named several times the last counts."""
    y = x.copy()
    y[k] = value
    return y


def assign(xs: Any, batch: list[Case]) -> Any:
    for x, case in zip(xs, batch):
        x[case.key] = case.value
    return [x + 0 for x in xs]


def check_assigning(found: Any, batch: list[Case]) -> None:
    for case, y in zip(batch, found):
        np.testing.assert_array_equal(np.asarray(y), assigned(*case), err_msg=str(case))


@some(40, keys, [*SHAPES, ()])
def test_reading(batch: list[Case]) -> None:
    found = kn.compile(lambda xs: [x[case.key] for x, case in zip(xs, batch)])([kn.array(case.x) for case in batch])
    for case, y in zip(batch, found):
        assert y.shape == case.x[case.key].shape, case
        np.testing.assert_array_equal(np.asarray(y), case.x[case.key], err_msg=str(case))


@some(35, keys, [*SHAPES, ()])
def test_assigning(batch: list[Case]) -> None:
    check_assigning(kn.compile(lambda xs: assign(xs, batch))([kn.array(case.x) for case in batch]), batch)


@some(12, masked)
def test_assigning_at_masks_compiled(batch: list[Case]) -> None:
    """A number at any mask; rows, where the mask comes first."""
    batch = [case if isinstance(case.key, np.ndarray) else case._replace(value=-2.5) for case in batch]
    check_assigning(kn.compile(lambda xs: assign(xs, batch))([kn.array(case.x) for case in batch]), batch)


@some(5, masked)
def test_masks_outside_of_traces(batch: list[Case]) -> None:
    read, written = [], []
    for x, key, value in batch:
        a = kn.array(x)
        read.append(a[key])
        a[key] = value
        written.append(a)
    found = kn.compile(lambda ys: [y + 0 for y in ys])(read + written)
    for case, y in zip(batch, found):
        np.testing.assert_array_equal(np.asarray(y), case.x[case.key], err_msg=str(case))
    check_assigning(found[len(read) :], batch)


@some(14, keys)
def test_gradients_of_reading_and_assigning(batch: list[Case]) -> None:
    """The gradient of reading adds up at each place; that of assigning goes to what is read last."""
    weights = [np.cos(np.arange(x[key].size)).reshape(x[key].shape) for x, key, _ in batch]
    after = [np.sin(np.arange(1.0, 1 + x.size)).reshape(x.shape) for x, _, _ in batch]

    def loss(xs: Any) -> Any:
        total: Any = 0.0
        for x, (_, key, value), w, v in zip(xs, batch, weights, after):
            y = index_update(x, key, value)
            total = total + kn.sum(x[key] * w) + kn.sum(y * v)
        return total

    found = kn.compile(kn.grad(loss))([kn.array(x) for x, _, _ in batch])
    for case, w, v, slope in zip(batch, weights, after, found):
        expected = np.zeros_like(case.x)
        np.add.at(expected, case.key, w)
        untouched = np.ones_like(case.x)
        untouched[case.key] = 0
        given = np.asarray(slope) if slope is not None else np.zeros_like(case.x)
        np.testing.assert_allclose(given, expected + v * untouched, rtol=1e-12, atol=1e-12, err_msg=str(case))


def test_values_of_the_manual() -> None:
    """x is [1 3 5; 2 4 6] there, and indices count from 1; linear indices go down the columns."""
    x = kn.array([[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]])
    linear = x.T.ravel()
    assert float(linear[2]) == 3 and linear[1:4].tolist() == [2, 3, 4] and linear[0:5:2].tolist() == [1, 3, 5]
    assert linear[[0, 0, 5]].tolist() == [1, 1, 6]
    slope = kn.grad(lambda v: kn.sum(v[[0, 0, 5]]))(linear)
    assert slope.tolist() == [2, 0, 0, 0, 0, 1]
    assert x.T[kn.array([[True, False], [False, True], [False, True]])].tolist() == [1, 4, 6]
    assert x[np.array([0, 1]), np.array([0, 1])].tolist() == [1, 4] and float(x[1, 2]) == 6
    assert x[[]].shape == (0, 3) and linear[[]].tolist() == []
    assert x.T[x.T > 3].tolist() == [4, 5, 6]
    assert x[:, 1].tolist() == [3, 4] and x[:, 1:3].tolist() == [[3, 5], [4, 6]]
    assert x[:, ::2].tolist() == [[1, 5], [2, 6]] and x[:, [2, 2, 0]].tolist() == [[5, 5, 1], [6, 6, 2]]
    assert x[:, [True, False, True]].tolist() == [[1, 5], [2, 6]] and x[[1, 1], :].tolist() == [[2, 4, 6], [2, 4, 6]]
    assert x[0:2, 2].tolist() == [5, 6] and x[1, :].tolist() == [2, 4, 6] and x[0, 1:3].tolist() == [3, 5]
    assert x[:, kn.array([[0, 1], [2, 2]])].shape == (2, 2, 2)
    x[[]] = 7.0
    assert x.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_bools_without_axes() -> None:
    n, x = numbers((2, 3)), kn.array(numbers((2, 3)))
    for k in (True, False, np.True_, (True, 1), (slice(None), True), np.array(False), (None, True)):
        np.testing.assert_array_equal(np.asarray(x[k]), n[k])
        y, m = x.copy(), n.copy()
        y[k] = m[k] = -1
        np.testing.assert_array_equal(np.asarray(y), m)
    assert x[kn.array(True)].shape == (1, 2, 3)


def test_array_indices_may_be_arrays_lists_of_arrays_and_ranges() -> None:
    n, x = numbers((4, 3)), kn.array(numbers((4, 3)))
    one, two = kn.array(1), kn.array(2)
    assert x[[one, two]].tolist() == n[[1, 2]].tolist()
    assert x[range(3), 1].tolist() == n[range(3), 1].tolist()
    assert x[one].tolist() == n[1].tolist() and x[one, two].item() == n[1, 2]
    assert kn.compile(lambda v, i: v[i, :2])(x, one).tolist() == n[1, :2].tolist()
    assert x[np.uint8(3)].tolist() == n[3].tolist()


def test_shapes_that_depend_on_data_are_refused_in_traces() -> None:
    x = kn.array(numbers((3, 4)))
    with pytest.raises(kn.TraceError, match=r"x\[mask\].*where.*size=n"):
        kn.compile(lambda v: v[v > 2])(x)
    with pytest.raises(kn.TraceError, match=r"x\[mask\]"):
        kn.compile(lambda v: v[np.array([True, False, True])])(x)


def test_a_mask_must_fit() -> None:
    x = kn.array(numbers((3, 4)))
    for k in (np.ones(4, bool), np.ones((3, 3), bool), (slice(None), np.ones(3, bool))):
        with pytest.raises(IndexError, match="mask of shape"):
            x[k]
        with pytest.raises(IndexError, match="mask of shape"):
            x[k] = 1.0
    x[np.array([True, False, True])] = np.zeros((2, 4))
    with pytest.raises(ValueError, match="selects 2 elements is given 3 values"):
        x[np.array([True, False, True])] = np.zeros((3, 4))
        x.numpy()


def test_mistakes() -> None:
    x = kn.array(numbers((3, 4)))
    for k, text in (((0, 0, 0), "3 indices"), (3, "out of range"), ((..., ...), "one Ellipsis")):
        with pytest.raises(IndexError, match=text):
            x[k]
    with pytest.raises(IndexError, match="holds integers"):
        x[np.array([0.5])]
    with pytest.raises(IndexError, match="do not broadcast"):
        x[[0, 1, 0], [0, 0]]
    with pytest.raises(ValueError, match=r"shape \(3,\) cannot be written to a place of shape \(2, 4\)"):
        x[:2] = np.ones(3)
    with pytest.raises(IndexError, match="out of range"):
        x[np.array([0, -4])].numpy()


def test_many_places_take_no_longer_than_they_should() -> None:
    """The last writer of each place is found in one pass, however many places there are."""
    count = 200_000
    places = random.integers(0, count, count)
    x, n = kn.zeros(count), np.zeros(count, np.float32)
    x[places] = kn.arange(count)
    n[places] = np.arange(count)
    np.testing.assert_array_equal(np.asarray(x), n)


def test_places_are_written_into_the_memory_there_is() -> None:
    """Unless what is written is made from elements that are overwritten meanwhile."""
    n = np.arange(6.0)
    places = np.array([5, 0, 3, 0, 1, 4])

    def write(x: Any, where: Any, value: Any) -> None:
        x[where] = value

    x, where = kn.array(n), kn.array(places)
    kn.compile(write)(x, where, 7)
    np.testing.assert_array_equal(np.asarray(x), assigned(n, places, 7))

    def turn(x: Any, where: Any) -> None:
        x[where] = 2 * x

    x = kn.array(n)
    kn.compile(turn)(x, where)
    np.testing.assert_array_equal(np.asarray(x), assigned(n, places, 2 * n))
    x = kn.array(n)
    kept = x.copy()
    x[where] = 10.5 - x
    np.testing.assert_array_equal(np.asarray(x), assigned(n, places, 10.5 - n))
    x[where] = 2.5
    np.testing.assert_array_equal(np.asarray(x)[places], 2.5)
    np.testing.assert_array_equal(np.asarray(kept), n)


@pytest.mark.cpu
def test_writing_places_takes_no_other_memory() -> None:
    x, where = kn.zeros(1 << 20), kn.arange(1 << 20)

    def write(x: Any, where: Any, number: Any) -> None:
        x[where] = number

    step = kn.compile(write)
    step(x, where, 3.5)
    assert "1 arrays are updated in place; intermediate values take 0 B" in kn.summary(step)
    assert float(x[-1]) == 3.5
