"""A plan gives what the interpreter gives, also if nothing is left of what is no longer needed.

TINYINFER_EXAMPLES=10000 pytest tests/runtime/test_arena.py
"""

import os
import random
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from lenet import batches, lenet, make
from plans import FLAT, WAYS, Replay, as_interpreted
from random_graphs import arrays_for, random_graph, with_last
from test_random_graphs import identical

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.kernels.kernel import Kernel
from tinyinfer.runtime.arena import Arena
from tinyinfer.runtime.executor import Executor
from tinyinfer.runtime.memory import PLANNERS, SHARED
from tinyinfer.runtime.plan import Plan

EXAMPLES = int(os.environ.get("TINYINFER_EXAMPLES", 80))
PARTS = 8  # run side by side
POLICIES = "memory", "construction", "greedy", "breadth"
PLACERS = ["best", *(p for p in (*PLANNERS, *SHARED) if p != "shared_min_cost_flow")]  # needs SciPy
ALIGNMENTS = 64, 1, 16, 256


def replays(plan, arrays) -> bool:
    """Poisoned, and in an order that threads could find."""
    found = Replay(plan, arrays).poisoned(), Replay(plan, arrays).shuffled(random.Random(0))
    return all(as_interpreted(plan.graph, arrays, got) for got in found)


@pytest.mark.parametrize("part", range(PARTS))
def test_of_random_graphs(part):
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
        choice = lambda xs: xs[pick(len(xs))]
        graph = choice(WAYS)(random_graph(pick))
        note(str(graph))
        for policy in POLICIES:
            plan = Plan(graph, choice(PLACERS), policy, choice(ALIGNMENTS))
            note(str(plan))
            for tame in True, False:
                among = () if tame else ((0.0, np.inf, -np.inf, np.nan, np.nan),)
                assert replays(plan, arrays_for(graph, pick(9), *among))

    check()


# Networks


def mlp():
    return nn.Sequential(
        nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 30), nn.Tanh(), nn.Linear(30, 5)
    )


def inference(model, shape):
    x = np.random.RandomState(1).standard_normal(shape).astype("float32")
    return ti.trace(model.eval(), ti.tensor(x)), [x]


def mlp_training():
    ti.manual_seed(0)
    model = mlp()
    opt = optim.Adam(model.parameters(), 1e-2)

    def step(x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        return loss

    x, y = np.random.RandomState(2).standard_normal((6, 20)).astype("float32"), np.arange(6) % 5
    return step, [x, y], (model, opt)


def lenet_training():
    model, opt, step = make()
    return step, [*batches(1, size=4)[0]], (model, opt)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model, shape", [(lenet, (2, 1, 28, 28)), (mlp, (3, 20))])
def test_inference(model, shape, way):
    graph, arrays = inference(model(), shape)
    for policy in POLICIES:
        assert replays(Plan(way(graph), order=policy), arrays)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("training", [lenet_training, mlp_training])
def test_training(training, way):
    step, arrays, kept = training()
    graph = way(ti.trace(step, *map(ti.tensor, arrays)))
    assert len(graph.updates) > 10 and kept
    for policy in POLICIES:
        assert replays(Plan(graph, order=policy), arrays)


@pytest.mark.parametrize("training", [lenet_training, mlp_training])
def test_training_for_some_steps(training):
    """The States go on from what they became."""
    step, arrays, kept = training()
    graph = ti.optimize(ti.trace(step, *map(ti.tensor, arrays)), FLAT)
    start = {state: state.numpy().copy() for state in graph.updates}
    run, found = Executor(Plan(graph)), {}
    for way in run, graph.run_all:
        losses = [way(arrays)[0].copy() for _ in range(5)]
        found[way] = losses, [state.numpy().copy() for state in start]
        for state, value in start.items():
            state.assign(value)
    (losses, states), (others, after) = found.values()
    assert np.allclose(losses, others, rtol=1e-5) and kept and losses[-1] < losses[0]
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(states, after))


# Plans that are wrong


def spoiled(plan, arrays, wanted) -> bool:
    """Does a replay give something else?"""
    try:
        return not all(map(identical, wanted, Replay(plan, arrays).poisoned()))
    except ti.TinyinferError:  # an index that was overwritten points outside
        return True


@pytest.fixture(scope="module")
def trained():
    step, arrays, kept = lenet_training()
    graph = ti.optimize(ti.trace(step, *map(ti.tensor, arrays)), FLAT)
    for _ in range(3):
        graph.run_all(arrays)  # no State is zero any longer
    yield graph, arrays, Replay(Plan(graph), arrays).poisoned()
    assert kept


def test_a_life_that_is_too_short_is_found(trained):
    graph, *rest = trained
    plan = Plan(graph)
    good, spoilt = plan.buffers, []
    for i, b in [*enumerate(good)][::3]:
        if b.first < b.last:
            plan.buffers = (*good[:i], b._replace(last=b.last - 1), *good[i + 1 :])
            spoilt.append(spoiled(plan, *rest))
    assert len(spoilt) > 20 and all(spoilt)


