"""Graphs to plan, and runs of a plan in which nothing is left of what is no longer needed."""

import random

import numpy as np
from random_graphs import random_graph
from test_random_graphs import identical, near, results_of, within_rounding

import tinyinfer as ti
from tinyinfer.graph.passes import STANDARD, fuse
from tinyinfer.kernels.kernel import numpy_kernel_of
from tinyinfer.runtime.arena import Arena
from tinyinfer.runtime.order import Work
from tinyinfer.runtime.values import Values

FLAT = [run for run in STANDARD if run is not fuse]
WAYS = (lambda g: g), (lambda g: ti.optimize(g, FLAT)), ti.optimize


def work_of(graph) -> Work:
    values = Values(graph)
    of_numpy = lambda n: numpy_kernel_of(n.op, n.spec, *[x.spec for x in n.inputs])
    return Work(values, {n: of_numpy(n) for n in values.work})


def some_graphs(count, most=12, seed=0):
    """As traced, or after some passes, or fused."""
    for i in range(count):
        yield WAYS[i % 3](random_graph(random.Random(seed + i).randrange, most))


def states_of(graph) -> list:
    return [*dict.fromkeys((*graph.states.values(), *graph.updates))]


def garbage(spec):
    y = np.empty(spec.shape, spec.dtype)
    y.reshape(-1).view(np.uint8).fill(0xFF)
    return y


class Replay:
    """A plan in an arena, with memory of its own for results and States: they stay what they are."""

    def __init__(self, plan, arrays):
        self.plan, self.arena, self.arrays = plan, Arena(plan), arrays
        self.results = [garbage(n.spec) for n in plan.graph.outputs]
        self.states = {s: s.numpy().copy() for s in states_of(plan.graph)}
        self.calls = {n: (run, args) for n, run, args in self.arena.calls}
        self.arena.fill(arrays, self.results, self.states)

    def value(self, n):
        return self.arena.fixed[n] if n in self.arena.fixed else self.arena.now[n]

    def poisoned(self):
        """The outputs and States. Before each stage all bytes that no living buffer covers become NaN;
        the steps of a stage run the wrong way round, as it must not matter."""
        for i, stage in enumerate(self.plan.order.stages):
            self.poison(i)
            for n in reversed(stage):
                self.step(n)
        self.poison(len(self.plan.order.stages))
        return self.finished()

    def poison(self, stage):
        dead = np.ones(self.arena.memory.size, bool)
        for b, offset in zip(self.plan.buffers, self.plan.placement.offsets):
            if b.first < stage <= b.last:
                dead[offset : offset + b.size] = False
        self.arena.memory[dead] = 0xFF

    def shuffled(self, rng):
        """The same, in any order that the threads of a run could have found."""
        left = {n: set(before) for n, before in self.plan.before.items()}
        while left:
            n = rng.choice([n for n, before in left.items() if not before])
            self.step(n)
            del left[n]
            for before in left.values():
                before.discard(n)
        return self.finished()

    def step(self, n):
        run, args = self.calls[n]
        with np.errstate(all="ignore"):
            run(*args)

    def finished(self):
        self.arena.finish(self.results, self.states)
        self.arena.empty()
        return [*self.results, *self.states.values()]


def as_interpreted(graph, arrays, got) -> bool:
    """Is this what the interpreter gives, bit for bit or to rounding?"""
    states = states_of(graph)
    wanted = results_of(graph, arrays, states)
    assert [(x.shape, x.dtype) for x in wanted] == [(x.shape, x.dtype) for x in got]
    if all(map(identical, wanted, got)) or all(map(near, wanted, got)):
        return True
    return within_rounding(graph, arrays, states, wanted, got)
