"""From text to a graph: the way back from graph/text.py, where the grammar stands.

A line is taken apart by its form; what stands in parentheses is Python's grammar, read by its `ast`
and never run. The text may be anybody's: whatever it is, there is a graph or a GraphError, and both
cost time and room in proportion to its length.
"""

import ast
import re
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from math import isinf, prod
from types import EllipsisType, UnionType
from typing import NamedTuple, Union, get_args, get_origin

import numpy as np

from ..core.op import Op
from ..core.spec import Spec, Specs, spec_of
from ..core.tensor import Node, State, Tensor
from ..core.trace import Call, Origin, Trace
from ..errors import GraphError, TinyinferError
from .graph import Graph
from .text import NAMES, value_text
from .trace import no_collecting
from .verify import cycle, wrong_step, wrong_update

DEEP = 50  # graphs inside graphs
RANK = 64  # dimensions, as NumPy has it
LONG = 4096  # parts of an attribute: its sizes, axes, ranges
WIDE = 2**18  # characters of a line, of which each can take hundreds of bytes while it is read
BY_NAME = {name: d for d, name in NAMES.items()}


def parse_graph(text, values=None) -> Graph:
    """The graph that print(graph) wrote as `text`.

    What the text leaves out, the values of States and large constants, comes from `values`, {printed
    name: array}, as values(graph) gives it. The States are new ones: no module knows them.
    Raises GraphError, with the line of the text, if it is not such a text, or no right graph.
    """
    try:
        with no_collecting():
            return Reader(text, values or {}).whole()
    except RecursionError:
        raise GraphError("this text is nested too deep to be a graph") from None


class Line(NamedTuple):
    number: int
    depth: float  # half as many as blanks before it
    text: str


@dataclass
class Scope:
    """What is known in one graph."""

    path: str  # before the names of what is kept apart
    inputs: tuple = ()
    outputs: tuple | None = None
    updates: dict = field(default_factory=dict)
    nodes: dict = field(default_factory=dict)  # by name
    lines: dict = field(default_factory=dict)  # the number of the line, by name
    states: dict = field(default_factory=dict)  # by name
    numbers: dict = field(default_factory=dict)


# fmt: off
NAME   = r"%([\w.]+)"
ONE    = r"\w+\[[\d, ]*\]"
HEAD   = re.compile(r"(\w+)\((.*)\)")
INPUT  = re.compile(rf"{NAME}: ({ONE}|\((?:{ONE}(?:, )?)+\))")
STATE  = re.compile(rf"state {NAME}: (.+?)( trained)?(?:  # (.*))?")
VALUE  = re.compile(rf"{NAME}: (.*?) = (\w+)(\(.*)")
RETURN = re.compile(r"return(?: (.*))?")
UPDATE = re.compile(rf"{NAME} <- (.*)")
TOKEN  = re.compile(rf"""('(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?)|#(.*)|{NAME}""")
LINES  = "state %w: f32[3] | %0: f32[3] = add(%x, %w) | return %0 | %w <- %0"
KINDS  = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}
# fmt: on


