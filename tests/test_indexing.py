"""Indexing as NumPy's: reading, assigning and gradients with every kind of key; what is not known while tracing.

Keys are drawn at random, thousands of them: a compiled function takes a hundred at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import knetc as kn
from knetc.ops.indexing import index_update

random = np.random.default_rng(11)

SHAPES = [(), (1,), (5,), (0,), (3, 4), (1, 3), (4, 0), (2, 3, 4), (3, 1, 2), (2, 1, 3, 2)]


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape)


def bound(extent: int) -> int | None:
    return None if random.random() < 0.3 else int(random.integers(-extent - 2, extent + 3))


def item(extent: int, common: tuple[int, ...]) -> Any:
    """An item for an axis; index arrays broadcast to ``common``."""
    kind = random.choice(["slice", "slice", "int", "array", "list"])
    if kind == "slice":
        step = int(random.choice([-3, -2, -1, 1, 1, 2, 3]))
        return slice(bound(extent), bound(extent), step if random.random() < 0.6 else None)
    if not extent:
        return slice(None)
    if kind == "int":
        return int(random.integers(-extent, extent))
    if kind == "list":
        return random.integers(-extent, extent, common[-1:] or 2).tolist()
    shape = common[random.integers(0, len(common) + 1) :]
    thin = tuple(1 if random.random() < 0.2 else n for n in shape)
    dtype = random.choice(["int64", "int32", "int8"])
    return random.integers(-extent, extent, thin).astype(dtype)


def key(shape: tuple[int, ...]) -> Any:
    """A key of any kind for an array of a shape."""
    common = ((), (2,), (3, 2), (0,), (1,))[random.integers(0, 5)]
    items: list[Any] = []
    axis = 0
    stop = random.integers(0, len(shape) + 1) if random.random() < 0.3 else len(shape)
    while axis < stop:
        if random.random() < 0.12:
            items.append(None)
        items.append(item(shape[axis], common))
        axis += 1
    if random.random() < 0.3:
        first = random.integers(0, len(items) + 1)
        last = random.integers(first, len(items) + 1)
        items[first:last] = [Ellipsis]
    return items[0] if len(items) == 1 and random.random() < 0.5 else tuple(items)


def masked(shape: tuple[int, ...]) -> Any:
    """A key with a mask in it, for an array of at least one axis."""
    first = int(random.integers(0, len(shape)))
    last = int(random.integers(first + 1, len(shape) + 1))
    mask = random.random(shape[first:last]) < random.choice([0.0, 0.5, 1.0])
    items: list[Any] = []
    for n in shape[:first]:
        items.append(slice(None, None, 2) if random.random() < 0.6 or not n else int(random.integers(-n, n)))
    items.append(mask)
    for n in shape[last:]:
        if random.random() < 0.5:
            break
        items.append(slice(None, None, -1) if random.random() < 0.5 or not n else int(random.integers(-n, n)))
    return items[0] if len(items) == 1 else tuple(items)


def drawn(count: int, make: Any, shapes: Sequence[tuple[int, ...]] = SHAPES) -> Iterator[tuple[np.ndarray, Any]]:
    """Arrays with keys that NumPy takes for them."""
    while count:
        x = numbers(shapes[random.integers(0, len(shapes))])
        k = make(x.shape)
        try:
            x[k]
        except IndexError:
            continue
        count -= 1
        yield x, k


def value_for(place: tuple[int, ...]) -> Any:
    """A value that fits into a place: a number, or an array that broadcasts to it."""
    if random.random() < 0.3:
        return -1.5
    shape = place[random.integers(0, len(place) + 1) :]
    shape = tuple(1 if random.random() < 0.2 else n for n in shape)
    return -random.random(shape)


def assigned(x: np.ndarray, k: Any, value: Any) -> np.ndarray:
    """What NumPy has after the assignment; of places named several times the last counts."""
    y = x.copy()
    y[k] = value
    return y


def describe(x: np.ndarray, k: Any, value: Any = None) -> str:
    return f"x{list(x.shape)}[{k!r}]" + ("" if value is None else f" = {np.shape(value)}")


@pytest.mark.parametrize("round", range(8))
def test_reading(round: int) -> None:
    cases = list(drawn(100, key))
    arrays = [kn.array(x) for x, _ in cases]
    found = kn.compile(lambda xs: [x[k] for x, (_, k) in zip(xs, cases)])(arrays)
    for (x, k), y in zip(cases, found):
        assert y.shape == x[k].shape, describe(x, k)
        np.testing.assert_array_equal(np.asarray(y), x[k], err_msg=describe(x, k))


@pytest.mark.parametrize("round", range(8))
def test_assigning(round: int) -> None:
    cases = [(x, k, value_for(x[k].shape)) for x, k in drawn(100, key)]

    def assign(xs: Any) -> Any:
        for x, (_, k, value) in zip(xs, cases):
            x[k] = value
        return [x + 0 for x in xs]

    found = kn.compile(assign)([kn.array(x) for x, _, _ in cases])
    for (x, k, value), y in zip(cases, found):
        np.testing.assert_array_equal(np.asarray(y), assigned(x, k, value), err_msg=describe(x, k, value))


@pytest.mark.parametrize("round", range(4))
def test_assigning_at_masks_compiled(round: int) -> None:
    """A number at any mask; rows, where the mask comes first."""
    cases = []
    for x, k in drawn(100, masked, SHAPES[1:]):
        fits = isinstance(k, np.ndarray) and random.random() < 0.6
        cases.append((x, k, value_for(x[k].shape) if fits else -2.5))

    def assign(xs: Any) -> Any:
        for x, (_, k, value) in zip(xs, cases):
            x[k] = value
        return [x + 0 for x in xs]

    found = kn.compile(assign)([kn.array(x) for x, _, _ in cases])
    for (x, k, value), y in zip(cases, found):
        np.testing.assert_array_equal(np.asarray(y), assigned(x, k, value), err_msg=describe(x, k, value))


def test_masks_outside_of_traces() -> None:
    read, written = [], []
    cases = [(x, k, value_for(x[k].shape)) for x, k in drawn(100, masked, SHAPES[1:])]
    for x, k, value in cases:
        a = kn.array(x)
        read.append(a[k])
        a[k] = value
        written.append(a)
    values = kn.compile(lambda ys: [y + 0 for y in ys])(read + written)
    for (x, k, value), y, z in zip(cases, values, values[len(read) :]):
        np.testing.assert_array_equal(np.asarray(y), x[k], err_msg=describe(x, k))
        np.testing.assert_array_equal(np.asarray(z), assigned(x, k, value), err_msg=describe(x, k, value))


def test_gradients_of_reading_and_assigning() -> None:
    """The gradient of reading adds up at each place; that of assigning goes to what is read last."""
    cases = [(x, k, value_for(x[k].shape)) for x, k in drawn(120, key)]
    weights = [np.cos(np.arange(x[k].size)).reshape(x[k].shape) for x, k, _ in cases]
    after = [np.sin(np.arange(1.0, 1 + x.size)).reshape(x.shape) for x, _, _ in cases]

    def loss(xs: Any) -> Any:
        total: Any = 0.0
        for x, (_, k, value), w, v in zip(xs, cases, weights, after):
            y = index_update(x, k, value)
            total = total + kn.sum(x[k] * w) + kn.sum(y * v)
        return total

    found = kn.compile(kn.grad(loss))([kn.array(x) for x, _, _ in cases])
    for (x, k, value), w, v, slope in zip(cases, weights, after, found):
        expected = np.zeros_like(x)
        np.add.at(expected, k, w)
        untouched = np.ones_like(x)
        untouched[k] = 0
        given = np.asarray(slope) if slope is not None else np.zeros_like(x)
        np.testing.assert_allclose(
            given, expected + v * untouched, rtol=1e-12, atol=1e-12, err_msg=describe(x, k, value)
        )


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
    with pytest.raises(TypeError, match="holds integers"):
        x[np.array([0.5])]
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


def test_writing_places_takes_no_other_memory() -> None:
    x, where = kn.zeros(1 << 20), kn.arange(1 << 20)

    def write(x: Any, where: Any, number: Any) -> None:
        x[where] = number

    step = kn.compile(write)
    step(x, where, 3.5)
    assert "1 arrays are updated in place; intermediate values take 0 B" in kn.summary(step)
    assert float(x[-1]) == 3.5
