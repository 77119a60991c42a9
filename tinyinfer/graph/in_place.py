"""A mark: this step may write its result over one of its inputs. A fused step carries it itself."""

from ..errors import ShapeError
from ..ops.wrapped import Wrapped


class InPlace(Wrapped):
    """y = op(xs), which may be written over xs[over]; the definition changes no input"""

    over: int = 0

    def infer(self, *xs):
        return room(self.op.infer(*xs), xs[self.over])

    def forward(self, *xs):
        return self.op.forward(*xs)

    def vjp(self, g, y, *xs):
        return self.op.vjp(g, y, *xs)

    def flops(self, y, *xs):
        return self.op.flops(y, *xs)


def room(y, x):
    """The spec of a result, if it has that of what it is written over."""
    if y != x:
        raise ShapeError(f"in_place: a {y} cannot be written over a {x}")
    return y


class Memory:
    """Which values of a graph share memory, and which step is the last to need it, in the order of
    age."""

    def __init__(self, graph):
        self.owner = {n: n for n in graph.sources}  # of the memory of a value
        self.last = {}  # owner -> the last step to look at it
        for n in graph.steps:
            self.last |= dict.fromkeys([self.owner[x] for x in n.inputs], n)
            shares = n.op.view or n.op.alias
            self.owner[n] = self.owner[n.inputs[0]] if shares else n
        results = *graph.outputs, *graph.updates.values()
        self.held = {self.owner[n] for n in (*graph.sources, *results)}

    def may_overwrite(self, n, x) -> bool:
        """Does x have memory of its own, which nothing needs when n has run, and n only as x?"""
        looks = [m for m in n.inputs if self.owner[m] is x]
        own = self.owner[x] is x and x not in self.held
        return own and self.last[x] is n and all(m is x for m in looks)


def misplaced(graph) -> list:
    """The steps that are marked to overwrite what is still needed."""
    marked = [n for n in graph.steps if n.op.over is not None]
    memory = Memory(graph) if marked else None
    return [n for n in marked if not memory.may_overwrite(n, n.inputs[n.op.over])]
