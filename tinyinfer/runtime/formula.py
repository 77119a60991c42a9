"""What a step does, as people write it: `y = relu(conv2d(x, w) + b)`. What a fused step makes on its way,
and needs more than once, has a line and a name of its own."""

import numpy as np

from ..graph.fused import Fused
from ..ops.elementwise import Add, Div, Mul, Sub

SIGNS = {Add: ("+", 1), Sub: ("-", 1), Mul: ("*", 2), Div: ("/", 2)}
CALLED = 3  # binds closer than any sign
LONG = 90


def formula(n, results, name_of) -> list[str]:
    """Lines; `results` are the names of what it makes, and `name_of` gives those of its inputs."""
    if not isinstance(n.op, Fused):
        return [f"{', '.join(results)} = {Terms({}, name_of).of(n)}"]
    graph = n.op.graph
    known = {x: name_of(m) for x, m in zip(graph.inputs, n.inputs)}
    uses = {}
    for m in graph.steps:
        for x in m.inputs:
            uses[x] = uses.get(x, 0) + 1
    terms, lines = Terms(known, lambda x: number(x.value)), []
    ends = dict(zip(graph.outputs, results))
    for i, m in enumerate(graph.steps):
        name = ends.get(m) or (f"t{i}" if uses.get(m, 0) > 1 or len(terms.of(m)) > LONG else None)
        if name:
            lines.append(f"{name} = {terms.of(m)}")
            known[m] = name
    return lines


class Terms:
    """`known` are the names of nodes; of what is neither known nor a step, `other` tells."""

    def __init__(self, known, other):
        self.known, self.other = known, other

    def of(self, n) -> str:
        return self._bound(n)[0]

    def _bound(self, n):
        """And how close it binds."""
        op = n.op
        while hasattr(op, "op"):  # in a layout, or of packed weights
            op = op.op
        if sign := SIGNS.get(type(op)):
            (a, left), (b, right) = map(self._inside, n.inputs)
            text, binds = sign
            a = a if left >= binds else f"({a})"
            b = b if right > binds else f"({b})"
            return f"{a} {text} {b}", binds
        return f"{op.name}({', '.join(self._inside(x)[0] for x in n.inputs)})", CALLED

    def _inside(self, x):
        if x in self.known:
            return self.known[x], CALLED
        return self._bound(x) if x.op and self.known else (self.other(x), CALLED)


def number(x) -> str:
    return f"{np.ravel(x)[0]:.6g}" if np.size(x) == 1 else "constant"