class Reader:
    def __init__(self, text, values):
        self.values, self.ops, self.calls = values, registry(), {}
        lines = [line_of(*pair) for pair in enumerate(text.split("\n"), 1) if pair[1].strip()]
        self.lines = lines[::-1]  # the next is the last
        self.line, self.subject = Line(1, 0, ""), ""

    def whole(self) -> Graph:
        _, graph = self.graph(0, "")
        if self.lines:
            self.line = self.lines[-1]
            raise self.wrong("the graph has ended, and here is more")
        return graph

    # Lines

    @property
    def next_depth(self):
        return self.lines[-1].depth if self.lines else -1

    def take(self, depth) -> str:
        """The next line, which is to stand at this depth."""
        if not self.lines:
            raise self.wrong("the text ends here, and its graph does not")
        self.line, self.subject = self.lines.pop(), ""
        if self.line.depth != depth:
            there = f"{2 * self.line.depth:.0f} blanks stand before it"
            raise self.wrong(f"{there}, and {2 * depth} are wanted: {cut(self.line.text)!r}")
        return self.line.text

    def wrong(self, message) -> GraphError:
        subject = f"{self.subject}: " if self.subject else ""
        return GraphError(f"line {self.line.number}: {subject}{message}")

    def malformed(self, right) -> GraphError:
        return self.wrong(f"{cut(self.line.text)!r} should look like {right}")

    # A graph

    def graph(self, depth, path) -> tuple[str, Graph]:
        """The block that comes next, and its title."""
        if depth > 2 * DEEP:
            raise self.wrong(f"more than {DEEP} graphs inside graphs")
        title, scope = self.head(depth, path)
        while self.next_depth > depth:
            self.statement(scope, self.take(depth + 1))
        if scope.outputs is None:
            raise self.wrong(f"{title}(...) ends here without a return: write return %0")
        try:
            return title, Graph(scope.inputs, scope.outputs, scope.updates)
        except TinyinferError as error:
            raise self.wrong(str(error)) from error

    def head(self, depth, path) -> tuple[str, Scope]:
        head = HEAD.fullmatch(self.take(depth))
        title, given = head.groups() if head else ("", "")
        inputs = INPUT.findall(given)
        whole = given == ", ".join(f"%{name}: {spec}" for name, spec in inputs)
        if not title or not whole or depth == 0 and title != "graph":
            raise self.malformed(f"{title if depth else 'graph'}(%x: f32[3], %y: i64[])")
        scope = Scope(f"{path}{title}/" if depth else "")
        for name, spec in inputs:
            self.define(scope, name, Node(None, (), self.spec(spec), origin=Origin(name=name)))
        scope.inputs = tuple(scope.nodes.values())
        return title, scope

    def statement(self, scope, text):
        ways = (
            (VALUE, self.value),
            (STATE, self.state),
            (RETURN, self.result),
            (UPDATE, self.update),
        )
        for form, read in ways:
            if m := form.fullmatch(text):
                if (form is UPDATE) == (scope.outputs is None):
                    raise self.wrong("updates come after the return, all else before it")
                return read(scope, *m.groups())
        raise self.malformed(LINES)

    def define(self, scope, name, node):
        if name in scope.nodes:
            raise self.wrong(f"%{name} is defined twice, first in line {scope.lines[name]}")
        scope.nodes[name], scope.lines[name] = node, self.line.number

    def state(self, scope, name, spec, trained, title):
        self.subject = f"%{name}"
        array = self.kept_apart(scope, name, self.spec(spec))
        try:
            state = scope.states[name] = State(array, bool(trained), title or name)
        except TinyinferError as error:
            raise self.wrong(str(error)) from error
        with Trace():  # where a State is its symbol
            self.define(scope, name, state.node)

    def kept_apart(self, scope, name, spec) -> np.ndarray:
        name = scope.path + name
        if name not in self.values:
            raise self.wrong(
                f"its value is not in the text: pass parse_graph(text, values) an array {name!r}, a "
                f"{spec}; there is one in values(graph)"
            )
        x = self.values[name]
        array = x.numpy() if isinstance(x, Tensor) else np.array(x)
        if spec_of(array) != spec:
            raise self.wrong(f"the text says {spec}, and its value is a {spec_of(array)}")
        return array

    def value(self, scope, name, spec, op, rest):
        origin = self.origin(next((m[2] for m in TOKEN.finditer(rest) if m[2]), "").strip())
        self.subject = f"%{name}" + (f", at {origin.line}" if origin.line else "")
        call, spec = self.call(rest), self.spec(spec)
        if op == "constant":
            n = Node(None, (), spec, self.constant(scope, name, spec, call))
        else:
            inputs = self.arguments(scope, call.args)
            inner = self.inside(f"{scope.path}{name}/")
            n = Node(self.op(op, call.keywords, inner), inputs, spec, origin=origin)
            if sentence := wrong_step(n):
                raise self.wrong(sentence)
        self.define(scope, name, n)

    def inside(self, path) -> dict[str, Graph]:
        """The graphs that the op of this line holds."""
        found, line, subject = {}, self.line, self.subject
        while self.next_depth > line.depth:
            title, graph = self.graph(line.depth + 1, path)
            self.line, self.subject = line, subject
            if title in found:
                raise self.wrong(f"{title}(...) is given twice")
            found[title] = graph
        return found

    def result(self, scope, given):
        scope.outputs = self.arguments(scope, self.call(f"({given or ''})", only=True).args)

    def update(self, scope, name, given):
        self.subject = f"%{name}"
        if name not in scope.states:
            raise self.wrong("only a State is updated, and there is none of that name")
        found = self.arguments(scope, self.call(f"({given})", only=True).args)
        state = scope.states[name]
        if len(found) != 1 or state in scope.updates:
            raise self.wrong("a State becomes one value: %w <- %0")
        if sentence := wrong_update(state, found[0]):
            raise self.wrong(sentence)
        scope.updates[state] = found[0]

    # What stands in a line

    def spec(self, text) -> Spec | Specs:
        parts = re.findall(ONE, text)
        if parts and text == f"({', '.join(parts)})":
            return Specs(map(self.spec, parts))
        m = re.fullmatch(r"(\w+)\[((?:[0-9]{1,18}, )*[0-9]{1,18})?\]", text)
        if not m:
            raise self.wrong(f"{cut(text)!r} should look like f32[64, 10] or (f32[3], i64[])")
        if m[1] not in BY_NAME:
            raise self.wrong(f"there is no dtype {cut(m[1])}: choose from {', '.join(BY_NAME)}")
        sizes = m[2].split(", ") if m[2] else []
        if len(sizes) > RANK:
            raise self.wrong(f"an array has up to {RANK} dimensions, and not {len(sizes)}")
        return Spec(tuple(map(int, sizes)), BY_NAME[m[1]])

    def call(self, text, only=False) -> ast.Call:
        """`text`, arguments in parentheses, as Python reads it, with {'x'} for %x; `only`
        arguments, no attributes."""
        if len(text) > WIDE:
            raise self.wrong(f"its arguments take {len(text)} characters, and {WIDE} is the most")
        source = TOKEN.sub(lambda m: m[1] or (f"{{{m[3]!r}}}" if m[3] else ""), text)
        try:
            match ast.parse(f"f{source}", mode="eval").body:
                case ast.Call(ast.Name("f"), _, keywords) as call if not (only and keywords):
                    return call
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            pass
        raise self.malformed(LINES)

    def arguments(self, scope, given) -> tuple[Node, ...]:
        found = [self.named(scope, x) for x in given]
        dtype = next((n.spec.dtype for n in found if n and isinstance(n.spec, Spec)), None)
        return tuple([n or self.single(scope, x, dtype) for n, x in zip(found, given)])

    def named(self, scope, x) -> Node | None:
        match x:
            case ast.Set([ast.Constant(str(name))]):
                if name not in scope.nodes:
                    raise self.wrong(self.undefined(name))
                return scope.nodes[name]

    def undefined(self, name) -> str:
        uses, where = {}, {}  # of the steps from here on
        for line in (self.line, *reversed(self.lines)):
            if line.depth < self.line.depth:
                break
            if line.depth == self.line.depth and (m := VALUE.fullmatch(line.text)):
                uses[m[1]] = [t[3] for t in TOKEN.finditer(m[4]) if t[3]]
                where.setdefault(m[1], line.number)
        if path := cycle(uses):
            return f"a graph has no cycles, and here is one: {' -> '.join(f'%{x}' for x in path)}"
        if name in uses:
            return f"%{name} is used before it is defined, in line {where[name]}"
        return f"there is no %{cut(name)} in this graph"

    def single(self, scope, x, dtype) -> Node:
        match x:
            case ast.Call(ast.Name(word), [number], []) if word in BY_NAME:
                x, dtype = number, BY_NAME[word]
        if dtype is None:
            raise self.wrong("a number has the dtype of a value beside it; alone, write f32(0.5)")
        array = self.number(x, dtype)
        key = dtype, array.tobytes()
        if key not in scope.numbers:
            scope.numbers[key] = Node(None, (), Spec((), dtype), array)
        return scope.numbers[key]

    def constant(self, scope, name, spec, call) -> np.ndarray:
        if isinstance(spec, Specs) or len(call.args) != 1 or call.keywords:
            raise self.malformed("%c0: f32[3] = constant([1.0, 2.0, 3.0]), or (0.0), or (...)")
        match call.args[0]:
            case ast.Constant(EllipsisType()):
                return self.kept_apart(scope, name, spec)
            case ast.List(items) if len(items) == prod(spec.shape):
                data = b"".join([self.number(x, spec.dtype).tobytes() for x in items])
                return np.frombuffer(data, spec.dtype).reshape(spec.shape)
            case ast.List(items):
                raise self.wrong(f"{len(items)} elements for a {spec}")
            case x:
                try:
                    return np.broadcast_to(self.number(x, spec.dtype), spec.shape)
                except ValueError as error:
                    raise self.wrong(f"there is no array {spec}: {error}") from None

    def number(self, x, dtype) -> np.ndarray:
        try:
            match x:
                case ast.Call(ast.Name("nan"), [ast.Constant(int(bits))], []) if bits < 2**64:
                    y = np.array(bits, f"u{dtype.itemsize}").view(dtype)
                    good = y != y
                case _:
                    value = self.literal(x)
                    good = type(value) in KINDS[dtype.kind]
                    with np.errstate(over="ignore"):
                        y = np.array(value, dtype) if good else None
                    good = good and isinf(y) == isinf(value)
        except OverflowError:
            good = False
        if not good:
            raise self.wrong(f"{cut(ast.unparse(x))} is no {NAMES[dtype]}")
        return y

    def literal(self, x):
        match x:
            case ast.Constant(None | bool() | str() | float() as value):
                return value
            case ast.Constant(int(value)) if abs(value) < 2**64:
                return value
            case ast.UnaryOp(ast.USub(), ast.Constant(int() | float()) | ast.Name("inf") as y):
                return -self.literal(y)
            case ast.Name("inf" | "nan" as word):
                return float(word)
            case ast.Call(ast.Name("nan"), [ast.Constant(int(bits))], []) if bits < 2**64:
                return self.number(x, np.dtype("float64")).item()
            case ast.Tuple(items) if len(items) <= LONG:
                return tuple([self.literal(y) for y in items])
            case ast.Call(ast.Name(name), [], keywords):
                return self.op(name, keywords, {})
        raise self.wrong("an attribute is a number, 'text', None, a short tuple or an op")

    def op(self, name, keywords, inner) -> Op:
        if name not in self.ops:
            raise self.wrong(f"there is no op {cut(name)!r}{nearest(name, self.ops)}")
        cls = self.ops[name]
        given = {k.arg: self.literal(k.value) for k in keywords} | inner
        if len(given) < len(keywords) + len(inner):
            raise self.wrong(f"{name} is given an attribute twice")
        known = {f.name: f for f in fields(cls)}
        for attribute, value in given.items():
            if attribute not in known:
                near = nearest(str(attribute), known)
                raise self.wrong(f"{name} has no attribute {cut(str(attribute))!r}{near}")
            if not fits(value, kind := known[attribute].type):
                kind = kind if get_origin(kind) else kind.__name__
                value = cut(value_text(value))
                raise self.wrong(f"{name}: {attribute} is of the kind {kind}, and not {value}")
        if missing := [f for f in known if f not in given and known[f].default is MISSING]:
            raise self.wrong(f"{name} lacks {', '.join(missing)}")
        try:
            return cls(**given)
        except Exception as error:
            raise self.wrong(f"{name}: {error}") from error

    def origin(self, comment) -> Origin:
        places = comment.removeprefix("gradient of ")
        line, *titles = places.split(", ")
        for title in titles:
            if title not in self.calls:
                self.calls[title] = Call(None, re.sub(r" #\d+$", "", title))
        calls = tuple([self.calls[title] for title in titles])
        return Origin(calls, None if line in ("", "?") else line, None, places != comment)


def line_of(number, text) -> Line:
    bare = text.lstrip(" ")
    return Line(number, (len(text) - len(bare)) / 2, bare.rstrip())


def registry() -> dict[str, type[Op]]:
    """The ops that can be computed, by name."""
    classes = [Op]
    for cls in classes:
        classes += cls.__subclasses__()
    return {cls.name: cls for cls in classes if cls.forward is not Op.forward}


def fits(value, kind) -> bool:
    """Is it what the annotation of an attribute says? A whole number is a float, too."""
    kinds = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, k) for k in kinds)
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    return isinstance(value, {float: (int, float), bool: int}.get(kind, kind))


def nearest(name, names) -> str:
    near = get_close_matches(name[:60], names, 1)
    return f"; is it {near[0]}?" if near else ""


def cut(text) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
