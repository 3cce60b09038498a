"""Lazy evaluation: what a handle stands for, the graph that is pending, and how it is realized.

A ``Box`` (an ``Array`` or a ``Param``) is a handle on a graph value. Outside of a trace, operations record *pending*
nodes. Asking for a value realizes the connected pending graph that it belongs to: every value in it that a live handle
holds is computed by one program, and becomes memory. What no handle holds is never stored.

``Context`` is what a recorder must know beyond making nodes; the lazy recorder here is one, a trace is another.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import count, pairwise
from typing import Any, cast
from weakref import ref

import numpy as np

from knetc.cut import Cut, walk
from knetc.ir.ambient import ambient
from knetc.ir.node import Line, Node
from knetc.ir.op import Kind, Op
from knetc.ir.record import Recorder, recorder, recorders, set_default_recorder, user_line
from knetc.ir.types import TensorType
from knetc.memory import HostData, Storage, check_dtype, copy_in, moved, numpy_view, overwritable
from knetc.ops.apply import INPUT
from knetc.runtime.base import dtypes
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CompileError, DeviceError, TraceError
from knetc.runtime.buffers import Buffer
from knetc.stream import stream

#: held while nodes are recorded and graphs realized, so that handles may be used from several threads
LOCK = threading.RLock()

if hasattr(os, "register_at_fork"):  # a child must not find it held by a thread that it does not have
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


class Box:
    """What Array and Param share: a handle on a value, which is memory, pending, or part of a trace.

    Realized: ``buffer`` is there; ``node``, if any, is the leaf that stands for it in pending graphs. Pending:
    ``buffer`` is None, ``node`` is the value. Of a trace: ``owner`` is the trace, ``node`` its value. ``origin``
    remembers, weakly, the node that a value had on a tape before it became memory.
    """

    __slots__ = ("__weakref__", "buffer", "node", "offset", "origin", "owner", "type")

    type: TensorType
    buffer: Buffer | None
    offset: int
    node: Node | None
    owner: Context | None
    origin: ref[Node] | None


class Context(Recorder):
    """A recorder that users' code runs under: it also knows what handles mean.

    A trace is a subclass with ``is_trace`` True; it is put in force with ``recording(trace)`` and sets ``active`` to
    False when it ends, after which its handles are refused.
    """

    is_trace: bool = True
    active: bool = True
    device: str | None = None
    """The device that a trace is for; None as long as nothing has decided it."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()

    def note(self) -> tuple[Line, ...]:
        """The user's line, unless differentiation says whose value it works on."""
        if lines := self.lines:
            return lines
        line = user_line(4)
        return () if line is None else (line,)

    def read(self, box: Box) -> Node:
        """The node of a handle that is not this context's own: a Param, an argument or a captured array."""
        raise NotImplementedError

    def write(self, box: Box, node: Node) -> None:
        """Make ``node`` the value of a Param or array from outside: what ``w[...] = v`` means here."""
        raise NotImplementedError

    def data(self, array: np.ndarray[Any, Any]) -> Node:
        """The node of a NumPy array that the code brings in."""
        raise NotImplementedError

    def adopt(self, box: Box, node: Node) -> None:
        """Make ``box`` a handle on ``node``, which was recorded here."""
        box.node = node
        box.owner = self

    def concrete(self, box: Box, what: str) -> Storage:
        """The memory of a value that Python wants to see; a trace raises TraceError, since it has none."""
        raise TraceError(traced_message(box, what) if self.active else stale_message(box))

    def place(self, box: Box, device: str | None = None) -> None:
        """Let a value that was made just now be on a device: on ``device``, or where values are made by default."""
        raise NotImplementedError

    def random_base(self, count: int) -> Node:
        """An i64 scalar: the first of ``count`` numbers of the random stream that nothing else gets."""
        raise NotImplementedError

    def scalar(self, owner: object, name: str) -> Any:
        """The number in an object's attribute, such as a learning rate; a program reads it anew at each call."""
        raise NotImplementedError

    def fresh(self) -> int:
        """A number that this recorder gives out only once, counted from 0."""
        return next(self.numbers)


def traced_message(box: Box, what: str) -> str:
    """Why Python cannot see a traced value, and what to write instead."""
    made = box.node.lines[0] if box.node is not None and box.node.lines else None
    return (
        f"{what} needs the numbers of a value ({box.type}{f', made at {made}' if made else ''}) that is being traced: "
        "a compiled function runs later. Use kn.where to choose between values, kn.cond to choose between "
        "computations, kn.scan, kn.fori_loop or kn.while_loop to repeat them; or pass what decides as a static argument"
    )


