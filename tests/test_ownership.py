"""Arrays are values: whatever is written, viewed, held, dropped or differentiated, each handle keeps its numbers."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import knetc as kn

SIZE = 4
#: what may happen: an action, which handles it takes, and a number
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["add", "scale", "copy", "reshape", "slice", "assign", "assign_part", "places", "read", "drop", "view",
             "update", "param", "value", "tape", "mix"]
        ),
        st.integers(0, 5), st.integers(0, 5), st.integers(1, 3),
    ),
    min_size=5, max_size=30,
)  # fmt: skip


@settings(max_examples=60)
@given(STEPS)
def test_every_handle_keeps_its_own_numbers(steps: list[tuple[str, int, int, int]]) -> None:
    """Random programs over arrays and Params against copies in NumPy."""
    start = np.arange(1.0, SIZE + 1)
    pairs: list[tuple[Any, np.ndarray[Any, Any]]] = [(kn.array(start), start.copy())]
    views: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
    tapes: list[tuple[Any, Any, np.ndarray[Any, Any]]] = []
    for action, first, second, number in steps:
        x, n = pairs[first % len(pairs)]
        y, m = pairs[second % len(pairs)]
        match action:
            case "add":
                pairs.append((x + number, n + number))
            case "scale":
                pairs.append((x * 0.5, n * 0.5))
            case "mix":
                pairs.append((x - y, n - m))
            case "copy":
                pairs.append((x.copy(), n.copy()))
            case "reshape":
                pairs.append((x.reshape(2, 2).reshape(-1), n.copy()))
            case "slice":
                part = x[1:3]
                part[0] = number
                pairs.append((kn.concat([part, part]), np.array([number, n[2]] * 2)))
            case "assign":
                x[...] = y
                n[...] = m
            case "assign_part":
                x[number] = y[0] + number
                n[number] = m[0] + number
            case "places":  # what is written may be made from what it replaces
                where = np.array([number, first % SIZE, number])
                x[where] = x[where] + y[:3] * number
                n[where] = n[where] + m[:3] * number
            case "read":
                assert x.tolist() == n.tolist()
            case "view":
                views.append((np.asarray(x), n.copy()))
            case "drop":
                if len(pairs) > 1:
                    del pairs[first % len(pairs)]
            case "update":
                kn.update(x, y, kn.SGD(lr=0.5))
                n -= 0.5 * m
            case "param":
                pairs.append((kn.Param(kn.value(x)), n.copy()))
            case "value":
                pairs.append((kn.value(x), n if kn.value(x) is x else n.copy()))
            case "tape":
                p = kn.Param(kn.value(x))
                tapes.append((kn.diff(lambda p=p: kn.sum(p * p)), p, 2 * n))
                pairs.append((p, n.copy()))
        x = y = None
    gc.collect()
    for x, n in pairs:
        assert x.tolist() == n.tolist()
    for view, n in views:
        assert view.tolist() == n.tolist()
    for tape, p, n in tapes:
        assert kn.grad(tape, p).tolist() == n.tolist()
