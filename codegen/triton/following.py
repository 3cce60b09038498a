"""Folds that can follow others: a row's softmax or variance in one walk over the row instead of two.

The sum of ``exp(x - m)`` needs the row's maximum m, and the sum of ``(x - m)**2`` its mean m. Both can be taken while m
is still on its way: relative to a *centre*, what m is of the elements so far, and moved whenever the centre moves:

- ``sum(a * f(x - new)) = sum(a * f(x - old)) * f(old - new)`` for a function f that turns sums into products
  (``Op.sums_to_products``), if m is made of the maximum of x alone, so that nothing overflows on the way;
- ``sum((x - new)**2) = sum((x - old)**2) + 2 (old - new) sum(x - old) + n (old - new)**2``, of n elements.

What is found here is found by the form of the expressions, whoever wrote them. The moves are statements of loop nests:
the kernel that walks the rows takes them for each of its lanes, a nest that combines pieces of rows for each piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from knetc.codegen.axes import Loops, results, used_values
from knetc.codegen.loopnest import Compute, Constant, Inside, Load, Reduce, Scan, Stage, Statement, Store
from knetc.runtime.base import dtypes

from knetc.ir.op import OPS, Op


@dataclass(frozen=True)
class Centre:
    """A row value that folds are taken relative to."""

    value: int
    source: Reduce
    """The fold of the same walk that it is made of."""
    chain: tuple[Statement, ...]
    """The row statements that make it of the source's result."""
    mean: bool
    """Whether it is the mean of what the source sums."""


@dataclass(frozen=True)
class Follower:
    """A sum whose elements are functions of a difference from a centre."""

    reduce: Reduce
    centre: Centre
    function: Op | None
    """What turns sums into products; None for squares."""


@dataclass(frozen=True)
class Walk:
    """What one walk over the elements of a row computes."""

    first: Stage
    between: tuple[Stage, ...] = ()
    """Row stages, of values that are known when the walk has ended."""
    then: Stage | None = None
    """An element stage of nothing but followers."""
    followers: tuple[Follower, ...] = ()

    @property
    def stages(self) -> list[Stage]:
        """The stages of the nest that it is made of."""
        return [self.first, *self.between, *([self.then] if self.then else [])]

    @property
    def centres(self) -> list[Centre]:
        return list({f.centre.value: f.centre for f in self.followers}.values())

    @property
    def folds(self) -> list[Reduce]:
        """The folds over the row that need no centre."""
        return [s for s in self.first.body if isinstance(s, Reduce) and s.over == "inner"]


def walks(loops: Loops) -> list[Stage | Walk]:
    """The stages of a nest in order, its element stages as walks, of which each does as much as it can."""
    found: list[Stage | Walk] = []
    stages = list(loops.nest.stages)
    k = 0
    while k < len(stages):
        stage = stages[k]
        if stage.level == "row":
            found.append(stage)
            k += 1
            continue
        after = next((j for j in range(k + 1, len(stages)) if stages[j].level == "element"), len(stages))
        walk = _joined(loops, k, after) if after < len(stages) else None
        found.append(walk or Walk(stage))
        k = after + 1 if walk else k + 1
    return found


def _joined(loops: Loops, first: int, then: int) -> Walk | None:
    """Two element stages as one walk, if all that the second does is to follow the first."""
    stages = loops.nest.stages
    between = stages[first + 1 : then]
    body = [*stages[first].body, *(s for stage in between for s in stage.body), *stages[then].body]
    if any(isinstance(s, (Store, Scan)) for s in (*stages[first].body, *stages[then].body)):
        return None
    source = _Sources(loops, stages[first], between)
    followers = []
    for s in stages[then].body:
        if isinstance(s, Reduce):
            found = source.follower(s)
            if found is None:
                return None
            followers.append(found)
    if not followers or any(isinstance(s, Reduce) and s.over != "inner" for s in body):
        return None
    return Walk(stages[first], between, stages[then], tuple(followers))


