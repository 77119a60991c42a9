"""What becomes of States, together: all that an optimizer does with a parameter is one loop nest.

    m' = 0.9 m + 0.1 g
    v' = 0.99 v + 0.01 g g          ->      m', v', p' = fused(m, v, p, g)
    p' = p - lr m' / sqrt(v')

`fuse` joins a step with the only other one that uses it; but m' is used, and kept. Why can no cycle
arise? Of what a group makes nothing else is made, but new values of States.
"""

from ...core.spec import Specs
from ...core.tensor import Node
from ..control import TupleGet
from ..fused import Fused
from ..graph import Graph, rebuilt
from .fuse import LARGEST
from .rewrite import graph_pass, uniform


@graph_pass
def together(graph, fits=None):
    """Elementwise steps of one shape, of which only States are made, become one step with several
    outputs. `fits(step)`, if given, says of such a step whether it may be."""
    kept, joined, new = {*graph.updates.values()}, {}, {n: n for n in graph.sources}
    for group in groups_of(graph):
        results = [n for n in group if n in kept]
        if 1 < len(results) and len(group) <= LARGEST:
            step = in_one(group, results, {})
            if fits is None or fits(step):
                joined |= dict.fromkeys(group, results)
    if not joined:
        return graph
    for n in graph.steps:
        if n not in joined:
            new[n] = rebuilt(n, tuple([new[x] for x in n.inputs]))
    for results in {id(r): r for r in joined.values()}.values():
        step = in_one([n for n in graph.steps if joined.get(n) is results], results, new)
        for i, n in enumerate(results):
            new[n] = Node(TupleGet(i), (step,), n.spec, origin=n.origin)
    return graph.mapped(new)


def groups_of(graph) -> list[list[Node]]:
    """Each by age."""
    readers, home, kept = {}, {}, {*graph.updates.values()}
    for n in graph.steps:
        for x in n.inputs:
            readers.setdefault(x, []).append(n)
    for n in reversed(graph.steps):
        after = readers.get(n, [])
        if n.op.elementwise and n.spec.shape and n not in graph.outputs and (after or n in kept):
            if all(m in home and m.spec.shape == n.spec.shape for m in after):
                group = {m: None for reader in after for m in home[reader]} | {n: None}
                home |= dict.fromkeys(group, group)
    groups = {id(group): group for group in home.values()}
    return [sorted(group, key=lambda n: n.born) for group in groups.values()]


def in_one(group, results, new) -> Node:
    inside = {*group}
    outside = {x: None for n in group for x in n.inputs if x not in inside and uniform(x) is None}
    op, specs = Fused(Graph((*outside,), (*results,))), Specs(n.spec for n in results)
    return Node(op, tuple([new.get(x, x) for x in outside]), specs, origin=results[-1].origin)
