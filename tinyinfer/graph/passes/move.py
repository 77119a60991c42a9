"""Moving ops: what only rearranges goes towards the results, what makes smaller towards the inputs.

    f(T(x))            ->  T(f(x))              T a transpose or a reshape, f elementwise
    f(T(x), T(z), b)   ->  T(f(x, z, T^-1(b)))  if b is a weight, or smaller: a look at it is free
    T(T'(x))           ->  (T T')(x)            or x
    max_pool(relu(x))  ->  relu(max_pool(x))    exact, for relu is monotone
    f(x)[k]            ->  f(x[k])              and so through transposes; not in an anchor's loop nest

An op moves only if nothing else uses it. Can they chase each other for ever? No: a transpose never
passes a cut, a cut never goes back, and what T^-1 was put on gives no reason to move. But through k
transposes and reshapes in turn, which do not become one, a step moves in k rounds: 20 are made.
"""

from collections import Counter
from math import prod

import numpy as np

from ...core.tensor import Node
from ...ops.shape import BroadcastTo, Reshape, Slice, Transpose
from ..graph import made, rebuilt
from .rewrite import graph_pass, settled, sliced, users


@graph_pass
def move(graph):
    """Move transposes and reshapes towards the results, where they meet and cancel, and maxima and
    slices towards the inputs, so that there is less to compute:
    relu(x.mT).mT -> relu(x); max_pool(relu(x)) -> relu(max_pool(x)); (x * y)[0] -> x[0] * y[0]
    """
    return settled(graph, lambda g: Cuts(Moves(g).graph).graph)


class Moves:
    """Transposes, reshapes and maxima, from the oldest step to the youngest."""

    def __init__(self, graph):
        self.inputs, self.states, self.uses = set(graph.inputs), graph.states, Counter()
        used, new = users(graph), {n: n for n in graph.sources}
        for n in graph.steps:
            new[n] = self.moved(rebuilt(n, tuple([new[x] for x in n.inputs])))
            self.uses[new[n]] += used[n]
        self.graph = graph if all(n is m for n, m in new.items()) else graph.mapped(new)

    def moved(self, n) -> Node:
        match n:
            case Node(Reshape() | Transpose() as op, (x,)):
                return self.look(op, x, n)
            case Node(op, (x, *_)) if op.selects and size(n) < size(x):
                return self.selected(n)
            case Node(op) if op.elementwise:
                return self.passed(n)
        return n

    def op(self, x):
        """Of a step; nothing of a source."""
        return None if x in self.inputs or x.value is not None else x.op

    def alone(self, x) -> bool:
        return self.uses[x] == 1

    def free(self, x) -> bool:
        """Is it a State or a constant, or another look at one?"""
        while (op := self.op(x)) and op.view:
            x = x.inputs[0]
        return x.value is not None or x in self.states

    def look(self, op, x, n) -> Node:
        """op(x) in the place of n: T(T'(x)) -> (T T')(x), or x"""
        if type(self.op(x)) is type(op):
            op = op if isinstance(op, Reshape) else Transpose(tuple(x.op.axes[a] for a in op.axes))
            (x,) = x.inputs
        if x.spec.shape == op.shape if isinstance(op, Reshape) else [*op.axes] == sorted(op.axes):
            return x
        return n if (op, (x,)) == (n.op, n.inputs) else made(op, (x,), n)

    def selected(self, n):
        """max_pool(relu(x)) -> relu(max_pool(x))"""
        (x,), waiting = n.inputs, []
        while self.alone(x) and x.op.monotone:
            waiting.append(x)
            (x,) = x.inputs
        y = rebuilt(n, (x,))
        for f in reversed(waiting):
            y = made(f.op, (y,), f)
        return y

    def passed(self, n):
        """f(T(x), T(z), b) -> T(f(x, z, T^-1(b)))"""
        moves = [x for x in n.inputs if self.moves(x, n)]
        if not moves:
            return n
        t = moves[0]
        same = lambda x: (
            x in moves and (x.op, x.inputs[0].spec.shape) == (t.op, t.inputs[0].spec.shape)
        )
        if not all(same(x) or x.spec.shape != n.spec.shape or self.free(x) for x in n.inputs):
            return n
        inputs = [x.inputs[0] if same(x) else self.seen_before(t, x) for x in n.inputs]
        return n if None in inputs else made(t.op, (made(n.op, inputs, n),), t)

    def moves(self, x, n) -> bool:
        op = self.op(x) if self.alone(x) and x.spec.shape == n.spec.shape else None
        return isinstance(op, Reshape | Transpose) and not self.free(x)

    def seen_before(self, t, b):
        """The b' for which f(t(x), b) = t(f(x, b')); or None."""
        while isinstance(self.op(b), BroadcastTo):  # f does that anyway
            (b,) = b.inputs
        before, after = t.inputs[0].spec.shape, t.spec.shape
        if size(b) == 1:
            return self.look(Reshape(()), b, t) if len(b.spec.shape) > len(before) else b
        shape = (1,) * (len(after) - len(b.spec.shape)) + b.spec.shape
        if isinstance(t.op, Reshape):
            shape = regrouped(shape, after, before)
            return shape and self.look(Reshape(shape), b, t)
        order = np.argsort(t.op.axes).tolist()
        if (long := [i for i in order if shape[i] > 1]) == sorted(long):
            return self.look(Reshape(tuple([shape[i] for i in order])), b, t)
        return self.look(Transpose(tuple(order)), self.look(Reshape(shape), b, t), t)


