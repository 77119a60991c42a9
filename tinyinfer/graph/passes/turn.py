"""A product that is needed turned is made so: (a @ b).mT -> b.mT @ a.mT. Kernels read a factor by its
columns as well as by its rows; but what a step leaves has to be read as it lies."""

from ...core.tensor import Node
from ...ops.linalg import MatMul
from ...ops.shape import Transpose
from ..graph import made, rebuilt
from .rewrite import graph_pass, users


@graph_pass
def turn(graph):
    """(a @ b).mT -> b.mT @ a.mT, where nothing else needs a @ b: as in the gradient of a weight."""
    used, new = users(graph), {n: n for n in graph.sources}
    for n in graph.steps:
        new[n] = here = rebuilt(n, tuple([new[x] for x in n.inputs]))
        match here:
            case Node(Transpose(axes), (Node(MatMul(), (a, b)),)) if is_turned(axes):
                if used[n.inputs[0]] == 1:
                    new[n] = made(MatMul(), (turned(b, n), turned(a, n)), n)
    return graph if all(n is m for n, m in new.items()) else graph.mapped(new)


def is_turned(axes) -> bool:
    *first, a, b = axes
    return [*first, b, a] == [*range(len(axes))]


def turned(x, n) -> Node:
    if isinstance(x.op, Transpose) and x.value is None and is_turned(x.op.axes):
        return x.inputs[0]
    *first, a, b = range(len(x.spec.shape))
    return made(Transpose((*first, b, a)), (x,), n)
