import json
import os

import numpy as np
import pytest
import small_run as small

import tinyinfer as ti
from tinyinfer import data
from tinyinfer.train import Recipe, evaluate, fit, folder, inputs, weights


def test_new_folders_are_numbered(tmp_path):
    made = [folder.new("net-digits", tmp_path).name for _ in range(3)]
    assert made == ["net-digits", "net-digits-2", "net-digits-3"]


def test_the_newest_run_of_that_name(tmp_path):
    names = "net-digits", "net-digits-2", "net-digits-3", "net-digits-extra", "net-digits-4"
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        if name != "net-digits-4":  # broken off before there was anything
            path = tmp_path / name / "checkpoint.safetensors"
            path.touch()
            os.utime(path, (age, age))
    assert folder.newest("net-digits", tmp_path).name == "net-digits-3"
    os.utime(tmp_path / "net-digits" / "checkpoint.safetensors", (99, 99))
    assert folder.newest("net-digits", tmp_path).name == "net-digits"
    with pytest.raises(ti.LoadError, match="no run"):
        folder.newest("net-mnist", tmp_path)


def test_settings_and_metrics(tmp_path):
    rows = fit(small.run(), tmp_path / "a" / "run")
    settings = json.loads((tmp_path / "a" / "run" / "run.json").read_text())
    assert Recipe(**settings["recipe"]) == small.RECIPE and settings["seed"] == 0
    assert settings["model"] == "Small" and settings["data"] == "digits"
    lines = (tmp_path / "a" / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows


def test_weights_know_how_their_images_were_normalized(tmp_path):
    run = small.run()
    fit(run)
    weights.save(run, tmp_path / "x")
    model = small.Small()
    normalize = weights.load(model, tmp_path / "x")
    assert normalize == run.normalize
    there = evaluate(run.model, run.testing)
    here = evaluate(model, inputs.for_testing(run.test, small.INPUT_SHAPE, normalize))
    assert here.loss == there.loss == run.rows[-1]["test_loss"]


def test_a_checkpoint_has_weights_too(tmp_path):
    run = small.run()
    fit(run, tmp_path)
    path = folder.Folder(tmp_path).weights
    model = small.Small()
    assert path.name == "checkpoint.safetensors" and weights.load(model, path) is None
    assert model.fc1.weight.tolist() == run.model.fc1.weight.tolist()
    folder.Folder(tmp_path).finish(run)
    assert folder.Folder(tmp_path).weights.name == "model.safetensors"


def test_the_pictures_show_the_last_test(tmp_path, monkeypatch):
    """It is done again only where another process had done it."""
    fit(run := small.run(), tmp_path)
    fit(again := small.run(), tmp_path, resume=True)
    assert again.scores is None
    folder.Folder(tmp_path).finish(again)
    assert np.array_equal(again.scores.predicted, run.scores.predicted)
    monkeypatch.setattr("tinyinfer.train.loop.evaluate", None)
    folder.Folder(tmp_path).finish(run)


@pytest.mark.parametrize("images, sizes", [(50, {50}), (360, {180}), (257, {128, 129})])
def test_test_images_come_in_batches_of_one_size_if_they_can(images, sizes):
    train, test = data.digits()
    test = (test if images == 360 else train).subset(range(images))
    loader = inputs.for_testing(test, small.INPUT_SHAPE, inputs.normalization(train))
    assert {len(labels) for _, labels in loader} == sizes


def test_weights_of_others_say_nothing_about_images(tmp_path):
    model = small.Small()
    ti.nn.file.save(model.state_dict(), tmp_path / "x", {"format": "pt"})
    assert weights.load(small.Small(), tmp_path / "x") is None


def test_weights_of_another_model(tmp_path):
    weights.save(small.run(), tmp_path / "x")
    with pytest.raises(ti.LoadError, match="weights of Small, and the model is Linear"):
        weights.load(ti.nn.Linear(2, 2), tmp_path / "x")
    ti.nn.file.save({"w": 1.0}, tmp_path / "y")
    with pytest.raises(ti.LoadError, match=r"(?s)y: Linear.*weight"):
        weights.load(ti.nn.Linear(2, 2), tmp_path / "y")
