"""A graph as text, in SSA form: print(graph) writes it; parse_graph, in graph/parse.py, reads it.

    graph    ::= graph(%x: spec, ...)
                   state %w: spec [trained]              its value is kept apart
                   %c: spec = constant([number, ...])    all its elements, if they are few
                   %c: spec = constant(number)           every element is this one
                   %c: spec = constant(...)              kept apart
                   %y: spec = op(argument, ..., attribute=value, ...)  # where it comes from
                     attribute(%x: spec, ...)            a graph that the op holds, written so too
                   return argument, ...
                   %w <- argument                        what a State becomes
    argument ::= %x | number | dtype(number)             a bare number is like the first %x beside it
    number   ::= 1 | 0.5 | True | inf | nan | nan(bits)
    value    ::= number | 'text' | None | (value, ...) | op(attribute=value, ...)
    spec     ::= dtype[size, ...] | (spec, ...)
    dtype    ::= bool | i8 | i16 | i32 | i64 | u8 | u16 | u32 | u64 | f16 | f32 | f64

Attributes that are as usual are left out. Where a step comes from: "[gradient of] line, call, ..."
with the calls of modules that it was made in, the outermost first; a second call of one title ends
in "#2". What is kept apart is in values(graph), inside a step under the name "step/attribute/c0".
"""

import re
from dataclasses import MISSING, fields

import numpy as np

from ..core.op import Op
from ..core.spec import DTYPES, Spec, Specs
from ..core.tensor import State, Tensor
from .graph import Graph, free_name, subgraphs

FEW = 16  # elements of a constant that are written out
NAMES = {d: f"{d.kind}{8 * d.itemsize}" if d.kind != "b" else "bool" for d in DTYPES}


def to_text(graph) -> str:
    """The graph in the grammar of graph/text.py, one line a node; parse_graph reads it."""
    return "\n".join(Writer(graph, {}).lines("graph", ""))


def values(graph) -> dict[str, np.ndarray]:
    """{printed name: array} of what the text leaves out: the values that States have now, and
    constants of more than 16 elements."""
    names = graph.names
    found = {name: state.numpy() for state, name in state_names(graph).items()}
    found |= {names[n]: Tensor(n).numpy() for n in graph.constants if elements(n) == "..."}
    for n in graph.steps:
        for title, inner in subgraphs(n.op).items():
            found |= {f"{names[n]}/{title}/{name}": x for name, x in values(inner).items()}
    return found


class Writer:
    def __init__(self, graph, calls):
        self.graph, self.calls = graph, calls  # calls: title -> {Call: its number}
        self.states = state_names(graph)
        self.names = graph.names | {n: self.states[s] for n, s in graph.states.items()}
        self.numbers = {n for n in graph.constants if n.spec.shape == ()}

    def lines(self, title, margin):
        graph, inside = self.graph, f"{margin}  "
        inputs = ", ".join(f"%{self.names[n]}: {spec_text(n.spec)}" for n in graph.inputs)
        yield f"{margin}{title}({inputs})"
        for state, name in self.states.items():
            known = "" if state.name in (name, None) else f"  # {clean(state.name)}"
            mark = " trained" if state.requires_grad else ""
            yield f"{inside}state %{name}: {spec_text(state.spec)}{mark}{known}"
        for n in graph.constants:
            if n not in self.numbers:
                yield f"{inside}{self.defined(n)} = constant({elements(n)})"
        for n in graph.steps:
            arguments = ", ".join((*self.arguments(n), *attributes(n.op)))
            yield f"{inside}{self.defined(n)} = {n.op.name}({arguments}){self.comment(n.origin)}"
            for title, inner in subgraphs(n.op).items():
                yield from Writer(inner, self.calls).lines(title, f"{inside}  ")
        yield f"{inside}return {', '.join(map(self.argument, graph.outputs))}".rstrip()
        for state, n in graph.updates.items():
            yield f"{inside}%{self.states[state]} <- {self.argument(n)}"

    def defined(self, n) -> str:
        return f"%{self.names[n]}: {spec_text(n.spec)}"

    def arguments(self, n) -> list[str]:
        beside = (x.spec for x in n.inputs if x not in self.numbers)
        dtype = next((spec.dtype for spec in beside if isinstance(spec, Spec)), None)
        return [self.argument(x, dtype) for x in n.inputs]

    def argument(self, n, dtype=None) -> str:
        if n not in self.numbers:
            return f"%{self.names[n]}"
        written, own = number_text(n.value[()]), n.spec.dtype
        bare = dtype is not None and own == dtype  # f64 == None, in NumPy
        return written if bare else f"{NAMES[own]}({written})"

    def comment(self, origin) -> str:
        calls = filter(None, map(self.call, origin.calls))
        places = [clean(origin.line) or "?", *calls]
        text = ("gradient of " if origin.backward else "") + ", ".join(places)
        return "" if text == "?" else f"  # {text}"

    def call(self, call) -> str:
        title = clean(call.title)
        of_that_title = self.calls.setdefault(title, {})
        i = of_that_title.setdefault(call, len(of_that_title) + 1)
        return title if i == 1 or not title else f"{title} #{i}"


def state_names(graph) -> dict[State, str]:
    """Of those that are read, and of those that are only written."""
    found, taken = {}, set(graph.names.values())
    for n, state in graph.states.items():
        found.setdefault(state, graph.names[n])
    for state in graph.updates:
        if state not in found:
            found[state] = free_name(state.name or "state", taken)
    return found


def spec_text(spec) -> str:
    if isinstance(spec, Specs):
        return f"({', '.join(map(spec_text, spec))})"
    return f"{NAMES[spec.dtype]}[{', '.join(map(str, spec.shape))}]"


def elements(n) -> str:
    """Of a constant, as it is written."""
    x = n.value
    if x.size and not any(x.strides):
        return number_text(x.flat[0])
    return f"[{', '.join(map(number_text, x.flat))}]" if x.size <= FEW else "..."


def number_text(x) -> str:
    """The shortest that comes back bit for bit as a number of that dtype."""
    x = np.float64(x) if isinstance(x, float) and not isinstance(x, np.generic) else x
    if not isinstance(x, np.floating):
        return str(x)
    if x != x:
        bits = x.view(f"u{x.itemsize}")
        return "nan" if bits == x.dtype.type("nan").view(bits.dtype) else f"nan({bits:#x})"
    text = str(x)
    return text if x.dtype.type(text) == x else repr(float(x))


def attributes(op):
    for f in fields(op):
        x, usual = getattr(op, f.name), f.default
        if not isinstance(x, Graph) and (usual is MISSING or value_text(x) != value_text(usual)):
            yield f"{f.name}={value_text(x)}"


def value_text(x) -> str:
    match x:
        case Op():
            return f"{x.name}({', '.join(attributes(x))})"
        case tuple() | list():
            return f"({', '.join(map(value_text, x))}{',' * (len(x) == 1)})"
        case bool() | int() | float() | np.generic():
            return number_text(x)
        case str() | None:
            return repr(x)
    return clean(repr(x))  # for people: of no kind that is read


def clean(text) -> str:
    """Without what would mean something in a comment."""
    return " ".join(re.sub(r"[,#]", " ", text or "").split())


Graph.__str__ = to_text
