"""Random arrays: numbers from one 64-bit counter, so that a seed gives the same ones on every device, fused or not.

The distributions have NumPy's names and parameters. These may be numbers or arrays, which broadcast against each other;
``size`` is the shape of the result, by default that of the parameters. Gradients by parameters of place and scale go
through; by others (those of ``gamma`` and what is made of it, of ``poisson``, ``binomial`` …) there are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from knetc import lazy
from knetc.absent import DISTRIBUTIONS, message
from knetc.arrays import Array, ArrayLike, array
from knetc.control import while_loop
from knetc.creation import arange
from knetc.ir.ambient import ambient
from knetc.ir.types import Shape
from knetc.ops import random as _draws
from knetc.ops.apply import Operand, broadcast_shapes, common_dtype
from knetc.ops.arithmetic import absolute, floor, maximum, minimum, sign
from knetc.ops.identities import stop_gradient
from knetc.ops.indexed import take
from knetc.ops.linalg import cholesky
from knetc.ops.linear import matmul
from knetc.ops.logic import greater, greater_equal, less, logical_and, logical_not, logical_or, where
from knetc.ops.movement import broadcast_to, expand_dims, moveaxis, reshape
from knetc.ops.random import dropout
from knetc.ops.reduction import any, argmax, sum
from knetc.ops.scan import cumsum
from knetc.ops.sorting import argsort, searchsorted
from knetc.ops.special import lgamma
from knetc.ops.transcendental import exp, expm1, log, log1p, power, sqrt, tan
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError
from knetc.runtime.devices import canonical

Size = int | Sequence[int] | None


def _placed(made: Array, device: str | None) -> Array:
    lazy.context().place(made, None if device is None else canonical(device))
    return made


def rand(*shape: int | Sequence[int], dtype: Any = None, device: str | None = None) -> Array:
    """Uniform random numbers in [0, 1), of the default floating dtype or another, on the default device or another.

    >>> kn.rand(2, 3)  # shape (2, 3)
    """
    return _placed(_draws.rand(*shape, dtype=dtype), device)


def randn(*shape: int | Sequence[int], dtype: Any = None, device: str | None = None) -> Array:
    """Random numbers of the standard normal distribution, of the default floating dtype or another.

    >>> kn.randn(2, 3)  # shape (2, 3)
    """
    return _placed(_draws.randn(*shape, dtype=dtype), device)


def randint(low: int, high: int, shape: int | Sequence[int] = (), *, device: str | None = None) -> Array:
    """Random int64 numbers in ``low <= n < high``; raises ValueError for an empty range or one of 2**31 or more.

    >>> kn.randint(0, 10, (2, 3))  # shape (2, 3)
    """
    return _placed(_draws.randint(low, high, shape), device)


def seed(n: int) -> None:
    """Start the stream of random numbers at the place that belongs to ``n``: what follows repeats for equal seeds.

    >>> kn.seed(1)
    """
    lazy.stream.seed(int(n))


# --- what distributions share ----------------------------------------------------------------------------------------


def _shape(name: str, size: Size, *parameters: Operand) -> tuple[Shape, np.dtype[Any]]:
    """The shape of a draw, and its floating dtype: that of the parameters that are arrays, else the default one."""
    arrays = [p for p in parameters if isinstance(p, (ArrayLike, np.ndarray))]
    dtype = common_dtype(*arrays) if arrays else ambient().dtype
    dtype = dtype if dtypes.is_float(dtype) else ambient().dtype
    own = broadcast_shapes(name, *(p.shape for p in arrays))
    shape = own if size is None else _draws.as_shape((size,))
    if broadcast_shapes(name, own, shape) != shape:
        raise ShapeError(f"{name}: parameters of shape {own} do not fit into size {shape}")
    return shape, dtype


def _open(shape: Shape, dtype: np.dtype[Any]) -> Any:
    """Uniform numbers in (0, 1): the middles of the intervals that ``rand`` gives the beginnings of."""
    return rand(shape, dtype=dtype) + 2.0 ** -(dtypes.mantissa_bits(dtype) + 2)


def _accepted(draw: Callable[[], tuple[Any, Any]], done: Any, like: Any) -> Any:
    """What ``draw`` gives first where it also says that this is accepted; 0 where nothing is to be drawn."""

    def missing(state: tuple[Any, Any]) -> Any:
        return any(logical_not(state[1]))

    def step(state: tuple[Any, Any]) -> tuple[Any, Any]:
        value, ready = draw()
        return where(state[1], state[0], value), logical_or(state[1], ready)

    return while_loop(missing, step, (like * 0, done))[0]


# --- distributions of floats -----------------------------------------------------------------------------------------


def uniform(low: Operand = 0.0, high: Operand = 1.0, size: Size = None) -> Any:
    """Uniform random numbers from ``low`` up to, without, ``high``.

    >>> kn.random.uniform(-1.0, 1.0, (2, 3))  # shape (2, 3)
    """
    shape, dtype = _shape("uniform", size, low, high)
    return rand(shape, dtype=dtype) * (high - low) + low


def normal(loc: Operand = 0.0, scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of the normal distribution with mean ``loc`` and standard deviation ``scale``.

    >>> kn.random.normal(10.0, kn.array([0.1, 1.0]), (3, 2))  # shape (3, 2)
    """
    shape, dtype = _shape("normal", size, loc, scale)
    return randn(shape, dtype=dtype) * scale + loc


