"""Python numbers that a traced function is given: their values are known only when the program runs.

``RuntimeScalar`` stands for an int, a float or a bool while a function is traced. Arithmetic on it is recorded in
double precision or int64, as Python computes, and against arrays it is weak, as Python's own scalars are. Where Python
needs the value itself (an index, a shape, a branch), the trace begins again with the number as a constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from knetc.ir.node import Node
from knetc.ir.op import OPS
from knetc.ir.record import record
from knetc.ops.apply import WeakScalar, broadcast_node, cast_node, constant
from knetc.ops.identities import check_range
from knetc.runtime.base import dtypes

Needs = Callable[[frozenset[int], str], NoReturn]
"""Begins a trace again with some of its scalars static: ``needs(scalars, use)``."""

_DTYPE = {bool: dtypes.boolean, int: dtypes.i64, float: dtypes.f64}


class RuntimeScalar(WeakScalar):
    """A number of Python type ``kind`` whose value is graph value ``node``, computed from the scalars ``roots``."""

    __slots__ = ("_kind", "_needs", "node", "roots")

    def __init__(self, kind: type, node: Node, roots: frozenset[int], needs: Needs) -> None:
        self._kind = kind
        self.node = node
        self.roots = roots
        self._needs = needs

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # ``isinstance(n, int)`` in a traced function shall answer as it does when the function runs uncompiled.
        return self._kind

    def spread(self, dtype: Any, shape: tuple[int, ...]) -> Node:
        """The value in another dtype, in every element of an array; a run raises RangeError for an int beyond it."""
        node = self.node
        if self._kind is int and dtypes.is_integer(dtype) and dtype != dtypes.i64:
            bounds = np.iinfo(dtype)
            message = f"the number {{value}} does not fit into {dtype}, the dtype of the arrays beside it"
            node = check_range(node, int(bounds.min), min(int(bounds.max) + 1, 1 << 63), message, "RangeError")
        return broadcast_node(cast_node(node, dtype), shape)

    def _static(self, use: str) -> Any:
        self._needs(self.roots, use)

    def _binary(self, name: str, other: Any, kind: type | None, *, swap: bool = False) -> Any:
        other_kind = other.__class__ if type(other) is RuntimeScalar else type(other)
        if other_kind not in _DTYPE:
            return NotImplemented
        operand = float if float in (self._kind, other_kind) or name == "true_divide" else int
        dtype = _DTYPE[operand]
        roots = self.roots
        left = self.spread(dtype, ())
        if type(other) is RuntimeScalar:
            right = other.spread(dtype, ())
            roots |= other.roots
        else:
            right = constant(other, dtype)
        sources = (right, left) if swap else (left, right)
        return RuntimeScalar(kind or operand, record(OPS[name], sources), roots, self._needs)

    def _unary(self, name: str) -> RuntimeScalar:
        kind = float if self._kind is float else int
        return RuntimeScalar(kind, record(OPS[name], (self.spread(_DTYPE[kind], ()),)), self.roots, self._needs)

    def __add__(self, other: Any) -> Any:
        return self._binary("add", other, None)

    def __radd__(self, other: Any) -> Any:
        return self._binary("add", other, None, swap=True)

    def __sub__(self, other: Any) -> Any:
        return self._binary("subtract", other, None)

    def __rsub__(self, other: Any) -> Any:
        return self._binary("subtract", other, None, swap=True)

    def __mul__(self, other: Any) -> Any:
        return self._binary("multiply", other, None)

    def __rmul__(self, other: Any) -> Any:
        return self._binary("multiply", other, None, swap=True)

    def __truediv__(self, other: Any) -> Any:
        return self._binary("true_divide", other, float)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary("true_divide", other, float, swap=True)

    def __neg__(self) -> RuntimeScalar:
        return self._unary("negative")

    def __pos__(self) -> RuntimeScalar:
        return self

    def __abs__(self) -> RuntimeScalar:
        return self._unary("absolute")

    def __lt__(self, other: Any) -> Any:
        return self._binary("less", other, bool)

    def __le__(self, other: Any) -> Any:
        return self._binary("less_equal", other, bool)

    def __gt__(self, other: Any) -> Any:
        return self._binary("greater", other, bool)

    def __ge__(self, other: Any) -> Any:
        return self._binary("greater_equal", other, bool)

    def __eq__(self, other: object) -> Any:
        return self._binary("equal", other, bool)

    def __ne__(self, other: object) -> Any:
        return self._binary("not_equal", other, bool)

    # Whatever else is asked of the number, Python needs its value.

    def __pow__(self, other: Any) -> Any:
        return self._static("an exponentiation") if type(other) in _DTYPE else NotImplemented

    def __rpow__(self, other: Any) -> Any:
        return self._static("an exponentiation") if type(other) in _DTYPE else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        return self._static("a floor division") if type(other) in _DTYPE else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        return self._static("a floor division") if type(other) in _DTYPE else NotImplemented

    def __mod__(self, other: Any) -> Any:
        return self._static("a remainder") if type(other) in _DTYPE else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        return self._static("a remainder") if type(other) in _DTYPE else NotImplemented

    def __hash__(self) -> int:
        return self._static("a key")  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self._static("a branch")  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return self._static("int()")  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return self._static("float()")  # type: ignore[no-any-return]

    def __index__(self) -> int:
        return self._static("an index or a shape")  # type: ignore[no-any-return]

    def __round__(self, digits: int | None = None) -> int:
        return self._static("round()")  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{self._kind.__name__} that is known at run time>"  # for debuggers and tracebacks

    def __str__(self) -> str:
        return self._static("printing")  # type: ignore[no-any-return]

    def __format__(self, spec: str) -> str:
        return self._static("printing")  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__array"):  # NumPy asks; it would want the value next
            return self._static("a NumPy function")
        return self._static(f".{name}")
