"""What the README shows is what happens."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
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
    text = README.read_text(encoding="utf-8")
    assert len(list(examples(text))) == text.count("```python") > 0
    assert sum(expected is not None for *_, expected in examples(text)) == text.count("```text") > 0
    run(text)


def test_blocks_share_their_names():
    run("```python\nx = 1\n```\nand\n```python\nprint(x + 1)\n```\n\n```text\n2\n```\n")


def test_another_output_is_a_failure():
    with pytest.raises(AssertionError, match=r"README\.md:4"):
        run("Two:\n\n```python\nprint(1)\n```\n\n```text\n2\n```\n")


def test_only_the_block_right_after_is_compared():
    run("```python\nprint(1)\n```\n\nas in\n\n```text\n2\n```\n")
