"""``gcheck``: gradients against differences of the function's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from knetc.arrays import Array, ArrayLike, array
from knetc.ops.reduction import sum as total
from knetc.runtime.base import dtypes
from knetc.structure import leaves, map_leaves
from knetc.transforms import diff, grad


def gcheck(
    function: Callable[..., Any],
    *args: Any,
    kw: Mapping[str, Any] | None = None,
    nsample: int = 10,
    atol: float = 0.01,
    rtol: float = 0.05,
    delta: float = 0.0001,
    verbose: int = 1,
) -> bool:
    """Whether the gradients of ``function(*args, **kw)`` agree with differences of its values.

    They are checked for the Params that it uses and for the float arrays among its arguments (in containers too), up to
    the first that fails: every entry of small ones, ``nsample`` random entries of others. A result that is no scalar is
    summed. An entry passes if the two numbers differ by at most ``max(atol, rtol * the larger)``; ``delta`` is the
    step. ``verbose`` 0 prints nothing, 1 failures and that there was nothing to check, 2 all. float64 values allow
    tight tolerances.

    >>> kn.gcheck(lambda x: kn.tanh(x), np.array([0.1, 0.2]))
    True
    """
    named = dict(kw or {})

    def held(leaf: Any) -> Any:
        return array(leaf) if isinstance(leaf, np.ndarray) and dtypes.is_float(leaf.dtype) else leaf

    given = [map_leaves(held, argument) for argument in args]

    def loss(*arguments: Any) -> Any:
        result = function(*arguments, **named)
        return total(result) if isinstance(result, ArrayLike) and result.shape else result

    tape = diff(loss, *given)
    checked = [*tape.params, *(a for a in leaves(given) if isinstance(a, Array) and dtypes.is_float(a.dtype))]
    if verbose and not checked:
        print("gcheck: the function uses no Param and takes no float array: there is nothing to check")
    return all(_check(x, grad(tape, x), lambda: loss(*given), nsample, atol, rtol, delta, verbose) for x in checked)


def _check(
    x: ArrayLike,
    gradient: Any,
    loss: Callable[[], Any],
    nsample: int,
    atol: float,
    rtol: float,
    delta: float,
    verbose: int,
) -> bool:
    """Compare one array's gradient, entry by entry; the array is as before afterwards."""
    before = np.array(x)
    slopes = np.zeros_like(before) if gradient is None else gradient.numpy()
    places = np.arange(before.size)
    if before.size > nsample:
        places = np.random.default_rng(before.size).choice(before.size, nsample, replace=False)
    good = True
    try:
        for place in places:
            values = []
            for step in (delta, -delta):
                moved = before.copy()
                moved.flat[place] += step
                x[...] = moved
                values.append((float(loss()), float(moved.flat[place])))
            (high, right), (low, left) = values
            expected, found = (high - low) / (right - left), float(slopes.flat[place])
            passed = abs(expected - found) <= max(atol, rtol * max(abs(expected), abs(found)))
            good &= passed
            if verbose > 1 or (verbose and not passed):
                index = tuple(int(k) for k in np.unravel_index(place, before.shape))
                print(f"gcheck {'passed' if passed else 'FAILED'}: {x.type} at {index}: {found} against {expected}")
    finally:
        x[...] = before
    return good


__all__ = ["gcheck"]
