import re
import subprocess
import sys
from shutil import which

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.draw.graph import colour, details, to_graphviz
from tinyinfer.draw.measure import measure
from tinyinfer.draw.sketch import Figure, Sketch, Tape
from tinyinfer.draw.style import AMBER, BLUE, GREEN, GREY, shade
from tinyinfer.graph.graph import flops
from tinyinfer.graph.passes import fuse


class Net(nn.Module):
    def __init__(self):
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(36, 3)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


IMAGES = np.random.RandomState(0).rand(2, 1, 8, 8).astype(np.float32)
LABELS = np.array([0, 2])


NET = Net()  # a tape holds its modules weakly


def net_loss(model=NET):
    return ti.cross_entropy(model(ti.tensor(IMAGES)), ti.tensor(LABELS))


def scalar(x=2.0):
    return ti.tensor(x, requires_grad=True)


def picture(tensor_or_graph):
    is_graph = isinstance(tensor_or_graph, ti.Graph)
    return Sketch(tensor_or_graph if is_graph else Tape((tensor_or_graph.node,))).root


def source(tensor_or_graph):
    return to_graphviz(picture(tensor_or_graph), {}).source


def figures(tensor_or_graph, kind=None):
    found = picture(tensor_or_graph).figures()
    return [f for f in found if kind in (None, f.kind)]


def names(tensor_or_graph, kind):
    return [f.name for f in figures(tensor_or_graph, kind)]


def frames(frame):
    inside = [x for x in frame.items if not isinstance(x, Figure)]
    return {x.title: frames(x) for x in inside}


def training_step():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, t):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), t)
        loss.backward()
        opt.step()
        return loss

    # the modules live as long as the graph is looked at
    return ti.trace(step, ti.zeros(5, 3), ti.tensor(np.zeros(5, int))), model


# What is shown


def test_a_use_twice_is_two_arrows():
    a = scalar()
    b = a + a
    c = b + b
    assert [[a.tail.name for a in f.feeds] for f in figures(c)] == [[], ["", ""], ["add", "add"]]
    assert len(re.findall(r"n0 -> n1", source(c))) == len(re.findall(r"n1 -> n2", source(c))) == 2


def test_modules_are_nested_frames_with_names_from_the_outermost():
    tree = frames(picture(net_loss()))
    inside = {"features.0: Conv2d": {}, "features.1: ReLU": {}, "features.2: MaxPool2d": {}}
    assert tree == {"Net": {"features: Sequential": inside, "fc: Linear": {}}}


def test_a_frame_around_one_step_is_a_line_in_it():
    text = source(net_loss())
    assert "label=" in text and 'label="features.0: Conv2d"' in text
    assert 'label="features.1: ReLU"' not in text and ">features.1: ReLU<" in text


def test_a_module_called_again_later_has_a_frame_for_each_call():
    layer = nn.Linear(3, 3)
    y = layer(layer(ti.zeros(1, 3)).relu())
    assert [x.title for x in picture(y).items if not isinstance(x, Figure)] == ["Linear"] * 2
    assert names(y, "state") == ["weight", "bias"] * 2


def test_a_module_that_is_gone_leaves_its_steps():
    y = nn.Linear(3, 3)(scalar([[1.0, 2.0, 3.0]]))
    assert frames(picture(y)) == {}
    assert "matmul" in names(y, "step")


def test_parameters_have_their_names_without_being_asked_for():
    model = Net()
    assert model.fc.weight.name is None
    picture(net_loss(model))
    assert model.fc.weight.name == "fc.weight"


def test_a_state_has_the_part_of_its_name_that_its_frame_does_not_say():
    assert names(net_loss(), "state") == ["weight", "bias"] * 2
    graph, model = training_step()
    assert "0.weight" in names(graph, "update")  # beside the moment, in a frame of its own


def test_an_inner_module_alone_does_not_rename():
    model = Net()
    model.states()
    y = model.fc(ti.tensor(np.ones((1, 36), np.float32)))
    assert model.fc.weight.name == "fc.weight"
    assert names(y, "state") == ["fc.weight", "fc.bias"]  # the frame says Linear only


