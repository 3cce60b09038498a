"""Each piece of the language on a GPU (a simulated one, and the machine's own) against the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import knetc as kn

A = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]])
B = np.arange(12.0).reshape(4, 3) / 7 - 0.6
PLACES = np.array([2, 0, 2])


def scan(x: Any) -> Any:
    return kn.scan(lambda total, row: (total * 0.5 + row, kn.tanh(total) * row), x[0], x)


def assigned(x: Any) -> Any:
    x = x.copy()
    x[1:3, ::2] = 7.0
    x[PLACES] = x[PLACES] * 2
    x[x < 0] = 0.25
    x[-1] += x[0]
    return x


def learned(x: Any) -> Any:
    w = kn.Param(x * 0.1, kn.Adam(lr=0.01))
    for _ in range(3):
        tape = kn.diff(lambda: kn.sum(kn.tanh(w @ w.T) ** 2))
        kn.update(w, kn.grad(tape, w))
    return w.value


def guarded(x: Any) -> Any:
    settings = {"power": 2, "scale": 0.5}

    @kn.compile
    def f(x: Any) -> Any:
        return settings["scale"] * x ** settings["power"]

    found = [f(x)]
    settings["power"] = 3  # compiled anew
    return [*found, f(x), f(x[:2]), f(x.astype("float32"))]


def checkpointed(x: Any) -> Any:
    block = kn.checkpoint(lambda x: kn.tanh(x @ x.T) @ x)
    return kn.grad(lambda x: kn.sum(block(block(x)) ** 2))(x)


def joined(x: Any) -> Any:
    """Parts at places that are aligned and that are not, an input, one that is read elsewhere, and the whole again."""
    rows = [kn.tanh(x[k % 4] + k) for k in range(9)]
    sums = kn.stack([kn.sum(row) * k for k, row in enumerate(rows)])
    whole = kn.concat([x, *[kn.exp(x[k % 4 : k % 4 + 2]) for k in range(9)], x @ x.T @ x])
    return [kn.stack(rows), sums, whole, rows[3] * 2, kn.concat([whole] * 9, axis=1), kn.sum(whole)]


CASES: dict[str, Callable[[Any], Any]] = {
    "many joined": kn.compile(joined),
    "gradient of many joined": kn.grad(lambda x: sum(kn.sum(part**2) for part in joined(x))),
    "scan": kn.compile(scan),
    "gradient of a scan": kn.grad(lambda x: sum(kn.sum(part) for part in scan(x))),
    "fori_loop": kn.compile(lambda x: kn.fori_loop(0, 5, lambda i, v: v * 0.9 + i * 0.1, x)),
    "while_loop": kn.compile(lambda x: kn.while_loop(lambda v: kn.sum(v * v) < 50, lambda v: v * 1.5, x)),
    "cond": kn.compile(lambda x: kn.cond(kn.sum(x) > 0, lambda v: v + 1, lambda v: v - 1, x)),
    "switch in a loop": kn.compile(
        lambda x: kn.fori_loop(0, 4, lambda i, v: kn.switch(i % 3, [kn.sin, kn.cos, lambda u: u / 2], v), x)
    ),
    "indexing": lambda x: [x[PLACES], x[..., None, 1], x[x > 0], x[::-1, 1:], kn.take(x, PLACES, axis=1)],
    "assigning at indices": assigned,
    "gradient of indexing": kn.grad(lambda x: kn.sum(x[PLACES] ** 2 * x[1])),
    "random numbers": lambda x: [x * kn.rand(4, 3), kn.dropout(x, 0.4, training=True), x + kn.randn(3)],
    "sorting": lambda x: [kn.sort(x, axis=0), kn.argsort(x[:, 1]), *kn.topk(x.ravel(), 3), kn.median(x, axis=1)],
    "gradient of sorting": kn.grad(lambda x: kn.sum(kn.sort(x, axis=0)[0] ** 2)),
    "linear algebra": lambda x: [
        kn.linalg.inv(x[:3] + kn.array(A)),
        kn.linalg.solve(kn.array(A), x.T),
        kn.linalg.cholesky(kn.array(A)),
        kn.linalg.eigvalsh(kn.array(A)),
        kn.linalg.det(kn.array(A)),
        kn.linalg.svd(x, compute_uv=False),
    ],
    "gradient of a solution": kn.grad(lambda x: kn.sum(kn.linalg.solve(kn.array(A), x.T) ** 2)),
    "cumulative": lambda x: [kn.cumsum(x, axis=0), kn.cumprod(x, axis=1), kn.logcumsumexp(x, axis=1)],
    "compiled with guards": guarded,
    "training": learned,
    "vmap": kn.vmap(lambda row: kn.softmax(row) * kn.sum(row)),
    "vmap of a gradient": kn.vmap(kn.grad(lambda row: kn.sum(kn.sin(row) ** 3))),
    "jacobian": lambda x: kn.jacobian(lambda v: kn.tanh(kn.array(A) @ v))(x[0]),
    "hessian": lambda x: kn.hessian(lambda v: kn.sum(v**3) * v[0])(x[1]),
    "checkpoint": checkpointed,
    "einsum": lambda x: kn.einsum("ij,kj->ik", x, x),
    "complement of types": lambda x: [
        x.astype(t) for t in ("float32", "float16", "bfloat16", "int32", "uint8", "bool")
    ],
}


def flat(found: Any) -> list[Any]:
    return [part for item in found for part in flat(item)] if isinstance(found, (list, tuple)) else [found]


@pytest.mark.parametrize("name", CASES)
def test_results_are_the_cpu_s(device: Any, name: str) -> None:
    def run(where: str) -> list[Any]:
        kn.seed(5)
        kn.set_default(device=where)
        try:
            return flat(CASES[name](kn.array(np.abs(B) if name == "complement of types" else B)))
        finally:
            kn.set_default(device="cpu")

    here, there = run("cpu"), run("cuda")
    assert {x.device for x in here} == {"cpu"} and {x.device for x in there} == {"cuda:0"}
    for x, y in zip(here, there, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        np.testing.assert_allclose(
            np.asarray(y).astype(np.float64), np.asarray(x).astype(np.float64), rtol=1e-5, atol=1e-6
        )
