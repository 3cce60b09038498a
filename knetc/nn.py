"""What models are built with: parameters and their first values, and losses over whole data sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

from knetc import lazy, random, tapes
from knetc.arrays import Array, ArrayLike, array
from knetc.creation import zeros
from knetc.ir.ambient import ambient, setting
from knetc.ir.types import Shape
from knetc.ops import losses
from knetc.ops.arithmetic import maximum
from knetc.ops.random import as_shape
from knetc.params import Param
from knetc.runtime.base.errors import ShapeError
from knetc.runtime.devices import canonical


def xavier_uniform(*shape: Any, gain: float = 1, dtype: Any = None) -> Array:
    """Uniform random weights in ± gain * sqrt(6 / (fanin + fanout)), after Glorot and Bengio (2010).

    A matrix is (fanout, fanin), a vector (fanin,); of more axes (O, I, …) the others multiply both.

    >>> kn.xavier_uniform(10, 784)
    """
    dims = as_shape(shape)
    bound = gain * math.sqrt(6 / sum(fans(dims)))
    return random.rand(dims, dtype=dtype) * (2 * bound) - bound  # type: ignore[no-any-return]


xavier = xavier_uniform


def xavier_normal(*shape: Any, gain: float = 1, dtype: Any = None) -> Array:
    """Normal random weights of standard deviation gain * sqrt(2 / (fanin + fanout)); see ``xavier_uniform``.

    >>> kn.xavier_normal(10, 784)
    """
    dims = as_shape(shape)
    return random.randn(dims, dtype=dtype) * (gain * math.sqrt(2 / sum(fans(dims))))  # type: ignore[no-any-return]


def gaussian(*shape: Any, mean: float = 0.0, std: float = 0.01, dtype: Any = None) -> Array:
    """Normal random numbers with the given mean and standard deviation.

    >>> kn.gaussian(10, 784, std=0.1)
    """
    return random.randn(as_shape(shape), dtype=dtype) * std + mean  # type: ignore[no-any-return]


def fans(shape: Shape) -> tuple[float, float]:
    """How many inputs and outputs a weight of this shape connects."""
    if not shape:
        raise ShapeError("weights need at least one dimension; use gaussian() for a number")
    if len(shape) == 1:
        return shape[0], 1
    size = math.prod(shape)
    return (size / shape[0], size / shape[1]) if size else (1, 1)


def param(
    *shape: Any, init: Callable[..., Any] = xavier_uniform, dtype: Any = None, device: str | None = None
) -> Param:
    """A Param: of the given numbers (``param(array)``), or of a shape, filled by ``init`` (``param(10, 784)``).

    Its dtype and device are the default ones unless ``dtype`` and ``device`` say else.

    >>> w = kn.param(10, 784)
    """
    wanted = ambient().dtype if dtype is None else dtype
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple)):
        return Param(array(shape[0], wanted, device=device))
    with nullcontext() if device is None else setting(device=canonical(device)):
        values = init(*as_shape(shape))
    return Param(values.astype(wanted) if isinstance(values, ArrayLike) else array(values, wanted, device=device))


def param0(*shape: Any, dtype: Any = None, device: str | None = None) -> Param:
    """A Param of zeros: ``param0(10)``.

    >>> b = kn.param0(10)
    """
    return param(*shape, init=zeros, dtype=dtype, device=device)


def _over_data(
    loss: Callable[..., Any], model: Callable[..., Any], data: Iterable[Any], axis: int, average: bool, options: Any
) -> Any:
    """A loss over all instances of a data set: each batch counts by its instances."""
    now = not (lazy.tracing() or tapes.innermost())  # a value for each batch: one program for all full batches
    total: Any = 0
    count: Any = 0
    for x, y in data:
        part, number = loss(model(x, **options), y, axis=axis, average=False)
        total, count = total + (part.item() if now else part), count + (number.item() if now else number)
    if not average:
        return total, count
    return total / max(count, 1) if now else total / maximum(count, 1)


def nll(
    scores: Any, labels: Any = None, *, data: Any = None, axis: int = -1, average: bool = True, **options: Any
) -> Any:
    """The negative log likelihood of labels: ``nll(scores, labels)``, or ``nll(model, data=pairs)`` over a data set.

    ``labels`` are integers of the shape of ``scores`` without the class axis; negative ones are skipped. The mean is
    over all that are not; ``average=False`` gives the total and the count. Over data, ``model(x, **options)`` gives the
    scores. Raises ShapeError, DtypeError, and, when it is computed, LabelError for a label of C or more.

    >>> kn.nll(kn.array([[1.0, 4.0], [2.0, 5.0]]), kn.array([1, 0]))  # 1.5485873
    """
    if data is not None or callable(scores):
        pairs = labels if data is None else data
        return _over_data(losses.nll, scores, pairs, axis, average, options)
    return losses.nll(scores, labels, axis=axis, average=average)


def accuracy(
    scores: Any, labels: Any = None, *, data: Any = None, axis: int = -1, average: bool = True, **options: Any
) -> Any:
    """The fraction of labels that are the class of the largest score; also ``accuracy(model, data=pairs)``.

    Negative labels are skipped. ``average=False`` gives how many were right and how many were counted.

    >>> kn.accuracy(kn.array([[1.0, 4.0], [2.0, 5.0]]), kn.array([1, 0]))  # 0.5
    """
    if data is not None or callable(scores):
        pairs = labels if data is None else data
        return _over_data(losses.accuracy, scores, pairs, axis, average, options)
    return losses.accuracy(scores, labels, axis=axis, average=average)


__all__ = ["accuracy", "gaussian", "nll", "param", "param0", "xavier", "xavier_normal", "xavier_uniform"]
