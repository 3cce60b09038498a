"""From a simplified graph to a Program: fuse, order, lower, plan memory. The same for every target.

What differs between targets is behind ``Backend``: how a loop nest, a matrix product or a check becomes code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import networkx as nx  # type: ignore[import-untyped]
import numpy as np
from knetc.codegen.bases import rebased
from knetc.codegen.control import ControlLowering, Scopes
from knetc.codegen.kernel import Kernel
from knetc.codegen.layout import Layout
from knetc.codegen.loopnest import (
    Argument,
    Axis,
    Constant,
    Load,
    LoopNest,
    Offset,
    Stage,
    Statement,
    Store,
)
from knetc.codegen.lower import lower_unit
from knetc.codegen.nests import copy_nest, scatter_nest
from knetc.codegen.parts import Area, Bound, Part, leaves
from knetc.codegen.products import Product, product_of
from knetc.codegen.schedule import in_order
from knetc.codegen.together import Joiner, launched_together
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import CheckError
from knetc.runtime.program import Check, HostCall, Program

from knetc.ir.control import BRANCH, bodies
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS, Kind
from knetc.ir.types import TensorType
from knetc.ops.indexed import SCATTERS
from knetc.passes.domain import Split
from knetc.passes.fuse import Fusion, Unit, fuse
from knetc.passes.groups import unit_reads
from knetc.passes.memory_order import MemoryOrder, is_side_by_side, with_memory
from knetc.passes.prologue import Chooser

COPY = OPS["copy"]


class Backend(Protocol):
    """What a target must be able to do."""

    @property
    def key(self) -> str:
        """The target's name in ``Program.target``."""

    @property
    def alignment_bytes(self) -> int:
        """What the addresses that kernels are given are multiples of."""

    @property
    def keep_rows(self) -> bool:
        """Whether values may be kept in scratch rows between the stages of a nest."""

    @property
    def narrow_products(self) -> bool:
        """Whether products read operands of float16 and bfloat16 as they are (``Product.a.base`` has their dtype)."""

    @property
    def computes(self) -> Chooser | None:
        """Which operands products compute while they read; None where they compute none."""

    @property
    def joiner(self) -> Joiner | None:
        """What makes one launch of kernels that do not need each other; None where each is launched alone."""

    def nest(self, nest: LoopNest) -> Kernel: ...
    def matmul(self, product: Product, epilogue: LoopNest | None) -> Kernel:
        """Arguments: ``product.operands``, then the result or the epilogue's arguments but the first."""

    def check(self, dtype: np.dtype, size: int, low: int, high: int) -> Kernel:
        """Looks for a value outside of ``low <= value < high``."""

    def check_nan(self, dtype: np.dtype, size: int) -> Kernel:
        """Looks for NaN; the offending value that it reports is the element's number."""

    def host(self, function: str, arguments: Sequence[TensorType], result: TensorType) -> Kernel | None:
        """Code that does what a host function does, if there is such: arguments are the function's, then the result."""


@dataclass(frozen=True)
class Assembly:
    """A program but for its objects, the code that they are made of, and what people may want to see."""

    program: Program
    functions: dict[str, str]
    fusion: Fusion
    units: tuple[Unit, ...]
    """In the order of running."""
    parts: tuple[Part, ...]
    inner: Mapping[Node, Sequence[Assembler]]
    """The bodies of loops and branches."""


def assemble(graph: Graph, backend: Backend, *, fused: bool = True, nan_check: bool = False) -> Assembly:
    """The program of a simplified graph, and the functions that it calls.

    With ``nan_check``, each kernel's floating results are searched for NaN before the next one runs; nothing is
    updated in place then, so that the values before are still there when the error is raised.
    """
    if nan_check:
        graph = replace(graph, updates={})
    made = Assembler(graph, backend, fused, nan_check)
    made.run()
    scopes = made.scopes
    parts: Sequence[Part | Area] = made.parts
    if backend.joiner is not None and fused and not nan_check:
        parts = launched_together(parts, backend.joiner, scopes.memory)
    outputs = [(output, made.memory(output)) for output in made.graph.outputs]
    layout = Layout(made.graph.inputs, outputs, scopes.in_place, scopes.bound, scopes.counters)
    functions = {name: text for part in leaves(parts) for name, text in part.kernel.functions.items()}
    program = layout.program(backend.key, parts)
    return Assembly(program, functions, made.fusion, tuple(made.units), tuple(leaves(parts)), made.inner)


