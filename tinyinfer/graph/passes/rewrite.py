"""What all passes share: pure functions Graph -> Graph, most of them a rule about one node.

A pass keeps values, not gradients: differentiate first. It runs in the graphs inside loops and
branches first; a fused step is finished, so nothing enters it.
"""

from collections import Counter
from dataclasses import replace
from functools import wraps
from time import perf_counter

from ...core.tensor import Node, Tensor
from ...core.trace import Trace, grad_mode, mode
from ..graph import Graph, rebuilt, subgraphs
from ..history import Change, History

PASSES = {}  # name -> pass


def graph_pass(fn):
    """Make `fn` a pass: run it inside first, and remember what was there before."""

    def apply(graph, **options):
        def inside(n):
            if n.op and n.op.control:
                inner = {name: apply(g, **options) for name, g in subgraphs(n.op).items()}
                same = all(g is vars(n.op)[name] for name, g in inner.items())
                return None if same else rebuilt(n, n.inputs, replace(n.op, **inner))

        holds = any(n.op.control for n in graph.steps)
        return fn(rewrite(graph, inside) if holds else graph, **options)

    @wraps(fn)
    def run(graph: Graph, **options) -> Graph:
        start = perf_counter()
        new = apply(graph, **options)
        change = Change(fn.__name__, graph, new, perf_counter() - start)
        return new.remembering(History((*graph.history, change)))

    PASSES[fn.__name__] = run
    return run


def rewrite(graph: Graph, rule) -> Graph:
    """Rebuild from old to young. `rule(node)` sees a node on its rebuilt inputs, and says what takes
    its place, a node or a tensor of the same spec; or None: it stays.

    A rule calls ops as everybody does: they are only written down, with the origin of the node. If
    nothing changes, it is the same graph.
    """
    new = {n: n for n in graph.inputs}
    outer = mode.origin
    try:
        with Trace(), grad_mode(False):
            for n in (*graph.states, *graph.constants, *graph.steps):
                here = rebuilt(n, tuple([new[x] for x in n.inputs])) if n.op else n
                mode.origin = n.origin
                there = rule(here)
                new[n] = here if there is None else getattr(there, "node", there)
    finally:
        mode.origin = outer
    return graph if all(n is m for n, m in new.items()) else graph.mapped(new)


def users(graph: Graph) -> Counter:
    """How many steps, results and updates use a node."""
    found = Counter([*graph.outputs, *graph.updates.values()])
    for n in graph.steps:
        found.update(set(n.inputs))
    return found


def uniform(n: Node):
    """The one number of a constant that holds it everywhere; else None."""
    if n.value is not None and n.value.size and (n.value.size == 1 or not any(n.value.strides)):
        return n.value.flat[0].item()


def tensor_of(x) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)