# --- what is pending -------------------------------------------------------------------------------------------------


class Pending:
    """A connected pending graph: how many nodes it has, which handles hold values of it (a union-find tree), and
    where it will run."""

    __slots__ = ("assigned", "count", "device", "handles", "parent")

    def __init__(self) -> None:
        self.parent: Pending | None = None
        self.device: str | None = None
        """The device; None if it is all the same, as of constants."""
        self.count = 1
        self.handles: list[ref[Box]] = []
        self.assigned: list[tuple[ref[Box], Node]] = []
        """Handles that were assigned to, with the leaf of the memory that they had."""

    def root(self) -> Pending:
        root = self
        while root.parent is not None:
            root = root.parent
        here = self
        while here.parent is not None:  # shorten the way for the next time
            here.parent, here = root, here.parent
        root.parent = None
        return root

    def union(self, other: Pending) -> Pending:
        """Join two graphs, the smaller into the larger; returns the root."""
        a, b = self.root(), other.root()
        if a is b:
            return a
        if a.count + len(a.handles) < b.count + len(b.handles):
            a, b = b, a
        b.parent = a
        a.device = a.device or b.device
        a.count += b.count
        a.handles += b.handles
        a.assigned += b.assigned
        b.handles, b.assigned = [], []
        return a


def leaf_node(type: TensorType, storage: Storage) -> Node:
    """A leaf of pending graphs: a value that is memory."""
    return Node(INPUT, (), {"index": -1, "type": type, "scalar": False}, type, payload=storage)


def scalar_leaf(value: bool | int | float, dtype: np.dtype[Any]) -> Node:
    """A leaf of pending graphs: a number that programs are given when they run; another number compiles nothing."""
    type = TensorType(dtype, ())
    return Node(INPUT, (), {"index": -1, "type": type, "scalar": True}, type, payload=value)


def dense_view(op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable]) -> Storage | None:
    """The memory of a movement's result when it is a dense piece of memory that is there already; else None."""
    if op.name not in ("reshape", "slice") or not isinstance(storage := sources[0].payload, Storage):
        return None
    if op.name == "reshape":
        return storage
    offset = dense_slice(sources[0].shape, **attributes)  # type: ignore[arg-type]
    if offset is None:
        return None
    return storage.__class__(storage.buffer, storage.offset + offset * sources[0].dtype.itemsize)


def dense_slice(shape: Sequence[int], starts: Sequence[int], stops: Sequence[int], steps: Sequence[int]) -> int | None:
    """Where a slice begins, in elements, if its elements lie side by side; else None."""
    offset, stride, whole = 0, 1, True
    for extent, places in zip(reversed(shape), reversed([*map(range, starts, stops, steps)])):
        if not places:
            return 0
        if len(places) > 1 and (places.step != 1 or not whole):
            return None
        offset += places[0] * stride
        whole = whole and len(places) == extent
        stride *= extent
    return offset


