"""A plan as one function, that people can read.

    net(arena, image, weights ..., results ..., constants)

Every step is carried out with Places (kernels/recorded.py), which tells what machine code it would run;
that is written down in the order of the plan, with places in the arena for the results. What has no
machine code Python does, when it is its turn. kernels/written.py is what the text is made of.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..core.spec import spec_of
from ..kernels import written
from ..kernels.native import contiguous
from ..kernels.recorded import Call, Check, NotNative, Place, place, without_gaps
from ..kernels.static import Static
from .arena import Arena, Joined
from .formula import formula, number
from .nested import Inside, Rows, Sides, Turns
from .plan import Plan
from .text import Text

MAKERS = {np.dtype(name.replace("flags", "bool")): name for name in written.MAKERS}
FEW = 1000  # numbers of a constant that are looked at, whether it is there already


class Writer(Text):
    """`text`; `constants`, the arrays that it expects; `calls` of kernels; and `python`, the numbers of
    the steps that Python does, or may have to."""

    def __init__(self, plan: Plan, name="graph"):
        super().__init__()
        self.plan, self.log = plan, []
        self.calls, self.python = [], []
        self.constants: list[np.ndarray] = []
        self.known: list[np.ndarray] = []  # arrays that never change, of which these may be parts
        name = self.free(name)
        self.places = self.outside(plan.graph)
        outside = [name for name, _ in self.places]
        self.whole(plan)
        addresses = (
            *outside,
            "constants",
            *["callback"][: len(self.python)],
        )
        self.log.clear()  # its Places have it: they would hold each other
        self.addresses, self.name = addresses, name
        self.text = self.finished(name, f"{len(plan.order.steps)} steps.\n\n{plan}", addresses)

    def outside(self, graph) -> list[tuple[str, Place]]:
        """The arena, inputs, results and States, with their names."""
        place_of = lambda spec: place(self.log, *spec)
        found = [("arena", place(self.log, (self.plan.arena_bytes,), np.uint8))]
        found += [(self.free(graph.names[n]), place_of(n.spec)) for n in graph.inputs]
        for i, n in enumerate(graph.outputs):
            name = "result" if len(graph.outputs) == 1 else f"result{i}"
            found.append((self.free(name), place_of(n.spec)))
        read = {state: n for n, state in graph.states.items()}
        for i, state in enumerate(states_of(graph)):
            name = state.name or (graph.names[read[state]] if state in read else f"state{i}")
            found.append((self.free(name), place_of(state.spec)))
        return found

    # ---- steps -------------------------------------------------------------------------------------

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
        """The steps of a plan; `names` are those of its values, with their places. Without `states` it
        is a graph in a step."""
        self.known += [n.value for n in arena.plan.graph.constants]
        arena.fill(inputs, results, {s: x for s, (_, x) in (states or {}).items()})
        for i, (n, run, args) in enumerate(arena.calls):
            ys, blocks = several(args[0]), arena.values.blocks_of(n)
            wanted = f"v{arena.plan.graph.names[n]}"
            called = [self.free(f"{wanted}_{k}" if ys[1:] else wanted) for k in range(len(ys))]
            self.comment(arena, n, called, names)
            for name, block, y in zip(called, blocks, ys):
                names[block] = name, y
                self.write(f"{name} = {self.expression(y)}")
            near = [
                names[b] for x in (n, *n.inputs) for b in arena.values.blocks_of(x) if b in names
            ]
            with self.or_python(i, states is not None):
                self.step(arena, n, run, args, near)
            self.write()
        with self.or_python(len(arena.calls), states is not None):
            for to, x in last_copies(arena, results, states):
                self.copy(to, x, names.values())
        arena.empty()

    @contextmanager
    def or_python(self, i, outermost):
        """What is written inside; or, if that has no machine code, Python does step i, if it is not in
        another: else that one is Python's."""
        before, self.asked = (
            (len(self.lines), len(self.calls), self.margin),
            i if outermost else None,
        )
        try:
            yield
        except (NotNative, ValueError) as why:
            if not outermost:
                raise NotNative(str(why)) from why
            del self.lines[before[0] :], self.calls[before[1] :]
            self.margin, self.asked = before[2], i
            self.ask_python(why)

    def ask_python(self, why):
        if self.asked is None:
            raise NotNative("Python would have to do it")
        self.python.append(self.asked)
        self.write(f"python(callback, {self.asked})  # {why}")

    def step(self, arena, n, run, args, near):
        if isinstance(run, Joined):
            for to, x in run.copies(*args):
                self.copy(to, x, near)
        elif type(run) in WRITE:
            WRITE[type(run)](self, run, several(args[0]), *args[1:])
        elif arena.plan.kernels[n].cost is None:
            raise NotNative("there is only NumPy for it")
        else:
            self.log.clear()
            run(*args)
            self.write_log([*self.log], near)

    def write_log(self, log, near):
        """Calls; what follows a check is inside of it."""
        if not log:
            return
        what, *rest = log
        if isinstance(what, Check):
            of = self.expression(what.array, near), *map(str, what.numbers)
            right = f"{what.name}({', '.join(of)})"
            if rest:
                with self.inside(f"if {right}:"):
                    self.write_log(rest, near)
            with self.inside("else:" if rest else f"if not {right}:"):
                self.ask_python("by the definition")
        else:
            self.write(self.call(what, near))
            self.write_log(rest, near)

    def comment(self, arena, n, results, names):
        """What a step does, and how."""

        def name_of(x):
            if x.value is not None:
                return number(x.value)
            return ", ".join(names[b][0] for b in arena.values.blocks_of(x) if b in names)

        *lines, last = formula(n, results, name_of)
        for text in (*lines, f"{last}  ({arena.plan.kernels[n].name})"):
            self.write(f"# {text}")

    # ---- calls, and what they take -----------------------------------------------------------------

    def call(self, call: Call, near) -> str:
        self.calls.append(call)
        self.known += [x for x in call.numbers if isinstance(x, np.ndarray)]
        y, *xs = call.arrays
        inputs = [*near[1:], *near[:1]]  # y may be written over one: then both have that place
        args = [self.argument(y, near), *(self.argument(x, inputs) for x in xs)]
        args += [self.argument(x) for x in call.numbers]
        f, t = self.kernel(call.f), self.static(call.t)
        first = (f"{f}.in_parts({t}, {call.parts}",) if call.parts > 1 else (f"{f}({t}", "0", "1")
        return f"{', '.join((*first, *args))})"

    def argument(self, x, near=()) -> str:
        if isinstance(x, np.ndarray):
            return self.expression(x, near)
        if type(x) is tuple:
            return f"({', '.join(self.argument(each, near) for each in x)}{',' * (len(x) == 1)})"
        if isinstance(x, tuple):
            return self.record(x)
        if isinstance(x, Static):
            return self.static(x)
        if isinstance(x, np.float32):
            return f"np.float32({x})"
        if type(x) is int or isinstance(x, np.int64):
            return str(x)
        raise NotNative(f"an argument is {x!r}")

    def expression(self, x, near=()) -> str:
        """An array: beside those that have names, or in the arena, or what else comes from outside."""
        if not isinstance(x, Place):
            return self.constant(x)
        without_gaps((x,))
        for name, there in (*near, *self.places):
            start, n = address(x) - address(there), len(there.moves)
            if 0 <= start <= start + x.nbytes <= there.nbytes and x.moves[:n] == there.moves:
                return self.beside(x, name, there, start, x.moves[n:])
        raise NotNative("an array is made on the way")

    def beside(self, x, name, there, start, moves) -> str:
        if start or moves or x.dtype != there.dtype or x.size != there.size:
            terms = [str(start)] * bool(start or not moves) + [f"{by} * {t}" for t, by in moves]
            return self.made(x, " + ".join((name, *terms)))
        return name if x.shape == there.shape else f"{name}.reshape({', '.join(map(str, x.shape))})"

    def made(self, x, where) -> str:
        return f"{MAKERS[x.dtype]}({', '.join((where, *map(str, x.shape)))})"

    def constant(self, x) -> str:
        """What was made on the way is writable: it is other numbers in each call."""
        inside = lambda arrays: any(np.may_share_memory(x, a) for a in arrays)
        if inside(a for _, a in self.places) or x.flags.writeable and not inside(self.known):
            raise NotNative("an array is made on the way")
        x = contiguous(x)  # one number may stand for all
        found = next((i for i, c in enumerate(self.constants) if same(c, x)), len(self.constants))
        self.constants[found:] = self.constants[found:] or [x]
        return self.made(x, f"constant(constants, {found})")

    def named(self, x) -> Place:
        """A constant that has a name."""
        name, there = self.free("rows"), place(self.log, *spec_of(x))
        self.write(f"{name} = {self.constant(x)}")
        self.places.append((name, there))
        return there

    def copy(self, to, x, near=()):
        self.write(f"copy({self.expression(to, near)}, {self.expression(x, near)})")

    def copies(self, to, arrays):
        for y, x in zip(to, arrays):
            self.copy(y, x)

    # ---- graphs in steps ---------------------------------------------------------------------------

    def nested(self, arena, given, results):
        names = {}
        for n, x in zip(arena.plan.graph.inputs, given):
            if isinstance(x, Place):
                name = self.free(arena.plan.graph.names[n])
                self.write(f"{name} = {self.expression(x)}")
                names[arena.values.block[n]] = name, x
        self.block(arena, names, given, results)

    def write_inside(self, run, ys, *xs):
        self.nested(run.arena, xs, ys)

    def write_sides(self, run, ys, p, *xs):
        with self.inside(f"if flag({self.expression(p)}):"):
            self.nested(run.then, xs, ys)
        with self.inside("else:"):
            self.nested(run.otherwise, xs, ys)

    def write_turns(self, run, ys, *xs):
        captured, flag = xs[len(ys) :], f"flag({self.expression(run.flag)})"

        def turn():
            self.write("listen()")
            self.nested(run.body, (*ys, *captured), run.spare)
            self.copies(ys, run.spare)
            self.nested(run.test, (*ys, *captured), (run.flag,))

        self.copies(ys, xs)
        self.nested(run.test, (*ys, *captured), (run.flag,))
        if run.bound is None:
            with self.inside(f"while {flag}:"):
                turn()
        else:
            with self.inside(f"for {self.free('turn')} in range({run.bound}):"):
                with self.inside(f"if {flag}:"):
                    turn()

    def write_rows(self, run, ys, *xs):
        (carry, rows, captured), mine = run.op.parts(xs), ys[: run.op.carries]
        self.copies(mine, carry)
        t = self.free("t")
        rows = [x if isinstance(x, Place) else self.named(x) for x in rows]

        def row(x):
            step = x.nbytes // len(x)
            return x[run.turns[0], ...].moving(t, -step if run.op.reverse else step)

        if run.turns:
            with self.inside(f"for {t} in range({len(run.turns)}):"):
                self.write("listen()")
                given = *mine, *map(row, rows), *captured
                self.nested(run.body, given, (*run.spare, *map(row, ys[run.op.carries :])))
                self.copies(mine, run.spare)


WRITE = {
    Inside: Writer.write_inside,
    Sides: Writer.write_sides,
    Turns: Writer.write_turns,
    Rows: Writer.write_rows,
}


def states_of(graph) -> list:
    """Those that it reads, and those that it only writes to."""
    return [*dict.fromkeys((*graph.states.values(), *graph.updates))]


def last_copies(arena, results, states) -> Iterator[tuple]:
    """(to, from) of what could not be made where it belongs."""
    value = lambda n: arena.fixed[n] if n in arena.fixed else arena.now[n]
    for copy, stash in arena.copies:
        if stash is not None:
            yield stash, value(copy.node)
        elif copy.kind == "output":
            yield results[copy.key], value(copy.node)
    for copy, stash in arena.copies:
        if copy.kind == "state":
            yield states[copy.key][1], value(copy.node) if stash is None else stash


def several(ys) -> tuple:
    return ys if isinstance(ys, tuple) else (ys,)


def address(x) -> int:
    return x.__array_interface__["data"][0]


def same(a, b) -> bool:
    if a is b or spec_of(a) != spec_of(b):
        return a is b
    return a.size < FEW and a.tobytes() == b.tobytes()
