"""The differentiations under way in a thread, innermost last: what reading a Param means while there are any."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from weakref import ref

from knetc import lazy
from knetc.ir import ambient
from knetc.ir.node import Node
from knetc.ir.record import record, recording
from knetc.lazy import Box
from knetc.ops.identities import VARIABLE
from knetc.runtime.base.errors import DifferentiationError


class Variables:
    """What one differentiation is with respect to: for each Param (as it is met) and argument, a value of its own."""

    def __init__(self, outer: Variables | None) -> None:
        self.outer = outer
        self.context = lazy.context()
        """Where the variables are recorded, also when a Param is first met in a function under vmap."""
        self.nodes: dict[int, Node] = {}
        self.objects: dict[int, object] = {}
        self.made: dict[int, ref[Box]] = {}
        """The arrays that were made meanwhile, by identity."""

    def of_param(self, box: Box) -> Node:
        """The variable that a Param is here; over the one that it is in the surrounding differentiation, if any."""
        node = self.nodes.get(id(box))
        if node is None:
            inside = nullcontext() if lazy.context() is self.context else recording(self.context)
            with inside:
                node = self.add(box, self.context.read(box) if self.outer is None else self.outer.of_param(box))
        return node

    def add(self, thing: object, node: Node) -> Node:
        """Make ``node`` a variable that is found under ``thing``."""
        variable = record(VARIABLE, (node,), {"number": lazy.context().fresh()})
        self.nodes[id(thing)] = variable
        self.objects[id(thing)] = thing
        return variable


class _State(threading.local):
    def __init__(self) -> None:
        self.innermost: Variables | None = None


_state = _State()


def innermost() -> Variables | None:
    """The variables of the innermost differentiation under way in this thread."""
    return _state.innermost


@contextmanager
def differentiating() -> Iterator[Variables]:
    """Within the block a differentiation is under way, in training mode."""
    before = _state.innermost
    variables = Variables(before)
    lazy.tapes.enter()
    try:
        with ambient.setting(training=True):
            _state.innermost = variables
            try:
                yield variables
            finally:
                _state.innermost = before
    finally:
        lazy.tapes.leave()


def read(box: Box) -> Node:
    """The value of a Param where it is used."""
    variables = _state.innermost
    return lazy.context().read(box) if variables is None else variables.of_param(box)


def note_made(box: Box) -> None:
    """Remember that an array was made in the innermost differentiation: there it may be assigned to."""
    if _state.innermost is not None:
        _state.innermost.made[id(box)] = ref(box)


def check_assignment(box: Box) -> None:
    """Raise DifferentiationError for an assignment to what a differentiation under way did not make itself.

    An assignment makes a new value of an array. That is differentiated like any other, but a Param and an argument are
    what the derivative is taken with respect to, and an array from outside is to be as before.
    """
    variables = _state.innermost
    if variables is None:
        return
    made = variables.made.get(id(box))
    if made is None or made() is not box:
        raise DifferentiationError(
            "Array overwriting during gradient calculation not supported, but for arrays that are made in the "
            "function: assign to a copy (kn.array(x)), make a new array (kn.where, kn.concat), or assign after the "
            "differentiation"
        )
