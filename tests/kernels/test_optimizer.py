"""The step of an optimizer as one chain: parameters and moments, in one pass over memory."""

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import optim
from tinyinfer.core.spec import Specs, spec_of
from tinyinfer.core.tensor import State
from tinyinfer.graph.graph import Graph
from tinyinfer.graph.passes import optimize
from tinyinfer.kernels import chain

RNG = np.random.default_rng(0)
OPTIMIZERS = [
    (optim.SGD, {}),
    (optim.SGD, {"momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}),
    (optim.Adam, {"weight_decay": 1e-2}),
    (optim.AdamW, {}),
    (optim.RMSprop, {"momentum": 0.9}),
]


def update(optimizer, options, shape) -> Graph:
    """What it makes of the gradient, the parameter and the moments; and of some single numbers."""
    w = State(np.zeros(shape, np.float32), requires_grad=True)
    rule = optimizer([w], lr=0.01, **options)

    def step(g):
        rule.zero_grad()
        (w * g).sum().backward()
        rule.step()

    graph = ti.trace(step, ti.tensor(np.zeros(shape, np.float32)))
    graph = optimize(graph, ["dead", "fold", "simplify", "strength", "cse"])
    results = [n for n in graph.updates.values() if n.spec.shape == shape]
    inside = lambda n: n.op and n.op.elementwise and n.spec.shape == shape
    read, seen = [*results], dict.fromkeys(results)
    while read:
        for x in read.pop().inputs:
            if x not in seen:
                seen[x] = None
                read += [x] if inside(x) else []
    inputs = [n for n in seen if not inside(n) and n.value is None]
    return Graph(inputs, results)


@pytest.mark.parametrize("optimizer, options", OPTIMIZERS)
def test_a_step_is_one_loop(optimizer, options):
    graph = update(optimizer, options, (7, 33))
    xs = [RNG.random(n.spec.shape).astype(np.float32) for n in graph.inputs]
    specs = Specs(n.spec for n in graph.outputs)
    kernel = chain.fused(graph, specs, *map(spec_of, xs))
    wanted = graph.run_all(xs)
    ys = tuple(np.empty(s.shape, s.dtype) for s in specs)
    kernel.run(ys, *xs)
    for y, w in zip(ys, wanted, strict=True):
        np.testing.assert_array_equal(y, w)
    whole = [i for i, x in enumerate(xs) if x.shape == (7, 33)]
    assert kernel.over == tuple(whole)
    over = tuple(xs[i] for i in whole[: len(ys)])  # in place: any of them
    kernel.run(over, *xs)
    for y, w in zip(over, wanted, strict=True):
        np.testing.assert_array_equal(y, w)
