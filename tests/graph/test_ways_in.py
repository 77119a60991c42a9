"""However a graph is made, it computes what eager mode computes, forwards and backwards."""

from pathlib import Path

import numpy as np
import pytest
from samples import ENTRIES, name

import tinyinfer as ti
from tinyinfer import data, nn, optim, train
from tinyinfer.data.transforms import Fit
from tinyinfer.testing import slopes

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.py"))
TRAINED = [path for path in MODELS if "mnist" in train.modelfile.load(path).recipes]
UNTRAINED = [path for path in MODELS if path not in TRAINED]
A = lambda *shape: np.random.RandomState(len(shape)).standard_normal(shape).astype(np.float32)


def traced(fn, xs):
    return ti.trace(fn, *xs)


def defined(fn, xs):
    inputs = [ti.placeholder(x.shape, x.dtype) for x in xs]
    return ti.graph(flat(fn(*inputs)), inputs)


def scripted(fn, xs):
    def written(*xs):
        return fn(*xs)

    return ti.script(written, *xs)


WAYS = [traced, defined, scripted]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def flat(ys):
    return [ys] if isinstance(ys, ti.Tensor) else [*ys]


def arrays(ys):
    return [y.numpy() for y in flat(ys)]


def same(a, b):
    """Bit for bit: the same NumPy calls were made."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def all_same(some, others):
    assert len(some) == len(others) and all(map(same, some, others))


# Every op


def cases(calls):
    named = [(f"{name(e.of)}-{i}", call) for e in ENTRIES for i, call in enumerate(calls(e))]
    return pytest.mark.parametrize("call", [n[1] for n in named], ids=[n[0] for n in named])


def tensors(call):
    return [ti.tensor(x, requires_grad=x.dtype.kind == "f") for x in call.cast("float32")]


def made(way, fn, xs):
    try:
        return way(fn, xs).verify()
    except ti.GraphError as error:
        if way is defined and "would change random key" in str(error):
            pytest.skip("it changes a State: placeholders have no trace that could do so")
        raise


@every_way
@cases(lambda e: e.calls)
def test_forwards(call, way):
    xs = tensors(call)
    eager = arrays(call(*xs))
    graph = made(way, call, xs)
    all_same(eager, graph.run_all([x.numpy() for x in xs]))


@every_way
@cases(lambda e: [c for c in e.calls if e.smooth and any(x.dtype.kind == "f" for x in c.arrays)])
def test_backwards(call, way):
    xs = tensors(call)
    gradients = lambda fn: lambda *xs: [g for g in slopes(fn, xs).values() if g is not None]
    eager = arrays(gradients(call)(*xs))
    graph = made(way, call, xs)
    all_same(eager, arrays(gradients(graph)(*xs)))
    if way is not defined:  # a placeholder has no gradient
        graph = made(way, gradients(call), xs)
        all_same(eager, graph.run_all([x.numpy() for x in xs]))


# Every network, with what it has learned


def network(path):
    model_file = train.modelfile.load(path)
    model, (_, test) = model_file.build().eval(), data.digits()
    normalize = train.weights.load(model, path.parent / "weights" / f"{path.stem}.safetensors")
    images, labels = test.batch(range(8))
    images = normalize(Fit(*model_file.input_shape[1:])(images))
    return model, ti.tensor(images), ti.tensor(labels)


@every_way
@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_networks(path, way):
    model, x, labels = network(path)
    wanted, parameters = arrays(model(x)), model.parameters()
    graph = way(model, [x])
    all_same(wanted, graph.run_all([x.numpy()]))

    def gradients(model, x, labels):
        logits = flat(model(x))[0]
        return [logits, *ti.grad(ti.cross_entropy(logits, labels), parameters)]

    eager = arrays(gradients(model, x, labels))
    all_same(eager, arrays(gradients(graph, x, labels)))
    if way is defined:  # a gradient by a State needs a trace
        return
    within = way(lambda x, labels: gradients(model, x, labels), [x, labels])
    all_same(eager, within.run_all([x.numpy(), labels.numpy()]))
    short = ti.optimize(within).run_all([x.numpy(), labels.numpy()])
    assert all(map(np.array_equal, map(np.shape, eager), map(np.shape, short)))
    for a, b in zip(eager, short):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


@every_way
@pytest.mark.parametrize("path", UNTRAINED, ids=lambda path: path.stem)
def test_networks_without_weights(path, way):
    """On small images, which they take as well as large ones."""
    ti.manual_seed(0)
    model_file = train.modelfile.load(path)
    model, x = model_file.build().eval(), ti.tensor(A(2, model_file.input_shape[0], 32, 32))
    wanted, parameters = arrays(model(x)), model.parameters()
    graph = way(model, [x])
    all_same(wanted, graph.run_all([x.numpy()]))
    short = ti.optimize(graph).run_all([x.numpy()])
    assert all(np.abs(a - b).max() <= 1e-5 * np.abs(a).max() for a, b in zip(wanted, short))
    gradients = lambda y: arrays(ti.grad((y * y).mean(), parameters))
    all_same(gradients(model(x)), gradients(graph(x)[0]))


# A training step


STEPS = 20
LENET = next(path for path in MODELS if path.stem == "lenet")


def training():
    model = network(LENET)[0].train()
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    def step(x, labels):
        optimizer.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, [*model.states(), *optimizer.states()]


def batches():
    digits = data.digits()[0]
    for i in range(STEPS):
        images, labels = digits.batch(range(16 * i, 16 * i + 16))
        yield Fit(32, 32)(images), labels


def trained(prepare):
    """The losses of 20 steps, and what there is to know then."""
    step, states = training()
    run = prepare(step)
    losses = [run(*batch) for batch in batches()]
    return np.array(losses), [s.numpy() for s in states]


def eager(step):
    return lambda x, labels: step(ti.tensor(x), ti.tensor(labels)).item()


def as_graph(way, passes):
    def prepare(step):
        graph = ti.optimize(way(step, [ti.tensor(x) for x in next(batches())]), passes)
        return lambda x, labels: graph.run(x, labels).item()

    return prepare


@pytest.mark.parametrize("way", [way for way in WAYS if way is not defined])
def test_twenty_steps_of_lenet(way):
    losses, states = trained(eager)
    assert losses[-5:].mean() < losses[:5].mean() / 2  # it learns
    static, after = trained(as_graph(way, []))
    assert np.array_equal(losses, static)
    all_same(states, after)


def test_twenty_steps_of_lenet_after_the_passes():
    losses, states = trained(eager)
    static, after = trained(as_graph(traced, None))
    assert np.allclose(losses, static, rtol=1e-4, atol=0)
    for a, b in zip(states, after):
        assert np.abs(a - b).max() <= 1e-3 * np.abs(a).max()


# A recurrent network, with its loop inside or outside of the graph


class Cell(nn.Module):
    def __init__(self):
        self.w, self.u = nn.Parameter(A(4, 4) * 0.5), nn.Parameter(A(3, 4))
        self.bias = nn.Parameter(A(4))

    def forward(self, h, x):
        return ti.tanh(x @ self.u + h @ self.w + self.bias)


def outside(cell, xs, h):
    size = 0.0
    for x in xs:  # Python's loop: in a graph it is unrolled
        h = cell(h, x)
        size = size + (h * h).sum()
    return h, size


def inside(cell, xs, h):
    def turn(carry, x):
        h, size = carry
        h = cell(h, x)
        return (h, size + (h * h).sum()), ()

    return ti.scan(turn, (h, 0.0), xs)[0]


def results(loop, cell):
    def run(xs, h):
        last, size = loop(cell, xs, h)
        loss = (last * 3).sum() + size
        return [last, size, *ti.grad(loss, [xs, h, *cell.parameters()])]

    return run


LOOPS = {  # the loop, the way in, and how many loops the graph has
    "traced inside": (inside, traced, 3),  # there, there with notes, and back
    "traced outside": (outside, traced, 0),
    "scripted inside": (inside, scripted, 3),
    "scripted outside": (outside, scripted, 3),  # a `for` over a tensor
}


@pytest.mark.parametrize("loop, way, scans", LOOPS.values(), ids=LOOPS)
def test_a_recurrent_network(loop, way, scans):
    cell, xs, h = Cell(), *(ti.tensor(x, requires_grad=True) for x in (A(6, 2, 3), A(2, 4)))
    wanted = arrays(results(outside, cell)(xs, h))
    graph = way(results(loop, cell), [xs, h])
    assert [n.op.name for n in graph.steps].count("scan") == scans
    for ready in graph, ti.optimize(graph):
        got = ready.run(xs.numpy(), h.numpy())
        assert len(got) == len(wanted)
        for a, b in zip(wanted, got):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
