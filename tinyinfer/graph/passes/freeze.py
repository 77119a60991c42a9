from ...core.tensor import Node
from ...core.trace import Origin
from .rewrite import graph_pass, rewrite


@graph_pass
def freeze(graph):
    """A State that the graph does not change becomes a constant, its value now: x @ w -> x @ [...]

    For deployment: what follows from weights alone can be folded then; but the graph no longer
    follows the States.
    """
    fixed = {n: state for n, state in graph.states.items() if state not in graph.updates}
    values = {n: state.node.value for n, state in fixed.items()}
    named = lambda n: Origin(name=fixed[n].name)
    return rewrite(
        graph, lambda n: Node(None, (), n.spec, values[n], origin=named(n)) if n in fixed else None
    )
