"""Fusing: what one loop nest can do is one step, so that nothing between is stored and fetched.

    group    ::= (anchor | elementwise) then*     of no more than LARGEST steps
    then     ::= elementwise                      of the same shape
               | epilogue                         a pool, once, after an anchor
               | reduction                        a sum over axes, as the end, where `fits` is asked
    anchor   ::= convolution, product of matrices, softmax, layer norm ...
               | gradient of a pool               where `fits` is asked

A step joins the group of an input that nothing else uses. If there are several such inputs, as in
f(x) + g(z), it joins all of them that are without an anchor, and one that has one. Why can no cycle
arise? What is inside a group has one user, inside it. So every way out leads through its last step,
and whatever else the group uses cannot depend on it.
"""

from dataclasses import dataclass

from ...core.tensor import Node
from ..fused import Fused
from ..graph import Graph, rebuilt
from .rewrite import graph_pass, uniform, users

LARGEST = 32  # so that a nest remains readable, and its operands in registers


@dataclass(eq=False)
class Group:
    steps: list[Node]  # the last one alone is seen from outside
    anchor: Node | None
    open: bool  # it is a loop nest that others can join
    ended: bool  # by an epilogue

    @property
    def last(self):
        return self.steps[-1]

    def takes(self, n, reductions) -> bool:
        """Can n, which alone uses the result of this group, be in its loop nest?"""
        if n.op.elementwise:
            return self.open and n.spec.shape == self.last.spec.shape
        if n.op.reduces:
            return reductions and self.open and self.anchor is None and not self.ended
        return n.op.epilogue and self.anchor is not None and not self.ended

    def absorbs(self, other) -> bool:
        """If there is room, the steps of another group come before the last of this one."""
        if self.anchor and other.anchor or len(self.steps) + len(other.steps) > LARGEST:
            return False
        self.steps[-1:] = *other.steps, self.last
        self.anchor = self.anchor or other.anchor
        self.open, self.ended = not self.last.op.reduces, self.ended or other.ended
        return True


@graph_pass
def fuse(graph, fits=None):
    """Steps that one loop nest can do become one, and views of weights move into it:
    relu(conv2d(x, w) + b.reshape(-1, 1, 1)) -> fused(x, w, b)

    A fused step is finished: a second run leaves it alone. `fits(step)`, if given, says of a fused
    step whether it may be; so that there is a kernel for each, for example.
    """
    groups = grouped(graph, fits)
    if fits is None:
        groups = with_views(graph, groups)
    if len(groups) == len(graph.steps):
        return graph
    new = {n: n for n in graph.sources}
    for n in graph.steps:
        if n in groups:
            new[n] = fused(groups[n], new)
    return graph.mapped(new)


def grouped(graph, fits=None) -> dict[Node, Group]:
    """The last step of each group -> the group."""
    used, groups = users(graph), {}
    for n in graph.steps:
        anchor = n if n.op.anchor or n.op.begins and fits is not None else None
        group = Group([n], anchor, bool(anchor) or n.op.elementwise, n.op.epilogue)
        before = [groups[x] for x in set(n.inputs) if used[x] == 1 and x in groups]
        before = sorted(before, key=lambda g: (g.anchor is None, -g.last.born))
        for g in before * 2:  # what did not fit may do so beside another
            if (
                g.last in groups
                and g.takes(n, fits is not None)
                and (fits is None or fits(tried(group, g)))
                and group.absorbs(g)
            ):
                del groups[g.last]
        groups[n] = group
    return groups


def tried(group, other) -> Node:
    """What would become of the two."""
    steps = [*group.steps[:-1], *other.steps, group.last]
    return fused(Group(steps, group.anchor or other.anchor, True, False), Itself())


class Itself(dict):
    def __missing__(self, n):
        return n


def with_views(graph, groups):
    """A view of a source costs nothing: if one group alone uses it, it is a part of that group."""
    home = {n: group for group in groups.values() for n in group.steps}
    sources = set(graph.sources)
    for n in graph.steps:
        if n.op.view and sources.issuperset(n.inputs):
            sources.add(n)
    results = {*graph.outputs, *graph.updates.values()}
    serves = {}  # a node -> the groups of its users
    for n in reversed(graph.steps):
        if n in sources and n not in results and len(serves[n]) == 1:
            (group,) = serves[n]
            if group.open:
                group.steps.insert(0, n)
                home[n] = group
                del groups[n]
        for x in n.inputs:
            serves.setdefault(x, set()).add(home[n])
    return groups


def fused(group, new) -> Node:
    """The step that does what a group does."""
    last, inside = group.last, set(group.steps)
    if len(inside) == 1:
        return rebuilt(last, tuple([new[x] for x in last.inputs]))
    outside = {}  # in the order of use, where a view stands for what it looks at
    for n in group.steps:
        for x in () if n.op.view else n.inputs:
            while x in inside and x.op.view:
                (x,) = x.inputs
            if x not in inside and uniform(x) is None:
                outside[x] = new[x]
    op, origin = Fused(Graph((*outside,), (last,))), (group.anchor or last).origin
    return Node(op, (*outside.values(),), last.spec, origin=origin)
