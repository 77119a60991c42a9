"""Every optimizer against its algorithm written once more, in NumPy and float64."""

import copy
import math

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim

RNG = np.random.RandomState(0)
START = RNG.standard_normal((3, 2))
GRADIENTS = RNG.standard_normal((20, 3, 2))


def sgd(p, gs, lr, momentum=0, weight_decay=0, nesterov=False):
    buffer = None
    for g in gs:
        g = g + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
        yield p


def adam(p, gs, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False):
    m = v = 0
    for t, g in enumerate(gs, 1):
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        rate = lr * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        p = p - rate * m / (np.sqrt(v) + eps * math.sqrt(1 - betas[1] ** t))
        yield p


def adamw(p, gs, lr, weight_decay=1e-2, **options):
    return adam(p, gs, lr, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(p, gs, lr, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0):
    square, buffer = 0, 0
    for g in gs:
        g = g + weight_decay * p
        square = alpha * square + (1 - alpha) * g * g
        buffer = momentum * buffer + g / (np.sqrt(square) + eps)
        p = p - lr * buffer
        yield p


CASES = [
    (optim.SGD, sgd, {}),
    (optim.SGD, sgd, {"weight_decay": 0.1}),
    (optim.SGD, sgd, {"momentum": 0.9}),
    (optim.SGD, sgd, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, {"betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1}),
    (optim.AdamW, adamw, {}),
    (optim.AdamW, adamw, {"weight_decay": 0.3, "eps": 1e-2}),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, {"alpha": 0.9, "momentum": 0.9, "weight_decay": 0.1, "eps": 1e-2}),
]
each = pytest.mark.parametrize("kind, reference, options", CASES)
LR = 0.1  # which single precision does not have


@each
def test_twenty_steps(kind, reference, options):
    p = nn.Parameter(START)
    optimizer = kind([p], lr=LR, **options)
    for g, wanted in zip(GRADIENTS, reference(START, GRADIENTS, LR, **options)):
        p.grad = ti.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(p.numpy(), wanted, rtol=1e-11, atol=1e-13)


def training(kind, options):
    """A model that is trained on one batch, and everything that training changes."""
    ti.manual_seed(0)
    first = nn.Linear(4, 8, bias=False)  # the one of BatchNorm is enough: its gradient would be 0
    model = nn.Sequential(first, nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 3))
    optimizer = kind(model.parameters(), lr=0.05, **options)
    states = [*model.states(), *optimizer.states(), ti.ops.default_key]

    def step(x, labels):
        optimizer.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, states, optimizer


def values(states):
    return [s.numpy().copy() for s in states]


BATCH = ti.tensor(RNG.standard_normal((6, 4)).astype(np.float32)), ti.tensor([0, 1, 2, 0, 1, 2])


@each
def test_a_traced_step_is_the_eager_step(kind, reference, options):
    step, states, _ = training(kind, options)
    before = values(states)
    losses = [step(*BATCH).item() for _ in range(5)]
    wanted = values(states)
    assert not any(map(np.array_equal, before[:4], wanted))
    step, states, _ = training(kind, options)
    graph = ti.trace(step, *BATCH)
    assert losses == [graph.run(*(x.numpy() for x in BATCH)).item() for _ in range(5)]
    assert all(map(np.array_equal, values(states), wanted))


@each
def test_it_goes_on_from_its_state_bit_for_bit(kind, reference, options, tmp_path):
    step, states, optimizer = training(kind, options)
    for _ in range(3):
        step(*BATCH)
    middle, kept = values(states), optimizer.state_dict()
    for _ in range(3):
        step(*BATCH)
    wanted = values(states)

    step, states, optimizer = training(kind, options)
    for state, value in zip(states, middle):
        if state not in optimizer.states():
            state.assign(value)
    optimizer.load_state_dict({name: x.numpy() for name, x in kept.items()})
    for _ in range(3):
        step(*BATCH)
    assert all(map(np.array_equal, values(states), wanted))


def test_a_graph_follows_the_learning_rate():
    p = nn.Parameter(np.ones(1, np.float32))
    optimizer = optim.SGD([p], lr=1.0)

    def step(x):
        optimizer.zero_grad()
        (p * x).sum().backward()
        optimizer.step()

    graph, x = ti.trace(step, ti.ones(1)), np.ones(1, np.float32)
    graph.run_all([x])
    assert p.item() == 0
    optimizer.param_groups[0]["lr"] = 0.25
    graph.run_all([x])
    assert p.item() == -0.25 and optimizer.lr.item() == 0.25


def test_groups_have_options_of_their_own():
    a, b, c = (nn.Parameter(START) for _ in range(3))
    own = {"params": [b], "lr": LR / 2, "momentum": 0.9}
    optimizer = optim.SGD([{"params": [a]}, own], lr=LR)
    optimizer.add_param_group({"params": iter([c]), "lr": LR / 4, "weight_decay": 0.1})
    assert own == {"params": [b], "lr": LR / 2, "momentum": 0.9}
    for g in GRADIENTS:
        a.grad = b.grad = c.grad = ti.tensor(g)
        optimizer.step()
    wanted = (
        sgd(START, GRADIENTS, LR),
        sgd(START, GRADIENTS, LR / 2, momentum=0.9),
        sgd(START, GRADIENTS, LR / 4, weight_decay=0.1),
    )
    for p, steps in zip((a, b, c), wanted):
        np.testing.assert_allclose(p.numpy(), [*steps][-1], rtol=1e-12)
    assert [*optimizer.state_dict()] == ["lr.0", "lr.1", "lr.2", "1.v"]


def test_without_a_gradient_a_parameter_stays():
    a, b = nn.Parameter(START), nn.Parameter(START)
    optimizer = optim.SGD([a, b], lr=1.0, weight_decay=0.1)
    a.grad = ti.tensor(START)
    optimizer.step()
    assert np.array_equal(b.numpy(), START) and not np.array_equal(a.numpy(), START)
    optimizer.zero_grad()
    assert a.grad is None


def test_a_step_without_any_gradient_changes_nothing_and_says_so():
    optimizer = optim.Adam([nn.Parameter(START)])
    with pytest.raises(ti.GraphError, match="backward"):
        optimizer.step()
    assert optimizer.state_dict()["0.t"].item() == 0


@pytest.mark.parametrize("wrong", [1.0, ti.ones(2), ti.ones(3, 2), ti.ones(2, 3, dtype="float64")])
def test_a_step_with_one_wrong_gradient_changes_nothing(wrong):
    a, b = nn.Parameter(START), nn.Parameter(START)
    optimizer = optim.SGD([a, b], lr=1.0)
    a.grad, b.grad = ti.tensor(START), wrong
    with pytest.raises(ti.ShapeError, match=r"the gradient of a float64\[3, 2\] is one, not"):
        optimizer.step()
    assert np.array_equal(a.numpy(), START)


@pytest.mark.parametrize("kind, reference", [(optim.Adam, adam), (optim.AdamW, adamw)])
def test_who_joins_later_starts_at_its_first_step(kind, reference):
    early, late, added = (nn.Parameter(START) for _ in range(3))
    optimizer = kind([early, late], lr=LR)
    for t, g in enumerate(GRADIENTS):
        if t == 10:
            optimizer.add_param_group({"params": [added]})
        early.grad, late.grad, added.grad = ti.tensor(g), *[ti.tensor(g) if t >= 10 else None] * 2
        optimizer.step()
    *_, wanted = reference(START, GRADIENTS[10:], LR)
    np.testing.assert_allclose(late.numpy(), wanted, rtol=1e-11)
    np.testing.assert_allclose(added.numpy(), wanted, rtol=1e-11)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@each
def test_models_of_other_floats(kind, reference, options, dtype):
    p = nn.Parameter(START.astype(dtype))
    optimizer = kind([p], lr=LR, **options)
    p.grad = ti.tensor(GRADIENTS[0].astype(dtype))
    nn.utils.clip_grad_norm_([p], 1e3)
    optimizer.step()
    wanted = next(reference(START, GRADIENTS, LR, **options))
    np.testing.assert_allclose(p.numpy(), wanted, rtol=1e-2 if dtype == "float16" else 1e-12)


@each
def test_half_precision_steps_in_single(kind, reference, options):
    gradients = np.array([[0.0, 1e-5, 300.0]] * 3, np.float16)
    p = nn.Parameter(np.ones(3, np.float16))
    optimizer = kind([p], lr=1e-3, **options)
    for g in gradients:
        p.grad = ti.tensor(g)
        optimizer.step()
    *_, wanted = reference(np.ones(3), gradients.astype(np.float64), 1e-3, **options)
    np.testing.assert_allclose(p.numpy(), wanted, rtol=3e-3)


def test_clipping_long_gradients_in_half_precision():
    p = nn.Parameter(np.zeros(2, np.float16))
    p.grad = ti.tensor(np.array([300, 400], np.float16))
    assert nn.utils.clip_grad_norm_([p], 5.0).item() == 500
    np.testing.assert_allclose(p.grad.numpy(), [3, 4], rtol=1e-3)


def test_a_copy_trains_copies():
    p = nn.Parameter(START)
    copied, optimizer = copy.deepcopy((p, optim.Adam([p], lr=LR)))
    copied.grad = ti.tensor(START)
    optimizer.step()
    np.testing.assert_allclose(copied.numpy(), next(adam(START, [START], LR)))
    assert optimizer.lr.item() == LR and np.array_equal(p.numpy(), START)


def test_a_state_dict_is_a_snapshot():
    p = nn.Parameter(START)
    optimizer = optim.Adam([p])
    before = optimizer.state_dict()
    p.grad = ti.tensor(START)
    optimizer.step()
    assert before["0.t"].item() == 0 and not before["0.m"].numpy().any()
    assert optimizer.state_dict()["0.t"].item() == 1


P = nn.Parameter(START)
model = nn.Linear(2, 2)


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: optim.SGD([], 0.1), "model.parameters"),
        (lambda: optim.SGD(P, 0.1), "model.parameters"),
        (lambda: optim.SGD(model, 0.1), "model.parameters"),
        (lambda: optim.SGD(nn.Sequential(model), 0.1), "model.parameters"),
        (lambda: optim.SGD(model.named_parameters(), 0.1), "model.parameters"),
        (lambda: optim.SGD([P, P], 0.1), "twice"),
        (lambda: optim.SGD([{"lr": 0.1}]), "model.parameters"),
        (lambda: optim.SGD([P], -0.1), r"lr: a number in \[0, 3e38\], not -0.1"),
        (lambda: optim.SGD([P], float("nan")), r"lr: a number in \[0, 3e38\], not nan"),
        (lambda: optim.SGD([P], "0.1"), r"lr: a number in \[0, 3e38\], not '0.1'"),
        (lambda: optim.SGD([P], 1e300), r"lr: a number in \[0, 3e38\], not 1e\+300"),
        (lambda: optim.SGD([P], 0.1, momentum=1.5), r"momentum: a number in \[0, 1\), not 1.5"),
        (lambda: optim.SGD([P], 0.1, momentum=1.0), r"momentum: a number in \[0, 1\), not 1.0"),
        (lambda: optim.SGD([P], math.inf), r"lr: a number in \[0, 3e38\], not inf"),
        (lambda: optim.SGD([P], True), r"lr: a number in \[0, 3e38\], not True"),
        (
            lambda: optim.SGD([P], 0.1, weight_decay=-1),
            r"weight_decay: a number in \[0, inf\), not -1",
        ),
        (lambda: optim.SGD([P], 0.1, nesterov=True), "momentum=0.9"),
        (lambda: optim.SGD([{"params": [P], "momentun": 0.9}], 0.1), "no option momentun"),
        (lambda: optim.Adam([P], betas=(0.9, 1)), r"betas: a number in \[0, 1\), not 1"),
        (lambda: optim.Adam([P], betas=(0.9,)), r"betas: two numbers, .* not \(0.9,\)"),
        (lambda: optim.Adam([P], betas=0.9), "betas: two numbers, .* not 0.9"),
        (lambda: optim.Adam([P], eps=-1e-8), r"eps: a number in \[0, inf\), not -1e-08"),
        (lambda: optim.RMSprop([P], alpha=2), r"alpha: a number in \[0, 1\), not 2"),
    ],
)
def test_wrong_values_are_refused(make, said):
    with pytest.raises(ti.ArgumentError, match=said):
        make()