class LazyRecorder(Context):
    """The recorder in force where no other is: it makes pending nodes and keeps account of which belong together."""

    is_trace = False

    _local = threading.local()

    @property
    def lines(self) -> tuple[Line, ...]:
        return getattr(self._local, "lines", ())

    @lines.setter
    def lines(self, lines: tuple[Line, ...]) -> None:
        self._local.lines = lines

    def make(self, op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Hashable]) -> Node:
        type: Any = op.infer(*[s.type for s in sources], **attributes)
        if op.kind is Kind.LEAF:
            return Node(op, sources, attributes, type, self.note())
        storage = dense_view(op, sources, attributes)
        if storage is not None:
            return (
                Node(op, sources, attributes, type, self.note(), storage) if tapes.active else leaf_node(type, storage)
            )
        with LOCK:
            pending: Pending | None = None
            device: str | None = None
            for source in sources:
                payload = source.payload
                if isinstance(payload, Pending):
                    payload = payload.root()
                elif not isinstance(payload, Storage):
                    continue
                if device is None:
                    device = payload.device
                elif payload.device is not None and payload.device != device:
                    raise different_devices(device, payload.device)
                if isinstance(payload, Pending):
                    pending = payload if pending is None else pending.union(payload)
            pending = Pending() if pending is None else pending.root()
            pending.device = device
            pending.count += 1
            return Node(op, sources, attributes, type, self.note(), pending)

    def read(self, box: Box) -> Node:
        if box.owner is not None:
            raise TraceError(stale_message(box))
        node = box.node
        if node is None:
            assert box.buffer is not None
            node = box.node = leaf_node(box.type, Storage(box.buffer, box.offset))
        return node

    def write(self, box: Box, node: Node) -> None:
        if box.owner is not None:
            raise TraceError(stale_message(box))
        with LOCK:
            device, new = device_of(box), node.payload
            if isinstance(new, Storage):
                if new.buffer.device != device:
                    if new.device is not None:
                        raise different_devices(device, new.device)
                    node = leaf_node(node.type, moved(new, node.type, device))
            elif isinstance(new, Pending):
                root = new.root()
                if (root.device or device) != device:
                    raise different_devices(device, root.device)
                root.device = device
            before = box.node
            self.adopt(box, node)
            if isinstance(node.payload, Pending):  # a constant too is pending now
                node.payload.root().device = device
            if before is not None and isinstance(before.payload, Storage) and isinstance(node.payload, Pending):
                node.payload.root().assigned.append((ref(box), before))

    def data(self, array: np.ndarray[Any, Any]) -> Node:
        type, storage = copy_in(array)
        return leaf_node(type, storage)

    def adopt(self, box: Box, node: Node) -> None:
        with LOCK:
            box.node, box.owner, box.buffer, box.offset = node, None, None, 0
            if isinstance(node.payload, Storage):
                settle(box)
                return
            if node.payload is None:  # a constant
                node.payload = Pending()
            pending = node.payload.root()
            pending.handles.append(ref(box))
            if pending.count > config.lazy_limit:
                realize(box)

    def concrete(self, box: Box, what: str) -> Storage:
        if box.owner is not None:
            return box.owner.concrete(box, what)
        if box.buffer is None:
            realize(box)
        assert box.buffer is not None
        return Storage(box.buffer, box.offset)

    def place(self, box: Box, device: str | None = None) -> None:
        device = device or ambient().device
        assert box.node is not None or box.buffer is not None
        with LOCK:
            if box.buffer is not None:
                if box.buffer.device != device:
                    self.adopt(box, leaf_node(box.type, moved(Storage(box.buffer, box.offset), box.type, device)))
                elif box.node is not None and isinstance(box.node.payload, HostData):
                    box.node = None
                return
            root = box.node.payload.root()  # type: ignore[union-attr]
            if root.device is not None and root.device != device:
                raise different_devices(device, root.device)
            root.device = device

    def random_base(self, count: int) -> Node:
        return scalar_leaf(stream.reserve(count), dtypes.i64)

    def scalar(self, owner: object, name: str) -> Any:
        return getattr(owner, name)


def device_of(box: Box) -> str:
    """The full name of the device that a value is on, or will be computed on."""
    if box.buffer is not None:
        return box.buffer.device
    found: str | None = None
    if box.owner is not None:
        found = box.owner.device
    elif box.node is not None and isinstance(box.node.payload, Pending):
        found = box.node.payload.root().device
    return found or ambient().device


def different_devices(one: str, other: str | None) -> DeviceError:
    """What to raise where values of two devices meet."""
    return DeviceError(
        f"one value is on {one} and another on {other}, and an operation runs on one device: copy one of them first, "
        f"with kn.to_device(x, {one!r})"
    )


def stale_message(box: Box) -> str:
    """A handle that is used after its trace."""
    made = box.node.lines[0] if box.node is not None and box.node.lines else None
    return (
        f"this value ({box.type}{f', made at {made}' if made else ''}) belongs to a compiled function's trace, which "
        "has ended: it never had numbers. Return it from the function instead of storing it"
    )


class _Tapes:
    """How many differentiations are under way in the process; while there are any, realized values keep their nodes,
    because a gradient may still be asked through them."""

    def __init__(self) -> None:
        self.active = 0
        self.waiting: list[ref[Box]] = []

    def enter(self) -> None:
        with LOCK:
            self.active += 1

    def leave(self) -> None:
        with LOCK:
            self.active -= 1
            if not self.active:
                waiting, self.waiting = self.waiting, []
                for reference in waiting:
                    box = reference()
                    if box is not None and box.buffer is not None:
                        settle(box)


tapes = _Tapes()


# --- realizing -------------------------------------------------------------------------------------------------------


class _Executor:
    """The slot through which arrays ask the compiler to run a graph; ``knetc.compiler`` fills it when imported."""

    def run(self, cut: Cut) -> list[Buffer]:
        """Compute pending values; a buffer for each output.

        Outputs that update an input may be given its buffer, which nobody else needs; all others are fresh.
        """
        raise CompileError("no compiler is loaded: import knetc, which brings one")


