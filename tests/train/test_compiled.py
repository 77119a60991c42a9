"""A run as one compiled function of each kind of batch: the same to rounding, and as easy to stop."""

import json
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import small_run as small

import tinyinfer as ti
from tinyinfer import data, nn
from tinyinfer.core.op import watchers
from tinyinfer.runtime.compile import Compiled
from tinyinfer.train import Recipe, Run, checkpoint, evaluate, fit, folder

SGD = replace(small.RECIPE, optimizer="sgd", lr=0.05, clip_norm=1, weight_decay=1e-3)
RECIPES = {
    "sgd": SGD,
    "cosine": replace(SGD, schedule="cosine", label_smoothing=0.1),
    "adam": small.RECIPE,
    "adamw": replace(small.RECIPE, optimizer="adamw", schedule="constant", clip_norm=None),
}


def losses(run) -> list[float]:
    found = []
    while not run.done:
        before = run.sums.loss
        run.step()
        found.append(run.sums.loss - before if run.batch else run.rows[-1]["train_loss"])
    return found


def both(make) -> list:
    """(run, losses) as Python runs it, and compiled."""
    runs = [make(compiled=False), None]
    found = [losses(runs[0])]
    runs[1] = make(compiled=True)  # after the first one: both draw from the same key
    return [*zip(runs, [*found, losses(runs[1])])]


@pytest.mark.parametrize("worth", [0, 50_000])  # the last batch is compiled, or not
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_loss_is_the_same_to_rounding(recipe, worth, monkeypatch):
    monkeypatch.setattr("tinyinfer.train.loop.WORTH", worth)
    (_, expected), (run, found) = both(lambda **options: small.run(recipe, **options))
    assert isinstance(run.learn, Compiled) and isinstance(run.in_use, Compiled)
    assert np.allclose(found, expected, rtol=1e-4)


def convolutional():
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
    return nn.Sequential(*layers)


def linear():  # for kernels that are compiled, which takes long
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.mark.parametrize("kernels, network", [("numpy", convolutional), ("fast", linear)])
def test_twenty_steps_on_digits(monkeypatch, kernels, network):
    """What was learned is the same too."""
    monkeypatch.setenv("TINYINFER_KERNELS", kernels)
    train, test = data.digits()
    halves = train.subset(range(310)), test.subset(range(100))
    recipe = Recipe(2, batch_size=32, lr=0.1)

    def make(**options):
        ti.manual_seed(0)
        return Run(network(), recipe, *halves, small.INPUT_SHAPE, **options)

    (eager, expected), (run, found) = both(make)
    assert np.allclose(found, expected, rtol=1e-4)
    for a, b in zip(eager.rows, run.rows):
        assert all(np.isclose(a[k], b[k], rtol=1e-4) for k in a if k != "seconds")
    assert np.isclose(evaluate(run.model, run.testing).loss, run.rows[-1]["test_loss"], rtol=1e-4)


class Counted(small.Small):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


def test_it_is_traced_once_for_each_kind_of_batch(monkeypatch):
    monkeypatch.setattr("tinyinfer.train.loop.WORTH", 3 * 4)
    run = small.run(model=Counted, compiled=True)
    Counted.calls = 0
    fit(run)
    assert Counted.calls == 3  # batches of 32, the last one of 4, and the test images
    assert len(run.learn.kinds) == 2 and len(run.in_use.kinds) == 1


def test_the_rest_is_not_compiled_if_it_is_little(monkeypatch):
    monkeypatch.setattr("tinyinfer.train.loop.WORTH", 3 * 4 + 1)
    run = small.run(model=Counted, compiled=True)
    Counted.calls = 0
    fit(run)
    assert Counted.calls == 2 + 3  # the last one of 4 in each epoch
    assert len(run.learn.kinds) == 1


def test_all_in_one_batch_is_no_rest():
    run = small.run(replace(small.RECIPE, batch_size=200), compiled=True)
    fit(run)
    assert len(run.learn.kinds) == 1


def content(path):
    """All but the seconds."""
    saved = checkpoint.load(path / "checkpoint.safetensors")
    for x in (saved.about["sums"], *saved.about["rows"]):
        del x["seconds"]
    return {name: x.numpy().tobytes() for name, x in saved.tensors.items()}, saved.about


def stopped(steps, run):
    if run.steps_done == steps:
        signal.raise_signal(signal.SIGINT)


def test_resumed_is_the_same_as_never_stopped_bit_for_bit(tmp_path):
    fit(small.run(compiled=True), tmp_path / "whole")
    for steps in (1, 4, 7):
        path = tmp_path / str(steps)
        with pytest.raises(KeyboardInterrupt):
            fit(small.run(compiled=True), path, watch=partial(stopped, steps))
        ti.manual_seed(123)
        fit(small.run(compiled=True), path, resume=True)
        assert content(path) == content(tmp_path / "whole")


def test_a_checkpoint_knows_whether_it_was_compiled(tmp_path):
    for flag in (False, True):
        folder.Folder(tmp_path / str(flag)).start(small.run(compiled=flag))
        assert json.loads((tmp_path / str(flag) / "run.json").read_text())["compiled"] is flag
        checkpoint.save(small.run(compiled=flag), tmp_path / "x")
        saved = checkpoint.load(tmp_path / "x")
        assert saved.compiled is flag
        saved.restore(small.run(compiled=not flag))  # who wants to may change it
    del saved.about["compiled"]  # of a time when nothing was
    assert saved.compiled is False


@pytest.mark.parametrize("epochs, compiled", [(499, False), (500, True)])
def test_long_runs_are_compiled(epochs, compiled):
    recipe = replace(small.RECIPE, epochs=epochs)
    assert small.run(recipe).compiled == compiled  # 100 images
    assert small.run(recipe, compiled=not compiled).compiled != compiled


class Choosy(small.Small):
    def forward(self, x):
        return super().forward(x if x.mean().item() > 0 else -x)


def test_a_model_that_looks_at_numbers_is_told_of_the_way_out():
    run = small.run(model=Choosy, compiled=True)
    with pytest.raises(ti.GraphError, match=r"ti\.cond.*; or train it with --no-compile"):
        run.step()
    small.run(model=Choosy, compiled=False).step()


WILD = replace(small.RECIPE, optimizer="sgd", lr=1e30, schedule="constant", clip_norm=None)


def test_a_loss_that_explodes(tmp_path):
    with pytest.raises(ti.NonFiniteError, match=r"epoch 1, step \d: .*--debug-nan names the op"):
        fit(small.run(WILD, compiled=True), tmp_path)
    assert checkpoint.load(tmp_path / "checkpoint.safetensors").about["epoch"] == 0


def test_to_find_the_op_it_runs_step_by_step():
    run = small.run(WILD, compiled=True, debug_nan=True)
    with pytest.raises(ti.NonFiniteError, match=r" in \w+.* made .* of float32"):
        fit(run)
    assert not watchers and run.compiled
