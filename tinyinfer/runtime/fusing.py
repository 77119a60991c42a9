"""What fused steps have a kernel: chains of elementwise steps; these before a reduction, or after a
normalization; and a convolution, or a product, with what can be done to its sums while they are in
registers.

    sum      ::= conv2d(x, w) | matmul(x, w)
    fused    ::= sum [+ bias] [relu] [max_pool2d 2 x 2]     the latter two in any order: it is the same
               | group elementwise*                             softmax, layer norm, ...
               | elementwise* [group]                           a sum, a maximum, ... over axes
"""

from math import prod
from typing import NamedTuple

from ..core.tensor import Node
from ..graph.fused import Fused
from ..graph.passes.rewrite import uniform
from ..kernels import chain, groups, pool
from ..kernels.kernel import Kernel, ended_kernel, kernel
from ..ops.activation import Relu
from ..ops.elementwise import Add, Greater, Mul
from ..ops.pool import MaxPool2d, MaxPool2dInput


class End(NamedTuple):
    """Of a graph: the sum it begins with, and what becomes of it."""

    sum: Node
    bias: Node | None
    activation: str
    pool: bool


@kernel(Fused)
def fused(op, y, *xs) -> Kernel | None:
    graph = op.graph
    if all(n.op.elementwise or n.op.view for n in graph.steps):
        return chain.fused(graph, y, *xs)
    end = end_of(graph)
    return end and with_end(end, graph, y) or gated(graph, y) or groups.fused(graph, y, *xs)


def with_end(end, graph, y) -> Kernel | None:
    used = [*end.sum.inputs, *([end.bias] if end.bias else [])]
    if not set(used) <= set(graph.inputs):
        return None
    x, w, *bias = [n.spec for n in used]
    more = {"bias": bias[0] if bias else None, "activation": end.activation, "pool": end.pool}
    found = ended_kernel(end.sum.op, y, x, w, **more)
    return found and of_inputs(found, graph, used)


def of_inputs(found, graph, used) -> Kernel:
    """A kernel of these inputs, for all that the graph has."""
    places = [graph.inputs.index(n) for n in used]
    if places == [*range(len(graph.inputs))]:
        return found
    n = len(graph.inputs)

    def run(y, *arrays):
        found.run(y, *[arrays[i] for i in places], *arrays[n:])

    return Kernel(found.name, run, found.scratch, cost=found.cost, error=found.error)


def gated(graph, y) -> Kernel | None:
    """The gradient of max_pool2d(x), x = relu(...): what comes back times x > 0."""
    match [n for n in graph.steps if not n.op.view]:
        case [*_, Node(Mul(), (a, b))] as steps if len(steps) == 3:
            back, gate = (a, b) if isinstance(b.op, Greater) else (b, a)
            inner = getattr(back.op, "op", back.op)
            if not (isinstance(inner, MaxPool2dInput) and isinstance(gate.op, Greater)):
                return None
            x, zero = gate.inputs
            if x is back.inputs[1] and uniform(zero) == 0:
                found = pool.find(back.op, y, *[n.spec for n in back.inputs], gated=True)
                return found and of_inputs(found, graph, back.inputs)


def end_of(graph) -> End | None:
    """None if anything else is done in it."""
    first, *rest = [n for n in graph.steps if not n.op.view]
    bias, activation, pool, last = None, "", False, first
    for n in rest:
        others = [x for x in n.inputs if x is not last]
        if isinstance(n.op, Add) and len(others) == 1 and not (bias or activation or pool):
            bias = column(first, n, others[0])
            if bias is None:
                return None
        elif isinstance(n.op, Relu) and not activation:
            activation = "relu"
        elif halves(n.op) and not pool:
            pool = True
        else:
            return None
        last = n
    return End(first, bias, activation, pool) if last is graph.outputs[0] else None


def column(sums, added, x) -> Node | None:
    """The bias, if there is one number for each channel, or column of a product, of their kind."""
    if x.spec.dtype != sums.spec.dtype:
        return None
    image, shape = sums.op.gives_image, added.spec.shape
    axes = {1, 4} if image and len(shape) == 5 else {1} if image else {len(shape) - 1}
    own = (1,) * (len(shape) - len(x.spec.shape)) + x.spec.shape
    wanted = [n if i in axes else 1 for i, n in enumerate(shape)]
    if len(shape) == 5 and own[4] == 1:  # sixteen images: one number for all
        wanted[4] = 1
    if [*own] != wanted or prod(own) == 0:
        return None
    return x


def halves(op) -> bool:
    inner = getattr(op, "op", op)
    return isinstance(inner, MaxPool2d) and inner == MaxPool2d((2, 2), (2, 2))
