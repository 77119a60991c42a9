"""From a Python function to a graph: run it once on symbols, and keep what it wrote down."""

import gc
from contextlib import contextmanager
from inspect import signature

from ..core.tensor import Tensor, symbol
from ..core.trace import Trace
from ..errors import GraphError
from .graph import Graph, nodes


def trace(fn, *examples, **named) -> Graph:
    """The graph of `fn` for inputs like the examples: their shapes and dtypes count, not their values.

    Examples may be tensors, or lists, tuples and dicts of tensors; anything else is a constant of
    the graph. What States would become is in `graph.updates`; after tracing they are as before.
    Raises GraphError where Python would have to look at a value that is not there yet.
    """
    return record(fn, examples, named)[0]


def record(fn, examples, named=None) -> tuple[Graph, Trace]:
    named = named or {}
    given = {id(x): name for name, x in argument_names(fn, examples, named)}
    symbols = [
        symbol(x.spec, x.requires_grad, given.get(id(x))) for x in tensors_in((examples, named))
    ]
    args, options = refilled((examples, named), iter(symbols))
    with no_collecting(), Trace() as opened:
        outputs = [*tensors_in(fn(*args, **options))]
    return Graph(nodes(symbols), nodes(outputs), opened.updates), opened


def tensors_in(x):
    """The tensors in nested lists, tuples and dicts, in their order."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, list | tuple | dict):
        for inner in x.values() if isinstance(x, dict) else x:
            yield from tensors_in(inner)


def refilled(x, tensors):
    """The same containers, with the next of `tensors` in the place of each tensor."""
    if isinstance(x, Tensor):
        return next(tensors)
    if isinstance(x, dict):
        return {k: refilled(inner, tensors) for k, inner in x.items()}
    if isinstance(x, list | tuple):
        inside = [refilled(inner, tensors) for inner in x]
        return type(x)(*inside) if hasattr(x, "_fields") else type(x)(inside)
    return x


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

    Raises GraphError if an output depends on a placeholder that is not among the inputs.
    """
    found = Graph(nodes(inputs), nodes(outputs))
    if early := [n for n in found.constants if n.op]:
        raise GraphError(
            f"{early[0].op.name} was computed from a State before it met a placeholder: the graph "
            "would not follow the State. Draw it in a Module, or with ti.trace"
        )
    return found
