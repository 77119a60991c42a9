import random

import numpy as np
import pytest
from agree import agree, chain, every_step, inside, ops
from random_graphs import arrays_for, random_graph

import tinyinfer as ti
from tinyinfer.graph.graph import Graph
from tinyinfer.graph.passes.dead import dead
from tinyinfer.graph.passes.fold import fold

R = np.random.RandomState(0)
x = R.randn(4, 3).astype("f")
yes, no = np.array(True), np.array(False)


def alive(fn, *arrays, before=()):
    graph = ti.trace(fn, *map(ti.tensor, arrays))
    for run in before:
        graph = run(graph)
    return agree(dead, graph, *arrays, exact=True)


def control(graph):
    return next(n for n in graph.steps if n.op.control)


def counts(graph):
    """How many inputs and outputs its branch or loop has."""
    n = control(graph)
    return len(n.inputs), len(n.spec)


# Branches


@pytest.mark.parametrize("flag", [True, False])
def test_a_known_condition(flag):
    fn = lambda x: ti.cond(ti.tensor(flag), lambda: (ti.exp(x), x * 2), lambda: (ti.sin(x), x))[0]
    after = alive(fn, x)
    assert ops(after) == ("exp" if flag else "sin")


def test_a_condition_that_is_folded():
    fn = lambda x: ti.cond(ti.tensor(2.0) > ti.tensor(1.0), lambda: ti.exp(x), lambda: x)
    assert ops(alive(fn, x, before=[fold])) == "exp"


def test_a_known_condition_inside():
    def fn(x, p):
        inner = lambda h: ti.cond(
            ti.tensor(True), lambda: ti.cond(p, lambda: h + 1, lambda: h), lambda: h
        )
        return ti.scan(lambda h, row: (inner(h) * row, None), x[0], x)[0]

    after = alive(fn, x, yes)
    (body,) = (n.op.body for n in after.steps if n.op.name == "scan")
    assert ops(body) == "cond tuple_get mul" and inside(body) == ["add", ""]


@pytest.mark.parametrize("flag", [yes, no])
def test_branches_that_return_the_same(flag):
    def fn(x, p):
        f = lambda: (ti.exp(x) * 2, x, x[0])
        return ti.cond(p, f, f)

    assert ops(alive(fn, x, flag)) == "exp mul slice reshape"


@pytest.mark.parametrize("flag", [yes, no])
def test_what_both_branches_hand_on(flag):
    def fn(x, p):
        y, c = x * 2, ti.tensor(3.0)
        return ti.cond(p, lambda: (x, y + 1, y, c, x), lambda: (x, y - 1, y, c, y))

    after = alive(fn, x, flag)
    assert counts(after) == (3, 2) and inside(after) == ["add", "sub"]
    assert after.outputs[0] is after.inputs[0] and after.outputs[3] in after.constants


@pytest.mark.parametrize("flag", [yes, no])
def test_what_is_not_asked_of_a_branch(flag):
    def fn(x, y, p):
        then = lambda: (ti.exp(x), ti.sin(y), x + y)
        otherwise = lambda: (x * 2, y * 2, x - y)
        return ti.cond(p, then, otherwise)[1]

    after = alive(fn, x, x + 1, flag)
    assert ops(after) == "cond tuple_get" and inside(after) == ["sin", "mul"]
    assert counts(after) == (2, 1)


def test_what_becomes_the_same_when_less_is_asked():
    fn = lambda x, p: ti.cond(p, lambda: (ti.exp(x), x), lambda: (ti.exp(x), x + 1))[0]
    assert ops(alive(fn, x, yes)) == "exp"


def test_branches_that_differ_stay():
    graph = ti.trace(
        lambda x, p: ti.cond(p, lambda: x + 0.0, lambda: x + -0.0), *map(ti.tensor, (x, yes))
    )
    assert dead(graph).nodes == graph.nodes


# Loops


def test_a_loop_that_is_never_entered():
    fn = lambda x: ti.while_loop(
        lambda a, b: ti.tensor(False), lambda a, b: (a * 2, b + a), x, x + 1
    )
    assert ops(alive(fn, x)) == "add"


