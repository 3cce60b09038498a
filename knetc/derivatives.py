"""Derivatives of functions of arrays: along a direction, pulled back, and as whole matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from knetc import tapes
from knetc.arrays import node_of, of_node
from knetc.batching import vmap
from knetc.ir.node import Node
from knetc.lazy import Box
from knetc.ops.apply import cast_node, constant, is_scalar, reshape_node, to_nodes
from knetc.ops.identities import iota
from knetc.ops.logic import equal
from knetc.params import Param
from knetc.passes.differentiate import gradients, pullback
from knetc.passes.linearize import tangents as linearized
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DifferentiationError
from knetc.structure import leaves, map_leaves, matched, rebuilt
from knetc.transforms import as_variable, check_loss


class _Call:
    """A function called on arguments of which some are variables, and what it returned."""

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any], moving: Sequence[int]) -> None:
        """``moving`` are the arguments whose float arrays (also in containers) are variables; made within a tape."""
        with tapes.differentiating() as variables:
            self.variables: dict[int, list[Node | None]] = {}
            given = list(arguments)
            for place in moving:
                nodes: list[Node | None] = []

                def boxed(leaf: Any, nodes: list[Node | None] = nodes) -> Any:
                    made = as_variable(variables, leaf, scalars=True)
                    known = isinstance(made, Box) and dtypes.is_float(made.type.dtype)
                    nodes.append(node_of(made) if known else None)
                    return made

                given[place] = map_leaves(boxed, arguments[place])
                self.variables[place] = nodes
            self.result: Any = map_leaves(_settled, function(*given))
            self.outputs: list[Node | None] = [
                node_of(leaf) if isinstance(leaf, Box) and dtypes.is_float(leaf.type.dtype) else None
                for leaf in leaves(self.result)
            ]


def _settled(leaf: Any) -> Any:
    """A result as a value: not the Param itself, but what it is here."""
    return of_node(node_of(leaf)) if isinstance(leaf, Param) else leaf


def _zeros(node: Node) -> Node:
    return constant(0, node.dtype, node.shape)


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of ``function(*primals)``, and its derivative along ``tangents``: one for each argument.

    A tangent has its argument's form and shapes (float arrays and numbers, in containers too); None is zero. The
    derivative has the result's form: zeros where it does not depend on the arguments, None for what is no float array.
    This is forward mode: it costs about as much as the function itself, for any number of results. Raises
    DifferentiationError for tangents that do not fit.

    >>> kn.jvp(kn.sin, (kn.array(0.0),), (kn.array(1.0),))  # (0, 1)
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("jvp takes a tuple of arguments and a tuple of tangents: kn.jvp(f, (x,), (dx,))")
    if len(primals) != len(tangents):
        raise DifferentiationError(
            f"jvp: {len(primals)} arguments and {len(tangents)} tangents: give one for each, None for zero"
        )
    call = _Call(function, primals, range(len(primals)))
    directions: dict[Node, Node] = {}
    for place, (primal, tangent) in enumerate(zip(primals, tangents)):
        given = _fitting(tangent, primal, f"the tangent of argument {place}")
        for node, (name, direction, _) in zip(call.variables[place], given):
            if direction is not None:
                if node is None:
                    raise DifferentiationError(f"jvp: {name} is given, but that is no float array: its tangent is None")
                directions[node] = _of_type(name, direction, node)
    return call.result, _pushed(call, directions)


def _pushed(call: _Call, directions: dict[Node, Node]) -> Any:
    """The derivatives of a call's results, in their form."""
    outputs = [node for node in call.outputs if node is not None]
    found = iter(zip(outputs, linearized(outputs, directions)))
    items: list[Any] = []
    for node in call.outputs:
        if node is None:
            items.append(None)
        else:
            output, tangent = next(found)
            items.append(of_node(_zeros(output) if tangent is None else tangent))
    return rebuilt(call.result, items)


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of ``function(*primals)``, and the function that pulls derivatives by its result back to the arguments.

    That function takes one of the result's form (None: zero) and returns, for each argument, the gradient of the sum of
    all products, in the argument's form; None where the result does not depend on it. It may be called again. Raises
    DifferentiationError for what does not fit.

    >>> y, pull = kn.vjp(lambda a, b: a * b, kn.array([1.0, 2.0]), kn.array([3.0, 4.0]))
    >>> pull(kn.ones(2))  # ([3, 4], [1, 2])
    """
    call = _Call(function, primals, range(len(primals)))

    def pull(cotangent: Any) -> tuple[Any, ...]:
        outputs, seeds = [], []
        given = _fitting(cotangent, call.result, "the derivative by the result")
        for node, (name, seed, _) in zip(call.outputs, given):
            if seed is not None:
                if node is None:
                    raise DifferentiationError(f"vjp: {name} is given, but that is no float array: pass None for it")
                outputs.append(node)
                seeds.append(_of_type(name, seed, node))
        wanted = [node for nodes in call.variables.values() for node in nodes if node is not None]
        found = dict(zip(wanted, pullback(outputs, seeds, wanted)))
        return tuple(rebuilt(primals[place], _handles(nodes, found)) for place, nodes in call.variables.items())

    return call.result, pull


def _handles(nodes: Sequence[Node | None], found: dict[Node, Node | None]) -> list[Any]:
    made = [None if node is None else found[node] for node in nodes]
    return [None if node is None else of_node(node) for node in made]


def _fitting(given: Any, pattern: Any, name: str) -> list[tuple[str, Any, Any]]:
    try:
        return matched(given, pattern, name)
    except TypeError as error:
        raise DifferentiationError(str(error)) from None


def _of_type(name: str, value: Any, node: Node) -> Node:
    """A derivative that the user gave, as one for a value of the type of ``node``."""
    if not (is_scalar(value) or isinstance(value, (Box, np.ndarray, np.generic))):
        raise DifferentiationError(f"{name} is an array or a number, not {type(value).__name__}")
    [found] = to_nodes(value)
    if found.shape != node.shape:
        raise DifferentiationError(
            f"{name} is {found.type}, and what it belongs to is {node.type}: they have one shape; spread it with "
            "kn.broadcast_to if that is meant"
        )
    return cast_node(found, node.dtype)


# --- matrices --------------------------------------------------------------------------------------------------------


def jacobian(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives all derivatives of all results of ``function`` by one argument, or by several.

    For a result of shape R and an argument of shape A they are an array of shape R + A. Where the argument is a
    container, it is a container of these of the argument's form; where the result is one, it is one of the result's
    form with these inside; ``argnums`` being a tuple, each is a tuple. Zeros where there is no dependence, None for
    what is no float array. All rows are computed together, batched: by forward mode if the arguments have no more
    elements than the results, else by reverse mode.

    >>> kn.jacobian(lambda x: x**2)(kn.array([1.0, 2.0]))  # [[2, 0], [0, 4]]
    """
    wanted = _wanted("jacobian", function, argnums)

    @functools.wraps(function, updated=())
    def matrix(*args: Any, **kwargs: Any) -> Any:
        places = [_place("jacobian", n, args) for n in wanted]
        call = _Call(lambda *given: function(*given, **kwargs), args, places)
        sources = [node for place in places for node in call.variables[place]]
        outputs = [node for node in call.outputs if node is not None]
        rows, columns = _total(outputs), _total([node for node in sources if node is not None])
        make = _by_columns if columns <= rows else _by_rows
        blocks = make(outputs, [node for node in sources if node is not None])
        items: list[Any] = []
        for output in call.outputs:
            parts = [None if s is None or output is None else of_node(blocks[output, s]) for s in sources]
            rest = iter(parts)
            each = [rebuilt(args[place], [next(rest) for _ in call.variables[place]]) for place in places]
            items.append(each[0] if isinstance(argnums, int) else tuple(each))
        return rebuilt(call.result, items)

    return matrix


