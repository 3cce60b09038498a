"""Work that is put into a stream without looking at any result: launched one by one, or as one graph.

The first time a section is run launch by launch; afterwards as one graph, whose nodes are given new parameters where an
address or a number has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from knetc.runtime.base.config import config
from knetc.runtime.base.errors import CudaError
from knetc.runtime.buffers import Buffer
from knetc.runtime.cuda.clock import Clock
from knetc.runtime.cuda.driver import Driver, Launch
from knetc.runtime.program import GRID_ALIGNMENT, ArgumentRef

log = logging.getLogger("knetc")

GRAPH_FROM = 3
"""A section of fewer operations is launched one by one: a graph would cost more than it saves."""


class Operation(Protocol):
    """One thing that a section puts into the stream; its parameters are written before."""

    def launch(self, driver: Driver, stream: int) -> None: ...
    def add(self, driver: Driver, graph: int, after: int) -> int:
        """Become a node of a graph; returns the node."""

    def update(self, driver: Driver, ready: int, node: int) -> None:
        """Give the node of a ready graph the parameters of now."""

    def free(self, driver: Driver) -> None:
        """Give back what is kept for updates."""


class KernelOperation:
    """A launch of a generated kernel."""

    __slots__ = ("kernel",)

    def __init__(self, kernel: Launch) -> None:
        self.kernel = kernel

    def launch(self, driver: Driver, stream: int) -> None:
        driver.launch(self.kernel, stream)

    def add(self, driver: Driver, graph: int, after: int) -> int:
        return driver.add_kernel(graph, after, self.kernel)

    def update(self, driver: Driver, ready: int, node: int) -> None:
        driver.update_kernel(ready, node, self.kernel)

    def free(self, driver: Driver) -> None: ...


class Place(NamedTuple):
    """Where a value stands among packed parameters, and whose they are."""

    pack: Callable[..., None]
    memory: Any
    offset: int
    section: Section
    number: int

    def write(self, value: Any) -> None:
        self.pack(self.memory, self.offset, value)
        self.section.changed.add(self.number)


class Moving(NamedTuple):
    """An argument whose address, or number, depends on the counters of the loops around it."""

    argument: ArgumentRef
    place: Place
    bounce: Buffer | None
    """Aligned memory that stands for the argument where its own address would be odd."""


@dataclass
class Section:
    """Operations that are put into the stream one behind the other."""

    operations: list[Operation] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """Whose each operation is."""
    moving: list[Moving] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    """Operations whose parameters differ from those of their nodes."""
    nodes: list[int] = field(default_factory=list)
    ready: int = 0
    """The graph; 0 while there is none."""
    runs: int = 0

    def run(self, driver: Driver, stream: int, clock: Clock | None = None) -> None:
        if clock is not None:
            self.changed.clear()
            clock.launched(driver, stream, self.steps, [partial(o.launch, driver, stream) for o in self.operations])
            return
        self.runs += 1
        if self.ready:
            try:
                for number in self.changed:
                    self.operations[number].update(driver, self.ready, self.nodes[number])
            except CudaError as error:  # not every change can be made in a graph: then there is another
                log.info("a graph is made anew: %s", error)
                self.free(driver)
        if not self.ready and self.runs > 1 and config.cuda_graphs and len(self.operations) >= GRAPH_FROM:
            with suppress(MemoryError):  # then it is launched one by one, this time too
                self.build(driver)
        self.changed.clear()
        if self.ready:
            driver.launch_graph(self.ready, stream)
        else:
            for operation in self.operations:
                operation.launch(driver, stream)

    def free(self, driver: Driver) -> None:
        """Let the graph go; if it is under way, the driver keeps it until it is done."""
        ready, self.ready = self.ready, 0
        for operation in self.operations:
            operation.free(driver)
        if ready:
            driver.free_ready(ready)

    def build(self, driver: Driver) -> None:
        """Make one graph of the operations, each behind the one before it."""
        graph = driver.graph()
        try:
            node = 0
            nodes = []
            for operation in self.operations:
                node = operation.add(driver, graph, node)
                nodes.append(node)
            self.ready, self.nodes = driver.instantiate(graph), nodes
        finally:
            driver.free_graph(graph)

    def run_at(
        self, driver: Driver, stream: int, address: Callable[[ArgumentRef], Any], clock: Clock | None = None
    ) -> None:
        """Run in a loop: ``address`` tells where each argument is, or a counter's number, this time.

        Odd addresses are exchanged for aligned memory, which is filled before and emptied behind.
        """
        bounced: list[tuple[int, Buffer]] = []
        for argument, place, bounce in self.moving:
            value = address(argument)
            if bounce is not None and value % GRID_ALIGNMENT:
                bounced.append((value, bounce))
                value = bounce.at
            place.write(value)
        for there, bounce in bounced:
            driver.copy(bounce.at, there, bounce.size_bytes, stream)
        self.run(driver, stream, clock)
        for there, bounce in bounced:
            driver.copy(there, bounce.at, bounce.size_bytes, stream)


def bounce_bytes(strides: Sequence[int]) -> int:
    """How much memory stands for a moving argument where its address is odd; 0 if that never happens.

    A loop's slice is as large as the innermost step from one to the next.
    """
    steps = [abs(stride) for stride in strides if stride]
    return min(steps, default=0) if any(step % GRID_ALIGNMENT for step in steps) else 0
