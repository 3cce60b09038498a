"""Where values are read: index expressions over loop axes, and how movements change them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knetc.codegen.loopnest import Offset, Range

from knetc.ir.node import Node
from knetc.ir.types import Shape
from knetc.passes.domain import wide
from knetc.passes.views import dense_strides

if TYPE_CHECKING:
    from knetc.codegen.instances import Instance


@dataclass(frozen=True)
class Place:
    """An index along one dimension: ``base + sum(axis value * stride) + sum(number * stride)``."""

    base: int = 0
    terms: tuple[tuple[int, int], ...] = ()
    numbers: tuple[tuple[Instance, int], ...] = ()
    """Whole numbers that are known only when the program runs: where a window begins."""

    def scaled(self, factor: int, shift: int = 0) -> Place:
        def times(parts: tuple[tuple[Any, int], ...]) -> tuple[tuple[Any, int], ...]:
            return tuple((part, s * factor) for part, s in parts if s * factor)

        return Place(self.base * factor + shift, times(self.terms), times(self.numbers))

    def shifted(self, number: Instance, sign: int) -> Place:
        """The place ``number`` further on, or before."""
        return total(((self, 1), (Place(numbers=((number, 1),)), sign)))


Places = tuple[Place, ...]
"""One place a dimension."""

Conditions = tuple[tuple[Place, int, int], ...]
"""``low <= place < high``, all of them."""


def total(places: Iterable[tuple[Place, int]]) -> Place:
    """The sum of places times factors."""
    base, terms, numbers = 0, dict[int, int](), dict["Instance", int]()
    for place, factor in places:
        base += place.base * factor
        for axis, stride in place.terms:
            terms[axis] = terms.get(axis, 0) + stride * factor
        for number, stride in place.numbers:
            numbers[number] = numbers.get(number, 0) + stride * factor
    known = tuple(sorted(((n, s) for n, s in numbers.items() if s), key=lambda part: part[0].node.serial))
    return Place(base, tuple(sorted((a, s) for a, s in terms.items() if s)), known)


def flat(places: Places, shape: Shape) -> Place:
    """The element offset in dense memory of ``shape``."""
    return total(zip(places, dense_strides(shape)))


def numbers_of(places: Iterable[Place]) -> tuple[Instance, ...]:
    """The numbers that must be known to tell where places are."""
    return tuple(dict.fromkeys(number for place in places for number, _ in place.numbers))


def offset_of(place: Place, position: Mapping[int, int], value: Callable[[Instance], int]) -> Offset:
    """A place as an offset: ``position`` gives the loop of an axis, ``value`` the number of an instance's value."""
    axes = {position[axis]: stride for axis, stride in place.terms}
    return Offset(place.base, axes, {value(number): stride for number, stride in place.numbers})


def ranges(conditions: Conditions, position: Mapping[int, int], value: Callable[[Instance], int]) -> tuple[Range, ...]:
    return tuple(Range(offset_of(place, position, value), low, high) for place, low, high in conditions)


def aligned_places(shape: Shape, axes: tuple[int, ...]) -> Places:
    """Each dimension runs over its axis; dimensions of extent 1 stay at 0."""
    found = dict(zip(wide(shape), axes))
    return tuple(Place(0, ((found[k], 1),)) if k in found else Place() for k in range(len(shape)))


def reduced_places(node: Node, places: Places, reduced: tuple[int, ...]) -> Places:
    """Where a reduction reads its source: folded dimensions run over the ``reduced`` axes."""
    kept, folded = iter(places), iter(reduced)
    result = []
    for k, extent in enumerate(node.sources[0].shape):
        if k not in node["axes"]:
            result.append(next(kept))
        else:
            result.append(Place() if extent == 1 else Place(0, ((next(folded), 1),)))
    return tuple(result)


def broadcast_places(node: Node, places: Places) -> Places:
    source = node.sources[0].shape
    lead = len(places) - len(source)
    return tuple(Place() if n == 1 else places[lead + k] for k, n in enumerate(source))


def permute_places(node: Node, places: Places) -> Places:
    result = list(places)
    for k, axis in enumerate(node["axes"]):
        result[axis] = places[k]
    return tuple(result)


def slice_places(node: Node, places: Places) -> Places:
    return tuple(p.scaled(step, start) for p, start, step in zip(places, node["starts"], node["steps"]))


def window_places(places: Places, starts: Iterable[Instance]) -> Places:
    return tuple(p.shifted(start, 1) for p, start in zip(places, starts))


def reshape_places(node: Node, places: Places) -> Places:
    """Where a reshape reads its source, each of whose dimensions is a product of neighbouring ones of the result."""
    shape, source = node.shape, node.sources[0].shape
    result, k = [], len(shape) - 1
    for extent in reversed(source):
        product, parts = 1, []
        while product < extent or (extent == 0 and k >= 0 and product):
            parts.append((places[k], product))
            product *= shape[k]
            k -= 1
        result.append(total(parts))
    return tuple(reversed(result))


def pad_places(node: Node, places: Places) -> tuple[Places, Conditions]:
    """Where a padding reads its source, and when it does."""
    moved = tuple(p.scaled(1, -low) for p, low in zip(places, node["low"]))
    padded = zip(moved, node["low"], node["high"], node.sources[0].shape)
    return moved, tuple((p, 0, n) for p, low, high, n in padded if low or high)


def placed_places(node: Node, places: Places, starts: Iterable[Instance]) -> tuple[Places, Conditions]:
    """Where what is put into a larger array is read, and when it is."""
    moved = tuple(p.shifted(start, -1) for p, start in zip(places, starts))
    return moved, tuple((p, 0, n) for p, n in zip(moved, node.sources[0].shape))


def concat_places(node: Node, places: Places) -> list[tuple[Places, Conditions]]:
    """For each source of a concatenation: where it is read, and when."""
    axis, start = node["axis"], 0
    found: list[tuple[Places, Conditions]] = []
    for source in node.sources:
        moved = places[axis].scaled(1, -start)
        extent = source.shape[axis]
        found.append(((*places[:axis], moved, *places[axis + 1 :]), ((moved, 0, extent),)))
        start += extent
    return found