def test_two_in_one_place_are_found(trained):
    graph, *rest = trained
    plan = Plan(graph)
    buffers, good, spoilt = plan.buffers, plan.placement, []
    for i, j in combinations(range(0, len(buffers), 4), 2):
        a, b = buffers[i], buffers[j]
        if a.first < b.first < a.last and a.size <= b.size:
            offsets = [*good.offsets]
            offsets[i] = offsets[j]  # a is needed after b has been written
            plan.placement = good._replace(offsets=tuple(offsets))
            spoilt.append(spoiled(plan, *rest))
    assert len(spoilt) > 20 and all(spoilt)


def test_a_kernel_that_reads_its_scratch_or_result_is_found():
    graph = ti.trace(lambda x: ti.relu(x * 2.0), ti.zeros(4))
    plan, arrays = Plan(graph), [np.ones(4, "float32")]
    wanted = Replay(plan, arrays).poisoned()
    mul, _ = plan.order.steps

    def adds(y, x, c):
        y += x * c

    plan.kernels[mul] = Kernel("wrong", adds)
    assert spoiled(plan, arrays, wanted)


# What is rare


def states(*shape):
    rng = np.random.RandomState(0)
    value = lambda: rng.standard_normal(shape).astype("float32")
    return [ti.State(value(), True, name) for name in "abc"]


def swap(x, a, b, c):
    (olds := [s + 0.0 for s in (a, b)]) and a.assign(b), b.assign(olds[0])


def exchange(x, a, b, c):
    before = ti.Tensor(a.node)
    a.assign(ti.Tensor(b.node))
    b.assign(before)
    return x + a


def around(x, a, b, c):
    nodes = [ti.Tensor(s.node) for s in (a, b, c)]
    for s, new in zip((a, b, c), (nodes[1].T, nodes[2].T, nodes[0] * 2.0)):
        s.assign(new)
    return x + c


def each_from_the_other(x, a, b, c):
    old = ti.Tensor(a.node)
    a.assign(a + b)
    b.assign(b * old)


def becomes_an_input(x, a, b, c):
    a.assign(x)
    b.assign(x.T)


def becomes_a_constant(x, a, b, c):
    a.assign(np.ones((3, 3), "float32"))
    return x, ti.tensor(np.arange(4.0))


def becomes_a_view(x, a, b, c):
    a.assign(ti.Tensor(b.node).T)
    b.assign(b * 2.0)


def becomes_a_view_of_itself(x, a, b, c):
    a.assign(a.T)
    b.assign(b[::-1])
    return a + b


def stays_what_it_was(x, a, b, c):
    a.assign(ti.Tensor(a.node))
    return a * x


def becomes_what_another_becomes(x, a, b, c):
    y = ti.tanh(x)
    a.assign(y)
    b.assign(y)
    c.assign(y.T)
    return y


def what_it_was_is_given_back(x, a, b, c):
    was = ti.Tensor(a.node)
    a.assign(a * x)
    return was, a, was.T


def an_output_is_an_update(x, a, b, c):
    y = ti.tanh(x) @ a
    a.assign(y)
    b.assign(y + b)
    return y, y, y.T


def outputs_are_inputs(x, a, b, c):
    return x, x.T, a, x.reshape(9), x


def outputs_are_views(x, a, b, c):
    y = ti.tanh(x)
    return y.T, y.reshape(-1), y[1:], y, ti.tanh(x).reshape(-1)


def of_no_numbers(x, a, b, c):
    y = ti.tanh(x[:0])
    return y, ti.concat([y, x]), y.sum(), ti.concat([y, y]) * 2.0, y @ a


def one_number(x, a, b, c):
    y = x.sum()
    return y, ti.tanh(y * 2.0), y.reshape(1, 1), x[0, 0] + y


def branch(x, a, b, c):
    flag = x.sum() > 0.0
    y = ti.cond(flag, lambda: (x * 2.0, ti.tanh(x), a), lambda: (x, x @ a, x.T + b))
    return *y, y[1] * y[2]


def branch_that_assigns(x, a, b, c):
    def then():
        a.assign(a @ x)
        return b.sum()

    return ti.cond(x.sum() > 0.0, then, lambda: b[0, 0]), a.sum()


def no_turns(x, a, b, c):
    return ti.while_loop(lambda i, y: i < 0, lambda i, y: (i + 1, y @ a), ti.tensor(0), x)


def turns(x, a, b, c):
    def body(i, y, z):
        b.assign(b * 0.5 + y)
        return i + 1, z, y @ a

    return *ti.while_loop(lambda i, y, z: i < 5, body, ti.tensor(0), x, x.T), b


def bounded(x, a, b, c):
    body = lambda y, z: (z, y + a)
    return ti.while_loop(lambda y, z: ti.tensor(True), body, x, x.T, bound=3)


