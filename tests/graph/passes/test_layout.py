"""A stretch of convolutions has one reorder where it begins and one where it ends."""

import numpy as np
import pytest
from nets import SEEDS, Block, chain, count, keeps, lenet5, network, numbers, ops, training

import tinyinfer as ti
from tinyinfer.graph.passes.fuse import fuse
from tinyinfer.graph.passes.layout import layout
from tinyinfer.ops.layout import BLOCKS, In, Reorder

RNG = np.random.RandomState(0)
LAYOUTS = [to for to in BLOCKS if to != "NCHW"]


def laid_out(graph, xs, to):
    return keeps(lambda g: layout(g, to=to), graph, xs)


def of_images(graph):
    """The reorders of what depends on an input."""
    moving = set(graph.inputs)
    for n in graph.steps:
        if not moving.isdisjoint(n.inputs):
            moving.add(n)
    return [n.op for n in graph.steps if isinstance(n.op, Reorder) and n in moving]


def block():
    rng = np.random.RandomState(3)
    net = Block(3, 6, rng).eval()
    net.norm.running_mean.assign(numbers(rng, 6))
    return lambda x: ti.max_pool2d(net(x) * 0.5, 2).flatten(1)


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("net", [lenet5(), block()])
def test_one_reorder_at_each_end(net, to):
    side = 32 if isinstance(net, ti.nn.Module) else 8
    x = numbers(RNG, 2, 1 if side == 32 else 3, side, side)
    graph = ti.trace(net, ti.tensor(x))
    after = laid_out(graph, [x], to)
    ways = [(r.source, r.target) for r in of_images(after)]
    assert ways == [("NCHW", to), (to, "NCHW")]
    images = [n for n in graph.steps if n.op.images]
    assert count(after, "in_layout") == len(images)
    assert after.flops() == graph.flops() or to != "NHWC"  # padding is work, too
    back = laid_out(after, [x], "NCHW")
    assert not count(back, "in_layout", "reorder")
    real = lambda g: sorted(s for s in ops(g) if s != "reshape")
    assert real(back) == real(graph)


@pytest.mark.parametrize("to", BLOCKS)
@pytest.mark.parametrize("seed", SEEDS)
def test_networks(seed, to):
    graph, xs = network(seed)
    after = laid_out(graph, xs, to)
    other = LAYOUTS[seed % len(LAYOUTS)]
    laid_out(after, xs, other)
    assert len(of_images(after)) == (0 if to == "NCHW" else 2)


@pytest.mark.parametrize("to", LAYOUTS)
def test_a_training_step(to):
    after = laid_out(*training(), to)
    # two convolutions, one back, a norm, two pools, and back; sixteen images also give two weights
    assert count(after, "in_layout") == (10 if to == "NCHW16n" else 8)


def test_in_a_layout_it_is_fused_as_before():
    x = ti.randn(2, 1, 32, 32)
    graph = fuse(layout(ti.trace(lenet5(), x)))
    steps = [[p.name for p in n.op.parts()] for n in graph.steps if n.op.name == "fused"]
    assert steps[:2] == [["in_layout", "add", "relu", "in_layout"]] * 2


w = ti.State(numbers(RNG, 6, 3, 1, 1))
conv = lambda x: ti.conv2d(x, w)
c = ti.State(np.abs(numbers(RNG, 6, 1, 1)) + 1.0)
pixels = ti.State(numbers(RNG, 1, 1, 4, 4))
BESIDE = [
    (lambda x: ti.exp(conv(x)) + 1.0, 2),
    (lambda x: conv(x) * c, 2),
    (lambda x: conv(x) * pixels, 2),
    (lambda x: conv(x) * pixels[0, 0], 2),
    (lambda x: conv(x) * pixels.sum(), 2),
    (lambda x: conv(x) + numbers(RNG, 2, 6, 4, 4), 2),
    (lambda x: conv(x) * ti.sigmoid(conv(x).mean((2, 3), keepdim=True)), 3),
    (lambda x: (y := conv(x), ti.relu(y))[1] + y, 2),
]


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("fn, most", BESIDE)
def test_what_stands_beside_images(fn, most, to):
    x = numbers(RNG, 2, 3, 4, 4)
    after = laid_out(ti.trace(fn, ti.tensor(x)), [x], to)
    assert len(of_images(after)) <= most + 1


