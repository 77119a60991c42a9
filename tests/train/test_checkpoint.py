"""A run that was broken off goes on as if it had not been; and what is no such run is refused."""

import json
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_run as small

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.nn import file
from tinyinfer.train import checkpoint, fit


def content(path):
    """All of a checkpoint but the seconds: the tensors as bytes, the rest as written."""
    tensors, metadata = file.read(path)
    about = json.loads(metadata["run"])
    for x in (about["sums"], *about["rows"]):
        del x["seconds"]
    return {name: (x.spec, x.numpy().tobytes()) for name, x in tensors.items()}, about


def metrics(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def broken_off(recipe, folder, steps):
    """A run that ends, as by Ctrl-C, after that many steps."""

    def watch(run):
        if run.steps_done == steps:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(small.run(recipe), folder, watch=watch)


VARIANTS = [
    {},
    {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "schedule": "cosine"},
    {"optimizer": "adamw", "schedule": "constant", "label_smoothing": 0.1},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.get("optimizer", "adam"))
def test_resumed_is_the_same_as_never_stopped_bit_for_bit(tmp_path, variant):
    recipe = replace(small.RECIPE, **variant)
    whole = fit(small.run(recipe), tmp_path / "whole")
    for steps in (1, 3, 4, 6, 11):  # in an epoch, at its last batch but one, and at its end
        folder = tmp_path / str(steps)
        broken_off(recipe, folder, steps)
        ti.manual_seed(123)  # what happened to the hidden key meanwhile does not matter
        run = small.run(recipe)
        assert fit(run, folder, resume=True) == run.rows
        assert content(folder / "checkpoint.safetensors") == content(
            tmp_path / "whole" / "checkpoint.safetensors"
        )
        assert metrics(folder) == metrics(tmp_path / "whole")
    assert len(metrics(tmp_path / "whole")) == len(whole) == recipe.epochs


def test_broken_off_twice(tmp_path):
    fit(small.run(), tmp_path / "whole")
    broken_off(small.RECIPE, tmp_path / "run", 2)
    run = small.run()
    with pytest.raises(KeyboardInterrupt):
        fit(
            run, tmp_path / "run", resume=True,
            watch=lambda run: run.steps_done == 7 and signal.raise_signal(signal.SIGTERM),
        )  # fmt: skip
    fit(small.run(), tmp_path / "run", resume=True)
    assert content(tmp_path / "run" / "checkpoint.safetensors") == content(
        tmp_path / "whole" / "checkpoint.safetensors"
    )


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path):
    for name, seed in ("a", 0), ("b", 0), ("c", 1):
        fit(small.run(replace(small.RECIPE, epochs=1), seed=seed), tmp_path / name)
    a, b, c = (content(tmp_path / name / "checkpoint.safetensors")[0] for name in "abc")
    assert a == b and all(a[k] != c[k] for k in a if k.endswith("weight"))


def test_a_finished_run_stays_as_it_is(tmp_path):
    rows = fit(small.run(), tmp_path)
    before = content(tmp_path / "checkpoint.safetensors")
    assert fit(small.run(), tmp_path, resume=True) == rows
    assert content(tmp_path / "checkpoint.safetensors") == before


def test_metrics_are_written_again_from_the_checkpoint(tmp_path):
    fit(small.run(), tmp_path)
    written = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text("lost\n")
    fit(small.run(), tmp_path, resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == written


class Other(small.Small):
    pass


def wider():
    model = small.Small()
    model.fc2 = nn.Linear(16, 10, bias=False)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    broken_off(small.RECIPE, folder, 5)
    return folder / "checkpoint.safetensors"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model": Other}, "this run has model Small, not Other"),
        ({"model": wider}, r"(?s)does not fit to this run: .*fc2\.bias"),
        ({"recipe": replace(small.RECIPE, lr=0.02)}, "this run has lr 0.01, not 0.02"),
        ({"recipe": replace(small.RECIPE, epochs=9)}, "this run has epochs 3, not 9"),
        ({"seed": 4}, "this run has seed 0, not 4"),
    ],
)
def test_a_run_of_another_kind_is_refused(saved, options, message):
    with pytest.raises(ti.LoadError, match=message) as raised:
        checkpoint.load(saved).restore(small.run(**options))
    assert str(raised.value).startswith(str(saved))


def test_other_data_are_refused(saved, monkeypatch):
    train, test = small.halves()
    monkeypatch.setattr(small, "halves", lambda: (replace(train, name="letters"), test))
    with pytest.raises(ti.LoadError, match="this run has data digits, not letters"):
        checkpoint.load(saved).restore(small.run())
    monkeypatch.setattr(small, "halves", lambda: (train.subset(range(90)), test))
    with pytest.raises(ti.LoadError, match="this run has images 100x50, not 90x50"):
        checkpoint.load(saved).restore(small.run())


