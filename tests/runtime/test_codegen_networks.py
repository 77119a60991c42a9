"""Whole networks as one function: every model, and steps that train. To rounding they are what the
interpreter and eager code give.

TINYINFER_EXAMPLES=2000 pytest tests/runtime/test_codegen_networks.py: a step of training of every model
too, whose kernels take minutes to compile
"""

import os
from pathlib import Path

import numpy as np
import pytest
from plans import as_interpreted, states_of

import tinyinfer as ti
from tinyinfer import data, nn, optim, train

ALL = int(os.environ.get("TINYINFER_EXAMPLES", 0)) >= 1000
MODELS = {
    p.stem: train.modelfile.load(p) for p in (Path(__file__).parents[2] / "models").glob("*.py")
}
SIDES = {"inception": 8, "resnet": 16, "unet": 16, "mobilenet_v1": 32, "mobilenet_v2": 16}
every_model = pytest.mark.parametrize("name", sorted(MODELS))


def fast(fn, **options):
    return ti.compile(fn, kernels="fast", **options)


def images(name, count, side=None):
    channels, *sides = MODELS[name].input_shape
    shape = count, channels, *([side] * 2 if side else sides)
    return ti.tensor(np.random.RandomState(0).standard_normal(shape).astype("f4"))


def eager_and_compiled(make, batches):
    """Of each [losses, what the States are in the end]; `make` gives (step, States)."""
    found = []
    for run in (lambda step: step), fast:
        ti.manual_seed(0)
        step, states = make()
        step = run(step)
        losses = [step(*map(ti.tensor, batch)).item() for batch in batches]
        found.append([np.array(losses), *(s.numpy().copy() for s in states)])
    return found


def near(a, b, error) -> bool:
    """Up to this part of the largest number."""
    return np.abs(a - b).max(initial=0) <= error * np.abs(a).max(initial=0)


# ---- inference -------------------------------------------------------------------------------------


@every_model
def test_every_model(name):
    """Small random errors in every step are the measure of rounding: deep networks enlarge it."""
    ti.manual_seed(0)
    model, x = MODELS[name].build(), images(name, 2, SIDES.get(name))
    with ti.no_grad():
        as_if_trained(model, images(name, 8, SIDES.get(name)))
        run, graph = fast(model), ti.trace(model, x)
        y = run(x).numpy()
    assert as_interpreted(graph, [x.numpy()], [y, *(s.numpy() for s in states_of(graph))])
    assert np.ptp(y, 0).max() > 1e-3  # it looks at the image