def test_a_state_without_a_name_shows_its_shape():
    y = scalar([1.0, 2.0]).exp()
    assert names(y, "state") == [""]
    assert "float32[2]" in source(y)


def test_kinds_differ_in_shape_and_colour():
    graph, model = training_step()
    text = source(graph)
    for shape, tint in (
        ("invhouse", BLUE),
        ("cylinder", AMBER),
        ("note", GREY),
        ("cylinder", GREEN),
    ):
        assert re.search(rf'color="{tint.line}" fillcolor="{tint.fill}".*shape={shape}', text)
    assert re.search(rf'color="{GREEN.line}".*peripheries=2 shape=box', text)
    assert 'bgcolor="#ffffff"' in text


def test_inputs_came_in_and_constants_were_made_on_the_way():
    model = Net()
    assert names(net_loss(model), "input") == ["input"]
    assert len(figures(net_loss(model), "constant")) == 2  # places of the labels


def test_numbers_are_written_into_their_steps():
    y = (2.0 - scalar()) * 0.5
    assert [(f.kind, f.args) for f in figures(y)] == [
        ("state", ""),
        ("step", "(2, ·)"),
        ("result", "(·, 0.5)"),
    ]


def test_repeated_numbers_are_no_figures():
    x = scalar(np.ones((4, 5)))
    y = x * ti.full((4, 5), 3, "float64")
    assert [(f.kind, f.args) for f in figures(y)] == [("state", ""), ("result", "(·, 3)")]
    graph = ti.trace(lambda x: x + ti.zeros(4, 5), ti.zeros(4, 5))
    assert [f.name for f in figures(graph)] == ["x", "add"]


def test_single_values_are_shown_where_they_are_known():
    assert "float32[] = 6" in source(scalar(3.0) * 2.0)
    assert "float32[] =" not in source(ti.trace(lambda x: x * 2.0, ti.tensor(3.0)))


def test_arrows_say_which_is_which_only_in_doubt():
    a, b = scalar(), scalar()
    roles = lambda y: [arrow.role for f in figures(y) for arrow in f.feeds]
    assert roles(a - b) == ["a", "b"]
    assert roles(a * b) == roles(a.maximum(b)) == ["", ""]
    assert roles(a - 1.0) == [""]


def test_views_are_small():
    y = scalar(np.ones((2, 3), np.float32)).T.reshape(6).exp()
    assert names(y, "view") == ["transpose", "reshape"]


def test_weights_stand_beside_the_step_they_feed():
    loss = net_loss()
    steps = {f.name: [t.name for t in f.beside()] for f in figures(loss) if f.beside()}
    assert steps["conv2d"] == ["weight"]
    assert steps["matmul"] == ["transpose"] and steps["transpose"] == ["weight"]


def test_a_leaf_that_others_use_too_stands_above(tmp_path):
    """Else where stands beside its mask, and below what it chooses from, which is below the leaf."""
    places = np.array([-1, 2, -3])
    leaf = ti.tensor(places)
    graph = ti.trace(lambda x: ti.where(leaf < 0, leaf + x, leaf), places)
    (where,) = figures(graph, "result")
    assert where.beside() == []
    which("dot") or pytest.skip("Graphviz is not installed")
    assert graph.draw(tmp_path / "graph.svg").suffix == ".svg"


def test_attributes_are_short():
    conv = ti.ops.conv.Conv2d((2, 2), ((1, 1), (1, 1)))
    assert details(conv, None) == "stride 2, padding 1"
    assert details(ti.ops.conv.Conv2dInput(conv, (1, 2, 3, 4)), None).startswith(
        "stride 2, padding 1"
    )
    assert details(ti.ops.shape.Slice(((0, 4, 1), (7, -1, -2))), None) == "[0:4, 7:-1:-2]"
    assert details(ti.ops.shape.Slice(((0, 4, 1), (0, 4, 1))), None) == "[0:4, 0:4]"
    reshape = ti.tensor(np.ones((2, 3)), requires_grad=True).reshape(6).node
    assert details(reshape.op, reshape.spec) == ""
    assert len(details(ti.ops.shape.Pad(((11, 22),) * 9, 0.5), None)) == 40


