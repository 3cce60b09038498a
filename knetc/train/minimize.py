"""Training loops as iterators: each item is the loss before an update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from knetc import lazy
from knetc.compiler.captures import walk
from knetc.compiler.function import compile as compile_function
from knetc.compiler.function import python_function
from knetc.params import Param, params
from knetc.train.optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Momentum, Nesterov, Optimizer, Rmsprop
from knetc.train.update import clip_together, step
from knetc.transforms import diff, grad


class Step:
    """One step of training: calls the function, and moves what it used by its gradients."""

    def __init__(
        self, function: Callable[..., Any], optimizer: Optimizer, chosen: list[Param] | None, global_clip: float
    ) -> None:
        self.function = function
        self.optimizer = optimizer
        self.chosen = chosen
        self.global_clip = global_clip

    def __call__(self, *arguments: Any) -> Any:
        """The loss before the update; a function without Params gives its value."""
        tape = diff(self.function, *arguments)
        moved = params(tape) if self.chosen is None else self.chosen
        gradients = [grad(tape, p) for p in moved]
        loss = tape.value
        del tape
        if self.global_clip:
            gradients = clip_together(gradients, lazy.context().scalar(self, "global_clip"))
        moves = []
        for p, g in zip(moved, gradients):
            if g is not None:
                if p.opt is None:
                    p.opt = self.optimizer.clone()
                moves.append((p, g, p.opt))
        step(moves)
        return loss


class Minimize:
    """The iterator that ``minimize`` returns: its length is that of the data; it may be iterated again."""

    def __init__(
        self,
        function: Callable[..., Any],
        data: Iterable[Any],
        optimizer: Optimizer,
        chosen: Iterable[Param] | None,
        explicit: dict[str, Any],
        global_clip: float,
        compiled: bool,
    ) -> None:
        self.data = data
        self.optimizer = optimizer
        self.explicit = explicit
        self.moved = None if chosen is None else list(chosen)
        self.function = function
        step = Step(function, optimizer, self.moved, global_clip)
        self.step = compile_function(step) if compiled else step

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for p in reachable(self.function) if self.moved is None else self.moved:
            self.prepare(p)
        for item in self.data:
            yield self.step(*item) if isinstance(item, (tuple, list)) else self.step(item)

    def prepare(self, p: Param) -> None:
        """Give a Param an optimizer if it has none; explicit hyper-parameters change or replace the one it has."""
        if p.opt is None or (self.explicit and type(p.opt) is not type(self.optimizer)):
            p.opt = self.optimizer.clone()
        else:
            p.opt.adopt(**self.explicit)
            p.opt.prepare(p.type, p.device)


def reachable(function: Callable[..., Any]) -> list[Param]:
    """The Params that a function can use: of its closure, globals and attributes."""
    python, roots = python_function(function)
    return [place.value for place in walk(python, {}, roots).places.values() if isinstance(place.value, Param)]


def minimize(
    func: Callable[..., Any],
    data: Iterable[Any],
    optimizer: Optimizer | None = None,
    *,
    params: Iterable[Param] | None = None,
    global_clip: float = 0,
    compile: bool = True,
) -> Minimize:
    """An iterator that minimizes: for each ``args`` of ``data`` it takes a step, and gives the loss before it.

    A step calls ``func(*args)``, which returns a scalar, and moves every Param that it used (or those of ``params``)
    by the Param's own ``opt``; a Param without one gets a clone of ``optimizer`` (``Adam()`` by default). Items of
    ``data`` that are no tuples are passed as one argument. ``global_clip`` limits the norm of all gradients together.
    The step is compiled: ``func``'s Python code runs once for each signature; ``compile=False`` runs it every time.

    >>> for loss in kn.minimize(loss, kn.minibatch(x, y, 100), kn.Adam()):
    ...     print(loss)
    """
    return Minimize(func, data, Adam() if optimizer is None else optimizer, params, {}, global_clip, compile)


def minimize_(*args: Any, **kwargs: Any) -> None:
    """Iterate ``minimize(...)`` to its end."""
    for _ in minimize(*args, **kwargs):
        pass


def _training(kind: type[Any], name: str) -> tuple[Callable[..., Minimize], Callable[..., None]]:
    """``sgd`` and ``sgd_`` for ``SGD``, and their kin."""
    defaults = ", ".join(f"{k}={getattr(kind(), k)}" for k in kind().hyper)

    def iterator(
        func: Callable[..., Any],
        data: Iterable[Any],
        *,
        params: Iterable[Param] | None = None,
        global_clip: float = 0,
        compile: bool = True,
        **hyper: Any,
    ) -> Minimize:
        return Minimize(func, data, kind(**hyper), params, hyper, global_clip, compile)

    def consumer(*args: Any, **kwargs: Any) -> None:
        for _ in iterator(*args, **kwargs):
            pass

    iterator.__doc__ = f"""Minimize with {kind.__name__} ({defaults}): an iterator of the losses before each step.

    The keywords are {kind.__name__}'s hyper-parameters and those of ``minimize``. A Param that has an ``opt`` keeps it,
    with its state; hyper-parameters given here change it if it is a {kind.__name__}, and replace it if it is not.

    >>> kn.progress_(kn.{name}(loss, kn.minibatch(x, y, 100)))
    """
    consumer.__doc__ = f"""Iterate ``{name}(...)`` to its end."""
    for function, suffix in ((iterator, ""), (consumer, "_")):
        function.__name__ = function.__qualname__ = name + suffix
    return iterator, consumer


sgd, sgd_ = _training(SGD, "sgd")
momentum, momentum_ = _training(Momentum, "momentum")
nesterov, nesterov_ = _training(Nesterov, "nesterov")
adagrad, adagrad_ = _training(Adagrad, "adagrad")
rmsprop, rmsprop_ = _training(Rmsprop, "rmsprop")
adadelta, adadelta_ = _training(Adadelta, "adadelta")
adam, adam_ = _training(Adam, "adam")
adamw, adamw_ = _training(AdamW, "adamw")


__all__ = [
    "adadelta", "adadelta_", "adagrad", "adagrad_", "adam", "adam_", "adamw", "adamw_", "minimize", "minimize_",
    "momentum", "momentum_", "nesterov", "nesterov_", "rmsprop", "rmsprop_", "sgd", "sgd_",
]  # fmt: skip
