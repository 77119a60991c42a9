import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.train import Recipe


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("epochs", 0, "epochs is 0, and must be 1 or more"),
        ("epochs", 1.5, "epochs is a whole number, not 1.5"),
        ("epochs", True, "epochs is a whole number, not True"),
        ("batch_size", -1, "batch_size is -1, and must be 1 or more"),
        ("lr", "0.1", "lr is a number, not '0.1'"),
        ("lr", float("nan"), "lr is a number, not nan"),
        ("lr", float("inf"), "lr is a number, not inf"),
        ("lr", -0.1, "lr is -0.1, and must be 0.0 or more"),
        ("momentum", 1.5, "between 0.0 and 1.0"),
        ("weight_decay", -1, "weight_decay is -1"),
        ("shift", 0.5, "shift is a whole number"),
        ("rotate", 200, "between 0.0 and 180.0"),
        ("label_smoothing", 2, "label_smoothing is 2"),
        ("clip_norm", -1, "clip_norm is -1"),
        ("optimizer", "sdg", "optimizer 'sdg': choose from sgd, adam, adamw"),
        ("schedule", None, "schedule None: choose from one-cycle, cosine, constant"),
    ],
)
def test_values_that_cannot_be(field, value, message):
    with pytest.raises(ti.ArgumentError, match=message):
        Recipe(**{"epochs": 1, field: value})


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers(name):
    model = nn.Linear(2, 1)
    optimizer = Recipe(1, lr=0.01, optimizer=name, weight_decay=0.1).make_optimizer(model)
    assert type(optimizer).__name__.lower() == name
    before = model.weight.numpy().copy()
    model(ti.ones(3, 2)).sum().backward()
    optimizer.step()
    assert (model.weight.numpy() != before).all()


def rates(schedule, steps=10):
    optimizer = optim.SGD([ti.tensor([0.0], requires_grad=True)], lr=0.5)
    made = Recipe(1, lr=0.5, schedule=schedule).make_schedule(optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"].item())
        if made:
            made.step()
    return np.array(seen)


def test_one_cycle_goes_up_to_the_rate_and_down_to_nothing():
    lr = rates("one-cycle")
    top = lr.argmax()
    assert lr.max() == 0.5 and 0 < top < 5 and lr[-1] < 1e-4
    assert (np.diff(lr[: top + 1]) > 0).all() and (np.diff(lr[top:]) < 0).all()


def test_cosine_falls_from_the_rate():
    lr = rates("cosine")
    assert lr[0] == 0.5 and (np.diff(lr) < 0).all() and lr[-1] < 0.05


def test_constant_stays():
    assert (rates("constant") == 0.5).all()


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_a_single_step_has_a_rate(schedule):
    assert rates(schedule, steps=1)[0] >= 0
