"""Tensors in a file: safetensors, a table of names and plain numbers. Nothing in it can run."""

from pathlib import Path

from safetensors import SafetensorError

from ..core.tensor import Tensor, array_of, tensor
from ..errors import ArgumentError, LoadError
from ..graph.file import CHECKSUM, HEADER, packed, unpacked, write


def save(state_dict, path, metadata=None):
    """Write {name: Tensor or array} to the file `path`; `metadata` is {string: string}.

    Whatever happens meanwhile, `path` has what it had before, or all of the new.
    Raises ArgumentError for names or metadata that are not strings, or are the format's own;
    OSError if the disk refuses.
    """
    metadata = dict(metadata or {})
    for pair in (*((name, "") for name in state_dict), *metadata.items()):
        if not all(isinstance(x, str) for x in pair):
            raise ArgumentError(f"save: names and metadata are strings, not {pair}: use str(...)")
    for what, own, names in (("tensor", HEADER, state_dict), ("metadata", CHECKSUM, metadata)):
        if own in names:
            raise ArgumentError(f"save: {what} {own!r} is the format's own: choose another name")
    write(path, packed({name: array_of(x) for name, x in state_dict.items()}, metadata))


def load(path) -> dict[str, Tensor]:
    """{name: Tensor} of a file written by `save`, or by anything else that writes safetensors.

    Raises LoadError if it is missing or damaged, or has a dtype that tensors cannot have.
    """
    return read(path)[0]


def read(path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file. Raises LoadError as `load` does."""
    try:
        arrays, metadata = unpacked(Path(path).read_bytes())
    except FileNotFoundError:
        raise LoadError(f"{path}: there is no such file") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise LoadError(f"{path}: this cannot be read as safetensors: {error}") from None
    return {name: tensor(array) for name, array in arrays.items()}, metadata
