"""Loops and branches as values: ``scan``, ``fori_loop``, ``while_loop``, ``cond``, ``switch``.

Each calls the functions that it is given once, on arrays without numbers, and records what they compute as graphs. The
loop or branch itself runs as native code, as often as the data say.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from knetc.arrays import ArrayLike, node_of, of_node
from knetc.bodies import Body, Constants, finished
from knetc.ir.ambient import ambient
from knetc.ir.control import BRANCH, SCAN, WHILE
from knetc.ir.group import items
from knetc.ir.node import Node
from knetc.ir.op import Op
from knetc.ir.record import record
from knetc.ir.types import TensorType
from knetc.ops.apply import cast_node, is_scalar, scalar_node
from knetc.ops.arithmetic import clip
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, ShapeError
from knetc.structure import children, leaves, map_leaves, rebuilt

R = TypeVar("R")

ENDLESS = 1 << 32
"""Iterations for which a loop of unknown length takes random numbers."""

ATTEMPTS = 4
"""So often a body is recorded again because numbers among the carries take another dtype."""


# --- containers ------------------------------------------------------------------------------------------------------


class Leaf:
    """An array or number in a container, with the way there for messages: ``['h'][0]``."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value

    @property
    def weak(self) -> bool:
        return is_scalar(self.value)

    def node(self, dtype: np.dtype[Any] | None = None) -> Node:
        """The value where it is used; a Python number takes ``dtype`` if that holds it."""
        if dtype is not None and self.weak and dtypes.promote_weak(dtype, self.value, ambient().dtype) == dtype:
            return scalar_node(self.value, dtype)
        return node_of(self.value)


def leaves_of(what: str, value: Any, name: str = "") -> list[Leaf]:
    """What a container holds, in the order in which ``map_leaves`` goes; Nones are part of the container."""
    below = children(value)
    if below is not None:
        field = not isinstance(value, (tuple, list, dict))
        return [
            leaf
            for key, item in below.items()
            for leaf in leaves_of(what, item, f"{name}.{key}" if field else f"{name}[{key!r}]")
        ]
    if value is None:
        return []
    if not (isinstance(value, (ArrayLike, np.ndarray, np.generic)) or is_scalar(value)):
        raise TypeError(
            f"{what} holds {value!r}{f' at {name}' if name else ''}: it may hold arrays and numbers, in tuples, lists, "
            "dicts and dataclasses; what is no array is used by a closure"
        )
    return [Leaf(name, value)]


def refilled(template: Any, values: Iterable[Any]) -> Any:
    """``template`` with other values in place of its arrays and numbers."""
    rest = iter(values)
    return rebuilt(template, [None if leaf is None else next(rest) for leaf in leaves(template)])


def outline(value: Any) -> str:
    """A container's form, with ``*`` for what it holds."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {outline(item)}' for key, item in value.items())}}}"
    below = children(value)
    if below is None:
        return "None" if value is None else "*"
    inner = ", ".join(map(outline, below.values()))
    if isinstance(value, list):
        return f"[{inner}]"
    return f"({inner}{',' if len(below) == 1 else ''})" if type(value) is tuple else f"{type(value).__name__}({inner})"


def aligned(what: str, given: Any, template: Any, cure: str) -> list[Leaf]:
    """The leaves of ``given``, in the order of ``template``'s, which must be of the same form."""
    found, wanted = leaves_of(what, given), leaves_of(what, template)
    by_name = {leaf.name: leaf for leaf in found}
    if len(found) != len(wanted) or any(leaf.name not in by_name for leaf in wanted) or not same_form(given, template):
        raise TypeError(f"{what} is {outline(given)}, where {outline(template)} was expected; {cure}")
    return [by_name[leaf.name] for leaf in wanted]


def same_form(a: Any, b: Any) -> bool:
    """Whether two values have the same containers."""
    first, second = children(a), children(b)
    if first is None or second is None:
        return first is second and (a is None) == (b is None)
    return type(a) is type(b) and first.keys() == second.keys() and all(same_form(first[k], second[k]) for k in first)


# --- loops -----------------------------------------------------------------------------------------------------------


