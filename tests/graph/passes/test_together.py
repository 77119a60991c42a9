"""What becomes of States is one step: what an optimizer does with a parameter."""

import numpy as np
import pytest
from nets import SEEDS, keeps, network, training

import tinyinfer as ti
from tinyinfer import optim
from tinyinfer.core.tensor import State
from tinyinfer.graph.control import TupleGet
from tinyinfer.graph.fused import Fused
from tinyinfer.graph.passes.fuse import LARGEST, fuse
from tinyinfer.graph.passes.strip import strip
from tinyinfer.graph.passes.together import together


def step_of(optimizer, *shapes, **options):
    """(graph of a step, gradients): of as many parameters."""
    weights = [State(np.ones(s, np.float32), requires_grad=True) for s in shapes]
    rule = optimizer(weights, lr=0.1, **options)

    def step(*gs):
        rule.zero_grad()
        sum((w * g).sum() for w, g in zip(weights, gs)).backward()
        rule.step()

    gs = [np.full(s, 0.5, np.float32) for s in shapes]
    return strip(ti.trace(step, *map(ti.tensor, gs))), gs


def several(graph):
    return [n for n in graph.steps if isinstance(n.op, Fused) and len(n.op.graph.outputs) > 1]


@pytest.mark.parametrize(
    "optimizer, options, states",
    [
        (optim.SGD, {"momentum": 0.9}, 2),
        (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}, 2),
        (optim.Adam, {"weight_decay": 0.1}, 3),
        (optim.AdamW, {}, 3),
    ],
)
def test_a_step_for_each_parameter(optimizer, options, states):
    graph, gs = step_of(optimizer, (3, 4), (5,), **options)
    after = keeps(together, graph, gs)
    assert [len(n.spec) for n in several(after)] == [states, states]
    large = [n for n in after.steps if n.op.elementwise and n.spec.shape]
    assert not large, "all that is as large as a parameter is in them"


def test_of_one_result_it_is_fuse_that_makes_one_step():
    graph, _ = step_of(optim.SGD, (3, 4))
    assert together(graph).steps == graph.steps


def test_what_somebody_else_uses_stays():
    w, v = State(np.ones(4, np.float32)), State(np.ones(4, np.float32))

    def step(x):
        v.assign(v * 0.5 + x)
        w.assign(w - v)
        return (v * 2).sum()

    x = np.arange(4, dtype=np.float32)
    graph = ti.trace(step, ti.tensor(x))
    assert together(graph).steps == graph.steps
    assert len(keeps(fuse, graph, [x]).steps) < len(graph.steps)


def test_not_more_than_a_nest_can_be():
    w, v = State(np.ones(4, np.float32)), State(np.ones(4, np.float32))

    def step(x):
        for _ in range(LARGEST):
            x = x * 2 + v
        v.assign(x)
        w.assign(w - x)

    graph = ti.trace(step, ti.ones(4))
    assert together(graph).steps == graph.steps


def test_only_what_fits():
    graph, _ = step_of(optim.Adam, (3, 4), (5,))
    some = together(graph, fits=lambda n: n.spec[0].shape == (5,))
    assert [n.spec[0].shape for n in several(some)] == [(5,)]


@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed):
    graph, xs = network(seed)
    keeps(together, graph, xs)


def test_a_training_step():
    graph, xs = training()
    after = keeps(together, graph, xs)
    assert several(after) and any(isinstance(n.op, TupleGet) for n in after.steps)


def test_each_state_is_written_over_what_it_was():
    w = State(np.ones(64, np.float32), requires_grad=True)
    rule = optim.Adam([w], lr=0.1)

    def step(x):
        rule.zero_grad()
        (w * x).sum().backward()
        rule.step()

    run, before = ti.compile(step, kernels="fast"), w.numpy()
    x = ti.ones(64)
    run(x)
    place = w.numpy().__array_interface__["data"]
    run(x)
    assert w.numpy().__array_interface__["data"] == place
    (made,) = several(run.plan.graph)
    assert len(made.spec) == 3 and not np.array_equal(before, w.numpy())
