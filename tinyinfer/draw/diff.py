"""One pass as a picture: both graphs in one, what went in red, what came in green.

A step of the graph before is kept if it is in the graph after too: the same node, or one of the same
op that came of it, on other inputs. What a fused step fuses is drawn inside it, in a frame, and so
those are kept that moved into it. Of a large graph there is what changed, and the steps beside that.
"""

from html import escape
from operator import index
from os.path import commonprefix
from typing import NamedTuple

from ..core.tensor import Node
from ..errors import ArgumentError, RangeError
from ..graph.fused import Fused
from ..graph.history import Change, History
from .graph import render
from .sketch import Arrow, Figure, Place, Sketch, name_of, roles, update_targets
from .style import GREEN, GREY, MUTED, PAPER, RED

SMALL = 40  # steps: a graph of so many is drawn as a whole
CONTEXT = 1  # steps beside a change

# fmt: off
LOOK = {
    "":        {"color": GREY.line, "fillcolor": PAPER},
    "added":   {"color": GREEN.line, "fillcolor": GREEN.fill, "penwidth": "2"},
    "removed": {"color": RED.line, "fillcolor": RED.fill, "fontcolor": RED.line},
}
# fmt: on


def draw_change(history, which, path):
    """Draw what one pass did: steps it removed in red, struck out, those it added in green.

    `which` is its place in the history, from the end if negative, or its name: then the last of
    that name. The ending of the path says how: .svg, .png, .pdf or .gv. Returns the path written.
    Raises RangeError or ArgumentError if there is no such pass.
    """
    change = find(history, which)
    both = Both(change.before, change.after)
    return render(Diff(both).root, path, {"label": headline(change)})


History.draw = draw_change


def find(history, which) -> Change:
    names = [change.name for change in history]
    if not names:
        raise ArgumentError("history: no pass has run on this graph: see ti.optimize")
    told = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    if isinstance(which, str):
        if which not in names:
            raise ArgumentError(f"history: no pass {which!r} has run, only {told}")
        return history[len(names) - 1 - names[::-1].index(which)]
    try:
        return history[index(which)]
    except TypeError:
        raise ArgumentError(f"history: a pass is a number or a name, not {which!r}") from None
    except IndexError:
        raise RangeError(f"history: there is no pass {which}, only {told}") from None


def headline(change) -> str:
    """What it saved, and the legend, in Graphviz's HTML."""
    legend = (
        f'<font color="{RED.line}"><s>removed</s></font>   '
        f'<font color="{GREEN.line}"><b>added</b></font>   <font color="{MUTED}">kept</font>'
    )
    lines = f"<b>{escape(change.name)}</b>: {change.told}", legend
    return "<{0}{2}{1}{2}>".format(*lines, '<br align="left"/>')


class Part(NamedTuple):
    """A step, and the fused one in which it is."""

    node: Node
    inputs: list[Node]
    fused: Node | None = None


class Side:
    """One of the two graphs, with those of its fused steps opened that are not in the other."""

    def __init__(self, graph, other):
        whole, opened = set(other.steps), {}
        self.parts = {}
        for n in graph.steps:
            inputs = [opened.get(x, x) for x in n.inputs]
            inner = n.op.graph if isinstance(n.op, Fused) and n not in whole else None
            if inner is None or any(m in self.parts for m in inner.steps):
                self.parts[n] = Part(n, inputs)
                continue
            env = dict(zip(inner.inputs, inputs))
            for m in inner.steps:
                self.parts[m] = Part(m, [env.get(x, x) for x in m.inputs], n)
            opened[n] = inner.outputs[0]
        self.outputs = [opened.get(n, n) for n in graph.outputs]
        self.updates = {state: opened.get(n, n) for state, n in graph.updates.items()}

    def rename(self, same):
        new = lambda n: same.get(n, n)
        self.parts = {
            new(n): part._replace(inputs=[*map(new, part.inputs)]) for n, part in self.parts.items()
        }
        self.outputs = [*map(new, self.outputs)]
        self.updates = {state: new(n) for state, n in self.updates.items()}


