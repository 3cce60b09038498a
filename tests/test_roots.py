"""Square roots are rounded to the nearest: at random places, next to ties and squares, at the ends, by any way."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from knetc.runtime.base import dtypes

sys.path.insert(0, str(Path(__file__).parent))
from scalar_kernels import LEVELS, Elementwise

import knetc as kn

EXTREMES = [0.0, -0.0, math.inf, -math.inf, math.nan, -1.0, -1e-310, 5e-324, 1e-310, 2.0**-1022, 2.0**-900, 2.0**-901]


def of_one_octave_pair(mantissas: np.ndarray) -> np.ndarray:
    """Mantissas of 52 bits as numbers from 1 to 2 and from 2 to 4: all other numbers are these times powers of four."""
    low = (mantissas.astype(np.uint64) | np.uint64(1023 << 52)).view(np.float64)
    return np.concatenate([low, 2 * low])


def nearly_ties(most: int) -> list[float]:
    """Numbers from 1 to 4 whose roots are nearest to the middle of two float64, m (m + 1) + j with |j| <= most."""
    found = []
    for j in range(-most, most + 1, 2):
        root, target = 1, 1 - 4 * j  # of an odd square (2 m + 1)², bit by bit
        for bits in range(3, 56):
            root += (root * root - target >> bits & 1) << (bits - 1)
        for r in (root, -root, root + (1 << 54), (1 << 54) - root, root + (1 << 53), (1 << 53) - root):
            m = (r - 1 >> 1) % (1 << 53)
            x = m * (m + 1) + j
            if m >> 52 and x == int(float(x)):
                found.append(float(x) * 2.0**-104)
    return found


def hard_cases() -> np.ndarray:
    random = np.random.default_rng(3)
    ends = np.arange(1024, dtype=np.uint64)
    squares = np.square(random.integers(1 << 25, 1 << 26, 2000) * 2.0**-25)
    near = [squares, np.nextafter(squares, 0), np.nextafter(squares, np.inf)]
    of_ends = of_one_octave_pair(np.concatenate([ends, (1 << 52) - 1 - ends]))
    return np.concatenate([nearly_ties(4000), of_ends, *near])


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    defined = ~np.isnan(expected)
    np.testing.assert_array_equal(found.view(np.uint64)[defined], expected.view(np.uint64)[defined])
    assert np.isnan(found[~defined]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_roots_next_to_ties_are_rounded_to_the_nearest(level):
    root, x = Elementwise(lambda e, x: e.sqrt(x), dtypes.f64, level=level), hard_cases()
    assert len(nearly_ties(4000)) > 4000
    for scale in (1.0, 2.0**-900, 4.0**510, 4.0**-520):
        same_bits(root(x * scale), np.sqrt(x * scale))


def test_random_roots_are_rounded_to_the_nearest():
    root, random = Elementwise(lambda e, x: e.sqrt(x), dtypes.f64), np.random.default_rng(4)
    x = of_one_octave_pair(random.integers(0, 1 << 52, 1_000_000))
    same_bits(root(x), np.sqrt(x))
    x = np.exp2(random.uniform(-1074, 1024, 100_000))  # subnormal and other numbers in one vector
    same_bits(root(x), np.sqrt(x))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", EXTREMES)
def test_unusual_numbers_among_others(value):
    root = Elementwise(lambda e, x: e.sqrt(x), dtypes.f64)
    for x in (np.full(100, value), np.where(np.arange(100) % 9 == 4, value, 3.7), np.full(1, value)):
        same_bits(root(x), np.sqrt(x))


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_roots_beside_narrower_numbers(dtype):
    """Whose vectors have more numbers than float64 has."""
    x = np.arange(1, 200, dtype=np.float64)
    some = (x % 100).astype(dtype)
    root, doubled = kn.compile(lambda x, some: (kn.sqrt(x), some + some))(kn.array(x), kn.array(some))
    same_bits(np.asarray(root), np.sqrt(x))
    np.testing.assert_array_equal(np.asarray(doubled), some + some)
    widened = kn.compile(lambda some: kn.sqrt(some.astype(np.float64)))(kn.array(some))
    same_bits(np.asarray(widened), np.sqrt(some.astype(np.float64)))