@pytest.mark.parametrize(
    "fn", [lambda x: conv(x) / c, lambda x: ti.log(ti.abs(conv(x)) + 1.0) ** c]
)
def test_padding_gets_no_numbers_that_are_none(fn):
    """6 channels in blocks of 8: 0 / 0 is not computed, so division stays outside."""
    x = numbers(RNG, 2, 3, 4, 4)
    graph = ti.trace(fn, ti.tensor(x))
    for to in LAYOUTS:
        after = laid_out(graph, [x], to)
        for n in after.steps:
            assert n.op.name != "div" or not to.endswith("c") or len(n.spec.shape) == 4


def test_what_leaves_is_as_it_was():
    x = numbers(RNG, 2, 3, 4, 4)
    graph = ti.trace(lambda x: (conv(x), ti.relu(conv(x))), ti.tensor(x))
    after = laid_out(graph, [x], "NHWC")
    assert [n.spec for n in after.outputs] == [n.spec for n in graph.outputs]


@pytest.mark.parametrize("to", BLOCKS)
def test_what_stands_where_no_channels_are(to):
    w, k = numbers(RNG, 9, 3, 1, 1), numbers(RNG, 1, 2, 2, 2, 8)
    conv = lambda x: In(ti.ops.conv.Conv2d(), "NCHW8c", 3)(x, w)
    x = numbers(RNG, 1, 1, 2, 2, 8)
    for fn in conv, lambda x: conv(x) + 1, lambda x: conv(x) * 2 + k, lambda x: ti.relu(x + 1):
        laid_out(ti.trace(fn, ti.tensor(x)), [x], to)


def test_images_inside_a_loop():
    v = ti.State(numbers(RNG, 3, 3, 1, 1))
    fn = lambda x: ti.scan(lambda h, r: (ti.relu(ti.conv2d(h, v) + r), h.sum()), x[0], x)[0]
    x = numbers(RNG, 2, 1, 3, 4, 4)
    after = laid_out(ti.trace(fn, ti.tensor(x)), [x], "NHWC")
    (scan,) = [n for n in after.steps if n.op.control]
    assert any(isinstance(n.op, In) for n in scan.op.body.steps)


def test_gradients_pass():
    x = ti.tensor(numbers(RNG, 2, 3, 4, 4), requires_grad=True)
    net = lambda x: ti.max_pool2d(ti.relu(conv(x)), 2).sum()
    wanted = ti.grad(net(x), x).numpy()
    graph = layout(ti.trace(net, ti.ones(2, 3, 4, 4)), to="NCHW16c")
    assert np.allclose(ti.grad(graph(x)[0], x).numpy(), wanted, atol=1e-6)


def test_twenty_thousand_steps():
    v, b = ti.State(np.full((2, 2, 1, 1), 0.5, np.float32)), ti.State(np.zeros(2, np.float32))
    step = lambda x, i: ti.relu(x) if i % 4 else ti.conv2d(x, v, b)
    after = layout(chain(step, shape=(1, 2, 2, 2)), to="NCHW8c")
    assert len(of_images(after)) == 2 and np.all(after.run(np.ones((1, 2, 2, 2), np.float32)) == 1)


def test_unknown():
    with pytest.raises(ti.ArgumentError, match="NHWC, NCHW8c, NCHW16c, NCHW16n, not 'CHWN'"):
        layout(ti.trace(lambda x: x, ti.ones(2)), to="CHWN")
