from dataclasses import replace

from ...core.op import Op
from ...core.tensor import Node
from ..fused import Fused
from ..in_place import InPlace, Memory
from .rewrite import fixed, graph_pass


@graph_pass
def in_place(graph):
    """Mark the steps that may write over an input that dies with them: relu(x) -> in_place(relu)(x).

    Those are elementwise, of x's shape and dtype; and x is a step with memory of its own that no
    younger step, result or update needs, also not by a view; nor is it what `split` would keep for
    the next run. It is the last pass: the marks hold in the order of age that the graph then has.
    """
    memory, new, changed = Memory(graph), {n: n for n in graph.sources}, False
    memory.held |= fixed(graph)
    for n in graph.steps:
        over = next((i for i, x in enumerate(n.inputs) if fits(n, x, i, memory)), None)
        op = n.op if over is None else marked(n.op, over)
        inputs = tuple([new[x] for x in n.inputs])
        changed = changed or over is not None
        # after a change every step is made again, so that none gets older than it was
        new[n] = Node(op, inputs, n.spec, origin=n.origin) if changed else n
    return graph.mapped(new) if changed else graph


def fits(n, x, i, memory) -> bool:
    new = n.op.over is None and x.spec == n.spec
    return new and pointwise(n.op, i) and memory.may_overwrite(n, x)


def marked(op, over) -> Op:
    return replace(op, over=over) if isinstance(op, Fused) else InPlace(op, over)


def pointwise(op, i) -> bool:
    """Does every number of the result need only that number of input i which it would overwrite?"""
    if not isinstance(op, Fused):
        return op.elementwise and not op.alias
    x = op.graph.inputs[i]
    return all(n.op.elementwise or n.op.view and x not in n.inputs for n in op.graph.steps)
