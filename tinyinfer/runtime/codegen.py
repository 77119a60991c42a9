"""A plan as one function: its text, for people, and its machine code.

    net(arena, image, weights ..., results ..., constants)

Every step is carried out with Places (kernels/recorded.py), which tells what machine code it would run;
that is written down in the order of the plan, with places in the arena for the results. What has no
machine code Python does, when it is its turn. kernels/written.py is what the text is made of.
"""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from keyword import iskeyword

import numpy as np

from ..core.spec import Spec
from ..graph.graph import free_name
from ..kernels import written
from ..kernels.native import full_name
from ..kernels.recorded import Call, Check, NotNative, Place, place, without_gaps
from ..kernels.static import Static
from .arena import Arena, Joined
from .formula import formula, number
from .nested import Inside, Rows, Sides, Turns
from .plan import Plan

WIDTH = 100  # of a line
MAKERS = {np.dtype(name.replace("flags", "bool")): name for name in written.MAKERS}


class Writer:
    """`text`; `constants`, the arrays that it expects; `calls` of kernels; and `python`, the numbers of the
    steps that Python does."""

    def __init__(self, plan: Plan, name="graph"):
        self.plan, self.log, self.margin = plan, [], 1
        self.lines, self.calls, self.python = [], [], []
        self.kernels, self.statics, self.modules = {}, {}, set()
        self.constants: list[np.ndarray] = []
        self.fixed: list[np.ndarray] = []  # the constants of graphs, of which these may be parts
        self.taken = {
            *written.__all__,
            "arena",
            "constants",
            "callback",
            "native",
            "Static",
            "run",
            "t",
        }
        self.name = self.free(name)
        self.places = self.outside(plan.graph)
        self.addresses = ["arena", *[name for name, _ in self.places[1:]], "constants"]
        self.whole(plan)
        if self.python:
            self.addresses.append("callback")
        self.text = self.finished()

    def outside(self, graph) -> list[tuple[str, Place]]:
        """The arena, inputs, results and States."""
        found = [("arena", place(self.log, (self.plan.arena_bytes,), np.uint8))]
        for n in graph.inputs:
            found.append((self.free(graph.names[n]), self.place(n.spec)))
        for i, n in enumerate(graph.outputs):
            name = "result" if len(graph.outputs) == 1 else f"result{i}"
            found.append((self.free(name), self.place(n.spec)))
        read = {state: n for n, state in graph.states.items()}
        for i, state in enumerate(states_of(graph)):
            name = state.name or (graph.names[read[state]] if state in read else f"state{i}")
            found.append((self.free(name), self.place(state.spec)))
        return found

    def place(self, spec):
        return place(self.log, *spec)

    def free(self, wanted) -> str:
        """A name of Python's that nothing else has."""
        wanted = re.sub(r"\W", "_", wanted)
        wanted = wanted if wanted.isidentifier() and not iskeyword(wanted) else f"v{wanted}"
        return free_name(wanted, self.taken)

    # ---- the function ------------------------------------------------------------------------------

    def whole(self, plan):
        graph, arena = plan.graph, Arena(plan, self.places[0][1])
        for name, x in self.places[1:]:
            self.write(f"{name} = {self.made(x, name)}")
        places = iter(self.places[1:])
        inputs = [next(places) for _ in graph.inputs]
        results = [next(places) for _ in graph.outputs]
        states = dict(zip(states_of(graph), places))
        names = {arena.values.block[n]: x for n, x in zip(graph.inputs, inputs)}
        names |= {arena.values.block[n]: states[s] for n, s in graph.states.items()}
        self.block(arena, names, [x for _, x in inputs], [x for _, x in results], states)

    def block(self, arena, names, inputs, results, states=None):
        """The steps of a plan; `names` are those of its values, with their places."""
        self.fixed += [n.value for n in arena.plan.graph.constants]
        arena.fill(inputs, results, {s: x for s, (_, x) in (states or {}).items()})
        for i, (n, run, args) in enumerate(arena.calls):
            ys = args[0] if isinstance(args[0], tuple) else args[:1]
            blocks = arena.values.blocks_of(n)
            wanted = f"v{arena.plan.graph.names[n]}"
            called = [self.free(f"{wanted}_{k}" if ys[1:] else wanted) for k in range(len(ys))]
            self.comment(arena, n, called, names)
            for name, block, y in zip(called, blocks, ys):
                names[block] = name, y
                self.write(f"{name} = {self.expression(y, ())}")
            mine = [names[b] for b in blocks]
            theirs = [names[b] for x in n.inputs for b in arena.values.blocks_of(x) if b in names]
            self.attempt(states is not None, i, arena, n, run, args, mine, theirs)
        try:
            last = [*self.last_copies(arena, names, dict(enumerate(results)), states)]
        except NotNative as why:
            self.ask_python(len(arena.calls) if states is not None else None, why)
        else:
            for text in last:
                self.write(text)
        arena.empty()

    def attempt(self, outermost, i, arena, n, run, args, mine, theirs):
        """In machine code; else the outermost step is one for Python."""
        before = len(self.lines), len(self.calls), self.margin
        try:
            self.step(i if outermost else None, arena, n, run, args, mine, theirs)
        except (NotNative, ValueError) as why:
            if not outermost:
                raise NotNative(str(why)) from why
            del self.lines[before[0] :], self.calls[before[1] :]
            self.margin = before[2]
            self.ask_python(i, why)
        self.write()

    def ask_python(self, i, why):
        if i is None:
            raise NotNative("Python would have to do it")
        self.python.append(i)
        self.write(f"python(callback, {i})  # {why}")

    def step(self, i, arena, n, run, args, mine, theirs):
        if isinstance(run, Joined):
            for y, x in run.copies(*args):
                self.write(f"copy({self.expression(y, mine)}, {self.expression(x, theirs)})")
        elif isinstance(run, Inside | Sides | Turns | Rows):
            WRITE[type(run)](
                self, run, args[0] if isinstance(args[0], tuple) else args[:1], *args[1:]
            )
        elif arena.plan.kernels[n].cost is None:
            raise NotNative("there is only NumPy for it")
        else:
            self.log.clear()
            run(*args)
            self.log_written(i, mine, theirs)

    def log_written(self, i, mine, theirs):
        margin = self.margin
        for what in [*self.log]:
            if isinstance(what, Check):
                of = self.expression(what.array, theirs), *map(str, what.numbers)
                self.write(f"if {what.name}({', '.join(of)}):")
                self.margin += 1
            else:
                self.write(self.call(what, mine, theirs))
        while self.margin > margin:
            self.margin -= 1
            self.write("else:")
            with self.inside():
                self.ask_python(i, "or else by the definition")

    def call(self, call: Call, mine, theirs) -> str:
        self.calls.append(call)
        y, *xs = call.arrays
        args = [
            self.argument(y, [*mine, *theirs]),
            *(self.argument(x, [*theirs, *mine]) for x in xs),
        ]
        self.fixed += [x for x in call.numbers if isinstance(x, np.ndarray)]
        args += [self.argument(x, ()) for x in call.numbers]
        first = f"{self.static(call.t)}, "
        f = self.kernel(call.f)
        if call.parts > 1:
            f = f"{f}.in_parts"
            first += str(call.parts)
        else:
            first += "0, 1"
        return f"{f}({', '.join((first, *args))})"

    def argument(self, x, near) -> str:
        if isinstance(x, np.ndarray):
            return self.expression(x, near)
        if type(x) is tuple:
            return f"({', '.join(self.argument(each, near) for each in x)}{',' * (len(x) == 1)})"
        if isinstance(x, tuple):
            module = type(x).__module__.rpartition(".")[2]
            self.modules.add(module)
            return f"{module}.{x!r}"
        if isinstance(x, Static):
            return self.static(x)
        if isinstance(x, np.float32):
            return f"np.float32({x})"
        if type(x) is not int and not isinstance(x, np.int64):
            raise NotNative(f"an argument is {x!r}")
        return str(x)

    def expression(self, x, near) -> str:
        """An array, beside those that have names, or in the arena or what else comes from outside."""
        if not isinstance(x, Place):
            return self.constant(x)
        without_gaps((x,))
        begin = address(x)
        for name, there in (*near, *self.places):
            start = begin - address(there)
            moves = x.moves[len(there.moves) :]
            if (
                not 0 <= start <= start + x.nbytes <= there.nbytes
                or x.moves[: len(there.moves)] != there.moves
            ):
                continue
            if start or moves or spec(x)[1] != there.dtype or x.size != there.size:
                terms = [name, *([str(start)] if start or not moves else []), *map(term, moves)]
                return self.made(x, " + ".join(terms))
            return name if x.shape == there.shape else f"{name}.reshape({numbers(x.shape)})"
        raise NotNative("an array is made on the way")

    def made(self, x, where) -> str:
        return f"{MAKERS[x.dtype]}({', '.join([where, *map(str, x.shape)])})"

    def constant(self, x) -> str:
        """What was made on the way is writable: it is other numbers in each call."""
        inside = lambda arrays: any(np.may_share_memory(x, a) for a in arrays)
        if inside(a for _, a in self.places) or x.flags.writeable and not inside(self.fixed):
            raise NotNative("an array is made on the way")
        without_gaps((x,))
        same = lambda c: (
            c is x or (spec(c) == spec(x) and x.size < 1000 and c.tobytes() == x.tobytes())
        )
        found = next((i for i, c in enumerate(self.constants) if same(c)), None)
        if found is None:
            found = len(self.constants)
            self.constants.append(x)
        return self.made(x, f"constant(constants, {found})")

    def last_copies(self, arena, names, results, states) -> Iterator[str]:
        value = lambda n: arena.fixed[n] if n in arena.fixed else arena.now[n]
        near = list(names.values())
        place = lambda x: self.expression(x, near)
        for copy, stash in arena.copies:
            if stash is not None:
                yield f"copy({place(stash)}, {place(value(copy.node))})"
            elif copy.kind == "output":
                yield f"copy({place(results[copy.key])}, {place(value(copy.node))})"
        for copy, stash in arena.copies:
            if copy.kind == "state":
                given = value(copy.node) if stash is None else stash
                yield f"copy({states[copy.key][0]}, {place(given)})"

    # ---- graphs in steps ---------------------------------------------------------------------------

    def nested(self, arena, given, results):
        names = {}
        for n, x in zip(arena.plan.graph.inputs, given):
            if isinstance(x, Place):
                name = self.free(arena.plan.graph.names[n])
                self.write(f"{name} = {self.expression(x, ())}")
                names[arena.values.block[n]] = name, x
        self.block(arena, names, given, results)

    def write_inside(self, run, ys, *xs):
        self.nested(run.arena, xs, ys)

    def write_sides(self, run, ys, p, *xs):
        self.write(f"if flag({self.expression(p, ())}):")
        with self.inside():
            self.nested(run.then, xs, ys)
        self.write("else:")
        with self.inside():
            self.nested(run.otherwise, xs, ys)

    def write_turns(self, run, ys, *xs):
        captured, flag = xs[len(ys) :], f"flag({self.expression(run.flag, ())})"
        self.copies(ys, xs)
        self.nested(run.test, (*ys, *captured), (run.flag,))
        if run.bound is None:
            self.write(f"while {flag}:")
        else:
            self.write(f"for {self.free('turn')} in range({run.bound}):")
            self.margin += 1
            self.write(f"if {flag}:")
        with self.inside():
            self.nested(run.body, (*ys, *captured), run.spare)
            self.copies(ys, run.spare)
            self.nested(run.test, (*ys, *captured), (run.flag,))
        self.margin -= run.bound is not None

    def write_rows(self, run, ys, *xs):
        (carry, rows, captured), mine = run.op.parts(xs), ys[: run.op.carries]
        self.copies(mine, carry)
        if not run.turns:
            return
        t = self.free("t")
        first, step = run.turns[0], -1 if run.op.reverse else 1

        def row(x):
            if not isinstance(x, Place):
                raise NotNative("the rows of a constant")
            size = x.nbytes // len(x)
            return x[first, ...].moving(t, step * size)

        self.write(f"for {t} in range({len(run.turns)}):")
        with self.inside():
            given = *mine, *map(row, rows), *captured
            self.nested(run.body, given, (*run.spare, *map(row, ys[run.op.carries :])))
            self.copies(mine, run.spare)

    def copies(self, to, arrays):
        for y, x in zip(to, arrays):
            self.write(f"copy({self.expression(y, ())}, {self.expression(x, ())})")

    # ---- text --------------------------------------------------------------------------------------

    def write(self, text=""):
        self.lines += wrapped("    " * self.margin + text) if text else [""]

    @contextmanager
    def inside(self):
        self.margin += 1
        yield
        self.margin -= 1

    def comment(self, arena, n, results, names):
        """What a step does, and how."""

        def name_of(x):
            if x.value is not None:
                return number(x.value)
            return ", ".join(names[b][0] for b in arena.values.blocks_of(x) if b in names)

        *lines, last = formula(n, results, name_of)
        for text in (*lines, f"{last}  ({arena.plan.kernels[n].name})"):
            self.write(f"# {text}")

    def kernel(self, f) -> str:
        if f not in self.kernels:
            self.kernels[f] = self.free(full_name(f).replace(".", "_"))
        return self.kernels[f]

    def static(self, t) -> str:
        text = repr(t)
        if text not in self.statics:
            self.statics[text] = f"T{len(self.statics)}"
        return self.statics[text]

    def finished(self) -> str:
        body = "\n".join(with_forms_used(self.lines))
        used = [word for word in written.__all__ if re.search(rf"\b{word}\b", body)]
        modules = self.modules | {f.__module__.rpartition(".")[2] for f in self.kernels}
        imports = {
            "tinyinfer.kernels": sorted(modules),
            "tinyinfer.kernels.native": ["native"],
            "tinyinfer.kernels.static": ["Static"],
            "tinyinfer.kernels.written": sorted({*used, "there", "whole"}),
        }
        taken = ", ".join(self.addresses)
        lines = [
            f'"""{self.name}: {len(self.plan.order.steps)} steps.\n\n{self.plan}\n"""\n',
            *(["import numpy as np\n"] if "np." in body else []),
            *(text for name, names in imports.items() if names for text in imported(name, names)),
            "",
            *(f"{name} = there({full_name(f)})" for f, name in self.kernels.items()),
            "",
            *(text for t, name in self.statics.items() for text in wrapped(f"{name} = {t}")),
            "\n",
            "@whole",
            *wrapped(f"def {self.name}({taken}):"),
            body or "    pass",
            "\n",
            "@native",
            *wrapped(f"def run({taken}):"),
            *wrapped(f"    {self.name}({taken})"),
        ]
        return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines) + "\n")


