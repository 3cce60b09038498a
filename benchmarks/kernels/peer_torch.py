"""PyTorch's side: eager, or with ``--compile`` through torch.compile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from work import Arrays, serve

torch.set_num_threads(len(os.sched_getaffinity(0)))


def built(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True) if "--compile" in sys.argv else function


def tensors(arrays: Arrays) -> list[Any]:
    return [torch.from_numpy(value.copy()) for value in arrays.values()]


def gelu_bias(x: Any, w: Any, b: Any) -> Any:
    return F.gelu(x * w + b, approximate="tanh")


def forward(arrays: Arrays) -> Callable[[], Any]:
    given, function = tensors(arrays), built(gelu_bias)

    def step() -> Any:
        with torch.no_grad():
            return (function(*given),)

    return step


def gradients(function: Callable[..., Any], count: int, *, weighted: bool) -> Callable[[Arrays], Callable[[], Any]]:
    def make(arrays: Arrays) -> Callable[[], Any]:
        given, run = tensors(arrays), built(function)
        moving = [value.requires_grad_(True) for value in given[:count]]
        rest, weights = (given[count:-1], given[-1]) if weighted else (given[count:], None)
        return lambda: torch.autograd.grad(run(*moving, *rest), moving, weights)

    return make


def adam_update(arrays: Arrays) -> Callable[[], Any]:
    w, g = tensors(arrays)
    w.requires_grad_(True)
    w.grad = g
    optimizer = torch.optim.Adam([w], lr=1e-3, fused=True)

    def step() -> Any:
        optimizer.step()
        return (w.detach(),)

    return step


serve(
    {
        "gelu_bias": forward,
        "gelu_bias_grad": gradients(gelu_bias, 3, weighted=True),
        "softmax_nll_grad": gradients(lambda s, y: F.cross_entropy(s, y.long()), 1, weighted=False),
        "layernorm_grad": gradients(lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b), 3, weighted=True),
        "adam_update": adam_update,
    }
)
