"""Gradients of graphs: of those that a step holds, and of those that are called with tensors."""

from ..core.autograd import gradients
from ..core.spec import Spec
from ..core.tensor import Node, Tensor
from ..core.trace import grad_mode, mode
from ..ops import detach, full, identity
from .graph import Graph, rebuilt


def pullback(fn, xs, gs):
    """The gradients of `fn`, a function of tensors or a graph, at `xs`, from those of its floating
    outputs; None for integers."""
    with grad_mode(True):
        ends = [Node(identity, (x.node,), x.spec, x.node.value, x.spec.floating) for x in xs]
        ys = [y for y in fn(*map(Tensor, ends)) if y.spec.floating]
    found = gradients(ys, gs, ends, create_graph=mode.grad)
    return [found[n] if n in found else nothing(n.spec) if n.spec.floating else None for n in ends]


def nothing(spec: Spec) -> Tensor:
    """The gradient of what had no influence."""
    return full(spec.shape, 0, spec.dtype)


def differentiable(graph):
    """A recorded graph, fit to be differentiated: where something that no_grad hid from gradients is
    used by what has one, or given back, a Detach hides it. What States become has no gradient."""
    new, hidden = {n: n for n in graph.sources}, {}

    def seen(x):
        return hidden.get(x) or new[x]

    for n in graph.steps:
        new[n] = rebuilt(n, tuple([seen(x) if n.needs_grad else new[x] for x in n.inputs]))
        passes = n.op.differentiable and n.spec.floating and not n.needs_grad
        if passes and any(x.needs_grad or x in hidden for x in n.inputs):
            hidden[n] = Node(detach, (new[n],), n.spec, origin=n.origin)
    outputs = tuple(map(seen, graph.outputs))
    return Graph(graph.inputs, outputs, {s: new[n] for s, n in graph.updates.items()})