def rows(x, a, b, c):
    turn = lambda h, row: (ti.tanh(h @ a + row), (h, row.sum(), a[0]))
    forwards, ys = ti.scan(turn, x[0], x.T)
    back, zs = ti.scan(turn, x[0], x, reverse=True)
    return forwards, *ys, back, *zs


def carries_change_places(x, a, b, c):
    return ti.scan(lambda hs, row: ((hs[1], hs[0], hs[1]), hs[0] + row), (x, x.T, a), x)


def nested(x, a, b, c):
    def turn(h, row):
        inner = lambda i, y: (i + 1, ti.cond(y.sum() > 0.0, lambda: y * 0.5, lambda: y @ a))
        y = ti.while_loop(lambda i, y: i < 3, inner, ti.tensor(0), h)[1]
        c.assign(c + y)
        return y + row, ti.scan(lambda s, r: (s + r, s), row, y)[1]

    return *ti.scan(turn, x, x.T), c


def gradient_through_a_loop(x, a, b, c):
    loss = ti.scan(lambda h, row: (ti.tanh(h @ a + row), h), x[0], x)[0].sum()
    return loss, ti.grad(loss, a)


RARE = [
    swap, exchange, around, each_from_the_other, becomes_an_input, becomes_a_constant,
    becomes_a_view, becomes_a_view_of_itself, stays_what_it_was, becomes_what_another_becomes,
    what_it_was_is_given_back, an_output_is_an_update, outputs_are_inputs, outputs_are_views,
    of_no_numbers, one_number, branch, branch_that_assigns, no_turns, turns, bounded, rows,
    carries_change_places, nested, gradient_through_a_loop,
]  # fmt: skip
X = np.random.RandomState(5).standard_normal((3, 3)).astype("float32")


@pytest.mark.parametrize("x", [X, -X, X.T, X[::-1, ::-1], np.broadcast_to(X[:1], (3, 3))])
@pytest.mark.parametrize("program", RARE)
def test_what_is_rare(program, x):
    kept = states(3, 3)
    traced = ti.trace(partial(with_last, program, kept), ti.tensor(X))
    for way in WAYS:
        graph = way(traced)
        for policy in POLICIES:
            assert replays(Plan(graph, order=policy), [x])
            again(Executor(Plan(graph, order=policy)), graph, x, kept)


def again(run, graph, x, kept):
    """Three calls: States go on from where they were."""
    found, start = [], [s.numpy().copy() for s in kept]
    for way in run, graph.run_all:
        with np.errstate(all="ignore"):
            outputs = [y.copy() for _ in range(3) for y in way([x])]
        found.append([*outputs, *(s.numpy().copy() for s in kept)])
        for s, value in zip(kept, start):
            s.assign(value)
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in zip(*found))


def test_inputs_and_constants_are_not_written_to():
    for program in RARE:
        kept = states(3, 3)
        graph = ti.optimize(ti.trace(partial(with_last, program, kept), ti.tensor(X)))
        before = [n.value.copy() for n in graph.constants]
        x = X.copy()
        Executor(Plan(graph))([x])
        assert np.array_equal(x, X)
        assert all(np.array_equal(n.value, v) for n, v in zip(graph.constants, before))


def test_a_loop_that_fails_changes_no_state():
    s, table = ti.State(np.zeros(2), name="s"), ti.tensor(np.arange(4.0))

    def program(i):
        turn = lambda c, i: (c + ti.take(table, i), None)
        s.assign(ti.scan(turn, s, i)[0])

    graph = ti.optimize(ti.trace(program, ti.tensor(np.array([0, 1]))), FLAT)
    run = Executor(Plan(graph))
    with pytest.raises(ti.RangeError, match=r"there is no 9 .*; in %\d+ = scan\("):
        run([np.array([3, 9])])
    assert s.tolist() == [0, 0]
    run([np.array([3, 2])])
    assert s.tolist() == [5, 5]


def test_an_error_names_the_step_and_leaves_the_arena_usable():
    table = ti.tensor(np.arange(4.0))
    graph = ti.trace(lambda i: ti.take(table * 2.0, i) + 1.0, ti.tensor(np.array([0, 1])))
    plan = Plan(graph)
    arena, result = Arena(plan), [np.empty(2)]
    with pytest.raises(ti.RangeError, match=r"in %\d+ = index\(.*, at test_arena.py:\d+$"):
        arena.run([np.array([3, 9])], result, {})
    arena.run([np.array([3, 1])], result, {})
    assert result[0].tolist() == [7, 3]


def test_a_run_is_watched():
    graph = ti.trace(lambda x: ti.relu(x @ x).sum(), ti.tensor(X))
    seen, result = [], [np.empty((), "float32")]
    arena = Arena(Plan(graph))
    arena.run([X], result, {}, watch=lambda *event: seen.append(event))
    assert [n for n, *_ in seen] == [*arena.plan.order.steps]
    assert all(lane == 0 and start <= end for _, lane, start, end in seen)
    assert arena.now is None and all(args[i] is None for args, i, _ in arena.holes)
