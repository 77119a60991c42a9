import json
import re
from dataclasses import asdict

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.train import Recipe


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("epochs", 0, "a whole number from 1 on, not 0"),
        ("epochs", 1.5, "a whole number from 1 on, not 1.5"),
        ("epochs", True, "a whole number from 1 on, not True"),
        ("batch_size", -1, "a whole number from 1 on, not -1"),
        ("shift", 0.5, "a whole number from 0 on, not 0.5"),
        ("epochs", 10**400, "a number in [0, 1e9], not 1000"),
        ("lr", "0.1", "a number in [0, 3e38], not '0.1'"),
        ("lr", float("nan"), "a number in [0, 3e38], not nan"),
        ("lr", 1e300, "a number in [0, 3e38], not 1e+300"),
        ("lr", -0.1, "a number in [0, 3e38], not -0.1"),
        ("lr", None, "a number in [0, 3e38], not None"),
        ("momentum", 1.0, "a number in [0, 1), not 1.0"),
        ("momentum", False, "a number in [0, 1), not False"),
        ("weight_decay", -1, "a number in [0, inf), not -1"),
        ("rotate", 200, "a number in [0, 180], not 200"),
        ("label_smoothing", 2, "a number in [0, 1], not 2"),
        ("clip_norm", 0.0, "a number in (0, inf), not 0.0"),
        ("optimizer", "sdg", "'sdg': choose from sgd, adam, adamw"),
        ("schedule", None, "None: choose from one-cycle, cosine, constant"),
    ],
)
def test_values_that_cannot_be(field, value, message):
    with pytest.raises(ti.ArgumentError, match=re.escape(f"recipe {field}: {message}")):
        Recipe(**{"epochs": 1, field: value})


def test_values_at_the_ends():
    Recipe(1, lr=0, momentum=0, rotate=180, label_smoothing=1, clip_norm=1e-9)


def test_numbers_of_numpy_are_numbers_that_can_be_saved():
    recipe = Recipe(np.int64(3), lr=np.float32(0.5), shift=np.uint8(1), clip_norm=np.float64(2))
    assert json.loads(json.dumps(asdict(recipe))) == asdict(Recipe(3, lr=0.5, shift=1, clip_norm=2))


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
def test_a_single_step_is_taken_at_the_rate(schedule):
    assert rates(schedule, steps=1) == [0.5]