def test_a_test_that_is_folded():
    fn = lambda x: ti.while_loop(lambda a: ti.tensor(1) > ti.tensor(2), lambda a: a * 2, x)
    assert ops(alive(fn, x, before=[fold])) == ""


def test_outputs_of_a_scan_that_nobody_reads():
    turn = lambda h, row: (h * 2 + row, (ti.exp(h), ti.sin(row)))
    scan = lambda x, y: ti.scan(turn, y, x)
    assert inside(alive(lambda x, y: scan(x, y)[0], x, x[0])) == ["mul add"]
    after = alive(lambda x, y: scan(x, y)[1][1], x, x[0])
    assert inside(after) == ["sin"] and counts(after) == (1, 1)


def test_carries_that_only_feed_themselves():
    def fn(x, y):
        turn = lambda h, row: (
            (h[0] * 2 + row, ti.exp(h[1]), h[2] + h[0], h[3] + h[4], h[4] + 1),
            h[1],
        )
        return ti.scan(turn, (y,) * 5, x)[0]

    first = alive(lambda x, y: fn(x, y)[0], x, x[0])
    assert inside(first) == ["mul add"] and counts(first) == (2, 1)
    third = alive(lambda x, y: fn(x, y)[2], x, x[0])  # is made of the first
    assert counts(third) == (3, 2)
    fourth = alive(
        lambda x, y: fn(x, y)[3], x, x[0]
    )  # of the fifth; and something counts the turns
    assert inside(fourth) == ["add add"] and counts(fourth) == (3, 2)


def test_a_chain_of_carries():
    """The last is made of the one before, and so on: all are needed but the loop beside them."""

    def fn(x):
        turn = lambda h, row: ((row, h[0], h[1], h[2], h[4] * 2), None)
        return ti.scan(turn, (x[0],) * 5, x)[0][3]

    assert counts(alive(fn, x)) == (5, 4)


def test_carries_of_a_loop():
    def fn(x):
        test, body = lambda i, a, b, c: i < 3, lambda i, a, b, c: (i + 1, a * 2, ti.exp(b), c + a)
        return ti.while_loop(test, body, ti.tensor(0), x, x, x)

    assert inside(alive(lambda x: fn(x)[1], x)) == ["less", "add mul"]
    assert inside(alive(lambda x: fn(x)[2], x)) == ["less", "add exp"]
    assert inside(alive(lambda x: fn(x)[3], x)) == ["less", "add mul add"]
    assert inside(alive(lambda x: fn(x)[0], x)) == ["less", "add"]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_carry_that_no_turn_changes(reverse):
    def fn(x, k):
        turn = lambda h, row: ((h[0] * h[1] + row, h[1], h[2]), h[1])
        return ti.scan(turn, (x[0], k, k + 1), x, reverse)

    after = alive(fn, x, x[1])
    n = control(after)
    assert n.op.carries == 1 and len(n.inputs) == 3 and len(n.spec) == 2
    assert after.outputs[1] is after.inputs[1]


def test_a_carry_that_no_turn_of_a_loop_changes():
    fn = lambda x, k: ti.while_loop(
        lambda a, k, i: i < 3, lambda a, k, i: (a * k, k, i + 1), x, k, ti.tensor(0)
    )
    after = alive(fn, x, x + 1)
    assert control(after).op.carries == 2 and after.outputs[1] is after.inputs[1]


def test_inputs_that_are_not_used():
    def fn(x, y, k):
        turn = lambda h, rows: (h + rows[0], None)
        return (
            ti.scan(turn, x[0] * 0, (x, y))[0]
            + ti.while_loop(lambda a, b: a.sum() < 9, lambda a, b: (a + 1, b), k, k)[0]
        )

    after = alive(fn, x, x * 2, np.float32([1, 2, 3]))
    assert [len(n.inputs) for n in after.steps if n.op.control] == [2, 1]


