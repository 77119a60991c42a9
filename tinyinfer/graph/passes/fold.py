from math import prod

import numpy as np

from ...core.spec import Spec
from ...core.tensor import Node
from ..graph import Graph, nbytes, subgraphs
from .rewrite import graph_pass, rewrite, uniform, within

LARGEST = 64 * 1024  # bytes; what is larger must not be more than it was made of


@graph_pass
def fold(graph):
    """A pure step on constants is a constant; and a constant that a branch or a loop captures is
    one inside:

        2 * 3 + x                   ->  6 + x
        zeros(1000, 1000) + 1       ->  ones(1000, 1000), held as one number
        scan(f(..., k), ..., k=2)   ->  scan(f(..., 2), ...)
    """
    return folded(graph)


def folded(graph):
    return rewrite(graph, rule)


def rule(n) -> Node | None:
    """The constant that a step is; or a loop or branch that knows more constants."""
    if n.op is None or not n.op.pure:
        return None
    if n.op.control:
        return told(n)
    if all(x.value is not None for x in n.inputs) and isinstance(n.spec, Spec):
        return constant(n)


def constant(n) -> Node | None:
    values = [x.value for x in n.inputs]
    uniforms = all(uniform(x) is not None for x in n.inputs)
    try:
        with np.errstate(all="ignore"):
            if uniforms and n.op.elementwise:  # one number for all
                corners = [x[(slice(1),) * x.ndim] for x in values]
                value = np.broadcast_to(n.op.compute(*corners), n.spec.shape)
            elif uniforms and n.op.view or nbytes(n.spec) <= max(LARGEST, sum(map(held, values))):
                value = n.op.compute(*values)
            else:
                return None
    except Exception:  # it says so when it runs, if that branch is ever taken
        return None
    return Node(None, (), n.spec, value, origin=n.origin)


def held(x) -> int:
    """The bytes of an array, without what a view repeats."""
    return x.itemsize * prod([n for n, step in zip(x.shape, x.strides) if step])


def told(n) -> Node | None:
    """A branch or a loop that has the constants it captures inside."""
    op, args = n.op, n.inputs[n.op.first :]
    captured = range(op.carries + op.sequences, len(args))
    constants = {i: args[i] for i in captured if args[i].value is not None}
    if not constants:
        return None
    inner = {}
    for name, graph in subgraphs(op).items():
        inputs = [constants.get(i, x) for i, x in enumerate(graph.inputs)]
        inner[name] = Graph(graph.inputs, graph.inlined(inputs))
    ins = [i for i in range(len(args)) if i not in constants]
    op = op.only(ins, range(len(n.spec)), inner)
    inputs = (*n.inputs[: op.first], *[args[i] for i in ins])
    return within(Node(op, inputs, n.spec, origin=n.origin), folded)
