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
    kept, chosen, new = {*graph.updates.values()}, [], {n: n for n in graph.sources}
    for group in groups_of(graph):
        results = [n for n in group if n in kept]
        if 1 < len(results) and len(group) <= LARGEST:
            if fits is None or fits(in_one(group, results, {})):
                chosen.append((group, results))
    inside = {n for group, _ in chosen for n in group}
    for n in graph.steps:
        if n not in inside:
            new[n] = rebuilt(n, tuple([new[x] for x in n.inputs]))
    for group, results in chosen:
        step = in_one(group, results, new)
        for i, n in enumerate(results):
            new[n] = Node(TupleGet(i), (step,), n.spec, origin=n.origin)
    return graph.mapped(new) if chosen else graph


def groups_of(graph) -> list[list[Node]]:
    """Each by age: a step is in the group of all that reads it, if all of that is in groups."""
    readers, home, kept, given = {}, {}, {*graph.updates.values()}, {*graph.outputs}
    for n in graph.steps:
        for x in n.inputs:
            readers.setdefault(x, []).append(n)
    for n in reversed(graph.steps):
        after = readers.get(n, [])
        if n.op.elementwise and n.spec.shape and n not in given and (after or n in kept):
            if all(m in home and m.spec.shape == n.spec.shape for m in after):
                group = {m: None for reader in after for m in home[reader]} | {n: None}
                home |= dict.fromkeys(group, group)
    groups = {id(group): group for group in home.values()}
    return [sorted(group, key=lambda n: n.born) for group in groups.values()]


def in_one(group, results, new) -> Node:
    """The step that does what a group does, of the `new` inputs."""
    inside = {*group}
    outside = {x: None for n in group for x in n.inputs if x not in inside and uniform(x) is None}
    op, specs = Fused(Graph((*outside,), (*results,))), Specs(n.spec for n in results)
    return Node(op, tuple([new.get(x, x) for x in outside]), specs, origin=results[-1].origin)
