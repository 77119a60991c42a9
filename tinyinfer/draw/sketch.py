"""What a picture of a graph shows, before Graphviz places it: figures in frames.

    figure ::= kind of "step" | "view" | "input" | "state" | "constant" | "result" | "update"
    frame  ::= (figure | frame)*     one call of a module, the update of a State, a graph in a step

A State is shown where it is used: a weight in the frame of its layer, and once more beside the step
that updates it. A single number is no figure: it is written into the step that takes it.
"""

from dataclasses import dataclass, field
from inspect import signature
from itertools import chain, count, takewhile
from typing import NamedTuple

import numpy as np

from ..core.autograd import ancestors
from ..core.op import Op
from ..core.spec import Specs
from ..core.tensor import Node
from ..graph.graph import subgraphs
from ..graph.trace import name_places


@dataclass
class Tape:
    """What was recorded behind some nodes, in the parts that a Graph has."""

    outputs: tuple[Node, ...]
    updates: dict = field(default_factory=dict)

    def __post_init__(self):
        nodes = ancestors(self.outputs, through=lambda n: True)
        self.steps = [n for n in nodes if n.op]
        self.states = {n: n.owner() for n in nodes if n.owner and not n.op}
        data = [n for n in nodes if not n.owner and not n.op]
        self.inputs = [n for n in data if self.came_in(n)]
        self.constants = [n for n in data if not self.came_in(n)]
        name_places(self)

    def came_in(self, n):
        """What is younger than the first step was made on the way."""
        return n.value is None or n.born < self.steps[0].born and not same_everywhere(n.value)


@dataclass(eq=False)
class Frame:
    title: str = ""
    of: object = None  # its Place
    items: list = field(default_factory=list)

    def add(self, item):
        self.items.append(item)
        return item

    def figures(self):
        for x in self.items:
            yield from x.figures() if isinstance(x, Frame) else [x]


@dataclass(eq=False)
class Figure:
    frame: Frame
    kind: str
    node: Node
    name: str = ""
    args: str = ""  # "(·, 2)", of a step into which numbers are written
    note: str = ""
    feeds: list = field(default_factory=list)  # (Figure, role): where its arrows come from
    user: "Figure | None" = None  # the first that it feeds

    def __post_init__(self):
        self.frame.add(self)
        for tail, _ in self.feeds:
            tail.user = tail.user or self

    @property
    def tails(self) -> list:
        return [*dict.fromkeys(tail for tail, _ in self.feeds)]

    def beside(self) -> list:
        """What stands in one row with this, so that the way of the data is one column: leaves and
        views of leaves. If nothing would be left to come from above, they do."""
        near = [t for t in self.tails if t.user is self and t.moves and t.frame is self.frame]
        is_aside = self.user and self.turns_leaf and self in self.user.beside()
        return near if len(near) < len(self.tails) or is_aside else []

    @property
    def moves(self) -> bool:
        return self.kind in ("state", "constant") or self.turns_leaf

    @property
    def turns_leaf(self) -> bool:
        """Is it made of one leaf, which stands here for it alone?"""
        tail = self.tails[0] if len(self.feeds) == 1 else None
        own = tail and tail.user is self and tail.frame is self.frame
        return bool(own) and tail.kind in ("state", "constant")


class Sketch:
    """The figures and frames of a graph."""

    def __init__(self, graph, title=""):
        self.graph, self.root = graph, Frame(title)
        self.open = [self.root]
        self.figures = {}  # a node, or a State in a frame -> Figure
        self.names = state_names(graph)
        self.numbers = written_out(graph, self.names)
        self.results = result_names(graph)
        targets = update_targets(graph)
        for i, n in enumerate(graph.inputs):
            name = n.origin.name or ("input" if len(graph.inputs) == 1 else f"input {i}")
            self.figures[n] = Figure(self.root, "input", n, name)
        steps = [n for n in graph.steps if n not in self.numbers]
        for n in steps:
            self.step(n, self.enter(places_of(n) or targets.get(n, [])))
        for n in self.results.keys() - set(steps):
            self.arrive(n, "result", self.results[n] or "result")
        for state, n in graph.updates.items():
            self.arrive(n, "update", state.name or "")

    def enter(self, places) -> Frame:
        """Leave the frames of calls that are over, and open those that begin."""
        same = len([*takewhile(lambda pair: pair[0] == pair[1].of, zip(places, self.open[1:]))])
        del self.open[same + 1 :]
        for place in places[same:]:
            self.open.append(self.open[-1].add(Frame(place.title, place)))
        return self.open[-1]

    def step(self, n, frame):
        inner = {} if chain_of(n.op) else subgraphs(n.op)
        if inner:
            frame = frame.add(Frame(n.op.name))
        drawn = [x for x in n.inputs if x not in self.numbers]
        written = ", ".join(self.numbers.get(x, "·") for x in n.inputs)
        self.figures[n] = Figure(
            frame,
            "result" if n in self.results else "view" if hands_on(n) else "step",
            n,
            n.op.name,
            f"({written})" if len(drawn) < len(n.inputs) else "",
            self.results.get(n, ""),
            [(self.tail(x, frame), role) for x, role in zip(drawn, roles(n, drawn))],
        )
        for title, graph in inner.items():
            sketch = Sketch(graph, title)
            frame.add(sketch.root)
            for x in graph.inputs:
                sketch.figures[x].feeds.append((self.figures[n], ""))

    def tail(self, n, frame) -> Figure:
        """Where an arrow from n into this frame begins."""
        is_state = n in self.graph.states
        key = (n, frame) if is_state else n
        if key not in self.figures:
            leaf = ("state", n, self.names.get(n, "")) if is_state else ("constant", n, "constant")
            self.figures[key] = Figure(frame, *leaf)
        return self.figures[key]

    def arrive(self, n, kind, name):
        """n becomes a result, or the new value of a State."""
        if n in self.numbers:
            Figure(self.root, kind, n, name, note=self.numbers[n])
        else:
            tail = self.tail(n, self.root)
            Figure(tail.frame, kind, n, name, feeds=[(tail, "")])


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


def places_of(n) -> list[Place]:
    back = "gradient of " if n.origin.backward else ""
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
        n: [Place(f"update of {s.name or s.spec}", id(s))]
        for n, s in last.items()
        if n not in shown and n.spec == s.spec
    }


def state_names(graph) -> dict[Node, str]:
    """Of the States that have a name."""
    names = {n: getattr(state, "name", None) for n, state in graph.states.items()}
    return {n: name for n, name in names.items() if name}


def written_out(graph, names) -> dict[Node, str]:
    """Single numbers, repeated ones too, and States of one number that are not trained, such as the
    learning rate: they have many users, and are written into them."""
    found = {n: number(n.value) for n in graph.constants if same_everywhere(n.value)}
    found |= {n: s for n, s in names.items() if not n.spec.shape and not n.needs_grad}
    for n in graph.steps:
        if n.op.view and n not in graph.outputs and n.inputs[0] in found:
            found[n] = found[n.inputs[0]]
    return found


def same_everywhere(array) -> bool:
    return array.size == 1 or array.size > 1 and not any(array.strides)


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


def chain_of(op) -> list[Op]:
    """The ops of a fused step, if each only hands on to the next."""
    graphs = [*subgraphs(op).values()]
    if len(graphs) != 1 or graphs[0].updates:
        return []
    steps = graphs[0].steps
    return [n.op for n in steps] if all(a in b.inputs for a, b in zip(steps, steps[1:])) else []
