"""Choosing kernels: by cost, by timing, within an error; with layouts and packed weights."""

import json
import re

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.core.op import Op
from tinyinfer.core.spec import Spec
from tinyinfer.graph.fused import Fused
from tinyinfer.graph.passes import split
from tinyinfer.kernels import kernel as kernels
from tinyinfer.kernels.kernel import Cost, Kernel
from tinyinfer.ops.layout import In, Reorder
from tinyinfer.ops.packed import Packed
from tinyinfer.runtime import select as selecting
from tinyinfer.runtime.machine import ASSUMED
from tinyinfer.runtime.plan import Plan
from tinyinfer.runtime.select import Selection, select


class Twice(Op):
    """y = 2 x, by as many kernels as a test registers"""

    def infer(self, x):
        return x

    def forward(self, x):
        return x * 2


@pytest.fixture
def ways(monkeypatch, tmp_path):
    """register(name, seconds, error): a kernel of Twice that should take so long, and counts its runs."""
    monkeypatch.setitem(kernels.KERNELS, Twice, [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(selecting, "TUNED", {})
    counts = {}

    def register(name, seconds, error=0.0, wait=0):
        def run(y, x):
            counts[name] = counts.get(name, 0) + 1
            for _ in range(wait):
                np.multiply(x, 2, y)
            np.multiply(x, 2, y)

        def find(op, y, x):
            return Kernel(name, run, cost=Cost(seconds * ASSUMED.peak, 0, 1.0), error=error)

        kernels.KERNELS[Twice].insert(0, find)
        return counts

    return register


def chosen(**options):
    graph = ti.trace(Twice(), ti.ones(64))
    (step,) = graph.steps
    return Selection(**options).kernel(step).name


def test_the_cheapest_is_chosen(ways):
    ways("slow", 1e-3)
    ways("fast", 1e-7)
    ways("middling", 1e-5)
    assert chosen() == "fast"
    assert chosen(fast=False) == "definition"


def test_no_kernel_that_rounds_too_much(ways):
    ways("careful", 1e-7)
    ways("careless", 1e-8, error=1e-5)
    assert chosen() == "careful"
    assert chosen(max_relative_error=1e-5) == "careless"
    for wrong in (-1, 1, float("nan")):
        with pytest.raises(ti.ArgumentError, match="max_relative_error is a number from 0 to 1"):
            Selection(max_relative_error=wrong)


def test_timings_are_remembered(ways, tmp_path, monkeypatch):
    ways("thought to be fast", 1e-9, wait=3000)
    counts = ways("thought to be slow", 1e-3)
    assert chosen() == "thought to be fast" and not counts
    assert chosen(autotune=True) == "thought to be slow" and len(counts) == 2
    known = json.loads((tmp_path / "tinyinfer" / "kernels.json").read_text())
    ((names),) = [list(times) for times in known.values()]
    assert any("thought to be slow: Twice() float32[64]" in name for name in names)
    counts.clear()
    monkeypatch.setattr(selecting, "TUNED", {})  # as in another process
    assert chosen(autotune=True) == "thought to be slow" and not counts
    (tmp_path / "tinyinfer" / "kernels.json").write_text("{damaged")
    monkeypatch.setattr(selecting, "TUNED", {})
    assert chosen(autotune=True) == "thought to be slow" and counts


def test_a_plan_says_what_was_chosen_and_before_what(ways):
    ways("slow", 1e-3)
    ways("fast", 1e-7)
    graph = ti.trace(Twice(), ti.ones(64))
    plan = Plan(graph, selection=Selection())
    (row,) = plan.rows
    assert re.fullmatch(r"1.1 µs; definition 2\.\d+ µs", row.why) and row.why in str(plan)
    assert ti.plan(graph, kernels="numpy").rows[0].why == ""


def network(channels=64, size=28):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(channels * (size // 2) ** 2, 10),
    ).eval()  # fmt: skip


def ops_of(graph):
    """Those inside of fused steps too."""
    return [op for n in graph.steps for op in (n.op.parts() if isinstance(n.op, Fused) else [n.op])]


def test_weights_are_packed_once_and_images_reordered_at_the_ends():
    net, x = network(), ti.randn(1, 3, 28, 28)
    with ti.no_grad():
        graph = ti.optimize(ti.trace(net, x), ["strip", "fold"])
        after = select(graph)
        assert after.history[-1].name == "select"
        prologue, body = split(after)
        assert any(isinstance(op, Packed) for op in ops_of(body))
        assert not any(isinstance(op, Packed) for op in ops_of(prologue))
        moved = [op for op in ops_of(body) if isinstance(op, Reorder)]
        assert len(moved) <= 2
        wanted = net(x).numpy()
        for got in after.run(x.numpy()), ti.compile(net, kernels="fast")(x).numpy():
            assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_numpy_alone_leaves_a_graph_as_it_is():
    graph = ti.trace(network(), ti.randn(1, 3, 28, 28))
    assert select(graph, Selection(fast=False)) is graph


def test_the_environment_says_what_is_usual(monkeypatch):
    monkeypatch.setenv("TINYINFER_KERNELS", "numpy")
    assert not selecting.selected("compile").fast
    assert selecting.selected("compile", kernels="fast").fast
    monkeypatch.setenv("TINYINFER_KERNELS", "cuda")
    with pytest.raises(
        ti.ArgumentError, match="compile: TINYINFER_KERNELS is 'fast' or 'numpy', not 'cuda'"
    ):
        selecting.selected("compile")


def test_trained_weights_cost_their_packing():
    """What a step of the optimizer changes would be packed each time."""
    w = ti.State(np.ones((64, 64), np.float32), requires_grad=True)

    def step(x):
        w.assign(w - 0.1 * ti.grad((x @ w).sum(), w))
        return x @ w

    graph = ti.trace(step, ti.ones(1, 64))
    prologue, body = split(select(graph))
    assert not any(isinstance(op, Packed) for op in ops_of(prologue))
    step = ti.compile(step, kernels="fast")
    for _ in range(2):
        assert np.allclose(step(ti.ones(1, 64)).numpy(), 64 * (w.numpy()[0, 0]), rtol=1e-5)


def test_the_first_convolution_reads_the_image_as_it_came():
    conv = nn.Conv2d(3, 32, 3, padding=1)
    x = ti.randn(1, 3, 8, 8)
    laid_out = In(ti.ops.conv.Conv2d(padding=((1, 1), (1, 1))), "NCHW16c", 3, "NCHW")
    y = laid_out(x, conv.weight)
    assert y.spec == Spec((1, 2, 8, 8, 16), np.dtype("float32"))
    back = Reorder("NCHW16c", "NCHW", 32)(y)
    assert np.allclose(
        back.numpy() + conv.bias.numpy().reshape(-1, 1, 1), conv(x).numpy(), atol=1e-5
    )


@pytest.mark.parametrize("c, o, h, k", [(1, 6, 28, 5), (3, 8, 224, 3), (64, 64, 28, 3)])
def test_what_ends_a_convolution_leaves_its_kernel(c, o, h, k, monkeypatch):
    """Among those that take weights as they are: packing is chosen before."""
    monkeypatch.setattr(selecting, "machine", lambda: ASSUMED)
    x, w, b = ti.ones(1, c, h, h), ti.ones(o, c, k, k), ti.ones(o, 1, 1)

    def names(fn):
        with ti.no_grad():
            graph = select(
                ti.optimize(ti.trace(fn, x, w, b), ["strip"]), Selection(), layouts=[None]
            )
        return [Selection().kernel(n).name for n in Plan(graph, selection=Selection()).values.work]

    ended = lambda x, w, b: (ti.conv2d(x, w) + b).relu()
    assert names(ended) == names(lambda x, w, b: ti.conv2d(x, w))


def test_timings_of_another_kind_are_none(monkeypatch, tmp_path):
    """Of a file that somebody else wrote, what can be used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = selecting.tuned_kernels()
    path.parent.mkdir(parents=True)
    for text in "[1]", "3", '{"%s": []}', '{"%s": {"a": "x", "b": null, "c": -1, "d": NaN}}':
        monkeypatch.setattr(selecting, "TUNED", {})
        path.write_text(text.replace("%s", json.dumps(selecting.key())[1:-1]))
        assert selecting.remembered() == {}


def test_floats_lie_at_multiples_of_four_bytes():
    graph = ti.trace(Twice(), ti.ones(4))
    with pytest.raises(ti.ArgumentError, match="multiples of 4 bytes, not of 2"):
        ti.plan(graph, alignment=2, kernels="fast")
    ti.plan(graph, alignment=2, kernels="numpy")


@pytest.mark.parametrize("size, stride, padding", [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
@pytest.mark.parametrize("images", [1, 16, 19])
def test_the_gradient_of_a_pool_of_relu_is_one_step(size, stride, padding, images):
    """With zeros, ties and what is no number among the maxima."""
    rng = np.random.default_rng(images)
    x = rng.integers(-2, 3, (images, 3, 9, 8)).astype("float32")
    x[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    weight = rng.standard_normal((images, 3, 20, 20)).astype("float32")

    def back(x):
        x = x * 1.5
        y = ti.max_pool2d(ti.relu(x), size, stride, padding)
        return ti.grad((y * weight[:, :, : y.shape[2], : y.shape[3]]).sum(), [x])[0]

    step = ti.compile(back, kernels="fast")
    with np.errstate(all="ignore"):
        wanted, got = back(given := ti.tensor(x, requires_grad=True)).numpy(), step(given).numpy()
    assert np.allclose(wanted, got, rtol=1e-5, atol=1e-6, equal_nan=True)
    windows = [n for n, kernel in step.plan.kernels.items() if kernel.name == "windows"]
    assert any(isinstance(n.op, Fused) for n in windows)


def test_a_bias_of_another_kind_is_added_on_its_own():
    """A kernel would take its bytes for float32."""
    rng = np.random.RandomState(0)
    x, k = (ti.tensor(rng.randn(*s).astype("float32")) for s in ((2, 2, 8, 8), (4, 2, 3, 3)))
    a, w = (ti.tensor(rng.randn(*s).astype("float32")) for s in ((5, 3), (3, 4)))
    for dtype in "float16", "float64", "bool":
        b = ti.tensor(np.array([0, 1, 1, 0], dtype))
        for fn, x_or_a in (
            (lambda x, b: ti.conv2d(x, k) + b.reshape(4, 1, 1), x),
            (lambda x, b: x @ w + b, a),
        ):
            got, wanted = ti.compile(fn, kernels="fast")(x_or_a, b), fn(x_or_a, b)
            assert got.dtype == wanted.dtype and np.allclose(
                got.numpy(), wanted.numpy(), 1e-5, 1e-5
            )


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_a_layer_of_nothing(shape):
    w = ti.ones(shape[1], 4)
    got = ti.compile(lambda x: ti.relu(x @ w + w.sum(0)), kernels="fast")(ti.ones(*shape))
    assert got.tolist() == [[2.0 * shape[1]] * 4] * shape[0]
