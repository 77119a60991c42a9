"""The command line, `tinyinfer --help`: how things are asked for, and what is shown of them."""

import gc
import shlex
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from importlib import import_module
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from threading import Thread
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import data as datasets
from . import reproduce as tables
from . import train as training
from .core.trace import no_grad
from .errors import TinyinferError
from .graph.file import write
from .kernels.threads import set_num_threads
from .ops import manual_seed, zeros
from .runtime import machine as machines
from .runtime.compile import BACKENDS, prepared
from .runtime.compile import compile as compiled
from .runtime.memory import PLANNERS, SHARED
from .runtime.order import POLICIES
from .runtime.plan import plan as planned
from .runtime.select import load as load_kernels

app = typer.Typer(
    help="Train networks, evaluate them, and look at them.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure how fast things are.")
app.add_typer(bench, name="bench")
console = Console(highlight=False, markup=False, soft_wrap=True)
UsageError = typer.BadParameter.__base__  # typer does not name it


def main() -> int:
    """Run the command in sys.argv. Returns the exit status; 2 after an error, told in one line."""
    # Modules, graphs and machine code stay, and what goes makes hardly any cycles: to look for some
    # took half a second.
    gc.set_threshold(100_000)
    args = [arg for arg in sys.argv[1:] if arg != "--traceback"]
    try:
        return app(args or ["--help"], standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (Exception, SystemExit) as error:
        in_file = training.modelfile.in_file(error)
        expected = isinstance(error, (TinyinferError, OSError, MemoryError, UsageError))
        if "--traceback" in sys.argv or not (in_file or expected):
            raise
        print(f"error: {one_line(in_file or told(error))}", file=sys.stderr)
        return 2
    finally:
        gc.freeze()  # at the end Python would look through all that is left, only to go


def told(error) -> str:
    if isinstance(error, UsageError):
        command = error.ctx.command_path if error.ctx else "tinyinfer"
        return f"{error.format_message().rstrip('.')}: see {command} --help"
    return str(error) or type(error).__name__


def one_line(text) -> str:
    first, *more = text.splitlines()
    rest = f" (and {len(more) - 1} more)" if len(more) > 1 else ""
    return " ".join([first, *more[:1]]).replace("  ", "") + rest


Data = StrEnum("Data", [*datasets.SETS])
Cost = StrEnum("Cost", ["flops", "bytes"])
Memory = StrEnum("Memory", ["best", *PLANNERS, *SHARED])
Order = StrEnum("Order", [*POLICIES])
Backend = StrEnum("Backend", [*BACKENDS])
Published = StrEnum("Published", [module.name for module in iter_modules(tables.__path__)])

# fmt: off
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL.py", help="A model file, such as models/lenet.py.")]
ModelFiles = Annotated[list[Path], typer.Argument(metavar="MODEL.py...", help="Model files, such as models/*.py.")]
DataSet   = Annotated[Data, typer.Option(metavar="NAME", help=f"{', '.join(Data)}.")]
Epochs    = Annotated[int | None, typer.Option(help="How often each image is seen.", show_default="the recipe's")]
BatchSize = Annotated[int | None, typer.Option(help="Images in one step.", show_default="the recipe's")]
Rate      = Annotated[float | None, typer.Option("--lr", help="The highest learning rate.", show_default="the recipe's")]
Seed      = Annotated[int | None, typer.Option(help="Of all that is random; 0 if none is given.")]
RunFolder = Annotated[Path | None, typer.Option(help="The folder of the run.", show_default="runs/MODEL-DATA")]
Resume    = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or with the newest.")]
Compile   = Annotated[bool | None, typer.Option("--compile/--no-compile", help="Learn by one compiled function.", show_default=f"from {training.loop.WORTH:,} images on")]
Threads   = Annotated[int, typer.Option(help="How many a step may take.")]
DebugNan  = Annotated[bool, typer.Option("--debug-nan", help="If the loss becomes NaN, say which op made it.")]
Weights   = Annotated[Path | None, typer.Option(help="A file of weights, the folder of a run, or one with MODEL.safetensors in it.", show_default="the newest run's")]
Picture   = Annotated[Path, typer.Option("--out", help=".svg, .png, .pdf or .gv.")]
ColorBy   = Annotated[Cost | None, typer.Option(help="Colour the steps by their share.")]
Change    = Annotated[str | None, typer.Option("--pass", metavar="NAME", help="Show what this pass changes: fuse, simplify, ...", show_default=False)]
Batch     = Annotated[int, typer.Option(min=1, help="Images at once.")]
ByPlanner = Annotated[Memory, typer.Option("--memory", metavar="PLANNER", help=f"{', '.join(Memory)}.")]
ByPolicy  = Annotated[Order, typer.Option("--order", metavar="POLICY", help=f"{', '.join(Order)}.")]
Arena     = Annotated[Path | None, typer.Option("--out", help="Draw the arena: .svg, .png or .pdf.", show_default=False)]
ByBackend = Annotated[Backend, typer.Option("--backend", metavar="NAME", help=f"{', '.join(Backend)}.")]
Training  = Annotated[bool, typer.Option("--train", help="A step of training, by the recipe for --data.")]
Source    = Annotated[Path | None, typer.Option("--out", "-o", help="Write it into this file.", show_default=False)]
Batches   = Annotated[list[int], typer.Option("--batch", min=1, help="Images at once; may be given several times.")]
Autotune  = Annotated[bool, typer.Option("--autotune", help="Time the kernels that could serve, and remember which is fastest.")]
Compare   = Annotated[bool, typer.Option("--compare", help="Draw it by all planners, side by side.")]
Json      = Annotated[Path | None, typer.Option(help="Write the plan for tools.", show_default=False)]
Seeds     = Annotated[int | None, typer.Option(min=1, help="How many runs of each network.", show_default="3")]
Models    = Annotated[Path | None, typer.Option(help="The folder of the model files.", show_default="models")]
MadeIn    = Annotated[Path | None, typer.Option("--out", help="The folder of what is made.", show_default="runs/reproduce-NAME")]
Traceback = Annotated[bool, typer.Option("--traceback", help="After an error, show where it was raised.")]
# fmt: on


@app.callback()
def common(traceback: Traceback = False):
    pass  # main has taken it out, so that it may stand anywhere


@app.command()
def train(
    model: ModelFile,
    data: DataSet = Data.digits,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    seed: Seed = None,
    out: RunFolder = None,
    resume: Resume = False,
    compile: Compile = None,
    threads: Threads = 1,
    debug_nan: DebugNan = False,
):
    """Train a network. Ctrl-C saves it, and --resume goes on as if nothing had been."""
    file = training.modelfile.load(model)
    name = f"{file.name}-{data}"
    if resume:
        out = out or training.folder.newest(name)
    elif out:
        training.Folder(out).expect_free()
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    recipe, seed, compile = settings(file.recipe(data), seed, compile, given, resume and out)
    manual_seed(seed)
    set_num_threads(threads)
    if compile or (compile is None and data != Data.digits):  # of them there are few
        Thread(target=load_kernels).start()  # while zlib unpacks the data, without Python
    halves = datasets.load(data)
    run = training.Run(file.build(), recipe, *halves, file.input_shape, seed, debug_nan, compile)
    out = out or training.folder.new(name)

    training.Folder(out).make()
    about = f"{len(run.train):,} images to learn from, {len(run.test):,} to test"
    console.print(f"{type(run.model).__name__} on {data}: {about}; in {out}", style="bold")
    several = ["--threads", threads] if threads > 1 else []
    with resumable(run, "train", model, "--data", data, "--out", out, *several, "--resume"):
        with Live(run) as live:
            training.fit(run, out, resume, live)
        console.print(result(run))
        written = training.Folder(out).finish(run)
    console.print(f"{out}: {', '.join(path.name for path in written)}")


def settings(recipe, seed, compile, given, resumed):
    """How a run is done: as given, or else as in the folder that is resumed, or in the file."""
    first = 0
    if resumed:
        saved = training.checkpoint.load(training.Folder(resumed).checkpoint)
        recipe, first = saved.recipe, saved.seed
        compile = saved.compiled if compile is None else compile
    recipe = replace(recipe, **{k: v for k, v in given.items() if v is not None})
    return recipe, first if seed is None else seed, compile


@contextmanager
def resumable(run, *command):
    """Whoever stops the run is told how it goes on."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not (isinstance(error, training.Interrupted) or run.done):  # done: it was being drawn
            raise
        signum = signal.Signals(getattr(error, "signal", signal.SIGINT))
        done = f"after {run.epoch} of {run.recipe.epochs} epochs"
        console.print(f"Stopped by {signum.name} {done}, and saved. To go on:")
        console.print(f"  {shlex.join(['tinyinfer', *map(str, command)])}")
        raise typer.Exit(128 + signum) from None


class Live:
    """A line for each epoch; and on a terminal, a bar below that moves with each step."""

    def __init__(self, run):
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        self.bar = Progress(
            *columns, console=console, transient=True, disable=not sys.stdout.isatty()
        )
        first = "compiling" if run.compiled else ""
        self.task = self.bar.add_task(first, total=run.steps, completed=run.steps_done)

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *error):
        self.bar.stop()

    def __call__(self, run):
        if run.batch == 0:
            console.print(epoch_line(run))
            self.bar.update(self.task, completed=run.steps_done)
        elif not self.bar.disable:
            self.bar.update(self.task, completed=run.steps_done, description=batch_line(run))


def epoch_line(run) -> str:
    row, epochs = run.rows[-1], run.recipe.epochs
    return (
        f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}"
        f"   train loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:6.2%}"
        f"   test loss {row['test_loss']:.4f}, accuracy {row['test_accuracy']:6.2%}"
        f"   {row['seconds']:.1f} s"
    )


def batch_line(run) -> str:
    sums = run.sums
    return (
        f"epoch {run.epoch + 1}   loss {sums.loss / sums.images:.4f}, "
        f"accuracy {sums.right / sums.images:6.2%}   {sums.images / sums.seconds:,.0f} images/s"
    )


def result(run) -> Table:
    last, best = run.rows[-1], max(run.rows, key=lambda row: row["test_accuracy"])
    seconds = sum(row["seconds"] for row in run.rows)
    table = Table(box=None, show_header=False, pad_edge=False)
    for what, value in {
        "epochs": f"{run.recipe.epochs}",
        "train accuracy": f"{last['train_accuracy']:.2%}",
        "test accuracy": f"{last['test_accuracy']:.2%}",
        "at its best": f"{best['test_accuracy']:.2%}, after epoch {best['epoch']}",
        "time": f"{seconds:.1f} s, {len(run.rows) * len(run.train) / seconds:,.0f} images/s",
        "parameters": f"{sum(p.size for p in run.model.parameters()):,}",
    }.items():
        table.add_row(what, value, style="bold" if what == "test accuracy" else "")
    return table


@app.command()
def evaluate(models: ModelFiles, weights: Weights = None, data: DataSet = Data.digits):
    """Test trained networks on the test images of a data set."""
    halves = datasets.load(data)
    for path in models:
        score(training.modelfile.load(path), weights, data, *halves)


def score(file, weights, data, learned_from, test):
    """Test one network, and say how it did."""
    found = weights or training.folder.newest(f"{file.name}-{data}")
    found = training.folder.weights_in(found, file.name)
    network = file.build()
    normalize = training.weights.load(network, found)
    training.inputs.check(network, file.input_shape, test)
    normalize = normalize or training.inputs.normalization(learned_from)
    images = training.inputs.for_testing(test, file.input_shape, normalize)
    scores = training.evaluate(network, images)
    console.print(f"{found}: {scores.right:,} of {len(test):,} test images of {data} are right")
    console.print(f"accuracy {scores.accuracy:.2%}, loss {scores.loss:.4f}")


@app.command()
def draw(
    model: ModelFile,
    out: Picture = Path("graph.svg"),
    color_by: ColorBy = None,
    change: Change = None,
):
    """Draw the graph of a network, or what a pass that optimizes it changes."""
    file = training.modelfile.load(model)
    drawn = training.folder.draw(file.build(), file.input_shape, out, color_by, change)
    console.print(drawn)


@app.command()
def plan(
    model: ModelFile,
    batch: Batch = 1,
    memory: ByPlanner = Memory.best,
    order: ByPolicy = Order.memory,
    out: Arena = None,
    compare: Compare = False,
    json: Json = None,
):
    """Plan how a network runs: when each step, and where in memory its result lies."""
    file = training.modelfile.load(model)
    graph = training.folder.graph_of(file.build(), file.input_shape, batch)
    made = planned(prepared(graph)[1], memory, order)
    print(made)
    if out:
        console.print(made.draw(out, compare=compare))
    if json:
        console.print(made.save(json))


SHOWN = {Backend.compiled: "source", Backend.planned: "plan", Backend.interpreted: "graph"}


@app.command()
def compile(
    model: ModelFile,
    batch: Batch = 1,
    train: Training = False,
    data: DataSet = Data.digits,
    backend: ByBackend = Backend.compiled,
    threads: Threads = 1,
    out: Source = None,
):
    """Compile a network, and show the function that was written; of other backends what they run."""
    file = training.modelfile.load(model)
    network, images = file.build(), zeros(batch, *file.input_shape)
    if train:
        recipe = file.recipe(data)
        step = training.step_of(network, recipe.make_optimizer(network), recipe)
        fast = compiled(step, backend, threads=threads, kernels="fast")
        fast(images, zeros(batch, dtype="int64"))
    else:
        fast = compiled(network.eval(), backend, threads=threads, kernels="fast")
        with no_grad():
            fast(images)
    text = str(getattr(fast, SHOWN[backend])).rstrip("\n")
    if out:
        write(out, f"{text}\n".encode())
        console.print(out)
    else:
        print(text)


@app.command()
def warmup(models: ModelFiles, batch: Batches = (1, 64), autotune: Autotune = False):
    """Compile what these networks need, so that their first call is as quick as the others."""
    for path in models:
        file = training.modelfile.load(path)
        for n in batch:
            start, x = perf_counter(), zeros(n, *file.input_shape)
            fast = compiled(file.build().eval(), kernels="fast", autotune=autotune)
            with no_grad(), console.status(f"{file.name}, batch {n}"):
                fast(x)
            took = f"{perf_counter() - start:.1f} s"
            console.print(f"{file.name}, batch {n}: {len(fast.plan.order.steps)} steps, {took}")


@app.command()
def summary(model: ModelFile):
    """List the layers of a network: shapes, parameters, and what they cost."""
    file = training.modelfile.load(model)
    print(file.build().summary((1, *file.input_shape)))


@app.command()
def reproduce(
    name: Annotated[Published, typer.Argument(metavar="NAME", help=f"{', '.join(Published)}.")],
    seeds: Seeds = None,
    models: Models = None,
    out: MadeIn = None,
):
    """Make a published table again. Runs that are finished in --out are not done again."""
    table = import_module(f".reproduce.{name}", __package__).table
    options = {"seeds": seeds, "models": models, "out": out}
    given = {k: v for k, v in options.items() if v is not None}
    if extra := given.keys() - signature(table).parameters:
        raise UsageError(f"the table {name} takes no --{min(extra)}")
    console.print(table(**given))


@bench.command()
def machine():
    """Measure how fast this machine computes and its memory delivers, and remember it.

    Let nothing else run meanwhile."""
    measured = machines.measured()
    console.print(f"{measured}\nremembered in {machines.remember(measured)}")
