"""The published figures of two networks, to the last digit; and how near to the bounds all are."""

import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import tinyinfer as ti
from tinyinfer import cli, train
from tinyinfer.graph.passes import STANDARD, fuse
from tinyinfer.reproduce import arena
from tinyinfer.runtime.memory import PLANNERS, lower_bound, place

MODELS = Path(__file__).parents[2] / "models"


def model_file(name):
    return train.modelfile.load(MODELS / f"{name}.py")


@pytest.mark.parametrize("name", arena.PUBLISHED)
def test_published_figures(name):
    figures = arena.figures(arena.tensors(arena.graph_of(model_file(name))))
    assert arena.PUBLISHED[name].items() <= figures.items()
    assert figures["best"] == "+0.0%"


@pytest.mark.parametrize("name", arena.NETWORKS)
def test_the_best_planner_is_near_the_lower_bound(name):
    buffers = arena.tensors(arena.graph_of(model_file(name)))
    best = min(place(buffers, planner).total for planner in PLANNERS)
    assert lower_bound(buffers) <= best <= 1.02 * lower_bound(buffers)


@pytest.mark.parametrize(
    "name, convolutions, sums", [("mobilenet_v1", 27, 0), ("mobilenet_v2", 52, 10)]
)
def test_which_tensors_these_are(name, convolutions, sums):
    graph = arena.graph_of(model_file(name))
    made = [n for n in graph.steps if not n.op.view]
    images = [n for n in made if n.spec.shape[2:] not in [(), (1, 1)]]
    assert len([n for n in images if n.op.name == "fused"]) == convolutions
    assert len([n for n in images if n.op.name == "add"]) == sums == len(images) - convolutions
    assert [n.op.name for n in made if n not in images] == ["mean", "fused", "softmax"]


def test_a_tensor_lives_until_the_last_look_at_it():
    def net(x):
        h = x @ np.ones((8, 16), "float32")
        s = ti.softmax(h, 1)
        return h.reshape(4, 8) @ s.reshape(8, 4)

    h, s, y = arena.tensors(ti.trace(net, ti.zeros(2, 8)))
    assert h[1:] == (128, 0, 2) and s[1:] == (128, 1, 2) and y[1:] == (64, 2, 2)
    assert h.name == "16"


def test_sums_apart_keep_what_is_computed():
    ti.manual_seed(0)
    model = model_file("resnet").build().eval()
    x = np.random.RandomState(0).standard_normal((1, 3, 32, 32)).astype("float32")
    graph = ti.trace(model, ti.tensor(x))
    apart = ti.optimize(graph, [*STANDARD[:-1], arena.sums_apart, fuse])
    assert np.array_equal(apart.run(x), ti.optimize(graph).run(x))
    assert len(arena.tensors(apart)) == len(arena.tensors(ti.optimize(graph))) + 9


def test_the_table_fits_on_a_terminal(capsys):
    graphs = {name: arena.graph_of(model_file(name)) for name in arena.NETWORKS}
    columns = {name: arena.figures(arena.tensors(graph)) for name, graph in graphs.items()}
    Console(width=80).print(arena.shown(columns))
    out = capsys.readouterr().out
    assert "16 of 16 published figures are met" in out and "…" not in out
    assert len(out.splitlines()) == 2 + len(columns["lenet"]) + 2 * len(arena.HEADS) + 1


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(arena, "NETWORKS", [*arena.PUBLISHED])  # to draw six of them takes long
    command = ["tinyinfer", "reproduce", "arena", "--models", str(MODELS), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    assert cli.main() == 0
    assert "16 of 16 published figures are met" in capsys.readouterr().out
    assert {path.stem for path in tmp_path.glob("*.svg")} == {*arena.NETWORKS}
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "3"])
    assert cli.main() == 2
    assert "the table arena takes no --seeds" in capsys.readouterr().err
