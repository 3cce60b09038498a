"""Simplification: the graph written anew by the rules, in one walk from the inputs to the outputs.

Equal values become one, what nothing uses disappears, and each value takes the simplest form that ``rules`` and
``movement_rules`` know. A value is looked at once, when its sources have their final form, so the time is proportional
to the number of values.
"""

from __future__ import annotations

from knetc.ir.node import Graph
from knetc.ir.rewrite import Rule, rewrite
from knetc.passes import loops
from knetc.passes.movement_rules import CUTTING, REARRANGING
from knetc.passes.rules import ARITHMETIC, CHOICES, CONVERSIONS, FOLDING, SMALLER

RULES: tuple[Rule, ...] = (*FOLDING, *ARITHMETIC, *CHOICES, *CONVERSIONS, *REARRANGING, *CUTTING, *SMALLER)
"""All rules, in the order in which they are tried."""


def simplify(graph: Graph) -> Graph:
    """The same computation in fewer and simpler operations; inputs, updates, effects and names stay.

    Bodies of loops and branches are simplified too, once it is known what they are given and what is needed of them.

    >>> print(to_text(simplify(trace_function(lambda x: -(-x) * 1, TensorType(f32, (3,))))))
    def graph(x0: f32[3]):
        return x0
    """
    graph = rewrite(graph, RULES)
    if not loops.has_control(graph):
        return graph
    graph = loops.pruned(loops.merged(graph), simplify)
    return loops.pruned(rewrite(graph, RULES))