def as_if_trained(model, x):
    """Layers of BatchNorm know the mean and the variance of these images; or else no signal would
    come through a deep network of first weights."""
    norms = [m for _, m in model.train().named_modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0
    model(x)
    model.eval()
    for m, momentum in zip(norms, kept):
        m.momentum = momentum


# ---- training --------------------------------------------------------------------------------------


@pytest.mark.skipif(not ALL, reason="its kernels take minutes to compile: TINYINFER_EXAMPLES=2000")
@every_model
def test_a_training_step_of_every_model(name):
    ti.manual_seed(0)
    model, side = MODELS[name].build(), 64 if "mobilenet" in name else SIDES.get(name)
    opt, x = optim.SGD(model.parameters(), lr=0.01, momentum=0.9), images(name, 4, side)

    def step(x):
        opt.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        return loss

    graph = ti.trace(step, x)
    states = states_of(graph)
    before = [s.numpy().copy() for s in states]

    def once(run):
        with ti.no_grad():  # a graph does not tell which of its steps are the gradient's
            [loss] = run(x)
        found = [loss.numpy(), *(s.numpy().copy() for s in states)]
        for s, value in zip(states, before):
            s.assign(value)
        return found

    got = once(fast(graph, max_relative_error=0.0))
    assert as_interpreted(graph, [x.numpy()], got)
    # By Winograd a small number has the error of those beside it.
    assert all(near(a, b, 1e-4) for a, b in zip(got, once(fast(graph)), strict=True))


def mlp():
    return nn.Sequential(
        nn.Linear(12, 40, bias=False),  # before a norm its gradient would be nothing but rounding
        nn.BatchNorm1d(40),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(40, 5),
    )


def normed():
    return nn.Sequential(nn.Linear(12, 20), nn.LayerNorm(20), nn.Tanh(), nn.Linear(20, 5))


def convolutions():
    return nn.Sequential(
        Image(),
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


class Image(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 3, 2, 2)


OPTIMIZERS = {
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5),
}


def training(network, optimizer, clip=None):
    def make():
        model = network()
        opt = OPTIMIZERS[optimizer](model.parameters())

        def step(x, labels):
            opt.zero_grad()
            loss = ti.cross_entropy(model(x), labels)
            loss.backward()
            if clip:
                clip(model.parameters(), 0.5)
            opt.step()
            return loss

        return step, [*model.states(), *opt.states()]

    return make


def some_batches(count, size=16):
    rng = np.random.RandomState(1)
    return [(rng.randn(size, 12).astype("f4"), rng.randint(0, 5, size)) for _ in range(count)]


@pytest.mark.parametrize(
    "network, optimizer, clip",
    [
        (mlp, "momentum", None),
        (mlp, "adamw", nn.utils.clip_grad_norm_),
        (normed, "nesterov", nn.utils.clip_grad_norm_),
        (normed, "adam", nn.utils.clip_grad_value_),
        (convolutions, "momentum", nn.utils.clip_grad_norm_),
        (convolutions, "rmsprop", None),
    ],
)
def test_steps_that_train(network, optimizer, clip):
    """With running statistics, dropout, decay and clipped gradients."""
    eager, compiled = eager_and_compiled(training(network, optimizer, clip), some_batches(8))
    assert eager[0][-1] != eager[0][0]
    for a, b in zip(eager, compiled):
        assert near(a, b, 1e-4)


def test_a_thousand_steps_again_are_the_same_bits():
    batches = some_batches(10) * 100
    runs = [eager_and_compiled(training(mlp, "momentum"), batches)[1] for _ in range(2)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*runs))


# ---- LeNet-5, batches of 64 ------------------------------------------------------------------------


def lenet_training():
    model = MODELS["lenet"].build()
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        return loss

    return step, [*model.states(), *opt.states()]


def digits(count, size=64):
    """Batches of 32 x 32: of MNIST, if it is there."""
    if Path(os.environ.get("TINYINFER_DATA", "/nowhere"), "mnist").is_dir():
        rows, enlarge = data.mnist()[0], lambda x: np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)])
    else:
        rows, enlarge = data.digits()[0], lambda x: np.kron(x, np.ones((4, 4), "f4"))
    noise = np.random.RandomState(0)  # in equal numbers rounding would say which is the largest
    for i in range(count):
        x, labels = rows.batch(range(i * size, (i + 1) * size))
        x = enlarge(x)
        yield (x + 0.01 * noise.randn(*x.shape)).astype("f4"), labels


def test_twenty_steps_of_lenet():
    """Each from where eager code is: the same to rounding; but for the rare step in which two numbers of a
    pool are equal to rounding, and the gradient goes to the other one."""
    sides = []
    for run in (lambda step: step), fast:
        ti.manual_seed(0)
        step, states = lenet_training()
        sides.append((run(step), states))
    (eager, ours), (compiled, theirs) = sides
    exact = 0
    for batch in digits(20):
        for a, b in zip(ours, theirs, strict=True):
            b.assign(a.numpy().copy())
        losses = [step(*map(ti.tensor, batch)).item() for step in (eager, compiled)]
        assert np.isclose(*losses, rtol=1e-6)
        changed = [(a.numpy(), b.numpy()) for a, b in zip(ours, theirs)]
        assert all(near(a, b, 0.02) for a, b in changed)
        exact += all(near(a, b, 5e-6) for a, b in changed)
    assert exact >= 15


def test_twenty_steps_of_lenet_on_their_own():
    eager, compiled = eager_and_compiled(lenet_training, [*digits(20)])
    assert np.allclose(eager[0], compiled[0], rtol=1e-4) and eager[0][-1] < eager[0][0]
    assert all(near(a, b, 0.02) for a, b in zip(eager[1:], compiled[1:]))


def test_a_thousand_calls_give_the_same_bits():
    model = MODELS["lenet"].build().eval()
    with ti.no_grad():
        for count in 1, 16:
            run, x = fast(model), images("lenet", count)
            first = run(x).numpy().tobytes()
            assert all(run(x).numpy().tobytes() == first for _ in range(1000))
