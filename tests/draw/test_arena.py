import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import tinyinfer as ti
from tinyinfer.draw.arena import Hole, arena, held_by, holes, live_bytes, told, wasted
from tinyinfer.draw.style import write_in
from tinyinfer.runtime.memory import PLANNERS, Buffer, Placement, place
from tinyinfer.runtime.plan import plan

BUFFERS = [
    Buffer("conv1", 4096, 0, 1),
    Buffer("patches", 2048, 0, 0),
    Buffer("pool1", 1024, 1, 2),
    Buffer("fc1", 512, 2, 3),
    Buffer("fc2", 512, 3, 3),
]
KINDS = ["result", "scratch", "result", "group", "result"]
THREE = "naive", "first_fit", "greedy_by_size"


def texts(path):
    """What is written in an SVG: Matplotlib puts it beside the outlines of the letters."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL)


def random_buffers(seed, count):
    rng = np.random.RandomState(seed)
    first, sizes = rng.randint(count, size=count), 64 * rng.randint(1, 100, count)
    lives = zip(sizes, first, first + rng.geometric(0.3, count))
    return [Buffer(f"b{i}", *map(int, life)) for i, life in enumerate(lives)]


# What there is to be seen


def test_alive_at_each_stage():
    assert live_bytes(BUFFERS).tolist() == [6144, 5120, 1536, 1024]


def test_a_hole_is_free_beneath_a_live_block():
    buffers = [Buffer("a", 10, 0, 0), Buffer("b", 20, 0, 2), Buffer("c", 5, 1, 1)]
    placement = Placement("by hand", (0, 20, 0), 40)
    assert sorted(holes(buffers, placement)) == [
        Hole(0, 20, 2, 2), Hole(5, 20, 1, 1), Hole(10, 20, 0, 0)
    ]  # fmt: skip
    assert wasted(buffers, placement) == 10 + 15 + 20


def test_a_hole_goes_on_while_it_stays_as_it_is():
    buffers = [Buffer("below", 10, 0, 3), Buffer("above", 10, 0, 3), Buffer("top", 5, 2, 2)]
    assert holes(buffers, Placement("by hand", (0, 30, 40), 45)) == [Hole(10, 30, 0, 3)]


@pytest.mark.parametrize("planner", THREE)
@pytest.mark.parametrize("seed", range(6))
def test_blocks_and_holes_fill_what_lies_beneath_the_highest_block(planner, seed):
    buffers = random_buffers(seed, 40)
    placement = place(buffers, planner, 64)
    filled = np.zeros((placement.total // 64, len(live_bytes(buffers))), int)
    for b, offset in zip(buffers, placement.offsets):
        filled[offset // 64 : (offset + b.size) // 64, b.first : b.last + 1] += 1
    for h in holes(buffers, placement):
        filled[h.low // 64 : h.high // 64, h.first : h.last + 1] += 1
    heights = [(column > 0).sum() for column in filled.T]
    assert filled.max() == 1 and all(filled[:top, i].all() for i, top in enumerate(heights))
    assert wasted(buffers, placement) == 64 * sum(heights) - live_bytes(buffers).sum()


@pytest.mark.parametrize("size, text", [
    (0, "0 B"), (40, "40 B"), (1023, "1023 B"), (1024, "1 KiB"), (18816, "18.4 KiB"),
    (802816, "784 KiB"), (4816896, "4.59 MiB"), (3 << 30, "3 GiB"),
])  # fmt: skip
def test_sizes_in_words(size, text):
    assert told(size) == text


# The pictures


def test_one_arena_is_told_with_its_total_and_the_bound(tmp_path):
    placement = Placement("greedy_by_size", (0, 4096, 4096, 0, 512), 6656)
    path = arena(BUFFERS, placement, tmp_path / "arena.svg", kinds=KINDS)
    said = texts(path)
    assert "5 buffers in an arena of 6.5 KiB, 8.3 % above the lower bound" in said
    assert {"total", "6.5 KiB", "lower bound", "6 KiB", "lower bound, 6 KiB"} <= set(said)
    assert {"conv1", "4 KiB", "patches", "scratch memory"} <= set(said)
    assert any("greedy by size" in s for s in said)


def test_an_arena_at_the_bound_is_as_small_as_can_be(tmp_path):
    said = texts(arena(BUFFERS, place(BUFFERS, "greedy_by_size"), tmp_path / "arena.svg"))
    assert "5 buffers in an arena of 6 KiB, as small as can be" in said
    assert "results side by side, parts of one" not in said


def test_planners_side_by_side_are_told_by_name_and_ratio(tmp_path):
    placements = [place(BUFFERS, planner) for planner in THREE]
    said = texts(arena(BUFFERS, placements, tmp_path / "planners.svg"))
    assert {"naive", "first fit", "greedy by size", "alive at each stage"} <= set(said)
    assert "5 buffers, placed by 3 planners in 6 KiB to 8 KiB" in said
    assert said.count("6 KiB, the lower bound") == 2 and "8 KiB, 1.33× the bound" in said


def test_what_is_far_higher_is_cut_off(tmp_path):
    buffers = random_buffers(0, 60)
    placements = [place(buffers, planner) for planner in THREE]
    (cut,) = [s for s in texts(arena(buffers, placements, tmp_path / "a.svg")) if "cut off" in s]
    assert cut.startswith(told(placements[0].total))


def test_a_bound_and_a_title_of_ones_own(tmp_path):
    placement = place(BUFFERS, "naive")
    said = texts(arena(BUFFERS, placement, tmp_path / "a.svg", lower_bound=5120, title="LeNet-5"))
    assert "LeNet-5" in said and "lower bound, 5 KiB" in said


def test_stages_have_names_where_there_is_room(tmp_path):
    names = ["conv1", "pool1", "fc1", "fc2"]
    said = texts(arena(BUFFERS, place(BUFFERS), tmp_path / "a.svg", stages=names))
    assert set(names) <= set(said) and "stage" not in said
    many = random_buffers(1, 200)
    names = [f"step{i}" for i in range(len(live_bytes(many)))]
    said = texts(arena(many, place(many, "first_fit"), tmp_path / "b.svg", stages=names))
    assert "stage" in said and not set(names) & set(said)


def test_a_name_is_written_as_it_is(tmp_path):
    buffers = [Buffer("a$b$c", 4096, 0, 0)]
    assert "a$b$c" in texts(arena(buffers, place(buffers), tmp_path / "a.svg"))


@pytest.mark.parametrize("width, height, text", [
    (1.0, 1.0, "conv1\n18.4 KiB"), (1.0, 0.12, "conv1  18.4 KiB"), (0.13, 1.0, "conv1  18.4 KiB"),
    (0.4, 0.12, "conv1"), (0.13, 0.4, "conv1"), (0.25, 1.0, "conv1\n18.4 KiB"), (0.08, 0.2, None),
    (1.0, 0.05, None),
])  # fmt: skip
def test_a_name_lies_within_its_block(width, height, text):
    ax = FigureCanvasAgg(Figure((1, 1), dpi=100)).figure.add_axes((0, 0, 1, 1))
    box = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    write_in(ax, box, ["conv1", "18.4 KiB"], "white")
    assert [t.get_text() for t in ax.texts] == ([text] if text else [])
    for t in ax.texts:
        low, high = t.get_tightbbox().get_points()
        assert (low > 0).all() and (high < [100 * width, 100 * height]).all()


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
@pytest.mark.parametrize("several", [False, True])
def test_the_same_plan_gives_the_same_bytes(tmp_path, kind, several):
    placements = [place(BUFFERS, p) for p in THREE] if several else place(BUFFERS)
    a, b = (arena(BUFFERS, placements, tmp_path / f"{n}.{kind}").read_bytes() for n in "ab")
    assert a == b and len(a) > 1000


def test_a_thousand_buffers_are_few_elements(tmp_path):
    buffers = random_buffers(2, 1000)
    path = arena(buffers, place(buffers, "first_fit"), tmp_path / "a.svg")
    assert path.stat().st_size < 1e6


def test_no_buffers(tmp_path):
    with pytest.raises(ti.ArgumentError, match="no buffers"):
        arena([], Placement("naive", (), 0), tmp_path / "a.svg")
    with pytest.raises(ti.ArgumentError, match="no placement"):
        arena(BUFFERS, [], tmp_path / "a.svg")
    assert not [*tmp_path.iterdir()]


def test_what_does_not_fit_together(tmp_path):
    with pytest.raises(ti.ArgumentError, match="naive has 2 offsets for 5 buffers"):
        arena(BUFFERS, Placement("naive", (0, 64), 128), tmp_path / "a.svg")
    with pytest.raises(ti.ArgumentError, match="kinds"):
        arena(BUFFERS, place(BUFFERS), tmp_path / "a.svg", kinds=["result"])
    with pytest.raises(ti.ArgumentError, match="result, group, scratch"):
        arena(BUFFERS, place(BUFFERS), tmp_path / "a.svg", kinds=["weights"] * 5)
    with pytest.raises(ti.ArgumentError, match="2 names of stages for 4 stages"):
        arena(BUFFERS, place(BUFFERS), tmp_path / "a.svg", stages=["one", "two"])


# Of a plan


def branches(x):
    return ti.concat([(x @ x).relu(), x.tanh() * x], 0) @ x @ x


GRAPH = ti.trace(branches, ti.zeros(16, 16))
CONV = ti.trace(lambda x, w: ti.conv2d(x, w).tanh(), ti.zeros(1, 4, 8, 8), ti.zeros(8, 4, 3, 3))


def test_a_plan_is_drawn_with_the_names_of_its_steps(tmp_path):
    said = texts(plan(GRAPH).draw(tmp_path / "arena.svg"))
    (concat,) = [f"%{GRAPH.names[n]}" for n in GRAPH.steps if n.op.name == "concat"]
    assert {concat, "concat", f"{concat} concat", "end"} <= set(said)


def test_what_a_buffer_holds():
    p = plan(GRAPH)
    held = dict(zip(*held_by(p)))
    assert held == {"concat": "group", "matmul": "result"}
    p = plan(CONV)
    scratch = [b.name for b, kind in zip(p.buffers, held_by(p)[1]) if kind == "scratch"]
    assert scratch == [b.name for b in p.buffers if "scratch" in b.name]


def test_a_plan_beside_those_of_other_planners(tmp_path):
    said = texts(plan(GRAPH).draw(tmp_path / "all.svg", compare=True))
    assert {name.replace("_", " ") for name in PLANNERS} <= set(said)
    said = texts(plan(GRAPH).draw(tmp_path / "two.svg", compare=["naive", "shared_by_size"]))
    assert "shared by size" in said and "first fit" not in said


def test_a_plan_that_cannot_be_drawn(tmp_path):
    with pytest.raises(ti.ArgumentError, match="no step writes into the arena"):
        plan(ti.trace(lambda x: x.relu(), ti.zeros(3))).draw(tmp_path / "a.svg")
    with pytest.raises(ti.ArgumentError, match="no planner 'magic'"):
        plan(GRAPH).draw(tmp_path / "a.svg", compare=["magic"])
    with pytest.raises(ti.ArgumentError, match="a picture cannot be"):
        plan(GRAPH).draw(tmp_path / "a.txt")


def test_buffers_of_no_bytes(tmp_path):
    empty = [Buffer("a", 0, 0, 1), Buffer("b", 0, 1, 2)]
    assert arena(empty, place(empty), tmp_path / "a.svg").exists()
    assert arena(empty, [place(empty, p) for p in THREE], tmp_path / "b.svg").exists()
