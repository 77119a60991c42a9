from ..graph import Graph
from .rewrite import fixed


def split(graph: Graph) -> tuple[Graph, Graph]:
    """(prologue, body): what follows from constants, and from States that the graph leaves alone,
    such as folded or packed weights; and the rest. f(g(w), x) -> y = g(w); f(y, x)

    The prologue has no inputs, and its outputs are what the body takes behind the inputs of the
    graph: `body.run(*arrays, *prologue.run_all(()))`. It has to run again only when one of its
    States was re-pointed; after a training step never, for what the graph updates is in the body.
    No pass: it makes two graphs.
    """
    known = fixed(graph)
    used = {x for n in graph.steps if n not in known for x in n.inputs}
    used.update(graph.outputs, graph.updates.values())
    ready = tuple(n for n in graph.steps if n in known and n in used)
    return Graph((), ready), Graph((*graph.inputs, *ready), graph.outputs, graph.updates)
