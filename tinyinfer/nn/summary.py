"""What a model is made of, layer by layer: shapes, parameters, and multiply-adds.

The model is traced once, so nothing is computed and no State changes. Every step of the graph knows
the modules it was made in: the innermost one gets its multiply-adds (MACs), half the operations of
the products of matrices and the convolutions. What else there is (bias, activation) is not counted.
"""

from typing import NamedTuple

from ..core.tensor import Tensor, placeholder
from ..errors import ArgumentError
from ..graph.graph import macs
from ..graph.table import table
from ..graph.trace import trace
from ..graph.tree import leaves


class Row(NamedTuple):
    name: str  # dotted; of the model itself ""
    type: str
    output: tuple[int, ...] | None  # the shape of the first tensor it returned; None: never called
    parameters: int  # that no row above has
    macs: int  # of all its calls, for the whole batch


class Summary:
    """`rows`, one for each module that does work of its own, and the totals `parameters`, `trainable`,
    `macs` and `bytes` (of parameters and buffers). `str(summary)` is a table."""

    def __init__(self, model, inputs):
        shapes = {}

        def note(module, args, y):
            shapes[module] = next((t.shape for t in leaves(y)), None)

        hooks = [module.register_forward_hook(note) for module in model.modules()]
        try:
            graph = trace(model, *map(example, inputs))
        finally:
            for hook in hooks:
                hook.remove()
        macs = macs_by_module(graph)
        parameters = model.parameters()
        rest, self.rows = set(parameters), []
        for name, module in model.named_modules():
            own = {x for _, x in module.members() if x in rest}
            rest -= own
            if own or macs.get(module) or not module.children():
                numbers = shapes.get(module), sizes(own), macs.get(module, 0)
                self.rows.append(Row(name, type(module).__name__, *numbers))
        self.parameters = sizes(parameters)
        self.trainable = sizes(p for p in parameters if p.requires_grad)
        self.macs = sum(row.macs for row in self.rows)
        self.bytes = sum(s.size * s.dtype.itemsize for s in model.states())

    def __str__(self):
        rows = []
        for row in self.rows:
            shape = "never called" if row.output is None else " x ".join(map(str, row.output))
            rows.append((row.name or "model", row.type, shape, *map(counted, row[3:])))
        total = "total", "", "", counted(self.parameters), counted(self.macs)
        frozen = self.parameters - self.trainable
        end = f"{self.bytes:,} bytes" + (f", {frozen:,} parameters frozen" if frozen else "")
        return f"{table(('layer', 'type', 'output', 'parameters', 'MACs'), rows, total, 3)}\n{end}"

    __repr__ = __str__


counted = "{:,}".format


def example(x) -> Tensor:
    if isinstance(x, int):
        raise ArgumentError("summary: a shape for each input: model.summary((1, 1, 28, 28))")
    return x if isinstance(x, Tensor) else placeholder(x)


def sizes(parameters):
    return sum(p.size for p in parameters)


def macs_by_module(graph):
    found = {}
    for n in graph.steps:
        if n.origin.calls:
            module = n.origin.calls[-1].module
            found[module] = found.get(module, 0) + macs(n)
    return found
