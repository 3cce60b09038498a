"""Random programs, lazily and compiled, differentiated and for many elements at once, against NumPy in float64.

A fixed number of them; run ``python tests/test_random_programs.py FIRST LAST`` for others.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base.config import config
from programs import REFERENCE, Program, leaves, mapped, random_program

import knetc as kn
from knetc.ir import ambient

COUNT = 30


class Names:
    """knetc as the namespace of programs, where its functions are called otherwise than NumPy's."""

    s_ = np.s_

    def __init__(self, looking: bool = False) -> None:
        self.looking = looking

    def __getattr__(self, name: str) -> Any:
        return getattr(kn, name)

    def look(self, x: Any) -> Any:
        if self.looking and isinstance(x, kn.Array):
            x.numpy()
        return x

    def stored(self, x: Any, key: Any, value: Any) -> Any:
        y = kn.array(x)
        y[key] = value
        return y

    def grad(self, f: Callable[..., Any]) -> Callable[..., Any]:
        def slope(x: Any) -> Any:
            found = kn.grad(f)(x)
            return kn.zeros_like(x) if found is None else found

        return slope


@pytest.fixture(autouse=True)
def _numpys_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config, "check", True)
    with ambient.setting(dtype=np.dtype("float64")):
        yield


def same(found: Any, expected: Any, program: Program, *, factor: float = 1) -> None:
    bound = factor * (1e-5 if program.words & {"grad(", "jvp"} else 1e-8)
    for a, b in zip(leaves(found), leaves(expected), strict=True):
        assert np.shape(a) == np.shape(b) and a.dtype == np.asarray(b).dtype
        np.testing.assert_allclose(np.asarray(a), b, rtol=bound, atol=bound)


def expected(program: Program, arguments: list[np.ndarray]) -> Any:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.function(REFERENCE)(*arguments)


def values(program: Program, seed: int) -> None:
    function = program.function(Names(looking=seed % 4 == 0))
    how = kn.compile(function) if seed % 2 else function
    same(how(*map(kn.array, program.arguments)), expected(program, program.arguments), program)


def many(program: Program, seed: int) -> None:
    rows = [program.perturbed(k, 1e-9) for k in range(3)]
    found = kn.vmap(program.function(Names()))(*(np.stack(each) for each in zip(*rows)))
    same(found, mapped(lambda *ys: np.stack(ys), *(expected(program, row) for row in rows)), program, factor=10)


def derivatives(program: Program, seed: int) -> None:
    """Reverse mode against forward mode, and to second order; forward mode against differences."""
    random = np.random.default_rng(seed)
    places = [k for k, a in enumerate(program.arguments) if a.dtype.kind == "f"]
    shapes = [np.shape(y) for y in expected(program, program.arguments)]
    weights = [random.normal(size=shape) for shape in shapes]
    directions = [random.normal(size=a.shape) if k in places else None for k, a in enumerate(program.arguments)]

    def total(namespace: Any) -> Callable[..., Any]:
        function = program.function(namespace)

        def loss(*args: Any) -> Any:
            kinds = [(y, w) for y, w in zip(function(*args), weights) if y.dtype.kind == "f"]
            m = REFERENCE if namespace is REFERENCE else kn
            return sum((m.sum(m.tanh(y) * w) for y, w in kinds), start=m.sum(args[places[0]] * 0.0))

        return loss

    loss, given = total(Names()), [kn.array(a) for a in program.arguments]

    def along(*args: Any) -> Any:
        return kn.jvp(loss, args, directions)[1]

    def slope(*args: Any) -> Any:
        return sum(kn.sum(g * directions[k]) for g, k in zip(kn.grad(loss, places)(*args), places) if g is not None)

    forward = float((kn.compile(along) if seed % 2 else along)(*given))
    if "stop_gradient" not in program.words:
        exact, coarse = (difference(total(REFERENCE), program.arguments, directions, h) for h in (1e-4, 2e-4))
        if abs(exact - coarse) < 1e-6:
            np.testing.assert_allclose(forward, exact, rtol=1e-4, atol=1e-4)
    if program.differentiable:
        np.testing.assert_allclose(float(slope(*given)), forward, rtol=1e-7, atol=1e-7)
        second = float(kn.jvp(along, given, directions)[1])
        np.testing.assert_allclose(float(kn.jvp(slope, given, directions)[1]), second, rtol=1e-6, atol=1e-6)


def difference(loss: Callable[..., Any], arguments: Any, directions: Any, h: float) -> float:
    def at(step: float) -> Any:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return loss(*(a if d is None else a + step * d for a, d in zip(arguments, directions)))

    return float((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))


CHECKS = (values, many, derivatives)


@pytest.mark.parametrize("seed", range(COUNT))
def test_random_programs(seed: int) -> None:
    program = random_program(seed, 7)
    try:
        CHECKS[seed % 3](program, seed)
    except Exception as error:
        error.add_note(f"{program.text}\n{[(a.dtype, a.shape) for a in program.arguments]}")
        raise


if __name__ == "__main__":
    kn.set_default(dtype="float64")
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        test_random_programs(number)
