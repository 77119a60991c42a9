"""What was learned, as a file: a state_dict, and beside it what has to be known to use it."""

import json

from ..data.transforms import Normalize
from ..errors import LoadError, TinyinferError
from ..nn import file
from .checkpoint import RUN, identity, part


def save(run, path):
    """Write the model of the run, so that it can be used without the images it has learned from."""
    about = {**identity(run), "mean": run.normalize.mean, "std": run.normalize.std}
    file.save(run.model.state_dict(), path, {name: json.dumps(x) for name, x in about.items()})


def load(model, path) -> Normalize | None:
    """Take over the weights in `path`, which may be a checkpoint too.

    Returns how the images were normalized, if the file says so.

    Raises LoadError if the file is missing or damaged, or is of another model.
    """
    tensors, metadata = file.read(path)
    if RUN in metadata:
        tensors = part(tensors, "model")
    try:
        about = {name: json.loads(text) for name, text in metadata.items()}
        normalize = Normalize(tuple(about["mean"]), tuple(about["std"]))
    except (KeyError, TypeError, ValueError, RecursionError, TinyinferError):
        about, normalize = {}, None  # not written by `save`
    here = type(model).__name__
    if about.get("model", here) != here:
        raise LoadError(f"{path}: these are weights of {about['model']}, and the model is {here}")
    try:
        model.load_state_dict(tensors)
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from None
    return normalize
