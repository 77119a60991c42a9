"""What the README shows is what happens."""

import re
import shlex
import shutil
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tinyinfer import cli

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
COMMAND = re.compile(r"^```console\n\$ (.*?)\n(.*?)^```$", re.M | re.S)
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```$)?", re.M | re.S)


def examples(text: str):
    """(line, code, what it should print, or None) of every python block."""
    for found in EXAMPLE.finditer(text):
        yield text.count("\n", 0, found.start(1)) + 1, *found.groups()


def run(text: str):
    """Run the blocks one after another, as one program; tracebacks name the README's lines."""
    names = {"__name__": "__main__"}
    for line, code, expected in examples(text):
        with redirect_stdout(StringIO()) as printed:
            exec(compile("\n" * (line - 1) + code, README, "exec"), names)
        assert expected in (None, printed.getvalue()), f"README.md:{line}"


def test_every_example_prints_what_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYINFER_KERNELS")  # as people would run it
    assert len(list(examples(TEXT))) == TEXT.count("```python") > 0
    assert sum(expected is not None for *_, expected in examples(TEXT)) == TEXT.count("```text") > 0
    run(TEXT)


def test_every_command_prints_what_is_said(monkeypatch, capsys):
    monkeypatch.chdir(README.parent)
    commands = COMMAND.findall(TEXT)
    assert len(commands) == TEXT.count("```console") > 0
    for command, expected in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        assert (cli.main(), capsys.readouterr().out) == (0, expected)


def words(picture) -> list[str]:
    """What can be read in it, wherever it stands: that depends on the version of Graphviz."""
    texts = ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    return sorted(" ".join(text.text for text in texts).split())


@pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz is not installed")
@pytest.mark.parametrize("command", re.findall(r"`(tinyinfer draw .*?)`", TEXT, re.S))
def test_a_picture_is_what_its_command_draws(command, tmp_path, monkeypatch):
    *how, picture = shlex.split(command)
    again = tmp_path / "again.svg"
    monkeypatch.chdir(README.parent)
    monkeypatch.setattr(sys, "argv", [*how, str(again)])
    assert how[-1] == "--out"
    assert cli.main() == 0 and words(picture) == words(again) != []


@pytest.mark.parametrize("file", re.findall(r'<img src="(.*?)"', TEXT))
def test_every_picture_is_there(file):
    assert (README.parent / file).is_file()


def test_blocks_share_their_names():
    run("```python\nx = 1\n```\nand\n```python\nprint(x + 1)\n```\n\n```text\n2\n```\n")


def test_another_output_is_a_failure():
    with pytest.raises(AssertionError, match=r"README\.md:4"):
        run("Two:\n\n```python\nprint(1)\n```\n\n```text\n2\n```\n")


def test_only_the_block_right_after_is_compared():
    run("```python\nprint(1)\n```\n\nas in\n\n```text\n2\n```\n")