class Both:
    """The union of two graphs, in the parts that a Graph has. Of two nodes that are the same one is
    drawn, that of the graph before."""

    def __init__(self, before, after):
        self.graphs = before, after
        self.sides = was, now = Side(before, after), Side(after, before)
        same = same_leaves(before, after) | same_steps(was.parts, now.parts)
        was.rename(same)
        now.rename(same)
        self.leaves = [{same.get(n, n) for n in graph.sources} for graph in self.graphs]
        self.inputs, self.outputs, self.updates = before.inputs, now.outputs, now.updates
        self.states = before.states | after.states
        self.constants = (*before.constants, *after.constants)
        self.all = dict.fromkeys(in_order(now.parts | was.parts, self.inputs_of))
        self.within = {}  # a fused step -> the steps in it
        for n in self.all:
            self.within.setdefault(self.part(n).fused, []).append(n)
        self.steps = self.worth_seeing()

    def versions(self, n) -> list[Part | None]:
        """The step as it was, and as it is."""
        return [side.parts.get(n) for side in self.sides]

    def part(self, n) -> Part:
        was, now = self.versions(n)
        return now or was

    def inputs_of(self, n) -> list[Node]:
        was, now = self.versions(n)
        return [*dict.fromkeys([*(now.inputs if now else ()), *(was.inputs if was else ())])]

    def mark(self, n) -> str:
        was, now = self.versions(n) if n in self.all else (n in leaves for leaves in self.leaves)
        return "" if bool(was) == bool(now) else "added" if now else "removed"

    def changed(self, n) -> bool:
        was, now = self.versions(n)
        return not was or not now or was[1:] != now[1:] or was.node.op != now.node.op

    def worth_seeing(self) -> list[Node]:
        """What changed and the steps beside that; of a small graph everything."""
        seen = {n for n in self.all if self.changed(n)}
        was, now = (dict(enumerate(side.outputs)) | side.updates for side in self.sides)
        seen.update(
            n for end in now for n in (was.get(end), now[end]) if was.get(end) is not now[end]
        )
        if not seen or len(self.all) <= SMALL:
            return [*self.all]
        for _ in range(CONTEXT):
            users = {n for n in self.all if not seen.isdisjoint(self.inputs_of(n))}
            seen |= users.union(*map(self.inputs_of, seen))
        return [n for n in self.all if n in seen]


def same_leaves(before, after) -> dict[Node, Node]:
    """Leaves of the graph after -> those of the graph before that are drawn for them."""
    same = dict(zip(after.inputs, before.inputs)) if len(after.inputs) == len(before.inputs) else {}
    known = {}
    for n in (*before.constants, *after.constants):
        same[n] = known.setdefault((n.spec, n.value.tobytes()), n)
    return same


def same_steps(was, now) -> dict[Node, Node]:
    """Steps of the graph after that came of one before, by a new node on other inputs."""
    gone = {}
    for n in was.keys() - now.keys():
        gone.setdefault(kind(n), []).append(n)
    for found in gone.values():
        found.sort(key=lambda n: -n.born)
    new = [n for n in now if n not in was]
    return {n: gone[kind(n)].pop() for n in new if gone.get(kind(n))}


def kind(n):
    return type(n.op) if n.op.control else n.op, id(n.origin)


def in_order(nodes, inputs_of) -> list[Node]:
    """Each after its inputs, as far as two graphs have one order."""
    done, begun = {}, set()
    for n in nodes:
        todo = [n]
        while todo:
            n = todo[-1]
            before = [] if n in begun else [x for x in inputs_of(n) if x in nodes and x not in done]
            begun.add(n)
            if not before:
                done[todo.pop()] = True
            todo += before
    return [*done]