# Static graphs


def test_a_training_step_has_a_frame_for_each_update():
    graph, model = training_step()
    titles = [*frames(picture(graph))]
    assert titles[0] == "Sequential"
    assert {t for t in titles if t.startswith("update")} == {
        f"update of {i}.{what}" for i in (0, 2) for what in ("weight", "bias")
    }
    assert set(names(graph, "update")) >= {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert len(figures(graph, "update")) == len(graph.updates) == 8


def test_results_are_numbered_if_there_are_several():
    graph = ti.trace(lambda x: (x * 2.0, x), ti.zeros(3))
    assert [(f.name, f.note) for f in figures(graph, "result")] == [
        ("mul", "result 0"),
        ("result 1", ""),
    ]


def test_a_constant_result():
    graph = ti.trace(lambda x: ti.zeros(3), ti.zeros(3))
    assert len(figures(graph, "result")) == 1


def test_control_flow_shows_the_graphs_inside():
    w = ti.tensor(np.ones((3, 3), np.float32), requires_grad=True)

    def fn(x):
        y = ti.cond(x.sum() > 0.0, lambda x: x @ w, lambda x: x * 2.0, x)
        return ti.scan(lambda c, v: (c + v, c * v), y[0], y)[1]

    graph = ti.trace(fn, ti.zeros(3, 3))
    assert frames(picture(graph)) == {
        "cond": {"then": {}, "otherwise": {}},
        "scan": {"body": {}},
    }
    assert "style=dashed" in source(graph)


def test_what_is_given_to_a_loop_comes_in_and_what_it_gives_comes_out_of_its_frame():
    w = ti.State(np.ones((3, 3), np.float32), name="w")

    def fn(x):
        return ti.while_loop(lambda i, y: i < 4, lambda i, y: (i + 1, y @ w), 0, x)[1].exp()

    graph = ti.trace(fn, ti.zeros(3, 3))
    found = figures(graph)
    (loop,) = [f for f in found if f.name == "while"]
    inner = [f for f in loop.inside.figures() if f.kind == "input"]
    assert [f.name for f in inner] == ["input 0", "input 0", "input 1", "w"]  # what is used
    assert all(f.tails == [loop] for f in inner)
    assert re.search(r"n\d+ -> n\d+ \[ltail=cluster\d+\]", source(graph))
    assert "ltail" not in source(ti.trace(lambda x: x.exp(), ti.zeros(3)))


def test_a_fused_step_tells_what_it_does():
    graph = fuse(ti.trace(lambda x: (x.exp() + 1.0).tanh(), ti.zeros(3)))
    assert [f.name for f in figures(graph, "result")] == ["exp → add → tanh"]
    assert "exp → add → tanh" in source(graph)
    graph = fuse(ti.trace(lambda x: (x.exp() + 1.0).tanh().exp().sin().cos().exp(), ti.zeros(3)))
    assert names(graph, "result") == ["exp → add → tanh → … → cos → exp"]


# Layout


def test_the_gradient_flows_up_beside_the_network():
    graph, model = training_step()
    text, found = source(graph), figures(graph)
    rising = {f for f in found if f.rises}
    assert rising == {f for f in found if f.node.op and f.node.origin.backward}
    ids = {f: f"n{i}" for i, f in enumerate(found)}
    ups = [(f, t) for f in rising for t in f.tails if t in rising]
    assert ups
    for f, t in ups:
        assert re.search(rf"{ids[f]} -> {ids[t]} \[.*dir=back", text)


def test_many_states_of_one_step_are_one_figure():
    model = nn.Sequential(nn.BatchNorm2d(3)).eval()
    y = ti.trace(model, ti.zeros(2, 3, 4, 4))
    (states,) = figures(y, "state")
    assert [x.name for x in states.members] == ["running_mean", "running_var", "weight", "bias"]
    assert all(f"<b>{x.name}</b>" in source(y) for x in states.members)


class Block(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return (self.b(self.a(x).relu()) + x).relu()


def test_a_deep_network_is_in_columns_with_connectors_between():
    model = nn.Sequential(*[Block() for _ in range(8)])
    root = picture(ti.trace(model, ti.zeros(2, 3)))
    figures_before = [*root.figures()]
    to_graphviz(root, {})
    (frame,) = [x for x in root.items if not isinstance(x, Figure)]
    assert len(frame.items) == 2 and not any(x.title for x in frame.items)
    columns = [{*x.figures()} for x in frame.items[::-1]]  # the first one is told last
    links = [sorted(f.name for f in c if f.kind == "connector") for c in columns]
    assert links == [["1"], ["1"]]
    inside = lambda f: [i for i, c in enumerate(columns) if f in c]
    for f in (f for c in columns for f in c):
        assert all(inside(t) in ([], inside(f)) for t in f.tails)
    assert {*figures_before} <= {*root.figures()}
    shallow = picture(ti.trace(model[0], ti.zeros(2, 3)))
    assert "connector" not in {f.kind for f in shallow.figures()}


def test_updates_are_in_few_stacks():
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(6)])
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        opt.zero_grad()
        model(x).sum().backward()
        opt.step()

    root = picture(ti.trace(step, ti.zeros(5, 3)))
    to_graphviz(root, {})
    updates = [x for x in root.items if not isinstance(x, Figure) and x.title.startswith("update")]
    below = [x for x in updates if any(a.mark == "unseen" for f in x.figures() for a in f.feeds)]
    assert len(updates) == 12 and 0 < len(updates) - len(below) < 6


