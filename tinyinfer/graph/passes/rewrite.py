"""What all passes share: pure functions Graph -> Graph, most of them a rule about one node.

A pass keeps values, not gradients: differentiate first. It runs in the graphs inside loops and
branches first; a fused step is finished, so nothing enters it.
"""

import sys
from collections import Counter
from dataclasses import replace
from functools import wraps
from time import perf_counter

import numpy as np

from ...core.op import DEBUG
from ...core.spec import Spec
from ...core.tensor import Node, Tensor
from ...core.trace import Trace, grad_mode, mode
from ...errors import TinyinferError
from ...ops.shape import slices
from ..graph import Graph, expect_graph, rebuilt, subgraphs
from ..history import Change, History

PASSES = {}  # name -> pass


def graph_pass(fn):
    """Make `fn` a pass: run it inside first, and remember what was there before."""

    def apply(graph, **options):
        if any(n.op.control for n in graph.steps):
            graph = rewrite(graph, lambda n: within(n, lambda g: apply(g, **options)))
        return fn(graph, **options)

    @wraps(fn)
    def run(graph: Graph, **options) -> Graph:
        expect_graph(fn.__name__, graph)
        start = perf_counter()
        new = apply(graph, **options)
        change = Change(fn.__name__, graph, new, perf_counter() - start)
        if DEBUG >= "2":
            print(f"{change.name}: {change.told}", file=sys.stderr)
        return new.remembering(History((*graph.history, change)))

    PASSES[fn.__name__] = run
    return run


def within(n: Node, fn) -> Node:
    """A step with `fn` of the graphs that it runs."""
    held = subgraphs(n.op) if n.op and n.op.control else {}
    new = {name: fn(graph) for name, graph in held.items()}
    same = all(new[name] is graph for name, graph in held.items())
    return n if same else rebuilt(n, n.inputs, replace(n.op, **new))


def rewrite(graph: Graph, rule, among=None) -> Graph:
    """Rebuild from old to young. `rule(node)` sees a node on its rebuilt inputs, and says what
    takes its place, a node or a tensor of the same spec; or None: it stays. It is asked about all
    nodes, or about those `among` them.

    A rule calls ops as everybody does: they are only written down, with the origin of the node. It
    never sees what is behind an input. If nothing changes, it is the same graph.
    """
    new = {n: n if n.op is None and n.value is None else closed(n) for n in graph.inputs}
    changed, outer = False, mode.origin
    try:
        with Trace(), grad_mode(False):
            for n in (*graph.states, *graph.constants, *graph.steps):
                step = n.op and n.value is None
                here = rebuilt(n, tuple([new[x] for x in n.inputs])) if step else n
                mode.origin = n.origin
                there = rule(here) if among is None or n in among else None
                new[n] = here if there is None else getattr(there, "node", there)
                changed = changed or new[n] is not here
    finally:
        mode.origin = outer
    if not changed:
        return graph
    inputs, outputs = (tuple([new[n] for n in ns]) for ns in (graph.inputs, graph.outputs))
    return Graph(inputs, outputs, {s: new[n] for s, n in graph.updates.items()})


def closed(n: Node) -> Node:
    """An input in the place of a step or a constant that was made one."""
    return Node(None, (), n.spec, origin=n.origin)


def settled(graph: Graph, step) -> Graph:
    """graph, step(graph), step(step(graph)), ... until nothing changes; or 20 times, should two rules
    undo each other."""
    for _ in range(20):
        before, graph = graph, step(graph)
        if graph is before:
            break
    return graph


def equations(*tables):
    """A rule: the first of the tables that has an equation for a step says what it is equal to; and
    that is looked at again. Steps on constants alone are left to `fold`."""

    def rule(n):
        while n.op and any(x.value is None for x in n.inputs):
            if (new := equal(n, tables)) is None:
                break
            n = new
        return n

    return rule


def equal(n: Node, tables) -> Node | None:
    """What the tables put in the place of a step, in either order of its inputs if that is the same.
    No equation holds that changes the shape or the dtype, nor one that an op refuses: a mask has no
    negative."""
    op, *xs = expression(n)
    for order in ([op, *xs], [op, *reversed(xs)])[: 1 + op.commutative]:
        for table in tables:
            try:
                new = table(n, order)
            except TinyinferError:
                continue
            new = getattr(new, "node", new)
            if isinstance(new, Node) and new.spec == n.spec:
                return new


def expression(n: Node) -> tuple:
    """(op, x, y): a step to be matched. A constant of one number stands as this number."""
    return n.op, *[x if (c := uniform(x)) is None else c for x in n.inputs]


def users(graph: Graph) -> Counter:
    """How many steps, results and updates use a node."""
    found = Counter([*graph.outputs, *graph.updates.values()])
    for n in graph.steps:
        found.update(set(n.inputs))
    return found


def fixed(graph: Graph) -> set[Node]:
    """What follows from constants, and from States that the graph leaves alone."""
    found = {n for n, s in graph.states.items() if s not in graph.updates} | set(graph.constants)
    for n in graph.steps:
        if n.op.pure and found.issuperset(n.inputs):
            found.add(n)
    return found


def uniform(n: Node):
    """The one number of a constant that holds it everywhere; else None."""
    if n.value is not None and n.value.size and (n.value.size == 1 or not any(n.value.strides)):
        return n.value.flat[0].item()


def everywhere(number, spec: Spec) -> Node:
    """A constant of one number, which is held once."""
    return Node(None, (), spec, np.broadcast_to(np.array(number, spec.dtype), spec.shape))


def sliced(inner, outer) -> tuple[int, int, int]:
    """The slice of a slice, as triples: x[inner][outer] = x[sliced(inner, outer)]"""
    (places,) = slices([outer])
    r = range(*inner)[places]
    return r.start, r.stop, r.step


def tensor_of(x) -> Tensor:
    """Of a node; numbers stay."""
    return Tensor(x) if isinstance(x, Node) else x
