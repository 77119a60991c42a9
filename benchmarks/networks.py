"""Whole networks, compiled, against onnxruntime, PyTorch and JAX; every rival in turns, in one run.

python benchmarks/networks.py [--threads 2] [--only lenet memory ...] [--json networks.json] [--profile]

Ours is what a user writes: `net = ti.compile(model)`, `net(x)`; and a step of training under
`@ti.compile`. onnxruntime's input and output are bound once. Before they are timed all have to
give the same, to rounding. What counts for a process (memory, the time to compile, an epoch from the
command line) is measured in processes of its own: benchmarks/alone.py.
"""

import json
import os
import time
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from statistics import median

import alone
from compare import OURS, arguments, medians, use_threads
from kernels import close, torch_or_none
from peers import batch, build, jax_step, onnx_of, our_step, torch_of, torch_step, with_threads


@dataclass
class Result:
    """Ours beside those of peers; `bars`: {peer: the most that ours may be, as a share of its}."""

    row: str
    case: str
    ours: float
    peers: dict[str, float]
    bars: dict[str, float] = field(default_factory=dict)
    unit: str = "s"

    @property
    def ratios(self):
        return {name: self.ours / value for name, value in self.peers.items()}

    def json(self):
        met = {name: self.ratios[name] <= most for name, most in self.bars.items()}
        return vars(self) | {"ratios": self.ratios, "met": met}


def main():
    options = arguments(__doc__.partition("\n")[0], rounds=25, more=more)
    if options.json:
        open(options.json, "a").close()  # before anything is measured
    use_threads(options.threads)
    with_threads(options.threads)
    import tinyinfer as ti

    ti.set_num_threads(options.threads)
    found, load = [], os.getloadavg()[0]
    print(f"Before it began {load:.1f} of {os.cpu_count()} cores were in use.")
    for row in options.only or ROWS:
        found += told(row, list(ROWS[row](row, options)), options.threads)
        if options.json:
            with open(options.json, "w") as file:
                results = [r.json() for r in found]
                about = {"threads": options.threads, "cpu": options.cpu, "load before": load}
                json.dump(about | {"results": results}, file, indent=1)


def more(parser):
    parser.add_argument("--only", nargs="+", choices=ROWS)
    parser.add_argument("--json", help="a file")
    parser.add_argument("--cpu", action="store_true", help="of one thread: time of CPU")
    parser.add_argument("--profile", action="store_true", help="print the time of each step")


