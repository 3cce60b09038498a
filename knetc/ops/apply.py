"""How operations meet their operands: nodes inside passes, arrays and Params in users' code, Python scalars in both.

Plain functions such as ``exp`` or ``softmax`` are written once. Given graph nodes (by a gradient rule or a pass) they
return a node; given arrays they return an array. Scalars are weak: they take the dtype of the arrays they meet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from functools import reduce, wraps
from inspect import signature
from itertools import zip_longest
from typing import Any, ParamSpec, TypeVar

import numpy as np

from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.ir.op import OPS, Domain, Kind, Op, register
from knetc.ir.record import record, user_line
from knetc.ir.types import Shape, TensorType
from knetc.ops.define import case, check_kind
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import DtypeError, RangeError, ShapeError

log = logging.getLogger("knetc")

Operand = Any
"""A Node, an Array, a Param, a NumPy array or scalar, or a Python scalar."""

Scalar = bool | int | float

P = ParamSpec("P")
R = TypeVar("R")


class _Slots:
    """What ``knetc.arrays`` fills in, the two conversions that this layer cannot know; and ``knetc.compiler``."""

    #: from an Array, Param or anything array-like to the node that stands for it where it is used
    to_node: Callable[[Any], Node]
    #: from a node to the user's Array
    to_array: Callable[[Node], Any]
    #: what a function returns for these arguments if it can be computed at once, else None
    at_once: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


slots = _Slots()


def to_node(value: Operand) -> Node:
    """The graph value of an operand that is not a Python scalar."""
    return value if isinstance(value, Node) else slots.to_node(value)


def wrap_like(operands: tuple[Operand, ...], result: Node) -> Any:
    """``result`` as what the caller works with: a Node if every operand that is no scalar was one, else an Array."""
    for operand in operands:
        if isinstance(operand, Node):
            return result
    return slots.to_array(result)


class WeakScalar:
    """A Python number whose value is known only at run time (see ``knetc.ops.scalars``): weak, as all of them."""

    __slots__ = ()

    def spread(self, dtype: np.dtype, shape: Shape) -> Node:
        """The number as ``dtype`` in every element of an array of ``shape``."""
        raise NotImplementedError


def is_scalar(value: object) -> bool:
    """Whether a value is a weak Python scalar; NumPy's scalars are strong."""
    return type(value) in (bool, int, float) or isinstance(value, WeakScalar)


def scalar_node(value: Any, dtype: np.dtype, shape: Shape = ()) -> Node:
    """A weak scalar spread over ``shape``: a constant, or the run-time value."""
    return value.spread(dtype, shape) if isinstance(value, WeakScalar) else constant(value, dtype, shape)


# --- constants -------------------------------------------------------------------------------------------------------


def _infer_constant(*, value: Scalar, dtype: np.dtype, shape: Shape) -> TensorType:
    return TensorType(dtype, shape)


CONSTANT = register(
    Op(
        "constant",
        Kind.LEAF,
        _infer_constant,
        reference=lambda *, value, dtype, shape: np.full(shape, value, dtype),
        arity=0,
    )
)

INPUT = register(Op("input", Kind.LEAF, lambda *, index, type, scalar: type, arity=0))
"""A value from outside: ``index`` is its place in ``Graph.inputs``, ``type`` its dtype and shape; ``scalar`` tells that
it is passed by value (a Python number at run time; shape ()) and not as memory."""


def rounded(value: Scalar, dtype: np.dtype) -> Scalar:
    """A Python number as ``dtype`` has it; raises RangeError for an int that an integer dtype does not hold."""
    if type(value) is float and dtype == dtypes.f64:
        return value
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype).item()  # type: ignore[no-any-return]
    except OverflowError:
        wider = "int64" if -(2**63) <= value < 2**63 else "float64"
        raise RangeError(
            f"the number {value} does not fit into {dtype}, the dtype of the arrays beside it: a Python number takes "
            f"their dtype; convert them first, for example with x.astype('{wider}')"
        ) from None


def constant(value: Scalar, dtype: np.dtype, shape: Shape = ()) -> Node:
    """A scalar known while compiling, spread over ``shape``.

    The value is stored as a Python scalar already rounded to ``dtype``, so equal constants are equal nodes. Raises
    RangeError for an int that an integer dtype does not hold.
    """
    return record(CONSTANT, (), {"value": rounded(value, dtype), "dtype": dtype, "shape": shape})


