"""Small networks, drawn at random, and what holds of every pass on any graph."""

from pathlib import Path

import numpy as np
from lenet import batches, make

import tinyinfer as ti
from tinyinfer import nn, train
from tinyinfer.graph.graph import subgraphs

DTYPES = "float32", "float64"
SEEDS = range(12)
LENET = Path(__file__).parents[2] / "models" / "lenet.py"


def lenet5():
    return train.modelfile.load(LENET).build().eval()


def numbers(rng, *shape, dtype="float32"):
    return rng.standard_normal(shape).astype(dtype)


class Block(nn.Module):
    """Convolutions beside a skip connection."""

    def __init__(self, channels, out, rng):
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=rng.rand() < 0.7)
        self.norm = nn.BatchNorm2d(out)
        self.again = nn.Conv2d(out, out, 1)
        self.skip = None if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x):
        y = self.again(ti.relu(self.norm(self.conv(x))))
        return ti.relu(y + (x if self.skip is None else self.skip(x)))


class Net(nn.Module):
    """Images (n, 3, 8, 8) -> (n, 5): a random number of everything that passes look for."""

    def __init__(self, seed):
        rng = np.random.RandomState(seed)
        width = rng.choice([4, 6, 8])
        self.blocks = nn.Sequential(
            Block(3, width, rng), *[Block(width, width, rng)] * rng.choice(2)
        )
        self.conv = nn.Conv2d(int(width), 4, 3)
        self.fc = nn.Linear(4 * 9, 6)
        self.norm = nn.LayerNorm(6)
        self.rnn = nn.Linear(12, 6)
        self.head = nn.Linear(6, 5)
        self.pick = rng.permutation(8).tolist()

    def forward(self, x):
        curves = ti.relu, ti.tanh, ti.sigmoid, lambda x: ti.clip(x, 0, 1), ti.gelu
        f, g = (curves[i % len(curves)] for i in self.pick[:2])
        pool = ti.max_pool2d if self.pick[2] % 2 else ti.avg_pool2d
        x = pool(f(self.conv(self.blocks(x)) * 0.5), 2)
        x = g(self.fc(x.flatten(1)))
        x = (ti.relu(x.mT) + self.norm.weight.reshape(6, 1)).mT if self.pick[3] % 2 else x
        x = self.norm(x + x.mean(1, keepdim=True))
        turn = lambda h, row: (ti.tanh(self.rnn(ti.concat([h, row], 1))), h.sum())
        h, sums = ti.scan(turn, x, ti.stack([x, x * 0.5, -x]), reverse=bool(self.pick[4] % 2))
        y = ti.softmax(self.head(h), 1) * ti.exp(sums.mean() * 0.01)
        return y[:, ::-1] if self.pick[5] % 2 else y


def network(seed):
    """(graph, arrays) of a random network in evaluation."""
    ti.manual_seed(seed)
    rng = np.random.RandomState(seed)
    net = Net(seed).eval()
    for norm in (m for _, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.assign(numbers(rng, *norm.running_mean.shape))
        norm.running_var.assign(np.abs(numbers(rng, *norm.running_var.shape)) + 0.5)
    dtype = DTYPES[seed % 2]
    net.astype(dtype)
    x = numbers(rng, 2, 3, 8, 8, dtype=dtype)
    return ti.trace(net, ti.tensor(x)), [x]


def training():
    """(graph, arrays) of a training step of LeNet with batch norm, dropout and momentum."""
    x, y = batches(1, size=4)[0]
    return ti.trace(make()[2], ti.tensor(x), ti.tensor(y)), [x, y]


def chain(step, n=20_000, shape=(3, 3)):
    """The graph of step(...step(step(x, 0), 1)..., n - 1)."""

    def fn(x):
        for i in range(n):
            x = step(x, i)
        return x

    return ti.trace(fn, ti.ones(*shape))


def results(graph, arrays):
    """What a run gives, and what the States are then; they are as before afterwards."""
    states = [*dict.fromkeys((*graph.states.values(), *graph.updates))]
    held = {s: s.numpy() for s in states}
    outputs = graph.run_all(arrays)
    after = {s: s.numpy() for s in graph.updates}
    for s, value in held.items():
        s.assign(value)
    return [*outputs, *after.values()]


def all_steps(graph):
    for n in graph.steps:
        yield n
        for inner in subgraphs(n.op).values():
            yield from all_steps(inner)


def keeps(run, graph, arrays, exact=True, again=True):
    """The graph after a pass. It gives the same, it is verified, its steps come from steps of the
    graph before; and a second run finds nothing to do."""
    after = run(graph).verify()
    for a, b in zip(results(graph, arrays), results(after, arrays), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if exact:
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        else:
            assert np.allclose(a, b, rtol=1e-4, atol=1e-5)
    origins = {n.origin for n in all_steps(graph)}
    assert origins.issuperset(n.origin for n in all_steps(after))
    assert not again or run(after).steps == after.steps
    assert after.history[-1].before is graph
    return after


def ops(graph):
    return [n.op.name for n in graph.steps]


def count(graph, *names):
    return sum(ops(graph).count(name) for name in names)
