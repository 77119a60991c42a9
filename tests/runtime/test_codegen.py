"""The generated function does what the plan does that it was written from, bit for bit; and to rounding
what the interpreter does. The random graphs take gradients, assign States, and have loops and branches.

TINYINFER_EXAMPLES=2000 pytest tests/runtime/test_codegen.py
"""

import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
from kernel_check import near as near_to
from random_graphs import arrays_for, random_graph
from sample_steps import every_op, steps
from test_random_graphs import Case, near, within_rounding

import tinyinfer as ti
from tinyinfer.core.spec import Specs, spec_of
from tinyinfer.core.tensor import Node
from tinyinfer.graph.control import TupleGet
from tinyinfer.graph.graph import Graph
from tinyinfer.runtime.arena import Arena
from tinyinfer.runtime.generated import Generated, Program
from tinyinfer.runtime.plan import Plan
from tinyinfer.runtime.select import Selection

FAST = Selection()


def program(graph, name="test", **options):
    return Program(Plan(graph, selection=FAST, **options), name)


def bits(arrays):
    return [(spec_of(x), x.tobytes()) for x in arrays]


def both(program, xs):
    """What the plan gives, and what the function."""
    plan, found = program.plan, []
    for arena in Arena(plan), Generated(program, plan):
        results = [np.zeros(*n.spec) for n in plan.graph.outputs]
        states = {s: s.numpy().copy() for s in program.states}
        with np.errstate(all="ignore"):
            arena.run(xs, results, states)
        found.append(bits([*results, *states.values()]))
    return found


@every_op
def test_every_op(name):
    """All samples of an op in one graph; against its definition, too."""
    inputs, outputs, arrays, wanted = [], [], [], []
    for op, xs in steps("float32")[name]:
        nodes = [Node(None, (), spec_of(x)) for x in xs]
        y = Node(op, tuple(nodes), op.infer(*map(spec_of, xs)))
        parts = range(len(y.spec)) if isinstance(y.spec, Specs) else ()
        outputs += [Node(TupleGet(i), (y,), y.spec[i]) for i in parts] or [y]
        inputs += nodes
        arrays += [np.asarray(x, order="C") for x in xs]
        made = op.forward(*xs)
        wanted += made if parts else [made]
    made = program(Graph(tuple(inputs), tuple(outputs)))
    planned, compiled = both(made, arrays)
    assert planned == compiled
    for (spec, numbers), y in zip(compiled, wanted, strict=True):
        near_to(np.frombuffer(numbers, spec.dtype).reshape(spec.shape), y, 1e-5)


PARTS, EXAMPLES = 8, int(os.environ.get("TINYINFER_EXAMPLES", 40))


def asked(program):
    """Of how many steps Python does some."""
    return program.text.count("python(callback")


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs(part):
    for i in range(part, EXAMPLES, PARTS):
        graph = random_graph(random.Random(i).randrange)
        made = program(graph)
        for k in range(3):
            odd = (0.0, np.inf, -np.inf, np.nan, np.nan) if k == 2 else ()
            xs = arrays_for(graph, k, *[odd] * bool(odd))
            planned, compiled = both(made, xs)
            assert planned == compiled, f"graph {i}"


class Compiled:
    """A graph after all passes, as ti.compile runs it."""

    def __init__(self, graph):
        self.run = ti.compile(graph, kernels="fast")

    def run_all(self, xs):
        with ti.no_grad():
            return [y.numpy() for y in self.run(*map(ti.tensor, xs))]

    @property
    def interpreted(self):
        """What is compiled, by the definitions."""
        last = self.run.last
        return SimpleNamespace(
            run_all=lambda xs: last.body.run_all([*xs, *last.prologue.run_all(())])
        )


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs_are_as_interpreted(part):
    """A pass may round elsewhere, where sums cancel: so what small errors do to the graph counts before the
    passes, and after them."""
    for i in range(part, EXAMPLES, PARTS):
        graph = random_graph(random.Random(i).randrange)
        case, made = Case(graph), Compiled(graph)
        for xs, wanted in zip(case.inputs, case.wanted):
            got = case.run(made, xs)
            assert [*map(spec_of, got)] == [*map(spec_of, wanted)], f"graph {i}"
            assert all(map(near, wanted, got)) or any(
                within_rounding(g, xs, case.states, wanted, got) for g in (graph, made.interpreted)
            ), f"graph {i}"
