"""Steps that hold graphs. Each of these graphs has a plan and an arena of its own; and the arena is
scratch memory of the step, so that it lies in the arena around it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..core.spec import Spec
from ..graph.control import Cond, Scan, While, up_to
from ..graph.fused import Fused
from ..graph.passes import fold
from ..kernels.kernel import Kernel, kernel
from .arena import Arena
from .plan import Plan
from .select import WITHIN, select


class Nested(Kernel):
    """`run(*scratch)` gives the function of y and xs: in scratch memory that stays where it is, the
    arenas are laid out once."""

    def bind(self, scratch):
        return self.run(*scratch), ()


def inner_plan(graph) -> Plan:
    """As the graph around it is planned; weights that never change are packed now, and not in each run."""
    selection = WITHIN.selection
    return Plan(fold(select(graph, selection)), selection=selection)


def room(*plans) -> Spec:
    """For the arena of one plan, or of several that run one after the other."""
    return Spec((max(p.arena_bytes for p in plans),), np.dtype(np.uint8))


@dataclass(frozen=True)
class Inside:
    arena: Arena

    def __call__(self, y, *xs):
        self.arena.run(xs, y if isinstance(y, tuple) else (y,), {})


@dataclass(frozen=True)
class Sides:
    """if p: then(*xs), else: otherwise(*xs)"""

    otherwise: Arena
    then: Arena

    def __call__(self, ys, p, *xs):
        (self.then if p else self.otherwise).run(xs, ys, {})


@dataclass(frozen=True)
class Turns:
    """while test(*carry, *captured): carry = body(*carry, *captured)"""

    test: Arena
    body: Arena
    flag: np.ndarray  # what the test gave
    spare: tuple[
        np.ndarray, ...
    ]  # a place for what is carried; the other one is that of the results
    bound: int | None

    def __call__(self, ys, *xs):
        captured, now, then = xs[len(ys) :], ys, self.spare
        copy(now, xs)
        for _ in up_to(self.bound):
            self.test.run((*now, *captured), (self.flag,), {})
            if not self.flag:
                break
            self.body.run((*now, *captured), then, {})
            now, then = then, now
        if now is self.spare:
            copy(ys, now)


@dataclass(frozen=True)
class Rows:
    """for t in turns: carry, y[t] = body(*carry, *x[t], *captured)"""

    op: Scan
    turns: range
    body: Arena
    spare: tuple[np.ndarray, ...]

    def __call__(self, ys, *xs):
        (carry, rows, captured), mine = self.op.parts(xs), ys[: self.op.carries]
        now, then = mine, self.spare
        copy(now, carry)
        for t in self.turns:
            given = *now, *(x[t, ...] for x in rows), *captured
            self.body.run(given, (*then, *(y[t, ...] for y in ys[self.op.carries :])), {})
            now, then = then, now
        if now is self.spare:
            copy(mine, now)


class InSteps(Nested):
    """Of a fused step: planned only if there is no better one, and by NumPy, for in machine code it
    would be a kernel of its own."""

    name = "nested"

    def __init__(self, graph):
        self.__dict__["graph"] = graph

    @cached_property
    def plan(self):
        return Plan(self.graph)

    @property
    def scratch(self):
        return (room(self.plan),)

    def run(self, memory):
        return Inside(Arena(self.plan, memory))


@kernel(Fused)
def fused(op, y, *xs):
    return InSteps(op.graph)


@kernel(Cond)
def cond(op, ys, p, *xs):
    plans = inner_plan(op.otherwise), inner_plan(op.then)
    start = lambda memory: Sides(*[Arena(plan, memory) for plan in plans])
    return Nested("nested", start, (room(*plans),))


@kernel(While)
def while_loop(op, ys, *xs):
    plans = inner_plan(op.test), inner_plan(op.body)

    def start(memory, flag, *spare):
        return Turns(*[Arena(plan, memory) for plan in plans], flag, spare, op.bound)

    return Nested("nested", start, (room(*plans), Spec((), np.dtype(bool)), *ys))


@kernel(Scan)
def scan(op, ys, *xs):
    plan, turns = inner_plan(op.body), range(op.turns(*xs))[:: -1 if op.reverse else 1]
    start = lambda memory, *spare: Rows(op, turns, Arena(plan, memory), spare)
    return Nested("nested", start, (room(plan), *ys[: op.carries]))


def copy(to, arrays):
    for y, x in zip(to, arrays):
        np.copyto(y, x)
