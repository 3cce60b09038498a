"""Optimizers: how a parameter moves against its gradient. Formulas and defaults are Knet's.

An optimizer object belongs to one parameter and holds its state (``prepare`` makes it, ``clone`` starts without any).
Its hyper-parameters may be changed between steps: programs read them at each call. ``lr`` may be a function of the
step, an array of shape () that counts from 1: ``lambda t: 0.1 / (1 + 0.01 * t)``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from knetc import lazy
from knetc.arrays import Array, ArrayLike, zeros_in_memory
from knetc.ir.types import TensorType
from knetc.ops.arithmetic import square
from knetc.ops.logic import where
from knetc.ops.reduction import sum as total
from knetc.ops.transcendental import sqrt
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError


class Optimizer:
    """What all optimizers share: learning rate, clipping, weight decay, and keeping state."""

    #: names of the arrays of state, each of the parameter's shape
    arrays: ClassVar[tuple[str, ...]] = ()
    #: whether the number of steps is part of the state
    counts: ClassVar[bool] = False
    #: whether weight decay is apart from the gradient (AdamW) instead of added to it
    decoupled: ClassVar[bool] = False

    lr: Any
    gclip: float
    weight_decay: float
    step: Array | None

    #: names of the hyper-parameters
    hyper: ClassVar[tuple[str, ...]] = ("lr", "gclip", "weight_decay")

    def __init__(self, lr: Any, gclip: float, weight_decay: float, **others: float) -> None:
        self.lr = lr
        self.gclip = gclip
        self.weight_decay = weight_decay
        for name, value in others.items():
            setattr(self, name, value)
        self.step = None
        for name in self.arrays:
            setattr(self, name, None)

    def clone(self) -> Self:
        """An optimizer with the same hyper-parameters and no state."""
        return type(self)(**{name: getattr(self, name) for name in self.hyper})

    def adopt(self, **hyper: Any) -> None:
        """Change hyper-parameters; raises TypeError for one that this optimizer does not have."""
        for name, value in hyper.items():
            if name not in self.hyper:
                raise TypeError(
                    f"{type(self).__name__} has no hyper-parameter {name!r}; it has {', '.join(self.hyper)}"
                )
            setattr(self, name, value)

    def prepare(self, type: TensorType, device: str = "cpu") -> None:
        """Make the state for a parameter of this type, zeros, unless it is there; of narrow floats it is float32."""
        type = type.with_dtype(dtypes.accumulator(type.dtype))
        if (self.counts or callable(self.lr)) and self.step is None:
            self.step = zeros_in_memory(TensorType(dtypes.i64, ()), device)
        for name in self.arrays:
            state = getattr(self, name)
            if state is None:
                setattr(self, name, zeros_in_memory(type, device))
            elif state.type != type:
                raise ShapeError(
                    f"this {self.__class__.__name__} holds state for a parameter of type {state.type}, not {type}; "
                    "give each parameter its own optimizer (opt.clone())"
                )

    def boxes(self) -> list[Array]:
        """The arrays of state that there are."""
        held = (self.step, *(getattr(self, name) for name in self.arrays))
        return [array for array in held if array is not None]

    def apply(self, w: ArrayLike, g: Any) -> None:
        """One step: writes ``w`` and the state. Narrow floats are moved in float32, then rounded."""
        wide = dtypes.accumulator(w.dtype)
        step = None
        if self.step is not None:
            self.step[...] = self.step + 1
            step = self.step.astype(dtypes.f64)
        lr = self.lr(step) if callable(self.lr) else self.number("lr")
        if isinstance(lr, ArrayLike):
            lr = lr.astype(wide)
        if g.dtype != wide:
            g = g.astype(wide)
        if self.gclip:
            g = clipped(g, self.number("gclip"))
        old = w.astype(wide)  # what the parameter is now, as an array: it is not differentiated
        if self.weight_decay:
            decay = self.number("weight_decay")
            if self.decoupled:
                old = old - lr * decay * old
            else:
                g = g + decay * old
        w[...] = self.moved(old, g, lr, step)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        """The parameter's new value; writes the state."""
        raise NotImplementedError

    def number(self, name: str) -> Any:
        """A hyper-parameter as a number that programs read at each call."""
        return lazy.context().scalar(self, name)

    def state(self, name: str, new: Any) -> Any:
        """Store a new value of an array of state, and return it."""
        getattr(self, name)[...] = new
        return new

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.hyper)
        return f"{type(self).__name__}({shown})"


def clipped(g: Any, limit: Any) -> Any:
    """``g`` scaled down to norm ``limit`` if it is longer."""
    norm = sqrt(total(square(g)))
    return g * where(norm > limit, limit / norm, 1.0)


