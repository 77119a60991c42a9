"""Where the files of a data set are: where the user keeps them, in the cache, or on a mirror."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import LoadError

TIMEOUT = 30  # seconds without a byte
PIECE = 1 << 16


@dataclass(frozen=True)
class Source:
    name: str
    mirrors: tuple[str, ...]  # each file is at mirror + its name
    md5: dict[str, str]  # file name: checksum


MNIST = Source(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)
FASHION_MNIST = Source(
    "fashion-mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)


def locate(source, file, root=None) -> Path:
    """The path of `file` of `source`; it is downloaded if it is nowhere.

    Looked for in the folder `root`, there first in the subfolder `source.name`, or, without a root,
    in that subfolder of $TINYINFER_DATA; then in the user's cache, which is where downloads go.
    Raises LoadError if no mirror has the file, or none has it with the right checksum.
    """
    *_, cached = places = [folder / file for folder in folders(source.name, root)]
    return next(filter(Path.is_file, places), None) or download(source, file, cached)


def folders(name, root):
    if root:
        yield Path(root, name)
        yield Path(root)
    elif data := os.environ.get("TINYINFER_DATA"):
        yield Path(data, name)
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tinyinfer", name)


def download(source, file, target) -> Path:
    """Fetch `file` to `target` from the first mirror that has it whole; else raise LoadError."""
    # The modules for this are imported late: they are slow to load, and most runs need none.
    from http.client import HTTPException

    failures = []
    for mirror in source.mirrors:
        try:
            fetch(mirror + file, target, source.md5[file])
            return target
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{mirror}{file}: {error}")
    raise LoadError(
        f"{source.name}: no mirror gave {file} ({'; '.join(failures)}): "
        f"try again, or put the file into the folder {source.name}/ of $TINYINFER_DATA"
    )


def fetch(url, target, md5):
    """Load `url` into the file `target`, whole and with this checksum, or leave nothing behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".part-", dir=target.parent) as folder:
        part = Path(folder, target.name)
        found = receive(url, part)
        if found != md5:
            raise LoadError(f"{part.stat().st_size} bytes with checksum {found}, expected {md5}")
        part.replace(target)


def receive(url, path) -> str:
    """Load `url` into `path`, with a progress bar; returns the MD5 of what came."""
    from urllib.request import urlopen

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    digest = hashlib.md5(usedforsecurity=False)
    columns = "{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with (
        urlopen(url, timeout=TIMEOUT) as response,
        open(path, "wb") as out,
        Progress(*columns, console=Console(stderr=True)) as bar,
    ):
        length = response.headers.get("Content-Length")
        task = bar.add_task(path.name, total=length and int(length))
        while piece := response.read(PIECE):
            digest.update(piece)
            out.write(piece)
            bar.advance(task, len(piece))
    return digest.hexdigest()