class _Sources:
    """What is known of the values of a nest when two of its element stages are to be one walk."""

    def __init__(self, loops: Loops, first: Stage, between: Sequence[Stage]) -> None:
        self.columns = loops.columns
        self.made: dict[int, Statement] = {r: s for s in loops.statements for r in results(s)}
        self.folds = {r: s for s in first.body if isinstance(s, Reduce) for r in s.results}
        self.rows = {r: s for stage in between for s in stage.body for r in results(s)}
        self.keys = _keys(loops)
        late = set(self.folds)
        for s in loops.statements:
            if used_values(s) & late:
                late |= set(results(s))
        self.late = late
        """Values that the first walk has to have ended for."""

    def follower(self, reduce: Reduce) -> Follower | None:
        """The fold as one that follows, if it can."""
        if reduce.op.combine is None or reduce.op.combine.reassociable != "add" or not dtypes.is_float(reduce.dtype):
            return None
        factors = [f for f in self._factors(reduce.operand) if f in self.late]
        if len(factors) == 2 and self.keys[factors[0]] == self.keys[factors[1]]:
            return self._square(reduce, factors[0])
        if len(factors) != 1:
            return None
        [factor] = factors
        made = self.made[factor]
        if isinstance(made, Compute) and made.op is OPS["square"]:
            return self._square(reduce, made.operands[0])
        if isinstance(made, Compute) and made.op.sums_to_products:
            return self._exponential(reduce, made)
        return None

    def _factors(self, value: int) -> Iterator[int]:
        """The factors of a product, signs left out: those of factors that are products too."""
        left = [value]
        while left:
            value = left.pop()
            made = self.made[value]
            if isinstance(made, Compute) and made.op in (OPS["multiply"], OPS["negative"]):
                left += made.operands
            elif isinstance(made, Compute) and made.op is OPS["true_divide"] and made.operands[1] not in self.late:
                left.append(made.operands[0])
            else:
                yield value

    def _difference(self, value: int) -> tuple[int, int] | None:
        """The operands of a difference of an element and a row value."""
        made = self.made[value]
        if not isinstance(made, Compute) or made.op is not OPS["subtract"]:
            return None
        element, row = made.operands
        return (element, row) if element not in self.late and row in self.rows.keys() | self.folds.keys() else None

    def _exponential(self, reduce: Reduce, made: Compute) -> Follower | None:
        parts = self._difference(made.operands[0])
        if parts is None:
            return None
        element, row = parts
        centre = self._centre(row)
        if centre is None or made.dtype != reduce.dtype:
            return None
        combine = centre.source.op.combine
        if combine is None or combine.reassociable != "max" or not self._same(element, centre.source.operand):
            return None
        return Follower(reduce, centre, made.op)

    def _square(self, reduce: Reduce, root: int) -> Follower | None:
        parts = self._difference(root)
        if parts is None:
            return None
        element, row = parts
        made = self.made[row]
        if not isinstance(made, Compute) or made.op not in (OPS["true_divide"], OPS["multiply"]):
            return None
        total, number = made.operands
        source, count = self.folds.get(total), self.made[number]
        if source is None or not isinstance(count, Constant) or source.dtype != reduce.dtype:
            return None
        share = 1 / float(count.value) if made.op is OPS["true_divide"] and count.value else float(count.value)
        adds = source.op.combine is not None and source.op.combine.reassociable == "add"
        if not adds or abs(share * self.columns - 1) > 1e-6 or not self._same(element, source.operand):
            return None
        return Follower(reduce, Centre(row, source, (made,), mean=True), None)

    def _centre(self, row: int) -> Centre | None:
        """A row value as a centre, if it is made of one fold and of constants."""
        chain: list[Statement] = []
        sources: set[int] = set()
        left, seen = [row], set()
        while left:
            value = left.pop()
            if value in seen:
                continue
            seen.add(value)
            if value in self.folds:
                sources.add(value)
            elif value in self.late:
                made = self.rows.get(value)
                if not isinstance(made, Compute):
                    return None
                chain.append(made)
                left += made.operands
        if len(sources) != 1:
            return None
        order = {r: k for k, r in enumerate(self.made)}
        chain.sort(key=lambda s: order[results(s)[0]])
        return Centre(row, self.folds[sources.pop()], tuple(chain), mean=False)

    def _same(self, a: int, b: int) -> bool:
        return self.keys[a] == self.keys[b]


