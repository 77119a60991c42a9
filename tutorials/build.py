"""Turn the tutorials into notebooks with results and pictures: `python tutorials/build.py`.

Every tutorial is one Python file, `NN_name.py`, in jupytext's percent format. It is run in a fresh
kernel of this Python, whose working folder is `tutorials/built`, and becomes
`tutorials/built/NN_name.ipynb`. An error ends it, and is told with its line in the source.
"""

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated

os.environ |= {
    "JUPYTER_PLATFORM_DIRS": "1",  # else Jupyter warns that its folders will move
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # pictures stand in the notebook
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else the debugger has a remark in it too
}

import jupytext
import nbformat
import typer
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

HERE = Path(__file__).resolve().parent
BUILT = HERE / "built"
SECONDS = 900  # at most, for one cell
AT_ONCE = 2
QUIET = ["--log-level=ERROR"]  # else each kernel warns that this machine could listen to it
COLUMNS = TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()


class ThisPython(AsyncKernelManager):
    """Starts the Python that runs this file, whichever kernels this machine has on its list."""

    kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", *QUIET]
    )


class Tutorial:
    def __init__(self, source: Path):
        self.source = source
        self.notebook = jupytext.read(source, fmt="py:percent")
        self.notebook.metadata = nbformat.from_dict(
            {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        )
        self.cells = [c for c in self.notebook.cells if c.cell_type == "code" and c.source.strip()]
        self.running = None  # the cell at work
        self.complaint = None

    async def execute(self, progress):
        """Fill in the outputs, or the complaint."""
        task = progress.add_task(self.source.name, total=len(self.cells))
        client = NotebookClient(
            self.notebook,
            kernel_manager_class=ThisPython,
            timeout=SECONDS,
            record_timing=False,
            resources={"metadata": {"path": str(BUILT)}},
            on_cell_execute=lambda cell, **_: setattr(self, "running", cell),
            on_cell_executed=lambda **_: progress.advance(task),
        )
        try:
            await client.async_execute()
        except CellExecutionError as error:
            frames = re.sub(r"\x1b\[[\d;]*m", "", error.traceback)
            place = re.search(r"Cell In\[\d+\], line (\d+)", frames)
            self.complain(int(place[1]) if place else 1, f"{error.ename}: {error.evalue}", frames)
        except CellTimeoutError:
            self.complain(1, f"this cell was stopped after {SECONDS} seconds")
        except DeadKernelError:
            self.complain(1, "this cell ended the interpreter")

    def complain(self, line: int, what: str, details=""):
        """`line` counts within the running cell, from 1."""
        line += self.first_line(self.running) - 1
        self.complaint = f"{details}\n{self.source.relative_to(HERE.parent)}:{line}: {what}"

    def first_line(self, cell) -> int:
        """Where in the source the code of a cell begins: equal cells come in their order."""
        text, at = "\n" + self.source.read_text(encoding="utf-8"), 0
        for other in self.cells:
            at = max(at, text.find("\n" + other.source, at)) + 1
            if other is cell:
                return text.count("\n", 0, at)

    def write(self):
        nbformat.write(self.notebook, BUILT / f"{self.source.stem}.ipynb")


def chosen(names) -> list[Path]:
    """The sources whose names begin so; `01`, `01_tape` and `tutorials/01_tape.py` all will do."""
    sources = sorted(HERE.glob("[0-9][0-9]_*.py"))
    found = {name: [s for s in sources if s.stem.startswith(Path(name).stem)] for name in names}
    for name, matches in found.items():
        if not matches:
            there = ", ".join(s.stem for s in sources) or "none yet"
            raise typer.BadParameter(f"no tutorial is called {name}; there are: {there}")
    return sorted(set().union(*found.values())) if names else sources


async def execute_all(tutorials, progress):
    seats = asyncio.Semaphore(AT_ONCE)

    async def seated(tutorial):
        async with seats:
            await tutorial.execute(progress)

    await asyncio.gather(*map(seated, tutorials))


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which; without names, all.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Execute, but write nothing.")] = False,
):
    """Execute the tutorials and write them as notebooks into tutorials/built."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    tutorials = [Tutorial(source) for source in chosen(names or [])]
    if not tutorials:
        console.print("There are no tutorials yet.")
        return
    BUILT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Progress(*COLUMNS, console=console) as progress:
        os.environ["IPYTHONDIR"] = folder  # no start-up files and no history of whoever runs this
        asyncio.run(execute_all(tutorials, progress))
    failed = [tutorial for tutorial in tutorials if tutorial.complaint]
    for tutorial in tutorials:
        if tutorial.complaint:
            console.print(tutorial.complaint)
        elif not check:
            tutorial.write()
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    typer.run(main)