def test_a_refused_group_leaves_nothing_behind():
    optimizer = optim.Adam([P])
    with pytest.raises(ti.ArgumentError, match="twice"):
        optimizer.add_param_group({"params": [nn.Parameter(START), P]})
    assert [*optimizer.state_dict()] == ["lr.0", "0.m", "0.v", "0.t"]
    assert len(optimizer.param_groups) == 1


def test_another_models_state_is_refused_as_a_whole():
    optimizer = optim.Adam([nn.Parameter(START)])
    other = optim.Adam([nn.Parameter(np.ones(5)), nn.Parameter(START)]).state_dict()
    other["0.t"] = np.float64(7)
    with pytest.raises(
        ti.LoadError, match=r"unexpected  1.m.*\n.*\n.*\n.*shape       0.m \(3, 2\) here, \(5,\)"
    ):
        optimizer.load_state_dict(other)
    with pytest.raises(ti.LoadError, match="missing     0.v"):
        optimizer.load_state_dict({"0.t": np.float64(7)})
    assert optimizer.state_dict()["0.t"].item() == 0


# Clipping


def with_gradients(*arrays):
    parameters = [nn.Parameter(np.zeros_like(a)) for a in arrays]
    for p, a in zip(parameters, arrays):
        p.grad = ti.tensor(a)
    return parameters


