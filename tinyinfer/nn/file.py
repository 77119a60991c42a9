"""Tensors in a file: safetensors, a table of names and plain numbers. Nothing in it can run."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, deserialize

from ..core.tensor import Tensor, array_of, tensor
from ..errors import ArgumentError, LoadError

# fmt: off
DTYPES = {
    "F16": "float16", "F32": "float32", "F64": "float64", "BOOL": "bool",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
}
# fmt: on
HEADER, CHECKSUM = "__metadata__", "crc32"


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
    arrays = {name: np.array(array_of(x), order="C") for name, x in state_dict.items()}
    metadata[CHECKSUM] = checksum(arrays, metadata)
    write(path, safetensors.numpy.save(arrays, metadata))


def checksum(arrays, metadata) -> str:
    """Of all there is: the format has none, and would read changed numbers as numbers."""
    about = sorted(metadata.items()), [(name, *arrays[name].shape) for name in sorted(arrays)]
    crc = zlib.crc32(json.dumps(about).encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].tobytes(), crc)
    return f"{crc:08x}"


def write(path, data: bytes):
    """Replace the file `path` at once: any reader, also after a crash, finds the old or the new."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def load(path) -> dict[str, Tensor]:
    """{name: Tensor} of a file written by `save`, or by anything else that writes safetensors.

    Raises LoadError if it is missing or damaged, or has a dtype that tensors cannot have.
    """
    return read(path)[0]


def read(path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file. Raises LoadError as `load` does."""
    try:
        data = Path(path).read_bytes()
        arrays = {name: parse(name, **entry) for name, entry in deserialize(data)}
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get(HEADER)
        metadata = metadata or {}
        if metadata.pop(CHECKSUM, None) not in (None, checksum(arrays, metadata)):
            raise ValueError("its checksum is wrong, so it was changed or damaged")
    except FileNotFoundError:
        raise LoadError(f"{path}: there is no such file") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise LoadError(f"{path}: this cannot be read as safetensors: {error}") from None
    return {name: tensor(array) for name, array in arrays.items()}, metadata


def parse(name, dtype, shape, data) -> np.ndarray:
    if dtype not in DTYPES:
        raise ValueError(f"{name} is {dtype}, and tensors are {', '.join(DTYPES)}")
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape)
