"""The numbers of a profile, of events made by hand; and of a real run those that do not depend on it."""

import json
import math
from operator import attrgetter
from time import perf_counter

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.graph.analyze import Analysis
from tinyinfer.graph.passes import fuse
from tinyinfer.runtime.machine import ASSUMED, Machine
from tinyinfer.runtime.profile import Event, Profile

MACHINE = Machine("a CPU", peak=1e9, int8=4e9, bandwidth=1e8)  # 10 FLOP/byte
X, W = ti.Spec((20, 30), np.dtype(np.float32)), ti.Spec((30, 40), np.dtype(np.float32))
GRAPH = ti.trace(lambda x, w: ti.relu(x @ w).T, X, W)
MATMUL, RELU, VIEW = GRAPH.steps


def run(matmul, relu, at=0.0, gap=0.0):
    """One after the other, of these seconds."""
    middle = at + matmul + gap
    return [Event(MATMUL, 0, at, at + matmul), Event(RELU, 0, middle, middle + relu)]


RUNS = [run(1e-3, 5e-4, 7.0, 1e-4), run(4e-3, 1e-4, 3.0, 2e-4), run(9e-3, 3e-4, 5.0, 6e-4)]


@pytest.fixture
def profile():
    return Profile(GRAPH, RUNS, MACHINE, {MATMUL: "gemm"})


def test_rows_have_the_medians(profile):
    matmul, relu = profile.rows
    assert (matmul.step, relu.step) == tuple(Analysis(GRAPH).rows[:2])
    assert (matmul.kernel, relu.kernel) == ("gemm", "")
    assert matmul.seconds == pytest.approx(4e-3) and relu.seconds == pytest.approx(3e-4)
    assert profile.seconds == pytest.approx(4.3e-3)
    assert matmul.share == pytest.approx(40 / 43) and matmul.share + relu.share == pytest.approx(1)


def test_rates_and_roofs(profile):
    matmul, relu = profile.rows
    flops, moved = 2 * 20 * 30 * 40, 4 * (20 * 30 + 30 * 40 + 20 * 40)
    assert matmul.gflops == pytest.approx(flops / 4e-3 / 1e9)
    assert matmul.gbs == pytest.approx(moved / 4e-3 / 1e9)
    assert flops / moved < 10 and matmul.bound == relu.bound == "memory"
    assert matmul.reach == pytest.approx(moved / 1e8 / 4e-3)
    assert relu.gbs == pytest.approx(2 * 4 * 800 / 3e-4 / 1e9)
    assert relu.reach == pytest.approx(6400 / 1e8 / 3e-4) and relu.reach < 1


def test_what_bounds_a_step_depends_on_the_machine():
    slow = Profile(GRAPH, RUNS, Machine("slow", peak=1e7, int8=4e7, bandwidth=1e8))
    matmul, relu = slow.rows
    assert (matmul.bound, relu.bound) == (
        "compute",
        "compute" if 800 / 1e7 > 6400 / 1e8 else "memory",
    )
    assert matmul.reach == pytest.approx(48_000 / 1e7 / 4e-3)


def test_products_of_bytes_are_under_the_roof_of_int8():
    x = ti.Spec((64, 64), np.dtype(np.int8))
    graph = ti.trace(ti.matmul, x, x)
    [n] = graph.steps
    [row] = Profile(graph, [[Event(n, 0, 0, 1e-3)]], Machine("m", 1e9, 4e9, 1e12)).rows
    assert row.bound == "compute" and row.reach == pytest.approx(2 * 64**3 / 4e9 / 1e-3)


def test_totals(profile):
    a = Analysis(GRAPH)
    assert (profile.flops, profile.macs) == (a.flops, a.macs) == (48_800, 24_000)
    assert (profile.read, profile.written) == (a.read, a.written)
    assert profile.mac_share == a.mac_share and profile.mac_time_share == pytest.approx(40 / 43)
    assert profile.wall == pytest.approx(4.3e-3) and profile.overhead == pytest.approx(2e-4)
    assert profile.runs == 3 and profile.lanes == [0]


