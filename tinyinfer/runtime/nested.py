"""Steps that hold graphs. Each of these graphs has a plan and an arena of its own; and the arena is
scratch memory of the step, so that it lies in the arena around it."""

import numpy as np

from ..core.spec import Spec
from ..graph.control import Cond, Scan, While, up_to
from ..graph.fused import Fused
from ..kernels.kernel import Kernel, kernel
from .arena import Arena
from .plan import Plan


class Nested(Kernel):
    """`run(*scratch)` gives the function of y and xs: in scratch memory that stays where it is, the
    arenas are laid out once."""

    def bind(self, scratch):
        return self.run(*scratch), ()


def room(*plans) -> Spec:
    """For the arena of one plan, or of several that run one after the other."""
    return Spec((max(p.arena_bytes for p in plans),), np.dtype(np.uint8))


@kernel(Fused)
def fused(op, y, *xs):
    plan = Plan(op.graph)

    def start(memory):
        inside = Arena(plan, memory)
        return lambda y, *xs: inside.run(xs, (y,), {})

    return Nested("nested", start, (room(plan),))


@kernel(Cond)
def cond(op, ys, p, *xs):
    plans = Plan(op.otherwise), Plan(op.then)

    def start(memory):
        sides = [Arena(plan, memory) for plan in plans]
        return lambda ys, p, *xs: sides[bool(p)].run(xs, ys, {})

    return Nested("nested", start, (room(*plans),))


@kernel(While)
def while_loop(op, ys, *xs):
    plans = Plan(op.test), Plan(op.body)

    def start(memory, flag, *spare):
        test, body = (Arena(plan, memory) for plan in plans)

        def run(ys, *xs):  # what is carried goes to and fro between ys and spare
            captured, now, then = xs[len(ys) :], ys, spare
            copy(now, xs)
            for _ in up_to(op.bound):
                test.run((*now, *captured), (flag,), {})
                if not flag:
                    break
                body.run((*now, *captured), then, {})
                now, then = then, now
            if now is spare:
                copy(ys, now)

        return run

    return Nested("nested", start, (room(*plans), Spec((), np.dtype(bool)), *ys))


@kernel(Scan)
def scan(op, ys, *xs):
    plan, turns = Plan(op.body), range(op.turns(*xs))[:: -1 if op.reverse else 1]

    def start(memory, *spare):
        body = Arena(plan, memory)

        def run(ys, *xs):
            (carry, rows, captured), mine = op.parts(xs), ys[: op.carries]
            now, then = mine, spare
            copy(now, carry)
            for t in turns:
                given = *now, *(x[t, ...] for x in rows), *captured
                body.run(given, (*then, *(y[t, ...] for y in ys[op.carries :])), {})
                now, then = then, now
            if now is spare:
                copy(mine, now)

        return run

    return Nested("nested", start, (room(plan), *ys[: op.carries]))


def copy(to, arrays):
    for y, x in zip(to, arrays):
        np.copyto(y, x)
