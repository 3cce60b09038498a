"""Array: a handle on a value, with the operators, methods and protocols that Python code expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from knetc import direct, lazy, tapes
from knetc.ir.ambient import ambient
from knetc.ir.node import Node
from knetc.ir.types import Shape, TensorType
from knetc.lazy import Context, Storage
from knetc.ops import (
    apply,
    arithmetic,
    bits,
    choosing,
    division,
    elementary,
    indexed,
    indexing,
    joining,
    linalg,
    linear,
    logic,
    movement,
    rearrange,
    reduction,
    scan,
    sorting,
    transcendental,
)
from knetc.ops.apply import WeakScalar, broadcast_node, cast_node, common_dtype, constant, is_scalar, scalar_node
from knetc.readable import Readable, shown
from knetc.runtime import dlpack
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import ShapeError, TraceError
from knetc.runtime.buffers import Buffer, allocate
from knetc.runtime.devices import CPU, canonical, device
from knetc.structure import leaves, map_leaves

# --- conversions -----------------------------------------------------------------------------------------------------


def of_node(node: Node) -> Array:
    """The user's handle on a value that was recorded just now."""
    made = Array.__new__(Array)
    made.type = node.type
    made.origin = None
    lazy.context().adopt(made, node)
    if lazy.tapes.active:
        tapes.note_made(made)
    return made


def of_buffer(type: TensorType, buffer: Any, offset: int = 0) -> Array:
    """An Array on memory, whose elements are dense in C order from ``offset`` bytes on."""
    made = Array.__new__(Array)
    made.type = type
    made.buffer = buffer
    made.offset = offset
    made.node = made.owner = made.origin = None
    if lazy.tapes.active:
        tapes.note_made(made)
    return made


def node_of(value: Any) -> Node:
    """The graph value that something array-like stands for where it is used; of a Param, what is differentiated."""
    if not isinstance(value, ArrayLike):
        return plain_node(value)
    owner, current = value.owner, lazy.context()
    if owner is not None:
        if owner is current:
            assert value.node is not None
            return value.node
        if not owner.active:
            raise TraceError(lazy.stale_message(value))
    return value._read(current)


def plain_node(value: Any) -> Node:
    """The graph value of data from outside: a number, a NumPy array or scalar, or nested lists."""
    if is_scalar(value):
        return value.spread(_WEAK[value.__class__](), ()) if isinstance(value, WeakScalar) else weak_constant(value)
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.shape == ()):
        number = to_numpy(value)
        return constant(number.item(), number.dtype)
    if _holds_arrays(value):
        return _joined(value, common_dtype(*leaves(value)))
    return lazy.context().data(to_numpy(value))


def _holds_arrays(value: Any) -> bool:
    """Whether there are Arrays or Params in nested lists."""
    if not isinstance(value, (list, tuple)):
        return False
    return any(
        isinstance(item, (ArrayLike, list, tuple)) and (isinstance(item, ArrayLike) or _holds_arrays(item))
        for item in value
    )


def _joined(value: Any, dtype: np.dtype[Any]) -> Node:
    """Nested lists with arrays among the numbers as one value, which depends on the arrays."""
    if isinstance(value, (list, tuple)):
        return joining.stack([_joined(item, dtype) for item in value])  # type: ignore[no-any-return]
    return scalar_node(value, dtype) if is_scalar(value) else cast_node(node_of(value), dtype)


_WEAK: dict[type, Callable[[], Any]] = {
    bool: lambda: dtypes.boolean,
    int: lambda: dtypes.i64,
    float: lambda: ambient().dtype,
}


def weak_constant(value: bool | int | float) -> Node:
    """A Python number alone: bool, int64 or the default floating dtype."""
    return constant(value, _WEAK[type(value)]())


def to_numpy(value: Any) -> np.ndarray[Any, Any]:
    """Anything array-like as a NumPy array of a dtype that knetc has.

    Nested lists of Python floats get the default dtype, ints int64; NumPy's arrays and scalars keep theirs.
    """
    if isinstance(value, ArrayLike):
        return value.numpy()
    try:
        found = np.asarray(value)
    except ValueError:
        raise ShapeError("nested lists of different lengths are no array: make them equally long, with pad") from None
    if not found.dtype.isnative:
        found = found.astype(found.dtype.newbyteorder("="))
    if found.dtype == dtypes.f64 and not hasattr(value, "dtype"):
        found = found.astype(ambient().dtype)
    lazy.check_dtype(found.dtype)
    return found


