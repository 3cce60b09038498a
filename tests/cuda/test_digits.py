"""The digits network learns on a simulated GPU what it learns on the CPU, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import knetc as kn


def learned(device: str, optimizer: str) -> tuple[list[float], list[np.ndarray]]:
    """The losses of some steps, and the parameters after them."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)

    def param(*shape: int) -> Any:
        return kn.param((random.standard_normal(shape) / 8).astype(np.float32), device=device)

    w1, b1, w2, b2 = param(32, 64), param(32), param(10, 32), param(10)

    def loss(x: Any, y: Any) -> Any:
        return kn.nll(kn.relu(x @ w1.T + b1) @ w2.T + b2, y)

    batches = [
        (
            kn.array((images[k : k + 50] / 16).astype(np.float32), device=device),
            kn.array(labels[k : k + 50], device=device),
        )
        for k in range(0, 200, 50)
    ]
    losses = [float(np.asarray(value)) for value in getattr(kn, optimizer)(loss, batches, lr=0.05)]
    return losses, [np.asarray(w) for w in (w1, b1, w2, b2)]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_digits(device: Any, optimizer: str) -> None:
    here, there = learned("cpu", optimizer), learned("cuda", optimizer)
    assert len(there[0]) == 4
    np.testing.assert_allclose(there[0], here[0], rtol=1e-4)
    for found, expected in zip(there[1], here[1]):
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
