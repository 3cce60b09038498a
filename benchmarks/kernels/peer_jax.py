"""JAX's side: each step is one jitted function; the optimizer's state is donated."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import jax.numpy as jnp
from work import Arrays, serve


def gelu_bias(x: Any, w: Any, b: Any) -> Any:
    return jax.nn.gelu(x * w + b, approximate=True)


def layernorm(x: Any, w: Any, b: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * w + b


def nll(scores: Any, labels: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=-1).mean()


def forward(arrays: Arrays) -> Callable[[], Any]:
    given, run = [jnp.asarray(value) for value in arrays.values()], jax.jit(gelu_bias)
    return lambda: (run(*given).block_until_ready(),)


def gradients(function: Callable[..., Any], count: int) -> Callable[[Arrays], Callable[[], Any]]:
    def make(arrays: Arrays) -> Callable[[], Any]:
        given = [jnp.asarray(value) for value in arrays.values()]
        run = jax.jit(jax.grad(function, tuple(range(count))))
        return lambda: jax.block_until_ready(run(*given))

    return make


def adam_update(arrays: Arrays) -> Callable[[], Any]:
    def update(w: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
        t = t + 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return w - 1e-3 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v, t

    w, g = (jnp.asarray(value) for value in arrays.values())
    state = (jnp.array(w), jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros((), jnp.float32))
    run = jax.jit(update, donate_argnums=(0, 1, 2, 3))

    def step() -> Any:
        nonlocal state
        state = jax.block_until_ready(run(*state, g))
        return (state[0],)

    return step


serve(
    {
        "gelu_bias": forward,
        "gelu_bias_grad": gradients(lambda x, w, b, g: (gelu_bias(x, w, b) * g).sum(), 3),
        "softmax_nll_grad": gradients(nll, 1),
        "layernorm_grad": gradients(lambda x, w, b, g: (layernorm(x, w, b) * g).sum(), 3),
        "adam_update": adam_update,
    }
)
