import dataclasses
from pathlib import Path

import pytest

import tinyinfer as ti
from tinyinfer.train import Recipe, modelfile

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.py"))
PARAMETERS = {
    "mlp": 203_530,
    "mlp_deep": 535_818,
    "lenet": 61_706,
    "lenet_300_100": 266_610,
    "lenet_caffe": 431_080,
}

GOOD = """
from tinyinfer import nn
from tinyinfer.train import Recipe
input_shape = 1, 8, 8
recipes = {"mnist": Recipe(epochs=3)}
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def load(tmp_path, text):
    path = tmp_path / "net.py"
    path.write_text(text)
    return modelfile.load(path)


def test_there_is_a_file_for_each_network():
    assert {path.stem for path in MODELS} == set(PARAMETERS)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models(path):
    file = modelfile.load(path)
    model = file.build()
    assert sum(p.size for p in model.parameters()) == PARAMETERS[file.name]
    assert model(ti.zeros(2, *file.input_shape)).shape == (2, 10)
    assert {"digits", "mnist"} <= set(file.recipes)
    assert file.recipe("fashion-mnist") == file.recipes["mnist"]
    for name, parameter in model.named_parameters():
        assert name.split(".")[0] in path.read_text() and parameter.requires_grad


def test_a_good_file(tmp_path):
    file = load(tmp_path, GOOD)
    assert file.name == "net" and file.input_shape == (1, 8, 8)
    assert file.recipe("fashion-mnist") == Recipe(epochs=3)
    assert file.recipe("digits") == Recipe(epochs=10)


def test_recipes_may_be_missing(tmp_path):
    assert load(tmp_path, GOOD.replace("recipes", "others")).recipe("mnist") == Recipe(epochs=10)


def test_dataclasses_in_the_file_work(tmp_path):
    text = "from __future__ import annotations\nimport dataclasses\n" + GOOD
    text += "@dataclasses.dataclass\nclass Sizes:\n    inner: int = 3\n"
    assert dataclasses.is_dataclass(load(tmp_path, text).function.__globals__["Sizes"])


def test_two_files_of_one_name_are_two_modules(tmp_path):
    first, second = load(tmp_path, GOOD), load(tmp_path, GOOD)
    assert first.function is not second.function
    assert first.function.__module__ != second.function.__module__


@pytest.mark.parametrize(
    "text, message",
    [
        ("x = (", r"net\.py: SyntaxError: .*never closed \(net\.py, line 1\)"),
        ("\nx = undefined", r"net\.py, line 2: NameError: name 'undefined' is not defined"),
        ("import no_such_module", r"net\.py, line 1: ModuleNotFoundError"),
        ("input_shape = 1, 8, 8", r"no build\(\): write `def build\(\):`"),
        (GOOD.replace("input_shape", "shape"), "input_shape is missing: write `input_shape = 1"),
        (GOOD.replace("1, 8, 8", "64"), "input_shape is 64: write"),
        (GOOD.replace("1, 8, 8", "1, 8, 0"), r"input_shape is \(1, 8, 0\): write"),
        (GOOD.replace("Recipe(epochs=3)", "{}"), "write `recipes = {"),
        (GOOD.replace("epochs=3", "epochs=0"), r"net\.py, line 5: .*epochs: a whole number"),
        (GOOD.replace("epochs=3", "epoch=3"), r"net\.py, line 5: TypeError: .*'epoch'"),
        ("raise ValueError", r"net\.py, line 1: ValueError"),
        ("\0", r"net\.py: SyntaxError: [^(]*null bytes$"),
        ("\nexit()", r"net\.py, line 2: SystemExit"),
        ("import sys\nsys.exit(0)", r"net\.py, line 2: SystemExit: 0"),
        (
            GOOD.replace("1, 8, 8", "1, 10**6, 10**6"),
            r"input_shape is \(1, 1000000, 1000000\): write",
        ),
    ],
)
def test_files_that_say_too_little(tmp_path, text, message):
    with pytest.raises(ti.LoadError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize(
    "body, message",
    [
        ("pass", r"build\(\) gave None, which is no nn.Module: end it with `return`"),
        ("return nn.Linear", "which is no nn.Module"),
        ("return nn.Linear(3)", r"net\.py, line 3: TypeError: "),
        ("return nn.Conv2d(1, 1, 1, groups=2)", r"net\.py, line 3: .*groups"),
    ],
)
def test_build_that_builds_nothing(tmp_path, body, message):
    text = f"from tinyinfer import nn\ninput_shape = 1, 8, 8\ndef build(): {body}\n"
    with pytest.raises(ti.LoadError, match=message):
        load(tmp_path, text).build()


def test_missing_files_and_other_files(tmp_path):
    with pytest.raises(ti.LoadError, match="no such model file"):
        modelfile.load(tmp_path / "none.py")
    with pytest.raises(ti.LoadError, match="no such model file"):
        modelfile.load(tmp_path)
    (tmp_path / "net.txt").write_text(GOOD)
    with pytest.raises(ti.LoadError, match="ends in .py"):
        modelfile.load(tmp_path / "net.txt")
