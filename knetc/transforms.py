"""Differentiating users' functions: ``diff`` and its tapes, ``grad``, ``gradloss``."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any, overload

import numpy as np

from knetc import tapes
from knetc.arrays import Array, node_of, of_node
from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.lazy import Box
from knetc.ops.apply import WeakScalar, constant
from knetc.params import Param, params
from knetc.passes.differentiate import gradients
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DifferentiationError
from knetc.structure import attributes, children, map_leaves

_NOT_COPIED = (type, ModuleType, FunctionType, MethodType, functools.partial, set, frozenset)


class Tape:
    """What ``diff`` returns: a loss, and its gradients with respect to the Params and arrays that it was made from.

    ``value(tape)`` is the loss, ``grad(tape, x)`` a gradient, ``params(tape)`` the Params in the order of their first
    use. The first read of any of them computes them all.
    """

    def __init__(self, result: Any, variables: tapes.Variables) -> None:
        """Made while the differentiation is still under way, when values keep the nodes that they came from."""
        if isinstance(result, Param):
            result = of_node(node_of(result))
        self.value: Any = result
        self.params: list[Param] = [thing for thing in variables.objects.values() if isinstance(thing, Param)]
        self._things = list(variables.objects.values())  # what is found by identity must stay alive
        self._loss: Node | None = None
        self._gradients: dict[int, Any] = dict.fromkeys(variables.nodes)
        if isinstance(result, Box):
            self._loss = loss = node_of(result)
            check_loss(loss)
            for key, gradient in zip(variables.nodes, gradients(loss, list(variables.nodes.values()))):
                self._gradients[key] = None if gradient is None else of_node(gradient)
        elif not isinstance(result, (bool, int, float, WeakScalar, np.number)):
            raise DifferentiationError(
                f"Only scalar valued functions supported: the function returned {type(result).__name__}, not a "
                "scalar array; return the loss alone"
            )

    def gradient(self, x: Any) -> Any:
        """The gradient of the loss with respect to a Param, an argument, a handle made inside, or a container of them.

        None where the loss does not depend on it. Of a container and of an object that holds Params it has the same
        form: a copy whose items and attributes are gradients.
        """
        if id(x) in self._gradients:
            return self._gradients[id(x)]
        if not isinstance(x, Box):
            return map_leaves(self.gradient, x) if children(x) is not None else self._of_object(x)
        if self._loss is None or isinstance(x, Param):
            return None
        places = [place for place in (x.node, x.origin() if x.origin is not None else None) if place is not None]
        for result in gradients(self._loss, places):
            if result is not None:
                return of_node(result)
        return None

    def _of_object(self, x: Any) -> Any:
        """A copy of an object whose attributes are gradients; None for one that holds no Params."""
        if isinstance(x, _NOT_COPIED) or not params(x):
            return None
        made = self._gradients[id(x)] = copy.copy(x)  # found again by whoever refers to it
        self._things.append(x)
        for name, value in attributes(x):
            object.__setattr__(made, name, self.gradient(value))  # also where the class forbids it
        return made

    def __repr__(self) -> str:
        value = self.value
        if isinstance(value, Box):
            if value.owner is not None:
                return f"T({value.type})"
            value = value.item()  # type: ignore[attr-defined]
        return f"T({short_number(value)})"


def short_number(value: Any) -> str:
    """A number as Knet prints it: no trailing ``.0``, no more digits than the dtype has."""
    text = str(value)
    return text[:-2] if text.endswith(".0") else text


def check_loss(loss: Node) -> None:
    if loss.shape != ():
        raise DifferentiationError(
            f"Only scalar valued functions supported: the function returned {loss.type}; reduce it to one number, "
            "for example with mean or sum"
        )
    if not dtypes.is_float(loss.dtype):
        raise DifferentiationError(
            f"Only functions with a floating-point value can be differentiated: the function returned {loss.type}; "
            "compute the loss from float arrays"
        )


def as_variable(variables: tapes.Variables, value: Any, *, scalars: bool = False) -> Any:
    """An argument as the function sees it: a float array becomes a variable; everything else stays."""
    if isinstance(value, Box):
        if isinstance(value, Param) or not dtypes.is_float(value.type.dtype):
            return value
        return _variable(variables, value, node_of(value))
    if isinstance(value, np.ndarray):
        return _variable(variables, value, node_of(value)) if dtypes.is_float(value.dtype) else value
    if scalars and isinstance(value, WeakScalar):
        return _variable(variables, value, value.spread(ambient().dtype, ()))
    if scalars and isinstance(value, (int, float, np.floating)) and not isinstance(value, bool):
        dtype = value.dtype if isinstance(value, np.floating) else ambient().dtype
        return _variable(variables, value, constant(float(value), dtype))
    return value


def _variable(variables: tapes.Variables, value: Any, node: Node) -> Array:
    made = of_node(variables.add(value, node))
    variables.made.pop(id(made))  # it is the caller's, and not assigned to
    return made


def diff(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Tape:
    """Call a function, and return its scalar result together with all gradients, as a Tape.

    ``function(*args, **kwargs)`` must return a float array of shape (). Gradients are kept for the Params that it
    used and for the float arrays among its arguments (also within tuples, lists and dicts). ``training()`` is true
    while it runs. Raises DifferentiationError if the result is no floating-point scalar, or for an assignment to an
    array or Param inside.

    >>> x = kn.Param([1.0, 2.0, 3.0])
    >>> tape = kn.diff(lambda: kn.sum(x * x))  # T(14)
    >>> kn.grad(tape, x)  # [2, 4, 6]
    """
    with tapes.differentiating() as variables:
        arguments = [map_leaves(lambda leaf: as_variable(variables, leaf), argument) for argument in args]
        named = {k: map_leaves(lambda leaf: as_variable(variables, leaf), argument) for k, argument in kwargs.items()}
        return Tape(function(*arguments, **named), variables)


@overload
def grad(target: Tape, x: Any) -> Any: ...
@overload
def grad(target: Callable[..., Any], x: int | Sequence[int] = 0) -> Callable[..., Any]: ...
def grad(target: Any, x: Any = 0) -> Any:
    """The gradient of a tape's loss with respect to ``x``; or, of a function, the function that gives its gradient.

    ``grad(tape, x)``: ``x`` is a Param, an argument of the differentiated call, an array made inside, or a container
    of these; None where the loss does not depend on it. ``grad(f, argnum)`` takes what ``f`` takes and returns the
    derivative with respect to argument ``argnum`` (counted from 0), an array or a container of arrays of its form; of
    several arguments, ``grad(f, (0, 1))``, a tuple of these.

    >>> kn.grad(lambda x: kn.sum(x * x))(kn.array([1.0, 2.0, 3.0]))  # [2, 4, 6]
    """
    if isinstance(target, Tape):
        return target.gradient(x)
    function = _gradloss(target, x)
    return lambda *args, **kwargs: function(*args, **kwargs)[0]


def gradloss(function: Callable[..., Any], argnum: int | Sequence[int] = 0) -> Callable[..., tuple[Any, Any]]:
    """The function that gives both the gradient with respect to argument ``argnum`` and the loss, in this order.

    ``argnum`` is as for ``grad``.

    >>> kn.gradloss(lambda x: kn.sum(x * x))(kn.array([1.0, 2.0, 3.0]))  # ([2, 4, 6], 14)
    """
    return _gradloss(function, argnum)


def _gradloss(function: Callable[..., Any], argnum: int | Sequence[int]) -> Callable[..., tuple[Any, Any]]:
    wanted = (argnum,) if isinstance(argnum, int) else argnum
    if not callable(function) or not isinstance(wanted, (tuple, list)) or not all(isinstance(n, int) for n in wanted):
        raise TypeError(
            "grad takes a tape and what to differentiate by, or a function and the number of an argument (or several)"
        )

    def gradient_and_loss(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for place in wanted:
            if not -len(args) <= place < len(args):
                raise TypeError(f"grad: argument {place} was asked for, but the function was called with {len(args)}")
        with tapes.differentiating() as variables:
            arguments = list(args)
            for place in wanted:
                arguments[place] = map_leaves(lambda leaf: as_variable(variables, leaf, scalars=True), args[place])
            boxed = [arguments[place] for place in wanted]
            tape = Tape(function(*arguments, **kwargs), variables)
        found = [map_leaves(tape.gradient, item) for item in boxed]
        return found[0] if isinstance(argnum, int) else tuple(found), tape.value

    return gradient_and_loss


def training() -> bool:
    """Whether code is being differentiated (or training mode is set): dropout drops and moments move only then."""
    return ambient().training


__all__ = ["Tape", "diff", "grad", "gradloss", "training"]
