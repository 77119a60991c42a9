"""What a picture of a graph shows, before Graphviz places it: figures in frames.

    figure ::= kind of "step" | "view" | "input" | "state" | "constant" | "result" | "update"
             | "connector" | "more"  where an arrow goes on elsewhere, or is not followed
    frame  ::= (figure | frame)*     one call of a module, the update of a State, a graph in a step
    arrow  ::= figure -> figure

A State is shown where it is used: a weight in the frame of its layer, and once more beside the step
that updates it. A single number is no figure: it is written into the step that takes it. The data
flows down, and its gradient up beside it.
"""

from dataclasses import dataclass, field
from inspect import signature
from itertools import chain, count, takewhile
from typing import NamedTuple

import numpy as np

from ..core.autograd import ancestors
from ..core.spec import Spec, Specs
from ..core.tensor import Node
from ..graph.fused import Fused
from ..graph.graph import subgraphs
from ..graph.passes.rewrite import uniform
from ..graph.trace import name_places
from ..ops.wrapped import Wrapped

CHAIN = 6  # steps of a fused one that are told
WRITTEN = 24  # letters of a formula that is written into a step


@dataclass
class Tape:
    """What was recorded behind some nodes, in the parts that a Graph has."""

    outputs: tuple[Node, ...]
    updates: dict = field(default_factory=dict)

    def __post_init__(self):
        nodes = ancestors(self.outputs, through=lambda n: True)
        self.steps = [n for n in nodes if n.op]
        self.states = {n: n.state for n in nodes if n.owner and not n.op}
        data = [n for n in nodes if not n.owner and not n.op]
        self.inputs = [n for n in data if self.came_in(n)]
        self.constants = [n for n in data if not self.came_in(n)]
        name_places(self)

    def came_in(self, n):
        """What is younger than the first step was made on the way."""
        return n.value is None or n.born < self.steps[0].born and uniform(n) is None


@dataclass(eq=False, repr=False)
class Frame:
    title: str = ""
    place: "Place | None" = None
    parent: "Frame | None" = None
    items: list = field(default_factory=list)
    look: dict = field(default_factory=dict)  # Graphviz's attributes, where they are not as usual

    def add(self, item):
        self.items.append(item)
        return item

    def framed(self, title, place=None) -> "Frame":
        return self.add(Frame(title, place, self))

    def __repr__(self):
        return f"<frame {self.title!r} of {self.items}>"

    def outwards(self):
        """This frame and those around it."""
        frame = self
        while frame:
            yield frame
            frame = frame.parent

    def figures(self):
        for x in self.items:
            yield from x.figures() if isinstance(x, Frame) else [x]


class Arrow(NamedTuple):
    """What a figure gets, and from which."""

    tail: "Figure"
    role: str = ""
    mark: str = ""  # "added" or "removed", in a picture of both graphs; "unseen", for its place


@dataclass(eq=False, repr=False)
class Figure:
    frame: Frame
    kind: str
    node: Node
    name: str = ""
    args: str = ""  # "(·, 2)", of a step into which numbers are written
    note: str = ""
    feeds: list[Arrow] = field(default_factory=list)
    users: list["Figure"] = field(default_factory=list)  # what it feeds
    rises: bool = False  # a step of the gradient, on the way back up
    inside: Frame | None = None  # of a step that holds graphs
    members: list = field(default_factory=list)  # the States that it shows, if several
    look: dict = field(default_factory=dict)
    share: str = ""
    mark: str = ""

    def __post_init__(self):
        self.frame.add(self)
        for tail in self.tails:
            tail.users.append(self)

    def feed(self, arrow):
        self.feeds.append(arrow)
        arrow.tail.users.append(self)

    def __repr__(self):
        return f"<{self.kind} {self.name!r}>"

    @property
    def tails(self) -> list:
        return [*dict.fromkeys(arrow.tail for arrow in self.feeds)]

    def beside(self) -> list:
        """What stands in one row with this, so that the way of the data is one column: leaves and
        views of leaves. If nothing would be left to come from above, they do."""
        near = [
            t for t in self.tails if t.users[:1] == [self] and t.moves and t.frame is self.frame
        ]
        is_aside = self.users and self.turns_leaf and self in self.users[0].beside()
        return near if len(near) < len(self.tails) or is_aside else []

    @property
    def moves(self) -> bool:
        return self.kind in ("state", "constant") or self.turns_leaf

    @property
    def turns_leaf(self) -> bool:
        """Is it made of one leaf, which stands here for it alone?"""
        tail = self.tails[0] if len(self.feeds) == 1 else None
        own = tail and tail.users == [self] and tail.frame is self.frame
        return bool(own) and tail.kind in ("state", "constant")


