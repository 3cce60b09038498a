"""Training steps on a GPU, by knetc and by PyTorch (eager, ``torch.compile``, its mode ``max-autotune``), in turn.

Each step does all of its work: forward, backward, update. Losses after the same steps must agree.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import measure
import numpy as np

import knetc as kn

Step = Callable[..., Any]


@dataclass(frozen=True)
class Model:
    """A stack of layers of these widths with relu between them, cross-entropy, and an optimizer."""

    widths: tuple[int, ...]
    batch: int
    optimizer: str
    norm: bool = False
    """Whether a layer normalisation stands before each layer but the first."""


MODELS = {
    "mlp_small (784-64-10, batch 100, SGD)": Model((784, 64, 10), 100, "SGD"),
    "mlp_large (784-1024-1024-10, batch 256, Adam)": Model((784, 1024, 1024, 10), 256, "Adam"),
    "mlp_wide (4096 x 5, batch 8192, Adam)": Model((4096,) * 5 + (1000,), 8192, "Adam"),
    "norm_mlp (2048 x 5 with layernorm, batch 16384, Adam)": Model((2048,) * 5 + (1000,), 16384, "Adam", True),
}


def weights(model: Model) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    made: list[np.ndarray] = []
    for k, (inputs, outputs) in enumerate(zip(model.widths, model.widths[1:])):
        bound = np.sqrt(6 / (inputs + outputs))
        made += [random.uniform(-bound, bound, (outputs, inputs)), np.zeros(outputs)]
        if model.norm and k:
            made += [np.ones(inputs), np.zeros(inputs)]
    return [array.astype(np.float32) for array in made]


def data(model: Model) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    x = random.random((model.batch, model.widths[0]), dtype=np.float32)
    return x, random.integers(0, model.widths[-1], model.batch)


def forward(model: Model, x: Any, ws: list[Any], linear: Any, relu: Any, norm: Any) -> Any:
    """The scores; the same for both libraries, which bring their functions."""
    left = list(ws)
    for k in range(len(model.widths) - 1):
        w, b = left.pop(0), left.pop(0)
        if k:
            x = relu(x)
        if model.norm and k:
            x = norm(x, left.pop(0), left.pop(0))
        x = linear(x, w, b)
    return x


def ours(model: Model, dtype: str) -> tuple[Step, tuple[Any, ...]]:
    """A compiled step, and the batch that it is called with."""
    ws = [kn.param(w, dtype=dtype) for w in weights(model)]
    for w in ws:
        w.opt = kn.Adam(lr=1e-3) if model.optimizer == "Adam" else kn.SGD(lr=0.1)
    x, labels = (kn.array(a) for a in data(model))
    x = x.astype(dtype)

    @kn.compile
    def step(x: Any, labels: Any) -> Any:
        def loss() -> Any:
            scores = forward(model, x, ws, lambda x, w, b: x @ w.T + b, kn.relu, kn.layernorm)
            return kn.nll(scores.astype("float32"), labels)

        tape = kn.diff(loss)
        for w in ws:
            kn.update(w, kn.grad(tape, w))
        return kn.value(tape)

    return step, (x, labels)


def torchs(model: Model, dtype: str, mode: str) -> Step:
    torch = importlib.import_module("torch")
    functional = torch.nn.functional
    kind = getattr(torch, dtype)
    ws = [torch.tensor(w, device="cuda", dtype=kind, requires_grad=True) for w in weights(model)]
    x, labels = (torch.tensor(a, device="cuda") for a in data(model))
    x = x.to(kind)
    chosen = (
        torch.optim.Adam(ws, 1e-3, fused=True) if model.optimizer == "Adam" else torch.optim.SGD(ws, 0.1, fused=True)
    )

    def norm(x: Any, w: Any, b: Any) -> Any:
        return functional.layer_norm(x, (x.shape[-1],), w, b)

    def loss(x: Any, labels: Any) -> Any:
        scores = forward(model, x, ws, functional.linear, functional.relu, norm)
        return functional.cross_entropy(scores.float(), labels)

    if mode != "eager":
        loss = torch.compile(loss, **({"mode": "max-autotune"} if mode == "max-autotune" else {}))

    # what it does is timed in our stream, which its work must be put into
    stream = torch.cuda.ExternalStream(measure.gpu.stream)

    def step() -> Any:
        with torch.cuda.stream(stream):
            torch.compiler.cudagraph_mark_step_begin()
            chosen.zero_grad(set_to_none=True)
            value = loss(x, labels)
            value.backward()
            chosen.step()
            return value.detach()

    return step


def bound(step: Step, batch: tuple[Any, ...]) -> Step:
    """A step that takes no arguments."""
    return lambda: step(*batch)


def compared(model: Model, dtype: str, modes: Sequence[str], rounds: int, failures: list[str]) -> dict[str, float]:
    """The time of each contender's step in milliseconds; what fails is left out, and told."""
    makers: dict[str, Callable[[], Step]] = {"knetc": lambda: bound(*ours(model, dtype))}
    makers |= {mode: lambda mode=mode: torchs(model, dtype, mode) for mode in modes}  # type: ignore[misc]
    steps: dict[str, Step] = {}
    losses: dict[str, float] = {}
    for name, make in makers.items():
        try:
            step = make()
            losses[name] = [float(step()) for _ in range(3)][-1]
            steps[name] = step
        except Exception as error:
            failures.append(f"{name} in {dtype}: {''.join(traceback.format_exception(error))[-1500:]}")
    if losses and max(losses.values()) - min(losses.values()) > (0.02 if dtype == "float32" else 0.2) * max(
        losses.values()
    ):
        failures.append(f"the losses after three steps differ in {dtype}: {losses}")
    return measure.in_turn(steps, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names of what is to be measured")
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="*", default=["eager", "compile", "max-autotune"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=600, help="begin nothing after this time")
    options = parser.parse_args()
    print(f"{measure.use()}\n")
    kn.set_default(device="cuda")
    modes = options.modes if importlib.util.find_spec("torch") else []
    head = ("step", "dtype", "knetc µs", *(f"torch {mode} µs" for mode in modes), "best of torch / knetc")
    table = measure.Table(*head, seconds=options.seconds)
    # what max-autotune takes long for comes after all the rest, beside knetc once more
    for chosen in ([m for m in modes if m != "max-autotune"], [m for m in modes if m == "max-autotune"]):
        for name, model in MODELS.items() if chosen or not modes else ():
            for dtype in options.dtypes if options.only in name else ():
                if table.late:
                    table.row(name, dtype, "no time left")
                    continue
                with table.trying(name, dtype):
                    found = compared(model, dtype, chosen, options.rounds, table.failures)
                    best = min((found[k] for k in chosen if k in found), default=float("nan"))
                    times = [f"{1e3 * found[k]:.0f}" if k in found else "-" for k in ("knetc", *modes)]
                    table.row(name, dtype, *times, f"{best / found['knetc']:.2f}" if "knetc" in found else "-")
                kn.gc()
        if not modes:
            break
    table.close()


if __name__ == "__main__":
    main()