class Diff(Sketch):
    """The figures of both graphs, marked."""

    def __init__(self, both, root=None, given=()):
        self.shown, self.late = set(both.steps), []
        self.whole = len(both.steps) == len(both.all)
        super().__init__(both, root, given)
        for n, arrow in self.late:  # the two graphs have not one order
            self.figures[n].feed(arrow._replace(tail=self.figures[arrow.tail]))
        for state, figure in self.ends.items():
            was, now = (side.updates.get(state) for side in both.sides)
            if figure and figure.feeds and was is not now:
                figure.feeds[0] = figure.feeds[0]._replace(mark="added")
                if was and was not in self.numbers:
                    figure.feed(Arrow(self.tail(was, figure.frame), mark="removed"))
        self.tell_of_users()
        for figure in self.root.figures():
            if figure.kind != "more" and not figure.look:  # those in graphs inside have one
                paint(figure, both.mark(figure.node))

    def places(self, n):
        fused = self.graph.part(n).fused
        if fused is None:
            return super().places(n)
        around = commonprefix([super(Diff, self).places(m) for m in self.graph.within[fused]])
        return [*around, Place(f"fused: {name_of(fused.op)}", id(fused))]

    def step(self, n, frame):
        was, now = self.graph.versions(n)
        if (now or was).fused:
            frame.look = {"color": LOOK["added" if now else "removed"]["color"], "penwidth": "1.8"}
        return super().step(n, frame)

    def inner(self, n):
        """Only the graphs that changed are opened."""
        was, now = (part and super(Diff, self).inner(part.node) for part in self.graph.versions(n))
        if was and now:
            return {k: Both(was[k], g) for k, g in now.items() if was[k] is not g}
        return {k: Both(g, g) for k, g in (was or now or {}).items()}

    def update_targets(self):
        before, after = map(update_targets, self.graph.graphs)
        return after | before

    def all_steps(self):
        return [*self.graph.all]

    def inputs_of(self, n):
        return self.graph.inputs_of(n)

    def written(self, n):
        return super().written(self.graph.part(n).node)

    def arrows(self, n, frame):
        was, now = (part.inputs if part else () for part in self.graph.versions(n))
        here = self.graph.part(n)
        role = dict(zip(here.inputs, roles(here.node, here.node.inputs)))
        found = [Arrow(x, role.get(x, ""), "" if x in was else "added") for x in now]
        found += [Arrow(x, "", "removed") for x in was if x not in now]
        found = [arrow for arrow in found if arrow.tail not in self.numbers]
        hidden = [a for a in found if a.tail in self.graph.all and a.tail not in self.shown]
        early = [a for a in found if a.tail in self.shown and a.tail not in self.figures]
        self.late += [(n, arrow) for arrow in early]
        more = [Arrow(Figure(frame, "more", n, "…", rises=self.rises(n)))] if hidden else []
        rest = [arrow for arrow in found if arrow not in hidden and arrow not in early]
        return [arrow._replace(tail=self.tail(arrow.tail, frame)) for arrow in rest] + more

    def arrive(self, n, kind, name):
        if n in self.shown or n not in self.graph.all:
            return super().arrive(n, kind, name)

    def tell_of_users(self):
        """Of what is used only by steps that are not shown."""
        used = {x for n in self.shown for x in self.graph.inputs_of(n)} | set(self.graph.outputs)
        used.update(self.graph.updates.values())
        hidden = {x for n in self.graph.all if n not in self.shown for x in self.graph.inputs_of(n)}
        for n in self.graph.steps:
            if n in hidden and n not in used and n in self.figures:
                figure, up = self.figures[n], self.rises(n)
                Figure(figure.frame, "more", n, "…", feeds=[Arrow(figure)], rises=up)


def paint(figure, mark):
    figure.mark, figure.look = mark, dict(LOOK[mark])
    if mark == "removed":
        usual = "rounded,filled" if figure.kind in ("step", "view", "result") else "filled"
        figure.look["style"] = f"{usual},dashed"
