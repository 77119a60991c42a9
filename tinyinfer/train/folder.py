"""The folder of a run: what is in it, and which one is meant."""

import errno
import json
import os
import platform
import re
from dataclasses import asdict
from importlib.metadata import version
from itertools import count
from pathlib import Path

from ..core.tensor import placeholder
from ..errors import ArgumentError, LoadError
from ..graph.graph import Graph
from ..graph.passes import optimize
from ..graph.trace import trace
from ..nn import file
from . import checkpoint, inputs, weights

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "model.safetensors"


class Folder:
    """checkpoint.safetensors, metrics.jsonl (a line an epoch), run.json (the settings); and when the
    run is done model.safetensors, curves.png, graph.svg, mistakes.png."""

    def __init__(self, path):
        self.path = Path(path)
        self.checkpoint = self.path / CHECKPOINT

    def expect_free(self):
        """Raises ArgumentError if there is a run in it already."""
        if self.checkpoint.exists():
            raise ArgumentError(
                f"{self.path}: there is a run in it: go on with --resume, or choose another --out"
            )

    def make(self):
        """Raises OSError if there cannot be such a folder, or nobody may write into it."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))

    def start(self, run):
        """Make the folder of a new run. Raises ArgumentError if there is a run in it already."""
        self.expect_free()
        self.make()
        settings = {
            **checkpoint.identity(run),
            "recipe": asdict(run.recipe),
            "seed": run.seed,
            "compiled": run.compiled,
            "versions": {name: version(name) for name in ("tinyinfer", "numpy")}
            | {"python": platform.python_version()},
        }
        file.write(self.path / "run.json", json.dumps(settings, indent=2).encode() + b"\n")
        self.save(run)

    def save(self, run):
        """The metrics follow from the checkpoint: whatever happens in between, that one counts."""
        checkpoint.save(run, self.checkpoint)
        lines = "".join(json.dumps(row) + "\n" for row in run.rows)
        file.write(self.path / "metrics.jsonl", lines.encode())

    @property
    def weights(self) -> Path:
        """The file with the weights: the checkpoint, as long as the run is not done."""
        path = self.path / WEIGHTS
        return path if path.exists() else self.checkpoint

    def finish(self, run) -> list[Path]:
        """What is left when all is learned: weights and pictures. Returns their paths."""
        from ..draw import charts  # matplotlib takes half a second

        path = self.path / WEIGHTS
        weights.save(run, path)
        title = f"{type(run.model).__name__} on {run.train.name}"
        scores = run.scores or run.examine()
        pictures = [
            charts.curves(run.rows, self.path / "curves.png", title),
            draw(run.model, run.input_shape, self.path / "graph.svg"),
            charts.mistakes(
                run.test.images, scores.labels, scores.predicted, scores.confidence,
                self.path / "mistakes.png", run.test.classes, title,
            ),
        ]  # fmt: skip
        return [path, *pictures]


def draw(model, input_shape, path, color_by=None, change=None) -> Path:
    """The model's graph for one image, or the change that a pass of ti.optimize makes. Returns the
    path written, a .gv where Graphviz is missing."""
    graph = graph_of(model, input_shape)
    if change:
        return optimize(graph).history.draw(change, path)
    return graph.draw(path, color_by)


def graph_of(model, input_shape, batch=1) -> Graph:
    """What the model does with so many images, when it does not learn."""
    images = placeholder((batch, *input_shape))
    with model.in_use():
        return trace(lambda image: inputs.logits_of(model, image), images)


def weights_in(path, name) -> Path:
    """The file of weights that is meant: of a folder, NAME.safetensors or what a run left there."""
    path = Path(path)
    if not path.is_dir():
        return path
    own = path / f"{name}.safetensors"
    return own if own.exists() else Folder(path).weights


def new(name, root="runs") -> Path:
    """An empty folder of that name, made now, or of name-2, name-3, ... if it is taken."""
    for n in count(1):
        path = Path(root, name if n == 1 else f"{name}-{n}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue


def newest(name, root="runs") -> Path:
    """Of the folders that `new` made for that name, the one whose run went on last.

    Raises LoadError if there is none.
    """
    pattern = re.compile(rf"{re.escape(name)}(-\d+)?")
    found = [p for p in Path(root).glob(f"*/{CHECKPOINT}") if pattern.fullmatch(p.parent.name)]
    if not found:
        raise LoadError(f"{Path(root, name)}: there is no run: `tinyinfer train` makes one")
    return max(found, key=lambda p: p.stat().st_mtime_ns).parent
