"""``update``: one step of an optimizer, for a Param, an array, a container of them, or all Params of a tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knetc import lazy
from knetc.arrays import ArrayLike, array
from knetc.ops.arithmetic import square
from knetc.ops.logic import where
from knetc.ops.reduction import sum as total
from knetc.ops.transcendental import sqrt
from knetc.params import Param, params
from knetc.runtime.base.errors import ShapeError
from knetc.train.optimizers import SGD, Optimizer
from knetc.transforms import Tape, grad


def update(w: Any, g: Any = None, opt: Optimizer | None = None, **hyper: Any) -> Any:
    """Move parameters against their gradients, in place; returns ``w``.

    ``update(param, gradient)`` uses ``param.opt``, or ``SGD(lr=0.1)``. ``update(array, gradient, opt)`` moves an array.
    Lists, tuples and dicts take containers of gradients (and of optimizers). ``update(model, tape)`` moves every Param
    of the model that the tape has a gradient for. A gradient None changes nothing. Keywords change hyper-parameters
    of the optimizer first. Raises ValueError for containers of different lengths, ShapeError for a gradient of
    another shape.

    >>> w = kn.Param([1.0, 2.0, 3.0])
    >>> kn.update(w, [1, 1, 1], lr=0.1)  # P([0.9, 1.9, 2.9])
    """
    steps: list[tuple[ArrayLike, Any, Optimizer]] = []
    if isinstance(g, Tape):
        for p in [w] if isinstance(w, Param) else params(w):
            _collect(steps, p, grad(g, p), opt, hyper)
    else:
        _collect(steps, w, g, opt, hyper)
    step(steps)
    return w


def step(steps: Sequence[tuple[ArrayLike, Any, Optimizer]]) -> None:
    """Take several parameters' steps; outside of traces at once, as one program. If it fails nothing has changed."""
    if lazy.tracing():
        for w, g, opt in steps:
            opt.apply(w, g)
        return
    boxes = [box for w, _, opt in steps for box in (w, *opt.boxes())]
    lazy.realize_all(boxes)
    try:
        for w, g, opt in steps:
            opt.apply(w, g)
        lazy.realize_all(boxes)
    except BaseException:
        lazy.undo(boxes)
        raise


def _collect(steps: list[Any], w: Any, g: Any, opt: Any, hyper: dict[str, Any]) -> None:
    if isinstance(w, ArrayLike):
        if g is None:
            return
        chosen = optimizer_for(w, opt, hyper)
        g = as_like(g, w)
        if g.shape != w.shape:
            raise ShapeError(f"update: the gradient has shape {g.shape}, the parameter {w.shape}; they must be equal")
        steps.append((w, g, chosen))
    elif isinstance(w, dict):
        for key in g:
            _collect(steps, w[key], g[key], opt[key] if isinstance(opt, dict) else opt, hyper)
    elif isinstance(w, (list, tuple)):
        if len(w) != len(g) or (isinstance(opt, (list, tuple)) and len(opt) != len(w)):
            raise ValueError(f"update: {len(w)} parameters and {len(g)} gradients are not the same length")
        for k, item in enumerate(w):
            _collect(steps, item, g[k], opt[k] if isinstance(opt, (list, tuple)) else opt, hyper)
    else:
        raise TypeError(
            f"update moves Params, arrays and containers of them, not {type(w).__name__}; of a NumPy array make one "
            "with kn.array or kn.Param"
        )


def as_like(g: Any, w: ArrayLike) -> ArrayLike:
    """A gradient as an array of the parameter's dtype."""
    made = g if isinstance(g, ArrayLike) else array(g, w.dtype, device=w.device)
    return made if made.dtype == w.dtype else made.astype(w.dtype)


def optimizer_for(w: ArrayLike, opt: Optimizer | None, hyper: dict[str, Any]) -> Optimizer:
    """The optimizer that moves ``w``, with its state made."""
    if opt is None:
        opt = w.opt if isinstance(w, Param) and w.opt is not None else SGD()
    if hyper:
        opt.adopt(**hyper)
    if not lazy.tracing():
        opt.prepare(w.type, w.device)
    if isinstance(w, Param) and w.opt is not opt:
        w.opt = opt
    return opt


def clip_together(gradients: Sequence[Any], limit: Any) -> list[Any]:
    """All gradients scaled by one number, so that together their norm is at most ``limit``; None stays None."""
    norm = sqrt(sum(total(square(g)) for g in gradients if g is not None))
    scale = where(norm > limit, limit / norm, 1.0)
    return [None if g is None else g * scale for g in gradients]


__all__ = ["update"]
