"""What rearranges moves to the results, what makes smaller to the inputs."""

import numpy as np
import pytest
from nets import SEEDS, chain, count, keeps, network, numbers, ops, training

import tinyinfer as ti
from tinyinfer.graph.passes.move import move, regrouped

RNG = np.random.RandomState(0)


def moved(fn, *shapes):
    """The graph of fn after moving; it was checked."""
    xs = [numbers(RNG, *s) for s in shapes]
    return keeps(move, ti.trace(fn, *map(ti.tensor, xs)), xs)


@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed):
    graph, xs = network(seed)
    after = keeps(move, graph, xs)
    assert count(after, "transpose", "reshape") <= count(graph, "transpose", "reshape") + 1
    assert after.flops() <= graph.flops()


def test_a_training_step():
    keeps(move, *training())


# Towards the results

w = ti.State(numbers(RNG, 3), name="w")
W = ti.State(numbers(RNG, 3, 2), name="W")
T = lambda x: x.permute(2, 0, 1)
MOVES = [
    (lambda x: ti.relu(x.mT).mT, [(2, 3)], "relu"),
    (lambda x: ti.relu(x.mT) + 1.0, [(2, 3)], "relu add transpose"),
    (lambda x, y: (x.mT * y.mT).mT, [(2, 3), (2, 3)], "mul"),
    (lambda x: (x.mT * x.mT).mT, [(2, 3)], "mul"),
    (lambda x: (x.mT + w.reshape(3, 1)).mT, [(2, 3)], "reshape add"),
    (lambda x: (x.mT - W).mT, [(2, 3)], "transpose sub"),
    (lambda x: (W / x.mT).mT, [(2, 3)], "transpose div"),
    (lambda x: ti.where(x.mT > 0.0, x.mT, 0.5), [(2, 3)], "greater where transpose"),
    (lambda x: T(ti.relu(T(x))), [(2, 3, 4)], "relu transpose"),
    (lambda x: T(T(ti.relu(T(x)))), [(2, 3, 4)], "relu"),
    (lambda x: T(x) + w.reshape(3, 1), [(3, 4, 2)], "reshape add transpose"),
    (lambda x: T(x) + W.reshape(3, 2, 1), [(2, 4, 3)], "reshape transpose add transpose"),
    (lambda x: ti.relu(x.reshape(6)).reshape(2, 3), [(2, 3)], "relu"),
    (lambda x: (x.reshape(6, 3) * w).reshape(2, 3, 3), [(2, 3, 3)], "reshape mul"),
    (lambda x: (x.squeeze(2) + w.reshape(3, 1)).unsqueeze(2), [(2, 3, 1, 4)], "reshape add"),
    (
        lambda x: x.reshape(2, 3, 2) * w.reshape(3, 1),
        [(2, 6)],
        "reshape reshape mul",
    ),  # cuts an axis
    (lambda x: (x.reshape(6).reshape(3, 2)).reshape(6), [(2, 3)], "reshape"),
    (lambda x: x.permute(0, 1), [(2, 3)], ""),
    (lambda x: (ti.relu(y := x.mT), y), [(2, 3)], "transpose relu"),  # used twice
    (lambda x, y: x.mT + y, [(2, 3), (3, 2)], "transpose add"),  # y would have to turn
    (lambda x: x.mT + x.reshape(3, 2), [(2, 3)], "transpose reshape add"),  # two ways
    (lambda x: x.mT + ti.zeros(3, 2), [(2, 3)], "add transpose"),
    (lambda x: W.mT * 2.0 + x, [(2, 3)], "transpose mul add"),  # a weight's is free already
]


@pytest.mark.parametrize("fn, shapes, wanted", MOVES)
def test_towards_the_results(fn, shapes, wanted):
    assert sorted(ops(moved(fn, *shapes))) == sorted(wanted.split())


def test_elementwise_steps_touch():
    """So that fusing finds a product and its activation, which a reshape held apart."""
    w = ti.State(numbers(RNG, 4, 3))
    after = moved(lambda x: ti.relu(ti.linear(x, w)), (2, 5, 3))
    assert ops(after)[-3:] == ["matmul", "relu", "reshape"]


def test_regrouped():
    assert regrouped((1, 3, 1), (2, 3, 4), (2, 3, 1, 4)) == (1, 3, 1, 1)
    assert regrouped((2, 3, 1), (2, 3, 4), (6, 4)) == (6, 1)
    assert regrouped((1, 3, 1), (2, 3, 4), (6, 4)) is None
    assert regrouped((1, 4), (6, 4), (2, 3, 4)) == (1, 1, 4)
    assert regrouped((), (), (1, 1)) == (1, 1) and regrouped((1,), (1,), ()) == ()
    assert regrouped((0,), (0,), (0, 3)) is None


# Towards the inputs

