"""A graph in a file: graph.save("net.tig"), ti.load_graph("net.tig"). A zip of two members,

    graph.json           {"format": "tinyinfer graph", "version": 1, "graph": [a line of its text, ...]}
    arrays.safetensors   {printed name: array}: what the text leaves out

stored, not compressed: so reading takes no more than some times the room of the file. Nothing in it
can run. Tensors alone have files in nn/file.py; how arrays become bytes is the same, and stands here.
"""

import json
import os
import zlib
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
import safetensors.numpy
from safetensors import deserialize

from ..errors import ArgumentError, GraphError, LoadError
from .graph import Graph
from .parse import parse_graph
from .text import NAMES, to_text, values

DTYPES = {name.upper(): d for d, name in NAMES.items()}  # as safetensors calls them
HEADER, CHECKSUM = "__metadata__", "crc32"
FORMAT, VERSION = "tinyinfer graph", 1
TEXT, ARRAYS = "graph.json", "arrays.safetensors"
NO_GRAPH = "this cannot be read as a graph: "


def save(graph, path):
    """Write the graph to the file `path`, with the values its States have now; its history stays.

    Whatever happens meanwhile, `path` has what it had before, or all of the new.
    Raises OSError if the disk refuses.
    """
    arrays = values(graph.verify())
    if HEADER in arrays:
        raise ArgumentError(f"save: {HEADER!r} is the format's own name: call that State otherwise")
    about = {"format": FORMAT, "version": VERSION, "graph": to_text(graph).split("\n")}
    data = BytesIO()
    with ZipFile(data, "w", ZIP_STORED) as archive:
        archive.writestr(ZipInfo(TEXT), json.dumps(about, indent=1))
        archive.writestr(ZipInfo(ARRAYS), packed(arrays, {}))
    write(path, data.getvalue())


def load_graph(path) -> Graph:
    """The graph that graph.save wrote. Its States are new ones: no module knows them; what was saved
    was a training step, goes on training.

    Raises LoadError if the file is missing or damaged, or is none of a graph, or of a newer version.
    """
    try:
        with ZipFile(BytesIO(Path(path).read_bytes())) as archive:
            text = text_of(json.loads(member(archive, TEXT)))
            arrays, _ = unpacked(member(archive, ARRAYS))
        return parse_graph(text, arrays)
    except FileNotFoundError:
        raise LoadError(f"{path}: there is no such file") from None
    except RecursionError:
        raise LoadError(f"{path}: it is nested too deep to be a graph") from None
    except Exception as error:  # zip, JSON and safetensors have many words for damage
        known = isinstance(error, GraphError | LoadError)
        words = shorten(str(error) or type(error).__name__, 1000)
        raise LoadError(f"{path}: {'' if known else NO_GRAPH}{words}") from None


Graph.save = save


def member(archive, name) -> bytes:
    if archive.getinfo(name).compress_type != ZIP_STORED:
        raise LoadError(f"{name} in it is compressed, and is to be stored")
    return archive.read(name)


def text_of(about) -> str:
    about = about if isinstance(about, dict) else {}
    version, lines = about.get("version"), about.get("graph")
    if about.get("format") == FORMAT and isinstance(version, int) and version > VERSION:
        raise LoadError(
            f"it has version {version} of the format, and this tinyinfer reads up to {VERSION}: "
            "update tinyinfer"
        )
    known = about.get("format") == FORMAT and version == VERSION and isinstance(lines, list)
    if not known or not all(isinstance(line, str) for line in lines):
        raise LoadError(f"{TEXT} in it is not that of a graph")
    return "\n".join(lines)


# Arrays as bytes


def packed(arrays, metadata) -> bytes:
    """{name: array} and {name: string} in safetensors, which is a table and plain numbers."""
    arrays = {name: np.asarray(x, order="C") for name, x in arrays.items()}
    return safetensors.numpy.save(arrays, metadata | {CHECKSUM: checksum(arrays, metadata)})


def unpacked(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The way back. Raises ValueError or SafetensorError for what is damaged."""
    arrays = {name: parse(name, **entry) for name, entry in deserialize(data)}
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get(HEADER) or {}
    if metadata.pop(CHECKSUM, None) not in (None, checksum(arrays, metadata)):
        raise ValueError("its checksum is wrong, so it was changed or damaged")
    return arrays, metadata


def parse(name, dtype, shape, data) -> np.ndarray:
    if dtype not in DTYPES:
        raise ValueError(f"{name} is {dtype}, and tensors are {', '.join(DTYPES)}")
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape)


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
