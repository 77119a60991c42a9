"""A model file: one Python file that says how a network is built, and how it is trained.

input_shape = 1, 28, 28                             # of one image: channels, rows, columns
recipes = {"mnist": Recipe(epochs=10, lr=0.1)}      # by the name of the data; may be missing

def build():                                        # the network with its first values
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""

import importlib.util
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import prod
from pathlib import Path

from ..errors import LoadError, TinyinferError
from ..nn import Module
from .recipe import Recipe

LARGEST = 2**31  # numbers in an image: what is beyond is a slip
SAME_RECIPE = {"fashion-mnist": "mnist"}
next_number = count().__next__
paths = {}  # name of a module that came from a model file -> the path, as it was given


@dataclass(frozen=True)
class ModelFile:
    path: Path
    input_shape: tuple[int, int, int]
    recipes: dict[str, Recipe]
    function: object

    @property
    def name(self) -> str:
        return self.path.stem

    def build(self) -> Module:
        """A new model; its first values come from the random key: see ti.manual_seed."""
        with naming_lines(self.path):
            model = self.function()
        if not isinstance(model, Module):
            raise LoadError(
                f"{self.path}: build() gave {model!r:.60}, which is no nn.Module: "
                "end it with `return` and the model"
            )
        return model

    def recipe(self, data_name) -> Recipe:
        """The one for that data; where the file has none, a plain one."""
        found = self.recipes.get(data_name) or self.recipes.get(SAME_RECIPE.get(data_name))
        return found or Recipe(epochs=10)


def load(path) -> ModelFile:
    """Run the model file. Raises LoadError if that fails, or if it lacks what the file must say."""
    path = Path(path)
    if not path.is_file():
        raise LoadError(f"{path}: there is no such model file: give one, like models/lenet.py")
    module = run(path)
    if not callable(getattr(module, "build", None)):
        raise LoadError(f"{path}: it has no build(): write `def build():` that returns the model")
    recipes = getattr(module, "recipes", {})
    if not (isinstance(recipes, dict) and all(isinstance(r, Recipe) for r in recipes.values())):
        raise LoadError(
            f'{path}: write `recipes = {{"mnist": Recipe(epochs=10)}}`, with '
            "`from tinyinfer.train import Recipe`"
        )
    return ModelFile(path, input_shape(path, module), recipes, module.build)


def input_shape(path, module):
    shape = getattr(module, "input_shape", None)
    sizes = isinstance(shape, tuple | list) and all(type(n) is int and n > 0 for n in shape)
    if not sizes or len(shape) != 3 or prod(shape) > LARGEST:
        raise LoadError(
            f"{path}: input_shape is {'missing' if shape is None else repr(shape)}: write "
            "`input_shape = 1, 28, 28`: the channels, rows and columns of one image"
        )
    return tuple(shape)


def run(path):
    """The file as a module of its own; twice the same file are two modules."""
    name = f"tinyinfer_model_{next_number()}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise LoadError(f"{path}: a model file is Python, with a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    paths[name] = path
    sys.modules[spec.name] = module  # before it runs: dataclasses and others look it up there
    try:
        with naming_lines(path):  # not of kept bytecode, which sees no change within a second
            exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


@contextmanager
def naming_lines(path):
    """What goes wrong in the user's file becomes a LoadError that says in which line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise LoadError(in_file(error) or f"{path}: {told(error)}") from error


def in_file(error) -> str | None:
    """An error that came through a line of a model file, with that line: "net.py, line 7: ..."."""
    frames = [(f.f_globals.get("__name__"), n) for f, n in traceback.walk_tb(error.__traceback__)]
    lines = [(paths[name], n) for name, n in frames if name in paths]
    return f"{lines[-1][0]}, line {lines[-1][1]}: {told(error)}" if lines else None


def told(error) -> str:
    return f"{error}" if isinstance(error, TinyinferError) else f"{type(error).__name__}: {error}"