apply.slots.to_node = node_of
apply.slots.to_array = of_node


def operand(value: Any) -> Any:
    """What an operator works with, data from NumPy made an Array once; None for what is no operand."""
    if isinstance(value, ArrayLike) or is_scalar(value):
        return value
    if isinstance(value, (np.ndarray, np.generic, list, tuple)):
        return of_node(plain_node(value))
    return None


class _Protocol:
    """How NumPy's functions are carried out: ``knetc.numpy_protocol`` fills it, since it needs every operation."""

    ufunc: Callable[..., Any]
    function: Callable[..., Any]
    #: the module that ``__array_namespace__`` gives, which ``knetc.array_api`` fills in
    namespace: Any


protocol = _Protocol()


# --- what Array and Param share --------------------------------------------------------------------------------------


def _binary(function: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """The method of a binary operator and its reflected twin."""

    def forward(self: Any, other: Any) -> Any:
        converted = operand(other)
        return NotImplemented if converted is None else function(self, converted)

    def reflected(self: Any, other: Any) -> Any:
        converted = operand(other)
        return NotImplemented if converted is None else function(converted, self)

    return forward, reflected


class ArrayLike(Readable):
    """What Array and Param can both do."""

    __slots__ = ()

    __hash__ = object.__hash__

    def _read(self, current: Context) -> Node:
        """The node that stands for this handle where it is used."""
        return current.read(self)

    def _write(self, node: Node) -> None:
        """Make ``node`` this handle's value."""
        owner, current = self.owner, lazy.context()
        if owner is current and owner is not None:
            self.node = node
        else:
            current.write(self, node)
        self.type = node.type

    # --- other libraries ---

    def __dlpack__(
        self,
        *,
        stream: Any = dlpack.UNSAID,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """The memory for another library, not copied; while it is held there, assignments here take fresh memory."""
        options: dict[str, Any] = {"max_version": max_version, "dl_device": dl_device, "copy": copy}
        storage = self._storage("an export")
        if storage.buffer.device != CPU:
            return dlpack.export_gpu(storage.buffer, storage.offset, self.dtype, self.shape, stream, **options)
        options["stream"] = None if stream is dlpack.UNSAID else stream
        return dlpack.export(lazy.numpy_view(storage, self.type, writeable=True), **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.device_of(self.device)

    def __buffer__(self, flags: int) -> memoryview:
        return self.numpy().data

    # --- NumPy's functions ---

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return protocol.ufunc(ufunc, method, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        return protocol.function(function, arguments, keywords)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The functions of the array API standard: ``knetc.array_api``. Raises ValueError for later versions."""
        if api_version not in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            raise ValueError(f"there is the array API standard up to 2024.12, not {api_version!r}")
        return protocol.namespace

    def to_device(self, device: str, /, *, stream: Any = None) -> Any:
        """The array on a device: itself if it is there, else a copy; see ``kn.to_device``."""
        if stream is not None:
            raise ValueError("to_device takes no stream: copies are complete when it returns")
        return to_device(self, device)

    # --- operators ---

    __add__, __radd__ = _binary(arithmetic.add)
    __sub__, __rsub__ = _binary(arithmetic.subtract)
    __mul__, __rmul__ = _binary(arithmetic.multiply)
    __truediv__, __rtruediv__ = _binary(arithmetic.true_divide)
    __floordiv__, __rfloordiv__ = _binary(division.floor_divide)
    __mod__, __rmod__ = _binary(division.mod)
    __divmod__, __rdivmod__ = _binary(elementary.divmod)
    __pow__, __rpow__ = _binary(transcendental.power)
    __matmul__, __rmatmul__ = _binary(linear.matmul)
    __and__, __rand__ = _binary(logic.bitwise_and)
    __or__, __ror__ = _binary(logic.bitwise_or)
    __xor__, __rxor__ = _binary(logic.bitwise_xor)
    __lshift__, __rlshift__ = _binary(logic.left_shift)
    __rshift__, __rrshift__ = _binary(logic.right_shift)
    __lt__, __gt__ = _binary(logic.less)
    __le__, __ge__ = _binary(logic.less_equal)
    __eq__ = _binary(logic.equal)[0]
    __ne__ = _binary(logic.not_equal)[0]

    def __neg__(self) -> Any:
        return arithmetic.negative(self)

    def __pos__(self) -> Any:
        return arithmetic.positive(self)

    def __abs__(self) -> Any:
        return arithmetic.absolute(self)

    def __invert__(self) -> Any:
        return logic.invert(self)

    # --- assignment ---

    def __getitem__(self, key: Any) -> Any:
        items = key if type(key) is tuple else (key,)
        if any(isinstance(item, ArrayLike) and item.type.dtype.kind != "b" for item in items):
            return at_places(self, key)
        if isinstance(key, (ArrayLike, np.ndarray)) and (found := direct.chosen(self, key)) is not None:
            return computed(found)
        return indexing.index(self, with_places(normal_key(key), self.type.shape))

    def __setitem__(self, key: Any, value: Any) -> None:
        tapes.check_assignment(self)
        if direct.assign(self, key, value):
            return
        now = lazy.context().read(self) if self.owner is None else node_of(self)
        new = value if is_scalar(value) else node_of(value)
        if key is Ellipsis:
            self._write(fitted(new, self.type))
            return
        key = normal_key(key)
        if not indexing.takes_mask(key, self.type.ndim, new):
            key = with_places(key, self.type.shape)
        self._write(indexing.index_update(now, key, new))

    # --- methods, as NumPy's ---

    sum = reduction.sum
    prod = reduction.prod
    max = reduction.max
    min = reduction.min
    mean = reduction.mean
    var = reduction.var
    std = reduction.std
    argmax = reduction.argmax
    argmin = reduction.argmin
    cumsum = scan.cumsum
    cumprod = scan.cumprod
    searchsorted = sorting.searchsorted
    any = reduction.any
    all = reduction.all
    ravel = movement.ravel
    flatten = movement.ravel
    squeeze = movement.squeeze
    swapaxes = movement.swapaxes
    round = arithmetic.round
    dot = linear.dot
    take = indexed.take
    repeat = rearrange.repeat
    diagonal = rearrange.diagonal

    trace = linalg.numpy_trace
    conj = conjugate = arithmetic.positive

    @property
    def real(self) -> Any:
        """The array: there are no complex numbers."""
        return self

    @property
    def imag(self) -> Any:
        """Zeros: there are no complex numbers."""
        return of_node(constant(0, self.type.dtype, self.type.shape))

    def clip(self, low: Any = None, high: Any = None, *, min: Any = None, max: Any = None) -> Any:
        """The elements kept between two bounds, either of which may be None; they are also called min and max."""
        return arithmetic.clip(self, min if low is None else low, max if high is None else high)

    def argsort(self, axis: int | None = -1, kind: Any = None, *, descending: bool = False, stable: Any = None) -> Any:
        """The indices that sort the array along an axis; equal elements keep their order, whatever the kind."""
        return sorting.argsort(self, axis, descending=descending)

    def choose(self, choices: Any, mode: str = "raise") -> Any:
        """For each element the choice that it names; see ``kn.choose``."""
        return choosing.choose(self, choices, mode=mode)

    def compress(self, condition: Any, axis: int | None = None) -> Any:
        """The slices along an axis where a condition holds; see ``kn.compress``."""
        return protocol.function(np.compress, (condition, self), {"axis": axis})

    def fill(self, value: Any) -> None:
        """Assign a value to all elements."""
        self[...] = value

    def view(self, dtype: Any) -> Any:
        """The bits of the elements as another dtype of the same width."""
        return bits.bitcast(self, dtype)

    def nonzero(self) -> tuple[Any, ...]:
        """The indices of the elements that are not 0, an array for each axis; see ``kn.nonzero``."""
        found: tuple[Any, ...] = protocol.function(np.nonzero, (self,), {})
        return found

    def sort(self, axis: int = -1, *, descending: bool = False) -> None:
        """Sort in place along an axis."""
        self[...] = sorting.sort(self, axis, descending=descending)

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> Any:
        """The elements in another shape; one extent may be -1. The ``order`` is that of ``kn.reshape``."""
        return movement.reshape(self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes: Any) -> Any:
        """The axes in another order; reversed by default."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return movement.permute_dims(self, order or None)

    @property
    def T(self) -> Any:
        """The array with its axes reversed."""
        return movement.permute_dims(self)

    @property
    def mT(self) -> Any:
        """The array with its last two axes exchanged."""
        return movement.matrix_transpose(self)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """The elements in another dtype."""
        wanted = dtypes.as_dtype(dtype)
        lazy.check_dtype(wanted)
        return of_node(cast_node(node_of(self), wanted))

    def copy(self, order: str = "C") -> Array:
        """An array of the same numbers (arrays are values: a later assignment to one never shows in the other)."""
        return of_node(node_of(self))

    def __copy__(self) -> Any:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.copy()


def normal_key(key: Any) -> Any:
    """An index in which lists are arrays and bools of no dimensions are Python's."""
    if isinstance(key, tuple):
        return tuple(map(_normal_item, key))
    return _normal_item(key)


def _normal_item(item: Any) -> Any:
    if isinstance(item, (list, range)):
        if any(isinstance(part, ArrayLike) for part in item):
            return array(list(item))
        return np.asarray(item, np.int64 if not len(item) else None)
    if getattr(item, "dtype", None) == dtypes.boolean and not item.ndim:
        return bool(item)
    return item


def with_places(key: Any, shape: Shape) -> Any:
    """An index in which each mask is replaced by the places where it is true: numbers must be known for that.

    Raises TraceError where a function is traced: how many there are is not known then.
    """
    if not any(map(indexing.is_mask, key if isinstance(key, tuple) else (key,))):
        return key
    places: list[Any] = []
    axis = 0
    for item in indexing.items_of(key, len(shape)):
        if not indexing.is_mask(item):
            places.append(item)
            axis += not (item is None or item is Ellipsis or isinstance(item, (bool, np.bool_)))
            continue
        indexing.check_mask(shape, axis, item)
        axis += item.ndim
        if lazy.tracing() or (isinstance(item, ArrayLike) and item.owner is not None):
            raise TraceError(
                f"x[mask], with a mask of shape {tuple(item.shape)}, has a shape that depends on the data, and inside "
                "of a compiled function shapes are known before: use kn.where(mask, x, 0) and a reduction, or "
                "x[kn.nonzero(mask, size=n)] for n elements; assigning a number to x[mask] works, and so does x[mask] "
                "outside of compiled functions"
            )
        places.extend(np.nonzero(to_numpy(item)))
    return tuple(places)


@apply.at_once
def at_places(x: Any, key: Any) -> Any:
    """``x[key]``, for a key with index arrays."""
    return indexing.index(x, with_places(normal_key(key), x.type.shape))


def fitted(value: Any, type: TensorType) -> Node:
    """A value to be assigned to a place of ``type``: cast to its dtype and broadcast to its shape."""
    if is_scalar(value):
        return apply.scalar_node(value, type.dtype, type.shape)
    try:
        return broadcast_node(cast_node(value, type.dtype), type.shape)
    except ShapeError:
        raise ShapeError(f"a value of shape {value.shape} does not fit into an array of shape {type.shape}") from None


class Array(ArrayLike):
    """An array: a dtype, a shape, and numbers that are computed when they are needed.

    Arrays are made by ``kn.array`` and the other constructors, and by operations. They hash by identity.
    """

    __slots__ = ()

    def __init__(self, value: Any, dtype: Any = None) -> None:
        raise TypeError("arrays are made by kn.array(value)")

    def __repr__(self) -> str:
        shape = "" if self.type.size or self.type.shape == (0,) else f", shape={self.type.shape}"
        return f"Array({shown(self, 'Array(')}{shape}, dtype={self.dtype})"

    def __str__(self) -> str:
        return shown(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return array, (np.array(self),)


def array(value: Any, dtype: Any = None, *, device: str | None = None) -> Array:
    """An Array with a copy of the numbers in ``value``: a number, nested lists, a NumPy array, an Array or a Param.

    Python floats get the default dtype and ints int64; NumPy arrays keep theirs, unless ``dtype`` says else. It is made
    on ``device``; if that is not given, where ``value`` is if it has one, else on the default device. Raises DtypeError
    for dtypes that are not supported, DeviceError for a device that is not there.

    >>> kn.array([[1.0, 2.0], [3.0, 4.0]])  # float32, shape (2, 2)
    """
    where = None if device is None else canonical(device)
    held = isinstance(value, ArrayLike)
    if held:
        if where is not None and value.owner is None:
            value = to_device(value, where)
        node = lazy.context().read(value) if value.owner is None else node_of(value)
    elif _holds_arrays(value):
        if where is not None:
            value = map_leaves(lambda leaf: to_device(leaf, where) if isinstance(leaf, ArrayLike) else leaf, value)
        node = plain_node(value)
    elif dtype is not None and type(value) in (bool, int, float, list, tuple):  # rounded once, to what is asked for
        wanted = dtypes.as_dtype(dtype)
        lazy.check_dtype(wanted)
        node = constant(value, wanted) if is_scalar(value) else lazy.context().data(np.asarray(value, wanted))
    else:
        node = plain_node(value)
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
        lazy.check_dtype(wanted)
        node = cast_node(node, wanted)
    return of_node(node) if held else placed(node, where)


def computed(values: np.ndarray[Any, Any]) -> Array:
    """An Array, on the default device, of numbers that were computed by the host."""
    if ambient().device != CPU or lazy.context().is_trace:
        return array(values)
    type, storage = lazy.copy_in(values)
    return of_buffer(type, storage.buffer)


def placed(node: Node, device: str | None = None) -> Array:
    """The user's handle on a new value, on a device: the default one, if no full name is given."""
    made = of_node(node)
    lazy.context().place(made, device)
    return made


def to_device(x: Any, device: str) -> Any:
    """``x`` on a device ("cpu", "cuda", "cuda:1" …): itself if it is there, else a copy. A Param gives a new Param.

    What is on the way is computed first; gradients do not go through. Raises DeviceError for a device that is not
    there, TraceError inside of compiled functions, which run on one device.

    >>> kn.to_device(kn.ones(3), "cpu")
    """
    to = canonical(device)
    if not isinstance(x, ArrayLike):
        return array(x, device=to)
    if lazy.device_of(x) == to:
        return x
    storage = x._storage("a copy to another device")
    return of_buffer(TensorType(x.dtype, x.shape), lazy.moved(storage, x.type, to).buffer)


def from_dlpack(x: Any) -> Array:
    """An Array on the memory of another library's array, on a CPU or a GPU, without a copy if it is dense.

    It must not be written there while the Array is used. Raises DtypeError for dtypes that are not supported,
    DeviceError for memory of another kind of device.

    >>> kn.from_dlpack(torch.ones(3))
    """
    elsewhere = dlpack.take_gpu(x)
    if elsewhere is not None:
        buffer, dtype, shape = elsewhere
        lazy.check_dtype(dtype)
        return of_buffer(TensorType(dtype, shape), buffer)
    found = dlpack.take(x)
    lazy.check_dtype(found.dtype)
    dense = np.ascontiguousarray(found).reshape(found.shape)  # NumPy makes a vector of a number
    return of_buffer(TensorType(found.dtype, found.shape), Buffer.from_numpy(dense))


def zeros_in_memory(type: TensorType, where: str = CPU) -> Array:
    """An Array of zeros that is memory at once, also while a function is traced: an optimizer's state."""
    if where != CPU:
        return of_buffer(TensorType(type.dtype, type.shape), device(where).zeros(type.size_bytes))
    buffer = allocate(type.size_bytes)
    made = of_buffer(type, buffer)
    lazy.numpy_view(Storage(buffer), type, writeable=True)[...] = 0
    return made


__all__ = ["Array", "array", "from_dlpack", "to_device"]