class Carry:
    """What a loop hands from iteration to iteration, with the types that it has settled on."""

    def __init__(self, what: str, init: Any) -> None:
        self.what = what
        self.template = init
        self.leaves = leaves_of(f"{what}: the initial value", init)
        self.nodes = [leaf.node() for leaf in self.leaves]
        self.adapted: dict[int, np.dtype[Any]] = {}
        """Numbers that take another dtype, by place."""

    @property
    def types(self) -> list[TensorType]:
        return [node.type for node in self.nodes]

    def handles(self, nodes: Sequence[Node]) -> Any:
        return refilled(self.template, [of_node(node) for node in nodes])

    def outputs(self, result: Any) -> list[Node]:
        """What a body returned, as nodes of the carry's types.

        A number that the user gave for a start takes the dtype that the body makes of it: ``settle`` then records the
        body again.
        """
        cure = "a body returns what it is given: the same containers, of arrays of the same types"
        nodes = []
        for k, leaf in enumerate(aligned(f"{self.what}: what the body carries on", result, self.template, cure)):
            node = leaf.node(self.nodes[k].dtype)
            if node.type != self.nodes[k].type:
                self.adapt(k, node.type)
            nodes.append(node)
        return nodes

    def adapt(self, k: int, new: TensorType) -> None:
        """Let a number be of the dtype that the body makes of it; raise an error for anything else."""
        leaf, old = self.leaves[k], self.nodes[k].type
        named = f"carry{leaf.name}"
        if new.shape != old.shape:
            raise ShapeError(
                f"{self.what}: {named} is {old} before an iteration and {new} after it: a carry keeps its shape; begin "
                f"with an array of shape {new.shape}, for example kn.broadcast_to(value, {new.shape})"
            )
        if not leaf.weak or dtypes.promote_weak(new.dtype, leaf.value, ambient().dtype) != new.dtype:
            raise DtypeError(
                f"{self.what}: {named} is {old} before an iteration and {new} after it: a carry keeps its dtype; cast "
                f"what the body returns with astype({old.dtype.name!r}), or begin with {new.dtype.name}"
            )
        self.adapted[k] = new.dtype

    def settle(self, attempt: Callable[[], R]) -> R:
        """What ``attempt`` makes of the carry, when it no more changes the types."""
        for _ in range(ATTEMPTS):
            self.adapted = {}
            made = attempt()
            if not self.adapted:
                return made
            for k, dtype in self.adapted.items():
                self.nodes[k] = scalar_node(self.leaves[k].value, dtype)
        raise DtypeError(f"{self.what}: the carry's dtypes change with every iteration; cast what the body returns")


