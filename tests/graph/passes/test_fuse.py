"""What one loop nest can do is one step."""

import numpy as np
import pytest
from nets import SEEDS, chain, count, keeps, lenet5, network, numbers, ops, training

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.graph.fused import Fused
from tinyinfer.graph.passes.cse import cse
from tinyinfer.graph.passes.fuse import LARGEST, fuse
from tinyinfer.graph.passes.strip import strip

RNG = np.random.RandomState(0)


def fused(fn, *shapes):
    """The graph of fn after fusing; it was checked."""
    xs = [numbers(RNG, *s) for s in shapes]
    return keeps(fuse, ti.trace(fn, *map(ti.tensor, xs)), xs)


def parts(graph):
    """The ops of each step, and what it is called alone."""
    return [
        " ".join(p.name for p in n.op.parts()) if isinstance(n.op, Fused) else n.op.name
        for n in graph.steps
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed):
    graph, xs = network(seed)
    after = keeps(fuse, graph, xs)
    assert len(after.steps) < len(graph.steps) and after.bytes() < graph.bytes()
    assert after.flops() == graph.flops()


def test_a_training_step():
    graph, xs = training()
    after = keeps(fuse, graph, xs)
    assert len(after.steps) < 0.8 * len(graph.steps)


def test_lenet_has_one_step_a_layer():
    x = ti.randn(2, 1, 32, 32)
    graph = fuse(cse(strip(ti.trace(lenet5(), x))))
    conv, linear = "conv2d add relu max_pool2d", "matmul add relu"
    assert parts(graph) == [conv, conv, "reshape", linear, linear, "matmul add"]
    name = graph.names
    assert [[name[x] for x in n.inputs] for n in graph.steps if isinstance(n.op, Fused)] == [
        ["x", "conv1.weight", "conv1.bias"],
        ["0", "conv2.weight", "conv2.bias"],
        ["2", "fc1.weight", "fc1.bias"],
        ["3", "fc2.weight", "fc2.bias"],
        ["4", "fc3.weight", "fc3.bias"],
    ]
    assert [n.origin.calls[-1].title for n in graph.steps][:2] == ["conv1: Conv2d", "conv2: Conv2d"]


def test_a_residual_block_joins_the_longer_way():
    class Block(nn.Module):
        def __init__(self):
            self.a, self.b, self.c = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return ti.relu(self.c(x) + self.b(ti.relu(self.a(x))))

    graph = fused(Block(), (1, 3, 4, 4))
    assert parts(graph) == ["conv2d add", "conv2d add relu", "conv2d add add relu"]


def test_a_skip_comes_in_from_outside():
    w = ti.State(numbers(RNG, 3, 3))
    graph = fused(lambda x: ti.relu(x @ w + x), (2, 3))
    assert parts(graph) == ["matmul add relu"] and len(graph.steps[0].inputs) == 2


def test_a_tree_of_elementwise_steps_is_one():
    tree = lambda x, y: ti.exp(x) * ti.tanh(y * 2.0) + ti.relu(x - y)
    (step,) = fused(tree, (3, 4), (3, 4)).steps
    assert len(step.op.parts()) == 7 and len(step.inputs) == 2


def test_numbers_stand_inside_and_weights_come_in():
    (step,) = fused(lambda x: ti.relu(x * 2.0 + np.ones(3, np.float32)), (2, 3)).steps
    assert len(step.inputs) == 2 and len(step.op.graph.constants) == 1


@pytest.mark.parametrize("norm", [lambda x: ti.softmax(x, 1), lambda x: ti.layer_norm(x, 4)])
def test_softmax_and_layer_norm_are_whole(norm):
    graph = fused(lambda x: ti.relu(norm(x) * 2.0 + 1.0), (3, 4))
    assert len(graph.steps) == 1 and len(graph.steps[0].op.parts()) == 4