def test_the_learning_rate_is_written_into_the_steps():
    model = nn.Linear(3, 2)
    opt = optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        opt.zero_grad()
        model(x).sum().backward()
        opt.step()

    found = figures(ti.trace(step, ti.zeros(5, 3)))
    assert [f.args for f in found if "lr" in f.args] == ["(cast(lr.0), ·)"] * 2
    assert not [f for f in found if f.name == "cast"]


# Colours


def colours(graph, **options):
    values = measure(graph, **options)
    root = picture(graph)
    colour(root, values)
    return {f.name: f for f in root.figures() if f.kind in ("step", "view", "result")}


def lightness(figure):
    fill = figure.look["fillcolor"]
    return sum(w * int(fill[i : i + 2], 16) for w, i in ((2, 1), (5, 3), (1, 5)))


WIDE, SLIM = np.eye(8, dtype=np.float32), np.eye(8, 2, dtype=np.float32)


def two_products(x):
    return (x @ WIDE).tanh() @ SLIM


def test_steps_are_coloured_by_their_share_of_the_flops(tmp_path):
    graph = ti.trace(lambda x: two_products(x).T, ti.zeros(4, 8))
    a, tanh, b, T = (flops(n) for n in graph.steps)
    by_name = colours(graph, by="flops")
    assert T == 0 and by_name["transpose"].share == ""
    assert by_name["tanh"].share == f"{100 * tanh / (a + tanh + b):.0f} %"
    first, second = (f for f in sketched(graph, "flops") if f.name == "matmul")
    assert first.share == f"{100 * a / (a + tanh + b):.0f} %"
    assert lightness(first) < lightness(second) < lightness(by_name["transpose"])
    text = graph.draw(tmp_path / "g.gv", color_by="flops").read_text(encoding="utf-8")
    assert first.share in text and f"FLOPs: {graph.flops()}" in text.replace(".0", "")
    assert text.count("bgcolor") == 7  # of the page, and six of the scale


def sketched(graph, by, **options):
    root = picture(graph)
    colour(root, measure(graph, by, **options))
    return [*root.figures()]


def test_by_bytes():
    graph = ti.trace(lambda x: (x.sum(0) + 1.0).reshape(1, 8), ti.zeros(100, 8))
    by_name = colours(graph, by="bytes")
    assert by_name["reshape"].share == ""
    assert int(by_name["sum"].share.removesuffix(" %")) > 90
    assert lightness(by_name["sum"]) < lightness(by_name["add"])


