"""Functions with gradients of the user's own: ``primitive`` and ``zerograd``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from itertools import count
from typing import Any, TypeVar

import numpy as np

from knetc.arrays import Array, ArrayLike, node_of, of_node, to_numpy
from knetc.host_guard import HostGuard
from knetc.ir.node import Node
from knetc.ir.record import recorder, recording
from knetc.ir.types import Shape, TensorType
from knetc.lazy import Context
from knetc.memory import check_dtype
from knetc.ops.apply import WeakScalar, broadcast_node, cast_node, constant, record_sum, reshape_node, to_nodes
from knetc.ops.host import by_rule, host_call
from knetc.ops.identities import stop_gradient
from knetc.runtime.base.errors import DifferentiationError, HostCallError, ShapeError
from knetc.runtime.base.host_functions import register
from knetc.structure import map_leaves

F = TypeVar("F", bound=Callable[..., Any])
Gradient = Callable[..., Any]
Rule = Callable[..., Any]

_calls = count(1)
_names = count(1)


def primitive(
    *gradients: Gradient | None, host: bool = False, result: Rule | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function with its own gradient: one function for each positional argument, in their order.

    A gradient is called as ``g(dy, y, *args, **kwargs)`` with the derivative by the result, the result and the
    function's arguments; what it returns is the derivative by its argument, and is summed over axes along which that
    was broadcast. None in place of a gradient is zero; where an argument has none, differentiating by it raises
    DifferentiationError. Gradients written with knetc functions can be differentiated again. For a function that
    returns a tuple, ``dy`` and ``y`` are tuples.

    With ``host=True`` the function works on NumPy arrays and is opaque: it runs in Python wherever a program needs its
    value, also inside compiled functions, on copies of its arguments. Arrays are given by position; numbers, strings
    and other arguments must be hashable and are fixed when it is traced (a number that changes had better be an
    array). Calls are not merged, and one whose value nothing needs is not made. Its results' shapes and dtypes depend
    on those of its arguments alone: ``result(*arrays, **kwargs)`` says them, by anything that has a shape and a dtype;
    without it the function is called on zeros, once for each new combination. It cannot use knetc arrays
    (HostCallError); what it raises comes out of the program, before any Param was changed.

    >>> @primitive(lambda dy, y, x: dy * kn.cos(x))
    ... def sine(x):
    ...     return kn.sin(x)
    >>> @primitive(lambda dy, y, x: dy * kn.cos(x), host=True)
    ... def numpy_sine(x):
    ...     return np.sin(x)
    """
    for gradient in gradients:
        if gradient is not None and not callable(gradient):
            raise TypeError(f"primitive takes one gradient function (or None) for each argument, not {gradient!r}")
    if result is not None and not host:
        raise TypeError("primitive: result= says what a NumPy function returns; it needs host=True")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        evaluate = _Opaque(function, result) if host else function

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return _differentiated(function, evaluate(*args, **kwargs), gradients, args, kwargs)

        return wrapper

    return decorate