def test_clipping_the_length():
    a, b = np.array([3.0, 0.0]), np.array([[0.0, 4.0]])
    frozen = nn.Parameter(a)
    parameters = with_gradients(a, b)
    length = nn.utils.clip_grad_norm_(iter([*parameters, frozen]), 2.5)
    assert length.item() == 5
    np.testing.assert_allclose(parameters[0].grad.numpy(), a / 2, rtol=1e-6)
    np.testing.assert_allclose(parameters[1].grad.numpy(), b / 2, rtol=1e-6)
    assert frozen.grad is None


def test_short_gradients_stay_as_they_are():
    parameters = with_gradients(np.array([0.1, 0.3]))
    nn.utils.clip_grad_norm_(parameters, 1.0)
    assert np.array_equal(parameters[0].grad.numpy(), [0.1, 0.3])
    assert nn.utils.clip_grad_norm_([nn.Parameter(START)], 1.0).item() == 0


def test_clipping_each_element():
    (p,) = with_gradients(np.array([-3.0, 0.5, 2.0]))
    nn.utils.clip_grad_value_(p, 1.0)
    assert np.array_equal(p.grad.numpy(), [-1, 0.5, 1])


@pytest.mark.parametrize("clip", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_])
def test_a_limit_is_positive(clip):
    with pytest.raises(ti.ArgumentError, match="above 0"):
        clip(with_gradients(START), -1.0)
