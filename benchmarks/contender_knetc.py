"""knetc's side of the speed contest: each workload as a user of knetc would write it.

The contest's driver and its workloads (``contender.py``, ``workloads.py``) must be on PYTHONPATH. A maker is given the
input arrays and returns ``step(read=False)``, which does the whole work once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from contender import serve

import knetc as kn

Arrays = dict[str, np.ndarray]
Step = Callable[..., dict[str, Any] | None]


def forward(function: Callable[..., Any], name: str) -> Callable[[Arrays], Step]:
    """A function of all arrays with one result."""

    def make(arrays: Arrays) -> Step:
        compiled = kn.compile(function)
        inputs = [kn.array(x) for x in arrays.values()]

        def step(read: bool = False) -> dict[str, Any] | None:
            y = compiled(*inputs)
            return {name: np.asarray(y)} if read else None

        return step

    return make


def gradients(function: Callable[..., Any], wrt: tuple[str, ...], names: tuple[str, ...]) -> Callable[[Arrays], Step]:
    """Gradients of a scalar function of all arrays, by the arrays named in ``wrt``."""

    def make(arrays: Arrays) -> Step:
        values = {k: kn.Param(kn.array(v)) if k in wrt else kn.array(v) for k, v in arrays.items()}

        @kn.compile
        def backward(values: dict[str, Any]) -> list[Any]:
            tape = kn.diff(function, **values)
            return [kn.value(tape), *[kn.grad(tape, values[k]) for k in wrt]]

        def step(read: bool = False) -> dict[str, Any] | None:
            loss, *grads = backward(values)
            return {k: np.asarray(v) for k, v in zip((*names, "loss"), (*grads, loss))} if read else None

        return step

    return make


def training(
    loss: Callable[..., Any], data: tuple[str, ...], optimizer: Callable[[], Any], returns: str
) -> Callable[[Arrays], Step]:
    """One step of an optimizer: forward, backward and the update of every weight."""

    def make(arrays: Arrays) -> Step:
        weights = {k: kn.Param(kn.array(v), optimizer()) for k, v in arrays.items() if k not in data}
        batch = [kn.array(arrays[k]) for k in data]

        @kn.compile
        def train(*batch: Any) -> Any:
            tape = kn.diff(loss, *batch, **weights)
            for w in weights.values():
                kn.update(w, kn.grad(tape, w))
            return kn.value(tape)

        def step(read: bool = False) -> dict[str, Any] | None:
            value = train(*batch)
            return {"loss": np.asarray(value), returns: np.asarray(weights[returns])} if read else None

        return step

    return make


def gelu_bias(x: Any, w: Any, b: Any) -> Any:
    return kn.gelu(x * w + b, approximate="tanh")


def layernorm(x: Any, scale: Any, bias: Any, g: Any) -> Any:
    return kn.sum(kn.layernorm(x, scale, bias, eps=1e-5) * g)


def adam_update(arrays: Arrays) -> Step:
    w = kn.Param(kn.array(arrays["w"]), kn.Adam(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8))
    g = kn.array(arrays["g"])

    @kn.compile
    def update(g: Any) -> None:
        kn.update(w, g)

    def step(read: bool = False) -> dict[str, Any] | None:
        update(g)
        return {"w": np.asarray(w)} if read else None

    return step


def mlp_small(x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return kn.nll(kn.relu(x @ w1.T + b1) @ w2.T + b2, labels)


def mlp_large(x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    hidden = kn.relu(kn.relu(x @ w1.T + b1) @ w2.T + b2)
    return kn.nll(hidden @ w3.T + b3, labels)


MAKERS: dict[str, Callable[[Arrays], Step]] = {
    "dispatch": forward(lambda x: x + 1, "y"),
    "gelu_bias": forward(gelu_bias, "y"),
    "gelu_bias_grad": gradients(lambda x, w, b, g: kn.sum(gelu_bias(x, w, b) * g), ("x", "w", "b"), ("dx", "dw", "db")),
    "softmax_nll_grad": gradients(lambda scores, labels: kn.nll(scores, labels), ("scores",), ("dscores",)),
    "layernorm_grad": gradients(layernorm, ("x", "scale", "bias"), ("dx", "dscale", "dbias")),
    "adam_update": adam_update,
    "mlp_small": training(mlp_small, ("x", "labels"), lambda: kn.SGD(lr=0.1), "w1"),
    "mlp_large": training(mlp_large, ("x", "labels"), lambda: kn.Adam(lr=1e-3), "w1"),
}

if __name__ == "__main__":
    serve(MAKERS)
