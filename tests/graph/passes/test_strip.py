import numpy as np
from agree import agree, chain, inside, ops

import tinyinfer as ti
from tinyinfer.graph.passes.strip import strip

x = np.random.RandomState(0).randn(2, 3).astype("f")


def test_what_hands_on_its_input_is_its_input():
    graph = ti.trace(
        lambda x: [ti.identity(x.detach()) * 2, x.detach(), ti.identity(x)], ti.tensor(x)
    )
    after = agree(strip, graph, x, exact=True)
    assert ops(after) == "mul" and after.outputs[1] is after.outputs[2] is after.inputs[0]


def test_inside():
    fn = lambda x: ti.scan(lambda h, row: (h + row.detach(), ti.identity(h)), x[0].detach(), x)
    graph = ti.trace(fn, ti.tensor(x))
    assert inside(agree(strip, graph, x, exact=True)) == ["add"]


def test_nothing_to_strip():
    graph = ti.trace(lambda x: x * 2, ti.tensor(x))
    assert strip(graph).nodes == graph.nodes


def test_a_long_chain():
    assert len(strip(chain(lambda x, i: x.detach() if i % 2 else ti.tanh(x))).steps) == 10_000