def _wanted(name: str, function: Any, argnums: int | Sequence[int]) -> Sequence[int]:
    wanted = (argnums,) if isinstance(argnums, int) else argnums
    if not callable(function) or not isinstance(wanted, (tuple, list)) or not all(isinstance(n, int) for n in wanted):
        raise TypeError(f"{name} takes a function and the number of an argument, or a tuple of such")
    return wanted


def _place(name: str, argnum: int, args: Sequence[Any]) -> int:
    if not -len(args) <= argnum < len(args):
        raise TypeError(f"{name}: argument {argnum} was asked for, but the function was called with {len(args)}")
    return argnum % len(args)


def _total(nodes: Sequence[Node]) -> int:
    return sum(node.type.size for node in nodes)


Blocks = dict[tuple[Node, Node], Node]
"""The derivatives of an output by a source."""


def _units(node: Node) -> Any:
    """Every array of the type of ``node`` that is 1 in one place and 0 elsewhere, along a new first axis."""
    size = node.type.size
    same = equal(iota(dtypes.i64, (size, size), 0), iota(dtypes.i64, (size, size), 1))
    return of_node(reshape_node(cast_node(same, node.dtype), (size, *node.shape)))


def _by_columns(outputs: Sequence[Node], sources: Sequence[Node]) -> Blocks:
    """Forward mode along each unit of each source."""
    blocks: Blocks = {}
    for source in sources:

        def push(unit: Any, source: Node = source) -> list[Any]:
            found = linearized(outputs, {source: node_of(unit)})
            return [None if tangent is None else of_node(tangent) for tangent in found]

        columns = vmap(push, out_axes=-1)(_units(source)) if source.type.size else [None] * len(outputs)
        for output, column in zip(outputs, columns):
            shape = (*output.shape, *source.shape)
            known = column is not None
            blocks[output, source] = reshape_node(node_of(column), shape) if known else constant(0, output.dtype, shape)
    return blocks