def _keys(loops: Loops) -> dict[int, int]:
    """A number for each value, the same for values that are computed alike."""
    known: dict[Any, int] = {}
    keys: dict[int, int] = {}
    for s in loops.statements:
        for part, value in enumerate(results(s)):
            key: Any = (value,)
            if isinstance(s, Load) and not s.offset.indirect:
                axes = tuple(sorted(s.offset.axes.items()))
                key = ("load", s.argument, s.offset.base, axes, repr(s.where), s.otherwise)
            elif isinstance(s, Constant):
                key = ("constant", s.dtype, repr(s.value))
            elif isinstance(s, Compute):
                attributes = tuple(sorted(s.attributes.items()))
                key = ("compute", s.op.name, s.dtype, attributes, *(keys[v] for v in s.operands))
            elif isinstance(s, Inside):
                key = ("inside", repr(s.where))
            keys[value] = known.setdefault((part, key), len(known))
    return keys


# --- moves -----------------------------------------------------------------------------------------------------------


class Moves:
    """Statements that move folds from one centre to another; ``number`` is the first that is free for values."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.body: list[Statement] = []

    def take(self) -> list[Statement]:
        """The statements so far, which are then forgotten."""
        body, self.body = self.body, []
        return body

    def fresh(self) -> int:
        self.number += 1
        return self.number - 1

    def _compute(self, name: str, dtype: Any, *operands: int) -> int:
        self.body.append(Compute(self.fresh(), OPS[name], dtype, operands))
        return self.number - 1

    def _constant(self, value: float, dtype: Any) -> int:
        self.body.append(Constant(self.fresh(), dtype, value))
        return self.number - 1

    def centre(self, centre: Centre, source: int, count: int) -> int:
        """The centre that a part of a row has, from what ``source`` folds of it; 0 where that is not finite."""
        dtype = centre.source.dtype
        if centre.mean:
            least = self._compute("maximum", dtype, count, self._constant(1.0, dtype))
            share = self._compute("true_divide", dtype, self._constant(1.0, dtype), least)
            return self._compute("multiply", dtype, source, share)
        numbers: dict[int, int] = {centre.source.results[0]: source}
        for s in centre.chain:
            assert isinstance(s, Compute)
            numbers[s.result] = self.fresh()
            operands = tuple(numbers.get(v, v) for v in s.operands)
            self.body.append(replace(s, result=numbers[s.result], operands=operands))
        value = numbers[centre.value]
        size = self._compute("absolute", dtype, value)
        finite = self._compute("less", dtypes.boolean, size, self._constant(float("inf"), dtype))
        return self._compute("where", dtype, finite, value, self._constant(0.0, dtype))

    def apart(self, source: Reduce, centre: int) -> int:
        """By how much an element of a sum is apart from a centre."""
        return self._compute("subtract", source.dtype, source.operand, centre)

    def moved_apart(self, dtype: Any, apart: int, old: int, new: int, count: int) -> int:
        """By how much elements are apart from a new centre in sum."""
        moved = self._compute("multiply", dtype, self._compute("subtract", dtype, old, new), count)
        return self._compute("add", dtype, apart, moved)

    def moved(self, follower: Follower, total: int, old: int, new: int, count: int, apart: int = -1) -> int:
        """A sum relative to the centre ``old``, relative to ``new``; of squares, those of ``count`` elements that are
        ``apart`` from the old centre in sum (-1: by nothing)."""
        dtype = follower.reduce.dtype
        way = self._compute("subtract", dtype, old, new)
        if follower.function is None:
            more = self._compute("multiply", dtype, way, count)
            if apart >= 0:
                more = self._compute("add", dtype, more, self._compute("add", dtype, apart, apart))
            return self._compute("add", dtype, total, self._compute("multiply", dtype, way, more))
        self.body.append(Compute(self.fresh(), follower.function, dtype, (way,)))
        product = self._compute("multiply", dtype, total, self.number - 1)
        nothing = self._constant(0.0, dtype)  # which stays nothing however far the centre moves
        return self._compute("where", dtype, self._compute("equal", dtypes.boolean, total, nothing), nothing, product)

    def settled(self, follower: Follower, total: int) -> None:
        """The result of a fold from the sum of all parts, which are relative to the row's centre: NaN where that is not
        finite, as it must be if the centre is one of the elements."""
        dtype = follower.reduce.dtype
        rest = self._compute("subtract", dtype, follower.centre.value, follower.centre.value)
        self.body.append(Compute(follower.reduce.results[0], OPS["add"], dtype, (total, rest)))
