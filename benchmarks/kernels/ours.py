"""knetc's side, through its public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from work import Arrays, serve

import knetc as kn

Step = Callable[[], Any]


def forward(function: Callable[..., Any]) -> Callable[[Arrays], Step]:
    def make(arrays: Arrays) -> Step:
        compiled, given = kn.compile(function), [kn.array(value) for value in arrays.values()]
        return lambda: (compiled(*given),)

    return make


def gradients(function: Callable[..., Any], count: int) -> Callable[[Arrays], Step]:
    """The gradients of a scalar function by its first ``count`` arguments."""

    def make(arrays: Arrays) -> Step:
        given = [kn.array(value) for value in arrays.values()]
        slopes = kn.compile(lambda *given: kn.grad(lambda moving: function(*moving, *given[count:]))(given[:count]))
        return lambda: slopes(*given)

    return make


def gelu_bias(x: Any, w: Any, b: Any) -> Any:
    return kn.gelu(x * w + b, approximate="tanh")


def adam_update(arrays: Arrays) -> Step:
    w, g = kn.Param(kn.array(arrays["w"]), kn.Adam()), kn.array(arrays["g"])
    step = kn.compile(lambda g: kn.update(w, g))

    def run() -> Any:
        step(g)
        return (kn.value(w),)

    return run


if __name__ == "__main__":
    serve(
        {
            "gelu_bias": forward(gelu_bias),
            "gelu_bias_grad": gradients(lambda x, w, b, g: kn.sum(gelu_bias(x, w, b) * g), 3),
            "softmax_nll_grad": gradients(lambda scores, labels: kn.nll(scores, labels), 1),
            "layernorm_grad": gradients(lambda x, w, b, g: kn.sum(kn.layernorm(x, w, b) * g), 3),
            "adam_update": adam_update,
            "copy": forward(lambda x: -x),  # as many bytes as a copy, and one operation for each element
        }
    )
