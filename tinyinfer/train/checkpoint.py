"""A run in one file: numbers as tensors, everything else as JSON beside them.

model.*      parameters and buffers
optimizer.*  learning rates and moments
random_key   of dropout and whatever else draws by chance
run          what it is a run of, and how far it has come: a JSON text
"""

import json
from dataclasses import asdict, dataclass

import numpy as np

from ..core.check import number
from ..core.tensor import Tensor
from ..errors import LoadError, NonFiniteError, TinyinferError
from ..nn import file
from ..ops import default_key
from .loop import METRICS, Sums
from .recipe import Recipe

FORMAT = 1
RUN = "run"


def save(run, path):
    """Write the run, as it stands between two steps, to the file `path`, at once.

    Raises NonFiniteError, and leaves the file alone, if a parameter is not finite.
    """
    for name, parameter in run.model.named_parameters():
        if not np.isfinite(parameter.numpy()).all():
            raise NonFiniteError(f"{name} is not finite any more: {path} stays as it was")
    parts = {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    tensors = {f"{part}.{k}": x for part, state in parts.items() for k, x in state.items()}
    about = {
        "format": FORMAT,
        **identity(run),
        "recipe": asdict(run.recipe),
        "seed": run.seed,
        "compiled": run.compiled,
        "epoch": run.epoch,
        "batch": run.batch,
        "sums": asdict(run.sums),
        "rows": run.rows,
        "schedule": run.schedule and run.schedule.state_dict(),
    }
    file.save(tensors | {"random_key": default_key}, path, {RUN: json.dumps(about)})


def identity(run) -> dict:
    """What has to be the same for the run to go on."""
    return {
        "model": type(run.model).__name__,
        "input shape": list(run.input_shape),
        "data": run.train.name,
        "images": [len(run.train), len(run.test)],
    }


@dataclass(frozen=True)
class Checkpoint:
    path: object
    tensors: dict[str, Tensor]
    about: dict
    recipe: Recipe
    seed: int

    @property
    def compiled(self) -> bool:
        """Whether it ran as one function: to go on bit for bit it does so again."""
        return bool(self.about.get("compiled"))

    def restore(self, run):
        """Put a new run where the saved one was. Raises LoadError if it is a run of another kind."""
        settings = identity(run) | asdict(run.recipe) | {"seed": run.seed}
        saved = self.about | asdict(self.recipe)
        for what, here in settings.items():
            if here != saved.get(what):
                raise LoadError(
                    f"{self.path}: this run has {what} {show(saved.get(what))}, not {show(here)}: "
                    "to go on, leave it as it was; to change it, start another run"
                )
        try:
            run.model.load_state_dict(part(self.tensors, "model"))
            run.optimizer.load_state_dict(part(self.tensors, "optimizer"))
            default_key.assign(self.tensors["random_key"])
            if run.schedule:
                run.schedule.load_state_dict(self.about["schedule"])
            run.go_to(self.about["epoch"], self.about["batch"])
            run.sums, run.rows = Sums(**self.about["sums"]), rows(self.about["rows"], run.epoch)
            run.scores = None
        except (TinyinferError, KeyError, TypeError) as error:
            raise LoadError(f"{self.path}: it does not fit to this run: {error}") from None


def rows(saved, epochs) -> list[dict]:
    for row in saved:
        for name in METRICS:
            number(name, row[name], "(-inf, inf)")
    if [row["epoch"] for row in saved] != [*range(1, epochs + 1)]:
        raise LoadError(f"{len(saved)} rows of metrics after {epochs} epochs")
    return saved


def part(tensors, name) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {k[len(prefix) :]: x for k, x in tensors.items() if k.startswith(prefix)}


def load(path) -> Checkpoint:
    """Raises LoadError if the file is missing, damaged, or no checkpoint."""
    tensors, metadata = file.read(path)
    try:
        about = json.loads(metadata[RUN])
        version, recipe, seed = about["format"], Recipe(**about["recipe"]), int(about["seed"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise LoadError(f"{path}: this is no checkpoint of a training run: {error!r}") from None
    if version != FORMAT:
        raise LoadError(f"{path}: a checkpoint of format {version}; this tinyinfer reads {FORMAT}")
    return Checkpoint(path, tensors, about, recipe, seed)


def show(value):
    return "x".join(map(str, value)) if isinstance(value, list) else value
