"""The tables in models/README.md are what the weights and the files beside them say."""

import os
import re
from pathlib import Path

import pytest

from tinyinfer import data, train

MODELS = Path(__file__).parents[1] / "models"
README = (MODELS / "README.md").read_text()
FILES = {path.stem: train.modelfile.load(path) for path in sorted(MODELS.glob("*.py"))}
LEARNED = {name: file for name, file in FILES.items() if "mnist" in file.recipes}
NEARLY_A_TIE = 2  # images on which the last bits of a sum may decide, and those differ by machine


def table(header) -> list[list[str]]:
    lines = README.split(f"\n| {header} |")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def number(text) -> int:
    return int(text.replace(",", ""))


def test_every_network_is_in_its_tables():
    assert {row[0].strip("`").removesuffix(".py") for row in table("file")} == {*FILES}
    for header in "network", "weights":
        assert {row[0] for row in table(header)} == {*LEARNED}
    assert {path.stem for path in (MODELS / "weights").iterdir()} == {*LEARNED}


def test_the_command_evaluates_all_that_have_weights():
    (patterns,) = re.findall(r"tinyinfer evaluate models/\{(.+)\}\.py ", README)
    found = {path.stem for p in patterns.split(",") for path in MODELS.glob(f"{p}.py")}
    assert found == {*LEARNED}


@pytest.mark.parametrize("file, network, parameters", table("file"))
def test_parameters(file, network, parameters):
    model = FILES[file.strip("`").removesuffix(".py")].build()
    assert sum(p.size for p in model.parameters()) == number(parameters)


@pytest.mark.parametrize("name, right", table("weights"))
def test_shipped_weights(name, right):
    if "TINYINFER_DATA" not in os.environ:
        pytest.skip("set TINYINFER_DATA to a folder with mnist/")
    model_file = LEARNED[name]
    model, (_, test) = model_file.build(), data.mnist()
    normalize = train.weights.load(model, MODELS / "weights" / f"{name}.safetensors")
    loader = train.inputs.for_testing(test, model_file.input_shape, normalize)
    assert abs(train.evaluate(model, loader).right - number(right)) <= NEARLY_A_TIE


@pytest.mark.parametrize("name", LEARNED)
def test_epochs(name):
    epochs = {row[0]: row[3] for row in table("network")}
    assert LEARNED[name].recipe("mnist").epochs == number(epochs[name])