class Sketch:
    """The figures and frames of a graph. One inside a step is given the figure of the step, and for
    each of its inputs a name, if it is a State outside."""

    whole = True  # all of its steps are shown

    def __init__(self, graph, root=None, given=()):
        self.graph, self.root, self.given = graph, root or Frame(), given
        self.frames = {}  # the Places it is in, from outside -> Frame
        self.figures = {}  # a node, or a State in a frame -> Figure
        self.names = named_states(graph)
        self.numbers = written_out(graph, self.all_steps(), self.names)
        self.results = result_names(graph)
        self.targets = self.update_targets()
        self.around = [f.place for f in self.root.outwards() if f.place][::-1]
        self.turns_back = not given and any(not n.origin.backward for n in graph.steps)
        self.come_in()
        steps = {n: None for n in graph.steps if n not in self.numbers}
        for n in steps:
            self.step(n, self.enter(self.places(n)))
        for n, name in self.results.items():
            if n not in steps:
                self.arrive(n, "result", name or "result")
        self.ends = {s: self.arrive(n, "update", s.name or "") for s, n in graph.updates.items()}
        self.stack_states()

    def update_targets(self):
        return update_targets(self.graph)

    def all_steps(self):
        return self.graph.steps

    def inputs_of(self, n):
        return n.inputs

    def rises(self, n) -> bool:
        return self.turns_back and n.origin.backward

    def come_in(self):
        """The inputs; inside a step those that are used, each with an arrow from the step."""
        inputs = self.graph.inputs
        used = {x for n in self.graph.steps for x in self.inputs_of(n)}.union(self.graph.outputs)
        for i, n in enumerate(inputs):
            if n in used or self.whole and not self.given:
                name = self.given and self.given[i + 1] or n.origin.name
                name = name or ("input" if len(inputs) == 1 else f"input {i}")
                feeds = [Arrow(figure) for figure in self.given[:1]]
                self.figures[n] = Figure(self.root, "input", n, name, feeds=feeds)

    def places(self, n) -> list:
        """The frames of a step, from outside; those that stand around the whole graph are there."""
        places = places_of(n) or self.targets.get(n, [])
        same = takewhile(lambda pair: pair[0] == pair[1], zip(places, self.around))
        return places[len([*same]) :]

    def enter(self, places) -> Frame:
        """The frame of these places; it is there already, if a step before is in it too."""
        frame = self.root
        for i, place in enumerate(places):
            key = tuple(places[: i + 1])
            if key not in self.frames:
                self.frames[key] = frame.framed(place.title, place)
            frame = self.frames[key]
        return frame

    def step(self, n, frame):
        inner = self.inner(n)
        frame = frame.framed(n.op.name) if inner else frame
        figure = self.figures[n] = Figure(
            frame,
            "result" if n in self.results else "view" if hands_on(n) else "step",
            n,
            name_of(n.op),
            self.written(n),
            self.results.get(n, ""),
            self.arrows(n, frame),
            rises=self.rises(n),
            inside=frame if inner else None,
        )
        for title, graph in inner.items():
            states = [self.tail(x, frame).name if x in self.graph.states else "" for x in n.inputs]
            given = figure, *states[-len(graph.inputs) :]
            type(self)(graph, frame.framed(title), given)
        return figure

    def inner(self, n) -> dict:
        """The graphs in a step that are drawn."""
        return subgraphs(n.op) if n.op.control else {}

    def written(self, n) -> str:
        """The numbers among its arguments."""
        if self.numbers.keys().isdisjoint(n.inputs):
            return ""
        return f"({', '.join(self.numbers.get(x, '·') for x in n.inputs)})"

    def arrows(self, n, frame) -> list[Arrow]:
        drawn = [x for x in n.inputs if x not in self.numbers]
        return [Arrow(self.tail(x, frame), role) for x, role in zip(drawn, roles(n, drawn))]

    def tail(self, n, frame) -> Figure:
        """Where an arrow from n into this frame begins."""
        is_state = n in self.graph.states
        key = (n, frame) if is_state else n
        if key not in self.figures:
            name = within(self.names.get(n, ""), frame) if is_state else "constant"
            self.figures[key] = Figure(frame, "state" if is_state else "constant", n, name)
        return self.figures[key]

    def stack_states(self):
        """More States beside a step than a row takes are one figure, with a line for each."""
        first_of = {}
        for figure in self.figures.values():
            states = [t for t in figure.beside() if t.kind == "state"]
            if len(states) > 2:
                first, *rest = states
                first.members = states
                figure.feeds = [a for a in figure.feeds if a.tail not in rest]
                figure.frame.items = [x for x in figure.frame.items if x not in rest]
                first_of |= dict.fromkeys(rest, first)
        for figure in self.root.figures() if first_of else ():
            figure.feeds = [a._replace(tail=first_of.get(a.tail, a.tail)) for a in figure.feeds]
        self.figures = {n: first_of.get(figure, figure) for n, figure in self.figures.items()}

    def arrive(self, n, kind, name):
        """n becomes a result, or the new value of a State."""
        if n in self.numbers:
            frame = self.enter(self.places(n)) if n.op else self.root
            beside = [Arrow(x, mark="unseen") for x in frame.items[:1] if isinstance(x, Figure)]
            name = within(name, frame)
            return Figure(frame, kind, n, name, note=self.numbers[n], feeds=beside)
        tail = self.tail(n, self.root)
        return Figure(tail.frame, kind, n, within(name, tail.frame), feeds=[Arrow(tail)])