CUTS = [
    (lambda x: ti.exp(x)[0], [(4, 3)], {"exp": (1, 3)}),
    (lambda x, y: (x * y + 1.0)[1:, ::-2], [(4, 3), (4, 3)], {"mul": (3, 2), "add": (3, 2)}),
    (lambda x, y: ti.exp(x + y)[:, 1], [(4, 3), (3,)], {"add": (4, 1), "exp": (4, 1)}),
    (lambda x, y: ti.exp(x + y)[1], [(4, 3), (4, 1)], {"add": (1, 3), "exp": (1, 3)}),
    (lambda x: ti.exp(x.mT)[:1], [(4, 3)], {"exp": (4, 1)}),
    (lambda x: ti.exp(ti.exp(x)[1:] * 2.0)[1:], [(4, 3)], {"mul": (2, 3)}),
    (lambda x: ti.exp(x)[:0], [(4, 3)], {"exp": (0, 3)}),
    (lambda x: ti.exp(x)[::-1], [(4, 3)], {"exp": (4, 3)}),
    (lambda x: ((y := ti.exp(x))[0], y), [(4, 3)], {"exp": (4, 3)}),
    (lambda x: ti.relu(x @ x)[0], [(3, 3)], {"relu": (3, 3)}),  # a loop nest does it anyway
]


@pytest.mark.parametrize("fn, shapes, wanted", CUTS)
def test_what_is_cut_off_is_not_computed(fn, shapes, wanted):
    after = moved(fn, *shapes)
    found = {n.op.name: n.spec.shape for n in after.steps}
    assert wanted.items() <= found.items()


def test_maxima_come_before_what_is_monotone():
    pool = lambda x: ti.max_pool2d(x, 2)
    image = (1, 2, 4, 4)
    assert ops(moved(lambda x: pool(ti.relu(x)), image)) == ["max_pool2d", "relu"]
    steps = "max_pool2d clip leaky_relu floor".split()
    rounded = lambda x: pool(ti.floor(ti.leaky_relu(ti.clip(x, -1, 1), 0.1)))
    assert ops(moved(rounded, image)) == steps
    assert ops(moved(lambda x: ti.relu(x).max(1, keepdim=True), (2, 3))) == ["max", "relu"]
    assert ops(moved(lambda x: ti.relu(x).min(1, keepdim=True), (2, 3))) == ["min", "relu"]


def test_maxima_wait_for_the_rest():
    pool = lambda x: ti.max_pool2d(x, 2)
    image = (1, 2, 4, 4)
    for fn in ti.exp, ti.neg, ti.abs, lambda x: ti.leaky_relu(x, -0.5):
        assert ops(moved(lambda x, fn=fn: pool(fn(x)), image))[-1] == "max_pool2d"
    assert ops(moved(lambda x: pool(y := ti.relu(x)) + y.sum(), image))[0] == "relu"
    assert ops(moved(lambda x: ti.avg_pool2d(ti.relu(x), 2), image)) == ["relu", "avg_pool2d"]
    assert ops(moved(lambda x: ti.max_pool2d(ti.relu(x), 3, 1, 1), image))[0] == "relu"


def test_not_a_number_remains_one():
    x = np.array([[np.nan, -1.0, 2.0], [-np.inf, np.inf, -0.0]], np.float32)
    for f in ti.relu, ti.floor, ti.round, lambda x: ti.clip(x, -0.5, 0.5), ti.leaky_relu:
        graph = ti.trace(lambda x, f=f: f(x).max(0), ti.tensor(x))
        with np.errstate(invalid="ignore"):
            keeps(move, graph, [x])


def test_what_came_in_is_not_looked_behind():
    """An input may be any node: what made it is no part of the graph."""
    x = ti.placeholder((2, 3))
    turned = x.mT
    graph = ti.graph(ti.relu(turned.mT), turned)
    keeps(move, graph, [numbers(RNG, 3, 2)])


@pytest.mark.parametrize(
    "step",
    [
        lambda x, i: ti.relu(x) if i % 3 else x.mT,
        lambda x, i: x * x.mT if i % 3 else ti.tanh(x.mT),
        lambda x, i: ti.relu(x) if i % 50 else x[::-1][:, :3],
        lambda x, i: x.reshape(3, 3) if i % 2 else ti.relu(x).reshape(9),
        lambda x, i: x.reshape(3, 3).mT if i % 2 else ti.relu(x).reshape(9),
    ],
)
def test_twenty_thousand_steps(step):
    graph = chain(step)
    x = numbers(RNG, 3, 3)
    keeps(move, graph, [x])


def test_a_cut_goes_all_the_way():
    graph = chain(lambda x, i: ti.relu(x) if i % 1000 else x[:-1], shape=(50, 3))
    after = keeps(move, graph, [numbers(RNG, 50, 3)])
    assert ops(after)[0] == "slice" and count(after, "slice") == 1