executor = _Executor()


def realize(box: Box) -> None:
    """Compute a pending value, and with it every value of the same pending graph that a live handle holds."""
    with LOCK:
        if box.buffer is not None or box.node is None:
            return
        pending = box.node.payload.root()
        boxes: dict[int, dict[int, Box]] = {}  # by the node's serial; a handle may be listed twice
        for reference in pending.handles:
            handle = reference()
            if handle is not None and handle.node is not None and isinstance(handle.node.payload, Pending):
                boxes.setdefault(handle.node.serial, {})[id(handle)] = handle
        outputs = [cast(Node, next(iter(boxes[serial].values())).node) for serial in sorted(boxes)]
        device = pending.device or ambient().device
        walked = walk(outputs)
        updates = {} if tapes.active else _updates(walked, outputs, boxes, pending.assigned)
        for node, buffer in zip(outputs, executor.run(Cut(walked, outputs, updates, device))):
            node.payload = Storage(buffer)
            for handle in boxes[node.serial].values():
                settle(handle)
        pending.handles, pending.assigned, pending.count, pending.device = [], [], 1, device


def realize_all(boxes: Sequence[Box]) -> None:
    """Compute several values, as one program for each device where they are pending."""
    with LOCK:
        pending = [box for box in boxes if box.buffer is None and box.node is not None]
        pending.sort(key=device_of)
        for first, second in pairwise(pending):
            if device_of(first) == device_of(second):
                first.node.payload.union(second.node.payload)  # type: ignore[union-attr]
        for box in pending:
            realize(box)


def undo(boxes: Sequence[Box]) -> None:
    """Give handles back the memory that they had before they were assigned to what could not be computed."""
    with LOCK:
        for box in boxes:
            if box.node is not None and isinstance(box.node.payload, Pending):
                for reference, leaf in box.node.payload.root().assigned:
                    if reference() is box:
                        box.node, box.type = leaf, leaf.type
                        settle(box)
                        break


def settle(box: Box) -> None:
    """Let a handle whose node has become memory hold the memory; outside of differentiation, drop the node."""
    assert box.node is not None
    storage = box.node.payload
    box.buffer, box.offset = storage.buffer, storage.offset
    if tapes.active:
        tapes.waiting.append(ref(box))
    elif box.node.sources:
        box.origin, box.node = ref(box.node), None


def _updates(
    walked: Sequence[Node],
    outputs: Sequence[Node],
    boxes: Mapping[int, Mapping[int, Box]],
    assigned: Sequence[tuple[ref[Box], Node]],
) -> dict[int, Node]:
    """For each output that may take the memory of a leaf, by place, that leaf."""
    wishes = _wishes(outputs, assigned)
    if not wishes:
        return {}
    known = Counter([leaf.serial for _, leaf in assigned])  # references that this graph itself has, by serial
    known.update([leaf.serial for leaf in wishes.values()])
    known.update({node.serial: len(boxes[node.serial]) + 1 for node in outputs})
    free = overwritable(walked, known, wishes.values())
    return {place: leaf for place, leaf in wishes.items() if leaf.serial in free}


def _wishes(outputs: Sequence[Node], assigned: Sequence[tuple[ref[Box], Node]]) -> dict[int, Node]:
    """For each output that was assigned to a handle, by place, the leaf of the memory that the handle had."""
    places = {node.serial: place for place, node in enumerate(outputs)}
    wishes: dict[int, Node] = {}
    for reference, leaf in assigned:
        node = getattr(reference(), "node", None)
        place = -1 if node is None else places.get(node.serial, -1)
        if place >= 0 and place not in wishes and leaf.type == outputs[place].type and leaf not in wishes.values():
            wishes[place] = leaf
    return wishes


# --- what is in force ------------------------------------------------------------------------------------------------


def context() -> Context:
    """The context that users' code runs under now."""
    current = recorder()
    if not isinstance(current, Context):
        raise TraceError("arrays cannot be used inside a compiler pass; passes work on nodes")
    return current


def tracing() -> bool:
    """Whether a function is being traced in this thread."""
    return any(isinstance(r, Context) and r.is_trace for r in recorders())


set_default_recorder(LazyRecorder())

__all__ = [
    "LOCK", "Box", "Context", "HostData", "LazyRecorder", "Pending", "Storage", "check_dtype", "context",
    "copy_in", "device_of", "different_devices", "executor", "moved", "numpy_view", "realize", "realize_all", "settle",
    "stale_message", "stream", "tapes", "traced_message", "tracing", "undo",
]  # fmt: skip
