"""One run, step by step; what it tells, and how it ends when numbers do."""

import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import small_run as small

import tinyinfer as ti
from tinyinfer import data, nn
from tinyinfer.core.op import watchers
from tinyinfer.train import Interrupted, Recipe, Run, checkpoint, evaluate, fit, folder, inputs

FIELDS = "epoch train_loss train_accuracy test_loss test_accuracy seconds".split()


def test_a_run_learns_and_says_so():
    run = small.run(replace(small.RECIPE, epochs=20))
    rows = fit(run)
    assert run.done and [row["epoch"] for row in rows] == [*range(1, 21)]
    assert all([*row] == FIELDS for row in rows)
    assert all(0 <= row[k] <= 1 for row in rows for k in ("train_accuracy", "test_accuracy"))
    assert rows[-1]["train_accuracy"] > rows[0]["train_accuracy"] + 0.2
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] and rows[-1]["seconds"] > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_an_epoch_is_the_mean_over_its_images(smoothing):
    """Without the smoothing of labels, so that it can be compared with the test loss."""
    recipe = Recipe(1, batch_size=32, lr=0.0, schedule="constant", label_smoothing=smoothing)
    run = small.run(recipe, model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    fit(run)
    everything = data.DataLoader(run.train, 100, transform=run.testing.transform)
    scores = evaluate(run.model, everything)
    assert math.isclose(run.rows[0]["train_loss"], scores.loss, rel_tol=1e-6)
    assert run.rows[0]["train_accuracy"] == scores.accuracy


def test_evaluate_is_in_eval_mode_and_puts_the_mode_back():
    run = small.run()
    run.model.train()
    first, second = (evaluate(run.model, run.testing) for _ in range(2))
    assert first.loss == second.loss and run.model.training
    assert len(first.predicted) == len(first.labels) == len(run.test)
    assert np.array_equal(first.labels, run.test.labels)
    assert first.right == (first.predicted == run.test.labels).sum()
    assert (first.confidence >= 0.1).all() and (first.confidence <= 1).all()


class Failing(small.Small):
    def forward(self, x):
        super().forward(x)
        raise ti.ShapeError("no")


USES = {
    "evaluate": lambda model: evaluate(model, small.run().testing),
    "check": lambda model: inputs.check(model, small.INPUT_SHAPE, small.halves()[0]),
    "draw": lambda model: folder.draw(model, small.INPUT_SHAPE, "net.gv"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_who_uses_a_model_leaves_its_modes_alone(use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for model in small.Small(), Failing():
        model.norm.eval()
        try:
            use(model)
        except ti.ShapeError:
            assert isinstance(model, Failing)
        assert model.training and model.dropout.training and not model.norm.training


def test_watch_sees_every_step():
    seen = []
    fit(small.run(), watch=lambda run: seen.append((run.epoch, run.batch, run.steps_done)))
    assert seen == [(e, b, 4 * e + b) for e in range(4) for b in range(4)][1:13]


def test_normalization_is_of_the_training_images():
    train, _ = small.halves()
    pixels = train.images / train.peak
    normalize = inputs.normalization(train)
    assert np.allclose(normalize.mean, pixels.mean()) and np.allclose(normalize.std, pixels.std())


def test_of_each_channel_its_own():
    train, _ = small.halves()
    colours = replace(train, images=np.concatenate([train.images, train.images // 2], 1))
    normalize = inputs.normalization(colours)
    x = normalize(colours.batch(range(100))[0])
    assert np.allclose(x.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(x.std((0, 2, 3)), 1, atol=1e-5)


def test_images_move_in_training_and_lie_still_in_testing():
    run = small.run()
    moved, still = (next(loader.epoch(0))[0].numpy() for loader in (run.training, run.testing))
    assert np.array_equal(still, next(run.testing.epoch(1))[0].numpy()[: len(still)])
    lying = data.DataLoader(
        run.train, 32, shuffle=True, seed=0, transform=run.testing.transform
    )  # the same images in the same order
    assert not np.array_equal(moved, next(lying.epoch(0))[0].numpy())


@pytest.mark.parametrize(
    "model, shape, message",
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), (1, 8, 8), "has 10 classes"),
        (lambda: nn.Conv2d(1, 10, 8), (1, 8, 8), "has 10 classes"),
        (small.Small, (3, 8, 8), "1 channels, .* has 3"),
        (small.Small, (1, 4, 4), "images of 8x8 are larger"),
        (small.Small, (1, 16, 16), "256"),
    ],
)
def test_a_model_that_does_not_fit_to_the_data(model, shape, message):
    with pytest.raises(ti.ShapeError, match=message):
        Run(model(), small.RECIPE, *small.halves(), shape)


@pytest.mark.parametrize("epoch, batch", [(-1, 0), (0, -1), (0, 4), (3, 1), (4, 0)])
def test_there_is_no_such_step(epoch, batch):
    with pytest.raises(ti.ArgumentError, match=f"no epoch {epoch}, batch {batch}"):
        small.run().go_to(epoch, batch)


# Numbers that are none any more

WILD = replace(small.RECIPE, optimizer="sgd", lr=1e30, schedule="constant", clip_norm=None)


class Spoiled(small.Small):
    """From its third call on in training, the logarithm of a negative number."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential({"bad": LogOf(self)})

    def forward(self, x):
        self.calls += self.training
        return super().forward(x) + self.inner(x).sum()


class LogOf(nn.Module):
    def __init__(self, outer):
        self.when = lambda: outer.calls >= 3

    def forward(self, x):
        return ti.log(x[0, 0, 0, 0] * 0.0 + (-1.0 if self.when() else 1.0))


def test_a_loss_that_explodes_stops_the_run_and_leaves_the_checkpoint(tmp_path):
    with pytest.raises(ti.NonFiniteError, match=r"epoch 1, step \d: .*--debug-nan names the op"):
        fit(small.run(WILD), tmp_path)
    saved = checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert all(np.isfinite(x.numpy()).all() for x in saved.tensors.values())
    assert saved.about["epoch"] == 0


def test_the_step_is_named():
    with pytest.raises(ti.NonFiniteError, match="epoch 1, step 3: the loss is nan") as raised:
        fit(small.run(model=Spoiled))
    assert "\n" not in str(raised.value)


def test_debug_nan_names_the_op_and_where_it_stands():
    expected = (
        r"epoch 1, step 3: the loss is nan.*log in inner\.bad made nan of float32\[\] from -1"
    )
    with pytest.raises(ti.NonFiniteError, match=expected):
        fit(small.run(model=Spoiled, debug_nan=True))
    assert not watchers


def test_debug_nan_finds_a_spoiled_parameter_in_the_step_that_spoiled_it():
    with pytest.raises(ti.NonFiniteError, match="epoch 1, step 1: fc.* is .*inf.* made .*inf of"):
        fit(small.run(replace(WILD, lr=3e38, weight_decay=1e6), debug_nan=True))


class Harmless(small.Small):
    def forward(self, x):
        zero = (x * 0.0).flatten(1).sum(1, keepdim=True)
        return super().forward(x) + ti.where(zero > 0.0, ti.log(zero.detach()), 0.0)


def test_debug_nan_passes_over_what_does_no_harm():
    recipe = replace(small.RECIPE, epochs=1)
    assert fit(small.run(recipe, Harmless, debug_nan=True)) and not watchers


def test_debug_nan_with_images_that_are_none():
    run = small.run(debug_nan=True)
    run.training.transform = lambda images, rng: images * np.float32(np.nan)
    with pytest.raises(ti.NonFiniteError, match="no op made it: it was in the images"):
        run.step()


def test_a_test_loss_that_is_none_stops_the_run_too():
    run = small.run()
    run.testing.transform = lambda images, rng: images * np.float32(np.nan)
    with pytest.raises(ti.NonFiniteError, match="epoch 1, step 4: the test loss is nan"):
        fit(run)
    assert not run.rows


# To be asked to stop


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_stop(tmp_path, asked):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    run = small.run()
    with pytest.raises(Interrupted, match=asked.name) as raised:
        fit(run, tmp_path, watch=lambda run: run.steps_done == 6 and signal.raise_signal(asked))
    assert raised.value.signal == asked and isinstance(raised.value, KeyboardInterrupt)
    about = checkpoint.load(tmp_path / "checkpoint.safetensors").about
    assert (about["epoch"], about["batch"]) == (1, 2)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_second_signal_does_not_wait(tmp_path):
    def twice(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as raised:
        fit(small.run(), tmp_path, watch=twice)
    assert not isinstance(raised.value, Interrupted)
    assert checkpoint.load(tmp_path / "checkpoint.safetensors").about["batch"] == 0


def test_signals_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        fit(small.run(), watch=lambda run: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_folder_with_a_run_in_it_is_not_written_over(tmp_path):
    fit(small.run(), tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ti.ArgumentError, match="there is a run in it: go on with --resume"):
        fit(small.run(), tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