def zerograd(function: F | None = None, /, *, host: bool = False, result: Rule | None = None) -> Any:
    """Decorate a function whose gradient is zero: its results are constants for differentiation.

    ``host`` and ``result`` are those of ``primitive``, for functions over NumPy arrays.

    >>> @zerograd
    ... def steps(x):
    ...     return kn.floor(x)
    """
    if function is None:
        return lambda decorated: zerograd(decorated, host=host, result=result)
    evaluate: Callable[..., Any] = _Opaque(function, result) if host else function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return map_leaves(
            lambda leaf: stop_gradient(leaf) if isinstance(leaf, (ArrayLike, Node)) else leaf, evaluate(*args, **kwargs)
        )

    return wrapper


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function in messages."""
    return str(getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or function)


# --- functions over NumPy arrays -------------------------------------------------------------------------------------


def _is_array(value: Any) -> bool:
    return isinstance(value, (ArrayLike, np.ndarray, np.generic, Node))


def _fixed(value: Any) -> Any:
    """A number of a traced function as a constant of its trace; anything else as it is."""
    if not isinstance(value, WeakScalar):
        return value
    kind: Any = value.__class__  # bool, int or float
    return kind(value)


class _Opaque:
    """A function over NumPy arrays as one over Arrays: each call becomes a node that calls it when programs run."""

    def __init__(self, function: Callable[..., Any], result: Rule | None) -> None:
        self.function = function
        self.result = result
        self.name = name_of(function)
        self.known: dict[Hashable, tuple[str, list[TensorType], bool]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        nodes = [to_nodes(value)[0] for value in args if _is_array(value)]
        # What is no array is part of the function, as keyword arguments are.
        fixed = tuple(None if _is_array(value) else (_fixed(value),) for value in args)
        options = tuple((key, _fixed(value)) for key, value in sorted(kwargs.items()))
        if any(_is_array(value) for value in kwargs.values()):
            raise TypeError(f"{self.name}: a NumPy function is given its arrays by position, not by keyword")
        name, types, several = self.prepared(fixed, options, [node.type for node in nodes])
        results = [of_node(node) for node in host_call(name, nodes, types, next(_calls))]
        return tuple(results) if several else results[0]

    def prepared(
        self, fixed: tuple[Any, ...], options: tuple[tuple[str, Any], ...], types: Sequence[TensorType]
    ) -> tuple[str, list[TensorType], bool]:
        """The name under which programs find the function with these fixed arguments, and what it returns."""
        kinds = tuple(type(part[0]) for part in fixed if part is not None)  # 1, 1.0 and True are equal
        key = (fixed, kinds, tuple((type(value), name, value) for name, value in options), tuple(types))
        try:
            found = self.known.get(key)
        except TypeError:
            raise TypeError(
                f"{self.name}: arguments of a NumPy function are arrays, or hashable values that are fixed when it is "
                f"traced, not {dict(options) or [p[0] for p in fixed if p is not None]}"
            ) from None
        if found is None:
            call = self.bound(self.function, fixed, options)
            declared, several = self.declared(call, fixed, options, types)
            name = register(f"{self.name}:{next(_names)}", self.guarded(call))
            found = self.known[key] = name, declared, several
        return found

    def bound(
        self, function: Callable[..., Any], fixed: tuple[Any, ...], options: tuple[tuple[str, Any], ...]
    ) -> Callable[..., Any]:
        keywords = dict(options)

        def call(*arrays: Any) -> Any:
            rest = iter(arrays)
            return function(*(next(rest) if part is None else part[0] for part in fixed), **keywords)

        return call

    def guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The function as programs call it: knetc arrays are refused, and lists are arrays."""

        def guarded(*arrays: Any) -> Any:
            with recording(HostGuard(self.name)):
                value = call(*arrays)
            return tuple(np.asarray(part) for part in value) if isinstance(value, tuple) else np.asarray(value)

        return guarded

    def declared(
        self,
        call: Callable[..., Any],
        fixed: tuple[Any, ...],
        options: tuple[tuple[str, Any], ...],
        types: Sequence[TensorType],
    ) -> tuple[list[TensorType], bool]:
        """What the function returns for arguments of these types."""
        zeros = [np.zeros(type.shape, type.dtype) for type in types]
        rule = self.guarded(call) if self.result is None else self.bound(self.result, fixed, options)
        try:
            value = rule(*zeros)
        except HostCallError:
            raise
        except Exception as error:
            if self.result is None:
                error.add_note(
                    f"  {self.name} was called on zeros to see what it returns; say that with result=, by a function "
                    "of the arguments that gives anything with a shape and a dtype"
                )
            raise
        several = isinstance(value, tuple) and not hasattr(value, "dtype")
        found = [_type_of(self.name, part) for part in (value if several else (value,))]
        if len({type.dtype for type in found}) > 1:
            raise HostCallError(
                f"{self.name} returns arrays of several dtypes ({', '.join(map(str, found))}): a NumPy function's "
                "results have one dtype; convert them, or make a function of each"
            )
        return found, several


def _type_of(name: str, value: Any) -> TensorType:
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        value = np.asarray(value)
    dtype = np.dtype(value.dtype)
    check_dtype(dtype)
    return TensorType(dtype, tuple(int(n) for n in value.shape))


# --- gradients -------------------------------------------------------------------------------------------------------


