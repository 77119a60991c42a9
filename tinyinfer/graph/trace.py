"""From a Python function to a graph: run it once on symbols, and keep what it wrote down."""

import gc
from contextlib import contextmanager
from inspect import signature

import numpy as np

from ..core.spec import Spec
from ..core.tensor import Tensor, placeholder, symbol, tensor
from ..core.trace import Trace
from ..errors import GraphError
from .gradient import differentiable
from .graph import Graph, nodes, subgraphs
from .tree import changed, leaves, refilled, tensors_of


def trace(fn, /, *examples, **named) -> Graph:
    """The graph of `fn` for inputs like the examples: their shapes and dtypes count, not their values.

    Examples are tensors, arrays or Specs, or lists, tuples and dicts of them; anything else is a
    constant of the graph. What States would become is in `graph.updates`; after tracing they are as
    before. Raises GraphError where Python would have to look at a value that is not there yet.
    """
    return record(fn, examples, named)[0]


def record(fn, examples, named=None) -> tuple[Graph, Trace]:
    """The graph, and its trace, which knows what the function relied on, and what it returned."""
    examples, named = changed((examples, named or {}), as_example)
    given = {id(x): name for name, x in argument_names(fn, examples, named)}
    symbols = [symbol(x.spec, x.requires_grad, given.get(id(x))) for x in leaves((examples, named))]
    args, options = refilled((examples, named), symbols)
    with no_collecting(), Trace() as opened:
        opened.result = results(fn(*args, **options))
        outputs = nodes([*leaves(opened.result)])  # of a State, what it has become in here
    graph = differentiable(Graph(nodes(symbols), outputs, opened.updates))
    name_places(graph)
    return graph, opened


def as_example(x):
    """A tensor of its own for each place, though two may be given the same."""
    match x:
        case Spec():
            return placeholder(x.shape, x.dtype)
        case np.ndarray():
            return tensor(x)
        case Tensor():
            return Tensor(x.node)
    return x


def results(returned):
    """What a function returned, with numbers and arrays as tensors."""

    def expect(x):
        if not isinstance(x, Tensor | str | None):
            raise GraphError(
                "a graph gives tensors, in lists, tuples and dicts: this function returned a "
                f"{type(x).__name__}"
            )
        return x

    return changed(tensors_of(returned), expect)


def name_places(graph):
    """Modules and States learn their names from the outermost module: ask each of those once."""
    known = {}
    for n in graph.steps:
        root = n.origin.calls[0].module if n.origin.calls else None
        if root is not None and n.origin.calls[-1].title is None:
            if root not in known:
                known[root] = {module: name for name, module in root.named_modules()}
                root.states()
            for call in n.origin.calls:
                name, kind = known[root].get(call.module, ""), type(call.module).__name__
                call.title = call.title or f"{name}: {kind}".removeprefix(": ")
        for inner in subgraphs(n.op).values():
            name_places(inner)


def argument_names(fn, examples, named):
    """(name, example) for the arguments that are tensors, as far as `fn` tells its parameters."""
    try:
        bound = signature(getattr(fn, "forward", fn)).bind(*examples, **named)
    except (TypeError, ValueError):
        return []
    return [(name, x) for name, x in bound.arguments.items() if isinstance(x, Tensor)]


@contextmanager
def no_collecting():
    """Nodes make no cycles: looking for some while many are made costs half of the time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def graph(outputs, inputs) -> Graph:
    """The graph between placeholders and what was made of them: define, then run.

    Raises GraphError if an output depends on a placeholder that is not among the inputs, or if an
    input is none.
    """
    inputs = [*leaves(inputs)]
    if known := [x for x in inputs if x.node.value is not None]:
        raise GraphError(
            f"an input, {known[0].node!r}, has a value, so what was made of it has one: make it with "
            "ti.placeholder, or see ti.trace"
        )
    found = differentiable(Graph(nodes(inputs), nodes([*leaves(results(outputs))])))
    if early := [n for n in found.constants if n.op]:
        raise GraphError(
            f"{early[0].op.name} was computed from a State before it met a placeholder: the graph "
            "would not follow the State. Draw it in a Module, or with ti.trace"
        )
    name_places(found)
    return found