# --- elementwise application -----------------------------------------------------------------------------------------


def broadcast_shapes(name: str, *shapes: Shape) -> Shape:
    """NumPy's broadcast of shapes; the error shows all of them."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        columns = [{n for n in column if n != 1} for column in zip_longest(*map(reversed, shapes), fillvalue=1)]
        if all(len(extents) < 2 for extents in columns):  # NumPy also refuses what would be too large: its type says so
            return tuple(max(extents, default=1) for extents in reversed(columns))
        shown = " and ".join(str(s) for s in shapes)
        raise ShapeError(
            f"{name}: shapes {shown} do not broadcast: counted from the last axis, extents must be equal or 1; "
            "put axes of 1 in with expand_dims or reshape"
        ) from None


def common_dtype(*operands: Operand) -> np.dtype:
    """The dtype that operands are promoted to: NumPy's promotion over the arrays, then over the weak scalars."""
    dtype: np.dtype | None = None
    scalars = []
    for operand in operands:
        if is_scalar(operand):
            scalars.append(operand)
            continue
        own: np.dtype = operand.dtype if hasattr(operand, "dtype") else to_node(operand).dtype
        if dtype is None or dtype == own:
            dtype = own
            continue
        if {dtype, own} == {dtypes.f32, dtypes.f64}:
            _note_promotion()
        dtype = dtypes.promote(dtype, own)
    if dtype is None:
        kinds = {s.__class__ for s in scalars}
        return ambient().dtype if float in kinds else dtypes.i64 if int in kinds else dtypes.boolean
    for scalar in scalars:
        dtype = dtypes.promote_weak(dtype, scalar, ambient().dtype)
    return dtype


_promotion_noted = False


def _note_promotion() -> None:
    """Tell once that float32 meets float64: the work from there on takes twice the memory, seldom on purpose."""
    global _promotion_noted
    if not _promotion_noted:
        _promotion_noted = True
        log.warning(
            "%s: float32 meets float64, and the result is float64; convert one with astype to choose (told once)",
            user_line(),
        )


def common_kind(*operands: Operand) -> str:
    """The kind of that dtype: ``f``, ``i`` or ``b``."""
    dtype = common_dtype(*operands)
    return "f" if dtypes.is_float(dtype) else "b" if dtype.kind == "b" else "i"


def to_nodes(*operands: Operand) -> list[Node]:
    """Operands as nodes, each with its own dtype and shape; a Python scalar is a constant of its default dtype."""
    return [scalar_node(o, common_dtype(o)) if is_scalar(o) else to_node(o) for o in operands]


def coerce(name: str, operands: tuple[Operand, ...], *, accepts: str = "fib") -> list[Node]:
    """Operands of an elementwise function as nodes of one dtype and one shape.

    ``accepts`` lists the dtype kinds (f, i, b) that the function takes: one that takes floats alone is given integers
    and bools as the default floating dtype, one that takes integers alone is given bools as int8.
    """
    nodes: list[Node | None] = [None if is_scalar(o) else to_node(o) for o in operands]
    dtype = common_dtype(*(o if n is None else n for o, n in zip(operands, nodes)))
    if accepts == "f" and not dtypes.is_float(dtype):
        dtype = ambient().dtype
    if accepts == "i" and dtype == dtypes.boolean:
        dtype = dtypes.i8
    check_kind(name, dtype, accepts)
    shape = broadcast_shapes(name, *[n.shape for n in nodes if n is not None])
    return [
        scalar_node(o, dtype, shape) if n is None else broadcast_node(cast_node(n, dtype), shape)
        for o, n in zip(operands, nodes)
    ]


def elementwise(op: Op, *operands: Operand, **attributes: Hashable) -> Any:
    """Apply an elementwise operation as users do: promoting dtypes, broadcasting shapes."""
    nodes = coerce(op.name, operands, accepts=op.dtypes)
    return wrap_like(operands, record(op, tuple(nodes), attributes))


