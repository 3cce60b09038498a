"""Compile time against the number of values in a graph: it should grow linearly, up to 10,000.

Seven kinds of graph: a chain of elementwise operations, the gradient of a chain of dear ones (tanh), a deep network
with its gradient, many small independent results, many results of one input, steps that shift what they work on, and
the rows of an array one by one. For each size it prints the processor's seconds of each stage and the milliseconds a
value; ``--profile KIND SIZE`` shows where the time of one goes.

    python benchmarks/compile_time.py [--sizes 100,1000,10000] [--kinds chain,dear,network,independent,…]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable

import numpy as np
from knetc.codegen.assemble import assemble
from knetc.codegen.cpu.backend import CpuBackend, build, compile_plain
from knetc.codegen.cpu.native import target

from knetc.ir.build import trace_function
from knetc.ir.node import Graph, Node
from knetc.ir.types import TensorType
from knetc.ops.activations import relu
from knetc.ops.indexed import take
from knetc.ops.linear import matmul
from knetc.ops.movement import concat_node, cut_node
from knetc.ops.rearrange import roll
from knetc.ops.reduction import mean
from knetc.ops.transcendental import exp, tanh
from knetc.passes.differentiate import gradients
from knetc.passes.simplify import simplify

F32 = np.dtype(np.float32)


def chain(size: int) -> Graph:
    """Elementwise operations, each on the result of the one before."""

    def function(x: Node) -> Node:
        y = x
        for k in range(size // 3):
            y = (y + x) * 0.5 if k % 8 else tanh(y)
        return y

    return trace_function(function, TensorType(F32, (1000,)))


def dear(size: int) -> Graph:
    """The gradient of a chain of hyperbolic tangents: about five values for each."""

    def function(x: Node) -> Node:
        y = x
        for _ in range(size // 5):
            y = tanh(y)
        return gradients(mean(y), [x])[0] or y

    return trace_function(function, TensorType(F32, (1000,)))


def network(size: int) -> Graph:
    """A deep network of square layers, its loss and all gradients: about 22 values a layer."""
    layers = max(1, size // 22)

    def function(x: Node, *weights: Node) -> list[Node]:
        h = x
        for k in range(layers):
            h = relu(matmul(h, weights[2 * k]) + weights[2 * k + 1])
        loss = mean(h * h)
        found = [g for g in gradients(loss, weights) if g is not None]
        return [loss, *(w - 0.1 * g for w, g in zip(weights, found, strict=True))]

    matrix, vector = TensorType(F32, (32, 32)), TensorType(F32, (32,))
    return trace_function(function, TensorType(F32, (16, 32)), *(layers * [matrix, vector]))


def independent(size: int) -> Graph:
    """Many results that have nothing to do with each other, each of about five values."""

    def function(*inputs: Node) -> list[Node]:
        return [mean(exp(x) * x + 1.0) for x in inputs]

    return trace_function(function, *(max(1, size // 7) * [TensorType(F32, (40,))]))


def siblings(size: int) -> Graph:
    """Many results of one input, and checked places in it."""

    def function(x: Node, places: Node) -> list[Node]:
        rows = [take(x, places + k) for k in range(size // 30)]
        return [*rows, *(mean(exp(x) * float(k)) for k in range(size // 8))]

    return trace_function(function, TensorType(F32, (4000,)), TensorType(np.dtype(np.int64), (4,)))


def neighbours(size: int) -> Graph:
    """Steps of a simulation on a ring, in which each element needs its neighbours: about ten values a step."""

    def function(x: Node) -> Node:
        for _ in range(size // 10):
            x = x + (roll(x, 1) + roll(x, -1) - 2.0 * x) * 0.1
        return x

    return trace_function(function, TensorType(F32, (64,)))


def rows(size: int) -> Graph:
    """A loop of Python over the rows of an array, each computed from the one before; all of them, and the gradient."""

    def function(x: Node) -> list[Node]:
        found = [tanh(cut_node(x, 0, 0, 1))]
        for k in range(1, size // 12):
            found.append(tanh(cut_node(x, 0, k, k + 1) + found[-1]))
        whole = concat_node(found, 0)
        return [whole, *(g for g in gradients(mean(whole * whole), [x]) if g is not None)]

    return trace_function(function, TensorType(F32, (max(2, size // 12), 64)))


KINDS: dict[str, Callable[[int], Graph]] = {
    "chain": chain,
    "dear": dear,
    "network": network,
    "independent": independent,
    "siblings": siblings,
    "neighbours": neighbours,
    "rows": rows,
}


def seconds(function: Callable[[], object]) -> tuple[float, object]:
    before = time.process_time()
    result = function()
    return time.process_time() - before, result


def measure(kind: str, size: int) -> None:
    tracing, graph = seconds(lambda: KINDS[kind](size))
    assert isinstance(graph, Graph)
    simplifying, simplified = seconds(lambda: simplify(graph))
    assert isinstance(simplified, Graph)
    machine = target()
    assembling, _ = seconds(lambda: assemble(simplified, CpuBackend(machine)))
    texts: dict[str, tuple[str, bytes]] = {}
    plain = compile_plain(machine)

    def compile_function(name: str, text: str) -> tuple[str, bytes]:
        if text not in texts:
            texts[text] = plain(name, text)
        return texts[text]

    both, built = seconds(lambda: build(simplified, machine, compile_function))
    kernels = len(built[1].steps)  # type: ignore[index]
    whole = tracing + simplifying + both
    count = len(graph.nodes)
    print(
        f"{kind:12} {count:6} values {kernels:5} kernels  trace {tracing:6.2f}  simplify {simplifying:6.2f}  fuse, "
        f"lower, plan {assembling:6.2f}  compile {both - assembling:6.2f} s   "
        f"{1e3 * whole / count:6.2f} ms a value",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="100,1000,3000,10000")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--profile", nargs=2, metavar=("KIND", "SIZE"))
    arguments = parser.parse_args()
    if arguments.profile:
        kind, size = arguments.profile
        with cProfile.Profile() as profile:
            measure(kind, int(size))
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
        return
    for kind in arguments.kinds.split(","):
        for size in map(int, arguments.sizes.split(",")):
            measure(kind, size)


if __name__ == "__main__":
    main()
