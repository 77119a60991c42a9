import ast
import dataclasses
import re
from pathlib import Path

import pytest

import tinyinfer as ti
from tinyinfer.graph.graph import macs
from tinyinfer.train import Recipe, modelfile

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.py"))
NETWORKS = {  # parameters, and what two images become
    "mlp": (203_530, (2, 10)),
    "mlp_deep": (535_818, (2, 10)),
    "lenet": (61_706, (2, 10)),
    "lenet_300_100": (266_610, (2, 10)),
    "lenet_caffe": (431_080, (2, 10)),
    "resnet": (272_474, (2, 10)),
    "inception": (788_778, (2, 10)),
    "unet": (481_762, (2, 2, 64, 64)),
    "mobilenet_v1": (4_231_976, (2, 1000)),
    "mobilenet_v2": (3_504_872, (2, 1000)),
}
UNTRAINED = {"resnet", "inception", "unet", "mobilenet_v1", "mobilenet_v2"}

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
    assert {path.stem for path in MODELS} == set(NETWORKS)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models(path):
    file = modelfile.load(path)
    model, (parameters, shape) = file.build(), NETWORKS[file.name]
    assert sum(p.size for p in model.parameters()) == parameters
    (y,) = ti.trace(model.eval(), ti.zeros(2, *file.input_shape)).outputs
    assert y.spec.shape == shape and y.spec.dtype == "float32"
    assert {*file.recipes} == (set() if file.name in UNTRAINED else {"digits", "mnist"})
    for name, parameter in model.named_parameters():
        assert name.split(".")[0] in path.read_text() and parameter.requires_grad


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_the_layers_listed_have_all_parameters(path):
    """The last column of the table in the docstring of a model file, added up."""
    table = ast.get_docstring(ast.parse(path.read_text())).partition("parameters\n")[2]
    rows = [re.split(r"  +", line.strip()) for line in table.split("\n\n")[0].splitlines()]
    listed = [int(row[2].replace(",", "")) for row in rows if len(row) == 3]
    assert sum(listed) == NETWORKS[path.stem][0]


@pytest.mark.parametrize("name, published", [("mobilenet_v1", 569), ("mobilenet_v2", 300)])
def test_published_multiplications(name, published):
    """Millions, from table 4 of each paper."""
    file = modelfile.load(MODELS[0].with_name(f"{name}.py"))
    graph = ti.trace(file.build().eval(), ti.zeros(1, *file.input_shape))
    assert sum(map(macs, graph.steps)) / 1e6 == pytest.approx(published, abs=1)


def test_recipes_of_like_data():
    file = modelfile.load(next(path for path in MODELS if path.stem == "mlp"))
    assert file.recipe("fashion-mnist") == file.recipes["mnist"]


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
