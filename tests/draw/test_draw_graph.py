import re
import subprocess
import sys
from shutil import which

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.draw.graph import details, to_graphviz
from tinyinfer.draw.sketch import Figure, Sketch, Tape
from tinyinfer.draw.style import AMBER, BLUE, GREEN, GREY
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
    assert [[t.name for t, _ in f.feeds] for f in figures(c)] == [[], ["", ""], ["add", "add"]]
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
    shown = names(net_loss(model), "state")
    assert shown == ["features.0.weight", "features.0.bias", "fc.weight", "fc.bias"]


def test_an_inner_module_alone_does_not_rename():
    model = Net()
    model.states()
    y = model.fc(ti.tensor(np.ones((1, 36), np.float32)))
    assert names(y, "state") == ["fc.weight", "fc.bias"]


def test_a_state_without_a_name_shows_its_shape():
    y = scalar([1.0, 2.0]).exp()
    assert names(y, "state") == [""]
    assert "float32[2]" in source(y)


def test_kinds_differ_in_shape_and_colour():
    graph, model = training_step()
    text = source(graph)
    for shape, colour in (
        ("invhouse", BLUE),
        ("cylinder", AMBER),
        ("note", GREY),
        ("cylinder", GREEN),
    ):
        assert re.search(rf'color="{colour.line}" fillcolor="{colour.fill}".*shape={shape}', text)
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
    assert [role for f in figures(a - b) for _, role in f.feeds] == ["a", "b"]
    assert [role for f in figures(a * b) for _, role in f.feeds] == ["", ""]
    assert [role for f in figures(a.maximum(b)) for _, role in f.feeds] == ["", ""]
    assert [role for f in figures(a - 1.0) for _, role in f.feeds] == [""]


def test_views_are_small():
    y = scalar(np.ones((2, 3), np.float32)).T.reshape(6).exp()
    assert names(y, "view") == ["transpose", "reshape"]


def test_weights_stand_beside_the_step_they_feed():
    loss = net_loss()
    steps = {f.name: [t.name for t in f.beside()] for f in figures(loss) if f.beside()}
    assert steps["conv2d"] == ["features.0.weight"]
    assert steps["matmul"] == ["transpose"] and steps["transpose"] == ["fc.weight"]


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


def test_a_fused_chain_is_one_step():
    graph = fuse(ti.trace(lambda x: (x.exp() + 1.0).tanh(), ti.zeros(3)))
    (result,) = figures(graph, "result")
    assert "exp → add → tanh" in source(graph) and result.name == "fused"


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