WRITE = {
    Inside: Writer.write_inside,
    Sides: Writer.write_sides,
    Turns: Writer.write_turns,
    Rows: Writer.write_rows,
}


def states_of(graph) -> list:
    """Those that it reads, and those that it only writes to."""
    return [*dict.fromkeys((*graph.states.values(), *graph.updates))]


def with_forms_used(lines) -> list[str]:
    """Without those which give an array a form, `x = float32(x, 3)`, that nobody asks for."""
    words = lambda text: Counter(re.findall(r"\w+", text.partition("#")[0]))
    every = sum(map(words, lines), Counter())
    form = re.compile(r" +(\w+) = \w+(\(.*\))?")
    found = [(text, form.fullmatch(text)) for text in lines]
    return [text for text, x in found if not x or every[x[1]] > words(text)[x[1]]]


def address(x) -> int:
    return x.__array_interface__["data"][0]


def spec(x):
    return Spec(x.shape, x.dtype)


def term(move) -> str:
    name, size = move
    return f"{size} * {name}"


def numbers(xs):
    return ", ".join(map(str, xs))


def imported(module, names) -> list[str]:
    text = f"from {module} import {', '.join(names)}"
    return [text] if len(text) <= WIDTH else wrapped(f"from {module} import ({', '.join(names)})")


def wrapped(text) -> list[str]:
    """In lines of some length: broken behind commas, or between words of a comment."""
    margin = len(text) - len(text.lstrip())
    lines, rest, more = (
        [],
        text,
        " " * (margin + 4) if not text.lstrip().startswith("#") else " " * margin + "#     ",
    )
    while len(rest) > WIDTH:
        end = rest.rfind(", ", margin + 4, WIDTH) + 1
        if not end:
            break
        lines.append(rest[:end])
        rest = more + rest[end:].lstrip()
    return [*lines, rest]
