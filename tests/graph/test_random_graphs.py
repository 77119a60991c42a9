"""Every pass, on random graphs: the results are those of the graph before. And so are those of the
graph that is read back from its text.

Exactly, where a pass only moves numbers or drops work; else to rounding. How far rounding carries
is not guessed but tried: where results differ by more than the last bits, the graph before is run
again and again with small random errors in every step. What a pass may change is what these change.
To fold rounds: NumPy's powers depend on how many numbers stand side by side.
(Vignes 1993, "A stochastic arithmetic for reliable scientific computation".)

TINYINFER_EXAMPLES=2000 pytest tests/graph/test_random_graphs.py
"""

import os
import random
from collections import Counter
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from random_graphs import arrays_for, random_graph, small_graphs

import tinyinfer as ti
from tinyinfer.core.op import Op
from tinyinfer.core.spec import spec_of
from tinyinfer.graph.parse import parse_graph
from tinyinfer.graph.passes import PASSES, STANDARD, split
from tinyinfer.graph.text import state_names, values

EXAMPLES = int(os.environ.get("TINYINFER_EXAMPLES", 80))
PARTS = 8  # run side by side
INPUTS = 2  # for each graph, and one with infinities
GRAPHS = 200  # to find something to do in
SHAKE, TRIES = 4, 20  # errors in the last bit of a step; runs with such errors

EXACT = {"strip", "cse", "fuse", "dead", "move", "unroll", "freeze", "in_place", "together"}
ROUNDING = {"fold", "simplify", "layout", "batch_norm", "strength", "turn"}


def test_every_pass_says_whether_it_rounds():
    assert EXACT | ROUNDING == set(PASSES) and not EXACT & ROUNDING


def results_of(graph, xs, states, mode=None):
    """The outputs for the arrays, and what the States are then; they are put back."""
    held = [s.numpy() for s in states]
    with np.errstate(all="ignore"), mode or nullcontext():
        outputs = graph.run_all(xs)
    after = [s.numpy() for s in states]
    for state, value in zip(states, held):
        state.assign(value)
    return [*outputs, *after]


def identical(a, b) -> bool:
    """Bit for bit, but for what is not a number."""
    bare = lambda x: np.where(np.isnan(x), 0, x).tobytes() if x.dtype.kind == "f" else x.tobytes()
    return bare(a) == bare(b) and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def near(a, b) -> bool:
    """Up to the last bits of the largest number."""
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    size = np.max(np.abs(a), where=np.isfinite(a), initial=0)
    return np.allclose(a, b, rtol=0, atol=4 * np.finfo(a.dtype).eps * size, equal_nan=True)


@contextmanager
def shaken(rng):
    """While it is open, every step that computes something is a little wrong."""
    exact = Op.compute

    def compute(op, *xs):
        y = exact(op, *xs)
        if op.view or op.control or not op.flops(spec_of(y), *map(spec_of, xs)):
            return y
        return shake(y, rng)

    Op.compute = compute
    try:
        yield
    finally:
        Op.compute = exact


def shake(x, rng):
    if x.dtype.kind != "f":
        return x
    error = rng.uniform(-1, 1, x.shape) * SHAKE * np.finfo(x.dtype).eps
    return np.asarray(x * (1 + error)).astype(x.dtype)


def within_rounding(graph, xs, states, wanted, got) -> bool:
    """Is nothing further from what was wanted than small errors in the steps of the graph lead?"""
    runs = []
    for i in range(TRIES):
        rng = np.random.RandomState(i)
        runs.append(results_of(graph, [shake(x, rng) for x in xs], states, shaken(rng)))
    return all(map(reached, wanted, got, zip(*runs)))