def test_by_time_the_states_stay_as_they_are():
    state = ti.State(np.zeros(3, np.float32), name="s")

    def fn(x):
        state.assign(state + x)
        return two_products(x.broadcast_to((64, 3)) @ WIDE[:3]).sum() + state.sum()

    graph = ti.trace(fn, ti.zeros(3))
    times = measure(graph, "time", (np.ones(3, np.float32),))
    assert set(times.numbers) == set(graph.steps) and all(t > 0 for t in times.numbers.values())
    assert state.numpy().tolist() == [0, 0, 0]


def test_by_error_against_double_precision():
    def fn(x):
        big = x.astype("float32") + 1e4
        return (big - 1e4) * 3.0, x * 2.0, (x > 0.0)

    graph = ti.trace(fn, ti.zeros(50))
    x = np.random.RandomState(0).rand(50).astype(np.float32)
    found = {n.op.name: e for n, e in measure(graph, "error", x).numbers.items()}
    assert found["greater"] == 0
    assert found["add"] < 1e-7 and found["sub"] > 1e-5  # cancelled
    double = ti.trace(lambda x: (x + 1e4).tanh(), ti.zeros(50, dtype="float64"))
    assert set(measure(double, "error", x.astype(float)).numbers.values()) == {0.0}


def test_errors_see_through_casts_loops_and_random_numbers():
    def fn(x):
        h = ti.scan(lambda c, v: (c + v, c * v), x[0], x)[1]
        return (h.astype("float16").astype("float32") * ti.rand(5, 4)).sum()

    graph = ti.trace(fn, ti.zeros(5, 4))
    x = np.random.RandomState(0).rand(5, 4).astype(np.float32)
    errors = {n.op.name: e for n, e in measure(graph, "error", x).numbers.items()}
    assert errors["uniform"] == 0 and 0 < errors["scan"] < 1e-6
    assert 1e-5 < errors["cast"] < 1e-2  # of half precision


def test_by_numbers_of_ones_own(tmp_path):
    graph = ti.trace(lambda x: x.exp().tanh(), ti.zeros(3))
    exp, tanh = graph.steps
    by_name = colours(graph, by={exp: 3.0, tanh: float("inf")})
    assert by_name["exp"].share == "3" and by_name["tanh"].share == "inf"
    assert lightness(by_name["tanh"]) == lightness(by_name["exp"])  # the end of the scale
    assert colours(graph, by={exp: 0.0})["exp"].share == ""
    assert "inf" in graph.draw(tmp_path / "g.gv", color_by={tanh: float("inf")}).read_text()


def test_text_stands_out_from_its_colour():
    for share in np.linspace(0, 1, 21):
        fill, ink = shade(share)
        a, b = sorted(map(luminance, (fill, ink)))
        assert (b + 0.05) / (a + 0.05) > 3.9


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def test_darker_is_more():
    shades = [luminance(shade(x)[0]) for x in np.linspace(0, 1, 50)]
    assert all(a > b for a, b in zip(shades, shades[1:]))


@pytest.mark.parametrize("by", ["time", "error"])
def test_what_runs_the_graph_wants_inputs(tmp_path, by):
    graph = ti.trace(lambda x, y: x @ y, ti.zeros(2, 3), ti.zeros(3, 2))
    with pytest.raises(ti.ArgumentError, match=r"inputs=\(\.\.\.\).*x: float32\[2, 3\], y"):
        graph.draw(tmp_path / "g.gv", color_by=by)
    with pytest.raises(ti.GraphError, match="was given float32"):
        graph.draw(tmp_path / "g.gv", color_by=by, inputs=(np.zeros((2, 3), np.float32),) * 2)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("by", ["size", 3, ["flops"]])
def test_another_colour_is_refused(tmp_path, by):
    with pytest.raises(ti.ArgumentError, match="'flops', 'bytes', 'time', 'error'"):
        ti.trace(lambda x: x.exp(), ti.zeros(3)).draw(tmp_path / "g.gv", color_by=by)