def test_events_are_those_of_the_median_run_from_its_start_on(profile):
    assert [(e.node, e.lane) for e in profile.events] == [(MATMUL, 0), (RELU, 0)]
    times = [t for e in profile.events for t in (e.start, e.end)]
    assert times == pytest.approx([0, 4e-3, 4.2e-3, 4.3e-3])
    back = Profile(
        GRAPH, [[e._replace(start=9 - e.end, end=9 - e.start) for e in RUNS[0]]], MACHINE
    )
    assert [e.node for e in back.events] == [RELU, MATMUL] and back.events[0].start == 0
    assert Profile(GRAPH, RUNS[:2], MACHINE).wall == pytest.approx(1.6e-3)  # of two the faster


def side_by_side():
    graph = ti.trace(lambda x: (x.relu() * 1.5, x.exp() * 2.5), ti.zeros(8))
    names = {n.op.name: n for n in graph.steps}
    relu, exp = names["relu"], names["exp"]
    times = {}
    for n in graph.steps:
        times[n] = (0, 0, 2) if n is relu else (1, 1, 5) if n is exp else None
    first, second = (n for n in graph.steps if times[n] is None)
    times |= {first: (0, 3, 4), second: (1, 6, 8)}
    return graph, [Event(n, lane, start, end) for n, (lane, start, end) in times.items()]


def test_side_by_side():
    graph, events = side_by_side()
    p = Profile(graph, [events], MACHINE)
    assert p.lanes == [0, 1] and p.seconds == 2 + 4 + 1 + 2
    assert p.wall == 8 and p.overhead == 1  # from 5 to 6: else one lane or the other has a step
    assert p.abreast == 9 / 8
    assert "on 2 threads, 1.12 steps at a time" in str(p)


def test_a_step_that_did_not_run_has_no_row(profile):
    assert VIEW not in {row.step.node for row in profile.rows}
    only = Profile(GRAPH, [[Event(RELU, 0, 1, 2)], [Event(RELU, 0, 1, 4)]], MACHINE)
    assert [row.step.node for row in only.rows] == [RELU]
    assert only.macs == only.mac_share == only.mac_time_share == 0 and only.flops == 800


def test_a_step_that_is_run_now_and_then_counts_as_nothing_where_it_is_not():
    runs = [[Event(RELU, 0, 0, 1)], [Event(RELU, 0, 0, 1)], run(1.0, 1.0)]
    assert [row.seconds for row in Profile(GRAPH, runs, MACHINE).rows] == [0, 1]


def test_no_time_at_all():
    p = Profile(GRAPH, [[Event(RELU, 0, 1, 1), Event(VIEW, 0, 1, 1)]], MACHINE)
    assert all(math.isfinite(x) for row in p.rows for x in (row.gflops, row.gbs, row.reach))
    assert [row.bound for row in p.rows] == ["memory", ""] and p.wall == p.seconds == 0
    nothing = Profile(ti.trace(lambda x: x, X), [[]], MACHINE)
    assert nothing.rows == nothing.events == [] and "total" in str(nothing)


def test_the_table(profile):
    lines = str(profile).splitlines()
    assert [line.split() for line in lines[2:4]] == [
        "%0 matmul float32[20, 40] gemm 4,000.0 93.0% 48,000 0.0 0.0 memory 3%".split(),
        "%1 relu float32[20, 40] 300.0 7.0% 800 0.0 0.0 memory 21%".split(),
    ]
    assert lines[5].split() == ["total", "4,300.0", "100.0%", "48,800", "0.0", "0.0"]
    assert lines[6:] == [
        "3 runs, medians: from start to end 4,300.0 µs, of which 200.0 µs between steps",
        "steps with MACs take 93.0% of the time, MACs are 98.4% of the FLOPs",
        "roof: 1 GFLOP/s and 0.1 GB/s, of one core of a CPU",
        "bound by: which of the two allows less; above 100% the numbers came from the caches",
    ]
    assert "`tinyinfer bench machine` measures" in str(Profile(GRAPH, RUNS, ASSUMED))