def _differentiated(
    function: Callable[..., Any],
    value: Any,
    gradients: Sequence[Gradient | None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """The function's results with the gradients attached."""
    places = [k for k, arg in enumerate(args) if isinstance(arg, (ArrayLike, Node))]
    several = isinstance(value, tuple)
    parts = list(value) if several else [value]
    sources = [to_nodes(args[k])[0] for k in places]
    plains = [to_nodes(part)[0] for part in parts]
    if not places:
        return value

    def attached(number: int, plain: Node, given: Sequence[Node]) -> Node:
        """A result with its gradient; ``given`` are the array arguments, and of several results all the plain ones.

        The gradient looks at nothing else, as loops and transformations record these nodes anew.
        """

        def rule(node: Node, dy: Node) -> list[Any]:
            given = node.sources[1:]
            handles = dict(zip(places, map(_handle, given)))
            arguments = [handles.get(k, arg) for k, arg in enumerate(args)]
            others = given[len(places) :] or (node,)
            ys = tuple(_handle(node if k == number else attached(k, o, given)) for k, o in enumerate(others))
            dys = tuple(_handle(dy if k == number else constant(0, o.dtype, o.shape)) for k, o in enumerate(others))
            call = (dys, ys) if several else (dys[0], ys[0])

            def contribution(place: int, source: Node) -> Node | None:
                if place >= len(gradients):
                    raise DifferentiationError(
                        f"{name_of(function)} has no gradient for its argument {place}: primitive was given "
                        f"{len(gradients)}; add one for each argument (None where it is zero), or use stop_gradient"
                    )
                gradient = gradients[place]
                made = None if gradient is None else gradient(*call, *arguments, **kwargs)
                return None if made is None else _fitted(function, place, made, source)

            found: list[Any] = [functools.partial(contribution, k, s) for k, s in zip(places, given)]
            return [*found, *[None] * (len(given) - len(places))]

        return by_rule(plain, given, rule)

    given = [*sources, *plains] if several else sources
    made = [attached(number, plain, given) for number, plain in enumerate(plains)]
    finished = [node if isinstance(part, Node) else of_node(node) for part, node in zip(parts, made)]
    return tuple(finished) if several else finished[0]


def _handle(node: Node) -> Any:
    """A node as users' gradients see it: an Array, or the node itself inside a pass."""
    return of_node(node) if isinstance(recorder(), Context) else node


def _fitted(function: Callable[..., Any], place: int, value: Any, source: Node) -> Node:
    """A gradient as one for its source: of its dtype, and summed over axes along which it was broadcast."""
    node = cast_node(to_nodes(value)[0], source.dtype)
    try:
        return unbroadcast_node(node, source.shape)
    except ShapeError:
        raise DifferentiationError(
            f"the gradient of {name_of(function)} for its argument {place} gave {node.type} where the argument is "
            f"{source.type}; a gradient has its argument's shape (or one that this broadcasts to)"
        ) from None


def unbroadcast_node(node: Node, shape: Shape) -> Node:
    """``node`` summed over the axes along which ``shape`` was broadcast; a smaller one is spread."""
    if node.shape == shape:
        return node
    if node.ndim <= len(shape) and all(n in (1, m) for n, m in zip(reversed(node.shape), reversed(shape))):
        return broadcast_node(node, shape)
    lead = node.ndim - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, node.shape[lead:])):
        raise ShapeError(f"unbroadcast: shape {shape} does not broadcast to {node.shape}")
    axes = (*range(lead), *(lead + k for k, n in enumerate(shape) if n == 1 and node.shape[lead + k] != 1))
    return reshape_node(record_sum(node, axes), shape)


def unbroadcast(x: Any, dy: Any) -> Array:
    """``dy`` summed over the axes along which ``x`` was broadcast, so that it has the shape of ``x``: for gradients.

    >>> unbroadcast(kn.zeros(3), kn.ones((2, 3)))  # [2, 2, 2]
    """
    shape = x.shape if hasattr(x, "shape") else to_numpy(x).shape
    return of_node(unbroadcast_node(node_of(dy), tuple(shape)))


__all__ = ["primitive", "unbroadcast", "zerograd"]