def test_numbers_of_another_graph_are_refused(tmp_path):
    a, b = (ti.trace(lambda x: x.exp(), ti.zeros(3)) for _ in "ab")
    with pytest.raises(ti.ArgumentError, match=r"graph\.nodes"):
        a.draw(tmp_path / "g.gv", color_by={b.steps[0]: 1.0})


# Files


@pytest.mark.parametrize("kind, start", [
    ("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("gv", b"digraph"),
])  # fmt: skip
def test_the_ending_chooses_the_format(tmp_path, kind, start):
    path = tmp_path / f"graph.{kind}"
    if kind != "gv":
        which("dot") or pytest.skip("Graphviz is not installed")
    assert net_loss().draw(path) == path
    assert path.read_bytes().startswith(start)


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    loss = net_loss()
    a, b = (loss.draw(tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert a == b


def test_without_graphviz_the_source_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    loss = net_loss()
    assert loss.draw(str(tmp_path / "graph.svg")) == tmp_path / "graph.gv"
    assert (tmp_path / "graph.gv").read_text(encoding="utf-8").startswith("digraph")
    assert not (tmp_path / "graph.svg").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for what in ("graph.gv", "apt install graphviz", "brew install graphviz"):
        assert what in said


def test_when_graphviz_fails_the_source_is_written(tmp_path, monkeypatch, capsys):
    dot = tmp_path / "dot"
    dot.write_text("#!/bin/sh\nexit 1\n")
    dot.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scalar().exp().draw(tmp_path / "graph.png") == tmp_path / "graph.gv"
    assert "failed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["graph.jpeg", "graph", "graph.svg.gz"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(ti.ArgumentError, match=r"\.svg, \.png, \.pdf, \.gv"):
        net_loss().draw(tmp_path / name)
    assert not [*tmp_path.iterdir()]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ti.ArgumentError, match="nowhere"):
        net_loss().draw(tmp_path / "nowhere" / "graph.svg")


def test_nothing_recorded_is_an_error(tmp_path):
    with pytest.raises(ti.GraphError, match="requires_grad=True"):
        (ti.tensor([1.0, 2.0]) * 2.0).draw(tmp_path / "graph.svg")
    with ti.no_grad(), pytest.raises(ti.GraphError):
        net_loss().draw(tmp_path / "graph.svg")


def test_names_may_contain_anything(tmp_path):
    model = nn.Sequential({'<a "&" \\b>': nn.Linear(3, 3), "c": nn.ReLU()})
    path = model(ti.zeros(2, 3)).draw(tmp_path / "graph.svg")
    if path.suffix == ".svg":
        assert "&lt;a &quot;&amp;&quot; \\b&gt;: Linear" in path.read_text(encoding="utf-8")


def test_a_graph_too_large_to_read_is_drawn_and_says_so(tmp_path, capsys):
    x = scalar()
    for _ in range(1600):
        x = x.tanh()
    assert x.draw(tmp_path / "graph.gv").stat().st_size > 100_000
    assert "1,601 nodes" in capsys.readouterr().err
    net_loss().draw(tmp_path / "small.gv")
    assert capsys.readouterr().err == ""


def test_graphviz_and_matplotlib_are_imported_only_when_drawing():
    code = "import sys, tinyinfer, tinyinfer.draw.charts; print({'graphviz', 'matplotlib'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_a_wrapped_op_says_what_it_wraps():
    x = ti.Spec((1, 3, 8, 8), np.dtype("float32"))
    g = ti.trace(lambda x: ti.relu(ti.max_pool2d(x, 2) + 1.0) @ ti.ones(4, 4), x)
    laid_out, marked = ti.optimize(g, ["layout"]), ti.optimize(g, ["in_place"])
    assert "max_pool2d in_layout" in names(laid_out, "step")
    wrapped = next(n.op for n in laid_out.steps if n.op.name == "in_layout")
    assert details(wrapped, None).startswith("size 2, stride 2, layout NHWC")
    assert "relu in_place" in names(marked, "step")