def regrouped(shape, old, new):
    """A shape that broadcasts to `old`, reshaped as `old` is to `new`; or None. Axes that together
    become others must all be there, or none."""
    if 0 in old:
        return None
    back, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        a, b = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while (m := prod(old[a:i])) != (n := prod(new[b:j])):
            i, j = (i + 1, j) if m < n else (i, j + 1)
        if shape[a:i] != old[a:i] and prod(shape[a:i]) > 1:
            return None
        back += new[b:j] if shape[a:i] == old[a:i] else [1] * (j - b)
    return tuple(back)


class Cuts:
    """Slices, from the youngest step to the oldest; then the steps are made again, smaller."""

    def __init__(self, graph):
        self.graph, self.used, self.nests = graph, users(graph), nests(graph)
        self.steps, self.cut = set(graph.steps), {}  # what alone is needed of a step
        for n in reversed(graph.steps):
            if isinstance(n.op, Slice) and (n in self.cut or size(n) < size(n.inputs[0])):
                self.ask(n.inputs[0], self.wanted(n, n.inputs[0]))
            elif n in self.cut:
                for x in n.inputs:
                    self.ask(x, self.wanted(n, x))
        if self.cut:
            self.graph = self.rebuilt()

    def ask(self, x, ranges):
        passes = x in self.steps and (x.op.elementwise or isinstance(x.op, Slice | Transpose))
        if passes and self.used[x] == 1 and x not in self.nests:
            self.cut[x] = ranges

    def wanted(self, n, x) -> tuple:
        """What n, as far as it is needed, needs of its input x."""
        cut = self.cut.get(n) or everything(n)
        match n.op:
            case Slice(ranges):
                return tuple(map(sliced, ranges, cut))
            case Transpose(axes):
                return tuple([cut[i] for i in np.argsort(axes)])
        new = len(cut) - len(x.spec.shape)
        ends = zip(cut[new:], x.spec.shape, n.spec.shape[new:])
        return tuple([c if k == m else (0, 1, 1) for c, k, m in ends])

    def rebuilt(self):
        new = {n: n for n in self.graph.sources}
        for n in self.graph.steps:
            if n in self.cut or isinstance(n.op, Slice) and n.inputs[0] in self.cut:
                inputs = [self.operand(n, x, new[x]) for x in n.inputs]
                new[n] = inputs[0] if isinstance(n.op, Slice) else made(n.op, inputs, n)
            else:
                new[n] = rebuilt(n, tuple([new[x] for x in n.inputs]))
        return self.graph.mapped(new)

    def operand(self, n, x, now):
        ranges = self.wanted(n, x)
        return now if x in self.cut or ranges == everything(x) else made(Slice(ranges), (now,), n)


def nests(graph) -> set:
    """Anchors, and the steps after them that their loop nests do anyway."""
    used, found = users(graph), set()
    for n in graph.steps:
        alone = [x for x in n.inputs if x in found and used[x] == 1]
        if n.op.anchor or n.op.elementwise and any(x.spec.shape == n.spec.shape for x in alone):
            found.add(n)
    return found


def everything(n):
    return tuple([(0, m, 1) for m in n.spec.shape])


def size(n) -> int:
    return prod(n.spec.shape)