def _results(op: Op, sources: Sequence[Node], attributes: Mapping[str, Hashable]) -> list[Any]:
    return [of_node(item) for item in items(record(op, tuple(sources), attributes))]


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Call ``carry, y = f(carry, x)`` for each slice ``x`` of ``xs`` along the first axis, as a loop of native code.

    Returns the last carry, and the results ``y`` stacked along a new first axis. ``init`` (the first carry), ``xs`` and
    ``y`` may be arrays or containers of arrays (tuples, lists, dicts, dataclasses), or None where there is nothing;
    without ``xs``, ``length`` says how many iterations there are. With ``reverse`` they go from the last slice to the
    first, and ``y`` of each slice stands at its place. ``f`` is called once, so the time to compile does not depend on
    the length; a carry keeps its form, shapes and dtypes. Arrays and Params that ``f`` uses from outside are constants
    of the loop. All are differentiated, to any order: what the gradient needs of each iteration is stored.

    Raises TypeError for a result that is no pair or has another form than the carry, ShapeError and DtypeError for
    carries that change or ``xs`` of different lengths, ValueError for a negative length. Source: ``jax.lax.scan``.

    >>> total, sums = kn.scan(lambda s, x: (s + x, s + x), 0.0, kn.array([1.0, 2.0, 3.0]))  # 6, [1, 3, 6]
    """
    whole = leaves_of("scan: xs", xs)
    arrays = [leaf.node() for leaf in whole]
    count = _length(whole, arrays, length)

    def step(counter: Any, carry: Any, x: Any) -> tuple[Any, Any]:
        pair = f(carry, x)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(
                f"scan: the function returned {outline(pair)}; it returns a pair: the new carry and a result (or None)"
            )
        return pair

    return _scan("scan", step, init, xs, arrays, count, reverse)


def _scan(
    what: str,
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    arrays: Sequence[Node],
    length: int,
    reverse: bool,
) -> tuple[Any, Any]:
    carry = Carry(what, init)
    slices = [node.type.with_shape(node.shape[1:]) for node in arrays]

    def attempt() -> tuple[Body, list[Node], list[Node], Any]:
        body = Body(what, [*carry.types, *slices], Constants())
        with body.recorded():
            counter = body.counter
            assert counter is not None
            given, parts = body.arguments[: len(carry.nodes)], body.arguments[len(carry.nodes) :]
            x = refilled(xs, [of_node(part) for part in parts])
            after, result = step(of_node(counter), carry.handles(given), x)
            outputs = carry.outputs(after)
            results = [leaf.node() for leaf in leaves_of(f"{what}: the result", result)]
        return body, outputs, results, result

    body, outputs, results, template = carry.settle(attempt)
    body.reserve(length, backwards=reverse)
    attributes = {
        "body": finished((body,), ([*outputs, *results],))[0],
        "length": length,
        "reverse": bool(reverse),
        "carries": len(outputs),
        "arrays": len(arrays),
    }
    made = _results(SCAN, (*carry.nodes, *arrays, *body.constants.sources), attributes)
    return refilled(init, made[: len(outputs)]), refilled(template, made[len(outputs) :])


def _length(whole: Sequence[Leaf], arrays: Sequence[Node], length: int | None) -> int:
    """How many iterations a scan has."""
    if length is not None:
        length = operator.index(length)
        if length < 0:
            raise ValueError(f"scan: the length is a number of iterations, not {length}")
    for leaf, node in zip(whole, arrays):
        named = f"xs{leaf.name}"
        if not node.ndim:
            raise ShapeError(
                f"scan: {named} is {node.type}, which has no axis to go along; use it by a closure instead"
            )
        if length is None:
            length = node.shape[0]
        if node.shape[0] != length:
            told = "length=" if arrays[0].shape[0] != length else f"xs{whole[0].name} has"
            raise ShapeError(
                f"scan: {named} is {node.type}, with {node.shape[0]} slices, but {told} {length}: all are as long"
            )
    if length is None:
        raise ValueError("scan: without arrays in xs, length= says how many iterations there are")
    return length


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init: Any) -> Any:
    """The last of ``value = body_fun(i, value)`` for ``i`` from ``lower`` up to, not including, ``upper``.

    ``i`` is an int64 array of shape (); ``init`` and ``value`` are as the carry of ``scan``. Between Python ints the
    number of iterations is part of the program, and the loop can be differentiated. Bounds that are known only at run
    time (arrays; ints that a compiled function is given, unless they are static) make a ``while_loop`` of it, which
    cannot. Raises what ``scan`` raises. Source: ``jax.lax.fori_loop``.

    >>> kn.fori_loop(0, 5, lambda i, s: s + i, 0)  # 10
    """
    if all(type(bound) is int or isinstance(bound, np.integer) for bound in (lower, upper)):
        first, count = int(lower), max(int(upper) - int(lower), 0)

        def step(counter: Any, value: Any, _: Any) -> tuple[Any, Any]:
            return body_fun(counter + first if first else counter, value), None

        return _scan("fori_loop", step, init, None, (), count, False)[0]
    start, stop = (of_node(_integer("fori_loop", bound)) for bound in (lower, upper))

    def go_on(pair: Any) -> Any:
        return pair[0] < stop

    def advance(pair: Any) -> Any:
        return pair[0] + 1, body_fun(pair[0], pair[1])

    return _while("fori_loop", go_on, advance, (start, init))[1]


def _integer(what: str, value: Any) -> Node:
    """A number that is an int64 at run time."""
    node = Leaf("", value).node(dtypes.i64)
    if node.shape or not dtypes.is_integer(node.dtype):
        raise TypeError(f"{what}: an integer of shape () was expected, not {node.type}")
    return cast_node(node, dtypes.i64)


def while_loop(cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any) -> Any:
    """The first of ``init``, ``body_fun(init)``, ``body_fun(body_fun(init))`` … for which ``cond_fun`` is False.

    ``cond_fun`` gives a bool of shape (); values are as the carry of ``scan``. Both functions are called once; the loop
    runs as native code until the data end it. It cannot be differentiated in reverse, since how many iterations there
    will be is not known: use ``scan`` or ``fori_loop`` with a fixed number, and ``kn.where`` to stop early.

    Raises TypeError for a condition that is no bool of shape (), and what ``scan`` raises for values that change their
    types. Source: ``jax.lax.while_loop``.

    >>> kn.while_loop(lambda x: x < 100, lambda x: x * 2, 1)  # 128
    """
    return _while("while_loop", cond_fun, body_fun, init)


def _while(what: str, cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any) -> Any:
    carry = Carry(what, init)

    def attempt() -> tuple[Body, Body, Node, list[Node]]:
        constants = Constants()
        test, body = (Body(what, carry.types, constants) for _ in range(2))
        with test.recorded():
            going = _bool(what, "the condition", cond_fun(carry.handles(test.arguments)))
        with body.recorded():
            outputs = carry.outputs(body_fun(carry.handles(body.arguments)))
        return test, body, going, outputs

    test, body, going, outputs = carry.settle(attempt)
    for graph in (test, body):
        graph.reserve(ENDLESS)
    condition, repeated = finished((test, body), ([going], outputs))
    attributes = {"condition": condition, "body": repeated, "carries": len(outputs)}
    made = _results(WHILE, (*carry.nodes, *body.constants.sources), attributes)
    return refilled(init, made)


def _bool(what: str, which: str, value: Any) -> Node:
    """What decides, as a node; anything but one bool is an error."""
    if not (isinstance(value, (ArrayLike, np.ndarray, np.generic)) or is_scalar(value)):
        raise TypeError(f"{what}: {which} is {value!r}; it is a bool of shape (), such as x.sum() > 0")
    node = node_of(value)
    if node.dtype != dtypes.boolean or node.shape:
        raise TypeError(
            f"{what}: {which} is {node.type}; it is a bool of shape (): compare numbers (x > 0), and make one of many "
            "with kn.any or kn.all"
        )
    return node


# --- branches --------------------------------------------------------------------------------------------------------


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """``true_fun(*operands)`` if ``pred`` is True, else ``false_fun(*operands)``; only the one that is chosen runs.

    ``pred`` is a bool array of shape () (a Python bool chooses at once). Both functions are called once, to record what
    they compute: they return the same containers, of arrays of the same types (beside an array, a number takes its
    dtype). They may use arrays and Params from outside, and are differentiated; the gradient computes what it needs of
    the chosen function once more. To choose for each element, use ``kn.where``.

    Raises TypeError for a ``pred`` that is no bool of shape () and for results of different forms, ShapeError and
    DtypeError for results of different types. Source: ``jax.lax.cond``.

    >>> kn.cond(kn.array(3.0) > 0, lambda x: x * 2, lambda x: -x, kn.array(5.0))  # 10
    """
    if type(pred) in (bool, np.bool_):
        return (true_fun if pred else false_fun)(*operands)
    index = cast_node(_bool("cond", "the predicate", pred), dtypes.i64)
    return _branch("cond", index, (false_fun, true_fun), ("false_fun", "true_fun"), operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``, of which only the chosen one runs; an index out of range takes the nearest one.

    ``index`` is an integer array of shape () (a Python int chooses at once). Functions and their results are as those
    of ``cond``. Raises ValueError without branches, and what ``cond`` raises. Source: ``jax.lax.switch``.

    >>> kn.switch(kn.array(1), [kn.sin, kn.cos, kn.exp], kn.array(0.0))  # 1
    """
    functions = tuple(branches)
    if not functions:
        raise ValueError("switch: there is no branch to choose from")
    if type(index) is int or isinstance(index, np.integer):
        return functions[min(max(int(index), 0), len(functions) - 1)](*operands)
    place = clip(_integer("switch", index), 0, len(functions) - 1)
    return _branch("switch", place, functions, [f"branch {k}" for k in range(len(functions))], operands)


