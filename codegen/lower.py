"""From a fused unit to a LoopNest: instances of values at places, sorted into stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from knetc.codegen.instances import Instance, Instances
from knetc.codegen.loopnest import (
    Argument,
    Axis,
    Compute,
    Constant,
    Index,
    Inside,
    Load,
    LoopNest,
    Offset,
    Range,
    Reduce,
    Scan,
    Stage,
    Statement,
    Store,
)
from knetc.codegen.places import (
    Conditions,
    Place,
    aligned_places,
    flat,
    offset_of,
    ranges,
)
from knetc.runtime.base import dtypes

from knetc.ir.node import Node
from knetc.ir.op import OPS
from knetc.passes.domain import Split
from knetc.passes.fuse import Unit

EXPENSIVE = 8
"""Work (in additions) from which an element's value is kept in a scratch row rather than computed again."""

SCRATCH_BYTES = 1 << 16
"""Most that the scratch rows of a kernel may take: they must stay in the nearer caches."""


@dataclass(frozen=True)
class Lowered:
    """A nest and what its arguments are: values in memory (by the node that owns the memory) or scalar inputs."""

    nest: LoopNest
    arguments: tuple[Node, ...]
    """For each argument that is not scratch. An ``update`` argument is named by the new value."""
    in_place: Mapping[Node, Node]
    """New value -> the value whose memory it takes, of those that were asked for and are possible."""
    operations: int = 0
    """Scalar operations over the whole nest, an addition being 1."""


def lower_unit(
    unit: Unit,
    split: Split,
    memory: Callable[[Node], Node],
    name: str,
    wanted_in_place: Mapping[Node, Node],
    *,
    keep_rows: bool = True,
) -> Lowered:
    """The loops of a fused unit.

    ``memory`` gives the node whose memory holds a stored value (aliases see through to it). ``wanted_in_place`` maps
    values that the unit stores to the values (inputs or earlier results) whose memory they should take.
    """
    wishes = dict(wanted_in_place)
    while True:
        lowered = _Lowering(unit, split, memory, name, wishes, keep_rows).run()
        late = _read_after_written(lowered.nest)
        if not late:
            return lowered
        for new in [n for k, n in enumerate(lowered.arguments) if k in late]:
            del wishes[new]


def _read_after_written(nest: LoopNest) -> set[int]:
    """Arguments (scratch not counted) that are updated in place and read again after that."""
    visible = [k for k, a in enumerate(nest.arguments) if a.kind != "scratch"]
    written: set[int] = set()
    late: set[int] = set()
    for stage in nest.stages:
        for statement in stage.body:
            if isinstance(statement, Store) and nest.arguments[statement.argument].kind == "update":
                written.add(statement.argument)
            elif isinstance(statement, Load) and statement.argument in written:
                late.add(visible.index(statement.argument))
    return late


@dataclass
class _Emission:
    """One stage being written."""

    body: list[Statement] = field(default_factory=list)
    known: dict[Instance, int] = field(default_factory=dict)
    inside: dict[Conditions, int] = field(default_factory=dict)


