import re

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn, optim
from tinyinfer.draw.diff import Both, Diff, headline
from tinyinfer.draw.sketch import Figure
from tinyinfer.graph.graph import rebuilt
from tinyinfer.graph.passes import cse, fold, fuse, strip
from tinyinfer.graph.passes.rewrite import rewrite

X = ti.Spec((4, 5), np.dtype(np.float32))


def picture(before, after):
    return Diff(Both(before, after)).root


def of(change):
    return picture(change.before, change.after)


def steps(root):
    """[(name, mark)] of all steps."""
    kinds = "step", "view", "result"
    return sorted((f.name, f.mark) for f in root.figures() if f.kind in kinds)


def arrows(root, mark):
    return sorted((a.tail.name, f.name) for f in root.figures() for a in f.feeds if a.mark == mark)


def frames(frame):
    for x in frame.items:
        if not isinstance(x, Figure):
            yield x
            yield from frames(x)


# Kinds of change


def test_cse_keeps_one_and_leads_the_others_users_to_it():
    graph = cse(ti.trace(lambda x: x.exp() + x.exp().tanh(), X))
    root = of(graph.history[-1])
    assert steps(root) == [("add", ""), ("exp", ""), ("exp", "removed"), ("tanh", "")]
    assert arrows(root, "added") == [("exp", "tanh")]
    assert arrows(root, "removed") == [("exp", "tanh"), ("x", "exp")]
    assert arrows(root, "") == [("exp", "add"), ("tanh", "add"), ("x", "exp")]


def test_strip_leads_past_what_it_removes():
    graph = strip(ti.trace(lambda x: x.exp().detach().tanh(), X))
    root = of(graph.history[-1])
    assert steps(root) == [("detach", "removed"), ("exp", ""), ("tanh", "")]
    assert arrows(root, "added") == [("exp", "tanh")]
    assert arrows(root, "removed") == [("detach", "tanh"), ("exp", "detach")]


def test_fold_adds_a_constant():
    places = ti.tensor(np.arange(20.0, dtype=np.float32).reshape(4, 5))
    root = of(fold(ti.trace(lambda x: x * places.exp(), X)).history[-1])
    marks = {(f.kind, f.mark) for f in root.figures() if f.kind == "constant"}
    assert marks == {("constant", "removed"), ("constant", "added")}
    assert ("mul", "") in steps(root) and ("exp", "removed") in steps(root)
    assert arrows(root, "added") == [("constant", "mul")]


def test_what_is_fused_is_kept_and_moves_into_a_green_frame():
    graph = fuse(ti.trace(lambda x: (x.sum(0).exp() + 1.0).tanh(), X))
    root = of(graph.history[-1])
    assert {mark for _, mark in steps(root)} == {""}
    (frame,) = [f for f in frames(root) if f.title.startswith("fused")]
    assert frame.title == "fused: exp → add → tanh" and frame.look["color"] == "#12704f"
    assert [f.name for f in frame.figures()] == ["exp", "add", "tanh"]
    assert not arrows(root, "added") and not arrows(root, "removed")


def test_a_rewritten_step_goes_and_another_comes():
    before = ti.trace(lambda x: (x * 2.0).tanh(), X)
    x, mul = ti.Tensor(before.inputs[0]), before.steps[0]
    after = rewrite(before, lambda n: x + x if n is mul else None)
    root = picture(before, after)
    assert steps(root) == [("add", "added"), ("mul", "removed"), ("tanh", "")]
    assert arrows(root, "added") == [("add", "tanh"), ("x", "add"), ("x", "add")]


def test_a_branch_that_changed_is_a_diff_inside():
    def fn(x):
        return ti.cond(x.sum() > 0.0, lambda x: x.exp() + x.exp(), lambda x: x * 2.0, x)

    root = of(cse(ti.trace(fn, X)).history[-1])
    (then,) = [f for f in frames(root) if f.title == "then"]
    assert steps(then) == [("add", ""), ("exp", ""), ("exp", "removed")]
    assert ("cond", "") in steps(root)
    assert "otherwise" not in {f.title for f in frames(root)}  # as it was


def test_two_orders_in_one_picture():
    before = ti.trace(lambda x: x[::-1].exp(), X)
    (x,), (turned, exp) = before.inputs, before.steps
    after = ti.Graph((x,), (rebuilt(turned, (rebuilt(exp, (x,)),)),))
    root = picture(before, after)
    assert steps(root) == [("exp", ""), ("slice", "")]
    assert arrows(root, "added") == [("exp", "slice"), ("x", "exp")]
    assert arrows(root, "removed") == [("slice", "exp"), ("x", "slice")]