def at_once(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of arrays whose calls on small ones that are in memory are computed at once.

    That is for functions that users call alone, and that gain little by fusion with what comes before and after.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        found = slots.at_once(function, args, kwargs)
        return function(*args, **kwargs) if found is None else found

    return wrapper


def composite(count: int = 1, *, wide: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a plain function that is written with others, so that it works on nodes inside.

    Its first ``count`` parameters are operands. They are made nodes once, and what the function returns is made what
    the caller works with; without this each step inside would make an array of its own. Python scalars stay weak
    beside arrays; where all operands are scalars, they become constants. None passes through.

    With ``wide``, operands of float16 and bfloat16 are computed with in float32, and what is returned is rounded to
    them once: a mean then overflows only if the mean does.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = tuple(signature(function).parameters)[:count]

        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            operands = (*args[:count], *(kwargs[n] for n in names if n in kwargs))
            alone = all(o is None or is_scalar(o) for o in operands)

            def convert(operand: Operand) -> Operand:
                if operand is None or (is_scalar(operand) and not alone):
                    return operand
                return to_nodes(operand)[0]

            positional = [*map(convert, args[:count]), *args[count:]]
            keywords = {n: convert(v) if n in names else v for n, v in kwargs.items()}
            narrow = None
            if wide:
                narrow = _narrow_result([*positional[:count], *(keywords[n] for n in names if n in keywords)])
            if narrow is not None:
                positional[:count] = map(_widened, positional[:count])
                keywords.update({n: _widened(keywords[n]) for n in names if n in keywords})
            result: Any = function(*positional, **keywords)  # type: ignore[arg-type]

            def finished(value: Any) -> Any:
                if narrow is not None and value.dtype == dtypes.f32:
                    value = cast_node(value, narrow)
                return wrap_like(operands, value)

            if isinstance(result, (tuple, list)):
                return type(result)(map(finished, result))  # type: ignore[return-value]
            return finished(result)  # type: ignore[no-any-return]

        return wrapper

    return decorate


def _narrow_result(operands: list[Any]) -> np.dtype | None:
    """The narrow dtype that floating operands are promoted to; None if it is not narrow."""
    floats = [o.dtype for o in operands if isinstance(o, Node) and dtypes.is_float(o.dtype)]
    result = reduce(dtypes.promote, floats) if floats else None
    return result if result is not None and dtypes.is_narrow(result) else None


def _widened(operand: Any) -> Any:
    """A node of a narrow dtype as float32; anything else as it is."""
    return widened(operand) if isinstance(operand, Node) else operand


def widened(x: Node) -> Node:
    """``x`` in the dtype that its elements are folded in: float32 for float16 and bfloat16."""
    return cast_node(x, dtypes.accumulator(x.dtype))


# --- the two conversions every function needs ------------------------------------------------------------------------


def _cast_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    source = node.sources[0]
    return (cast_node(dy, source.dtype) if dtypes.is_float(source.dtype) else None,)


def _cast_reference(x: np.ndarray, *, dtype: np.dtype) -> np.ndarray:
    if dtypes.is_narrow(x.dtype):
        x = x.astype(dtypes.f32)
    if dtypes.is_float(x.dtype) and dtypes.is_integer(dtype):
        bounds = np.iinfo(dtype)
        with np.errstate(invalid="ignore"):
            inside = np.trunc(np.where(np.isnan(x), 0, x))
            low, high = inside < float(bounds.min), inside >= float(bounds.max)
            body = np.where(low | high, 0, inside).astype(dtype)
        return np.where(low, bounds.min, np.where(high, bounds.max, body)).astype(dtype)
    with np.errstate(over="ignore"):
        return x.astype(dtype)


CAST = register(
    Op(
        "cast",
        Kind.ELEMENTWISE,
        lambda x, *, dtype: x.with_dtype(dtype),
        reference=_cast_reference,
        gradient=_cast_gradient,
        emit=lambda e, x, *, dtype: e.convert(x, dtype),
        exact=True,
        domains=(Domain(-300, 300, (0.5, -0.5, 1e30, -1e30, float("inf"), float("nan"))),),
    )
)


def cast_node(x: Node, dtype: np.dtype) -> Node:
    """``x`` with another dtype; ``x`` itself when it has it."""
    return x if x.dtype == dtype else record(CAST, (x,), {"dtype": dtype})


def cast(x: Operand, dtype: Any) -> Any:
    """``x`` with another dtype, as NumPy's ``astype``: floats lose their fraction on the way to integers.

    Floats out of an integer's range give its nearest bound and NaN gives 0; whatever is not 0 is True. Raises
    DtypeError for a dtype that knetc does not compute with.

    >>> cast(kn.array([1.7, -1.7]), "int32")  # [1, -1]
    """
    wanted = dtypes.as_dtype(dtype)
    if not dtypes.is_supported(wanted):
        raise DtypeError(f"cast to {wanted}: knetc computes with {dtypes.supported_names()}")
    [node] = to_nodes(x)
    return wrap_like((x,), cast_node(node, wanted))


COPY = register(
    Op(
        "copy",
        Kind.ELEMENTWISE,
        lambda x, *, number: x,
        reference=lambda x, *, number: x.copy(),
        gradient=lambda node, dy: (dy,),
        emit=lambda e, x, *, number: x,
        exact=True,
        samples=[
            case("f32[2,3]", number=0),
            case("f64[]", number=1),
            case("i32[0]", number=0),
            case("bool[3]", number=0),
        ],
    )
)
"""The value in memory of its own; ``number`` keeps copies apart, so that two outputs never share memory."""


def _infer_broadcast(x: TensorType, *, shape: Shape) -> TensorType:
    padded = (1,) * (len(shape) - x.ndim) + x.shape
    if len(padded) != len(shape) or any(a not in (1, b) for a, b in zip(padded, shape)):
        raise ShapeError(f"cannot broadcast shape {x.shape} to {shape}")
    return x.with_shape(shape)


def _broadcast_gradient(node: Node, dy: Node) -> tuple[Node | None, ...]:
    source = node.sources[0]
    lead = node.ndim - source.ndim
    axes = (*range(lead), *(lead + k for k, n in enumerate(source.shape) if n == 1 and node.shape[lead + k] != 1))
    total = record_sum(dy, tuple(axes))
    return (reshape_node(total, source.shape),)


BROADCAST = register(
    Op(
        "broadcast",
        Kind.MOVEMENT,
        _infer_broadcast,
        reference=lambda x, *, shape: np.broadcast_to(x, shape).copy(),
        gradient=_broadcast_gradient,
        samples=[
            case("f32[]", shape=(2, 3)),
            case("f64[3,1]", shape=(2, 3, 4)),
            case("f64[1,1]", shape=(1, 5)),
            case("i64[0]", shape=(3, 0)),
            case("bool[1]", shape=(0,)),
        ],
        bad=[(case("f32[2]", shape=(3,)), ShapeError), (case("f32[2,2]", shape=(2,)), ShapeError)],
    )
)


def broadcast_node(x: Node, shape: Shape) -> Node:
    """``x`` spread to ``shape`` by NumPy's rule; ``x`` itself when it has it."""
    return x if x.shape == shape else record(BROADCAST, (x,), {"shape": shape})


def _infer_reshape(x: TensorType, *, shape: Shape) -> TensorType:
    result = x.with_shape(shape)
    if result.size != x.size:
        raise ShapeError(f"cannot reshape {x.size} elements of shape {x.shape} to {shape}, which has {result.size}")
    return result


RESHAPE = register(
    Op(
        "reshape",
        Kind.MOVEMENT,
        _infer_reshape,
        reference=lambda x, *, shape: x.reshape(shape).copy(),
        gradient=lambda node, dy: (reshape_node(dy, node.sources[0].shape),),
        samples=[
            case("f32[6]", shape=(2, 3)),
            case("f64[2,3,4]", shape=(6, 4)),
            case("i32[1]", shape=()),
            case("bool[0,3]", shape=(5, 0)),
        ],
        bad=[(case("f32[6]", shape=(4,)), ShapeError), (case("f32[6]", shape=(-1,)), ShapeError)],
    )
)


def reshape_node(x: Node, shape: Shape) -> Node:
    """``x`` with another shape of as many elements; ``x`` itself when it has it."""
    return x if x.shape == shape else record(RESHAPE, (x,), {"shape": shape})


def record_sum(x: Node, axes: tuple[int, ...]) -> Node:
    """Sum over axes; ``x`` itself when there are none."""
    return cast_node(record(OPS["sum"], (widened(x),), {"axes": axes}), x.dtype) if axes else x
