"""The order of the house: imports only go down, the heart stays small, importing stays quick."""

import ast
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tinyinfer"

# `tinyinfer` itself, the public face, is a room too: what stands behind it may be written with it.
ROOMS = (
    "errors core ops kernels graph runtime draw nn optim data compress onnx testing "
    "tinyinfer train reproduce cli"
).split()

HEAVY = {"numba", "matplotlib", "graphviz", "typer", "rich", "torch", "onnx", "scipy"}


def room(module: tuple) -> str:
    """("tinyinfer", "core", "op") stands in core, and ("tinyinfer",) in tinyinfer."""
    return module[1] if len(module) > 1 else "tinyinfer"


def imported(file: Path, source: str):
    """(line, room) of every import of our own, at whatever depth of the file it stands."""
    package = ("tinyinfer", *file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            whole = base == ("tinyinfer",)  # there the names may be rooms: from .. import nn
            names = [alias.name for alias in node.names]
            modules = [(*base, name) if whole and name in ROOMS else base for name in names]
        else:
            continue
        yield from {(node.lineno, room(m)) for m in modules if m[0] == "tinyinfer"}


def climbs(file: Path, source: str):
    """One sentence for every import that goes up."""
    here = room(("tinyinfer", *file.relative_to(PACKAGE).with_suffix("").parts))
    for line, there in sorted(imported(file, source)):
        if ROOMS.index(there) > ROOMS.index(here):
            where = f"{file.relative_to(PACKAGE.parent)}:{line}"
            yield f"{where}: {here} imports {there}, which stands above it"


def inside():
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


def test_every_file_has_a_room():
    homes = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert homes - {"__init__", "__pycache__"} <= set(ROOMS)


def test_the_readme_shows_all_rooms_in_their_order():
    house = (PACKAGE.parent / "README.md").read_text().split("\n| room |")[1].split("\n\n")[0]
    shown = re.findall(r"`(.+?)`", "".join(row.split("|")[1] for row in house.splitlines()[2:]))
    assert all(PACKAGE.joinpath(path).exists() for path in shown)
    there = [room for room in ROOMS if [*PACKAGE.glob(room), *PACKAGE.glob(f"{room}.py")]]
    assert [path.removesuffix(".py").rstrip("/") for path in shown] == there


def test_imports_only_go_down():
    found = [sentence for file in inside() for sentence in climbs(file, file.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line, there",
    [
        ("from ..nn import Linear", "nn"),
        ("from .. import nn", "nn"),
        ("from .. import Tensor", "tinyinfer"),
        ("from ..graph.graph import Graph", "graph"),
        ("import tinyinfer.draw.arena", "draw"),
        ("import tinyinfer as ti", "tinyinfer"),
        ("from tinyinfer import optim", "optim"),
        ("def f():\n    if True:\n        from ..nn import Linear", "nn"),
    ],
)
def test_an_import_that_goes_up_is_found(line, there):
    number = line.count("\n") + 1
    message = f"tinyinfer/ops/conv.py:{number}: ops imports {there}, which stands above it"
    assert list(climbs(PACKAGE / "ops" / "conv.py", line)) == [message]


@pytest.mark.parametrize(
    "line",
    ["from ..core.op import Op", "from .shape import pad", "from ..errors import ShapeError"],
)
def test_an_import_that_goes_down_is_not(line):
    assert not list(climbs(PACKAGE / "ops" / "conv.py", line))


def lines_of_code(file: Path) -> int:
    """Lines that are neither blank nor only a comment nor part of a docstring."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    silent |= {tokenize.ENCODING, tokenize.ENDMARKER}
    with tokenize.open(file) as stream:
        tokens = [t for t in tokenize.generate_tokens(stream.readline) if t.type not in silent]
    lines = {line for t in tokens for line in range(t.start[0], t.end[0] + 1)}
    return len(lines - docstring_lines(ast.parse(file.read_text())))


def docstring_lines(tree: ast.AST) -> set:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    owners = [node for node in ast.walk(tree) if isinstance(node, documented)]
    texts = [node.body[0] for node in owners if ast.get_docstring(node, clean=False) is not None]
    return {line for text in texts for line in range(text.lineno, text.end_lineno + 1)}


def test_lines_of_code(tmp_path):
    file = tmp_path / "four.py"
    file.write_text('"""Two\nlines."""\n\n# alone\nx = """\n"""  # beside\n\n\ndef f():\n    1\n')
    assert lines_of_code(file) == 4


def test_the_heart_has_at_most_500_lines_of_code():
    lines = {file.name: lines_of_code(file) for file in (PACKAGE / "core").glob("*.py")}
    assert 0 < sum(lines.values()) <= 500, lines


def test_importing_tinyinfer_imports_nothing_heavy():
    code = "import sys, tinyinfer; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert not HEAVY & set(modules.stdout.split())
