from ...core.tensor import Node
from ..fused import Fused
from ..graph import Graph
from .rewrite import graph_pass, users


@graph_pass
def fuse(graph):
    """Fuse an elementwise step with the one before it, if that has its shape and no other user."""
    used = users(graph)
    chain = {}  # the last step of a chain -> the chain

    def extends(n, x):
        return (
            x in chain
            and used[x] == 1
            and n.op.elementwise
            and n.spec.shape == x.spec.shape
            and (x.op.elementwise or x.op.anchor)
        )

    for n in graph.steps:
        before = next((x for x in n.inputs if extends(n, x)), None)
        chain[n] = (*chain.pop(before, ()), n)
    new = {n: n for n in graph.sources}
    for last, steps in chain.items():
        outside = tuple(dict.fromkeys(x for n in steps for x in n.inputs if x not in steps))
        one = len(steps) == 1
        op, inputs = (last.op, last.inputs) if one else (Fused(Graph(outside, (last,))), outside)
        new[last] = Node(op, tuple(new[x] for x in inputs), last.spec, origin=last.origin)
    return graph.mapped(new)