def reached(wanted, got, others) -> bool:
    """What is infinite or no number stays so, where it is in spite of all errors."""
    if wanted.dtype.kind != "f":
        return np.all((wanted == got) | np.any([x != wanted for x in others], 0))
    same = lambda x: (x == wanted) | np.isnan(x) & np.isnan(wanted)
    with np.errstate(all="ignore"):
        error, *errors = (np.abs(x.astype("float64") - wanted) for x in (got, *others))
    far = np.max(errors, 0) + np.finfo(wanted.dtype).smallest_subnormal
    unsure = ~np.isfinite(far) & ~np.all([same(x) for x in others], 0)
    return np.all(same(got) | (error <= 4 * far) | unsure)


class Case:
    """A graph, arrays for it, and what they give."""

    def __init__(self, graph):
        self.graph, self.states = graph, [*dict.fromkeys((*graph.states.values(), *graph.updates))]
        self.inputs = [arrays_for(graph, i) for i in range(INPUTS)]
        self.inputs.append(arrays_for(graph, INPUTS, (0.0, np.inf, -np.inf, np.nan, np.nan)))
        self.wanted = [self.run(graph, xs) for xs in self.inputs]

    def run(self, graph, xs):
        return results_of(graph, xs, self.states)

    def check(self, graph, exact):
        for xs, wanted in zip(self.inputs, self.wanted):
            got = self.run(graph, xs)
            assert list(map(spec_of, wanted)) == list(map(spec_of, got))
            if exact:
                assert all(map(identical, wanted, got))
            elif not all(map(near, wanted, got)):
                assert within_rounding(self.graph, xs, self.states, wanted, got)


class Halves:
    """What split makes of a graph: one runs after the other."""

    def __init__(self, graph):
        self.prologue, self.body = split(graph)

    def run_all(self, xs):
        return self.body.run_all([*xs, *self.prologue.run_all(())])


def passes_keep_values(graph, some=()):
    case = Case(graph)
    ways = {name: [name] for name in PASSES} | {"standard": STANDARD, "some": some}
    for way, passes in ways.items():
        try:
            after = ti.optimize(graph, passes).verify()
            case.check(after, EXACT.issuperset(getattr(p, "__name__", p) for p in passes))
        except Exception as error:
            error.add_note(f"{way}: {passes}")
            raise
    case.check(Halves(graph), exact=True)
    case.check(graph, exact=True)  # nothing has written into it


def is_again(graph, other):
    """The same, with States of its own."""
    assert str(graph) == str(other)
    xs = arrays_for(graph, 0)
    assert all(map(identical, *(results_of(g, xs, [*state_names(g)]) for g in (graph, other))))


@pytest.mark.parametrize("part", range(PARTS))
def test_passes_keep_values(part):
    @seed(part)
    @settings(
        max_examples=-(-EXAMPLES // PARTS),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data):
        pick = lambda n: data.draw(st.integers(0, n - 1)) if n > 1 else 0
        graph = random_graph(pick)
        names = sorted(PASSES)
        some = [names[pick(len(names))] for _ in range(3)]
        some.sort(key="in_place".__eq__)  # its marks hold for the order that the graph then has
        note(str(graph))
        passes_keep_values(graph, some)
        for g in graph, ti.optimize(graph):
            is_again(g, parse_graph(str(g), values(g)))

    check()


def test_files_keep_values(tmp_path):
    for i in range(20):
        graph = ti.optimize(random_graph(random.Random(i).randrange))
        graph.save(tmp_path / "graph.tig")
        is_again(graph, ti.load_graph(tmp_path / "graph.tig"))


@pytest.mark.parametrize("held", ["inputs", "constants", 0, 1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8"])
def test_equations_keep_values(dtype, held):
    for graph in small_graphs(dtype, held):
        passes_keep_values(graph)


def test_every_pass_has_something_to_do():
    changed = Counter(dict.fromkeys(PASSES, 0))
    for i in range(GRAPHS):
        graph = random_graph(random.Random(i).randrange)
        changed.update(name for name, run in PASSES.items() if ops(run(graph)) != ops(graph))
    print(f"of {GRAPHS} graphs each pass changed:", dict(changed))
    assert min(changed.values()) >= GRAPHS // 50


def ops(graph):
    return Counter(n.op for n in (*graph.steps, *graph.states))