@pytest.mark.parametrize("runs, message", [
    ([], "at least one run"), ([[Event(GRAPH.inputs[0], 0, 0, 1)]], "none of this graph"),
])  # fmt: skip
def test_what_cannot_be_a_profile(runs, message):
    with pytest.raises(ti.ArgumentError, match=f"profile: .*{message}"):
        Profile(GRAPH, runs, MACHINE)


def traced(profile, path):
    found = json.loads(profile.save(path).read_text(encoding="utf-8"))["traceEvents"]
    return [[e for e in found if e["ph"] == phase] for phase in "MX"]


def test_the_trace(profile, tmp_path):
    names, (matmul, relu) = traced(profile, tmp_path / "trace.json")
    assert [(e["name"], e["tid"], e["args"]["name"]) for e in names] == [
        ("process_name", 0, "tinyinfer"),
        ("thread_name", 0, "caller"),
    ]
    assert (matmul["name"], matmul["ts"], matmul["tid"]) == ("%0 matmul", 0, 0)
    assert matmul["dur"] == pytest.approx(4000) and relu["ts"] == pytest.approx(4200)
    args = matmul["args"]
    assert args["result"] == "float32[20, 40]" and args["kernel"] == "gemm"
    assert args["inputs"] == ["float32[20, 30]", "float32[30, 40]"]
    assert (args["FLOPs"], args["MACs"], args["bytes"]) == (48_000, 24_000, 10_400)
    assert args["line"].startswith("test_profile.py:") and args["bound by"] == "memory"
    assert "kernel" not in relu["args"]


def test_the_lanes_of_a_trace_are_threads(tmp_path):
    graph, events = side_by_side()
    names, steps = traced(Profile(graph, [events], MACHINE), tmp_path / "trace.json")
    assert [e["args"]["name"] for e in names] == ["tinyinfer", "caller", "thread 1"]
    assert [(e["ts"], e["dur"], e["tid"]) for e in steps] == [
        (0, 2e6, 0), (1e6, 4e6, 1), (3e6, 1e6, 0), (6e6, 2e6, 1),
    ]  # fmt: skip


def test_a_trace_tells_what_is_fused_and_where_it_was(tmp_path):
    graph = fuse(ti.trace(nn.Sequential(nn.Linear(30, 4), nn.ReLU()), X))
    step = next(n for n in graph.steps if n.op.name == "fused")
    [event] = traced(Profile(graph, [[Event(step, 0, 0, 1)]], MACHINE), tmp_path / "t.json")[1]
    assert event["name"].endswith(" matmul → add → relu") and event["args"]["module"] == "0: Linear"


def test_a_trace_is_json(profile, tmp_path):
    with pytest.raises(ti.ArgumentError, match="'trace.svg': end it in .json"):
        profile.save(tmp_path / "trace.svg")
    assert not [*tmp_path.iterdir()]


def watched(graph, arrays):
    events = []

    def call(n, xs):
        start = perf_counter()
        y = n.op.compute(*xs)
        events.append(Event(n, 0, start, perf_counter()))
        return y

    graph.interpret(arrays, attrgetter("value"), call)
    return events


def test_of_a_real_run(tmp_path):
    x, w = (np.ones(spec.shape, spec.dtype) for spec in (X, W))
    p = Profile(GRAPH, [watched(GRAPH, [x, w]) for _ in range(5)], MACHINE)
    assert [row.step.node for row in p.rows] == [*GRAPH.steps]
    assert all(0 < x < math.inf for x in (p.wall, p.seconds, p.overhead, p.rows[0].gflops))
    assert len(traced(p, tmp_path / "trace.json")[1]) == 3