class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= lr * g``.

    >>> kn.SGD(lr=0.1)
    """

    def __init__(self, *, lr: Any = 0.1, gclip: float = 0, weight_decay: float = 0) -> None:
        super().__init__(lr, gclip, weight_decay)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        return w - lr * g


class Momentum(Optimizer):
    """Momentum: ``v = gamma * v - lr * g``, then ``w += v``."""

    hyper = (*Optimizer.hyper, "gamma")
    arrays = ("velocity",)

    def __init__(self, *, lr: Any = 0.05, gclip: float = 0, gamma: float = 0.95, weight_decay: float = 0) -> None:
        super().__init__(lr, gclip, weight_decay, gamma=gamma)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        return w + self.state("velocity", self.number("gamma") * self.velocity - lr * g)  # type: ignore[attr-defined]


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient: ``v = gamma * v``, ``w -= v``, ``v -= lr * g``, ``w += (1 + gamma) * v``."""

    hyper = (*Optimizer.hyper, "gamma")
    arrays = ("velocity",)

    def __init__(self, *, lr: Any = 0.05, gclip: float = 0, gamma: float = 0.95, weight_decay: float = 0) -> None:
        super().__init__(lr, gclip, weight_decay, gamma=gamma)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        gamma = self.number("gamma")
        kept = gamma * self.velocity  # type: ignore[attr-defined]
        return w - kept + (1 + gamma) * self.state("velocity", kept - lr * g)


class Adagrad(Optimizer):
    """Adagrad: ``G += g * g``, then ``w -= lr * g / sqrt(G + eps)``."""

    hyper = (*Optimizer.hyper, "eps")
    arrays = ("G",)

    def __init__(self, *, lr: Any = 0.05, gclip: float = 0, eps: float = 1e-6, weight_decay: float = 0) -> None:
        super().__init__(lr, gclip, weight_decay, eps=eps)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        G = self.state("G", self.G + square(g))  # type: ignore[attr-defined]
        return w - lr * g / sqrt(G + self.number("eps"))


class Rmsprop(Optimizer):
    """RMSprop: ``G = rho * G + (1 - rho) * g * g``, then ``w -= lr * g / sqrt(G + eps)``."""

    hyper = (*Optimizer.hyper, "rho", "eps")
    arrays = ("G",)

    def __init__(
        self, *, lr: Any = 0.01, gclip: float = 0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0
    ) -> None:
        super().__init__(lr, gclip, weight_decay, rho=rho, eps=eps)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        rho = self.number("rho")
        G = self.state("G", rho * self.G + (1 - rho) * square(g))  # type: ignore[attr-defined]
        return w - lr * g / sqrt(G + self.number("eps"))


class Adadelta(Optimizer):
    """Adadelta: steps scaled by the running size of earlier steps, over that of the gradients."""

    hyper = (*Optimizer.hyper, "rho", "eps")
    arrays = ("G", "delta")

    def __init__(
        self, *, lr: Any = 1.0, gclip: float = 0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0
    ) -> None:
        super().__init__(lr, gclip, weight_decay, rho=rho, eps=eps)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        rho, eps = self.number("rho"), self.number("eps")
        G = self.state("G", rho * self.G + (1 - rho) * square(g))  # type: ignore[attr-defined]
        delta = self.delta.copy()  # type: ignore[attr-defined]
        dw = g * sqrt(delta + eps) / sqrt(G + eps)
        self.state("delta", rho * delta + (1 - rho) * square(dw))
        return w - lr * dw


class Adam(Optimizer):
    """Adam: moments ``m``, ``v`` of the gradient, corrected for their start, then ``w -= lr * m / (sqrt(v) + eps)``."""

    hyper = (*Optimizer.hyper, "beta1", "beta2", "eps")
    arrays = ("fstm", "scndm")
    counts = True

    def __init__(
        self,
        *,
        lr: Any = 0.001,
        gclip: float = 0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(lr, gclip, weight_decay, beta1=beta1, beta2=beta2, eps=eps)

    def moved(self, w: Any, g: Any, lr: Any, step: Any) -> Any:
        beta1, beta2 = self.number("beta1"), self.number("beta2")
        m = self.state("fstm", beta1 * self.fstm + (1 - beta1) * g)  # type: ignore[attr-defined]
        v = self.state("scndm", beta2 * self.scndm + (1 - beta2) * square(g))  # type: ignore[attr-defined]
        # the corrections are two numbers for the whole parameter, computed in double precision
        rate = (lr / (1 - beta1**step)).astype(w.dtype)
        scale = (1 / sqrt(1 - beta2**step)).astype(w.dtype)
        return w - rate * m / (sqrt(v) * scale + self.number("eps"))


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: ``w -= lr * weight_decay * w`` before the step."""

    decoupled = True

    def __init__(
        self,
        *,
        lr: Any = 0.001,
        gclip: float = 0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr=lr, gclip=gclip, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)


__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "Rmsprop"]