def test_the_smallest_sequence_counts_the_turns():
    fn = lambda x, n: ti.scan(lambda h, rows: (h * 2, None), x[0], (x, n, x))[0]
    after = alive(fn, x, np.arange(4))
    assert (
        ops(after) == "slice reshape scan tuple_get" and control(after).inputs[1] is after.inputs[1]
    )


# One in the other


def test_what_is_not_asked_of_what_is_nested():
    def fn(x, y, p):
        def turn(h, row):
            a, b, c = ti.cond(
                p, lambda: (h[0] + row, h[1] * 2, row), lambda: (h[0], ti.exp(h[1]), h[0])
            )
            return (a, b), (c, b)

        (a, _), (c, _) = ti.scan(turn, (x[0], y), x)
        return a

    after = alive(fn, x, x[1], yes)
    assert counts(after) == (3, 1)  # a carry, the sequence, p
    body = control(after).op.body
    assert ops(body) == "cond tuple_get" and inside(body) == ["add", ""]


def test_a_carry_through_two_loops_that_feeds_itself():
    """The outer one hands b to the inner one, and takes it back: nobody reads it."""

    def fn(x):
        def outer(h, row):
            inner = lambda g, r: ((g[0] + r, g[1] * 2), None)
            return ti.scan(inner, h, x)[0], None

        return ti.scan(outer, (x[0], x[1]), x)[0][0]

    after = alive(fn, x)
    assert control(after).op.carries == 1 and inside(control(after).op.body) == ["add"]


def test_updates_of_states_are_asked_for():
    s = ti.State(np.float32(0), name="s")

    def fn(x):
        def turn(h, row):
            s.assign(s + row.sum())
            return h * 2, ti.exp(row)

        return ti.scan(turn, x[0], x)[0]

    after = alive(fn, x)
    assert inside(after) == ["sum reshape add detach mul"] and control(after).op.carries == 2


def test_training_through_a_loop():
    """The gradient asks for notes of carries that the way back does not always need."""

    def fn(x, w):
        h, ys = ti.scan(lambda h, row: (ti.tanh(h * w + row), h.sum()), x[0], x)
        return ti.grad((h * h).sum() + ys.sum(), w)

    xs = [ti.tensor(v, requires_grad=True) for v in (x, x[1])]
    graph = ti.trace(fn, *xs)
    after = agree(dead, graph, x, x[1], exact=True)
    assert len(after.steps) <= len(graph.steps) and after.flops() < graph.flops()


def test_a_tuple_may_come_in_or_go_out():
    graph = ti.trace(lambda x: ti.scan(lambda h, row: (h + row, h * 2), x[0], x), ti.tensor(x))
    loop = control(graph)
    assert dead(Graph((loop,), graph.outputs)).outputs == graph.outputs
    assert dead(Graph(graph.inputs, (loop,))).outputs == (loop,)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed):
    graph = random_graph(random.Random(seed).randrange, most=20)
    after = agree(dead, graph, *arrays_for(graph, seed), exact=True)
    assert len([*every_step(after)]) <= len([*every_step(graph)])


def test_a_long_chain():
    graph = chain(
        lambda x, i: ti.cond(ti.tensor(i % 2 == 0), lambda: ti.tanh(x), lambda: x * 2), 5_000
    )
    assert ops(dead(graph)) == " ".join(["tanh mul"] * 2_500)


def test_a_long_body():
    def turn(h, row):
        a, b = h
        for _ in range(5_000):
            a, b = ti.tanh(a), ti.tanh(b)
        return (a, b), None

    after = dead(ti.trace(lambda x: ti.scan(turn, (x[0], x[0]), x)[0][0], ti.tensor(x)))
    assert len(control(after).op.body.steps) == 5_000


def test_loops_in_loops_are_looked_through_once():
    def nested(x, depth=24):  # if each asked the one inside twice, this would not end
        if depth == 0:
            return x * 2.0
        more = lambda i, x: i < 1
        return ti.while_loop(more, lambda i, x: (i + 1, nested(x, depth - 1)), ti.tensor(0), x)[1]

    graph = ti.trace(nested, ti.ones(3))
    assert np.array_equal(dead(graph).run(np.ones(3, np.float32)), [2, 2, 2])