class Assembler:
    """The steps of one graph: a program's, or the body of a loop or a branch."""

    def __init__(
        self,
        graph: Graph,
        backend: Backend,
        fused: bool,
        nan_check: bool,
        scopes: Scopes | None = None,
        depth: int = 0,
    ) -> None:
        self.nan_check = nan_check
        self.backend = backend
        self.graph = with_memory(graph)
        computes = backend.computes if fused else None
        self.order = MemoryOrder(self.graph, narrow=backend.narrow_products, computes=computes)
        self.fusion = fuse(self.order, enabled=fused, together=backend.joiner is not None)
        self.scopes = Scopes() if scopes is None else scopes
        self.depth = depth
        """Loops around this graph."""
        self.in_place = self.scopes.in_place
        self.units: list[Unit] = []
        self.parts: list[Part | Area] = []
        self.inner: dict[Node, list[Assembler]] = {}
        """The bodies of loops and branches."""
        self.in_whole: set[Node] = set()
        """What lies beside others in the memory of what they are joined to."""
        self.copied: dict[Node, list[tuple[Node, int]]] = {}
        """For each such whole the parts that are copied there, with how many bytes behind their places."""

        def inside(body: Graph, depth: int) -> Assembler:
            return Assembler(body, backend, fused, nan_check, self.scopes, depth)

        self.inside = inside

    def memory(self, node: Node) -> Node:
        """The value that owns the memory in which ``node`` lies."""
        while node in self.fusion.aliases:
            node = self.fusion.aliases[node]
        return node

    def awaited(self, node: Node) -> list[Node]:
        """What must have been stored before a kernel that reads ``node`` runs, beside ``node`` itself."""
        found: list[Node] = []
        while node in self.fusion.aliases:
            if node.op.name == "after":
                found += [self.memory(other) for other in node.sources[1:]]
            node = self.fusion.aliases[node]
        return found

    def run(self) -> None:
        """Make the steps, in the order of running."""
        self.units = units = self.ordered_units()
        self.put_side_by_side(units)
        last_use = self.last_uses(units)
        updates = {self.memory(self.graph.outputs[o]): self.graph.inputs[i] for o, i in self.order.in_place.items()}
        results = {self.memory(o) for o in self.graph.outputs}
        for k, unit in enumerate(units):
            kept = results | self.in_whole | set(self.graph.inputs)
            wishes = {n: updates[n] for n in unit.stored if n in updates}
            if unit.special is not None and unit.special.op.kind is Kind.CONTROL:
                free = {n for n in self.reads(unit) if last_use.get(n) == k and n not in kept}
                self.parts.extend(self.lower_control(unit.special, unit, wishes, free, kept))
                continue
            wishes |= self.reusable(unit, k, last_use, kept, wishes)
            made = self.lower(unit, wishes)
            if not made:
                continue
            awaits = tuple(dict.fromkeys(n for source in unit_reads(unit, self.fusion) for n in self.awaited(source)))
            self.parts.extend([replace(part, awaits=awaits) for part in made] if awaits else made)
            if self.nan_check:
                self.parts.extend(self.nan_checks(unit, made[-1]))

    def nan_checks(self, unit: Unit, part: Part) -> list[Part]:
        """Steps that look for NaN in what a kernel has stored."""
        checks = []
        for node in unit.stored:
            if dtypes.is_float(node.dtype):
                kernel = self.backend.check_nan(node.dtype, node.type.size)
                places = "".join(f"\n  {line}" for line in part.lines)
                what = f"{node.op.name} {node.type}"
                message = f"kernel {part.name} produced NaN in {what} at element {{value}}; it holds{places}"
                checks.append(Part("check_nan", kernel, (node,), check=Check(message, "NanError"), lines=node.lines))
        return checks

    def ordered_units(self) -> list[Unit]:
        """Units in the order of running: after what they read; checks early, and before all in-place updates."""
        units = self.fusion.units
        graph = nx.DiGraph()
        graph.add_nodes_from(range(len(units)))
        number = {unit: k for k, unit in enumerate(units)}
        producer = {node: k for k, unit in enumerate(units) for node in unit.stored}
        hazards: list[tuple[int, int, Node]] = []
        for k, unit in enumerate(units):
            for source in unit_reads(unit, self.fusion):
                origin = producer.get(self.memory(source))
                if origin == k:
                    raise CheckError(f"a kernel that stores {source.op.name} {source.type} also reads it from memory")
                if origin is not None:
                    graph.add_edge(origin, k)
                graph.add_edges_from((producer[other], k) for other in self.awaited(source) if other in producer)
            members = [*unit.domain.axes, *([unit.special] if unit.special is not None else [])]
            for node in members:
                for written in self.order.overwritten_by(node):
                    late = producer.get(self.memory(written))
                    if late is not None and late != k:
                        hazards.append((k, late, written))
        self.order_hazards(graph, hazards)
        writers = {self.memory(self.graph.outputs[o]) for o in self.order.in_place}
        checks = {number[u] for u in units if u.special is not None and may_fail(u.special)}
        gate = len(units)  # stands for: all checks and host calls are done
        graph.add_node(gate)
        graph.add_edges_from((check, gate) for check in checks)
        needed = nx.ancestors(graph, gate)
        for output in list(self.order.in_place):  # what a check needs is made before it, and so not in place
            if producer.get(self.memory(self.graph.outputs[output])) in needed:
                writers.discard(self.memory(self.graph.outputs[output]))
                del self.order.in_place[output]
        graph.add_edges_from(
            (gate, k) for k, unit in enumerate(units) if k not in needed and any(n in writers for n in unit.stored)
        )
        ranks = {k: (int(k not in checks), unit.last) for k, unit in enumerate(units)}
        ranks[gate] = (0, 0)
        reads = {k: self.reads(unit) for k, unit in enumerate(units)}
        kept = {*self.graph.inputs, *(self.memory(output) for output in self.graph.outputs)}
        sizes = {node: node.type.size_bytes for node in producer if node not in kept}
        order = in_order(graph.succ, ranks, reads, {k: unit.stored for k, unit in enumerate(units)}, sizes)
        return [units[k] for k in order if k != gate]

    def order_hazards(self, graph: nx.DiGraph, hazards: list[tuple[int, int, Node]]) -> None:
        """Let units that read an old value run before the unit that overwrites it.

        A unit that works out again what another one has, from the old value, may also need the new value: the update
        then gets memory of its own.
        """
        reads = set(graph.edges)
        graph.add_edges_from((reader, writer) for reader, writer, _ in hazards)
        if nx.is_directed_acyclic_graph(graph):
            return
        component = {k: number for number, group in enumerate(nx.strongly_connected_components(graph)) for k in group}
        apart = {written for reader, writer, written in hazards if component[reader] == component[writer]}
        data = {(reader, writer) for reader, writer, written in hazards if written not in apart}
        graph.remove_edges_from({(reader, writer) for reader, writer, _ in hazards} - data - reads)
        for output in [o for o in self.order.in_place if self.graph.outputs[o] in apart]:
            del self.order.in_place[output]

    def last_uses(self, units: list[Unit]) -> dict[Node, int]:
        """For each value in memory, the last unit that reads it."""
        last: dict[Node, int] = {}
        for k, unit in enumerate(units):
            for source in self.reads(unit):
                last[source] = k
                while source in self.in_whole:  # who reads a part of something reads something
                    source = self.scopes.bound[source].node
                    last[source] = k
        return last

    def put_side_by_side(self, units: list[Unit]) -> None:
        """Let the parts of what is joined of many values be stored right into the whole.

        That is possible for those that a kernel makes, for one place only, and that have no other place to be in. What
        remains is copied when all are there.
        """
        results = {self.memory(output) for output in self.graph.outputs}
        makers = {node: unit for unit in units for node in unit.stored}
        step = self.backend.alignment_bytes
        for unit in units:
            whole = unit.special
            if whole is None or not is_side_by_side(whole):
                continue
            offset = 0
            parts = self.scopes.parts[whole] = []
            for source in whole.sources:
                part = self.memory(source)
                maker = makers.get(part)
                kernel = maker is not None and (maker.special is None or maker.special.op.kind is not Kind.CONTROL)
                if not kernel or part in self.in_whole or part in results or offset % step:
                    part = Node(COPY, (source,), {}, source.type, whole.lines)
                    self.copied.setdefault(whole, []).append((part, offset % step))
                self.in_whole.add(part)
                self.scopes.bound[part] = Bound(whole, offset=offset // step * step)
                parts.append(part)
                offset += source.type.size_bytes

    def reads(self, unit: Unit) -> list[Node]:
        """The values whose memory a unit reads."""
        return list(dict.fromkeys(self.memory(source) for source in unit_reads(unit, self.fusion)))

    def reusable(
        self, unit: Unit, k: int, last_use: Mapping[Node, int], kept: set[Node], taken: Mapping[Node, Node]
    ) -> dict[Node, Node]:
        """Wishes of intermediate results to take the memory of values that nothing reads after this unit."""
        used = {self.in_place.get(old, old) for old in taken.values()}
        dying = [node for node in self.reads(unit) if last_use.get(node) == k and node not in kept and node not in used]
        wishes: dict[Node, Node] = {}
        for new in unit.stored:
            if new in taken or new in kept:
                continue
            match = next(
                (old for old in dying if old.type.size_bytes == new.type.size_bytes and old.dtype == new.dtype), None
            )
            if match is not None:
                dying.remove(match)
                wishes[new] = match
        return wishes

    def lower_control(
        self, node: Node, unit: Unit, wishes: Mapping[Node, Node], free: set[Node], kept: set[Node]
    ) -> list[Part | Area]:
        """The steps of a loop or a branch. A carry takes the memory of what it begins with, if that is free."""
        sources = [self.memory(source) for source in node.sources]
        for new in unit.stored if node.op is not BRANCH else ():
            old = sources[new["index"]] if new["index"] < node["carries"] else None
            if (
                old is not None
                and sources.count(old) == 1
                and (wishes.get(new) is old or (old in free and new not in kept))
            ):
                self.in_place[new] = old
        lowering = ControlLowering(self, node, unit.stored, self.inside)
        self.inner[node] = lowering.assemblers
        return lowering.lower()

    # --- lowering -----------------------------------------------------------------------------------------------------

    def lower(self, unit: Unit, wishes: Mapping[Node, Node]) -> list[Part]:
        special = unit.special
        if special is not None and special.op.kind is Kind.EFFECT:
            return [self.lower_check(special)]
        if special is not None and special.op.name == "host":
            return [self.lower_host(special, unit.stored[special])]
        if special is not None and is_side_by_side(special):
            return [self.lower_copy(part, begin) for part, begin in self.copied.get(special, [])]
        if special is not None and special.op.name in SCATTERS:
            return self.lower_scatter(special, unit.stored[special], wishes.get(special))
        if special is not None and special not in unit.domain.axes:
            return [self.lower_product(special, unit)]
        if special is not None:  # other programs of the product read its operands when one writes its tile
            read = {self.memory(source) for source in self.order.sources[special]}
            wishes = {new: old for new, old in wishes.items() if self.memory(old) not in read}
        stored = set(unit.stored)
        split = Split(unit.domain.all_axes, frozenset()) if special is not None else unit.domain.split(stored)
        assert split is not None, "fusion made a unit without a division into rows and columns"
        name = kernel_name(unit)
        lowered = lower_unit(unit, split, self.memory, name, wishes, keep_rows=self.backend.keep_rows)
        self.in_place.update(lowered.in_place)
        reason = "; ".join(dict.fromkeys(unit.stored.values()))
        if special is not None:
            product = product_of(special, self.order)
            nest, offsets = lowered.nest, tuple[int, ...]()
            kernel = self.backend.matmul(product, nest)
            arguments = (*map(self.memory, product.operands), *lowered.arguments[1:])
            operations = lowered.operations + 2 * product.multiplications
        else:
            nest, offsets = rebased(lowered.nest, self.backend.alignment_bytes)
            kernel, arguments, operations = self.backend.nest(nest), lowered.arguments, lowered.operations
        return [
            Part(
                name,
                kernel,
                arguments,
                nest,
                None,
                None,
                nest.lines,
                operations,
                reason,
                lowered.in_place,
                offsets=offsets,
            )
        ]

    def lower_product(self, node: Node, unit: Unit) -> Part:
        if node.op.name != "matmul":
            raise AssertionError(f"no kernel for {node.op.name}")
        product = product_of(node, self.order)
        kernel = self.backend.matmul(product, None)
        arguments = (*map(self.memory, product.operands), node)
        return Part(
            "matmul", kernel, arguments, None, None, None, node.lines, 2 * product.multiplications, unit.stored[node]
        )

    def lower_check(self, node: Node) -> Part:
        source = node.sources[0]
        kernel = self.backend.check(source.dtype, source.type.size, node["low"], node["high"])
        check = Check(str(node["message"]), str(node["error"]), tuple(map(str, node.lines)))
        return Part("check", kernel, (self.memory(source),), check=check, lines=node.lines, operations=source.type.size)

    def lower_copy(self, part: Node, begin_bytes: int) -> Part:
        """Puts a value beside others, from the element on that begins so many bytes behind where it is placed."""
        [source] = part.sources
        nest = copy_nest(part.dtype, part.type.size, part.lines, begin_bytes // part.dtype.itemsize)
        reason = "it is joined with others"
        arguments = (part, self.memory(source))
        return Part("copy", self.backend.nest(nest), arguments, nest, lines=part.lines, reason=reason)

    def lower_host(self, node: Node, reason: str) -> Part:
        values = (*node.sources, node)
        kinds = tuple(dtypes.short_name(n.dtype) for n in values)
        call = HostCall(str(node["function"]), tuple(n.shape for n in values), kinds)
        arguments = tuple(self.memory(n) for n in values)
        kernel = self.backend.host(call.function, [n.type for n in node.sources], node.type)
        if kernel is not None:
            size = max(n.type.size for n in values)
            operations = size * max(size, 2).bit_length()
            return Part(call.function, kernel, arguments, lines=node.lines, operations=operations, reason=reason)
        return Part(f"host {node['function']}", Kernel({}, ()), arguments, host=call, lines=node.lines, reason=reason)

    def lower_scatter(self, node: Node, reason: str, old: Node | None) -> list[Part]:
        """Zeros or the values from before, then what comes to the places that the indexes name.

        The result may take the memory of ``old``. Where that holds the values from before they need no copy.
        """
        size = node.type.size
        adds = node.op.name == "scatter_add"
        nest, sources = scatter_nest(node)
        places = tuple(self.memory(a) for a in sources)
        count = node.sources[0 if adds else 1].type.size
        part = Part(node.op.name, self.backend.nest(nest), places, nest, None, None, node.lines, count, reason)
        if old is not None and old not in places:
            self.in_place[node] = old
            part = replace(part, in_place={node: old})
            if not adds and self.memory(node.sources[0]) is old:
                return [part]
        arguments: tuple[Argument, ...] = (Argument("o0", node.dtype, "output", size),)
        everywhere = Offset(0, {0: 1})
        if adds:
            first: Statement = Constant(0, node.dtype, dtypes.wrapped(0, node.dtype))
            owners: tuple[Node, ...] = (node,)
        else:
            first = Load(0, 1, everywhere)
            arguments += (Argument("i1", node.dtype, "input", size),)
            owners = (node, self.memory(node.sources[0]))
        body = (first, Store(0, everywhere, 0))
        before = LoopNest(
            "zeros" if adds else "copy", (Axis("i0", size),), (), arguments, (Stage("element", body),), node.lines
        )
        return [Part(before.name, self.backend.nest(before), owners, before, lines=node.lines, reason=reason), part]


def may_fail(node: Node) -> bool:
    """Whether a program may end at this step: before it, nothing is updated in place.

    The user may interrupt a loop that nothing bounds.
    """
    inside = (n for graph in bodies(node) for n in graph.nodes)
    return node.op.kind is Kind.EFFECT or node.op.name in ("host", "while_loop") or any(map(may_fail, inside))


def kernel_name(unit: Unit) -> str:
    """A short name from the operations inside: the heavy ones first."""
    weights = {"sum": 9, "max": 8, "prod": 8, "min": 8, "argmax": 8, "argmin": 8, "gather": 7}
    weights |= {op.name: 8 for op in OPS.values() if op.kind is Kind.SCAN}
    names = dict.fromkeys(
        n.op.name for n in unit.domain.axes if n.op.kind is not Kind.MOVEMENT and n is not unit.special
    )
    top = sorted(names, key=lambda name: -weights.get(name, 0))[:3]
    return "_".join(([unit.special.op.name] if unit.special is not None else []) + top) or "move"