def _by_rows(outputs: Sequence[Node], sources: Sequence[Node]) -> Blocks:
    """Reverse mode from each unit of each output."""
    blocks: Blocks = {}
    for output in outputs:

        def pull(unit: Any, output: Node = output) -> list[Any]:
            found = gradients(output, sources, node_of(unit))
            return [None if gradient is None else of_node(gradient) for gradient in found]

        rows = vmap(pull)(_units(output)) if output.type.size else [None] * len(sources)
        for source, row in zip(sources, rows):
            shape = (*output.shape, *source.shape)
            known = row is not None
            blocks[output, source] = reshape_node(node_of(row), shape) if known else constant(0, source.dtype, shape)
    return blocks


def hessian(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives all second derivatives of ``function``, whose result is a scalar.

    For an argument of shape A they are an array of shape A + A, zeros where there is no dependence; containers and
    tuples of ``argnums`` as for ``jacobian``, the first derivative's form outside. It is the Jacobian, by forward mode,
    of the gradient. Raises DifferentiationError if the result is no floating-point scalar.

    >>> kn.hessian(lambda x: kn.sum(x**3))(kn.array([1.0, 2.0]))  # [[6, 0], [0, 12]]
    """
    wanted = _wanted("hessian", function, argnums)

    @functools.wraps(function, updated=())
    def slope(*args: Any, **kwargs: Any) -> Any:
        places = [_place("hessian", n, args) for n in wanted]
        call = _Call(lambda *given: function(*given, **kwargs), args, places)
        [loss] = call.outputs if len(call.outputs) == 1 else [None]
        if loss is None:
            raise DifferentiationError(
                "hessian: the function must return one floating-point scalar, a float array of shape ()"
            )
        check_loss(loss)
        sources = [node for place in places for node in call.variables[place]]
        known = [node for node in sources if node is not None]
        found = dict(zip(known, gradients(loss, known)))
        items = [None if s is None else of_node(found[s] or _zeros(s)) for s in sources]
        rest = iter(items)
        each = [rebuilt(args[place], [next(rest) for _ in call.variables[place]]) for place in places]
        return each[0] if isinstance(argnums, int) else tuple(each)

    return jacobian(slope, argnums)


__all__ = ["hessian", "jacobian", "jvp", "vjp"]
