import re
from itertools import combinations

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.draw.schedule import arrows_of, bow, busy, colours_of, gantt, positions, way
from tinyinfer.draw.style import BLUE, GREY
from tinyinfer.runtime.machine import ASSUMED
from tinyinfer.runtime.plan import plan
from tinyinfer.runtime.profile import Event, Profile


def branches(x):
    a, b = x @ x, x.tanh()
    return ti.concat([a.T.relu(), b.exp(), (b * a).sqrt()], 0) @ b


GRAPH = ti.trace(branches, ti.zeros(16, 16))
SERIAL, BREADTH = plan(GRAPH).order, plan(GRAPH, order="breadth").order


def texts(path):
    """What is written in an SVG: Matplotlib puts it beside the outlines of the letters."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL)


def step(name, graph=GRAPH):
    return next(n for n in graph.steps if n.op.name == name)


# Orders


def test_an_order_is_told_with_its_peak(tmp_path):
    said = texts(SERIAL.draw(tmp_path / "order.svg"))
    peak = SERIAL.live.index(SERIAL.peak)
    assert any(s.startswith(f"{len(SERIAL.steps)} steps in memory order; at most ") for s in said)
    assert any(s.strip().endswith(f" at stage {peak}") for s in said)
    assert {f"%{GRAPH.names[n]}" for n in SERIAL.steps} | {"concat", "alive, KiB"} <= set(said)


def test_stages_are_told_too(tmp_path):
    said = texts(BREADTH.draw(tmp_path / "order.svg"))
    together = max(map(len, BREADTH.stages))
    assert together > 1 and len(BREADTH.stages) < len(BREADTH.steps)
    told = f"breadth order, {len(BREADTH.stages)} stages, up to {together} side by side"
    assert any(told in s for s in said)


def test_an_order_of_ones_own_and_a_title(tmp_path):
    order = plan(GRAPH, order=SERIAL.steps).order
    assert any("in given order" in s for s in texts(order.draw(tmp_path / "a.svg")))
    assert "By hand" in texts(order.draw(tmp_path / "b.svg", title="By hand"))


@pytest.mark.parametrize("order", [SERIAL, BREADTH])
def test_each_step_has_a_place_in_its_stage(order):
    at = positions(order)
    assert [at[n][0] for n in order.steps] == [
        i for i, stage in enumerate(order.stages) for _ in stage
    ]
    for a, b in combinations(at.values(), 2):
        assert a[0] != b[0] or abs(a[1] - b[1]) >= 1


def test_lines_go_through_views():
    arrows = {(m.op.name, n.op.name) for m, n in arrows_of(SERIAL)}
    assert ("matmul", "relu") in arrows and ("tanh", "matmul") in arrows
    assert not any("transpose" in arrow for arrow in arrows)


@pytest.mark.parametrize("order", [SERIAL, BREADTH])
def test_lines_go_around_what_is_in_between(order):
    at = positions(order)
    t = np.linspace(0, 1, 201)[:, None]
    went = 0
    for m, n in arrows_of(order):
        if (middle := bow(m, n, order, at)) is None:
            continue
        a, b, c, d = map(np.array, way(at[m], at[n], middle))
        x, y = ((1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d).T
        assert np.isclose(y[100], middle)
        across = [at[k] for k in order.steps if at[m][0] < at[k][0] < at[n][0]]
        went += len(across)
        for column, height in across:
            at_box = abs(y[abs(x - column - 0.5) < 0.1])
            assert (at_box > abs(height) + 0.38).all()
    assert went


def test_the_steps_of_a_stage_stand_so_that_few_lines_cross():
    def two(x):
        a, b = x.tanh(), x.exp()
        return b.sqrt(), a.relu()

    order = plan(ti.trace(two, ti.zeros(4, 4)), order="breadth").order
    at = positions(order)
    graph = order.graph
    height = {name: at[step(name, graph)][1] for name in ("tanh", "exp", "sqrt", "relu")}
    assert (height["tanh"] < height["exp"]) == (height["relu"] < height["sqrt"])


def test_an_order_of_nothing(tmp_path):
    order = plan(ti.trace(lambda x: x.T, ti.zeros(2, 3))).order
    with pytest.raises(ti.ArgumentError, match="no steps"):
        order.draw(tmp_path / "a.svg")
    assert not [*tmp_path.iterdir()]


def test_an_order_of_hundreds_of_steps(tmp_path):
    def long(x):
        ys = [x]
        for i in range(300):
            ys.append(ys[-1].tanh() + ys[-1 - i % 7])
        return ys[-1]

    path = plan(ti.trace(long, ti.zeros(2, 3)), order="greedy").order.draw(tmp_path / "a.png")
    assert path.stat().st_size > 1000


# What happened

MATMUL, TANH, CONCAT = map(step, ("matmul", "tanh", "concat"))
EVENTS = [
    Event(MATMUL, 0, 5.0, 5.000060), Event(TANH, 1, 5.0, 5.000020),
    Event(CONCAT, 1, 5.000050, 5.000080), Event(TANH, 0, 5.000070, 5.000100),
]  # fmt: skip


def test_a_run_is_told_with_its_threads(tmp_path):
    said = texts(gantt(EVENTS, tmp_path / "gantt.svg", GRAPH.names))
    assert "4 steps in 100.0 µs on 2 threads, 1.40 at a time" in said
    assert {"caller", "90 % busy", "thread 1", "50 % busy", "idle", "µs"} <= set(said)
    assert {f"%{GRAPH.names[MATMUL]}", "matmul", "60.0 µs"} <= set(said)
    assert {"matmul  43 %", "tanh  36 %", "concat  21 %"} <= set(said)


def test_one_thread(tmp_path):
    said = texts(gantt([e for e in EVENTS if e.lane == 0], tmp_path / "a.svg"))
    assert "2 steps in 100.0 µs" in said and "thread 1" not in said


@pytest.mark.parametrize("factor, unit", [(1e-3, "µs"), (1, "µs"), (100, "ms"), (1e5, "s")])
def test_the_unit_of_time(tmp_path, factor, unit):
    events = [e._replace(start=e.start * factor, end=e.end * factor) for e in EVENTS]
    assert unit in texts(gantt(events, tmp_path / "a.svg"))


def test_busy_is_the_time_in_steps():
    assert np.isclose(busy(EVENTS, 0), 90e-6) and np.isclose(busy(EVENTS, 1), 50e-6)


def test_few_ops_have_a_colour_those_that_take_longest():
    names = "matmul", "tanh", "concat", "exp", "relu", "sqrt"
    events = [Event(step(name), 0, 0.0, 1.0 + i) for i, name in enumerate(names)]
    colours = colours_of(events)
    assert colours["sqrt"] == BLUE and colours["matmul"] == colours["tanh"] == GREY
    assert len(set(colours.values())) == 5


def test_the_rest_has_one_entry(tmp_path):
    names = "matmul", "tanh", "concat", "exp", "relu", "sqrt"
    events = [Event(step(name), 0, 10.0 * i, 10 * i + 1 + i) for i, name in enumerate(names)]
    said = texts(gantt(events, tmp_path / "a.svg"))
    assert "other steps  14 %" in said and not any(re.match(r"matmul .* %", s) for s in said)


def test_a_profile_is_drawn(tmp_path):
    profile = Profile(GRAPH, [EVENTS], ASSUMED)
    said = texts(profile.draw(tmp_path / "profile.svg", title="A run"))
    assert {"A run", f"%{GRAPH.names[MATMUL]}", "thread 1"} <= set(said)


def test_no_events(tmp_path):
    with pytest.raises(ti.ArgumentError, match="no events"):
        gantt([], tmp_path / "a.svg")
    with pytest.raises(ti.ArgumentError, match="a picture cannot be"):
        gantt(EVENTS, tmp_path / "a.txt")


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_schedule_gives_the_same_bytes(tmp_path, kind):
    for draw in (BREADTH.draw, lambda path: gantt(EVENTS, path)):
        a, b = (draw(tmp_path / f"{n}.{kind}").read_bytes() for n in "ab")
        assert a == b and len(a) > 1000


def test_events_of_no_length(tmp_path):
    assert gantt([Event(MATMUL, 0, 1.0, 1.0)], tmp_path / "a.svg").exists()
