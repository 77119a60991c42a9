"""States that a graph leaves alone become constants."""

import numpy as np
import pytest
from nets import SEEDS, chain, keeps, network, numbers, training

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.graph.passes.fold import fold
from tinyinfer.graph.passes.freeze import freeze


@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed):
    graph, xs = network(seed)
    after = freeze(graph).verify()
    assert not after.states and np.array_equal(after.run(*xs), graph.run(*xs))
    assert freeze(after).steps == after.steps


def test_what_is_updated_stays():
    graph, xs = training()
    after = keeps(freeze, graph, xs, again=False)
    assert {*after.states.values()} <= {*graph.updates} == {*after.updates}


def test_the_values_of_now():
    net = nn.Linear(2, 1, bias=False)
    x = ti.ones(1, 2)
    graph = ti.trace(lambda x: net(x) * ti.exp(net.weight.sum()), x)
    frozen, before = freeze(graph), net(x).item() * np.exp(net.weight.numpy().sum())
    net.weight.assign(net.weight * 2.0)
    assert np.isclose(frozen.run(x.numpy()).item(), before)
    assert not np.isclose(graph.run(x.numpy()).item(), before)


def test_folding_does_the_rest():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    graph = ti.trace(lambda x: net(x) * ti.exp(net[0].bias), ti.ones(2, 3))
    after = fold(freeze(graph)).verify()
    assert len(after.steps) == 4 and not after.states  # product, bias, relu, factor
    x = numbers(np.random.RandomState(0), 2, 3)
    assert np.array_equal(after.run(x), graph.run(x))


def test_twenty_thousand_steps():
    b = ti.State(np.ones(3, np.float32))
    after = freeze(chain(lambda x, i: x + b))
    assert not after.states and np.all(after.run(np.zeros((3, 3), np.float32)) == 20_000)