def test_what_is_seen_from_outside_ends_a_group():
    assert parts(fused(lambda x: (y := ti.exp(x), ti.relu(y)), (3,))) == ["exp", "relu"]
    assert parts(fused(lambda x: ti.concat([(y := ti.exp(x)), ti.relu(y)]), (3,)))[:2] == [
        "exp",
        "relu",
    ]
    moved = ti.State(np.zeros(3, np.float32))

    def step(x):
        moved.assign(y := ti.exp(x))
        return ti.relu(y)

    assert parts(fused(step, (3,))) == ["exp", "detach", "relu"]


def test_other_shapes_end_a_group():
    assert parts(fused(lambda x, y: ti.relu(ti.exp(x) + y), (3,), (2, 3))) == ["exp", "add relu"]
    assert "sum" in parts(fused(lambda x: ti.relu(ti.exp(x).sum(0)), (2, 3)))


def test_a_pool_joins_a_convolution_once_and_nothing_else():
    w = ti.State(numbers(RNG, 2, 2, 1, 1))
    pool = lambda x: ti.max_pool2d(x, 2)
    shape = 1, 2, 8, 8
    assert parts(fused(lambda x: pool(ti.relu(x)), shape)) == ["relu", "max_pool2d"]
    assert parts(fused(lambda x: ti.relu(pool(ti.conv2d(x, w))), shape)) == [
        "conv2d max_pool2d relu"
    ]
    assert parts(fused(lambda x: pool(ti.relu(pool(ti.conv2d(x, w)))), shape)) == [
        "conv2d max_pool2d relu",
        "max_pool2d",
    ]


def test_a_view_that_serves_two_stays_outside():
    w = ti.State(numbers(RNG, 3, 3), name="w")
    once = fused(lambda x: ti.relu(ti.relu(x @ w.mT) @ w.mT), (2, 3))
    assert parts(once) == ["matmul relu", "matmul relu"]

    def shared(x):
        turned = w.mT
        return ti.relu(ti.relu(x @ turned) @ turned)

    assert parts(fused(shared, (2, 3))) == ["transpose", "matmul relu", "matmul relu"]


def test_groups_have_an_end():
    after = keeps(fuse, chain(lambda x, i: x + 1.0, 100), [np.ones((3, 3), np.float32)])
    assert [len(n.op.parts()) for n in after.steps] == [LARGEST] * 3 + [100 - 3 * LARGEST]


def test_no_cycle_arises():
    """What is between two halves of a tree must not end up before and behind the fused step."""

    def fn(x):
        a = ti.exp(x)
        b = ti.relu(x).sum(0, keepdim=True) + a * 0.0
        return ti.tanh(b) + ti.exp(a.mean(0))

    fused(fn, (3, 4))


def test_graphs_inside_loops():
    def fn(x):
        return ti.scan(lambda h, row: (ti.relu(h * row + 1.0), h), x[0], x)[0]

    (scan,) = [n for n in fused(fn, (3, 4)).steps if n.op.control]
    assert parts(scan.op.body) == ["mul add relu"]


def test_gradients_pass_through_a_fused_step():
    graph = ti.trace(lambda x: ti.relu(x * 2.0 + 1.0).sum(), ti.ones(3))
    x = ti.tensor([1.0, -2.0, 3.0], requires_grad=True)
    fuse(graph)(x)[0].backward()
    assert x.grad.tolist() == [2.0, 0.0, 2.0]


def test_twenty_thousand_steps():
    graph = chain(lambda x, i: ti.relu(x) if i % 2 else x + 1.0)
    after = fuse(graph)
    assert len(after.steps) == -(-20_000 // LARGEST) and count(after, "fused") == len(after.steps)
    assert np.array_equal(after.run(np.ones((3, 3), np.float32)), np.full((3, 3), 10_001.0))


def test_nothing_to_do_gives_the_same_graph():
    graph = ti.trace(lambda x: ti.exp(x).sum(), ti.ones(3))
    assert fuse(graph).steps == graph.steps and ops(graph)[0] == "exp"