def told(row, results, threads):
    """Print them, a line for each peer. Returns the results."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "case", "ours", "peer", "its", "ours / its", "bar", "",
        title=f"{row}, {threads} thread{'s' * (threads > 1)}",
    )  # fmt: skip
    for column in (table.columns[i] for i in (1, 3, 4, 5)):
        column.justify = "right"
    for r in results:
        if not r.peers:
            table.add_row(r.case, shown(r.ours, r.unit))
        for name, value in r.peers.items():
            ratio, most = r.ratios[name], r.bars.get(name)
            bar = (f"{most:.2f}", "met" if ratio <= most else "not met") if most else ("", "")
            values = shown(r.ours, r.unit), name, shown(value, r.unit)
            table.add_row(r.case, *values, f"{ratio:.3f}", *bar)
    if results:
        Console(width=130).print(table)
    return results


def shown(value, unit):
    if unit != "s":
        return f"{value:.2f} {unit}"
    scale, name = next((s, u) for s, u in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")) if value >= s / 2)
    return f"{value / scale:.2f} {name}"


# ---- in this process -------------------------------------------------------------------------------


def inference(row, options, name, images):
    """`images`: {how many: {threads: bar}}."""
    import tinyinfer as ti

    model = build(name)
    with ti.no_grad():
        model.train()(ti.tensor(batch(name, 64)[0]))  # what it normalizes by
        model.eval()
        for n, bars in images.items():
            x, _ = batch(name, n)
            peer, wanted = onnx_of(model, x, options.threads)
            net = ti.compile(model)
            run = partial(net, ti.tensor(x))
            close(run().numpy(), wanted)
            bar = {"onnxruntime": bars.get(options.threads)}
            yield measured(row, f"batch {n}", run, {"onnxruntime": peer}, bar, options)


def training(row, options, name, bars):
    """`bars`: {peer: bar}."""
    import tinyinfer as ti

    model = build(name)
    values = [p.numpy().copy() for p in model.parameters()]
    given = batch(name, 64)
    run, peers = partial(our_step(model), *map(ti.tensor, given)), {}
    if torch_or_none(options.threads):
        peers["PyTorch"] = torch_step(torch_of(name, values), *given)
    if "JAX" in bars and installed("jax"):
        peers["JAX"] = jax_step(values, *given)
    for _ in range(20):  # as it learns
        loss = run().item()
        for peer in peers.values():
            close(loss, peer().item(), 1e-4)
    yield measured(row, "batch 64", run, peers, bars, options)


def installed(name):
    return find_spec(name) is not None


def measured(row, case, run, peers, bars, options):
    clock = time.process_time if options.cpu else time.perf_counter
    found = medians({OURS: run, **peers}, options.rounds, clock, least=1e-2)
    if options.profile:
        print(run.func.profile(*run.args))
    bars = {name: most for name, most in bars.items() if name in peers and most}
    return Result(row, case, found.pop(OURS), found, bars)


# ---- in processes of their own ---------------------------------------------------------------------


def memory(row, options):
    """What training LeNet-5 makes resident, at most, where the library is at work already and the batch
    is there: the first time, with all code; and a second time, after the first was given up. Weights are
    all that is kept from step to step: momentum too."""
    ours = alone.found("memory_of_ours")
    planned = ours["arena"] + ours["weights"]
    peers = [{"arena + weights": planned}, {"arena + weights": planned}]
    if installed("torch"):
        for peer, grown in zip(peers, alone.found("memory_of_torch")["grown"]):
            peer["PyTorch"] = grown
    bars = {"PyTorch": 1.0}, {"arena + weights": 1.05, "PyTorch": 1.0}
    for case, grown, peer, bar in zip(("first", "again"), ours["grown"], peers, bars):
        sizes = {name: size / 2**20 for name, size in peer.items()}
        yield Result(row, case, grown / 2**20, sizes, bar, "MiB")


def compile_time(row, options, bars):
    """`bars`: {kind: seconds with an empty cache, and in the next process}."""
    for kind, allowed in bars.items():
        first, *later = alone.compile_times(kind, again=5)
        for when, runs, most in zip(("empty cache", "next process"), ([first], later), allowed):
            seconds = median(r["first"] for r in runs)
            yield Result(row, f"{kind}, {when}", seconds, {"allowed": most}, {"allowed": 1.0})
        imports = median(r["import"] for r in later)
        yield Result(row, "import of the library, before", imports, {})


CLOCKS = {"command": "command", "CPU": "command, time of CPU", "epoch": "epoch and test alone"}


def epoch(row, options, turns=2):
    """The whole command, and the loop with its test alone; the best of some turns. Where others use the
    cores, one thread is faster than two."""
    if not os.environ.get("TINYINFER_DATA"):
        return print(f"{row}: skipped: TINYINFER_DATA does not say where the images are")
    rivals = {OURS: partial(alone.epoch_of_ours, options.threads)}
    if installed("torch"):
        rivals["PyTorch"] = partial(alone.epoch_of_torch, options.threads)
        if options.threads > 1:
            rivals["PyTorch, 1 thread"] = partial(alone.epoch_of_torch, 1)
    runs = {name: [] for name in rivals}
    for _ in range(turns):
        for name, run in rivals.items():
            runs[name].append(run())
    for name, found in runs.items():
        read = ", ".join(f"{r['accuracy']:.2%}" for r in found)
        print(f"{row}, {name}: after it {read} of the test images are read correctly")
    for what, case in CLOCKS.items():
        best = {name: min(r[what] for r in found) for name, found in runs.items()}
        ours = best.pop(OURS)
        bars = dict.fromkeys(best, 1 / 6) if (what, options.threads) == ("command", 2) else {}
        yield Result(row, case, ours, best, bars)


BOTH = lambda bar: {1: bar, 2: bar}  # threads

# fmt: off
ROWS = {  # in the order of the time that they take
    "lenet":          partial(inference, name="lenet", images={1: {1: 0.45}, 64: BOTH(0.4)}),
    "mlp":            partial(inference, name="mlp", images={1: BOTH(0.8), 64: BOTH(0.8)}),
    "resnet":         partial(inference, name="resnet", images={8: BOTH(1.0)}),
    "lenet_training": partial(training, name="lenet", bars={"PyTorch": 0.15, "JAX": 0.12}),
    "caffe_training": partial(training, name="lenet_caffe", bars={"PyTorch": 0.3}),
    "conv_training":  partial(training, name="conv", bars={"PyTorch": 0.3}),
    "mlp_training":   partial(training, name="mlp", bars={"PyTorch": 0.5}),
    "memory":         memory,
    "compile_time":   partial(compile_time, bars={"inference": (5.0, 0.6), "training": (12.0, 0.6)}),
    "epoch":          epoch,
}
# fmt: on


if __name__ == "__main__":
    main()