def _branch(
    what: str,
    index: Node,
    functions: Sequence[Callable[..., Any]],
    names: Sequence[str],
    operands: Sequence[Any],
) -> Any:
    operands = map_leaves(lambda x: of_node(node_of(x)) if isinstance(x, np.ndarray) else x, tuple(operands))
    constants = Constants()
    bodies = [Body(what, (), constants, counted=False) for _ in functions]
    results: list[Any] = []
    for body, function in zip(bodies, functions):
        with body.recorded():
            results.append(function(*operands))
    cure = "branches return the same containers"
    columns = [
        aligned(f"{what}: the result of {name}", result, results[0], f"which is what {names[0]} returns: {cure}")
        for name, result in zip(names, results)
    ]
    types = [_common_dtype([column[k] for column in columns]) for k in range(len(columns[0]))]
    outputs = []
    for body, column in zip(bodies, columns):
        with body.recorded():
            outputs.append([leaf.node(type) for leaf, type in zip(column, types)])
    for k, leaf in enumerate(columns[0]):
        _check_types(what, leaf.name, names, [nodes[k].type for nodes in outputs])
    for body in bodies:
        body.reserve(1)
    graphs = finished(bodies, outputs)
    made = _results(BRANCH, (index, *constants.sources), {"branches": graphs})
    return refilled(results[0], made)


def _common_dtype(column: Sequence[Leaf]) -> np.dtype[Any] | None:
    """The dtype that Python numbers among the branches' results take: that of an array beside them."""
    return next((leaf.value.dtype for leaf in column if not leaf.weak), None)


def _check_types(what: str, place: str, names: Sequence[str], types: Sequence[TensorType]) -> None:
    for name, type in zip(names, types):
        if type != types[0]:
            error = ShapeError if type.shape != types[0].shape else DtypeError
            raise error(
                f"{what}: result{place} is {types[0]} by {names[0]} and {type} by {name}: branches give the same "
                "shapes and dtypes; broadcast or cast one of them"
            )


__all__ = ["cond", "fori_loop", "scan", "switch", "while_loop"]
