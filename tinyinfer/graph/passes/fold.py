from ...core.spec import Spec
from ...core.tensor import Node
from .rewrite import graph_pass, rewrite


@graph_pass
def fold(graph):
    """A pure step on constants is a constant: 2 * 3 + x -> 6 + x"""

    def rule(n):
        known = n.op and all(x.value is not None for x in n.inputs)
        if known and n.op.pure and isinstance(n.spec, Spec):
            return Node(None, (), n.spec, n.op.compute(*[x.value for x in n.inputs]))

    return rewrite(graph, rule)
