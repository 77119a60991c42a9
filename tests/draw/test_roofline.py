import re

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.draw.roofline import points_of, room
from tinyinfer.graph.passes import fuse
from tinyinfer.runtime.machine import Machine, remember

MODEL = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
GRAPH = ti.trace(MODEL, ti.zeros(4, 3, 8, 8))


@pytest.fixture(autouse=True)
def no_machine_is_remembered(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def texts(path):
    """What is written in an SVG: Matplotlib puts it beside the outlines of the letters."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_machine_is_named_and_the_largest_steps(tmp_path):
    said = texts(ti.analyze(GRAPH).draw(tmp_path / "roof.svg"))
    (machine,) = [s for s in said if s.startswith("peak")]
    assert "241.0 GFLOP/s" in machine and "37.0 GB/s" in machine and "assumed" in machine
    a = ti.analyze(GRAPH)
    conv = next(row for row in a.rows if row.op == "conv2d")
    assert f"0 conv2d  {100 * conv.flops / a.flops:.0f} %" in said
    assert {"memory-bound", "compute-bound"} <= {s.strip() for s in said}


def test_the_machine_that_was_measured(tmp_path):
    remember(Machine("a CPU", 1e12, 1e12, 5e10))
    said = texts(ti.analyze(GRAPH).draw(tmp_path / "roof.svg"))
    about = "measured on one core of this machine, a CPU"
    assert f"peak 1.0 TFLOP/s, memory 50.0 GB/s: {about}" in said


def test_a_machine_of_ones_own_is_not_assumed(tmp_path):
    said = texts(ti.analyze(GRAPH).draw(tmp_path / "roof.svg", peak=1e12, bandwidth=1e11))
    assert "peak 1.0 TFLOP/s, memory 100.0 GB/s" in said


def test_the_least_time_is_what_the_roof_allows(tmp_path):
    graph = ti.trace(lambda x: x + 1.0, ti.zeros(1000, 1000))
    said = texts(ti.analyze(graph).draw(tmp_path / "roof.svg", peak=1e12, bandwidth=1e9))
    assert any("no less than 8.0 ms" in s for s in said)


def test_steps_alike_are_one_point():
    points = points_of(ti.analyze(ti.trace(lambda x: x.relu().relu().relu(), ti.zeros(3, 4))))
    assert points == [("relu ×3", 36, 3 * 2 * 48)]


def test_a_fused_step_is_named_by_its_parts():
    graph = fuse(ti.trace(lambda x: (x * 2.0).relu(), ti.zeros(3, 4)))
    assert [p.name for p in points_of(ti.analyze(graph))] == ["mul → relu"]


def test_names_keep_apart():
    taken, inside = [], type("Box", (), {"min": np.array([0, 0]), "max": np.array([400, 400])})
    for _ in range(12):
        box = room(np.array([200, 200]), 5, np.array([80, 10]), taken or [[0, 0, 0, 0]], inside)
        for other in taken:
            assert box[0] > other[2] or box[2] < other[0] or box[1] > other[3] or box[3] < other[1]
        taken.append(box)


@pytest.mark.parametrize("machine", [
    {"peak": 0}, {"peak": -1}, {"bandwidth": 0}, {"bandwidth": float("nan")}, {"peak": "fast"},
])  # fmt: skip
def test_a_machine_that_cannot_be(tmp_path, machine):
    with pytest.raises(ti.ArgumentError, match=f"roofline: {next(iter(machine))}"):
        ti.analyze(GRAPH).draw(tmp_path / "roof.svg", **machine)
    assert not [*tmp_path.iterdir()]


def test_a_graph_that_computes_nothing(tmp_path):
    with pytest.raises(ti.ArgumentError, match="only move"):
        ti.analyze(ti.trace(lambda x: x.T, ti.zeros(2, 3))).draw(tmp_path / "roof.svg")


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_numbers_give_the_same_bytes(tmp_path, kind):
    a, b = (ti.analyze(GRAPH).draw(tmp_path / f"{n}.{kind}").read_bytes() for n in "ab")
    assert a == b and len(a) > 1000