def within(name, frame) -> str:
    """The name of a State, without what the frame says already."""
    for around in frame.outwards():
        path, named, _ = around.title.removeprefix(BACK).partition(": ")
        if named and name.startswith(f"{path}."):
            return name.removeprefix(f"{path}.")
    return name


def hands_on(n) -> bool:
    opens_tuple = n.inputs and isinstance(n.inputs[0].spec, Specs)
    return n.op.view or n.op.alias or opens_tuple


def result_names(graph) -> dict[Node, str]:
    """Of several results the places they have."""
    if len(graph.outputs) == 1:
        return {graph.outputs[0]: ""}
    return {n: f"result {i}" for i, n in reversed([*enumerate(graph.outputs)])}


class Place(NamedTuple):
    """What a frame stands for: a call of a module, its gradient, or the update of a State."""

    title: str
    key: int  # two calls may have one title


BACK, UPDATE = "gradient of ", "update of "


def places_of(n) -> list[Place]:
    back = BACK if n.origin.backward else ""
    return [Place(f"{back}{call.title}", id(call)) for call in n.origin.calls if call.title]


def update_targets(graph) -> dict[Node, list[Place]]:
    """Of a step that serves updates alone: the last of those States, if it has the shape of it. So
    the moments of a parameter are in one frame with it."""
    place = {state: i for i, state in enumerate(graph.updates)}
    last = {n: state for state, n in graph.updates.items()}
    shown = set(graph.outputs)
    for n in reversed(graph.steps):
        if n in shown:
            shown.update(n.inputs)
        elif n in last:
            for x in n.inputs:
                last[x] = max(last[n], last.get(x, last[n]), key=place.get)
    return {
        n: [Place(f"{UPDATE}{s.name or s.spec}", id(s))]
        for n, s in last.items()
        if n not in shown and (n.spec == s.spec or counts(n))
    }


def counts(n) -> bool:
    """Is it a number that an optimizer keeps, and not one of a gradient?"""
    return isinstance(n.spec, Spec) and not n.spec.shape and not n.origin.backward


def named_states(graph) -> dict[Node, str]:
    """Of the States that have a name."""
    names = {n: getattr(state, "name", None) for n, state in graph.states.items()}
    return {n: name for n, name in names.items() if name}


def written_out(graph, steps, names) -> dict[Node, str]:
    """Single numbers, repeated ones too, and States of one number that are not trained, such as the
    learning rate: they have many users, and are written into them."""
    found = {n: number(n.value) for n in graph.constants if uniform(n) is not None}
    found |= {n: s for n, s in names.items() if not n.spec.shape and not n.needs_grad}
    for n in steps:
        if n.inputs and n not in graph.outputs and all(x in found for x in n.inputs):
            texts = ", ".join(found[x] for x in n.inputs)
            same = n.op.view or n.op.alias
            text = texts if same else f"{n.op.name}({texts})"
            if same or n.op.elementwise and not n.spec.shape and len(text) <= WRITTEN:
                found[n] = text
    return found


def number(array) -> str:
    x = array.flat[0].item()
    return f"{x:.4g}" if isinstance(x, float) else str(x)


def roles(n, drawn) -> list[str]:
    """What the op calls these inputs, where that may be in doubt: a - b, but not a + b."""
    if len(drawn) < 2 or symmetric(n) or subgraphs(n.op):
        return [""] * len(drawn)
    declared = signature(n.op.infer).parameters.values()
    names = chain((p.name for p in declared if p.kind is not p.VAR_POSITIONAL), map(str, count()))
    return [name for x, name in zip(n.inputs, names) if x in drawn]


def symmetric(n) -> bool:
    if not n.op.elementwise or len(n.inputs) != 2:
        return False
    a, b = (np.array(pair).astype(n.inputs[0].spec.dtype) for pair in ([2, 3], [3, 2]))
    return np.array_equal(n.op.forward(a, b), n.op.forward(b, a))


def name_of(op) -> str:
    """Of a fused step what it does, one after the other; of a wrapped op, what and how: conv2d
    in_layout."""
    if isinstance(op, Wrapped):
        return f"{name_of(op.op)} {op.name}"
    names = [part.name for part in op.parts()] if isinstance(op, Fused) else [op.name]
    return " → ".join(names if len(names) <= CHAIN else [*names[:3], "…", *names[-2:]])