def test_an_update_that_changed_has_both_arrows():
    state = ti.State(np.zeros((4, 5), np.float32), name="s")

    def fn(x):
        state.assign(state + x)
        return x

    root = of(strip(ti.trace(fn, X)).history[-1])
    (update,) = [f for f in root.figures() if f.kind == "update"]
    assert [(a.tail.name, a.mark) for a in update.feeds] == [
        ("add", "added"),
        ("detach", "removed"),
    ]


def test_a_pass_that_did_nothing_shows_the_graph():
    graph = cse(ti.trace(lambda x: x.exp().tanh(), X))
    root = of(graph.history[-1])
    assert steps(root) == [("exp", ""), ("tanh", "")]


# Large graphs


def test_of_a_large_graph_the_changes_and_what_is_beside_them():
    def fn(x):
        for _ in range(30):
            x = x.tanh()
        x = x.exp() * x.exp()
        for _ in range(30):
            x = x.sin()
        return x

    root = of(cse(ti.trace(fn, X)).history[-1])
    assert steps(root) == [("exp", ""), ("exp", "removed"), ("mul", ""), ("sin", ""), ("tanh", "")]
    more = [f for f in root.figures() if f.kind == "more"]
    assert [[a.tail.name for a in f.feeds] for f in more] == [[], ["sin"]]
    assert not [f for f in root.figures() if f.kind == "input"]


def test_a_training_step_can_be_read():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, t):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), t)
        loss.backward()
        opt.step()
        return loss

    graph = cse(strip(ti.trace(step, ti.zeros(5, 3), ti.tensor(np.zeros(5, int)))))
    root = of(graph.history[1])
    shown = [f for f in root.figures() if f.kind in ("step", "view", "result")]
    assert 0 < len(shown) < len(graph.steps) / 2


# Headline


def test_the_headline_tells_what_was_saved():
    graph = cse(ti.trace(lambda x: x.exp() + x.exp(), X))
    text = re.sub("<.*?>", "", headline(graph.history[0])[1:-1].replace("<br", "|<br"))
    (change,) = graph.history
    bytes_saved = 100 * change.saved.bytes / change.before.bytes()
    flops_saved = 100 * change.saved.flops / change.before.flops()
    assert text == (
        f"cse: 3 → 2 steps, FLOPs −{flops_saved:.0f} %, bytes −{bytes_saved:.0f} %|"
        "removed   added   kept|"
    )


def test_nothing_saved():
    graph = cse(ti.trace(lambda x: x.exp(), X))
    assert "1 steps, FLOPs ±0 %, bytes ±0 %" in headline(graph.history[0])


# Which pass


@pytest.fixture
def history():
    graph = ti.trace(lambda x: x.exp() + x.exp().detach(), X)
    return fuse(cse(strip(cse(graph)))).history


@pytest.mark.parametrize("which, name, before", [
    (0, "cse", 4), (-1, "fuse", 2), (np.int64(1), "strip", 3), ("cse", "cse", 2), ("strip", "strip", 3),
])  # fmt: skip
def test_a_place_or_a_name(tmp_path, history, which, name, before):
    path = history.draw(which, tmp_path / "diff.gv")
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "diff.gv" and f"<b>{name}</b>: {before}" in text


@pytest.mark.parametrize("which", [4, -5])
def test_a_place_outside(tmp_path, history, which):
    with pytest.raises(ti.RangeError, match="0 cse, 1 strip, 2 cse, 3 fuse"):
        history.draw(which, tmp_path / "diff.gv")


@pytest.mark.parametrize("which", ["fold", 1.5, None])
def test_no_such_pass(tmp_path, history, which):
    with pytest.raises(ti.ArgumentError, match="history"):
        history.draw(which, tmp_path / "diff.gv")


def test_no_history(tmp_path):
    with pytest.raises(ti.ArgumentError, match="no pass has run"):
        ti.trace(lambda x: x.exp(), X).history.draw(0, tmp_path / "diff.gv")
    assert not [*tmp_path.iterdir()]


def test_what_is_removed_is_dashed_and_struck_out(tmp_path, history):
    text = history.draw(0, tmp_path / "diff.gv").read_text(encoding="utf-8")
    assert re.search(r'label=<<s><b>exp</b></s>.*style="rounded,filled,dashed"', text)
    assert re.search(r"-> n\d+ \[.*style=dashed", text) and 'color="#12704f"' in text


def test_without_graphviz_the_source_is_written(tmp_path, history, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert history.draw(0, tmp_path / "diff.svg") == tmp_path / "diff.gv"
    assert "apt install graphviz" in capsys.readouterr().err
