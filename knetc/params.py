"""Param: what a model learns; finding Params, and looking inside them."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from knetc import lazy, tapes
from knetc.arrays import Array, ArrayLike, array, node_of, of_node
from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.lazy import Box, Context
from knetc.readable import shown
from knetc.runtime.base import dtypes
from knetc.structure import find


def _in_place(function: Callable[[Any, Any], Any]) -> Any:
    """The method of ``w -= x`` and its kin: assigns to the Param, where an Array's name would be bound anew."""

    def method(self: Param, other: Any) -> Param:
        self[...] = function(self, other)
        return self

    return method


class Param(ArrayLike):
    """A value to be learned: it behaves like the array that it holds, and gradients are taken with respect to it.

    ``value`` is anything that ``kn.array`` takes; Python's ints become floats. ``opt`` is the optimizer that ``update``
    uses, with its state; None until one is set. Raises TypeError for a Param: they do not nest.

    >>> w = kn.Param([1.0, 2.0, 3.0])  # P([1., 2., 3.])
    >>> w[...] = 0
    """

    __slots__ = ("_opt",)

    def __init__(self, value: Any, opt: Any = None) -> None:
        if isinstance(value, Param):
            raise TypeError("a Param cannot wrap another Param; use value(param) for a Param of the same value")
        held = value if isinstance(value, Array) else array(value)
        if not isinstance(value, (Array, np.ndarray, np.generic)) and not dtypes.is_float(held.dtype):
            held = held.astype(ambient().dtype)  # Python's numbers are weak, and what is learned is a float
        self.type = held.type
        self.origin = None
        self.owner = None
        self.node, self.buffer, self.offset = None, None, 0
        if held.owner is None and held.buffer is not None:
            self.buffer, self.offset = held.buffer, held.offset
        else:
            lazy.context().adopt(self, node_of(held))
        self._opt: Any = None
        self.opt = opt

    @property
    def opt(self) -> Any:
        """The optimizer that ``update`` uses, with its state; None until one is set."""
        return self._opt

    @opt.setter
    def opt(self, opt: Any) -> None:
        if opt is not None:
            opt.prepare(self.type, self.device)
        self._opt = opt

    def _read(self, current: Context) -> Node:
        return tapes.read(self)

    @property
    def value(self) -> Array:
        """The array that the Param holds now; it does not change when the Param does, and is not differentiated."""
        return of_node(lazy.context().read(self))

    @value.setter
    def value(self, new: Any) -> None:
        tapes.check_assignment(self)
        self._write(node_of(new if isinstance(new, Box) else array(new, dtype=self.type.dtype, device=self.device)))

    __iadd__ = _in_place(operator.add)
    __isub__ = _in_place(operator.sub)
    __imul__ = _in_place(operator.mul)
    __itruediv__ = _in_place(operator.truediv)
    __ifloordiv__ = _in_place(operator.floordiv)
    __imod__ = _in_place(operator.mod)
    __ipow__ = _in_place(operator.pow)

    def __repr__(self) -> str:
        return f"P({shown(self)})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Param:
        made = memo[id(self)] = Param(self.value, copy.deepcopy(self.opt, memo))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Param, (np.array(self), self.opt)


def value(x: Any) -> Any:
    """The array that a Param holds, or the loss of a tape; anything else unchanged.

    >>> kn.value(kn.Param([1.0, 2.0]))  # the Array [1, 2]
    """
    return x.value if isinstance(x, Param) or hasattr(x, "gradient") else x


def params(x: Any) -> list[Param]:
    """All Params that an object holds, each once: in tuples, lists, dicts, attributes, closures; or those of a tape.

    >>> kn.params({"w": kn.Param([1.0]), "b": kn.Param([0.0])})  # [P([1.]), P([0.])]
    """
    if hasattr(x, "gradient") and hasattr(x, "params"):
        return list(x.params)
    return find(x, Param, (Box,))


__all__ = ["Param", "params", "value"]
