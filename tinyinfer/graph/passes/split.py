from ..graph import Graph


def split(graph: Graph) -> tuple[Graph, Graph]:
    """(prologue, body): what follows from constants and states the graph leaves alone; the rest."""
    fixed = {n for n, s in graph.states.items() if s not in graph.updates} | set(graph.constants)
    for n in graph.steps:
        if n.op.pure and fixed.issuperset(n.inputs):
            fixed.add(n)
    used = {x for n in graph.steps if n not in fixed for x in n.inputs}
    used.update(graph.outputs, graph.updates.values())
    ready = tuple(n for n in graph.steps if n in fixed and n in used)
    return Graph((), ready), Graph((*graph.inputs, *ready), graph.outputs, graph.updates)
