"""The exceptions that knetc raises: one class for each kind of mistake, each also a builtin exception."""

from __future__ import annotations

from collections.abc import Callable


class KnetcError(Exception):
    """Base class of all errors that knetc raises on purpose."""


def _nowhere() -> object:
    return None


_where: list[Callable[[], object]] = [_nowhere]
"""Tells the user's line that is running; the recorder of operations knows."""


def tell_where(where: Callable[[], object]) -> None:
    """Name the function that finds the user's line, or None."""
    _where[0] = where


class LocatedError(KnetcError):
    """A mistake that is found on the line where it was made, which the message ends with."""

    def __init__(self, message: str = "") -> None:
        line = _where[0]() if "\n  at " not in message else None
        super().__init__(message if line is None else f"{message}\n  at {line}")


class ShapeError(LocatedError, ValueError):
    """Shapes that do not fit an operation."""


class AxisError(ShapeError, IndexError):
    """An axis that an array does not have."""


class DtypeError(LocatedError, TypeError):
    """Dtypes that an operation does not take."""


class RangeError(LocatedError, OverflowError):
    """A Python number that the dtype of the arrays beside it does not hold."""


class UnsupportedError(LocatedError, TypeError):
    """A NumPy function, protocol or argument that knetc arrays do not support; the message names the cure."""


class TraceError(LocatedError, RuntimeError):
    """Something that cannot be done while a function is being traced, such as branching on a traced value."""


class CaptureError(KnetcError, RuntimeError):
    """A traced function touched an array that is neither an argument nor reachable from the function."""


class DifferentiationError(LocatedError, RuntimeError):
    """A value that cannot be differentiated."""


class LabelError(LocatedError, IndexError):
    """An index or label that is out of range, found when it is used or while running."""


class NanError(KnetcError, FloatingPointError):
    """A kernel produced NaN and the user asked to be told."""


class LinearAlgebraError(KnetcError, ValueError):
    """A matrix that a decomposition or a solution does not exist for, such as a singular one, found while running."""


class HostCallError(KnetcError, RuntimeError):
    """A Python function that a program called did not keep to its type, or used knetc's arrays."""


class VariantsError(KnetcError, RuntimeError):
    """A compiled function met more signatures than it may have, or a new one where that is an error."""


class OutOfMemoryError(KnetcError, MemoryError):
    """Memory for a buffer could not be had; says what was asked and what is held."""


class DeviceError(LocatedError, RuntimeError):
    """A device that is not there, or values of different devices in one operation."""


class CudaError(KnetcError, RuntimeError):
    """The GPU's driver or one of its libraries refused a call, or work that was asked for earlier failed."""


class CacheError(KnetcError, RuntimeError):
    """A cache entry or artifact that cannot be used."""


class CheckError(KnetcError, AssertionError):
    """The compiler's own check of a graph failed after a pass: a bug of knetc."""


class GraphTextError(KnetcError, ValueError):
    """Text that does not describe a graph."""


class CompileError(KnetcError, RuntimeError):
    """Native code could not be made."""


__all__ = [
    "AxisError", "CaptureError", "DifferentiationError", "DtypeError", "HostCallError", "KnetcError", "LabelError",
    "LinearAlgebraError", "NanError", "OutOfMemoryError", "ShapeError", "TraceError", "UnsupportedError",
    "VariantsError",
]  # fmt: skip