def changed(saved, tmp_path, change):
    """The checkpoint with something else in it, and a right checksum."""
    tensors, metadata = file.read(saved)
    about = json.loads(metadata["run"])
    change(tensors, about)
    file.save(tensors, tmp_path / "x", {"run": json.dumps(about)})
    return tmp_path / "x"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda tensors, about: about.update(format=99), "of format 99; this tinyinfer reads 1"),
        (lambda tensors, about: about.pop("recipe"), "no checkpoint of a training run"),
        (lambda tensors, about: about.pop("seed"), "no checkpoint of a training run"),
        (lambda tensors, about: about["recipe"].update(lr="fast"), "no checkpoint of a training"),
        (lambda tensors, about: about.update(epoch=77), "does not fit to this run"),
        (lambda tensors, about: about.update(batch=77), "does not fit to this run"),
        (lambda tensors, about: about.update(epoch=None), "does not fit to this run"),
        (lambda tensors, about: about.update(sums=3), "does not fit to this run"),
        (lambda tensors, about: about.update(rows=[]), "0 rows of metrics after 1 epochs"),
        (lambda tensors, about: about.update(rows=[{}]), "does not fit to this run"),
        (lambda tensors, about: about.update(rows=[1, 2]), "does not fit to this run"),
        (lambda tensors, about: about["rows"][0].update(seconds="1"), "seconds: a number"),
        (lambda tensors, about: about.update(schedule=None), "does not fit to this run"),
        (lambda tensors, about: tensors.pop("random_key"), "does not fit to this run"),
        (lambda tensors, about: tensors.update(random_key=ti.zeros(3)), "does not fit to this run"),
        (lambda tensors, about: tensors.pop("model.fc1.weight"), r"(?s)does not fit .*fc1\.weight"),
        (
            lambda tensors, about: tensors.pop([k for k in tensors if k.startswith("optim")][-1]),
            "does not fit to this run",
        ),
    ],
)
def test_checkpoints_with_a_part_missing_or_wrong(saved, tmp_path, change, message):
    with pytest.raises(ti.LoadError, match=message):
        checkpoint.load(changed(saved, tmp_path, change)).restore(small.run())


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, '{"format": 1}'])
def test_weights_and_other_texts_are_no_checkpoint(tmp_path, text):
    file.save({"w": 1.0}, tmp_path / "x", {"run": text} if text else None)
    with pytest.raises(ti.LoadError, match="no checkpoint of a training run"):
        checkpoint.load(tmp_path / "x")


def test_damaged_and_missing_checkpoints(saved, tmp_path):
    whole = saved.read_bytes()
    for content in whole[: len(whole) // 2], whole[:-1], whole[:-5] + b"?" + whole[-4:], b"":
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ti.LoadError, match="cannot be read"):
            checkpoint.load(tmp_path / "x")
    with pytest.raises(ti.LoadError, match="no such file"):
        fit(small.run(), tmp_path / "nowhere", resume=True)


def test_a_model_that_is_lost_does_not_replace_a_good_checkpoint(saved, tmp_path):
    run = small.run()
    checkpoint.save(run, tmp_path / "x")
    good = (tmp_path / "x").read_bytes()
    run.model.fc1.weight.assign(np.full((16, 64), np.nan, np.float32))
    with pytest.raises(ti.NonFiniteError, match=r"fc1\.weight is not finite"):
        checkpoint.save(run, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == good


FOREVER = """
import sys
from dataclasses import replace
import small_run as small
from tinyinfer.train import fit
fit(small.run(replace(small.RECIPE, epochs=10**6)), sys.argv[1], watch=lambda run: print(flush=True))
"""


def test_killed_at_any_moment_it_goes_on(tmp_path):
    """What is on the disk is always a whole checkpoint of an epoch's end."""
    moments = random.Random(0)
    for n in range(4):
        folder = tmp_path / str(n)
        python = [sys.executable, "-c", FOREVER, str(folder)]
        where = {"cwd": Path(small.__file__).parent, "stdout": subprocess.PIPE}
        with subprocess.Popen(python, **where) as process:
            for _ in range(moments.randrange(1, 12)):
                process.stdout.readline()
            process.kill()
        run = small.run(replace(small.RECIPE, epochs=10**6))
        checkpoint.load(folder / "checkpoint.safetensors").restore(run)
        assert run.batch == 0 and run.epoch == len(run.rows) >= len(metrics(folder))
        run.step()