def lognormal(mean: Operand = 0.0, sigma: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers whose logarithms are of the normal distribution.

    >>> kn.random.lognormal(size=3)  # shape (3,)
    """
    return exp(normal(mean, sigma, size))


def exponential(scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of the exponential distribution with mean ``scale``.

    >>> kn.random.exponential(2.0, 3)  # shape (3,)
    """
    shape, dtype = _shape("exponential", size, scale)
    return -log(_open(shape, dtype)) * scale


def laplace(loc: Operand = 0.0, scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of Laplace's distribution: two exponential ones back to back.

    >>> kn.random.laplace(size=3)  # shape (3,)
    """
    shape, dtype = _shape("laplace", size, loc, scale)
    u = _open(shape, dtype) * 2 - 1
    return -sign(u) * log1p(-absolute(u)) * scale + loc


def logistic(loc: Operand = 0.0, scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of the logistic distribution, whose probabilities are ``sigmoid((x - loc) / scale)``.

    >>> kn.random.logistic(size=3)  # shape (3,)
    """
    shape, dtype = _shape("logistic", size, loc, scale)
    u = _open(shape, dtype)
    return (log(u) - log1p(-u)) * scale + loc


def gumbel(loc: Operand = 0.0, scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of Gumbel's distribution of greatest values.

    >>> kn.random.gumbel(size=3)  # shape (3,)
    """
    shape, dtype = _shape("gumbel", size, loc, scale)
    return -log(-log(_open(shape, dtype))) * scale + loc


def cauchy(loc: Operand = 0.0, scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of Cauchy's distribution.

    >>> kn.random.cauchy(size=3)  # shape (3,)
    """
    shape, dtype = _shape("cauchy", size, loc, scale)
    return tan((_open(shape, dtype) - 0.5) * math.pi) * scale + loc


def rayleigh(scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of Rayleigh's distribution: lengths of vectors of two normal numbers.

    >>> kn.random.rayleigh(size=3)  # shape (3,)
    """
    shape, dtype = _shape("rayleigh", size, scale)
    return sqrt(log(_open(shape, dtype)) * -2) * scale


def weibull(a: Operand, size: Size = None) -> Any:
    """Random numbers of Weibull's distribution of shape ``a`` and scale 1.

    >>> kn.random.weibull(2.0, 3)  # shape (3,)
    """
    shape, dtype = _shape("weibull", size, a)
    return power(-log(_open(shape, dtype)), 1 / a)


def pareto(a: Operand, size: Size = None) -> Any:
    """Random numbers of Lomax' distribution of shape ``a`` (as NumPy's ``pareto``; add 1 for the classical one).

    >>> kn.random.pareto(2.0, 3)  # shape (3,)
    """
    shape, dtype = _shape("pareto", size, a)
    return expm1(-log(_open(shape, dtype)) / a)


# --- gamma and what is made of it ------------------------------------------------------------------------------------


def gamma(shape: Operand, scale: Operand = 1.0, size: Size = None) -> Any:
    """Random numbers of the gamma distribution of ``shape`` (above 0, else NaN) and ``scale``.

    There is no gradient by ``shape``. By Marsaglia's and Tsang's method, in a loop that goes on until all are accepted.

    >>> kn.random.gamma(2.0, 1.5, size=3)  # shape (3,)
    """
    extents, dtype = _shape("gamma", size, shape, scale)
    a = broadcast_to(stop_gradient(array(shape, dtype)), extents)
    possible = greater(a, 0)
    raised = where(less(a, 1), a + 1, where(possible, a, 1))  # shapes below 1 are made of those above
    d = raised - 1 / 3
    c = 1 / sqrt(d * 9)

    def draw() -> tuple[Any, Any]:
        x = randn(extents, dtype=dtype)
        v = power(c * x + 1, 3)
        inside = greater(v, 0)
        v = where(inside, v, 1)
        return d * v, logical_and(inside, less(log(_open(extents, dtype)), x * x * 0.5 + d - d * v + d * log(v)))

    value = _accepted(draw, logical_not(possible), d)
    small = logical_and(possible, less(a, 1))
    value = value * where(small, power(_open(extents, dtype), 1 / where(small, a, 1)), 1)
    return where(possible, stop_gradient(value), math.nan) * scale


def beta(a: Operand, b: Operand, size: Size = None) -> Any:
    """Random numbers of the beta distribution.

    >>> kn.random.beta(2.0, 3.0, 4)  # shape (4,)
    """
    shape, dtype = _shape("beta", size, a, b)
    x = gamma(broadcast_to(array(a, dtype), shape))
    return x / (x + gamma(broadcast_to(array(b, dtype), shape)))


def chisquare(df: Operand, size: Size = None) -> Any:
    """Random numbers of the chi-square distribution: sums of ``df`` squares of normal numbers.

    >>> kn.random.chisquare(3.0, 4)  # shape (4,)
    """
    return gamma(df * 0.5, 2.0, size)


def standard_t(df: Operand, size: Size = None) -> Any:
    """Random numbers of Student's t distribution with ``df`` degrees of freedom.

    >>> kn.random.standard_t(3.0, 4)  # shape (4,)
    """
    shape, dtype = _shape("standard_t", size, df)
    return randn(shape, dtype=dtype) * sqrt(df / chisquare(broadcast_to(array(df, dtype), shape)))


def dirichlet(alpha: Operand, size: Size = None) -> Any:
    """Random vectors of shares that add up to 1, of Dirichlet's distribution; ``alpha`` [..., K] gives the result's K.

    >>> kn.random.dirichlet(kn.ones(3), 5)  # shape (5, 3)
    """
    given = array(alpha)
    outer = given.shape[:-1] if size is None else _draws.as_shape((size,))
    made = gamma(broadcast_to(given, (*outer, given.shape[-1])))
    return made / sum(made, -1, keepdims=True)


def multivariate_normal(mean: Operand, cov: Operand, size: Size = None) -> Any:
    """Random vectors of the normal distribution with a ``mean`` [N] and covariances [N, N], positive definite.

    Raises LinAlgError, when it is computed, for other matrices.

    >>> kn.random.multivariate_normal(kn.zeros(2), kn.eye(2), 5)  # shape (5, 2)
    """
    shape, dtype = _shape("multivariate_normal", None, mean, cov[0])
    outer = () if size is None else _draws.as_shape((size,))
    drawn = randn((*outer, shape[-1]), dtype=dtype)
    return matmul(drawn, cholesky(cov).mT) + mean


# --- distributions of integers ---------------------------------------------------------------------------------------


def bernoulli(p: Operand = 0.5, size: Size = None) -> Any:
    """Random bools, True with probability ``p``.

    >>> kn.random.bernoulli(0.25, 3)  # shape (3,)
    """
    shape, dtype = _shape("bernoulli", size, p)
    return less(rand(shape, dtype=dtype), p)


def rademacher(size: Size = ()) -> Any:
    """Random numbers -1 and 1 (int64), one as often as the other.

    >>> kn.random.rademacher(3)  # shape (3,)
    """
    return randint(0, 2, _draws.as_shape((size,))) * 2 - 1


def geometric(p: Operand, size: Size = None) -> Any:
    """How many trials (int64) it takes until the first succeeds, each with probability ``p``.

    >>> kn.random.geometric(0.5, 3)  # shape (3,)
    """
    shape, _ = _shape("geometric", size, p)
    chance = array(p, "float64")
    steps = floor(log(_open(shape, dtypes.f64)) / log1p(-chance)) + 1
    return where(greater_equal(chance, 1), 1.0, steps).astype("int64")


def _counted(shape: Shape, first: Any, ratio: Any, most: Any) -> Any:
    """Counts k with probabilities first, first ratio(0), first ratio(0) ratio(1) …: how many it takes to reach u."""
    u = _open(shape, dtypes.f64)

    def missing(state: tuple[Any, ...]) -> Any:
        k, _, total = state
        return any(logical_and(greater(u, total), less(k, most)))

    def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
        k, term, total = state
        more = logical_and(greater(u, total), less(k, most))
        following = term * ratio(k)
        return where(more, k + 1, k), where(more, following, term), where(more, total + following, total)

    first = broadcast_to(first, shape)
    return while_loop(missing, step, (first * 0, first, first))[0]


def poisson(lam: Operand = 1.0, size: Size = None) -> Any:
    """Random counts (int64) of Poisson's distribution with mean ``lam``; none for a negative one or NaN: -1.

    Small means by counting up, others by Hoermann's transformed rejection.

    >>> kn.random.poisson(3.0, 4)  # shape (4,)
    """
    shape, _ = _shape("poisson", size, lam)
    mean = broadcast_to(array(lam, "float64"), shape)
    large = greater_equal(mean, 10)
    few = where(large, 1.0, where(greater_equal(mean, 0), mean, 0))
    low = _counted(shape, exp(-few), lambda k: few / (k + 1), 200.0)
    many = where(large, mean, 100.0)
    b = sqrt(many) * 2.53 + 0.931
    a = b * 0.02483 - 0.059
    ceiling = 1.1239 + 1.1328 / (b - 3.4)

    def draw() -> tuple[Any, Any]:
        u, v = _open(shape, dtypes.f64) - 0.5, _open(shape, dtypes.f64)
        rest = 0.5 - absolute(u)
        k = floor((a * 2 / rest + b) * u + many + 0.43)
        inner = logical_and(greater_equal(rest, 0.07), less(v, 0.9277 - 3.6224 / (b - 2)))
        count = maximum(k, 0)
        exact = less(log(v * ceiling / (a / (rest * rest) + b)), count * log(many) - many - lgamma(count + 1))
        return count, logical_and(greater_equal(k, 0), logical_or(inner, exact))

    found = where(large, _accepted(draw, logical_not(large), many), low)
    return where(greater_equal(mean, 0), found, -1).astype("int64")


def binomial(n: Operand, p: Operand, size: Size = None) -> Any:
    """Random counts (int64) of successes among ``n`` trials, each with probability ``p``.

    Small means by counting up, others by Hoermann's transformed rejection.

    >>> kn.random.binomial(10, 0.5, 4)  # shape (4,)
    """
    shape, _ = _shape("binomial", size, n, p)
    trials = broadcast_to(array(n, "float64"), shape)
    given = broadcast_to(array(p, "float64"), shape)
    turned = greater(given, 0.5)
    chance = where(turned, 1 - given, given)
    odds = chance / (1 - chance)
    large = greater_equal(trials * chance, 10)
    few, small = where(large, 1.0, trials), where(large, 0.0, chance)
    low = _counted(shape, power(1 - small, few), lambda k: (few - k) / (k + 1) * (small / (1 - small)), few)
    many, q = where(large, trials, 100.0), where(large, chance, 0.5)
    deviation = sqrt(many * q * (1 - q))
    b = deviation * 2.53 + 1.15
    a = b * 0.0248 - 0.0873 + q * 0.01
    ceiling = (2.83 + 5.1 / b) * deviation
    middle = floor((many + 1) * q)
    top = lgamma(middle + 1) + lgamma(many - middle + 1)

    def draw() -> tuple[Any, Any]:
        u, v = _open(shape, dtypes.f64) - 0.5, _open(shape, dtypes.f64)
        rest = 0.5 - absolute(u)
        k = floor((a * 2 / rest + b) * u + many * q + 0.5)
        possible = logical_and(greater_equal(k, 0), greater_equal(many, k))
        count = minimum(maximum(k, 0), many)
        inner = logical_and(greater_equal(rest, 0.07), less(v, 0.92 - 4.2 / b))
        bound = top - lgamma(count + 1) - lgamma(many - count + 1) + (count - middle) * log(where(large, odds, 1.0))
        exact = less(log(v * ceiling / (a / (rest * rest) + b)), bound)
        return count, logical_and(possible, logical_or(inner, exact))

    found = where(large, _accepted(draw, logical_not(large), many), low)
    return where(turned, trials - found, found).astype("int64")


# --- choices ---------------------------------------------------------------------------------------------------------


def categorical(logits: Operand, axis: int = -1, size: Size = None) -> Any:
    """Random places (int64) along an axis, with probabilities ``softmax(logits)`` along it.

    ``size`` is the shape of the result; its last extents are those of the other axes.

    >>> kn.random.categorical(kn.array([0.0, 0.0, -kn.inf]), size=4)  # shape (4,)
    """
    scores = array(logits)
    noise: Size = scores.shape
    if size is not None:
        scores = expand_dims(moveaxis(scores, axis, -1), 0)
        outer = _draws.as_shape((size,))
        inner = scores.shape[1:-1]
        if outer[len(outer) - len(inner) :] != inner:
            raise ShapeError(f"categorical: size {outer} does not end with {inner}, the extents of the other axes")
        noise, axis = (math.prod(outer[: len(outer) - len(inner)]), *inner, scores.shape[-1]), -1
        return reshape(argmax(stop_gradient(scores) + gumbel(size=noise), -1), outer)
    return argmax(stop_gradient(scores) + gumbel(size=noise), axis)


def permutation(x: Operand, axis: int = 0) -> Any:
    """The parts of ``x`` along an axis in random order; of an int n the numbers 0 to n - 1.

    >>> kn.random.permutation(5)  # shape (5,)
    """
    given = arange(x) if isinstance(x, int) else array(x)
    return take(given, argsort(rand(given.shape[axis], dtype="float64")), axis)


def choice(a: Operand, size: Size = (), replace: bool = True, p: Operand = None, axis: int = 0) -> Any:
    """Random parts of ``a`` along an axis (of the numbers below an int), with probabilities ``p`` or equal ones.

    Without ``replace`` no part is taken twice; raises ShapeError if more are asked for than there are.

    >>> kn.random.choice(10, 3, replace=False)  # shape (3,)
    """
    given = arange(a) if isinstance(a, int) else array(a)
    count, shape = given.shape[axis], _draws.as_shape((size,))
    total = math.prod(shape)
    if not replace:
        if total > count:
            raise ShapeError(f"choice: {total} different parts of {count}; use replace=True")
        keys = rand(count, dtype="float64") if p is None else -gumbel(log(array(p, "float64")))  # the greatest first
        places = argsort(keys)[:total]
    elif p is None:
        places = randint(0, count, total)
    else:
        bounds = cumsum(array(p, "float64"))
        places = minimum(searchsorted(bounds, rand(total, dtype="float64") * bounds[-1], "right"), count - 1)
    return take(given, reshape(places, shape), axis)


if not TYPE_CHECKING:  # type checkers know what there is

    def __getattr__(name: str) -> NoReturn:
        raise AttributeError(message("kn.random", name, __all__, DISTRIBUTIONS))


__all__ = [
    "bernoulli", "beta", "binomial", "categorical", "cauchy", "chisquare", "choice", "dirichlet", "dropout",
    "exponential", "gamma", "geometric", "gumbel", "laplace", "logistic", "lognormal", "multivariate_normal", "normal",
    "pareto", "permutation", "poisson", "rademacher", "rand", "randint", "randn", "rayleigh", "seed", "standard_t",
    "uniform", "weibull",
]  # fmt: skip
