"""Every schedule against its documented formula, at every step."""

import json
import math

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.optim import lr_scheduler


def optimizer(*rates):
    groups = [{"params": [nn.Parameter(np.ones(1, np.float32))], "lr": lr} for lr in rates]
    return optim.SGD(groups, lr=1.0)


def cosine(low, high, t, end):
    return low + (high - low) * (1 + math.cos(math.pi * t / end)) / 2


def one_cycle(t):
    """PyTorch's two phases for max_lr 2, 20 steps, pct_start 0.25, div 10, final_div 100."""
    initial, least, top = 2 / 10, 2 / 10 / 100, 0.25 * 20 - 1
    if t <= top:
        return cosine(2, initial, t, top)
    return cosine(least, 2, min(t, 19) - top, 19 - top)


def warm_up_then_wave(t):
    return 0.1 + 0.9 * t / 5 if t < 5 else cosine(0, 1, t - 5, 20)


SCHEDULES = {
    "constant": (
        lambda o: optim.ConstantLR(o, factor=0.5, total_iters=4),
        lambda t: 0.5 if t < 4 else 1.0,
    ),
    "step": (lambda o: optim.StepLR(o, step_size=3, gamma=0.1), lambda t: 0.1 ** (t // 3)),
    "linear": (
        lambda o: optim.LinearLR(o, start_factor=0.1, end_factor=1.0, total_iters=10),
        lambda t: 0.1 + 0.9 * min(t, 10) / 10,
    ),
    "cosine": (lambda o: optim.CosineAnnealingLR(o, T_max=15), lambda t: cosine(0, 1, t, 15)),
    "cosine to a rest": (
        lambda o: optim.CosineAnnealingLR(o, T_max=15, eta_min=0.25),
        lambda t: cosine(0.25, 1, t, 15),
    ),
    "one cycle": (
        lambda o: optim.OneCycleLR(
            o, max_lr=2, total_steps=20, pct_start=0.25, div_factor=10, final_div_factor=100
        ),
        one_cycle,
    ),
    "warm-up": (
        lambda o: optim.SequentialLR(
            o,
            [optim.LinearLR(o, 0.1, total_iters=5), optim.CosineAnnealingLR(o, 20)],
            milestones=[5],
        ),
        warm_up_then_wave,
    ),
}
each = pytest.mark.parametrize("make, formula", SCHEDULES.values(), ids=SCHEDULES)


@each
def test_every_step(make, formula):
    o = optimizer(1.0)
    schedule = make(o)
    for t in range(25):
        assert o.lr.item() == pytest.approx(formula(t), rel=1e-6, abs=1e-9)
        assert schedule.get_last_lr() == pytest.approx([formula(t)], rel=1e-12, abs=1e-12)
        schedule.step()


@each
def test_it_goes_on_where_it_was(make, formula):
    schedule = make(optimizer(1.0))
    for _ in range(7):
        schedule.step()
    kept = json.loads(json.dumps(schedule.state_dict()))
    o = optimizer(1.0)
    again = make(o)
    again.load_state_dict(kept)
    for _ in range(10):
        assert o.lr.item() == schedule.optimizer.lr.item()
        schedule.step()
        again.step()


def test_every_group_has_its_own_learning_rate():
    o = optimizer(1.0, 0.1)
    schedule = optim.StepLR(o, 1, gamma=0.5)
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.05]
    assert [g["lr"].item() for g in o.param_groups] == pytest.approx([0.5, 0.05])


def test_a_schedule_starts_from_what_the_optimizer_was_given():
    o = optimizer(0.1)
    optim.LinearLR(o, start_factor=0.01)
    assert optim.CosineAnnealingLR(o, 10).get_last_lr() == [0.1]


def test_one_cycle_ends_at_its_end_and_stays_there():
    schedule = optim.OneCycleLR(optimizer(1.0), max_lr=1.0, total_steps=10)
    for _ in range(9):
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1 / 25 / 1e4])
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([1 / 25 / 1e4])


@pytest.mark.parametrize("pct_start, total_steps", [(0.1, 10), (0.0, 5), (0.3, 1), (0.3, 2)])
def test_one_cycle_of_few_steps(pct_start, total_steps):
    schedule = optim.OneCycleLR(optimizer(1.0), 1.0, total_steps, pct_start)
    for _ in range(total_steps):
        assert 0 < schedule.get_last_lr()[0] <= 1
        schedule.step()


def test_a_graph_follows_the_schedule():
    p = nn.Parameter(np.zeros(1, np.float32))
    o = optim.SGD([p], lr=1.0)
    schedule = optim.StepLR(o, 1, gamma=0.5)

    def step(x):
        o.zero_grad()
        (p * x).sum().backward()
        o.step()

    graph = ti.trace(step, ti.ones(1))
    for wanted in (-1.0, -1.5, -1.75):
        graph.run_all([np.ones(1, np.float32)])
        schedule.step()
        assert p.item() == wanted


def test_inside_a_graph_it_is_refused():
    schedule = optim.StepLR(optimizer(1.0), 1)
    with pytest.raises(ti.GraphError, match="after the traced function"):
        ti.trace(lambda x: schedule.step(), ti.ones(1))
    assert schedule.last_epoch == 0


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda o: optim.StepLR(o, 0), "step_size"),
        (lambda o: optim.CosineAnnealingLR(o, T_max=2.5), "T_max"),
        (lambda o: optim.LinearLR(o, total_iters=0), "total_iters"),
        (lambda o: optim.LinearLR(o, total_iters=True), "total_iters"),
        (lambda o: optim.ConstantLR(o, total_iters=2.5), "total_iters"),
        (lambda o: optim.OneCycleLR(o, 1.0, 0), "total_steps"),
        (lambda o: optim.OneCycleLR(o, 1.0, 10, pct_start=1.0), "pct_start"),
        (lambda o: optim.SequentialLR(o, [optim.ConstantLR(o)], [3]), "0 milestones"),
        (lambda o: optim.SequentialLR(o, [optim.ConstantLR(o)] * 3, [5, 3]), "in order"),
    ],
)
def test_wrong_values_are_refused(make, said):
    with pytest.raises(ti.ArgumentError, match=said):
        make(optimizer(1.0))


def test_another_schedules_state_is_refused():
    schedule = optim.StepLR(optimizer(1.0), 1)
    with pytest.raises(ti.LoadError, match="2 learning rates for 1"):
        schedule.load_state_dict({"last_epoch": 3, "base_lrs": [1.0, 2.0]})
    with pytest.raises(ti.LoadError, match="not count"):
        schedule.load_state_dict({"count": 3})
    assert schedule.last_epoch == 0


def test_the_room_has_pytorchs_name():
    assert lr_scheduler.OneCycleLR is optim.lr_scheduler.OneCycleLR is optim.OneCycleLR