class _Lowering:
    def __init__(
        self,
        unit: Unit,
        split: Split,
        memory: Callable[[Node], Node],
        name: str,
        wanted_in_place: Mapping[Node, Node],
        keep_rows: bool,
    ) -> None:
        self.unit, self.domain, self.split, self.memory, self.name = unit, unit.domain, split, memory, name
        self.wanted = wanted_in_place
        self.keep_rows = keep_rows
        self.instances = Instances(unit, split, memory)
        self.extents, self.outer, self.inner = self.instances.extents, self.instances.outer, self.instances.inner
        self.backward = frozenset(axis for node, axis in self.domain.scans() if node["reverse"])
        """Axes that are walked from the end."""
        self.position = {axis: k for k, axis in enumerate((*self.outer, *self.inner))}
        self.arguments: list[Argument] = []
        self.owners: list[Node] = []
        self.argument_of: dict[Any, int] = {}
        self.values = 0
        self.scratch: dict[Instance, int] = {}
        self.kept: set[Instance] = set()
        """Those of ``scratch`` whose stage has passed."""
        self.row_values: dict[Instance, int] = {}

    # --- arguments ----------------------------------------------------------------------------------------------------

    def argument(self, owner: Node, kind: Any, dtype: Any, size: int) -> int:
        key = (owner, kind == "scratch" and len(self.arguments))
        if key not in self.argument_of:
            self.argument_of[key] = len(self.arguments)
            self.arguments.append(Argument(f"{kind[0]}{len(self.arguments)}", dtype, kind, size))
            self.owners.append(owner)
        return self.argument_of[key]

    def memory_argument(self, node: Node) -> int:
        """The argument through which a value in memory is read."""
        owner = self.memory(node)
        owner = self.replaced.get(owner, owner)
        return self.argument(owner, "input", owner.dtype, owner.type.size)

    # --- the whole ----------------------------------------------------------------------------------------------------

    def run(self) -> Lowered:
        targets = []  # (node, instance, place where it is stored)
        for node in self.unit.stored:
            axes = self.domain.axes[node]
            assert axes is not None, node
            places = aligned_places(node.shape, axes)
            targets.append((node, self.instances.at(node, places), flat(places, node.shape)))
        in_place = self._in_place({node: place for node, _, place in targets})
        self.replaced = {old: new for new, old in in_place.items()}
        if self.unit.special is not None:
            self.arguments.append(Argument("accumulator", self.unit.special.dtype, "input"))
            self.owners.append(self.unit.special)
            self.argument_of["accumulator"] = 0
        for node, _, _ in targets:
            kind = "update" if node in in_place else "output"
            self.argument(node, kind, node.dtype, node.type.size)
        stages = self._stages(targets)
        loops = [Axis(f"i{a}", self.extents[a]) for a in (*self.outer, *self.inner)]
        order = [k for k, a in enumerate(self.arguments) if a.kind != "scratch"]
        nest = LoopNest(
            self.name,
            tuple(loops[: len(self.outer)]),
            tuple(loops[len(self.outer) :]),
            tuple(self.arguments),
            tuple(stages),
            tuple(dict.fromkeys(line for n in self.domain.axes for line in n.lines)),
        )
        points = math.prod(self.extents)
        rows = math.prod(self.extents[a] for a in self.outer)
        work = sum(
            (points if stage.level == "element" else rows)
            * sum(
                s.op.cost if isinstance(s, Compute) else 1 for s in stage.body if isinstance(s, (Compute, Reduce, Scan))
            )
            for stage in stages
        )
        return Lowered(nest, tuple(self.owners[k] for k in order), in_place, work)

    def _in_place(self, stores: Mapping[Node, Place]) -> dict[Node, Node]:
        """The wishes that hold: the old value is read only where the new one is written."""
        good = {}
        for new, old in self.wanted.items():
            reads = self.instances.loads.get(self.memory(old), set())
            if new in stores and reads <= {(stores[new], False)}:
                good[new] = self.memory(old)
        return good

    def _stages(self, targets: list[tuple[Node, Instance, Place]]) -> list[Stage]:
        rows: dict[int, list[Instance]] = {}
        folds: dict[int, list[Instance]] = {}
        stores: dict[tuple[str, int], list[Callable[[_Emission], None]]] = {}
        roots: dict[tuple[str, int], list[Instance]] = {}
        inner = self.split.inner

        def level(instance: Instance) -> Literal["row", "element"]:
            return "element" if not inner or instance.axes & inner else "row"

        for node, instance, place in targets:
            axes = self.domain.axes[node]
            if instance.kind == "fold" and self._leaves_rows(instance):
                operand = instance.operands[0]
                by_row = inner and not inner & {*self.domain.reduced[instance.node], *(axes or ())}
                over: Literal["outer", "all"] = "outer" if axes else "all"
                action = self._total(instance, place, over)
                self._later(stores, roots, ("row" if by_row else "element", operand.depth), operand, action)
            else:
                by_row = inner and not inner & set(axes or ())
                key = ("row" if by_row else "element", instance.depth)
                self._later(stores, roots, key, instance, self._store(node, instance, place))
        needed = self._needed([i for found in roots.values() for i in found])
        for instance in needed:
            if instance.kind == "fold" and not self._leaves_rows(instance):
                folds.setdefault(instance.operands[0].depth, []).append(instance)
            elif inner and level(instance) == "row":
                rows.setdefault(instance.depth, []).append(instance)
        last = max([d for _, d in roots] + list(folds) + [0])
        stages: list[Stage] = []
        self._plan_scratch(roots, folds, last)
        for depth in range(last + 1):
            emission = _Emission()
            for instance in rows.get(depth, []):
                if instance.kind != "fold":
                    self.row_values[instance] = self.emit(emission, instance)
            for action in stores.get(("row", depth), []):
                action(emission)
            if emission.body:
                stages.append(Stage("row", tuple(emission.body)))
            emission = _Emission()
            for fold in folds.get(depth, []):
                self._fold(emission, fold)
            for action in stores.get(("element", depth), []):
                action(emission)
            keep = [instance for instance in self.scratch if instance.depth == depth]
            for instance in keep:
                value = self.emit(emission, instance)
                emission.body.append(Store(self.scratch[instance], self._row_offset(), value))
            self.kept.update(keep)
            if emission.body:
                stages.append(Stage("element", tuple(emission.body)))
        return stages

    def _later(self, stores: Any, roots: Any, key: tuple[str, int], instance: Instance, action: Any) -> None:
        stores.setdefault(key, []).append(action)
        roots.setdefault(key, []).append(instance)

    def _leaves_rows(self, fold: Instance) -> bool:
        """Whether a fold runs over outer axes: its result is stored, not used."""
        return not set(self.domain.reduced[fold.node]) <= self.split.inner

    def _needed(self, roots: list[Instance]) -> list[Instance]:
        """All instances behind the roots, operands first."""
        order: list[Instance] = []
        seen: set[Instance] = set()

        def visit(instance: Instance) -> None:
            if instance not in seen:
                seen.add(instance)
                for operand in instance.needs:
                    visit(operand)
                order.append(instance)

        for root in roots:
            visit(root)
        return order

    # --- scratch rows -------------------------------------------------------------------------------------------------

    def _plan_scratch(self, roots: Any, folds: Mapping[int, list[Instance]], last: int) -> None:
        """Choose element values to keep between stages: those dear to compute that a later stage needs again."""
        if not self.keep_rows or not self.inner:
            return
        columns = math.prod(self.extents[a] for a in self.inner)
        used: dict[Instance, set[int]] = {}
        for depth in range(last + 1):
            heads = [f.operands[0] for f in folds.get(depth, [])] + roots.get(("element", depth), [])
            seen: set[Instance] = set()
            stack = [h for h in heads if h.axes & self.split.inner]
            while stack:
                instance = stack.pop()
                if instance in seen or not instance.axes & self.split.inner or instance.kind == "fold":
                    continue
                seen.add(instance)
                used.setdefault(instance, set()).add(depth)
                if _is_dear(instance) and instance.depth < depth:
                    continue  # what lies behind is not needed if this is kept
                stack.extend(instance.needs)
        left = SCRATCH_BYTES
        for instance, depths in used.items():
            size = columns * max(1, instance.node.dtype.itemsize)
            if _is_dear(instance) and len(depths) > 1 and instance.depth == min(depths) and size <= left:
                self.scratch[instance] = self.argument(instance.node, "scratch", instance.node.dtype, columns)
                left -= size

    def _row_offset(self) -> Offset:
        """The place in a scratch row: dense over the inner axes."""
        stride, axes = 1, {}
        for axis in reversed(self.inner):
            axes[self.position[axis]] = stride
            stride *= self.extents[axis]
        return Offset(0, axes)

    # --- statements ---------------------------------------------------------------------------------------------------

    def new(self) -> int:
        self.values += 1
        return self.values - 1

    def _offset(self, place: Place, emission: _Emission, indirect: dict[int, int] | None = None) -> Offset:
        offset = offset_of(self._walked(place), self.position, lambda number: self._number(emission, number))
        return replace(offset, indirect={**offset.indirect, **indirect}) if indirect else offset

    def _walked(self, place: Place) -> Place:
        """A place by the indices of the nest's loops: along axes that run backward, strides are negative."""
        base = place.base + sum(s * (self.extents[a] - 1) for a, s in place.terms if a in self.backward)
        return Place(base, tuple((a, -s if a in self.backward else s) for a, s in place.terms), place.numbers)

    def _ranges(self, conditions: Conditions, emission: _Emission) -> tuple[Range, ...]:
        walked = tuple((self._walked(place), low, high) for place, low, high in conditions)
        return ranges(walked, self.position, lambda number: self._number(emission, number))

    def emit(self, emission: _Emission, instance: Instance) -> int:
        """The number of an instance's value in a stage, writing what computes it if it is not there yet."""
        found = emission.known.get(instance, self.row_values.get(instance))
        if found is not None:
            return found
        stack = [instance]
        while stack:
            current = stack[-1]
            if current in emission.known or current in self.row_values:
                stack.pop()
                continue
            if current in self.kept:
                result = self.new()
                emission.body.append(Load(result, self.scratch[current], self._row_offset()))
                emission.known[current] = result
                stack.pop()
                continue
            missing = [o for o in current.needs if o not in emission.known and o not in self.row_values]
            if missing:
                stack.extend(missing)
                continue
            emission.known[current] = self._statement(emission, current)
            stack.pop()
        return emission.known[instance]

    def _number(self, emission: _Emission, instance: Instance) -> int:
        return emission.known[instance] if instance in emission.known else self.row_values[instance]

    def _statement(self, emission: _Emission, instance: Instance) -> int:
        node, body = instance.node, emission.body
        result = self.new()
        match instance.kind:
            case "constant":
                value = node["value"] if node.op.name == "constant" else 0
                body.append(Constant(result, node.dtype, value))
            case "index":
                body.append(Index(result, self._offset(instance.place, emission)))
                if node.dtype != dtypes.i64:
                    index, result = result, self.new()
                    body.append(Compute(result, OPS["cast"], node.dtype, (index,), {"dtype": node.dtype}))
            case "scalar":
                argument = self.argument(node, "scalar", node.dtype, 1)
                body.append(Load(result, argument, Offset()))
            case "accumulator":
                body.append(Load(result, 0, Offset()))
            case "load":
                indirect: dict[int, int] = {}
                for row, stride in instance.indirect:
                    number = self._number(emission, row)
                    if row.node.dtype != dtypes.i64:
                        wide = self.new()
                        body.append(Compute(wide, OPS["cast"], dtypes.i64, (number,), {"dtype": dtypes.i64}))
                        number = wide
                    indirect[number] = indirect.get(number, 0) + stride
                reads_source = node in self.domain.axes and node.op.name in ("gather", "reshape")
                source = node.sources[0] if reads_source else node
                argument = self.memory_argument(source)
                where = self._ranges(instance.conditions, emission)
                body.append(Load(result, argument, self._offset(instance.place, emission, indirect), where))
            case "scan":
                operands = tuple(self._number(emission, o) for o in instance.operands)
                body.append(Scan(result, node.op, operands, node.dtype))
            case "select":
                return self._select(emission, instance)
            case _:
                operands = tuple(self._number(emission, o) for o in instance.operands)
                body.append(Compute(result, node.op, node.dtype, operands, dict(node.attributes)))
        return result

    def _select(self, emission: _Emission, instance: Instance) -> int:
        """Padding and concatenation: the part whose conditions hold."""
        node, body = instance.node, emission.body
        parts = list(zip(instance.operands, instance.when))
        if node.op.name == "concat":
            result = self._number(emission, parts.pop()[0])
        else:
            result = self.new()
            body.append(Constant(result, node.dtype, node["value"]))
        for operand, conditions in reversed(parts):
            if conditions not in emission.inside:
                emission.inside[conditions] = self.new()
                body.append(Inside(emission.inside[conditions], self._ranges(conditions, emission)))
            chosen = self.new()
            operands = (emission.inside[conditions], self._number(emission, operand), result)
            body.append(Compute(chosen, OPS["where"], node.dtype, operands))
            result = chosen
        return result

    def _store(self, node: Node, instance: Instance, place: Place) -> Callable[[_Emission], None]:
        def action(emission: _Emission) -> None:
            value = self.emit(emission, instance)
            emission.body.append(Store(self.argument_of[(node, False)], self._offset(place, emission), value))

        return action

    def _total(self, fold: Instance, place: Place, over: Literal["outer", "all"]) -> Callable[[_Emission], None]:
        def action(emission: _Emission) -> None:
            operand, index = self._operand(emission, fold)
            argument = self.argument_of[(fold.node, False)]
            emission.body.append(
                Reduce(
                    fold.node.op, operand, fold.operands[0].node.dtype, over,
                    argument=argument, offset=self._offset(place, emission), index=index,
                )
            )  # fmt: skip

        return action

    def _fold(self, emission: _Emission, fold: Instance) -> None:
        operand, index = self._operand(emission, fold)
        combine = fold.node.op.combine
        assert combine is not None
        dtype = fold.operands[0].node.dtype
        results = tuple(self.new() for _ in combine.identity(dtype))
        emission.body.append(Reduce(fold.node.op, operand, dtype, "inner", results=results, index=index))
        self.row_values[fold] = results[-1]

    def _operand(self, emission: _Emission, fold: Instance) -> tuple[int, int]:
        operand = self.emit(emission, fold.operands[0])
        combine = fold.node.op.combine
        assert combine is not None
        if not combine.with_index:
            return operand, -1
        stride, terms = 1, []
        for axis in reversed(self.domain.reduced[fold.node]):
            terms.append((axis, stride))
            stride *= self.extents[axis]
        index = self.new()
        emission.body.append(Index(index, self._offset(Place(0, tuple(terms)), emission)))
        return operand, index


def _is_dear(instance: Instance) -> bool:
    """Whether a value costs more to compute again than to keep."""
    return instance.kind in ("compute", "scan") and instance.node.op.cost >= EXPENSIVE
