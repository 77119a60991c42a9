"""What depends on constants and unchanged States alone, and the rest."""

import numpy as np
import pytest
from nets import SEEDS, chain, network, training

import tinyinfer as ti
from tinyinfer.graph.passes.layout import layout
from tinyinfer.graph.passes.split import split


def halves(graph, xs):
    """(prologue, body), of which the body runs after the other as the graph does."""
    prologue, body = split(graph)
    prologue.verify(), body.verify()
    assert not prologue.inputs and not prologue.updates and {*body.updates} == {*graph.updates}
    held = {s: s.numpy() for s in graph.updates}
    wanted, after = graph.run_all(xs), [s.numpy() for s in held]
    for state, value in held.items():
        state.assign(value)
    got = body.run_all([*xs, *prologue.run_all(())])
    both = zip([*wanted, *after], [*got, *(s.numpy() for s in held)], strict=True)
    assert all(np.array_equal(a, b) for a, b in both)
    return prologue, body


@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed):
    graph, xs = network(seed)
    prologue, body = halves(layout(graph), xs)
    assert not split(body)[0].steps and len(prologue.steps) + len(body.steps) == len(
        layout(graph).steps
    )
    assert not [n for n in body.steps if n.op.name == "reorder" and n.inputs[0] in body.states]


def test_a_training_step_has_little_that_is_fixed():
    graph, xs = training()
    prologue, body = halves(graph, xs)
    assert len(prologue.steps) < len(body.steps)
    assert not set(prologue.states.values()) & set(graph.updates)


def test_what_is_fixed():
    w, moved = ti.State(np.ones(3)), ti.State(np.zeros(3))

    def fn(x):
        moved.assign(moved + 1.0)
        return x * ti.exp(w * 2.0) + ti.exp(moved) + ti.exp(ti.rand(3).double()), w * 2.0

    prologue, body = halves(ti.trace(fn, ti.ones(3, dtype="float64")), [np.ones(3)])
    assert [n.op.name for n in prologue.steps] == ["mul", "exp", "mul"]
    assert len(prologue.outputs) == 2 and len(body.inputs) == 3


def test_twenty_thousand_steps():
    w = ti.State(np.ones((3, 3), np.float32))
    graph = chain(lambda x, i: ti.relu(w * 1.0) + x * 0.0 if i % 2 else x)
    halves(graph, [np.ones((3, 3), np.float32)])
