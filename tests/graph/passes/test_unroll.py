"""A scan, turn by turn: only data is moved otherwise."""

import numpy as np
import pytest
from nets import SEEDS, count, keeps, network, numbers

import tinyinfer as ti
from tinyinfer.graph.passes.unroll import unroll

RNG = np.random.RandomState(0)
w = ti.State(numbers(RNG, 3, 3), name="w")


def recurrent(reverse=False):
    """A carry that is a pair, two sequences, a captured State, and two things noted."""

    def fn(h, xs, ks):
        turn = lambda c, x: ((ti.tanh(c[0] @ w + x[0]), c[1] + x[1]), (c[0].sum(), c[1] * 2))
        (h, n), ys = ti.scan(turn, (h, ti.tensor(0)), (xs, ks), reverse)
        return (h, n, *ys)

    return fn


def examples(n):
    return [numbers(RNG, 2, 3), numbers(RNG, n, 2, 3), RNG.randint(0, 9, n)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_all_turns(n, reverse):
    xs = examples(n)
    graph = ti.trace(recurrent(reverse), *map(ti.tensor, xs))
    after = keeps(unroll, graph, xs)
    assert not count(after, "scan") and count(after, "matmul") == n


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("turns", [2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8])
def test_some_turns_at_a_time(n, turns, reverse):
    xs = examples(n)
    graph = ti.trace(recurrent(reverse), *map(ti.tensor, xs))
    after = keeps(lambda g: unroll(g, turns=turns), graph, xs, again=False)
    scans = [s for s in after.steps if s.op.control]
    assert [s.op.turns(*[x.spec for x in s.inputs]) for s in scans] == [n // turns] * (n >= turns)
    assert count(after, "matmul") == n % turns
    assert all(count(s.op.body, "matmul") == turns for s in scans)


@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed):
    assert not count(keeps(unroll, *network(seed)), "scan")


def test_a_way_back():
    def step(h, xs, ks):
        return ti.grad(recurrent()(h, xs, ks)[0].sum(), [h, xs])

    xs = examples(4)
    graph = ti.trace(step, *[ti.tensor(x, requires_grad=x.dtype.kind == "f") for x in xs])
    assert not count(keeps(unroll, graph, xs), "scan")


def test_no_more_steps_than_the_limit():
    xs = examples(7)
    graph = ti.trace(recurrent(), *map(ti.tensor, xs))
    (scan,) = [n for n in graph.steps if n.op.control]
    steps = 7 * len(scan.op.body.steps)
    assert not count(unroll(graph, limit=steps), "scan")
    assert unroll(graph, limit=steps - 1).steps == graph.steps


def test_loops_in_loops():
    def fn(x):
        inner = lambda h, r: (h * r, h + 1.0)
        outer = lambda h, rows: (ti.scan(inner, h, rows)[0], h.sum())
        return ti.scan(outer, x[0, 0], x)

    x = numbers(RNG, 3, 2, 4)
    graph = ti.trace(fn, ti.tensor(x))
    assert count(keeps(unroll, graph, [x]), "mul") == 6
    half = keeps(lambda g: unroll(g, limit=4), graph, [x])
    (scan,) = [n for n in half.steps if n.op.control]
    assert not count(scan.op.body, "scan")


def test_what_does_not_move():
    """A body that hands on what it got, and notes what it has from outside."""
    x = numbers(RNG, 3, 2)
    fn = lambda x: ti.scan(lambda h, r: (h, (r, x[0] * 1.0)), x[0], x)
    keeps(unroll, ti.trace(fn, ti.tensor(x)), [x])


def test_long():
    x = np.full((5_000, 2), 0.5, np.float32)
    graph = ti.trace(lambda x: ti.scan(lambda h, r: (h * 0.5 + r, h), x[0], x), ti.tensor(x))
    after = keeps(lambda g: unroll(g, limit=10**6), graph, [x])
    assert count(after, "mul") == 5_000


def test_refused():
    graph = ti.trace(lambda x: x, ti.ones(2))
    for wrong in 1, 0, 2.5:
        with pytest.raises(ti.ArgumentError, match="a whole number from 2 on"):
            unroll(graph, turns=wrong)
